"""Metrics and theta over epochs (matplotlib, extra `plots`)."""

from collections.abc import Iterable, Mapping
import os
from typing import Any

from natjax.drawing import comparison, files

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


def save_alpha(path: str | os.PathLike[str],
               rows: Iterable[Mapping[str, Any]]) -> bool:
  """As `alpha_curves`, where there is alpha to draw and matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  return files.drawn(
      alpha_curves, [row for row in rows if "weights" in row], path)


def alpha_curves(rows: Iterable[Mapping[str, Any]],
                 path: str | os.PathLike[str]) -> None:
  """Draws what candidates weigh over the epochs of a search.

  One panel per edge, one colour per candidate, of those that ever weighed more
  than 0; what was kept at the end is drawn thick and, unless it is more than
  two, named above. The dashed line is DST's threshold, which is a share of the
  largest weight into a node, times that weight. Epochs of a warm-up come before
  those of the search.

  Args:
    rows: as in `metrics.jsonl`; those with "weights" are drawn: by cell types,
      per edge what every candidate weighs, and "kept" alike, "edges" per cell
      type [source, target], "candidates", perhaps "thresholds" per edge.
    path: where to write, a `.svg` or `.png` file.

  Raises:
    InputError: as `save`, or no row has them.
  """
  panels: dict[tuple[str, str], dict[Any, Any]] = {}
  for row in rows:
    for group, weights in (row.get("weights") or {}).items():
      levels = _levels(row, group)
      for e, (edge, values) in enumerate(zip(
          comparison.edge_names(row["edges"][group]), weights, strict=True)):
        title = f"{group} {edge}"
        if row.get("run", "search") != "search":
          title = f"{row['run']}: {title}"
        if not any(values):
          continue  # A fixed edge.
        panel = panels.setdefault((str(row.get("run", "")), title), {})
        panel[row.get("stage"), row["epoch"]] = (
            values, row["kept"][group][e], levels and levels[e],
            row["candidates"])
  files.write_panels(
      path, panels, 5, (3.0, 2.1), _plot_alpha,
      "no alpha to draw: none was learned, as a search by alpha does (at random"
      " there is none) and writes it to metrics.jsonl")


def _levels(row, group):
  """DST's thresholds of a row as weights, per edge."""
  if group not in row.get("thresholds", {}):
    return None
  most: dict[int, float] = {}
  for (_, target), values in zip(row["edges"][group], row["weights"][group],
                                 strict=True):
    most[target] = max(most.get(target, 0.0), *values)
  return [share * most[target] for share, (_, target) in zip(
      row["thresholds"][group], row["edges"][group], strict=True)]


def _plot_alpha(axes, key, epochs):
  _, title = key
  x = [i + 1 for i in range(len(epochs))]
  values, kept, _, names = zip(*epochs.values(), strict=True)
  last = [n for n, k in zip(names[-1], kept[-1], strict=True) if k]
  if len(last) > 2:
    last = [f"{len(last)} of {len(names[-1])} kept"]
  axes.set_title("\n".join([title, *last]), parse_math=False,
                 fontsize="x-small")
  for o, name in enumerate(names[-1]):
    line = [v[o] for v in values]
    if max(line) > 0:
      chosen = bool(kept[-1][o])
      axes.plot(x, line, lw=2.5 if chosen else 0.8, color=f"C{o % 10}",
                linestyle="-" if o < 10 else ":",
                marker="." if len(x) < 2 else "",
                label=name)
  if None not in (levels := [level for _, _, level, _ in epochs.values()]):
    axes.plot(x, levels, "--", color="black", lw=0.8, label="threshold")
  axes.legend(fontsize=4, framealpha=0.4, loc="upper left")


def save_theta(path: str | os.PathLike[str],
               rows: Iterable[Mapping[str, Any]]) -> bool:
  """As `theta_curves`, where there is theta to draw and matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  return files.drawn(
      theta_curves, [row for row in rows if "theta" in row], path)


def theta_curves(rows: Iterable[Mapping[str, Any]],
                 path: str | os.PathLike[str]) -> None:
  """Draws theta over the epochs of its training to a `.svg` or `.png` file.

  One panel per run and cell or group of blocks; one colour per edge, theta_id
  drawn through and theta_same dashed. theta_none is the line at 0.

  Args:
    rows: as in `metrics.jsonl`; those with "theta" are drawn: by groups, per
      edge (none, id, same), "edges" per group [source, target]. Rows of earlier
      versions have no "edges", which are then numbered.
    path: where to write.

  Raises:
    InputError: as `save`, or no row has theta.
  """
  panels: dict[tuple[str, str], dict[int, list[list[float]]]] = {}
  names: dict[tuple[str, str], list[str]] = {}
  for row in rows:
    for group, theta in (row.get("theta") or {}).items():
      key = (str(row.get("run", "")), group)
      panels.setdefault(key, {})[row["epoch"]] = theta
      names.setdefault(key, [f"edge number {e}" for e in range(len(theta))])
      if "edges" in row:
        names[key] = comparison.edge_names(row["edges"][group])
  files.write_panels(
      path, {key: (names[key], epochs) for key, epochs in panels.items()}, 4,
      (3.6, 2.7), _plot_theta,
      "no theta to draw: none was learned, as a differentiable transformation"
      " does and writes it to metrics.jsonl")


def _plot_theta(axes, key, drawn):
  (run, group), (names, epochs) = key, drawn
  axes.set_title(f"{run}: {group}", parse_math=False, fontsize="small")
  axes.set_ylabel("theta")
  axes.axhline(0, color="black", lw=0.8)
  epochs = dict(sorted(epochs.items()))
  for e, edge in enumerate(names):
    for name, column, line in _KINDS:
      values = [theta[e][column] for theta in epochs.values()]
      # What never moves from where it began says nothing.
      if max(values) != min(values) or len(values) == 1:
        axes.plot([epoch + 1 for epoch in epochs], values, line, lw=1,
                  color=f"C{e % 10}", label=f"{edge} {name}")
  if axes.get_legend_handles_labels()[0]:
    axes.legend(fontsize="xx-small", ncols=2)
