"""How good the features of a network are, by labels that it has not seen."""

from collections.abc import Callable
import functools
from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from natjax.training import fit as fit_lib
from natjax.training import linear_probe
from natjax.training import neighbours


class Objective(Protocol):
  """What has features, as `methods.simclr.SimCLR` does."""

  def features(
      self, variables: Any, images: jax.Array, **mix: Any
  ) -> jax.Array:
    """f32[B, F] of images [B, H, W, 3]."""


Preparation = Callable[..., jax.Array]  # As `fit.Preparation`.


def features(
    objective: Objective,
    variables: Any,
    images: np.ndarray,
    *,
    preparation: Preparation,
    batch_size: int = 256,
    **mix: Any,
) -> jax.Array:
  """Computes the features of images that are not augmented, batch by batch.

  Args:
    objective: has `features`; keep it, since each is compiled once.
    variables: its first argument.
    images: u8[N, H, W, 3], on the host, N at least 1.
    preparation: from stored images to what the network sees; hashable.
    batch_size: images at a time; the last batch is padded.
    **mix: arrays, handed on to `features`.

  Returns:
    f32[N, F].
  """
  size = len(images)
  batch_size = min(batch_size, size)
  run = _compiled(objective.features, preparation)
  # The last batch is filled up, so that nothing compiles anew.
  starts = range(0, size, batch_size)
  rows = (np.arange(start, start + batch_size) % size for start in starts)
  found = [run(variables, images[index], mix) for index in rows]
  return jnp.concatenate(found)[:size]


@functools.lru_cache(maxsize=8)
def _compiled(function, preparation):
  def run(variables, images, mix):
    images = preparation(None, images, train=False)
    return function(variables, images, **mix)

  return jax.jit(run)


def knn_accuracy(
    objective: Objective,
    variables: Any,
    train: fit_lib.Split,
    test: fit_lib.Split,
    *,
    num_classes: int,
    preparation: Preparation,
    k: int = 200,
    temperature: float = 0.5,
    batch_size: int = 256,
    **mix: Any,
) -> float:
  """Computes the accuracy of a vote of the nearest neighbours.

  Args:
    objective: see `features`.
    variables: see `features`.
    train: the neighbours.
    test: what is classified.
    num_classes: of both.
    preparation: see `features`.
    k: see `neighbours.predict`.
    temperature: see `neighbours.predict`.
    batch_size: see `features`.
    **mix: see `features`.

  Returns:
    The share of the test set that is right, in [0, 1].
  """
  bank, queries = _both(objective, variables, train, test, mix,
                        preparation=preparation, batch_size=batch_size)
  found = neighbours.predict(bank, _labels(train), queries, num_classes, k=k,
                             temperature=temperature)
  return float(np.mean(np.asarray(found) == test.labels))


def linear_accuracy(
    objective: Objective,
    variables: Any,
    train: fit_lib.Split,
    test: fit_lib.Split,
    *,
    num_classes: int,
    preparation: Preparation,
    penalty: float = 1e-3,
    steps: int = 200,
    batch_size: int = 256,
    **mix: Any,
) -> float:
  """Computes the accuracy of a linear classifier of the features.

  Args:
    objective: see `features`.
    variables: see `features`.
    train: what the classifier is trained on.
    test: what is classified.
    num_classes: of both.
    preparation: see `features`.
    penalty: see `linear_probe.fit`.
    steps: see `linear_probe.fit`.
    batch_size: see `features`.
    **mix: see `features`.

  Returns:
    The share of the test set that is right, in [0, 1].
  """
  known, asked = _both(objective, variables, train, test, mix,
                       preparation=preparation, batch_size=batch_size)
  return linear_probe.accuracy(
      (known, _labels(train)), (asked, _labels(test)), num_classes,
      penalty=penalty, steps=steps)


def _both(objective, variables, train, test, mix, **options):
  return [features(objective, variables, split.images, **options, **mix)
          for split in (train, test)]


def _labels(split):
  return jnp.asarray(split.labels, jnp.int32)
