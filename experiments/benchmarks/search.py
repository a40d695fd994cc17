"""Measures whole iterations of searches against first-order DARTS in PyTorch.

What: an iteration of the search, a step of the architecture on a validation
batch and then one of the weights on a training batch, at C=16, 8 cells, batch
64, 32x32 images of noise, float32, on 2 CPU threads:
  torch: PyTorch as it is usually written, all operations of every edge run
    eagerly, weighted and summed (`torch_darts.py`);
  the others: the updates of a natjax method as a job builds it, compiled over
    one device (`search_sides.ROWS`; `--row` adds one, a method that does not
    exist is left out and named).

Every side runs in a process of its own; the sides take turns, round by round,
and at every turn the first iteration is discarded. Who waits gives back the
memory that it does not use. Ratios are those of neighbours.
A natjax side is started twice: with an empty cache of compiled programs, which
it fills and ends, and again with that cache; the second process is the one that
is timed, so that its peak of memory is not the compiler's.
Seconds until the first iteration has run count from the process's start.
Memory is the most that was resident of a process; that of its imports, which of
PyTorch depends on how it was built, stands beside it.

PyTorch's threads wait for each other by spinning: where other processes run,
its figures mean nothing. OMP_WAIT_POLICY=PASSIVE has them sleep.

Commands:
  python experiments/benchmarks/search.py
  python experiments/benchmarks/search.py --torch-python TORCH \
      --report experiments/benchmarks/README.md \
      --json experiments/benchmarks/search.json
  python experiments/benchmarks/search.py --rows --row nat nat '{"samples": 2}'
Expected time on 2 CPU cores: half an hour; PyTorch takes about 10 GB.
Needs torch, in this interpreter or in that of --torch-python.
"""

import argparse
from collections.abc import Callable, Sequence
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

import environment
import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
environment.configure()

import numpy as np  # noqa: E402
import search_sides  # noqa: E402
import sides  # noqa: E402
import tables  # noqa: E402
import workers  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TORCH, DARTS = "torch", "darts"
SECOND_START = 10  # Seconds that it may take.
SIZES = ("init_channels", "cells", "batch_size", "image_size", "threads",
         "seed")


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  names = [row.name for row in search_sides.ROWS]
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--rows", nargs="*", choices=names, default=names,
                      help="of natjax")
  parser.add_argument("--row", nargs=3, action="append", default=[],
                      metavar=("NAME", "METHOD", "SETTINGS"),
                      help="one more of natjax, its settings in JSON")
  add_torch_flags(parser)
  parser.add_argument("--init-channels", type=int, default=16)
  parser.add_argument("--cells", type=int, default=8)
  return parse_flags(parser, argv, "Search, CPU, float32")


def add_torch_flags(parser: argparse.ArgumentParser) -> None:
  """Flags of a script that has a side of PyTorch."""
  parser.add_argument("--torch-python", default=sys.executable,
                      help="an interpreter that has torch")
  parser.add_argument("--skip-torch", action="store_true")


def parse_flags(parser: argparse.ArgumentParser, argv: Sequence[str] | None,
                title: str, *, sized: bool = True, **defaults: Any
                ) -> argparse.Namespace:
  """Reads the command line, by flags that all scripts with `measure` have.

  Args:
    parser: has the script's own flags.
    argv: the flags.
    title: of the report, if none is given.
    sized: whether there is a flag of the size of images.
    **defaults: of these flags, where they are others.
  """
  parser.add_argument("--batch-size", type=int, default=64)
  if sized:
    parser.add_argument("--image-size", type=int, default=32)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--rounds", type=int, default=3)
  parser.add_argument("--steps", type=int, default=2,
                      help="iterations timed per round and side, after an"
                      " untimed one")
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--json", type=pathlib.Path,
                      help="file to write the figures into")
  parser.add_argument("--report", type=pathlib.Path,
                      help="markdown file to write the section into")
  parser.add_argument("--title", default=title,
                      help="heading of the section, replaced if it exists")
  # What a process of its own is told.
  parser.add_argument("--work", help=argparse.SUPPRESS)
  parser.set_defaults(**defaults)
  args = parser.parse_args(argv)
  if args.threads > len(os.sched_getaffinity(0)):
    parser.error(f"--threads is {args.threads} and this process may use"
                 f" {len(os.sched_getaffinity(0))} cores")
  return args


def rows_of(args: argparse.Namespace) -> dict[str, search_sides.Row]:
  """natjax's rows that were asked for, by their names."""
  rows = [row for row in search_sides.ROWS if row.name in args.rows]
  rows += [search_sides.Row(name, method, json.loads(settings))
           for name, method, settings in args.row]
  return {row.name: row for row in rows}


