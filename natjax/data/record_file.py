"""Reads image sets from MXNet's record files, as sets of faces come.

A folder holds `train.rec`, records behind each other; `train.idx`, a line
"number, tab, offset" per record, without which records are looked for; and
often `property`, a line "identities, height, width". A record begins with the
magic number 0xced7230a and a word of 3 bits that say which part of a whole it
is (0 all, 1 the first, 2 one between, 3 the last) and 29 bits of length, and is
filled up to 4 bytes; where the magic number stood in the data, this was cut
there, and the number left out. In it are a header, flag u32, label f32, number
u64 and another u64, as many further labels f32 as the flag says, and the
encoded image.

Record 0 of a set of faces has no image, and two labels: where the images end,
which begin with record 1, and where the headers of identities do, which stand
from there on and are passed over. Other sets have images alone. Nothing is
executed; as of `image_folder`, images are resized as they are read, or stay in
the file and are decoded as they are needed (`streamed`).
"""

from collections.abc import Iterator, Sequence
from concurrent import futures
import functools
import io
import itertools
import os
import pathlib
import struct
from typing import BinaryIO
import zlib

import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import crops, dataset, image_folder, streamed
from natjax.data import records as records_lib

SUFFIX = ".rec"
RECORDS, PROPERTY = "train.rec", "property"
MAGIC = 0xCED7230A
_HEADER = struct.Struct("<IfQQ")
_MOST = 2**29  # Bytes of a record, by its 29 bits.
_CHUNK = 100  # Images that a thread reads at once.
_ADVICE = "copy the set again"


def find(path: pathlib.Path) -> pathlib.Path | None:
  """The record file that a path is, or that lies in it; None of others."""
  found = path if path.suffix.lower() == SUFFIX else path / RECORDS
  return found if found.is_file() else None


def read(path: pathlib.Path, image_size: int, resize: str = "stretch",
         stream: streamed.Streaming = streamed.NEVER) -> dataset.RawImages:
  """Reads all images of a record file; there is no test set.

  Args:
    path: of the file; its index stands beside it, if there is one.
    image_size: height and width in pixels that images are resized to.
    resize: how; see `crops.resize_image`.
    stream: whether images stay on disk.

  Raises:
    InputError: another file, one that ends within a record, an index of
      another or of a part of it, a label that is no whole number, or an image
      that does not decode.
  """
  offsets = _offsets(path)
  with _opened(path) as file:
    first = _Record(file, offsets[0], f"{path}: record 0")
    if faces := not first.image and len(first.labels) == 2:
      stop = first.label(f"{path}: record 0")
      if not 1 < stop <= len(offsets):
        raise errors.InputError(
            f"{path}: record 0 says that records 1 to {stop - 1} are images,"
            f" and there are {len(offsets)} records; {_ADVICE}")
      images = range(1, stop)
    else:
      images = range(len(offsets))
  places = np.array([offsets[i] for i in images], np.int64)
  keep = stream.wanted(len(images), image_size, resize)
  found, labels = (_streamed if keep else _held)(
      path, places, images.start, image_size, resize, stream)
  count = _identities(
      path.with_name(PROPERTY), len(images)) if faces else None
  others = sorted(
      other.name for other in path.parent.glob(f"*{SUFFIX}")
      if path.name == RECORDS and other.name != RECORDS)
  notes = (f"images in other files of {path.parent}"
           f" ({errors.several(others)}) are passed over",) if others else ()
  return dataset.RawImages(
      (found, labels), None,
      None if count is None else tuple(map(str, range(count))), notes)


def _streamed(path, places, first, image_size, resize, stream):
  """Images that stay on disk, and labels."""
  records = Records(path, places, first)
  return streamed.Streamed(
      records, np.arange(len(records)), image_size, resize,
      reading=stream.reading), records.labels


