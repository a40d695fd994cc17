"""DARTS: differentiable architecture search.

Liu, Simonyan & Yang, 2019, "DARTS: Differentiable Architecture Search". Every
edge is the mixture of its candidates by the softmax of alpha (equation 2);
`bilevel` trains alpha and the weights w. The gradient of alpha is that of the
validation loss at w ("first" order, xi = 0), or at the weights after one
training step (equation 5), through which it is differentiated:

  d/dalpha L_val(w'(alpha), alpha),  w'(alpha) = w + u(grad_w L_train(w, alpha))

where u is the true step of the weights' optimizer, with clipping, decay and
momentum as they are. With v = dL_val/dw' and v' = (du/dg)^T v it is

  dL_val/dalpha + d/dalpha <grad_w L_train(w, alpha), v'>

"second" computes the last term exactly, forward over reverse; "finite" takes
the authors' difference of two gradients (equation 7), around w and along v' of
length 0.01. Theirs goes along v, and scales by the learning rate alone. So far
from w other units of ReLUs and pools are active: in networks of few units the
difference is far off (tests/methods/test_darts.py).

At the end every node keeps the two edges whose strongest candidate, `null` left
out, weighs most, and every edge that candidate (section 2.4).
"""

from collections.abc import Sequence
import dataclasses
import functools
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import drawing
from natjax.methods import bilevel, halves, listed
from natjax.methods import entry as entry_lib
from natjax.operations import primitives
from natjax.spaces import connections
from natjax.training import method as base
from natjax.training import settings

ORDERS = ("first", "second", "finite")


@dataclasses.dataclass(frozen=True)
class DartsConfig(bilevel.SearchConfig):
  """Settings of DARTS; those of `bilevel.SearchConfig`, and

  Attributes:
    order: of alpha's gradient: "first", "second" (exact), or "finite", second
      by finite differences.
  """

  order: str = "first"


PRESETS = {
    "demo": DartsConfig(init_channels=8, cells=4, epochs=30, warmup_epochs=5,
                        alpha_learning_rate=3e-3),
    "small": DartsConfig(epochs=25),
    "paper": DartsConfig(order="second")}


