"""The space of differentiable transformation: none, identity or the same.

Every edge of the given architecture keeps its operation, becomes an identity,
or goes ("Differentiable Neural Architecture Transformation", section 3.1). An
identity may stand where it costs no more than the operation does, in every
layer that shares the edge; where shapes change it is a projection, so that a
null edge can become a skip only between equal shapes, and pooling at stride 2
cannot. Edges into nodes that are `fixed` are left alone.

`share` says what is decided on together: "cell", all layers of a cell type or
all blocks of one topology, or "full", every block by itself.
"""

from typing import Any
from typing import NamedTuple

import jax
import numpy as np

from natjax import errors
from natjax import operations
from natjax.costs import budget as budget_lib
from natjax.costs import exact as cost_lib
from natjax.graph import blocks as blocks_lib
from natjax.graph import codec
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import build as build_lib
from natjax.networks import mixture
from natjax.spaces import blocks as blocks_space

NONE, ID, SAME = mixture.NONE, mixture.ID, mixture.SAME

Theta = tuple[jax.Array, ...]  # Per group, f32[E, 3].


class Group(NamedTuple):
  """Layers or blocks that are decided on together.

  Attributes:
    name: "normal", "reduce", or as "blocks 0-2, 4".
    members: numbers of the layers or blocks.
    cell: their graph.
    allowed: bool[E, 3], what may stand on every edge: none, identity, same.
    costs: f64[2, E, 3], parameters and multiply-adds of all members' edges.
  """

  name: str
  members: tuple[int, ...]
  cell: architecture_lib.Cell
  allowed: np.ndarray
  costs: np.ndarray

  def outcome(self, e: int, choice: int) -> str:
    """The operation on edge `e` after a choice."""
    return (operations.NULL, operations.SKIP, self.cell.edges[e].operation)[
        choice]


