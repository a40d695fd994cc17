"""What `it_nas.py` reports: tables and pictures of the paper, in words."""

from collections.abc import Mapping, Sequence
import pathlib
from typing import Any

import figures
import nasbench201_search
import numpy as np
import recording
from scipy import stats

from natjax import drawing, zoo
from natjax.graph import codec, nasbench1shot1, records
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells
from natjax.zoo import exports

TITLES = {name: nasbench201_search.TITLES[name] for name in (
    "it-nas", "darts", "entrannas", "entrannas-dst", "spos", "random")}
HEADINGS = {
    "nasbench201": "NAS-Bench-201", "nasbench1shot1": "NAS-Bench-1Shot1",
    "darts": "DARTS's space", "s1-s4": "RobustDARTS's spaces",
    "chains": "Chains"}
PARTS = tuple(HEADINGS)
# What the paper shows of a space, by its data sets.
SHOWN: dict[str, dict[str, tuple[str, ...]]] = {
    "nasbench201": {"cifar10": ("Table 5", "Figure 2")},
    **{space: {"cifar10": ("Figure 5",)} for space in nasbench1shot1.PARENTS},
    "darts": {"cifar10": ("Table 2", "Figure 15")},
    **{space: {"cifar10": ("Table 4", "Figure 17"),
               "cifar100": ("Table 4", "Figure 18"),
               "svhn_cropped": ("Table 4", "Figure 19")}
       for space in ("s1", "s2", "s3", "s4")},
    "proxyless": {"imagenet2012": ("Table 3", "Figure 16")},
    "proxyless-se": {"imagenet2012": ("Table 6",)}}
TRUE = "cifar10"  # By whose accuracies operations are ranked.
RANKS = {"chosen": "with the operation in the cell that was found",
         "best": "of the best cell with the operation"}
# Of NAS-Bench-201, where methods weigh operations.
RANKINGS = "Figures 3, 6 and 9 to 14"
FIGURES = {"chosen": "Figure 3", "best": "Figure 6"}
CELLS = "cells"  # The report's folder of what was found.
# Test errors, %, by data set and space (Tables 2 to 4 and 6). Of CIFAR-100
# Table 2 has what was found on CIFAR-10, which is not what is run here.
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


def base(dataset: str) -> str:
  """The name of a data set without the version that TFDS may have of it."""
  name = dataset.partition(":")[0].partition("/")[0]
  return {"svhn": "svhn_cropped"}.get(name, name)


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


def runs_of(result: Mapping[str, Any]) -> list[dict[str, Any]]:
  """How the runs of a record came about."""
  return result.get("runs") or [{key: result[key] for key in (
      "seconds", "command", "hardware", "load", "versions", "missing")
                                 if key in result}]


def readme(config: Any, result: Mapping[str, Any]) -> str:
  """The record in words, by the settings, an `it_nas.Config`."""
  lines = [f"# IT-NAS beside its baselines, on {result['dataset']}", ""]
  for name, found in result["parts"].items():
    part = config.parts[name]
    lines += [f"## {heading(name, found, result['dataset'])}", "", *(
        _looked_up(found["nasbench201"], result["baselines"])
        if name == "nasbench201" else _regretted(found)
        if name == "nasbench1shot1" else _trained(found, result["dataset"])),
        "", _in_words(part, found, result["dataset"]), ""]
  return "\n".join([
      *lines, f"All: {config.image_size}x{config.image_size} pixels,"
      f" {result['train_images']} images, in searches one half for the weights"
      " and one for attention, alpha or the choice; networks are trained on all"
      " of them. Mean ± deviation over searches; figures of the paper are of"
      " its own data and settings.", "", *_runs_in_words(result)])


def _runs_in_words(result):
  """What is missing, and how the rest came about."""
  first, *others = runs_of(result)
  return [line for run in ({**first, "missing": result.get("missing", {})},
                           *others) for line in recording.in_words(run)]


def heading(name: str, found: Mapping[str, Any], dataset: str) -> str:
  """What a part shows of the paper.

  Args:
    name: of the part.
    found: its searches by space and method.
    dataset: on which.
  """
  said: list[str] = []
  for space, methods in found.items():
    (where, first), *_ = SHOWN[space].items()
    shown = SHOWN[space].get(base(dataset), first)
    more = (RANKINGS,) * (name == "nasbench201" and bool(indicated(methods)))
    said += [*shown, *more] if base(dataset) in SHOWN[space] else [
        f"as {', '.join((*shown, *more))} on {where}"]
  which = f": {', '.join(found)}" if [*found] != [name] else ""
  return f"{HEADINGS[name]}{which} ({', '.join(dict.fromkeys(said))})"


