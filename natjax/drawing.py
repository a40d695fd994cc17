"""Pictures of architectures and of learning curves.

A cell is drawn from left to right, as in Guo et al., 2021, "Towards Accurate
and Compact Architectures via Neural Architecture Transformer", Fig. 5: the two
inputs, the intermediate nodes 0 to n - 1, the output; edges carry the names of
their operations, and thin edges lead from the concatenated nodes to the output.
Drawn together with its transformation, what changed is coloured.

The layout is that of Sugiyama et al., 1981: nodes stand in columns by longest
path, and between two columns of nodes stands one of labels. An edge crosses
every column on its way in a slot of its own, so that a label can overlap
neither another label, nor a node, nor another edge. The layout is a list of
primitives (boxes, curves, arrow heads, texts), which two small renderers write
as SVG (pure Python) or as PNG (matplotlib, extra `plots`).
"""

from collections.abc import Iterable, Mapping, Sequence
import io
import itertools
import math
import os
import pathlib
import re
import types
from typing import NamedTuple
from xml.sax import saxutils

from natjax import architecture
from natjax import errors
from natjax import operations

# Lengths in SVG units, about a pixel.
_FONT = 11
_LABEL_HEIGHT = 17
_NODE_WIDTH = 26
_ENDS_WIDTH = 42  # Inputs and output.
_LINE_HEIGHT = 6
_PORT = 7  # Between two edges at the side of a node.
_ARROW = 7
_PAD = 16
_HEADING = 26
_SIDE_BY_SIDE = 1200  # Wider panels are stacked instead.
_INK = "#1f2328"
_MUTED = "#57606a"


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


class Box(NamedTuple):
  """A rounded rectangle; (x, y) is its upper left corner."""

  role: str
  x: float
  y: float
  width: float
  height: float
  radius: float
  fill: str
  stroke: str


class Curve(NamedTuple):
  """Cubic Bezier pieces: a start, then two controls and an end per piece."""

  role: str
  points: tuple[tuple[float, float], ...]
  colour: str
  width: float
  dash: tuple[float, ...] = ()


class Polygon(NamedTuple):
  """A filled polygon."""

  role: str
  points: tuple[tuple[float, float], ...]
  fill: str


class Text(NamedTuple):
  """One line of text; `x` is its start or its middle, `y` its middle."""

  role: str
  x: float
  y: float
  text: str
  size: float = _FONT
  colour: str = _INK
  anchor: str = "middle"
  bold: bool = False
  subscript: str = ""


class Scene(NamedTuple):
  """A picture: its size, its primitives from back to front, its title."""

  width: float
  height: float
  primitives: tuple[Box | Curve | Polygon | Text, ...]
  title: str


class _Style(NamedTuple):
  colour: str
  width: float = 1.3
  dash: tuple[float, ...] = ()
  fill: str = "#ffffff"
  legend: str = ""


# Blue and vermilion of Okabe and Ito stay apart for colour-blind readers.
_STYLES = {
    "same": _Style(_INK, legend="unchanged"),
    "absent": _Style("#6e7781", 1.1, (1.5, 3.5)),
    "skip": _Style("#0068a8", 2.2, fill="#e3f1fb", legend="replaced by skip"),
    "null": _Style(
        "#6e7781", 1.8, (6, 4), "#eceef0", legend="replaced by null"
    ),
    "operation": _Style(
        "#c24d00", 2.2, fill="#fdeee3", legend="replaced by another operation"
    ),
}


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
    if _wiring(first) != _wiring(second):
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


def draw(
    genotype: architecture.Genotype,
    other: architecture.Genotype | None = None,
    *,
    title: str | None = None,
    titles: tuple[str, str] = ("original", "transformed"),
) -> str:
  """Draws an architecture, or two and what changed between them.

  Args:
    genotype: the architecture.
    other: what `genotype` was transformed into; drawn beside or below it.
    title: a line above the picture.
    titles: names of the two architectures, used if `other` is given.

  Returns:
    An SVG document, self-contained and on white ground.

  Raises:
    InputError: an architecture is not well formed.
  """
  return _svg(_scene(genotype, other, title, titles))


