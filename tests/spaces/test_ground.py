"""A space at the places of its networks: what may become what, and costs."""

import functools
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, spaces, zoo
from natjax.costs import alone
from natjax.costs import exact as cost
from natjax.graph import blocks, codec, genotype, records
from natjax.policies import sampling
from natjax.spaces import base, inputs, transitions
from natjax.spaces import ground as ground_lib
from natjax.zoo import handcrafted
from tests import architectures

FRAME = blocks.Frame(10, 8)
TARGET = blocks.Frame(10, 32)
SMALL = records.Skeleton("cifar", 4, 5, 10, 16)
LARGE = records.Skeleton("cifar", 6, 8, 10, 32)
CANDIDATES = spaces.SPACES["nat"].candidates


@functools.cache
def ground(name="resnet20", share="cell", method="natpp", *, published=False):
  network = blocks.scale(handcrafted.build(name), 0.5)
  space = spaces.space_for(network, method=method, share=share)
  return ground_lib.Ground(
      space, FRAME, (TARGET,), scheme=method, published=published)


@functools.cache
def of_cells(kind="nat", scheme="nat", *, published=False):
  """Of cells: "unequal" and "own" beside NAT's spaces."""
  if kind == "unequal":
    graph = records.Genotype(
        base.complete(3).normal, base.complete(2).reduce)
    space = spaces.Space("unequal", graph, CANDIDATES, inputs=2)
  elif kind == "own":
    space = spaces.own(architectures.UNEQUAL)
  else:
    space = spaces.get(kind)
  return ground_lib.Ground(
      space, SMALL, (LARGE,), scheme=scheme, published=published)


@functools.cache
def unshared(kind):
  place = records.Skeleton(kind, 4, 3, 10, 64)
  space = spaces.space_for(
      genotype.unshared(architectures.UNEQUAL, place), share="full")
  return ground_lib.Ground(
      space, records.Frame(10, 64), (records.Frame(10, 72),), scheme="nat")


GROUNDS = {
    "resnet20": ground, "resnet20 in full": lambda: ground(share="full"),
    "mobilenetv2": lambda: ground("mobilenetv2", "cell", "nat"),
    "vgg16": lambda: ground("vgg16"), "nat": of_cells,
    "natpp": lambda: of_cells("natpp", "natpp"),
    "loose end": lambda: of_cells("nat_loose_end"),
    "unequal": lambda: of_cells("unequal"),
    "unequal by natpp": lambda: of_cells("unequal", "natpp"),
    "own": lambda: of_cells("own"),
    "unshared": lambda: unshared("cifar"),
    "unshared for ImageNet": lambda: unshared("imagenet"),
}


def outcomes(g, rows, operation):
  """Names of what an operation may become on an edge."""
  o = g.candidates.index(operation)
  return {g.candidates[i] for i in g.table.outcome[o][g.table.valid[rows, o]]}


# Transitions.


def test_what_may_stand_on_the_edges_of_resnet20():
  g = ground()
  assert g.shape == (2, 2, 2)
  plain, strided = g.around().choices
  # First node: a 3x3 convolution and the null edge that pads it.
  assert set(plain[0]) == {
      "conv_3x3", "sep_conv_3x3", "dil_conv_3x3", "conv_1x1", "max_pool_3x3",
      "avg_pool_3x3", "skip_connect", "null"}
  # From a node of the same shape, so that a skip costs nothing.
  assert set(plain[1]) == {"null", "skip_connect"}
  # The strided block's pad is a projection: null may not become it.
  assert set(strided[1]) == {"null"}
  # A projection costs more than null, and as much as nothing else.
  assert set(strided[3]) == {"null", "skip_connect"}


def test_fixed_nodes_keep_what_they_have():
  g = ground("lresnet34e-ir")
  for choices in g.around().choices:
    assert set(choices[0]) == {"skip_connect"}


@pytest.mark.parametrize("scheme", transitions.SCHEMES)
def test_edges_of_cells_are_told_apart_by_their_stride(scheme):
  g = of_cells("nat", scheme)
  assert g.shape == (2, 4, 2)
  arrays = g.encode(zoo.get("darts"))
  rows = np.asarray(g.rows(arrays))
  assert (rows[0] == rows[0, 0, 0]).all()
  # The edges of the reduction cell that come from its inputs.
  np.testing.assert_array_equal(
      rows[1] != rows[0, 0, 0], np.asarray(arrays.source)[1] < 2)
  rule = transitions.SCHEMES[scheme](CANDIDATES)
  assert g.table.actions == rule.actions
  if scheme == "nat":
    one, two = rows[0, 0, 0], rows[1, 0, 0]
    assert outcomes(g, one, "max_pool_3x3") == {
        "max_pool_3x3", "skip_connect", "null"}
    # A strided skip holds weights.
    assert outcomes(g, two, "max_pool_3x3") == {"max_pool_3x3", "null"}
    assert outcomes(g, two, "null") == {"null"}


