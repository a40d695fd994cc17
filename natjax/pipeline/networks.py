"""The trained networks of a run: their weights, and what applies them."""

from collections.abc import Callable, Iterable, Sequence
import errno
import functools
import os
import pathlib
import re
from typing import Any, NamedTuple

import flax
import jax
import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors, operations
from natjax.data import array_file
from natjax.data import dataset as dataset_lib
from natjax.graph import codec, records
from natjax.interchange import files
from natjax.interchange import weights as interchange
from natjax.networks import grad_cam, inherit
from natjax.networks import network as network_lib
from natjax.pipeline import run_data, run_files, runs, shapes
from natjax.training import fit as fit_lib
from natjax.training import settings

_AGAIN = "train the network again"
# Until 0.2.0 parts of a chain lay beside it, under names that flax made up.
_BESIDE = re.compile(r"[A-Z]\w*_\d+")
# And 0.1.0 called the parts of an ImageNet stem otherwise.
_STEM = re.compile(r"/stem/(conv|norm)(\d)/")


def save_weights(path: str | os.PathLike[str], variables: Any) -> None:
  """Writes a network's variables as `.npz`, one array per path."""
  with errors.replacing(path) as temporary:
    _write(temporary, variables)


def keep_weights(path: pathlib.Path, variables: Any) -> None:
  """As `save_weights`, of a run, which keeps a checksum of them."""
  with run_files.kept(path) as temporary, errors.of_file(path):
    _write(temporary, variables)


def _write(path, variables):
  flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
  with path.open("wb") as f:
    np.savez(f, **jax.device_get(flat))


def _check_sum(path):
  """Refuses weights that lie in a run and are not those that it wrote."""
  if (path.with_name(run_files.RESULT).is_file()
      or path.parent.name == run_files.INHERITED):
    run_files.check_sum(path)


def load_weights(path: str | os.PathLike[str]) -> Any:
  """Reads what `save_weights` wrote; nothing in it is executed.

  "batch_stats" are there, too, where a network without BN has none.

  Raises:
    InputError: no such file, a damaged one, or not the one that a run wrote.
  """
  path = errors.regular(errors.path(path))
  _check_sum(path)
  try:
    array_file.check_sizes(path)
    with open(path, "rb") as file, np.load(file, allow_pickle=False) as f:
      flat = {_STEM.sub(r"/stem\2/\1/", k): jnp.asarray(f[k]) for k in f.files}
    # Nor is a name there that is the beginning of another.
    found = flax.traverse_util.unflatten_dict(flat, sep="/")
    return {"batch_stats": {}, **found} if "params" in found else found
  except (*array_file.UNREADABLE, TypeError, AttributeError) as e:
    what = "not there" if isinstance(
        e, FileNotFoundError) else "damaged, or no file of weights"
    raise errors.InputError(f"{path} is {what}; {_AGAIN}") from e


def read_weights(
    path: pathlib.Path, architecture: codec.Architecture, place: records.Place,
    like: Callable[[codec.Architecture], Any], *, seed: int = 0,
    classes: Sequence[str]) -> interchange.Read:
  """The variables of an architecture in a file, natjax's own or another's.

  Those of a network of blocks may be numbered as `codec.pad` numbers them.

  Args:
    path: of the file.
    architecture: whose.
    place: where it stands.
    like: gives the shapes of an architecture's variables; `misfits` of natjax's
      own are left to the caller.
    seed: of a classifier that is drawn, where the file has other classes or
      none.
    classes: names of those that are wanted; a run's network knows its own.

  Raises:
    InputError: as `load_weights`, or as `interchange.weights.read`.
  """
  _check_sum(path)
  if path.exists() and not files.is_own(path):
    return interchange.read(path, architecture, place, seed=seed)
  found, padded = load_weights(path), codec.pad(architecture)
  other = _other_classes(path, classes)
  fit = lambda spelled: interchange.with_classifier(
      path.name, found, like(spelled), seed=seed, other=other,
      last=network_lib.names(codec.expand(architecture, place)).head[-1])
  if padded != architecture:
    read = fit(padded)
    if not misfits(read.variables, like(padded)):
      return read._replace(variables=inherit.renumbered(
          read.variables, like(architecture)))
  return fit(architecture)


def _other_classes(path, classes):
  """In what the classes differ that a run's network was trained for, or ""."""
  result = path.with_name(run_files.RESULT)
  if path.name != run_files.WEIGHTS or not result.is_file():
    return ""
  found = run_files.read_json(result)
  names = found.get("class_names") if isinstance(found, dict) else None
  return run_data.other_classes(names, classes) if isinstance(
      names, list) and all(isinstance(name, str) for name in names) else ""


