"""The whole picture of one or two architectures: panels, headings, legend."""

from collections.abc import Sequence
from typing import NamedTuple

from natjax import operations
from natjax.drawing import comparison, positions, shapes
from natjax.graph import codec, records

_ARROW = 7
_PAD = 16
_HEADING = 26
_SIDE_BY_SIDE = 1200  # Wider panels are stacked instead.
_MUTED = "#57606a"


class _Style(NamedTuple):
  colour: str
  width: float = 1.3
  dash: tuple[float, ...] = ()
  fill: str = "#ffffff"
  legend: str = ""


# Blue and vermilion of Okabe and Ito stay apart for colour-blind readers.
_STYLES = {
    "same": _Style(shapes.INK, legend="unchanged"),
    "absent": _Style("#6e7781", 1.1, (1.5, 3.5)),
    "skip": _Style("#0068a8", 2.2, (), "#e3f1fb", "replaced by skip"),
    "null": _Style("#6e7781", 1.8, (6, 4), "#eceef0", "replaced by null"),
    "operation": _Style(
        "#c24d00", 2.2, (), "#fdeee3", "replaced by another operation"),
}


def compose(genotype: records.Architecture, other: records.Architecture | None,
            title: str | None, titles: tuple[str, str]) -> shapes.Scene:
  """Lays a whole picture out."""
  rows, legend = _panels(genotype, other, titles)
  if title is None and isinstance(genotype, records.BlockNetwork):
    title = genotype.name
  width = max(panel.width for row in rows for panel in row)
  if 2 * width + _PAD > _SIDE_BY_SIDE:
    rows = [[panel] for row in rows for panel in row]
  count = len(rows[0])
  inner = max(
      count * (width + _PAD) - _PAD, shapes.text_width(title or "", 17),
      sum(shapes.text_width(text, shapes.FONT) + 58 for _, text in legend))
  width = (inner + _PAD) / count - _PAD
  primitives: list[shapes.Primitive] = []
  y: float = _PAD
  if title:
    primitives.append(shapes.Text(
        "title", _PAD, y + 10, title, 17, anchor="start", bold=True))
    y += 30
  for row in rows:
    height = max(panel.height for panel in row)
    for i, panel in enumerate(row):
      primitives += _panel(panel, _PAD + i * (width + _PAD), y, width, height)
    y += height + _PAD
  if legend:
    primitives += _legend(legend, _PAD, y + 6)
    y += 12 + _PAD
  ground = shapes.Box("ground", 0, 0, inner + 2 * _PAD, y, 0, "#ffffff", "none")
  name = title or (" and ".join(titles) if other else "architecture")
  return shapes.Scene(ground.width, y, (ground, *primitives), name)


class _Panel(NamedTuple):
  """One cell of one architecture, ready to be drawn."""

  heading: str
  cell: records.Cell
  styles: tuple[_Style, ...]  # Per edge.
  placed: positions.Positions

  @property
  def width(self) -> float:
    heading = shapes.text_width(self.heading, 13)
    return max(self.placed.width, heading) + 2 * _PAD

  @property
  def height(self) -> float:
    return self.placed.height + _HEADING + 1.5 * _PAD


def _panels(
    genotype: records.Architecture, other: records.Architecture | None,
    titles: tuple[str, str],
) -> tuple[list[list[_Panel]], list[tuple[_Style | None, str]]]:
  """The panels, row by row, and the entries of the legend."""
  if other is None:
    panels = [_Panel(_heading(name, genotype, members), a, _styles(a, a),
                     positions.lay_out(a, a))
              for name, members, a, _ in codec.alike(genotype, genotype)]
    return [panels[i:i + 2] for i in range(0, len(panels), 2)], []
  pairs = codec.alike(genotype, other)
  comparable = all(
      comparison.wiring(a) == comparison.wiring(b) for *_, a, b in pairs)
  rows = []
  for name, members, *pair in pairs:
    heading = _heading(name, genotype, members)
    rows.append([
        _Panel(
            f"{title}, {heading}", cell,
            _styles(pair[0] if comparable else cell, cell),
            # One layout for both, so that the eye finds the same edge.
            positions.lay_out(*(pair if comparable else (cell, cell))))
        for title, cell in zip(titles, pair, strict=True)])
  if not comparable:
    return rows, [(None, "not a transformation of the first: their graphs"
                         " differ, so no change is coloured")]
  drawn = [style for row in rows for style in row[1].styles]
  # What is null in both is unchanged, too.
  drawn += [_STYLES["same"]] * drawn.count(_STYLES["absent"])
  return rows, [(style, f"{style.legend} ({drawn.count(style)})")
                for style in _STYLES.values() if style.legend]


