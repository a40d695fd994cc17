"""What indicator tokens attend to (matplotlib, extra `plots`)."""

from collections.abc import Mapping
import os
from typing import Any

from natjax.drawing import files


def save_attention(path: str | os.PathLike[str],
                   result: Mapping[str, Any]) -> bool:
  """As `attention_bars`, where a result has attention and there is matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  return files.drawn(attention_bars, result.get("attention") or {}, path)


def attention_bars(attention: Mapping[str, Any],
                   path: str | os.PathLike[str]) -> None:
  """Draws what every edge's operations weigh to a `.svg` or `.png` file.

  One panel per edge, or layer of a chain. Weights differ in the third decimal
  (the equal share is dashed), so that an axis covers no more than they do. The
  title has the margin to the next, with one standard error.

  Args:
    attention: of an IT-NAS result, by groups: per edge None or a mapping with
      "edge", "weights", "strongest", "tie", and perhaps "margin" and
      "standard_error".
    path: where to write.

  Raises:
    InputError: another suffix, no such directory, no matplotlib, or no edge
      has weights.
  """
  panels = {}
  for group, rows in attention.items():
    for row in filter(None, rows):
      name = group if len(rows) == 1 else "{}: {} -> {}".format(
          group, *row["edge"])
      panels[name] = row
  files.write_panels(path, panels, 5, (3.0, 2.1), _plot,
                     "no attention to draw: no edge has weights", "attention")


def _plot(axes, name, row):
  weights = row["weights"]
  low, high = min(weights.values()), max(weights.values())
  edge = max(0.1 * (high - low), 1e-6)
  axes.barh([*weights], [*weights.values()], color=[
      "#c24d00" if key == row["strongest"] else "#8c959f" for key in weights])
  axes.axvline(1 / (1 + len(weights)), color="black", lw=0.8, linestyle="--")
  axes.set_xlim(low - 3 * edge, high + edge)
  axes.invert_yaxis()
  axes.tick_params(labelsize=5)
  title = [name]
  if "margin" in row:
    title.append(f"margin {row['margin']:.1e} ± {row['standard_error']:.0e}"
                 + " (a tie)" * row["tie"])
  axes.set_title("\n".join(title), parse_math=False, fontsize="x-small")
