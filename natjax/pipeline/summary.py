"""What a result says of its networks: costs, accuracies, changes, seeds."""

from collections.abc import Mapping, Sequence
import statistics
from typing import Any

import numpy as np

from natjax import drawing
from natjax.costs import alone
from natjax.graph import codec, records
from natjax.pipeline import clock as clock_lib


def means(results: Sequence[Mapping[str, Any]],
          cost: Mapping[str, int] | None = None) -> dict[str, Any]:
  """Costs, and mean, deviation and values of accuracies over seeds.

  Args:
    results: of every seed, with "accuracy" and perhaps "top5_accuracy" and
      "linear_accuracy".
    cost: "params" and "madds" of all of them; None takes the mean of theirs.

  Returns:
    "params", "madds", "accuracy", "accuracy_std", "accuracies", those of the
    five first answers under "top5_accuracy" and so on, and those of a linear
    classifier under "linear_accuracy", "linear_accuracy_std",
    "linear_accuracies".
  """
  found: dict[str, Any] = dict(cost) if cost else {
      k: statistics.mean(r[k] for r in results) for k in ("params", "madds")}
  for name in ("accuracy", "top5_accuracy", "linear_accuracy"):
    if values := [r[name] for r in results if name in r]:
      spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
      found |= {name: float(np.mean(values)), f"{name}_std": spread,
                name.replace("accuracy", "accuracies"): values}
  return found


def changes(given: codec.Architecture, architecture: codec.Architecture,
            place: records.Place, explained: Sequence[dict[str, Any]] | None
            ) -> list[dict[str, Any]]:
  """The rows of what was changed, with what each saves by itself.

  A row is of an edge of a cell, or of the "edges" of equal blocks.

  Args:
    given: before.
    architecture: after.
    place: in which skeleton or frame.
    explained: of every row what the method says of it; None says nothing.
  """
  rows = drawing.changes(given, architecture)
  found = []
  for row, change, told in zip(
      rows, alone.changes(given, architecture),
      explained or [{}] * len(rows), strict=True):
    saved = alone.saves(given, change, place)
    found.append({**row._asdict(), "edges": len(change.parts), **told,
                  "saves": {**saved, **told.get("saves", {})}})
  return found


def with_aims(result: dict[str, Any], name: str,
              rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """A result whose parts say latency and memory, where a budget asks.

  Args:
    result: of the run; is added to.
    name: of the part that came out, beside "original".
    rows: of every seed what was said of them, whose means these are.
  """
  for kind, value in (("latency", lambda times: times["median"]),
                      ("memory", lambda count: count)):
    if all(kind in r for r in rows):
      for part, key in (("original", "original"), (name, "changed")):
        if part in result:
          result[part][kind] = statistics.mean(
              value(r[kind][key]) for r in rows)
  return result


def over_seeds(found: Sequence[Mapping[str, Any]], name: str, seed: int,
               reports: Sequence[str]) -> dict[str, Any]:
  """One result of those of several seeds.

  Args:
    found: the results, by seed.
    name: of the part that came out, beside "original".
    seed: the first.
    reports: what the method reports of every seed.
  """
  names = [n for n in ("original", name) if n in found[0]]
  return with_aims({
      **{k: v for k, v in found[0].items() if k in (
          "changes", "architectures", "method", "dataset", "versions",
          "devices", "skipped") or (
              k == "paired" and len(found) == 1)},
      **{n: means([r[n] for r in found]) for n in names},
      "seeds": [{
          "seed": r["seed"], "num_changes": sum(
              change.get("edges", 1) for change in r.get("changes", [])),
          **({"original_accuracy": r["original"]["accuracy"]}
             if "original" in r else {}),
          **{k: r[k] for k in (*reports, "latency", "memory") if k in r},
          **{k: v for k, v in r.get(
              "confirmation", r.get("acceptance", {})).items() if k in (
                  "accepted", "reason", "coarse")},
          **{k: r[name][k] for k in ("accuracy", "params", "madds")
             if k in r[name]}} for r in found],
      "seed": seed,
      "seconds": round(sum(r["seconds"] for r in found), 1),
      # A run that was finished by an earlier version does not tell.
      "time": clock_lib.total([r.get("time", {}) for r in found])}, name, found)
