"""The training programs that are timed, as the library compiles them.

A program is a phase of a method in the engine's compiled loop over steps, with
images of noise on the device and the state donated, so that what is timed is
what a run does; only the augmentation is left out, but where that is asked for.
Its state is drawn on the host by shapes alone, since every method's own `init`
would be another program to compile; what a step costs depends on alpha alone,
which is drawn as the methods draw it.
"""

from collections.abc import Callable
import dataclasses
import functools
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import data, spaces, zoo
from natjax.costs import exact
from natjax.graph import arrays, codec, records
from natjax.methods import (
    bilevel,
    darts,
    differentiable,
    entrannas,
    nat,
    supervised,
)
from natjax.policies import sampling
from natjax.training import batches, engine, fit, seeds
from natjax.training import devices as devices_lib
from natjax.training import method as base

CLASSES = 10
EPOCHS = 3  # Of the walk through the engine; the first one is not timed.


class Sizes(NamedTuple):
  """How large everything is.

  Attributes:
    init_channels: C, of the supernet of NAT and of DARTS's network.
    search_channels: C, of searches.
    cells: of all of them.
    image_size: side of the images.
    batch_size: of all of them.
    large_batch_size: of the supernet's larger batch.
    resnet_batch_size: of ResNet20.
    images: of an epoch.
  """

  init_channels: int
  search_channels: int
  cells: int
  image_size: int
  batch_size: int
  large_batch_size: int
  resnet_batch_size: int
  images: int


FULL = Sizes(20, 16, 8, 32, 64, 512, 128, 50_000)
QUICK = Sizes(8, 8, 4, 8, 32, 32, 32, 512)


class Program(NamedTuple):
  """What is compiled.

  Attributes:
    phase: of a method.
    state: that it starts from, host arrays; of `lanes` runs, that of each.
    batch_size: of each run.
    image_size: side of the images.
    images: that there are.
    dtype: of the images.
    lanes: runs at once, by `vmap`.
    madds: of one image, of a third of a step: the forward pass, where a step
      goes forward and backward; 0 where nobody counts.
    flat: whether a step has no loops, so that XLA can tell the bytes it moves.
    loop: whether steps run in a compiled loop, as they do; else each is a call.
  """

  phase: base.Phase
  state: Any
  batch_size: int
  image_size: int
  images: int
  dtype: str = "float32"
  lanes: int = 1
  madds: float = 0.0
  flat: bool = False
  loop: bool = True

  @property
  def split(self) -> fit.Split:
    """Noise; a walk over several splits walks over the same images."""
    rng = np.random.default_rng(0)
    size = (self.images, self.image_size, self.image_size, 3)
    return fit.Split(rng.integers(0, 256, size, dtype=np.uint8),
                     rng.integers(0, CLASSES, size[0]).astype(np.int32))

  @property
  def preparation(self) -> fit.Preparation:
    """From bytes to what the network sees."""
    return fit.Preparation((0.5,) * 3, (0.25,) * 3, data.Augmentation(),
                           jnp.dtype(self.dtype))


