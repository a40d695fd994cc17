"""Measures ranking by a supernet against one long evaluation of it.

What: cells of NAS-Bench-201 judged by a supernet, as `natjax rank` does: of
every cell statistics of BN are measured on 256 images and others judged, by one
compiled program. Beside it long evaluations of 16 of these cells, which walk
over as many images together in the same batches. Weights are drawn: how long it
takes does not depend on them. Sides take turns, round by round, each compiled
before; what all 15625 cells take is extrapolated.

Commands:
  python experiments/benchmarks/ranking.py
  python experiments/benchmarks/ranking.py \
      --json experiments/benchmarks/ranking.json \
      --report experiments/benchmarks/README.md
Expected time on 2 CPU cores: three minutes.
"""

import argparse
from collections.abc import Sequence
import json
import operator
import os
import pathlib
import shlex
import sys
import time
from typing import Any

import environment
import flags

os.environ.setdefault("JAX_PLATFORMS", "cpu")
environment.configure()

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import tables  # noqa: E402

from natjax import data as data_lib  # noqa: E402
from natjax import spaces, zoo  # noqa: E402
from natjax.graph import codec  # noqa: E402
from natjax.graph import nasbench201 as cells  # noqa: E402
from natjax.networks import supernet as supernet_lib  # noqa: E402
from natjax.pipeline import supernets  # noqa: E402
from natjax.spaces import connections  # noqa: E402
from natjax.spaces import paths as paths_lib  # noqa: E402

TARGET = 1.1  # Times one long evaluation.
BATCH = 256
ALONE = 16  # Cells that are evaluated at length.


def make(size: int, width: float, images: int) -> supernets.SearchedSupernet:
  """A supernet of NAS-Bench-201 whose weights are drawn, and noise to judge by.
  """
  space = spaces.get("nasbench201")
  place = codec.place("blocks", num_classes=10, image_size=size)
  supernet = supernet_lib.Supernet(space, place, width=width)
  rng = np.random.default_rng(0)
  noise = data_lib.Dataset(
      "noise", *(part for count in (images, 1) for part in (
          rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8),
          rng.integers(0, 10, count).astype(np.int32))),
      10, tuple(map(str, range(10))), (0.0,) * 3, (1.0,) * 3, None)
  return supernets.SearchedSupernet(
      supernet, supernet.init(jax.random.key(0))["params"], paths_lib.Paths(
          connections.Connections(space, place), place),
      zoo.nasbench201.from_string(cells.to_string(("conv_3x3",) * 6)), noise,
      lambda rng, pixels, train=False: pixels.astype(jnp.float32) / 255)


def evaluation(searched: supernets.SearchedSupernet) -> Any:
  """Of a path and batches' numbers i32[B] how many images are right."""
  pixels, labels = (jnp.asarray(part).reshape(-1, BATCH, *part.shape[1:])
                    for part in searched.judging)

  def run(params, stats, path, numbers):
    def add(right, number):
      logits, _ = searched.supernet.run(
          {"params": params, "batch_stats": stats},
          searched.supernet.selected(path),
          pixels[number].astype(jnp.float32) / 255, train=False)
      return right + jnp.sum(jnp.argmax(logits, -1) == labels[number]), None

    return jax.lax.scan(add, jnp.zeros((), jnp.int32), numbers)[0]

  return jax.jit(run)


def measure(args: argparse.Namespace) -> dict[str, Any]:
  """Seconds of every round of both sides."""
  searched = make(args.image_size, args.width, args.images)
  numbers = np.random.default_rng(1).choice(cells.COUNT, args.cells, False)
  every = jax.tree.map(np.asarray, searched.paths.numbered(numbers))
  # Of every cell the images that are judged, and those that measure BN.
  batches = np.arange(args.cells * (1 + args.images // BATCH)) % (
      args.images // BATCH)
  long = evaluation(searched)
  alone = [jax.tree.map(operator.itemgetter(i), every)
           for i in range(0, args.cells, args.cells // ALONE)]
  stats = [searched._statistics(searched.params, path) for path in alone]
  found: dict[str, list[float]] = {"ranking": [], "evaluation": []}
  for number in range(args.rounds + 1):
    begin = time.perf_counter()
    searched.accuracies(every, batch=BATCH)
    middle = time.perf_counter()
    # Several, since what a cell costs depends on its operations.
    for path, measured in zip(alone, stats, strict=True):
      np.asarray(long(searched.params, measured, path,
                      batches[:len(batches) // ALONE]))
    if number:
      found["ranking"].append(middle - begin)
      found["evaluation"].append(time.perf_counter() - middle)
  return {"seconds": found, "cells": args.cells, "images": args.images}


def report(figures: dict[str, Any]) -> list[str]:
  """The table of both sides."""
  seconds = {name: np.array(of) for name, of in figures["seconds"].items()}
  scale = 1e3 / figures["cells"]
  ratio = seconds["ranking"] / seconds["evaluation"]
  whole = np.median(seconds["ranking"]) / figures["cells"] * cells.COUNT / 60
  rows = [("ranking", tables.spread(seconds["ranking"], scale, 1),
           tables.spread(ratio, 1, 2),
           tables.verdict(float(np.median(ratio)), TARGET)),
          ("long evaluations", tables.spread(seconds["evaluation"], scale, 1),
           "", "")]
  return [*tables.table(("", "ms per cell", "ratio", "target"), rows), "",
          f"All {cells.COUNT} cells would take {whole:.0f} minutes."]


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the benchmark."""
  parser = flags.Parser(
      description=__doc__.partition("\n")[0],
      formatter_class=argparse.ArgumentDefaultsHelpFormatter)
  flag = parser.add_argument
  flag("--cells", type=int, default=128, metavar="N", help=f"times {ALONE}")
  flag("--images", type=int, default=512, metavar="N", help=f"times {BATCH}")
  flag("--image-size", type=int, default=16, metavar="N")
  flag("--width", type=float, default=0.5, metavar="F")
  flag("--rounds", type=int, default=5, metavar="N")
  flag("--json", type=pathlib.Path, metavar="FILE")
  flag("--report", type=pathlib.Path, metavar="FILE")
  args = parser.parse_args(argv)
  if args.cells % ALONE or args.images % BATCH:
    parser.error(f"--cells is no multiple of {ALONE}, or --images of {BATCH}")
  figures = measure(args)
  command = [*(sys.argv[1:] if argv is None else argv)]
  lines = [*tables.machine(
      f"python experiments/benchmarks/ranking.py {shlex.join(command)}".strip(),
      [f"{args.cells} cells, {args.images} images of {args.image_size} pixels,"
       f" width {args.width:g}, batch {BATCH}; rounds {args.rounds} after one"
       " discarded; median [quartiles]"]), "", *report(figures)]
  print("\n".join(lines))
  if args.json:
    args.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
  if args.report:
    tables.write_section(args.report, "Ranking by a supernet", lines)
  return 0


if __name__ == "__main__":
  sys.exit(main())
