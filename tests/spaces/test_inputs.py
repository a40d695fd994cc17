"""How input architectures are drawn."""

import dataclasses
import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.graph import blocks, genotype, records
from natjax.methods import nat
from natjax.spaces import base, inputs
from natjax.spaces import ground as ground_lib
from natjax.zoo import handcrafted
from tests import architectures

FRAME, TARGET = blocks.Frame(10, 8), blocks.Frame(10, 32)
SKELETON = records.Skeleton("cifar", 4, 5, 10, 16)
NAMES = ("max_pool_3x3", "avg_pool_2x2", "conv_3x3", "sep_conv_3x3",
         "skip_connect", "null")
NULL = NAMES.index("null")


def draw(ground, count, *, published=False, seed=0):
  """Drawn arrays, [count, G, N, K], on the host."""
  sample = inputs.sampler(ground, published=published)
  return jax.device_get(jax.jit(jax.vmap(sample))(
      jax.random.split(jax.random.key(seed), count)))


def at(drawn, i):
  return jax.tree.map(lambda a: a[i], drawn)


# Networks whose graph is given.


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "shufflenet"])
def test_sampled_inputs_are_alive_and_cost_no_more(name):
  """Every node of every drawn network carries a signal."""
  network = handcrafted.build(name)
  if name == "shufflenet":
    network = network._replace(blocks=network.blocks[:5])
  else:
    network = blocks.scale(network, 0.5)
  space = spaces.space_for(network, method="natpp")
  ground = ground_lib.Ground(space, FRAME, (TARGET,), scheme="natpp")
  drawn = draw(ground, 64)
  before = ground.cost(ground.decode(ground.encode(space.graph)))
  seen = set()
  for i in range(64):
    found = ground.decode(at(drawn, i))
    after = ground.cost(found)
    assert after.params <= before.params and after.madds <= before.madds
    for block in found.blocks:
      assert len(architectures.alive(block.cell)) == 2 + len(block.nodes)
    seen.add(found)
  assert len(seen) > 32


@pytest.mark.parametrize("published", [False, True])
def test_operations_of_a_given_graph_are_among_what_may_stand_there(published):
  space = spaces.space_for(handcrafted.build("resnet20"), method="natpp")
  ground = ground_lib.Ground(space, FRAME, scheme="natpp", published=published)
  drawn = draw(ground, 512, published=published)
  around = ground.around()
  null = ground.table.null
  for g, decision in enumerate(ground.decisions):
    for e, edge in enumerate(decision.cell.edges):
      row = edge.target - 2, sum(
          other.target == edge.target for other in decision.cell.edges[:e])
      seen = {ground.candidates[o] for o in set(
          drawn.operation[(slice(None), g, *row)].tolist())}
      expected = set(around.names(g, e))
      # No null where nothing else keeps the node alive, or as published where
      # anything else may stand.
      others = [i for i, other in enumerate(decision.cell.edges)
                if other.target == edge.target and i != e]
      if len(expected) > 1 and (published or all(
          around.names(g, i) == ("null",) for i in others)):
        expected -= {"null"}
      assert seen == expected
      # All of them as often.
      start = ground.start.operation[(g, *row)]
      share = (drawn.operation[(slice(None), g, *row)] == start).mean()
      if not published and start != null:
        np.testing.assert_allclose(
            share, 1 / len(expected), atol=0.12)


def test_sources_and_outputs_of_a_given_graph_are_its_own():
  for network in (architectures.PADDED, genotype.unshared(
      architectures.UNEQUAL, SKELETON)):
    ground = ground_lib.Ground(
        spaces.own(network), records.Frame(10, 32), scheme="nat")
    drawn = draw(ground, 8)
    for name in ("source", "concat"):
      assert (drawn[name] == ground.start[name]).all()


# Cells whose sources are free.


def space_of(nodes, *, k=2, loose_end=False):
  return spaces.Space(
      "mine", records.Genotype(*(base.complete(n).normal for n in nodes)),
      NAMES, inputs=k, loose_end=loose_end)


def grounds(nodes, **options):
  return ground_lib.Ground(space_of(nodes, **options), SKELETON, scheme="nat")


@pytest.mark.long
@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("nodes, k", [((4, 4), 2), ((3, 2), 2), ((2, 4), 3),
                                      ((3, 3), 1)])
