"""IT-NAS beside its baselines: Tables 2 to 6, Figures 2, 3, 6 and 9 to 19.

"IT-NAS: Integrating Lite-Transformer into NAS for Architecture Selection"
(under review at ICLR 2023), section 4 and appendix. Parts of the experiment,
each of which can run by itself (--parts):
- nasbench201: Table 5, searches whose cells are looked up in the benchmark's
  table; what would have been found after every epoch (Figure 2); and whether an
  edge's operations are ranked by the indicator as by accuracy (Kendall's tau):
  by that of the cell that was found with the operation on this edge (Figure 3;
  the paper takes the supernet's, here it is the true one), and by that of the
  best cell of all with the operation there (Figure 6, equation 9; by test
  accuracy, and not by validation).
- darts: Table 2 and Figure 15. s1-s4: Table 4 and Figures 17 to 19.
- chains: Tables 3 and 6 and Figure 16, beside SPOS.
- nasbench1shot1: Figure 5, in the three spaces of NAS-Bench-1Shot1.

Elsewhere: Table 1, `benchmarks/it_nas.py`; Figure 4, `natjax explain`; scores
without training (appendix A.7), `nasbench201_zero_cost.py`, which ranks whole
cells: Zero-Cost-PT (Figures 7 and 8), which prunes a supernet by them, is not
here.
ImageNet, on which the paper searches chains, is not either: here it is the data
set of all parts.

Commands, with DATA a folder that holds cifar10.npz or another form that
`natjax.data.load` finds, TABLE and TABLE101 what `nasbench201` and
`nasbench101` of `natjax.benchmarks` read:
  python experiments/it_nas.py --preset smoke --table TABLE --out runs/smoke
  python experiments/it_nas.py --preset small --table TABLE \
      --table101 TABLE101 --data-dir DATA --out runs/it_nas \
      --report experiments/results/it_nas
  python experiments/it_nas.py --preset paper --table TABLE \
      --table101 TABLE101 --data-dir DATA --out runs/it_nas_paper
Hardware and time: `smoke` nine minutes on 2 CPU cores beside other work, nearly
all of it compiling. Of `small`, on 2 CPU cores that others kept busy, the parts
nasbench201 and nasbench1shot1 took 65 minutes, in two calls; darts, s1-s4 and
chains 3.6 hours (experiments/results/it_nas_spaces).
`paper`: accelerators and weeks.
Expected, preset `paper`: `PAPER` below; not run here.

A stopped run goes on by the same command.
"""

import argparse
from collections.abc import Mapping, Sequence
import dataclasses
import json
import pathlib
from typing import Any, NamedTuple

import dry_runs
import figures
import nasbench201_search
import numpy as np
import recording
from scipy import stats
import sweeps
import transforming

import natjax
from natjax import data as data_lib
from natjax import errors, pipeline, spaces, zoo
from natjax.benchmarks import nasbench101, nasbench201, table_search
from natjax.graph import codec, nasbench1shot1
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells
from natjax.methods import (
  darts,
  entrannas,
  entrannas_dst,
  it_nas,
  random_search,
  spos,
  supervised,
)
from natjax.pipeline import presets, runs
from natjax.training import metrics

TITLES = {name: nasbench201_search.TITLES[name] for name in (
    "it-nas", "darts", "entrannas", "entrannas-dst", "spos", "random")}
HEADINGS = {"nasbench201": "NAS-Bench-201 (Table 5, Figures 2, 3, 6, 9 to 14)",
            "nasbench1shot1": "NAS-Bench-1Shot1 (Figure 5)",
            "darts": "DARTS's space (Table 2)",
            "s1-s4": "S1 to S4 (Table 4)", "chains": "Chains (Tables 3 and 6)"}
PARTS = tuple(HEADINGS)
# What parts are judged by: the flag of its table.
TABLES = {"nasbench201": "table", "nasbench1shot1": "table101"}
TRUE = "cifar10"  # By whose accuracies operations are ranked.
RANKS = {"chosen": "with the operation in the cell that was found",
         "best": "of the best cell with the operation"}
