"""Smoke of the benchmark of differentiable transformation, at a tiny size."""

import json
import math
import os
import pathlib
import subprocess
import sys

import pytest

from natjax.graph import blocks, codec

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "differentiable.py"
TINY = ("--image-size", "4", "--batch-size", "4", "--devices", "2", "--rounds",
        "2", "--chunk", "2", "--title", "Tiny")
FLAGS = os.environ["XLA_FLAGS"]  # Of `conftest`: compiles faster.
NETWORK = blocks.BlockNetwork(
    "tiny", (),
    (blocks.Block(
        (blocks.Node(4), blocks.Node(4)),
        (blocks.Edge("conv_3x3", 1, 2), blocks.Edge("conv_1x1", 2, 3),
         blocks.Edge("skip_connect", 1, 3))),),
    (blocks.Layer("global_pool"), blocks.Layer("linear", norm=False)))


@pytest.mark.long
def test_prints_and_writes_a_section_and_numbers(tmp_path):
  report, figures = tmp_path / "README.md", tmp_path / "figures.json"
  report.write_text("# Benchmarks\n\n## Old\n\nkept\n")
  network = tmp_path / "tiny.json"
  network.write_text(codec.to_json(NETWORK))

  result = subprocess.run(
      [sys.executable, "-W", "error", str(SCRIPT), *TINY, "--networks",
       str(network), "--report", str(report), "--json", str(figures)],
      cwd=ROOT, capture_output=True, text=True, check=False,
      env={**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu",
           "XLA_FLAGS": FLAGS})

  assert result.returncode == 0, result.stderr
  text = report.read_text()
  assert "kept\n\n## Tiny\n\n" in text
  for part in ("| w half-step / plain ", "| iteration / plain ",
               "| one-backward iteration / plain ", "<= 2.2: ", "<= 1.05: ",
               "| second stage / derived alone ", "epochs per minute",
               "lower to the same text", "2 CPU devices share the",
               "load average", f"XLA_FLAGS `{FLAGS}`"):
    assert part in text
    assert part in result.stdout
  row, = json.loads(figures.read_text())["rows"]
  assert row["devices"] == 2
  assert 0 < row["changed_edges"] < row["edges"]
  assert len(row["ratios"]) == 4
  for ratio in row["ratios"].values():
    assert math.isfinite(ratio["median"])
    assert ratio["met"] == (ratio["median"] <= ratio["target"])
  for side in row["sides"].values():
    assert side["temporaries_mb"] > 0
    assert side["epochs_per_minute"] > 0
