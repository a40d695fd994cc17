"""`natjax benchmark nasbench201`, end to end at sizes that teach nothing."""

import json

import numpy as np
import pytest

from natjax import zoo
from natjax.benchmarks import nasbench101, nasbench201, table_search
from natjax.graph import codec
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells201
from tests.benchmarks import test_nasbench101, test_nasbench_macro
from tests.cli.commands import run

TINY = ("--steps", 3, "--inputs", 2, "--samples", 2)
# What issue 3 asks for.
KEYS = {"gain_argmax", "gain_sample", "gain_best_of_10", "gain_oracle",
        "gain_random", "oracle_share", "cost_violations", "params_ratio",
        "entries_read", "seconds"}


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  rng = np.random.default_rng(0)
  params, madds = zoo.nasbench201.costs("cifar10")
  columns = {c: rng.uniform(10, 95, cells201.COUNT).round(2)
             for c in cells201.COLUMNS[:4]}
  path = tmp_path_factory.mktemp("table") / "table.csv"
  path.write_text(nasbench201.to_csv(nasbench201.Table(
      np.arange(cells201.COUNT, dtype=np.int32),
      {"cifar10": {**columns, "params": params, "flops_M": madds / 1e6}})))
  return path


@pytest.mark.long
def test_json(table):
  code, out, err = run(
      "benchmark", "nasbench201", "--table", table, "--policy", "published",
      "--method", "nat", "--train-fraction", 0.1, "--seed", 7, "--seeds", 2,
      "--json", *TINY)
  assert (code, err) == (0, "")
  report = json.loads(out)
  assert set(report) >= KEYS
  assert [s["seed"] for s in report["seeds"]] == [7, 8]
  for seed in report["seeds"]:
    assert seed["computations_trained"] == 493
    assert seed["computations_judged"] == 4930 - 493
    assert seed["inputs_trained"] + seed["inputs_judged"] == 15_625
  assert report["config"]["policy"] == "published"
  assert report["config"]["method"] == "nat"
  assert report["gain_oracle"] > report["gain_best_of_10"]
  assert report["cost_violations"] == 0 and report["seconds"] > 0


def test_text(table):
  code, out, err = run("benchmark", "nasbench201", "--table", table, *TINY,
                       "--features", 4)
  assert code == 0
  for part in ("the oracle", "best of 10", "0 cells came to cost more"):
    assert part in out
  assert "cells of 2465 of 4930 computations as inputs" in err


@pytest.mark.parametrize(("flags", "message"), [
    (("--dataset", "cifar100"), "it has cifar10"),
    (("--dataset", "mnist"), "cifar100"), (("--policy", "x"), "published"),
    (("--policy", "published", "--features", "4"), "--features"),
    (("--seeds", "0"), "--seeds"), (("--seed", "-1"), "--seed"),
    (("--method", "x"), "choose one of nat, natpp, evolution, random"),
    (("--train-fraction", "1.5"), "--train-fraction"),
    (("--focus", "given"), "focus is 'given' and must be general, since one"
     " policy serves all cells"),
    (("--focus", "general", "--steps", "0"), "steps is 0"),
    (("--focus", "general", "--method", "evolution"),
     "focus is general and does not apply to searching the table")])
def test_refusals_are_one_line(table, flags, message):
  code, out, err = run("benchmark", "nasbench201", "--table", table, *flags)
  assert code == 2 and out == ""
  assert err.count("\n") == 1 and message in err


def test_a_missing_or_damaged_table_is_refused(tmp_path):
  damaged = tmp_path / "t.csv.gz"
  damaged.write_bytes(b"\x1f\x8b\x08")
  for path in (damaged, tmp_path / "gone.csv", tmp_path):
    code, _, err = run("benchmark", "nasbench201", "--table", path)
    assert code == 2 and str(tmp_path) in err and err.count("\n") == 1


# Looking up.


ALL_1X1 = "|nor_conv_1x1~0|+|none~0|none~1|+|none~0|none~1|skip_connect~2|"


