"""Run directories: what a run leaves behind, and how it is found again.

A run directory holds `config.json` (what was asked for), `metrics.jsonl`,
`architecture.json`, `result.json`, a picture, a checkpoint, and trained
weights as `weights.npz`; of several seeds or several given architectures it
holds a run directory for each. A run is resumed by asking for the same again; a
directory that holds anything else is never touched.
"""

from collections.abc import Iterator, Sequence
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
from typing import Any
import warnings
import zlib

import flax
import jax
import jaxlib
import numpy as np
import optax

from natjax import errors, methods
from natjax.graph import codec, parsing
from natjax.methods import latency as latency_lib
from natjax.pipeline import shapes
from natjax.training import distributed
from natjax.training import metrics as metrics_lib
from natjax.zoo import exports

try:
  import fcntl
except ImportError:  # Not on Windows.
  fcntl = None  # type: ignore[assignment]

CONFIG = "config.json"
RESULT = "result.json"
METRICS = "metrics.jsonl"
ARCHITECTURE = "architecture.json"
TEXT = "architecture.txt"
WEIGHTS = "weights.npz"
NETWORKS = "networks"
REFUSED = "refused"  # Networks that were trained and not returned.
POINTS = "pareto"  # Architectures to choose from (`choosing`).
CHECKSUMS = "checksums.json"
INHERITED = "inherited"  # In the checkpoint: what networks begin with.

# Files of which every run keeps a checksum, wherever they lie in it.
_CHECKED = (RESULT, ARCHITECTURE, WEIGHTS)
_DERIVED = "derived*.json"

# All that a run writes into its directory, besides the pictures of its method;
# overwriting removes these alone.
_OWN = (RESULT, METRICS, ARCHITECTURE, TEXT, WEIGHTS, CHECKSUMS, NETWORKS,
        REFUSED, POINTS, "checkpoint", latency_lib.FILE, "architecture.svg",
        "architecture.png", "curves.png", "tensorboard")
# Folders of a run of several given architectures, each a run's, too.
PARTS = "architecture-[0-9]*"
_KINDS = tuple(shapes.RUNS)
_DAMAGED = "restore it or overwrite the run"
# What wrote no version; its commit is 729c84a.
_FIRST = "0.1.0"
# What of the configuration tells whose a network is.
_WHOSE = ("augmentation", "crc32", "image_size", "normalize", "seed", "train")
_OF = ": of"  # In a network's checksums; no file has the name.
# What a run may go on under others of, and how that is told.
_WHERE = {"versions": "under other versions", "machine": "on another device"}
# Of jax, by which random numbers are drawn.
_USUAL = {"default_prng_impl": "threefry2x32", "random_seed_offset": 0,
          "threefry_partitionable": True, "enable_x64": False}
# Until 0.2.0 the places of replacements had their edges' numbers for names.
_NUMBERED = re.compile(r", edge \d+$")


def read_json(path: str | os.PathLike[str], shape: Any = dict, *,
              missing: str = "name a run's folder",
              damaged: str = _DAMAGED,
              field: str | None = "overwrite") -> Any:
  """Reads a JSON file.

  Args:
    path: the file.
    shape: of what it holds; see `shapes`.
    missing: what the error advises if it cannot be read.
    damaged: what it advises if the file is not JSON, or of another shape.
    field: the setting that mends a damaged file.

  Raises:
    InputError: it is not there, not JSON, or of another shape.
  """
  path = errors.path(path)
  check_sum(errors.regular(path))
  found = _load(path, missing, damaged, field)
  shapes.check(found, shape, str(path), damaged, field)
  return found


def _load(path, missing="name a run's folder", damaged=_DAMAGED,
          field="overwrite"):
  """What a JSON file holds, whatever its checksum and its shape."""
  path = errors.regular(path)
  try:
    return parsing.load_json(path.read_text(encoding="utf-8-sig"))
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; {missing}") from e
  except ValueError as e:
    raise errors.InputError(f"{path} is not JSON and may be damaged; {damaged}:"
                            f" {errors.short(str(e), 99)}", field) from e


