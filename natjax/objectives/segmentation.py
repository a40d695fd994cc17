"""A class for every pixel: what is minimised, and how it is judged.

The mean intersection over union (mIoU) is that of the Pascal VOC benchmark
(Everingham et al., 2010, "The Pascal Visual Object Classes (VOC) Challenge",
section 4.2, equation 4): pixels of all images are counted together, and pixels
that are void are left out of everything.
"""

from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import errors

VOID = 255  # The label of pixels that count for nothing.


def cross_entropy(logits: jax.Array, labels: jax.Array, *,
                  axis_name: str | None = None) -> jax.Array:
  """Computes the softmax cross-entropy, f32[], per pixel that is not void.

  Args:
    logits: f[B, H, W, K].
    labels: i32[B, H, W], in [0, K) or `VOID`.
    axis_name: device axis; the mean over it of what is returned is then the
      mean over the pixels of all devices, whichever has how many.

  Returns:
    0 where all pixels are void.
  """
  there = labels != VOID
  each = optax.softmax_cross_entropy_with_integer_labels(
      logits.astype(jnp.float32), jnp.where(there, labels, 0))
  count = jnp.sum(there, dtype=jnp.float32)
  if axis_name is not None:
    count = jax.lax.pmean(count, axis_name)
  return jnp.sum(jnp.where(there, each, 0)) / jnp.maximum(count, 1e-6)


def confusion(predicted: jax.Array, labels: jax.Array,
              num_classes: int) -> jax.Array:
  """Counts pixels by label and prediction, i32[K, K], void left out.

  Args:
    predicted: i32[...], in [0, K).
    labels: i32[...], in [0, K) or `VOID`; less than 2^31 of them.
    num_classes: K.

  Returns:
    Rows are labels; the sum over images is kept on the host, in i64.
  """
  there = (labels != VOID).astype(jnp.int32)
  place = jnp.where(labels != VOID, labels, 0) * num_classes + predicted
  return jnp.zeros(num_classes**2, jnp.int32).at[jnp.reshape(place, -1)].add(
      jnp.reshape(there, -1)).reshape(num_classes, num_classes)


class Scores(NamedTuple):
  """How well pixels were classified.

  Attributes:
    miou: the mean of `ious`, in [0, 1].
    ious: by class, intersection over union; None of a class that neither
      labels nor predictions have, which the mean leaves out.
    accuracy: share of pixels that are right, in [0, 1].
    absent: the numbers of those classes.
    pixels: how many were counted.
  """

  miou: float
  ious: tuple[float | None, ...]
  accuracy: float
  absent: tuple[int, ...]
  pixels: int


def scores(counts: np.ndarray) -> Scores:
  """Computes mIoU from a confusion matrix, by whole numbers and fractions.

  Args:
    counts: integers [K, K]; rows are labels.

  Raises:
    InputError: no pixel was counted.

  Example, of two classes, three pixels of the first, one of them mistaken:
    >>> scores(np.array([[2, 1], [0, 1]]))[:3]
    (0.5833333333333334, (0.6666666666666666, 0.5), 0.75)
  """
  rows = [[int(x) for x in row] for row in np.asarray(counts)]
  total, ious = sum(map(sum, rows)), []
  if not total:
    raise errors.InputError("all pixels are void, and there is nothing to judge"
                            " by; give masks with classes")
  for k, row in enumerate(rows):
    union = sum(row) + sum(other[k] for other in rows) - row[k]
    ious.append(Fraction(row[k], union) if union else None)
  known = [iou for iou in ious if iou is not None]
  return Scores(
      float(sum(known, Fraction()) / len(known)),
      tuple(None if iou is None else float(iou) for iou in ious),
      sum(row[k] for k, row in enumerate(rows)) / total,
      tuple(k for k, iou in enumerate(ious) if iou is None), total)
