"""Parameters and multiply-adds of architectures, computed without a network.

Multiply-adds are those of convolutions and linear layers at output size, as
the papers count them; the auxiliary head, which is dropped after training, is
left out of both figures.
"""

from collections.abc import Sequence

from natjax import errors
from natjax import operations
from natjax.graph import blocks as blocks_lib
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.operations import edges as edges_lib

Cost = operations.Cost


def stem(skeleton: skeleton_lib.Skeleton) -> Cost:
  """Cost of the stem's 3x3 convolutions and BNs."""
  c = skeleton.init_channels
  widths = (3, 3 * c) if skeleton.kind == "cifar" else (3, c // 2, c, c)
  total = Cost(0, 0)
  for i, size in enumerate(skeleton_lib.stem_sizes(skeleton)):
    weights = 9 * widths[i] * widths[i + 1]
    total += Cost(weights + 2 * widths[i + 1], weights * size * size)
  return total


def preprocess(layer: skeleton_lib.Layer) -> Cost:
  """Cost of the 1x1 convolutions that bring both inputs to C channels.

  Node 0's, where a reduction cell came before, is a factorised reduce, whose
  two halves have as many weights together.
  """
  weights = sum(layer.in_channels) * layer.channels
  return Cost(weights + 2 * 2 * layer.channels, weights * layer.in_size**2)


def edge(
    cell: architecture_lib.Cell,
    item: architecture_lib.Edge,
    layer: skeleton_lib.Layer,
) -> Cost:
  """Cost of one edge of a cell in a layer."""
  stride = cell.stride(item, layer.reduction)
  size = layer.in_size if stride == 2 else layer.out_size
  return operations.get(item.operation).cost(layer.channels, size, stride)


def head(channels: int, num_classes: int) -> Cost:
  """Cost of the linear classifier, nothing where there are no classes."""
  return Cost(channels * num_classes + num_classes, channels * num_classes)


def network(
    genotype: architecture_lib.Genotype | blocks_lib.BlockNetwork,
    skeleton: skeleton_lib.Skeleton | blocks_lib.Frame,
) -> Cost:
  """Computes the cost of an architecture.

  Args:
    genotype: the cells, or a network of blocks.
    skeleton: what stands around the cells, or the frame of the blocks; with
      0 classes the classifier is left out.

  Returns:
    `Cost` with integer `params` and `madds`.

  Raises:
    InputError: the skeleton cannot be built, an operation is unknown, stands
      where its stride is not possible, or needs channels it cannot halve.

  Example:
    >>> from natjax import zoo
    >>> network(zoo.get("darts"), skeleton_lib.Skeleton()).params
    3349342
  """
  if isinstance(genotype, blocks_lib.BlockNetwork):
    return block_network(genotype, blocks_lib.Frame(
        skeleton.num_classes, skeleton.image_size))
  check_strides(genotype)
  widths = [len(cell.concat) for cell in genotype]
  total = stem(skeleton)
  for layer in skeleton_lib.layers(skeleton, widths):
    cell = genotype[int(layer.reduction)]
    total += preprocess(layer)
    for item in cell.edges:
      total += edge(cell, item, layer)
  channels = skeleton_lib.output_channels(skeleton, widths)
  return total + head(channels, skeleton.num_classes)


def block_edge(
    network: blocks_lib.BlockNetwork,
    place: blocks_lib.Place,
    item: architecture_lib.Edge,
) -> Cost:
  """Cost of one edge of a block at its place."""
  source, target = place.nodes[item.source], place.nodes[item.target]
  ends = edges_lib.Ends(source.width, target.width, place.stride(item))
  total = edges_lib.cost(operations.get(item.operation), ends, source.size,
                         preactivate=network.preactivate)
  if network.norm == "bias":  # One parameter per channel where BN has two.
    half = total.norm_params // 2
    total = Cost(total.params - half, total.madds, total.other, half)
  return total


def fixed_layer(
    layer: blocks_lib.Layer, shape: blocks_lib.Shape, num_classes: int
) -> Cost:
  """Cost of a layer of the stem or the head that sees `shape`."""
  out = blocks_lib.layer_shape(layer, shape, num_classes)
  weights = {
      "conv": layer.kernel**2 * shape.width * out.width,
      "depthwise_conv": layer.kernel**2 * shape.width,
      "global_depthwise": shape.size**2 * shape.width,
      "linear": shape.width * shape.size**2 * out.width,
  }.get(layer.kind, 0)
  norm = 0
  if weights or layer.kind == "norm":
    norm = 2 * out.width if layer.norm else 0
  bias = out.width if weights and not layer.norm else 0
  slopes = out.width if layer.activation == "prelu" else 0
  return Cost(weights + norm + bias + slopes, weights * out.size**2,
              norm_params=norm)


def block_network(
    network: blocks_lib.BlockNetwork, frame: blocks_lib.Frame
) -> Cost:
  """Computes the cost of a network of blocks.

  Args:
    network: the architecture.
    frame: number of classes (0: without the classifier) and image size.
  """
  head = network.head if frame.num_classes else network.head[:-1]
  shape, total = blocks_lib.Shape(3, frame.image_size, 1), Cost(0, 0)
  for layer in network.stem:
    total += fixed_layer(layer, shape, frame.num_classes)
    shape = blocks_lib.layer_shape(layer, shape, frame.num_classes)
  for block, place in zip(network.blocks, blocks_lib.places(network, frame),
                          strict=True):
    for item in block.edges:
      total += block_edge(network, place, item)
    for node in block.nodes:
      total += Cost(node.width * (2 * node.norm
                                  + (node.activation == "prelu")), 0)
    shape = place.output
  for layer in head:
    total += fixed_layer(layer, shape, frame.num_classes)
    shape = blocks_lib.layer_shape(layer, shape, frame.num_classes)
  return total


def check_strides(genotype: architecture_lib.Genotype) -> None:
  """Refuses operations at strides at which they cannot stand (InputError)."""
  for reduction, cell in enumerate(genotype):
    for item in cell.edges:
      operation = operations.get(item.operation)
      stride = cell.stride(item, bool(reduction))
      if stride not in operation.strides:
        raise errors.InputError(
            f"{architecture_lib.CELL_TYPES[reduction]} cell, edge"
            f" {list(item)}: '{operation.name}' can stand at stride"
            f" {operation.strides[0]} only, and this edge has stride {stride};"
            " replace the operation"
        )


def operation_table(
    channels: int, size: int, names: Sequence[str] | None = None
) -> dict[str, Cost]:
  """Computes the paper's Fig. 4(b): the cost of every operation.

  As there, `params` leaves BN out and `madds` counts pooling windows and
  copies too. Operations stand at stride 1, but for those that can only stand
  at stride 2. Grouped convolutions whose groups do not divide C are left out.

  Args:
    channels: C of input and output.
    size: side of the square input image.
    names: of the operations; None is all.

  Example:
    >>> operation_table(128, 32)["sep_conv_3x3"].params
    35072
  """
  table = {}
  for name in operations.names() if names is None else names:
    operation = operations.get(name)
    try:
      cost = operation.cost(channels, size, operation.strides[0])
    except errors.InputError:
      continue
    table[name] = Cost(cost.params - cost.norm_params,
                       cost.madds + cost.other)
  return table
