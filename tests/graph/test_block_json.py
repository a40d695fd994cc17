"""Networks of blocks as files."""

import copy
import json

import pytest

from natjax import errors, zoo
from natjax.costs import exact as cost
from natjax.graph import block_json, blocks, codec, genotype, records
from natjax.zoo import handcrafted
from tests import architectures

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
    ({"blocks__0__nodes__0__width": "16"}, "node 2: width is '16'"),
    ({"blocks__0__nodes__0__width": 0}, "width 0"),
    ({"blocks__0__nodes__0__activation": "gelu"}, "relu6"),
    ({"blocks__0__nodes__0__colour": 1}, "colour"),
    ({"blocks__0__nodes": []}, "at least one"),
    ({"blocks__0__concat": [9]}, "concat"),
    ({"blocks__0__concat": ["2"]}, "node numbers"),
    ({"blocks__0__nodes__0__shuffle": 3}, "shuffled"),
    ({"blocks__0__nodes__0__shuffle": -2}, "shuffled in -2 groups"),
    ({"skeleton__early": 1}, "early is 1"),
    ({"skeleton__early": -2}, "early is -2"),
    ({"skeleton__early": 0.0}, r"early is 0\.0"),
    ({"skeleton__early": True}, "early is True"),
    # A cycle of two nodes, and a node that nothing reaches.
    ({"blocks__0__edges__0": ["conv_3x3", 3, 2]}, "lest there be a cycle"),
    ({"blocks__0__edges__0": ["conv_3x3", 1, 3]}, "node 2 has no inputs"),
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


CELLS = records.Skeleton("imagenet", 4, 5, 10, 64)
NEW = {
    "padded window": architectures.PADDED,
    "unequal cells": genotype.unshared(architectures.UNEQUAL, CELLS),
    "ImageNet cells": genotype.unshared(zoo.get("darts"), CELLS),
    "early": records.BlockNetwork(
        "early", (blocks.Layer("conv", 8, 3),) * 2,
        (blocks.Block((blocks.Node(8),), (
            blocks.Edge("noise", 0, 2), blocks.Edge("conv_3x3", 1, 2),
            blocks.Edge("conv_5x5", 1, 2))),), early=0),
}


@pytest.mark.parametrize("name", NEW)
def test_what_is_newly_sayable_goes_into_files_and_back(name, tmp_path):
  network = blocks.check(NEW[name])
  assert block_json.from_dict(
      json.loads(json.dumps(block_json.to_dict(network)))) == network
  path = tmp_path / "network.json"
  path.write_text(codec.to_json(network), "utf-8")
  assert codec.read(path) == network
  assert json.loads(codec.to_line(network)) == codec.to_dict(network)["blocks"]


def test_early_is_written_only_where_it_is_not_the_last():
  assert block_json.to_dict(NEW["early"])["skeleton"]["early"] == 0
  assert "early" not in block_json.to_dict(NETWORK)["skeleton"]
