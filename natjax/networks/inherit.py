"""A supernet's weights in the network of one of its architectures, and back."""

from collections.abc import Mapping
from typing import Any

import flax
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
  head = network_lib.head_names(network, supernet.place)
  decisions = plan.space.decide(architecture, supernet.place)
  cells = [decisions[g].cell for g in plan.decided]
  result = {}
  for kind, tree in held.items():
    parts: dict[str, Any] = {}
    for part, names in (("stem", called.stem), ("head", head)):
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
    for name in head[1:2]:  # Behind the pooling.
      if network.prefix and name in parts:
        parts[name] = _keep_inputs(parts[name], cells, len(cells) - 1, plan)
    result[kind] = parts
  return result


def held(supernet: supernet_lib.Supernet, drawn: supernet_lib.Variables,
         architecture: records.Architecture,
         own: supernet_lib.Variables) -> supernet_lib.Variables:
  """The variables of a supernet that begins with a trained network.

  Where an architecture's operations stand, the supernet has their variables, so
  that it computes what the network does (`variables` gives these back, unless
  one edge holds an operation twice, of which it has the last). Another
  candidate of such an edge whose variables have the same names and shapes but
  for smaller kernels begins with the middles of those kernels: a 3x3
  convolution with the middle of a 5x5, a 1x1 with that of a 3x3; or with
  variables of its own, where it is given some. All others stay as drawn.

  Args:
    supernet: of running BN.
    drawn: its variables, to begin the others with.
    architecture: of its space.
    own: the variables of its network, and of other candidates on its edges;
      those of an auxiliary head are left out.
  """
  leaves, form = jax.tree.flatten(drawn)
  ends = np.cumsum([leaf.size for leaf in leaves])
  numbers = jax.tree.unflatten(form, [
      np.arange(end - leaf.size, end).reshape(leaf.shape)
      for leaf, end in zip(leaves, ends, strict=True)])
  every = np.concatenate([np.ravel(leaf) for leaf in leaves])
  flat = lambda tree: flax.traverse_util.flatten_dict(tree)
  given = {path: np.asarray(leaf) for path, leaf in flat(own).items()}
  places = flat(variables(supernet, numbers, architecture))
  for name in supernet.space.candidates:
    for path, where in _elsewhere(supernet, numbers, architecture, name, given):
      every[where] = _middle(given[path], where.shape)
  for path, where in places.items():
    every[where] = given[path]
  return jax.tree.unflatten(form, [
      part.reshape(leaf.shape) for part, leaf in zip(
          np.split(every, ends[:-1]), leaves, strict=True)])


def _elsewhere(supernet, numbers, architecture, name, given):
  """Where a candidate begins with given variables, its own or another's.

  Yields:
    The path of a leaf in the network, and i64[...], numbers in the supernet.
  """
  plan = supernet.plan
  network = codec.expand(architecture, supernet.place)
  called = network_lib.names(network)
  decisions = plan.space.decide(architecture, supernet.place)
  for r, run in enumerate(plan.runs):
    for j, i in enumerate(run):
      cell = decisions[plan.decided[i]].cell
      other = cell._replace(edges=tuple(
          edge._replace(operation=name) for edge in cell.edges))
      for kind, tree in numbers.items():
        now, then = (_edges(supernet, tree["blocks"][r], i, j, c)
                     for c in (cell, other))
        for e, edge in enumerate(cell.edges):
          mine, its = (found.get(network_lib.edge_name(e, what), {})
                       for found, what in (
                           (now, edge.operation), (then, name)))
          path = (kind, f"{called.block}{i}")
          new = (*path, network_lib.edge_name(e, name))
          old = (*path, network_lib.edge_name(e, edge.operation))
          flat = flax.traverse_util.flatten_dict(its)
          if all((*new, *leaf) in given for leaf in flat):
            yield from (((*new, *leaf), at) for leaf, at in flat.items())
          else:
            yield from _alike(mine, its, old)


def _alike(mine, its, path):
  """The leaves of an edge that fit another candidate's, all or none."""
  mine, its = map(flax.traverse_util.flatten_dict, (mine, its))
  if mine.keys() == its.keys() and all(
      _fits(mine[name].shape, leaf.shape) for name, leaf in its.items()):
    for name, leaf in its.items():
      yield (*path, *name), leaf


def _fits(shape, smaller):
  """Whether a kernel has a middle of a shape; equal shapes have."""
  if len(shape) != 4 or len(smaller) != 4:
    return shape == smaller
  return shape[2:] == smaller[2:] and all(
      a >= b and (a - b) % 2 == 0
      for a, b in zip(shape[:2], smaller[:2], strict=True))


def _middle(kernel, shape):
  """The middle of a kernel [H, W, ...]; what is equal stays."""
  if kernel.shape == shape:
    return kernel
  rows, columns = ((a - b) // 2 for a, b in zip(
      kernel.shape[:2], shape[:2], strict=True))
  return kernel[rows:rows + shape[0], columns:columns + shape[1]]


def renumbered(tree: Mapping[str, Any], like: Mapping[str, Any]) -> Any:
  """A network's variables in the spelling of another with more null edges.

  `codec.pad` changes the numbers of a block's edges, not their order. A block
  that has all of the other's names stays as it is.

  Args:
    tree: "params" and "batch_stats" of a network of blocks.
    like: of the other one, arrays or their shapes.
  """
  number = lambda name: int(name.partition("_")[0].removeprefix("edge"))
  numbered = lambda block: sorted(
      (name for name in block if name.startswith("edge")), key=number)
  found: dict[str, Any] = {}
  for kind, parts in tree.items():
    found[kind] = {}
    for part, own in parts.items():
      other = like.get(kind, {}).get(part, {})
      names = dict(zip(numbered(own), numbered(other), strict=False))
      found[kind][part] = {names.get(k, k): v for k, v in own.items()} if (
          part.startswith("block") and {*other} - {*own}) else own
  return found


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
    if own is None or edge.operation not in edges.rows or not isinstance(
        make.module(edge.operation, edges.ends), nn.Module):
      continue
    at = (n * plan.space.inputs + k if plan.space.weights == "slot"
          else edges.edges.index(number))
    row = edges.rows[edge.operation][at]
    if row >= 0:  # Or it may not stand there.
      name = network_lib.edge_name(e, edge.operation)
      found[name] = store.rows(own, (j, row))
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
