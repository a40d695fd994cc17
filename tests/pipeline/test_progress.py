"""What is printed while a job runs, and what a notebook shows at its end."""

import io
import json
import shutil
from xml.etree import ElementTree

import numpy as np
import pytest

import natjax
from natjax import pipeline, zoo
from natjax.graph import codec
from natjax.pipeline import progress, results, tables
from natjax.training import options
from tests.pipeline import test_pipeline


class Terminal(io.StringIO):
  """A file that says that it is a terminal."""

  def isatty(self):
    return True


def at(run="a-0", stage="train", phase="train", epoch=0, epochs=2, step=4,
       steps=4, done=0.5, **metrics):
  return options.Progress(
      run, stage, phase, epoch, epochs, step, steps, done, metrics)


COURSE = [
    at("search", "warmup", "weights", step=0, done=0.0),
    at("search", "warmup", "weights", step=2, done=0.25, accuracy=0.25),
    at("search", "warmup", "weights", done=0.5, loss=2.0, accuracy=0.5),
    at("search", "search", "policy", step=0, done=0.5),
    at("search", "search", "policy", done=0.75, reward=0.125)]


def printed(file, course, seconds=10.0, **settings):
  heard = []
  listener = pipeline.Printed(
      on_progress=heard.append, seconds=seconds, file=file, **settings)
  with listener.hearing() as plain:
    assert type(plain) is pipeline.Listener
    for p in course:
      plain.on_progress(p)
  assert heard == course
  return file.getvalue()


def test_a_file_has_a_line_per_phase_at_its_start_and_at_its_end():
  assert printed(io.StringIO(), COURSE).splitlines() == [
      "search, warmup, weights: epoch 1 of 2, compiles where the cache does not"
      " have it",
      "search, warmup, weights: epoch 1 of 2, accuracy 50.0 %, 0.0 s left",
      "search, policy: epoch 1 of 2, compiles where the cache does not have it",
      "search, policy: epoch 1 of 2, reward 0.125, 0.0 s left"]
  lines = printed(io.StringIO(), COURSE, seconds=0.0).splitlines()
  assert len(lines) == 5 and "accuracy 25.0 %" in lines[1]


def test_a_terminal_has_one_line_per_phase_written_over():
  text = printed(Terminal(), COURSE)
  assert text.count("\n") == 2 and text.endswith("\n")
  first, second, _ = text.split("\n")
  assert first.count("\r") == 3 and "accuracy 50.0 %" in first
  # What was longer is written over.
  assert len(first.split("\r")[2]) >= len(first.split("\r")[1])
  assert "reward 0.125" in second


def test_seeds_that_train_at_once_are_one_line():
  course = [at(run, step=step, epoch=epoch, done=done, **metrics)
            for epoch, step, done, metrics in (
                (0, 0, 0.0, {}), (0, 4, 0.5, {"loss": 1.0}),
                (1, 4, 1.0, {"loss": 0.5}))
            for run in ("a-0", "a-1")]
  lines = printed(io.StringIO(), course, seconds=0.0).splitlines()
  assert len(lines) == 3
  assert all(line.startswith("a-0, train") for line in lines)
  one_by_one = [p for run in ("a-0", "a-1") for p in course if p.run == run]
  assert len(printed(io.StringIO(), one_by_one, seconds=0.0).splitlines()) == 6


def test_time_left_leaves_compilation_out():
  now = iter([0.0, 30.0, 34.0, 36.0, 90.0, 94.0])
  left = progress.Left(clock=lambda: next(now))
  found = [left(p) for p in (
      at(step=0, done=0.0), at(step=1, done=0.125, loss=1.0),
      at(step=3, done=0.375, loss=1.0), at(phase="b", step=0, done=0.5),
      at(phase="b", step=1, done=0.625, loss=1.0),
      at(phase="b", step=3, done=0.875, loss=1.0))]
  # 4 s for a quarter; then 54 s in which b compiled; then 4 s for a quarter.
  assert found == [None, None, 10.0, 8.0, 6.0, 2.0]


@pytest.mark.parametrize("seconds, words", [
    (0.04, "0.0 s"), (99.94, "99.9 s"), (100.0, "2 min"), (5940.0, "99 min"),
    (9000.0, "2.5 h")])
def test_durations(seconds, words):
  assert progress.duration(seconds) == words


@pytest.mark.parametrize("wrong", [{"seconds": "x"}, {"file": "x"}])
def test_what_cannot_be_printed_to_is_refused(wrong):
  with pytest.raises(natjax.InputError, match="a number and an open"):
    natjax.Printed(**wrong)


