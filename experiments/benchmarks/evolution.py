"""Measures evolution over a table against plain Python over a dictionary.

What: candidates that are scored per second by an evolution whose scores stand
in a table (`natjax.methods.evolution`, the authors' settings of SPOS: 20
generations of 50). Both sides find as many candidates, none twice:
  python: candidates are tuples, scores stand in a dictionary and what was
    visited in a set, drawn with the random module;
  natjax, one seed: one program per evolution;
  natjax, many seeds: the same evolutions at once, mapped over seeds.
Sides take turns, round by round; programs are compiled before. The regret, best
score of the table less that which was found, and how many candidates were
scored until then, means over seeds with their standard errors, say that both do
the same. Both have one core where one is theirs (`taskset -c 0`).

Commands, with a table of each benchmark, as `natjax benchmark` reads it:
  python experiments/benchmarks/evolution.py --nasbench201 TABLE
  python experiments/benchmarks/evolution.py --nasbench201 TABLE \
      --nasbench-macro TABLE --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/evolution.json
Expected time on a CPU core: a minute.
"""

from collections.abc import Callable, Sequence
import json
import os
import pathlib
import random
import shlex
import sys
import time
from typing import Any, NamedTuple

import environment
import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
environment.configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import tables  # noqa: E402

from natjax.benchmarks import table_search  # noqa: E402
from natjax.methods import evolution  # noqa: E402

CONFIG = evolution.EvolutionConfig()
BENCHMARKS = ("nasbench201", "nasbench-macro")
TARGET = 20.0  # Times as many candidates per second as plain Python.


class Table(NamedTuple):
  """A table as both sides have it.

  Attributes:
    counts: choices of every place.
    score: of genes i32[B, P], f32[B], traced.
    known: score of every candidate, by its genes.
  """

  counts: tuple[int, ...]
  score: Callable[[jax.Array], jax.Array]
  known: dict[tuple[int, ...], float]


def read(name: str, path: str) -> Table:
  """Reads a benchmark's table."""
  problem = table_search.problem(name, path)
  genes = np.stack(np.unravel_index(
      np.arange(np.prod(problem.counts)), problem.counts), -1)
  scores = problem.score[np.asarray(problem.find(jnp.asarray(genes)))]
  device = jnp.asarray(problem.score, jnp.float32)
  return Table(
      problem.counts, lambda genes: device[problem.find(genes)],
      dict(zip(map(tuple, genes.tolist()), scores.tolist(), strict=True)))


def plain(table: Table, rng: random.Random) -> list[float]:
  """The same evolution in plain Python; the scores of what it visited."""
  counts, known, c = table.counts, table.known, CONFIG
  places = range(len(counts))
  seen: set[tuple[int, ...]] = set()
  scores: list[float] = []
  best: list[tuple[float, tuple[int, ...]]] = []

  def draw():
    return tuple([int(rng.random() * count) for count in counts])

  def mutation():
    parent = rng.choice(best)[1]
    return tuple([int(rng.random() * counts[p])
                  if rng.random() < c.mutation_probability else parent[p]
                  for p in places])

  def crossover():
    one, other = rng.choice(best)[1], rng.choice(best)[1]
    return tuple([one[p] if rng.random() < 0.5 else other[p] for p in places])

  def add(children, make, wanted, tries):
    for _ in range(tries):
      if len(children) >= wanted:
        return
      child = make()
      if child not in seen:
        seen.add(child)
        children.append(child)

  for generation in range(c.generations):
    children: list[tuple[int, ...]] = []
    if generation:
      add(children, mutation, c.mutations, 10 * c.mutations)
      add(children, crossover, len(children) + c.crossovers,
          10 * c.crossovers)
    add(children, draw, c.population, 1000 * c.population)
    found = [known[child] for child in children]
    scores += found
    best = sorted([*best, *zip(found, children, strict=True)],
                  key=lambda pair: -pair[0])[:c.parents]
  return scores


