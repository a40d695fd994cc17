"""Operations in two forms: that of `operations.primitives`, and another.

Which form is the fastest depends on the backend, and `primitives` chooses by
it. Here both are run alike, to see whether it chooses well: a chain of the
operation, forward and backward, with barriers between.
"""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax.operations import cpu_convolutions, primitives
from natjax.selftest import programs
from natjax.training import method as base

CHAIN = 8


class Form(NamedTuple):
  """A way to compute an operation.

  Attributes:
    operation: what is computed.
    name: of the way.
    run: `(x, kernel) -> y`, [B, H, W, C] both.
    kernel: the kernel's shape, C channels given.
  """

  operation: str
  name: str
  run: Callable[[jax.Array, jax.Array], jax.Array]
  kernel: Callable[[int], tuple[int, ...]]


def _depthwise(k):
  pad, kernel = (k - 1) // 2, lambda c: (k, k, 1, c)
  return [
      Form(f"depthwise {k}x{k}", "XLA's", lambda x, kernel: (
          cpu_convolutions.xla_conv(
              x, kernel, (1, 1), (1, 1), ((pad, pad),) * 2)), kernel),
      Form(f"depthwise {k}x{k}", "by shifts", lambda x, kernel: (
          cpu_convolutions.depthwise_with_gradient(
              x, kernel[:, :, 0], 1, 1, (pad, pad))), kernel)]


def _maxima(x, kernel):
  x = jnp.pad(x, primitives._pads(((1, 1),) * 2), constant_values=-jnp.inf)
  for axis in (1, 2):
    x = functools.reduce(jnp.maximum, primitives._windows(x, 3, 1, 1, axis))
  return x


def _means(x, kernel):
  return nn.avg_pool(x, (3, 3), padding=((1, 1), (1, 1)),
                     count_include_pad=False)


_POINT, _NONE = (lambda c: (1, 1, c, c)), (lambda c: (1,))

# XLA's own first; of each operation two.
FORMS = (
    *_depthwise(3), *_depthwise(5),
    Form("convolution 1x1", "XLA's", lambda x, kernel: (
        cpu_convolutions.xla_conv(
            x, kernel, (1, 1), (1, 1), ((0, 0), (0, 0)))), _POINT),
    Form("convolution 1x1", "as matrices", primitives.conv, _POINT),
    Form("max pool 3x3", "XLA's", lambda x, kernel: nn.max_pool(
        x, (3, 3), padding=((1, 1), (1, 1))), _NONE),
    Form("max pool 3x3", "by shifts", _maxima, _NONE),
    Form("average pool 3x3", "XLA's", _means, _NONE),
    Form("average pool 3x3", "by shifts", lambda x, kernel: (
        primitives.avg_pool(x, 3, padding=1)), _NONE),
)


def program(sizes: programs.Sizes, form: Form) -> programs.Program:
  """Steps of a chain of a form, whose gradients both are used."""

  def total(x, kernel):
    for _ in range(CHAIN):
      x = lax.optimization_barrier(form.run(x, kernel))
    return jnp.mean(jnp.square(x))

  def update(state: Any, batch: base.Batch) -> tuple[Any, Any]:
    del batch
    value, grads = jax.value_and_grad(total, (0, 1))(*state)
    # Used, and so small that nothing grows.
    return tuple(a - 1e-6 * jnp.tanh(g)
                 for a, g in zip(state, grads, strict=True)), {"loss": value}

  rng = np.random.default_rng(0)
  channels, side = sizes.init_channels, sizes.image_size
  shape = form.kernel(channels)
  kernel = rng.standard_normal(shape) / np.prod(shape[:-1])**0.5
  x = rng.standard_normal((sizes.batch_size, side, side, channels))
  return programs.Program(
      base.Phase("chain", ("train",), update, ("loss",), augment=False),
      (np.float32(x), np.float32(kernel)), sizes.batch_size, side,
      sizes.batch_size)
