"""Tests of theta in `natjax.drawing.curves`."""

import pytest

from natjax import drawing, errors


def theta_rows():
  return [{"run": "theta-0", "stage": "architecture", "epoch": e, "theta": {
      "block 0": [[0.0, 0.1 * e, 1.0 - 0.1 * e], [0.0, 0.0, 1.0]]}}
          for e in range(3)] + [{"run": "transformed-0", "epoch": 0}]


def test_theta_over_time_draws_what_moves(tmp_path):
  drawing.theta_curves(theta_rows(), tmp_path / "theta.svg")
  text = (tmp_path / "theta.svg").read_text()
  assert "theta-0: block 0" in text
  assert "0 id" in text and "0 same" in text and "1 same" not in text


def test_without_theta_nothing_is_drawn(tmp_path):
  with pytest.raises(errors.InputError, match="differentiable"):
    drawing.theta_curves([{"epoch": 0, "loss": 1.0}], tmp_path / "t.svg")
  assert not list(tmp_path.iterdir())
