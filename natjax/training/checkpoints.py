"""Checkpoints, on orbax.

A checkpoint holds the state of a method and where the run stands. Orbax writes
to a temporary folder and renames it, so that a process killed at any moment
leaves either the old checkpoint or the new one. Reading never executes
anything from the files.
"""

import contextlib
import json
import logging
import os
import pathlib
from typing import Any
from typing import NamedTuple

import jax
import orbax.checkpoint as ocp

from natjax import errors


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
  """

  stage: int = 0
  epoch: int = 0
  phase: int = 0
  step: int = 0
  rows: int = 0
  seconds: float = 0.0
  done: bool = False


class Checkpoints:
  """Saves and restores (state, position) in a folder; keeps the last two."""

  def __init__(self, folder: str | os.PathLike[str]):
    self._folder = pathlib.Path(folder).absolute()
    # Orbax warns of every default it takes; none of it concerns a user.
    logging.getLogger("absl").setLevel(logging.ERROR)
    options = ocp.CheckpointManagerOptions(
        max_to_keep=2, create=True, enable_async_checkpointing=False,
        cleanup_tmp_directories=True)
    self._manager = ocp.CheckpointManager(self._folder, options=options)

  def save(self, state: Any, position: Position) -> None:
    """Writes a checkpoint; returns when it is complete."""
    latest = self._manager.latest_step()
    number = 0 if latest is None else latest + 1
    self._manager.save(number, args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        position=ocp.args.JsonSave(position._asdict())), force=True)
    self._manager.wait_until_finished()

  def restore(self, like: Any) -> tuple[Any, Position] | None:
    """Reads the newest checkpoint.

    Args:
      like: a state of the same structure, shapes and dtypes.

    Returns:
      The state and the position, or None if there is no checkpoint.

    Raises:
      InputError: the checkpoint is damaged or of another kind of run.
    """
    number = self._manager.latest_step()
    if number is None:
      return None
    abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    try:
      restored = self._manager.restore(number, args=ocp.args.Composite(
          state=ocp.args.StandardRestore(abstract),
          position=ocp.args.JsonRestore()))
      return restored["state"], Position(**restored["position"])
    except (OSError, ValueError, KeyError, TypeError, LookupError,
            AssertionError, json.JSONDecodeError) as e:
      reason = " ".join(str(e).split())[:120]
      raise errors.InputError(
          f"the checkpoint {self._folder / str(number)} is damaged or of"
          f" another kind of run ({reason}); restore the folder, name another"
          " one with --out, or start anew with --overwrite") from e

  def close(self) -> None:
    """Releases orbax's threads."""
    with contextlib.suppress(RuntimeError):
      self._manager.close()