# Test errors, %, by data set and space (Tables 2 to 4 and 6). Of CIFAR-100 Table
# 2 has what was found on CIFAR-10, which is not what is searched for here.
PAPER: dict[tuple[str, str], dict[str, float]] = {
    ("cifar10", "darts"): {"it-nas": 2.41, "darts": 3.00},
    **{(dataset, f"s{i}"): {"it-nas": ours, "darts": theirs}
       for dataset, errors_of in {
           "cifar10": ((2.57, 3.84), (3.11, 4.85), (2.43, 3.34), (3.36, 7.20)),
           "cifar100": ((23.31, 29.46), (20.58, 26.05), (20.76, 28.90),
                        (20.69, 22.85)),
           "svhn_cropped": ((2.44, 4.58), (2.36, 3.53), (2.38, 3.41),
                            (2.34, 3.05))}.items()
       for i, (ours, theirs) in enumerate(errors_of, 1)},
    ("imagenet2012", "proxyless"): {"it-nas": 24.1, "spos": 25.2},
    ("imagenet2012", "proxyless-se"): {"it-nas": 21.8}}


class Part(NamedTuple):
  """Settings of a part.

  Attributes:
    spaces: that are searched.
    search: settings by method.
    seeds: searches of every method.
    train: of every network that is found; None trains none.
    sizes: what of `train` differs, by data set and space.
  """

  spaces: tuple[str, ...]
  search: dict[str, Any]
  seeds: int
  train: supervised.TrainConfig | None = None
  sizes: Mapping[tuple[str, str], Mapping[str, int]] = {}


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the experiment.

  Attributes:
    dataset: name or path of the data set.
    image_size: side to which images are brought.
    train_images: how many training images to use, drawn; 0 is all.
    parts: by name, those of `PARTS`.
    seed: the first of the seeds.
  """

  dataset: str
  image_size: int
  train_images: int
  parts: dict[str, Part]
  seed: int = 0


def _cells(**settings: Any) -> dict[str, Any]:
  return {"it-nas": it_nas.ITConfig(**settings),
          "darts": darts.DartsConfig(**settings)}


def _chains(settings: Mapping[str, Any], **bred: Any) -> dict[str, Any]:
  return {"it-nas": it_nas.ITConfig(**settings),
          "spos": spos.SPOSConfig(**settings, **bred)}


def _every(settings: Mapping[str, Any], bred: Mapping[str, Any],
           drawn: Mapping[str, Any], **decay: Any) -> dict[str, Any]:
  """The settings of all methods: of all, of SPOS, of random search besides, and
  of those with a temperature."""
  return {**_cells(**settings),
          "entrannas": entrannas.EnTranConfig(**settings, **decay),
          "entrannas-dst": entrannas_dst.DSTConfig(**settings, **decay),
          "spos": spos.SPOSConfig(**settings, **bred),
          "random": random_search.RandomConfig(**{**settings, **drawn})}


# Of what is no network of DARTS's cells.
_PLAIN = {"skeleton": None, "init_channels": None, "cells": None,
          "drop_path": None, "auxiliary": None}
_ALL = {"s1-s4": ("s1", "s2", "s3", "s4"),
        "chains": ("proxyless", "proxyless-se"),
        "nasbench1shot1": tuple(nasbench1shot1.PARENTS)}
_SMOKE = {"epochs": 1, "batch_size": 32}
_FEW = {"epochs": 8, "batch_size": 32, "learning_rate": 0.05}
_LITTLE = {"init_channels": 4, "cells": 4, **_FEW}
_NARROW = {"supernet_width": 0.25, **_FEW, "batch_size": 64}
_BRED = {"population": 10, "generations": 3, "parents": 5, "mutations": 5,
         "crossovers": 5, "calibration": 640}
_CHAIN = {"chain_layers": 2, "chain_width": 0.25, **_FEW, "epochs": 40}
_TRAIN = supervised.TrainConfig(
    init_channels=8, cells=4, epochs=8, batch_size=32, learning_rate=0.05,
    auxiliary=False, drop_path=0.0, cutout=0)
_PAPER = supervised.TrainConfig(
    skeleton="cifar", init_channels=36, cells=20, final_learning_rate=0.0,
    drop_path=0.2, auxiliary=True)
# Table 4's caption, after RobustDARTS.
_SIZES = {
    **{("cifar10", space): {"init_channels": 16} for space in ("s2", "s4")},
    **{(dataset, space): {"init_channels": 16, "cells": 8}
       for dataset in ("cifar100", "svhn_cropped") for space in _ALL["s1-s4"]}}
PRESETS = {
    "smoke": Config(
        dataset="digits", image_size=8, train_images=128, parts={
            "nasbench201": Part(("nasbench201",), _every(
                {**_SMOKE, "supernet_width": 0.125}, {
                    "population": 2, "generations": 2, "parents": 1,
                    "mutations": 1, "crossovers": 1, "calibration": 32},
                {"candidates": 2}), 2),
            "darts": Part(
                ("darts",), _cells(**_SMOKE, init_channels=2, cells=3), 1,
                dataclasses.replace(_TRAIN, init_channels=2, cells=2,
                                    epochs=1))}),
    "small": Config(
        dataset="cifar10", image_size=16, train_images=4096, parts={
            # A candidate of random search is trained for a quarter of what a
            # supernet is, and they are four.
            "nasbench201": Part(("nasbench201",), _every(
                _NARROW, _BRED, {"candidates": 4, "epochs": 2},
                temperature_decay=0.6), 6),
            "nasbench1shot1": Part(
                _ALL["nasbench1shot1"][:1], _cells(**_NARROW), 3),
            "darts": Part(("darts",), _cells(**_LITTLE), 3, _TRAIN),
            "s1-s4": Part(_ALL["s1-s4"], _cells(**_LITTLE), 1, _TRAIN),
            "chains": Part(_ALL["chains"][:1], _chains(
                _CHAIN, **_BRED), 2,
                dataclasses.replace(_TRAIN, **_PLAIN))}),
    "paper": Config(
        dataset="cifar10", image_size=32, train_images=0, parts={
            "nasbench201": Part(("nasbench201",), _every(
                {}, {}, {"candidates": 10, "epochs": 12}), 6),
            "nasbench1shot1": Part(_ALL["nasbench1shot1"], _cells(), 3),
            "darts": Part(("darts",), _cells(), 3, _PAPER),
            "s1-s4": Part(_ALL["s1-s4"], _cells(), 4, _PAPER, _SIZES),
            "chains": Part(_ALL["chains"], _chains({
                "epochs": 240, "batch_size": 512, "learning_rate": 0.25,
                "final_learning_rate": 5e-4, "weight_decay": 4e-5}), 1,
                dataclasses.replace(_PAPER, **_PLAIN, epochs=240))}),
}


# What is run.


def trained(part: Part, dataset: str, space: str
            ) -> supervised.TrainConfig | None:
  """How networks of a space are trained on a data set."""
  return part.train and dataclasses.replace(
      part.train, **part.sizes.get((base(dataset), space), {}))


def base(dataset: str) -> str:
  """The name of a data set without the version that TFDS may have of it."""
  name = dataset.partition(":")[0].partition("/")[0]
  return {"svhn": "svhn_cropped"}.get(name, name)


def _row(folder, seed, search):
  """What a search by these settings came to."""
  result = recording.read(folder / runs.RESULT)
  rows = metrics.read(folder / runs.METRICS)
  found = result["architectures"]["derived"]
  course = nasbench201_search.course(rows, search, found)
  return {
      "seed": seed, "architecture": found,
      "course": [architecture for _, architecture in course],
      "epochs": [epoch for epoch, _ in course],
      "strengths": _strengths(result, [
          row for row in rows if "architecture" in row]),
      **{key: result["derived"][key] for key in (
          "params", "madds", "accuracy") if key in result["derived"]},
      **{key: result[key] for key in (
          "parent_accuracy", "child_accuracy", "skips", "ties",
          "search_seconds") if key in result}}


def _strengths(result, course):
  """Of every group and edge the operations' indicators, by name.

  Those of IT-NAS are of the images that decide, those by alpha of the end of
  the training; SPOS and random search have none.
  """
  if "attention" in result:
    return {group: [edge and edge["weights"] for edge in edges]
            for group, edges in result["attention"].items()}
  if not course or "weights" not in course[-1]:
    return {}
  names = course[-1]["candidates"]
  return {group: [dict(zip(names, edge, strict=True)) for edge in edges]
          for group, edges in course[-1]["weights"].items()}


def look_up(row: Mapping[str, Any], known: Mapping[str, np.ndarray]
            ) -> dict[str, Any]:
  """Adds what the table of NAS-Bench-201 says of a search; accuracies in %.

  Returns:
    The row with "cell" and "accuracy" of what was found, "curve" of what would
    have been after its "epochs", and "ranks", per edge the operations'
    "indicator" and the accuracies of `RANKS`; none without indicators.
  """
  found = nasbench201_search.look_up(row["architecture"], known)
  curve = [nasbench201_search.look_up(architecture, known)["accuracy"]
           for architecture in row["course"]]
  accuracy = known[TRUE]
  every = cells.all_operations()  # [15625, 6], in the order of codes.
  own = np.asarray(cells.to_array(cells.from_string(found["cell"])))
  edges, = row["strengths"].values() or [()]
  ranks = []
  for e, strengths in enumerate(edges):
    numbers = [int(cells.to_array([name] * len(own))[0]) for name in strengths]
    chosen = np.repeat(own[None], len(numbers), 0)
    chosen[:, e] = numbers
    ranks.append({
        "operations": [*strengths], "indicator": [*strengths.values()],
        "chosen": accuracy[np.asarray(cells.encode(chosen))].tolist(),
        "best": [float(accuracy[every[:, e] == n].max()) for n in numbers]})
  return {**{key: value for key, value in row.items() if key not in (
      "course", "strengths", "architecture")}, **found, "curve": curve,
          "ranks": ranks}


def taus(rows: Sequence[Mapping[str, Any]], kind: str) -> list[list[float]]:
  """Kendall's tau-b of indicators and accuracies, per edge and search.

  A search whose indicators are all alike has none.

  Args:
    rows: of `look_up`.
    kind: of `RANKS`.
  """
  return [[tau for row in rows if not np.isnan(tau := float(stats.kendalltau(
      row["ranks"][e]["indicator"], row["ranks"][e][kind]).statistic))]
          for e in range(len(cells.EDGES))]


class Truth(NamedTuple):
  """What tables know.

  Attributes:
    known: of NAS-Bench-201, as `nasbench201_search.truths`; None without it.
    table: NAS-Bench-101; None without it.
    best: test accuracy of the best cell of each of NAS-Bench-1Shot1's spaces.
  """

  known: dict[str, np.ndarray] | None = None
  table: nasbench101.Table | None = None
  best: Mapping[str, float] = {}


def regrets(row: Mapping[str, Any], space: str, truth: Truth
            ) -> dict[str, Any]:
  """Adds what the table of NAS-Bench-101 says of a search.

  Returns:
    The row with "cell", and "regret": by how many points what would have been
    found after every epoch, and was, lies behind the best cell of the space.
  """
  table, cell_of = truth.table, zoo.nasbench1shot1.cell_of
  at = [table.find(cell_of(codec.from_dict(found)))
        for found in (*row["course"], row["architecture"])]
  accuracy = 100 * table.columns["test_acc_108ep_mean"][at]
  return {**{key: value for key, value in row.items() if key not in (
      "course", "epochs", "strengths", "architecture")},
          "cell": cells101.to_text(table.cell(at[-1])),
          "regret": (truth.best[space] - accuracy).tolist()}


def plan(name: str, config: Config, dataset: data_lib.Dataset, truth: Truth,
         out: pathlib.Path) -> dict[tuple[str, str], list[sweeps.Part]]:
  """The searches of a part, by space and method; a row for each seed."""
  part, found = config.parts[name], {}
  for space in part.spaces:
    judge = {"nasbench201": lambda row: look_up(row, truth.known),
             "nasbench1shot1": lambda row, space=space: regrets(
                 row, space, truth)}.get(name, lambda row: {
                     key: value for key, value in row.items()
                     if key not in ("course", "epochs", "strengths")})
    for method, search in part.search.items():
      found[space, method] = transforming.searches(
          f"{name} {space} {method}", out / space / method, space, dataset,
          lambda seed, folder, judge=judge, search=search: judge(
              _row(folder, seed, search)),
          method=method, search=search,
          train=trained(part, dataset.name, space),
          train_found=part.train is not None, seed=config.seed,
          seeds=part.seeds)
  return found


def dry_run(config: Config, names: Sequence[str],
            args: argparse.Namespace) -> None:
  """Prints what parts would take; networks of the zoo stand for others."""
  estimates = dry_runs.Estimates(args.teraflops)
  dataset = dry_runs.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images)
  for name in names:
    part = config.parts[name]
    search = {method: one for method, one in part.search.items()
              if method in args.methods}
    stand_in = zoo.get("proxyless-cpu" if name == "chains" else "darts")
    for space in part.spaces:
      train = trained(part, dataset.name, space)
      for method, one in search.items():
        estimates.search(f"{space}: {TITLES[method]}", pipeline.Job(
            None, dataset, method, one, train or presets.get(
                "demo", spaces.get(space).graph, method).train, space=space,
            seed=config.seed, devices=1), part.seeds)
      if train is not None:
        estimates.train(f"{space}: trained", stand_in, dataset, train,
                        part.seeds * len(search))
  estimates.show()


# The report.


def readme(config: Config, result: Mapping[str, Any]) -> str:
  """The record in words."""
  lines = [f"# IT-NAS beside its baselines, on {result['dataset']}", ""]
  for name, found in result["parts"].items():
    part = config.parts[name]
    lines += [f"## {HEADINGS[name]}", "", *(
        _looked_up(found["nasbench201"], result["baselines"])
        if name == "nasbench201" else _regretted(found)
        if name == "nasbench1shot1" else _trained(found, result["dataset"])),
        "", _in_words(part, found, result["dataset"]), ""]
  return "\n".join([
      *lines, f"All: {config.image_size}x{config.image_size} pixels,"
      f" {result['train_images']} images, in searches one half for the weights"
      " and one for attention, alpha or the choice; networks are trained on all"
      " of them. Mean ± deviation over searches; figures of the paper are of"
      " its own data and settings.", "", *recording.in_words(result)])


def _looked_up(found, known):
  """Table 5 and the rankings."""
  names = list(known)
  rows = [[TITLES[method], *(recording.spread(
      [row["accuracy"][name] for row in seeds], 2) for name in names)]
          for method, seeds in found.items()]
  rows += [[title, *(f"{values[name]:.2f}" for name in names)]
           for title, values in nasbench201_search.PUBLISHED.items()]
  rows.append(["best cell", *(f"{known[n]['optimum']:.2f}" for n in names)])
  ranked = [[f"{TITLES[method]}, {RANKS[kind]}", *(
      recording.spread(some, 2) if some else "-"
      for some in taus(seeds, kind)), recording.spread(
          [tau for some in taus(seeds, kind) for tau in some] or [np.nan], 2)]
            for kind in RANKS for method, seeds in indicated(found).items()]
  return [
      *recording.table(("test accuracy, %", *names), rows), "",
      "![true accuracy over epochs](accuracy.svg)", "",
      *_courses_in_words(found), "",
      "Kendall's tau of an edge's operations by their indicator (attention, or"
      f" softmax of alpha) and by true accuracy on {TRUE} (Figures 3 and 6):",
      "", *recording.table(
          ("accuracy", *("{} -> {}".format(*edge) for edge in cells.EDGES),
           "all"), ranked), "",
      "![ranks](ranks.svg)", "",
      "Ranks, 5 is the highest, means over searches; the numbers are of"
      f" operations: {_numbered(found)}.",
      "", "Cells:", "", *recording.table(
          ("", "seed", "cell", f"true accuracy, {TRUE}, %"),
          [[TITLES[method], row["seed"], "`{}`".format(row["cell"]).replace(
              "|", "\\|"), f"{row['accuracy'][TRUE]:.2f}"]
           for method, seeds in found.items() for row in seeds])]


def indicated(found: Mapping[str, Any]) -> dict[str, Any]:
  """The searches of methods that weigh an edge's operations, by method."""
  return {method: seeds for method, seeds in found.items() if all(
      row["ranks"] for row in seeds)}


