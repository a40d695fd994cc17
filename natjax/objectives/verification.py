"""Verification: whether two images show one person, by their embeddings.

The protocol of LFW (Huang et al., 2007, "Labeled Faces in the Wild", section
IV), as ArcFace's authors released it: an image's embedding and that of its
mirror image are added and brought to length 1; two images are taken for one
person where the squared distance, from 0 to 4, is below a threshold. The pairs
are divided into ten parts in their order, and each is judged by the threshold
that is best on the other nine.

Thresholds are theirs: 0, 0.01, ..., 3.99. Where embeddings have collapsed to
one place, all distances below 0.01, none of them parts any, and the accuracy is
that of one answer for all; TAR at FAR is of the distances themselves.
"""

from typing import NamedTuple

import numpy as np

from natjax import errors

FOLDS = 10
THRESHOLDS = np.arange(0, 4, 0.01)


class Verified(NamedTuple):
  """How pairs were judged.

  Attributes:
    accuracy: mean over the folds, in [0, 1].
    deviation: over the folds, of the population.
    threshold: mean of those of the folds, of squared distances.
    tar: part of the pairs of one person that are taken for one, with the
      threshold at which at most `far` of the others are.
    far: 0.001.
    pairs: how many.
  """

  accuracy: float
  deviation: float
  threshold: float
  tar: float
  far: float
  pairs: int


def distances(embeddings: np.ndarray, mirrored: np.ndarray) -> np.ndarray:
  """Computes the squared distances of pairs.

  Args:
    embeddings: f[2P, F], of the images of the first pair, of the second, and so
      on.
    mirrored: f[2P, F], of their mirror images.

  Returns:
    f64[P], in [0, 4].

  Example, two images at right angles:
    >>> distances(np.eye(2), np.eye(2)).tolist()
    [2.0]
  """
  total = embeddings.astype(np.float64) + mirrored
  length = np.linalg.norm(total, axis=1, keepdims=True)
  total /= np.where(length > 0, length, 1.0)
  return np.sum(np.square(total[::2] - total[1::2]), axis=1)


def judge(distance: np.ndarray, same: np.ndarray, *,
          far: float = 1e-3) -> Verified:
  """Judges pairs in ten folds; see this module.

  Of equally good thresholds the lowest is taken. Folds are of consecutive
  pairs, the first ones larger by one where ten does not divide them.

  Args:
    distance: f[P], squared distances.
    same: bool[P], whether a pair shows one person.
    far: the part of the pairs of two people that may be taken for one.

  Raises:
    InputError: fewer than ten pairs, or pairs of one kind alone.

  Example, pairs that a threshold tells apart:
    >>> judge(np.array([0.5, 1.5] * 10), np.array([True, False] * 10)).accuracy
    1.0
  """
  check(same)
  right = (distance[:, None] < THRESHOLDS) == same[:, None]  # [P, 400]
  accuracies, chosen = [], []
  for fold in np.array_split(np.arange(len(same)), FOLDS):
    others = right.sum(axis=0) - right[fold].sum(axis=0)
    best = int(np.argmax(others))
    accuracies.append(right[fold, best].mean())
    chosen.append(THRESHOLDS[best])
  different = np.sort(distance[~same])
  # A whole number that rounding has made less is still that.
  least = different[int(far * len(different) + 1e-9)]
  return Verified(
      float(np.mean(accuracies)), float(np.std(accuracies)),
      float(np.mean(chosen)), float(np.mean(distance[same] < least)), far,
      len(same))


def check(same: np.ndarray) -> None:
  """Refuses pairs by which nothing can be judged; see `judge`."""
  count = len(same)
  if count < FOLDS:
    raise errors.InputError(
        f"{count} pairs are given, and each of {FOLDS} folds needs one; give"
        f" {FOLDS} or more")
  if same.all() or not same.any():
    raise errors.InputError(
        f"all of the {count} pairs are of"
        f" {'one person' if same.all() else 'two people'}; give pairs of both"
        " kinds")
