"""The domain of networks of blocks, and its supernet."""

import functools

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import domains
from natjax import errors
from natjax import operations
from natjax.costs import exact as cost
from natjax.graph import blocks
from natjax.graph import genotype as architecture
from natjax.methods import inference
from natjax.methods import nat
from natjax.methods import natpp
from natjax.networks import block_network
from natjax.policies import sampling
from natjax.spaces import blocks as blocks_space
from natjax.zoo import handcrafted
from tests.networks import oracle

FRAME = blocks.Frame(10, 8)
TARGET = blocks.Frame(10, 32)


@functools.cache
def domain(name="resnet20", share="cell", method="natpp", *, published=False,
           width=1.0):
  network = blocks.scale(handcrafted.build(name), 0.5)
  space = blocks_space.space_for(network, method=method, share=share)
  return domains.BlockDomain(
      space, FRAME, (TARGET,), scheme=method, smoothing=0.0,
      published=published, gcn_layers=2, dtype=jnp.float32, width=width)


def names(d, row):
  return {d.candidates[o] for o in np.flatnonzero(row)}


def test_groups_of_resnet20():
  space = blocks_space.space_for(handcrafted.build("resnet20"))
  assert space.groups == ((0, 1, 2, 4, 5, 7, 8), (3, 6))
  space = blocks_space.space_for(handcrafted.build("resnet20"), share="full")
  assert space.groups == tuple((i,) for i in range(9))
  with pytest.raises(errors.InputError, match="cell, full"):
    blocks_space.space_for(handcrafted.build("resnet20"), share="half")


def test_what_may_stand_on_the_edges_of_resnet20():
  d = domain()
  assert d.shape == (2, 2, 2)
  # First node: a 3x3 convolution and the null edge that pads it.
  assert names(d, d.allowed[0, 0, 0]) == {
      "conv_3x3", "sep_conv_3x3", "dil_conv_3x3", "conv_1x1", "max_pool_3x3",
      "avg_pool_3x3", "skip_connect", "null"}
  # From a node of the same shape, so that a skip costs nothing.
  assert names(d, d.allowed[0, 0, 1]) == {"null", "skip_connect"}
  # The strided block's pad is a projection: null may not become it.
  assert names(d, d.allowed[1, 0, 1]) == {"null"}
  # A projection costs more than null, and as much as nothing else.
  assert names(d, d.allowed[1, 1, 1]) == {"null", "skip_connect"}


def test_fixed_nodes_keep_what_they_have():
  d = domain("lresnet34e-ir")
  for g in range(d.shape[0]):
    assert names(d, d.allowed[g, 0, 0]) == {"skip_connect"}


@pytest.mark.parametrize("share", ["cell", "full"])
def test_encoding_round_trip(share):
  d = domain("mobilenetv2", share)
  network = blocks.pad(blocks.scale(handcrafted.build("mobilenetv2"), 0.5))
  assert d.decode(d.encode(network), network) == network
  drawn = jax.device_get(jax.jit(d.sample)(jax.random.key(0)))
  decoded = d.decode(drawn)
  again = d.encode(decoded)
  np.testing.assert_array_equal(again.operation, drawn.operation)
  np.testing.assert_array_equal(again.source, drawn.source)
  assert blocks.check(decoded) == decoded


@pytest.mark.parametrize("name", ["resnet20", "vgg16", "shufflenet"])
def test_sampled_inputs_are_alive_and_cost_no_more(name):
  """Every node of every drawn network carries a signal."""
  if name == "shufflenet":
    network = handcrafted.build(name)
    network = network._replace(blocks=network.blocks[:5])
    space = blocks_space.space_for(network, method="natpp")
    d = domains.BlockDomain(
        space, FRAME, (TARGET,), scheme="natpp", smoothing=0.0,
        published=False, gcn_layers=2, dtype=jnp.float32)
  else:
    d = domain(name)
  drawn = jax.device_get(jax.jit(jax.vmap(d.sample))(
      jax.random.split(jax.random.key(0), 64)))
  before = d.cost(d.decode(d.encode(d._space.network)))
  seen = set()
  for i in range(64):
    network = d.decode(jax.tree.map(lambda a, i=i: a[i], drawn))
    after = d.cost(network)
    assert after.params <= before.params and after.madds <= before.madds
    for block in network.blocks:
      assert len(architecture.live_nodes(block.cell)) == 2 + len(block.nodes)
    seen.add(network)
  assert len(seen) > 32


GUARDED = [("resnet20", "cell", "natpp"), ("resnet20", "full", "natpp"),
           ("mobilenetv2", "cell", "nat"), ("vgg16", "cell", "natpp")]


def draw_transformed(d, seed):
  """An input and a transformation by a random policy, on the host."""
  beta, alpha = jax.device_get(_transform(d)(jax.random.key(seed)))
  return d.decode(beta), d.decode(alpha)


