"""Runs the experiments' scripts as a user would, in processes of their own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parents[2]
EXPERIMENTS = ROOT / "experiments"

# A whole script but for the steps of training, whose programs take a minute to
# compile: networks stay as they were drawn. Theta is drawn, too, so that
# something is derived, and leaves a row to draw a picture of.
UNTRAINED = """
import importlib
import sys
import jax
from natjax.training import fit
from natjax.training import metrics
trained = []
def skip(method, splits, *, options, **settings):
  trained.append(options.run)
  options.checkpoint_dir.mkdir(parents=True)
  state = method.init(jax.random.key(options.seed))
  if hasattr(state, "theta"):
    rng = jax.random.key(options.seed)
    state = state._replace(theta=tuple(
        t + jax.random.normal(rng, t.shape) * jax.numpy.array([0, 1, 1])
        for t in state.theta))
  for stage in method.stages:
    for phase in stage.phases:
      if phase.observe:
        metrics.MetricsFile(options.metrics_path, options.run).append(
            {"epoch": 0, "seconds": 0.5, **phase.observe(state, 0)})
  return state
fit.fit = skip
importlib.import_module(sys.argv[1]).main(sys.argv[2:])
print("trained:", *trained)
"""


def start(*args):
  """Starts Python with the experiments to be imported; warnings are errors."""
  path = os.pathsep.join([str(ROOT), str(EXPERIMENTS)])
  return subprocess.Popen(
      [sys.executable, "-W", "error", *map(str, args)], cwd=ROOT,
      stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu",
           "XLA_FLAGS": os.environ["XLA_FLAGS"]})  # Of `conftest`.


def run(*args):
  """As `start`, to its end."""
  with start(*args) as process:
    said, heard = process.communicate()
  return subprocess.CompletedProcess(args, process.returncode, said, heard)


def flags(folder, *more):
  """Arguments of a smoke run in a folder."""
  return ["--preset", "smoke", "--out", folder / "run", "--report",
          folder / "report", *more]
