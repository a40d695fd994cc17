"""Climbing (`natjax transform --method climb`) on real images.

Networks of the zoo, or random cells of NAS-Bench-201, are climbed from, by what
untrained networks show alone: nothing is tried on held-out images before it is
returned, so that what the score itself is worth is seen. The original and what
it became are trained alike, from scratch, seed by seed, and tested. Where the
truth is known, `nasbench201_supernet.py --only climb` judges it over more.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds:
  python experiments/climbing.py --preset smoke --out runs/smoke
  python experiments/climbing.py --preset small --data-dir DATA \
      --out runs/climbing --report experiments/results/climbing
  python experiments/climbing.py --preset cells --data-dir DATA \
      --out runs/climbed_cells --report experiments/results/climbing_cells
  python experiments/climbing.py --preset paper --data-dir DATA \
      --out runs/climbing_paper
Hardware and time: `smoke` a minute or two, `small` a quarter of an hour a
network, `cells` four minutes a cell, on 2 CPU cores that others kept busy;
`paper` one accelerator, not run here.
Expected: no figure is published; the method is this library's own.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import known_truth
import numpy as np
import recording
import replacement
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import pipeline, zoo
from natjax.graph import blocks, codec, records
from natjax.graph import nasbench201 as cells201
from natjax.methods import climb, supervised

_CELL = "cell-"  # Before the code of one of NAS-Bench-201.


def drawn(count: int, seed: int = 0) -> tuple[str, ...]:
  """Names of random cells of NAS-Bench-201.

  All are equally likely, but no two compute the same, and none computes nothing
  (`cells201.computations`).
  """
  number = cells201.computations()
  nothing = number[cells201.encode(cells201.to_array(
      ["null"] * len(cells201.EDGES)))]
  kept: dict[int, int] = {}
  for code in np.random.default_rng(seed).permutation(cells201.COUNT).tolist():
    if number[code] != nothing:
      kept.setdefault(number[code], code)
  return tuple(f"{_CELL}{code}" for code in [*kept.values()][:count])


def _names(network):
  """The operations of a cell that `drawn` has named."""
  return known_truth.names_of(int(network.removeprefix(_CELL)))


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    datasets: names or paths of the data sets.
    networks: of the zoo, or of `drawn`.
    repeats: cells per stage, of five in the benchmark, of those drawn.
    width: factor of the widths of networks of blocks.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    search: of the method, for cells with their channels and number.
    train: of all networks; of cells likewise.
    cells: channels and number of cells.
    seed: the first.
  """

  datasets: tuple[str, ...]
  networks: tuple[str, ...]
  width: float
  image_size: int
  train_images: int
  search: climb.ClimbConfig
  train: supervised.TrainConfig
  cells: tuple[int, int]
  repeats: int = 1
  seed: int = 0


_SMALL = Config(
    datasets=("cifar10",), networks=("r1", "r2", "darts"), width=0.5,
    image_size=16, train_images=10000,
    search=climb.ClimbConfig(held_out=0.0),
    train=supervised.TrainConfig(
        epochs=8, batch_size=64, learning_rate=0.05, final_learning_rate=0.0,
        cutout=0, drop_path=0.0, seeds=2),
    cells=(8, 5))
PRESETS = {
    "smoke": Config(
        datasets=("digits",), networks=("r1", *drawn(2)), width=0.5,
        image_size=8, train_images=192, search=climb.ClimbConfig(
            batch_size=8, draws=2, evaluations=8, held_out=0.0),
        train=supervised.TrainConfig(
            epochs=1, batch_size=16, cutout=0, drop_path=0.0, seeds=2),
        cells=(4, 3)),
    "small": _SMALL,
    "cells": dataclasses.replace(_SMALL, networks=drawn(20)),
    "paper": Config(
        datasets=("cifar10",), networks=replacement.NETWORKS, width=1.0,
        image_size=32, train_images=0, search=dataclasses.replace(
            climb.PRESETS["paper"], init_channels=None, cells=None,
            held_out=0.0),
        train=supervised.TrainConfig(
            epochs=600, batch_size=96, seeds=5), cells=(36, 20)),
}


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  transforming.add_flags(
      parser, replacement.NETWORKS, representations=False)
  return parser.parse_args(argv)


def given(name: str, config: Config) -> records.Architecture:
  """A network of the zoo or one of a cell, at its full width."""
  if name.startswith(_CELL):
    return known_truth.network(_names(name), config.repeats)
  return zoo.get(name)


