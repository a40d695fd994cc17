"""Parts of an experiment as jobs of submitit, on this machine or by Slurm."""

import argparse
from collections.abc import Iterator, Mapping, Sequence
import contextlib
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import recording

from natjax import errors

try:
  import submitit
except ImportError:
  submitit = None

POLL = 15.0  # Seconds between looks into Slurm's queue.
SAVE = 90  # Seconds before its end that a job is told of it; submitit's own.
_YEAR = 365 * 24 * 60  # Minutes; submitit ends a local job after two.
_TIMES = 100  # That a job is queued again after its time.
PART: str | None = None  # Of a job: what it runs.


def parameters(args: argparse.Namespace) -> dict[str, Any]:
  """What --slurm says, by name.

  Raises:
    InputError: arguments that do not fit together.
  """
  if args.executor and submitit is None:
    raise errors.InputError("--executor needs the package submitit; pip install"
                            " submitit, or natjax with the extra sweeps")
  if args.jobs is not None and (args.jobs < 1 or not args.executor):
    raise errors.InputError(
        f"--jobs is {args.jobs}; give at least 1, and an --executor")
  if args.slurm and args.executor != "slurm":
    raise errors.InputError("--slurm is for --executor slurm; give both")
  found = {}
  for text in args.slurm:
    key, equals, value = text.partition("=")
    if not key or not equals:
      raise errors.InputError(f"--slurm {text} is not of the form KEY=VALUE")
    try:
      found[key] = json.loads(value)
    except ValueError:
      found[key] = value
  if args.executor == "slurm":
    if not isinstance(found.get("signal_delay_s", SAVE), int):
      raise errors.InputError("--slurm signal_delay_s is"
                              f" {found['signal_delay_s']}; give whole seconds")
    if not isinstance(found.get("timeout_min", found.get("time")), int):
      raise errors.InputError("how long a job may run is not given in whole"
                              " minutes; pass --slurm timeout_min=MINUTES; then"
                              " it is queued again, and goes on")
    for key in ("nodes", "tasks_per_node", "ntasks_per_node"):
      if found.get(key, 1) != 1:
        raise errors.InputError(f"--slurm {key}={found[key]}: a part is one"
                                " process; leave it out")
  return found


def local(logs: pathlib.Path) -> Any:
  """Submitit's engine for this machine.

  Args:
    logs: folder of the jobs' logs.
  """
  executor = submitit.AutoExecutor(logs, cluster="local")
  executor.update_parameters(timeout_min=_YEAR)
  return executor


def slurm(logs: pathlib.Path, name: str, given: Mapping[str, Any],
          count: int | None) -> Any:
  """Submitit's engine for Slurm.

  Args:
    logs: folder of the jobs' logs.
    name: of the jobs.
    given: as `parameters` gives them.
    count: of jobs at once; None is what submitit allows.

  Raises:
    InputError: there is no Slurm here, or submitit does not know a parameter.
  """
  own = dict(given)
  times = own.pop("max_num_timeout", _TIMES)
  if count:
    own["array_parallelism"] = count
  own["additional_parameters"] = {
      "requeue": True, **own.get("additional_parameters", {})}
  try:
    executor = submitit.AutoExecutor(
        logs, cluster="slurm", slurm_max_num_timeout=times)
    executor.update_parameters(name=name, **{
        f"slurm_{key}": value for key, value in own.items()})
  except Exception as error:  # Of many types.
    text = str(error).split("\n", 1)[0]
    raise errors.InputError(
        f"--executor slurm: {text}; start this where Slurm's commands are, or"
        " leave --executor out") from error
  return executor


