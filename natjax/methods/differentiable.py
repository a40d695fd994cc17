"""Differentiable transformation, and proxyless adaptation.

"Differentiable Neural Architecture Transformation" and, the same method with a
self-supervised objective beside it, "Proxyless Neural Architecture Adaptation
for Supervised Learning and Self-Supervised Learning" (texts without authors;
equations and sections by the first). One run: every edge of the given network
is weighed by theta (equation 1, `mixture`), and for the first epochs,
on every mini-batch of all training images, the weights w take a step and then
theta takes one on the same batch (section 3.2). Then every edge keeps what
theta weighs most, and the same weights train on in the network that is left
(section 3.3); what comes out is trained.

theta_none multiplies zeros, so that it has no gradient and stays 0: it is the
threshold that the others must pass. A null edge that pads a node has
theta_same = 1 on its zeros, which has no gradient either, so that it becomes a
skip where theta_id comes to be above 1.

What the papers leave open, and how this differs from them:
- theta's optimizer is Adam without weight decay; the rate, and how long the
  first stage takes, are settings, whose defaults were found by trying
  (experiments/results/differentiable_trials).
- Nothing comes to cost more and no node dies (`theta_space`); the papers say
  nothing of either. Budgets are kept at the moment of derivation.
- In theta's half-step BN normalises by the batch and its statistics are left
  alone; those of w's half-step are kept. Its drop path and dropout are drawn
  anew.
- `one_backward` takes both gradients from one backward pass, at the same
  weights: the first stage then costs about what plain training does.
- What is derived is compared with the original, trained on the same images, on
  training images that neither has seen, and the original is returned where it
  is worse (`acceptance`); the papers, and the preset "paper", return what is
  derived unseen. So it is without labels, too: the neighbours and the linear
  classifier by which features are judged need images of their own.
- theta_same is dropped at derivation, as in the papers, or `fold`ed into the
  weights (`methods.folding`), which changes less of what the network computes.
"""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import drawing, errors
from natjax.graph import codec
from natjax.methods import (
  acceptance,
  bounds,
  entry,
  folding,
  listed,
  memory,
  supervised,
  theta_space,
)
from natjax.networks import inherit, trees
from natjax.objectives import classification as objectives
from natjax.training import distributed, optimizers, settings
from natjax.training import method as base


@dataclasses.dataclass(frozen=True)
class DifferentiableConfig(bounds.BoundsConfig):
  """Settings of the transformation; `supervised.TrainConfig` has the others.

  Attributes:
    architecture_epochs: of the epochs of the training, the first, in which
      theta is trained too; 0 is half of them, rounded up.
    theta_optimizer: "adam" or "sgd".
    theta_learning_rate: constant.
    theta_momentum: of SGD; of Adam, b1.
    theta_weight_decay: pulls theta towards 0.
    one_backward: whether w and theta take their gradients from one backward
      pass, before either takes its step.
    fold: whether theta_same is multiplied into the weights at derivation.
    held_out: part of the training images kept from all networks, on which what
      is derived is compared with the original, trained on the same images; the
      original is returned where it is better. 0 returns what is derived
      unseen. None is 0.1, and 0 without labels or without comparison.
    tolerance: by how many percentage points of the held-out images a cheaper
      network may be worse than the original.
    max_params: the most parameters of what is returned, if it is not the
      original: a number, with K, M or G, or a multiple of the given
      architecture's such as "0.8x"; empty for no limit but the guard's.
    max_madds: likewise, multiply-adds.
    keep: what is never changed, a list of places by the words of the table of
      changes: blocks:0-2,blocks:5 or blocks:3/edge:1-2 of a network of blocks,
      normal, reduce or normal/edge:0-2 of cells; stem and head, which nothing
      changes anyway. Where blocks are decided on together, those that are kept
      are left out.
  """

  architecture_epochs: int = 0
  theta_optimizer: str = "adam"
  theta_learning_rate: float = 1e-3
  theta_momentum: float = 0.9
  theta_weight_decay: float = 0.0
  one_backward: bool = False
  fold: bool = False
  held_out: float | None = None
  tolerance: float = 0.5
  max_params: str = ""
  max_madds: str = ""
  keep: str = settings.later("")