def _numbered(found):
  """The operations by whose numbers pictures call them."""
  names = {tuple(edge["operations"]) for seeds in indicated(found).values()
           for row in seeds for edge in row["ranks"]}
  return "; or ".join(", ".join(f"{i} {n}" for i, n in enumerate(some))
                      for some in sorted(names))


def _courses_in_words(found):
  """What is drawn over epochs of the methods that find once, or by trying."""
  lines = [text for method, text in (
      ("random", "Of random search: the best candidate so far, over the epochs"
       " of all."),
      ("spos", "Of SPOS: what evolution found at the end.")) if method in found]
  return [" ".join(["What would have been found after every epoch; thin lines"
                    " are searches, the thick one their mean.", *lines])]


def _regretted(found):
  """Figure 5's last points, and the cells."""
  return [*recording.table(
      ("space", "method", "seed", "cell", "test regret, points"),
      [[space, TITLES[method], row["seed"], f"`{row['cell']}`",
        f"{row['regret'][-1]:.2f}"] for space, methods in found.items()
       for method, seeds in methods.items() for row in seeds]), "", *(
           f"{TITLES[method]} in {space}: "
           + recording.spread([row["regret"][-1] for row in seeds], 2)
           + " points." for space, methods in found.items()
           for method, seeds in methods.items()), "",
      "![test regret over epochs](regret.svg)"]


