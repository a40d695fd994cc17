"""Cells of NAS-Bench-101, and which of them are the same.

Ying, Klein, Christiansen, Real, Murphy, Hutter: "NAS-Bench-101: Towards
Reproducible Neural Architecture Search", ICML 2019, section 2.1. A cell is a
directed acyclic graph of at most 7 vertices, the first of which is the input
and the last the output, with at most 9 edges; every vertex between has one of
three operations. Vertices that no path from the input to the output visits
compute nothing and do not count. How the others are numbered does not matter:
423,624 cells are left.

- The benchmark's record writes a cell as its matrix, row by row in digits 0 and
  1, and its operations; here they are one text, `MATRIX:OPERATION,...`
  (`from_text`, `to_text`), JSON with both (`from_json`), or the call that its
  users write, `ModelSpec(matrix=[...], ops=[INPUT, ...])` (`from_module`).
- Arrays [..., V, V] and [..., V] hold edges, upper triangular, and labels:
  indices into `LABELS`, 0 where there is no vertex.
- The identity u32[..., 2] is the same for cells that differ in the numbers of
  their vertices alone, and differs between all cells of the benchmark: the
  colours of Weisfeiler and Lehman (1968), by in- and outgoing edges, as many
  rounds as there are vertices, as the benchmark's own hash has them. Two
  streams of 32 bits, which NumPy and traced programs compute alike.
"""

import ast
from collections.abc import Sequence
import re
from typing import Any, NamedTuple

import numpy as np

from natjax import errors
from natjax.graph import modules, parsing

OPERATIONS = ("conv3x3-bn-relu", "conv1x1-bn-relu", "maxpool3x3")
LABELS = ("", "input", "output", *OPERATIONS)
VERTICES, EDGES = 7, 9  # The most that a cell has.
COUNT = 423_624
_INPUT, _OUTPUT = LABELS.index("input"), LABELS.index("output")
_PADDING = 9  # In place of an operation, where a packed cell has none.
_MOST = 64  # Vertices that are read at all.
_SEEDS = np.array([0x9E3779B9, 0x7F4A7C15], np.uint32)
_CONSTANTS = {"INPUT": "input", "OUTPUT": "output", **dict(zip(
    ("CONV3X3", "CONV1X1", "MAXPOOL3X3"), OPERATIONS, strict=True))}
_LISTS = (("matrix", "module_adjacency"), ("ops", "module_operations"))
_TEXT = re.compile(r"[01]+:\s*input\b")
_ADVICE = ("write its matrix row by row and its operations, as"
           f" 010001000:input,{OPERATIONS[0]},output")


class Cell(NamedTuple):
  """A cell.

  Attributes:
    matrix: 0 or 1 per two vertices, [V][V], whether an edge leads from the row
      to the column; upper triangular.
    operations: of every vertex, "input" and "output" among them.
  """

  matrix: tuple[tuple[int, ...], ...]
  operations: tuple[str, ...]


def check(matrix: Any, operations: Any, *, where: str = "architecture") -> Cell:
  """Returns a cell of any size that is well formed.

  Example:
    >>> check([[0, 1], [0, 0]], ["input", "output"]).operations
    ('input', 'output')

  Raises:
    InputError: a matrix of another form, an edge that leads back, or an
      operation that the benchmark lacks.
  """
  try:
    found = np.array(matrix)
    names = [str(name) for name in operations]
  except (TypeError, ValueError):
    found, names = np.zeros(0), []
  if found.ndim != 2 or not 2 <= len(found) == found.shape[1] == len(names):
    raise errors.InputError(
        f"{where}: a matrix of shape {found.shape} and {len(names)} operations"
        f" are no cell of NAS-Bench-101; {_ADVICE}")
  if not np.isin(found, (0, 1)).all() or np.tril(found).any():
    raise errors.InputError(
        f"{where}: the matrix must hold 0 and 1, and edges lead from a vertex"
        f" to a later one; {_ADVICE}")
  inner = {*names[1:-1]} - {*OPERATIONS}
  if inner or (names[0], names[-1]) != ("input", "output"):
    wrong = min(inner, default=f"{names[0]}, ..., {names[-1]}")
    raise errors.InputError(
        f"{where}: operations are input, then any of {', '.join(OPERATIONS)},"
        f" then output, and not {errors.short(wrong)}; correct them")
  return Cell(tuple(map(tuple, found.astype(int).tolist())), tuple(names))


def is_text(text: str) -> bool:
  """Whether a text is to be read by `from_text`."""
  return _TEXT.match(text.lstrip()) is not None


