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
               "| natpp, step ", "| natpp / selected", "<= 1.15: ",
               "| selected / alone", "| sep_conv_5x5 ", "<= 25 s: ",
               f"XLA_FLAGS `{FLAGS}`"):
    assert part in text
    assert part in out
  assert "| torch " not in text


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