@contextlib.contextmanager
def reading(path: str | os.PathLike[str],
            advice: str = _DAMAGED) -> Iterator[None]:
  """Refuses a file whose content the code within stumbles over.

  Args:
    path: of the file.
    advice: what the error tells to do.
  """
  try:
    yield
  except (errors.InputError, UnicodeEncodeError):  # The latter of printing.
    raise
  except (AttributeError, IndexError, KeyError, OverflowError, TypeError,
          ValueError, RecursionError) as e:
    raise errors.InputError(
        f"{path} is damaged ({errors.cause(e)}); {advice}", "overwrite") from e


def read_config(out: str | os.PathLike[str],
                shape: Any = dict) -> dict[str, Any]:
  """Reads what a run was asked for.

  Args:
    out: the run's folder.
    shape: of the configuration, as far as it is looked at.

  Raises:
    InputError: `out` holds no run, its configuration is of another shape, or
      it was changed by hand since.
  """
  path = errors.path(out) / CONFIG
  config = _load(path)
  if not _is_config(config):
    raise errors.InputError(f"{out} holds no run of natjax, but another"
                            f" {CONFIG}; name a run's folder")
  shapes.check(config, shape, str(path), _DAMAGED, "overwrite")
  check_sum(path)
  return config


def _holds_run(out):
  """Whether a run's configuration is there; a damaged one may be a run's."""
  try:
    return _is_config(_load(out / CONFIG))
  except errors.InputError as e:
    return isinstance(e.__cause__, ValueError)


def _is_config(found):
  """Whether JSON is what a run was asked for."""
  return isinstance(found, dict) and found.get("kind") in _KINDS


def _check_kinds(out):
  """Refuses a file where a run has a folder, and a folder for a file."""
  files = (RESULT, METRICS, ARCHITECTURE, WEIGHTS)
  for name in (*files, NETWORKS, "checkpoint"):
    for path in (out / name, *out.glob(f"{NETWORKS}/*/{name}")):
      if path.exists() and path.is_dir() is (name in files):
        there, wanted = "folder", "file"
        if name not in files:
          there, wanted = wanted, there
        raise errors.InputError(f"{path} is a {there} and must be a {wanted};"
                                f" {_DAMAGED}", "overwrite")


def versions() -> dict[str, str]:
  """Versions that a result depends on."""
  return {"python": platform.python_version(), **{
      part.__name__: part.__version__
      for part in (jax, jaxlib, flax, optax, np)}}


def machine(devices: Sequence[jax.Device]) -> dict[str, str | int]:
  """What a result's last digits depend on besides, of what computes it.

  On a CPU that is also how many cores there are for this process: XLA divides
  a convolution among them, and adds up in another order.
  """
  kind = devices[0].platform
  found: dict[str, str | int] = {"platform": kind, "device": ", ".join(
      sorted({device.device_kind for device in devices}))}
  if kind == "cpu":
    found["cores"] = len(os.sched_getaffinity(0)) if hasattr(
        os, "sched_getaffinity") else os.cpu_count() or 1
  return found


def randomness() -> dict[str, Any]:
  """Settings of jax by which other random numbers are drawn, if there are any.

  Its usual ones are left out.
  """
  found = {name: getattr(jax.config, f"jax_{name}") for name in _USUAL}
  differ = {name: value for name, value in found.items()
            if value != _USUAL[name]}
  return {"randomness": differ} if differ else {}


def _number(value):
  """A number of numpy's as one of Python's, which JSON can have."""
  if isinstance(value, np.generic):
    return value.item()
  raise TypeError(f"{type(value).__name__} is nothing that JSON can have")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
  """Writes a JSON file under a temporary name and renames it."""
  metrics_lib.write_text(
      path, json.dumps(value, indent=2, default=_number) + "\n")


def write_kept(path: str | os.PathLike[str], value: Any) -> None:
  """Writes JSON that the run reads again, and its checksum."""
  _write_kept(pathlib.Path(path),
              json.dumps(value, indent=2, default=_number) + "\n")


def _write_kept(path, text):
  """Writes a text, and before it its checksum."""
  with kept(path) as temporary:
    temporary.write_bytes(text.encode())


