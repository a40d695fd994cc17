"""The benchmark of whole commands; smoke of the quickest of them."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "wall.py"


def run(*args, given=""):
  """Runs Python in a process of its own; what it printed."""
  path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  result = subprocess.run(
      [sys.executable, "-W", "error", *map(str, args)], cwd=ROOT,
      capture_output=True, text=True, check=False, input=given,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"})
  assert result.returncode == 0, result.stderr
  return result.stdout


# What is imported takes longer than all else, so that it is so but once.
TABLES = """
import json, pathlib, sys, wall
flags, figures, kept = sys.argv[2:], pathlib.Path(sys.argv[1]), sys.stdin.read()
wall.main(flags)  # Nothing begins, and nothing is known.
assert not figures.exists()
print("then")
figures.write_text(json.dumps({wall.key_of(wall.parse(flags)): json.loads(kept)
                               }))
wall.main(flags)
print("demo", *wall.demo_of(pathlib.Path()))
print(wall.command_of(["--before", "/a/b", "--table=/c", "--rounds", "2"]))
"""


def test_the_tables_follow_from_the_figures(tmp_path):
  side = lambda seconds, **more: {
      "seconds": seconds, "cpu_seconds": 2 * seconds, "peak_bytes": 2**20,
      **more}
  answer = {"original": 0.9, "accuracy": 0.95, "left": 0.5}
  time = {"compile": 3.0, "search": 1.0}
  figures, report = tmp_path / "figures.json", tmp_path / "README.md"
  out = run("-c", TABLES, figures, "--before", ROOT, "--preset", "smoke",
            "--commands", "import", "natpp", "--minutes", "0", "--json",
            figures, "--report", report, "--title", "Wall", given=json.dumps({
                "natpp": {
                    "before": {"cold": [side(100.0), side(300.0), side(200.0)],
                               "warm": [side(80.0)]},
                    "after": {"cold": [side(50.0, **answer, time=time)],
                              "warm": [side(40.0, **answer, time=time)]}}}))
  before, _, after = out.partition("then\n")
  assert "not run yet: import, natpp" in before
  for part in (
      "| natpp   | cold  | 200.0    | 50.0    | 0.25  | <= 0.5: met ",
      "| natpp   | warm  | 80.0     | 40.0    | 0.50  | <= 0.25: missed ",
      "| natpp   | after | 90.00      | 95.00      | 0.500 ",
      "| natpp   | after | cold  | 3.0       | 1.0 ", "not run yet: import\n"):
    assert part in after
    assert part in report.read_text()
  *_, demo, command = out.splitlines()
  assert demo.startswith("demo transform ") and "--preset" in demo
  assert "--out" not in demo and "$(OUT)" not in demo
  assert command == ("python experiments/benchmarks/wall.py --before BEFORE"
                     " --table=TABLE --rounds 2")


@pytest.mark.slow  # Eight processes.
def test_commands_alternate_and_a_later_call_goes_on(tmp_path):
  figures = tmp_path / "figures.json"
  out = run("-c", "import sys, wall; wall.main(sys.argv[1:]); print('then');"
            "wall.main(sys.argv[1:])", "--before", ROOT, "--commands",
            "import", "--json", figures)
  first, _, again = out.partition("then\n")
  lines = [line.split(": {")[0] for line in first.splitlines()
           if line.startswith("import, ")]
  assert lines == ["import, before, cold", "import, after, cold",
                   "import, before, warm", "import, after, warm"]
  kept, = json.loads(figures.read_text()).values()
  for caches in kept["import"].values():
    for row, in caches.values():
      assert row["seconds"] > 0 < row["cpu_seconds"]
      assert row["peak_bytes"] > 2**22
  assert "import, before" not in again and "not run yet" not in again
