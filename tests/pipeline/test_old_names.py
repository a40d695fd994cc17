"""Weights that an older version wrote: parts of chains lay beside them."""

import json
import re

import jax
import numpy as np

from natjax.graph import codec, records
from natjax.networks import network
from natjax.pipeline import networks as networks_lib

# Two projections in one block, of edges whose pooling does not widen.
ARCHITECTURE = records.BlockNetwork(
    "pooled", (records.Layer("conv", 4, 3),), (records.Block(
        (records.Node(8, activation="relu"), records.Node(12)),
        (records.Edge("avg_pool_3x3", 1, 2), records.Edge("conv_1x1", 1, 2),
         records.Edge("max_pool_3x3", 2, 3))),))


def test_parts_of_chains_are_found_where_they_lay(tmp_path):
  place = records.Frame(10, 8)
  module = network.module(ARCHITECTURE, place)
  variables = network.init(module, jax.random.key(0))
  old = {}
  for kind, tree in variables.items():
    old[kind] = {**tree, "block0": {
        {"edge0_avg_pool_3x3": "ReluConvNorm_0",
         "edge2_max_pool_3x3": "ReluConvNorm_1"}.get(name, name):
        parts.get("projection", parts)
        for name, parts in tree["block0"].items()}}
  networks_lib.save_weights(tmp_path / "weights.npz", old)
  (tmp_path / "result.json").write_text(json.dumps({
      "architecture": codec.to_dict(ARCHITECTURE), "place": place._asdict(),
      "auxiliary": False, "mean": [0.5] * 3, "std": [0.5] * 3,
      "dtype": "float32", "class_names": list("0123456789"), "accuracy": 0.5}))
  assert any(re.search("ReluConvNorm_1", str(path)) for path, _ in
             jax.tree_util.tree_leaves_with_path(old))
  found = networks_lib._load(tmp_path / "result.json").variables
  jax.tree.map(np.testing.assert_array_equal, found, variables)
