"""The parts of a network around its cells, shared by all networks."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import operations
from natjax.graph import skeleton as skeleton_lib
from natjax.operations import primitives

NormFactory = Callable[..., Callable[[jax.Array], jax.Array]]


class BatchAffineNorm(nn.Module):
  """BN by the batch with scale and bias, without running statistics."""

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = self.param("scale", nn.initializers.ones, x.shape[-1:])
    bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
    x = primitives.batch_normalize(x, epsilon=self.epsilon)
    return x * scale.astype(x.dtype) + bias.astype(x.dtype)


class RunningBatchNorm(nn.Module):
  """BN with running statistics, momentum 0.9.

  The running variance is the biased one (PyTorch keeps the unbiased).

  Attributes:
    train: by the batch, and update the statistics; else by the statistics.
    axis_name: device axis over which the batch is joined ("sync BN").
    epsilon: added to the variance.
  """

  train: bool
  axis_name: str | None = None
  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return nn.BatchNorm(
        use_running_average=not self.train, momentum=0.9, epsilon=self.epsilon,
        axis_name=self.axis_name, dtype=x.dtype, name="bn",
    )(x)


class Stem(nn.Module):
  """The stem; returns the outputs that stand for the two previous cells.

  CIFAR: convolution 3x3 to 3C channels, BN; both inputs are its output.
  ImageNet: two strided convolutions (node 0), and a third (node 1).
  """

  skeleton: skeleton_lib.Skeleton
  norm: NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
    channels = self.skeleton.init_channels
    if self.skeleton.kind == "cifar":
      x = operations.Conv(3 * channels, (3, 3), name="conv")(x)
      x = self.norm(name="norm")(x)
      return x, x
    for i, features in enumerate((channels // 2, channels, channels)):
      prev = x
      x = operations.Conv(features, (3, 3), 2, name=f"conv{i}")(
          nn.relu(x) if i else x)
      x = self.norm(name=f"norm{i}")(x)
    return prev, x


def preprocess(
    layer: skeleton_lib.Layer, norm: NormFactory, *, names=(None, None)
) -> tuple[nn.Module, nn.Module]:
  """Modules that bring the two cell outputs before a layer to C channels.

  Each is ReLU, convolution 1x1, BN; node 0's is a factorised reduce where its
  image is twice as large.
  """
  if layer.reduction_prev:
    first = operations.FactorizedReduce(layer.channels, norm, name=names[0])
  else:
    first = operations.ReluConvNorm(layer.channels, 1, norm, name=names[0])
  return first, operations.ReluConvNorm(layer.channels, 1, norm, name=names[1])


class Classifier(nn.Module):
  """The linear classifier, in float32; without classes, the features."""

  num_classes: int

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    features = features.astype(jnp.float32)
    if not self.num_classes:
      return features
    return nn.Dense(
        self.num_classes, kernel_init=operations.kernel_init, name="linear"
    )(features)


class AuxiliaryHead(nn.Module):
  """The auxiliary classifier of DARTS, dropped after training.

  ReLU, average pooling 5x5 (stride 3 for CIFAR, 2 for ImageNet), convolution
  1x1 to 128, BN, ReLU, convolution 2x2 to 768, BN (CIFAR only), ReLU, linear.
  """

  skeleton: skeleton_lib.Skeleton
  norm: NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    cifar = self.skeleton.kind == "cifar"
    x = primitives.avg_pool(nn.relu(x), 5, stride=3 if cifar else 2)
    x = operations.Conv(128, (1, 1), name="conv0")(x)
    x = nn.relu(self.norm(name="norm0")(x))
    x = operations.Conv(768, (2, 2), padding=0, name="conv1")(x)
    if cifar:
      x = self.norm(name="norm1")(x)
    x = nn.relu(x)
    x = jnp.reshape(x, (x.shape[0], -1))
    return Classifier(self.skeleton.num_classes, name="classifier")(x)
