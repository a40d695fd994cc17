"""The network of NAS-Bench-201."""

import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec
from natjax.graph import nasbench201 as cells201

SOME = np.random.default_rng(0).choice(cells201.COUNT, 60, replace=False)


@pytest.mark.parametrize("name", cells201.DATASETS)
def test_cost_of_networks_is_that_of_the_benchmark(name):
  """`zoo.nasbench201.costs`, which its tests hold against the whole table."""
  params, flops = zoo.nasbench201.costs(name)
  data = cells201.dataset(name)
  frame = blocks.Frame(data.num_classes, data.image_size)
  for code in SOME.tolist():
    names = cells201.to_names(cells201.decode(np.int32(code)))
    found = cost.network(zoo.nasbench201.network(names), frame)
    assert found.params == params[code]
    assert found.madds + data.num_classes == flops[code]


def test_strings_round_trip():
  for code in SOME[:10].tolist():
    text = cells201.to_string(
        cells201.to_names(cells201.decode(np.int32(code))))
    network = zoo.nasbench201.from_string(text)
    assert network.name == text
    assert codec.from_dict(codec.to_dict(network)) == network


def test_names_of_a_network_are_those_that_it_was_built_of():
  for code in SOME[:10].tolist():
    names = cells201.to_names(cells201.decode(np.int32(code)))
    network = zoo.nasbench201.network(names)
    assert zoo.nasbench201.names_of(network) == names
    # A file's, and one that kept the name of where its search began.
    again = codec.from_dict(codec.to_dict(network._replace(name="other")))
    assert zoo.nasbench201.names_of(again) == names


NETWORK = zoo.nasbench201.network(("conv_3x3",) * 6)
ONE = NETWORK.blocks[0]


@pytest.mark.parametrize("network", [
    zoo.get("resnet20"),
    NETWORK._replace(blocks=()),
    NETWORK._replace(blocks=NETWORK.blocks[1:]),
    NETWORK._replace(preactivate=False),
    # One block has another operation; an edge is missing; one is foreign.
    NETWORK._replace(blocks=(*NETWORK.blocks[:-1], ONE)),
    NETWORK._replace(blocks=(
        ONE._replace(edges=ONE.edges[1:]), *NETWORK.blocks[1:])),
    NETWORK._replace(blocks=tuple(block._replace(edges=tuple(
        edge._replace(operation="sep_conv_3x3") for edge in block.edges))
                                  for block in NETWORK.blocks)),
])
def test_names_of_another_network_are_refused(network):
  with pytest.raises(errors.InputError, match="none of NAS-Bench-201"):
    zoo.nasbench201.names_of(network)


def test_the_space_is_the_benchmarks_own():
  """Fifteen cells alike, no padding, residual blocks apart."""
  network = zoo.nasbench201.network(("conv_3x3",) * 6)
  space = spaces.space_for(network, method="natpp")
  assert space.graph == network
  decisions = codec.decide(network, blocks.Frame(), space.share)
  assert sorted(len(d.members) for d in decisions) == [2, 15]
  assert [set(d.fixed) for d in decisions] == [{False}, {True}]
  assert network.num_inputs_per_node == 3
