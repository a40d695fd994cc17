"""Learning curves (matplotlib, extra `plots`)."""

from collections.abc import Iterable, Mapping
import math
import os
from typing import Any

from natjax import errors
from natjax.drawing import files


def learning_curves(
    rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
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
  path = files.checked(path)
  panels = _curves(rows)
  if not panels:
    raise errors.InputError(
        "no learning curve to draw: rows need 'phase', 'epoch' and at least one"
        " metric as a float, such as 'loss'; give the rows of a metrics.jsonl"
    )
  mpl = files.load_matplotlib()
  count = min(3, math.ceil(math.sqrt(len(panels))))
  lines = math.ceil(len(panels) / count)
  figure = mpl.figure.Figure((4.2 * count, 2.9 * lines), layout="constrained")
  for i, ((phase, kind), curves) in enumerate(panels.items()):
    axes = figure.add_subplot(lines, count, i + 1)
    for name, points in curves.items():
      axes.plot(*zip(*sorted(points.items()), strict=True), label=name,
                marker="." if len(points) < 30 else "")
    axes.set_title(f"{phase}: {kind}", parse_math=False)
    axes.set_xlabel("epoch")
    axes.grid(alpha=0.3)
    for text in axes.legend(fontsize="small").get_texts():
      text.set_parse_math(False)
  files.write(path, files.figure_bytes(figure, path.suffix.lower()[1:]))


def _curves(
    rows: Iterable[Mapping[str, Any]],
) -> dict[tuple[str, str], dict[str, dict[int, float]]]:
  """Points by panel (phase, kind of metric), line and epoch."""
  panels: dict[tuple[str, str], dict[str, dict[int, float]]] = {}
  for row in rows:
    if row.get("phase") is None or row.get("epoch") is None:
      continue
    owner = [str(row[key]) for key in ("run", "stage") if key in row]
    for metric, value in row.items():
      if metric != "epoch" and isinstance(value, float):
        panel = (str(row["phase"]), metric.rsplit("_", 1)[-1])
        line = panels.setdefault(panel, {}).setdefault(
            " ".join([*owner, metric]), {}
        )
        line[row["epoch"]] = value
  return panels
