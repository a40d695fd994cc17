"""Which images stand in which step, and how they come to the devices."""

from collections.abc import Mapping, Sequence
import sys
from typing import Any
import zlib

import jax
import numpy as np

from natjax import errors
from natjax.training import devices as devices_lib
from natjax.training import options as options_lib


def entropy(seed: int, *names: Any) -> list[int]:
  """Entropy of a host generator for (seed, names)."""
  return [seed, *(zlib.crc32(str(name).encode()) for name in names)]


def epoch_order(size: int, batch_size: int, num_devices: int,
                entropy: Sequence[int]) -> np.ndarray:
  """i32[D, steps, B / D]: the images of every step, a random permutation.

  The last images, which do not fill a batch, are left out.
  """
  steps = size // batch_size
  order = np.random.default_rng(entropy).permutation(size).astype(np.int32)
  return np.ascontiguousarray(order[:steps * batch_size].reshape(
      steps, num_devices, batch_size // num_devices).transpose(1, 0, 2))


def check_splits(splits: Mapping[str, options_lib.Split],
                 batch_size: int) -> None:
  """Refuses a split that is smaller than a batch (InputError)."""
  for name, split in splits.items():
    if len(split.labels) < batch_size:
      raise errors.InputError(
          f"the {name} split has {len(split.labels)} images, fewer than a batch"
          f" of {batch_size}; give a smaller batch-size or more images",
          "batch_size")


class Data:
  """One split on the devices, whole or streamed.

  Attributes:
    size: N, its images.
    steps: batches that it has.
    most: steps that a chunk may have.
  """

  def __init__(self, split: options_lib.Split, batch_size: int,
               devices: Sequence[jax.Device], *, resident_bytes: int,
               runs: int):
    """Args:
      split: the images.
      batch_size: of one run, over all its devices.
      devices: all of which hold the images.
      resident_bytes: a larger split is streamed.
      runs: that walk the split at once, each in its own order.
    """
    self._split, self._devices = split, devices
    self._per_step = batch_size * runs
    self.size = len(split.labels)
    self.steps, self.most = self.size // batch_size, sys.maxsize
    self._resident = None
    if split.images.nbytes <= resident_bytes:
      self._resident = self._put(slice(None))
    else:
      per_step = split.images[0].nbytes * self._per_step
      self.most = int(np.clip(resident_bytes // per_step, 1, self.steps))

  def _put(self, rows):
    images, labels = (x[rows] for x in self._split)
    return devices_lib.replicate(
        options_lib.Split(images, labels.astype(np.int32)), self._devices)

  def chunk(self, order: np.ndarray, start: int,
            stop: int) -> tuple[options_lib.Split, np.ndarray, int]:
    """The images of the steps from start to stop.

    Args:
      order: i32[R, steps, B], rows of the split for every step.
      start: first step.
      stop: one behind the last.

    Returns:
      Images and labels on the devices; i32[R, T, B], rows of them for every
      step; the step of which `[:, 0]` is.
    """
    if self._resident is not None:
      return self._resident, order, 0
    # Shapes stay the same in every chunk, so that nothing compiles anew.
    rows, spare = order[:, start:stop], self.most - (stop - start)
    part = self._put(np.pad(rows.reshape(-1), (0, spare * self._per_step)))
    places = np.arange(rows.size, dtype=np.int32).reshape(rows.shape)
    return part, np.pad(places, ((0, 0), (0, spare), (0, 0))), start
