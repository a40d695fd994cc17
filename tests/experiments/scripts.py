"""Runs the experiments' scripts as a user would, in processes of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"

# A whole script but for the steps of training, whose programs take a minute to
# compile: networks stay as they were drawn.
UNTRAINED = """
import importlib
import sys
import jax
from natjax.training import fit
trained = []
def skip(method, splits, *, options, **settings):
  trained.append(options.run)
  options.checkpoint_dir.mkdir(parents=True)
  return method.init(jax.random.key(options.seed))
fit.fit = skip
importlib.import_module(sys.argv[1]).main(sys.argv[2:])
print("trained:", *trained)
"""


def run(*args):
  """Runs Python with the experiments to be imported; warnings are errors."""
  path = os.pathsep.join([str(ROOT), str(EXPERIMENTS)])
  return subprocess.run(
      [sys.executable, "-W", "error", *map(str, args)], cwd=ROOT,
      capture_output=True, text=True, check=False,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu",
           "XLA_FLAGS": os.environ["XLA_FLAGS"]})  # Of `conftest`.


def flags(folder, *more):
  """Arguments of a smoke run in a folder."""
  return ["--preset", "smoke", "--out", folder / "run", "--report",
          folder / "report", *more]
