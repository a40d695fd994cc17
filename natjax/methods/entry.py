"""What a method tells the jobs and the command line of itself: an `Entry`.

`natjax.methods.METHODS` holds those of the library; a user's package adds its
own by an entry point of the group "natjax.methods" (`pipeline.plugins`). Flags,
presets, help, refusals, results and pictures follow from the entries.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax

from natjax import errors
from natjax.graph import codec, records
from natjax.methods import bounds as bounds_lib
from natjax.methods import listed, supervised
from natjax.objectives import classification as objectives
from natjax.training import distributed, metrics, settings
from natjax.training import method as base

PRESETS = listed.PRESETS
OBJECTIVES = ("supervised", "simclr", "arcface")
STARTS = ("given", "space", "both")
KINDS = ("cells", "blocks", "chain")  # Of architectures, for presets.


class Request(NamedTuple):
  """What a job asks a method for.

  Attributes:
    settings: of the method.
    architecture: the given one, checked; None where it starts from a space.
    space: name of a space; None leaves the choice to the method.
    share: "cell" decides alike on what is alike, "full" on each by itself.
    num_classes: of the classifier; 0 where labels are not learnt.
    image_size: side of the images, in pixels.
    num_images: images that the method's splits divide; those held out are not
      among them.
    num_devices: over which updates will be mapped.
    train: how networks are trained at the end.
    place: the skeleton or frame in which they are.
    make_objective: makes the objective of an architecture.
    watch: called after every epoch of what is trained, where not None.
    criterion: what a supernet of classifiers minimises.
    others: further given ones, of a method for `unions`, checked.
    inherits: whether weights are given, or are to be handed on to the networks
      at the end (`Plan.begin`, `Plan.inherit`).
    together: devices over which a network's training is mapped: all, or one
      where seeds are trained side by side.
    fresh: of a method whose entry says so, whether what it comes to is also
      trained from drawn weights, and the better of both returned.
  """

  settings: Any
  architecture: codec.Architecture | None
  space: str | None
  share: str
  num_classes: int
  image_size: int
  num_images: int
  num_devices: int
  train: supervised.FullTrainConfig
  place: records.Place
  make_objective: objectives.Maker
  watch: supervised.Watch | None
  criterion: objectives.Criterion = objectives.CROSS_ENTROPY
  others: tuple[codec.Architecture, ...] = ()
  inherits: bool = False
  together: int = 1
  fresh: bool = False


class Plan(NamedTuple):
  """What a method answers.

  Attributes:
    method: what `training.fit` drives.
    settings: resolved, a dataclass of JSON values.
    architecture: the given one as the method writes it (padded), or None.
    space: JSON values, what the run's configuration says of the space.
    fractions: of the training images, for every split of the method's phases;
      1 in sum.
    batch_size: over all devices.
    estimate: `(batch per device) -> {"params": ..., "memory_bytes": ...}`;
      "madds", of an image's forward pass through what is trained, where hours
      are to be estimated (`training.method.Phase.passes`); and of what the
      method hands over to "further_steps", with "further_madds" that these
      cost an image of a batch where it is not a gradient each.
    dtype: of the images; None prepares them as for the training at the end,
      with its cutout or views.
    prepare: `(folder, processes)`, called when a run is opened there and has
      no result yet, before anything is trained: measures what the device
      decides, and keeps it in the folder; raises InputError and NotMet.
    begin: `(variables, rng) -> state`, of a method that `inherits` or takes
      weights: where it begins, from the variables of the trained given network.
    inherit: `(state, architecture) -> variables`, of a method whose networks
      may begin with what it holds for them: of its last state, "params" and
      "batch_stats", without those of an auxiliary head.
    others: further given ones as the method writes them; `method.derive` takes
      each of them as it takes the first.
    held: `(state) -> (supernet, parameters)`, of a method that trains one
      supernet for all candidates.
    bounds: the budgets that what is returned keeps to, of the given
      architecture and the others; none of a method that has none.
    model: what the estimate is of, where it is not the entry's.
  """

  method: base.Method
  settings: Any
  architecture: codec.Architecture | None
  space: dict[str, Any]
  fractions: Mapping[str, float]
  batch_size: int
  estimate: Callable[[int], dict[str, Any]]
  dtype: str | None = None
  begin: Callable[[Any, jax.Array], base.State] | None = None
  inherit: Callable[[base.State, codec.Architecture], Any] | None = None
  others: tuple[codec.Architecture, ...] = ()
  prepare: Callable[[pathlib.Path, distributed.Processes], None] | None = None
  held: Callable[[base.State], tuple[Any, Any]] | None = None
  bounds: tuple[bounds_lib.Bounds, ...] = ()
  model: str | None = None


class Entry(NamedTuple):
  """A method, as jobs and the command line know it.

  Attributes:
    settings: its dataclass of bool, int, float, str, or one of these or None;
      all have defaults, and "Attributes" of its docstring is their help. Where
      it has `held_out` and `tolerance`, a part of the training images is the
      split "held_out", to choose by (`methods.acceptance`), its last batch
      filled up by images of label -1; where it also has
      `finalists` and `trial_epochs`, the candidates that its report numbers as
      "finalists" are tried before one is returned (`pipeline.trials`).
    build: `(Request) -> Plan`; raises InputError and NotMet.
    presets: `(preset, objective, kind of architecture) -> settings`; the kind
      is "cells" or "blocks", or "chain", of a space that is one.
    help: one line.
    starts: from a "given" architecture, a "space", or "both".
    trained: whether what it derives is trained already, once per seed, each
      with an architecture of its own; else it searches once and its networks
      are trained from scratch.
    inherits: of a trained method, whether it begins with the weights of the
      given network, which is trained first (`Plan.begin`).
    compared: of a trained method, whether the job compares what it derives with
      the trained original on the split "held_out", and returns the original
      where `methods.acceptance` refuses it; `replace` does so itself.
    share: what networks of blocks decide on together, where it is not said.
    objectives: what it can minimise, of `OBJECTIVES`.
    spaces: whether a space may be named beside a given architecture.
    unions: of a method that is not trained, whether one search can serve
      several given architectures.
    training: per (preset, objective), changes of the settings of training.
    label: of its own programs in rows and checkpoints, before networks train.
    model: what it trains, for the first lines of a run.
    reports: keys of a seed's report that stand in the result of a run.
    pictures: per file of a run, `(path, rows of metrics)` that draws it.
    charts: per file of a run, `(path, result)` that draws it.
    kept: what to say where the architecture was kept.
    fresh: of a trained method, whether it can also train what it comes to from
      drawn weights, compare both on the split "held_out" and return the better
      (`Request.fresh`).
    idle: per setting and value of it, the settings that do nothing by it, which
      are refused there (`refuse_idle`).
  """

  settings: type
  build: Callable[[Request], Plan]
  presets: Callable[[str, str, str], Any]
  help: str
  starts: str = "given"
  trained: bool = False
  inherits: bool = False
  compared: bool = False
  share: str = "cell"
  objectives: tuple[str, ...] = ("supervised",)
  spaces: bool = False
  unions: bool = False
  training: Mapping[tuple[str, str], Mapping[str, Any]] = {}
  label: str = "search"
  model: str = "supernet"
  reports: tuple[str, ...] = ()
  pictures: Mapping[
      str, Callable[[pathlib.Path, Iterable[metrics.Row]], object]] = {}
  charts: Mapping[
      str, Callable[[pathlib.Path, Mapping[str, Any]], object]] = {}
  kept: str = "The original was kept: nothing was found that is better."
  fresh: bool = False
  idle: Mapping[tuple[str, str], tuple[str, ...]] = {}

  @property
  def drawn(self) -> tuple[str, ...]:
    """The files of a run that are pictures of the method."""
    return (*self.pictures, *self.charts)


def check(entry: Any) -> Entry:
  """Returns an entry that has all its parts (InputError)."""
  if not isinstance(entry, Entry):
    raise errors.InputError(f"it is of type {type(entry).__name__} and must be"
                            " an Entry of natjax.methods.entry")
  for part, good, wanted in (
      ("settings", _is_settings(entry.settings), "a dataclass whose fields have"
       " defaults and are bool, int, float or str"),
      ("build", callable(entry.build), "a function of a Request"),
      ("presets", callable(entry.presets),
       "a function of preset, objective and kind"),
      ("help", isinstance(entry.help, str) and entry.help, "a line of text"),
      ("starts", entry.starts in STARTS, f"one of {', '.join(STARTS)}"),
      ("objectives", entry.objectives and set(entry.objectives) <= {
          *OBJECTIVES}, f"some of {', '.join(OBJECTIVES)}")):
    if not good:
      raise errors.InputError(
          f"its entry lacks '{part}', which must be {wanted}")
  return entry


def refuse_idle(entry: Entry, config: Any,
                given: Collection[str] | None = None) -> None:
  """Refuses settings that do nothing by others (`Entry.idle`).

  Args:
    entry: of the method.
    config: all its settings.
    given: those that were asked for, by name; None are those whose value stands
      in none of the method's presets, and is not the class's own.

  Raises:
    InputError: one of those given does nothing.
  """
  if entry.idle:
    settings.plain(config)
  for (name, value), idle in entry.idle.items():
    if getattr(config, name) != value:
      continue
    for field in idle:
      if field in given if given is not None else (
          getattr(config, field) not in _usual(entry, field)):
        settings.refuse(config, field, f"does nothing with {name} {value};"
                        f" leave it out, or choose another {name}")


def _usual(entry, field):
  """The values of a setting in the class and in the method's presets."""
  with errors.guarded(entry.presets, "presets of the method"):
    return [getattr(config, field) for config in (entry.settings(), *(
        entry.presets(preset, objective, kind) for preset in PRESETS
        for objective in entry.objectives for kind in KINDS))]


def _is_settings(kind):
  return isinstance(kind, type) and dataclasses.is_dataclass(kind) and all(
      f.default is not dataclasses.MISSING for f in dataclasses.fields(kind)
  ) and {*settings.types(kind).values()} <= {bool, int, float, str}
