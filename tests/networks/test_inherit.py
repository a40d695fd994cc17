"""The network as data against `networks.network`, with the same weights.

A supernet with weights per slot and running BN, and its `inherit.variables`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from natjax import spaces, zoo
from natjax.costs import exact as cost
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, records, skeleton
from natjax.graph import genotype as architecture
from natjax.networks import inherit, network, supernet
from natjax.spaces import base
from tests import counting

PLACE = skeleton.Skeleton("cifar", 4, 3, 10, 8)
Edge, Cell = architecture.Edge, architecture.Cell

# One source twice, an unused node, null, both strides of skip and pooling.
SMALL = architecture.Genotype(
    Cell((Edge("conv_3x3", 1, 2), Edge("conv_3x3", 1, 2),
          Edge("sep_conv_3x3", 2, 3), Edge("null", 0, 3)), (3, 2)),
    Cell((Edge("skip_connect", 0, 2), Edge("dil_conv_5x5", 1, 2),
          Edge("skip_connect", 2, 3), Edge("max_pool_3x3", 1, 3)), (3,)))
SMALL_SPACE = spaces.get("natpp")._replace(
    graph=base.complete(2), candidates=(
        "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_5x5",
        "conv_3x3", "null"))


def make(space=SMALL_SPACE, place=PLACE):
  return supernet.Supernet(
      space._replace(weights="slot"), place, norm="running")


def encode(net, genotype):
  return arrays_lib.encode(genotype, net.space.candidates)


def images(count=6, seed=0):
  rng = np.random.default_rng(seed)
  return jnp.asarray(rng.normal(size=(count, 8, 8, 3)), jnp.float32)


def disturbed(variables, seed=1):
  """Statistics and affine parameters that are not those of the start."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda a: a + 0.3 * np.abs(rng.normal(size=a.shape)).astype("f"),
      variables)


@pytest.fixture(scope="module")
def drawn():
  net = make()
  return net, disturbed(net.init(jax.random.key(0)))


@pytest.fixture(scope="module")
def apply(drawn):
  net = drawn[0]
  return jax.jit(
      lambda variables, arrays, x, train: net.run(
          variables, net.selected(arrays), x, train=train),
      static_argnames="train")


def both(net, apply, variables, genotype, x, *, train):
  """Logits and statistics of the two networks, and the plain variables."""
  plain = network.module(genotype, net.place)
  own = inherit.variables(net, variables, genotype)
  found, stats = apply(variables, encode(net, genotype), x, train=train)
  if train:
    (expected, _), mutated = jax.jit(lambda own, x: plain.apply(
        own, x, train=True, mutable=["batch_stats"]))(own, x)
  else:
    (expected, _), mutated = jax.jit(plain.apply)(own, x), own
  assert jax.tree.structure(stats) == jax.tree.structure(
      variables["batch_stats"])
  after = inherit.variables(
      net, {**variables, "batch_stats": stats}, genotype)
  return (found, after["batch_stats"]), (expected, mutated["batch_stats"]), own


@pytest.mark.long
@pytest.mark.parametrize("train", [False, True])
def test_logits_and_statistics_are_the_plain_networks(drawn, apply, train):
  net, variables = drawn
  found, expected, own = both(
      net, apply, variables, SMALL, images(), train=train)
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-4)
  assert jax.tree.structure(found[1]) == jax.tree.structure(expected[1])
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-5), found[1], expected[1])
  changed = any(np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(
      jax.tree.leaves(found[1]), jax.tree.leaves(own["batch_stats"]),
      strict=True))
  assert changed == train


def test_extracts_what_the_plain_network_has(drawn):
  net, variables = drawn
  own = inherit.variables(net, variables, SMALL)
  plain = network.init(network.module(SMALL, PLACE), jax.random.key(0))
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)
  assert shapes(own) == shapes(dict(plain))
  assert counting.parameters(own) == cost.network(SMALL, PLACE).params


