"""Networks written as blocks: their checks, and changes that keep the graph.

Example, a network with one residual block, three times:
  >>> from natjax.graph import shapes
  >>> block = Block(
  ...     nodes=(Node(16, activation="relu"), Node(16, activation="relu")),
  ...     edges=(Edge("conv_3x3", 1, 2), Edge("conv_3x3", 2, 3),
  ...            Edge("skip_connect", 1, 3)))
  >>> network = check(BlockNetwork(
  ...     "mine", stem=(Layer("conv", 16, kernel=3, activation="relu"),),
  ...     blocks=(block,) * 3, head=CLASSIFIER))
  >>> [shape.width for shape in shapes.of(network, Frame())[0].nodes]
  [16, 16, 16, 16]
"""

from collections.abc import Sequence
import math
import numbers
from typing import Any

from natjax import errors, operations
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.graph.records import Block, BlockNetwork, Edge, Frame, Layer
from natjax.operations import edges as edges_lib

CLASSIFIER = records.CLASSIFIER
NUM_INPUTS = records.NUM_INPUTS
Node = records.Node
SHARES = ("cell", "full")
_MOST = 10**6  # Of channels, pixels, classes.
_MOST_EDGES = 1000  # Of a cell; all operations on all edges of DARTS's are 112.
# The fields that layers of a kind have, besides their activation.
_WINDOW = ("kernel", "stride", "padding")
_OF_KINDS: dict[str, tuple[str, ...]] = {
    "conv": ("width", *_WINDOW), "depthwise_conv": _WINDOW,
    "max_pool": _WINDOW, "avg_pool": _WINDOW, "linear": ("width",),
    "dropout": ("rate",), "norm": (), "global_pool": (),
    "global_depthwise": (), "flatten": ()}
_NO_IMAGES = ("linear", "flatten", "global_pool", "global_depthwise")


def check_cell(cell: records.Cell, *, where: str = "cell") -> records.Cell:
  """Returns `cell`, with canonical operation names, if it is well formed.

  Args:
    cell: the cell to check.
    where: how the error names the cell.

  Raises:
    InputError: an unknown operation, an edge that does not come from an
      earlier node, edges out of order, a node without inputs, or an empty or
      unknown `concat`.
  """
  if not isinstance(cell, records.Cell) or not all(
      isinstance(part, tuple | list) for part in cell) or not all(
          isinstance(edge, Edge) for edge in cell.edges):
    raise errors.InputError(f"{where}: {errors.short(cell)} must be a Cell of a"
                            " tuple of Edges and a tuple of nodes; make one")
  if not cell.edges:
    raise errors.InputError(
        f"{where}: no edges given; list at least one [operation, from, to]")
  if len(cell.edges) > _MOST_EDGES:
    raise errors.InputError(
        f"{where}: {len(cell.edges)} edges given, and a cell may have"
        f" {_MOST_EDGES}; give a smaller one")
  edges = []
  for edge in cell.edges:
    edges.append(edge._replace(
        operation=operations.get(edge.operation, where=where).name))
    if not all(map(_is_number, edge[1:])):
      raise errors.InputError(
          f"{where}: edge {list(edge)} must join nodes by their numbers; give"
          " an operation's name and two integers")
    edges[-1] = edges[-1]._replace(
        source=int(edge.source), target=int(edge.target))
    if edge.target < NUM_INPUTS or not 0 <= edge.source < edge.target:
      raise errors.InputError(
          f"{where}: edge {list(edge)} must come from an earlier node than its"
          f" target, lest there be a cycle, and the target must be {NUM_INPUTS}"
          " or more (nodes 0 and 1 are the cell's inputs); renumber its nodes")
  targets = [edge.target for edge in cell.edges]
  if targets != sorted(targets):
    raise errors.InputError(
        f"{where}: edges must stand in order of their target node, but the"
        f" targets are {errors.short(targets, 200)}; sort them")
  nodes = range(NUM_INPUTS, NUM_INPUTS + cell.num_nodes)
  for node in nodes:
    if node not in targets:
      raise errors.InputError(
          f"{where}: node {node} has no inputs, so that nothing reaches it, and"
          " needs at least one; add an edge (`null` carries nothing)")
  if not cell.concat:
    raise errors.InputError(f"{where}: concat is empty; list the nodes of"
                            f" {list(nodes)} that the output concatenates")
  unknown = [node for node in cell.concat
             if not _is_number(node) or node not in nodes]
  if unknown or len(set(cell.concat)) != len(cell.concat):
    raise errors.InputError(f"{where}: concat {list(cell.concat)} must list"
                            f" different nodes of {list(nodes)}; correct it")
  return records.Cell(tuple(edges), tuple(map(int, cell.concat)))


