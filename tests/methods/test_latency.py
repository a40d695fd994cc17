"""Latency: how it is timed, and that a replacement keeps to a budget of it."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from natjax import cli, errors, operations
from natjax.cli import output
from natjax.costs import budget
from natjax.graph import codec
from natjax.methods import acceptance, differentiable, latency, replace
from natjax.pipeline import choosing, runs
from natjax.training import distributed
from tests.methods import test_replace, test_replacements

NETWORK, FRAME = test_replacements.RESIDUAL, test_replacements.FRAME


def made(limit, **changes):
  return replace.Replace(
      dataclasses.replace(test_replace.CONFIG, max_latency=limit, **changes),
      test_replace.TRAIN, NETWORK, num_classes=10, image_size=8,
      steps_per_epoch=4, num_images=64)


def test_the_median_lies_in_its_interval_95_times_in_100():
  seen = np.random.default_rng(0).lognormal(size=(400, 25))
  inside = 0
  for row in seen:
    found = latency.times(row.tolist())
    assert found.median == np.median(row) and found.runs == 25
    low, high = found.quartiles
    assert low < found.median < high
    inside += found.interval[0] <= 1.0 <= found.interval[1]
  assert inside / len(seen) > 0.93
  # Not too wide either: these ranks, by the binomial distribution.
  below = latency.times(list(map(float, range(25)))).interval
  chance = stats.binom(25, 0.5)
  assert chance.cdf(below[1]) - chance.cdf(below[0] - 1) < 0.99


def test_programs_take_turns_forwards_and_backwards():
  calls = []
  found = latency.in_turns(
      [lambda: calls.append("a"), lambda: calls.append("b")], 0.0)
  assert [len(times) for times in found] == [25, 25]
  assert min(map(min, found)) > 0
  text = "".join(calls[8:])  # Four of each are to warm up.
  repeats = len(text) // 50
  if text == ("a" * repeats + "b" * repeats + "b" * repeats + "a" * repeats) * (
      12) + "a" * repeats + "b" * repeats:
    return
  # Or they are called so often that turns differ in length.
  assert text.startswith("a") and "ab" in text and "ba" in text


def test_networks_and_operations_are_timed_once_and_kept(
    tmp_path, monkeypatch):
  own = latency.Latency(NETWORK, FRAME, 2, "float32")
  monkeypatch.setattr(latency, "_SECONDS", {"network": 0, "operation": 0})
  processes = distributed.Processes([own.device])
  own.open(tmp_path / latency.FILE, processes)
  other = test_replacements.residual().apply(
      test_replacements.residual().alone()[0])
  pair = own.pair(other)
  assert min(pair.original.median, pair.changed.median) > 0
  shapes = test_replacements.residual()._sites[1, 0][0]
  ends = shapes[0].ends(shapes[1])
  names = ("conv_3x3", "null", "skip_connect", "max_pool_3x3")
  found = own.operations(NETWORK, ends, names)
  assert found["null"] == 0 and set(found) == {*names}
  assert {*map(type, found.values())} == {float}

  def never(*_):
    raise AssertionError("it was timed again")

  monkeypatch.setattr(latency, "in_turns", never)
  again = latency.Latency(NETWORK, FRAME, 2, "float32")
  again.open(tmp_path / latency.FILE, processes)
  assert again.pair(other) == pair
  assert again.operations(NETWORK, ends, names) == found
  for text in ("[1", '{"network x": 5}', '{"conv_3x3 4": "x"}'):
    (tmp_path / latency.FILE).write_text(text)
    with pytest.raises(errors.InputError, match="damaged"):
      again.open(tmp_path / latency.FILE, processes)


def test_a_copy_takes_no_time_and_equal_places_are_timed_once(clock):
  space = made("0.8x").space
  assert space._seconds_saved is not None
  shapes = {(ends, name) for place in space.places
            for at, edge in space._sites[place[:2]]
            for ends in [at.ends(edge)] for name in place.names
            if name != "null" and not (name == "skip_connect" and ends.alike)}
  idle = len({ends for ends, _ in shapes})
  assert clock.asked == len(shapes) + idle
  saved = space._by_place(space._seconds_saved)
  for own in saved:
    assert own[0] == 0
    assert own[-1] == max(own)  # Null is the last, and saves all.


def test_the_others_hear_what_the_first_has_timed(tmp_path, clock):
  class Other:
    first = False

    def of_first(self, make):
      return {} if "read" in repr(make) else {"conv_3x3 4-4/1@8": 7.0}

  own = latency.Latency(NETWORK, FRAME, 1, "float32")
  own.open(tmp_path / latency.FILE, Other())
  at, edge = test_replacements.residual()._sites[0, 0][0]
  assert own.operations(NETWORK, at.ends(edge), ["conv_3x3"]) == {
      "conv_3x3": 7.0}
  assert clock.asked == 0 and not (tmp_path / latency.FILE).exists()


@pytest.mark.parametrize("limit", ["0.8x", "0.55x", "0.03ms"])
@pytest.mark.parametrize("seed", [0, 1])
def test_a_choice_is_as_fast_as_is_asked_and_not_much_faster(
    tmp_path, clock, limit, seed):
  own = made(limit)
  own.prepare(tmp_path, distributed.Processes([own.latency.device]))
  prices = own.space.by_place(np.random.default_rng(seed).random(
      len(own.space.alone()))**2)
  base = own._seconds(NETWORK)
  asked = base * float(limit[:-1]) if "x" in limit else 3e-5
  assert own.limits.seconds == pytest.approx(asked, rel=1e-3)
  choice = own._choose(own.space, prices, own.limits, {})
  took = own._seconds(choice.architecture)
  assert took <= own.limits.seconds
  # Between the cheapest choices of 25 operations there are gaps.
  assert took >= 0.75 * own.limits.seconds
  timed = clock.asked
  again = made(limit)  # As a run that is resumed.
  again.prepare(tmp_path, distributed.Processes([own.latency.device]))
  assert again._choose(again.space, prices, again.limits, {}) == choice
  assert clock.asked == timed


def test_a_latency_that_is_met_bounds_nothing_once_it_is_measured(
    tmp_path, clock):
  own = made("9s")
  assert own.bounds.met is None and not own.bounds.loose()
  assert own.limits.madds is None
  own.prepare(tmp_path, distributed.Processes([own.latency.device]))
  assert own.bounds.met and own.limits.madds == own.cost.madds / 2
  assert own.limits.seconds == 9
  before = own.bounds.pair(NETWORK).original.median
  assert own.bounds.loose() == (
      "max-latency is 9s and bounds nothing: the given network has"
      f" {1e3 * before:.3f} ms; the budget is met already, and what follows is"
      " done as without one")


def test_latency_beside_other_budgets(tmp_path, clock):
  own = made("0.8x", max_params="0.5x", max_memory="0.9x")
  own.prepare(tmp_path, distributed.Processes([own.latency.device]))
  prices = own.space.by_place(np.ones(len(own.space.alone())))
  found = own._choose(own.space, prices, own.limits, {})
  assert found.cost.params <= 0.5 * own.cost.params
  assert own.space.memory(found.architecture) <= own.limits.memory
  assert own._seconds(found.architecture) <= own.limits.seconds


def test_what_no_network_is_fast_enough_for_is_said(tmp_path, clock):
  own = made("0.01x")
  with pytest.raises(errors.NotMet, match=r"the fastest takes 0\.0\d+ ms"):
    own.prepare(tmp_path, distributed.Processes([own.latency.device]))


@pytest.mark.parametrize("spread", [0.0, 0.2])
def test_the_original_keeps_to_its_own_latency(
    tmp_path, clock, monkeypatch, spread):
  # All take as long, but what is timed later a little longer.
  monkeypatch.setattr(latency.Latency, "_network", lambda *args: 1e-3)
  clock.spread = spread
  own = made("1.0x")
  own.prepare(tmp_path, distributed.Processes([own.latency.device]))
  assert own.bounds.met and not own.bounds.exceeded
  assert own.bounds.fast(NETWORK)
  changed = own.space.apply(own.space.alone()[0])
  assert own.bounds.seconds(changed) > own.limits.seconds
  # It is not told apart from what keeps to the limit where times spread.
  assert own.bounds.fast(changed) == (spread > 0)
  theta = differentiable.Differentiable(
      differentiable.DifferentiableConfig(max_latency="1.0x"),
      test_replace.TRAIN, NETWORK, num_classes=10, image_size=8, share="full")
  theta.prepare(tmp_path, distributed.Processes([own.latency.device]))
  away = tuple(np.full(group.allowed.shape, [0.0, -1.0, -2.0])
               for group in theta.space.groups)
  assert theta.space.apply(theta._choose(away)) != NETWORK  # As without one.


@pytest.mark.parametrize("over, reach, kept", [
    (1.015, 0.05, True), (1.015, 0.01, False), (1.03, 0.05, False),
    (1.0, 0.0, True), (1.001, 0.0, False)])
def test_chance_may_exceed_a_latency_by_two_hundredths(
    tmp_path, clock, monkeypatch, over, reach, kept):
  own = made("0.8x").bounds
  limit = 0.8
  monkeypatch.setattr(own, "limits", own.limits._replace(seconds=limit))
  times = lambda median: latency.Times(
      median, (median, median), (median - reach * limit / 2**0.5,
                                 median + reach * limit / 2**0.5), 25)
  monkeypatch.setattr(own, "_first", latency.Pair(times(1.0), times(limit)),
                      raising=False)
  monkeypatch.setattr(own, "pair", lambda architecture: latency.Pair(
      times(1.0), times(over * limit)))
  changed = test_replacements.residual().apply(
      test_replacements.residual().alone()[0])
  assert own.fast(changed) == kept


def test_a_device_that_cannot_be_timed_is_refused(tmp_path, clock):
  clock.spread = 0.9
  own = made("0.9x")
  with pytest.raises(errors.InputError, match="cannot tell it from") as e:
    own.prepare(tmp_path, distributed.Processes([own.latency.device]))
  assert e.value.field == "max_latency" and "\n" not in str(e.value)


def command(folder, *more):
  (folder / "mine.json").write_text(codec.to_json(NETWORK))
  return ["transform", str(folder / "mine.json"), "--method", "replace",
          "--dataset", "digits", "--image-size", "8", "--preset", "demo",
          "--seeds", "1", "--train-epochs", "1", "--out",
          str(folder / "run"), *more]


@pytest.mark.parametrize("spread, limit, code, words", [
    (0.9, "0.9x", 2, "cannot tell it"), (0.0, "0.01x", 3, "the fastest takes"),
    (0.0, "5", 2, "5ms, 800us or 0.01s"), (0.0, "0ms", 2, "above 0")])
def test_refusals_leave_nothing_and_are_one_line(
    tmp_path, capsys, clock, spread, limit, code, words):
  clock.spread = spread
  assert cli.main(command(tmp_path, "--max-latency", limit)) == code
  error = capsys.readouterr().err
  assert words in error and error.count("\n") == 1
  assert ("--max-latency" in error) == (code == 2)
  assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_a_run_tells_of_latency_and_memory_and_goes_on_in_the_same_bits(
    tmp_path, clock, capsys):
  config = dataclasses.replace(
      test_replace.GENEROUS, max_latency="0.8x", max_memory="0.99x",
      keep="blocks:0/edge:2-3", price_checks=0)
  whole = test_replace.run(tmp_path / "whole", config)
  row, = whole["seeds"]
  found = row["latency"]
  before, after = (found[k]["median"] for k in ("original", "changed"))
  assert after <= 0.8 * before * 1.001
  assert whole["original"]["latency"] == before
  assert whole["transformed"]["latency"] == after
  assert whole["transformed"]["memory"] <= 0.99 * whole["original"]["memory"]
  assert found["batch"] == 1 and found["changed"]["runs"] == 25
  assert row["tries"][0]["reason"].startswith("faster")
  assert runs.read_architecture(tmp_path / "whole").blocks[0].edges[1] == (
      NETWORK.blocks[0].edges[1])

  # As of a run that is killed once its original is trained.
  out, timed = tmp_path / "whole", clock.asked
  (out / "result.json").unlink()
  shutil.rmtree(out / "networks" / "transformed-0")
  part = test_replace.run(out, config)
  assert clock.asked == timed
  plain = lambda result: json.loads(json.dumps({
      **result, "seconds": 0, "time": 0,
      "seeds": [{**row, "seconds": 0} for row in result["seeds"]]}))
  assert plain(part) == plain(whole)
  output.print_transformed(
      whole, tmp_path / "whole", replace.ENTRY)
  shown = capsys.readouterr().out
  assert "latency" in shown and "memory" in shown and " ms " in shown
  assert "latency of a batch of 1 on" in shown
  points = choosing.table(whole)
  assert points.columns[-3:] == (">latency", ">memory", ">price, nats")
  assert len(points.rows) > 2
  assert points.rows[-1][1] == "original" and points.rows[-1][4] == "1.00x"


def test_with_a_latency_budget_latency_is_what_counts():
  big, small = operations.Cost(20, 200), operations.Cost(10, 100)
  judge = lambda *seconds: acceptance.judge(
      acceptance.Pairs(1000, 10, 12), big, small, 0.5,
      acceptance.Latencies(*seconds) if seconds else None)
  assert judge(2.0, 1.0).accepted and judge().accepted
  assert "faster, and" in judge(2.0, 1.0).reason
  assert not judge(1.0, 2.0).accepted
  assert judge(1.0, 2.0).reason.startswith("slower")
  assert not acceptance.cheaper(big, small, acceptance.Latencies(1.0, 1.0))
  # What is within noise is told, and accepted as it would be without.
  for seconds in ((2.0, 1.9), (2.0, 2.1)):
    plain, near = judge(*seconds, 0.05), judge(*seconds, 0.11)
    word = "faster" if seconds[1] < 2 else "slower"
    assert plain.accepted == near.accepted == (word == "faster")
    assert plain.reason.startswith(f"{word}, and ")
    assert near.reason == plain.reason.replace(
        word, f"{word}, within noise", 1)


def test_memory_budgets(tmp_path):
  own = replace.Replace(
      dataclasses.replace(test_replace.CONFIG, max_memory="4.2KB"),
      test_replace.TRAIN, NETWORK, num_classes=10, image_size=8,
      steps_per_epoch=4, num_images=64)
  choice = own._choose(own.space, own.space.by_place(
      np.random.default_rng(0).random(len(own.space.alone()))), own.limits, {})
  assert own.limits == budget.Budget(memory=4200.0)
  assert own.space.memory(choice.architecture) <= 4200 < own.space.memory(
      NETWORK)
  with pytest.raises(errors.NotMet, match="bytes of memory"):
    made("", max_memory="1KB")
  with pytest.raises(errors.InputError, match="200MB or 1GiB") as e:
    made("", max_memory="3M")
  assert e.value.field == "max_memory"
