"""Operations between nodes of unlike shapes, as modules; `edges` says which."""

from collections.abc import Callable
import functools
from typing import Any

import flax.linen as nn
import jax

from natjax import operations
from natjax.operations import convolutions, edges, primitives


class Chain(nn.Module):
  """A pooling or another operation of fixed width, then a projection.

  Both are made when it runs: a linen module that is made in another's
  `__call__` is that one's, and its parameters lie beside the chain's.

  Attributes:
    first: makes the operation.
    projection: makes the module of the projection.
  """

  first: Callable[[], Callable[[jax.Array], jax.Array]]
  projection: Callable[[], nn.Module]

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    first = self.first()
    if isinstance(first, nn.Module):
      first = first.clone(parent=self, name="first")
    return self.projection().clone(parent=self, name="projection")(first(x))


def module(operation: operations.Operation, ends: edges.Ends, *,
           norm: operations.NormFactory,
           preactivate: bool = False) -> Callable[[jax.Array], jax.Array]:
  """Returns a linen module or a function [B, H, W, C_in] -> [B, h, w, C].

  Args:
    operation: what stands on the edge.
    ends: the shapes that it joins.
    norm: returns the BN to use.
    preactivate: whether operations begin with a ReLU.
  """
  in_channels, channels, stride, *_ = ends
  project = lambda activate, step: convolutions.ReluConvNorm(
      channels, step, norm, kernel_size=1, activate=activate)
  if edges.is_projection(operation, ends, preactivate):
    return project(preactivate, stride)
  options: dict[str, Any] = {} if preactivate or not operation.activates else {
      "activate": False}
  if operation.pads and ends.padding != primitives.SYMMETRIC:
    options["padding"] = ends.padding
  width = channels if operation.widens else in_channels
  make = functools.partial(operation.module, features=width, stride=stride,
                           norm=norm, **options)
  if width != channels:
    return Chain(make, functools.partial(project, False, 1))
  with edges.guarded(operation):
    return make()
