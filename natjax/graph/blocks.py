"""Networks of unlike blocks: hand-crafted networks, and cells not shared.

A block is a small graph like a cell: nodes 0 and 1 are the outputs of the two
blocks before it, every later node sums its incoming edges, and the output
concatenates the nodes of `concat`. Beyond a cell, every node has its own width
and stride, and may be normalised, activated and shuffled after its sum; an edge
brings its source to the shape of its target (`operations.edges`). A network is
a stem, blocks in order, and a head. Both inputs of the first block are the
stem's output.

The JSON form is described in `block_json`.

Example, a network with one residual block, three times:
  >>> block = Block(
  ...     nodes=(Node(16, activation="relu"), Node(16, activation="relu")),
  ...     edges=(Edge("conv_3x3", 1, 2), Edge("conv_3x3", 2, 3),
  ...            Edge("skip_connect", 1, 3)))
  >>> network = check(BlockNetwork(
  ...     "mine", stem=(Layer("conv", 16, kernel=3, activation="relu"),),
  ...     blocks=(block,) * 3, head=CLASSIFIER))
  >>> [shape.width for shape in places(network, Frame())[0].nodes]
  [16, 16, 16, 16]
"""

from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

from natjax import errors
from natjax import operations
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.operations import edges as edges_lib
from natjax.operations import primitives

Edge = architecture_lib.Edge
NUM_INPUTS = architecture_lib.NUM_INPUTS
ACTIVATIONS = ("none", "relu", "relu6", "prelu")
NORMS = ("batch", "bias")
LAYER_KINDS = ("conv", "depthwise_conv", "max_pool", "avg_pool", "norm",
               "global_pool", "global_depthwise", "flatten", "linear",
               "dropout")


class Node(NamedTuple):
  """A node of a block.

  Attributes:
    width: channels.
    stride: how many times smaller than the block's input (node 1) its image
      is, along each side.
    activation: after the sum: "none", "relu", "relu6" or "prelu".
    norm: whether a BN stands between the sum and the activation.
    shuffle: groups of a channel shuffle after the activation; 0 is none.
    fixed: whether its edges are left alone by a transformation.
  """

  width: int
  stride: int = 1
  activation: str = "none"
  norm: bool = False
  shuffle: int = 0
  fixed: bool = False


class Block(NamedTuple):
  """A block.

  Attributes:
    nodes: nodes 2, 3, ..., in order.
    edges: in order of `target`.
    concat: nodes that the output concatenates; empty is the last node alone.
  """

  nodes: tuple[Node, ...]
  edges: tuple[Edge, ...]
  concat: tuple[int, ...] = ()

  @property
  def outputs(self) -> tuple[int, ...]:
    """The nodes that the output concatenates."""
    return self.concat or (len(self.nodes) + NUM_INPUTS - 1,)

  @property
  def cell(self) -> architecture_lib.Cell:
    """The graph alone."""
    return architecture_lib.Cell(self.edges, self.outputs)

  def node(self, index: int) -> Node:
    """Node number `index`, of 2 or more."""
    return self.nodes[index - NUM_INPUTS]

  @property
  def topology(self) -> Any:
    """What blocks have in common that are transformed alike: all but widths."""
    return (self.edges, self.outputs,
            tuple(node._replace(width=0) for node in self.nodes))


class Layer(NamedTuple):
  """A layer before or after the blocks, which no transformation changes.

  Attributes:
    kind: one of `LAYER_KINDS`. "global_pool" is the mean over the image,
      "global_depthwise" a depthwise convolution over all of it.
    width: channels of "conv", features of "linear"; 0 of the last "linear" is
      the number of classes.
    kernel: of "conv", "depthwise_conv" and pooling.
    stride: likewise.
    norm: whether a BN follows; without one there is a bias.
    activation: after all that.
    rate: of "dropout".
  """

  kind: str
  width: int = 0
  kernel: int = 1
  stride: int = 1
  norm: bool = True
  activation: str = "none"
  rate: float = 0.0


CLASSIFIER = (Layer("global_pool"), Layer("linear", norm=False))


