"""Theta over time (matplotlib, extra `plots`)."""

from collections.abc import Iterable, Mapping
import os
from typing import Any

from natjax import errors
from natjax.drawing import files

_KINDS = (("id", 1, "-"), ("same", 2, "--"))


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
  path = files.checked(path)
  panels: dict[tuple[str, str], dict[int, list[list[float]]]] = {}
  for row in rows:
    for group, theta in (row.get("theta") or {}).items():
      panel = panels.setdefault((str(row.get("run", "")), group), {})
      panel[row["epoch"]] = theta
  if not panels:
    raise errors.InputError("no theta to draw: give the rows of a metrics.jsonl"
                            " that a differentiable transformation wrote")
  files.write_panels(path, panels, 4, (3.6, 2.7), _plot)


def _plot(axes, key, epochs):
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
