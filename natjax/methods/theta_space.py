"""The space of differentiable transformation: none, identity or the same.

Every edge of the given architecture keeps its operation, becomes an identity,
or goes ("Differentiable Neural Architecture Transformation", section 3.1): what
NAT's scheme of transitions and its guard of cost allow (`spaces.transitions`).
So an identity may stand where it costs no more than the operation does, in
every layer that shares the edge; where shapes change it is a projection, so
that a null edge can become a skip only between equal shapes, and pooling at
stride 2 cannot. Edges into nodes that are `fixed` are left alone.

`share` says what is decided on together: "cell", all layers of a cell type or
all blocks of one topology, or "full", every block by itself.
"""

from collections.abc import Iterator
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from natjax import operations, spaces
from natjax.costs import alone, exact, footprint
from natjax.costs import budget as budget_lib
from natjax.graph import codec, keeping, live, records
from natjax.methods import latency as latency_lib
from natjax.methods import mixture
from natjax.networks import network as network_lib
from natjax.spaces import ground as ground_lib

NONE, ID, SAME = mixture.NONE, mixture.ID, mixture.SAME

Theta = tuple[jax.Array, ...]  # Per group, f32[E, 3].
Times = tuple[np.ndarray, ...]  # Per group, f64[E, 3]; () of none.


class Group(NamedTuple):
  """Blocks that are decided on together, and what they may become.

  Attributes:
    name: as the decision's.
    members: numbers of the blocks.
    cell: the graph, as the given architecture's spelling shows it.
    allowed: bool[E, 3], what may stand on every edge: none, identity, same.
    costs: f64[2, E, 3], parameters and multiply-adds of all members' edges.
  """

  name: str
  members: tuple[int, ...]
  cell: records.Cell
  allowed: np.ndarray
  costs: np.ndarray

  @property
  def identities(self) -> frozenset[int]:
    """The edges beside whose operation an identity stands."""
    return frozenset(e for e in np.flatnonzero(self.allowed[:, ID]).tolist()
                     if self.cell.edges[e].operation != operations.SKIP)

  def outcome(self, e: int, choice: int) -> str:
    """The operation on edge `e` after a choice."""
    return (operations.NULL, operations.SKIP, self.cell.edges[e].operation)[
        choice]

  def outcomes(self, choice: np.ndarray) -> records.Cell:
    """The cell after a choice on every edge; edges keep their order."""
    return self.cell._replace(edges=tuple(
        edge._replace(operation=self.outcome(e, choice[e]))
        for e, edge in enumerate(self.cell.edges)))


