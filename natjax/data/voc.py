"""Pascal VOC's folders of images and masks, and crops of them.

A folder holds `JPEGImages/NAME.jpg`, `SegmentationClass/NAME.png`, whose pixels
are numbers of classes (images with a palette, or grey ones) or 255, void, and
`ImageSets/Segmentation/SPLIT.txt`, a name per line. Masks for more images, as
those of SBD (Hariharan et al., 2011) that the field calls "trainaug", lie in a
folder of PNG files beside (`SegmentationClassAug`) and are named with it; or
SBD's own `.mat` files are read (`augmented`).

Images and masks are read when they are asked for, by threads, so that host
memory holds a chunk of steps and no more. Crops are made on the device.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
import os
import pathlib
from typing import Any, NamedTuple
import warnings

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from natjax import errors
from natjax.data import augmentation, crops, image_folder, streamed

VOID = 255
#: Of Pascal VOC, in order; class 0 is what no class is.
CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus",
    "car", "cat", "chair", "cow", "diningtable", "dog", "horse", "motorbike",
    "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")
_LISTS = pathlib.Path("ImageSets", "Segmentation")


class Pictures:
  """Images with their masks, as an array that is read from disk when indexed.

  `pictures[rows]` is u8[N, S, S, 4]: red, green, blue and the class, each
  picture in the corner of a square that all fit in, void around it.

  Attributes:
    names: of the pictures.
    sizes: i32[N, 2], height and width of each.
    num_classes: K, below which all classes are that are not void.
    side: S.
  """

  dtype = np.dtype(np.uint8)

  def __init__(self, names: Sequence[str], images: Sequence[pathlib.Path],
               masks: Sequence[pathlib.Path], sizes: np.ndarray,
               num_classes: int):
    self.names, self.sizes = tuple(names), sizes
    self.num_classes = num_classes
    self._images, self._masks = tuple(images), tuple(masks)
    self.side = int(sizes.max())

  def __len__(self) -> int:
    return len(self.names)

  @property
  def shape(self) -> tuple[int, ...]:
    """[N, S, S, 4], as an array has it."""
    return len(self), self.side, self.side, 4

  @property
  def nbytes(self) -> int:
    """Bytes of all pictures, as an array has it."""
    return int(np.prod(self.shape, dtype=np.int64))

  def __getitem__(self, rows: Any) -> np.ndarray:
    chosen = streamed.chosen(np.arange(len(self)), rows)
    if chosen.ndim == 0:
      return self[[int(chosen)]][0]
    found = np.zeros((len(chosen), *self.shape[1:]), np.uint8)
    found[..., 3] = VOID

    def read(place):
      i, row = place
      height, width = self.sizes[row]
      found[i, :height, :width, :3] = image_folder.read_image(self._images[row])
      found[i, :height, :width, 3] = read_mask(self._masks[row])

    _in_threads(read, enumerate(chosen))
    return found


def _in_threads(function: Callable[..., Any], items: Any) -> list[Any]:
  with futures.ThreadPoolExecutor(os.cpu_count()) as threads:
    return list(threads.map(function, items))


def read_mask(path: pathlib.Path) -> np.ndarray:
  """Reads a mask as u8[H, W], the numbers of classes.

  Args:
    path: of an image, or of a file of SBD that ends in `.mat`.

  Raises:
    InputError: not there, not an image, or one of colours without a palette;
      a `.mat` that is damaged or no mask of SBD's.
  """
  if path.suffix == ".mat":
    return _read_mat(path)
  try:
    with Image.open(errors.regular(path)) as image:
      if image.mode not in ("P", "L"):
        raise errors.InputError(
            f"{path} is of mode {image.mode}, and a mask has a palette or is"
            " grey, its pixels numbers of classes; save it as such")
      return np.asarray(image)
  except FileNotFoundError as error:
    raise errors.InputError(
        f"there is no mask {path}; put it there, or take its image out of the"
        " list") from error
  except errors.InputError:
    raise
  except crops.UNREADABLE as error:
    raise errors.InputError(f"{path}{crops.why(error)}") from error


def _read_mat(path):
  """The field "Segmentation" of SBD's "GTcls"."""
  from scipy import io  # Takes a while, and few need it.
  try:
    with warnings.catch_warnings(), errors.regular(path).open("rb") as file:
      warnings.simplefilter("ignore")  # Of variables that stand there twice.
      found = io.loadmat(file, variable_names=["GTcls"])
    classes = np.asarray(found["GTcls"]["Segmentation"].item())
  except FileNotFoundError as error:
    raise errors.InputError(
        f"there is no mask {path}; put it there, or take its image out of the"
        " list") from error
  except Exception as error:  # Of many types.
    raise errors.InputError(
        f"{path} cannot be read as a mask of SBD, GTcls.Segmentation in"
        " MATLAB's format 5; get it again") from error
  if classes.ndim != 2 or classes.dtype != np.uint8:
    raise errors.InputError(
        f"{path} holds {classes.dtype}{[*classes.shape]} as GTcls.Segmentation,"
        " and a mask is uint8[height, width]; get it again")
  return classes


