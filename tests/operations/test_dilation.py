"""Operations whose strides became dilations, against those with strides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import operations
from natjax.networks import layers
from natjax.operations import edge_modules, edges, primitives
from tests.networks import oracle
from tests.operations import modules

# Of units, which differ in the kernel alone, those of kernel 3.
NAMES = [name for name in operations.BUILTIN
         if operations.get(name).type not in ("mbconv", "shuffle")
         or operations.get(name).kernel_size == 3]
# Rates before, strides, strides that are left: the first that becomes 1, one
# behind it, and of a stride of 4 a part.
RATES = [(1, 2, 1), (2, 2, 1), (2, 1, 1), (4, 1, 1)]
norm = functools.partial(layers.RunningBatchNorm, False)


def images(rate, sides=(13, 18), channels=8):
  """Fine images, of which one side is no multiple of the rates."""
  return modules.images((2, *sides, channels), seed=rate)


def compare(make, rate, stride, left, x, tolerance=1e-5):
  """The fine output of a module, whose every so many pixels are checked."""
  coarse = x[:, ::rate, ::rate]
  variables = {}
  if hasattr(make(), "init"):
    like = jax.eval_shape(make().init, jax.random.key(0), coarse)
    variables = oracle.random_weights(like, 3)

  def run(x, before, after):
    with primitives.dilated(before, after):
      module = make()
      return module.apply(variables, x) if variables else module(x)

  after = rate * stride // left
  expected = run(coarse, 1, 1)
  found = run(x, rate, after)
  np.testing.assert_allclose(
      found[:, ::after, ::after], expected, atol=tolerance, rtol=tolerance)
  return found, after


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_operation_gives_the_same_where_both_are_defined(name):
  operation = operations.get(name)
  for rate, stride, left in RATES:
    if stride not in operation.strides or operation.random:
      continue
    for padding in ("symmetric", "same")[:1 + operation.pads]:
      ends = edges.Ends(8, 16 if operation.widens else 8, stride, 13, padding)
      make = lambda ends=ends: edge_modules.module(
          operation, ends, norm=norm, preactivate=True)
      x = images(rate)
      found, after = compare(make, rate, stride, left, x)
      with primitives.dilated(rate, after):
        assert found.shape[1:3] == tuple(
            operation.output_size(side, stride) for side in x.shape[1:3])


def test_what_draws_cannot_be_dilated():
  for name in operations.names():
    operation = operations.get(name)
    assert operation.dilates != operation.random


@pytest.mark.long
@pytest.mark.parametrize("kind", ["conv", "depthwise_conv", "max_pool",
                                  "avg_pool"])
def test_both_forms_of_windows_and_a_part_of_a_stride(kind, branch):
  kernel = np.random.default_rng(0).normal(size=(3, 3, 8, 5)).astype("f")
  calls = {
      "conv": lambda x, stride: primitives.conv(
          x, kernel, stride=stride, dilation=2),
      "depthwise_conv": lambda x, stride: primitives.depthwise_conv(
          x, kernel[:, :, None, :, 0], stride=stride, dilation=2),
      "max_pool": lambda x, stride: primitives.max_pool(
          x, 3, stride=stride, padding="same"),
      "avg_pool": lambda x, stride: primitives.avg_pool(
          x, 3, stride=stride, padding=1)}

  # And the gradients, of what reads those pixels alone.
  def loss(x, before, after, stride):
    with primitives.dilated(before, after):
      y = calls[kind](x, stride)[:, ::after, ::after]
    weights = np.random.default_rng(1).normal(size=y.shape).astype("f")
    return jnp.sum(y * weights)

  for rate, stride, left in [*RATES, (1, 4, 2), (2, 4, 1)]:
    x = images(rate)
    windows = functools.partial(calls[kind], stride=stride)
    after = compare(lambda made=windows: made, rate, stride, left, x)[1]
    fine = jax.grad(loss)(x, rate, after, stride)
    coarse = jax.grad(loss)(x[:, ::rate, ::rate], 1, 1, stride)
    np.testing.assert_allclose(fine[:, ::rate, ::rate], coarse, atol=1e-4)
    fine = np.asarray(fine).copy()
    fine[:, ::rate, ::rate] = 0
    assert not fine.any()


def test_the_first_window_that_strides_is_not_dilated_itself():
  """As usual: a 3x3 sees neighbours, and the next one every other pixel."""
  x = jnp.zeros((1, 9, 9, 1)).at[0, 4, 4].set(1)
  ones = jnp.ones((3, 3, 1, 1))
  with primitives.dilated(1, 2):
    first = primitives.conv(x, ones, stride=2)
    then = primitives.conv(x, ones)
  assert first.shape == then.shape == x.shape
  assert np.flatnonzero(first[0, 4, :, 0]).tolist() == [3, 4, 5]
  assert np.flatnonzero(then[0, 4, :, 0]).tolist() == [2, 4, 6]