def test_cells_of_nasbench201_are_looked_up(table, tmp_path):
  own = tmp_path / "own.json"
  own.write_text(codec.to_json(zoo.nasbench201.from_string(ALL_1X1)))
  code, out, err = run("benchmark", "nasbench201", ALL_1X1, own, "--table",
                       table, "--json")
  assert (code, err) == (0, "")
  first, second = json.loads(out)
  assert first == second and first["architecture"] == ALL_1X1
  columns = nasbench201.read(table).of("cifar10")
  at = int(cells201.encode(cells201.to_array(cells201.from_string(ALL_1X1))))
  assert first["test_200ep"] == columns["test_200ep"][at]
  assert first["parameters"] == columns["params"][at]
  code, out, _ = run("benchmark", "nasbench201", "--table", table, ALL_1X1)
  assert code == 0 and f"{first['val_12ep']:.3f}" in out
  assert out.splitlines()[-1] == f"1: {ALL_1X1}"


def test_chains_and_cells_of_other_tables_are_looked_up(tmp_path, monkeypatch):
  path = tmp_path / "macro.json"
  path.write_text(json.dumps(test_nasbench_macro.invented()))
  code, out, err = run("benchmark", "nasbench-macro", "--table", path,
                       "00000000", "00000012", "--json")
  assert (code, err) == (0, "")
  assert [row["test"] for row in json.loads(out)] == [0.0, 0.05]
  own = tmp_path / "own.json"
  own.write_text(codec.to_json(zoo.nasbench_macro.network(
      np.array([2, 0, 1, 0, 0, 0, 0, 2]))))
  code, out, _ = run("benchmark", "nasbench-macro", own, "--table", path)
  assert code == 0 and "20100002" in out
  own.write_text(codec.to_json(zoo.get("resnet20")))
  code, out, err = run("benchmark", "nasbench-macro", own, "--table", path)
  assert code == 2 and "architecture 1: network 'resnet20' is none of" in err

  path = tmp_path / "small.npz"
  nasbench101.save(test_nasbench101.rows_of(*test_nasbench101.TEXTS), path)
  monkeypatch.setattr(cells101, "COUNT", 4)
  cell = tmp_path / "cell.json"
  cell.write_text(json.dumps({"matrix": [[0, 1, 0], [0, 0, 1], [0, 0, 0]],
                              "ops": ["input", cells101.OPERATIONS[0],
                                      "output"]}))
  code, out, err = run("benchmark", "nasbench101", "--table", path, cell, "#3",
                       test_nasbench101.TEXTS[2], "--json")
  assert (code, err) == (0, "")
  assert [row["row"] for row in json.loads(out)] == [1, 3, 2]
  assert json.loads(out)[1]["test_acc_108ep_mean"] == pytest.approx(90)


def test_what_a_search_found_is_looked_up_with_its_regret(
    tmp_path, monkeypatch):
  name, genes = "nasbench1shot1-1", np.array([2, 3, 9, 0, 1, 2, 0])
  network = zoo.nasbench1shot1.network(name, genes)
  text = cells101.to_text(zoo.nasbench1shot1.cell_of(network))
  path, own = tmp_path / "small.npz", tmp_path / "architecture.json"
  nasbench101.save(test_nasbench101.rows_of(
      text, *test_nasbench101.TEXTS[1:]), path)
  own.write_text(codec.to_json(network))
  monkeypatch.setattr(cells101, "COUNT", 4)
  monkeypatch.setattr(table_search, "of_1shot1",
                      lambda table, space: np.array([0, 2]))
  code, out, err = run("benchmark", name, own, "--table", path, "--json")
  assert (code, err) == (0, "")
  row, = json.loads(out)
  assert (row["architecture"], row["row"]) == (text, 0)
  assert row["test regret"] == pytest.approx(100 * (0.9 - 0.1) * 2 / 3)
  code, out, err = run("benchmark", name, test_nasbench101.TEXTS[1], "--table",
                       path)
  assert code == 2 and "architecture 1 is no cell of nasbench1shot1-1" in err
  own.write_text(codec.to_json(zoo.get("resnet20")))
  code, out, err = run("benchmark", "nasbench101", own, "--table", path)
  assert code == 2 and "architecture 1: network 'resnet20' is none of" in err
  own.write_text(codec.to_json(zoo.get("darts")))
  code, out, err = run("benchmark", "nasbench101", own, "--table", path)
  assert (code, out) == (2, "") and err.count("\n") == 1


