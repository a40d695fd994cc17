"""Run directories: what a run leaves behind, and how it is found again.

A run directory holds `config.json` (what was asked for), `metrics.jsonl`,
`architecture.json`, `result.json`, a picture, a checkpoint, and trained
weights as `weights.npz`; of several seeds or several given architectures it
holds a run directory for each. A run is resumed by asking for the same again; a
directory that holds anything else is never touched.
"""

from collections.abc import Iterator, Sequence
import contextlib
import errno
import fnmatch
import json
import os
import pathlib
import platform
import re
import shutil
from typing import Any
import warnings

import flax
import jax
import jaxlib
import numpy as np
import optax

from natjax import errors, methods
from natjax.graph import codec
from natjax.methods import latency as latency_lib
from natjax.pipeline import run_files, shapes
from natjax.training import distributed
from natjax.training import metrics as metrics_lib
from natjax.zoo import exports

try:
  import fcntl
except ImportError:  # Not on Windows.
  fcntl = None  # type: ignore[assignment]

# All that a run writes into its directory, besides the pictures of its method;
# overwriting removes these alone.
_OWN = (run_files.RESULT, run_files.METRICS, run_files.ARCHITECTURE,
        run_files.TEXT, run_files.WEIGHTS, run_files.CHECKSUMS,
        run_files.NETWORKS, run_files.REFUSED, run_files.POINTS,
        run_files.CHECKPOINT, latency_lib.FILE, "architecture.svg",
        "architecture.png", "curves.png", "explanation.svg", "tensorboard")
# Of these the folders.
_FOLDERS = (run_files.NETWORKS, run_files.REFUSED, run_files.POINTS,
            run_files.CHECKPOINT, "tensorboard")
# A first start that was killed leaves these at most.
_BEGUN = (f".{run_files.CONFIG}.tmp", run_files.CHECKSUMS,
          f".{run_files.CHECKSUMS}.tmp")
# Folders of seeds, and of the parts of a union.
_PART = re.compile(r"(seed|architecture)-\d+")
_KINDS = tuple(shapes.RUNS)
# What wrote no version; its commit is 729c84a.
_FIRST = "0.1.0"
# What a run may go on under others of, and how that is told.
_WHERE = {"versions": "under other versions", "machine": "on another device",
          "compiler": "under other settings of the compiler"}
# Keys of the configuration that say little by themselves.
_SUMS = {"crc32": "the images' crc32", "sampled": "the crc32 of some images"}
# Of jax, by which a program that is compiled computes otherwise.
_COMPILING = ("default_matmul_precision", "disable_most_optimizations",
              "optimization_level")
# Of XLA's flags those by which no number changes.
_ASIDE = ("--xla_dump", "--xla_force_host_platform_device_count")
# Of jax, by which random numbers are drawn.
_USUAL = {"default_prng_impl": "threefry2x32", "random_seed_offset": 0,
          "threefry_partitionable": True, "enable_x64": False}
# Until 0.2.0 the places of replacements had their edges' numbers for names.
_NUMBERED = re.compile(r", edge \d+$")


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
  path = errors.path(out) / run_files.CONFIG
  config = run_files.load_json(path)
  if not _is_config(config):
    raise errors.InputError(f"{out} holds no run of natjax, but another"
                            f" {run_files.CONFIG}; name a run's folder")
  shapes.check(config, shape, str(path), run_files.DAMAGED, "overwrite")
  run_files.check_sum(path)
  return config


def _holds_run(out):
  """Whether a run's configuration is there; a damaged one may be a run's."""
  try:
    return _is_config(run_files.load_json(out / run_files.CONFIG))
  except errors.InputError as e:
    if isinstance(e.__cause__, PermissionError):
      raise
    return isinstance(e.__cause__, ValueError)


def _is_config(found):
  """Whether JSON is what a run was asked for."""
  return isinstance(found, dict) and found.get("kind") in _KINDS


