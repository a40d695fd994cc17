"""Tests of `natjax.drawing`."""

import collections
import itertools
import os
import re
import sys
from xml.etree import ElementTree

import hypothesis
from hypothesis import strategies as st
import pytest

from natjax import drawing
from natjax import errors
from natjax import operations
from natjax import zoo
from natjax.graph import genotype as architecture

PAIRS = [
    (original, f"{prefix}_{short}")
    for original, short in [
        *((n, n) for n in ("darts", "enas", "naonet", "r1", "r2", "r3", "r4")),
        *((f"{n}-cell", n) for n in ("vgg", "resblock", "mobilenetv2")),
    ]
    for prefix in ("nat", "natv2")
    if f"{prefix}_{short}" in zoo.genotype_names()
]
PNG = b"\x89PNG\r\n\x1a\n"
BLUE, ORANGE = "#0068a8", "#c24d00"


def cell(*edges, concat=(2, 3)):
  return architecture.Cell(
      tuple(architecture.Edge(*edge) for edge in edges), concat
  )


def genotype(*operations_of_normal):
  """Two nodes; node 3 takes node 0 twice. The reduce cell is fixed."""
  ends = [(0, 2), (1, 2), (0, 3), (0, 3)]
  normal = cell(*((op, *end) for op, end in
                  zip(operations_of_normal, ends, strict=True)))
  return architecture.Genotype(normal, cell(
      ("max_pool_3x3", 0, 2), ("null", 1, 2), ("conv_1x1", 2, 3),
      ("conv_3x3", 1, 3), concat=(3,)
  ))


FIRST = genotype("sep_conv_3x3", "sep_conv_5x5", "conv_3x3", "conv_3x3")
SECOND = genotype("skip_connect", "null", "conv_3x3", "max_pool_3x3")


def elements(svg, tag, role):
  """SVG elements of a class, in order of appearance."""
  root = ElementTree.fromstring(svg)
  return [e for e in root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")
          if e.get("class") == role]


def texts(svg, role):
  return ["".join(e.itertext()) for e in elements(svg, "text", role)]


def boxes(svg, role):
  """(left, top, right, bottom) of rectangles of a class."""
  found = []
  for e in elements(svg, "rect", role):
    x, y, width, height = (float(e.get(k))
                           for k in ("x", "y", "width", "height"))
    found.append((x, y, x + width, y + height))
  return found


def sampled(path, per_piece=16):
  """Points on the Bezier pieces of a path."""
  numbers = [float(n) for n in re.findall(r"-?[\d.]+", path.get("d"))]
  points = list(zip(numbers[::2], numbers[1::2], strict=True))
  for k in range(0, len(points) - 1, 3):
    for i in range(per_piece + 1):
      t = i / per_piece
      weights = ((1 - t)**3, 3 * t * (1 - t)**2, 3 * t**2 * (1 - t), t**3)
      yield tuple(
          sum(w * p[axis] for w, p in zip(weights, points[k:k + 4],
                                          strict=True))
          for axis in (0, 1)
      )


def inside(point, box, margin=0.5):
  (x, y), (left, top, right, bottom) = point, box
  return (left + margin < x < right - margin
          and top + margin < y < bottom - margin)


def check_nothing_overlaps(svg):
  """Labels and nodes lie apart, and edges cross only between columns."""
  labels, nodes = boxes(svg, "label"), boxes(svg, "node")
  (_, _, right, bottom), = boxes(svg, "ground")
  for a, b in itertools.combinations(labels + nodes, 2):
    assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
  for box in labels + nodes:
    assert min(box) >= 0 and box[2] <= right and box[3] <= bottom
  edges = elements(svg, "path", "edge")
  assert len(edges) == len(labels)
  for k, path in enumerate(edges + elements(svg, "path", "concat")):
    others = [box for i, box in enumerate(labels) if i != k] + nodes
    for point in sampled(path):
      assert not any(inside(point, box) for box in others)


