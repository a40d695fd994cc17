"""The checks pass where all is right, and find what is wrong."""

import jax
import numpy as np
import pytest

from natjax import operations
from natjax.operations import cpu_convolutions, primitives
from natjax.selftest import (
    checks,
    comparison,
    network_cases,
    operation_cases,
    run_cases,
    step_cases,
)
from natjax.training import checkpoints, seeds


def run(cases=(), alone=None, *, remaining=lambda required: 1.0, quick=True):
  return list(checks.run(
      cases, alone or {}, quick=quick, remaining=remaining))


def named(cases, name):
  return [case for case in cases if case.name == name]


def outcomes(rows):
  return {row.name: row.outcome for row in rows}


def test_all_operations_are_checked_once():
  wanted = sorted(operations.names())
  for together in (1, 7):
    cases = operation_cases.cases(together=together)
    assert sorted(name for case in cases for name in (
        [part.name for part in case.alone] or [case.name])) == wanted
  few = operation_cases.representatives()
  assert {operations.get(n).type for n in few} == {
      operations.get(n).type for n in operations.names()}
  assert "sep_conv_3x3" in few and "sep_conv_5x5" not in few


def test_an_operation_of_ones_own_is_checked():
  mine = operations.get("skip_connect")
  mine = operations.Operation(
      "twice", "twice", 0, lambda features, stride, norm: lambda x: 2 * x,
      mine.cost, strides=(1,))
  with operations.registered(mine):
    rows = run(operation_cases.cases(["twice"]))
  assert outcomes(rows) == {"twice": "passed"}
  assert rows[0].error == 0


def test_right_operations_pass_in_every_precision():
  names = ["conv_1x3_3x1", "max_pool_2x2_padded", "null"]
  rows = run(operation_cases.cases(names), quick=False)
  assert {(row.name, row.precision) for row in rows} == {
      (name, p) for name in names for p in ("float32", "bfloat16")}
  for row in rows:
    assert row.outcome == "passed", row
    assert (row.error > 1e-4) == (
        row.precision == "bfloat16" and row.name == "conv_1x3_3x1")


def test_a_wrong_operation_is_found(monkeypatch):
  right = primitives.max_pool

  def wrong(x, *args, **options):
    y = right(x, *args, **options)
    return y if y.dtype == np.float64 else y * 1.0001

  monkeypatch.setitem(
      operations.get("max_pool_3x3").module.keywords, "pool", wrong)
  rows = run(operation_cases.cases(["max_pool_3x3", "skip_connect"]))
  assert outcomes(rows) == {"max_pool_3x3": "FAILED", "skip_connect": "passed"}
  assert rows[0].error == pytest.approx(1e-4, rel=0.1)


@pytest.fixture
def depthwise_anew():
  """What was traced before, and what the test traces, is forgotten."""
  primitives._depthwise_for_platform.clear_cache()
  yield
  primitives._depthwise_for_platform.clear_cache()


@pytest.mark.usefixtures("depthwise_anew")
def test_a_wrong_gradient_is_found(monkeypatch):
  """One of those written by hand: the reference has JAX's own."""
  backward = cpu_convolutions._depthwise_bwd

  def wrong(stride, dilation, before, residuals, g):
    g_x, g_kernel = backward(stride, dilation, before, residuals, g)
    return g_x, 1.0001 * g_kernel

  broken = jax.custom_vjp(cpu_convolutions.depthwise, nondiff_argnums=(2, 3, 4))
  broken.defvjp(cpu_convolutions._depthwise_fwd, wrong)
  monkeypatch.setattr(
      cpu_convolutions, "depthwise_with_gradient", broken)
  row, = run(operation_cases.cases(["depthwise_conv_3x3"]))
  assert row.outcome == "FAILED"
  assert row.note.startswith("gradient of the weights")


def test_nan_is_found(monkeypatch):
  right = primitives.avg_pool
  monkeypatch.setitem(
      operations.get("avg_pool_3x3").module.keywords, "pool",
      lambda x, *args, **options: right(x, *args, **options).at[0].set(np.nan))
  row, = run(operation_cases.cases(["avg_pool_3x3"]))
  assert row.outcome == "FAILED" and row.error == float("inf")


def test_what_raises_is_a_row_and_the_rest_goes_on():
  def broken(features, stride, norm):
    raise RuntimeError("no such\nkernel")

  mine = operations.Operation(
      "broken", "broken", 0, broken, operations.get("null").cost)

  def fails():
    raise OSError("no room")

  with operations.registered(mine):
    rows = run(operation_cases.cases(["skip_connect", "broken", "null"]),
               {"a run": fails})
  assert [row.name for row in rows] == [
      "a run", "skip_connect", "broken", "null"]
  assert outcomes(rows) == {"a run": "FAILED", "skip_connect": "passed",
                            "broken": "FAILED", "null": "passed"}
  assert rows[0].note == "OSError: no room"
  assert "operation 'broken' failed (RuntimeError: no such kernel)" in (
      rows[2].note)
  assert "in broken" in rows[2].traceback and rows[2].error is None


def test_nothing_begins_when_there_is_no_time():
  def never():
    raise AssertionError

  rows = run(checks.cases(quick=True), dict.fromkeys(checks.ALONE, never),
             remaining=lambda required: 0.0)
  assert len(rows) > 10
  assert {row.outcome for row in rows} == {"not run"}
  assert {row.note for row in rows} == {"there was no time left"}
  assert set(operation_cases.representatives()) < {row.name for row in rows}


