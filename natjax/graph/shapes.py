"""The one place that computes the shapes of a network."""

from collections.abc import Sequence
import functools
import itertools
import math
from typing import NamedTuple

from natjax import errors, operations
from natjax.graph import records
from natjax.operations import edges as edges_lib
from natjax.operations import windows


class Shape(NamedTuple):
  """Shape of a node's images: channels, side in pixels, strides so far."""

  width: int
  size: int
  stride: int


class Shapes(NamedTuple):
  """The shapes in a block.

  Attributes:
    nodes: of every node, the two inputs first.
    output: of the block's output.
    paddings: of every node but the inputs, how windows into it are padded; none
      is symmetrically.
  """

  nodes: tuple[Shape, ...]
  output: Shape
  paddings: tuple[str, ...] = ()

  def stride(self, edge: records.Edge) -> int:
    """How many times smaller an edge's target is than its source."""
    return self.nodes[edge.target].stride // self.nodes[edge.source].stride

  def ends(self, edge: records.Edge) -> edges_lib.Ends:
    """The shapes that an edge joins."""
    source, target = self.nodes[edge.source], self.nodes[edge.target]
    stride, padding = self.stride(edge), windows.SYMMETRIC
    if self.paddings and stride > 1:  # Else there is one way.
      padding = self.paddings[edge.target - records.NUM_INPUTS]
    return edges_lib.Ends(
        source.width, target.width, stride, source.size, padding)


def rates(before: int, after: int,
          output_stride: int | None) -> tuple[int, int]:
  """What `windows.dilated` takes of an operation between two strides.

  Args:
    before: strides so far of its input, as the network has them.
    after: likewise of its output.
    output_stride: the most that is left of strides; None leaves all.

  Example:
    >>> rates(8, 16, 16), rates(16, 32, 16), rates(32, 32, 16)
    ((1, 1), (1, 2), (2, 2))
  """
  if output_stride is None:
    return 1, 1
  return (before // math.gcd(before, output_stride),
          after // math.gcd(after, output_stride))


def layer_shape(layer: records.Layer, shape: Shape, num_classes: int,
                output_stride: int | None = None) -> Shape:
  """The shape after a layer outside the blocks; see `of`."""
  if layer.kind in ("conv", "depthwise_conv", "max_pool", "avg_pool"):
    width = layer.width if layer.kind == "conv" else shape.width
    stride = shape.stride * layer.stride
    with windows.dilated(*rates(shape.stride, stride, output_stride)):
      size = windows.output_size(shape.size, layer.stride)
    return Shape(width, size, stride)
  widths = {"global_pool": shape.width, "global_depthwise": shape.width,
            "flatten": shape.width * shape.size**2,
            "linear": layer.width or num_classes, "cosine": num_classes}
  return Shape(widths[layer.kind], 1, 1) if layer.kind in widths else shape


def layer_shapes(layers: Sequence[records.Layer], shape: Shape,
                 num_classes: int = 0, output_stride: int | None = None
                 ) -> tuple[Shape, ...]:
  """A shape, and that after each of some layers outside the blocks."""
  return tuple(itertools.accumulate(
      layers, lambda before, layer: layer_shape(
          layer, before, num_classes, output_stride), initial=shape))


def stem_shapes(network: records.BlockNetwork, place: records.Place,
                output_stride: int | None = None) -> tuple[Shape, ...]:
  """The images' shape, and that after every layer of the stem; see `of`."""
  return layer_shapes(network.stem, Shape(3, place.image_size, 1),
                      output_stride=output_stride)


def head_layers(network: records.BlockNetwork,
                place: records.Place) -> tuple[records.Layer, ...]:
  """The head's layers, without the classifier where there are no classes.

  Where the place has an embedding, the cosines between it and a vector per
  class take the classifier's place. A network embeds by itself if the last
  layer before its classifier has weights and a BN, and no activation, as those
  of face networks; others are given a linear layer with a BN.
  """
  before, classifier = network.head[:-1], network.head[-1:]
  if place.embedding:
    before += (records.Layer("linear", place.embedding),) * (
        not embeds(network))
    classifier = (records.Layer("cosine", norm=False),)
  return before + classifier if place.num_classes else before


def embeds(network: records.BlockNetwork) -> bool:
  """Whether what a network's classifier sees is an embedding of its own."""
  last = network.head[-2] if len(network.head) > 1 else None
  return last is not None and last.norm and last.activation == "none" and (
      last.kind in ("conv", "linear", "global_depthwise"))


def of(network: records.BlockNetwork, place: records.Place,
       output_stride: int | None = None) -> tuple[Shapes, ...]:
  """Computes the shapes in every block.

  A node's side is what its operations make of their sources (`Operation.
  output_size`); of a node of nulls alone it is the block's input's, divided by
  the stride and rounded up.

  Args:
    network: the network.
    place: where it stands; its number of pixels matters.
    output_stride: how many times smaller images become at most; what strides
      are beyond becomes dilation, so that sides are larger. The strides of the
      result stay those of the network. None leaves strides alone.

  Raises:
    InputError: edges into a node would give images of different sides.

  Example:
    >>> from natjax import zoo
    >>> of(zoo.get("resnet20"), records.Frame())[3].output
    Shape(width=32, size=16, stride=2)
  """
  return _of(network, place.image_size, output_stride)


@functools.lru_cache(maxsize=256)
def _of(network, image_size, output_stride):
  stem = stem_shapes(network, records.Frame(0, image_size), output_stride)
  # Layer 0's output is number 1; before all of them, where there is none.
  inputs = (stem[-1] if network.early < 0 else stem[network.early + 1],
            stem[-1])
  found = []
  for i, block in enumerate(network.blocks):
    nodes = [*inputs]
    for n, node in enumerate(block.nodes, records.NUM_INPUTS):
      stride = inputs[1].stride * node.stride
      ends = [(edge.operation, nodes[edge.source]) for edge in block.edges
              if edge.target == n and edge.operation != operations.NULL]
      sizes = {_side(
          operations.get(name).output_size, source, stride, output_stride)
               for name, source in ends if stride % source.stride == 0}
      if len(sizes) > 1:
        raise errors.InputError(
            f"{network.name}, block {i}: the edges into node {n} give images of"
            f" {' and '.join(map(str, sorted(sizes)))} pixels a side, which"
            " cannot be added; replace an operation")
      size = sizes.pop() if sizes else _side(
          windows.output_size, inputs[1], stride, output_stride)
      nodes.append(Shape(node.width, size, stride))
    outputs = [nodes[n] for n in block.outputs]
    output = outputs[0]._replace(width=sum(shape.width for shape in outputs))
    found.append(Shapes(tuple(nodes), output, tuple(
        node.padding for node in block.nodes)))
    inputs = (inputs[1], output)
  return tuple(found)


def _side(output_size, source, stride, output_stride):
  """The side that an operation leaves which leads from a shape to a stride."""
  with windows.dilated(*rates(source.stride, stride, output_stride)):
    return output_size(source.size, stride // source.stride)


def num_features(network: records.BlockNetwork, place: records.Place) -> int:
  """Computes F, the number of features that the classifier sees.

  A network without a classifier (`place.num_classes` 0) maps images
  [B, H, W, 3] to features f32[B, F].
  """
  before = head_layers(network, place._replace(num_classes=0))
  shape = layer_shapes(before, of(network, place)[-1].output)[-1]
  return shape.width * shape.size**2
