"""Trained weights that are given, to begin with."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import os
import pathlib
import tempfile
from typing import Any, NamedTuple
import warnings
import zlib

import flax
import jax
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.graph import codec, records
from natjax.interchange import files
from natjax.interchange import weights as interchange
from natjax.methods import acceptance, learnt, supervised
from natjax.methods import entry as entry_lib
from natjax.networks import inherit, trees
from natjax.networks import network as network_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import run_data, run_files, runs, shapes
from natjax.pipeline import trainer as trainer_lib
from natjax.training import settings

TRAIN_FROM = ("scratch", "inherited")
STARTS = ("drawn", "replace")


# A folder, a file, or the variables themselves.
Source = str | os.PathLike[str] | Mapping[str, Any]


class Beginning(NamedTuple):
  """Where a job's networks begin; see `job.Job`.

  Attributes:
    weights: of the given network, see `find`, or None.
    train_from: where networks begin that are trained after a search, or of a
      method that trains its networks itself, whether what it came to is also
      trained from scratch; None where that is what is usual (`of`).
    start: where the operations begin that the given network has not.
  """

  weights: Source | None
  train_from: str | None
  start: str

  @classmethod
  def of(cls, entry: entry_lib.Entry, weights: Source | None,
         train_from: str | None, start: str) -> "Beginning":
    """That of a method; what is usual of it may be said or left out.

    Usually the networks at the end are trained from scratch, and those of a
    method that trains them itself inherit what they have.
    """
    usual = TRAIN_FROM[entry.trained]
    return cls(weights, None if train_from == usual else train_from, start)

  @property
  def fresh(self) -> bool:
    """See `entry.Request`; of a method that trains its networks itself."""
    return self.train_from == "scratch"

  @property
  def inherits(self) -> bool:
    """Whether a supernet shares weights with trained networks."""
    return bool(self.weights is not None or self.train_from == "inherited"
                or self.start == "replace")

  def describe(self) -> dict[str, Any]:
    """What `config.json` says, beside the weights; of what is usual nothing."""
    return {**({} if self.train_from is None else {
        "train_from": self.train_from}),
            **({} if self.start == STARTS[0] else {"start": self.start})}

  def lead(self, request: entry_lib.Request, plan: entry_lib.Plan,
           entry: entry_lib.Entry, method: str, compare: bool
           ) -> entry_lib.Plan:
    """A method's plan, led in as this says.

    Args:
      request: that the plan answers.
      plan: of the method.
      entry: of the method.
      method: its name.
      compare: whether the original is trained beside.

    Raises:
      InputError: what the method cannot do, or what does not fit together.
    """
    for name, allowed in (
        ("train_from", (None, *TRAIN_FROM)), ("start", STARTS)):
      if (value := getattr(self, name)) not in allowed:
        raise errors.InputError(
            f"{settings.word(name)} is {errors.short(value)}; choose one of"
            f" {', '.join(filter(None, allowed))}", name)
    if self.inherits and request.others:
      raise errors.InputError(
          "several architectures share one search, and weights are inherited by"
          " one; leave --weights, --train-from and --start out, or give one"
          " architecture", "weights")
    if self.weights is not None:
      if plan.begin is None:
        self._refuse("weights", f"method '{method}' begins with none")
      if not compare:
        self._refuse("weights", "compare is False: they are the original's,"
                     " which needs no training to be compared with")
    if self.train_from == "inherited" and plan.inherit is None:
      self._refuse("train_from", f"method '{method}' holds no weights for"
                   " networks to inherit")
    if self.fresh and not entry.fresh:
      self._refuse("train_from", f"method '{method}' trains its networks"
                   " itself, with the weights that they have")
    if self.fresh and not acceptance.part(request.settings):
      self._refuse("train_from", "nothing is held out (held-out is 0) to"
                   " compare it by with what is inherited")
    if self.start == STARTS[0]:
      return plan
    trains = any(stage.epochs for stage in plan.method.stages)
    if plan.begin is None or entry.inherits or not trains:
      self._refuse("start", f"method '{method}' has no other operations that"
                   " could begin with what they have learnt")
    if not request.num_classes:
      self._refuse("start", "without labels nothing is replaced")
    if self.weights is None and not (entry.trained and compare):
      self._refuse("start", "there is no trained network to learn from; name"
                   " it by --weights")
    return learnt.before(plan, request)

  def _refuse(self, name, why):
    raise errors.InputError(
        f"{settings.word(name)} is {_shown(getattr(self, name))}, and {why};"
        " leave it out, or change the other", name)


def _shown(source):
  """How a line shows the source of weights, or another value."""
  return "given" if isinstance(source, Mapping) else source


@functools.cache
def _held():
  """A folder for variables that come in no file, as long as the process lives.
  """
  return tempfile.TemporaryDirectory(prefix="natjax-weights-")


def _hold(variables):
  """Writes variables to a file that is named by its content."""
  if not {"params"} <= set(variables):
    raise errors.InputError(
        "the weights given are a dictionary without 'params'; pass variables,"
        " as module.init or natjax.from_flax gives them", "weights")
  folder = pathlib.Path(_held().name)
  networks_lib.save_weights(folder / "new.npz", {
      "batch_stats": {}, **flax.core.unfreeze(variables)})
  content = zlib.crc32((folder / "new.npz").read_bytes())
  return (folder / "new.npz").replace(folder / f"{content:08x}.npz")


def read(path: pathlib.Path, architecture: codec.Architecture,
         trainer: trainer_lib.Trainer) -> Any:
  """The variables of an architecture in a file, checked.

  Args:
    path: of the file.
    architecture: whose.
    trainer: of the networks.

  Raises:
    InputError: as `check` and `networks.read_weights`.
  """
  return _read(path, architecture, trainer).variables


def _read(path, architecture, trainer):
  like = trainer.like(architecture)
  found = networks_lib.read_weights(
      path, architecture, trainer.place, trainer.like, seed=trainer.seed,
      classes=trainer.dataset.class_names)
  check(found.variables, like)
  # Without an auxiliary head beside.
  return found._replace(variables=trees.restrict(found.variables, like))


def usual_seeds(source: Source | None, config: supervised.TrainConfig
                ) -> supervised.TrainConfig:
  """Settings that nobody gave a number of seeds: of one network's weights, one.

  Args:
    source: of the weights; None draws them.
    config: the usual settings.
  """
  one = isinstance(source, Mapping)
  if isinstance(source, str | os.PathLike):
    holds = lambda name: os.path.isfile(os.path.join(source, name))
    one = os.path.isfile(source) or (
        holds(run_files.RESULT) and not holds(run_files.CONFIG))
  return dataclasses.replace(config, seeds=1) if one else config


def share(path: pathlib.Path, architecture: codec.Architecture,
          trainer: trainer_lib.Trainer) -> Any:
  """As `read`, of which the first process tells the others."""
  return trainer.share(
      architecture, lambda: read(path, architecture, trainer))


def hand_on(out: pathlib.Path, architecture: codec.Architecture, own: Any,
            trainer: trainer_lib.Trainer) -> None:
  """Writes what a network begins with that is trained after a search.

  Args:
    out: the run's folder.
    architecture: of the network.
    own: its variables; an auxiliary head that they lack is drawn.
    trainer: of the networks.
  """
  drawn = trainer.objective(architecture).init(jax.random.key(trainer.seed))
  own = inherit.renumbered(own, drawn)
  path = handed_on(out, architecture)
  path.parent.mkdir(parents=True, exist_ok=True)
  networks_lib.keep_weights(path, {
      kind: trees.restrict(trees.joined(tree, own[kind]), tree)
      for kind, tree in drawn.items()})


def handed_on(out: pathlib.Path,
              architecture: codec.Architecture) -> pathlib.Path:
  """The file of a run with what a network of an architecture begins with."""
  content = zlib.crc32(codec.to_json(architecture).encode())
  return out / "checkpoint" / run_files.INHERITED / f"{content:08x}.npz"


def find(source: Source, architecture: codec.Architecture,
         seeds: Sequence[int],
         like: Callable[[codec.Architecture], Any] | None = None
         ) -> dict[int, pathlib.Path]:
  """The files with an architecture's weights, one per seed.

  Args:
    source: a run's folder, whose networks of this architecture are taken, each
      by the seed of its name, or else in order; or for one seed the folder of a
      network, or a file, natjax's own or another library's, or what such a file
      of natjax's holds, "params" and "batch_stats".
    architecture: whose.
    seeds: of the networks.
    like: gives the shapes of an architecture's variables, by which a run whose
      networks are all of another one is said to differ.

  Raises:
    InputError: there is no such run or file, or it has fewer such networks.
  """
  if isinstance(source, Mapping):
    path = _hold(source)
  else:
    path = errors.path(source, "weights")
  if not path.exists():
    raise errors.InputError(
        f"weights is {source}, and there is no such file or folder; name a"
        " run's folder, that of one of its networks, or a file of weights",
        "weights")
  if not (path / run_files.CONFIG).exists() and (
      path / run_files.RESULT).is_file():
    path /= run_files.WEIGHTS  # The folder of a network.
    if not path.is_file():
      raise errors.InputError(
          f"weights is {source}, whose {run_files.WEIGHTS} is gone; train the"
          " network again, or name another", "weights")
  if path.is_file():
    if len(seeds) > 1:
      raise errors.InputError(
          f"weights is {_shown(source)}, one network, and {len(seeds)} seeds"
          " begin with one each; name the run's folder, or train one seed"
          " (seeds 1)", "weights")
    return {seeds[0]: path}
  with errors.within("weights"):
    folders = networks_lib.networks(path)
  held = {name: _architecture(folder) for name, folder in folders.items()}
  found = {name: folder / run_files.WEIGHTS for name, folder in folders.items()
           if held[name] in (architecture, codec.pad(architecture))}
  # Of a run that kept the original, the other is the same network.
  found = {name: path for name, path in found.items()
           if "transformed-" not in name} or found
  if not found:
    first, *others = {*held.values()}
    wrong = "" if like is None or others else _differs(
        next(iter(folders.values())), first, architecture, like)
    raise errors.InputError(
        f"no network of {source} ({', '.join(folders)}) is of this architecture"
        f" and its width{': ' * bool(wrong)}{wrong}; name the run that trained"
        " it, or give the width that it was trained with", "weights")
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


def _differs(folder, theirs, architecture, like):
  """What of a network's weights is not an architecture's, in words, or "".

  Args:
    folder: of the network.
    theirs: its architecture, None if that cannot be read.
    architecture: that was asked for.
    like: gives the shapes of an architecture's variables.
  """
  padded = theirs is not None and theirs == codec.pad(theirs)
  try:
    held = networks_lib.load_weights(folder / run_files.WEIGHTS)
  except errors.InputError:
    return ""
  return networks_lib.misfits(
      held, like(codec.pad(architecture) if padded else architecture))


def _architecture(folder):
  result = run_files.read_json(folder / run_files.RESULT)
  try:
    return codec.from_dict(result["architecture"])
  except (KeyError, TypeError, errors.InputError):
    return None


class Given(NamedTuple):
  """The weights that a job begins with.

  Attributes:
    files: of every seed.
    anew: why the classifier is drawn all the same, in words; "" if it is not.
  """

  files: dict[int, pathlib.Path]
  anew: str


def given(source: Source | None,
          architecture: codec.Architecture | None,
          trainer: trainer_lib.Trainer,
          seeds: Sequence[int] = ()) -> Given:
  """The files that a job's seeds begin with, checked; of None, none.

  Args:
    source: as `find`; None is none.
    architecture: whose.
    trainer: of the networks.
    seeds: that begin with one each; without, those of the trainer's networks.

  Raises:
    InputError: as `find`, `check` and `networks.read_weights`.
  """
  if source is None or architecture is None:
    return Given({}, "")
  found = find(source, architecture, seeds or range(
      trainer.seed, trainer.seed + trainer.config.seeds), trainer.like)
  anew, *_ = [_read(path, architecture, trainer).anew.replace(
      path.name, "the dictionary of weights" if isinstance(source, Mapping)
      else path.name) for path in found.values()]
  return Given(found, anew)


def note(found: Mapping[int, pathlib.Path],
         dataset: data_lib.Dataset) -> str:
  """In what their images differ from those of a job, in words; "" if not.

  As far as the run that trained them lies around the files. Other libraries'
  files do not say how images are prepared for them.
  """
  return "; ".join(filter(None, (
      _other_images(found, dataset), _normalised_otherwise(found, dataset))))


def _normalised_otherwise(found, dataset):
  """How images were normalised for a run's networks, if not as here."""
  here = dataset.mean, dataset.std
  for path in found.values():
    result = path.with_name(run_files.RESULT)
    if path.name != run_files.WEIGHTS or not result.is_file():
      continue
    held = run_files.read_json(result)
    try:
      there = tuple(np.array([held[name] for name in ("mean", "std")], float))
    except (KeyError, TypeError, ValueError):
      continue
    if np.shape(there) == (2, 3) and not np.allclose(there, here, 0, 0.02):
      return ("images were normalised for the weights by "
              f"{_moments(*there)}, and are here by {_moments(*here)}")
  return ""


