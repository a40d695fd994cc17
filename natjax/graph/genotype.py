"""Architectures as immutable records and as device-side arrays.

A cell is a small directed acyclic graph. Nodes 0 and 1 are the outputs of the
previous-previous and the previous cell; every later node sums its incoming
edges; the output concatenates the nodes listed in `concat`. A genotype is the
pair of cells (normal, reduce) that all layers of a network share.

Text forms: JSON (`to_json`, `from_json`) and the `Genotype(...)` text of DARTS
(`to_darts`, `from_darts`), which is parsed as a literal and never evaluated.
"""

import ast
from collections.abc import Sequence
import json
import os
import pathlib
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax import operations

NUM_INPUTS = 2  # Nodes 0 and 1 of every cell.
CELL_TYPES = ("normal", "reduce")


class Edge(NamedTuple):
  """An operation applied to node `source`, added into node `target`."""

  operation: str
  source: int
  target: int


class Cell(NamedTuple):
  """One cell.

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

  def incoming(self, node: int) -> tuple[Edge, ...]:
    """The edges into `node`, in order."""
    return tuple(edge for edge in self.edges if edge.target == node)

  def stride(self, edge: Edge, reduction: bool) -> int:
    """2 for an edge from a cell input in a reduction cell, else 1."""
    return 2 if reduction and edge.source < NUM_INPUTS else 1


class Genotype(NamedTuple):
  """A pair of cells; every layer of a network uses one of the two."""

  normal: Cell
  reduce: Cell

  @property
  def kind(self) -> str:
    """What is written: "cells" that stand in a skeleton, or "blocks"."""
    return "cells"

  @property
  def num_nodes(self) -> int:
    """Number of intermediate nodes of the larger cell."""
    return max(cell.num_nodes for cell in self)


@chex.dataclass(frozen=True)
class CellArrays:
  """Cells as data, so that a compiled function serves every architecture.

  With leading axes as needed, the last two of an edge's fields being [N, 2]:
  node and its slot. Example: node 3 = skip(0) + conv(2) of a 4-node cell is
  row 1: `source[1] = (0, 2)`, `operation[1] = (index of skip, index of conv)`.

  Attributes:
    source: i32[..., N, 2], node that feeds the slot, in [0, 2 + row).
    operation: i32[..., N, 2], index into the search space's candidates.
    concat: bool[..., N], whether the cell's output concatenates the node.
  """

  source: jax.Array
  operation: jax.Array
  concat: jax.Array


def check_cell(
    cell: Cell,
    *,
    where: str = "cell",
    inputs_per_node: int | None = None,
) -> Cell:
  """Returns `cell` if it is well formed.

  Args:
    cell: the cell to check.
    where: how the error names the cell.
    inputs_per_node: edges that every node must have; None allows any number
      of at least one.

  Raises:
    InputError: an unknown operation, an edge that does not come from an
      earlier node, edges out of order, a node without its inputs, or an empty
      or unknown `concat`.
  """
  if not cell.edges:
    raise errors.InputError(
        f"{where}: no edges given; list at least one [operation, from, to]"
    )
  for edge in cell.edges:
    operations.get(edge.operation, where=where)
    if edge.target < NUM_INPUTS or not 0 <= edge.source < edge.target:
      raise errors.InputError(
          f"{where}: edge {list(edge)} must come from an earlier node than its"
          f" target, and the target must be {NUM_INPUTS} or more (nodes 0 and"
          " 1 are the cell's inputs); renumber its nodes"
      )
  targets = [edge.target for edge in cell.edges]
  if targets != sorted(targets):
    raise errors.InputError(
        f"{where}: edges must stand in order of their target node, but the"
        f" targets are {targets}; sort them"
    )
  nodes = range(NUM_INPUTS, NUM_INPUTS + cell.num_nodes)
  for node in nodes:
    count = len(cell.incoming(node))
    if not count or inputs_per_node not in (None, count):
      wanted = "at least one input" if inputs_per_node is None else (
          f"exactly {inputs_per_node} inputs"
      )
      raise errors.InputError(
          f"{where}: node {node} has {count} input(s) and needs {wanted}; add"
          " or remove edges (a `null` edge pads)"
      )
  if not cell.concat:
    raise errors.InputError(
        f"{where}: concat is empty; list the nodes of {list(nodes)} that the"
        " output concatenates"
    )
  unknown = [node for node in cell.concat if node not in nodes]
  if unknown or len(set(cell.concat)) != len(cell.concat):
    raise errors.InputError(
        f"{where}: concat {list(cell.concat)} must list different nodes of"
        f" {list(nodes)}; correct it"
    )
  return cell


def check(
    genotype: Genotype, *, where: str = "genotype", inputs_per_node: int = 2
) -> Genotype:
  """Returns `genotype` with canonical operation names if it is well formed.

  Raises:
    InputError: as `check_cell`, naming the cell.
  """
  cells = []
  for cell_type, cell in zip(CELL_TYPES, genotype, strict=True):
    check_cell(
        cell, where=f"{where}, {cell_type} cell",
        inputs_per_node=inputs_per_node,
    )
    cells.append(Cell(
        tuple(e._replace(operation=operations.canonical(e.operation))
              for e in cell.edges),
        cell.concat,
    ))
  return Genotype(*cells)


def cell_arrays(cell: Cell, candidates: Sequence[str]) -> CellArrays:
  """Encodes a cell with two inputs per node.

  Args:
    cell: a cell of N intermediate nodes.
    candidates: operation names of the search space, in order.

  Returns:
    `CellArrays` of shape [N, 2] (host arrays).

  Raises:
    InputError: a node without exactly two inputs, or an operation that is not
      among the candidates.
  """
  check_cell(cell, inputs_per_node=2)
  for edge in cell.edges:
    if operations.canonical(edge.operation) not in candidates:
      raise errors.InputError(
          f"operation '{edge.operation}' (edge {list(edge)}) is not a candidate"
          f" of this search space, which has {', '.join(candidates)}; choose a"
          " space that holds it or replace the operation"
      )
  index = [candidates.index(operations.canonical(e.operation))
           for e in cell.edges]
  shape = (cell.num_nodes, 2)
  return CellArrays(
      source=np.reshape(np.array([e.source for e in cell.edges], np.int32),
                        shape),
      operation=np.reshape(np.array(index, np.int32), shape),
      concat=np.isin(np.arange(cell.num_nodes) + NUM_INPUTS, cell.concat),
  )


def genotype_arrays(
    genotype: Genotype, candidates: Sequence[str]
) -> CellArrays:
  """Encodes a genotype: `CellArrays` of shape [2, N, 2], normal cell first."""
  encoded = [cell_arrays(cell, candidates) for cell in genotype]
  if genotype.normal.num_nodes != genotype.reduce.num_nodes:
    raise errors.InputError(
        f"the normal cell has {genotype.normal.num_nodes} nodes and the reduce"
        f" cell {genotype.reduce.num_nodes}; this search space needs equally"
        " many (pad with `null` edges)"
    )
  return jax.tree.map(lambda *x: np.stack(x), *encoded)


def genotype_from_arrays(
    arrays: CellArrays, candidates: Sequence[str]
) -> Genotype:
  """Decodes `CellArrays` of shape [2, N, 2]; the inverse of `genotype_arrays`.

  Args:
    arrays: encoded normal and reduce cell.
    candidates: operation names of the search space, in order.
  """
  cells = []
  for source, operation, concat in zip(
      np.asarray(arrays.source), np.asarray(arrays.operation),
      np.asarray(arrays.concat), strict=True,
  ):
    edges = tuple(
        Edge(candidates[int(operation[i, k])], int(source[i, k]),
             i + NUM_INPUTS)
        for i in range(source.shape[0]) for k in range(2)
    )
    nodes = np.flatnonzero(concat) + NUM_INPUTS
    cells.append(Cell(edges, tuple(nodes.tolist())))
  return Genotype(*cells)


def stack(arrays: Sequence[CellArrays]) -> CellArrays:
  """Stacks equally shaped `CellArrays` along a new leading axis."""
  return jax.tree.map(lambda *x: jnp.stack(x), *arrays)


def live_nodes(cell: Cell) -> frozenset[int]:
  """Nodes that carry a signal: reached from an input over non-null edges."""
  alive = set(range(NUM_INPUTS))
  for edge in cell.edges:
    operation = operations.canonical(edge.operation)
    if operation != operations.NULL and edge.source in alive:
      alive.add(edge.target)
  return frozenset(alive)


def to_dict(genotype: Genotype) -> dict:
  """The JSON form: lists of [operation, from, to] and the concats."""
  return {
      "normal": [list(edge) for edge in genotype.normal.edges],
      "normal_concat": list(genotype.normal.concat),
      "reduce": [list(edge) for edge in genotype.reduce.edges],
      "reduce_concat": list(genotype.reduce.concat),
  }


def to_json(genotype: Genotype) -> str:
  """Writes the JSON form as text."""
  return json.dumps(to_dict(genotype), indent=2)


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
    given = sorted(map(str, data)) if isinstance(data, dict) else (
        type(data).__name__
    )
    raise errors.InputError(
        f"{where}: given {given}; a genotype is an object with the keys"
        f" {', '.join(keys)}; add or remove keys"
    )
  cells = []
  for cell_type in CELL_TYPES:
    edges, concat = data[cell_type], data[f"{cell_type}_concat"]
    if not (isinstance(edges, list) and all(is_edge(e) for e in edges)):
      raise errors.InputError(
          f"{where}: '{cell_type}' must be a list of"
          " [operation, from, to] with a text and two whole numbers"
      )
    if not (isinstance(concat, list) and all(is_count(c) for c in concat)):
      raise errors.InputError(
          f"{where}: '{cell_type}_concat' must be a list of node numbers,"
          f" given {concat!r}"
      )
    cells.append(Cell(tuple(Edge(*e) for e in edges), tuple(concat)))
  return check(Genotype(*cells), where=where)


def parse_json(text: str, *, where: str) -> object:
  """Parses JSON text (InputError)."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as e:
    raise errors.InputError(
        f"{where}: not JSON ({e}); give a file such as a run's"
        " architecture.json") from e


