"""`natjax evaluate` of several runs: one table, and paired differences."""

import json

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
  monkeypatch.setattr(console.out, "width", 120)  # Nothing is folded.
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
    assert row["reach"] == pytest.approx(1.96 * np.sqrt(
        np.var(right[-1]) / len(right[-1])))
  # By hand: of the images' differences, mean and deviation.
  apart = right[1].astype(float) - right[0]
  assert apart.any()
  reach = 1.96 * apart.std() / np.sqrt(len(apart))
  assert rows[1]["difference"] == pytest.approx(apart.mean())
  assert rows[1]["interval"] == pytest.approx(
      [apart.mean() - reach, apart.mean() + reach])
  assert "difference" not in rows[0] and "difference" not in rows[2]
  assert cli.main(["evaluate", *folders]) == 0
  text = capsys.readouterr().out
  assert text.count("not paired") == 1 and "network-4" in text


def test_what_is_no_run_is_refused_in_one_line(trained, capsys, monkeypatch):
  monkeypatch.setattr(networks_lib, "load", None)  # Before any is evaluated.
  assert cli.main(["evaluate", str(trained / "a"), str(trained)]) == 2
  assert capsys.readouterr().err.count("\n") == 1