def _moments(mean, std):
  mean, std = (" ".join(f"{x:.3f}" for x in part) for part in (mean, std))
  return f"mean {mean}, deviation {std}"


def _other_images(found, dataset):
  own = run_data.describe(dataset) if found else {}
  for path in found.values():
    if not files.is_own(path):
      return (f"{path.name} does not say how images are normalised for it; here"
              f" by {_moments(dataset.mean, dataset.std)}")
    folder = next((p for p in path.resolve().parents[:3] if (
        p / run_files.CONFIG).is_file()), None)
    if folder is None:
      continue
    there = runs.read_config(folder, shapes.CONFIG)
    if not run_data.alike(there, own):
      named = [f"{config['dataset']} ({config['image_size']} pixels)"
               for config in (there, own)]
      if named[0] == named[1]:
        return (f"the weights were trained on other images of {named[0]} than"
                " these, or on more or fewer of them")
      return (f"the weights were trained on {named[0]}, other images than those"
              f" here, of {named[1]}")
  return ""


def describe(found: Mapping[int, pathlib.Path]) -> dict[str, Any]:
  """What `config.json` says of them: of each seed the path and the content."""
  return {"weights": {str(seed): {
      **({} if path.parent == pathlib.Path(_held().name) else {
          "path": str(path.resolve())}),
      "crc32": zlib.crc32(path.read_bytes())}
                      for seed, path in found.items()}} if found else {}


