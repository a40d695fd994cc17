"""The job of training networks of one architecture from scratch."""

import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax

from natjax import drawing
from natjax import errors
from natjax.costs import exact as cost_lib
from natjax.graph import codec
from natjax.methods import supervised
from natjax.pipeline import common
from natjax.pipeline import estimate as memory
from natjax.pipeline import runs
from natjax.pipeline import task as task_lib
from natjax.training import devices as devices_lib
from natjax.training import distributed
from natjax.training import fit as fit_lib
from natjax.training import metrics as metrics_lib
from natjax.training import seeds as seeds_lib
from natjax.training import settings


class TrainJob:
  """A training that is checked and described but not yet run.

  Attributes:
    architecture: what to train.
    dataset: on what.
    config: how.
    task: what is learnt.
    place: in which skeleton or frame.
    group: the processes that run it; the first reads and writes the files.
    way: how several seeds are trained (`seeds.seeds_together`).
  """

  def __init__(self, architecture, dataset, config, *, seed, devices=None,
               simclr=None):
    self.architecture = codec.check(architecture)
    self.dataset = dataset
    self.config = supervised.check(config)
    settings.finite(config)
    common.check_seed(seed, config.seeds)
    self.seed = seed
    self.devices = tuple(devices_lib.choose(devices))
    self.group = distributed.Processes(self.devices)
    self.way = seeds_lib.seeds_together(config.seeds, self.devices, dense=True)
    self.task = task_lib.make(dataset, config, simclr)
    self.place = self.task.place(self.architecture)
    if not 0 <= config.cutout <= self.place.image_size:
      raise errors.InputError(
          f"cutout is {config.cutout} and must lie in [0,"
          f" {self.place.image_size}], the images' side; --cutout 0 turns it"
          " off")
    devices_lib.check_batch(
        config.batch_size,
        len(self.devices) if self.way == "one by one" else 1)
    fit_lib.check_splits({"train": self.split}, config.batch_size)
    self.cost = cost_lib.network(self.architecture, self.place)

  @property
  def split(self) -> fit_lib.Split:
    """The training images."""
    return fit_lib.Split(self.dataset.train_images, self.dataset.train_labels)

  @functools.cached_property
  def steps(self) -> int:
    """Updates per epoch."""
    return len(self.dataset.train_labels) // self.config.batch_size

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    return {
        "kind": "train",
        "architecture": codec.to_dict(self.architecture),
        **runs.describe_data(self.dataset),
        **self.task.describe(),
        "train": dataclasses.asdict(self.config),
        "seed": self.seed,
        "devices": len(self.devices),
        # Otherwise each seed has all devices, and the batch is divided.
        **({} if self.way == "one by one" else {"seeds_together": self.way}),
    }

  def estimate(self) -> dict[str, int]:
    """Size of the job: "params", "madds", "steps", "memory_bytes"."""
    batch = self.config.batch_size // len(self.devices)
    return {
        "params": self.cost.params, "madds": self.cost.madds,
        "steps": self.steps * self.config.epochs * self.config.seeds,
        "memory_bytes": memory.network_bytes(
            self.architecture, self.place, batch, self.config.dtype),
    }

  def run(self, out, *, overwrite, listener) -> dict[str, Any]:
    """Runs or resumes the job in `out`."""
    out, result = runs.open_job(self, out, overwrite=overwrite)
    if result is not None:
      return result
    if self.group.first:
      metrics_lib.write_text(out / runs.ARCHITECTURE,
                             codec.to_json(self.architecture) + "\n")
    results = self.train_seeds(out, "network", listener)
    result = {
        **self.summary(results),
        "architecture": codec.to_dict(self.architecture),
        "dataset": self.dataset.name, "objective": self.task.objective,
        "seed": self.seed, "versions": common.versions(),
        "devices": [d.device_kind for d in self.devices],
        "seconds": round(sum(r["seconds"] for r in results), 1),
    }
    if self.group.first:
      drawing.save(out / "architecture.svg", self.architecture)
      runs.write_json(out / runs.RESULT, result)
    return result

  def summary(self, results) -> dict[str, Any]:
    """Costs, and mean and deviation of the accuracy over seeds."""
    return {"params": self.cost.params, "madds": self.cost.madds,
            **common.over_seeds(results)}

  def train_seeds(
      self, out: pathlib.Path, name: str, listener: common.Listener
  ) -> list[dict[str, Any]]:
    """Trains one network per seed under `out`; finished ones are kept."""
    method = supervised.Supervised(
        self.config, self.architecture, num_classes=self.task.num_classes,
        image_size=self.place.image_size, steps_per_epoch=self.steps,
        objective=self.task.make_objective(
            self.config, self.architecture, self.place, None),
        watch=self.task.watch)
    record = method.method()
    folders = self.folders(out, name)
    found = {s: runs.find_result(self.group, f) for s, f in folders.items()}
    for seed, state, seconds in common.fit_all(
        self, record, {s: f"{name}-{s}" for s in self.pending(found)},
        lambda seed: self.made(folders[seed]) / "checkpoint",
        out / "checkpoint" / name, out / runs.METRICS, listener):
      found[seed] = found[seed] or self.finish(
          self.made(folders[seed]), method, state, seed, self.architecture,
          seconds)
    return list(found.values())

  def folders(self, out: pathlib.Path, name: str) -> dict[int, pathlib.Path]:
    """Per seed, the folder of a network."""
    return {s: out / runs.NETWORKS / f"{name}-{s}"
            for s in range(self.seed, self.seed + self.config.seeds)}

  def pending(self, found: dict[int, Any]) -> list[int]:
    """The seeds to train: what trains at once is resumed at once.

    Args:
      found: per seed, its result or None.
    """
    if self.way == "one by one" or all(found.values()):
      return [s for s, result in found.items() if result is None]
    return list(found)

  def made(self, folder: pathlib.Path) -> pathlib.Path:
    """The folder, made by the first process."""
    if self.group.first:
      folder.mkdir(parents=True, exist_ok=True)
    return folder

  def finish(
      self, folder: pathlib.Path, method: supervised.Supervised,
      state: supervised.TrainState, seed: int,
      architecture: codec.Architecture, seconds: float, **more: Any,
  ) -> dict[str, Any]:
    """Judges a trained network and writes it to its folder, in one process.

    Args:
      folder: of this network.
      method: that trained it.
      state: at the end.
      seed: of the training.
      architecture: of the network.
      seconds: spent on it before it is judged.
      **more: further values of the result.

    Returns:
      What the folder's `result.json` holds.
    """
    return self.group.of_first(lambda: self._conclude(
        folder, method, jax.device_put(state, jax.local_devices()[0]), seed,
        architecture, seconds, more))

  def _conclude(self, folder, method, state, seed, architecture, seconds,
                more):
    began = time.monotonic()
    judged = self.task.judge(method, state)
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    runs.save_weights(folder / runs.WEIGHTS, self.task.keep(variables))
    result = {
        **judged, "seed": seed,
        "architecture": codec.to_dict(architecture),
        "place": self.place._asdict(),
        "auxiliary": self.config.auxiliary, "dtype": self.config.dtype,
        "mean": list(map(float, self.dataset.mean)),
        "std": list(map(float, self.dataset.std)),
        "class_names": list(self.dataset.class_names),
        **more,
        "seconds": round(seconds + time.monotonic() - began, 1),
    }
    runs.write_json(folder / runs.RESULT, result)
    return result
