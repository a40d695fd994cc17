"""Smoke of benchmarks with processes, at sizes that say nothing."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "benchmarks"
TINY = ("--batch-size", "4", "--rounds", "2", "--steps", "1", "--threads", "1")
CHAINS = ("--image-size", "8", "--chain-layers", "1")
FLAGS = os.environ["XLA_FLAGS"]  # Of `conftest`: compiles faster.


def run(*args):
  """Runs Python in a process of its own; what it printed."""
  path = os.pathsep.join([str(ROOT), str(FOLDER)])
  result = subprocess.run(
      [sys.executable, "-W", "error", *args], cwd=ROOT, capture_output=True,
      text=True, check=False,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu",
           "XLA_FLAGS": FLAGS})
  assert result.returncode == 0, result.stderr
  return result.stdout


def measured(tmp_path, script, *args):
  """Of a script, the report and its sides' figures."""
  report, figures = tmp_path / "README.md", tmp_path / "figures.json"
  run(str(FOLDER / script), *TINY, *args, "--report", str(report), "--json",
      str(figures))
  found = json.loads(figures.read_text())["sides"]
  for side in found.values():
    assert len(side["seconds"]) == 2 and min(side["seconds"]) > 0
    assert "torch" in side or side["cold"]["temporaries_mb"] > 0
  return report.read_text(), found


@pytest.mark.slow
def test_spos_is_measured(tmp_path):
  report, found = measured(tmp_path, "spos.py", *CHAINS, "--skip-torch")
  assert "## SPOS on proxyless, CPU, float32" in report
  assert found["spos"]["parameters"] == 4730570  # As of torch_spos.py.


@pytest.mark.slow
def test_it_nas_is_measured_beside_equal_weights(tmp_path):
  report, found = measured(
      tmp_path, "it_nas.py", *CHAINS, "--pairs", "cells", "--init-channels",
      "2", "--cells", "1")
  assert "| it-nas, cells / uniform |" in report
  assert list(found) == ["uniform", "it-nas, cells"]


@pytest.mark.slow
def test_pytorchs_supernet_computes_the_same():
  pytest.importorskip("torch")
  out = run("-c", "import sys, spos; print(spos.check(sys.executable))")
  assert out.startswith("logits of both sides, of the same weights, agree")


@pytest.mark.slow
def test_plain_networks_are_measured(tmp_path):
  report, found = measured(
      tmp_path, "plain.py", "--skip-torch", "--rows", "resnet20, 8x8")
  assert "| resnet20, 8x8 | 272474 " in report
  assert list(found) == ["natjax, resnet20, 8x8"]


@pytest.mark.slow
def test_pytorchs_plain_networks_are_as_large(tmp_path):
  pytest.importorskip("torch")
  # The benchmark compares the numbers of parameters.
  report, found = measured(
      tmp_path, "plain.py", "--init-channels", "2", "--cells", "2")
  assert len(found) == 12 and "| mobilenetv2, 32x32 | 2295834 " in report
