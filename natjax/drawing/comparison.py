"""What a transformation changed in an architecture."""

import collections
from collections.abc import Iterable
from typing import NamedTuple

from natjax import errors
from natjax.graph import codec, records


class Change(NamedTuple):
  """An edge whose operation a transformation replaced.

  Attributes:
    cell: "normal" or "reduce", or "block 3" of a network of blocks, or
      "blocks 0-2, 4" where several changed alike.
    source: node the edge comes from.
    target: node the edge leads to.
    before: operation in the first architecture.
    after: operation in the second.
  """

  cell: str
  source: int
  target: int
  before: str
  after: str


def changes(genotype: records.Architecture,
            other: records.Architecture) -> list[Change]:
  """Lists the edges of `genotype` that have another operation in `other`.

  Both may be networks of blocks, too.

  Edges are paired by their source, target and position among the target's
  inputs, which is what a transformation keeps.

  Example:
    >>> from natjax import zoo
    >>> change = changes(zoo.get("enas"), zoo.get("nat_enas"))[0]
    >>> change.before, change.after
    ('avg_pool_3x3', 'null')

  Raises:
    InputError: the graphs differ, or one of the two is not well formed.
  """
  found = []
  for name, first, second in codec.paired(genotype, other):
    if wiring(first) != wiring(second):
      raise errors.InputError(
          f"the {name} cells differ in more than operations (sources, number"
          " of edges or concat), so the second is not a transformation of the"
          " first; give two architectures of the same graph")
    found += [Change(name, a.source, a.target, a.operation, b.operation)
              for a, b in zip(first.edges, second.edges, strict=True)
              if a.operation != b.operation]
  return found


def edge_names(ends: Iterable[tuple[int, int]]) -> list[str]:
  """What edges are called, by their nodes, wherever a user reads of them.

  Args:
    ends: of every edge of a cell, source and target.

  Example:
    >>> edge_names([(0, 2), (1, 2), (1, 2)])
    ['0 -> 2', '1 -> 2', '1 -> 2 (2)']
  """
  seen: collections.Counter[str] = collections.Counter()
  found = []
  for source, target in ends:
    name = f"{source} -> {target}"
    seen[name] += 1
    found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
  return found


def wiring(cell: records.Cell) -> tuple:
  """What a transformation keeps: sources and targets, concatenated nodes."""
  return [e[1:] for e in cell.edges], sorted(cell.concat)
