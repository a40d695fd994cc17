"""Tests of `natjax.spaces.connections`."""

import functools
import itertools

import hypothesis
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.costs import budget, exact
from natjax.graph import nasbench201, records
from natjax.spaces import connections
from tests import architectures

Edge = records.Edge
NAMES = ("max_pool_3x3", "skip_connect", "conv_3x3", "null")
# A reduction cell alone; one normal cell between two of those.
ONE, FOUR = (records.Skeleton("cifar", 4, cells, 5, 8) for cells in (1, 4))
SPACE = spaces.cells("mine", NAMES, num_nodes=2)
FRAME = records.Frame(10, 8)


@functools.cache
def nasbench():
  return connections.Connections(
      spaces.SPACES["nasbench201"], FRAME, records.Frame(10, 32))


@functools.cache
def tiny(place=FOUR, **changes):
  return connections.Connections(SPACE._replace(**changes), place)


def strengths(found, seed, *, levels=None):
  """Random ones per group; of few levels many are equal."""
  rng = np.random.default_rng(seed)
  shapes = [group.allowed.shape for group in found.groups]
  return [rng.random(shape).astype("f") if levels is None else
          rng.integers(0, levels, shape).astype("f") for shape in shapes]


def strongest(cell, names, strength, count, *, distinct):
  """The `count` best into every node, as a set of (edge, candidate).

  `names`: per edge what may be kept there.
  """
  kept = set()
  for node in {edge.target for edge in cell.edges}:
    options = [(e, o) for e, edge in enumerate(cell.edges)
               for o, name in enumerate(NAMES)
               if edge.target == node and name in names[e]]
    best = sorted(options, key=lambda at: -strength[at])  # Stable.
    if distinct:
      best = [at for i, at in enumerate(best)
              if at[0] not in {other[0] for other in best[:i]}]
    kept |= set(best[:count])
  return kept


def as_set(mask):
  return set(map(tuple, np.argwhere(mask).tolist()))


# What is kept.


@st.composite
def choices(draw):
  """Of every edge of two cells of two nodes, some names."""
  names = st.lists(st.sampled_from(NAMES), min_size=1, unique=True).map(tuple)
  return draw(st.tuples(*(st.tuples(*[names] * 5) for _ in range(2))))


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(choices(), st.integers(1, 4), st.booleans(), st.booleans(),
                  st.integers(1, 5), st.integers(0, 99))
def test_the_strongest_of_every_node(own, count, distinct, null, levels, seed):
  """Among ties the first; refused where a node has nothing but null."""
  space = SPACE._replace(choices=own, inputs=count)
  names = [[set(edge) - {"null"} for edge in cell] for cell in own]
  if not all(cell[0] | cell[1] and cell[2] | cell[3] | cell[4]
             for cell in names):
    with pytest.raises(errors.InputError, match=r"node [23] of the .* cell"):
      connections.Connections(space, FOUR, null=null)
    return
  found = connections.Connections(space, FOUR, null=null)
  drawn = strengths(found, seed, levels=levels)
  masks = found.strongest(drawn, distinct_edges=distinct)
  for g, mask in enumerate(masks):
    assert as_set(mask) == strongest(
        SPACE.graph[g], names[g], drawn[g], count, distinct=distinct)
    allowed = [[name in edge and (null or name != "null") for name in NAMES]
               for edge in own[g]]
    np.testing.assert_array_equal(found.groups[g].allowed, allowed)


def test_the_strongest_by_hand():
  """The two of node 3 stand on one edge, or on two; null is never kept."""
  reduce = np.zeros((5, 4))
  normal = np.array([[0, 0, 0, 9], [0, 0, 0, 9],  # Nothing but null: ties.
                     [1, 5, 6, 9], [4, 0, 4, 0], [0, 3, 4, 0]])
  found = tiny()
  one, two = (np.array(found.strongest([normal, reduce], distinct_edges=d)[0])
              for d in (False, True))
  # Of six zeros the first two, on edge 0; or the first of edges 0 and 1.
  assert as_set(one) == {(0, 0), (0, 1), (2, 1), (2, 2)}
  assert as_set(two) == {(0, 0), (1, 0), (2, 2), (3, 0)}


