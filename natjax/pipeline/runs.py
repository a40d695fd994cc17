"""Run directories: what a run leaves behind, and how it is found again.

A run directory holds `config.json` (what was asked for), `metrics.jsonl`,
`architecture.json`, `result.json`, a picture, a checkpoint, and trained
weights as `weights.npz`. A run is resumed by asking for the same again; a
directory that holds anything else is never touched.
"""

import json
import os
import pathlib
import platform
import re
import shutil
from typing import Any, NamedTuple
import zipfile
import zlib

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import data as data_lib
from natjax import errors, methods
from natjax.graph import codec
from natjax.networks import network as network_lib
from natjax.training import distributed
from natjax.training import fit as fit_lib
from natjax.training import metrics as metrics_lib

CONFIG = "config.json"
RESULT = "result.json"
METRICS = "metrics.jsonl"
ARCHITECTURE = "architecture.json"
WEIGHTS = "weights.npz"
NETWORKS = "networks"

# All that a run writes into its directory, besides the pictures of its method;
# overwriting removes these alone.
_OWN = (RESULT, METRICS, ARCHITECTURE, WEIGHTS, NETWORKS, "checkpoint",
        "architecture.svg", "architecture.png", "curves.png", "tensorboard")
_KINDS = ("train", "transform", "search")
# What wrote no version; its commit is 729c84a.
_FIRST = "0.1.0"
# And it called the parts of an ImageNet stem otherwise.
_STEM = re.compile(r"/stem/(conv|norm)(\d)/")


def read_json(path: str | os.PathLike[str], *,
              missing: str = "name a run's folder",
              damaged: str = "restore it or overwrite the run") -> Any:
  """Reads a JSON file.

  Args:
    path: the file.
    missing: what the error advises if it cannot be read.
    damaged: what it advises if the file is not JSON.

  Raises:
    InputError: it is not there or not JSON.
  """
  try:
    return json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; {missing}") from e
  except ValueError as e:
    raise errors.InputError(
        f"{path} is not JSON and may be damaged; {damaged}", "overwrite") from e


def read_config(out: str | os.PathLike[str]) -> dict[str, Any]:
  """Reads what a run was asked for (InputError if `out` holds no run)."""
  config = read_json(pathlib.Path(out) / CONFIG)
  if not isinstance(config, dict) or config.get("kind") not in _KINDS:
    raise errors.InputError(f"{out} holds no run of natjax, but another"
                            f" {CONFIG}; name a run's folder")
  return config


def _holds_run(out):
  """Whether a run's configuration is there; a damaged one may be a run's."""
  try:
    read_config(out)
  except errors.InputError as e:
    return isinstance(e.__cause__, ValueError)
  return True


def versions() -> dict[str, str]:
  """Versions that a result depends on."""
  return {"python": platform.python_version(), **{
      part.__name__: part.__version__ for part in (jax, flax, optax, np)}}