class ThetaSpace:
  """What an architecture may become, and what theta chooses.

  Attributes:
    architecture: the given one; a network of blocks is padded with null edges
      (`blocks.pad`).
    place: its skeleton or frame.
    share: "cell" or "full".
    groups: what is decided on together.
    identities: per layer or block, the edges with an identity of their own.
  """

  def __init__(
      self,
      architecture: codec.Architecture,
      place: build_lib.Place,
      share: str = "cell",
  ):
    """Args:
      architecture: a genotype or a network of blocks.
      place: its skeleton or frame.
      share: "cell" or "full"; a genotype's cells are shared ("cell"), and
        `blocks.from_genotype` unshares them.

    Raises:
      InputError: another `share`, or a genotype with "full".
    """
    if share not in blocks_space.SHARES:
      raise errors.InputError(
          f"share is '{share}'; choose one of {', '.join(blocks_space.SHARES)}")
    self.place, self.share = place, share
    if isinstance(architecture, blocks_lib.BlockNetwork):
      space = blocks_space.space_for(architecture, share=share)
      self.architecture = space.network
      self._count = len(space.network.blocks)
      self.groups = tuple(self._block_group(g) for g in space.groups)
    else:
      if share != "cell":
        raise errors.InputError(
            f"share is '{share}', and a genotype's two cells are shared by all"
            " layers; unshare them by blocks.from_genotype, or share by 'cell'")
      self.architecture = architecture_lib.check(
          architecture, inputs_per_node=None)
      cost_lib.check_strides(self.architecture)
      layers = skeleton_lib.layers(
          place, [len(cell.concat) for cell in architecture])
      self._count = len(layers)
      self.groups = tuple(
          self._cell_group(kind, layers) for kind in range(2))
    self.identities = tuple(
        frozenset(e for e, edge in enumerate(group.cell.edges)
                  if group.allowed[e, ID] and edge.operation != operations.SKIP)
        for group in self._by_member())

  def _by_member(self):
    """The group of every layer or block."""
    group = {i: g for g in self.groups for i in g.members}
    return [group[i] for i in range(self._count)]

  def _cell_group(self, kind, layers):
    cell = self.architecture[kind]
    members = tuple(i for i, layer in enumerate(layers)
                    if layer.reduction == bool(kind))
    place = {i: lambda item, i=i: cost_lib.edge(cell, item, layers[i])
             for i in members}
    return _group(architecture_lib.CELL_TYPES[kind], members, cell,
                  [place[i] for i in members],
                  fixed=[False] * len(cell.edges))

  def _block_group(self, members):
    network = self.architecture
    places = blocks_lib.places(network, self.place)
    block = network.blocks[members[0]]
    cost = lambda item, i: cost_lib.block_edge(network, places[i], item)
    return _group(
        blocks_lib.numbers(members), members, block.cell,
        [lambda item, i=i: cost(item, i) for i in members],
        fixed=[block.node(e.target).fixed for e in block.edges])

  def init(self) -> Theta:
    """Theta at the start: (0, 0, 1) on every edge."""
    return tuple(mixture.initial(len(g.cell.edges)) for g in self.groups)

  def per_member(self, theta: Theta) -> tuple[jax.Array, ...]:
    """Theta of every layer or block, f32[E, 3] each."""
    index = {i: n for n, g in enumerate(self.groups) for i in g.members}
    return tuple(theta[index[i]] for i in range(self._count))

  def named(self, theta: Theta) -> dict[str, list[list[float]]]:
    """Theta by the groups' names, as numbers for a file."""
    return {g.name: np.round(np.asarray(t, np.float64), 6).tolist()
            for g, t in zip(self.groups, theta, strict=True)}

  @property
  def cost(self) -> operations.Cost:
    """Of the given architecture."""
    return self.cost_of(self.architecture)

  def cost_of(self, architecture: codec.Architecture) -> operations.Cost:
    """Of another architecture at the same place."""
    return cost_lib.network(architecture, self.place)

  def limits(self, max_params: str, max_madds: str) -> budget_lib.Budget:
    """Reads a budget relative to the given architecture.

    Raises:
      InputError: a limit that cannot be read.
      errors.NotMet: no choice keeps to it.
    """
    found = budget_lib.read(max_params, max_madds, self.cost)
    if found:
      self.choose(self.init(), found)
    return found

  def choose(
      self,
      theta: Theta,
      limits: budget_lib.Budget | None = None,
      *,
      guarded: bool = True,
  ) -> tuple[np.ndarray, ...]:
    """Chooses what stands on every edge, i32[E] of NONE, ID, SAME per group.

    The largest theta wins ("for each edge, the operation that has the highest
    weight in theta is selected", section 3.3), theta_none being 0: what falls
    below 0 goes. Of equal weights the operation stays. Then:
    - A node whose edges would all go keeps the one of the largest theta, so
      that no node that feeds the output is dead.
    - While the network costs more than `limits`, the cheaper choice that loses
      least theta per part of the excess is taken; of equal ones the dearer.
    - Edges into nodes that then lead nowhere go: they compute nothing.
    All three are left out unless `guarded`.

    Args:
      theta: per group, f32[E, 3].
      limits: the budget, or None.
      guarded: whether anything but the largest theta counts.

    Raises:
      errors.NotMet: no choice keeps to the budget.
    """
    theta = [np.asarray(t, np.float64) for t in theta]
    chosen = []
    for group, t in zip(self.groups, theta, strict=True):
      order = (SAME, ID, NONE)  # Of equal weights the first.
      weights = np.where(group.allowed, t, -np.inf)[:, order]
      choice = np.array(order)[np.argmax(weights, axis=1)]
      chosen.append(_connected(group, choice, t) if guarded else choice)
    if not guarded:
      return tuple(chosen)
    if limits:
      self._cheapen(chosen, theta, limits)
    return tuple(_pruned(g, c) for g, c in zip(self.groups, chosen,
                                               strict=True))

  def _cost_chosen(self, chosen):
    """Cost of the network of a choice, before anything is pruned of it."""
    before, total = self.cost, np.zeros(2)
    for group, choice in zip(self.groups, chosen, strict=True):
      e = np.arange(len(choice))
      choice = _pruned(group, choice)
      total += (group.costs[:, e, choice] - group.costs[:, e, SAME]).sum(1)
    return operations.Cost(*(int(b + t) for b, t in zip(before[:2], total,
                                                        strict=True)))

  def _cheapen(self, chosen, theta, limits):
    """Changes `chosen`, in place, until it keeps to the limits."""
    while not limits.allows(cost := self._cost_chosen(chosen)):
      best, excess = None, limits.excess(cost)
      weight = self._weight(chosen, theta)
      for n, group in enumerate(self.groups):
        for e, now in enumerate(chosen[n]):
          for choice in np.flatnonzero(group.allowed[e]):
            other = chosen[n].copy()
            other[e] = choice
            if choice == now or not _is_connected(group, other):
              continue
            whole = [*chosen[:n], other, *chosen[n + 1:]]
            saved = excess - limits.excess(self._cost_chosen(whole))
            if saved <= 0:
              continue
            loss = weight - self._weight(whole, theta)
            # Saving more than is needed is worth nothing.
            found = (loss / min(saved, excess - 1), saved, n, other)
            if best is None or found[:2] < best[:2]:
              best = found
      if best is None:
        raise errors.NotMet(
            f"no transformation that keeps every node alive keeps to the budget"
            f" ({limits.text()}); the cheapest that was found has {cost.params}"
            f" parameters and {cost.madds} multiply-adds; allow more with"
            " --max-params or --max-madds")
      chosen[best[2]] = best[3]

  def _weight(self, chosen, theta):
    """The sum of theta over all edges, those that lead nowhere counting 0."""
    return sum(
        t[np.arange(len(c)), _pruned(g, c)].sum()
        for g, c, t in zip(self.groups, chosen, theta, strict=True))

  def apply(self, chosen: tuple[np.ndarray, ...]) -> codec.Architecture:
    """The architecture of a choice; edges keep their order."""
    cells = [g.cell._replace(edges=tuple(
        edge._replace(operation=g.outcome(e, c[e]))
        for e, edge in enumerate(g.cell.edges)))
             for g, c in zip(self.groups, chosen, strict=True)]
    if not isinstance(self.architecture, blocks_lib.BlockNetwork):
      return architecture_lib.Genotype(*cells)
    blocks = list(self.architecture.blocks)
    for group, cell in zip(self.groups, cells, strict=True):
      for i in group.members:
        blocks[i] = blocks[i]._replace(edges=cell.edges)
    return self.architecture._replace(blocks=tuple(blocks))

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the space."""
    return {"share": self.share, "groups": {
        g.name: int(g.allowed.sum()) for g in self.groups}}


def _group(name, members, cell, costs, fixed):
  """A group, from functions `edge -> Cost` of its members."""
  edges = cell.edges
  table = np.zeros((2, len(edges), 3))
  allowed = np.zeros((len(edges), 3), bool)
  allowed[:, SAME] = True
  for e, edge in enumerate(edges):
    same = [cost(edge) for cost in costs]
    table[:, e, SAME] = np.sum([c[:2] for c in same], axis=0) if same else 0
    if fixed[e]:
      continue
    allowed[e, NONE] = edge.operation != operations.NULL
    try:
      other = [cost(edge._replace(operation=operations.SKIP))
               for cost in costs]
    except errors.InputError:  # Odd channels, which no skip can halve.
      continue
    allowed[e, ID] = all(
        b.params <= a.params and b.madds <= a.madds
        for a, b in zip(same, other, strict=True))
    table[:, e, ID] = np.sum([c[:2] for c in other], axis=0) if other else 0
  return Group(name, tuple(members), cell, allowed, table)


def _null(group, choice):
  """bool[E], which edges carry nothing."""
  return np.array([group.outcome(e, c) == operations.NULL
                   for e, c in enumerate(choice)])


def _connected(group, choice, theta):
  """A choice in which every node that had an input keeps one."""
  choice, cell = choice.copy(), group.cell
  null, was_null = _null(group, choice), _null(
      group, np.full(len(choice), SAME))
  for n in range(cell.num_nodes):
    into = [e for e, edge in enumerate(cell.edges)
            if edge.target == n + architecture_lib.NUM_INPUTS]
    if not null[into].all() or was_null[into].all():
      continue
    options = [(theta[e, c], e, c) for e in into for c in (SAME, ID)
               if group.allowed[e, c] and group.outcome(e, c)
               != operations.NULL]
    _, e, c = max(options, key=lambda option: option[0])
    choice[e] = c
  return choice


def _is_connected(group, choice):
  """Whether `_connected` would leave a choice alone."""
  return np.array_equal(
      choice, _connected(group, choice, np.zeros((len(choice), 3))))


def _pruned(group, choice):
  """A choice without edges into nodes that lead nowhere."""
  choice, cell = choice.copy(), group.cell
  for n in reversed(range(cell.num_nodes)):
    node = n + architecture_lib.NUM_INPUTS
    null = _null(group, choice)
    feeds = any(edge.source == node and not null[e]
                for e, edge in enumerate(cell.edges))
    if node in cell.concat or feeds:
      continue
    for e, edge in enumerate(cell.edges):
      if edge.target == node and group.allowed[e, NONE]:
        choice[e] = NONE
  return choice
