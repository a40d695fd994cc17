"""Ctrl-C and SIGTERM ask what runs to save and stop."""

from collections.abc import Callable, Collection, Iterator
import contextlib
import signal


@contextlib.contextmanager
def interruptible(
    asked: list[int], tell: Callable[[], None], *,
    at_once: Collection[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
  """Hears both signals within, as a listener's `should_stop` may read them.

  SIGTERM is what containers and queues end a process by.

  Args:
    asked: the signals that came; is added to.
    tell: says that the run is about to stop.
    at_once: signals of which a second one stops at once.

  Raises:
    KeyboardInterrupt: at such a second signal.
  """

  def handle(number, frame):
    asked.append(number)
    if sum(one in at_once for one in asked) > 1:
      raise KeyboardInterrupt
    tell()

  old = {number: signal.signal(number, handle)
         for number in (signal.SIGINT, signal.SIGTERM)}
  try:
    yield
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)