def test_what_costs_more_at_one_of_several_places_is_not_valid():
  """A copy in the narrow network is a projection in the one trained at last."""
  block = blocks.Block((blocks.Node(16), blocks.Node(8)), (
      blocks.Edge("conv_3x3", 1, 2), blocks.Edge("conv_3x3", 2, 3),
      blocks.Edge("null", 2, 3)))
  network = blocks.BlockNetwork(
      "n", (blocks.Layer("conv", 8, 3),), (block,))
  g = ground_lib.Ground(spaces.space_for(network), FRAME, scheme="nat",
                        width=0.5)
  assert [n.width for n in g.network.blocks[0].nodes] == [8, 8]
  assert g.around().choices[0][3] == ("null",)
  narrow = g.space._replace(graph=g.network)
  g = ground_lib.Ground(narrow, FRAME, scheme="nat")
  assert g.around().choices[0][3] == ("skip_connect", "null")


@pytest.mark.parametrize("scheme", transitions.SCHEMES)
def test_published_tables_guard_nothing(scheme):
  g = of_cells("nat", scheme, published=True)
  rule = transitions.SCHEMES[scheme](CANDIDATES)
  assert (g.table.valid[1:] == rule.allowed).all()
  assert not g.table.connectivity and g.table.smoothing == 0
  smoothed = ground_lib.Ground(spaces.get("nat"), SMALL, scheme="nat",
                               published=True, smoothing=1e-5)
  assert smoothed.table.smoothing == 1e-5
  guarded = ground_lib.Ground(spaces.get("nat"), SMALL, scheme="nat",
                              smoothing=1e-5)
  assert guarded.table.connectivity and guarded.table.smoothing == 0


def test_published_does_violate():
  """A strided null may become a projection, and a node may die."""
  g = ground("resnet20", "cell", "natpp", published=True)
  start = g.start
  null, skip = (g.candidates.index(n) for n in ("null", "skip_connect"))
  valid = g.table.valid[g.rows(start), start.operation]
  assert valid[..., null].all()  # So nothing forbids nulls everywhere.
  pads = start.operation == null
  assert valid[pads][:, skip].all()
  alpha = start.replace(operation=np.where(pads, skip, start.operation))
  before, after = g.cost(g.space.graph), g.cost(g.decode(alpha))
  assert after.params > before.params and after.madds > before.madds
  guarded = ground().table.valid[ground().rows(start), start.operation]
  assert not guarded[1, 0, 1, skip]


# Encoding.


@pytest.mark.parametrize("share", ["cell", "full"])
def test_encoding_round_trip(share):
  g = ground("mobilenetv2", share)
  network = blocks.pad(blocks.scale(handcrafted.build("mobilenetv2"), 0.5))
  assert g.decode(g.encode(network), network) == network
  drawn = jax.device_get(jax.jit(inputs.sampler(g))(jax.random.key(0)))
  decoded = g.decode(drawn)
  again = g.encode(decoded)
  np.testing.assert_array_equal(again.operation, drawn.operation)
  np.testing.assert_array_equal(again.source, drawn.source)
  assert blocks.check(decoded) == decoded


@pytest.mark.parametrize("name", [n for n in zoo.genotype_names()
                                  if "naonet" not in n])
def test_published_genotypes_round_trip(name):
  architecture = zoo.get(name)
  space = spaces.space_for(architecture)
  g = ground_lib.Ground(space, SMALL, scheme="nat")
  assert g.decode(g.encode(architecture), architecture) == architecture


def test_unequal_cells_round_trip():
  """K is 3 by the data, in a space for them and in their own."""
  for space in (spaces.space_for(architectures.UNEQUAL),
                spaces.own(architectures.UNEQUAL)):
    g = ground_lib.Ground(space, SMALL, (LARGE,), scheme="nat")
    assert g.shape == (2, 3, 3)
    arrays = g.encode(architectures.UNEQUAL)
    assert arrays.operation.shape == (2, 3, 3)
    assert g.decode(arrays, architectures.UNEQUAL) == architectures.UNEQUAL
    # Nodes and slots that are not there keep null.
    rows, null = np.asarray(g.rows(arrays)), g.table.null
    assert (arrays.operation[1, 2] == null).all()
    assert outcomes(g, rows[1, 2, 0], "null") <= {"null", "skip_connect"}
  assert g.start.operation.tolist() == arrays.operation.tolist()


