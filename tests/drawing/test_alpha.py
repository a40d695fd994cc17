"""Tests of alpha in `natjax.drawing.curves`."""

from xml.etree import ElementTree

import pytest

from natjax import drawing, errors
from natjax.drawing import curves
from tests.drawing import pictures

NAMES = ["skip_connect", "conv_3x3", "null"]
EDGES = {"normal": [[0, 2], [1, 2]], "reduce": [[1, 2], [2, 3]]}


def alpha_rows(*, thresholds=False, epochs=3, **more):
  """A normal cell of two edges; in the other the second edge is fixed."""
  rows = []
  for e in range(epochs):
    up = [0.1 + 0.2 * e, 0.9 - 0.2 * e, 0.0]
    rows.append({
        "epoch": e, "candidates": NAMES, "edges": EDGES,
        "weights": {"normal": [up, up[::-1]],
                    "reduce": [up, [0.0, 0.0, 0.0]]},
        "kept": {"normal": [[0, 1, 0], [0, 0, 0]],
                 "reduce": [[1, 1, 0], [0, 0, 0]]},
        **({"thresholds": {"normal": [0.2, 0.3], "reduce": [0.4, 0.5]}}
           if thresholds else {}), **more})
  return rows


def texts(path):
  return ["".join(e.itertext()) for e in ElementTree.parse(path).iter(
      "{http://www.w3.org/2000/svg}text")]


@pytest.fixture
def panels(monkeypatch):
  """Titles of panels, and of every line its values, width, style and label."""
  found = {}
  plot = curves._plot_alpha

  def seen(axes, key, epochs):
    plot(axes, key, epochs)
    found[axes.get_title()] = [
        (line.get_label(), line.get_xdata(), [round(float(y), 6) for y
                                              in line.get_ydata()],
         line.get_linewidth() > 2, line.get_linestyle())
        for line in axes.get_lines()]

  monkeypatch.setattr(curves, "_plot_alpha", seen)
  return found


def test_a_panel_per_edge_with_what_was_kept(tmp_path):
  pytest.importorskip("matplotlib")
  drawing.alpha_curves(alpha_rows(), tmp_path / "a.svg")
  found = texts(tmp_path / "a.svg")
  for title in ("normal 0 -> 2", "normal 1 -> 2", "reduce 1 -> 2"):
    assert found.count(title) == 1
  assert "reduce 2 -> 3" not in found  # It is fixed.
  # In the legends of three panels, and above the two that keep something.
  assert found.count("conv_3x3") == 3 + 2
  assert found.count("skip_connect") == 3 + 1 - 1  # It weighs 0 in one.
  assert "threshold" not in found
  drawing.alpha_curves(alpha_rows(epochs=1), tmp_path / "a.png")
  assert (tmp_path / "a.png").read_bytes().startswith(pictures.PNG)


def test_lines_are_what_candidates_weigh(tmp_path, panels):
  pytest.importorskip("matplotlib")
  drawing.alpha_curves(alpha_rows(thresholds=True), tmp_path / "a.svg")
  skip = ("skip_connect", [1, 2, 3], [0.1, 0.3, 0.5])
  conv = ("conv_3x3", [1, 2, 3], [0.9, 0.7, 0.5])
  # A share of the largest weight into the node: 0.9, 0.7, 0.5.
  level = lambda share: ("threshold", [1, 2, 3], [
      round(share * y, 6) for y in (0.9, 0.7, 0.5)], False, "--")
  shown = {title: [(label, list(x), *rest) for label, x, *rest in lines]
           for title, lines in panels.items()}
  assert shown == {
      "normal 0 -> 2\nconv_3x3": [
          (*skip, False, "-"), (*conv, True, "-"), level(0.2)],
      "normal 1 -> 2": [(*conv, False, "-"),
                        ("null", *skip[1:], False, "-"), level(0.3)],
      "reduce 1 -> 2\nskip_connect\nconv_3x3": [
          (*skip, True, "-"), (*conv, True, "-"), level(0.4)]}
  assert texts(tmp_path / "a.svg").count("threshold") == 3


def test_a_warm_up_comes_before_the_search(tmp_path, panels):
  pytest.importorskip("matplotlib")
  drawing.alpha_curves([*alpha_rows(epochs=1, stage="warmup"),
                        *alpha_rows(epochs=3, stage="search")],
                       tmp_path / "a.svg")
  _, x, y, *_ = panels["normal 0 -> 2\nconv_3x3"][0]
  assert list(x) == [1, 2, 3, 4] and y == [0.1, 0.1, 0.3, 0.5]


def test_many_that_are_kept_are_counted(tmp_path, panels):
  pytest.importorskip("matplotlib")
  rows = [{**row, "kept": {"normal": [[1, 1, 1]] * 2, "reduce": [[0] * 3] * 2}}
          for row in alpha_rows()]
  drawing.alpha_curves(rows, tmp_path / "a.svg")
  assert {"normal 0 -> 2\n3 of 3 kept", "reduce 1 -> 2"} < set(panels)


def test_runs_have_panels_of_their_own(tmp_path):
  pytest.importorskip("matplotlib")
  rows = [*alpha_rows(run="seed-0"), *alpha_rows(run="seed-1", epochs=2)]
  drawing.alpha_curves(rows, tmp_path / "a.svg")
  for run in ("seed-0", "seed-1"):
    assert texts(tmp_path / "a.svg").count(f"{run}: reduce 1 -> 2") == 1


def test_without_alpha_nothing_is_drawn(tmp_path):
  for rows in ([], [{"epoch": 0, "loss": 1.0}],
               [{"epoch": 0, "weights": {}}], [{"epoch": 0, "weights": None}]):
    with pytest.raises(errors.InputError, match="no alpha to draw") as e:
      drawing.alpha_curves(rows, tmp_path / "a.svg")
    assert "\n" not in str(e.value)
  assert not list(tmp_path.iterdir())


def test_alpha_is_saved_where_there_is_any(tmp_path):
  pytest.importorskip("matplotlib")
  path = tmp_path / "alpha.svg"
  assert not drawing.save_alpha(path, [{"epoch": 0, "loss": 1.0}])
  assert not path.exists()
  assert drawing.save_alpha(path, [{"epoch": 0, "loss": 1.0}, *alpha_rows()])
  assert path.exists()


def test_without_matplotlib_no_alpha_is_saved(tmp_path, monkeypatch):
  def missing(*_):
    raise errors.InputError("this picture needs matplotlib")

  monkeypatch.setattr(curves.files, "load_matplotlib", missing)
  assert not drawing.save_alpha(tmp_path / "alpha.svg", alpha_rows())
