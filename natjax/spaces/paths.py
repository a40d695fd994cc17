"""Single paths: architectures of a space, drawn uniformly, as arrays.

Guo et al., 2020, "Single Path One-Shot Neural Architecture Search with Uniform
Sampling" (SPOS), section 3.3: all that a space allows is equally likely. Where
a space takes its graph's edges as they are, every edge has one of its
candidates, `null` too where that is one: every layer of a chain one choice.
Where nodes choose their inputs, a node has K different edges, and on each of
them an operation that is not null, as in a random search; and likewise a node
that has a number of parents, of edges that the graph has.

A path's cost adds up over its connections, so that paths within a window of
multiply-adds are drawn by compiled programs (`Paths.within`).
"""

import functools
import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, records
from natjax.spaces import connections as connections_lib

CellArrays = arrays_lib.CellArrays
_UNIT = 1e-6  # Multiply-adds are counted in millions, lest f32 round them off.


class Drawn(NamedTuple):
  """A path that was drawn.

  Attributes:
    arrays: the path, [G, N, K].
    madds: f32[], millions of multiply-adds, 0 where they do not add up.
    tries: i32[], how many were drawn until then.
    met: f32[], 1 if it lies in the window.
  """

  arrays: CellArrays
  madds: jax.Array
  tries: jax.Array
  met: jax.Array


