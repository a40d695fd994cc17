"""The job of differentiable transformation: one run per seed, and the original.

For every seed the given network is trained, and beside it the same network with
theta, which is derived on the way and trained to its end (`methods.
differentiable`). Every seed has an architecture of its own. Seeds may train at
once until they derive (`seeds.seeds_together`), each on one device; from then
on they follow each other, each on all devices. The two stages are two runs of
the engine, since shapes change between them.
"""

import dataclasses
import pathlib
import time
from typing import Any

import jax
import numpy as np

from natjax import data as data_lib
from natjax import drawing
from natjax import errors
from natjax.graph import codec
from natjax.methods import differentiable
from natjax.methods import supervised
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import common
from natjax.pipeline import estimate as memory
from natjax.pipeline import runs
from natjax.pipeline import train_job
from natjax.training import devices as devices_lib
from natjax.training import fit as fit_lib
from natjax.training import metrics as metrics_lib
from natjax.training import settings

Config = differentiable.DifferentiableConfig


class DifferentiableJob:
  """A differentiable transformation, checked and described but not yet run.

  Attributes:
    architecture: what is transformed; a network of blocks is padded.
    search: settings of the transformation.
    train: the job of training the original.
  """

  method = "differentiable"

  def __init__(
      self,
      architecture: codec.Architecture,
      dataset: data_lib.Dataset,
      search: Config,
      train: supervised.TrainConfig,
      *,
      share: str = "cell",
      seed: int = 0,
      devices: int | None = None,
      compare: bool = True,
      simclr: simclr_lib.SimCLRConfig | None = None,
  ):
    """Args:
      architecture: what to transform.
      dataset: images.
      search: settings of the transformation.
      train: of the whole training; its `seeds` follow each other from `seed`.
      share: "cell" or "full", see `methods.theta_space`.
      seed: of everything random.
      devices: how many to spread over; None is all.
      compare: whether to train the original, too.
      simclr: settings of the self-supervised objective; None learns labels.

    Raises:
      InputError: anything that does not fit.
      errors.NotMet: nothing keeps to the budget.
    """
    self.search, self.compare = search, compare
    settings.finite(search)
    try:
      self.train = train_job.TrainJob(
          codec.check(architecture), dataset, train, seed=seed,
          devices=devices, simclr=simclr)
    except errors.InputError as e:
      raise errors.InputError(
          common.of_final_training(str(e), train)) from e
    self.dataset, self.seed = dataset, seed
    self.devices, self.group = self.train.devices, self.train.group
    # The derived networks have all devices, also where seeds share them before.
    devices_lib.check_batch(train.batch_size, len(self.devices))
    task = self.train.task
    self.differentiable = differentiable.Differentiable(
        search, train, self.train.architecture, num_classes=task.num_classes,
        image_size=self.train.place.image_size, share=share,
        steps_per_epoch=self.train.steps,
        make_objective=task.make_objective, watch=task.watch)
    self.space = self.differentiable.space
    self.architecture = self.space.architecture

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    return {
        **self.train.describe(),
        "kind": "transform",
        "method": self.method,
        "architecture": codec.to_dict(self.architecture),
        "space": self.space.describe(),
        "search": dataclasses.asdict(self.search),
        "compare": self.compare,
    }

  def estimate(self) -> dict[str, Any]:
    """Size of the job: of the network with theta, and of the original."""
    like = jax.eval_shape(self.differentiable.objective.init,
                          jax.random.key(0))
    params = sum(leaf.size for leaf in jax.tree.leaves(like["params"]))
    config = self.train.config
    train = self.train.estimate()
    batch = config.batch_size // len(self.devices)
    extra = params - train["params"]
    return {
        "search": {
            "params": params,
            "theta": sum(len(g.cell.edges) * 3 for g in self.space.groups),
            "steps": self.train.steps * config.seeds
            * self.differentiable.epochs,
            "memory_bytes": 12 * extra + memory.network_bytes(
                self.architecture, self.train.place, batch, config.dtype)},
        "train": train,
    }

  def run(self, out, *, overwrite, listener) -> dict[str, Any]:
    """Runs or resumes the job in `out`."""
    out, result = runs.open_job(self, out, overwrite=overwrite)
    if result is not None:
      return result
    originals = (self.train.train_seeds(out, "original", listener)
                 if self.compare else [])
    found = self._transform(out, listener)
    architectures = [codec.from_dict(r["architecture"]) for r in found]
    result = {
        "transformed": {
            "params": float(np.mean([r["params"] for r in found])),
            "madds": float(np.mean([r["madds"] for r in found])),
            **common.over_seeds(found)},
        "changes": [change._asdict() for change in drawing.changes(
            self.architecture, architectures[0])],
        "seeds": [{k: r[k] for k in (
            "seed", "accuracy", "params", "madds", "num_changes",
            "train_accuracy_before_derivation",
            "train_accuracy_after_derivation", "guarded", "seconds")}
                  for r in found],
        "architectures": {
            "original": codec.to_dict(self.architecture),
            "transformed": codec.to_dict(architectures[0])},
        "method": self.method, "share": self.space.share,
        "objective": self.train.task.objective,
        "dataset": self.dataset.name, "seed": self.seed,
        "versions": common.versions(),
        "devices": [d.device_kind for d in self.devices],
        "seconds": round(sum(r["seconds"] for r in originals + found), 1),
    }
    if self.compare:
      result["original"] = self.train.summary(originals)
    if self.group.first:
      metrics_lib.write_text(out / runs.ARCHITECTURE,
                             codec.to_json(architectures[0]) + "\n")
      drawing.save(out / "architecture.svg", self.architecture,
                   architectures[0])
      drawing.save_theta(out / "theta.svg",
                         metrics_lib.read(out / runs.METRICS))
      runs.write_json(out / runs.RESULT, result)
    return result

  def _transform(self, out, listener):
    """Both stages of every seed, from where the checkpoints are."""
    train = self.train
    folders = train.folders(out, "transformed")
    found = {s: runs.find_result(self.group, f) for s, f in folders.items()}
    # Runs of their own in metrics.jsonl: rows are counted by run.
    for seed, state, seconds in common.fit_all(
        train, self.differentiable.method(),
        {s: f"theta-{s}" for s in train.pending(found)},
        lambda seed: train.made(folders[seed]) / "checkpoint_theta",
        out / "checkpoint" / "theta", out / runs.METRICS, listener):
      found[seed] = found[seed] or self._second_stage(
          out, train.made(folders[seed]), seed, state, seconds, listener)
    return list(found.values())

  def _second_stage(self, out, folder, seed, state, seconds, listener):
    """Derives a seed's network and trains it on all devices to its end."""
    began = time.monotonic()
    derived = self.differentiable.derive(state)
    report = self.group.of_first(
        lambda: self._report(folder, state, derived))
    train, network = self.train, derived.architecture
    final = fit_lib.fit(
        self.differentiable.continued(derived), {"train": train.split},
        batch_size=train.config.batch_size, preparation=train.task.preparation,
        options=common.options(
            listener, seed, self.devices, folder / "checkpoint",
            out / runs.METRICS, folder.name))
    cost = self.space.cost_of(network)
    if self.group.first:
      drawing.save(folder / "architecture.svg", self.architecture, network)
    return train.finish(
        folder, derived.method, final, seed, network,
        seconds + time.monotonic() - began, params=cost.params,
        madds=cost.madds, num_changes=len(
            drawing.changes(self.architecture, network)), **report)

  def _report(self, folder: pathlib.Path, state, derived):
    """What a derivation did, measured on training images."""
    path = folder / "derived.json"
    if not path.exists():
      glance = lambda method, state: self.train.task.glance(
          method, jax.device_put(state, jax.local_devices()[0]))
      runs.write_json(path, {
          **derived.report,
          "train_accuracy_before_derivation": glance(
              self.differentiable, state),
          "train_accuracy_after_derivation": glance(
              derived.method, derived.state)})
    return runs.read_json(path)
