"""Whole commands of two checkouts side by side, from a cold and a warm cache.

Each command runs from the start of the process to its end, with an empty cache
of compiled programs ("cold") and again with what that left there ("warm"); the
two checkouts take turns. What:
  import: `import natjax`;
  natpp, differentiable: `natjax transform resnet20 --method ...` on digits;
  train: `natjax train resnet20` on digits;
  nasbench201: `natjax benchmark nasbench201 --seeds 1` with --table;
  demo: what `make demo` of each checkout runs, which need not be the same.
Settings that are not given in `SIZES` are each checkout's own.

Of every run: wall and CPU seconds of the process and its children, the peak of
its memory, what came out (test accuracy, and what is left of the multiply-adds)
and natjax's own split of the time, where its result has one, with the rest of
the wall seconds. A checkout is not
installed: it stands first on the path, and both run in this interpreter. The
figures are kept in --json, run by run; a later call goes on from there, and
nothing begins after --minutes.

Command:
  python experiments/benchmarks/wall.py --before OTHER/CHECKOUT \
      --table nasbench201.csv.gz --json experiments/benchmarks/wall.json \
      --report experiments/benchmarks/README.md
Expected time on 2 CPU cores: 15 minutes a call. `--preset smoke` is a try.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import json
import os
import pathlib
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import environment
import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
environment.configure()

import tables  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BUILDS, CACHES = ("before", "after"), ("cold", "warm")
COMMANDS = ("import", "natpp", "train", "differentiable", "nasbench201", "demo")
# After / before, wall seconds, that is asked for.
TARGETS = {"cold": 0.5, "warm": 0.25}
_DIGITS = "--dataset digits --preset demo"
_SMALL = "--image-size 8 --width 0.25 --train-epochs 1 --train-seeds 1"
SIZES: dict[str, dict[str, str]] = {
    "smoke": {
        "natpp": f"{_DIGITS} {_SMALL} --epochs 2 --warmup-epochs 1 --samples 2"
                 " --candidates 2",
        "differentiable": f"{_DIGITS} {_SMALL} --architecture-epochs 1",
        "train": f"{_DIGITS} --image-size 8 --width 0.25 --epochs 1 --seeds 1",
        "nasbench201": "--seeds 1 --steps 5 --inputs 4 --features 8",
        "demo": "--train-epochs 1 --train-seeds 1"},
    "small": {
        "natpp": _DIGITS, "differentiable": _DIGITS, "train": _DIGITS,
        "nasbench201": "--seeds 1 --steps 1000", "demo": ""}}

# A process begins with the peak of the one that it was started from, so that a
# small one starts it.
_LAUNCH = """
import json, os, sys, time
began = time.perf_counter()
process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(process, 0)
with open(sys.argv[1], "w") as file:
  json.dump({"seconds": time.perf_counter() - began,
             "cpu_seconds": used.ru_utime + used.ru_stime,
             "peak_bytes": 1024 * used.ru_maxrss}, file)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""

Runs = dict[str, dict[str, dict[str, list[dict[str, Any]]]]]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--before", type=pathlib.Path, required=True,
                      metavar="DIR", help="a checkout")
  parser.add_argument("--after", type=pathlib.Path, default=HERE.parents[1],
                      metavar="DIR", help="another")
  parser.add_argument("--preset", choices=SIZES, default="small",
                      help="sizes")
  parser.add_argument("--commands", nargs="+", choices=COMMANDS,
                      default=COMMANDS)
  for name in SIZES["small"]:
    parser.add_argument(f"--{name}", metavar="FLAGS",
                        help="in place of the preset's; --NAME='...'")
  parser.add_argument("--table", type=pathlib.Path, metavar="FILE",
                      help="NAS-Bench-201's accuracies; nasbench201 is left out"
                      " without")
  parser.add_argument("--rounds", type=int, default=1,
                      help="of every command, each from an empty cache")
  parser.add_argument("--minutes", type=float, default=15.0,
                      help="after which no run begins")
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--json", type=pathlib.Path,
                      help="file that keeps the figures")
  tables.add_flags(parser, "Whole commands, before and after")
  return parser.parse_args(argv)


def command_of(argv: Sequence[str]) -> str:
  """The command as a report shows it, without where files of others lie."""
  return tables.command_of(
      "wall.py", argv, before="BEFORE", after="AFTER", table="TABLE")


def sizes(args: argparse.Namespace) -> dict[str, str]:
  """The flags of every command."""
  own = {name: getattr(args, name) for name in SIZES[args.preset]}
  return {name: flags if own[name] is None else own[name]
          for name, flags in SIZES[args.preset].items()}