@contextlib.contextmanager
def kept(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Yields where to write a file that the run reads again, and renames it.

  Before that its checksum goes to `checksums.json` beside it, which has of
  every file those that it may have: of what it was and of what it becomes,
  since a kill may leave either. The first file that is kept seals the run's
  configuration with it, and its result the rows of metrics and which networks
  there are.
  """
  temporary = path.with_name(f".{path.name}.tmp")
  yield temporary
  config, sums = path.with_name(CONFIG), _sums(path.parent)
  if CONFIG not in sums and config.is_file():
    sums[CONFIG] = [_sum(config)]
  if path.name == RESULT and config.is_file():  # Of a run that is finished.
    results = path.parent.glob(f"{NETWORKS}/*/{RESULT}")
    sums.update({f"{NETWORKS}/{p.parent.name}": [_sum(p)] for p in results})
    if (rows := path.with_name(METRICS)).is_file():
      sums[METRICS] = [_sum(rows)]
  write_json(path.with_name(CHECKSUMS), {
      **sums, **_whose(path.parent),
      path.name: sorted({_sum(p) for p in (path, temporary) if p.is_file()})})
  os.replace(temporary, path)


def adopt(network: pathlib.Path, target: pathlib.Path) -> None:
  """Copies a trained network into another run, which then takes it for its own.

  Args:
    network: the folder of one, in a run that trained it by the settings, images
      and seed by which the other would.
    target: the network's folder in the other run; what is there is removed.

  Raises:
    InputError: it is not what its run wrote.
  """
  read_json(network / RESULT)
  shutil.rmtree(target, ignore_errors=True)
  shutil.copytree(network, target, ignore=shutil.ignore_patterns("checkpoint"))
  write_json(target / CHECKSUMS, {**_sums(target), **_whose(target)})


def _whose(folder):
  """Of a network's folder a checksum of the run and of the folder's name."""
  if folder.parent.name not in (NETWORKS, REFUSED):
    return {}
  try:
    config = parsing.load_json((folder.parent.parent / CONFIG).read_text(
        encoding="utf-8"))
  except (OSError, ValueError):
    return {}
  kept = {k: config.get(k) for k in _WHOSE} if isinstance(config, dict) else {}
  return {_OF: [zlib.crc32(json.dumps(
      [folder.name, kept], sort_keys=True).encode())]}


def _sum(path):
  """The checksum of a file, of which a part at a time is held."""
  found = 0
  with path.open("rb") as file:
    while part := file.read(1 << 24):
      found = zlib.crc32(part, found)
  return found


def _sums(folder):
  """The checksums of a folder's files; none of a run that kept none."""
  path = folder / CHECKSUMS
  if not path.is_file():
    return {}
  try:
    found = parsing.load_json(path.read_text(encoding="utf-8"))
    shapes.check(found, {"*": [int]}, str(path), _DAMAGED)
  except ValueError as e:  # InputError, too.
    raise errors.InputError(
        f"{path} is damaged; {_DAMAGED}", "overwrite") from e
  return found


def check_sum(path: pathlib.Path) -> None:
  """Refuses a file that is not what the run wrote; of others nothing is known.

  Raises:
    InputError: its checksum is not among those that the run kept, or the file
      of these is gone; or it is the result of another seed's network.
  """
  _check_kept(path)
  allowed = _sums(path.parent).get(path.name)
  if allowed and path.is_file() and _sum(path) not in allowed:
    raise errors.InputError(
        f"{path} is not what the run wrote (its checksum differs); {_DAMAGED};"
        " to use what you changed, name a copy of it elsewhere", "overwrite")
  if path.name == "result.json" and path.parent.parent.name in (
      NETWORKS, REFUSED):
    _check_seed(path.parent)
  said, found = (sums.get(_OF) for sums in (
      _sums(path.parent), _whose(path.parent)))
  if None not in (said, found) and said != found:
    raise errors.InputError(
        f"{path.parent} is not what the run put there: it is of another run,"
        f" has another network's name, or {CONFIG} was changed; {_DAMAGED}",
        "overwrite")


def _check_kept(path):
  """Refuses a file whose run keeps checksums, where it has none.

  A run says in its configuration that it keeps them: earlier ones did not.
  """
  folder = path.parent
  if not (path.name in _CHECKED or path.match(_DERIVED)) or not (
      path.is_file()) or _sums(folder).get(path.name):
    return
  out = folder
  if folder.name == "checkpoint":
    out = folder.parent
  elif folder.parent.name in (NETWORKS, REFUSED):
    out = folder.parent.parent
  try:
    config = parsing.load_json((out / CONFIG).read_text(encoding="utf-8"))
  except (OSError, ValueError):
    return
  if isinstance(config, dict) and config.get("checksums"):
    lacks = f"lacks {path.name}" if (folder / CHECKSUMS).exists() else (
        f"is gone, by which {path.name} is checked")
    raise errors.InputError(
        f"{folder / CHECKSUMS} {lacks}; {_DAMAGED}", "overwrite")


def _check_sums(out):
  """Refuses a run whose files are not what it wrote; those gone are gone."""
  for folder in (out, out / "checkpoint", out / "checkpoint" / INHERITED,
                 *out.glob(f"{NETWORKS}/*"), *out.glob(f"{REFUSED}/*")):
    for path in (*(folder / name for name in _CHECKED),
                 *folder.glob(_DERIVED)):
      _check_kept(path)
    held = _sums(folder)
    if not (folder / RESULT).is_file():
      held.pop(METRICS, None)  # To which more are added.
    for path in (path for path in folder.glob("*") if path.name in held):
      check_sum(path)


def _check_seed(folder):
  """Refuses a network's folder that has the name of another seed."""
  try:
    found = parsing.load_json((folder / "result.json").read_text(
        encoding="utf-8"))
  except (OSError, ValueError):
    return  # It is missed, or refused, where it is read.
  seed = found.get("seed") if isinstance(found, dict) else None
  name = folder.name.rpartition("-")[2]
  if isinstance(seed, int) and name.isdigit() and int(name) != seed:
    raise errors.InputError(
        f"{folder} holds the network of seed {seed}; {_DAMAGED}", "overwrite")


def open_run(out: str | os.PathLike[str], config: dict[str, Any], *,
             overwrite: bool = False, strict: bool = False) -> pathlib.Path:
  """Opens a run directory for what `config` asks for.

  Args:
    out: the directory; made if it is not there.
    config: JSON values, all that the run is a function of.
    overwrite: remove what an earlier run left there and start anew.
    strict: whether an unfinished run that began under other versions of Python
      and the packages, or on another kind of device, is refused; it else goes
      on, with a warning (`errors.ResumedElsewhere`), and both are kept.

  Returns:
    The path.

  Raises:
    InputError: a file stands there, a folder that holds no run, a run of
      another configuration, an unfinished one of another version, or one whose
      files are not what it wrote.
  """
  out = errors.path(out, "out")
  errors.in_unicode(out, "out")
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
                 *out.glob("seed-*"), *out.glob(PARTS), out / CONFIG]:
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink(missing_ok=True)
  elif known:
    old = read_config(out)
    shapes.check(old, shapes.RESUMED, str(out / CONFIG), _DAMAGED, "overwrite")
    _check_same(out, dict(old), config)
    _check_kinds(out)
    _check_sums(out)
    _check_where(out, old, config, strict)
    return out
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    raise errors.InputError(f"{out} cannot be made: {e.strerror}; name another"
                            " folder", "out") from e
  write_json(out / CONFIG, config)
  return out


