"""Encoded images that stay on disk, read one by one at any place.

`Files` are images in files of their own, `TFRecords` and `ArrayRecords` the
examples of a set that tensorflow-datasets prepared, of which TensorFlow reads
none. What is known of every image beside its pixels, its label and where it
lies, takes some 30 to 60 bytes in memory. It is found by going once through all
files; of large sets it is kept in the cache's folder.
"""

import array
from collections.abc import Callable, Sequence
import contextlib
import errno
import functools
import itertools
import mmap
import os
import pathlib
from typing import Any, NamedTuple
import zlib

import numpy as np

from natjax import errors
from natjax.data import cache, tfrecord

_INSTALL = 'pip install "natjax[data]"'
_KEPT = 10_000  # Records from which on an index is kept on disk.
_CHUNK = 256  # Records of array_record read at once.
_SAMPLED = 512  # Images of a split whose content is looked at.
_FIRST = 64  # Records by which it is known whether a split has labels.


class Records:
  """Encoded images by their number, from 0.

  Attributes:
    labels: i64[N], of records that have them.
  """

  labels: np.ndarray

  def __len__(self) -> int:
    raise NotImplementedError

  def name(self, number: int) -> str:
    """How a user finds an image on disk."""
    raise NotImplementedError

  def encoded(self, number: int) -> bytes:
    """A file of an image, as it was saved.

    Raises:
      OSError: it cannot be read.
      ValueError: there is none.
    """
    raise NotImplementedError

  @functools.cached_property
  def checksum(self) -> int:
    """CRC-32 of names and sizes; not of pixels, which would take hours."""
    raise NotImplementedError

  def sample(self, rows: np.ndarray) -> int:
    """CRC-32 of the files of some images, at equal distances among `rows`.

    Of formats that do not compress, all files are of one size.

    Args:
      rows: i64[M], numbers of images; all are taken of up to 512.
    """
    found = 0
    for number in np.linspace(
        0, len(rows) - 1, min(len(rows), _SAMPLED)).round():
      try:
        data = self.encoded(int(rows[int(number)]))
      except (OSError, ValueError):  # It is named where it is read.
        data = b""
      found = zlib.crc32(data, found)
    return found


class Absent(Records):
  """Images that are not there; a data set's name is all that is known."""

  def __init__(self, name: str):
    self._name = name

  def name(self, number: int) -> str:
    return self._name

  def encoded(self, number: int) -> bytes:
    raise errors.InputError("is not there: its images cannot be read; give the"
                            " folder that holds it", "data_dir")

  @functools.cached_property
  def checksum(self) -> int:
    return 0


class Files(Records):
  """Images in files of their own.

  Example:
    >>> Files([pathlib.Path("a/1.png"), pathlib.Path("b/2.png")]).name(1)
    'b/2.png'
  """

  def __init__(self, paths: Sequence[pathlib.Path]):
    # One text: a million paths as objects take ten times its memory.
    names, ends = bytearray(), array.array("q", [0])
    for path in paths:
      names += os.fsencode(path)
      ends.append(len(names))
    self._names, self._ends = bytes(names), np.array(ends)

  def __len__(self) -> int:
    return len(self._ends) - 1

  def name(self, number: int) -> str:
    return os.fsdecode(
        self._names[self._ends[number]:self._ends[number + 1]])

  def encoded(self, number: int) -> bytes:
    with open(errors.regular(pathlib.Path(self.name(number))), "rb") as file:
      return file.read()

  @functools.cached_property
  def checksum(self) -> int:
    """Of the names within the folder that all files share, and their sizes."""
    names = [self.name(i) for i in range(len(self))]
    shared = len(os.path.commonpath([os.path.dirname(name) for name in names]))
    found = 0
    for name in names:
      try:
        size = os.stat(name).st_size
      except OSError:  # It is named where it is read.
        size = -1
      found = zlib.crc32(os.fsencode(f"{name[shared:]}\0{size}\0"), found)
    return found


class Keys(NamedTuple):
  """What examples call their image and its label."""

  image: str = "image"
  label: str = "label"


_KEYS = Keys()


