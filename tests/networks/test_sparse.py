"""What weighs 0 is not computed, and the rest is as in the dense form."""

import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import operations, spaces
from natjax.graph import blocks, records
from natjax.networks import rules, supernet
from natjax.operations import primitives
from tests.networks import oracle

NAMES = ("max_pool_3x3", "skip_connect", "sep_conv_3x3", "conv_1x1", "null")
# Two names or one per edge, two edges of null alone.
CHOICES = ((NAMES[:2], NAMES[1:3], ("conv_1x1",), ("null",), NAMES[2:4]),
           (("sep_conv_3x3", "null"), NAMES[:2], NAMES[1:3], NAMES[2:4],
            ("null",)))
# A normal cell and two reduction cells, of 2, 4 and 8 channels.
THREE = records.Skeleton("cifar", 2, 3, 5, 8)
ONE = records.Skeleton("cifar", 2, 1, 5, 8)  # A reduction cell.
IMAGES = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
COTANGENT = np.random.default_rng(1).normal(size=(3, 5)).astype("f")
RULES = {"dense": rules.dense, "sparse": rules.sparse}


def cells(names=NAMES, **changes):
  return spaces.cells("mine", names, num_nodes=2, **changes)


def nasbench():
  """Two cells of 2 channels, a residual block, two cells of 4."""
  space = spaces.SPACES["nasbench201"]
  graph = blocks.scale(space.graph, 1 / 8)
  return space._replace(graph=graph._replace(
      blocks=(*graph.blocks[:2], *graph.blocks[5:8])))


FEW = ("max_pool_3x3", "skip_connect", "conv_1x1", "null")
MAKE = {
    "edge": lambda: (cells(FEW), THREE),
    "source": lambda: (cells(FEW, weights="source"), THREE),
    "choices": lambda: (cells(choices=CHOICES), ONE),
    "shared choices": lambda: (cells(choices=CHOICES, weights="source"), ONE),
    "nasbench201": lambda: (nasbench(), records.Frame(5, 8))}


class Case(NamedTuple):
  """A supernet with its compiled function.

  Attributes:
    name: of the case.
    net: the supernet.
    params: random weights.
    allowed: bool[G, E, O], what may stand there, null aside.
    run: `(params, weights)` -> per rule (logits, (gradients to both)).
  """

  name: str
  net: supernet.Supernet
  params: Any
  allowed: np.ndarray
  run: Any


def run(net, make, params, weights, rng=None):
  concat = jnp.ones((len(weights), net.space.num_nodes))
  return net.run({"params": params}, net.weighed(weights, concat, make),
                 IMAGES.astype(net.dtype), rng=rng)[0]


def derive(net, make, params, weights, rng=None):
  def loss(params, weights):
    logits = run(net, make, params, weights, rng)
    return jnp.sum(COTANGENT * logits), logits

  grads, logits = jax.grad(loss, (0, 1), has_aux=True)(params, weights)
  return logits, grads


def drawn(net, seed=1):
  return oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], seed)


@functools.cache
def build(name):
  net = supernet.Supernet(*MAKE[name]())
  decisions, names = net.plan.decisions, net.space.candidates
  allowed = np.zeros((len(decisions), max(
      len(d.cell.edges) for d in decisions), len(names)), bool)
  for g, decision in enumerate(decisions):
    for e in range(len(decision.cell.edges)):
      allowed[g, e] = [not decision.fixed[e] and name != "null"
                       and name in net.space.names(g, e) for name in names]
  return Case(name, net, drawn(net), allowed, jax.jit(lambda *args: {
      rule: derive(net, make, *args) for rule, make in RULES.items()}))


@pytest.fixture(params=MAKE, scope="module")
def case(request):
  return build(request.param)


def weights_of(case, kind):
  """f32[G, E, O]: of every candidate, of some, of one per edge, of none."""
  rng = np.random.default_rng(7)
  weights = rng.uniform(0.2, 0.8, case.allowed.shape).astype("f")
  if kind == "some":
    weights *= rng.random(weights.shape) < 0.35
  elif kind == "one":
    weights = np.eye(weights.shape[-1], dtype="f")[
        rng.integers(0, weights.shape[-1], weights.shape[:2])]
  return weights * (kind != "none")


