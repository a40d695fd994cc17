"""The linear classifier against scikit-learn's, on toys and on digits."""


import jax.numpy as jnp
import numpy as np
import pytest
from sklearn import linear_model

from natjax import errors
from natjax.objectives import linear_probe
from tests import tiny


def toy(size=60, features=5, seed=0, noise=1.0):
  """Three classes around their centres, features of unlike scales."""
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, size)
  centres = 3 * np.random.default_rng(9).normal(size=(3, features))
  x = centres[labels] + noise * rng.normal(size=(size, features))
  return ((x * 10.0 ** np.arange(-2, features - 2) + 5).astype(np.float32),
          labels.astype(np.int32))


def test_the_optimum_is_that_of_scikit_learn():
  x, y = toy(noise=3.0)
  penalty = 0.01
  probe = linear_probe.fit(x, y, 3, penalty=penalty)
  z = (x - x.mean(0)) / x.std(0)
  theirs = linear_model.LogisticRegression(
      C=1 / (penalty * len(y)), tol=1e-8, max_iter=1000).fit(z, y)
  logits = x @ probe.kernel + probe.bias
  logits -= logits.mean(axis=1, keepdims=True)
  np.testing.assert_allclose(logits, theirs.decision_function(z), atol=5e-3)
  np.testing.assert_array_equal(linear_probe.predict(probe, x),
                                theirs.predict(z))


def test_separable_classes_are_all_told_apart():
  train, test = toy(noise=0.1), toy(seed=1, noise=0.1)
  assert linear_probe.accuracy(train, test, 3) == 1.0


def test_pixels_of_digits():
  d = tiny.digits()
  train, test = (
      (images[..., 0].reshape(len(images), -1), labels)
      for images, labels in ((d.train_images, d.train_labels),
                             (d.test_images, d.test_labels)))
  accuracy = linear_probe.accuracy(train, test, 10)
  assert 0.94 < accuracy < 1.0
  assert linear_probe.accuracy(train, test, 10) == accuracy


def test_constant_features_change_nothing():
  x, y = toy(noise=3.0)
  constant = np.full((len(x), 1), 7.0, np.float32)
  plain = linear_probe.fit(x, y, 3)
  more = linear_probe.fit(np.concatenate([x, constant], 1), y, 3)
  assert not np.any(more.kernel[-1])
  np.testing.assert_allclose(more.kernel[:-1], plain.kernel, rtol=1e-2,
                             atol=1e-4)


def test_scales_of_features_do_not_matter():
  x, y = toy(noise=3.0)
  scale = np.array([1, 2, 4, 8, 0.25], np.float32)
  a, b = (linear_probe.fit(z, y, 3) for z in (x, x * scale))
  np.testing.assert_allclose(a.kernel, b.kernel * scale[:, None], rtol=1e-2,
                             atol=1e-4)


def test_one_program_for_equal_shapes():
  before = linear_probe._fit._cache_size()
  for seed in range(3):
    linear_probe.fit(*toy(size=17, seed=seed), 3, penalty=0.1 / (seed + 1))
  assert linear_probe._fit._cache_size() == before + 1


@pytest.mark.parametrize("change, message", [
    ({"features": jnp.ones((4, 2, 1))}, "do not fit together"),
    ({"labels": jnp.zeros(3, jnp.int32)}, "do not fit together"),
    ({"features": jnp.ones((0, 2)), "labels": jnp.zeros(0, jnp.int32)},
     "at least 1"),
    ({"penalty": -1.0}, "penalty is -1"), ({"steps": 0}, "steps 0")])
def test_refusals(change, message):
  given = {"features": jnp.ones((4, 2)), "labels": jnp.zeros(4, jnp.int32),
           "num_classes": 2} | change
  with pytest.raises(errors.InputError, match=message):
    linear_probe.fit(**given)
