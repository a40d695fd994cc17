"""Optimizers as the papers have them, on optax."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from natjax.training import method

NAMES = ("sgd", "adam")
# Parameters of channels, by their names.
_VECTORS = ("bias", "scale", "slope")
SCHEDULES = ("cosine", "linear", "exponential")
Schedule = Callable[[jax.Array], jax.Array]


def cosine(peak: float, steps: int, final: float = 0.0) -> Schedule:
  """The cosine schedule from `peak` at step 0 to `final` at `steps`."""
  alpha = final / peak if peak else 0.0
  return optax.cosine_decay_schedule(peak, max(steps, 1), alpha)


def poly(peak: float, steps: int, power: float = 0.9) -> Schedule:
  """The schedule `peak` * (1 - step / `steps`)^`power`, 0 from the end on."""
  return optax.polynomial_schedule(peak, 0.0, power, max(steps, 1))


def schedule(name: str, peak: float, steps: int, *, final: float = 0.0,
             warmup: int = 0) -> Schedule:
  """A schedule from `peak` to `final` at `steps`, after a warm-up.

  Args:
    name: of `SCHEDULES`: half a cosine, a line, or equal factors, of which
      `final` is above 0.
    peak: the greatest rate.
    steps: where it ends, those of the warm-up included.
    final: the last rate.
    warmup: steps in which the rate rises in equal parts to `peak`.
  """
  left = max(steps - warmup, 1)
  if name == "cosine":
    main = cosine(peak, left, final)
  elif name == "linear":
    main = optax.linear_schedule(peak, final, left)
  else:
    main = optax.exponential_decay(peak, left, final / peak)
  if not warmup:
    return main
  return optax.join_schedules(
      [lambda step: peak * (step + 1) / warmup, main], [warmup])


def kernels(params: Any) -> Any:
  """Of a tree of parameters, which are no biases, BN's or slopes: bools."""
  return jax.tree_util.tree_map_with_path(
      lambda path, _: getattr(path[-1], "key", None) not in _VECTORS, params)


def coupled(name: str, learning_rate: float | Schedule, *,
            momentum: float = 0.9, weight_decay: float = 0.0,
            max_grad_norm: float = 0.0, nesterov: bool = False,
            decayed: Callable[[Any], Any] | None = None,
            divided: Callable[[Any], Any] | None = None,
            ) -> optax.GradientTransformation:
  """SGD or Adam with coupled (L2) weight decay, as PyTorch's.

  Args:
    name: of `NAMES`.
    learning_rate: a number or a schedule over steps.
    momentum: of SGD's heavy ball; of Adam, b1, the decay of the mean gradient.
    weight_decay: added to the gradient, times the parameter.
    max_grad_norm: clips the global norm of the gradient before that; 0 does
      not clip.
    nesterov: whether the momentum of SGD is Nesterov's.
    decayed: of the parameters, a tree of bools, which decay; None is all.
    divided: of the gradients, a tree of bools, of which each device has a part
      of its own (`method.Method.divided`); None is none.
  """
  step = (optax.adam(learning_rate, b1=momentum) if name == "adam"
          else optax.sgd(learning_rate, momentum, nesterov))
  return optax.chain(
      _clipped(max_grad_norm, divided) if max_grad_norm
      else optax.identity(),
      optax.add_decayed_weights(weight_decay, decayed), step)


def _clipped(most: float, divided: Callable[[Any], Any] | None
             ) -> optax.GradientTransformation:
  """Clips the global norm, of divided gradients that over all devices."""
  if divided is None:
    return optax.clip_by_global_norm(most)

  def update(updates, state, params=None):
    squares = jax.tree.map(
        lambda x, own: jax.lax.psum(jnp.sum(x * x), method.AXIS) if own else (
            jnp.sum(x * x)), updates, divided(updates))
    norm = jnp.sqrt(sum(jax.tree.leaves(squares)))
    # As `optax.clip_by_global_norm` does.
    return jax.tree.map(lambda x: jnp.where(
        norm < most, x, x / norm.astype(x.dtype) * most), updates), state

  return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scheduled(config: Any, steps: int,
              name: str = "sgd", **more: Any) -> optax.GradientTransformation:
  """`coupled`, by settings, on a cosine schedule over `steps`."""
  return coupled(
      name, cosine(config.learning_rate, steps, config.final_learning_rate),
      momentum=config.momentum, weight_decay=config.weight_decay,
      max_grad_norm=config.max_grad_norm, **more)