def _heading(name: str, architecture: records.Architecture,
             members: Sequence[int]) -> str:
  """What a cell is called; of blocks also their widths and their stride."""
  if not isinstance(architecture, records.BlockNetwork):
    return {"normal": "normal cell", "reduce": "reduction cell"}[name]
  blocks = [architecture.blocks[i] for i in members]
  widths = sorted({sum(block.node(n).width for n in block.outputs)
                   for block in blocks})
  return (f"{name}: {' to '.join(map(str, {widths[0]: 0, widths[-1]: 0}))}"
          f" channels, stride {blocks[0].node(blocks[0].outputs[0]).stride}")


def _styles(before: records.Cell, after: records.Cell) -> tuple[_Style, ...]:
  return tuple(_STYLES[_kind(a.operation, b.operation)]
               for a, b in zip(before.edges, after.edges, strict=True))


def _kind(before: str, after: str) -> str:
  """Key of `_STYLES` for an edge."""
  if before == after:
    return "absent" if after == operations.NULL else "same"
  kinds = {operations.NULL: "null", operations.SKIP: "skip"}
  return kinds.get(after, "operation")


def _legend(entries: Sequence[tuple[_Style | None, str]], x: float,
            y: float) -> list[shapes.Primitive]:
  primitives = []
  for style, text in entries:
    if style:
      line = shapes.smooth([(x, y), (x + 30, y)])
      primitives += _arrow("legend", line, style)
      x += 38
    primitives.append(
        shapes.Text("legend", x, y, text, colour=_MUTED, anchor="start"))
    x += shapes.text_width(text, shapes.FONT) + 20
  return primitives


def _panel(panel: _Panel, x: float, y: float, width: float,
           height: float) -> list[shapes.Primitive]:
  """Primitives of one framed cell."""
  placed, cell = panel.placed, panel.cell
  dx = x + (width - placed.width) / 2
  dy = y + _HEADING + (height - _HEADING - placed.height - _PAD / 2) / 2
  at = [b._replace(x=b.x + dx, y=b.y + dy) for b in placed.slots]
  paths = [tuple((px + dx, py + dy) for px, py in p) for p in placed.paths]
  drawn: list[shapes.Primitive] = [
      shapes.Box("panel", x, y, width, height, 8, "#ffffff", "#d8dee4"),
      shapes.Text("heading", x + _PAD, y + 18, panel.heading, 13, _MUTED,
                  "start", True)]
  thin = _Style("#8c959f", 0.9)
  for path in paths[len(cell.edges):]:
    drawn += _arrow("concat", path, thin)
  for path, style in zip(paths, panel.styles, strict=False):
    drawn += _arrow("edge", path, style)
  for edge, style, slot in zip(
      cell.edges, panel.styles, placed.labels, strict=True):
    drawn += _label(edge.operation, at[slot], style)
  for i in range(cell.num_nodes + records.NUM_INPUTS + 1):
    drawn += _node(i, cell.num_nodes, at[i])
  return drawn


def _label(operation: str, slot: shapes.Box,
           style: _Style) -> list[shapes.Primitive]:
  """An operation's name in the middle of its slot."""
  middle = slot.x + slot.width / 2
  width = shapes.text_width(operation, shapes.FONT) + 8
  stroke = style.colour if style.fill != "#ffffff" else "none"
  return [
      shapes.Box("label", middle - width / 2, slot.y, width, slot.height, 4,
                 style.fill, stroke),
      shapes.Text("operation", middle, slot.y + slot.height / 2, operation,
                  colour=style.colour)]


def _node(i: int, num_nodes: int, box: shapes.Box) -> list[shapes.Primitive]:
  """Node `i`, by its number: an input, an intermediate node, or the output.

  The output has none: nothing else of an architecture names it.
  """
  middle = (box.x + box.width / 2, box.y + box.height / 2)
  if 0 <= i - records.NUM_INPUTS < num_nodes:
    fill, stroke = "#e8edf3", "#6b7f95"
    text = shapes.Text("node", *middle, str(i), 12)
  else:
    fill, stroke = "#e6f2e6", "#6a976a"
    name, subscript = {0: ("0: c", "k-2"), 1: ("1: c", "k-1")}.get(
        i, ("c", "k"))
    text = shapes.Text("node", *middle, name, 13, subscript=subscript)
  return [box._replace(fill=fill, stroke=stroke), text]


def _arrow(role: str, path: tuple[tuple[float, float], ...],
           style: _Style) -> list[shapes.Primitive]:
  """A curve with an arrow head; all edges arrive horizontally."""
  x, y = path[-1]
  length = _ARROW if style.width > 1 else 0.8 * _ARROW
  half = 0.45 * length
  head = ((x, y), (x - length, y - half), (x - length, y + half))
  path = (*path[:-1], (x - length + 1, y))
  return [shapes.Curve(role, path, style.colour, style.width, style.dash),
          shapes.Polygon(role, head, style.colour)]
