"""Reads an image set from a folder with one subfolder per class.

Either `FOLDER/train/CLASS/*.png` and `FOLDER/test/CLASS/*.png`, or
`FOLDER/CLASS/*.png`, of which a fixed part of every class is held out as the
test set. `training` is read as `train`; and as `test` the first of `testing`,
`val`, `valid` and `validation` that has classes, where there is no `test` or
where that has none, its labels being secret; all may be in capitals. The images
of a class may also stand in its folder `images`. Images that lie elsewhere are
passed over, and the notes of what is read say so; folders of runs are no
classes. Classes are numbered in the order of their names. Any format that
Pillow decodes will do; files without the suffix of an image (`SUFFIXES`, in any
case) are passed over, of `OTHER_SUFFIXES` with a note.

A turn that EXIF asks of a JPEG (cameras ask for one and leave the pixels alone)
is not made: the loaders of torchvision and of Keras make none, so that networks
that were trained elsewhere have seen the pixels as they are stored. That of a
TIFF Pillow makes itself, there as here.

Images are resized as they are read, by threads: no more are held in full size
than there are processor cores.
"""

from collections.abc import Iterator, Sequence
from concurrent import futures
import contextlib
import functools
import json
import os
import pathlib
import re
from typing import BinaryIO
import unicodedata

import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import crops, dataset, records, streamed

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif",
            ".tiff", ".webp")
#: Of images that are passed over, as torchvision's loader does.
OTHER_SUFFIXES = (".avif", ".heic", ".heif", ".jfif", ".jp2", ".jpe", ".jxl",
                  ".pbm", ".pnm", ".tga")
_TRAIN_FOLDERS = ("train", "training")
_TEST_FOLDERS = ("test", "testing", "val", "valid", "validation")
# What archives, network storage and file systems put into any folder.
_OF_SYSTEMS = ("__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "lost+found",
               "System Volume Information")
# What sets call their parts, of which no loader makes classes knowingly.
_OF_A_PART = re.compile(
    r"(?:train(?:ing)?|tests?|testing|val|valid(?:ation)?|dev|eval|images?|imgs?"
    r"|masks?|labels?|annotations?|samples?|unlabell?ed)"
    r"(?:[ _-]?(?:sets?|data|images?|imgs?|pictures?|photos?|tr|ts"
    r"|(?:19|20)\d\d))?",
    re.IGNORECASE)
_OF_A_FILE = re.compile(r"\.[A-Za-z]\w{0,4}$")
_CHUNK = 100  # Images that a thread reads at once.

Files = list[tuple[pathlib.Path, int]]


def read(folder: pathlib.Path, image_size: int, resize: str = "stretch",
         test_fraction: float | None = None,
         stream: streamed.Streaming = streamed.NEVER) -> dataset.RawImages:
  """Reads all images of a folder.

  Args:
    folder: with class folders, directly or in train and test.
    image_size: height and width in pixels that images are resized to.
    resize: how; see `crops.resize_image`.
    test_fraction: of every class, in a folder without a test set; None is a
      fifth, of one that is not divided.
    stream: whether images stay on disk.

  Raises:
    InputError: a folder without classes, a class without training images, a
      training set without a test set or the reverse, classes in the test set
      that the training set has not, or a file that is no image.
  """
  train_folder, tests = _parts(folder, test_fraction)
  names = _class_names(train_folder)
  files = _labelled(train_folder, names)
  found = {label for _, label in files}
  for label, name in enumerate(names):
    if label not in found:
      deeper = [inner for inner in _folders(train_folder / name)
                if _holds_images(train_folder / name / inner)]
      raise errors.InputError(
          f"{train_folder / name} holds no images; put files directly into it,"
          " or into its folder images, that end in one of"
          f" {', '.join(SUFFIXES)}, or remove it" + bool(deeper) * (
              f" (those of its folders {errors.several(deeper)} are not read:"
              " classes have no classes within)"))
  notes = beside(train_folder, names)
  if train_folder != folder:
    parts = [train_folder.name, *(test.name for test in tests)]
    notes += beside(folder, parts, classes=False)
  if tests:
    test = _test_files(tests, names, notes)
  else:
    part = dataset.held_out(np.array([label for _, label in files]),
                            test_fraction, names=names)
    files, test = ([file for file, held in zip(files, part, strict=True)
                    if held == wanted] for wanted in (False, True))
  return dataset.RawImages(
      *read_parts(files, test, image_size, resize, stream),
      class_names=tuple(map(_readable, names)), notes=tuple(notes),
      divided=not tests)


