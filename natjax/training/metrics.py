"""`metrics.jsonl`: one JSON object per line, one line per phase and epoch."""

from collections.abc import Callable
import contextlib
import itertools
import json
import os
import pathlib
from typing import Any
import zlib

from natjax import errors

Row = dict[str, Any]

_TYPES: dict[str, Any] = {
    "run": str, "stage": str, "phase": str, "epoch": int,
    "seconds": int | float}
_ADVICE = "restore it or overwrite the run"


def write_text(path: str | os.PathLike[str], text: str) -> None:
  """Writes a file under a temporary name and renames it.

  Raises:
    InputError: see `errors.replaceable`.
  """
  path = errors.replaceable(pathlib.Path(path))
  temporary = path.with_name(f".{path.name}.tmp")
  with errors.of_file(path):
    try:
      temporary.write_text(text, encoding="utf-8")
    except OSError:
      with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)
      raise
  os.replace(temporary, path)


def read(path: str | os.PathLike[str]) -> list[Row]:
  """Reads all rows, but a last one that was cut off; none if there is no file.

  Raises:
    InputError: another line is no row, or the file cannot be read.
  """
  path = errors.regular(errors.path(path))
  try:
    text = path.read_text("utf-8", "replace") if path.exists() else ""
  except OSError as e:
    raise errors.InputError(
        f"{path}: {e.strerror}; {_ADVICE}", "overwrite") from e
  *lines, last = text.split("\n")
  rows = [_parse(line) for line in lines]
  if None in rows:
    raise errors.InputError(
        f"{path} is damaged: line {rows.index(None) + 1} is no row of metrics;"
        f" {_ADVICE}", "overwrite")
  return [row for row in (*rows, _parse(last)) if row is not None]


def _parse(line):
  """The row of a line, or None; its names have the types of rows."""
  try:
    row = json.loads(line)
  except (ValueError, RecursionError):
    return None
  good = isinstance(row, dict) and all(
      name not in row or isinstance(row[name], kind)
      for name, kind in _TYPES.items())
  return row if good else None


def seconds(path: str | os.PathLike[str], prefix: str) -> float:
  """For how long the runs whose names begin so have trained, in all starts."""
  return sum(each for run, each in seconds_by_run(path).items()
             if run.startswith(prefix))


def seconds_by_run(path: str | os.PathLike[str]) -> dict[str, float]:
  """For how long each run had trained at its last row, in all starts."""
  return {row["run"]: row["seconds"] for row in read(path)}


class MetricsFile:
  """The rows of one run in a file that other runs share.

  Attributes:
    run: value of the key "run" of this run's rows.
    count: rows of this run so far.
    checksum: CRC-32 of these rows' lines.
  """

  def __init__(self, path: str | os.PathLike[str] | None, run: str,
               listener: Callable[[Row], None] = lambda row: None):
    self.run, self.count, self._listener = run, 0, listener
    self.checksum = 0
    self._path = None if path is None else pathlib.Path(path)

  def cut_back(self, count: int, checksum: int | None = None) -> None:
    """Keeps this run's first `count` rows, and all rows of other runs.

    Args:
      count: rows to keep.
      checksum: that they have; None does not ask.

    Raises:
      InputError: the file is damaged, has not as many, or has other rows. It
        is left as it is.
    """
    self.count, self.checksum = count, 0
    if self._path is None or not (self._path.exists() or count):
      return
    mine = itertools.count()
    rows = [row for row in read(self._path)
            if row.get("run") != self.run or next(mine) < count]
    if (found := next(mine)) < count:
      raise errors.InputError(
          f"{self._path} is damaged: it has {found} of the {count} rows of"
          f" {self.run} that were written before its checkpoint; {_ADVICE}",
          "overwrite")
    for row in rows:
      if row.get("run") == self.run:
        self._add(row)
    if checksum not in (None, self.checksum):
      raise errors.InputError(
          f"{self._path} is damaged: the first {count} rows of {self.run} are"
          " not those that were written before its checkpoint (a line was"
          f" changed, or cut out); {_ADVICE}", "overwrite")
    write_text(self._path, "".join(json.dumps(row) + "\n" for row in rows))

  def _add(self, row):
    """Adds a row to the checksum."""
    self.checksum = zlib.crc32(json.dumps(row).encode(), self.checksum)

  def append(self, row: Row) -> None:
    """Adds a row."""
    row = {"run": self.run, **row}
    self.count += 1
    self._add(row)
    if self._path is not None:
      with errors.of_file(self._path), self._path.open(
          "a", encoding="utf-8") as f:
        f.write(json.dumps(row) + "\n")
        f.flush()
        os.fsync(f.fileno())  # Checkpoints count on it, in a crash too.
    self._listener(row)
