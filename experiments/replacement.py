"""Trained networks made cheaper, their weights kept, on real images.

`natjax transform --method replace` on networks of the zoo, CIFAR-10: hand-made
ones, cells that searches found, and cells drawn at random (r1 and r2). The
original, what is returned, and with `--scratch`, for what keeping the weights
is worth, the returned architecture trained from scratch for as many epochs as
both trainings and the learning of the replacements took together. Every seed
trains an original of its own, and finds an architecture of its own.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/replacement.py --preset smoke --out runs/smoke
  python experiments/replacement.py --preset small --data-dir DATA \
      --out runs/replacement --report experiments/results/replacement
  python experiments/replacement.py --preset paper --data-dir DATA \
      --out runs/replacement_paper
  python experiments/replacement.py --preset card --seed 0 --seeds 1 \
      --data-dir DATA --out runs/card0 --report runs/card0/report
  python experiments/replacement.py --preset card --merge runs/card0/report \
      runs/card1/report --out runs/card --report experiments/results/...
Hardware and time: `smoke` a few minutes, `small` about two hours, on 2 CPU
cores; `card` some minutes of one accelerator, several seeds at once as
processes of their own; `paper` one accelerator, not run here.
Expected: no figure is published; the method is this library's own.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import handcrafted
import numpy as np
import recording
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline, zoo
from natjax.graph import codec, records
from natjax.methods import replace_config, supervised

NETWORKS = ("resnet20", "darts", "r1", "r2", "nasnet", "mobilenetv2",
            "vgg16-bn")


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    datasets: names or paths of the data sets.
    networks: of the zoo.
    width: factor of the widths of networks of blocks.
    halved: those of these networks that have half of that width.
    blocks: numbers of their blocks to keep; none keeps all.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    search: of the method.
    train: of the originals; of cells with their channels and number.
    cells: channels and number of cells.
    scratch: whether to train what is returned from scratch, too.
    seed: the first.
  """

  datasets: tuple[str, ...]
  networks: tuple[str, ...]
  width: float
  halved: tuple[str, ...]
  blocks: tuple[int, ...]
  image_size: int
  train_images: int
  search: natjax.ReplaceConfig
  train: supervised.TrainConfig
  cells: tuple[int, int]
  scratch: bool
  seed: int = 0