KINDS = ("all", "some", "one", "none")


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS)
def test_sparse_equals_dense(case, kind):
  """And what weighs 0, in all it is weighed for, gets no gradient."""
  weights = weights_of(case, kind)
  found = jax.device_get(case.run(case.params, weights))
  (logits, (g_params, g_weights)), dense = found["sparse"], found["dense"]
  oracle.assert_close((logits, g_params), (dense[0], dense[1][0]))
  live = (weights != 0) & case.allowed
  oracle.assert_close(np.where(live, g_weights, 0),
                      np.where(live, dense[1][1], 0))
  assert not g_weights[~case.allowed].any()
  if case.net.space.weights == "edge":
    assert not g_weights[~live].any()
  assert (kind == "none") == (not g_weights.any())


@pytest.mark.parametrize("kind", KINDS[1:])
def test_what_weighs_nothing_is_not_computed(case, kind):
  """Its parameters may be NaN, and all else stays as it is."""
  weights, plan = weights_of(case, kind), case.net.plan
  params = jax.tree.map(np.array, case.params)
  lost = 0
  for r, numbers in enumerate(plan.runs):
    for edges in plan.passes(numbers[0]):
      for name, held in params["blocks"][r].get(edges.store, {}).items():
        if edges.fixed:
          continue
        of = weights[plan.decided[numbers[0]], list(edges.edges),
                     case.net.space.candidates.index(name)]
        rows = edges.rows[name]
        dead = sorted({*rows[rows >= 0]} - {*rows[of != 0]})
        for leaf in jax.tree.leaves(held):
          leaf[:, dead] = np.nan
          lost += len(dead)
  assert lost
  before, after = (jax.device_get(case.run(p, weights)["sparse"])
                   for p in (case.params, params))
  jax.tree.map(np.testing.assert_array_equal, after, before)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after))


def test_fixed_edges_are_not_weighed():
  """The residual block's 3x3 convolutions, which are among the candidates."""
  case = build("nasbench201")
  weights = weights_of(case, "all")
  other = np.where(case.allowed, weights, 3.0)
  (logits, (grads, _)), (others, _) = (jax.device_get(
      case.run(case.params, w)["sparse"]) for w in (weights * case.allowed,
                                                    other))
  np.testing.assert_array_equal(logits, others)
  assert all(leaf.any() for leaf in jax.tree.leaves(grads["blocks"][1]))


def plain_nasbench(params, images, weights):
  """Logits of `nasbench`, in numpy; biases before a BN do not matter."""
  top = oracle.scope(params)
  x = oracle.layer(records.Layer("conv"), images, top.at("stem").at("layer0"))
  for run, count in zip(top.params["blocks"], (2, 1, 2), strict=True):
    for j in range(count):
      if count == 1:
        x = plain_residual(run, x)
        continue
      nodes = {1: x, 2: 0, 3: 0, 4: 0}
      for e, (s, t) in enumerate(((1, 2), (1, 3), (2, 3), (1, 4), (2, 4),
                                  (3, 4))):
        for o, name in enumerate(("skip_connect", "conv_1x1", "conv_3x3",
                                  "avg_pool_3x3")):
          own = {} if "conv_" not in name else {"conv": {
              "kernel": run["edges0"][name]["conv"]["kernel"][j, e]}}
          nodes[t] = nodes[t] + weights[0, e, o] * oracle.operation(
              name, nodes[s], oracle.scope(own), 1)
      x = nodes[4]
  x = oracle.relu(oracle.norm(x, top.at("head").at("layer0").at("norm")))
  return oracle.classify(x.mean((1, 2)), top.at("head").at("layer2"))


def plain_residual(run, x):
  """Two convolutions with BN; a mean and a convolution without."""
  of = lambda store, name: oracle.scope(jax.tree.map(
      lambda leaf: leaf[0, 0], run[store][name]))
  y = oracle.relu_conv_norm(x, of("edges0", "conv_3x3"), stride=2)
  y = oracle.relu_conv_norm(y, of("edges2", "conv_3x3"))
  kernel = of("edges3", "plain_conv_1x1").params["conv"]["kernel"]
  return y + oracle.conv(oracle.pool(x, 2, np.mean, stride=2), kernel)


def test_nasbench201_equals_the_oracle():
  """Pooling has no BN, and that of fixed edges has its parameters."""
  case = build("nasbench201")
  weights = weights_of(case, "some")
  logits, grads = jax.device_get(case.run(case.params, weights)["sparse"])
  np.testing.assert_allclose(
      logits, plain_nasbench(case.params, IMAGES, weights), rtol=2e-3,
      atol=2e-3)
  off = weights == 0
  oracle.assert_slopes(
      lambda params, moved: np.sum(COTANGENT * plain_nasbench(
          params, IMAGES, np.where(off, 0, moved))),
      (case.params, weights), grads)


