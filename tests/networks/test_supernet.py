"""Tests of `natjax.networks.supernet`, over cells."""

from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, spaces, zoo
from natjax.graph import arrays as arrays_lib
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import running
from natjax.networks import supernet as supernet_lib
from natjax.spaces import base
from tests import tiny
from tests.networks import dense as dense_lib
from tests.networks import oracle

Cell, Edge = architecture.Cell, architecture.Edge

# A short list of candidates, for programs that need not know every operation.
SHORT = spaces.cells("short", ("max_pool_3x3", "conv_3x3", "null"))
# NAT's two spaces, with five nodes, and one that holds the operations of both.
SPACES = {name: space._replace(graph=base.complete(5))
          for name, space in spaces.SPACES.items()}
ALL = spaces.cells("all", tuple(dict.fromkeys((
    *SPACES["nat"].candidates[:-1], *SPACES["nat_loose_end"].candidates))),
    num_nodes=5)


class Toy(NamedTuple):
  """A small supernet with its compiled functions.

  Attributes:
    net: the supernet.
    params: random weights.
    images: [B, H, W, 3].
    selected: `(params, arrays, images) -> (logits, gradients)`, gradients of
      `sum(cotangent * logits)` to parameters and images.
    dense: `(params, weights, concat, images) -> (logits, gradients)`, and
      gradients to the weights, last.
    cotangent: [B, K].
    traces: names of the functions, once per trace.
  """

  net: supernet_lib.Supernet
  params: Any
  images: np.ndarray
  selected: Any
  dense: Any
  cotangent: np.ndarray
  traces: list


def build(space, cells, *, kind="cifar", size=8, batch=3, seed=0):
  net = supernet_lib.Supernet(
      space, skeleton_lib.Skeleton(kind, 4, cells, 5, size))
  rng = np.random.default_rng(seed)
  shapes = jax.eval_shape(net.init, jax.random.key(0))["params"]
  images = rng.normal(size=(batch, size, size, 3)).astype(np.float32)
  cotangent = rng.normal(size=(batch, 5)).astype(np.float32)
  traces = []

  def selected(params, arrays, images):
    traces.append("selected")
    logits = net.apply(params, arrays, images)
    return jnp.sum(cotangent * logits), logits

  def dense(params, weights, concat, images):
    traces.append("dense")
    logits = dense_lib.apply(net, params, weights, concat, images)
    return jnp.sum(cotangent * logits), logits

  def with_gradients(function, wanted):
    @jax.jit
    def run(*args):
      grads, logits = jax.grad(function, wanted, has_aux=True)(*args)
      return logits, grads

    return run

  return Toy(net, oracle.random_weights(shapes, seed), images,
             with_gradients(selected, (0, 2)),
             with_gradients(dense, (0, 3, 1)), cotangent, traces)


@pytest.fixture(scope="module")
def whole():
  """All candidates: one reduction cell, both of its passes, of five nodes."""
  return build(ALL, 1)


@pytest.fixture(scope="module")
def short():
  """Six cells of a short list: groups of two and of one."""
  return build(SHORT, 6)


@pytest.fixture(params=["nat", "nat_loose_end", "short"])
def case(request):
  """A toy, and the space from which its architectures are drawn."""
  name = "short" if request.param == "short" else "whole"
  return request.getfixturevalue(name), SPACES.get(request.param, SHORT)


def draw_genotype(space, seed, *, masked=None):
  """A random architecture; one source or edge twice is as likely as any."""
  rng = np.random.default_rng(seed)
  n = space.num_nodes

  def cell():
    edges = [Edge(str(rng.choice(space.candidates)), int(rng.integers(t)), t)
             for t in range(2, n + 2) for _ in range(2)]
    used = {e.source for e in edges}
    nodes = [t for t in range(2, n + 2)
             if not (space.loose_end if masked is None else masked)
             or t not in used]
    return Cell(tuple(edges), tuple(nodes))

  return architecture.Genotype(cell(), cell())


