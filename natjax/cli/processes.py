"""Commands that several processes run as one, and how any command ends."""

from collections.abc import Callable
import os
import sys
import threading
import time
import traceback

from natjax import errors
from natjax.cli import output
from natjax.training import distributed

LOST = 4
_CODES: dict[type[Exception], int] = {
    errors.NotFinite: 1, errors.InputError: 2, errors.NotMet: 3}
_speaking = threading.Lock()
_joining = False  # Whether this process is one of several.


def join(args) -> None:
  """Joins the processes that the flags name, if they do."""
  global _joining
  among = args.coordinator, args.num_processes, args.process_id
  if distributed.check(*among):
    if args.devices is not None:
      raise errors.InputError(
          f"devices is {args.devices}, and several processes use all devices of"
          " all; leave devices out", "devices")
    _joining = True
    distributed.join(*among, on_lost=_end)


def exit_code(call: Callable[[], int]) -> int:
  """Calls a command; says in a line what a user may mend.

  After an error, one of several processes ends at once: to shut jax down it
  would have to wait for the others, which wait for it.
  """
  code = _code(call)
  if _joining and code != 0:
    if code != LOST:
      distributed.abandon()
    _exit(code)
  return code


def _code(call):
  try:
    code = call()
    if _joining and code == 0:
      distributed.leave()
    return code
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
  except Exception:
    if not _joining:
      raise
    traceback.print_exc()
    return 1


def _say_lost(what):
  if not _speaking.acquire(blocking=False):
    threading.Event().wait()  # Another thread says it, and ends the process.
  time.sleep(1)  # What jax has to say goes first; ours is the last line.
  sys.stderr.write(f"natjax: {what}; start all processes again with the same"
                   " command, and the run resumes\n")


def _end(what):
  _say_lost(what)
  _exit(LOST)


def _exit(code):
  output.err.show_cursor(True)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
