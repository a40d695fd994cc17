"""Convolutions in the forms that XLA's CPU backend runs fast.

Which backend gets which form, `primitives` decides, and it says what arrays,
pads and dilations are; here all are given.
"""

import functools
import math

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")


def at_least_float32(x: jax.Array) -> jax.Array:
  """x in float32, or in float64 where it is that."""
  return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def xla_conv(x, kernel, strides, dilations, pads, spread=(1, 1)):
  """XLA's own; pixels of x lie `spread` apart, with zeros between them."""
  return lax.conv_general_dilated(
      x, kernel, strides, pads, lhs_dilation=spread,
      rhs_dilation=dilations, dimension_numbers=_DIMENSIONS,
      feature_group_count=x.shape[-1] // kernel.shape[2])


def conv(x, kernel, strides, dilations, pads, spread=(1, 1)):
  """A convolution, by a matrix product where windows are larger than images.

  XLA exchanges image and kernel there, and its CPU backend then takes 3 to 20
  times as long (3x3 on 2x2 pixels, 5x5 on 4x4).
  """
  if math.prod(kernel.shape[:2]) <= math.prod(x.shape[1:3]):
    return xla_conv(x, kernel, strides, dilations, pads, spread)
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
    return xla_conv(x, kernel, strides, dilations, pads, spread)
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
def conv_with_gradient(x, kernel, strides, dilations, pads):
  """As `conv`, whose gradients are plain convolutions, too."""
  return conv(x, kernel, strides, dilations, pads)


def _conv_fwd(x, kernel, strides, dilations, pads):
  return conv(x, kernel, strides, dilations, pads), (x, kernel)


def _conv_bwd(strides, dilations, pads, residuals, g):
  x, kernel = residuals
  reach = [(k - 1) * d
           for k, d in zip(kernel.shape[:2], dilations, strict=True)]
  # How many pixels outputs span, and how many of the image they reach.
  spans = [(out - 1) * s + 1
           for out, s in zip(g.shape[1:3], strides, strict=True)]
  ends = [r + span - p
          for r, span, (p, _) in zip(reach, spans, pads, strict=True)]
  g_x = conv(
      g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3), (1, 1), dilations,
      tuple((r - p, size + p - span) for r, (p, _), size, span in zip(
          reach, pads, x.shape[1:3], spans, strict=True)), strides)
  seen = x[:, :ends[0], :ends[1]]
  g_kernel = conv(
      _transposed(seen, (3, 1, 2, 0)), _transposed(g, (1, 2, 0, 3)),
      dilations, strides, tuple((p, end - size) for (p, _), end, size in zip(
          pads, ends, seen.shape[1:3], strict=True)))
  return g_x, jnp.transpose(g_kernel, (1, 2, 0, 3)).astype(kernel.dtype)


def _transposed(x, axes):
  """x transposed, at least in float32, by a loop that does nothing else.

  Fused with what computes x, or with what reads it, it would compute that in an
  order in which XLA's CPU backend walks over memory in large steps.
  """
  return kept(jnp.transpose(kept(at_least_float32(x)), axes))


conv_with_gradient.defvjp(_conv_fwd, _conv_bwd)


def shifted(x, size, stride, dilation, before):
  """Yields the tap and, padded, the image that it sees; x: [B, H, W, C].

  `before` are the pixels of padding above and to the left.
  """
  height, width = x.shape[1:3]
  x = jnp.pad(x, ((0, 0), *(
      (p, (size - 1) * dilation - p) for p in before), (0, 0)))
  for i in range(size):
    for j in range(size):
      yield (i, j), x[:, i * dilation:i * dilation + height:stride,
                      j * dilation:j * dilation + width:stride]


def depthwise(x, kernel, stride, dilation, before):
  """Sum of shifted multiplies; x: [B, H, W, C], kernel: [k, k, C]."""
  return sum(seen * kernel[tap] for tap, seen in shifted(
      x, kernel.shape[0], stride, dilation, before))


depthwise_with_gradient = jax.custom_vjp(depthwise, nondiff_argnums=(2, 3, 4))


def _depthwise_fwd(x, kernel, stride, dilation, before):
  return depthwise(x, kernel, stride, dilation, before), (x, kernel)


def _depthwise_bwd(stride, dilation, before, residuals, g):
  x, kernel = residuals
  spread = lax.pad(g, jnp.zeros((), g.dtype), (
      (0, 0, 0), (0, stride - 1, stride - 1), (0, stride - 1, stride - 1),
      (0, 0, 0)))[:, :x.shape[1], :x.shape[2]]
  reach = (kernel.shape[0] - 1) * dilation
  g_x = depthwise(spread, kernel[::-1, ::-1], 1, dilation,
                  tuple(reach - p for p in before))
  # All taps in one reduction, image by image: one kernel, which reads an image
  # once. A sum per tap takes twice as long, and each is a kernel to compile.
  products = [at_least_float32(seen * g) for _, seen in shifted(
      x, kernel.shape[0], stride, dilation, before)]
  zero = np.zeros((), products[0].dtype)
  sums = lax.reduce(products, [zero] * len(products), lambda a,
                    b: [x + y for x, y in zip(a, b, strict=True)], (1, 2))
  g_kernel = jnp.sum(jnp.stack(sums), axis=1).reshape(kernel.shape)
  return g_x, g_kernel.astype(kernel.dtype)


depthwise_with_gradient.defvjp(_depthwise_fwd, _depthwise_bwd)


def kept(x):
  """x, which is kept in memory, and so is its gradient.

  See `primitives.materialize`.
  """
  positive = x[(0,) * x.ndim] > 0  # Anything that only the data tells.
  return lax.cond(
      positive, lax.optimization_barrier, lax.optimization_barrier, x)
