"""The engine: runs any method, in compiled chunks of steps.

A phase's steps run as one compiled `while_loop` over (start, stop), so that one
program serves chunks of every length; a chunk takes about ten seconds. Between
chunks the engine reports progress, writes checkpoints and looks for a step
whose metrics are not finite, at which the loop has stopped. Data stays on the
device when it fits and is streamed chunk by chunk when it does not; images are
augmented on the device.

A run is a function of its settings and its seed. How it was cut into chunks,
interrupted and resumed leaves no trace but in timings: metrics are summed in
the loop's carry, and every random draw is a function of seed, phase, epoch and
step.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import os
import time
from typing import Any
from typing import NamedTuple
import zlib

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.methods import base
from natjax.training import checkpoints as checkpoints_lib
from natjax.training import devices as devices_lib
from natjax.training import metrics as metrics_lib

Position = checkpoints_lib.Position


class Interrupted(Exception):
  """The run was asked to stop; its checkpoint is written."""


class NotFinite(Exception):
  """A step's metrics were not finite; the last good checkpoint is kept."""


class Split(NamedTuple):
  """Images u8[N, H, W, 3] and labels i32[N], on the host."""

  images: np.ndarray
  labels: np.ndarray


class Preparation(NamedTuple):
  """How images are brought to what a network sees.

  Attributes:
    mean: per channel, of pixels in [0, 1].
    std: likewise.
    augmentation: applied where a phase asks for it.
    dtype: of the images.
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  augmentation: data_lib.Augmentation
  dtype: Any = jnp.float32

  def __call__(
      self, rng: jax.Array, images: jax.Array, *, train: bool
  ) -> jax.Array:
    """u8[B, H, W, 3] -> [B, H, W, 3], normalised, augmented if `train`."""
    return data_lib.prepare(
        rng, images, self.mean, self.std, self.augmentation, train=train,
        dtype=self.dtype)


class Progress(NamedTuple):
  """Where the run stands, and the phase's mean metrics ({} before any)."""

  run: str
  stage: str
  phase: str
  epoch: int
  epochs: int
  step: int
  steps: int
  done: float  # Share of the whole run, by steps, in [0, 1].
  metrics: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Options:
  """How `fit` runs, apart from what it runs.

  Attributes:
    seed: of everything random.
    devices: to spread over; None is all local ones.
    checkpoint_dir: None writes no checkpoints.
    metrics_path: of `metrics.jsonl`; None writes none.
    run: name of the run in rows and progress.
    on_progress: called before a phase's first chunk and after every chunk.
    on_row: called with every row of metrics.
    should_stop: asked after every chunk; if true the run saves and raises
      `Interrupted`.
    chunk_seconds: how long a chunk takes, about.
    checkpoint_seconds: least time between checkpoints.
    resident_bytes: splits that are larger are streamed to the device.
  """

  seed: int = 0
  devices: Sequence[jax.Device] | None = None
  checkpoint_dir: str | os.PathLike[str] | None = None
  metrics_path: str | os.PathLike[str] | None = None
  run: str = "run"
  on_progress: Callable[[Progress], None] = lambda progress: None
  on_row: Callable[[metrics_lib.Row], None] | None = None
  should_stop: Callable[[], bool] = lambda: False
  chunk_seconds: float = 10.0
  checkpoint_seconds: float = 60.0
  resident_bytes: int = 2**32


def _number(seed, *names):
  """Entropy of a host generator for (seed, names)."""
  return [seed, *(zlib.crc32(str(name).encode()) for name in names)]