def _trained(found, dataset):
  """A row per space and method."""
  rows = []
  for space, methods in found.items():
    for method, seeds in methods.items():
      paper = PAPER.get((base(dataset), space), {}).get(method)
      rows.append([
          space, TITLES[method], recording.spread(
              [1 - row["accuracy"] for row in seeds], 2, 100),
          "-" if paper is None else f"{paper:.2f}",
          recording.spread([row["params"] for row in seeds], 1, 1e-3),
          recording.spread([row["madds"] for row in seeds], 2, 1e-6),
          *("-" if any(key not in row for row in seeds) else recording.spread(
              [row[key] for row in seeds], 1, 100)  # SPOS has no parent.
            for key in ("parent_accuracy", "child_accuracy")),
          _counted(seeds, "skips"), _counted(seeds, "ties"),
          f"{np.mean([row['search_seconds'] for row in seeds]):.0f}"])
  return recording.table(
      ("space", "method", "test error, %", "of the paper, %", "parameters, K",
       "multiply-adds, M", "supernet, %", "found in it, %", "skips", "ties",
       "seconds of a search"), rows)


def _counted(seeds, key):
  """What a report counts per group, all together, by search."""
  return ", ".join(str(sum(row[key].values())) if isinstance(
      row.get(key), dict) else "-" for row in seeds)


