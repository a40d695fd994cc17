"""How long inference takes on the device at hand.

Whole networks are compiled, and timed as they are used: a batch, normalised by
running statistics, the weights arguments of the program. Two networks are timed
in turns, so that what else the machine does meets both alike; said of each are
the median and the quartiles. Operations are timed by themselves at their
shapes, all of one shape in turns with a program that does nothing, whose time
is taken off: that of the call. Everything is timed once, is kept in a file of
the run, and is read from there by a run that is resumed.

Weights and images are drawn: no value of theirs changes what is computed. While
something is timed nothing else is computed by this process; of several
processes the first times.
"""

from collections.abc import Callable, Sequence
import functools
import hashlib
import json
import math
import pathlib
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.graph import codec, records
from natjax.networks import layers as layers_lib
from natjax.networks import network as network_lib
from natjax.operations import edge_modules
from natjax.operations import edges as edges_lib
from natjax.training import distributed, metrics

FILE = "latency.json"
_SECONDS = {"network": 1.5, "operation": 0.2}  # Of all turns together.
_TURNS = 25, 201  # At least and at most.
_SAMPLE = 2e-4  # Seconds; shorter calls are made several times in a row.


class Times(NamedTuple):
  """What was timed of one program, in seconds.

  Attributes:
    median: over the turns.
    quartiles: the first and the third.
    interval: of the median, 95 %, by the ranks of what was seen.
    runs: how many turns.
  """

  median: float
  quartiles: tuple[float, float]
  interval: tuple[float, float]
  runs: int

  @property
  def error(self) -> float:
    """Half of the median's interval."""
    return (self.interval[1] - self.interval[0]) / 2


class Pair(NamedTuple):
  """Two networks that were timed in turns.

  Attributes:
    original: the given one.
    changed: the other one.
  """

  original: Times
  changed: Times

  @property
  def noise(self) -> float:
    """By how many seconds their medians may differ by chance.

    Half a 95 % interval of the difference, from those of the two medians as if
    each network had been timed by itself; in turns they vary alike, and it is
    the wider one. A difference up to that is "within noise".

    Example:
      >>> one = Times(5.0, (4.0, 6.0), (4.7, 5.3), 25)
      >>> two = Times(4.8, (4.0, 6.0), (4.4, 5.2), 25)
      >>> round(Pair(one, two).noise, 6)
      0.5
    """
    return math.hypot(self.original.error, self.changed.error)


def times(seen: Sequence[float]) -> Times:
  """Sums up what was timed.

  Example:
    >>> found = times([1.0, 2.0, 3.0, 4.0, 50.0])
    >>> found.median, found.quartiles, found.runs
    (3.0, (1.5, 27.0), 5)
  """
  ordered, count = sorted(seen), len(seen)
  first, median, third = statistics.quantiles(ordered, n=4)
  # Of a binomial distribution, by the normal one.
  reach = 0.98 * math.sqrt(count)
  ends = (max(math.floor(count / 2 - reach), 0),
          min(math.ceil(count / 2 + reach), count - 1))
  return Times(median, (first, third), (ordered[ends[0]], ordered[ends[1]]),
               count)


def in_turns(programs: Sequence[Callable[[], Any]],
             seconds: float) -> list[list[float]]:
  """Times compiled programs in turns, forwards and backwards.

  Args:
    programs: each returns arrays, which are waited for.
    seconds: of all turns together, about.

  Returns:
    Of every program its seconds per call, one for each turn.
  """
  def call(program, repeat):
    began = time.perf_counter()
    for _ in range(repeat):
      jax.block_until_ready(program())
    return (time.perf_counter() - began) / repeat

  for array in jax.live_arrays():  # Whatever is still being computed.
    array.block_until_ready()
  warm = [min(call(program, 1) for _ in range(4)) for program in programs]
  repeats = [max(1, math.ceil(_SAMPLE / max(once, 1e-7))) for once in warm]
  turn = sum(r * once for r, once in zip(repeats, warm, strict=True))
  least, most = _TURNS
  found: list[list[float]] = [[] for _ in programs]
  for n in range(min(most, max(least, int(seconds / max(turn, 1e-9))))):
    order = range(len(programs))
    for i in reversed(order) if n % 2 else order:
      found[i].append(call(programs[i], repeats[i]))
  return found


