"""What a transformation changed in an architecture."""

from typing import NamedTuple

from natjax import errors
from natjax.graph import blocks
from natjax.graph import codec
from natjax.graph import genotype as architecture


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


def changes(
    genotype: codec.Architecture, other: codec.Architecture
) -> list[Change]:
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
  for name, first, second in paired(genotype, other):
    if wiring(first) != wiring(second):
      raise errors.InputError(
          f"the {name} cells differ in more than operations (sources, number"
          " of edges or concat), so the second is not a transformation of the"
          " first; give two architectures of the same graph"
      )
    found += [
        Change(name, a.source, a.target, a.operation, b.operation)
        for a, b in zip(first.edges, second.edges, strict=True)
        if a.operation != b.operation
    ]
  return found


def paired(
    first: codec.Architecture, second: codec.Architecture
) -> list[tuple[str, architecture.Cell, architecture.Cell]]:
  """The cells of two architectures, with their names.

  Blocks that are alike in both networks, but for their widths, are one.

  Raises:
    InputError: one of the two is not well formed, or they are not alike.
  """
  kinds = {isinstance(a, blocks.BlockNetwork) for a in (first, second)}
  if kinds == {False}:
    pair = [architecture.check(g, inputs_per_node=None)
            for g in (first, second)]
    return list(zip(architecture.CELL_TYPES, *pair, strict=True))
  if len(kinds) > 1 or len(first.blocks) != len(second.blocks):
    raise errors.InputError(
        "one is a genotype and the other a network of blocks, or their numbers"
        " of blocks differ; give two architectures of the same graph")
  first, second = blocks.check(first), blocks.check(second)
  alike: dict[tuple, list[int]] = {}
  for i, (a, b) in enumerate(zip(first.blocks, second.blocks, strict=True)):
    alike.setdefault((a.topology, b.topology), []).append(i)
  return [(blocks.numbers(group), first.blocks[group[0]].cell,
           second.blocks[group[0]].cell) for group in alike.values()]


def wiring(cell: architecture.Cell) -> tuple:
  """What a transformation keeps: sources and targets, concatenated nodes."""
  return [e[1:] for e in cell.edges], sorted(cell.concat)
