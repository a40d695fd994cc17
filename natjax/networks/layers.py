"""The parts of a network around its edges, shared by all networks."""

from collections.abc import Sequence

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from natjax import errors, operations
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.operations import parameters, primitives

NormFactory = operations.NormFactory


def _vector(module, name, init, x):
  """A parameter of a number per channel of x, [..., C]."""
  return parameters.parameter(module, name, init, x.shape[-1:])


class BatchAffineNorm(nn.Module):
  """BN by the batch with scale and bias, without running statistics."""

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    scale = _vector(self, "scale", nn.initializers.ones, x)
    bias = _vector(self, "bias", nn.initializers.zeros, x)
    x = primitives.batch_normalize(x, epsilon=self.epsilon)
    return x * scale.astype(x.dtype) + bias.astype(x.dtype)


class BiasedNorm(nn.Module):
  """A bias, then BN by the batch without parameters."""

  epsilon: float = 1e-5

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    bias = _vector(self, "bias", nn.initializers.zeros, x)
    return primitives.batch_normalize(
        x + bias.astype(x.dtype), epsilon=self.epsilon)


class RunningBatchNorm(nn.Module):
  """BN of [..., C] with running statistics, momentum 0.9.

  The running variance is the biased one (PyTorch keeps the unbiased). It is the
  mean of squared distances from the mean, as everywhere in the library: flax's
  faster difference of two means loses a variance that is small beside the mean.
  In float32 the numbers are those of flax's module, bit for bit, and so are the
  names; tracing that was half of a trace of ResNet50.

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
    return _RunningNorm(
        self.train, self.axis_name, self.epsilon, name="bn")(x)


class _RunningNorm(nn.Module):
  """What `RunningBatchNorm` does."""

  train: bool
  axis_name: str | None
  epsilon: float

  @nn.compact
  def __call__(self, x):
    shape, wide = x.shape[-1:], primitives.at_least_float32(x)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    var = self.variable("batch_stats", "var", jnp.ones, shape)
    centre, spread = mean.value, var.value
    if self.train:
      new = self.is_initializing()
      axis = None if new else self.axis_name
      centre = _mean(wide, axis)
      spread = _mean(lax.square(wide - centre), axis)
      if not new:
        mean.value = 0.9 * mean.value + 0.1 * centre
        var.value = 0.9 * var.value + 0.1 * spread
    scale = _vector(self, "scale", nn.initializers.ones, x)
    bias = _vector(self, "bias", nn.initializers.zeros, x)
    factor = lax.rsqrt(spread + self.epsilon) * scale
    return ((wide - centre) * factor + bias).astype(x.dtype)


def _mean(x, axis_name):
  """Of [..., C] per channel, over all devices of an axis."""
  x = jnp.mean(x, tuple(range(x.ndim - 1)))
  return x if axis_name is None else lax.pmean(x, axis_name)


class CalibratedNorm(nn.Module):
  """BN by statistics of other images, whose parameters are a supernet's.

  Its parameters are those of `BatchAffineNorm`, of `BiasedNorm` or none, so
  that what was trained with these is evaluated with this.

  Attributes:
    measures: normalises by the batch, and keeps its mean and variance as the
      statistics; else it normalises by the statistics.
    epsilon: added to the variance.
    affine: whether a scale and a bias follow.
    biased: whether a bias comes first.
  """

  measures: bool
  epsilon: float = 1e-5
  affine: bool = False
  biased: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape, zeros, dtype = x.shape[-1:], nn.initializers.zeros, x.dtype
    wide = primitives.at_least_float32(x)
    if self.biased:
      wide += _vector(self, "bias", zeros, x)
    mean = self.variable("batch_stats", "mean", jnp.zeros, shape)
    var = self.variable("batch_stats", "var", jnp.ones, shape)
    if self.measures:
      mean.value = jnp.mean(wide, (0, 1, 2))
      var.value = jnp.mean(jnp.square(wide - mean.value), (0, 1, 2))
    wide = (wide - mean.value) * lax.rsqrt(var.value + self.epsilon)
    if self.affine:
      wide = wide * _vector(self, "scale", nn.initializers.ones, x)
      wide += _vector(self, "bias", zeros, x)
    return wide.astype(dtype)


class Bias(nn.Module):
  """Adds a bias per channel: what stands for BN in networks without it."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    bias = _vector(self, "bias", nn.initializers.zeros, x)
    return x + bias.astype(x.dtype)


