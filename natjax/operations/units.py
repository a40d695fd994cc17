"""Units: operations that are a few convolutions in a row, and their costs.

They are what the layers of chains choose among (`spaces.proxyless`,
`spaces.shufflenet`): an inverted residual block (MBConv; Sandler et al., 2018),
also with squeeze-and-excitation (Hu et al., 2018), and the units of
ShuffleNetV2 (Ma et al., 2018) that SPOS chooses among (Guo et al., 2020,
section 3.4 and the released code). What a unit does is written down once, as
steps, from which module and cost follow.

No unit begins with a ReLU. One whose source and target have one shape hands its
input on: MBConv adds it, a unit of ShuffleNet leaves every other channel as it
is.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax.operations import convolutions, primitives, registry

Cost = registry.Cost
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 6)
REDUCTION = 4  # Of the channels, within squeeze-and-excitation.


class Step(NamedTuple):
  """A step of a unit.

  Attributes:
    kind: "conv" (1x1) or "depthwise", with a BN each, or "squeeze".
    width: channels of its output; those of its input but for "conv".
    kernel: side of the window.
    stride: of the convolution.
    activation: after the BN: "none", "relu" or "relu6".
  """

  kind: str
  width: int
  kernel: int = 1
  stride: int = 1
  activation: str = "none"


_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda x: x, "relu": primitives.relu,
    "relu6": functools.partial(primitives.relu, most=6)}


def mbconv(before: int, width: int, stride: int, *, expansion: int,
           kernel_size: int, squeeze: bool = False) -> tuple[Step, ...]:
  """The steps of an inverted residual block.

  Args:
    before: channels of the input.
    width: channels of the output.
    stride: of the depthwise convolution.
    expansion: how many times wider it is inside.
    kernel_size: of the depthwise convolution.
    squeeze: whether squeeze-and-excitation follows that.
  """
  inside = before * expansion
  return (Step("conv", inside, activation="relu6"),
          Step("depthwise", inside, kernel_size, stride, "relu6"),
          *[Step("squeeze", inside)] * squeeze, Step("conv", width))


def shuffle_main(before: int, width: int, out: int, stride: int, *,
                 kernel_size: int, xception: bool) -> tuple[Step, ...]:
  """The steps of the branch of a ShuffleNetV2 unit that computes most.

  Args:
    before: channels of the branch's input.
    width: channels inside.
    out: channels of its output.
    stride: of the first depthwise convolution.
    kernel_size: of the depthwise convolutions.
    xception: three separable convolutions in place of one between two 1x1.
  """
  if not xception:
    return (Step("conv", width, activation="relu"),
            Step("depthwise", width, kernel_size, stride),
            Step("conv", out, activation="relu"))
  steps: list[Step] = []
  for i, (seen, made) in enumerate(((before, width), (width, width),
                                    (width, out))):
    steps += [Step("depthwise", seen, kernel_size, 1 if i else stride),
              Step("conv", made, activation="relu")]
  return tuple(steps)


def shuffle_side(before: int, width: int, stride: int, *,
                 kernel_size: int) -> tuple[Step, ...]:
  """The steps of the other branch, where shapes change."""
  return (Step("depthwise", before, kernel_size, stride),
          Step("conv", width, activation="relu"))


def _run(steps, norm, x, prefix=""):
  """Runs steps in the module that calls."""
  for i, step in enumerate(steps):
    if step.kind == "squeeze":
      x = SqueezeExcite(step.width, 1, norm, name=f"{prefix}squeeze{i}")(x)
      continue
    layer = convolutions.Conv(
        step.width, (1, 1), name=f"{prefix}conv{i}"
    ) if step.kind == "conv" else convolutions.DepthwiseConv(
        step.kernel, step.stride, name=f"{prefix}depthwise{i}")
    x = _ACTIVATIONS[step.activation](norm(name=f"{prefix}norm{i}")(layer(x)))
  return x


def _cost(steps: Sequence[Step], channels: int, size: int) -> Cost:
  """Of steps, whose first sees `channels` on images of side `size`."""
  total = Cost(0, 0)
  for step in steps:
    if step.kind == "squeeze":
      total += squeeze_cost(step.width, size, 1)
      continue
    weights = step.kernel**2 * step.width * (
        channels if step.kind == "conv" else 1)
    total += convolutions.conv_cost(
        step.width, size, step.stride, weights=weights)
    channels, size = step.width, primitives.output_size(size, step.stride)
  return total


class SqueezeExcite(nn.Module):
  """Squeeze-and-excitation: channels are weighed by what the whole image shows.

  Hu et al., 2018, section 3: the mean over the image, a linear layer to a
  quarter of the channels, ReLU, one back, a sigmoid; both have biases.
  """

  features: int
  stride: int
  norm: registry.NormFactory  # Not used: there is none.

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    gate = primitives.global_mean(x)
    gate = primitives.relu(_Linear(_squeezed(self.features), name="reduce")(
        gate.astype(x.dtype)))
    return x * nn.sigmoid(_Linear(self.features, name="restore")(gate))


class _Linear(nn.Module):
  """A 1x1 convolution with a bias."""

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    return convolutions.Conv(self.features, (1, 1), name="conv")(
        x) + bias.astype(x.dtype)


def _squeezed(channels):
  return max(channels // REDUCTION, 1)


def squeeze_cost(channels: int, size: int, stride: int) -> Cost:
  """Of squeeze-and-excitation, whose mean and product are counted in `other`.
  """
  del stride
  inside = _squeezed(channels)
  weights = 2 * channels * inside
  return Cost(weights + inside + channels, weights, 2 * channels * size**2)


class InvertedResidual(nn.Module):
  """An inverted residual block, which adds its input where shapes are alike."""

  features: int
  stride: int
  norm: registry.NormFactory
  expansion: int = 6
  kernel_size: int = 3
  squeeze: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    steps = mbconv(
        x.shape[-1], self.features, self.stride, expansion=self.expansion,
        kernel_size=self.kernel_size, squeeze=self.squeeze)
    y = _run(steps, self.norm, x)
    return x + y if self.stride == 1 and y.shape == x.shape else y


def mbconv_cost(channels: int, size: int, stride: int, *,
                in_channels: int | None = None, expansion: int,
                kernel_size: int, squeeze: bool) -> Cost:
  """Of an inverted residual block; the sum is counted in `other`."""
  before = in_channels or channels
  total = _cost(mbconv(before, channels, stride, expansion=expansion,
                       kernel_size=kernel_size, squeeze=squeeze), before, size)
  alike = stride == 1 and before == channels
  return total + Cost(0, 0, channels * size * size * alike)


class ShuffleUnit(nn.Module):
  """A unit of ShuffleNetV2.

  Where shapes are alike, channels 0, 2, ... stay, and 1, 3, ... go through the
  branch; both are then concatenated, so that the next unit takes every other
  channel of either half. Elsewhere two branches see all channels; the side one
  keeps their number, or gives half of the output where that is not wider.

  Raises:
    InputError: an odd number of channels that it would halve.
  """

  features: int
  stride: int
  norm: registry.NormFactory
  kernel_size: int = 3
  xception: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    main, side = _branches(x.shape[-1], self.features, self.stride,
                           self.kernel_size, self.xception)
    if side is None:
      return jnp.concatenate(
          [x[..., ::2], _run(main, self.norm, x[..., 1::2], "main_")], -1)
    return jnp.concatenate([_run(side, self.norm, x, "side_"),
                            _run(main, self.norm, x, "main_")], -1)


def _branches(before, width, stride, kernel_size, xception):
  """Steps of both branches; None of one that is left out."""
  convolutions.check_halvable(width)
  make = functools.partial(
      shuffle_main, kernel_size=kernel_size, xception=xception)
  if stride == 1 and before == width:
    return make(before // 2, width // 2, width // 2, 1), None
  kept = before if width > before else width // 2
  return (make(before, width // 2, width - kept, stride),
          shuffle_side(before, kept, stride, kernel_size=kernel_size))


def shuffle_cost(channels: int, size: int, stride: int, *,
                 in_channels: int | None = None, kernel_size: int,
                 xception: bool) -> Cost:
  """Of a unit of ShuffleNetV2; what stays is counted in `other`."""
  before = in_channels or channels
  main, side = _branches(before, channels, stride, kernel_size, xception)
  if side is None:
    half = channels // 2
    return _cost(main, half, size) + Cost(0, 0, half * size * size)
  return _cost(main, before, size) + _cost(side, before, size)


def operations() -> Iterator[registry.Operation]:
  """The operations of this module."""
  partial = functools.partial
  for squeeze in (False, True):
    for expansion in EXPANSIONS:
      for k in KERNELS:
        options: dict[str, Any] = {
            "expansion": expansion, "kernel_size": k, "squeeze": squeeze}
        yield registry.Operation(
            f"mbconv{expansion}_{k}x{k}" + "_se" * squeeze, "mbconv", k,
            partial(InvertedResidual, **options),
            partial(mbconv_cost, **options), widens=True, dilates=True)
  yield registry.Operation(
      "squeeze_excite", "squeeze_excite", 0, SqueezeExcite, squeeze_cost,
      strides=(1,), dilates=True)
  for name, k, xception in (*((f"shuffle_{k}x{k}", k, False) for k in KERNELS),
                            ("shuffle_xception_3x3", 3, True)):
    yield registry.Operation(
        name, "shuffle", k,
        partial(ShuffleUnit, kernel_size=k, xception=xception),
        partial(shuffle_cost, kernel_size=k, xception=xception), widens=True,
        dilates=True)
