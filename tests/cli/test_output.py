"""What is said of a result."""

import functools
import itertools
import json
import types

import numpy as np
import pytest

from natjax import errors, methods
from natjax.cli import output
from natjax.drawing import files
from natjax.methods import acceptance
from natjax.pipeline import choosing, progress, summary, tables, versus
from natjax.training import options


def _timed(count, after, reach):
  """A result of so many seeds, of latencies 1 and `after`."""
  part = lambda latency: {
      "params": 1000, "madds": 1000, "accuracies": [0.5] * count,
      "accuracy": 0.5, "latency": latency}
  times = lambda median: {
      "median": median, "interval": [median - reach, median + reach]}
  return {"changes": [], "original": part(1.0), "transformed": part(
      after), "seeds": [{
      "num_changes": 1, "latency": {
          "original": times(1.0), "changed": times(after)}}] * count}


@pytest.mark.parametrize("count, after, reach, noise", [
    (1, 0.95, 0.04, True), (1, 1.05, 0.04, True), (1, 0.95, 0.03, False),
    (1, 0.95, 0.0, False), (4, 0.95, 0.04, False), (4, 0.95, 0.08, True)])
def test_latencies_that_are_not_told_apart(count, after, reach, noise):
  # Two intervals of 0.04 are one of 0.057; the mean of four half of that.
  result = _timed(count, after, reach)
  _, (*_, shown), said = tables.difference(result, 100, "kept", ["latency"])
  sign = f"{100 * (after - 1):+.1f} %"
  assert shown == sign + " (noise)" * noise
  assert ("The difference in latency is within noise" in said) == noise
  # Nothing else is cheaper.
  assert ("cheaper" in said) == (not noise and after < 1)


def test_ratios_of_latencies_tell_noise():
  ratio = lambda **row: tables.latency_ratio(row)
  assert ratio(latency_ratio=0.98, latency_noise=0.03) == "0.98x (noise)"
  assert ratio(latency_ratio=1.02, latency_noise=0.03) == "1.02x (noise)"
  assert ratio(latency_ratio=0.9, latency_noise=0.03) == "0.90x"
  assert ratio(latency_ratio=0.98) == "0.98x"
  assert ratio(latency_ratio=1.0, latency_noise=0.0) == "1.00x"


@pytest.mark.parametrize("seeds,ratio,words", [
    (1, -0.1, "the transformed one is cheaper."),
    (1, 0.0, "the transformed one costs the same."),
    (2, -0.1, "the transformed ones are cheaper."),
    (2, 0.0, "the transformed ones cost the same.")])
def test_verdict(seeds, ratio, words):
  result = {"changes": [], "seeds": [{"num_changes": 1}] * seeds}
  said = tables.verdict(result, methods.METHODS["nat"].kept, 0.0,
                        (ratio, ratio), (0.0, "2 seeds"))
  assert said == f"Both are equally accurate; {words}"


@pytest.mark.parametrize("changes, words", [
    ((0, 0, 9), "Of 3 seeds 2 kept the original, the first too, whose network"
     " architecture.json holds; the means are over all."),
    ((9, 0), "Of 2 seeds 1 kept the original; the means are over all."),
    ((9, 1), "the transformed ones are cheaper.")])
def test_of_several_seeds_those_that_kept_the_original_are_told(changes, words):
  result = {"changes": [], "seeds": [{"num_changes": n} for n in changes]}
  said = tables.verdict(result, "kept", 0.0, (-0.1, -0.1), (0.0, "2 seeds"))
  assert said.endswith(words)


@pytest.mark.parametrize("result, words", [
    ({"acceptance": {"accepted": False}}, "search preferred is not"),
    ({"seeds": [{"accepted": False}] * 2}, "search preferred is not"),
    ({"seeds": [{"tries": [{"reason": "nothing was replaced, as"}]}]},
     "kept: nothing was replaced, as."),
    ({"seeds": [{"tries": [{"reason": "cheaper"}]}]}, "usual"),
    ({}, "usual")])
def test_why_the_original_was_kept(result, words):
  result = {"changes": [], **{key: value if key != "seeds" else [
      {"num_changes": 0, **row} for row in value]
                              for key, value in result.items()}}
  assert words in tables.verdict(result, "usual", 0.0, (0.0,), (0.0, ""))