class Activation(nn.Module):
  """ReLU, ReLU6, or PReLU with a learned slope per channel (from 0.25)."""

  kind: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.kind == "prelu":
      slope = _vector(self, "slope", nn.initializers.constant(0.25), x)
      return jnp.where(x > 0, x, slope.astype(x.dtype) * x)
    if self.kind == "relu6":
      return primitives.relu(x, most=6)
    return primitives.relu(x) if self.kind == "relu" else x


def shuffle(x: jax.Array, groups: int) -> jax.Array:
  """Interleaves the channels of `groups` groups; [B, H, W, C].

  Zhang et al., 2018, ShuffleNet, section 3.1.
  """
  if not groups:
    return x
  shape = x.shape
  x = x.reshape(*shape[:3], groups, shape[3] // groups)
  return jnp.swapaxes(x, 3, 4).reshape(shape)


class FixedLayer(nn.Module):
  """A layer of the stem or the head.

  Attributes:
    layer: which.
    num_classes: features of the classifier, where it is that.
    norm: returns the BN to use.
    train: whether dropout is on, drawn from the rng stream "dropout".
  """

  layer: records.Layer
  num_classes: int
  norm: NormFactory
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    layer, k, s = self.layer, self.layer.kernel, self.layer.stride
    if layer.kind == "conv":
      x = self._finish(operations.Conv(
          layer.width, (k, k), s, layer.padding, name="conv")(x))
    elif layer.kind == "depthwise_conv":
      x = self._finish(operations.DepthwiseConv(
          k, s, padding=layer.padding, name="conv")(x))
    elif layer.kind == "global_depthwise":
      kernel = self.param("kernel", operations.kernel_init,
                          (*x.shape[1:3], 1, x.shape[3]))
      x = jnp.einsum("bhwc,hwc->bc", x, kernel[:, :, 0].astype(x.dtype))
      x = self._finish(x[:, None, None])
    elif layer.kind == "linear":
      x = nn.Dense(layer.width or self.num_classes, use_bias=not layer.norm,
                   kernel_init=operations.kernel_init, name="linear")(
                       primitives.at_least_float32(
                           primitives.flat(x)))
      if layer.norm:
        x = self.norm(name="norm")(x[:, None, None])[:, 0, 0]
    elif layer.kind == "cosine":
      x = primitives.flat(x)
      # Drawn as the authors of ArcFace draw them.
      classes = self.param("classes", nn.initializers.normal(0.01),
                           (self.num_classes, x.shape[1]))
      x = jnp.matmul(primitives.unit(x), primitives.unit(classes).T,
                     precision=lax.Precision.HIGHEST)
    elif layer.kind == "norm":
      x = self.norm(name="norm")(x)
    elif layer.kind in ("max_pool", "avg_pool"):
      pool = getattr(primitives, layer.kind)
      x = pool(x, k, stride=s, padding=layer.padding)
    elif layer.kind == "global_pool":
      x = jnp.mean(primitives.at_least_float32(x), (1, 2), keepdims=True)
    elif layer.kind == "flatten":
      x = primitives.flat(x)[:, None, None]
    else:
      x = nn.Dropout(layer.rate, deterministic=not self.train)(x)
    return Activation(layer.activation, name="activation")(x)

  def _finish(self, x):
    """What follows a convolution."""
    return self.norm(name="norm")(x) if self.layer.norm else Bias(
        name="bias")(x)


class FixedLayers(nn.Module):
  """The layers of a stem or of a head, in order.

  Attributes:
    layers: which; the modules are named by their numbers.
    num_classes: features of the classifier.
    norm: returns the BN to use.
    train: whether dropout is on.

  `__call__` returns the output of every layer, the input first.
  """

  layers: tuple[records.Layer, ...]
  num_classes: int
  norm: NormFactory
  train: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> list[jax.Array]:
    names = [f"layer{i}" for i in range(len(self.layers))]
    return run_layers(
        self.layers, names, self.num_classes, self.norm, self.train, x)


def run_layers(layers: Sequence[records.Layer], names: Sequence[str],
               num_classes: int, norm: NormFactory, train: bool, x: jax.Array,
               output_stride: int | None = None) -> list[jax.Array]:
  """Runs `FixedLayer`s in the module that calls; see `FixedLayers`.

  Of a stem, `output_stride` says what becomes of strides; see `shapes.of`.
  """
  outputs, stride = [x], 1
  for layer, name in zip(layers, names, strict=True):
    rates = shapes_lib.rates(stride, stride * layer.stride, output_stride)
    stride *= layer.stride
    with primitives.dilated(*rates):
      outputs.append(
          FixedLayer(layer, num_classes, norm, train, name=name)(outputs[-1]))
  return outputs


def auxiliary(place: records.Place) -> records.Skeleton:
  """The skeleton in which the auxiliary head of a genotype's network stands.

  It classifies, so there must be classes. Its 5x5 pooling and 2x2 convolution
  need 8 pixels (CIFAR) or 7 (ImageNet) after the second reduction.

  Args:
    place: the skeleton.

  Raises:
    InputError: no skeleton, no classes, or too small images.
  """
  if not isinstance(place, records.Skeleton):
    raise errors.InputError("auxiliary is True and does not apply to a network"
                            " of blocks; leave it out", field="auxiliary")
  if not place.num_classes:
    raise errors.InputError(
        "num-classes is 0 and the auxiliary head is a classifier; give the"
        " number of classes or no auxiliary head", field="auxiliary")
  stride, size = (3 if place.kind == "cifar" else 2), place.image_size
  for _ in range(len(place.reductions) + (3 if stride == 2 else 0)):
    size = -(-size // 2)  # Of the stem and of the reductions.
  if (size - 5) // stride + 1 < 2:
    raise errors.InputError(
        f"image-size {place.image_size} leaves {size} pixels at the"
        f" auxiliary head, which needs {5 + stride}; give larger images or no"
        " auxiliary head", field="auxiliary")
  return place


class AuxiliaryHead(nn.Module):
  """The auxiliary classifier of DARTS, dropped after training.

  ReLU, average pooling 5x5 (stride 3 for CIFAR, 2 for ImageNet), convolution
  1x1 to 128, BN, ReLU, convolution 2x2 to 768, BN (CIFAR only), ReLU, linear.

  Attributes:
    cifar: which of the two forms.
    num_classes: of the classifier.
    norm: returns the BN to use.
  """

  cifar: bool
  num_classes: int
  norm: NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = primitives.avg_pool(nn.relu(x), 5, stride=3 if self.cifar else 2)
    x = operations.Conv(128, (1, 1), name="conv0")(x)
    x = nn.relu(self.norm(name="norm0")(x))
    x = operations.Conv(768, (2, 2), padding=0, name="conv1")(x)
    if self.cifar:
      x = self.norm(name="norm1")(x)
    return FixedLayer(records.CLASSIFIER[-1], self.num_classes, self.norm,
                      train=False, name="classifier")(nn.relu(x))


class ProjectionHead(nn.Module):
  """The projection head of contrastive learning, dropped after training.

  Linear without bias, BN, ReLU, linear: f[B, F] -> f32[B, `size`]. Chen et al.,
  2020, "A Simple Framework for Contrastive Learning of Visual Representations",
  section 4.2. Its sizes, 512 and 128, and the BN are those that make ResNet50
  24.6 M parameters, as "Proxyless Neural Architecture Adaptation" has it.

  Attributes:
    norm: returns the BN to use.
    hidden: features between the two.
    size: of the projection.
  """

  norm: NormFactory
  hidden: int = 512
  size: int = 128

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    x = features.astype(jnp.float32)
    x = nn.Dense(self.hidden, use_bias=False, name="linear0",
                 kernel_init=operations.kernel_init)(x)
    x = nn.relu(self.norm(name="norm")(x))
    return nn.Dense(self.size, name="linear1",
                    kernel_init=operations.kernel_init)(x)