def _holds_network(out):
  """Whether this is the folder of a run's trained network."""
  return all((out / name).is_file()
             for name in (run_files.RESULT, run_files.WEIGHTS))


def _check_kinds(out):
  """Refuses a file where a run has a folder, and a folder for a file."""
  names = (run_files.RESULT, run_files.METRICS,
           run_files.ARCHITECTURE, run_files.WEIGHTS)
  for name in (*names, run_files.NETWORKS, run_files.CHECKPOINT):
    for path in (out / name, *out.glob(f"{run_files.NETWORKS}/*/{name}")):
      if path.exists() and path.is_dir() is (name in names):
        there, wanted = "folder", "file"
        if name not in names:
          there, wanted = wanted, there
        raise errors.InputError(f"{path} is a {there} and must be a {wanted};"
                                f" {run_files.DAMAGED}", "overwrite")


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


def compiler() -> dict[str, str]:
  """What a result's last digits depend on besides, of how it is compiled."""
  flags = sorted(flag for flag in os.environ.get("XLA_FLAGS", "").split()
                 if not flag.startswith(_ASIDE))
  return {"flags": " ".join(flags) or "none", **{
      name: str(jax.config.values.get(f"jax_{name}")) for name in _COMPILING}}


def randomness() -> dict[str, Any]:
  """Settings of jax by which other random numbers are drawn, if there are any.

  Its usual ones are left out.
  """
  found = {name: getattr(jax.config, f"jax_{name}") for name in _USUAL}
  differ = {name: value for name, value in found.items()
            if value != _USUAL[name]}
  return {"randomness": differ} if differ else {}


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
    InputError: as `check`.
  """
  out = errors.path(out, "out")
  known = check(out, config, overwrite=overwrite)
  if known and overwrite:
    pictures = {p for e in methods.METHODS.values() for p in e.drawn}
    # The configuration goes last: what a kill leaves is still known for a run.
    for path in [*(out / name for name in (*_OWN, *pictures)), *filter(
        _is_part, [*out.glob("seed-*"), *out.glob(run_files.PARTS)]),
                 out / run_files.CONFIG]:
      if path.is_dir():
        shutil.rmtree(path)
      else:
        path.unlink(missing_ok=True)
  elif known:
    _check_where(out, read_config(out), config, strict)
    return out
  try:
    out.mkdir(parents=True, exist_ok=True)
  except OSError as e:
    if errors.disk_full(e):
      raise
    raise errors.InputError(f"{out} cannot be made: {e.strerror}; name another"
                            " folder", "out") from e
  run_files.write_kept(out / run_files.CONFIG, config)
  return out


def _is_part(path):
  """Whether a folder is that of a seed or a part of a run, and not a user's."""
  left = {run_files.CONFIG, *_BEGUN, *_OWN}
  return path.is_dir() and _PART.fullmatch(path.name) is not None and (
      not (held := {inner.name for inner in path.iterdir()})
      or not held.isdisjoint(left))


def check(out: str | os.PathLike[str], config: dict[str, Any] | None, *,
          overwrite: bool = False) -> bool:
  """Refuses a folder in which a run cannot be; nothing is changed.

  Args:
    out: the directory; it need not be there.
    config: as for `open_run`; None where not all of it is known, and a run that
      is there is not compared.
    overwrite: whether what an earlier run left there is going to be removed.

  Returns:
    Whether a run is there.

  Raises:
    InputError: a file stands there, a folder that holds no run, a run of
      another configuration, an unfinished one of another version, one whose
      files are not what it wrote, or it lies in another run's own folders or
      where none can be made.
  """
  out = errors.path(out, "out")
  errors.in_unicode(out, "out")
  _check_place(out)
  known = _holds_run(out)
  if out.is_dir() and not known and any(
      path.name not in _BEGUN for path in out.iterdir()):
    raise errors.InputError(f"{out} is not empty and holds no run of natjax;"
                            " name another folder", "out")
  if known and not overwrite:
    old = read_config(out)
    shapes.check(old, shapes.RESUMED, str(out / run_files.CONFIG),
                 run_files.DAMAGED, "overwrite")
    if config is not None:
      _check_same(out, dict(old), config)
    _check_kinds(out)
    run_files.check_sums(out)
  return known


