"""Networks of NAS-Bench-1Shot1, as networks of blocks.

Zela, Siems, Hutter: "NAS-Bench-1Shot1: Benchmarking and Dissecting One-shot
Neural Architecture Search", ICLR 2020, section 3. An operation stands on a
node, and a node has a number of parents (`graph.nasbench1shot1`): node i of
theirs is two nodes here, S_i, the sum of its parents, and B_i, on whose one
edge the operation stands. What comes from the cell's input passes a 1x1
convolution of each node's own. Nine cells of one graph in three stages, of 16,
32 and 64 channels, with a max-pooling that pads by one between them (32 pixels
become 17, then 9). Every network is a cell of NAS-Bench-101 (`cell_of`), whose
table knows what it reaches in the benchmark's own skeleton.

How this differs from the released code:
- A cell's output is the sum of the output node's parents; theirs concatenates
  blocks, and has n times as many channels.
- ReLU follows the sum of a node and not every projection, which adds up to the
  same where none is negative.
"""

import functools

import numpy as np

from natjax import errors, operations
from natjax.graph import nasbench1shot1, nasbench101, records
from natjax.graph.records import Block, BlockNetwork, Edge, Layer, Node

CHANNELS = (16, 32, 64)
CELLS = 3  # Per stage.
# By those of NAS-Bench-101, in their order.
OPERATIONS = ("conv_3x3", "conv_1x1", "max_pool_3x3")
_AT_ONCE = 2**14  # Cells of which identities are computed.
_INPUT = 1  # A cell sees the output of the cell before it alone.


def _sum(node):
  """The number of S_i, of node i of the benchmark; of the last, the output."""
  return 2 * node


def _block(node):
  """The number of B_i; of node 0, the input."""
  return 2 * node + 1 if node else _INPUT


def brings(parent):
  """What brings the output of a parent to a sum."""
  return operations.SKIP if parent else "conv_1x1"


@functools.cache
def graph(name):
  """The network of a space whose choices are all null.

  Nodes that take all that comes before them are fixed.

  Raises:
    InputError: no such space.
  """
  nodes, edges = [], []
  ways = nasbench1shot1.ways(name)
  for i, some in enumerate(ways, 1):
    free = len(some) > 1
    nodes.append(Node(CHANNELS[0], activation="relu", fixed=not free))
    edges += [Edge(operations.NULL if free else brings(parent),
                   _block(parent), _sum(i)) for parent in range(i)]
    if i < len(ways):
      nodes.append(Node(CHANNELS[0], activation="relu"))
      edges.append(Edge(operations.NULL, _sum(i), _block(i)))
  return _stages(name, nodes, edges)


def _stages(name, nodes, edges):
  """The network of a cell, of which every stage has three."""
  blocks: list[Block] = []
  for stage, width in enumerate(CHANNELS):
    if stage:
      blocks.append(Block(
          (Node(CHANNELS[stage - 1], 2, fixed=True),),
          (Edge("max_pool_2x2_padded", _INPUT, records.NUM_INPUTS),)))
    blocks += [Block(tuple(node._replace(width=width) for node in nodes),
                     tuple(edges))] * CELLS
  return BlockNetwork(
      name, (Layer("conv", CHANNELS[0], 3, activation="relu"),), tuple(blocks),
      (Layer("conv", CHANNELS[-1]), *records.CLASSIFIER))


def of_cell(cell: nasbench101.Cell, *,
            where: str = "architecture") -> BlockNetwork:
  """The network of any cell of NAS-Bench-101, in the stages of these spaces.

  What does not count is left out. It has no place for what the cell has not:
  of a cell of these spaces, `network` has all choices.

  Example:
    >>> cell = nasbench101.from_text("010001000:input,maxpool3x3,output")
    >>> [edge.operation for edge in of_cell(cell).blocks[0].edges]
    ['conv_1x1', 'max_pool_3x3', 'skip_connect']

  Raises:
    InputError: no path leads through the cell, or it is larger than the
      benchmark's.
  """
  cell = nasbench101.from_arrays(*nasbench101.to_arrays(cell, where=where))
  matrix, names = cell
  edges = []
  for i in range(1, len(names)):
    edges += [Edge(brings(p), _block(p), _sum(i))
              for p in range(i) if matrix[p][i]]
    if i < len(names) - 1:
      edges.append(Edge(OPERATIONS[nasbench101.OPERATIONS.index(names[i])],
                        _sum(i), _block(i)))
  return _stages(nasbench101.to_text(cell), _nodes(len(names)), edges)


def _nodes(vertices):
  """Those of a cell without choices."""
  return [Node(CHANNELS[0], activation="relu")] * (2 * vertices - 3)