@pytest.mark.parametrize("first,second,images,expected,words", [
    # By hand: 1.96 times the root of (0.3 - 0.1**2) / 359, as of 0.3 that are
    # right in one of both.
    ([0.8], [0.9], 359, 0.055706, "is more accurate (+10.00 ± 5.57 points, 95 %"
     " over 359 test images)"),
    ([0.8], [0.81], 359, 0.064594, "The difference in accuracy is within noise"
     " (+1.00 ± 6.46 points, 95 % over 359 test images)"),
    ([0.5, 0.6], [0.51, 0.63], 359, 12.7062 * 0.01, "accuracy is within"
     " noise (+2.00 ± 12.71 points, 95 % over 2 seeds)"),
    ([0.5, 0.6, 0.7], [0.4, 0.5, 0.599], 1000, 0.001434, "The original is more"
     " accurate (-10.03 ± 0.14 points, 95 % over 3 seeds)"),
    # Of 144 images one more is right, in both seeds: 0.41 of an image, times t.
    ([0.5, 0.6], [0.5 + 1 / 144, 0.6 + 1 / 144], 144,
     12.7062 * 0.408 / 144 / 2**0.5, "within noise (+0.69 ± 2.55 points, 95 %"
     " over 2 seeds)"),
    ([0.0], [0.0], 9, 0.0, "Both are equally accurate; "),
])
def test_what_chance_may_do(first, second, images, expected, words):
  parts = [{"accuracies": part, "accuracy": sum(part) / len(part)}
           for part in (first, second)]
  half, over = tables.noise(*parts, images)
  assert half == pytest.approx(expected, abs=1e-4)
  said = tables.verdict(
      {"changes": ["an edge"]}, methods.METHODS["nat"].kept,
      parts[1]["accuracy"] - parts[0]["accuracy"], (-0.1, -0.1), (half, over))
  assert words in said


@pytest.mark.parametrize("seed", range(4))
def test_chance_image_by_image_is_within_what_accuracies_allow(seed):
  rng = np.random.default_rng(seed)
  first, second = rng.random((2, 500)) < rng.random((2, 1))
  if seed % 2:  # They err on the same images as little as may be.
    first, second = np.sort(first), np.sort(second)[::-1]
  half, _ = tables.noise({"accuracies": [first.mean()]},
                         {"accuracies": [second.mean()]}, 500)
  paired = 1.96 * np.std(second * 1.0 - first) / 500**0.5
  assert paired <= half * (1 + 1e-9)
  assert paired == pytest.approx(half) or not seed % 2


@pytest.mark.parametrize("won, lost, surely", [
    # As the exact test of McNemar has it: 2 * 0.5**5 is 0.06, 2 * 0.5**6 0.03.
    (4, 0, False), (5, 0, False), (6, 0, True), (0, 6, True), (7, 1, False),
    (8, 1, True), (0, 0, False)])
def test_a_few_images_are_told_from_chance(won, lost, surely):
  pairs = {"images": 359, "won": won, "lost": lost}
  parts = [{"accuracies": [0.9]}, {"accuracies": [0.9 + (won - lost) / 359]}]
  half, _ = tables.noise(*parts, 359, pairs)
  assert (half < abs(won - lost) / 359) == surely
  low, high = acceptance.Pairs(**pairs).interval
  assert ((low > 0) or (high < 0)) == surely


@pytest.mark.parametrize("right, images, expected", [
    (60, 60, 0.0426), (0, 60, 0.0426), (50, 100, 0.0961),
    (9000, 10000, 0.0059)])
def test_all_images_that_are_right_leave_something_to_chance(
    right, images, expected):
  assert acceptance.reach(right, images) == pytest.approx(expected, abs=5e-5)


def test_an_interval_ends_where_differences_do():
  assert acceptance.Pairs(1, 1, 0).interval[1] == 1
  assert acceptance.Pairs(1, 0, 1).interval[0] == -1


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 1000])
def test_images_that_are_right_are_kept_and_compared(count):
  rng = np.random.default_rng(count)
  first, second = rng.random((2, count)) < 0.5
  pack = lambda right: json.loads(json.dumps({"right": versus.packed(right)}))
  assert versus.pairs(pack(first), pack(second)) == (
      count, (first & ~second).sum(), (second & ~first).sum())
  assert versus.pairs(pack(first), {}) is None
  assert versus.pairs({}, pack(first)) is None
  # Where an image was left out as damaged of one of both.
  assert versus.pairs(pack(first), pack(np.append(second, True))) is None


