"""The loop of training: chunks of steps, rows of metrics, checkpoints.

It drives one program, which holds one run (`fit.fit`) or several that differ in
their seeds (`seeds.fit_seeds`); how these lie on devices is their `Layout`.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
import contextlib
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.training import batches, distributed
from natjax.training import checkpoints as checkpoints_lib
from natjax.training import devices as devices_lib
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


def make_step(phase: base.Phase, preparation: options_lib.Preparing
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


def walk(take: Callable[..., tuple[Any, jax.Array, jax.Array]], state: Any,
         sums: jax.Array, splits: Sequence[options_lib.Split],
         orders: Sequence[jax.Array], span: jax.Array, rng: jax.Array) -> Carry:
  """Takes steps from span[0] to span[1], or until one is not good.

  Args:
    take: what `make_step` makes, or that for several runs.
    state: of the method.
    sums: f32[..., metrics], of its metrics.
    splits: images and labels of each.
    orders: of each, i32[..., steps, B] into them.
    span: i32[2 + splits]: start, stop, and of each split an offset, the column
      of its order at a step being step - offset.
    rng: of the phase.
  """

  def body(carry):
    rows = [order[..., carry.step - span[2 + i], :]
            for i, order in enumerate(orders)]
    state, sums, good = take(
        carry.state, carry.sums, splits, rows, rng, carry.step)
    return Carry(state, sums, carry.step + 1, good)

  return jax.lax.while_loop(
      lambda c: (c.step < span[1]) & jnp.all(c.good), body,
      Carry(state, sums, span[0], jnp.ones(sums.shape[:-1], bool)))


# Seeds share programs, of which a replacement has eleven with all its tries and
# a training from scratch.
@functools.lru_cache(maxsize=12)
def make_chunk(phase: base.Phase, preparation: options_lib.Preparing,
               devices: tuple[jax.Device, ...],
               own: tuple[bool, ...] = (), form: Any = None,
               marks: tuple[bool, ...] = ()) -> Callable[..., Carry]:
  """Compiles a phase: `(state, sums, splits, orders, span, rng)`.

  Every order is i32[D, steps, B / D] into its split, and of those that devices
  have for their `own` into what the device has of it, [D, ...]. Of a state of
  which arrays are divided (`Method.divided`), `form` is the structure and
  `marks` say which.
  """
  divided = False if form is None else jax.tree.unflatten(form, marks)
  splits = tuple(devices_lib.OWN if d else False for d in own) or False
  return devices_lib.spread(
      functools.partial(walk, make_step(phase, preparation)), devices,
      donate=(0, 1), sharded=(False, False, splits, True, False, False),
      divided={} if form is None else {0: divided},
      results=Carry(divided, False, False, False))  # type: ignore[arg-type]


class Layout:
  """How R runs of one program lie on devices; here one run, spread over all.

  Attributes:
    devices: that the program uses.
    seeds: of the R runs.
    runs: their names.
    processes: of the devices.
    mine: of an order's leading axis, what this process's devices take.
    shape: leading axes of what the R runs have each: none of a single run.
    width: devices over which a run's batches are divided.
    gathers: whether a state is put together by all processes.
  """

  shape: tuple[int, ...] = ()

  def __init__(self, devices: tuple[jax.Device, ...], seeds: Sequence[int],
               runs: Sequence[str],
               divided: Callable[[base.State], Any] | None = None):
    self._divided = divided
    self.gathers = divided is not None and not devices_lib.is_local(devices)
    self._form: tuple[Any, ...] = ()  # Of the state, and what is divided of it.
    self.devices, self.width = devices, len(devices)
    self.seeds, self.runs = tuple(seeds), tuple(runs)
    self.processes = distributed.Processes(devices)
    self.mine = np.array([i for i, d in enumerate(devices)
                          if d.process_index == jax.process_index()])

  def join(self, trees: Sequence[Any]) -> Any:
    """Makes one tree of those of all runs."""
    return trees[0]

  def begin(self, state: base.State) -> Any:
    """Puts the first state where a chunk takes it."""
    if self._divided is None:
      return self.place(state)
    divided = self._divided(state)
    marks, form = jax.tree.flatten(divided)
    self._form = form, tuple(marks)
    return devices_lib.replicate(state, self.devices, divided)

  def place(self, tree: Any) -> Any:
    """Puts the sums where a chunk takes them."""
    return devices_lib.replicate(tree, self.devices)

  def divide(self, tree: Any) -> Any:
    """Puts a divided split, of which this process has `mine`, on devices."""
    return devices_lib.shard(tree, self.devices)

  def chunk(self, phase: base.Phase, preparation: options_lib.Preparing,
            divided: tuple[bool, ...]) -> Callable[..., Carry]:
    """`(state, sums, splits, orders, span, rng) -> carry`, compiled `walk`."""
    return make_chunk(phase, preparation, self.devices, divided, *self._form)

  def one(self, state: base.State, run: int) -> base.State:
    """The state of one run, in arrays that are this process's alone."""
    return devices_lib.fetch(state)


