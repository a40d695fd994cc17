"""Connections by which processes hear of each other's end.

Process 0 listens, and each of the others connects to it. A process that ends,
however it ends, closes its connections, so that the other side hears of it at
once; a host that vanished, or a process that hangs as a whole, falls silent.
Process 0 tells the others what it heard.
"""

from collections.abc import Callable, Mapping
import contextlib
import selectors
import socket
import threading
import time

from natjax import errors

SILENCE_SECONDS = 30  # After which a process is taken for gone.
_BEAT_SECONDS = 1
_NAMING_SECONDS = 30  # After which a host's name is taken for none.
_HELLO, _GO, _NO = "natjax", "go", "no "


def listen(port: int = 0) -> socket.socket:
  """Opens a port, or one of the system's choice, on all addresses."""
  both = socket.has_dualstack_ipv6()
  return socket.create_server(("", port), dualstack_ipv6=both, family=(
      socket.AF_INET6 if both else socket.AF_INET))


def gather(port: int, count: int, seconds: float) -> None:
  """Waits as process 0 until each of the others has come (`report`).

  One that ends while it waits, and is started again, may come again.

  Args:
    port: where they come to; it is free again in the end.
    count: of all processes.
    seconds: to wait for the next one.

  Raises:
    InputError: two have one number, or another count; all are told.
    OSError: they have not come in time.
  """
  waiting: dict[int, socket.socket] = {}
  with contextlib.ExitStack() as stack:
    server, problem = stack.enter_context(listen(port)), ""
    server.settimeout(seconds)
    while len(waiting) < count - 1 and not problem:
      link = stack.enter_context(server.accept()[0])
      link.settimeout(5)
      try:
        word, *numbers = link.recv(100).decode().split()
        number, total = map(int, numbers)
      except (OSError, ValueError):
        continue  # A stranger.
      if word != _HELLO:
        continue
      waiting = {n: link for n, link in waiting.items()
                 if not _has_ended(link)}
      if total != count:
        problem = (f"num-processes is {total} of process {number} and {count}"
                   " of process 0")
      elif number in waiting:
        problem = f"process-id is {number} of two processes"
      if problem:
        problem += "; number all of them from 0, each once"
        _say(link, _NO + problem)
      else:
        waiting[number] = link
    for link in waiting.values():
      _say(link, _NO + problem if problem else _GO)
  if problem:
    raise errors.InputError(problem)


def _say(link, text):
  with contextlib.suppress(OSError):
    link.sendall(text.encode())


def _has_ended(link):
  """Whether the other side of a connection is gone; it is asked nothing."""
  link.setblocking(False)
  try:
    return not link.recv(1, socket.MSG_PEEK)
  except BlockingIOError:
    return False
  except OSError:
    return True
  finally:
    link.settimeout(5)


def report(host: str, port: int, number: int, count: int, seconds: float
           ) -> None:
  """Comes to process 0, which may not be there yet, and waits for the others.

  Args:
    host: of process 0.
    port: where it waits (`gather`).
    number: of this process.
    count: of all.
    seconds: to wait for process 0, and then for its answer.

  Raises:
    InputError: process 0 refuses, who listens there does not wait for this
      process, or the host's name is not known for half a minute.
    OSError: no answer came in time.
  """
  begun = time.monotonic()
  deadline = begun + seconds
  answer = b""
  while not answer:
    try:
      with socket.create_connection((host, port), timeout=5) as link:
        link.sendall(f"{_HELLO} {number} {count}".encode())
        link.settimeout(seconds)
        answer = link.recv(1000)
    except socket.gaierror as e:  # A cluster may still be naming its hosts.
      if time.monotonic() > min(begun + _NAMING_SECONDS, deadline):
        raise errors.InputError(
            f"no host is called '{host}' here ({e.strerror}); give the name or"
            " the address of process 0's", "coordinator") from e
    except OSError:
      if time.monotonic() > deadline:
        raise
    if not answer:  # It may have ended, and be started again.
      if time.monotonic() > deadline:
        raise TimeoutError(f"nobody answers at {host}:{port}")
      time.sleep(0.2)
  said = answer.decode(errors="replace")
  if said.startswith(_NO):
    raise errors.InputError(said.removeprefix(_NO))
  if said != _GO:
    raise errors.InputError(
        f"at {host}:{port} nobody waits for process {number}: the processes"
        " have begun without it, as with another one of this process-id, or it"
        " is another program's port; number all of them from 0, each once, and"
        " start them all again", "coordinator")


def accept(server: socket.socket, count: int, token: str,
           seconds: float) -> dict[int, socket.socket]:
  """Waits for `count` others that know the token; closes the server.

  Returns:
    Their connections, by their numbers.

  Raises:
    OSError: they have not come in time.
  """
  found: dict[int, socket.socket] = {}
  deadline = time.monotonic() + seconds
  with server:
    while len(found) < count:
      server.settimeout(max(deadline - time.monotonic(), 0.01))
      link, _ = server.accept()
      link.settimeout(5)
      try:
        with link.makefile() as lines:
          said, number = lines.readline().split()
      except (OSError, ValueError):
        said = None
      if said == token:
        found[int(number)] = link
      else:
        link.close()  # A stranger.
  return found


def connect(host: str, port: int, token: str, number: int,
            seconds: float) -> dict[int, socket.socket]:
  """Connects to process 0 as process `number` (OSError)."""
  link = socket.create_connection((host, port), timeout=seconds)
  link.sendall(f"{token} {number}\n".encode())
  return {0: link}


class Watch:
  """Watches connections in a thread of its own."""

  def __init__(self, links: Mapping[int, socket.socket],
               on_lost: Callable[[str], None]):
    """Args:
      links: by the numbers of the processes at their other ends.
      on_lost: called once, with what was heard.
    """
    self._links, self._on_lost = dict(links), on_lost
    self._quiet = threading.Event()
    for link in self._links.values():
      link.setblocking(False)
    threading.Thread(target=self._run, daemon=True).start()

  def end(self) -> None:
    """From now on processes may end."""
    self._quiet.set()

  def _run(self):
    heard = None
    heard_at = dict.fromkeys(self._links, time.monotonic())
    with selectors.DefaultSelector() as selector:
      for number, link in self._links.items():
        selector.register(link, selectors.EVENT_READ, number)
      while heard is None and not self._quiet.is_set():
        for key, _ in selector.select(_BEAT_SECONDS):
          heard = heard or self._receive(key.fileobj, key.data)
          heard_at[key.data] = time.monotonic()
        for number, at in heard_at.items():
          if not heard and time.monotonic() - at > SILENCE_SECONDS:
            heard = f"no sign of process {number} for {SILENCE_SECONDS} s"
        self._send(b".")
    if heard is not None and not self._quiet.is_set():
      if 0 not in self._links:
        self._send(f"{heard}\n".encode())
      self._on_lost(heard)

  def _receive(self, link, number):
    """What a process says of another one, or that it has ended itself."""
    try:
      said = link.recv(4096)
    except BlockingIOError:
      return None
    except OSError:
      said = b""
    if not said:
      return f"process {number} has ended"
    return said.decode(errors="replace").strip(".\n") or None

  def _send(self, message):
    for link in self._links.values():
      with contextlib.suppress(OSError):  # What is wrong, `_receive` hears.
        link.send(message)
