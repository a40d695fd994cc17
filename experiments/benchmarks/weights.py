"""Measures how long it takes from a file of weights to the first logits.

What: ResNet50's weights, written by `torch.save`, are read, and one image of
224 pixels is classified, float32, on 2 CPU threads. Every figure is of a
process of its own, which has imported what it needs, before the clock runs and
memory is counted:
  torchvision: `torchvision.models.resnet50()`, `torch.load`,
    `load_state_dict`, the model;
  natjax: `natjax.load_weights`, `jax.jit` of the network's module; "cold" from
    an empty cache of compiled programs, "warm" with what that left there.
They take turns, and their logits are compared. Memory is what the process's
peak grew by (Linux).

Command:
  python experiments/benchmarks/weights.py --torch-python TORCH \
      --report experiments/benchmarks/README.md
Expected time on 2 CPU cores: two minutes.
Needs torchvision, in this interpreter or in that of --torch-python.
"""

import argparse
from collections.abc import Callable, Sequence
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import flags
import numpy as np

SIDES = ("torchvision", "natjax, cold", "natjax, warm")
NETWORKS = {"resnet18": "resnet18", "resnet50": "resnet50",
            "mobilenetv2": "mobilenet_v2"}  # And what torchvision calls them.
TARGET = 1.2  # Of torchvision's time and memory.
Figures = dict[str, list[dict[str, Any]]]


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
  """Reads the command line."""
  parser = flags.Parser(
      description=__doc__.split("\n", 1)[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  parser.add_argument("--network", choices=NETWORKS, default="resnet50")
  parser.add_argument("--image-size", type=int, default=224)
  parser.add_argument("--rounds", type=int, default=5)
  parser.add_argument("--threads", type=int, default=2)
  parser.add_argument("--torch-python", default=sys.executable, metavar="FILE",
                      help="an interpreter that has torchvision")
  parser.add_argument("--report", type=pathlib.Path,
                      help="markdown file to write the section into")
  parser.add_argument("--title", default="Weights to first logits, CPU",
                      help="heading of the section, replaced if it exists")
  parser.add_argument("--work", choices=("make", "torchvision", "natjax"),
                      help=argparse.SUPPRESS)  # What a process of ours does.
  parser.add_argument("--file", type=pathlib.Path, help=argparse.SUPPRESS)
  return parser.parse_args(argv)


# What runs in processes of their own.


def make(args: argparse.Namespace) -> None:
  """Writes torchvision's random weights of the network."""
  import torch
  import torchvision

  torch.manual_seed(0)
  model = getattr(torchvision.models, NETWORKS[args.network])()
  torch.save(model.state_dict(), args.file)


def torchvision_side(
    args: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray]:
  """Imports; returns what reads the file and gives logits."""
  import torch
  import torchvision

  torch.set_num_threads(args.threads)

  def run(images):
    model = getattr(torchvision.models, NETWORKS[args.network])()
    model.load_state_dict(torch.load(args.file, weights_only=True))
    model.eval()
    with torch.no_grad():
      return model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()

  return run


def natjax_side(
    args: argparse.Namespace) -> Callable[[np.ndarray], np.ndarray]:
  """Imports; returns what reads the file and gives logits."""
  import jax

  import natjax
  from natjax.graph import records
  from natjax.networks import network as network_lib

  natjax.configure_compilation()
  jax.block_until_ready(jax.numpy.zeros(()))  # Starts the device.

  def run(images):
    architecture = natjax.zoo.get(args.network, "imagenet")
    variables = natjax.load_weights(args.file, architecture)
    module = network_lib.module(architecture, records.Frame(
        1000, args.image_size))
    return np.asarray(jax.jit(module.apply)(variables, images)[0])

  return run


def resident(kind: str) -> int:
  """Bytes of this process in memory: "VmRSS" now, "VmHWM" at most."""
  lines = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
  return 1024 * next(int(line.split()[1]) for line in lines.splitlines()
                     if line.startswith(kind))


def work(args: argparse.Namespace) -> None:
  """Measures a side, and prints its figures."""
  size = args.image_size
  images = np.random.default_rng(0).normal(
      size=(1, size, size, 3)).astype(np.float32)
  run = (torchvision_side if args.work == "torchvision" else natjax_side)(args)
  pathlib.Path("/proc/self/clear_refs").write_text("5")  # Of the peak.
  before, wall, cpu = resident("VmRSS"), time.perf_counter(), time.process_time(
  )
  logits = run(images)
  print(json.dumps({
      "seconds": time.perf_counter() - wall,
      "cpu_seconds": time.process_time() - cpu,
      "bytes": resident("VmHWM") - before, "logits": logits[0].tolist()}))


# What starts and compares them.


def measure(args: argparse.Namespace, folder: pathlib.Path) -> Figures:
  """The figures of all sides, round by round."""
  file = folder / "weights.pth"

  def start(what, cache="none"):
    python = sys.executable if what == "natjax" else args.torch_python
    done = subprocess.run(
        [python, __file__, "--work", what, "--file", file, "--network",
         args.network, "--image-size", str(args.image_size), "--threads",
         str(args.threads)], capture_output=True, text=True, check=False,
        env={**{k: v for k, v in os.environ.items()
                if k != "JAX_COMPILATION_CACHE_DIR"},
             "NATJAX_CACHE": str(folder / cache)})
    if done.returncode:
      raise SystemExit(f"{what}: {done.stderr[-2000:]}")
    return json.loads(done.stdout or "null")

  start("make")
  found: Figures = {side: [] for side in SIDES}
  for turn in range(args.rounds):
    for side in SIDES:
      found[side].append(start(side.split(",")[0], f"cache-{turn}"))
      print(f"{side}: " + ", ".join(
          f"{key} {value:.4g}" for key, value in found[side][-1].items()
          if key != "logits"), flush=True)
  return found


def disagreement(found: Figures) -> float:
  """||difference|| / ||logits of torchvision||, the worst of all."""
  wanted = np.array(found[SIDES[0]][0]["logits"])
  return max(float(np.linalg.norm(np.array(row["logits"]) - wanted)
                   / np.linalg.norm(wanted)) for rows in found.values()
             for row in rows)


def table(found: Figures) -> list[str]:
  """Medians, and their ratios to torchvision's."""
  import tables

  rows, first = [], None
  for side, measured in found.items():
    wall, cpu, size = (statistics.median(row[key] for row in measured)
                       for key in ("seconds", "cpu_seconds", "bytes"))
    first = first or (wall, cpu, size)
    ratios = [a / b for a, b in zip((wall, cpu, size), first, strict=True)]
    own = side == SIDES[0]
    rows.append((
        side, f"{wall:.2f}", *([""] * 2 if own else (
            f"{ratios[0]:.2f}", tables.verdict(ratios[0], TARGET))),
        f"{cpu:.2f}", "" if own else f"{ratios[1]:.2f}", f"{size / 2**20:.0f}",
        *([""] * 2 if own else (
            f"{ratios[2]:.2f}", tables.verdict(ratios[2], TARGET)))))
  return tables.table(("side", "s", "ratio", "target", "CPU s", "ratio", "MB",
                       "ratio", "target"), rows)


def main(argv: Sequence[str] | None = None) -> None:
  """Measures, prints, and writes the report."""
  argv = sys.argv[1:] if argv is None else list(argv)
  args = parse(argv)
  os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])
  if args.work is not None:
    return make(args) if args.work == "make" else work(args)
  os.environ.setdefault("JAX_PLATFORMS", "cpu")
  import tables

  with tempfile.TemporaryDirectory() as folder:
    found = measure(args, pathlib.Path(folder))
  shown = ["TORCH" if i and argv[i - 1] == "--torch-python" else arg
           for i, arg in enumerate(argv)]
  lines = [*tables.machine(" ".join(
      ["python experiments/benchmarks/weights.py", *shown]), [
          f"{args.network}, an image of {args.image_size} pixels, float32,"
          f" {args.threads} threads; medians of {args.rounds} rounds; imports"
          " left out",
          f"logits agree to {disagreement(found):.0e}"]), "", *table(found)]
  print("\n".join(lines))
  if args.report:
    tables.write_section(args.report, args.title, lines)
  return None


if __name__ == "__main__":
  main()
