"""Means over the images of a split, by one device."""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax.training import method as base
from natjax.training import options as options_lib


def walk(function: Callable[[Any, base.Batch], Any], argument: Any,
         split: options_lib.Split, *, preparation: options_lib.Preparing,
         batch_size: int, whole: bool = False, total: bool = False) -> Any:
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

  Returns:
    The pytree of means, f64[...].
  """
  size = len(split.labels)
  batch_size = min(batch_size, size)
  steps = size // batch_size if whole else -(-size // batch_size)
  used = min(steps * batch_size, size)
  spare = steps * batch_size - used
  images = np.concatenate([split.images[:used], split.images[:spare]])
  labels = np.concatenate([split.labels[:used], np.full(spare, -1)])
  sums = _sums(function, preparation)(
      argument, images.reshape(steps, batch_size, *images.shape[1:]),
      labels.reshape(steps, batch_size).astype(np.int32))
  parts = 1 if total else used
  return jax.tree.map(lambda x: np.sum(x, axis=0, dtype=np.float64) / parts,
                      jax.device_get(sums))


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
def _sums(function, preparation):
  """Compiles `(argument, images, labels) -> sums [steps, ...]`."""
  def run(argument, images, labels):
    def one(number, batch):
      image, label = batch
      image = preparation(jax.random.key(0), image, train=False)
      values = function(argument, {
          "image": image, "label": label, "number": number})
      there = lambda x: jnp.reshape(label >= 0, (-1,) + (1,) * (x.ndim - 1))
      return number + 1, jax.tree.map(
          lambda x: jnp.sum(jnp.where(there(x), x, 0), axis=0,
                            dtype=jnp.float32), values)

    return jax.lax.scan(
        one, jnp.zeros((), jnp.int32), (images, labels))[1]

  return jax.jit(run)