def _check_place(out):
  """Refuses what is no folder, and where none can be made or a run reads."""
  nearest = next(path for path in (out, *out.absolute().parents)
                 if os.path.lexists(path))
  if not nearest.exists():
    raise errors.InputError(
        f"{nearest} is a link to {os.readlink(nearest)}, which is not there;"
        " make that folder, or name another", "out")
  if out.exists() and not out.is_dir():
    raise errors.InputError(f"{out} is a file; name a folder", "out")
  for kind, fits in ((errno.ENOTDIR, nearest.is_dir()), (
      errno.EACCES, os.access(nearest, os.W_OK))):
    if not fits and not out.exists():
      raise errors.InputError(f"{out} cannot be made: {os.strerror(kind)}; name"
                              " another folder", "out")
  for whole in map(pathlib.Path, (os.path.abspath(out), os.path.realpath(out))):
    for run in whole.parents:
      if (run / run_files.CONFIG).is_file() and not _may_hold(
          run, whole.relative_to(run)):
        raise errors.InputError(
            f"{out} lies in {whole.relative_to(run).parts[0]}, a folder of the"
            f" run in {run}, which would take it for its own; name a folder"
            " elsewhere", "out")


def _may_hold(run, within):
  """Whether a folder may hold a run, which may lie in another run's folder.

  Args:
    run: a folder.
    within: the path from there.
  """
  first = within.parts[0]
  part = fnmatch.fnmatch(first, run_files.PARTS)
  if first not in _FOLDERS and not part and not fnmatch.fnmatch(
      first, "seed-*"):
    return True
  try:
    config = run_files.load_json(run / run_files.CONFIG)
  except errors.InputError:
    return True
  if not _is_config(config):
    return True
  if part:
    return config["kind"] == "union"
  seeds = config.get("seeds")
  return isinstance(seeds, list) and first in {f"seed-{n}" for n in seeds}


def forget(out: str | os.PathLike[str]) -> None:
  """Removes the folder of a run that was refused before it began."""
  out = errors.path(out, "out")
  left = {path.name for path in out.iterdir()}
  if left <= {run_files.CONFIG, run_files.CHECKSUMS, latency_lib.FILE}:
    for name in left:
      (out / name).unlink()
    out.rmdir()


@contextlib.contextmanager
def locked(out: str | os.PathLike[str]) -> Iterator[None]:
  """Holds a folder, so that one process at a time runs there.

  The system lets go of it where a process ends, in whatever way. A folder that
  is not there is made, and goes again if nothing was put into it; where it
  cannot be made, or on a disk that knows no locks, it is not held.

  Raises:
    InputError: another process holds it.
  """
  out = errors.path(out, "out")
  made: list[pathlib.Path] = []
  try:
    made = [path for path in (out, *out.parents) if not path.exists()]
    out.mkdir(parents=True, exist_ok=True)
  except (OSError, ValueError):
    pass  # `open_run` says why.
  try:
    descriptor = os.open(out, os.O_RDONLY)
  except (OSError, ValueError):
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
    with contextlib.suppress(OSError):
      for path in made:
        path.rmdir()  # If it is empty.
    os.close(descriptor)


