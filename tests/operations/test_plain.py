"""Tests of `natjax.operations.plain`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import operations
from tests.operations import modules

build, images, SHAPE = modules.build, modules.images, modules.SHAPE


def test_skip_is_the_identity():
  x = images()
  assert build("skip_connect", 1)(x) is x
  assert operations.get("skip_connect").identity
  assert [n for n in operations.names() if operations.get(n).identity] == [
      "skip_connect"]


def test_pooling_is_what_a_supernet_normalises():
  assert {n for n in operations.names() if operations.get(n).pooled} == {
      "max_pool_2x2_padded",
      *(f"{kind}_pool_{k}x{k}" for kind in ("max", "avg") for k in (2, 3, 5))}


@pytest.mark.parametrize("name", ["avg_pool_2x2", "max_pool_2x2",
                                  "max_pool_2x2_padded"])
def test_2x2_pooling_stands_at_stride_2_only(name):
  assert operations.get(name).strides == (2,)


def test_null_stops_nan_and_gradient():
  x = images()
  y, g = jax.value_and_grad(lambda x: jnp.sum(build("null", 2)(x)))(x)
  assert y == 0 and not np.any(g)
  assert not np.any(build("null", 1)(np.full(SHAPE, np.inf, np.float32)))


def test_padded_windows_literal(branch):
  """Every pixel of 2x2 has a corner's window of its own."""
  x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
  y = build("max_pool_2x2_padded", 2)(x)
  np.testing.assert_array_equal(y, x)
  # Padding never wins.
  np.testing.assert_array_equal(build("max_pool_2x2_padded", 2)(-x), -x)


@pytest.mark.parametrize("size, out", [(32, 17), (17, 9), (9, 5), (1, 1)])
def test_padded_windows_leave_a_pixel_more(size, out):
  assert operations.get("max_pool_2x2_padded").output_size(size, 2) == out
  y = build("max_pool_2x2_padded", 2)(jnp.zeros((1, size, size, 1)))
  assert y.shape == (1, out, out, 1)


# Noise.


def noise(x, stride=1, name="noise", **rngs):
  class Named(nn.Module):
    @nn.compact
    def __call__(self, x):
      return operations.get("noise").module(
          features=x.shape[-1], stride=stride, norm=None).clone(
              parent=self, name=name)(x)

  return Named().apply({}, x, rngs=rngs)


@pytest.mark.parametrize("stride, shape", [(1, (2, 7, 6, 4)),
                                           (2, (2, 4, 3, 4))])
def test_noise_is_drawn_whatever_the_image(stride, shape):
  key = jax.random.key(0)
  y = noise(images(), stride, noise=key)
  assert y.shape == shape and y.dtype == jnp.float32
  other = noise(np.full(SHAPE, np.nan, np.float32), stride, noise=key)
  np.testing.assert_array_equal(y, other)
  assert np.abs(y - noise(images(), stride, noise=jax.random.key(1))).min() > 0
  assert noise(jnp.asarray(images(), jnp.bfloat16)).dtype == jnp.bfloat16
  gradient = jax.grad(lambda x: jnp.sum(noise(x, stride, noise=key)))(images())
  assert not np.any(gradient)


def test_noise_has_variance_1():
  y = noise(jnp.zeros((8, 32, 32, 8)), noise=jax.random.key(0))
  # Of 65536 numbers; four standard errors.
  assert abs(np.mean(y)) < 4 / 256
  assert abs(np.var(y) - 1) < 4 * np.sqrt(2) / 256


def test_noise_without_a_stream_depends_on_its_place_alone():
  """A trained network predicts the same, however often it is asked."""
  first = noise(images(), name="edge0_noise")
  np.testing.assert_array_equal(first, noise(images(), name="edge0_noise"))
  second = noise(images(), name="edge1_noise")
  assert np.abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.3


def test_noise_alone_draws():
  assert [n for n in operations.names() if operations.get(n).random] == [
      "noise"]
  assert operations.get("noise").cost(8, 8, 1) == (0, 0, 0, 0)
