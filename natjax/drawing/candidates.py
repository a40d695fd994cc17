"""Candidates of a search by score and cost (matplotlib, extra `plots`)."""

from collections.abc import Mapping, Sequence
import os
from typing import Any

from natjax.drawing import files


def points(result: Mapping[str, Any]) -> dict[int, Mapping[str, Any]]:
  """What may be chosen from, by numbers 1, 2, ..., the cheapest first.

  Args:
    result: of a transformation of one architecture, not of several.

  Returns:
    Of a search the candidates that no other dominates, the original and the
    chosen one; of a replacement the points of the first seed's curve, on which
    the original is, too.
  """
  rows = [row for row in result.get("candidates", ())
          if row.get("pareto") or ("pareto" in row and (
              row["original"] or row["chosen"]))]
  curve = next((row["curve"] for row in result.get("seeds", ())
                if "curve" in row), ())
  rows += [row for i, row in enumerate(curve) if (
      "architecture" in row and row["architecture"] not in [
          before["architecture"] for before in curve[:i]])]
  return dict(enumerate(sorted(rows, key=lambda row: row["madds"]), 1))


def _numbered(result, rows):
  """Rows of a result, with "point" the number of those that have one."""
  numbers = {id(row): number for number, row in points(result).items()}
  return [{**row, "point": numbers[id(row)]} if id(row) in numbers else row
          for row in rows]


def _write_numbers(axes, rows, at):
  """Writes the numbers of points beside them.

  Args:
    axes: of the picture.
    rows: those with "point" are numbered.
    at: of a row, where it stands.
  """
  for row in rows:
    if "point" in row:
      axes.annotate(str(row["point"]), at(row), (3, 4), fontsize="x-small",
                    textcoords="offset points")


def save_pareto(path: str | os.PathLike[str],
                result: Mapping[str, Any]) -> bool:
  """As `pareto_front`, where a result has candidates and there is matplotlib.

  Returns:
    Whether the picture was drawn.
  """
  rows = _numbered(result, [
      row for row in result.get("candidates", ()) if "pareto" in row])
  if "scored_by" in result:
    rows = [{**row, "scored_by": result["scored_by"]} for row in rows]
  if rows and "given" in result:  # Over a budget.
    rows.append({**result["given"], "original": True, "chosen": False,
                 "pareto": False})
  return files.drawn(pareto_front, rows, path)


def save_prices(path: str | os.PathLike[str],
                result: Mapping[str, Any]) -> bool:
  """As `price_curve`, of the first seed of a replacement.

  Returns:
    Whether the picture was drawn.
  """
  row: Mapping[str, Any] = next(iter(result.get("seeds", ())), {})
  curve = _numbered(result, row.get("curve", ()))
  if rows := [one for one in curve if "original" not in one]:
    # Runs of earlier versions had no original on their curves.
    rows.append(next((one for one in curve if "original" in one), {
        "price": 0.0, "madds": result["original"]["madds"]}))
  tries = row.get("tries", ())  # Of which the last may be returned.
  tried = [{**t, "returned": t is tries[-1] and row["num_changes"] > 0}
           for t in tries]
  return files.drawn(
      lambda rows, path: price_curve(rows, tried, path), rows, path)


def price_curve(rows: Sequence[Mapping[str, Any]],
                tried: Sequence[Mapping[str, Any]],
                path: str | os.PathLike[str]) -> None:
  """Draws the prices of replacements against multiply-adds.

  Args:
    rows: of the curve, each with "price" in nats and "madds", and where it has
      one "point", its number; the original is the last.
    tried: of what was tuned and compared, the same and whether it was
      "returned".
    path: where to write, `.svg` or `.png`.

  Raises:
    InputError: another suffix, no such directory, or no matplotlib.
  """
  path, mpl = files.checked(path), files.load_matplotlib()
  figure = mpl.figure.Figure((5.0, 3.6), layout="constrained")
  axes = figure.add_subplot()
  one = lambda row: (row["madds"] / 1e6, row["price"])
  at = lambda some: [*zip(*sorted(map(one, some)), strict=True)]
  _write_numbers(axes, rows, one)
  axes.plot(*at(rows), ".-", color="#0068a8", lw=1, label="least price")
  marks = (("original", "s", rows[-1:]),
           ("refused", "x", [row for row in tried if not row["returned"]]),
           ("returned", "*", [row for row in tried if row["returned"]]))
  for name, marker, some in marks:
    if some:
      axes.plot(*at(some), marker, color="#c24d00", ms=10, mfc="none",
                label=name)
  axes.set_xlabel("multiply-adds, M")
  axes.set_ylabel("price before tuning, nats")
  axes.grid(alpha=0.3)
  axes.legend(fontsize="small")
  files.write(path, files.figure_bytes(figure, path.suffix.lower()[1:]))


def pareto_front(rows: Sequence[Mapping[str, Any]],
                 path: str | os.PathLike[str]) -> None:
  """Draws scores against multiply-adds to a `.svg` or `.png` file.

  A line joins the candidates that no other dominates; where parameters alone
  tell two of them apart, it need not rise.

  Args:
    rows: of candidates, each with "score", an accuracy in [0, 1] or, where it
      says "scored_by", another score, "madds", and whether it is
      "original", "chosen" and of the "pareto" front; where it has one with
      "point", its number.
    path: where to write.

  Raises:
    InputError: another suffix, no such directory, or no matplotlib.
  """
  path, mpl = files.checked(path), files.load_matplotlib()
  figure = mpl.figure.Figure((5.0, 3.6), layout="constrained")
  axes = figure.add_subplot()
  other = rows[0].get("scored_by")
  one = lambda row: (row["madds"] / 1e6, row["score"] * (1 if other else 100))
  at = lambda some: [*zip(*sorted(map(one, some)), strict=True)]
  _write_numbers(axes, rows, one)
  axes.plot(*at(rows), "o", color="#8c959f", ms=4, label="candidates")
  axes.plot(*at([row for row in rows if row["pareto"]]), ".-",
            color="#0068a8", lw=1, label="dominated by none")
  for name, marker in (("original", "s"), ("chosen", "*")):
    if marked := [row for row in rows if row[name]]:
      axes.plot(*at(marked), marker, color="#c24d00", ms=10, mfc="none",
                label=name)
  axes.set_xlabel("multiply-adds, M")
  axes.set_ylabel(f"{other.upper()} of untrained networks" if other else (
      "accuracy on the supernet, %"))
  axes.grid(alpha=0.3)
  axes.legend(fontsize="small")
  files.write(path, files.figure_bytes(figure, path.suffix.lower()[1:]))
