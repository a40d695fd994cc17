"""Tests of `natjax.operations.convolutions`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations
from tests.operations import modules

build, images, run = modules.build, modules.images, modules.run


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [
    (3, 3, 3, 16), (5, 5, 1, 33), (10, 5), (1, 1, 16, 16), (3, 3, 96, 80)])
def test_kernels_are_those_of_flax(shape, dtype):
  plain = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")
  for run in (lambda draw: draw, lambda draw: jax.jit(draw, static_argnums=(
      1, 2))):
    found, expected = (run(draw)(jax.random.key(7), shape, dtype)
                       for draw in (operations.kernel_init, plain))
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_few_programs_draw_many_kernels():
  drawn = [jax.make_jaxpr(operations.kernel_init, static_argnums=1)(
      jax.random.key(0), (3, 3, width, width)) for width in range(1, 80, 3)]
  sizes = {eqn.outvars[0].aval.shape for traced in drawn
           for eqn in traced.eqns if eqn.params.get("name") == "_uniform"}
  assert sizes == {(256,), (1024,), (4096,), (16384,), (65536,)}


def test_groups_that_do_not_divide_the_channels_are_refused():
  with pytest.raises(errors.InputError, match=r"6 channels .* 4 groups"):
    run("group4_conv_1x1", 1, images((2, 5, 5, 6)))
  with pytest.raises(errors.InputError, match=r"6 channels .* 4 groups"):
    operations.get("group4_conv_1x1").cost(6, 8, 1)


def test_factorized_reduce_refuses_odd_channels():
  with pytest.raises(errors.InputError, match="5 channels") as e:
    build("skip_connect", 2, channels=5).init(
        jax.random.key(0), images((1, 4, 4, 5)))
  assert "\n" not in str(e.value)