def test_cells_are_drawn_uniformly_and_carry_signals(nodes, k, published):
  ground = grounds(nodes, k=k)
  count = 2048
  drawn = draw(ground, count, published=published)
  n = max(nodes)
  assert drawn.operation.shape == (count, 2, n, k)
  for g in range(2):
    for row in range(n):
      operation = drawn.operation[:, g, row]
      if row >= nodes[g]:  # The cell has no such node.
        assert (operation == NULL).all()
        assert not drawn.concat[:, g, row].any()
        continue
      assert (operation != NULL).any(-1).all()
      assert drawn.concat[:, g, row].all()
      if published:
        assert (operation != NULL).all()
      share = np.bincount(
          drawn.source[:, g, row].ravel(), minlength=row + 2) / (count * k)
      np.testing.assert_allclose(share, 1 / (row + 2), atol=0.05)
  # At stride 1 a window of two cannot stand, and a skip does in its place.
  share = np.bincount(drawn.operation[:, 0, 0].ravel(), minlength=6) / (
      count * k)
  assert share[1] == 0
  if published:
    np.testing.assert_allclose(
        share, np.array([1, 0, 1, 1, 2, 0]) / 5, atol=0.04)
  strided = drawn.operation[:, 1][drawn.source[:, 1] < 2]
  assert set(strided.tolist()) | {NULL} == set(range(6))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1), loose_end=st.booleans())
def test_what_a_cell_concatenates(seed, loose_end):
  """All nodes, or those of the cell that feed no other; by plain loops."""
  ground = _ground(loose_end)
  drawn = at(draw_many(ground)(jax.random.key(seed)), 0)
  for g, nodes in enumerate((3, 2)):
    source = np.asarray(drawn.source)[g, :nodes]
    for row in range(3):
      feeds = (source == row + 2).any()
      expected = row < nodes and not (loose_end and feeds)
      assert bool(drawn.concat[g, row]) == expected
    assert np.asarray(drawn.concat)[g].any()


@functools.cache
def _ground(loose_end):
  return grounds((3, 2), loose_end=loose_end)


@functools.cache
def draw_many(ground):
  sample = inputs.sampler(ground)
  return jax.jit(lambda key: jax.vmap(sample)(jax.random.split(key, 1)))


# Candidates that differ by edge.


@st.composite
def choices(draw, cell):
  """Of every edge of a cell, some names, maybe null alone."""
  return tuple(
      tuple(name for name in NAMES if name in draw(st.sets(
          st.sampled_from(NAMES), min_size=1))) for _ in cell.edges)


@pytest.mark.long
@settings(max_examples=10, deadline=None)
@given(st.data(), st.booleans())
def test_drawn_operations_stay_in_the_sets_of_their_edges(data, published):
  space = space_of((3, 2))
  space = space._replace(choices=tuple(
      data.draw(choices(cell)) for cell in space.graph))
  ground = ground_lib.Ground(space, SKELETON, scheme="nat")
  drawn = draw(ground, 64, published=published)
  for g, cell in enumerate(space.graph):
    pairs = [edge[1:] for edge in cell.edges]
    for row in range(cell.num_nodes):
      # What can stand on the edges into a node, but for null.
      able = {source: {
          name for name in space.names(g, pairs.index((source, row + 2)))
          if name != "null" and not (
              name == "avg_pool_2x2" and (g == 0 or source > 1))}
              for source in range(row + 2)}
      for operation, source in zip(
          drawn.operation[:, g, row], drawn.source[:, g, row], strict=True):
        for o, s in zip(operation, source, strict=True):
          assert NAMES[o] in able[int(s)] | {"null"}
          if any(able.values()):  # Else the node is null.
            assert able[int(s)]
          if published and able[int(s)]:
            assert NAMES[o] != "null"
          if NAMES[o] == "null" and able[int(s)]:
            assert "null" in space.names(g, pairs.index((int(s), row + 2)))
        assert (operation != NULL).any() == any(able.values())


def test_two_sets_of_candidates_literal():
  """Edges from the inputs convolve, those between nodes pool or copy."""
  space = space_of((2, 2))
  outer, inner = ("conv_3x3", "sep_conv_3x3"), ("max_pool_3x3", "skip_connect")
  space = space._replace(choices=tuple(
      tuple(outer if edge.source < 2 else inner for edge in cell.edges)
      for cell in space.graph))
  drawn = draw(ground_lib.Ground(space, SKELETON, scheme="nat"), 512)
  from_input = drawn.source < 2
  seen = lambda mask: {NAMES[o] for o in set(drawn.operation[mask].tolist())}
  assert seen(from_input) == set(outer) and seen(~from_input) == set(inner)
  assert 0.3 < (~from_input[:, :, 1]).mean() < 0.37  # A third of the sources.


@pytest.mark.parametrize("chosen", [False, True])
def test_one_operation_on_an_edge_where_the_space_allows_one(chosen):
  space = spaces.cells("single", NAMES, num_nodes=3, several=False)
  if chosen:  # Node 0 may be read by no one.
    names = lambda cell: tuple(
        ("null",) if edge.source == 0 else NAMES for edge in cell.edges)
    space = space._replace(choices=tuple(map(names, space.graph)))
  ground = ground_lib.Ground(space, SKELETON, scheme="nat")
  drawn = draw(ground, 400)
  for i in range(400):
    for cell in ground.decode(at(drawn, i)):
      space.check(cell)
      assert set(architectures.alive(cell)) >= {2, 3, 4}
      assert all(e.source < e.target for e in cell.edges)
  seen = drawn.source[:, :, 2][drawn.operation[:, :, 2] != NULL]
  shares = np.bincount(seen, minlength=4) / len(seen)
  expected = np.array([0, 1, 1, 1] if chosen else [1, 1, 1, 1])
  np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.04)