def _in_words(part, found, dataset):
  """How what was found of a part was searched and trained."""
  lines, methods = [], {method for some in found.values() for method in some}
  for method, one in part.search.items():
    if method not in methods:
      continue
    size = "" if one.init_channels is None else (
        f", {one.init_channels} channels, {one.cells} cells")
    if width := one.supernet_width or one.chain_width:
      size = f", {width:g} times the widths"
    if method == "random":
      size += f", each of {one.candidates} candidates"
    elif method == "spos":
      size += (f"; then {one.population * one.generations} candidates, of each"
               f" the statistics of BN on {one.calibration} images")
    elif method.startswith("entrannas"):
      size += (f", the temperature from {one.temperature:g}, times"
               f" {one.temperature_decay:g} an epoch")
    lines.append(f"{TITLES[method]}: {one.epochs} epochs, batches of"
                 f" {one.batch_size}, SGD from {one.learning_rate:g}{size}.")
  if part.train is not None:
    train = part.train
    sizes: dict[tuple[int | None, int | None], list[str]] = {}
    for space in found:
      own = trained(part, dataset, space)
      sizes.setdefault((own.init_channels, own.cells), []).append(space)
    size = "" if train.init_channels is None else "; ".join(
        f"{channels} channels, {count} cells"
        + f" ({', '.join(some)})" * (len(sizes) > 1)
        for (channels, count), some in sizes.items()) + ", "
    lines.append(f"Trained: {size}{train.epochs} epochs, batches of"
                 f" {train.batch_size}, SGD from {train.learning_rate:g}.")
  count = f"{part.seeds} searches" if part.seeds > 1 else "One search"
  return f"{count} each. " + " ".join(lines)


