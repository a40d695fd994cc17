"""What may take the place of a network's operations, and the choice of it.

On every edge the operations are those that NAT++'s rule and the guard of cost
allow (`spaces.transitions`) and that save something. A choice is made from
their prices, which are added up, under a budget: a small integer program, which
scipy's HiGHS solves exactly.
"""

from collections.abc import Iterator, Sequence
import contextlib
import ctypes
import functools
import os
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from natjax import errors, operations, spaces
from natjax.costs import budget as budget_lib
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, live, records
from natjax.networks import network as network_lib
from natjax.spaces import ground as ground_lib

_SPREAD = 1e-6  # Added to a variance before something is divided by it.


class Place(NamedTuple):
  """An edge whose operation may be replaced.

  Attributes:
    decision: its number (`codec.decide`).
    edge: of the decision's cell.
    names: of the operations, the one that stands there first.
  """

  decision: int
  edge: int
  names: tuple[str, ...]


class _Problem(NamedTuple):
  """An integer program over V binary variables, one per operation of a place.

  Attributes:
    owner: i[V], the place of each.
    saved: f[V, 2], parameters and multiply-adds that each saves by itself.
    rules: f[R, V] with the least and the most of each row's sum, f[R].
  """

  owner: np.ndarray
  saved: np.ndarray
  rules: tuple[np.ndarray, np.ndarray, np.ndarray]


