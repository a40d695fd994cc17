"""Checkpoints, on orbax.

A checkpoint holds the state of a method and where the run stands. Orbax writes
to a temporary folder and renames it; beside it a seal is then written, with
what the state is made of and a checksum of every file. Only sealed checkpoints
are read, so that a process killed at any moment leaves either the old
checkpoint or the new one, and a damaged or foreign one is known for what it is
before orbax reads it. Orbax takes a millisecond for an array, and a state may
have thousands, so that small ones are written as one. While a checkpoint is
written a mark stands beside it: one without a seal and without a mark has lost
its seal. Reading never executes anything from the files.
"""

from collections.abc import Sequence
import contextlib
import json
import logging
import os
import pathlib
import re
import sys
import traceback
from typing import Any, NamedTuple
import zlib

import jax
import numpy as np
import orbax.checkpoint as ocp

from natjax import errors
from natjax.training import devices, metrics

_SMALL = 2**20  # Bytes of an array, from which on it is written by itself.
_OS_ERROR = re.compile(r"os_error_code='(\d+)'")  # In tensorstore's messages.


class Position(NamedTuple):
  """Where a run stands.

  Attributes:
    stage: index of the stage.
    epoch: within the stage.
    phase: index within the epoch.
    step: within the phase.
    rows: lines of this run in `metrics.jsonl`.
    seconds: spent so far, compilation included.
    done: whether the run is finished.
    checksums: of those lines, of every run that trains at once; none of
      checkpoints that 0.2.0 wrote.
  """

  stage: int = 0
  epoch: int = 0
  phase: int = 0
  step: int = 0
  rows: int = 0
  seconds: float = 0.0
  done: bool = False
  checksums: Sequence[int] = ()


class Checkpoints:
  """Saves and restores (state, position) in a folder; keeps the last two."""

  def __init__(self, folder: str | os.PathLike[str], *, alone: bool = False):
    """Args:
      folder: made if it is not there.
      alone: whether this is process 0 of several, which does not wait for the
        others. Orbax then takes host arrays only.

    Raises:
      InputError: a file stands there or where one of its folders would, or the
        path is not in Unicode.
    """
    self._alone = alone
    self._folder = pathlib.Path(folder).absolute()
    errors.in_unicode(self._folder, "out")
    try:
      self._folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as e:
      raise errors.InputError(
          f"the folder of checkpoints {self._folder} cannot be made"
          f" ({e.strerror}); remove the file in its place, name another folder,"
          " or overwrite the run", "overwrite") from e
    # Orbax warns of every default it takes; none of it concerns a user. What
    # fails it raises, too.
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").addFilter(_not_of_orbax)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=False, enable_async_checkpointing=False,
        cleanup_tmp_directories=True,
        multiprocessing_options=ocp.options.MultiprocessingOptions(
            primary_host=0, active_processes={0} if alone else None))
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def save(self, state: Any, position: Position) -> None:
    """Writes a checkpoint; returns when it is complete.

    Raises:
      OSError: the disk does not take it; what was saved before is kept.
    """
    state = devices.plain(state)
    number = max(self._manager.all_steps(), default=-1) + 1
    self._mark(number).touch()
    with self._disk():
      self._manager.save(number, args=ocp.args.Composite(
          state=ocp.args.StandardSave(_joined(state)),
          position=ocp.args.JsonSave(position._asdict())), force=True)
      self._manager.wait_until_finished()
    metrics.write_text(self._seal(number), json.dumps(
        {"state": _structure(state), "files": self._checksums(number),
         "joined": True}))
    self._mark(number).unlink()
    for path in self._folder.glob("*.seal"):
      if not (self._folder / path.stem).is_dir():
        path.unlink()

  def restore(self, like: Any) -> tuple[Any, Position] | None:
    """Reads the newest sealed checkpoint.

    Args:
      like: a state of the same structure, shapes and dtypes.

    Returns:
      The state and the position, or None if there is no checkpoint.

    Raises:
      InputError: the checkpoint is damaged or of another kind of run.
      OSError: the disk does not give it.
    """
    steps = self._manager.all_steps()
    sealed = [n for n in steps if self._seal(n).exists()]
    if not sealed:
      self._check_first(steps)
      return None
    number, plain = max(sealed), devices.plain(like)
    if self._check(number, plain, like):
      state, position = self._read(number, _joined(plain))
      return devices.typed(_apart(state, plain), like), position
    if self._alone:
      state, position = self._read(number, plain)
      return devices.typed(state, like), position
    return self._read(number, jax.tree.map(
        ocp.utils.to_shape_dtype_struct, like))

  def _read(self, number, like):
    """The state as it was written, and the position."""
    with self._disk():
      found = self._manager.restore(number, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(like),
          position=ocp.args.JsonRestore()))
    return found["state"], Position(**found["position"])

  def _check_first(self, steps):
    """Refuses checkpoints without seals, but for what a kill leaves.

    That is the first one alone, or with another first one behind it, and each
    has its mark.
    """
    if len(steps) > 2 or max(steps, default=0) > 1 or any(
        self._folder.glob("*.seal")) or not all(
            self._mark(step).exists() for step in steps):
      raise errors.InputError(
          f"the checkpoints in {self._folder} are damaged (folders or their"
          " seals are gone); restore the folder, name another one, or overwrite"
          " the run", "overwrite")

  @contextlib.contextmanager
  def _disk(self):
    """Raises as OSError what the disk refuses, of the folder's name at least.

    Tensorstore raises ValueError; of a full disk it begins as that of a full
    memory does. Its writes that end later find orbax's loop closed, which it
    would print for each.
    """
    former = sys.unraisablehook

    def hear(unraisable):
      if str(unraisable.exc_value) != "Event loop is closed":
        former(unraisable)

    sys.unraisablehook = hear
    try:
      with errors.of_file(self._folder):
        yield
      sys.unraisablehook = former
    except ValueError as e:
      if (found := _OS_ERROR.search(str(e))) is None:
        raise
      number = int(found[1])
      raise OSError(number, os.strerror(number), str(self._folder)) from e

  def _seal(self, number):
    return self._folder / f"{number}.seal"

  def _mark(self, number):
    return self._folder / f"{number}.begun"

  def _checksums(self, number):
    folder = self._folder / str(number)
    return {str(path.relative_to(folder)): zlib.crc32(path.read_bytes())
            for path in sorted(folder.rglob("*")) if path.is_file()}

  def _check(self, number, plain, like):
    """Refuses a checkpoint that does not fit its seal, or not a state.

    Args:
      number: of the checkpoint.
      plain: the state in host arrays.
      like: the state.

    Returns:
      Whether small arrays were joined; 0.2.0 did not join them.
    """
    try:
      seal = json.loads(self._seal(number).read_text(encoding="utf-8"))
      joined = seal.get("joined", False)
      there = {name: content for name, content in
               self._checksums(number).items() if name in seal["files"]
               or pathlib.PurePath(name).name[0] != "."}  # Of a file browser.
      if seal["files"] != there:
        problem = "damaged (a file is not what was written)"
      elif seal["state"] != _structure(
          plain if joined or self._alone else like):
        problem = "of another kind of run"
      else:
        return joined
    except (OSError, ValueError, KeyError, TypeError, AttributeError,
            RecursionError):
      problem = "damaged (its seal cannot be read)"
    older = problem.startswith("damaged") and any(
        self._seal(n).exists() for n in self._manager.all_steps() if n < number)
    go_on = (f"remove it and {self._seal(number).name} to go on from the"
             " checkpoint before it, ") if older else ""
    raise errors.InputError(
        f"the checkpoint {self._folder / str(number)} is {problem}; restore the"
        f" folder, {go_on}name another one, or overwrite the run", "overwrite")

  def close(self) -> None:
    """Releases orbax's threads."""
    with contextlib.suppress(RuntimeError):
      self._manager.close()


