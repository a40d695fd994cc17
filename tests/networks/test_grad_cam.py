"""Class activation maps against hand-computed ones and other derivatives."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.graph import blocks, records
from natjax.networks import grad_cam
from natjax.networks import network as network_lib
from tests import tiny

EDGE = blocks.Edge
PLAIN = blocks.Block(
    (blocks.Node(4, activation="relu"), blocks.Node(4)),
    (EDGE("conv_3x3", 1, 2), EDGE("conv_3x3", 2, 3),
     EDGE("skip_connect", 1, 3)))
STRIDED = blocks.Block((blocks.Node(6, 2, norm=True),),
                       (EDGE("conv_3x3", 1, 2), EDGE("max_pool_3x3", 1, 2)))
STEM = (blocks.Layer("conv", 4, 3, activation="relu"),)
CONVOLVED = (blocks.Layer("conv", 5, 1, activation="relu6"),
             *records.CLASSIFIER)
PLACE = blocks.Frame(num_classes=3, image_size=8)
NETWORKS = {
    "cells": lambda: network_lib.module(
        tiny.GENOTYPE, records.Skeleton("cifar", 2, 3, 3, 8)),
    "blocks": lambda: _module((PLAIN, STRIDED), STEM),
    "biases": lambda: _module((PLAIN,), STEM, norm="bias"),
    "head": lambda: _module((STRIDED,), STEM, CONVOLVED),
}


def _module(own, stem, head=records.CLASSIFIER, place=PLACE, **options):
  return network_lib.module(blocks.check(blocks.BlockNetwork(
      "mine", blocks=own, stem=stem, head=head, **options)), place)


@functools.cache
def made(kind):
  """A network, variables with statistics of their own, and two images."""
  module = NETWORKS[kind]()
  keys = iter(jax.random.split(jax.random.key(0), 1000))
  variables = jax.tree.map(
      lambda x: x + 0.3 * jax.random.uniform(next(keys), x.shape),
      network_lib.init(module, next(keys)))
  return module, variables, jax.random.normal(next(keys), (2, 8, 8, 3))


def test_by_hand():
  """Stem [1, 2] and [-1, 0] of red and green; classifier [3, 1], [0, 2]."""
  same = blocks.Block((blocks.Node(2),), (EDGE("skip_connect", 1, 2),))
  module = _module((same,), (blocks.Layer("conv", 2, norm=False),),
                   place=blocks.Frame(2, 2))
  variables = network_lib.init(module, jax.random.key(0))
  flat = {"stem0/conv": np.array([[[[1., -1], [2, 0], [0, 0]]]]),
          "head1/linear": np.array([[3., 0], [1, 2]])}
  params = variables["params"]
  for path, kernel in flat.items():
    layer, part = path.split("/")
    assert params[layer][part]["kernel"].shape == kernel.shape
    params[layer][part]["kernel"] = jnp.asarray(kernel, jnp.float32)
  image = np.zeros((1, 2, 2, 3), np.float32)
  image[0, :, :, 0] = [[1, 2], [-3, 0]]
  image[0, :, :, 1] = [[0, 1], [1, -1]]
  # A_1 = [[1, 4], [-1, -2]] and A_2 = [[-1, -2], [3, 0]], alpha = w / 4.
  for label, expected in ((0, [[0.5, 2.5], [0, 0]]), (1, [[0, 0], [1.5, 0]])):
    found = grad_cam.maps(module, variables, image, jnp.array([label]))
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("kind", NETWORKS)
def test_what_is_pooled_has_the_map_of_its_classifier(kind):
  """The last layer's is ReLU(sum_k w_k A_k) / (h w), Zhou et al., 2016."""
  module, variables, images = made(kind)
  labels = jnp.array([2, 0])
  found = grad_cam.maps(module, variables, images, labels)
  _, kept = module.apply(
      variables, images, capture_intermediates=True, mutable="intermediates")
  name = {"cells": "cell2", "blocks": "block1", "biases": "block0",
          "head": "head0"}[kind]
  features = kept["intermediates"][name]["__call__"][0]
  last = {"cells": "head", "head": "head2"}.get(kind, "head1")
  weights = variables["params"][last]["linear"]["kernel"]
  summed = jnp.einsum("bhwk,kb->bhw", features, weights[:, labels])
  expected = jax.nn.relu(summed) / summed[0].size
  assert found.dtype == jnp.float32 and expected.max() > 0
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("kind, layer, bias", [
    ("blocks", "block0/edge0_conv_3x3", "block0/edge0_conv_3x3/norm/bn/bias"),
    ("blocks", 1, "block1/node2_norm/bn/bias"),
    ("cells", "cell0/edge0_sep_conv_3x3",
     "cell0/edge0_sep_conv_3x3/norm1/bn/bias"),
    ("biases", "block0/edge1_conv_3x3", "block0/edge1_conv_3x3/norm/bias")])
