"""What a result says of how a transformation was chosen, and its points.

The points are those of accuracy against cost that a user may choose from: the
candidates of a search that no other dominates, or of a replacement what every
budget would come to by the prices. Each has a number, by which the picture
names it, too (`drawing.candidates.points`), and a file with its architecture.
"""

from collections.abc import Mapping
import pathlib
from typing import Any

from natjax.drawing import candidates
from natjax.graph import codec
from natjax.pipeline import run_files, tables
from natjax.training import metrics as metrics_lib

_LEAST = 0.3  # Rank correlation: with less, prices are taken not to add up.


def write(out: pathlib.Path, result: Mapping[str, Any]) -> None:
  """Writes the architecture of every point, as `RUN/pareto/NUMBER.json`."""
  found = candidates.points(result)
  folder = out / run_files.POINTS
  folder.mkdir(exist_ok=True)
  for path in folder.iterdir():  # Of an end that was made again.
    path.unlink()
  for number, row in found.items():
    metrics_lib.write_text(folder / f"{number}.json", codec.to_json(
        codec.from_dict(row["architecture"])) + "\n")
  if not found:
    folder.rmdir()


def _beside(row):
  """Columns and cells of what a budget asks for beside the usual."""
  return {
      **({"latency": tables.latency_ratio(row)}
         if "latency_ratio" in row else {}),
      **({"memory": tables.ASKED["memory"](row["memory"])}
         if "memory" in row else {})}


def table(result: Mapping[str, Any]) -> tables.Comparison | None:
  """The points as a table, without a verdict; None where there are none."""
  found = candidates.points(result)
  if not found:
    return None
  first = next(iter(found.values()))
  given = result.get("given")
  costs = [*zip(*tables.costs([*found.values(), *([given] if given else [])]),
                strict=True)]
  if "price" in first:
    several = ", first seed" * (len(result["seeds"]) > 1)
    return tables.Comparison(
        "what budgets of multiply-adds would come to, by the prices, before any"
        f" tuning{several}",
        (">point", "", ">parameters", ">multiply-adds",
         *(f">{name}" for name in _beside(first)), ">price, nats"), [
            (str(i), "original" * row.get("original", False), *cost,
             *_beside(row).values(), f"{row['price']:.4f}")
            for (i, row), cost in zip(found.items(), costs, strict=False)], "")
  best = max(row["score"] for row in result["candidates"])
  factor, unit = (1, "") if "scored_by" in result else (100, " %")
  score = lambda row: f"{factor * row['score']:.2f}{unit}"
  behind = lambda row: f"{factor * (row['score'] - best):+.2f}"
  rows = [
      (str(i), ", ".join(name for name in ("original", "chosen") if row[name]),
       score(row), f"{behind(row)} ± {factor * row['standard_error']:.2f}",
       *cost, *_beside(row).values())
      for (i, row), cost in zip(found.items(), costs, strict=False)]
  if given:
    rows.append(("", "original, over the budget", score(given), behind(given),
                 *costs[-1], *_beside(given).values()))
  return tables.Comparison(_title(result), (
      ">point", "", ">score", ">to the best", ">parameters", ">multiply-adds",
      *(f">{name}" for name in _beside(first))), rows, "")


def _title(result):
  """Of the table of candidates."""
  count = len(result["candidates"])
  if "timed" in result:
    return (f"{count} candidates within the budget, of {result['scored']} that"
            f" were scored and {result['timed']} that were then timed: those"
            " that no other dominates")
  how = "by untrained networks (NASWOT)" if "scored_by" in result else (
      "on the supernet")
  return f"{count} candidates, scored {how}: those that no other dominates"


def _otherwise(result):
  """What other preferences choose, where a search chose the original."""
  rows = result.get("candidates", ())
  found: dict[int, list[str]] = {}
  given = next((row for row in rows if row["original"] and row["chosen"]), None)
  if given is None or result.get("finalists"):
    return []
  for prefer, i in result.get("preferred", {}).items():
    if not rows[i]["original"]:
      found.setdefault(i, []).append(prefer)
  return [
      f"By --prefer {' or '.join(names)} the search would have chosen what"
      f" scores {100 * (rows[i]['score'] - given['score']):+.2f} points, with"
      + ",".join(f" {100 * (rows[i][key] / given[key] - 1):+.1f} % {what}"
                 for key, what in (("params", "parameters"),
                                   ("madds", "multiply-adds"),
                                   ("memory", "memory")) if key in given) + "."
      for i, names in found.items()]


def _added_up(result):
  """How well the sums of prices foretold what combinations cost.

  Of several seeds and rounds the least.
  """
  seeds = result.get("seeds", ())
  rounds = max((len(row.get("rounds", ())) for row in seeds), default=0)
  found = [one["rank_correlation"] for row in seeds
           for one in (row, *row.get("rounds", ()))
           if one.get("rank_correlation") is not None]
  if not found:
    return []
  of = " and ".join(f"{count} {name}" for count, name in (
      (len(seeds), "seeds"), (rounds, "rounds")) if count > 1)
  said = ("The sums of prices foretell what random combinations of replacements"
          f" cost with a rank correlation of {min(found):.2f}"
          + f", the least of {of}" * bool(of))
  return [said + (
      ": the prices did not add up here, so that the choice is little better"
      " than chance; more price-images, more distil-epochs or several rounds"
      " help." if min(found) < _LEAST else ".")]


def sentences(result: Mapping[str, Any]) -> list[str]:
  """How alike the samples were, where they were, and what trials came to.

  Of a replacement also how well its prices added up.
  """
  said = _added_up(result)
  if result.get("distinct") == 1:
    said.append(f"All {result['sampled']} samples are one and the same"
                " transformation: the policy has settled on it.")
  said += _otherwise(result)
  if found := result.get("acceptance"):
    verdict = "accepted" if found["accepted"] else "not accepted"
    share = result["trial_seconds"] / max(result["seconds"], 1e-9)
    said.append(
        f"Trials of {len(found['trials']) - 1} candidate(s), {found['epochs']}"
        f" epochs, {100 * share:.0f} % of the time: {verdict}. The best of them"
        f" is {found['reason']}.")
  if found := result.get("confirmation"):
    each = found["images"] // found["seeds"]
    said.append(
        "Trained in full, it is" + " not returned:" * (not found["accepted"])
        + f" {found['reason']}" + (
            f" ({found['seeds']} seeds, {each} images)" * (found["seeds"] > 1))
        + ".")
  tried = [row["accepted"] for row in result.get("seeds", ())
           if "accepted" in row]
  if tried:
    said.append(f"Held-out images accepted what {sum(tried)} of {len(tried)}"
                " searches preferred.")
    said += [f"Seed {row['seed']}: what was preferred is {row['reason']}."
             for row in result["seeds"]
             if "reason" in row and not row["accepted"]]
  return said
