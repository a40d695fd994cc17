"""The job of training networks of one architecture from scratch."""

import os
from typing import Any

from natjax import data as data_lib
from natjax import drawing
from natjax.graph import codec
from natjax.methods import supervised
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import common
from natjax.pipeline import runs
from natjax.pipeline import trainer as trainer_lib


class TrainJob:
  """A training that is checked and described but not yet run.

  Attributes:
    architecture: what to train.
    trainer: how.
    processes: that run it.
    entry: None; a `Job` has a method's.
  """

  entry = None

  def __init__(
      self, architecture: codec.Architecture, dataset: data_lib.Dataset,
      config: supervised.TrainConfig, *, seed: int = 0,
      devices: int | None = None,
      simclr: simclr_lib.SimCLRConfig | None = None,
  ):
    """Args:
      architecture: what to train.
      dataset: images.
      config: how.
      seed: the first of its seeds.
      devices: how many to spread over; None is all.
      simclr: settings of the self-supervised objective; None learns labels.

    Raises:
      InputError: anything that does not fit.
    """
    self.architecture = codec.check(architecture)
    self.trainer = trainer_lib.Trainer(
        dataset, config, architecture.kind, seed=seed, devices=devices,
        simclr=simclr)
    self.processes = self.trainer.processes
    self.trainer.cost(self.architecture)

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    return {"kind": "train",
            "architecture": codec.to_dict(self.architecture),
            **self.trainer.describe()}

  def estimate(self) -> dict[str, Any]:
    """Size of the job: "params", "madds", "steps", "memory_bytes"."""
    return self.trainer.estimate(self.architecture)

  def run(
      self, out: str | os.PathLike[str], *, overwrite: bool = False,
      listener: common.Listener | None = None,
  ) -> dict[str, Any]:
    """Runs or resumes the job in `out`."""
    trainer = self.trainer
    folder, result = runs.open_job(self, out, overwrite=overwrite)
    if result is not None:
      return result
    if self.processes.first:
      runs.write_architecture(folder, self.architecture)
    results = trainer.train(folder, "network", self.architecture,
                            listener or common.Listener())
    result = {
        **trainer.summary(self.architecture, results),
        "architecture": codec.to_dict(self.architecture),
        "objective": trainer.judge.objective, **trainer.facts(),
        "seconds": round(sum(r["seconds"] for r in results), 1)}
    if self.processes.first:
      drawing.save(folder / "architecture.svg", self.architecture)
      runs.write_json(folder / runs.RESULT, result)
    return result