class BlockNetwork(NamedTuple):
  """A network of unlike blocks.

  Attributes:
    name: what errors and pictures call it.
    stem: layers before the blocks.
    blocks: one by one, also where they are alike.
    head: layers after the blocks; the last is the classifier.
    preactivate: whether operations begin with a ReLU, as in cells; if not, the
      nodes activate.
    norm: what follows a convolution: "batch" (BN), or "bias" (a bias alone).
    norm_epsilon: what every BN adds to the variance.
  """

  name: str
  stem: tuple[Layer, ...]
  blocks: tuple[Block, ...]
  head: tuple[Layer, ...] = CLASSIFIER
  preactivate: bool = False
  norm: str = "batch"
  norm_epsilon: float = 1e-5

  @property
  def kind(self) -> str:
    """What is written: a network of "blocks", with its own stem and head."""
    return "blocks"

  @property
  def num_inputs_per_node(self) -> int:
    """Edges into the node that has most."""
    return max(len(block.cell.incoming(n)) for block in self.blocks
               for n in range(NUM_INPUTS, NUM_INPUTS + len(block.nodes)))


class Frame(NamedTuple):
  """What a network of blocks needs to know of the data.

  Attributes:
    num_classes: of the classifier; 0 leaves the classifier out.
    image_size: side of the square input images, in pixels.
  """

  num_classes: int = 10
  image_size: int = 32


class Shape(NamedTuple):
  """Shape of a node's images: channels, side in pixels, strides so far."""

  width: int
  size: int
  stride: int


class Place(NamedTuple):
  """A block's place in a network.

  Attributes:
    nodes: `Shape` of every node, the two inputs first.
    output: of the block's output.
  """

  nodes: tuple[Shape, ...]
  output: Shape

  def stride(self, edge: Edge) -> int:
    """How many times smaller an edge's target is than its source."""
    return self.nodes[edge.target].stride // self.nodes[edge.source].stride


def layer_shape(layer: Layer, shape: Shape, num_classes: int) -> Shape:
  """The shape after a layer outside the blocks."""
  if layer.kind in ("conv", "depthwise_conv", "max_pool", "avg_pool"):
    width = layer.width if layer.kind == "conv" else shape.width
    return Shape(width, primitives.output_size(shape.size, layer.stride),
                 shape.stride * layer.stride)
  if layer.kind in ("global_pool", "global_depthwise"):
    return Shape(shape.width, 1, 1)
  if layer.kind == "flatten":
    return Shape(shape.width * shape.size**2, 1, 1)
  if layer.kind == "linear":
    return Shape(layer.width or num_classes, 1, 1)
  return shape


def stem_shape(network: BlockNetwork, frame: Frame) -> Shape:
  """The shape that the first block sees."""
  shape = Shape(3, frame.image_size, 1)
  for layer in network.stem:
    shape = layer_shape(layer, shape, 0)
  return shape


def places(network: BlockNetwork, frame: Frame) -> tuple[Place, ...]:
  """Computes where every block stands."""
  inputs = (stem_shape(network, frame),) * 2
  result = []
  for block in network.blocks:
    nodes = [*inputs]
    for node in block.nodes:
      nodes.append(Shape(
          node.width, primitives.output_size(inputs[1].size, node.stride),
          inputs[1].stride * node.stride))
    last = nodes[block.outputs[0]]
    output = last._replace(width=sum(nodes[n].width for n in block.outputs))
    result.append(Place(tuple(nodes), output))
    inputs = (inputs[1], output)
  return tuple(result)


def check(
    network: BlockNetwork, *, where: str | None = None
) -> BlockNetwork:
  """Returns `network`, with canonical operation names, if it can be built.

  Raises:
    InputError: no blocks, an unknown activation, norm or layer, a width or
      stride below one, an epsilon outside (0, 1), a graph that
      `architecture.check_cell` refuses, an edge into a larger image, or an
      operation that cannot stand at its stride.
  """
  where = where or str(network.name)
  for part, kind in (("stem", Layer), ("blocks", Block), ("head", Layer)):
    items = getattr(network, part)
    if not isinstance(items, tuple | list) or not all(
        isinstance(item, kind) for item in items):
      raise errors.InputError(
          f"{where}: {part} must be a tuple of {kind.__name__}; put a comma"
          " behind a single one")
  if not network.blocks:
    raise errors.InputError(f"{where}: no blocks given; list at least one")
  if not network.head or network.head[-1].kind != "linear" or (
      network.head[-1].width):
    raise errors.InputError(
        f"{where}: the head must end with the classifier, a linear layer"
        " without width; use blocks.CLASSIFIER")
  _check_choice(where, "norm", network.norm, NORMS)
  epsilon = network.norm_epsilon
  if type(epsilon) is not float or not 0 < epsilon < 1:
    raise errors.InputError(
        f"{where}: norm_epsilon is {epsilon!r} and must be a number between 0"
        " and 1; PyTorch's default is 1e-5")
  for part in ("stem", "head"):
    for i, layer in enumerate(getattr(network, part)):
      _check_layer(f"{where}, {part} layer {i}", layer,
                   last=part == "head" and i + 1 == len(network.head))
  blocks = []
  for i, block in enumerate(network.blocks):
    _check_block(f"{where}, block {i}", block)
    blocks.append(block._replace(edges=tuple(
        e._replace(operation=operations.canonical(e.operation))
        for e in block.edges)))
  network = network._replace(blocks=tuple(blocks))
  # Shapes do not depend on the image's side, but for their sizes.
  for i, (block, place) in enumerate(zip(
      network.blocks, places(network, Frame()), strict=True)):
    for edge in block.edges:
      _check_edge(f"{where}, block {i}", edge, place)
  return network