def picture(space: str, method: str, seed: int) -> str:
  """The file of what a search found, in the report."""
  return f"{CELLS}/{space}-{method}-{seed}.svg"


def architecture(row: Mapping[str, Any]) -> records.Architecture:
  """What a search found; of NAS-Bench-101 what counts of its cell, once."""
  if "architecture" in row:
    return codec.from_dict(row["architecture"])
  if row["cell"].startswith("|"):
    return zoo.nasbench201.from_string(row["cell"])
  return one_cell(cells101.from_text(row["cell"]))


def one_cell(cell: cells101.Cell) -> records.BlockNetwork:
  """A cell of NAS-Bench-101 with nodes as `zoo.nasbench1shot1` has them.

  Vertex v takes a sum, node 2 v, whose operation gives node 2 v + 1.
  """
  names = dict(zip(cells101.OPERATIONS, zoo.nasbench1shot1.OPERATIONS,
                   strict=True))
  width, last = zoo.nasbench1shot1.CHANNELS[0], len(cell.operations) - 1
  edges = []
  for v in range(1, last + 1):
    edges += [records.Edge(zoo.nasbench1shot1.brings(u), 2 * u + 1, 2 * v)
              for u in range(v) if cell.matrix[u][v]]
    if v < last:
      edges.append(records.Edge(names[cell.operations[v]], 2 * v, 2 * v + 1))
  block = records.Block((records.Node(width),) * (2 * last - 1), tuple(edges))
  return zoo.nasbench1shot1.graph(next(iter(nasbench1shot1.PARENTS)))._replace(
      name="nasbench101", blocks=(block,))


def in_text(row: Mapping[str, Any]) -> str:
  """What a search found as the field writes it; of a chain, its blocks."""
  if "cell" in row:
    return row["cell"]
  found = architecture(row)
  return exports.shortest(found) or of_chain(found)


def of_chain(found: records.BlockNetwork) -> str:
  """The operations of a chain's layers, with their channels and strides."""
  before, said = found.stem[-1].width, []
  for block in found.blocks:
    names, last = [edge.operation for edge in block.edges], block.nodes[-1]
    kernel = next(name for name in names if name.startswith("depthwise"))
    stride = f", /{last.stride}" * (last.stride > 1)
    said.append(f"mbconv{block.nodes[0].width // before}_"
                f"{kernel.rpartition('_')[-1]}"
                f"{'_se' * ('squeeze_excite' in names)}({last.width}{stride})")
    before = last.width
  return " ".join(said)


def _code(text):
  """A text as code in a table."""
  return "`{}`".format(text.replace("|", "\\|"))


def _drawn(space, method, row):
  """A link to the picture of what a search found."""
  return f"[drawn]({picture(space, method, row['seed'])})"


def _looked_up(found, known):
  """Table 5 and the rankings."""
  names = list(known)
  rows = [[TITLES[method], *(recording.spread(
      [row["accuracy"][name] for row in seeds], 2) for name in names)]
          for method, seeds in found.items()]
  rows += [[title, *(f"{values[name]:.2f}" for name in names)]
           for title, values in nasbench201_search.PUBLISHED.items()]
  rows.append(["best cell", *(f"{known[n]['optimum']:.2f}" for n in names)])
  return [
      *recording.table(("test accuracy, %", *names), rows), "",
      *_courses_in_words(found), "", *(
          line for name in names for line in (
              f"![true accuracy over epochs, {name}](accuracy-{name}.svg)", "")
      ), *_ranks_in_words(found),
      "Cells:", "", *recording.table(
          ("", "seed", "cell", "", f"true accuracy, {TRUE}, %"),
          [[TITLES[method], row["seed"], _code(row["cell"]),
            _drawn("nasbench201", method, row), f"{row['accuracy'][TRUE]:.2f}"]
           for method, seeds in found.items() for row in seeds])]


def indicated(found: Mapping[str, Any]) -> dict[str, Any]:
  """The searches of methods that weigh an edge's operations, by method."""
  return {method: seeds for method, seeds in found.items() if all(
      row["ranks"] for row in seeds)}


