"""What may take the place of a network's operations, and the choice of it.

On every edge the operations are those that NAT++'s rule and the guard of cost
allow (`spaces.transitions`) and that save something. A choice is made from
their prices, which are added up, under a budget: a small integer program, which
scipy's HiGHS solves exactly.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import flax
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations, spaces
from natjax.costs import amounts, exact, footprint, integer
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, keeping, live, records
from natjax.methods import latency as latency_lib
from natjax.networks import network as network_lib
from natjax.operations import edges as edges_lib
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


class Lesson(NamedTuple):
  """What the replacements of one place learn from, on a batch.

  Attributes:
    path: of every replacement's variables, by the operation's name.
    ends: the shapes that the edge joins.
    source: [B, H, W, C], what the operation was given.
    wanted: [B, h, w, C'], what it made of it.
    made: `(name)`, what an operation is there.
  """

  path: dict[str, tuple[str, str]]
  ends: edges_lib.Ends
  source: jax.Array
  wanted: jax.Array
  made: Callable[[str], Any]


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


class Replacements:
  """The choices, and the network that can compute all of them.

  Attributes:
    architecture: the given one.
    place: where it stands.
    cost: of it.
    places: the edges with a choice, P of them.
    madds: per place, f[O], of its operations on all edges that it decides on.
    network: its module, without an auxiliary head.
  """

  def __init__(self, architecture: records.Architecture, place: records.Place,
               share: str = "full", keep: str = "", *, batch: int = 1,
               dtype: str = "float32",
               latency: latency_lib.Latency | None = None):
    """Args:
      architecture: a genotype or a network of blocks.
      place: its skeleton or frame.
      share: "cell" or "full", what is decided on together.
      keep: what is never changed, see `graph.keeping`.
      batch: images at once, by which memory is counted.
      dtype: of the computation, for the same.
      latency: the times of operations; None where latency does not matter.

    Raises:
      InputError: another `share`, an architecture that cannot stand there, or
        nothing that `keep` leaves to replace.
    """
    # Not padded: the modules of its edges keep their names.
    space = spaces.own(architecture, share, "natpp", keep)._replace(
        graph=codec.check(architecture))
    self.architecture, self.place, self.share = space.graph, place, share
    self.keep, self._latency = keep, latency
    self._at_batch = batch, dtype
    self.cost = exact.network(space.graph, place)
    self.network = network_lib.module(space.graph, place)
    ground = ground_lib.Ground(space, place, scheme="natpp")
    self._decisions, around = ground.decisions, ground.around()
    costs = ground.edge_costs(space.graph)
    self._sites = {ge: at for _, ge, at in ground.sites()}
    places, madds = [], []
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
          madds.append(own[1, kept])
    self.places, self.madds = tuple(places), tuple(madds)
    self._number = {place[:2]: p for p, place in enumerate(places)}
    keeping.check_left(keep, bool(places))
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

  def listen(self, params: Any,
             lessons: list[Lesson]) -> network_lib.EdgeFunction:
    """Edges that add what they did, and tell what there is to learn.

    Args:
      params: of all replacements that have any.
      lessons: to which each place with such a replacement adds its own.
    """
    block = network_lib.names(self.network.graph).block

    def edge(site: network_lib.Site) -> jax.Array | None:
      y = network_lib.plain(site)
      if y is None:
        return y
      own = f"{block}{site.block}"
      path = {name: (own, network_lib.edge_name(site.edge, name))
              for name in self._names(site)[1:]}
      path = {name: (own, module) for name, (_, module) in path.items()
              if module in params.get(own, {})}
      if path:
        lessons.append(Lesson(path, site.ends, site.source, y, site.made))
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

  def learning(self) -> float:
    """Multiply-adds of an image by which all replacements learn.

    A pass through the network, and a gradient of each replacement, a backward
    pass being two forward ones.
    """
    return self.cost.madds + 3 * sum(own[1:].sum() for own in self.madds)

  def running(self, choices: np.ndarray) -> float:
    """Multiply-adds of an image through the networks of choices, i32[M, P].

    Nothing is left out that leads nowhere (`chosen`).
    """
    return len(choices) * self.cost.madds + sum(
        (own[choices[:, p]] - own[0]).sum() for p, own in enumerate(self.madds))

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

  def memory(self, architecture: records.Architecture) -> int:
    """Bytes of an architecture's inference (`costs.footprint`)."""
    return footprint.count(architecture, self.place, *self._at_batch)

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
    more = "" if limits.memory is None else (
        f" and {amounts.memory(self.memory(self.architecture))} of memory")
    least = [cost[kind] for kind, (_, cost) in enumerate(self._cheapest)]
    if limits.memory is not None:
      left = min(self.memory(self.apply(c)) for c, _ in self._cheapest)
      more += (", of which the cheapest replacements leave"
               f" {amounts.memory(left)}")
    raise errors.NotMet(
        "no replacement that keeps every node fed keeps to the budget"
        f" ({limits.text()}); the network has {self.cost.params} parameters and"
        f" {self.cost.madds} multiply-adds{more}, and the least that is"
        f" reachable is max-params {least[0]}, or max-madds {least[1]}, one"
        f" without the other; {keeping.allow_more(self.keep)}")

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


def learn(lessons: Sequence[Lesson], params: Any, batch_stats: Any,
          rng: jax.Array) -> tuple[jax.Array, Any, Any]:
  """What all lessons teach: losses, gradients, new statistics.

  The loss of a replacement is the mean square of its difference from what the
  operation gave, over the variance of that. Places of equal shapes and names
  take their turns in a loop, so that one of them is compiled.

  Args:
    lessons: of a batch.
    params: of all replacements, by block and module.
    batch_stats: theirs, of those that have any.
    rng: a key, of operations that draw.

  Returns:
    The losses f32[K] of all K replacements; the gradients of their sum by
    `params`; the statistics.
  """
  alike: dict[Any, list[Lesson]] = {}
  for lesson in lessons:
    shape = lesson.source.shape, lesson.wanted.shape, lesson.ends
    alike.setdefault((shape, *lesson.path), []).append(lesson)
  losses, grads, stats = [], {}, {}
  for number, group in enumerate(alike.values()):
    given = [(
        {name: params[block][module]
         for name, (block, module) in lesson.path.items()},
        {name: batch_stats.get(block, {}).get(module, {})
         for name, (block, module) in lesson.path.items()},
        lesson.source, lesson.wanted,
        jax.random.fold_in(jax.random.fold_in(rng, number), turn),
    ) for turn, lesson in enumerate(group)]
    teach = functools.partial(_teach, group[0].made)
    if len(group) == 1:
      taught = [teach(given[0])]
    else:
      found = lax.map(teach, jax.tree.map(lambda *x: jnp.stack(x), *given))
      taught = [jax.tree.map(lambda x, turn=turn: x[turn], found)
                for turn in range(len(group))]
    for lesson, (loss, grad, new) in zip(group, taught, strict=True):
      losses += [loss[name] for name in lesson.path]
      for name, path in lesson.path.items():
        grads[path], stats[path] = grad[name], new[name]
  stats = {path: part for path, part in stats.items() if part}
  return (jnp.stack(losses) if losses else jnp.zeros(0),
          *map(flax.traverse_util.unflatten_dict, (grads, stats)))


def _teach(made, given):
  """One lesson: of every operation its loss, gradients, new statistics."""
  params, batch_stats, source, wanted, rng = given
  wanted = wanted.astype(jnp.float32)
  spread = jnp.var(wanted) + _SPREAD

  def loss(params):
    losses, changed = {}, {}
    for name, own in params.items():
      y, new = made(name).apply(
          {"params": own, "batch_stats": batch_stats[name]}, source,
          mutable=["batch_stats"], rngs={"dropout": rng, "noise": rng})
      missed = y.astype(jnp.float32) - wanted
      losses[name] = jnp.mean(jnp.square(missed)) / spread
      changed[name] = new.get("batch_stats", {})
    return sum(losses.values()), (losses, changed)

  grads, (losses, changed) = jax.grad(loss, has_aux=True)(params)
  return losses, grads, changed
