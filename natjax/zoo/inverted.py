"""Inverted residual blocks (Sandler et al., 2018), of several networks."""

from collections.abc import Callable, Iterable
import functools
from typing import Any

from natjax.graph.records import Block, Edge, Node


def chain(build: Callable[..., Block], before: int,
          steps: Iterable[tuple[Any, ...]]) -> tuple[Block, ...]:
  """Blocks `build(before, width, ...)`, one for each step (width, ...).

  Args:
    build: makes a block from the channels of its input and a step.
    before: channels of the first block's input.
    steps: the channels of each block's output, and what else `build` takes.
  """
  blocks = []
  for width, *others in steps:
    blocks.append(build(before, width, *others))
    before = width
  return tuple(blocks)


def block(before: int, width: int, stride: int, expansion: int, kernel: int = 3,
          *, activation: str = "relu6", project: bool = False,
          squeeze: bool = False) -> Block:
  """An inverted residual block (Sandler et al., 2018, section 3.3).

  Args:
    before: channels of the input.
    width: channels of the output.
    stride: of the depthwise convolution.
    expansion: how many times wider it is inside.
    kernel: of the depthwise convolution.
    activation: inside.
    project: whether blocks of stride 1 that change the width have a shortcut.
    squeeze: whether squeeze-and-excitation follows the depthwise convolution.
  """
  nodes = [Node(before * expansion, activation=activation),
           Node(before * expansion, stride, activation), Node(width, stride)]
  operations = ["conv_1x1", f"depthwise_conv_{kernel}x{kernel}", "conv_1x1"]
  if expansion == 1:
    nodes, operations = nodes[1:], operations[1:]
  if squeeze:
    nodes.insert(-1, Node(before * expansion, stride))
    operations.insert(-1, "squeeze_excite")
  edges = [Edge(op, n, n + 1) for n, op in enumerate(operations, 1)]
  if stride == 1 and (before == width or project):
    edges.append(Edge("skip_connect", 1, len(nodes) + 1))
  return Block(tuple(nodes), tuple(edges))


def repeated(before: int, stages: Iterable[tuple[int, int, int, int]],
             **options: Any) -> tuple[Block, ...]:
  """The blocks of stages.

  Args:
    before: channels of the first block's input.
    stages: (t, c, n, s) of each, as in the tables of Sandler et al.: the
      expansion, the channels, the number of blocks, the stride of the first.
    **options: of every `block`.
  """
  return chain(
      functools.partial(block, **options), before,
      [(width, 1 if j else stride, expansion)
       for expansion, width, times, stride in stages for j in range(times)])
