"""`natjax evaluate` of several runs: one table, and paired differences."""

import json
import shutil

import numpy as np
import pytest

from natjax import cli, data
from natjax.cli import console
from natjax.costs import exact
from natjax.graph import codec
from natjax.pipeline import networks as networks_lib
from tests.methods import test_replacements

_TRAIN = ("--dataset", "digits", "--epochs", "1", "--batch-size", "64",
          "--seeds", "1", "--preset", "demo")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """Two networks of the same test images, and one of smaller ones."""
  folder = tmp_path_factory.mktemp("runs")
  (folder / "mine.json").write_text(codec.to_json(test_replacements.RESIDUAL))
  for name, *flags in (
      ("a", "--image-size", "8"),
      ("b", "--image-size", "8", "--seed", "4", "--batch-size", "32"),
      ("c", "--image-size", "6")):
    assert cli.main(["train", str(folder / "mine.json"), *_TRAIN, *flags,
                     "--out", str(folder / name)]) == 0
  return folder


def test_runs_stand_beside_each_other(trained, capsys, monkeypatch):
  monkeypatch.chdir(trained)
  folders = ["a", "b", "c"]
  capsys.readouterr()
  assert cli.main(["evaluate", *folders, "--json"]) == 0
  rows = json.loads(capsys.readouterr().out)["networks"]
  assert [row["run"] for row in rows] == folders
  right = []
  for row, size in zip(rows, (8, 8, 6), strict=True):
    net, own = networks_lib.load(row["run"]), data.load(
        "digits", image_size=size)
    right.append(np.asarray(net.predict(own.test_images)) == own.test_labels)
    assert row["accuracy"] == pytest.approx(np.mean(right[-1]))
    assert row["images"] == len(own.test_labels)
    assert (row["params"], row["madds"]) == exact.network(
        net.architecture, net.module.frame)[:2]
    more = [*right[-1], 1, 1, 0, 0]  # Two more right, and two wrong.
    assert row["reach"] == pytest.approx(
        1.96 * np.std(more) / np.sqrt(len(more)))
  # By hand: of the images' differences, mean and deviation.
  apart = right[1].astype(float) - right[0]
  assert apart.any()
  more = [*apart, 1, -1]  # An image more that each alone gets right.
  reach = 1.96 * np.std(more) / np.sqrt(len(more))
  assert rows[1]["difference"] == pytest.approx(apart.mean())
  assert rows[1]["interval"] == pytest.approx(
      [apart.mean() - reach, apart.mean() + reach])
  assert "difference" not in rows[0] and "difference" not in rows[2]
  assert all(row["finished"] for row in rows)


def test_the_table_fits_80_columns_and_names_what_is_not_finished(
    trained, capsys, monkeypatch, tmp_path):
  monkeypatch.setattr(console.out, "width", 80)
  name = "transform-resnet20-replace-cifar10-with-a-long-name"
  shutil.copytree(trained / "b", tmp_path / name)
  (tmp_path / name / "result.json").unlink()
  monkeypatch.chdir(tmp_path)
  folders = [str(trained / "a"), name, str(trained / "c")]
  capsys.readouterr()
  assert cli.main(["evaluate", *folders]) == 0
  text = capsys.readouterr().out
  lines = [line for line in text.splitlines() if line.startswith("│")]
  assert len(lines) == 3 and all(len(line) <= 80 for line in lines)
  assert "not paired" in lines[2] and "network-4" in lines[1]
  said = [line for line in text.splitlines() if "not finished" in line]
  assert [line.split(",")[0] for line in said] == [f"run 2: {name}"]
  assert cli.main(["evaluate", name]) == 0
  assert "not finished" in capsys.readouterr().out
  for path in (tmp_path / name / "networks").glob("*/result.json"):
    path.unlink()
  assert cli.main(["evaluate", *folders]) == 2
  assert "and is not finished" in capsys.readouterr().err


@pytest.mark.parametrize("again", ["a", "./a", "b/../a"])
def test_a_run_that_is_named_twice_is_refused(
    trained, capsys, monkeypatch, again):
  monkeypatch.chdir(trained)
  monkeypatch.setattr(networks_lib, "load", None)  # Before any is evaluated.
  assert cli.main(["evaluate", "a", "b", again]) == 2
  error = capsys.readouterr().err
  assert f"{again} is the same run as a" in error and error.count("\n") == 1


def test_what_is_no_run_is_refused_in_one_line(trained, capsys, monkeypatch):
  monkeypatch.setattr(networks_lib, "load", None)  # Before any is evaluated.
  assert cli.main(["evaluate", str(trained / "a"), str(trained)]) == 2
  assert capsys.readouterr().err.count("\n") == 1
