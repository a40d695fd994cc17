"""What stands in a space's cells, as a choice of connections.

A connection is a candidate operation on an edge. Differentiable searches give
every connection a strength, and keep the strongest ones: here is the rule, as a
function of arrays that compiled steps use too, and the way from what was kept
to an architecture.

Where nodes choose their inputs, a node keeps K connections ("top-2"), by
elements or on edges of their own, or those that a search picked itself; `null`
is never kept. Where a space takes its graph's edges as they are, every edge
keeps its strongest candidate, `null` among them. Should that leave no way
through a block, which then gives zeros for any image, the way that loses least
is opened: no paper says so, whose searches return such cells.
"""

from collections.abc import Sequence
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.costs import budget as budget_lib
from natjax.costs import exact, integer
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.spaces import base

# Per group, an array with axes [E, O].
Strengths = Sequence[Any]


class Group(NamedTuple):
  """Blocks that are decided on together.

  Attributes:
    name: as the decision's.
    number: the decision's number.
    members: numbers of the blocks, one or more.
    cell: their graph, as the space's spelling shows it.
    allowed: bool[E, O], what may stand on every edge; nothing on fixed edges.
    nodes: per node with edges that are not fixed, the numbers of these.
    parents: per entry of `nodes`, how many edges are kept; None is what
      strengths say (of every edge its strongest candidate, or a search's own).
  """

  name: str
  number: int
  members: tuple[int, ...]
  cell: records.Cell
  allowed: np.ndarray
  nodes: tuple[tuple[int, ...], ...]
  parents: tuple[int | None, ...]


