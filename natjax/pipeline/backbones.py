"""Backbones of networks, trained or not: their features without the head."""

import os
from typing import Any, NamedTuple

import jax

from natjax import errors
from natjax.networks import backbone as backbone_lib
from natjax.networks import network as network_lib
from natjax.networks import trees
from natjax.pipeline import networks, results
from natjax.training import options as options_lib

Source = (networks.TrainedNetwork | network_lib.Network | results.Result
          | str | os.PathLike[str])


class Backbone(NamedTuple):
  """A network's features, as a flax module with its variables.

  `module.apply(variables, images)` gives features f[B, h, w, C] of images
  f[B, H, W, 3] of any height and width.

  Attributes:
    module: the linen module.
    variables: "params" and "batch_stats", those of the network as they are,
      but for its head; None of a module without weights.
    preparation: from images u8 to what the module takes; None of a module.
  """

  module: backbone_lib.Backbone
  variables: Any | None
  preparation: options_lib.Preparing | None

  def __repr__(self) -> str:
    return (f"<Backbone: {self.module.graph.name}, {self.width} channels,"
            f" {'no ' * (self.variables is None)}weights>")

  @property
  def width(self) -> int:
    """C, the channels of the features."""
    return self.module.width


def backbone(network: Source, output_stride: int = 16) -> Backbone:
  """The features of a network without its head, larger than for its classes.

  Strides beyond the output stride become 1, and the windows behind them are
  dilated (Chen et al., 2017); where the network as it is has a pixel, values
  are equal. See `natjax.networks.backbone` for the conventions.

  Args:
    network: a trained network as `load` gives it, a run's result or folder, or
      a linen module (`natjax.networks.network.module`) of any architecture.
    output_stride: how many times smaller the features are than the images.

  Raises:
    InputError: a network that does not make images as small, an operation that
      cannot be dilated, or no trained network in a folder.
  """
  if isinstance(network, results.Result):
    network = network.network
  elif isinstance(network, str | os.PathLike):
    network = networks.load(network)
  if isinstance(network, network_lib.Network):
    return Backbone(backbone_lib.module(network, output_stride), None, None)
  if not isinstance(network, networks.TrainedNetwork):
    raise errors.InputError(
        f"the network is of type {type(network).__name__}; give what"
        " natjax.load returns, a run, or a module of natjax.networks.network")
  module = backbone_lib.module(network.module, output_stride)
  size = module.frame.image_size
  like = jax.eval_shape(module.init, jax.random.key(0), jax.ShapeDtypeStruct(
      (2, size, size, 3), jax.numpy.float32))
  return Backbone(module, {
      "batch_stats": {}, **trees.restrict(
          {kind: network.variables[kind] for kind in like}, like)},
                  network.preparation)
