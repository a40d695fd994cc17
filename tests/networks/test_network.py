"""Tests of `natjax.networks.network` and of the layers around its cells."""

import dataclasses
import functools
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, zoo
from natjax.graph import blocks, records
from natjax.graph import genotype as architecture
from natjax.graph import shapes as shapes_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import layers as layers_lib
from natjax.networks import network as network_lib
from natjax.operations import primitives
from tests import counting
from tests.networks import oracle
from tests.toys import toy_operation

Cell, Edge = architecture.Cell, architecture.Edge
Skeleton = skeleton_lib.Skeleton

# All kinds of operations at both strides, a source and an operation taken
# twice, null edges, nodes left out of the output, an output out of order.
GENOTYPE = architecture.Genotype(
    Cell((Edge("sep_conv_3x3", 0, 2), Edge("conv_1x3_3x1", 1, 2),
          Edge("dil_conv_5x5", 1, 3), Edge("skip_connect", 0, 3),
          Edge("max_pool_3x3", 2, 4), Edge("null", 3, 4),
          Edge("conv_3x3", 4, 5), Edge("conv_3x3", 4, 5)), (5, 3)),
    Cell((Edge("skip_connect", 0, 2), Edge("conv_1x1", 1, 2),
          Edge("max_pool_5x5", 1, 3), Edge("sep_conv_5x5", 0, 3),
          Edge("avg_pool_3x3", 2, 4), Edge("dil_conv_3x3", 3, 4),
          Edge("conv_7x1_1x7", 0, 5), Edge("null", 1, 5)), (2, 4, 5)),
)
# Sides 30, 15 and 8: an odd one meets the factorised reduce.
CIFAR = Skeleton("cifar", 4, 3, 5, 30)
# Sides 100, 50, 25 (cell 0), 13, 7.
IMAGENET = Skeleton("imagenet", 4, 3, 5, 200)

PLAIN = architecture.Genotype(*(
    Cell((Edge("conv_1x1", 0, 2), Edge("avg_pool_3x3", 1, 2)), (2,)),) * 2)


def draw_images(skeleton, batch=3, seed=0):
  side = skeleton.image_size
  rng = np.random.default_rng(seed)
  return rng.normal(size=(batch, side, side, 3)).astype(np.float32)


def draw_variables(network, seed=1):
  shapes = jax.eval_shape(functools.partial(network_lib.init, network),
                          jax.random.key(0))
  return oracle.random_weights(shapes, seed)


def trainer(network):
  """Compiled: variables, images, rate -> (logits, auxiliary), updates."""
  @jax.jit
  def apply(variables, images, rate, rng):
    return network.apply(variables, images, train=True, drop_path=rate,
                         mutable=["batch_stats"], rngs={"drop_path": rng})

  return lambda variables, images, rate=0.0, seed=0: apply(
      variables, images, rate, jax.random.key(seed))


@pytest.fixture(scope="module")
def cifar():
  """A network with an auxiliary head, its variables, training and inference."""
  network = network_lib.module(GENOTYPE, CIFAR, auxiliary=True)
  return network, draw_variables(network), trainer(network), jax.jit(
      network.apply)


# Against the plain form.


def test_training_equals_oracle(cifar):
  _, variables, train, _ = cifar
  images = draw_images(CIFAR)
  (logits, auxiliary), _ = train(variables, images)
  expected, expected_auxiliary, _ = oracle.network(
      GENOTYPE, CIFAR, variables, images, train=True)
  assert logits.dtype == auxiliary.dtype == jnp.float32
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(auxiliary, expected_auxiliary, rtol=1e-3,
                             atol=1e-4)


def test_inference_equals_oracle(cifar):
  """By running statistics; without the auxiliary head, which is dropped."""
  _, variables, _, infer = cifar
  images = draw_images(CIFAR)
  logits, auxiliary = infer(variables, images)
  expected, _, _ = oracle.network(GENOTYPE, CIFAR, variables, images,
                                  train=False)
  assert auxiliary is None
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
  # No image sees another one.
  alone, _ = infer(variables, np.repeat(images[1:2], 3, axis=0))
  np.testing.assert_allclose(alone[0], logits[1], rtol=1e-4, atol=1e-5)


