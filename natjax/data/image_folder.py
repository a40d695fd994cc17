"""Reads an image set from a folder with one subfolder per class.

Either `FOLDER/train/CLASS/*.png` and `FOLDER/test/CLASS/*.png` (`val` or
`validation` if there is no `test`), or `FOLDER/CLASS/*.png`, of which a fixed
fifth of every class is held out as the test set. Classes are numbered in the
order of their names. Any format that Pillow decodes will do; files without the
suffix of an image are passed over.
"""

from collections.abc import Sequence
import pathlib

import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import dataset

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif",
            ".tiff", ".webp")
_TEST_FOLDERS = ("test", "val", "validation")


def read(folder: pathlib.Path) -> dataset.RawImages:
  """Reads all images of a folder.

  Raises:
    InputError: a folder without classes, a class without images, a training
      set without a test set or the reverse, other classes in the test set than
      in the training set, a file that is no image, or images of unequal size.
  """
  test_folder = _test_folder(folder)
  if test_folder is None:
    names = _class_names(folder)
    return dataset.divide(*_read_classes(folder, names), names)
  names, test_names = _class_names(folder / "train"), _class_names(test_folder)
  if names != test_names:
    different = sorted(set(names) ^ set(test_names))
    raise errors.InputError(f"{folder}: train and {test_folder.name} must hold"
                            " the same classes, and only one of them holds"
                            f" {', '.join(different)}: add or remove those")
  return dataset.RawImages(_read_classes(folder / "train", names),
                           _read_classes(test_folder, names), names)


def _test_folder(folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the folder of the test set, None if the set is not divided."""
  found = [n for n in _TEST_FOLDERS if (folder / n).is_dir()]
  divided = (folder / "train").is_dir()
  if divided and not found:
    raise errors.InputError(
        f"{folder} has train but none of {', '.join(_TEST_FOLDERS)}; add one, "
        f"or give {folder / 'train'}, of which a fifth is then held out")
  if found and not divided:
    raise errors.InputError(f"{folder} has {found[0]} but no train; add it,"
                            " with one folder per class inside")
  return folder / found[0] if found else None


def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of the class folders, sorted."""
  names = sorted(p.name for p in folder.iterdir()
                 if p.is_dir() and not p.name.startswith("."))
  if len(names) < 2:
    raise errors.InputError(
        f"{folder} has {len(names)} class folders; it must hold at least 2 "
        "folders of images, one per class, directly or in train and test")
  return tuple(names)


def _read_classes(folder: pathlib.Path,
                  names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
  """Returns u8[N, H, W, 3] and i64[N], in the order of class and file name."""
  files = [(path, label) for label, name in enumerate(names)
           for path in _image_files(folder / name)]
  first = read_image(files[0][0])
  images = np.empty((len(files), *first.shape), np.uint8)
  for i, (path, _) in enumerate(files):
    image = read_image(path)
    if image.shape != first.shape:
      raise errors.InputError(
          f"images of unequal size: {files[0][0]} is {_size(first)} and {path} "
          f"is {_size(image)} pixels (width x height); bring them to one size")
    images[i] = image
  return images, np.array([label for _, label in files])


def _image_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the images of one class, sorted by name."""
  files = sorted(p for p in folder.iterdir()
                 if p.suffix.lower() in SUFFIXES and p.name[0] != ".")
  if not files:
    raise errors.InputError(
        f"{folder} holds no images; put files directly into it that end in one "
        f"of {', '.join(SUFFIXES)}, or remove it")
  return files


def read_image(path: pathlib.Path) -> np.ndarray:
  """Reads an image file as u8[H, W, 3], without its transparency.

  Raises:
    InputError: not an image, damaged, or not of 8 bits per channel.
  """
  try:
    with Image.open(path) as image:
      if image.mode.startswith(("I", "F")):
        raise errors.InputError(f"{path} has more than 8 bits per channel (mode"
                                f" {image.mode}); convert it to 8 bits")
      # Pillow warns of a palette with transparency unless it goes by RGBA.
      via = image.convert("RGBA") if image.mode == "P" else image
      return np.asarray(via.convert("RGB"))
  except (OSError, SyntaxError) as error:  # Pillow's words for bad files.
    raise errors.InputError(
        f"{path} cannot be read as an image; remove it or save it again"
    ) from error


def _size(image: np.ndarray) -> str:
  """Returns width x height."""
  return f"{image.shape[1]}x{image.shape[0]}"
