"""Budgets of latency and memory, of every method that transforms a network.

Times are those of the rule in conftest.py; those of single operations foretell
twice of what a network really saves.
"""

import dataclasses
import json

import jax
import numpy as np
import pytest

from natjax import cli, errors, operations, pipeline
from natjax.costs import budget, footprint
from natjax.graph import codec
from natjax.methods import (
  acceptance,
  aims,
  candidates,
  differentiable,
  inference,
  nat,
)
from natjax.methods import bounds as bounds_lib
from natjax.training import distributed
from tests import tiny
from tests.costs import test_budget
from tests.methods import (
  test_differentiable,
  test_evolved,
  test_replace,
  test_replacements,
)

NETWORK = test_replacements.RESIDUAL


def prepared(folder, method, given=tiny.GENOTYPE, **limits):
  """A method, as a run in a folder has it before anything is trained."""
  method.config = dataclasses.replace(method.config, **limits)
  method.bounds = {}
  candidates.prepare(method, [given], folder,
                     distributed.Processes(jax.local_devices()[:1]))
  return aims.bounds_of(method, given)


def nat_derived(folder, rights=lambda i: 500 - i, **limits):
  method = test_budget.searched(candidates=4, **limits)
  bounds = prepared(folder, method)
  best, report, _ = test_budget.derive(method, rights=rights)
  return bounds, best, report


@pytest.mark.long
@pytest.mark.parametrize("limit", ["0.85x", "0.6x"])
def test_only_what_was_timed_within_the_budget_is_a_candidate(
    tmp_path, clock, limit):
  bounds, best, report = nat_derived(tmp_path, max_latency=limit)
  asked = float(limit[:-1]) * bounds.seconds(tiny.GENOTYPE)
  assert bounds.limits.seconds == pytest.approx(asked)
  rows, timed = report["candidates"], clock.asked
  assert 1 <= len(rows) <= 3 and not any(row["original"] for row in rows)
  for row in rows:
    found = codec.from_dict(row["architecture"])
    assert row["seconds"] == bounds.seconds(found) <= asked
  assert clock.asked == timed  # All had been timed.
  assert bounds.seconds(best) >= 0.5 * asked
  assert report["scored"] >= report["timed"] >= len(rows)
  told = report["latency"]
  assert told["changed"]["median"] <= told["original"]["median"] * (
      float(limit[:-1]) * 1.01)
  # A run that is resumed reads what was measured, and decides alike.
  again, same, told_again = nat_derived(tmp_path, max_latency=limit)
  assert again is not bounds and clock.asked == timed
  assert (same, told_again) == (best, report)


def test_the_given_one_stays_within_a_budget_that_it_keeps_to(tmp_path, clock):
  _, best, report = nat_derived(tmp_path, prefer="sure", max_latency="1.5x")
  assert best == tiny.GENOTYPE and report["finalists"] == []
  assert [row["original"] for row in report["candidates"]] == [True]
  assert report["latency"]["changed"] == report["latency"]["original"]


@pytest.mark.long
@pytest.mark.parametrize("limits", [
    {"max_memory": "0.85x", "inference_batch": 8},
    {"max_memory": "0.8x", "max_latency": "0.9x"}])
def test_memory_is_counted_before_anything_is_scored(tmp_path, clock, limits):
  bounds, best, report = nat_derived(tmp_path, **limits)
  count = lambda a: footprint.count(
      a, bounds.place, limits.get("inference_batch", 1))
  most = float(limits["max_memory"][:-1]) * count(tiny.GENOTYPE)
  assert bounds.limits.memory == most
  for row in report["candidates"]:
    assert count(codec.from_dict(row["architecture"])) <= most
  assert report["memory"]["changed"] == count(best) <= most
  assert report["memory"]["original"] == count(tiny.GENOTYPE)


def test_memory_that_nothing_can_do_with_is_said_at_once():
  method = test_budget.searched(max_memory="1KB")
  with pytest.raises(errors.NotMet, match="bytes of memory") as e:
    aims.budget(method, tiny.GENOTYPE)
  assert str(e.value).endswith("allow more by max-memory")
  # What is not asked for is not spoken of.
  assert "parameters" not in str(e.value)
  assert "every edge" in str(e.value) and "are left of" in str(e.value)
  space = test_replacements.residual()
  with pytest.raises(errors.NotMet, match="reachable is max-memory") as e:
    space.choose(space.by_place(np.zeros(len(space.alone()))),
                 budget.Budget(memory=1.0))
  assert "max-params" not in str(e.value) and "madds" not in str(e.value)


def test_a_verdict_speaks_of_memory_where_that_is_asked_for():
  cost = operations.Cost(20, 200)
  judge = lambda after: acceptance.judge(
      acceptance.Pairs(1000, 10, 12), cost, cost, 0.5, None, (100.0, after))
  assert judge(80.0).reason.startswith("cheaper (0.80x the memory), and -0.20")
  assert judge(120.0).reason.startswith("dearer (1.20x the memory), and")