def read_parts(
    train: Files, test: Files, image_size: int, resize: str,
    stream: streamed.Streaming,
) -> tuple[tuple[dataset.Images, np.ndarray],
           tuple[dataset.Images, np.ndarray]]:
  """Reads labelled images, grey in three equal channels.

  Args:
    train: paths and labels.
    test: likewise.
    image_size: S, height and width in pixels that images are resized to.
    resize: how; see `crops.resize_image`.
    stream: whether images stay on disk.

  Returns:
    Of each part u8[N, S, S, 3], and i64[N].
  """
  keep = stream.wanted(len(train) + len(test), image_size, resize)
  make = _streamed if keep else _read_files
  read = lambda files: (
      make([path for path, _ in files], image_size, resize, stream),
      np.array([label for _, label in files], np.int64))
  return read(train), read(test)


def _streamed(paths, image_size, resize, stream):
  return streamed.Streamed(
      records.Files(paths), np.arange(len(paths)), image_size, resize,
      reading=stream.reading)


def _read_files(paths, image_size, resize, stream):
  """Reads images in threads."""
  images = np.empty((len(paths), image_size, image_size, 3), np.uint8)

  def read_chunk(start):
    for i, path in enumerate(paths[start:start + _CHUNK], start):
      with _opened(path) as image:
        images[i] = crops.view(image, image_size, resize)

  # Pillow decodes without Python's lock.
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    list(pool.map(read_chunk, range(0, len(paths), _CHUNK)))
  return images


def _parts(folder: pathlib.Path, test_fraction: float | None
           ) -> tuple[pathlib.Path, list[pathlib.Path]]:
  """Returns the training folder, and those that may hold the test set."""
  # Of names that differ in capitals alone, those without come last.
  names = {name.lower(): name for name in _folders(folder)}
  train = next((folder / names[name] for name in _TRAIN_FOLDERS
                if name in names), None)
  found = [folder / names[name] for name in _TEST_FOLDERS if name in names]
  if train and not found and test_fraction is None:
    raise errors.InputError(
        f"{folder} has {train.name} but none of {', '.join(_TEST_FOLDERS)}; add"
        f" one, or give {train}, of which a fifth is then held out, or say what"
        " part by test_fraction", "test_fraction")
  if found and not train:
    raise errors.InputError(f"{folder} has {found[0].name} but no train; add"
                            " it, with one folder per class inside")
  return train or folder, found


def beside(folder: pathlib.Path, names: Sequence[str],
           classes: bool = True) -> list[str]:
  """Says which images of a folder are not read.

  Args:
    folder: with class folders, or with train and test.
    names: of those of its folders that are read.
    classes: whether these are classes.
  """
  found = []
  if count := len(_images(folder)):
    found.append(f"{count} image(s) that lie in {folder} itself, beside its"
                 " folders, are passed over; put them into those of classes")
  known = {*names}
  others = [folder / name for name in _folders(folder) if name not in known]
  for name in names if classes else ():
    inside = folder / name
    read = inside if _holds_images(inside) else inside / "images"
    if _holds_images(read):
      others += [p for p in map(inside.joinpath, _folders(inside)) if p != read]
    if count := sum(1 for _ in _image_names(read, OTHER_SUFFIXES)):
      found.append(f"{count} image(s) in {read} of suffixes that are not read"
                   f" ({', '.join(OTHER_SUFFIXES)}) are passed over; save them"
                   " as .jpg or .png")
  for other in others:
    if any(_holds_images(pathlib.Path(path)) for path, *_ in os.walk(other)):
      found.append(f"images in {other} are passed over; put them into the"
                   " folders of the classes, or move them elsewhere")
  return found


