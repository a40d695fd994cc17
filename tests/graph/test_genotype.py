"""Tests of `natjax.graph.genotype`."""

import json

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from natjax import errors
from natjax import operations
from natjax import spaces
from natjax import zoo
from natjax.graph import codec
from natjax.graph import genotype as architecture

Cell, Edge = architecture.Cell, architecture.Edge

EDGES = [["conv_3x3", 0, 2], ["skip_connect", 1, 2],
         ["max_pool_3x3", 0, 3], ["null", 2, 3]]

# DARTS_V2 as Liu et al. published it.
DARTS_V2 = (
    "DARTS_V2 = Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1),"
    " ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 1),"
    " ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)],"
    " normal_concat=[2, 3, 4, 5], reduce=[('max_pool_3x3', 0),"
    " ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1),"
    " ('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2),"
    " ('max_pool_3x3', 1)], reduce_concat=[2, 3, 4, 5])"
)


def data(edges=None, concat=(2, 3), **changes):
  """The JSON form of a genotype with this normal cell."""
  return {
      "normal": EDGES if edges is None else edges,
      "normal_concat": list(concat),
      "reduce": EDGES, "reduce_concat": [3], **changes,
  }


def refusal(function, *args, **kwargs):
  """The message, one line, with which `function` refuses its arguments."""
  with pytest.raises(errors.InputError) as e:
    function(*args, **kwargs)
  assert "\n" not in str(e.value)
  return str(e.value)


@st.composite
def cells(draw, num_nodes, names):
  edges = [
      Edge(draw(st.sampled_from(names)), draw(st.integers(0, node - 1)), node)
      for node in range(2, num_nodes + 2) for _ in range(2)
  ]
  order = draw(st.permutations(range(2, num_nodes + 2)))
  return Cell(tuple(edges), tuple(order[:draw(st.integers(1, num_nodes))]))


@st.composite
def genotypes(draw, names=None, *, equal=False):
  names = names or operations.names()
  first = draw(st.integers(1, 6))
  second = first if equal else draw(st.integers(1, 6))
  return architecture.Genotype(draw(cells(first, names)),
                               draw(cells(second, names)))


# Text forms.


@pytest.mark.parametrize("name", zoo.genotype_names())
def test_text_forms_keep_published_genotypes(name):
  genotype = zoo.get(name)
  for write, read in ((architecture.to_json, architecture.from_json),
                      (architecture.to_darts, architecture.from_darts),
                      (architecture.to_dict, architecture.from_dict)):
    assert read(write(genotype)) == genotype


@hypothesis.settings(deadline=None)
@hypothesis.given(genotypes())
def test_text_forms_keep_every_genotype(genotype):
  for write, read in ((architecture.to_json, architecture.from_json),
                      (architecture.to_darts, architecture.from_darts)):
    assert read(write(genotype)) == genotype


@pytest.mark.parametrize("write", [architecture.to_json, architecture.to_darts])
def test_files(tmp_path, write):
  path = tmp_path / "cell.txt"
  path.write_text(write(zoo.get("enas")), "utf-8")
  assert codec.read(path) == zoo.get("enas")
  assert codec.read(str(path)) == zoo.get("enas")


def test_json_literal():
  genotype = architecture.from_json(json.dumps(data(concat=(3, 2))))
  assert genotype.normal == Cell(
      (Edge("conv_3x3", 0, 2), Edge("skip_connect", 1, 2),
       Edge("max_pool_3x3", 0, 3), Edge("null", 2, 3)), (3, 2))
  assert genotype.reduce.concat == (3,)
  assert genotype.num_nodes == genotype.normal.num_nodes == 2
  assert genotype.normal.incoming(3) == (
      ("max_pool_3x3", 0, 3), ("null", 2, 3))
  assert json.loads(architecture.to_json(genotype)) == data(concat=(3, 2))


def test_darts_text_literal():
  darts = zoo.get("darts")
  assert architecture.from_darts(DARTS_V2) == darts
  plain = DARTS_V2.split(" = ")[1]
  assert architecture.from_darts(f"\n  {plain}\n") == darts
  ranges = plain.replace("[2, 3, 4, 5]", "range(2, 6)")
  assert ranges != plain and architecture.from_darts(ranges) == darts
  # The form of NAT's own files: (operation, from, to).
  assert architecture.from_darts(
      "X = Genotype(normal=[('none', 1, 2), ('conv_1x1', 0, 2)],"
      " normal_concat=(2,), reduce=[('null', 0, 2), ('null', 0, 2)],"
      " reduce_concat=[2])"
  ).normal == Cell((Edge("null", 1, 2), Edge("conv_1x1", 0, 2)), (2,))


