"""The data set of a run: how its configuration has it, and how it is found."""

from collections.abc import Sequence
import dataclasses
import os
from typing import Any
import zlib

import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.data import dataset as dataset_lib
from natjax.pipeline import run_files, runs, shapes


def describe(dataset: data_lib.Dataset) -> dict[str, Any]:
  """What `config.json` says of a data set; other images, other values."""
  sizes = {"train": len(dataset.train_labels), "test": len(dataset.test_labels)}
  content, samples = 0, []  # Two files of one name and size are other data.
  for array in (dataset.train_images, dataset.train_labels,
                dataset.test_images, dataset.test_labels):
    if isinstance(array, data_lib.Streamed):  # Which are not read for that.
      samples.append(array.sample)
      array = np.array([array.checksum])
    content = zlib.crc32(np.ascontiguousarray(array).data, content)
  usual = dataset_lib.Source._field_defaults
  source = {} if dataset.source is None else {"source": {
      k: v for k, v in dataset.source._asdict().items()
      if k == "data_dir" or k not in usual or v != usual[k]}}
  sampled = {"sampled": zlib.crc32(np.array(samples).data)} if samples else {}
  return {"dataset": dataset.name, "images": sizes, "crc32": content, **sampled,
          "image_size": dataset.image_size, "classes": dataset.num_classes,
          **({"normalize": dataset.source.normalize} if (
              dataset.source and dataset.source.normalize) else {}),
          # As NumPy's versions compute it alike.
          "normalization": {name: [round(float(x), 5) for x in values] for (
              name, values) in (("mean", dataset.mean), ("std", dataset.std))},
          "augmentation": {
              k: v for k, v in dataset.augmentation._asdict().items()
              if v is not None}, **source}


def alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
  """Whether two descriptions may be of the same images and labels.

  Runs of natjax 0.2.0 and before say nothing of streamed images' content.
  """
  samples = one.get("sampled"), other.get("sampled")
  return one.get("crc32") == other.get("crc32") and (
      None in samples or samples[0] == samples[1])


def load(out: str | os.PathLike[str], name: str | None = None,
         data_dir: str | os.PathLike[str] | None = None
         ) -> tuple[data_lib.Dataset, bool]:
  """Loads the data that a run was trained on, or other data of its size.

  Args:
    out: the run's folder.
    name: of other data, as `data.load` takes it; None is the run's own.
    data_dir: where it lies; None, of the run's own data, is where it lay.

  Returns:
    The data, and whether it is the run's own, image for image.

  Other data is read as the run's own was (its test_fraction and so on), where
  it can be: the run's own may have moved.

  Raises:
    InputError: no run, or no such data; what was to be the run's own and is
      not; other data of another number of classes, or of other names.
  """
  config = runs.read_config(out, shapes.CONFIG)
  with run_files.reading(errors.path(out) / run_files.CONFIG):
    source = dataset_lib.Source(
        **config.get("source", {"name": config["dataset"]}))
  own, advice = name is None, "name the run's set by --dataset"
  if name is None:
    name = source.name
    data_dir = source.data_dir if data_dir is None else data_dir

  def read(**settings):
    return data_lib.load(name, data_dir=data_dir,
                         image_size=config["image_size"], **settings)

  settings: dict[str, Any] = {**source._asdict(), "stream": (
      source.stream if own else source.stream or None)}
  del settings["name"], settings["data_dir"]
  usual = {**dataset_lib.Source._field_defaults, "resize": source.resize,
           "stream": None}
  while True:
    try:
      found = read(**settings)
      break
    except errors.InputError as e:
      if own:
        raise errors.InputError(f"{e}; {advice}") from e
      refused = e.field or ""  # By a set that has a test set, perhaps.
      if settings.get(refused) == usual.get(refused):
        raise
      settings[refused] = usual[refused]
  same = alike(describe(found), config)
  if own and not same:
    raise errors.InputError(
        f"{name} is not what {out} was trained on: the checksums of the images"
        f" and labels differ; restore it, or {advice}", "dataset")
  if found.num_classes != config["classes"]:
    raise errors.InputError(
        f"{out} has networks for {config['classes']} classes and {found.name}"
        f" has {found.num_classes}; name the set that they were trained on")
  if own and (kept := config.get("normalization")) and not np.allclose(
      [kept["mean"], kept["std"]], [found.mean, found.std], 0, 1e-4):
    found = dataclasses.replace(  # It was changed before the run had it.
        found, mean=tuple(kept["mean"]), std=tuple(kept["std"]))
  # Without labels it is the set's own classes that features are judged by.
  there = () if same or config.get("simclr") else _class_names(out)
  if differ := other_classes(there, found.class_names):
    raise errors.InputError(
        f"{out} has networks for other classes than {found.name}: {differ};"
        " name a set of the same classes, in the same order", "dataset")
  return found, same


def other_classes(there: Sequence[str], here: Sequence[str]) -> str:
  """The first difference of as many classes, in words; "" if there is none.

  Example:
    >>> other_classes(("cat", "dog"), ("dog", "cat"))
    "'cat' there, 'dog' here"
    >>> other_classes(("cat", "dog"), ("0", "1"))
    ''
  """
  differ = [pair for pair in zip(there, here, strict=False)
            if pair[0] != pair[1]]
  if not differ or _may_be_one(there, here):
    return ""
  one, other = map(errors.short, differ[0])
  return f"{one} there, {other} here"


def _may_be_one(there, here):
  """Whether classes of different names may be the same.

  Numbers may stand for names, or for other numbers, but not for the same ones
  in another order: folders' "10" comes before "2".
  """
  known = [all(map(str.isdecimal, names)) for names in (there, here)]
  if not all(known):
    return any(known)
  there, here = ([*map(int, names)] for names in (there, here))
  return there == here or sorted(there) != sorted(here)


def _class_names(out):
  """The classes of a run's networks; none where there is no network."""
  for path in runs.trained(errors.path(out)):
    return tuple(run_files.read_json(path, shapes.NETWORK)["class_names"])
  return ()
