"""An operation in one file: a copy, every channel times a factor of its own."""

import flax.linen as nn

from natjax import operations


class Scale(nn.Module):
  """Multiplies, f32[B, H, W, C] -> f32[B, ceil(H / s), ceil(W / s), C]."""

  features: int
  stride: int
  norm: operations.NormFactory  # Not used: there is no BN.

  @nn.compact
  def __call__(self, x):
    factors = self.param("factors", nn.initializers.ones, (self.features,))
    return factors.astype(x.dtype) * x[:, ::self.stride, ::self.stride]


def cost(channels, size, stride):
  """A weight per channel, a multiplication per value that comes out."""
  return operations.Cost(channels, channels * (-(-size // stride)) ** 2)


OPERATION = operations.Operation("toy_scale", "scale", 1, Scale, cost)
