"""What differentiable searches have in common: alpha beside the weights.

Strengths alpha of all connections of a space (`spaces.connections`) are trained
beside the weights w of a supernet (Liu et al., 2019, DARTS, Algorithm 1): at
every iteration alpha takes a step on a batch of one half of the images, and w
one on a batch of the other half. A method says what weights alpha gives to the
connections of every block, and which ones would be kept.

Both half-steps, and what second order needs besides, run one compiled gradient,
of w and alpha at once, in a loop: compiled apart, they would take twice as long
to compile and a sixth less to run.

Differences from the authors' programs: the learning rate of w falls step by
step, not epoch by epoch; BN in search always normalises by the batch, also
where accuracies are measured; images of the second half are drawn without
replacement.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import errors, operations, spaces
from natjax.costs import budget as budget_lib
from natjax.graph import codec, records
from natjax.methods import entry as entry_lib
from natjax.methods import halves
from natjax.networks import rules
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.spaces import connections
from natjax.training import method as base
from natjax.training import optimizers, settings

# What stands in the result of every seed.
REPORTS = ("parent_accuracy", "child_accuracy", "skips", "connections")


@dataclasses.dataclass(frozen=True)
class SearchConfig:
  """Settings of a search by alpha. The defaults are DARTS's on CIFAR.

  None is what the space usually has.

  Attributes:
    init_channels: C of the supernet, of cells.
    cells: L of the supernet, of cells.
    supernet_width: factor of the supernet's widths, of a network of blocks.
    epochs: of the search, each a walk over the images for the weights.
    warmup_epochs: of these, the first, in which alpha is not trained.
    batch_size: over all devices, of both halves.
    learning_rate: of the weights' SGD.
    final_learning_rate: where its cosine schedule ends.
    momentum: of SGD.
    nesterov: whether it is Nesterov's.
    weight_decay: of SGD, of all weights.
    max_grad_norm: clips the gradient of the weights; 0 does not.
    alpha_learning_rate: of Adam, constant.
    alpha_momentum: b1 of Adam.
    alpha_weight_decay: pulls alpha towards 0.
    weights_first: whether the weights take their step before alpha does, as in
      NAS-Bench-201's programs.
    weights_fraction: of the training images for the weights; the others are
      alpha's.
    max_params: the most parameters of the network that is trained in the end: a
      number, with K, M or G; empty for no limit.
    max_madds: likewise, multiply-adds.
    dtype: "float32" or "bfloat16", of the supernet's computation.
  """

  init_channels: int | None = None
  cells: int | None = None
  supernet_width: float | None = None
  epochs: int = 50
  warmup_epochs: int = 0
  batch_size: int = 64
  learning_rate: float = 0.025
  final_learning_rate: float = 0.001
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 3e-4
  max_grad_norm: float = 5.0
  alpha_learning_rate: float = 3e-4
  alpha_momentum: float = 0.5
  alpha_weight_decay: float = 1e-3
  weights_first: bool = False
  weights_fraction: float = 0.5
  max_params: str = ""
  max_madds: str = ""
  dtype: str = "float32"


def resolve(config: Any, kind: str) -> Any:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: a `SearchConfig`; None is filled in.
    kind: "cells" or "blocks", of the space's graph.

  Raises:
    InputError: a number out of range, or sizes that do not apply to the kind.
  """
  config = halves.sized(config, kind)
  settings.plain(config)
  settings.one_of(config, dtype=("float32", "bfloat16"))
  settings.at_least_one(config, "epochs", "batch_size")
  settings.above_zero(config, "supernet_width")
  settings.not_negative(
      config, "learning_rate", "final_learning_rate", "momentum",
      "weight_decay", "max_grad_norm", "alpha_learning_rate", "alpha_momentum",
      "alpha_weight_decay")
  if config.alpha_momentum >= 1:
    settings.refuse(config, "alpha_momentum", "must be below 1; give 0.5")
  if not 0 <= config.warmup_epochs < config.epochs:
    settings.refuse(config, "warmup_epochs", "must lie in [0, epochs) with"
                    f" epochs {config.epochs}, since alpha needs epochs too;"
                    " give fewer")
  halves.check_fraction(config)
  return config


