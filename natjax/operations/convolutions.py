"""Convolutions as operations: their modules, which `counts` has the costs of.

Order inside every convolution: ReLU, convolution without bias, batch
normalisation (BN). `sep_conv` stacks ReLU, depthwise, pointwise, BN twice, the
first depthwise with the stride. Padding is symmetric, or "same" where the node
says so.
"""

from collections.abc import Mapping, Sequence
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax.operations import counts, parameters, primitives, registry

NormFactory = registry.NormFactory

_LEAST, _MOST = 256, 2**16  # Numbers that are drawn by one program.


def kernel_init(rng: jax.Array, shape: Sequence[int],
                dtype: Any = jnp.float32) -> jax.Array:
  """U(-1/sqrt(fan_in), 1/sqrt(fan_in)), what PyTorch's convolutions start from.

  These are the numbers of `nn.initializers.variance_scaling(1 / 3, "fan_in",
  "uniform")`. Up to 65536 of them are the first of 256 or 1024 or 4096 and so
  on, the same however many there are, since to compile a draw of every size
  takes XLA's CPU backend a quarter of a second.

  Args:
    rng: a key.
    shape: of the kernel; the last axis is of features, and all others make up
      the fan-in.
    dtype: of the kernel.
  """
  size = count = math.prod(shape)
  if size <= _MOST:
    count = _LEAST
    while count < size:
      count *= 4
  variance = jnp.array(1 / 3 / math.prod(shape[:-1]), dtype)
  return _first(jax.random.uniform(rng, (count,), dtype, -1),
                jnp.sqrt(3 * variance), tuple(shape))


@functools.partial(jax.jit, static_argnums=2)
def _first(drawn, bound, shape):
  return drawn[:math.prod(shape)].reshape(shape) * bound


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
    counts.check_groups(g, x.shape[-1], self.features)
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
    counts.check_halvable(self.features)
    x, rate = primitives.relu(x), primitives.spacing(2)[0]
    # Zeros above and to the left of odd sides, after the ReLU.
    odd = [-(-side // rate) % 2 for side in x.shape[1:3]]
    halves = [Conv(self.features // 2, (1, 1), name=f"conv{i}")(
        primitives.subsample(x, 2, (i - odd[0], i - odd[1]))) for i in range(2)]
    return self.norm(name="norm")(jnp.concatenate(halves, axis=-1))


class PlainConv(_Convolution):
  """A convolution k x k alone, without ReLU and BN."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return Conv(self.features, (self.kernel_size,) * 2, self.stride,
                self.padding, name="conv")(x)


def scaled(params: Mapping[str, Any], factor: jax.Array, *,
           convs: Sequence[str], norm: str | None = "norm") -> dict[str, Any]:
  """An operation's parameters that take a factor up, exactly.

  Where it ends in a BN, in scale and bias of that; where a bias alone follows
  its last convolution, in the bias and in the convolution.

  Args:
    params: of the operation.
    factor: what it is to give, in times of what it gives.
    convs: names of the last convolutions, side by side, in the parameters.
    norm: name of what follows them; None where nothing does.
  """
  parts = [] if norm is None else [norm]
  if norm is None or set(params[norm]) == {"bias"}:
    parts += convs
  return {**params, **{name: jax.tree.map(lambda x: factor * x, params[name])
                       for name in parts}}
