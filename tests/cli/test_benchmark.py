"""`natjax benchmark nasbench201`, end to end at sizes that teach nothing."""

import contextlib
import io
import json

import numpy as np
import pytest

from natjax import cli, zoo
from natjax.benchmarks import nasbench201
from natjax.graph import nasbench201 as cells201

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


def run(*argv):
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = cli.main([str(a) for a in argv])
  return code, out.getvalue(), err.getvalue()


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
    (("--train-fraction", "1.5"), "--train-fraction")])
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
