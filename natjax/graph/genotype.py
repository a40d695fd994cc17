"""Genotypes: two cells, in a skeleton, as a spelling of networks.

A cell is a small graph. Nodes 0 and 1 are the outputs of the previous-previous
and the previous cell; every later node sums its incoming edges; the output
concatenates the nodes listed in `concat`. A genotype is the pair of cells
(normal, reduce) that all layers of a network share; `expand` writes it out as
that network.

Text forms: JSON (`to_dict`, `from_dict`) and the `Genotype(...)` text of DARTS
(`to_darts`, `from_darts`), which is parsed as a literal and never evaluated.
"""

import ast
from collections.abc import Sequence
import functools
import re
from typing import Any

from natjax import errors, operations
from natjax.graph import blocks, modules, parsing, records
from natjax.graph import skeleton as skeleton_lib
from natjax.graph.records import Cell, CELL_TYPES, Edge, Genotype, NUM_INPUTS

_CALL = re.compile(r"(?:\b(?P<name>\w+)(?:[ \t]?:[ \t]?(?:\w+\.)?Genotype)?"
                   r"\s*=[\s\\]*)?(?:\b\w+\.){0,4}"
                   r"(?<!class )\b(?P<call>Genotype\s*\()")
# What numbers, texts and lists are made by, as NumPy and PyTorch print them.
_MAKERS = re.compile(r"u?int(\d+|_)?|str_?|tensor|array|list|tuple")
_LONGEST = 100_000  # Characters of one genotype.
# What word processors and pages put for spaces and quotes.
_TYPED = str.maketrans("\xa0\u2018\u2019\u201c\u201d", " ''\"\"")
# Of others' records, what says nothing of the architecture.
_OTHER_FIELDS = ("score", "connectN", "connects")


def check(genotype: Genotype, *, where: str = "genotype") -> Genotype:
  """Returns `genotype` with canonical operation names if it is well formed.

  Raises:
    InputError: as `blocks.check_cell`, naming the cell.
  """
  return Genotype(*(blocks.check_cell(cell, where=f"{where}, {name} cell")
                    for name, cell in zip(CELL_TYPES, genotype, strict=True)))


def place(skeleton: str, init_channels: int, cells: int, *, num_classes: int,
          image_size: int) -> records.Skeleton:
  """The skeleton in which cells stand; see `codec.place`."""
  return skeleton_lib.check(records.Skeleton(
      skeleton, init_channels, cells, num_classes, image_size))


@functools.lru_cache(maxsize=64)
def expand(genotype: Genotype,
           skeleton: records.Skeleton) -> records.BlockNetwork:
  """Writes out the network of a genotype: every cell is a block.

  A block's nodes 2 and 3, which are fixed and which the genotype does not show
  (`BlockNetwork.prefix`), bring its inputs to C channels by a 1x1 convolution;
  by a factorised reduce where the first of the two has the larger image.

  Raises:
    InputError: the skeleton cannot be built, or an operation stands where its
      stride or its channels do not allow it.

  Example:
    >>> from natjax import zoo
    >>> network = expand(zoo.get("darts"), records.Skeleton())
    >>> len(network.blocks), network.blocks[6].edges[0].operation
    (20, 'conv_1x1')
    >>> network.blocks[7].edges[0].operation
    'skip_connect'
  """
  genotype = check(genotype)  # In its own numbers of nodes.
  skeleton_lib.check(skeleton)
  found, reduced = [], skeleton.kind == "imagenet"
  for i, channels in enumerate(skeleton.channels):
    reduction = i in skeleton.reductions
    cell = genotype[int(reduction)]
    nodes = (records.Node(channels, fixed=True),) * NUM_INPUTS + (
        records.Node(channels, 2 if reduction else 1),) * cell.num_nodes
    first = operations.SKIP if reduced else "conv_1x1"
    edges = (Edge(first, 0, NUM_INPUTS), Edge("conv_1x1", 1, NUM_INPUTS + 1), *(
        Edge(e.operation, e.source + NUM_INPUTS, e.target + NUM_INPUTS)
        for e in cell.edges))
    found.append(records.Block(
        nodes, edges, tuple(n + NUM_INPUTS for n in cell.concat)))
    reduced = reduction
  return blocks.check(records.BlockNetwork(
      "cells", stem=skeleton_lib.stem(skeleton), blocks=tuple(found),
      preactivate=True, early=skeleton_lib.early(skeleton), prefix=NUM_INPUTS))


def pad(genotype: Genotype) -> Genotype:
  """The genotype itself, whose null edges are its own."""
  return genotype


