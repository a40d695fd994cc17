"""Where the parts of a drawn cell stand.

The layout is that of Sugiyama et al., 1981: nodes stand in columns by longest
path, and between two columns of nodes stands one of labels. An edge crosses
every column on its way in a slot of its own, so that a label can overlap
neither another label, nor a node, nor another edge.
"""

from collections.abc import Iterable, Mapping, Sequence
import itertools
from typing import NamedTuple

from natjax.drawing import shapes
from natjax.graph import records

_LABEL_HEIGHT = 17
_NODE_WIDTH = 26
_INPUT_WIDTH = 60
_OUTPUT_WIDTH = 42
_LINE_HEIGHT = 6
_PORT = 7  # Between two edges at the side of a node.


class Positions(NamedTuple):
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
  slots: list[shapes.Box]
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


def lay_out(cell: records.Cell, other: records.Cell) -> Positions:
  """Lays a cell out, with room for the labels of either of two cells."""
  graph = _graph(cell)
  columns = _ordered(graph)
  y = _vertical(graph, columns)
  names = [max(a.operation, b.operation, key=len)
           for a, b in zip(cell.edges, other.edges, strict=True)]
  labels = [chain[-2] for chain in graph.chains[:len(names)]]
  nodes = cell.num_nodes + records.NUM_INPUTS
  width: dict[int, float] = {
      **dict.fromkeys(range(records.NUM_INPUTS), _INPUT_WIDTH),
      **dict.fromkeys(range(records.NUM_INPUTS, nodes), _NODE_WIDTH),
      nodes: _OUTPUT_WIDTH}
  width |= {i: shapes.text_width(name, shapes.FONT) + 14
            for i, name in zip(labels, names, strict=True)}
  widths = [max(width.get(i, 0) for i in column) for column in columns]
  left = _horizontal(graph, columns, widths, y)
  top = min(v - h / 2 for v, h in zip(y, graph.height, strict=True))
  slots = []
  for i, (c, h) in enumerate(zip(graph.column, graph.height, strict=True)):
    own = width[i] if i <= nodes else widths[c]
    x = left[c] + (widths[c] - own) / 2
    slots.append(shapes.Box("node", x, y[i] - h / 2 - top, own, h, 7, "", ""))
  return Positions(
      left[-1] + widths[-1], max(box.y + box.height for box in slots), slots,
      labels, _paths(graph, slots))


def _graph(cell: records.Cell) -> _Graph:
  """Assigns columns by longest path and cuts the edges.

  An edge's label stands in the column before its target's.
  """
  nodes = cell.num_nodes + records.NUM_INPUTS
  column = [0] * nodes
  for node in range(records.NUM_INPUTS, nodes):
    column[node] = 2 + max(column[e.source] for e in cell.incoming(node))
  column.append(1 + max(column))
  ends = [e[1:] for e in cell.edges] + [(node, nodes) for node in cell.concat]
  ports = [max(sum(s == i for s, _ in ends), sum(t == i for _, t in ends))
           for i in range(nodes + 1)]
  height: list[float] = [max(26, 12 + _PORT * (count - 1)) for count in ports]
  chains = []
  for k, (source, target) in enumerate(ends):
    passed = range(column[source] + 1, column[target])
    first = len(column)
    chains.append([source, *range(first, first + len(passed)), target])
    column += passed
    height += [_LINE_HEIGHT] * len(passed)
    if k < len(cell.edges):
      height[-1] = _LABEL_HEIGHT
  before: list[list[int]] = [[] for _ in column]
  after: list[list[int]] = [[] for _ in column]
  for a, b in (pair for c in chains for pair in itertools.pairwise(c)):
    before[b].append(a)
    after[a].append(b)
  return _Graph(column, height, chains, before, after)


def _ordered(graph: _Graph) -> list[list[int]]:
  """Orders every column so that few edges cross."""
  columns = [[i for i, c in enumerate(graph.column) if c == k]
             for k in range(max(graph.column) + 1)]
  tried = [columns]
  for sweep in range(16):
    columns = [list(column) for column in columns]
    _sweep(graph, columns, sweep % 2 == 0)
    _exchange(graph, columns)
    tried.append(columns)
  return min(tried, key=lambda columns: _crossings(graph, columns))


def _sweep(graph: _Graph, columns: list[list[int]], forward: bool) -> None:
  """Sorts each column by the mean position of its neighbours on one side.

  The inputs keep their order.
  """
  position = _positions(columns)
  near = graph.before if forward else graph.after
  for column in columns[1:] if forward else columns[-2:0:-1]:
    mean = {i: sum(position[j] for j in near[i]) / len(near[i])
            if near[i] else position[i] for i in column}
    column.sort(key=mean.__getitem__)
    position |= _positions([column])


