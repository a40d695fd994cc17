"""`natjax selftest`: what it prints, writes and refuses."""

import importlib.util
import json
import sys
import types
from typing import NamedTuple

import numpy as np
import pytest

from natjax import operations
import natjax.selftest
from natjax.selftest import checks, comparison, operation_cases
from tests.cli import commands

NAMES = ["max_pool_3x3", "skip_connect", "null"]
ROW = set(comparison.Row._fields)


class Speed(NamedTuple):
  """As `natjax.selftest.speed.Row`."""

  name: str
  seconds: float | None
  per_second: float | None
  compile_seconds: float | None
  temporaries_mb: float | None
  share: str
  torch_eager: float | None
  torch_compiled: float | None
  note: str
  error: str = ""


def run(*argv):
  return commands.run("selftest", *argv)


@pytest.fixture
def few(monkeypatch):
  """A self-test of three operations and a measured step; what it was told."""
  told = {}

  def cases(*, quick=False):
    told["quick"] = quick
    return operation_cases.cases(NAMES)

  def measure(*, quick, against_torch, remaining):
    told["speed"] = quick, against_torch, remaining() > 0
    yield Speed("ResNet20, batch 8", 0.25, 32.0, 1.5, float("nan"),
                "12 % of bf16", 0.5, None, "")

  monkeypatch.setattr(checks, "cases", cases)
  monkeypatch.setattr(checks, "ALONE", {})
  speed = types.SimpleNamespace(
      measure=measure, ceilings=lambda: {"float32 TFLOP/s": 2.5})
  monkeypatch.setattr(natjax.selftest, "speed", speed, raising=False)
  return told


def test_all_is_well(few, tmp_path):
  file = tmp_path / "README.md"
  code, out, err = run("--quick", "--out", tmp_path / "o", "--markdown", file)
  assert code == 0, (out, err)
  assert few == {"quick": True, "speed": (True, False, True)}
  assert "3 of 3 checks passed, 0 failed, 0 were not run" in out
  assert "3 operations" in out and "null" not in out
  assert "max_pool_3x3, float32: passed, error" in err
  assert "ResNet20, batch 8: 0.25 s a step" in err
  report = json.loads((tmp_path / "o" / "selftest.json").read_text())
  assert set(report) == {
      "verdict", "passed", "complete", "facts", "checks", "ceilings", "speed",
      "errors", "seconds", "time_limit", "quick", "against"}
  assert report["complete"]
  assert report["verdict"] in out and "INCOMPLETE" not in out
  assert report["passed"] is True and report["time_limit"] == 180
  assert {"platform", "device", "devices", "memory_bytes", "python", "jax",
          "jaxlib", "flax", "optax", "numpy", "XLA_FLAGS"} <= {
              *report["facts"]}
  assert [row["name"] for row in report["checks"]] == sorted(NAMES)
  assert all(set(row) == ROW for row in report["checks"])
  assert report["ceilings"] == {"float32 TFLOP/s": 2.5}
  speed, = report["speed"]
  assert speed["seconds"] == 0.25 and speed["temporaries_mb"] is None
  text = file.read_text()
  assert "Command: `natjax selftest --quick`" in text
  assert "| ResNet20, batch 8 | 250.00 | 32 | 1.5 |  | 12 %" in text
  assert "| skip_connect | float32 |" in text and "## Correctness" in text
  assert not any(line.endswith(" ") for line in text.splitlines())


def test_a_wrong_operation_ends_in_1(few, monkeypatch, tmp_path):
  keywords = operations.get("max_pool_3x3").module.keywords
  right = keywords["pool"]
  monkeypatch.setitem(keywords, "pool", lambda x, *args, **options: right(
      x, *args, **options) * (1 if x.dtype == np.float64 else 1.001))
  code, out, _ = run("--only", "checks", "--quick", "--time-limit", 200,
                     "--out", tmp_path)
  assert code == 1
  assert "2 of 3 checks passed, 1 failed" in out and "what went wrong" in out
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert report["passed"] is False and report["speed"] is None
  assert {row["name"]: row["outcome"] for row in report["checks"]} == {
      "max_pool_3x3": "FAILED", "skip_connect": "passed", "null": "passed"}
  assert "speed" not in few and report["time_limit"] == 200


def test_what_raises_ends_in_1_and_is_written_down(few, monkeypatch, tmp_path):
  def measure(**_):
    yield Speed("x", None, None, None, None, "", None, None, "")
    raise OSError("no such\ndevice")

  monkeypatch.setattr(natjax.selftest.speed, "measure", measure)
  code, out, _ = run("--quick", "--out", tmp_path)
  assert code == 1 and "OSError: no such device" in out
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert [row["outcome"] for row in report["checks"]] == ["passed"] * 3
  assert len(report["speed"]) == 1
  error, = report["errors"]
  assert error["part"] == "speed" and "in measure" in error["traceback"]


def test_a_step_that_failed_ends_in_1(few, monkeypatch, tmp_path):
  def measure(**_):
    for name, seconds, error in (("x", 1.0, ""), ("y", None, "Traceback: z")):
      yield Speed(name, seconds, None, None, None, "", None, None,
                  "z" if error else "", error)

  monkeypatch.setattr(natjax.selftest.speed, "measure", measure)
  code, out, _ = run("--only", "speed", "--out", tmp_path)
  assert code == 1 and "1 of 2 speeds measured" in out
  assert "what went wrong" in out