def test_what_is_drawn_has_the_nodes_of_the_spaces_cells():
  g = of_cells("unequal")
  assert g.shape == (2, 3, 2)
  drawn = jax.device_get(jax.jit(inputs.sampler(g))(jax.random.key(0)))
  found = g.decode(drawn)
  assert [cell.num_nodes for cell in found] == [3, 2]
  assert genotype.check(found) == found
  again = g.encode(found)
  for name in ("operation", "concat"):
    np.testing.assert_array_equal(again[name], drawn[name])


def test_architectures_outside_the_space_are_refused_in_one_line():
  with pytest.raises(errors.InputError, match="3 inputs") as e:
    of_cells().encode(architectures.UNEQUAL)
  assert "\n" not in str(e.value)
  with pytest.raises(errors.InputError, match="'avg_pool_5x5'") as e:
    of_cells("nat_loose_end").encode(zoo.get("naonet"))
  assert "\n" not in str(e.value)


# No transformation of anything that is drawn breaks a guard.


def draw_transformed(g, seed):
  """An input and a transformation by a random policy, on the host."""
  beta, alpha = jax.device_get(_transform(g)(jax.random.key(seed)))
  return beta, alpha


@functools.cache
def _transform(g):
  sample = inputs.sampler(g)

  def run(key):
    k1, k2, k3 = jax.random.split(key, 3)
    beta = sample(k1)
    logits = 3 * jax.random.normal(
        k2, (*g.shape, len(g.table.actions)))
    actions = jax.vmap(lambda cell, rows, k, row: sampling.sample(
        k, row, cell, rows, g.table))(
            beta, g.rows(beta), jax.random.split(k3, g.shape[0]), logits)
    return beta, sampling.apply_actions(beta, actions, g.table)
  return jax.jit(run)


def cells_of(g, architecture):
  return [d.cell for d in codec.decide(architecture, g.place, g.space.share)]


@pytest.mark.long
@pytest.mark.parametrize("name", GROUNDS)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_no_transformation_costs_more_or_cuts_an_output_off(name, seed):
  g = GROUNDS[name]()
  before, after = map(g.decode, draw_transformed(g, seed))
  for place in (g.place, g.target):
    old, new = (cost.network(n, place) for n in (before, after))
    assert new.params <= old.params and new.madds <= old.madds
  for old, new in zip(cells_of(g, before), cells_of(g, after), strict=True):
    alive = architectures.alive(old) & set(old.concat)
    assert alive <= architectures.alive(new)
    assert [edge[1:] for edge in old.edges] == [edge[1:] for edge in new.edges]
    assert old.concat == new.concat
  assert codec.check(after) == after


# Nodes of one input and of three, two of them on one edge; of the first the
# output sees nothing but by the second.
ONE_AND_THREE = records.Genotype(*[architectures.cell(
    ("conv_3x3", 0, 2), ("sep_conv_3x3", 2, 3), ("max_pool_3x3", 2, 3),
    ("max_pool_3x3", 0, 3), concat=(3,))] * 2)


