"""What all jobs share: who listens, what is checked, how files describe it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import json
import pathlib
import platform
import re
import time
from typing import Any

import flax
import jax
import numpy as np
import optax

from natjax import data as data_lib
from natjax import errors
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import metrics as metrics_lib
from natjax.training import seeds as seeds_lib


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


def versions() -> dict[str, str]:
  """Versions that a result depends on."""
  return {"python": platform.python_version(), "jax": jax.__version__,
          "flax": flax.__version__, "optax": optax.__version__,
          "numpy": np.__version__}


def check_seed(seed: int, count: int) -> None:
  """Refuses a seed of which, or of whose followers, jax keeps only a part.

  Raises:
    InputError: it or one of the `count` seeds from it on is not a u32.
  """
  if not 0 <= seed <= 2**32 - count:
    raise errors.InputError(
        f"seed is {seed} and must lie in [0, {2**32 - count}]; pass --seed 0")


def of_final_training(message: str, config: Any) -> str:
  """Names the options in an error as `natjax transform` does."""
  names = "|".join(f.name.replace("_", "-") for f in dataclasses.fields(config))
  return re.sub(rf"--(no-)?({names})\b", r"--\1train-\2", message)


def fit_all(
    job: Any,
    method: base.Method,
    runs: Mapping[int, str],
    checkpoint: Callable[[int], pathlib.Path],
    together: pathlib.Path,
    metrics_path: pathlib.Path,
    listener: Listener,
) -> Iterator[tuple[int, base.State, float]]:
  """Trains one network for several seeds.

  Yields a seed, its final state, and the seconds that it took, in order. In one
  program where that is cheaper (`seeds.seeds_together`): then all are
  trained before the first is yielded, each on one device.

  Args:
    job: a `TrainJob`.
    method: what to run.
    runs: per seed, its run's name.
    checkpoint: `(seed) -> path`, for seeds one by one.
    together: folder for the checkpoints of seeds at once.
    metrics_path: of `metrics.jsonl`.
    listener: who hears of the course.
  """
  if not runs:
    return
  shared = {"batch_size": job.config.batch_size,
            "preparation": job.task.preparation}
  splits = {"train": job.split}
  if job.way == "one by one":
    for seed, name in runs.items():
      began = time.monotonic()
      state = fit_lib.fit(method, splits, **shared, options=options(
          listener, seed, job.devices, checkpoint(seed), metrics_path, name))
      yield seed, state, time.monotonic() - began
    return
  began = time.monotonic()
  lanes = 1 if job.way == "spread" else -(-len(runs) // len(job.devices))
  states = seeds_lib.fit_seeds(
      method, splits, seeds=tuple(runs), runs=tuple(runs.values()), **shared,
      lanes=lanes, options=options(
          listener, 0, job.devices, together, metrics_path, ""))
  each = (time.monotonic() - began) / len(runs)
  yield from ((seed, state, each)
              for seed, state in zip(runs, states, strict=True))


def options(
    listener: Listener, seed: int, devices: Any, checkpoint_dir: Any,
    metrics_path: Any, name: str,
) -> fit_lib.Options:
  """The options of one call of `fit`."""
  return fit_lib.Options(
      seed=seed, devices=devices, checkpoint_dir=checkpoint_dir,
      metrics_path=metrics_path, run=name, on_progress=listener.on_progress,
      on_row=listener.on_row, should_stop=listener.should_stop,
      chunk_seconds=listener.chunk_seconds,
      checkpoint_seconds=listener.checkpoint_seconds)


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


def to_json(value: Any) -> str:
  """JSON text of a result or a configuration."""
  return json.dumps(value, indent=2)