def _is_number(node):
  return isinstance(node, numbers.Integral) and not isinstance(node, bool)


def check(network: BlockNetwork, *, where: str | None = None) -> BlockNetwork:
  """Returns `network`, with canonical operation names, if it can be built.

  Raises:
    InputError: no blocks, an unknown activation, norm or layer, a width or
      stride below one, an epsilon outside (0, 1), a graph that
      `check_cell` refuses, an edge into a larger image, or an
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
  if not network.head or network.head[-1][:2] != ("linear", 0):
    raise errors.InputError(
        f"{where}: the head must end with the classifier, a linear layer"
        " without width; use blocks.CLASSIFIER")
  _check_choice(where, "norm", network.norm, records.NORMS)
  epsilon = network.norm_epsilon
  if type(epsilon) is not float or not 0 < epsilon < 1:
    raise errors.InputError(
        f"{where}: norm_epsilon is {epsilon!r} and must be a number between 0"
        " and 1; PyTorch's default is 1e-5")
  for part in ("stem", "head"):
    for i, layer in enumerate(getattr(network, part)):
      _check_layer(f"{where}, {part} layer {i}", layer,
                   part == "head" and i + 1 == len(network.head))
  for i, layer in enumerate(network.stem):
    if layer.kind in _NO_IMAGES:
      raise errors.InputError(
          f"{where}, stem layer {i}: {layer.kind} leaves no image for the"
          " blocks; put it into the head")
  if not -1 <= network.early < len(network.stem):
    raise errors.InputError(
        f"{where}: early is {network.early} and must be the number of one of"
        f" the stem's {len(network.stem)} layers, or -1 for the last")
  names = [f"{where}, block {i}" for i in range(len(network.blocks))]
  if network.prefix:  # As the genotype has it.
    names = [f"{'reduce' if b.nodes[-1].stride > 1 else 'normal'} cell"
             for b in network.blocks]
  network = network._replace(
      stem=tuple(network.stem), head=tuple(network.head),
      blocks=tuple(map(_check_block, names, network.blocks)))
  # Shapes do not depend on the image's side, but for their sizes.
  for name, block, shapes in zip(
      names, network.blocks, shapes_lib.of(network, Frame()), strict=True):
    for edge in block.edges:
      hidden = network.prefix * (edge.target >= NUM_INPUTS + network.prefix)
      shown = edge._replace(source=edge.source - hidden,
                            target=edge.target - hidden)
      _check_edge(f"{name}, edge {list(shown)}", edge, shapes)
  return network


def check_types(where: str, record: Any) -> None:
  """Refuses fields of another type than their annotation's, or too large."""
  for name, value in record._asdict().items():
    wanted = type(record).__annotations__[name]
    if type(value) not in (wanted, int if wanted is float else wanted):
      raise errors.InputError(
          f"{where}: {name} is {errors.short(value)} and must be of type"
          f" {wanted.__name__}; correct it")
    if type(value) is int and abs(value) > _MOST:
      raise errors.InputError(
          f"{where}: {name} is {errors.short(value)}, and numbers are at most"
          f" {_MOST}; give a smaller one")


def _check_choice(where, name, value, allowed):
  if value not in allowed:
    raise errors.InputError(
        f"{where}: {name} is {value!r}; choose one of {', '.join(allowed)}")


def _check_item(where, item, size):
  """What layers and nodes have in common; `size` is a field of them."""
  check_types(where, item)
  _check_choice(where, "activation", item.activation, records.ACTIVATIONS)
  _check_choice(where, "padding", item.padding, records.PADDINGS)
  if getattr(item, size) < 1 or item.stride < 1:
    raise errors.InputError(
        f"{where}: {size} {getattr(item, size)} and stride {item.stride} must"
        " be at least 1; correct them")