def cards(slot: int, count: int) -> dict[str, str]:
  """The environment by which jobs at once divide this machine's cards.

  Submitit hides all cards from its local jobs.

  Args:
    slot: in [0, count).
    count: jobs at once.
  """
  key, share = "CUDA_VISIBLE_DEVICES", "XLA_PYTHON_CLIENT_MEM_FRACTION"
  given = os.environ.get(key)
  found = given.split(",") if given else sorted(
      path.name[6:] for path in pathlib.Path("/dev").glob("nvidia[0-9]*")
  ) if given is None else []
  if not found:
    return {}
  own = found[slot::count] or [found[slot % len(found)]]
  users = -(-count // len(found))
  return {key: ",".join(own), **({share: f"{0.9 / users:.2f}"} if (
      users > 1 and share not in os.environ) else {})}


@contextlib.contextmanager
def deaf() -> Iterator[None]:
  """What is started within does not hear Ctrl-C, but of this process."""
  old = signal.signal(signal.SIGINT, signal.SIG_IGN)
  try:
    yield
  finally:
    signal.signal(signal.SIGINT, old)


def sleep(seconds: float) -> None:
  """Sleeps until a signal asks to stop."""
  end = time.monotonic() + seconds
  while time.monotonic() < end and not recording.ASKED:
    time.sleep(min(0.1, seconds))


def queued() -> set[str]:
  """Which of the user's jobs wait or run, by Slurm's queue.

  Not by submitit's `Job.done`: it asks the accounting, which not every cluster
  has, and for which a preempted job that is cancelled is never done.
  """
  while True:
    done = subprocess.run(
        ["squeue", "--noheader", "--array", "--format=%i",
         f"--user={os.getuid()}"], capture_output=True, text=True,
        check=False)
    if not done.returncode:
      return {*done.stdout.split()}
    print(f"squeue: {done.stderr.strip()}; asked again", file=sys.stderr)
    if recording.ASKED:
      return set()
    sleep(POLL)


# In a job.


def job(script: pathlib.Path, argv: Sequence[str], name: str,
        environment: Mapping[str, str], patience: int) -> Any:
  """What submitit runs: a class of no module, so that it is pickled whole.

  A job finds the modules of the script, of which this is one, only once the
  path of this process is its own.
  """

  class Job:
    """The script's own command, of which one part runs."""

    def __init__(self):
      self.path, self.folder = list(sys.path), os.getcwd()
      self.environment = environment

    def __call__(self):
      os.chdir(self.folder)
      sys.path[:] = [str(script.parent), *self.path]
      os.environ.update(self.environment)
      importlib.import_module("sweep_jobs").work(
          script.stem, argv, name, patience)

    def checkpoint(self):
      """How submitit submits it again."""
      return importlib.import_module(
          "submitit").helpers.DelayedSubmission(self)

  return Job()


def work(module: str, argv: Sequence[str], name: str, patience: int) -> None:
  """Runs one part in a job of submitit.

  Submitit queues a job again when it is told of its end by SIGUSR2, at
  whatever line it stands, and lets SIGTERM pass. Here the part is asked to save
  first. After SIGTERM it saves, too, and ends; in Slurm it goes on until it is
  killed: the signal may come from a preemption, and who ends before it is
  enforced is not queued again.

  Args:
    module: of the script.
    argv: its arguments.
    name: of the part.
    patience: seconds that the part has to save where it is told to end.
  """
  global PART
  PART = name
  ask = getattr(signal, f"SIG{submitit.JobEnvironment.USR_SIG}")
  requeue = signal.getsignal(ask)  # Submitit's.
  slurm = submitit.JobEnvironment().cluster == "slurm"

  def hear(number, frame):
    recording.ASKED.append(number)
    if number == ask:  # What cannot be asked is where it last saved.
      signal.signal(signal.SIGALRM, requeue)
      signal.alarm(patience)

  for number in (ask, signal.SIGTERM):
    signal.signal(number, hear)
  while True:
    try:
      return importlib.import_module(module).main(list(argv))
    except SystemExit as end:
      if end.code:
        raise
      return
    except errors.Interrupted:
      if ask in recording.ASKED:
        requeue(ask, None)  # It raises.
      if not slurm:
        sys.exit(128 + recording.ASKED[0])
      recording.ASKED.clear()
    finally:
      signal.alarm(0)