class Connections:
  """The connections of a space.

  Attributes:
    space: the space.
    target: the place of the network whose cost counts.
    decisions: what is decided on together, fixed cells too.
    groups: those with something to decide.
    null: the number of `null` among the candidates.
    inputs: K, or None where the graph's edges are taken as they are.
  """

  def __init__(self, space: base.Space, place: records.Place,
               target: records.Place | None = None, *, null: bool = True):
    """Args:
      space: the space.
      place: where its network is searched in.
      target: where what is found is trained; None is `place`.
      null: whether `null` may stand where nodes choose their inputs, beside the
        candidates that are kept.

    Raises:
      InputError: a space whose parts do not fit together, or a node to which
        the candidates leave no choice.
    """
    self.space, self.target = space.validate(), target or place
    self.inputs = space.inputs
    self.null = space.candidates.index(operations.NULL)
    self.decisions = codec.decide(space.graph, place, space.share)
    self.groups = tuple(
        self._group(g, decision, null or space.inputs is None)
        for g, decision in enumerate(self.decisions)
        if decision.members and not all(decision.fixed))
    if not self.groups:
      raise errors.InputError(
          f"search space '{space.name}' has nothing to decide at this size;"
          " give more cells", "cells")

  def _group(self, g, decision, null):
    edges, names = decision.cell.edges, self.space.candidates
    allowed = np.zeros((len(edges), len(names)), bool)
    for e in range(len(edges)):
      if not decision.fixed[e]:
        allowed[e] = [name in self.space.names(g, e) and (
            null or name != operations.NULL) for name in names]
    targets: dict[int, list[int]] = {}
    for e, edge in enumerate(edges):
      if not decision.fixed[e]:
        targets.setdefault(edge.target, []).append(e)
    counts = self.space.parents
    group = Group(
        decision.name, g, decision.members, decision.cell, allowed,
        tuple(map(tuple, targets.values())), tuple(
            self.inputs if counts is None else (
                counts[g][target - records.NUM_INPUTS] or None)
            for target in targets))
    for target, into in targets.items():
      if not self.kept(group)[into].any():
        raise errors.InputError(
            f"search space '{self.space.name}': node {target} of the"
            f" {group.name} cell has no candidate but null, which leaves no"
            " choice; add one", "space")
    return group

  def kept(self, group: Group) -> np.ndarray:
    """bool[E, O], the connections of a group that may be kept."""
    kept = group.allowed.copy()
    for into, parents in zip(group.nodes, group.parents, strict=True):
      if parents is not None:
        kept[list(into), self.null] = False
    return kept

  def strongest(self, strengths: Strengths, *,
                distinct_edges: bool = False) -> list[jax.Array]:
    """What is kept, bool[E, O] per group.

    Where nodes choose their inputs, the K strongest connections into every
    node: of all (Yang et al., 2021, equation 4), or of the strongest of every
    edge (Liu et al., 2019, section 2.4). Of equal ones the first.

    Args:
      strengths: f32[E, O] per group.
      distinct_edges: whether a node's connections come by different edges, as
        they do where the space has one operation per edge.
    """
    return [self._strongest(group, jnp.asarray(p), distinct_edges)
            for group, p in zip(self.groups, strengths, strict=True)]

  def _strongest(self, group, strength, distinct_edges):
    strength = jnp.where(self.kept(group), strength, -jnp.inf)
    found = best = self._best(group, strength)
    distinct_edges |= not self.space.several
    if distinct_edges:
      strength = jnp.where(best, strength, -jnp.inf)
    may = self.kept(group)
    # Edges that have nothing but null do not count.
    counts = np.asarray(may.any(1) if distinct_edges else may.sum(1))
    for into, parents in zip(group.nodes, group.parents, strict=True):
      if parents is None:
        continue
      rows = strength[np.array(into)]
      count = min(parents, int(counts[list(into)].sum()))
      _, at = jax.lax.top_k(rows.reshape(-1), count)
      mask = jnp.zeros(rows.size, bool).at[at].set(True).reshape(rows.shape)
      found = found.at[np.array(into)].set(mask)
    return found

  def one_per_edge(self, kept: Strengths,
                   strengths: Strengths) -> list[jax.Array]:
    """Of what is kept, the strongest on every edge, where one may stand there.

    Args:
      kept: bool[E, O] per group.
      strengths: f32[E, O] per group.
    """
    if self.space.several:
      return list(kept)
    return [mask & self._best(group, p) for group, mask, p in zip(
        self.groups, kept, strengths, strict=True)]

  def _best(self, group, strength):
    """bool[E, O], the strongest on every edge of what may be kept."""
    strength = jnp.where(self.kept(group), strength, -jnp.inf)
    return self.kept(group) & jax.nn.one_hot(
        jnp.argmax(strength, -1), strength.shape[-1], dtype=bool)

  def per_decision(self, weights: Strengths) -> list[jax.Array]:
    """Arrays [E, O] per decision, zeros where nothing is decided."""
    found = [jnp.zeros((len(d.cell.edges), len(self.space.candidates)))
             for d in self.decisions]
    for group, part in zip(self.groups, weights, strict=True):
      found[group.number] = jnp.asarray(part)
    return found

  def architecture(self, kept: Strengths) -> codec.Architecture:
    """The architecture of what was kept, on the host.

    Edges stand in order of target, source, candidate.

    Args:
      kept: bool[E, O] per group.
    """
    cells = []
    for group, mask in zip(self.groups, kept, strict=True):
      edges, mask = group.cell.edges, np.asarray(mask, bool)
      if self.inputs is None:
        found = [edge._replace(operation=self.space.candidates[mask[e].argmax()]
                               ) if mask[e].any() else edge
                 for e, edge in enumerate(edges)]
      else:
        found = [edges[e]._replace(operation=self.space.candidates[o])
                 for e, o in np.argwhere(mask)]
      cell = group.cell._replace(edges=tuple(found))
      if self.space.loose_end:
        feeds = {edge.source for edge in found}
        cell = cell._replace(concat=tuple(
            node for node in cell.concat if node not in feeds))
      cells.append(cell)
    return self._respell(cells)

  def _respell(self, cells):
    """The architecture with other cells, one per group."""
    whole = [d.cell if d.members else cells[0] for d in self.decisions]
    for group, cell in zip(self.groups, cells, strict=True):
      whole[group.number] = cell
    return codec.respell(self.space.graph, self.decisions, tuple(whole))

  def named(self, arrays: Strengths) -> dict[str, Any]:
    """Arrays by the groups' names, as numbers for a file."""
    return {group.name: np.round(np.asarray(a, np.float64), 6).tolist()
            for group, a in zip(self.groups, arrays, strict=True)}

  @functools.cached_property
  def _costs(self) -> list[np.ndarray]:
    """Parameters and multiply-adds of connections, f64[2, E, O] per group."""
    graph, found = self.space.graph, []
    network = codec.expand(graph, self.target)
    shapes = shapes_lib.of(network, self.target)
    decisions = codec.decide(graph, self.target, self.space.share)
    for group in self.groups:
      table = np.zeros((2, *group.allowed.shape))
      for i in decisions[group.number].members:
        for e, o in np.argwhere(group.allowed):
          edge = network.blocks[i].edges[e + network.prefix]
          cost = exact.edge(network, shapes[i], edge._replace(
              operation=self.space.candidates[o]))
          table[:, e, o] += (cost.params, cost.madds)
      found.append(table)
    return found

  @functools.cached_property
  def _bare(self) -> np.ndarray:
    """Of the network without any connection, f64[2]."""
    cells = [group.cell._replace(edges=tuple(
        edge._replace(operation=operations.NULL)
        if group.allowed[e].any() else edge
        for e, edge in enumerate(group.cell.edges))) for group in self.groups]
    return np.array(exact.network(
        self._respell(cells), self.target)[:2], np.float64)

  @functools.cached_property
  def _copied(self) -> bool:
    """Whether the target has a kind of cells that the search does not."""
    target = codec.decide(self.space.graph, self.target, self.space.share)
    return any(there.members and not here.members for here, there in zip(
        self.decisions, target, strict=True))

  @property
  def adds_up(self) -> bool:
    """Whether a network costs what its connections do, each by itself."""
    # What is concatenated counts, too, and cells that are copies of others.
    return not (self.space.loose_end or self._copied)

  @property
  def costs(self) -> tuple[np.ndarray, np.ndarray]:
    """Parameters and multiply-adds, where they add up.

    Returns:
      Of every connection, f64[2, M], group after group, and of the network
      without any, f64[2].
    """
    return np.concatenate(
        [c.reshape(2, -1) for c in self._costs], axis=1), self._bare

  def cost(self, kept: Strengths) -> operations.Cost:
    """Of the network that is trained in the end."""
    if not self.adds_up:
      return exact.network(self.architecture(kept), self.target)
    total = self._bare + sum(
        table[:, np.asarray(mask, bool)].sum(1)
        for table, mask in zip(self._costs, kept, strict=True))
    return operations.Cost(*map(int, total))

  def connected(self, kept: Strengths, strengths: Strengths
                ) -> list[np.ndarray]:
    """What is kept, with a way through every block.

    Where there is none, one is opened: on its edges that keep `null` or
    nothing, the strongest other candidate is kept instead. Of all ways it is
    that which loses least strength (an edge that keeps nothing, what it lacks
    to the block's strongest), and of equal ones the one that changes least.

    Args:
      kept: bool[E, O] per group.
      strengths: f32[E, O] per group.
    """
    found = [np.array(mask, bool) for mask in kept]
    for group, mask, strength in zip(
        self.groups, found, strengths, strict=True):
      for e, o in self._way(group, mask, np.asarray(strength, np.float64))[1]:
        mask[e] = False
        mask[e, o] = True
    return found

  def _way(self, group, mask, strength):
    """The way through a block that loses least, and what it loses.

    Returns:
      The loss, 0 of one that is open and infinite where none can be opened, and
      the connections (edge, candidate) to be kept instead of `null`.
    """
    nothing: tuple[float, list[tuple[int, int]]] = (np.inf, [])
    order = lambda option: (option[0], len(option[1]))
    # Nodes to which no edge leads are those that are given.
    targets = {edge.target for edge in group.cell.edges}
    best = {edge.source: (0.0, nothing[1]) for edge in group.cell.edges
            if edge.source not in targets}
    for e, edge in enumerate(group.cell.edges):
      lost, way = best.get(edge.source, nothing)
      others = group.allowed[e].copy()
      others[self.null] = False
      if not group.allowed[e].any():
        lost = lost if edge.operation != operations.NULL else np.inf
      elif not (mask[e] & others).any():
        if others.any():
          o = int(np.argmax(np.where(others, strength[e], -np.inf)))
          now = strength[e][mask[e]] if mask[e].any() else strength
          lost, way = lost + now.max() - strength[e, o], [*way, (e, o)]
        else:
          lost = np.inf
      if order((lost, way)) < order(best.get(edge.target, nothing)):
        best[edge.target] = lost, way
    return min((best.get(node, nothing) for node in group.cell.concat),
               key=order)

  def _open(self, kept):
    """Whether there is a way through every block, or none can be opened."""
    return not any(self._way(group, np.asarray(mask, bool), np.zeros(
        mask.shape))[1] for group, mask in zip(self.groups, kept, strict=True))

  def within(self, kept: Strengths, strengths: Strengths,
             limits: budget_lib.Budget, *, distinct_edges: bool = False,
             fewer: bool = False) -> list[np.ndarray]:
    """What is kept, connected, and made cheaper until it meets the limits.

    Connection by connection (`costs.budget.cheapen`): another one takes its
    place, on the same edge or, where nodes choose, on another one into the same
    node; or, if there may be `fewer`, it goes, unless it is its node's last.

    Args:
      kept: bool[E, O] per group.
      strengths: f32[E, O] per group.
      limits: the budget.
      distinct_edges: as of `strongest`.
      fewer: whether nodes may have fewer connections than are kept.

    Raises:
      errors.NotMet: nothing cheaper is left.
    """
    strengths = [np.asarray(s, np.float64) for s in strengths]
    one = distinct_edges or not self.space.several
    return budget_lib.cheapen(
        self.connected(kept, strengths), limits,
        lambda now: budget_lib.Spent(self.cost(now)),
        lambda now: (pair for pair in self._neighbours(
            now, strengths, one, fewer) if self._open(pair[0])),
        f"nothing in search space '{self.space.name}'")

  def likeliest(self, strengths: Strengths,
                limits: budget_lib.Budget) -> list[np.ndarray]:
    """Of what keeps to limits, the largest sum of strengths, exactly.

    It is for spaces that take their graph's edges as they are, where every edge
    keeps one of its candidates (`costs.integer`), and which leave every node
    any number of parents.

    Args:
      strengths: f64[E, O] per group; what has -inf is kept if need be.
      limits: of parameters and multiply-adds.

    Returns:
      bool[E, O] per group.

    Raises:
      InputError: costs do not add up.
      errors.NotMet: nothing keeps to the limits.
    """
    assert not any(p for g in self.groups for p in g.parents)
    if not self.adds_up:
      raise errors.InputError(
          f"search space '{self.space.name}' has costs that do not add up over"
          " its edges at this size, so that no budget can be kept exactly;"
          " leave max-params and max-madds out")
    may = np.concatenate([g.allowed.reshape(-1) for g in self.groups])
    edge = np.concatenate([
        np.repeat(np.arange(len(g.allowed)) + before, g.allowed.shape[1])
        for before, g in zip(np.cumsum([0] + [
            len(g.allowed) for g in self.groups]), self.groups, strict=False)])
    gains = np.concatenate([np.ravel(s) for s in strengths])[may]
    finite = gains[np.isfinite(gains)]
    worst = -len(gains) * (1 + np.abs(finite).max(initial=0.0))
    costs, bare = self.costs
    edges, number = np.unique(edge[may], return_inverse=True)
    one = (np.arange(len(edges))[:, None] == number).astype(float)
    bounds = [(costs[kind][may] / most, -np.inf, 1 - bare[kind] / most)
              for kind, most in enumerate(limits[:2]) if most is not None]
    slack = 0.0  # Of the solver's tolerance.
    while slack < 0.1:
      found = integer.solve(np.where(np.isfinite(gains), -gains, -worst), [
          (one, 1, 1), *((row[None], low, high - slack)
                         for row, low, high in bounds)])
      if found is None:
        break
      chosen = np.zeros(len(may), bool)
      chosen[may] = found > 0.5
      ends = np.cumsum([g.allowed.size for g in self.groups])[:-1]
      kept = [part.reshape(g.allowed.shape) for part, g in zip(
          np.split(chosen, ends), self.groups, strict=True)]
      if limits.allows(self.cost(kept)):
        return kept
      slack = max(3 * slack, 1e-9)
    least = [int(bare[kind] + sum(costs[kind][may][number == e].min()
                                  for e in range(len(edges))))
             for kind in range(2)]
    raise errors.NotMet(
        f"nothing in search space '{self.space.name}' keeps to the budget"
        f" ({limits.text()}); the least is max-params {least[0]}, or max-madds"
        f" {least[1]}, one without the other; allow more")

  def _neighbours(self, kept, strengths, one, fewer):
    """Yields what is kept with one connection changed, and what that loses."""
    for g, group in enumerate(self.groups):
      may, now, strength = self.kept(group), kept[g], strengths[g]
      nodes = [some for into, parents in zip(
          group.nodes, group.parents, strict=True) for some in (
              [(e,) for e in into] if parents is None else [into])]
      for rows in map(list, nodes):
        there = [(rows[e], o) for e, o in np.argwhere(now[rows])]
        goes = fewer and self.inputs is not None and len(there) > 1
        others = [None] if goes else [
            (rows[e], o) for e, o in np.argwhere(may[rows] & ~now[rows])]
        for old, new in itertools.product(there, others):
          if new and one and new[0] != old[0] and now[new[0]].any():
            continue  # Two would stand on one edge.
          other, lost = now.copy(), strength[old]
          other[old] = False
          if new:
            other[new], lost = True, lost - strength[new]
          yield [*kept[:g], other, *kept[g + 1:]], lost
