"""Image classification sets as host arrays, and how they are divided.

A `Dataset` is what every source in `natjax.data.sources` makes and what
training reads: square RGB images of one size, as they are on disk (u8), with
the numbers that normalise them. Nothing here touches a device.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
import dataclasses
import math
import numbers
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import crops, streamed

_MOST_PIXELS = 2**15  # Along each side.
_CHUNK = 2**20  # Pixels per histogram, which takes 8 bytes of each.
_HELD_OUT = 0.2  # Of every class, where a set is not divided.
_NORMALIZATIONS = {"imagenet": "0.485,0.456,0.406/0.229,0.224,0.225",
                   "unit": "0,0,0/1,1,1"}
_SAMPLE = 4096  # Images on disk by which mean and deviation are measured.

Images = np.ndarray | streamed.Streamed  # u8[N, H, W, 3]


class Augmentation(NamedTuple):
  """How training images of a set may be varied without changing their class.

  Attributes:
    crop_padding: pixels of black on every side before a random crop.
    flip: whether images are mirrored, left to right, half of the time.
    cutout: side in pixels of the square that is erased; 0 erases nothing.
    scale: least and greatest share of the image's area that a random crop
      covers, which is brought back to the image's size; None crops none.
    ratio: least and greatest width of such a crop over its height.
    jitter: strengths of random changes of brightness, contrast, saturation and
      hue (`views.Views`); None changes none.
    lighting: standard deviation of random light along the principal components
      of ImageNet's colours (Krizhevsky et al., 2012, section 4.1); None is
      without.
  """

  crop_padding: int = 0
  flip: bool = False
  cutout: int = 0
  scale: tuple[float, float] | None = None
  ratio: tuple[float, float] | None = None
  jitter: tuple[float, float, float, float] | None = None
  lighting: float | None = None

  @property
  def crop(self) -> crops.Crop | None:
    """The random resized crop."""
    return None if self.scale is None else crops.Crop(
        self.scale, self.ratio or (3 / 4, 4 / 3))

  @property
  def on_device(self) -> "Augmentation":
    """What is left where images are cropped as they are decoded."""
    return self._replace(scale=None, ratio=None)


NO_AUGMENTATION = Augmentation()


class RawImages(NamedTuple):
  """What a reader finds: `make_dataset` checks it and brings it to one form.

  Attributes:
    train: images and labels.
    test: images and labels; None where the source has none.
    class_names: None where the source does not name its classes.
    notes: what a user should know of how it was read.
    divided: whether the test images were held out while reading.
  """

  train: tuple[Images, np.ndarray]
  test: tuple[Images, np.ndarray] | None
  class_names: tuple[str, ...] | None = None
  notes: tuple[str, ...] = ()
  divided: bool = False


class Source(NamedTuple):
  """Where a set was loaded from: what `sources.load` takes, paths in full."""

  name: str
  data_dir: str | None = None
  resize: str = "stretch"
  renumber_labels: bool = False
  test_fraction: float | None = None
  stream: bool = False
  skip_damaged: bool = False
  train_fraction: float | None = None
  normalize: str | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
  """A checked image classification set on the host.

  Attributes:
    name: how reports name it.
    train_images: u8[N, H, W, 3], with H = W; an array, or images that stay on
      disk (`streamed.Streamed`).
    train_labels: i32[N], in [0, num_classes).
    test_images: u8[M, H, W, 3].
    test_labels: i32[M].
    num_classes: number of classes, at least 2.
    class_names: one name per class.
    mean: of each channel over the training images, in units of [0, 1].
    std: standard deviation of each channel, in units of [0, 1].
    augmentation: what suits the images; a training run may override it.
    source: where it was loaded from; None of arrays.
    notes: what a user should know of how it was read, a line each.
    resize: how images that are not square were brought to its size.
  """

  name: str
  train_images: Images
  train_labels: np.ndarray
  test_images: Images
  test_labels: np.ndarray
  num_classes: int
  class_names: tuple[str, ...]
  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  augmentation: Augmentation
  source: Source | None = None
  notes: tuple[str, ...] = ()
  resize: str = "stretch"

  def __repr__(self) -> str:
    return (f"<Dataset: {self.name}, {len(self.train_labels)} training and"
            f" {len(self.test_labels)} test images of {self.num_classes}"
            f" classes, {self.image_size} pixels>")

  @property
  def image_size(self) -> int:
    """Height and width in pixels."""
    return self.train_images.shape[1]

  @property
  def streamed(self) -> bool:
    """Whether images stay on disk."""
    return isinstance(self.train_images, streamed.Streamed)


def make_dataset(name: str, train: tuple[Images, np.ndarray],
                 test: tuple[Images, np.ndarray], *,
                 class_names: Sequence[str] | None = None, image_size: int = 32,
                 augmentation: Augmentation = NO_AUGMENTATION,
                 mean: Sequence[float] | None = None,
                 std: Sequence[float] | None = None, resize: str = "stretch",
                 renumber_labels: bool = False) -> Dataset:
  """Makes a `Dataset` of arrays, after checking them.

  Images are u8[N, H, W, 3], or grey, which becomes three equal channels:
  u8[N, H, W, 1], u8[N, H, W], or u8[N, H * H] (square images, flattened).
  Those that stay on disk (`streamed.Streamed`) have their size.

  Args:
    name: how reports name the set.
    train: training images, and their labels: integers [N] or [N, 1].
    test: the same for the test images; their size may differ.
    class_names: names in the order of the labels; None takes "0", "1", ... up
      to the largest label, each of which must then occur.
    image_size: height and width, in pixels, that all images are resized to.
    augmentation: what suits the images.
    mean: of each channel in units of [0, 1]; None computes it from the
      training images, after resizing; of those on disk from up to 4096, evenly
      chosen.
    std: as `mean`; a channel without any variation counts as 1.
    resize: "stretch" images that are not square, or "crop" the largest square
      in the middle.
    renumber_labels: whether labels that do not run from 0 to the last class are
      numbered so, in their order, and said so in `Dataset.notes`; which also
      says so where they keep their numbers, by which `class_names` names them.

  Raises:
    InputError: empty or unequally long arrays, images that are not u8 or of no
      known shape, labels that are not integers in range, fewer than two
      classes, or an impossible image size, augmentation, mean or std.
  """
  check_image_size(image_size)
  check_augmentation(augmentation, image_size)
  errors.known("resize", resize, crops.RESIZES)
  for part, given in (("train", train), ("test", test)):
    if not isinstance(given, tuple | list) or len(given) != 2:
      raise errors.InputError(
          f"{part} is {errors.short(given)} and must be a pair, (images,"
          " labels)", part)
  _check_names(class_names)
  check_switch("renumber_labels", renumber_labels)
  train_images, train_labels = check_part("training", *train)
  test_images, test_labels = check_part("test", *test)
  notes: tuple[str, ...] = ()
  if renumber_labels:
    train_labels, test_labels, class_names, notes = _renumber(
        train_labels, test_labels, class_names)
  if class_names is None:
    class_names = _numbered(train_labels, test_labels)
  for part, labels in (("training", train_labels), ("test", test_labels)):
    if labels.min() < 0 or labels.max() >= len(class_names):
      raise errors.InputError(
          f"{part} labels run from {labels.min()} to {labels.max()}; with "
          f"{len(class_names)} classes they must be in "
          f"0..{len(class_names) - 1}: number the classes from 0, or renumber"
          " the labels", "renumber_labels")
  if unseen := sorted({*test_labels.tolist()} - {*train_labels.tolist()}):
    notes = (*notes, f"no training image is of the classes"
             f" {errors.short(unseen)}, which test images are of")
  if len(class_names) < 2:
    raise errors.InputError(
        f"{len(class_names)} class given; classification needs at least 2")
  if isinstance(train_images, np.ndarray):
    streamed.check_memory(len(train_images) + len(test_images), image_size)
  train_images = resize_all(train_images, image_size, resize)
  test_images = resize_all(test_images, image_size, resize)
  if mean is None or std is None:
    computed_mean, computed_std = moments(train_images)
    mean = computed_mean if mean is None else mean
    std = computed_std if std is None else std
  return Dataset(
      name=name, train_images=_to_rgb(train_images),
      train_labels=train_labels.astype(np.int32),
      test_images=_to_rgb(test_images),
      test_labels=test_labels.astype(np.int32),
      num_classes=len(class_names), class_names=tuple(map(str, class_names)),
      mean=check_channels("mean", mean), std=check_channels("std", std),
      augmentation=augmentation, notes=notes, resize=resize)


def check(found: Dataset) -> None:
  """Refuses a set whose fields do not fit together.

  Those of `make_dataset` do; `dataclasses.replace` asks nobody.

  Raises:
    InputError: as `make_dataset`, or images that are not square, in colour and
      of one size, or another number of names than of classes.
  """
  size = (*np.shape(found.train_images), 0, 0)[1]
  for part, images, labels in (
      ("training", found.train_images, found.train_labels),
      ("test", found.test_images, found.test_labels)):
    check_part(part, images, labels)
    arrays = isinstance(images, np.ndarray | streamed.Streamed) and isinstance(
        labels, np.ndarray)
    if not arrays or labels.ndim != 1 or images.shape[1:] != (size, size, 3):
      raise errors.InputError(
          f"{part} images and labels are {type(images).__name__} of"
          f" {list(np.shape(images))} and {type(labels).__name__} of"
          f" {list(np.shape(labels))}; those of a data set are arrays [N, S, S,"
          " 3] and [N]: make it by natjax.data.make_dataset", "dataset")
    if labels.min() < 0 or labels.max() >= found.num_classes:
      raise errors.InputError(
          f"{part} labels run from {labels.min()} to {labels.max()}; with"
          f" {found.num_classes} classes they must be in"
          f" 0..{found.num_classes - 1}", "dataset")
  if found.num_classes != len(found.class_names):
    raise errors.InputError(
        f"num_classes is {errors.short(found.num_classes)}, and"
        f" {len(found.class_names)} classes are named; give as many", "dataset")
  check_channels("mean", found.mean)
  check_channels("std", found.std)
  check_augmentation(found.augmentation, size)


def check_switch(field: str, value: Any) -> None:
  """Raises InputError unless a value is True or False."""
  if not isinstance(value, bool):
    raise errors.InputError(f"{field} is {errors.short(value)} and must be"
                            " True or False; leave it out", field)


def _check_names(class_names):
  """Refuses names of classes whose order or whose words are not known."""
  if class_names is None:
    return
  advice = ("give a list of texts, one per class, in the order of their"
            " numbers")
  if isinstance(class_names, Mapping | Set):
    raise errors.InputError(
        f"class_names is {errors.short(class_names)}, whose order says nothing;"
        f" {advice}", "class_names")
  listed = isinstance(class_names, Sequence) or getattr(
      class_names, "ndim", None) == 1
  if not listed or isinstance(class_names, str | bytes) or not all(
      isinstance(name, str) or is_integer(name) for name in class_names):
    raise errors.InputError(
        f"class_names is {errors.short(class_names)}; {advice}", "class_names")


def _renumber(train, test, class_names):
  """Labels as 0 to K - 1 in their order, names of the classes, and notes."""
  train, test = map(_whole, (train, test))
  found = np.unique(np.concatenate([train, test]))
  last = len(found if class_names is None else class_names) - 1
  shown = ", ".join(map(str, found[:8])) + ", ..." * (len(found) > 8)
  if found[0] >= 0 and found[-1] <= last:
    return train, test, class_names, () if len(found) > last else (
        f"labels {shown} keep their numbers, since {last + 1} classes are"
        f" named, of which {last + 1 - len(found)} have no images",)
  if last != len(found) - 1:
    raise errors.InputError(
        f"labels are {shown}: {len(found)} different ones, and there are names"
        f" of {last + 1} classes; give as many", "renumber_labels")
  if unseen := np.setdiff1d(test, train)[:8].tolist():
    raise errors.InputError(
        f"test labels hold {', '.join(map(str, unseen))}, which the training"
        " labels have not; a network cannot learn them", "renumber_labels")
  if class_names is None or all(str(name).isdecimal() for name in class_names):
    class_names = [*map(str, found)]
  note = (f"labels {shown} are renumbered 0 to {last}; the classes are named"
          f" {', '.join(map(str, class_names[:8]))}{', ...' * (last > 7)}")
  return (np.searchsorted(found, train), np.searchsorted(found, test),
          class_names, (note,))


def _whole(labels):
  """Labels as i64, which those of two types may be joined in."""
  if labels.size and labels.dtype.kind == "u" and (
      labels.max() > np.iinfo(np.int64).max):
    raise errors.InputError(
        f"labels reach {labels.max()}, and the largest may be 2**63 - 1;"
        " renumber them", "renumber_labels")
  return labels.astype(np.int64)


def _numbered(*parts):
  """Names of classes that have numbers alone, all of which must occur."""
  found = np.unique(np.concatenate([*map(_whole, parts)]))
  kept = found[found >= 0]  # Others are refused as such.
  if not kept.size or kept[-1] == len(kept) - 1:
    return [str(label) for label in kept]
  shown = ", ".join(map(str, found[:5])) + ", ..." * (len(found) > 5)
  raise errors.InputError(
      f"labels are {shown}, and those of {len(found)} classes must be 0 to"
      f" {len(found) - 1}, lest there be classes without images: number them"
      " so, or name all classes by class_names, or renumber the labels",
      "renumber_labels")


def split(num_examples: int, fractions: Sequence[float], *, seed: int,
          field: str | None = None) -> tuple[np.ndarray, ...]:
  """Divides example indices at random into parts of the given fractions.

  Part k ends at `round(num_examples * (fractions[0] + ... + fractions[k]))`.
  The same arguments give the same parts with every version of numpy.

  Args:
    num_examples: number of examples.
    fractions: of each part; positive, 1 in sum.
    seed: a non-negative integer.
    field: the setting that says the fractions, for the error.

  Returns:
    One sorted i32 array per fraction; together they hold every index once.

  Raises:
    InputError: a part would be empty, the sum is not 1, or a bad seed.

  Example:
    >>> [part.size for part in split(50000, (0.4, 0.6), seed=0)]
    [20000, 30000]
  """
  if not is_integer(num_examples):
    raise errors.InputError(
        f"num_examples is {errors.short(num_examples)}; give a whole number")
  fractions = _numbers_of("fractions", fractions)
  if not fractions or not all(f > 0 for f in fractions):
    raise errors.InputError(
        f"fractions {tuple(fractions)}: every part needs a fraction above 0")
  if not math.isclose(math.fsum(fractions), 1.0, abs_tol=1e-6):
    raise errors.InputError(
        f"fractions {tuple(fractions)} sum to {math.fsum(fractions):g}; they "
        "must sum to 1, so add a part for the examples to leave out")
  ends = np.rint(num_examples * np.cumsum(fractions)).astype(int)
  sizes = np.diff(ends, prepend=0)
  if sizes.min() < 1:
    raise errors.InputError(
        f"{num_examples} examples in fractions {tuple(fractions)} make parts "
        f"of {sizes.tolist()}; every part needs at least 1 example: give more "
        "examples or a larger fraction", field)
  parts = np.split(_permutation(num_examples, seed), ends[:-1])
  return tuple(np.sort(part).astype(np.int32) for part in parts)


def _numbers_of(what, values):
  """Floats of a list of numbers (InputError)."""
  try:
    found = [*values]
  except TypeError:
    found = [None]
  if not all(isinstance(value, numbers.Real) for value in found):
    raise errors.InputError(f"{what} {errors.short(values)}: give a list of"
                            " numbers, such as (0.8, 0.2)")
  return tuple(map(float, found))


def divide(images: Images, labels: np.ndarray,
           class_names: tuple[str, ...] | None = None,
           fraction: float | None = None) -> RawImages:
  """Makes a test set of a fixed part of every class; see `held_out`.

  Args:
    images: [N, ...].
    labels: integers [N]; both parts keep the order.
    class_names: of the result.
    fraction: of every class; None is a fifth.

  Raises:
    InputError: see `held_out`.
  """
  part = held_out(labels, fraction)
  return RawImages((images[~part], labels[~part]), (images[part], labels[part]),
                   class_names, divided=True)


def mixed(labels: np.ndarray) -> np.ndarray | None:
  """The rows of images that stand class by class, i64[N], in another order.

  As those of a folder do. Batches of them in their order would be of one class,
  and so would the first of them; what normalises by batches, or looks at the
  first images, would know one class. The order is always the same.

  Args:
    labels: integers [N].

  Returns:
    None where images stand mixed already: at most halfway between that and one
    class after the other, by how many have the label of the one before.

  Example:
    >>> sorted(mixed(np.repeat([0, 1], 4)).tolist()), mixed(np.array([0, 1, 0]))
    ([0, 1, 2, 3, 4, 5, 6, 7], None)
  """
  if len(labels) < 2:
    return None
  _, counts = np.unique(labels, return_counts=True)
  chance = np.sum((counts / len(labels))**2)
  if np.mean(labels[1:] == labels[:-1]) <= (1 + chance) / 2 or chance == 1:
    return None
  return _permutation(len(labels), 0)


def held_out(labels: np.ndarray, fraction: float | None = None, *,
             alone: bool = False, names: Sequence[str] | None = None
             ) -> np.ndarray:
  """Which examples are the test set where there is none: bool[N].

  Always the same for the same labels.

  Args:
    labels: integers [N]; of each class a part, rounded, but at least one
      example is held out and one is left.
    fraction: the part, in (0, 1); None is a fifth.
    alone: whether the only example of a class is held out, and not refused.
    names: of the classes; None is their numbers.

  Raises:
    InputError: a class of fewer than two examples, or another fraction.
  """
  fraction = check_fraction(fraction) or _HELD_OUT
  order = _permutation(len(labels), 0)
  order = order[np.argsort(labels[order], kind="stable")]
  held_out = np.zeros(len(labels), bool)
  # Class by class in one go: sets of faces have a hundred thousand.
  found, starts = np.unique(labels[order], return_index=True)
  for label, members in zip(found, np.split(order, starts[1:]), strict=True):
    if members.size < 2 and alone:
      held_out[members] = True
      continue
    if members.size < 2:
      raise errors.InputError(
          f"class {label if names is None else errors.short(names[label])} has"
          " 1 example; at least 2 are needed to hold one out "
          "for the test: add examples or give a test set")
    count = min(max(1, round(fraction * members.size)), members.size - 1)
    held_out[members[:count]] = True
  return held_out


def check_fraction(fraction: float | None, name: str = "test_fraction",
                   most: int | None = None) -> float | None:
  """Returns what may be a part of every class, or None (InputError).

  Args:
    fraction: the part.
    name: of the setting.
    most: 1 where all may be taken, for which None is returned.
  """
  if fraction is None or (isinstance(fraction, numbers.Real) and not isinstance(
      fraction, bool) and fraction == most):
    return None
  if isinstance(fraction, numbers.Real) and 0 < fraction < 1:
    return float(fraction)
  raise errors.InputError(
      f"{name} is {errors.short(fraction)} and must be above 0 and"
      f" {'below' if most is None else 'at most'} 1; give 0.2", name)


def resize_all(images: Any, image_size: int, how: str = "stretch") -> Any:
  """Resizes u8[N, H, W] or u8[N, H, W, C] to `image_size` squares, C 1 or 3.

  Bicubic and antialiased, in Pillow's integer arithmetic: the same bits on
  every machine. About 20 microseconds per small image; images of the right
  size, as those on disk have it, are returned as they are.
  """
  size = (image_size, image_size)
  if images.shape[1:3] == size:
    return images
  if images.shape[3:] == (1,):  # Pillow has no axis for the channel of grey.
    return resize_all(images[..., 0], image_size, how)[..., None]
  resized = np.empty((len(images), *size, *images.shape[3:]), np.uint8)
  for source, target in zip(images, resized, strict=True):
    target[:] = crops.resize_image(Image.fromarray(source), image_size, how)
  return resized


def moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Computes mean and standard deviation of each channel over all pixels.

  Counts pixel values, so that neither memory nor rounding grows with N.

  Args:
    images: u8[N, H, W, 3], or grey u8[N, H, W, 1] or u8[N, H, W]; of those on
      disk up to 4096, evenly chosen.

  Returns:
    Three means and three standard deviations in units of [0, 1]; that of a
    channel without any variation is given as 1.
  """
  channels = images.shape[3] if images.ndim == 4 else 1
  counts = np.zeros((channels, 256))
  chunk = max(1, _CHUNK // (images.shape[1] * images.shape[2]))
  parts: Iterable[np.ndarray]
  if isinstance(images, streamed.Streamed):
    some = images[np.linspace(0, len(images) - 1, _SAMPLE).astype(int)
                  if len(images) > _SAMPLE else slice(None)]
    parts = (batch.images[batch.good] for batch in some.batches(
        np.arange(len(some)), chunk))
  else:
    parts = (images[start:start + chunk]
             for start in range(0, len(images), chunk))
  for part in parts:
    for c, count in enumerate(counts):
      pixels = part.reshape(-1, channels)[:, c]
      count += np.bincount(pixels, minlength=256)
  if not counts.any():
    raise errors.InputError(
        "all images that were looked at are damaged; restore them")
  weights = counts / counts.sum(axis=1, keepdims=True)
  values = np.arange(256) / 255
  mean = weights @ values
  std = np.sqrt(np.sum(weights * (values - mean[:, None]) ** 2, axis=1))
  std = np.where(np.count_nonzero(counts, axis=1) > 1, std, 1.0)
  repeats = 3 // len(counts)
  return tuple(mean.tolist()) * repeats, tuple(std.tolist()) * repeats


def check_image_size(image_size: int) -> None:
  """Raises InputError unless `image_size` is an integer of at least 1."""
  if not is_integer(image_size) or not 1 <= image_size <= _MOST_PIXELS:
    raise errors.InputError(
        f"image_size {errors.short(image_size)}: give the height and width in "
        f"pixels as an integer of at least 1, such as 32 (up to {_MOST_PIXELS})"
        , "image_size")


def check_augmentation(augmentation: Augmentation, image_size: int) -> None:
  """Raises InputError unless `augmentation` suits images of that size."""
  if not isinstance(augmentation, Augmentation):
    raise errors.InputError(
        f"augmentation is {errors.short(augmentation)}; give an Augmentation,"
        " such as data.Augmentation(flip=True)", "augmentation")
  for field in ("crop_padding", "cutout"):
    pixels = getattr(augmentation, field)
    if not is_integer(pixels) or not 0 <= pixels <= image_size:
      raise errors.InputError(
          f"augmentation {field} {pixels!r}: give an integer number of pixels "
          f"from 0 to the image size ({image_size})")
  if not isinstance(augmentation.flip, bool):
    raise errors.InputError(
        f"augmentation flip {augmentation.flip!r}: give True or False")
  if augmentation.crop is not None:
    crops.check(augmentation.crop)
    if augmentation.crop_padding:
      raise errors.InputError(
          f"augmentation crop_padding {augmentation.crop_padding} and scale"
          f" {augmentation.scale}: give one kind of crop")
  elif augmentation.ratio is not None:
    raise errors.InputError(f"augmentation ratio {augmentation.ratio} is of"
                            " random crops; give their scale too")
  jitter = augmentation.jitter or (0.0,) * 4
  if not crops.are_numbers(jitter, 4) or not all(
      0 <= value <= most for value, most in zip(
          jitter, (1, 1, 1, 0.5), strict=True)):
    raise errors.InputError(
        f"augmentation jitter {jitter}: give four numbers from 0 to 1, the last"
        " one, of hues, up to 0.5")
  if not crops.are_numbers([augmentation.lighting or 0], 1) or not (
      0 <= (augmentation.lighting or 0) <= 1):
    raise errors.InputError(
        f"augmentation lighting {augmentation.lighting}: give a number from 0"
        " to 1, such as 0.1")


def is_integer(value: object) -> bool:
  """Whether `value` is an integer, of Python or numpy, and no bool."""
  return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_part(part: str, images: Any,
               labels: Any) -> tuple[Images, np.ndarray]:
  """Checks the images and the labels of a part of a set, "training" or "test".

  Returns:
    u8[N, H, W] or [N, H, W, C], C 1 or 3, and integer labels [N].

  Raises:
    InputError: as `make_dataset`.
  """
  labels = _array(f"{part} labels", labels)
  if not isinstance(images, streamed.Streamed):
    images = _array(f"{part} images", images)
  if labels.ndim == 2 and labels.shape[1] == 1:  # As Keras stores CIFAR.
    labels = labels[:, 0]
  if labels.ndim != 1 or labels.dtype.kind not in "iu":
    how = ""
    if labels.ndim == 2:
      how = " (where they are one-hot: labels.argmax(1))"
    elif labels.dtype.kind == "f":
      how = " (whole numbers: labels.astype(int))"
    raise errors.InputError(
        f"{part} labels are {labels.dtype}{list(labels.shape)}; give integers "
        f"of shape [N], one class number per image{how}")
  given = f"{part} images are {images.dtype}{list(images.shape)}"
  if images.dtype != np.uint8:
    how = ("from 0 to 255: images.astype(numpy.uint8)"
           if images.dtype.kind in "iu" else
           "floats from 0 to 1: multiply by 255, round, and convert")
    raise errors.InputError(f"{given}; give uint8 from 0 to 255 ({how})")
  if isinstance(images, np.ndarray) and images.ndim == 2:
    side = math.isqrt(images.shape[1])
    if side**2 == images.shape[1]:
      images = images.reshape(len(images), side, side)
  known = images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))
  if not known or 0 in images.shape[1:]:
    raise errors.InputError(
        f"{given}; give [N, H, W, 3], or grey [N, H, W, 1], [N, H, W] or "
        "[N, H * H]: move the channels to the end, drop an alpha channel")
  if len(images) != len(labels) or not len(images):
    raise errors.InputError(
        f"{part} set has {len(images)} images and {len(labels)} labels; give "
        "one label per image, and at least one image")
  return images, labels


