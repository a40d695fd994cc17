"""Networks without a classifier, and the number of their features."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import spaces, zoo
from natjax.costs import exact as cost
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, codec, records, skeleton
from natjax.graph import shapes as shapes_lib
from natjax.networks import network as network_lib
from natjax.networks import supernet
from tests.networks import oracle

SKELETON = skeleton.Skeleton("cifar", 4, 3, 5, 8)
NAMES = ("darts", "resnet20", "vgg16", "mobilenetv2", "shufflenet",
         "mobilefacenet")


def place_of(network, num_classes, image_size=8):
  if isinstance(network, blocks.BlockNetwork):
    return blocks.Frame(num_classes, image_size)
  return SKELETON._replace(num_classes=num_classes, image_size=image_size)


def small(name):
  network = zoo.get(name)
  if isinstance(network, blocks.BlockNetwork):
    return blocks.scale(network, 0.5) if name == "resnet20" else network
  return network


def shapes_of(network, place):
  net = network_lib.module(network, place)
  return net, jax.eval_shape(functools.partial(network_lib.init, net),
                             jax.random.key(0))


def num_features(network, place):
  return shapes_lib.num_features(codec.expand(network, place), place)


def apply_shapes(net, shapes, size):
  images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)
  return jax.eval_shape(net.apply, shapes, images)


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_features_and_costs_of_a_network_without_classifier(name):
  """Shapes alone: F features, and the classifier's parameters less."""
  network, size = zoo.get(name), 112 if name == "mobilefacenet" else 32
  bare, full = (place_of(network, k, size) for k in (0, 7))
  features = num_features(network, bare)
  assert num_features(network, full) == features
  net, shapes = shapes_of(network, bare)
  out, auxiliary = apply_shapes(net, shapes, size)
  assert (out.shape, out.dtype, auxiliary) == ((2, features), jnp.float32, None)
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))
  less, more = cost.network(network, bare), cost.network(network, full)
  assert count == less.params
  assert more.params - less.params == 7 * features + 7
  assert more.madds - less.madds == 7 * features


def test_numbers_of_features_by_hand():
  place = skeleton.Skeleton(init_channels=36)
  # The last cell has 4 * 36 channels, of which it concatenates four nodes.
  assert num_features(zoo.get("darts"), place) == 4 * 4 * 36
  assert num_features(zoo.get("resnet50"), blocks.Frame()) == 2048
  # Behind two hidden layers of 512.
  assert num_features(zoo.get("vgg16"), blocks.Frame()) == 512
  # Without pooling, all pixels are features: 32 / 8 on a side.
  flat = zoo.get("resnet20")._replace(head=blocks.CLASSIFIER[1:])
  assert num_features(flat, blocks.Frame()) == 64 * 8 * 8


@pytest.mark.parametrize("name", ["darts", "resnet20"])
def test_the_classifier_sees_the_features(name):
  """With the same weights, logits are the features times its kernel."""
  network = small(name)
  full, shapes = shapes_of(network, place_of(network, 5))
  variables = oracle.random_weights(shapes, 0)
  bare, bare_shapes = shapes_of(network, place_of(network, 0))
  params = dict(variables["params"])
  head = params.pop("head" if name == "darts" else "head1")["linear"]
  assert jax.tree.structure(bare_shapes["params"]) == jax.tree.structure(params)
  images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("f")
  logits, _ = jax.jit(full.apply)(variables, images)
  features, nothing = jax.jit(bare.apply)(
      {"params": params, "batch_stats": variables["batch_stats"]}, images)
  assert nothing is None
  np.testing.assert_allclose(
      features @ head["kernel"] + head["bias"], logits, rtol=1e-4, atol=1e-5)


def test_networks_as_data_without_classifier():
  """The supernet gives features likewise, with weights per slot as well."""
  space = spaces.cells("short", ("conv_3x3", "skip_connect", "null"))
  bare = SKELETON._replace(num_classes=0)
  # Twice reduced, 4 channels are 16, of which all nodes are concatenated.
  features = space.num_nodes * 16
  images = jax.ShapeDtypeStruct((2, 8, 8, 3), jnp.float32)
  cell = records.Cell(tuple(
      records.Edge(operation, source, target) for target in range(2, 6)
      for source, operation in enumerate(space.candidates[:2])), (2, 3, 4, 5))
  arrays = jax.tree.map(
      jnp.asarray, arrays_lib.encode([cell] * 2, space.candidates))
  for net in (supernet.Supernet(space._replace(weights="slot"), bare,
                                norm="running"),
              supernet.Supernet(space, bare)):
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    out, _ = jax.eval_shape(
        lambda v, a, x, net=net: net.run(v, net.selected(a), x), shapes,
        arrays, images)
    assert out.shape == (2, features)
