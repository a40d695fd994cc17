"""Backbones for segmentation: Table 5 of EnTranNAS, on Pascal VOC 2012.

Paper: Yang et al., 2021, "Towards Improving the Consistency, Efficiency, and
Flexibility of Differentiable Neural Architecture Search", Table 5: different
networks, trained on ImageNet, as the backbone of the same DeepLabV3 head, 513
pixels, output stride 16, single scale. What the paper does not say is
DeepLabV3's (Chen et al., 2017): "trainaug" (VOC's training images and SBD's),
46 epochs, which are 30 thousand steps of 16.

Its cells of EnTranNAS-DST are published as pictures only; those that one finds
(experiments/entrannas.py) and trains on ImageNet are named by their run.

Its second training, with BN frozen, is left out: that is at an output stride of
8, on VOC's trainval, and for the benchmark's test images.

Commands, with DATA a folder that holds VOCdevkit/VOC2012, SBD one that holds
SBD's cls, train.txt and val.txt (or without --sbd its masks as PNG files in
SegmentationClassAug and the list trainaug), R50 a file of torchvision's
ResNet50, RUN the folder of a network that natjax trained on ImageNet:
  python experiments/segmentation.py --preset smoke --out runs/smoke
  python experiments/segmentation.py --preset paper --dry-run --out runs/voc
  python experiments/segmentation.py --preset paper --data-dir DATA \
      --sbd SBD --backbones resnet50 RUN --weights resnet50=R50 --out runs/voc
Hardware and time: `smoke` took three minutes on 2 busy CPU cores, nearly all of
it compilation. How long `paper` takes is what `--dry-run` estimates.
Expected, preset `paper`: `PAPER` below; not run here.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any, NamedTuple

import dry_runs
import jax
import jax.numpy as jnp
import recording
import sweeps
import transforming

import natjax
from natjax import errors, pipeline, zoo
from natjax.costs import exact
from natjax.data import voc
from natjax.graph import blocks, codec, records
from natjax.methods import segmentation, supervised
from natjax.networks import backbone as backbone_lib
from natjax.networks import deeplab
from natjax.networks import network as network_lib
from natjax.objectives import segmentation as objectives
from natjax.pipeline import networks
from natjax.training import devices, fit

# Table 5: mIoU in %.
PAPER = {"resnet50": 76.5, "nasnet": 75.4, "darts": 75.1,
         "EnTranNAS-DST, λ 0.2": 76.3, "EnTranNAS-DST, λ 0.1": 76.8,
         "EnTranNAS-DST, λ 0.05": 77.1}
_SBD = "SBD's own files"
# Of ImageNet, by which torchvision's networks see images.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    backbones: names of the zoo, or folders of runs with trained networks.
    weights: by the names, files of trained weights, or such folders.
    width: factor of the widths of networks of blocks.
    blocks: numbers of their blocks to keep; none keeps all.
    cells: (channels, cells) around genotypes.
    made: whether pictures of stripes are made instead of read.
    split: that is trained on.
    masks: the folder of its masks; `_SBD` are VOC's own and those of SBD.
    pictures: of the split; what --dry-run expects.
    num_classes: K.
    size: side of the square in which is judged.
    output_stride: of the backbone.
    train: of the training.
    seed: of everything random.
  """

  backbones: tuple[str, ...]
  width: float
  blocks: tuple[int, ...]
  cells: tuple[int, int]
  made: bool
  split: str
  masks: str
  pictures: int
  num_classes: int
  size: int
  train: segmentation.SegmentationConfig
  output_stride: int = 16
  weights: Mapping[str, str] = dataclasses.field(default_factory=dict)
  seed: int = 0


PRESETS = {
    "smoke": Config(
        backbones=("resnet18", "darts"), width=0.125, blocks=(0, 2, 4, 6),
        cells=(4, 3), made=True, split="train", masks="SegmentationClass",
        pictures=24, num_classes=3, size=65,
        train=segmentation.SegmentationConfig(
            epochs=8, batch_size=6, learning_rate=0.1, crop=65,
            least_scale=0.9, greatest_scale=1.1, width=8, dropout=0.0)),
    "paper": Config(
        backbones=("resnet50", "nasnet", "darts"), width=1.0, blocks=(),
        cells=(48, 14), made=False, split="trainaug",
        masks="SegmentationClassAug", pictures=10582, num_classes=21, size=513,
        train=segmentation.SegmentationConfig()),
}


class Built(NamedTuple):
  """A backbone, ready to be trained on.

  Attributes:
    module: the linen module.
    weights: its variables; None draws them.
    mean: of the pixels that it was trained with.
    std: likewise.
  """

  module: backbone_lib.Backbone
  weights: Any
  mean: tuple[float, ...]
  std: tuple[float, ...]

  @property
  def network(self) -> records.BlockNetwork:
    """The architecture, written out."""
    return self.module.graph