def _number(value):
  """A number of numpy's as one of Python's, which JSON can have."""
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f"{type(value).__name__} is nothing that JSON can have")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes a JSON file under a temporary name and renames it."""
  metrics_lib.write_text(
      path, json.dumps(value, indent=2, default=_number) + "\n")


def open_run(out: str | os.PathLike[str], config: dict[str, Any], *,
             overwrite: bool = False) -> pathlib.Path:
  """Opens a run directory for what `config` asks for.

  Args:
    out: the directory; made if it is not there.
    config: JSON values, all that the run is a function of.
    overwrite: remove what an earlier run left there and start anew.

  Returns:
    The path.

  Raises:
    InputError: a file stands there, a folder that holds no run, a run of
      another configuration, or an unfinished one of another version.
  """
  if not isinstance(out, str | os.PathLike):
    raise errors.InputError(f"out is {out!r} and must be a path; name a folder",
                            "out")
  out = pathlib.Path(out)
  if out.exists() and not out.is_dir():
    raise errors.InputError(f"{out} is a file; name a folder", "out")
  known = _holds_run(out)
  # A first start that was killed may have left the temporary file alone.
  if out.is_dir() and not known and any(
      path.name != f".{CONFIG}.tmp" for path in out.iterdir()):
    raise errors.InputError(f"{out} is not empty and holds no run of natjax;"
                            " name another folder", "out")
  if known and overwrite:
    pictures = {p for e in methods.METHODS.values() for p in e.drawn}
    # The configuration goes last: what a kill leaves is still known for a run.
    for path in [*(out / name for name in (*_OWN, *pictures)),
                 *out.glob("seed-*"), out / CONFIG]:
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink(missing_ok=True)
  elif known:
    _check_same(out, read_config(out), config)
    return out
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise errors.InputError(f"{out} cannot be made: {e.strerror}; name another"
                            " folder", "out") from e
  write_json(out / CONFIG, config)
  return out


def write_architecture(out: pathlib.Path,
                       architecture: codec.Architecture) -> None:
  """Writes the architecture that a run has or comes to."""
  metrics_lib.write_text(out / ARCHITECTURE, codec.to_json(architecture) + "\n")


def read_architecture(out: str | os.PathLike[str]) -> codec.Architecture:
  """Reads the architecture that a finished run has or came to.

  Of a run over several seeds that of the first; `out/seed-3` is a run too.

  Raises:
    InputError: `out` holds no run, or one that is not finished.
  """
  out = pathlib.Path(out)
  if not _holds_run(out):
    raise errors.InputError(
        f"{out} is a folder and holds no run of natjax; name a run's folder, or"
        " a file")
  if not (out / RESULT).is_file():
    raise errors.InputError(
        f"{out} holds a run that is not finished; resume it by the command that"
        " began it, or name another")
  return codec.read(out / ARCHITECTURE)


def find_result(processes: distributed.Processes,
                folder: str | os.PathLike[str]) -> dict[str, Any] | None:
  """What the first process finds in a folder's `result.json`."""
  path = pathlib.Path(folder) / RESULT
  return processes.of_first(lambda: read_json(path) if path.exists() else None)


def describe_data(dataset: data_lib.Dataset) -> dict[str, Any]:
  """What `config.json` says of a data set; other images, other values."""
  sizes = {"train": len(dataset.train_labels), "test": len(dataset.test_labels)}
  content = 0  # Two files of one name and size are different data.
  for array in (dataset.train_images, dataset.train_labels,
                dataset.test_images, dataset.test_labels):
    content = zlib.crc32(np.ascontiguousarray(array).data, content)
  return {"dataset": dataset.name, "images": sizes, "crc32": content,
          "image_size": dataset.image_size, "classes": dataset.num_classes,
          "augmentation": dataset.augmentation._asdict()}


def _check_same(out, old, new):
  """Refuses to go on with a run of another configuration or version."""
  plain = json.loads(json.dumps(new, default=_number))
  versions = [c.pop("version", _FIRST) for c in (old, plain)]
  old_flat, new_flat = (flax.traverse_util.flatten_dict(c, sep=".")
                        for c in (old, plain))
  differ = [key for key in sorted({*old_flat, *new_flat})
            if old_flat.get(key) != new_flat.get(key)]
  if differ:
    shown = ", ".join(f"{k} {old_flat.get(k)!r} there and {new_flat.get(k)!r}"
                      " here" for k in differ[:3])
    more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
    raise errors.InputError(
        f"{out} holds a run of another configuration ({shown}{more}); give the"
        " same settings to resume it, name another folder, or overwrite it",
        "overwrite")
  if versions[0] != versions[1] and not (out / RESULT).exists():
    commit = " (commit 729c84a)" if versions[0] == _FIRST else ""
    raise errors.InputError(
        f"{out} holds an unfinished run of natjax {versions[0]}{commit}, which"
        f" natjax {versions[1]} does not resume; finish it with that version,"
        " name another folder, or overwrite it", "overwrite")


def save_weights(path: str | os.PathLike[str], variables: Any) -> None:
  """Writes a network's variables as `.npz`, one array per path."""
  path = pathlib.Path(path)
  flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
  temporary = path.with_name(f".{path.name}.tmp")
  with temporary.open("wb") as f:
    np.savez(f, **jax.device_get(flat))
  os.replace(temporary, path)