def _test_files(tests: list[pathlib.Path], names: Sequence[str],
                notes: list[str]) -> Files:
  """Files of the first folder with classes; says what is passed over."""
  numbers = {name: label for label, name in enumerate(names)}
  for test in tests:
    own = [name for name in _folders(test) if name in numbers]
    files = _labelled(test, own) if own else []
    if files:
      break
    notes.append(f"{test} holds no folders of the classes and is passed over")
  else:
    raise errors.InputError(
        f"{' and '.join(map(str, tests))} must hold folders of the classes"
        f" {', '.join(names[:5])}{', ...' * (len(names) > 5)}, as"
        " those of the training images are called: give them one, or move"
        " images without labels elsewhere"
        + "".join(_spelt(_folders(test), names) for test in tests[:1]))
  if other := [name for name in _folders(test) if name not in numbers]:
    raise errors.InputError(
        f"{tests[0].parent}: {test.name} holds {', '.join(other)}, which the"
        " training images have not: remove them, or add training images"
        + _spelt(other, names))
  found = {own[label] for _, label in files}
  notes += [f"{other} is passed over, since {test} is the test set"
            for other in tests[tests.index(test) + 1:]]
  notes += beside(test, own)
  if lacks := [name for name in names if name not in found]:
    notes.append(f"{test} has no images of {', '.join(lacks)}")
  return [(path, numbers[own[label]]) for path, label in files]


def _spelt(others: Sequence[str], names: Sequence[str]) -> str:
  """What to say of names that only look like others; "" of none.

  Macs write an accent as a letter of its own, other systems one with its
  letter.
  """
  form = functools.partial(unicodedata.normalize, "NFC")
  alike = {*map(form, others)} & {*map(form, names)}
  return (f"; {', '.join(sorted(alike))} is written in other characters there"
          " that look alike (another form of Unicode): rename it"
          ) * bool(alike)


def _folders(folder: pathlib.Path) -> list[str]:
  """Returns the names of the folders inside but those of runs, sorted.

  Raises:
    InputError: a link that leads to nothing may have led to one.
  """
  with os.scandir(folder) as entries:  # Which know their kinds.
    found = [entry for entry in entries
             if entry.name[0] != "." and entry.name not in _OF_SYSTEMS]
  for entry in found:
    if entry.is_symlink() and _leads_nowhere(entry):
      raise errors.InputError(
          f"{entry.path}: the link leads to nothing; put there what it led to,"
          " or remove it")
  return sorted(entry.name for entry in found if _is_folder(entry)
                and not _holds_runs(folder / entry.name))


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
  """Whether a link leads to what is not there, and has no name of a file's."""
  try:
    entry.stat()
  except FileNotFoundError:
    return _OF_A_FILE.search(entry.name) is None
  except OSError:  # It may lead to itself.
    pass
  return False


def _holds_runs(folder: pathlib.Path) -> bool:
  """Whether a folder is a run's, or all folders in it are, and no image is.

  Runs may be written among the classes, and then see the same set again.
  """
  if _is_run(folder):
    return True
  if _holds_images(folder):
    return False
  try:
    with os.scandir(folder) as entries:
      inside = [folder / entry.name for entry in entries if _is_folder(entry)]
  except OSError:
    return False
  return bool(inside) and all(map(_is_run, inside))


def _is_run(folder: pathlib.Path) -> bool:
  """Whether a folder has a run's configuration."""
  path = folder / "config.json"
  try:
    found = json.loads(path.read_text("utf-8")) if path.is_file() else None
  except (OSError, ValueError, RecursionError):
    return False
  return isinstance(found, dict) and {
      "kind", "dataset", "image_size"} <= {*found}


def _is_folder(entry: os.DirEntry[str]) -> bool:
  """Whether an entry is one, or leads to one; a link to itself does not."""
  try:
    return entry.is_dir()
  except OSError:
    return False


def _class_names(folder: pathlib.Path) -> tuple[str, ...]:
  """Returns the names of the class folders, sorted."""
  names = _folders(folder)
  if len(names) < 2:
    raise errors.InputError(
        f"{folder} has {len(names)} class folders; it must hold at least 2 "
        "folders of images, one per class, directly or in train and test"
        + _instead(folder, names))
  if all(map(_OF_A_PART.fullmatch, names)):
    tables = [path.name for path in sorted(folder.glob("*.csv"))]
    raise errors.InputError(
        f"{folder} holds {errors.several(names)}, the parts of a set and no"
        " classes; put the images into folders of their classes, as"
        " train/CLASS and test/CLASS" + (
            f" (labels in {errors.several(tables)} are not read)" * bool(
                tables)))
  return tuple(names)


