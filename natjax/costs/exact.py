"""Parameters and multiply-adds of architectures, computed without a network.

Multiply-adds are those of convolutions and linear layers at output size, as
the papers count them; the auxiliary head, which is dropped after training, is
left out of both figures.
"""

from collections.abc import Sequence

from natjax import errors, operations
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.operations import edges as edges_lib
from natjax.operations import windows

Cost = operations.Cost


def edge(network: records.BlockNetwork, shapes: shapes_lib.Shapes,
         item: records.Edge, output_stride: int | None = None) -> Cost:
  """Computes the cost of one edge of a block.

  Args:
    network: in which the block stands.
    shapes: those in the block.
    item: the edge, by the numbers of the block's nodes.
    output_stride: as of the shapes.

  Raises:
    InputError: the operation takes images of another side alone.
  """
  edges_lib.check_side(
      operations.get(item.operation), shapes.nodes[item.source].size)
  source, target = (shapes.nodes[n] for n in (item.source, item.target))
  with windows.dilated(*shapes_lib.rates(
      source.stride, target.stride, output_stride)):
    total = edges_lib.cost(operations.get(item.operation), shapes.ends(item),
                           preactivate=network.preactivate)
  if network.norm == "bias":  # One parameter per channel where BN has two.
    half = total.norm_params // 2
    total = Cost(total.params - half, total.madds, total.other, half)
  return total


def fixed_layer(layer: records.Layer, shape: shapes_lib.Shape,
                num_classes: int, output_stride: int | None = None) -> Cost:
  """Cost of a layer of the stem or the head that sees `shape`."""
  out = shapes_lib.layer_shape(layer, shape, num_classes, output_stride)
  weights = {
      "conv": layer.kernel**2 * shape.width * out.width,
      "depthwise_conv": layer.kernel**2 * shape.width,
      "global_depthwise": shape.size**2 * shape.width,
      "linear": shape.width * shape.size**2 * out.width,
      "cosine": shape.width * shape.size**2 * out.width}.get(layer.kind, 0)
  norm = 2 * out.width * (layer.norm and (weights > 0 or layer.kind == "norm"))
  bias = out.width if weights and not layer.norm and (
      layer.kind != "cosine") else 0
  slopes = out.width if layer.activation == "prelu" else 0
  return Cost(weights + norm + bias + slopes, weights * out.size**2,
              norm_params=norm)


def network(architecture: records.Architecture, place: records.Place) -> Cost:
  """Computes the cost of an architecture.

  Args:
    architecture: a genotype, or a network of blocks.
    place: what stands around the cells (`Skeleton`), or the `Frame` of the
      blocks; with 0 classes the classifier is left out.

  Returns:
    `Cost` with integer `params` and `madds`.

  Raises:
    InputError: the skeleton cannot be built, an operation is unknown, stands
      where its stride is not possible, or needs channels it cannot halve.

  Example:
    >>> from natjax import zoo
    >>> network(zoo.get("darts"), records.Skeleton()).params
    3349342
  """
  graph = codec.expand(architecture, place)
  total, head = backbone(graph, place), shapes_lib.head_layers(graph, place)
  for layer, seen in zip(head, shapes_lib.layer_shapes(
      head, shapes_lib.of(graph, place)[-1].output, place.num_classes),
                         strict=False):
    total += fixed_layer(layer, seen, place.num_classes)
  return total


def backbone(architecture: records.Architecture, place: records.Place,
             output_stride: int | None = None) -> Cost:
  """Computes the cost of stem and blocks, without the head.

  Args:
    architecture: see `network`.
    place: see `network`.
    output_stride: how many times smaller images become at most, what strides
      are beyond being dilations (`natjax.backbone`); None leaves strides alone.

  Raises:
    InputError: see `network`.

  Example:
    >>> from natjax import zoo
    >>> resnet, frame = zoo.get("resnet50", "imagenet"), records.Frame(0, 224)
    >>> [backbone(resnet, frame, s).madds // 10**6 for s in (32, 16, 8)]
    [4087, 6206, 19077]
  """
  graph = codec.expand(architecture, place)
  total, found = Cost(0, 0), shapes_lib.of(graph, place, output_stride)
  for layer, seen in zip(graph.stem, shapes_lib.stem_shapes(
      graph, place, output_stride), strict=False):
    total += fixed_layer(layer, seen, place.num_classes, output_stride)
  for block, shapes in zip(graph.blocks, found, strict=True):
    for item in block.edges:
      total += edge(graph, shapes, item, output_stride)
    for node in block.nodes:
      norm = 2 * node.width * node.norm
      total += Cost(norm + node.width * (node.activation == "prelu"), 0,
                    norm_params=norm)
  return total


def operation_table(channels: int, size: int,
                    names: Sequence[str] | None = None) -> dict[str, Cost]:
  """Computes the paper's Fig. 4(b): the cost of every operation.

  As there, `params` leaves BN out and `madds` counts pooling windows and
  copies too. Operations stand at stride 1, but for those that can only stand
  at stride 2. Grouped convolutions whose groups do not divide C are left out.

  Args:
    channels: C of input and output.
    size: side of the square input image, in pixels.
    names: of the operations; None is all.

  Example:
    >>> operation_table(128, 32)["sep_conv_3x3"].params
    35072
  """
  table = {}
  for name in operations.names() if names is None else names:
    operation = operations.get(name)
    with errors.guarded(operation.cost, f"cost of operation '{name}'"):
      try:
        cost = operation.cost(channels, size, operation.strides[0])
      except errors.InputError:
        continue
    cost = edges_lib.counted(operation, cost)
    table[name] = Cost(cost.params - cost.norm_params, cost.madds + cost.other)
  return table