@functools.cache
def _transform(d):
  def run(key):
    k1, k2, k3 = jax.random.split(key, 3)
    beta = d.sample(k1)
    logits = 3 * jax.random.normal(
        k2, (*d.shape, len(d.table.actions)))
    actions = jax.vmap(lambda cell, rows, k, row: sampling.sample(
        k, row, cell, rows, d.table))(
            beta, d.rows(beta), jax.random.split(k3, d.shape[0]), logits)
    return beta, sampling.apply_actions(beta, actions, d.table)
  return jax.jit(run)


@pytest.mark.parametrize("name, share, method", GUARDED)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_no_transformation_costs_more_or_cuts_an_output_off(
    name, share, method, seed
):
  before, after = draw_transformed(domain(name, share, method), seed)
  for frame in (FRAME, TARGET):
    old, new = (cost.block_network(n, frame) for n in (before, after))
    assert new.params <= old.params and new.madds <= old.madds
  for old, new in zip(before.blocks, after.blocks, strict=True):
    live = architecture.live_nodes(old.cell) & set(old.outputs)
    assert live <= architecture.live_nodes(new.cell)


def test_published_does_violate():
  """A strided null may become a projection, and a node may die."""
  d = domain("resnet20", "cell", "natpp", published=True)
  base = d.encode(d._space.network)
  null, skip = (d.candidates.index(n) for n in ("null", "skip_connect"))
  valid = d.table.valid[d.rows(base), base.operation]
  assert valid[..., null].all()  # So nothing forbids nulls everywhere.
  pads = base.operation == null
  assert valid[pads][:, skip].all()
  alpha = base.replace(operation=np.where(pads, skip, base.operation))
  before, after = d.cost(d._space.network), d.cost(d.decode(alpha))
  assert after.params > before.params and after.madds > before.madds
  guarded = domain("resnet20").table.valid[
      domain("resnet20").rows(base), base.operation]
  assert not guarded[1, 0, 1, skip]


def test_published_refuses_a_network_without_a_cell_in_common():
  with pytest.raises(errors.InputError, match="--policy default"):
    domain("resnet20", "full", "natpp", published=True)
  one = handcrafted.build("resnet20")
  space = blocks_space.space_for(one._replace(blocks=one.blocks[:1]))
  with pytest.raises(errors.InputError, match="repeats"):
    domains.BlockDomain(space, FRAME, (), scheme="nat", smoothing=0.0,
                        published=True, gcn_layers=2, dtype=jnp.float32)


@pytest.mark.parametrize("share", ["cell", "full"])
def test_every_decision_sees_its_own_operation(share):
  """Changing an edge's operation changes that edge's logits."""
  d = domain("resnet20", share)
  params = d.init_policy(jax.random.key(0))
  beta = jax.tree.map(jnp.asarray, d.encode(d._space.network))
  logits = jax.jit(d.logits)
  first = logits(params, beta)
  assert first.shape == (*d.shape, len(d.table.actions))
  skip = d.candidates.index("skip_connect")
  for at in [(0, 0, 0), (1, 1, 0)]:
    other = logits(params, beta.replace(
        operation=beta.operation.at[at].set(skip)))
    assert np.abs(other[at] - first[at]).max() > 1e-5


def test_the_full_graph_reaches_beyond_a_block():
  d = domain("resnet20", "full")
  params = d.init_policy(jax.random.key(0))
  beta = jax.tree.map(jnp.asarray, d.encode(d._space.network))
  skip = d.candidates.index("skip_connect")
  other = beta.replace(operation=beta.operation.at[3, 1, 0].set(skip))
  change = np.abs(jax.jit(d.logits)(params, other)
                  - jax.jit(d.logits)(params, beta)).max((1, 2, 3))
  assert change[3] > 0 and change[4] > 0 and change[8] == 0


# The supernet.


def plain(d, params, network, x):
  """The supernet of one architecture, block by block, edge by edge."""
  net = d.supernet
  outputs = (net._stem.apply({"params": params["stem"]}, x),) * 2
  narrow = net.network._replace(blocks=network.blocks)
  rows = [(r, j) for r, run in enumerate(net.runs) for j in range(len(run))]
  for i, ((r, j), block, place) in enumerate(zip(
      rows, narrow.blocks, net.places, strict=True)):
    p = jax.tree.map(lambda a, j=j: a[j], params["runs"][r])

    def edge(e, x, i=i, p=p, block=block):
      name = block.edges[e].operation
      names_ = net._edges(i)[e][3]
      run = dict(zip(names_, net._functions(i, e, names_), strict=True))[name]
      return run[0](p[f"edge{e}"], x)

    values = [*outputs]
    for n, node in enumerate(block.nodes, 2):
      total = 0
      for e, item in enumerate(block.edges):
        if item.target == n:
          total = total + edge(e, values[item.source])
      values.append(block_network.Activation(node.activation).apply({}, total))
    outputs = (outputs[1], values[block.outputs[0]])
    del place
  y = net._head.apply({"params": params["head"]}, outputs[1])
  return y.reshape(y.shape[0], -1)


