"""Reads the files that `torch.save` writes, without PyTorch and without code.

Such a file is a zip of uncompressed members (since PyTorch 1.6): `data.pkl`, a
pickle whose tensors are views of storages, and `data/0`, `data/1`, ..., the
storages' bytes. The pickle is read by `data.unpickle`: numbers, text,
containers and NumPy's arrays come out; PyTorch's tensors by the stand-ins
below, which take plain numbers and give NumPy's views; and whatever else a file
names is refused by that name. Nothing in a file is ever run.
"""

import math
import pathlib
from typing import Any
import zipfile

import ml_dtypes
import numpy as np

from natjax import errors
from natjax.data import array_file, unpickle

PICKLE = "data.pkl"
_DTYPES = {
    "Float": "f4", "Double": "f8", "Half": "f2", "Long": "i8", "Int": "i4",
    "Short": "i2", "Char": "i1", "Byte": "u1", "Bool": "b1",
    "BFloat16": ml_dtypes.bfloat16}
# The number that such a file begins with, or that it is an archive of tar.
_LEGACY = (b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19", b"ustar")


class _Kind:
  """Stands for a class of storages, as torch.FloatStorage.

  Attributes:
    dtype: of its numbers.
  """

  __slots__ = ("dtype",)

  def __init__(self, dtype: Any):
    self.dtype = np.dtype(dtype)


def is_legacy(start: bytes) -> bool:
  """Whether a file's first bytes are those of PyTorch before 1.6."""
  return any(mark in start for mark in _LEGACY)


def read(path: pathlib.Path) -> Any:
  """What a file of `torch.save` holds.

  Args:
    path: of a zip file.

  Returns:
    Numbers, text and containers; tensors are NumPy arrays, views where several
    share a storage, in the file's dtypes.

  Raises:
    InputError: it is damaged, or asks for more than tensors and plain data.
  """
  try:
    with zipfile.ZipFile(path) as archive:
      return _read(path, archive)
  except array_file.UNREADABLE as e:
    if isinstance(e, errors.InputError):
      raise
    raise errors.InputError(
        f"{path} cannot be read ({unpickle.one_line(e)}); copy it again, or"
        " write it again with torch.save", "weights") from e


def _read(path, archive):
  pickle = next((name for name in archive.namelist() if name.split("/")[
      1:] == [PICKLE]), None)
  if pickle is None:
    raise ValueError(f"{PICKLE} lies in no folder of its own")
  folder = pickle.removesuffix(PICKLE)
  order = f"{folder}byteorder"
  big = order in archive.namelist() and archive.read(order).strip() == b"big"
  held: dict[str, bytes] = {}  # What views share.

  def storage(pid):
    what, kind, key, _, _ = pid
    if what != "storage" or not isinstance(kind, _Kind):
      raise unpickle.Refused(f"a storage of {errors.short(pid)}")
    if key not in held:
      held[key] = _member(archive, f"{folder}data/{key}")
    dtype = kind.dtype if not big else kind.dtype.newbyteorder(">")
    return np.frombuffer(held[key], dtype)

  def tensor(numbers, offset, shape, strides, *_):
    if not isinstance(numbers, np.ndarray):
      raise unpickle.Refused("a tensor without a storage")
    size = numbers.itemsize
    # NumPy refuses what would lie outside of the storage.
    return np.ndarray(shape, numbers.dtype, numbers, offset * size,
                      tuple(stride * size for stride in strides)) if (
                          math.prod(shape)) else np.zeros(shape, numbers.dtype)

  known: dict[tuple[str, str], Any] = {
      ("torch", f"{name}Storage"): _Kind(dtype)
      for name, dtype in _DTYPES.items()}
  known["torch._utils", "_rebuild_tensor_v2"] = tensor
  known["torch._utils", "_rebuild_parameter"] = lambda data, *_: data
  try:
    return unpickle.load(_member(archive, pickle), known=known,
                         outside=storage)
  except unpickle.Refused as e:
    raise errors.InputError(
        f"{path} holds {e}, which is no plain tensor, and nothing in a file is"
        " run; save the model's state_dict() alone", "weights") from e


def _member(archive, name):
  """The bytes of a member, which cannot be more than the file's."""
  if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
    raise ValueError("it is compressed, as torch.save never does")
  return archive.read(name)


def tensors(found: Any, path: pathlib.Path) -> dict[str, np.ndarray]:
  """The one mapping of names to tensors in what a file holds.

  It may lie within a checkpoint, under "state_dict", "model" or any name,
  beside an epoch, an optimizer and the like.

  Args:
    found: as `read` gives it.
    path: of the file, for errors.

  Raises:
    InputError: there is no such mapping, or several, of which none is the usual
      one, or another holds a model of the same shapes that is not the same, as
      its average.
  """
  if _named(found):
    return dict(found)
  inside = {key: value for key, value in found.items() if _named(value)} if (
      isinstance(found, dict)) else {}
  usual = [key for key in ("state_dict", "model", "model_state_dict")
           if key in inside] or list(inside)
  if len(usual) != 1:
    what = "no mapping of names to tensors" if not usual else (
        f"several mappings of names to tensors ({', '.join(map(str, usual))})")
    raise errors.InputError(
        f"{path} holds {what}; save one model's state_dict() alone", "weights")
  own = inside.pop(usual[0])
  if others := [key for key, value in inside.items() if _other(own, value)]:
    raise errors.InputError(
        f"{path} holds several models ({usual[0]},"
        f" {', '.join(map(str, others))}), as of a training and its average;"
        " save the state_dict() of the one that you mean alone", "weights")
  return dict(own)


def _other(own, value):
  """Whether tensors are another model's of the same shapes."""
  some, more = ([x for x in held.values() if x.ndim] for held in (own, value))
  return [x.shape for x in some] == [x.shape for x in more] and not all(
      np.array_equal(x, y) for x, y in zip(some, more, strict=True))


def _named(found):
  """Whether it is a mapping of names to tensors."""
  return isinstance(found, dict) and len(found) > 0 and all(
      isinstance(name, str) and isinstance(value, np.ndarray)
      for name, value in found.items())