def from_text(text: str, *, where: str = "architecture") -> Cell:
  """Reads `MATRIX:OPERATION,...`; see the module.

  Example:
    >>> from_text("010001000:input,maxpool3x3,output").matrix
    ((0, 1, 0), (0, 0, 1), (0, 0, 0))

  Raises:
    InputError: another form, or see `check`.
  """
  match = re.fullmatch(r"([01]+):([^:]*)", text.strip())
  digits, names = match.groups() if match else ("", "")
  size = round(len(digits)**0.5)
  if not match or size**2 != len(digits) or size > _MOST:
    raise errors.InputError(
        f"{where}: {errors.short(text)} is no cell of NAS-Bench-101; {_ADVICE}")
  return check(np.array([*map(int, digits)]).reshape(size, size),
               names.split(","), where=where)


def from_json(text: str, *, where: str = "architecture") -> Cell:
  """Reads JSON with "matrix" or "module_adjacency", and "ops" or
  "module_operations", as the benchmark's users have them.

  Raises:
    InputError: another form, or see `check`.
  """
  try:
    found = parsing.load_json(text)
  except ValueError as e:
    raise errors.InputError(f"{where}: not JSON ({e}); {_ADVICE}") from e
  return from_object(found, where=where)


def is_object(found: Any) -> bool:
  """Whether JSON has the lists of a cell, by one of their names each."""
  return isinstance(found, dict) and all(
      any(name in found for name in names) for names in _LISTS)


def from_object(found: Any, *, where: str = "architecture") -> Cell:
  """`from_json` of what is parsed."""
  found = found if isinstance(found, dict) else {}
  parts = [next((found[name] for name in names if name in found), None)
           for names in _LISTS]
  if not all(isinstance(part, list) for part in parts):
    raise errors.InputError(
        f"{where}: must be an object with the lists matrix and ops; {_ADVICE}")
  return check(*parts, where=where)


def from_module(text: str, *, where: str = "architecture",
                name: str | None = None) -> Cell | None:
  """Reads `ModelSpec(matrix=[...], ops=[...])` in a module, not executed.

  Operations are texts, or the constants of the benchmark's example, `CONV3X3`.

  Args:
    text: of the module.
    where: what the error calls it.
    name: of one of several.

  Returns:
    None where there is none.

  Example:
    >>> from_module("a = api.ModelSpec([[0, 1], [0, 0]], [INPUT, OUTPUT])")
    Cell(matrix=((0, 1), (0, 0)), operations=('input', 'output'))

  Raises:
    InputError: several, of which none is named; its lists are not written out;
      or see `check`.
  """
  if not (found := modules.find(text, _is_spec, name)):
    return None
  modules.unnamed(found, where=where, what="cells")
  call = modules.choose(found, name, where=where, what="cells")[-1].value
  fields = dict(zip(("matrix", "ops"), call.args, strict=False)) | {
      field.arg: field.value for field in call.keywords}
  try:
    matrix = ast.literal_eval(_listed(fields["matrix"]))
    names = [_CONSTANTS[node.id] if isinstance(node, ast.Name)
             else ast.literal_eval(node)
             for node in _listed(fields["ops"]).elts]
  except (AttributeError, LookupError, MemoryError, RecursionError, TypeError,
          ValueError) as e:
    raise errors.InputError(
        f"{where}: matrix and ops of ModelSpec must be lists that are written"
        f" out, ops of texts or of {', '.join(_CONSTANTS)}") from e
  return check(matrix, names, where=where)


def _is_spec(node):
  """Whether an expression is a `ModelSpec(...)`."""
  return isinstance(node, ast.Call) and getattr(
      node.func, "attr", getattr(node.func, "id", None)) == "ModelSpec"


def _listed(node):
  """What an array is made of, as `np.array([...])`."""
  return node.args[0] if isinstance(node, ast.Call) else node


def to_text(cell: Cell) -> str:
  """Writes `MATRIX:OPERATION,...`."""
  digits = "".join(str(bit) for row in cell.matrix for bit in row)
  return f"{digits}:{','.join(cell.operations)}"


