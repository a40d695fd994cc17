"""Reads pairs of faces from the `.bin` files of the field.

LFW, CFP-FP, AgeDB-30 and others are given out as a pickled pair: a list of 2P
encoded images, those of a pair behind each other, and a list of P bools,
whether a pair shows one person. Python 2 or 3 may have written it, by any
protocol. Nothing of it is executed: plain data is built, and anything else is
refused (`unpickle`).
"""

from collections.abc import Iterator, Sequence
import io
import os
from typing import NamedTuple

import numpy as np

from natjax import errors
from natjax.data import image_folder, unpickle

_ADVICE = ("give the .bin file of a set of pairs (a pickled list of encoded"
           " images and one of bools)")


class Pairs(NamedTuple):
  """Pairs of images.

  Attributes:
    images: 2P encoded images; those of pair i are 2i and 2i + 1.
    same: bool[P], whether a pair shows one person.
    where: the file, for errors.
  """

  images: Sequence[bytes]
  same: np.ndarray
  where: str

  def decoded(self, image_size: int, batch_size: int = 256, *,
              resize: str = "stretch") -> Iterator[np.ndarray]:
    """Yields all images in order, u8[B, S, S, 3], `batch_size` at a time.

    Args:
      image_size: S, to which images of another size are resized.
      batch_size: B; the last one may be smaller.
      resize: how; see `crops.resize_image`.

    Raises:
      InputError: an image that does not decode.
    """
    for start in range(0, len(self.images), batch_size):
      part = self.images[start:start + batch_size]
      found = np.empty((len(part), image_size, image_size, 3), np.uint8)
      for i, encoded in enumerate(part):
        found[i] = image_folder.decode(
            io.BytesIO(encoded), f"{self.where}: image {start + i}",
            image_size, resize)
      yield found


def read(path: str | os.PathLike[str]) -> Pairs:
  """Reads a `.bin` file.

  Raises:
    InputError: no such file, one of another form, an odd number of images, or
      another number of bools than of pairs.
  """
  path = errors.regular(errors.path(path, "pairs"))
  refuse = lambda what: errors.InputError(f"{path} {what}; {_ADVICE}", "pairs")
  try:
    data = path.read_bytes()
  except OSError as e:
    raise errors.InputError(
        f"{path}: {e.strerror}; name a .bin file of pairs", "pairs") from e
  try:
    found = unpickle.load(data, encoding="bytes")
  except unpickle.Refused as e:
    raise refuse(f"asks for {e}, which is no plain data") from e
  except ValueError as e:
    raise refuse("is no pickle, or is damaged") from e
  if not isinstance(found, tuple | list) or len(found) != 2:
    raise refuse(f"holds {errors.short(found)} and must hold two lists")
  images, same = map(_listed, found)
  if images is None or same is None:
    raise refuse("must hold two lists")
  images = [x.value.tobytes() if isinstance(x, unpickle.Array) and (
      x.value.dtype == np.uint8) else x for x in images]
  if not all(isinstance(image, bytes | bytearray) for image in images):
    raise refuse("holds what are no encoded images")
  if not all(x in (0, 1) and isinstance(x, bool | int) for x in same):
    raise refuse("does not say of pairs whether they are of one person")
  if len(images) % 2 or len(images) != 2 * len(same):
    raise refuse(f"holds {len(images)} images and {len(same)} bools, and must"
                 " hold two images per bool")
  return Pairs([*map(bytes, images)], np.array(same, bool), str(path))


def _listed(part):
  """A list of a pickle, or an array as one; None of anything else."""
  if isinstance(part, unpickle.Array):
    return part.value.tolist() if part.value.ndim == 1 else None
  return list(part) if isinstance(part, list | tuple) else None
