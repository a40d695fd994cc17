"""Several seeds of one method in one compiled program.

Each seed is a run of its own on one device, with the data order, augmentation
and initial state that `fit.fit` gives it there alone. So it ends as it would
there, up to rounding: XLA may compile another sum of the same numbers where
seeds are `vmap`ped on a device, or where there are more devices.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.training import batches, engine
from natjax.training import devices as devices_lib
from natjax.training import method as base
from natjax.training import options as options_lib


def seeds_together(num_seeds: int, devices: Sequence[jax.Device]) -> str:
  """Which way of training several seeds is the cheapest.

  Of methods whose steps compute the same operations for every seed. Where
  operations are chosen by an index (the supernets of NAT), `vmap` turns the
  choice into computing all of them.

  Args:
    num_seeds: how many.
    devices: that there are.

  Returns:
    "one by one": `fit.fit` for one seed after the other, on all devices. For
      one seed or one device, for devices of several processes, and where there
      are fewer seeds than devices, some of which would idle.
    "spread": `fit_seeds` with `lanes=1`, a seed per device, each with its whole
      batch: no device waits for another, and nothing is computed twice.

  Never several lanes of a device: `vmap` makes grouped convolutions of
  convolutions. On an H200 (jax 0.11.2, float32) a step of three seeds of
  ResNet20, 32 x 32 pixels and batch 128, took 16.2 ms, where a step of one took
  2.6 ms in a run; on two CPU cores, at half width, 16 x 16 pixels and batch 64,
  1.4 to 1.6 times as long as three steps.
  """
  if num_seeds == 1 or num_seeds < len(devices) or (
      not devices_lib.is_local(devices)):
    return "one by one"
  return "spread" if len(devices) > 1 else "one by one"


@functools.lru_cache(maxsize=4)
def make_chunk(phase: base.Phase, preparation: options_lib.Preparing,
               devices: tuple[jax.Device, ...], lanes: int,
               divided: tuple[bool, ...] = ()) -> Callable[..., engine.Carry]:
  """Compiles a phase: `(state, sums, splits, orders, span, rng)`.

  All but span and those splits that are not `divided` have a leading axis [S],
  S = D * lanes. A step that is not finite stops all seeds of its device;
  `carry.step` is i32[D].
  """
  take = engine.make_step(phase, preparation)
  divided = divided or (False,) * len(phase.splits)
  axes = tuple(0 if d else None for d in divided)

  def run(state, sums, splits, orders, span, rng):
    if lanes > 1:
      carry = engine.walk(jax.vmap(take, (0, 0, axes, 0, 0, None)), state,
                          sums, splits, orders, span, rng)
      return carry._replace(step=carry.step[None])
    # Without `vmap`, a choice by an index stays one.
    state, sums, orders, rng = jax.tree.map(
        lambda x: x[0], (state, sums, orders, rng))
    splits = tuple(jax.tree.map(lambda x: x[0], split) if d else split
                   for split, d in zip(splits, divided, strict=True))
    carry = engine.walk(take, state, sums, splits, orders, span, rng)
    return jax.tree.map(lambda x: x[None], carry)

  return devices_lib.spread_runs(
      run, devices, donate=(0, 1),
      sharded=(True, True, divided, True, False, True))


@jax.jit
def _pick(tree, index):
  return jax.tree.map(lambda x: x[index], tree)


class _Seeds(engine.Layout):
  """Seeds that are runs of their own, `lanes` per device."""

  def __init__(self, devices, lanes, seeds, runs):
    super().__init__(devices, seeds, runs)
    self.lanes, self.shape, self.width = lanes, (len(runs),), 1
    self.mine = np.arange(len(runs))

  def join(self, trees):
    return self.place(jax.tree.map(lambda *x: jnp.stack(x), *trees))

  def place(self, tree):
    return devices_lib.divide(tree, self.devices)

  def divide(self, tree):
    return self.place(tree)

  def chunk(self, phase, preparation, divided):
    return make_chunk(phase, preparation, self.devices, self.lanes, divided)

  def one(self, state, run):
    return jax.device_put(_pick(state, run), self.devices[0])


def _rounds(num_seeds, num_devices, lanes):
  """Pairs (devices, lanes) of the programs that follow each other."""
  rounds = []
  while num_seeds:
    used = min(num_seeds, num_devices)
    rounds.append((used, min(lanes, num_seeds // used)))
    num_seeds -= used * rounds[-1][1]
  return rounds


def fit_seeds(method: base.Method, splits: Mapping[str, options_lib.Split], *,
              seeds: Sequence[int], runs: Sequence[str], batch_size: int,
              preparation: options_lib.Preparing, options: options_lib.Options,
              lanes: int = 1) -> list[base.State]:
  """Runs a method for several seeds at once; see `fit.fit`.

  Args:
    method: what to run.
    splits: by the names that the method's phases use.
    seeds: S of them.
    runs: their names in rows and progress; like the seeds, they enter the order
      of images and the augmentation.
    batch_size: of every seed, on its device.
    preparation: from stored images to what the network sees.
    options: as for `fit.fit`, but without `seed` and `run`. What trains at once
      has a folder of its own in `checkpoint_dir`, named after its seeds.
    lanes: the most seeds that a device holds at once, by `vmap`; more than one
      pays for networks without convolutions (`seeds_together`). Seeds that find
      no place train after the others.

  Returns:
    The final state of every seed, on the first device.

  Raises:
    InputError: as `fit.fit`; seeds and runs that do not fit together; devices
      of another process.
    Interrupted: asked to stop; the checkpoint is written.
    NotFinite: a metric of a seed was not finite; names seed and step.
  """
  devices = tuple(options.devices or jax.local_devices())
  if not devices_lib.is_local(devices):
    raise errors.InputError(f"{len(seeds)} seeds at once need devices of one"
                            " process; train them one by one, with fit")
  if len(seeds) != len(runs) or len(set(runs)) != len(runs) or not runs:
    raise errors.InputError(
        f"{len(seeds)} seeds and {len(set(runs))} different names of runs were"
        " given; give each seed a name of its own")
  if lanes < 1:
    raise errors.InputError(f"lanes is {lanes} and must be at least 1; give 1"
                            " for a seed per device at a time")
  devices_lib.check_batch(batch_size, 1)
  batches.check_splits({name: splits[name] for stage in method.stages
                        for phase in stage.phases for name in phase.splits},
                       batch_size)
  states: list[base.State] = []
  for used, height in _rounds(len(seeds), len(devices), lanes):
    here = slice(len(states), len(states) + used * height)
    layout = _Seeds(devices[:used], height, seeds[here], runs[here])
    folder = options.checkpoint_dir and pathlib.Path(
        options.checkpoint_dir, "-".join(map(str, layout.seeds)))
    final = engine.Engine(
        method, splits, batch_size=batch_size, preparation=preparation,
        options=dataclasses.replace(options, checkpoint_dir=folder),
        layout=layout).run()
    states += [layout.one(final, i) for i in range(used * height)]
  return states
