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
step, not epoch by epoch; images of the second half are drawn without
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

from natjax import spaces
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.methods import halves
from natjax.methods import search as search_lib
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.training import method as base
from natjax.training import optimizers, settings

REPORTS = search_lib.REPORTS


@dataclasses.dataclass(frozen=True)
class SearchConfig(search_lib.SupernetConfig):
  """Settings of a search by alpha; those of `search.SupernetConfig`, and

  Attributes:
    warmup_epochs: of the epochs, the first, in which alpha is not trained.
    alpha_learning_rate: of Adam, constant.
    alpha_momentum: b1 of Adam.
    alpha_weight_decay: pulls alpha towards 0.
    weights_first: whether the weights take their step before alpha does, as in
      NAS-Bench-201's programs.
  """

  warmup_epochs: int = 0
  alpha_learning_rate: float = 3e-4
  alpha_momentum: float = 0.5
  alpha_weight_decay: float = 1e-3
  weights_first: bool = False


def resolve(config: Any, kind: str) -> Any:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: a `SearchConfig`; None is filled in.
    kind: "cells" or "blocks", of the space's graph.

  Raises:
    InputError: a number out of range, or sizes that do not apply to the kind.
  """
  config = search_lib.resolve(config, kind)
  settings.not_negative(config, "alpha_learning_rate", "alpha_momentum",
                        "alpha_weight_decay")
  if config.alpha_momentum >= 1:
    settings.refuse(config, "alpha_momentum", "must be below 1; give 0.5")
  if not 0 <= config.warmup_epochs < config.epochs:
    settings.refuse(config, "warmup_epochs", "must lie in [0, epochs) with"
                    f" epochs {config.epochs}, since alpha needs epochs too;"
                    " give fewer")
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


class Search(search_lib.Search):
  """A search by alpha; a method overrides what stands first."""

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

  @property
  def passes(self) -> float:
    """Of the phase "search"; see `training.method.Phase`: two gradients."""
    return 6.0

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

  def __init__(self, config: Any, space: spaces.Space, **sizes: Any):
    """As `search.Search`."""
    super().__init__(resolve(config, space.graph.kind), space, **sizes)
    self.alpha_optimizer = optimizers.coupled(
        "adam", self.config.alpha_learning_rate,
        momentum=self.config.alpha_momentum,
        weight_decay=self.config.alpha_weight_decay)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    warmup = self.config.warmup_epochs
    weights = base.Phase(
        "weights", ("weights",), self.update_weights, ("loss", "accuracy"),
        observe=self.observe)
    both = base.Phase(
        "search", ("weights", "architecture"), self.update,
        ("loss", "accuracy", "alpha_loss", "alpha_accuracy"),
        observe=self.observe, passes=self.passes)
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
    soft, engines = self.how_weighed(self.mix(alpha, step)), self.engines()
    if len(engines) == len(soft):
      return soft
    hard = self.how_kept(lax.stop_gradient(self.keep(alpha, step)))
    return [s if i in engines else h
            for i, (s, h) in enumerate(zip(soft, hard, strict=True))]

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
    return {"alpha": self.connections.named(state.alpha["alpha"]),
            **self.shown(self.mix(state.alpha, step), kept),
            **self.observed(state.alpha, step)}

  def _last(self, state):
    """The step of the last iteration, whose epoch it is."""
    return jnp.maximum(state.step - 1, 0)

  def found(self, state: SearchState) -> list[np.ndarray]:
    """What would be derived, within the budget, bool[E, O] per group."""
    step = self._last(state)
    kept = [np.asarray(mask) for mask in self.keep(state.alpha, step)]
    return self.within(kept, self.mix(state.alpha, step))

  def derive(self, state: SearchState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """What the search came to (`search.Search.derived`)."""
    step = self._last(state)
    how = self.how(state.alpha, step)
    parent = float(score(self.is_right, (state.params, [
        h.value for h in how]), split="architecture"))
    return self.derived(
        state.params, self.keep(state.alpha, step), self.mix(state.alpha, step),
        parent, score)

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
  return halves.plan(method.method(), method.supernet, space, config,
                     lambda state: state.params, method.engines())
