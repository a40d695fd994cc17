"""The supernet's dense form of an architecture, which equals the selected."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from natjax.graph import arrays as arrays_lib

_FIRST = 2  # Nodes before those that sum.


def weights(net, arrays):
  """The f32[G, E, O] for which the two forms are equal: whole numbers."""
  cells = [decision.cell for decision in net.plan.decisions]
  most = max(len(cell.edges) for cell in cells)
  found = jnp.zeros((len(cells), most, len(net.space.candidates)))
  for g, cell in enumerate(cells):
    n, k = cell.num_nodes, arrays.operation.shape[-1]
    number: Any = np.arange(len(cell.edges))
    if net.space.inputs is None:
      operation = arrays.operation[g][arrays_lib.slots(cell)]
    else:
      lookup = np.zeros((n + _FIRST,) * 2, np.int32)
      for e, edge in enumerate(cell.edges):
        lookup[edge.source, edge.target] = e
      number = jnp.asarray(lookup)[arrays.source[g, :n].reshape(-1),
                                   np.repeat(np.arange(n) + _FIRST, k)]
      operation = arrays.operation[g, :n].reshape(-1)
    found = found.at[g, number, operation].add(1.0)
  return found


def apply(net, params, weights, concat, images, *, rng=None):
  """The logits with every operation weighted."""
  return net.run(
      {"params": params}, net.weighed(weights, concat), images, rng=rng)[0]