def test_running_statistics(cifar):
  """Momentum 0.9, the batch's biased variance, for every BN."""
  _, variables, train, _ = cifar
  images = draw_images(CIFAR)
  _, updates = train(variables, images)
  _, _, seen = oracle.network(GENOTYPE, CIFAR, variables, images, train=True)
  new, old = updates["batch_stats"], variables["batch_stats"]
  assert 2 * len(seen) == len(jax.tree.leaves(new))
  for path, (mean, var) in seen.items():
    now, before = (functools.reduce(lambda tree, name: tree[name], path, stats)
                   for stats in (new, old))
    for name, value in (("mean", mean), ("var", var)):
      np.testing.assert_allclose(
          now["bn"][name], 0.9 * before["bn"][name] + 0.1 * value, rtol=1e-3,
          atol=1e-4, err_msg=f"{path} {name}")


def test_imagenet_skeleton_equals_oracle():
  """Three strided stem convolutions; the first cell stands after a reduction.

  The auxiliary head pools with stride 2 and has one BN less.
  """
  network = network_lib.module(PLAIN, IMAGENET, auxiliary=True)
  variables, images = draw_variables(network), draw_images(IMAGENET, batch=2)
  assert "norm1" not in variables["params"]["auxiliary"]
  (logits, auxiliary), _ = trainer(network)(variables, images)
  expected, expected_auxiliary, _ = oracle.network(
      PLAIN, IMAGENET, variables, images, train=True)
  np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(auxiliary, expected_auxiliary, rtol=1e-3,
                             atol=1e-4)


def test_bfloat16_images():
  """They are computed in bfloat16 and give float32 logits."""
  skeleton = Skeleton("cifar", 4, 3, 5, 8)
  network = network_lib.module(PLAIN, skeleton)
  variables, images = draw_variables(network), draw_images(skeleton)

  @jax.jit
  def infer(images):
    return network.apply(variables, images, capture_intermediates=True,
                         mutable=["intermediates"])

  (logits, _), state = infer(jnp.asarray(images, jnp.bfloat16))
  exact, _, _ = oracle.network(PLAIN, skeleton, variables, images, train=False)
  assert logits.dtype == jnp.float32
  assert 1e-5 < np.max(np.abs(logits - exact)) < 0.1 * np.std(exact)
  assert all(state["intermediates"][f"cell{i}"]["__call__"][0].dtype
             == jnp.bfloat16 for i in range(3))


def test_2x2_pooling_of_odd_sides():
  """NAONet's reduction cell at side 15: refused in a line, or built."""
  try:
    network = network_lib.module(zoo.get("naonet"), CIFAR)
    jax.eval_shape(functools.partial(network_lib.init, network),
                   jax.random.key(0))
  except errors.InputError as e:
    assert "\n" not in str(e)


# The auxiliary head.


def test_no_auxiliary_head_unless_asked_for(cifar):
  _, variables, _, _ = cifar
  network = network_lib.module(GENOTYPE, CIFAR)
  shapes = jax.eval_shape(functools.partial(network_lib.init, network),
                          jax.random.key(0))
  assert "auxiliary" in variables["params"]
  assert "auxiliary" not in shapes["params"]
  assert "auxiliary" not in shapes["batch_stats"]
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
  assert counting.parameters(shapes) == count
  assert counting.parameters(variables) == count
  # Neither is there drop path, so that nothing is drawn.
  (_, auxiliary), _ = jax.eval_shape(lambda v, x: network.apply(
      v, x, train=True, mutable=["batch_stats"]), shapes, draw_images(CIFAR))
  assert auxiliary is None


@pytest.mark.parametrize("kind, least, pixels", [
    ("cifar", 29, 8), ("imagenet", 193, 7)])
def test_images_too_small_for_the_auxiliary_head(kind, least, pixels):
  skeleton = Skeleton(kind, 4, 6, 10, least)
  network = network_lib.module(PLAIN, skeleton, auxiliary=True)
  shapes = jax.eval_shape(functools.partial(network_lib.init, network),
                          jax.random.key(0))
  linear = shapes["params"]["auxiliary"]["classifier"]["linear"]
  assert linear["kernel"].shape == (768, 10)
  with pytest.raises(errors.InputError, match=f"needs {pixels}") as e:
    network_lib.module(PLAIN, skeleton._replace(image_size=least - 1),
                       auxiliary=True)
  assert f"image-size {least - 1}" in str(e.value) and "\n" not in str(e.value)


def test_no_auxiliary_head_without_classes():
  with pytest.raises(errors.InputError, match="num-classes is 0"):
    network_lib.module(PLAIN, CIFAR._replace(num_classes=0), auxiliary=True)


