"""Tests of `natjax.drawing.curves`."""

from xml.etree import ElementTree

import pytest

from natjax import drawing, errors
from tests.drawing import pictures

PNG = pictures.PNG

ROWS = [
    {"stage": stage, "phase": phase, "epoch": epoch, "step": 7,
     "loss": 1 / (epoch + 1), "valid_loss": float("nan"), "reward": 0.5}
    for stage in ("search", "$train") for phase in ("weights", "policy")
    for epoch in range(3)
]


def test_learning_curves(tmp_path):
  pytest.importorskip("matplotlib")
  drawing.learning_curves(ROWS, tmp_path / "a.png")
  data = (tmp_path / "a.png").read_bytes()
  assert data.startswith(PNG) and len(data) > 10_000
  # Neither the summary row nor the repeated epoch adds a panel or a line.
  summary = {"stage": "search", "params": 3.3}
  drawing.learning_curves([summary, *ROWS], tmp_path / "a.svg")
  svg = (tmp_path / "a.svg").read_text()
  drawing.learning_curves([*ROWS, ROWS[-1]], tmp_path / "b.svg")
  assert (tmp_path / "b.svg").read_text() == svg
  found = ["".join(e.itertext()) for e in ElementTree.fromstring(svg).iter(
      "{http://www.w3.org/2000/svg}text")]
  for panel in ("weights: loss", "weights: reward", "policy: loss",
                "policy: reward"):
    assert found.count(panel) == 1
  assert found.count("search valid_loss") == found.count("$train loss") == 2
  assert not any("step" in text for text in found)


def test_learning_curves_without_metrics(tmp_path):
  for rows in ([], [{"run": "a", "phase": "train", "epoch": 1, "step": 2}],
               [{"run": "a", "loss": 1.0}]):
    with pytest.raises(errors.InputError, match="no learning curve"):
      drawing.learning_curves(rows, tmp_path / "a.svg")