def build(name: str, config: Config) -> Built:
  """The backbone of a name."""
  source = config.weights.get(name, name)
  if pathlib.Path(source).is_dir() and not (
      zoo.known(name) and source == name):
    found = natjax.backbone(source, config.output_stride)
    own = found.preparation
    return Built(found.module, found.variables, own.mean, own.std)
  if name in zoo.genotype_names():
    if name in config.weights:
      raise errors.InputError(
          f"weights {source} of cells must be the folder of a run, which says"
          " in which skeleton they stand; name it", "weights")
    architecture: Any = zoo.get(name)
    place: Any = records.Skeleton("imagenet", *config.cells, 1000, 224)
  else:
    architecture = blocks.scale(zoo.get(name, "imagenet"), config.width)
    if config.blocks:
      architecture = blocks.check(architecture._replace(
          blocks=tuple(architecture.blocks[i] for i in config.blocks)))
    place = records.Frame(1000, 224)
  module = backbone_lib.module(
      network_lib.module(architecture, place), config.output_stride)
  weights = None
  if name in config.weights:
    weights = natjax.load_weights(source, codec.check(architecture))
  return Built(module, weights, MEAN, STD)


def label(name: str) -> str:
  """What a backbone is called: its name, or that of its run's folder."""
  return pathlib.Path(name).name


