"""Means over the images of a split, by one device."""

from collections.abc import Callable, Iterator
import functools
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.training import method as base
from natjax.training import options as options_lib

_CHUNK = 2**26  # Bytes of images that are on the device at a time.
_DAMAGED = -2  # In place of a label.


def walk(function: Callable[[Any, base.Batch], Any], argument: Any,
         split: options_lib.Split, *, preparation: options_lib.Preparing,
         batch_size: int, whole: bool = False, total: bool = False,
         each: bool = False) -> Any:
  """Computes means over a split, not augmented; see `method.Walk`.

  Args:
    function: `(argument, batch) -> pytree of f[B, ...]`; a batch has its
      "number", i32[], beside images and labels.
    argument: its first argument.
    split: the images.
    preparation: from stored images to what the network sees.
    batch_size: images at a time.
    whole: leave out the images that do not fill a batch (where the function
      depends on the batch); else the last batch is padded.
    total: compute sums instead of means; those of whole numbers are exact.
    each: compute neither: what the function gives, of every image.

  Returns:
    The pytree of means, f64[...]; with `each`, f64[N, ...] of those of the N
    images that are not damaged, in their order.

  Raises:
    InputError: all images are damaged.
  """
  size = len(split.labels)
  batch_size = min(batch_size, size)
  steps = size // batch_size if whole else -(-size // batch_size)
  run, sums = _sums(function, preparation, each), list[Any]()
  used, there = min(steps * batch_size, size), []
  for number, images, labels in chunks(split, batch_size, steps):
    if sums:  # Only one chunk waits while another is computed.
      jax.block_until_ready(sums[-1])
    sums.append(run(argument, images, labels, np.int32(number)))
    used -= int((labels == _DAMAGED).sum())
    there.append(labels >= 0)
  if not used and size:
    raise errors.InputError(
        f"all {size} images to judge by are damaged; restore them")
  if each:
    good = np.concatenate(there)
    return jax.tree.map(lambda *x: np.concatenate(x)[good].astype(np.float64),
                        *jax.device_get(sums))
  parts = 1 if total else used
  return jax.tree.map(
      lambda *x: np.sum(np.concatenate(x)[:steps], axis=0,
                        dtype=np.float64) / parts, *jax.device_get(sums))


def chunks(split: options_lib.Split, batch_size: int, steps: int
           ) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
  """Batches of a split in its order, as many at a time as take 64 MiB.

  All of them at once where they take less, and none is on disk.

  Args:
    split: the images.
    batch_size: B.
    steps: how many batches; where they have more places than there are images,
      the first images stand there again.

  Yields:
    The number of the first batch, images u8[T, B, ...], and labels i32[T, B],
    which are -1 of images that stand there again, and -2 of damaged ones, which
    are black. T is always the same; of the last chunk, what is behind the last
    batch has labels -1.
  """
  size, images = len(split.labels), split.images
  rows = np.arange(steps * batch_size) % max(size, 1)
  labels = np.where(np.arange(len(rows)) < size, split.labels[rows], -1)
  labels = labels.reshape(steps, batch_size).astype(np.int32)
  per_step = int(np.prod(images.shape[1:])) * batch_size
  most = int(np.clip(_CHUNK // per_step, 1, steps))
  read: Iterator[Any] = iter(())
  if isinstance(images, data_lib.Streamed):
    read = images.batches(rows, batch_size)
  for start in range(0, steps, most):
    stop = min(start + most, steps)
    part = np.zeros((most, batch_size, *images.shape[1:]), np.uint8)
    named = np.full((most, batch_size), -1, np.int32)
    named[:stop - start] = labels[start:stop]
    if not isinstance(images, data_lib.Streamed):
      part[:stop - start].reshape(-1, *images.shape[1:])[:] = (
          images[rows[start * batch_size:stop * batch_size]])
    for i, batch in enumerate(itertools.islice(read, stop - start)):
      part[i] = batch.images
      named[i][~batch.good & (named[i] >= 0)] = _DAMAGED
    yield start, part, named


def evaluate(predict: Callable[[Any, base.Batch], jax.Array], state: base.State,
             split: options_lib.Split, **options: Any) -> float:
  """Computes the accuracy on a split, in [0, 1].

  Args:
    predict: `(state, batch) -> f32[B]`, 1 where right.
    state: its first argument.
    split: the images.
    **options: of `walk`.
  """
  return float(walk(predict, state, split, **options))


@functools.lru_cache(maxsize=8)
def _sums(function, preparation, each):
  """Compiles `(argument, images, labels, number) -> sums [steps, ...]`.

  With `each`, what it gives has axes [steps, B, ...].
  """
  def run(argument, images, labels, number):
    def one(number, batch):
      image, label = batch
      image = preparation(jax.random.key(0), image, train=False)
      values = function(argument, {
          "image": image, "label": label, "number": number})
      if each:
        return number + 1, values
      there = lambda x: jnp.reshape(label >= 0, (-1,) + (1,) * (x.ndim - 1))
      return number + 1, jax.tree.map(
          lambda x: jnp.sum(jnp.where(there(x), x, 0), axis=0,
                            dtype=jnp.float32), values)

    return jax.lax.scan(one, number, (images, labels))[1]

  return jax.jit(run)
