"""Processes of their own, one iteration per line that they are sent.

Of the standard library alone: an interpreter with PyTorch needs no more.
"""

from collections.abc import Callable, Mapping, Sequence
import ctypes
import gc
import json
import os
import resource
import subprocess
import sys
import time
from typing import Any


class Worker:
  """A process that answers lines with JSON lines.

  Attributes:
    ready: its first answer.
    seconds: from its start until then.
    pid: of the process.
  """

  def __init__(self, command: Sequence[str | os.PathLike[str]],
               env: Mapping[str, str]):
    began = time.perf_counter()
    self._process = subprocess.Popen(
        command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True)
    self.pid = self._process.pid
    self.ready = self._read()
    self.seconds = time.perf_counter() - began

  def _read(self):
    line = self._process.stdout.readline()
    if not line:
      raise SystemExit("a side's process ended; its error stands above")
    return json.loads(line)

  def ask(self, line: str) -> Any:
    """Sends a line and waits for its answer."""
    self._process.stdin.write(f"{line}\n")
    self._process.stdin.flush()
    return self._read()

  def close(self) -> None:
    """Ends the process."""
    self._process.communicate()


def serve(
    start: Callable[[], tuple[dict[str, Any], Callable[[], object]]]) -> None:
  """The process's end: what is started first, then an iteration per line.

  At the line "rest" it gives back memory that is free but still resident, so
  that others have it. Every answer says "cpu_seconds", of all threads and of
  children that ended, and "peak_mb" so far, the first also "rest_mb", what
  stays resident at rest.

  Args:
    start: runs a first iteration; returns the facts of the first answer, and
      what runs another and waits for it.
  """
  with os.fdopen(os.dup(1), "w", buffering=1) as answers:
    os.dup2(2, 1)  # What libraries print is no answer.

    def answer(facts, began):
      print(json.dumps({**facts, "peak_mb": peak_mb(),
                        "cpu_seconds": _cpu_seconds() - began}),
            file=answers)

    facts, run = start()
    _rest()
    answer({**facts, "rest_mb": resident_mb()}, 0)
    for line in sys.stdin:
      began = _cpu_seconds()
      (_rest if line.strip() == "rest" else run)()
      answer({}, began)


def _cpu_seconds():
  """Of this process and of its children that have ended."""
  children = resource.getrusage(resource.RUSAGE_CHILDREN)
  return time.process_time() + children.ru_utime + children.ru_stime


def _rest():
  """Returns free memory to the system, where the C library can."""
  gc.collect()
  trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
  if trim is not None:
    trim(0)


def peak_mb() -> float:
  """The most memory of this process that was resident, in MB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def resident_mb() -> float:
  """Memory of this process that is resident now, in MB."""
  with open("/proc/self/statm", encoding="ascii") as file:
    return int(file.read().split()[1]) * resource.getpagesize() / 1e6
