"""The space of NAS-Bench-Macro: chains of eight layers, three choices each.

Su et al., 2021, section 4 (`graph.nasbench_macro`). The identity of a layer
that halves the image is a 1x1 convolution. What is found is written as the
benchmark's network (`zoo.nasbench_macro`), whose accuracy its table knows.

Where this differs: in the supernet inverted residual blocks have ReLU6, which
is how `operations.units` knows them, in what is found ReLU.
"""

from natjax import operations, zoo
from natjax.graph import nasbench_macro, records
from natjax.graph.records import Block, BlockNetwork, Edge, Node
from natjax.spaces import base

_UNITS = nasbench_macro.OPERATIONS[1:]


def unfold(found: records.BlockNetwork) -> records.BlockNetwork:
  """A chain as the zoo writes it.

  Args:
    found: of the space, at any width and size, an operation on every edge.
  """
  before, blocks = found.stem[-1].width, []
  for block in found.blocks:
    name, node = block.edges[0].operation, block.nodes[-1]
    blocks.append(zoo.nasbench_macro.block(
        _UNITS.index(name) + 1 if name in _UNITS else 0, before, node.width,
        node.stride))
    before = node.width
  return found._replace(blocks=tuple(blocks))


def _space():
  blocks, choices = [], []
  for width, depth in nasbench_macro.STAGES:
    for i in range(depth):
      blocks.append(Block((Node(width, 1 if i else 2),),
                          (Edge(operations.NULL, 1, 2),)))
      choices.append(((operations.SKIP if i else "conv_1x1", *_UNITS),))
  return base.Space(
      "nasbench-macro", BlockNetwork(
          "nasbench-macro", zoo.nasbench_macro.STEM, tuple(blocks),
          zoo.nasbench_macro.HEAD),
      (*_UNITS, "conv_1x1", operations.SKIP, operations.NULL), tuple(choices),
      share="full", several=False, unfold=unfold)


SPACE = _space()
