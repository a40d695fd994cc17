"""What a job is asked for, checked before anything is compiled."""

from collections.abc import Sequence
import dataclasses
import numbers
from typing import Any

from natjax import data as data_lib
from natjax import errors, methods, spaces
from natjax.data import dataset as dataset_lib
from natjax.graph import codec
from natjax.methods import acceptance, supervised
from natjax.methods import entry as entry_lib
from natjax.training import settings

Given = codec.Architecture | Sequence[codec.Architecture] | None


def types(dataset: Any, config: Any) -> None:
  """Refuses what is no data set that fits together, or no settings of training.

  Raises:
    InputError: see above.
  """
  if not isinstance(dataset, data_lib.Dataset):
    raise errors.InputError(
        f"the data set is {errors.short(dataset)} and must be a Dataset; pass"
        " what natjax.data.load or natjax.data.make_dataset gives", "dataset")
  dataset_lib.check(dataset)
  if not isinstance(config, supervised.TrainConfig):
    raise errors.InputError(
        f"the settings of the training are of type {type(config).__name__};"
        " pass a natjax.TrainConfig")


def seeds(seed: int, count: int) -> int:
  """The seed as an int, if jax keeps all of it and of those that follow.

  One of NumPy may have a few bits, which those that follow do not fit in.

  Raises:
    InputError: it or one of the `count` seeds from it on is not a u32.
  """
  if not isinstance(seed, numbers.Integral) or isinstance(seed, bool):
    raise errors.InputError(
        f"seed is {errors.short(seed)} and must be an integer; give 0", "seed")
  if not 0 <= seed <= 2**32 - count:
    raise errors.InputError(
        f"seed is {seed} and must lie in [0, {2**32 - count}]; give 0", "seed")
  return int(seed)


def given(architecture: Given) -> tuple[
    codec.Architecture | None, tuple[codec.Architecture, ...]]:
  """The first given architecture, or None, and the others; all checked.

  Raises:
    InputError: none at all, one twice, or one that is not well formed.
  """
  if architecture is None:
    return None, ()
  every: Sequence[Any] = architecture if isinstance(
      architecture, list | tuple) and not isinstance(
          architecture, codec.Architecture) else (architecture,)
  found = [*map(codec.check, every)]
  if not found or len({*found}) < len(found):
    raise errors.InputError(
        f"{len(found)} architectures are given, {len({*found})} of them"
        " different; give each that is to be transformed once", "architecture")
  return found[0], tuple(found[1:])


def entry(method: str, search: Any, architecture: codec.Architecture | None,
          others: Sequence[codec.Architecture]) -> entry_lib.Entry:
  """The entry of a method, if it can start so with these settings.

  Args:
    method: of `methods.METHODS`.
    search: its settings.
    architecture: the first that is given, or None.
    others: that are given, too.

  Raises:
    InputError: it cannot, or a setting does nothing by another.
  """
  errors.known("method", method, methods.METHODS)
  found = methods.METHODS[method]
  if others and not found.unions:
    able = " or ".join(n for n, e in methods.METHODS.items() if e.unions)
    raise errors.InputError(
        f"{1 + len(others)} architectures are given and method '{method}'"
        f" transforms one; give one, or choose method {able}", "method")
  wanted = "space" if architecture is None else "given"
  if found.starts not in (wanted, "both"):
    begins = ("a space; search instead of transforming" if wanted == "given"
              else "a given architecture; transform it instead of searching")
    raise errors.InputError(f"method '{method}' starts from {begins}", "method")
  if not isinstance(search, found.settings):
    raise errors.InputError(
        f"search is a {type(search).__name__}, and method '{method}' needs a"
        f" {found.settings.__name__}; pass one, or leave it out")
  with errors.within("search"):
    entry_lib.refuse_idle(found, search)
  return found


def kind(space: str | None) -> str:
  """The kind of the architectures of a space (InputError without one)."""
  if space is None:
    raise errors.InputError("a search starts from a space and none is given;"
                            f" name one of {', '.join(spaces.SPACES)}", "space")
  return spaces.get(space).graph.kind


def part(held_out: float, simclr: Any) -> float:
  """A part of the training images that a training holds out, to be watched.

  Args:
    held_out: the part, 0 for none.
    simclr: settings of the objective without labels, or None.

  Raises:
    InputError: no such part, or nothing to watch by it.
  """
  if isinstance(held_out, bool) or not isinstance(
      held_out, numbers.Real) or not 0 <= held_out < 1:
    raise errors.InputError(
        f"held_out is {errors.short(held_out)} and must lie in [0, 1), a part"
        " of the training images; 0 holds out none", "held_out")
  if held_out and simclr is not None:
    raise errors.InputError(
        "held_out holds out images whose labels are foretold, which does not"
        " apply to the objective simclr; leave it out, and give"
        " simclr-watch-epochs", "held_out")
  return float(held_out)


def held_out(search: Any, unseen: str) -> float:
  """The part of the training images that a method does not see.

  Args:
    search: settings of the method.
    unseen: why nothing can be compared by them; "" where it can.

  Raises:
    InputError: an impossible part, or one where nothing can be compared.
  """
  if not (hasattr(search, "held_out") and hasattr(search, "tolerance")):
    return 0.0
  with errors.within("search"):
    acceptance.check(dataclasses.replace(search, held_out=0.0) if (
        unseen and search.held_out is None) else search)
    if unseen and search.held_out:
      settings.refuse(search, "held_out", "holds out images to compare the"
                      f" original by, against {unseen}; leave one of them out")
  return 0.0 if unseen else acceptance.part(search)