def from_json(text: str, *, where: str = "genotype") -> Genotype:
  """Reads the JSON form from text; see `from_dict`."""
  return from_dict(parse_json(text, where=where), where=where)


def to_darts(genotype: Genotype) -> str:
  """Writes the `Genotype(...)` text of DARTS: (operation, from) per edge."""
  parts = []
  for cell_type, cell in zip(CELL_TYPES, genotype, strict=True):
    edges = [(e.operation, e.source) for e in cell.edges]
    parts.append(f"{cell_type}={edges!r}")
    parts.append(f"{cell_type}_concat={list(cell.concat)!r}")
  return f"Genotype({', '.join(parts)})"


def from_darts(text: str, *, where: str = "genotype") -> Genotype:
  """Reads the `Genotype(...)` text of DARTS, which lists two edges per node.

  Accepts (operation, from) pairs, the i-th of which goes to node 2 + i // 2,
  (operation, from, to) triples, and `range(a, b)` as concat. Nothing in the
  text is evaluated.

  Raises:
    InputError: another form, or `check` refuses the genotype.
  """
  form = (
      f"{where}: not of the form Genotype(normal=[('operation', from), ...],"
      " normal_concat=[...], reduce=[...], reduce_concat=[...])"
  )
  try:
    call = ast.parse(text.strip().split("=", 1)[1].strip()
                     if not text.strip().startswith("Genotype")
                     else text.strip(), mode="eval").body
    if (not isinstance(call, ast.Call) or call.args
        or getattr(call.func, "id", None) != "Genotype"):
      raise ValueError("not a call with keywords")
    data = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
    for cell_type in CELL_TYPES:
      # Two parts, (operation, from), or three; others are left to be refused.
      data[cell_type] = [
          [*edge, NUM_INPUTS + i // 2] if len(edge) == 2 else list(edge)
          for i, edge in enumerate(data[cell_type])
      ]
      data[f"{cell_type}_concat"] = list(data[f"{cell_type}_concat"])
  except (ValueError, SyntaxError, KeyError, TypeError, IndexError,
          RecursionError, MemoryError, OverflowError) as e:
    raise errors.InputError(form) from e
  return from_dict(data, where=where)


def read_text(path: str | os.PathLike[str]) -> str:
  """Reads a text file.

  Raises:
    InputError: no such file, or not text.
  """
  path = pathlib.Path(path)
  try:
    return path.read_text(encoding="utf-8")
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; name a file") from e
  except ValueError as e:  # Not UTF-8, or a path that no file can have.
    raise errors.InputError(f"{str(path)!r}: not a text file; give JSON") from e


def is_count(value: object) -> bool:
  """Whether a JSON value is a whole number."""
  return isinstance(value, int) and not isinstance(value, bool)


def is_edge(value: object) -> bool:
  """Whether a JSON value is [operation, from, to]."""
  return (
      isinstance(value, list) and len(value) == 3
      and isinstance(value[0], str) and all(is_count(v) for v in value[1:])
  )


def _literal(node: ast.expr) -> object:
  """A literal, or `range(...)` of literals as DARTS's files have it."""
  if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
      and node.func.id == "range"):
    numbers = range(*(ast.literal_eval(a) for a in node.args))
    if len(numbers) > 1000:
      raise ValueError("no cell has so many nodes")
    return list(numbers)
  return ast.literal_eval(node)
