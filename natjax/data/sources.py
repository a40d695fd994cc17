"""Loads an image classification set by its name or from a path.

What a set's images allow is a property of the set, kept here: all are cropped
at random after padding an eighth of their size (4 pixels of 32); they are
mirrored only where the table says so. Digits, letters and house numbers are
not, and neither are files, folders and other sets, of which nothing is known:
replace `Dataset.augmentation` to mirror them. Record files hold faces that were
aligned, which are mirrored and not cropped. Cutout belongs to a training run
and is off. With resize "imagenet" all sets are varied as the papers vary
ImageNet.
"""

from collections.abc import Callable
import dataclasses
import importlib.util
import os
import pathlib
from typing import Any, NamedTuple

import numpy as np

from natjax import errors
from natjax.data import (
  array_file,
  cifar_batches,
  crops,
  dataset,
  image_folder,
  record_file,
  streamed,
  tfds_folder,
  tiny_imagenet,
)


class _Source(NamedTuple):
  """What is known of a set: see `dataset.Dataset` for the fields."""

  description: str
  flip: bool = False
  mean: tuple[float, float, float] | None = None
  std: tuple[float, float, float] | None = None
  class_names: tuple[str, ...] | None = None
  num_classes: int | None = None

  @property
  def classes(self) -> tuple[str, ...] | None:
    """Names of all classes, or their numbers; None where neither is known."""
    if self.class_names is None and self.num_classes is not None:
      return tuple(map(str, range(self.num_classes)))
    return self.class_names


# The means and deviations are those that the papers on these sets share.
_SOURCES = {
    "digits": _Source(
        "1,797 handwritten digits, 8x8 grey, 10 classes; comes with "
        "scikit-learn", num_classes=10),
    "cifar10": _Source(
        "60,000 photographs, 32x32, 10 classes", flip=True,
        mean=(0.49139968, 0.48215827, 0.44653124),
        std=(0.24703233, 0.24348505, 0.26158768),
        class_names=("airplane", "automobile", "bird", "cat", "deer", "dog",
                     "frog", "horse", "ship", "truck")),
    "cifar100": _Source(
        "60,000 photographs, 32x32, 100 classes", flip=True,
        mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762),
        num_classes=100),
    "fashion_mnist": _Source(
        "70,000 pictures of clothes, 28x28 grey, 10 classes", flip=True,
        class_names=("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                     "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")),
    "svhn_cropped": _Source(
        "99,289 photographs of house numbers, 32x32, 10 classes",
        mean=(0.4377, 0.4438, 0.4728), std=(0.1980, 0.2010, 0.1970),
        num_classes=10),
    "mnist": _Source(
        "70,000 handwritten digits, 28x28 grey, 10 classes", num_classes=10),
    "kmnist": _Source(
        "70,000 cursive Japanese characters, 28x28, 10 classes",
        num_classes=10),
    "emnist": _Source("handwritten letters and digits, 28x28 grey"),
    "caltech101": _Source(
        "9,144 photographs, 102 classes", flip=True, num_classes=102),
    "cars196": _Source(
        "16,185 photographs of cars, 196 classes", flip=True, num_classes=196),
    "food101": _Source(
        "101,000 photographs of food, 101 classes", flip=True, num_classes=101),
    "imagenet2012": _Source(
        "1,331,167 photographs, 1,000 classes; give --resize imagenet",
        flip=True, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225),
        num_classes=1000),
    "imagenet_resized": _Source(
        "1,331,167 photographs, 8x8 to 64x64, 1,000 classes", flip=True,
        num_classes=1000),
    "imagenette": _Source(
        "13,394 photographs, 10 classes", flip=True, num_classes=10),
    "oxford_flowers102": _Source(
        "8,189 photographs of flowers, 102 classes", flip=True,
        num_classes=102),
    "oxford_iiit_pet": _Source(
        "7,349 photographs of cats and dogs, 37 classes", flip=True,
        num_classes=37),
    "stanford_dogs": _Source(
        "20,580 photographs of dogs, 120 classes", flip=True, num_classes=120),
    "stl10": _Source(
        "13,000 photographs, 96x96, 10 classes", flip=True, num_classes=10),
    tiny_imagenet.NAME: _Source(
        "110,000 photographs, 64x64, 200 classes", flip=True, num_classes=200),
}


