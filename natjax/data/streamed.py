"""Images that stay on disk until a batch of them is looked at.

A `Streamed` stands where an array u8[N, S, S, 3] would: it has its shape and
length, and rows of it are again such images. Pixels are read by `batches`, for
rows that are known beforehand, in their order; nothing is drawn here. So what
is read is a function of the rows and of the walk's key, whatever the number of
workers and of processes that divide a walk, and it may begin anywhere. No
sharding of grain's is used, which leaves out the records that the number of
hosts does not divide.

grain (github.com/google/grain) decodes ahead: in threads of this process,
which Pillow does not hold up, or in processes of their own. What is held in
memory are some pieces of up to 64 images per thread or worker.
"""

from collections.abc import Generator
import dataclasses
import functools
import importlib.util
import io
import math
import os
from typing import Any, NamedTuple
import zlib

import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import crops
from natjax.data import records as records_lib

_PIECE = 64  # Images that are decoded at a time.
_AHEAD = 2  # Pieces that a thread or a worker has ready.
_THREADS = 16  # At most.
_FEW = 64  # Images that are decoded at once, without grain.
_WORTH = 1024  # Images for which workers are started.
_MOST_BYTES = 2**30  # That are read at once into memory.
_INSTALL = 'pip install "natjax[data]"'


class Reading(NamedTuple):
  """How images that are streamed are read.

  Attributes:
    workers: processes that decode; 0 is threads of this one.
    skip_damaged: whether images that do not decode are left out, and not
      refused.
  """

  workers: int = 0
  skip_damaged: bool = False


class Streaming(NamedTuple):
  """Whether the images of a set stay on disk.

  Attributes:
    stream: None lets those that would take more than half of the machine's
      memory, and those of resize "imagenet", whose random crops are taken from
      the images as they were saved.
    reading: how they are read then.
  """

  stream: bool | None = None
  reading: Reading = Reading()

  def wanted(self, count: int, image_size: int, resize: str) -> bool:
    """Whether so many images of a size do.

    Raises:
      InputError: this machine cannot hold what is then held at once.
    """
    found = self.stream
    if found is None:
      found = resize == "imagenet" or (
          3 * count * image_size**2 > machine_bytes() / 2)
    check_memory(min(count, _PIECE) if found else count, image_size)
    return found


NEVER = Streaming(False)


def machine_bytes() -> float:
  """The memory of this machine; infinite where it is not known."""
  try:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
  except (AttributeError, ValueError, OSError):  # Not on Windows.
    return math.inf


def check_memory(count: int, image_size: int) -> None:
  """Refuses images that this machine cannot hold, before any is read.

  Args:
    count: how many are held at once.
    image_size: in pixels.

  Raises:
    InputError: they take more than its memory.
  """
  has = machine_bytes()
  if (needs := 3 * count * image_size**2) > has:
    raise errors.InputError(
        f"{count} images of {image_size} x {image_size} pixels take"
        f" {needs / 2**30:.0f} GiB and this machine has {has / 2**30:.0f} GiB;"
        " give a smaller image size, or stream them from a folder of images or"
        " a prepared set", "image_size")


def chosen(rows: np.ndarray, key: Any) -> np.ndarray:
  """The rows that a key chooses of an array whose other axes stay on disk.

  Raises:
    IndexError: it chooses within images, as `[..., 0]` does, or makes axes.
  """
  inside = isinstance(key, tuple) and any(part is ... for part in key[:-1])
  found = rows[:0] if inside else rows[key]
  if inside or found.ndim > 1:
    raise IndexError("images on disk are chosen along one axis, by rows; make"
                     " an array of a few by numpy.asarray for more")
  return found


