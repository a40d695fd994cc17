"""`metrics.jsonl`: one JSON object per line, one line per phase and epoch."""

from collections.abc import Callable
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
  """Reads all rows; a last line that was cut off in writing is dropped."""
  rows = []
  path = pathlib.Path(path)
  if path.exists():
    for line in path.read_text(encoding="utf-8").splitlines():
      try:
        rows.append(json.loads(line))
      except ValueError:
        break
  return rows


def _lines(rows):
  return "".join(json.dumps(row) + "\n" for row in rows)


class MetricsFile:
  """The rows of one run in a file that other runs share.

  Attributes:
    run: value of the key "run" of this run's rows.
    count: rows of this run so far.
  """

  def __init__(
      self, path: str | os.PathLike[str] | None, run: str,
      listener: Callable[[Row], None] | None = None,
  ):
    self.run = run
    self.count = 0
    self._path = None if path is None else pathlib.Path(path)
    self._listener = listener

  def cut_back(self, count: int) -> None:
    """Keeps this run's first `count` rows, and all rows of other runs."""
    self.count = count
    if self._path is None or not self._path.exists():
      return
    kept, mine = [], 0
    for row in read(self._path):
      if row.get("run") == self.run:
        mine += 1
        if mine > count:
          continue
      kept.append(row)
    write_text(self._path, _lines(kept))

  def append(self, row: Row) -> None:
    """Adds a row."""
    row = {"run": self.run, **row}
    self.count += 1
    if self._path is not None:
      with self._path.open("a", encoding="utf-8") as f:
        f.write(_lines([row]))
    if self._listener is not None:
      self._listener(row)
