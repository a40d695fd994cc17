"""Candidates by score and cost."""

import builtins
from xml.etree import ElementTree

import pytest

from natjax import drawing, errors
from tests.drawing import pictures


def candidates():
  scores = ((0.9, 9), (0.8, 5), (0.85, 6), (0.7, 8))
  return [{"score": score, "madds": 1e6 * madds, "params": 1,
           "original": i == 0, "chosen": i == 2, "pareto": i != 3}
          for i, (score, madds) in enumerate(scores)]


def test_a_line_joins_what_no_other_dominates(tmp_path, monkeypatch):
  lines = []
  figures = pytest.importorskip("matplotlib.axes")
  plot = figures.Axes.plot
  monkeypatch.setattr(
      figures.Axes, "plot", lambda axes, *args, **more: (
          lines.append((more["label"], args)), plot(axes, *args, **more))[1])
  drawing.pareto_front(candidates(), tmp_path / "a.svg")
  found = {label: ([*args[0]], [round(y) for y in args[1]])
           for label, args in lines}
  assert found == {
      "candidates": ([5, 6, 8, 9], [80, 85, 70, 90]),
      "dominated by none": ([5, 6, 9], [80, 85, 90]),
      "original": ([9], [90]), "chosen": ([6], [85])}
  text = (tmp_path / "a.svg").read_text()
  assert ElementTree.fromstring(text).tag.endswith("svg")
  assert "multiply-adds, M" in text and "accuracy on the supernet, %" in text
  drawing.pareto_front(candidates(), tmp_path / "b.svg")
  assert (tmp_path / "b.svg").read_text() == text
  drawing.pareto_front(candidates(), tmp_path / "a.png")
  assert (tmp_path / "a.png").read_bytes().startswith(pictures.PNG)


def test_a_result_without_candidates_is_not_drawn(tmp_path):
  path = tmp_path / "pareto.svg"
  old = [{"score": 0.5, "original": True, "chosen": True}]
  assert not drawing.save_pareto(path, {})
  assert not drawing.save_pareto(path, {"candidates": old})
  assert not path.exists()
  assert drawing.save_pareto(path, {"candidates": candidates()})
  assert path.exists()
  with pytest.raises(errors.InputError, match=r"svg or \.png"):
    drawing.pareto_front(candidates(), tmp_path / "a.pdf")


def test_points_have_the_numbers_of_the_table(tmp_path, monkeypatch):
  figures, written = pytest.importorskip("matplotlib.axes"), []
  monkeypatch.setattr(
      figures.Axes, "annotate", lambda axes, text, at, *args, **more: (
          written.append((text, round(at[0])))))
  curve = [{"price": p, "madds": 1e6 * madds, "architecture": {"n": madds}}
           for p, madds in ((0.0, 9), (0.1, 6), (0.2, 6), (0.3, 5))]
  curve[0]["original"] = True
  seed = {"curve": curve, "tries": [], "num_changes": 0}
  for save, result in (
      (drawing.save_pareto, {"candidates": candidates()}),
      (drawing.save_prices, {"seeds": [seed], "original": curve[0]})):
    assert save(tmp_path / "pareto.svg", result)
    # What another dominates has none, nor what stands there twice.
    assert sorted(written) == [("1", 5), ("2", 6), ("3", 9)]
    points = drawing.candidates.points(result)
    assert [(str(i), row["madds"] / 1e6) for i, row in points.items()] == (
        sorted(written))
    written.clear()


def test_without_matplotlib_nothing_is_drawn(tmp_path, monkeypatch):
  real = builtins.__import__

  def absent(name, *args, **more):
    if name.startswith("matplotlib"):
      raise ImportError(name)
    return real(name, *args, **more)

  monkeypatch.setattr(builtins, "__import__", absent)
  assert not drawing.save_pareto(
      tmp_path / "pareto.svg", {"candidates": candidates()})
