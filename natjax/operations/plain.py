"""Operations that hold no weights of their own: null, skip, pooling, noise.

A skip at stride 2 is a factorised reduce, which does.
"""

from collections.abc import Callable
import zlib

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax.operations import convolutions, primitives, registry


def skip(features: int, stride: int,
         norm: registry.NormFactory) -> Callable[[jax.Array], jax.Array]:
  """What gives what it gets, or at stride 2 a factorised reduce."""
  if stride == 1:
    return lambda x: x
  return convolutions.FactorizedReduce(features, norm)


def null(features: int, stride: int,
         norm: registry.NormFactory) -> Callable[[jax.Array], jax.Array]:
  """What gives zeros, of `features` channels."""
  del norm
  return lambda x: jnp.zeros(
      (*primitives.subsample(x, stride).shape[:3], features), x.dtype)


def pooling(
    features: int, stride: int, norm: registry.NormFactory, *,
    pool: Callable[..., jax.Array], kernel_size: int, fixed: int | None,
    padding: str = primitives.SYMMETRIC,
) -> Callable[[jax.Array], jax.Array]:
  """Pooling by `pool`, of `primitives`, padded by `fixed` where not None."""
  del features, norm

  def run(x):
    # An even window gets no padding but where an odd side leaves a rest, so
    # that the output's side is ceil(side / stride) as for most operations.
    way = padding if kernel_size % 2 else "same"
    return pool(x, kernel_size, stride=stride,
                padding=way if fixed is None else fixed)

  return run


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