@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("name", ["tiny", "s1", "nasbench201"])
def test_the_strongest_are_the_same_under_jit(name, distinct):
  found = {"tiny": tiny, "nasbench201": nasbench, "s1": lambda: (
      connections.Connections(spaces.SPACES["s1"], FOUR))}[name]()
  compiled = jax.jit(lambda p: found.strongest(p, distinct_edges=distinct))
  for seed in range(3):
    drawn = strengths(found, seed, levels=3)
    for ours, theirs in zip(compiled(drawn), found.strongest(
        drawn, distinct_edges=distinct), strict=True):
      np.testing.assert_array_equal(ours, theirs)


def test_choices_that_differ_by_edge():
  """S1: of equal strengths the first that may stand on an edge."""
  space = spaces.SPACES["s1"]
  found = connections.Connections(space, FOUR)
  equal = [np.zeros(group.allowed.shape) for group in found.groups]
  genotype = found.architecture(found.strongest(equal, distinct_edges=True))
  # Skips come first of all names, pools behind the convolutions.
  assert genotype.normal.edges[:6] == (
      Edge("skip_connect", 0, 2), Edge("skip_connect", 1, 2),
      Edge("skip_connect", 0, 3), Edge("skip_connect", 1, 3),
      Edge("skip_connect", 0, 4), Edge("skip_connect", 1, 4))
  assert genotype.reduce.edges[:6] == (
      Edge("max_pool_3x3", 0, 2), Edge("dil_conv_3x3", 1, 2),
      Edge("max_pool_3x3", 0, 3), Edge("max_pool_3x3", 1, 3),
      Edge("max_pool_3x3", 0, 4), Edge("sep_conv_3x3", 1, 4))
  assert [group.allowed.sum(1).tolist() for group in found.groups] == [
      [2] * 14] * 2
  drawn = strengths(found, 0)
  for cell, own in zip(found.architecture(found.strongest(drawn)),
                       space.choices, strict=True):
    pairs = [edge[1:] for edge in space.graph.normal.edges]
    assert len(cell.edges) == 8
    assert all(edge.operation in own[pairs.index(edge[1:])]
               for edge in cell.edges)


def test_every_edge_of_nasbench201_keeps_its_strongest():
  found, = nasbench().groups
  assert found.members == (*range(5), *range(6, 11), *range(12, 17))
  assert found.allowed.all()  # Null stands there whatever is asked for.
  assert connections.Connections(
      nasbench().space, FRAME, null=False).groups[0].allowed.all()
  drawn, = strengths(nasbench(), 1, levels=3)
  drawn[2] = [0, 0, 0, 0, 1]  # Null.
  mask, = nasbench().strongest([drawn])
  best = [row.tolist().index(max(row)) for row in drawn]
  assert as_set(mask) == set(enumerate(best)) and best[2] == 4
  # In the space's order null is the last, and the cell's in the benchmark's.
  names = [("skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3",
            "null")[o] for o in best]
  network, plain = (nasbench().architecture([mask]),
                    zoo.nasbench201.network(names))
  assert network.blocks == plain.blocks
  assert [e.operation for e in network.blocks[5].edges] == [
      "conv_3x3", "avg_pool_2x2", "conv_3x3", "plain_conv_1x1"]


@functools.cache
def open_cells():
  """Of all cells of NAS-Bench-201 candidates per edge, i32[., 6]; no dead ones.
  """
  group, = nasbench().groups
  every = np.array([*itertools.product(range(5), repeat=6)])
  reached = np.zeros((len(every), 5), bool)
  reached[:, 1] = True
  for edge, operation in zip(group.cell.edges, every.T, strict=True):
    reached[:, edge.target] |= reached[:, edge.source] & (operation != 4)
  return every[reached[:, 4]]