def test_published_cells_have_the_plain_networks_parameters():
  net = make(spaces.space_for(zoo.get("darts")))
  shapes = jax.eval_shape(net.init, jax.random.key(0))
  genotype = zoo.get("nat_darts")
  own = jax.eval_shape(lambda v: inherit.variables(net, v, genotype), shapes)
  assert counting.parameters(own) == cost.network(genotype, PLACE).params


@pytest.mark.long
def test_gradients_are_the_plain_networks_and_zero_elsewhere():
  """In a reduction cell, which has edges of both strides."""
  place = PLACE._replace(cells=1)
  net = make(place=place)
  variables = disturbed(net.init(jax.random.key(0)))
  x, labels = images(), jnp.arange(6) % 10
  arrays, plain = encode(net, SMALL), network.module(SMALL, place)

  def cross_entropy(logits):
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
        logits, labels))

  def loss(params):
    return cross_entropy(net.run(
        {**variables, "params": params}, net.selected(arrays), x)[0])

  def plain_loss(params):
    (logits, _), _ = plain.apply(
        {"params": params, "batch_stats": own["batch_stats"]}, x, train=True,
        mutable=["batch_stats"])
    return cross_entropy(logits)

  own = inherit.variables(net, variables, SMALL)
  found = jax.jit(jax.grad(loss))(variables["params"])
  expected = jax.jit(jax.grad(plain_loss))(own["params"])
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5),
      inherit.variables(net, {"params": found}, SMALL)["params"], expected)
  # What is not chosen has no gradient: the norms are equal.
  np.testing.assert_allclose(
      optax.tree.norm(found), optax.tree.norm(expected), rtol=1e-4)


def test_a_step_keeps_the_form_of_the_statistics():
  """Where no candidate of a pass has any; as a loop over steps needs it."""
  net = supernet.Supernet(SMALL_SPACE._replace(
      candidates=("max_pool_3x3", "skip_connect", "null")), PLACE,
      norm="running")
  variables = jax.eval_shape(net.init, jax.random.key(0))
  cell = Cell((Edge("max_pool_3x3", 0, 2), Edge("skip_connect", 2, 3)), (3,))
  arrays = encode(net, architecture.Genotype(cell, cell))
  _, stats = jax.eval_shape(
      lambda v, x: net.run(v, net.selected(arrays), x), variables, images())
  assert stats == variables["batch_stats"]


def test_one_program_serves_all_architectures(drawn, apply):
  net, variables = drawn
  x = images()
  outputs, traced = [], []
  for genotype in (SMALL, architecture.Genotype(SMALL.normal, SMALL.normal)):
    outputs.append(apply(variables, encode(net, genotype), x, train=False)[0])
    traced.append(apply._cache_size())
  assert traced[0] == traced[1]
  assert not np.allclose(*outputs)


def test_kernels_start_as_the_plain_networks():
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), and slots differ."""
  params = make().init(jax.random.key(3))["params"]
  kernel = params["blocks"][0]["edges0"]["conv_3x3"]["conv"]["kernel"][0]
  assert kernel.shape == (4, 3, 3, 4, 4)
  bound = 36**-0.5
  assert 0.95 * bound < np.max(np.abs(kernel)) <= bound
  assert not np.array_equal(kernel[0], kernel[1])


# The other way: a supernet that begins with a trained network.


def random_like(tree, seed=2):
  """Weights and statistics that no initialiser draws."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(
      lambda a: np.abs(rng.normal(size=a.shape)).astype("f") + 0.1, tree)


def test_a_supernet_gives_back_what_it_begins_with(drawn, apply):
  net, before = drawn
  plain = network.module(SMALL, PLACE)
  own = random_like(network.init(plain, jax.random.key(3)))
  own["params"]["auxiliary"] = {"kernel": np.ones(3, "f")}  # Is left out.
  held = inherit.held(net, before, SMALL, own)
  del own["params"]["auxiliary"]
  jax.tree.map(np.testing.assert_array_equal,
               inherit.variables(net, held, SMALL), own)
  (found, _), (expected, _), _ = both(
      net, apply, held, SMALL, images(), train=True)
  np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
  # Nothing else is touched: the edge from 2 to 3 has no other operations.
  touched = jax.tree.map(lambda a, b: np.mean(a != b), held, before)
  assert 0 < np.mean(jax.tree.leaves(touched)) < 0.9