PRESETS = {
    "demo": DifferentiableConfig(theta_learning_rate=1e-2),
    "small": DifferentiableConfig(),
    "paper": DifferentiableConfig(architecture_epochs=300, held_out=0.0)}


def check(config: DifferentiableConfig, epochs: int) -> DifferentiableConfig:
  """Returns the settings if they fit a training of so long (InputError)."""
  settings.plain(config)
  settings.one_of(config, theta_optimizer=optimizers.NAMES)
  settings.not_negative(config, "architecture_epochs", "theta_learning_rate",
                        "theta_momentum", "theta_weight_decay")
  if config.architecture_epochs > epochs:
    settings.refuse(config, "architecture_epochs", "the whole training has"
                    f" {epochs} epochs; give fewer, or a longer training")
  settings.below_one_for_adam(config, "theta_optimizer", "theta_momentum")
  acceptance.check(config)
  bounds.check(config)
  return config


class DifferentiableState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far.
    params: w, with the projections of identities across shapes.
    theta: per group, f32[E, 3].
    batch_stats: running statistics of BN, the mean over devices.
    opt_state: of w.
    theta_opt_state: of theta.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  theta: theta_space.Theta
  batch_stats: Any
  opt_state: Any
  theta_opt_state: Any
  rng: jax.Array