def demo_of(checkout: pathlib.Path) -> list[str]:
  """What a checkout's `make demo` gives natjax, without its --out."""
  text = (checkout / "Makefile").read_text(encoding="utf-8")
  recipe = re.search(r"^demo:.*?\n((?:\t.*\n)+)", text, re.MULTILINE)
  line = recipe and re.search(
      r"natjax (transform (?:.*\\\n)*.*)", recipe.group(1))
  if not line:
    raise SystemExit(f"{checkout}/Makefile has no demo that runs natjax")
  words = line.group(1).replace("\\\n", " ").split()
  at = words.index("--out")
  return words[:at] + words[at + 2:]


def arguments(name: str, checkout: pathlib.Path, flags: Mapping[str, str],
              table: pathlib.Path | None) -> list[str]:
  """What Python is given to run a command, without its --out."""
  if name == "import":
    return ["-c", "import natjax"]
  words = {"nasbench201": ["benchmark", "nasbench201", "--json"],
           "train": ["train", "resnet20"],
           "demo": demo_of(checkout) if name == "demo" else []}.get(
               name, ["transform", "resnet20", "--method", name])
  if name == "nasbench201":
    assert table is not None  # Or it is left out.
    words += ["--table", str(table.resolve())]
  return ["-m", "natjax.cli", *words, *shlex.split(flags[name])]


def timed(command: Sequence[str], env: Mapping[str, str],
          folder: pathlib.Path) -> tuple[str, dict[str, float]]:
  """Runs a command in a folder; what it printed, and what it took.

  Peak memory is that of its largest process.
  """
  used = folder / "used.json"
  done = subprocess.run(
      [sys.executable, "-I", "-S", "-c", _LAUNCH, str(used), *command],
      env=dict(env), cwd=folder, capture_output=True, text=True, check=False)
  if done.returncode:
    raise SystemExit(f"{shlex.join(command)}\n{done.stderr[-3000:]}")
  return done.stdout, json.loads(used.read_text(encoding="utf-8"))


def run(words: Sequence[str], checkout: pathlib.Path, folder: pathlib.Path,
        number: int) -> dict[str, Any]:
  """A whole command of a checkout; its cache and its run lie in a folder."""
  out = folder / f"run-{number}"
  writes = "transform" in words or "train" in words
  env = {k: v for k, v in os.environ.items()
         if k not in ("JAX_COMPILATION_CACHE_DIR", "XDG_CACHE_HOME")}
  env |= {"PYTHONPATH": str(checkout.resolve()),
          "NATJAX_CACHE": str(folder / "cache")}
  said, found = timed(
      [sys.executable, *words, *(["--out", str(out)] if writes else [])],
      env, folder)
  return {**found, **came_out(json.loads(
      (out / "result.json").read_text(encoding="utf-8") if writes
      else said if "benchmark" in words else "{}"))}


def came_out(result: Mapping[str, Any]) -> dict[str, Any]:
  """What a command's result says of its answer, and of its time."""
  found: dict[str, Any] = {}
  if "transformed" in result:
    before, after = result["original"], result["transformed"]
    found = {"original": before["accuracy"], "accuracy": after["accuracy"],
             "left": after["madds"] / before["madds"]}
  elif "accuracy" in result:
    found = {"accuracy": result["accuracy"]}
  return found | ({"time": result["time"]} if "time" in result else {})


def measure(args: argparse.Namespace, found: Runs) -> Iterator[str]:
  """Adds what is not known yet to `found`; yields a line for every run."""
  ends = time.monotonic() + 60 * args.minutes
  checkouts = dict(zip(BUILDS, (args.before, args.after), strict=True))
  for turn in range(args.rounds):
    for name in args.commands:
      if name == "nasbench201" and args.table is None:
        continue
      # Who is first changes, so that neither always finds the files read.
      order = BUILDS if (turn + COMMANDS.index(name)) % 2 == 0 else BUILDS[::-1]
      of = found.setdefault(name, {b: {c: [] for c in CACHES} for b in BUILDS})
      left = [b for b in order
              if any(len(of[b][cache]) <= turn for cache in CACHES)]
      folders = {b: tempfile.TemporaryDirectory() for b in left}
      try:
        for number, cache in enumerate(CACHES):
          for build in left:
            if time.monotonic() > ends:
              return
            seen = run(arguments(name, checkouts[build], sizes(args),
                                 args.table), checkouts[build],
                       pathlib.Path(folders[build].name), number)
            of[build][cache] = [*of[build][cache][:turn], seen]
            yield f"{name}, {build}, {cache}: {json.dumps(seen)}"
      finally:
        for folder in folders.values():
          folder.cleanup()


