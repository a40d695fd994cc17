"""Files that a run writes and reads again, and the checksums of them.

Beside them `checksums.json` has of each file those that it may have, so that a
file that was changed by hand, or that another run put there, is told by name.
"""

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import shutil
from typing import Any
import zlib

import numpy as np

from natjax import errors
from natjax.graph import parsing
from natjax.pipeline import shapes
from natjax.training import metrics as metrics_lib

CONFIG = "config.json"
RESULT = "result.json"
METRICS = "metrics.jsonl"
ARCHITECTURE = "architecture.json"
TEXT = "architecture.txt"
WEIGHTS = "weights.npz"
NETWORKS = "networks"
REFUSED = "refused"  # Networks that were trained and not returned.
POINTS = "pareto"  # Architectures to choose from (`choosing`).
CHECKPOINT = "checkpoint"
CHECKSUMS = "checksums.json"
INHERITED = "inherited"  # In the checkpoint: what networks begin with.
# Folders of a run of several given architectures, each a run's, too.
PARTS = "architecture-[0-9]*"
DAMAGED = "restore it or overwrite the run"

# Files of which every run keeps a checksum, wherever they lie in it.
_CHECKED = (RESULT, ARCHITECTURE, WEIGHTS)
_DERIVED = "derived*.json"
# What of the configuration tells whose a network is.
_WHOSE = ("augmentation", "crc32", "image_size", "normalize", "seed", "train")
_OF = ": of"  # In a network's checksums; no file has the name.


def read_json(path: str | os.PathLike[str], shape: Any = dict, *,
              missing: str = "name a run's folder",
              damaged: str = DAMAGED,
              field: str | None = "overwrite") -> Any:
  """Reads a JSON file.

  Args:
    path: the file.
    shape: of what it holds; see `shapes`.
    missing: what the error advises if it cannot be read.
    damaged: what it advises if the file is not JSON, or of another shape.
    field: the setting that mends a damaged file.

  Raises:
    InputError: it is not there, not JSON, or of another shape.
  """
  path = errors.path(path)
  check_sum(errors.regular(path))
  found = load_json(path, missing, damaged, field)
  shapes.check(found, shape, str(path), damaged, field)
  return found


def load_json(path: pathlib.Path, missing: str = "name a run's folder",
              damaged: str = DAMAGED, field: str | None = "overwrite") -> Any:
  """What a JSON file holds, whatever its checksum and its shape.

  Args:
    path: the file.
    missing: what the error advises if it cannot be read.
    damaged: what it advises if the file is not JSON.
    field: the setting that mends a damaged file.

  Raises:
    InputError: it is not there, or not JSON.
  """
  path = errors.regular(path)
  try:
    return parsing.load_json(path.read_text(encoding="utf-8-sig"))
  except OSError as e:
    advice = errors.TO_READ if isinstance(e, PermissionError) else missing
    raise errors.InputError(f"{path}: {e.strerror}; {advice}") from e
  except ValueError as e:
    raise errors.InputError(f"{path} is not JSON and may be damaged; {damaged}:"
                            f" {errors.short(str(e), 99)}", field) from e


@contextlib.contextmanager
def reading(path: str | os.PathLike[str],
            advice: str = DAMAGED) -> Iterator[None]:
  """Refuses a file whose content the code within stumbles over.

  Args:
    path: of the file.
    advice: what the error tells to do.
  """
  try:
    yield
  except (errors.InputError, UnicodeEncodeError):  # The latter of printing.
    raise
  except (AttributeError, IndexError, KeyError, OverflowError, TypeError,
          ValueError, RecursionError) as e:
    raise errors.InputError(
        f"{path} is damaged ({errors.cause(e)}); {advice}", "overwrite") from e


