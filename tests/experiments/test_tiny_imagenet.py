"""Smoke of Table 3 on a made-up folder; says nothing of accuracy."""

import importlib
import json

import pytest

from tests import tiny
from tests.experiments import scripts
from tests.experiments import test_differentiable_reproducibility as beside

SCRIPT = scripts.EXPERIMENTS / "tiny_imagenet.py"
KINDS = ["original", "cell", "full"]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  folder = tmp_path_factory.mktemp("data")
  tiny.make_tiny_imagenet(folder / "tiny-imagenet-200", ("n01", "n02", "n03"),
                          train=12, test=4, size=64)
  return folder


def check_record(folder):
  """What holds of every record."""
  result = json.loads((folder / "report" / "result.json").read_text())
  networks = result["datasets"]["tiny_imagenet"]
  assert list(networks) == ["resnet20"]
  kinds = networks["resnet20"]
  assert list(kinds) == KINDS
  beside.check_rows(kinds)
  assert kinds["original"]["seeds"][0]["place"] == {
      "num_classes": 3, "image_size": 8}
  text = (folder / "report" / "README.md").read_text()
  for part in ("## tiny_imagenet", "| 50.72 ± 0.41 |", "| 52.71 ± 0.23 |",
               "tiny_imagenet.py --preset smoke", "--data-dir DATA"):
    assert part in text
  assert "NAT" not in text
  return networks


@pytest.mark.long
def test_compares_everything_once(tmp_path, data_dir):
  args = ("-c", scripts.UNTRAINED, SCRIPT.stem,
          *scripts.flags(tmp_path, "--data-dir", data_dir))
  done = scripts.run(*args)
  assert done.returncode == 0, done.stderr
  networks = check_record(tmp_path)
  trained = done.stdout.split("trained: ")[1].split()
  one = ["theta-0", "transformed-0", "theta-1", "transformed-1"]
  assert trained == ["network-0", "network-1", *one, *one]
  again = scripts.run(*args)
  assert again.returncode == 0, again.stderr
  assert again.stdout.endswith("trained:\n")
  assert check_record(tmp_path) == networks


@pytest.mark.slow
def test_smoke_trains(tmp_path, data_dir):
  done = scripts.run(SCRIPT, *scripts.flags(
      tmp_path, "--data-dir", data_dir))
  assert done.returncode == 0, done.stderr
  assert "resnet20 full: theta-0 architecture train 0 loss" in done.stdout
  assert "'block" not in done.stdout  # Theta is not among what is printed.


def test_says_how_to_get_the_data(tmp_path):
  done = scripts.run(SCRIPT, *scripts.flags(tmp_path, "--data-dir", tmp_path))
  assert done.returncode == 2
  assert done.stderr.startswith("tiny_imagenet: tiny_imagenet not found in")
  assert "tiny-imagenet-200.zip" in done.stderr
  assert "as data_dir" in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_the_paper_trains_two_networks_for_half_as_long(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPT.parent))
  script = importlib.import_module(SCRIPT.stem)
  config = script.PRESETS["paper"]
  assert config.image_size == 64
  epochs = {name: script.tables.build(name, config)[1].epochs
            for name in config.networks}
  assert epochs == {"resnet20": 600, "mobilenetv2": 300, "darts": 300}