def command_of(argv: Sequence[str], script: str = "search.py") -> str:
  """The command as a report shows it, without where torch's Python lies."""
  return tables.command_of(script, argv, torch_python="TORCH")


def has_torch(python: str) -> bool:
  """Whether an interpreter can import torch."""
  code = "from importlib import util; exit(util.find_spec('torch') is None)"
  return subprocess.run([python, "-c", code], check=False).returncode == 0


# The sides' processes.


def start_torch(args: argparse.Namespace, script: str = "torch_darts.py",
                sizes: Sequence[str] = SIZES) -> workers.Worker:
  """PyTorch's process: a script beside this file, told the `sizes`."""
  flags = [part for name in sizes for part in (
      f"--{name.replace('_', '-')}", str(getattr(args, name)))]
  return workers.Worker([args.torch_python, HERE / script, *flags], os.environ)


def start_natjax(name: str, argv: Sequence[str], cache: str,
                 script: str = pathlib.Path(__file__).name) -> workers.Worker:
  """The process of a row, with a folder for compiled programs."""
  env = {key: value for key, value in os.environ.items()
         if key != "JAX_COMPILATION_CACHE_DIR"}
  return workers.Worker(
      [sys.executable, *(f"-W{option}" for option in sys.warnoptions),
       HERE / script, *argv, "--work", name],
      {**env, "NATJAX_CACHE": cache})


def measure(names: Sequence[str], start: Callable[[str, str], workers.Worker],
            args: argparse.Namespace) -> dict[str, dict[str, Any]]:
  """Starts all sides and times them in turns.

  Args:
    names: of the sides.
    start: starts the process of a name, given a folder for compiled programs;
      those of natjax are started twice.
    args: has "rounds" and "steps".

  Returns:
    The figures, by name.
  """
  running: dict[str, workers.Worker] = {}
  found: dict[str, dict[str, Any]] = {}
  answers: dict[str, list[dict[str, float]]] = {name: [] for name in names}
  with tempfile.TemporaryDirectory() as folder:
    for i, name in enumerate(names):
      print(name, flush=True)
      cache, cold = str(pathlib.Path(folder) / str(i)), None
      if name != TORCH:
        cold = start(name, cache)
        cold.close()
      worker = start(name, cache)
      found[name] = {**worker.ready, "first_seconds": worker.seconds}
      if cold is not None:
        found[name]["cold"] = {**cold.ready, "first_seconds": cold.seconds}
      running[name] = worker

    def side(name):
      def step(_):
        if len(answers[name]) % (1 + args.steps) == 0:  # A turn begins.
          for other, worker in running.items():
            if other != name:
              worker.ask("rest")
        answers[name].append(running[name].ask("iterate"))

      return sides.Side(name, step)

    seconds = sides.measure(
        [side(name) for name in names], "step", 1, args.rounds, args.steps)
    for worker in running.values():
      worker.close()
  for name, row in found.items():
    # As `sides.measure` has it: of every turn's, without the first.
    cpu = np.reshape([a["cpu_seconds"] for a in answers[name]],
                     (args.rounds, 1 + args.steps))[:, 1:]
    row |= {"seconds": seconds[name][0].tolist(),
            "cpu_seconds": np.median(cpu, axis=1).tolist(),
            "peak_mb": answers[name][-1]["peak_mb"]}
  return found


# The report.


def iteration_table(found: dict[str, dict[str, Any]],
                    beside: Sequence[str] = (TORCH, DARTS)) -> list[str]:
  """Every side's iteration and memory, with the ratios to some of them."""
  others = [name for name in beside if name in found]
  rows = []
  for name, row in found.items():
    line = [name, row["parameters"], tables.spread(np.array(row["seconds"])),
            tables.spread(np.array(row["cpu_seconds"]))]
    line += [tables.spread(np.array(row["seconds"])
                           / np.array(found[other]["seconds"]), digits=2)
             for other in others]
    line.append(f"{row['peak_mb']:.0f}")
    line += [f"{row['peak_mb'] / found[other]['peak_mb']:.2f}"
             for other in others]
    rows.append([*line, f"{row['imported_mb']:.0f}",
                 _number(row.get("cold", {}), "temporaries_mb", 0)])
  return tables.table(
      ["side", "parameters", "iteration s", "CPU s",
       *(f"time / {other}" for other in others), "peak MB",
       *(f"peak / {other}" for other in others), "imports MB",
       "temporaries MB"], rows)


