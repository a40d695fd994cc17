"""Reads what the arguments name: architectures, settings, data."""

import argparse
import contextlib
import dataclasses
import functools
import math
import os.path
import pathlib
import re
from typing import Any

from natjax import errors, zoo
from natjax.cli import console
from natjax.graph import blocks, codec, parsing, records
from natjax.graph import genotype as genotype_lib
from natjax.graph import nasbench101 as cells101
from natjax.graph import nasbench201 as cells
from natjax.training import settings as settings_lib
from natjax.zoo import exports

_MOST_SEEDS, _SEED_DIGITS = 1000, 10
_MOST = 2**53
_FACTORY = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def whole(text: str) -> int:
  """A whole number of a flag (ArgumentTypeError: none, or too large)."""
  try:
    number = int(text)
  except ValueError:  # Of more than 4300 digits, too.
    number = None
  if number is None or abs(number) > _MOST:
    raise argparse.ArgumentTypeError(
        f"invalid int value: {errors.short(text)}")
  return number


def jitter(text: str) -> tuple[float, ...]:
  """The numbers of --jitter (ArgumentTypeError: others than four)."""
  try:
    found = tuple(map(float, text.split(",")))
  except ValueError:
    found = ()
  if len(found) != 4:
    raise argparse.ArgumentTypeError(
        f"{errors.short(text)} is not four numbers with commas between them,"
        " such as 0.4,0.4,0.4,0.2")
  return found


def teraflops(text: str) -> float | str:
  """What --teraflops says (ArgumentTypeError: neither measured nor above 0)."""
  if text == "measured":
    return text
  try:
    number = float(text)
  except ValueError:
    number = math.nan
  if not 0 < number < math.inf:
    raise argparse.ArgumentTypeError(
        f"{errors.short(text)} is no number above 0, nor measured")
  return number


@contextlib.contextmanager
def naming_flags(parser: argparse.ArgumentParser, prefixes: dict[str, str]):
  """Makes refusals name the flag of their field.

  Args:
    parser: knows its flags.
    prefixes: of the flags of settings records, by the records' names.
  """
  try:
    yield
  except errors.InputError as e:
    record, _, name = (e.field or "").rpartition(".")
    flags = [f"--{prefixes.get(record, '')}{settings_lib.word(name)}"]
    flags = [flag for flag in flags if flag not in str(e)
             and flag in parser._option_string_actions]
    if name == "overwrite" and flags:  # Another folder is as good.
      flags.insert(0, "--out")
    if not flags:
      raise
    raise errors.InputError(f"{e} ({', '.join(flags)})", e.field) from e


def names_folder(name: str) -> bool:
  """Whether an architecture is that of a run's folder, not one of the zoo."""
  return os.path.isdir(name) and not zoo.known(name)


def _is_run(path):
  from natjax.pipeline import run_files

  return os.path.isfile(path / run_files.CONFIG)


def sizes(name: str):
  """Image size and number of classes of a run or a module; None of others."""
  if names_factory(name):
    place = imported(name)[0].place
    return place._asdict()
  if not names_folder(name):
    return None
  from natjax.pipeline import runs

  return runs.sizes(name)


def names_factory(name: str) -> bool:
  """Whether an architecture is that of a function of the user's, MODULE:NAME.
  """
  return _FACTORY.fullmatch(name) is not None and not os.path.exists(
      name.rpartition(":")[0])


