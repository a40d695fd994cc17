"""Smoke of the benchmark that compares two checkouts: this one with itself."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "versions.py"


@pytest.mark.slow
def test_a_checkout_is_compared_with_itself(tmp_path):
  report = tmp_path / "README.md"
  result = subprocess.run(
      [sys.executable, str(SCRIPT), "--before", str(ROOT), "--small",
       "--programs", "resnet20 w half-step", "policy", "--compilations", "1",
       "--rounds", "1", "--steps", "1", "--report", str(report)],
      cwd=tmp_path, capture_output=True, text=True, check=False,
      env={**os.environ, "JAX_PLATFORMS": "cpu"})
  assert result.returncode == 0, result.stderr
  rows = [line.split(" | ") for line in report.read_text().splitlines()
          if line.startswith(("| resnet20 w half-step", "| policy"))]
  assert len(rows) == 2
  for row in rows:  # One program: the same temporaries.
    assert row[6].startswith("1.00 [1.00, 1.00] met")