def _check_types(where, record):
  """Refuses fields of another type than their default's or annotation's."""
  for name, value in record._asdict().items():
    wanted = type(record).__annotations__[name]
    if type(value) is not wanted and not (
        wanted is float and type(value) is int):
      raise errors.InputError(
          f"{where}: {name} is {value!r} and must be of type"
          f" {wanted.__name__}; correct it")


def _check_choice(where, name, value, allowed):
  if value not in allowed:
    raise errors.InputError(
        f"{where}: {name} is {value!r}; choose one of {', '.join(allowed)}")


def _check_layer(where, layer, *, last):
  _check_types(where, layer)
  _check_choice(where, "kind", layer.kind, LAYER_KINDS)
  _check_choice(where, "activation", layer.activation, ACTIVATIONS)
  if layer.kernel < 1 or layer.stride < 1:
    raise errors.InputError(
        f"{where}: kernel {layer.kernel} and stride {layer.stride} must be at"
        " least 1; correct them")
  needs = layer.kind == "conv" or (layer.kind == "linear" and not last)
  if layer.width < (1 if needs else 0):
    raise errors.InputError(
        f"{where}: width is {layer.width} and must be at least 1; give the"
        " layer's channels")
  if not 0 <= layer.rate < 1:
    raise errors.InputError(
        f"{where}: rate is {layer.rate} and must lie in [0, 1); correct it")


def _check_block(where, block):
  if not block.nodes or not block.edges:
    raise errors.InputError(
        f"{where}: needs nodes and edges; list at least one of each")
  architecture_lib.check_cell(block.cell, where=where)
  last = len(block.nodes) + NUM_INPUTS - 1
  if max(edge.target for edge in block.edges) != last:
    raise errors.InputError(
        f"{where}: has {len(block.nodes)} node(s), so edges must reach up to"
        f" node {last}, and the last leads into node"
        f" {max(edge.target for edge in block.edges)}; add or remove nodes")
  for i, node in enumerate(block.nodes):
    name = f"{where}, node {i + NUM_INPUTS}"
    _check_types(name, node)
    _check_choice(name, "activation", node.activation, ACTIVATIONS)
    if node.width < 1 or node.stride < 1:
      raise errors.InputError(
          f"{name}: width {node.width} and stride {node.stride} must be at"
          " least 1; correct them")
    if node.shuffle and node.width % node.shuffle:
      raise errors.InputError(
          f"{name}: {node.width} channels cannot be shuffled in"
          f" {node.shuffle} groups; give a multiple")
  strides = {block.node(n).stride for n in block.outputs}
  if len(strides) > 1:
    raise errors.InputError(
        f"{where}: concat {list(block.outputs)} joins nodes of strides"
        f" {sorted(strides)}; they must be equal")


def _check_edge(where, edge, place):
  source, target = (place.nodes[n] for n in (edge.source, edge.target))
  if target.stride % source.stride:
    raise errors.InputError(
        f"{where}: edge {list(edge)} goes from stride {source.stride} to"
        f" stride {target.stride}; images can only be made smaller, by whole"
        " factors (a node's stride counts from its block's input)")
  operation = operations.get(edge.operation, where=where)
  if not can_stand(operation, place.stride(edge)):
    raise errors.InputError(
        f"{where}: edge {list(edge)} has stride {place.stride(edge)}, and"
        f" '{operation.name}' can stand at {list(operation.strides)}; replace"
        " it")
  try:
    edges_lib.cost(operation, edges_lib.Ends(
        source.width, target.width, place.stride(edge)), source.size)
  except errors.InputError as e:
    raise errors.InputError(f"{where}: edge {list(edge)}: {e}") from e