def encode(toy, genotype):
  return arrays_lib.encode(genotype, toy.net.space.candidates)


def double_genotype(space):
  """Nodes that take one source twice, by one operation and by two."""
  conv, pool = "conv_3x3", "max_pool_3x3"
  last = space.num_nodes + 1
  edges = [Edge(conv, 0, 2), Edge(conv, 0, 2), Edge(conv, 1, 3),
           Edge(pool, 1, 3), Edge(pool, 2, 4), Edge(pool, 2, 4),
           Edge(conv, 3, 5), Edge("null", 4, 5)]
  edges += [e for t in range(6, last + 1) for e in
            (Edge(conv, 4, t), Edge(conv, 4, t))]
  cell = Cell(tuple(edges), tuple(range(2, last + 1)))
  return architecture.Genotype(cell, cell)


def pairs(plan, i, edges):
  """(source, target) of the edges of a pass, in order."""
  return [plan.cell(i).edges[e][1:] for e in edges.edges]


# Sizes.


@pytest.mark.parametrize("candidates, count", [
    (spaces.SPACES["nat"].candidates, 5997350),
    (spaces.SPACES["natpp"].candidates, 15024550),
])
def test_parameters_of_the_released_supernets(candidates, count):
  """8 cells, 20 channels, 4 nodes."""
  net = supernet_lib.Supernet(
      spaces.cells("x", candidates), skeleton_lib.Skeleton(
          init_channels=20, cells=8))
  shapes = jax.eval_shape(net.init, jax.random.key(0))
  assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == count
  assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))


def test_slots_of_the_released_code():
  """(t - 2)(t + 1) / 2 + f: 14 slots with 4 nodes, 20 with 5."""
  def plan(nodes):  # Cell 0 is a normal one, cell 1 a reduction cell.
    return supernet_lib.Supernet(
        spaces.cells("x", ("conv_1x1", "null"), num_nodes=nodes),
        skeleton_lib.Skeleton("cifar", 4, 3, 5, 8)).plan

  for nodes, slots in ((4, 14), (5, 20)):
    (normal,) = plan(nodes).passes(0)
    assert len(pairs(plan(nodes), 0, normal)) == slots
    assert normal.ends.stride == 1
    for slot, (f, t) in enumerate(pairs(plan(nodes), 0, normal)):
      assert slot == (t - 2) * (t + 1) // 2 + f
      assert normal.rows["conv_1x1"][slot] == slot
    first, second = plan(nodes).passes(1)
    assert (first.ends.stride, second.ends.stride) == (2, 1)
    assert {f for f, _ in pairs(plan(nodes), 1, first)} == {0, 1}
    assert sorted([*pairs(plan(nodes), 1, first),
                   *pairs(plan(nodes), 1, second)]) == sorted(
                       pairs(plan(nodes), 0, normal))
  assert [p.store for p in plan(1).passes(1)] == ["edges0"]


# Values and gradients.


@pytest.mark.long
@pytest.mark.parametrize("seed", [*range(4), "double"])
def test_selected_equals_dense(case, seed):
  """In value, and in the gradients to parameters and images."""
  toy, space = case
  genotype = (double_genotype(space) if seed == "double"
              else draw_genotype(space, seed))
  arrays = encode(toy, genotype)
  weights = dense_lib.weights(toy.net, arrays)
  logits, gradients = toy.selected(toy.params, arrays, toy.images)
  dense_logits, dense_gradients = toy.dense(
      toy.params, weights, arrays.concat.astype(np.float32), toy.images)
  np.testing.assert_allclose(logits, dense_logits, rtol=1e-3, atol=1e-4)
  oracle.assert_close(gradients, dense_gradients[:2])
  assert any(np.any(g) for g in jax.tree.leaves(gradients[1]))


