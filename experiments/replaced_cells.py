"""`replace` on NAS-Bench-201's cells, under a budget, where the truth is known.

`natjax transform --method replace` makes a trained network cheaper at little
loss. So that what it returns is again a cell of the table, only the table's
operations may take another's place (`--operations`), one choice per edge serves
all copies of the cell (`--share cell`), and the residual blocks between the
stages, which the benchmark never changes, are kept (`--keep`).

The network is trained at the experiment's size; the budget is a share of the
multiply-adds of the benchmark's own network, since what stands around the cells
weighs more in a smaller one. Under the same budget stand, all of them exact:
- the best by the truth of all cells that replace could return, and of all that
  NAT++'s valid transitions reach;
- a random one of those that replace could return: their mean;
- of these the dearest and the cheapest, two rules that look at no image; of
  equally dear ones the mean.
What replace could return keeps every node fed, as a valid transition need not:
so the random one is no straw man. A cell is judged where every budget can be
kept, and where every operation leads to the output: what leads nowhere is left
out for nothing. The method runs once, under the tightest budget: what is learnt
and priced before the choice knows no budget, and the choices under the others
are made from the same prices, by the same integer program. The choice is judged
whether or not the method would return it: what comes of its comparison on
images that are held out, after which it may return the given cell instead,
which exceeds the budget, is told beside it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import itertools
import pathlib
from typing import Any

import known_truth
import numpy as np
import recording
import transforming

from natjax import data as data_lib
from natjax import pipeline
from natjax.costs import budget as budget_lib
from natjax.costs import exact
from natjax.graph import blocks, records
from natjax.graph import nasbench201 as cells
from natjax.methods import replace_config, replacements, supervised
from natjax.pipeline import run_files

OPERATIONS = ",".join(cells.CANDIDATES)
_EDGES = len(cells.EDGES)
# What stands beside the choice, in the order of the report.
RIVALS = {
    "oracle": "the best that it could return",
    "oracle_natpp": "the best of NAT++'s valid transitions",
    "random": "a random one that it could return, the mean",
    "dearest": "the dearest that it could return",
    "cheapest": "the cheapest that it could return"}


def build(names: Sequence[str], repeats: int, width: float
          ) -> records.BlockNetwork:
  """The network of a cell, at the experiment's size."""
  return blocks.scale(known_truth.network(names, repeats), width)


def settings(config: replace_config.ReplaceConfig,
             network: records.BlockNetwork) -> replace_config.ReplaceConfig:
  """The settings by which what comes out is a cell of the table."""
  return dataclasses.replace(config, operations=OPERATIONS, keep=",".join(
      f"blocks:{i}" for i, block in enumerate(network.blocks)
      if len(block.edges) != _EDGES))


