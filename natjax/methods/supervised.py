"""Training one given network from scratch, as the papers retrain theirs.

Guo et al., 2021, section 5.1 and the scripts that its authors released: SGD
with a cosine schedule, gradient clipping, an auxiliary head, scheduled drop
path, cutout. Differences from those scripts: the last, smaller batch of an
epoch is left out, drop path's rate rises step by step, and the test set is
looked at once, at the end.
"""

from collections.abc import Callable
import dataclasses
from typing import Any
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from natjax import errors
from natjax.graph import blocks as blocks_lib
from natjax.graph import codec
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import build as build_lib
from natjax.networks import mixture
from natjax.networks import network as network_lib
from natjax.objectives import classification as objectives
from natjax.training import method as base
from natjax.training import optimizers
from natjax.training import settings


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """Settings. The defaults are those of CIFAR retraining.

  Attributes:
    skeleton: "cifar" or "imagenet" of cells; "blocks" for a network of blocks,
      which brings its own.
    init_channels: C of cells; 0 for a network of blocks.
    cells: L of cells; 0 for a network of blocks.
    epochs: walks over the training images.
    batch_size: over all devices.
    optimizer: "sgd" or "adam".
    learning_rate: where the cosine schedule starts.
    final_learning_rate: where it ends.
    momentum: of SGD; of Adam, b1.
    weight_decay: times the parameter, added to the gradient.
    max_grad_norm: clips the gradient; 0 does not.
    drop_path: rate at the end of training; it rises linearly from 0.
    auxiliary: whether to train with the auxiliary head.
    auxiliary_weight: of its loss.
    label_smoothing: share of the label given to all classes alike.
    cutout: side of the square cut from training images, in pixels; 0 is none.
    seeds: how many networks to train, with seeds that follow each other.
    sync_bn: whether batch statistics are taken over all devices.
    dtype: "float32" or "bfloat16", of the computation.
  """

  skeleton: str = "cifar"
  init_channels: int = 36
  cells: int = 20
  epochs: int = 600
  batch_size: int = 96
  optimizer: str = "sgd"
  learning_rate: float = 0.025
  final_learning_rate: float = 0.001
  momentum: float = 0.9
  weight_decay: float = 3e-4
  max_grad_norm: float = 5.0
  drop_path: float = 0.2
  auxiliary: bool = True
  auxiliary_weight: float = 0.4
  label_smoothing: float = 0.0
  cutout: int = 16
  seeds: int = 1
  sync_bn: bool = False
  dtype: str = "float32"


Watch = Callable[[Any, Any, int], dict[str, Any]]


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


def check(config: TrainConfig) -> TrainConfig:
  """Returns the settings if they fit together (InputError)."""
  settings.one_of(config, dtype=("float32", "bfloat16"),
                  optimizer=("sgd", "adam"))
  settings.at_least_one(config, "epochs", "batch_size", "seeds")
  settings.not_negative(
      config, "learning_rate", "final_learning_rate", "momentum",
      "weight_decay", "max_grad_norm", "auxiliary_weight", "label_smoothing")
  if not 0 <= config.drop_path < 1:
    raise errors.InputError(
        f"drop-path is {config.drop_path} and must lie in [0, 1); 0 turns it"
        " off")
  if config.optimizer == "adam" and config.momentum >= 1:
    raise errors.InputError(
        f"momentum is {config.momentum} and must be below 1 for adam; pass"
        " --momentum 0.9")
  return config


def for_blocks(config: TrainConfig, **changes: Any) -> TrainConfig:
  """The settings for a network of blocks: without what only cells have."""
  return dataclasses.replace(
      config, skeleton="blocks", init_channels=0, cells=0, auxiliary=False,
      drop_path=0.0, **changes)


def place_of(
    config: TrainConfig,
    architecture: codec.Architecture,
    *,
    num_classes: int,
    image_size: int,
) -> build_lib.Place:
  """Where a network is trained: a skeleton, or a frame for blocks.

  Raises:
    InputError: impossible, or settings that do not apply to the architecture.
  """
  if isinstance(architecture, blocks_lib.BlockNetwork):
    for name, wanted in (("skeleton", "blocks"), ("init_channels", 0),
                         ("cells", 0), ("auxiliary", False),
                         ("drop_path", 0.0)):
      value = getattr(config, name)
      if value != wanted:
        option = name.replace("_", "-")
        raise errors.InputError(
            f"{option} is {value} and does not apply to a network of blocks;"
            f" leave --{option} out (in Python: supervised.for_blocks)")
    return blocks_lib.Frame(num_classes, image_size)
  skeleton = skeleton_lib.check(skeleton_lib.Skeleton(
      config.skeleton, config.init_channels, config.cells, num_classes,
      image_size))
  if config.auxiliary:
    network_lib.check_auxiliary(skeleton)
  return skeleton


