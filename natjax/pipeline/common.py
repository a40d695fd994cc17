"""What all jobs share: who listens, options of `fit`, sums over seeds."""

from collections.abc import Callable, Sequence
import dataclasses
import os
import platform
from typing import Any

import flax
import jax
import numpy as np
import optax

from natjax import data as data_lib
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import metrics as metrics_lib


@dataclasses.dataclass(frozen=True)
class Listener:
  """Who hears of a run's course; the command line shows it.

  Attributes:
    on_progress: called before a phase's first chunk of steps and after every
      chunk.
    on_row: called with every row of `metrics.jsonl`.
    should_stop: asked after every chunk; true saves and raises `Interrupted`.
    checkpoint_seconds: least time between checkpoints.
    chunk_seconds: about how long a chunk of steps takes.
  """

  on_progress: Callable[[fit_lib.Progress], None] = lambda progress: None
  on_row: Callable[[metrics_lib.Row], None] | None = None
  should_stop: Callable[[], bool] = lambda: False
  checkpoint_seconds: float = 60.0
  chunk_seconds: float = 10.0

  def named(self, name: str) -> "Listener":
    """A listener that hears the name before every run's."""
    on_row = self.on_row
    return dataclasses.replace(
        self, on_progress=lambda p: self.on_progress(
            p._replace(run=f"{name} {p.run}")),
        on_row=on_row and (lambda row: on_row(
            {**row, "run": f"{name} {row['run']}"})))

  def options(
      self, seed: int, devices: Sequence[jax.Device],
      checkpoint_dir: os.PathLike[str], metrics_path: os.PathLike[str],
      run: str,
  ) -> fit_lib.Options:
    """The options of one call of `fit`."""
    return fit_lib.Options(
        seed=seed, devices=devices, checkpoint_dir=checkpoint_dir,
        metrics_path=metrics_path, run=run, **vars(self))


def versions() -> dict[str, str]:
  """Versions that a result depends on."""
  return {"python": platform.python_version(), "jax": jax.__version__,
          "flax": flax.__version__, "optax": optax.__version__,
          "numpy": np.__version__}


def follow(
    method: base.Method, state: base.State, given: Any,
    run: Callable[[base.Method, int], base.State],
    tell: Callable[[base.Method, base.State, base.Handover, int],
                   dict[str, Any]],
) -> tuple[base.Method, base.State, Any, dict[str, Any]]:
  """Goes on from where a method ends, as long as it hands over to another.

  Args:
    method: that has come to its end.
    state: of it.
    given: the architecture that it was given.
    run: `(method, number) -> state` trains the next program, from 2 on.
    tell: `(method, state, handover, number)` of the program that has ended;
      returns what the report says of it.

  Returns:
    The last method, its state, the architecture that it was given, the report.
  """
  report: dict[str, Any] = {}
  number = 1
  while (end := method.stages[-1].end) is not None:
    over = end(state)
    report |= tell(method, state, over, number)
    method, given, number = over.method, over.architecture, number + 1
    start = over.state
    state = run(method._replace(init=lambda rng, start=start: start), number)
  return method, state, given, report


def preparation(
    dataset: data_lib.Dataset, dtype: str, *, cutout: int = 0
) -> fit_lib.Preparation:
  """How a data set's images are augmented and normalised."""
  return fit_lib.Preparation(
      tuple(map(float, dataset.mean)), tuple(map(float, dataset.std)),
      dataset.augmentation._replace(cutout=cutout), jax.numpy.dtype(dtype))


def over_seeds(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
  """Mean, deviation and values of accuracies over seeds.

  Args:
    results: of every seed, with "accuracy" and perhaps "linear_accuracy".

  Returns:
    "accuracy", "accuracy_std", "accuracies", and those of a linear classifier
    under "linear_accuracy", "linear_accuracy_std", "linear_accuracies".
  """
  found = {}
  for prefix in ("", "linear_"):
    values = [r[f"{prefix}accuracy"] for r in results
              if f"{prefix}accuracy" in r]
    if values:
      found |= {
          f"{prefix}accuracy": float(np.mean(values)),
          f"{prefix}accuracy_std": float(np.std(values, ddof=1))
          if len(values) > 1 else 0.0,
          f"{prefix}accuracies": values}
  return found
