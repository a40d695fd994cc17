"""Units: operations that are a few convolutions in a row, as modules.

They are what the layers of chains choose among (`spaces.proxyless`,
`spaces.shufflenet`). What a unit does is written down in `steps`.

No unit begins with a ReLU. One whose source and target have one shape hands its
input on: MBConv adds it, a unit of ShuffleNet leaves every other channel as it
is.
"""

from collections.abc import Callable
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax.operations import convolutions, primitives, registry
from natjax.operations import steps as steps_lib

_ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "none": lambda x: x, "relu": primitives.relu,
    "relu6": functools.partial(primitives.relu, most=6)}


def _run(steps, norm, x, prefix=""):
  """Runs steps in the module that calls."""
  for i, step in enumerate(steps):
    if step.kind == "squeeze":
      x = SqueezeExcite(step.width, 1, norm, name=f"{prefix}squeeze{i}")(x)
      continue
    layer = convolutions.Conv(
        step.width, (1, 1), name=f"{prefix}conv{i}"
    ) if step.kind == "conv" else convolutions.DepthwiseConv(
        step.kernel, step.stride, name=f"{prefix}depthwise{i}")
    x = _ACTIVATIONS[step.activation](norm(name=f"{prefix}norm{i}")(layer(x)))
  return x


class SqueezeExcite(nn.Module):
  """Squeeze-and-excitation: channels are weighed by what the whole image shows.

  Hu et al., 2018, section 3: the mean over the image, a linear layer to a
  quarter of the channels, ReLU, one back, a sigmoid; both have biases.
  """

  features: int
  stride: int
  norm: registry.NormFactory  # Not used: there is none.

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    gate = primitives.global_mean(x)
    gate = primitives.relu(_Linear(
        steps_lib.squeezed(self.features), name="reduce")(gate.astype(x.dtype)))
    return x * nn.sigmoid(_Linear(self.features, name="restore")(gate))


class _Linear(nn.Module):
  """A 1x1 convolution with a bias."""

  features: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    bias = self.param("bias", nn.initializers.zeros, (self.features,))
    return convolutions.Conv(self.features, (1, 1), name="conv")(
        x) + bias.astype(x.dtype)


class InvertedResidual(nn.Module):
  """An inverted residual block, which adds its input where shapes are alike."""

  features: int
  stride: int
  norm: registry.NormFactory
  expansion: int = 6
  kernel_size: int = 3
  squeeze: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    steps = steps_lib.mbconv(
        x.shape[-1], self.features, self.stride, expansion=self.expansion,
        kernel_size=self.kernel_size, squeeze=self.squeeze)
    y = _run(steps, self.norm, x)
    return x + y if self.stride == 1 and y.shape == x.shape else y


class ShuffleUnit(nn.Module):
  """A unit of ShuffleNetV2.

  Where shapes are alike, channels 0, 2, ... stay, and 1, 3, ... go through the
  branch; both are then concatenated, so that the next unit takes every other
  channel of either half. Elsewhere two branches see all channels; the side one
  keeps their number, or gives half of the output where that is not wider.

  Raises:
    InputError: an odd number of channels that it would halve.
  """

  features: int
  stride: int
  norm: registry.NormFactory
  kernel_size: int = 3
  xception: bool = False

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    main, side = steps_lib.branches(
        x.shape[-1], self.features, self.stride, self.kernel_size,
        self.xception)
    if side is None:
      return jnp.concatenate(
          [x[..., ::2], _run(main, self.norm, x[..., 1::2], "main_")], -1)
    return jnp.concatenate([_run(side, self.norm, x, "side_"),
                            _run(main, self.norm, x, "main_")], -1)
