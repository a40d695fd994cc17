"""A search space at the places where its networks stand.

A method that chooses among the architectures of a space needs to know of it, in
arrays, which architecture is which, what may become what on which edge, and
what everything costs: `Ground` does. Architectures are `CellArrays` of shape
[G, N, K]: G decisions (a genotype's two cells; the kinds of blocks, or all
blocks, of a network), N nodes, K incoming edges per node.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, codec, records
from natjax.graph import shapes as shapes_lib
from natjax.operations import edges as edges_lib
from natjax.operations import windows
from natjax.spaces import base, transitions

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

  def __init__(self, space: base.Space, place: records.Place,
               targets: Sequence[records.Place] = (), *, scheme: str,
               published: bool = False, smoothing: float = 0.0,
               width: float = 1.0,
               others: Sequence[records.Architecture] = ()):
    """Args:
      space: the space.
      place: of the network that is searched in.
      targets: other places in which no transition may raise the cost; the
        first is that of the network trained at the end.
      scheme: of `transitions.SCHEMES`.
      published: whether only the scheme's rule counts, as in the released code.
      smoothing: of the table.
      width: factor of the searched network's widths.
      others: of the space, from which it may start as from its graph.

    Raises:
      InputError: the space's parts do not fit together, or its graph cannot
        stand at a place.
    """
    self.space, self.place, self.width = space.validate(), place, width
    self._others = tuple(others)
    self.target = targets[0] if targets else place
    self.candidates = space.candidates
    self.decisions = space.decide(space.graph, place)
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
          self.candidates, ends, preactivate=self.network.preactivate)
      # As published: what can stand there at all.
      allowed = rule.allowed & np.diagonal(may)[rule.outcome] if (
          published) else transitions.valid_actions(rule, may)
      return allowed & (keeping | np.isin(self.candidates, names)[rule.outcome])

    self.table = transitions.TransitionTable(
        rule.actions, rule.outcome,
        np.stack([keeping, *(valid(*kind) for kind in at)]),
        self.candidates.index(operations.NULL), connectivity=not published,
        smoothing=smoothing if published else 0.0)

  @functools.cached_property
  def network(self) -> records.BlockNetwork:
    """The network that is searched in, with every edge that may be."""
    return blocks.supernet(
        codec.expand(self.space.graph, self.place), self.width)

  def sites(
      self, architecture: records.Architecture | None = None,
      network: records.BlockNetwork | None = None,
      place: records.Place | None = None,
  ) -> Iterator[tuple[tuple[int, int, int], tuple[int, int], list[Any]]]:
    """Where the edges of an architecture stand, decision by decision.

    Args:
      architecture: None is the space's graph.
      network: of it; None is the one that is searched in.
      place: of the network; None is that of the one that is searched in.

    Yields:
      Of every edge its slot (g, n, k), (g, e), and per block that is decided on
      together its `Shapes` and the edge by the block's nodes.
    """
    architecture = architecture or self.space.graph
    network, place = network or self.network, place or self.place
    shapes = shapes_lib.of(network, place)
    for g, decision in enumerate(self.space.decide(architecture, place)):
      slots = zip(*arrays_lib.slots(decision.cell), strict=True)
      for e, (n, k) in enumerate(slots):
        yield (g, int(n), int(k)), (g, e), [
            (shapes[i], network.blocks[i].edges[e + network.prefix])
            for i in decision.members]

  def _edges(self, networks):
    """The kinds of edges.

    Returns:
      Rows of the table, i32[G, N, K], or i32[G, N, 2 + N] by the edge's source
      where that is free; and per row but the first, what may stand on its edges
      and their `Ends`. Where sources are free, those of one stride and one set
      of candidates are of one kind.
    """
    free, first = self.space.inputs is not None, records.NUM_INPUTS
    rows = np.zeros((*self.shape[:2], first + self.shape[1]) if free
                    else self.shape, np.int32)
    found: dict[Any, tuple[int, set[edges_lib.Ends]]] = {}
    sites = [site for at in networks
             for site in self.sites(self.space.graph, *at)]
    # No transition changes fixed edges, nor those into a node whose images are
    # of a side of their own, which no other operation would leave.
    kept = {(g, e) for _, (g, e), at in sites
            if self.decisions[g].fixed[e] or any(
                shapes.nodes[edge.target].size != windows.output_size(
                    shapes.nodes[edge.source].size, shapes.stride(edge))
                for shapes, edge in at)}
    for (_, n, k), (g, e), at in sites:
      if (g, e) not in kept and at:
        ends = {shapes.ends(edge) for shapes, edge in at}
        key = (next(iter(ends)).stride if free else (g, e),
               self.space.names(g, e))
        row, known = found.setdefault(key, (len(found) + 1, set()))
        known |= ends
        source = self.decisions[g].cell.edges[e].source
        rows[g, n, source if free else k] = row
    return rows, [(names, ends) for (_, names), (_, ends) in found.items()]

  def rows(self, arrays: CellArrays) -> jax.Array:
    """Rows of `table.valid`, i32[G, N, K], of an architecture's edges.

    Row 0, in which everything stays, is that of slots without an edge.
    """
    if self.space.inputs is None:
      return jnp.asarray(self._rows)
    return jnp.take_along_axis(
        jnp.asarray(self._rows), jnp.asarray(arrays.source), axis=-1)

  @functools.cached_property
  def kept_from(self) -> np.ndarray:
    """bool[G, N, 2 + N], the edges that the space keeps, by their sources."""
    kept = np.zeros((*self.shape[:2], records.NUM_INPUTS + self.shape[1]), bool)
    if self.space.keep:
      for g, decision in enumerate(self.decisions):
        for edge, fixed in zip(decision.cell.edges, decision.fixed,
                               strict=True):
          kept[g, edge.target - records.NUM_INPUTS, edge.source] |= fixed
    return kept

  def kept(self, arrays: CellArrays) -> np.ndarray:
    """bool[G, N, K], the edges of an architecture that the space keeps."""
    return np.take_along_axis(self.kept_from, np.asarray(arrays.source), -1)

  @functools.cached_property
  def start(self) -> CellArrays:
    """The space's graph itself, on the host."""
    return self.encode(self.space.graph)

  def encode(self, architecture: records.Architecture) -> CellArrays:
    """To `CellArrays` [G, N, K], on the host.

    Where sources are free, a slot without an edge has its own node as source:
    nothing may come to stand there (`rows`), since no architecture that is
    decoded would have it.

    Raises:
      InputError: the architecture is not in the space.
    """
    cells = self._cells(architecture)
    for cell in cells:
      self.space.check(cell)
    arrays = arrays_lib.encode(cells, self.candidates, num_nodes=self.shape[1],
                               inputs=self.shape[2])
    if self.space.inputs is None:
      return arrays
    own = np.arange(self.shape[1], dtype=np.int32) + records.NUM_INPUTS
    source: Any = np.broadcast_to(own[:, None], self.shape).copy()
    for g, cell in enumerate(cells):
      slots = (g, *arrays_lib.slots(cell))
      source[slots] = arrays.source[slots]
    return dataclasses.replace(arrays, source=source)

  def _cells(self, architecture):
    return [decision.cell for decision in self.space.decide(
        architecture, self.place)]

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
      cells = self._cells(given)
    found = arrays_lib.decode(arrays, self.candidates, cells)
    if cells is None:  # Without the nodes that only larger cells have.
      found = tuple(
          cell._replace(edges=tuple(
              edge for edge in cell.edges
              if edge.target < records.NUM_INPUTS + decision.cell.num_nodes))
          for cell, decision in zip(found, self.decisions, strict=True))
    return codec.respell(given, self.decisions, found)

  def around(self) -> base.Space:
    """The smaller space of what the operations of the graph may become.

    And those of the others, where there are any.
    """
    choices: list[list[tuple[str, ...]]] = [[] for _ in self.decisions]
    starts = [self.start, *map(self.encode, self._others)]
    for slot, (g, _), _ in self.sites():
      names = transitions.becomes(
          self.table, self.candidates, self.table.valid[self._rows[slot]])
      every = {name for start in starts
               for name in names[self.candidates[start.operation[slot]]]}
      choices[g].append(tuple(sorted(every, key=self.candidates.index)))
    return self.space._replace(choices=tuple(map(tuple, choices)))

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
    for slot, _, at in self.sites(architecture, network, self.target):
      for shapes, edge in at:
        for o, name in enumerate(self.candidates):
          if name != edge.operation and edges_lib.cost_if_possible(
              operations.get(name), shapes.ends(edge),
              preactivate=network.preactivate) is None:
            costs[:, *slot, o] = np.inf
            continue
          cost = exact.edge(network, shapes, edge._replace(operation=name))
          costs[:, *slot, o] += (cost.params, cost.madds)
    return costs