class Batch(NamedTuple):
  """Images u8[B, S, S, 3], and which of them did decode, bool[B]."""

  images: np.ndarray
  good: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Streamed:
  """Images on disk, in place of an array u8[N, S, S, 3].

  Attributes:
    records: where they lie.
    rows: i64[N] into them.
    image_size: S.
    resize: how an image becomes a square, where it is not cropped at random;
      see `crops.resize_image`.
    crop: random crops, in walks with keys; None has none.
    reading: workers, and what becomes of damaged images.
    skipped: numbers of records that were left out so far; shared by all parts.
  """

  records: records_lib.Records
  rows: np.ndarray
  image_size: int
  resize: str = "stretch"
  crop: crops.Crop | None = None
  reading: Reading = dataclasses.field(default_factory=Reading)
  skipped: set[int] = dataclasses.field(default_factory=set)

  dtype = np.dtype(np.uint8)
  ndim = 4

  def __post_init__(self):
    if importlib.util.find_spec("grain") is None:
      raise errors.InputError(
          "images that do not fit into memory are streamed by grain, which is"
          f" not installed: {_INSTALL}; or give a smaller image size", "stream")

  def __len__(self) -> int:
    return len(self.rows)

  @property
  def shape(self) -> tuple[int, int, int, int]:
    """That of the array which they stand for."""
    return len(self), self.image_size, self.image_size, 3

  @property
  def nbytes(self) -> int:
    """Of that array."""
    return int(np.prod(self.shape, dtype=np.int64))

  @property
  def damaged(self) -> list[int]:
    """The numbers of the records among these that were left out so far."""
    return self.rows[np.isin(self.rows, [*self.skipped])].tolist()

  @property
  def checksum(self) -> int:
    """CRC-32 of the records' names and sizes, and of which they are."""
    return zlib.crc32(self.rows.astype(np.int64).tobytes(),
                      self.records.checksum)

  @functools.cached_property
  def sample(self) -> int:
    """CRC-32 of what up to 512 of the images' files hold."""
    return self.records.sample(self.rows)

  def __getitem__(self, key: Any) -> Any:
    """One image u8[S, S, 3], decoded, or rows of them, which are not.

    Raises:
      InputError: the one image is damaged.
    """
    rows = chosen(self.rows, key)
    if rows.ndim:
      return dataclasses.replace(self, rows=rows)
    numbers = rows.reshape(1)
    piece = self._piece(numbers, None)
    if not piece.good.all():
      raise self._refusal(int(rows))
    return piece.images[0]

  def __array__(self, dtype: Any = None, copy: bool | None = None
                ) -> np.ndarray:
    """All of them, decoded.

    Raises:
      InputError: they take more than 1 GiB, or an image is damaged.
    """
    if self.nbytes > _MOST_BYTES:  # Or a slip would fill the memory.
      raise errors.InputError(
          f"{len(self)} images of {self.image_size} pixels take"
          f" {self.nbytes / 2**30:.1f} GiB, and at most 1 GiB is read into"
          " memory at once; take fewer, or walk over them in batches")
    found = self.decoded()
    return found if dtype is None else found.astype(dtype)

  def decoded(self) -> np.ndarray:
    """All of them as an array, of any size.

    Raises:
      InputError: an image is damaged.
    """
    found = np.empty(self.shape, np.uint8)
    whole = dataclasses.replace(  # What is refused is not noted.
        self, reading=self.reading._replace(skip_damaged=True), skipped=set())
    at = 0
    size = min(_PIECE, max(len(self), 1))
    for batch in whole.batches(np.arange(len(self)), size):
      if not batch.good.all():
        raise self._refusal(self.rows[at + int(np.argmin(batch.good))])
      found[at:at + len(batch.images)] = batch.images
      at += len(batch.images)
    return found

  def cropped(self, crop: crops.Crop | None) -> "Streamed":
    """These images with other random crops."""
    return dataclasses.replace(self, crop=crop)

  def batches(self, rows: np.ndarray, size: int,
              keys: np.ndarray | None = None) -> Generator[Batch]:
    """Reads images in an order, some of them ahead.

    Args:
      rows: i[M], of these images, in [0, N).
      size: B, of a batch; the last one may be smaller.
      keys: u64[M], by which images are cropped at random; None does not.

    Yields:
      Batches, of which only `good` images have pixels.

    Raises:
      InputError: an image is damaged, and damaged ones are not skipped.
    """
    cuts = _cuts(len(rows), size)
    numbers = self.rows[rows]
    if keys is None or self.crop is None:
      keys = None
    pieces = _Pieces(self, numbers, keys, cuts)
    read = iter(pieces) if len(rows) <= _FEW else pieces.ahead()
    images, good, begin = [], [], 0
    for start, piece in zip(cuts, read, strict=True):
      stop = start + len(piece.good)
      self._checked(piece, numbers[start:stop])
      images.append(piece.images)
      good.append(piece.good)
      if stop - begin == size or stop == len(rows):
        yield Batch(*((parts[0] if len(parts) == 1 else np.concatenate(parts))
                      for parts in (images, good)))
        images, good, begin = [], [], stop

  def _checked(self, batch, numbers):
    """Notes images that are damaged, or refuses the first of them."""
    if not batch.good.all():
      bad = numbers[~batch.good].tolist()
      if not self.reading.skip_damaged:
        raise self._refusal(bad[0])
      self.skipped.update(bad)
    return batch

  def _refusal(self, number):
    """Names a damaged image."""
    why = crops.why(ValueError())
    try:
      self._decode(number, None)
    except errors.InputError as e:
      why = f" {e}"
    except crops.UNREADABLE as e:
      why = crops.why(e)
    # Batches alone skip any.
    mend = "look at rows without it, as arrays have all of their images" if (
        self.reading.skip_damaged) else "skip damaged images"
    return errors.InputError(
        f"{self.records.name(number)}{why}, or {mend}", "skip_damaged")

  def _decode(self, number, key):
    """u8[S, S, 3] of a record."""
    box = None
    if key is not None:
      box = functools.partial(_box, key, number, self.crop)
    with Image.open(io.BytesIO(self.records.encoded(number))) as image:
      return crops.view(image, self.image_size, self.resize, box)

  def _piece(self, numbers, keys):
    """Images of a few records."""
    images = np.zeros((len(numbers), self.image_size, self.image_size, 3),
                      np.uint8)
    good = np.ones(len(numbers), bool)
    for i, number in enumerate(numbers):
      try:
        images[i] = self._decode(
            int(number), None if keys is None else int(keys[i]))
      except crops.UNREADABLE:  # InputError, too.
        good[i] = False
    return Batch(images, good)