def forget(out: str | os.PathLike[str]) -> None:
  """Removes the folder of a run that was refused before it began."""
  out = errors.path(out, "out")
  left = {path.name for path in out.iterdir()}
  if left <= {CONFIG, latency_lib.FILE}:
    for name in left:
      (out / name).unlink()
    out.rmdir()


@contextlib.contextmanager
def locked(out: str | os.PathLike[str]) -> Iterator[None]:
  """Holds a folder, so that one process at a time runs there.

  The system lets go of it where a process ends, in whatever way. A folder that
  is not there, or on a disk that knows no locks, is not held.

  Raises:
    InputError: another process holds it.
  """
  try:
    descriptor = os.open(errors.path(out, "out"), os.O_RDONLY)
  except OSError:
    yield
    return
  try:
    if fcntl is not None:
      try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
      except BlockingIOError as e:
        raise errors.InputError(
            f"another process runs in {out}; wait until it has ended, or name"
            " another folder", "out") from e
      except OSError:
        pass
    yield
  finally:
    os.close(descriptor)


def write_architecture(out: pathlib.Path,
                       architecture: codec.Architecture) -> None:
  """Writes the architecture that a run has or comes to.

  Beside the JSON, `architecture.txt` has it in the words of the field: DARTS's
  `Genotype(...)`, or the string of NAS-Bench-201. Other networks have none.
  """
  _write_kept(out / ARCHITECTURE, codec.to_json(architecture) + "\n")
  if (text := exports.shortest(architecture)) is None:
    (out / TEXT).unlink(missing_ok=True)
  else:
    metrics_lib.write_text(out / TEXT, text + "\n")


