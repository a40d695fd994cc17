"""Convolutions as operations, each module with its cost beside it.

Order inside every convolution: ReLU, convolution without bias, batch
normalisation (BN). `sep_conv` stacks ReLU, depthwise, pointwise, BN twice, the
first depthwise with the stride. Padding is symmetric, or "same" where the node
says so.
"""

from collections.abc import Callable, Iterator
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import errors
from natjax.operations import parameters, primitives, registry

Cost = registry.Cost
NormFactory = registry.NormFactory

#: U(-1/sqrt(fan_in), 1/sqrt(fan_in)), what PyTorch's convolutions start from.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


def check_groups(groups: int, *channels: int) -> None:
  """Refuses channels that `groups` does not divide (InputError)."""
  for count in channels:
    if count % groups:
      raise errors.InputError(f"{count} channels cannot be cut into {groups}"
                              f" groups; give a multiple of {groups}")


def check_halvable(channels: int) -> None:
  """Refuses channels that a factorised reduce cannot halve (InputError)."""
  if channels % 2:
    raise errors.InputError(
        f"{channels} channels cannot be halved by a factorised reduce; give an"
        " even number of initial channels")


def _kernel(module, shape):
  """A module's kernel."""
  return parameters.parameter(module, "kernel", kernel_init, shape)


class Conv(nn.Module):
  """A bias-free convolution; see `primitives.conv`."""

  features: int
  kernel_size: tuple[int, int]
  stride: int | tuple[int, int] = 1
  padding: int | str = primitives.SYMMETRIC
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = _kernel(self, shape)
    return primitives.conv(x, kernel, stride=self.stride, padding=self.padding,
                           dilation=self.dilation)


class DepthwiseConv(nn.Module):
  """A bias-free depthwise convolution."""

  kernel_size: int
  stride: int = 1
  dilation: int = 1
  padding: str = primitives.SYMMETRIC

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
    kernel = _kernel(self, shape)
    return primitives.depthwise_conv(
        x, kernel, stride=self.stride, dilation=self.dilation,
        padding=self.padding)


class _Convolution(nn.Module):
  """ReLU, if `activate`, then `convolve`, BN."""

  features: int
  stride: int
  norm: NormFactory
  kernel_size: int = 1
  activate: bool = True
  padding: str = primitives.SYMMETRIC

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = self.convolve(primitives.relu(x) if self.activate else x)
    return self.norm(name="norm")(x)


class ReluConvNorm(_Convolution):
  """ReLU, convolution k x k, BN."""

  def convolve(self, x):
    return Conv(self.features, (self.kernel_size,) * 2, self.stride,
                self.padding, name="conv")(x)