class _Source:
  """The chunks of a phase's splits, read ahead where that takes long.

  Attributes:
    ahead: whether the next chunk is read while one is computed.
    asked: where the chunk ends that is being read; 0 where none is.
  """

  def __init__(self, walks: Sequence[batches.Walk], ahead: bool):
    self.ahead, self.asked = ahead, 0
    self._walks, self._waited = walks, 0.0
    self._began = time.monotonic()
    self._pool = futures.ThreadPoolExecutor(1) if ahead else None
    self._next: futures.Future[Any] | None = None

  def ask(self, start: int, stop: int) -> None:
    """Begins to read the chunk that is taken next."""
    assert self._pool is not None
    self._next, self.asked = self._pool.submit(self._read, start, stop), stop

  def take(self, start: int, stop: int) -> tuple[Any, Any, Any]:
    """Of every split what `batches.Walk.chunk` gives."""
    began = time.monotonic()
    found = self._next.result() if self._next else self._read(start, stop)
    self._waited += time.monotonic() - began
    self._next, self.asked = None, 0
    return found

  def _read(self, start, stop):
    return tuple(zip(*(walk.chunk(start, stop) for walk in self._walks),
                     strict=True))

  def report(self) -> dict[str, Any]:
    """What a row of metrics says of what was read from disk.

    "waited" is the share of the time, since the phase began or was resumed, in
    which devices waited for images, and "skipped" the images, read since then,
    that are damaged.
    """
    if not self.ahead:
      return {}
    skipped = sum(walk.skipped for walk in self._walks)
    return {"waited": round(
        self._waited / max(time.monotonic() - self._began, 1e-9), 3),
            **({"skipped": skipped} if skipped else {})}

  def close(self) -> None:
    """Ends what reads ahead, within a step."""
    for walk in self._walks:
      walk.ended = True
    if self._pool is not None:
      self._pool.shutdown()
    for walk in self._walks:
      walk.close()


