"""Smoke of the transformed hand-crafted networks; nothing of accuracy."""

import importlib.util
import json
import sys

import jax
import numpy as np
import pytest

from natjax import zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec
from natjax.networks import network as network_lib
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "handcrafted.py"
REAL = ["original", "NAT", "NAT++"]
CELLS = ["cell: resblock-cell", "cell: nat_resblock", "cell: natv2_resblock"]


def check_record(folder, *more):
  """What holds of every record; `more` are networks transformed besides."""
  result = json.loads((folder / "report" / "result.json").read_text())
  rows = result["datasets"]["digits"]["resnet20"]
  assert list(rows) == [*REAL, *more, *CELLS]
  frame = blocks.Frame(10, result["config"]["image_size"])
  for kind in (*REAL, *more):
    network = codec.from_dict(rows[kind]["architecture"])
    found = cost.network(network, frame)
    assert found[:2] == (rows[kind]["params"], rows[kind]["madds"])
    assert found.params <= rows["original"]["params"]
    assert found.madds <= rows["original"]["madds"]
    assert 0 <= rows[kind]["accuracy"] <= 1
  text = (folder / "report" / "README.md").read_text()
  for part in ("| resnet20 | original |", *more,
               "handcrafted.py --preset smoke", "CPU cores", "jax 0."):
    assert part in text
  return rows


@pytest.mark.long
def test_compares_everything(tmp_path):
  done = scripts.run("-c", scripts.UNTRAINED, "handcrafted",
                     *scripts.flags(tmp_path))
  assert done.returncode == 0, done.stderr
  check_record(tmp_path)


@pytest.mark.slow
def test_smoke_trains_and_returns_at_once_when_it_is_done(tmp_path):
  more = ["NAT, another graph", "NAT++, another graph"]
  flags = scripts.flags(tmp_path, "--share", "full", "--representations")
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  assert "resnet20 natpp: search search policy 0 loss" in done.stdout
  rows = check_record(tmp_path, *more)
  again = scripts.run(SCRIPT, *flags)
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout
  assert check_record(tmp_path, *more) == rows


def test_the_second_graph_computes_the_same():
  path = list(sys.path)
  sys.path.insert(0, str(SCRIPT.parent))
  try:
    spec = importlib.util.spec_from_file_location("handcrafted", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    sys.modules["handcrafted"] = script
    spec.loader.exec_module(script)
  finally:
    sys.path[:] = path
  network = blocks.scale(zoo.get("resnet20"), 0.5)
  network = network._replace(blocks=network.blocks[2:4])
  other = script.with_input_nodes(network)
  frame = blocks.Frame(10, 8)
  assert cost.network(other, frame)[:2] == cost.network(network, frame)[:2]
  net, second = (network_lib.module(n, frame) for n in (network, other))
  x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("f")
  weights = network_lib.init(net, jax.random.key(0))
  renamed = {group: {name: {
      f"edge{int(key[4]) + 1}{key[5:]}": value for key, value in part.items()}
      if name.startswith("block") else part for name, part in tree.items()}
             for group, tree in weights.items()}
  np.testing.assert_allclose(
      second.apply(renamed, x)[0], net.apply(weights, x)[0], rtol=1e-4,
      atol=1e-5)
