"""What indicator tokens attend to (matplotlib, extra `plots`)."""

from collections.abc import Mapping
import functools
import os
from typing import Any

from natjax.drawing import files


def save_attention(path: str | os.PathLike[str],
                   result: Mapping[str, Any]) -> bool:
  """As `attention_bars`, where a result has attention and there is matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  return files.drawn(
      functools.partial(attention_bars, nodes=result.get("nodes")),
      result.get("attention") or {}, path)


def attention_bars(attention: Mapping[str, Any],
                   path: str | os.PathLike[str], *,
                   nodes: Mapping[str, Any] | None = None) -> None:
  """Draws what every edge's operations weigh to a `.svg` or `.png` file.

  One panel per edge, or layer of a chain, then one per node that keeps some of
  its edges, with the strongest operation of each. Weights differ in the third
  decimal (the equal share of operations is dashed), so that an axis covers no
  more than they do. The title has the margin to the next, or of the last edge
  that is kept to the first that is not, with one standard error.

  Args:
    attention: of an IT-NAS result, by groups: per edge None or a mapping with
      "edge", "weights", "strongest", "tie", and perhaps "margin" and
      "standard_error".
    path: where to write.
    nodes: likewise, per node that keeps some of its edges.

  Raises:
    InputError: another suffix, no such directory, no matplotlib, or no edge
      has weights.
  """
  panels = {}
  for group, rows in attention.items():
    for row in filter(None, rows):
      name = group if len(rows) == 1 else "{}: {} -> {}".format(
          group, *row["edge"])
      panels[name] = {
          **row, "kept": [row["strongest"]],
          "share": 1 / (1 + len(row["weights"]))}
  for group, rows in (nodes or {}).items() if panels else ():
    for row in rows:
      names = {f"{edge['edge'][0]}: {edge['operation']}": edge
               for edge in row["edges"]}
      panels[f"{group}: node {row['node']}"] = {
          **row, "weights": {name: edge["weight"] for name, edge in (
              names.items())}, "kept": [
                  name for name, edge in names.items() if edge["kept"]]}
  files.write_panels(path, panels, 5, (3.0, 2.1), _plot,
                     "no attention to draw: no edge has weights", "attention")


def _plot(axes, name, row):
  weights = row["weights"]
  low, high = min(weights.values()), max(weights.values())
  edge = max(0.1 * (high - low), 1e-6)
  axes.barh([*weights], [*weights.values()], color=[
      "#c24d00" if key in row["kept"] else "#8c959f" for key in weights])
  if "share" in row:
    axes.axvline(row["share"], color="black", lw=0.8, linestyle="--")
  axes.set_xlim(low - 3 * edge, high + edge)
  axes.invert_yaxis()
  axes.tick_params(labelsize=5)
  title = [name]
  if "margin" in row:
    title.append(f"margin {row['margin']:.1e} ± {row['standard_error']:.0e}"
                 + " (a tie)" * row["tie"])
  axes.set_title("\n".join(title), parse_math=False, fontsize="x-small")
