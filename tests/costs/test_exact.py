"""Tests of `natjax.costs.exact`."""

import functools
import math

import jax
import jax.numpy as jnp
import pytest

from natjax import errors, operations, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec
from natjax.graph import genotype as architecture
from natjax.graph import shapes as shapes_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import network as network_lib
from tests import architectures, counting

Skeleton = skeleton_lib.Skeleton
CIFAR, IMAGENET = (skeleton_lib.DEFAULTS[k] for k in ("cifar", "imagenet"))


def variables(architecture, place, auxiliary=False):
  """Shapes of a network's variables."""
  network = network_lib.module(architecture, place, auxiliary=auxiliary)
  return jax.eval_shape(functools.partial(network_lib.init, network),
                        jax.random.key(0))


def network_madds(architecture, place, shapes):
  """Multiply-adds of the real network on one image."""
  network = network_lib.module(architecture, place)
  side = place.image_size
  image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
  forward = jax.make_jaxpr(lambda v, x: network.apply(v, x)[0])
  return counting.traced_madds(forward(shapes, image).jaxpr)


def norm_size(shapes):
  """Scales and biases of a network's BNs."""
  leaves = jax.tree_util.tree_leaves_with_path(shapes["params"])
  return sum(math.prod(leaf.shape) for path, leaf in leaves
             if "bn" in [key.key for key in path])


def check_network(architecture, place):
  """All figures against the real network; returns its cost."""
  expected = cost.network(architecture, place)
  shapes = variables(architecture, place)
  assert counting.size(shapes["params"]) == expected.params
  assert norm_size(shapes) == expected.norm_params
  assert network_madds(architecture, place, shapes) == expected.madds
  return expected


# Published figures.


@pytest.mark.parametrize("genotype, cifar, imagenet", [
    ("darts", 3349342, 4718752), ("resblock-cell", 3797974, 5007904),
    ("vgg-cell", 3797974, 5007904), ("naonet", 11463670, 14740384),
])
def test_published_parameters(genotype, cifar, imagenet):
  """20 cells of 36 channels, 10 classes; 14 of 48, 1000 classes."""
  assert cost.network(zoo.get(genotype), CIFAR).params == cifar
  assert cost.network(zoo.get(genotype), IMAGENET).params == imagenet


def test_published_multiply_adds():
  madds = [cost.network(zoo.get("darts"), skeleton).madds
           for skeleton in (CIFAR, IMAGENET)]
  assert [round(m / 1e6, 1) for m in madds] == [528.4, 529.9]


def test_published_transformations():
  """Figures that the papers or their readers give for transformed cells."""
  def millions(name, skeleton):
    total = cost.network(zoo.get(name), skeleton)
    return total.params / 1e6, total.madds / 1e6

  # NAT++, table 3: ENAS 3.7M / 580M; the spec: before that 3.86M / 606M.
  assert millions("enas", CIFAR) == pytest.approx(
      (3.86, 605.7), abs=0.05)
  assert millions("natv2_enas", CIFAR) == pytest.approx((3.7, 580.8), abs=0.05)
  # One counter gives -16.8% for DARTS on ImageNet.
  assert round(millions("nat_darts", IMAGENET)[1], 1) == 440.9


def test_resblock_cost_rises():
  """Spec: null -> skip adds weights in reduction cells."""
  params = cost.network(zoo.get("nat_resblock"), CIFAR).params
  assert round(params / 1e6, 3) == 3.851


@pytest.mark.long
@pytest.mark.parametrize("skeleton, head", [
    (CIFAR, 476426), (IMAGENET, 1260776)])
def test_full_size_network(skeleton, head):
  """The real modules: parameters, auxiliary head, and multiply-adds."""
  shapes = variables(zoo.get("darts"), skeleton, auxiliary=True)
  assert counting.size(shapes["params"]["auxiliary"]) == head
  expected = cost.network(zoo.get("darts"), skeleton)
  assert counting.size(shapes["params"]) - head == expected.params
  assert counting.parameters(shapes) == expected.params
  assert network_madds(
      zoo.get("darts"), skeleton, shapes) == expected.madds


# Fig. 4(b), C = 128, 32x32: parameters in thousands, multiply-adds in millions.
FIGURE_4B = {
    "conv_5x5": (409.6, 419.4), "conv_3x3": (147.5, 151.0),
    "sep_conv_5x5": (39.2, 40.1), "sep_conv_3x3": (35.1, 35.9),
    "dil_conv_5x5": (19.6, 20.1), "dil_conv_3x3": (17.5, 18.0),
    "conv_1x1": (16.4, 16.8), "max_pool_5x5": (0.0, 3.3),
    "avg_pool_5x5": (0.0, 3.3), "max_pool_3x3": (0.0, 1.2),
    "avg_pool_3x3": (0.0, 1.2), "skip_connect": (0.0, 0.1),
    "null": (0.0, 0.0),
}


