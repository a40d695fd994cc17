"""Reads image sets that tensorflow-datasets prepared, without TensorFlow.

Preparing a set needs TensorFlow, once and on any machine; reading it does not.
A prepared folder is `DATA_DIR/NAME[/CONFIG]/VERSION` in the format
array_record or tfrecord. It is found by its files, and not by
`tfds.data_source(NAME)`, which would start to download what it does not find,
and would refuse a set that another release of tensorflow-datasets prepared.

Labels may be whole numbers instead of classes; they are then numbered as those
of arrays are.

Of the splits that may be the test images, one whose labels are all -1 is passed
over: the test images of ImageNet have none.

Examples are found by the JSON files that lie beside them (`records`), without
tensorflow-datasets, and images decoded with Pillow: about 0.1 ms each for 32 x
32 pixels.
"""

from collections.abc import Callable, Iterable
import json
import os
import pathlib
import re

import numpy as np

from natjax import errors
from natjax.data import dataset, records, streamed, unpickle

_INSTALL = 'pip install "natjax[data]"'
_TEST_SPLITS = ("test", "validation", "val", "valid")
_INFO, _FEATURES, _NAMES = "dataset_info.json", "features.json", "labels.txt"
_MOST_CLASSES = 10**6
# Of others, tensorflow-datasets names what it was stopped in preparing.
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_UNKNOWN = -1  # The label that tensorflow-datasets gives images without one.


def default_data_dir() -> pathlib.Path:
  """Returns where tensorflow-datasets itself looks when told nothing."""
  default = os.path.join("~", "tensorflow_datasets")
  return pathlib.Path(os.environ.get("TFDS_DATA_DIR", default)).expanduser()


def find(name: str, data_dir: pathlib.Path) -> pathlib.Path | None:
  """Finds a prepared set.

  Args:
    name: "NAME", "NAME/CONFIG", and with ":VERSION" for one version; otherwise
      the latest one found is taken.
    data_dir: the folder of all prepared sets.

  Returns:
    The folder of the version, or None if nothing of that name is prepared.

  Raises:
    InputError: only configurations of the set are prepared, and `name` does
      not choose one.
  """
  base, _, version = name.partition(":")
  folder = data_dir / base
  prepared = [path for path in _versions(folder) if version in ("", path.name)]
  if prepared:
    return max(prepared, key=_version_order)
  configs = {path.parent.name for path in _versions(folder, "*/")}
  if configs and not version:
    choices = ", ".join(f"{base}/{config}" for config in sorted(configs))
    raise errors.InputError(f"{base} is prepared in {data_dir} in"
                            f" configurations only; name one of {choices}")
  return None


def names_of(folder: pathlib.Path) -> tuple[str, pathlib.Path] | None:
  """Name and data folder of a prepared set whose folder was named instead.

  Args:
    folder: of a version, of all versions of a set, or of its configurations.

  Returns:
    None where no set was prepared there.
  """
  if not (found := _versions(folder)):
    inner = _versions(folder, "*/")
    if inner and _name(inner[0]) == folder.name:
      return folder.name, folder.parent  # `find` asks for one of these.
    if folder not in (found := _versions(folder.parent)):
      return None
    folder = folder.parent
  name = _name(found[0])
  if name == folder.parent.name:  # The folder is of a configuration.
    return f"{name}/{folder.name}", folder.parent.parent
  return folder.name, folder.parent


def _name(version: pathlib.Path) -> str | None:
  """The name of the set of which this is a version."""
  info = _json(version / _INFO)
  return info.get("name") if isinstance(info, dict) else None


def _versions(folder: pathlib.Path, between: str = "") -> list[pathlib.Path]:
  """Folders of versions that were prepared to their end, by name."""
  return sorted(path.parent for path in folder.glob(f"{between}*/{_INFO}")
                if _VERSION.fullmatch(path.parent.name))


