"""Where the time of a job goes: compiling, or running what was compiled."""

from collections.abc import Iterator, Mapping
import contextlib
import threading
import time

from jax import monitoring

TRACE, LOWER, COMPILE, SEARCH, TRAINING, EVALUATION, OTHER = PARTS = (
    "trace", "lower", "compile", "search", "training", "evaluation", "other")
_EVENTS = "/jax/core/compile/"
# What is neither is compiling, or loading what was compiled.
_KINDS = {f"{_EVENTS}jaxpr_trace_duration": TRACE,
          f"{_EVENTS}jaxpr_to_mlir_module_duration": LOWER}


class Clock:
  """Sums the seconds of a job by what they were spent on.

  JAX tells of every program how long it was traced, lowered, and compiled or
  loaded from the cache. These seconds are "trace", "lower" and "compile"
  wherever they were spent, and are taken from the part that was on. No step is
  waited for.

  Attributes:
    seconds: of every part of `PARTS`, disjoint: these three; "search" and
      "training", the steps of programs that lead to an architecture and of
      those that train one, with their checkpoints; "evaluation", scores of
      candidates and networks; "other", files and pictures.
  """

  def __init__(self, before: Mapping[str, float] | None = None):
    """Args:
      before: seconds of earlier starts, to which these are added.
    """
    self.seconds = dict.fromkeys(PARTS, 0.0) | dict(before or {})
    self._on = [OTHER]
    self._told: list[tuple[float, float]] = []  # Apart, in order.
    self._since: float | None = None  # None while the clock stands.
    self._thread = 0

  @contextlib.contextmanager
  def running(self) -> Iterator[None]:
    """Counts within, what is not in a part as "other"."""
    self._since, self._thread = time.monotonic(), threading.get_ident()
    monitoring.register_event_duration_secs_listener(self._hear)
    try:
      yield
    finally:
      monitoring.unregister_event_duration_listener(self._hear)
      self._turn()
      self._since = None

  @contextlib.contextmanager
  def part(self, name: str) -> Iterator[None]:
    """Counts within as a part of `PARTS`; of nested ones as the inner."""
    self._turn()
    self._on.append(name)
    try:
      yield
    finally:
      self._turn()
      self._on.pop()

  @contextlib.contextmanager
  def paused(self) -> Iterator[None]:
    """Counts nothing within, where jobs run by clocks of their own."""
    self._turn()
    since, self._since = self._since, None
    try:
      yield
    finally:
      self._since = None if since is None else time.monotonic()

  def _turn(self):
    """Counts what has passed since it was last called."""
    if self._since is not None:
      now = time.monotonic()
      self.seconds[self._on[-1]] += now - self._since
      self._since = now

  def _hear(self, event: str, duration_secs: float, **more: str | int) -> None:
    """Hears from JAX that something has just ended; it may hold others."""
    if self._since is None or not event.startswith(_EVENTS) or (
        threading.get_ident() != self._thread):
      return
    end, inside = time.monotonic(), 0.0
    start = end - duration_secs
    while self._told and self._told[-1][1] > start:
      first, last = self._told.pop()
      inside += last - max(first, start)
      start = min(first, start)
    self._told.append((start, end))
    self.seconds[_KINDS.get(event, COMPILE)] += duration_secs - inside
    self.seconds[self._on[-1]] -= duration_secs - inside

  def rounded(self) -> dict[str, float]:
    """The seconds as a result tells them."""
    return {name: round(max(s, 0.0), 1) for name, s in self.seconds.items()}


def total(parts: list[Mapping[str, float]]) -> dict[str, float]:
  """The sum of several jobs' seconds."""
  return {name: round(sum(part.get(name, 0.0) for part in parts), 1)
          for name in PARTS}
