"""First-order DARTS in plain PyTorch: the independent side of `search.py`.

The network and its iteration are `Search` of `natjax/selftest/torch_sides.py`,
as it is usually written: all eight operations of every edge run eagerly, are
weighted by a softmax and summed. A step of alpha (Adam) and then a step of the
weights (SGD) each call `backward` of the whole loss, which leaves gradients of
both, and step one of them.

A script, too, which `search.py` starts, perhaps with another interpreter: it
answers lines by iterations (`workers.serve`) and needs torch alone. So that
file, which needs no more either, is loaded by its path.
"""

import argparse
import importlib.util
import pathlib
import sys

import torch
import workers

PUBLISHED_PARAMETERS = 1930618  # C=16, 8 cells, without alpha.


def load_sides():
  """The module `torch_sides`, without natjax and what that imports."""
  path = (pathlib.Path(__file__).resolve().parents[2] / "natjax" / "selftest"
          / "torch_sides.py")
  spec = importlib.util.spec_from_file_location("torch_sides", path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module
  spec.loader.exec_module(module)
  return module


sides = load_sides()


def check() -> int:
  """Checks and returns the number of parameters at the published size.

  Raises:
    AssertionError: it is another.
  """
  with torch.device("meta"):
    found = sides.count(sides.SearchNetwork(16, 8))
  assert found == PUBLISHED_PARAMETERS, found
  return found


def start():
  """Builds the search of the flags and runs an iteration; see `workers`."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  for name in ("init-channels", "cells", "batch-size", "image-size", "threads",
               "seed"):
    parser.add_argument(f"--{name}", type=int, required=True)
  args = parser.parse_args()
  imported = workers.resident_mb()
  published = check()
  torch.set_num_threads(args.threads)
  torch.manual_seed(args.seed)
  search = sides.Search(
      sides.SearchNetwork(args.init_channels, args.cells), args.batch_size,
      args.image_size, device="cpu")
  iterate = lambda: search.run(1)
  iterate()
  return {"parameters": sides.count(search.model), "published": published,
          "torch": torch.__version__, "threads": torch.get_num_threads(),
          "imported_mb": imported}, iterate


if __name__ == "__main__":
  workers.serve(start)
