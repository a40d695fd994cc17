"""Tests of `natjax.operations.registry`."""

import pickle

import flax.linen as nn
import jax
import numpy as np
import pytest

from natjax import errors, operations
from tests.operations import modules

build, images = modules.build, modules.images


class Shift(nn.Module):
  """Adds a learned number; takes every stride-th pixel."""

  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x):
    shift = self.param("shift", nn.initializers.constant(3.0), (self.features,))
    return x[:, ::self.stride, ::self.stride] + shift


def shift(name="shift"):
  return operations.Operation(
      name, "shift", 1, Shift,
      lambda channels, size, stride: operations.Cost(channels, 0))


def test_registered_operation_is_known_for_the_block_only():
  before = operations.names()
  with operations.registered(shift()) as operation:
    assert operations.names() == (*before, "shift")
    assert operations.get("Shift") is operation
    y, _ = build("shift", 2).init_with_output(jax.random.key(0), images())
    np.testing.assert_array_equal(y, images()[:, ::2, ::2] + 3)
  assert operations.names() == before
  with pytest.raises(errors.InputError, match="unknown operation 'shift'"):
    operations.get("shift")


def test_the_librarys_own_are_pickled():
  for name in operations.BUILTIN:
    operation = operations.get(name)
    again = pickle.loads(pickle.dumps(operation))
    assert again.cost(8, 6, 2) == operation.cost(8, 6, 2)
    assert again.name == name and again.output_size is operation.output_size
    first, second = (op.module(features=8, stride=op.strides[-1], norm=None)
                     for op in (operation, again))
    assert type(first) is type(second)


def test_registration_ends_with_an_error_in_the_block():
  with pytest.raises(KeyError), operations.registered(shift()):
    raise KeyError
  assert "shift" not in operations.names()


@pytest.mark.parametrize("name, message", [
    ("conv_3x3", "'conv_3x3' is already registered"), ("null", "already"),
    ("none", "'none' is already"), ("Shift", "lower case"),
])
def test_name_clashes(name, message):
  before = operations.names()
  with pytest.raises(errors.InputError, match=message) as e:
    operations.register(shift(name))
  assert "\n" not in str(e.value)
  assert operations.names() == before


def test_unknown_operation():
  with pytest.raises(errors.InputError, match="'conv_9x9'") as e:
    operations.get("conv_9x9", where="here")
  assert str(e.value).startswith("here: ")
  assert ", ".join(operations.names()) in str(e.value)
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("given, name", [
    ("none", "null"), ("NONE", "null"), ("Sep_Conv_3x3", "sep_conv_3x3"),
])
def test_canonical_names(given, name):
  assert operations.canonical(given) == name == operations.get(given).name
