"""A space's architectures as choices at places, for what searches among them.

An architecture is genes i32[P], a choice at each place. Where a space takes its
graph's edges as they are, every edge that is decided on is a place, and its
candidates are the choices. Where nodes choose their inputs, or have a number of
parents, a node has a place for the edges that it keeps, so many different ones,
and a place for the operation on each of them.
"""

from collections.abc import Callable, Sequence
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.spaces import connections as connections_lib

# `genes i32[B, P] -> bool[B]`, traced: which of them keep to a constraint.
Legal = Callable[[jax.Array], jax.Array]
_DIGIT = 2**20  # Two digits of this base hold sums that 32 bits do not.


class Places:
  """The places of a space.

  Attributes:
    connections: the space's.
    counts: of every place, how many choices it has.
  """

  def __init__(self, connections: connections_lib.Connections):
    """Args:
      connections: the space's, without null where nodes choose their inputs.
    """
    self.connections = connections
    self.counts: tuple[int, ...] = ()
    self._slots: list[tuple[int, int]] = []  # Places of edges and operation.
    tables, offset = [], 0
    self._offsets = []  # Of every group's connections.
    spots: list[tuple[int, int, int]] = []  # Of every slot of `arrays`.
    for group in connections.groups:
      self._offsets.append(offset)
      may = connections.kept(group)
      number = offset + np.arange(may.size).reshape(may.shape)
      offset += may.size
      for into, parents in zip(group.nodes, group.parents, strict=True):
        edges = [e for e in into if may[e].any()]
        nodes = [[e] for e in edges] if parents is None else [edges]
        for some in nodes:
          kept = min(parents or 1, len(some))
          tables += self._node(list(itertools.combinations(some, kept)), may,
                               number)
          target = group.cell.edges[some[0]].target - records.NUM_INPUTS
          spots += [(group.number, target, k) for k in range(kept)]
    self._size, self._spots = offset, np.array(spots)
    shape = np.max([t.shape for t in tables], axis=0)
    self._table = np.full((len(tables), *shape), -1, np.int32)
    for row, table in zip(self._table, tables, strict=True):
      row[:table.shape[0], :table.shape[1]] = table

  def _node(self, ways, may, number):
    """Adds the places of a node that keeps its edges in one of some ways.

    Returns:
      Per slot the connections' numbers, i32[ways, choices], -1 where it has
      fewer.
    """
    first, most = len(self.counts), max(
        int(may[e].sum()) for way in ways for e in way)
    several = len(ways) > 1
    self.counts += (len(ways),) * several + (most,) * len(ways[0])
    found = []
    for k in range(len(ways[0])):
      self._slots.append((first if several else -1, first + several + k))
      table = np.full((len(ways), most), -1, np.int32)
      for row, way in zip(table, ways, strict=True):
        those = number[way[k]][may[way[k]]]
        row[:len(those)] = those
      found.append(table)
    return found

  def stands(self, genes: jax.Array) -> jax.Array:
    """What stands in every slot: connections' numbers i32[B, S]; traced.

    They count the groups' arrays [E, O] one after the other; -1 is none.

    Args:
      genes: i32[B, P].
    """
    ways, operations = np.array(self._slots).T
    way = jnp.where(ways < 0, 0, genes[:, ways])
    return jnp.asarray(self._table)[
        np.arange(len(ways)), way, genes[:, operations]]

  def arrays(self, genes: jax.Array,
             like: arrays_lib.CellArrays) -> arrays_lib.CellArrays:
    """The architectures of genes, `CellArrays` [B, G, N, K]; traced.

    Args:
      genes: i32[B, P], legal.
      like: of any architecture of the space, [G, N, K]: what is not decided.
    """
    stands, space = self.stands(genes), self.connections.space
    edges, numbers = [], []  # Of every connection.
    for group in self.connections.groups:
      slot = arrays_lib.slots(group.cell)[1]
      at = np.repeat(np.arange(len(slot)), group.allowed.shape[1])
      edges += [(group.cell.edges[e].source, slot[e]) for e in at]
      numbers += [*range(group.allowed.shape[1])] * len(slot)
    source, slot = np.array(edges, np.int32).T
    g, n, k = self._spots.T
    if self.connections.inputs is None:
      k = jnp.asarray(slot)[stands]
    every = lambda leaf: jnp.broadcast_to(leaf, (len(genes), *leaf.shape))
    spots = np.arange(len(genes))[:, None], g, n, k
    sources = every(jnp.asarray(like.source)).at[spots].set(
        jnp.asarray(source)[stands])
    concat = every(jnp.asarray(like.concat))
    if space.loose_end:
      feeds = sources.reshape(*sources.shape[:2], 1, -1)
      node = jnp.arange(concat.shape[-1])[:, None] + records.NUM_INPUTS
      there = np.array([np.arange(concat.shape[-1]) < d.cell.num_nodes
                        for d in self.connections.decisions])
      concat = ~jnp.any(feeds == node, -1) & there
    null = jnp.full(sources.shape, self.connections.null, jnp.int32)
    return arrays_lib.CellArrays(
        source=sources, concat=concat, operation=null.at[spots].set(
            jnp.asarray(numbers, jnp.int32)[stands]))

  def legal(self, limits: budget_lib.Budget) -> Legal:
    """Which genes are an architecture's, and keep to a budget.

    Raises:
      InputError: a budget in a space whose costs do not add up.
    """
    if limits and not self.connections.adds_up:
      loose = self.connections.space.loose_end
      raise errors.InputError(
          f"search space '{self.connections.space.name}' " + (
              "concatenates what feeds no other node" if loose else
              "lacks at this size a kind of cell that the trained network has")
          + ", so that costs do not add up over connections; leave max-params"
          " and max-madds out, or " + (
              "choose another space" if loose else "give more cells"),
          "space" if loose else "cells")
    keeps = None if not limits else within(
        self.stands, *self.connections.costs, limits[:2])

    def legal(genes):
      good = jnp.all(self.stands(genes) >= 0, axis=-1)
      return good if keeps is None else good & keeps(genes)

    return legal

  def cheapest(self, limits: budget_lib.Budget) -> np.ndarray:
    """The genes i32[P] of what costs least, where costs add up.

    Args:
      limits: what is limited counts, in parts of its limit; of several kinds
        their sum.
    """
    price = sum(cost / limit for cost, limit in zip(
        self.connections.costs[0], limits[:2], strict=True)
        if limit is not None)
    table = np.where(self._table < 0, np.inf, np.asarray(price)[self._table])
    choice, least = table.argmin(-1), table.min(-1)  # [slots, ways].
    genes = np.zeros(len(self.counts), np.int32)
    for way in {way for way, _ in self._slots}:
      slots = [k for k, slot in enumerate(self._slots) if slot[0] == way]
      best = np.zeros(len(slots), int)
      if way >= 0:
        best[:] = genes[way] = least[slots].sum(0).argmin()
      for k, row in zip(slots, best, strict=True):
        genes[self._slots[k][1]] = choice[k, row]
    return genes

  def cost(self, genes: np.ndarray) -> operations.Cost:
    """What the architecture of genes i32[P] costs, where costs add up."""
    costs, bare = self.connections.costs
    stands = np.asarray(self.stands(jnp.asarray(genes)[None]))[0]
    return operations.Cost(*map(int, bare + costs[:, stands].sum(1)))

  def architecture(self, genes: np.ndarray) -> records.Architecture:
    """The architecture of genes i32[P], on the host."""
    stands = np.asarray(self.stands(jnp.asarray(genes)[None]))[0]
    flat = np.zeros(self._size, bool)
    flat[stands] = True
    groups = self.connections.groups
    return self.connections.architecture([
        flat[begin:begin + group.allowed.size].reshape(group.allowed.shape)
        for begin, group in zip(self._offsets, groups, strict=True)])