def test_three_inputs_from_three_nodes_are_refused():
  space = spaces.cells("single", NAMES, inputs=3, several=False)
  with pytest.raises(errors.InputError, match="give 2 inputs") as e:
    inputs.sampler(ground_lib.Ground(space, SKELETON, scheme="nat"))
  assert e.value.field == "inputs" and "\n" not in str(e.value)


# Around a given architecture.


def around(ground, architecture, count, seed=0):
  """Drawn arrays [count, G, N, K], and the numbers of edges drawn anew."""
  start = ground.encode(architecture)
  sample = inputs.sampler(ground, given=[start])
  drawn = jax.device_get(jax.jit(jax.vmap(sample))(
      jax.random.split(jax.random.key(seed), count)))
  slots = np.zeros(ground.shape, bool)
  slots[...] = ground.space.inputs is not None
  if not slots.any():
    for slot, _, _ in ground.sites():
      slots[slot] = True
  same = (drawn.source == start.source) & (drawn.operation == start.operation)
  return drawn, (~same & slots).sum((1, 2, 3))


@pytest.mark.parametrize("name", ["nat", "natpp_loose_end"])
def test_around_a_genotype_lie_itself_and_few_and_many_changes(name):
  given = zoo.get("darts")
  space = spaces.get(name)
  ground = ground_lib.Ground(space, SKELETON, scheme="natpp")
  drawn, changed = around(ground, given, 4000)
  assert ground.decode(at(drawn, int(np.argmin(changed)))) == ground.decode(
      ground.encode(given))
  edges = sum(len(cell.edges) for cell in given)
  # Of E edges k are drawn anew with probability 1 / (E + 1); some of them come
  # out as they were.
  assert 0.8 / (edges + 1) < (changed == 0).mean() < 3 / (edges + 1)
  assert (changed == 1).mean() > 1 / (2 * (edges + 1))
  assert changed.max() >= edges - 2 and 0.3 < changed.mean() / edges < 0.55
  for i in range(0, 4000, 50):
    for cell in ground.decode(at(drawn, i)):
      space.check(cell)
      assert set(architectures.alive(cell)) >= {2, 3, 4, 5}
      assert all(e.source < e.target for e in cell.edges)
      if name == "nat":
        assert cell.concat == (2, 3, 4, 5)
      elif cell not in given:
        used = {e.source for e in cell.edges}
        assert set(cell.concat) == {2, 3, 4, 5} - used


def test_around_a_network_of_blocks_the_graph_stays():
  given = spaces.space_for(blocks.scale(
      handcrafted.build("resnet20"), 0.5), method="natpp", share="full")
  ground = ground_lib.Ground(given, FRAME, scheme="natpp")
  start = ground.encode(given.graph)
  drawn, changed = around(ground, given.graph, 1000)
  assert (drawn.source == start.source).all()
  assert (changed == 0).any() and changed.max() > 20
  null = ground.table.null
  for g, decision in enumerate(ground.decisions):
    there = start.operation[g] != null
    for n in range(decision.cell.num_nodes):
      assert not there[n].any() or (drawn.operation[:, g, n] != null).any(
          -1).all()


def test_around_one_where_a_source_is_had_once():
  space = spaces.cells("single", NAMES, num_nodes=3, several=False)
  ground = ground_lib.Ground(space, SKELETON, scheme="nat")
  given = ground.decode(at(draw(ground, 1), 0))
  drawn, changed = around(ground, given, 400)
  assert (changed == 0).any() and changed.max() > 6
  for i in range(400):
    for cell in ground.decode(at(drawn, i)):
      space.check(cell)
      assert set(architectures.alive(cell)) >= {2, 3, 4}


def test_the_method_draws_around_what_it_is_given():
  given = zoo.get("darts")

  def near(**changes):
    method = nat.NAT(
        dataclasses.replace(nat.NATConfig(init_channels=4, cells=3), **changes),
        spaces.space_for(given), num_classes=10, image_size=8, given=given)
    start = method.ground.encode(given)
    drawn = jax.device_get(jax.jit(jax.vmap(method.sample))(
        jax.random.split(jax.random.key(0), 500)))
    return ((drawn.source == start.source)
            & (drawn.operation == start.operation)).mean()

  assert near() > 0.4 and near(focus="given") > 0.4
  for changes in ({"focus": "general"}, {"policy": "published"}):
    assert near(**changes) < 0.2
