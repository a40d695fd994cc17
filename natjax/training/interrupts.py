"""Ctrl-C, SIGTERM and SIGHUP ask what runs to save and stop."""

from collections.abc import Callable, Collection, Iterator
import contextlib
import signal

# Windows has no SIGHUP.
_HEARD = (signal.SIGINT, signal.SIGTERM, *(
    [signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))


@contextlib.contextmanager
def interruptible(
    asked: list[int], tell: Callable[[], None], *,
    at_once: Collection[int] = _HEARD
) -> Iterator[None]:
  """Hears the signals within, as a listener's `should_stop` may read them.

  SIGTERM is what containers and queues end a process by, SIGHUP a terminal that
  closes. One that is ignored, as `nohup` does with SIGHUP, stays so.

  Args:
    asked: the signals that came; is added to.
    tell: says that the run is about to stop.
    at_once: signals of which a second one stops at once.

  Raises:
    KeyboardInterrupt: at such a second signal, whose number it holds.
  """

  def handle(number, frame):
    asked.append(number)
    if sum(one in at_once for one in asked) > 1:
      raise KeyboardInterrupt(number)
    with contextlib.suppress(OSError):  # Of a terminal that is gone.
      tell()

  old = {number: signal.signal(number, handle) for number in _HEARD
         if number == signal.SIGINT
         or signal.getsignal(number) is not signal.SIG_IGN}
  try:
    yield
  finally:
    for number, handler in old.items():
      signal.signal(number, handler)