def save(
    path: str | os.PathLike[str],
    genotype: architecture.Genotype,
    other: architecture.Genotype | None = None,
    *,
    title: str | None = None,
    titles: tuple[str, str] = ("original", "transformed"),
) -> None:
  """Writes what `draw` draws to a `.svg` or `.png` file.

  Raises:
    InputError: another suffix, a directory that does not exist, `.png`
      without matplotlib, or an architecture that is not well formed.
  """
  path = _checked(path)
  scene = _scene(genotype, other, title, titles)
  svg = path.suffix.lower() == ".svg"
  _write(path, _svg(scene).encode("utf-8") if svg else _png(scene))


def learning_curves(
    rows: Iterable[Mapping[str, object]], path: str | os.PathLike[str]
) -> None:
  """Draws metrics over epochs to a `.svg` or `.png` file.

  One panel per phase and kind of metric, the last word of a metric's name
  being its kind (`loss` and `valid_loss` share a panel); one line per stage or
  run and metric. Where an epoch occurs twice, as after a resume, the later row
  counts. Rows without a phase or an epoch are left out.

  Args:
    rows: as in `metrics.jsonl`: "stage" or "run", "phase", "epoch", and
      metrics as floats, such as "loss".
    path: where to write.

  Raises:
    InputError: as `save`, or no row has a metric.
  """
  path = _checked(path)
  panels = _curves(rows)
  if not panels:
    raise errors.InputError(
        "no learning curve to draw: rows need 'phase', 'epoch' and at least one"
        " metric as a float, such as 'loss'; give the rows of a metrics.jsonl"
    )
  mpl = _matplotlib()
  count = min(3, math.ceil(math.sqrt(len(panels))))
  lines = math.ceil(len(panels) / count)
  figure = mpl.figure.Figure((4.2 * count, 2.9 * lines), layout="constrained")
  for i, ((phase, kind), curves) in enumerate(panels.items()):
    axes = figure.add_subplot(lines, count, i + 1)
    for name, points in curves.items():
      axes.plot(*zip(*sorted(points.items()), strict=True), label=name,
                marker="." if len(points) < 30 else "")
    axes.set_title(f"{phase}: {kind}", parse_math=False)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize="small").get_texts():
      text.set_parse_math(False)
  _write(path, _figure_bytes(figure, path.suffix.lower()[1:]))


# The scene: panels, headings, legend.


def _scene(
    genotype: architecture.Genotype,
    other: architecture.Genotype | None,
    title: str | None,
    titles: tuple[str, str],
) -> Scene:
  """Lays a whole picture out."""
  rows, legend = _panels(genotype, other, titles)
  width = max(panel.width for row in rows for panel in row)
  if 2 * width + _PAD > _SIDE_BY_SIDE:
    rows = [[panel] for row in rows for panel in row]
  count = len(rows[0])
  inner = max(
      count * (width + _PAD) - _PAD,
      _text_width(title or "", 17),
      _legend_width(legend),
  )
  width = (inner + _PAD) / count - _PAD
  primitives = []
  y = _PAD
  if title:
    primitives.append(
        Text("title", _PAD, y + 10, title, 17, anchor="start", bold=True)
    )
    y += 30
  for row in rows:
    height = max(panel.height for panel in row)
    for i, panel in enumerate(row):
      primitives += _panel(panel, _PAD + i * (width + _PAD), y, width, height)
    y += height + _PAD
  if legend:
    primitives += _legend(legend, _PAD, y + 6)
    y += 12 + _PAD
  ground = Box("ground", 0, 0, inner + 2 * _PAD, y, 0, "#ffffff", "none")
  name = title or (" and ".join(titles) if other else "architecture")
  return Scene(ground.width, y, (ground, *primitives), name)


class _Panel(NamedTuple):
  """One cell of one architecture, ready to be drawn."""

  heading: str
  cell: architecture.Cell
  styles: tuple[_Style, ...]  # Per edge.
  layout: "_Layout"

  @property
  def width(self) -> float:
    heading = _text_width(self.heading, 13)
    return max(self.layout.width, heading) + 2 * _PAD

  @property
  def height(self) -> float:
    return self.layout.height + _HEADING + 1.5 * _PAD