def load_weights(path: str | os.PathLike[str]) -> Any:
  """Reads what `save_weights` wrote; nothing in it is executed."""
  try:
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as f:
      flat = {k: jnp.asarray(f[k]) for k in f.files}
  except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
    raise errors.InputError(
        f"{path} is not there or damaged; train the network again") from e
  return flax.traverse_util.unflatten_dict(
      {_STEM.sub(r"/stem\2/\1/", k): v for k, v in flat.items()}, sep="/")


class TrainedNetwork(NamedTuple):
  """A trained network, ready to be applied.

  Attributes:
    architecture: its cells or blocks.
    module: the linen module.
    variables: "params" and "batch_stats".
    preparation: from images u8 to what the module takes.
    class_names: of the classes, in order.
    test_accuracy: as measured after training, in [0, 1]; of a network that
      learnt without labels, that of its nearest neighbours.
    classifies: whether it has a classifier; without one it gives features.
  """

  architecture: codec.Architecture
  module: network_lib.Network
  variables: Any
  preparation: fit_lib.Preparing
  class_names: tuple[str, ...]
  test_accuracy: float
  classifies: bool = True

  def features(self, images: jax.Array) -> jax.Array:
    """f32[B, F] of images u8[B, H, W, 3], of a network without a classifier."""
    return self._apply(images, classifies=False)

  def logits(self, images: jax.Array) -> jax.Array:
    """f32[B, K] of images u8[B, H, W, 3]."""
    return self._apply(images, classifies=True)

  def predict(self, images: jax.Array) -> jax.Array:
    """The likeliest class, i32[B], of images u8[B, H, W, 3]."""
    return jnp.argmax(self.logits(images), axis=-1)

  def _apply(self, images, *, classifies):
    if classifies != self.classifies:
      kind = "has no" if classifies else "has a"
      raise errors.InputError(
          f"this network {kind} classifier; ask it for"
          f" {'features' if classifies else 'logits'} instead")
    images = self.preparation(jax.random.key(0), jnp.asarray(images),
                              train=False)
    return self.module.apply(self.variables, images)[0]


def networks(out: str | os.PathLike[str]) -> dict[str, pathlib.Path]:
  """Folders of the trained networks of a run, by what `load` calls them.

  "original-0"; or "seed-2/original-2" of a run over several seeds, which lies
  in the seed's folder.

  Raises:
    InputError: there is none.
  """
  out = pathlib.Path(out)
  found = sorted([*out.glob(f"{NETWORKS}/*/{RESULT}"),
                  *out.glob(f"seed-*/{NETWORKS}/*/{RESULT}")])
  if not found:
    raise errors.InputError(
        f"{out} holds no trained network; name the folder of a finished"
        " `natjax train`, `natjax transform` or `natjax search`")
  return {"/".join(part for part in path.parent.relative_to(out).parts
                   if part != NETWORKS): path.parent for path in found}


def load(out: str | os.PathLike[str],
         name: str | None = None) -> TrainedNetwork:
  """Loads a trained network.

  Args:
    out: a run directory of `train` or `transform`.
    name: which of its networks, for example "transformed-1", or of a run over
      several seeds "seed-2/original-2"; None is the first of the transformed
      ones, or the first.

  Raises:
    InputError: no such run or network, or a damaged file.
  """
  folders = networks(out)
  if name is None:
    name = min(folders, key=lambda n: ("transformed" not in n, n))
  if name not in folders:
    raise errors.InputError(
        f"{out} has no network '{name}'; it has {', '.join(folders)}")
  try:
    return _load(folders[name])
  except (AttributeError, KeyError, TypeError) as e:
    raise errors.InputError(f"{folders[name] / RESULT} is damaged"
                            f" ({type(e).__name__}: {e}); train the network"
                            " again") from e


def _load(folder):
  result = read_json(folder / RESULT)
  architecture = codec.from_dict(result["architecture"])
  sizes = dict(result["place"])
  place = codec.place(architecture.kind, sizes.pop("kind", None), **sizes)
  return TrainedNetwork(
      architecture, network_lib.module(
          architecture, place, auxiliary=bool(result["auxiliary"])),
      load_weights(folder / WEIGHTS), fit_lib.Preparation(
          tuple(result["mean"]), tuple(result["std"]),
          data_lib.Augmentation(), jnp.dtype(result["dtype"])),
      tuple(result["class_names"]), result["accuracy"],
      classifies=place.num_classes > 0)
