"""Learning curves (matplotlib, extra `plots`)."""

from collections.abc import Iterable, Mapping
import os
from typing import Any

from natjax import errors
from natjax.drawing import files


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
  path = files.checked(path)
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
  if not panels:
    raise errors.InputError(
        "no learning curve to draw: rows need 'phase', 'epoch' and at least one"
        " metric as a float, such as 'loss'; give the rows of a metrics.jsonl")
  files.write_panels(path, panels, 3, (4.2, 2.9), _plot)


def _plot(axes, key, lines):
  phase, kind = key
  for name, points in lines.items():
    axes.plot(*zip(*sorted(points.items()), strict=True), label=name,
              marker="." if len(points) < 30 else "")
  axes.set_title(f"{phase}: {kind}", parse_math=False)
  for text in axes.legend(fontsize="small").get_texts():
    text.set_parse_math(False)
