"""What the main jobs print while they run, unless another listener hears them.

One line per phase, to standard error: which network or search, the epoch, the
accuracy, how long is left. On a terminal the line is written over in place;
elsewhere (in a notebook, in a file) a new one comes every ten seconds or so.
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import numbers
import shutil
import sys
import time
from typing import Any, TextIO

from natjax import errors
from natjax.training import options as options_lib


@dataclasses.dataclass(frozen=True)
class Printed(options_lib.Listener):
  """A listener that also prints a line per phase; see the module.

  Attributes:
    seconds: between two lines of a phase, where it is not a terminal.
    file: where to; None is standard error, as it is when a run begins.
  """

  seconds: float = 10.0
  file: TextIO | None = None

  def __post_init__(self):
    super().__post_init__()
    if not isinstance(self.seconds, numbers.Real) or not (
        self.file is None or hasattr(self.file, "write")):
      raise errors.InputError(
          f"seconds is {errors.short(self.seconds)} and file"
          f" {errors.short(self.file)}, and they must be a number and an open"
          " file, or None; leave them out")

  @contextlib.contextmanager
  def hearing(self) -> Iterator[options_lib.Listener]:
    """The plain listener of one run."""
    lines = _Lines(self.file or sys.stderr, self.seconds)

    def progress(p):
      lines.progress(p)
      self.on_progress(p)

    def resumed(p):
      lines.say(f"{_place(p)}: resumed at epoch {p.epoch + 1} of {p.epochs}")
      self.on_resume(p)

    try:
      yield dataclasses.replace(
          self.plain, on_progress=progress, on_resume=resumed)
    finally:
      lines.close()

  def noted(self, text: str) -> None:
    """Prints what should be known before a run begins."""
    print(f"note: {text}", file=self.file or sys.stderr, flush=True)

  def ended(self, text: str) -> None:
    """Prints how a run has ended."""
    print(text, file=self.file or sys.stderr, flush=True)


@contextlib.contextmanager
def hearing(listener: options_lib.Listener | None,
            prints: bool) -> Iterator[options_lib.Listener]:
  """The plain listener of one run, whatever was given.

  Args:
    listener: None hears nothing.
    prints: whether this process may print.
  """
  if not isinstance(listener, Printed):
    yield listener.plain if listener else options_lib.Listener()
  elif not prints:
    yield listener.plain
  else:
    with listener.hearing() as found:
      yield found


class Left:
  """How long a run takes to its end, but for what is yet to be compiled."""

  def __init__(self, clock: Callable[[], float] = time.monotonic):
    self._clock, self._busy, self._share = clock, 0.0, 0.0
    self._last: options_lib.Progress | None = None
    self._at = 0.0

  def __call__(self, p: options_lib.Progress) -> float | None:
    """Seconds, or None where nothing is known yet."""
    now = self._clock()
    # What follows the report of a phase's start is its compilation.
    if self._last is not None and self._last.metrics and p.metrics:
      self._busy += now - self._at
      self._share += p.done - self._last.done
    self._last, self._at = p, now
    if self._share <= 0:
      return None
    return self._busy / self._share * (1 - p.done)


class _Lines:
  """The lines of one run."""

  def __init__(self, file: Any, seconds: float):
    self._file, self._seconds = file, seconds
    self._terminal = bool(getattr(file, "isatty", bool)())
    self._key: tuple[str, str] | None = None
    self._last: options_lib.Progress | None = None
    self._text, self._width, self._printed = "", 0, False
    self._at = -float("inf")
    self._left = Left()

  def progress(self, p: options_lib.Progress) -> None:
    """Shows a chunk's end, or that a phase begins."""
    last = self._last
    if last is not None and p.run != last.run and p[1:8] == last[1:8]:
      return  # Another seed of the same program, at the same step.
    if (p.run, p.stage) != self._key:
      self._finish()
      if last is None or last.run != p.run:
        self._left = Left()
      self._key = p.run, p.stage
    self._last = p
    if p.metrics or not self._text:
      self._text = f"{_place(p)}: {_course(p, self._left(p))}"
      self._show(first=not p.metrics)
    else:
      self._left(p)

  def say(self, text: str) -> None:
    """A line by itself."""
    self._finish()
    self._file.write(f"{text}\n")
    self._file.flush()

  def close(self) -> None:
    """Ends the last line."""
    self._finish()

  def _show(self, first):
    if self._terminal:
      room = shutil.get_terminal_size().columns - 1
      text = self._text[:room]
      self._file.write(f"\r{text.ljust(self._width)}")
      self._width = len(text)
      self._file.flush()
      return
    now = time.monotonic()
    self._printed = first or now - self._at >= self._seconds
    if self._printed:
      self._file.write(f"{self._text}\n")
      self._file.flush()
      self._at = now

  def _finish(self):
    """Leaves the line of a phase as it was last."""
    if self._text and self._terminal:
      self._file.write("\n")
    elif self._text and not self._printed:
      self._file.write(f"{self._text}\n")
    self._file.flush()
    self._text, self._width, self._printed = "", 0, False


def _place(p):
  """Run, stage and phase, each word once."""
  return ", ".join(dict.fromkeys((p.run, p.stage, p.phase)))


def _course(p, left):
  """Where a phase stands, in words."""
  told = [f"epoch {p.epoch + 1} of {p.epochs}"]
  accuracies = {k: v for k, v in p.metrics.items() if k.endswith("accuracy")}
  shown = accuracies or dict([*p.metrics.items()][:1])
  told += [f"{name.replace('_', ' ')} {100 * value:.1f} %" if name in accuracies
           else f"{name.replace('_', ' ')} {value:.3f}"
           for name, value in shown.items()]
  if not p.metrics:
    told.append("compiles where the cache does not have it")
  elif left is not None:
    told.append(f"{duration(left)} left")
  return ", ".join(told)


def duration(seconds: float) -> str:
  """Seconds in words, with one decimal where they are few."""
  if seconds < 100:
    return f"{seconds:.1f} s"
  minutes = round(seconds / 60)
  return f"{minutes} min" if minutes < 100 else f"{minutes / 60:.1f} h"
