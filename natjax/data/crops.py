"""Which part of an image is looked at, and how it becomes a square.

Pillow decodes and resizes, in integers: the same bits on every machine with the
same Pillow. A view of "imagenet" reads a JPEG at a half, a quarter or an eighth
of its size where no pixel of the result is lost by it (`Image.draft`), which
takes a fraction of the time.
"""

from collections.abc import Callable
import math
import numbers
import struct
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from natjax import errors

RESIZES = ("stretch", "crop", "imagenet")
#: What Pillow says of bad files, and of images of too many pixels.
UNREADABLE = (
    ArithmeticError, EOFError, LookupError, OSError, RuntimeError, SyntaxError,
    TypeError, ValueError, struct.error, Image.DecompressionBombError)
_TRIES = 10  # Of a box that fits into the image, as torchvision has them.
_MARGIN = 224 / 256  # Part of the shorter side that a test image keeps.

Box = tuple[float, float, float, float]  # Left, upper, right, lower.


class Crop(NamedTuple):
  """A random resized crop; see `draw`.

  Attributes:
    scale: least and greatest share of the image's area.
    ratio: least and greatest width over height.
  """

  scale: tuple[float, float]
  ratio: tuple[float, float]


def why(error: BaseException) -> str:
  """What is wrong with an image, and what to do; stands behind its name.

  Args:
    error: one of `UNREADABLE`, of Pillow, or the disk's.
  """
  if isinstance(error, Image.DecompressionBombError):
    return (f" has more than {2 * (Image.MAX_IMAGE_PIXELS or 0):,} pixels, the"
            " most that Pillow reads; make it smaller")
  if isinstance(error, FileNotFoundError | PermissionError):
    mend = "put it there, or remove its link" if isinstance(
        error, FileNotFoundError) else errors.TO_READ
    return f": {error.strerror}; {mend}"
  return " cannot be read as an image; remove it or save it again"


def whole_rgb(image: Image.Image) -> Image.Image:
  """An image of 8 bits per channel as RGB, without its transparency.

  Raises:
    InputError: it has more bits.
  """
  if image.mode.startswith(("I", "F")):
    raise errors.InputError("has more than 8 bits per channel (mode"
                            f" {image.mode}); convert it to 8 bits")
  # Pillow warns of a palette with transparency unless it goes by RGBA.
  via = image.convert("RGBA") if image.mode == "P" else image
  return via if via.mode == "RGB" else via.convert("RGB")  # Which would copy.


def resize_image(image: Image.Image, image_size: int,
                 how: str = "stretch") -> Image.Image:
  """Resizes one image to a square, antialiased.

  Args:
    image: of any size.
    image_size: of the square.
    how: "stretch" takes all of it, "crop" the largest square in the middle,
      both bicubic; "imagenet" what the papers on ImageNet test by, the middle
      of the image whose shorter side was brought to 256 / 224 of `image_size`,
      bilinear.
  """
  if how == "imagenet":
    return _view(image, image_size, _middle(*image.size, _MARGIN))
  box = None
  if how == "crop":
    side = min(image.size)
    left, top = ((length - side) // 2 for length in image.size)
    box = (left, top, left + side, top + side)
  return image.resize((image_size, image_size), Image.Resampling.BICUBIC, box)


def view(image: Image.Image, image_size: int, how: str,
         box: Callable[[int, int], Box] | None = None) -> np.ndarray:
  """Decodes an opened image as u8[S, S, 3].

  Args:
    image: opened, and not decoded yet.
    image_size: S.
    how: see `resize_image`.
    box: of (width, height), the part to take instead; None takes what `how`
      says.

  Raises:
    InputError: as `whole_rgb`.
  """
  if box is None and how != "imagenet":
    return np.asarray(resize_image(whole_rgb(image), image_size, how))
  taken = _middle(*image.size, _MARGIN) if box is None else box(*image.size)
  return np.asarray(_view(image, image_size, taken))


def _view(image, image_size, box):
  """A box of an image, decoded at no more pixels than it takes."""
  width, height = image.size
  left, upper, right, lower = box
  image.draft(None, (math.ceil(width * image_size / (right - left)),
                     math.ceil(height * image_size / (lower - upper))))
  across, down = image.size[0] / width, image.size[1] / height
  return whole_rgb(image).resize(
      (image_size, image_size), Image.Resampling.BILINEAR,
      (left * across, upper * down, right * across, lower * down))


def _middle(width: int, height: int, part: float) -> Box:
  """The square in the middle that has a part of the shorter side."""
  side = part * min(width, height)
  left, upper = (width - side) / 2, (height - side) / 2
  return left, upper, left + side, upper + side


def draw(key: int, number: int, width: int, height: int, crop: Crop) -> Box:
  """Draws the box of a random resized crop, as torchvision does.

  The area is uniform in `scale`, the logarithm of width over height uniform in
  that of `ratio`, both sides are rounded to pixels, and the place is uniform.
  Of ten draws the first that fits into the image counts; should none fit, the
  box is the largest in the middle whose ratio is allowed.

  Args:
    key: of a walk over the images, in [0, 2**64).
    number: of the image; it and the key alone determine the draws.
    width: of the image, in pixels.
    height: likewise.
    crop: scale and ratio.
  """
  # The bits of Philox are promised across versions of numpy, and a key needs
  # no warming up: 5 microseconds.
  raw = np.random.Philox(key=np.array([key, number], np.uint64)).random_raw(
      2 * _TRIES + 2)
  drawn = (raw >> np.uint64(11)) * 2.0**-53
  low, high = crop.scale
  area = width * height * (low + (high - low) * drawn[:_TRIES])
  low, high = np.log(crop.ratio)
  ratio = np.exp(low + (high - low) * drawn[_TRIES:-2])
  across, down = np.rint(np.sqrt(area * ratio)), np.rint(np.sqrt(area / ratio))
  fits = (across >= 1) & (across <= width) & (down >= 1) & (down <= height)
  if fits.any():
    across, down = (int(side[fits.argmax()]) for side in (across, down))
    left = int(drawn[-2] * (width - across + 1))
    upper = int(drawn[-1] * (height - down + 1))
    return left, upper, left + across, upper + down
  ratio = min(max(width / height, crop.ratio[0]), crop.ratio[1])
  across = min(width, max(1, round(height * ratio)))
  down = min(height, max(1, round(width / ratio)))
  left, upper = (width - across) // 2, (height - down) // 2
  return left, upper, left + across, upper + down


def are_numbers(given: Any, count: int) -> bool:
  """Whether a value is a tuple or a list of so many numbers."""
  return isinstance(given, tuple | list) and len(given) == count and all(
      isinstance(x, numbers.Real) for x in given)


def check(crop: Any) -> None:
  """Raises InputError unless crops can be drawn so."""
  for field, most in (("scale", 1.0), ("ratio", math.inf)):
    given = getattr(crop, field)
    if not are_numbers(given, 2) or not 0 < given[0] <= given[1] <= most or (
        math.isinf(given[1])):
      raise errors.InputError(
          f"{type(crop).__name__.lower()} {field} {given}: give two"
          " numbers above 0, the lower first"
          + (", up to 1" if field == "scale" else ""))
