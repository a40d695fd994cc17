"""Smoke of the zero-cost scores on NAS-Bench-201, with a made-up table."""

import importlib
import json

import numpy as np
import pytest

from natjax import errors, zoo
from natjax.benchmarks import nasbench201
from natjax.graph import nasbench201 as cells
from tests.experiments import scripts


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  return importlib.import_module("nasbench201_zero_cost")


@pytest.fixture(scope="module")
def table():
  """Accuracies by code, so that a cell is known by what it reaches."""
  params, madds = zoo.nasbench201.costs("cifar10")
  code = np.arange(cells.COUNT, dtype=np.float64)
  one = {**dict.fromkeys(cells.COLUMNS[:4], code / 200), "params": params,
         "flops_M": madds / 1e6}
  return nasbench201.Table(
      np.arange(cells.COUNT, dtype=np.int32), {"cifar10": one})


def flags(folder, table, *more):
  path = folder / "table.csv"
  path.write_text(nasbench201.to_csv(table))
  return [*map(str, scripts.flags(folder, "--table", path)), *more]


@pytest.mark.long
def test_smoke_ranks_searches_and_runs_nothing_again(
    script, table, tmp_path, monkeypatch):
  config = script.PRESETS["smoke"]
  codes = np.random.default_rng([0, 200]).choice(
      cells.COUNT, config.ranked, replace=False).tolist()
  (tmp_path / "other").mkdir()
  record = {"codes": codes, "tau": 0.25, "tau_better_half": -0.5}
  (tmp_path / "other" / "result.json").write_text(
      json.dumps({"taus": [{"codes": []}, record]}))
  argv = flags(tmp_path, table, "--supernet", str(tmp_path / "other"))
  whole = script.known_truth.network

  def shorter(names, repeats):  # One cell, of five blocks to compile.
    found = whole(names, repeats)
    return found._replace(blocks=found.blocks[:1])

  monkeypatch.setattr(script.known_truth, "network", shorter)
  script.main(argv)
  path = tmp_path / "report" / "result.json"
  result = json.loads(path.read_text())
  assert result["codes"] == codes
  assert result["beside"]["supernet"] == {"tau": 0.25, "tau_better_half": -0.5}
  for name in script.TITLES:
    part = result["ranked"][name]
    scores = np.array([script.values(row) for row in part["scores"]])
    assert scores.shape == (config.ranked, config.draws)
    assert len({*scores[np.isfinite(scores)]}) > config.ranked
    for column, draw in zip(scores.T, part["draws"], strict=True):
      assert draw == script.taus(column, np.array(codes) / 200)
    found, = result["evolution"][name]
    best = int(np.argmax(script.values(found["scores"])))
    assert found["code"] == found["candidates"][best]
    assert found["accuracy"] == pytest.approx(found["code"] / 200)
    assert found["best"] == pytest.approx(max(found["candidates"]) / 200)
    assert len(found["candidates"]) == len({*found["candidates"]}) == 4
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| NASWOT |", "| SynFlow |", "| parameters |", "--table TABLE",
               "| supernet of the whole space | 0.25 | -0.50 |", "jax 0."):
    assert part in text

  def not_again(*args):
    raise AssertionError("scored again")

  monkeypatch.setattr(script.Scores, "score", not_again)
  script.main(argv)
  again = json.loads(path.read_text())
  assert again["ranked"] == result["ranked"]
  assert again["evolution"] == result["evolution"]


def test_what_has_no_score_ranks_last(script):
  scores = script.values([None, 1.0, 2.0])
  assert script.finite(scores) == [None, 1.0, 2.0]
  assert script.taus(scores, np.array([10.0, 20.0, 30.0]))["tau"] == 1.0


def test_refuses_a_supernet_of_other_cells(script, table, tmp_path):
  (tmp_path / "result.json").write_text(json.dumps({"taus": [{"codes": [1]}]}))
  with pytest.raises(errors.InputError, match="ordered 1 other cells"):
    script.main(flags(tmp_path, table, "--supernet", str(tmp_path)))
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_presets_rank_the_cells_of_the_supernet(script, preset):
  other = importlib.import_module("nasbench201_supernet").PRESETS["small"]
  config = script.PRESETS[preset]
  assert config.ranked >= other.ranked and config.seed == other.seed == 0
