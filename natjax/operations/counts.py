"""What the library's own operations cost, and on which channels they can stand.

`builtin` says which operation has which of these; units are in `steps`.
"""

from collections.abc import Callable

from natjax import errors
from natjax.operations import registry, windows

Cost = registry.Cost


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


def conv_cost(channels: int, size: int, stride: int, *, weights: int) -> Cost:
  """Cost of a convolution at output size, followed by a BN.

  Args:
    channels: of the output.
    size: input side.
    stride: of the convolution or of the one before it.
    weights: of the convolution.
  """
  out = windows.output_size(size, stride)
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


def plain_cost(channels: int, size: int, stride: int, *, kernel_size: int = 1,
               in_channels: int | None = None) -> Cost:
  """Of a k x k convolution alone."""
  weights = kernel_size**2 * channels * (in_channels or channels)
  return Cost(weights, weights * windows.output_size(size, stride)**2)


def depthwise_cost(channels: int, size: int, stride: int, *,
                   kernel_size: int) -> Cost:
  """Of a depthwise k x k convolution and a BN."""
  return conv_cost(channels, size, stride, weights=kernel_size**2 * channels)


def factorized_cost(channels: int, size: int, stride: int, *, kernel_size: int,
                    in_channels: int | None = None) -> Cost:
  """Of a 1 x k and a k x 1 convolution and one BN."""
  out = windows.output_size(size, stride)
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


def padded_size(size: int, stride: int) -> int:
  """Of a 2x2 window with a pixel of padding: 32 becomes 17, and 17 becomes 9.

  So NAS-Bench-1Shot1 halves its images (Zela et al., 2020).
  """
  rate, step = windows.spacing(stride)
  return (size + rate - 1) // step + 1


def skip_cost(channels: int, size: int, stride: int, *,
              in_channels: int | None = None) -> Cost:
  """Of a copy, or at stride 2 of a factorised reduce."""
  if stride == 1:
    return Cost(0, 0, channels * size * size)
  check_halvable(channels)
  return dense_cost(channels, size, stride, in_channels=in_channels)


def null_cost(*shape: int, in_channels: int | None = None) -> Cost:
  """Of nothing."""
  del shape, in_channels
  return Cost(0, 0)


def pool_cost(channels: int, size: int, stride: int, *, kernel_size: int,
              output_size: Callable[[int, int], int]) -> Cost:
  """Of pooling, whose windows are counted in `other`."""
  return Cost(0, 0, kernel_size**2 * channels * output_size(size, stride)**2)