def _exchange(graph: _Graph, columns: list[list[int]]) -> None:
  """Swaps neighbours within a column as long as that undoes crossings."""
  position = _positions(columns)
  improved = True
  while improved:
    improved = False
    for column in columns[1:]:
      for k, (a, b) in enumerate(itertools.pairwise(column)):
        gain = sum(_inversions(near[a], near[b], position)
                   - _inversions(near[b], near[a], position)
                   for near in (graph.before, graph.after))
        if gain > 0:
          column[k:k + 2] = b, a
          position |= {b: k, a: k + 1}
          improved = True
          break


def _positions(columns: Iterable[list[int]]) -> dict[int, int]:
  return {i: k for column in columns for k, i in enumerate(column)}


def _crossings(graph: _Graph, columns: list[list[int]]) -> int:
  """Number of pairs of edges that cross, column by column."""
  position = _positions(columns)
  return sum(_inversions(graph.after[a], graph.after[b], position)
             for column in columns
             for a, b in itertools.combinations(column, 2))


def _inversions(upper: Sequence[int], lower: Sequence[int],
                position: Mapping[int, int]) -> int:
  """Crossings between the neighbours of an item and of one below it."""
  return sum(position[i] > position[j] for i in upper for j in lower)


def _vertical(graph: _Graph, columns: list[list[int]]) -> list[float]:
  """Middles of the items: every item near its neighbours, none overlapping.

  Minimises the squared slopes by coordinate descent over the columns, each
  step being an isotonic regression. Links between slots weigh more, so that
  long edges run straight.
  """
  last = max(chain[-1] for chain in graph.chains)  # The output.
  near = [[(j, 4 if min(i, j) > last else 1)
           for j in graph.before[i] + graph.after[i]]
          for i in range(len(graph.column))]
  weight = [sum(w for _, w in pairs) or 1 for pairs in near]
  y = [0.0] * len(graph.column)
  for sweep in range(60):
    for column in columns if sweep % 2 == 0 else reversed(columns):
      wanted = [sum(w * y[j] for j, w in near[i]) / weight[i] for i in column]
      placed = _separated(wanted, [weight[i] for i in column],
                          [graph.height[i] + 6 for i in column])
      for i, value in zip(column, placed, strict=True):
        y[i] = value
  return y


def _separated(wanted: Sequence[float], weights: Sequence[float],
               sizes: Sequence[float]) -> list[float]:
  """Nearest positions, by weighted squares, at which no two items overlap.

  With the room that the items before it take subtracted, a position may not
  decrease: isotonic regression, by pooling adjacent violators.
  """
  room = [sum(sizes[:i]) + sizes[i] / 2 for i in range(len(sizes))]
  pools = []  # (mean, weight, count)
  for value, r, weight in zip(wanted, room, weights, strict=True):
    pools.append((value - r, weight, 1))
    while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
      (v, w, n), (value, weight, count) = pools[-2:]
      mean = (v * w + value * weight) / (w + weight)
      pools[-2:] = [(mean, w + weight, n + count)]
  levels = [value for value, _, count in pools for _ in range(count)]
  return [level + r for level, r in zip(levels, room, strict=True)]


def _horizontal(graph: _Graph, columns: list[list[int]],
                widths: Sequence[float], y: Sequence[float]) -> list[float]:
  """Left sides of the columns; steep edges get more room."""
  left = [0.0]
  for column, width in zip(columns[:-1], widths, strict=False):
    rise = max(abs(y[a] - y[b]) for a in column for b in graph.after[a])
    left.append(left[-1] + width + min(max(20 + 0.3 * rise, 26), 80))
  return left


def _paths(
    graph: _Graph, slots: Sequence[shapes.Box]
) -> list[tuple[tuple[float, float], ...]]:
  """The curve of every chain: level through columns, smooth between them."""
  middle = [box.y + box.height / 2 for box in slots]
  starts, ends = _ports(graph, middle, 0, 1), _ports(graph, middle, -1, -2)
  paths = []
  for chain, start, end in zip(graph.chains, starts, ends, strict=True):
    first, last = slots[chain[0]], slots[chain[-1]]
    stops = [(first.x + first.width, middle[chain[0]] + start)]
    for i in chain[1:-1]:
      stops += [(slots[i].x, middle[i]),
                (slots[i].x + slots[i].width, middle[i])]
    stops.append((last.x, middle[chain[-1]] + end))
    paths.append(shapes.smooth(stops))
  return paths


def _ports(graph: _Graph, middle: Sequence[float], end: int,
           inner: int) -> list[float]:
  """How far from a node's middle each chain starts (or ends)."""
  offsets = [0.0] * len(graph.chains)
  for node in {chain[end] for chain in graph.chains}:
    here = [(middle[chain[inner]], k) for k, chain in enumerate(graph.chains)
            if chain[end] == node]
    for rank, (_, k) in enumerate(sorted(here)):
      offsets[k] = _PORT * (rank - (len(here) - 1) / 2)
  return offsets