PRESETS = {
    "smoke": Config(
        datasets=("digits",), networks=("resnet20",), width=0.5,
        halved=("resnet20",), blocks=(0, 3),
        image_size=8, train_images=192, search=natjax.ReplaceConfig(
            price_images=32, price_checks=3, tries=1, tolerance=100.0),
        train=supervised.TrainConfig(
            epochs=1, batch_size=16, cutout=0, seeds=2), cells=(4, 3),
        scratch=True),
    "small": Config(
        datasets=("cifar10",), networks=NETWORKS, width=0.5,
        halved=("mobilenetv2", "vgg16-bn"), blocks=(),
        image_size=16, train_images=10000,
        search=natjax.ReplaceConfig(held_out=0.2),
        train=supervised.TrainConfig(
            epochs=12, batch_size=64, learning_rate=0.05,
            final_learning_rate=0.0, cutout=0, seeds=3), cells=(8, 5),
        scratch=False),
    "card": Config(
        datasets=("cifar10",), networks=("resnet20",), width=1.0, halved=(),
        blocks=(), image_size=32, train_images=0,
        search=natjax.ReplaceConfig(),
        train=supervised.TrainConfig(
            epochs=45, batch_size=128, learning_rate=0.1,
            final_learning_rate=0.0, weight_decay=5e-4, max_grad_norm=0.0,
            cutout=0, seeds=3), cells=(16, 8), scratch=False),
    "paper": Config(
        datasets=("cifar10", "cifar100"), networks=NETWORKS, width=1.0,
        halved=(), blocks=(), image_size=32, train_images=0,
        search=natjax.ReplaceConfig(),
        train=supervised.TrainConfig(
            epochs=200, batch_size=128, learning_rate=0.1,
            final_learning_rate=0.0, weight_decay=1e-4, max_grad_norm=0.0,
            cutout=0, seeds=5), cells=(36, 20), scratch=True),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  transforming.add_flags(parser, NETWORKS, representations=False)
  parser.add_argument("--scratch", action="store_true",
                      help="train what is returned from scratch, too")
  parser.add_argument("--epochs", type=recording.at_least(1),
                      help="of the originals; default: the preset's")
  parser.add_argument("--seeds", type=recording.at_least(1),
                      help="how many, from --seed on; default: the preset's")
  parser.add_argument("--merge", nargs="+", type=pathlib.Path,
                      metavar="REPORT", help="run nothing, and join records of"
                      " other seeds, with the same --preset")
  return parser.parse_args(argv)


def build(name: str, config: Config) -> tuple[codec.Architecture,
                                              supervised.TrainConfig]:
  """A network of the settings' width, and how it is trained."""
  network = zoo.get(name)
  if isinstance(network, records.BlockNetwork):
    width = config.width / (2 if name in config.halved else 1)
    return handcrafted.build(
        name, dataclasses.replace(config, width=width)), config.train
  return network, dataclasses.replace(
      config.train, skeleton="cifar", init_channels=config.cells[0],
      cells=config.cells[1], auxiliary=False, drop_path=0.0)


def compare(name: str, dataset: data_lib.Dataset, config: Config,
            out: pathlib.Path) -> dict[str, Any]:
  """One network: the originals, what is returned, perhaps that from scratch."""
  network, train = build(name, config)
  hear = transforming.listener
  found = pipeline.transform(
      network, dataset, out=out / "replaced", method="replace",
      search=config.search, train=train, seed=config.seed, listener=hear(name))
  return {"original": found["original"], "returned": found["transformed"],
          **({"scratch": from_scratch(name, found, dataset, config, out)}
             if config.scratch else {}),
          "seeds": found["seeds"], "seconds": found["seconds"]}


def from_scratch(name: str, found: dict[str, Any], dataset: data_lib.Dataset,
                 config: Config, out: pathlib.Path) -> dict[str, Any]:
  """What was returned, trained anew for as long as all before took."""
  network, train = build(name, config)
  own = replace_config.resolve(
    config.search, supervised.resolve(train, network.kind))
  tries = max(len(row["tries"]) for row in found["seeds"])
  epochs = train.epochs + own.distil_epochs + tries * own.tune_epochs
  scratch = []
  for row in found["seeds"]:
    seed = row["seed"]
    result = recording.read(
        out / "replaced" / "networks" / f"transformed-{seed}" / "result.json")
    if not result["num_changes"]:  # It is the original.
      scratch.append(found["original"]["accuracies"][seed - config.seed])
      continue
    scratch += pipeline.train(
        codec.from_dict(result["architecture"]), dataset,
        out=out / f"scratch-{seed}", seed=seed,
        config=dataclasses.replace(train, epochs=epochs, seeds=1),
        listener=transforming.listener(f"{name} scratch"))["accuracies"]
  return {"accuracies": scratch, "epochs": epochs}


def merge(preset: Config, folders: Sequence[pathlib.Path]
          ) -> tuple[Config, dict[str, Any]]:
  """Joins the records of runs that differ in their seeds alone.

  Args:
    preset: that all ran with.
    folders: their reports.

  Returns:
    The settings and the record of one run of all these seeds.

  Raises:
    InputError: they differ in more, or have seeds that do not follow each
      other.
  """
  parts = sorted((recording.read(folder / "result.json") for folder in folders),
                 key=lambda part: part["config"]["seed"])
  first, seed = parts[0]["config"], parts[0]["config"]["seed"]
  own = lambda config: {**config, "seed": 0,
                        "train": {**config["train"], "seeds": 0}}
  found: dict[str, Any] = {}
  for part in parts:
    config = part["config"]
    if own(config) != own(first):
      raise errors.InputError("the records are of other settings; merge runs of"
                              " the same")
    if config["seed"] != seed:
      raise errors.InputError(f"a record begins at seed {config['seed']}, where"
                              f" {seed} follows; merge one run of each")
    seed += config["train"]["seeds"]
    for name, networks in part["datasets"].items():
      for network, row in networks.items():
        found.setdefault(name, {}).setdefault(network, []).append(row)
  for networks in found.values():
    for network, rows in networks.items():
      networks[network] = {
          **{kind: _joined([row[kind] for row in rows])
             for kind in ("original", "returned", "scratch")
             if kind in rows[0]},
          "seeds": [one for row in rows for one in row["seeds"]],
          "seconds": sum(row["seconds"] for row in rows)}
  config = dataclasses.replace(
      preset, seed=first["seed"], scratch=first["scratch"],
      networks=tuple(first["networks"]), datasets=tuple(first["datasets"]),
      train=supervised.TrainConfig(
          **{**first["train"], "seeds": seed - first["seed"]}))
  return config, {
      **parts[0], "datasets": found, "config": dataclasses.asdict(config),
      "command": "`, `".join(part["command"] for part in parts),
      "seconds": sum(part["seconds"] for part in parts)}


def _joined(rows):
  """A row of several runs: accuracies by seed, other numbers their mean."""
  accuracies = [x for row in rows for x in row["accuracies"]]
  weights = [len(row["accuracies"]) for row in rows]
  return {
      **{key: float(np.average([row[key] for row in rows], weights=weights))
         for key in ("params", "madds", "epochs") if key in rows[0]},
      "accuracy": float(np.mean(accuracies)),
      "accuracy_std": float(np.std(accuracies, ddof=len(accuracies) > 1)),
      "accuracies": accuracies}


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  lines = []
  for name, networks in result["datasets"].items():
    rows = []
    for network, row in networks.items():
      before, after = row["original"], row["returned"]
      checks = [seed["rank_correlation"] for seed in row["seeds"]]
      rows.append([
          network, f"{before['params'] / 1e3:.0f}",
          f"{before['madds'] / 1e6:.2f}",
          f"{after['params'] / before['params']:.2f}",
          f"{after['madds'] / before['madds']:.2f}",
          recording.spread(before["accuracies"], 2, 100),
          recording.spread(after["accuracies"], 2, 100),
          recording.paired(before["accuracies"], after["accuracies"]),
          *([recording.spread(row["scratch"]["accuracies"], 2, 100)]
            if config.scratch else []),
          recording.spread(checks, 2), f"{row['seconds'] / 60:.0f}"])
    lines += [f"## {name}", "", *recording.table(
        ("network", "parameters, K", "multiply-adds, M", "parameters left",
         "multiply-adds left", "original, %", "returned, %",
         "difference, points",
         *(["from scratch, %"] if config.scratch else []),
         "rank correlation", "minutes"), rows), ""]
  train, own = config.train, replace_config.resolve(
      config.search, supervised.resolve(config.train, "blocks"))
  return "\n".join([
      "# Trained networks made cheaper, their weights kept", "",
      "`natjax transform --method replace` with its defaults: half of the"
      " multiply-adds, or what lies between that and the original where it is"
      f" not within {own.tolerance:g} points on the {100 * own.held_out:g} % of"
      " the training images that are held out; else the original. Accuracy is"
      f" that on the test images, mean ± deviation over {train.seeds} seeds;"
      " the difference is paired by seed, with its interval of 95 % (Student's"
      " t)." + (
          " From scratch: the returned architectures, trained for as many"
          " epochs as everything before took together, on all images."
          if config.scratch else "")
      + " Rank correlation: of the sums of prices with what"
      f" {own.price_checks} choices at random cost.", "", *lines,
      f"Trained: {config.width:g} times the widths of the networks of blocks"
      + (f", half of that of {' and '.join(config.halved)}"
         if config.halved else "") + ","
      f" cells with {config.cells[0]} channels and {config.cells[1]} layers;"
      f" {config.image_size}x{config.image_size} pixels,"
      f" {config.train_images or 'all'} images, {train.epochs} epochs; the"
      f" replacements {own.distil_epochs} epochs, the tuning"
      f" {own.tune_epochs}.", "", *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  if args.merge:
    config, result = merge(PRESETS[args.preset], args.merge)
    transforming.report(args.report or args.out, result, readme(config, result))
    return
  config = transforming.configured(PRESETS[args.preset], args)
  own = {key: value for key in ("epochs", "seeds")
         if (value := getattr(args, key)) is not None}
  config = dataclasses.replace(
      config, scratch=config.scratch or args.scratch,
      train=dataclasses.replace(config.train, **own))
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, train, replace, evaluate.
  found = transforming.over_datasets(
      config, args, sweep, lambda network, dataset, folder: compare(
          network, dataset, config, folder))

  # Report.
  result = {"datasets": found, "config": dataclasses.asdict(config),
            **sweep.circumstances()}
  transforming.report(
      args.report or sweep.out / "report", result, readme(config, result))
  sweep.end()


if __name__ == "__main__":
  recording.run(main)
