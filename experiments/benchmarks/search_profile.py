"""Where an iteration of DARTS and of EnTranNAS goes, part by part.

What: the processor time of one iteration of each search as `search.py` has it,
and of its parts, compiled by themselves at the shapes and as often as they are
run there: every operation on every kind of edge (its forward pass, and its
backward pass, which computes the forward pass again), the convolutions before
cells, stem and head, the optimizers. What is left over is what stands between
the parts: sums of nodes, copies of buffers, weights that are read and gradients
that are added by row, the loops.

Commands:
  python experiments/benchmarks/search_profile.py \
      --report experiments/benchmarks/README.md
  python experiments/benchmarks/search_profile.py --init-channels 4 --cells 3 \
      --batch-size 4 --image-size 8
Expected time on 2 CPU cores: 10 minutes.
"""

import argparse
import collections
from collections.abc import Callable, Sequence
import os
import shlex
import statistics
import sys
import time
from typing import Any

import environment
import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
environment.configure()

import flax.linen as nn  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import search_sides  # noqa: E402
import tables  # noqa: E402

from natjax.networks import rules  # noqa: E402
from natjax.training import devices as devices_lib  # noqa: E402

ROWS = ("darts", "entrannas", "entrannas shared")
_GRADIENTS = 2  # Of an iteration: for alpha and for the weights.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--init-channels", type=int, default=16)
  parser.add_argument("--cells", type=int, default=8)
  parser.add_argument("--batch-size", type=int, default=64)
  parser.add_argument("--image-size", type=int, default=32)
  parser.add_argument("--repeats", type=int, default=5,
                      help="of everything that is timed; the median counts")
  parser.add_argument("--seed", type=int, default=0)
  tables.add_flags(parser, "Where the time of a search goes")
  return parser.parse_args(argv)


def milliseconds(run: Callable[[], Any], repeats: int) -> float:
  """The median processor time of a call, after one that is not counted."""
  jax.block_until_ready(run())
  found = []
  for _ in range(repeats):
    began = time.process_time()
    jax.block_until_ready(run())
    found.append(1e3 * (time.process_time() - began))
  return statistics.median(found)


class Parts:
  """Times of modules, each shape once.

  Attributes:
    batch: images.
    repeats: as the flag says.
  """

  def __init__(self, batch: int, repeats: int):
    self.batch, self.repeats = batch, repeats
    self._known: dict[Any, float] = {}

  def time(self, key: Any, module: Any, shape: tuple[int, ...], *,
           again: bool) -> float:
    """Processor ms of a gradient through a module.

    Args:
      key: by which its time is known.
      module: a linen module or a function.
      shape: of its input, without the batch.
      again: whether the forward pass is computed twice, as on edges.
    """
    if key not in self._known:
      self._known[key] = self._time(module, (self.batch, *shape), again)
    return self._known[key]

  def _time(self, module, shape, again):
    x = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    variables, apply = {}, lambda variables, x: module(x)
    if isinstance(module, nn.Module):
      variables = module.init(jax.random.key(0), x)
      apply = lambda variables, x: jax.tree.leaves(
          module.apply(variables, x))[-1]
    forward = jax.jit(apply)
    y = forward(variables, x)
    pull = jax.jit(lambda variables, x, g: jax.vjp(apply, variables, x)[1](g))
    spent = milliseconds(lambda: pull(variables, x, y), self.repeats)
    if again:
      spent += milliseconds(lambda: forward(variables, x), self.repeats)
    return spent


def features(method: Any, state: Any) -> collections.Counter:
  """How often which operation runs at which shapes, in one gradient."""
  plan, runner = method.supernet.plan, method.supernet.runner()
  found: collections.Counter = collections.Counter()
  for i, how in enumerate(method.how(state.alpha, jnp.zeros((), jnp.int32))):
    cell = plan.cell(i)
    for edges in plan.passes(i):
      numbers, *_, live = runner._features(
          cell, edges, rules.Data(how.value[:len(cell.edges)]),
          cell.num_nodes + 2)
      for number, runs in zip(numbers.value, np.asarray(live), strict=True):
        found[edges.names[number], edges.ends] += int(runs)
  return found


