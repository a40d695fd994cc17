"""Networks without their heads, whose last strides may be dilations.

Chen et al., 2017, "Rethinking Atrous Convolution for Semantic Image
Segmentation" (arXiv:1706.05587), section 3.1: where images would become smaller
than the output stride says, a stride becomes 1 and all windows behind it are
dilated by what it was. The window that had the stride keeps its own dilation,
as in the usual implementations. Parameters stay as they are, and wherever the
network as it is has a pixel, the values are the same.

One difference from those implementations: squeeze-and-excitation takes its mean
over the pixels of the network as it is, and not over all, lest values differ.
"""

import flax.linen as nn
import jax

from natjax import errors, operations
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.networks import network as network_lib


class Backbone(nn.Module):
  """Stem and blocks of a network.

  Its parameters have the names of `network.Network`, whose variables it takes
  as they are; those of the head may stand beside.

  Attributes:
    graph: the architecture, written out.
    frame: as of the network; images may be of another size.
    output_stride: how many times smaller images become; None leaves the
      network's strides alone.
    axis_name: device axis over which BN joins the batch.

  `__call__` maps images f[B, H, W, 3] of any height and width to features
  f[B, h, w, C], h being H / output stride, rounded up at every stride. `train`
  normalises by the batch.
  """

  graph: records.BlockNetwork
  frame: records.Frame
  output_stride: int | None = None
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
    *_, features = network_lib.run_blocks(
        self.graph, self.frame, images, train=train, axis_name=self.axis_name,
        output_stride=self.output_stride)
    return features

  @property
  def stride(self) -> int:
    """How many times smaller the features are than images."""
    return self.output_stride or (
        shapes_lib.of(self.graph, self.frame)[-1].output.stride)

  @property
  def width(self) -> int:
    """C, the channels of the features."""
    return shapes_lib.of(self.graph, self.frame)[-1].output.width


def module(network: network_lib.Network, output_stride: int = 16, *,
           axis_name: str | None = None) -> Backbone:
  """The backbone of a network.

  Args:
    network: the linen module (`network.module`).
    output_stride: how many times smaller its features are than images.
    axis_name: device axis over which BN joins the batch.

  Raises:
    InputError: a network that does not make images as small, or with an
      operation that cannot be dilated.
  """
  graph, frame = network.graph, network.frame
  found = shapes_lib.of(graph, frame)
  stride = found[-1].output.stride
  if type(output_stride) is not int or output_stride < 1 or (
      stride % output_stride):
    raise errors.InputError(
        f"output-stride is {errors.short(output_stride)}, and {graph.name}"
        f" makes images {stride} times smaller; give {stride} or a divisor of"
        " it, or a network with more strides", "output_stride")
  for i, (block, shapes) in enumerate(zip(graph.blocks, found, strict=True)):
    for edge in block.edges:
      source, target = (shapes.nodes[n] for n in (edge.source, edge.target))
      if shapes_lib.rates(
          source.stride, target.stride, output_stride) != (1, 1) and (
              not operations.get(edge.operation).dilates):
        raise errors.InputError(
            f"{graph.name}, block {i}: operation '{edge.operation}' cannot be"
            f" dilated, as output-stride {output_stride} wants it (an Operation"
            " says so by `dilates`); give a larger output-stride or replace it",
            "output_stride")
  shapes_lib.of(graph, frame, output_stride)
  return Backbone(graph, frame, output_stride, axis_name)