@pytest.mark.parametrize("name, canonical", [
    ("none", "null"), ("None", "null"), ("Conv_3x3", "conv_3x3"),
])
def test_operation_names_become_canonical(name, canonical):
  edges = [[name, 0, 2], ["conv_1x1", 1, 2]]
  genotype = architecture.from_dict(data(edges, (2,)))
  assert genotype.normal.edges[0] == (canonical, 0, 2)
  text = (f"Genotype(normal=[('{name}', 0), ('conv_1x1', 1)],"
          f" normal_concat=[2], reduce=[('{name}', 0), ('{name}', 1)],"
          " reduce_concat=[2])")
  assert architecture.from_darts(text).reduce.edges[1] == (canonical, 1, 2)


# Refusals.


def test_unknown_operation_lists_the_known_ones():
  message = refusal(architecture.from_dict,
                    data([["conv_9x9", 0, 2], ["null", 1, 2]], (2,)))
  assert "'conv_9x9'" in message and "normal cell" in message
  assert all(name in message for name in operations.names())


@pytest.mark.parametrize("edges, concat, parts", [
    ([["null", 2, 2], ["null", 1, 2]], (2,),
     ("['null', 2, 2]", "earlier node")),
    ([["null", 3, 2], ["null", 1, 2], *EDGES[2:]], (2,),
     ("['null', 3, 2]", "earlier node")),
    ([["null", -1, 2], ["null", 1, 2]], (2,), ("['null', -1, 2]",)),
    ([["null", 0, 1], ["null", 0, 1]], (2,), ("['null', 0, 1]", "2 or more")),
    ([], (2,), ("no edges", "[operation, from, to]")),
    (EDGES[:3], (2,), ("node 3 has 1 input(s)", "exactly 2", "`null`")),
    ([*EDGES, ["null", 0, 3]], (2,), ("node 3 has 3 input(s)", "exactly 2")),
    ([*EDGES[:2], ["null", 0, 4], ["null", 0, 4]], (2,),
     ("node 3 has 0 input(s)", "exactly 2")),
    (EDGES[2:] + EDGES[:2], (2,), ("order", "[3, 3, 2, 2]")),
    (EDGES, (), ("concat is empty", "[2, 3]")),
    (EDGES, (2, 4), ("concat [2, 4]", "[2, 3]")),
    (EDGES, (1, 2), ("concat [1, 2]", "[2, 3]")),
    (EDGES, (2, 2), ("concat [2, 2]", "different")),
])
def test_ill_formed_cells(edges, concat, parts):
  message = refusal(architecture.from_dict, data(edges, concat), where="f.json")
  assert message.startswith("f.json, normal cell: ")
  assert all(part in message for part in parts), message


def test_ill_formed_reduce_cell_is_named():
  message = refusal(architecture.from_dict, data(reduce_concat=[7]))
  assert "reduce cell" in message and "concat [7]" in message


@pytest.mark.parametrize("value", [
    [], None, 3, "darts", {}, {"normal": EDGES}, data(extra=1),
    data(normal="conv_3x3"), data([["conv_3x3", 0]]),
    data([["conv_3x3", 0, "2"]]), data([["conv_3x3", 0.0, 2]]),
    data([["conv_3x3", True, 2]]), data([[3, 0, 2]]), data([None]),
    data(normal_concat=2), data(normal_concat=["2"]), data(normal_concat=[2.0]),
    data(normal_concat=[True]),
])
def test_wrong_forms(value):
  assert "f.json" in refusal(architecture.from_dict, value, where="f.json")
  refusal(architecture.from_json, json.dumps(value))


@pytest.mark.parametrize("text", [
    "", "{", "Genotype", "{'normal': []}", '{"normal": [}', "\x00",
])
def test_not_json(text):
  assert "not JSON" in refusal(architecture.from_json, text)


