"""Optimizers as the papers have them, on optax."""

from collections.abc import Callable
from typing import Any

import jax
import optax

NAMES = ("sgd", "adam")
SCHEDULES = ("cosine", "linear", "exponential")
Schedule = Callable[[jax.Array], jax.Array]


def cosine(peak: float, steps: int, final: float = 0.0) -> Schedule:
  """The cosine schedule from `peak` at step 0 to `final` at `steps`."""
  alpha = final / peak if peak else 0.0
  return optax.cosine_decay_schedule(peak, max(steps, 1), alpha)


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
  """Of a tree of parameters, which are neither biases nor BN's: bools."""
  return jax.tree_util.tree_map_with_path(
      lambda path, _: getattr(path[-1], "key", None) not in ("bias", "scale"),
      params)


def coupled(name: str, learning_rate: float | Schedule, *,
            momentum: float = 0.9, weight_decay: float = 0.0,
            max_grad_norm: float = 0.0, nesterov: bool = False,
            decayed: Callable[[Any], Any] | None = None,
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
  """
  step = (optax.adam(learning_rate, b1=momentum) if name == "adam"
          else optax.sgd(learning_rate, momentum, nesterov))
  return optax.chain(
      optax.clip_by_global_norm(max_grad_norm) if max_grad_norm
      else optax.identity(),
      optax.add_decayed_weights(weight_decay, decayed), step)


def scheduled(config: Any, steps: int,
              name: str = "sgd", **more: Any) -> optax.GradientTransformation:
  """`coupled`, by settings, on a cosine schedule over `steps`."""
  return coupled(
      name, cosine(config.learning_rate, steps, config.final_learning_rate),
      momentum=config.momentum, weight_decay=config.weight_decay,
      max_grad_norm=config.max_grad_norm, **more)
