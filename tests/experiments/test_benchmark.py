"""Smoke of the supernet benchmark, at sizes that say nothing about speed."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "benchmarks" / "supernet.py"
TINY = ("--init-channels", "2", "--cells", "1", "--image-size", "8",
        "--batch-size", "2", "--architectures", "2", "--alone", "1",
        "--rounds", "1", "--steps", "1")
FLAGS = os.environ["XLA_FLAGS"]  # Of `conftest`: compiles faster.


def run(*args, **variables):
  """Runs Python in a process of its own, since the script sets XLA's flags."""
  path = os.pathsep.join([str(ROOT), str(SCRIPT.parent)])
  result = subprocess.run(
      [sys.executable, *args], cwd=ROOT, capture_output=True, text=True,
      check=False, env={**os.environ, "PYTHONPATH": path,
                        "JAX_PLATFORMS": "cpu", **variables})
  assert result.returncode == 0, result.stderr
  return result.stdout


@pytest.mark.long
def test_prints_and_writes_a_section(tmp_path):
  report = tmp_path / "README.md"
  report.write_text("# Benchmarks\n\n## Old\n\nkept\n\n## Tiny\n\nreplaced\n\n"
                    "## New\n\nkept too\n")

  out = run("-W", "error", str(SCRIPT), *TINY, "--skip-torch", "--profile",
            "--report", str(report), "--title", "Tiny", XLA_FLAGS=FLAGS)

  text = report.read_text()
  assert "replaced" not in text
  assert "kept\n\n## Tiny\n\n" in text
  assert text.endswith("\n\n## New\n\nkept too\n")
  for part in ("logits of selected and alone agree", "| selected, step ",
               "logits of selected and natpp agree", "15024550 for 13",
               "| natpp, step ", "| natpp / selected", "<= 1.1: ",
               "| selected / alone", "| sep_conv_5x5 ", "<= 20 s: ",
               "<= 250 MB: ", "<= 0.95: ",
               f"XLA_FLAGS `{FLAGS}`"):
    assert part in text
    assert part in out
  assert "| torch " not in text


def test_targets_depend_on_device_and_batch():
  code = """
import numpy as np, supernet
tables, sides = supernet.tables, supernet.sides
steps = {name: np.full((2, 3), seconds) for name, seconds in (
    ("selected", 1.0), ("natpp", 1.05), ("alone", 1.0), ("torch", 2.2),
    ("torch.compile", 0.9))}
for device in ((False, 32), (True, 64), (True, 512), (True, 32)):
  lines = tables.time_tables(steps, steps, tables.targets(*device))
  print(*(line.split("|")[3].strip() or "-" for line in lines
          if " / " in line), sep="; ")
cost = sides.Compilation(1.0, 1.0, 20.5, 249.0)
runner = type("Runner", (), {"step_cost": cost, "forward_cost": cost})
for card in (False, True):
  line, = (line for line in tables.compile_table(runner, runner, [], card)
           if "selected, step" in line)
  print(*(cell.strip() or "-" for cell in line.split("|")[-3:-1]), sep="; ")
"""
  assert run("-c", code).splitlines() == [
      "<= 1.1: met; <= 0.95: missed; <= 0.5: met; -",
      "-; -; <= 0.33: missed; <= 1: missed",
      "-; -; <= 0.8: met; -", "-; -; -; -",
      "<= 20 s: missed; <= 250 MB: met", "-; -"]


def test_starts_a_report_and_keeps_the_users_flags(tmp_path):
  path = tmp_path / "README.md"
  code = ("import pathlib, supernet; supernet.tables.write_section("
          f"pathlib.Path({str(path)!r}), 'A', ['line']);"
          "print(supernet.os.environ['XLA_FLAGS'])")
  out = run("-c", code, XLA_FLAGS="--xla_cpu_enable_fast_math=false")
  assert out.split() == ["--xla_cpu_enable_fast_math=false",
                         "--xla_backend_optimization_level=1"]
  assert path.read_text().startswith("# Benchmarks\n\n")
  assert path.read_text().endswith("\n\n## A\n\nline\n")


def test_torch_computes_the_same_logits():
  pytest.importorskip("torch")
  out = run("-c", "import supernet; print(supernet.check_sides(True))")
  assert "logits of selected and torch agree" in out
  assert "5997350 in torch too" in out
