"""`metrics.jsonl`: one JSON object per line, one line per phase and epoch."""

from collections.abc import Callable
import contextlib
import itertools
import json
import os
import pathlib
from typing import Any

Row = dict[str, Any]


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a file under a temporary name and renames it."""
  path = pathlib.Path(path)
  temporary = path.with_name(f".{path.name}.tmp")
  temporary.write_text(text, encoding="utf-8")
  os.replace(temporary, path)


def read(path: str | os.PathLike[str]) -> list[Row]:
  """Reads all rows; from a line on that was cut off or damaged, none."""
  path = pathlib.Path(path)
  text = path.read_text("utf-8", "replace") if path.exists() else ""
  rows: list[Row] = []
  with contextlib.suppress(ValueError):
    rows.extend(map(json.loads, text.splitlines()))
  return [row for row in rows if isinstance(row, dict)]


def seconds(path: str | os.PathLike[str], prefix: str) -> float:
  """For how long the runs whose names begin so have trained, in all starts."""
  return sum({row["run"]: row["seconds"] for row in read(path)
              if row["run"].startswith(prefix)}.values())


class MetricsFile:
  """The rows of one run in a file that other runs share.

  Attributes:
    run: value of the key "run" of this run's rows.
    count: rows of this run so far.
  """

  def __init__(self, path: str | os.PathLike[str] | None, run: str,
               listener: Callable[[Row], None] = lambda row: None):
    self.run, self.count, self._listener = run, 0, listener
    self._path = None if path is None else pathlib.Path(path)

  def cut_back(self, count: int) -> None:
    """Keeps this run's first `count` rows, and all rows of other runs."""
    self.count = count
    if self._path is not None and self._path.exists():
      mine = itertools.count()
      write_text(self._path, "".join(
          json.dumps(row) + "\n" for row in read(self._path)
          if row.get("run") != self.run or next(mine) < count))

  def append(self, row: Row) -> None:
    """Adds a row."""
    row = {"run": self.run, **row}
    self.count += 1
    if self._path is not None:
      with self._path.open("a", encoding="utf-8") as f:
        f.write(json.dumps(row) + "\n")
    self._listener(row)