def read_architecture(out: str | os.PathLike[str]) -> codec.Architecture:
  """Reads the architecture that a finished run has or came to.

  Of a run over several seeds that of the first; `out/seed-3` is a run too, and
  so is `out/architecture-1` of one of several given architectures. Of the
  folder of one of a run's networks, its own.

  Raises:
    InputError: `out` holds no run, one that is not finished, or one of several
      given architectures.
  """
  out = errors.path(out)
  if not _holds_run(out):
    if (out / RESULT).is_file() and (out / WEIGHTS).is_file():
      return codec.from_dict(  # One of a run's networks.
          read_json(out / RESULT, shapes.NETWORK)["architecture"],
          where=f"{out / RESULT}: architecture")
    raise errors.InputError(
        f"{out} is a folder and holds no run of natjax; name a run's folder,"
        " that of one of its networks, or a file")
  if not (out / RESULT).is_file():
    raise errors.InputError(
        f"{out} holds a run that is not finished; resume it by the command that"
        " began it, or name another")
  if read_config(out)["kind"] == "union":
    parts = sorted(p.relative_to(out) for p in (
        *out.glob(PARTS), *out.glob(f"seed-*/{PARTS}")) if p.is_dir())
    raise errors.InputError(
        f"{out} holds a run of several architectures; name one of its folders:"
        f" {', '.join(map(str, parts))}")
  check_sum(out / ARCHITECTURE)
  return codec.read(out / ARCHITECTURE)


def sizes(out: str | os.PathLike[str]) -> dict[str, int]:
  """Image size and number of classes of a run, or of one of its networks.

  And the features of an embedding, where these are learnt. Nothing of what is
  no such folder.

  Raises:
    InputError: the file that has them is damaged.
  """
  out = errors.path(out)
  if _holds_run(out):
    path, config = out / CONFIG, read_config(out, shapes.CONFIG)
    # Without labels there is no classifier.
    found = {"image_size": config["image_size"], "num_classes": (
        0 if config.get("simclr") else config["classes"]), **(
            config.get("arcface", {}) and {
                "embedding": config["arcface"].get("embedding")})}
  elif (out / RESULT).is_file() and (out / WEIGHTS).is_file():
    path = out / RESULT
    place = read_json(path, shapes.NETWORK)["place"]
    found = {name: place.get(name) for name in (
        "image_size", "num_classes", *{"embedding"} & {*place})}
  else:
    return {}
  least = {"image_size": 1, "num_classes": 0, "embedding": 0}
  if any(type(n) is not int or n < least[name] for name, n in found.items()):
    raise errors.InputError(
        f"{path} is damaged: a network for {found['num_classes']} classes of"
        f" images of {found['image_size']} pixels; {_DAMAGED}", "overwrite")
  return found


def finished(out: str | os.PathLike[str]) -> bool:
  """Whether a run came to its end: its `result.json` is written last."""
  return (errors.path(out) / RESULT).is_file()


