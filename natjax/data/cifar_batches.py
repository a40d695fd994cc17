"""Reads CIFAR-10 and CIFAR-100 as their authors distribute them.

The "python version" of both sets (Krizhevsky, 2009,
https://www.cs.toronto.edu/~kriz/cifar.html) is a folder of pickles. A pickle
can run any code, so these are read by an unpickler that knows no function at
all except stand-ins for numpy arrays and scalars, and refuses everything else.
(The stand-ins also spare us what numpy's own reader deprecates in pickles that
Python 2 wrote.)
"""

import pathlib
from typing import Any

import numpy as np

from natjax import errors
from natjax.data import dataset, unpickle

# The folder that an archive unpacks to, its files of training images, of test
# images and of class names, how the keys of labels and names begin, and how
# many classes there are.
_FORMS = {
    "cifar10": ("cifar-10-batches-py", [f"data_batch_{i}" for i in range(1, 6)],
                "test_batch", "batches.meta", "", 10),
    "cifar100": ("cifar-100-python", ["train"], "test", "meta", "fine_",
                 100)}


def find(name: str, folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of `name`'s batches: `folder`, one in it, or None."""
  if name not in _FORMS:
    return None
  unpacked, train, *_ = _FORMS[name]
  return next((inner for inner in (folder, folder / unpacked)
               if any((inner / file).is_file() for file in train)), None)


def read(name: str, folder: pathlib.Path) -> dataset.RawImages:
  """Reads the batches of "cifar10" or "cifar100" in a folder.

  Returns:
    Images u8[N, 32, 32, 3] in the order of the files; for CIFAR-100 the 100
    fine labels.

  Raises:
    InputError: a file is missing, damaged, refused (it asks for more than
      arrays) or without images and labels.
  """
  _, train, test, meta, prefix, classes = _FORMS[name]
  files = (*train, test, meta)
  missing = [file for file in files if not (folder / file).is_file()]
  if missing:
    raise errors.InputError(
        f"{folder} lacks {', '.join(missing)}; unpack the whole archive of the "
        f"python version of {name}, which has {', '.join(files)}")

  def read_part(files):
    batches = [_read_batch(folder / f, f"{prefix}labels") for f in files]
    images, labels = zip(*batches, strict=True)
    return np.concatenate(images), np.concatenate(labels)

  key = f"{prefix}label_names"
  names = load_pickle(folder / meta).get(key)
  if isinstance(names, np.ndarray):
    names = names.tolist()
  if not isinstance(names, list) or not all(
      isinstance(name, str | bytes) for name in names):
    raise errors.InputError(
        f"{folder / meta} lacks the list {key} of texts; unpack the archive"
        " again")
  if len(names) != classes:
    raise errors.InputError(
        f"{folder / meta} names {len(names)} classes and {name} has {classes};"
        " unpack the archive again, or make a set of your own of it (.npz)")
  return dataset.RawImages(read_part(train), read_part([test]),
                           tuple(map(unpickle.text, names)))


def load_pickle(path: pathlib.Path) -> dict[str, Any]:
  """Reads a pickled dictionary of numbers, text and numpy arrays.

  Raises:
    InputError: the pickle asks for anything else, of which nothing is run, is
      damaged, or holds no dictionary.
  """
  try:
    content = unpickle.load(path.read_bytes(), encoding="bytes")
    found = {unpickle.text(key): value.value if isinstance(
        value, unpickle.Array) else value for key, value in content.items()}
    if len(found) < len(content):
      raise ValueError("a name stands in it twice, as bytes and as a text")
    return found
  except unpickle.Refused as error:
    raise errors.InputError(
        f"{path} refused: the pickle asks for {error}, and a CIFAR batch holds"
        " only numbers, text and arrays; nothing was run: download the archive"
        " again from its authors") from error
  except (ValueError, AttributeError) as error:
    raise errors.InputError(f"{path} is no readable CIFAR batch ({error});"
                            " download and unpack the archive again") from error


def _read_batch(path: pathlib.Path,
                label_key: str) -> tuple[np.ndarray, np.ndarray]:
  """Returns u8[n, 32, 32, 3] and i64[n] of one batch."""
  batch = load_pickle(path)
  missing = {"data", label_key} - set(batch)
  if missing:
    raise errors.InputError(
        f"{path} lacks {', '.join(sorted(missing))}; it is no batch of this "
        "set: check which archive was unpacked")
  rows, labels = batch["data"], batch[label_key]
  # Lists within lists may hold more than memory does.
  if not isinstance(rows, np.ndarray) or not (
      labels.dtype.kind in "iu" if isinstance(labels, np.ndarray)
      else isinstance(labels, list) and all(
          type(label) is int and abs(label) < 2**63 for label in labels)):
    raise errors.InputError(
        f"{path}: data must be an array, and {label_key} a list of whole"
        " numbers: unpack the archive again")
  labels = np.asarray(labels).astype(np.int64).reshape(-1)
  if rows.dtype != np.uint8 or rows.shape != (labels.size, 3 * 32 * 32):
    raise errors.InputError(
        f"{path}: data is {rows.dtype}{list(rows.shape)} with {labels.size} "
        f"labels; must be uint8[{labels.size}, 3072]: unpack the archive again")
  return rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), labels
