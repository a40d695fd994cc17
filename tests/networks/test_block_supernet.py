"""The supernet of a network of blocks, whose edges differ in what they hold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import operations, spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks
from natjax.networks import inherit, rules
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib
from natjax.spaces import ground as ground_lib
from natjax.zoo import handcrafted
from tests.networks import dense as dense_lib
from tests.networks import oracle

E, N = blocks.Edge, blocks.Node
FRAME = blocks.Frame(5, 8)

# Two edges of one pair of nodes; nodes of one, two and three edges; PReLU, BN
# and shuffle; a first input of another width, none, and one that is used.
WIDEN = blocks.Block(
    (N(6),), (E("conv_1x1", 1, 2), E("skip_connect", 1, 2)))
SAME = blocks.Block(
    (N(6, activation="prelu"), N(6, norm=True, activation="relu6", shuffle=2)),
    (E("conv_3x3", 1, 2), E("max_pool_3x3", 1, 2), E("conv_1x1", 2, 3),
     E("skip_connect", 1, 3)))
BOTH = blocks.Block(
    (N(6),), (E("skip_connect", 0, 2), E("conv_1x1", 1, 2)))
STRIDED = blocks.Block(
    (N(8, stride=2, activation="relu"), N(8, stride=2)),
    (E("conv_3x3", 1, 2), E("max_pool_3x3", 1, 2), E("skip_connect", 0, 2),
     E("skip_connect", 2, 3)), (2, 3))
NETWORK = blocks.check(blocks.BlockNetwork(
    "mine", (blocks.Layer("conv", 4, 3, activation="relu"),),
    (WIDEN, SAME, SAME, BOTH, BOTH, STRIDED)))

CANDIDATES = ("conv_3x3", "conv_1x1", "max_pool_3x3", "skip_connect", "null")
CONV, POOL = ("conv_3x3", "conv_1x1", "null"), ("max_pool_3x3", "null")
SKIP = ("skip_connect", "null")
# What may stand on the edges; on the second of WIDEN, nothing else.
CHOICES = ((("conv_1x1", "null"), ("skip_connect",)), (CONV, POOL, CONV, SKIP),
           (CONV, POOL, CONV, SKIP), (("skip_connect", "conv_1x1"), CONV[1:]),
           (("skip_connect", "conv_1x1"), CONV[1:]), (CONV[:2], POOL, SKIP,
                                                      SKIP))
# Store and row of every edge: those of one shape and choice lie together.
AT = {"widen": [(0, 0), (1, 0)], "same": [(0, 0), (1, 0), (0, 1), (2, 0)],
      "both": [(0, 0), (1, 0)], "strided": [(0, 0), (1, 0), (2, 0), (3, 0)]}
PLACES = [(0, 0, "widen"), (1, 0, "same"), (1, 1, "same"), (2, 0, "both"),
          (2, 1, "both"), (3, 0, "strided")]  # Run, number there, kind.

NET = supernet_lib.Supernet(
    spaces.Space("mine", NETWORK, CANDIDATES, CHOICES, share="full"), FRAME)
CONCAT = jnp.ones((6, 2))  # Not looked at: the graph says what is concatenated.


@pytest.fixture(scope="module")
def drawn():
  """Parameters, images, cotangent."""
  rng = np.random.default_rng(0)
  shapes = jax.eval_shape(NET.init, jax.random.key(0))["params"]
  return (oracle.random_weights(shapes, 1),
          rng.normal(size=(3, 8, 8, 3)).astype("f"),
          rng.normal(size=(3, 5)).astype("f"))


def plain(params, images, chosen):
  """Logits; `chosen[i][e]` has the weights of what stands on an edge."""
  top = oracle.scope({k: v for k, v in params.items() if k != "blocks"})
  x = oracle.layer(NETWORK.stem[0], np.asarray(images, np.float64),
                   top.at("stem").at("layer0"))
  values = (x, x)
  for i, (run, j, kind) in enumerate(PLACES):
    tree = jax.tree.map(lambda leaf, j=j: leaf[j],
                        oracle.scope(params["blocks"][run]).params)

    def edge(e, x, i=i, kind=kind, tree=tree):
      store, row = AT[kind][e]
      stride = 2 if kind == "strided" and e < 3 else 1
      width = NETWORK.blocks[i].node(NETWORK.blocks[i].edges[e].target).width
      total = np.zeros((*x[:, ::stride, ::stride].shape[:3], width))
      for name, weight in chosen[i][e].items():
        if name == "null":
          continue
        own = jax.tree.map(lambda leaf: leaf[row],
                           tree.get(f"edges{store}", {}).get(name, {}))
        y = oracle.block_operation(name, x, oracle.scope(own), stride)
        if "pool" in name:
          y = oracle.norm(y, oracle.scope({}))
        if "projection" in own:
          y = oracle.norm(
              oracle.conv(y, own["projection"]["conv"]["kernel"]),
              oracle.scope({}))
        total = total + weight * y
      return total

    values = (values[1], oracle.block(
        NETWORK.blocks[i], values, edge,
        lambda n, x: oracle.norm(x, oracle.scope({})),
        lambda n, tree=tree: tree[f"slope{n - 2}"]))
  x = values[1].mean((1, 2))
  return oracle.classify(x, top.at("head").at("layer1"))


def with_gradients(function, wanted):
  """Compiled: the logits, and gradients of their product with `cotangent`."""

  def loss(cotangent, *args):
    logits = function(*args)
    return jnp.sum(cotangent * logits), logits

  grad = jax.grad(loss, [w + 1 for w in wanted], has_aux=True)
  return jax.jit(lambda *args: grad(*args)[::-1])


def test_equal_blocks_lie_together_and_hold_what_may_stand_there():
  assert NET.plan.runs == ((0,), (1, 2), (3, 4), (5,))
  shapes = jax.eval_shape(NET.init, jax.random.key(0))["params"]
  held = [{(store, name, jax.tree.leaves(tree)[0].shape[:2])
           for store, part in run.items() if store.startswith("edges")
           for name, tree in part.items()} for run in shapes["blocks"]]
  assert held == [
      {("edges0", "conv_1x1", (1, 1)), ("edges1", "skip_connect", (1, 1))},
      {("edges0", "conv_3x3", (2, 2)), ("edges0", "conv_1x1", (2, 2))},
      {("edges0", "conv_1x1", (2, 1)), ("edges1", "conv_1x1", (2, 1))},
      {("edges0", "conv_3x3", (1, 1)), ("edges0", "conv_1x1", (1, 1)),
       ("edges1", "max_pool_3x3", (1, 1)), ("edges2", "skip_connect", (1, 1))}]
  count = (
      27 * 4 + 2 * 4  # Stem: convolution, scale and bias.
      + 2 * 4 * 6  # A 1x1 convolution, and the skip's projection.
      + 2 * (2 * (9 + 1) * 36 + 6)  # Two edges of two convolutions; slopes.
      + 2 * 2 * 36  # A 1x1 convolution on either edge.
      + (9 + 1 + 1 + 1) * 6 * 8  # Two convolutions and two projections.
      + 16 * 5 + 5)  # The classifier.
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count


@pytest.fixture(scope="module")
def selected():
  return with_gradients(
      lambda params, arrays, images: NET.apply(params, arrays, images), (0, 2))


def draw(seed):
  """Another choice in every block: names of operations, and arrays.

  None is the network as it is.
  """
  names = [[edge.operation for edge in block.edges] for block in NETWORK.blocks]
  if seed is not None:
    rng = np.random.default_rng(seed)
    names = [[str(rng.choice(may)) for may in edges] for edges in CHOICES]
  return names, arrays_lib.encode([block.cell._replace(edges=tuple(
      edge._replace(operation=name) for edge, name in zip(
          block.edges, own, strict=True)))
      for block, own in zip(NETWORK.blocks, names, strict=True)], CANDIDATES)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_selected_equals_the_oracle(drawn, selected, seed):
  """Where blocks are alike, under one scan."""
  params, images, cotangent = drawn
  names, arrays = draw(seed)
  assert arrays.operation.shape == (6, 2, 3)
  logits, grads = jax.device_get(selected(cotangent, params, arrays, images))
  chosen = [[{name: 1.0} for name in own] for own in names]
  np.testing.assert_allclose(logits, plain(params, images, chosen), rtol=2e-3,
                             atol=2e-3)
  oracle.assert_slopes(
      lambda params, images: np.sum(cotangent * plain(params, images, chosen)),
      (params, images), grads)


def test_dense_weights_of_edges_between_the_same_nodes():
  names, arrays = draw(0)
  weights = dense_lib.weights(NET, arrays)
  for own, w in zip(names, weights, strict=True):
    assert [CANDIDATES.index(name) for name in own] == np.argmax(
        w, 1)[:len(own)].tolist()
  assert np.sum(weights) == sum(map(len, names)) == np.sum(weights == 1)


@pytest.mark.long
def test_dense_equals_the_oracle_and_a_scan_its_unrolled_form(drawn):
  params, images, cotangent = drawn
  rng = np.random.default_rng(2)
  weights = rng.uniform(0.2, 0.8, (6, 4, 5)).astype("f")

  def scanned(params, weights, images):
    return dense_lib.apply(NET, params, weights, CONCAT, images)

  def unrolled(params, weights, images):
    # Rules of their own: blocks that differ in what they do are not scanned.
    how = [own._replace(make=lambda *args: rules.dense(*args))
           for own in NET.weighed(weights, CONCAT)]
    return NET.run({"params": params}, how, images)[0]

  text = [str(jax.make_jaxpr(function)(params, weights, images))
          for function in (scanned, unrolled)]
  assert [t.count(" scan[") for t in text] == [2, 0]
  logits, grads = jax.device_get(
      with_gradients(scanned, (0, 1, 2))(cotangent, params, weights, images))
  others = jax.device_get(
      with_gradients(unrolled, (0, 1, 2))(cotangent, params, weights, images))
  np.testing.assert_allclose(logits, others[0], rtol=1e-4, atol=1e-5)
  oracle.assert_close(grads, others[1], rtol=1e-3)

  def loss(params, weights, images):
    chosen = [[{name: w[CANDIDATES.index(name)] for name in may}
               for may, w in zip(edges, own, strict=False)]
              for edges, own in zip(CHOICES, weights, strict=True)]
    found = plain(params, images, chosen)
    return np.sum(cotangent * found), found

  np.testing.assert_allclose(logits, loss(params, weights, images)[1],
                             rtol=2e-3, atol=2e-3)
  oracle.assert_slopes(lambda *args: loss(*args)[0], (params, weights, images),
                       grads)
  # There is nothing to weigh where nothing may stand.
  may = np.array([[len(edges) > e and name in edges[e]
                   and name != "null" for e in range(4) for name in CANDIDATES]
                  for edges in CHOICES]).reshape(6, 4, 5)
  np.testing.assert_array_equal(grads[1] != 0, may)


@pytest.mark.parametrize("train", [False, True])
def test_with_running_statistics_it_is_the_plain_network(train):
  """In logits and statistics, those of nodes among them."""
  net = supernet_lib.Supernet(NET.space, FRAME, norm="running")
  variables = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0)), 1)
  names, arrays = draw(0)
  network = NETWORK._replace(blocks=tuple(
      block._replace(edges=tuple(
          edge._replace(operation=name) for edge, name in zip(
              block.edges, own, strict=True)))
      for block, own in zip(NETWORK.blocks, names, strict=True)))
  images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
  logits, stats = jax.jit(lambda variables: net.run(
      variables, net.selected(arrays), images, train=train))(variables)
  assert jax.tree.structure(stats) == jax.tree.structure(
      variables["batch_stats"])
  plain = network_lib.module(network, FRAME)
  own = inherit.variables(net, variables, network)
  (expected, _), changed = jax.jit(lambda variables: plain.apply(
      variables, images, train=train, mutable=["batch_stats"]))(own)
  np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
  oracle.assert_close(
      inherit.variables(net, {"batch_stats": stats}, network)["batch_stats"],
      changed["batch_stats"], rtol=1e-4)


def test_every_norm_of_the_supernet_has_the_networks_epsilon():
  """Against a plain form of three convolutions; pools have a norm too."""
  conv = blocks.Layer("conv", 4, 3, activation="relu6")
  block = blocks.Block(
      (N(6, norm=True), N(6)),
      (E("conv_3x3", 1, 2), E("max_pool_3x3", 2, 3)))
  network = blocks.pad(blocks.check(blocks.BlockNetwork(
      "mine", (conv,), (block,), (conv, *blocks.CLASSIFIER),
      norm_epsilon=0.5)))
  ground = ground_lib.Ground(spaces.space_for(network), FRAME, scheme="nat")
  net = supernet_lib.Supernet(ground.around(), FRAME)
  params = net.init(jax.random.key(0))["params"]
  x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  logits = jax.jit(net.apply)(params, ground.encode(network), x)
  norm = lambda y: oracle.norm(y, oracle.scope({}), 0.5)
  fixed = lambda layer, y: np.clip(norm(
      oracle.conv(y, layer["conv"]["kernel"])), 0, 6)
  y = fixed(params["stem"]["layer0"], x)
  kernel = params["blocks"][0]["edges0"]["conv_3x3"]["conv"]["kernel"][0, 0]
  y = norm(norm(oracle.conv(y, kernel)))
  y = norm(oracle.pool(y, 3, np.max, padding=1))
  y = fixed(params["head"]["layer0"], y).mean((1, 2))
  linear = params["head"]["layer2"]["linear"]
  np.testing.assert_allclose(
      logits, y @ linear["kernel"] + linear["bias"], rtol=1e-4, atol=1e-4)


def around(name):
  """The supernet of what transformations of a network reach."""
  network = blocks.scale(handcrafted.build(name), 0.5)
  space = spaces.space_for(network, method="natpp")
  frames = [blocks.Frame(10, size) for size in (8, 32)]
  ground = ground_lib.Ground(space, frames[0], frames[1:], scheme="natpp")
  return supernet_lib.Supernet(ground.around(), ground.place)


def test_supernet_holds_only_what_transformations_reach():
  shapes = jax.eval_shape(around("mobilenetv2").init, jax.random.key(0))
  kinds = {name for run in shapes["params"]["blocks"] for edge in run.values()
           if isinstance(edge, dict) for name in edge}
  assert kinds == {"conv_1x1", "depthwise_conv_3x3", "skip_connect"}
  assert set(operations.names()) > kinds


def test_equal_neighbours_are_one_run():
  assert around("resnet20").plan.runs == ((0, 1, 2), (3,), (4, 5), (6,), (7, 8))
