"""What DARTS's code calls the parameters of a network of cells.

Liu et al., 2019, and the many that build on their `NetworkCIFAR` and
`NetworkImageNet`, for genotypes of DARTS's operations: `stem`, `cells.3.
preprocess0`, `cells.3._ops.5` in the order of the genotype's edges,
`auxiliary_head`, which a file may lack, and `classifier`.
"""

from collections.abc import Mapping
import re

import numpy as np

from natjax import errors, operations
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.interchange import names
from natjax.networks import network as network_lib

_STEMS = {1: (("stem.0", "stem.1"),),
          3: (("stem0.0", "stem0.1"), ("stem0.3", "stem0.4"),
              ("stem1.1", "stem1.2"))}
_CELL = re.compile(r"cells\.(\d+)\.")


def spellings(network: records.BlockNetwork,
              frame: records.Frame) -> list[names.Names]:
  """How the tensors of cells, written out, are called there; see `names`."""
  if network.norm_epsilon != names.EPSILON:
    return []
  called = network_lib.names(network)
  found: list[tuple[str, names.Leaf]] = []
  stem = names.units(network.stem, called.stem, shapes_lib.stem_shapes(
      network, frame), frame)
  for unit, theirs in zip(stem, _STEMS[len(network.stem)], strict=True):
    found += unit.leaves(*theirs)
  of_blocks = shapes_lib.of(network, frame)
  for i, (block, shapes) in enumerate(zip(
      network.blocks, of_blocks, strict=True)):
    for e, edge in enumerate(block.edges):
      hidden, ends = e < network.prefix, shapes.ends(edge)
      name = f"preprocess{e}" if hidden else network_lib.edge_name(
          e - network.prefix, edge.operation)
      leaves = _operation(
          f"cells.{i}." + (name if hidden else f"_ops.{e - network.prefix}"),
          (f"{called.block}{i}", name), edge.operation, ends, hidden)
      if leaves is None:
        return []
      found += leaves
  shape = of_blocks[-1].output
  head = names.Unit((called.head[-1],), "linear", (
      frame.num_classes, shape.width), "", ("linear", "bias"))
  found += head.leaves("classifier", classifies=True)
  # It reads the last cell that reduces.
  reduced = [shapes.output.width for i, shapes in enumerate(of_blocks)
             if network.blocks[i].nodes[-1].stride > 1]
  if reduced:
    found += _auxiliary(reduced[-1], frame.num_classes, len(network.stem) == 1)
  return [dict(found)]


def _operation(there, path, operation, ends, hidden):
  """The tensors of an operation; None of one that DARTS has not."""
  before, width = ends.in_channels, ends.channels
  kind = operations.get(operation).type
  k = operations.get(operation).kernel_size
  norm = lambda name, here="norm": names.norm(
      f"{there}.{name}", (*path, here), width)
  kernel = lambda name, here, *shape: _kernel(
      f"{there}.{name}", (*path, here), *shape)
  skips = operation == operations.SKIP
  if kind in ("null", "max_pool", "avg_pool") or (skips and ends.alike):
    return []
  if skips and ends.stride == 2:  # A factorised reduce.
    return [kernel("conv_1", "conv0", width // 2, before, 1, 1),
            kernel("conv_2", "conv1", width // 2, before, 1, 1), *norm("bn")]
  if hidden and operation == "conv_1x1":
    return [kernel("op.1", "conv", width, before, 1, 1), *norm("op.2")]
  if kind in ("sep_conv", "dil_conv"):
    found = []
    for n, first in enumerate((1, 5) if kind == "sep_conv" else (1,)):
      found += [kernel(f"op.{first}", f"depthwise{n}", width, 1, k, k),
                kernel(f"op.{first + 1}", f"pointwise{n}", width, width, 1, 1),
                *norm(f"op.{first + 2}", f"norm{n}")]
    return found
  if operation in ("conv_7x1_1x7", "conv_1x7_7x1"):
    return [kernel("1", "conv0", width, width, 1, k),
            kernel("2", "conv1", width, width, k, 1), *norm("3")]
  return None


def _kernel(there, path, *shape):
  """A convolution's kernel by its name there."""
  return f"{there}.weight", names.Leaf(
      ("params", *path, "kernel"), shape, "conv")


def _auxiliary(width, classes, cifar):
  """The tensors of the auxiliary head, which a file may lack."""
  there = "auxiliary_head"
  found = [_kernel(f"{there}.features.2", ("auxiliary", "conv0"),
                   128, width, 1, 1),
           *names.norm(f"{there}.features.3", ("auxiliary", "norm0"), 128),
           _kernel(f"{there}.features.5", ("auxiliary", "conv1"),
                   768, 128, 2, 2)]
  if cifar:
    found += names.norm(f"{there}.features.6", ("auxiliary", "norm1"), 768)
  found += names.Unit(
      ("auxiliary", "classifier"), "linear", (classes, 768), "",
      ("linear", "bias")).leaves(f"{there}.classifier", classifies=True)
  return [(name, leaf._replace(optional=True)) for name, leaf in found]


def place(held: Mapping[str, np.ndarray],
          classes: int | None) -> records.Skeleton:
  """The skeleton in which the cells of a file stand.

  Args:
    held: its tensors.
    classes: of the classifier; None is as many as there are in the file.

  Raises:
    InputError: it is no file of such a network.
  """
  cells = [int(match[1]) for name in held if (match := _CELL.match(name))]
  cifar, imagenet = (held.get(name) for name in (
      "stem.0.weight", "stem1.1.weight"))
  classifier = held.get("classifier.weight")
  if not cells or (cifar is None) == (imagenet is None) or (
      classifier is None and classes is None) or not all(
          tensor is None or tensor.ndim for tensor in (
              cifar, imagenet, classifier)):
    raise errors.InputError(
        "the weights are not of cells under the names of DARTS's code; name"
        " those of the architecture that is given", "weights")
  if classes is None:
    assert classifier is not None  # As was checked.
    classes = len(classifier)
  if cifar is not None:
    return records.Skeleton("cifar", len(cifar) // 3, max(cells) + 1, classes)
  assert imagenet is not None
  return records.Skeleton("imagenet", len(imagenet), max(cells) + 1, classes,
                          224)
