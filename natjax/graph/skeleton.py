"""Skeletons: the static part of a genotype's network, around its cells."""

import numbers

from natjax import errors
from natjax.graph import records

KINDS = ("cifar", "imagenet")
DEFAULTS = {"cifar": records.Skeleton(),
            "imagenet": records.Skeleton("imagenet", 48, 14, 1000, 224)}
Skeleton = records.Skeleton


def check(skeleton: Skeleton) -> Skeleton:
  """Returns `skeleton` if a network can be built from it.

  Raises:
    InputError: an unknown kind, a count below one (of classes, below zero) or
      that no machine has room for, channels that cannot be halved, or an image
      too small for the reductions.
  """
  errors.known("skeleton", skeleton.kind, KINDS)
  for name, least, most in (
      ("init_channels", 2, 10**6), ("cells", 1, 1000),
      ("num_classes", 0, 10**6), ("image_size", 1, 10**6),
      ("embedding", 0, 10**6)):
    value = getattr(skeleton, name)
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
      few = whole and value < least
      raise errors.InputError(
          f"{name.replace('_', '-')} is {errors.short(value)} and must be"
          f" {f'at least {least}' if few else f'an integer up to {most}'};"
          f" give {getattr(DEFAULTS['cifar'], name)}", field=name)
  if skeleton.init_channels % 2:
    raise errors.InputError(
        f"init-channels is {skeleton.init_channels}; a factorised reduce"
        " halves the channels, so give an even number", field="init_channels")
  shrink = 2 ** len(skeleton.reductions)
  least = 2 * shrink * (8 if skeleton.kind == "imagenet" else 1)
  if skeleton.image_size < least:
    raise errors.InputError(
        f"image-size {skeleton.image_size} is too small for the"
        f" {skeleton.kind} skeleton with {len(skeleton.reductions)}"
        f" reduction(s); give at least {least}", field="image_size")
  return skeleton


def stem(skeleton: Skeleton) -> tuple[records.Layer, ...]:
  """The layers before the cells.

  CIFAR: a 3x3 convolution to 3C channels. ImageNet: three strided ones, to C/2,
  C and C channels, with a ReLU between them.
  """
  c, layer = skeleton.init_channels, records.Layer
  if skeleton.kind == "cifar":
    return (layer("conv", 3 * c, 3),)
  return (layer("conv", c // 2, 3, 2, activation="relu"),
          layer("conv", c, 3, 2, activation="relu"), layer("conv", c, 3, 2))


def early(skeleton: Skeleton) -> int:
  """The layer of the stem that feeds node 0 of the first cell.

  On ImageNet that is the one before the last. Its ReLU does not matter: the
  factorised reduce that reads it begins with another.
  """
  return 1 if skeleton.kind == "imagenet" else -1
