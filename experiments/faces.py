"""Face networks, transformed: Table 2.

Paper: Guo et al., 2021, "Towards Accurate and Compact Architectures via Neural
Architecture Transformer", section 5.2.1. LResNet34E-IR and MobileFaceNet, each:
the original, and what NAT and NAT++ make of it. All learn identities by ArcFace
("the same settings as that in" Deng et al., 2019), alike, and are judged by
pairs of faces that they have not seen: LFW, CFP-FP and AgeDB-30, ten folds.
Chosen here, where the paper does not say: the supernet minimizes ArcFace's
loss, too, and the policy's reward is the accuracy of classifying identities by
the largest cosine.

Commands, with FACES a folder with train.rec (such as CASIA-WebFace, cut to 112
pixels) and lfw.bin, cfp_fp.bin and agedb_30.bin, as they are given out
together:
  python experiments/faces.py --preset smoke --out runs/smoke
  python experiments/faces.py --preset paper --dry-run --out runs/faces
  python experiments/faces.py --preset paper --data-dir FACES --out runs/faces
`smoke` has made images of a few identities, a block of LResNet34E-IR, and tells
nothing of faces; it takes a minute or two of 2 CPU cores, most of which is
compilation. How long `paper` takes is what `--dry-run` estimates; it needs 19
GB of host memory for CASIA-WebFace, or `--stream`, by which images stay in
train.rec and are decoded as they are needed.
Expected, preset `paper` (Table 2, LFW / CFP-FP / AgeDB-30, %): LResNet34E-IR
99.72 / 96.39 / 98.03, NAT++ 99.83 / 96.72 / 98.35; not run here. Deng et al.
divide the rate by 10 at 20 and 28 of 32 thousand updates, where this has a
cosine of as many.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import functools
import io
import pathlib
import pickle
from typing import Any

import dry_runs
import numpy as np
from PIL import Image
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline, zoo
from natjax.costs import exact as cost_lib
from natjax.drawing import files as files_lib
from natjax.graph import blocks, codec, records
from natjax.methods import nat, supervised
from natjax.objectives import arcface as arcface_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import presets

# Table 2, in %: on LFW, CFP-FP and AgeDB-30.
PUBLISHED = {
    "lresnet34e-ir": {"original": (99.72, 96.39, 98.03),
                      "nat": (99.79, 96.66, 98.28),
                      "natpp": (99.83, 96.72, 98.35)},
    "mobilefacenet": {"original": (99.50, 92.23, 95.63),
                      "nat": (99.76, 92.50, 96.36),
                      "natpp": (99.76, 92.50, 96.36)}}
PAIRS = ("lfw", "cfp_fp", "agedb_30")
KINDS = ("original", "nat", "natpp")
_MADE = "made"  # The name of made images, and of their pairs.


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    networks: of `PUBLISHED`.
    width: factor of the networks' widths.
    blocks: of every network the numbers of the blocks to keep; none keeps all.
    image_size: side to which images are brought.
    identities: how many are made; of a set from disk, what --dry-run expects.
    images: likewise, of all identities together.
    made: whether images are made.
    test_fraction: of every identity's images, to tell how it is classified.
    search: of NAT and of NAT++.
    train: of every network.
    arcface: of the objective.
    seed: of everything random.
  """

  networks: tuple[str, ...]
  width: float
  blocks: tuple[int, ...]
  image_size: int
  identities: int
  images: int
  made: bool
  test_fraction: float
  search: nat.NATConfig
  train: supervised.TrainConfig
  arcface: arcface_lib.ArcFaceConfig
  seed: int = 0


_PAPER = presets.get("paper", zoo.get("mobilefacenet"), "nat", "arcface")
PRESETS = {
    "smoke": Config(
        networks=("lresnet34e-ir",), width=0.125, blocks=(0,), image_size=16,
        identities=8, images=128, made=True, test_fraction=0.25,
        search=nat.NATConfig(
            epochs=2, warmup_epochs=1, batch_size=16, samples=2, candidates=3,
            weights_fraction=0.5, prefer="accuracy", held_out=0.0),
        train=dataclasses.replace(
            _PAPER.train, epochs=2, batch_size=16, max_grad_norm=5.0),
        arcface=arcface_lib.ArcFaceConfig()),
    "paper": Config(
        networks=tuple(PUBLISHED), width=1.0, blocks=(),
        image_size=_PAPER.image_size, identities=10572, images=490623,
        made=False, test_fraction=0.02, search=_PAPER.search,
        train=_PAPER.train, arcface=_PAPER.arcface),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--networks", nargs="+", choices=tuple(PUBLISHED),
                      help="default: the preset's")
  parser.add_argument("--stream", action="store_true", default=None,
                      help="leave images on disk (default: where they would"
                      " take more than half of the memory)")
  dry_runs.add_flags(parser)
  parser.set_defaults(preset="smoke")
  return parser.parse_args(argv)