def test_without_ceilings_steps_are_measured(few, monkeypatch, tmp_path):
  monkeypatch.setattr(natjax.selftest.speed, "ceilings", lambda: {}["x"])
  code, out, _ = run("--only", "speed", "--out", tmp_path)
  assert code == 1 and "KeyError: 'x'" in out
  assert "1 of 1 speeds measured" in out
  assert "ceilings broke off" in out


def test_only_speed(few, tmp_path):
  code, out, _ = run("--only", "speed", "--out", tmp_path)
  assert code == 0 and "1 of 1 speeds measured" in out
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert report["checks"] is None and report["time_limit"] == 360
  assert few == {"speed": (False, False, True)}


def test_what_was_not_run_is_not_passed(few, tmp_path):
  code, out, err = run("--quick", "--time-limit", 1e-9, "--out", tmp_path)
  assert code == 1 and few == {"quick": True}
  assert ("INCOMPLETE: 3 checks had no time, 3 of them required; 0 of 3 checks"
          " passed, 0 failed; 0 of 0 speeds") in out
  assert "speed: not run, there was no time left" in err


def late(monkeypatch, *precisions):
  """Has what is required time, but for what is of these precisions."""
  run_checks = checks.run

  def run(*args, **options):
    for row in run_checks(*args, **options):
      yield row if row.precision not in precisions else checks._raised(
          row.name, row.precision, checks._Late())

  monkeypatch.setattr(checks, "run", run)


def test_what_is_required_and_had_no_time_is_no_success(
    few, monkeypatch, tmp_path):
  """Though everything else passed; in every form of the report."""
  late(monkeypatch, "float32")
  file = tmp_path / "README.md"
  code, out, _ = run("--out", tmp_path, "--markdown", file)
  said = ("INCOMPLETE: 3 checks had no time, 3 of them required; 3 of 6 checks"
          " passed, 0 failed; 1 of 1 speeds measured")
  assert code == 1 and out.splitlines()[-1].startswith(said)
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert report["verdict"].startswith(said)
  assert not report["passed"] and not report["complete"]
  assert f"\n{said}" in file.read_text()


def test_what_is_not_required_may_have_no_time(few, monkeypatch, tmp_path):
  late(monkeypatch, "bfloat16")
  code, out, _ = run("--only", "checks", "--out", tmp_path)
  assert code == 0 and (
      "3 of 6 checks passed, 0 failed, 3 were not run for lack of time, none of"
      " them required") in out
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert report["passed"] and not report["complete"]


def test_speed_without_any_time_is_not_complete(few, tmp_path):
  code, _, err = run(
      "--only", "speed", "--time-limit", 1e-9, "--out", tmp_path)
  assert code == 1 and "speed: not run, there was no time left" in err
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert not report["complete"] and "speed" not in few


def test_what_there_is_is_kept_on_the_way(few, monkeypatch, tmp_path):
  def measure(**_):
    yield Speed("x", 1.0, None, None, None, "", None, None, "")
    raise KeyboardInterrupt

  monkeypatch.setattr(natjax.selftest.speed, "measure", measure)
  assert run("--quick", "--out", tmp_path)[0] == 130
  report = json.loads((tmp_path / "selftest.json").read_text())
  assert len(report["checks"]) == 3 and len(report["speed"]) == 1
  assert report["passed"] is False and report["seconds"] is None


@pytest.mark.parametrize("argv,fragment", [
    (["--only", "all"], "argument --only: invalid choice: 'all'"),
    (["--against", "jax"], "argument --against: invalid choice"),
    (["--time-limit", "0"], "time-limit is 0.0 and must be a finite number"),
    (["--time-limit", "nan"], "time-limit is nan"),
    (["--time-limit", "soon"], "argument --time-limit: invalid float"),
    (["--only", "checks", "--against", "torch"], "applies to speed alone"),
    (["--out", "FILE"], "is not a folder; name another (--out)"),
    (["--out", "FILE/o"], "is not a folder; name another (--out)"),
    (["--markdown", "none/README.md"], "lies in no folder"),
    (["--dataset", "digits"], "unrecognized arguments: --dataset")])
def test_refusals_are_a_line(argv, fragment, few, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "FILE").write_text("")
  code, out, err = run(*argv)
  assert (code, out) == (2, "") and fragment in err, err
  assert err.count("\n") == 1 and err.startswith("natjax: ")
  assert not few and sorted(p.name for p in tmp_path.iterdir()) == ["FILE"]


def test_torch_that_is_not_there_is_refused(few, monkeypatch, tmp_path):
  find = importlib.util.find_spec
  monkeypatch.setattr(importlib.util, "find_spec", lambda name, *args: (
      None if name == "torch" else find(name, *args)))
  code, _, err = run("--against", "torch", "--out", tmp_path / "o")
  assert code == 2 and "torch, which is not installed" in err and not few


def test_torch_is_passed_on(few, monkeypatch, tmp_path):
  monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "true")  # It stays.
  monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(
      __spec__=object()))
  code, _, _ = run("--against", "torch", "--only", "speed", "--out", tmp_path)
  assert code == 0 and few == {"speed": (False, True, True)}
