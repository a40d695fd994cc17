"""Measures reading and cropping of JPEGs against PyTorch's DataLoader.

What: images per second of the input alone. JPEGs are made by this script, about
400 x 350 pixels and 40 KB each. Both sides read them in a random order, crop
them at random (scale 0.08 to 1, ratio 3/4 to 4/3) and bring them to a square of
u8, in batches; flips and what follows are the device's work. Sides:

- threads, workers: natjax, without and with processes that decode;
- whole: as threads, but JPEGs are decoded at their full size, as torchvision
  does it; natjax decodes no more pixels than a crop takes;
- torchvision: `ImageFolder`, `RandomResizedCrop` and `PILToTensor` under
  `torch.utils.data.DataLoader` with as many workers.

Each side has a process of its own and they take turns, round by round, each
over other images; a first round is discarded. Memory is the greatest sum, over
a side's processes, of resident memory in proportion to its sharers (Linux).

Commands:
  python experiments/benchmarks/input.py --python .venv-torch/bin/python
  python experiments/benchmarks/input.py --python .venv-torch/bin/python \
      --json experiments/benchmarks/input.json \
      --report experiments/benchmarks/README.md
where that Python has torch and torchvision.
Expected time on 2 CPU cores: ten minutes, and five to make the images.
"""

import argparse
from collections.abc import Sequence
import contextlib
import io
import json
import os
import pathlib
import shlex
import sys
import tempfile
import threading
import time
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flags
import numpy as np
from PIL import Image
import tables
import workers

HERE = pathlib.Path(__file__).resolve().parent
TARGET = 1.0  # Times torchvision.
SIDES = ("threads", "workers", "whole", "torchvision")
CLASSES = 10


def make(folder: pathlib.Path, count: int) -> None:
  """Makes JPEGs of about 400 x 350 pixels in folders of classes."""
  rng = np.random.default_rng(0)
  for number in range(count):
    path = folder / f"{number % CLASSES}" / f"{number:06}.jpg"
    if path.exists():
      continue
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = rng.integers((360, 310), (440, 390))
    # Large shapes, edges and grain, which take as many bytes as photographs.
    image = sum(
        np.asarray(Image.fromarray(
            rng.integers(0, 256, (side, side, 3), np.uint8)).resize(
                (width, height), Image.Resampling.BICUBIC), np.float32) * share
        for side, share in ((4, 0.5), (24, 0.3), (160, 0.2)))
    file = io.BytesIO()
    Image.fromarray(image.astype(np.uint8)).save(file, "JPEG", quality=90)
    part = path.with_suffix(".part")
    part.write_bytes(file.getvalue())
    part.replace(path)


def serve(args: argparse.Namespace) -> None:
  """A side of natjax, in a process of its own."""
  from natjax.data import crops, records, streamed

  if args.side == "whole":
    Image.Image.draft = lambda self, mode, size: None
    from PIL import JpegImagePlugin
    JpegImagePlugin.JpegImageFile.draft = lambda self, mode, size: None
  paths = sorted(args.folder.glob("*/*.jpg"))
  images = streamed.Streamed(
      records.Files(paths), np.arange(len(paths)), args.image_size, "imagenet",
      crops.Crop((0.08, 1.0), (3 / 4, 4 / 3)),
      streamed.Reading(args.workers if args.side == "workers" else 0))
  order = np.random.default_rng(0).permutation(len(paths))
  rounds = iter(range(10**6))

  def read():
    number = next(rounds)
    rows = np.roll(order, -number * args.round_images)[:args.round_images]
    keys = np.full(len(rows), number, np.uint64)
    seen = sum(len(batch.images) for batch in images.batches(
        rows, args.batch_size, keys))
    assert seen == args.round_images

  def start():
    read()
    return {}, read

  workers.serve(start)


class Memory:
  """The memory of a process and its children, at its greatest.

  Attributes:
    peak_mb: proportional shares of resident memory, in MB.
  """

  def __init__(self, pid: int):
    self.peak_mb, self._pid = 0.0, pid
    threading.Thread(target=self._watch, daemon=True).start()

  def _watch(self):
    while True:
      self.peak_mb = max(self.peak_mb, sum(map(_share_mb, _tree(self._pid))))
      time.sleep(0.3)


