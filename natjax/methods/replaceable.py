"""What may take the place of a network's operations.

On every edge the operations are those that NAT++'s rule and the guard of cost
allow (`spaces.transitions`) and that save something.
"""

import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import numpy as np

from natjax import errors, operations, spaces
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, keeping, live, records
from natjax.methods import latency as latency_lib
from natjax.methods import lessons as lessons_lib
from natjax.networks import network as network_lib
from natjax.spaces import ground as ground_lib


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


class Replaceable:
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
               latency: latency_lib.Latency | None = None,
               allowed: str = ""):
    """Args:
      architecture: a genotype or a network of blocks.
      place: its skeleton or frame.
      share: "cell" or "full", what is decided on together.
      keep: what is never changed, see `graph.keeping`.
      batch: images at once, by which memory is counted.
      dtype: of the computation, for the same.
      latency: the times of operations; None where latency does not matter.
      allowed: names of the operations that may take another's place, separated
        by commas; empty allows all.

    Raises:
      InputError: another `share`, an architecture that cannot stand there, a
        name of no operation, or nothing that `keep` and `allowed` leave to
        replace.
    """
    # Not padded: the modules of its edges keep their names.
    space = spaces.own(architecture, share, "natpp", keep)._replace(
        graph=codec.check(architecture))
    new = _named(allowed)
    self.architecture, self.place, self.share = space.graph, place, share
    self.keep, self._latency = keep, latency
    self._at_batch = batch, dtype
    self.cost = exact.network(space.graph, place)
    self.network = network_lib.module(space.graph, place)
    ground = ground_lib.Ground(space, place, scheme="natpp")
    self._decisions, around = ground.decisions, ground.around()
    if strange := sorted(new - {*ground.candidates}):
      raise errors.InputError(
          f"operations names {', '.join(strange)}, and only"
          f" {', '.join(ground.candidates)} may come to stand in this"
          " architecture (an operation of your own where it stands in it"
          " already); name some of these", "operations")
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
        kept = [names.index(now), *(
            o for o in np.flatnonzero(saved.any(1)).tolist()
            if not new or names[o] in new)]
        if len(kept) > 1:
          places.append(Place(g, e, tuple(names[o] for o in kept)))
          madds.append(own[1, kept])
    self.places, self.madds = tuple(places), tuple(madds)
    self._number = {place[:2]: p for p, place in enumerate(places)}
    keeping.check_left(keep, bool(places) or bool(new))
    if not places and new:
      raise errors.InputError(
          f"operations is '{allowed}', and none of these saves anything where"
          " something may be replaced; name others, or leave it out",
          "operations")
    if not places:
      raise errors.InputError(
          "on no edge of this architecture does another operation save"
          " anything; there is nothing to replace (stem and head are left as"
          " they are, and so are parts of a flax module that are fixed); put"
          " what may be replaced, such as convolutions, into cells or blocks")
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
             lessons: list[lessons_lib.Lesson]) -> network_lib.EdgeFunction:
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
        lessons.append(lessons_lib.Lesson(
            path, site.ends, site.source, y, site.made))
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


def _named(allowed):
  """The operations that a list of names allows; empty allows all."""
  try:
    return {operations.get(name.strip(), where="operations").name
            for name in allowed.split(",")} if allowed else set()
  except errors.InputError as e:
    raise errors.InputError(str(e), "operations") from None