def check_draws(architecture: codec.Architecture,
                place: records.Place) -> None:
  """Refuses operations of a user's that draw where there is no stream.

  That is in evaluation. Nothing is computed.

  Raises:
    InputError: names the operation.
  """
  graph = codec.expand(architecture, place)
  names = {edge.operation for block in graph.blocks for edge in block.edges}
  if not any(operations.get(name).random
             for name in names - operations.BUILTIN):
    return
  module = network_lib.module(architecture, place)
  image = jnp.zeros((1, place.image_size, place.image_size, 3))
  jax.eval_shape(lambda rng: module.apply(
      network_lib.init(module, rng), image), jax.random.key(0))


def read_variables(path: str | os.PathLike[str], like: Any) -> Any | None:
  """The variables of a flax module in a file; None if they are another's.

  Args:
    path: of `.npz`, as `save_weights` writes it, or of `.msgpack`, as
      `flax.serialization.to_bytes` gives it of variables, or of a `TrainState`,
      whose optimizer is left out.
    like: those of the module, or their shapes.

  Raises:
    InputError: as `load_weights`, or a `.msgpack` of another module.
  """
  path = errors.regular(errors.path(path, "weights"))
  if path.suffix.lower() != ".msgpack":
    found = load_weights(path)
    return None if misfits(found, like) else found
  try:
    found = flax.serialization.msgpack_restore(path.read_bytes())
    if isinstance(found, dict) and "opt_state" in found:  # A TrainState.
      found = {key: value for key, value in found.items()
               if key not in ("opt_state", "step")}
    wrong = misfits(found, like)
  except Exception as e:  # Whatever is raised by what is in a damaged file.
    raise errors.InputError(
        f"{path} is damaged, or no file of flax's variables; write it by"
        " flax.serialization.to_bytes", "weights") from e
  if wrong:
    raise errors.InputError(
        f"{path} does not hold the module's variables: {wrong}; name the file"
        " that was written of it", "weights")
  return found


