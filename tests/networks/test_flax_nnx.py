"""Modules of flax's nnx read as networks of blocks."""

from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natjax
from natjax import errors


class _Block(nnx.Module):

  def __init__(self, before: int, width: int, stride: int, rngs: nnx.Rngs,
               act=nnx.relu):
    conv = lambda a, b, side, s: nnx.Conv(
        a, b, (side, side), strides=s, use_bias=False, rngs=rngs)
    self.conv1, self.bn1 = conv(before, width, 3, stride), nnx.BatchNorm(
        width, rngs=rngs)
    self.conv2, self.bn2 = conv(width, width, 3, 1), nnx.BatchNorm(
        width, rngs=rngs)
    self.short = conv(before, width, 1, stride) if stride > 1 else None
    self.act = act

  def __call__(self, x):
    y = self.bn2(self.conv2(self.act(self.bn1(self.conv1(x)))))
    return nnx.relu(y + (x if self.short is None else self.short(x)))


class _Net(nnx.Module):

  def __init__(self, rngs: nnx.Rngs, twice: bool = False, act=nnx.relu):
    self.stem = nnx.Conv(3, 8, (3, 3), rngs=rngs)
    block = _Block(8, 8, 1, rngs)
    self.blocks = nnx.List([
        block, *([block] if twice else []), _Block(8, 16, 2, rngs, act)])
    self.dropout = nnx.Dropout(0.5, rngs=rngs)
    self.head = nnx.Linear(16, 10, rngs=rngs)

  def __call__(self, x, frozen=True):
    x = nnx.relu(self.stem(x))
    for block in self.blocks:
      x = block(x)
    return self.head(self.dropout(jnp.mean(x, (1, 2))))


@pytest.fixture(scope="module")
def images():
  return jax.random.normal(jax.random.key(3), (2, 16, 16, 3))


def _trained(**options):
  """A module whose statistics are not those of the start."""
  module = _Net(nnx.Rngs(0), **options)
  for n, (_, part) in enumerate(nnx.iter_modules(module)):
    if isinstance(part, nnx.BatchNorm):
      key = jax.random.key(n)
      part.mean[...] = jax.random.normal(key, part.mean.shape)
      part.var[...] = jax.random.uniform(key, part.var.shape) + 0.5
  return module


def _differences(module, found, images):
  module.eval()
  return np.abs(
      found.module.apply(found.variables, images)[0] - module(images)).max()


def test_a_resnet_gives_its_logits(images):
  module = _trained()
  found = natjax.from_flax(module, None, images)
  assert not module.dropout.deterministic  # It is left as it was.
  assert type(module.stem) is nnx.Conv
  assert [[edge.operation for edge in block.edges]
          for block in found.network.blocks] == 2 * [
              ["conv_3x3", "conv_3x3", "skip_connect", "skip_connect"]]
  assert not found.fixed
  assert _differences(module, found, images) < 1e-5


def test_what_no_block_expresses_is_fixed_and_named(images):
  module = _trained(act=nnx.gelu)
  found = natjax.from_flax(module, example=images)
  assert [fixed.path for fixed in found.fixed] == ["blocks/1"]
  assert _differences(module, found, images) < 1e-5


def test_a_variable_that_is_a_plain_number_is_no_weight(images):
  module = _trained()
  module.factor = nnx.Variable(2)
  found = natjax.from_flax(module, None, images)
  assert _differences(module, found, images) < 1e-5


def test_refusals(images):
  with pytest.raises(errors.InputError, match=r"blocks/0/.* called twice"):
    natjax.from_flax(_trained(twice=True), None, images)
  with pytest.raises(errors.InputError, match="holds its own"):
    natjax.from_flax(_trained(), {"params": {}}, images)
  with pytest.raises(errors.InputError, match="square"):
    natjax.from_flax(_trained(), None, images[:, :8])


def test_images_that_matter_for_each_other_are_refused(images):
  mixing = lambda x: nnx.relu(x - jnp.mean(x, axis=0, keepdims=True))
  with pytest.raises(errors.InputError, match="two images have other logits"):
    natjax.from_flax(_trained(act=mixing), None, images)


def test_a_bn_that_stays_in_training_is_named(images):

  class ByBatch(_Net):

    def __call__(self, x):
      x = self.blocks[0].bn1(self.stem(x), use_running_average=False)
      return self.head(jnp.mean(x, (1, 2)))

  with pytest.raises(errors.InputError, match="blocks/0/bn1 normalises by the"):
    natjax.from_flax(ByBatch(nnx.Rngs(0)), None, images)