def test_more_seeds_than_the_table_has():
  parts = [{"accuracies": [0.5 + sign * (i % 2) for i in range(40)]}
           for sign in (0, 0.1)]
  assert tables.noise(*parts, 9)[0] == pytest.approx(
      2.228 * 0.050637 / 40**0.5, rel=1e-4)


def test_ties_of_a_search_are_named(capsys):
  margin = {"margin": 0.1, "standard_error": 0.1}
  row = lambda edge, tie: {"edge": edge, "strongest": "conv", "next": "pool",
                           "weights": {}, "tie": tie, **margin}
  node = lambda target, tie: {"node": target, "tie": tie, **margin, "edges": [
      {"edge": [source, target], "operation": "conv", "weight": 0.1,
       "kept": kept} for source, kept in ((1, True), (0, True), (2, False))]}
  output._print_search({
      "tried": [], "parent_accuracy": 0.5, "child_accuracy": 0.5,
      "skips": {"normal": 0}, "connections": {"normal": 4},
      "peak_memory_bytes": 2 * 10**9, "search_seconds": 1.0, "devices": ["cpu"],
      "ties": {"normal": 1},
      "attention": {"normal": [row([0, 2], True), None, row([1, 2], False),
                               row([0, 3], True)]},
      "nodes": {"normal": [node(3, True), node(4, False)]},
      "architectures": {"derived": {"normal": [["conv", 0, 2], ["conv", 1, 2]]
                                    }}})
  said = " ".join(capsys.readouterr().out.split())
  assert ("of 1 edges that are kept, the strongest operation lies within two"
          " standard errors of the next (normal 0-2 conv, then pool)") in said
  assert "at 1 nodes (normal 3: from 0, then 2)" in said
  assert "at most 2.000 GB in use by the process as a whole" in said


def test_what_is_said_of_a_choice():
  rows = [{"score": score, "standard_error": error, "params": 1e6 * madds,
           "madds": 2e6 * madds, "original": i == 0, "chosen": i == 1,
           "pareto": i in (1, 2)}
          for i, (score, error, madds) in enumerate((
              (0.9, 0.01, 3), (0.91, 0.02, 1), (0.92, 0.0, 2), (0.8, 0.03, 4)))]
  shown = [
      ("1", "chosen", "91.00 %", "-1.00 ± 2.00", "1.000 M", "2.000 M"),
      ("2", "", "92.00 %", "+0.00 ± 0.00", "2.000 M", "4.000 M"),
      ("3", "original", "90.00 %", "-2.00 ± 1.00", "3.000 M", "6.000 M")]
  assert choosing.table({"candidates": rows}).rows == shown
  assert choosing.table({}) is choosing.table({"candidates": [{}]}) is None
  beside = {"latency_ratio": 0.8, "memory": 2e6}
  over = choosing.table({
      "candidates": [row | beside for row in rows[1:]], "given": {
          "score": 0.9, "params": 99_999, "madds": 1e5, **beside}})
  assert over.columns[-2:] == (">latency", ">memory")
  assert over.rows[-1] == ("", "original, over the budget", "90.00 %", "-2.00",
                           "0.100 M", "0.100 M", "0.80x", "2.000 MB")
  curve = [{"params": n, "madds": n, "price": 1 / n, "architecture": {"n": n}}
           for n in (3, 2, 2)]
  assert choosing.table({"seeds": [{"curve": curve}, {"curve": []}]}).rows == [
      ("1", "", "2", "2", "0.5000"), ("2", "", "3", "3", "0.3333")]
  timed = {"latency_ratio": 0.8, "latency_noise": 0.3, "memory": 2e6}
  found = choosing.table({"seeds": [{"curve": [
      {**curve[0], **timed, "price": 0.0, "original": True},
      {**curve[1], **timed}]}]})
  assert found.columns == (">point", "", ">parameters", ">multiply-adds",
                           ">latency", ">memory", ">price, nats")
  assert found.rows == [
      ("1", "", "2", "2", "0.80x (noise)", "2.000 MB", "0.5000"),
      ("2", "original", "3", "3", "0.80x (noise)", "2.000 MB", "0.0000")]
  assert choosing.sentences({"sampled": 30, "distinct": 2}) == []
  assert choosing.sentences({"candidates": rows}) == []  # It has changed.
  kept = {"candidates": [row | {"chosen": row["original"]} for row in rows],
          "preferred": {"cost": 1, "accuracy": 2, "sure": 0}, "finalists": []}
  assert choosing.sentences(kept) == [
      "By --prefer cost the search would have chosen what scores +1.00 points,"
      " with -66.7 % parameters, -66.7 % multiply-adds.",
      "By --prefer accuracy the search would have chosen what scores +2.00"
      " points, with -33.3 % parameters, -33.3 % multiply-adds."]
  assert choosing.sentences({**kept, "finalists": [1]}) == []  # Refused later.
  kept["preferred"] = {"cost": 2, "accuracy": 2, "sure": 0}
  assert ["cost or accuracy" in said for said in choosing.sentences(kept)] == [
      True]
  assert choosing.sentences({"seeds": [
      {"accepted": True, "reason": "better"}, {},
      {"seed": 3, "accepted": False, "reason": "not as good"}]}) == [
          "Held-out images accepted what 1 of 2 searches preferred.",
          "Seed 3: what was preferred is not as good."]
  alike, tried = choosing.sentences({
      "sampled": 30, "distinct": 1, "seconds": 200.0, "trial_seconds": 50.0,
      "acceptance": {"accepted": True, "reason": "cheaper, and so on",
                     "epochs": 5, "trials": [{}, {}, {}]}})
  assert alike == ("All 30 samples are one and the same transformation: the"
                   " policy has settled on it.")
  assert tried == ("Trials of 2 candidate(s), 5 epochs, 25 % of the time:"
                   " accepted. The best of them is cheaper, and so on.")


