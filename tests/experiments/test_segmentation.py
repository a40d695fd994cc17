"""The experiment on segmentation: what it made learns, and what it refuses."""

import importlib
import json

import numpy as np
import pytest
from scipy import io

from natjax import errors
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


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  return importlib.import_module("segmentation")


def test_a_backbone_is_a_job(script, monkeypatch, tmp_path):
  """One alone runs in a job, and one that fails is missing in the report."""
  asked, jobs = [], script.sweeps.sweep_jobs

  def run(name, built, config, train, test, out):
    assert len(train) == 24 and len(test) == 6 and not out.exists()
    asked.append(name)
    if name == "darts":
      raise ValueError("broken")
    return {"params": 1, "madds": 1, "trained": False, "miou": 0.5,
            "accuracy": 0.5, "absent": []}

  monkeypatch.setattr(script, "run", run)
  argv = [*map(str, scripts.flags(tmp_path))]
  monkeypatch.setattr(jobs, "PART", "resnet18")
  with pytest.raises(SystemExit) as end:
    script.main(argv)
  assert not end.value.code and asked == ["resnet18"]
  made = tmp_path / "run" / "pictures" / "JPEGImages" / "val_0.jpg"
  before = made.stat().st_mtime_ns
  monkeypatch.setattr(jobs, "PART", None)
  with pytest.raises(SystemExit) as end:
    script.main(argv)
  assert end.value.code == 1 and asked == ["resnet18", "darts"]
  assert made.stat().st_mtime_ns == before  # A job may be reading it.
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  assert [*result["backbones"]] == ["resnet18"]
  assert result["missing"] == {"darts": "ValueError: broken"}


def test_sbd_says_what_is_trained_on(script, monkeypatch, tmp_path):
  folder, own = tmp_path / "voc", tmp_path / "sbd"
  voc.make(folder, {"train": [(8, 8)] * 2, "val": [(8, 8)], "more": [(8, 8)]})
  (own / "cls").mkdir(parents=True)
  for name in ("train", "val"):
    (own / f"{name}.txt").write_text("train_0\nmore_0\n")
  io.savemat(own / "cls" / "more_0.mat", {"GTcls": {
      "Segmentation": np.zeros((8, 8), np.uint8)}})
  row = {"params": 1, "madds": 1, "trained": False, "miou": 0.5,
         "accuracy": 0.5, "absent": []}
  monkeypatch.setattr(script, "build", lambda *_: None)
  monkeypatch.setattr(script, "run", lambda name, built, config, train, *_: (
      {**row, "absent": list(train.names)}))
  argv = ["--preset", "paper", "--data-dir", str(folder), "--sbd", str(own),
          "--out", str(tmp_path / "run"), "--backbones", "resnet50"]
  with pytest.raises(errors.InputError, match="leave one of them out"):
    script.main([*argv, "--split", "train"])
  script.main(argv)
  report = tmp_path / "run" / "report"
  result = json.loads((report / "result.json").read_text())
  assert result["backbones"]["resnet50"]["absent"] == [
      "train_0", "train_1", "more_0"]
  assert (result["train"], result["test"]) == (3, 1)
  assert result["config"]["split"] == "trainaug"
  assert "--sbd SBD" in result["command"]


@pytest.mark.parametrize("names,message", [
    (["resnet18", "resnet99"], "resnet99 is neither in the zoo nor"),
    (["{0}/a/own", "{0}/b/own"], "several backbones are called own")])
def test_backbones_are_looked_at_before_any_is_trained(
    script, tmp_path, names, message):
  for name in ("a", "b"):
    (tmp_path / name / "own").mkdir(parents=True)
  with pytest.raises(errors.InputError, match=message) as error:
    script.main([*map(str, scripts.flags(tmp_path)), "--backbones", *(
        name.format(tmp_path) for name in names)])
  assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
