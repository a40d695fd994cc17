"""Operations between nodes of unlike shapes, in networks of blocks.

In a cell all nodes have C channels, and an operation begins with a ReLU. In a
network of blocks (`graph.blocks`) an edge may change the width, and nodes may
do the activating. `module` and `cost` are the one place that says how an
operation is brought to its target's shape:
- Convolutions change the width themselves.
- A skip across a change of shape is a projection: a 1x1 convolution with the
  stride, then BN; in preactivated networks ReLU comes first, and at stride 2
  it is a factorised reduce, as in cells.
- Whatever keeps its width (pooling, depthwise convolutions, operations of a
  user's own) is followed by a 1x1 convolution and BN where the width changes.
"""

from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import operations

Cost = operations.Cost


class Ends(NamedTuple):
  """The shapes that an edge joins.

  Attributes:
    in_channels: of the source.
    channels: of the target.
    stride: how many times smaller the target's image is.
  """

  in_channels: int
  channels: int
  stride: int


class Chain(nn.Module):
  """A pooling or another operation of fixed width, then a projection."""

  first: Callable[[jax.Array], jax.Array]
  projection: nn.Module

  def __call__(self, x: jax.Array) -> jax.Array:
    return self.projection(self.first(x))


def module(
    operation: operations.Operation,
    ends: Ends,
    *,
    norm: operations.NormFactory,
    preactivate: bool = False,
) -> Callable[[jax.Array], jax.Array]:
  """Returns a linen module or a function [B, H, W, C_in] -> [B, h, w, C].

  Args:
    operation: what stands on the edge.
    ends: the shapes that it joins.
    norm: returns the BN to use.
    preactivate: whether operations begin with a ReLU.
  """
  in_channels, channels, stride = ends
  project = lambda activate, step: operations.ReluConvNorm(
      channels, step, norm, kernel_size=1, activate=activate)
  if operation.name == operations.NULL:
    return lambda x: jnp.zeros(
        (*x[:, ::stride, ::stride].shape[:3], channels), x.dtype)
  if operation.name == operations.SKIP:
    if stride == 1 and in_channels == channels:
      return lambda x: x
    if preactivate and stride == 2:
      return operations.FactorizedReduce(channels, norm)
    return project(preactivate, stride)
  options = {} if preactivate or not operation.activates else {
      "activate": False}
  width = channels if operation.widens else in_channels
  run = operation.module(features=width, stride=stride, norm=norm, **options)
  if width == channels:
    return run
  return Chain(run, project(False, 1))


def cost(
    operation: operations.Operation,
    ends: Ends,
    size: int,
    *,
    preactivate: bool = False,
) -> Cost:
  """Cost of an operation on an edge, with affine BN.

  Args:
    operation: what stands on the edge.
    ends: the shapes that it joins.
    size: side of the source's image.
    preactivate: whether operations begin with a ReLU; it decides what a
      strided skip is, whose two forms cost the same.
  """
  in_channels, channels, stride = ends
  project = lambda size, step: operations.get("conv_1x1").cost(
      channels, size, step, in_channels=in_channels)
  if operation.name == operations.NULL:
    return Cost(0, 0)
  if operation.name == operations.SKIP:
    if stride == 1 and in_channels == channels:
      return operation.cost(channels, size, stride)
    if preactivate and stride == 2:
      operations.check_halvable(channels)
    return project(size, stride)
  if operation.widens:
    return operation.cost(channels, size, stride, in_channels=in_channels)
  total = operation.cost(in_channels, size, stride)
  if in_channels != channels:
    total += project(-(-size // stride), 1)
  return total
