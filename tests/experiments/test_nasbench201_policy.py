"""Smoke of the experiment on NAS-Bench-201: every group, figures, tables."""

import importlib
import json

import numpy as np
import pytest

from natjax import zoo
from natjax.benchmarks import nasbench201
from natjax.graph import nasbench201 as cells201
from tests.experiments import scripts


@pytest.fixture(scope="module")
def script():
  with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(str(scripts.EXPERIMENTS))
    yield importlib.import_module("nasbench201_policy")


@pytest.fixture
def table_file(tmp_path):
  rng = np.random.default_rng(0)
  params, madds = zoo.nasbench201.costs("cifar10")
  columns = {c: rng.uniform(10, 95, cells201.COUNT).round(2)
             for c in cells201.COLUMNS[:4]}
  path = tmp_path / "table.csv"
  path.write_text(nasbench201.to_csv(nasbench201.Table(
      np.arange(cells201.COUNT, dtype=np.int32),
      {"cifar10": {**columns, "params": params, "flops_M": madds / 1e6}})))
  return path


def test_plan_has_the_papers_settings(script):
  runs = list(script.plan(
      script.PRESETS["paper"], script.GROUPS, script.NAMES))
  labels = lambda group: [label for g, label, c in runs
                          if g == group and c.method == "natpp"]
  assert labels("layers") == ["1", "2", "5", "10"]
  assert labels("lambda") == ["0.0003", "0.003", "0.03", "0.3", "3"]
  assert labels("m") == labels("n") == ["1", "5", "10", "30"]
  assert labels("fraction") == ["0.5", "0.1", "0.01"]
  assert {c.policy for _, _, c in runs} == {"default", "published"}
  assert {c.method for _, _, c in runs} == {"nat", "natpp"}
  small = list(script.plan(
      script.PRESETS["small"], script.GROUPS, script.NAMES))
  assert [r[:2] for r in small] == [r[:2] for r in runs]


@pytest.mark.long
def test_smoke_writes_results_pictures_and_a_report(
    script, table_file, tmp_path, monkeypatch, capsys):
  out = tmp_path / "out"
  argv = ["--table", str(table_file), "--out", str(out), "--preset", "smoke",
          "--groups", "policy", "fraction", "--methods", "natpp"]
  # F = 0.5 is what the group before ran: it is not run again.
  kept = {"0.5": script.GROUPS["fraction"].settings["0.5"]}
  monkeypatch.setitem(script.GROUPS, "fraction",
                      script.GROUPS["fraction"]._replace(settings=kept))
  real, trained = script.run, []
  monkeypatch.setattr(script, "run", lambda config, *rest: (
      trained.append(config), real(config, *rest))[1])
  script.main(argv)
  results = json.loads((out / "results.json").read_text())
  assert [(r["group"], r["label"]) for r in results["runs"]] == [
      ("policy", "default"), ("policy", "published"), ("fraction", "0.5")]
  assert results["runs"][2]["seconds"] == results["runs"][0]["seconds"]
  assert all(len(r["seeds"]) == 2 for r in results["runs"])
  report = (out / "README.md").read_text()
  assert "--preset smoke" in report and "jax" in report
  for run in results["runs"]:
    assert f"{run['gain_argmax']:+.2f} ±" in report
  for name in ("policy.svg", "fraction.svg"):
    assert (out / name).read_text().startswith("<?xml")
    assert name in report
  # What is done is not run again.
  count = len(trained)
  (out / "README.md").unlink()
  script.main(argv)
  assert len(trained) == count == 2
  assert "policy default" in capsys.readouterr().out