class GroupConv(_Convolution):
  """ReLU, convolution 1x1 in groups of channels, BN.

  Raises:
    InputError: `groups` does not divide the channels.
  """

  groups: int = 1

  def convolve(self, x):
    g = self.groups
    check_groups(g, x.shape[-1], self.features)
    x = primitives.subsample(x, self.stride)
    width = x.shape[-1] // g
    kernel = _kernel(self, (1, 1, width, self.features))
    x = x.reshape(*x.shape[:3], g, width)
    x = jnp.einsum("bhwgi,igo->bhwgo", x, kernel.astype(x.dtype).reshape(
        width, g, self.features // g))
    return x.reshape(*x.shape[:3], self.features)


class DepthwiseNorm(_Convolution):
  """ReLU, depthwise convolution k x k, BN."""

  def convolve(self, x):
    return DepthwiseConv(self.kernel_size, self.stride, padding=self.padding,
                         name="depthwise")(x)


class FactorizedConv(_Convolution):
  """ReLU, convolution 1 x k, convolution k x 1, one BN.

  The first strides along the width, the second along the height. The names
  1x7_7x1 and 7x1_1x7 stand for this same definition.
  """

  def convolve(self, x):
    k, s = self.kernel_size, self.stride
    x = Conv(self.features, (1, k), (1, s), self.padding, name="conv0")(x)
    return Conv(self.features, (k, 1), (s, 1), self.padding, name="conv1")(x)


class SeparableConv(_Convolution):
  """`repeats` times ReLU, depthwise, pointwise, BN.

  The stride comes first; the number of channels changes last, as in DARTS.
  """

  dilation: int = 1
  repeats: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for i in range(self.repeats):
      features = self.features if i + 1 == self.repeats else x.shape[-1]
      x = primitives.relu(x) if self.activate or i > 0 else x
      x = DepthwiseConv(self.kernel_size, self.stride if i == 0 else 1,
                        self.dilation, self.padding, name=f"depthwise{i}")(x)
      x = Conv(features, (1, 1), name=f"pointwise{i}")(x)
      x = self.norm(name=f"norm{i}")(x)
    return x


class FactorizedReduce(nn.Module):
  """ReLU, two 1x1 convolutions of stride 2, one shifted by a pixel, BN.

  Raises:
    InputError: `features` is odd.
  """

  features: int
  norm: NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    check_halvable(self.features)
    x, rate = primitives.relu(x), primitives.spacing(2)[0]
    # Zeros above and to the left of odd sides, after the ReLU.
    odd = [-(-side // rate) % 2 for side in x.shape[1:3]]
    halves = [Conv(self.features // 2, (1, 1), name=f"conv{i}")(
        primitives.subsample(x, 2, (i - odd[0], i - odd[1]))) for i in range(2)]
    return self.norm(name="norm")(jnp.concatenate(halves, axis=-1))


class PlainConv(_Convolution):
  """A 1x1 convolution alone, without ReLU and BN."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return Conv(self.features, (1, 1), self.stride, name="conv")(x)


def conv_cost(channels: int, size: int, stride: int, *, weights: int) -> Cost:
  """Cost of a convolution at output size, followed by a BN.

  Args:
    channels: of the output.
    size: input side.
    stride: of the convolution or of the one before it.
    weights: of the convolution.
  """
  out = primitives.output_size(size, stride)
  norm = 2 * channels
  return Cost(weights + norm, weights * out * out, norm_params=norm)


def dense_cost(channels: int, size: int, stride: int, *, kernel_size: int = 1,
               groups: int = 1, in_channels: int | None = None) -> Cost:
  """Of a k x k convolution in groups, which must divide the channels, and a BN.
  """
  in_channels = in_channels or channels
  check_groups(groups, in_channels, channels)
  weights = kernel_size**2 * channels * in_channels // groups
  return conv_cost(channels, size, stride, weights=weights)


def plain_cost(channels: int, size: int, stride: int, *,
               in_channels: int | None = None) -> Cost:
  """Of a 1x1 convolution alone."""
  weights = channels * (in_channels or channels)
  return Cost(weights, weights * primitives.output_size(size, stride)**2)


def depthwise_cost(channels: int, size: int, stride: int, *,
                   kernel_size: int) -> Cost:
  """Of a depthwise k x k convolution and a BN."""
  return conv_cost(channels, size, stride, weights=kernel_size**2 * channels)


def factorized_cost(channels: int, size: int, stride: int, *, kernel_size: int,
                    in_channels: int | None = None) -> Cost:
  """Of a 1 x k and a k x 1 convolution and one BN."""
  out = primitives.output_size(size, stride)
  first = kernel_size * channels * (in_channels or channels)
  second = kernel_size * channels**2
  # The first of the two convolutions strides along one axis only.
  norm = 2 * channels
  return Cost(first + second + norm, first * out * size + second * out * out,
              norm_params=norm)


def separable_cost(channels: int, size: int, stride: int, *, kernel_size: int,
                   repeats: int = 1, in_channels: int | None = None) -> Cost:
  """Of `repeats` times a depthwise k x k and a 1x1 convolution and a BN."""
  before = in_channels or channels  # Only the last pointwise one widens.
  total = Cost(0, 0)
  for i in range(repeats):
    after = channels if i + 1 == repeats else before
    total += conv_cost(after, size, stride,
                       weights=kernel_size**2 * before + before * after)
  return total


def scaling(*convs: str,
            norm: str | None = "norm") -> Callable[[Any, jax.Array], Any]:
  """How an operation takes a factor up into its parameters, exactly.

  Where it ends in a BN, in scale and bias of that; where a bias alone follows
  its last convolution, in the bias and in the convolution.

  Args:
    *convs: names of the last convolutions, side by side, in the parameters.
    norm: name of what follows them; None where nothing does.

  Returns:
    `(params, factor) -> params` of the same operation, times `factor`.
  """

  def scale(params, factor):
    parts = [] if norm is None else [norm]
    if norm is None or set(params[norm]) == {"bias"}:
      parts += convs
    return {**params, **{name: jax.tree.map(lambda x: factor * x, params[name])
                         for name in parts}}

  return scale


def _operation(name, kind, module, cost, *scales, kernel_size, norm="norm",
               widens=True, **options):
  """One that begins with a ReLU; its cost is told what its module is."""
  partial = functools.partial
  options["kernel_size"] = kernel_size
  return registry.Operation(
      name, kind, kernel_size, partial(module, **options),
      partial(cost, **options), activates=True, widens=widens, pads=True,
      scale=scaling(*scales, norm=norm), dilates=True)


def operations() -> Iterator[registry.Operation]:
  """The operations of this module."""
  for k in (1, 3, 5):
    yield _operation(f"conv_{k}x{k}", "conv", ReluConvNorm, dense_cost, "conv",
                     kernel_size=k)
  for k in (1, 3, 5, 7):
    yield _operation(
        f"sep_conv_{k}x{k}", "sep_conv", SeparableConv, separable_cost,
        "pointwise1", norm="norm1", kernel_size=k, repeats=2)
  dilated = functools.partial(SeparableConv, dilation=2)
  for k in (1, 3, 5):
    yield _operation(f"dil_conv_{k}x{k}", "dil_conv", dilated, separable_cost,
                     "pointwise0", norm="norm0", kernel_size=k)
  for name, k in (("conv_1x3_3x1", 3), ("conv_1x5_5x1", 5),
                  ("conv_1x7_7x1", 7), ("conv_7x1_1x7", 7)):
    yield _operation(name, "conv", FactorizedConv, factorized_cost, "conv1",
                     kernel_size=k)
  for k in (3, 5, 7):
    yield _operation(f"depthwise_conv_{k}x{k}", "depthwise_conv", DepthwiseNorm,
                     depthwise_cost, "depthwise", kernel_size=k, widens=False)
  for g in (2, 4, 8):
    yield _operation(f"group{g}_conv_1x1", "group_conv", GroupConv, dense_cost,
                     "kernel", kernel_size=1, groups=g)
  yield registry.Operation("plain_conv_1x1", "conv", 1, PlainConv, plain_cost,
                           widens=True, scale=scaling("conv", norm=None),
                           dilates=True)
