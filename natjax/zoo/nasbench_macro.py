"""The networks of NAS-Bench-Macro, as networks of blocks.

The released code: a 3x3 convolution to 32 channels, BN and ReLU; eight layers
(`graph.nasbench_macro`), of which the first of each of three stages halves the
image; a 1x1 convolution to 1280 channels, BN and ReLU, the mean over the image,
a linear layer. Within blocks stands ReLU.

Example, with the parameters of the benchmark's table:
  >>> from natjax import blocks, cost
  >>> best = network(nasbench_macro.from_text("22212220"))
  >>> cost.network(best, blocks.Frame(10, 32)).params
  1985514
"""

import numpy as np

from natjax import errors, operations
from natjax.graph import blocks as blocks_lib
from natjax.graph import nasbench_macro
from natjax.graph.records import Block, BlockNetwork, Edge, Layer, Node
from natjax.zoo import inverted

STEM = (Layer("conv", 32, 3, activation="relu"),)
HEAD = (Layer("conv", 1280, activation="relu"), Layer("global_pool"),
        Layer("linear", norm=False))
_WANTED = (
    f"NAS-Bench-Macro, whose chains have {nasbench_macro.LAYERS} layers, of"
    f" {', '.join(nasbench_macro.OPERATIONS)}; give one that a search in the"
    " space 'nasbench-macro' finds with all of them (chain-layers 3)")
_KERNELS = {1: (3, 3), 2: (6, 5)}  # Expansion and kernel.
# By the operations in a row, beside the shortcut.
_LAYERS: dict[tuple[str, ...], int] = {
    ("conv_1x1",): 0, (operations.SKIP,): 0,
    ("conv_1x1", "depthwise_conv_3x3", "conv_1x1"): 1,
    ("conv_1x1", "depthwise_conv_5x5", "conv_1x1"): 2}


def network(layers: np.ndarray) -> BlockNetwork:
  """Builds the network of layers i32[8]."""
  blocks, before, place = [], STEM[-1].width, 0
  for width, depth in nasbench_macro.STAGES:
    for i in range(depth):
      blocks.append(block(int(layers[place]), before, width, 1 if i else 2))
      before, place = width, place + 1
  return blocks_lib.check(BlockNetwork(
      nasbench_macro.to_text(layers), STEM, tuple(blocks), HEAD))


def block(layer: int, before: int, width: int, stride: int) -> Block:
  """The block of one layer.

  Args:
    layer: which of `nasbench_macro.OPERATIONS`.
    before: channels of the input.
    width: channels of the output.
    stride: of the layer.
  """
  if layer:
    return inverted.block(before, width, stride, *_KERNELS[layer],
                          activation="relu")
  alike = stride == 1 and before == width
  return Block((Node(width, stride),), (Edge(
      operations.SKIP if alike else "conv_1x1", 1, 2),))


def layers_of(found: BlockNetwork) -> np.ndarray:
  """Layers i32[8] of a network; of another width or size, too.

  Example:
    >>> layers_of(network(nasbench_macro.from_text("01200120"))).tolist()
    [0, 1, 2, 0, 0, 1, 2, 0]

  Raises:
    InputError: it has other layers, or is a pair of cells.
  """
  if not isinstance(found, BlockNetwork):
    raise errors.InputError(f"a pair of cells is none of {_WANTED}")
  layers: list[int] = []
  before = found.stem[-1].width if found.stem else 0
  for each in found.blocks:
    names = tuple(edge.operation for edge in each.edges if (
        edge.operation != operations.SKIP or len(each.edges) == 1))
    layer = _LAYERS.get(names)
    if layer is None or (layer and each.nodes[0].width != (
        before * _KERNELS[layer][0])):
      break
    layers.append(layer)
    before = each.nodes[-1].width
  wanted = network(np.array(layers)).blocks if (
      len(layers) == nasbench_macro.LAYERS == len(found.blocks)) else ()
  graph = lambda block: (block.edges, block.concat, [
      node.activation for node in block.nodes])
  if not wanted or any(
      graph(a) != graph(b) for a, b in zip(found.blocks, wanted, strict=True)):
    raise errors.InputError(
        f"network {errors.short(found.name)} is none of {_WANTED}")
  return np.array(layers, np.int32)
