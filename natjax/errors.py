"""The exceptions of the library, all that a caller may want to catch."""

from collections.abc import Callable, Collection, Iterator
import contextlib
import errno
import os
import pathlib
import re
import sys
from typing import Any

# What file systems allow of a name, and systems of a path, in bytes.
_NAME_BYTES, _PATH_BYTES = 255, 4095
_FULL = {getattr(errno, name, None) for name in ("ENOSPC", "EDQUOT", "EFBIG")}
# Of other machines; of a path that was made of one, one slash is left.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://|(gs|s3|https?|hdfs|file):/")

TO_READ = "ask its owner to let you read it"  # What no permission is for.


class InputError(ValueError):
  """Refused input: one line says what was given, what is allowed, what to do.

  The command line prints the line, names the flag of the field, and exits with
  2. Every check that can fail because of what a user passed raises this, before
  anything is compiled.

  Attributes:
    field: the setting at fault, as "seed", or, of the settings of a job, with
      the name of their record, as "train.epochs"; None where there is none.
  """

  def __init__(self, message: str, field: str | None = None):
    super().__init__(message)
    self.field = field


class NotThere(InputError):
  """Refused input: a known data set that is not where it was looked for."""


@contextlib.contextmanager
def within(record: str) -> Iterator[None]:
  """Adds to the fields of refusals which settings record they belong to."""
  try:
    yield
  except InputError as e:
    if e.field is not None and "." not in e.field:
      e.field = f"{record}.{e.field}"
    raise


@contextlib.contextmanager
def naming(name: str) -> Iterator[None]:
  """Begins the message of what is refused or not met with a name, if any."""
  try:
    yield
  except (InputError, NotMet) as e:
    if name:
      e.args = (f"{name}: {e}",)
    raise


def known(what: str, value: Any, among: Collection[str],
          field: str | None = None) -> None:
  """Refuses a value that is not among those known.

  Args:
    what: it is called, if `field` does not say otherwise the setting.
    value: of any type.
    among: what is known.
    field: the setting.
  """
  if not isinstance(value, str) or value not in among:
    shown = f"'{value}'" if isinstance(value, str) else short(value)
    raise InputError(f"{what} {shown} is unknown; choose one of"
                     f" {', '.join(among)}", field or what)


def short(value: Any, length: int = 60) -> str:
  """How a line shows a value that may be of any size."""
  try:
    text = repr(value)
  except (ValueError, RecursionError):  # An integer of 5000 digits.
    text = f"a value of type {type(value).__name__}"
  if "\n" in text:  # Of arrays.
    text = " ".join(text.split())
  return text if len(text) <= length else f"{text[:length]}..."


def several(names: Collection[str], most: int = 5) -> str:
  """How a line names some of many."""
  shown = ", ".join(short(name)[1:-1] for name in [*names][:most])
  return f"{shown}, ..." if len(names) > most else shown


def cause(error: BaseException) -> str:
  """How a line tells of an exception that other code raised."""
  text = " ".join(str(error).split())
  return text if isinstance(error, InputError) else (
      f"{type(error).__name__}{': ' * bool(text)}{text}")


@contextlib.contextmanager
def guarded(function: Callable[..., Any], what: str) -> Iterator[None]:
  """Refuses in a line what a function of another package stumbles over.

  Args:
    function: that is called within; one of the library's is at fault itself.
    what: the error calls it.

  Raises:
    InputError: it raised anything but InputError and NotMet.
  """
  try:
    yield
  except (InputError, NotMet):
    raise
  except (Exception, SystemExit) as e:
    if str(getattr(function, "__module__", "")).startswith("natjax."):
      raise
    raise InputError(f"{what} failed ({cause(e)}); mend its package") from e


def path(value: Any, field: str | None = None) -> pathlib.Path:
  """The path that a value names, if a file can have it.

  What begins with "~/" lies in the user's home, and with "~someone/" in
  someone's, as shells have it, unless a folder here has that name.

  Args:
    value: text or a path.
    field: the setting, if it is one.

  Raises:
    InputError: it is neither, or the disk cannot be asked for it: it holds a
      NUL byte, is longer than names of files can be, is an address, or lies in
      the home of nobody who is known.
  """
  what = field or "the path"
  if not isinstance(value, str | os.PathLike) or value == "":
    raise InputError(
        f"{what} is {short(value)} and must be a path; name a file or a folder",
        field)
  if _ADDRESS.match(os.fsdecode(value)):
    raise InputError(
        f"{what} is {short(os.fsdecode(value))}, an address, and natjax reads"
        " and writes files alone; name a path on this machine", field)
  found = home(pathlib.Path(value))
  try:
    parts = [len(os.fsencode(part)) for part in found.parts]
    fits = "\0" not in str(found) and max(parts, default=0) <= _NAME_BYTES and (
        len(os.fsencode(found)) <= _PATH_BYTES)
  except ValueError:  # Letters that the disk's encoding has not.
    fits = False
  if not fits:
    raise InputError(
        f"{what} is {short(str(found))}, which no file can have for its name"
        f" (at most {_NAME_BYTES} bytes a name, none of them NUL); name another"
        " path", field)
  if _in_a_home(found):
    raise InputError(
        f"{what} is {short(str(found))}, and whose home {found.parts[0]} is, is"
        " not known here; give the whole path", field)
  return found