def test_it_says_from_where_a_run_goes_on():
  file = io.StringIO()
  with pipeline.Printed(file=file).hearing() as listener:
    listener.on_resume(at(epoch=1))
  assert file.getvalue() == "a-0, train: resumed at epoch 2 of 2\n"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A training that printed, and what."""
  out, file = tmp_path_factory.mktemp("train") / "run", io.StringIO()
  result = natjax.train(
      test_pipeline.GENOTYPE, test_pipeline.dataset(), out=out, seed=3,
      config=test_pipeline.TRAIN, devices=1,
      listener=natjax.Printed(file=file))
  return out, result, file.getvalue()


def test_what_a_finished_run_has_no_more_is_said(finished, tmp_path):
  out, file = shutil.copytree(finished[0], tmp_path / "run"), io.StringIO()
  (out / "networks" / "network-4" / "weights.npz").unlink()
  natjax.train(
      test_pipeline.GENOTYPE, test_pipeline.dataset(), out=out, seed=3,
      config=test_pipeline.TRAIN, devices=1,
      listener=natjax.Printed(file=file))
  assert file.getvalue().endswith(
      f"{out}: result.json; networks/network-4/weights.npz, which it had when"
      " it was finished, is gone\n")


def test_a_job_prints_by_default_and_is_silenced_by_none(
    finished, monkeypatch, capsys, tmp_path):
  out, _, text = finished
  first, *_, last, end = text.splitlines()
  assert first.startswith("network-3, train: epoch 1 of 2")
  assert "network-4" in last and "accuracy" in text
  assert end == f"{out}: result.json"
  heard = []

  def run(self, out, listener):
    del out
    heard.append(listener)
    listener.on_progress(at())
    return {"seconds": 1.0, "architecture": {}, "params": 1, "madds": 1}, []

  monkeypatch.setattr(pipeline.TrainJob, "_run", run)
  train = lambda name, **more: natjax.train(
      test_pipeline.GENOTYPE, test_pipeline.dataset(), out=tmp_path / name,
      config=test_pipeline.TRAIN, devices=1, **more)
  train("a")
  assert capsys.readouterr().err == (
      "a-0, train: epoch 1 of 2, compiles where the cache does not have it\n"
      f"{tmp_path / 'a'}: result.json\n")
  with monkeypatch.context() as patch:
    patch.setattr(pipeline.TrainJob, "coarse", "few images")
    train("told")
    assert capsys.readouterr().err.startswith("note: few images\na-0, train: ")
    train("untold", listener=None)
  train("b", listener=None)
  train("c", listener=natjax.Listener())
  shown = capsys.readouterr()
  assert (shown.out, shown.err) == ("", "")
  assert all(type(listener) is natjax.Listener for listener in heard)


class Own(natjax.Listener):
  """As people write one: attributes of its own, and methods."""

  def __init__(self):
    super().__init__(chunk_seconds=2.0)
    self.rows = []

  def on_row(self, row):
    self.rows.append(row)


class Bare(natjax.Listener):

  def __init__(self):
    self.rows = []

  def on_row(self, row):
    self.rows.append(row)


class Shown(natjax.Printed):
  rows: list = []

  def on_row(self, row):
    self.rows.append(row)


@pytest.mark.parametrize("kind", [Own, Bare, Shown])
def test_the_methods_of_a_listener_are_called(kind):
  own = kind()
  with progress.hearing(own, True) as heard:
    heard.on_row({"run": "a"})
    heard.named("seed 3").on_row({"run": "a"})
    heard.on_progress(at())
    assert type(heard) is natjax.Listener and not heard.should_stop()
    assert heard.chunk_seconds == (2.0 if kind is Own else 10.0)
  assert own.rows == [{"run": "a"}, {"run": "seed 3 a"}]


def test_what_is_given_to_a_listener_counts_for_more_than_a_default():
  heard = []
  assert Shown(on_progress=heard.append).on_progress(1) is None
  assert heard == [1]
  for wrong, said in (({"on_row": 5}, "on_row is 5 and must be a function"),
                      ({"chunk_seconds": "3"}, "must be a number"),
                      ({"chunk_seconds": np.nan}, "is nan and must be a"),
                      ({"chunk_seconds": np.inf}, "must be a finite number"),
                      ({"checkpoint_seconds": -1}, "of 0 or more; give 60")):
    for kind in (natjax.Listener, natjax.Printed):
      with pytest.raises(natjax.InputError, match=said):
        kind(**wrong)


def parsed(result):
  """The elements of what a notebook shows, which must be well formed."""
  text = result._repr_html_()
  return text, ElementTree.fromstring(f"<div>{text}</div>")


def test_a_training_shows_itself(finished):
  out, result, _ = finished
  assert isinstance(result, dict)
  assert result == json.loads((out / "result.json").read_text())
  assert json.loads(json.dumps(result)) == result
  text, tree = parsed(result)
  assert f"{100 * result['accuracy']:.2f} ±" in text
  assert len(tree.findall("{http://www.w3.org/2000/svg}svg")) == 1


def shown(before, after, images=100, **more):
  part = lambda accuracy, madds: {
      "params": 2000, "madds": madds, "accuracy": accuracy, "accuracy_std": 0.0,
      "accuracies": [accuracy]}
  original, other = zoo.get("darts"), zoo.get("nat_darts")
  return results.Result({
      "original": part(before, 4e6), "transformed": part(after, 3e6),
      "changes": [{"cell": "normal", "source": 1, "target": 4,
                   "before": "sep_conv_3x3", "after": "<null>"}],
      "architectures": {"original": codec.to_dict(original),
                        "transformed": codec.to_dict(other)},
      "dataset": "d & d", "method": "nat", **more}, images)


def test_a_transformation_shows_what_it_came_to():
  text, tree = parsed(shown(0.5, 0.9))
  assert "+40.00" in text and "(noise)" not in text and "-25.0 %" in text
  assert "The transformed network is more accurate" in text
  assert "1 -&gt; 4" in text and "&lt;null&gt;" in text and "d &amp; d" in text
  assert "replaced by null" in text
  assert len(tree.findall("table")) == 2
  assert "+1.00 (noise)" in shown(0.5, 0.51)._repr_html_()


def test_accuracies_beside_the_usual_one_are_told():
  found = shown(0.5, 0.9)
  found["transformed"] |= {"top5_accuracy": 0.95, "linear_accuracy": 0.8}
  assert {"among the five first answers of the transformed: 95.00 %",
          "linear classifier on the transformed's features: 80.00 %"} < {
              *str(found).split("\n")}


def test_what_was_kept_is_drawn_once():
  same = codec.to_dict(zoo.get("darts"))
  text, _ = parsed(shown(0.5, 0.5, changes=[], architectures={
      "original": same, "transformed": same}))
  assert "replaced by" not in text.partition("<svg")[2]


def test_several_architectures_show_each():
  text, tree = parsed(results.Result(
      {"union": [dict(shown(0.5, 0.9)), dict(shown(0.6, 0.7))],
       "dataset": "d"}, 100))
  assert [h.text for h in tree.findall("h4")] == [
      "architecture 1", "architecture 2"]
  assert "+40.00" in text and "+10.00" in text


def point(madds, **more):
  return {"params": 2000, "madds": madds, "score": 0.5, "standard_error": 0.0,
          "original": False, "chosen": False, "pareto": True, **more}


def test_where_the_time_went_and_the_points_are_shown():
  more = {"candidates": [point(4e6, original=True), point(3e6, chosen=True)],
          "time": {"search": 12.34, "other": 0.5},
          "skipped": {"train": 3, "test": 1}}
  result = shown(0.5, 0.9, **more)
  text, tree = parsed(result)
  heads = [[cell.text for cell in table.find("tr")]
           for table in tree.findall("table")]
  assert [head[0] for head in heads] == [None, "cell", "point"]
  points = [[cell.text for cell in row]
            for row in tree.findall("table")[2].findall("tr")[1:]]
  assert [row[:2] for row in points] == [["1", "chosen"], ["2", "original"]]
  time = "time: search 12.3 s, other 0.5 s"
  skipped = "left out as damaged: 3 training and 1 test images"
  assert text.count(time) == text.count(skipped) == 1
  assert text.index(skipped) < text.index(time) < text.index("<svg")
  lines = str(result).split("\n")
  assert {time, skipped} < {*lines}
  assert [line.split()[:2] for line in lines if "3.000 M" in line][-1] == [
      "1", "chosen"]
  # Of several, the points of each, and the time of all.
  both = results.Result({"union": [dict(result)] * 2, "dataset": "d",
                         "time": {"search": 99.0}}, 100)
  text, tree = parsed(both)
  assert len(tree.findall("table")) == 6
  assert text.count("time: ") == str(both).count("time: ") == 1
  assert "time: search 99.0 s" in text
  assert str(both).count("no other dominates") == 2


def test_of_several_architectures_each_is_told_by_its_number():
  result = results.Result(
      {"union": [dict(shown(0.5, 0.9)), dict(shown(0.6, 0.1))],
       "dataset": "d", "note": "a & b"}, 100)
  first, second, note = result.told()
  assert first.startswith("architecture 1: The transformed network is more")
  assert second.startswith("architecture 2: The original is more accurate")
  assert note == "Note: a & b." and str(result).count(note) == 1
  assert result._repr_html_().count("Note: a &amp; b.") == 1


def test_a_search_that_trained_nothing_is_shown():
  text, _ = parsed(results.Result({
      "derived": {"params": 2000, "madds": 4e6}, "method": "darts",
      "dataset": "d", "architectures": {"derived": codec.to_dict(
          zoo.get("darts"))}}, 100))
  assert "not trained" in text and tables.MEASURED[0][1:] in text