def find_result(processes: distributed.Processes,
                folder: str | os.PathLike[str]) -> dict[str, Any] | None:
  """What the first process finds in a folder's `result.json`.

  Args:
    processes: that run the job.
    folder: of a run, or of one of its networks.

  Raises:
    InputError: in all processes, if the file is damaged.
  """
  folder = pathlib.Path(folder)

  def find():
    if not (folder / RESULT).exists():
      return None
    if not (folder / CONFIG).exists():
      return read_json(folder / RESULT, shapes.NETWORK)
    return read_json(folder / RESULT, shapes.RUNS[read_config(folder)["kind"]])

  return processes.of_first(find)


def trained(out: pathlib.Path) -> list[pathlib.Path]:
  """The results of the trained networks of a run, in its folders."""
  results = f"{NETWORKS}/*/{RESULT}"
  return sorted(path for folder in (
      "", "seed-*/", f"{PARTS}/", f"seed-*/{PARTS}/")
                for path in out.glob(folder + results))


def gone(out: str | os.PathLike[str]) -> list[str]:
  """What a finished run had, and has no more.

  These are the folders of trained networks, their weights, the architecture and
  the metrics.

  Returns:
    Their paths within the run; those of an earlier version are not known.
  """
  out = errors.path(out)
  found = []
  for folder in (out, *out.glob("seed-*"), *out.glob(PARTS),
                 *out.glob(f"seed-*/{PARTS}")):
    for name in _sums(folder):
      path = folder / name
      if name.startswith(f"{NETWORKS}/"):
        if not (path / RESULT).is_file():
          found.append(path)
        elif WEIGHTS in _sums(path) and not (path / WEIGHTS).is_file():
          found.append(path / WEIGHTS)
      elif (name in (ARCHITECTURE, METRICS) and not path.is_file()
            and (folder / RESULT).is_file()):
        found.append(path)
  return sorted(str(path.relative_to(out)) for path in found)


def lacking(out: str | os.PathLike[str]) -> str:
  """What `gone` finds, in words; "" of a run that has all."""
  if not (found := gone(out)):
    return ""
  return (f"{', '.join(found)}, which it had when it was finished,"
          f" {'is' if len(found) == 1 else 'are'} gone")


def _check_same(out, old, new):
  """Refuses to go on with a run of another configuration or version."""
  plain = json.loads(json.dumps(new, default=_number))
  versions = [c.pop("version", _FIRST) for c in (old, plain)]
  for config in (old, plain):  # Data may move; the checksum says what it is.
    source = config.pop("source", None) or {}
    if source.get("stream"):  # But it knows no pixels of what stays on disk.
      config["resize"] = source.get("resize", "stretch")
    config.pop("checksums", None)
    for name in _WHERE:
      config.pop(name, None)
      config.pop(f"{name}_before", None)
  spaces = [config.get("space") or {} for config in (old, plain)]
  if any(_NUMBERED.search(name) for name in spaces[0].get("replacements", {})):
    for space in spaces:  # The same places under other names.
      space.pop("replacements", None)
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


def _check_where(out, old, new, strict):
  """Refuses other versions or devices, or warns of them and keeps both."""
  moved = {name: (old[name], new[name]) for name in _WHERE
           if None not in (old.get(name), new.get(name)) and any(
               old[name].get(key) not in (None, value)
               for key, value in new[name].items())}
  if not moved or (out / RESULT).exists():
    return
  shown = " and ".join(", ".join(
      f"{key} {pair[i].get(key)}" for pair in moved.values()
      for key in pair[1] if pair[0].get(key) not in (None, pair[1][key]))
                       for i in (0, 1))
  began = " and ".join(_WHERE[name] for name in moved)
  if strict:
    mend = "install those" if [*moved] == ["versions"] else "resume it there"
    raise errors.InputError(
        f"{out} holds an unfinished run that began {began}: {shown} here;"
        f" {mend}, or leave strict out", "strict")
  write_kept(out / CONFIG, {
      **old, **{name: now for name, (_, now) in moved.items()},
      **{f"{name}_before": [*old.get(f"{name}_before", []), before]
         for name, (before, _) in moved.items()}})
  warnings.warn(f"{out} began {began} ({shown} here); it goes on, and its"
                " numbers may differ in their last digits",
                errors.ResumedElsewhere, stacklevel=2)