def how_to_prepare(name: str, data_dir: pathlib.Path) -> str:
  """Returns the commands that prepare a set, as part of an error's line."""
  return ("prepare it where TensorFlow is installed (pip install tensorflow"
          f" tensorflow-datasets array_record; tfds build {name}"
          f" --file_format=array_record --data_dir={data_dir}; reading it needs"
          f" only {_INSTALL})")


def read(folder: pathlib.Path, image_size: int, resize: str = "stretch",
         stream: streamed.Streaming = streamed.NEVER) -> dataset.RawImages:
  """Reads a prepared set; test images are None where it has none.

  Args:
    folder: of the version, as `find` returns it.
    image_size: that every image is resized to as it is read, since the images
      of a set may be of many sizes.
    resize: how; see `crops.resize_image`.
    stream: whether images stay on disk.

  Raises:
    InputError: a package that the format takes is not installed, the set is of
      another format, is not one of 8-bit images with one class or whole number
      each, has no training split, or its files are damaged.
  """
  info = _json(errors.regular(folder / _INFO))
  splits = _lengths(folder / _INFO, info)
  return _find(
      # Releases that knew no other format did not say it.
      folder, info.get("fileFormat", "tfrecord"), _keys(info), splits,
      image_size, resize, stream, keep=stream.wanted(
          sum(map(sum, splits.values())), image_size, resize))


def _json(path):
  """What a JSON file of a set holds; None where there is none."""
  try:
    return json.loads(path.read_text(encoding="utf-8"),
                      object_pairs_hook=_once)
  except FileNotFoundError:
    return None
  except RecursionError as e:
    raise errors.InputError(f"{path} is nested too deeply to be read; copy or"
                            " prepare the set again") from e
  except (OSError, ValueError) as e:
    raise errors.InputError(f"{path} cannot be read ({unpickle.one_line(e)});"
                            " copy or prepare the set again") from e


def _once(pairs):
  """A JSON object, of which every key stands once."""
  found = dict(pairs)
  if len(found) < len(pairs):
    raise ValueError(f"an object of {errors.short([*found])} has a key twice")
  return found


def _lengths(path, info):
  """How many examples every file of every split has, by its name."""
  try:
    splits = info["splits"]
    found = {split["name"]: [*map(int, split.get("shardLengths", []))]
             for split in splits}
    if not all(isinstance(name, str) for name in found) or any(
        not 0 <= length < 2**48 for part in found.values() for length in part):
      raise ValueError("names or lengths that are none")
    if len(found) < len(splits):
      raise ValueError("a split stands in it twice")
  except (ArithmeticError, AttributeError, LookupError, TypeError,
          ValueError) as e:
    raise errors.InputError(
        f"{path} does not say which splits there are, and how many examples"
        f" their files have ({errors.cause(e)}); copy or prepare the set again"
    ) from e
  return found


def _keys(info):
  """What a set calls the image and the label that it was made to learn."""
  try:
    keys = records.Keys(*(item["featureKey"] for item in info[
        "supervisedKeys"]["tuple"]["items"]))
  except (LookupError, TypeError):  # It does not say.
    return records.Keys()
  return keys if all(isinstance(key, str) for key in keys) else records.Keys()