class Replacements:
  """The choices, and the network that can compute all of them.

  Attributes:
    architecture: the given one.
    place: where it stands.
    cost: of it.
    places: the edges with a choice, P of them.
    network: its module, without an auxiliary head.
  """

  def __init__(self, architecture: records.Architecture, place: records.Place,
               share: str = "full"):
    """Args:
      architecture: a genotype or a network of blocks.
      place: its skeleton or frame.
      share: "cell" or "full", what is decided on together.

    Raises:
      InputError: another `share`, or an architecture that cannot stand there.
    """
    # Not padded: the modules of its edges keep their names.
    space = spaces.own(architecture, share, "natpp")._replace(
        graph=codec.check(architecture))
    self.architecture, self.place, self.share = space.graph, place, share
    self.cost = exact.network(space.graph, place)
    self.network = network_lib.module(space.graph, place)
    ground = ground_lib.Ground(space, place, scheme="natpp")
    self._decisions, around = ground.decisions, ground.around()
    costs = ground.edge_costs(space.graph)
    places = []
    for g, decision in enumerate(self._decisions):
      slots = zip(*arrays_lib.slots(decision.cell), strict=True)
      for e, slot in enumerate(slots):
        names = around.names(g, e)
        here = [ground.candidates.index(name) for name in names]
        now = decision.cell.edges[e].operation
        if decision.fixed[e] or now == operations.NULL or not decision.members:
          continue
        own = costs[(slice(None), g, *slot)][:, here]
        saved = (own[:, [names.index(now)]] - own).astype(np.int64).T
        kept = [names.index(now), *np.flatnonzero(saved.any(1)).tolist()]
        if len(kept) > 1:
          places.append(Place(g, e, tuple(names[o] for o in kept)))
    self.places = tuple(places)
    self._number = {place[:2]: p for p, place in enumerate(places)}
    if not places:
      raise errors.InputError(
          "on no edge of this architecture does another operation save"
          " anything; there is nothing to replace")
    self._at = {(i, e): self._number[g, e]
                for g, d in enumerate(self._decisions)
                for i in d.members for e in range(len(d.cell.edges))
                if (g, e) in self._number}

  def every(self, site: network_lib.Site) -> jax.Array | None:
    """An edge function that runs all operations, to draw their variables."""
    for name in self._names(site)[1:]:
      if name != operations.NULL:
        site.run(name)
    return network_lib.plain(site)

  def distil(self, params: Any,
             losses: list[jax.Array]) -> network_lib.EdgeFunction:
    """Edges that add what they did, beside which the replacements learn.

    Args:
      params: of all replacements that have any.
      losses: to which each of these adds its f32[], the mean square of its
        difference from what the operation gave, over the variance of that.
    """
    block = network_lib.names(self.network.graph).block

    def edge(site: network_lib.Site) -> jax.Array | None:
      y = network_lib.plain(site)
      if y is None:
        return y
      wanted = lax.stop_gradient(y).astype(jnp.float32)
      spread = jnp.var(wanted) + _SPREAD
      held = params.get(f"{block}{site.block}", {})
      for name in self._names(site)[1:]:
        if network_lib.edge_name(site.edge, name) in held:
          missed = site.run(name).astype(jnp.float32) - wanted
          losses.append(jnp.mean(jnp.square(missed)) / spread)
      return y

    return edge

  def chosen(self, choice: jax.Array) -> network_lib.EdgeFunction:
    """Edges of which a choice says, as data, what stands there.

    Args:
      choice: i32[P], numbers of `Place.names`.
    """

    def edge(site: network_lib.Site) -> jax.Array | None:
      names = self._names(site)
      if len(names) == 1:
        return network_lib.plain(site)
      return lax.switch(choice[self._at[site.block, site.edge]], [
          functools.partial(site.apart, name) for name in names])

    return edge

  def _names(self, site):
    p = self._at.get((site.block, site.edge))
    return (site.operation,) if p is None else self.places[p].names

  def apply(self, choice: np.ndarray) -> records.Architecture:
    """The architecture of a choice; edges keep their order.

    Edges into nodes that then lead nowhere are null: they compute nothing.
    """
    return self._apply(choice)[0]

  def _apply(self, choice):
    """`apply`, and the places whose operations then lead nowhere."""
    cells = [list(d.cell.edges) for d in self._decisions]
    for place, chosen in zip(self.places, choice, strict=True):
      edges = cells[place.decision]
      edges[place.edge] = edges[place.edge]._replace(
          operation=place.names[chosen])
    pruned = set()
    for g, (decision, edges) in enumerate(zip(
        self._decisions, cells, strict=True)):
      now = live.nulls(decision.cell._replace(edges=tuple(edges)))
      _, source, target = zip(*edges, strict=True)
      gone = live.prune(source, target, now, decision.cell.concat,
                        ~np.asarray(decision.fixed))
      for e in np.flatnonzero(gone & ~now).tolist():
        edges[e] = edges[e]._replace(operation=operations.NULL)
        if (g, e) in self._number:
          pruned.add(self._number[g, e])
    return codec.respell(self.architecture, self._decisions, tuple(
        decision.cell._replace(edges=tuple(edges)) for decision, edges in zip(
            self._decisions, cells, strict=True))), pruned

  def alone(self) -> np.ndarray:
    """i32[M, P], the choices in which one operation is replaced."""
    rows = [(p, o) for p, place in enumerate(self.places)
            for o in range(1, len(place.names))]
    found = np.zeros((len(rows), len(self.places)), np.int32)
    for row, (p, o) in zip(found, rows, strict=True):
      row[p] = o
    return found

  def drawn(self, count: int, seed: int) -> np.ndarray:
    """i32[count, P], choices at random; each replaces a part of its own."""
    rng = np.random.default_rng(seed)
    sizes = np.array([len(place.names) for place in self.places])
    shape = (count, len(sizes))
    changed = rng.random(shape) < rng.random((count, 1))
    return np.where(changed, 1 + rng.integers(0, sizes - 1, shape), 0).astype(
        np.int32)

  def by_place(self, prices: np.ndarray) -> list[np.ndarray]:
    """Prices of `alone`, f[M], as f[O] of every place; what stands is free."""
    ends = np.cumsum([len(place.names) - 1 for place in self.places])
    return [np.concatenate([[0.0], part])
            for part in np.split(np.asarray(prices, np.float64), ends[:-1])]

  def choose(self, prices: Sequence[np.ndarray],
             limits: budget_lib.Budget) -> np.ndarray:
    """The cheapest choice within a budget, i32[P]; exact for added prices.

    Every node that something reads keeps an input. What leads nowhere once an
    operation is gone is saved with it, and stands in the choice as it is.

    Args:
      prices: per place, f[O].
      limits: the budget.

    Raises:
      errors.NotMet: no choice keeps to it.
    """
    problem = self._problem
    need = np.array([
        0.0 if limit is None else now - limit
        for now, limit in zip(self.cost[:2], limits, strict=True)])
    scale = np.maximum(np.array(self.cost[:2], float), 1)
    slack = 0.0  # Of the solver's tolerance, and what two choices save once.
    while slack < 0.1:
      with _quiet():
        done = optimize.milp(
            np.concatenate(prices), integrality=np.ones(len(problem.owner)),
            bounds=optimize.Bounds(0, 1), options={"mip_rel_gap": 0},
            constraints=[
                optimize.LinearConstraint(*problem.rules),
                optimize.LinearConstraint(
                    problem.saved.T / scale[:, None],
                    need / scale + slack * (need > 0))])
      if done.x is None:
        break
      choice = self._chosen(done.x)
      if limits.allows(exact.network(self.apply(choice), self.place)):
        return choice
      slack = max(3 * slack, 1e-7)
    for choice, cost in self._cheapest:
      if limits.allows(cost):
        return choice
    least = [cost[kind] for kind, (_, cost) in enumerate(self._cheapest)]
    raise errors.NotMet(
        "no replacement that keeps every node fed keeps to the budget"
        f" ({limits.text()}); the network has {self.cost.params} parameters and"
        f" {self.cost.madds} multiply-adds, and the least that is reachable is"
        f" max-params {least[0]}, or max-madds {least[1]}, one without the"
        " other; allow as much")

  @functools.cached_property
  def _cheapest(self):
    """The choices of fewest parameters and multiply-adds, with their costs."""
    found = []
    for saved in self._problem.saved.T:
      with _quiet():
        done = optimize.milp(
            -saved, integrality=np.ones(len(saved)),
            bounds=optimize.Bounds(0, 1), options={"mip_rel_gap": 0},
            constraints=optimize.LinearConstraint(*self._problem.rules))
      choice = self._chosen(done.x)
      found.append((choice, exact.network(self.apply(choice), self.place)))
    return found

  def _chosen(self, x):
    """i32[P], the choice that a solution of the problem stands for."""
    return np.array([int(np.argmax(x[self._problem.owner == p]))
                     for p in range(len(self.places))], np.int32)

  def least(self) -> budget_lib.Budget:
    """A budget that the operation which saves most keeps to by itself."""
    params, madds = self._problem.saved.max(0)
    return budget_lib.Budget(madds=self.cost.madds - madds) if madds else (
        budget_lib.Budget(params=self.cost.params - params))

  @functools.cached_property
  def _problem(self):
    """The choice as an integer program over V binary variables."""
    owner = np.repeat(np.arange(len(self.places)),
                      [len(place.names) for place in self.places])
    feeds = np.array([name != operations.NULL for place in self.places
                      for name in place.names])
    first = np.searchsorted(owner, np.arange(len(self.places)))
    saved = np.zeros((len(owner), 2))
    # Of each place one operation; and further rows with their least sums.
    rows = [((owner == p).astype(float), 1.0, 1.0)
            for p in range(len(self.places))]
    for v, p in enumerate(owner):
      if v == first[p]:
        continue
      choice = np.zeros(len(self.places), np.int32)
      choice[p] = v - first[p]
      left, pruned = self._apply(choice)
      saved[v] = np.subtract(
          self.cost[:2], exact.network(left, self.place)[:2])
      for q in pruned - {p}:  # v is chosen only where q stays as it is.
        rows.append((np.eye(len(owner))[first[q]] - np.eye(len(owner))[v],
                     0.0, np.inf))
    for into, out, read in self._nodes():
      fed = (np.isin(owner, into) & feeds).astype(float)
      if read:
        rows.append((fed, 1.0, np.inf))
      rows += [(fed - ((owner == q) & feeds), 0.0, np.inf) for q in out]
    sums, least, most = map(np.array, zip(*rows, strict=True))
    return _Problem(owner, saved, (sums, least, most))

  def _nodes(self):
    """Per node that could lose all inputs: what feeds it, and what reads it.

    Yields:
      The places into the node, those out of it, and whether something reads it
      that stays: the output, or an edge without a choice.
    """
    for g, decision in enumerate(self._decisions):
      edges = [(self._number.get((g, e)), edge)
               for e, edge in enumerate(decision.cell.edges)
               if edge.operation != operations.NULL]
      for node in sorted({edge.target for _, edge in edges}):
        into = [p for p, edge in edges if edge.target == node]
        out = [p for p, edge in edges if edge.source == node]
        if None not in into:
          yield into, [p for p in out if p is not None], (
              None in out or node in decision.cell.concat)

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the choices."""
    return {"share": self.share, "replacements": {
        where: list(place.names[1:]) for where, place in self.named()}}

  def named(self) -> list[tuple[str, Place]]:
    """Every place with what reports call it, as tables of changes do.

    A second edge between the same nodes has its number behind it: "normal,
    0 -> 2 (2)".
    """
    found: list[tuple[str, Place]] = []
    for place in self.places:
      decision = self._decisions[place.decision]
      ends = [edge[1:] for edge in decision.cell.edges[:place.edge + 1]]
      source, target = ends[-1]
      number = ends.count(ends[-1])
      found.append((f"{decision.name}, {source} -> {target}"
                    + f" ({number})" * (number > 1), place))
    return found


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps C's stdout from the terminal.

  HiGHS prints a line there now and then, whatever it is told (scipy 1.17.1,
  findings/scipy_milp_prints.sh), also between the lines of a JSON output.
  """
  try:
    flush = ctypes.CDLL(None).fflush
    flush(None)
    kept = os.dup(1)
  except (AttributeError, OSError, TypeError):
    yield  # No such C library, or no stdout.
    return
  try:
    with open(os.devnull, "wb") as nowhere:
      os.dup2(nowhere.fileno(), 1)
      yield
  finally:
    flush(None)
    os.dup2(kept, 1)
    os.close(kept)
