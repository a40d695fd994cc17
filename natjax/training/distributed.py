"""Several processes that train as one, joined by `jax.distributed`.

Every process runs the same program; `devices.spread` divides the batches among
the devices of all. Process 0 decides what depends on the clock, and alone reads
and writes files; what it read, the others are told through the store of keys
that jax's coordinator keeps.

A process that died is noticed in two ways: a collective operation of the others
breaks (`Processes.watching`; with gloo, not with NCCL), or they hear it through
`links`, whose thread then calls `on_lost`, which ends this process wherever it
hangs. jax has heartbeats of its own. When they are missed, or at once when
process 0 is gone, it aborts the process, and a callback for that moment cannot
be written in Python (jax 0.10 and 0.12). So an abort is made to sleep for a few
seconds first, in which the thread of `links` speaks, and the process exits in
order; see `_slow_aborts`.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import ctypes
import itertools
import json
import os
import secrets
import signal
import socket
import threading
import time
from typing import Any

import jax
from jax.experimental import multihost_utils
import numpy as np

from natjax import errors
from natjax.training import devices as devices_lib
from natjax.training import links

JOIN_SECONDS = 100  # For which a process waits for the others at the start.
_FOREVER = 30 * 24 * 3600 * 1000  # Milliseconds.

_LOST = "another process of this run is gone ({})"

_exchange = itertools.count()
_watch: links.Watch | None = None
_alone: list[bool] = []  # Not empty while `of_first` makes something.


def check(coordinator: str | None, num_processes: int | None,
          process_id: int | None) -> bool:
  """Whether these ask for several processes.

  Args:
    coordinator: "host:port" of process 0; "auto" lets jax find everything (on
      TPU, Slurm, Open MPI, Kubernetes); None is a process by itself.
    num_processes: in all.
    process_id: of this one, from 0.

  Raises:
    InputError: they do not fit together, or the port is taken.
  """
  if coordinator is None and num_processes is None and process_id is None:
    return False
  if coordinator == "auto":
    if num_processes is not None or process_id is not None:
      raise errors.InputError(
          "coordinator is auto, which finds the number of processes and the"
          " process id too; leave num-processes and process-id out")
    return True
  if coordinator is None or num_processes is None or process_id is None:
    raise errors.InputError(
        "several processes need all three of coordinator, num-processes and"
        " process-id; give all or none, or coordinator auto alone")
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit() or not 0 < int(port) < 2**16:
    raise errors.InputError(
        f"coordinator is '{coordinator}' and must be HOST:PORT of process 0,"
        " for example 192.168.0.1:1234", "coordinator")
  if num_processes < 1:
    raise errors.InputError(f"num-processes is {num_processes} and must be at"
                            " least 1; give 2 or more", "num_processes")
  if not 0 <= process_id < num_processes:
    raise errors.InputError(
        f"process-id is {process_id} and must lie in [0, {num_processes - 1}];"
        " number the processes from 0", "process_id")
  if process_id == 0:
    try:  # At a port that is taken jax would crash.
      socket.create_server(("", int(port))).close()
    except OSError as e:
      raise errors.InputError(
          f"port {port} cannot be opened here: {os.strerror(e.errno or 0)};"
          " give another one, the same to all processes", "coordinator") from e
  return num_processes > 1


def join(coordinator: str, num_processes: int | None, process_id: int | None, *,
         on_lost: Callable[[str], None]) -> None:
  """Joins the other processes; before anything else is done with jax.

  Args:
    coordinator: as `check` takes it, and so the other two.
    num_processes: in all.
    process_id: of this one.
    on_lost: called from another thread, with what was seen, when a process is
      gone or has not come within `JOIN_SECONDS`; it has to end this process.

  Raises:
    InputError: jax cannot find the others by itself, or they do not fit
      together.
    errors.PeerLost: they cannot be connected to.
  """
  _slow_aborts()
  jax.config.update("jax_cpu_collectives_implementation", "gloo")
  # It would catch SIGTERM, and nothing here asks it.
  jax.config.update("jax_enable_preemption_service", False)
  late = threading.Timer(JOIN_SECONDS, on_lost, args=(
      f"not all processes came to {coordinator} within {JOIN_SECONDS} s",))
  late.daemon = True
  late.start()
  try:
    if coordinator != "auto":  # jax aborts one that has another's number.
      _meet(coordinator, num_processes, process_id)
    # jax waits for longer than `late`, since it aborts when it has waited.
    jax.distributed.initialize(
        None if coordinator == "auto" else coordinator, num_processes,
        process_id, initialization_timeout=2 * JOIN_SECONDS)
    _link(on_lost)
  except errors.InputError:
    raise
  except ValueError as e:
    raise errors.InputError(
        f"coordinator is {coordinator}, and jax found no other processes here"
        f" ({e}); give HOST:PORT, num-processes and process-id",
        "coordinator") from e
  except OSError as e:
    raise errors.PeerLost(f"no connection to the other processes: {e}") from e
  finally:
    late.cancel()


def _meet(coordinator, count, number):
  """Waits for all processes, which have to have numbers of their own."""
  host, _, port = coordinator.rpartition(":")
  if number == 0:
    links.gather(int(port), count, 2 * JOIN_SECONDS)
  else:
    links.report(host.strip("[]"), int(port), number, count, 2 * JOIN_SECONDS)


def _link(on_lost):
  """Connects the processes, which jax has joined, by `links`."""
  global _watch
  state, key = _state(), "natjax/links"
  if state.process_id == 0:
    server, token = links.listen(), secrets.token_hex(8)
    state.client.key_value_set(key, f"{server.getsockname()[1]} {token}")
    found = links.accept(server, state.num_processes - 1, token, JOIN_SECONDS)
  else:
    port, token = state.client.blocking_key_value_get(
        key, 1000 * JOIN_SECONDS).split()
    host = state.coordinator_address.rpartition(":")[0].strip("[]")
    found = links.connect(
        host, int(port), token, state.process_id, JOIN_SECONDS)
  _watch = links.Watch(found, lambda heard: on_lost(_LOST.format(heard)))


def _slow_aborts():
  """Lets an abort sleep first, in its own thread.

  The handler is C's `sleep`. It gets the signal's number, 6, as the seconds. It
  needs neither Python's lock nor memory, so that no abort can hang in it.
  """
  if os.name == "posix":
    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def _state():
  # Not public, but what jax's own multihost_utils and orbax use.
  from jax._src import distributed

  return distributed.global_state


def _is_lost(error):
  """Whether an error of jax means that another process is gone."""
  return any(word in str(error) for word in (
      "Gloo", "gloo", "NCCL", "UNAVAILABLE", "coordination", "Coordination",
      "Connection reset", "Connection closed", "Socket closed"))


def leave() -> None:
  """Leaves when all processes have come to their end."""
  Processes(jax.devices()).gather(None)
  assert _watch is not None
  _watch.end()
  jax.distributed.shutdown()


def abandon() -> None:
  """To be called before this process ends on an error.

  If the others end on errors too, as they do when all refuse the same input,
  they meet here, so that each tells its own error and not another's end.
  """
  if _watch is None:
    return
  _watch.end()
  with contextlib.suppress(jax.errors.JaxRuntimeError):
    _state().client.wait_at_barrier("natjax/abandon", 5000)  # Milliseconds.
    if jax.process_index() == 0:  # jaxlib aborts those whose coordinator ends.
      time.sleep(1)


class Processes:
  """The processes whose devices a run is spread over; often this one alone.

  All methods but `first` have to be called by all of them, in the same order.

  Attributes:
    size: how many they are.
    first: whether this is process 0, which decides, reads and writes.
  """

  def __init__(self, devices: Sequence[jax.Device]):
    """Args:
      devices: those of this process alone, or those of all (InputError).
    """
    indices = {d.process_index for d in devices}
    self.size = len(indices)
    self.first = self.size == 1 or jax.process_index() == 0
    if self.size > 1 and len(devices) != jax.device_count():
      raise errors.InputError(
          f"{len(devices)} devices of {self.size} processes were given; give"
          f" all {jax.device_count()} of all processes, or some of this one's")

  def gather(self, value: Any) -> list[Any]:
    """The JSON values of all processes, in their order.

    Raises:
      errors.PeerLost: a process is gone.
    """
    if self.size == 1:
      return [value]
    n, client = next(_exchange), _state().client
    with self.watching():
      client.key_value_set(f"natjax/{n}/{jax.process_index():08}",
                           json.dumps(value))
      client.wait_at_barrier(f"natjax/{n}", _FOREVER)
      found = client.key_value_dir_get(f"natjax/{n}/")
      if self.first and n:  # Who is here has read the values before.
        client.key_value_delete(f"natjax/{n - 1}/")
    return [json.loads(text) for _, text in sorted(found)]

  def of_first(self, make: Callable[[], Any]) -> Any:
    """What `make` returns in the first process, for all.

    Args:
      make: called by the first process alone; returns JSON values. If it
        raises InputError, NotMet or Interrupted, all processes do. What it asks
        of the first process in turn it does at once, as the others do not wait
        there.
    """
    if self.size == 1 or _alone:
      return make()
    told: list[Any] = [None]
    if self.first:
      _alone.append(True)
      try:
        told = [make()]
      except (errors.NotMet, errors.Interrupted) as e:
        told = [None, type(e).__name__, str(e)]
      except errors.InputError as e:
        told = [None, "InputError", str(e), e.field]
      finally:
        _alone.pop()
    value, *refusal = self.gather(told)[0]
    if refusal:
      raise getattr(errors, refusal[0])(*refusal[1:])
    return value

  def broadcast(self, tree: Any) -> Any:
    """The first process's arrays, bit by bit, as host arrays or typed keys.

    Args:
      tree: arrays, or typed keys; in all processes of the same shapes.
    """
    if self.size == 1:
      return tree
    leaves, structure = jax.tree.flatten(tree)
    plain = devices_lib.plain(leaves)
    # As integers: a sum of floats, which it is, would lose the sign of -0.
    packed = b"".join(x.tobytes() for x in plain)
    words = np.frombuffer(packed + b"\0" * (-len(packed) % 4), np.uint32)
    with self.watching():
      packed = np.asarray(multihost_utils.broadcast_one_to_all(words)).tobytes()
    ends = itertools.accumulate(x.nbytes for x in plain)
    result = [np.frombuffer(packed[end - x.nbytes:end], x.dtype).reshape(
        x.shape) for x, end in zip(plain, ends, strict=True)]
    return jax.tree.unflatten(structure, devices_lib.typed(result, leaves))

  @contextlib.contextmanager
  def watching(self) -> Iterator[None]:
    """Turns an error of jax that tells of a lost process into `PeerLost`."""
    try:
      yield
    except jax.errors.JaxRuntimeError as e:
      if self.size > 1 and _is_lost(e):
        raise errors.PeerLost(_LOST.format("the connection to it broke")) from e
      raise