@pytest.mark.parametrize("seeds, words", [
    ([{"rank_correlation": 0.914}], "rank correlation of 0.91."),
    ([{"rank_correlation": 0.3}], "of 0.30."),
    ([{"rank_correlation": 0.9}, {"rank_correlation": 0.29}],
     "of 0.29, the least of 2 seeds: the prices did not add up here, so that"
     " the choice is little better than chance; more price-images, more"
     " distil-epochs or several rounds help."),
    ([{"rank_correlation": 0.9, "rounds": [
        {"rank_correlation": -0.2}, {"rank_correlation": 0.9}]}],
     "of -0.20, the least of 2 rounds: the prices did not"),
    ([{"rank_correlation": None, "rounds": [{"rank_correlation": 0.5}, {}]},
      {"rank_correlation": None}], "of 0.50, the least of 2 seeds and 2")])
def test_how_well_prices_added_up(seeds, words):
  said, = choosing.sentences({"seeds": seeds})
  assert words in said


def test_of_prices_that_were_not_checked_nothing_is_said():
  assert choosing.sentences({"seeds": [{"rank_correlation": None}, {}]}) == []


@pytest.fixture
def printed(monkeypatch):
  """Sentences, and by their titles the tables, that are printed."""
  said, shown = [], {}
  monkeypatch.setattr(output, "_test_images", lambda folder: 100)
  monkeypatch.setattr(output.out, "print", said.append)
  monkeypatch.setattr(output, "print_table", lambda title, columns, rows: (
      shown.update({title: (columns, rows)})))
  return said, shown


def _one(latency, memory, change):
  """A result of one architecture, which costs less in these alone."""
  part = lambda latency, memory: {
      "params": 1000, "madds": 1000, "accuracy": 0.5, "accuracies": [0.5],
      "latency": latency, "memory": memory}
  times = lambda median: {
      "median": median, "interval": [median, median], "runs": 9,
      "quartiles": [median, median]}
  row = {"score": 0.5, "standard_error": 0.0, "params": 1000, "madds": 1000,
         "original": True, "chosen": False, "pareto": True,
         "latency_ratio": latency, "memory": memory}
  return {
      "dataset": "d", "seed": 0, "original": part(1.0, 1000),
      "transformed": part(latency, memory), "candidates": [row], "latency": {
          "batch": 1, "device": "cpu", "dtype": "float32",
          "original": times(1.0), "changed": times(latency)},
      "changes": [{"cell": "normal", "source": 0, "target": 2,
                   "before": change, "after": "null",
                   "saves": {"params": 0, "madds": 0}, "score_drop": 0.01}]}