def _held(path, places, first, image_size, resize, stream):
  """All images, read and decoded in threads, and labels."""
  del stream
  found = np.empty((len(places), image_size, image_size, 3), np.uint8)
  labels = np.empty(len(places), np.int64)

  def read_chunk(start):
    with _opened(path) as file:
      for i in range(start, min(start + _CHUNK, len(places))):
        where = f"{path}: record {first + i}"
        record = _Record(file, places[i], where)
        labels[i] = record.label(where)
        pixels = image_folder.decode(io.BytesIO(record.image), where)
        found[i] = np.asarray(crops.resize_image(
            Image.fromarray(pixels), image_size, resize))

  # Pillow decodes without Python's lock.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(read_chunk, range(0, len(places), _CHUNK)))
  return found, labels


class Records(records_lib.Records):
  """Images of a record file."""

  def __init__(self, path: pathlib.Path, places: Sequence[int], first: int):
    """Goes through all records for their labels, or reads what was found then.

    Args:
      path: of the file.
      places: where its images' records begin.
      first: the number of the first of them.

    Raises:
      InputError: see `read`, or an index that cannot be kept.
    """
    self._path, self._first = os.fspath(path), first
    found = records_lib.index(
        [self._path, *filter(os.path.exists, [
            os.fspath(path.with_suffix(".idx"))])],
        functools.partial(self._scan, places))
    self._places, self.labels, self._sizes = found.T.copy()

  def _scan(self, places):
    """Rows of place, label and size, without the images' bytes."""
    rows = []
    with _opened(pathlib.Path(self._path)) as file:
      for i, place in enumerate(places):
        where = self.name(i)
        file.seek(place)
        head = file.read(8)
        magic, word = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
        part = file.read(min(word % _MOST, _HEADER.size + 4))
        if magic == MAGIC and word >> 29 == 0 and len(part) > _HEADER.size:
          # The first label, behind the header where there are several.
          flag, label, _, _ = _HEADER.unpack_from(part)
          if flag:
            label, = struct.unpack_from("<f", part, _HEADER.size)
          rows.append((place, _whole(label, where), word % _MOST))
        else:  # It is in parts, or damaged.
          record = _Record(file, place, where)
          rows.append((place, record.label(where), len(record.image)))
    return rows

  def __len__(self) -> int:
    return len(self._places)

  def name(self, number: int) -> str:
    return f"{self._path}: record {self._first + number}"

  def encoded(self, number: int) -> bytes:
    try:
      with _opened(pathlib.Path(self._path)) as file:
        return _Record(
            file, int(self._places[number]), self.name(number)).image
    except errors.InputError as e:
      raise OSError(str(e)) from e

  @functools.cached_property
  def checksum(self) -> int:
    """Of every record's size, in order."""
    return zlib.crc32(self._sizes.astype(np.uint32).tobytes())


class _Record:
  """A record of images: labels f32[...] and the encoded image."""

  def __init__(self, file, offset, where):
    data = _data(file, offset, where)
    if len(data) < _HEADER.size:
      raise errors.InputError(f"{where} has no header of an image; {_ADVICE}")
    flag, label, _, _ = _HEADER.unpack_from(data)
    start = _HEADER.size + 4 * flag
    if start > len(data):
      raise errors.InputError(
          f"{where} has {flag} labels by its header, and no room for them;"
          f" {_ADVICE}")
    self.labels = np.frombuffer(data, "<f4", flag, _HEADER.size) if flag else (
        np.array([label], np.float32))
    self.image = data[start:]

  def label(self, where):
    """The first label, a whole number."""
    return _whole(float(self.labels[0]), where)


def _whole(label, where):
  """A label that is a whole number (InputError)."""
  if not label.is_integer() or abs(label) >= 2**63:
    raise errors.InputError(
        f"{where} has the label {label:g}, which numbers no class; give a set"
        " whose labels are whole numbers")
  return int(label)


