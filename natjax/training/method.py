"""What a method is: a small record of pure functions.

`training.fit` drives a method without knowing which it is. A state is any
pytree of arrays.
"""

from collections.abc import Callable, Mapping
import functools
from typing import Any, NamedTuple

import jax

from natjax.graph import codec

AXIS = "devices"  # The axis name that updates are written against.

Batch = dict[str, jax.Array]  # "image" f[B, H, W, 3] and "label" i32[B].
State = Any


class Phase(NamedTuple):
  """One walk per epoch over a split, or over several at once.

  An epoch has as many steps as the first split has batches. The further splits
  are walked each in an order of its own, which is drawn anew when the split is
  exhausted and when an epoch begins.

  Attributes:
    name: as it stands in `metrics.jsonl`.
    splits: keys of the splits to walk.
    update: pure `(state, *batches) -> (state, metrics)`, with a batch per
      split; `metrics` is a dict of f32[] that are equal on all devices. A value
      that is not finite stops the run.
    metrics: the names of the metrics.
    augment: whether its images are augmented.
    observe: `(state, epoch) -> {name: value}`, called on the host at the end
      of every epoch; what it returns joins the row of metrics.
    passes: forward passes that an image of the first split costs, of which a
      backward one is two, to estimate hours by; None is a gradient by every
      split.
    madds: multiply-adds that such an image costs beside them.
  """

  name: str
  splits: tuple[str, ...]
  update: Callable[..., tuple[State, dict[str, jax.Array]]]
  metrics: tuple[str, ...]
  augment: bool = True
  observe: Callable[[State, int], dict[str, Any]] | None = None
  passes: float | None = None
  madds: float = 0.0


class Handover(NamedTuple):
  """What a method that has come to its end hands over to the next.

  Attributes:
    method: the next, which has programs of its own.
    state: where it starts from, in place of what its `init` draws.
    architecture: of the network that it trains.
    report: JSON values, what a result says of the step.
  """

  method: "Method"
  state: State
  architecture: codec.Architecture
  report: dict[str, Any]


class Stage(NamedTuple):
  """A number of epochs, each of which goes through all phases in order.

  Attributes:
    name: as it stands in `metrics.jsonl`.
    epochs: how many.
    phases: in order.
    end: pure `(state) -> Handover`, of a method's last stage alone, where
      another method goes on. `fit` leaves it to its caller, who may keep
      what came before (`follow`).
  """

  name: str
  epochs: int
  phases: tuple[Phase, ...]
  end: Callable[[State], Handover] | None = None


class Derived(NamedTuple):
  """What a method came to.

  Attributes:
    architecture: the one that it gives back.
    variables: of its trained network, "params" and "batch_stats"; None where
      the network is to be trained from scratch.
    report: JSON values, what a result says of the derivation.
  """

  architecture: codec.Architecture
  variables: Any | None
  report: dict[str, Any]


# `(function, argument, *, split, total=False, images=None, each=False,
# whole=True)` walks a split, or its first so many images, not augmented, on one
# device, and gives means. The function is pure, `(argument, batch) -> pytree of
# f[B, ...]`, and compiled once for equal functions; its argument is a pytree of
# arrays, `split` a key. The means over images are summed in f64 on the host;
# with `total` the sums are given, with `each` f64[N, ...] of every image. What
# does not fill a batch is left out, or, where the values of an image do not
# depend on the others of its batch, is not (`whole=False`). That of a job has
# `told`, for a derivation that takes long (`pipeline.feed.Heard`).
Walk = Callable[..., Any]


class Method(NamedTuple):
  """A method.

  Attributes:
    init: `(rng) -> state`, one pytree with everything that a resumed run
      needs: weights, policy, optimizer states, baseline, step, rng key.
    stages: in order.
    evaluate: `(state, batch) -> f32[B]`, 1 where the prediction is right; None
      of a method whose state is not one network that classifies.
    derive: `(state, given, score, rng) -> Derived`, called on one device with
      the given architecture, None where there was none, and a walk over the
      splits of its phases.
    features: `(state, images) -> f32[B, F]` of normalised images, of an
      objective without labels.
    explain: `(state) -> str`, what the last step ran, for the error message
      of a step whose loss is not finite.
    divided: `(state) -> tree of bools`, which of its arrays every device holds
      a part of, of their leading axis, which the devices divide. None: each
      device has all of the state.
  """

  init: Callable[[jax.Array], State]
  stages: tuple[Stage, ...]
  evaluate: Callable[[State, Batch], jax.Array] | None = None
  derive: Callable[[State, codec.Architecture | None, Walk, jax.Array],
                   Derived] | None = None
  features: Callable[[State, jax.Array], jax.Array] | None = None
  explain: Callable[[State], str] = lambda state: "the network"
  divided: Callable[[State], Any] | None = None


def follow(
    method: Method, state: State, given: codec.Architecture | None,
    run: Callable[[Method, str], State],
    tell: Callable[[Method, State, Handover, str], dict],
) -> tuple[Method, State, codec.Architecture | None, dict[str, Any]]:
  """Goes on from where a method ends, as long as it hands over to another.

  Args:
    method: that has come to its end.
    state: of it.
    given: the architecture that it was given.
    run: `(method, suffix) -> state` trains the next program; of its name, the
      suffix is "2" and so on.
    tell: `(method, state, handover, suffix)` of the program that has ended,
      that of the first being ""; returns what the report says of it.

  Returns:
    The last method, its state, the architecture that it was given, the report.
  """
  report: dict[str, Any] = {}
  suffix = ""
  while (end := method.stages[-1].end) is not None:
    over = end(state)
    report |= tell(method, state, over, suffix)
    method, given = over.method, over.architecture
    suffix = str(int(suffix or 1) + 1)
    begin = lambda rng, state=over.state: state
    state = run(method._replace(init=begin), suffix)
  return method, state, given, report


def work(method: Method, batches: Mapping[str, int],
         madds: float) -> tuple[int, float]:
  """Steps of a method, and multiply-adds that these cost an image of a batch.

  Args:
    method: the method, without what it may hand over to.
    batches: of every split.
    madds: of a forward pass.
  """
  steps, total = 0, 0.0
  for stage in method.stages:
    for phase in stage.phases:
      walked = stage.epochs * batches[phase.splits[0]]
      steps += walked
      total += walked * (phase.madds + madds * (
          3 * len(phase.splits) if phase.passes is None else phase.passes))
  return steps, total


def device_key(rng: jax.Array) -> jax.Array:
  """A key of this device's own, inside an update."""
  return jax.random.fold_in(rng, jax.lax.axis_index(AXIS))


def parts_of(divides: Callable[[Any], bool] | None
             ) -> Callable[[Any], Any] | None:
  """`Method.divided`, of a tree of parameters or of a state.

  Args:
    divides: of an array's path, whether each device has a part of it; None:
      none is divided.
  """
  return divides and functools.partial(
      jax.tree_util.tree_map_with_path, lambda path, leaf: divides(path))


def mean_over_devices(tree: Any, divided: Any = None) -> Any:
  """The mean over devices of a pytree, inside an update.

  Args:
    tree: gradients of what each device minimises.
    divided: a tree of bools, of which arrays each device has a part of its own:
      its gradients are those of the sum over devices already, and come to be
      those of the mean. None is none.
  """
  if divided is None:
    return jax.lax.pmean(tree, AXIS)
  return jax.tree.map(
      lambda x, own: x / jax.lax.psum(1, AXIS) if own else (
          jax.lax.pmean(x, AXIS)), tree, divided)