def plain(value: Any) -> Any:
  """A number of numpy's as one of Python's, which JSON can have.

  Raises:
    TypeError: it is something else.
  """
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f"{type(value).__name__} is nothing that JSON can have")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes a JSON file under a temporary name and renames it."""
  metrics_lib.write_text(
      path, json.dumps(value, indent=2, default=plain) + "\n")


def write_kept(path: str | os.PathLike[str], value: Any) -> None:
  """Writes JSON that the run reads again, and before it its checksum."""
  with kept(pathlib.Path(path)) as temporary:
    temporary.write_bytes(
        (json.dumps(value, indent=2, default=plain) + "\n").encode())


def write_result(out: pathlib.Path, result: dict[str, Any]) -> None:
  """Writes what a run came to, which ends it.

  From there on its rows of metrics and its trained networks are those that
  there are: their checksums are kept, too.
  """
  networks = {f"{NETWORKS}/{path.parent.name}": [_sum(path)]
              for path in out.glob(f"{NETWORKS}/*/{RESULT}")}
  rows = out / METRICS
  write_json(out / CHECKSUMS, {**_sums(out), **networks, **(
      {METRICS: [_sum(rows)]} if rows.is_file() else {})})
  write_kept(out / RESULT, result)


@contextlib.contextmanager
def kept(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields where to write a file that the run reads again, and renames it.

  Before that its checksum goes to `checksums.json` beside it, which has of
  every file those that it may have: of what it was and of what it becomes,
  since a kill may leave either.
  """
  temporary = path.with_name(f".{path.name}.tmp")
  yield temporary
  write_json(path.with_name(CHECKSUMS), {
      **_sums(path.parent), **_whose(path.parent),
      path.name: sorted({_sum(p) for p in (path, temporary) if p.is_file()})})
  os.replace(temporary, path)