def test_no_auxiliary_head_on_a_network_of_blocks():
  with pytest.raises(errors.InputError, match="network of blocks"):
    network_lib.module(zoo.get("resnet20"), blocks.Frame(), auxiliary=True)


# Drop path.


def run_cell(edges, rate, *, reduction=False, batch=2000, seed=0):
  """One cell's output, and that without drop path (None), [B, h, w, N, 2].

  Its inputs have 3 and 5 channels.
  """
  nodes, stride = sorted({e.target for e in edges}), 2 if reduction else 1
  shape = functools.partial(shapes_lib.Shape, size=2 * stride, stride=1)
  own = shapes_lib.Shape(2, 2, stride)
  pad = blocks.Node(2, fixed=True)
  network = architecture.expand(PLAIN, Skeleton(init_channels=2, cells=1))
  block = blocks.Block(
      (pad, pad) + (blocks.Node(2, stride),) * len(nodes),
      (Edge("conv_1x1", 0, 2), Edge("conv_1x1", 1, 3), *(
          Edge(e.operation, e.source + 2, e.target + 2) for e in edges)),
      tuple(n + 2 for n in nodes))
  norm = lambda name=None: layers_lib.BatchAffineNorm(name=name)
  module = network_lib.BlockModule(
      block, 0, network.prefix, network.preactivate, shapes_lib.Shapes(
          (shape(3), shape(5), shape(2), shape(2), *[own] * len(nodes)),
          own._replace(width=2 * len(nodes))), norm, norm)
  rng = np.random.default_rng(seed)
  inputs = [rng.normal(size=(batch, 2 * stride, 2 * stride, c)).astype(
      np.float32) for c in (3, 5)]
  variables = oracle.random_weights(jax.eval_shape(
      lambda *x: module.init(jax.random.key(0), *x, network_lib.plain, None),
      *inputs), seed)

  @jax.jit
  def apply(rate):
    y = module.apply(variables, *inputs, network_lib.plain,
                     rate, rngs={"drop_path": jax.random.key(seed)})
    return y.reshape(*y.shape[:3], len(nodes), 2)

  return np.asarray(apply(rate)), np.asarray(apply(None))


def test_drop_path_zeroes_images_of_an_edge():
  """An image is dropped or scaled as a whole; edges are dropped apart."""
  dropped, full = run_cell(
      [Edge("avg_pool_3x3", 1, 2), Edge("null", 0, 2),
       Edge("conv_1x1", 0, 3), Edge("null", 1, 3)], rate=0.4)
  kept = np.any(dropped != 0, axis=(1, 2, 4))  # [B, N]
  np.testing.assert_allclose(
      dropped, kept[:, None, None, :, None] * full / 0.6, rtol=1e-5, atol=1e-6)
  # Five standard deviations of 2000 draws.
  np.testing.assert_allclose(kept.mean(axis=0), 0.6, atol=0.055)
  # The expectation is kept: scaled draws are 1 on average.
  np.testing.assert_allclose(kept.mean(axis=0) / 0.6, 1, atol=0.09)
  both = np.mean(kept[:, 0] & kept[:, 1])
  np.testing.assert_allclose(both, 0.36, atol=0.054)


def test_parallel_edges_have_masks_of_their_own():
  """One operation twice on one edge: an image loses none, one or both."""
  dropped, full = run_cell([Edge("conv_1x1", 0, 2), Edge("conv_1x1", 0, 2),
                            Edge("max_pool_3x3", 0, 2)], rate=0.5)
  none = np.all(dropped == 0, axis=(1, 2, 3, 4)).mean()
  every = np.all(np.isclose(dropped, 2 * full, rtol=1e-4, atol=1e-5),
                 axis=(1, 2, 3, 4)).mean()
  # Of three coins; five standard deviations of 2000 draws.
  np.testing.assert_allclose([none, every], 1 / 8, atol=0.037)


def test_rate_zero_is_neutral(cifar):
  edges = [Edge("avg_pool_3x3", 1, 2), Edge("conv_1x1", 0, 2)]
  full, without = run_cell(edges, 0.0, batch=50)
  np.testing.assert_allclose(full, without, rtol=1e-6, atol=1e-6)
  _, variables, train, _ = cifar
  images = draw_images(CIFAR)
  (logits, _), _ = train(variables, images, seed=0)
  (again, _), _ = train(variables, images, seed=1)
  np.testing.assert_array_equal(logits, again)
  (dropped, _), _ = train(variables, images, 0.5)
  assert np.all(np.isfinite(dropped))
  assert np.any(np.abs(dropped - logits) > 0.01)


