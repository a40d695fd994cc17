"""The few array functions whose fastest form depends on the backend.

This is the one place where the form differs by backend: each function chooses
with `lax.platform_dependent`, so the rest of the library is the same on every
device. XLA's CPU backend runs grouped convolutions, select-and-scatter, 1x1
convolutions and those of images smaller than their window many times slower
than sums of shifted slices, shifted maxima and matrix products, so the CPU gets
those; every other backend gets XLA's own convolutions and window reductions,
but for one gradient: XLA has cuDNN compute that of a dilated kernel as a
convolution whose window is the whole image.

What is a program of its own here (`jax.jit`) is traced, batched and
differentiated once per shape, wherever it stands; XLA inlines it.

XLA's CPU backend also computes a chain of sums and products of whole images
anew for every operation that reads from it; `materialize` cuts the chain.

All images are [B, H, W, C]; padding is symmetric and explicit, as in PyTorch,
or "same", as in TensorFlow and flax, which differs at stride 2 (`sides`).
Everything is computed in the dtype of `x`, batch
statistics in float32, or in float64 where x is that.

Convolutions have gradients of their own on the CPU, and dilated depthwise ones
everywhere, which JAX can differentiate in reverse alone. `plain_derivatives`
leaves them out. `portable` leaves out every choice by the backend, for what
reads programs and is no backend of XLA.

`dilated` turns strides into dilations, whatever operation is made of these
functions (`natjax.backbone`).
"""

from collections.abc import Iterator
import contextlib
import contextvars
import functools
import math

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
SYMMETRIC = "symmetric"
_PLAIN = contextvars.ContextVar("plain_derivatives", default="")
_PORTABLE = contextvars.ContextVar("portable", default=False)
_HEARD: contextvars.ContextVar[list[jax.Array] | None] = (
    contextvars.ContextVar("relu_inputs", default=None))
_RATES = contextvars.ContextVar("dilation_rates", default=(1, 1))


@contextlib.contextmanager
def plain_derivatives(*, loops: bool = True) -> Iterator[None]:
  """Leaves differentiation to JAX for the length of a `with` block.

  Gradients written by hand are fast and small, but know nothing of forward
  mode and of derivatives of higher order. What is traced within the block has
  none of them, so that `jax.jvp`, `jax.hessian` and the like work; values are
  equal up to rounding. It is read when a function is traced: one that
  `jax.jit` has compiled already for the same shapes stays as it is, so call
  `jax.jit` within the block, on a function made there.

  Args:
    loops: whether the backward passes of a supernet's loops (`networks.scan`)
      are left to JAX, too, which then keeps what every turn starts from.
      Without, gradients may still be differentiated forward, `jax.jvp` of
      `jax.grad`.
  """
  token = _PLAIN.set("all" if loops else "operations")
  try:
    yield
  finally:
    _PLAIN.reset(token)


def derivatives_are_plain() -> bool:
  """Whether a `plain_derivatives` block is being traced, loops included."""
  return _PLAIN.get() == "all"


@contextlib.contextmanager
def portable() -> Iterator[None]:
  """Leaves the form of every function to whoever runs it.

  What is traced within the block asks for no backend: every convolution is
  one, of 1x1 too, and pooling is made of slices. It is read when a function is
  traced, as `plain_derivatives` is.
  """
  token = _PORTABLE.set(True)
  try:
    yield
  finally:
    _PORTABLE.reset(token)


def _by_platform(*args, cpu, default, anywhere):
  """`default` of the arguments, and on the CPU `cpu`, but if `anywhere`."""
  return default(*args) if anywhere else lax.platform_dependent(
      *args, cpu=cpu, default=default)


@contextlib.contextmanager
def relu_inputs() -> Iterator[list[jax.Array]]:
  """Hears every `relu` for the length of a `with` block.

  Gives a list to which each of them, as it is called or traced, appends its
  input. What a program or loop of its own has traced before is not heard, so it
  serves networks of one architecture, whose layers are unrolled, and no
  supernets.
  """
  heard: list[jax.Array] = []
  token = _HEARD.set(heard)
  try:
    yield heard
  finally:
    _HEARD.reset(token)


def relu(x: jax.Array, *, most: float | None = None) -> jax.Array:
  """max(x, 0), and with `most` no more than that (ReLU6)."""
  heard = _HEARD.get()
  if heard is not None:
    heard.append(x)
  return nn.relu(x) if most is None else jnp.clip(x, 0, most)


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


