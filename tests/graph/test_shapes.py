"""Tests of `natjax.graph.shapes`."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, zoo
from natjax.graph import blocks, codec, records
from natjax.graph import genotype as genotype_lib
from natjax.graph import shapes as shapes_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import network as network_lib
from natjax.operations import edges
from tests import architectures

Edge, Node, Shape = records.Edge, records.Node, shapes_lib.Shape
Skeleton = records.Skeleton


def genotype(normal, reduce):
  """Cells that concatenate so many nodes; all edges are null."""
  def cell(count):
    nodes = range(2, 2 + count)
    return records.Cell(tuple(Edge("null", 0, n) for n in nodes), tuple(nodes))

  return records.Genotype(cell(normal), cell(reduce))


def of_cells(skeleton, widths):
  """Of every cell: (inputs' shapes, channels C, output's shape)."""
  network = codec.expand(genotype(*widths), skeleton)
  return [(shapes.nodes[:2], shapes.nodes[-1].width, shapes.output)
          for shapes in shapes_lib.of(network, skeleton)]


def stem_sizes(skeleton):
  network = codec.expand(genotype(1, 1), skeleton)
  return tuple(
      shape.size for shape in shapes_lib.stem_shapes(network, skeleton)[1:])


def test_stem_sizes():
  assert stem_sizes(Skeleton()) == (32,)
  imagenet = skeleton_lib.DEFAULTS["imagenet"]
  assert stem_sizes(imagenet) == (112, 56, 28)
  assert stem_sizes(imagenet._replace(image_size=75)) == (38, 19, 10)


def test_features_of_the_papers_skeletons():
  cifar, imagenet = (skeleton_lib.DEFAULTS[k] for k in skeleton_lib.KINDS)
  for skeleton, widths, features in ((cifar, (4, 4), 576),
                                     (imagenet, (1, 4), 192)):
    network = codec.expand(genotype(*widths), skeleton)
    assert shapes_lib.num_features(network, skeleton) == features


def test_features_of_networks_of_blocks():
  """The mean over the image, all of its pixels, or a layer of its own."""
  frame = records.Frame(10, 32)
  assert shapes_lib.num_features(zoo.get("resnet20"), frame) == 64
  block = records.Block((Node(3, 2),), (Edge("conv_3x3", 1, 2),))
  network = records.BlockNetwork("flat", (), (block,), (
      records.Layer("flatten"), records.Layer("linear", norm=False)))
  assert shapes_lib.num_features(network, records.Frame(10, 9)) == 75
  assert shapes_lib.num_features(network._replace(head=(
      records.Layer("flatten"), records.Layer("linear", 20),
      records.Layer("dropout", rate=0.5),
      records.Layer("linear", norm=False))), frame) == 20


def test_cells_literal():
  """Four cells, 30 pixels; the reduction cells concatenate three nodes."""
  skeleton = Skeleton(init_channels=4, cells=4, image_size=30)
  assert of_cells(skeleton, (2, 3)) == [
      ((Shape(12, 30, 1), Shape(12, 30, 1)), 4, Shape(8, 30, 1)),
      ((Shape(12, 30, 1), Shape(8, 30, 1)), 8, Shape(24, 15, 2)),
      ((Shape(8, 30, 1), Shape(24, 15, 2)), 16, Shape(48, 8, 4)),
      ((Shape(24, 15, 2), Shape(48, 8, 4)), 16, Shape(32, 8, 4)),
  ]
  assert of_cells(Skeleton("imagenet", 4, 1, image_size=40), (2, 3)) == [
      ((Shape(4, 10, 4), Shape(4, 5, 8)), 8, Shape(24, 3, 16))]


@hypothesis.settings(deadline=None)
@hypothesis.given(
    st.sampled_from(skeleton_lib.KINDS), st.integers(1, 24), st.integers(1, 20),
    st.integers(64, 300), st.tuples(st.integers(1, 5), st.integers(1, 5)),
)
def test_cells_fit_together(kind, cells, half_channels, size, widths):
  """What a cell takes is what the two before it give."""
  skeleton = Skeleton(kind, 2 * half_channels, cells, 10, size)
  network = codec.expand(genotype(*widths), skeleton)
  found = shapes_lib.of(network, skeleton)
  channels = [skeleton_lib.stem(skeleton)[-1].width] * 2
  stem = stem_sizes(skeleton)
  sizes = [stem[-1] if kind == "cifar" else stem[-2], stem[-1]]
  width = 2 * half_channels
  assert len(found) == cells
  for i, (block, shapes) in enumerate(zip(network.blocks, found, strict=True)):
    reduction = i in (cells // 3, 2 * cells // 3)
    width *= 1 + reduction
    assert skeleton.channels[i] == width
    assert {shape.width for shape in shapes.nodes[2:]} == {width}
    assert [s.width for s in shapes.nodes[:2]] == channels[-2:]
    assert [s.size for s in shapes.nodes[:2]] == sizes[-2:]
    # Both inputs are brought to the size of the last.
    assert shapes.nodes[2].size == shapes.nodes[3].size == sizes[-1]
    # ceil(size / 2), what padded convolutions of stride 2 leave.
    halved = (sizes[-1] + 1) // 2
    assert shapes.output.size == (halved if reduction else sizes[-1])
    first = block.edges[0]
    if shapes.stride(first) == 2:
      assert (sizes[-2] + 1) // 2 == sizes[-1]
      assert first.operation == "skip_connect"  # A factorised reduce.
    else:
      assert sizes[-2] == sizes[-1]
      assert first.operation == "conv_1x1"
    channels.append(width * widths[int(reduction)])
    sizes.append(shapes.output.size)
  assert shapes_lib.num_features(network, skeleton) == channels[-1]


@pytest.mark.parametrize("kind, size", [("cifar", 8), ("imagenet", 64)])
def test_smallest_image_leaves_two_pixels(kind, size):
  found = of_cells(Skeleton(kind, 4, 3, 10, size), (1, 1))
  assert found[-1][-1].size == 2


@pytest.mark.parametrize("source, reduction, stride", [
    (0, True, 2), (1, True, 2), (2, True, 1), (0, False, 1), (2, False, 1),
])
def test_stride_in_cells(source, reduction, stride):
  cell = records.Cell((Edge("null", 0, 2), Edge("conv_3x3", source, 3)), (3,))
  skeleton = Skeleton(init_channels=4, cells=4)
  network = codec.expand(records.Genotype(cell, cell), skeleton)
  block = next(i for i in range(4) if (i in skeleton.reductions) == reduction)
  shapes = shapes_lib.of(network, skeleton)[block]
  assert shapes.stride(network.blocks[block].edges[3]) == stride


def test_ends_of_edges_literal():
  """ResNet20's first strided block, of 32 pixels."""
  network = zoo.get("resnet20")
  shapes = shapes_lib.of(network, records.Frame())[3]
  assert [shapes.ends(edge) for edge in network.blocks[3].edges] == [
      edges.Ends(16, 32, 2, 32), edges.Ends(32, 32, 1, 16),
      edges.Ends(16, 32, 2, 32)]
  assert not shapes.ends(network.blocks[3].edges[0]).alike
  assert shapes.ends(network.blocks[3].edges[1]).alike