def compare(name: str, dataset: data_lib.Dataset, config: Config,
            out: pathlib.Path) -> dict[str, Any]:
  """One network: what it was, what it became, and what the score foretold."""
  network, search, train = given(name, config), config.search, config.train
  if network.kind == "blocks":
    network = blocks.scale(network, config.width)
  else:
    channels, cells = config.cells
    search = dataclasses.replace(search, init_channels=channels, cells=cells)
    train = dataclasses.replace(
        train, skeleton="cifar", init_channels=channels, cells=cells,
        auxiliary=False)
  found = pipeline.transform(
      network, dataset, out=out, method="climb", search=search, train=train,
      seed=config.seed, listener=transforming.listener(name))
  rows = found["candidates"]
  score = lambda key: next(row["score"] for row in rows if row[key])
  return {
      "original": found["original"], "climbed": found["transformed"],
      "naswot": [score("original"), score("chosen")],
      "evaluated": found["evaluated"], "steps": len(rows) - 1,
      "changes": [[change["before"], change["after"]]
                  for change in found["changes"]],
      "search_seconds": found["search_seconds"], "seconds": found["seconds"],
      "architecture": codec.to_line(codec.from_dict(
          found["architectures"]["transformed"]))}


def shown(name: str) -> str:
  """A network's name, or what its cell is, in a table."""
  if not name.startswith(_CELL):
    return name
  return "`" + cells201.to_string(_names(name)).replace("|", "\\|") + "`"


def over_cells(networks: Mapping[str, Any]) -> list[str]:
  """What became of cells that were drawn, over all of them."""
  rows = [row for name, row in networks.items() if name.startswith(_CELL)]
  if len(rows) < 2:
    return []
  mean = lambda row, key: np.mean(row[key]["accuracies"])
  before, after = (np.array([mean(row, key) for row in rows])
                   for key in ("original", "climbed"))
  left = lambda kind: np.mean([
      row["climbed"][kind] / row["original"][kind] for row in rows])
  kept = sum(not row["changes"] for row in rows)
  return [
      f"Over all {len(rows)} cells, which were drawn at random, the mean over"
      " the seeds of each: "
      f"{100 * before.mean():.2f} % before, {100 * after.mean():.2f} % after,"
      f" {recording.paired(before, after)} points (95 %, Student's t over"
      f" cells; the median {100 * np.median(after - before):+.2f}); more in"
      f" {(after > before).sum()}, less in {(after < before).sum()}, of which"
      f" at most by {100 * max(0.0, (before - after).max()):.2f};"
      f" {kept} kept as they were. Left are {left('params'):.3f} of the"
      f" parameters and {left('madds'):.3f} of the multiply-adds.", ""]


def readme(config: Config, result: dict[str, Any]) -> str:
  """The record in words."""
  lines = []
  for name, networks in result["datasets"].items():
    rows = []
    for network, row in networks.items():
      before, after = row["original"], row["climbed"]
      rows.append([
          shown(network), row["steps"], row["evaluated"],
          f"{row['naswot'][1] - row['naswot'][0]:+.1f}",
          f"{after['params'] / before['params']:.2f}",
          f"{after['madds'] / before['madds']:.2f}",
          recording.spread(before["accuracies"], 2, 100),
          recording.spread(after["accuracies"], 2, 100),
          recording.paired(before["accuracies"], after["accuracies"]),
          ", ".join(f"{a} to {b}" for a, b in row["changes"]) or "none",
          f"{row['search_seconds'] / 60:.0f} of {row['seconds'] / 60:.0f}"])
    lines += [f"## {name}", "", *recording.table(
        ("network", "steps", "networks scored", "NASWOT, nats",
         "parameters left", "multiply-adds left", "original, %", "climbed, %",
         "difference, points", "changes", "minutes of the climb"), rows), "",
              *over_cells(networks)]
  train = config.train
  return "\n".join([
      "# Climbing by untrained networks, on real images", "",
      "`natjax transform --method climb --held-out 0`: what the climb comes to,"
      " which no trial on held-out images had to bear out, beside the original,"
      f" both trained alike. Accuracy is that on the test images, mean ±"
      f" deviation over {train.seeds} seeds; the difference is paired by seed,"
      " with its interval of 95 % (Student's t).", "", *lines,
      f"Trained: {config.width:g} times the widths of the networks of blocks"
      f" (of NAS-Bench-201's, {config.repeats} cell(s) per stage of five),"
      f" cells with {config.cells[0]} channels and {config.cells[1]} layers;"
      f" {config.image_size}x{config.image_size} pixels,"
      f" {config.train_images or 'all'} images, {train.epochs} epochs.", "",
      *recording.in_words(result)])


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  config = transforming.configured(PRESETS[args.preset], args)
  sweep = sweeps.Sweep(__file__, args, argv, dataclasses.asdict(config))
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, climb, train, evaluate.
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