class Counted(nn.Module):
  """A factor per channel; whatever runs it is counted."""

  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x):
    factors = self.param("factors", nn.initializers.ones, (self.features,))
    jax.debug.callback(CALLS.append, jnp.sum(factors))
    return factors * x[:, ::self.stride, ::self.stride]


CALLS: list[Any] = []
# Edges by target and source: node 2 of nodes 0 and 1, node 3 of all three.
COUNTS = [
    ("edge", [1, 1, 1, 1, 1], 5), ("source", [1, 1, 1, 1, 1], 3),
    ("edge", [1, 0, 1, 0, 0], 2), ("source", [1, 0, 1, 0, 0], 1),
    ("edge", [0, 1, 1, 0, 1], 3), ("source", [0, 1, 1, 0, 1], 3),
    ("edge", [0] * 5, 0), ("source", [0] * 5, 0)]


def test_a_feature_is_computed_once():
  """For all nodes that take it, where sources have weights of their own."""
  counted = operations.Operation(
      "counted", "counted", 1, Counted,
      lambda channels, size, stride: operations.Cost(channels, 0))
  with operations.registered(counted):
    functions = {}
    for kind in ("edge", "source"):
      net = supernet.Supernet(spaces.cells(
          "mine", ("counted", "null"), num_nodes=2, weights=kind), ONE)
      params = net.init(jax.random.key(0))["params"]
      functions[kind] = [jax.jit(functools.partial(
          function, net, rules.sparse, params)) for function in (run, derive)]
    for kind, on, expected in COUNTS:
      weights = np.zeros((2, 5, 2), "f")
      weights[1, :, 0] = on
      for function, times in zip(functions[kind], (1, 2), strict=True):
        CALLS.clear()
        jax.block_until_ready(function(weights))
        jax.effects_barrier()
        assert len(CALLS) == times * expected  # The backward pass once more.


# Operations that draw.


@pytest.fixture(scope="module")
def noisy():
  """By hand-written derivatives, and by JAX's own."""
  net = supernet.Supernet(spaces.cells(
      "mine", ("noise", "conv_1x1", "null"), num_nodes=2), THREE)
  functions = []
  for context in (jax.named_scope("hand"), primitives.plain_derivatives()):
    function = jax.jit(lambda *args: derive(net, rules.sparse, *args))
    with context:
      functions.append(function.lower(
          drawn(net), np.ones((2, 5, 3), "f"), jax.random.key(0)).compile())
  return drawn(net), *functions


@pytest.mark.long
def test_noise_is_the_same_forward_and_backward(noisy):
  params, run, plain = noisy
  weights = np.random.default_rng(2).uniform(
      0.2, 0.8, (2, 5, 3)).astype("f")
  weights[1, 2] = weights[0, 0] = 0
  first, again, other = (jax.device_get(run(params, weights, key))
                         for key in map(jax.random.key, (3, 3, 4)))
  oracle.assert_close(first, jax.device_get(
      plain(params, weights, jax.random.key(3))))
  jax.tree.map(np.testing.assert_array_equal, first, again)
  assert np.abs(first[0] - other[0]).max() > 1e-3
  assert (first[1][1][..., 0] != 0).tolist() == (weights[..., 0] != 0).tolist()


@pytest.mark.long
def test_every_edge_draws_noise_of_its_own(noisy):
  """Else what two edges into a node draw would cancel."""
  params, run, _ = noisy
  weights = np.zeros((2, 5, 3), "f")
  nothing, _ = run(params, weights, jax.random.key(3))
  weights[:, :2, 0] = [1, -1]
  logits, _ = run(params, weights, jax.random.key(3))
  assert np.abs(logits - nothing).max() > 1e-2


# Second derivatives.


@pytest.mark.long
def test_second_derivatives():
  """Forward over reverse, against differences of hand-written gradients."""
  with jax.enable_x64(True):
    net = supernet.Supernet(cells(weights="source"), ONE, dtype=jnp.float64)
    rng = np.random.default_rng(3)
    weights = rng.uniform(0.2, 0.8, (2, 5, len(NAMES)))
    weights[1, 0, :3] = weights[1, 2, 1:3] = weights[1, 4, 2] = 0
    at = jax.tree.map(lambda leaf: leaf.astype(np.float64),
                      (drawn(net), weights))
    step = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), at)
    step[1][weights == 0] = 0

    def gradient(args):
      logits, grads = derive(net, rules.sparse, *args)
      assert logits.dtype == jnp.float64
      return grads

    with primitives.plain_derivatives():
      value, found = jax.device_get(jax.jit(
          lambda: jax.jvp(lambda args: gradient(args), (at,), (step,)))())
    compiled, h = jax.jit(gradient), 1e-6
    ends = [jax.device_get(compiled(jax.tree.map(
        lambda x, d, h=h: x + h * d, at, step))) for h in (h, -h)]
    oracle.assert_close(value, jax.device_get(compiled(at)), rtol=1e-9)
  assert all(leaf.dtype == np.float64 for leaf in jax.tree.leaves(found))
  oracle.assert_close(found, jax.tree.map(
      lambda a, b: (a - b) / (2 * h), *ends), rtol=1e-4)
  assert np.abs(found[1]).max() > 1e-3


