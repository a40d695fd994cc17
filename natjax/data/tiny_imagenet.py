"""Reads Tiny-ImageNet as Stanford's CS231n distributes it.

The archive tiny-imagenet-200.zip unpacks to a folder tiny-imagenet-200: 200
classes, 100,000 training images of 64x64 pixels in train/CLASS/images, and
10,000 in val/images whose classes val/val_annotations.txt tells, or which
somebody has moved into folders, val/CLASS. These are the test images here; the
labels of the test set proper are not public. Classes are numbered in the order
of their WordNet numbers, and words.txt names them.
"""

import pathlib

from natjax import errors
from natjax.data import dataset, image_folder, streamed

NAME = "tiny_imagenet"
HOW_TO_GET = ("download tiny-imagenet-200.zip of Stanford's CS231n"
              " (http://cs231n.stanford.edu/tiny-imagenet-200.zip), unpack it,"
              " and give the folder that holds tiny-imagenet-200 as data_dir")
_WHOLE = "unpack the whole of tiny-imagenet-200.zip"
_FOLDER = "tiny-imagenet-200"
_CLASSES, _ANNOTATIONS = "wnids.txt", "val/val_annotations.txt"


def find(name: str, folder: pathlib.Path) -> pathlib.Path | None:
  """Returns the set's folder: `folder`, the one in it, or None."""
  if name != NAME:
    return None
  return next(
      (inner for inner in (folder, folder / _FOLDER)
       if (inner / _CLASSES).is_file() and (inner / "train").is_dir()), None)


def read(folder: pathlib.Path, image_size: int, resize: str = "stretch",
         stream: streamed.Streaming = streamed.NEVER) -> dataset.RawImages:
  """Reads all labelled images, in threads.

  Args:
    folder: with train, val and wnids.txt.
    image_size: height and width in pixels that images are resized to at once,
      since all of them in full size take 1.3 GB.
    resize: how; see `crops.resize_image`.
    stream: whether images stay on disk.

  Returns:
    Training images in the order of class and file name, test images in that of
    val_annotations.txt, or also of class and file name.

  Raises:
    InputError: a file or a class is missing, an unknown class, or a file that
      is no image.
  """
  classes = sorted(_lines(folder / _CLASSES))
  number = {name: i for i, name in enumerate(classes)}
  train = [(path, i) for name, i in number.items()
           for path in _train_files(folder / "train" / name)]
  notes = image_folder.beside(folder / "train", classes)
  test = [(path, i) for name, i in number.items()
          for path in image_folder.image_files(folder / "val" / name)]
  if test:
    notes += image_folder.beside(folder / "val", classes)
  else:
    test, left = _annotated(folder, number)
    notes += [f"{left} image(s) in {folder / 'val' / 'images'} of which"
              f" {folder / _ANNOTATIONS} says no class are passed over"
              ] * bool(left)
  words = dict(line.split("\t", 1) for line in _lines(folder / "words.txt")
               if "\t" in line)
  return dataset.RawImages(
      *image_folder.read_parts(train, test, image_size, resize, stream),
      tuple(words.get(name, name).split(",")[0] for name in classes),
      tuple(notes))


def _annotated(folder, number):
  """Images in val/images with their labels, and how many others are there."""
  found = {}
  for line in _lines(folder / _ANNOTATIONS):
    file, name = (*line.split("\t"), "")[:2]
    if name not in number:
      raise errors.InputError(
          f"{folder / _ANNOTATIONS}: {file} is of class {name!r}, which is not "
          f"in {_CLASSES}; unpack the archive again")
    path = folder / "val" / "images" / file
    if path in found:
      raise errors.InputError(f"{folder / _ANNOTATIONS}: {file} stands in it"
                              " twice; unpack the archive again")
    found[path] = number[name]
  there = {*image_folder.image_files(folder / "val" / "images")}
  return [*found.items()], len(there - found.keys())


def _lines(path: pathlib.Path) -> list[str]:
  """Returns the lines of a text file that are not empty, at least one."""
  try:
    lines = errors.regular(path).read_text(encoding="utf-8").splitlines()
  except (OSError, UnicodeDecodeError) as error:
    raise errors.InputError(f"{path} cannot be read; {_WHOLE}") from error
  found = [line.strip() for line in lines if line.strip()]
  if not found:
    raise errors.InputError(f"{path} is empty; {_WHOLE}")
  return found


def _train_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the images of one class, sorted by name."""
  found = image_folder.image_files(folder)
  if not found:
    raise errors.InputError(f"{folder / 'images'} holds no images; {_WHOLE}")
  return found
