"""The space of ProxylessNAS: chains of inverted residual blocks.

Cai et al., 2019, "ProxylessNAS: Direct Neural Architecture Search on Target
Task and Hardware" (ICLR), section 3: 21 layers in six stages, between the stem,
a block without expansion and a head that are given. Every layer chooses its
kernel (3, 5 or 7) and its expansion (3 or 6); all but the first of a stage may
be left out, too (`skip_connect`), so that 15 layers have seven choices and six
have six. "-se" puts squeeze-and-excitation behind every depthwise convolution.

Published are two widths of the first stage: 24 in the authors' code, here
"proxyless", and 32 as in the network that they found for mobile phones and in
code that came later, here "proxyless-wide"; `make` takes any. On ImageNet, all
kernels 7 and expansions 6, 5,103,336 parameters and 606.6 M multiply-adds of
the first and 693.5 M multiply-adds of the second; all kernels 3 and expansions
3, 3,191,928 and 257.4 M.

What is found is written as the zoo writes the authors' networks
(`zoo.proxyless`): layers that were left out are gone, and the others are blocks
of three convolutions.
"""

import re

from natjax import operations
from natjax.graph import records
from natjax.graph.records import Block, BlockNetwork, Edge, Layer, Node
from natjax.operations import steps
from natjax.spaces import base
from natjax.zoo import inverted, proxyless

# Of the stages: their first blocks' strides, and their numbers of blocks.
STRIDES = (2, 2, 2, 1, 2, 1)
DEPTHS = (4, 4, 4, 4, 4, 1)
_UNIT = re.compile(r"mbconv(\d)_(\d)x\d(_se)?")


def names(squeeze: bool = False) -> tuple[str, ...]:
  """The operations that a layer chooses among, but for the skip."""
  return tuple(f"mbconv{expansion}_{k}x{k}" + "_se" * squeeze
               for expansion in steps.EXPANSIONS for k in steps.KERNELS)


def make(name: str, widths: tuple[int, ...], *, stem: int = 32, first: int = 16,
         last: int = 1280, squeeze: bool = False) -> base.Space:
  """A space of chains.

  Args:
    name: of the space.
    widths: channels of the six stages.
    stem: channels of the first convolution.
    first: channels of the block without expansion.
    last: channels of the 1x1 convolution behind the stages.
    squeeze: whether blocks have squeeze-and-excitation.
  """
  given = inverted.block(stem, first, 1, 1)
  given = given._replace(nodes=tuple(
      node._replace(fixed=True) for node in given.nodes))
  blocks, every = [given], names(squeeze)
  choices: list[tuple[tuple[str, ...], ...]] = [((),) * len(given.edges)]
  for width, stride, depth in zip(widths, STRIDES, DEPTHS, strict=True):
    for i in range(depth):
      blocks.append(Block((Node(width, 1 if i else stride),),
                          (Edge(operations.NULL, 1, 2),)))
      choices.append(((*every, operations.SKIP) if i else every,))
  graph = BlockNetwork(
      name, (Layer("conv", stem, 3, 2, activation="relu6"),), tuple(blocks),
      (Layer("conv", last, activation="relu6"), Layer("global_pool"),
       Layer("linear", norm=False)), norm_epsilon=1e-3)
  return base.Space(
      name, graph, (*every, operations.SKIP, operations.NULL), tuple(choices),
      share="full", several=False, unfold=unfold)


def of(name: str, squeeze: bool = False) -> base.Space:
  """The space with the widths of a network that the authors found.

  Args:
    name: of `zoo.proxyless.NETWORKS`.
    squeeze: whether blocks have squeeze-and-excitation.
  """
  spec = proxyless.NETWORKS[name]
  return make(f"space of {name}", spec.widths, stem=spec.stem, first=spec.first,
              last=spec.last, squeeze=squeeze)


def unfold(found: records.BlockNetwork) -> records.BlockNetwork:
  """A chain as the zoo writes it: in convolutions, without layers of nothing.

  Args:
    found: of a space of this module, an operation on every edge.
  """
  before, blocks = found.stem[-1].width, []
  for block in found.blocks:
    edge, width = block.edges[0], block.nodes[-1].width
    if match := _UNIT.fullmatch(edge.operation):
      expansion, kernel = map(int, match.groups()[:2])
      blocks.append(inverted.block(
          before, width, block.nodes[-1].stride, expansion, kernel,
          squeeze=bool(match[3])))
    elif len(block.edges) > 1 or edge.operation != operations.SKIP:
      blocks.append(block._replace(nodes=tuple(
          node._replace(fixed=False) for node in block.nodes)))
    before = width
  return found._replace(blocks=tuple(blocks))


_STAGES = (40, 80, 96, 192, 320)
SPACES = tuple(
    make(f"proxyless{wide}{'-se' * squeeze}", (width, *_STAGES),
         squeeze=squeeze)
    for wide, width in (("", 24), ("-wide", 32)) for squeeze in (False, True))
