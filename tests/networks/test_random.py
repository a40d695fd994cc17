"""Operations that draw: noise, in networks and in supernets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import network as network_lib
from natjax.networks import rules
from natjax.networks import supernet as supernet_lib
from tests.networks import dense as dense_lib

Cell, Edge = architecture.Cell, architecture.Edge
PLACE = skeleton_lib.Skeleton("cifar", 4, 2, 5, 8)  # Two reduction cells.
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
CANDIDATES = ("conv_1x1", "noise", "null")
CELL = Cell((Edge("conv_1x1", 0, 2), Edge("noise", 1, 2), Edge("noise", 0, 3),
             Edge("conv_1x1", 2, 3)), (2, 3))
GENOTYPE = architecture.Genotype(CELL, CELL)
ARRAYS = arrays_lib.encode(GENOTYPE, CANDIDATES)
FREE = spaces.cells("noisy", CANDIDATES, num_nodes=2)
KEYS = [jax.random.key(seed) for seed in (0, 1)]


def test_a_network_draws_in_training_and_not_in_evaluation():
  network = network_lib.module(GENOTYPE, PLACE)
  variables = network_lib.init(network, jax.random.key(0))

  @jax.jit
  def train(variables, key):
    (logits, _), _ = network.apply(variables, IMAGES, train=True, rngs={
        "noise": key}, mutable=["batch_stats"])
    return logits

  first, again, other = (train(variables, KEYS[i]) for i in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert np.max(np.abs(first - other)) > 1e-2
  # Without the stream, which evaluation has not, it is always the same.
  evaluate = jax.jit(lambda v, x: network.apply(v, x)[0])
  once = evaluate(variables, IMAGES)
  np.testing.assert_array_equal(once, evaluate(variables, IMAGES))
  assert np.all(np.isfinite(once))


@pytest.fixture(scope="module")
def drawn():
  net = supernet_lib.Supernet(FREE, PLACE._replace(cells=1))
  return net, net.init(jax.random.key(2))["params"]


@pytest.fixture(scope="module", params=["selected", "dense"])
def apply(request, drawn):
  """`(key) -> logits`, and gradients to the images."""
  net, params = drawn
  weights = dense_lib.weights(net, ARRAYS)

  @jax.jit
  def run(images, rng):
    def loss(images):
      logits = (net.apply(params, ARRAYS, images, rng=rng)
                if request.param == "selected" else dense_lib.apply(
                    net, params, weights, jnp.ones((2, 2)), images, rng=rng))
      return jnp.sum(jnp.sin(logits)), logits

    return jax.grad(loss, has_aux=True)(images)[::-1]

  return lambda key: run(IMAGES, key)


@pytest.mark.long
def test_a_supernet_draws_from_its_key(apply):
  (first, grads), (again, _), (other, _), (without, _) = map(
      apply, (KEYS[0], KEYS[0], KEYS[1], None))
  np.testing.assert_array_equal(first, again)
  assert np.max(np.abs(first - other)) > 1e-2
  np.testing.assert_array_equal(without, apply(None)[0])
  assert np.all(np.isfinite(grads)) and np.any(grads)


def test_the_backward_pass_draws_what_the_forward_pass_drew(drawn):
  """The gradient to a noise's weight is the noise itself."""
  net, params = drawn
  weights = jnp.full((2, 5, 3), 0.4)

  @jax.jit
  def gradients(weights, rng):
    def loss(weights, make):
      return jnp.sum(jnp.sin(net.run(
          {"params": params}, net.weighed(weights, jnp.ones((2, 2)), make),
          IMAGES, rng=rng)[0]))

    return [jax.grad(loss)(weights, make)
            for make in (rules.dense, rules.plain(rules.dense))]

  ours, plain = gradients(weights, KEYS[1])
  np.testing.assert_allclose(ours, plain, rtol=1e-3, atol=1e-4)
  assert np.all(np.asarray(ours)[1, :, 1] != 0)


def test_every_edge_of_every_cell_draws_for_itself():
  seen = []

  def record(functions, columns):
    def forward(params, data, x):
      seen.append(tuple(np.asarray(data.key).tolist()))
      return functions[0](params, x, None)

    return rules.EdgeRule(forward, None)

  # With choices the edges are unrolled, so that each is seen.
  own = supernet_lib.Supernet(FREE._replace(choices=((CANDIDATES,) * 5,) * 2),
                              PLACE)
  own.run(own.init(jax.random.key(0)), own.weighed(
      jnp.zeros((2, 5, 3)), jnp.ones((2, 2)), record), IMAGES, rng=KEYS[0])
  assert len(seen) == len(set(seen)) == 2 * 5