def test_padded_windows_leave_a_pixel_more():
  """32 pixels become 17, and 17 become 9, where others would leave 16 and 8."""
  found = shapes_lib.of(architectures.PADDED, records.Frame())
  assert [shapes.output for shapes in found] == [
      Shape(8, 32, 1), Shape(8, 17, 2), Shape(8, 9, 4)]
  # Odd sides: 33 become 17 too, 1 + floor(33 / 2).
  found = shapes_lib.of(architectures.PADDED, records.Frame(10, 33))
  assert [shapes.output.size for shapes in found] == [33, 17, 9]
  assert found[2].ends(architectures.PADDED.blocks[2].edges[0]) == (
      edges.Ends(8, 8, 2, 17))


def two_poolings(first, second):
  block = records.Block((Node(8, 2),), (
      Edge(first, 1, 2), Edge(second, 1, 2)))
  return architectures.PADDED._replace(blocks=(block,))


def test_images_that_cannot_be_added_are_refused_in_one_line():
  with pytest.raises(errors.InputError) as e:
    blocks.check(two_poolings("max_pool_2x2_padded", "max_pool_2x2"))
  for part in ("padded, block 0", "node 2", "16 and 17", "replace"):
    assert part in str(e.value)
  assert "\n" not in str(e.value)
  network = blocks.check(two_poolings("max_pool_2x2_padded", "null"))
  assert shapes_lib.of(network, records.Frame())[0].output.size == 17
  # Of nulls alone: what every other operation would leave.
  network = blocks.check(two_poolings("null", "null"))
  assert shapes_lib.of(network, records.Frame(10, 31))[0].output.size == 16


