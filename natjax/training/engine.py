"""The loop of training: chunks of steps, rows of metrics, checkpoints.

It drives one program, which holds one run (`fit.fit`) or several that differ in
their seeds (`seeds.fit_seeds`); how these lie on devices is their `Layout`.
"""

from collections.abc import Callable, Mapping, Sequence
import itertools
import time
from typing import Any
from typing import NamedTuple
from typing import Protocol

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.training import batches
from natjax.training import checkpoints as checkpoints_lib
from natjax.training import distributed
from natjax.training import method as base
from natjax.training import metrics as metrics_lib
from natjax.training import options as options_lib

Position = checkpoints_lib.Position


class Carry(NamedTuple):
  """What a chunk of steps hands on.

  Attributes:
    state: the method's.
    sums: f32[metrics], over the phase so far.
    step: i32[], the next one.
    good: bool[], whether all metrics of the last step were finite.
  """

  state: Any
  sums: jax.Array
  step: jax.Array
  good: jax.Array


def make_step(
    phase: base.Phase, preparation: options_lib.Preparing
) -> Callable[..., tuple[Any, jax.Array, jax.Array]]:
  """One step of one run, against the axis name.

  Returns:
    `(state, sums, splits, rows, rng, step) -> (state, sums, good)`; per split
    its images and labels, and i32[B] into them.
  """

  def take(state, sums, splits, rows, rng, step):
    key = base.device_key(jax.random.fold_in(rng, step))
    drawn = []
    for i, (split, row) in enumerate(zip(splits, rows, strict=True)):
      image = preparation(key if i == 0 else jax.random.fold_in(key, i),
                          split.images[row], train=phase.augment)
      drawn.append({"image": image, "label": split.labels[row]})
    state, metrics = phase.update(state, *drawn)
    values = jnp.stack([metrics[name].astype(jnp.float32)
                        for name in phase.metrics])
    return state, sums + values, jnp.all(jnp.isfinite(values))

  return take


def walk(
    take: Callable[..., tuple[Any, jax.Array, jax.Array]], state: Any,
    sums: jax.Array, splits: Sequence[options_lib.Split],
    orders: Sequence[jax.Array], span: jax.Array, rng: jax.Array,
    good: jax.Array,
) -> Carry:
  """Takes steps from span[0] to span[1], or until one is not good.

  Args:
    take: what `make_step` makes, or that for several runs.
    state: of the method.
    sums: of its metrics.
    splits: images and labels of each.
    orders: of each, i32[..., steps, B] into them.
    span: i32[2 + splits]: start, stop, and of each split an offset, the column
      of its order at a step being step - offset.
    rng: of the phase.
    good: true, in the shape that `take` returns.
  """

  def body(carry):
    rows = [order[..., carry.step - span[2 + i], :]
            for i, order in enumerate(orders)]
    state, sums, good = take(
        carry.state, carry.sums, splits, rows, rng, carry.step)
    return Carry(state, sums, carry.step + 1, good)

  return lax.while_loop(
      lambda c: (c.step < span[1]) & jnp.all(c.good), body,
      Carry(state, sums, span[0], good))


class Layout(Protocol):
  """How R runs of one program lie on devices.

  Attributes:
    seeds: of the R runs.
    runs: their names.
    processes: of the devices.
  """

  seeds: tuple[int, ...]
  runs: tuple[str, ...]
  processes: distributed.Processes

  def init(self, method: base.Method) -> base.State:
    """The state of all runs before their first step."""

  def place(self, tree: Any) -> Any:
    """Puts the state or the sums where a chunk takes them."""

  def share(self, tree: Any) -> Any:
    """Puts a copy of every array on every device."""

  def zeros(self, count: int) -> np.ndarray:
    """Sums of `count` metrics before the first step; on the host."""

  def order(
      self, size: int, batch_size: int, entropies: Sequence[Sequence[int]]
  ) -> np.ndarray:
    """i32[*, steps, *]: the images of every step of all runs."""

  def rng(self, keys: Sequence[int]) -> jax.Array:
    """Typed keys of the runs' phases, as a chunk takes them."""

  def chunk(
      self, phase: base.Phase, preparation: options_lib.Preparing
  ) -> Callable[..., Carry]:
    """`(state, sums, splits, orders, span, rng) -> carry`, compiled `walk`."""

  def local(self, state: base.State) -> base.State:
    """The state of all runs, in arrays that are this process's alone."""

  def one(self, state: base.State, run: int) -> base.State:
    """The state of one run, likewise."""


