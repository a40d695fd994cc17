"""Cells as arrays, so that a compiled function serves every architecture."""

from collections.abc import Sequence

import chex
import jax
import numpy as np

from natjax import errors, operations
from natjax.graph import records


@chex.dataclass(frozen=True)
class CellArrays:
  """Cells as data: G of them, of N nodes with K incoming edges each.

  With leading axes as needed. Where a cell has fewer nodes, or a node fewer
  edges, the others are null and not concatenated. Example: node 3 = skip(0) +
  conv(2) of a 4-node cell is row 1: `source[1] = (0, 2)`, `operation[1] =
  (index of skip, index of conv)`.

  Attributes:
    source: i32[..., N, K], node that feeds the slot, in [0, 2 + row); where a
      method must know that a slot has no edge, not even a null one that may
      become another, 2 + row, the node itself (`Ground.encode`).
    operation: i32[..., N, K], index into the search space's candidates.
    concat: bool[..., N], whether the cell's output concatenates the node.
  """

  source: jax.Array
  operation: jax.Array
  concat: jax.Array


def slots(cell: records.Cell) -> tuple[np.ndarray, np.ndarray]:
  """The slots of a cell's edges in arrays [N, K]: i[E] and i[E]."""
  targets = [edge.target for edge in cell.edges]
  return (np.array(targets) - records.NUM_INPUTS,
          np.array([targets[:e].count(t) for e, t in enumerate(targets)]))


def encode(cells: Sequence[records.Cell], candidates: Sequence[str], *,
           num_nodes: int = 0, inputs: int = 1) -> CellArrays:
  """Encodes cells: `CellArrays` of shape [G, N, K], on the host.

  Args:
    cells: G cells.
    candidates: operation names of the search space, in order.
    num_nodes: N at least.
    inputs: K at least.

  Raises:
    InputError: an operation that is not among the candidates.
  """
  for cell in cells:
    for edge in cell.edges:
      if operations.canonical(edge.operation) not in candidates:
        raise errors.InputError(
            f"operation '{edge.operation}' (edge {list(edge)}) is not a"
            f" candidate of this search space, which has"
            f" {', '.join(candidates)}; choose a space that holds it or replace"
            " the operation")
  shape = (len(cells), max(num_nodes, *(cell.num_nodes for cell in cells)),
           max(inputs, *(cell.num_inputs_per_node for cell in cells)))
  source = np.zeros(shape, np.int32)
  operation = np.full(shape, candidates.index(operations.NULL), np.int32)
  concat = np.zeros(shape[:2], bool)
  for g, cell in enumerate(cells):
    concat[g, np.array(cell.concat) - records.NUM_INPUTS] = True
    for n, k, edge in zip(*slots(cell), cell.edges, strict=True):
      source[g, n, k] = edge.source
      operation[g, n, k] = candidates.index(
          operations.canonical(edge.operation))
  # Host arrays, which jax takes for its own.
  return CellArrays(
      source=source, operation=operation, concat=concat)  # type: ignore


def decode(
    arrays: CellArrays, candidates: Sequence[str],
    cells: Sequence[records.Cell] | None = None) -> tuple[records.Cell, ...]:
  """Decodes `CellArrays` [G, N, K]; the inverse of `encode`.

  Args:
    arrays: encoded cells.
    candidates: operation names of the search space, in order.
    cells: those that were encoded, whose numbers of edges and order of
      `concat` are kept; None decodes every slot.
  """
  operation, source = np.asarray(arrays.operation), np.asarray(arrays.source)
  concat, found = np.asarray(arrays.concat), []
  for g in range(len(operation)):
    if cells is None:
      at = list(np.ndindex(*operation.shape[1:]))
      outputs = tuple((np.flatnonzero(concat[g]) + records.NUM_INPUTS).tolist())
    else:
      at = list(zip(*slots(cells[g]), strict=True))
      outputs = cells[g].concat
    found.append(records.Cell(tuple(
        records.Edge(candidates[operation[g, n, k]], int(source[g, n, k]),
                     int(n) + records.NUM_INPUTS) for n, k in at), outputs))
  return tuple(found)
