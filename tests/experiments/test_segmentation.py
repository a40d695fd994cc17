"""The experiment on segmentation: what it made learns, and what it refuses."""

import json

import pytest

from natjax.data import voc
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "segmentation.py"


@pytest.mark.long
def test_made_stripes_are_learnt_and_recorded(tmp_path):
  flags = scripts.flags(tmp_path, "--backbones", "darts")
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row = result["backbones"]["darts"]
  # Of two classes a picture, one for all pixels would get a third at most.
  assert row["miou"] > 0.6 and row["absent"] == []
  assert row["params"] > 0 and row["madds"] > 0 and not row["trained"]
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| darts |", "75.1", "The pictures are made",
               "segmentation.py --preset smoke", "jax 0."):
    assert part in text
  assert scripts.run(SCRIPT, *flags).returncode == 0  # All is there.


@pytest.mark.long
def test_a_dry_run_says_what_it_would_take(tmp_path):
  done = scripts.run(SCRIPT, "--preset", "paper", "--dry-run", "--backbones",
                     "mobilenetv2", "--out", tmp_path / "run")
  assert done.returncode == 0, done.stderr
  assert "| mobilenetv2 | 4.52 | 5.36 | 30406 |" in done.stdout
  assert not (tmp_path / "run").exists()


def test_bad_input_is_one_line_and_exit_2(tmp_path):
  folder = voc.make(tmp_path / "voc", {"train": [(8, 8)], "val": [(8, 8)]})
  (folder / "SegmentationClass" / "train_0.png").unlink()
  flags = ["--preset", "paper", "--out", tmp_path / "run", "--split", "train",
           "--masks", "SegmentationClass"]
  done = scripts.run(SCRIPT, *flags, "--data-dir", folder)
  assert done.returncode == 2
  assert "there is no mask" in done.stderr and done.stderr.count("\n") == 1