def _instead(folder: pathlib.Path, names: Sequence[str]) -> str:
  """What to say of a folder without classes that holds something else."""
  if (folder / "data_batch_1").exists():
    return "; of CIFAR's batches name cifar10, and this folder by data_dir"
  if (folder / "data_batch_1.bin").exists() or (folder / "train.bin").exists():
    return ("; of CIFAR's versions the binary one is not read, and the one for"
            " Python is")
  if count := len(_images(folder)):
    return (f"; {count} images lie in it directly: put those of every class"
            " into a folder of its own")
  for inner in (folder / name for name in names):
    found = _folders(inner)
    if len(found) > 1 and not {"images"} & {*found}:
      return f"; {inner} has {errors.several(found)}: name that folder"
  return ""


def _readable(name: str) -> str:
  """A name in UTF-8 as text, also where the locale knows no such letters."""
  return os.fsencode(name).decode("utf-8", "surrogateescape")


def _labelled(folder: pathlib.Path, names: Sequence[str]) -> Files:
  """Returns paths and labels, in the order of class and file name."""
  return [(path, label) for label, name in enumerate(names)
          for path in image_files(folder / name)]


def image_files(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the images of one class, or of its folder `images`, by name."""
  for inner in (folder, folder / "images"):
    if files := _images(inner):
      return files
  return []


def _images(folder: pathlib.Path) -> list[pathlib.Path]:
  """Returns the images that lie directly in a folder, by name."""
  return sorted(folder / name for name in _image_names(folder))


def _image_names(folder: pathlib.Path,
                 suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[str]:
  """Yields the names of the images that lie directly in a folder."""
  if folder.is_dir():
    with os.scandir(folder) as entries:
      for entry in entries:
        if pathlib.PurePath(entry.name).suffix.lower() in suffixes and (
            entry.name[0] != "." and not _is_folder(entry)):
          yield entry.name


def _holds_images(folder: pathlib.Path) -> bool:
  """Whether an image lies directly in a folder, by the first that does."""
  return next(_image_names(folder), None) is not None


def read_image(path: pathlib.Path, image_size: int | None = None,
               resize: str = "stretch") -> np.ndarray:
  """Reads an image file as u8[H, W, 3], without its transparency.

  Args:
    path: of the file.
    image_size: H and W to which an image of another size is brought, to the
      bit as `read` does; None leaves it.
    resize: how; see `crops.resize_image`.

  Raises:
    InputError: not there, not an image, damaged, or not of 8 bits per channel.
  """
  with _opened(path) as image:
    return _pixels(image, image_size, resize)


def decode(source: BinaryIO, where: str, image_size: int | None = None,
           resize: str = "stretch") -> np.ndarray:
  """Decodes an image of an open file as `read_image` does.

  Args:
    source: the file.
    where: what the error calls it.
    image_size: as of `read_image`.
    resize: likewise.

  Raises:
    InputError: not an image, damaged, or not of 8 bits per channel.
  """
  with _opened(source, where) as image:
    return _pixels(image, image_size, resize)


def _pixels(image, image_size, resize):
  if image_size is None or image.size == (image_size, image_size):
    return np.asarray(crops.whole_rgb(image))
  return crops.view(image, image_size, resize)


@contextlib.contextmanager
def _opened(source: pathlib.Path | BinaryIO, where: str | None = None):
  """An image, and refusals that name where it lies."""
  where = str(source) if where is None else where
  try:
    with Image.open(errors.regular(source) if isinstance(
        source, pathlib.Path) else source) as image:
      try:
        yield image
      except errors.InputError as e:
        raise errors.InputError(f"{where} {e}") from e
  except errors.InputError:
    raise
  except crops.UNREADABLE as error:
    raise errors.InputError(f"{where}{crops.why(error)}") from error
