"""SPOS: a supernet trained by single paths, then a search by its accuracy.

Guo, Zhang, Mu, Heng, Liu, Wei, Sun: "Single Path One-Shot Neural Architecture
Search with Uniform Sampling", ECCV 2020. Every step draws one architecture of
the space, all equally likely (`spaces.paths`), and trains its weights in the
supernet (equation 7). Then candidates are drawn, or bred by evolution (section
3.4), within the budget: of each, the statistics of BN are measured on images
that the weights learn from (section 3.4, "batch normalization statistics"), and
the images of the other part say how accurate it is by these. The most accurate
is what was found; of equal ones the first.

What is not on a path takes no step: its weights, the momentum and the decay of
them are left as they are, as PyTorch leaves parameters whose gradient is None.
NAT's supernet (`nat`), as other methods here, lets momentum and decay move what
the step did not sample. On the path is whatever belongs to an operation that it
chooses, and what no path leaves out: stem, head, what brings inputs to a cell.

Where the released code differs from the paper, both can be had: paths within a
window of multiply-adds, of which first one bin and then a path in it is drawn
(after 500 draws the last one is taken); decay of kernels alone.

How this differs: the learning rate may fall along a cosine, too; images are not
0 to 255; the statistics of BN are means over the batches that measure them,
where theirs fade.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import spaces
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.methods import evolution, halves, listed, single_path
from natjax.methods import search as search_lib
from natjax.objectives import classification as objectives
from natjax.spaces import paths as paths_lib
from natjax.spaces import places as places_lib
from natjax.training import method as base
from natjax.training import optimizers, settings

SCHEDULES = ("cosine", "linear")
SEARCHES = ("evolution", "random")
_DRAWS = 500  # Of a path within a window, as in the released code.
_TRIES = 1000  # Of one before anything is trained.


@dataclasses.dataclass(frozen=True)
class SPOSConfig(evolution.EvolutionConfig, search_lib.SupernetConfig):
  """Settings of SPOS; those of the supernet and of the evolution, and

  Attributes:
    schedule: of the learning rate, "cosine" or "linear".
    decay_vectors: whether weight decay holds for biases and BN, too.
    label_smoothing: of the labels that the weights learn.
    path_min_madds: the least multiply-adds of a path that is trained, of the
      network that is trained in the end: a number, with K, M or G; empty for
      none.
    path_max_madds: likewise the most, which is not reached.
    path_bins: equal parts of that window, all equally likely; 1 draws in the
      whole.
    search: how candidates are found: by "evolution", or "random": as many, all
      of which are drawn.
    calibration: images on which the statistics of BN are measured, of every
      candidate.
  """

  schedule: str = "cosine"
  decay_vectors: bool = False
  label_smoothing: float = 0.0
  path_min_madds: str = ""
  path_max_madds: str = ""
  path_bins: int = 1
  search: str = "evolution"
  calibration: int = 2560


_FEW: dict[str, Any] = {"population": 20, "generations": 5, "parents": 5,
                        "mutations": 10, "crossovers": 5}
PRESETS = {
    # Every choice of a place is trained in its turn, which takes many steps.
    "demo": SPOSConfig(**_FEW, init_channels=8, cells=4, epochs=80,
                       batch_size=32, learning_rate=0.05, calibration=320),
    "small": SPOSConfig(**_FEW | {"generations": 10}, epochs=25),
    # Of ImageNet, 150,000 steps.
    "paper": SPOSConfig(
        epochs=120, batch_size=1024, learning_rate=0.5, final_learning_rate=0.0,
        schedule="linear", weight_decay=4e-5, max_grad_norm=0.0,
        label_smoothing=0.1, calibration=25600)}


class SPOSState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far.
    params: of the supernet.
    opt_state: of params.
    path: `CellArrays` [G, N, K], that was trained last.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  opt_state: Any
  path: arrays_lib.CellArrays
  rng: jax.Array


class SPOS(single_path.SinglePath):
  """See the module.

  Attributes:
    places: of the space, by which candidates are bred.
    evolution: of them, or their random search.
  """

  def __init__(self, config: SPOSConfig, space: spaces.Space, **sizes: Any):
    """As `search.Search`.

    Raises:
      InputError: as there, a window without an end, or one or a budget that no
        path keeps to (`evolution.among`).
    """
    config = resolve(config, space.graph.kind)
    super().__init__(config, space, **sizes)
    self.optimizer = _optimizer(config, self.steps_per_epoch)
    self._window = _window(config, self.paths)
    self.places = places_lib.Places(self.connections)
    bred = config if config.search == "evolution" else (
        evolution.drawn(config))
    self.evolution = evolution.among(self.places, bred, self.limits)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phase = base.Phase("weights", ("weights",), self.update,
                       ("loss", "accuracy", "madds", "within"),
                       observe=self.observe)
    # What judges is walked when the search ends.
    return base.Method(
        init=self.init, derive=self.derive, explain=self.explain,
        stages=(base.Stage("supernet", self.config.epochs, (phase,)),))

  def init(self, rng: jax.Array) -> SPOSState:
    """Draws the state that training starts from."""
    rng_w, rng_path, rng_state = jax.random.split(rng, 3)
    params = self.supernet.init(rng_w)["params"]
    return SPOSState(
        step=jnp.zeros((), jnp.int32), params=params,
        opt_state=jax.jit(self.optimizer.init)(params),
        path=jax.jit(self.paths.draw)(rng_path), rng=rng_state)

  def update(self, state: SPOSState, batch: base.Batch
             ) -> tuple[SPOSState, dict[str, jax.Array]]:
    """A step of the weights on one path, the same on all devices."""
    rng, rng_path, rng_step = jax.random.split(state.rng, 3)
    drawn = self.sample(rng_path)
    (loss, accuracy), grads = base.mean_over_devices(jax.value_and_grad(
        self.loss, has_aux=True)(
            state.params, drawn.arrays, batch, base.device_key(rng_step)))
    params, opt_state = self.descend(
        state.params, state.opt_state, grads,
        self.on_path(state.params, drawn.arrays))
    return SPOSState(state.step + 1, params, opt_state, drawn.arrays, rng), {
        "loss": loss, "accuracy": accuracy, "madds": drawn.madds,
        "within": drawn.met}

  def sample(self, rng: jax.Array) -> paths_lib.Drawn:
    """The path of a step."""
    if self._window is None:
      arrays = self.paths.draw(rng)
      return paths_lib.Drawn(arrays, self.paths.madds(arrays),
                             jnp.ones((), jnp.int32), jnp.ones(()))
    rng_bin, rng_path = jax.random.split(rng)
    low, high = self._window
    number = jax.random.randint(rng_bin, (), 0, self.config.path_bins)
    # One bin is the whole window, which may have no end.
    width = (high - low) / self.config.path_bins
    if self.config.path_bins > 1:
      low = low + number * width
      high = low + width
    return self.paths.within(rng_path, low, high, _DRAWS)

  def loss(self, params: Any, path: arrays_lib.CellArrays, batch: base.Batch,
           rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and accuracy of a path, f32[]."""
    logits = self.supernet.apply(params, path, batch["image"], rng=rng)
    labels = optax.smooth_labels(
        jax.nn.one_hot(batch["label"], logits.shape[-1]),
        self.config.label_smoothing)
    return (jnp.mean(optax.softmax_cross_entropy(logits, labels)),
            jnp.mean(objectives.right(logits, batch["label"])))

  def observe(self, state: SPOSState, epoch: int) -> dict[str, Any]:
    """The path that was trained last."""
    del epoch
    return {"path": self._short(state.path)}

  def explain(self, state: SPOSState) -> str:
    """The path that was trained last."""
    return codec.to_line(self.paths.decode(state.path))

  def derive(self, state: SPOSState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """The most accurate candidate; of equal ones the first.

    The report has "tried", a row per candidate in the order in which they were
    scored ("accuracy", "params", "madds", and its "operations", layer by layer,
    of a chain, or its "architecture"), "child_accuracy", that of what was
    found, and "operations", of a chain its layers.
    """
    drawn: list[arrays_lib.CellArrays] = []

    def judge(genes):
      some = [self.paths.encode(self.places.architecture(g)) for g in genes]
      drawn.extend(some)
      return [self.accuracy(
          state.params, one, score, self.config.calibration) for one in some]

    accuracy = self.evolution.search(rng, judge).scores.tolist()
    word = "operations" if self.connections.space.chain else "architecture"
    rows = []
    for one, value in zip(drawn, accuracy, strict=True):
      cost = self.paths.cost(one)
      rows.append({"accuracy": round(value, 6), "params": cost.params,
                   "madds": cost.madds, word: self._short(one)})
    best = int(np.argmax(accuracy))
    found = self.paths.decode(drawn[best])
    return base.Derived(self.connections.space.written(found), None, {
        "tried": rows, "child_accuracy": accuracy[best],
        **self.layers(drawn[best])})


def _optimizer(config, steps_per_epoch):
  steps = config.epochs * steps_per_epoch
  schedule = optimizers.cosine(
      config.learning_rate, steps, config.final_learning_rate
  ) if config.schedule == "cosine" else optax.linear_schedule(
      config.learning_rate, config.final_learning_rate, max(steps, 1))
  return optimizers.coupled(
      "sgd", schedule, momentum=config.momentum, nesterov=config.nesterov,
      weight_decay=config.weight_decay, max_grad_norm=config.max_grad_norm,
      decayed=None if config.decay_vectors else optimizers.kernels)


def _window(config, paths):
  """The window of multiply-adds in millions, or None."""
  ends = [budget_lib.parse(getattr(config, name), None,
                           option=settings.word(name))
          for name in ("path_min_madds", "path_max_madds")]
  if ends == [None, None]:
    if config.path_bins > 1:
      settings.refuse(config, "path_bins", "divides a window of multiply-adds,"
                      " and none is given; give path-min-madds and"
                      " path-max-madds, or leave it out")
    return None
  low, high = (None if end is None else end * 1e-6 for end in ends)
  name = "path_max_madds" if low is None else "path_min_madds"
  paths_lib.refuse_window(paths, name)
  if config.path_bins > 1 and None in ends:
    settings.refuse(config, "path_bins", "divides a window that has no end;"
                    " give both path-min-madds and path-max-madds")
  low, high = low or 0.0, np.inf if high is None else high
  if not low < high:
    settings.refuse(config, "path_min_madds", f"must be below path-max-madds,"
                    f" {config.path_max_madds}; give a wider window")
  drawn = jax.jit(lambda rng: paths.within(rng, low, high, _TRIES))(
      jax.random.key(0))
  if not drawn.met:
    settings.refuse(
        config, name, f"leaves a window that none of {_TRIES} paths drawn from"
        f" search space '{paths.space.name}' lies in, the last having"
        f" {float(drawn.madds):.1f}M multiply-adds; give a wider window")
  return np.float32(low), np.float32(high)


def resolve(config: SPOSConfig, kind: str) -> Any:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: the settings; None is filled in.
    kind: "cells" or "blocks", of the space's graph.

  Raises:
    InputError: a number out of range, or sizes that do not apply to the kind.
  """
  config = search_lib.resolve(config, kind)
  settings.one_of(config, schedule=SCHEDULES, search=SEARCHES)
  settings.at_least_one(config, "path_bins", "calibration")
  evolution.check(
      config if config.search == "evolution" else evolution.drawn(config))
  if not 0 <= config.label_smoothing < 1:
    settings.refuse(config, "label_smoothing", "must lie in [0, 1); give 0.1")
  return config


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run it; see `entry`."""
  space = halves.space_of(request)
  config = resolve(request.settings, space.graph.kind)
  method = SPOS(
      config, space, num_classes=request.num_classes,
      image_size=request.image_size, target=request.place,
      steps_per_epoch=halves.steps(request, config)["weights"])
  return halves.plan(method.method(), method.supernet, space, config,
                     lambda state: state.params)


ENTRY = entry_lib.Entry(
    SPOSConfig, build,
    lambda preset, objective, kind: halves.preset(
        PRESETS[preset], kind, preset),
    listed.LINES["spos"], starts="space",
    reports=("tried", "child_accuracy", "operations"),
    idle={("search", "random"): evolution.BREEDING})
