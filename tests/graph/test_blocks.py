"""Networks of blocks as records and as files."""

import copy
import json

import pytest

from natjax import errors
from natjax import zoo
from natjax.costs import exact as cost
from natjax.graph import blocks
from natjax.graph import codec
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from natjax.zoo import handcrafted

NETWORK = handcrafted.build("resnet20")


@pytest.mark.parametrize("name", handcrafted.BUILDERS)
def test_files_keep_networks(name, tmp_path):
  for kind in handcrafted.skeletons(name):
    network = handcrafted.build(name, kind)
    path = tmp_path / "network.json"
    path.write_text(codec.to_json(network))
    assert codec.read(path) == network
    padded = blocks.pad(network)
    assert codec.from_dict(json.loads(codec.to_json(padded))) == padded


def test_a_short_file(tmp_path):
  path = tmp_path / "mine.json"
  path.write_text("""{"format": 1, "kind": "network", "name": "mine",
    "skeleton": {"stem": [{"kind": "conv", "width": 8, "kernel": 3}],
                 "head": [{"kind": "global_pool"},
                          {"kind": "linear", "norm": false}]},
    "blocks": [{"nodes": [{"width": 8, "activation": "relu"}],
                "edges": [["conv_3x3", 1, 2], ["none", 0, 2]], "repeat": 2},
               {"nodes": [{"width": 16, "stride": 2}],
                "edges": [["conv_3x3", 1, 2]]}]}""")
  network = codec.read(path)
  assert len(network.blocks) == 3
  assert network.norm_epsilon == 1e-5
  assert network.blocks[0].edges[1].operation == "null"
  # 216 + 16; twice 576 + 16; 1152 + 32; 170.
  assert cost.network(network, blocks.Frame()).params == 2770


def damaged(**changes):
  data = copy.deepcopy(codec.to_dict(NETWORK))
  for path, value in changes.items():
    at, keys = data, path.split("__")
    for key in keys[:-1]:
      at = at[int(key) if key.isdigit() else key]
    last = int(keys[-1]) if keys[-1].isdigit() else keys[-1]
    if value is None:
      del at[last]
    else:
      at[last] = value
  return data


@pytest.mark.parametrize("changes, message", [
    ({"format": 2}, "format 2"), ({"kind": "cells"}, "kind 'cells'"),
    ({"blocks": []}, "no blocks"), ({"skeleton": None}, "skeleton"),
    ({"extra": 1}, "extra"), ({"blocks": 3}, "a list is needed"),
    ({"blocks__0__repeat": 0}, "repeat is 0"),
    ({"blocks__0__repeat": True}, "repeat is True"),
    ({"blocks__0__edges__0": ["conv_3x3", 1]}, "from, to"),
    ({"blocks__0__edges__0": ["conv_9x9", 1, 2]}, "conv_9x9"),
    ({"blocks__0__edges__0": ["conv_3x3", 2, 2]}, "earlier node"),
    ({"blocks__0__nodes__0__width": "16"}, "'width' is '16'"),
    ({"blocks__0__nodes__0__width": 0}, "width 0"),
    ({"blocks__0__nodes__0__activation": "gelu"}, "relu6"),
    ({"blocks__0__nodes__0__colour": 1}, "colour"),
    ({"blocks__0__nodes": []}, "at least one"),
    ({"blocks__0__concat": [9]}, "concat"),
    ({"blocks__0__concat": ["2"]}, "node numbers"),
    ({"blocks__0__nodes__0__shuffle": 3}, "shuffled"),
    ({"skeleton__stem__0__kind": "lstm"}, "global_pool"),
    ({"skeleton__stem__0__kernel": 0}, "at least 1"),
    ({"skeleton__norm": "layer"}, "batch"),
    ({"skeleton__norm_epsilon": 0.0}, "between 0 and 1"),
    ({"skeleton__norm_epsilon": 1}, "between 0 and 1"),
    ({"skeleton__norm_epsilon": "small"}, "norm_epsilon is 'small'"),
    ({"skeleton__preactivate": 1}, "true or false"),
    # The first stride is 2, so that the block's inner edge would go uphill.
    ({"blocks__1__nodes__1__stride": 1}, "smaller"),
])
def test_damaged_networks_are_refused_in_one_line(changes, message):
  with pytest.raises(errors.InputError, match=message) as e:
    codec.from_dict(damaged(**changes), where="file")
  assert "\n" not in str(e.value)
  assert "file" in str(e.value)


PLAIN = blocks.Block((blocks.Node(8),), (blocks.Edge("conv_3x3", 1, 2),))
STEM = (blocks.Layer("conv", 8, 3),)


@pytest.mark.parametrize("network, message", [
    (blocks.BlockNetwork("n", STEM, PLAIN), "blocks must be a tuple of Block"),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), ()), "end with the classifier"),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), blocks.CLASSIFIER[:1]),
     "end with the classifier"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(
        nodes=(blocks.Node("8"),)),)), "node 2: width is '8'"),
    (blocks.BlockNetwork("n", (blocks.Layer("conv", 8.0, 3),), (PLAIN,)),
     r"stem layer 0: width is 8\.0"),
    (blocks.BlockNetwork("n", STEM, (PLAIN,), norm_epsilon=float("nan")),
     "norm_epsilon is nan"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(nodes=(
        blocks.Node(12),), edges=(blocks.Edge("group8_conv_1x1", 1, 2),)),)),
     r"block 0: edge .*8 groups"),
    (blocks.BlockNetwork("n", STEM, (PLAIN._replace(
        edges=(blocks.Edge("conv_3x3", 3, 2),)),)), "earlier node"),
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


def test_the_epsilon_outlives_padding_scaling_and_files():
  network = blocks.scale(blocks.pad(zoo.get("proxyless-cpu")), 0.5)
  assert network.norm_epsilon == 1e-3
  data = codec.to_dict(network)
  assert data["skeleton"]["norm_epsilon"] == 1e-3
  assert codec.from_dict(data).norm_epsilon == 1e-3
  # Files of other networks are as they were before there was an epsilon.
  assert "norm_epsilon" not in codec.to_dict(NETWORK)["skeleton"]


@pytest.mark.parametrize("name", zoo.genotype_names())
def test_unshared_cells_cost_what_shared_cells_cost(name):
  place = skeleton.Skeleton(init_channels=16, cells=8)
  genotype = zoo.get(name)
  network = blocks.from_genotype(genotype, place)
  assert cost.network(network, place)[:2] == cost.network(genotype, place)[:2]


def test_unshared_cells_need_a_cifar_skeleton():
  with pytest.raises(errors.InputError, match="cifar"):
    blocks.from_genotype(zoo.get("darts"), skeleton.DEFAULTS["imagenet"])
