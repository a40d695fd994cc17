"""Numbers below 0, and those that are small: how they are read and written."""

import json

import pytest

from natjax import cli, errors
from natjax.cli import parser

_TRANSFORM = ("transform", "resnet20", "--method", "replace", "--dataset",
              "digits", "--image-size", "8", "--dry-run")


@pytest.mark.parametrize("flag, value, words", [
    ("--max-latency", "-5ms", "'-5ms'; give a number above 0 such as 5ms"),
    ("--max-latency", "-.5s", "'-.5s'; give a number above 0"),
    ("--max-memory", "-1MB", "'-1MB'; give a number above 0 such as 200MB"),
    ("--max-params", "-3K", "'-3K'; give a number above 0 such as 3e6"),
    ("--max-params", "0.8",
     "a multiple of the given architecture's such as 0.8x"),
    ("--max-madds", "-0.5x", "'-0.5x'; give a number above 0"),
    ("--tolerance", "-1", "tolerance is -1.0 and must not be negative"),
    ("--tolerance", "-1e-2", "tolerance is -0.01 and must not be negative"),
    ("--train-learning-rate", "-1e-3", "learning-rate is -0.001 and must not"),
    ("--seeds", "-3:2", "seeds is '-3:2'; pass a range")])
def test_what_is_below_0_is_a_value_and_no_flag(flag, value, words, capsys):
  for given in ([flag, value], [f"{flag}={value}"]):
    assert cli.main([*_TRANSFORM, *given]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1 and flag in said


def test_other_words_are_read_as_ever():
  args = parser.parse(["train", "resnet20", "--dataset", "-", "--seed", "-4",
                       "--overwrite"])
  assert (args.dataset, args.seed, args.overwrite) == ("-", -4, True)


@pytest.mark.parametrize("words,name,found", [
    ("rank RUN --table T a b --top 3 c", "architectures", ["a", "b", "c"]),
    ("rank RUN a --json b", "architectures", ["a", "b"]),
    ("evaluate RUN --json a", "others", ["a"]),
    ("evaluate --json RUN a", "others", ["a"]),
    ("verify RUN --json a.bin --network n b.bin", "pairs", ["a.bin", "b.bin"]),
    ("draw darts --out a.svg nasnet", "other", "nasnet"),
    ("draw darts nasnet --out a.svg", "other", "nasnet"),
    ("draw darts --out a.svg", "other", None),
    ("transform darts --dataset digits nasnet --seed 3", "others", ["nasnet"]),
    ("benchmark nasbench201 --table T a b", "architectures", ["a", "b"])])
def test_words_may_stand_behind_flags(words, name, found):
  assert getattr(parser.parse(words.split()), name) == found


@pytest.mark.parametrize("words,unknown", [
    ("draw darts --out a.svg nasnet amoebanet", "amoebanet"),
    ("draw darts nasnet --out a.svg amoebanet", "amoebanet"),
    ("evaluate RUN --jsn a", "--jsn a"), ("cost darts --json a", "a"),
    ("evaluate RUN --json a --epochs 3", "a --epochs 3")])
def test_words_without_a_place_are_refused(words, unknown):
  with pytest.raises(errors.InputError, match=f"ed arguments: {unknown};"):
    parser.parse(words.split())


@pytest.mark.parametrize("limit", ["1", "1.5", "0.00001x"])
def test_a_small_limit_is_not_written_as_zero(limit, capsys):
  assert cli.main([*_TRANSFORM, "--max-memory", limit]) == 3
  said = capsys.readouterr().err
  assert "0.000" not in said and "bytes of memory" in said


def test_sizes_of_a_small_network_are_not_written_as_zero(capsys):
  assert cli.main(["cost", "resnet20", "--width", "0.1", "--image-size", "4",
                   "--json"]) == 0
  madds = json.loads(capsys.readouterr().out)["madds"]
  assert 0 < madds < 1e5
  assert cli.main(["cost", "resnet20", "--width", "0.1", "--image-size",
                   "4"]) == 0
  assert f", {madds} multiply-adds (" in capsys.readouterr().out
  assert cli.main(["operations", "--channels", "2", "--image-size", "2"]) == 0
  rows = {cells[1]: cells[2:4] for cells in (
      [cell.strip() for cell in line.split("│")]
      for line in capsys.readouterr().out.splitlines() if "│" in line)}
  assert rows["null"] == ["0.0", "0.0"] and rows["conv_1x1"] == [
      "0.004", "1.6e-05"]
  assert cli.main(["train", "resnet20", "--width", "0.1", "--dataset", "digits",
                   "--image-size", "4", "--batch-size", "8", "--dry-run"]) == 0
  out, err = capsys.readouterr()
  for text in (out, err):
    assert "0.000 M" not in text and " 0.0 M" not in text
    assert " 0 MB" not in text


_SEARCH = ("search", "--space", "darts", "--dataset", "digits", "--dry-run")


@pytest.mark.parametrize("method, by, value, flag", [
    ("spos", "search", "random", "--mutations"),
    ("spos", "search", "random", "--mutation-probability"),
    ("random", "search", "random", "--generations"),
    ("random", "score", "naswot", "--epochs"),
    ("random", "score", "synflow", "--weight-decay")])
def test_what_another_setting_leaves_idle_is_refused(
    method, by, value, flag, capsys, tmp_path):
  argv = [*_SEARCH, "--method", method, f"--{by}", value]
  assert cli.main(argv) == 0
  capsys.readouterr()
  name = flag.lstrip("-").replace("-", "_")
  number = 1 if name in ("mutations", "epochs", "generations") else 0.5
  file = tmp_path / "settings.json"
  file.write_text(json.dumps({"search": {name: number}}))
  for given in ([flag, str(number)], ["--config", str(file)]):
    assert cli.main([*argv, *given]) == 2
    assert f"and does nothing with {by} {value}; leave it out" in (
        capsys.readouterr().err)