@pytest.mark.parametrize("name", zoo.genotype_names())
def test_zoo_pictures_are_complete_and_legible(name):
  svg = drawing.draw(zoo.get(name))
  cells = zoo.get(name)
  assert collections.Counter(texts(svg, "operation")) == collections.Counter(
      edge.operation for c in cells for edge in c.edges
  )
  assert collections.Counter(texts(svg, "node")) == collections.Counter(
      label for c in cells
      for label in ["ck-2", "ck-1", "ck", *map(str, range(c.num_nodes))]
  )
  assert len(elements(svg, "path", "concat")) == sum(
      len(c.concat) for c in cells
  )
  curves = [e.get("d") for e in elements(svg, "path", "edge")]
  assert len(set(curves)) == len(curves)
  assert texts(svg, "legend") == []
  check_nothing_overlaps(svg)


@pytest.mark.parametrize("names", PAIRS, ids="-".join)
def test_zoo_pairs_colour_what_changed(names):
  pair = [zoo.get(name) for name in names]
  svg = drawing.draw(*pair)
  changes = drawing.changes(*pair)
  kinds = collections.Counter(
      change.after if change.after in ("skip_connect", "null") else "other"
      for change in changes
  )
  strokes = collections.Counter(
      e.get("stroke") for e in elements(svg, "path", "edge")
  )
  assert strokes[BLUE] == kinds["skip_connect"]
  assert strokes[ORANGE] == kinds["other"]
  total = sum(len(c.edges) for c in pair[0])
  assert texts(svg, "legend") == [
      f"unchanged ({total - len(changes)})",
      f"replaced by skip ({kinds['skip_connect']})",
      f"replaced by null ({kinds['null']})",
      f"replaced by another operation ({kinds['other']})",
  ]
  check_nothing_overlaps(svg)


def test_changes_by_hand():
  assert drawing.changes(FIRST, FIRST) == []
  assert drawing.changes(FIRST, SECOND) == [
      ("normal", 0, 2, "sep_conv_3x3", "skip_connect"),
      ("normal", 1, 2, "sep_conv_5x5", "null"),
      # The second of two edges between the same nodes.
      ("normal", 0, 3, "conv_3x3", "max_pool_3x3"),
  ]


def test_changes_of_published_architectures():
  found = drawing.changes(zoo.get("vgg-cell"), zoo.get("nat_vgg"))
  assert found == [
      ("normal", 0, 2, "null", "skip_connect"),
      ("normal", 0, 5, "null", "skip_connect"),
      ("reduce", 0, 2, "null", "skip_connect"),
      ("reduce", 0, 5, "null", "skip_connect"),
      ("reduce", 4, 5, "max_pool_3x3", "skip_connect"),
  ]
  assert len(drawing.changes(zoo.get("darts"), zoo.get("nat_darts"))) == 5


@pytest.mark.parametrize("other", [
    zoo.get("enas"),  # Another number of edges.
    zoo.get("snas_mild"),  # Other sources.
    zoo.get("darts")._replace(
        normal=zoo.get("darts").normal._replace(concat=(5,))
    ),
], ids=["edges", "sources", "concat"])
def test_another_graph_is_drawn_but_not_compared(other):
  with pytest.raises(errors.InputError, match="give two architectures"):
    drawing.changes(zoo.get("darts"), other)
  svg = drawing.draw(zoo.get("darts"), other)
  legend, = texts(svg, "legend")
  assert legend.startswith("not a transformation of the first")
  assert BLUE not in svg and ORANGE not in svg
  check_nothing_overlaps(svg)


def test_colours_and_dashes_by_hand():
  edges = elements(drawing.draw(FIRST, SECOND), "path", "edge")
  normal = edges[4:8]  # After the four of the original's normal cell.
  assert [e.get("stroke") for e in normal] == [
      BLUE, "#6e7781", "#1f2328", ORANGE
  ]
  dashes = [e.get("stroke-dasharray") for e in edges]
  assert dashes == [
      *[None] * 4, None, "6 4", None, None,  # Replaced by null: dashed.
      *[None, "1.5 3.5", None, None] * 2,  # Null in both: dotted.
  ]


def test_both_architectures_are_laid_out_alike():
  svg = drawing.draw(zoo.get("darts"), zoo.get("nat_darts"))
  nodes = boxes(svg, "node")
  first, second = nodes[:7], nodes[7:14]
  for a, b in zip(first, second, strict=True):
    assert b[0] - a[0] == pytest.approx(second[0][0] - first[0][0], abs=0.2)
    assert b[1] == a[1]