@pytest.mark.parametrize("scheme", transitions.SCHEMES)
def test_every_transformation_of_a_cell_with_three_inputs(scheme):
  """Brute force: what may be drawn is all that keeps to the guards.

  Those that keep to them edge by edge, the later ones being kept.
  """
  names = ("max_pool_3x3", "conv_3x3", "sep_conv_3x3", "skip_connect", "null")
  given = ONE_AND_THREE
  g = ground_lib.Ground(
      spaces.cells("three", names, num_nodes=2, inputs=3, scheme=scheme),
      SMALL, (LARGE,), scheme=scheme)
  beta = g.encode(given)
  every = np.array(list(itertools.product(
      range(len(g.table.actions)), repeat=4)), np.int32)
  # Two slots of the first node have no edge, and keep what they have.
  stays = np.flatnonzero(transitions.keeping(
      transitions.SCHEMES[scheme](names))[g.table.null])[0]
  actions = np.full((len(every), 2, 3), stays, np.int32)
  actions[:, 0, 0], actions[:, 1] = every[:, 0], every[:, 1:]
  places = (g.place, g.target)
  before = [cost.network(given, place) for place in places]

  def with_names(cell, operation_names):
    return given[cell]._replace(edges=tuple(
        edge._replace(operation=name) for edge, name in zip(
            given[cell].edges, operation_names, strict=True)))

  @functools.cache
  def costs_no_more(cell, e, name):
    """On its edge alone: what another saves makes up for nothing."""
    new = with_names(cell, [*own[:e], name, *own[e + 1:]])
    cells = [new if i == cell else given[i] for i in range(2)]
    after = [cost.network(records.Genotype(*cells), p) for p in places]
    return all(a.params <= b.params and a.madds <= b.madds
               for a, b in zip(after, before, strict=True))

  own = [edge.operation for edge in given.normal.edges]
  now = [names.index(name) for name in own]
  log_prob = jax.jit(lambda cell, rows, each: jax.vmap(
      lambda a: sampling.log_prob(jnp.zeros((*a.shape, len(g.table.actions))),
                                  cell, rows, a, g.table))(each))
  for cell in range(2):
    of = jax.tree.map(lambda a, cell=cell: a[cell], beta)
    rows = g.rows(beta)[cell]
    finite = np.isfinite(log_prob(of, rows, actions))
    possible = 0
    for action, found in zip(every, finite, strict=True):
      after = [names[g.table.outcome[o, a]]
               for o, a in zip(now, action, strict=True)]
      expected = all(
          costs_no_more(cell, e, name) for e, name in enumerate(after)) and all(
              3 in architectures.alive(with_names(
                  cell, [*after[:i], *own[i:]])) for i in range(1, 5))
      if expected and scheme == "natpp":  # By types and kernels, too.
        expected = all(transitions.two_level_rule(*map(operations.get, pair))
                       for pair in zip(own, after, strict=True))
      assert found == expected, (after, cell)
      possible += found
    assert 8 < possible < len(every)
    # Nothing comes to stand where there is no edge.
    others = np.array(actions[finite][:1]).repeat(2, 0)
    others[0, 0, 1], others[1, 0, 2] = (stays + 1) % len(g.table.actions), 0
    changed = (g.table.outcome[g.table.null][others[:, 0, 1:]]
               != g.table.null).any(-1)
    assert changed.any()
    assert not np.isfinite(log_prob(of, rows, others))[changed].any()


# Costs.


@pytest.mark.parametrize("name", [
    "resnet20", "resnet20 in full", "own", "unshared",
    "unshared for ImageNet"])
def test_edge_costs_are_what_a_replaced_operation_changes(name):
  """Of every candidate on every edge, in the network trained at the end."""
  g = GROUNDS[name]()
  check_edge_costs(g, g.space.graph)


@pytest.mark.parametrize("architecture", [
    zoo.get("darts"), zoo.get("enas"), architectures.UNEQUAL,
    architectures.MANY], ids=["darts", "enas", "unequal", "many"])
def test_edge_costs_of_genotypes(architecture):
  space = spaces.space_for(architecture)
  check_edge_costs(
      ground_lib.Ground(space, SMALL, (LARGE,), scheme="nat"), architecture)


def check_edge_costs(g, architecture):
  costs, before = g.edge_costs(architecture), g.cost(architecture)
  assert costs.shape == (2, *g.shape, len(g.candidates))
  decisions = codec.decide(architecture, g.place, g.space.share)
  cells = [d.cell for d in decisions]
  checked = 0
  for d, cell in enumerate(cells):
    slots = dict.fromkeys(range(2, 2 + cell.num_nodes), 0)
    for e, edge in enumerate(cell.edges):
      at = costs[:, d, edge.target - 2, slots[edge.target]]
      slots[edge.target] += 1
      now = at[:, g.candidates.index(edge.operation)]
      for o, name in enumerate(g.candidates[::3]):
        edges = list(cell.edges)
        edges[e] = edge._replace(operation=name)
        other = codec.respell(architecture, decisions, tuple(
            cell._replace(edges=tuple(edges)) if i == d else c
            for i, c in enumerate(cells)))
        try:
          after = cost.network(codec.check(other), g.target)
        except errors.InputError:
          assert (at[:, 3 * o] == np.inf).all()
          continue
        np.testing.assert_array_equal(
            at[:, 3 * o] - now, (after.params - before.params,
                                 after.madds - before.madds))
        checked += 1
  assert checked > 20


# Windows that leave images of a side of their own.


