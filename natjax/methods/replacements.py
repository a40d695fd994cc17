"""The choice of what takes the place of a network's operations.

It is made from prices, which are added up, under a budget: a small integer
program, which scipy's HiGHS solves exactly.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

import numpy as np

from natjax import errors, operations
from natjax.costs import budget as budget_lib
from natjax.costs import exact, footprint, integer
from natjax.graph import keeping, records
from natjax.methods import replaceable


class _Problem(NamedTuple):
  """An integer program over V binary variables, one per operation of a place.

  Attributes:
    owner: i[V], the place of each.
    saved: f[V, 2], parameters and multiply-adds that each saves by itself.
    gone: of each, the places that lead nowhere without it.
    rules: f[R, V] with the least and the most of each row's sum, f[R].
  """

  owner: np.ndarray
  saved: np.ndarray
  gone: tuple[frozenset[int], ...]
  rules: tuple[np.ndarray, np.ndarray, np.ndarray]


class Replacements(replaceable.Replaceable):
  """The choices under a budget among what is replaceable."""

  def memory(self, architecture: records.Architecture) -> int:
    """Bytes of an architecture's inference (`costs.footprint`)."""
    return footprint.count(architecture, self.place, *self._at_batch)

  def price(self, prices: Sequence[np.ndarray], choice: np.ndarray) -> float:
    """The price of a choice, of prices per place, f[O]."""
    return float(sum(p[c] for p, c in zip(prices, choice, strict=True)))

  def choose(self, prices: Sequence[np.ndarray], limits: budget_lib.Budget,
             seconds: float | None = None) -> np.ndarray:
    """The cheapest choice within a budget, i32[P]; exact for added prices.

    Every node that something reads keeps an input. What leads nowhere once an
    operation is gone is saved with it, and stands in the choice as it is.

    Args:
      prices: per place, f[O].
      limits: the budget, but for its latency.
      seconds: what is to be saved at least, by the times of the operations;
        None asks for nothing.

    Raises:
      errors.NotMet: no choice keeps to it.
    """
    problem = self._problem
    # Of all that is limited: what each saves, how much there is, what must go.
    rows = [(saved, float(max(now, 1)), 0.0 if limit is None else now - limit)
            for saved, now, limit in zip(
                problem.saved.T, self.cost[:2], limits[:2], strict=True)]
    if limits.memory is not None:
      now = self.memory(self.architecture)
      rows.append((self._memory_saved, float(now), now - limits.memory))
    if seconds is not None:
      saved = self._seconds_saved
      rows.append((saved, float(np.abs(saved).max()) or 1.0, seconds))
    columns, scale, need = (np.array(part, float) for part in zip(
        *rows, strict=True))
    slack = 0.0  # Of the solver's tolerance, and what two choices save once.
    while slack < 0.1:
      done = integer.solve(np.concatenate(prices), [problem.rules, (
          columns / scale[:, None], need / scale + slack * (need > 0))])
      if done is None:
        break
      choice = self._chosen(done)
      found = self.apply(choice)
      if limits.allows(exact.network(found, self.place), (
          0 if limits.memory is None else self.memory(found))):
        return choice
      slack = max(3 * slack, 1e-7)
    for choice, cost in self._cheapest if seconds is None else ():
      if limits.allows(cost, 0 if limits.memory is None else self.memory(
          self.apply(choice))):
        return choice
    now, counted = 0, any(limit is not None for limit in limits[:3])
    least = [f"max-{name} {cost[kind]}"
             for kind, (name, (_, cost)) in enumerate(zip(
                 ("params", "madds"), self._cheapest, strict=True))
             if limits[kind] is not None or not counted]
    if limits.memory is not None:
      now = self.memory(self.architecture)
      left = min(self.memory(self.apply(c)) for c, _ in self._cheapest)
      least.append(f"max-memory {left}, of the cheapest replacements")
    raise errors.NotMet(
        "no replacement that keeps every node fed keeps to the budget"
        f" ({limits.text()}); the network has {limits.of(self.cost, now)}, and"
        f" the least that is reachable is {', or '.join(least)}"
        + ", one without the other" * (len(least) > 1)
        + f"; {keeping.allow_more(self.keep)}")

  @functools.cached_property
  def _cheapest(self):
    """The choices of fewest parameters and multiply-adds, with their costs."""
    found = []
    for saved in self._problem.saved.T:
      done = integer.solve(-saved, [self._problem.rules])
      assert done is not None  # As the operations themselves keep to the rules.
      choice = self._chosen(done)
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
    gone = [frozenset[int]()] * len(owner)
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
      gone[v] = frozenset(pruned - {p})
      for q in gone[v]:  # v is chosen only where q stays as it is.
        rows.append((np.eye(len(owner))[first[q]] - np.eye(len(owner))[v],
                     0.0, np.inf))
    for into, out, read in self._nodes():
      fed = (np.isin(owner, into) & feeds).astype(float)
      if read:
        rows.append((fed, 1.0, np.inf))
      rows += [(fed - ((owner == q) & feeds), 0.0, np.inf) for q in out]
    sums, least, most = map(np.array, zip(*rows, strict=True))
    return _Problem(owner, saved, tuple(gone), (sums, least, most))

  @functools.cached_property
  def _memory_saved(self):
    """f[V], bytes that each operation saves by itself."""
    now, saved = self.memory(self.architecture), np.zeros(
        len(self._problem.owner))
    for v, choice in self._each():
      saved[v] = now - self.memory(self.apply(choice))
    return saved

  @functools.cached_property
  def _seconds_saved(self):
    """f[V], seconds that each operation saves, timed by itself.

    Slower ones save less than nothing.
    """
    assert self._latency is not None
    took = []  # Per place, of its operations.
    for place in self.places:
      total = np.zeros(len(place.names))
      for shapes, edge in self._sites[place[:2]]:
        found = self._latency.operations(
            self.network.graph, shapes.ends(edge), place.names)
        total += [found[name] for name in place.names]
      took.append(total)
    saved = np.concatenate([own[0] - own for own in took])
    for v, gone in enumerate(self._problem.gone):
      saved[v] += sum(took[q][0] for q in gone)
    return saved

  def _each(self):
    """Every operation's number, and the choice in which it alone is new."""
    first = np.searchsorted(
        self._problem.owner, np.arange(len(self.places)))
    for choice in self.alone():
      p, = np.flatnonzero(choice)
      yield first[p] + choice[p], choice

  def fastest(self, limits: budget_lib.Budget) -> np.ndarray:
    """The choice that saves most time by the times of operations, i32[P].

    Raises:
      errors.NotMet: no choice keeps to the budget otherwise.
    """
    return self.choose(self._by_place(-self._seconds_saved), limits)

  def foreseen(self, choice: np.ndarray) -> float:
    """Seconds that a choice saves by the times of its operations."""
    saved = self._by_place(self._seconds_saved)
    return float(sum(s[c] for s, c in zip(saved, choice, strict=True)))

  def paid(
      self, choice: np.ndarray, prices: Sequence[np.ndarray],
  ) -> list[tuple[tuple[int, ...], int, float, float | None]]:
    """What a choice pays for every operation that it replaces.

    Returns:
      Numbers of the blocks, or of a genotype's cell, and of the edge; the
      price; the seconds saved, None where operations are not timed.
    """
    saved = None if self._latency is None else self._by_place(
        self._seconds_saved)
    return [
        ((self._decisions[place.decision].members if (
            self.architecture.kind == "blocks") else (place.decision,)),
         place.edge, float(prices[p][o]),
         None if saved is None else float(saved[p][o]))
        for p, (place, o) in enumerate(zip(self.places, choice, strict=True))
        if o]

  def _by_place(self, values):
    """Values of all V operations, f[V], as f[O] of every place."""
    ends = np.cumsum([len(place.names) for place in self.places])
    return np.split(values, ends[:-1])

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
