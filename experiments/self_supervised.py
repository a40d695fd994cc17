"""Architectures adapted while they learn without labels: Table 4.

Paper: "Proxyless Neural Architecture Adaptation for Supervised Learning and
Self-Supervised Learning", section "Self-Supervised Learning". ResNet50 and
DARTS with 24 cells, widened to as many parameters (24.6 M without a classifier,
with the projection head), learn CIFAR-10's images by SimCLR: as they are, and
with theta. Judged by the weighted k nearest neighbours of the features (k 200,
temperature 0.5), as the paper does, and by a linear classifier. In `small`
ResNet50 is narrow and has half of its blocks, DARTS 3 cells.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/self_supervised.py --preset smoke --out runs/smoke
  python experiments/self_supervised.py --preset small --data-dir DATA \
      --out runs/self_supervised --report experiments/results/self_supervised
  python experiments/self_supervised.py --preset paper --data-dir DATA \
      --out runs/self_supervised_paper
Hardware and time: `smoke` a minute or two, `small` half an hour on 2 CPU cores,
`paper` one accelerator and days (500 epochs).
Expected, preset `paper` (Table 4, %): ResNet50 82.39, adapted 86.8 (three null
edges became skips); DARTS 88.56, adapted 89.04. One seed there; not run here.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import dry_runs
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import pipeline, zoo
from natjax.graph import blocks, codec
from natjax.methods import differentiable, supervised
from natjax.objectives import simclr
from natjax.pipeline import presets

# Table 4, in %: original, adapted.
PUBLISHED = {"resnet50": (82.39, 86.8), "darts": (88.56, 89.04)}


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path.
    networks: of `PUBLISHED`.
    width: factor of the widths of networks of blocks.
    blocks: numbers of the blocks to keep; none keeps all.
    cells: (channels, cells) around genotypes.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    search: of the transformation.
    train: of every network.
    simclr: of the objective.
    seed: of everything random.
  """

  dataset: str
  networks: tuple[str, ...]
  width: float
  blocks: tuple[int, ...]
  cells: tuple[int, int]
  image_size: int
  train_images: int
  search: differentiable.DifferentiableConfig
  train: supervised.TrainConfig
  simclr: simclr.SimCLRConfig
  seed: int = 0


_PAPER = presets.get("paper", zoo.get("darts"), "differentiable", "simclr")
_SMALL = dataclasses.replace(
    _PAPER.train, epochs=6, batch_size=128, seeds=3)
PRESETS = {
    "smoke": Config(
        dataset="digits", networks=("resnet50",), width=0.125, blocks=(0, 3),
        cells=(2, 2), image_size=8, train_images=128,
        search=differentiable.DifferentiableConfig(architecture_epochs=1),
        train=dataclasses.replace(
            _PAPER.train, epochs=2, batch_size=32, seeds=1),
        simclr=dataclasses.replace(_PAPER.simclr, neighbours=20)),
    "small": Config(
        dataset="cifar10", networks=("resnet50", "darts"), width=0.125,
        blocks=(0, 1, 3, 4, 7, 8, 13, 14), cells=(8, 3), image_size=16,
        train_images=4000,
        search=differentiable.DifferentiableConfig(
            architecture_epochs=3, theta_learning_rate=1e-2),
        train=_SMALL, simclr=_PAPER.simclr),
    "paper": Config(
        dataset="cifar10", networks=("resnet50", "darts"), width=1.0,
        blocks=(), cells=(_PAPER.train.init_channels, _PAPER.train.cells),
        image_size=32, train_images=0, search=_PAPER.search,
        train=dataclasses.replace(_PAPER.train, seeds=1),
        simclr=_PAPER.simclr),
}


def build(
    name: str, config: Config
) -> tuple[codec.Architecture, supervised.TrainConfig]:
  """The network, as large as the settings say, and how it is trained."""
  architecture = zoo.get(name)
  if architecture.kind != "blocks":
    return architecture, dataclasses.replace(
        config.train, init_channels=config.cells[0], cells=config.cells[1])
  architecture = blocks.scale(architecture, config.width)
  if config.blocks:
    architecture = architecture._replace(
        blocks=tuple(architecture.blocks[i] for i in config.blocks))
  return blocks.check(architecture), dataclasses.replace(
      config.train, **supervised.OF_CELLS)