def test_inner_layers_have_the_derivative_by_their_bias(kind, layer, bias):
  """What moves a channel everywhere is h w alpha."""
  module, variables, images = made(kind)
  image, label = images[:1], 1
  within = lambda tree, path: functools.reduce(
      lambda part, key: part[key], path.split("/"), tree)

  def logit(shift):
    params = jax.tree.map(lambda x: x, variables["params"])
    within(params, bias.removesuffix("/bias"))["bias"] += shift
    return module.apply({**variables, "params": params}, image)[0][0, label]

  slopes = jax.grad(logit)(
      jnp.zeros_like(within(variables["params"], bias)))
  _, kept = module.apply(
      variables, image, capture_intermediates=True, mutable="intermediates")
  name = layer if isinstance(layer, str) else f"block{layer}"
  features = within(kept["intermediates"], f"{name}/__call__")[0][0]
  expected = jax.nn.relu(features @ slopes) / features[..., 0].size
  found = grad_cam.maps(module, variables, image, jnp.array([label]), layer)[0]
  assert np.ptp(expected) > 0
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
def test_skips_and_poolings_have_maps_too():
  module, variables, images = made("blocks")
  image, label = images[:1], 2
  among = [*grad_cam.layers(module, variables, image)]
  assert {"block0/edge2_skip_connect", "block1/edge1_max_pool_3x3"} < {*among}
  assert among.index("block0/edge2_skip_connect") < among.index("block0")

  def logit(shift):
    def edge(site):
      own = (site.block, site.edge) == (0, 2)
      return network_lib.plain(site) + (shift if own else 0)

    return module.apply(variables, image, edge=edge)[0][0, label]

  slopes = jax.grad(logit)(jnp.zeros(4))
  _, kept = module.apply(
      variables, image, capture_intermediates=True, mutable="intermediates")
  features = kept["intermediates"]["stem0"]["__call__"][0][0]  # It copies.
  expected = jax.nn.relu(features @ slopes) / features[..., 0].size
  found = grad_cam.maps(module, variables, image, jnp.array([label]),
                        "block0/edge2_skip_connect")[0]
  assert np.ptp(expected) > 0
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("kind, outer", [
    ("cells", "stem cell0 cell1 cell2"), ("blocks", "stem0 block0 block1"),
    ("biases", "stem0 block0"), ("head", "stem0 block0 head0")])
def test_every_layer_has_a_map(kind, outer):
  module, variables, images = made(kind)
  among = grad_cam.layers(module, variables, images)
  names = [name for name in among if "/" not in name]
  assert names == outer.split()
  for name in names:
    found = grad_cam.maps(module, variables, images, jnp.array([0, 1]), name)
    assert found.shape == among[name].shape[:3]
    assert np.isfinite(found).all() and found.min() >= 0
  for i, label in enumerate((0, 1)):  # Each image as if it were alone.
    alone = grad_cam.maps(module, variables, images[i:i + 1],
                          jnp.array([label]), names[-1])
    np.testing.assert_allclose(found[i], alone[0], rtol=1e-4, atol=1e-6)


def test_half_precision():
  module, variables, images = made("biases")
  exact, rough = (grad_cam.maps(module, variables, images.astype(dtype),
                                jnp.array([2, 0]))
                  for dtype in (jnp.float32, jnp.bfloat16))
  assert rough.dtype == jnp.float32
  np.testing.assert_allclose(rough, exact, atol=0.03 * float(exact.max()))


@pytest.mark.parametrize("layer", ["block9", 2, -1, "", 1.5, True, "head0",
                                   "x" * 5000])
def test_other_layers_are_refused(layer):
  module, variables, images = made("blocks")
  with pytest.raises(errors.InputError, match="stem0 to block1") as caught:
    grad_cam.maps(module, variables, images, jnp.array([0, 1]), layer)
  assert caught.value.field == "layer" and len(str(caught.value)) < 400


def test_a_network_of_single_positions_has_no_map():
  module = _module((PLAIN,), STEM, place=blocks.Frame(3, 1))
  variables = network_lib.init(module, jax.random.key(0))
  with pytest.raises(errors.InputError, match="no layer of this network"):
    grad_cam.maps(module, variables, jnp.ones((1, 1, 1, 3)), jnp.array([0]))


def test_numbers_of_numpy_are_numbers_of_blocks():
  module, variables, images = made("blocks")
  among = grad_cam.layers(module, variables, images)
  assert grad_cam.choose(module, among, np.int64(1)) == "block1"
