"""natjax transform --method differentiable, and --objective, by the flags."""

import json

import numpy as np
import pytest

from natjax import cli, zoo
from natjax.graph import blocks, codec
from natjax.pipeline import networks as networks_lib

SMALL = ["--dataset", "digits", "--train-batch-size", "256", "--train-epochs",
         "2", "--architecture-epochs", "1"]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
  folder = tmp_path_factory.mktemp("cli") / "run"
  network = blocks.scale(zoo.get("resnet20"), 0.25)
  file = folder.parent / "two_blocks.json"
  file.write_text(codec.to_json(network._replace(
      blocks=(network.blocks[0], network.blocks[3]))))
  assert cli.main([
      "transform", str(file), "--method", "differentiable", "--objective",
      "simclr", *SMALL, "--seeds", "0:1", "--no-compare", "--simclr-hidden",
      "16", "--simclr-projection", "8", "--simclr-watch-epochs", "1",
      "--simclr-linear-steps", "5", "--simclr-watch-images", "64",
      "--out", str(folder)]) == 0
  return folder


@pytest.mark.long
def test_without_labels_the_features_are_judged(out, capsys):
  result = json.loads((out / "result.json").read_text())
  assert result["objective"] == "simclr" and "original" not in result
  assert len(result["transformed"]["linear_accuracies"]) == 1
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  assert [row["run"] for row in rows] == ["theta-0", "transformed-0"]
  assert all(0 <= row["neighbours"] <= 1 for row in rows)
  assert cli.main(["evaluate", str(out), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)["networks"][0]
  assert found["accuracy"] == pytest.approx(
      result["transformed"]["accuracy"], abs=0.01)


@pytest.mark.long
def test_the_network_that_is_kept_gives_features(out):
  net = networks_lib.load(out)
  images = np.zeros((2, 8, 8, 3), np.uint8)
  assert net.features(images).shape == (2, 8)
  with pytest.raises(ValueError, match="no classifier"):
    net.predict(images)


@pytest.mark.long
def test_theta_is_drawn_from_a_run(out, tmp_path, capsys):
  target = tmp_path / "theta.svg"
  assert cli.main(["draw", str(out), "--theta", "--out", str(target)]) == 0
  assert "theta-0" in target.read_text()
  assert cli.main(["draw", "darts", "--theta", "--out", str(target)]) == 2
  assert "run's folder" in capsys.readouterr().err


def dry(capsys, *args):
  assert cli.main([*args, "--dry-run", "--json"]) == 0
  return json.loads(capsys.readouterr().out)["configuration"]


def test_presets_of_the_papers(capsys):
  found = dry(capsys, "transform", "resnet20", "--method", "differentiable",
              "--share", "full", "--preset", "paper", "--dataset", "digits")
  assert found["train"]["epochs"] == 600
  assert found["train"]["learning_rate"] == 0.025
  assert found["train"]["seeds"] == 5
  assert found["search"]["architecture_epochs"] == 300
  found = dry(capsys, "train", "resnet50", "--objective", "simclr", "--preset",
              "paper", "--dataset", "digits")
  assert found["simclr"]["temperature"] == 0.5
  assert found["simclr"]["neighbours"] == 200
  assert (found["train"]["epochs"], found["train"]["optimizer"]) == (
      500, "adam")


def test_cells_can_be_unshared(capsys):
  found = dry(capsys, "transform", "darts", "--method", "differentiable",
              "--share", "full", "--dataset", "digits")
  assert len(found["space"]["groups"]) == 4
  assert found["architecture"]["kind"] == "network"


@pytest.mark.parametrize("args,message", [
    (["train", "resnet20", "--simclr-crop", "0.5"], "--objective simclr"),
    (["train", "resnet20", "--objective", "other"], "supervised, simclr"),
    (["train", "resnet20", "--objective", "simclr", "--cutout", "4"],
     "cutout"),
    (["transform", "resnet20", "--method", "nat", "--objective", "simclr"],
     "objective is simclr and does not apply"),
    (["transform", "resnet20", "--method", "differentiable",
      "--architecture-epochs", "99"], "architecture-epochs"),
    (["transform", "resnet20", "--method", "differentiable", "--share", "x"],
     "cell, full"),
])
def test_refusals_are_one_line(args, message, capsys):
  assert cli.main([*args, "--dataset", "digits", "--dry-run"]) == 2
  text = capsys.readouterr().err
  assert message in text and len(text.splitlines()) == 1


def test_a_budget_that_cannot_be_met_exits_with_3(capsys):
  assert cli.main([
      "transform", "resnet20", "--method", "differentiable", "--dataset",
      "digits", "--max-params", "0.01x", "--dry-run"]) == 3
  assert "keeps to the budget" in capsys.readouterr().err
