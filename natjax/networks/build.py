"""The network that is trained, for every kind of architecture."""

from typing import Any

import jax

from natjax.graph import blocks as blocks_lib
from natjax.graph import codec
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import block_network
from natjax.networks import mixture
from natjax.networks import network as network_lib

Place = skeleton_lib.Skeleton | blocks_lib.Frame
Module = network_lib.Network | block_network.BlockNet


def module(
    architecture: codec.Architecture,
    place: Place,
    *,
    auxiliary: bool = False,
    axis_name: str | None = None,
    identities: mixture.Identities | None = None,
) -> Module:
  """The linen module of an architecture.

  Args:
    architecture: a genotype or a network of blocks.
    place: a skeleton or a frame, as the architecture needs it.
    auxiliary: whether to build the auxiliary head, of genotypes only.
    axis_name: device axis over which BN joins the batch.
    identities: per layer or block, the edges with an identity beside the
      operation, for a network that theta weighs (`mixture`).
  """
  if isinstance(architecture, blocks_lib.BlockNetwork):
    return block_network.BlockNet(architecture, place, axis_name, identities)
  return network_lib.Network(
      architecture, place, auxiliary, axis_name, identities)


def num_features(architecture: codec.Architecture, place: Place) -> int:
  """Computes F, the number of features that the classifier sees.

  A network without a classifier (`place.num_classes` 0) maps images
  [B, H, W, 3] to features f32[B, F].

  Args:
    architecture: a genotype or a network of blocks.
    place: a skeleton or a frame, as the architecture needs it; its classes do
      not matter.

  Example:
    >>> from natjax import zoo
    >>> num_features(zoo.get("darts"), skeleton_lib.Skeleton())
    576
  """
  if not isinstance(architecture, blocks_lib.BlockNetwork):
    widths = [len(cell.concat) for cell in architecture]
    return skeleton_lib.output_channels(place, widths)
  shape = blocks_lib.places(architecture, place)[-1].output
  for layer in architecture.head[:-1]:
    shape = blocks_lib.layer_shape(layer, shape, 0)
  return shape.width * shape.size**2


def init(net: Module, rng: jax.Array) -> Any:
  """Draws the variables ("params" and "batch_stats") of a network."""
  if isinstance(net, block_network.BlockNet):
    return block_network.init(net, rng)
  return network_lib.init(net, rng)
