"""Smoke of the experiment on climbing; nothing of accuracy."""

import importlib
import json

import numpy as np
import pytest

from natjax.graph import nasbench201 as cells
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "climbing.py"


@pytest.mark.long
def test_smoke_climbs_trains_and_records(tmp_path):
  flags = scripts.flags(tmp_path)
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  result = json.loads((tmp_path / "report" / "result.json").read_text())
  row = result["datasets"]["digits"]["r1"]
  assert 0 < row["evaluated"] <= 8
  assert row["naswot"][1] >= row["naswot"][0]
  assert bool(row["steps"]) == bool(row["changes"])
  assert row["climbed"]["madds"] <= row["original"]["madds"]
  assert len(row["climbed"]["accuracies"]) == 2
  text = (tmp_path / "report" / "README.md").read_text()
  for part in ("| r1 |", "Over all 2 cells", "climbing.py --preset smoke",
               "CPU cores"):
    assert part in text
  again = scripts.run(SCRIPT, *flags)
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout


def test_cells_are_drawn_that_compute_something_and_not_the_same(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  script = importlib.import_module("climbing")
  names = script.drawn(300)
  codes = [int(name.removeprefix("cell-")) for name in names]
  assert len({cells.computations()[code] for code in codes}) == 300
  for code in codes:
    before = [0]
    for (source, target), operation in zip(
        cells.EDGES, cells.to_names(cells.decode(np.int32(code))), strict=True):
      if source in before and operation != "null":
        before.append(target)
    assert 3 in before
  assert script.drawn(20) == script.PRESETS["cells"].networks == names[:20]


def test_what_became_of_cells_is_told_over_all(monkeypatch):
  monkeypatch.syspath_prepend(str(scripts.EXPERIMENTS))
  script = importlib.import_module("climbing")

  def row(before, after, left, changes):
    return {"original": {"accuracies": before, "params": 10, "madds": 20},
            "climbed": {"accuracies": after, "params": 10 * left, "madds": 10},
            "changes": changes}

  text, _ = script.over_cells({
      "r1": row([0.1], [0.9], 0.1, []),
      "cell-1": row([0.5, 0.7], [0.65, 0.65], 0.5, [["a", "b"]]),
      "cell-2": row([0.4, 0.4], [0.37, 0.39], 1.0, [])})
  assert "50.00 % before, 51.50 % after, +1.50 ± 44.47 points" in text
  assert "the median +1.50" in text and "more in 1, less in 1" in text
  assert "at most by 2.00; 1 kept" in text
  assert "0.750 of the parameters and 0.500 of the multiply-adds" in text
  assert script.over_cells({"cell-1": row([0.5], [0.6], 1, [])}) == []