def _array(what, values):
  """An array of what should be one (InputError)."""
  if np.ma.is_masked(values):
    raise errors.InputError(f"{what} are masked in part; leave those out")
  try:
    return np.asarray(values)
  except ValueError as e:  # Of unlike shapes.
    raise errors.InputError(f"{what} are of unlike shapes; give them as an"
                            " array") from e


def check_channels(field: str,
                   values: Sequence[float]) -> tuple[float, float, float]:
  """Returns three floats in units of [0, 1], of a std above 0."""
  try:
    given = tuple(float(v) for v in values)
  except (TypeError, ValueError):
    given = ()
  # NaN fails the comparison. A std is at most 1, the one for no variation.
  inside = all(0 <= v <= 1 for v in given) and (field != "std" or all(given))
  if len(given) != 3 or not inside:
    raise errors.InputError(
        f"{field} {given or errors.short(values)}: give three numbers, one per"
        " channel, "
        f"{'above' if field == 'std' else 'from'} 0 and up to 1 (of pixels in "
        "[0, 1]: divide by 255)")
  return given


def normalization(name: str | None) -> tuple[Any, Any]:
  """Mean and standard deviation of each channel, in units of [0, 1], by a name.

  Args:
    name: "imagenet", those of ImageNet's images, as networks of torchvision and
      timm have them; "unit", means of 0 and deviations of 1: pixels in [0, 1];
      or numbers, as "0.5,0.5,0.5/0.25,0.25,0.25"; None is neither.

  Raises:
    InputError: another name, or numbers that no channels have.

  Example:
    >>> normalization("0.5,0.5,0.5/1,1,1")
    ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))
  """
  if name is None:
    return None, None
  parts = _NORMALIZATIONS.get(name, name).split("/") if (
      isinstance(name, str)) else []
  try:
    mean, std = ([float(v) for v in part.split(",")] for part in parts)
    return check_channels("mean", mean), check_channels("std", std)
  except errors.InputError as e:
    raise errors.InputError(f"normalize is {errors.short(name)}: {e}",
                            "normalize") from e
  except ValueError as e:
    raise errors.InputError(
        f"normalize is {errors.short(name)} and must be"
        f" {', '.join(_NORMALIZATIONS)}, or three means and three deviations,"
        " such as 0.5,0.5,0.5/0.25,0.25,0.25", "normalize") from e


def _permutation(size: int, seed: int) -> np.ndarray:
  """Returns the integers below `size` in an order drawn from the seed."""
  if not is_integer(seed) or seed < 0:
    raise errors.InputError(f"seed {seed!r}: give an integer of at least 0")
  # numpy promises the raw bits of PCG64 across versions, but not the stream
  # of Generator.permutation, and a resumed run must meet the same split.
  return np.argsort(np.random.PCG64(seed).random_raw(size), kind="stable")


def _to_rgb(images: Images) -> Images:
  """Returns u8[N, H, W, 3], grey images with three equal channels."""
  if isinstance(images, streamed.Streamed):
    return images
  images = images.reshape(*images.shape[:3], -1)
  return images if images.shape[3] == 3 else np.repeat(images, 3, axis=3)
