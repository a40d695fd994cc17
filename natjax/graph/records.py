"""The records that networks are written in.

A block is a small directed acyclic graph. Nodes 0 and 1 are the outputs of the
block before the last and of the last one; every later node sums its incoming
edges, of which there may be any number, several from one source among them; the
block's output concatenates some of its nodes. A network is a stem, blocks in
order, and a head: that is the one graph that everything else computes on
(`BlockNetwork`). A genotype is a spelling of such a network: two cells, which
are graphs without widths, and the skeleton in which they are repeated.
"""

from typing import Any, NamedTuple

NUM_INPUTS = 2  # Nodes 0 and 1 of every cell and every block.
CELL_TYPES = ("normal", "reduce")
PADDINGS = ("symmetric", "same")
ACTIVATIONS = ("none", "relu", "relu6", "prelu")
NORMS = ("batch", "bias")
LAYER_KINDS = ("conv", "depthwise_conv", "max_pool", "avg_pool", "norm",
               "global_pool", "global_depthwise", "flatten", "linear",
               "dropout")


class Edge(NamedTuple):
  """An operation applied to node `source`, added into node `target`."""

  operation: str
  source: int
  target: int


class Cell(NamedTuple):
  """The graph of a cell or a block, without widths.

  Attributes:
    edges: in order of `target`; the order within a node is kept, since
      policies and supernets pair edges by it.
    concat: nodes that the output concatenates, in this order.
  """

  edges: tuple[Edge, ...]
  concat: tuple[int, ...]

  @property
  def num_nodes(self) -> int:
    """Number of intermediate nodes (the two inputs left out)."""
    return max(edge.target for edge in self.edges) - NUM_INPUTS + 1

  @property
  def num_inputs_per_node(self) -> int:
    """Edges into the node that has most."""
    return max(len(self.incoming(edge.target)) for edge in self.edges)

  def incoming(self, node: int) -> tuple[Edge, ...]:
    """The edges into `node`, in order."""
    return tuple(edge for edge in self.edges if edge.target == node)


class Genotype(NamedTuple):
  """A pair of cells; every layer of a network uses one of the two."""

  normal: Cell
  reduce: Cell

  @property
  def kind(self) -> str:
    """Which spelling it is; see `codec`."""
    return "cells"

  @property
  def num_nodes(self) -> int:
    """Number of intermediate nodes of the larger cell."""
    return max(cell.num_nodes for cell in self)


class Skeleton(NamedTuple):
  """What stands around the cells of a genotype.

  The CIFAR skeleton is a 3x3 stem of 3C channels and L cells, the reduction
  cells at L // 3 and 2L // 3. The ImageNet skeleton has a stem of three strided
  3x3 convolutions that leaves an eighth of the image's side. Channels double
  at every reduction.

  Attributes:
    kind: "cifar" or "imagenet", which stem and auxiliary head.
    init_channels: C, channels of the first cell.
    cells: L, number of cells.
    num_classes: of the classifier; 0 leaves the classifier out.
    image_size: side of the square input images, in pixels.
    embedding: features of the embedding whose cosines classify
      (`shapes.head_layers`); 0 is without, and the classifier is linear.
  """

  kind: str = "cifar"
  init_channels: int = 36
  cells: int = 20
  num_classes: int = 10
  image_size: int = 32
  embedding: int = 0

  @property
  def reductions(self) -> tuple[int, ...]:
    """Layers that are reduction cells; the last feeds the auxiliary head."""
    return tuple(sorted({self.cells // 3, 2 * self.cells // 3}))

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels C of every layer's operations."""
    return tuple(self.init_channels * 2 ** sum(r <= i for r in self.reductions)
                 for i in range(self.cells))


class Frame(NamedTuple):
  """What a network of blocks needs to know of the data.

  Attributes:
    num_classes: of the classifier; 0 leaves the classifier out.
    image_size: side of the square input images, in pixels.
    embedding: as of `Skeleton`.
  """

  num_classes: int = 10
  image_size: int = 32
  embedding: int = 0


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
    padding: of windows that make images smaller into it: "symmetric", or
      "same", which has the odd pixel behind (`operations.primitives.sides`).
  """

  width: int
  stride: int = 1
  activation: str = "none"
  norm: bool = False
  shuffle: int = 0
  fixed: bool = False
  padding: str = "symmetric"


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
  def cell(self) -> Cell:
    """The graph alone."""
    return Cell(self.edges, self.outputs)

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
      "global_depthwise" a depthwise convolution over all of it. Where a place
      has an embedding, the classifier is "cosine", which no network names.
    width: channels of "conv", features of "linear"; 0 of the last "linear" is
      the number of classes.
    kernel: side of the window of "conv", "depthwise_conv" and pooling.
    stride: of the same three.
    norm: whether a BN follows; without one there is a bias.
    activation: after all that.
    rate: of "dropout".
    padding: of windows, as of `Node`.
  """

  kind: str
  width: int = 0
  kernel: int = 1
  stride: int = 1
  norm: bool = True
  activation: str = "none"
  rate: float = 0.0
  padding: str = "symmetric"


CLASSIFIER = (Layer("global_pool"), Layer("linear", norm=False))


class BlockNetwork(NamedTuple):
  """A network as a graph.

  Attributes:
    name: what errors and pictures call it.
    stem: layers before the blocks.
    blocks: one by one, also where they are alike.
    head: layers after the blocks; the last is the classifier.
    preactivate: whether operations begin with a ReLU, as in cells; if not, the
      nodes activate.
    norm: what follows a convolution: "batch" (BN), or "bias" (a bias alone).
    norm_epsilon: what every BN adds to the variance.
    early: the layer of the stem whose output is node 0 of the first block;
      -1 is the last one, whose output is its node 1.
    prefix: nodes at the front of every block that the spelling does not show:
      2 where cells were expanded, whose inputs they bring to C channels, by
      one edge each. Edges and modules are numbered without them.
  """

  name: str
  stem: tuple[Layer, ...]
  blocks: tuple[Block, ...]
  head: tuple[Layer, ...] = CLASSIFIER
  preactivate: bool = False
  norm: str = "batch"
  norm_epsilon: float = 1e-5
  early: int = -1
  prefix: int = 0

  @property
  def kind(self) -> str:
    """Which spelling it is; see `codec`."""
    return "blocks"

  @property
  def num_nodes(self) -> int:
    """Number of nodes of the largest block, its inputs left out."""
    return max(len(block.nodes) for block in self.blocks)

  @property
  def num_inputs_per_node(self) -> int:
    """Edges into the node that has most."""
    return max(block.cell.num_inputs_per_node for block in self.blocks)


#: Where an architecture stands, as it needs it.
Place = Skeleton | Frame
#: Every spelling of a network.
Architecture = Genotype | BlockNetwork


class Decision(NamedTuple):
  """Blocks whose operations are chosen together.

  Attributes:
    name: "normal", "reduce", or as "blocks 0-2, 4".
    members: numbers of the blocks; none where a network has no such cell.
    cell: their graph, as the spelling shows it: node n of the cell is node
      n + prefix of the block, and edge e is its edge e + prefix.
    fixed: bool per edge of the cell, whether it is left alone.
  """

  name: str
  members: tuple[int, ...]
  cell: Cell
  fixed: tuple[bool, ...]
