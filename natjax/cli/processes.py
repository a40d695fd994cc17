"""Commands that several processes run as one, and how any command ends."""

from collections.abc import Callable
import functools
import os
import sys
import threading
import time
import traceback

from natjax import errors
from natjax.cli import output
from natjax.training import devices
from natjax.training import distributed

LOST = 4
_CODES: dict[type[Exception], int] = {
    errors.NotFinite: 1, errors.InputError: 2, errors.NotMet: 3}
_speaking = threading.Lock()


def add_flags(parser) -> None:
  """The flags that name this process among the others."""
  group = parser.add_argument_group(
      "several processes (start each with the same command, but for its id)")
  group.add_argument("--coordinator", metavar="HOST:PORT",
                     help="of process 0; or auto, alone: jax finds the others"
                     " (TPU, Slurm, Open MPI, Kubernetes)")
  group.add_argument("--num-processes", type=int, metavar="N", help="in all")
  group.add_argument("--process-id", type=int, metavar="I",
                     help="of this one, from 0; 0 writes the files")


def exit_code(call: Callable[[], int]) -> int:
  """Calls a command; says in a line what a user may mend."""
  try:
    return call()
  except tuple(_CODES) as e:
    sys.stderr.write(f"natjax: {' '.join(str(e).splitlines())}\n")
    return _CODES[type(e)]
  except errors.PeerLost as e:
    time.sleep(1)  # The thread that watches the others knows which one it is.
    _say_lost(str(e))
    return LOST
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:  # The reader of our output left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def joined(run: Callable[..., int]) -> Callable[..., int]:
  """Lets a command join the processes that its flags name.

  After an error the process ends at once: to shut jax down it would have to
  wait for the others, which wait for it.
  """

  @functools.wraps(run)
  def call(args):
    among = args.coordinator, args.num_processes, args.process_id
    if not distributed.check(*among):
      return run(args)
    if args.devices is not None:
      raise errors.InputError(
          f"devices is {args.devices}, and several processes use all devices of"
          " all; leave devices out", "devices")
    devices.configure_compilation()

    def join_and_run():
      distributed.join(*among, on_lost=_end)
      return run(args)

    try:
      code = exit_code(join_and_run)
    except Exception:
      traceback.print_exc()
      code = 1
    if code == 0:
      distributed.leave()
      return 0
    if code != LOST:
      distributed.abandon()
    return _exit(code)

  return call


def _say_lost(what):
  if not _speaking.acquire(blocking=False):
    threading.Event().wait()  # Another thread says it, and ends the process.
  time.sleep(1)  # What jax has to say goes first; ours is the last line.
  sys.stderr.write(
      f"natjax: {what}; start all processes again with the same command, and"
      " the run resumes\n")


def _end(what):
  _say_lost(what)
  _exit(LOST)


def _exit(code):
  output.err.show_cursor(True)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
