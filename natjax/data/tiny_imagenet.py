"""Reads Tiny-ImageNet as Stanford's CS231n distributes it.

The archive tiny-imagenet-200.zip unpacks to a folder tiny-imagenet-200: 200
classes, 100,000 training images of 64x64 pixels in train/CLASS/images, and
10,000 in val/images whose classes val/val_annotations.txt tells. These are the
test images here; the labels of the test set proper are not public. Classes are
numbered in the order of their WordNet numbers, and words.txt names them.
"""

from collections.abc import Sequence
from concurrent import futures
import os
import pathlib

import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import dataset
from natjax.data import image_folder

NAME = "tiny_imagenet"
HOW_TO_GET = (
  "download tiny-imagenet-200.zip of Stanford's CS231n "
  "(http://cs231n.stanford.edu/tiny-imagenet-200.zip), unpack it, and give the "
  "folder that holds tiny-imagenet-200 as data_dir (--data-dir)"
)
_FOLDER = "tiny-imagenet-200"
_CLASSES, _ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"
_CHUNK = 500  # Images that a thread reads at once.


def find(name: str, folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the set's folder: `folder`, the one in it, or None."""
  if name != NAME:
    return None
  for candidate in (folder, folder / _FOLDER):
    if (candidate / _CLASSES).is_file() and (candidate / "train").is_dir():
      return candidate
  return None


def read(folder: pathlib.Path, image_size: int) -> dataset.RawImages:
  """Reads all labelled images, in threads.

  Args:
    folder: with train, val and wnids.txt.
    image_size: height and width in pixels that images are resized to at once,
      since all of them in full size take 1.3 GB.

  Returns:
    Training images in the order of class and file name, test images in that of
    val_annotations.txt.

  Raises:
    InputError: a file or a class is missing, an unknown class, or a file that
      is no image.
  """
  classes = sorted(_lines(folder / _CLASSES))
  number = {name: i for i, name in enumerate(classes)}
  files = [_train_files(folder / "train" / name / "images") for name in classes]
  labels = np.repeat(np.arange(len(classes)), [len(f) for f in files])
  test_files, test_labels = [], []
  for line in _lines(folder / _ANNOTATIONS):
    file, name = (*line.split("\t"), "")[:2]
    if name not in number:
      raise errors.InputError(
        f"{folder / _ANNOTATIONS}: {file} is of class {name!r}, which is not "
        f"in {_CLASSES}; unpack the archive again"
      )
    test_files.append(folder / "val" / "images" / file)
    test_labels.append(number[name])
  train_files = [path for of_class in files for path in of_class]
  return dataset.RawImages(
    train=(_read_images(train_files, image_size), labels),
    test=(_read_images(test_files, image_size), np.array(test_labels)),
    class_names=_class_names(folder, classes),
  )


def _lines(path: pathlib.Path) -> list[str]:
  """Returns the lines of a text file that are not empty, at least one."""
  try:
    lines = path.read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(
      f"{path} cannot be read; unpack the whole of tiny-imagenet-200.zip"
    ) from error
  found = [line.strip() for line in lines if line.strip()]
  if not found:
    raise errors.InputError(
      f"{path} is empty; unpack the whole of tiny-imagenet-200.zip"
    )
  return found


def _train_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the images of one class, sorted by name."""
  found = sorted(folder.glob("[!.]*.JPEG"))
  if not found:
    raise errors.InputError(
      f"{folder} holds no .JPEG files; unpack the whole of "
      "tiny-imagenet-200.zip"
    )
  return found


def _class_names(
  folder: pathlib.Path, classes: Sequence[str]
) -> tuple[str, ...]:
  """Returns the first word for every class, as words.txt has it."""
  words = dict(
    line.split("\t", 1)
    for line in _lines(folder / "words.txt")
    if "\t" in line
  )
  return tuple(words.get(name, name).split(",")[0] for name in classes)


def _read_images(paths: Sequence[pathlib.Path], image_size: int) -> np.ndarray:
  """Returns u8[N, H, W, 3]; grey images get three equal channels."""
  images = np.empty((len(paths), image_size, image_size, 3), np.uint8)

  def read_chunk(start):
    for i in range(start, min(start + _CHUNK, len(paths))):
      image = Image.fromarray(image_folder.read_image(paths[i]))
      images[i] = np.asarray(dataset.resize_image(image, image_size))

  # Pillow decodes without Python's lock.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(read_chunk, range(0, len(paths), _CHUNK)))
  return images