def augmented(folder: str | os.PathLike[str], sbd: str | os.PathLike[str], *,
              num_classes: int = len(CLASSES)) -> Pictures:
  """The training pictures and those of SBD, which the field calls "trainaug".

  Those of the list "train", with their own masks, and whatever is in SBD's
  lists "train" and "val" and in neither of the lists "train" and "val" here,
  with SBD's: of Pascal VOC 2012 1464 + 9118 = 10582 pictures. SBD's images are
  among `JPEGImages`.

  Args:
    folder: as `load` takes it.
    sbd: with `cls/NAME.mat`, `train.txt` and `val.txt`, or one that holds it in
      `dataset` or `benchmark_RELEASE/dataset`.
    num_classes: K.

  Raises:
    InputError: as `load`, of SBD's folders and files, too.
  """
  root = _root(errors.path(folder, "data_dir"))
  own = _root(errors.path(sbd, "sbd"), ("cls", "SBD", (
      "", "dataset", "benchmark_RELEASE/dataset")), "sbd")
  train, held = (_names(root / _LISTS / f"{s}.txt") for s in ("train", "val"))
  known = {*train, *held}
  more = [name for s in ("train", "val") for name in _names(own / f"{s}.txt")
          if name not in known]
  return _pictures(root, [*train, *dict.fromkeys(more)], [
      *(root / "SegmentationClass" / f"{name}.png" for name in train),
      *(own / "cls" / f"{name}.mat" for name in dict.fromkeys(more))],
                   num_classes)


def load(folder: str | os.PathLike[str], split: str = "train", *,
         masks: str = "SegmentationClass",
         num_classes: int = len(CLASSES)) -> Pictures:
  """Finds the pictures of a split, and looks at every mask.

  Args:
    folder: with `JPEGImages`, or one that holds it in `VOCdevkit/VOC2012` or
      `VOC2012`.
    split: the list's name, "train", "val" or "trainaug" for example.
    masks: the folder of masks.
    num_classes: K.

  Raises:
    InputError: no such folder or list, an empty one, an image or a mask that is
      missing or damaged, a mask of another size than its image, or a class that
      is neither below K nor 255.
  """
  root = _root(errors.path(folder, "data_dir"))
  names = _names(root / _LISTS / f"{split}.txt")
  return _pictures(root, names, [
      root / masks / f"{name}.png" for name in names], num_classes)


def _names(listed):
  """The names that a list has, one a line."""
  try:
    names = [line.split()[0] for line in errors.regular(listed).read_text(
        "utf-8-sig").splitlines() if line.strip()]
  except (OSError, UnicodeDecodeError) as error:
    there = ", ".join(sorted(p.stem for p in listed.parent.glob("*.txt")))
    raise errors.InputError(
        f"there is no list {listed}; " + (
            f"choose one of {there}" if there else "put it there"), "split"
    ) from error
  if not names:
    raise errors.InputError(f"{listed} names no images; list some", "split")
  return names


def _pictures(root, names, files, num_classes):
  """Pictures whose masks are in files."""
  images = [root / "JPEGImages" / f"{name}.jpg" for name in names]
  sizes = _in_threads(lambda pair: _check(pair[0], pair[1], num_classes),
                      zip(images, files, strict=True))
  return Pictures(names, images, files, np.array(sizes, np.int32), num_classes)


_VOC = ("JPEGImages", "Pascal VOC", ("", "VOC2012", "VOCdevkit/VOC2012"))


def _root(folder, of=_VOC, field="data_dir"):
  """Where a folder holds what a set has, or where one in it does."""
  wanted, name, inner = of
  for place in inner:
    if (folder / place / wanted).is_dir():
      return folder / place
  raise errors.InputError(
      f"{folder} holds no folder {wanted}, nor does its {inner[-1]};"
      f" name the folder of {name}", field)


def _check(image, mask, num_classes):
  """Height and width of a picture whose mask fits."""
  try:
    with Image.open(errors.regular(image)) as opened:
      size = opened.size[::-1]
  except errors.InputError:
    raise
  except crops.UNREADABLE as error:
    raise errors.InputError(
        f"{image}{crops.why(error)}, or take it out of the list") from error
  classes = read_mask(mask)
  if classes.shape != size:
    raise errors.InputError(
        f"{mask} has {classes.shape[1]}x{classes.shape[0]} pixels and its image"
        f" {size[1]}x{size[0]}; give it the image's size")
  wrong = classes[(classes >= num_classes) & (classes != VOID)]
  if wrong.size:
    raise errors.InputError(
        f"{mask} holds class {wrong[0]}, and of {num_classes} classes the last"
        f" is {num_classes - 1} ({VOID} is void); mend it, or give the number"
        " of classes", "num_classes")
  return size


