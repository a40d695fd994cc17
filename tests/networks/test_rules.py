"""What stands on edges, cell by cell, and derivatives that are JAX's own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import rules
from natjax.networks import supernet as supernet_lib
from tests.networks import oracle

Cell, Edge = architecture.Cell, architecture.Edge
# Of operations that JAX differentiates in every direction.
CANDIDATES = ("conv_1x1", "avg_pool_3x3", "skip_connect", "null")
SPACE = spaces.cells("rules", CANDIDATES, num_nodes=2, inputs=3)
EDGES = SPACE.graph.normal.edges
# Normal, reduction, normal, reduction, normal, of 4, 8, 8, 16 and 16 channels.
FIVE = supernet_lib.Supernet(SPACE, skeleton_lib.Skeleton("cifar", 4, 5, 5, 8))
ONE = supernet_lib.Supernet(SPACE, skeleton_lib.Skeleton("cifar", 4, 1, 5, 8))
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
COTANGENT = np.random.default_rng(1).normal(size=(3, 5)).astype("f")
CONCAT = np.array([1.0, 0.5], "f")


def drawn(net):
  return oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], 1)


def draw_cell(seed):
  """Three edges into every node, that of seed 0 with one of them twice."""
  rng = np.random.default_rng(seed)
  edges = [Edge(str(rng.choice(CANDIDATES)), int(rng.integers(t)), t)
           for t in (2, 3) for _ in range(3)]
  edges[1] = edges[0] if seed == 0 else edges[1]
  return Cell(tuple(edges), (2, 3))


def attention(functions, columns):
  """A rule of a user's own: operations by what their outputs look like."""
  del columns

  def forward(params, data, x):
    y = jnp.stack([f(params, x, data.key) for f in functions])
    scores = jnp.mean(y, (2, 3)) @ data.value  # [O, B]
    return jnp.einsum("ob,obhwc->bhwc", jax.nn.softmax(scores, 0), y)

  return rules.EdgeRule(forward, None)


def attend(ys, query):
  scores = np.stack([y.mean((1, 2)) @ query for y in ys])
  shares = np.exp(scores) / np.exp(scores).sum(0)
  return sum(share[:, None, None, None] * y
             for share, y in zip(shares, ys, strict=True))


def weigh(ys, weights):
  return sum(w * y for w, y in zip(weights, ys, strict=True))


def every(edges, inputs, reduction, run, mix, values):
  """The nodes of a cell of which every candidate runs on every edge."""
  def mixed(e, edge, x, stride):
    return mix([run(edge._replace(operation=name), x, stride)
                for name in CANDIDATES], values[e])

  found = oracle.cell(edges, inputs, reduction, mixed)
  return [found[0], found[1], *[w * found[n + 2] for n, w in enumerate(CONCAT)]]


