"""Whole pictures of architectures."""

import collections
from xml.etree import ElementTree

import pytest

from natjax import drawing, errors, operations, zoo
from natjax.graph import genotype as architecture
from natjax.graph import records
from tests import architectures
from tests.drawing import pictures

BLUE, ORANGE = pictures.BLUE, pictures.ORANGE
FIRST, SECOND = pictures.FIRST, pictures.SECOND
boxes, elements, texts = pictures.boxes, pictures.elements, pictures.texts
cell, genotype = architectures.cell, pictures.genotype
check_nothing_overlaps = pictures.check_nothing_overlaps

PAIRS = [
    (original, f"{prefix}_{short}")
    for original, short in [
        *((n, n) for n in ("darts", "enas", "naonet", "r1", "r2", "r3", "r4")),
        *((f"{n}-cell", n) for n in ("vgg", "resblock", "mobilenetv2")),
    ]
    for prefix in ("nat", "natv2")
    if f"{prefix}_{short}" in zoo.genotype_names()
]


@pytest.mark.parametrize("name", zoo.genotype_names())
def test_zoo_pictures_are_complete_and_legible(name):
  svg = drawing.draw(zoo.get(name))
  cells = zoo.get(name)
  assert collections.Counter(texts(svg, "operation")) == collections.Counter(
      edge.operation for c in cells for edge in c.edges
  )
  assert collections.Counter(texts(svg, "node")) == collections.Counter(
      label for c in cells
      for label in ["0: ck-2", "1: ck-1", "ck", *map(
          str, range(2, 2 + c.num_nodes))]
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


def test_nodes_have_the_numbers_of_changes():
  """Also node 3, which takes node 0 twice."""
  svg = drawing.draw(FIRST)
  texts_of, nodes = texts(svg, "node"), boxes(svg, "node")
  box = dict(zip(texts_of[:5], nodes, strict=False))
  at = lambda xy, name: pictures.inside(xy, box[name], -9)
  curves = elements(svg, "path", "edge")[:4]
  ends = [[*pictures.sampled(curve)] for curve in curves]
  found = [tuple(next(n for n in box if at(points[i], n)) for i in (0, -1))
           for points in ends]
  assert found == [(("0: ck-2", "1: ck-1")[e.source], str(e.target))
                   for e in FIRST.normal.edges]
  change, *_ = drawing.changes(FIRST, SECOND)
  assert (change.source, change.target) == (0, 2)


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
  first, second = (list(pictures.sampled(e))
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


def check_complete(svg, cells):
  """Every operation, every node and every output of some cells is drawn."""
  assert collections.Counter(texts(svg, "operation")) == collections.Counter(
      edge.operation for c in cells for edge in c.edges)
  assert collections.Counter(texts(svg, "node")) == collections.Counter(
      label for c in cells
      for label in ["0: ck-2", "1: ck-1", "ck", *map(
          str, range(2, 2 + c.num_nodes))])
  assert len(elements(svg, "path", "concat")) == sum(
      len(c.concat) for c in cells)
  check_nothing_overlaps(svg)


def test_unequal_cells_are_drawn():
  svg = drawing.draw(architectures.UNEQUAL)
  check_complete(svg, architectures.UNEQUAL)
  assert texts(svg, "heading") == ["normal cell", "reduction cell"]


def test_networks_of_blocks_are_drawn_kind_by_kind():
  """A padded window is an operation as any other."""
  svg = drawing.draw(architectures.PADDED)
  check_complete(svg, [block.cell for block in architectures.PADDED.blocks[:2]])
  assert texts(svg, "title") == ["padded"]
  assert texts(svg, "heading") == [
      "block 0: 8 channels, stride 1", "blocks 1-2: 8 channels, stride 2"]


def test_blocks_of_unlike_widths_say_from_where_to_where():
  svg = drawing.draw(zoo.get("resnet20"), title="mine")
  assert texts(svg, "title") == ["mine"]
  assert texts(svg, "heading") == [
      "blocks 0-2, 4-5, 7-8: 16 to 64 channels, stride 1",
      "blocks 3, 6: 32 to 64 channels, stride 2"]


@pytest.mark.parametrize("kind", ["cifar", "imagenet"])
def test_cells_that_are_not_shared_are_drawn(kind):
  network = architecture.unshared(
      architectures.UNEQUAL, records.Skeleton(kind, 4, 3, 10, 64))
  svg = drawing.draw(network)
  # No two of three are alike: after a reduction cell an input is reduced.
  assert [text.partition(":")[0] for text in texts(svg, "heading")] == [
      "block 0", "block 1", "block 2"]
  check_complete(svg, [block.cell for block in network.blocks])


def test_unequal_cells_are_compared():
  normal, reduce = architectures.UNEQUAL
  other = architecture.Genotype(normal._replace(edges=(
      *normal.edges[:2], normal.edges[2]._replace(operation="null"),
      *normal.edges[3:])), reduce)
  svg = drawing.draw(architectures.UNEQUAL, other)
  assert texts(svg, "legend") == [
      "unchanged (8)", "replaced by skip (0)", "replaced by null (1)",
      "replaced by another operation (0)"]
  check_complete(svg, [normal, reduce, *other])