def _check_layer(where, layer, last):
  _check_item(where, layer, "kernel")
  _check_choice(where, "kind", layer.kind, records.LAYER_KINDS)
  needs = layer.kind == "conv" or (layer.kind == "linear" and not last)
  if layer.width < (1 if needs else 0):
    raise errors.InputError(f"{where}: width is {layer.width} and must be at"
                            " least 1; give the layer's channels")
  if not 0 <= layer.rate < 1:
    raise errors.InputError(
        f"{where}: rate is {layer.rate} and must lie in [0, 1); correct it")
  if layer.kind == "depthwise_conv" and layer.kernel % 2 == 0 and (
      layer.padding == "symmetric"):
    raise errors.InputError(
        f"{where}: kernel is {layer.kernel}, and with as much padding on every"
        " side an even one does not keep the size of images, as depthwise"
        " convolutions do; give the padding same, or an odd kernel")
  for name, usual in layer._field_defaults.items():
    # BN is the default, and so of layers that none follows.
    idle = name not in (*_OF_KINDS[layer.kind], "activation") and name != "norm"
    if (idle and getattr(layer, name) != usual) or (
        layer.kind == name and not layer.norm):
      raise errors.InputError(
          f"{where}: {name} is {errors.short(getattr(layer, name))} and does"
          f" nothing in a layer of kind {layer.kind}; leave it out")


def _check_block(where, block):
  """Returns the block with canonical operation names, made of tuples."""
  for part, kind in (("nodes", Node), ("edges", Edge), ("concat", object)):
    items = getattr(block, part)
    if not isinstance(items, tuple | list) or not all(
        isinstance(item, kind) for item in items):
      raise errors.InputError(
          f"{where}: {part} are {errors.short(items)} and must be a tuple of"
          f" {'numbers' if kind is object else kind.__name__}; give one")
  if not block.nodes or not block.edges:
    raise errors.InputError(
        f"{where}: needs nodes and edges; list at least one of each")
  last = len(block.nodes) + NUM_INPUTS - 1
  if max(edge.target for edge in block.edges) != last:
    raise errors.InputError(
        f"{where}: has {len(block.nodes)} node(s), so edges must reach up to"
        f" node {last}, and the last leads into node"
        f" {max(edge.target for edge in block.edges)}; add or remove nodes")
  cell = check_cell(block.cell, where=where)
  for i, node in enumerate(block.nodes):
    name = f"{where}, node {i + NUM_INPUTS}"
    _check_item(name, node, "width")
    if node.shuffle < 0 or (node.shuffle and node.width % node.shuffle):
      raise errors.InputError(
          f"{name}: {node.width} channels cannot be shuffled in"
          f" {node.shuffle} groups; give a divisor, or 0 for none")
  strides = {block.node(n).stride for n in block.outputs}
  if len(strides) > 1:
    raise errors.InputError(
        f"{where}: concat {list(block.outputs)} joins nodes of strides"
        f" {sorted(strides)}; they must be equal")
  return Block(tuple(block.nodes), cell.edges,
               cell.concat if block.concat else ())


def _check_edge(where, edge, shapes):
  source, target = (shapes.nodes[n] for n in (edge.source, edge.target))
  if target.stride % source.stride:
    raise errors.InputError(
        f"{where}: goes from stride {source.stride} to stride {target.stride};"
        " images can only be made smaller, by whole factors (a node's stride"
        " counts from its block's input)")
  operation, ends = operations.get(edge.operation), shapes.ends(edge)
  if not edges_lib.can_stand(operation, ends):
    raise errors.InputError(
        f"{where}: '{operation.name}' can stand at stride"
        f" {' or '.join(map(str, operation.strides))} only, and this edge has"
        f" stride {ends.stride}; replace the operation")
  try:
    edges_lib.cost(operation, ends)
  except errors.InputError as e:
    raise errors.InputError(f"{where}: {e}") from e


def expand(network: BlockNetwork, place: records.Place) -> BlockNetwork:
  """The network itself, which stands written out.

  Raises:
    InputError: numbers of classes or pixels that no network can have.
  """
  if isinstance(place, Frame):
    check_types("the place of the network", place)
    for name, least in (
        ("num_classes", 0), ("image_size", 1), ("embedding", 0)):
      if getattr(place, name) < least:
        raise errors.InputError(
            f"the place of the network: {name} is {getattr(place, name)} and"
            f" must be at least {least}; correct it", name)
  return network


