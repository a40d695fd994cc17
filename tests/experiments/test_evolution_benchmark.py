"""The benchmark of evolution over a table, at sizes that say nothing."""

import json
import os
import pathlib
import subprocess
import sys

from tests.benchmarks import test_nasbench_macro

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "evolution.py"


def test_both_sides_score_as_many_and_find_the_best(tmp_path):
  table, figures = tmp_path / "table.json", tmp_path / "figures.json"
  report = tmp_path / "README.md"
  table.write_text(json.dumps(test_nasbench_macro.invented()))
  path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  done = subprocess.run(
      [sys.executable, "-W", "error", str(SCRIPT), "--nasbench-macro",
       str(table), "--seeds", "3", "--rounds", "1", "--json", str(figures),
       "--report", str(report)], cwd=ROOT, capture_output=True, text=True,
      check=False, env={**os.environ, "PYTHONPATH": path})
  assert done.returncode == 0, done.stderr
  found = json.loads(figures.read_text())["nasbench-macro"]
  assert found["candidates"] == 6561 and found["seeds"] == 3
  for side in found["sides"].values():
    assert len(side["per_second"]) == 1 and side["per_second"][0] > 0
    # The best stand beside each other in the invented table.
    assert all(regret < 2 for regret in side["regret"])
  for part in ("| natjax, many seeds |", ">= 20: ", "nasbench-macro, 6561"):
    assert part in done.stdout and part in report.read_text()
  assert str(table) not in report.read_text()
