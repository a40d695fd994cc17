"""Memory of inference, counted from shapes.

What is counted is the same on every device: the weights, float32, parameters
and running statistics; and the images that are held at once while a batch goes
through, edge by edge, in the order in which the network is written: the images
themselves, every node and block output that something later still reads, the
sum that is being made, and what the edge adds to it. What a device needs beside
(workspaces of convolutions, a compiler's copies), and what it saves by fusing
operations, is left out.
"""

import itertools
from typing import NamedTuple

import numpy as np

from natjax import operations
from natjax.costs import exact
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib


class _Step(NamedTuple):
  """Something that is computed: of what, and how large it is."""

  reads: tuple[int, ...]
  size: int


def count(architecture: records.Architecture, place: records.Place,
          batch: int = 1, dtype: str = "float32") -> int:
  """Bytes that inference needs at a batch.

  Args:
    architecture: in any spelling.
    place: where it stands.
    batch: images.
    dtype: of the computation, "float32" or "bfloat16".

  Example:
    >>> from natjax import zoo
    >>> count(zoo.get("resnet20"), records.Frame(10, 32))
    1292776
  """
  width = {"float32": 4, "bfloat16": 2}[dtype]
  return 4 * weights(architecture, place) + batch * width * activations(
      architecture, place)


def weights(architecture: records.Architecture, place: records.Place) -> int:
  """Numbers in the parameters and the running statistics of a network."""
  graph = codec.expand(architecture, place)
  cost = exact.network(architecture, place)
  statistics = cost.norm_params  # A mean and a variance for two parameters.
  if graph.norm == "bias":  # What stands for BN on edges has none.
    statistics -= sum(
        exact.edge(graph, shapes, edge).norm_params for block, shapes in zip(
            graph.blocks, shapes_lib.of(graph, place), strict=True)
        for edge in block.edges)
  return cost.params + statistics


def activations(architecture: records.Architecture,
                place: records.Place) -> int:
  """The most numbers that are held at once for one image."""
  steps = _steps(codec.expand(architecture, place), place)
  last = np.arange(len(steps))  # When each is read for the last time.
  for step, (reads, _) in enumerate(steps):
    last[[*reads]] = step
  sizes = np.array([step.size for step in steps])
  change = np.zeros(len(steps) + 1, np.int64)
  np.add.at(change, np.arange(len(steps)), sizes)
  np.add.at(change, last + 1, -sizes)
  return int(np.cumsum(change).max())


def _steps(graph, place):
  """What is computed, in order; the first are the images."""
  steps = []

  def add(reads, size):
    steps.append(_Step(tuple(reads), size))
    return len(steps) - 1

  images = lambda shape: shape.width * shape.size**2
  at = [add((), images(shape)) if not i else add((i - 1,), images(shape))
        for i, shape in enumerate(shapes_lib.stem_shapes(graph, place))]
  inputs = (at[-1] if graph.early < 0 else at[graph.early + 1], at[-1])
  found = shapes_lib.of(graph, place)
  for block, shapes in zip(graph.blocks, found, strict=True):
    values = [*inputs]
    for n in range(records.NUM_INPUTS, len(block.nodes) + records.NUM_INPUTS):
      size, total = images(shapes.nodes[n]), None
      for edge in block.edges:
        if edge.target != n or edge.operation == operations.NULL:
          continue
        source = values[edge.source]
        if total is None:
          total = add((source,), size)
        else:  # What is added to the sum, which stays where it is.
          add((source, total), size)
      values.append(add((), size) if total is None else total)
    outputs = [values[n] for n in block.outputs]
    inputs = (inputs[1], outputs[0] if len(outputs) == 1 else add(
        outputs, images(shapes.output)))
  head = shapes_lib.layer_shapes(shapes_lib.head_layers(graph, place),
                                 found[-1].output, place.num_classes)
  for shape in itertools.islice(head, 1, None):
    inputs = (inputs[0], add((inputs[1],), images(shape)))
  return steps