def _find(folder, suffix, keys, splits, image_size, resize, stream, *, keep):
  """Finds the examples of a set, and reads them unless they are kept on disk.
  """
  found = _json(errors.regular(folder / _FEATURES))
  if found is None:
    raise errors.InputError(f"{folder / _FEATURES} is not there; copy or"
                            " prepare the set again")
  try:
    features = found["featuresDict"]["features"]
    for key in keys:
      if key not in features:
        raise ValueError(f"of {errors.several([*features])}, none is {key}")
    image, label = features[keys.image]["image"], features[keys.label]
    *_, channels = image["shape"]["dimensions"]
    if image.get("dtype", "uint8") != "uint8" or channels not in (
        "1", "3") or not ("classLabel" in label or _is_number(label)):
      raise ValueError("image or label of another type")
    names = _names(
        errors.regular(folder / f"{keys.label}.{_NAMES}"), label["classLabel"]
    ) if "classLabel" in label else None
  except (AttributeError, LookupError, TypeError, ValueError) as e:
    raise errors.InputError(
        f"{folder} is no set of 8-bit grey or RGB images with one class each"
        f" ({errors.cause(e)}); give such a set") from e
  kinds: dict[str, type[records.ArrayRecords] | type[records.TFRecords]] = {
      "array_record": records.ArrayRecords, "tfrecord": records.TFRecords}
  if not isinstance(suffix, str) or suffix not in kinds:
    raise errors.InputError(
        f"{folder} is in the format {errors.short(suffix)}, and those that are"
        f" read are {' and '.join(kinds)}; prepare it again with"
        " --file_format=array_record")

  def files(split):
    count = len(splits[split])
    paths = [*map(errors.regular, sorted(
        folder.glob(f"*-{split}.{suffix}*")))]
    if not count or len(paths) != count:
      raise errors.InputError(
          f"{folder} has {len(paths)} of {count} files of {suffix} of the split"
          f" {split}; copy it again, or prepare it again with"
          " --file_format=array_record")
    return paths

  def find(split):
    found = kinds[suffix](files(split), keys)
    if len(found) != sum(splits[split]):
      raise errors.InputError(
          f"{folder} has {len(found)} examples of the split {split} and must"
          f" have {sum(splits[split])}; copy or prepare it again")
    images = streamed.Streamed(found, np.arange(len(found)), image_size, resize,
                               reading=stream.reading)
    return images if keep else images.decoded(), found.labels

  train, test, notes = _splits(
      folder, tuple(splits), lambda split: (
          kinds[suffix].first_labels(files(split), keys) if keep else (
              kinds[suffix](files(split), keys).labels)))
  return dataset.RawImages(
      find(train), find(test) if test else None, names, notes)


def _is_number(label):
  """Whether labels are whole numbers, which name no classes."""
  return "tensor" in label and not label["tensor"].get("shape") and bool(
      re.fullmatch(r"u?int\d+", label["tensor"]["dtype"]))


def _names(path, classes):
  """The classes' names, or their numbers where there is no file of names.

  Raises:
    ValueError: another number of names than of classes.
  """
  count = int(classes["numClasses"])
  if not 0 < count <= _MOST_CLASSES:
    raise ValueError(f"{count} classes")
  if not path.is_file():
    return tuple(map(str, range(count)))
  names = path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n")
  if len(names) != count:
    raise ValueError(f"{len(names)} names of {count} classes")
  return tuple(names)


def _splits(folder: pathlib.Path, splits: tuple[str, ...],
            labels: Callable[[str], Iterable[int]]
            ) -> tuple[str, str | None, tuple[str, ...]]:
  """Which splits are the training images and the test images, and notes.

  Args:
    folder: of the set.
    splits: that it has.
    labels: of a split, or the first of them.
  """
  tests = [split for split in _TEST_SPLITS if split in splits]
  if "train" in splits:
    notes: list[str] = []
    taken = None
    for test in tests:
      found = iter(labels(test))
      if next(found, None) != _UNKNOWN or any(
          label != _UNKNOWN for label in found):
        taken = test
        break
      notes.append(f"the images of the split {test} of {folder} have no labels"
                   f" (all are {_UNKNOWN}), and it is passed over")
    without = tests[:len(notes)]
    if others := [split for split in splits
                  if split not in ("train", taken, *without)]:
      notes.append(
          f"of {folder}, images of other splits ({errors.several(others)}) are"
          " passed over")
    return "train", taken, tuple(notes)
  if len(splits) != 1:
    raise errors.InputError(
        f"{folder} has the splits {', '.join(splits)}; it needs train and one"
        f" of {', '.join(_TEST_SPLITS)}: divide it yourself and save an .npz"
        " file")
  return splits[0], None, ()


def _version_order(folder: pathlib.Path) -> tuple[int, ...]:
  """Orders versions as numbers: 3.10.0 is later than 3.2.0."""
  return tuple(map(int, folder.name.split(".")))