def test_identities_are_never_dropped():
  dropped, full = run_cell(
      [Edge("skip_connect", 1, 2), Edge("null", 0, 2),
       Edge("skip_connect", 2, 3), Edge("max_pool_3x3", 2, 3)], rate=0.9,
      batch=100)
  np.testing.assert_array_equal(dropped[..., 0, :], full[..., 0, :])
  # Node 3's own identity stays where its pooling is dropped.
  pooling = np.any(dropped[..., 1, :] != full[..., 0, :], axis=(1, 2, 3))
  assert 0 < np.sum(pooling) < 40


def test_reducing_skips_are_dropped():
  """At stride 2 a skip is a factorised reduce, no identity."""
  dropped, full = run_cell(
      [Edge("skip_connect", 1, 2), Edge("null", 0, 2)], 0.5, reduction=True,
      batch=100)
  kept = np.any(dropped != 0, axis=(1, 2, 3, 4))
  assert 25 < np.sum(kept) < 75 and np.all(np.any(full != 0, axis=(1, 2, 3, 4)))


def test_inference_drops_nothing():
  skeleton = Skeleton("cifar", 4, 1, 5, 8)
  network = network_lib.module(PLAIN, skeleton)
  variables, images = draw_variables(network), draw_images(skeleton, batch=20)

  @jax.jit
  def infer(variables, images):
    rngs = {"drop_path": jax.random.key(0)}
    return [network.apply(variables, images, drop_path=rate, rngs=rngs)[0]
            for rate in (None, 0.9)]

  full, dropped = infer(variables, images)
  np.testing.assert_array_equal(dropped, full)


# Initial values and batch normalisation.


def test_initial_variables():
  """PyTorch's kernels, U(+-1/sqrt(fan_in)); neutral BNs and statistics."""
  network = network_lib.module(PLAIN, Skeleton("cifar", 8, 1, 10, 4))
  variables = network_lib.init(network, jax.random.key(3))
  params, stats = variables["params"], variables["batch_stats"]
  kernels = {"stem": (params["stem"]["conv"]["kernel"], 27),
             "cell": (params["cell0"]["edge0_conv_1x1"]["conv"]["kernel"], 16),
             "head": (params["head"]["linear"]["kernel"], 16)}
  for kernel, fan_in in kernels.values():
    bound = fan_in ** -0.5
    assert 0.9 * bound < np.max(np.abs(kernel)) <= bound
    np.testing.assert_allclose(np.std(kernel), bound / 3 ** 0.5, rtol=0.15)
  assert np.all(params["stem"]["norm"]["bn"]["scale"] == 1)
  assert not np.any(params["stem"]["norm"]["bn"]["bias"])
  assert np.all(stats["cell0"]["preprocess0"]["norm"]["bn"]["var"] == 1)
  assert not np.any(stats["cell0"]["preprocess0"]["norm"]["bn"]["mean"])
  assert not np.any(params["head"]["linear"]["bias"])
  leaves = jax.tree.leaves(variables)
  assert all(leaf.dtype == jnp.float32 for leaf in leaves)


class _Flax(nn.Module):
  """What `RunningBatchNorm` computes, by flax's own module."""

  train: bool

  @nn.compact
  def __call__(self, x):
    return nn.BatchNorm(
        use_running_average=not self.train, momentum=0.9, dtype=x.dtype,
        use_fast_variance=False, name="bn")(x)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("shape", [(6, 4, 4, 5), (8, 5)])
def test_running_norm_is_flaxs_bit_for_bit(shape, train):
  x = 3 * jax.random.normal(jax.random.key(1), shape) + 2
  sides = layers_lib.RunningBatchNorm(train), _Flax(train)
  drawn, theirs = (side.init(jax.random.key(0), x) for side in sides)
  jax.tree.map(np.testing.assert_array_equal, drawn, theirs)
  variables = jax.tree.map(
      lambda leaf: leaf + jax.random.uniform(jax.random.key(2), leaf.shape),
      drawn)

  def run(side):
    def loss(variables, x):
      y, new = side.apply(variables, x, mutable=["batch_stats"])
      return jnp.sum(jnp.sin(y)), (y, new)

    return jax.value_and_grad(loss, (0, 1), has_aux=True)(variables, x)

  jax.tree.map(np.testing.assert_array_equal, *map(run, sides))


