"""Which images stand in which step, and how they come to the devices."""

from collections.abc import Mapping, Sequence
import sys
from typing import Any, NamedTuple
import zlib

import jax
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.training import devices as devices_lib
from natjax.training import options as options_lib

_CHUNK = 2**26  # Bytes of a chunk of images that are read from disk.
_CROPS = zlib.crc32(b"crops")


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


class Order(NamedTuple):
  """Which images stand in which step of an epoch, and how they are cropped.

  Attributes:
    rows: i32[W, steps, B / W] into a split; W is devices of one run, or runs.
    keys: u64[W, steps], by which images on disk are cropped at random.
  """

  rows: np.ndarray
  keys: np.ndarray


def order(split: "Data", steps: int, batch_size: int, width: int,
          entropies: Sequence[Sequence[int]], number: int) -> Order:
  """The order of an epoch's split, as often as it takes.

  Args:
    split: the images.
    steps: of the epoch.
    batch_size: of a run.
    width: devices over which it is divided.
    entropies: of every run's epoch.
    number: of the split in its phase; but for the first, every round through it
      has an order of its own.
  """
  rounds = [[]] if number == 0 else [
      entropy(number, r) for r in range(-(-steps // split.steps))]
  rows = np.concatenate([
      np.concatenate([epoch_order(split.size, batch_size, width,
                                  [*own, *more]) for own in entropies])
      for more in rounds], axis=1)[:, :steps]
  keys = np.array([
      [np.random.SeedSequence([*own, *more, _CROPS]).generate_state(
          1, np.uint64)[0] for more in rounds] for own in entropies])
  return Order(rows, np.repeat(np.repeat(keys, split.steps, 1)[:, :steps],
                               len(rows) // len(keys), 0))


class Data:
  """One split on the devices, whole or in chunks of steps.

  Attributes:
    size: N, its images.
    steps: batches that it has.
    most: steps that a chunk may have.
    divided: whether it comes in chunks, in which every device has the images of
      its own steps, and not all images.
    ahead: whether chunks take long to read, so that the next one should be read
      while one is computed.
  """

  def __init__(self, split: options_lib.Split, batch_size: int,
               devices: Sequence[jax.Device], *, resident_bytes: int,
               runs: int):
    """Args:
      split: the images.
      batch_size: of one run, over all its devices.
      devices: all of which hold the images.
      resident_bytes: a larger split comes in chunks of at most so many bytes.
      runs: that walk the split at once, each in its own order.
    """
    self._split, self._devices = split, devices
    self.size = len(split.labels)
    self.steps, self.most = self.size // batch_size, sys.maxsize
    self.ahead = isinstance(split.images, data_lib.Streamed)
    self.divided = self.ahead or split.images.nbytes > resident_bytes
    self._resident = None
    if not self.divided:
      # Pictures of segmentation are read here.
      self._resident = devices_lib.replicate(options_lib.Split(
          split.images[:], split.labels.astype(np.int32)), devices)
    else:
      most = min(resident_bytes, _CHUNK) if self.ahead else resident_bytes
      per_step = split.images.nbytes // self.size * batch_size * runs
      self.most = int(np.clip(most // per_step, 1, self.steps))

  def walk(self, order: Order, layout: Any, start: int,
           augment: bool) -> "Walk":
    """Chunks from a step on.

    Args:
      order: of the epoch.
      layout: `engine.Layout`, how it lies on the devices.
      start: the first step.
      augment: whether images may be cropped at random.
    """
    if self._resident is not None:
      return Walk(self._resident, order.rows)
    return _Chunks(self._split, self.most, order, layout, start, augment)


class Walk:
  """One walk over a split that is on the devices.

  Attributes:
    skipped: images that were damaged and left out so far.
    ended: whether what is still being read is wanted no more.
  """

  skipped, ended = 0, False

  def __init__(self, resident: options_lib.Split, rows: np.ndarray):
    self._resident, self._rows = resident, rows

  def chunk(self, start: int,
            stop: int) -> tuple[options_lib.Split, np.ndarray, int]:
    """The images of the steps from start to stop; chunks follow each other.

    Args:
      start: first step.
      stop: one behind the last.

    Returns:
      Images and labels on the devices, of a divided split [W, ...]; i32[W, T,
      B / W], rows of them for every step; the step of which `[:, 0]` is.
    """
    return self._resident, self._rows, 0

  def close(self) -> None:
    """Ends what reads ahead, if anything does."""


class _Chunks(Walk):
  """One walk over a split that comes in chunks."""

  def __init__(self, split, most, order, layout, start, augment):
    self._split, self._most, self._layout = split, most, layout
    # What this process reads: the steps of its own devices or runs.
    self._width = len(order.rows)
    self._mine = order.rows[layout.mine]
    self._steps = None
    if isinstance(split.images, data_lib.Streamed):
      rows = self._mine[:, start:].swapaxes(0, 1)  # [steps, w, b]
      keys = np.broadcast_to(
          order.keys[layout.mine, start:].swapaxes(0, 1)[..., None], rows.shape)
      self._steps = split.images.batches(
          rows.reshape(-1), rows[0].size,
          keys.reshape(-1) if augment else None)

  def chunk(self, start, stop):
    # Shapes stay the same in every chunk, so that nothing compiles anew.
    rows = self._mine[:, start:stop]
    size = self._split.images.shape[1:]
    images = np.zeros((len(rows), self._most, rows.shape[2], *size), np.uint8)
    stored = self._split.labels  # [N], of segmentation [N, 2].
    labels = np.zeros(images.shape[:3] + stored.shape[1:], np.int32)
    labels[:, :stop - start] = stored[rows]
    if self._steps is None:
      images[:, :stop - start] = self._split.images[
          rows.reshape(-1)].reshape(*rows.shape, *size)
    else:
      for i in range(stop - start):
        if self.ended:
          raise RuntimeError("the walk has ended")  # Nobody asks for it.
        batch = next(self._steps)
        images[:, i] = batch.images.reshape(images[:, i].shape)
        good = batch.good.reshape(labels[:, i].shape)
        for own in np.flatnonzero(~good.all(1)):
          self._replace(images[own, i], labels[own, i], good[own])
    part = self._layout.divide(options_lib.Split(
        *(x.reshape(len(rows), -1, *x.shape[3:]) for x in (images, labels))))
    places = np.arange(self._most * rows.shape[2], dtype=np.int32)
    places = places.reshape(1, self._most, rows.shape[2])
    return part, np.repeat(places, self._width, 0), start

  def close(self):
    if self._steps is not None:
      self._steps.close()

  def _replace(self, images, labels, good):
    """Another image of a batch in place of those that are damaged."""
    if not good.any():
      raise errors.InputError(
          f"all {len(good)} images of a batch are damaged; restore them")
    self.skipped += int((~good).sum())
    images[~good] = images[good.argmax()]
    labels[~good] = labels[good.argmax()]
