"""Chains: ProxylessNAS's, with published counts, and SPOS's."""

import json
import pathlib

import pytest

from natjax import errors, spaces, zoo
from natjax.costs import exact
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.methods import random_search
from natjax.spaces import chains, proxyless
from natjax.zoo import proxyless as networks

SPEC = (pathlib.Path(__file__).resolve().parents[3]
        / "shared" / "spec" / "spaces.json")
IMAGENET = records.Frame(1000, 224)


def filled(space, choose):
  """The network of operations by the layers' numbers, fixed blocks left out."""
  layers, blocks = 0, []
  for block in space.graph.blocks:
    if len(block.edges) == 1:
      block = block._replace(edges=(block.edges[0]._replace(
          operation=choose(layers)),))
      layers += 1
    blocks.append(block)
  return codec.check(space.graph._replace(blocks=tuple(blocks)))


def layers_of(name):
  """The choices of a published network."""
  layers = []
  for stage, depth in zip(
      networks.NETWORKS[name].stages, proxyless.DEPTHS, strict=True):
    layers += [f"mbconv{e}_{k}x{k}" for k, e in stage]
    layers += ["skip_connect"] * (depth - len(stage))
  return layers


def choices(space):
  return [space.choices[i][0] for i, block in enumerate(space.graph.blocks)
          if len(block.edges) == 1]


@pytest.mark.parametrize("name", [
    "proxyless", "proxyless-se", "proxyless-wide", "proxyless-wide-se"])
def test_layers_and_choices(name):
  space = spaces.get(name).validate()
  assert space.chain and space.share == "full"
  counts = [len(c) for c in choices(space)]
  assert len(counts) == 21 and counts.count(7) == 15 and counts.count(6) == 6
  assert [c == 6 for c in counts] == [i % 4 == 0 for i in range(21)]
  for own in choices(space):
    assert {op.removesuffix("_se") for op in own} - {"skip_connect"} == {
        f"mbconv{e}_{k}x{k}" for e in (3, 6) for k in (3, 5, 7)}
    assert all(op.endswith("_se") == name.endswith("-se")
               for op in own if op != "skip_connect")


@pytest.mark.parametrize("name, unit, params, madds", [
    ("proxyless", "mbconv6_7x7", 5103336, 606590720),
    ("proxyless", "mbconv3_3x3", 3191928, 257422208),
    ("proxyless-wide", "mbconv6_7x7", 5135080, 693483008)])
def test_published_extremes(name, unit, params, madds):
  space = spaces.get(name)
  network = filled(space, lambda i: unit)
  assert exact.network(network, IMAGENET)[:2] == (params, madds)
  assert exact.network(space.written(network), IMAGENET)[:2] == (params, madds)


@pytest.mark.parametrize("name", networks.NETWORKS)
def test_published_networks_are_found(name):
  """Written as the zoo has them, whatever of a stage was left out."""
  space, layers = proxyless.of(name), layers_of(name)
  network = filled(space, layers.__getitem__)
  assert all(op in own for op, own in zip(layers, choices(space), strict=True))
  found = codec.check(space.written(network))
  assert found._replace(name=name) == zoo.get(name, "imagenet")
  if name == "proxyless-cpu":
    assert exact.network(found, IMAGENET)[:2] == (4361648, 439243864)


def test_widths_of_the_published_networks():
  if not SPEC.exists():
    pytest.skip(f"{SPEC} is not there; it travels apart from the repository")
  for name, spec in json.loads(SPEC.read_text("utf-8"))["proxyless"].items():
    graph = proxyless.of(f"proxyless-{name}").graph
    stages = [graph.blocks[stage[0]].nodes[-1].width
              for stage in chains.stages(graph)]
    assert [graph.stem[0].width, *stages, graph.head[0].width] == spec["widths"]


