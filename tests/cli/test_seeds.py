"""--seeds: several seeds in one run, in every training command."""

import json

import jax
import pytest

from natjax import cli
from natjax.pipeline import networks as networks_lib
from natjax.training import fit

TINY = ["--dataset", "digits", "--preset", "demo", "--image-size", "8",
        "--width", "0.25", "--batch-size", "256"]


@pytest.mark.long
def test_a_search_of_its_own_for_every_seed(tmp_path, capsys, monkeypatch):
  trained = []

  def skip(method, splits, *, options, **settings):
    trained.append((options.run, options.seed))
    options.checkpoint_dir.mkdir(parents=True)
    return method.init(jax.random.key(options.seed))

  monkeypatch.setattr(fit, "fit", skip)
  out = tmp_path / "run"
  args = ["transform", "resnet20", "--method", "nat", *TINY,
          "--train-batch-size", "256", "--candidates", "2", "--seeds", "3:5",
          "--out", str(out)]
  assert cli.main(args) == 0
  assert [t for t in trained if t[0] == "search"] == [
      ("search", 3), ("search", 4)]
  result = json.loads((out / "result.json").read_text())
  assert [row["seed"] for row in result["seeds"]] == [3, 4]
  assert len(result["original"]["accuracies"]) == 2
  text = capsys.readouterr().out
  assert "2 seed(s) each" in text and "seed by seed" in text
  names = set(networks_lib.networks(out))
  assert {"seed-3/original-3", "seed-4/original-4"} <= names
  assert networks_lib.load(out, "seed-4/original-4").test_accuracy == result[
      "seeds"][1]["original_accuracy"]
  count = len(trained)
  assert cli.main(args) == 0 and len(trained) == count  # It is finished.
  assert cli.main([*args[:-4], "--seeds", "3:6", "--out", str(out)]) == 2
  assert "seeds" in capsys.readouterr().err


@pytest.mark.parametrize("command,seeds,first,count", [
    (["train"], "4:7", 4, 3), (["train", "--seed", "2"], "3", 2, 3),
    (["transform", "--method", "differentiable"], "0:5", 0, 5)])
def test_seeds_of_training_follow_each_other(
    command, seeds, first, count, capsys):
  assert cli.main([command[0], "resnet20", *command[1:], "--dataset", "digits",
                   "--seeds", seeds, "--dry-run", "--json"]) == 0
  config = json.loads(capsys.readouterr().out)["configuration"]
  assert (config["seed"], config["train"]["seeds"]) == (first, count)


@pytest.mark.parametrize("args,message", [
    (["train", "darts", "--seeds", "5:3"], "0:5"),
    (["train", "darts", "--seeds", "a"], "0:5"),
    (["train", "darts", "--seeds", "0:2", "--seed", "1"], "leave one"),
    (["transform", "darts", "--seeds", "0:2", "--train-seeds", "3"],
     "train-seeds"),
    (["transform", "darts", "--method", "differentiable", "--samples", "2"],
     "samples is 2 and does not apply"),
    (["transform", "darts", "--fold"], "fold is True and does not apply"),
    (["transform", "darts", "--no-compare"], "compare"),
    (["transform", "darts", "--method", "differentiable", "--space", "nat"],
     "space"),
])
def test_refusals_are_one_line(args, message, capsys):
  assert cli.main([*args, "--dataset", "digits", "--dry-run"]) == 2
  text = capsys.readouterr().err
  assert message in text and len(text.splitlines()) == 1