@pytest.mark.parametrize("text", [
    "", "Genotype", "Genotype(", "Genotype()", "x = 3", "Genotype(1, 2)",
    "Genotype(normal=3, normal_concat=[2], reduce=3, reduce_concat=[2])",
    "Genotype(**{'normal': []})", "Genotype\x00()", "= = =",
    DARTS_V2.replace("reduce_concat=[2, 3, 4, 5]", "reduce_concat=5"),
    DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3',)"),
    DARTS_V2.replace("('dil_conv_3x3', 2)", "(dil_conv_3x3, 2)"),
    DARTS_V2.replace("[2, 3, 4, 5]", "range(2.5)"),
    DARTS_V2.replace("'dil_conv_3x3'", "'dil_conv_9x9'"),
    DARTS_V2.replace("('dil_conv_3x3', 2)", "('dil_conv_3x3', 7)"),
])
def test_not_darts_text(text):
  assert "f.txt" in refusal(architecture.from_darts, text, where="f.txt")


@pytest.mark.parametrize("place", [
    "{}", "x = {}", "Genotype({})", "Genotype(normal={})",
    "Genotype(normal=[({}, 0), ('null', 1)], normal_concat=[2],"
    " reduce=[('null', 0), ('null', 1)], reduce_concat=[2])",
    "Genotype(normal=[('null', 0), ('null', 1)], normal_concat={},"
    " reduce=[('null', 0), ('null', 1)], reduce_concat=[2])",
    "Genotype(normal=[('null', 0), ('null', 1)], normal_concat=range({}),"
    " reduce=[('null', 0), ('null', 1)], reduce_concat=[2])",
])
def test_darts_text_is_never_evaluated(tmp_path, place):
  target = tmp_path / "touched"
  text = place.format(f"__import__('os').system('touch {target}')")
  refusal(architecture.from_darts, text)
  path = tmp_path / "genotype.txt"
  path.write_text(text, "utf-8")
  refusal(codec.read, path)
  assert not target.exists()


@pytest.mark.parametrize("read, text", [
    # An edge of four parts, the last of which would be ignored.
    (architecture.from_darts, DARTS_V2.replace(
        "('dil_conv_3x3', 2)", "('dil_conv_3x3', 2, 5, 9)")),
    # Numbers and nesting that exhaust memory or the stack.
    (architecture.from_darts, DARTS_V2.replace(
        "[2, 3, 4, 5]", f"range(2, {10**18})")),
    (architecture.from_darts, f"Genotype(normal={'-' * 20000}1)"),
    (architecture.from_json, "[" * 200000),
    # A name that would break the message into two lines.
    (architecture.from_darts, DARTS_V2.replace("'dil_conv", r"'dil\nconv")),
], ids=["parts", "range", "signs", "nesting", "line"])
def test_hostile_text(read, text):
  refusal(read, text)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text() | st.text("Genotype()[]{}'\",=0123 *.x"))
def test_any_text_is_read_or_refused(text):
  for read in (architecture.from_darts, architecture.from_json):
    refusal(read, text)
    refusal(read, f"Genotype(normal={text}")


@hypothesis.settings(deadline=None)
@hypothesis.given(st.data(), genotypes(("conv_3x3", "null")))
def test_any_change_of_json_is_read_or_refused(data, genotype):
  """A value put anywhere into the JSON form gives a genotype or a refusal."""
  tree = architecture.to_dict(genotype)
  value = data.draw(st.none() | st.booleans() | st.integers(-3, 9) | st.floats()
                    | st.text(max_size=3) | st.lists(st.integers(-1, 5)))
  place, key = tree, data.draw(st.sampled_from(sorted(tree)))
  while isinstance(place[key], list) and data.draw(st.booleans()):
    place, key = place[key], data.draw(st.integers(0, len(place[key]) - 1))
  place[key] = value
  try:
    read = architecture.from_json(json.dumps(tree))
  except errors.InputError:
    return
  assert architecture.to_dict(read) == tree


def test_unreadable_files(tmp_path):
  missing = tmp_path / "missing.json"
  assert str(missing) in refusal(codec.read, missing)
  assert str(tmp_path) in refusal(codec.read, tmp_path)
  binary = tmp_path / "binary.json"
  binary.write_bytes(b"\x80\x02}q\x00.\xff")
  message = refusal(codec.read, binary)
  assert str(binary) in message and "not a text file" in message
  empty = tmp_path / "empty.json"
  empty.write_text("", "utf-8")
  assert str(empty) in refusal(codec.read, empty)


def test_any_number_of_inputs():
  cell = Cell((Edge("null", 0, 2), Edge("null", 0, 3), Edge("null", 1, 3),
               Edge("null", 2, 3)), (3,))
  assert architecture.check_cell(cell) is cell
  refusal(architecture.check_cell, cell, inputs_per_node=2)
  gap = Cell((Edge("null", 0, 3),), (3,))
  assert "node 2 has 0" in refusal(architecture.check_cell, gap)