def within(stands: Callable[[jax.Array], jax.Array], costs: np.ndarray,
           bare: Any, limits: Sequence[float | None]) -> Legal:
  """The constraint that what adds up keeps to a budget.

  Computed in whole numbers, without an error of rounding.

  Args:
    stands: `genes i32[B, P] -> i32[B, S]`, traced, numbers of what stands
      there; a negative one costs nothing.
    costs: f64[R, M], what each costs, in whole numbers from 0 on: parameters,
      multiply-adds, nanoseconds.
    bare: of what stands in every architecture, R numbers.
    limits: of each of the R kinds of cost the most; None is without limit.

  Example:
    >>> keeps = within(lambda genes: genes, np.array([[1, 3], [0, 0]]), (2, 0),
    ...                (6, None))
    >>> keeps(jnp.array([[0, 1], [1, 1]])).tolist()
    [True, False]
  """
  kept = [(np.asarray(each, np.int64), math.floor(limit) - int(base))
          for each, base, limit in zip(costs, bare, limits, strict=True)
          if limit is not None]

  def legal(genes):
    there, good = stands(genes), jnp.ones(len(genes), bool)
    for each, limit in kept:
      low, high = (jnp.where(there >= 0, jnp.asarray(
          digit.astype(np.int32))[there], 0).sum(-1) for digit in (
              each % _DIGIT, each // _DIGIT))
      high, low = high + low // _DIGIT, low % _DIGIT
      most, rest = divmod(limit, _DIGIT)
      good &= (high < most) | ((high == most) & (low <= rest))
    return good

  return legal
