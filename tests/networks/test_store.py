"""What a space says of slots, choices and weights, against the oracle."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, codec, records
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from natjax.methods import nat, natpp
from natjax.networks import inherit, store
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib
from natjax.spaces import base
from tests import architectures
from tests.networks import dense as dense_lib
from tests.networks import oracle

Cell, Edge = architecture.Cell, architecture.Edge
CONV, POOL, SKIP, NULL = CANDIDATES = (
    "conv_1x1", "max_pool_3x3", "skip_connect", "null")
# A normal cell and two reduction cells, of 4, 8 and 16 channels.
PLACE = skeleton_lib.Skeleton("cifar", 4, 3, 5, 8)
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
COTANGENT = np.random.default_rng(1).normal(size=(3, 5)).astype("f")

UNEQUAL = base.Space(
    "unequal", architecture.Genotype(base.complete(2).normal,
                                     base.complete(3).reduce),
    CANDIDATES, inputs=3)
SOURCE = spaces.cells("source", CANDIDATES, num_nodes=3, weights="source")
# Per cell type, and per edge in order: 0 and 1 to 2, then 0, 1 and 2 to 3.
CHOICES = (
    ((CONV, POOL, NULL), (POOL, NULL), (CONV, SKIP, NULL), (CONV, NULL),
     (CONV, POOL, NULL)),
    ((CONV, SKIP), (SKIP, NULL), (POOL, NULL), (CONV, POOL),
     (CONV, SKIP, NULL)))
CHOSEN = spaces.cells("choices", CANDIDATES, num_nodes=2, choices=CHOICES)
# Rows of the edges above, per cell type; those of the last edge of a reduction
# cell lie apart. Only what holds weights has any.
ROWS = ({CONV: [0, None, 1, 2, 3]},
        {CONV: [0, None, None, 1, 0], SKIP: [0, 1, None, None, None]})


def source_row(reduction, edge):
  if reduction and edge.source >= 2:
    return "edges1", edge.source - 2
  return "edges0", edge.source


def choice_row(reduction, edge):
  number = edge.source + (2 if edge.target == 3 else 0)
  row = ROWS[int(reduction)].get(edge.operation, [None] * 5)[number]
  return "edges1" if reduction and edge.source == 2 else "edges0", row


CASES = {"unequal": (UNEQUAL, oracle.row), "source": (SOURCE, source_row),
         "choices": (CHOSEN, choice_row)}


def draw(space, seed):
  """A random genotype: K edges into every node, of what may stand there.

  The output of every other lacks node 2.
  """
  rng, found = np.random.default_rng(seed), []
  for kind, graph in enumerate(space.graph):
    pairs, edges = [edge[1:] for edge in graph.edges], []
    for t in range(2, 2 + graph.num_nodes):
      for _ in range(space.inputs):
        f = int(rng.integers(t))
        may = space.names(kind, pairs.index((f, t)))
        edges.append(Edge(str(rng.choice(may)), f, t))
    found.append(Cell(tuple(edges), graph.concat[seed % 2:]))
  return architecture.Genotype(*found)


def twice(space):
  """On one edge an operation twice and, where K is 3, another beside it."""
  return architecture.Genotype(*[Cell(tuple(
      Edge(name, t % 2, t) for t in range(2, 2 + graph.num_nodes)
      for name in (CONV, CONV, POOL)[:space.inputs]), graph.concat)
      for graph in space.graph])


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.fixture(scope="module", params=CASES)
def case(request):
  """Supernet, rows, parameters, and the compiled logits with gradients."""
  space, rows = CASES[request.param]
  net = supernet_lib.Supernet(space, PLACE)
  params = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], 1)

  @jax.jit
  def selected(params, arrays, images):
    def loss(params, images):
      logits = net.apply(params, arrays, images)
      return jnp.sum(COTANGENT * logits), logits

    grads, logits = jax.grad(loss, (0, 1), has_aux=True)(params, images)
    return logits, grads

  return net, rows, params, selected, jax.jit(
      functools.partial(dense_lib.apply, net))


@pytest.mark.long
@pytest.mark.parametrize("seed", [0, 1, "twice"])
def test_both_forms_equal_the_oracle(case, seed):
  net, rows, params, selected, apply_dense = case
  if seed == "twice" and net.space.choices is not None:
    seed = 2  # The same operation may not stand everywhere.
  genotype = twice(net.space) if seed == "twice" else draw(net.space, seed)
  arrays = arrays_lib.encode(genotype, CANDIDATES)
  assert arrays.operation.shape[2] == net.space.inputs
  logits, grads = jax.device_get(selected(params, arrays, IMAGES))
  expected = oracle.supernet(genotype, PLACE, params, IMAGES, rows=rows)
  np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-3)
  oracle.assert_slopes(
      lambda params, images: np.sum(COTANGENT * oracle.supernet(
          genotype, PLACE, params, images, rows=rows)),
      (params, IMAGES), grads)
  weights = dense_lib.weights(net, arrays)
  assert np.sum(weights) == sum(len(cell.edges) for cell in genotype)
  assert seed != "twice" or np.max(weights) == 2
  np.testing.assert_allclose(
      apply_dense(params, weights, jnp.asarray(arrays.concat, jnp.float32),
                  IMAGES), logits, rtol=1e-3, atol=1e-3)


# What stands around the edges: the stem of 12 channels and its BN, and per cell
# the convolutions of both inputs to 4, 8 and 16 channels.
def around(nodes):
  stem = 27 * 12 + 2 * 12
  inputs = (12 * 4 + 12 * 4, 12 * 8 + nodes * 4 * 8,
            nodes * 4 * 16 + nodes * 8 * 16)
  return stem + sum(inputs) + nodes * 16 * 5 + 5


def test_weights_exist_only_for_what_may_stand_on_an_edge():
  """By hand; a skip at stride 2 holds as much as a 1x1 convolution."""
  net = supernet_lib.Supernet(CHOSEN, PLACE)
  params = jax.eval_shape(net.init, jax.random.key(0))["params"]
  edges = 4 * 4**2 + (2 + 2 + 1) * (8**2 + 16**2)
  assert count(params) == around(2) + edges
  first, second, _ = params["blocks"]
  assert {name: set(part) for name, part in first.items()
          if name != "preprocess"} == {"edges0": {CONV}}
  assert set(second["edges0"]) == {CONV, SKIP}
  assert set(second["edges1"]) == {CONV}


def test_weights_per_source_and_operation():
  """By hand: as many as nodes that feed others, whatever they feed."""
  net = supernet_lib.Supernet(SOURCE, PLACE)
  params = jax.eval_shape(net.init, jax.random.key(0))["params"]
  # Of a reduction cell: both inputs, with skips, and two nodes.
  edges = 4 * 4**2 + (2 + 2 + 2) * (8**2 + 16**2)
  assert count(params) == around(3) + edges


ONE_CELL = PLACE._replace(cells=1)  # A reduction cell.


def logits_of(space, genotype):
  """Of one cell: the logits in the selected form, and the weights."""
  net = supernet_lib.Supernet(space, ONE_CELL)
  params = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], 1)
  return jax.jit(net.apply)(
      params, arrays_lib.encode(genotype, CANDIDATES), IMAGES), params


def test_multiply_adds_of_paths_and_of_all_candidates():
  network = blocks.pad(zoo.get("resnet20"))
  space = spaces.own(network, "cell", "nat")
  place, every = records.Frame(10, 32), range(len(network.blocks))
  own = exact.network(network, place).madds
  stem_and_head = 27 * 16 * 32**2 + 64 * 10

  def plan(*others):
    return store.Plan(space._replace(choices=tuple(
        tuple((edge.operation, *others) for edge in decision.cell.edges)
        for decision in space.decide(network, place))), place)

  assert plan().madds() == plan().madds(every) == own
  either = plan("null")
  assert either.madds(every) == own
  assert either.madds() == (own + stem_and_head) / 2
  assert stem_and_head < either.madds(every[:1]) - either.madds() < own


def test_multiply_adds_where_nodes_choose_their_inputs():
  space = spaces.get("darts")
  plan = store.Plan(space, records.Skeleton("cifar", 4, 1, 10, 8))
  # Stem, head, and what stands before the nodes.
  fixed = exact.network(plan.network._replace(blocks=tuple(
      block._replace(edges=block.edges[:plan.network.prefix])
      for block in plan.network.blocks)), records.Frame(10, 8)).madds
  path, dense = plan.madds() - fixed, plan.madds((0,)) - fixed
  # Two inputs of each of four nodes, and one candidate on each, of all.
  among = len(plan.cell(0).edges) * len(space.candidates)
  assert dense > path == pytest.approx(8 / among * dense)


def test_one_slot_per_node():
  space = spaces.cells("one", CANDIDATES, num_nodes=3, inputs=1)
  genotype = draw(space, 0)
  logits, params = logits_of(space, genotype)
  np.testing.assert_allclose(
      logits, oracle.supernet(genotype, ONE_CELL, params, IMAGES), rtol=2e-3,
      atol=2e-3)


def test_a_given_genotypes_own_edges():
  """The graph's edges as they are: two of one pair, and one output of two."""
  graph = Cell((Edge(CONV, 0, 2), Edge(POOL, 0, 2), Edge(SKIP, 1, 2),
                Edge(CONV, 2, 3)), (3,))
  space = spaces.own(architecture.Genotype(graph, graph))._replace(
      candidates=CANDIDATES)
  edges = tuple(edge._replace(operation=name) for edge, name in zip(
      graph.edges, (CONV, SKIP, CONV, POOL), strict=True))
  logits, params = logits_of(
      space, architecture.Genotype(*[graph._replace(edges=edges)] * 2))

  def nodes(i, inputs, run):
    found = oracle.cell(edges, inputs, True, lambda e, *args: run(*args))
    return [*inputs, found[3]]

  # The first three lie together.
  rows = {edge: ("edges0", e) for e, edge in enumerate(edges[:3])}
  np.testing.assert_allclose(logits, oracle.supernet_of(
      ONE_CELL, params, IMAGES, nodes,
      lambda _, edge: rows.get(edge, ("edges1", 0))), rtol=2e-3, atol=2e-3)


