"""Smoke of the benchmark of searches, at sizes that say nothing about speed."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "search.py"
TINY = ("--init-channels", "2", "--cells", "1", "--image-size", "8",
        "--batch-size", "4", "--rounds", "2", "--steps", "1", "--threads", "1")
FLAGS = os.environ["XLA_FLAGS"]  # Of `conftest`: compiles faster.


def run(*args):
  """Runs Python in a process of its own; what it printed."""
  path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  result = subprocess.run(
      [sys.executable, "-W", "error", *args], cwd=ROOT, capture_output=True,
      text=True, check=False,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu",
           "XLA_FLAGS": FLAGS})
  assert result.returncode == 0, result.stderr
  return result.stdout


@pytest.mark.slow
def test_a_row_of_ones_own_is_measured(tmp_path):
  report, figures = tmp_path / "README.md", tmp_path / "figures.json"
  out = run(str(SCRIPT), *TINY, "--skip-torch", "--rows", "--row", "mine",
            "nat", '{"samples": 2}', "--report", str(report), "--json",
            str(figures))
  for part in ("## Search, CPU, float32", "| mine ", "temporaries MB",
               "| second start | process, imports s",
               "2 rounds of 1 iterations", "1 threads"):
    assert part in out
    assert part in report.read_text()
  (name, side), = json.loads(figures.read_text())["sides"].items()
  assert name == "mine"
  assert len(side["seconds"]) == len(side["cpu_seconds"]) == 2
  assert min(side["seconds"]) > 0
  assert side["peak_mb"] > side["imported_mb"] > 0
  assert side["compile_seconds"] < side["cold"]["compile_seconds"]
  assert side["cold"]["temporaries_mb"] > 0
  parts = [side[f"{name}_seconds"] for name in (
      "plan", "init", "lower", "compile", "step")]
  assert min(parts) > 0 and sum(parts) < side["first_seconds"]
  assert 0 < side["trace_seconds"] < side["lower_seconds"]


def test_no_report_names_the_machines_paths():
  out = run("-c", "import search; print(search.command_of(["
            "'--torch-python', '/a/b', '--rounds', '1', '--torch-python=/c']))")
  assert out == ("python experiments/benchmarks/search.py --torch-python TORCH"
                 " --rounds 1 --torch-python=TORCH\n")


def test_what_the_library_lacks_is_said():
  out = run("-c", "import search_sides as s;"
            "print(*(s.lacks(s.Row('a', m)) for m in ('nat', 'unheard')),"
            "sep=';')")
  assert out == ";there is no method 'unheard'\n"


def test_pytorchs_network_is_the_published_one():
  pytest.importorskip("torch")
  out = run("-c", "import torch_darts; print(torch_darts.check())")
  assert out == "1930618\n"
