"""Smoke of the self-supervised experiment; nothing of accuracy."""

import json

import pytest

from tests.experiments import scripts


@pytest.mark.long
def test_compares_and_records(tmp_path):
  done = scripts.run("-c", scripts.UNTRAINED, "self_supervised",
                     *scripts.flags(tmp_path))
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row = result["networks"]["resnet50"]
  assert 0 <= row["original"]["linear_accuracy"] <= 1
  assert 0 <= row["transformed"]["accuracy"] <= 1
  assert row["transformed"]["params"] <= row["original"]["params"]
  assert "original-0" in done.stdout and "theta-0" in done.stdout
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| resnet50 | original |", "with theta", "86.8",
               "self_supervised.py --preset smoke", "jax 0."):
    assert part in text