def moments(pictures: Pictures, most: int = 256
            ) -> tuple[tuple[float, ...], tuple[float, ...]]:
  """Mean and deviation of each channel, of the first pictures, in [0, 1]."""
  pixels = np.concatenate([
      picture[:height, :width, :3].reshape(-1, 3) for picture, (height, width)
      in zip(pictures[:most], pictures.sizes[:most], strict=True)])
  return (tuple(float(x) for x in pixels.mean(0) / 255),
          tuple(float(x) or 1.0 for x in pixels.std(0) / 255))


def make(folder: str | os.PathLike[str],
         splits: Mapping[str, Sequence[tuple[int, int]]], *, stripes: int = 3,
         seed: int = 0) -> pathlib.Path:
  """Makes a folder of Pascal VOC's form, to try things out; returns it.

  There are three classes, of a colour each. Pictures are upright stripes of
  them, void along the upper border.

  Args:
    folder: what `load` takes.
    splits: by name, height and width of each picture.
    stripes: of each picture.
    seed: of the noise of images.
  """
  rng, folder = np.random.default_rng(seed), pathlib.Path(folder)
  for inner in (_LISTS, "JPEGImages", "SegmentationClass"):
    (folder / inner).mkdir(parents=True, exist_ok=True)
  colors = np.array([[20, 20, 20], [230, 40, 40], [40, 40, 230]])
  for split, sizes in splits.items():
    names = [f"{split}_{i}" for i in range(len(sizes))]
    (folder / _LISTS / f"{split}.txt").write_text("\n".join(names) + "\n")
    for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
      stripe = (np.arange(size[1]) * stripes // size[1] + i) % len(colors)
      classes = np.broadcast_to(stripe, size).astype(np.uint8).copy()
      pixels = colors[classes] + rng.normal(0, 5, (*size, 3))
      classes[0] = VOID
      Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(
          folder / "JPEGImages" / f"{name}.jpg", quality=95)
      mask = Image.fromarray(classes).convert("P")
      mask.putpalette([*range(256)] * 3)
      mask.save(folder / "SegmentationClass" / f"{name}.png")
  return folder


class Crops(NamedTuple):
  """How pictures are cut for training. Hashable, static in compiled functions.

  Attributes:
    size: side of the crops, in pixels.
    scale: least and greatest factor by which pictures are resized first.
    flip: whether half of them are mirrored, left to right.
  """

  size: int = 513
  scale: tuple[float, float] = (0.5, 2.0)
  flip: bool = True


def random_crops(rng: jax.Array, pictures: jax.Array, sizes: jax.Array,
                 crops: Crops) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Resizes, cuts and mirrors pictures at random.

  Images are resized bilinearly with half-pixel centers and without smoothing
  before (as the code of DeepLab does), classes by the nearest pixel.

  Args:
    rng: a key, consumed.
    pictures: u8[B, S, S, 4]; see `Pictures`.
    sizes: i32[B, 2], height and width of each.
    crops: static.

  Returns:
    Pixels f32[B, size, size, 3] from 0 to 255, their classes i32[B, size,
    size], void where there is no picture, and where there is one,
    bool[B, size, size, 1].
  """

  def one(rng, picture, size):
    scale_rng, corner_rng, flip_rng = jax.random.split(rng, 3)
    low, high = crops.scale
    scale = low + (high - low) * jax.random.uniform(scale_rng)
    resized = jnp.floor(size * scale + 0.5)
    spare = jnp.maximum(resized - crops.size, 0)
    corner = jnp.floor(jax.random.uniform(corner_rng, (2,)) * (spare + 1))
    corner = jnp.minimum(corner, spare)
    pixel = jnp.arange(crops.size, dtype=jnp.float32)
    mirrored = jax.random.bernoulli(flip_rng) & crops.flip
    places = (corner[0] + pixel, corner[1] + jnp.where(
        mirrored, crops.size - 1 - pixel, pixel))
    weights, nearest, inside = [], [], []
    for i, place in enumerate(places):
      last = size[i] - 1
      at = (place + 0.5) / scale
      weights.append(jax.nn.relu(1 - jnp.abs(
          jnp.clip(at - 0.5, 0, last)[:, None] - jnp.arange(len(picture)))))
      nearest.append(jnp.clip(jnp.floor(at).astype(jnp.int32), 0, last))
      inside.append(place < resized[i])
    there = inside[0][:, None] & inside[1]
    image = jnp.einsum(
        "is,stc,jt->ijc", weights[0], picture[..., :3].astype(jnp.float32),
        weights[1], precision=jax.lax.Precision.HIGHEST)
    classes = picture[nearest[0][:, None], nearest[1], 3].astype(jnp.int32)
    return image, jnp.where(there, classes, VOID), there[..., None]

  return jax.vmap(one)(jax.random.split(rng, len(pictures)), pictures, sizes)


def normalize(images: jax.Array, there: jax.Array, mean: Sequence[float],
              std: Sequence[float], dtype: Any = jnp.float32) -> jax.Array:
  """Normalises pixels from 0 to 255; 0, the mean, where there is no picture."""
  return jnp.where(there, augmentation.normalize(images, mean, std, dtype), 0)