def test_images_of_two_sizes_cannot_be_added():
  space = spaces.cells("sizes", ("max_pool_2x2_padded", SKIP, NULL),
                       num_nodes=1, inputs=1)
  with pytest.raises(errors.InputError, match="max_pool_2x2_padded makes"):
    supernet_lib.Supernet(space, PLACE).init(jax.random.key(0))


@pytest.mark.parametrize("side", [9, 16])
@pytest.mark.parametrize("kind", [nat.NAT, natpp.NATpp])
def test_a_null_that_pads_a_window_s_node_adds_nothing(kind, side):
  """The supernet in which NAT transforms it computes what the network does.

  Of 16 pixels the window leaves 9 and 5, anything else 8 and 5.
  """
  network = codec.pad(architectures.PADDED._replace(blocks=tuple(
      block._replace(nodes=tuple(n._replace(fixed=False) for n in block.nodes))
      for block in architectures.PADDED.blocks)))
  assert [e.operation for e in network.blocks[1].cell.incoming(2)] == [
      "max_pool_2x2_padded", "null"]
  method = kind(
      nat.NATConfig(epochs=2), spaces.space_for(network, method=kind.scheme),
      num_classes=5, image_size=side)
  net = dataclasses.replace(method.supernet, norm="running")
  held = oracle.random_weights(jax.eval_shape(net.init, jax.random.key(0)), 1)
  images = np.random.default_rng(0).normal(size=(3, side, side, 3)).astype("f")
  found, _ = jax.jit(lambda held, x: net.run(
      held, net.selected(method.ground.encode(network)), x, train=False))(
          held, images)
  plain = network_lib.module(network, records.Frame(5, side))
  expected, _ = jax.jit(plain.apply)(
      inherit.variables(net, held, network), images)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


def test_a_space_is_checked_before_anything_is_drawn():
  with pytest.raises(errors.InputError, match="weights is 'node'"):
    supernet_lib.Supernet(SOURCE._replace(weights="node"), PLACE).init(
        jax.random.key(0))
