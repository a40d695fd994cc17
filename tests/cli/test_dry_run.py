"""What `--dry-run` shows of every method, and of a set that is not there."""

import json

import pytest

from natjax import cli, methods
from natjax.pipeline import runs

_ABSENT = ("train", "resnet20", "--dataset", "cifar10", "--preset", "small")


def run(capsys, *argv):
  code = cli.main([*map(str, argv), "--dry-run"])
  out, err = capsys.readouterr()
  return code, out, err


@pytest.mark.parametrize("method", methods.METHODS)
def test_seeds_are_shown(method, capsys):
  starts = methods.METHODS[method].starts
  given = ("search", "--space", "nasbench201", "--no-train") if (
      starts == "space") else ("transform", "resnet20", "--width", 0.25)
  code, out, err = run(
      capsys, *given, "--method", method, "--dataset", "digits",
      "--image-size", 8, "--seed", 3, "--seeds", 2)
  assert code == 0
  # One image of those that decide counts more than the tolerance.
  assert err.count("one of 144 held-out images counts 0.69 points") == (
      given[0] == "transform")
  assert out.splitlines()[0].endswith(f", method {method}, seeds 3:5")


@pytest.mark.long
@pytest.mark.parametrize("space,method,steps,found", [
    ("darts", "darts", 50 * 125, {"order": "first", "max_madds": ""}),
    ("darts", "it-nas", 50 * 125, {"skeleton": "imagenet"}),
    ("proxyless", "it-nas", 240 * 250, {"max_madds": "600M"}),
    ("proxyless", "spos", 150_000, {"max_madds": "600M", "epochs": 1200})])
def test_a_search_on_imagenet(
    space, method, steps, found, capsys, monkeypatch, tmp_path):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  code, out, err = run(
      capsys, "search", "--space", space, "--method", method, "--dataset",
      "imagenet2012", "--preset", "imagenet-search", "--no-train", "--devices",
      1, "--json")
  assert code == 0, err
  told = json.loads(out)
  assert told["estimate"]["search"]["steps"] == steps
  search = told["configuration"]["search"]
  assert {name: search[name] for name in found} == found


def test_what_is_scored_and_not_trained_is_called_that(capsys):
  code, _, err = run(
      capsys, "search", "--space", "nat", "--method", "random", "--score",
      "naswot", "--dataset", "digits", "--no-train", "--init-channels", 2,
      "--cells", 1)
  assert code == 0 and "one candidate, drawn at random: " in err
  assert "all candidates" not in err


def test_that_all_tries_are_counted_is_said(capsys):
  given = ["transform", "resnet20", "--method", "replace", "--dataset",
           "digits", "--image-size", "8", "--width", "0.5", "--dry-run"]
  for tries, said in ((3, True), (1, False)):
    assert cli.main([*given, "--tries", str(tries)]) == 0
    assert ("All tries are counted" in capsys.readouterr().out) == said


def test_how_images_of_an_absent_set_are_read_is_shown(capsys, monkeypatch,
                                                       tmp_path):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  code, out, err = run(capsys, *_ABSENT, "--seeds", "4:6")
  assert code == 0 and ", streamed" not in err
  assert out.splitlines()[0] == "train resnet20, seeds 4:6"
  code, _, err = run(capsys, *_ABSENT, "--stream", "--workers", 3)
  assert code == 0 and "32 pixels a side, streamed by 3 workers;" in err
  code, _, err = run(capsys, *_ABSENT, "--skip-damaged")
  assert ", streamed by threads, damaged ones left out;" in err
  for flags, words in (
      (["--workers", 3], "held in memory"), (["--workers", 999], "must lie in"),
      (["--test-fraction", 0.1], "has a test set"),
      (["--skip-damaged", "--no-stream"], "leave one of them out")):
    code, _, err = run(capsys, *_ABSENT, *flags)
    assert code == 2 and words in err


_TINY = ("train", "vgg-cell", "--dataset", "digits", "--preset", "demo",
         "--image-size", "8", "--init-channels", "2", "--cells", "1")


def test_a_folder_is_refused_as_the_run_would_and_nothing_is_made(
    capsys, tmp_path):
  out, foreign = tmp_path / "run", tmp_path / "foreign"
  assert run(capsys, *_TINY, "--out", out)[0] == 0 and not out.exists()
  foreign.mkdir()
  (foreign / "mine.txt").touch()
  code, _, err = run(capsys, *_TINY, "--out", foreign)
  assert code == 2 and "holds no run of natjax" in err
  _, said, _ = run(capsys, *_TINY, "--json")
  runs.open_run(out, json.loads(said)["configuration"])
  assert run(capsys, *_TINY, "--out", out)[0] == 0
  code, _, err = run(capsys, *_TINY, "--out", out, "--seed", 3)
  assert code == 2 and "a run of another configuration (seed 0 there" in err
  code, _, err = run(capsys, *_TINY, "--out", out / "networks" / "mine")
  assert code == 2 and "a folder of the run in" in err
  assert not (out / "networks").exists()


def test_one_of_several_processes_waits_for_no_other(capsys, tmp_path):
  out = tmp_path / "run"
  runs.open_run(out, {"kind": "train"})  # It may be of as many devices.
  flags = ("--coordinator", "localhost:9", "--num-processes", 2,
           "--process-id", 1)
  code, said, err = run(capsys, *_TINY, *flags, "--out", out)
  assert code == 0, err
  assert "A dry run joins no other processes" in err and "train " in said
  code, _, err = run(capsys, *_TINY, *flags[:-1], 2)
  assert code == 2 and "process-id is 2 and must lie in [0, 1]" in err
