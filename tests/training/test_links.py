"""Processes hear of each other's end."""

import queue
import socket
import threading

import pytest

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
