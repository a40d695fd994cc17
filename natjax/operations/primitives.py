"""The few array functions whose fastest form depends on the backend.

This is the one place where the form differs by backend: each function chooses
with `lax.platform_dependent`, so the rest of the library is the same on every
device. XLA's CPU backend runs grouped convolutions, select-and-scatter, 1x1
convolutions and those of images smaller than their window many times slower
than sums of shifted slices, shifted maxima and matrix products, so the CPU gets
those (`cpu_convolutions`); every other backend gets XLA's own convolutions and
window reductions, but for one gradient: XLA has cuDNN compute that of a dilated
kernel as a convolution whose window is the whole image.

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

from natjax.operations import cpu_convolutions, windows

# Where windows stand.
SYMMETRIC = windows.SYMMETRIC
Padding = windows.Padding
dilated, spacing = windows.dilated, windows.spacing
output_size, sides = windows.output_size, windows.sides
at_least_float32 = cpu_convolutions.at_least_float32
_PLAIN = contextvars.ContextVar("plain_derivatives", default="")
_PORTABLE = contextvars.ContextVar("portable", default=False)
_HEARD: contextvars.ContextVar[list[jax.Array] | None] = (
    contextvars.ContextVar("relu_inputs", default=None))


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
  rate = spacing(1)[0]
  return jnp.mean(at_least_float32(x[:, ::rate, ::rate]), (1, 2), keepdims=True)


def flat(x: jax.Array) -> jax.Array:
  """What each of x[B, ...] holds in a row, [B, F], be there none of them, too.
  """
  return x.reshape(x.shape[0], math.prod(x.shape[1:]))


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
  pads, strides, dilations = windows.placed(
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
  on_cpu = (cpu_convolutions.conv if plain
            else cpu_convolutions.conv_with_gradient)
  return _by_platform(
      x, kernel,
      cpu=lambda x, kernel: on_cpu(x, kernel, strides, dilations, pads),
      default=lambda x, kernel: cpu_convolutions.xla_conv(
          x, kernel, strides, dilations, pads),
      anywhere=anywhere)


# cuDNN has a gradient of kernels, but XLA does not find it where the kernel is
# dilated: what jaxlib 0.11.2 compiles for an H100 is a forward convolution of
# 3 x 3 outputs whose window is the whole image (32 x 32 in steps of 2, say),
# with little to share among its threads. A step of all replacements of
# ResNet20, with some twenty of these, took 77 ms; no kernel was timed by
# itself. Here it is a sum per tap.
@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _depthwise_dilated(x, kernel, stride, dilation, pads):
  return cpu_convolutions.xla_conv(
      x, kernel, (stride,) * 2, (dilation,) * 2, pads)


def _dilated_fwd(x, kernel, stride, dilation, pads):
  return _depthwise_dilated(x, kernel, stride, dilation, pads), (x, kernel)


def _dilated_bwd(stride, dilation, pads, residuals, g):
  x, kernel = residuals
  g_x, = jax.linear_transpose(lambda x: cpu_convolutions.xla_conv(
      x, kernel, (stride,) * 2, (dilation,) * 2, pads), x)(g)
  taps = [jnp.sum(at_least_float32(seen * g), (0, 1, 2)) for _, seen in (
      cpu_convolutions.shifted(x, kernel.shape[0], stride, dilation,
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
  pads, (stride, _), (dilation, _) = windows.placed(
      x.shape[1:3], kernel.shape[:2], (stride, stride), dilation, padding)
  return _depthwise_for_platform(x, kernel.astype(x.dtype), stride, dilation,
                                 pads, bool(_PLAIN.get()), _PORTABLE.get())


@functools.partial(jax.jit, static_argnums=(2, 3, 4, 5, 6))
def _depthwise_for_platform(x, kernel, stride, dilation, pads, plain, anywhere):
  by_shifts = (cpu_convolutions.depthwise if plain
               else cpu_convolutions.depthwise_with_gradient)
  before = tuple(before for before, _ in pads)
  if dilation > 1 and not plain and not anywhere:
    others = lambda x, kernel: _depthwise_dilated(
        x, kernel, stride, dilation, pads)
  else:
    others = lambda x, kernel: cpu_convolutions.xla_conv(
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
  pads, (step, _), (dilation, _) = windows.placed(
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
  pads, (step, _), (dilation, _) = windows.placed(
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

  return _by_platform(x, cpu=cpu_convolutions.kept, default=lambda x: x,
                      anywhere=_PORTABLE.get())