@pytest.mark.parametrize("seed", [0, 7, "double"])
def test_selected_equals_oracle(case, seed):
  """In value; every other seed leaves nodes out of the output."""
  toy, space = case
  genotype = (double_genotype(space) if seed == "double" else
              draw_genotype(space, seed, masked=seed == 7))
  assert seed != 7 or len(genotype.reduce.concat) < space.num_nodes
  logits, _ = toy.selected(toy.params, encode(toy, genotype), toy.images)
  expected = oracle.supernet(genotype, toy.net.place, toy.params, toy.images)
  assert logits.dtype == jnp.float32
  np.testing.assert_allclose(logits, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("seed", [1, "double"])
def test_gradient_equals_finite_differences(case, seed):
  """The hand-written backward pass against the plain forward pass."""
  toy, space = case
  genotype = (double_genotype(space) if seed == "double"
              else draw_genotype(space, seed))
  _, gradients = toy.selected(toy.params, encode(toy, genotype), toy.images)
  oracle.assert_slopes(
      lambda params, images: np.sum(toy.cotangent * oracle.supernet(
          genotype, toy.net.place, params, images)),
      (toy.params, toy.images), gradients)


@pytest.mark.parametrize("name", ["whole", "short"])
def test_dense_equals_oracle(request, name):
  """Any weights, as DARTS-like methods have them, and the gradient to them."""
  toy, rng = request.getfixturevalue(name), np.random.default_rng(5)
  nodes = tuple(range(2, toy.net.space.num_nodes + 2))
  edges = [(f, t) for t in nodes for f in range(t)]
  cell = Cell(tuple(Edge(operation, f, t) for f, t in edges
                    for operation in toy.net.space.candidates), nodes)
  genotype = architecture.Genotype(cell, cell)
  shape = (2, len(edges), len(toy.net.space.candidates))
  weights = rng.uniform(0, 0.5, shape).astype(np.float32)
  logits, (_, _, gradient) = jax.device_get(toy.dense(
      toy.params, weights, np.ones((2, len(nodes)), np.float32), toy.images))

  def plain(weights):
    return oracle.supernet(genotype, toy.net.place, toy.params, toy.images,
                           weights.reshape(2, -1))

  np.testing.assert_allclose(logits, plain(weights), rtol=2e-3, atol=2e-3)
  oracle.assert_slopes(lambda weights: np.sum(toy.cotangent * plain(weights)),
                       (weights,), (gradient,))


def test_operations_not_chosen_have_no_gradient(short):
  """Exactly zero; what was chosen and reaches the output has one."""
  genotype, reached = draw_genotype(short.net.space, 3), 0
  _, (gradients, _) = jax.device_get(short.selected(
      short.params, encode(short, genotype), short.images))
  plan = short.net.plan
  for run, blocks in zip(gradients["blocks"], plan.runs, strict=True):
    cell = genotype[int(blocks[0] in short.net.place.reductions)]
    for p in plan.passes(blocks[0]):
      for name, tree in run[p.store].items():
        chosen = [(name, *pair) in cell.edges
                  for pair in pairs(plan, blocks[0], p)]
        for leaf in jax.tree.leaves(tree):
          assert not np.any(leaf[:, ~np.array(chosen)])
          reached += sum(bool(np.any(leaf[:, s])) for s in np.flatnonzero(
              chosen))
  assert reached >= 8


def test_a_twice_taken_edge_counts_twice(short):
  """Weight 2 in the dense form; the same weights serve both."""
  genotype = double_genotype(short.net.space)
  weights = dense_lib.weights(short.net, encode(short, genotype))
  index = short.net.space.candidates.index
  assert weights[0, 0, index("conv_3x3")] == 2
  assert weights[0, 3, index("conv_3x3")] == 1
  assert weights[0, 3, index("max_pool_3x3")] == 1
  assert np.sum(weights, axis=(1, 2)).tolist() == [8, 8]
  assert set(np.unique(weights)) == {0, 1, 2}


def test_one_trace_serves_all_architectures(short):
  """Fifty random architectures; the dense form likewise."""
  outputs = set()
  for seed in range(50):
    genotype = draw_genotype(short.net.space, 100 + seed, masked=seed % 2 == 0)
    arrays = encode(short, genotype)
    logits, _ = short.selected(short.params, arrays, short.images)
    outputs.add(float(logits[0, 0]))
    if seed < 3:
      short.dense(short.params, dense_lib.weights(short.net, arrays),
                  arrays.concat.astype(np.float32), short.images)
  assert sorted(short.traces) == ["dense", "selected"]
  assert len(outputs) > 45


def test_nodes_left_out_leave_the_output(short):
  """A loose-end mask: only the listed nodes matter to the logits."""
  edges = [Edge("conv_3x3", f, t) for t in range(2, 6) for f in (0, 1)]

  def genotype(operation, concat):
    cell = Cell((*edges[:6], Edge(operation, 0, 5), edges[7]), concat)
    return architecture.Genotype(cell, cell)

  def logits(*args):
    return np.asarray(short.selected(
        short.params, encode(short, genotype(*args)), short.images)[0])

  np.testing.assert_array_equal(logits("conv_3x3", (2, 3)),
                                logits("null", (2, 3)))
  assert np.any(np.abs(logits("conv_3x3", (2, 3, 5))
                       - logits("null", (2, 3, 5))) > 1e-2)
  assert np.any(np.abs(logits("null", (2, 3)) - logits("null", (2, 4))) > 1e-2)


# Groups of equal cells.


def test_every_preprocessing_is_used(short):
  """The scan over a group passes each cell its own 1x1 kernels."""
  assert short.net.plan.runs == ((0, 1), (2,), (3,), (4,), (5,))
  edges = [Edge("conv_3x3", f, t) for t in range(2, 6) for f in (0, 1)]
  cell = Cell(tuple(edges), (2, 3, 4, 5))
  _, (gradients, _) = jax.device_get(short.selected(
      short.params, encode(short, architecture.Genotype(cell, cell)),
      short.images))
  for run in gradients["blocks"]:
    for layer in run["preprocess"]:
      assert all(np.any(leaf) for leaf in jax.tree.leaves(layer))


def test_imagenet_skeleton_equals_oracle():
  """Three cells; the first reduces node 0 as after a reduction cell."""
  net = supernet_lib.Supernet(
      SHORT, skeleton_lib.Skeleton("imagenet", 4, 3, 5, 64))
  params = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], 1)
  images = np.random.default_rng(2).normal(
      size=(2, 64, 64, 3)).astype(np.float32)
  genotype = draw_genotype(SHORT, 0)
  logits = jax.jit(net.apply)(
      params, arrays_lib.encode(genotype, SHORT.candidates), images)
  expected = oracle.supernet(genotype, net.place, params, images)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=2e-3)


