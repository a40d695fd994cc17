"""Weights of other libraries as a network's variables, and back."""

from collections.abc import Sequence
import math
import pathlib
from typing import Any, NamedTuple

import flax
import jax
import numpy as np

from natjax import errors, operations
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.interchange import darts, files, names
from natjax.networks import network as network_lib

_COUNTER = "num_batches_tracked"  # Of PyTorch's BN, which has a momentum.
_ANYWHERE = records.Frame(1, 32)


class Read(NamedTuple):
  """A network's variables.

  Attributes:
    variables: "params" and "batch_stats".
    anew: where the classifier was drawn, why, in words; else "".
  """

  variables: Any
  anew: str


def read(path: pathlib.Path, architecture: records.Architecture,
         place: records.Place | None, *, classes: int | None = None,
         seed: int = 0) -> Read:
  """The variables of a network from another library's file.

  A classifier of other classes is drawn; all else must fit by name and shape.

  Args:
    path: of a `.safetensors` file, or one of `torch.save`.
    architecture: whose.
    place: where it stands; None is as the weights have it.
    classes: of the classifier where `place` is None; None is as many as the
      weights have.
    seed: of a classifier that is drawn.

  Raises:
    InputError: no such file, one that is damaged or asks for code, numbers that
      are not finite, variances below 0, or another network's, with what does
      not fit by its names.
  """
  held = {name: tensor for name, tensor in files.read(path).items()
          if not name.endswith(_COUNTER)}
  told = place is None and classes is None
  if place is None:
    place = _frame_of(architecture, held, classes) if isinstance(
        architecture, records.BlockNetwork) else darts.place(held, classes)
  wanted = names.closest(
      _spellings(codec.expand(architecture, place), place), held)
  last = {name: leaf for name, leaf in wanted.items() if leaf.classifies and (
      name in held or not leaf.optional)}
  anew = "" if not place.num_classes else _other_classes(last, held)
  if anew or not place.num_classes:
    if told and (shown := [f"{name} {held[name].shape}" for name in last
                           if name in held]):
      raise errors.InputError(
          f"{path} has a classifier whose classes cannot be counted"
          f" ({', '.join(shown)}); give their number, by which another is"
          " drawn, or name another file", "weights")
    for name in last:
      del wanted[name]
      held.pop(name, None)
  if wrong := _misfits(held, wanted):
    raise errors.InputError(
        f"{path} has other weights than this network: {wrong}; name weights of"
        " the architecture that is given, of its width and, where it flattens"
        " images, its image-size", "weights")
  flat: dict[names.Path, Any] = {}
  # What a bias is subtracted from comes before it, and what is read is dropped.
  for name, leaf in wanted.items():
    if name in held:
      own = leaf.read(_numbers(path, name, held.pop(name)))
      check_variance(leaf.path, own, f"{name} of {path}")
      # Not jnp.asarray, which compiles a copy for every shape.
      flat[leaf.path] = jax.device_put(
          own if leaf.kind != "shift" else np.asarray(flat[leaf.path]) - own)
  if anew:
    flat |= _drawn(last, seed)
    anew = f"{path.name} {anew}: it is drawn"
  found = {kind: {} for kind in ("params", "batch_stats")} | (
      flax.traverse_util.unflatten_dict(flat))
  return Read(found, anew)


