"""Smoke of the experiment on NAS-Bench-201: every group, figures, tables."""

import importlib
import json

import numpy as np
import pytest

from natjax import errors, zoo
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


def flags(folder, table, *more):
  return [*map(str, scripts.flags(folder, "--table", table)), "--groups",
          "policy", "fraction", "--methods", "natpp", *map(str, more)]


@pytest.fixture
def short(script, monkeypatch):
  """Leaves one setting of the second group, which the first one has, too."""
  kept = {"0.5": script.GROUPS["fraction"].settings["0.5"]}
  monkeypatch.setitem(script.GROUPS, "fraction",
                      script.GROUPS["fraction"]._replace(settings=kept))


@pytest.mark.long
def test_smoke_writes_results_pictures_and_a_report(
    script, short, table_file, tmp_path, monkeypatch, capsys):
  argv, out = flags(tmp_path, table_file), tmp_path / "report"
  real, trained = script.run, []

  def run(config, *rest):
    trained.append(config.policy)
    if trained == ["default", "published"]:
      raise ValueError("broken")
    return real(config, *rest)

  monkeypatch.setattr(script, "run", run)
  with pytest.raises(SystemExit):
    script.main(argv)
  results = json.loads((out / "results.json").read_text())
  assert [(r["group"], r["label"]) for r in results["runs"]] == [
      ("policy", "default"), ("fraction", "0.5")]
  text = "Missing: policy published natpp (ValueError: broken)."
  assert text in (out / "README.md").read_text()
  script.main(argv)  # What is done is not run again.
  assert trained == ["default", "published", "published"]
  results = json.loads((out / "results.json").read_text())
  assert [(r["group"], r["label"]) for r in results["runs"]] == [
      ("policy", "default"), ("policy", "published"), ("fraction", "0.5")]
  assert results["runs"][2]["seconds"] == results["runs"][0]["seconds"]
  assert all(len(r["seeds"]) == 2 for r in results["runs"])
  report = (out / "README.md").read_text()
  assert "--preset smoke" in report and "jax" in report
  assert "Missing" not in report
  for one in results["runs"]:
    assert f"{one['gain_argmax']:+.2f} ±" in report
  for name in ("policy.svg", "fraction.svg"):
    assert (out / name).read_text().startswith("<?xml")
    assert name in report
  capsys.readouterr()
  # Nor what an earlier record has.
  other = tmp_path / "other"
  other.mkdir()
  script.main([*flags(other, table_file), "--earlier", str(out)])
  assert len(trained) == 3
  assert "policy default" in capsys.readouterr().out
  assert json.loads((other / "report" / "results.json").read_text())[
      "runs"] == results["runs"]


@pytest.mark.long
def test_a_setting_is_a_job(script, short, table_file, tmp_path, monkeypatch):
  trained = []
  monkeypatch.setattr(script, "run", lambda config, *rest: (
      trained.append(config.policy)))
  monkeypatch.setattr(script.sweeps.sweep_jobs, "PART",
                      "policy published natpp")
  with pytest.raises(SystemExit) as end:
    script.main(flags(tmp_path, table_file))
  assert not end.value.code and trained == ["published"]
  assert not (tmp_path / "report").exists()


def test_the_recorded_settings_are_those_of_the_preset(script):
  folder = scripts.EXPERIMENTS / "results" / "nasbench201_policy"
  found, preset = script.earlier(folder), script.PRESETS["small"]
  assert {f"{config!r}/{preset.seeds}" for *_, config in script.plan(
      preset, script.GROUPS, script.NAMES)} == {*found}


@pytest.mark.parametrize("text", [None, "[]", "{", '{"runs": [{"key": "a"}]}'])
def test_what_is_no_record_is_one_line(script, table_file, tmp_path, text):
  if text is not None:
    (tmp_path / "results.json").write_text(text)
  with pytest.raises(errors.InputError, match="is no record") as error:
    script.main(flags(tmp_path, table_file, "--earlier", tmp_path))
  assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