def write_architecture(out: pathlib.Path,
                       architecture: codec.Architecture) -> None:
  """Writes the architecture that a run has or comes to.

  Beside the JSON, `architecture.txt` has it in the words of the field: DARTS's
  `Genotype(...)`, or the string of NAS-Bench-201. Other networks have none.
  """
  with run_files.kept(out / run_files.ARCHITECTURE) as temporary:
    temporary.write_bytes((codec.to_json(architecture) + "\n").encode())
  if (text := exports.shortest(architecture)) is None:
    (out / run_files.TEXT).unlink(missing_ok=True)
  else:
    metrics_lib.write_text(out / run_files.TEXT, text + "\n")


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
    if _holds_network(out):
      return codec.from_dict(  # One of a run's networks.
          run_files.read_json(out / run_files.RESULT,
                              shapes.NETWORK)["architecture"],
          where=f"{out / run_files.RESULT}: architecture")
    raise errors.InputError(
        f"{out} is a folder and holds no run of natjax; name a run's folder,"
        " that of one of its networks, or a file")
  if not (out / run_files.RESULT).is_file():
    raise errors.InputError(
        f"{out} holds a run that is not finished; resume it by the command that"
        " began it, or name another")
  if read_config(out)["kind"] == "union":
    parts = sorted(p.relative_to(out) for p in (
        *out.glob(run_files.PARTS), *out.glob(f"seed-*/{run_files.PARTS}"))
                   if p.is_dir())
    raise errors.InputError(
        f"{out} holds a run of several architectures; name one of its folders:"
        f" {', '.join(map(str, parts))}")
  run_files.check_sum(out / run_files.ARCHITECTURE)
  return codec.read(out / run_files.ARCHITECTURE)


def sizes(out: str | os.PathLike[str]) -> dict[str, int]:
  """Image size and number of classes of a run, or of one of its networks.

  And the features of an embedding, where these are learnt. Nothing of what is
  no such folder.

  Raises:
    InputError: the file that has them is damaged.
  """
  out = errors.path(out)
  if _holds_run(out):
    path, config = out / run_files.CONFIG, read_config(out, shapes.CONFIG)
    # Without labels there is no classifier.
    found = {"image_size": config["image_size"], "num_classes": (
        0 if config.get("simclr") else config["classes"]), **(
            config.get("arcface", {}) and {
                "embedding": config["arcface"].get("embedding")})}
  elif _holds_network(out):
    path = out / run_files.RESULT
    place = run_files.read_json(path, shapes.NETWORK)["place"]
    found = {name: place.get(name) for name in (
        "image_size", "num_classes", *{"embedding"} & {*place})}
  else:
    return {}
  least = {"image_size": 1, "num_classes": 0, "embedding": 0}
  if any(type(n) is not int or n < least[name] for name, n in found.items()):
    raise errors.InputError(
        f"{path} is damaged: a network for {found['num_classes']} classes of"
        f" images of {found['image_size']} pixels; {run_files.DAMAGED}",
        "overwrite")
  return found


def finished(out: str | os.PathLike[str]) -> bool:
  """Whether a run came to its end: its `result.json` is written last."""
  return (errors.path(out) / run_files.RESULT).is_file()


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
    if not (folder / run_files.RESULT).exists():
      return None
    if not (folder / run_files.CONFIG).exists():
      return run_files.read_json(folder / run_files.RESULT, shapes.NETWORK)
    return run_files.read_json(folder / run_files.RESULT,
                               shapes.RUNS[read_config(folder)["kind"]])

  return processes.of_first(find)


def trained(out: pathlib.Path) -> list[pathlib.Path]:
  """The results of the trained networks of a run, in its folders."""
  results = f"{run_files.NETWORKS}/*/{run_files.RESULT}"
  return sorted(path for folder in (
      "", "seed-*/", f"{run_files.PARTS}/", f"seed-*/{run_files.PARTS}/")
                for path in out.glob(folder + results))


