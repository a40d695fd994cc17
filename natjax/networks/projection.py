"""The projection head of contrastive learning.

Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual
Representations", section 4.2: a layer that is thrown away after training. Its
sizes, 512 and 128, and the BN are those that make ResNet50 24.6 M parameters,
as "Proxyless Neural Architecture Adaptation" has it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import operations
from natjax.networks import layers as layers_lib


class ProjectionHead(nn.Module):
  """Linear without bias, BN, ReLU, linear: f[B, F] -> f32[B, `size`].

  Attributes:
    norm: returns the BN to use.
    hidden: features between the two.
    size: of the projection.
  """

  norm: layers_lib.NormFactory
  hidden: int = 512
  size: int = 128

  @nn.compact
  def __call__(self, features: jax.Array) -> jax.Array:
    x = features.astype(jnp.float32)
    x = nn.Dense(self.hidden, use_bias=False, name="linear0",
                 kernel_init=operations.kernel_init)(x)
    x = nn.relu(self.norm(name="norm")(x))
    return nn.Dense(self.size, name="linear1",
                    kernel_init=operations.kernel_init)(x)


def parameter_count(features: int, hidden: int = 512, size: int = 128) -> int:
  """Parameters of the head on so many features.

  Example:
    >>> parameter_count(2048)
    1115264
  """
  return features * hidden + 2 * hidden + hidden * size + size