def test_naonet_in_its_own_space():
  """Candidates that stand at stride 2 only; five nodes, loose end."""
  genotype = zoo.get("naonet")
  space = spaces.space_for(genotype)
  assert "avg_pool_2x2" in space.candidates
  net = supernet_lib.Supernet(
      space, skeleton_lib.Skeleton("cifar", 4, 1, 5, 8))
  params = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], 1)
  images = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
  logits = jax.jit(net.apply)(
      params, arrays_lib.encode(genotype, space.candidates), images)
  expected = oracle.supernet(genotype, net.place, params, images)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-3)


def test_bfloat16():
  """Computed in bfloat16 with float32 parameters and logits."""
  space = SHORT._replace(graph=base.complete(1))
  skeleton = skeleton_lib.Skeleton("cifar", 4, 1, 5, 8)
  net = supernet_lib.Supernet(space, skeleton, dtype=jnp.bfloat16)
  params = oracle.random_weights(
      jax.eval_shape(net.init, jax.random.key(0))["params"], 1)
  images = np.random.default_rng(2).normal(size=(3, 8, 8, 3)).astype(np.float32)
  cell = Cell((Edge("conv_3x3", 0, 2), Edge("max_pool_3x3", 1, 2)), (2,))
  genotype = architecture.Genotype(cell, cell)
  logits = jax.jit(net.apply)(
      params, arrays_lib.encode(genotype, space.candidates), images)
  expected = oracle.supernet(genotype, skeleton, params, images)
  assert logits.dtype == jnp.float32
  assert 1e-5 < np.max(np.abs(logits - expected)) < 0.1 * np.std(expected)


