"""Commands that several processes run as one, and how any command ends."""

from collections.abc import Callable
import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
import threading
import time
import traceback
from typing import Any
import warnings

from natjax import errors
from natjax.cli import console

LOST, UNEXPECTED = 4, 70
_CODES: dict[type[Exception], int] = {
    errors.NotFinite: 1, errors.InputError: 2, errors.NotMet: 3}
_FULL = re.compile("RESOURCE_EXHAUSTED|[Oo]ut of memory")  # As XLA says it.
# As the system's loader and Python say it.
_NO_ROOM = re.compile("failed to map segment|[Cc]annot allocate memory|"
                      "can't start new thread")
_speaking = threading.Lock()
_joined: Any = None  # Of one of several processes, `training.distributed`.


def join(args) -> bool:
  """Joins the processes that the flags name; whether they name any.

  A dry run joins none.
  """
  global _joined
  from natjax.training import distributed  # With jax, which few commands need.

  among = args.coordinator, args.num_processes, args.process_id
  several = distributed.check(*among)
  if several:
    if args.devices is not None:
      raise errors.InputError(
          f"devices is {args.devices}, and several processes use all devices of"
          " all; leave devices out", "devices")
    if not args.dry_run:
      _joined = distributed
      distributed.join(*among, on_lost=_end)
  return several


def exit_code(call: Callable[[], int],
              leave: Callable[[int], None] | None = None) -> int:
  """Calls a command; says in a line what a user may mend.

  After an error, one of several processes ends at once: to shut jax down it
  would have to wait for the others, which wait for it.

  Args:
    call: the command.
    leave: ends the process after Ctrl-C, before what was stopped in its midst
      is torn down, which other code's threads may still be at; None does not.
  """
  code = _code(call, leave)
  if _joined is not None and code != 0:
    if code != LOST:
      _joined.abandon()
    _exit(code)
  return code


def _code(call, leave):
  try:
    with warnings.catch_warnings(), _warning_in_a_line():
      code = call()
    if _joined is not None and code == 0:
      _joined.leave()
    return code
  except tuple(_CODES) as e:
    _say(str(e))
    return next(code for kind, code in _CODES.items() if isinstance(e, kind))
  except errors.PeerLost as e:
    time.sleep(1)  # The thread that watches the others knows which one it is.
    _say_lost(str(e))
    return LOST
  except KeyboardInterrupt as e:
    return _interrupted(leave, e)
  except BrokenPipeError:  # The reader of our output left.
    console.drop(sys.stdout)
    return 0
  except OSError as e:  # A full disk, a folder that is gone or read-only.
    if e.filename is None and isinstance(e, FileNotFoundError) and _nowhere():
      _say("the working directory is gone; change to one that is there")
      return _CODES[errors.InputError]
    _say(f"{e.filename or 'a file, or the output'}: {e.strerror or e}; mend"
         " that and give the same command again (a run goes on where it was"
         " saved)")
    try:
      sys.stdout.flush()
    except OSError:  # Which at the end of the process would tell of itself.
      console.drop(sys.stdout)
    return 1
  except Exception as e:
    if (first := _interrupt_before(e)) is not None:
      return _interrupted(leave, first)
    if (line := _no_backend(e) or _told_otherwise(e)) is not None:
      _say(line)
      return _CODES[errors.InputError]
    if isinstance(e, ImportError | RuntimeError) and _NO_ROOM.search(str(e)):
      _say(f"a library or a thread finds no room ({errors.cause(e)[:200]});"
           " allow this process more (ulimit -v, -u)")
      return 1
    if isinstance(e, MemoryError) or _FULL.search(str(e)):
      _say("the memory is full; give a smaller batch-size, fewer channels or"
           f" smaller images ({errors.cause(e)[:200]})")
      return 1
    _say(_unexpected(e))
    return UNEXPECTED


def _nowhere():
  """Whether the working directory was removed."""
  try:
    os.getcwd()
  except FileNotFoundError:
    return True
  return False