def _tree(pid):
  """A process and all below it."""
  children: dict[int, list[int]] = {}
  for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    with contextlib.suppress(OSError):
      parent = int(stat.read_text().rpartition(")")[2].split()[1])
      children.setdefault(parent, []).append(int(stat.parent.name))
  found = [pid]
  for one in found:  # It grows.
    found += children.get(one, [])
  return found


def _share_mb(pid):
  with contextlib.suppress(OSError):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    for line in text.splitlines():
      if line.startswith("Pss:"):
        return int(line.split()[1]) * 1024 / 1e6
  return 0.0


def measure(args: argparse.Namespace, sides: Sequence[str]) -> dict[str, Any]:
  """Of every side images per second of every round, and its peak memory."""
  flags = ["--folder", args.folder, "--image-size", args.image_size,
           "--batch-size", args.batch_size, "--round-images",
           args.round_images, "--workers", args.workers]
  started, watched = {}, {}
  for side in sides:
    program = [args.python, HERE / "torch_input.py"] if (
        side == "torchvision") else [sys.executable, __file__, "--side", side]
    started[side] = workers.Worker(
        [*map(str, (*program, *flags))], dict(os.environ))
    watched[side] = Memory(started[side].pid)
  found: dict[str, Any] = {
      side: {"images_per_second": [], "cpu_ms_per_image": []} for side in sides}
  for _ in range(args.rounds):
    for side, worker in started.items():
      began = time.perf_counter()
      answer = worker.ask("go")
      found[side]["images_per_second"].append(
          args.round_images / (time.perf_counter() - began))
      found[side]["cpu_ms_per_image"].append(
          1e3 * answer["cpu_seconds"] / args.round_images)
  for side, worker in started.items():
    found[side]["peak_mb"] = watched[side].peak_mb
    worker.close()
  return found


def report(found: dict[str, Any]) -> list[str]:
  """The table of all sides."""
  rows = []
  for side, own in found.items():
    rate = np.array(own["images_per_second"])
    cells = ["", ""]
    if side != "torchvision" and "torchvision" in found:
      ratio = rate / np.array(found["torchvision"]["images_per_second"])
      met = "met" if np.median(ratio) >= TARGET else "missed"
      cells = [tables.spread(ratio, digits=2), f">= {TARGET:g}: {met}"]
    rows.append((side, tables.spread(rate, digits=0), *cells, tables.spread(
        np.array(own["cpu_ms_per_image"]), digits=2), f"{own['peak_mb']:.0f}"))
  return tables.table(
      ("side", "images per second", "ratio to torchvision", "target",
       "CPU ms per image", "peak memory MB"), rows)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the benchmark."""
  parser = flags.Parser(
      description=__doc__.partition("\n")[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  flag = parser.add_argument
  flag("--images", type=int, default=20000, metavar="N", help="JPEGs to make")
  flag("--folder", type=pathlib.Path, metavar="DIR",
       help="where they lie or are made; without, in a temporary folder")
  flag("--round-images", type=int, default=2000, metavar="N")
  flag("--rounds", type=int, default=5, metavar="N")
  flag("--image-size", type=int, default=224, metavar="N")
  flag("--batch-size", type=int, default=64, metavar="N")
  flag("--workers", type=int, default=2, metavar="N")
  flag("--python", type=pathlib.Path, metavar="FILE",
       help="an interpreter with torchvision; without, natjax alone")
  flag("--json", type=pathlib.Path, metavar="FILE")
  flag("--report", type=pathlib.Path, metavar="FILE")
  flag("--side", choices=SIDES[:-1], help=argparse.SUPPRESS)
  args = parser.parse_args(argv)
  if args.side:
    serve(args)
    return 0
  command = [*(sys.argv[1:] if argv is None else argv)]
  with contextlib.ExitStack() as stack:
    if args.folder is None:
      args.folder = pathlib.Path(
          stack.enter_context(tempfile.TemporaryDirectory()))
    make(args.folder, args.images)
    found = measure(args, SIDES if args.python else SIDES[:-1])
  lines = [*tables.machine(
      f"python experiments/benchmarks/input.py {shlex.join(command)}".strip(),
      [f"{args.images} JPEGs, {args.image_size} pixels, batch"
       f" {args.batch_size}, {args.workers} workers; {args.rounds} rounds of"
       f" {args.round_images} images after one discarded; median [quartiles]"]),
           "", *report(found)]
  print("\n".join(lines))
  if args.json:
    args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
  if args.report:
    tables.write_section(args.report, "Input", lines)
  return 0


if __name__ == "__main__":
  sys.exit(main())