def test_squeeze_and_excitation_is_written_out_at_its_cost():
  space = spaces.get("proxyless-se")
  network = filled(space, lambda i: choices(space)[i][(5 * i) % 6])
  found = codec.check(space.written(network))
  assert exact.network(found, IMAGENET) == exact.network(network, IMAGENET)
  gates = [edge for block in found.blocks for edge in block.edges
           if edge.operation == "squeeze_excite"]
  assert len(gates) == 21
  # By hand: of the first layer's 48 channels, to 12 and back, with biases.
  first = found.blocks[1]
  assert [e.operation for e in first.edges] == [
      "conv_1x1", "depthwise_conv_3x3", "squeeze_excite", "conv_1x1"]
  gate = exact.edge(found, shapes_lib.of(found, IMAGENET)[1], first.edges[2])
  assert gate[:2] == (2 * 48 * 12 + 12 + 48, 2 * 48 * 12)


@pytest.mark.parametrize("choose, params, madds", [
    (lambda i: 0, 3154880, 295.84e6),
    # The network that its authors found: 323 M and 3.5 M as they print them.
    ((2, 1, 0, 1, 2, 0, 2, 0, 2, 0, 2, 3, 0, 0, 0, 0, 3, 2, 3, 3).__getitem__,
     3558464, 322.92e6)])
def test_counts_of_shufflenet(choose, params, madds):
  space = spaces.get("shufflenet").validate()
  assert [len(c) for c in choices(space)] == [4] * 20
  network = filled(space, lambda i: choices(space)[i][choose(i)])
  found = exact.network(network, IMAGENET)
  assert found.params - 1000 == params  # Theirs has no bias at the end.
  assert found.madds == pytest.approx(madds, rel=2e-5)
  assert space.written(network) == network


@pytest.mark.parametrize("name", ["proxyless", "shufflenet"])
@pytest.mark.parametrize("size, strides, last", [
    (224, 5, 7), (64, 4, 4), (32, 3, 4), (8, 1, 4), (4, 0, 4)])
def test_small_images_lose_the_first_strides(name, size, strides, last):
  whole = spaces.get(name)
  space = chains.fit(whole, size).validate()
  seen = shapes_lib.of(space.graph, records.Frame(10, size))[-1].output
  assert (seen.stride, seen.size) == (2**strides, last)
  assert space.choices == whole.choices
  assert (space == whole) == (size == 224)


def test_strides_of_small_images_are_those_of_the_zoo():
  name = "proxyless-mobile"
  for frame, skeleton in ((records.Frame(10, 32), "cifar"),
                          (IMAGENET, "imagenet")):
    space = chains.fit(proxyless.of(name), frame.image_size)
    found = space.written(filled(space, layers_of(name).__getitem__))
    assert found._replace(name=name) == zoo.get(name, skeleton)


def test_smaller_chains():
  space = chains.fit(spaces.get("proxyless"), 8, layers=2, width=0.25)
  space.validate()
  assert len(choices(space)) == 11
  assert [block.nodes[-1].width for block in space.graph.blocks] == [
      8, 8, 8, 8, 8, 16, 16, 24, 24, 48, 48, 80]
  cells = spaces.get("darts")
  assert chains.fit(cells, 8, layers=2) is cells and not cells.chain
  assert not spaces.get("nasbench201").chain


@pytest.mark.parametrize("space, change, share, message", [
    ("darts", {"chain_layers": 2}, "cell", "'darts', which is no chain"),
    ("nasbench201", {"chain_width": 0.5}, "cell", "which is no chain"),
    ("proxyless", {}, "cell", "is chosen by itself"),
    ("proxyless", {"chain_layers": 0}, "full", "must be at least 1"),
    ("proxyless", {"chain_width": 0.0}, "full", "must be above 0")])
def test_sizes_that_do_not_fit_are_refused(space, change, share, message):
  with pytest.raises(errors.InputError, match=message) as e:
    chains.of_settings(spaces.get(space), random_search.RandomConfig(**change),
                       32, share)
  assert "\n" not in str(e.value)


def test_spaces_of_equal_candidates_are_told_apart():
  told = [spaces.get(name).describe()
          for name in ("proxyless", "proxyless-wide")]
  assert told[0]["candidates"] == told[1]["candidates"]
  assert told[0] != told[1]


@pytest.mark.parametrize("name", ["proxyless-se", "shufflenet"])
def test_what_is_found_is_read_back(name):
  space = spaces.get(name)
  found = space.written(filled(space, lambda i: choices(space)[i][i % 4]))
  assert codec.from_dict(json.loads(codec.to_json(found))) == found
