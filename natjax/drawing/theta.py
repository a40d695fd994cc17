"""Theta over time (matplotlib, extra `plots`)."""

from collections.abc import Iterable, Mapping
import math
import os
from typing import Any

from natjax import errors
from natjax.drawing import files

_KINDS = (("id", 1, "-"), ("same", 2, "--"))


def save_theta(
    path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]
) -> bool:
  """As `theta_curves`, where there is theta to draw and matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  rows = [row for row in rows if "theta" in row]
  try:
    files.load_matplotlib()
  except errors.InputError:
    return False
  if not rows:
    return False
  theta_curves(rows, path)
  return True


def theta_curves(
    rows: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]
) -> None:
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
  path = files.checked(path)
  panels: dict[tuple[str, str], dict[int, list[list[float]]]] = {}
  for row in rows:
    for group, theta in (row.get("theta") or {}).items():
      panel = panels.setdefault((str(row.get("run", "")), group), {})
      panel[row["epoch"]] = theta
  if not panels:
    raise errors.InputError(
        "no theta to draw: give the rows of a metrics.jsonl that a"
        " differentiable transformation wrote")
  mpl = files.load_matplotlib()
  columns = min(4, math.ceil(math.sqrt(len(panels))))
  lines = math.ceil(len(panels) / columns)
  figure = mpl.figure.Figure((3.6 * columns, 2.7 * lines),
                             layout="constrained")
  for i, ((run, group), epochs) in enumerate(panels.items()):
    axes = figure.add_subplot(lines, columns, i + 1)
    _panel(axes, dict(sorted(epochs.items())))
    axes.set_title(f"{run}: {group}", parse_math=False, fontsize="small")
  files.write(path, files.figure_bytes(figure, path.suffix.lower()[1:]))


def _panel(axes, epochs):
  axes.axhline(0, color="black", lw=0.8)
  for e in range(len(next(iter(epochs.values())))):
    for name, column, line in _KINDS:
      values = [theta[e][column] for theta in epochs.values()]
      # What never moves from where it began says nothing.
      if max(values) != min(values) or len(values) == 1:
        axes.plot([epoch + 1 for epoch in epochs], values, line, lw=1,
                  color=f"C{e % 10}", label=f"{e} {name}")
  axes.set_xlabel("epoch")
  axes.set_ylabel("theta")
  axes.grid(alpha=0.3)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize="xx-small", ncols=2)
