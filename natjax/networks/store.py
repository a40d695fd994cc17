"""Where the weights of a supernet lie.

Only equal shapes are stacked. Neighbouring blocks of one graph and one shape
are a run, J of them; in a block, edges of equal shapes and candidates are a
pass. The weights of an operation are arrays [J, S, ...]: a row for whatever the
space says has weights of its own (`Space.weights`), an edge, a source, or a
slot.
"""

from collections.abc import Collection
import dataclasses
import functools
import itertools
from typing import Any

import jax
import numpy as np

from natjax import errors, operations
from natjax.costs import exact
from natjax.graph import blocks, codec, records
from natjax.graph import shapes as shapes_lib
from natjax.operations import edges as edges_lib
from natjax.spaces import base

_FIRST = records.NUM_INPUTS


@dataclasses.dataclass(frozen=True)
class Pass:
  """Edges of a block that have one shape and one set of candidates.

  Attributes:
    store: name of the arrays that hold its weights.
    names: of the candidates.
    ends: the shapes that the edges join.
    edges: their numbers in the decision's cell, in order.
    rows: per candidate, i32[E], the row of every edge's weights, or i32[T] of
      every slot's; -1 where there are none.
    fixed: whether the edges are fixed.
  """

  store: str
  names: tuple[str, ...]
  ends: edges_lib.Ends
  edges: tuple[int, ...]
  rows: dict[str, np.ndarray]
  fixed: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
  """How a space's graph at a place is laid out.

  Attributes:
    space: the space.
    place: where its network stands.
    width: factor of the network's widths.
  """

  space: base.Space
  place: records.Place
  width: float = 1.0

  def __post_init__(self):
    self.space.validate()

  @functools.cached_property
  def network(self) -> records.BlockNetwork:
    """The graph, written out.

    Raises:
      InputError: sources are free where nodes are not alike.
    """
    network = blocks.supernet(
        codec.expand(self.space.graph, self.place), self.width)
    for block in network.blocks if self.space.inputs is not None else ():
      nodes = block.nodes[network.prefix:]
      if len(set(nodes)) > 1 or len(block.outputs) != len(nodes) or (
          nodes[-1]._replace(width=0, stride=1) != records.Node(0)):
        raise errors.InputError(
            f"search space '{self.space.name}' lets nodes choose their inputs;"
            " then all nodes of a block must have one width and one stride,"
            " neither activation nor norm, and be concatenated")
    return network

  @functools.cached_property
  def shapes(self) -> tuple[shapes_lib.Shapes, ...]:
    """The shapes in every block."""
    return shapes_lib.of(self.network, self.place)

  @functools.cached_property
  def decisions(self) -> tuple[records.Decision, ...]:
    """What is decided on together."""
    return self.space.decide(self.space.graph, self.place)

  @functools.cached_property
  def decided(self) -> tuple[int, ...]:
    """Per block, the number of its decision."""
    found = {i: g for g, d in enumerate(self.decisions) for i in d.members}
    return tuple(found[i] for i in range(len(self.network.blocks)))

  def cell(self, i: int) -> records.Cell:
    """The graph of block `i` as its decision has it."""
    return self.decisions[self.decided[i]].cell

  def names(self, i: int, e: int) -> tuple[str, ...]:
    """What may stand on edge `e` of block `i`."""
    decision = self.decisions[self.decided[i]]
    if decision.fixed[e]:
      return (decision.cell.edges[e].operation,)
    return self.space.names(self.decided[i], e)

  def sees_both(self, i: int) -> bool:
    """Whether anything but null may come from the first input of a block."""
    return bool(self.network.prefix) or any(
        edge.source == 0 and set(self.names(i, e)) != {operations.NULL}
        for e, edge in enumerate(self.cell(i).edges))

  def alike(self, i: int) -> bool:
    """Whether a block's nodes may lie in one array, nothing but sums."""
    nodes = self.network.blocks[i].nodes[self.network.prefix:]
    first = self.network.prefix + (0 if self.sees_both(i) else 1)
    widths = {shape.width for shape in self.shapes[i].nodes[first:]}
    return len(widths) == len(set(nodes)) == 1 and not any(
        self.decisions[self.decided[i]].fixed) and (
            nodes[0]._replace(width=0, stride=1) == records.Node(0))

  @functools.cached_property
  def runs(self) -> tuple[tuple[int, ...], ...]:
    """Neighbours of equal graphs, shapes and choices, whose weights stack."""
    numbers = range(len(self.network.blocks))
    return tuple(tuple(run) for _, run in itertools.groupby(numbers, self._key))

  def _key(self, i):
    # What brings a cell's inputs to its width may differ.
    first = self.network.prefix or (0 if self.sees_both(i) else 1)
    shapes = [shape._replace(stride=0) for shape in self.shapes[i].nodes]
    names = tuple(self.names(i, e) for e in range(len(self.cell(i).edges)))
    return (self.cell(i), shapes[first:], names,
            self.network.blocks[i].nodes[self.network.prefix:])

  @functools.cache  # noqa: B019
  def passes(self, i: int) -> tuple[Pass, ...]:
    """The passes of a block, in an order in which they can be run.

    Where sources are free, edges of one shape are one pass even if their
    candidates differ: first those from the inputs of a block that makes images
    smaller, then those between its nodes.
    """
    cell = self.cell(i)
    found: dict[Any, list[int]] = {}
    for e, edge in enumerate(
        self.network.blocks[i].edges[self.network.prefix:]):
      key = (self._narrow(self.shapes[i].ends(edge)),
             None if self.space.inputs is not None else self.names(i, e),
             self.decisions[self.decided[i]].fixed[e],
             self.space.bottleneck > 1 and cell.edges[e].source < _FIRST)
      found.setdefault(key, []).append(e)
    result = []
    for p, ((ends, _, fixed, _), edges) in enumerate(found.items()):
      for e in edges:
        self._check_sizes(i, e, ends)
      allowed = [self.names(i, e) for e in edges]
      names = tuple(dict.fromkeys(
          name for name in (*self.space.candidates, *allowed[0])
          if any(name in a for a in allowed)))
      rows = {name: self._rows(cell, edges, [name in a for a in allowed])
              for name in names}
      result.append(Pass(f"edges{0 if self.space.weights == 'slot' else p}",
                         names, ends, tuple(edges), rows, fixed))
    return tuple(result)

  def _narrow(self, ends):
    """The shapes that an edge joins within a bottleneck."""
    ratio = self.space.bottleneck
    if ends.channels % ratio:
      raise errors.InputError(
          f"bottleneck is {ratio} and does not divide {ends.channels} channels;"
          " give a divisor, or more channels", "bottleneck")
    return ends._replace(in_channels=ends.in_channels // ratio,
                         channels=ends.channels // ratio)

  def _check_sizes(self, i, e, ends):
    """Refuses candidates that make images of another size than their node's.

    A null that stands alone adds none (`running`), whatever pads a node.
    """
    if self.names(i, e) == (operations.NULL,):
      return
    target = self.network.prefix + self.cell(i).edges[e].target
    size = self.shapes[i].nodes[target].size
    for name in self.names(i, e):
      made = operations.get(name).output_size(ends.size, ends.stride)
      if made != size:
        raise errors.InputError(
            f"search space '{self.space.name}': {name} makes images of {made}"
            f" pixels a side where others make {size}, and they cannot be"
            " added; leave it out, or have it alone on a fixed edge")

  def _rows(self, cell, edges, holds):
    if self.space.weights == "slot":
      return np.arange(cell.num_nodes * self.space.inputs)
    keys = edges if self.space.weights == "edge" else [
        cell.edges[e].source for e in edges]
    order: dict[int, int] = {}
    return np.array([order.setdefault(key, len(order)) if mine else -1
                     for key, mine in zip(keys, holds, strict=True)])

  def madds(self, dense: Collection[int] = ()) -> float:
    """Multiply-adds that an image takes through the supernet.

    Args:
      dense: numbers of the blocks in which all candidates run; of the others a
        path that is drawn uniformly is expected, of the narrow ones within a
        bottleneck only the operations.
    """
    network, place, total = self.network, self.place, 0.0
    for layers, shapes in (
        (network.stem, shapes_lib.stem_shapes(network, place)),
        (head := shapes_lib.head_layers(network, place),
         shapes_lib.layer_shapes(head, self.shapes[-1].output,
                                 place.num_classes))):
      total += sum(exact.fixed_layer(layer, seen, place.num_classes).madds
                   for layer, seen in zip(layers, shapes, strict=False))
    for i, block in enumerate(network.blocks):
      total += sum(exact.edge(network, self.shapes[i], item).madds
                   for item in block.edges[:network.prefix])
      found = []  # Of every edge the sum and the number of its candidates.
      for edges in self.passes(i):
        each = {name: edges_lib.cost(
            operations.get(name), edges.ends,
            preactivate=network.preactivate).madds for name in edges.names}
        found += [(sum(each[name] for name in self.names(i, e)),
                   len(self.names(i, e))) for e in edges.edges]
      if i in dense:
        total += sum(all_of for all_of, _ in found)
      else:
        mean = sum(all_of / count for all_of, count in found)
        total += mean if self.space.inputs is None else (
            mean / len(found) * self.space.inputs * self.cell(i).num_nodes)
    return total

  @property
  def pixels(self) -> int:
    """Numbers in the images of all nodes and outputs, per image of a batch."""
    return sum(shape.size**2 * shape.width for shapes in self.shapes
               for shape in (*shapes.nodes[records.NUM_INPUTS:], shapes.output))


def rows(tree: Any, index: Any) -> Any:
  """Of all arrays of a tree, a row or several, by anything that indexes."""
  return jax.tree.map(lambda leaf: leaf[index], tree)


def redraw_kernels(rng: jax.Array, params: Any) -> Any:
  """Draws all kernels that start from `operations.kernel_init` at once.

  The distribution is the one they already have. A generator call per kernel
  would take some ten seconds to compile; those calls are unused now and the
  compiler drops them. Parameters of operations that a user registered keep
  what their own initialisers drew.

  Args:
    rng: a key.
    params: what each initialiser drew.
  """
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)
  leads = [_leading_axes([getattr(k, "key", None) for k in path])
           for path, _ in flat]
  total = sum(leaf.size for (_, leaf), lead in zip(flat, leads, strict=True)
              if lead is not None)
  draws, start, leaves = jax.random.uniform(rng, (total,), minval=-1), 0, []
  for (_, leaf), lead in zip(flat, leads, strict=True):
    if lead is not None:
      fan_in = np.prod(leaf.shape[lead:-1])
      leaf = draws[start:start + leaf.size].reshape(leaf.shape) / np.sqrt(
          fan_in).astype(np.float32)
      start += leaf.size
    leaves.append(leaf)
  return jax.tree_util.tree_unflatten(treedef, leaves)


def _leading_axes(keys):
  """Of a kernel: [J, S] on edges; None for a user's own, and other arrays."""
  if keys[-1] != "kernel":
    return None
  if keys[0] != "blocks" or keys[2] == "preprocess":
    return 0
  return 2 if keys[3] in operations.BUILTIN else None