def test_figure_4b():
  table = cost.operation_table(128, 32)
  assert set(table) == set(operations.names())
  assert {name: (round(table[name].params / 1e3, 1),
                 round(table[name].madds / 1e6, 1))
          for name in FIGURE_4B} == FIGURE_4B


# The real networks.


@pytest.mark.long
@pytest.mark.parametrize("genotype", zoo.genotype_names())
def test_parameters_equal_those_of_the_network(genotype):
  skeleton = Skeleton("cifar", 6, 3, 7, 16)
  expected = cost.network(zoo.get(genotype), skeleton)
  shapes = variables(zoo.get(genotype), skeleton)
  assert counting.size(shapes["params"]) == expected.params
  assert norm_size(shapes) == expected.norm_params


@pytest.mark.long
@pytest.mark.parametrize("genotype, skeleton", [
    ("darts", Skeleton("cifar", 4, 5, 10, 30)),
    ("nat_r3", Skeleton("cifar", 6, 4, 10, 27)),
    ("resblock-cell", Skeleton("imagenet", 4, 3, 10, 90)),
    ("amoebanet", Skeleton("imagenet", 4, 3, 3, 99)),
    ("naonet", Skeleton("cifar", 4, 4, 10, 28)),
    ("pdarts", Skeleton("cifar", 2, 1, 1, 9)),
], ids=str)
def test_costs_equal_those_of_the_network(genotype, skeleton):
  """Both figures, also at odd sides."""
  check_network(zoo.get(genotype), skeleton)


def test_unequal_cells_by_hand():
  """Three cells of 4, 8 and 16 channels on 8, 4 and 2 pixels."""
  found = check_network(
      architectures.UNEQUAL, Skeleton("cifar", 4, 3, 10, 8))
  stem = (3 * 9 * 12 + 24, 324 * 64)
  # Two 1x1 convolutions of 12 channels, 3x3, separable twice, 1x1.
  normal = (2 * 56 + 152 + 120 + 24, (2 * 48 + 144 + 2 * 52 + 16) * 64)
  # Two 1x1 convolutions and a factorised reduce that halves the images.
  first = (112 + 80 + 80, (96 + 64) * 64 + 64 * 16)
  second = (160 + 288 + 288, (128 + 256) * 16 + 256 * 4)
  head = (32 * 10 + 10, 320)
  parts = (stem, normal, first, second, head)
  assert found[:2] == tuple(map(sum, zip(*parts, strict=True))) == (
      2094, 62528)
  assert found.norm_params == 2 * (12 + 24 + 3 * 8 + 3 * 16)


@pytest.mark.long
@pytest.mark.parametrize("skeleton", [
    Skeleton("cifar", 4, 5, 10, 17), Skeleton("imagenet", 4, 4, 10, 75)],
    ids=str)
def test_costs_of_unequal_cells_equal_those_of_the_network(skeleton):
  for cells in (architectures.UNEQUAL, architectures.MANY):
    check_network(cells, skeleton)
    network = architecture.unshared(cells, skeleton)
    check_network(network, blocks.Frame(10, skeleton.image_size))


def test_padded_windows_by_hand():
  """Images of 32, 17 and 9 pixels."""
  found = check_network(architectures.PADDED, blocks.Frame())
  assert found == (
      (216 + 16) + 3 * (576 + 16) + 90,
      216 * 32**2 + 576 * (32**2 + 17**2 + 9**2) + 80,
      # Copies, and windows of four.
      8 * (32**2 + 17**2 + 9**2) + 4 * 8 * (17**2 + 9**2), 4 * 16)
  # At an odd side too.
  check_network(architectures.PADDED, blocks.Frame(10, 33))


def test_a_window_that_changes_the_width_is_projected_at_its_own_size():
  block = blocks.Block((blocks.Node(6, 2),), (
      blocks.Edge("max_pool_2x2_padded", 1, 2),))
  network = architectures.PADDED._replace(blocks=(block,))
  found = check_network(network, blocks.Frame())
  assert found.madds == 216 * 32**2 + 8 * 6 * 17**2 + 60


@pytest.mark.long
@pytest.mark.parametrize("name", [
    "resnet20", "vgg16-bn", "mobilenetv2", "shufflenet", "lresnet34e-ir",
    "proxyless-cpu"])