def check(variables: Any, like: Any) -> None:
  """Refuses variables that are not an architecture's.

  Args:
    variables: "params" and "batch_stats"; an auxiliary head may stand beside.
    like: those of the architecture, arrays or their shapes.

  Raises:
    InputError: names what is missing, what has another shape, and what is not
      finite or a variance below 0.
  """
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    if leaf.dtype != np.float32 or not np.isfinite(leaf).all():
      name = "/".join(key.key for key in path)
      raise errors.InputError(
          f"the weights {name} are {leaf.dtype}, not all finite numbers of"
          " float32; name the run that trained them", "weights")
    keys = tuple(key.key for key in path)
    interchange.check_variance(keys, leaf, f"the weights' {'/'.join(keys)}")
  if wrong := networks_lib.misfits(variables, like):
    raise errors.InputError(
        "the weights are not of this architecture, its width and its classes:"
        f" {wrong}; name the run that trained it", "weights")


def load_weights(path: str | os.PathLike[str],
                 architecture: codec.Architecture,
                 classes: int | None = None) -> Any:
  """The variables of a network of blocks from a file of trained weights.

  `networks.network.module(architecture, blocks.Frame(classes, image_size))`
  takes them.

  Args:
    path: of natjax's own `.npz`, of `.safetensors`, or of a file of
      `torch.save`, of which nothing is run; the latter two by the names of
      torchvision or timm.
    architecture: whose, `zoo.get("resnet50", "imagenet")` for example.
    classes: of the classifier. Where the weights have others, it is drawn, of
      which a `UserWarning` says so. None is as many as the weights have.

  Returns:
    "params" and "batch_stats", in float32.

  Raises:
    InputError: no such file, a damaged one or none of weights, or weights of
      another network, with what does not fit by name.
  """
  path = errors.path(path, "weights")
  network = codec.check(architecture)
  if isinstance(classes, int) and classes < 0:
    raise errors.InputError(
        f"classes is {classes} and must be at least 0; give the classifier's"
        " number, or None for as many as the weights have", "classes")
  if path.exists() and files.is_own(path):
    found = networks_lib.load_weights(path)
    if not isinstance(network, records.BlockNetwork):
      raise errors.InputError(
          "an .npz file does not say in which skeleton cells stand; load them"
          " with their run, by natjax.load", "architecture")
    like = _like(network, interchange.frame(network, found, classes))
    read = interchange.with_classifier(
        path.name, found, like, last=network_lib.names(network).head[-1])
    check(read.variables, like)
  else:
    read = interchange.read(path, network, None, classes=classes)
  if read.anew:
    warnings.warn(read.anew, stacklevel=2)
  return read.variables


