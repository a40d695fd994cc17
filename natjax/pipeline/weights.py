"""Trained weights that are given, to begin with."""

from collections.abc import Mapping, Sequence
import os
import pathlib
from typing import Any
import zlib

import jax
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.graph import codec
from natjax.pipeline import runs, shapes
from natjax.pipeline import trainer as trainer_lib


def find(source: str | os.PathLike[str], architecture: codec.Architecture,
         seeds: Sequence[int]) -> dict[int, pathlib.Path]:
  """The files with an architecture's weights, one per seed.

  Args:
    source: a run's folder, whose networks of this architecture are taken, each
      by the seed of its name, or else in order; or for one seed the folder of a
      network, or a file as `runs.save_weights` writes it.
    architecture: whose.
    seeds: of the networks.

  Raises:
    InputError: there is no such run or file, or it has fewer such networks.
  """
  path = errors.path(source, "weights")
  if not path.exists():
    raise errors.InputError(
        f"weights is {source}, and there is no such file or folder; name a"
        " run's folder, that of one of its networks, or a file of weights",
        "weights")
  if not (path / runs.CONFIG).exists() and (path / runs.RESULT).is_file():
    path /= runs.WEIGHTS  # The folder of a network.
    if not path.is_file():
      raise errors.InputError(
          f"weights is {source}, whose {runs.WEIGHTS} is gone; train the"
          " network again, or name another", "weights")
  if path.is_file():
    if len(seeds) > 1:
      raise errors.InputError(
          f"weights is {source}, one network, and {len(seeds)} seeds begin with"
          " one each; name the run's folder, or train one seed", "weights")
    return {seeds[0]: path}
  with errors.within("weights"):
    folders = runs.networks(path)
  found = {name: folder / runs.WEIGHTS for name, folder in folders.items()
           if _architecture(folder) == architecture}
  # Of a run that kept the original, the other is the same network.
  found = {name: path for name, path in found.items()
           if "transformed-" not in name} or found
  if len(found) < len(seeds):
    raise errors.InputError(
        f"{source} has {len(found)} trained networks of this architecture (it"
        f" has {', '.join(folders)}), and {len(seeds)} seeds begin with one"
        " each; train fewer seeds, or name another run", "weights")
  own = {seed: name for seed in seeds for name in sorted(found)
         if name.rpartition("-")[2] == str(seed)}
  if len(own) == len(seeds):
    return {seed: found[name] for seed, name in own.items()}
  return dict(zip(seeds, found.values(), strict=False))


def _architecture(folder):
  result = runs.read_json(folder / runs.RESULT)
  try:
    return codec.from_dict(result["architecture"])
  except (KeyError, TypeError, errors.InputError):
    return None


def given(source: str | os.PathLike[str] | None,
          architecture: codec.Architecture | None,
          trainer: trainer_lib.Trainer) -> dict[int, pathlib.Path]:
  """The files that a job's seeds begin with, checked; of None, none.

  Raises:
    InputError: as `find` and `check`.
  """
  if source is None or architecture is None:
    return {}
  found = find(source, architecture, range(
      trainer.seed, trainer.seed + trainer.config.seeds))
  for path in found.values():
    check(runs.load_weights(path), trainer.like(architecture))
  return found


def note(found: Mapping[int, pathlib.Path],
         dataset: data_lib.Dataset) -> str:
  """In what their images differ from those of a job, in words; "" if not.

  As far as the run that trained them lies around the files.
  """
  own = runs.describe_data(dataset) if found else {}
  for path in found.values():
    folder = next((p for p in path.resolve().parents[:3] if (
        p / runs.CONFIG).is_file()), None)
    if folder is None:
      continue
    there = runs.read_config(folder, shapes.CONFIG)
    if there["crc32"] != own["crc32"]:
      named = [f"{config['dataset']} ({config['image_size']} pixels)"
               for config in (there, own)]
      return (f"the weights were trained on {named[0]}, other images than those"
              f" here, of {named[1]}")
  return ""


def describe(found: Mapping[int, pathlib.Path]) -> dict[str, Any]:
  """What `config.json` says of them: of each seed the path and the content."""
  return {"weights": {str(seed): {
      "path": str(path.resolve()), "crc32": zlib.crc32(path.read_bytes())}
                      for seed, path in found.items()}} if found else {}


def check(variables: Any, like: Any) -> None:
  """Refuses variables that are not an architecture's.

  Args:
    variables: "params" and "batch_stats"; an auxiliary head may stand beside.
    like: those of the architecture, arrays or their shapes.

  Raises:
    InputError: names what is missing, and what has another shape.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    if leaf.dtype != np.float32 or not np.isfinite(leaf).all():
      name = "/".join(key.key for key in path)
      raise errors.InputError(
          f"the weights {name} are {leaf.dtype}, not all finite numbers of"
          " float32; name the run that trained them", "weights")
  if wrong := runs.misfits(variables, like):
    raise errors.InputError(
        "the weights are not of this architecture, its width and its classes:"
        f" {wrong}; name the run that trained it", "weights")