def parts(genotype: Genotype) -> tuple[tuple[Cell, str], ...]:
  """The two cells, with their names."""
  return tuple(zip(genotype, CELL_TYPES, strict=True))


def name(members: Sequence[int]) -> str:
  """What a cell of `parts` is called."""
  return CELL_TYPES[members[0]]


def unshared(genotype: Genotype,
             skeleton: records.Skeleton) -> records.BlockNetwork:
  """The network of a genotype as blocks that are transformed one by one."""
  return expand(check(genotype), skeleton)._replace(prefix=0)


def decide(genotype: Genotype, skeleton: records.Skeleton,
           share: str) -> tuple[records.Decision, ...]:
  """What is decided on together: all normal cells, and all reduction cells.

  Raises:
    InputError: `share` is not "cell".
  """
  if share != "cell":
    raise errors.InputError(
        f"share is '{share}', and a genotype's two cells are shared by all"
        " layers; unshare them by genotype.unshared, or share by 'cell'",
        field="share")
  members: dict[str, list[int]] = {name: [] for name in CELL_TYPES}
  for i in range(skeleton.cells):
    members[CELL_TYPES[i in skeleton.reductions]].append(i)
  return tuple(
      records.Decision(name, tuple(own), cell, (False,) * len(cell.edges))
      for (name, own), cell in zip(members.items(), genotype, strict=True))


def respell(genotype: Genotype, decisions: Sequence[records.Decision],
            cells: Sequence[Cell]) -> Genotype:
  """The genotype with other cells, one per decision."""
  del genotype, decisions
  return Genotype(*cells)


def to_dict(genotype: Genotype) -> dict:
  """The JSON form: lists of [operation, from, to] and the concats."""
  found: dict[str, list] = {}
  for cell_type, cell in zip(CELL_TYPES, genotype, strict=True):
    found[cell_type] = [list(edge) for edge in cell.edges]
    found[f"{cell_type}_concat"] = list(cell.concat)
  return found


def from_dict(data: object, *, where: str = "genotype") -> Genotype:
  """Reads the JSON form.

  Example:
    >>> edges = [["conv_3x3", 0, 2], ["none", 1, 2]]
    >>> g = from_dict({"normal": edges, "normal_concat": [2],
    ...                "reduce": edges, "reduce_concat": [2]})
    >>> g.normal.edges[1]
    Edge(operation='null', source=1, target=2)

  Raises:
    InputError: `data` has another form, or `check` refuses the genotype.
  """
  keys = ("normal", "normal_concat", "reduce", "reduce_concat")
  if not isinstance(data, dict) or set(data) != set(keys):
    given = (sorted(map(str, data)) if isinstance(data, dict)
             else type(data).__name__)
    raise errors.InputError(
        f"{where}: given {given}; a genotype is an object with the keys"
        f" {', '.join(keys)}; give such a one, or another form that natjax"
        " reads")
  return check(Genotype(*(
      Cell(parsing.edges(_listed(data[name], f"{where}: '{name}'"),
                         f"{where}: '{name}'"),
           parsing.counts(data[f"{name}_concat"], f"{where}: '{name}_concat'"))
      for name in CELL_TYPES)), where=where)


def _listed(edges, what):
  """JSON's edges as triples; what is no list of lists, as it is."""
  lists = isinstance(edges, list) and all(
      isinstance(edge, list) and (not edge or not isinstance(edge[0], list)
                                  or all(isinstance(e, list) for e in edge))
      for edge in edges)
  return _triples(edges, what) if lists else edges


