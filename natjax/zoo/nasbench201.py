"""The network of NAS-Bench-201, as a network of blocks.

Dong & Yang, 2020, section 2.1 and the released code: a 3x3 convolution to 16
channels; three stages of five cells with 16, 32 and 64 channels; between them a
residual block of stride 2, whose shortcut is an average pooling and a 1x1
convolution without BN; BN, ReLU, the mean over the image, a linear layer. A
cell's node 0 is a block's node 1; the residual blocks are never transformed.

Example, with the parameters of the benchmark's table:
  >>> from natjax import blocks, cost
  >>> network = from_string("|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+"
  ...                       "|nor_conv_3x3~0|nor_conv_3x3~1|nor_conv_3x3~2|")
  >>> cost.network(network, blocks.Frame(10, 32)).params
  1531546
"""

from collections.abc import Sequence

import numpy as np

from natjax import errors, operations
from natjax.costs import exact
from natjax.graph import blocks as blocks_lib
from natjax.graph import nasbench201
from natjax.graph.records import Block, BlockNetwork, Edge, Layer, Node

_CELLS = 5  # Per stage.


def network(names: Sequence[str]) -> BlockNetwork:
  """Builds the network of a cell.

  Args:
    names: six operations, by `nasbench201.EDGES`.
  """
  edges = tuple(
      Edge(name, source + 1, target + 1)
      for name, (source, target) in zip(names, nasbench201.EDGES, strict=True))
  blocks = []
  for stage, width in enumerate(nasbench201.CHANNELS):
    if stage:
      blocks.append(_reduction(width))
    blocks += [Block((Node(width),) * 3, edges)] * _CELLS
  return blocks_lib.check(BlockNetwork(
      nasbench201.to_string(names),
      (Layer("conv", nasbench201.CHANNELS[0], 3),), tuple(blocks),
      (Layer("norm", activation="relu"), *blocks_lib.CLASSIFIER), True))


def from_string(text: str) -> BlockNetwork:
  """Builds the network of the benchmark's string (InputError)."""
  return network(nasbench201.from_string(text))


def names_of(found: BlockNetwork) -> tuple[str, ...]:
  """The six operations of a network's cells, by `nasbench201.EDGES`.

  The other way round than `network`; what the network is called does not count.

  Example:
    >>> names = ("conv_3x3", "null", "skip_connect", "null", "null", "conv_1x1")
    >>> names_of(network(names)) == names
    True

  Raises:
    InputError: it is no network of the benchmark.
  """
  kept = {} if not found.blocks else {
      (edge.source - 1, edge.target - 1): edge.operation
      for edge in found.blocks[0].edges}
  names = [kept.get(edge, "") for edge in nasbench201.EDGES]
  if not set(names) <= {*nasbench201.CANDIDATES} or (
      network(names)._replace(name=found.name) != found):
    raise errors.InputError(
        f"network '{nasbench201.short(found.name)}' is none of NAS-Bench-201,"
        " which has one cell in all its blocks but the residual ones; give one"
        " that `zoo.nasbench201.network` builds or a search in the space"
        " 'nasbench201' finds")
  return tuple(names)


def costs(name: str) -> tuple[np.ndarray, np.ndarray]:
  """Computes parameters i64[15625] and multiply-adds f64[15625] by code.

  A cell of nulls costs what the network around the cells does, and every edge
  adds what its operation does, wherever it stands.

  Args:
    name: of the data set.
  """
  data = nasbench201.dataset(name)
  frame = blocks_lib.Frame(data.num_classes, data.image_size)
  others = [operations.NULL] * (len(nasbench201.EDGES) - 1)
  single = np.array([exact.network(network([first, *others]), frame)[:2]
                     for first in nasbench201.CANDIDATES])
  per_edge = (single - single[0])[nasbench201.all_operations()].sum(1)
  params, madds = (single[0] + per_edge).T
  # The benchmark counts the classifier's bias as multiply-adds, too.
  return params, (madds + data.num_classes).astype(np.float64)


def _reduction(width: int) -> Block:
  """A residual block of stride 2 with `width` channels."""
  nodes = tuple(Node(channels, 2, fixed=True)
                for channels in (width, width // 2, width))
  return Block(nodes, (Edge("conv_3x3", 1, 2), Edge("avg_pool_2x2", 1, 3),
                       Edge("conv_3x3", 2, 4), Edge("plain_conv_1x1", 3, 4)))