def test_double_edges_are_apart():
  svg = drawing.draw(FIRST)
  first, second = (list(sampled(e))
                   for e in elements(svg, "path", "edge")[2:4])
  apart = [abs(a[1] - b[1]) for a, b in zip(first, second, strict=True)]
  assert max(apart) > 17 and min(apart) > 5


def test_all_text_is_escaped():
  op = operations.get("conv_3x3")
  text = "a<b> & \"c\" ]]> \x00"
  with operations.registered(type(op)(**{**vars(op), "name": "x<&>"})):
    svg = drawing.draw(
        genotype(*["x<&>"] * 4), FIRST, title=text, titles=("<1>", "&2")
    )
  assert texts(svg, "title") == [text.replace("\x00", "\ufffd")]
  assert texts(svg, "heading")[:2] == ["<1>, normal cell", "&2, normal cell"]
  assert texts(svg, "operation").count("x<&>") == 4


def test_white_ground_covers_the_picture():
  svg = drawing.draw(FIRST, title="a title that is far wider than the cells, "
                                  "so that the picture must grow with it " * 2)
  root = ElementTree.fromstring(svg)
  ground, = elements(svg, "rect", "ground")
  assert ground.get("fill") == "#ffffff"
  assert [ground.get(k) for k in ("width", "height")] == [
      root.get("width"), root.get("height")
  ]
  assert float(root.get("width")) > 800


def test_drawing_is_deterministic():
  pair = zoo.get("enas"), zoo.get("nat_enas")
  assert drawing.draw(*pair) == drawing.draw(*pair)


def test_ill_formed_architectures_are_refused():
  loop = cell(("conv_3x3", 2, 2), concat=(2,))
  with pytest.raises(errors.InputError, match="earlier node"):
    drawing.draw(architecture.Genotype(loop, loop))
  with pytest.raises(errors.InputError):
    drawing.draw(FIRST, architecture.Genotype(FIRST.normal, loop))


@st.composite
def cells(draw):
  """Cells with one to four inputs per node, as no published one has."""
  count = draw(st.integers(1, 7))
  edges = [
      architecture.Edge(draw(st.sampled_from(
          ["null", "skip_connect", "sep_conv_3x3", "conv_1x7_7x1"]
      )), draw(st.integers(0, target - 1)), target)
      for target in range(2, 2 + count)
      for _ in range(draw(st.integers(1, 4)))
  ]
  concat = draw(st.lists(st.integers(2, 1 + count), min_size=1, unique=True))
  return architecture.Cell(tuple(edges), tuple(concat))


@hypothesis.settings(derandomize=True, max_examples=40, deadline=None)
@hypothesis.given(cells(), cells())
def test_nothing_overlaps_whatever_the_cells(normal, reduce):
  check_nothing_overlaps(
      drawing.draw(architecture.Genotype(normal, reduce))
  )


def test_labels_are_as_wide_as_their_text():
  textpath = pytest.importorskip("matplotlib.textpath")
  used = {e.operation for n in zoo.genotype_names() for c in zoo.get(n)
          for e in c.edges}
  for name in used:
    path = textpath.TextPath((0, 0), name, size=11, prop="DejaVu Sans")
    svg = drawing.draw(genotype(*[name] * 4))
    left, _, right, _ = boxes(svg, "label")[0]
    assert path.get_extents().width <= right - left


