"""Training one given network from scratch, as the papers retrain theirs.

Guo et al., 2021, section 5.1 and the scripts that its authors released: SGD
with a cosine schedule, gradient clipping, an auxiliary head, scheduled drop
path, cutout. Differences from those scripts: the last, smaller batch of an
epoch is left out, drop path's rate rises step by step, and the test set is
looked at once, at the end.
"""

from collections.abc import Callable
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from natjax.graph import codec, records
from natjax.networks import layers as layers_lib
from natjax.networks import network as network_lib
from natjax.objectives import classification as objectives
from natjax.training import method as base
from natjax.training import optimizers, settings


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Settings. The defaults are those of CIFAR retraining.

  None is what the architecture usually has (`FullTrainConfig`); a network of
  blocks brings its own skeleton, and has nothing of what is None here.

  Attributes:
    skeleton: "cifar" or "imagenet", of cells; on the command line also of a
      hand-crafted network.
    init_channels: C, of cells.
    cells: L, of cells.
    epochs: walks over the training images.
    batch_size: over all devices.
    optimizer: "sgd" or "adam".
    learning_rate: where the schedule starts, behind the warm-up.
    final_learning_rate: where it ends.
    momentum: of SGD; of Adam, b1.
    weight_decay: times the parameter, added to the gradient.
    max_grad_norm: clips the gradient; 0 does not.
    drop_path: rate at the end of training, of cells; it rises linearly from 0.
    auxiliary: whether to train with the auxiliary head, of cells.
    auxiliary_weight: of its loss.
    label_smoothing: share of the label given to all classes alike.
    cutout: side of the square cut from training images, in pixels; 0 is none.
    seeds: how many networks to train, with seeds that follow each other.
    sync_bn: whether batch statistics are taken over all devices.
    dtype: "float32" or "bfloat16", of the computation.
    schedule: "cosine", "linear", or "exponential", by equal factors.
    warmup: epochs in which the learning rate rises to its greatest.
    decay_vectors: whether biases, weights of BN and slopes of PReLU decay, too.
    accumulate: parts of a batch that are computed one after another, where
      memory is short; batch statistics are of a part.
  """

  skeleton: str | None = None
  init_channels: int | None = None
  cells: int | None = None
  epochs: int = 600
  batch_size: int = 96
  optimizer: str = "sgd"
  learning_rate: float = 0.025
  final_learning_rate: float = 0.001
  momentum: float = 0.9
  weight_decay: float = 3e-4
  max_grad_norm: float = 5.0
  drop_path: float | None = None
  auxiliary: bool | None = None
  auxiliary_weight: float = 0.4
  label_smoothing: float = 0.0
  cutout: int = 16
  seeds: int = 1
  sync_bn: bool = False
  dtype: str = "float32"
  schedule: str = settings.later("cosine")
  warmup: int = settings.later(0)
  decay_vectors: bool = settings.later(True)
  accumulate: int = settings.later(1)


@dataclasses.dataclass(frozen=True)
class FullTrainConfig(TrainConfig):
  """Settings for one kind of architecture; the defaults are those of cells."""

  skeleton: str = "cifar"
  init_channels: int = 36
  cells: int = 20
  drop_path: float = 0.2
  auxiliary: bool = True


# Of the settings that a network of blocks has not, the values that say so.
_BLOCKS = {"skeleton": "blocks", "init_channels": 0, "cells": 0,
           "drop_path": 0.0, "auxiliary": False}
OF_CELLS = dict.fromkeys(_BLOCKS)  # Them, as a network of blocks wants them.

# `(method, state, epoch) -> values` for the row of metrics of an epoch.
Watch = Callable[[base.Method, base.State, int], dict[str, Any]]


class TrainState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far.
    params: trainable parameters.
    batch_stats: running statistics of BN, the mean over devices.
    opt_state: the optimizer's.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  rng: jax.Array


def resolve(config: TrainConfig, kind: str) -> FullTrainConfig:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: the settings; None is filled in.
    kind: "cells" or "blocks", as an architecture has it.

  Raises:
    InputError: values out of range, or that do not apply to the kind.
  """
  full = settings.resolve(
      config, FullTrainConfig, _BLOCKS if kind == "blocks" else {},
      "a network of blocks")
  settings.plain(full)
  settings.one_of(full, dtype=("float32", "bfloat16"),
                  optimizer=optimizers.NAMES, schedule=optimizers.SCHEDULES)
  settings.at_least_one(full, "epochs", "batch_size", "seeds", "accumulate")
  settings.not_negative(
      full, "learning_rate", "final_learning_rate", "momentum", "warmup",
      "weight_decay", "max_grad_norm", "auxiliary_weight", "label_smoothing")
  if full.label_smoothing >= 1:
    settings.refuse(full, "label_smoothing", "must lie in [0, 1); give 0.1")
  if full.warmup >= full.epochs:
    settings.refuse(full, "warmup", "must be below the number of epochs; give 0"
                    " for none")
  if full.schedule == "exponential" and not (
      full.learning_rate and full.final_learning_rate):
    settings.refuse(full, "schedule", "needs a learning-rate and a"
                    " final-learning-rate above 0; give linear or cosine")
  if not 0 <= full.drop_path < 1:
    settings.refuse(full, "drop_path", "must lie in [0, 1); 0 turns it off")
  if not full.auxiliary and (
      full.auxiliary_weight != TrainConfig.auxiliary_weight):
    settings.refuse(full, "auxiliary_weight", "is of an auxiliary head, and"
                    " there is none; leave it out, or set auxiliary")
  settings.below_one_for_adam(full, "optimizer", "momentum")
  return full


