"""Tests of `natjax.graph.genotype`."""

import json

import hypothesis
from hypothesis import strategies as st
import pytest

from natjax import errors, operations, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec, parsing, records
from natjax.graph import genotype as architecture
from natjax.graph import skeleton as skeleton_lib
from tests import architectures

Cell, Edge = architecture.Cell, architecture.Edge
Skeleton = records.Skeleton

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


def from_json(text):
  return codec.from_dict(parsing.parse_json(text, where="genotype"),
                         where="genotype")


# Text forms.


@pytest.mark.parametrize("name", zoo.genotype_names())
def test_text_forms_keep_published_genotypes(name):
  genotype = zoo.get(name)
  for write, read in ((codec.to_json, from_json),
                      (architecture.to_darts, architecture.from_darts),
                      (architecture.to_dict, architecture.from_dict)):
    assert read(write(genotype)) == genotype


@hypothesis.settings(deadline=None)
@hypothesis.given(architectures.genotypes(inputs=(1, 4)))
def test_text_forms_keep_every_genotype(genotype):
  """With any number of inputs per node, and unequal numbers of nodes."""
  for write, read in ((codec.to_json, from_json),
                      (architecture.to_darts, architecture.from_darts)):
    assert read(write(genotype)) == genotype


@pytest.mark.parametrize("write", [codec.to_json, architecture.to_darts])
def test_files(tmp_path, write):
  path = tmp_path / "cell.txt"
  path.write_text(write(zoo.get("enas")), "utf-8")
  assert codec.read(path) == zoo.get("enas")
  assert codec.read(str(path)) == zoo.get("enas")


def test_json_literal():
  genotype = from_json(json.dumps(data(concat=(3, 2))))
  assert genotype.normal == Cell(
      (Edge("conv_3x3", 0, 2), Edge("skip_connect", 1, 2),
       Edge("max_pool_3x3", 0, 3), Edge("null", 2, 3)), (3, 2))
  assert genotype.reduce.concat == (3,)
  assert genotype.num_nodes == genotype.normal.num_nodes == 2
  assert genotype.normal.incoming(3) == (
      ("max_pool_3x3", 0, 3), ("null", 2, 3))
  assert json.loads(codec.to_json(genotype)) == data(concat=(3, 2))


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
    ([*EDGES[:2], ["null", 0, 4], ["null", 0, 4]], (2,),
     ("node 3 has no inputs", "at least one", "`null`")),
    ([["null", 0, 3]], (3,), ("node 2 has no inputs",)),
    # A cycle of two nodes.
    ([["conv_3x3", 3, 2], ["conv_3x3", 2, 3]], (3,),
     ("['conv_3x3', 3, 2]", "lest there be a cycle", "renumber")),
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
  refusal(from_json, json.dumps(value))


@pytest.mark.parametrize("text", [
    "", "{", "Genotype", "{'normal': []}", '{"normal": [}', "\x00",
])
def test_not_json(text):
  assert "not JSON" in refusal(from_json, text)


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
    (from_json, "[" * 200000),
    # A name that would break the message into two lines.
    (architecture.from_darts, DARTS_V2.replace("'dil_conv", r"'dil\nconv")),
], ids=["parts", "range", "signs", "nesting", "line"])
def test_hostile_text(read, text):
  refusal(read, text)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text() | st.text("Genotype()[]{}'\",=0123 *.x"))
def test_any_text_is_read_or_refused(text):
  for read in (architecture.from_darts, from_json):
    refusal(read, text)
    refusal(read, f"Genotype(normal={text}")


@hypothesis.settings(deadline=None)
@hypothesis.given(st.data(), architectures.genotypes(("conv_3x3", "null")))
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
    read = from_json(json.dumps(tree))
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


@pytest.mark.parametrize("edges", [
    EDGES[:3], [*EDGES, ["null", 0, 3]], [EDGES[0], *EDGES[2:]],
    [*EDGES[:2], ["conv_3x3", 0, 3], ["sep_conv_3x3", 0, 3]]])
def test_any_number_of_inputs(edges):
  """One, three, of either node, and two operations on one edge."""
  genotype = architecture.from_dict(data(edges))
  assert [list(edge) for edge in genotype.normal.edges] == edges
  assert architecture.check(genotype) == genotype
  targets = [target for *_, target in edges]
  assert genotype.normal.num_inputs_per_node == max(
      map(targets.count, targets))