def test_norms_of_networks_of_blocks_are_complete(name):
  frame = blocks.Frame(10, 32)
  if name == "lresnet34e-ir":  # Of faces, whose sides must be 112.
    frame = blocks.Frame(0, 112)
  expected = cost.network(zoo.get(name), frame)
  shapes = variables(zoo.get(name), frame)
  assert counting.size(shapes["params"]) == expected.params
  assert norm_size(shapes) == expected.norm_params


def test_biases_are_half_of_what_norms_are():
  block = blocks.Block((blocks.Node(8),), (blocks.Edge("conv_3x3", 1, 2),))
  network = blocks.BlockNetwork("n", (blocks.Layer("conv", 8, 3, norm=False),),
                                (block,))
  norm = cost.network(network, blocks.Frame())
  bias = cost.network(network._replace(norm="bias"), blocks.Frame())
  assert (norm.params, bias.params) == (224 + 576 + 16 + 90, 224 + 576 + 8 + 90)
  assert counting.size(variables(network._replace(norm="bias"),
                                 blocks.Frame())["params"]) == bias.params


@pytest.mark.parametrize("name, place", [
    ("darts", Skeleton("imagenet", 4, 4, 10, 75)),
    ("shufflenet", blocks.Frame(10, 32))])
def test_a_network_costs_what_its_parts_cost(name, place):
  graph = codec.expand(zoo.get(name), place)
  total, shape = cost.Cost(0, 0), shapes_lib.Shape(3, place.image_size, 1)
  for layer in graph.stem:
    total += cost.fixed_layer(layer, shape, place.num_classes)
    shape = shapes_lib.layer_shape(layer, shape, place.num_classes)
  for block, shapes in zip(
      graph.blocks, shapes_lib.of(graph, place), strict=True):
    for edge in block.edges:
      total += cost.edge(graph, shapes, edge)
    assert not any(node.norm for node in block.nodes)
    shape = shapes.output
  for layer in graph.head:
    total += cost.fixed_layer(layer, shape, place.num_classes)
    shape = shapes_lib.layer_shape(layer, shape, place.num_classes)
  assert cost.network(zoo.get(name), place) == total


# Single operations.


@pytest.mark.parametrize("name", operations.names())
def test_cost_of_an_operation(name):
  """Against the module itself, at both strides, even and odd sides."""
  operation = operations.get(name)
  for stride in operation.strides:
    for side in (6, 7):
      module = operation.module(features=8, stride=stride,
                                norm=lambda name: lambda x: x)
      image = jax.ShapeDtypeStruct((1, side, side, 8), jnp.float32)
      params = {}
      if hasattr(module, "init"):
        params = jax.eval_shape(module.init, jax.random.key(0), image)
        forward = jax.make_jaxpr(module.apply)(params, image)
      else:
        forward = jax.make_jaxpr(module)(image)
      expected = operation.cost(8, side, stride)
      assert counting.size(params) == expected.params - expected.norm_params
      assert counting.traced_madds(forward.jaxpr) == expected.madds


def test_costs_add_up():
  assert cost.Cost(1, 2, 3, 4) + cost.Cost(10, 20, 30, 40) == (11, 22, 33, 44)


# Refusals.


def refusal(genotype, skeleton):
  with pytest.raises(errors.InputError) as e:
    cost.network(genotype, skeleton)
  assert "\n" not in str(e.value)
  return str(e.value)


def test_odd_channels_are_refused():
  assert "init-channels is 5" in refusal(zoo.get("darts"), Skeleton(
      init_channels=5))
  with pytest.raises(errors.InputError, match="7 channels"):
    operations.get("skip_connect").cost(7, 8, 2)


def test_stride_is_checked():
  """2x2 pooling at stride 1 would shrink the map."""
  edges = (architecture.Edge("avg_pool_2x2", 0, 2),
           architecture.Edge("null", 1, 2))
  cell = architecture.Cell(edges, (2,))
  null = architecture.Cell(
      tuple(e._replace(operation="null") for e in edges), (2,))
  message = refusal(architecture.Genotype(cell, null), Skeleton())
  assert "normal cell, edge ['avg_pool_2x2', 0, 2]" in message
  assert "stride 2 only" in message
  assert cost.network(architecture.Genotype(null, cell), Skeleton()).madds > 0
  late = architecture.Cell((
      *null.edges, architecture.Edge("max_pool_2x2", 2, 3),
      architecture.Edge("null", 1, 3)), (3,))
  assert "reduce cell" in refusal(
      architecture.Genotype(null, late), Skeleton())
