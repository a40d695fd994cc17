"""Reads what the arguments name: architectures, settings, data."""

import dataclasses
import math
import pathlib
import re

from natjax import errors


def read_architecture(name: str, skeleton: str | None = None, width=None):
  """An architecture from a string, a file, or the zoo.

  Args:
    name: a string of NAS-Bench-201, a path, or a name of the zoo.
    skeleton: of a hand-crafted network; None is its usual one.
    width: factor of a network's widths; None is 1.
  """
  from natjax import zoo
  from natjax.graph import blocks
  from natjax.graph import codec
  from natjax.pipeline import runs

  path = pathlib.Path(name)
  if name.startswith("|"):
    if skeleton is not None:
      raise errors.InputError(
          f"skeleton is '{skeleton}', and a string of NAS-Bench-201 brings its"
          " own; leave the option out")
    architecture = zoo.nasbench201.from_string(name)
  elif path.is_dir() and (path / runs.ARCHITECTURE).is_file():
    raise errors.InputError(
        f"{name} is a run's folder; name {path / runs.ARCHITECTURE}")
  elif path.is_file() or path.suffix in (".json", ".txt", ".py") or (
      len(path.parts) > 1):
    architecture = codec.read(path)
    if skeleton is not None and isinstance(architecture, blocks.BlockNetwork):
      raise errors.InputError(
          f"skeleton is '{skeleton}', and {path} brings its own; leave the"
          " option out")
  else:
    architecture = zoo.get(name, skeleton)
  if width is None:
    return architecture
  if not isinstance(architecture, blocks.BlockNetwork):
    raise errors.InputError(
        f"width is {width} and does not apply to cells; leave --width out, and"
        " set their channels with --init-channels")
  if not 0 < width < math.inf:
    raise errors.InputError(
        f"width is {width} and must be a finite number above 0; pass --width"
        " 0.5")
  return blocks.check(blocks.scale(architecture, width))


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


def seeds(args) -> tuple[int, int | None]:
  """The first seed, and how many; None where --seeds is not given.

  Raises:
    InputError: neither a range nor a number, or a range beside --seed.
  """
  if args.seeds is None:
    return args.seed or 0, None
  match = re.fullmatch(r"(?:(\d+):)?(\d+)", args.seeds)
  first = int(match[1] or args.seed or 0) if match else 0
  count = int(match[2]) - (first if match[1] else 0) if match else 0
  if count < 1:
    raise errors.InputError(
        f"seeds is '{args.seeds}'; pass a range such as --seeds 0:5 for the"
        " seeds 0 to 4, or a number of them")
  if match[1] and args.seed is not None:
    raise errors.InputError(
        f"seed is {args.seed} and seeds {args.seeds}, which says where to"
        " begin; leave one of them out")
  return first, count


def refuse(args, other, own, **flags):
  """Refuses settings that another method has and this one has not.

  Args:
    args: the arguments.
    other: the settings of the other method.
    own: those of this method.
    **flags: further arguments that do not apply; None is not given.

  Raises:
    InputError: one of them was given.
  """
  names = [f.name for f in dataclasses.fields(own)]
  foreign = {f.name: getattr(args, f.name) for f in dataclasses.fields(other)
             if f.name not in names}
  for name, value in {**foreign, **flags}.items():
    if value is not None:
      option = name.replace("_", "-")
      if name == "objective":
        raise errors.InputError(
            f"objective is {value} and does not apply to --method"
            f" {args.method}; pass --method differentiable")
      raise errors.InputError(
          f"{option} is {value} and does not apply to --method {args.method};"
          f" leave --{option} out (those that do apply:"
          f" {', '.join(n.replace('_', '-') for n in names)})")


def file_settings(args, parts):
  """The parts of --config: {"search": {...}, "train": {...}}."""
  from natjax.pipeline import runs

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
