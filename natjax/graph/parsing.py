"""Reading what strangers wrote: text files, and the values of JSON."""

import json
import os
import pathlib

from natjax import errors


def parse_json(text: str, *, where: str) -> object:
  """Parses JSON text (InputError)."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as e:
    raise errors.InputError(
        f"{where}: not JSON ({e}); give a file such as a run's"
        " architecture.json") from e


def read_text(path: str | os.PathLike[str]) -> str:
  """Reads a text file.

  Raises:
    InputError: no such file, or not text.
  """
  path = pathlib.Path(path)
  try:
    return path.read_text(encoding="utf-8")
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; name a file") from e
  except ValueError as e:  # Not UTF-8, or a path that no file can have.
    raise errors.InputError(f"{str(path)!r}: not a text file; give JSON") from e


def is_count(value: object) -> bool:
  """Whether a JSON value is a whole number."""
  return isinstance(value, int) and not isinstance(value, bool)


def is_edge(value: object) -> bool:
  """Whether a JSON value is [operation, from, to]."""
  return (
      isinstance(value, list) and len(value) == 3
      and isinstance(value[0], str) and all(is_count(v) for v in value[1:])
  )
