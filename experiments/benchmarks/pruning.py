"""Whole commands side by side: a trained network made cheaper, with its tuning.

What: ResNet20 on digits (8x8), trained from scratch and then cut to at most a
share of its multiply-adds and tuned, from the start of the process to its end:
  natjax: `natjax transform resnet20 --method replace`, with an empty cache of
    compiled programs ("cold") and again with what that left there ("warm");
  fastnas: nvidia-modelopt's FastNAS; torch-pruning: its groups by magnitude
    (`pruning_peers.py`, in the interpreter of --peer-python; a tool that it
    lacks is left out and named).
All sides train the same epochs in the same batches with the same optimizer,
and tune with it for the same epochs. FastNAS scores by a tenth of the training
images; nothing looks at the test images but the last line. natjax prices by 128
images, checks no sums and compares with nothing (--held-out 0), since what is
asked for is the network of the budget.

PyTorch's threads are told to sleep while they wait (OMP_WAIT_POLICY=PASSIVE);
where other processes run, spinning would count as CPU time of theirs.

The sides take turns, seed by seed. CPU seconds are those of the process and its
children, of all threads. The figures are kept in --json, run by run; a later
call goes on from there.

Commands:
  python experiments/benchmarks/pruning.py --peer-python PEERS \
      --json experiments/benchmarks/pruning.json \
      --report experiments/benchmarks/README.md
  python experiments/benchmarks/pruning.py --share 0.25 ...
Expected time on 2 CPU cores: ten minutes for five seeds.
"""

import argparse
from collections.abc import Sequence
import json
import os
import pathlib
import resource
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

import numpy as np  # noqa: E402
import tables  # noqa: E402

from natjax import data, zoo  # noqa: E402
from natjax.pipeline import presets  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
COLD, WARM = "natjax, cold", "natjax, warm"
PEERS = {"fastnas": "modelopt", "torch-pruning": "torch_pruning"}
SETTINGS = ("--price-images", "128", "--price-checks", "0", "--held-out", "0")
TARGETS = {COLD: 2.0, WARM: 0.7}  # Times FastNAS's CPU seconds.


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--share", type=float, default=0.5,
                      help="the most of the multiply-adds that may be left")
  parser.add_argument("--seeds", type=int, default=5)
  parser.add_argument("--epochs", type=int, default=15,
                      help="of the first training")
  parser.add_argument("--rounds", type=int, default=1,
                      help="of natjax's replacement")
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--peer-python", default=sys.executable,
                      help="an interpreter that has the tools")
  parser.add_argument("--json", type=pathlib.Path,
                      help="file that keeps the figures")
  tables.add_flags(parser, None)
  args = parser.parse_args(argv)
  if args.title is None:
    args.title = f"Pruning ResNet20 to {args.share:g} of its multiply-adds"
  return args


def command_of(argv: Sequence[str]) -> str:
  """The command as a report shows it, without where the tools' Python lies."""
  return tables.command_of("pruning.py", argv, peer_python="PEERS")


def has(python: str, module: str) -> bool:
  """Whether an interpreter can import a module."""
  code = f"from importlib import util; exit(util.find_spec('{module}') is None)"
  return subprocess.run([python, "-c", code], check=False).returncode == 0


def timed(command: Sequence[str | os.PathLike[str]],
          env: dict[str, str]) -> tuple[str, dict[str, float]]:
  """Runs a command to its end; what it printed, and what it took."""
  spent = lambda u: u.ru_utime + u.ru_stime
  before = spent(resource.getrusage(resource.RUSAGE_CHILDREN))
  began = time.perf_counter()
  done = subprocess.run(command, env=env, check=False, capture_output=True,
                        text=True)
  if done.returncode:
    raise SystemExit(f"{shlex.join(map(str, command))}\n{done.stderr[-3000:]}")
  return done.stdout, {
      "cpu_seconds": spent(resource.getrusage(
          resource.RUSAGE_CHILDREN)) - before,
      "seconds": time.perf_counter() - began}


def run_natjax(args, seed: int, folder: str, side: str) -> dict[str, Any]:
  """A whole command of natjax's."""
  out = pathlib.Path(folder) / side.replace(", ", "-")
  env = {k: v for k, v in os.environ.items()
         if k != "JAX_COMPILATION_CACHE_DIR"}
  path = os.pathsep.join([str(HERE.parents[1]), env.get("PYTHONPATH", "")])
  _, spent = timed(
      [sys.executable, "-m", "natjax.cli", "transform", "resnet20",
       "--method", "replace", "--dataset", "digits", "--image-size", "8",
       "--max-madds", f"{args.share}x", "--train-epochs", str(args.epochs),
       "--rounds", str(args.rounds), "--train-seeds", "1", "--seed", str(seed),
       *SETTINGS, "--out", str(out)],
      {**env, "PYTHONPATH": path, "NATJAX_CACHE": f"{folder}/cache"})
  found = json.loads((out / "result.json").read_text(encoding="utf-8"))
  return {**spent, "time": found["time"],
          "original": found["original"]["accuracy"],
          "accuracy": found["transformed"]["accuracy"],
          "madds": found["transformed"]["madds"] / found["original"]["madds"]}