def build(name: str, config: Config) -> records.BlockNetwork:
  """The network, narrowed and cut as the settings say."""
  network = blocks.scale(zoo.get(name), config.width)
  if config.blocks:
    network = network._replace(
        blocks=tuple(network.blocks[i] for i in config.blocks))
  return blocks.check(network)


def people(identities: int, images: int, size: int,
           seed: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
  """Makes images that stand for people: each a blurred pattern of its own.

  Returns:
    u8[N, S, S, 3], moved, lit and noisy, and identities i64[N], N being
    `images` // `identities` * `identities`.
  """
  rng = np.random.default_rng(seed)
  labels = np.arange(identities).repeat(images // identities)
  made, room = [], size + size // 4
  for _ in range(identities):
    pattern = Image.fromarray(rng.integers(0, 256, (5, 5, 3), np.uint8))
    made.append(np.asarray(pattern.resize((room, room)), np.float64))
  found = np.empty((len(labels), size, size, 3), np.uint8)
  for i, label in enumerate(labels):
    row, column = rng.integers(0, room - size + 1, 2)
    face = made[label][row:row + size, column:column + size]
    light, noise = rng.uniform(0.8, 1.2), rng.normal(0, 8, face.shape)
    found[i] = np.clip(light * face + noise, 0, 255)
  return found, labels


def make(config: Config, out: pathlib.Path
         ) -> tuple[data_lib.Dataset, list[pathlib.Path]]:
  """Made images of identities, and a file with pairs of other ones."""
  images, labels = people(config.identities, config.images, config.image_size,
                          (config.seed, 1))
  held = np.arange(len(labels)) % round(1 / config.test_fraction) == 0
  dataset = data_lib.make_dataset(
      _MADE, (images[~held], labels[~held]), (images[held], labels[held]),
      image_size=config.image_size)
  others, whose = people(config.identities, config.images, config.image_size,
                         (config.seed, 2))
  rng, chosen = np.random.default_rng((config.seed, 3)), []
  same = [bool(i % 2) for i in range(60)]
  for alike in same:
    one = rng.integers(len(whose))
    able = (whose == whose[one]) == alike
    able[one] = False
    chosen += [one, rng.choice(np.flatnonzero(able))]
  path = out / f"{_MADE}.bin"
  files_lib.write(path, pickle.dumps((
      [_png(others[i]) for i in chosen], same)))
  return dataset, [path]


def _png(image: np.ndarray) -> bytes:
  file = io.BytesIO()
  Image.fromarray(image).save(file, "PNG")
  return file.getvalue()


def load(config: Config, data_dir: str | None, stream: bool | None
         ) -> tuple[data_lib.Dataset, list[pathlib.Path]]:
  """The training images of a folder with train.rec, and its files of pairs."""
  if data_dir is None:
    raise errors.InputError("--data-dir names no folder; give that of train.rec"
                            f" and {', '.join(f'{n}.bin' for n in PAIRS)}")
  folder = pathlib.Path(data_dir)
  files = [folder / f"{name}.bin" for name in PAIRS]
  if missing := [file.name for file in files if not file.is_file()]:
    raise errors.InputError(f"{folder} lacks {', '.join(missing)}; put the"
                            " pairs beside the images")
  return data_lib.load(
      folder.resolve(), image_size=config.image_size, stream=stream,
      test_fraction=config.test_fraction), files


def compare(name: str, dataset: data_lib.Dataset, files: Sequence[pathlib.Path],
            config: Config, out: pathlib.Path) -> dict[str, Any]:
  """Transforms a network by both methods; returns a row per kind.

  Costs are those of the network that embeds, as the table has them, without the
  vectors of the identities.
  """
  settings = transforming.Settings(
      config.search, config.train, config.seed, arcface=config.arcface)
  found = transforming.both(name, build(name, config), dataset, settings, out)
  for kind, row in found.items():
    folder = out / ("nat" if kind == "original" else kind)
    # What came out unchanged was trained once.
    names = networks_lib.networks(folder)
    of = [n for n in names if ("transformed" in n) == (kind != "original")]
    judged = [natjax.verify(folder, file, network=n)[n]
              for file in files for n in of or names]
    each = len(judged) // len(files)
    row["pairs"] = {file.stem: {
        key: [float(getattr(v, key)) for v in judged[i * each:(i + 1) * each]]
        for key in ("accuracy", "tar")} for i, file in enumerate(files)}
    cost = cost_lib.network(codec.from_dict(row["architecture"]),
                            blocks.Frame(0, config.image_size))
    row |= {"params": cost.params, "madds": cost.madds}
  return found


def dry_run(config: Config, teraflops: float) -> None:
  """Prints what the experiment would take."""
  test = round(config.images * config.test_fraction)
  images, pairs = (data_lib.Absent(_MADE, count, config.image_size)
                   for count in (config.images - test, test))
  dataset = data_lib.make_dataset(
      "identities", (images, np.arange(len(images)) % config.identities),
      (pairs, np.arange(test) % config.identities), mean=(0.5,) * 3,
      std=(0.5,) * 3, image_size=config.image_size)
  estimates = dry_runs.Estimates(teraflops)
  for name in config.networks:
    estimates.both(name, build(name, config), dataset, transforming.Settings(
        config.search, config.train, config.seed, arcface=config.arcface))
  host = 3 * config.images * config.image_size**2 / 2**30
  estimates.show(f"of {config.images} images of {config.identities}"
                 f" identities, which take {host:.2f} GiB of the host's memory"
                 " where they do not stay on disk")


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  names = list(next(iter(result["networks"].values()))["original"]["pairs"])
  rows = [[
      name if kind == "original" else "", transforming.KINDS[kind],
      f"{row['params'] / 1e6:.3f}", f"{row['madds'] / 1e6:.2f}",
      *(recording.spread(row["pairs"][file]["accuracy"], 2, 100)
        for file in names), recording.spread(row["accuracies"], 2, 100),
      row.get("changes", ""), " / ".join(
          f"{x:.2f}" for x in PUBLISHED[name][kind])]
          for name, found in result["networks"].items()
          for kind, row in found.items()]
  made = [] if not config.made else [
      "The images are made: this tells that everything works, and nothing of"
      " faces.", ""]
  return "\n".join([
      "# Face networks, transformed", "", *made, *recording.table((
          "network", "", "parameters, M", "multiply-adds, M",
          *(f"{file}, %" for file in names), "identities, %", "edges changed",
          "the paper's LFW / CFP-FP / AgeDB-30, %"), rows), "",
      "Costs are those of the network that embeds; of pairs, the accuracy over"
      " ten folds, and of identities that of classifying test images of theirs,"
      f" means ± deviations over {config.train.seeds} seed(s).", "",
      f"Trained: {config.train.epochs} epochs, {config.image_size} pixels,"
      f" batches of {config.train.batch_size}, scale {config.arcface.scale:g},"
      f" margin {config.arcface.margin:g}. Searched: {config.search.epochs}"
      f" epochs, {config.search.candidates} candidates.", "",
      *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = PRESETS[args.preset]
  config = dataclasses.replace(
      config, seed=args.seed, networks=tuple(args.networks or config.networks))
  if args.stream and config.made:
    raise errors.InputError("stream leaves images on disk, and those of preset"
                            f" {args.preset} are made; leave it out", "stream")
  if dry_runs.asked(args):
    dry_run(config, args.teraflops)
    return
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, search, train, verify.
  data = functools.cache(lambda: make(config, sweep.out) if config.made else (
      load(config, args.data_dir, args.stream)))
  if not args.executor:  # Else the jobs alone hold images.
    data()
  found = sweep.run([
      sweeps.Part(name, lambda name=name: compare(
          name, *data(), config, sweep.out / name))
      for name in config.networks])

  # Report.
  result = {"networks": found, "config": dataclasses.asdict(config),
            **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
