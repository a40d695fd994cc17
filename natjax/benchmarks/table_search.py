"""Evolution and random search where every score stands in a table.

What both find costs nothing to judge, and the best that there is, is known: the
regret is what lacks to it. All seeds run as one program (`methods.evolution`).

By which accuracy is searched, and which is then reported:
  nasbench201: validation accuracy after 200 epochs; test accuracy;
  nasbench101, nasbench1shot1-1 to -3: mean validation accuracy after 108 epochs
    where the table has it, else test accuracy; test accuracy;
  nasbench-macro: mean test accuracy, since there is no other; the same.
All are in per cent, of CIFAR-10 but for nasbench201.
"""

from collections.abc import Callable, Sequence
import math
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.benchmarks import nasbench101, nasbench201, nasbench_macro
from natjax.graph import nasbench1shot1
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells201
from natjax.graph import nasbench_macro as chains
from natjax.methods import evolution
from natjax.training import settings

METHODS = ("evolution", "random")
BENCHMARKS = ("nasbench101", "nasbench201", "nasbench-macro",
              *nasbench1shot1.PARENTS)
_MOST = 10**7  # Candidates of all seeds; no table has as many.
_PAIRS = np.triu_indices(cells101.VERTICES, 1)


class Problem(NamedTuple):
  """A space whose candidates' scores are known.

  Attributes:
    counts: choices of every place.
    find: `genes i32[B, P] -> i32[B]`, traced: which row of the scores is a
      candidate's, -1 where it has none. Of cells of NAS-Bench-101 it is one
      however they are numbered.
    score: f64[R], by which to search.
    test: f64[R], what is reported.
    names: `genes i[P] -> text`, what a candidate is called.
    best: the best score that a candidate has.
  """

  counts: tuple[int, ...]
  find: Callable[[jax.Array], jax.Array]
  score: np.ndarray
  test: np.ndarray
  names: Callable[[np.ndarray], str]
  best: float


def problem(name: str, path: str | os.PathLike[str],
            dataset: str = "cifar10") -> Problem:
  """Reads a benchmark's table.

  Args:
    name: of `BENCHMARKS`.
    path: of the table; those of NAS-Bench-1Shot1 are NAS-Bench-101's.
    dataset: of nasbench201.

  Raises:
    InputError: no such benchmark, or a table that cannot be read.
  """
  errors.known("benchmark", name, BENCHMARKS)
  if name == "nasbench201":
    columns = nasbench201.read(path).of(dataset)
    score, test = columns["val_200ep"], columns["test_200ep"]
    return Problem(
        (len(cells201.NAMES),) * len(cells201.EDGES), cells201.encode, score,
        test, lambda genes: cells201.to_string(cells201.to_names(genes)),
        float(score.max()))
  if name == "nasbench-macro":
    score = nasbench_macro.read(path).columns["mean_acc"]
    return Problem(
        (len(chains.OPERATIONS),) * chains.LAYERS, chains.encode, score, score,
        chains.to_text, float(score.max()))
  table = nasbench101.read(path)
  test = 100 * table.columns["test_acc_108ep_mean"].astype(np.float64)
  score = 100 * table.columns.get(
      "valid_acc_108ep_mean", table.columns["test_acc_108ep_mean"]).astype(
          np.float64)
  if name == "nasbench101":
    find = table.finder()
    return Problem(
        (2,) * len(_PAIRS[0]) + (len(cells101.OPERATIONS),) * (
            cells101.VERTICES - 2),
        lambda genes: find(*_arrays(genes)), score, test,
        lambda genes: cells101.to_text(cells101.from_arrays(
            *map(np.asarray, cells101.pruned(*(
                part[0] for part in _arrays(genes[None])))))),
        float(score.max()))
  rows = of_1shot1(table, name)
  counts = nasbench1shot1.counts(name)
  place = np.array([math.prod(counts[p + 1:]) for p in range(len(counts))],
                   np.int32)
  device = jnp.asarray(rows)
  return Problem(
      counts, lambda genes: device[(genes * place).sum(-1)], score, test,
      lambda genes: cells101.to_text(nasbench1shot1.cell(name, genes)),
      float(score[rows].max()))


def of_1shot1(table: nasbench101.Table, name: str) -> np.ndarray:
  """Rows i32[R] of NAS-Bench-101's table, of all cells of a space in order.

  Raises:
    InputError: the table lacks a cell.
  """
  genes, found = nasbench1shot1.all_genes(name), []
  for begin in range(0, len(genes), 2**15):
    edges, labels = nasbench1shot1.to_arrays(name, genes[begin:begin + 2**15])
    found.append(table.rows(*cells101.pruned(edges, labels)))
  rows = np.concatenate(found)
  if (rows < 0).any():
    raise errors.InputError(
        f"the table lacks {int((rows < 0).sum())} cells of {name}; give the"
        " whole table of NAS-Bench-101", "table")
  return rows


def _arrays(genes: Any) -> tuple[Any, Any]:
  """Edges [B, 7, 7] and labels [B, 7] of NAS-Bench-101's genes [B, 26]."""
  size, bits = cells101.VERTICES, len(_PAIRS[0])
  at = np.zeros((size, size), int)
  at[_PAIRS] = np.arange(bits) + 1
  padded = jnp.pad(jnp.asarray(genes[:, :bits]), ((0, 0), (1, 0)))
  first = cells101.LABELS.index(cells101.OPERATIONS[0])
  ends = [jnp.full((len(genes), 1), cells101.LABELS.index(end))
          for end in ("input", "output")]
  return padded[:, at], jnp.concatenate(
      [ends[0], jnp.asarray(genes[:, bits:]) + first, ends[1]], axis=1)


def search(problem: Problem, config: evolution.EvolutionConfig,
           seeds: Sequence[int], method: str = "evolution"
           ) -> list[dict[str, Any]]:
  """Searches a table.

  Args:
    problem: the table.
    config: settings of the evolution; a random search has as many candidates,
      none twice.
    seeds: of the searches, which run at once.
    method: of `METHODS`.

  Returns:
    Per seed the "architecture" that scored most with its "score" and "test",
    the "regret" in score, how many were "evaluated", and how many of these
    "until" the best.

  Raises:
    InputError: no such method, or settings that do not fit.
  """
  errors.known("method", method, METHODS)
  if len(seeds) * config.population * config.generations > _MOST:
    settings.refuse(
        config, "generations", f"with a population of {config.population} and"
        f" {len(seeds)} seed(s) makes more than {_MOST} candidates, which are"
        " held at once; give fewer")
  if method == "random":
    config = evolution.drawn(config)
  score = jnp.asarray(problem.score, jnp.float32)
  evolve = evolution.Evolution(
      problem.counts, config, legal=lambda genes: problem.find(genes) >= 0,
      same=evolution.Same(problem.find, len(problem.score)))
  keys = jnp.stack([jax.random.key(seed) for seed in seeds])
  generations, scores = jax.device_get(jax.jit(jax.vmap(lambda key: evolve.run(
      key, lambda genes: score[problem.find(genes)])))(keys))
  found = []
  for seed, genes, fresh, values in zip(
      seeds, generations.genes, generations.fresh, scores, strict=True):
    genes, values = genes[fresh], values[fresh]
    best = int(values.argmax())
    row = int(problem.find(jnp.asarray(genes[best:best + 1]))[0])
    found.append({
        "seed": seed, "architecture": problem.names(genes[best]),
        "score": float(problem.score[row]), "test": float(problem.test[row]),
        "regret": problem.best - float(problem.score[row]),
        "evaluated": len(values), "until": best + 1})
  return found
