"""A supernet's weights in the network of one of its architectures."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from natjax.graph import codec
from natjax.graph import records
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib

_FIRST = records.NUM_INPUTS


def variables(
    supernet: supernet_lib.Supernet,
    held: supernet_lib.Variables,
    architecture: records.Architecture,
) -> supernet_lib.Variables:
  """The variables of `network.Network` for one architecture.

  Args:
    supernet: of running BN.
    held: its variables.
    architecture: of its space.
  """
  plan = supernet.plan
  network = codec.expand(architecture, supernet.place)
  called = network_lib.names(network)
  decisions = codec.decide(architecture, supernet.place, plan.space.share)
  cells = [decisions[g].cell for g in plan.decided]
  at = {i: (r, j) for r, run in enumerate(plan.runs)
        for j, i in enumerate(run)}
  result = {}
  for kind, tree in held.items():
    parts: dict[str, Any] = {}
    for part, names in (("stem", called.stem), ("head", called.head)):
      for layer, name in enumerate(names):
        if f"layer{layer}" in tree.get(part, {}):
          parts[name] = tree[part][f"layer{layer}"]
    for i, cell in enumerate(cells):
      r, j = at[i]
      found = {}
      for n in range(network.prefix):
        before = i - _FIRST + n
        found[f"{called.prefix}{n}"] = _keep_inputs(
            tree["blocks"][r]["preprocess"][j][f"node{n}"], cells, before, plan)
      parts[f"{called.block}{i}"] = found | _edges(
          supernet, tree["blocks"][r], i, j, cell)
    if network.prefix and called.head[-1] in parts:
      parts[called.head[-1]] = _keep_inputs(
          parts[called.head[-1]], cells, len(cells) - 1, plan)
    result[kind] = parts
  return result


def _edges(supernet, tree, i, j, cell):
  """The variables of a block's edges, by their names in the network."""
  plan, make = supernet.plan, supernet.candidates(False)
  found, pairs = {}, [edge[1:] for edge in plan.cell(i).edges]
  for e, edge in enumerate(cell.edges):
    edges = next(p for p in plan.passes(i)
                 if pairs.index(edge[1:]) in p.edges)
    own = tree.get(edges.store, {}).get(edge.operation)
    # A slot may hold what the operation needs at another stride only.
    if own is None or not isinstance(
        make.module(edge.operation, edges.ends), nn.Module):
      continue
    at = edges.edges.index(pairs.index(edge[1:]))
    if plan.space.weights == "slot":
      at = (edge.target - _FIRST) * plan.space.inputs + sum(
          other.target == edge.target for other in cell.edges[:e])
    row = edges.rows[edge.operation][at]
    found[f"edge{e}_{edge.operation}"] = jax.tree.map(
        lambda leaf, row=row: leaf[j, row], own)
  return found


def _keep_inputs(params, cells, i, plan):
  """Kernels that read block `i`, with the rows of what it concatenates."""
  if i < 0:
    return params

  def keep(path, leaf):
    if path[-1].key != "kernel":
      return leaf
    width = leaf.shape[-2] // plan.cell(i).num_nodes
    rows = np.concatenate([np.arange(width) + width * (node - _FIRST)
                           for node in cells[i].concat])
    return leaf[..., rows, :]

  return jax.tree_util.tree_map_with_path(keep, params)
