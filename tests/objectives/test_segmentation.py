"""Loss and mIoU of segmentation, by hand and against plain loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.objectives import segmentation

VOID = segmentation.VOID


def test_miou_of_masks_by_hand():
  # Class 0: 3 of 4 found, 1 too many; class 1: 1 of 2; class 2: 1 of 1, and one
  # void pixel that is taken for it; class 3 is in the labels of no pixel.
  labels = jnp.array([[0, 0, 0, 0], [1, 1, 2, VOID]])
  predicted = jnp.array([[0, 0, 0, 1], [1, 0, 2, 2]])
  counts = segmentation.confusion(predicted, labels, 4)
  assert counts.tolist() == [[3, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0],
                             [0, 0, 0, 0]]
  found = segmentation.scores(np.asarray(counts))
  assert found.ious == (3 / 5, 1 / 3, 1.0, None)
  assert found.miou == float((9 / 15 + 5 / 15 + 1) / 3)
  assert found.absent == (3,) and found.pixels == 7
  assert found.accuracy == 5 / 7


def test_a_class_that_is_predicted_alone_counts_as_0():
  counts = segmentation.confusion(jnp.array([1]), jnp.array([0]), 3)
  assert segmentation.scores(np.asarray(counts)).ious == (0.0, 0.0, None)


def test_counts_beyond_what_floats_hold_are_exact():
  big = 2**53
  found = segmentation.scores(np.array([[big + 1, 0], [0, 1]], np.int64))
  assert found.pixels == big + 2 and found.ious == (1.0, 1.0)


def test_pixels_of_all_images_are_counted_together():
  """Not a mean of images' means."""
  rng = np.random.default_rng(0)
  labels, predicted = rng.integers(0, 3, (2, 4, 5, 6))
  labels[0, :2] = VOID
  whole = sum(np.asarray(segmentation.confusion(p, y, 3), np.int64)
              for p, y in zip(predicted, labels, strict=True))
  plain = np.zeros((3, 3), np.int64)
  for p, y in zip(predicted.ravel(), labels.ravel(), strict=True):
    if y != VOID:
      plain[y, p] += 1
  np.testing.assert_array_equal(whole, plain)


def test_nothing_to_judge_by_is_refused():
  with pytest.raises(errors.InputError, match="all pixels are void"):
    segmentation.scores(np.zeros((2, 2), int))


def test_the_loss_leaves_void_out():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 3, 4)).astype("f")
  labels = rng.integers(0, 4, (2, 3, 3))
  labels[0, 1] = VOID
  each = [-np.log(np.exp(z[y]) / np.exp(z).sum()) for z, y in zip(
      logits.reshape(-1, 4), labels.ravel(), strict=True) if y != VOID]
  loss = lambda z: segmentation.cross_entropy(z, jnp.asarray(labels))
  assert float(loss(logits)) == pytest.approx(np.mean(each), rel=1e-5)
  assert not jax.grad(loss)(logits)[0, 1].any()
  nothing = jnp.full(labels.shape, VOID)
  assert segmentation.cross_entropy(logits, nothing) == 0.0
  assert np.isfinite(jax.grad(lambda z: segmentation.cross_entropy(
      z, nothing))(logits)).all()


def test_the_mean_over_devices_is_that_over_pixels():
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(2, 3, 3, 4)).astype("f")
  labels = rng.integers(0, 4, (2, 3, 3))
  labels[0, :2] = VOID
  parts = jax.vmap(lambda z, y: segmentation.cross_entropy(
      z, y, axis_name="devices"), axis_name="devices")(
          logits[:, None], labels[:, None])
  assert float(jnp.mean(parts)) == pytest.approx(
      float(segmentation.cross_entropy(logits, labels)), rel=1e-6)