def _data(file: BinaryIO, offset: int, where: str) -> bytes:
  """The data of a record, its parts joined by what was left out."""
  file.seek(offset)
  parts = []
  while True:
    head = file.read(8)
    if len(head) < 8:
      raise errors.InputError(f"{where} ends within; {_ADVICE}")
    magic, word = struct.unpack("<II", head)
    if magic != MAGIC:
      raise errors.InputError(
          f"{where} is not where it should be, or this is no file of MXNet's"
          f" records; {_ADVICE}")
    kind, length = word >> 29, word % _MOST
    part = file.read(length)
    if len(part) < length:
      raise errors.InputError(f"{where} ends within; {_ADVICE}")
    file.seek(-length % 4, os.SEEK_CUR)
    parts.append(part)
    if (kind in (0, 1)) != (len(parts) == 1):
      raise errors.InputError(
          f"{where} has parts that do not follow each other; {_ADVICE}")
    if kind in (0, 3):
      return struct.pack("<I", MAGIC).join(parts)


def _offsets(path: pathlib.Path) -> list[int]:
  """Where records begin, by their numbers: of the index, or else looked for."""
  index = path.with_suffix(".idx")
  if not index.is_file():
    with _opened(path) as file:
      found = [*_beginnings(file, path)]
  else:
    try:
      lines = [line.split("\t") for line in index.read_text("ascii").split("\n")
               if line]
      rows = {int(number): int(offset) for number, offset in lines}
    except ValueError as e:
      raise errors.InputError(
          f"{index} is no index of records; {_ADVICE}, or remove it") from e
    if sorted(rows) != [*range(len(rows))] or not all(
        0 <= offset < 2**63 for offset in rows.values()):
      raise errors.InputError(
          f"{index} does not number records from 0 on, or says of one that it"
          f" lies where none can; {_ADVICE}, or remove it")
    found = [rows[number] for number in range(len(rows))]
    if found and (more := _behind(path, max(found))):
      raise errors.InputError(
          f"{index} has {len(found)} records, and {path.name} holds more from"
          f" byte {more} on; {_ADVICE}, or remove the index")
  if not found:
    empty = index if index.is_file() else path
    raise errors.InputError(f"{empty} holds no records; {_ADVICE}")
  return found


def _behind(path: pathlib.Path, last: int) -> int | None:
  """Where a record begins behind that which should be the last, if one does."""
  with _opened(path) as file:
    beginnings = _beginnings(file, path, last)
    try:
      return next(itertools.islice(beginnings, 1, None), None)
    except errors.InputError:
      return None  # What is damaged is named where it is read.


def _beginnings(file: BinaryIO, path: pathlib.Path,
                offset: int = 0) -> Iterator[int]:
  """Yields where whole records begin, from one of them on."""
  size = path.stat().st_size
  while offset < size:
    file.seek(offset)
    head = file.read(8)
    magic, word = struct.unpack("<II", head) if len(head) == 8 else (0, 0)
    if magic != MAGIC:
      raise errors.InputError(
          f"{path} is no file of MXNet's records, or is damaged at byte"
          f" {offset}; {_ADVICE}")
    if word >> 29 in (0, 1):
      yield offset
    offset += 8 + (word % _MOST + 3) // 4 * 4


def _identities(path: pathlib.Path, images: int) -> int | None:
  """How many there are, by the file `property`; None where there is none.

  Raises:
    InputError: it does not begin with their number, or names more than there
      are images.
  """
  if not path.is_file():
    return None
  first = path.read_text("ascii", errors="replace").split(",")[0].strip()
  if not first.isdecimal() or len(first) > 10 or int(first) < 2:
    raise errors.InputError(
        f"{path} begins with {errors.short(first)} and must begin with the"
        f" number of identities; {_ADVICE}, or remove it")
  if int(first) > images:
    raise errors.InputError(
        f"{path} says that there are {int(first)} identities, and there are"
        f" {images} images; {_ADVICE}, or remove it")
  return int(first)


def _opened(path: pathlib.Path) -> BinaryIO:
  """The file, opened."""
  try:
    return open(path, "rb")  # Its callers close it.
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; {_ADVICE}") from e
