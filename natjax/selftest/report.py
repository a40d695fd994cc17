"""Runs the parts of a self-test, and what it says in the end.

A report is JSON values:
  "verdict": what it comes to, in a line; None before the end.
  "passed": whether something was checked or measured, nothing failed, and no
    check that is required had no time.
  "complete": whether there was time for everything.
  "facts": see `facts`.
  "checks": rows of `comparison.Row`, as objects; None without them.
  "ceilings": what the device can do, of `speed.ceilings`; None without speed.
  "speed": rows of `speed.Row`, as objects; None without it. One with an
    "error", a traceback, failed.
  "errors": what was raised where there was no row to say it, with "part",
    "note" and "traceback".
  "seconds", "time_limit", "quick", "against": of the whole.
"""

from collections.abc import Callable, Iterator
import math
import time
import traceback
from typing import Any

from natjax import operations
from natjax.selftest import checks, comparison, facts

PARTS = ("checks", "speed")
# Of the time; what the checks leave is the speed's.
_SHARE = 0.55

Tables = list[tuple[str, tuple[str, ...], list[tuple[str, ...]]]]


def run(*, quick: bool, against_torch: bool, only: str | None,
        time_limit: float, say: Callable[[str], None],
        keep: Callable[[dict[str, Any]], None] = lambda report: None
        ) -> dict[str, Any]:
  """Runs the checks, then the measurements; returns the report.

  Args:
    quick: fewer operations and precisions, smaller measurements.
    against_torch: whether the same networks are measured in PyTorch.
    only: one of `PARTS`, or None for both.
    time_limit: seconds after which nothing begins any more.
    say: told a line whenever a row is there.
    keep: given the report as it is then, not yet "passed" and without seconds,
      for whoever may not see the end.
  """
  began = time.monotonic()
  left = lambda share=1.0: share * time_limit - (time.monotonic() - began)
  report: dict[str, Any] = {
      "verdict": None, "passed": False, "complete": False,
      "facts": facts.gather(), "checks": None, "ceilings": None, "speed": None,
      "errors": [], "quick": quick,
      "against": "torch" if against_torch else None, "time_limit": time_limit,
      "seconds": None}

  def tell(line):
    say(line)
    keep(report)

  if only != "speed":
    report["checks"] = []
    share = 1.0 if only else _SHARE
    with _shielded(report, "checks"):
      for row in checks.run(
          checks.cases(quick=quick), checks.ALONE, quick=quick,
          remaining=lambda required: left(1.0 if required else share)):
        report["checks"].append(_finite(row._asdict()))
        tell(f"{row.name}, {row.precision}: {_outcome(row)}")
  if only != "checks":
    report["speed"] = []
    if left() <= 0:
      tell("speed: not run, there was no time left")
    else:
      _measure(report, quick, against_torch, left, tell)
  report["seconds"] = time.monotonic() - began
  report["complete"] = not any(
      row["outcome"] == "not run" for row in report["checks"] or ()) and (
          only == "checks" or bool(report["speed"])) and all(
              row["seconds"] is not None for row in report["speed"] or ())
  outcomes = {row["outcome"] for row in report["checks"] or ()}
  wrong = report["errors"] or "FAILED" in outcomes or any(
      row.get("error") for row in report["speed"] or ())
  report["passed"] = not wrong and not _lacking(report) and (
      "passed" in outcomes or any(
          row["seconds"] is not None for row in report["speed"] or ()))
  report["verdict"] = verdict(report)
  return report


def _lacking(report):
  """How many checks that are required had no time."""
  return sum(row["outcome"] == "not run" and checks.required(row["precision"])
             for row in report["checks"] or ())


def _measure(report, quick, against_torch, left, tell):
  """Fills in the report's "ceilings" and "speed"."""
  with _shielded(report, "ceilings"):
    from natjax.selftest import speed

    report["ceilings"] = _finite(speed.ceilings())
    tell("ceilings: " + ", ".join(
        f"{k} {_number(v) if isinstance(v, float) else v}"
        for k, v in report["ceilings"].items()))
  with _shielded(report, "speed"):
    for row in speed.measure(
        quick=quick, against_torch=against_torch, remaining=left):
      report["speed"] = [*({old["name"]: old for old in report["speed"]} | {
          row.name: _finite(row._asdict())}).values()]
      took = "" if row.seconds is None else f"{_seconds(row.seconds)} a step; "
      tell(f"{row.name}: {took}{row.note}".rstrip("; "))


class _shielded:
  """Notes what is raised in a block, and goes on behind it."""

  def __init__(self, report, part):
    self._report, self._part = report, part

  def __enter__(self):
    return self

  def __exit__(self, kind, e, _):
    if isinstance(e, Exception):
      self._report["errors"].append({
          "part": self._part,
          "note": f"{kind.__name__}: {' '.join(str(e).split())}"[:300],
          "traceback": "".join(traceback.format_exception(e))})
      return True
    return False


def _finite(values):
  """As JSON has it: None of numbers that are not finite."""
  return {k: None if isinstance(v, float) and not math.isfinite(v) else v
          for k, v in values.items()}


def _outcome(row: comparison.Row) -> str:
  if row.error is None:
    return f"{row.outcome}: {row.note}"
  return (f"{row.outcome}, error {row.error:.1e} of {row.tolerance:.1e}"
          f" ({row.note}), {row.seconds:.1f} s")


