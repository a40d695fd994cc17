"""Smoke of the experiment on replacement; nothing of accuracy."""

import importlib
import json

from natjax.costs import exact
from natjax.graph import codec, records
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "replacement.py"


def test_smoke_trains_replaces_and_records(tmp_path):
  done = scripts.run(SCRIPT, *scripts.flags(tmp_path))
  assert done.returncode == 0, done.stderr
  folder = tmp_path / "run"
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row = result["datasets"]["digits"]["resnet20"]
  assert row["returned"]["madds"] <= 0.5 * row["original"]["madds"]
  for seed in row["seeds"]:
    trained = json.loads((folder / "digits" / "resnet20" / "replaced" /
                          "networks" / f"transformed-{seed['seed']}" /
                          "result.json").read_text())
    cost = exact.network(codec.from_dict(trained["architecture"]),
                         records.Frame(10, 8))
    assert cost[:2] == (seed["params"], seed["madds"])
  assert len(row["scratch"]["accuracies"]) == 2
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| resnet20 |", "replacement.py --preset smoke", "CPU cores"):
    assert part in text
  again = scripts.run(SCRIPT, *scripts.flags(tmp_path))
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout


def test_the_interval_is_students(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  paired = importlib.import_module("recording").paired
  assert paired([0.5, 0.5], [0.52, 0.52]) == "+2.00 ± 0.00"
  # Differences of 1 and 3 points: deviation sqrt(2), t of one degree 12.706.
  assert paired([0.5, 0.5], [0.51, 0.53]) == "+2.00 ± 12.71"
  assert paired([0.5], [0.51]) == "+1.00"