def cell_of(network: BlockNetwork) -> nasbench101.Cell:
  """The cell of NAS-Bench-101 of a network of one of these spaces.

  Or of one of `of_cell`, also with operations changed or nulled. Without what
  does not count; the network's name does not matter.

  Raises:
    InputError: it is no network of these spaces.
  """
  for name in nasbench1shot1.PARENTS:
    genes = genes_of(name, network)
    if genes is not None:
      return nasbench1shot1.cell(name, genes)
  found = _cell_of(network)
  if found is not None:
    return nasbench101.from_arrays(*nasbench101.to_arrays(
        found, where=f"network {errors.short(network.name)}"))
  raise errors.InputError(
      f"network {errors.short(network.name)} is none of NAS-Bench-1Shot1,"
      " which has one cell in all its stages; give one that a search in the"
      f" spaces {', '.join(nasbench1shot1.PARENTS)} finds")


def unfold(found: BlockNetwork) -> BlockNetwork:
  """What a search hands on: the network without what leads nowhere.

  A node has its number of parents, and need not be one itself: it would be
  trained and counted, and give nothing to the output.
  """
  return of_cell(cell_of(found))


def within(name: str, found: BlockNetwork) -> BlockNetwork | None:
  """A network of a space that has the cell of another network.

  Args:
    name: of the space (InputError).
    found: of these spaces, of another one or of `of_cell`.

  Returns:
    The first of those that differ in what leads nowhere; None where the space
    has none.
  """
  try:
    edges, labels = nasbench101.to_arrays(cell_of(found))
  except errors.InputError:
    return None
  alike = np.flatnonzero((_identities(name) == nasbench101.identity(
      edges, labels)).all(-1))
  return network(name, nasbench1shot1.all_genes(name)[alike[0]]) if (
      alike.size) else None


@functools.cache
def _identities(name):
  """Those of all cells of a space, u32[R, 2]."""
  genes = nasbench1shot1.all_genes(name)
  return np.concatenate([
      nasbench101.identity(*nasbench101.pruned(*nasbench1shot1.to_arrays(
          name, genes[start:start + _AT_ONCE])))
      for start in range(0, len(genes), _AT_ONCE)])


def _cell_of(network):
  """The whole cell of a network of `of_cell`; None of others."""
  if not network.blocks:
    return None
  edges = network.blocks[0].edges
  vertices = len(network.blocks[0].nodes) // 2 + 2
  matrix = np.zeros((vertices, vertices), int)
  names = ["input", *nasbench101.OPERATIONS[:1] * (vertices - 2), "output"]
  if network != _stages(network.name, _nodes(vertices), edges):
    return None
  live = {0, vertices - 1}
  for operation, source, target in edges:
    if operation == operations.NULL:
      continue
    node, parent = target // 2, source // 2
    if target == _sum(node):
      if source != _block(parent) or operation != brings(parent):
        return None
      matrix[parent, node] = 1
    elif source == _sum(node) and operation in OPERATIONS:
      names[node] = nasbench101.OPERATIONS[OPERATIONS.index(operation)]
      live.add(node)
    else:
      return None
  for node in {*range(vertices)} - live:  # Its operation is null.
    matrix[node] = 0
  return nasbench101.check(matrix, names)


def genes_of(name: str, network: BlockNetwork) -> np.ndarray | None:
  """Genes i[P] of a network of a space; None of others.

  Args:
    name: of the space (InputError).
    network: any.
  """
  own = graph(name)
  if len(network.blocks) != len(own.blocks):
    return None
  edges = network.blocks[0].edges
  blocks = [block if all(node.fixed for node in block.nodes) else
            block._replace(edges=edges) for block in own.blocks]
  if network != own._replace(name=network.name, blocks=tuple(blocks)) or (
      [edge[1:] for edge in edges] != [e[1:] for e in own.blocks[0].edges]):
    return None
  ways, chosen, names = nasbench1shot1.ways(name), [], []
  for i, some in enumerate(ways, 1):
    into = [edge for edge in edges if edge.target == _sum(i)]
    there = tuple(p for p in range(i) if into[p].operation == brings(p))
    if there not in some or any(
        edge.operation not in (brings(p), operations.NULL)
        for p, edge in enumerate(into)):
      return None
    if len(some) > 1:
      chosen.append(some.index(there))
    if i < len(ways):
      name = next(e for e in edges if e.target == _block(i)).operation
      if name not in OPERATIONS:
        return None
      names.append(OPERATIONS.index(name))
  return np.array(chosen + names)


def network(name: str, genes: np.ndarray) -> BlockNetwork:
  """The network of a cell.

  Args:
    name: of the space.
    genes: i[P] (`graph.nasbench1shot1`).

  Raises:
    InputError: no such space.
  """
  own = graph(name)
  places = iter(np.asarray(genes).tolist())
  ways = nasbench1shot1.ways(name)
  kept = [some[next(places)] if len(some) > 1 else some[0] for some in ways]
  found: dict[tuple[int, ...], str] = {}
  for i, parents in enumerate(kept, 1):
    found |= {(_block(p), _sum(i)): brings(p) for p in parents}
    if i < len(ways):
      found[_sum(i), _block(i)] = OPERATIONS[next(places)]
  edges = tuple(edge._replace(operation=found.get(edge[1:], operations.NULL))
                for edge in own.blocks[0].edges)
  return own._replace(blocks=tuple(
      block if all(node.fixed for node in block.nodes) else
      block._replace(edges=edges) for block in own.blocks))
