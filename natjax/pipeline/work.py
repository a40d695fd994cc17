"""Work that is done in a run's folder: the frame of every job, and a training.
"""

from collections.abc import Mapping
import contextlib
import os
import pathlib
from typing import Any

from natjax import data as data_lib
from natjax import drawing, errors
from natjax.data import streamed
from natjax.graph import codec
from natjax.methods import supervised
from natjax.objectives import arcface as arcface_lib
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import (
  checks,
  estimates,
  progress,
  rate,
  run_files,
  runs,
  shapes,
  summary,
)
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import judge as judge_lib
from natjax.pipeline import trainer as trainer_lib
from natjax.pipeline import weights as weights_lib
from natjax.training import fit as fit_lib
from natjax.training import settings

_TIME = "checkpoint/time.json"  # Seconds of the starts so far.


class Work:
  """What is checked and described but not yet run.

  Attributes:
    trainer: of the networks.
    architecture: what is trained; what a method transforms, as the method
      writes it, or None.
    parts: jobs of which it is made up, by their folders.
    note: what a user should know of what was given, a line, or "".
    coarse: likewise, of the images that decide; said at the beginning alone.
  """

  trainer: trainer_lib.Trainer
  architecture: codec.Architecture | None
  parts: Mapping[str, "Work"] = {}
  note = ""
  coarse = ""

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    given = self.architecture
    return {"kind": "train", **({} if given is None else {
        "architecture": codec.to_dict(given)}), **self.trainer.describe()}

  def rate(self) -> float:
    """What a device does a second, 10^12 operations: training is timed now.

    See `rate.teraflops`; the first of several given networks is taken.

    Raises:
      InputError: none is given, as to a search.
    """
    if (given := self._timed_network()) is None:
      raise errors.InputError("what is timed is the network that is given, and"
                              " there is none; give a number", "teraflops")
    trainer = self.trainer
    return rate.teraflops(
        given, trainer.place, max(trainer.config.batch_size
                                  // trainer.together
                                  // trainer.config.accumulate, 1),
        trainer.config.dtype, trainer.devices)

  def _timed_network(self):
    return self.architecture

  def open(self, out: str | os.PathLike[str], *, overwrite: bool = False,
           strict: bool = False) -> dict[str, Any] | None:
    """Opens its directory; returns its result, if it is there.

    Raises:
      InputError: in all processes, as `runs.open_run`, or another process runs
        there, or what is not yet trained is larger than the devices' memory.
    """
    settings.switches(overwrite=overwrite, strict=strict)
    if self.trainer.processes.size > 1:  # Or nothing is described twice.
      runs.check_alike(self.trainer.processes, self.describe())
    with self._held(out):  # Before anything there is overwritten.
      self.trainer.processes.of_first(lambda: self._check_memory(out))
      return self._open(out, overwrite, strict)

  def check(self, out: str | os.PathLike[str], whole: bool = True) -> None:
    """Refuses a folder that `open` would refuse, and leaves it as it is.

    Args:
      out: the folder.
      whole: whether a run there is compared with what is described here, which
        of a set without its images, or of one of several processes, is not all.

    Raises:
      InputError: as `runs.check`.
    """
    known = whole and not isinstance(
        self.trainer.dataset.train_images, streamed.Absent)
    runs.check(out, self.describe() if known else None)

  def _open(self, out, overwrite=False, strict=False):
    self.trainer.processes.of_first(lambda: str(runs.open_run(
        out, self.describe(), overwrite=overwrite, strict=strict)))
    return runs.find_result(self.trainer.processes, out)

  def _check_memory(self, out):
    if not (pathlib.Path(out) / run_files.RESULT).is_file():
      estimates.check_memory(self.estimate(), self.trainer)

  @contextlib.contextmanager
  def _held(self, out):
    """Holds the folder, in the process that writes there."""
    with contextlib.ExitStack() as stack:
      self.trainer.processes.of_first(
          lambda: stack.enter_context(runs.locked(out)))
      yield

  def run(self, out: str | os.PathLike[str], *, overwrite: bool = False,
          strict: bool = False, listener: fit_lib.Listener | None = None
          ) -> dict[str, Any]:
    """Runs or resumes it in `out`; returns what its `result.json` holds."""
    if not isinstance(listener, fit_lib.Listener | None):
      raise errors.InputError(f"listener is {errors.short(listener)} and must"
                              " be a Listener; see natjax.Listener")
    self.open(out, overwrite=overwrite, strict=strict)
    folder = pathlib.Path(out)
    with self._held(out):
      if (result := self._open(out)) is not None:
        return result
      with self._timed(folder), progress.hearing(
          listener, self.trainer.processes.first) as heard:
        result, shown = self._run(folder, heard)
      if self.note:
        result["note"] = self.note
      # Several seeds or architectures are jobs of their own, which have told.
      result.setdefault("time", self.trainer.clock.rounded())
      if self.trainer.processes.first:
        config = runs.read_config(folder)
        result.update({name: config[name] for name in (
            "versions_before", "machine_before", "compiler_before")
                       if name in config})
        if shown:
          runs.write_architecture(folder, shown[-1])
          drawing.save(folder / "architecture.svg", *shown)
        run_files.write_result(folder, result)
    return result

  @contextlib.contextmanager
  def _timed(self, out):
    """Adds the time to that of earlier starts.

    That of a start which is killed, refused or comes to no row of metrics is
    lost.
    """
    path, first = out / _TIME, self.trainer.processes.first
    clock = self.trainer.clock = clock_lib.Clock(run_files.read_json(
        path, shapes.TIME) if first and path.exists() else None)
    refused = False
    try:
      with clock.running():
        yield
    except errors.InputError:
      refused = True  # Of what is damaged nothing is changed.
      raise
    finally:
      if first and not refused and (out / run_files.METRICS).exists():
        path.parent.mkdir(exist_ok=True)
        run_files.write_json(path, clock.seconds)

  def estimate(self, teraflops: float | None = None) -> dict[str, Any]:
    """Size of the job; see `TrainJob.estimate` and `planned.Planned`."""
    raise NotImplementedError

  def _run(self, out, listener):
    """Returns the result, and the architectures to draw."""
    raise NotImplementedError


class TrainJob(Work):
  """A training of one architecture, once per seed; see `Work`."""

  architecture: codec.Architecture
  entry = None

  def __init__(self, architecture: codec.Architecture,
               dataset: data_lib.Dataset, config: supervised.TrainConfig, *,
               seed: int = 0, devices: int | None = None,
               simclr: simclr_lib.SimCLRConfig | None = None,
               arcface: arcface_lib.ArcFaceConfig | None = None,
               weights: weights_lib.Source | None = None,
               held_out: float = 0.0):
    """Args:
      architecture: what to train.
      dataset: images.
      config: how.
      seed: the first of its seeds.
      devices: how many to spread over; None is all.
      simclr: settings of the self-supervised objective; None learns labels.
      arcface: settings by which labels are learnt as identities of faces are.
      weights: to begin with, a run's folder, a file or variables
        (`pipeline.weights`); None draws them.
      held_out: part of the training images that is not trained on, whose
        accuracy is told after every epoch; 0 holds out none.

    Raises:
      InputError: anything that does not fit.
    """
    self.architecture = codec.check(architecture)
    self._held_out = checks.part(held_out, simclr)
    self.trainer = trainer_lib.Trainer(
        dataset, config, architecture.kind, seed=seed, devices=devices,
        objective=judge_lib.one_of(simclr, arcface), held_out=self._held_out)
    self.trainer.cost(self.architecture)
    self._weights, anew = weights_lib.given(
        weights, self.architecture, self.trainer)
    self.note = "; ".join(filter(None, (
        anew, weights_lib.note(self._weights, dataset))))

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    return {**super().describe(), **weights_lib.describe(self._weights),
            **({"held_out": self._held_out} if self._held_out else {})}

  def estimate(self, teraflops: float | None = None) -> dict[str, Any]:
    """Size of the job: "params", "madds", "steps", "hours", "memory_bytes".

    The hours are those of the steps' multiply-adds; input, scores and what
    compiling takes are not counted.

    Args:
      teraflops: 10^12 operations that a device does a second, a multiply-add
        being two; None takes what `devices.teraflops` does.
    """
    return estimates.training(
        self.trainer, self.architecture, teraflops)

  def _run(self, out, listener):
    if self.trainer.processes.first:
      runs.write_architecture(out, self.architecture)
    found = self.trainer.train(out, "network", self.architecture, listener,
                               files=self._weights)
    return {
        **summary.means(found, self.trainer.cost(self.architecture)),
        "architecture": codec.to_dict(self.architecture),
        "objective": self.trainer.judge.objective, **self.trainer.facts(),
        "seconds": round(sum(r["seconds"] for r in found), 1)
    }, [self.architecture]
