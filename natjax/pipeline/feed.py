"""The images that programs walk over: splits, divided, filled up, checked."""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.data import dataset as dataset_lib
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.training import devices as devices_lib
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import options as options_lib


class Feed(NamedTuple):
  """The images that programs walk over, and how."""

  splits: Mapping[str, fit_lib.Split]
  batch_size: int
  preparation: fit_lib.Preparing

  def score(self, function: Callable[[Any, base.Batch], Any], argument: Any, *,
            split: str, total: bool = False, images: int | None = None,
            each: bool = False, whole: bool = True) -> Any:
    """Means over a split; see `method.Walk`."""
    walked = self.splits[split]
    rows = dataset_lib.mixed(walked.labels)
    some = slice(images) if rows is None else rows[:images]
    return fit_lib.walk(
        function, argument, fit_lib.Split(*(part[some] for part in walked)),
        batch_size=self.batch_size, preparation=self.preparation, whole=whole,
        total=total, each=each)

  def derive(self, method: base.Method, state: base.State,
             given: codec.Architecture | None, seed: int,
             listener: fit_lib.Listener | None = None,
             run: str = "search") -> base.Derived:
    """What a method came to, computed on one device of this process.

    Args:
      method: the method.
      state: its last.
      given: the architecture that it was given.
      seed: of everything random.
      listener: hears of a derivation that tells how far it is (`Heard`).
      run: its name there.

    Raises:
      Interrupted: such a derivation was asked to stop.
    """
    assert method.derive is not None  # Or no job can run it.
    heard: Any = Heard(self.score, listener or fit_lib.Listener(), run)
    return method.derive(
        jax.device_put(state, jax.local_devices()[0]), given, heard,
        jax.random.fold_in(jax.random.key(seed), 1))


@dataclasses.dataclass(frozen=True)
class Heard:
  """A walk, with those who hear how far a derivation is; see `method.Walk`.

  Attributes:
    walk: of a split.
    listener: who hears.
    run: the derivation's name there.
    began: when, of `time.monotonic`.
  """

  walk: base.Walk
  listener: fit_lib.Listener
  run: str
  began: float = dataclasses.field(default_factory=time.monotonic)

  def __call__(self, *args: Any, **options: Any) -> Any:
    """Walks a split."""
    return self.walk(*args, **options)

  def told(self, stage: str, done: int, most: int, row: bool = False,
           **metrics: float) -> None:
    """Tells the listener, as of an epoch.

    Args:
      stage: what is done.
      done: how much of it, at least 1.
      most: of how much.
      row: whether it is also told to those who hear of rows alone.
      **metrics: beside it.

    Raises:
      Interrupted: the listener says that it should stop.
    """
    if self.listener.should_stop():
      raise errors.Interrupted(self.run)
    epoch = min(done, most) - 1
    self.listener.on_progress(options_lib.Progress(
        self.run, stage, stage, epoch, most, epoch, most, (epoch + 1) / most,
        metrics))
    if row:
      self.listener.on_row({
          "run": self.run, "stage": stage, "phase": stage, "epoch": epoch,
          **metrics, "seconds": round(time.monotonic() - self.began, 3)})


def divide(split: fit_lib.Split, fractions: Sequence[float], seed: int,
           field: str | None = None) -> list[fit_lib.Split]:
  """Parts of a split, drawn by the seed; see `data.split`.

  None of them stands class by class (`data.dataset.mixed`).
  """
  parts = data_lib.split(len(split.labels), fractions, seed=seed, field=field)
  if dataset_lib.mixed(split.labels) is not None:
    orders = [dataset_lib.mixed(split.labels[part]) for part in parts]
    parts = tuple(part if order is None else part[order]
                  for part, order in zip(parts, orders, strict=True))
  return [fit_lib.Split(*(x[part] for x in split)) for part in parts]


def filled(split: fit_lib.Split, batch_size: int) -> fit_lib.Split:
  """A split of whole batches: with images again at its end, of label -1."""
  spare = -len(split.labels) % batch_size
  rows = np.arange(len(split.labels) + spare) % len(split.labels)
  labels = split.labels[rows]
  labels[len(split.labels):] = -1
  return fit_lib.Split(split.images[rows], labels)


def checked(feed: Feed, num_devices: int) -> Feed:
  """A feed, if its batches are as the devices and the splits need them."""
  devices_lib.check_batch(feed.batch_size, num_devices)
  fit_lib.check_splits(feed.splits, feed.batch_size)
  return feed


def of_plan(plan: entry_lib.Plan, seen: fit_lib.Split,
            held_out: fit_lib.Split | None, *, seed: int,
            preparation: fit_lib.Preparing, num_devices: int) -> Feed:
  """The splits of a method.

  Its fractions divide the images that it may see, which are all together
  the split "train"; "held_out" is what it may not, its last batch filled up
  with images again, of label -1.

  Args:
    plan: what the method runs.
    seen: training images that it may see.
    held_out: those that it may not, or None.
    seed: by which the images are divided.
    preparation: of the images.
    num_devices: that share a batch.

  Raises:
    InputError: a batch that the devices do not divide or a split that is
      smaller, fractions that leave a split empty, or a phase that walks
      a split of which they say nothing.
  """
  parts = divide(seen, tuple(plan.fractions.values()), seed)
  splits = {"train": seen} | {
      name: part for name, part in zip(plan.fractions, parts, strict=True)
      if name != "train" or len(parts) > 1}
  for stage in plan.method.stages:
    for phase in stage.phases:
      if unknown := {*phase.splits} - {*splits}:
        raise errors.InputError(
            f"phase '{phase.name}' walks the split '{unknown.pop()}', and the"
            f" plan's fractions name {', '.join(plan.fractions)}; name it")
  feed = checked(Feed(splits, plan.batch_size, preparation), num_devices)
  # What no phase walks may be smaller than a batch.
  return feed if held_out is None else feed._replace(
      splits={**splits, "held_out": filled(held_out, plan.batch_size)})
