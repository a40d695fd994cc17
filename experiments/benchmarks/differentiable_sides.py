"""The sides of the benchmark of differentiable transformation.

See `differentiable.py` for what is compared. Import this after XLA's flags are
set.
"""

from collections.abc import Sequence
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import sides

from natjax import data, zoo
from natjax.graph import blocks, codec
from natjax.methods import differentiable, mixture, supervised
from natjax.training import batches, engine, fit
from natjax.training import devices as devices_lib
from natjax.training import method as base

CLASSES = 10
IMAGES = 50_000  # Of CIFAR-10: an epoch.
PLAIN, HALF_STEP = "plain", "w half-step"
ITERATION, ONE_BACKWARD = "iteration", "one-backward iteration"
SECOND, ALONE = "second stage", "derived alone"


class Program(NamedTuple):
  """An update, and the state that it starts from."""

  update: Any
  state: Any


class Runner:
  """Some steps per call, compiled as `fit` compiles them.

  Attributes:
    text: the program before XLA.
    cost: `sides.Compilation`.
    first_loss: of the first step.
    cpu_seconds: of every call of `step`, all threads together.
  """

  def __init__(self, program, split, args, devices):
    """Args:
      program: the `Program`.
      split: the `fit.Split` that steps walk over, again and again.
      args: flags of `differentiable.py`.
      devices: to spread over.
    """
    preparation = fit.Preparation(
        (0.5,) * 3, (0.25,) * 3, data.Augmentation(), jnp.dtype(args.dtype))
    phase = base.Phase(
        "train", ("train",), program.update, ("loss",), augment=False)
    order = batches.epoch_order(
        len(split.labels), args.batch_size, len(devices), [args.seed])
    order = np.tile(order, (1, -(-args.chunk // order.shape[1]), 1))
    self._chunk, self._devices = args.chunk, devices
    self._data = ((devices_lib.replicate(split, devices),), (order,))
    self._rng = jax.random.key(0)
    # A copy: what is donated may be another side's, too.
    self._state = devices_lib.replicate(
        jax.tree.map(jnp.copy, program.state), devices)
    self._run, lowered, self.cost = sides.compile_timed(
        engine.make_chunk(phase, preparation, devices), *self._arguments(1))
    self.text = lowered.as_text()
    self.first_loss = float(self._call(1).sums[0])
    self.cpu_seconds: list[float] = []

  def _arguments(self, steps):
    sums = devices_lib.replicate(np.zeros(1, np.float32), self._devices)
    return (self._state, sums, *self._data,
            np.array([0, steps, 0], np.int32), self._rng)

  def _call(self, steps):
    carry = jax.block_until_ready(self._run(*self._arguments(steps)))
    self._state = carry.state
    return carry

  def step(self, i: int) -> None:
    """A chunk of steps; `i` is there for `sides.Side` and not looked at.

    Raises:
      AssertionError: a step's loss was not finite.
    """
    del i
    start = time.process_time()
    good = self._call(self._chunk).good
    self.cpu_seconds.append(time.process_time() - start)
    assert bool(good), "a loss is not finite"


class Network(NamedTuple):
  """A network with all its sides.

  Attributes:
    name: as it was asked for.
    programs: by the sides' names.
    architecture: the given one, padded.
    derived: what it became.
    changed: how many edges were changed, by hand.
    edges: how many there are.
  """

  name: str
  programs: dict[str, Program]
  architecture: codec.Architecture
  derived: codec.Architecture
  changed: int
  edges: int


def read(name: str, width: float) -> codec.Architecture:
  """An architecture of the zoo, or of a file that ends in .json."""
  architecture = codec.read(name) if name.endswith(".json") else zoo.get(name)
  if architecture.kind == "blocks" and width != 1:
    return blocks.scale(architecture, width)
  return architecture


def make_network(name: str, args) -> Network:
  """Builds what is compared, from the flags of `differentiable.py`."""
  architecture = read(name, args.width)
  train = supervised.TrainConfig(
      init_channels=args.init_channels, cells=args.cells,
      batch_size=args.batch_size, drop_path=args.drop_path, auxiliary=False,
      dtype=args.dtype)
  if architecture.kind == "blocks":
    train = dataclasses.replace(train, **supervised.OF_CELLS)
  sizes = {"num_classes": CLASSES, "image_size": args.image_size,
           "steps_per_epoch": IMAGES // args.batch_size}
  search, joint = (
      differentiable.Differentiable(
          differentiable.DifferentiableConfig(one_backward=one), train,
          architecture, **sizes)
      for one in (False, True))
  state = search.init(jax.random.key(args.seed))
  # Padded with null edges, which compute nothing, its modules bear the names
  # of the weighted network's, whose weights it is given.
  plain = supervised.Supervised(train, search.space.architecture, **sizes)
  changed = change(search.space)
  derived = search.end(state._replace(theta=changed))
  second, = derived.method.stages[0].phases
  alone = supervised.Supervised(train, derived.architecture, **sizes)
  return Network(
      name,
      {PLAIN: Program(plain.update, differentiable.move(state, plain)),
       HALF_STEP: Program(half_step(search), state),
       ITERATION: Program(search.update, state),
       ONE_BACKWARD: Program(joint.update, state),
       SECOND: Program(second.update, derived.state),
       ALONE: Program(alone.update, alone.init(jax.random.key(args.seed)))},
      search.space.architecture, derived.architecture,
      *count_changes(search.space, changed))


def change(space) -> tuple[jax.Array, ...]:
  """Theta by which, of three edges, one becomes an identity and one goes."""
  theta = []
  for group, start in zip(space.groups, space.init(), strict=True):
    t = np.array(start)
    for e, allowed in enumerate(group.allowed):
      if e % 3 == 1 and allowed[mixture.ID]:
        t[e, mixture.ID] = 2.0
      elif e % 3 == 2 and allowed[mixture.NONE]:
        t[e, mixture.SAME] = -1.0
    theta.append(jnp.asarray(t))
  return tuple(theta)


def count_changes(space, theta) -> tuple[int, int]:
  """How many edges theta changes, and how many are not null."""
  pairs = [(group.cell.edges[e].operation, group.outcome(e, c))
           for group, choice in zip(space.groups, space.choose(theta),
                                    strict=True)
           for e, c in enumerate(choice)]
  return (sum(old != new for old, new in pairs),
          sum(old != "null" for old, _ in pairs))


def half_step(method: differentiable.Differentiable):
  """The half-step of w as an update of its own."""

  def update(state, batch):
    rng, rng_w = jax.random.split(state.rng)
    state, metrics, _ = method.update_weights(state, batch, rng_w)
    return state._replace(step=state.step + 1, rng=rng), metrics

  return update


def draw_images(args) -> fit.Split:
  """Four batches of noise."""
  rng = np.random.default_rng(args.seed)
  size = (4 * args.batch_size, args.image_size, args.image_size, 3)
  return fit.Split(rng.integers(0, 256, size, dtype=np.uint8),
                   rng.integers(0, CLASSES, size[0]).astype(np.int32))


def measure(
    network: Network, args, devices: Sequence[jax.Device]
) -> dict[str, Any]:
  """Compiles and times the sides of one network, in turns.

  Raises:
    AssertionError: sides that ought to be the same are not.
  """
  split = draw_images(args)
  runners = {
      name: Runner(program, split, args, tuple(devices))
      for name, program in network.programs.items()}
  losses = [runners[name].first_loss
            for name in (PLAIN, HALF_STEP, ITERATION, ONE_BACKWARD)]
  np.testing.assert_allclose(losses, losses[0], rtol=1e-3)
  assert runners[SECOND].text == runners[ALONE].text, "programs differ"
  compared = [sides.Side(name, r.step) for name, r in runners.items()]
  seconds = sides.measure(compared, "step", 1, args.rounds, args.steps)
  per_epoch = IMAGES // args.batch_size
  result = {}
  for name, runner in runners.items():
    times = seconds[name][0] / args.chunk
    # As `sides.measure` has it: of every turn's calls, without the first.
    cpu = np.reshape(runner.cpu_seconds, (args.rounds, 1 + args.steps))[:, 1:]
    result[name] = {
        "seconds": times.tolist(),
        "cpu_seconds": (np.median(cpu, axis=1) / args.chunk).tolist(),
        "epochs_per_minute": 60 / (np.median(times) * per_epoch),
        **{f"{key}_seconds": value for key, value in zip(
            ("lower", "compile"), runner.cost[1:3], strict=True)},
        "temporaries_mb": runner.cost.temporaries}
  return {"network": network.name, "devices": len(devices),
          "changed_edges": network.changed, "edges": network.edges,
          "first_losses": losses, "sides": result}