def test_several_architectures_tell_what_one_does(printed, tmp_path):
  said, shown = printed
  parts = [_one(0.5, 1000, "conv_3x3"), _one(1.0, 250, "conv_1x1")]
  parts[1]["transformed"]["top5_accuracy"] = 0.75
  output.print_union(
      {"union": parts, "dataset": "d", "search_seconds": 1.0, "seconds": 2.0,
       "note": "of the whole"}, tmp_path, methods.METHODS["nat"], ["a", "b"])
  (columns, rows), *_ = shown.values()
  assert columns[-4:] == (">parameters", ">multiply-adds", ">latency",
                          ">memory")
  assert [row[-4:] for row in rows] == [
      ("+0.0 %", "+0.0 %", "-50.0 %", "+0.0 %"),
      ("+0.0 %", "+0.0 %", "+0.0 % (noise)", "-75.0 %")]
  text = "\n".join(said)
  assert text.count("the transformed one is cheaper") == 2
  assert "costs the same" not in text
  assert "1: latency of a batch of 1 on cpu" in text
  assert "2: among the five first answers of the transformed: 75.00 %" in text
  assert text.count("Note: of the whole.") == 1
  for title, operation in (("1: a, ", "conv_3x3"), ("2: b, ", "conv_1x1")):
    changes, points = (shown[key] for key in shown if key.startswith(title))
    assert changes[1][0][:4] == ("normal", "0 -> 2", operation, "null")
    assert points[0][0] == ">point" and points[1][0][0] == "1"


def test_several_architectures_without_such_a_budget(printed, tmp_path):
  _, shown = printed
  part = _one(0.5, 250, "conv_3x3")
  for one in (part, part["original"], part["transformed"]):
    for kind in tables.ASKED:
      one.pop(kind, None)
  output.print_union(
      {"union": [part] * 2, "dataset": "d", "search_seconds": 1.0,
       "seconds": 2.0}, tmp_path, methods.METHODS["nat"], ["a", "b"])
  (columns, rows), *_ = shown.values()
  assert columns[-1] == ">multiply-adds" and len(rows[0]) == len(columns)


def test_several_architectures_of_several_seeds(printed, tmp_path):
  _, shown = printed
  part = {**_one(0.5, 250, "conv_3x3"), "seeds": [{
      **_one(0.5, 250, "conv_3x3")["transformed"], "seed": seed,
      "num_changes": 1} for seed in (0, 1)]}
  del part["candidates"]
  for one in part["seeds"]:
    del one["latency"]
  for one in (part["original"], part["transformed"]):
    del one["latency"]
  output.print_union(
      {"union": [part] * 2, "dataset": "d", "search_seconds": 1.0,
       "seconds": 2.0}, tmp_path, methods.METHODS["nat"], ["a", "b"])
  assert [row[0] for row in shown["2: b, seed by seed"][1]] == ["0", "1"]
  assert any(title.startswith("2: b, edges that changed, first seed")
             for title in shown)


def _without_matplotlib(monkeypatch):
  def missing(*_):
    raise errors.InputError("this picture needs matplotlib")

  monkeypatch.setattr(files, "load_matplotlib", missing)


@pytest.mark.parametrize("method, where, words", [
    ("nat", None, "; pareto.svg is drawn only where matplotlib is installed:"
     " pip install 'natjax[plots]'"),
    ("it-nas", None, "; alpha.svg, attention.svg are drawn only where"),
    ("nat", "pareto.svg", ""), ("nat", "seed-0/pareto.svg", ""),
    ("nat", "seed-0/architecture-1/pareto.svg", "")])
def test_pictures_that_need_matplotlib(monkeypatch, tmp_path, method, where,
                                       words):
  told = lambda: output._not_drawn(tmp_path, methods.METHODS[method])
  assert told() == "" or not files.there()  # With matplotlib none is missed.
  _without_matplotlib(monkeypatch)
  if where:
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).touch()
  assert told().startswith(words) and bool(told()) == bool(words)


