"""What `--dry-run` shows of every method, and of a set that is not there."""

import json

import pytest

from natjax import cli, methods

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
