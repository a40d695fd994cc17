"""What a method is: a small record of pure functions.

`training.fit` drives a method without knowing which it is.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax

AXIS = "devices"  # The axis name that updates are written against.

Batch = dict[str, jax.Array]  # "image" f[B, H, W, 3] and "label" i32[B].
State = Any


class Phase(NamedTuple):
  """One walk over a split per epoch.

  Attributes:
    name: as it stands in `metrics.jsonl`.
    split: key of the split to walk.
    update: pure `(state, batch) -> (state, metrics)`, `metrics` a dict of
      f32[] that are equal on all devices. A value that is not finite stops
      the run.
    metrics: the names of the metrics.
    augment: whether its images are augmented.
    observe: `(state, epoch) -> {name: value}`, called on the host at the end
      of every epoch; what it returns joins the row of metrics.
  """

  name: str
  split: str
  update: Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]
  metrics: tuple[str, ...]
  augment: bool = True
  observe: Callable[[State, int], dict[str, Any]] | None = None


class Stage(NamedTuple):
  """A number of epochs, each of which goes through all phases in order."""

  name: str
  epochs: int
  phases: tuple[Phase, ...]


class Method(NamedTuple):
  """A method.

  Attributes:
    init: `(rng) -> state`, one pytree with everything that a resumed run
      needs: weights, policy, optimizer states, baseline, step, rng key.
    stages: in order.
    evaluate: `(state, batch) -> f32[B]`, 1 where the prediction is right.
    derive: `(state, architecture, split, rng) -> (architecture, report)`, or
      None where a method trains a given network.
    explain: `(state) -> str`, what the last step ran, for the error message
      of a step whose loss is not finite.
  """

  init: Callable[[jax.Array], State]
  stages: tuple[Stage, ...]
  evaluate: Callable[..., jax.Array]
  derive: Callable[..., tuple[Any, dict[str, Any]]] | None = None
  explain: Callable[[State], str] = lambda state: "the network"


def device_key(rng: jax.Array) -> jax.Array:
  """A key of this device's own, inside an update."""
  return jax.random.fold_in(rng, jax.lax.axis_index(AXIS))


def mean_over_devices(tree: Any) -> Any:
  """The mean over devices of a pytree, inside an update."""
  return jax.lax.pmean(tree, AXIS)