@pytest.mark.parametrize("seed", range(8))
def test_the_way_that_loses_least_is_opened(seed):
  found, rng = nasbench(), np.random.default_rng(seed)
  strength = rng.random((6, 5))
  # Null is the strongest on all edges, or on those into the last node.
  strength[seed % 2 * 3:, 4] += 1
  kept = found.strongest([strength])
  mask, = found.connected(kept, [strength])
  total = strength[np.arange(6), open_cells()].sum(1)
  best = open_cells()[total.argmax()]
  assert np.array_equal(mask.argmax(1), best) and (mask.sum(1) == 1).all()
  # It stays as it is, and no budget closes it again.
  assert np.array_equal(found.connected([mask], [strength])[0], mask)
  limits = budget.Budget(params=found.cost([mask]).params - 1)
  try:
    cheaper, = found.within(kept, [strength], limits)
  except errors.NotMet:
    assert found.cost([mask]).params == found.costs[1][0]
  else:
    assert (open_cells() == cheaper.argmax(1)).all(1).any()
    assert found.cost([cheaper]).params <= limits.params


def test_edges_that_keep_nothing_are_opened_too():
  strength = np.zeros((6, 5))
  strength[3, 1] = 0.5  # From the cell's input to its output.
  kept = [np.zeros((6, 5), bool)]
  mask, = nasbench().connected(kept, [strength])
  assert np.argwhere(mask).tolist() == [[3, 1]]
  assert not kept[0].any()


@pytest.mark.parametrize("name", ["darts", "s1", "nasbench1shot1-2"])
def test_where_nodes_have_parents_there_is_always_a_way(name):
  place = FOUR if spaces.SPACES[name].graph.kind == "cells" else FRAME
  found = connections.Connections(spaces.SPACES[name], place)
  kept = found.strongest(strengths(found, 0), distinct_edges=True)
  for mask, same in zip(kept, found.connected(
      kept, strengths(found, 1)), strict=True):
    assert np.array_equal(mask, same)


def test_nothing_is_decided_on_fixed_edges():
  """Of blocks that a window of its own makes smaller: node 3 alone."""
  network = architectures.PADDED
  space = spaces.Space("mine", network, ("conv_1x1", "skip_connect", "null"))
  found = connections.Connections(space, FRAME)
  assert [group.members for group in found.groups] == [(0,), (1, 2)]
  assert found.groups[1].allowed.tolist() == [[False] * 3, [True] * 3,
                                              [True] * 3]
  assert found.groups[1].nodes == ((1, 2),)
  kept = found.strongest([np.eye(3)[:2], np.eye(3)])
  assert [as_set(mask) for mask in kept] == [{(0, 0), (1, 1)}, {(1, 1), (2, 2)}]
  changed = found.architecture(kept)
  assert changed.blocks[0].edges == (
      Edge("conv_1x1", 1, 2), Edge("skip_connect", 1, 2))
  for block in changed.blocks[1:]:
    assert block.edges == (Edge("max_pool_2x2_padded", 1, 2),
                           Edge("skip_connect", 2, 3), Edge("null", 2, 3))
  weights = found.per_decision([np.ones((2, 3)), np.eye(3)])
  assert [w.shape for w in weights] == [(2, 3), (3, 3)]


def test_arrays_per_decision_are_zero_where_nothing_is_decided():
  weights = nasbench().per_decision([np.ones((6, 5))])
  assert [w.tolist() for w in weights] == [[[1.0] * 5] * 6, [[0.0] * 5] * 4]
  # Of one cell, that of the two types which there is.
  found = tiny(ONE)
  assert [group.name for group in found.groups] == ["reduce"]
  assert [w.tolist() for w in found.per_decision([np.ones((5, 4))])] == [
      [[0.0] * 4] * 5, [[1.0] * 4] * 5]


def test_arrays_by_name():
  assert tiny(ONE).named([np.array([[1 / 3, 2]], "f")]) == {
      "reduce": [[0.333333, 2.0]]}


def test_a_space_without_anything_to_decide_is_refused():
  fixed = tuple(block for block in nasbench().space.graph.blocks
                if block.nodes[0].fixed)
  space = nasbench().space
  space = space._replace(graph=space.graph._replace(blocks=fixed))
  with pytest.raises(errors.InputError, match="nothing to decide") as e:
    connections.Connections(space, FRAME)
  assert "\n" not in str(e.value)