def parts(network: BlockNetwork) -> tuple[tuple[records.Cell, Any], ...]:
  """The blocks' graphs, each with what those have in common that are alike."""
  return tuple((block.cell, block.topology) for block in network.blocks)


def name(members: Sequence[int]) -> str:
  """Numbers of blocks in words: "block 3", or "blocks 0-2, 4".

  Args:
    members: in order.
  """
  runs: list[list[int]] = []
  for i in members:
    if not runs or runs[-1][1] != i - 1:
      runs.append([i, i])
    runs[-1][1] = i
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
  blocks = []
  for block, shapes in zip(
      network.blocks, shapes_lib.of(network, Frame()), strict=True):
    edges: list[Edge] = []
    for n, node in enumerate(block.nodes, NUM_INPUTS):
      into = block.cell.incoming(n)
      edges += into
      if not node.fixed:
        source = max((s for s in range(n)
                      if shapes.nodes[s] == shapes.nodes[n]), default=0)
        edges += [Edge(operations.NULL, source, n)] * (inputs - len(into))
    blocks.append(block._replace(edges=tuple(edges)))
  return network._replace(blocks=tuple(blocks))


def scale(network: BlockNetwork, factor: float) -> BlockNetwork:
  """Multiplies all widths by a factor, rounding to multiples of 8 if they were.

  Args:
    network: the network.
    factor: above 0; 1 returns the network as it is.

  Raises:
    InputError: another factor, or one that makes more channels than may be.
  """
  if not isinstance(factor, numbers.Real) or isinstance(factor, bool) or not (
      0 < factor < math.inf):
    raise errors.InputError(f"factor is {errors.short(factor)} and must be a"
                            " finite number above 0; give 0.5", "factor")
  if factor == 1.0:
    return network

  def wide(item):
    step = 8 if item.width % 8 == 0 else 1
    # No network is as wide, and infinity has no whole number.
    steps = min(item.width * factor / step, 1e9)
    width = max(step, round(steps) * step)
    if width > _MOST:
      raise errors.InputError(
          f"width is {width:.0e}, {item.width} times {factor:g}, and numbers"
          f" are at most {_MOST}; give a smaller factor")
    return item._replace(width=width) if item.width else item

  return network._replace(
      stem=tuple(map(wide, network.stem)), head=tuple(map(wide, network.head)),
      blocks=tuple(block._replace(nodes=tuple(map(wide, block.nodes)))
                   for block in network.blocks))


def supernet(network: BlockNetwork, width: float) -> BlockNetwork:
  """`scale`s what is searched in, whose factor is the setting supernet_width.

  Raises:
    InputError: as there.
  """
  try:
    return scale(network, width)
  except errors.InputError as e:
    raise errors.InputError(
        f"supernet-width is {width}: {e}", "supernet_width") from e


def place(*of_cells: Any, num_classes: int, image_size: int) -> Frame:
  """The frame of a network of blocks; see `codec.place`."""
  del of_cells  # A network of blocks brings its own.
  return Frame(num_classes, image_size)


def decide(network: BlockNetwork, place: records.Place,
           share: str) -> tuple[records.Decision, ...]:
  """What is decided on together.

  Args:
    network: the network.
    place: where it stands, which does not matter.
    share: "cell", blocks of one topology, or "full", every block by itself.

  Raises:
    InputError: another `share`.
  """
  del place
  errors.known("share", share, SHARES)
  found: dict[Any, list[int]] = {}
  for i, block in enumerate(network.blocks):
    found.setdefault(i if share == "full" else block.topology, []).append(i)

  def decision(members):
    block = network.blocks[members[0]]
    fixed = tuple(block.node(edge.target).fixed for edge in block.edges)
    return records.Decision(name(members), tuple(members), block.cell, fixed)

  return tuple(map(decision, found.values()))


def respell(network: BlockNetwork, decisions: Sequence[records.Decision],
            cells: Sequence[records.Cell]) -> BlockNetwork:
  """The network with the edges of other cells, one per decision."""
  blocks = list(network.blocks)
  for decision, cell in zip(decisions, cells, strict=True):
    for i in decision.members:
      blocks[i] = blocks[i]._replace(edges=cell.edges)
  return network._replace(blocks=tuple(blocks))