class Runner:
  """A program with its state and its images.

  Attributes:
    program: the program.
    seconds: that tracing, lowering and XLA took.
    temporaries_mb: of the compiled program.
    moved_bytes: that a step reads and writes by XLA's count, 0 if unknown.
  """

  def __init__(self, program: Program):
    """Traces and lowers; `compile` does the rest, in any thread."""
    began = time.perf_counter()
    self.program, self.devices = program, tuple(jax.devices()[:1])
    many = program.lanes > 1
    make = (lambda *args: seeds.make_chunk(*args, program.lanes)) if many else (
        engine.make_chunk)
    splits = program.phase.splits
    order = batches.epoch_order(program.images, program.batch_size, 1, [0])
    order = np.tile(order, (program.lanes, 1, 1))
    self._steps = order.shape[1]
    # Where `fit_seeds` and `fit` have them.
    place = self._divide if many else self._replicate
    lead = (program.lanes,) if many else ()
    self._state = place(_tiled(_copy(program.state), lead))
    self._sums = lambda: place(
        np.zeros((*lead, len(program.phase.metrics)), np.float32))
    self._images = self._replicate(program.split)
    self._orders = tuple(order for _ in splits)
    self._rng = (self._divide(jax.random.split(jax.random.key(0), lead))
                 if many else jax.random.key(0))
    # Of calls of a step each, which shall wait for nothing of the host's.
    self._held = self._sums()
    self._rows = tuple(
        jax.device_put(o[:, 0], self.devices[0]) for o in self._orders)
    chunk: Any = make(program.phase, program.preparation, self.devices)
    if not program.loop:
      chunk = devices_lib.spread(
          engine.make_step(program.phase, program.preparation), self.devices,
          donate=(0, 1), sharded=(False, False, False, True, False, False))
    self._lowered = chunk.lower(*self._arguments(1))
    self.seconds = time.perf_counter() - began
    self.temporaries_mb = self.moved_bytes = 0.0
    self.compiled: Callable[..., Any] | None = None

  def _replicate(self, tree):
    return devices_lib.replicate(tree, self.devices)

  def _divide(self, tree):
    return devices_lib.divide(tree, self.devices)

  def _arguments(self, steps):
    images = (self._images,) * len(self._orders)
    if not self.program.loop:
      return (self._state, self._held, images, self._rows, self._rng,
              np.int32(0))
    span = np.array([0, steps, *(0 for _ in self._orders)], np.int32)
    return (self._state, self._sums(), images, self._orders, span, self._rng)

  def compile(self) -> "Runner":
    """Compiles, and asks XLA what the program takes."""
    began = time.perf_counter()
    compiled = self._lowered.compile()
    self.seconds += time.perf_counter() - began
    memory = compiled.memory_analysis()
    self.temporaries_mb = memory.temp_size_in_bytes / 1e6 if memory else 0.0
    if self.program.flat:
      costs = compiled.cost_analysis()
      costs = costs[0] if isinstance(costs, list) else costs or {}
      self.moved_bytes = costs.get("bytes accessed", 0.0)
    self.compiled, self._lowered = compiled, None
    return self

  def run(self, steps: int) -> None:
    """Takes steps, all runs at once, and waits for them.

    Raises:
      ArithmeticError: a metric was not finite.
    """
    assert self.compiled is not None
    left, most = steps, self._steps if self.program.loop else 1
    while left:
      some = min(left, most)
      self._state, self._held, *_, good = self.compiled(
          *self._arguments(some))
      left -= some
    if not np.all(jax.block_until_ready(good)):
      raise ArithmeticError("a metric of a step is not finite")

  def walk(self) -> list[float]:
    """Trains for `EPOCHS` as `fit` does; returns when each ended.

    The program must be one with a single run. Nothing is compiled anew.
    """
    program, ends = self.program, []
    method = base.Method(
        init=lambda rng: _copy(program.state),
        stages=(base.Stage("train", EPOCHS, (program.phase,)),))
    layout = _Compiled(self.devices, (0,), ("run",))
    layout.compiled = self.compiled
    engine.Engine(
        method, {"train": program.split}, batch_size=program.batch_size,
        preparation=program.preparation, layout=layout,
        options=fit.Options(
            on_row=lambda row: ends.append(time.perf_counter()))).run()
    return ends


def _copy(tree):
  """What may be donated; of arrays of the host, which need no compiling."""
  return jax.tree.map(lambda x: (
      np.array(x) if isinstance(x, np.ndarray) else jnp.copy(x)), tree)


def _tiled(tree, lead):
  """Every leaf behind axes of the shape `lead`."""
  return jax.tree.map(lambda x: (
      np if isinstance(x, np.ndarray) else jnp).broadcast_to(
          x, (*lead, *x.shape)), tree)


class _Compiled(engine.Layout):
  """One run, by a program that is compiled already."""

  compiled: Any = None

  def chunk(self, phase, preparation, divided):
    return self.compiled


# The programs.


def supernet(sizes: Sizes, *, phase: str = "weights", large: bool = False,
             dtype: str = "float32") -> Program:
  """A phase of NAT; the architecture is drawn at every step."""
  batch_size = sizes.large_batch_size if large else sizes.batch_size
  method = _nat(sizes, dtype)
  found, = (p for p in method.method().stages[-1].phases if p.name == phase)
  inputs = drawn_genotypes(sizes)
  mean = lambda genotypes: float(np.mean([
      exact.network(g, method.ground.place).madds for g in genotypes]))
  madds = mean(inputs)
  if phase == "policy":  # Forward alone, of inputs and of their samples.
    config = method.config
    madds = config.inputs / 3 * (
        madds + config.samples * mean(_transformed(method, inputs)))
  return _program(method, found, sizes, batch_size, dtype=dtype, madds=madds)


@functools.cache
def drawn_genotypes(sizes: Sizes, count: int = 16) -> list[records.Genotype]:
  """Architectures as a step of NAT draws them, once."""
  method = _nat(sizes, "float32")
  cells = jax.jit(jax.vmap(method.sample))(
      jax.random.split(jax.random.key(1), count))
  return [method.ground.decode(jax.tree.map(lambda x, i=i: np.asarray(x)[i],
                                            cells)) for i in range(count)]