@pytest.mark.long
def test_every_cell_has_its_own_rule():
  """Dense, selected, attention, selected, dense: as the oracle."""
  rng, net, params = np.random.default_rng(3), FIVE, drawn(FIVE)
  weights = rng.uniform(0.1, 0.6, (2, len(EDGES), 4)).astype("f")
  query = rng.normal(size=(len(EDGES), 8)).astype("f")
  cells = [draw_cell(seed) for seed in range(2)]
  arrays = arrays_lib.encode(cells, CANDIDATES)

  @jax.jit
  def ours(params, weights, query, images, arrays):
    def loss(params, weights, query, images):
      selected = [supernet_lib.How(
          arrays.operation[g], jnp.asarray(CONCAT), arrays.source[g])
          for g in range(2)]
      whole = [supernet_lib.How(value, jnp.asarray(CONCAT), None, make)
               for value, make in ((weights[0], rules.dense),
                                   (query, attention),
                                   (weights[1], rules.dense))]
      logits, _ = net.run({"params": params}, [
          whole[0], selected[0], whole[1], selected[1], whole[2]], images)
      return jnp.sum(COTANGENT * logits), logits

    return jax.grad(loss, range(4), has_aux=True)(
        params, weights, query, images)

  def plain(params, weights, query, images):
    def nodes(i, inputs, run):
      if i in (1, 3):
        found = oracle.cell(cells[i // 2].edges, inputs, True,
                            lambda _, *args: run(*args))
        return [*inputs, *[w * found[n + 2] for n, w in enumerate(CONCAT)]]
      mix, values = {0: (weigh, weights[0]), 2: (attend, query),
                     4: (weigh, weights[1])}[i]
      return every(EDGES, inputs, False, run, mix, values)

    return oracle.supernet_of(net.place, params, images, nodes)

  grads, logits = jax.device_get(ours(params, weights, query, IMAGES, arrays))
  values = (params, weights, query, IMAGES)
  np.testing.assert_allclose(logits, plain(*values), rtol=2e-3, atol=2e-3)
  oracle.assert_slopes(lambda *args: np.sum(COTANGENT * plain(*args)), values,
                       grads)
  assert np.all(np.any(grads[2], axis=1))


@pytest.mark.long
def test_derivatives_of_a_plain_rule():
  """Forward, backward twice, and forward of backward, by differences."""
  net, params = ONE, drawn(ONE)
  rng = np.random.default_rng(4)
  weights = rng.uniform(0.1, 0.6, (2, len(EDGES), 4)).astype("f")
  step = rng.normal(size=weights.shape).astype("f")
  moved = jax.tree.map(lambda x: rng.normal(size=x.shape).astype("f"), params)
  concat = jnp.broadcast_to(CONCAT, (2, 2))

  def loss(make, params, weights):
    logits, _ = net.run({"params": params}, net.weighed(weights, concat, make),
                        IMAGES)
    return jnp.sum(jnp.sin(COTANGENT * logits))

  def dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(
        jax.tree.leaves(a), jax.tree.leaves(b), strict=True))

  @jax.jit
  def derivatives(params, weights):
    function = lambda p, w: loss(rules.plain(rules.dense), p, w)
    value, first = jax.jvp(lambda w: function(params, w), (weights,), (step,))
    slope = lambda w: jax.grad(function, 1)(params, w)
    twice = jax.grad(lambda w: dot(slope(w), step))(weights)
    _, along = jax.jvp(slope, (weights,), (step,))
    mixed = jax.grad(lambda w: dot(jax.grad(function)(params, w), moved))(
        weights)
    return value, first, twice, along, dot(mixed, step)

  def plain(s, t):
    """The loss with weights moved by s and parameters by t."""
    w = np.asarray(weights, np.float64) + s * step
    p = jax.tree.map(lambda x, d: np.asarray(x, np.float64) + t * d, params,
                     moved)
    logits = oracle.supernet_of(
        net.place, p, IMAGES,
        lambda i, inputs, run: every(EDGES, inputs, True, run, weigh, w[1]))
    return np.sum(np.sin(COTANGENT * logits))

  value, first, twice, along, mixed = jax.device_get(
      derivatives(params, weights))
  h = 1e-4
  np.testing.assert_allclose(value, plain(0, 0), rtol=1e-4)
  np.testing.assert_allclose(first, (plain(h, 0) - plain(-h, 0)) / (2 * h),
                             rtol=1e-3)
  np.testing.assert_allclose(twice, along, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(
      np.sum(twice * step),
      (plain(h, 0) - 2 * plain(0, 0) + plain(-h, 0)) / h**2, rtol=1e-2)
  h = 1e-6  # The parameters' activations have kinks.
  np.testing.assert_allclose(
      mixed, (plain(h, h) - plain(h, -h) - plain(-h, h) + plain(-h, -h)) / (
          4 * h**2), rtol=2e-2)
  with pytest.raises(TypeError, match="custom_vjp"):
    jax.jvp(lambda w: loss(rules.dense, params, w), (weights,), (step,))


def test_a_plain_rule_has_the_same_gradients():
  """Of what runs only the chosen operation, in a program of its own."""
  params = drawn(ONE)
  arrays = arrays_lib.encode([draw_cell(0), draw_cell(1)], CANDIDATES)

  @jax.jit
  def gradients(params, arrays):
    def loss(params, images, make):
      how = [h._replace(make=make(h.make)) for h in ONE.selected(arrays)]
      return jnp.sum(COTANGENT * ONE.run({"params": params}, how, images)[0])

    return [jax.grad(loss, (0, 1))(params, IMAGES, make)
            for make in (lambda make: make, rules.plain)]

  ours, plain = jax.device_get(gradients(params, arrays))
  oracle.assert_close(ours, plain, rtol=1e-4)


def test_vmap_over_architectures_equals_a_loop_over_them():
  params = drawn(ONE)
  cells = [arrays_lib.encode([draw_cell(2 * seed), draw_cell(2 * seed + 1)],
                             CANDIDATES) for seed in range(3)]
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *cells)

  @jax.jit
  def both(params, arrays):
    run = lambda arrays: ONE.apply(params, arrays, IMAGES)
    return jax.vmap(run)(arrays), jax.lax.map(run, arrays)

  mapped, looped = both(params, stacked)
  np.testing.assert_allclose(mapped, looped, rtol=1e-4, atol=1e-5)
  assert np.min(np.std(mapped, axis=0)) > 1e-3