class Supervised:
  """Trains one network; `method` makes the record.

  Attributes:
    config: the settings.
    objective: what is minimised.
    network: the linen module.
    optimizer: of the parameters.
    steps: updates of the whole training.
  """

  def __init__(
      self,
      config: TrainConfig,
      architecture: codec.Architecture,
      *,
      num_classes: int,
      image_size: int,
      steps_per_epoch: int = 1,
      objective: objectives.Objective | None = None,
      watch: Watch | None = None,
  ):
    """Args:
      config: the settings.
      architecture: what to train.
      num_classes: of the data.
      image_size: side of the images.
      steps_per_epoch: updates per epoch.
      objective: None is `classification` of the architecture.
      watch: `(method, state, epoch) -> values`, called after every epoch; they
        join its row of metrics.
    """
    self._watch = watch
    self.config = check(config)
    self.objective = objective or classification(
        config, architecture, place_of(
            config, architecture, num_classes=num_classes,
            image_size=image_size))
    self.network = self.objective.network
    self.steps = config.epochs * steps_per_epoch
    self.optimizer = optimizer(config, self.steps)

  def method(
      self,
      *,
      stage: str = "train",
      epochs: int | None = None,
      init: Callable[[jax.Array], TrainState] | None = None,
  ) -> base.Method:
    """The record that `training.fit` drives.

    Args:
      stage: its name.
      epochs: None is those of the settings.
      init: the state to start from; None draws one.
    """
    phase = base.Phase("train", ("train",), self.update, self.objective.metrics,
                       observe=self._observe if self._watch else None)
    return base.Method(
        init=init or self.init,
        stages=(base.Stage(stage, self.config.epochs if epochs is None
                           else epochs, (phase,)),),
        evaluate=self.evaluate)

  def init(self, rng: jax.Array) -> TrainState:
    """Draws the state that training starts from."""
    rng_params, rng_state = jax.random.split(rng)
    variables = self.objective.init(rng_params)
    return TrainState(
        step=jnp.zeros((), jnp.int32), params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=jax.jit(self.optimizer.init)(variables["params"]),
        rng=rng_state)

  def update(
      self, state: TrainState, batch: base.Batch
  ) -> tuple[TrainState, dict[str, jax.Array]]:
    """One step of the optimizer."""
    rng, rng_drop = jax.random.split(state.rng)
    rate = self.config.drop_path * state.step / self.steps
    (loss, (batch_stats, metrics)), grads = jax.value_and_grad(
        self.objective.loss, has_aux=True)(
            state.params, state.batch_stats, batch, drop_path=rate,
            rng=base.device_key(rng_drop))
    grads, batch_stats, metrics = base.mean_over_devices(
        (grads, batch_stats, {"loss": loss, **metrics}))
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    return TrainState(
        state.step + 1, optax.apply_updates(state.params, updates),
        batch_stats, opt_state, rng), metrics

  def _observe(self, state, epoch):
    return self._watch(self, state, epoch)

  def evaluate(self, state: TrainState, batch: base.Batch) -> jax.Array:
    """f32[B], 1 where the network is right, by running statistics."""
    return self.objective.is_right(
        {"params": state.params, "batch_stats": state.batch_stats}, batch)

  def features(self, state: TrainState, images: jax.Array) -> jax.Array:
    """f32[B, F] of normalised images, of an objective without labels."""
    return self.objective.features(
        {"params": state.params, "batch_stats": state.batch_stats}, images)


def classification(
    config: TrainConfig,
    architecture: codec.Architecture,
    place: build_lib.Place,
    identities: mixture.Identities | None = None,
) -> objectives.Classification:
  """The objective of the settings: an architecture's cross-entropy."""
  network = build_lib.module(
      architecture, place, auxiliary=config.auxiliary,
      axis_name=base.AXIS if config.sync_bn else None, identities=identities)
  return objectives.Classification(
      network, label_smoothing=config.label_smoothing,
      auxiliary_weight=config.auxiliary_weight)


def optimizer(
    config: TrainConfig, steps: int
) -> optax.GradientTransformation:
  """The optimizer of the settings, on a cosine schedule over `steps`."""
  schedule = optimizers.cosine(
      config.learning_rate, steps, config.final_learning_rate)
  if config.optimizer == "adam":
    return optimizers.adam(
        schedule, b1=config.momentum, weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm)
  return optimizers.sgd(
      schedule, momentum=config.momentum, weight_decay=config.weight_decay,
      max_grad_norm=config.max_grad_norm)
