"""Units, a few convolutions in a row, as steps, and what those cost.

An inverted residual block (MBConv; Sandler et al., 2018), also with
squeeze-and-excitation (Hu et al., 2018), and the units of ShuffleNetV2 (Ma et
al., 2018) that SPOS chooses among (Guo et al., 2020, section 3.4 and the
released code). What a unit does is written down once, as steps, from which its
module (`units`) and its cost follow.
"""

from collections.abc import Sequence
import functools
from typing import NamedTuple

from natjax.operations import counts, registry, windows

Cost = registry.Cost
KERNELS = (3, 5, 7)  # Of the units that are registered.
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


def _cost(steps: Sequence[Step], channels: int, size: int) -> Cost:
  """Of steps, whose first sees `channels` on images of side `size`."""
  total = Cost(0, 0)
  for step in steps:
    if step.kind == "squeeze":
      total += squeeze_cost(step.width, size, 1)
      continue
    weights = step.kernel**2 * step.width * (
        channels if step.kind == "conv" else 1)
    total += counts.conv_cost(
        step.width, size, step.stride, weights=weights)
    channels, size = step.width, windows.output_size(size, step.stride)
  return total


def squeezed(channels: int) -> int:
  """Channels within squeeze-and-excitation."""
  return max(channels // REDUCTION, 1)


def squeeze_cost(channels: int, size: int, stride: int) -> Cost:
  """Of squeeze-and-excitation, whose mean and product are counted in `other`.
  """
  del stride
  inside = squeezed(channels)
  weights = 2 * channels * inside
  return Cost(weights + inside + channels, weights, 2 * channels * size**2)


def mbconv_cost(channels: int, size: int, stride: int, *,
                in_channels: int | None = None, expansion: int,
                kernel_size: int, squeeze: bool) -> Cost:
  """Of an inverted residual block; the sum is counted in `other`."""
  before = in_channels or channels
  total = _cost(mbconv(before, channels, stride, expansion=expansion,
                       kernel_size=kernel_size, squeeze=squeeze), before, size)
  alike = stride == 1 and before == channels
  return total + Cost(0, 0, channels * size * size * alike)


def branches(
    before: int, width: int, stride: int, kernel_size: int, xception: bool,
) -> tuple[tuple[Step, ...], tuple[Step, ...] | None]:
  """The steps of both branches of a unit of ShuffleNetV2.

  Args:
    before: channels of the unit's input.
    width: channels of its output.
    stride: of the unit.
    kernel_size: of the depthwise convolutions.
    xception: as `shuffle_main` takes it.

  Returns:
    Those of the main branch and of the other one, which is None where shapes
    are alike.

  Raises:
    InputError: an odd number of channels that it would halve.
  """
  counts.check_halvable(width)
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
  main, side = branches(before, channels, stride, kernel_size, xception)
  if side is None:
    half = channels // 2
    return _cost(main, half, size) + Cost(0, 0, half * size * size)
  return _cost(main, before, size) + _cost(side, before, size)