def with_classifier(name: str, variables: Any, like: Any, *, last: str,
                    seed: int = 0, other: str = "") -> Read:
  """A network's variables by natjax's names, with a classifier that fits.

  As `read`: one of other classes, or none, is drawn. Variables that differ in
  anything else are left as they are, for others to refuse.

  Args:
    name: of where they are from, in words.
    variables: "params" and "batch_stats".
    like: those of the architecture, arrays or their shapes.
    last: the name of the classifier's layer.
    seed: of a classifier that is drawn.
    other: what is known of classes that are others, though they are as many.
  """
  held, wanted = (
      {path: np.shape(leaf) for path, leaf in (
          flax.traverse_util.flatten_dict(tree).items())}
      for tree in (variables, like))
  theirs, ours = (
      {path: shape for path, shape in shapes.items() if path[1:2] == (
          last,) or path[1:3] == ("auxiliary", "classifier")}
      for shapes in (held, wanted))
  rest = {path: shape for path, shape in held.items() if path not in theirs
          and (path in wanted or path[1:2] != ("auxiliary",))}
  anew = _another(theirs, ours) or (
      f"has a classifier of other classes ({other})" if other and ours else "")
  if not anew or rest != {
      path: shape for path, shape in wanted.items() if path not in ours}:
    return Read(variables, "")
  flat = flax.traverse_util.flatten_dict(variables)
  found = {kind: {} for kind in ("params", "batch_stats")} | (
      flax.traverse_util.unflatten_dict({
          **{path: flat[path] for path in rest},
          **{path: _draw(path[-1], shape, seed)
             for path, shape in ours.items()}}))
  return Read(found, f"{name} {anew}: it is drawn")


def write(path: pathlib.Path, architecture: records.Architecture,
          variables: Any) -> None:
  """Writes a network's variables as `.safetensors`, by torchvision's names.

  Args:
    path: of the file.
    architecture: whose.
    variables: "params" and "batch_stats".

  Raises:
    InputError: torchvision has no such network, or they are not its variables.
  """
  if not isinstance(architecture, records.BlockNetwork):
    raise errors.InputError(
        "torchvision has no networks of cells; write an .npz file",
        "architecture")
  network, place = architecture, frame(architecture, variables)
  flat = flax.traverse_util.flatten_dict(jax.device_get(variables))
  found = {}
  for name, leaf in _spellings(network, place)[0].items():
    if leaf.path not in flat or np.shape(flat[leaf.path]) != leaf.here:
      raise errors.InputError(
          f"the variables lack {'/'.join(leaf.path)} of the shape that the"
          " architecture has; give those of its network", "variables")
    here = np.asarray(flat[leaf.path])
    found[name] = np.zeros_like(here) if leaf.kind == "shift" else (
        leaf.write(here))
    if name.endswith("running_var"):
      counter = name.replace("running_var", _COUNTER)
      found[counter] = np.zeros((), np.int64)
  files.write(path, found)


def frame(network: records.BlockNetwork, variables: Any,
          classes: int | None = None) -> records.Frame:
  """Where a network of blocks stands of which the variables are at hand.

  Args:
    network: the network.
    variables: "params" and "batch_stats" of it.
    classes: of the classifier; None is as many as there are in the variables.
  """
  return _frame(network, {
      path[1]: np.shape(leaf)[::-1]
      for path, leaf in flax.traverse_util.flatten_dict(variables).items()
      if path[:1] + path[2:] == ("params", "linear", "kernel")
      and np.ndim(leaf) == 2}, classes)


def _frame(network, linear, classes):
  """As `frame`, of the shapes [O, I] of the head's linear layers by name."""
  output = shapes_lib.of(network, _ANYWHERE)[-1].output
  called = network_lib.names(network).head
  size = output.stride  # Of images, of which it matters to those alone that:
  for layer, name in zip(network.head, called[1:], strict=False):
    if layer.kind == "flatten" and name in linear:
      size *= round((linear[name][1] / output.width)**0.5)
  return records.Frame(linear.get(called[-1], (0,))[0] if classes is None else (
      classes), size)


def _frame_of(network, held, classes):
  """As `frame`, of another library's tensors."""
  spelt = names.closest(_spellings(network, _ANYWHERE), held)
  return _frame(network, {
      leaf.path[1]: (len(held[name]), math.prod(held[name].shape[1:]))
      for name, leaf in spelt.items()
      if leaf.kind == "linear" and np.ndim(held.get(name, 0)) > 1}, classes)


def check_variance(path: names.Path, leaf: Any, shown: str) -> None:
  """Refuses variances of BN below 0, whose roots are not finite.

  Args:
    path: where it stands, "params" or "batch_stats" first.
    leaf: the vector, or anything else, which is left alone.
    shown: what the error calls it.
  """
  if path[0] == "batch_stats" and path[-1] == "var" and (
      np.asarray(leaf) < 0).any():
    raise errors.InputError(
        f"{shown} is a variance, and some of it is below 0; train the network"
        " again, or name another file", "weights")