class Engine:
  """One call of `fit` or `fit_seeds`."""

  def __init__(self, method: base.Method,
               splits: Mapping[str, options_lib.Split], *, batch_size: int,
               preparation: options_lib.Preparing, options: options_lib.Options,
               layout: Layout):
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
    used = (name for stage in method.stages for phase in stage.phases
            for name in phase.splits)
    self._data = {name: batches.Data(
        splits[name], batch_size, layout.devices, runs=len(layout.runs),
        resident_bytes=options.resident_bytes) for name in dict.fromkeys(used)}
    # Steps of every walk of a phase, by (stage, epoch, phase), in order.
    self._walks = {(s, epoch, p): self._data[phase.splits[0]].steps
                   for s, stage in enumerate(method.stages)
                   for epoch in range(stage.epochs)
                   for p, phase in enumerate(stage.phases)}
    self._chunks: dict[tuple[int, int], Callable[..., Carry]] = {}
    # By stage and phase, of every run: what its state last showed.
    self._seen: dict[tuple[int, int], list[dict[str, float]]] = {}
    self._seconds_per_step: dict[tuple[int, int], float] = {}
    path = options.metrics_path if self._processes.first else None
    self._rows = [metrics_lib.MetricsFile(path, run, options.on_row)
                  for run in layout.runs]
    self._checkpoints = None
    if options.checkpoint_dir is not None and self._processes.first:
      self._checkpoints = checkpoints_lib.Checkpoints(
          options.checkpoint_dir, alone=self._processes.size > 1)
    self._began = self._saved = time.monotonic()

  def run(self) -> base.State:
    """Runs what is left of all stages; returns the final state."""
    try:
      return self._run()
    finally:
      if self._checkpoints is not None:
        self._checkpoints.close()

  def _run(self):
    saved, position = self._restore(self._layout.join(
        [self._method.init(jax.random.key(s)) for s in self._layout.seeds]))
    self._began -= position.seconds
    for i, rows in enumerate(self._rows):
      rows.cut_back(position.rows, *position.checksums[i:i + 1])
    if position.done:
      return saved["state"]
    self._tell_resumed(position)
    state, sums = self._layout.begin(saved["state"]), saved["sums"]
    for at in self._walks:
      if at >= position[:3]:
        step = position.step if at == position[:3] else 0
        state, sums = self._phase(state, sums, Position(*at, step))
    self._save(state, sums, Position(len(self._method.stages), done=True))
    return state

  def _tell_resumed(self, position):
    """Tells from where it goes on, if it does not begin."""
    ahead = [at for at in self._walks if at >= position[:3]]
    if position == Position() or not ahead:
      return
    stage = self._method.stages[ahead[0][0]]
    step = position.step if ahead[0] == position[:3] else 0
    done = step + sum(
        n for at, n in self._walks.items() if at < position[:3])
    for run in self._layout.runs:
      self._options.on_resume(options_lib.Progress(
          run, stage.name, stage.phases[ahead[0][2]].name, ahead[0][1],
          stage.epochs, step, self._walks[ahead[0]],
          done / sum(self._walks.values()), {}))

  def _restore(self, state):
    """What the newest checkpoint holds, else the start."""
    payload = self._payload(state, self._zeros(0))

    def read():
      nonlocal payload
      if self._checkpoints and (found := self._checkpoints.restore(payload)):
        payload, position = found
        return position
      return None

    if (position := self._processes.of_first(read)) is None:
      return payload, Position()
    return self._processes.broadcast(payload), Position(*position)

  def _zeros(self, count):
    """Sums of `count` metrics before the first step; on the host."""
    return np.zeros((*self._layout.shape, count), np.float32)

  def _payload(self, state, sums):
    """What a checkpoint holds; the sums' vector fits any phase's metrics."""
    whole = self._zeros(max(
        len(p.metrics) for s in self._method.stages for p in s.phases))
    whole[..., :sums.shape[-1]] = np.asarray(sums)
    return {"state": state, "sums": jnp.asarray(whole)}

  def _phase(self, state, sums, position):
    """Runs what is left of one phase of one epoch."""
    layout, key = self._layout, (position.stage, position.phase)
    stage = self._method.stages[position.stage]
    phase = stage.phases[position.phase]
    splits = [self._data[name] for name in phase.splits]
    steps = splits[0].steps
    entropies = [batches.entropy(seed, run, stage.name, phase.name,
                                 position.epoch)
                 for seed, run in zip(layout.seeds, layout.runs, strict=True)]
    walks = [split.walk(
        batches.order(split, steps, self._batch_size, layout.width, entropies,
                      i), layout, position.step, phase.augment)
             for i, split in enumerate(splits)]
    rng = layout.join([
        jax.random.key(int(np.random.default_rng(entropy).integers(2**31)))
        for entropy in entropies])
    # On all devices from the start: another placement compiles anew.
    sums = layout.place(
        self._zeros(len(phase.metrics)) if position.step == 0
        else np.asarray(sums)[..., :len(phase.metrics)])
    if key not in self._chunks:
      self._chunks[key] = layout.chunk(
          phase, self._preparation, tuple(split.divided for split in splits))
      # The first chunk may compile for a minute; say what is under way.
      self._report(stage, phase, position, steps, sums)
    length = lambda step: min(step + self._length(key, splits, steps), steps)
    with contextlib.closing(_Source(
        walks, any(split.ahead for split in splits))) as source:
      while (step := position.step) < steps:
        stop = source.asked or length(step)
        began = time.monotonic()  # Where reading is slower, it is what counts.
        parts, rows, offsets = source.take(step, stop)
        with self._processes.watching():
          carry = self._chunks[key](
              state, sums, parts, rows,
              np.array([step, stop, *offsets], np.int32), rng)
          state, sums = carry.state, carry.sums
          if source.ahead and stop < steps:  # While the devices compute.
            source.ask(stop, length(stop))
          jax.block_until_ready(carry.step)
        self._check_finite(stage, phase, position, carry)
        # The first chunk compiles; it only says that there was one.
        took = (time.monotonic() - began) / (stop - step)
        if key not in self._seconds_per_step:
          took = self._options.chunk_seconds / 4
        self._seconds_per_step[key] = took
        position = position._replace(step=stop)
        if stop < steps:
          self._report(stage, phase, position, steps, sums)
          self._maybe_save(stage, phase, state, sums, position)
    self._check_state(stage, phase, position, state, sums)
    seen = self._observe(phase, position, state)
    self._report(stage, phase, position, steps, sums)
    self._finish(stage, phase, position, sums, seen, source.report())
    self._maybe_save(stage, phase, state, sums, position._replace(
        phase=position.phase + 1, step=0))
    return state, sums

  def _check_finite(self, stage, phase, position, carry):
    """Raises `NotFinite` for the first run whose last step was not good."""
    good = np.atleast_1d(carry.good)
    if good.all():
      return
    i, steps = int(np.argmin(good)), np.atleast_1d(carry.step)
    reached = int(steps[i * len(steps) // len(good)])
    explained = self._method.explain(self._layout.one(carry.state, i))
    raise errors.NotFinite(
        f"{self._layout.runs[i]}, seed {self._layout.seeds[i]}, {stage.name},"
        f" epoch {position.epoch}, phase {phase.name}, step {reached - 1}: a"
        f" metric is not finite ({self._means(phase, carry.sums, reached)[i]});"
        f" it ran {explained}; try a smaller learning-rate")

  def _check_state(self, stage, phase, position, state, sums):
    """Raises `NotFinite` where the last update left what is not finite.

    Metrics are of the state before it; so they would tell a step too late.
    """
    if all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(
        self._fetched(state)) if jnp.issubdtype(leaf.dtype, jnp.floating)):
      return
    means = self._means(phase, sums, position.step)
    raise errors.NotFinite(
        f"{', '.join(self._layout.runs)}, {stage.name}, epoch {position.epoch},"
        f" phase {phase.name}: the update of step {position.step - 1} left"
        f" values that are not finite (mean metrics until then {means[0]}); try"
        " a smaller learning-rate")

  def _fetched(self, state):
    """The state in arrays of this process."""
    with self._processes.watching():
      return devices_lib.fetch(state)

  def _length(self, key, splits, steps):
    """Steps of the next chunk: one at first, then by the clock."""
    length = self._options.chunk_seconds / max(
        self._seconds_per_step.get(key, np.inf), 1e-6)
    return self._processes.gather(int(np.clip(
        length, 1, min(steps, *(split.most for split in splits)))))[0]

  def _means(self, phase, sums, steps):
    """Of every run, the mean metrics."""
    values = np.asarray(sums).reshape(len(self._layout.runs), -1)
    return [{name: float(v) for name, v in zip(
        phase.metrics, row / max(steps, 1), strict=True)} for row in values]

  def _observe(self, phase, position, state):
    """What every run's state shows at the end of a phase."""
    seen = [{} if phase.observe is None else phase.observe(
        self._layout.one(state, i), position.epoch)
            for i in range(len(self._layout.runs))]
    self._seen[position.stage, position.phase] = [
        {name: value for name, value in own.items() if isinstance(value, float)}
        for own in seen]
    return seen

  def _finish(self, stage, phase, position, sums, seen, input_report):
    means = self._means(phase, sums, position.step)
    for rows, metrics, own in zip(self._rows, means, seen, strict=True):
      rows.append({"stage": stage.name, "phase": phase.name,
                   "epoch": position.epoch, **metrics, **own, **input_report,
                   "seconds": round(time.monotonic() - self._began, 3)})

  def _report(self, stage, phase, position, steps, sums):
    means = self._means(phase, sums, position.step)
    done = position.step + sum(
        n for at, n in self._walks.items() if at < position[:3])
    seen = self._seen.get((position.stage, position.phase), [{}] * len(means))
    for run, metrics, own in zip(self._layout.runs, means, seen, strict=True):
      self._options.on_progress(options_lib.Progress(
          run, stage.name, phase.name, position.epoch, stage.epochs,
          position.step, steps, done / max(sum(self._walks.values()), 1),
          {**metrics, **own} if position.step else {}))

  def _maybe_save(self, stage, phase, state, sums, position):
    due = time.monotonic() - self._saved >= self._options.checkpoint_seconds
    asked = self._processes.gather([bool(self._options.should_stop()), due])
    stop, due = any(stop for stop, _ in asked), asked[0][1]
    if stop or due:
      self._check_state(stage, phase, position, state, sums)
      self._save(state, sums, position)
    if stop:
      raise errors.Interrupted(", ".join(self._layout.runs))

  def _save(self, state, sums, position):
    if self._checkpoints is not None or self._layout.gathers:
      state = self._fetched(state)
    if self._checkpoints is not None:
      self._checkpoints.save(
          self._payload(state, sums), position._replace(
              rows=self._rows[0].count, seconds=time.monotonic() - self._began,
              checksums=[rows.checksum for rows in self._rows]))
      self._saved = time.monotonic()