# Architectures.


def mask_of(*kept, edges=5):
  mask = np.zeros((edges, len(NAMES)), bool)
  for e, name in kept:
    mask[e, NAMES.index(name)] = True
  return mask


PARALLEL = mask_of((4, "max_pool_3x3"), (0, "skip_connect"), (0, "conv_3x3"),
                   (2, "conv_3x3"))
APART = mask_of((1, "conv_3x3"), (0, "conv_3x3"), (3, "skip_connect"),
                (2, "max_pool_3x3"))


def test_edges_are_ordered_by_target_source_and_candidate():
  genotype = tiny().architecture([PARALLEL, APART])
  assert genotype == records.Genotype(
      architectures.cell(
          ("skip_connect", 0, 2), ("conv_3x3", 0, 2), ("conv_3x3", 0, 3),
          ("max_pool_3x3", 2, 3), concat=(2, 3)),
      architectures.cell(
          ("conv_3x3", 0, 2), ("conv_3x3", 1, 2), ("max_pool_3x3", 0, 3),
          ("skip_connect", 1, 3), concat=(2, 3)))


def test_loose_ends_are_concatenated_alone():
  genotype = tiny(loose_end=True).architecture([PARALLEL, APART])
  assert genotype.normal.concat == (3,)
  assert genotype.reduce.concat == (2, 3)


def test_where_there_is_no_normal_cell_the_other_stands_for_it():
  genotype = tiny(ONE).architecture([PARALLEL])
  assert genotype.normal == genotype.reduce
  assert genotype.normal.edges[1] == Edge("conv_3x3", 0, 2)


# Costs.


def drawn_kept(found, seed):
  """Of every node, or every edge, some connections that may be kept."""
  rng = np.random.default_rng(seed)
  kept = []
  for group in found.groups:
    mask, may = np.zeros(group.allowed.shape, bool), found.kept(group)
    for into in group.nodes:
      for rows in [into] if found.inputs else [(e,) for e in into]:
        options = [(e, o) for e in rows for o in np.flatnonzero(may[e])]
        count = 1 if found.inputs is None else rng.integers(
            1, min(4, len(options)) + 1)
        for i in rng.choice(len(options), count, replace=False):
          mask[options[i]] = True
    kept.append(mask)
  return kept


PLACES = {
    "cells": lambda: tiny(),
    "larger": lambda: connections.Connections(
        SPACE, FOUR, records.Skeleton("imagenet", 6, 5, 7, 64)),
    # Cells of a type that the search did not have.
    "copied": lambda: connections.Connections(SPACE, ONE, FOUR),
    "left out": lambda: connections.Connections(SPACE, FOUR, ONE),
    "loose": lambda: tiny(loose_end=True),
    "s1": lambda: connections.Connections(spaces.SPACES["s1"], FOUR),
    "nasbench201": nasbench,
    "fixed": lambda: connections.Connections(spaces.Space(
        "mine", architectures.PADDED, NAMES), FRAME, records.Frame(3, 16))}


@pytest.mark.parametrize("name", PLACES)
def test_costs_are_those_of_the_architecture(name):
  found = PLACES[name]()
  for seed in range(6):
    kept = drawn_kept(found, seed)
    expected = exact.network(found.architecture(kept), found.target)
    assert found.cost(kept)[:2] == expected[:2]


# Budgets.


@functools.cache
def every():
  """Of all 540 cells of two of the strongest, what they cost.

  Keys are, per node, sets of (edge, candidate).
  """
  found = tiny(ONE)
  nodes = [[frozenset(pair) for pair in itertools.combinations(
      itertools.product(edges, range(3)), 2)] for edges in ((0, 1), (2, 3, 4))]
  table = {}
  for cell in itertools.product(*nodes):
    mask = np.zeros((5, 4), bool)
    for e, o in frozenset.union(*cell):
      mask[e, o] = True
    table[cell] = exact.network(found.architecture([mask]), ONE)[:2]
  return table