class Absent(Streamed):
  """Images of which nothing but their number and size is known."""

  def __init__(self, name: str, count: int, image_size: int,
               reading: Reading | None = None):
    super().__init__(records_lib.Absent(name), np.arange(count), image_size,
                     reading=reading or Reading())

  def __post_init__(self):
    pass  # Nothing is read, by grain or otherwise.

  def cropped(self, crop: crops.Crop | None) -> "Absent":
    """Themselves: there is nothing to crop."""
    return self

  def __getitem__(self, key: Any) -> Any:
    """Rows of them, of which there is none alone."""
    rows = chosen(self.rows, key)
    return Absent(
        self.records.name(0), len(rows), self.image_size, self.reading) if (
            rows.ndim == 1) else super().__getitem__(key)


def _packed(piece):
  """The bytes of a piece's arrays."""
  return tuple(part.tobytes() for part in piece)


def _box(key, number, crop, width, height):
  return crops.draw(key, number, width, height, crop)


def _cuts(count, size):
  """Where pieces begin: none is longer than `_PIECE` or in two batches."""
  inside = range(0, size, _PIECE)
  return [start + part for start in range(0, count, size) for part in inside
          if start + part < count]


class _Pieces:
  """The pieces of a walk, as a source of grain's, which workers are sent."""

  def __init__(self, images, numbers, keys, cuts):
    # A worker needs neither all rows nor what this process has noted.
    self._images = dataclasses.replace(
        images, rows=images.rows[:0], skipped=set())
    self._numbers, self._keys = numbers, keys
    self._ends = [*cuts[1:], len(numbers)]
    self._cuts = cuts

  def __len__(self):
    return len(self._cuts)

  def __getitem__(self, index):
    part = slice(self._cuts[index], self._ends[index])
    return self._images._piece(
        self._numbers[part], None if self._keys is None else self._keys[part])

  def _unpacked(self, piece):
    images, good = map(functools.partial(np.frombuffer, dtype=np.uint8), piece)
    return Batch(images.reshape(len(good), *self._images.shape[1:]),
                 good.astype(bool))

  def ahead(self) -> Generator[Batch]:
    """Reads pieces by grain, some ahead of what is asked for."""
    from absl import flags
    import grain

    workers = self._images.reading.workers
    if len(self._numbers) < _WORTH:
      workers = 0
    threads = 1 if workers else min(os.cpu_count() or 1, _THREADS)
    source = grain.MapDataset.source(self)
    if workers:
      # Arrays would go by shared memory, of which containers have little, and
      # of which some is left at the end of a walk (grain 0.2.18).
      source = source.map(_packed)
    pieces = source.to_iter_dataset(grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=threads + _AHEAD))
    if workers:
      # grain asks for flags of absl's that a program may not have parsed.
      if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()
      pieces = pieces.mp_prefetch(grain.MultiprocessingOptions(
          num_workers=workers, per_worker_buffer_size=_AHEAD))
    found = iter(pieces)
    try:
      if workers:
        yield from map(self._unpacked, found)
      else:
        yield from found
    finally:
      found.close()