class Choices:
  """What replace could make of a cell, without an image.

  Attributes:
    code: of the given cell.
    codes: i[R] of the cells that it could return, each once.
    space: the library's choices.
  """

  def __init__(self, truth: known_truth.Truth, code: int, repeats: int,
               width: float, place: records.Place):
    """Args:
      truth: what is known.
      code: of the given cell.
      repeats: cells per stage.
      width: factor of the widths.
      place: where the network is trained.

    Raises:
      InputError: nothing in the cell can be replaced.
    """
    self._truth, self.code, self._place = truth, code, place
    self._sizes = repeats, width
    network = build(known_truth.names_of(code), repeats, width)
    self.space = replacements.Replacements(
        network, place, "cell", settings(
            replace_config.ReplaceConfig(), network).keep, allowed=OPERATIONS)
    self._all = np.array([*itertools.product(*(
        range(len(one.names)) for one in self.space.places))], np.int32)
    every, fed = self.made(self._all)
    self._all, self._every = self._all[fed], every[fed]
    self.codes = np.unique(self._every)

  def made(self, choices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The codes i[M] of choices i[M, P], and whether what is read is fed.

    What leads nowhere is null (`replacements`).
    """
    given = cells.decode(np.int32(self.code))
    ops = np.repeat(given[None], len(choices), 0)
    edges = self.space.architecture.blocks[0].edges
    for p, place in enumerate(self.space.places):
      own = edges[place.edge]
      e = cells.EDGES.index((own.source - 1, own.target - 1))
      ops[:, e] = np.array([
          cells.CANDIDATES.index(name) for name in place.names])[choices[:, p]]
    ops, fed = _live(ops), np.ones(len(ops), bool)
    for node in (1, 2, 3):
      if given[_into(node)].any():  # Or it never was.
        read = ops[:, _out(node)].any(1) if node < 3 else True
        fed &= ops[:, _into(node)].any(1) | ~np.asarray(read)
    return cells.encode(ops), fed

  def under(self, share: float) -> np.ndarray:
    """The codes i[R] that keep to a share of the given cell's multiply-adds."""
    return self._within(self.codes, share)

  def _within(self, codes, share):
    madds = self._truth.madds
    return codes[madds[codes] <= share * madds[self.code] + 1e-6]

  def limit(self, share: float) -> int:
    """The same budget in multiply-adds of the network that is trained."""
    return max(self.madds(code) for code in self.under(share).tolist())

  def madds(self, code: int) -> int:
    """Multiply-adds of a cell's network that is trained."""
    return int(_edge_madds(*self._sizes, self._place)[
        cells.decode(np.int32(code))].sum()
               + _around(*self._sizes, self._place))

  def rivals(self, share: float) -> dict[str, float]:
    """Points gained by what stands beside the choice under a budget."""
    codes, truth = self.under(share), self._truth
    reach = truth.reach["natpp"][cells.decode(np.int32(self.code))]
    every = cells.encode(np.array([*itertools.product(*map(
        np.flatnonzero, reach))], np.int32))
    of = lambda some: float(
        truth.accuracy[some].mean() - truth.accuracy[self.code])
    madds = truth.madds[codes]
    best = lambda some: some[[np.argmax(truth.accuracy[some])]]
    return {
        "oracle": of(best(codes)),
        "oracle_natpp": of(best(self._within(every, share))),
        "random": of(codes),
        "dearest": of(codes[madds > madds.max() - 1e-6]),
        "cheapest": of(codes[madds < madds.min() + 1e-6])}

  def choose(self, prices: Sequence[np.ndarray], share: float) -> int:
    """The code of the choice of least price under a budget."""
    choice = self.space.choose(
        prices, budget_lib.Budget(madds=self.limit(share)))
    return known_truth.code_of(self.space.apply(choice))

  def prices(self, rows: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
    """Prices per place f[O], from those of a report."""
    return self.space.by_place(np.array([row["price"] for row in rows]))

  def tau(self, prices: Sequence[np.ndarray]) -> float:
    """Kendall's tau of the prices, the other way round, and the truth."""
    return known_truth.kendall((-self.least(prices)[self.codes]).tolist(),
                               self._truth.accuracy[self.codes].tolist())

  def least(self, prices: Sequence[np.ndarray]) -> np.ndarray:
    """f[15625], by code the least that is paid for a cell."""
    sums = sum(own[self._all[:, p]] for p, own in enumerate(prices))
    least = np.full(cells.COUNT, np.inf)
    np.minimum.at(least, self._every, sums)
    return least


@functools.cache
def _around(repeats, width, place):
  """Multiply-adds of a network whose cells are null."""
  network = build([cells.CANDIDATES[0]] * _EDGES, repeats, width)
  return exact.network(network, place).madds


@functools.cache
def _edge_madds(repeats, width, place):
  """i[5], multiply-adds that each operation adds on an edge."""
  others = [cells.CANDIDATES[0]] * (_EDGES - 1)
  return np.array([exact.network(build(
      [name, *others], repeats, width), place).madds - _around(
          repeats, width, place) for name in cells.CANDIDATES])


def place_of(train: supervised.TrainConfig, dataset: data_lib.Dataset
             ) -> records.Place:
  """Where the networks are trained."""
  return supervised.place_of(
      supervised.resolve(train, "blocks"), "blocks",
      num_classes=dataset.num_classes, image_size=dataset.image_size)


def can_be_judged(truth: known_truth.Truth, code: int,
                  budgets: Sequence[float]) -> bool:
  """Whether replacements keep a cell to every budget, and it has no dead ends.

  What costs nothing can replace every convolution, and nothing else is one.
  What leads nowhere is left out whatever is replaced, which is no choice.
  """
  ops = cells.decode(np.int32(code))[None]
  return bool((_live(ops) == ops).all() and (
      min(budgets) * truth.madds[code] >= truth.madds[0] - 1e-6))


def _live(ops):
  """Operations i[M, 6] in which what leads nowhere is null."""
  ops = ops.copy()
  for node in (2, 1):  # Node 3 is the output.
    for e in _into(node):
      ops[:, e] *= ops[:, _out(node)].any(1)
  return ops


def _into(node):
  return [e for e, (_, target) in enumerate(cells.EDGES) if target == node]


def _out(node):
  return [e for e, (source, _) in enumerate(cells.EDGES) if source == node]


def one(truth: known_truth.Truth, dataset: data_lib.Dataset, code: int,
        seed: int, *, repeats: int, width: float, budgets: Sequence[float],
        config: replace_config.ReplaceConfig,
        train: supervised.TrainConfig, out: pathlib.Path) -> dict[str, Any]:
  """What replace makes of a cell under every budget, judged by the truth.

  Args:
    truth: what is known.
    dataset: the images.
    code: of the cell.
    seed: of everything random.
    repeats: cells per stage.
    width: factor of the widths.
    budgets: shares of the multiply-adds of the benchmark's network.
    config: of the method.
    train: of the network.
    out: the run's folder.
  """
  choices = Choices(truth, code, repeats, width, place_of(train, dataset))
  network = build(known_truth.names_of(code), repeats, width)
  own = dataclasses.replace(settings(config, network), max_madds=str(
      choices.limit(min(budgets))))
  result = pipeline.Job(
      network, dataset, "replace", own, train, share="cell", seed=seed).run(
          out, listener=transforming.listener("replace"))
  report = recording.read(
      out / run_files.NETWORKS / f"transformed-{seed}" / run_files.RESULT)
  prices, trial = choices.prices(report["prices"]), report["tries"][-1]
  found = {}
  for share in budgets:
    after = choices.choose(prices, share)
    found[f"{share:g}"] = {
        "code": after, "gain": truth.gain(code, after),
        "dearer": truth.dearer(code, after),
        "madds": float(truth.madds[after] / truth.madds[code]),
        "params": float(truth.params[after] / truth.params[code]),
        "cells": len(choices.under(share)), **choices.rivals(share)}
  row = {
      "code": code, "accuracy": float(truth.accuracy[code]),
      "rank_correlation": report["rank_correlation"],
      "tau": choices.tau(prices), "budgets": found,
      "accepted": trial["accepted"], "difference": trial["difference"],
      "seconds": round(result["seconds"], 2)}
  transforming.say(
      f"{cells.to_string(known_truth.names_of(code))} {row['accuracy']:.2f}:"
      + "".join(f" under {share} {cell['gain']:+.2f} (oracle"
                f" {cell['oracle']:+.2f}, random {cell['random']:+.2f});"
                for share, cell in found.items()) + f" tau {row['tau']:.2f}")
  return row


# The report.


def lines(found: Mapping[str, Any], given: int) -> list[str]:
  """What is recorded of replace, as a section.

  Args:
    found: "rows", with the "number" of each cell; "config", and of a run of its
      own its circumstances.
    given: how many cells there are, of which some are judged here.
  """
  rows, config = found["rows"], found["config"]
  own = config["replace"]
  tightest = f"{min(config['budgets']):g}"
  lost = np.array([row["budgets"][tightest]["gain"] for row in rows])
  accepted = np.array([row["accepted"] for row in rows])
  told = lambda some: "-" if not len(some) else (
      f"{some.mean():+.2f} points, {some.min():+.2f} at worst")
  parts = [
      "## Replace: cheaper at little loss, under a budget", "",
      f"{len(rows)} of the {given} given cells, spread over those of which"
      " every budget can be kept (without a convolution nothing can be saved)"
      " and no operation leads nowhere."
      " `natjax transform --method replace --share cell` may put only the"
      f" table's operations in place of others (`--operations {OPERATIONS}`),"
      " and leaves the residual blocks between the stages (`--keep`), so that"
      " what it returns is a cell of the table. Budgets are shares of the"
      " multiply-adds of the benchmark's own network. The network of every cell"
      " is trained at the size of the supernet's, as those of the"
      " differentiable transformation are; the replacements learn and are"
      " priced once per cell, and all choices are made from these prices,"
      " exactly. All that stands beside it is exact, too, under the same"
      " budget: replace could return whatever keeps every node fed. Of equally"
      " dear cells the mean is told. Points are of true accuracy, and less than"
      " none where a cell loses; the interval is Student's t over cells.", ""]
  for share in config["budgets"]:
    parts += [f"Under {share:g} of the multiply-adds:", "", *_table(
        [row["budgets"][f"{share:g}"] for row in rows]), ""]
  return [
      *parts,
      f"Under {tightest} the network of every choice was tuned and compared"
      f" with the original on {100 * own['held_out']:g} % of the training"
      " images, which neither had seen, with a tolerance of"
      f" {own['tolerance']:g} points: {accepted.sum()} of {len(rows)} were"
      " accepted (in truth"
      f" {told(lost[accepted])}), the others refused (in truth"
      f" {told(lost[~accepted])}), for which the method returns the given cell"
      " though it exceeds the budget.", "",
      "Tau is Kendall's of the prices' sums and the truth, over all cells that"
      " replace could return, its mean over cells"
      f" {np.mean([row['tau'] for row in rows]):.2f}; the rank correlation is"
      " that of the sums with what choices at random cost the trained network,"
      f" {np.mean([row['rank_correlation'] for row in rows]):.2f}. A cell took"
      f" {np.mean([row['seconds'] for row in rows]):.0f} s, the training of its"
      " network included.", "",
      *_each(rows, config["budgets"]), "",
      *(recording.in_words(found) if "command" in found else [])]


def _table(cells_of: Sequence[Mapping[str, Any]]) -> list[str]:
  """What stands under one budget."""
  of = lambda name: np.array([cell[name] for cell in cells_of])
  mine, random = of("gain"), of("random")
  most = (of("oracle") - random).sum()
  rows = []
  for name, title in {"gain": "replace", **RIVALS}.items():
    own = of(name)
    rows.append([
        title, recording.paired(np.zeros(len(own)), own / 100),
        f"{np.median(own):+.2f}",
        f"{100 * (own - random).sum() / most:.0f} %" if most else "-",
        *(["-"] * 3 if name == "gain" else [
            recording.paired(own / 100, mine / 100),
            (mine > own + 1e-9).sum(), (mine < own - 1e-9).sum()])])
  return recording.table(
      ("", "gained, points (95 % over cells)", "median",
       "of the way from a random one to the best",
       "replace gains over it, points", "replace is better in", "worse in"),
      rows)


def _each(rows, budgets):
  """Every cell, as a table."""
  found = []
  for row in rows:
    found.append([
        row["number"], _written(row["code"]), f"{row['accuracy']:.2f}", *(
            part for share in budgets
            for cell in (row["budgets"][f"{share:g}"],) for part in (
                _written(cell["code"]), f"{cell['gain']:+.2f}",
                f"{cell['oracle']:+.2f}", f"{cell['random']:+.2f}",
                f"{cell['dearest']:+.2f}")),
        f"{row['tau']:.2f}", f"{row['rank_correlation']:.2f}"])
  return recording.table(
      ("", "cell", "true, %", *(
          word for share in budgets for word in (
              f"under {share:g}", "replace", "oracle", "random", "dearest")),
       "tau", "rank correlation"), found)


def _written(code):
  text = cells.to_string(known_truth.names_of(code))
  return f"`{text}`".replace("|", "\\|")