def _panels(
    genotype: architecture.Genotype,
    other: architecture.Genotype | None,
    titles: tuple[str, str],
) -> tuple[list[list[_Panel]], list[tuple[_Style | None, str]]]:
  """The panels, row by row, and the entries of the legend."""
  genotype = architecture.check(genotype, inputs_per_node=None)
  headings = ("normal cell", "reduction cell")
  if other is None:
    row = [_Panel(heading, cell, _styles(cell, cell), _layout(cell, cell))
           for heading, cell in zip(headings, genotype, strict=True)]
    return [row], []
  other = architecture.check(other, inputs_per_node=None)
  comparable = [*map(_wiring, genotype)] == [*map(_wiring, other)]
  rows = []
  for heading, *pair in zip(headings, genotype, other, strict=True):
    first = pair[0]
    rows.append([
        _Panel(
            f"{name}, {heading}", cell,
            _styles(first if comparable else cell, cell),
            # One layout for both, so that the eye finds the same edge.
            _layout(*pair) if comparable else _layout(cell, cell),
        )
        for name, cell in zip(titles, pair, strict=True)
    ])
  if comparable:
    return rows, _counts(rows)
  return rows, [(None, "not a transformation of the first: their graphs differ,"
                       " so no change is coloured")]


def _counts(rows: list[list[_Panel]]) -> list[tuple[_Style | None, str]]:
  """Legend entries with the number of edges of each kind."""
  drawn = [style for row in rows for style in row[1].styles]
  same = drawn.count(_STYLES["same"]) + drawn.count(_STYLES["absent"])
  counts = {_STYLES["same"]: same}
  return [
      (style, f"{style.legend} ({counts.get(style, drawn.count(style))})")
      for style in _STYLES.values() if style.legend
  ]


def _styles(
    before: architecture.Cell, after: architecture.Cell
) -> tuple[_Style, ...]:
  return tuple(
      _STYLES[_kind(a.operation, b.operation)]
      for a, b in zip(before.edges, after.edges, strict=True)
  )


def _kind(before: str, after: str) -> str:
  """Key of `_STYLES` for an edge."""
  if before == after:
    return "absent" if after == operations.NULL else "same"
  return {operations.NULL: "null", operations.SKIP: "skip"}.get(
      after, "operation"
  )


def _wiring(cell: architecture.Cell) -> tuple:
  """What a transformation keeps: sources and targets, concatenated nodes."""
  return [e[1:] for e in cell.edges], sorted(cell.concat)


def _legend_width(entries: Sequence[tuple[_Style | None, str]]) -> float:
  return sum(_text_width(text, _FONT) + 58 for _, text in entries)


def _legend(
    entries: Sequence[tuple[_Style | None, str]], x: float, y: float
) -> list[Curve | Polygon | Text]:
  primitives = []
  for style, text in entries:
    if style:
      primitives += _arrow("legend", _smooth([(x, y), (x + 30, y)]), style)
    start = x + 38 if style else x
    primitives.append(
        Text("legend", start, y, text, colour=_MUTED, anchor="start")
    )
    x = start + _text_width(text, _FONT) + 20
  return primitives


def _panel(
    panel: _Panel, x: float, y: float, width: float, height: float
) -> list[Box | Curve | Polygon | Text]:
  """Primitives of one framed cell."""
  layout, cell = panel.layout, panel.cell
  dx = x + (width - layout.width) / 2
  dy = y + _HEADING + (height - _HEADING - layout.height - _PAD / 2) / 2
  at = [b._replace(x=b.x + dx, y=b.y + dy) for b in layout.slots]
  paths = [tuple((px + dx, py + dy) for px, py in p) for p in layout.paths]
  drawn = [
      Box("panel", x, y, width, height, 8, "#ffffff", "#d8dee4"),
      Text("heading", x + _PAD, y + 18, panel.heading, 13, _MUTED, "start",
           True),
  ]
  thin = _Style("#8c959f", 0.9)
  for path in paths[len(cell.edges):]:
    drawn += _arrow("concat", path, thin)
  for path, style in zip(paths, panel.styles, strict=False):
    drawn += _arrow("edge", path, style)
  for i, (edge, style) in enumerate(
      zip(cell.edges, panel.styles, strict=True)
  ):
    slot = at[layout.labels[i]]
    drawn += _label(edge.operation, slot, style)
  for i in range(cell.num_nodes + architecture.NUM_INPUTS + 1):
    drawn += _node(i, cell.num_nodes, at[i])
  return drawn


