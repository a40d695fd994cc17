"""Reading what strangers wrote: text files, and the values of JSON."""

import codecs
import json
import os
import re
from typing import Any

from natjax import errors
from natjax.graph import records

# Of lists and objects in each other; no file of the library has as many.
_DEPTH = 50
# Bytes that no text has, of whatever letters.
_BINARY = re.compile(rb"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")
# How terminals are told of colours, which loggers leave in their files.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_MOST_BYTES = 2**26  # Of a text file; logs of a search have some megabytes.
# What packs a file, by its first bytes or its name, and what unpacks it.
_PACKED = {".gz": (b"\x1f\x8b", "gunzip"), ".bz2": (b"BZh", "bunzip2"),
           ".xz": (b"\xfd7zXZ", "unxz"), ".zip": (None, "unzip"),
           ".zst": (b"\x28\xb5\x2f\xfd", "unzstd")}
_WEIGHTS = (".pth", ".pt", ".tar", ".ckpt", ".bin", ".safetensors", ".npz",
            ".msgpack", ".h5", ".keras", ".onnx", ".pkl", ".pickle")
# What zips, as of PyTorch and NumPy, and HDF5 begin with.
_NO_TEXT = (b"PK\x03\x04", b"\x89HDF")


def parse_json(text: str, *, where: str) -> Any:
  """Parses JSON text (InputError)."""
  try:
    return load_json(text)
  except ValueError as e:
    if where.lower().endswith((".yaml", ".yml")):
      raise errors.InputError(
          f"{where}: of YAML only a Genotype(...) or a string of NAS-Bench-201"
          " is read; write cells as JSON, {\"normal\": [[\"sep_conv_3x3\", 0],"
          " ...], \"normal_concat\": [2, ...], \"reduce\": ...,"
          " \"reduce_concat\": ...}") from e
    if not text.lstrip().startswith(("{", "[")):
      found = ("nor is there a Genotype(...) or a string of NAS-Bench-201"
               if text.strip() else "but empty")
      raise errors.InputError(f"{where}: not JSON, {found}; give a file such as"
                              " a run's architecture.json") from e
    raise errors.InputError(f"{where}: not JSON ({e}); give a file such as a"
                            " run's architecture.json") from e


def load_json(text: str) -> Any:
  """Parses JSON text.

  Raises:
    ValueError: it is not JSON, is nested deeper than any file of the library,
      or has a key twice in one object.
  """
  try:
    found = json.loads(text, object_pairs_hook=_object)
  except RecursionError as e:
    raise ValueError(f"nested deeper than {_DEPTH} lists and objects") from e
  _check_depth(found)
  return found


def _object(pairs):
  """An object's keys and values, each key once."""
  found: dict[str, Any] = {}
  for key, value in pairs:
    if key in found:
      raise ValueError(f"the key {errors.short(key)} stands twice in an object")
    found[key] = value
  return found


def _check_depth(value):
  level, depth = [value], 0
  while level:
    depth += 1
    if depth > _DEPTH:
      raise ValueError(f"nested deeper than {_DEPTH} lists and objects")
    level = [part for whole in level if isinstance(whole, dict | list)
             for part in (whole.values() if isinstance(whole, dict) else whole)]


def read_text(path: str | os.PathLike[str]) -> str:
  """Reads a text file, without the colours of a terminal.

  Raises:
    InputError: no such file, not text, or larger than any such file.
  """
  found = errors.path(path)
  try:
    with errors.regular(found).open("rb") as f:
      content = f.read(_MOST_BYTES + 1)
    _refuse_packed(found, content)
    if len(content) > _MOST_BYTES:
      raise errors.InputError(
          f"{found} has more than {_MOST_BYTES // 2**20} MB, and no text of an"
          " architecture is so large; name another file")
    return _COLOUR.sub("", _decoded(content))
  except OSError as e:
    raise errors.InputError(f"{found}: {e.strerror}; name a file") from e
  except UnicodeDecodeError as e:
    raise errors.InputError(
        f"{str(found)!r}: not a text file; give JSON") from e


def _refuse_packed(path, content):
  """Refuses what is known to be no text, and says what to give (InputError)."""
  suffix = path.suffix.lower()
  for known, (start, command) in _PACKED.items():
    if (content.startswith(start) if start else (
        suffix == known and content.startswith(_NO_TEXT))):
      raise errors.InputError(
          f"{path} is packed; unpack it ({command} {path.name}), and name what"
          " comes out" + (f", or a cell of a table as {path}:NUMBER" if str(
              path).lower().endswith(".csv.gz") else ""))
  if content.startswith(_NO_TEXT) or (suffix in _WEIGHTS and (
      _BINARY.search(content))):
    raise errors.InputError(
        f"{path} is a file of weights or arrays, and no architecture is read"
        " from it; name the architecture that the weights are of and give them"
        " beside it, as in `natjax transform resnet18 --weights"
        f" {path.name} --method replace`, or name a run by its folder")


def _decoded(content):
  """Bytes as text (UnicodeDecodeError)."""
  if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
    return content.decode("utf-16")
  try:
    return content.decode("utf-8-sig")
  except UnicodeDecodeError:
    if _BINARY.search(content):
      raise
    return content.decode("latin-1")  # Comments of Windows.


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