@pytest.mark.parametrize("published", [False, True])
@pytest.mark.parametrize("fixed", [False, True])
def test_nothing_takes_the_place_of_a_padded_window(fixed, published):
  """Any other operation would leave a pixel less."""
  network = architectures.PADDED._replace(blocks=tuple(
      block._replace(nodes=tuple(
          node._replace(fixed=fixed and node.fixed) for node in block.nodes))
      for block in architectures.PADDED.blocks))
  g = ground_lib.Ground(
      spaces.space_for(network, method="natpp"), records.Frame(10, 33),
      (TARGET,), scheme="natpp", published=published)
  choices = g.around().choices[1]
  assert choices[0] == ("max_pool_2x2_padded",)
  if not fixed:
    assert choices[1] == ("null",)  # What pads the node.
  sample = jax.jit(jax.vmap(inputs.sampler(g, published=published)))
  drawn = jax.device_get(sample(jax.random.split(jax.random.key(0), 32)))
  window = g.candidates.index("max_pool_2x2_padded")
  assert (drawn.operation[:, 1, 0, 0] == window).all()
  for i in range(32):
    found = g.decode(jax.tree.map(lambda a, i=i: a[i], drawn))
    assert blocks.check(found) == found
  # It costs what it costs; nothing else could stand there.
  costs = g.edge_costs(g.space.graph)
  assert np.isfinite(costs[:, 1, 0, 0, window]).all()


# Candidates that differ by edge.


def test_transitions_stay_within_an_edges_own_candidates():
  block = blocks.Block((blocks.Node(8),), (
      blocks.Edge("conv_3x3", 1, 2), blocks.Edge("conv_3x3", 1, 2)))
  network = blocks.BlockNetwork(
      "n", (blocks.Layer("conv", 8, 3),), (block,))
  space = spaces.space_for(network, method="natpp")
  space = space._replace(choices=((
      ("conv_3x3", "skip_connect"), ("conv_3x3", "sep_conv_3x3", "null")),))
  g = ground_lib.Ground(space, FRAME, (TARGET,), scheme="natpp")
  rows = np.asarray(g.rows(g.start))
  assert outcomes(g, rows[0, 0, 0], "conv_3x3") == {"conv_3x3", "skip_connect"}
  assert outcomes(g, rows[0, 0, 1], "conv_3x3") == {
      "conv_3x3", "sep_conv_3x3", "null"}
  assert g.around().choices == ((
      ("skip_connect", "conv_3x3"), ("sep_conv_3x3", "conv_3x3", "null")),)


def test_where_sources_are_free_an_edge_keeps_to_its_own_candidates_too():
  names = ("max_pool_3x3", "conv_3x3", "skip_connect", "null")
  first, second = ("conv_3x3", "skip_connect"), ("max_pool_3x3", "null")
  space = spaces.cells("s2", names, num_nodes=2)
  cell = space.graph.normal
  space = space._replace(choices=(
      tuple(first if edge.source == 0 else second for edge in cell.edges),) * 2)
  g = ground_lib.Ground(space, SMALL, (LARGE,), scheme="nat")
  architecture = genotype.Genotype(*(architectures.cell(
      ("conv_3x3", 0, 2), ("max_pool_3x3", 1, 2), ("conv_3x3", 0, 3),
      ("max_pool_3x3", 2, 3), concat=(2, 3)),) * 2)
  rows = np.asarray(g.rows(g.encode(architecture)))
  for cell_rows in rows:
    for node in range(2):
      assert outcomes(g, cell_rows[node, 0], "conv_3x3") == {*first}
      assert outcomes(g, cell_rows[node, 1], "max_pool_3x3") == {*second}


def test_what_a_change_made_alike_is_decided_on_apart():
  """On ProxylessNAS's chains a change can leave two topologies equal."""
  space = spaces.own(zoo.get("proxyless-gpu"))
  held = ground_lib.Ground(space, FRAME, scheme="natpp")
  every = [alone.made(space.graph, alone.Change(d.members, e, name))
           for d in held.decisions for e, edge in enumerate(d.cell.edges)
           for name in ("depthwise_conv_3x3", "depthwise_conv_5x5")
           if edge.operation.startswith("depthwise")]
  merged = [a for a in every
            if len(codec.decide(a, FRAME)) < len(held.decisions)]
  assert merged
  for changed in merged:
    found = held.encode(changed)
    assert found.operation.shape == held.start.operation.shape
    assert held.decode(found, changed) == changed
    assert [d.members for d in space.decide(changed, FRAME)] == [
        d.members for d in held.decisions]
