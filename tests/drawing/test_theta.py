"""Tests of theta in `natjax.drawing.curves`."""

import pytest

from natjax import drawing, errors


def theta_rows():
  return [{"run": "theta-0", "stage": "architecture", "epoch": e,
           "edges": {"block 0": [[1, 2], [2, 3]]}, "theta": {"block 0": [
               [0.0, 0.1 * e, 1.0 - 0.1 * e], [0.0, 0.0, 1.0]]}}
          for e in range(3)] + [{"run": "transformed-0", "epoch": 0}]


def test_theta_over_time_draws_what_moves(tmp_path):
  drawing.theta_curves(theta_rows(), tmp_path / "theta.svg")
  text = (tmp_path / "theta.svg").read_text()
  assert "theta-0: block 0" in text
  assert "1 -&gt; 2 id" in text and "1 -&gt; 2 same" in text
  assert "2 -&gt; 3" not in text


def test_rows_of_earlier_versions_number_edges(tmp_path):
  rows = [{k: v for k, v in row.items() if k != "edges"}
          for row in theta_rows()]
  drawing.theta_curves(rows, tmp_path / "theta.svg")
  assert "edge number 0 id" in (tmp_path / "theta.svg").read_text()
  # Of a run that was resumed by this version, the later rows tell.
  drawing.theta_curves(rows[:1] + theta_rows()[1:], tmp_path / "theta.svg")
  text = (tmp_path / "theta.svg").read_text()
  assert "1 -&gt; 2 id" in text and "edge number" not in text


def test_equal_ends_are_told_apart(tmp_path):
  rows = theta_rows()
  for row in rows[:3]:
    row["edges"] = {"block 0": [[1, 2], [1, 2]]}
    row["theta"]["block 0"][1][1] = 0.3 * row["epoch"]
  drawing.theta_curves(rows, tmp_path / "theta.svg")
  text = (tmp_path / "theta.svg").read_text()
  assert "1 -&gt; 2 id" in text and "1 -&gt; 2 (2) id" in text


def test_without_theta_nothing_is_drawn(tmp_path):
  with pytest.raises(errors.InputError, match="differentiable"):
    drawing.theta_curves([{"epoch": 0, "loss": 1.0}], tmp_path / "t.svg")
  assert not list(tmp_path.iterdir())