def cost(built: Built, config: Config, size: int) -> exact.Cost:
  """Parameters and multiply-adds of backbone and head, at a side."""
  stride = config.output_stride
  features = size
  while stride > 1:  # Rounded up at every stride.
    features, stride = -(-features // 2), stride // 2
  return exact.backbone(
      built.network, built.module.frame._replace(image_size=size),
      config.output_stride) + deeplab.cost(
          built.module.width, features, config.num_classes, config.train.width)


def make(built: Built, config: Config,
         steps: int) -> segmentation.Segmentation:
  """What trains it."""
  return segmentation.Segmentation(
      config.train, built.module, num_classes=config.num_classes,
      mean=built.mean, std=built.std, weights=built.weights,
      steps_per_epoch=steps)


def run(name: str, built: Built, config: Config, train: voc.Pictures,
        test: voc.Pictures, out: pathlib.Path) -> dict[str, Any]:
  """Trains and judges; returns the row."""
  segment = make(built, config, len(train) // config.train.batch_size)

  def judge():
    listener = transforming.listener(name)
    state = fit.fit(
        segment.method(), {"train": segment.split(train)},
        batch_size=config.train.batch_size,
        preparation=segmentation.as_they_are, options=fit.Options(
            **vars(listener), seed=config.seed, devices=devices.choose(),
            checkpoint_dir=out / "checkpoint",
            metrics_path=out / "metrics.jsonl", run=name))
    variables = supervised.variables(state)
    networks.save_weights(out / "weights.npz", variables)
    found = segment.evaluate(variables, test, config.size)
    return found._asdict()

  out.mkdir(parents=True, exist_ok=True)
  total = cost(built, config, config.size)
  return {"params": total.params, "madds": total.madds,
          "trained": built.weights is not None,
          **recording.once(out / "scores.json", judge)}


def estimate(built: Built, config: Config,
             teraflops: float) -> dict[str, float]:
  """Steps, bytes on a device and hours of a training.

  The bytes are those of parameters, gradient and momentum, and of what the
  backward pass reads again of the forward pass, over one device; the hours
  count three times the multiply-adds of the network, two operations each.
  """
  train = config.train
  steps = train.epochs * (config.pictures // train.batch_size)
  segment = make(built._replace(weights=None), config, 1)
  shape = (train.batch_size, train.crop, train.crop, 3)
  variables = jax.eval_shape(segment.module.init, jax.random.key(0),
                             jax.ShapeDtypeStruct((2, 65, 65, 3), jnp.float32))

  def backward(variables, images):
    def loss(params):
      logits, _ = segment.module.apply(
          {**variables, "params": params}, images, train=True,
          mutable=["batch_stats"], rngs={"dropout": jax.random.key(0)})
      labels = jnp.zeros(logits.shape[:3], jnp.int32)
      return objectives.cross_entropy(logits, labels)

    return jax.vjp(loss, variables["params"])[1]

  kept = jax.eval_shape(backward, variables, jax.ShapeDtypeStruct(
      shape, jnp.dtype(train.dtype)))
  count = lambda tree: sum(x.size * x.dtype.itemsize
                           for x in jax.tree.leaves(tree))
  madds = cost(built, config, train.crop).madds
  return {"steps": steps, "bytes": count(kept) + 2 * count(variables["params"]),
          "hours": 6 * madds * train.batch_size * steps / (
              teraflops * 1e12 * 3600)}


def dry_run(config: Config, teraflops: float) -> None:
  """Prints what the experiment would take."""
  rows = []
  for name in config.backbones:
    built = build(name, config)
    total, found = cost(built, config, config.size), estimate(
        built, config, teraflops)
    rows.append([name, f"{total.params / 1e6:.2f}", f"{total.madds / 1e9:.2f}",
                 f"{found['steps']}", f"{found['bytes'] / 2**30:.1f}",
                 f"{found['hours']:.3g}"])
  transforming.say("\n".join([
      *recording.table(
          ("backbone", "parameters, M", "multiply-adds, G", "steps",
           "memory of one device, GiB", "hours"), rows),
      f"of {config.pictures} pictures; hours at {teraflops:g} * 10^12"
      " operations a second, a multiply-add counted as two; several devices"
      " divide memory and hours"]))


def readme(config: Config, result: Mapping[str, Any]) -> str:
  """The record in words."""
  rows = [[name, f"{row['params'] / 1e6:.3f}", f"{row['madds'] / 1e9:.3f}",
           "given" if row["trained"] else "drawn", f"{100 * row['miou']:.2f}",
           f"{100 * row['accuracy']:.2f}", ", ".join(map(str, row["absent"])),
           PAPER.get(name, "")] for name, row in result["backbones"].items()]
  made = [] if not config.made else [
      "The pictures are made: this tells that everything works, and nothing of"
      " Pascal VOC.", ""]
  return "\n".join([
      "# Backbones with DeepLabV3's head (Table 5)", "", *made,
      *recording.table((
          "backbone", "parameters, M", "multiply-adds, G", "its weights",
          "mIoU, %", "pixels right, %", "classes absent", "the paper's mIoU"),
          rows), "",
      f"Costs are those of backbone and head at {config.size} pixels, output"
      f" stride {config.output_stride}; mIoU of {result['test']} pictures, in"
      " one scale, void left out, and classes that neither masks nor"
      " predictions have.", "",
      f"Trained: {config.train.epochs} epochs of {result['train']} pictures,"
      f" batches of {config.train.batch_size}, crops of {config.train.crop}"
      f" pixels, SGD from {config.train.learning_rate:g}, poly"
      f" {config.train.power:g}. The paper's other rows: " + ", ".join(
          f"{name} {miou}" for name, miou in PAPER.items()
          if name not in result["backbones"]) + ".", "",
      *recording.in_words(result)])


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--backbones", nargs="+", help="names of the zoo, or"
                      " folders of runs (default: the preset's)")
  parser.add_argument("--weights", nargs="+", default=(), metavar="NAME=PATH",
                      help="trained weights of backbones")
  parser.add_argument("--split", help="that is trained on")
  parser.add_argument("--masks", help="the folder of its masks")
  parser.add_argument("--sbd", help="SBD's folder, whose .mat files are masks"
                      " of what it adds to the training pictures")
  dry_runs.add_flags(parser)
  parser.set_defaults(preset="smoke")
  return parser.parse_args(argv)


def configure(args: argparse.Namespace) -> Config:
  """The preset, with what the arguments change of it."""
  config = PRESETS[args.preset]
  if args.sbd is not None:
    if PRESETS[args.preset].made or args.split or args.masks:
      raise errors.InputError(
          "sbd says which pictures are trained on and where their masks are,"
          " and pictures that are made, --split or --masks do, too; leave one"
          " of them out", "sbd")
    config = dataclasses.replace(config, split="trainaug", masks=_SBD)
  weights = dict(item.partition("=")[::2] for item in args.weights)
  config = dataclasses.replace(
      config, seed=args.seed, weights=weights,
      backbones=tuple(args.backbones or config.backbones),
      split=args.split or config.split, masks=args.masks or config.masks)
  if other := sorted(set(weights) - set(config.backbones)):
    raise errors.InputError(
        f"weights are given of {', '.join(other)}, no backbone that is asked"
        " for; name it with --backbones", "weights")
  for name in config.backbones:
    if not zoo.known(name) and not pathlib.Path(
        weights.get(name, name)).is_dir():
      raise errors.InputError(
          f"backbone {name} is neither in the zoo nor the folder of a run; name"
          " another", "backbones")
  labels = [*map(label, config.backbones)]
  for name in labels:
    if labels.count(name) > 1:
      raise errors.InputError(f"several backbones are called {name}, by which"
                              " they are told apart; rename a folder",
                              "backbones")
  return config


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = configure(args)
  if dry_runs.asked(args):
    dry_run(config, args.teraflops)
    return
  if not config.made and args.data_dir is None:
    raise errors.InputError("the folder of Pascal VOC is not given; name it"
                            " with --data-dir", "data_dir")
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, train, judge.
  folder = args.data_dir
  if config.made:
    folder = sweep.out / "pictures"
    recording.once(folder.with_suffix(".json"), lambda: voc.make(folder, {
        "train": [(64, 60), (56, 64)] * (config.pictures // 2),
        "val": [(64, 64)] * 6}, stripes=2, seed=config.seed).name)
  test = voc.load(folder, "val", num_classes=config.num_classes)
  train = voc.load(
      folder, config.split, masks=config.masks, num_classes=config.num_classes
  ) if args.sbd is None else voc.augmented(
      folder, args.sbd, num_classes=config.num_classes)
  found = sweep.run([
      sweeps.Part(label(name), lambda name=name: run(
          label(name), build(name, config), config, train, test,
          sweep.out / label(name)))
      for name in config.backbones])

  # Report.
  result = {"backbones": found, "train": len(train), "test": len(test),
            "config": dataclasses.asdict(config),
            **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