# Numbers of training and of test images, where both are known; of ImageNet and
# Tiny-ImageNet the latter are those of validation.
_COUNTS = {
    "cifar10": (50_000, 10_000), "cifar100": (50_000, 10_000),
    "fashion_mnist": (60_000, 10_000), "mnist": (60_000, 10_000),
    "kmnist": (60_000, 10_000), "svhn_cropped": (73_257, 26_032),
    "imagenet2012": (1_281_167, 50_000),
    "imagenet_resized": (1_281_167, 50_000), "stl10": (5_000, 8_000),
    tiny_imagenet.NAME: (100_000, 10_000)}
_MOST_WORKERS = 256
# Of resize "imagenet": what DARTS and those who follow it train ImageNet by.
_PHOTOGRAPHS = dataset.Augmentation(
    flip=True, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3),
    jitter=(0.4, 0.4, 0.4, 0.2))

# What files of other kinds are told, by their endings.
_UNREAD = {
    (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z"):
        "; unpack this one",
    (".npy", ".mat", ".pkl", ".pickle", ".h5", ".hdf5", ".pt", ".csv"):
        "; write its arrays by numpy.savez, as images and labels"}
#: Data sets of other packages by name, `(data_dir, image_size) -> Dataset`.
LOADERS: dict[str, Callable[[Any, int], dataset.Dataset]] = {}


def names() -> dict[str, str]:
  """Returns the sets known by name, each with one line about it.

  All but `digits` must lie on disk: see `load`, which also takes paths and the
  names of other sets that tensorflow-datasets prepared.
  """
  known = {name: source.description for name, source in _SOURCES.items()}
  return known | {name: (loader.__doc__ or "of another package").split("\n")[0]
                  for name, loader in LOADERS.items()}


def load(name: str | os.PathLike[str], *,
         data_dir: str | os.PathLike[str] | None = None,
         image_size: int = 32, resize: str = "stretch",
         renumber_labels: bool = False,
         test_fraction: float | None = None, stream: bool | None = None,
         workers: int = 0, skip_damaged: bool = False,
         train_fraction: float | None = None,
         normalize: str | None = None) -> dataset.Dataset:
  """Loads an image classification set; never downloads, never unpickles code.

  `name` is one of:
    `digits`: embedded in scikit-learn, so that everything can be tried at
      once; a fixed fifth of every class is the test set.
    a path that ends in `.npz`: see `array_file`.
    a path to MXNet's record file, or to a folder with `train.rec`: see
      `record_file`.
    a path to a folder of images, one folder per class: see `image_folder`.
      Write `./flowers` for a folder that has the name of a known set.
    a name in `LOADERS`, which other packages add.
    any other name: in `data_dir`, the first found of `NAME.npz`; for `cifar10`
      and `cifar100` their authors' python batches (see `cifar_batches`); for
      `tiny_imagenet` its authors' folder (see `tiny_imagenet`); a set prepared
      by tensorflow-datasets (see `tfds_folder`).

  Args:
    name: what to load.
    data_dir: the folder to look in, or itself an .npz file; None looks only
      for prepared sets, where tensorflow-datasets puts them.
    image_size: height and width in pixels that all images are resized to.
    resize: how images that are not square are brought there: "stretch";
      "crop", which takes the largest square in the middle; or "imagenet", as
      papers on ImageNet do, of images that are streamed: training images by
      random crops and changes of colour, test images as `crops.resize_image`
      says.
    renumber_labels: whether labels that do not run from 0 to the last class
      are numbered so, which `Dataset.notes` then says; those keep their numbers
      by which the set names its classes.
    test_fraction: what part of every class becomes the test set, of a set that
      has none (a folder, an .npz file, a prepared set of one split, digits);
      None is a fifth of folders and digits.
    stream: whether images stay on disk and are decoded as they are needed, of
      folders of images, record files, prepared sets and `tiny_imagenet`; needs
      grain. None does so where they would take more than half of this machine's
      memory, and where they are cropped at random ("imagenet").
    workers: processes that decode what is streamed; 0 is threads. A script
      that starts some must do so under `if __name__ == "__main__"`.
    skip_damaged: whether images are streamed, and those that do not decode left
      out: another of the batch stands in for one in training, and no accuracy
      counts it.
    train_fraction: the part of every class to train on, always the same, of
      which at least one image is left; None or 1 is all.
    normalize: by which mean and deviation of each channel: "imagenet", "unit"
      (pixels in [0, 1]), or numbers (`dataset.normalization`), such as weights
      of another library were trained with; None is those that are known of the
      set, or else of the training images.

  Raises:
    InputError: nothing of that name or path, or not readable as such; a
      `test_fraction` of a set that has test images, or none of one that has
      none; arrays to be streamed.
  """
  if name != "":  # Which is refused with the names that there are.
    errors.path(name, "dataset")
  name = os.fspath(name)
  source, streaming = _asked(
      name, data_dir=data_dir, image_size=image_size, resize=resize,
      renumber_labels=renumber_labels, test_fraction=test_fraction,
      stream=stream, workers=workers, skip_damaged=skip_damaged,
      train_fraction=train_fraction, normalize=normalize)
  try:
    found = _load(name, data_dir, image_size, source, streaming)
  except PermissionError as e:
    raise errors.InputError(
        f"{e.filename}: {e.strerror}; let yourself read the data set",
        "dataset") from e
  return _told(found, source, streaming, found.streamed)


def absent(name: str, *, image_size: int = 32, resize: str = "stretch",
           **options: Any) -> dataset.Dataset:
  """What is known of a set without its images: as `load` with its arguments.

  It tells sizes, and has no pixels: whoever reads some is refused.

  Args:
    name: of a set that `load` knows by it.
    image_size: see `load`.
    resize: see `load`.
    **options: see `load`.

  Raises:
    InputError: a set of which too little is known; and as `load`.

  Example:
    >>> len(absent("imagenet2012", image_size=224).train_labels)
    1281167
  """
  source, streaming = _asked(
      name, image_size=image_size, resize=resize, **options)
  known, counts = _SOURCES.get(_base(name)), _COUNTS.get(_base(name))
  if known is None or known.classes is None or counts is None:
    raise errors.InputError(
        f"{name} is not there, and how many images it has is not known without"
        f" it; name one of {', '.join(_COUNTS)}", "dataset")
  _check_test_set(name, source)
  parts = [np.arange(count) % len(known.classes) for count in counts]
  if fraction := source.train_fraction:
    parts[0] = parts[0][dataset.held_out(parts[0], fraction, alone=True)]
  mean, std = dataset.normalization(source.normalize)
  augmentation = _PHOTOGRAPHS if resize == "imagenet" else (
      dataset.Augmentation(image_size // 8, flip=known.flip))
  train, test = ((streamed.Absent(
      name, len(labels), image_size, streaming.reading), labels)
                 for labels in parts)
  return _told(dataclasses.replace(dataset.make_dataset(
      name, train, test, class_names=known.classes, image_size=image_size,
      augmentation=augmentation, resize=resize,
      # Of those that are not known, which stand here for nothing.
      mean=mean or known.mean or (0.5,) * 3,
      std=std or known.std or (0.5,) * 3), notes=(
          f"not there, and taken for {counts[0]} training and"
          f" {counts[1]} test images of {len(known.classes)} classes",)),
               source, streaming, streaming.wanted(
                   sum(counts), image_size, resize))


def _asked(name: str, *, data_dir=None, image_size=32, resize="stretch",
           renumber_labels=False, test_fraction=None, stream=None, workers=0,
           skip_damaged=False, train_fraction=None, normalize=None
           ) -> tuple[dataset.Source, streamed.Streaming]:
  """What is asked of a set, as `load` takes it, checked."""
  if data_dir is not None:
    errors.path(data_dir, "data_dir")
  dataset.check_image_size(image_size)
  if not name:
    raise errors.InputError(f"empty name; give one of {', '.join(_SOURCES)}")
  source = dataset.Source(
      str(_full(name)) if _is_path(name) else name,
      None if data_dir is None else str(_full(data_dir)), resize,
      renumber_labels, dataset.check_fraction(test_fraction),
      train_fraction=dataset.check_fraction(
          train_fraction, "train_fraction", most=1),
      normalize=normalize)
  dataset.normalization(normalize)  # Before anything is read.
  errors.known("resize", resize, crops.RESIZES)
  if not dataset.is_integer(workers) or not 0 <= workers <= _MOST_WORKERS:
    raise errors.InputError(
        f"workers is {errors.short(workers)} and must lie in [0,"
        f" {_MOST_WORKERS}]; give 0 for threads", "workers")
  if stream is not None:
    dataset.check_switch("stream", stream)
  dataset.check_switch("skip_damaged", skip_damaged)
  dataset.check_switch("renumber_labels", renumber_labels)
  if skip_damaged and stream is False:
    raise errors.InputError(
        "skip_damaged is True, and stream is False, but of images that are"
        " streamed alone any are left out; leave one of them out",
        "skip_damaged")
  streaming = streamed.Streaming(
      skip_damaged or stream, streamed.Reading(workers, skip_damaged))
  if resize == "imagenet" and stream is False:
    raise errors.InputError(
        "resize is imagenet, which crops images as they were saved, and stream"
        " is False; leave one of them out", "stream")
  return source, streaming


def _told(found: dataset.Dataset, source: dataset.Source,
          streaming: streamed.Streaming, stays: bool) -> dataset.Dataset:
  """A set that tells where it is from, and whether its images stay on disk.

  Raises:
    InputError: they do not, and what is asked is of those that do.
  """
  for field, value in (("skip_damaged", streaming.reading.skip_damaged),
                       ("stream", streaming.stream),
                       ("workers", streaming.reading.workers)):
    if value and not stays:
      raise errors.InputError(
          f"{field} is {value}, and the images of {found.name} are held in"
          " memory; leave it out, or of a folder of images or a prepared set"
          " give stream", field)
  return dataclasses.replace(found, source=source._replace(
      stream=stays, skip_damaged=streaming.reading.skip_damaged))


def _check_test_set(name, source):
  """Refuses to divide a set that has test images."""
  if source.test_fraction is not None:
    raise errors.InputError(
        f"test_fraction is {source.test_fraction}, and {name} has a test set;"
        " leave it out", "test_fraction")


def _full(path: str | os.PathLike[str]) -> pathlib.Path:
  """A path that holds in every working directory."""
  return pathlib.Path(path).expanduser().resolve()


def _load(name: str, data_dir: str | os.PathLike[str] | None, image_size: int,
          source: dataset.Source,
          streaming: streamed.Streaming) -> dataset.Dataset:
  """Loads a set as its source says, but for where it comes from."""
  if name in LOADERS:
    for field, usual in dataset.Source._field_defaults.items():
      if field != "data_dir" and getattr(source, field) != usual:
        raise errors.InputError(
            f"{field} is {getattr(source, field)} and does not apply to a data"
            " set of another package; leave it out", field)
    return _load_other(name, data_dir, image_size)
  raw = _read(name, data_dir, image_size, source, streaming)
  raw = raw._replace(
      train=dataset.check_part("training", *raw.train),
      test=raw.test and dataset.check_part("test", *raw.test))
  if raw.test is None:
    if source.test_fraction is None and name != "digits":
      why = f" ({'; '.join(raw.notes)})" if raw.notes else ""
      raise errors.InputError(
          f"{name} has no test set{why}; give a test_fraction, such as 0.2, of"
          " every class to hold out", "test_fraction")
    raw = dataset.divide(
        *raw.train, raw.class_names, source.test_fraction
    )._replace(notes=raw.notes)
  elif not raw.divided:
    _check_test_set(name, source)
  assert raw.test is not None
  train = raw.train
  if source.resize == "imagenet" and isinstance(train[0], np.ndarray):
    raise errors.InputError(
        "resize is imagenet, which crops images as they were saved, and those"
        f" of {name} are arrays; give crop, or a folder of images", "resize")
  if source.train_fraction is not None:
    kept = dataset.held_out(
        train[1], source.train_fraction, alone=True)
    train = train[0][kept], train[1][kept]
  known = _Source("")
  augmentation = dataset.Augmentation(image_size // 8)
  if _is_path(name):
    path = _full(name)
    if record_file.find(path):
      augmentation = dataset.Augmentation(0, flip=True)
    name = path.stem if path.suffix.lower() in (
        ".npz", record_file.SUFFIX) else path.name
  else:
    known = _SOURCES.get(_base(name), known)
    augmentation = augmentation._replace(flip=known.flip)
  mean, std = dataset.normalization(source.normalize)
  found = dataset.make_dataset(
      name, train, raw.test,
      class_names=raw.class_names or known.classes, image_size=image_size,
      augmentation=_PHOTOGRAPHS if source.resize == "imagenet" else (
          augmentation), mean=mean or known.mean, std=std or known.std,
      resize=source.resize, renumber_labels=source.renumber_labels)
  return dataclasses.replace(found, notes=(*raw.notes, *found.notes))


def _load_other(name: str, data_dir: str | os.PathLike[str] | None,
                image_size: int) -> dataset.Dataset:
  """Loads a set of another package, of which nothing is taken on trust."""
  advice = "mend its package, or what it reads"
  try:
    found = LOADERS[name](data_dir, image_size)
  except errors.InputError:
    raise
  except (Exception, SystemExit) as e:  # Whatever a package does.
    raise errors.InputError(f"the loader of data set '{name}' failed"
                            f" ({errors.cause(e)}); {advice}") from e
  if not isinstance(found, dataset.Dataset):
    raise errors.InputError(
        f"the loader of data set '{name}' gave a {type(found).__name__} and"
        f" must give a Dataset; {advice}")
  try:
    checked = dataset.make_dataset(
        name, (found.train_images, found.train_labels),
        (found.test_images, found.test_labels), mean=found.mean, std=found.std,
        class_names=found.class_names, image_size=found.image_size,
        augmentation=found.augmentation, resize=found.resize)
    if (checked.image_size, checked.num_classes) != (
        image_size, found.num_classes):
      raise ValueError(f"{checked.image_size} pixels, {found.num_classes}"
                       f" classes and {checked.num_classes} names, and must be"
                       f" of {image_size} pixels and a name per class")
  except (AttributeError, IndexError, TypeError, ValueError) as e:
    raise errors.InputError(f"the loader of data set '{name}' gave a wrong"
                            f" Dataset ({errors.cause(e)}); {advice}") from e
  return dataclasses.replace(checked, notes=tuple(dict.fromkeys(
      (*found.notes, *checked.notes))))


def _read_digits():
  """Scikit-learn's, whose file is read without it: importing takes a second."""
  spec = importlib.util.find_spec("sklearn")
  for folder in spec.submodule_search_locations or () if spec else ():
    file = pathlib.Path(folder, "datasets", "data", "digits.csv.gz")
    if file.is_file():
      rows = np.loadtxt(file, delimiter=",")
      values, labels = rows[:, :-1], rows[:, -1].astype(int)
      break
  else:  # It lies elsewhere, or there is none.
    from sklearn import datasets
    values, labels = datasets.load_digits(return_X_y=True)
  pixels = np.rint(values.reshape(-1, 8, 8) * (255 / 16))  # Of 0..16.
  return dataset.RawImages((pixels.astype(np.uint8), labels), None)


def _read(name: str, data_dir: str | os.PathLike[str] | None, image_size: int,
          source: dataset.Source,
          streaming: streamed.Streaming) -> dataset.RawImages:
  """Reads a set from wherever `name` and `data_dir` say it lies."""
  is_path = _is_path(name)
  if (name == "digits" or is_path) and data_dir is not None:
    reason = "is a path" if is_path else "comes with scikit-learn"
    raise errors.InputError(f"data_dir {os.fspath(data_dir)} given with {name},"
                            f" which {reason}; leave data_dir out")
  if name == "digits":
    return _read_digits()
  if not is_path and data_dir is None:
    return _read_prepared(name, tfds_folder.default_data_dir(), image_size,
                          source.resize, streaming)
  folder = pathlib.Path(name if data_dir is None else data_dir).expanduser()
  if folder.suffix.lower() == ".npz":
    return array_file.read(folder)
  if is_path and (records := record_file.find(folder)):
    return record_file.read(records, image_size, source.resize, streaming)
  if is_path and not folder.is_dir():
    problem = "is no .npz file" if folder.exists() else "no such file or folder"
    how = next((how for endings, how in _UNREAD.items() if folder.name.lower(
        ).endswith(endings)), "") if folder.exists() else ""
    raise errors.InputError(
        f"{folder}: {problem}; give an .npz file, a folder of images, or one"
        f" with {record_file.RECORDS}{how}")
  if is_path:
    if prepared := tfds_folder.names_of(folder.resolve()):
      own, where = prepared
      raise errors.InputError(
          f"{folder} is a set that tensorflow-datasets prepared; give its name,"
          f" {own}, and {where} as data_dir", "dataset")
    return image_folder.read(
        folder, image_size, source.resize, source.test_fraction, streaming)
  if not folder.is_dir():
    raise errors.InputError(f"data_dir {folder}: no such folder; give the"
                            f" folder that holds {name}, or an .npz file")
  if (folder / f"{name}.npz").is_file():
    return array_file.read(folder / f"{name}.npz")
  if batches := cifar_batches.find(name, folder):
    return cifar_batches.read(name, batches)
  if unpacked := tiny_imagenet.find(name, folder):
    return tiny_imagenet.read(unpacked, image_size, source.resize, streaming)
  return _read_prepared(name, folder, image_size, source.resize, streaming)


def _is_path(name: str) -> bool:
  """Whether `name` is to be read as a path."""
  if name in LOADERS:
    return False
  if name.lower().endswith(".npz") or name.startswith((".", "~", os.sep)):
    return True
  return name not in _SOURCES and pathlib.Path(name).exists()


def _read_prepared(name: str, data_dir: pathlib.Path, image_size: int,
                   resize: str,
                   streaming: streamed.Streaming) -> dataset.RawImages:
  """Reads a set that tensorflow-datasets prepared in `data_dir`."""
  if folder := tfds_folder.find(name, data_dir):
    return tfds_folder.read(folder, image_size, resize, streaming)
  if name == tiny_imagenet.NAME:  # No set of tensorflow-datasets.
    raise errors.NotThere(
        f"{name} not found in {data_dir}; {tiny_imagenet.HOW_TO_GET}",
        "data_dir")
  own = tfds_folder.names_of(data_dir.resolve())
  if _base(name) in _SOURCES and not (own and _base(own[0]) == _base(name)):
    batches = " or its python batches" if name.startswith("cifar") else ""
    raise errors.NotThere(
        f"{name} not found in {data_dir}; put {name}.npz "
        f"({', '.join(array_file.KEYS)}){batches} into a folder and give it as "
        f"data_dir, or {tfds_folder.how_to_prepare(name, data_dir)}")
  if own:
    raise errors.InputError(
        f"data_dir {data_dir} is itself a set that tensorflow-datasets"
        f" prepared; give its name, {own[0]}, and {own[1]} as data_dir",
        "data_dir")
  raise errors.InputError(
      f"unknown data set {name!r}: not a path to an .npz file or to a folder of"
      f" images, not in {data_dir}, and not one of {', '.join(_SOURCES)}")


def _base(name: str) -> str:
  """Returns the name without the configuration and version of TFDS."""
  return name.partition(":")[0].partition("/")[0]
