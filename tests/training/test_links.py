"""Processes hear of each other's end."""

from concurrent import futures
import queue
import socket
import threading
import time

import pytest

from natjax import errors
from natjax.training import links


@pytest.fixture
def joined():
  """Joins processes; closes what they leave open."""
  made = []

  def make(count):
    made.extend(join(count))
    return made

  yield make
  for ends in made:
    for link in ends.values():
      link.close()


def join(count):
  """The ends of `count` processes: those of process 0, then of each other."""
  server = links.listen()
  port = server.getsockname()[1]
  ends = [{} for _ in range(count)]

  def accept():
    ends[0] = links.accept(server, count - 1, "secret", 20)

  thread = threading.Thread(target=accept)
  thread.start()
  stranger = socket.create_connection(("localhost", port))
  stranger.sendall(b"GET / HTTP/1.1\n")
  for i in range(1, count):
    ends[i] = links.connect("localhost", port, "secret", i, 20)
  thread.join()
  stranger.close()
  assert set(ends[0]) == set(range(1, count))
  return ends


def test_a_process_that_ends_is_heard_of_by_all(joined, monkeypatch):
  monkeypatch.setattr(links, "_BEAT_SECONDS", 0.01)
  first, second, third = joined(3)
  heard = queue.Queue(), queue.Queue()
  links.Watch(first, heard[0].put)
  links.Watch(second, heard[1].put)
  third[0].close()
  assert heard[0].get(timeout=20) == "process 2 has ended"
  assert heard[1].get(timeout=20) == "process 2 has ended"


def test_a_process_that_is_silent_is_taken_for_gone(joined, monkeypatch):
  monkeypatch.setattr(links, "_BEAT_SECONDS", 0.01)
  monkeypatch.setattr(links, "SILENCE_SECONDS", 0.2)
  first, second = joined(2)
  heard = queue.Queue()
  links.Watch(first, heard.put)
  assert heard.get(timeout=20) == "no sign of process 1 for 0.2 s"
  second[0].close()


def test_processes_that_live_hear_nothing_and_may_end(joined, monkeypatch):
  monkeypatch.setattr(links, "_BEAT_SECONDS", 0.01)
  monkeypatch.setattr(links, "SILENCE_SECONDS", 0.5)
  first, second = joined(2)
  heard = queue.Queue()
  watches = [links.Watch(first, heard.put), links.Watch(second, heard.put)]
  with pytest.raises(queue.Empty):
    heard.get(timeout=1)
  for watch in watches:
    watch.end()
  second[0].close()
  with pytest.raises(queue.Empty):
    heard.get(timeout=0.2)


def test_who_does_not_come_is_not_waited_for_for_ever():
  with pytest.raises(OSError):
    links.accept(links.listen(), 1, "secret", 0.05)


def free_port():
  with socket.socket() as s:
    s.bind(("", 0))
    return s.getsockname()[1]


def meet(others, count=3, seconds=20, begun=0.0):
  """What process 0 and each of the others, (number, count), came to."""
  port = free_port()
  with futures.ThreadPoolExecutor(len(others) + 1) as pool:
    first = pool.submit(
        lambda: time.sleep(begun) or links.gather(port, count, seconds))
    rest = [pool.submit(links.report, "localhost", port, *other, seconds)
            for other in others]
    return [found.exception(30) for found in (first, *rest)]


def test_processes_meet_in_any_order():
  assert meet([(2, 3), (1, 3)]) == [None] * 3
  assert meet([(1, 2)], 2, begun=0.5) == [None] * 2


@pytest.mark.parametrize("others,said", [
    ([(1, 3), (1, 3)], "process-id is 1 of two processes"),
    ([(1, 2), (1, 2)], "num-processes is 2 of process 1 and 3 of process 0")])
def test_processes_that_do_not_fit_together_are_told(others, said):
  first, *rest = meet(others, seconds=3)
  assert isinstance(first, errors.InputError) and said in str(first)
  # One may have come too late to be told.
  assert str(first) in map(str, rest) and all(rest)


def test_who_ends_while_it_waits_may_come_again():
  port = free_port()
  with futures.ThreadPoolExecutor(3) as pool:
    first = pool.submit(links.gather, port, 3, 20)
    for _ in range(100):
      try:
        ended = socket.create_connection(("localhost", port))
        break
      except ConnectionRefusedError:
        time.sleep(0.05)
    with ended:
      ended.sendall(b"natjax 1 3")
      time.sleep(0.2)
    # Others begin only when it has come again.
    other = pool.submit(links.report, "localhost", port, 2, 3, 20)
    with pytest.raises(TimeoutError):
      other.result(0.5)
    again = pool.submit(links.report, "localhost", port, 1, 3, 20)
    assert [f.exception(30) for f in (first, other, again)] == [None] * 3


def test_a_host_that_has_no_name_is_not_waited_for(monkeypatch):
  monkeypatch.setattr(links, "_NAMING_SECONDS", 0.3)
  with pytest.raises(errors.InputError, match=r"no host is called 'none\."):
    links.report("none.invalid", 1234, 1, 2, 60)


def test_who_comes_when_the_others_have_begun_is_refused():
  with socket.create_server(("", 0)) as server:
    port = server.getsockname()[1]

    def other():
      link, _ = server.accept()
      link.recv(100)
      link.sendall(b"\0\0\x12\4\0")
      link.close()

    thread = threading.Thread(target=other)
    thread.start()
    with pytest.raises(errors.InputError, match="nobody waits for process 1"):
      links.report("localhost", port, 1, 2, 20)
    thread.join()


def test_a_stranger_does_not_count_and_nobody_waits_for_ever():
  port = free_port()
  with futures.ThreadPoolExecutor(1) as pool:
    first = pool.submit(links.gather, port, 2, 3)
    for said in (b"GET / HTTP/1.1\n", b"other 1 2", b"natjax 1 2"):
      for _ in range(100):
        try:
          link = socket.create_connection(("localhost", port))
          break
        except ConnectionRefusedError:
          time.sleep(0.05)
      link.sendall(said)
      if said.startswith(b"natjax"):
        assert link.recv(100) == b"go"
      link.close()
    assert first.exception(20) is None
  with pytest.raises(OSError):
    links.gather(port, 2, 0.05)
  with pytest.raises(OSError):
    links.report("localhost", port, 1, 2, 0.3)
