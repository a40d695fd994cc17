"""Which units of a flax module are the stem, the blocks and the head.

Blocks are cut where all of the image's course passes through one value. What
lies between two such places and branches is a block; what does not branch
belongs together where one of the module's own modules holds it. What leads up
to the first block is the stem, what follows the last one the head.
"""

import collections
from collections.abc import Sequence
import dataclasses
from typing import NamedTuple

from natjax.networks import flax_units
from natjax.networks.flax_program import Path
from natjax.operations import primitives

# What a layer of the stem or the head is called of which units.
LAYER_KINDS = {"conv": "conv", "depthwise": "depthwise_conv",
               "max_pool": "max_pool", "avg_pool": "avg_pool",
               "global_pool": "global_pool", "flatten": "flatten",
               "linear": "linear"}
_MODULES = (*flax_units.CONVOLUTIONS, "linear")


class Parts(NamedTuple):
  """Numbers of units: those of the stem, of every block, and of the head."""

  stem: list[int]
  blocks: list[list[int]]
  head: list[int]


def parts(units: Sequence[flax_units.Unit]) -> Parts:
  """Says which units are what.

  Args:
    units: of a module, the first of which is the image.

  Raises:
    flax_units.Inexpressible: no classifier is at the end.
  """
  return _Parting(units).found()


def sources(unit: flax_units.Unit) -> list[int]:
  """The numbers of the units that one is made of."""
  return [edge.source for edge in unit.edges] + [*unit.parts]


@dataclasses.dataclass
class _Segment:
  """Units between two of which all others are read through."""

  units: list[int]
  scope: Path
  plain: bool


class _Parting:
  """Units, and which of them are what."""

  def __init__(self, units: Sequence[flax_units.Unit]):
    self._units = units

  def found(self) -> Parts:
    segments = self._segments()
    at = next((i for i, s in enumerate(segments) if (
        self._kind(s) in ("global_pool", "flatten", "linear"))), None)
    last = self._units[-1]
    if at is None or not all(s.plain for s in segments[at:]) or (
        self._kind(segments[-1]) != "linear" or last.activation != "none"
        or last.edges[0].norm):
      raise flax_units.Inexpressible(
          last.path, "the last step is no Dense classifier of one image's"
          " features")
    body, head = segments[:at], segments[at:]
    grouped = _grouped(body)
    loose = [len(g) == 1 and g[0].plain and not self._owned(g[0], body)
             for g in grouped]
    first, end = 0, len(grouped)
    if not all(loose) or any(self._kind(s) == "fixed" for s in body):
      while first < end and loose[first] and self._fits_layer(
          grouped[first][0]):
        first += 1
      # A convolution that widens for the head, but none over images.
      while end > first and loose[end - 1] and self._fits_layer(
          grouped[end - 1][0], most=1):
        end -= 1
      # What stands in blocks alone can be changed.
      if not any(edge.kind in flax_units.CONVOLUTIONS for group in grouped[
          first:end] for s in group for u in s.units
                 for edge in self._units[u].edges):
        first, end = 0, len(grouped)
    stem = [s.units[0] for g in grouped[:first] for s in g]
    blocks: list[list[int]] = []
    joins = False  # The block before, of loose segments.
    for group, alone in zip(grouped[first:end], loose[first:end], strict=True):
      units = [u for s in group for u in s.units]
      if alone and joins:
        blocks[-1] += units
      else:
        blocks.append(units)
      # A block of loose segments ends where the images become smaller.
      joins = alone and all(
          edge.stride == 1 for u in units for edge in self._units[u].edges)
    return Parts(stem, blocks, [
        s.units[0] for s in (*(s for g in grouped[end:] for s in g), *head)])

  def _segments(self):
    """The units but the image, cut where all pass through one."""
    uses = collections.Counter(
        source for unit in self._units for source in sources(unit))
    uses[len(self._units) - 1] += 1
    found, live, current = [], {0}, []
    for n, unit in enumerate(self._units[1:], 1):
      current.append(n)
      for source in sources(unit):
        uses[source] -= 1
        if not uses[source]:
          live.discard(source)
      live.add(n)
      if live == {n}:
        paths = [edge.path[:-1] if edge.kind in _MODULES else edge.path
                 for u in current for edge in self._units[u].edges] or [
                     unit.path]
        found.append(_Segment(current, _common(paths), (
            len(current) == 1 and len(unit.edges) == 1)))
        current = []
    return found

  def _kind(self, segment):
    return self._units[segment.units[0]].edges[0].kind if segment.plain else ""

  def _owned(self, segment, body):
    """Whether a module holds a segment with others, or it is no layer."""
    return segment.scope != () and any(
        other is not segment and not other.plain
        and other.scope == segment.scope for other in body)

  def _fits_layer(self, segment, most=None):
    """Whether a layer can be it, whose window is no larger than `most`."""
    unit = self._units[segment.units[0]]
    edge = unit.edges[0]
    if edge.kind == "skip":
      return unit.norm is not None
    if edge.kernel > (most or edge.kernel) or (
        edge.norm and unit.norm):  # A layer has one BN.
      return False
    if unit.size and unit.size != primitives.output_size(
        self._units[edge.source].size, edge.stride):
      return False
    return edge.kind in LAYER_KINDS and (
        unit.norm is None or edge.kind in flax_units.CONVOLUTIONS)


def _grouped(segments: Sequence[_Segment]) -> list[list[_Segment]]:
  """Segments that are blocks together: plain ones of one module.

  Of several modules around it that hold more than one such neighbour, the
  innermost counts.
  """
  found: list[list[_Segment]] = []
  owner: list[Path | None] = []
  i = 0
  while i < len(segments):
    end = i
    while end < len(segments) and segments[end].plain:
      end += 1
    run = segments[i:end]
    taken: list[Path | None] = [None] * len(run)
    depths = range(max((len(s.scope) for s in run), default=0), 0, -1)
    for depth in depths:
      inside = collections.Counter(
          s.scope[:depth] for s, t in zip(run, taken, strict=True)
          if t is None and len(s.scope) >= depth)
      for n, s in enumerate(run):
        if taken[n] is None and len(s.scope) >= depth and (
            inside[s.scope[:depth]] > 1):
          taken[n] = s.scope[:depth]
    for s, t in zip(run, taken, strict=True):
      if t is not None and owner and owner[-1] == t:
        found[-1].append(s)
      else:
        found.append([s])
      owner.append(t) if len(found) > len(owner) else None
    if end < len(segments):
      found.append([segments[end]])
      owner.append(None)
      end += 1
    i = end
  return found


def _common(paths: Sequence[Path]) -> Path:
  """The longest beginning that paths share."""
  first = paths[0]
  for n, part in enumerate(first):
    if any(len(path) <= n or path[n] != part for path in paths):
      return first[:n]
  return first