def subsample(x: jax.Array, stride: int,
              offsets: tuple[int, int] = (0, 0)) -> jax.Array:
  """Every `stride`-th pixel: [B, H, W, C] -> [B, ceil(H / stride), ..., C].

  Args:
    x: images.
    stride: of both axes.
    offsets: where height and width begin, -1 or more; what lies outside is 0.
  """
  rate, step = spacing(stride)
  for axis, offset in enumerate(offsets, 1):
    size, shift = x.shape[axis], offset * rate
    low = max(-shift, 0)
    most = max(shift, 0) + (output_size(size, stride) - 1) * step + 1
    if low or most > low + size:
      pads = [(0, 0)] * x.ndim
      pads[axis] = (low, max(most - low - size, 0))
      x = jnp.pad(x, pads)
    x = lax.slice_in_dim(x, max(shift, 0), most, step, axis)
  return x


def global_mean(x: jax.Array) -> jax.Array:
  """The mean over images, f[B, 1, 1, C], at least in float32.

  In a `dilated` block, over the pixels that the network as it is has.
  """
  rate = _RATES.get()[1]
  return jnp.mean(at_least_float32(x[:, ::rate, ::rate]), (1, 2), keepdims=True)


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


Padding = int | str | tuple[tuple[int, int], tuple[int, int]]


def _placed(sizes, windows, strides, dilation, padding):
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


def conv(x: jax.Array, kernel: jax.Array, *, stride: int | tuple[int, int] = 1,
         dilation: int = 1, padding: int | str = SYMMETRIC) -> jax.Array:
  """Computes a convolution.

  Args:
    x: [B, H, W, C_in].
    kernel: [h, w, C_in, C_out].
    stride: of both axes, or of each.
    dilation: of the kernel.
    padding: zeros on every side, or see `sides`.

  Returns:
    [B, H', W', C_out].
  """
  strides = (stride, stride) if isinstance(stride, int) else stride
  pads, strides, dilations = _placed(
      x.shape[1:3], kernel.shape[:2], strides, dilation, padding)
  kernel = kernel.astype(x.dtype)
  anywhere = _PORTABLE.get()
  if kernel.shape[:2] == (1, 1) and pads == ((0, 0), (0, 0)) and not anywhere:
    x = x[:, ::strides[0], ::strides[1]]
    # As matrices: with three axes to sum over, XLA's CPU backend would
    # transpose the image for the kernel's gradient.
    return jnp.reshape(jnp.reshape(x, (-1, x.shape[-1])) @ kernel[0, 0],
                       (*x.shape[:-1], kernel.shape[-1]))
  # Of images without pixels, before or after, XLA's own has the gradients.
  nothing = 0 in x.shape or any(
      size + sum(ends) <= (window - 1) * rate for size, ends, window, rate in
      zip(x.shape[1:3], pads, kernel.shape[:2], dilations, strict=True))
  return _conv_for_platform(x, kernel, strides, dilations, pads,
                            bool(_PLAIN.get()), anywhere or nothing)


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _conv_for_platform(x, kernel, strides, dilations, pads, plain, anywhere):
  on_cpu = _conv_on_cpu if plain else _conv_with_gradient
  return _by_platform(
      x, kernel,
      cpu=lambda x, kernel: on_cpu(x, kernel, strides, dilations, pads),
      default=lambda x, kernel: _conv(x, kernel, strides, dilations, pads),
      anywhere=anywhere)