def cheaper(cell, strength, limits):
  """The cell that meets the limits by the rule's words; None if stuck."""
  table = every()
  ratio = lambda cost: max([0, *(
      c / m for c, m in zip(cost, limits[:2], strict=True) if m is not None)])
  while (excess := ratio(table[cell])) > 1:
    best = None
    for other, cost in table.items():
      change = [(a - b, b - a) for a, b in zip(cell, other, strict=True)]
      if sum(len(lost) for lost, _ in change) != 1:
        continue
      saved = excess - ratio(cost)
      (lost,), (gained,) = (frozenset.union(*part) for part in zip(
          *change, strict=True))
      if saved > 0:
        loss = (strength[lost] - strength[gained]) / min(saved, excess - 1)
        if best is None or (loss, saved) < best[:2]:
          best = (loss, saved, other)
    if best is None:
      return None
    cell = best[2]
  return cell


LEAST, MOST = ([pick(cost[i] for cost in every().values()) for i in range(2)]
               for pick in (min, max))
SHARES = st.one_of(st.none(), st.floats(-0.1, 1))


@hypothesis.settings(deadline=None, max_examples=40)
@hypothesis.given(SHARES, SHARES, st.integers(0, 99))
def test_what_is_kept_meets_a_budget(params, madds, seed):
  limits = budget.Budget(*(
      None if share is None else low + share * (high - low)
      for share, low, high in zip((params, madds), LEAST, MOST, strict=True)))
  found = tiny(ONE)
  strength, = strengths(found, seed)
  kept, = map(np.array, found.strongest([strength]))
  cell = tuple(frozenset(at for at in as_set(kept) if at[0] in edges)
               for edges in ((0, 1), (2, 3, 4)))
  expected = cheaper(cell, strength.astype(float), limits)
  if not any(limits.allows(cost) for cost in every().values()):
    assert expected is None
  elif None in limits[:2]:  # A cost is a sum over nodes: one is never stuck.
    assert expected is not None
  if expected is None:
    with pytest.raises(errors.NotMet, match="the cheapest that was") as e:
      found.within([kept], [strength], limits)
    assert limits.text() in str(e.value) and "\n" not in str(e.value)
    return
  after, = found.within([kept], [strength], limits)
  assert as_set(after) == frozenset.union(*expected)
  assert limits.allows(exact.network(found.architecture([after]), ONE))
  if limits.allows(found.cost([kept])):
    np.testing.assert_array_equal(after, kept)


def test_the_first_mask_stays_as_it_was():
  found = tiny(ONE)
  strength = strengths(found, 0)
  kept = [np.array(mask) for mask in found.strongest(strength)]
  before = kept[0].copy()
  found.within(kept, strength, budget.Budget(LEAST[0]))
  np.testing.assert_array_equal(kept[0], before)


def test_loose_ends_meet_a_budget():
  """A node that is read by another is no longer concatenated, and cheaper."""
  found = tiny(loose_end=True)
  strength = strengths(found, 2)
  kept = found.strongest(strength)
  limit = 0.6 * found.cost(kept).params
  after = found.within(kept, strength, budget.Budget(limit))
  genotype = found.architecture(after)
  assert exact.network(genotype, FOUR).params <= limit
  assert [len(cell.edges) for cell in genotype] == [4, 4]


def test_edges_of_nasbench201_meet_a_budget():
  found = nasbench()
  conv = np.eye(5)[[2] * 6].astype(bool)
  assert found.cost([conv]).params == 1531546
  strength = np.tile([0.1, 0.2, 0.3, 0.0, 0.05], (6, 1))
  least, = found.within([conv], [strength], budget.Budget(73306))
  assert found.cost([least]).params == 73306
  assert least.sum(1).tolist() == [1] * 6
  assert not least[:, 1:3].any()
  half, = found.within([conv], [strength], budget.Budget(800000))
  table = zoo.nasbench201.costs("cifar10")[0]
  order = ("skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3", "null")
  code = nasbench201.encode(nasbench201.to_array(
      [order[o] for o in half.argmax(1)]))
  assert found.cost([half]).params == table[code] <= 800000
  with pytest.raises(errors.NotMet, match="was found has 73306 parameters"):
    found.within([conv], [strength], budget.Budget(73305))
