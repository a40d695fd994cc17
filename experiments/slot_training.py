"""Training any network of a space from scratch, by one compiled program.

As `natjax.methods.supervised`, of which it takes the settings; but the
architecture is a part of the state (a supernet with weights per slot and
running BN), so that a comparison of many architectures compiles once. There is
no drop path and no auxiliary head. A phase "test" may follow every epoch: it
walks the test images, those left out that do not fill a batch, changes nothing,
and gives the curve of Guo et al., 2021, Fig. 8.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from natjax import errors, spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec
from natjax.methods import supervised
from natjax.networks import supernet as supernet_lib
from natjax.training import method as base
from natjax.training import optimizers


class SlotTrainState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far.
    arrays: `CellArrays` [2, N, 2], the architecture.
    params: of all candidates; those not chosen never matter.
    batch_stats: running statistics of BN, the mean over devices.
    opt_state: the optimizer's.
  """

  step: jax.Array
  arrays: arrays_lib.CellArrays
  params: Any
  batch_stats: Any
  opt_state: Any


class SupervisedSlots:
  """Trains the networks of a space; `method` makes an architecture's record.

  Attributes:
    config: the settings.
    network: the network as data.
  """

  def __init__(
      self, config: supervised.TrainConfig, space: spaces.Space, *,
      num_classes: int, image_size: int, steps_per_epoch: int = 1,
  ):
    """Args:
      config: the settings.
      space: of the architectures.
      num_classes: of the data.
      image_size: side of the images.
      steps_per_epoch: updates per epoch.

    Raises:
      InputError: settings that do not fit together, or drop path or an
        auxiliary head.
    """
    self.config = config = supervised.resolve(config, "cells")
    if config.drop_path or config.auxiliary:
      raise errors.InputError(
          f"drop-path is {config.drop_path} and auxiliary {config.auxiliary};"
          " a network whose architecture is data has neither, so give 0 and"
          " False")
    self.network = supernet_lib.Supernet(
        space._replace(weights="slot"),
        codec.place("cells", config.skeleton, config.init_channels,
                    config.cells, num_classes=num_classes,
                    image_size=image_size),
        norm="running", axis_name=base.AXIS if config.sync_bn else None)
    self.optimizer = optimizers.scheduled(
        config, config.epochs * steps_per_epoch)

  def method(
      self, arrays: arrays_lib.CellArrays, *, watch_test: bool = False
  ) -> base.Method:
    """The record that `training.fit` drives, for one architecture.

    Args:
      arrays: `CellArrays` [2, N, 2].
      watch_test: whether every epoch ends with a walk over a split "test".
    """
    # Bound methods of one object are equal: so are the compiled programs.
    phases = [base.Phase("train", ("train",), self.update,
                         ("loss", "accuracy"))]
    if watch_test:
      phases.append(base.Phase("test", ("test",), self.watch, ("accuracy",),
                               augment=False))
    return base.Method(
        init=functools.partial(self.init, arrays),
        stages=(base.Stage("train", self.config.epochs, tuple(phases)),),
        evaluate=self.evaluate)

  def init(
      self, arrays: arrays_lib.CellArrays, rng: jax.Array
  ) -> SlotTrainState:
    """Draws the state that training starts from."""
    variables = self.network.init(rng)
    return SlotTrainState(
        step=jnp.zeros((), jnp.int32),
        arrays=jax.tree.map(jnp.asarray, arrays),
        params=variables["params"], batch_stats=variables["batch_stats"],
        opt_state=jax.jit(self.optimizer.init)(variables["params"]))

  def loss(
      self, params: Any, state: SlotTrainState, batch: base.Batch
  ) -> tuple[jax.Array, tuple[Any, jax.Array]]:
    """The loss f32[] of this device's batch, the statistics, the accuracy."""
    logits, batch_stats = self.network.run(
        {"params": params, "batch_stats": state.batch_stats},
        self.network.selected(state.arrays), batch["image"])
    labels = optax.smooth_labels(
        jax.nn.one_hot(batch["label"], logits.shape[-1]),
        self.config.label_smoothing)
    loss = jnp.mean(optax.softmax_cross_entropy(logits, labels))
    right = jnp.argmax(logits, -1) == batch["label"]
    return loss, (batch_stats, jnp.mean(right.astype(jnp.float32)))

  def update(
      self, state: SlotTrainState, batch: base.Batch
  ) -> tuple[SlotTrainState, dict[str, jax.Array]]:
    """One step of SGD."""
    (loss, (batch_stats, accuracy)), grads = jax.value_and_grad(
        self.loss, has_aux=True)(state.params, state, batch)
    grads, batch_stats, metrics = base.mean_over_devices(
        (grads, batch_stats, {"loss": loss, "accuracy": accuracy}))
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    return SlotTrainState(
        state.step + 1, state.arrays,
        optax.apply_updates(state.params, updates), batch_stats,
        opt_state), metrics

  def watch(
      self, state: SlotTrainState, batch: base.Batch
  ) -> tuple[SlotTrainState, dict[str, jax.Array]]:
    """Looks at a batch and changes nothing."""
    accuracy = jnp.mean(self.evaluate(state, batch))
    return state, base.mean_over_devices({"accuracy": accuracy})

  def evaluate(self, state: SlotTrainState, batch: base.Batch) -> jax.Array:
    """f32[B], 1 where the network is right, by running statistics."""
    logits, _ = self.network.run(
        {"params": state.params, "batch_stats": state.batch_stats},
        self.network.selected(state.arrays), batch["image"], train=False)
    return (jnp.argmax(logits, -1) == batch["label"]).astype(jnp.float32)