def to_arrays(cell: Cell, *, where: str = "architecture"
              ) -> tuple[np.ndarray, np.ndarray]:
  """Edges u8[7, 7] and labels u8[7] of a cell, without what does not count.

  Raises:
    InputError: no path leads from its input to its output, or more than 7
      vertices or 9 edges are left.
  """
  edges = np.array(cell.matrix, np.uint8)
  labels = np.array([*map(LABELS.index, cell.operations)], np.uint8)
  edges, labels = pruned(edges, labels)
  kept = np.flatnonzero(labels)
  vertices, count = len(kept), int(edges.sum())
  for good, what in (
      (vertices, "has no path from its input to its output"),
      (vertices <= VERTICES and count <= EDGES,
       f"has {vertices} vertices and {count} edges that count, and"
       f" NAS-Bench-101 has cells of at most {VERTICES} vertices and"
       f" {EDGES} edges")):
    if not good:
      raise errors.InputError(f"{where}: it {what}; give another cell")
  small: Any = np.zeros((VERTICES, VERTICES), np.uint8)
  small[:vertices, :vertices] = edges[np.ix_(kept, kept)]
  return small, np.append(labels[kept], np.zeros(
      VERTICES - vertices, np.uint8))


def from_arrays(edges: np.ndarray, labels: np.ndarray) -> Cell:
  """The cell of edges [V, V] and labels [V], in any order of numbers that is
  upper triangular."""
  kept = np.flatnonzero(labels)
  last = np.flatnonzero(labels == _OUTPUT)
  kept = np.append(kept[kept != last], last)  # It may stand before padding.
  return Cell(tuple(map(tuple, edges[np.ix_(kept, kept)].astype(int).tolist())),
              tuple(LABELS[i] for i in labels[kept]))


def pruned(edges: Any, labels: Any) -> tuple[Any, Any]:
  """Leaves out vertices that no path from the input to the output visits.

  Args:
    edges: [..., V, V], 0 or 1.
    labels: [..., V].

  Returns:
    Both, with zeros where nothing is left; all zeros where there is no path.
  """
  here = edges > 0
  forward, backward = labels == _INPUT, labels == _OUTPUT
  for _ in range(labels.shape[-1] - 1):
    forward = forward | (here & forward[..., :, None]).any(-2)
    backward = backward | (here & backward[..., None, :]).any(-1)
  kept = forward & backward
  return (edges * (kept[..., :, None] & kept[..., None, :]).astype(edges.dtype),
          labels * kept.astype(labels.dtype))


def identity(edges: Any, labels: Any) -> Any:
  """The identity u32[..., 2] of pruned cells; NumPy or traced.

  Args:
    edges: [..., V, V], 0 or 1.
    labels: [..., V].
  """
  edges = edges.astype(np.uint32)
  back = edges.swapaxes(-1, -2)
  live = (labels > 0).astype(np.uint32)[..., None]
  color = _scramble(labels.astype(np.uint32)[..., None] * _SEEDS + _SEEDS)
  for _ in range(VERTICES):
    into, out = back @ _scramble(color + _SEEDS), edges @ _scramble(
        color ^ _SEEDS)
    color = _scramble(3 * color + _scramble(into * 5) + 7 * out) * live
  return _scramble(_scramble(color).sum(-2, dtype=np.uint32) + _SEEDS)


def _scramble(value):
  """Numbers u32 that look as if drawn; a bijection."""
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    value = (value ^ value >> shift) * np.uint32(factor)
  return value ^ value >> 16


def unpack(bits: np.ndarray, vertices: np.ndarray,
           operations: Sequence[Any] | np.ndarray
           ) -> tuple[np.ndarray, np.ndarray]:
  """Edges u8[R, 7, 7] and labels u8[R, 7] of packed cells.

  Args:
    bits: u32[R], of which bit k is the k-th pair (i, j), i < j, row by row.
    vertices: u8[R], how many.
    operations: u8[R, 5], of the inner vertices, by `OPERATIONS`.
  """
  bits, rows = np.asarray(bits), len(bits)
  edges = np.zeros((rows, VERTICES, VERTICES), np.uint8)
  labels = np.zeros((rows, VERTICES), np.uint8)
  for count in np.unique(vertices).tolist():
    at = np.flatnonzero(vertices == count)
    for k, (i, j) in enumerate(zip(*np.triu_indices(count, 1), strict=True)):
      edges[at, i, j] = bits[at] >> k & 1
    labels[at, 0], labels[at, count - 1] = _INPUT, _OUTPUT
    inner = np.asarray(operations)[at, :count - 2]
    labels[at, 1:count - 1] = inner + LABELS.index(OPERATIONS[0])
  return edges, labels


def pack(cell: Cell) -> tuple[int, int, list[int]]:
  """Bits, vertices and operations of a cell, as `unpack` takes them."""
  pairs = zip(*np.triu_indices(len(cell.matrix), 1), strict=True)
  bits = sum(cell.matrix[i][j] << k for k, (i, j) in enumerate(pairs))
  inner = [OPERATIONS.index(name) for name in cell.operations[1:-1]]
  return bits, len(cell.matrix), inner + [_PADDING] * (VERTICES - 2 - len(
      inner))