class Darts(bilevel.Search):
  """See the module."""

  def __init__(self, config: DartsConfig, space: Any, **sizes: Any):
    """As `bilevel.Search`."""
    super().__init__(config, space, **sizes)
    settings.one_of(config, order=ORDERS)

  @property
  def passes(self) -> float:
    """Gradients at w, w' and of w; by finite differences two more, while an
    exact product with the Hessian takes about as much as those.
    """
    return 6.0 if self.config.order == "first" else 15.0

  def mix(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """Equation 2: the softmax of alpha on every edge; see `mixture`."""
    del step
    return mixture(alpha["alpha"], self.connections)

  def keep(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """Section 2.4."""
    return self.connections.strongest(
        self.mix(alpha, step), distinct_edges=True)

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """As `bilevel.Search`, by two edges per node."""
    return self.connections.within(
        kept, strengths, self.limits, distinct_edges=True)

  def update(self, state: bilevel.SearchState, weights: base.Batch,
             architecture: base.Batch
             ) -> tuple[bilevel.SearchState, dict[str, jax.Array]]:
    """An iteration of Algorithm 1."""
    if self.config.order == "first":
      return super().update(state, weights, architecture)
    return self._second(state, weights, architecture)

  def _second(self, state, weights, architecture):
    """As `update`, in turns that all need a gradient, at `point`."""
    batches = jax.tree.map(
        lambda *x: jnp.stack(x), weights, architecture)
    rng, rng_step = jax.random.split(state.rng)
    keys = jax.random.split(base.device_key(rng_step))  # Of each batch.
    zeros = jax.tree.map(jnp.zeros_like, (state.params, state.alpha))

    def virtual(state, point, along, total, grads):
      """Takes g at w, and goes to w'."""
      return state, self._stepped(state, grads[0]), grads[0], total

    def outer(state, point, along, total, grads):
      """Takes the gradients at w'; of w only v' is left."""
      along, = jax.vjp(functools.partial(self._stepped, state), along)[1](
          grads[0])
      if self.config.order == "finite":
        scale = _radius(along)
        point = jax.tree.map(lambda w, v: w + scale * v, state.params, along)
        return state, point, along, grads[1]
      more = self.curvature(state, along, jax.tree.map(
          lambda x: x[0], batches), keys[0])
      grads = jax.tree.map(jnp.add, grads[1], more)
      return self.descend_alpha(state, grads), state.params, along, total

    def side(sign, state, point, along, total, grads):
      """Adds the gradient of alpha at w + or - R v'."""
      scale = _radius(along)
      total = jax.tree.map(
          lambda t, g: t + sign * g / (2 * scale), total, grads[1])
      point = jax.tree.map(lambda w, v: w - scale * v, state.params, along)
      if sign < 0:
        state, point = self.descend_alpha(state, total), state.params
      return state, point, along, total

    def inner(state, point, along, total, grads):
      """Takes the step of w."""
      state = self.descend(state, grads[0])
      return state, state.params, along, total

    turns = [(virtual, 0), (outer, 1)]
    if self.config.order == "finite":
      turns += [(functools.partial(side, sign), 0) for sign in (1, -1)]
    turns.insert(0 if self.config.weights_first else len(turns), (inner, 0))

    def turn(carry, i_and_batch):
      i, b = i_and_batch
      measured, grads = self.gradient(
          carry[1], carry[0].alpha, state.step,
          jax.tree.map(lambda x: x[b], batches), keys[b])
      return lax.switch(i, [f for f, _ in turns], *carry, grads), measured

    (state, *_), (loss, accuracy) = lax.scan(
        turn, (state, state.params, *zeros),
        (jnp.arange(len(turns)), jnp.array([b for _, b in turns])))
    w, a = ([f for f, _ in turns].index(f) for f in (inner, outer))
    return state._replace(step=state.step + 1, rng=rng), {
        "loss": loss[w], "accuracy": accuracy[w],
        "alpha_loss": loss[a], "alpha_accuracy": accuracy[a]}

  def _stepped(self, state, grads):
    """w', the weights after the optimizer's step."""
    updates, _ = self.optimizer.update(grads, state.opt_state, state.params)
    return optax.apply_updates(state.params, updates)

  def curvature(self, state: bilevel.SearchState, along: Any,
                batch: base.Batch, rng: jax.Array) -> Any:
    """d/dalpha <grad_w L_train(w, alpha), v'>, the mean over devices."""
    slope = lambda params: jax.grad(lambda alpha: self.loss(
        params, alpha, state.step, batch, rng)[0])(state.alpha)
    with primitives.plain_derivatives(loops=False):
      _, found = jax.jvp(slope, (state.params,), (along,))
    return base.mean_over_devices(found)


def softmax(alpha: jax.Array, allowed: jax.Array,
            temperature: jax.Array | float = 1.0) -> jax.Array:
  """The softmax over what may stand on every edge; zeros elsewhere.

  Args:
    alpha: f32[E, O].
    allowed: bool[E, O].
    temperature: f32[], above 0.
  """
  return jnp.where(allowed, jax.nn.softmax(jnp.where(
      allowed, alpha / temperature, -1e30), axis=-1), 0.0)


def mixture(alpha: Sequence[jax.Array], places: connections.Connections,
            temperature: jax.Array | float = 1.0) -> list[jax.Array]:
  """What connections weigh: `softmax`, f32[E, O] per group.

  Where a node has a number of parents (`Space.parents`), its connections
  compete with each other, `null` left out, as in NAS-Bench-1Shot1.

  Args:
    alpha: f32[E, O] per group.
    places: what may be chosen.
    temperature: f32[], above 0.
  """
  found = []
  for a, group in zip(alpha, places.groups, strict=True):
    weights, may = softmax(a, group.allowed, temperature), places.kept(group)
    for into, parents in zip(group.nodes, group.parents, strict=True):
      if places.inputs is None and parents is not None:
        rows = np.array(into)
        weights = weights.at[rows].set(softmax(
            a[rows].reshape(1, -1), may[rows].reshape(1, -1), temperature
        ).reshape(len(rows), -1))
    found.append(weights)
  return found


def _radius(along):
  """R of equation 7: the points lie 0.01 from w."""
  return 0.01 / jnp.maximum(optax.tree.norm(along), 1e-12)


ENTRY = entry_lib.Entry(
    DartsConfig, functools.partial(bilevel.build, Darts),
    lambda preset, objective, kind: halves.preset(
        PRESETS[preset], kind, preset),
    listed.LINES["darts"], starts="space",
    reports=bilevel.REPORTS, pictures={"alpha.svg": drawing.save_alpha})
