"""Reading what strangers wrote: text files, and the values of JSON."""

import json
import os
import pathlib

from natjax import errors
from natjax.graph import records


def parse_json(text: str, *, where: str) -> object:
  """Parses JSON text (InputError)."""
  try:
    return json.loads(text)
  except (ValueError, RecursionError) as e:
    raise errors.InputError(f"{where}: not JSON ({e}); give a file such as a"
                            " run's architecture.json") from e


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


def counts(value: object, what: str) -> tuple[int, ...]:
  """Reads whole numbers, whose list the error calls `what` (InputError)."""
  if not isinstance(value, list) or not all(map(is_count, value)):
    raise errors.InputError(
        f"{what} must be a list of node numbers, given {value!r}")
  return tuple(value)


def edges(value: object, what: str) -> tuple[records.Edge, ...]:
  """Reads a list of edges, which the error calls `what` (InputError)."""
  if not isinstance(value, list) or not all(
      isinstance(edge, list) and len(edge) == 3 and isinstance(edge[0], str)
      and all(map(is_count, edge[1:])) for edge in value):
    raise errors.InputError(f"{what} must be a list of [operation, from, to]"
                            " with a text and two whole numbers")
  return tuple(records.Edge(*edge) for edge in value)