def _seconds(value: float | None) -> str:
  return "" if value is None else f"{value:.3g} s"


def _number(value: Any, form: str = ".3g") -> str:
  return "" if value is None else format(value, form)


def tables(report: dict[str, Any], *, whole: bool = False) -> Tables:
  """(title, columns, rows) of the report; columns of numbers begin with ">".

  Args:
    report: from `run`.
    whole: with every operation and every note; else operations that passed are
      a row per precision, the one nearest to its tolerance.
  """
  values = dict(report["facts"])
  memory = values.pop("memory_bytes")
  values["memory"] = "" if memory is None else f"{memory / 2**30:.1f} GiB"
  found: Tables = [("machine", ("", ""), [
      (name, str(value)) for name, value in values.items() if value != ""])]
  if rows := report["checks"]:
    found.append(("correctness", (
        "check", "precision", ">error", ">at most", ">s", "outcome",
        *["error of"] * whole), [
            (row["name"], row["precision"], _number(row["error"], ".1e"),
             _number(row["tolerance"], ".1e"), _number(row["seconds"], ".1f"),
             row["outcome"], *[row["note"]] * whole)
            for row in (rows if whole else _shortened(rows))]))
  if report["ceilings"]:
    found.append(("measured rates of the device", ("", ">"), [
        (name, _number(value) if isinstance(value, float) else str(value))
        for name, value in report["ceilings"].items()]))
  if report["speed"]:
    found += _of_speed(report["speed"], whole, report["against"] is not None)
  wrong: list[tuple[str, ...]] = [
      (row["name"], row["note"]) for row in (
          *(row for row in rows or () if row["outcome"] == "FAILED"),
          *(row for row in report["speed"] or () if row.get("error")))]
  wrong += [(e["part"], e["note"]) for e in report["errors"]]
  if wrong:
    found.append(("what went wrong", ("", ""), wrong))
  return found


def _of_speed(rows, whole, against):
  """A table; if not `whole`, another one of what is said in words."""
  form = lambda row, key, form: _number(row[key], form)
  numbers = [(row["name"], _number(
      None if row["seconds"] is None else 1e3 * row["seconds"], ".2f"),
              form(row, "per_second", ".0f"), form(row, "compile_seconds",
                                                   ".1f"),
              form(row, "temporaries_mb", ".0f"), *[
                  form(row, key, ".2f")
                  for key in ("torch_eager", "torch_compiled")] * against)
             for row in rows]
  words = [(row["share"], row["note"]) for row in rows]
  columns = ("training step", ">ms", ">images/s", ">compiles, s", ">MB",
             *[">of eager torch", ">of compiled"] * against)
  said = ("of the measured rates", "")
  if whole:
    return [("speed", (*columns, *said), [
        (*n, *w) for n, w in zip(numbers, words, strict=True)])]
  return [("speed", columns, numbers), ("the same in words", (
      "training step", *said), [
          (n[0], *w) for n, w in zip(numbers, words, strict=True)])]


def _shortened(rows):
  """The rows, but of a precision's passed operations the worst alone."""
  found: list[dict[str, Any]] = []
  together: dict[str, list[dict[str, Any]]] = {}
  for row in rows:
    if row["outcome"] == "passed" and row["name"] in operations.names():
      together.setdefault(row["precision"], []).append(row)
    else:
      found.append(row)
  for passed in together.values():
    worst = max(passed, key=lambda row: row["error"] / row["tolerance"])
    found.append({**worst, "name": f"{len(passed)} operations, worst"
                  f" {worst['name']}" if len(passed) > 1 else worst["name"]})
  return found


def verdict(report: dict[str, Any]) -> str:
  """What the report comes to, in a line."""
  rows = report["checks"] or []
  count = lambda outcome: sum(row["outcome"] == outcome for row in rows)
  late, lacking = count("not run"), _lacking(report)
  parts = [f"INCOMPLETE: {late} check{'s' * (late > 1)} had no time, {lacking}"
           " of them required"] * (lacking > 0)
  if report["checks"] is not None:
    parts.append(f"{count('passed')} of {len(rows)} checks passed,"
                 f" {count('FAILED')} failed")
    if not lacking:
      parts[-1] += f", {late} were not run for lack of time"
      parts[-1] += ", none of them required" * (late > 0)
  if report["speed"] is not None:
    measured = sum(row["seconds"] is not None for row in report["speed"])
    parts.append(f"{measured} of {len(report['speed'])} speeds measured")
  parts += [f"{e['part']} broke off" for e in report["errors"]]
  took = "ended before its end" if report["seconds"] is None else (
      f"{report['seconds']:.0f} s")
  return f"{'; '.join(parts)} ({took})"


def markdown(report: dict[str, Any], command: str) -> str:
  """The report as a README.

  Args:
    report: from `run`.
    command: that made it.
  """

  def lines() -> Iterator[str]:
    yield f"# Self-test\n\nCommand: `{command}`\n\n{verdict(report)}."
    for title, columns, rows in tables(report, whole=True):
      yield f"\n## {title[0].upper()}{title[1:]}\n"
      yield _line([c.lstrip(">") for c in columns])
      yield "|" + "|".join(
          "---:" if c.startswith(">") else "---" for c in columns) + "|"
      yield from map(_line, rows)

  return "\n".join(lines()) + "\n"


def _line(cells):
  return "| " + " | ".join(
      cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
