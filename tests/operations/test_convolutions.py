"""Tests of `natjax.operations.convolutions`."""

import jax
import pytest

from natjax import errors, operations
from tests.operations import modules

build, images, run = modules.build, modules.images, modules.run


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