# Bottlenecks.


def plain(net, params, images, weights):
  """Logits of a supernet of cells with bottlenecks, in numpy, edge by edge."""
  places = [(run, j) for run in params["blocks"]
            for j in range(len(run["preprocess"]))]

  def rows(reduction, edge):
    """Edges from the inputs and those between nodes lie apart in any cell."""
    outer, number = edge.source < 2, int(reduction)
    keys = [other.source if net.space.weights == "source" else other[1:]
            for e, other in enumerate(net.space.graph[number].edges)
            if (other.source < 2) == outer
            and edge.operation in net.space.names(number, e)]
    own = edge.source if net.space.weights == "source" else edge[1:]
    return f"edges{int(not outer)}", list(dict.fromkeys(keys)).index(own)

  def nodes(i, inputs, run):
    stored, j = places[i]
    reduction = i in net.place.reductions
    cell = net.space.graph[reduction]

    def pointwise(part, n, x):
      kernel = stored[part]["conv"]["kernel"][j, n]
      return oracle.norm(oracle.conv(x, kernel), oracle.scope({}))

    full = [*inputs]
    narrow = [pointwise("reduce", n, x) for n, x in enumerate(inputs)]
    for n in range(2, 2 + cell.num_nodes):
      total = 0
      for e, edge in enumerate(cell.edges):
        stride = 2 if reduction and edge.source < 2 else 1
        for o, name in enumerate(NAMES[:-1]):
          if edge.target == n and name in net.space.names(int(reduction), e):
            total = total + weights[int(reduction)][e, o] * run(
                edge._replace(operation=name), narrow[edge.source], stride)
      full.append(pointwise("recover", n - 2, total))
      if n < cell.num_nodes + 1:
        narrow.append(pointwise("reduce", n, full[n]))
    return full

  return oracle.supernet_of(net.place, params, images, nodes, rows)


@pytest.mark.long
@pytest.mark.parametrize("kind, nodes, place, changes", [
    ("source", 3, records.Skeleton("cifar", 8, 3, 5, 8), {}),
    ("edge", 2, records.Skeleton("cifar", 8, 1, 5, 8), {"choices": CHOICES}),
    ("source", 1, records.Skeleton("cifar", 8, 1, 5, 8), {})])
def test_bottleneck_equals_the_oracle(kind, nodes, place, changes):
  """In value and all gradients, with zeros among the weights."""
  net = supernet.Supernet(spaces.cells(
      "mine", NAMES, num_nodes=nodes, weights=kind, bottleneck=4, **changes),
      place)
  params, rng = drawn(net), np.random.default_rng(5)
  edges = len(net.space.graph.normal.edges)
  weights = rng.uniform(0.2, 0.8, (2, edges, len(NAMES))).astype("f")
  off = rng.random(weights.shape) < 0.3
  off[:, :2, 1] = False  # Every node adds something.
  weights[off] = 0
  logits, (g_params, g_weights) = jax.device_get(jax.jit(
      functools.partial(derive, net, rules.sparse))(params, weights))
  np.testing.assert_allclose(logits, plain(net, params, IMAGES, weights),
                             rtol=2e-3, atol=2e-3)
  oracle.assert_slopes(
      lambda params, moved: np.sum(COTANGENT * plain(
          net, params, IMAGES, np.where(off, 0, moved))),
      (params, weights), (g_params, np.where(off, 0, g_weights)))


def test_an_operation_of_a_bottleneck_that_weighs_nothing_is_not_computed():
  net = supernet.Supernet(cells(weights="source", bottleneck=2),
                          ONE._replace(init_channels=4))
  params = drawn(net)
  weights = np.full((2, 5, len(NAMES)), 0.5, "f")
  weights[..., 2] = 0
  for store in ("edges0", "edges1"):
    held = params["blocks"][0][store]
    held["sep_conv_3x3"] = jax.tree.map(
        lambda leaf: np.full_like(leaf, np.nan), held["sep_conv_3x3"])
  found = jax.jit(functools.partial(derive, net, rules.sparse))(params, weights)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