def test_joined_statistics_are_those_of_the_whole_batch():
  """With an axis name, devices normalise by their batches together."""
  x = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 5)).astype(np.float32)
  x[1] += 3
  whole = layers_lib.RunningBatchNorm(True)
  joined = layers_lib.RunningBatchNorm(True, "devices")
  variables = whole.init(jax.random.key(0), x[0])
  expected, new = whole.apply(variables, x.reshape(6, 4, 4, 5),
                              mutable=["batch_stats"])

  @jax.jit
  @functools.partial(jax.vmap, axis_name="devices")
  def devices(x):
    return joined.apply(variables, x, mutable=["batch_stats"])

  y, joined_new = devices(x)
  np.testing.assert_allclose(y.reshape(expected.shape), expected, atol=1e-4)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, atol=1e-5),
               joined_new, new)
  # Apart, the shifted half would be normalised to mean 0 by itself.
  assert np.mean(y[1]) > 0.5


def test_user_operation_works_by_name():
  """An operation that the library does not know stands in a cell."""
  def module(features, stride, norm):
    return lambda x: -x[:, ::stride, ::stride]

  negate = operations.Operation(
      "negate", "user", 1, module, lambda *_: operations.Cost(0, 0))
  with operations.registered(negate):
    edges = [Edge("negate", 1, 2), Edge("skip_connect", 1, 2)]
    y, _ = run_cell(edges, 0.0, batch=3)
    assert not np.any(y)
    (y, _), (z, _) = (run_cell(
        [Edge(name, 1, 2), Edge("null", 0, 2)], 0.0, batch=3)
        for name in ("negate", "skip_connect"))
    np.testing.assert_array_equal(y, -z)
    assert np.any(z)


@pytest.mark.parametrize("give,shape", [
    (lambda x: x[..., :1], "3, 2, 2, 1"), (lambda x: x.mean((1, 2)), "3, 2"),
    (lambda x: x.mean((1, 2), keepdims=True), "3, 1, 1, 2"),
    (lambda x: x.mean(0, keepdims=True), "1, 2, 2, 2")])
def test_a_user_operation_that_gives_another_shape_is_refused(give, shape):
  with operations.registered(operations.Operation(
      "bad", "user", 1, lambda features, stride, norm: give,
      lambda *_: operations.Cost(0, 0))), pytest.raises(
          errors.InputError, match=rf"'bad' gives \[{shape}\] of .* mend its"):
    jax.eval_shape(lambda: run_cell(
        [Edge("bad", 1, 2), Edge("skip_connect", 1, 2)], 0.0, batch=3))


class _Scale(nn.Module):
  """Multiplies by weights that begin with a value."""

  value: float
  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x):
    return x[:, ::self.stride, ::self.stride] * self.param(
        "factors", nn.initializers.constant(self.value), (self.features,))


def test_draws_are_of_the_operation_that_has_the_name_now():
  def drawn(value):
    with operations.registered(dataclasses.replace(
        toy_operation.OPERATION, module=functools.partial(_Scale, value))):
      cell = Cell((Edge("toy_scale", 0, 2), Edge("null", 1, 2)), (2,))
      network = network_lib.module(
          architecture.Genotype(cell, cell), Skeleton("cifar", 4, 1, 10, 8))
      return jax.tree.leaves(jax.tree.map_with_path(
          lambda path, x: x if path[-1].key == "factors" else None,
          network_lib.init(network, jax.random.key(0))["params"]))

  for value in (1.0, 2.0, 1.0):
    found = drawn(value)
    assert found and all((x == value).all() for x in found)


@pytest.mark.parametrize("module, said", [
    (lambda features, stride, norm: lambda x: x,
     "gives [2, 8, 8, 8] of [2, 8, 8, 8] and must give [2, 4, 4, 8]"),
    (lambda features, stride, norm: lambda x: x.mean((1, 2)),
     "gives [2, 8] of [2, 8, 8, 8] and must give [2, 4, 4, 8]"),
    (lambda features, stride, norm: lambda x: (x,), "gives a tuple of"),
    (lambda features, stride, norm: lambda x: None, "gives a NoneType of"),
    (lambda features, stride, norm: lambda x: x.none,
     "failed (AttributeError: "),
    (lambda features: None, "failed (TypeError: ")])
