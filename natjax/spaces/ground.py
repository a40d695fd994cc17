"""A search space at the places where its networks stand.

A method that chooses among the architectures of a space needs to know of it, in
arrays, which architecture is which, what may become what on which edge, and
what everything costs: `Ground` does. Architectures are `CellArrays` of shape
[G, N, K]: G decisions (a genotype's two cells; the kinds of blocks, or all
blocks, of a network), N nodes, K incoming edges per node.
"""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks
from natjax.graph import codec
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.operations import edges as edges_lib
from natjax.operations import primitives
from natjax.spaces import base
from natjax.spaces import transitions

CellArrays = arrays_lib.CellArrays


class Ground:
  """A space, its networks, and the transitions between its architectures.

  Attributes:
    space: the space.
    place: of the network that is searched in.
    target: of the network that is trained at the end.
    decisions: what is decided on together, of the space's graph.
    shape: (G, N, K).
    candidates: operation names, O of them.
    table: the transition table.
  """

  def __init__(
      self,
      space: base.Space,
      place: records.Place,
      targets: Sequence[records.Place] = (),
      *,
      scheme: str,
      published: bool = False,
      smoothing: float = 0.0,
      width: float = 1.0,
  ):
    """Args:
      space: the space.
      place: of the network that is searched in.
      targets: other places in which no transition may raise the cost; the
        first is that of the network trained at the end.
      scheme: of `transitions.SCHEMES`.
      published: whether only the scheme's rule counts, as in the released code.
      smoothing: of the table.
      width: factor of the searched network's widths.

    Raises:
      InputError: the space's graph cannot stand at a place.
    """
    self.space, self.place, self.width = space, place, width
    self.target = targets[0] if targets else place
    self.candidates = space.candidates
    self.decisions = codec.decide(space.graph, place, space.share)
    cells = [decision.cell for decision in self.decisions]
    self.shape = (len(cells), max(cell.num_nodes for cell in cells),
                  space.inputs or max(c.num_inputs_per_node for c in cells))
    networks = [(codec.expand(space.graph, p), p) for p in (place, *targets)]
    networks.append((self.network, place))
    rule = transitions.SCHEMES[scheme](self.candidates)
    self._rows, at = self._edges(networks)
    keeping = transitions.keeping(rule)

    def valid(names, ends):
      may = transitions.may_become(
          self.candidates, ends, preactivate=networks[0][0].preactivate)
      # As published: what can stand there at all.
      allowed = rule.allowed & np.diagonal(may)[rule.outcome] if (
          published) else transitions.valid_actions(rule, may)
      return allowed & (keeping | np.isin(
          self.candidates, names)[rule.outcome])

    self.table = transitions.TransitionTable(
        rule.actions, rule.outcome,
        np.stack([keeping, *(valid(*kind) for kind in at)]),
        self.candidates.index(operations.NULL), connectivity=not published,
        smoothing=smoothing if published else 0.0)

  @functools.cached_property
  def network(self) -> records.BlockNetwork:
    """The network that is searched in, with every edge that may be."""
    return blocks.scale(codec.expand(self.space.graph, self.place), self.width)

  def _edges(self, networks):
    """The kinds of edges.

    Returns:
      Rows of the table, i32[G, N, K], or i32[G, N, 2 + N] by the edge's source
      where that is free; and per row but the first, what may stand on its edges
      and their `Ends`. Where sources are free, those of one stride and one set
      of candidates are of one kind.
    """
    free, first = self.space.inputs is not None, records.NUM_INPUTS
    shape = (*self.shape[:2], first + self.shape[1]) if free else self.shape
    rows = np.zeros(shape, np.int32)
    found: dict[Any, tuple[int, set[edges_lib.Ends]]] = {}
    kept = set().union(*(self._kept(*at) for at in networks))
    for network, place in networks:
      shapes = shapes_lib.of(network, place)
      for g, decision in enumerate(codec.decide(
          self.space.graph, place, self.space.share)):
        for e, edge in enumerate(decision.cell.edges):
          if (g, e) in kept or not decision.members:
            continue
          ends = {shapes[i].ends(network.blocks[i].edges[e + network.prefix])
                  for i in decision.members}
          key = (next(iter(ends)).stride if free else (g, e),
                 self.space.names(g, e))
          row, known = found.setdefault(key, (len(found) + 1, set()))
          known |= ends
          rows[g, edge.target - first,
               edge.source if free else _slot(decision.cell, e)] = row
    return rows, [(names, ends) for (_, names), (_, ends) in found.items()]

  def _kept(self, network, place):
    """The (decision, edge) that no transition changes at a place.

    Those that are fixed, and those into a node whose images are of a side of
    their own, which no other operation would leave.
    """
    shapes = shapes_lib.of(network, place)
    for g, decision in enumerate(codec.decide(
        self.space.graph, place, self.space.share)):
      for e, fixed in enumerate(decision.fixed):
        edges = [(shapes[i], network.blocks[i].edges[e + network.prefix])
                 for i in decision.members]
        if fixed or any(
            at.nodes[edge.target].size != primitives.output_size(
                at.nodes[edge.source].size, at.stride(edge))
            for at, edge in edges):
          yield g, e

  def rows(self, arrays: CellArrays) -> jax.Array:
    """Rows of `table.valid`, i32[G, N, K], of an architecture's edges."""
    if self.space.inputs is None:
      return jnp.asarray(self._rows)
    return jnp.take_along_axis(
        jnp.asarray(self._rows), jnp.asarray(arrays.source), axis=-1)

  @functools.cached_property
  def start(self) -> CellArrays:
    """The space's graph itself, on the host."""
    return self.encode(self.space.graph)

  def encode(self, architecture: records.Architecture) -> CellArrays:
    """To `CellArrays` [G, N, K], on the host.

    Raises:
      InputError: the architecture is not in the space.
    """
    cells = [d.cell for d in codec.decide(
        architecture, self.place, self.space.share)]
    for cell in cells:
      self.space.check(cell)
    return arrays_lib.encode(cells, self.candidates, num_nodes=self.shape[1],
                             inputs=self.shape[2])

  def decode(
      self, arrays: CellArrays, architecture: records.Architecture | None = None
  ) -> records.Architecture:
    """Back from arrays.

    Args:
      arrays: [G, N, K].
      architecture: from which the arrays were made, whose order of `concat` and
        numbers of edges are kept; None where they were drawn.
    """
    given, cells = architecture or self.space.graph, None
    if architecture is not None or self.space.inputs is None:
      cells = [d.cell for d in codec.decide(
          given, self.place, self.space.share)]
    found = arrays_lib.decode(arrays, self.candidates, cells)
    if cells is None:  # Without the nodes that only larger cells have.
      found = tuple(
          cell._replace(edges=tuple(
              edge for edge in cell.edges
              if edge.target < records.NUM_INPUTS + decision.cell.num_nodes))
          for cell, decision in zip(found, self.decisions, strict=True))
    return codec.respell(given, self.decisions, found)

  def around(self) -> base.Space:
    """The smaller space of what the operations of the graph may become."""

    def names(g, n, k):
      o = int(self.start.operation[g, n, k])
      valid = self.table.valid[self._rows[g, n, k], o]
      outcomes = set(self.table.outcome[o][valid].tolist())
      return tuple(name for o, name in enumerate(self.candidates)
                   if o in outcomes)

    return self.space._replace(choices=tuple(
        tuple(names(g, edge.target - records.NUM_INPUTS,
                    _slot(decision.cell, e))
              for e, edge in enumerate(decision.cell.edges))
        for g, decision in enumerate(self.decisions)))

  def cost(self, architecture: records.Architecture) -> operations.Cost:
    """In the network that is trained at the end."""
    return exact.network(architecture, self.target)

  def edge_costs(self, architecture: records.Architecture) -> np.ndarray:
    """f64[2, G, N, K, O]: parameters and multiply-adds of every candidate.

    Over all blocks of the network trained at the end that are decided on
    together; infinite where an operation cannot stand in place of the one that
    does.
    """
    costs = np.zeros((2, *self.shape, len(self.candidates)))
    network = codec.expand(architecture, self.target)
    shapes = shapes_lib.of(network, self.target)
    for g, decision in enumerate(codec.decide(
        architecture, self.target, self.space.share)):
      for e, edge in enumerate(decision.cell.edges):
        at = (g, edge.target - records.NUM_INPUTS, _slot(decision.cell, e))
        for i in decision.members:
          item = network.blocks[i].edges[e + network.prefix]
          for o, name in enumerate(self.candidates):
            if name != item.operation and edges_lib.cost_if_possible(
                operations.get(name), shapes[i].ends(item),
                preactivate=network.preactivate) is None:
              costs[:, *at, o] = np.inf
              continue
            cost = exact.edge(network, shapes[i],
                              item._replace(operation=name))
            costs[:, *at, o] += (cost.params, cost.madds)
    return costs


def _slot(cell, e):
  """The position of edge `e` among the inputs of its target."""
  return [i for i, edge in enumerate(cell.edges)
          if edge.target == cell.edges[e].target].index(e)