class SearchState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], iterations so far.
    params: w, of the supernet.
    alpha: of the method, a pytree: "alpha" holds f32[E, O] per group.
    opt_state: of w.
    alpha_opt_state: of alpha.
    rng: a key, split anew at every iteration.
  """

  step: jax.Array
  params: Any
  alpha: Any
  opt_state: Any
  alpha_opt_state: Any
  rng: jax.Array


class Search:
  """A search by alpha; a method overrides what stands first.

  Attributes:
    config: the settings, resolved.
    connections: what may be chosen.
    supernet: the supernet.
    limits: the budget.
    steps_per_epoch: iterations per epoch.
  """

  # Whether `null` competes where nodes choose their inputs.
  null = True

  def mix(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """The weights of connections where they are weighed, f32[E, O] per group.

    Args:
      alpha: of the state.
      step: i32[], iterations so far.
    """
    raise NotImplementedError

  def keep(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """The connections that would be derived, bool[E, O] per group."""
    raise NotImplementedError

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """What is kept, made cheaper until it meets the budget (errors.NotMet)."""
    return self.connections.within(kept, strengths, self.limits)

  def engines(self) -> frozenset[int]:
    """The blocks whose connections are weighed; others have what is kept."""
    return frozenset(range(len(self.supernet.plan.network.blocks)))

  def init_alpha(self, rng: jax.Array) -> Any:
    """Draws alpha: 1e-3 times a normal distribution, as DARTS does."""
    keys = jax.random.split(rng, len(self.connections.groups))
    return {"alpha": [1e-3 * jax.random.normal(key, group.allowed.shape)
                      for key, group in zip(keys, self.connections.groups,
                                            strict=True)]}

  def penalty(self, alpha: Any) -> jax.Array:
    """What is added to alpha's loss, f32[]."""
    del alpha
    return jnp.zeros(())

  def observed(self, alpha: Any, step: jax.Array) -> dict[str, Any]:
    """Further values of a row of metrics."""
    del alpha, step
    return {}

  def __init__(self, config: Any, space: spaces.Space, *, num_classes: int,
               image_size: int, target: records.Place | None = None,
               steps_per_epoch: int = 1):
    """Args:
      config: the settings.
      space: the search space.
      num_classes: of the data.
      image_size: side of the images.
      target: where what is found is trained; None is where it is searched in.
      steps_per_epoch: iterations per epoch.

    Raises:
      InputError: settings that do not fit, a space that leaves no choice, or
        nothing in it that keeps to the budget.
    """
    kind = space.graph.kind
    if space.loose_end:
      raise errors.InputError(
          f"search space '{space.name}' concatenates the nodes that feed no"
          " other, which strengths of connections do not decide; choose a space"
          " that concatenates all nodes, or method random", "space")
    self.config = config = resolve(config, kind)
    place = codec.place(kind, "cifar", config.init_channels, config.cells,
                        num_classes=num_classes, image_size=image_size)
    self.connections = connections.Connections(
        space, place, target, null=self.null)
    self.supernet = supernet_lib.Supernet(
        space, place, jnp.dtype(config.dtype), config.supernet_width)
    for i in range(len(self.supernet.plan.network.blocks)):
      self.supernet.plan.passes(i)  # Refuses what cannot be built.
    self.steps_per_epoch = steps_per_epoch
    self.optimizer = optimizers.scheduled(
        config, config.epochs * steps_per_epoch, nesterov=config.nesterov)
    self.alpha_optimizer = optimizers.coupled(
        "adam", config.alpha_learning_rate, momentum=config.alpha_momentum,
        weight_decay=config.alpha_weight_decay)
    self.limits = budget_lib.read(
        config.max_params, config.max_madds, None)
    if self.limits:
      zeros = [np.zeros(g.allowed.shape) for g in self.connections.groups]
      try:
        self.within(self.connections.strongest(
            zeros, distinct_edges=True), zeros)
      except errors.NotMet as e:
        raise errors.InputError(str(e)) from e

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    warmup = self.config.warmup_epochs
    weights = base.Phase(
        "weights", ("weights",), self.update_weights, ("loss", "accuracy"),
        observe=self.observe)
    both = base.Phase(
        "search", ("weights", "architecture"), self.update,
        ("loss", "accuracy", "alpha_loss", "alpha_accuracy"),
        observe=self.observe)
    return base.Method(
        init=self.init, stages=(
            base.Stage("warmup", warmup, (weights,)),
            base.Stage("search", self.config.epochs - warmup, (both,))),
        derive=self.derive, explain=self.explain)

  def init(self, rng: jax.Array) -> SearchState:
    """Draws the state that training starts from."""
    rng_w, rng_alpha, rng_state = jax.random.split(rng, 3)
    params = self.supernet.init(rng_w)["params"]
    alpha = self.init_alpha(rng_alpha)
    return SearchState(
        step=jnp.zeros((), jnp.int32), params=params, alpha=alpha,
        opt_state=jax.jit(self.optimizer.init)(params),
        alpha_opt_state=self.alpha_optimizer.init(alpha), rng=rng_state)

  def how(self, alpha: Any, step: jax.Array) -> list[supernet_lib.How]:
    """What stands on the edges of every block."""
    soft, engines = self._how(self.mix(alpha, step)), self.engines()
    if len(engines) == len(soft):
      return soft
    hard = self.how_kept(lax.stop_gradient(self.keep(alpha, step)))
    return [s if i in engines else h
            for i, (s, h) in enumerate(zip(soft, hard, strict=True))]

  def how_kept(self, kept: connections.Strengths) -> list[supernet_lib.How]:
    """What stands there in the sub-network of the kept connections."""
    return self._how([jnp.asarray(mask, jnp.float32) for mask in kept])

  def _how(self, weights):
    nodes = max(d.cell.num_nodes for d in self.connections.decisions)
    return self.supernet.weighed(
        self.connections.per_decision(weights),
        jnp.ones((len(self.connections.decisions), nodes)), rules.sparse)

  def loss(self, params: Any, alpha: Any, step: jax.Array, batch: base.Batch,
           rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy and accuracy of the supernet, f32[]."""
    logits, _ = self.supernet.run(
        {"params": params}, self.how(alpha, step), batch["image"], rng=rng)
    loss = optax.softmax_cross_entropy_with_integer_labels(
        logits, batch["label"])
    return jnp.mean(loss), jnp.mean(objectives.right(logits, batch["label"]))

  def gradient(self, params: Any, alpha: Any, step: jax.Array,
               batch: base.Batch, rng: jax.Array) -> Any:
    """Means over devices: (loss, accuracy), (gradient of w, of alpha)."""
    return base.mean_over_devices(jax.value_and_grad(
        self.loss, (0, 1), has_aux=True)(params, alpha, step, batch, rng))

  def descend(self, state: SearchState, grads: Any) -> SearchState:
    """A step of the weights."""
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    return state._replace(params=optax.apply_updates(state.params, updates),
                          opt_state=opt_state)

  def descend_alpha(self, state: SearchState, grads: Any) -> SearchState:
    """A step of alpha, down its loss and what is added to it."""
    grads = jax.tree.map(jnp.add, grads, jax.grad(self.penalty)(state.alpha))
    updates, opt_state = self.alpha_optimizer.update(
        grads, state.alpha_opt_state, state.alpha)
    return state._replace(alpha=optax.apply_updates(state.alpha, updates),
                          alpha_opt_state=opt_state)

  def update_weights(self, state: SearchState, batch: base.Batch
                     ) -> tuple[SearchState, dict[str, jax.Array]]:
    """An iteration that leaves alpha alone."""
    rng, rng_step = jax.random.split(state.rng)
    (loss, accuracy), (grads, _) = self.gradient(
        state.params, state.alpha, state.step, batch, base.device_key(rng_step))
    state = self.descend(state, grads)
    return state._replace(step=state.step + 1, rng=rng), {
        "loss": loss, "accuracy": accuracy}

  def update(self, state: SearchState, weights: base.Batch,
             architecture: base.Batch
             ) -> tuple[SearchState, dict[str, jax.Array]]:
    """An iteration of Algorithm 1: a step of alpha and a step of w."""
    batches = (weights, architecture)[::-1 if not self.config.weights_first
                                      else 1]
    batches = jax.tree.map(lambda *x: jnp.stack(x), *batches)
    rng, rng_step = jax.random.split(state.rng)
    keys = jax.random.split(base.device_key(rng_step))

    def half(state, of):
      i, batch, key = of
      of_alpha = i == int(self.config.weights_first)
      measured, (grads, alpha_grads) = self.gradient(
          state.params, state.alpha, state.step, batch, key)
      state = lax.cond(
          of_alpha, lambda: self.descend_alpha(state, alpha_grads),
          lambda: self.descend(state, grads))
      return state, measured

    state, (loss, accuracy) = lax.scan(half, state, (
        jnp.arange(2), batches, keys))
    w, a = (0, 1) if self.config.weights_first else (1, 0)
    return state._replace(step=state.step + 1, rng=rng), {
        "loss": loss[w], "accuracy": accuracy[w],
        "alpha_loss": loss[a], "alpha_accuracy": accuracy[a]}

  def observe(self, state: SearchState, epoch: int) -> dict[str, Any]:
    """Alpha and what would be derived from it, for a row of metrics."""
    del epoch
    step = self._last(state)
    kept = self.found(state)
    groups = self.connections.groups
    return {
        "candidates": list(self.connections.space.candidates),
        "edges": {g.name: [list(edge[1:]) for edge in g.cell.edges]
                  for g in groups},
        "alpha": self.connections.named(state.alpha["alpha"]),
        "weights": self.connections.named(self.mix(state.alpha, step)),
        "kept": self.connections.named(kept),
        "architecture": codec.to_dict(self.connections.architecture(kept)),
        "skips": self._skips(kept), **self.observed(state.alpha, step)}

  def _last(self, state):
    """The step of the last iteration, whose epoch it is."""
    return jnp.maximum(state.step - 1, 0)

  def _skips(self, kept):
    """Of what is kept, the number of skip connections, per group."""
    names = self.connections.space.candidates
    column = [name == operations.SKIP for name in names]
    return {group.name: int(np.asarray(mask)[:, column].sum())
            for group, mask in zip(self.connections.groups, kept, strict=True)}

  def found(self, state: SearchState) -> list[np.ndarray]:
    """What would be derived, within the budget, bool[E, O] per group."""
    step = self._last(state)
    kept = [np.asarray(mask) for mask in self.keep(state.alpha, step)]
    return self.within(kept, self.mix(state.alpha, step))

  def derive(self, state: SearchState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """What the search came to.

    The report has "supernet", with "parent_accuracy" of the supernet and
    "child_accuracy" of the sub-network that is derived, with its weights, both
    on the images that trained alpha; "skips" and "connections" per cell type,
    and "cheapened", whether the budget changed what was found.
    """
    kept = self.found(state)
    wanted = self.keep(state.alpha, self._last(state))
    accuracy = lambda how: float(score(
        self._is_right, (state.params, [h.value for h in how]),
        split="architecture"))
    report = {
        "parent_accuracy": accuracy(self.how(state.alpha, self._last(state))),
        "child_accuracy": accuracy(self.how_kept(kept)),
        "skips": self._skips(kept),
        "connections": {group.name: int(mask.sum()) for group, mask in zip(
            self.connections.groups, kept, strict=True)},
        "cheapened": any((np.asarray(a) != b).any()
                         for a, b in zip(wanted, kept, strict=True))}
    return base.Derived(self.connections.architecture(kept), None, report)

  def _is_right(self, params_and_weights, batch):
    """f32[B], 1 where the supernet with weights per block is right."""
    params, weights = params_and_weights
    kept = [np.zeros(g.allowed.shape) for g in self.connections.groups]
    how = [h._replace(value=w)
           for h, w in zip(self.how_kept(kept), weights, strict=True)]
    logits, _ = self.supernet.run({"params": params}, how, batch["image"])
    return objectives.right(logits, batch["label"])

  def explain(self, state: SearchState) -> str:
    """The architecture that would have been derived."""
    kept = [np.asarray(mask) for mask in self.keep(
        state.alpha, self._last(state))]
    return ("the supernet of " + codec.to_line(
        self.connections.architecture(kept)))


def build(kind: Callable[..., Search],
          request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run a search by alpha; see `entry`."""
  space = halves.space_of(request)
  config = resolve(request.settings, space.graph.kind)
  method = kind(
      config, space, num_classes=request.num_classes,
      image_size=request.image_size, target=request.place,
      steps_per_epoch=halves.steps(request, config)["weights"])
  return halves.plan(method.method(), method.supernet, config)
