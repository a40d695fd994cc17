"""Rough counts of the memory that a training needs, in bytes."""

from typing import Any

import jax
import jax.numpy as jnp

from natjax.costs import exact as cost_lib
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.networks import supernet as supernet_lib


def size(tree: Any) -> int:
  """Numbers in a tree of arrays, or of their shapes."""
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def supernet(net: supernet_lib.Supernet, batch: int) -> dict[str, int]:
  """Of a supernet in training: "params" and "memory_bytes".

  The weights, their gradient and what the optimizer keeps are four copies;
  every node counts twice, since the backward pass recomputes what the edges did
  (`networks.rules`).
  """
  params = size(jax.eval_shape(net.init, jax.random.key(0))["params"])
  return {"params": params, "memory_bytes": 16 * params + (
      2 * batch * net.plan.pixels * jnp.dtype(net.dtype).itemsize)}


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