@pytest.mark.long
def test_where_all_that_is_drawn_is_too_slow_the_fastest_is_left(
    tmp_path, clock, monkeypatch):
  """Operations' times that foretell nothing: the last resort is timed, too."""
  monkeypatch.setattr(candidates, "ROUNDS", 3)
  method = test_budget.searched(candidates=4, max_latency="0.9x")
  bounds = prepared(tmp_path, method)
  quickest = candidates.fastest(method, bounds)
  slow = bounds.seconds
  monkeypatch.setattr(bounds, "seconds", lambda a: slow(a) * (
      1 if a in (quickest, tiny.GENOTYPE) else 10))
  best, report, _ = test_budget.derive(method)
  assert best == quickest and len(report["candidates"]) == 1
  monkeypatch.setattr(bounds, "seconds", lambda a: slow(a) * (
      1 if a == tiny.GENOTYPE else 10))
  with pytest.raises(errors.NotMet, match="nothing that was timed keeps"):
    test_budget.derive(method)


class Foretold:
  """Networks that are their seconds, of which 1.0 is the given one.

  One is found that saves `factor` of what is asked of it by its operations.
  """

  latency, limits, asked = True, budget.Budget(seconds=0.8), 0.2
  ground, times, prefer = None, None, "cost"
  more, seconds = staticmethod(bounds_lib.Bounds.more), staticmethod(float)

  def __init__(self, factor):
    self.factor, self.wanted = factor, []

  def _replace(self, **changes):
    return self

  def asking(self, seconds):
    self.wanted.append(seconds)
    return self

  def spent(self, seconds):
    return budget.Spent(None, seconds=seconds)

  def found(self, aim, number):
    return 1 - self.factor * self.wanted[-1]

  def timed(self, method, bounds, seconds, answer):
    return [seconds], (seconds, {}) if seconds <= 0.8 else None


@pytest.mark.parametrize("factor, searches, least", [
    (1.0, 1, 0.79), (3.0, 3, 0.7), (1.5, 3, 0.77), (0.5, 2, 0.79)])
def test_what_leaves_much_of_a_latency_is_looked_for_again(
    monkeypatch, factor, searches, least):
  rule = Foretold(factor)
  for name in ("bounds_of", "Aim", "edge_seconds"):
    monkeypatch.setattr(aims, name, lambda *args: rule)
  monkeypatch.setattr(aims, "preference", lambda method: method.prefer)
  monkeypatch.setattr(candidates, "fastest", lambda *args: 0.1)
  monkeypatch.setattr(inference, "_timed", rule.timed)
  best, _ = inference.settle(rule, 1.0, rule.found, None)
  assert len(rule.wanted) == searches and least <= best <= 0.8
  rule.wanted.clear()
  rule.prefer = "accuracy"  # What scores best may be far faster.
  once, _ = inference.settle(rule, 1.0, rule.found, None)
  assert len(rule.wanted) == (2 if factor == 0.5 else 1)
  assert once <= best


@pytest.mark.long
@pytest.mark.parametrize("limits", [
    {"max_latency": "0.8x"}, {"max_memory": "0.9x"},
    {"max_latency": "0.9x", "max_memory": "0.95x", "max_params": "0.9x"}])
def test_evolution_keeps_to_them(tmp_path, clock, limits):
  given = codec.pad(NETWORK)
  method = test_evolved.make.__wrapped__(given, **limits)
  bounds = prepared(tmp_path, method, given)
  derived, _ = test_evolved.derive(method, given)
  best, report = derived.architecture, derived.report
  if "max_latency" in limits:
    assert bounds.fast(best)
    assert all(row["seconds"] <= bounds.limits.seconds
               for row in report["candidates"])
  assert bounds.limits._replace(seconds=None).allows(*bounds.spent(best))
  assert best != given and not any(
      row["original"] for row in report["candidates"])


@pytest.mark.parametrize("limits", [
    {"max_latency": "0.8x"}, {"max_latency": "0.6x"}, {"max_memory": "0.97x"},
    {"max_latency": "0.9x", "max_params": "0.9x"}])
@pytest.mark.parametrize("share", ["cell", "full"])
def test_theta_keeps_to_them(tmp_path, clock, limits, share):
  method = differentiable.Differentiable(
      differentiable.DifferentiableConfig(**limits), test_replace.TRAIN,
      NETWORK, num_classes=10, image_size=8, share=share)
  method.prepare(tmp_path, distributed.Processes(jax.local_devices()[:1]))
  bounds, space = method.bounds, method.space
  rng = np.random.default_rng(0)
  theta = tuple(np.add(np.abs(rng.normal(size=g.allowed.shape)), [-9, 0, 1])
                for g in space.groups)
  chosen = method._choose(theta)
  architecture = space.apply(chosen)
  assert bounds.limits._replace(seconds=None).allows(
      *bounds.spent(architecture))
  if "max_latency" in limits:
    assert bounds.fast(architecture)
    assert bounds.told(architecture)["latency"]["batch"] == 1
  timed = clock.asked
  assert space.apply(method._choose(theta)) == architecture
  assert clock.asked == timed


