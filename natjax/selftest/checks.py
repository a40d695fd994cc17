"""Runs all checks, each shielded from the others.

What concerns runs and devices as a whole comes first, alone; the other programs
are compiled in a few threads, reference and device side by side, those in
float32, which are required, before those in other precisions. A check that
raises is a row that failed, and what would begin after its time is said not to
have run.
"""

import collections
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
import contextlib
import functools
import os
import time
import traceback
from typing import Any, NamedTuple

import jax

from natjax.selftest import (
    comparison,
    network_cases,
    operation_cases,
    run_cases,
    step_cases,
)

Row = comparison.Row
_THREADS = 8


class _Late(Exception):
  """There was no time left to begin."""


class _Done(NamedTuple):
  """A value, and the seconds that it took."""

  value: Any
  seconds: float


def cases(*, quick: bool = False) -> list[comparison.Case]:
  """All programs that are compared with a reference.

  Args:
    quick: of operations that differ in a number alone, only one; steps in
      float32 alone.
  """
  names = operation_cases.representatives() if quick else None
  return [*operation_cases.cases(names), *network_cases.cases(),
          *step_cases.cases(quick=quick)]


def precisions(device: jax.Device, *,
               quick: bool = False) -> list[comparison.Precision]:
  """In what a device is checked.

  Products on the CPU have one precision, and bfloat16 is slow to compile there.
  """
  if device.platform == "cpu":
    return [comparison.FLOAT32, *[comparison.BFLOAT16] * (not quick)]
  return [comparison.FLOAT32, comparison.DEFAULT, comparison.BFLOAT16]


def required(precision: str) -> bool:
  """Whether a self-test is incomplete without rows of a precision's name."""
  return precision == comparison.FLOAT32.name


class _Job:
  """A program on its way: traced, compiled in a thread, called."""

  def __init__(self, trace: Callable[[], comparison.Lowered],
               pool: futures.Executor, remaining: Callable[[], float]):
    self._error: Exception | None = None
    self._seconds = 0.0
    self._done: _Done | None = None

    def build(lowered):
      if remaining() <= 0:
        raise _Late
      with self._timed():
        return lowered.compile()

    try:
      if remaining() <= 0:
        raise _Late
      with self._timed():
        self._lowered = trace()
      self._compiled = pool.submit(build, self._lowered)
    except Exception as e:
      self._error = e

  @contextlib.contextmanager
  def _timed(self):
    began = time.monotonic()
    yield
    self._seconds += time.monotonic() - began

  def settled(self) -> bool:
    """Whether `result` need not wait."""
    return self._error is not None or self._compiled.done()

  def result(self) -> _Done:
    """What the program gives; raises what went wrong."""
    if self._error is not None:
      raise self._error
    if self._done is None:
      compiled = self._compiled.result()
      with self._timed():
        found = comparison.call(self._lowered, compiled)
      self._done = _Done(found, self._seconds)
    return self._done


def run(chosen: Sequence[comparison.Case],
        alone: dict[str, Callable[[], Iterator[Row]]], *, quick: bool,
        remaining: Callable[[bool], float]) -> Iterator[Row]:
  """Yields the rows of all checks, in order.

  Args:
    chosen: programs to compare.
    alone: by name, what must run with nothing beside it.
    quick: as for `precisions`.
    remaining: seconds that are left for what is required (True) and for the
      rest (False); nothing begins when there are none.
  """
  device = jax.devices()[0]
  for name, check in alone.items():
    try:
      if remaining(True) <= 0:
        raise _Late
      yield from list(check())
    except Exception as e:
      yield _raised(name, comparison.FLOAT32.name, e)

  def settled(*, wait):
    """Of the first, as long as they are settled or it should `wait`."""
    while waiting and (wait or all(job.settled() for job in waiting[0][2:])):
      case, precision, wanted, found = waiting.popleft()
      yield from _rows(case, precision, wanted, found, device,
                       functools.partial(remaining, required(precision.name)))

  pool = futures.ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1))
  waiting: collections.deque[Any] = collections.deque()
  try:
    wanted: dict[int, _Job] = {}
    for precision in precisions(device, quick=quick):
      left = functools.partial(remaining, required(precision.name))
      for i, case in enumerate(chosen):
        if precision.name not in case.tolerances:
          continue
        if i not in wanted:
          wanted[i] = _Job(functools.partial(comparison.reference, case), pool,
                           left)
        waiting.append((case, precision, wanted[i], _Job(functools.partial(
            comparison.lower, case, precision, device), pool, left)))
        yield from settled(wait=False)
    yield from settled(wait=True)
  finally:
    pool.shutdown(cancel_futures=True)


def _rows(case, precision, wanted, found, device, remaining):
  """The rows of a case, of two jobs; if one raises, of each of its parts."""
  try:
    both = wanted.result(), found.result()
  except _Late as e:
    return [_raised(part.name, precision.name, e)
            for part in case.alone or [case]]
  except Exception as e:
    rows = [] if case.alone else [_raised(case.name, precision.name, e)]
    for part in case.alone:
      try:
        if remaining() <= 0:
          raise _Late
        began = time.monotonic()
        one = comparison.compute(comparison.lower(part, precision, device))
        seconds = time.monotonic() - began
        both = (_Done(comparison.compute(comparison.reference(part)),
                      0.0), _Done(one, seconds))
      except Exception as e:
        rows.append(_raised(part.name, precision.name, e))
      else:
        rows += _compared(part, precision, *both)
    return rows
  return _compared(case, precision, *both)


def _compared(case, precision, wanted, found):
  try:
    return comparison.rows(
        found.value, wanted.value, case.tolerances[precision.name], precision,
        found.seconds)
  except Exception as e:
    return [_raised(case.name, precision.name, e)]


def _raised(name, precision, e):
  """The row of a check that raised, or that was too late."""
  if isinstance(e, _Late):
    return Row(name, precision, None, None, None, "not run",
               "there was no time left")
  text = " ".join(str(e).split())
  return Row(name, precision, None, None, None, "FAILED",
             f"{type(e).__name__}: {text}"[:300],
             "".join(traceback.format_exception(e)))


ALONE = run_cases.CASES
