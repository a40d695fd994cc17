"""Rough counts of the memory that a training needs, in bytes."""

import jax.numpy as jnp

from natjax.costs import exact as cost_lib
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.networks import supernet as supernet_lib


def network_bytes(architecture: records.Architecture, place: records.Place,
                  batch: int, dtype: str) -> int:
  """Of a network: parameters, momentum, gradient, and every edge's image.

  An operation keeps about four images of its size for the backward pass.
  """
  params = cost_lib.network(architecture, place).params
  network = codec.expand(architecture, place)
  pixels = sum(
      4 * shapes.nodes[edge.target].size**2 * shapes.nodes[edge.target].width
      for block, shapes in zip(network.blocks, shapes_lib.of(network, place),
                               strict=True) for edge in block.edges)
  return 12 * params + batch * pixels * jnp.dtype(dtype).itemsize


def supernet_bytes(supernet: supernet_lib.Supernet, params: int,
                   batch: int) -> int:
  """Of a supernet: three copies of the weights, and every node twice.

  The backward pass recomputes what the edges did (`networks.rules`).
  """
  return 16 * params + (
      batch * 2 * supernet.plan.pixels * jnp.dtype(supernet.dtype).itemsize)
