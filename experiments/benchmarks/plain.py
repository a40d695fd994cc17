"""Measures training steps of plain networks against PyTorch's.

What: a step of SGD with momentum, the gradient clipped, on images of noise,
float32, on 2 CPU threads, of networks as they are:
  torch: the same network, run eagerly (`torch_plain.py`);
  natjax: the update of natjax's own training, as a job builds it, in a loop.
The numbers of parameters must be equal.

The sides' processes, their turns and their memory are those of `search.py`.

Commands:
  python experiments/benchmarks/plain.py --torch-python TORCH
  python experiments/benchmarks/plain.py --torch-python TORCH \
      --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/plain.json
Expected time on 2 CPU cores: ten minutes.
Needs torch, in this interpreter or in that of --torch-python.
"""

import argparse
from collections.abc import Sequence
import functools
import json
import os
import pathlib
import sys
import time
from typing import Any, NamedTuple

import search  # Sets the environment, before jax is imported.

# isort: split
import flags
import jax
import numpy as np
import tables
import workers

from natjax import zoo
from natjax.selftest import programs
from natjax.training import devices as devices_lib


class Row(NamedTuple):
  """What is timed.

  Attributes:
    network: of the zoo.
    image_size: side of the images.
    target: of PyTorch's time, None where nothing was asked for.
  """

  network: str
  image_size: int
  target: float | None = None


NATJAX = "natjax"
ROWS = {
    "resnet20, 8x8": Row("resnet20", 8),
    "resnet20, 16x16": Row("resnet20", 16),
    "resnet20, 32x32": Row("resnet20", 32, 0.8),
    "vgg16-bn, 16x16": Row("vgg16-bn", 16),
    "mobilenetv2, 32x32": Row("mobilenetv2", 32, 0.6),
    "darts, 32x32": Row("darts", 32, 0.6)}
SIZES = ("network", "image_size", "batch_size", "init_channels", "cells",
         "threads", "seed", "edges")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  search.add_torch_flags(parser)
  parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
  parser.add_argument("--init-channels", type=int, default=16,
                      help="of DARTS's cells")
  parser.add_argument("--cells", type=int, default=8)
  return search.parse_flags(parser, argv, "Plain networks, CPU, float32",
                            sized=False)


def start(name: str, args: argparse.Namespace):
  """Builds a row's training and takes a step; see `workers`."""
  devices_lib.configure_compilation()
  jax.devices()
  imported, row = workers.resident_mb(), ROWS[name]
  batch = args.batch_size
  sizes = programs.Sizes(
      args.init_channels, args.init_channels, args.cells, row.image_size,
      batch, batch, batch, 8 * batch)
  program = programs.plain(sizes, row.network)
  runner = programs.Runner(program)
  lowered, began = runner.seconds, time.perf_counter()
  runner.compile()
  compiled = time.perf_counter() - began
  runner.run(1)
  return {"parameters": sum(
      leaf.size for leaf in jax.tree.leaves(program.state.params)),
          "lower_seconds": lowered, "compile_seconds": compiled,
          "temporaries_mb": runner.temporaries_mb, "imported_mb": imported}, (
              functools.partial(runner.run, 1))


def torch_flags(name: str, args: argparse.Namespace) -> argparse.Namespace:
  """The flags of PyTorch's side of a row."""
  row, edges = ROWS[name], None
  architecture = zoo.get(row.network)
  if architecture.kind != "blocks":
    edges = [cell.edges for cell in architecture]
  return argparse.Namespace(**{
      **vars(args), "network": row.network, "image_size": row.image_size,
      "edges": json.dumps(edges)})


def table(found: dict[str, dict[str, Any]]) -> list[str]:
  """Both sides' steps of every network, and natjax's share of PyTorch's."""
  rows = []
  for name, row in ROWS.items():
    ours = found.get(f"{NATJAX}, {name}")
    if ours is None:
      continue
    theirs = found.get(f"{search.TORCH}, {name}")
    ratios = [""] * 3
    if theirs is not None:
      wall, cpu = (np.array(ours[key]) / np.array(theirs[key])
                   for key in ("seconds", "cpu_seconds"))
      ratios = [tables.spread(wall, digits=2), tables.spread(cpu, digits=2), (
          "" if row.target is None
          else tables.verdict(float(np.median(wall)), row.target))]
    milliseconds = lambda side: "" if side is None else " / ".join(
        f"{1e3 * np.median(side[key]):.1f}" for key in (
            "seconds", "cpu_seconds"))
    rows.append((name, ours["parameters"], milliseconds(ours),
                 milliseconds(theirs), *ratios,
                 f"{ours['cold']['lower_seconds']:.1f}",
                 f"{ours['cold']['compile_seconds']:.1f}",
                 f"{ours['temporaries_mb']:.0f}"))
  return tables.table(
      ("network", "parameters", "natjax, ms / CPU ms", "torch, ms / CPU ms",
       "time", "CPU time", "target", "lower s", "XLA compile s",
       "temporaries MB"), rows)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  if args.work is not None:
    return workers.serve(functools.partial(start, args.work, args))
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])

  # Where.
  script = pathlib.Path(__file__).name
  lines = tables.machine(search.command_of(argv, script), [
      f"batch {args.batch_size}, float32, {args.threads} threads; DARTS's cells"
      f" at C={args.init_channels}, {args.cells} cells; {args.rounds} rounds of"
      f" {args.steps} steps after one discarded; median [quartiles]",
      "time and CPU time, of all threads, are natjax's over PyTorch's in the"
      " same round"])
  if os.environ.get("OMP_WAIT_POLICY"):
    lines.append(f"- OMP_WAIT_POLICY `{os.environ['OMP_WAIT_POLICY']}`")
  names = [NATJAX]
  if not args.skip_torch and search.has_torch(args.torch_python):
    names.insert(0, search.TORCH)
  elif not args.skip_torch:
    lines.append(f"- left out: {search.TORCH}, which the interpreter of"
                 " --torch-python lacks")
  print("\n".join(lines), flush=True)

  # Measure.
  found: dict[str, dict[str, Any]] = {}
  for row in args.rows:
    pair = search.measure(names, lambda side, cache, row=row: (
        search.start_torch(torch_flags(row, args), "torch_plain.py", SIZES)
        if side == search.TORCH
        else search.start_natjax(row, argv, cache, script)), args)
    counts = {side["parameters"] for side in pair.values()}
    if len(counts) > 1:
      raise AssertionError(f"{row}: numbers of parameters differ: {counts}")
    found |= {f"{side}, {row}": figures for side, figures in pair.items()}
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())
  search.write(args, lines, found, ["", *table(found)], after)
  return None


if __name__ == "__main__":
  main()
