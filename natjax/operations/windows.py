"""Where windows stand on images, and what side is left: facts, without arrays.

`primitives` computes by them, and what only counts (`builtin`, `edges`) needs
no more than these.
"""

from collections.abc import Iterator
import contextlib
import contextvars

SYMMETRIC = "symmetric"
Padding = int | str | tuple[tuple[int, int], tuple[int, int]]
_RATES = contextvars.ContextVar("dilation_rates", default=(1, 1))


@contextlib.contextmanager
def dilated(before: int, after: int) -> Iterator[None]:
  """Turns the stride of an operation into dilation, in a `with` block.

  Chen et al., 2017, "Rethinking Atrous Convolution for Semantic Image
  Segmentation" (arXiv:1706.05587), section 3.1. Images are finer than those of
  the network as it is, whose pixels are every `before`-th of an operation's
  input and every `after`-th of its output, from the first on; there the values
  are equal. So a stride of 2 at the rates 1 and 2 becomes 1, its own window is
  not dilated, and what comes behind it is, at the rates 2 and 2.

  An operation strides at once. In one that does, windows without a stride of
  their own come behind the stride, and see its output.

  Args:
    before: rate of the input.
    after: rate of the output; it divides stride times `before`.
  """
  token = _RATES.set((before, after))
  try:
    yield
  finally:
    _RATES.reset(token)


def spacing(stride: int) -> tuple[int, int]:
  """What a window of a stride has in a `dilated` block: its rate, its stride.

  Elsewhere 1 and the stride itself.

  Example:
    >>> with dilated(1, 2):
    ...   spacing(2), spacing(1)
    ((1, 1), (2, 1))
  """
  before, after = _RATES.get()
  return (after, 1) if stride == 1 else (before, stride * before // after)


def output_size(size: int, stride: int) -> int:
  """Height or width after a padded operation: ceil(size / stride).

  In a `dilated` block, divided by what is left of the stride.
  """
  return -(-size // spacing(stride)[1])


def sides(padding: str, size: int, window: int, stride: int,
          dilation: int = 1) -> tuple[int, int]:
  """Computes the pixels of padding before and behind one axis of images.

  Args:
    padding: "symmetric", which at stride 1 keeps the size of images under odd
      windows; or "same", the least that gives ceil(size / stride) windows, the
      odd one of it behind.
    size: of the axis.
    window: along it.
    stride: of the window.
    dilation: of the window.

  Example:
    >>> sides("symmetric", 32, 3, 2), sides("same", 32, 3, 2)
    ((1, 1), (0, 1))
  """
  reach = (window - 1) * dilation
  if padding == SYMMETRIC:
    return reach // 2, reach // 2
  whole = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
  return whole // 2, whole - whole // 2


def placed(sizes, windows, strides, dilation, padding):
  """Where windows stand: pads, strides and dilations of height and width.

  Those that were given, but in a `dilated` block.
  """
  pads, steps, rates = [], [], []
  for axis, (size, window, stride) in enumerate(
      zip(sizes, windows, strides, strict=True)):
    rate, step = spacing(stride)
    if isinstance(padding, str):
      ends = sides(padding, -(-size // rate), window, stride, dilation)
    else:
      ends = (padding, padding) if isinstance(padding, int) else padding[axis]
    if (rate, step) != (1, stride):
      reach = (window - 1) * dilation * rate
      ends = (ends[0] * rate, max(ends[1] * rate, reach - ends[0] * rate))
    pads.append(ends)
    steps.append(step)
    rates.append(dilation * rate if window > 1 else 1)
  return tuple(pads), tuple(steps), tuple(rates)