def _conv(x, kernel, strides, dilations, pads, spread=(1, 1)):
  """XLA's; `spread` is the distance at which pixels of x lie, zeros between."""
  return lax.conv_general_dilated(
      x, kernel, strides, pads, lhs_dilation=spread,
      rhs_dilation=dilations, dimension_numbers=_DIMENSIONS,
      feature_group_count=x.shape[-1] // kernel.shape[2])


def _conv_on_cpu(x, kernel, strides, dilations, pads, spread=(1, 1)):
  """`_conv`, and a matrix product where a window has more pixels than images.

  XLA exchanges image and kernel there, and its CPU backend then takes 3 to 20
  times as long (3x3 on 2x2 pixels, 5x5 on 4x4).
  """
  if math.prod(kernel.shape[:2]) <= math.prod(x.shape[1:3]):
    return _conv(x, kernel, strides, dilations, pads, spread)
  wide = _spread(x, spread, pads)
  taps, slices = [], []  # Of both axes, those that see more than padding.
  for total, size, s, d, (before, after) in zip(
      wide.shape[1:3], kernel.shape[:2], strides, dilations, pads, strict=True):
    count = (total - (size - 1) * d - 1) // s + 1
    seen = [slice(k * d, k * d + (count - 1) * s + 1, s) for k in range(size)]
    taps.append([k for k, pixels in enumerate(seen) if any(
        before <= at < total - after for at in range(total)[pixels])])
    slices.append([seen[k] for k in taps[-1]])
  if not all(taps):  # Nothing but padding is seen, or nothing comes out.
    return _conv(x, kernel, strides, dilations, pads, spread)
  columns = jnp.concatenate([wide[:, rows, places] for rows in slices[0]
                             for places in slices[1]], -1)
  kernel = kernel[np.ix_(*taps)]
  product = (jnp.reshape(columns, (-1, columns.shape[-1]))
             @ jnp.reshape(kernel, (-1, kernel.shape[-1])))
  return jnp.reshape(product, (*columns.shape[:-1], kernel.shape[-1]))


def _spread(x, spread, pads):
  """Puts zeros between pixels and around; x is cut where pads are negative."""
  return lax.pad(x, jnp.zeros((), x.dtype), [
      (0, 0, 0), *((*ends, s - 1) for ends, s in zip(
          pads, spread, strict=True)), (0, 0, 0)])


# XLA's CPU backend runs the two convolutions that `jax.grad` makes of one well
# in a program's main computation, and up to a hundred times slower inside the
# branches of a `switch`. Its plain convolution of images [B, H, W, C] is fast
# in both, so both gradients are that here: the kernel's of images transposed to
# [C_in, H, W, B] and g to a kernel [H', W', B, C_out].
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv_with_gradient(x, kernel, strides, dilations, pads):
  return _conv_on_cpu(x, kernel, strides, dilations, pads)


def _conv_fwd(x, kernel, strides, dilations, pads):
  return _conv_on_cpu(x, kernel, strides, dilations, pads), (x, kernel)


def _conv_bwd(strides, dilations, pads, residuals, g):
  x, kernel = residuals
  reach = [(k - 1) * d
           for k, d in zip(kernel.shape[:2], dilations, strict=True)]
  # How many pixels outputs span, and how many of the image they reach.
  spans = [(out - 1) * s + 1
           for out, s in zip(g.shape[1:3], strides, strict=True)]
  ends = [r + span - p
          for r, span, (p, _) in zip(reach, spans, pads, strict=True)]
  g_x = _conv_on_cpu(
      g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), (1, 1), dilations,
      tuple((r - p, size + p - span) for r, (p, _), size, span in zip(
          reach, pads, x.shape[1:3], spans, strict=True)), strides)
  seen = x[:, :ends[0], :ends[1]]
  g_kernel = _conv_on_cpu(
      _kept_transposed(seen, (3, 1, 2, 0)), _kept_transposed(g, (1, 2, 0, 3)),
      dilations, strides, tuple((p, end - size) for (p, _), end, size in zip(
          pads, ends, seen.shape[1:3], strict=True)))
  return g_x, jnp.transpose(g_kernel, (1, 2, 0, 3)).astype(kernel.dtype)


def _kept_transposed(x, axes):
  """x transposed, at least in float32, by a loop that does nothing else.

  Fused with what computes x, or with what reads it, it would compute that in an
  order in which XLA's CPU backend walks over memory in large steps.
  """
  return _kept(jnp.transpose(_kept(at_least_float32(x)), axes))


_conv_with_gradient.defvjp(_conv_fwd, _conv_bwd)


def _shifted(x, size, stride, dilation, before):
  """Yields the tap and, padded, the image that it sees; x: [B, H, W, C].

  `before` are the pixels of padding above and to the left.
  """
  height, width = x.shape[1:3]
  x = jnp.pad(x, _pads(tuple(
      (p, (size - 1) * dilation - p) for p in before)))
  for i in range(size):
    for j in range(size):
      yield (i, j), x[:, i * dilation:i * dilation + height:stride,
                      j * dilation:j * dilation + width:stride]


def _depthwise_sum(x, kernel, stride, dilation, before):
  """Sum of shifted multiplies; x: [B, H, W, C], kernel: [k, k, C]."""
  return sum(seen * kernel[tap] for tap, seen in _shifted(
      x, kernel.shape[0], stride, dilation, before))