def test_float32_has_time_when_there_is_none_for_the_rest():
  rows = run(operation_cases.cases(["null", "skip_connect"]),
             remaining=lambda required: float(required), quick=False)
  assert {(row.name, row.precision, row.outcome) for row in rows} == {
      (name, *what) for name in ("null", "skip_connect") for what in (
          ("float32", "passed"), ("bfloat16", "not run"))}
  assert [row.outcome for row in rows[:2]] == ["passed"] * 2


def test_rows_that_were_in_time_are_kept():
  right = comparison.judged("first", "float32", 0.0, 0.0, 1.0)
  left = iter([1.0])
  rows = run(operation_cases.cases(["null"]),
             {"first": lambda: [right], "second": lambda: [right]},
             remaining=lambda required: next(left, 0.0))
  assert outcomes(rows) == {
      "first": "passed", "second": "not run", "null": "not run"}


@pytest.mark.long
@pytest.mark.parametrize("cases,name", [
    (step_cases.cases, "step: SimCLR"),
    (network_cases.cases, "supernet, by index")])
def test_right_programs_pass(cases, name):
  row, = run(named(cases(), name))
  assert (row.name, row.outcome) == (name, "passed"), row
  assert row.error > 0


@pytest.mark.long
def test_the_policys_samples_have_rewards():
  case, = named(step_cases.cases(), "step: NAT's policy")
  found = comparison.compute(comparison.lower(
      case, comparison.FLOAT32, jax.devices()[0]))
  metrics = found[case.name]["metrics"]
  assert metrics["reward"] != 0 and metrics["changed"] > 0
  accuracies = np.asarray(found[case.name]["accuracies"])
  assert accuracies.shape == (5,) and accuracies.max() > 0
  row, = comparison.rows(
      found, comparison.compute(comparison.reference(case)),
      case.tolerances["float32"], comparison.FLOAT32, 0.0)
  assert row.outcome == "passed", row


@pytest.mark.long
def test_steps_are_checked_in_bfloat16(monkeypatch):
  """But not quickly; and what is wrong in bfloat16 alone is found there."""
  name = "step: DARTS, first order"
  steps = {case.name for case in step_cases.cases()
           if "bfloat16" in case.tolerances}
  assert steps == {case.name for case in step_cases.cases() if not case.draws}
  assert all(set(case.tolerances) == {"float32"}
             for case in step_cases.cases(quick=True))
  keywords = operations.get("max_pool_3x3").module.keywords
  right, wrong = keywords["pool"], []

  def pool(x, *args, **options):
    y = right(x, *args, **options)
    return y * y if wrong and y.dtype == "bfloat16" else y

  monkeypatch.setitem(keywords, "pool", pool)
  for outcome in ("passed", "FAILED"):
    rows = run(named(step_cases.cases(), name), quick=False)
    assert [(row.name, row.precision, row.outcome) for row in rows] == [
        (name, "float32", "passed"), (name, "bfloat16", outcome)], rows
    wrong.append(True)


@pytest.mark.long
def test_the_devices_there_are(monkeypatch):
  row, = run(alone={"several devices": run_cases.devices})
  assert row.name == "spread: 4 devices as one" and row.outcome == "passed", row
  one = jax.devices()[:1]
  monkeypatch.setattr(jax, "devices", lambda *_: one)
  row, = run(alone={"several devices": run_cases.devices})
  assert row.name == "spread: the only device as jit"
  assert row.outcome == "passed", row


@pytest.mark.long
def test_seeds_and_resumed_runs_pass_and_fail(monkeypatch):
  row, = run(alone={"interrupted and resumed": run_cases.resumed})
  assert row.outcome == "passed" and row.note == "bit for bit", row
  right = checkpoints.Checkpoints.restore

  def wrong(self, like):
    found = right(self, like)
    if found is None:
      return None
    state = jax.tree.map(
        lambda x: x * 1.001 if x.dtype == np.float32 else x, found[0])
    return state, found[1]

  with monkeypatch.context() as patched:
    patched.setattr(checkpoints.Checkpoints, "restore", wrong)
    row, = run(alone={"interrupted and resumed": run_cases.resumed})
    assert row.outcome == "FAILED"

  row, = run(alone={"several seeds": run_cases.many_seeds})
  assert row.outcome == "passed" and row.error < row.tolerance, row
  monkeypatch.setattr(seeds, "fit_seeds", lambda *args, seeds, runs, **_: [
      run_cases._fit(seed=seed + 1, run=run)
      for seed, run in zip(seeds, runs, strict=True)])
  row, = run(alone={"several seeds": run_cases.many_seeds})
  assert row.outcome == "FAILED"


def test_a_device_that_is_not_deterministic_is_called_so(monkeypatch):
  right, count = run_cases._fit, []

  def shaken(**options):
    count.append(1)
    return jax.tree.map(
        lambda x: x * (1 + 1e-6 * len(count)) if x.dtype == np.float32 else x,
        right(**options))

  monkeypatch.setattr(run_cases, "_fit", shaken)
  row, = run(alone={"interrupted and resumed": run_cases.resumed})
  assert row.outcome == "passed" and "not deterministic" in row.note
  assert 0 < row.error <= row.tolerance


@pytest.mark.slow
def test_everything_passes():
  rows = run(checks.cases(), checks.ALONE, remaining=lambda _: 1.0, quick=False)
  assert [row for row in rows if row.outcome != "passed"] == []