@functools.cache
def imported(name: str, weights: str | None = None):
  """What `natjax.from_flax` makes of a function's flax module.

  The function is imported, from the current folder too, and called without
  arguments: it gives (module, variables, example) or (module, example), which
  of nnx has the weights of its own.

  Args:
    name: package.module:function.
    weights: a file with the module's own variables, `.npz` as
      `natjax.pipeline.networks.save_weights` writes it, or `.msgpack` as
      `flax.serialization.to_bytes` gives it; None takes the function's.

  Returns:
    The `Imported`, and its variables if there are any: the file's where those
    are the module's, or without a file the function's.

  Raises:
    InputError: it cannot be imported or called, or gives something else.
  """
  import importlib
  import sys

  from flax import nnx
  import jax
  import numpy as np

  from natjax.networks import flax_blocks, flax_program
  from natjax.pipeline import networks

  path, _, attribute = name.rpartition(":")
  sys.path.insert(0, os.getcwd())
  try:
    found: Any = importlib.import_module(path)
    for part in attribute.split("."):
      found = getattr(found, part)
    given = found()
  except (Exception, SystemExit) as e:  # Whatever a user's module raises.
    raise errors.InputError(
        f"{name} does not give a flax module ({errors.cause(e)}); name a"
        " function without arguments that can be imported, as"
        " package.module:function", "architecture") from e
  finally:
    sys.path.remove(os.getcwd())
  if not isinstance(given, tuple) or len(given) not in (2, 3):
    raise errors.InputError(
        f"{name} gives {errors.short(given)} and must give (module, variables,"
        " example) or (module, example), of flax's linen or nnx",
        "architecture")
  module, *variables, example = given
  with errors.naming(name):
    if isinstance(module, nnx.Module):
      read = flax_blocks.from_flax(
          module, variables[0] if variables else None, example)
      return read, None if weights else read.variables
    own = flax_program.shapes(module, example)
    kept = networks.read_variables(weights, own) if weights else None
    if kept is None and variables and not weights:
      kept, = variables
    read = flax_blocks.from_flax(module, kept if kept is not None else (
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), own)),
        example)
  return read, None if kept is None else read.variables


def know(name: str) -> None:
  """Makes the fixed operations of a function's flax module known.

  Args:
    name: package.module:function.

  Raises:
    InputError: see `imported`; or the module has none.
  """
  with errors.naming("--module"):
    if not names_factory(name):
      raise errors.InputError(
          f"{errors.short(name)} names no function; give"
          " package.module:function")
    if not imported(name)[0].fixed:
      raise errors.InputError(
          f"all parts of the module that {name} gives are operations that"
          " natjax has; leave it out")


def weights(args) -> Any:
  """What a job begins with: --weights, or what a function gives.

  Args:
    args: the arguments.
  """
  given = getattr(args, "architecture", None)  # A search has none.
  if given is None or not names_factory(given):
    return args.weights
  if args.weights is None:
    return imported(args.architecture)[1]
  own = None
  if os.path.isfile(args.weights):
    own = imported(args.architecture, args.weights)[1]
  return args.weights if own is None else own


def skeleton_of(name: str, preset: str | None) -> str | None:
  """The skeleton that a preset means for a hand-crafted network, if any."""
  from natjax.pipeline import presets

  if preset in presets.IMAGENET and zoo.known(name):
    with contextlib.suppress(errors.InputError):  # It may have but its own.
      zoo.get(name, "imagenet")
      return "imagenet"
  return None


def read_architecture(name: str, skeleton: str | None = None, width=None):
  """An architecture from a string, a file, a run, the zoo, or a flax module.

  Args:
    name: a cell of NAS-Bench-201 or -101, a chain of NAS-Bench-Macro, a
      genotype's text, a path of a file or of a run's folder, or a name of the
      zoo, which a folder of that name does not hide; or
      package.module:function, which gives a flax module.
    skeleton: of a hand-crafted network; None is its usual one.
    width: factor of a network's widths; None is 1.
  """
  path = pathlib.Path(name)
  own = ""  # What brings a skeleton of its own.
  architecture: codec.Architecture
  if name.startswith(("|", "(", "[")) or (
      "Genotype(" not in name and cells.find(name)) or (
          cells101.is_text(name) or "ModelSpec(" in name) or (
              exports.is_macro(name) and not os.path.exists(path)):
    architecture = exports.parse(name, where="the cell given")
    _tell_reading(name, architecture)
    own = "an architecture of a benchmark"
  elif "Genotype(" in name:
    architecture = genotype_lib.from_darts(name, where="the genotype given")
  elif names_folder(name):
    from natjax.pipeline import runs

    architecture = runs.read_architecture(path)
    own = name if architecture.kind == "blocks" else ""
  elif names_factory(name):
    architecture = imported(name)[0].network
    own = name
  elif os.path.isfile(path) or path.suffix.lower() in (
      ".json", ".txt", ".py") or len(path.parts) > 1 or os.path.exists(
          name.rpartition(":")[0]):
    architecture = _read(path)
    own = name if architecture.kind == "blocks" else ""
    if zoo.known(name):
      console.err.print(f"{name} is what the file {name} holds, not that of"
                        " `natjax list`; rename the file for that")
  else:
    architecture = zoo.get(name, skeleton)
    if os.path.isdir(path) and _is_run(path):
      console.err.print(f"{name} is that of `natjax list`, not the run in the"
                        f" folder {name}; write ./{name} for that")
  if own and skeleton is not None:
    raise errors.InputError(f"skeleton is '{skeleton}', and {own} brings its"
                            " own; leave the option out")
  if width is None:
    return architecture
  if not isinstance(architecture, records.BlockNetwork):
    raise errors.InputError(
        f"width is {width} and does not apply to cells; leave --width out, and"
        " set their channels with --init-channels")
  if not 0 < width < math.inf:
    raise errors.InputError(f"width is {width} and must be a finite number"
                            " above 0; pass --width 0.5")
  return blocks.check(blocks.scale(architecture, width))