def _label(operation: str, slot: Box, style: _Style) -> list[Box | Text]:
  """An operation's name in the middle of its slot."""
  middle = slot.x + slot.width / 2
  width = _text_width(operation, _FONT) + 8
  stroke = style.colour if style.fill != "#ffffff" else "none"
  return [
      Box("label", middle - width / 2, slot.y, width, slot.height, 4,
          style.fill, stroke),
      Text("operation", middle, slot.y + slot.height / 2, operation,
           colour=style.colour),
  ]


def _node(i: int, num_nodes: int, box: Box) -> list[Box | Text]:
  """Node `i`: an input, an intermediate node, or the output."""
  middle = (box.x + box.width / 2, box.y + box.height / 2)
  intermediate = 0 <= i - architecture.NUM_INPUTS < num_nodes
  if intermediate:
    fill, stroke = "#e8edf3", "#6b7f95"
    text = Text("node", *middle, str(i - architecture.NUM_INPUTS), 12)
  else:
    fill, stroke = "#e6f2e6", "#6a976a"
    subscript = {0: "k-2", 1: "k-1"}.get(i, "k")
    text = Text("node", *middle, "c", 13, subscript=subscript)
  return [box._replace(fill=fill, stroke=stroke), text]


def _arrow(
    role: str, path: tuple[tuple[float, float], ...], style: _Style
) -> list[Curve | Polygon]:
  """A curve with an arrow head; all edges arrive horizontally."""
  x, y = path[-1]
  length = _ARROW if style.width > 1 else 0.8 * _ARROW
  half = 0.45 * length
  head = ((x, y), (x - length, y - half), (x - length, y + half))
  path = (*path[:-1], (x - length + 1, y))
  return [
      Curve(role, path, style.colour, style.width, style.dash),
      Polygon(role, head, style.colour),
  ]


# The layout of one cell.


class _Layout(NamedTuple):
  """Where everything of a cell stands, from (0, 0) to (width, height).

  Attributes:
    width: of the cell.
    height: of the cell.
    slots: boxes of the nodes, then of what edges pass through.
    labels: index into `slots` per edge.
    paths: points of a `Curve` per edge, then per concatenated node.
  """

  width: float
  height: float
  slots: list[Box]
  labels: list[int]
  paths: list[tuple[tuple[float, float], ...]]


class _Graph(NamedTuple):
  """A cell whose long edges are cut at every column.

  Attributes:
    column: per item; items are the nodes with the output last, then slots.
    height: per item.
    chains: items from source to target, per edge and then concatenated node.
    before: per item, its neighbours in the previous column.
    after: per item, its neighbours in the next column.
  """

  column: list[int]
  height: list[float]
  chains: list[list[int]]
  before: list[list[int]]
  after: list[list[int]]