class TFRecords(Records):
  """Images of examples in TensorFlow's files of records."""

  def __init__(self, paths: Sequence[pathlib.Path], keys: Keys = _KEYS):
    """Goes through all files, or reads what was found then.

    Args:
      paths: of the files.
      keys: of the examples.

    Raises:
      InputError: a damaged file, an example without image or label, or an index
        that cannot be kept.
      OSError: the disk is too full for it.
    """
    self._paths = [os.fspath(path) for path in paths]
    found = index(self._paths, lambda: _spans(self._paths, keys), keys)
    self.labels, self._file, self._offset, self._length = found.T
    # As narrow as they may be, and not views of what holds all four.
    self.labels = self.labels.copy()
    self._file = self._file.astype(np.uint16)
    self._offset = self._offset.copy()
    self._length = self._length.astype(np.uint32)

  @staticmethod
  def first_labels(paths: Sequence[pathlib.Path],
                   keys: Keys = _KEYS) -> list[int]:
    """Labels of the first records, of a damaged file those before it breaks."""
    found: list[int] = []
    with contextlib.suppress(OSError, ValueError, LookupError), open(
        paths[0], "rb") as file:
      for offset, length in itertools.islice(tfrecord.spans(file), _FIRST):
        file.seek(offset)
        found.append(_image_and_label(file.read(length), keys)[1])
    return found

  def __len__(self) -> int:
    return len(self._offset)

  def name(self, number: int) -> str:
    file = self._file[number]
    first = int(np.searchsorted(self._file, file))
    return f"record {number - first} of {self._paths[file]}"

  def encoded(self, number: int) -> bytes:
    length = int(self._length[number])
    with open(self._paths[self._file[number]], "rb", buffering=0) as file:
      file.seek(int(self._offset[number]))
      data = file.read(length)
    if len(data) < length:
      raise OSError("ends within a record")
    return data

  @functools.cached_property
  def checksum(self) -> int:
    """Of every image's size, in order; the files' names may differ."""
    return zlib.crc32(self._length.tobytes())


class ArrayRecords(Records):
  """Images of examples in files of the format array_record."""

  def __init__(self, paths: Sequence[pathlib.Path], keys: Keys = _KEYS):
    """Goes through all files, or reads what was found then.

    Args:
      paths: of the files.
      keys: of the examples.

    Raises:
      InputError: a damaged file, an example without image or label, an index
        that cannot be kept, or array_record is not installed.
      OSError: the disk is too full for it.
    """
    self._paths = [os.fspath(path) for path in paths]
    self._keys = keys
    self._source = _array_records(self._paths)
    found = index(self._paths, self._scan, keys)
    self.labels, self._length = found[:, 0].copy(), found[:, 1].copy()

  @staticmethod
  def first_labels(paths: Sequence[pathlib.Path],
                   keys: Keys = _KEYS) -> list[int]:
    """Labels of the first records; none of a damaged file."""
    source = _array_records([os.fspath(paths[0])])
    with contextlib.suppress(OSError, RuntimeError, ValueError, LookupError):
      return [_image_and_label(record, keys)[1]
              for record in source.__getitems__(
                  range(min(_FIRST, len(source))))]
    return []

  def _scan(self):
    """i64[N, 2]: label and size of every image."""
    rows = []
    try:
      for start in range(0, len(self._source), _CHUNK):
        numbers = range(start, min(start + _CHUNK, len(self._source)))
        rows += [(label, len(image)) for image, label in (
            _image_and_label(record, self._keys)
            for record in self._source.__getitems__(numbers))]
    except (OSError, RuntimeError, ValueError, LookupError) as e:
      raise errors.InputError(
          f"{os.path.dirname(self._paths[0])}: record {len(rows)} or one behind"
          f" it cannot be read ({errors.cause(e)[:200]}); copy or prepare the"
          " set again") from e
    return rows

  def __len__(self) -> int:
    return len(self.labels)

  def name(self, number: int) -> str:
    shown = self._paths[0] if len(self._paths) == 1 else (
        os.path.dirname(self._paths[0]))
    return f"record {number} of {shown}"

  def encoded(self, number: int) -> bytes:
    try:
      image, _ = _image_and_label(self._source[number], self._keys)
    except (RuntimeError, LookupError) as e:
      raise OSError(errors.cause(e)) from e
    return bytes(image)

  @functools.cached_property
  def checksum(self) -> int:
    """Of every image's size, in order; the files' names may differ."""
    return zlib.crc32(self._length.astype(np.uint32).tobytes())

  def __getstate__(self) -> dict[str, Any]:
    return {k: v for k, v in vars(self).items() if k != "_source"}

  def __setstate__(self, state: dict[str, Any]) -> None:
    vars(self).update(state)
    self._source = _array_records(self._paths)


