"""The benchmark of reading a flax module, at sizes that say nothing."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "from_flax.py"
TINY = ("--stages", "1", "1", "--width", "4", "--read-size", "32",
        "--image-size", "32", "--batch-size", "4", "--rounds", "2", "--steps",
        "1", "--threads", "1")
LINES = """
import json, sys, from_flax
reads, found = json.load(sys.stdin)
print(*from_flax.read_lines(reads), *from_flax.ratio_lines(found), sep="\\n")
args = from_flax.parse(["--rounds", "4"])
print(args.rounds, args.batch_size, args.image_size)
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


def test_the_report_follows_from_the_figures():
  read = lambda seconds, difference: {
      "seconds": seconds, "read_cpu_seconds": seconds / 2, "fixed": 0,
      "blocks": 16, "largest": 8.0, "difference": difference}
  side = lambda loss, *seconds: {
      "loss": loss, "seconds": seconds,
      "cpu_seconds": [2 * s + 0.25 * (loss > 1) for s in seconds]}
  out = run("-c", LINES, given=json.dumps([
      [read(9.0, 1e-7), read(6.0, 3e-7), read(2.0, 2e-7)],
      {"module": side(1, 1.0, 2.0, 4.0), "natjax": side(2, 1.0, 2.2, 4.8)}]))
  assert out.splitlines() == [
      "from_flax: 6.00 s (<= 5 s: missed), 3.00 s of the processor; 16 blocks"
      " and 0 fixed operations. Logits differ by at most 3e-07 of the"
      " largest, 8.",
      "natjax / module: 1.10 of the time (<= 1.05: missed), 1.16 of the"
      " processor time (<= 1.05: missed). Losses of the first steps: 1 and 2.",
      "4 16 96"]


@pytest.mark.slow
def test_both_sides_are_one_network(tmp_path):
  report, figures = tmp_path / "README.md", tmp_path / "figures.json"
  out = run(SCRIPT, *TINY, "--report", report, "--json", figures)
  for part in ("## from_flax, CPU, float32", "2 blocks and 0 fixed operations",
               "| natjax |", "1 threads"):
    assert part in out and part in report.read_text()
  found = json.loads(figures.read_text())["sides"]
  assert len(found["read"]) == 2
  assert max(row["difference"] for row in found["read"]) < 1e-5
  module, natjax = found["module"], found["natjax"]
  assert natjax["loss"] == pytest.approx(module["loss"], rel=1e-5)
  assert natjax["parameters"] == module["parameters"]
  assert min(natjax["cpu_seconds"] + module["seconds"]) > 0