def _layout(cell: architecture.Cell, other: architecture.Cell) -> _Layout:
  """Lays a cell out, with room for the labels of either of two cells."""
  graph = _graph(cell)
  columns = _ordered(graph)
  y = _vertical(graph, columns)
  names = [max(a.operation, b.operation, key=len)
           for a, b in zip(cell.edges, other.edges, strict=True)]
  labels = [chain[-2] for chain in graph.chains[:len(names)]]
  nodes = cell.num_nodes + architecture.NUM_INPUTS
  width = {i: _ENDS_WIDTH if i in (0, 1, nodes) else _NODE_WIDTH
           for i in range(nodes + 1)}
  width |= {i: _text_width(name, _FONT) + 14
            for i, name in zip(labels, names, strict=True)}
  widths = [max(width.get(i, 0) for i in column) for column in columns]
  left = _horizontal(graph, widths, y)
  top = min(v - h / 2 for v, h in zip(y, graph.height, strict=True))
  slots = []
  for i, (c, h) in enumerate(zip(graph.column, graph.height, strict=True)):
    own = width[i] if i <= nodes else widths[c]
    x = left[c] + (widths[c] - own) / 2
    slots.append(Box("node", x, y[i] - h / 2 - top, own, h, 7, "", ""))
  height = max(box.y + box.height for box in slots)
  return _Layout(
      left[-1] + widths[-1], height, slots, labels, _paths(graph, slots)
  )


def _graph(cell: architecture.Cell) -> _Graph:
  """Assigns columns by longest path and cuts the edges.

  An edge's label stands in the column before its target's.
  """
  nodes = cell.num_nodes + architecture.NUM_INPUTS
  column = [0] * nodes
  for node in range(architecture.NUM_INPUTS, nodes):
    column[node] = 2 + max(column[e.source] for e in cell.incoming(node))
  column.append(1 + max(column))
  ends = [e[1:] for e in cell.edges] + [(node, nodes) for node in cell.concat]
  ports = [max(sum(s == i for s, _ in ends), sum(t == i for _, t in ends))
           for i in range(nodes + 1)]
  height = [max(26, 12 + _PORT * (count - 1)) for count in ports]
  chains = []
  for k, (source, target) in enumerate(ends):
    passed = range(column[source] + 1, column[target])
    first = len(column)
    chains.append([source, *range(first, first + len(passed)), target])
    column += passed
    height += [_LINE_HEIGHT] * len(passed)
    if k < len(cell.edges):
      height[-1] = _LABEL_HEIGHT
  before, after = ([[] for _ in column] for _ in range(2))
  for a, b in (pair for c in chains for pair in itertools.pairwise(c)):
    before[b].append(a)
    after[a].append(b)
  return _Graph(column, height, chains, before, after)


def _ordered(graph: _Graph) -> list[list[int]]:
  """Orders every column so that few edges cross."""
  columns = [[] for _ in range(max(graph.column) + 1)]
  for i, c in enumerate(graph.column):
    columns[c].append(i)
  tried = [columns]
  for sweep in range(16):
    columns = _exchanged(graph, _swept(graph, columns, sweep % 2 == 0))
    tried.append(columns)
  return min(tried, key=lambda columns: _crossings(graph, columns))


def _swept(
    graph: _Graph, columns: list[list[int]], forward: bool
) -> list[list[int]]:
  """Sorts each column by the mean position of its neighbours on one side.

  The inputs keep their order.
  """
  columns = [list(column) for column in columns]
  position = _positions(columns)
  near = graph.before if forward else graph.after
  for column in columns[1:] if forward else columns[-2:0:-1]:
    mean = {i: sum(position[j] for j in near[i]) / len(near[i])
            if near[i] else position[i] for i in column}
    column.sort(key=mean.get)
    position |= _positions([column])
  return columns


def _exchanged(graph: _Graph, columns: list[list[int]]) -> list[list[int]]:
  """Swaps neighbours within a column as long as that undoes crossings."""
  columns = [list(column) for column in columns]
  position = _positions(columns)
  improved = True
  while improved:
    improved = False
    for column in columns[1:]:
      for k, (a, b) in enumerate(itertools.pairwise(column)):
        gain = sum(
            _inversions(near[a], near[b], position)
            - _inversions(near[b], near[a], position)
            for near in (graph.before, graph.after)
        )
        if gain > 0:
          column[k:k + 2] = b, a
          position |= {b: k, a: k + 1}
          improved = True
          break
  return columns


def _positions(columns: Iterable[list[int]]) -> dict[int, int]:
  return {i: k for column in columns for k, i in enumerate(column)}


