"""Experiments of many runs: their parts, here or as jobs.

A script hands over parts that do not wait for each other: a search with a seed,
a network, a setting. Every part goes on from where it was stopped, and its
result is a file. They run in this process, one after another, or with
--executor as jobs of their own by submitit, on this machine or by Slurm. A job
is the script's own command, of which one part alone runs; so nothing has to be
handed to it but that command. A part that fails ends no other, and the report
is made from what is finished.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
import contextlib
import os
import pathlib
import re
import signal
import sys
import time
import traceback
from typing import Any, NamedTuple

import jax
import recording
import sweep_jobs

from natjax import errors
from natjax.pipeline import runs

FOLDER = "sweep"  # In --out, with a folder per part.
RESULT, ERROR, PLACE, JOBS = (
    "result.json", "error.json", "place.json", "jobs.json")


class Part(NamedTuple):
  """What runs by itself.

  Attributes:
    name: among all parts.
    make: what runs or goes on; returns JSON values.
    path: of the file that keeps them; None is one in the part's folder.
  """

  name: str
  make: Callable[[], Any]
  path: pathlib.Path | None = None


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the arguments of the experiments that have parts."""
  parser.add_argument("--executor", choices=("local", "slurm"),
                      help="run the parts as jobs of their own, by submitit, on"
                      " this machine or by Slurm; default: one after another,"
                      " in this process")
  parser.add_argument("--jobs", type=int, metavar="N",
                      help="at once; default: 1, of Slurm what submitit allows")
  parser.add_argument("--slurm", nargs="+", metavar="KEY=VALUE", default=[],
                      help="parameters of submitit's Slurm jobs, of which"
                      " timeout_min (minutes) is needed; also partition,"
                      " gpus_per_node, mem_gb, ...; VALUE is JSON or text")


