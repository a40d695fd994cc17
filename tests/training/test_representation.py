"""Judging features: batches, labels, and what is compiled."""

import jax.numpy as jnp
import numpy as np
import pytest

from natjax.training import fit
from natjax.training import representation
from tests import tiny


class Pixels:
  """Its features are the pixels, times a number."""

  def __init__(self):
    self.traces = 0

  def features(self, variables, images, *, scale=1.0):
    self.traces += 1
    return scale * variables * images.reshape(len(images), -1)


@pytest.fixture(scope="module")
def splits():
  d = tiny.digits()
  return (fit.Split(d.train_images, d.train_labels),
          fit.Split(d.test_images, d.test_labels))


def run(function, splits, objective=None, **options):
  return function(objective or Pixels(), jnp.ones(()), *splits, num_classes=10,
                  preparation=tiny.preparation(), **options)


def test_features_of_all_images_in_order():
  images = tiny.digits().test_images[:21]
  objective, prepare = Pixels(), tiny.preparation(cutout=2)
  expected = prepare(None, images, train=False).reshape(21, -1)
  for batch_size in (8, 21, 100):
    found = representation.features(
        objective, jnp.float32(2), images, preparation=prepare,
        batch_size=batch_size, scale=jnp.float32(3))
    np.testing.assert_allclose(found, 6 * expected, rtol=1e-6)


def test_one_trace_for_all_batches_and_calls():
  objective = Pixels()
  for count in (24, 21, 8):
    for scale in (1.0, 2.0):
      representation.features(
          objective, jnp.ones(()), tiny.digits().test_images[:count],
          preparation=tiny.preparation(), batch_size=8,
          scale=jnp.float32(scale))
  assert objective.traces == 1


def test_pixels_of_digits_tell_classes_apart(splits):
  knn = run(representation.knn_accuracy, splits, k=5)
  linear = run(representation.linear_accuracy, splits)
  assert 0.96 < knn < 1.0
  assert 0.94 < linear < 1.0
  # With all 1438 neighbours, many are wrong.
  assert run(representation.knn_accuracy, splits, k=2000) < knn - 0.02


def test_labels_that_are_not_true_are_not_met(splits):
  """What is returned is the share of the given labels."""
  train, test = splits
  wrong = test._replace(labels=(test.labels + 1) % 10)
  assert run(representation.knn_accuracy, (train, wrong)) < 0.05
  assert run(representation.linear_accuracy, (train, wrong)) < 0.05


def test_features_that_know_nothing(splits):
  objective = Pixels()
  nothing = run(representation.linear_accuracy, splits, objective,
                scale=jnp.float32(0))
  assert nothing < 0.2
