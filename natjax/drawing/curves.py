"""Metrics and theta over epochs (matplotlib, extra `plots`)."""

from collections.abc import Iterable, Mapping
import os
from typing import Any

from natjax import errors
from natjax.drawing import files

_KINDS = (("id", 1, "-"), ("same", 2, "--"))  # Of theta, drawn so.


def learning_curves(rows: Iterable[Mapping[str, Any]],
                    path: str | os.PathLike[str]) -> None:
  """Draws metrics over epochs to a `.svg` or `.png` file.

  One panel per phase and kind of metric, the last word of a metric's name
  being its kind (`loss` and `valid_loss` share a panel); one line per stage or
  run and metric. Where an epoch occurs twice, as after a resume, the later row
  counts. Rows without a phase or an epoch are left out.

  Args:
    rows: as in `metrics.jsonl`: "stage" or "run", "phase", "epoch", and
      metrics as floats, such as "loss".
    path: where to write.

  Raises:
    InputError: as `save`, or no row has a metric.
  """
  panels: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
  for row in rows:
    if row.get("phase") is None or row.get("epoch") is None:
      continue
    owner = [str(row[key]) for key in ("run", "stage") if key in row]
    for metric, value in row.items():
      if metric != "epoch" and isinstance(value, float):
        panel = panels.setdefault(
            (str(row["phase"]), metric.rsplit("_", 1)[-1]), {})
        line = panel.setdefault(" ".join([*owner, metric]), {})
        line[row["epoch"]] = value
  files.write_panels(
      path, panels, 3, (4.2, 2.9), _plot_metrics,
      "no learning curve to draw: rows need 'phase', 'epoch' and at least one"
      " metric as a float, such as 'loss'; give the rows of a metrics.jsonl")


def _plot_metrics(axes, key, lines):
  phase, kind = key
  for name, points in lines.items():
    axes.plot(*zip(*sorted(points.items()), strict=True), label=name,
              marker="." if len(points) < 30 else "")
  axes.set_title(f"{phase}: {kind}", parse_math=False)
  for text in axes.legend(fontsize="small").get_texts():
    text.set_parse_math(False)


def save_theta(path: str | os.PathLike[str],
               rows: Iterable[Mapping[str, Any]]) -> bool:
  """As `theta_curves`, where there is theta to draw and matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  rows = [row for row in rows if "theta" in row]
  try:
    files.load_matplotlib()
  except errors.InputError:
    return False
  if rows:
    theta_curves(rows, path)
  return bool(rows)


def theta_curves(rows: Iterable[Mapping[str, Any]],
                 path: str | os.PathLike[str]) -> None:
  """Draws theta over the epochs of its training to a `.svg` or `.png` file.

  One panel per run and cell or group of blocks; one colour per edge, theta_id
  drawn through and theta_same dashed. theta_none is the line at 0.

  Args:
    rows: as in `metrics.jsonl`; those with "theta" are drawn: by groups, per
      edge (none, id, same).
    path: where to write.

  Raises:
    InputError: as `save`, or no row has theta.
  """
  panels: dict[tuple[str, str], dict[int, list[list[float]]]] = {}
  for row in rows:
    for group, theta in (row.get("theta") or {}).items():
      panel = panels.setdefault((str(row.get("run", "")), group), {})
      panel[row["epoch"]] = theta
  files.write_panels(
      path, panels, 4, (3.6, 2.7), _plot_theta,
      "no theta to draw: give the rows of a metrics.jsonl that a"
      " differentiable transformation wrote")


def _plot_theta(axes, key, epochs):
  run, group = key
  axes.set_title(f"{run}: {group}", parse_math=False, fontsize="small")
  axes.set_ylabel("theta")
  axes.axhline(0, color="black", lw=0.8)
  epochs = dict(sorted(epochs.items()))
  for e in range(len(next(iter(epochs.values())))):
    for name, column, line in _KINDS:
      values = [theta[e][column] for theta in epochs.values()]
      # What never moves from where it began says nothing.
      if max(values) != min(values) or len(values) == 1:
        axes.plot([epoch + 1 for epoch in epochs], values, line, lw=1,
                  color=f"C{e % 10}", label=f"{e} {name}")
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize="xx-small", ncols=2)