class Sweep:
  """The parts of one experiment.

  Attributes:
    out: the experiment's folder.
    missing: why parts are not finished, by name, once they have run.
  """

  def __init__(self, script: str, args: argparse.Namespace,
               argv: Sequence[str] | None, config: dict[str, Any]):
    """Args:
      script: path of its file, whose `main` takes `argv`.
      args: with what `add_flags` and `recording.add_flags` add.
      argv: the command line; None is the process's.
      config: of `recording.open_folder`.

    Raises:
      InputError: arguments that do not fit, or as `recording.open_folder`.
    """
    self._script = pathlib.Path(script).resolve()
    self._argv = list(sys.argv[1:] if argv is None else argv)
    self._jobs = args.jobs
    self._cluster = None if sweep_jobs.PART else args.executor
    self._parameters = sweep_jobs.parameters(args)
    self._folder = args.out.resolve() / FOLDER
    self._logs = self._folder / "jobs"
    self._executor = sweep_jobs.slurm(
        self._logs, self._script.stem, self._parameters, self._jobs
    ) if self._cluster == "slurm" else None
    if self._cluster:
      jax.config.update("jax_platforms", "cpu")  # The cards are the jobs'.
    if not sweep_jobs.PART:
      recording.ASKED.clear()
    self.out = recording.open_folder(
        args.out, config, overwrite=args.overwrite and not sweep_jobs.PART)
    self.missing: dict[str, str] = {}
    self._names: list[str] = []

  def run(self, parts: Sequence[Part]) -> dict[str, Any]:
    """Runs or goes on with parts; parts that need others come in a later call.

    Returns:
      The results of those that are finished, by name.

    Raises:
      SystemExit: nothing of all parts is finished; or in a job, which has run
        its part.
    """
    left = [part for part in parts if not self._path(part).exists()]
    self._names += [part.name for part in parts]
    if sweep_jobs.PART:
      for part in parts:
        if part.name == sweep_jobs.PART:
          if part in left:
            self._make(part)
          sys.exit()
      return self.finished(parts)
    with recording.interruptible():
      if not self._cluster:
        self._here(left)
      elif self._cluster == "local":
        self._beside(left)
      else:
        self._queue(left)
    found = self.finished(parts)
    for part in left:
      if part.name in self.missing:
        print(f"{part.name}: {self.missing[part.name]}", file=sys.stderr,
              flush=True)
    if self.missing and len(self.missing) == len(self._names):
      print("nothing is finished, so there is nothing to report; the same"
            " command goes on", file=sys.stderr)
      self.end()
    return found

  def finished(self, parts: Iterable[Part]) -> dict[str, Any]:
    """The results of those parts that are there, by name; runs nothing."""
    return {part.name: recording.read(path) for part in parts
            if (path := self._path(part)).exists()}

  def circumstances(self) -> dict[str, Any]:
    """`recording.circumstances` of what is finished.

    Hardware is that of the parts, seconds are the sum of theirs; "missing" is
    there if something is.
    """
    if sweep_jobs.PART:
      raise errors.InputError(f"{sweep_jobs.PART} is none of the parts, which"
                              f" are {', '.join(self._names)}")
    read = lambda name: [recording.read(path) for folder in (
        self.out, *self._folder.glob("*"))
                         if (path := folder / name).exists()]
    found = recording.circumstances(
        self._script.name, self._argv, sum(read("seconds.json")))
    if places := {place["hardware"] for place in read(PLACE)}:
      found["hardware"] = "; ".join(sorted(places))
    if self._cluster:
      del found["load"]  # Of this machine, which has computed nothing.
    return found | ({"missing": self.missing} if self.missing else {})

  def end(self) -> None:
    """Ends the process where not everything is finished.

    Raises:
      SystemExit: 128 and the number of the signal by which it was asked to
        stop, or 1 if a part is missing.
    """
    if recording.ASKED:
      sys.exit(128 + recording.ASKED[0])
    if self.missing:
      sys.exit(1)

  # One part.

  def _place(self, part):
    """The folder of a part, for what is not its run."""
    return self._folder / re.sub(r"[^\w.=-]+", "-", part.name)

  def _path(self, part):
    return part.path or self._place(part) / RESULT

  def _make(self, part):
    """Runs a part; writes its result, or its error's line, which it raises."""
    folder = self._place(part)
    folder.mkdir(parents=True, exist_ok=True)
    with runs.locked(folder), recording.clock(folder):
      (folder / ERROR).unlink(missing_ok=True)
      try:
        found = part.make()
        recording.write(folder / PLACE, {"hardware": recording.hardware()})
        path = self._path(part)
        path.parent.mkdir(parents=True, exist_ok=True)
        recording.write(path, found)
      except errors.Interrupted:
        raise
      except Exception as error:
        recording.write(folder / ERROR, _line(error))
        raise

  # All parts, in each of the ways.

  def _here(self, parts):
    """Runs them in this process, one after another."""
    for part in parts:
      if recording.ASKED:
        self.missing[part.name] = "not run"
        continue
      try:
        self._make(part)
      except errors.Interrupted:
        self.missing[part.name] = "stopped and saved"
      except Exception as error:
        if not isinstance(error, errors.InputError):
          traceback.print_exc()
        self.missing[part.name] = _line(error)

  def _beside(self, parts):
    """Runs them in processes of their own, `jobs` at once."""
    count = self._jobs or 1
    executor = sweep_jobs.local(self._logs)
    waiting, running, free = list(parts), {}, [*range(count)]
    while running or (waiting and not recording.ASKED):
      while waiting and free and not recording.ASKED:
        part, slot = waiting.pop(0), free.pop(0)
        (self._place(part) / ERROR).unlink(missing_ok=True)
        with sweep_jobs.deaf():
          running[part.name] = part, slot, executor.submit(
              self._job(part, sweep_jobs.cards(slot, count)))
      for name, (part, slot, job) in [*running.items()]:
        if job.done():
          del running[name]
          free.append(slot)
          self._ended(part, job.paths.stderr)
        elif recording.ASKED:  # Again, as a job that begins lets it pass.
          with contextlib.suppress(ProcessLookupError):
            os.kill(int(job.job_id), signal.SIGTERM)
      time.sleep(1.0 if recording.ASKED and running else 0.1)
    self.missing |= {part.name: "not run" for part in waiting}

  def _queue(self, parts):
    """Submits them, unless they are in the queue, and waits for their ends."""
    if not parts:
      return
    path = self._folder / JOBS
    known = recording.read(path) if path.exists() else {}
    queued = sweep_jobs.queued() if known else set()
    fresh = [part for part in parts if known.get(part.name) not in queued]
    for part in fresh:
      (self._place(part) / ERROR).unlink(missing_ok=True)
    if fresh:
      try:
        jobs = self._executor.submit_array([
            self._job(part, {}) for part in fresh])
      except (RuntimeError, OSError) as error:
        raise errors.InputError(f"Slurm refused: {errors.cause(error)}"
                                ) from error
      known |= {part.name: job.job_id
                for part, job in zip(fresh, jobs, strict=True)}
      recording.write(path, known)
    print(f"{len(parts)} parts are in Slurm's queue; this waits for them, and"
          " the same command does so again", flush=True)
    left, before = list(parts), {known[part.name] for part in parts}
    while left and not recording.ASKED:
      queued = sweep_jobs.queued()
      for part in [*left]:
        # Where disks are shared, a file may be seen later than its job's end.
        if self._path(part).exists() or (
            known[part.name] not in before | queued):
          left.remove(part)
          self._ended(part, self._logs / f"{known[part.name]}_0_log.err")
      before = queued
      sweep_jobs.sleep(sweep_jobs.POLL * bool(left))
    self.missing |= {
        part.name: f"in the queue as {known[part.name]}" for part in left}

  def _ended(self, part, log):
    """Says how a job ended."""
    path = self._place(part) / ERROR
    if self._path(part).exists():
      print(f"{part.name}: finished", flush=True)
    elif path.exists():
      self.missing[part.name] = recording.read(path)
    else:
      self.missing[part.name] = "stopped and saved" if recording.ASKED else (
          f"its job ended without a word; see {log}")

  def _job(self, part, environment):
    return sweep_jobs.job(
        self._script, self._argv, part.name, environment,
        self._parameters.get("signal_delay_s", sweep_jobs.SAVE) // 2)


def _line(error):
  """How the report tells of an error."""
  text = errors.cause(error)
  return text if len(text) <= 200 else f"{text[:200]}..."
