"""What PyTorch's layers compute, in its own layout, [B, C, H, W].

Their weights are in `t`, by the names of a state_dict.
"""

import jax
import jax.numpy as jnp
import numpy as np


def conv(t, x, name, stride=1, *, dilation=1):
  """Conv2d, in groups where its kernel sees fewer channels than x has."""
  kernel = t[f"{name}.weight"]
  strides = stride if isinstance(stride, tuple) else (stride, stride)
  y = jax.lax.conv_general_dilated(
      x, kernel, strides, [(k // 2 * dilation,) * 2 for k in kernel.shape[2:]],
      rhs_dilation=(dilation, dilation),
      feature_group_count=x.shape[1] // kernel.shape[1],
      dimension_numbers=("NCHW", "OIHW", "NCHW"))
  return y + t.get(f"{name}.bias", np.zeros(len(kernel)))[:, None, None]


def norm(t, x, name):
  scale, bias, mean, var = (t[f"{name}.{part}"][:, None, None] for part in (
      "weight", "bias", "running_mean", "running_var"))
  return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def conv_norm(t, x, own, called, stride=1, **options):
  """The convolution `own`, then the BN `called`."""
  return norm(t, conv(t, x, own, stride, **options), called)


def max_pool(x, size, stride, pad=0):
  return jax.lax.reduce_window(
      x, -jnp.inf, jax.lax.max, (1, 1, size, size), (1, 1, stride, stride),
      ((0, 0), (0, 0), (pad, pad), (pad, pad)))


def linear(t, x, name):
  return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def avg_pool(x, size, stride, pad=0):
  """AvgPool2d that leaves out what was padded."""
  add = lambda x: jax.lax.reduce_window(
      x, 0.0, jax.lax.add, (1, 1, size, size), (1, 1, stride, stride),
      ((0, 0), (0, 0), (pad, pad), (pad, pad)))
  return add(x) / add(jnp.ones_like(x))