def test_supernet_equals_plain_evaluation_in_value_and_gradient():
  network = blocks.scale(handcrafted.build("resnet20"), 0.5)
  network = network._replace(blocks=tuple(
      network.blocks[i] for i in (0, 3, 4, 5)))
  d = domains.BlockDomain(
      blocks_space.space_for(network, method="nat"), FRAME, (), scheme="nat",
      smoothing=0.0, published=False, gcn_layers=2, dtype=jnp.float32)
  assert d.supernet.runs == ((0,), (1,), (2, 3))
  params = d.supernet.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  beta = jax.jit(d.sample)(jax.random.key(3))
  network = d.decode(beta)
  loss = lambda logits: jnp.sum(jnp.sin(logits))
  value, grads = jax.jit(jax.value_and_grad(
      lambda p: loss(d.supernet.apply(p, beta, x))))(params)
  expected, wanted = jax.jit(jax.value_and_grad(
      lambda p: loss(plain(d, p, network, x))))(params)
  np.testing.assert_allclose(value, expected, rtol=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=2e-3, atol=2e-4), grads, wanted)


def test_every_norm_of_the_supernet_has_the_networks_epsilon():
  """Against a plain form of three convolutions; pools have a norm too."""
  conv = blocks.Layer("conv", 4, 3, activation="relu6")
  block = blocks.Block(
      (blocks.Node(6, norm=True), blocks.Node(6)),
      (blocks.Edge("conv_3x3", 1, 2), blocks.Edge("max_pool_3x3", 2, 3)))
  network = blocks.pad(blocks.check(blocks.BlockNetwork(
      "mine", (conv,), (block,), (conv, *blocks.CLASSIFIER),
      norm_epsilon=0.5)))
  d = domains.BlockDomain(
      blocks_space.space_for(network), FRAME, (), scheme="nat", smoothing=0.0,
      published=False, gcn_layers=2, dtype=jnp.float32)
  params = d.supernet.init(jax.random.key(0))
  x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
  logits = jax.jit(d.supernet.apply)(params, d.encode(network), x)
  norm = lambda y: oracle.norm(y, oracle.scope({}), 0.5)
  fixed = lambda layer, y: np.clip(norm(
      oracle.conv(y, layer["conv"]["kernel"])), 0, 6)
  y = fixed(params["stem"]["layer0"], x)
  kernel = params["runs"][0]["edge0"]["conv_3x3"]["conv"]["kernel"][0]
  y = norm(norm(oracle.conv(y, kernel)))
  y = norm(oracle.pool(y, 3, np.max, padding=1))
  y = fixed(params["head"]["layer0"], y).mean((1, 2))
  linear = params["head"]["layer2"]["linear"]
  np.testing.assert_allclose(
      logits, y @ linear["kernel"] + linear["bias"], rtol=1e-4, atol=1e-4)


def test_supernet_holds_only_what_transformations_reach():
  d = domain("mobilenetv2")
  shapes = jax.eval_shape(d.supernet.init, jax.random.key(0))
  kinds = {name for run in shapes["runs"] for edge in run.values()
           if isinstance(edge, dict) for name in edge}
  assert kinds == {"conv_1x1", "depthwise_conv_3x3", "skip_connect"}
  assert set(operations.names()) > kinds


def test_equal_neighbours_are_one_run():
  d = domain("resnet20")
  assert d.supernet.runs == ((0, 1, 2), (3,), (4, 5), (6,), (7, 8))


def test_what_no_longer_leads_to_an_output_is_pruned():
  """A node whose only way out became null costs nothing any more."""
  space = blocks_space.space_for(
      blocks.scale(handcrafted.build("resnet20"), 0.5), method="natpp")
  method = natpp.NATpp(
      nat.NATConfig(init_channels=0, cells=0, samples=2), space,
      num_classes=10, image_size=8)
  d = method.domain
  base = d.encode(space.network)
  null = d.candidates.index("null")
  operation = base.operation.copy()
  operation[0, 1, 0] = null  # The second convolution of the plain blocks.
  alpha = inference.pruned(base.replace(operation=operation), method)
  assert (alpha.operation[0, 0] == null).all()
  np.testing.assert_array_equal(alpha.operation[1], operation[1])
  network = d.decode(alpha)
  for block in network.blocks[:3]:
    assert [e.operation for e in block.edges] == [
        "null", "null", "null", "skip_connect"]
  unpruned = d.decode(base.replace(operation=operation))
  assert d.cost(network).params < d.cost(unpruned).params
  untouched = inference.pruned(base, method)
  np.testing.assert_array_equal(untouched.operation, base.operation)