def test_node_0_of_the_first_block_may_branch_off_early():
  stem = (records.Layer("conv", 4, 3, 2), records.Layer("conv", 6, 3, 2))
  block = records.Block((Node(6), Node(6)), (
      Edge("conv_3x3", 0, 2), Edge("conv_3x3", 1, 3)))
  network = records.BlockNetwork("early", stem, (block, block))
  for early, first in ((0, Shape(4, 16, 2)), (1, Shape(6, 8, 4)),
                       (-1, Shape(6, 8, 4))):
    found = shapes_lib.of(
        network._replace(early=early), records.Frame())
    assert found[0].nodes[:2] == (first, Shape(6, 8, 4))
    assert found[1].nodes[:2] == (Shape(6, 8, 4), found[0].output)


@pytest.mark.parametrize("layer, shape", [
    (records.Layer("conv", 5, 3, 2), Shape(5, 4, 6)),
    (records.Layer("depthwise_conv", kernel=3), Shape(4, 7, 3)),
    (records.Layer("max_pool", kernel=3, stride=2), Shape(4, 4, 6)),
    (records.Layer("avg_pool", kernel=3, stride=3), Shape(4, 3, 9)),
    (records.Layer("norm"), Shape(4, 7, 3)),
    (records.Layer("dropout", rate=0.5), Shape(4, 7, 3)),
    (records.Layer("global_pool"), Shape(4, 1, 1)),
    (records.Layer("global_depthwise"), Shape(4, 1, 1)),
    (records.Layer("flatten"), Shape(196, 1, 1)),
    (records.Layer("linear", 20), Shape(20, 1, 1)),
    (records.Layer("linear"), Shape(10, 1, 1)),
], ids=lambda x: getattr(x, "kind", None))
def test_fixed_layers(layer, shape):
  assert shapes_lib.layer_shape(layer, Shape(4, 7, 3), 10) == shape


# The real networks.


CASES = {
    "padded": (architectures.PADDED, records.Frame()),
    "padded, odd": (architectures.PADDED, records.Frame(10, 33)),
    "unequal": (architectures.UNEQUAL, Skeleton("cifar", 4, 5, 10, 27)),
    "unequal, ImageNet": (
        architectures.UNEQUAL, Skeleton("imagenet", 4, 4, 10, 75)),
    "unshared, ImageNet": (
        genotype_lib.unshared(
            architectures.UNEQUAL, Skeleton("imagenet", 4, 4, 10, 75)),
        records.Frame(10, 75)),
    "shufflenet": (zoo.get("shufflenet"), records.Frame(10, 32)),
    "proxyless-cpu": (zoo.get("proxyless-cpu"), records.Frame(10, 45)),
}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_shapes_are_those_of_the_network(name):
  """Of every block's output, and of the features."""
  architecture, place = CASES[name]
  network = network_lib.module(
      architecture, place._replace(num_classes=0))
  side = place.image_size
  images = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), images)

  def forward(variables, images):
    return network.apply(variables, images, mutable=["intermediates"],
                         capture_intermediates=lambda module, _: isinstance(
                             module, network_lib.BlockModule))

  (features, _), found = jax.eval_shape(forward, variables, images)
  graph = codec.expand(architecture, place)
  before = network_lib.names(graph).block
  for i, shapes in enumerate(shapes_lib.of(graph, place)):
    (output,) = found["intermediates"][f"{before}{i}"]["__call__"]
    width, size, _ = shapes.output
    assert output.shape == (2, size, size, width)
  assert features.shape == (2, shapes_lib.num_features(graph, place))


@pytest.mark.parametrize("side", [32, 33])
def test_a_network_of_padded_windows_runs(side):
  network = network_lib.module(
      architectures.PADDED, records.Frame(10, side))
  variables = network_lib.init(network, jax.random.key(0))
  images = jax.random.normal(jax.random.key(1), (4, side, side, 3))
  (logits, auxiliary), changed = jax.jit(lambda v, x: network.apply(
      v, x, train=True, mutable=["batch_stats"]))(variables, images)
  assert logits.shape == (4, 10) and auxiliary is None
  assert np.isfinite(logits).all() and np.ptp(np.asarray(logits), 0).min() > 0
  assert jax.tree.structure(changed["batch_stats"]) == jax.tree.structure(
      variables["batch_stats"])