def to_darts(genotype: Genotype) -> str:
  """Writes the `Genotype(...)` text of DARTS: (operation, from) per edge.

  Where a node has another number of inputs than two, (operation, from, to).
  """
  parts = []
  for cell_type, cell in zip(CELL_TYPES, genotype, strict=True):
    pairs = len(cell.edges) % 2 == 0 and all(
        edge.target == NUM_INPUTS + i // 2 for i, edge in enumerate(cell.edges))
    edges = [tuple(e)[:2] if pairs else tuple(e) for e in cell.edges]
    parts += [f"{cell_type}={edges!r}",
              f"{cell_type}_concat={list(cell.concat)!r}"]
  return f"Genotype({', '.join(parts)})"


to_line = to_darts


def to_original(genotype: Genotype) -> str:
  """Writes `to_darts`'s text as the original code of DARTS reads it.

  That knows nothing as `none`, and two inputs of every node: what has fewer is
  given `none` from node 0.

  Raises:
    InputError: a node has more, or nodes are left out.

  Example:
    >>> cell = Cell((Edge("null", 0, 2), Edge("conv_3x3", 1, 2),
    ...              Edge("skip_connect", 2, 3)), (2, 3))
    >>> to_original(Genotype(cell, cell))[:71]
    "Genotype(normal=[('none', 0), ('conv_3x3', 1), ('skip_connect', 2), ('n"
  """
  cells = []
  for cell, cell_type in zip(genotype, CELL_TYPES, strict=True):
    edges: list[Edge] = []
    for node in range(NUM_INPUTS, NUM_INPUTS + cell.num_nodes):
      own = cell.incoming(node)
      if len(own) > 2:
        raise errors.InputError(
            f"node {node} of the {cell_type} cell has {len(own)} inputs, and"
            " DARTS's text can say two; write JSON instead")
      edges += [*own, *[Edge(operations.NULL, 0, node)] * (2 - len(own))]
    cells.append(Cell(tuple(
        edge._replace(operation="none") if edge.operation == operations.NULL
        else edge for edge in edges), cell.concat))
  return to_darts(Genotype(*cells))


def from_darts(text: str, *, where: str = "genotype",
               name: str | None = None) -> Genotype:
  """Reads the `Genotype(...)` text of DARTS, which lists two edges per node.

  Accepts (operation, from) pairs, the i-th of which goes to node 2 + i // 2,
  or one list of pairs per node, also with weights, (operation, from, weight),
  as GDAS logs them, (operation, from, to) triples, or (operation, to, from) as
  FairDARTS has them, `range(a, b)` as concat, and fields without names in their
  order. The text may stand in a
  module that names it, also in a dictionary or a list (`NAME[0]`), or in a log,
  of which the last whole one is read (`last_of`). Nothing in the text is
  evaluated.

  Args:
    text: of a file.
    where: what the error calls it.
    name: of one of several genotypes.

  Raises:
    InputError: another form, several names or not this one, several in a module
      without names, or `check` refuses the genotype.
  """
  try:
    call = _chosen(text, where, name)[-1].value
    if isinstance(call, str):
      call = ast.parse(call, mode="eval").body
    data = _fields(call)
    for other in [*data]:
      if other in _OTHER_FIELDS or data[other] is None:
        del data[other]
    for cell_type in CELL_TYPES:
      data[cell_type] = _forwards(
          _triples(data[cell_type], f"{where}: '{cell_type}'"))
      data[f"{cell_type}_concat"] = list(data[f"{cell_type}_concat"])
  except errors.InputError:
    raise
  except (ValueError, SyntaxError, KeyError, TypeError, IndexError,
          RecursionError, MemoryError, OverflowError) as e:
    raise errors.InputError(
        f"{where}: not of the form Genotype(normal=[('operation', from), ...],"
        " normal_concat=[...], reduce=[...], reduce_concat=[...])") from e
  return from_dict(data, where=where)


def last_of(text: str, name: str | None = None) -> tuple[int, int]:
  """How many genotypes a text holds of which `from_darts` reads the last one.

  Args:
    text: that `from_darts` has read.
    name: of one of several genotypes.

  Returns:
    That number, and the line where the last one begins, from 1.
  """
  chosen = _chosen(text, "genotype", name)
  return len(chosen), chosen[-1].line


def is_literal(text: str) -> bool:
  """Whether a genotype in a text is written out, not made of variables."""
  for found in modules.find(text, _is_call) or _calls(text):
    try:
      call = found.value
      _fields(ast.parse(call, mode="eval").body
              if isinstance(call, str) else call)
      return True
    except (ValueError, SyntaxError, TypeError, AttributeError, RecursionError,
            MemoryError, OverflowError):
      continue
  return False


def _chosen(text, where, name):
  """The calls that are meant, of which the last one counts."""
  text = text.translate(_TYPED)
  found = modules.find(text, _is_call, name)
  if found:
    modules.unnamed(found, where=where, what="genotypes")
  else:
    found = modules.logged(_logged(text), name)
  return modules.choose(found, name, where=where, what="genotypes")


def _is_call(node):
  """Whether an expression is a `Genotype(...)`."""
  return isinstance(node, ast.Call) and _function(node) == "Genotype"


def _function(call):
  """The name of what is called, without those of its modules."""
  return getattr(call.func, "attr", getattr(call.func, "id", None))


def _fields(call):
  """The values of a call by the names of its fields."""
  names = ["normal", "normal_concat", "reduce", "reduce_concat"]
  pairs = [*zip(names, call.args, strict=False),
           *((keyword.arg, keyword.value) for keyword in call.keywords)]
  data: dict[Any, Any] = {key: literal(value) for key, value in pairs}
  if len(data) != len(call.args) + len(call.keywords):
    raise ValueError("too many fields, or one twice")
  return data


def cut_off(text: str) -> int | None:
  """The line of a log where its last genotype begins, if that is not whole.

  As where a search was killed while it wrote.

  Args:
    text: that `from_darts` has read.

  Returns:
    None of a log that ends in a whole one, and of a module.
  """
  text = text.translate(_TYPED)
  if modules.find(text, _is_call):
    return None
  *_, last = _calls(text)
  return last.line if last.value is None else None


def _logged(text):
  """The calls in a log that are whole; lines of comments are left out.

  Raises:
    ValueError: none.
  """
  found = [call for call in _calls(text) if call.value is not None]
  if not found:
    raise ValueError("no call that ends")
  return found


def _calls(text):
  """The calls in a log in order, whose value is None where they are cut off."""
  text = re.sub(r"(?m)^[ \t]*#.*$", "", text)
  matches = [*_CALL.finditer(text)]
  ends = [match.start("call") for match in matches[1:]] + [len(text)]
  line, before = 1, 0
  for match, end in zip(matches, ends[:len(matches)], strict=True):
    begin = match.start("call")
    line += text.count("\n", before, begin)
    before = begin
    yield modules.Found(match["name"], (), line, _closed(
        text, begin, min(end, begin + _LONGEST)))


def _closed(text, begin, end):
  """A call from where it begins to its last bracket; None where it is cut off.
  """
  depth, quote, escaped, comment = 0, "", False, False
  for i in range(begin, end):
    letter = text[i]
    if comment:
      comment = letter != "\n"
    elif quote:
      if letter == "\n":
        return None
      quote = quote if escaped or letter != quote else ""
      escaped = letter == "\\" and not escaped
    elif letter in "\"'":
      quote = letter
    elif letter == "#":
      comment = True
    else:
      depth += (letter in "([{") - (letter in ")]}")
      if depth == 0 and letter == ")":
        return text[begin:i + 1]
  return None


def _triples(edges, what):
  """Edges as [operation, from, to], of which pairs leave the last part out.

  Raises:
    InputError: pairs of which it cannot be told where each leads.
  """
  if edges and all(item and isinstance(item[0], list | tuple)
                   for item in edges):  # Lists of nodes.
    return [[*(edge[:2] if isinstance(edge[-1], float) else edge),
             NUM_INPUTS + i] for i, item in enumerate(edges) for edge in item]
  pairs = sum(len(item) == 2 for item in edges)
  if (pairs % 2 and len(edges) > 1) or 0 < pairs < len(edges):
    raise errors.InputError(
        f"{what} has {pairs} (operation, from) pairs among {len(edges)} edges,"
        " and nodes have two each, in their order: add the edge that is"
        " missing, or give every edge as (operation, from, to)")
  # Others than pairs and triples are left to be refused.
  return [[*item, NUM_INPUTS + i // 2] if len(item) == 2 else list(item)
          for i, item in enumerate(edges)]


def _forwards(edges):
  """Triples of which all lead backwards, the other way round."""
  backwards = edges and all(
      len(edge) == 3 and all(map(parsing.is_count, edge[1:]))
      and edge[1] > edge[2] for edge in edges)
  return [[name, source, target]
          for name, target, source in edges] if backwards else edges


def literal(node: ast.expr) -> Any:
  """A literal, in which `range(...)` of literals may stand as in DARTS's files.

  Numbers and lists may stand in what made them, as `np.int64(0)`; NumPy's
  `arange` is read as `range`.

  Example:
    >>> literal(ast.parse("{'concat': range(2, 4)}", mode="eval").body)
    {'concat': [2, 3]}

  Raises:
    ValueError: something else; or TypeError, SyntaxError, RecursionError,
      MemoryError.
  """
  return ast.literal_eval(_Bare().visit(node))


class _Bare(ast.NodeTransformer):
  """Takes literals out of what made them: one argument, and maybe its type."""

  def visit_Call(self, node):
    self.generic_visit(node)
    if _function(node) in ("range", "arange") and not node.keywords:
      numbers = range(*(ast.literal_eval(a) for a in node.args))
      if len(numbers) > 1000:
        raise ValueError("no cell has so many nodes")
      return ast.List([ast.Constant(n) for n in numbers], ast.Load())
    if len(node.args) == 1 and _MAKERS.fullmatch(_function(node) or "") and all(
        keyword.arg in ("device", "dtype") for keyword in node.keywords):
      return node.args[0]
    return node