class Paths:
  """The paths of a space.

  Attributes:
    connections: of the space, without null where nodes choose their inputs.
    shape: (G, N, K).
    adds_up: whether costs add up over connections.
  """

  def __init__(self, connections: connections_lib.Connections,
               place: records.Place):
    """Args:
      connections: of the space.
      place: where its network is searched in.
    """
    self.connections, self._place = connections, place
    space = self.space = connections.space
    self._free = space.inputs is not None
    self._start = self._encode([d.cell for d in connections.decisions])
    groups, nodes, inputs = self.shape = self._start.operation.shape
    sources = nodes + records.NUM_INPUTS if self._free else inputs
    table = (groups, nodes, sources, len(space.candidates))
    # By source or by slot, what may stand there, and what that costs.
    self._allowed, self._madds = np.zeros(table, bool), np.zeros(table)
    self.adds_up = connections.adds_up
    costs, bare = connections.costs if self.adds_up else (None, np.zeros(2))
    self._bare: np.ndarray = bare
    begin = 0
    for group in connections.groups:
      n, k = arrays_lib.slots(group.cell)
      at = np.array([edge.source for edge in group.cell.edges]
                    ) if self._free else k
      self._allowed[group.number, n, at] = connections.kept(group)
      end = begin + group.allowed.size
      if costs is not None:
        self._madds[group.number, n, at] = costs[1, begin:end].reshape(
            group.allowed.shape)
      begin = end
    self._parents = np.zeros((groups, nodes), np.int32)
    for group in connections.groups if not self._free else ():
      for into, parents in zip(group.nodes, group.parents, strict=True):
        target = group.cell.edges[into[0]].target - records.NUM_INPUTS
        self._parents[group.number, target] = parents or 0
    self._exists = np.array([
        np.arange(nodes) < d.cell.num_nodes for d in connections.decisions])

  def draw(self, rng: jax.Array) -> CellArrays:
    """Draws a path, [G, N, K]; may be traced."""
    rng_source, rng_operation = jax.random.split(rng)
    allowed, source = jnp.asarray(self._allowed), self._start.source
    if self._free:
      can = self._allowed.any(-1)  # [G, N, S]
      order = jax.random.uniform(rng_source, can.shape) + can
      source = jnp.sort(lax.top_k(order, self.shape[2])[1], axis=-1)
      allowed = jnp.take_along_axis(allowed, source[..., None], axis=2)
    some = allowed.any(-1)
    if self._parents.any():
      order = jax.random.uniform(rng_source, some.shape) + some
      rank = jnp.argsort(jnp.argsort(-order, axis=-1), axis=-1)
      parents = jnp.asarray(self._parents)[..., None]
      some &= (parents == 0) | (rank < parents)
    null = len(self.space.candidates) - 1
    operation = jnp.where(some, jax.random.categorical(
        rng_operation, jnp.where(allowed, 0.0, -jnp.inf)), null)
    # A slot with nothing to choose reads a node that is there.
    source = jnp.where(some, source, self._start.source)
    concat = jnp.asarray(self._start.concat)
    if self.space.loose_end:
      feeds = jnp.where(some, source, -1).reshape(self.shape[0], -1)
      node = jnp.arange(self.shape[1]) + records.NUM_INPUTS
      concat = ~jnp.any(feeds[:, None] == node[:, None], -1) & self._exists
    return CellArrays(source=source.astype(jnp.int32),
                      operation=operation.astype(jnp.int32), concat=concat)

  @functools.cached_property
  def count(self) -> int | None:
    """How many there are; None where nodes choose among their inputs."""
    if self._free or self._parents.any():
      return None
    return math.prod(map(int, self._choices))

  @property
  def _choices(self):
    """Of every slot [G * N * K] how many candidates it has, at least one."""
    return np.maximum(self._allowed.sum(-1), 1).reshape(-1)

  def numbered(self, numbers: np.ndarray) -> CellArrays:
    """Paths by their numbers.

    A number's digits, each to the base of how many candidates a slot has, say
    which of these stand there; the last slot is the least significant.

    Args:
      numbers: i64[A], from 0 to `count` - 1.

    Returns:
      `CellArrays` [A, G, N, K].
    """
    assert self.count is not None
    operation = np.full((len(numbers), *self.shape),
                        len(self.space.candidates) - 1, np.int32)
    flat, left = operation.reshape(len(numbers), -1), np.asarray(numbers)
    allowed = self._allowed.reshape(flat.shape[1], -1)
    for slot in reversed(range(flat.shape[1])):
      if len(names := np.flatnonzero(allowed[slot])):
        left, digit = np.divmod(left, len(names))
        flat[:, slot] = names[digit]
    every = lambda leaf: jnp.broadcast_to(leaf, (len(numbers), *leaf.shape))
    return CellArrays(
        source=every(self._start.source), operation=jnp.asarray(operation),
        concat=every(self._start.concat))

  def madds(self, arrays: CellArrays) -> jax.Array:
    """f32[], millions of multiply-adds of a path; may be traced."""
    if not self.adds_up:
      return jnp.zeros(())
    at = arrays.source[..., None] if self._free else jnp.arange(
        self.shape[2])[:, None]
    table = jnp.take_along_axis(
        jnp.asarray(self._madds * _UNIT, jnp.float32), jnp.broadcast_to(
            at, (*self.shape, 1)), axis=2)
    cost = jnp.take_along_axis(table, arrays.operation[..., None], -1)
    return jnp.sum(cost) + jnp.float32(self._bare[1] * _UNIT)

  def within(self, rng: jax.Array, low: jax.Array, high: jax.Array,
             tries: int) -> Drawn:
    """Draws until the multiply-adds lie in [low, high), in millions.

    After so many `tries` the last path is taken as it is. May be traced, and
    the window with it.
    """
    def more(carry):
      _, drawn = carry
      return (drawn.met == 0) & (drawn.tries < tries)

    def again(carry):
      rng, drawn = carry
      rng, key = jax.random.split(rng)
      arrays = self.draw(key)
      madds = self.madds(arrays)
      met = (low <= madds) & (madds < high)
      return rng, Drawn(arrays, madds, drawn.tries + 1,
                        met.astype(jnp.float32))

    start = Drawn(jax.tree.map(jnp.asarray, self._start), jnp.zeros(()),
                  jnp.zeros((), jnp.int32), jnp.zeros(()))
    return lax.while_loop(more, again, (rng, start))[1]

  def cost(self, arrays: CellArrays) -> operations.Cost:
    """Of the network that is trained in the end, on the host."""
    return exact.network(
        self.connections.space.written(self.decode(arrays)),
        self.connections.target)

  def encode(self, architecture: records.Architecture) -> CellArrays:
    """An architecture of the space as arrays, on the host."""
    return self._encode([d.cell for d in self.decisions(architecture)])

  def decisions(self, architecture: records.Architecture
                ) -> tuple[records.Decision, ...]:
    """What an architecture decides, where the space's network is searched."""
    return codec.decide(architecture, self._place, self.space.share)

  def _encode(self, cells):
    if not self._free:  # What is fixed is no candidate.
      cells = [cell._replace(edges=tuple(
          edge._replace(operation=operations.NULL) if fixed else edge
          for edge, fixed in zip(cell.edges, d.fixed, strict=True)))
               for cell, d in zip(
                   cells, self.connections.decisions, strict=True)]
    else:  # The edges that are not null, of which a node has K at most.
      cells = [cell._replace(edges=_some(cell)) for cell in cells]
    return arrays_lib.encode(
        cells, self.space.candidates, num_nodes=self.space.num_nodes,
        inputs=self.space.inputs or 1)

  def decode(self, arrays: CellArrays) -> records.Architecture:
    """The architecture of arrays, on the host."""
    decisions = self.connections.decisions
    cells = arrays_lib.decode(
        arrays, self.space.candidates,
        None if self._free else [d.cell for d in decisions])
    found = []
    for cell, decision in zip(cells, decisions, strict=True):
      edges = tuple(edge for edge in cell.edges
                    if edge.operation != operations.NULL
                    ) if self._free else tuple(
          own if fixed else edge for edge, own, fixed in zip(
              cell.edges, decision.cell.edges, decision.fixed, strict=True))
      found.append(cell._replace(edges=edges))
    return codec.respell(self.space.graph, decisions, tuple(found))


def _some(cell):
  """The edges of a cell that are not null; or of every node the first."""
  some = [e for e in cell.edges if e.operation != operations.NULL]
  targets = {e.target for e in some}
  firsts = {e.target: e for e in reversed(cell.edges)
            if e.target not in targets}
  return tuple(sorted([*some, *firsts.values()], key=lambda e: e.target))


def refuse_window(paths: Paths, name: str) -> None:
  """Refuses a window of multiply-adds that cannot be told from connections.

  Raises:
    InputError: costs do not add up; the field is `name`.
  """
  if not paths.adds_up:
    raise errors.InputError(
        f"search space '{paths.space.name}' has costs that do not add up over"
        " its edges at this size, so that no window of them can be sampled;"
        f" leave --{name.replace('_', '-')} out", name)
