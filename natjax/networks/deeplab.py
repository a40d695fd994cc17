"""DeepLabV3: a backbone, and a head that gives every pixel a class.

Chen et al., 2017, "Rethinking Atrous Convolution for Semantic Image
Segmentation" (arXiv:1706.05587), section 3.3: features at several dilations
side by side (atrous spatial pyramid pooling, ASPP), the mean over the image
beside them, one 1x1 convolution over all, one to the classes, and the logits
brought to the size of the images.

Differences from the authors' code: BN keeps statistics with the library's
momentum (0.9; theirs 0.9997), and the upsampling has half-pixel centers, as
PyTorch's with `align_corners=False`; theirs aligns corners.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import operations
from natjax.networks import backbone as backbone_lib
from natjax.networks import layers as layers_lib
from natjax.operations import counts, primitives

RATES = (6, 12, 18)  # At an output stride of 16; twice that at 8.


def upsample(x: jax.Array, height: int, width: int) -> jax.Array:
  """Bilinear, with half-pixel centers: [B, h, w, C] -> [B, height, width, C].
  """
  return jax.image.resize(x, (len(x), height, width, x.shape[-1]), "bilinear",
                          antialias=False)


class Head(nn.Module):
  """ASPP and the classifier: f[B, h, w, C] -> logits f[B, h, w, K].

  Attributes:
    num_classes: K.
    output_stride: of the features, by which dilations are scaled.
    norm: returns the BN to use.
    train: whether dropout is on, drawn from the rng stream "dropout".
    width: channels of every branch.
    dropout: rate before the classifier.
  """

  num_classes: int
  output_stride: int
  norm: layers_lib.NormFactory
  train: bool
  width: int = 256
  dropout: float = 0.1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:

    def block(x, name, kernel=1, dilation=1):
      x = operations.Conv(self.width, (kernel, kernel), dilation=dilation,
                          name=f"{name}_conv")(x)
      return primitives.relu(self.norm(name=f"{name}_norm")(x))

    parts = [block(x, "aspp0")]
    for i, rate in enumerate(RATES, 1):
      parts.append(block(
          x, f"aspp{i}", 3, max(rate * 16 // self.output_stride, 1)))
    mean = block(primitives.global_mean(x).astype(x.dtype), "pooling")
    parts.append(jnp.broadcast_to(mean, parts[0].shape))
    x = block(jnp.concatenate(parts, -1), "project")
    x = nn.Dropout(self.dropout, deterministic=not self.train)(x)
    bias = self.param("bias", nn.initializers.zeros, (self.num_classes,))
    return operations.Conv(self.num_classes, (1, 1), name="classifier")(
        x) + bias.astype(x.dtype)


class DeepLabV3(nn.Module):
  """A network that gives every pixel a class.

  Its parameters are {"backbone": those of the network's stem and blocks,
  "head": the head's}, and so are the statistics.

  Attributes:
    backbone: gives the features.
    num_classes: K.
    width: channels of the head's branches.
    dropout: rate before the classifier, in training.

  `__call__` maps images f[B, H, W, 3] of any size to logits f32[B, H, W, K].
  """

  backbone: backbone_lib.Backbone
  num_classes: int
  width: int = 256
  dropout: float = 0.1

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
    features = self.backbone(images, train=train)
    norm = functools.partial(layers_lib.RunningBatchNorm, train,
                             self.backbone.axis_name)
    logits = Head(self.num_classes, self.backbone.stride, norm, train,
                  self.width, self.dropout, name="head")(features)
    return upsample(primitives.at_least_float32(logits), *images.shape[1:3])


def cost(channels: int, size: int, num_classes: int,
         width: int = 256) -> operations.Cost:
  """Computes the cost of a head; the upsampling is left out.

  Args:
    channels: C, of the features.
    size: their side.
    num_classes: K.
    width: channels of the branches.
  """
  total = counts.conv_cost(width, 1, 1, weights=channels * width)
  for kernel, before in ((1, channels), *((3, channels),) * len(RATES),
                         (1, (len(RATES) + 2) * width)):
    total += counts.conv_cost(
        width, size, 1, weights=kernel**2 * before * width)
  weights = width * num_classes
  return total + operations.Cost(weights + num_classes, weights * size**2)