def _not_of_orbax(record):
  """Whether a log's record is not of a task that orbax left when one failed."""
  error = record.exc_info and record.exc_info[1]
  return not error or not (_OS_ERROR.search(str(error)) or any(
      "orbax" in frame.filename
      for frame in traceback.extract_tb(error.__traceback__)))


def _joined(state):
  """A state of host arrays, the small ones of a type one after another."""
  joined: dict[str, list[np.ndarray]] = {}
  alone = {}
  for number, leaf in enumerate(jax.tree.leaves(state)):
    if leaf.nbytes < _SMALL:
      joined.setdefault(str(leaf.dtype), []).append(leaf.ravel())
    else:
      alone[str(number)] = leaf
  return {"alone": alone, "joined": {
      name: np.concatenate(parts) for name, parts in joined.items()}}


def _apart(found, like):
  """The state of which `_joined` made what was found.

  Args:
    found: as `_joined` gives it.
    like: a state of the same structure, shapes and dtypes.
  """
  leaves, structure = jax.tree.flatten(like)
  begin = dict.fromkeys(found["joined"], 0)
  state = []
  for number, leaf in enumerate(leaves):
    if leaf.nbytes < _SMALL:
      name = str(leaf.dtype)
      end = begin[name] + leaf.size
      state.append(found["joined"][name][begin[name]:end].reshape(leaf.shape))
      begin[name] = end
    else:
      state.append(found["alone"][str(number)])
  return jax.tree.unflatten(structure, state)


def _structure(state):
  """What a state is made of: path, shape and dtype of every array."""
  return [[jax.tree_util.keystr(path), list(leaf.shape), str(leaf.dtype)]
          for path, leaf in jax.tree_util.tree_leaves_with_path(state)]