def _read(path):
  """Reads a file, of which FILE:NAME names one of several genotypes.

  TABLE:INDEX is a cell of NAS-Bench-201, by the benchmark's own index.
  """
  whole, _, name = str(path).rpartition(":")
  if not name or not os.path.exists(whole) or path.exists():
    return _file(path)
  if name.isdecimal() and (
      whole.lower().endswith((".csv", ".csv.gz")) or os.path.isdir(whole)):
    from natjax.benchmarks import nasbench201 as tables

    codes = tables.read(whole).codes
    if len(name) > _SEED_DIGITS or int(name) >= len(codes):
      raise errors.InputError(
          f"{whole} has the cells 0 to {len(codes) - 1}, and"
          f" {errors.short(name)} is none; name one of them")
    return zoo.nasbench201.network(cells.to_names(
        cells.decode(codes[int(name)])))
  return _file(whole, name)


def _file(path, name=None):
  """Reads a file, and says so where it holds several of which one is taken."""
  text = parsing.read_text(path)
  architecture = exports.parse(text, where=str(path), name=name)
  _tell_reading(text, architecture)
  for line in exports.passed_over(text, where=str(path), name=name):
    console.err.print(line)
  return architecture


def _tell_reading(text, architecture):
  """Says what six numbers were read as, which others number otherwise.

  And in which network a cell of NAS-Bench-101 stands.
  """
  if architecture.kind == "blocks" and cells101.is_text(architecture.name):
    console.err.print(f"{architecture.name} stands in NAS-Bench-1Shot1's"
                      f" network, of {zoo.nasbench1shot1.CHANNELS[0]} channels"
                      " at first; that of NAS-Bench-101 has 128")
  if exports.numbered(text):
    known = ", ".join(f"{i} {name}" for i, name in enumerate(cells.NAMES))
    console.err.print(f"{text.strip()} is read by the benchmark's own numbers"
                      f" ({known}), as {architecture.name}; where other code"
                      " numbers otherwise, as NASLib does, give that string")


def given(args, names, prefix=""):
  """Those of the arguments that were given, by their names without a prefix."""
  values = {name: getattr(args, f"{prefix}{name}", None) for name in names}
  return {name: v for name, v in values.items() if v is not None}


def settings(args, config, prefix, extra):
  """The preset's settings, then a file's, then flags'."""
  types = settings_lib.types(type(config))
  changed = {}
  for name, value in extra.items():
    if name not in types:
      raise errors.InputError(f"{args.config}: unknown setting '{name}'; known"
                              f" are {', '.join(types)}")
    if types[name] is float and type(value) is int:
      with contextlib.suppress(OverflowError):  # Refused as too large.
        value = float(value)
    if type(value) is not types[name] and not (
        value is None and name in settings_lib.usual(type(config))):
      raise errors.InputError(
          f"{args.config}: '{name}' is {errors.short(value)} and must be of"
          f" type {types[name].__name__};"
          f" {settings_lib.instead(value, types[name])}")
    changed[name] = value
  return dataclasses.replace(config, **changed | given(args, types, prefix))