def plain(config: FullTrainConfig, method: str) -> None:
  """Refuses what a method that trains by updates of its own has not.

  Raises:
    InputError: another schedule than the cosine, a warm-up, or parameters that
      do not decay.
  """
  for name in ("schedule", "warmup", "decay_vectors"):
    if getattr(config, name) != getattr(TrainConfig, name):
      settings.refuse(config, name, f"does not apply to method {method}, whose"
                      " training has schedules of its own; leave it out, and"
                      " train what it gives by natjax train")


def place_of(config: FullTrainConfig, kind: str, *, num_classes: int,
             image_size: int, embedding: int = 0) -> records.Place:
  """Where a network is trained: a skeleton, or a frame for blocks.

  See `codec.place`.

  Raises:
    InputError: impossible.
  """
  place = codec.place(kind, config.skeleton, config.init_channels, config.cells,
                      num_classes=num_classes, image_size=image_size,
                      embedding=embedding)
  if config.auxiliary:
    layers_lib.auxiliary(place)
  return place


class Supervised:
  """Trains one network; `method` makes the record.

  Attributes:
    config: the settings.
    architecture: of the network.
    objective: what is minimised.
    optimizer: of the parameters.
    steps: updates of the whole training.
  """

  def __init__(self, config: TrainConfig, architecture: codec.Architecture, *,
               num_classes: int, image_size: int, steps_per_epoch: int = 1,
               objective: objectives.Objective | None = None,
               watch: Watch | None = None):
    """Args:
      config: the settings.
      architecture: what to train.
      num_classes: of the data.
      image_size: side of the images, in pixels.
      steps_per_epoch: updates per epoch.
      objective: None is `classification` of the architecture.
      watch: called after every epoch; what it returns joins the row of metrics.

    Raises:
      InputError: as `resolve` and `place_of`.
    """
    self.config = resolve(config, architecture.kind)
    self.architecture, self._watch = architecture, watch
    self.objective = objective or classification(
        self.config, architecture, place_of(
            self.config, architecture.kind, num_classes=num_classes,
            image_size=image_size))
    self.steps = config.epochs * steps_per_epoch
    self._divided = base.parts_of(self.objective.divides)
    self.optimizer = optimizers.coupled(
        self.config.optimizer, optimizers.schedule(
            self.config.schedule, self.config.learning_rate, self.steps,
            final=self.config.final_learning_rate,
            warmup=self.config.warmup * steps_per_epoch),
        momentum=self.config.momentum, weight_decay=self.config.weight_decay,
        max_grad_norm=self.config.max_grad_norm,
        decayed=None if self.config.decay_vectors else optimizers.kernels,
        divided=self._divided)

  def method(self, stage: str = "train",
             epochs: int | None = None) -> base.Method:
    """The record that `training.fit` drives.

    Args:
      stage: its name.
      epochs: None is those of the settings.
    """
    phase = base.Phase("train", ("train",), self.update, self.objective.metrics,
                       observe=self._observe if self._watch else None)
    length = self.config.epochs if epochs is None else epochs
    return base.Method(
        init=self.init, stages=(base.Stage(stage, length, (phase,)),),
        evaluate=self.evaluate, derive=self.derive, features=self.features,
        divided=self._divided)

  def init(self, rng: jax.Array) -> TrainState:
    """Draws the state that training starts from."""
    rng_params, rng_state = jax.random.split(rng)
    return self.begin(self.objective.init(rng_params), rng_state)

  def begin(self, variables: Any, rng: jax.Array) -> TrainState:
    """The state that training starts from, with these variables."""
    variables = self.objective.filled(variables)
    return TrainState(
        step=jnp.zeros((), jnp.int32), **variables, rng=rng,
        opt_state=jax.jit(self.optimizer.init)(variables["params"]))

  def update(self, state: TrainState,
             batch: base.Batch) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of the optimizer."""
    rng, rng_drop = jax.random.split(state.rng)
    rate = (self.config.drop_path * state.step / self.steps
            if self.config.drop_path else None)
    grads, batch_stats, metrics = self._gradient(
        state, batch, rate, base.device_key(rng_drop))
    grads = base.mean_over_devices(
        grads, self._divided(grads) if self._divided else None)
    batch_stats, metrics = base.mean_over_devices((batch_stats, metrics))
    return descend(self.optimizer, state, grads, batch_stats=batch_stats,
                   step=state.step + 1, rng=rng), metrics

  def _gradient(self, state, batch, rate, rng):
    """Gradients, statistics of BN and metrics of a device's batch."""

    def of(batch, batch_stats, rng):
      (loss, (batch_stats, metrics)), grads = jax.value_and_grad(
          self.objective.loss, has_aux=True)(
              state.params, batch_stats, batch, drop_path=rate, rng=rng)
      return grads, batch_stats, {"loss": loss, **metrics}

    return in_parts(of, self.config.accumulate, state.params, batch,
                    state.batch_stats, rng)

  def _observe(self, state, epoch):
    return self._watch(self.method(), state, epoch) if self._watch else {}

  def evaluate(self, state: TrainState, batch: base.Batch) -> jax.Array:
    """f32[B], 1 where the network is right, by running statistics."""
    return self.objective.is_right(self._whole(state), batch)

  def features(self, state: TrainState, images: jax.Array) -> jax.Array:
    """f32[B, F] of normalised images, of an objective without labels."""
    return self.objective.features(self._whole(state), images)

  def derive(self, state: TrainState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """The network itself, as it is trained."""
    return base.Derived(self.architecture, self._whole(state), {})

  def _whole(self, state):
    """The network's variables, without what filled them up."""
    return self.objective.whole(variables(state))


def in_parts(gradient: Callable[..., tuple[Any, Any, Any]], parts: int,
             like: Any, batch: base.Batch, batch_stats: Any, rng: jax.Array
             ) -> tuple[Any, Any, Any]:
  """What a gradient gives of a batch, whose parts follow each other in memory.

  Args:
    gradient: `(batch, batch_stats, rng) -> (gradients, batch_stats, metrics)`,
      of means over a batch.
    parts: of equal size; 1 is the batch itself.
    like: arrays of the gradients' shapes.
    batch: of a device.
    batch_stats: of BN; they go from part to part.
    rng: a key, split among the parts.

  Returns:
    As `gradient`: of gradients and metrics the means over the parts.
  """
  if parts == 1:
    return gradient(batch, batch_stats, rng)

  def add(carry, part):
    grads, batch_stats, metrics = gradient(part[0], carry[1], part[1])
    return (jax.tree.map(jnp.add, carry[0], grads), batch_stats), metrics

  split = jax.tree.map(lambda x: x.reshape(parts, -1, *x.shape[1:]), batch)
  zeros = jax.tree.map(jnp.zeros_like, like)
  (grads, batch_stats), metrics = jax.lax.scan(
      add, (zeros, batch_stats), (split, jax.random.split(rng, parts)))
  return (jax.tree.map(lambda x: x / parts, grads), batch_stats,
          jax.tree.map(lambda x: jnp.mean(x, 0), metrics))


def descend(optimizer: optax.GradientTransformation, state: Any, grads: Any,
            **changes: Any) -> Any:
  """A state with "params" and "opt_state" after a step of the optimizer.

  Args:
    optimizer: of the parameters.
    state: a named tuple.
    grads: of the parameters.
    **changes: of its other fields.
  """
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  return state._replace(params=optax.apply_updates(state.params, updates),
                        opt_state=opt_state, **changes)


def variables(state: Any) -> dict[str, Any]:
  """A network's variables, of a state with "params" and "batch_stats"."""
  return {"params": state.params, "batch_stats": state.batch_stats}


def classification(config: FullTrainConfig, architecture: codec.Architecture,
                   place: records.Place) -> objectives.Classification:
  """The objective of the settings: an architecture's cross-entropy."""
  return objectives.Classification(
      network_lib.module(architecture, place, auxiliary=config.auxiliary,
                         axis_name=base.AXIS if config.sync_bn else None),
      label_smoothing=config.label_smoothing,
      auxiliary_weight=config.auxiliary_weight)
