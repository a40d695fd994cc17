"""The spaces of NAS-Bench-1Shot1, whose cells NAS-Bench-101 knows.

Zela, Siems, Hutter: "NAS-Bench-1Shot1: Benchmarking and Dissecting One-shot
Neural Architecture Search", ICLR 2020, section 3.1. An operation stands on a
node, and every node takes its inputs from a fixed number of earlier nodes: node
0 is the cell's input, the last its output, which has no operation. That makes
nine edges in all three spaces, and so a cell of NAS-Bench-101.

A cell is genes i[P]: of every node that has a choice of parents, which of the
ways to choose them, in the order of `itertools.combinations`; then of every
inner node the operation, of `nasbench101.OPERATIONS`.

  space  nodes  graphs  cells by their genes
  1      6         180     14,580
  2      6         360     29,160
  3      7       5,400  1,312,200
"""

import functools
import itertools
import math

import numpy as np

from natjax import errors
from natjax.graph import nasbench101

# Per space, how many parents nodes 1, 2, ... have.
PARENTS = {"nasbench1shot1-1": (1, 2, 2, 2, 2),
           "nasbench1shot1-2": (1, 1, 2, 2, 3),
           "nasbench1shot1-3": (1, 1, 1, 2, 2, 2)}


@functools.cache
def ways(name: str) -> tuple[tuple[tuple[int, ...], ...], ...]:
  """Of nodes 1, 2, ..., the ways to choose its parents.

  Raises:
    InputError: no such space.
  """
  errors.known("search space", name, PARENTS, "space")
  return tuple(tuple(itertools.combinations(range(node), count))
               for node, count in enumerate(PARENTS[name], 1))


def counts(name: str) -> tuple[int, ...]:
  """Of every gene, how many choices there are.

  Example:
    >>> counts("nasbench1shot1-1"), math.prod(counts("nasbench1shot1-1"))
    ((3, 6, 10, 3, 3, 3, 3), 14580)
  """
  free = tuple(len(some) for some in ways(name) if len(some) > 1)
  return free + (len(nasbench101.OPERATIONS),) * (len(PARENTS[name]) - 1)


def to_arrays(name: str, genes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Edges u8[R, 7, 7] and labels u8[R, 7] of genes i[R, P]; not pruned."""
  genes, nodes = np.asarray(genes), len(PARENTS[name])
  size = nasbench101.VERTICES
  edges = np.zeros((len(genes), size, size), np.uint8)
  labels = np.zeros((len(genes), size), np.uint8)
  labels[:, 0] = nasbench101.LABELS.index("input")
  labels[:, nodes] = nasbench101.LABELS.index("output")
  labels[:, 1:nodes] = genes[:, -(nodes - 1):] + nasbench101.LABELS.index(
      nasbench101.OPERATIONS[0])
  place = 0
  for node, some in enumerate(ways(name), 1):
    chosen = genes[:, place] if len(some) > 1 else np.zeros(len(genes), int)
    place += len(some) > 1
    for k in range(PARENTS[name][node - 1]):
      parent = np.array(some)[chosen, k]
      edges[np.arange(len(genes)), parent, node] = 1
  return edges, labels


def all_genes(name: str) -> np.ndarray:
  """Genes u8[R, P] of all cells of a space."""
  shape = counts(name)
  return np.stack(np.unravel_index(np.arange(math.prod(shape)), shape),
                  axis=-1).astype(np.uint8)


def cell(name: str, genes: np.ndarray) -> nasbench101.Cell:
  """The cell of NAS-Bench-101 of genes i[P], without what does not count."""
  edges, labels = nasbench101.pruned(*to_arrays(name, np.asarray(genes)[None]))
  return nasbench101.from_arrays(edges[0], labels[0])