# Initial values.


class Scale(nn.Module):
  """A user's operation, with kernels that start from values of its own."""

  features: int
  stride: int
  norm: Any

  @nn.compact
  def __call__(self, x):
    kernel = self.param("kernel", nn.initializers.constant(7.0),
                        (self.features, 3))
    bias = self.param("bias", nn.initializers.constant(-2.0), (self.features,))
    return x[:, ::self.stride, ::self.stride] * jnp.sum(kernel, -1) + bias


@pytest.fixture(scope="module")
def initialised():
  scale = operations.Operation(
      "scale", "scale", 1, Scale, lambda c, *_: operations.Cost(4 * c, 0))
  space = spaces.cells(
      "own", ("sep_conv_3x3", "conv_3x3", "scale", "null"), num_nodes=3)
  with operations.registered(scale):
    net = supernet_lib.Supernet(
        space, skeleton_lib.Skeleton(init_channels=8, cells=4, image_size=8))
    yield net, [net.init(jax.random.key(seed))["params"]
                for seed in (0, 0, 1)]


def kernels(params):
  """The library's kernels: name, values, fan-in."""
  for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
    name = jax.tree_util.keystr(path)
    if path[-1].key == "kernel" and "scale" not in name:
      shape = leaf.shape[-2:] if "head" in name else leaf.shape[-4:]
      yield name, np.asarray(leaf), np.prod(shape[:-1])


