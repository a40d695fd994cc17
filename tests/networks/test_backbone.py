"""Backbones whose strides became dilations, against those with strides."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, records, skeleton
from natjax.networks import backbone
from natjax.networks import network as network_lib
from tests import counting
from tests.networks import oracle

CELLS = skeleton.Skeleton("imagenet", 4, 3, 5, 65)
FRAME = blocks.Frame(5, 65)
NAMES = ("resnet18", "mobilenetv2", "darts", "vgg16")


@functools.cache
def network(name, image_size=65):
  """The linen module, narrow, and random variables."""
  if name in zoo.genotype_names():
    made = network_lib.module(
        zoo.get(name), CELLS._replace(image_size=image_size))
  else:
    narrow = blocks.scale(zoo.get(name, "imagenet"), 0.125)
    made = network_lib.module(narrow, FRAME._replace(image_size=image_size))
  like = jax.eval_shape(
      functools.partial(network_lib.init, made), jax.random.key(0))
  return made, oracle.random_weights(like, 1)


def images(height=65, width=50):
  return np.random.default_rng(0).normal(size=(2, height, width, 3)).astype("f")


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_dilated_and_strided_are_equal_where_both_are_defined(name):
  net, variables = network(name)
  found = {stride: jax.jit(backbone.module(net, stride).apply)(
      variables, images()) for stride in (32, 16, 8)}
  for stride, features in found.items():
    assert features.shape[1:3] == (-(-65 // stride), -(-50 // stride))
    every = 32 // stride
    scale = np.abs(found[32]).max()
    np.testing.assert_allclose(
        features[:, ::every, ::every], found[32], atol=1e-5 * scale)
  assert found[8].shape[-1] == backbone.module(net).width


@pytest.mark.long
def test_a_backbone_is_the_network_without_its_head():
  net, variables = network("resnet18")
  square = images(65, 65)
  features = backbone.module(net, 32).apply(variables, square)
  head = variables["params"]["head1"]["linear"]
  logits = jnp.mean(features, (1, 2)) @ head["kernel"] + head["bias"]
  np.testing.assert_allclose(
      logits, net.apply(variables, square)[0], rtol=1e-4, atol=1e-4)
  own = network_lib.init(backbone.module(net), jax.random.key(0))
  wanted = {kind: {part: tree for part, tree in held.items()
                   if not part.startswith("head")}
            for kind, held in variables.items()}
  assert jax.tree.map(np.shape, wanted) == jax.tree.map(np.shape, own)


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "darts"])
def test_gradients_are_equal_too(name):
  net, variables = network(name, 64)
  x = images(64, 32)

  def loss(params, stride):
    y = backbone.module(net, stride).apply(
        {**variables, "params": params}, x)
    every = 32 // stride
    return jnp.sum(jnp.sin(y[:, ::every, ::every]))

  gradient = jax.jit(jax.grad(loss), static_argnums=1)
  strided, dilated = (gradient(variables["params"], s) for s in (32, 8))
  for a, b in zip(*map(jax.tree.leaves, (strided, dilated)), strict=True):
    np.testing.assert_allclose(a, b, atol=2e-5 * max(np.abs(a).max(), 1))


def test_a_gradient_is_that_of_finite_differences():
  """Of the dilated one itself, at all of its pixels."""
  net, variables = network("resnet18", 64)
  x, rng = images(32, 32), np.random.default_rng(1)
  with jax.enable_x64(True):
    wide = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), variables)
    kernel = wide["params"]["block7"]["edge1_conv_3x3"]["conv"]["kernel"]
    direction = rng.normal(size=kernel.shape)

    @jax.jit
    def loss(step):
      params = jax.tree.map(lambda v: v, wide["params"])
      params["block7"]["edge1_conv_3x3"]["conv"]["kernel"] = (
          kernel + step * direction)
      y = backbone.module(net, 8).apply({**wide, "params": params},
                                        jnp.asarray(x, jnp.float64))
      return jnp.sum(jnp.sin(y))

    slope = float(jax.jit(jax.grad(loss))(0.0))
    numeric = float(loss(1e-6) - loss(-1e-6)) / 2e-6
  assert slope == pytest.approx(numeric, rel=1e-5)


def test_training_keeps_statistics():
  net, variables = network("resnet18")
  made = backbone.module(net, 16)
  _, changed = made.apply(variables, images(32, 32), train=True,
                          mutable=["batch_stats"])
  before = variables["batch_stats"]["block7"]
  after = changed["batch_stats"]["block7"]
  assert not np.allclose(*(jax.tree.leaves(t)[0] for t in (before, after)))


@pytest.mark.long
@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2", "darts"])
@pytest.mark.parametrize("stride", [32, 16, 8])
def test_costs_are_those_of_what_runs(name, stride):
  net, variables = network(name)
  made = backbone.module(net, stride)
  own = jax.eval_shape(functools.partial(network_lib.init, made),
                       jax.random.key(0))
  known = cost.backbone(net.graph, net.frame, stride)
  assert known.params == sum(
      np.prod(leaf.shape) for leaf in jax.tree.leaves(own["params"]))
  assert known.madds == counting.traced_madds(jax.make_jaxpr(made.apply)(
      variables, images(65, 65)[:1]).jaxpr)


def test_what_cannot_be_dilated_is_refused():
  net, _ = network("resnet18")
  for stride in (64, 24, 0, "16"):
    with pytest.raises(errors.InputError, match="makes images 32 times"):
      backbone.module(net, stride)
  small = network_lib.module(zoo.get("resnet20"), blocks.Frame())
  with pytest.raises(errors.InputError, match="makes images 4 times smaller"):
    backbone.module(small)
  own = operations.get("conv_3x3")
  with operations.registered(operations.Operation(
      "my_conv", "conv", 3, own.module, own.cost, widens=True,
      activates=True)):
    last = net.graph.blocks[-1]
    mine = net.graph._replace(blocks=(*net.graph.blocks[:-1], last._replace(
        edges=(records.Edge("my_conv", 1, 2), *last.edges[1:]))))
    mine = net.clone(graph=mine)
    assert backbone.module(mine, 32).output_stride == 32
    with pytest.raises(errors.InputError,
                       match="block 7: operation 'my_conv' cannot be dilated"):
      backbone.module(mine, 16)