BLOCK = records.Block(
    (records.Node(4, activation="relu"), records.Node(4, activation="relu")),
    (Edge("conv_5x5", 1, 2), Edge("sep_conv_5x5", 2, 3),
     Edge("skip_connect", 1, 3)))
BLOCKS = records.BlockNetwork(
    "mine", (records.Layer("conv", 4, 3, activation="relu"),), (BLOCK, BLOCK))


def replaced(architecture, at, name):
  """A network of blocks with another operation on an edge of its first."""
  first, *rest = architecture.blocks
  edges = [edge._replace(operation=name) if e == at else edge
           for e, edge in enumerate(first.edges)]
  return architecture._replace(
      blocks=(first._replace(edges=tuple(edges)), *rest))


def test_a_supernet_that_keeps_blocks_begins_with_a_trained_network():
  """What is kept goes apart from what it was decided on together with."""
  frame, padded = records.Frame(10, 8), codec.pad(BLOCKS)
  space = spaces.own(BLOCKS, "cell", "natpp")._replace(keep="blocks:0")
  net = supernet.Supernet(space, frame, norm="running")
  own = random_like(network.init(
      network.module(padded, frame), jax.random.key(1)))
  held = inherit.held(net, net.init(jax.random.key(0)), padded, own)
  jax.tree.map(np.testing.assert_array_equal,
               inherit.variables(net, held, padded), own)


def test_smaller_kernels_begin_with_the_middle_of_a_larger_one():
  frame = records.Frame(10, 8)
  padded = codec.pad(BLOCKS)
  net = supernet.Supernet(
      spaces.own(BLOCKS, "full", "natpp"), frame, norm="running")
  before = net.init(jax.random.key(0))
  own = random_like(network.init(
      network.module(padded, frame), jax.random.key(1)))
  held = inherit.held(net, before, padded, own)
  jax.tree.map(np.testing.assert_array_equal,
               inherit.variables(net, held, padded), own)
  at = [edge.operation for edge in padded.blocks[0].edges].index
  for old, new in (("sep_conv_5x5", "sep_conv_3x3"), ("conv_5x5", "conv_3x3"),
                   ("conv_5x5", "conv_1x1")):
    e, cut = at(old), (5 - int(new[-1])) // 2
    other = replaced(padded, e, new)
    found = inherit.variables(net, held, other)["params"]["block0"]
    mine = own["params"]["block0"][f"edge{e}_{old}"]
    for path, leaf in jax.tree_util.tree_leaves_with_path(
        found[f"edge{e}_{new}"]):
      wanted = mine
      for key in path:
        wanted = wanted[key.key]
      if leaf.shape != wanted.shape:
        wanted = wanted[cut:-cut, cut:-cut]
      np.testing.assert_array_equal(leaf, wanted)
  # What has nothing near it is as it was drawn.
  dil = replaced(padded, at("conv_5x5"), "dil_conv_3x3")
  jax.tree.map(
      np.testing.assert_array_equal,
      *(inherit.variables(net, v, dil)["params"]["block0"][
          f"edge{at('conv_5x5')}_dil_conv_3x3"] for v in (held, before)))


def test_padding_renumbers_edges_and_nothing_else():
  frame = records.Frame(10, 8)
  plain, padded = (network.init(network.module(a, frame), jax.random.key(0))
                   for a in (BLOCKS, codec.pad(BLOCKS)))
  found = inherit.renumbered(plain, padded)
  assert jax.tree.structure(found) == jax.tree.structure(padded)
  assert "edge2_sep_conv_5x5" in found["params"]["block1"]
  jax.tree.map(np.testing.assert_array_equal,
               inherit.renumbered(found, plain), plain)
  for a, b in ((plain, BLOCKS), (found, codec.pad(BLOCKS))):
    logits = network.module(b, frame).apply(a, images())[0]
    np.testing.assert_allclose(
        logits, network.module(BLOCKS, frame).apply(plain, images())[0],
        rtol=1e-5, atol=1e-6)