def listed(what: str, found: Sequence[str]) -> str:
  """Some of what was found, and how many more there are, in words."""
  more = f" and {len(found) - 3} more" if len(found) > 3 else ""
  shown = [name if name.isprintable() and len(name) < 200 else errors.short(
      name) for name in found[:3]]
  return f"{what} {', '.join(shown)}{more}"


def _spellings(network, place):
  found = (darts if network.prefix else names).spellings(
      network, records.Frame(place.num_classes, place.image_size))
  if not found:
    raise errors.InputError(
        "no other library is known to have this network; ResNets, VGG16,"
        " MobileNetV2 and DARTS's cells have names there, and all networks in"
        " natjax's own runs and .npz files", "weights")
  return found


def _misfits(held, wanted):
  """What of a file does not fit, in words; "" if all does."""
  return "; ".join(listed(what, found) for what, found in (
      ("it lacks", [name for name, leaf in wanted.items()
                    if name not in held and not leaf.optional]),
      ("of another shape:", [
          f"{name} ({held[name].shape}, not {leaf.shape})"
          for name, leaf in wanted.items()
          if name in held and not leaf.fits(held[name].shape)]),
      ("it holds besides", [name for name in held if name not in wanted]),
  ) if found)


def _numbers(path, name, tensor):
  """A tensor, if it is of finite numbers."""
  with np.errstate(over="ignore"):  # What becomes infinite is refused.
    wide = tensor.astype(np.float32, copy=False) if (
        tensor.dtype.kind in "fV") else None
  if wide is None or not np.isfinite(wide).all():
    raise errors.InputError(
        f"{name} of {path} is {tensor.dtype}, not all finite numbers of"
        " float32; train the network again, or name another file", "weights")
  return wide


def _other_classes(last, held):
  """Why a classifier does not fit where its number of classes is another.

  Where a part of it is missing or fits as it is, "": that is to be refused.
  """
  if not last.keys() & held.keys():
    return "has no classifier" if last else ""
  wanted, = {leaf.shape[0] for leaf in last.values()}
  shapes = {name: held[name].shape if name in held else () for name in last}
  counts = {shape[0] if shape and last[name].fits((wanted, *shape[1:])) else (
      wanted) for name, shape in shapes.items()}
  if wanted in counts or len(counts) > 1:
    return ""
  return f"has a classifier of {counts.pop()} classes, not {wanted}"


def _another(theirs, ours):
  """As `_other_classes`, of shapes by natjax's own paths."""
  if not theirs:
    return "has no classifier" if ours else ""
  if not ours or not ours.keys() <= theirs.keys():
    return ""
  # Those of a class of ArcFace's come first, others last.
  parts = [[(shape[:1], shape[1:]) if path[-1] == "classes" else (
      shape[-1:], shape[:-1]) for path, shape in (
          (path, shapes[path]) for path in ours)] for shapes in (theirs, ours)]
  (held, other), (wanted, own) = (
      ({classes for classes, _ in part}, [rest for _, rest in part])
      for part in parts)
  if other != own or len(held) > 1 or held & {(), *wanted}:
    return ""
  return f"has a classifier of {held.pop()[0]} classes, not {wanted.pop()[0]}"


def _draw(kind, shape, seed):
  """A part of a classifier as natjax begins one, by its name there."""
  if kind == "kernel":
    return operations.kernel_init(jax.random.key(seed), shape)
  if kind == "classes":
    return 0.01 * jax.random.normal(jax.random.key(seed), shape)
  return jax.device_put(np.zeros(shape, np.float32))


def _drawn(last, seed):
  """A classifier as natjax begins one."""
  return {leaf.path: operations.kernel_init(
      jax.random.key(seed), leaf.shape[::-1]) if len(leaf.shape) == 2 else (
          jax.device_put(np.zeros(leaf.shape, np.float32)))
      for leaf in last.values()}
