"""Pictures of the experiments (matplotlib, extra `plots`)."""

from collections.abc import Mapping, Sequence
import math
import pathlib
from typing import Any

import numpy as np

from natjax.drawing import files

COLORS = ("#555555", "#1f77b4", "#d62728", "#2ca02c")
MARKERS = ("o", "s", "^", "x")


def accuracy_and_cost(
    rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str],
    path: pathlib.Path,
) -> None:
  """Figure 6: accuracy over parameters and multiply-adds, by kind.

  Args:
    rows: per architecture and kind, "accuracy", "params", "madds".
    kinds: titles; the first is that of the originals, from which thin lines
      lead to what became of them.
    path: `.svg` or `.png`.
  """
  figure = files.load_matplotlib().figure.Figure((9, 3.6), layout="constrained")
  original = next(iter(kinds))
  for i, (key, title) in enumerate((("params", "parameters, K"),
                                    ("madds", "multiply-adds, M"))):
    axes = figure.add_subplot(1, 2, i + 1)
    scale = 1e-3 if key == "params" else 1e-6
    for (kind, label), color, marker in zip(
        kinds.items(), COLORS, MARKERS, strict=False):
      points = [(scale * row[kind][key], 100 * row[kind]["accuracy"])
                for row in rows]
      axes.scatter(*zip(*points, strict=True), color=color, marker=marker,
                   label=label, zorder=2)
      for row, point in zip(rows, points, strict=True):
        start = scale * row[original][key], 100 * row[original]["accuracy"]
        axes.plot(*zip(start, point, strict=True), color=color, lw=0.5,
                  alpha=0.6, zorder=1)
    axes.set_xlabel(title)
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
  _save(figure, path)


def convergence(
    rows: Sequence[Mapping[str, Any]], kinds: Mapping[str, str],
    path: pathlib.Path,
) -> None:
  """Figure 8: test accuracy over epochs, one panel per architecture.

  Args:
    rows: per architecture and kind, "curve", the accuracy after every epoch;
      at most the first six are drawn.
    kinds: titles.
    path: `.svg` or `.png`.
  """
  shown = rows[:6]
  columns = min(3, len(shown))
  lines = math.ceil(len(shown) / columns)
  figure = files.load_matplotlib().figure.Figure(
      (3.4 * columns, 2.8 * lines), layout="constrained")
  for i, row in enumerate(shown):
    axes = figure.add_subplot(lines, columns, i + 1)
    for (kind, label), color, marker in zip(
        kinds.items(), COLORS, MARKERS, strict=False):
      curve = [100 * value for value in row[kind]["curve"]]
      axes.plot(range(1, len(curve) + 1), curve, color=color, marker=marker,
                ms=3, lw=1, label=label)
    axes.set_title(f"architecture {i}", fontsize="small")
    axes.set_xlabel("epoch")
    axes.set_ylabel("test accuracy, %")
    axes.grid(alpha=0.3)
    if not i:
      axes.legend(fontsize="x-small")
  _save(figure, path)


Curve = Sequence[tuple[float, float]]  # Epochs, and a value.


def over_epochs(
    panels: Mapping[str, Sequence[Curve]], path: pathlib.Path, title: str,
    levels: Mapping[str, float],
) -> None:
  """What searches come to over epochs, one panel per method.

  Args:
    panels: by title, a curve per seed, all of the same epochs.
    path: `.svg` or `.png`.
    title: of the values.
    levels: lines to compare with, by title.
  """
  curves = [curve for panel in panels.values() for curve in panel]
  values = [value for curve in curves for _, value in curve]
  values += levels.values()
  edge = max(0.05 * (max(values) - min(values)), 0.1)

  def plot(axes, name, seeds):
    for curve in seeds:
      axes.plot(*zip(*curve, strict=True), color=COLORS[1], lw=0.8, alpha=0.5,
                marker="" if len(curve) > 1 else "x")
    epochs = [epoch for epoch, _ in seeds[0]]
    axes.plot(epochs, np.mean([[v for _, v in curve] for curve in seeds], 0),
              color=COLORS[1], lw=2.2, marker="." if len(epochs) < 30 else "",
              label=f"mean of {len(seeds)}")
    for (level, value), style in zip(levels.items(), ("--", ":"), strict=False):
      axes.axhline(value, color=COLORS[0], lw=1, linestyle=style, label=level)
    axes.set_title(name, fontsize="medium")
    axes.set_ylabel(title)
    axes.set_ylim(min(values) - edge, max(values) + edge)
    axes.legend(fontsize="x-small")

  files.write_panels(path, panels, 2, (4.2, 2.9), plot,
                     "nothing to draw: no search was run")


def rankings(
    panels: Mapping[str, Sequence[tuple[float, float]]], path: pathlib.Path,
    first: str, second: str,
) -> None:
  """Two values of the same things, one panel per method.

  Args:
    panels: by title, the pairs.
    path: `.svg` or `.png`.
    first: title of the first value.
    second: of the second.
  """
  def plot(axes, name, pairs):
    axes.scatter(*zip(*pairs, strict=True), color=COLORS[1])
    for i, pair in enumerate(pairs):
      axes.annotate(str(i), pair, xytext=(4, 3), textcoords="offset points",
                    fontsize="x-small")
    axes.set_title(name, fontsize="medium")
    axes.set_xlabel(first)
    axes.set_ylabel(second)

  files.write_panels(path, panels, 3, (3.6, 3.0), plot,
                     "nothing to draw: no search was run")


def _save(figure, path):
  path = files.checked(path)
  files.write(path, files.figure_bytes(figure, path.suffix.lower()[1:]))
