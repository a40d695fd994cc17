"""An operation of a user's own, a module without parameters, in every network.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import operations, spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from natjax.methods import folding, nat, theta_space
from natjax.networks import inherit
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib
from natjax.training import devices
from tests import tiny
from tests.networks import dense as dense_lib
from tests.networks import oracle

Cell, Edge = architecture.Cell, architecture.Edge
PLACE = skeleton_lib.Skeleton("cifar", 4, 2, 10, 8)  # Two reduction cells.
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
CANDIDATES = ("conv_1x1", "negate", "skip_connect", "null")
SPACE = spaces.cells("own", CANDIDATES, num_nodes=2)
# At both strides, and in the second cell every node's only input.
CELL = Cell((Edge("negate", 0, 2), Edge("conv_1x1", 1, 2),
             Edge("negate", 2, 3), Edge("negate", 1, 3)), (2, 3))
GENOTYPE = architecture.Genotype(CELL, CELL)


class Negate(nn.Module):
  """Minus its input."""

  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x):
    return -x[:, ::self.stride, ::self.stride]


@pytest.fixture(scope="module", autouse=True)
def negate():
  with operations.registered(operations.Operation(
      "negate", "negate", 1, Negate, lambda *_: operations.Cost(0, 0))) as own:
    yield own


def plain(params):
  """The logits of a supernet's genotype, by the oracle."""
  def nodes(i, inputs, run):
    found = oracle.cell(CELL.edges, inputs, True, lambda _, edge, x, stride: (
        -x[:, ::stride, ::stride] if edge.operation == "negate"
        else run(edge, x, stride)))
    return [found[n] for n in range(4)]

  return oracle.supernet_of(PLACE, params, IMAGES, nodes)


@pytest.mark.long
@pytest.mark.parametrize("form", ["selected", "dense"])
def test_in_a_supernet(form):
  net = supernet_lib.Supernet(SPACE, PLACE)
  params = net.init(jax.random.key(0))["params"]
  assert not any("negate" in str(path) for path, _ in
                 jax.tree_util.tree_leaves_with_path(params))
  arrays = arrays_lib.encode(GENOTYPE, CANDIDATES)

  @jax.jit
  def run(params):
    def loss(params):
      logits = (net.apply(params, arrays, IMAGES) if form == "selected"
                else dense_lib.apply(
                    net, params, dense_lib.weights(net, arrays),
                    jnp.ones((2, 2)), IMAGES))
      return jnp.sum(logits), logits

    return jax.grad(loss, has_aux=True)(params)

  grads, logits = run(params)
  np.testing.assert_allclose(logits, plain(params), rtol=1e-3, atol=1e-3)
  oracle.assert_slopes(lambda p: np.sum(plain(p)), (params,),
                       (jax.device_get(grads),))


def test_in_a_network_and_in_the_same_network_as_data():
  network = network_lib.module(GENOTYPE, PLACE)
  net = supernet_lib.Supernet(
      SPACE._replace(weights="slot"), PLACE, norm="running")
  variables = net.init(jax.random.key(0))
  arrays = arrays_lib.encode(GENOTYPE, CANDIDATES)
  logits, stats = jax.jit(lambda v: net.run(
      v, net.selected(arrays), IMAGES))(variables)
  own = inherit.variables(net, variables, GENOTYPE)
  assert jax.tree.map(jnp.shape, own) == jax.tree.map(
      jnp.shape, network_lib.init(network, jax.random.key(0)))
  (expected, _), changed = jax.jit(lambda v: network.apply(
      v, IMAGES, train=True, mutable=["batch_stats"]))(own)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
  oracle.assert_close(
      inherit.variables(net, {"batch_stats": stats}, GENOTYPE),
      {"batch_stats": changed["batch_stats"]})


def test_theta_weighs_it_and_no_weights_take_the_factor_up():
  """A skip at stride 1 may take its place; it holds nothing to multiply."""
  space = theta_space.ThetaSpace(GENOTYPE, PLACE)
  reduce = space.groups[1]
  assert reduce.allowed.tolist() == [
      [True, False, True], [True, True, True], [True, True, True],
      [True, False, True]]
  network = network_lib.module(GENOTYPE, PLACE)
  variables = network_lib.init(
      network, jax.random.key(0), edge=space.weigh(space.init()))

  @jax.jit
  def logits(theta):
    return network.apply(variables, IMAGES, edge=space.weigh(theta))[0]

  theta = [np.array(t) for t in space.init()]
  np.testing.assert_allclose(
      logits(theta), jax.jit(network.apply)(variables, IMAGES)[0], rtol=1e-4,
      atol=1e-6)
  # An identity of the same weight undoes it: as without the edge.
  theta[1][2] = (0, 1, 1)
  found = logits(theta)
  without = network_lib.module(architecture.Genotype(*[CELL._replace(
      edges=(*CELL.edges[:2], Edge("null", 2, 3), CELL.edges[3]))] * 2), PLACE)
  np.testing.assert_allclose(
      found, jax.jit(without.apply)(variables, IMAGES)[0], rtol=1e-5,
      atol=1e-6)
  params, folded, left = folding.fold(
      variables["params"], space, space.choose(space.init()), theta)
  assert [e for name, e in folded if name == "reduce"] == ["1 -> 2"]
  assert [e for name, e in left if name == "reduce"] == [
      "0 -> 2", "2 -> 3", "1 -> 3"]
  assert set(params) == set(variables["params"])


@pytest.mark.long
def test_nat_updates_its_weights_and_its_policy():
  method = nat.NAT(
      dataclasses.replace(tiny.SEARCH, cells=1), SPACE, num_classes=10,
      image_size=8)
  state, batch = method.init(jax.random.key(0)), tiny.batch(4)
  images, labels = batch["image"][None], batch["label"][None]  # One device's.

  def step(update):
    return devices.spread(
        lambda state, image, label: update(
            state, {"image": image, "label": label}), devices.choose(1),
        sharded=(False, True, True))

  after, metrics = step(method.update_weights)(state, images, labels)
  assert np.isfinite(metrics["loss"])
  moved = jax.tree.map(lambda a, b: float(jnp.max(jnp.abs(a - b))),
                       state.params, after.params)
  assert max(jax.tree.leaves(moved)) > 0
  later, metrics = step(method.update_policy)(after, images, labels)
  assert all(np.isfinite(v) for v in metrics.values())
  assert int(later.step) == 1