class Latency:
  """Times of networks and operations, each measured once; see the module.

  Attributes:
    place: where the networks stand.
    batch: images at once.
    dtype: of the computation.
    device: on which.
  """

  def __init__(self, original: codec.Architecture, place: records.Place,
               batch: int, dtype: str):
    """Args:
      original: what other networks are timed beside.
      place: where it stands.
      batch: images at once.
      dtype: of the computation.
    """
    self.place, self.batch, self.dtype = place, batch, dtype
    self.device = jax.local_devices()[0]
    self._original = original
    self._known: dict[str, Any] = {}
    self._path: pathlib.Path | None = None
    self._processes = distributed.Processes([self.device])

  def open(self, path: pathlib.Path,
           processes: distributed.Processes) -> None:
    """Takes over what a run has measured before, and keeps the rest there.

    Args:
      path: of the run's file.
      processes: that run the job.

    Raises:
      InputError: the file is damaged.
    """
    self._path, self._processes = path, processes

    def read():
      if not path.exists():
        return {}
      try:
        known = dict(json.loads(path.read_text(encoding="utf-8")))
        for name, value in known.items():
          _ = [_times(t) for t in value] if name.startswith("network ") else (
              float(value))
        return known
      except (OSError, TypeError, ValueError) as e:
        raise errors.InputError(
            f"{path} is damaged ({errors.cause(e)}); restore it or overwrite"
            " the run", "overwrite") from e

    self._known = processes.of_first(read)

  def pair(self, architecture: codec.Architecture) -> Pair:
    """A network and the original, timed in turns."""
    key = _key(architecture)
    found = self._measured([key], lambda: [[
        times(seen) for seen in in_turns(
            [self._network(a) for a in (self._original, architecture)],
            _SECONDS["network"])]])
    return Pair(*map(_times, found[key]))

  def alone(self) -> Times:
    """The original's times now, without anything beside it; not kept."""
    seen, = in_turns([self._network(self._original)], _SECONDS["network"])
    return times(seen)

  def refresh(self) -> None:
    """Reads what the first process has measured; all of them call it."""
    if self._path is not None:
      self.open(self._path, self._processes)

  def operations(self, network: records.BlockNetwork, ends: edges_lib.Ends,
                 names: Sequence[str]) -> dict[str, float]:
    """Seconds of operations at one shape, by themselves.

    Args:
      network: in which they stand.
      ends: the shapes that they join.
      names: of the operations; those that compute nothing take none.
    """
    at = f"{ends.in_channels}-{ends.channels}/{ends.stride}@{ends.size}"
    keys = {name: f"{name} {at}" for name in names if not _free(name, ends)}

    def measure():
      own = [name for name in keys if keys[name] not in self._known]
      first, *seen = in_turns(
          [self._edge(network, ends, name) for name in (None, *own)],
          _SECONDS["operation"] * (1 + len(own)))
      idle = statistics.median(first)
      return [max(statistics.median(s) - idle, 0.0) for s in seen]

    found = self._measured([*keys.values()], measure)
    return {name: found[keys[name]] if name in keys else 0.0 for name in names}

  def _measured(self, keys, measure):
    """What is known by its key; what is not is measured by the first."""
    missing = [key for key in keys if key not in self._known]
    if missing:
      # As it is read from the file, so that a resumed run has the same bits.
      self._known |= self._processes.of_first(lambda: json.loads(json.dumps(
          dict(zip(missing, measure(), strict=True)))))
      if self._path is not None and self._processes.first:
        metrics.write_text(self._path, json.dumps(self._known, indent=1) + "\n")
    return self._known

  def _network(self, architecture):
    """A compiled network, which is called without arguments."""
    module = network_lib.module(architecture, self.place)
    size = self.place.image_size
    images = jax.ShapeDtypeStruct(
        (self.batch, size, size, 3), jnp.dtype(self.dtype))
    shapes = jax.eval_shape(
        functools.partial(network_lib.init, module), jax.random.key(0))
    return self._compiled(
        lambda variables, x: module.apply(variables, x)[0], shapes, images)

  def _edge(self, network, ends, name):
    """A compiled operation; without a name, a program that does nothing."""
    images = jax.ShapeDtypeStruct(
        (self.batch, ends.size, ends.size, ends.in_channels),
        jnp.dtype(self.dtype))
    if name is None:
      return self._compiled(lambda _, x: x[:1, :1, :1], {}, images)
    norm = layers_lib.Bias if network.norm == "bias" else functools.partial(
        layers_lib.RunningBatchNorm, False, None, network.norm_epsilon)
    module: Any = edge_modules.module(operations.get(name), ends, norm=norm,
                                      preactivate=network.preactivate)
    if not hasattr(module, "apply"):
      return self._compiled(lambda _, x: module(x), {}, images)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    return self._compiled(module.apply, shapes, images)

  def _compiled(self, function, shapes, images):
    """A program of drawn variables and images."""
    rng = np.random.default_rng(0)

    def draw(path, leaf):
      if len(leaf.shape) > 1:  # As large as makes signals stay as they are.
        scale = math.sqrt(2 / max(math.prod(leaf.shape[:-1]), 1))
        return scale * rng.normal(size=leaf.shape).astype(leaf.dtype)
      one = path[-1].key in ("scale", "var")
      return np.full(leaf.shape, one, leaf.dtype)

    arguments = jax.device_put(
        (jax.tree_util.tree_map_with_path(draw, shapes),
         jnp.asarray(rng.normal(size=images.shape), images.dtype)),
        self.device)
    program = jax.jit(function).lower(*arguments).compile()
    return functools.partial(program, *arguments)

  def describe(self, pair: Pair) -> dict[str, Any]:
    """What a result says of two networks, JSON values, in seconds."""
    return {"batch": self.batch, "dtype": self.dtype,
            "device": self.device.device_kind,
            **{name: of._asdict() for name, of in pair._asdict().items()}}


def _key(architecture):
  """What a network's times are known by."""
  text = json.dumps(codec.to_dict(architecture), sort_keys=True)
  return f"network {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _times(values: Sequence[Any]) -> Times:
  """`Times` of JSON values."""
  median, quartiles, interval, runs = values
  return Times(median, tuple(quartiles), tuple(interval), runs)


def _free(name, ends):
  """Whether an operation computes nothing: no edge, or a copy."""
  operation = operations.get(name)
  return name == operations.NULL or (operation.identity and ends.alike)
