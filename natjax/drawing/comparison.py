"""What a transformation changed in an architecture."""

from typing import NamedTuple

from natjax import architecture
from natjax import errors


class Change(NamedTuple):
  """An edge whose operation a transformation replaced.

  Attributes:
    cell: "normal" or "reduce".
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


def changes(
    genotype: architecture.Genotype, other: architecture.Genotype
) -> list[Change]:
  """Lists the edges of `genotype` that have another operation in `other`.

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
  pair = [architecture.check(g, inputs_per_node=None)
          for g in (genotype, other)]
  found = []
  for cell_type, first, second in zip(
      architecture.CELL_TYPES, *pair, strict=True
  ):
    if wiring(first) != wiring(second):
      raise errors.InputError(
          f"the {cell_type} cells differ in more than operations (sources,"
          " number of edges or concat), so the second is not a transformation"
          " of the first; give two architectures of the same graph"
      )
    found += [
        Change(cell_type, a.source, a.target, a.operation, b.operation)
        for a, b in zip(first.edges, second.edges, strict=True)
        if a.operation != b.operation
    ]
  return found


def wiring(cell: architecture.Cell) -> tuple:
  """What a transformation keeps: sources and targets, concatenated nodes."""
  return [e[1:] for e in cell.edges], sorted(cell.concat)
