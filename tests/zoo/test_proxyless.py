"""The networks that ProxylessNAS found."""

import json
import pathlib

import pytest

from natjax import cli, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks
from natjax.graph import shapes as shapes_lib
from natjax.zoo import proxyless

SPEC = (pathlib.Path(__file__).resolve().parents[3]
        / "shared" / "spec" / "spaces.json")


def test_tables_equal_the_gathered_ones():
  """Against the file in which the published networks were gathered."""
  if not SPEC.exists():
    pytest.skip(f"{SPEC} is not there; it travels apart from the repository")
  gathered = json.loads(SPEC.read_text("utf-8"))["proxyless"]
  assert set(proxyless.NETWORKS) == {f"proxyless-{name}" for name in gathered}
  for name, spec in gathered.items():
    own = proxyless.NETWORKS[f"proxyless-{name}"]
    assert [own.stem, own.first, *own.widths, own.last] == spec["widths"]
    assert json.loads(json.dumps(own.stages)) == spec["stages"]


def test_published_counts_of_the_cpu_network():
  """Those of the authors' network, to the last parameter."""
  found = cost.network(zoo.get("proxyless-cpu", "imagenet"),
                       blocks.Frame(1000, 224))
  assert found[:2] == (4361648, 439243864)


def test_the_gpu_network_by_hand():
  """Widths, strides, kernels and shortcuts of the first blocks."""
  network = zoo.get("proxyless-gpu", "imagenet")
  assert network.norm_epsilon == 1e-3
  assert network.stem == (
      blocks.Layer("conv", 40, 3, 2, activation="relu6"),)
  first, second, third, fourth = network.blocks[:4]
  relu6 = {"activation": "relu6"}
  assert first == blocks.Block(
      (blocks.Node(40, 1, **relu6), blocks.Node(24)),
      (("depthwise_conv_3x3", 1, 2), ("conv_1x1", 2, 3)))
  assert second == blocks.Block(
      (blocks.Node(72, **relu6), blocks.Node(72, 2, **relu6),
       blocks.Node(32, 2)),
      (("conv_1x1", 1, 2), ("depthwise_conv_5x5", 2, 3), ("conv_1x1", 3, 4)))
  assert third.edges[1].operation == "depthwise_conv_7x7"
  assert fourth.edges == (
      ("conv_1x1", 1, 2), ("depthwise_conv_3x3", 2, 3), ("conv_1x1", 3, 4),
      ("skip_connect", 1, 4))


@pytest.mark.parametrize("name", proxyless.NETWORKS)
def test_where_the_skeletons_stride(name):
  """Five halvings of 224 pixels, three of 32; shortcuts do not differ."""
  big, small = (zoo.get(name, kind) for kind in ("imagenet", "cifar"))
  for network, frame, sizes in (
      (big, blocks.Frame(1000, 224), (112, 56, 28, 14, 7)),
      (small, blocks.Frame(10, 32), (32, 16, 8, 4))):
    seen = [at.output.size for at in shapes_lib.of(network, frame)]
    assert tuple(dict.fromkeys(seen)) == sizes
  assert [b.edges for b in big.blocks] == [b.edges for b in small.blocks]
  assert len(set(big.blocks)) > len(big.blocks) / 2


def test_costs_and_a_search_of_the_command_line(capsys, tmp_path):
  assert cli.main(["cost", "Proxyless_CPU", "--skeleton",
                   "imagenet", "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["params"] == 4361648 and found["madds"] == 439243864
  assert cli.main([
      "transform", "proxyless-cpu", "--method", "nat", "--share", "full",
      "--dataset", "digits", "--preset", "demo", "--image-size", "32",
      "--dry-run", "--out", str(tmp_path / "run")]) == 0
  assert "proxyless-cpu" in capsys.readouterr().out
  assert not (tmp_path / "run").exists()