@pytest.mark.parametrize("kind", ["cells", "blocks"])
def test_shapes_of_an_operation_of_ones_own_are_checked(module, said, kind):
  bad = operations.Operation(
      "bad", "bad", 1, module,
      lambda channels, size, stride: operations.Cost(0, 0))
  with operations.registered(bad):
    if kind == "cells":
      cells = (Cell((Edge(name, 0, 2), Edge("null", 1, 2)), (2,))
               for name in ("conv_1x1", "bad"))
      made = network_lib.module(
          architecture.Genotype(*cells), Skeleton("cifar", 4, 3, 5, 8))
    else:
      made = network_lib.module(blocks.check(blocks.BlockNetwork(
          "strided", (records.Layer("conv", 8, 3),), (records.Block(
              (records.Node(8, 2),), (Edge("bad", 1, 2),), (2,)),),
          (records.Layer("global_pool"), records.Layer("linear", norm=False)))),
          records.Frame(5, 8))
    with pytest.raises(errors.InputError, match=re.escape(
        f"'bad' {said}")):
      jax.eval_shape(made.init, jax.random.key(0), jnp.zeros((2, 8, 8, 3)))


@pytest.mark.parametrize("kind", ["cells", "blocks"])
def test_a_drawn_network_has_the_bits_of_one_program(kind):
  network = network_lib.module(
      zoo.get("darts"), skeleton_lib.Skeleton("cifar", 4, 2, 10, 8)) if (
          kind == "cells") else network_lib.module(
              zoo.get("resnet20"), records.Frame(10, 8))
  found = network_lib.init(network, jax.random.key(3))
  expected = jax.jit(lambda rng: network.init(
      {"params": rng}, jnp.zeros((2, 8, 8, 3))))(jax.random.key(3))
  jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize("axis_name", [None, "devices"])
def test_a_variance_that_is_small_beside_the_mean(axis_name):
  x = np.random.default_rng(0).normal(1000, 0.1, (1, 16, 8, 8, 3))
  norm = layers_lib.RunningBatchNorm(True, axis_name)
  run = jax.vmap(lambda x: norm.init_with_output(jax.random.key(0), x)[0],
                 axis_name="devices")
  found = np.asarray(run(jnp.asarray(x, jnp.float32)), np.float64)
  # Of a variance of 0.01 the epsilon is a thousandth.
  np.testing.assert_allclose(found.std((0, 1, 2, 3)), 1, atol=0.01)


def test_sums_of_nodes_are_kept_where_several_edges_read_them(monkeypatch):
  kept = []
  monkeypatch.setattr(primitives, "materialize",
                      lambda x: kept.append(x.shape[1:]) or x)

  def shapes(network, images):
    kept.clear()
    variables = jax.eval_shape(functools.partial(network_lib.init, network),
                               jax.random.key(0))
    kept.clear()
    jax.eval_shape(network.apply, variables, images)
    return list(kept)

  cells, images = network_lib.module(GENOTYPE, CIFAR), draw_images(CIFAR)
  # Four nodes a cell; what is before them is read as it is.
  assert shapes(cells, images) == [
      (side, side, width) for side, width in ((30, 4), (15, 8), (8, 16))
      for _ in range(4)]
  assert not shapes(network_lib.module(
      zoo.get("resnet20"), records.Frame(5, 30)), images)


def test_nothing_is_kept_of_no_images():
  nothing = jnp.zeros((0, 4, 4, 2))  # `materialize` looks at a number.
  assert network_lib._kept(2, nothing) is nothing


def test_kept_sums_change_no_number(monkeypatch):
  network = network_lib.module(GENOTYPE, CIFAR)
  variables, images = draw_variables(network), draw_images(CIFAR)

  def gradient(params):
    logits, _ = network.apply({**variables, "params": params}, images)
    return jnp.sum(logits**2)

  found = jax.jit(jax.value_and_grad(gradient))(variables["params"])
  monkeypatch.setattr(network_lib, "_kept", lambda prefix, total: total)
  expected = jax.jit(jax.value_and_grad(lambda params: gradient(params)))(
      variables["params"])
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4,
                                 atol=1e-4), found, expected)


@pytest.mark.parametrize("name", ["resnet20", "mobilenetv2", "vgg16", "darts"])
def test_no_images_have_no_logits(name):
  network = zoo.get(name)
  place = CIFAR if name == "darts" else records.Frame(5, 32)
  module = network_lib.module(network, place)
  variables, images = jax.eval_shape(functools.partial(
      network_lib.init, module), jax.random.key(0)), draw_images(
          place, batch=0)
  logits, auxiliary = jax.eval_shape(module.apply, variables, images)
  assert logits.shape == (0, 5) and auxiliary is None