def test_the_darts_text_names_targets_where_nodes_have_not_two_inputs():
  assert architecture.to_darts(architectures.UNEQUAL) == (
      "Genotype(normal=[('conv_3x3', 1, 2), ('sep_conv_3x3', 0, 3),"
      " ('skip_connect', 1, 3), ('max_pool_3x3', 2, 3), ('conv_1x1', 3, 4),"
      " ('skip_connect', 3, 4)], normal_concat=[3, 4],"
      # An odd number of pairs would be one that lacks an edge.
      " reduce=[('max_pool_3x3', 0, 2), ('skip_connect', 1, 2),"
      " ('avg_pool_3x3', 1, 3)], reduce_concat=[2, 3])")


# The network that a genotype stands for.

RELU = {"activation": "relu"}
NODE = records.Node


def test_expansion_equals_a_network_written_by_hand():
  """UNEQUAL in three cells of CIFAR's skeleton, one normal and two reducing."""
  skeleton = Skeleton("cifar", 4, 3, 10, 16)

  def reduction(width, first):
    return records.Block(
        (NODE(width, fixed=True),) * 2 + (NODE(width, 2),) * 2,
        (Edge(first, 0, 2), Edge("conv_1x1", 1, 3),
         Edge("max_pool_3x3", 2, 4), Edge("skip_connect", 3, 4),
         Edge("avg_pool_3x3", 3, 5)), (4, 5))

  normal = records.Block(
      (NODE(4, fixed=True),) * 2 + (NODE(4),) * 3,
      (Edge("conv_1x1", 0, 2), Edge("conv_1x1", 1, 3), Edge("conv_3x3", 3, 4),
       Edge("sep_conv_3x3", 2, 5), Edge("skip_connect", 3, 5),
       Edge("max_pool_3x3", 4, 5), Edge("conv_1x1", 5, 6),
       Edge("skip_connect", 5, 6)), (5, 6))
  network = architecture.expand(architectures.UNEQUAL, skeleton)
  assert network == records.BlockNetwork(
      "cells", stem=(records.Layer("conv", 12, 3),),
      # Only what comes before the last reduction cell has larger images.
      blocks=(normal, reduction(8, "conv_1x1"), reduction(16, "skip_connect")),
      head=(records.Layer("global_pool"), records.Layer("linear", norm=False)),
      preactivate=True, norm="batch", norm_epsilon=1e-5, early=-1, prefix=2)
  assert codec.expand(architectures.UNEQUAL, skeleton) == network


def test_expansion_for_imagenet_equals_a_network_written_by_hand():
  """One cell, whose node 0 comes from the stem's second convolution."""
  skeleton = Skeleton("imagenet", 4, 1, 1000, 64)
  network = architecture.expand(architectures.UNEQUAL, skeleton)
  assert network == records.BlockNetwork(
      "cells", stem=(records.Layer("conv", 2, 3, 2, **RELU),
                     records.Layer("conv", 4, 3, 2, **RELU),
                     records.Layer("conv", 4, 3, 2)),
      blocks=(records.Block(
          (NODE(8, fixed=True),) * 2 + (NODE(8, 2),) * 2,
          (Edge("skip_connect", 0, 2), Edge("conv_1x1", 1, 3),
           Edge("max_pool_3x3", 2, 4), Edge("skip_connect", 3, 4),
           Edge("avg_pool_3x3", 3, 5)), (4, 5)),),
      preactivate=True, early=1, prefix=2)


@hypothesis.settings(deadline=None)
@hypothesis.given(
    architectures.genotypes(("conv_3x3", "null", "skip_connect"),
                            inputs=(1, 3)),
    st.sampled_from(skeleton_lib.KINDS), st.integers(1, 12))
def test_expansion_shows_every_cell_behind_two_nodes(genotype, kind, cells):
  skeleton = Skeleton(kind, 4, cells, 10, 64)
  network = architecture.expand(genotype, skeleton)
  assert len(network.blocks) == cells
  for i, block in enumerate(network.blocks):
    cell = genotype[int(i in skeleton.reductions)]
    assert tuple((e.operation, e.source - 2, e.target - 2)
                 for e in block.edges[2:]) == cell.edges
    assert block.outputs == tuple(n + 2 for n in cell.concat)
    assert [node.fixed for node in block.nodes] == (
        [True] * 2 + [False] * cell.num_nodes)
    # What carries a signal in the cell carries one in the block.
    assert {n - 2 for n in architectures.alive(block.cell) if n > 3} == {
        n for n in architectures.alive(cell) if n > 1}
  assert blocks.check(network) == network