def seeds(args) -> tuple[int, int | None]:
  """The first seed, and how many; None where --seeds is not given.

  Raises:
    InputError: neither a range nor a number, or a range beside --seed.
  """
  if args.seeds is None:
    return args.seed or 0, None
  match = re.fullmatch(r"(?:(\d+):)?(\d+)", args.seeds)
  begins, ends = match.groups() if match else (None, "0")
  if max(len(begins or ""), len(ends)) > _SEED_DIGITS:
    begins, ends = None, "0"
  first = int(begins or args.seed or 0)
  count = int(ends) - int(begins or 0)
  if not 1 <= count <= _MOST_SEEDS:
    raise errors.InputError(
        f"seeds is '{args.seeds}'; pass a range such as --seeds 0:5 for the"
        " seeds 0 to 4, or a number of them, which is at most"
        f" {_MOST_SEEDS}")
  if begins and args.seed is not None:
    raise errors.InputError(f"seed is {args.seed} and seeds {args.seeds}, which"
                            " says where to begin; leave one of them out")
  return first, count


def refuse(args) -> None:
  """Refuses what other methods have and the one of the arguments has not.

  Raises:
    InputError: a setting of another method, or a flag that does not apply.
  """
  from natjax import methods

  entry = methods.METHODS[args.method]
  own = settings_lib.types(entry.settings)
  if args.objective not in entry.objectives:
    others = [n for n, e in methods.METHODS.items()
              if args.objective in e.objectives]
    raise errors.InputError(
        f"objective is {args.objective} and does not apply to --method"
        f" {args.method}; pass --method {' or '.join(others)}")
  foreign = {name for e in methods.METHODS.values()
             for name in settings_lib.types(e.settings)} - {*own}
  if not entry.trained:
    foreign.add("compare")
  for name, value in given(args, sorted(foreign)).items():
    option = settings_lib.word(name)
    raise errors.InputError(
        f"{option} is {value} and does not apply to --method {args.method};"
        f" leave --{option} out (those that do apply:"
        f" {', '.join(map(settings_lib.word, own))})")


def refuse_untrained(args, extra) -> None:
  """Refuses settings of a training that --no-train leaves out.

  Those that say where what is found stands count for its cost.

  Args:
    args: the arguments.
    extra: those of --config.

  Raises:
    InputError: a setting that would do nothing.
  """
  from natjax.methods import supervised

  asked = {**given(args, settings_lib.types(supervised.TrainConfig), "train-"),
           **extra}
  for name in asked:
    if name not in ("skeleton", "init_channels", "cells"):
      raise errors.InputError(
          f"{settings_lib.word(name)} is {asked[name]} and does nothing with"
          " --no-train, which trains nothing that is found; leave one of them"
          " out", f"train.{name}")


# Objectives that have settings, under their names.
OBJECTIVES = ("simclr", "arcface")


def objectives(args, preset, extra):
  """Settings of objectives by their names; None of those not chosen.

  Args:
    args: the arguments.
    preset: has the usual settings.
    extra: those of --config.
  """
  found: dict[str, Any] = {}
  for objective in OBJECTIVES:
    config, found[objective] = getattr(preset, objective), None
    if args.objective == objective:
      found[objective] = settings(
          args, config, f"{objective}-", extra[objective])
      continue
    flags = given(args, vars(config), f"{objective}-")
    for name, value in {**flags, **extra[objective]}.items():
      raise errors.InputError(
          f"{objective}-{settings_lib.word(name)} is {value} and does not apply"
          f" to the objective {args.objective}; leave it out, or pass"
          f" --objective {objective}")
  return found


def file_settings(args, parts):
  """The parts of --config: {"search": {...}, "train": {...}}."""
  if args.config is None:
    return {part: {} for part in parts}
  from natjax.pipeline import run_files

  found = run_files.read_json(
      args.config, object, missing="name a file with --config", field="config",
      damaged="correct it, or pass flags instead")
  if not isinstance(found, dict) or not set(found) <= set(parts) or not all(
      isinstance(v, dict) for v in found.values()):
    raise errors.InputError(
        f"{args.config}: must be an object with the keys {', '.join(parts)},"
        " each an object of settings; `--dry-run` shows them all")
  return {part: found.get(part, {}) for part in parts}
