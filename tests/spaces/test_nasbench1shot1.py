"""NAS-Bench-1Shot1's spaces as a supernet searches them."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import (
  cli,
  data,
  errors,
  methods,
  operations,
  pipeline,
  spaces,
  zoo,
)
from natjax.costs import budget, exact
from natjax.graph import codec, nasbench1shot1, nasbench101, records
from natjax.methods import darts, entrannas_dst
from natjax.spaces import connections, paths, places
from natjax.zoo import exports

NAMES = [*nasbench1shot1.PARENTS]
PLACE = records.Frame(10, 16)


@functools.cache
def known(name):
  return connections.Connections(spaces.get(name), PLACE)


def edges(cell):
  return int(np.sum(cell.matrix))


@pytest.mark.parametrize("name", NAMES)
def test_places_are_the_genes_of_the_benchmark(name):
  """Every choice at the places is that cell of NAS-Bench-101."""
  where, rng = places.Places(known(name)), np.random.default_rng(0)
  counts = nasbench1shot1.counts(name)
  assert sorted(c for c in where.counts if c > 1) == sorted(counts)
  genes = np.stack([rng.integers(0, c, 20) for c in counts], 1)
  for own in genes:
    network = zoo.nasbench1shot1.network(name, own)
    assert zoo.nasbench1shot1.cell_of(network) == nasbench1shot1.cell(name, own)
    assert zoo.nasbench1shot1.cell_of(network._replace(name="found")) == (
        nasbench1shot1.cell(name, own))
    found = zoo.nasbench1shot1.genes_of(name, network)
    np.testing.assert_array_equal(found, own)
  seen = set()
  for _ in range(60):
    drawn = np.array([rng.integers(0, c) for c in where.counts])
    network = where.architecture(drawn)
    raw = zoo.nasbench1shot1.genes_of(name, network)
    assert raw is not None and (raw < counts).all()
    seen.add((tuple(drawn), tuple(raw)))
  assert len({a for a, _ in seen}) == len({b for _, b in seen}) == len(seen)


@pytest.mark.parametrize("name", NAMES)
def test_drawn_paths_have_the_parents_of_their_nodes(name):
  own = paths.Paths(known(name), PLACE)
  drawn = jax.device_get(jax.jit(jax.vmap(own.draw))(
      jax.random.split(jax.random.key(0), 300)))
  found = []
  for i in range(300):
    network = own.decode(jax.tree.map(lambda leaf, i=i: leaf[i], drawn))
    genes = zoo.nasbench1shot1.genes_of(name, network)
    assert genes is not None
    found.append(genes)
    if i < 10:
      again = own.encode(network)
      assert own.decode(again) == network
      assert float(own.madds(again)) == pytest.approx(
          exact.network(network, PLACE).madds / 1e6, rel=1e-5)
      # What leads nowhere is not handed on.
      assert own.cost(again) == exact.network(
          zoo.nasbench1shot1.unfold(network), PLACE)
  for count, values in zip(
      nasbench1shot1.counts(name), np.transpose(found), strict=True):
    share = np.bincount(values, minlength=count) / 300
    np.testing.assert_allclose(share, 1 / count, atol=5 * np.sqrt(
        1 / count / 300))


def identity(network):
  return nasbench101.identity(*nasbench101.to_arrays(
      zoo.nasbench1shot1.cell_of(network))).tolist()


@pytest.mark.parametrize("name", NAMES[:2])
def test_what_leads_nowhere_is_left_out_and_found_again(name):
  rng = np.random.default_rng(3)
  genes = nasbench1shot1.all_genes(name)
  less = 0
  for row in genes[rng.integers(0, len(genes), 40)]:
    network = zoo.nasbench1shot1.network(name, row)
    found = spaces.get(name).written(network)
    assert found == exports.parse(nasbench101.to_text(
        nasbench1shot1.cell(name, row)))
    before, after = (exact.network(x, PLACE) for x in (network, found))
    fewer = len(found.blocks[0].nodes) < len(network.blocks[0].nodes)
    assert (after != before) == fewer and max(after) <= max(before)
    less += fewer
    again = zoo.nasbench1shot1.within(name, found)
    assert zoo.nasbench1shot1.genes_of(name, again) is not None
    assert identity(again) == identity(found) == identity(network)
  assert 0 < less < 40
  assert zoo.nasbench1shot1.within(name, zoo.get("resnet20")) is None
  other = exports.parse("0100:input,output")
  assert zoo.nasbench1shot1.within(name, other) is None


@pytest.mark.parametrize("name", NAMES)
def test_the_strongest_are_the_parents_of_a_node(name):
  places_, rng = known(name), np.random.default_rng(1)
  group, = places_.groups
  strengths = rng.uniform(size=group.allowed.shape)
  strengths[:, -1] = 2.0  # Null, which does not compete.
  kept = places_.strongest([strengths], distinct_edges=True)
  genes = zoo.nasbench1shot1.genes_of(
      name, places_.architecture(kept))
  parents = nasbench1shot1.PARENTS[name]
  ways, place = nasbench1shot1.ways(name), iter(genes)
  mask = np.asarray(kept[0])
  for i, (count, some) in enumerate(zip(parents, ways, strict=True), 1):
    into = [e for e, edge in enumerate(group.cell.edges)
            if edge.target == 2 * i]
    if len(some) == 1:
      assert not mask[into].any()  # It is fixed.
      continue
    best = strengths[into][:, :-1].copy()
    best[~group.allowed[into][:, :-1]] = -1
    assert set(some[next(place)]) == set(
        np.argsort(-best.max(1))[:count].tolist())
  # Made cheaper, nodes keep as many.
  cost = places_.cost(kept)
  assert cost.madds == places_._bare[1] + places_._costs[0][1][mask].sum()
  cheaper = places_.within(kept, [strengths], budget.Budget(
      madds=cost.madds - 1), distinct_edges=True)
  assert zoo.nasbench1shot1.genes_of(
      name, places_.architecture(cheaper)) is not None
  assert places_.cost(cheaper).madds < cost.madds


def test_what_a_node_takes_in_competes():
  places_ = known("nasbench1shot1-3")
  group, = places_.groups
  alpha = jnp.asarray(np.random.default_rng(0).normal(
      size=group.allowed.shape), jnp.float32)
  mix, = darts.mixture([alpha], places_)
  for into, parents in zip(group.nodes, group.parents, strict=True):
    rows = np.asarray(mix)[list(into)]
    assert parents and rows.sum() == pytest.approx(1, rel=1e-5)
    assert not rows[:, -1].any()
    values = np.asarray(alpha)[list(into)][places_.kept(group)[list(into)]]
    np.testing.assert_allclose(
        rows[rows > 0], np.exp(values) / np.exp(values).sum(), rtol=1e-5)


def test_the_number_of_parents_is_not_learnt():
  method = methods.METHODS["entrannas-dst"]
  with pytest.raises(errors.InputError, match="a number of parents") as e:
    entrannas_dst.EnTranNASDST(
        method.settings(cells=None), spaces.get(NAMES[0]), num_classes=3,
        image_size=8)
  assert e.value.field == "space"


def test_a_run_tells_the_spaces_apart():
  assert len({str(spaces.get(name).describe()) for name in NAMES}) == 3


def test_a_cell_is_written_and_read_as_the_benchmarks():
  genes = np.array([1, 0, 2, 0, 1, 2, 1])
  network = zoo.nasbench1shot1.network(NAMES[0], genes)
  text = exports.write(network, "nasbench101")
  assert nasbench101.from_text(text) == nasbench1shot1.cell(NAMES[0], genes)
  assert exports.shortest(network) == text
  with pytest.raises(errors.InputError, match="a genotype is no cell of"):
    exports.write(zoo.get("darts"), "nasbench101")


@pytest.mark.parametrize("seed", range(20))
def test_any_cell_of_the_benchmark_is_a_network(seed):
  rng = np.random.default_rng(seed)
  vertices = int(rng.integers(3, 6))
  matrix = np.triu(rng.random((vertices, vertices)) < 0.5, 1).astype(int)
  matrix[0, 1] = matrix[1, -1] = 1
  cell = nasbench101.check(matrix, [
      "input", *rng.choice(nasbench101.OPERATIONS, vertices - 2), "output"])
  network = exports.parse(nasbench101.to_text(cell))
  assert exports.parse(json.dumps({
      "module_adjacency": matrix.tolist(),
      "module_operations": [*cell.operations]})) == network
  found = nasbench101.from_text(exports.write(network, "nasbench101"))
  for own in (found, nasbench101.from_text(network.name)):
    np.testing.assert_array_equal(*(
        nasbench101.identity(*nasbench101.to_arrays(c)) for c in (own, cell)))
  assert codec.from_dict(codec.to_dict(network)) == network


@pytest.mark.parametrize("name", NAMES)
def test_a_network_of_a_cell_costs_what_it_does_in_its_space(name):
  rng, same = np.random.default_rng(1), 0
  counts = nasbench1shot1.counts(name)
  for _ in range(200):
    own = zoo.nasbench1shot1.network(name, np.array([
        rng.integers(count) for count in counts]))
    cell = zoo.nasbench1shot1.cell_of(own)
    if len(cell.operations) == len(nasbench1shot1.ways(name)) + 1:
      same += 1  # All nodes count.
      assert exact.network(own, PLACE) == exact.network(
          zoo.nasbench1shot1.of_cell(cell), PLACE)
  assert same


def test_what_a_transformation_makes_of_a_cell_is_one():
  cell = nasbench101.from_text(
      "0110001000010000:input,conv3x3-bn-relu,maxpool3x3,output")
  network = zoo.nasbench1shot1.of_cell(cell)

  def changed(place, operation):
    edges = tuple(e._replace(operation=operation) if e[1:] == place else e
                  for e in network.blocks[0].edges)
    return network._replace(blocks=tuple(
        block if len(block.edges) == 1 else block._replace(edges=edges)
        for block in network.blocks))

  read = lambda found: nasbench101.to_text(zoo.nasbench1shot1.cell_of(found))
  assert read(changed((2, 3), "conv_1x1")) == (
      "0110001000010000:input,conv1x1-bn-relu,maxpool3x3,output")
  # Without the convolution the pooling has the cell's input alone.
  assert read(changed((2, 3), operations.NULL)) == (
      "010001000:input,maxpool3x3,output")
  with pytest.raises(errors.InputError, match="no path from its input"):
    read(changed((4, 5), operations.NULL))
  with pytest.raises(errors.InputError, match="none of NAS-Bench-1Shot1"):
    read(changed((2, 3), "sep_conv_3x3"))


@pytest.mark.parametrize("text, said", [
    ("000000000:input,maxpool3x3,output", "no path from its input"),
    ("01000100:input,maxpool3x3,output", "is no cell of NAS-Bench-101"),
    ("010001000:input,conv5x5,output", "and not 'conv5x5'"),
    ('{"matrix": [[0, 1], [0, 0]], "ops": ["input"]}', "no cell of NAS-Bench"),
    ('{"matrix": 3, "ops": []}', "must be an object with the lists")])
def test_what_is_no_cell_is_refused(text, said, capsys, tmp_path):
  with pytest.raises(errors.InputError, match=said):
    exports.parse(text)
  (tmp_path / "cell.json").write_text(text)
  for given in (tmp_path / "cell.json", *[text] * text.startswith("0")):
    assert cli.main(["cost", str(given)]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.parametrize("method", ["random", "spos", "darts", "entrannas",
                                    "it-nas"])
def test_methods_find_cells_of_the_benchmark(method, tmp_path):
  entry = methods.METHODS[method]
  few = {"spos": {"population": 2, "generations": 1, "mutations": 0,
                  "crossovers": 0, "parents": 1, "calibration": 32},
         "random": {"candidates": 2}}.get(method, {})
  result = pipeline.search(
      NAMES[2], data.load("digits"), out=tmp_path / "run", method=method,
      search=entry.settings(epochs=1, batch_size=64, supernet_width=0.25,
                            **few), train_found=False)
  found = codec.from_dict(result["architectures"]["derived"])
  cell = zoo.nasbench1shot1.cell_of(found)
  text = (tmp_path / "run" / "architecture.txt").read_text().strip()
  assert nasbench101.from_text(text) == cell


def test_other_networks_are_none_of_them():
  with pytest.raises(errors.InputError, match="none of NAS-Bench-1Shot1"):
    zoo.nasbench1shot1.cell_of(zoo.nasbench201.network(["null"] * 6))
  network = zoo.nasbench1shot1.network(NAMES[0], np.zeros(7, int))
  broken = network._replace(blocks=(network.blocks[0]._replace(
      edges=tuple(e._replace(operation=operations.NULL) if e.target == 3 else e
                  for e in network.blocks[0].edges)), *network.blocks[1:]))
  with pytest.raises(errors.InputError, match="none of NAS-Bench-1Shot1"):
    zoo.nasbench1shot1.cell_of(broken)


def test_counts_of_parents_must_fit():
  space = spaces.get(NAMES[0])
  for change in ({"parents": ((1,), (0,))}, {"parents": (3,)},
                 {"parents": (space.parents[0], (2,))}):
    with pytest.raises(errors.InputError, match=r"parents is .* per decision"):
      space._replace(**change).validate()
  with pytest.raises(errors.InputError, match="give one of both"):
    space._replace(inputs=2).validate()
  assert edges(nasbench1shot1.cell(NAMES[0], np.zeros(7, int))) <= (
      nasbench101.EDGES)
