"""The head of DeepLabV3."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax.graph import blocks
from natjax.networks import backbone, deeplab, layers
from natjax.networks import network as network_lib
from tests import counting
from tests.networks import oracle

norm = functools.partial(layers.RunningBatchNorm, False)


def head(output_stride, shape):
  module = deeplab.Head(4, output_stride, norm, False, width=3)
  like = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros(shape))
  return module, oracle.random_weights(like, 1)


@pytest.mark.parametrize("stride, rates", [(16, (6, 12, 18)),
                                           (8, (12, 24, 36))])
def test_the_head_is_that_of_the_paper(stride, rates):
  shape = (2, 15, 14, 5)
  x = np.random.default_rng(0).normal(size=shape).astype("f")
  module, variables = head(stride, shape)
  scope = oracle.scope(variables["params"], variables["batch_stats"])

  def block(x, name, dilation=1):
    kernel = scope.params[f"{name}_conv"]["kernel"]
    y = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", rhs_dilation=(dilation,) * 2,
        dimension_numbers=("NHWC", "HWIO", "NHWC"))
    return np.maximum(oracle.norm(np.asarray(y), scope.at(f"{name}_norm")), 0)

  with jax.enable_x64(True):
    wide = x.astype(np.float64)
    parts = [block(wide, "aspp0"), *(
        block(wide, f"aspp{i}", rate) for i, rate in enumerate(rates, 1))]
    mean = block(wide.mean((1, 2), keepdims=True), "pooling")
    parts.append(np.broadcast_to(mean, parts[0].shape))
    y = block(np.concatenate(parts, -1), "project")
  expected = (y @ scope.params["classifier"]["kernel"][0, 0]
              + scope.params["bias"])
  np.testing.assert_allclose(
      module.apply(variables, x), expected, atol=1e-4)


def test_upsampling_has_half_pixel_centers():
  x = jnp.array([0.0, 4.0]).reshape(1, 1, 2, 1)
  y = deeplab.upsample(x, 1, 4)[0, 0, :, 0]
  np.testing.assert_allclose(y, [0, 1, 3, 4])


def test_costs_are_those_of_what_runs():
  module, variables = head(16, (1, 5, 5, 6))
  known = deeplab.cost(6, 5, 4, width=3)
  assert known.params == counting.size(variables["params"])
  assert known.madds == counting.traced_madds(jax.make_jaxpr(module.apply)(
      variables, jnp.zeros((1, 5, 5, 6))).jaxpr)


def test_dilations_follow_from_the_stride_of_a_network_as_it_is():
  block = blocks.Block((blocks.Node(4, 2),), (blocks.Edge("conv_3x3", 1, 2),))
  graph = blocks.BlockNetwork("tiny", (), (block,) * 3)
  as_it_is, same = (deeplab.DeepLabV3(backbone.Backbone(
      graph, blocks.Frame(2, 8), stride), 2, width=3) for stride in (None, 8))
  x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("f")
  variables = oracle.random_weights(
      jax.eval_shape(same.init, jax.random.key(0), x), 1)
  np.testing.assert_array_equal(
      as_it_is.apply(variables, x), same.apply(variables, x))


def test_dropout_is_in_training_alone():
  block = blocks.Block((blocks.Node(4, 2),), (blocks.Edge("conv_3x3", 1, 2),))
  net = network_lib.module(blocks.BlockNetwork(
      "tiny", (), (block,)), blocks.Frame(2, 8))
  module = deeplab.DeepLabV3(backbone.module(net, 2), 3, 4, dropout=0.5)
  x = jnp.ones((2, 9, 6, 3))
  variables = module.init(jax.random.key(0), x)
  assert set(variables["params"]) == {"backbone", "head"}
  run = lambda seed: module.apply(
      variables, x, train=True, mutable=["batch_stats"],
      rngs={"dropout": jax.random.key(seed)})[0]
  assert run(0).shape == (2, 9, 6, 3)
  assert (run(0) == run(0)).all() and (run(0) != run(1)).any()
