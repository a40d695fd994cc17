"""Accuracy on a split, by one device."""

from collections.abc import Callable
import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax.training import method as base
from natjax.training import records


def evaluate(
    predict: Callable[..., jax.Array],
    state: base.State,
    split: records.Split,
    *,
    preparation: records.Preparation,
    batch_size: int,
    whole: bool = False,
) -> float:
  """Computes the accuracy on a split, not augmented, on one device.

  Args:
    predict: `(state, batch) -> f32[B]`, 1 where right.
    state: its first argument.
    split: the images.
    preparation: from stored images to what the network sees.
    batch_size: images at a time.
    whole: leave out the images that do not fill a batch (where predictions
      depend on the batch); else the last batch is padded.

  Returns:
    The share that is right, in [0, 1].
  """
  size = len(split.labels)
  batch_size = min(batch_size, size)
  steps = size // batch_size if whole else -(-size // batch_size)
  used = min(steps * batch_size, size)
  spare = steps * batch_size - used
  images = np.concatenate([split.images[:used], split.images[:spare]])
  labels = np.concatenate([split.labels[:used], np.full(spare, -1)])
  shape = (steps, batch_size)
  right = _count_right(predict, preparation)(
      state, images.reshape(*shape, *images.shape[1:]),
      labels.reshape(shape).astype(np.int32))
  return float(right) / used


@functools.lru_cache(maxsize=8)
def _count_right(predict, preparation):
  def count(state, images, labels):
    def one(total, batch):
      image, label = batch
      image = preparation(jax.random.key(0), image, train=False)
      right = predict(state, {"image": image, "label": label})
      return total + jnp.sum(jnp.where(label >= 0, right, 0.0)), None

    return lax.scan(one, jnp.zeros(()), (images, labels))[0]

  return jax.jit(count)