def job_of(name: str, dataset: data_lib.Dataset, config: Config,
           devices: int | None = None) -> pipeline.Job:
  """What trains a network as it is and with theta."""
  architecture, train = build(name, config)
  return pipeline.Job(
      architecture, dataset, "differentiable", config.search, train,
      seed=config.seed, simclr=config.simclr, devices=devices)


def dry_run(config: Config, args: argparse.Namespace) -> None:
  """Prints what the experiment would take."""
  estimates = dry_runs.Estimates(args.teraflops)
  dataset = dry_runs.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images)
  for name in config.networks:
    found = estimates.search(
        f"{name}: with theta", job_of(name, dataset, config, devices=1))
    estimates.add(f"{name}: as it is", found["train"])
  estimates.show()


def compare(
    name: str, dataset: data_lib.Dataset, config: Config, out: pathlib.Path
) -> dict[str, Any]:
  """Trains a network as it is and with theta; returns both rows."""
  result = job_of(name, dataset, config).run(
      out, listener=transforming.listener(name))
  return {kind: result[kind] for kind in ("original", "transformed")} | {
      "seeds": result["seeds"], "changes": result["changes"],
      "seconds": result["seconds"]}


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  rows, changes = [], []
  for name, found in result["networks"].items():
    for kind, published in zip(("original", "transformed"), PUBLISHED[name],
                               strict=True):
      row = found[kind]
      rows.append([
          name, {"transformed": "with theta"}.get(kind, kind),
          f"{row['params'] / 1e3:.1f}", f"{row['madds'] / 1e6:.2f}",
          recording.spread(row["accuracies"], 2, 100),
          recording.spread(row["linear_accuracies"], 2, 100),
          ", ".join(str(s["num_changes"]) for s in found["seeds"])
          if kind == "transformed" else "", published])
    changes += [f"- {name}, {c['cell']}: {c['source']} -> {c['target']},"
                f" {c['before']} became {c['after']}"
                for c in found["changes"]]
  return "\n".join([
      "# Self-supervised: SimCLR with and without theta", "",
      *recording.table((
          "network", "", "parameters, K", "multiply-adds, M",
          "nearest neighbours, %", "linear, %", "edges changed, by seed",
          "the paper's, %"), rows), "",
      "Costs are those of the network without its classifier; accuracies are"
      f" means ± deviations over {config.train.seeds} seed(s). The paper's are"
      " of networks of 24.6 M parameters after 500 epochs.", "",
      "Edges that changed in the first seed:", "",
      *(changes or ["- none"]), "",
      f"Trained: {config.train.epochs} epochs, {config.image_size} pixels,"
      f" {config.train_images or 'all'} images of {config.dataset}, batches of"
      f" {config.train.batch_size}; theta for"
      f" {config.search.architecture_epochs}"
      f" epochs at a rate of {config.search.theta_learning_rate:g}.", "",
      *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  parser.add_argument("--networks", nargs="+", choices=tuple(PUBLISHED),
                      help="default: the preset's")
  dry_runs.add_flags(parser)
  args = parser.parse_args(argv)
  natjax.configure_compilation()

  # Config.
  config = PRESETS[args.preset]
  config = dataclasses.replace(
      config, seed=args.seed, networks=tuple(args.networks or config.networks))
  if dry_runs.asked(args):
    dry_run(config, args)
    return
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, train, judge.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  found = sweep.run([
      sweeps.Part(name, lambda name=name: compare(
          name, dataset, config, sweep.out / name))
      for name in config.networks])

  # Report.
  result = {"networks": found, "config": dataclasses.asdict(config),
            **sweep.circumstances()}
  transforming.report(args.report or sweep.out / "report", result,
                      readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