def in_unicode(path: str | os.PathLike[str],
               field: str | None = None) -> None:
  """Refuses a place whose whole path is no Unicode, as jax's files need it.

  Such are names in Latin-1 where the system's are UTF-8, and names with more
  than ASCII where the locale has no more.

  Raises:
    InputError: the path, or that of the working directory if it starts there.
  """
  whole = os.path.abspath(path)
  try:
    whole.encode()
  except UnicodeEncodeError as e:
    raise InputError(
        f"the path {whole!a} is not in {sys.getfilesystemencoding()}, and"
        " neither checkpoints nor compiled programs can be kept there; name"
        " another folder, or set LC_ALL=C.UTF-8 if its name is in UTF-8",
        field) from e


def home(path: pathlib.Path) -> pathlib.Path:
  """A path, "~" at whose beginning is a user's home, if that is known."""
  if not _in_a_home(path):
    return path
  try:
    return path.expanduser()
  except RuntimeError:
    return path


def _in_a_home(path):
  """Whether a path lies in what shells would take for a user's home.

  A file or a folder may have such a name, too.
  """
  first = path.parts[0] if path.parts else ""
  return first == "~" or (first.startswith("~") and len(path.parts) > 1
                          and not os.path.lexists(first))


def regular(path: pathlib.Path) -> pathlib.Path:
  """A path that can be read to its end; what is not there is left to others.

  Pipes that the shell makes, in /dev, have a writer and may be read.

  Raises:
    InputError: a pipe, a socket or a device, on which reading may wait forever.
  """
  if path.exists() and not (path.is_file() or path.is_dir()) and (
      path.is_socket() or path.is_block_device() or not str(
          path.absolute()).startswith(("/dev/fd/", "/dev/stdin", "/proc/"))):
    raise InputError(f"{path} is a pipe or a device, and reading it may never"
                     " end; name a file")
  return path


def replaceable(path: pathlib.Path) -> pathlib.Path:
  """The file that a new one may replace by its name: of a link, its target.

  Raises:
    InputError: a folder, a pipe, a socket, a device or a stream, in whose place
      a file would then stand.
  """
  if (path.exists() and not path.is_file()) or str(path.absolute()).startswith(
      ("/dev/fd/", "/dev/std", "/proc/")):
    raise InputError(f"{path} is a folder, a pipe or a device, and no file can"
                     " take its place; name a file")
  return pathlib.Path(os.path.realpath(path)) if path.is_symlink() else path


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[pathlib.Path]:
  """Yields where to write what then takes a file's place, whole or not at all.

  Raises:
    InputError: see `replaceable`.
    OSError: with the file's name; nothing is left of what was written.
  """
  target = replaceable(pathlib.Path(path))
  temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
  try:
    yield temporary
    os.replace(temporary, target)
  except OSError as e:
    with contextlib.suppress(OSError):
      temporary.unlink(missing_ok=True)
    e.filename = str(path)
    raise


def disk_full(error: OSError) -> bool:
  """Whether the disk, or what a user may have of it, is full."""
  return error.errno in _FULL


@contextlib.contextmanager
def of_file(path: str | os.PathLike[str]) -> Iterator[None]:
  """Names the file in an OSError that names none, as that of a full disk."""
  try:
    yield
  except OSError as e:
    if e.filename is None:
      e.filename = str(path)
    raise


class ResumedElsewhere(UserWarning):
  """A run goes on under other versions, on another kind of device, or else.

  That is under other settings of the compiler. Last digits may differ.
  """


class NotMet(Exception):
  """No transformation that was found keeps to the budget."""


class Interrupted(Exception):
  """The run was asked to stop; its checkpoint is written."""


class NotFinite(Exception):
  """A step's metrics, or what its update left, were not finite.

  The last good checkpoint is kept.
  """


class PeerLost(Exception):
  """Another process of this run is gone; says what was seen of it."""