def test_expansion_refuses_what_cannot_stand_and_names_the_cell():
  edges = (Edge("conv_3x3", 0, 2), Edge("avg_pool_2x2", 1, 3))
  genotype = architecture.Genotype(Cell(edges, (3,)), Cell(edges, (3,)))
  message = refusal(architecture.expand, genotype, Skeleton())
  assert message.startswith("normal cell, edge ['avg_pool_2x2', 1, 3]: ")
  assert "stride 2 only" in message
  assert "image-size 7" in refusal(
      architecture.expand, zoo.get("darts"), Skeleton(image_size=7))


def test_an_ill_formed_cell_is_refused_in_its_own_numbers():
  darts = zoo.get("darts")
  cell = darts.normal._replace(concat=(2, 9))
  with pytest.raises(errors.InputError, match=r"normal .*concat \[2, 9\] .* of"
                     r" \[2, 3, 4, 5\]"):
    architecture.expand(darts._replace(normal=cell), records.Skeleton())


def test_decisions():
  normal, reduce = architecture.decide(
      architectures.UNEQUAL, Skeleton(cells=8), "cell")
  assert normal == ("normal", (0, 1, 3, 4, 6, 7), architectures.UNEQUAL.normal,
                    (False,) * 6)
  assert reduce == ("reduce", (2, 5), architectures.UNEQUAL.reduce,
                    (False,) * 3)
  # A network of one cell has no normal one.
  normal, reduce = architecture.decide(
      architectures.UNEQUAL, Skeleton(cells=1), "cell")
  assert (normal.members, reduce.members) == ((), (0,))
  for share in ("full", "half"):
    message = refusal(
        architecture.decide, architectures.UNEQUAL, Skeleton(), share)
    assert f"'{share}'" in message and "genotype.unshared" in message


def test_respelling_puts_other_cells_in():
  darts, enas = zoo.get("darts"), zoo.get("enas")
  decisions = architecture.decide(darts, Skeleton(), "cell")
  assert architecture.respell(
      darts, decisions, [enas.normal, darts.reduce]) == (
          architecture.Genotype(enas.normal, darts.reduce))


# Cells that are not shared.


@pytest.mark.parametrize("name", zoo.genotype_names())
@pytest.mark.parametrize("kind", skeleton_lib.KINDS)
def test_unshared_cells_cost_what_shared_cells_cost(name, kind):
  place = Skeleton(kind, 16, 8, image_size=64)
  genotype = zoo.get(name)
  network = architecture.unshared(genotype, place)
  assert cost.network(network, place) == cost.network(genotype, place)
  frame = records.Frame(place.num_classes, place.image_size)
  assert cost.network(network, frame) == cost.network(genotype, place)


@pytest.mark.parametrize("kind", skeleton_lib.KINDS)
def test_unshared_cells_are_blocks_of_their_own(kind, tmp_path):
  place = Skeleton(kind, 4, 8, 10, 64)
  network = architecture.unshared(architectures.UNEQUAL, place)
  assert network.kind == "blocks" and network.prefix == 0
  assert network.early == {"cifar": -1, "imagenet": 1}[kind]
  assert network.blocks == architecture.expand(
      architectures.UNEQUAL, place).blocks
  assert blocks.check(network) == network
  path = tmp_path / "network.json"
  path.write_text(codec.to_json(network), "utf-8")
  assert codec.read(path) == network
  decisions = codec.decide(network, place, "full")
  assert [d.members for d in decisions] == [(i,) for i in range(8)]
  # What brings the inputs to C channels is left alone.
  assert decisions[0].fixed == (True,) * 2 + (False,) * 6
  # Shared where they are alike: after a reduction cell the input is reduced.
  assert [d.members for d in codec.decide(network, place, "cell")] == {
      "cifar": [(0, 1, 4, 7), (2, 5), (3, 6)],
      "imagenet": [(0, 3, 6), (1, 4, 7), (2, 5)]}[kind]


def test_unshared_cells_have_canonical_names():
  cell = architectures.cell(("None", 0, 2), ("Conv_1x1", 1, 2), concat=(2,))
  network = architecture.unshared(
      architecture.Genotype(cell, cell), Skeleton("cifar", 4, 3, 10, 16))
  assert [e.operation for e in network.blocks[0].edges] == [
      "conv_1x1", "conv_1x1", "null", "conv_1x1"]