def start_table(found: dict[str, dict[str, Any]]) -> list[str]:
  """How long every side takes to start, and what compilation costs."""
  rows = []
  for name, row in found.items():
    cold = row.get("cold", {})
    rows.append((name, *(
        _number(part, f"{key}_seconds", 1)
        for key in ("lower", "compile", "first") for part in (cold, row)),
        _number(cold, "peak_mb", 0)))
  heads = [f"{what}, {when}" for what in (
      "lower s", "XLA compile s", "first iteration s") for when in (
          "cold", "warm")]
  return tables.table(("side", *heads, "peak MB, cold"), rows)


def second_start_table(found: dict[str, dict[str, Any]]) -> list[str]:
  """Where the seconds of a second start go, until its first iteration ran."""
  rows = []
  for name, row in found.items():
    if "cold" not in row:
      continue
    seconds = [row["plan_seconds"], row["init_seconds"], row["trace_seconds"],
               row["lower_seconds"] - row["trace_seconds"],
               row["compile_seconds"], row["step_seconds"]]
    rows.append((name, *(f"{s:.1f}" for s in (
        row["first_seconds"] - sum(seconds), *seconds, row["first_seconds"])),
        tables.verdict(row["first_seconds"], SECOND_START, " s")))
  return tables.table(
      ("second start", "process, imports s", "data, plan s", "init s",
       "trace s", "lower s", "load s", "first iteration s", "in all s",
       "target"), rows)


def _number(row, key, digits):
  """A figure, where there is one."""
  return f"{row[key]:.{digits}f}" if key in row else ""


def write(args: argparse.Namespace, lines: Sequence[str],
          found: dict[str, dict[str, Any]], tables_: Sequence[str],
          after: str) -> None:
  """Prints the report, and writes it where the flags say.

  Args:
    args: has "title", "json" and "report".
    lines: where it was measured, and what.
    found: the figures, by side.
    tables_: lines of them.
    after: the load average at the end.
  """
  text = [*lines, *tables_, "", f"Load average at the end: {after}"]
  print("\n".join(["", f"## {args.title}", "", *text]), flush=True)
  if args.json is not None:
    args.json.write_text(json.dumps({
        "machine": [line.removeprefix("- ") for line in lines],
        "load_average_at_the_end": after, "sides": found}, indent=2) + "\n",
        encoding="utf-8")
    print(f"figures written to {args.json}", flush=True)
  if args.report is not None:
    tables.write_section(args.report, args.title, text)
    print(f"section '{args.title}' written to {args.report}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  rows = rows_of(args)
  if args.work is not None:
    return workers.serve(
        functools.partial(search_sides.start, rows[args.work], args))
  say = functools.partial(print, flush=True)
  # Both libraries make as many threads as there are cores; children inherit.
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])

  # Where.
  lines = tables.machine(command_of(argv), [
      f"C={args.init_channels}, {args.cells} cells, batch {args.batch_size},"
      f" {args.image_size}x{args.image_size}, float32, {args.threads} threads;"
      f" {args.rounds} rounds of {args.steps} iterations after one discarded;"
      " median [quartiles]",
      "lowering includes tracing; CPU time is that of all threads; cold and"
      " warm: with an empty cache of compiled programs and with a filled one"])
  if os.environ.get("OMP_WAIT_POLICY"):
    lines.append(f"- OMP_WAIT_POLICY `{os.environ['OMP_WAIT_POLICY']}`")
  missing = {name: lack for name, row in rows.items()
             if (lack := search_sides.lacks(row))}
  lines += [f"- left out: {name}, {lack}" for name, lack in missing.items()]
  names = [name for name in rows if name not in missing]
  if not args.skip_torch:
    if has_torch(args.torch_python):
      names.insert(0, TORCH)
    else:
      lines.append(f"- left out: {TORCH}, which the interpreter of"
                   " --torch-python lacks")
  say("\n".join(lines))
  if not names:
    raise SystemExit("nothing is left to measure")

  # Measure.
  found = measure(names, lambda name, cache: start_torch(
      args) if name == TORCH else start_natjax(name, argv, cache), args)
  after = " ".join(f"{x:.1f}" for x in os.getloadavg())

  # Report.
  if TORCH in found:
    lines += [f"- torch {found[TORCH]['torch']},"
              f" {found[TORCH]['threads']} threads",
              "- check: parameters at C=16, 8 cells, without alpha:"
              f" {found[TORCH]['published']} in torch, as published"]
  write(args, lines, found, [
      "", *iteration_table(found), "", *start_table(found), "",
      *second_start_table(found)], after)
  return None


if __name__ == "__main__":
  main()