class ThetaSpace:
  """What an architecture may become, and what theta chooses.

  Attributes:
    architecture: the given one; a network of blocks is padded with null edges.
    place: where it stands.
    share: "cell" or "full".
    groups: what is decided on together.
    identities: per block, the edges with an identity of their own.
    cost: of the given architecture.
  """

  def __init__(self, architecture: records.Architecture, place: records.Place,
               share: str = "cell", keep: str = "", *, batch: int = 1,
               dtype: str = "float32"):
    """Args:
      architecture: a genotype or a network of blocks.
      place: its skeleton or frame.
      share: "cell" or "full"; a genotype's cells are shared ("cell"), and
        `genotype.unshared` unshares them.
      keep: what is never changed, see `graph.keeping`.
      batch: images at once, by which memory is counted.
      dtype: of the computation, for the same.

    Raises:
      InputError: another `share`, an architecture that cannot stand there, or
        nothing that `keep` leaves to change.
    """
    self.place, self.share, self.keep = place, share, keep
    self._at_batch = batch, dtype
    space = spaces.own(codec.check(architecture), share, keep=keep)
    self.architecture = space.graph
    ground = ground_lib.Ground(space, place, scheme="nat")
    self.cost = exact.network(self.architecture, place)
    self._decisions, self._ground = ground.decisions, ground
    around, costs = ground.around(), ground.edge_costs(self.architecture)
    self.groups = tuple(
        _group(decision, functools.partial(around.names, g), ground,
               costs[:, g]) for g, decision in enumerate(ground.decisions))
    keeping.check_left(keep, any(
        group.allowed[:, :SAME].any() for group in self.groups))
    # Per block, the number of its group.
    self._group_of = [n for _, n in sorted(
        (i, n) for n, g in enumerate(self.groups) for i in g.members)]
    self.identities = tuple(
        self.groups[n].identities for n in self._group_of)

  def init(self) -> Theta:
    """Theta at the start: (0, 0, 1) on every edge."""
    return tuple(mixture.initial(len(g.cell.edges)) for g in self.groups)

  def weigh(self, theta: Theta) -> network_lib.EdgeFunction:
    """What edges add in the network that theta weighs."""
    return mixture.weigh([theta[n] for n in self._group_of], self.identities)

  def named(self, theta: Theta) -> dict[str, list[list[float]]]:
    """Theta by the groups' names, as numbers for a file."""
    return {g.name: np.round(np.asarray(t, np.float64), 6).tolist()
            for g, t in zip(self.groups, theta, strict=True)}

  @property
  def madds(self) -> int:
    """Of an image through the network that theta weighs, identities and all."""
    return self.cost.madds + int(sum(
        group.costs[1, [*group.identities], ID].sum() for group in self.groups))

  @property
  def edges(self) -> dict[str, list[list[int]]]:
    """[source, target] of every edge, by the groups' names."""
    return {g.name: [[*edge[1:]] for edge in g.cell.edges]
            for g in self.groups}

  def explained(self, theta: Theta,
                architecture: records.Architecture) -> list[dict[str, Any]]:
    """Theta on every edge that another architecture changes.

    Args:
      theta: per group, f32[E, 3].
      architecture: of the space.

    Returns:
      Of every row of the changes "theta": (none, identity, same) of each of
      the groups that are changed alike.
    """
    parts = [g.members if self.architecture.kind == "blocks" else (n,)
             for n, g in enumerate(self.groups)]
    return [{"theta": [
        np.round(np.asarray(t[change.edge], np.float64), 6).tolist()
        for own, t in zip(parts, theta, strict=True)
        if {*own} <= {*change.parts}]}
            for change in alone.changes(self.architecture, architecture)]

  def reachable(self, limits: budget_lib.Budget) -> budget_lib.Budget:
    """Returns a budget that some choice keeps to.

    Raises:
      errors.NotMet: none does.
    """
    if limits:
      self.choose(self.init(), limits)
    return limits

  def times(self, latency: latency_lib.Latency) -> Times:
    """Seconds of NONE, ID and SAME on every edge, by themselves."""
    found = tuple(np.zeros(group.allowed.shape) for group in self.groups)
    for _, (g, e), at in self._ground.sites():
      group = self.groups[g]
      choices = np.flatnonzero(group.allowed[e])
      names = [group.outcome(e, choice) for choice in choices]
      for shapes, edge in at:
        took = latency.operations(
            self._ground.network, shapes.ends(edge), names)
        found[g][e, choices] += [took[name] for name in names]
    return found

  def fastest(self, times: Times) -> tuple[np.ndarray, ...]:
    """The choice of the least time by `times` that keeps every node alive."""
    chosen = (_connected(
        group, np.argmin(np.where(group.allowed, own, np.inf), 1), -own)
              for group, own in zip(self.groups, times, strict=True))
    return tuple(map(_pruned, self.groups, chosen))

  def favourites(self, theta: Theta) -> list[np.ndarray]:
    """What theta weighs most on every edge; of equal weights what is."""
    # Of equal weights the last of NONE, ID, SAME.
    return [SAME - np.argmax(np.where(group.allowed, t, -np.inf)[:, ::-1], 1)
            for group, t in zip(self.groups, theta, strict=True)]

  def choose(self, theta: Theta, limits: budget_lib.Budget | None = None,
             times: Times = ()) -> tuple[np.ndarray, ...]:
    """Chooses what stands on every edge, i32[E] of NONE, ID, SAME per group.

    The largest theta wins ("for each edge, the operation that has the highest
    weight in theta is selected", section 3.3), theta_none being 0: what falls
    below 0 goes. Of equal weights the operation stays. Then:
    - A node whose edges would all go keeps the one of the largest theta, so
      that no node that feeds the output is dead.
    - While the network costs more than `limits`, the cheaper choice that loses
      least theta per part of the excess is taken; of equal ones the dearer.
    - Edges into nodes that then lead nowhere go: they compute nothing.
    `favourites` leaves all three out.

    Args:
      theta: per group, f32[E, 3].
      limits: the budget, or None; its seconds are those of the sum of `times`.
      times: of the operations, where latency is limited.

    Raises:
      errors.NotMet: no choice keeps to the budget.
    """
    weight = [np.asarray(t, np.float64) for t in theta]
    chosen = list(map(_connected, self.groups, self.favourites(theta), weight))
    if limits:
      chosen = budget_lib.cheapen(
          chosen, limits, lambda now: self._spent(now, limits, times),
          lambda now: self._neighbours(now, weight),
          "no transformation that keeps every node alive", self.keep)
    return tuple(map(_pruned, self.groups, chosen))

  def _spent(self, chosen, limits, times):
    """What the network of a choice costs, before anything is pruned of it."""
    total = np.array(self.cost[:2], np.float64)
    chosen = tuple(map(_pruned, self.groups, chosen))
    for group, choice in zip(self.groups, chosen, strict=True):
      e = np.arange(len(choice))
      total += (group.costs[:, e, choice] - group.costs[:, e, SAME]).sum(1)
    return budget_lib.Spent(
        operations.Cost(*map(int, total)),
        0 if limits.memory is None else footprint.count(
            self.apply(chosen), self.place, *self._at_batch),
        self.total(times, chosen) if times else 0.0)

  def total(self, times: Times, chosen: tuple[np.ndarray, ...]) -> float:
    """Seconds of a choice's operations, by `times`."""
    return float(sum(own[np.arange(len(choice)), choice].sum()
                     for own, choice in zip(times, chosen, strict=True)))

  def weight(self, theta: Theta, chosen: tuple[np.ndarray, ...]) -> float:
    """The sum of theta over what was chosen."""
    return self._weight(chosen, [np.asarray(t, np.float64) for t in theta])

  def _neighbours(
      self, chosen: list[np.ndarray], theta: list[np.ndarray]
  ) -> Iterator[tuple[list[np.ndarray], float]]:
    """Connected choices that differ on one edge, and what theta they lose."""
    weight = self._weight(chosen, theta)
    for n, group in enumerate(self.groups):
      for e, now in enumerate(chosen[n]):
        for choice in np.flatnonzero(group.allowed[e]):
          other = chosen[n].copy()
          other[e] = choice
          if choice != now and np.array_equal(other, _connected(
              group, other, np.zeros(group.allowed.shape))):
            whole = [*chosen[:n], other, *chosen[n + 1:]]
            yield whole, weight - self._weight(whole, theta)

  def _weight(self, chosen, theta):
    """The sum of theta over all edges, those that lead nowhere counting 0."""
    return sum(
        t[np.arange(len(c)), _pruned(g, c)].sum()
        for g, c, t in zip(self.groups, chosen, theta, strict=True))

  def apply(self, chosen: tuple[np.ndarray, ...]) -> records.Architecture:
    """The architecture of a choice; edges keep their order."""
    return codec.respell(
        self.architecture, self._decisions,
        tuple(g.outcomes(c) for g, c in zip(self.groups, chosen, strict=True)))

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the space."""
    return {"share": self.share, "groups": {
        g.name: int(g.allowed.sum()) for g in self.groups}}


def _group(decision, may_be, ground, costs):
  """A group, from what may stand on its edges and what all candidates cost."""
  edges = decision.cell.edges
  table, allowed = np.zeros((2, len(edges), 3)), np.zeros((len(edges), 3), bool)
  for e, edge in enumerate(edges):
    names = () if decision.fixed[e] else may_be(e)
    allowed[e] = (
        operations.NULL in names and edge.operation != operations.NULL,
        operations.SKIP in names, True)
    node = edge.target - records.NUM_INPUTS
    slot = sum(other.target == edge.target for other in edges[:e])
    for column, name in ((ID, operations.SKIP), (SAME, edge.operation)):
      if allowed[e, column]:
        table[:, e, column] = costs[:, node, slot,
                                    ground.candidates.index(name)]
  return Group(decision.name, decision.members, decision.cell, allowed, table)


def _connected(group, choice, theta):
  """A choice in which every node that had an input keeps one."""
  choice, cell = choice.copy(), group.cell
  null, was_null = live.nulls(group.outcomes(choice)), live.nulls(cell)
  for n in range(cell.num_nodes):
    into = [e for e, edge in enumerate(cell.edges)
            if edge.target == n + records.NUM_INPUTS]
    if not null[into].all() or was_null[into].all():
      continue
    options = [(e, c) for e in into for c in (SAME, ID) if group.allowed[e, c]
               and group.outcome(e, c) != operations.NULL]
    e, c = max(options, key=lambda option: theta[option])
    choice[e] = c
  return choice


def _pruned(group, choice):
  """A choice without edges into nodes that lead nowhere."""
  cell, now = group.cell, live.nulls(group.outcomes(choice))
  _, source, target = zip(*cell.edges, strict=True)
  gone = live.prune(source, target, now, cell.concat, group.allowed[:, NONE])
  return np.where(gone & ~now, NONE, choice)