Images = jax.Array | np.ndarray


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
    resize: how images that are not square were resized in training.
  """

  architecture: codec.Architecture
  module: network_lib.Network
  variables: Any
  preparation: fit_lib.Preparing
  class_names: tuple[str, ...]
  test_accuracy: float
  classifies: bool = True
  resize: str = "stretch"

  def __repr__(self) -> str:
    frame = self.module.frame
    classes = f"{frame.num_classes} classes, " * self.classifies
    return (f"<TrainedNetwork: {self.module.graph.name}, {classes}"
            f"{frame.image_size} pixels, accuracy {self.test_accuracy:.4f}>")

  def features(self, images: Images, *, resize: bool = False) -> jax.Array:
    """f32[B, F] of images u8[B, S, S, 3], of a network that learns features.

    It has no classifier, or one of the angles between an embedding, which is
    what is given here, and its classes.

    Args:
      images: of the side S of those that the network was trained on.
      resize: whether to bring images of another size there, as in training;
        S is then any height and width.

    Raises:
      InputError: other images, or a network whose classifier is linear.
    """
    return self._apply(images, resize, classifies=False)

  def logits(self, images: Images, *, resize: bool = False) -> jax.Array:
    """f32[B, K] of images u8[B, S, S, 3]; see `features`."""
    return self._apply(images, resize, classifies=True)

  def predict(self, images: Images, *, resize: bool = False) -> jax.Array:
    """The likeliest class, i32[B], of images u8[B, S, S, 3]; see `features`."""
    return jnp.argmax(self.logits(images, resize=resize), axis=-1)

  def layers(self) -> dict[str, tuple[int, int]]:
    """Height and width of what layers give, where these are not 1 by 1.

    By their names, in the order in which they are run: cells or blocks, layers
    of the stem and the head, and parts of these, whose names begin with those
    of what they are parts of.
    """
    size = self.module.frame.image_size
    images = self._prepared(jnp.zeros((1, size, size, 3), jnp.uint8))
    return {name: like.shape[1:3] for name, like in grad_cam.layers(
        self.module, self.variables, images).items()}

  def class_activation(
      self, images: Images, labels: Sequence[int] | jax.Array | None = None,
      layer: str | int | None = None, *, resize: bool = False) -> jax.Array:
    """Where in images a class is seen: f32[B, h, w] of images u8[B, S, S, 3].

    Grad-CAM of Selvaraju et al., 2017; see `networks.grad_cam`.

    Args:
      images: see `features`.
      labels: i32[B], of which class each; None takes the likeliest.
      layer: what [h, w] are positions of: a name of `layers`, or the number of
        a cell or a block; None is the last one before the head pools.
      resize: see `features`.

    Raises:
      InputError: other images, classes that are none, no such layer, or a
        network without a classifier.
    """
    pixels = self._checked(images, resize, classifies=True)
    chosen: Any
    if labels is None:
      chosen = jnp.argmax(self.forward(self.variables, pixels)[0], -1)
    else:
      chosen, count = labels, self.module.frame.num_classes
      if not (traced := isinstance(labels, jax.core.Tracer)):
        chosen = np.asarray(labels)
      if chosen.shape != pixels.shape[:1] or chosen.dtype.kind not in "iu" or (
          not traced and not ((chosen >= 0) & (chosen < count)).all()):
        raise errors.InputError(
            f"labels are {errors.short(chosen if traced else chosen.tolist())}"
            f" and must be {len(pixels)} whole numbers from 0 to {count - 1},"
            " one per image", "labels")
    return grad_cam.maps(self.module, self.variables, self._prepared(pixels),
                         jnp.asarray(chosen, jnp.int32), layer)

  def _apply(self, images, resize, *, classifies):
    images = self._checked(images, resize, classifies=classifies)
    if classifies == self.classifies:
      return self.forward(self.variables, images)[0]
    return self.embedder.apply(self.variables, self._prepared(images))[0]

  @property
  def embeds(self) -> bool:
    """Whether it gives features; see `features`."""
    return not self.classifies or self.module.frame.embedding > 0

  @property
  def embedder(self) -> network_lib.Network:
    """The module without its classifier, which takes the same variables."""
    return self.module.clone(frame=self.module.frame._replace(num_classes=0))

  def _checked(self, images, resize, *, classifies) -> jax.Array:
    """Images u8[B, S, S, 3] on the device."""
    if not (self.classifies if classifies else self.embeds):
      kind = "has no" if classifies else "has a"
      raise errors.InputError(
          f"this network {kind} classifier; ask it for"
          f" {'features' if classifies else 'logits'} instead")
    size = self.module.frame.image_size
    if np.ma.is_masked(images):
      raise errors.InputError("images are masked in part; fill in what is"
                              " masked, or leave those out")
    if not isinstance(images, jax.Array):
      images = np.asarray(images)
    given = f"images are {images.dtype}{list(images.shape)}"
    if images.size == 0:
      raise errors.InputError(f"{given} and hold no pixels; give at least one"
                              " image")
    if images.dtype != np.uint8 or images.shape[3:] != (3,):
      raise errors.InputError(
          f"{given} and must be uint8[B, {size}, {size}, 3], pixels from 0 to"
          " 255; convert them")
    settings.switches(resize=resize)
    if resize and isinstance(images, jax.core.Tracer):
      raise errors.InputError(
          "images are traced, and no program resizes them as training did; pass"
          " resize=True outside of jax.jit, or resize them before", "resize")
    if resize:
      images = dataset_lib.resize_all(np.asarray(images), size, self.resize)
    if images.shape[1:3] != (size, size):
      raise errors.InputError(
          f"{given} and the network was trained on {size} x {size} pixels; load"
          " them in that size, or pass resize=True")
    return jnp.asarray(images)

  def _prepared(self, images):
    """What the module takes of images u8[B, S, S, 3]."""
    return self.preparation(None, images, train=False)

  def forward(self, variables: Any, images: jax.Array, *, train: bool = False,
              rng: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """What the network gives with any variables, to train it on or to compile.

    Args:
      variables: as `variables`.
      images: u8[B, S, S, 3], which are prepared without augmentation, or
        floats, which were.
      train: whether BN normalises by the batch and its statistics are updated.
      rng: a key, of operations that draw in training (dropout); None where
        there are none.

    Returns:
      Logits f32[B, K], or features, and the variables with new statistics.

    Raises:
      InputError: images of another type.
    """
    kind = getattr(images, "dtype", None)
    if kind is None or not (
        kind == jnp.uint8 or jnp.issubdtype(kind, jnp.floating)):
      raise errors.InputError(
          f"images are {'no array' if kind is None else kind} and must be"
          " uint8, pixels from 0 to 255, or floats that are prepared; convert"
          " them", "images")
    if kind == jnp.uint8:
      images = self._prepared(images)
    if not train:
      return self.module.apply(variables, images)[0], variables
    (outputs, _), changed = self.module.apply(
        variables, images, train=True, mutable=["batch_stats"],
        rngs=None if rng is None else {"dropout": rng, "noise": rng})
    return outputs, {**variables, **changed}


def networks(out: str | os.PathLike[str]) -> dict[str, pathlib.Path]:
  """Folders of the trained networks of a run, by what `load` calls them.

  "original-0"; or "seed-2/original-2" of a run over several seeds, which lies
  in the seed's folder, and likewise "architecture-1/original-0".

  Raises:
    InputError: there is none.
  """
  out = errors.path(out)
  found = runs.trained(out)
  if not found and (out / run_files.NETWORKS).is_dir() and not os.access(
      out / run_files.NETWORKS, os.R_OK | os.X_OK):
    raise errors.InputError(
        f"{out / run_files.NETWORKS}: {os.strerror(errno.EACCES)};"
        f" {errors.TO_READ}")
  if not found:
    lacking = run_files.lacking(out) if runs.finished(out) else ""
    raise errors.InputError(
        f"{out} holds no trained network{f' ({lacking})' * bool(lacking)}" + (
            ", and is not finished: the command that began it goes on with it"
            if (out / run_files.CONFIG).is_file() and not runs.finished(out)
            else "; name the folder of a finished `natjax train`, `natjax"
            " transform` or `natjax search`"))
  return {"/".join(
      part for part in path.parent.relative_to(out).parts
      if part != run_files.NETWORKS): path.parent for path in found}


def usual(names: Iterable[str]) -> str:
  """Which of a run's networks `load` takes: a transformed one, or the first."""
  return min(names, key=lambda name: ("transformed" not in name, name))


