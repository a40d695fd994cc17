"""Which parts of a graph carry a signal, and which lead nowhere.

A null edge carries nothing. A node is alive where a chain of other edges leads
to it from an input; it leads nowhere where no such chain leads from it to an
output.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing

from natjax import operations
from natjax.graph import records


def nulls(cell: records.Cell) -> np.ndarray:
  """bool[E], which edges of a cell are null."""
  return np.array([operations.canonical(edge.operation) == operations.NULL
                   for edge in cell.edges])


def prune(source: np.typing.ArrayLike, target: np.typing.ArrayLike,
          null: np.ndarray, outputs: Iterable[int],
          may: np.ndarray) -> np.ndarray:
  """Nulls the edges into nodes that lead nowhere.

  They compute nothing that is used, and would cost all the same.

  Args:
    source: of E edges.
    target: of the edges, later than their sources.
    null: bool[E], which of them are null.
    outputs: nodes that the output concatenates.
    may: bool[E], which may become null.

  Returns:
    bool[E], which are null then.
  """
  sources, targets, null = np.asarray(source), np.asarray(target), null.copy()
  kept = set(outputs)
  for node in np.unique(targets)[::-1].tolist():
    if node not in kept and not (~null & (sources == node)).any():
      null |= may & (targets == node)
  return null
