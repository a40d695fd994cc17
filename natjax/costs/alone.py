"""What each change of a transformation saves by itself."""

from typing import NamedTuple

from natjax.costs import exact
from natjax.graph import codec, records


class Change(NamedTuple):
  """A row of the list of changes (`drawing.changes` has the same rows).

  Attributes:
    parts: numbers of the blocks, or of the genotype's cells, that are changed.
    edge: number of the edge in the graph of each.
    operation: what stands there then.
  """

  parts: tuple[int, ...]
  edge: int
  operation: str


def changes(given: records.Architecture,
            changed: records.Architecture) -> list[Change]:
  """The edges on which two architectures of one graph differ.

  Raises:
    InputError: they are not of one graph.
  """
  return [Change(parts, e, b.operation)
          for _, parts, first, second in codec.alike(given, changed)
          for e, (a, b) in enumerate(zip(
              first.edges, second.edges, strict=True))
          if a.operation != b.operation]


def made(given: records.Architecture, change: Change) -> records.Architecture:
  """An architecture with one of the changes alone.

  Example:
    >>> from natjax import zoo
    >>> before, after = zoo.get("enas"), zoo.get("nat_enas")
    >>> one = made(before, changes(before, after)[0])
    >>> len(changes(before, one)), len(changes(before, after)) > 1
    (1, True)
  """
  def other(i, part):
    if i not in change.parts:
      return part
    edges = list(part.edges)
    edges[change.edge] = edges[change.edge]._replace(
        operation=change.operation)
    return part._replace(edges=tuple(edges))

  if isinstance(given, records.BlockNetwork):
    return given._replace(blocks=tuple(map(
        other, range(len(given.blocks)), given.blocks)))
  return records.Genotype(*map(other, range(2), given))


def saves(given: records.Architecture, change: Change,
          place: records.Place) -> dict[str, int]:
  """The parameters and multiply-adds that a change saves by itself.

  What leads nowhere once several changes are made is saved beside.
  """
  before, after = (exact.network(a, place) for a in (
      given, made(given, change)))
  return {"params": before.params - after.params,
          "madds": before.madds - after.madds}