_depthwise_shifted = jax.custom_vjp(_depthwise_sum, nondiff_argnums=(2, 3, 4))


def _depthwise_fwd(x, kernel, stride, dilation, before):
  return _depthwise_sum(x, kernel, stride, dilation, before), (x, kernel)


def _depthwise_bwd(stride, dilation, before, residuals, g):
  x, kernel = residuals
  spread = lax.pad(g, jnp.zeros((), g.dtype), (
      (0, 0, 0), (0, stride - 1, stride - 1), (0, stride - 1, stride - 1),
      (0, 0, 0)))[:, :x.shape[1], :x.shape[2]]
  reach = (kernel.shape[0] - 1) * dilation
  g_x = _depthwise_sum(spread, kernel[::-1, ::-1], 1, dilation,
                       tuple(reach - p for p in before))
  # All taps in one reduction, image by image: one kernel, which reads an image
  # once. A sum per tap takes twice as long, and each is a kernel to compile.
  products = [at_least_float32(seen * g) for _, seen in _shifted(
      x, kernel.shape[0], stride, dilation, before)]
  zero = np.zeros((), products[0].dtype)
  sums = lax.reduce(products, [zero] * len(products), lambda a,
                    b: [x + y for x, y in zip(a, b, strict=True)], (1, 2))
  g_kernel = jnp.sum(jnp.stack(sums), axis=1).reshape(kernel.shape)
  return g_x, g_kernel.astype(kernel.dtype)


_depthwise_shifted.defvjp(_depthwise_fwd, _depthwise_bwd)


# cuDNN has a gradient of kernels, but XLA does not find it where the kernel is
# dilated: what jaxlib 0.11.2 compiles for an H100 is a forward convolution of
# 3 x 3 outputs whose window is the whole image (32 x 32 in steps of 2, say),
# with little to share among its threads. A step of all replacements of
# ResNet20, with some twenty of these, took 77 ms; no kernel was timed by
# itself. Here it is a sum per tap.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise_dilated(x, kernel, stride, dilation, pads):
  return _conv(x, kernel, (stride,) * 2, (dilation,) * 2, pads)


def _dilated_fwd(x, kernel, stride, dilation, pads):
  return _depthwise_dilated(x, kernel, stride, dilation, pads), (x, kernel)


def _dilated_bwd(stride, dilation, pads, residuals, g):
  x, kernel = residuals
  g_x, = jax.linear_transpose(lambda x: _conv(
      x, kernel, (stride,) * 2, (dilation,) * 2, pads), x)(g)
  taps = [jnp.sum(at_least_float32(seen * g), (0, 1, 2)) for _, seen in (
      _shifted(x, kernel.shape[0], stride, dilation,
               tuple(before for before, _ in pads)))]
  return g_x, jnp.stack(taps).reshape(kernel.shape).astype(kernel.dtype)


_depthwise_dilated.defvjp(_dilated_fwd, _dilated_bwd)


def depthwise_conv(x: jax.Array, kernel: jax.Array, *, stride: int = 1,
                   dilation: int = 1, padding: str = SYMMETRIC) -> jax.Array:
  """Computes a depthwise convolution that keeps the size at stride 1.

  Args:
    x: [B, H, W, C].
    kernel: [k, k, 1, C].
    stride: of both axes.
    dilation: of the kernel.
    padding: see `sides`.

  Returns:
    [B, ceil(H / stride), ceil(W / stride), C].
  """
  pads, (stride, _), (dilation, _) = _placed(
      x.shape[1:3], kernel.shape[:2], (stride, stride), dilation, padding)
  return _depthwise_for_platform(x, kernel.astype(x.dtype), stride, dilation,
                                 pads, bool(_PLAIN.get()), _PORTABLE.get())


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _depthwise_for_platform(x, kernel, stride, dilation, pads, plain, anywhere):
  by_shifts = _depthwise_sum if plain else _depthwise_shifted
  before = tuple(before for before, _ in pads)
  if dilation > 1 and not plain and not anywhere:
    others = lambda x, kernel: _depthwise_dilated(
        x, kernel, stride, dilation, pads)
  else:
    others = lambda x, kernel: _conv(
        x, kernel, (stride,) * 2, (dilation,) * 2, pads)
  return _by_platform(
      x, kernel, cpu=lambda x, kernel: by_shifts(
          x, kernel[:, :, 0], stride, dilation, before),
      default=others, anywhere=anywhere)


