"""A supernet's weights in the network of one of its architectures."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, records
from natjax.networks import network as network_lib
from natjax.networks import store
from natjax.networks import supernet as supernet_lib

_FIRST = records.NUM_INPUTS


def variables(supernet: supernet_lib.Supernet, held: supernet_lib.Variables,
              architecture: records.Architecture) -> supernet_lib.Variables:
  """The variables of `network.Network` for one architecture.

  Args:
    supernet: of running BN.
    held: its variables.
    architecture: of its space.
  """
  plan = supernet.plan
  network = codec.expand(architecture, supernet.place)
  called = network_lib.names(network)
  decisions = plan.space.decide(architecture, supernet.place)
  cells = [decisions[g].cell for g in plan.decided]
  result = {}
  for kind, tree in held.items():
    parts: dict[str, Any] = {}
    for part, names in (("stem", called.stem), ("head", called.head)):
      for layer, name in enumerate(names):
        if f"layer{layer}" in tree.get(part, {}):
          parts[name] = tree[part][f"layer{layer}"]
    for run, own in zip(plan.runs, tree["blocks"], strict=True):
      for j, i in enumerate(run):
        found = {f"{called.prefix}{n}": _keep_inputs(
            own["preprocess"][j][f"node{n}"], cells, i - _FIRST + n, plan)
                 for n in range(network.prefix)}
        parts[f"{called.block}{i}"] = found | _nodes(own, j) | _edges(
            supernet, own, i, j, cells[i])
    if network.prefix and called.head[-1] in parts:
      parts[called.head[-1]] = _keep_inputs(
          parts[called.head[-1]], cells, len(cells) - 1, plan)
    result[kind] = parts
  return result


def _nodes(tree, j):
  """The variables of a block's nodes, by their names in the network."""
  found = {}
  for part, own in tree.items():
    for kind, name in (("slope", "activation"), ("norm", "norm")):
      if part.startswith(kind):
        own = store.rows(own, j)
        found[f"node{int(part.removeprefix(kind)) + _FIRST}_{name}"] = (
            {"slope": own} if kind == "slope" else own)
  return found


def _edges(supernet, tree, i, j, cell):
  """The variables of a block's edges, by their names in the network."""
  plan, make = supernet.plan, supernet.runner(False)
  found, pairs = {}, [edge[1:] for edge in plan.cell(i).edges]
  slots = zip(*arrays_lib.slots(cell), strict=True)
  for e, (edge, (n, k)) in enumerate(zip(cell.edges, slots, strict=True)):
    number = e if plan.space.inputs is None else pairs.index(edge[1:])
    edges = next(p for p in plan.passes(i) if number in p.edges)
    own = tree.get(edges.store, {}).get(edge.operation)
    # A slot may hold what the operation needs at another stride only.
    if own is None or not isinstance(
        make.module(edge.operation, edges.ends), nn.Module):
      continue
    at = (n * plan.space.inputs + k if plan.space.weights == "slot"
          else edges.edges.index(number))
    found[network_lib.edge_name(e, edge.operation)] = store.rows(
        own, (j, edges.rows[edge.operation][at]))
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
