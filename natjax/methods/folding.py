"""Multiplies theta into the weights of a derived network.

Dropping theta_same (or theta_id) changes what an edge gives by a factor. An
operation that ends in BN, or in a convolution and its bias, can take the factor
up itself, exactly: in scale and bias of the BN, in kernel and bias of the
convolution (`Operation.scale`). Pooling and identities hold nothing and lose
it.
"""

from typing import Any

import numpy as np

from natjax import drawing, operations
from natjax.graph import codec
from natjax.graph import shapes as shapes_lib
from natjax.methods import theta_space
from natjax.networks import network as network_lib
from natjax.operations import edges as edges_lib


def fold(
    params: Any, space: theta_space.ThetaSpace, chosen: tuple[np.ndarray, ...],
    theta: theta_space.Theta) -> tuple[Any, list[list[Any]], list[list[Any]]]:
  """Multiplies the chosen weights into a derived network's parameters.

  Args:
    params: of the derived network, or with it under "network".
    space: that was chosen from.
    chosen: `ThetaSpace.choose`.
    theta: per group, f32[E, 3].

  Returns:
    The parameters, and the [group, edge by its name] that took the factor up
    and those that could not.
  """
  network = codec.expand(space.architecture, space.place)
  shapes = shapes_lib.of(network, space.place)
  before = network_lib.names(network).block
  tree = dict(params.get("network", params))
  folded: list[list[Any]] = []
  left: list[list[Any]] = []
  for group, choice, weights in zip(space.groups, chosen, theta, strict=True):
    called = drawing.edge_names(edge[1:] for edge in group.cell.edges)
    for e, c in enumerate(choice):
      name = group.outcome(e, c)
      if name == operations.NULL or not group.allowed[e].sum() > 1:
        continue
      factor, done = weights[e, c], False
      if group.allowed[e, theta_space.ID] and (
          group.cell.edges[e].operation == operations.SKIP):
        factor = weights[e, theta_space.ID] + weights[e, theta_space.SAME]
      for i in group.members:
        # A block whose edges are all null holds nothing.
        member, key = tree.get(f"{before}{i}", {}), f"edge{e}_{name}"
        edge = network.blocks[i].edges[e + network.prefix]
        new = edges_lib.scaled(
            operations.get(name), shapes[i].ends(edge), member.get(key, {}),
            factor, preactivate=network.preactivate)
        if new:
          tree[f"{before}{i}"], done = {**member, key: new}, True
      (folded if done else left).append([group.name, called[e]])
  whole = {**params, "network": tree} if "network" in params else tree
  return whole, folded, left