def profile(row: search_sides.Row, args: argparse.Namespace,
            parts: Parts) -> dict[str, tuple[float, float]]:
  """Of a search's parts how often they run, and their ms, per iteration."""
  plan = search_sides.make_plan(row, args)
  method = plan.method.init.__self__
  state = method.init(jax.random.key(args.seed))
  runner, store = method.supernet.runner(), method.supernet.plan
  found: dict[str, tuple[float, float]] = {}

  def add(name, count, each):
    before = found.get(name, (0.0, 0.0))
    found[name] = before[0] + count, before[1] + count * each

  for (name, ends), count in features(method, state).items():
    if count:
      add(name, _GRADIENTS * count, parts.time(
          (name, ends), runner.module(name, ends),
          (ends.size, ends.size, ends.in_channels), again=True))
  for i in range(len(store.shapes)):
    block = store.network.blocks[i]
    for module, edge in zip(runner.prefix(i), block.edges, strict=False):
      ends = store.shapes[i].ends(edge)
      add("before cells", _GRADIENTS, parts.time(
          (edge.operation, ends, "prefix"), module,
          (ends.size, ends.size, ends.in_channels), again=False))
  last = store.shapes[-1].output
  for name, shape in (
      ("stem", (args.image_size, args.image_size, 3)),
      ("head", (last.size, last.size, last.width))):
    add("stem and head", _GRADIENTS, parts.time(
        name, runner.layers(name), shape, again=False))
  for name, step, grads in (
      ("optimizer of the weights", method.descend, state.params),
      ("optimizer of alpha", method.descend_alpha, state.alpha)):
    update = jax.jit(step)
    add(name, 1, milliseconds(
        lambda update=update, grads=grads: update(state, grads),
        parts.repeats))
  search = search_sides.Search(plan, args)
  whole = milliseconds(search.iterate, parts.repeats)
  found["between the parts"] = 0.0, whole - sum(ms for _, ms in found.values())
  found["the iteration"] = 1, whole
  return found


def table(found: dict[str, dict[str, tuple[float, float]]]) -> list[str]:
  """Every part of all searches."""
  names = list(dict.fromkeys(name for row in found.values() for name in row))
  names.sort(key=lambda name: (name == "the iteration",
                               name == "between the parts"))
  rows = []
  for name in names:
    line: list[str] = [name]
    for row in found.values():
      count, ms = row.get(name, (0.0, 0.0))
      line += [f"{count:.0f}" if count else "", f"{ms:.0f}",
               f"{100 * ms / row['the iteration'][1]:.0f} %"]
    rows.append(line)
  heads = [f"{side} {what}" for side in found for what in (
      "runs", "CPU ms", "share")]
  return tables.table(("part", *heads), rows)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  devices_lib.configure_compilation()
  lines = tables.machine(
      shlex.join(["python", "experiments/benchmarks/search_profile.py", *argv]),
      [f"C={args.init_channels}, {args.cells} cells, batch {args.batch_size},"
       f" {args.image_size}x{args.image_size}, float32; processor time of all"
       f" threads, the median of {args.repeats}; parts are compiled by"
       " themselves"])
  print("\n".join(lines), flush=True)
  parts = Parts(args.batch_size, args.repeats)
  rows = {row.name: row for row in search_sides.ROWS}
  found = {}
  for name in ROWS:
    found[name] = profile(rows[name], args, parts)
    print(name, flush=True)
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())
  lines += ["", *table(found), "", f"Load average at the end: {after}"]
  print("\n".join(["", f"## {args.title}", "", *lines]))
  if args.report is not None:
    tables.write_section(args.report, args.title, lines)


if __name__ == "__main__":
  main()