@pytest.mark.parametrize("suffix", [".svg", ".png", ".PNG"])
def test_save(tmp_path, suffix):
  path = tmp_path / f"picture{suffix}"
  path.write_text("older")
  if suffix != ".svg":
    pytest.importorskip("matplotlib")
  drawing.save(path, FIRST, SECOND, title="$x$ is no formula")
  data = path.read_bytes()
  if suffix == ".svg":
    assert data.decode() == drawing.draw(
        FIRST, SECOND, title="$x$ is no formula"
    )
  else:
    assert data.startswith(PNG) and len(data) > 20_000
    drawing.save(path, FIRST, SECOND, title="$x$ is no formula")
    assert path.read_bytes() == data
  assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("name, message", [
    ("picture.pdf", r"\.svg or \.png, not as '\.pdf'"),
    ("picture", r"\.svg or \.png"),
    ("missing/picture.svg", "no directory '.*missing'; create it"),
])
def test_paths_are_refused_in_one_line(tmp_path, name, message):
  for write in (
      lambda path: drawing.save(path, FIRST),
      lambda path: drawing.learning_curves(
          [{"run": "a", "phase": "train", "epoch": 0, "loss": 1.0}], path
      ),
  ):
    with pytest.raises(errors.InputError, match=message) as caught:
      write(tmp_path / name)
    assert "\n" not in str(caught.value)
  assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_older_file(tmp_path, monkeypatch):
  def full(*_):
    raise OSError(28, "No space left on device")

  path = tmp_path / "picture.svg"
  path.write_text("older")
  monkeypatch.setattr(os, "replace", full)
  with pytest.raises(errors.InputError, match="No space left"):
    drawing.save(path, FIRST)
  assert path.read_text() == "older"
  assert os.listdir(tmp_path) == ["picture.svg"]


def test_only_svg_without_matplotlib(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "matplotlib", None)
  drawing.save(tmp_path / "a.svg", FIRST)
  hint = r"pip install 'natjax\[plots\]' or choose \.svg"
  with pytest.raises(errors.InputError, match=hint):
    drawing.save(tmp_path / "a.png", FIRST)
  assert os.listdir(tmp_path) == ["a.svg"]


ROWS = [
    {"stage": stage, "phase": phase, "epoch": epoch, "step": 7,
     "loss": 1 / (epoch + 1), "valid_loss": float("nan"), "reward": 0.5}
    for stage in ("search", "$train") for phase in ("weights", "policy")
    for epoch in range(3)
]


def test_learning_curves(tmp_path):
  pytest.importorskip("matplotlib")
  drawing.learning_curves(ROWS, tmp_path / "a.png")
  data = (tmp_path / "a.png").read_bytes()
  assert data.startswith(PNG) and len(data) > 10_000
  # Neither the summary row nor the repeated epoch adds a panel or a line.
  summary = {"stage": "search", "params": 3.3}
  drawing.learning_curves([summary, *ROWS], tmp_path / "a.svg")
  svg = (tmp_path / "a.svg").read_text()
  drawing.learning_curves([*ROWS, ROWS[-1]], tmp_path / "b.svg")
  assert (tmp_path / "b.svg").read_text() == svg
  found = ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter(
      "{http://www.w3.org/2000/svg}text")]
  for panel in ("weights: loss", "weights: reward", "policy: loss",
                "policy: reward"):
    assert found.count(panel) == 1
  assert found.count("search valid_loss") == found.count("$train loss") == 2
  assert not any("step" in text for text in found)


def test_learning_curves_without_metrics(tmp_path):
  for rows in ([], [{"run": "a", "phase": "train", "epoch": 1, "step": 2}],
               [{"run": "a", "loss": 1.0}]):
    with pytest.raises(errors.InputError, match="no learning curve"):
      drawing.learning_curves(rows, tmp_path / "a.svg")


def theta_rows():
  return [{"run": "theta-0", "stage": "architecture", "epoch": e, "theta": {
      "block 0": [[0.0, 0.1 * e, 1.0 - 0.1 * e], [0.0, 0.0, 1.0]]}}
          for e in range(3)] + [{"run": "transformed-0", "epoch": 0}]


def test_theta_over_time_draws_what_moves(tmp_path):
  drawing.theta_curves(theta_rows(), tmp_path / "theta.svg")
  text = (tmp_path / "theta.svg").read_text()
  assert "theta-0: block 0" in text
  assert "0 id" in text and "0 same" in text and "1 same" not in text


def test_without_theta_nothing_is_drawn(tmp_path):
  with pytest.raises(errors.InputError, match="differentiable"):
    drawing.theta_curves([{"epoch": 0, "loss": 1.0}], tmp_path / "t.svg")
  assert not list(tmp_path.iterdir())
