"""Reads what the arguments name: architectures, settings, data."""

import dataclasses
import pathlib

from natjax import errors


def read_architecture(name: str):
  """A genotype from a file, where one is named, or from the zoo."""
  from natjax import architecture
  from natjax import zoo

  path = pathlib.Path(name)
  if path.is_file() or path.suffix in (".json", ".txt", ".py") or (
      len(path.parts) > 1):
    return architecture.read(path)
  return zoo.get(name)


def settings(args, config, prefix, extra):
  """The preset's settings, then a file's, then flags'."""
  fields = {f.name: f.type for f in dataclasses.fields(config)}
  changed = {}
  for name, value in extra.items():
    if name not in fields:
      raise errors.InputError(
          f"{args.config}: unknown setting '{name}'; known are"
          f" {', '.join(fields)}")
    wanted = fields[name]
    if wanted is float and type(value) is int:
      value = float(value)
    if type(value) is not wanted:
      raise errors.InputError(
          f"{args.config}: '{name}' is {value!r} and must be of type"
          f" {wanted.__name__}; correct it")
    changed[name] = value
  for name in fields:
    value = getattr(args, f"{prefix}{name}", None)
    if value is not None:
      changed[name] = value
  return dataclasses.replace(config, **changed)


def file_settings(args, parts):
  """The parts of --config: {"search": {...}, "train": {...}}."""
  from natjax import runs

  if args.config is None:
    return {part: {} for part in parts}
  data = runs.read_json(
      args.config, missing="name a file with --config",
      damaged="correct it, or pass flags instead")
  if not isinstance(data, dict) or not set(data) <= set(parts) or not all(
      isinstance(v, dict) for v in data.values()):
    raise errors.InputError(
        f"{args.config}: must be an object with the keys {', '.join(parts)},"
        " each an object of settings; `--dry-run` shows them all")
  return {part: data.get(part, {}) for part in parts}


def load_dataset(args, image_size):
  """The data set, its images brought to the flag's or the preset's size."""
  from natjax import data

  if args.image_size is not None:
    image_size = args.image_size
  return data.load(args.dataset, data_dir=args.data_dir, image_size=image_size)