@pytest.mark.parametrize("argv,message", [
    (("nasbench-macro", "2222"), "architecture 1: '2222' is no chain"),
    (("nasbench-macro", "00000000", "--steps", 3), "steps is 3 and does not"),
    (("nasbench201", ALL_1X1, "--seed", 1), "seed is 1 and does not apply"),
    (("nasbench-macro", "00000000", "--dataset", "cifar10"), "leave --dataset"),
    (("nasbench201", "darts"), "architecture 1: 'darts' is a genotype"),
    (("nasbench201", "resnet20"), "none of NAS-Bench-201"),
    (("nasbench301", "x"), "invalid choice")])
def test_lookups_that_are_refused(argv, message, table, tmp_path):
  path = table
  if argv[0] == "nasbench-macro":
    path = tmp_path / "macro.json"
    path.write_text(json.dumps(test_nasbench_macro.invented()))
  code, out, err = run("benchmark", *argv, "--table", path)
  assert (code, out) == (2, "")
  assert message in err and err.count("\n") == 1


@pytest.mark.parametrize("name", ["nasbench101", "nasbench-macro"])
def test_tables_of_other_benchmarks_are_refused(name, table):
  code, out, err = run("benchmark", name, "00000000", "--table", table)
  assert (code, out) == (2, "") and err.count("\n") == 1
  assert "--table" in err


# Policies of other benchmarks.


def test_the_policy_is_trained_on_chains(tmp_path):
  path = tmp_path / "macro.json"
  path.write_text(json.dumps(test_nasbench_macro.invented()))
  code, out, err = run("benchmark", "nasbench-macro", "--table", path, *TINY,
                       "--features", 4)
  assert code == 0 and "0 chains came to cost more" in out
  assert "chains of 1984 of 3969 computations as inputs" in err
  code, out, err = run("benchmark", "nasbench-macro", "--table", path,
                       "--policy", "published")
  assert (code, out) == (2, "") and err.count("\n") == 1
  assert "cells of nasbench201 alone" in err and "--policy" in err


@pytest.mark.parametrize("name", ["nasbench101", "nasbench1shot1-2"])
def test_benchmarks_without_transitions_have_no_policy(name, tmp_path):
  code, out, err = run("benchmark", name, "--method", "natpp", "--table",
                       tmp_path / "none.npz")
  assert (code, out) == (2, "") and err.count("\n") == 1
  assert f"of which {name} has none" in err and "--method" in err


# Searching a table.


def test_a_table_is_searched_by_evolution_and_at_random(table):
  found = {}
  for method in ("evolution", "random"):
    code, out, err = run(
        "benchmark", "nasbench201", "--table", table, "--method", method,
        "--seeds", 2, "--population", 8, "--generations", 2, *(
            ("--mutations", 4, "--crossovers", 2) * (method == "evolution")),
        "--json")
    assert (code, err) == (0, "")
    found[method] = json.loads(out)
    assert [row["seed"] for row in found[method]["seeds"]] == [0, 1]
    assert all(row["evaluated"] == 16 for row in found[method]["seeds"])
  assert found["random"]["config"]["population"] == 8
  first = found["evolution"]["seeds"][0]
  code, out, _ = run("benchmark", "nasbench201", first["architecture"],
                     "--table", table, "--json")
  assert json.loads(out)[0]["val_200ep"] == first["score"]
  assert json.loads(out)[0]["test_200ep"] == first["test"]


@pytest.mark.parametrize("argv,message", [
    (("nasbench201", "--population", 3), "does not apply to training"),
    (("nasbench201", "--method", "evolution", "--steps", 3), "steps is 3"),
    (("nasbench201", "--method", "evolution", "--population", 3),
     "mutations is 25 and with 25 mutations"),
    (("nasbench201", "--method", "random", "--population", 3, "--mutations", 1),
     "mutations is 1 and does not apply"),
    (("nasbench1shot1-1", "--method", "nat"),
     "of which nasbench1shot1-1 has none")])
def test_searches_that_are_refused(argv, message, table):
  code, out, err = run("benchmark", *argv, "--table", table)
  assert (code, out) == (2, "")
  assert message in err and err.count("\n") == 1
