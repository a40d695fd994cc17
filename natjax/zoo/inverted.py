"""Inverted residual blocks (Sandler et al., 2018), of several networks."""

from typing import NamedTuple

from natjax.graph.records import Block
from natjax.graph.records import Edge
from natjax.graph.records import Node


def block(
    before: int, width: int, stride: int, expansion: int, activation: str,
    *, project: bool, kernel: int = 3,
) -> Block:
  """An inverted residual block (Sandler et al., 2018, section 3.3).

  Args:
    before: channels of the input.
    width: channels of the output.
    stride: of the depthwise convolution.
    expansion: how many times wider it is inside.
    activation: inside.
    project: whether blocks of stride 1 that change the width have a shortcut.
    kernel: of the depthwise convolution.
  """
  nodes = [Node(before * expansion, activation=activation),
           Node(before * expansion, stride, activation), Node(width, stride)]
  operations = ["conv_1x1", f"depthwise_conv_{kernel}x{kernel}", "conv_1x1"]
  if expansion == 1:
    nodes, operations = nodes[1:], operations[1:]
  edges = [Edge(op, n, n + 1) for n, op in enumerate(operations, 1)]
  if stride == 1 and (before == width or project):
    edges.append(Edge("skip_connect", 1, len(nodes) + 1))
  return Block(tuple(nodes), tuple(edges))


class Repeat(NamedTuple):
  """Inverted residual blocks, of which the first has the stride.

  Attributes:
    expansion: how many times wider they are inside.
    width: channels of their outputs.
    times: how many there are.
    stride: of the first.
  """

  expansion: int
  width: int
  times: int
  stride: int


def chain(
    before: int, stages: tuple[Repeat, ...], activation: str,
    *, project: bool = False,
) -> tuple[Block, ...]:
  """The blocks of stages; arguments are those of `block`."""
  blocks = []
  for stage in stages:
    for j in range(stage.times):
      blocks.append(block(before, stage.width, 1 if j else stage.stride,
                          stage.expansion, activation, project=project))
      before = stage.width
  return tuple(blocks)
