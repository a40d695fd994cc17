"""The search of a job: a method runs, and what it comes to is written."""

from collections.abc import Callable, Mapping
import functools
import pathlib
import time
from typing import Any

from natjax import errors
from natjax.graph import codec
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import feed as feed_lib
from natjax.pipeline import run_files, runs, shapes
from natjax.pipeline import trainer as trainer_lib
from natjax.training import distributed
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import metrics as metrics_lib

_DERIVED = "checkpoint/derived.json"  # The report of a search.


def read(out: pathlib.Path, processes: distributed.Processes
         ) -> tuple[codec.Architecture, dict[str, Any]]:
  """What `run` wrote to a folder: the architecture and the report.

  That is what was derived: `architecture.json` is at last what is returned.
  """
  report = processes.of_first(
      lambda: run_files.read_json(out / _DERIVED, shapes.SEARCHED))
  return codec.from_dict(report.pop("architecture")), report


def run(out: pathlib.Path, program: Callable[[], base.Method],
        given: Mapping[pathlib.Path, codec.Architecture | None],
        listener: fit_lib.Listener, *, trainer: trainer_lib.Trainer,
        feed: feed_lib.Feed, label: str,
        hand_on: Callable[[base.State, base.Derived], None] | None) -> None:
  """Runs a method in a folder, and derives; what is there already is kept.

  Args:
    out: the run's folder.
    program: gives the method, asked only where it has to run.
    given: of every folder in which something is derived, the architecture that
      the method was given.
    listener: who hears of the course.
    trainer: of the networks.
    feed: what the method walks over.
    label: name of its rows and checkpoints.
    hand_on: writes what networks begin with that are trained afterwards.
  """
  began, of_first = time.monotonic(), trainer.processes.of_first

  def fit(program, suffix=""):
    name = label + suffix
    options = fit_lib.Options(
        **vars(listener), seed=trainer.seed, run=name,
        devices=trainer.devices, metrics_path=out / run_files.METRICS,
        checkpoint_dir=out / "checkpoint" / name)
    with trainer.clock.part(clock_lib.SEARCH):
      return fit_lib.fit(program, **feed._asdict(), options=options)

  def derive(folder, method, state, last, report):
    ended, alone = time.monotonic(), folder == out
    with errors.naming("" if alone else folder.name), (
        trainer.clock.part(clock_lib.EVALUATION)):
      derived = feed.derive(
          method, state, last if alone else given[folder], trainer.seed,
          listener, label)
    if hand_on is not None:
      hand_on(state, derived)
    (folder / _DERIVED).parent.mkdir(exist_ok=True)
    runs.write_architecture(folder, derived.architecture)
    own = time.monotonic() - ended
    run_files.write_kept(folder / _DERIVED, {
        **report, **derived.report,
        "architecture": codec.to_dict(derived.architecture),
        "scoring_batch_size": feed.batch_size,
        "search_seconds": round(own if not alone else max(
            time.monotonic() - began, own + metrics_lib.seconds(
                out / run_files.METRICS, label)), 1)})

  left = [folder for folder in given
          if not of_first((folder / _DERIVED).exists)]
  if left:
    first = program()
    ended = base.follow(first, fit(first), next(iter(given.values())), fit,
                        lambda method, state, over, suffix: over.report)
    for folder in left:
      of_first(functools.partial(derive, folder, *ended))
