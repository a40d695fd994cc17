"""Operations as modules, and images for them."""

import flax.linen as nn
import jax
import numpy as np

from natjax import operations
from natjax.networks import layers
from tests.networks import oracle

SHAPE = (2, 7, 6, 4)  # One odd and one even side.


def images(shape=SHAPE, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def affine_norm(name):
  return layers.BatchAffineNorm(name=name)


def build(name, stride, channels=SHAPE[-1], norm=affine_norm):
  return operations.get(name).module(
      features=channels, stride=stride, norm=norm)


def run(name, stride, x, seed=1):
  """An operation's output and its random weights."""
  return apply(build(name, stride, x.shape[-1]), x, seed)


def apply(module, x, seed=1):
  """The output of a module or a function, and a module's random weights."""
  if not isinstance(module, nn.Module):
    return jax.jit(module)(x), {}
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)
  variables = oracle.random_weights(shapes, seed)
  return jax.jit(module.apply)(variables, x), variables.get("params", {})
