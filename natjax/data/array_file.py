"""Reads an image set from one .npz file.

Its keys are `x_train`, `y_train`, `x_test` and `y_test`, as in the files that
Keras distributes, or those of MedMNIST, `train_images`, `train_labels`,
`test_images` and `test_labels`, in the shapes that `dataset.make_dataset`
takes; it may also hold `class_names`, an array of strings. Others, such as
validation images, are passed over, and the notes of what is read say so. The
test set may be missing (`sources.load` then holds one out). Nothing is
unpickled.
"""

import errno
import math
import os
import pathlib
import struct
import tokenize
import zipfile
import zlib

import numpy as np

from natjax import errors
from natjax.data import dataset, streamed, unpickle

KEYS = ("x_train", "y_train", "x_test", "y_test")
_FORMS = (KEYS, ("train_images", "train_labels", "test_images", "test_labels"))
# What numpy and zipfile raise of files that are cut off, damaged, encrypted,
# compressed by other means, or whose headers promise more than memory holds.
UNREADABLE = (ValueError, OSError, EOFError, LookupError, RuntimeError,
              MemoryError, OverflowError, SyntaxError, TypeError, struct.error,
              tokenize.TokenError, zipfile.BadZipFile, zlib.error)


def read(path: pathlib.Path) -> dataset.RawImages:
  """Reads the arrays of an .npz file.

  Raises:
    InputError: no such file, not an .npz file, a key missing, names of classes
      that are no list, or an array of Python objects, which only
      unpickling could read.
  """
  if not errors.regular(path).is_file():
    raise errors.InputError(f"{path}: no such file; check the path")
  if not os.access(path, os.R_OK):
    raise errors.InputError(f"{path}: {os.strerror(errno.EACCES)};"
                            f" {errors.TO_READ}")
  if not zipfile.is_zipfile(path):
    raise errors.InputError(
        f"{path} is not an .npz file, or is damaged; write one with "
        f"numpy.savez(path, {', '.join(f'{key}=...' for key in KEYS)})")
  try:
    check_sizes(path)
    with np.load(path, allow_pickle=False) as file:
      found = file.files
      keys = max(_FORMS, key=lambda form: len({*form} & {*found}))
      arrays = {key: file[key] for key in found
                if key in (*keys, "class_names")}
  except UNREADABLE as error:
    raise errors.InputError(
        f"{path} cannot be read ({unpickle.one_line(error)}); save plain "
        "arrays of numbers with numpy.savez, and copy the file again if it is "
        "damaged") from error
  for key, value in arrays.items():
    if not isinstance(value, np.ndarray):  # Bytes, as zip files may hold.
      raise errors.InputError(
          f"{path}: {key} is no array; write it with numpy.savez")
  missing = [key for key in keys if key not in found]
  if missing and missing != [*keys[2:]]:
    raise errors.InputError(
        f"{path} has the keys {', '.join(found) or 'none'}, and lacks "
        f"{', '.join(missing)}; save all of {', '.join(keys)}, or the first two"
        " where there is no test set")
  names = arrays.get("class_names")
  if names is not None and names.ndim != 1:
    raise errors.InputError(
        f"{path}: class_names is {names.dtype}{list(names.shape)} and must be"
        " a list of texts, one per class")
  train, test = ((arrays[x], arrays[y]) if x not in missing else None
                 for x, y in (keys[:2], keys[2:]))
  assert train is not None
  others = [key for key in found if key not in (*keys, "class_names")]
  notes = (f"of {path}, other arrays ({errors.several(others)}) are passed"
           " over",) if others else ()
  return dataset.RawImages(
      train, test, None if names is None else tuple(map(unpickle.text, names)),
      notes)


def check_sizes(path: pathlib.Path) -> None:
  """Looks at how large an .npz file's arrays say they are; reads none.

  Raises:
    ValueError: one stands there twice, says that it is larger than what the
      file holds of it, or all take more than this machine has.
    Others of `UNREADABLE`: the file is damaged.
  """
  whole, form = 0, np.lib.format
  with zipfile.ZipFile(path) as archive:
    if len({*archive.namelist()}) < len(archive.namelist()):
      raise ValueError("an array stands in it twice")
    for member in archive.infolist():
      name = member.filename
      with archive.open(name) as f:
        if f.read(len(form.MAGIC_PREFIX)) != form.MAGIC_PREFIX:
          continue
        f.seek(0)
        shape, _, dtype = (
            form.read_array_header_1_0 if form.read_magic(f) == (1, 0)
            else form.read_array_header_2_0)(f)
        needs, has = math.prod(shape) * dtype.itemsize, (
            member.file_size - f.tell())
      if needs > has and not dtype.hasobject:
        raise ValueError(
            f"{name} says that it has {needs} bytes, and has {has}")
      whole += needs
  if whole > (memory := streamed.machine_bytes()):
    raise ValueError(f"its arrays take {whole / 2**30:.0f} GiB, and this"
                     f" machine has {memory / 2**30:.0f} GiB")