def _median(runs, key):
  return statistics.median(r[key] for r in runs)


def _rows(found):
  """Commands and caches of which both builds have a run."""
  for name, of in found.items():
    for cache in CACHES:
      runs = [of[build][cache] for build in BUILDS]
      if all(runs):
        yield name, cache, *runs


def time_table(found: Runs) -> list[str]:
  """Every command's wall and CPU seconds and its peak of memory."""
  rows = []
  for name, cache, *runs in _rows(found):
    wall, cpu, peak = ([_median(r, key) for r in runs] for key in (
        "seconds", "cpu_seconds", "peak_bytes"))
    rows.append((
        name, cache, *(f"{s:.1f}" for s in wall), f"{wall[1] / wall[0]:.2f}",
        tables.verdict(wall[1] / wall[0], TARGETS[cache]),
        *(f"{s:.1f}" for s in cpu), f"{cpu[1] / cpu[0]:.2f}",
        *(f"{b / 2**20:.0f}" for b in peak)))
  return tables.table(
      ("command", "cache", "before s", "after s", "ratio", "target",
       "before CPU s", "after CPU s", "ratio", "before MB", "after MB"), rows)


def answer_table(found: Runs) -> list[str]:
  """What came of the commands, of cold and warm runs together."""
  rows = []
  for name, of in found.items():
    for build in BUILDS:
      runs = [r for cache in CACHES for r in of[build][cache]]
      if not runs or "accuracy" not in runs[0]:
        continue
      point = lambda key, runs=runs: f"{100 * _median(runs, key):.2f}" if (
          key in runs[0]) else ""
      rows.append((name, build, point("original"), point("accuracy"),
                   f"{_median(runs, 'left'):.3f}" if "left" in runs[0] else ""))
  return tables.table(("command", "build", "original %", "accuracy %",
                       "multiply-adds left"), rows)


def split_table(found: Runs) -> list[str]:
  """Where the seconds went, by natjax's own account where it gives one."""
  runs = {(name, build, cache): of[build][cache]
          for name, of in found.items() for build in BUILDS for cache in CACHES
          if of[build][cache] and "time" in of[build][cache][0]}
  # What is left: the process, its imports, reading data, printing.
  runs = {key: [{"time": {**r["time"], "rest": r["seconds"] - sum(
      r["time"].values())}} for r in each] for key, each in runs.items()}
  parts = [*dict.fromkeys(part for each in runs.values()
                          for part in each[0]["time"])]
  return tables.table(
      ("command", "build", "cache", *(f"{part} s" for part in parts)), [
          (*key, *(f"{statistics.median(spent):.1f}" for spent in (
              [r["time"].get(part, 0.0) for r in each] for part in parts)))
          for key, each in runs.items()])


def commit(checkout: pathlib.Path) -> str:
  """The commit of a checkout, or that it has none."""
  done = subprocess.run(
      ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"],
      capture_output=True, text=True, check=False)
  return done.stdout.strip() or "no commit"


def key_of(args: argparse.Namespace) -> str:
  """By what figures are kept that may stand in one table."""
  return json.dumps({
      "before": commit(args.before), "after": commit(args.after),
      **sizes(args)}, sort_keys=True)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  say = lambda line: print(line, flush=True)
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
  flags = sizes(args)
  lines = tables.machine(command_of(argv), [
      f"before is {commit(args.before)}, after {commit(args.after)};"
      f" {args.threads} threads; medians over the rounds",
      *(f"{name}: `{flags[name] or 'as it is'}`" for name in flags
        if name in args.commands)])

  # Measure.
  kept = json.loads(args.json.read_text(encoding="utf-8")) if (
      args.json and args.json.exists()) else {}
  found: Runs = kept.setdefault(key_of(args), {})
  for line in measure(args, found):
    say(line)
    if args.json:
      args.json.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")

  # Report.
  missing = [name for name in args.commands
             if len([row for row in _rows(found) if row[0] == name]) < 2]
  if missing:
    lines.append(f"- not run yet: {', '.join(missing)}")
  lines += ["", *time_table(found), "", "What came out, medians of cold and"
            " warm runs:", "", *answer_table(found), "", "Where the seconds"
            " went, by natjax's own account:", "", *split_table(found)]
  tables.show(args, lines)


if __name__ == "__main__":
  main()
