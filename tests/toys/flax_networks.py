"""Networks as people write them in flax, of no part of the library."""

from collections.abc import Sequence
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class BasicBlock(nn.Module):
  """After flax's own ImageNet example."""

  filters: int
  conv: Any
  norm: Any
  strides: tuple[int, int] = (1, 1)

  @nn.compact
  def __call__(self, x):
    residual = x
    y = self.conv(self.filters, (3, 3), self.strides)(x)
    y = nn.relu(self.norm()(y))
    y = self.conv(self.filters, (3, 3))(y)
    y = self.norm(scale_init=nn.initializers.zeros)(y)
    if residual.shape != y.shape:
      residual = self.conv(self.filters, (1, 1), self.strides,
                           name="conv_proj")(residual)
      residual = self.norm(name="norm_proj")(residual)
    return nn.relu(residual + y)


class BottleneckBlock(nn.Module):
  """After flax's own ImageNet example."""

  filters: int
  conv: Any
  norm: Any
  strides: tuple[int, int] = (1, 1)

  @nn.compact
  def __call__(self, x):
    residual = x
    y = nn.relu(self.norm()(self.conv(self.filters, (1, 1))(x)))
    y = nn.relu(self.norm()(self.conv(self.filters, (3, 3), self.strides)(y)))
    y = self.norm()(self.conv(self.filters * 4, (1, 1))(y))
    if residual.shape != y.shape:
      residual = self.conv(self.filters * 4, (1, 1), self.strides,
                           name="conv_proj")(residual)
      residual = self.norm(name="norm_proj")(residual)
    return nn.relu(residual + y)


class ResNet(nn.Module):
  """After flax's own ImageNet example, and with a stem for small images."""

  stages: Sequence[int]
  block: Any = BasicBlock
  filters: int = 8
  classes: int = 10
  large: bool = False

  @nn.compact
  def __call__(self, x, train: bool = True):
    conv = functools.partial(nn.Conv, use_bias=False)
    norm = functools.partial(nn.BatchNorm, use_running_average=not train,
                             momentum=0.9, epsilon=1e-5)
    if self.large:
      x = conv(self.filters, (7, 7), (2, 2), padding=[(3, 3), (3, 3)])(x)
      x = nn.relu(norm()(x))
      x = nn.max_pool(x, (3, 3), strides=(2, 2), padding="SAME")
    else:
      x = nn.relu(norm()(conv(self.filters, (3, 3))(x)))
    for i, count in enumerate(self.stages):
      for j in range(count):
        strides = (2, 2) if i > 0 and j == 0 else (1, 1)
        x = self.block(self.filters * 2**i, conv, norm, strides)(x)
    x = jnp.mean(x, axis=(1, 2))
    return nn.Dense(self.classes)(x)


class ConvNorm(nn.Module):
  """As PyTorch's users write it: padding by numbers, a bias before BN."""

  features: int
  kernel: int = 1
  stride: int = 1
  groups: int = 1
  activate: bool = True

  @nn.compact
  def __call__(self, x, train):
    pad = (self.kernel - 1) // 2
    x = nn.Conv(self.features, (self.kernel,) * 2, (self.stride,) * 2,
                padding=pad, feature_group_count=self.groups)(x)
    x = nn.BatchNorm(use_running_average=not train, epsilon=1e-3)(x)
    return nn.relu6(x) if self.activate else x


class InvertedResidual(nn.Module):
  features: int
  stride: int
  expansion: int
  squeeze: bool = False

  @nn.compact
  def __call__(self, x, train):
    before = x.shape[-1]
    inside = before * self.expansion
    y = x
    if self.expansion > 1:
      y = ConvNorm(inside)(y, train)
    y = ConvNorm(inside, 3, self.stride, inside)(y, train)
    if self.squeeze:
      gate = jnp.mean(y, axis=(1, 2), keepdims=True)
      gate = nn.relu(nn.Conv(inside // 4, (1, 1))(gate))
      y = y * nn.sigmoid(nn.Conv(inside, (1, 1))(gate))
    y = ConvNorm(self.features, activate=False)(y, train)
    return x + y if self.stride == 1 and before == self.features else y


class MobileNetV2(nn.Module):
  squeeze: bool = False
  classes: int = 10

  @nn.compact
  def __call__(self, x, *, train=False):
    x = ConvNorm(8, 3, 2)(x, train)
    for expansion, width, count, stride in ((1, 8, 1, 1), (3, 16, 2, 2),
                                            (3, 24, 2, 1)):
      for j in range(count):
        x = InvertedResidual(width, 1 if j else stride, expansion, (
            self.squeeze))(x, train)
    x = ConvNorm(32)(x, train)
    x = nn.avg_pool(x, x.shape[1:3]).reshape(x.shape[0], -1)
    x = nn.Dropout(0.2, deterministic=not train)(x)
    return nn.Dense(self.classes)(x)


def drawn(module, size, seed=0):
  """Variables with statistics as after a training, and two images."""
  images = jax.random.normal(jax.random.key(seed), (2, size, size, 3))
  variables = jax.eval_shape(module.init, jax.random.key(0), images)
  leaves, form = jax.tree_util.tree_flatten_with_path(variables)

  def draw(number, path, leaf):
    noise = jax.random.normal(jax.random.key(100 + number), leaf.shape)
    name = path[-1].key
    if name == "kernel":
      fan = leaf.size / leaf.shape[-1]
      return noise * (2 / fan)**0.5
    return 1 + 0.2 * jnp.tanh(noise) if name in ("scale", "var") else (
        0.2 * noise)

  return jax.tree.unflatten(form, [
      draw(n, *item) for n, item in enumerate(leaves)]), images