def draw(result: Mapping[str, Any], folder: pathlib.Path) -> None:
  """Draws accuracy and regret over epochs, and ranks of operations."""
  # Records of DARTS and IT-NAS alone have no epochs: every one is there.
  over = lambda seeds, values: [[*zip(
      row.get("epochs", range(1, len(values(row)) + 1)), values(row),
      strict=True)] for row in seeds]
  if spaces := result["parts"].get("nasbench1shot1"):
    for suffix in ("svg", "png"):
      figures.over_epochs(
          {f"{TITLES[method]}, {space}": over(
              seeds, lambda row: row["regret"][:-1])
           for space, methods in spaces.items()
           for method, seeds in methods.items()},
          folder / f"regret.{suffix}", "test regret, points", {})
  if "nasbench201" not in result["parts"]:
    return
  found, known = result["parts"]["nasbench201"]["nasbench201"], (
      result["baselines"][TRUE])
  curves = {TITLES[method]: over(
      seeds, lambda row: [value[TRUE] for value in row["curve"]])
            for method, seeds in found.items()}
  mean = lambda seeds, e, key: np.mean(
      [stats.rankdata(row["ranks"][e][key]) for row in seeds], 0)
  panels = {f"{TITLES[method]}, edge {{}} -> {{}}".format(*edge): [*zip(
      mean(seeds, e, "indicator"), mean(seeds, e, "best"), strict=True)]
            for e, edge in enumerate(cells.EDGES)
            for method, seeds in indicated(found).items()}
  for suffix in ("svg", "png"):
    figures.over_epochs(
        curves, folder / f"accuracy.{suffix}", f"true accuracy, {TRUE}, %",
        {"best": known["optimum"], "random": known["mean"]})
    if panels:
      figures.rankings(panels, folder / f"ranks.{suffix}",
                       "rank of the indicator", "rank of the best accuracy")