def _like(network, place):
  """The shapes of a network's variables."""
  return jax.eval_shape(functools.partial(
      network_lib.init, network_lib.module(network, place)), jax.random.key(0))


def save_weights(path: str | os.PathLike[str],
                 architecture: codec.Architecture, variables: Any) -> None:
  """Writes a network's variables.

  Args:
    path: ending in `.npz`, natjax's own form, or in `.safetensors`, which has
      the names of torchvision, where that has the network.
    architecture: whose.
    variables: "params" and "batch_stats".

  Raises:
    InputError: another ending, no folder to write in, a network that
      torchvision has not, or not its variables (of cells, whose skeleton is not
      known, any that are float32).
  """
  path = errors.path(path, "path")
  kind = path.suffix.lower()
  if kind not in (".npz", ".safetensors"):
    raise errors.InputError(
        f"path is {path} and must end in .npz or .safetensors", "path")
  network = codec.check(architecture)
  if path.is_dir() or not path.parent.is_dir():
    raise errors.InputError(
        f"path is {path}, which is a folder or lies in none; name a file",
        "path")
  if not isinstance(variables, Mapping) or "params" not in variables or not all(
      hasattr(leaf, "dtype")
      for leaf in flax.traverse_util.flatten_dict(variables).values()):
    raise errors.InputError(
        "variables must be a dictionary with 'params', and be arrays in"
        f" dictionaries, and are {errors.short(variables)}; give a network's",
        "variables")
  if kind == ".npz":
    check(variables, variables if not isinstance(
        network, records.BlockNetwork) else _like(
            network, interchange.frame(network, variables)))
    networks_lib.save_weights(path, variables)
  else:
    interchange.write(path, network, variables)