def test_theta_says_what_memory_it_cannot_do_with():
  with pytest.raises(errors.NotMet, match="bytes of memory") as e:
    test_differentiable.make(max_memory="1KB")
  assert "parameters" not in str(e.value)


def command(folder, method, *more):
  (folder / "mine.json").write_text(codec.to_json(NETWORK))
  return ["transform", str(folder / "mine.json"), "--method", method,
          "--dataset", "digits", "--image-size", "8", "--preset", "demo",
          "--train-epochs", "1", "--train-seeds", "1", "--out",
          str(folder / "run"), *more]


@pytest.mark.long
@pytest.mark.parametrize("method", ["natpp", "evolution", "differentiable"])
@pytest.mark.parametrize("spread, limit, code, words", [
    (0.9, "0.9x", 2, "cannot tell it"), (0.0, "0.01x", 3, "the fastest takes"),
    (0.0, "5", 2, "5ms, 800us or 0.01s"), (0.0, "0x", 2, "above 0"),
    (0.0, "-1ms", 2, "above 0")])
def test_refusals_leave_nothing_and_are_one_line(
    tmp_path, capsys, clock, method, spread, limit, code, words):
  clock.spread = spread
  assert cli.main(command(tmp_path, method, f"--max-latency={limit}")) == code
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1
  assert ("--max-latency" in error) == (code == 2)
  assert not (tmp_path / "run").exists()


def test_a_batch_that_nothing_is_measured_of_is_refused(tmp_path, capsys):
  for method in ("nat", "differentiable"):
    assert cli.main(command(tmp_path, method, "--inference-batch", "8")) == 2
    error = capsys.readouterr().err
    assert "--inference-batch" in error and error.count("\n") == 1


@pytest.mark.parametrize("method", ["nat", "differentiable", "replace"])
def test_a_dry_run_says_multiples_in_numbers(tmp_path, capsys, clock, method):
  args = command(tmp_path, method, "--max-latency", "0.8x", "--max-memory",
                 "0.9x", "--max-params", "0.5x", "--dry-run", "--json")
  if method == "replace":
    args = [a for i, a in enumerate(args) if "--train-seeds" not in args[
        max(i - 1, 0):i + 1]]
  assert cli.main(args) == 0
  shown = json.loads(capsys.readouterr().out)
  found, met = shown["budget"], shown["budget_met"]
  assert met == {"params": False, "memory": False, "latency": False}
  spent = footprint.count(NETWORK, test_replacements.FRAME)
  assert found["memory"] == pytest.approx(0.9 * spent)
  assert found["params"] == 0.5 * test_replacements.residual().cost.params
  assert found["latency"] == pytest.approx(0.8e-9 * (
      10_000 + test_replacements.residual().cost.madds), rel=1e-3)
  assert not (tmp_path / "run").exists()


def test_a_dry_run_says_which_limits_are_met_already(tmp_path, capsys, clock):
  args = command(tmp_path, "nat", "--max-params", "2x", "--max-madds", "0.5x",
                 "--max-latency", "9s", "--dry-run")
  assert cli.main(args) == 0
  text, = (line for line in capsys.readouterr().out.splitlines()
           if line.startswith("budget: "))
  params, madds, latency = text.removeprefix("budget: ").split(", ")
  assert params.endswith(" (met by the original already)")
  assert "met" not in madds + latency  # This is not known before it is timed.


@pytest.mark.slow
def test_a_search_that_is_resumed_decides_alike(tmp_path, clock):
  """And its result, table and trials go by what was measured."""
  search = nat.NATConfig(
      epochs=1, batch_size=16, samples=2, candidates=4, weights_fraction=0.5,
      finalists=1, held_out=0.2, tolerance=100.0, max_latency="0.8x",
      max_memory="0.99x", learning_rate=0.0, final_learning_rate=0.0)
  run = lambda: pipeline.transform(
      NETWORK, test_replace.dataset(), out=tmp_path / "run", method="natpp",
      search=search, train=dataclasses.replace(test_replace.TRAIN, epochs=1),
      listener=None)
  whole = run()
  assert whole["acceptance"]["accepted"]
  assert whole["acceptance"]["reason"].startswith("faster")
  before, after = (whole[k] for k in ("original", "transformed"))
  assert after["latency"] <= 0.8 * before["latency"] * 1.01
  assert after["memory"] <= 0.99 * before["memory"]
  timed, out = clock.asked, tmp_path / "run"
  for path in (out / "result.json", out / "checkpoint" / "derived.json"):
    path.unlink()
  again = run()
  assert clock.asked == timed
  plain = lambda r: {k: v for k, v in r.items()
                     if "seconds" not in k and k != "time"}
  assert plain(again) == plain(whole)
  assert "latency" in again._repr_html_()


def test_limits_without_any():
  assert not budget.Budget() and budget.Budget(seconds=1.0)
  assert budget.Budget(seconds=1.0).excess(
      test_budget.BEFORE, seconds=2.0) == 2.0