# The command line.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = recording.Parser(description=__doc__.split("\n", 1)[0])
  recording.add_flags(parser, PRESETS)
  sweeps.add_flags(parser)
  dry_runs.add_flags(parser)
  parser.add_argument("--table", type=pathlib.Path,
                      help="NAS-Bench-201's: CSV, or NATS-Bench's folder")
  parser.add_argument("--table101", type=pathlib.Path,
                      help="NAS-Bench-101's: .npz or .tfrecord")
  parser.add_argument("--dataset", help="of the images; default: the preset's")
  parser.add_argument("--parts", nargs="+", choices=PARTS,
                      help="that are run or gone on with; default: all; the"
                      " report has all that were ever run in --out")
  parser.add_argument("--methods", nargs="+", choices=tuple(TITLES),
                      default=list(TITLES), help="of these parts, likewise")
  return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
  args = parse(argv)
  natjax.configure_compilation()

  # Config.
  preset = PRESETS[args.preset]
  config = dataclasses.replace(
      preset, seed=args.seed, dataset=args.dataset or preset.dataset)
  names = [name for name in args.parts or config.parts
           if name in config.parts and {*args.methods} & {
               *config.parts[name].search}]
  if not names:
    raise errors.InputError("none of these parts has one of the methods"
                            f" {', '.join(args.methods)}; give other --parts"
                            " or --methods")
  if dry_runs.asked(args):
    dry_run(config, names, args)
    return
  for name in names:
    if name in TABLES and getattr(args, TABLES[name]) is None:
      raise errors.InputError(f"the part {name} is judged by its table; pass"
                              f" --{TABLES[name]}, or other --parts")
  truth = Truth()
  if "nasbench201" in names:
    truth = truth._replace(known=nasbench201_search.truths(
        nasbench201.read(args.table)))
  if "nasbench1shot1" in names:
    table = nasbench101.read(args.table101)
    test = 100 * table.columns["test_acc_108ep_mean"]
    truth = truth._replace(table=table, best={
        space: float(test[table_search.of_1shot1(table, space)].max())
        for space in config.parts["nasbench1shot1"].spaces})
  if not args.overwrite:
    widen(args.out / recording.CONFIG, config)
  sweep = sweeps.Sweep(__file__, args, argv, _describe(config))
  out = sweep.out
  transforming.say(f"{recording.hardware()}; seed {config.seed};"
                   f" {pipeline.versions()}")

  # Data, searches.
  dataset = transforming.load(
      config.dataset, args.data_dir, image_size=config.image_size,
      train_images=config.train_images, seed=config.seed)
  plans = {name: plan(name, config, dataset, truth, out / name)
           for name in config.parts}
  sweep.run([part for name in names for (_, method), some in plans[name].items()
             if method in args.methods for part in some])
  found: dict[str, Any] = {}
  for name, methods in plans.items():
    for (space, method), parts in methods.items():
      if rows := [*sweep.finished(parts).values()]:
        found.setdefault(name, {}).setdefault(space, {})[method] = rows

  # Report.
  result = {
      "parts": found,
      "baselines": recording.once(out / "baselines.json", lambda: (
          nasbench201_search.baselines(truth.known))) if truth.known or (
              out / "baselines.json").exists() else {},
      "dataset": dataset.name, "train_images": len(dataset.train_labels),
      "config": _describe(config),
      **sweep.circumstances()}
  result |= {"missing": left} if (left := lacking(config, result)) else {}
  folder = args.report or out / "report"
  folder.mkdir(parents=True, exist_ok=True)
  draw(result, folder)
  transforming.report(folder, result, readme(config, result))
  sweep.end()