def _check_same(out, old, new):
  """Refuses to go on with a run of another configuration or version."""
  plain = json.loads(json.dumps(new, default=run_files.plain))
  versions = [c.pop("version", _FIRST) for c in (old, plain)]
  for config in (old, plain):
    _drop_where(config)
  for name in ("sampled", "normalization"):
    if name not in old:  # As of runs before it was looked at.
      plain.pop(name, None)
  spaces = [config.get("space") or {} for config in (old, plain)]
  if "content" not in spaces[0] and isinstance(spaces[1], dict):
    spaces[1].pop("content", None)
  if any(_NUMBERED.search(name) for name in spaces[0].get("replacements", {})):
    for space in spaces:  # The same places under other names.
      space.pop("replacements", None)
  if differ := _differing(old, plain, "there", "here"):
    raise errors.InputError(
        f"{out} holds a run of another configuration ({differ}); give the same"
        " settings to resume it, name another folder, or overwrite it",
        "overwrite")
  if versions[0] != versions[1] and not (out / run_files.RESULT).exists():
    commit = " (commit 729c84a)" if versions[0] == _FIRST else ""
    raise errors.InputError(
        f"{out} holds an unfinished run of natjax {versions[0]}{commit}, which"
        f" natjax {versions[1]} does not resume; finish it with that version,"
        " name another folder, or overwrite it", "overwrite")


def _drop_where(config):
  """Leaves what a run is, wherever it runs."""
  source = config.pop("source", None) or {}
  if source.get("stream"):  # The checksum knows no pixels of what is on disk.
    config["resize"] = source.get("resize", "stretch")
  config.pop("checksums", None)
  for name in _WHERE:
    config.pop(name, None)
    config.pop(f"{name}_before", None)


def _differing(one, other, *whose):
  """What differs in two configurations, in words; "" if nothing does."""
  flat = [flax.traverse_util.flatten_dict(c, sep=".") for c in (one, other)]
  differ = [key for key in sorted({*flat[0], *flat[1]})
            if flat[0].get(key) != flat[1].get(key)]
  shown = ", ".join(f"{_SUMS.get(k, k)} " + " and ".join(
      f"{errors.short(c.get(k))} {place}"
      for c, place in zip(flat, whose, strict=True)) for k in differ[:3])
  return shown + f" and {len(differ) - 3} more" * (len(differ) > 3)


def check_alike(processes: distributed.Processes,
                config: dict[str, Any]) -> None:
  """Refuses processes of one run that were given different things.

  Their checkpoints and arrays would be of no one configuration. Where the data
  lie, and on what machine, may differ.

  Args:
    processes: that call this, all of them.
    config: of this one, as `config.json` holds it.

  Raises:
    InputError: in all processes; names what differs.
  """
  own = json.loads(json.dumps(config, default=run_files.plain))
  _drop_where(own)
  first, *others = processes.gather(own)
  for number, other in enumerate(others, 1):
    if differ := _differing(
        first, other, "in process 0", f"in process {number}"):
      raise errors.InputError(
          f"the processes were not given the same ({differ}); give all of them"
          " one command and the same data")


def _check_where(out, old, new, strict):
  """Refuses other versions or devices, or warns of them and keeps both."""
  moved = {name: (old[name], new[name]) for name in _WHERE
           if None not in (old.get(name), new.get(name)) and any(
               old[name].get(key) not in (None, value)
               for key, value in new[name].items())}
  if not moved or (out / run_files.RESULT).exists():
    return
  shown = " and ".join(", ".join(
      f"{key} {pair[i].get(key)}" for pair in moved.values()
      for key in pair[1] if pair[0].get(key) not in (None, pair[1][key]))
                       for i in (0, 1))
  began = " and ".join(_WHERE[name] for name in moved)
  if strict:
    mend = {"versions": "install those", "compiler": "set those"}.get(
        " ".join(moved), "resume it there")
    raise errors.InputError(
        f"{out} holds an unfinished run that began {began}: {shown} here;"
        f" {mend}, or leave strict out", "strict")
  run_files.write_kept(out / run_files.CONFIG, {
      **old, **{name: now for name, (_, now) in moved.items()},
      **{f"{name}_before": [*old.get(f"{name}_before", []), before]
         for name, (before, _) in moved.items()}})
  warnings.warn(f"{out} began {began} ({shown} here); it goes on, and its"
                " numbers may differ in their last digits",
                errors.ResumedElsewhere, stacklevel=2)