def load(out: str | os.PathLike[str],
         name: str | None = None) -> TrainedNetwork:
  """Loads a trained network.

  Args:
    out: a run directory of `train` or `transform`.
    name: which of its networks, for example "transformed-1", or of a run over
      several seeds "seed-2/original-2" (`networks` lists them); None is the
      first of the transformed ones, or the first.

  Raises:
    InputError: no such run or network, or a damaged file.
  """
  folders = networks(out)
  if name is None:
    name = usual(folders)
  if not isinstance(name, str) or name not in folders:
    raise errors.InputError(
        f"{out} has no network {errors.short(name)}; it has"
        f" {', '.join(folders)}")
  with run_files.reading(folders[name] / run_files.RESULT, _AGAIN):
    return _load(folders[name] / run_files.RESULT)


def _load(path):
  result = run_files.read_json(path, shapes.NETWORK, damaged=_AGAIN)
  architecture = codec.from_dict(
      result["architecture"], where=f"{path}: architecture")
  sizes = dict(result["place"])
  place = codec.place(architecture.kind, sizes.pop("kind", None), **sizes)
  network = network_lib.module(
      architecture, place, auxiliary=result["auxiliary"])
  like = jax.eval_shape(
      functools.partial(network_lib.init, network), jax.random.key(0))
  variables = _nested(load_weights(path.with_name(run_files.WEIGHTS)), like)
  if wrong := misfits(variables, like):
    raise errors.InputError(
        f"{path.with_name(run_files.WEIGHTS)} does not hold the weights of its"
        f" network: {wrong}; {_AGAIN}")
  return TrainedNetwork(
      architecture, network, variables, fit_lib.Preparation(
          _channels(result, "mean"), _channels(result, "std"),
          data_lib.Augmentation(), jnp.dtype(result["dtype"])),
      tuple(result["class_names"]), result["accuracy"],
      classifies=place.num_classes > 0, resize=result.get("resize", "stretch"))


def _channels(result, name):
  if len(result[name]) != 3:
    raise IndexError(f"{name} is {result[name]}, not of three channels")
  return tuple(result[name])


def misfits(variables: Any, like: Any) -> str:
  """What of a network's variables does not fit, in words; "" if all does.

  Args:
    variables: "params" and "batch_stats"; those of an auxiliary head may stand
      beside.
    like: those of the architecture, arrays or their shapes.
  """
  held, wanted = (
      {"/".join(k.key for k in path): tuple(np.shape(leaf))
       for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
      for tree in (variables, like))
  return "; ".join(interchange.listed(what, names) for what, names in (
      ("they lack", [name for name in wanted if name not in held]),
      ("of another shape:", [
          f"{name} ({held[name]}, not {shape})"
          for name, shape in wanted.items() if held.get(name, shape) != shape]),
      ("they hold besides", [name for name in held if name not in wanted
                             and "/auxiliary/" not in name])) if names)


def _nested(variables, like):
  """Variables with the parts of chains in them, also of an older version."""
  if not any(_BESIDE.fullmatch(name)
             for block in variables.get("params", {}).values()
             for name in block):
    return variables
  flat: dict[str, Any] = flax.traverse_util.flatten_dict(variables, sep="/")
  number = lambda name, at: int(re.findall(r"\d+", name)[at])
  for block, parts in like["params"].items():
    held = variables["params"].get(block, {})
    for part in ("first", "projection"):
      beside = sorted((name for name in held if _BESIDE.fullmatch(name) and (
          name.startswith("ReluConvNorm")) == (part == "projection")),
                      key=lambda name: number(name, -1))
      chains = sorted((name for name in parts if part in parts[name]
                       and name not in held), key=lambda name: number(name, 0))
      for old, new in zip(beside, chains, strict=False):
        flat = {key.replace(f"/{block}/{old}/", f"/{block}/{new}/{part}/"): leaf
                for key, leaf in flat.items()}
  return flax.traverse_util.unflatten_dict(flat, sep="/")