# Graphs.


@pytest.mark.parametrize("source, reduction, stride", [
    (0, True, 2), (1, True, 2), (2, True, 1), (0, False, 1), (2, False, 1),
])
def test_stride(source, reduction, stride):
  edge = Edge("conv_3x3", source, 3)
  assert Cell((edge,), (3,)).stride(edge, reduction) == stride


@pytest.mark.parametrize("name, cell, alive", [
    # Spec: NAT_R2's normal node 3 has two nulls, NAT_R3's node 4 too, which
    # also stops node 5.
    ("nat_r2", 0, {0, 1, 2, 4, 5}), ("nat_r3", 0, {0, 1, 2, 3}),
    ("darts", 0, {0, 1, 2, 3, 4, 5}), ("vgg-cell", 0, {0, 1, 2, 3, 4, 5}),
])
def test_live_nodes_of_published_genotypes(name, cell, alive):
  assert architecture.live_nodes(zoo.get(name)[cell]) == alive


@hypothesis.settings(deadline=None)
@hypothesis.given(cells(5, ("null", "conv_3x3", "null")))
def test_live_nodes_are_those_with_a_path_from_an_input(cell):
  def reached(node):
    return node < 2 or any(
        reached(e.source) for e in cell.incoming(node) if e.operation != "null")

  assert architecture.live_nodes(cell) == {n for n in range(7) if reached(n)}


# Arrays.


def test_cell_arrays_literal():
  """The example of `CellArrays`: node 3 = skip(0) + conv(2)."""
  cell = Cell((Edge("null", 1, 2), Edge("conv_3x3", 0, 2),
               Edge("skip_connect", 0, 3), Edge("conv_3x3", 2, 3)), (3,))
  arrays = architecture.cell_arrays(cell, ("skip_connect", "conv_3x3", "null"))
  np.testing.assert_array_equal(arrays.source, [[1, 0], [0, 2]])
  np.testing.assert_array_equal(arrays.operation, [[2, 1], [0, 1]])
  np.testing.assert_array_equal(arrays.concat, [False, True])
  assert arrays.source.dtype == arrays.operation.dtype == np.int32
  assert arrays.concat.dtype == np.bool_


@hypothesis.settings(deadline=None)
@hypothesis.given(genotypes(equal=True))
def test_arrays_are_the_genotype(genotype):
  """The arrays say what the edges say, and turn back into them."""
  names = operations.names()
  arrays = architecture.genotype_arrays(genotype, names)
  n = genotype.num_nodes
  assert arrays.source.shape == arrays.operation.shape == (2, n, 2)
  assert arrays.concat.shape == (2, n)
  for c, cell in enumerate(genotype):
    for i, edge in enumerate(cell.edges):
      assert edge == (names[arrays.operation[c, i // 2, i % 2]],
                      arrays.source[c, i // 2, i % 2], i // 2 + 2)
  back = architecture.genotype_from_arrays(arrays, names)
  # A mask has no order: nodes are concatenated in theirs.
  assert back == architecture.Genotype(
      *(c._replace(concat=tuple(sorted(c.concat))) for c in genotype))
  assert all(isinstance(e.source, int) for c in back for e in c.edges)


def test_stacked_arrays():
  names = operations.names()
  arrays = [architecture.genotype_arrays(zoo.get(n), names)
            for n in ("darts", "r1", "vgg-cell")]
  stacked = architecture.stack(arrays)
  assert stacked.source.shape == stacked.operation.shape == (3, 2, 4, 2)
  assert stacked.concat.shape == (3, 2, 4)
  np.testing.assert_array_equal(stacked.operation[1], arrays[1].operation)


def test_array_refusals():
  candidates = spaces.SPACES["nat"].candidates
  message = refusal(architecture.genotype_arrays, zoo.get("naonet"), candidates)
  assert "'avg_pool_5x5'" in message and ", ".join(candidates) in message
  normal, _ = zoo.get("darts")
  reduce = Cell((Edge("null", 0, 2), Edge("null", 1, 2)), (2,))
  message = refusal(architecture.genotype_arrays,
                    architecture.Genotype(normal, reduce), candidates)
  assert "normal cell has 4" in message and "reduce cell 1" in message
  one_input = Cell((Edge("null", 0, 2),), (2,))
  assert "exactly 2" in refusal(
      architecture.cell_arrays, one_input, candidates)