def _transformed(method, genotypes):
  """The genotypes by actions of chance, as a policy without learning takes."""
  rng, table = np.random.default_rng(0), method.table
  for genotype in genotypes:
    cells = arrays.encode(genotype, method.ground.space.candidates)
    actions = jnp.asarray(rng.integers(
        len(table.actions), size=cells.operation.shape))
    yield method.ground.decode(sampling.apply_actions(cells, actions, table))


def _nat(sizes, dtype):
  return nat.NAT(
      nat.NATConfig(init_channels=sizes.init_channels, cells=sizes.cells,
                    dtype=dtype),
      spaces.get("nat"), num_classes=CLASSES, image_size=sizes.image_size)


def plain(sizes: Sizes, name: str, *, dtype: str = "float32", lanes: int = 1,
          images: int = 0, augment: bool = False, loop: bool = True,
          drop_path: float = 0.0) -> Program:
  """Training of a network of the zoo; drop path is of cells alone."""
  architecture, config = _training(sizes, name, dtype, drop_path)
  method = supervised.Supervised(
      config, architecture, num_classes=CLASSES, image_size=sizes.image_size)
  phase, = method.method().stages[0].phases
  place = supervised.place_of(
      method.config, architecture.kind, num_classes=CLASSES,
      image_size=sizes.image_size)
  return _program(
      method, phase._replace(augment=augment), sizes, config.batch_size,
      dtype=dtype, lanes=lanes, images=images, flat=True, loop=loop,
      madds=exact.network(architecture, place).madds)


def theta(sizes: Sizes, name: str) -> Program:
  """Differentiable transformation: a step of the weights, one of theta."""
  architecture, config = _training(sizes, name, "float32")
  method = differentiable.Differentiable(
      differentiable.DifferentiableConfig(), config, architecture,
      num_classes=CLASSES, image_size=sizes.image_size)
  phase, = method.method().stages[0].phases
  return _program(method, phase, sizes, config.batch_size, flat=True)


def _training(sizes: Sizes, name: str, dtype: str, drop_path: float = 0.0
              ) -> tuple[codec.Architecture, supervised.TrainConfig]:
  architecture = zoo.get(name)
  config = supervised.TrainConfig(
      init_channels=sizes.init_channels, cells=sizes.cells, drop_path=drop_path,
      batch_size=sizes.batch_size, auxiliary=False, cutout=0, dtype=dtype)
  if architecture.kind == "blocks":
    config = dataclasses.replace(
        config, init_channels=None, cells=None, drop_path=None, auxiliary=None,
        batch_size=sizes.resnet_batch_size)
  return architecture, config


def search(sizes: Sizes, kind: str, **settings: Any) -> Program:
  """A search's iteration: a step of alpha, one of the weights.

  Args:
    sizes: of the supernet.
    kind: "darts" or "entrannas".
    **settings: of its own.
  """
  make: Callable[..., bilevel.Search]
  make, config = {
      "darts": (darts.Darts, darts.DartsConfig),
      "entrannas": (entrannas.EnTranNAS, entrannas.EnTranConfig)}[kind]
  method = make(
      config(init_channels=sizes.search_channels, cells=sizes.cells,
             batch_size=sizes.batch_size, **settings),
      spaces.get("darts"), num_classes=CLASSES, image_size=sizes.image_size)
  phase, = method.method().stages[-1].phases
  return _program(method, phase, sizes, sizes.batch_size)


def _program(method, phase, sizes, batch_size, *, images=0, **more):
  if not images:  # The phases that are asked to augment are those of epochs.
    phase = phase._replace(augment=False)
  return Program(phase._replace(observe=None), draw_state(method.init),
                 batch_size, sizes.image_size, images or 4 * batch_size, **more)


def draw_state(init: Callable[[jax.Array], Any]) -> Any:
  """A state by its shapes: what `init` would give, but other numbers."""
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    field, name = path[0].name, getattr(path[-1], "key", "")
    if devices_lib.is_key(leaf):
      return jax.random.key(0)
    if field in ("params", "policy") and leaf.ndim > 1:
      fan_in = max(np.prod(leaf.shape[-4:-1]), 1)
      return np.float32(rng.standard_normal(leaf.shape) / fan_in**0.5)
    if field == "alpha":
      return np.float32(1e-3 * rng.standard_normal(leaf.shape))
    filled = field in ("theta", "drawn") and leaf.dtype != jnp.int32
    return np.full(leaf.shape, filled or name in ("scale", "var"), leaf.dtype)

  return jax.tree_util.tree_map_with_path(
      draw, jax.eval_shape(init, jax.random.key(0)))
