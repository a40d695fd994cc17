"""Networks that theta weighs: equation 1, from (0, 0, 1) on."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import zoo
from natjax.graph import blocks, skeleton
from natjax.graph import genotype as architecture
from natjax.methods import mixture, theta_space
from natjax.networks import network as network_lib
from natjax.networks import trees

RESNET = blocks.scale(zoo.get("resnet20"), 0.25)
RESNET = RESNET._replace(blocks=(RESNET.blocks[0], RESNET.blocks[3]))
MOBILE = blocks.scale(zoo.get("mobilenetv2"), 0.125)
MOBILE = MOBILE._replace(blocks=MOBILE.blocks[1:3])
VGG = blocks.scale(zoo.get("vgg16"), 1 / 64)
VGG = VGG._replace(blocks=VGG.blocks[:2], head=blocks.CLASSIFIER)
E = architecture.Edge
CELL = architecture.Cell(
    (E("conv_1x1", 0, 2), E("skip_connect", 1, 2), E("null", 1, 3),
     E("max_pool_3x3", 2, 3), E("dil_conv_3x3", 0, 3)), (2, 3))
GENOTYPE = architecture.Genotype(CELL, CELL)
CELLS = skeleton.Skeleton("cifar", 2, 3, 4, 8)
FRAME = blocks.Frame(4, 8)
CASES = {
    "cells": (GENOTYPE, CELLS, "cell"),
    "cells unshared": (architecture.unshared(GENOTYPE, CELLS), FRAME, "full"),
    "resnet": (RESNET, FRAME, "full"),
    "mobilenet": (MOBILE, FRAME, "cell"),
    "vgg": (VGG, FRAME, "cell"),
}


def made(case):
  """The space, the network, and its variables as it is and weighed."""
  given, place, share = CASES[case]
  space = theta_space.ThetaSpace(given, place, share)
  net = network_lib.module(space.architecture, place)
  weighed = network_lib.init(
      net, jax.random.key(0), edge=space.weigh(space.init()))
  like = jax.eval_shape(lambda: network_lib.init(net, jax.random.key(0)))
  return space, net, [trees.restrict(weighed, like), weighed]


def images(count=2):
  return np.random.default_rng(0).normal(size=(count, 8, 8, 3)).astype("f")


def run(net, variables, x, **mix):
  (logits, _), state = net.apply(
      variables, x, train=True, drop_path=0.3, mutable=["batch_stats"],
      rngs={"drop_path": jax.random.key(1), "dropout": jax.random.key(2)},
      **mix)
  return logits, state


def paths(tree):
  return {jax.tree_util.keystr(p): leaf
          for p, leaf in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_the_first_forward_pass_is_the_given_networks(case):
  space, net, (variables, weighed) = made(case)
  with jax.disable_jit():  # Operation by operation: exactly.
    given, given_state = run(net, variables, images())
    ours, state = run(net, weighed, images(), edge=space.weigh(space.init()))
  np.testing.assert_array_equal(given, ours)
  for path, leaf in paths(given_state).items():
    np.testing.assert_array_equal(leaf, paths(state)[path])


def test_the_weights_are_drawn_as_the_given_networks():
  _, net, (_, weighed) = made("resnet")
  for path, leaf in paths(network_lib.init(net, jax.random.key(0))).items():
    np.testing.assert_array_equal(leaf, paths(weighed)[path])


@pytest.mark.long
@pytest.mark.parametrize("case", ["cells", "resnet"])
def test_compiled_it_is_within_rounding(case):
  space, net, (variables, weighed) = made(case)
  x = images(4)
  given, _ = jax.jit(lambda v, x: run(net, v, x))(variables, x)
  ours, _ = jax.jit(lambda v, x, t: run(net, v, x, edge=space.weigh(t)))(
      weighed, x, space.init())
  scale = np.abs(given).max()
  np.testing.assert_allclose(ours / scale, given / scale, atol=1e-5)


def one_block(first="conv_1x1", second="null"):
  """A network of one node, with an edge from each of the block's inputs."""
  return blocks.BlockNetwork(
      "one", stem=(blocks.Layer("conv", 4, 3),),
      blocks=(blocks.Block((blocks.Node(4),),
                           (E(first, 1, 2), E(second, 0, 2))),))


def weighed():
  space = theta_space.ThetaSpace(one_block(), blocks.Frame(3, 4))
  assert space.identities == (frozenset({0, 1}),)
  net = network_lib.module(one_block(), space.place)
  return space, net, network_lib.init(
      net, jax.random.key(0), edge=space.weigh(space.init()))


def test_equation_1_on_a_convolution_and_on_a_null():
  space, net, variables = weighed()
  x = images()[:, :4, :4]
  bias = variables["params"]["head1"]["linear"]["bias"]

  def logits(*edges):  # The classifier is linear: they mix as the edges do.
    plain = network_lib.module(one_block(*edges), space.place)
    return plain.apply(variables, x)[0] - bias

  theta = jnp.array([[5.0, 0.3, -0.7], [7.0, 0.4, 9.0]])
  found = net.apply(variables, x, edge=space.weigh((theta,)))[0] - bias
  np.testing.assert_allclose(
      found, 0.3 * logits("skip_connect", "null") - 0.7 * logits(
          "conv_1x1", "null") + 0.4 * logits("null", "skip_connect"),
      rtol=1e-5, atol=1e-6)


def test_none_and_the_same_of_a_null_have_no_gradient():
  space, net, variables = weighed()
  x = images()[:, :4, :4]
  loss = lambda theta: jnp.sum(net.apply(
      variables, x, edge=space.weigh((theta,)))[0] ** 2)
  theta = mixture.initial(2)
  grad = jax.grad(loss)(theta)
  assert (np.asarray(grad) != 0).tolist() == [
      [False, True, True], [False, True, False]]
  for column in (mixture.ID, mixture.SAME):
    up, down = (loss(theta.at[0, column].add(s)) for s in (1e-2, -1e-2))
    np.testing.assert_allclose(grad[0, column], (up - down) / 2e-2, rtol=1e-2)


def test_identities_across_shapes_are_projections():
  space, _, (_, weighed) = made("resnet")
  params = weighed["params"]["block1"]
  strided = params["edge0_skip_connect"]["conv"]["kernel"]
  assert strided.shape == (1, 1, 8, 8)  # Widths are multiples of 8.
  assert "edge0_skip_connect" not in weighed["params"]["block0"]
  assert space.identities[1] >= {0}
