"""The projection head of contrastive learning.

"A Simple Framework for Contrastive Learning of Visual Representations" (Chen et
al., 2020, arXiv:2002.05709, section 4.2): the loss is taken behind a small
network that is dropped after training; what comes before it is kept. This one
has the form of the common implementations on CIFAR, 512 and 128 features wide;
the authors' is as wide inside as the features, and also normalises its output.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import operations
from natjax.networks import layers as layers_lib


class ProjectionHead(nn.Module):
  """Linear without bias, BN, ReLU, linear: features f[B, F] -> f32[B, D].

  Attributes:
    hidden: features inside.
    projection: D, features of the result.
    axis_name: device axis over which BN joins the batch; None keeps the
      statistics per device.
  """

  hidden: int = 512
  projection: int = 128
  axis_name: str | None = None

  @nn.compact
  def __call__(self, features: jax.Array, *, train: bool = False) -> jax.Array:
    x = features.astype(jnp.float32)
    x = nn.Dense(self.hidden, use_bias=False,
                 kernel_init=operations.kernel_init, name="linear0")(x)
    x = layers_lib.RunningBatchNorm(train, self.axis_name, name="norm")(x)
    return nn.Dense(self.projection, kernel_init=operations.kernel_init,
                    name="linear1")(nn.relu(x))


def cost(
    num_features: int, hidden: int = 512, projection: int = 128
) -> operations.Cost:
  """Computes the cost of a projection head of F features.

  Example:
    >>> cost(2048).params
    1115264
  """
  weights = num_features * hidden + hidden * projection
  return operations.Cost(weights + 2 * hidden + projection, weights,
                         norm_params=2 * hidden)