def adopt(network: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a trained network into another run, which then takes it for its own.

  Args:
    network: the folder of one, in a run that trained it by the settings, images
      and seed by which the other would.
    target: the network's folder in the other run; what is there is removed.

  Raises:
    InputError: it is not what its run wrote.
  """
  read_json(network / RESULT)
  shutil.rmtree(target, ignore_errors=True)
  shutil.copytree(network, target, ignore=shutil.ignore_patterns(CHECKPOINT))
  write_json(target / CHECKSUMS, {**_sums(target), **_whose(target)})


def _whose(folder):
  """Of a network's folder a checksum of the run and of the folder's name."""
  if folder.parent.name not in (NETWORKS, REFUSED):
    return {}
  try:
    config = parsing.load_json((folder.parent.parent / CONFIG).read_text(
        encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  kept = {k: config.get(k) for k in _WHOSE} if isinstance(config, dict) else {}
  return {_OF: [zlib.crc32(json.dumps(
      [folder.name, kept], sort_keys=True).encode())]}


def _sum(path):
  """The checksum of a file, of which a part at a time is held."""
  found = 0
  with path.open("rb") as file:
    while part := file.read(1 << 24):
      found = zlib.crc32(part, found)
  return found


def _sums(folder):
  """The checksums of a folder's files; none of a run that kept none."""
  path = folder / CHECKSUMS
  if not path.is_file():
    return {}
  try:
    found = parsing.load_json(path.read_text(encoding="utf-8"))
    shapes.check(found, {"*": [int]}, str(path), DAMAGED)
  except ValueError as e:  # InputError, too.
    raise errors.InputError(
        f"{path} is damaged; {DAMAGED}", "overwrite") from e
  return found


def check_sum(path: pathlib.Path) -> None:
  """Refuses a file that is not what the run wrote; of others nothing is known.

  Raises:
    InputError: its checksum is not among those that the run kept, or the file
      of these is gone; or it is the result of another seed's network.
  """
  _check_kept(path)
  allowed = _sums(path.parent).get(path.name)
  if allowed and path.is_file() and _sum(path) not in allowed:
    raise errors.InputError(
        f"{path} is not what the run wrote (its checksum differs); {DAMAGED};"
        " to use what you changed, name a copy of it elsewhere", "overwrite")
  if path.name == RESULT and path.parent.parent.name in (NETWORKS, REFUSED):
    _check_seed(path.parent)
  said, found = (sums.get(_OF) for sums in (
      _sums(path.parent), _whose(path.parent)))
  if None not in (said, found) and said != found:
    raise errors.InputError(
        f"{path.parent} is not what the run put there: it is of another run,"
        f" has another network's name, or {CONFIG} was changed; {DAMAGED}",
        "overwrite")


def _check_kept(path):
  """Refuses a file whose run keeps checksums, where it has none.

  A run says in its configuration that it keeps them: earlier ones did not.
  """
  folder = path.parent
  if not (path.name in _CHECKED or path.match(_DERIVED)) or not (
      path.is_file()) or _sums(folder).get(path.name):
    return
  out = folder
  if folder.name == CHECKPOINT:
    out = folder.parent
  elif folder.parent.name in (NETWORKS, REFUSED):
    out = folder.parent.parent
  try:
    config = parsing.load_json((out / CONFIG).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return
  if isinstance(config, dict) and config.get("checksums"):
    lacks = f"lacks {path.name}" if (folder / CHECKSUMS).exists() else (
        f"is gone, by which {path.name} is checked")
    raise errors.InputError(
        f"{folder / CHECKSUMS} {lacks}; {DAMAGED}", "overwrite")


def check_sums(out: pathlib.Path) -> None:
  """Refuses a run whose files are not what it wrote; those gone are gone.

  Raises:
    InputError: one of them is not; see `check_sum`.
  """
  for folder in (out, out / CHECKPOINT, out / CHECKPOINT / INHERITED,
                 *out.glob(f"{NETWORKS}/*"), *out.glob(f"{REFUSED}/*")):
    for path in (*(folder / name for name in _CHECKED),
                 *folder.glob(_DERIVED)):
      _check_kept(path)
    held = _sums(folder)
    if not (folder / RESULT).is_file():
      held.pop(METRICS, None)  # To which more are added.
    for path in (path for path in folder.glob("*") if path.name in held):
      check_sum(path)


def _check_seed(folder):
  """Refuses a network's folder that has the name of another seed."""
  try:
    found = parsing.load_json((folder / RESULT).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return  # It is missed, or refused, where it is read.
  seed = found.get("seed") if isinstance(found, dict) else None
  name = folder.name.rpartition("-")[2]
  if isinstance(seed, int) and name.isdigit() and int(name) != seed:
    raise errors.InputError(
        f"{folder} holds the network of seed {seed}; {DAMAGED}", "overwrite")


def gone(out: str | os.PathLike[str]) -> list[str]:
  """What a finished run had, and has no more.

  These are the folders of trained networks, their weights, the architecture and
  the metrics.

  Returns:
    Their paths within the run; those of an earlier version are not known.
  """
  out = errors.path(out)
  found = []
  for folder in _wholes(out):
    for name in _sums(folder):
      path = folder / name
      if name.startswith(f"{NETWORKS}/"):
        if not (path / RESULT).is_file():
          found.append(path)
        elif WEIGHTS in _sums(path) and not (path / WEIGHTS).is_file():
          found.append(path / WEIGHTS)
      elif (name in (ARCHITECTURE, METRICS) and not path.is_file()
            and (folder / RESULT).is_file()):
        found.append(path)
  return sorted(str(path.relative_to(out)) for path in found)


def lacking(out: str | os.PathLike[str]) -> str:
  """What `gone` finds, in words; "" of a run that has all."""
  if not (found := gone(out)):
    return ""
  return (f"{', '.join(found)}, which it had when it was finished,"
          f" {'is' if len(found) == 1 else 'are'} gone")


def changed(out: str | os.PathLike[str]) -> str:
  """The first file of a finished run that is not as written, in words, or "".
  """
  out = errors.path(out)
  try:
    for folder in _wholes(out) if (out / RESULT).is_file() else ():
      check_sums(folder)
  except errors.InputError as e:
    return str(e)
  return ""


def _wholes(out):
  """The folders of a run that hold results of their own: seeds', parts'."""
  return (out, *out.glob("seed-*"), *out.glob(PARTS),
          *out.glob(f"seed-*/{PARTS}"))
