"""The space of NAS-Bench-Macro, against the benchmark's own counts."""

import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.costs import exact
from natjax.graph import codec, nasbench_macro, records
from natjax.spaces import connections, places
from tests.benchmarks import test_nasbench_macro as tables

PLACE = records.Frame(10, 32)


@pytest.fixture(scope="module")
def found():
  return places.Places(connections.Connections(
      spaces.get("nasbench-macro"), PLACE))


def test_every_chain_is_a_network_and_back(found):
  assert found.counts == (3,) * 8
  rng = np.random.default_rng(0)
  for genes in rng.integers(0, 3, (40, 8)):
    network = codec.check(found.connections.space.written(
        found.architecture(genes)))
    # Candidates stand in their own order.
    layers = zoo.nasbench_macro.layers_of(network)
    assert [*genes] == [(layer - 1) % 3 for layer in layers]
    assert network._replace(name="") == zoo.nasbench_macro.network(
        layers)._replace(name="")


def test_costs_are_the_tables():
  if not tables.TABLE.is_file():
    pytest.skip(f"{tables.TABLE} is not here; see shared/data/README.md")
  columns = tables.nasbench_macro.read(tables.TABLE).columns
  for code in (0, 6560, 6477, *range(100, 6500, 800)):
    cost = exact.network(zoo.nasbench_macro.network(
        nasbench_macro.all_chains()[code]), PLACE)
    assert cost.params == columns["params"][code]
    assert cost.madds == columns["flops"][code]


def test_other_networks_are_refused():
  best = zoo.nasbench_macro.network(nasbench_macro.from_text("22212220"))
  fewer = best._replace(blocks=best.blocks[:7])
  for network in (zoo.get("resnet20"), zoo.get("mobilenetv2"), fewer):
    with pytest.raises(errors.InputError, match="none of NAS-Bench-Macro"):
      zoo.nasbench_macro.layers_of(network)
