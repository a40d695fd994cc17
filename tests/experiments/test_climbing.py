"""Smoke of the experiment on climbing; nothing of accuracy."""

import json

import pytest

from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "climbing.py"


@pytest.mark.long
def test_smoke_climbs_trains_and_records(tmp_path):
  flags = scripts.flags(tmp_path)
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row = result["datasets"]["digits"]["r1"]
  assert 0 < row["evaluated"] <= 8
  assert row["naswot"][1] >= row["naswot"][0]
  assert bool(row["steps"]) == bool(row["changes"])
  assert row["climbed"]["madds"] <= row["original"]["madds"]
  assert len(row["climbed"]["accuracies"]) == 2
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| r1 |", "climbing.py --preset smoke", "CPU cores"):
    assert part in text
  again = scripts.run(SCRIPT, *flags)
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout
