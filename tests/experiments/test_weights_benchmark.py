"""The benchmark of reading weights; torchvision's side needs torchvision."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest

import natjax
from natjax.graph import records
from natjax.networks import network as network_lib
from tests.interchange import small, torch_writer

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "weights.py"
TABLE = """
import json, sys, weights
found = json.load(sys.stdin)
print(*weights.table(found), sep="\\n")
print("worst", weights.disagreement(found))
"""


def run(*args, given=""):
  """Runs Python in a process of its own; what it printed."""
  path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  result = subprocess.run(
      [sys.executable, "-W", "error", *map(str, args)], cwd=ROOT,
      capture_output=True, text=True, check=False, input=given,
      env={**os.environ, "PYTHONPATH": path, "JAX_PLATFORMS": "cpu"})
  assert result.returncode == 0, result.stderr
  return result.stdout


def test_the_table_follows_from_the_figures():
  row = lambda seconds, size, logits: {
      "seconds": seconds, "cpu_seconds": 2 * seconds, "bytes": size * 2**20,
      "logits": logits}
  out = run("-c", TABLE, given=json.dumps({
      "torchvision": [row(1.0, 100, [3, 4]), row(3.0, 100, [3, 4]),
                      row(2.0, 300, [3, 4])],
      "natjax, cold": [row(5.0, 110, [3, 4.5])],
      "natjax, warm": [row(1.0, 150, [3, 4])]}))
  lines = [[cell.strip() for cell in line.split("|")[1:-1]]
           for line in out.splitlines()[2:5]]
  assert lines == [
      ["torchvision", "2.00", "", "", "4.00", "", "100", "", ""],
      ["natjax, cold", "5.00", "2.50", "<= 1.2: missed", "10.00", "2.50",
       "110", "1.10", "<= 1.2: met"],
      ["natjax, warm", "1.00", "0.50", "<= 1.2: met", "2.00", "0.50", "150",
       "1.50", "<= 1.2: missed"]]
  assert out.splitlines()[-1] == "worst 0.1"


@pytest.mark.slow
def test_natjaxs_side_gives_the_networks_logits(tmp_path):
  architecture = natjax.zoo.get("resnet18", "imagenet")
  frame = records.Frame(1000, 32)
  network = network_lib.module(architecture, frame)
  torch_writer.save(tmp_path / "w.pth", small.tensors(architecture, frame))
  variables = natjax.load_weights(tmp_path / "w.pth", architecture)
  out = json.loads(run(
      SCRIPT, "--work", "natjax", "--file", tmp_path / "w.pth",
      "--network", "resnet18", "--image-size", "32"))
  images = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype("f")
  wanted = jax.jit(network.apply)(variables, images)[0][0]
  np.testing.assert_allclose(out["logits"], wanted, rtol=1e-3,
                             atol=1e-4 * np.abs(wanted).max())
  assert out["bytes"] > 0 and out["seconds"] > 0