@pytest.mark.parametrize("count", [1, 2])
def test_the_line_of_files_says_once_that_pictures_lack(
    printed, monkeypatch, tmp_path, count):
  said, _ = printed
  _without_matplotlib(monkeypatch)
  part = {**_one(0.5, 250, "conv_3x3"), "method": "nat", "seconds": 2.0}
  if count == 1:
    output.print_transformed(part, tmp_path, methods.METHODS["nat"])
  else:
    output.print_union(
        {"union": [part] * 2, "dataset": "d", "search_seconds": 1.0,
         "seconds": 2.0}, tmp_path, methods.METHODS["nat"], ["a", "b"])
  assert "pareto.svg is drawn only where matplotlib" in said[-1]
  assert "\n".join(said).count("matplotlib") == 1


def test_the_time_of_a_run_is_one_line(monkeypatch):
  said = []
  monkeypatch.setattr(output.out, "print", said.append)
  output._print_time({"time": {"compile": 12.34, "training": 0.0}})
  output._print_time({})  # Of an earlier version.
  assert said == ["time: compile 12.3 s, training 0.0 s"]


def test_a_training_that_was_resumed_took_all_of_its_starts(printed, tmp_path):
  said, _ = printed
  (tmp_path / "networks").mkdir()
  (tmp_path / "result.json").write_text("{}")
  output.print_trained({
      "accuracy": 0.5, "params": 1, "madds": 1, "seconds": 9.9,
      "time": {"compile": 10.8, "training": 9.7}}, tmp_path, None)
  assert said[-1].endswith(": result.json, networks/ (20.5 s in all)")


def test_a_cut_that_was_refused_is_named():
  tried = {"difference": -0.01, "accepted": False, "reason": "worse"}
  result = {"original": {"madds": 1000}, "seeds": [
      {"seed": 3, "tries": [{**tried, "madds": 499}, tried]}]}
  assert tables.refused(result) == [
      "seed 3: refused at 0.50x of the multiply-adds, worse",
      "seed 3: refused, worse"]


def test_costs_of_seeds_that_are_whole_stay_so():
  of = lambda *params: repr(summary.means([
      {"params": n, "madds": n} for n in params])["params"])
  assert [of(7), of(2, 4), of(2, 3)] == ["7", "3", "2.5"]


@pytest.mark.parametrize("kind, there", [("transformed", 1), ("derived", 0)])
def test_only_a_transformation_has_changes(printed, kind, there):
  _, shown = printed
  row = {"seed": 0, "num_changes": 0, "accuracy": 0.5, "params": 1, "madds": 1}
  output._print_details({kind: {}, "seeds": [row]})
  (columns, rows), = shown.values()
  assert columns[4:] == (">changes",) * there
  assert rows == [["0", "50.00 %", "1", "1", *["0"] * there]]


def test_words_of_a_run_stand_once_in_the_log(monkeypatch):
  said, now = [], itertools.count(0.0, 3.0)
  monkeypatch.setattr(output.err, "print", said.append)
  monkeypatch.setattr(progress, "Left", functools.partial(
      progress.Left, clock=lambda: next(now)))
  display = output.Display(types.SimpleNamespace(tensorboard=False, out="x"))
  for stage, phase, done, seconds in (
      ("search", "search", 0.0, 7.2461), ("search", "policy", 0.5, 1234.5)):
    for more, metrics in ((0.0, {}), (0.125, {"loss": 0.5}),
                          (0.25, {"loss": 0.5})):
      display.progress(options.Progress(
          "search", stage, phase, 0, 2, 0, 3, done + more, metrics))
    display.row({"run": "search", "stage": stage, "phase": phase, "epoch": 0,
                 "loss": 0.5, "held_out_accuracy": 0.25, "seconds": seconds})
  # An eighth took 3 s by this clock.
  assert said == [
      "search: starts; compiles where the cache does not have it",
      "search epoch 1 of 2: loss 0.5000 held_out_accuracy 0.2500, after 7.2 s,"
      " 18.0 s left",
      "search policy: starts; compiles where the cache does not have it",
      "search policy epoch 1 of 2: loss 0.5000 held_out_accuracy 0.2500, after"
      " 21 min, 6.0 s left"]