def _crossings(graph: _Graph, columns: list[list[int]]) -> int:
  """Number of pairs of edges that cross, column by column."""
  position = _positions(columns)
  return sum(
      _inversions(graph.after[a], graph.after[b], position)
      for column in columns for a, b in itertools.combinations(column, 2)
  )


def _inversions(
    upper: Sequence[int], lower: Sequence[int], position: Mapping[int, int]
) -> int:
  """Crossings between the neighbours of an item and of one below it."""
  return sum(position[i] > position[j] for i in upper for j in lower)


def _vertical(graph: _Graph, columns: list[list[int]]) -> list[float]:
  """Middles of the items: every item near its neighbours, none overlapping.

  Minimises the squared slopes by coordinate descent over the columns, each
  step being an isotonic regression. Links between slots weigh more, so that
  long edges run straight.
  """
  last = max(chain[-1] for chain in graph.chains)  # The output.
  near = [
      [(j, 4 if min(i, j) > last else 1) for j in before + after]
      for i, (before, after) in enumerate(
          zip(graph.before, graph.after, strict=True)
      )
  ]
  weight = [sum(w for _, w in pairs) or 1 for pairs in near]
  y = [0.0] * len(graph.column)
  for sweep in range(60):
    for column in columns if sweep % 2 == 0 else reversed(columns):
      wanted = [sum(w * y[j] for j, w in near[i]) / weight[i] for i in column]
      placed = _separated(
          wanted, [weight[i] for i in column],
          [graph.height[i] + 6 for i in column],
      )
      for i, value in zip(column, placed, strict=True):
        y[i] = value
  return y


def _separated(
    wanted: Sequence[float], weights: Sequence[float], sizes: Sequence[float]
) -> list[float]:
  """Nearest positions, by weighted squares, at which no two items overlap.

  With the room that the items before it take subtracted, a position may not
  decrease: isotonic regression, by pooling adjacent violators.
  """
  room = [sum(sizes[:i]) + sizes[i] / 2 for i in range(len(sizes))]
  pools = []  # (mean, weight, count)
  for value, weight in zip(
      (v - r for v, r in zip(wanted, room, strict=True)), weights, strict=True
  ):
    pools.append((value, weight, 1))
    while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
      (v, w, n), (value, weight, count) = pools[-2:]
      pools[-2:] = [
          ((v * w + value * weight) / (w + weight), w + weight, n + count)
      ]
  levels = [value for value, _, count in pools for _ in range(count)]
  return [level + r for level, r in zip(levels, room, strict=True)]


def _horizontal(
    graph: _Graph, widths: Sequence[float], y: Sequence[float]
) -> list[float]:
  """Left sides of the columns; steep edges get more room."""
  rise = [0.0] * len(widths)
  for a, neighbours in enumerate(graph.after):
    c = graph.column[a]
    rise[c] = max([rise[c], *(abs(y[a] - y[b]) for b in neighbours)])
  left = [0.0]
  for width, r in zip(widths, rise[:-1], strict=False):
    left.append(left[-1] + width + min(max(20 + 0.3 * r, 26), 80))
  return left


def _paths(
    graph: _Graph, slots: Sequence[Box]
) -> list[tuple[tuple[float, float], ...]]:
  """The curve of every chain: level through columns, smooth between them."""
  middle = [box.y + box.height / 2 for box in slots]
  starts = _ports(graph, middle, 0, 1)
  ends = _ports(graph, middle, -1, -2)
  paths = []
  for k, chain in enumerate(graph.chains):
    first, last = slots[chain[0]], slots[chain[-1]]
    stops = [(first.x + first.width, middle[chain[0]] + starts[k])]
    for i in chain[1:-1]:
      stops += [(slots[i].x, middle[i]),
                (slots[i].x + slots[i].width, middle[i])]
    stops.append((last.x, middle[chain[-1]] + ends[k]))
    paths.append(_smooth(stops))
  return paths


