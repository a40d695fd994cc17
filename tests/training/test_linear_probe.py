"""The linear classifier on features."""

import numpy as np
import pytest

from natjax import errors
from natjax.training import linear_probe
from tests import tiny


def test_what_is_separable_is_separated():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 60).astype(np.int32)
  features = rng.normal(size=(60, 5)).astype("f")
  features[np.arange(60), labels] += 50
  assert linear_probe.accuracy(
      features[:40], labels[:40], features[40:], labels[40:], 3) == 1.0


def test_pixels_of_digits_are_nearly_linear():
  digits = tiny.digits()
  flat = lambda images: images.reshape(len(images), -1).astype("f") / 255
  found = linear_probe.accuracy(
      flat(digits.train_images), digits.train_labels,
      flat(digits.test_images), digits.test_labels, 10, steps=50)
  assert found > 0.93


def test_noise_is_not_learnt():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 10, 400).astype(np.int32)
  features = rng.normal(size=(400, 3)).astype("f")
  assert linear_probe.accuracy(features[:200], labels[:200], features[200:],
                               labels[200:], 10, steps=20) < 0.25


def test_shapes_that_do_not_fit_are_refused():
  with pytest.raises(errors.InputError, match="features have shape"):
    linear_probe.accuracy(np.ones((3, 2)), np.zeros(4), np.ones((1, 2)),
                          np.zeros(1), 2)