def can_stand(operation: operations.Operation, stride: int) -> bool:
  """Whether an operation can stand on an edge of a stride."""
  return stride in operation.strides or operation.name in (
      operations.NULL, operations.SKIP)


def numbers(members: Sequence[int]) -> str:
  """Numbers of blocks in words: "block 3", or "blocks 0-2, 4".

  Args:
    members: in order.
  """
  runs: list[list[int]] = []
  for i in members:
    if runs and runs[-1][1] == i - 1:
      runs[-1][1] = i
    else:
      runs.append([i, i])
  text = ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)
  return f"block{'s' * (len(members) > 1)} {text}"


def pad(network: BlockNetwork, inputs: int = 2) -> BlockNetwork:
  """Adds null edges until every node has `inputs` incoming edges.

  Guo et al., 2021, section 5.2, pads nodes so that all have two inputs. A null
  edge comes from the nearest earlier node of the same shape, where a skip
  would be an identity that costs nothing, else from node 0. Nodes that are
  `fixed` are left as they are, and so are networks with a node of more inputs,
  which have a form of their own.
  """
  if network.num_inputs_per_node > inputs:
    return network
  frames = places(network, Frame())
  blocks = []
  for block, place in zip(network.blocks, frames, strict=True):
    edges = []
    for n, node in enumerate(block.nodes, NUM_INPUTS):
      into = block.cell.incoming(n)
      edges += into
      if not node.fixed:
        same = [s for s in range(n) if place.nodes[s] == place.nodes[n]]
        source = same[-1] if same else 0
        edges += [Edge(operations.NULL, source, n)] * (inputs - len(into))
    blocks.append(block._replace(edges=tuple(edges)))
  return network._replace(blocks=tuple(blocks))


def from_genotype(
    genotype: architecture_lib.Genotype, skeleton: skeleton_lib.Skeleton
) -> BlockNetwork:
  """A genotype's network with unshared cells, each of them a block.

  The 1x1 convolutions that bring a cell's inputs to C channels are nodes 2 and
  3 of its block, which are fixed; the cell's own nodes follow.

  Args:
    genotype: the cells.
    skeleton: of kind "cifar", whose stem has one output.

  Raises:
    InputError: another kind of skeleton.
  """
  skeleton_lib.check(skeleton)
  if skeleton.kind != "cifar":
    raise errors.InputError(
        f"skeleton is '{skeleton.kind}', and cells can stand unshared in"
        " 'cifar' alone; choose it, or share the cells")
  shift, blocks = NUM_INPUTS, []
  widths = [len(cell.concat) for cell in genotype]
  for layer in skeleton_lib.layers(skeleton, widths):
    cell = genotype[int(layer.reduction)]
    first = operations.SKIP if layer.reduction_prev else "conv_1x1"
    inputs = (Node(layer.channels, fixed=True),) * NUM_INPUTS
    node = Node(layer.channels, 2 if layer.reduction else 1)
    edges = (Edge(first, 0, 2), Edge("conv_1x1", 1, 3), *(
        Edge(e.operation, e.source + shift, e.target + shift)
        for e in cell.edges))
    blocks.append(Block((*inputs, *(node,) * cell.num_nodes), edges,
                        tuple(n + shift for n in cell.concat)))
  return check(BlockNetwork(
      "cells", stem=(Layer("conv", skeleton.stem_channels, 3),),
      blocks=tuple(blocks), preactivate=True))


def scale(network: BlockNetwork, factor: float) -> BlockNetwork:
  """Multiplies all widths by a factor, rounding to multiples of 8 if they were.

  Args:
    network: the network.
    factor: above 0; 1 returns the network as it is.
  """
  if factor == 1.0:
    return network

  def scaled(width):
    step = 8 if width % 8 == 0 else 1
    return max(step, round(width * factor / step) * step)

  def layers(items):
    return tuple(layer._replace(width=scaled(layer.width))
                 if layer.width else layer for layer in items)

  return network._replace(
      stem=layers(network.stem), head=layers(network.head),
      blocks=tuple(block._replace(nodes=tuple(
          node._replace(width=scaled(node.width)) for node in block.nodes))
          for block in network.blocks))