def test_kernels_start_as_pytorch_has_them(initialised):
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), no value drawn twice."""
  _, (params, _, _) = initialised
  scaled = []
  for name, leaf, fan_in in kernels(params):
    unit = leaf * np.sqrt(fan_in)
    assert np.max(np.abs(unit)) <= 1 + 1e-6, name
    count = leaf.size
    # Five standard deviations of mean and variance of so many draws.
    assert abs(np.mean(unit)) < 5 / np.sqrt(3 * count), name
    assert abs(np.var(unit) - 1 / 3) < 5 * np.sqrt(4 / 45 / count), name
    scaled.append(unit.ravel())
  scaled = np.concatenate(scaled)
  assert np.max(np.abs(scaled)) > 0.99
  histogram, _ = np.histogram(scaled, 10, (-1, 1))
  np.testing.assert_allclose(histogram / scaled.size, 0.1, atol=0.01)
  # float32 draws repeat by chance only: far from one layer copying another.
  assert len(np.unique(np.round(scaled, 6))) > 0.9 * scaled.size


def test_neutral_start_of_the_other_parameters(initialised):
  _, (params, _, _) = initialised
  assert np.all(params["stem"]["layer0"]["norm"]["scale"] == 1)
  assert not np.any(params["stem"]["layer0"]["norm"]["bias"])
  assert not np.any(params["head"]["layer1"]["linear"]["bias"])
  # No BN of a cell has parameters.
  names = {path[-1].key for path, _ in jax.tree_util.tree_flatten_with_path(
      [run["preprocess"] for run in params["blocks"]])[0]}
  assert names == {"kernel"}


def test_user_parameters_keep_their_own_start(initialised):
  net, (params, _, _) = initialised
  seen = 0
  for run, blocks in zip(params["blocks"], net.plan.runs, strict=True):
    for name in {"edges0", "edges1"} & set(run):
      own = run[name]["scale"]
      slots = run[name]["conv_3x3"]["conv"]["kernel"].shape[1]
      channels = net.place.channels[blocks[0]]
      assert own["kernel"].shape == (len(blocks), slots, channels, 3)
      assert np.all(own["kernel"] == 7) and np.all(own["bias"] == -2)
      seen += 1
  assert seen == 6


def test_keys_of_the_older_kind_give_the_same():
  net = tiny.make_nat().supernet
  new, old = (jax.jit(net.init)(make(3))
              for make in (jax.random.key, jax.random.PRNGKey))
  jax.tree.map(np.testing.assert_array_equal, new, old)


def test_initial_values_follow_the_key(initialised):
  _, (first, again, other) = initialised
  jax.tree.map(np.testing.assert_array_equal, first, again)
  for (name, a, _), (_, b, _) in zip(kernels(first), kernels(other),
                                     strict=True):
    assert not np.any(a == b), name


def test_old_keys_draw_what_typed_ones_do():
  net = supernet_lib.Supernet(
      SHORT, skeleton_lib.Skeleton("cifar", 2, 1, 5, 8))
  jax.tree.map(np.testing.assert_array_equal, *(
      net.init(make(0)) for make in (jax.random.key, jax.random.PRNGKey)))


def test_nodes_stand_side_by_side_as_channels():
  nodes = jnp.arange(4 * 2 * 3 * 3 * 5, dtype=jnp.float32).reshape(
      4, 2, 3, 3, 5)
  np.testing.assert_array_equal(
      running._joined(nodes), np.concatenate([*np.asarray(nodes)], -1))
  gradient = jax.grad(lambda x: jnp.sum(running._joined(x)**2))
  np.testing.assert_array_equal(gradient(nodes), 2 * nodes)
  text = jax.jit(gradient).lower(nodes).as_text()
  assert "transpose" in text and "pad" not in text


@pytest.mark.parametrize("module, stride, said", [
    (lambda features, stride, norm: nn.Conv(features + 1, (1, 1), stride), 1,
     r"\[3, 8, 8, 5\] of \[3, 8, 8, 4\] and must give \[3, 8, 8, 4\]"),
    (lambda features, stride, norm: lambda x: x, 2,
     r"\[3, 8, 8, 8\] of \[3, 8, 8, 8\] and must give \[3, 4, 4, 8\]"),
    (lambda features, stride, norm: lambda x: x.mean((1, 2)), 1,
     r"\[3, 4\] of \[3, 8, 8, 4\] and must give \[3, 8, 8, 4\]")])
@pytest.mark.parametrize("form", ["selected", "dense"])
def test_shapes_of_an_operation_of_ones_own_are_checked(
    module, stride, said, form):
  bad = operations.Operation(
      "bad", "bad", 1, module,
      lambda channels, size, stride: operations.Cost(0, 0))
  with operations.registered(bad):
    space = spaces.cells("wrong", ("bad", "conv_1x1", "null"), num_nodes=1)
    net = supernet_lib.Supernet(space, skeleton_lib.Skeleton(
        "cifar", 4, 3 if stride == 1 else 1, 5, 8))
    cell = Cell((Edge("null", 0, 2), Edge("conv_1x1", 1, 2)), (2,))
    arrays = arrays_lib.encode(
        architecture.Genotype(cell, cell), space.candidates)
    run = (lambda params, images: net.apply(params, arrays, images)) if (
        form == "selected") else (lambda params, images: dense_lib.apply(
            net, params, dense_lib.weights(net, arrays), arrays.concat, images))
    params = jax.eval_shape(net.init, jax.random.key(0))["params"]
    with pytest.raises(errors.InputError, match=f"'bad' gives {said}; mend"):
      jax.eval_shape(run, params, jnp.zeros((3, 8, 8, 3)))
