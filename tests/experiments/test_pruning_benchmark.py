"""The benchmark of whole commands that prune; nothing of it is timed here."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "pruning.py"


def run(*args, wanted=0):
  """Runs Python in a process of its own; what it printed."""
  path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  result = subprocess.run(
      [sys.executable, "-W", "error", *args], cwd=ROOT, capture_output=True,
      text=True, check=False, env={**os.environ, "PYTHONPATH": path})
  assert result.returncode == wanted, result.stderr
  return result.stdout


def test_the_tables_follow_from_the_figures_and_absent_tools_are_named(
    tmp_path):
  side = lambda cpu, accuracy, madds, **more: {
      "cpu_seconds": cpu, "seconds": 2 * cpu, "original": 0.99,
      "accuracy": accuracy, "madds": madds, **more}
  time = {"compile": 3.0, "search": 1.0}
  figures, report = tmp_path / "figures.json", tmp_path / "README.md"
  figures.write_text(json.dumps({"share 0.5, epochs 15, rounds 1": {
      "natjax, cold": {"0": side(30.0, 0.98, 0.49, time=time),
                       "1": side(50.0, 0.96, 0.5, time=time)},
      "natjax, warm": {"0": side(9.0, 0.98, 0.49, time=time),
                       "1": side(11.0, 0.96, 0.5, time=time)},
      "fastnas": {"0": side(20.0, 0.97, 0.4), "1": side(20.0, 0.97, 0.4)}}}))
  out = run(str(SCRIPT), "--seeds", "2", "--threads", "1", "--json",
            str(figures), "--report", str(report), "--peer-python",
            sys.executable)
  for part in (
      "left out: fastnas", "left out: torch-pruning",
      "| natjax, cold | 2     | 40.0  | 80.0 | 2.00          | <= 2: met ",
      "| natjax, warm | 2     | 10.0  | 20.0 | 0.50          | <= 0.7: met ",
      "97.00 ± 1.41", "| 0.500 ", "| natjax, cold | 3.0       | 1.0 "):
    assert part in out
    assert part in report.read_text()


def test_no_report_names_the_tools_paths():
  out = run("-c", "import pruning; print(pruning.command_of(["
            "'--peer-python', '/a/b', '--peer-python=/c']))")
  assert out == ("python experiments/benchmarks/pruning.py --peer-python PEERS"
                 " --peer-python=PEERS\n")


def test_the_tools_network_is_natjaxs():
  pytest.importorskip("torch")
  out = run("-c", "import pruning_peers as p, torch; m = p.resnet20();"
            "print(sum(x.numel() for x in m.parameters()),"
            "p.madds(m, torch.zeros(1, 3, 8, 8)))")
  from natjax import zoo
  from natjax.costs import exact
  from natjax.graph import records
  cost = exact.network(zoo.get("resnet20"), records.Frame(10, 8))
  assert out == f"{cost.params} {cost.madds}\n"
