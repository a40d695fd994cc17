"""A job on images that stay on disk, from the command line to a second look."""

import json
import shutil

import numpy as np
from PIL import Image
import pytest

from natjax import cli, errors
from natjax.pipeline import run_data

pytest.importorskip("grain", reason="needs grain, of the extra `data`")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """100 classes of a colour each, three images to train by and one to test."""
  folder = tmp_path_factory.mktemp("colors")
  rng = np.random.default_rng(0)
  for label in range(100):
    color = np.array([label % 5, label // 5 % 5, label // 25]) * 50
    for part, count in (("train", 3), ("val", 1)):
      place = folder / part / f"c{label:03}"
      place.mkdir(parents=True)
      for i in range(count):
        pixels = color + rng.integers(0, 10, (24, 20 + i, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{i}.jpg")
  return folder


@pytest.mark.long
def test_a_network_is_trained_and_looked_at_again(folder, tmp_path, capsys):
  out = tmp_path / "run"
  command = [
      "train", "vgg-cell", "--dataset", str(folder), "--preset", "demo",
      "--image-size", "8", "--init-channels", "2", "--cells", "1", "--epochs",
      "2", "--batch-size", "64", "--seeds", "1", "--no-auxiliary", "--devices",
      "1", "--resize", "imagenet", "--out", str(out)]
  assert cli.main(command) == 0
  result = json.loads((out / "result.json").read_text())
  assert 0 <= result["accuracy"] <= result["top5_accuracy"] <= 1
  assert result["top5_accuracies"] == [result["top5_accuracy"]]
  config = json.loads((out / "config.json").read_text())
  assert config["source"]["stream"] and config["source"]["resize"] == "imagenet"
  assert config["augmentation"]["jitter"] == [0.4, 0.4, 0.4, 0.2]
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  assert all(0 <= row["waited"] <= 1 for row in rows)
  assert "among the five first answers" in capsys.readouterr().out
  assert cli.main(["evaluate", str(out), "--json"]) == 0
  found = json.loads(capsys.readouterr().out)
  assert found["own"]
  network, = found["networks"]
  assert network["accuracy"] == pytest.approx(result["accuracy"])
  assert network["top5_accuracy"] == pytest.approx(result["top5_accuracy"])
  # Files of another size are other data; the same elsewhere are the same.
  moved = shutil.copytree(folder, tmp_path / "moved")
  assert run_data.load(out, str(moved))[1]
  Image.new("RGB", (50, 40)).save(folder / "train" / "c007" / "1.jpg")
  with pytest.raises(errors.InputError, match="checksums of the images"):
    run_data.load(out)