def run_peer(args, seed: int, folder: str, side: str) -> dict[str, Any]:
  """A whole command of a tool's, on the same images."""
  train = presets.get("demo", zoo.get("resnet20"), "replace").train
  images = data.load("digits", image_size=8)
  rng = np.random.default_rng(seed)
  part = rng.permutation(len(images.train_labels))[:len(
      images.train_labels) // 10]
  path = f"{folder}/images.npz"
  np.savez(
      path, train_images=images.train_images, train_labels=images.train_labels,
      held_out_images=images.train_images[part],
      held_out_labels=images.train_labels[part],
      test_images=images.test_images, test_labels=images.test_labels,
      settings=json.dumps({
          "seed": seed, "threads": args.threads, "share": args.share,
          "mean": list(images.mean), "std": list(images.std),
          "shift": images.augmentation.crop_padding, "epochs": args.epochs,
          "tune_epochs": -(-args.epochs // 3) * args.rounds,
          **{name: getattr(train, name) for name in (
              "batch_size", "learning_rate", "final_learning_rate", "momentum",
              "weight_decay", "max_grad_norm")}}))
  said, spent = timed([args.peer_python, HERE / "pruning_peers.py", side, path],
                      {**os.environ, "OMP_WAIT_POLICY": "PASSIVE"})
  return {**spent, **json.loads(said.splitlines()[-1])}


def table(found: dict[str, dict[str, Any]]) -> list[str]:
  """Every side's time, accuracy and what is left."""
  median = lambda runs, key: statistics.median(r[key] for r in runs)
  rows, base = [], [*found.get("fastnas", {}).values()]
  for side, by_seed in found.items():
    runs = [*by_seed.values()]
    if not runs:
      continue
    cpu, wall = (median(runs, key) for key in ("cpu_seconds", "seconds"))
    ratio = cpu / median(base, "cpu_seconds") if base else np.nan
    rows.append((
        side, len(runs), f"{cpu:.1f}", f"{wall:.1f}",
        f"{ratio:.2f}" if base else "",
        tables.verdict(ratio, TARGETS[side]) if base and side in TARGETS
        else "", *(_points([r[key] for r in runs])
                   for key in ("original", "accuracy")),
        f"{max(r['madds'] for r in runs):.3f}"))
  return tables.table(
      ("side", "seeds", "CPU s", "s", "CPU / fastnas", "target", "original %",
       "cut, tuned %", "most left"), rows)


def _points(values):
  """Mean ± deviation of accuracies, in percent."""
  spread = statistics.stdev(values) if len(values) > 1 else 0.0
  return f"{100 * statistics.mean(values):.2f} ± {100 * spread:.2f}"


def time_table(found: dict[str, dict[str, Any]]) -> list[str]:
  """Where natjax's time went, medians of what `result.json` says."""
  rows = []
  for side in (COLD, WARM):
    if runs := [r["time"] for r in found.get(side, {}).values()]:
      rows.append((side, *(
          f"{statistics.median(r[name] for r in runs):.1f}"
          for name in runs[0])))
      names = list(runs[0])
  return tables.table(("side", *(f"{name} s" for name in names)), rows)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  say = lambda line: print(line, flush=True)
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])

  # Where.
  lines = tables.machine(command_of(argv), [
      f"digits, 8x8, {args.epochs} epochs and {-(-args.epochs // 3)} of tuning"
      f" in batches of 64; natjax in {args.rounds} round(s) with"
      f" `{shlex.join(SETTINGS)}`; {args.threads} threads; medians over seeds,"
      " accuracies mean ± deviation"])
  peers = [side for side in PEERS if has(args.peer_python, PEERS[side])]
  lines += [f"- left out: {side}, which the interpreter of --peer-python lacks"
            for side in PEERS if side not in peers]

  # Measure.
  key = f"share {args.share:g}, epochs {args.epochs}, rounds {args.rounds}"
  kept = json.loads(args.json.read_text(encoding="utf-8")) if (
      args.json and args.json.exists()) else {}
  found = kept.setdefault(key, {})
  for seed in map(str, range(args.seeds)):
    with tempfile.TemporaryDirectory() as folder:
      for side in (COLD, WARM, *peers):
        runs = found.setdefault(side, {})
        if seed in runs and (side != COLD or seed in found.get(WARM, {})):
          continue
        run = run_peer if side in PEERS else run_natjax
        runs[seed] = run(args, int(seed), folder, side)
        say(f"seed {seed} {side}: {runs[seed]}")
        if args.json:
          args.json.write_text(json.dumps(kept, indent=2) + "\n",
                               encoding="utf-8")

  # Report.
  versions = {name: v for side in peers for r in found[side].values()
              for name, v in r["versions"].items()}
  lines += [f"- {name} {version}" for name, version in versions.items()]
  lines += ["", *table(found), "", "Where natjax's seconds went:", "",
            *time_table(found)]
  tables.show(args, lines)


if __name__ == "__main__":
  main()
