"""The benchmark of ranking; a smoke."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "ranking.py"


@pytest.mark.slow
def test_both_sides_are_timed(tmp_path):
  figures, report = tmp_path / "figures.json", tmp_path / "README.md"
  report.write_text("# Benchmarks\n")
  done = subprocess.run(
      [sys.executable, str(SCRIPT), "--cells", "16", "--images", "256",
       "--image-size", "8", "--width", "0.25", "--rounds", "1", "--json",
       str(figures), "--report", str(report)], cwd=ROOT, capture_output=True,
      text=True, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
  assert done.returncode == 0, done.stderr
  seconds = json.loads(figures.read_text())["seconds"]
  assert {name: len(of) for name, of in seconds.items()} == {
      "ranking": 1, "evaluation": 1}
  assert "## Ranking by a supernet" in report.read_text()
