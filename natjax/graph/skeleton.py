"""Skeletons: the static part of a network, around its cells.

The CIFAR skeleton is a 3x3 stem of 3C channels and L cells, the reduction
cells at L // 3 and 2L // 3. The ImageNet skeleton has a stem of three strided
3x3 convolutions that leaves an eighth of the image's side. Channels double at
every reduction. `layers` is the one place that knows widths and sizes; costs
and networks read them from there.
"""

from collections.abc import Sequence
from typing import NamedTuple

from natjax import errors
from natjax.operations import primitives

KINDS = ("cifar", "imagenet")


class Skeleton(NamedTuple):
  """The static part of a network.

  Attributes:
    kind: "cifar" or "imagenet", which stem and auxiliary head.
    init_channels: C, channels of the first cell.
    cells: L, number of cells.
    num_classes: of the classifier; 0 leaves the classifier out.
    image_size: side of the square input images, in pixels.
  """

  kind: str = "cifar"
  init_channels: int = 36
  cells: int = 20
  num_classes: int = 10
  image_size: int = 32

  @property
  def reductions(self) -> tuple[int, ...]:
    """Layers that are reduction cells."""
    return tuple(sorted({self.cells // 3, 2 * self.cells // 3}))

  @property
  def stem_channels(self) -> int:
    """Channels that the first cell sees."""
    return self.init_channels * (3 if self.kind == "cifar" else 1)

  @property
  def auxiliary_layer(self) -> int:
    """The layer whose output feeds the auxiliary head."""
    return 2 * self.cells // 3

  @property
  def channels(self) -> tuple[int, ...]:
    """Channels C of every layer's operations."""
    return tuple(
        self.init_channels * 2 ** sum(r <= i for r in self.reductions)
        for i in range(self.cells)
    )


DEFAULTS = {
    "cifar": Skeleton(),
    "imagenet": Skeleton("imagenet", 48, 14, 1000, 224),
}


class Layer(NamedTuple):
  """One cell's place in a skeleton.

  Attributes:
    reduction: whether the cell halves height and width.
    reduction_prev: whether node 0's image is twice as large as node 1's, so
      that a factorised reduce brings it down.
    channels: C of the cell's operations.
    in_channels: channels of the two cell outputs that come in.
    in_size: side of the cell's input (node 1), in pixels.
    out_size: side of the cell's output.
  """

  reduction: bool
  reduction_prev: bool
  channels: int
  in_channels: tuple[int, int]
  in_size: int
  out_size: int


def check(skeleton: Skeleton) -> Skeleton:
  """Returns `skeleton` if a network can be built from it.

  Raises:
    InputError: an unknown kind, a count below one (of classes, below zero),
      channels that cannot be halved, or an image too small for the reductions.
  """
  if skeleton.kind not in KINDS:
    raise errors.InputError(
        f"skeleton '{skeleton.kind}' is unknown; choose {' or '.join(KINDS)}"
    )
  for name, least in (("init_channels", 2), ("cells", 1), ("num_classes", 0),
                      ("image_size", 1)):
    value = getattr(skeleton, name)
    if value < least:
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} is {value} and must be at least {least}; pass --{option}"
          f" {getattr(DEFAULTS['cifar'], name)}"
      )
  if skeleton.init_channels % 2:
    raise errors.InputError(
        f"init-channels is {skeleton.init_channels}; a factorised reduce"
        " halves the channels, so give an even number"
    )
  shrink = 2 ** len(skeleton.reductions)
  least = 2 * shrink * (8 if skeleton.kind == "imagenet" else 1)
  if skeleton.image_size < least:
    raise errors.InputError(
        f"image-size {skeleton.image_size} is too small for the"
        f" {skeleton.kind} skeleton with {len(skeleton.reductions)}"
        f" reduction(s); give at least {least}"
    )
  return skeleton


def stem_sizes(skeleton: Skeleton) -> tuple[int, ...]:
  """Output sides of the stem's convolutions."""
  if skeleton.kind == "cifar":
    return (skeleton.image_size,)
  sizes, size = [], skeleton.image_size
  for _ in range(3):
    size = primitives.output_size(size, 2)
    sizes.append(size)
  return tuple(sizes)


def layers(skeleton: Skeleton, widths: Sequence[int]) -> tuple[Layer, ...]:
  """Computes every layer's place.

  Args:
    skeleton: the skeleton.
    widths: nodes that the output of the normal and of the reduction cell
      concatenates.
  """
  check(skeleton)
  places = []
  size = stem_sizes(skeleton)[-1]
  in_channels = (skeleton.stem_channels,) * 2
  reduction_prev = skeleton.kind == "imagenet"
  for i, channels in enumerate(skeleton.channels):
    reduction = i in skeleton.reductions
    out_size = primitives.output_size(size, 2) if reduction else size
    places.append(Layer(reduction, reduction_prev, channels, in_channels, size,
                        out_size))
    in_channels = (in_channels[1], channels * widths[int(reduction)])
    size, reduction_prev = out_size, reduction
  return tuple(places)


def output_channels(skeleton: Skeleton, widths: Sequence[int]) -> int:
  """Channels that the classifier sees: the network's features."""
  last = layers(skeleton, widths)[-1]
  return last.channels * widths[int(last.reduction)]


def groups(places: Sequence[Layer]) -> tuple[tuple[int, ...], ...]:
  """Runs of consecutive layers whose cells have equal shapes.

  Example:
    >>> groups(layers(Skeleton(init_channels=4, cells=8), (4, 4)))
    ((0, 1), (2,), (3, 4), (5,), (6, 7))
  """
  runs: list[list[int]] = []
  for i, layer in enumerate(places):
    last = places[i - 1] if i else None
    if last and (last.channels, last.reduction) == (
        layer.channels, layer.reduction) and not layer.reduction:
      runs[-1].append(i)
    else:
      runs.append([i])
  return tuple(map(tuple, runs))
