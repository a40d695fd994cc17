"""Architectures of every form, shared by tests."""

from hypothesis import strategies as st

from natjax import operations
from natjax.graph import live, records

Cell, Edge = records.Cell, records.Edge


def cell(*edges, concat):
  return Cell(tuple(Edge(*edge) for edge in edges), concat)


# Three nodes and two; a node of one input, one of three, and one with two
# operations on one edge.
UNEQUAL = records.Genotype(
    cell(("conv_3x3", 1, 2),
         ("sep_conv_3x3", 0, 3), ("skip_connect", 1, 3), ("max_pool_3x3", 2, 3),
         ("conv_1x1", 3, 4), ("skip_connect", 3, 4), concat=(3, 4)),
    cell(("max_pool_3x3", 0, 2), ("skip_connect", 1, 2),
         ("avg_pool_3x3", 1, 3), concat=(2, 3)))

# As a search by thresholds leaves it: nodes of 1, 2, 3 and 5 inputs, in another
# order in the reduction cell; in both, two operations on one edge, and in the
# reduction cell one of them twice.
MANY = records.Genotype(
    cell(("sep_conv_3x3", 1, 2),
         ("conv_1x1", 2, 3), ("max_pool_3x3", 2, 3),
         ("skip_connect", 0, 4), ("max_pool_3x3", 1, 4), ("conv_1x1", 3, 4),
         ("sep_conv_3x3", 0, 5), ("skip_connect", 0, 5), ("conv_1x1", 1, 5),
         ("skip_connect", 3, 5), ("max_pool_3x3", 4, 5), concat=(2, 3, 4, 5)),
    cell(("max_pool_3x3", 0, 2), ("conv_1x1", 0, 2), ("skip_connect", 1, 2),
         ("conv_1x1", 0, 3), ("conv_1x1", 0, 3), ("sep_conv_3x3", 1, 3),
         ("skip_connect", 2, 3), ("max_pool_3x3", 2, 3),
         ("max_pool_3x3", 1, 4),
         ("conv_1x1", 3, 5), ("skip_connect", 4, 5), concat=(2, 3, 4, 5)))


def wide(num_nodes):
  """Cells of nodes that hang on the inputs, of which the last is the output."""
  return records.Genotype(*(cell(*(
      (name, source, node) for node in range(2, num_nodes + 2)
      for source in (0, 1)), concat=(num_nodes + 1,))
                            for name in ("skip_connect", "max_pool_3x3")))


# Images of 32, 17 and 9 pixels, which only a padded 2x2 window leaves.
_HALVED = records.Block(
    (records.Node(8, 2, fixed=True), records.Node(8, 2, "relu")),
    (Edge("max_pool_2x2_padded", 1, 2), Edge("conv_3x3", 2, 3),
     Edge("skip_connect", 2, 3)))
PADDED = records.BlockNetwork(
    "padded", (records.Layer("conv", 8, 3, activation="relu"),),
    (records.Block((records.Node(8, activation="relu"),),
                   (Edge("conv_3x3", 1, 2), Edge("skip_connect", 1, 2))),
     _HALVED, _HALVED))


@st.composite
def cells(draw, num_nodes, names, inputs=(2, 2)):
  """Cells of N nodes with so many inputs each, at least and at most."""
  edges = [
      Edge(draw(st.sampled_from(names)), draw(st.integers(0, node - 1)), node)
      for node in range(2, num_nodes + 2)
      for _ in range(draw(st.integers(*inputs)))
  ]
  order = draw(st.permutations(range(2, num_nodes + 2)))
  return Cell(tuple(edges), tuple(order[:draw(st.integers(1, num_nodes))]))


@st.composite
def genotypes(draw, names=None, *, inputs=(2, 2), most=6):
  """Genotypes of one node to `most`, as many in both cells or not."""
  return records.Genotype(*(
      draw(cells(draw(st.integers(1, most)), names or operations.names(),
                 inputs)) for _ in range(2)))


def alive(cell: records.Cell) -> frozenset[int]:
  """Nodes that carry a signal, the inputs among them."""
  found = set(range(records.NUM_INPUTS))
  for edge, null in zip(cell.edges, live.nulls(cell), strict=True):
    if not null and edge.source in found:
      found.add(edge.target)
  return frozenset(found)
