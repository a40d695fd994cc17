"""The benchmark of the input, and the script that is killed; smokes."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

pytest.importorskip("grain", reason="needs grain, of the extra `data`")
ROOT = pathlib.Path(__file__).parents[2]


def run(script, *args):
  done = subprocess.run(
      [sys.executable, str(ROOT / "experiments" / script), *map(str, args)],
      cwd=ROOT, capture_output=True, text=True, check=False,
      env={**os.environ, "PYTHONPATH": str(ROOT)})
  assert done.returncode == 0, done.stderr[-3000:]
  return done.stdout


@pytest.mark.slow
def test_all_sides_are_timed(tmp_path):
  figures, report = tmp_path / "figures.json", tmp_path / "README.md"
  report.write_text("# Benchmarks\n")
  run("benchmarks/input.py", "--images", 12, "--round-images", 8, "--rounds", 1,
      "--image-size", 16, "--batch-size", 4, "--workers", 1, "--json", figures,
      "--report", report, "--folder", tmp_path / "jpegs")
  found = json.loads(figures.read_text())
  assert [*found] == ["threads", "workers", "whole"]
  for side in found.values():
    assert len(side["images_per_second"]) == 1 and side["peak_mb"] > 10
  assert "| threads " in report.read_text()
  assert len([*(tmp_path / "jpegs").glob("*/*.jpg")]) == 12


@pytest.mark.slow
def test_a_killed_run_ends_in_the_same_bits(tmp_path):
  run("streaming.py", "--out", tmp_path, "--images", 300, "--image-size", 16,
      "--width", 0.125, "--batch-size", 8)
  found = json.loads((tmp_path / "result.json").read_text())
  assert found["same_bits"]
  assert max(found["peak_mb"].values()) <= 2000
