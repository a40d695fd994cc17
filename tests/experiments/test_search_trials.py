"""Smoke of the trials of search settings, against a table that is made up."""

import dataclasses
import importlib
import json

import pytest

from natjax import errors
from natjax.methods import nat_config
from tests.experiments import scripts
from tests.experiments import test_nasbench201_supernet as judge

table = judge.table


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  return importlib.import_module("search_trials")


@pytest.mark.slow
def test_smoke_looks_up_what_is_returned(script, table, tmp_path, capsys):
  argv = judge.flags(tmp_path, table)
  script.main([*argv, "--trials", "as it is"])
  text = (tmp_path / "report" / "README.md").read_text()
  assert "Not run: lambda 0.03." in text
  script.main(argv)
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert list(result["trials"]) == ["as it is", "lambda 0.03"]
  for rows in result["trials"].values():
    assert [row["seed"] for row in rows] == [0, 1]
    for row in rows:
      assert -1 <= row["tau"] <= 1 and row["gain"] <= row["oracle"]
  text = (tmp_path / "report" / "README.md").read_text()
  assert "| lambda 0.03 |" in text and "Not run" not in text


def test_all_trials_can_be_run(script):
  config = script.PRESETS["small"]
  for changes in config.trials.values():
    found = nat_config.resolve(
        dataclasses.replace(config.search, **changes), "blocks")
    assert found.epochs > found.policy_epochs


def test_a_share_is_of_the_oracles_gain(script):
  rows = [{"gain": 1.0, "oracle": 2.0, "seed": 0},
          {"gain": -1.0, "oracle": 2.0, "seed": 1}]
  assert script.share(rows) == 0.0
  assert script.by_seed(rows, "gain") == [1.0, -1.0]


def test_refuses(script, table, tmp_path):
  with pytest.raises(errors.InputError, match="trial"):
    script.main(judge.flags(tmp_path, table, "--trials", "nothing"))