def epoch_order(
    size: int, batch_size: int, num_devices: int, entropy: Sequence[int]
) -> np.ndarray:
  """i32[D, steps, B / D]: the images of every step, a random permutation.

  The last images, which do not fill a batch, are left out.
  """
  steps = size // batch_size
  order = np.random.default_rng(entropy).permutation(size)
  order = order[:steps * batch_size].astype(np.int32)
  order = order.reshape(steps, num_devices, batch_size // num_devices)
  return np.ascontiguousarray(order.transpose(1, 0, 2))


class _Carry(NamedTuple):
  state: Any
  sums: jax.Array  # f32[metrics], over the phase so far.
  step: jax.Array  # i32[]
  good: jax.Array  # bool[]


@functools.lru_cache(maxsize=8)  # Seeds of one network share a program.
def make_chunk(
    phase: base.Phase,
    preparation: Preparation,
    devices: tuple[jax.Device, ...],
) -> Callable[..., _Carry]:
  """Compiles a phase: `(state, sums, images, labels, order, span, rng)`.

  `order` is i32[D, steps, B / D] into images; `span` i32[3] is (start, stop,
  offset), the row of `order` at a step being step - offset.
  """

  def run(state, sums, images, labels, order, span, rng):
    def body(carry):
      key = base.device_key(jax.random.fold_in(rng, carry.step))
      index = order[carry.step - span[2]]
      batch = {
          "image": preparation(key, images[index], train=phase.augment),
          "label": labels[index],
      }
      state, metrics = phase.update(carry.state, batch)
      values = jnp.stack([metrics[name].astype(jnp.float32)
                          for name in phase.metrics])
      good = jnp.all(jnp.isfinite(values))
      return _Carry(state, carry.sums + values, carry.step + 1, good)

    start = _Carry(state, sums, span[0], jnp.array(True))
    return lax.while_loop(
        lambda c: (c.step < span[1]) & c.good, body, start)

  return devices_lib.spread(
      run, devices, donate=(0, 1),
      sharded=(False, False, False, False, True, False, False))


class _Data:
  """One split on the devices, whole or streamed."""

  def __init__(self, split, batch_size, devices, resident_bytes):
    self._split, self._devices = split, devices
    self.batch_size = batch_size
    self.steps = len(split.labels) // batch_size
    self.resident = None
    self.most = self.steps
    if split.images.nbytes <= resident_bytes:
      self.resident = devices_lib.replicate(
          (split.images, split.labels.astype(np.int32)), devices)
    else:
      per_step = split.images[0].nbytes * batch_size
      self.most = int(np.clip(resident_bytes // per_step, 1, self.steps))

  def chunk(self, order, start, stop):
    """(images, labels, order, offset) for the steps from start to stop."""
    if self.resident is not None:
      return (*self.resident, order, 0)
    rows = order[:, start:stop]
    images = self._split.images[rows.reshape(-1)]
    labels = self._split.labels[rows.reshape(-1)].astype(np.int32)
    # Shapes stay the same in every chunk, so that nothing compiles anew.
    spare = (self.most - (stop - start)) * self.batch_size
    images = np.concatenate([images, np.zeros((spare, *images.shape[1:]),
                                              images.dtype)])
    labels = np.concatenate([labels, np.zeros(spare, np.int32)])
    full = np.zeros((order.shape[0], self.most, order.shape[2]), np.int32)
    full[:, :stop - start] = np.arange(rows.size, dtype=np.int32).reshape(
        rows.shape)
    images, labels = devices_lib.replicate((images, labels), self._devices)
    return images, labels, full, start


def check_splits(
    splits: Mapping[str, Split], batch_size: int
) -> None:
  """Refuses a split that is smaller than a batch (InputError)."""
  for name, split in splits.items():
    if len(split.labels) < batch_size:
      raise errors.InputError(
          f"the {name} split has {len(split.labels)} images, fewer than a batch"
          f" of {batch_size}; give a smaller --batch-size or more images")


def fit(
    method: base.Method,
    splits: Mapping[str, Split],
    *,
    batch_size: int,
    preparation: Preparation,
    options: Options,
) -> base.State:
  """Runs all stages of a method, or what a checkpoint left of them.

  Args:
    method: what to run.
    splits: by the names that the method's phases use.
    batch_size: over all devices.
    preparation: from stored images to what the network sees.
    options: seed, devices, files.

  Returns:
    The final state.

  Raises:
    InputError: a batch that the devices do not divide or a split that is
      smaller, a damaged or foreign checkpoint.
    Interrupted: asked to stop; the checkpoint is written.
    NotFinite: a metric was not finite; names the step and what it ran.
  """
  devices = tuple(options.devices or devices_lib.choose())
  devices_lib.check_batch(batch_size, len(devices))
  check_splits(splits, batch_size)
  return _Fit(method, splits, batch_size, preparation, options, devices).run()


class _Fit:
  """The state of one call of `fit`."""

  def __init__(self, method, splits, batch_size, preparation, options,
               devices):
    self._method, self._options, self._devices = method, options, devices
    self._preparation = preparation
    self._data = {
        name: _Data(split, batch_size, devices, options.resident_bytes)
        for name, split in splits.items()
    }
    self._chunks: dict[tuple[int, int], Callable[..., _Carry]] = {}
    self._seconds_per_step: dict[tuple[int, int], float] = {}
    self._rows = metrics_lib.MetricsFile(
        options.metrics_path, options.run, options.on_row)
    self._checkpoints = None
    if options.checkpoint_dir is not None:
      self._checkpoints = checkpoints_lib.Checkpoints(options.checkpoint_dir)
    self._started = self._saved = time.monotonic()
    self._seconds = 0.0

  def run(self):
    try:
      return self._run()
    finally:
      if self._checkpoints is not None:
        self._checkpoints.close()

  def _run(self):
    state = self._method.init(jax.random.key(self._options.seed))
    saved, position = self._restore(state)
    self._seconds = position.seconds
    self._rows.cut_back(position.rows)
    if position.done:
      return saved["state"]
    saved = devices_lib.replicate(saved, self._devices)
    state, sums = saved["state"], saved["sums"]
    for s in range(position.stage, len(self._method.stages)):
      stage = self._method.stages[s]
      for epoch in range(position.epoch, stage.epochs):
        for p in range(position.phase, len(stage.phases)):
          state, sums = self._phase(
              state, sums, position._replace(stage=s, epoch=epoch, phase=p))
          position = Position(stage=s, epoch=epoch, phase=p + 1)
        position = Position(stage=s, epoch=epoch + 1)
      position = Position(stage=s + 1)
    self._save(state, sums, position._replace(done=True))
    return state

  def _restore(self, state):
    """What the newest checkpoint holds, else the start."""
    start = self._payload(state, jnp.zeros(0))
    found = None
    if self._checkpoints is not None:
      found = self._checkpoints.restore(start)
    return found or (start, Position())

  def _payload(self, state, sums):
    """What a checkpoint holds; the sums' vector fits any phase's metrics."""
    width = max(len(p.metrics) for s in self._method.stages for p in s.phases)
    return {"state": state,
            "sums": jnp.zeros(width).at[:sums.shape[0]].set(sums)}

  def _phase(self, state, sums, position):
    """Runs what is left of one phase of one epoch."""
    options = self._options
    key = (position.stage, position.phase)
    stage = self._method.stages[position.stage]
    phase = stage.phases[position.phase]
    data = self._data[phase.split]
    entropy = _number(options.seed, options.run, stage.name, phase.name,
                      position.epoch)
    order = epoch_order(len(data._split.labels), data.batch_size,
                        len(self._devices), entropy)
    rng = jax.random.key(int(np.random.default_rng(entropy).integers(2**31)))
    step = position.step
    # On all devices from the start: another placement compiles anew.
    sums = devices_lib.replicate(
        np.zeros(len(phase.metrics), np.float32) if step == 0
        else sums[:len(phase.metrics)], self._devices)
    if key not in self._chunks:
      self._chunks[key] = make_chunk(phase, self._preparation, self._devices)
      # The first chunk may compile for a minute; say what is under way.
      self._report(stage, phase, position, data.steps, sums)
    while step < data.steps:
      stop = min(step + self._length(key, data), data.steps)
      images, labels, rows, offset = data.chunk(order, step, stop)
      began = time.monotonic()
      carry = self._chunks[key](
          state, sums, images, labels, rows,
          np.array([step, stop, offset], np.int32), rng)
      state, sums = carry.state, carry.sums
      reached = int(carry.step)  # Waits for the chunk.
      if not bool(carry.good):
        raise NotFinite(
            f"{options.run}, {stage.name}, epoch {position.epoch}, phase"
            f" {phase.name}, step {reached - 1}: a metric is not finite"
            f" ({self._means(phase, sums, reached)}); it ran"
            f" {self._method.explain(state)}; try a smaller --learning-rate")
      self._time(key, (time.monotonic() - began) / (reached - step))
      step = reached
      position = position._replace(step=step)
      self._report(stage, phase, position, data.steps, sums)
      if step < data.steps:
        self._maybe_save(state, sums, position)
    self._finish(stage, phase, position, state, sums, data.steps)
    following = position._replace(phase=position.phase + 1, step=0)
    self._maybe_save(state, sums, following)
    return state, sums

  def _length(self, key, data):
    """Steps of the next chunk: few at first, then by the clock."""
    per_step = self._seconds_per_step.get(key)
    length = 1 if per_step is None else int(
        self._options.chunk_seconds / max(per_step, 1e-6))
    return int(np.clip(length, 1, data.most))

  def _time(self, key, seconds):
    # The first chunk compiles; it only says that there was one.
    self._seconds_per_step[key] = (
        seconds if key in self._seconds_per_step else
        self._options.chunk_seconds / 4)

  def _means(self, phase, sums, steps):
    values = np.asarray(sums)[:len(phase.metrics)] / max(steps, 1)
    return {name: float(v) for name, v in zip(phase.metrics, values,
                                              strict=True)}

  def _finish(self, stage, phase, position, state, sums, steps):
    observed = phase.observe(state, position.epoch) if phase.observe else {}
    self._rows.append({
        "stage": stage.name, "phase": phase.name, "epoch": position.epoch,
        **self._means(phase, sums, steps), **observed,
        "seconds": round(self._elapsed(), 3)})

  def _elapsed(self):
    return self._seconds + time.monotonic() - self._started

  def _report(self, stage, phase, position, steps, sums):
    means = self._means(phase, sums, position.step) if position.step else {}
    self._options.on_progress(Progress(
        self._options.run, stage.name, phase.name, position.epoch,
        stage.epochs, position.step, steps, self._share(position), means))

  def _share(self, position):
    """Share of the run's steps that are done."""
    total = done = 0
    for s, stage in enumerate(self._method.stages):
      for p, phase in enumerate(stage.phases):
        steps = self._data[phase.split].steps
        total += steps * stage.epochs
        if s < position.stage:
          done += steps * stage.epochs
        elif s == position.stage:
          done += steps * position.epoch
          if p < position.phase:
            done += steps
          elif p == position.phase:
            done += position.step
    return done / max(total, 1)

  def _maybe_save(self, state, sums, position):
    stop = self._options.should_stop()
    due = time.monotonic() - self._saved >= self._options.checkpoint_seconds
    if stop or due:
      self._save(state, sums, position)
    if stop:
      raise Interrupted(self._options.run)

  def _save(self, state, sums, position):
    if self._checkpoints is None:
      return
    self._checkpoints.save(
        self._payload(state, sums),
        position._replace(rows=self._rows.count, seconds=self._elapsed()))
    self._saved = time.monotonic()


def evaluate(
    predict: Callable[..., jax.Array],
    state: base.State,
    split: Split,
    *,
    preparation: Preparation,
    batch_size: int,
    whole: bool = False,
) -> float:
  """Computes the accuracy on a split, not augmented, on one device.

  Args:
    predict: `(state, batch) -> f32[B]`, 1 where right.
    state: its first argument.
    split: the images.
    preparation: from stored images to what the network sees.
    batch_size: images at a time.
    whole: leave out the images that do not fill a batch (where predictions
      depend on the batch); else the last batch is padded.

  Returns:
    The share that is right, in [0, 1].
  """
  size = len(split.labels)
  batch_size = min(batch_size, size)
  steps = size // batch_size if whole else -(-size // batch_size)
  used = min(steps * batch_size, size)
  spare = steps * batch_size - used
  images = np.concatenate([split.images[:used], split.images[:spare]])
  labels = np.concatenate([split.labels[:used], np.full(spare, -1)])
  shape = (steps, batch_size)
  right = _count_right(predict, preparation)(
      state, images.reshape(*shape, *images.shape[1:]),
      labels.reshape(shape).astype(np.int32))
  return float(right) / used


@functools.lru_cache(maxsize=8)
def _count_right(predict, preparation):
  def count(state, images, labels):
    def one(total, batch):
      image, label = batch
      image = preparation(jax.random.key(0), image, train=False)
      right = predict(state, {"image": image, "label": label})
      return total + jnp.sum(jnp.where(label >= 0, right, 0.0)), None

    return lax.scan(one, jnp.zeros(()), (images, labels))[0]

  return jax.jit(count)