def _ports(
    graph: _Graph, middle: Sequence[float], end: int, inner: int
) -> list[float]:
  """How far from a node's middle each chain starts (or ends)."""
  offsets = [0.0] * len(graph.chains)
  for node in {chain[end] for chain in graph.chains}:
    here = [k for k, chain in enumerate(graph.chains) if chain[end] == node]
    here.sort(key=lambda k: (middle[graph.chains[k][inner]], k))
    for rank, k in enumerate(here):
      offsets[k] = _PORT * (rank - (len(here) - 1) / 2)
  return offsets


def _smooth(
    stops: Sequence[tuple[float, float]]
) -> tuple[tuple[float, float], ...]:
  """Cubic pieces through the stops, with level tangents at each."""
  points = [stops[0]]
  for (x0, y0), (x1, y1) in itertools.pairwise(stops):
    half = (x0 + x1) / 2
    points += [(half, y0), (half, y1), (x1, y1)]
  return tuple(points)


def _text_width(text: str, size: float) -> float:
  """An upper estimate, since viewers choose the font."""
  return 0.61 * size * len(text)


# Renderers and files.


def _svg(scene: Scene) -> str:
  size = f"{_number(scene.width)} {_number(scene.height)}"
  width, height = size.split()
  return "\n".join([
      f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}"'
      f' height="{height}" viewBox="0 0 {size}" role="img"'
      ' font-family="DejaVu Sans, Verdana, Helvetica, Arial, sans-serif">',
      f"<title>{_escape(scene.title)}</title>",
      *map(_svg_element, scene.primitives),
      "</svg>\n",
  ])


def _svg_element(p: Box | Curve | Polygon | Text) -> str:
  """One primitive as one line of SVG."""
  if isinstance(p, Box):
    x, y, width, height, radius = map(_number, p[1:6])
    return (
        f'<rect class="{p.role}" x="{x}" y="{y}" width="{width}"'
        f' height="{height}" rx="{radius}" fill="{p.fill}"'
        f' stroke="{p.stroke}"/>'
    )
  if isinstance(p, Text):
    return _svg_text(p)
  points = [" ".join(map(_number, point)) for point in p.points]
  if isinstance(p, Polygon):
    return (f'<path class="{p.role}-head" d="M{" L".join(points)}Z"'
            f' fill="{p.fill}"/>')
  dash = f' stroke-dasharray="{" ".join(map(_number, p.dash))}"' * bool(p.dash)
  return (
      f'<path class="{p.role}" d="M{points[0]} C{" ".join(points[1:])}"'
      f' fill="none" stroke="{p.colour}" stroke-width="{p.width}"{dash}/>'
  )


def _svg_text(p: Text) -> str:
  """A text, centred by its baseline, which all viewers understand."""
  bold = ' font-weight="bold"' * p.bold
  below = f'<tspan dy="{_number(0.25 * p.size)}"' * bool(p.subscript)
  below += (f' font-size="{_number(0.7 * p.size)}">{_escape(p.subscript)}'
            "</tspan>") * bool(p.subscript)
  return (
      f'<text class="{p.role}" x="{_number(p.x)}"'
      f' y="{_number(p.y + 0.36 * p.size)}" font-size="{_number(p.size)}"'
      f' fill="{p.colour}" text-anchor="{p.anchor}"{bold}>'
      f"{_escape(p.text)}{below}</text>"
  )


def _number(value: float) -> str:
  return f"{round(value, 1) + 0.0:g}"


def _escape(text: str) -> str:
  """Text for XML, in which most control characters may not occur at all."""
  return saxutils.escape(
      re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd",
             text)
  )


def _png(scene: Scene) -> bytes:
  """Renders with matplotlib, two pixels per unit."""
  mpl = _matplotlib(" or choose .svg")
  figure = mpl.figure.Figure((scene.width / 100, scene.height / 100), dpi=200)
  axes = figure.add_axes((0, 0, 1, 1))
  axes.set_axis_off()
  axes.set_xlim(0, scene.width)
  axes.set_ylim(scene.height, 0)
  for p in scene.primitives:
    if isinstance(p, Text):
      _png_text(axes, p)
    else:
      axes.add_patch(_png_patch(mpl, p))
  return _figure_bytes(figure, "png")