def _pads(padding):
  """Padding of all four axes from that of height and width."""
  return ((0, 0), *padding, (0, 0))


def _windows(x, size, stride, dilation, axis):
  """The `size` strided slices along `axis` whose combination is a window."""
  length = x.shape[axis] - (size - 1) * dilation
  return [lax.slice_in_dim(x, i * dilation, i * dilation + length, stride, axis)
          for i in range(size)]


def max_pool(x: jax.Array, size: int, *, stride: int = 1,
             padding: Padding = 0) -> jax.Array:
  """Computes the maximum over windows; padding never wins.

  Args:
    x: [B, H, W, C].
    size: side of the windows.
    stride: of both axes.
    padding: on every side, or before and behind each axis, or see `sides`.
  """
  pads, (step, _), (dilation, _) = _placed(
      x.shape[1:3], (size, size), (stride, stride), 1, padding)
  return _max_pool(x, size, step, dilation, pads, _PORTABLE.get())


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _max_pool(x, size, stride, dilation, padding, anywhere):
  pads = _pads(padding)

  def shifted(x):
    x = jnp.pad(x, pads, constant_values=-jnp.inf)
    for axis in (1, 2):
      x = functools.reduce(
          jnp.maximum, _windows(x, size, stride, dilation, axis))
    return x

  # Dilated, XLA's form has no gradient; and what else reads programs knows it
  # of channels in front alone.
  if dilation > 1 or anywhere:
    return shifted(x)
  return lax.platform_dependent(x, cpu=shifted, default=lambda x: nn.max_pool(
      x, (size, size), (stride, stride), pads[1:3]))


def avg_pool(x: jax.Array, size: int, *, stride: int = 1,
             padding: Padding = 0) -> jax.Array:
  """Computes the mean over windows; padding is left out of the average.

  Arguments are those of `max_pool`.
  """
  pads, (step, _), (dilation, _) = _placed(
      x.shape[1:3], (size, size), (stride, stride), 1, padding)
  return _avg_pool(x, size, step, dilation, pads)


@functools.partial(jax.jit, static_argnums=(1, 2, 3, 4))
def _avg_pool(x, size, stride, dilation, padding):
  counts = jnp.ones((1, *x.shape[1:3], 1), at_least_float32(x).dtype)

  def window_sum(x):
    x = jnp.pad(x, _pads(padding))
    for axis in (1, 2):
      x = sum(_windows(x, size, stride, dilation, axis))
    return x

  return window_sum(x) * (1.0 / window_sum(counts)).astype(x.dtype)


def batch_normalize(x: jax.Array, *, epsilon: float = 1e-5) -> jax.Array:
  """Normalises [B, H, W, C] by the batch: mean 0, variance 1 per channel."""
  wide = at_least_float32(x)
  mean = jnp.mean(wide, (0, 1, 2))
  var = jnp.mean(jnp.square(wide - mean), (0, 1, 2))
  scale = lax.rsqrt(var + epsilon)
  return ((wide - mean) * scale).astype(x.dtype)


def at_least_float32(x: jax.Array) -> jax.Array:
  """x in float32, or in float64 where it is that."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def unit(x: jax.Array) -> jax.Array:
  """Vectors [..., F] brought to length 1, in float32 at least.

  The gradient of a direction grows as one over the length; it is bounded, since
  vectors shorter than 1e-3 are divided by that.
  """
  x = at_least_float32(x)
  return x * lax.rsqrt(jnp.maximum(jnp.sum(x * x, -1, keepdims=True), 1e-6))


def materialize(x: jax.Array) -> jax.Array:
  """Returns x, and has XLA's CPU backend keep it, and its gradient, in memory.

  That backend fuses what x is computed from into every operation that reads x.
  Where nodes add up images, one after the other, each of their readers then
  computes several nodes again. Barriers do not help, being dropped before
  operations are fused; a conditional of two barriers stays, and costs nothing.

  Args:
    x: of at least one element.
  """

  return _by_platform(x, cpu=_kept, default=lambda x: x,
                      anywhere=_PORTABLE.get())


def _kept(x):
  positive = x[(0,) * x.ndim] > 0  # Anything that only the data tells.
  return lax.cond(
      positive, lax.optimization_barrier, lax.optimization_barrier, x)
