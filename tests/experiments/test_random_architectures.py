"""Smoke of the random architectures, at sizes that say nothing of accuracy."""

import importlib
import json
import types

import numpy as np
import pytest

from natjax.costs import exact as cost
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "random_architectures.py"
KINDS = ("original", "nat", "natpp", "random")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  pytest.importorskip("matplotlib")
  folder = tmp_path_factory.mktemp("random")
  done = scripts.run(SCRIPT, *scripts.flags(folder))
  assert done.returncode == 0, done.stderr
  return folder


def result_of(folder):
  return json.loads((folder / "report" / "result.json").read_text())


@pytest.mark.long
def test_every_network_is_trained_and_costed(finished):
  result = result_of(finished)
  train = result["config"]["train"]
  place = skeleton.Skeleton("cifar", train["init_channels"], train["cells"],
                            10, result["config"]["image_size"])
  assert len(result["architectures"]) == result["config"]["architectures"] == 2
  for row in result["architectures"]:
    assert set(row) == set(KINDS)
    for kind in KINDS:
      genotype = architecture.from_dict(row[kind]["architecture"])
      assert cost.network(genotype, place)[:2] == (
          row[kind]["params"], row[kind]["madds"])
      assert row[kind]["params"] <= row["original"]["params"]
      assert row[kind]["madds"] <= row["original"]["madds"]
      assert 0 <= row[kind]["accuracy"] <= 1
      assert len(row[kind]["curve"]) == train["epochs"]
      same = row[kind]["architecture"] == row["original"]["architecture"]
      assert same == (row[kind]["network"] == row["original"]["network"])


@pytest.mark.long
def test_the_summary_is_the_mean_and_deviation(finished):
  result = result_of(finished)
  for kind in KINDS:
    values = [row[kind]["accuracy"] for row in result["architectures"]]
    gains = [row[kind]["accuracy"] - row["original"]["accuracy"]
             for row in result["architectures"]]
    summary = result["summary"][kind]
    np.testing.assert_allclose(summary["accuracy"], np.mean(values))
    np.testing.assert_allclose(summary["accuracy_std"], np.std(values, ddof=1))
    np.testing.assert_allclose(summary["accuracy_gain"], np.mean(gains),
                               atol=1e-12)
  assert result["summary"]["original"]["changed"] == 0


@pytest.mark.long
def test_the_record_names_command_and_versions(finished):
  names = {path.name for path in (finished / "report").iterdir()}
  assert names == {"README.md", "result.json", "accuracy.svg", "accuracy.png",
                   "convergence.svg", "convergence.png"}
  text = (finished / "report" / "README.md").read_text()
  for part in ("random_architectures.py --preset smoke", "jax 0.",
               "CPU cores", "| NAT++ |", "| random transitions |"):
    assert part in text


@pytest.mark.long
def test_finished_parts_are_not_run_again(finished):
  path = finished / "run" / "networks" / "1-original" / "result.json"
  network = json.loads(path.read_text())
  path.write_text(json.dumps({**network, "accuracy": 0.625}))
  again = scripts.run(SCRIPT, "--preset", "smoke", "--out", finished / "run",
                      "--report", finished / "again")
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout
  rows = json.loads((finished / "again" / "result.json").read_text())
  assert rows["architectures"][1]["original"]["accuracy"] == 0.625
  path.write_text(json.dumps(network))


def test_an_architecture_counts_once_all_of_it_is_trained(
    tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  experiment = importlib.import_module("random_architectures").Experiment
  found = dict(zip(KINDS, ("ab", "ac", "db", "ab"), strict=True))
  self = types.SimpleNamespace(
      config=types.SimpleNamespace(architectures=2), out=tmp_path,
      train_one=print, transformed=lambda sweep: found)
  trained = []

  def run(parts):
    trained.extend(part.name for part in parts)
    return {name: name for name in trained if name != "1-nat"}

  sweep = types.SimpleNamespace(run=run)
  assert experiment.train_all(self, sweep) == [dict(zip(KINDS, (
      "0-original", "0-original", "0-natpp", "0-original"), strict=True))]
  assert trained == ["0-original", "0-natpp", "1-original", "1-nat"]
  del found["nat"]  # Which names would change by.
  assert experiment.train_all(self, sweep) == []


@pytest.mark.long
@pytest.mark.parametrize("args,message", [
    (["--seed", "1"], "another configuration (seed differ)"),
    (["--architectures", "0"], "argument --architectures: 0 is too few"),
])
def test_refuses(finished, args, message):
  done = scripts.run(SCRIPT, *scripts.flags(finished, *args))
  assert done.returncode == 2
  assert message in done.stderr and len(done.stderr.splitlines()) == 1
