"""Operations that hold no weights of their own: null, skip, pooling, noise.

A skip at stride 2 is a factorised reduce, which does.
"""

from collections.abc import Callable, Iterator
import functools
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax.operations import convolutions, primitives, registry

Cost = registry.Cost


def _skip(features, stride, norm):
  if stride == 1:
    return lambda x: x
  return convolutions.FactorizedReduce(features, norm)


def _null(features, stride, norm):
  del norm
  return lambda x: jnp.zeros(
      (*primitives.subsample(x, stride).shape[:3], features), x.dtype)


def _pool(features, stride, norm, *, pool, kernel_size, fixed,
          padding=primitives.SYMMETRIC):
  del features, norm

  def run(x):
    # An even window gets no padding but where an odd side leaves a rest, so
    # that the output's side is ceil(side / stride) as for most operations.
    way = padding if kernel_size % 2 else "same"
    return pool(x, kernel_size, stride=stride,
                padding=way if fixed is None else fixed)

  return run


def _padded_size(size: int, stride: int) -> int:
  """Of a 2x2 window with a pixel of padding: 32 becomes 17, and 17 becomes 9.

  So NAS-Bench-1Shot1 halves its images (Zela et al., 2020).
  """
  rate, step = primitives.spacing(stride)
  return (size + rate - 1) // step + 1


class Noise(nn.Module):
  """Noise of variance 1, drawn anew whatever x is, from the stream "noise".

  Zela et al., 2020, "Understanding and Robustifying Differentiable Architecture
  Search", section 3, space S4: an operation that no search should choose.
  Without the stream, as in evaluation, it is drawn from the module's path, so
  that a trained network always predicts the same (theirs does not).
  """

  features: int
  stride: int
  norm: registry.NormFactory  # Not used: there is none.

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = primitives.subsample(x, self.stride)
    rng = self.make_rng("noise") if self.has_rng("noise") else (
        jax.random.key(zlib.crc32("/".join(self.path).encode())))
    return jax.random.normal(rng, x.shape, x.dtype)


def skip_cost(channels: int, size: int, stride: int, *,
              in_channels: int | None = None) -> Cost:
  """Of a copy, or at stride 2 of a factorised reduce."""
  if stride == 1:
    return Cost(0, 0, channels * size * size)
  convolutions.check_halvable(channels)
  return convolutions.dense_cost(
      channels, size, stride, in_channels=in_channels)


def null_cost(*shape: int, in_channels: int | None = None) -> Cost:
  """Of nothing."""
  del shape, in_channels
  return Cost(0, 0)


def pool_cost(channels: int, size: int, stride: int, *, kernel_size: int,
              output_size: Callable[[int, int], int]) -> Cost:
  """Of pooling, whose windows are counted in `other`."""
  return Cost(0, 0, kernel_size**2 * channels * output_size(size, stride)**2)


def operations() -> Iterator[registry.Operation]:
  """The operations of this module, and convolutions between them."""
  partial = functools.partial
  yield registry.Operation(
      registry.NULL, "null", 0, _null, null_cost, widens=True, dilates=True)
  yield registry.Operation(
      registry.SKIP, "skip", 0, _skip, skip_cost, identity=True, widens=True,
      scale=convolutions.scaling("conv0", "conv1"), dilates=True)
  yield from convolutions.operations()
  pools = [(kind, k, "", None, primitives.output_size)
           for kind in ("max", "avg") for k in (2, 3, 5)]
  for kind, k, suffix, padding, output_size in (
      *pools, ("max", 2, "_padded", 1, _padded_size)):
    pool = getattr(primitives, f"{kind}_pool")
    yield registry.Operation(
        f"{kind}_pool_{k}x{k}{suffix}", f"{kind}_pool", k,
        partial(_pool, pool=pool, kernel_size=k, fixed=padding),
        partial(pool_cost, kernel_size=k, output_size=output_size),
        # Without padding, a 2x2 window shrinks the map at stride 1.
        strides=(2,) if k == 2 else (1, 2), pooled=True, pads=True,
        output_size=output_size, dilates=True)
  yield registry.Operation("noise", "noise", 0, Noise, null_cost, random=True)