class Differentiable:
  """The method's parts; `method` makes the record of its first stage.

  Attributes:
    config: the settings.
    train: those of the training.
    space: what theta chooses from.
    bounds: the budget of what is derived.
    objective: of the network that theta weighs.
    epochs: of the first stage.
  """

  def __init__(self, config: DifferentiableConfig,
               train: supervised.TrainConfig, architecture: codec.Architecture,
               *, num_classes: int, image_size: int, share: str = "cell",
               steps_per_epoch: int = 1,
               make_objective: objectives.Maker = supervised.classification,
               watch: supervised.Watch | None = None, embedding: int = 0,
               together: int = 1):
    """Args:
      config: the settings.
      train: those of the training: epochs of both stages together, schedules.
      architecture: what to transform.
      num_classes: of the data.
      image_size: side of the images.
      share: "cell" or "full", see `methods.theta_space`.
      steps_per_epoch: updates per epoch.
      make_objective: `(train, architecture, place)` gives the objective.
      watch: see `supervised.Supervised`.
      embedding: of the place, see `records.Skeleton`.
      together: devices over which a training is mapped, which may divide the
        objective's parameters.

    Raises:
      InputError: settings that do not fit together.
      errors.NotMet: nothing keeps to the budget of the settings.
    """
    self.train = train = supervised.resolve(train, architecture.kind)
    supervised.plain(train, "differentiable")
    self.config = check(config, train.epochs)
    place = supervised.place_of(train, architecture.kind,
                                num_classes=num_classes, image_size=image_size,
                                embedding=embedding)
    self.space = theta_space.ThetaSpace(
        architecture, place, share, config.keep,
        batch=config.inference_batch, dtype=train.dtype)
    self.bounds = bounds.Bounds(config, architecture, place, train.dtype)
    self.space.reachable(self.bounds.limits)
    self._make_objective = lambda *of: make_objective(train, *of).over(together)
    self._watch = watch
    self._sizes = {"num_classes": num_classes, "image_size": image_size,
                   "steps_per_epoch": steps_per_epoch}
    self.objective = self._make_objective(self.space.architecture, place)
    self.epochs = config.architecture_epochs or -(-train.epochs // 2)
    self.steps = train.epochs * steps_per_epoch
    self._divided = base.parts_of(self.objective.divides)
    self.optimizer = optimizers.scheduled(
        train, self.steps, train.optimizer, divided=self._divided)
    self.theta_optimizer = optimizers.coupled(
        config.theta_optimizer, config.theta_learning_rate,
        momentum=config.theta_momentum, weight_decay=config.theta_weight_decay)

  def method(self) -> base.Method:
    """The record of the first stage, that `training.fit` drives."""
    metrics = self.objective.metrics
    if not self.config.one_backward:
      metrics = (*metrics, "theta_loss")
    # Theta's gradient goes back through the images alone, not to w.
    phase = base.Phase("train", ("train",), self.update, metrics,
                       observe=self.observe,
                       passes=3.0 if self.config.one_backward else 5.0)
    return base.Method(
        init=self.init,
        stages=(base.Stage("architecture", self.epochs, (phase,), self.end),),
        evaluate=self.evaluate, derive=self.derive, features=self.features,
        divided=self._divided,
        explain=lambda state: "the network that theta weighs")

  def init(self, rng: jax.Array) -> DifferentiableState:
    """Draws the state of the first stage; theta begins at (0, 0, 1)."""
    rng_params, rng_state = jax.random.split(rng)
    return self._begun(self._drawn(rng_params), rng_state)

  def _drawn(self, rng):
    """The variables of the network that theta weighs where it begins."""
    return self.objective.init(rng, edge=self.space.weigh(self.space.init()))

  def _begun(self, variables, rng):
    variables, theta = self.objective.filled(variables), self.space.init()
    return DifferentiableState(
        step=jnp.zeros((), jnp.int32), **variables, theta=theta,
        opt_state=jax.jit(self.optimizer.init)(variables["params"]),
        theta_opt_state=self.theta_optimizer.init(theta), rng=rng)

  def begin(self, variables: Any, rng: jax.Array) -> DifferentiableState:
    """The first state, of a trained network's variables.

    It computes what the network does, since theta begins at (0, 0, 1); the
    projections of identities across shapes are drawn.

    Args:
      variables: of the given architecture, "params" and "batch_stats".
      rng: a key.
    """
    rng_params, rng_state = jax.random.split(rng)
    drawn = self._drawn(rng_params)
    known = inherit.renumbered(variables, jax.eval_shape(
        self.objective.init, jax.random.key(0)))
    return self._begun({
        kind: trees.restrict(trees.joined(tree, known[kind]), tree)
        for kind, tree in drawn.items()}, rng_state)

  def loss(self, params: Any, theta: theta_space.Theta,
           state: DifferentiableState, batch: base.Batch,
           rng: jax.Array) -> tuple[jax.Array, objectives.Aux]:
    """The objective's loss of the network that theta weighs."""
    rate = (self.train.drop_path * state.step / self.steps
            if self.train.drop_path else None)
    return self.objective.loss(
        params, state.batch_stats, batch, drop_path=rate,
        rng=base.device_key(rng), edge=self.space.weigh(theta))

  def update(self, state: DifferentiableState, batch: base.Batch
             ) -> tuple[DifferentiableState, dict[str, jax.Array]]:
    """One mini-batch: w takes a step, then theta (Figure 1)."""
    rng, rng_w, rng_theta = jax.random.split(state.rng, 3)
    one = self.config.one_backward
    state, metrics, grads = self.update_weights(state, batch, rng_w, both=one)
    if not one:
      grads, _, of_theta = self._gradients((1,), state, batch, rng_theta)
      grads, metrics["theta_loss"] = base.mean_over_devices(
          (grads, of_theta["loss"]))
    updates, opt_state = self.theta_optimizer.update(
        grads[-1], state.theta_opt_state, state.theta)
    return state._replace(
        step=state.step + 1, theta=optax.apply_updates(state.theta, updates),
        theta_opt_state=opt_state, rng=rng), metrics

  def update_weights(
      self, state: DifferentiableState, batch: base.Batch, rng: jax.Array, *,
      both: bool = False,
  ) -> tuple[DifferentiableState, dict[str, jax.Array], tuple[Any, ...]]:
    """The half-step of w, theta held still.

    Returns:
      The state, the metrics, and the gradients: of w, and of theta if `both`.
    """
    grads, batch_stats, metrics = self._gradients(
        (0, 1) if both else (0,), state, batch, rng)
    grads = base.mean_over_devices(
        grads, self._divided(grads) if self._divided else None)
    batch_stats, metrics = base.mean_over_devices((batch_stats, metrics))
    state = supervised.descend(
        self.optimizer, state, grads[0], batch_stats=batch_stats)
    return state, metrics, grads

  def _gradients(self, of, state, batch, rng):
    """Gradients by w (0) and theta (1), statistics of BN and metrics."""

    def gradient(batch, batch_stats, rng):
      (loss, (batch_stats, metrics)), grads = jax.value_and_grad(
          self.loss, of, has_aux=True)(
              state.params, state.theta,
              state._replace(batch_stats=batch_stats), batch, rng)
      return grads, batch_stats, {"loss": loss, **metrics}

    return supervised.in_parts(
        gradient, self.train.accumulate,
        tuple((state.params, state.theta)[i] for i in of), batch,
        state.batch_stats, rng)

  def observe(self, state: DifferentiableState, epoch: int) -> dict[str, Any]:
    """Theta by groups, for the metrics of an epoch."""
    watched = self._watch(self.method(), state, epoch) if self._watch else {}
    return {"theta": self.space.named(state.theta),
            "edges": self.space.edges, **watched}

  def evaluate(self, state: DifferentiableState,
               batch: base.Batch) -> jax.Array:
    """f32[B], 1 where the network that theta weighs is right."""
    return self.objective.is_right(
        self._whole(state), batch, edge=self.space.weigh(state.theta))

  def features(self, state: DifferentiableState,
               images: jax.Array) -> jax.Array:
    """f32[B, F] of normalised images, of an objective without labels."""
    return self.objective.features(self._whole(state), images,
                                   edge=self.space.weigh(state.theta))

  def _whole(self, state):
    """The network's variables, without what filled them up."""
    return self.objective.whole(supervised.variables(state))

  def prepare(self, folder: pathlib.Path,
              processes: distributed.Processes) -> None:
    """Measures what a budget of latency needs; see `bounds.Bounds.prepare`."""
    def fastest(own):
      return self.space.apply(
          self.space.fastest(self.space.times(own.latency)))

    bounds.prepare((self.bounds,), fastest, folder, processes)

  def _choose(self, theta):
    """What theta chooses within the budget, that of latency as measured."""
    space, own = self.space, self.bounds
    free = own.limits._replace(seconds=None)
    chosen = space.choose(theta, free)
    if own.latency is None or own.fast(own.given) or (
        own.fast(space.apply(chosen))):
      return chosen
    times = space.times(own.latency)
    most = space.fastest(times)
    if not free.allows(*own.spent(space.apply(most))):
      most = chosen
    before = space.total(times, chosen)

    def choose(wanted):
      try:
        return space.choose(
            theta, free._replace(seconds=before - wanted), times)
      except errors.NotMet:
        return None

    return own.closely(
        own.seconds(space.apply(chosen)), choose, most,
        before - space.total(times, most), space.apply,
        lambda choice: -space.weight(theta, choice))

  def end(self, state: DifferentiableState) -> base.Handover:
    """Fixes the architecture (section 3.3) and moves into its network.

    Args:
      state: at the end of the first stage.

    Returns:
      The training of the derived network on the same schedule, from the
      surviving weights, statistics and optimizer slots; a report with "theta"
      by group and of every change ("explained"), "folded" and "not_folded"
      edges, and "guarded", the edges where the guards or the budget overruled
      what theta chose; "latency" and "memory" where a budget asks for them.

    Raises:
      errors.NotMet: nothing keeps to the budget of the settings.
    """
    chosen = self._choose(state.theta)
    wanted = self.space.favourites(state.theta)
    architecture = self.space.apply(chosen)
    network = supervised.Supervised(
        self.train, architecture, watch=self._watch, **self._sizes,
        objective=self._make_objective(architecture, self.space.place))
    moved = move(state, network)
    report = {"theta": self.space.named(state.theta), "guarded": [
        {"cell": g.name, "source": g.cell.edges[e].source,
         "target": g.cell.edges[e].target, "theta": g.outcome(e, w[e]),
         "chosen": g.outcome(e, c[e])}
        for g, c, w in zip(self.space.groups, chosen, wanted, strict=True)
        for e in np.flatnonzero(c != w).tolist()],
              "explained": self.space.explained(state.theta, architecture),
              **self.bounds.told(architecture)}
    if self.config.fold:
      params, folded, left = folding.fold(
          moved.params, self.space, chosen, state.theta)
      moved = moved._replace(params=params)
      report |= {"folded": folded, "not_folded": left}
    return base.Handover(
        network.method("network", self.train.epochs - self.epochs), moved,
        architecture, report)

  def derive(self, state: DifferentiableState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """The derived network as it is at the end of the first stage."""
    end = self.end(state)
    return base.Derived(end.architecture, self.objective.whole(
        supervised.variables(end.state)), end.report)


def move(state: DifferentiableState,
         method: supervised.Supervised) -> supervised.TrainState:
  """Moves what survives into the state of a derived network.

  An edge's module bears the same name in both networks (`edge3_conv_3x3`, and
  `edge3_skip_connect` of an identity), so weights, statistics and optimizer
  slots are found by their paths.
  """
  like = jax.eval_shape(method.init, jax.random.key(0))
  return supervised.TrainState(
      step=state.step, rng=state.rng, **{
          name: trees.restrict(getattr(state, name), getattr(like, name))
          for name in ("params", "batch_stats", "opt_state")})


def build(request: entry.Request) -> entry.Plan:
  """What a job needs to run the transformation; see `entry`."""
  given = request.architecture
  assert given is not None  # As the entry says.
  method = Differentiable(
      request.settings, request.train, given, share=request.share,
      num_classes=request.num_classes, image_size=request.image_size,
      steps_per_epoch=request.num_images // request.train.batch_size,
      make_objective=request.make_objective, watch=request.watch,
      embedding=request.place.embedding, together=request.together)
  space = method.space

  def estimate(batch):
    like = jax.eval_shape(method.init, jax.random.key(0))
    params = memory.size(jax.eval_shape(method.objective.whole, {
        "params": like.params})["params"])
    given = memory.network_bytes(
        space.architecture, space.place, batch // request.train.accumulate,
        request.train.dtype)
    further = method.steps * (
        method.train.epochs - method.epochs) // method.train.epochs
    return {"params": params, "theta": memory.size(like.theta),
            "madds": space.madds, "further_steps": further,
            # At most: what is derived costs no more than what was given.
            "further_madds": 3 * further * space.cost.madds,
            "memory_bytes": 12 * (params - space.cost.params) + given}

  return entry.Plan(
      method.method(), method.config, space.architecture, space.describe(),
      {"train": 1.0}, request.train.batch_size, estimate, begin=method.begin,
      bounds=(method.bounds,),
      prepare=method.prepare if method.bounds.latency else None)


ENTRY = entry.Entry(
    DifferentiableConfig, build,
    lambda preset, objective, kind: DifferentiableConfig(
        architecture_epochs=250, held_out=0.0) if (preset, objective) == (
            "paper", "simclr") else PRESETS[preset],
    listed.LINES["differentiable"],
    trained=True, compared=True, objectives=entry.OBJECTIVES, label="theta",
    # Section 4.1 trains all networks so, and cuts out for those found by a
    # search alone.
    training={("paper", "supervised"): {
        "epochs": 600, "learning_rate": 0.025, "seeds": 5}},
    model="with theta", reports=("train_accuracy_before_derivation",
                                 "train_accuracy_after_derivation", "guarded",
                                 "latency", "memory"),
    pictures={"theta.svg": drawing.save_theta},
    kept="The original was kept: on no edge did theta come to weigh another"
    " choice more than the operation, or what it chose is worse on the held-out"
    " images (where there are none, its weights are those that were trained"
    " beside theta). A longer first stage (architecture-epochs) or another"
    " theta-learning-rate may find one that is not.")
