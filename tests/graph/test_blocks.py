"""Networks of blocks: checks, and changes that keep the graph."""

import numpy as np
import pytest

from natjax import errors, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec
from natjax.graph import genotype as architecture
from natjax.zoo import handcrafted
from tests import architectures

NETWORK = handcrafted.build("resnet20")

PLAIN = blocks.Block((blocks.Node(8),), (blocks.Edge("conv_3x3", 1, 2),))
STEM = (blocks.Layer("conv", 8, 3),)


@pytest.mark.parametrize("network, message", [
    (blocks.BlockNetwork("n", STEM, PLAIN), "blocks must be a tuple of Block"),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), ()), "end with the classifier"),
    *((blocks.BlockNetwork("n", STEM, (PLAIN._replace(**{part: wrong}),)),
       f"block 0: {part} are .* and must be a tuple of")
      for part, wrong in (("nodes", 8), ("nodes", (8,)), ("edges", None),
                          ("edges", ("conv_3x3",)), ("concat", 2))),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), blocks.CLASSIFIER[:1]),
     "end with the classifier"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(
        nodes=(blocks.Node("8"),)),)), "node 2: width is '8'"),
    (blocks.BlockNetwork("n", (blocks.Layer("conv", 8.0, 3),), (PLAIN,)),
     r"stem layer 0: width is 8\.0"),
    (blocks.BlockNetwork("n", (blocks.Layer("linear", 8),), (PLAIN,)),
     "stem layer 0: linear leaves no image for the blocks"),
    (blocks.BlockNetwork(
        "n", (*STEM, blocks.Layer("depthwise_conv", kernel=2)), (PLAIN,)),
     "stem layer 1: kernel is 2, .* padding same, or an odd kernel"),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), norm_epsilon=float("nan")),
     "norm_epsilon is nan"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(nodes=(
        blocks.Node(12),), edges=(blocks.Edge("group8_conv_1x1", 1, 2),)),)),
     r"block 0, edge .*8 groups"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(
        edges=(blocks.Edge("conv_3x3", 3, 2),)),)), "earlier node"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(
        nodes=(blocks.Node(8, shuffle=-2),)),)),
     "8 channels cannot be shuffled in -2 groups"),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), early=1), "early is 1"),
    (blocks.BlockNetwork("n", (), (PLAIN,), early=0), "early is 0"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(nodes=(
        blocks.Node(8),) * 2),)), "edges must reach up to node 3"),
    (blocks.BlockNetwork("n", STEM, (blocks.Block(
        (blocks.Node(8),) * 2, (blocks.Edge("conv_3x3", 1, 3),)),)),
     "block 0: node 2 has no inputs, so that nothing reaches it"),
    (blocks.BlockNetwork("n", STEM, (blocks.Block(
        (blocks.Node(8),) * 2, (blocks.Edge("conv_3x3", 3, 2),
                                blocks.Edge("conv_3x3", 2, 3))),)),
     "lest there be a cycle"),
    (blocks.BlockNetwork("n", STEM, (blocks.Block(
        (blocks.Node(8), blocks.Node(8, 2)),
        (blocks.Edge("conv_3x3", 1, 2), blocks.Edge("conv_3x3", 2, 3)),
        (2, 3)),)), r"strides \[1, 2\]"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(
        edges=(blocks.Edge("max_pool_2x2_padded", 1, 2),)),)),
     "stride 2 only"),
    *((blocks.BlockNetwork("n", (*STEM, layer), (PLAIN,)),
       f"layer 1: {name} is .* and does nothing in a layer of kind {layer.kind}"
       ) for name, layer in (
           ("width", blocks.Layer("max_pool", 9, 3)),
           ("width", blocks.Layer("depthwise_conv", 9, 3)),
           ("rate", blocks.Layer("conv", 9, 3, rate=0.5)),
           ("rate", blocks.Layer("avg_pool", kernel=3, rate=0.5)),
           ("norm", blocks.Layer("norm", norm=False)),
           ("kernel", blocks.Layer("norm", kernel=3)),
           ("stride", blocks.Layer("dropout", stride=2)),
           ("padding", blocks.Layer("norm", padding="same")))),
    *((blocks.BlockNetwork("n", STEM, (PLAIN,), (
        layer, *blocks.CLASSIFIER[-1:])),
       f"head layer 0: {name} is .* and does nothing in a layer of kind"
       ) for name, layer in (
           ("stride", blocks.Layer("global_pool", stride=2)),
           ("kernel", blocks.Layer("linear", 9, kernel=3)),
           ("width", blocks.Layer("flatten", 9)),
           ("width", blocks.Layer("global_depthwise", 9)))),
])
def test_mistakes_in_python_are_refused_in_one_line(network, message):
  with pytest.raises(errors.InputError, match=message) as e:
    blocks.check(network)
  assert "\n" not in str(e.value)


def test_padding_gives_every_node_two_inputs_and_costs_nothing():
  for name in handcrafted.BUILDERS:
    network = handcrafted.build(name)
    padded = blocks.pad(network)
    frame = blocks.Frame()
    assert cost.network(padded, frame) == cost.network(network, frame)
    for block in padded.blocks:
      for n, node in enumerate(block.nodes, 2):
        assert node.fixed or len(block.cell.incoming(n)) == 2
    assert blocks.pad(padded) == padded


def test_a_pad_comes_from_a_node_of_the_same_shape():
  block = blocks.pad(NETWORK).blocks
  assert block[0].edges[1] == architecture.Edge("null", 1, 2)
  assert block[3].edges[1] == architecture.Edge("null", 0, 2)


