"""Smoke of the experiment on replacement; nothing of accuracy."""

import importlib
import json

import pytest

from natjax import errors
from natjax.costs import exact
from natjax.graph import codec, records
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "replacement.py"


@pytest.mark.long
def test_smoke_trains_replaces_and_records(tmp_path):
  flags = scripts.flags(tmp_path, "--seeds", 1)
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  folder = tmp_path / "run"
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row = result["datasets"]["digits"]["resnet20"]
  assert row["returned"]["madds"] <= 0.5 * row["original"]["madds"]
  for seed in row["seeds"]:
    trained = json.loads((folder / "digits" / "resnet20" / "replaced" /
                          "networks" / f"transformed-{seed['seed']}" /
                          "result.json").read_text())
    cost = exact.network(codec.from_dict(trained["architecture"]),
                         records.Frame(10, 8))
    assert cost[:2] == (seed["params"], seed["madds"])
  assert len(row["scratch"]["accuracies"]) == 1
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| resnet20 |", "replacement.py --preset smoke", "CPU cores"):
    assert part in text
  again = scripts.run(SCRIPT, *flags)
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout


def test_the_interval_is_students(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  paired = importlib.import_module("recording").paired
  assert paired([0.5, 0.5], [0.52, 0.52]) == "+2.00 ± 0.00"
  # Differences of 1 and 3 points: deviation sqrt(2), t of one degree 12.706.
  assert paired([0.5, 0.5], [0.51, 0.53]) == "+2.00 ± 12.71"
  assert paired([0.5], [0.51]) == "+1.00"


def record(tmp_path, module, seed, accuracy, **changes):
  """A report of one seed as the script writes it, its numbers made up."""
  preset = module.PRESETS["card"]
  config = module.dataclasses.replace(
      preset, seed=seed, train=module.dataclasses.replace(
          preset.train, seeds=1, **changes))
  row = lambda x, cost: {"params": cost, "madds": 2 * cost, "accuracy": x,
                         "accuracy_std": 0.0, "accuracies": [x]}
  folder = tmp_path / f"report{seed}"
  folder.mkdir()
  module.recording.write(folder / "result.json", {
      "datasets": {"cifar10": {"resnet20": {
          "original": row(0.9, 100), "returned": row(accuracy, 40 + 20 * seed),
          "seeds": [{"seed": seed, "rank_correlation": 0.5}],
          "seconds": 60.0}}},
      "config": module.dataclasses.asdict(config),
      **module.recording.circumstances("replacement.py", [f"--seed={seed}"],
                                       60.0)})
  return folder


def test_records_of_seeds_are_joined(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  module = importlib.import_module("replacement")
  folders = [record(tmp_path, module, seed, x)
             for seed, x in ((1, 0.92), (0, 0.91))]
  config, result = module.merge(module.PRESETS["card"], folders)
  row = result["datasets"]["cifar10"]["resnet20"]
  assert row["returned"]["accuracies"] == [0.91, 0.92]
  assert row["returned"]["params"] == 50 and row["returned"]["madds"] == 100
  assert [s["seed"] for s in row["seeds"]] == [0, 1] and config.seed == 0
  assert row["seconds"] == result["seconds"] == 120 and config.train.seeds == 2
  text = module.readme(config, result)
  # Gains of 1 and 2 points: 12.706 of their error of the mean, 0.5.
  assert "| 90.00 ± 0.00 | 91.50 ± 0.71 | +1.50 ± 6.35 |" in text
  assert "--seed=0`, `python" in text


def test_other_records_are_not_joined(tmp_path, monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  module = importlib.import_module("replacement")
  first = record(tmp_path, module, 0, 0.9)
  with pytest.raises(errors.InputError, match="begins at seed 2, where 1"):
    module.merge(module.PRESETS["card"],
                 [first, record(tmp_path, module, 2, 0.9)])
  with pytest.raises(errors.InputError, match="other settings"):
    module.merge(module.PRESETS["card"],
                 [first, record(tmp_path, module, 1, 0.9, epochs=2)])