class Engine:
  """One call of `fit` or `fit_seeds`."""

  def __init__(
      self, method: base.Method, splits: Mapping[str, options_lib.Split], *,
      batch_size: int, preparation: options_lib.Preparing,
      options: options_lib.Options, layout: Layout,
  ):
    """Args:
      method: what to run.
      splits: by the names that the method's phases use.
      batch_size: of a run, over all its devices.
      preparation: from stored images to what the network sees.
      options: files and listeners; the runs' seeds and names are the layout's.
      layout: how the runs lie on the devices.

    Raises:
      InputError: a stage has an end and is not the last of its method.
    """
    for stage in method.stages[:-1]:
      if stage.end is not None:
        raise errors.InputError(
            f"stage '{stage.name}' has an end and is not the last of its"
            " method; leave its end out, or the stages behind it")
    self._method, self._options, self._layout = method, options, layout
    self._processes = layout.processes
    self._batch_size, self._preparation = batch_size, preparation
    self._data = {name: batches.Data(
        split, batch_size, share=layout.share, runs=len(layout.runs),
        resident_bytes=options.resident_bytes)
                  for name, split in splits.items()}
    self._chunks: dict[tuple[int, int], Callable[..., Carry]] = {}
    self._seconds_per_step: dict[tuple[int, int], float] = {}
    path = options.metrics_path if self._processes.first else None
    self._rows = [metrics_lib.MetricsFile(path, run, options.on_row)
                  for run in layout.runs]
    self._checkpoints = None
    if options.checkpoint_dir is not None and self._processes.first:
      self._checkpoints = checkpoints_lib.Checkpoints(
          options.checkpoint_dir, alone=self._processes.size > 1)
    self._started = self._saved = time.monotonic()
    self._seconds = 0.0

  def run(self) -> base.State:
    """Runs what is left of all stages; returns the final state."""
    try:
      return self._run()
    finally:
      if self._checkpoints is not None:
        self._checkpoints.close()

  def _run(self):
    state = self._layout.init(self._method)
    saved, position = self._restore(state)
    self._seconds = position.seconds
    for rows in self._rows:
      rows.cut_back(position.rows)
    if position.done:
      return saved["state"]
    state, sums = self._layout.place(saved["state"]), saved["sums"]
    for s, stage in enumerate(self._method.stages):
      for epoch, p in itertools.product(
          range(stage.epochs), range(len(stage.phases))):
        if (s, epoch, p) >= position[:3]:
          step = position.step if (s, epoch, p) == position[:3] else 0
          state, sums = self._phase(state, sums, Position(s, epoch, p, step))
    self._save(state, sums, Position(len(self._method.stages), done=True))
    return state

  def _restore(self, state):
    """What the newest checkpoint holds, else the start."""
    found = [self._payload(state, self._layout.zeros(0))]

    def read():
      restored = self._checkpoints and self._checkpoints.restore(found[0])
      if restored:
        found[0] = restored[0]
        return restored[1]._asdict()
      return None

    position = self._processes.of_first(read)
    if position is None:
      return found[0], Position()
    return self._processes.broadcast(found[0]), Position(**position)

  def _payload(self, state, sums):
    """What a checkpoint holds; the sums' vector fits any phase's metrics."""
    width = max(len(p.metrics) for s in self._method.stages for p in s.phases)
    whole = self._layout.zeros(width)
    whole[..., :sums.shape[-1]] = np.asarray(sums)
    return {"state": state, "sums": jnp.asarray(whole)}

  def _phase(self, state, sums, position):
    """Runs what is left of one phase of one epoch."""
    layout = self._layout
    key = (position.stage, position.phase)
    stage = self._method.stages[position.stage]
    phase = stage.phases[position.phase]
    splits = [self._data[name] for name in phase.splits]
    steps = splits[0].steps
    entropies = [batches.entropy(seed, run, stage.name, phase.name,
                                 position.epoch)
                 for seed, run in zip(layout.seeds, layout.runs, strict=True)]
    orders = [self._order(i, split, steps, entropies)
              for i, split in enumerate(splits)]
    rng = layout.rng([int(np.random.default_rng(entropy).integers(2**31))
                      for entropy in entropies])
    step = position.step
    # On all devices from the start: another placement compiles anew.
    sums = layout.place(
        layout.zeros(len(phase.metrics)) if step == 0
        else np.asarray(sums)[..., :len(phase.metrics)])
    if key not in self._chunks:
      self._chunks[key] = layout.chunk(phase, self._preparation)
      # The first chunk may compile for a minute; say what is under way.
      self._report(stage, phase, position, steps, sums)
    while step < steps:
      stop = min(step + self._length(key, splits, steps), steps)
      parts, rows, offsets = zip(*(
          split.chunk(order, step, stop)
          for split, order in zip(splits, orders, strict=True)), strict=True)
      began = time.monotonic()
      with self._processes.watching():
        carry = self._chunks[key](
            state, sums, parts, rows,
            np.array([step, stop, *offsets], np.int32), rng)
        state, sums = carry.state, carry.sums
        jax.block_until_ready(carry.step)
      self._check_finite(stage, phase, position, carry)
      self._time(key, (time.monotonic() - began) / (stop - step))
      step = stop
      position = position._replace(step=step)
      self._report(stage, phase, position, steps, sums)
      if step < steps:
        self._maybe_save(state, sums, position)
    self._finish(stage, phase, position, state, sums)
    self._maybe_save(state, sums, position._replace(
        phase=position.phase + 1, step=0))
    return state, sums

  def _check_finite(self, stage, phase, position, carry):
    """Raises `NotFinite` for the first run whose last step was not good."""
    good = np.atleast_1d(carry.good)
    if good.all():
      return
    i = int(np.argmin(good))
    name, seed = self._layout.runs[i], self._layout.seeds[i]
    steps = np.atleast_1d(carry.step)
    reached = int(steps[i * len(steps) // len(good)])
    means = self._means(phase, carry.sums, reached)[i]
    explained = self._method.explain(self._layout.one(carry.state, i))
    raise errors.NotFinite(
        f"{name}, seed {seed}, {stage.name}, epoch {position.epoch}, phase"
        f" {phase.name}, step {reached - 1}: a metric is not finite"
        f" ({means}); it ran {explained}; try a smaller learning-rate")

  def _order(self, i, split, steps, entropies):
    """i32[*, steps, *] of an epoch's i-th split, as often as it takes."""
    rounds = [()] if i == 0 else [
        (i, r) for r in range(-(-steps // split.steps))]
    return np.concatenate([
        self._layout.order(split.size, self._batch_size, [
            [*e, *batches.entropy(*more)] if more else e for e in entropies])
        for more in rounds], axis=1)[:, :steps]

  def _length(self, key, splits, steps):
    """Steps of the next chunk: few at first, then by the clock."""
    per_step = self._seconds_per_step.get(key)
    length = 1 if per_step is None else int(
        self._options.chunk_seconds / max(per_step, 1e-6))
    return self._processes.gather(int(np.clip(
        length, 1, min(steps, *(split.most for split in splits)))))[0]

  def _time(self, key, seconds):
    # The first chunk compiles; it only says that there was one.
    self._seconds_per_step[key] = (
        seconds if key in self._seconds_per_step else
        self._options.chunk_seconds / 4)

  def _means(self, phase, sums, steps):
    """Of every run, the mean metrics."""
    values = np.asarray(sums).reshape(len(self._layout.runs), -1)
    return [{name: float(v) for name, v in zip(
        phase.metrics, row / max(steps, 1), strict=True)} for row in values]

  def _finish(self, stage, phase, position, state, sums):
    means = self._means(phase, sums, position.step)
    for i, (rows, metrics) in enumerate(zip(self._rows, means, strict=True)):
      seen = {} if phase.observe is None else phase.observe(
          self._layout.one(state, i), position.epoch)
      rows.append({
          "stage": stage.name, "phase": phase.name, "epoch": position.epoch,
          **metrics, **seen, "seconds": round(self._elapsed(), 3)})

  def _elapsed(self):
    return self._seconds + time.monotonic() - self._started

  def _report(self, stage, phase, position, steps, sums):
    means = self._means(phase, sums, position.step)
    for run, metrics in zip(self._layout.runs, means, strict=True):
      self._options.on_progress(options_lib.Progress(
          run, stage.name, phase.name, position.epoch, stage.epochs,
          position.step, steps, self._share(position),
          metrics if position.step else {}))

  def _share(self, position):
    """Share of the run's steps that are done."""
    total = done = 0
    for s, stage in enumerate(self._method.stages):
      for p, phase in enumerate(stage.phases):
        steps = self._data[phase.splits[0]].steps
        total += steps * stage.epochs
        here = (s, p) == (position.stage, position.phase)
        walks = stage.epochs if s < position.stage else (
            position.epoch + (p < position.phase)) * (s == position.stage)
        done += steps * walks + position.step * here
    return done / max(total, 1)

  def _maybe_save(self, state, sums, position):
    due = time.monotonic() - self._saved >= self._options.checkpoint_seconds
    asked = self._processes.gather([bool(self._options.should_stop()), due])
    stop, due = any(stop for stop, _ in asked), asked[0][1]
    if stop or due:
      self._save(state, sums, position)
    if stop:
      raise errors.Interrupted(", ".join(self._layout.runs))

  def _save(self, state, sums, position):
    if self._checkpoints is None:
      return
    self._checkpoints.save(
        self._payload(self._layout.local(state), sums),
        position._replace(rows=self._rows[0].count, seconds=self._elapsed()))
    self._saved = time.monotonic()