def test_scaling_keeps_multiples_of_eight():
  half = blocks.scale(handcrafted.build("mobilenetv2"), 0.5)
  widths = {n.width for b in half.blocks for n in b.nodes}
  assert all(w % 8 == 0 for w in widths)
  assert blocks.scale(NETWORK, 1.0) is NETWORK
  assert blocks.scale(NETWORK, 0.01).blocks[0].nodes[0].width == 8
  assert blocks.scale(NETWORK, np.float32(1.0)) is NETWORK


@pytest.mark.parametrize("factor", [
    0, -1, float("nan"), float("inf"), "0.5", None, True])
def test_no_other_factor_scales(factor):
  with pytest.raises(errors.InputError, match="a finite number above 0") as e:
    blocks.scale(NETWORK, factor)
  assert e.value.field == "factor"


@pytest.mark.parametrize("factor", [1e6, 1e300])
def test_no_factor_makes_channels_without_end(factor):
  with pytest.raises(errors.InputError, match="numbers are at most 1000000"):
    blocks.scale(NETWORK, factor)


@pytest.mark.parametrize("wrong", [
    {"image_size": 0}, {"image_size": -8}, {"num_classes": -1},
    {"embedding": -4}])
def test_a_place_that_no_network_can_have(wrong):
  with pytest.raises(errors.InputError, match="must be at least") as e:
    cost.network(NETWORK, blocks.Frame(**wrong))
  assert e.value.field in wrong


def test_the_epsilon_outlives_padding_scaling_and_files():
  network = blocks.scale(blocks.pad(zoo.get("proxyless-cpu")), 0.5)
  assert network.norm_epsilon == 1e-3
  data = codec.to_dict(network)
  assert data["skeleton"]["norm_epsilon"] == 1e-3
  assert codec.from_dict(data).norm_epsilon == 1e-3
  # Files of other networks are as they were before there was an epsilon.
  assert "norm_epsilon" not in codec.to_dict(NETWORK)["skeleton"]


def test_check_makes_names_canonical_and_keeps_the_rest():
  network = blocks.BlockNetwork("n", STEM, (PLAIN._replace(
      edges=(blocks.Edge("None", 0, 2), blocks.Edge("Conv_3x3", 1, 2))),))
  checked = blocks.check(network)
  assert checked.blocks[0].edges == (("null", 0, 2), ("conv_3x3", 1, 2))
  assert checked._replace(blocks=network.blocks) == network
  assert blocks.check(checked) == checked


def test_any_number_of_inputs():
  cell = architecture.Cell((
      blocks.Edge("null", 0, 2), blocks.Edge("null", 0, 3),
      blocks.Edge("null", 1, 3), blocks.Edge("null", 2, 3)), (3,))
  assert blocks.check_cell(cell) == cell
  assert (cell.num_nodes, cell.num_inputs_per_node) == (2, 3)
  gap = architecture.Cell((blocks.Edge("null", 0, 3),), (3,))
  with pytest.raises(errors.InputError, match="here: node 2 has no inputs"):
    blocks.check_cell(gap, where="here")


def test_padding_leaves_what_has_a_form_of_its_own():
  """Fixed nodes, and networks with a node of three inputs."""
  padded = blocks.pad(architectures.PADDED)
  assert padded == architectures.PADDED  # Else a null from node 0.
  three = PLAIN._replace(edges=(blocks.Edge("conv_3x3", 1, 2),) * 3)
  network = blocks.BlockNetwork("n", STEM, (PLAIN, three))
  assert blocks.pad(network) is network
  assert blocks.pad(network, inputs=3).blocks[0].edges == (
      ("conv_3x3", 1, 2), ("null", 1, 2), ("null", 1, 2))


@pytest.mark.parametrize("members, text", [
    ((3,), "block 3"), ((0, 1, 2, 4), "blocks 0-2, 4"), ((1, 3), "blocks 1, 3"),
    ((0, 1), "blocks 0-1")])
def test_numbers_in_words(members, text):
  assert blocks.name(members) == text


def test_decisions_of_resnet20():
  decisions = codec.decide(NETWORK, blocks.Frame(), "cell")
  assert [d.members for d in decisions] == [(0, 1, 2, 4, 5, 7, 8), (3, 6)]
  assert [d.name for d in decisions] == ["blocks 0-2, 4-5, 7-8", "blocks 3, 6"]
  assert decisions[1].cell == NETWORK.blocks[3].cell
  assert decisions[0].fixed == (False,) * 3
  decisions = codec.decide(NETWORK, blocks.Frame(), "full")
  assert [d.members for d in decisions] == [(i,) for i in range(9)]
  with pytest.raises(errors.InputError, match="cell, full") as e:
    codec.decide(NETWORK, blocks.Frame(), "half")
  assert e.value.field == "share" and "\n" not in str(e.value)


def test_fixed_nodes_fix_their_edges():
  (first, second) = codec.decide(architectures.PADDED, blocks.Frame())
  assert (first.members, first.fixed) == ((0,), (False, False))
  assert (second.members, second.fixed) == ((1, 2), (True, False, False))


def test_respelling_puts_edges_into_all_blocks_of_a_decision():
  decisions = codec.decide(NETWORK, blocks.Frame(), "cell")
  cells = [decisions[0].cell, decisions[1].cell._replace(edges=tuple(
      e._replace(operation="null") for e in decisions[1].cell.edges))]
  network = codec.respell(NETWORK, decisions, cells)
  for i, (old, new) in enumerate(zip(
      NETWORK.blocks, network.blocks, strict=True)):
    assert new.nodes == old.nodes and new.concat == old.concat
    assert ({e.operation for e in new.edges} == {"null"}) == (i in (3, 6))
    assert i in (3, 6) or new == old
