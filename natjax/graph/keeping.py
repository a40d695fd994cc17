"""What of a network is kept, whatever a method would change: its names.

A comma-separated list of
  blocks:0-2, blocks:5: blocks of a network, by their numbers;
  normal, reduce: cells of a genotype;
  blocks:3/edge:1-2, normal/edge:0-2: of these, the edges from one node to
    another, as `changes` and pictures number them; also as tables write them,
    "block 3 1 -> 2" and "normal 0 -> 2";
  stem, head: which no method changes, named or not.
"""

from collections.abc import Iterable
import re
from typing import NoReturn

from natjax import errors
from natjax.graph import blocks, codec, records

_FIXED = ("stem", "head")
_ITEM = re.compile(
    r"(?:blocks?[: ](\d{1,6})(?:-(\d{1,6}))?|(normal|reduce))"
    r"(?:(?:/edge[: ]|[/ ](?=\d+ ?->))(\d{1,6})(?:-| ?-> ?)(\d{1,6}))?")

# Per block's number or cell's name, edges (source, target).
Kept = dict[int | str, set[tuple[int, int]]]


def read(keep: str, architecture: records.Architecture) -> Kept:
  """What a list of names keeps of an architecture.

  Args:
    keep: the list; empty keeps nothing.
    architecture: well formed.

  Raises:
    InputError: a name of nothing that the architecture has.

  Example:
    >>> from natjax import zoo
    >>> kept = read("stem, blocks:3-4, blocks:0/edge:1-2", zoo.get("resnet20"))
    >>> sorted(kept), sorted(kept[0]), sorted(kept[3])
    ([0, 3, 4], [(1, 2)], [(1, 2), (1, 3), (2, 3)])
  """
  cells: dict[int | str, records.Cell] = dict(
      enumerate(block.cell for block in architecture.blocks)
      if isinstance(architecture, records.BlockNetwork)
      else zip(records.CELL_TYPES, architecture, strict=True))
  found: Kept = {}
  for item in keep.split(",") if keep else ():
    name = item.strip().lower()
    if name in _FIXED:
      continue
    match = _ITEM.fullmatch(name)
    if match is None:
      _refuse(keep, item, cells)
    begin, end, cell, source, target = match.groups()
    parts: Iterable[int | str] = (cell,) if cell else range(
        int(begin), int(end or begin) + 1)
    if not {*parts} <= {*cells} or not parts:
      _refuse(keep, item, cells)
    for part in parts:
      ends = {edge[1:] for edge in cells[part].edges}
      if source is not None:
        if (int(source), int(target)) not in ends:
          _refuse(keep, item, cells, part)
        ends = {(int(source), int(target))}
      found.setdefault(part, set()).update(ends)
  return found


def _refuse(keep: str, item: str, cells: dict[int | str, records.Cell],
            part: int | str | None = None) -> NoReturn:
  """Says what there is, of one part where that is known."""
  word = lambda name: name if isinstance(name, str) else f"blocks:{name}"
  if part is None:
    last = [*cells][-1]
    there = ", ".join(map(str, cells)) if isinstance(last, str) else (
        f"blocks:0-{last}")
    a, b = cells[last].edges[0][1:]
    there += f", of these edges such as {word(last)}/edge:{a}-{b}, stem, head"
  else:
    there = ", ".join(f"{word(part)}/edge:{a}-{b}" for a, b in dict.fromkeys(
        edge[1:] for edge in cells[part].edges))
  raise errors.InputError(
      f"keep is '{keep}', and '{item.strip()}' names nothing of this network;"
      f" name some of {there}", "keep")


def check_left(keep: str, left: bool) -> None:
  """Refuses to keep everything that could be changed (InputError)."""
  if keep and not left:
    raise errors.InputError(
        f"keep is '{keep}', and there is nothing else that could be changed;"
        " keep less", "keep")


def allow_more(keep: str, options: str = "") -> str:
  """What to do where nothing keeps to a budget.

  Args:
    keep: what stands in the way, if anything is kept.
    options: the settings of the budget, in words; none names none.
  """
  more = f"allow more{' by ' * bool(options)}{options}"
  return more if not keep else (
      f"keep is '{keep}', which stands in the way: keep less, or {more}")


def decide(architecture: records.Architecture, place: records.Place,
           share: str = "cell", keep: str = "") -> tuple[records.Decision, ...]:
  """What is decided on together (`codec.decide`), what is kept being fixed.

  Blocks that are decided on together go apart where not the same is kept of
  them: only what is named is kept.

  Args:
    architecture: in any spelling.
    place: as the spelling needs it.
    share: "cell", what the spelling says is alike, or "full", nothing.
    keep: as `read` takes it.

  Raises:
    InputError: a name of nothing that there is, or another `share`.

  Example:
    >>> from natjax import zoo
    >>> [d.name for d in decide(zoo.get("resnet20"), records.Frame(),
    ...                         keep="blocks:0-1")]
    ['blocks 0-1', 'blocks 2, 4-5, 7-8', 'blocks 3, 6']
  """
  decisions = codec.decide(architecture, place, share)
  if not keep:
    return decisions
  kept, found = read(keep, architecture), []
  for decision in decisions:
    edges = [edge[1:] for edge in decision.cell.edges]
    fixed = lambda part, edges=edges, own=decision.fixed: tuple(
        f or edge in kept.get(part, ())
        for f, edge in zip(own, edges, strict=True))
    if architecture.kind == "cells":
      found.append(decision._replace(fixed=fixed(decision.name)))
      continue
    alike: dict[tuple[bool, ...], list[int]] = {}
    for i in decision.members:
      alike.setdefault(fixed(i), []).append(i)
    found += [decision._replace(name=blocks.name(members),
                                members=tuple(members), fixed=what)
              for what, members in alike.items()]
  if architecture.kind == "blocks":  # In one order, whatever stands there.
    found.sort(key=lambda decision: decision.members)
  return tuple(found)
