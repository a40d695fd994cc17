"""What the training of a network minimises: an objective joins it to a loss."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from natjax.networks import network as network_lib
from natjax.training import method as base

Aux = tuple[Any, dict[str, jax.Array]]
MANY = 100  # Classes of which the five first answers are judged, too.


def right(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """f32[B], 1 where the largest logit is the label's."""
  return (jnp.argmax(logits, -1) == labels).astype(jnp.float32)


def among_first(logits: jax.Array, labels: jax.Array,
                count: int = 5) -> jax.Array:
  """f32[B], 1 where fewer than `count` logits are above the label's.

  A logit that is no number counts as above.
  """
  own = jnp.take_along_axis(logits, jnp.maximum(labels, 0)[:, None], -1)
  return (jnp.sum(~(logits <= own), -1) < count).astype(jnp.float32)


def cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """The mean cross-entropy f32[] of logits f[B, K] and labels i32[B]."""
  return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(
      logits, labels))


class Criterion:
  """What a supernet of classifiers minimises: the mean cross-entropy.

  Attributes:
    divides: as of an `Objective`, of a supernet's parameters.
  """

  divides: Callable[[Any], bool] | None = None

  def over(self, parts: int) -> "Criterion":
    """That of a training on so many devices, which may divide parameters."""
    return self

  def filled(self, params: Any) -> Any:
    """See `Objective.filled`."""
    return params

  def whole(self, params: Any, num_classes: int) -> Any:
    """See `Objective.whole`."""
    return params

  def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The loss f32[] of logits f[B, K] and labels i32[B]."""
    return cross_entropy(logits, labels)

  def divided(self, embeddings: jax.Array, params: Any, labels: jax.Array,
              num_classes: int) -> tuple[jax.Array, jax.Array]:
    """The loss and the accuracy f32[] where devices divide parameters.

    Args:
      embeddings: f[B, F] of this device's images, without the last layer.
      params: the parameters, of those divided this device's.
      labels: i32[B].
      num_classes: K.
    """
    raise NotImplementedError


CROSS_ENTROPY = Criterion()


class Objective:
  """What a network is trained for.

  Attributes:
    metrics: names of what the loss reports, "loss" first.
    network: the linen module.
    divides: of the path of an array in parameters, or in an optimizer's state,
      whether each device has a part of it, of its leading axis; None: none is.
  """

  metrics: tuple[str, ...]
  network: network_lib.Network
  divides: Callable[[Any], bool] | None = None

  def init(self, rng: jax.Array, **mix: Any) -> Any:
    """Draws the variables, "params" and "batch_stats"."""
    return network_lib.init(self.network, rng, **mix)

  def over(self, parts: int) -> "Objective":
    """That of a training on so many devices, which may divide parameters.

    Here each has all of them.
    """
    return self

  def filled(self, variables: Any) -> Any:
    """Variables, with what the devices divide filled up to do so evenly."""
    return variables

  def whole(self, variables: Any) -> Any:
    """Variables as the network has them, of what `filled` gave."""
    return variables

  def loss(self, params: Any, batch_stats: Any, batch: base.Batch, *,
           drop_path: jax.Array | None, rng: jax.Array,
           **mix: Any) -> tuple[jax.Array, Aux]:
    """Computes the training loss of this device's batch.

    Args:
      params: of the network.
      batch_stats: running statistics.
      batch: "image" [B, H, W, 3] and "label" i32[B].
      drop_path: f32[], the rate; None is without.
      rng: a key, of drop path and dropout.
      **mix: handed on to the network (`edge=`).

    Returns:
      The loss f32[], the new statistics, and the metrics but the loss, f32[].
    """
    raise NotImplementedError

  def is_right(self, variables: Any, batch: base.Batch,
               **mix: Any) -> jax.Array:
    """f32[B], 1 where the network is right; of an objective with labels.

    By running statistics.
    """
    logits, _ = self.network.apply(variables, batch["image"], **mix)
    return right(logits, batch["label"])

  def ranks(self, variables: Any, batch: base.Batch) -> dict[str, jax.Array]:
    """As `is_right`, beside whether the label is among the five first."""
    logits, _ = self.network.apply(variables, batch["image"])
    return {"accuracy": right(logits, batch["label"]),
            "top5_accuracy": among_first(logits, batch["label"])}

  def features(self, variables: Any, images: jax.Array,
               **mix: Any) -> jax.Array:
    """f32[B, F] of normalised images; of an objective without labels."""
    raise NotImplementedError

  def forward(self, params: Any, batch_stats: Any, images: jax.Array,
              rng: jax.Array, *, network: network_lib.Network | None = None,
              **settings: Any) -> tuple[Any, Any]:
    """What the network gives in training, and its new statistics.

    Args:
      params: of the network.
      batch_stats: running statistics.
      images: [B, H, W, 3].
      rng: a key.
      network: another module of the same variables.
      **settings: handed on to it.
    """
    outputs, mutated = (network or self.network).apply(
        {"params": params, "batch_stats": batch_stats}, images, train=True,
        rngs={"drop_path": rng, "dropout": rng, "noise": rng},
        mutable=["batch_stats"], **settings)
    return outputs, mutated.get("batch_stats", {})


# `(train config, architecture, place) -> objective`.
Maker = Callable[..., Objective]


class Classification(Objective):
  """Softmax cross-entropy with label smoothing, and an auxiliary head's.

  Attributes:
    network: maps images to (logits, auxiliary logits or None).
    label_smoothing: share of the label given to all classes alike.
    auxiliary_weight: of the auxiliary head's loss.
  """

  metrics = ("loss", "accuracy")

  def __init__(self, network: network_lib.Network, *,
               label_smoothing: float = 0.0, auxiliary_weight: float = 0.4):
    self.network, self.label_smoothing = network, label_smoothing
    self.auxiliary_weight = auxiliary_weight

  def loss(self, params: Any, batch_stats: Any, batch: base.Batch, *,
           drop_path: jax.Array | None, rng: jax.Array,
           **mix: Any) -> tuple[jax.Array, Aux]:
    """Computes the loss; {"accuracy": f32[]} stands beside it."""
    outputs, batch_stats = self.forward(
        params, batch_stats, batch["image"], rng, drop_path=drop_path, **mix)
    loss = self.cross_entropy(outputs, batch["label"])
    accuracy = jnp.mean(right(outputs[0], batch["label"]))
    return loss, (batch_stats, {"accuracy": accuracy})

  def cross_entropy(self, outputs: tuple[jax.Array, jax.Array | None],
                    labels: jax.Array) -> jax.Array:
    """The loss f32[] of what the network gives in training.

    Args:
      outputs: logits f32[B, K], and those of the auxiliary head, or None.
      labels: i32[B].
    """
    targets = optax.smooth_labels(
        jax.nn.one_hot(labels, outputs[0].shape[-1]), self.label_smoothing)
    loss, *auxiliary = (
        jnp.mean(optax.softmax_cross_entropy(logits, targets))
        for logits in outputs if logits is not None)
    return loss + self.auxiliary_weight * sum(auxiliary)
