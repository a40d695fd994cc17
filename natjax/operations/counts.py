"""What an operation costs, in parameters and multiply-adds.

Every function takes the channels of the output, the side of the input and the
stride, of square images, and counts a trained network: BN has affine
parameters. `in_channels` is given where it differs from `channels`.
"""

from typing import NamedTuple

from natjax import errors
from natjax.operations import primitives


class Cost(NamedTuple):
  """What an operation or a network costs.

  Attributes:
    params: trainable parameters, those of affine BN included.
    madds: multiply-adds of convolutions and linear layers, at output size.
    other: multiply-adds of pooling windows and copies, which `madds` leaves
      out (the paper's Fig. 4(b) counts them).
    norm_params: those of `params` that belong to affine BN.
  """

  params: int
  madds: int
  other: int = 0
  norm_params: int = 0

  def __add__(self, other: "Cost") -> "Cost":
    return Cost(*(a + b for a, b in zip(self, other, strict=True)))


def check_groups(groups: int, *channels: int) -> None:
  """Refuses channels that `groups` does not divide (InputError)."""
  for count in channels:
    if count % groups:
      raise errors.InputError(
          f"{count} channels cannot be cut into {groups} groups; give a"
          f" multiple of {groups}")


def check_halvable(channels: int) -> None:
  """Refuses channels that a factorised reduce cannot halve (InputError)."""
  if channels % 2:
    raise errors.InputError(
        f"{channels} channels cannot be halved by a factorised reduce; give an"
        " even number of initial channels"
    )


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


def dense_cost(
    channels: int, size: int, stride: int, *, kernel_size: int,
    in_channels: int | None = None,
) -> Cost:
  """Of a k x k convolution and a BN."""
  weights = kernel_size**2 * channels * (in_channels or channels)
  return conv_cost(channels, size, stride, weights=weights)


def plain_cost(
    channels: int, size: int, stride: int, *, in_channels: int | None = None
) -> Cost:
  """Of a 1x1 convolution alone."""
  weights = channels * (in_channels or channels)
  return Cost(weights, weights * primitives.output_size(size, stride)**2)


def group_cost(
    channels: int, size: int, stride: int, *, groups: int,
    in_channels: int | None = None,
) -> Cost:
  """Of a 1x1 convolution in groups, which must divide the channels, and a BN.
  """
  in_channels = in_channels or channels
  check_groups(groups, in_channels, channels)
  return conv_cost(channels, size, stride,
                   weights=channels * in_channels // groups)


def depthwise_cost(
    channels: int, size: int, stride: int, *, kernel_size: int
) -> Cost:
  """Of a depthwise k x k convolution and a BN."""
  return conv_cost(channels, size, stride, weights=kernel_size**2 * channels)


def factorized_cost(
    channels: int, size: int, stride: int, *, kernel_size: int,
    in_channels: int | None = None,
) -> Cost:
  """Of a 1 x k and a k x 1 convolution and one BN."""
  out = primitives.output_size(size, stride)
  first = kernel_size * channels * (in_channels or channels)
  second = kernel_size * channels**2
  # The first of the two convolutions strides along one axis only.
  norm = 2 * channels
  return Cost(first + second + norm, first * out * size + second * out * out,
              norm_params=norm)


def separable_cost(
    channels: int, size: int, stride: int, *, kernel_size: int, repeats: int,
    in_channels: int | None = None,
) -> Cost:
  """Of `repeats` times a depthwise k x k and a 1x1 convolution and a BN."""
  before = in_channels or channels  # Only the last pointwise one widens.
  total = Cost(0, 0)
  for i in range(repeats):
    after = channels if i + 1 == repeats else before
    total += conv_cost(after, size, stride,
                       weights=kernel_size**2 * before + before * after)
  return total


def skip_cost(channels: int, size: int, stride: int) -> Cost:
  """Of a copy, or at stride 2 of a factorised reduce."""
  if stride == 1:
    return Cost(0, 0, channels * size * size)
  check_halvable(channels)
  return conv_cost(channels, size, stride, weights=channels**2)


def null_cost(channels: int, size: int, stride: int) -> Cost:
  """Of nothing."""
  del channels, size, stride
  return Cost(0, 0)


def pool_cost(
    channels: int, size: int, stride: int, *, kernel_size: int
) -> Cost:
  """Of pooling, whose windows are counted in `other`."""
  out = primitives.output_size(size, stride)
  return Cost(0, 0, kernel_size**2 * channels * out * out)