def measure(table: Table, seeds: int, rounds: int) -> dict[str, Any]:
  """Candidates per second, and regrets, of all sides.

  Args:
    table: as both sides have it.
    seeds: evolutions of a round.
    rounds: visits to every side.
  """
  search = evolution.Evolution(table.counts, CONFIG)
  run = lambda key: search.run(key, table.score)[1]
  keys = jax.random.split(jax.random.key(0), seeds)
  began = time.perf_counter()
  single = jax.jit(run).lower(keys[0]).compile()
  many = jax.jit(jax.vmap(run)).lower(keys).compile()
  compiled = time.perf_counter() - began
  most = max(table.known.values())
  sides: dict[str, Callable[[], np.ndarray]] = {
      "python": lambda: np.array([
          plain(table, random.Random(seed)) for seed in range(seeds)]),
      "natjax, one seed": lambda: np.array([
          np.asarray(single(key)).reshape(-1) for key in keys]),
      "natjax, many seeds": lambda: np.asarray(many(keys)).reshape(seeds, -1)}
  found: dict[str, Any] = {name: {"per_second": []} for name in sides}
  for number in range(rounds + 1):  # The first is not counted.
    for name, side in sides.items():
      began = time.perf_counter()
      scores = side()
      took = time.perf_counter() - began
      if number:
        found[name]["per_second"].append(scores.size / took)
      assert np.isfinite(scores).all()  # All places were filled.
      found[name] |= {"regret": (most - scores.max(1)).tolist(),
                      "until": (1 + scores.argmax(1)).tolist()}
  return {"candidates": len(table.known), "seeds": seeds,
          "compile_seconds": compiled, "sides": found}


def mean(values: Sequence[float], digits: int) -> str:
  """Mean and its standard error."""
  error = np.std(values, ddof=1) / len(values)**0.5 if len(values) > 1 else 0.0
  return f"{np.mean(values):.{digits}f} ± {error:.{digits}f}"


def report(figures: dict[str, Any]) -> list[str]:
  """The tables of all problems."""
  lines: list[str] = []
  for name, figure in figures.items():
    plain_rate = np.array(figure["sides"]["python"]["per_second"])
    rows = []
    for side, found in figure["sides"].items():
      rate = np.array(found["per_second"])
      ratio = rate / plain_rate  # Of neighbours.
      rows.append((
          side, tables.spread(rate, 1e-3, 0), "" if side == "python" else (
              tables.spread(ratio, 1, 1)), "" if side == "python" else (
                  f">= {TARGET:g}: " + (
                      "met" if np.median(ratio) >= TARGET else "missed")),
          mean(found["regret"], 3), mean(found["until"], 0)))
    lines += [
        "", f"{name}, {figure['candidates']} candidates, {figure['seeds']}"
        f" evolutions a round; both programs compiled in"
        f" {figure['compile_seconds']:.1f} s", "", *tables.table((
            "side", "thousand candidates per second", "times python", "target",
            "regret", "candidates until the best"), rows)]
  return lines[1:]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the benchmark."""
  parser = flags.Parser(
      description=__doc__.partition("\n")[0])
  for name in BENCHMARKS:
    parser.add_argument(f"--{name}", metavar="TABLE")
  parser.add_argument("--seeds", type=int, default=64, metavar="N")
  parser.add_argument("--rounds", type=int, default=5, metavar="N")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE")
  parser.add_argument("--report", type=pathlib.Path, metavar="FILE")
  args = parser.parse_args(argv)
  given = {name: path for name in BENCHMARKS if (
      path := getattr(args, name.replace("-", "_")))}
  if not given:
    parser.error(f"name a table, by --{' or --'.join(BENCHMARKS)}")
  figures = {name: measure(read(name, path), args.seeds, args.rounds)
             for name, path in given.items()}
  command = [*(sys.argv[1:] if argv is None else argv)]
  for path in given.values():
    command[command.index(path)] = "TABLE"
  lines = [*tables.machine(
      f"python experiments/benchmarks/evolution.py {shlex.join(command)}",
      [f"{CONFIG.generations} generations of {CONFIG.population}, rounds"
       f" {args.rounds} after one discarded; median [quartiles]"]), "",
           *report(figures)]
  print("\n".join(lines))
  if args.json:
    args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
  if args.report:
    tables.write_section(args.report, "Evolution over a table", lines)
  return 0


if __name__ == "__main__":
  sys.exit(main())
