"""Searches whose scores stand in a table; the spaces of NAS-Bench-1Shot1."""

import dataclasses
import itertools
import json
import math

import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.benchmarks import nasbench101, table_search
from natjax.graph import nasbench1shot1
from natjax.graph import nasbench101 as cells
from natjax.methods import evolution
from tests.benchmarks import test_nasbench101, test_nasbench_macro

SMALL = evolution.EvolutionConfig(
    population=20, generations=10, parents=5, mutations=10, crossovers=6)
table = test_nasbench101.table  # A fixture.


@pytest.mark.parametrize("name,graphs,nodes", [
    ("nasbench1shot1-1", 180, 4), ("nasbench1shot1-2", 360, 4),
    ("nasbench1shot1-3", 5400, 5)])
def test_spaces_have_the_published_numbers_of_graphs(name, graphs, nodes):
  assert math.prod(map(len, nasbench1shot1.ways(name))) == graphs
  assert math.prod(nasbench1shot1.counts(name)) == graphs * 3**nodes
  rng = np.random.default_rng(0)
  genes = rng.integers(0, nasbench1shot1.counts(name), (
      200, len(nasbench1shot1.counts(name))))
  edges, _ = nasbench1shot1.to_arrays(name, genes)
  assert (edges.sum((1, 2)) == 9).all()  # As all three spaces have.
  parents = edges.sum(1)[:, 1:nodes + 2]
  np.testing.assert_array_equal(parents, np.tile(
      nasbench1shot1.PARENTS[name], (200, 1)))
  for one in genes[:20]:
    cell = nasbench1shot1.cell(name, one)
    cells.to_arrays(cell)  # It is one of NAS-Bench-101.
    inner = [cells.OPERATIONS[o] for o in one[-nodes:]]
    assert not {*cell.operations} - {*inner, "input", "output"}


def test_genes_name_parents_and_operations():
  c3, c1, pool = cells.OPERATIONS
  # Node 3 from 0 and 2, node 4 from 0 and 3, the output from 3 and 4.
  ways = nasbench1shot1.ways("nasbench1shot1-1")
  genes = [ways[2].index((0, 2)), ways[3].index((0, 3)),
           ways[4].index((3, 4)), 0, 1, 2, 0]
  assert nasbench1shot1.cell("nasbench1shot1-1", genes) == cells.check(
      [[0, 1, 1, 1, 1, 0], [0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0],
       [0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 1], [0] * 6],
      ["input", c3, c1, pool, c3, "output"])
  with pytest.raises(errors.InputError, match="nasbench1shot1-3"):
    nasbench1shot1.counts("nasbench1shot1-4")


def small_problem(name, monkeypatch, tmp_path):
  """A problem whose table is made up."""
  if name == "nasbench-macro":
    path = tmp_path / "t.json"
    path.write_text(json.dumps(test_nasbench_macro.invented()))
  else:
    rows = {}
    for number, names in itertools.product(range(2**6), itertools.product(
        cells.OPERATIONS, repeat=2)):
      matrix = np.zeros((4, 4), int)
      matrix[np.triu_indices(4, 1)] = number >> np.arange(6) & 1
      try:
        arrays = cells.to_arrays(cells.check(
            matrix, ["input", *names, "output"]))
      except errors.InputError:
        continue  # No path leads through it.
      key = tuple(cells.identity(*(a[None] for a in arrays))[0].tolist())
      rows.setdefault(key, cells.to_text(cells.from_arrays(*arrays)))
    path = tmp_path / "t.npz"
    nasbench101.save(test_nasbench101.rows_of(*rows.values()), path)
    monkeypatch.setattr(cells, "COUNT", len(rows))
  return table_search.problem(name, path)


def test_evolution_in_a_table_finds_more_than_random(monkeypatch, tmp_path):
  problem = small_problem("nasbench-macro", monkeypatch, tmp_path)
  assert problem.best == 65.6
  evolved, random = (table_search.search(problem, SMALL, range(4), method)
                     for method in table_search.METHODS)
  for row in (*evolved, *random):
    assert row["evaluated"] == 200 and 1 <= row["until"] <= 200
    code = int(row["architecture"], 3)
    assert row["score"] == row["test"] == code / 100
    assert row["regret"] == pytest.approx(65.6 - code / 100)
  assert sum(r["regret"] for r in evolved) < sum(r["regret"] for r in random)
  # Seeds are searches of their own.
  assert evolved[2:] == table_search.search(problem, SMALL, (2, 3))


@pytest.mark.long
def test_cells_of_nasbench101_are_visited_once_however_numbered(
    monkeypatch, tmp_path):
  problem = small_problem("nasbench101", monkeypatch, tmp_path)
  assert len(problem.score) == 91
  few = evolution.EvolutionConfig(
      population=8, generations=3, parents=3, mutations=4, crossovers=2)
  [row] = table_search.search(problem, few, [0])
  assert row["evaluated"] == 24
  text = cells.from_text(row["architecture"])
  assert cells.to_text(text) == row["architecture"]
  with pytest.raises(errors.InputError, match=r"lacks \d+ cells of nasbench1s"):
    table_search.of_1shot1(nasbench101.from_npz(tmp_path / "t.npz"),
                           "nasbench1shot1-1")


def test_every_cell_of_two_spaces_is_known(table):
  for name, best in (("nasbench1shot1-1", 94.201),
                     ("nasbench1shot1-2", 93.967)):
    rows = table_search.of_1shot1(table, name)
    accuracy = table.columns["test_acc_108ep_mean"][rows]
    assert 100 * accuracy.max() == pytest.approx(best, abs=1e-3)
    genes = nasbench1shot1.all_genes(name)[accuracy.argmax()]
    assert table.find(nasbench1shot1.cell(name, genes)) in rows


def test_genes_of_nasbench101_are_read_as_cells(table):
  bits, labels = table_search._arrays(jnp.array([[1] * 21 + [0, 1, 2, 0, 1]]))
  np.testing.assert_array_equal(bits[0], np.triu(np.ones((7, 7)), 1))
  assert labels[0].tolist() == [1, 3, 4, 5, 3, 4, 2]


def test_unknown_names_are_refused():
  with pytest.raises(errors.InputError, match="'nasbench301' is unknown"):
    table_search.problem("nasbench301", "t")
  with pytest.raises(errors.InputError, match="method 'nat' is unknown"):
    table_search.search(None, SMALL, [0], "nat")


@pytest.mark.parametrize("method", table_search.METHODS)
def test_more_candidates_than_can_be_held_are_refused(method):
  with pytest.raises(errors.InputError, match="makes more than 10000000 cand"):
    table_search.search(None, dataclasses.replace(
        SMALL, population=1000, generations=5001), [0, 1], method)