def _interrupted(leave, interrupt):
  """Ends by the signal that the interrupt holds, or by Ctrl-C's."""
  number = next(iter(interrupt.args), signal.SIGINT)
  code = 128 + (number if isinstance(number, int) else signal.SIGINT)
  _say("interrupted")
  if leave is not None and _joined is None:
    leave(code)
  return code


def _interrupt_before(error):
  """Ctrl-C that became another error, as it may while a class is made."""
  while error is not None and not isinstance(error, KeyboardInterrupt):
    error = error.__cause__ or error.__context__
  return error


@contextlib.contextmanager
def _warning_in_a_line():
  """Says the library's own warnings as its refusals are said."""
  show = warnings.showwarning
  own = os.path.dirname(errors.__file__)

  def say(message, category, filename, *others, **more):
    if issubclass(category, errors.ResumedElsewhere) or (
        filename.startswith(own)):
      _say(f"warning: {message}")
    else:
      show(message, category, filename, *others, **more)

  warnings.simplefilter("always", errors.ResumedElsewhere)
  warnings.showwarning = say
  yield  # `catch_warnings` brings the former back.


def _say(line):
  """Writes one line, of which no word fills the terminal."""
  line = re.sub(r"(\S{100})\S{200,}", r"\1...", " ".join(line.splitlines()))
  sys.stderr.write(f"natjax: {line}\n")


def _no_backend(error):
  """The line on a backend that jax was told to take and has not; else None.

  Of one without devices that it can see, jax only fails an assertion.
  """
  asked = os.environ.get("JAX_PLATFORMS", "")
  found = re.match(r"Unable to initialize backend '(.*?)': ", str(error))
  last = traceback.extract_tb(error.__traceback__)[-1:]
  if isinstance(error, RuntimeError) and found:
    name, why = found[1], str(error)[found.end():].partition(" (")[0]
  elif isinstance(error, AssertionError) and asked and (
      any(f.name == "backends" and "xla_bridge" in f.filename for f in last)
      or not _has_devices()):  # jax may take its own frames out.
    name, why = asked, "no device of it is seen"
  else:
    return None
  return (f"jax cannot use the backend {errors.short(name)} here"
          f" ({why[:200]}); set JAX_PLATFORMS to one that this machine has, as"
          " cpu, or leave it unset")


def _has_devices():
  """Whether jax finds a device."""
  import jax  # It has failed, so it is there.

  try:
    return bool(jax.devices())
  except (AssertionError, RuntimeError):
    return False


def _told_otherwise(error):
  """The line on what jax was told to refuse, or cannot read; else None."""
  text = str(error)
  found = re.search(
      r"environment '?(JAX_\w+)|(jax_numpy_\w+_promotion)|"
      r"for JAX flag (jax_\w+)|(Disallowed \S+-to-\S+ transfer)", text)
  if found is not None:
    name = found[1] or (found[2] or found[3] or "").upper() or next(
        (name for name in sorted(os.environ)
         if name.startswith("JAX_TRANSFER_GUARD")), None)
  else:  # A number that is none, of whose setting jax says nothing.
    at = traceback.extract_tb(error.__traceback__)[-4:]
    name = next((name for name, value in sorted(os.environ.items())
                 if name.startswith("JAX_") and isinstance(error, ValueError)
                 and value and repr(value) in text and any(
                     re.search(r"jax.*config\.py$", f.filename) for f in at)),
                None)
  return name and (
      f"jax is set by {name} to what natjax does not run with"
      f" ({errors.cause(error)[:200]}); leave it unset")


def _unexpected(error):
  """Saves what nobody foresaw; the line that tells of it."""
  text = "".join(traceback.format_exception(error))
  try:
    with tempfile.NamedTemporaryFile(
        "w", prefix="natjax-", suffix=".txt", delete=False, encoding="utf-8",
        errors="backslashreplace") as f:
      f.write(f"{shlex.join(sys.argv)}\n{text}")
  except OSError:
    sys.stderr.write(text)
    where = "above"
  else:
    where = f"in {f.name}"
  return (f"{errors.cause(error)[:200]}; this is a fault of natjax,"
          f" not of what you gave: please report it with the text {where}")


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
  console.err.show_cursor(True)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