def _png_patch(mpl: types.ModuleType, p: Box | Curve | Polygon):
  """A primitive other than text as a matplotlib patch."""
  if isinstance(p, Box):
    return mpl.patches.FancyBboxPatch(
        (p.x, p.y), p.width, p.height, fc=p.fill, ec=p.stroke, lw=0.72,
        boxstyle=mpl.patches.BoxStyle.Round(pad=0, rounding_size=p.radius),
    )
  if isinstance(p, Polygon):
    return mpl.patches.Polygon(p.points, fc=p.fill, ec="none")
  codes = [mpl.path.Path.MOVETO]
  codes += [mpl.path.Path.CURVE4] * (len(p.points) - 1)
  # matplotlib counts dashes in line widths, and widths in points.
  dash = (0, tuple(d / p.width for d in p.dash)) if p.dash else "solid"
  return mpl.patches.PathPatch(
      mpl.path.Path(p.points, codes), fc="none", ec=p.colour,
      lw=0.72 * p.width, linestyle=dash, capstyle="butt",
  )


def _png_text(axes, p: Text) -> None:
  mathematical = bool(p.subscript)
  axes.text(
      p.x, p.y + 0.36 * p.size,
      rf"$\mathrm{{{p.text}}}_{{{p.subscript}}}$" if mathematical else p.text,
      fontsize=0.72 * p.size, color=p.colour, va="baseline",
      ha={"middle": "center", "start": "left"}[p.anchor],
      weight="bold" if p.bold else "normal", family="DejaVu Sans",
      parse_math=mathematical,
  )


def _curves(
    rows: Iterable[Mapping[str, object]],
) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
  """Points by panel (phase, kind of metric), line and epoch."""
  panels = {}
  for row in rows:
    if row.get("phase") is None or row.get("epoch") is None:
      continue
    owner = [str(row[key]) for key in ("run", "stage") if key in row]
    for metric, value in row.items():
      if metric != "epoch" and isinstance(value, float):
        panel = (str(row["phase"]), metric.rsplit("_", 1)[-1])
        line = panels.setdefault(panel, {}).setdefault(
            " ".join([*owner, metric]), {}
        )
        line[row["epoch"]] = value
  return panels


def _figure_bytes(figure, form: str) -> bytes:
  """A figure as a file; equal figures give equal bytes."""
  mpl = _matplotlib()
  stream = io.BytesIO()
  mpl.backends.backend_agg.FigureCanvasAgg(figure)
  if form == "png":
    figure.savefig(stream, format=form)
  else:
    with mpl.rc_context({"svg.hashsalt": "natjax", "svg.fonttype": "none"}):
      figure.savefig(stream, format=form, metadata={"Date": None})
  return stream.getvalue()


def _matplotlib(instead: str = "") -> types.ModuleType:
  """The optional matplotlib, without pyplot and its global figures."""
  try:
    import matplotlib
    import matplotlib.backends.backend_agg
    import matplotlib.figure
    import matplotlib.patches
    import matplotlib.path
  except ImportError as e:
    raise errors.InputError(
        "this picture needs matplotlib, which is not installed; pip install"
        f" 'natjax[plots]'{instead}"
    ) from e
  return matplotlib


def _checked(path: str | os.PathLike[str]) -> pathlib.Path:
  """The path, if a picture can be written there."""
  path = pathlib.Path(path)
  if path.suffix.lower() not in (".svg", ".png"):
    raise errors.InputError(
        f"{path}: pictures are written as .svg or .png, not as"
        f" '{path.suffix}'; choose one of these suffixes"
    )
  if not path.parent.is_dir():
    raise errors.InputError(
        f"{path}: there is no directory '{path.parent}'; create it first"
    )
  return path


def _write(path: pathlib.Path, data: bytes) -> None:
  """Writes under a temporary name first, so that no half a file remains."""
  partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
  try:
    partial.write_bytes(data)
    os.replace(partial, path)
  except OSError as e:
    partial.unlink(missing_ok=True)
    raise errors.InputError(
        f"{path}: {e.strerror}; choose a path that can be written"
    ) from e
