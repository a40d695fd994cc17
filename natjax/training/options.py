"""What training takes and tells: splits, preparation, options, progress."""

from collections.abc import Callable, Sequence
import dataclasses
import math
import numbers
import os
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.training import metrics as metrics_lib


class Split(NamedTuple):
  """Images u8[N, H, W, 3] and labels i32[N], on the host or on disk."""

  images: np.ndarray | data_lib.Streamed
  labels: np.ndarray


class Preparing(Protocol):
  """Brings stored images to what a network sees."""

  def __hash__(self) -> int:
    """Equal ones share what is compiled."""

  def __call__(self, rng: jax.Array | None, images: jax.Array, *,
               train: bool) -> jax.Array:
    """u8[B, H, W, 3] -> [B or 2B, H, W, 3], augmented if `train`."""


class Preparation(NamedTuple):
  """How images are augmented and normalised.

  Attributes:
    mean: per channel, of pixels in [0, 1].
    std: likewise.
    augmentation: applied where a phase asks for it.
    dtype: of the images.
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  augmentation: data_lib.Augmentation
  dtype: Any = jnp.float32

  def __call__(self, rng: jax.Array | None, images: jax.Array, *,
               train: bool) -> jax.Array:
    """u8[B, H, W, 3] -> [B, H, W, 3]; `rng` may be None where nothing draws.

    That is unless `train`, and with an augmentation that does nothing.
    """
    return data_lib.prepare(rng, images, self.mean, self.std, self.augmentation,
                            train=train, dtype=self.dtype)


class Progress(NamedTuple):
  """Where the run stands, and the phase's mean metrics ({} before any).

  Beside them are the numbers that the phase's last end showed since the start
  (`method.Phase.observe`).
  """

  run: str
  stage: str
  phase: str
  epoch: int
  epochs: int
  step: int
  steps: int
  done: float  # Share of the whole run, by steps, in [0, 1].
  metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Listener:
  """Who hears of a run's course; the command line shows it.

  A subclass may have methods of these names instead of being given functions.

  Attributes:
    on_progress: called before a phase's first chunk of steps and after every
      chunk.
    on_row: called with every row of `metrics.jsonl`.
    on_resume: called where a run goes on from a checkpoint, with where.
    should_stop: asked after every chunk; true saves and raises `Interrupted`.
    checkpoint_seconds: least time between checkpoints.
    chunk_seconds: about how long a chunk of steps takes.
  """

  on_progress: Callable[[Progress], None] = lambda progress: None
  on_row: Callable[[metrics_lib.Row], None] = lambda row: None
  on_resume: Callable[[Progress], None] = lambda progress: None
  should_stop: Callable[[], bool] = lambda: False
  checkpoint_seconds: float = 60.0
  chunk_seconds: float = 10.0

  def __post_init__(self):
    for name, default in _defaults().items():
      value = vars(self)[name]
      if value is default and getattr(type(self), name) is not default:
        object.__delattr__(self, name)  # A method of a subclass stands there.
      elif not (callable(value) if callable(default)
                else isinstance(value, numbers.Real)):
        raise errors.InputError(
            f"{name} is {errors.short(value)} and must be a"
            f" {'function' if callable(default) else 'number'}; see"
            " natjax.Listener")
      elif not callable(default) and not 0 <= value < math.inf:
        raise errors.InputError(
            f"{name} is {errors.short(value)} and must be a finite number of 0"
            f" or more; give {default:g}")

  @property
  def plain(self) -> "Listener":
    """It without what a subclass has besides, whatever that is made of."""
    return Listener(**{
        name: default if name not in vars(self) and (
            getattr(type(self), name) is default) else getattr(self, name)
        for name, default in _defaults().items()})

  def named(self, name: str) -> "Listener":
    """A listener that hears the name before every run's."""
    return dataclasses.replace(
        self, on_progress=lambda p: self.on_progress(
            p._replace(run=f"{name} {p.run}")),
        on_resume=lambda p: self.on_resume(
            p._replace(run=f"{name} {p.run}")),
        on_row=lambda row: self.on_row(row | {"run": f"{name} {row['run']}"}))


def _defaults():
  return {field.name: field.default
          for field in dataclasses.fields(Listener)}


@dataclasses.dataclass(frozen=True)
class Options(Listener):
  """How `fit` runs, apart from what it runs, and who hears of it.

  Attributes:
    seed: of everything random.
    devices: to spread over; None is all, those of other processes included.
    checkpoint_dir: None writes no checkpoints.
    metrics_path: of `metrics.jsonl`; None writes none.
    run: name of the run in rows and progress.
    resident_bytes: splits that are larger are streamed to the device.
  """

  seed: int = 0
  devices: Sequence[jax.Device] | None = None
  checkpoint_dir: str | os.PathLike[str] | None = None
  metrics_path: str | os.PathLike[str] | None = None
  run: str = "run"
  resident_bytes: int = 2**32