def widen(path: pathlib.Path, config: Config) -> None:
  """Lets a folder go on whose run compared fewer methods, else by the same.

  Args:
    path: of what the folder says of its settings.
    config: the settings now.
  """
  if not path.exists():
    return
  found, now = recording.read(path), _describe(config)
  fewer = {**now, "parts": {name: {**part, "search": {
      method: search for method, search in part["search"].items()
      if method in found["parts"].get(name, {}).get("search", {})}}
                            for name, part in now["parts"].items()}}
  if found == json.loads(json.dumps(fewer)):
    recording.write(path, now)


def lacking(config: Config, result: Mapping[str, Any]) -> dict[str, str]:
  """Why searches are not there, by name, of spaces of which some are there.

  Args:
    config: the settings.
    result: with "parts" and perhaps "missing", of what was asked for.
  """
  missing, left = result.get("missing", {}), {}
  for name, found in result["parts"].items():
    part = config.parts[name]
    seeds = range(config.seed, config.seed + part.seeds)
    for space, methods in found.items():
      for method in part.search:
        there = [row["seed"] for row in methods.get(method, [])]
        whole = f"{name} {space} {method}"
        some = {f"{whole} seed {seed}": "not run"
                for seed in seeds if seed not in there}
        if len(some) == len(seeds) and not {*some} & {*missing}:
          some = {whole: "not run"}
        left |= some
  return {**left, **missing}


def _describe(config):
  """The settings as JSON."""
  part = lambda own: {
      "spaces": own.spaces, "seeds": own.seeds,
      "train": own.train and dataclasses.asdict(own.train),
      **({"sizes": {" ".join(key): size for key, size in own.sizes.items()}}
         if own.sizes else {}), "search": {method: dataclasses.asdict(one)
                 for method, one in own.search.items()}}
  return {**dataclasses.asdict(config), "parts": {
      name: part(own) for name, own in config.parts.items()}}


if __name__ == "__main__":
  recording.run(main)