def _array_records(paths):
  """The records of files, by number, read without TensorFlow."""
  try:
    from array_record.python import array_record_data_source
  except ImportError as e:
    raise errors.InputError(
        f"reading {paths[0]} needs more packages ({e}): {_INSTALL}") from e
  try:
    return array_record_data_source.ArrayRecordDataSource(paths)
  except (OSError, RuntimeError, ValueError) as e:
    raise errors.InputError(
        f"{paths[0]} or another file beside it cannot be read"
        f" ({errors.cause(e)[:200]}); copy or prepare the set again") from e


def _image_and_label(data, keys=_KEYS):
  """The encoded image and the label of an example (LookupError, ValueError)."""
  found = tfrecord.example(data)
  (image,), (label,) = found[keys.image], found[keys.label]
  if isinstance(image, int) or not isinstance(label, int):
    raise ValueError("image or label of another type")
  return image, label


def _spans(paths, keys):
  """Rows of label, number of the file, offset and length of the image.

  Of a record that is damaged the image is empty, which is found where it is
  decoded, as of an image that cannot be decoded.
  """
  rows = []
  for number, path in enumerate(paths):
    count = 0
    try:
      with open(path, "rb") as file:
        spans = [*tfrecord.spans(file)]
        if not spans:
          continue
        mapped = memoryview(mmap.mmap(
            file.fileno(), 0, access=mmap.ACCESS_READ))
        damaged = {*tfrecord.damaged(mapped, spans).tolist()}
        for offset, length in spans:
          whole = mapped[offset:offset + length]
          image, label = _image_and_label(whole, keys)
          rows.append((label, number, offset + _place(image, whole),
                       0 if count in damaged else len(image)))
          count += 1
    except (OSError, ValueError, LookupError) as e:
      what = e.args[0] if type(e) is ValueError and count == 0 else (
          f"record {count} is no example with one image and one label")
      raise errors.InputError(
          f"{path}: {what}; copy or prepare the set again") from e
  return rows


def _place(part, whole):
  """Where a view begins in another one that holds it, in bytes."""
  first, second = (
      np.frombuffer(view, np.uint8).__array_interface__["data"][0]
      for view in (part, whole))
  return first - second


def index(paths: Sequence[str], make: Callable[[], Any],
          how: Any = None) -> np.ndarray:
  """What `make` finds in files, i64[N, ...], kept on disk where N is large.

  Args:
    paths: of the files.
    make: looks through them.
    how: what it goes by beside them.
  """
  stats = [(path, s.st_size, s.st_mtime_ns) for path, s in (
      (os.path.abspath(path), os.stat(path)) for path in paths)]
  text = repr(stats if how is None else (stats, how)).encode()
  kept = cache.folder() / "indices" / (
      f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}.npy")
  try:
    return np.load(kept, allow_pickle=False)
  except (OSError, ValueError, EOFError):
    found = np.array(make(), np.int64)
  if found.size == 0:
    raise errors.InputError(
        f"{os.path.dirname(paths[0])} holds no records; prepare the set again")
  if len(found) >= _KEPT:
    part = kept.with_name(f"{kept.name}.{os.getpid()}")
    try:
      kept.parent.mkdir(parents=True, exist_ok=True)
      with open(part, "wb") as file:
        np.save(file, found)
      part.replace(kept)
    except OSError as e:
      with contextlib.suppress(OSError):
        part.unlink()
      room = (f"no place for the index of {len(paths)} files,"
              f" {found.nbytes / 2**20:.1f} MiB")
      mend = "name another folder by the environment variable NATJAX_CACHE"
      # NumPy, which could not write all, gives no number.
      if e.errno is None or errors.disk_full(e):
        raise OSError(
            errno.ENOSPC, f"{room}; free some, or {mend}", str(kept.parent)
        ) from e
      raise errors.InputError(
          f"{kept.parent} has {room} ({e.strerror}); {mend}") from e
  return found
