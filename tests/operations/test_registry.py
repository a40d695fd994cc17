"""Tests of `natjax.operations.registry`."""

import pickle
import sys
import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from natjax import errors, operations
from natjax.operations import registry
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


_BASE = '''
import flax.linen as nn
class Base(nn.Module):
  pass
'''
_CELL = '''
import flax.linen as nn
from natjax import operations

class Scaled(nn.Module):
  features: int
  stride: int
  norm: operations.NormFactory
  power: int = 1

  def setup(self):
    self.shift = self.param("shift", nn.initializers.zeros, (self.features,))

  @nn.compact
  def __call__(self, x):
    scale = self.param("scale", nn.initializers.ones, (self.features,))
    return scale ** self.power * x[:, ::self.stride, ::self.stride] + self.shift

def made(factor):
  return lambda channels, size, stride: operations.Cost(factor * channels, 0)

kept = operations.register(operations.Operation(
    "scaled", "scaled", 1, Scaled, made(2)))
'''


@pytest.fixture
def cell(monkeypatch):
  monkeypatch.setattr(registry, "_REGISTRY", {**registry._REGISTRY})
  notebook = types.ModuleType("notebook")
  monkeypatch.setitem(sys.modules, "notebook", notebook)
  names = vars(notebook)

  def run(source):
    exec(compile(source, "<cell>", "exec"), names)  # As a notebook does.
    return names["kept"]

  return run


def test_a_cell_that_is_run_again_registers_nothing_anew(cell):
  first = cell(_CELL)
  for source in (_CELL, f"# Again.\n\n{_CELL}"):
    assert cell(source) is first is operations.get("scaled")
  with operations.registered(first) as known:
    assert known is first
  assert operations.get("scaled") is first
  assert operations.register(operations.get("conv_3x3")) is (
      operations.get("conv_3x3"))


@pytest.mark.parametrize("old, new", [
    ("made(2)", "made(3)"), ("* x", "+ x"),
    ("power: int = 1", "power: int = 2"),
    ("ones", "zeros"), ("setup(self)", "other(self)"),
    ('1, Scaled, made(2)', '3, Scaled, made(2)'), ("nn.Module", "Base"),
    ("Cost(factor", "Cost(1 + factor"),
    ("::self.stride] +", "::1] +"), ("made(2)))", "made(2), strides=(1,)))")])
def test_another_definition_of_a_name_is_refused(cell, old, new):
  first = cell(_BASE + _CELL)
  assert old in _CELL
  with pytest.raises(errors.InputError, match=r"'scaled' is already .* again"):
    cell(_CELL.replace(old, new))
  assert operations.get("scaled") is first


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
