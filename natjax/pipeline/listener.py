"""Who hears of a run's course, and the versions that a result depends on."""

from collections.abc import Callable, Sequence
import dataclasses
import os
import platform

import flax
import jax
import numpy as np
import optax

from natjax.training import fit as fit_lib
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
