"""What an experiment would take: `--dry-run` of the scripts.

The runs of a preset are listed with their steps, the memory of a device, and
hours, as `natjax ... --dry-run` estimates them, and nothing is run. Data sets
of known size need not be there. What will be found is not known: it is taken to
cost what the original does, or a network that stands for its space.
"""

import argparse
import dataclasses
from typing import Any, NamedTuple

import numpy as np
import recording
import transforming

from natjax import data as data_lib
from natjax import errors, pipeline
from natjax.graph import codec
from natjax.methods import supervised


class Row(NamedTuple):
  """Runs of one kind.

  Attributes:
    what: in words.
    runs: how many.
    steps: of all of them.
    memory: of one device, in bytes.
    hours: of all of them, on one device.
  """

  what: str
  runs: int
  steps: int
  memory: int
  hours: float


class Estimates:
  """Collects what runs would take.

  Attributes:
    rows: so far.
    teraflops: of a device.
  """

  def __init__(self, teraflops: float):
    if not 0 < teraflops < float("inf"):
      raise errors.InputError(f"teraflops is {teraflops:g} and must be above 0;"
                              " pass --teraflops 10", "teraflops")
    self.rows: list[Row] = []
    self.teraflops = teraflops

  def add(self, what: str, part: dict[str, Any], runs: int = 1) -> None:
    """Adds runs, each of which takes a part of a job's estimate."""
    self.rows.append(Row(what, runs, runs * part["steps"],
                         part.get("memory_bytes", 0), runs * part["hours"]))

  def train(self, what: str, architecture: codec.Architecture,
            dataset: data_lib.Dataset, config: supervised.TrainConfig,
            runs: int = 1) -> None:
    """Adds trainings, each of all seeds of the settings."""
    job = pipeline.TrainJob(architecture, dataset, config, devices=1)
    self.add(what, job.estimate(self.teraflops), runs)

  def search(self, what: str, job: pipeline.Job, runs: int = 1) -> dict:
    """Adds what a method does, and tries; returns the estimate of its job."""
    found = job.estimate(self.teraflops)
    self.add(what, found["search"], runs)
    if "trials" in found:
      self.add(f"{what}: trials", found["trials"], runs)
    return found

  def both(self, name: str, architecture: codec.Architecture,
           dataset: data_lib.Dataset, settings: transforming.Settings) -> None:
    """Adds what `transforming.both` does."""
    for method in ("nat", "natpp"):
      found = self.search(f"{name}: {transforming.KINDS[method]}", pipeline.Job(
          architecture, dataset, method, settings.search, settings.train,
          share=settings.share, seed=settings.seed, devices=1,
          arcface=settings.arcface))
    self.add(f"{name}: trained as given and by both", found["train"], 3)

  def table(self) -> list[str]:
    """The rows and their sum, in markdown."""
    total = Row("all", *map(sum, zip(*(row[1:] for row in self.rows),
                                     strict=True)))._replace(
        memory=max(row.memory for row in self.rows))
    return [*recording.table(
        ("", "runs", "steps", "memory of a device, GiB", "hours"),
        [[row.what, row.runs, row.steps, f"{row.memory / 2**30:.2f}",
          f"{row.hours:.3g}"] for row in (*self.rows, total)]),
            f"hours of one device at {self.teraflops:g} * 10^12 operations a"
            " second, a multiply-add being two; input, scores and compiling not"
            " counted; a run of several seeds has the steps of all"]

  def show(self, *notes: str) -> None:
    """Prints them."""
    transforming.say("\n".join([*self.table(), *notes]))


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds --dry-run and what belongs to it."""
  parser.add_argument("--dry-run", action="store_true", help="print steps,"
                      " memory and hours, and stop")
  parser.add_argument("--teraflops", type=float, help="what a device is taken"
                      " to do a second, in 10^12 operations, a multiply-add"
                      " being two, of --dry-run's hours (10)")


def asked(args: argparse.Namespace) -> bool:
  """Whether nothing is to be run; fills in what was left out.

  Raises:
    InputError: arguments that have no effect with --dry-run, or without.
  """
  others = ("executor", "jobs", "slurm", "overwrite", "report")
  for name in others if args.dry_run else ("teraflops",):
    if getattr(args, name, None) not in (None, False, []):
      raise errors.InputError(f"--{name} has no effect " + (
          "with --dry-run, which runs nothing; leave one of them out"
          if args.dry_run else "without --dry-run; give it, or leave it out"))
  if args.teraflops is None:
    args.teraflops = 10.0
  return args.dry_run


def load(name: str, data_dir: str | None, *, image_size: int,
         train_images: int) -> data_lib.Dataset:
  """A data set as `transforming.load`, or what is known of one that lacks."""
  try:
    dataset = data_lib.load(name, data_dir=data_dir, image_size=image_size)
  except errors.NotThere:
    if data_dir is not None:
      raise
    dataset = data_lib.absent(name, image_size=image_size)
  some = np.arange(train_images or len(dataset.train_labels))
  return dataclasses.replace(
      dataset, train_images=dataset.train_images[some],
      train_labels=dataset.train_labels[some])


def over_datasets(config: Any, args: argparse.Namespace, add: Any) -> None:
  """Prints what every network takes on every data set.

  Args:
    config: of an experiment of `transforming.over_datasets`.
    args: its arguments.
    add: `(estimates, network, dataset)` adds rows.
  """
  estimates = Estimates(args.teraflops)
  for name in config.datasets:
    dataset = load(name, args.data_dir, image_size=config.image_size,
                   train_images=config.train_images)
    for network in config.networks:
      of_one = Estimates(args.teraflops)
      add(of_one, network, dataset)
      estimates.rows += [row._replace(what=f"{dataset.name}: {row.what}")
                         for row in of_one.rows]
  estimates.show()