def _ranks_in_words(found):
  """Figures 3, 6 and 9 to 14, if a method weighs operations."""
  own = indicated(found)
  if not own:
    return []
  edges = ["{} -> {}".format(*edge) for edge in cells.EDGES]
  ranked = [[f"{TITLES[method]}, {RANKS[kind]}", *(
      recording.spread(some, 2) if some else "-"
      for some in taus(seeds, kind)), recording.spread(
          [tau for some in taus(seeds, kind) for tau in some] or [np.nan], 2)]
            for kind in RANKS for method, seeds in own.items()]
  best = {(e, name): accuracy for seeds in own.values()
          for e, edge in enumerate(seeds[0]["ranks"])
          for name, accuracy in zip(
              edge["operations"], edge["best"], strict=True)}
  weights = lambda seeds, e, name: [
      row["ranks"][e]["indicator"][row["ranks"][e]["operations"].index(name)]
      for row in seeds if name in row["ranks"][e]["operations"]]
  return [
      "Kendall's tau of an edge's operations by their indicator (attention, or"
      f" what alpha weighs them) and by true accuracy on {TRUE} (Figures 3 and"
      " 6):", "", *recording.table(("accuracy", *edges, "all"), ranked), "", *(
          line for kind, words in RANKS.items() for line in (
              f"Accuracy {words} ({FIGURES[kind]}):", "",
              f"![ranks by accuracy {words}](ranks-{kind}.svg)", "")),
      "Ranks, the highest is the best, means over searches; the numbers are of"
      f" operations: {_numbered(found)}.", "",
      "The same by value (Figures 9 to 14, an edge each), indicators as means"
      " over searches:", "", *recording.table(
          ("edge", "operation", "of the best cell with it, %",
           *(TITLES[method] for method in own)),
          [[edges[e], name, f"{accuracy:.2f}", *(
              f"{np.mean(some):.5f}" if some else "-"
              for some in (weights(seeds, e, name) for seeds in own.values()))]
           for (e, name), accuracy in best.items()]), ""]


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
      ("space", "method", "seed", "cell", "", "test regret, points"),
      [[space, TITLES[method], row["seed"], _code(row["cell"]),
        _drawn(space, method, row), f"{row['regret'][-1]:.2f}"]
       for space, methods in found.items()
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
  return [*recording.table(
      ("space", "method", "test error, %", "of the paper, %", "parameters, K",
       "multiply-adds, M", "supernet, %", "found in it, %", "skips", "ties",
       "seconds of a search"), rows), "", *(
           f"- {space}, {TITLES[method]}, seed {row['seed']},"
           f" {_drawn(space, method, row)}: `{in_text(row)}`"
           for space, methods in found.items()
           for method, seeds in methods.items() for row in seeds)]


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
      own = part.trained(dataset, space)
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
  """Draws what was found, accuracy and regret over epochs, and ranks."""
  (folder / CELLS).mkdir(parents=True, exist_ok=True)
  for part in result["parts"].values():
    for space, methods in part.items():
      for method, seeds in methods.items():
        for row in seeds:
          drawing.save(
              folder / picture(space, method, row["seed"]), architecture(row),
              title=f"{space}, {TITLES[method]}, seed {row['seed']}")
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
  found = result["parts"]["nasbench201"]["nasbench201"]
  mean = lambda seeds, e, key: np.mean(
      [stats.rankdata(row["ranks"][e][key]) for row in seeds], 0)
  panels = {kind: {f"{TITLES[method]}, edge {{}} -> {{}}".format(*edge): [*zip(
      mean(seeds, e, "indicator"), mean(seeds, e, kind), strict=True)]
                   for e, edge in enumerate(cells.EDGES)
                   for method, seeds in indicated(found).items()}
            for kind in RANKS}
  for suffix in ("svg", "png"):
    for name, known in result["baselines"].items():
      figures.over_epochs(
          {TITLES[method]: over(seeds, lambda row, name=name: [
              value[name] for value in row["curve"]])
           for method, seeds in found.items()},
          folder / f"accuracy-{name}.{suffix}", f"true accuracy, {name}, %",
          {"best": known["optimum"], "random": known["mean"]})
    for kind, some in panels.items():
      if some:
        figures.rankings(
            some, folder / f"ranks-{kind}.{suffix}", "rank of the indicator",
            f"rank of the accuracy ({FIGURES[kind]})")
