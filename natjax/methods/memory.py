"""Rough counts of the memory that a training needs, in bytes."""

from typing import Any
from typing import Protocol

import jax.numpy as jnp

from natjax.costs import exact as cost_lib
from natjax.graph import blocks as blocks_lib
from natjax.graph import codec
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import build as build_lib


class Supernet(Protocol):
  """What counts of a supernet: pixels of all its nodes, type of its numbers."""

  pixels: Any
  dtype: Any


def _bytes(dtype):
  return jnp.dtype(dtype).itemsize


def network_bytes(
    architecture: codec.Architecture, place: build_lib.Place, batch: int, dtype: str
) -> int:
  """Of a network: parameters, momentum, gradient, and every edge's image.

  An operation keeps about four images of its size for the backward pass.
  """
  params = cost_lib.network(architecture, place).params
  if isinstance(architecture, blocks_lib.BlockNetwork):
    pixels = sum(
        4 * p.nodes[e.target].size**2 * p.nodes[e.target].width
        for block, p in zip(architecture.blocks, blocks_lib.places(
            architecture, place), strict=True) for e in block.edges)
    return 12 * params + batch * pixels * _bytes(dtype)
  widths = [len(cell.concat) for cell in architecture]
  pixels = sum(
      layer.out_size**2 * layer.channels * (
          4 * len(architecture[int(layer.reduction)].edges)
          + 2 * widths[int(layer.reduction)])
      for layer in skeleton_lib.layers(place, widths))
  return 12 * params + batch * pixels * _bytes(dtype)


def supernet_bytes(
    supernet: Supernet, params: int, batch: int
) -> int:
  """Of a supernet: three copies of the weights, and every node twice.

  The backward pass recomputes what the edges did (`networks.cell_scan`).
  """
  return 16 * params + batch * 2 * supernet.pixels * _bytes(supernet.dtype)
