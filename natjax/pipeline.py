"""The main jobs: transform an architecture, train architectures.

`transform`: trains a supernet and a policy (`methods.nat`, `methods.natpp`),
transforms the given architecture, trains the original and the transformed
network alike, and says what changed. `train` is its last part alone. Both are
resumed by calling them again with the same arguments.
"""

from collections.abc import Callable
import dataclasses
import functools
import json
import os
import pathlib
import platform
import re
import time
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import blocks as blocks_lib
from natjax import budget as budget_lib
from natjax import codec
from natjax import cost as cost_lib
from natjax import data as data_lib
from natjax import drawing
from natjax import errors
from natjax import memory
from natjax import presets
from natjax import runs
from natjax import settings
from natjax import spaces
from natjax.methods import inference
from natjax.methods import nat
from natjax.methods import natpp
from natjax.methods import supervised
from natjax.spaces import blocks as blocks_space
from natjax.training import devices as devices_lib
from natjax.training import distributed
from natjax.training import fit as fit_lib
from natjax.training import metrics as metrics_lib

Architecture = codec.Architecture
_DERIVED = "checkpoint/derived.json"  # The report of a search.
METHODS: dict[str, type[nat.NAT]] = {"nat": nat.NAT, "natpp": natpp.NATpp}


@dataclasses.dataclass(frozen=True)
class Listener:
  """Who hears of a run's course; the command line shows it.

  Attributes:
    on_progress: called before a phase's first chunk of steps and after every
      chunk.
    on_row: called with every row of `metrics.jsonl`.
    should_stop: asked after every chunk; true saves and raises `Interrupted`.
    checkpoint_seconds: least time between checkpoints.
    chunk_seconds: about how long a chunk of steps takes.
  """

  on_progress: Callable[[fit_lib.Progress], None] = lambda progress: None
  on_row: Callable[[metrics_lib.Row], None] | None = None
  should_stop: Callable[[], bool] = lambda: False
  checkpoint_seconds: float = 60.0
  chunk_seconds: float = 10.0


def versions() -> dict[str, str]:
  """Versions that a result depends on."""
  return {"python": platform.python_version(), "jax": jax.__version__,
          "flax": flax.__version__, "optax": optax.__version__,
          "numpy": np.__version__}


def transform(
    architecture: Architecture,
    dataset: data_lib.Dataset,
    *,
    out: str | os.PathLike[str],
    method: str = "nat",
    search: nat.NATConfig | None = None,
    train: supervised.TrainConfig | None = None,
    space: str | None = None,
    share: str = "cell",
    seed: int = 0,
    devices: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
  """Transforms an architecture by NAT or NAT++ and trains both networks.

  Args:
    architecture: what to transform: a genotype, or a network of blocks.
    dataset: images; the test images are looked at once, by trained networks.
    out: the run directory; an interrupted run there is resumed.
    method: "nat" or "natpp".
    search: settings of the search; None is the preset "small".
    train: settings of the final training; None is the preset "small".
    space: of `spaces.SPACES`, for a genotype; None chooses by the genotype.
    share: "cell" transforms blocks of one topology alike, "full" each by
      itself; a genotype's cells are shared by all layers ("cell").
    seed: of everything random.
    devices: how many to spread over; None is all.
    overwrite: remove an earlier run in `out`.
    listener: who hears of the course.

  Returns:
    What `result.json` holds: "original" and "transformed" with "params",
    "madds", "accuracy" (mean over seeds, in [0, 1]), "accuracy_std" and
    "accuracies"; "changes"; "candidates" with their scores; "architectures",
    "seed", "versions", "seconds".

  Raises:
    InputError: anything that does not fit, before anything is compiled.
    budget.NotMet: no candidate keeps to the budget of the settings.
  """
  default = presets.get("small", architecture)
  job = TransformJob(
      architecture, dataset, search or default.search, train or default.train,
      method=method, space=space, share=share, seed=seed, devices=devices)
  return job.run(out, overwrite=overwrite, listener=listener or Listener())


def train(
    architecture: Architecture,
    dataset: data_lib.Dataset,
    *,
    out: str | os.PathLike[str],
    config: supervised.TrainConfig | None = None,
    seed: int = 0,
    devices: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
  """Trains the network of an architecture, once per seed; see `transform`.

  Returns:
    What `result.json` holds: "params", "madds", "accuracy", "accuracy_std",
    "accuracies", "architecture", "seed", "versions", "seconds".
  """
  default = presets.get("small", architecture)
  job = TrainJob(architecture, dataset, config or default.train, seed=seed,
                 devices=devices)
  return job.run(out, overwrite=overwrite, listener=listener or Listener())


class TrainJob:
  """A training that is checked and described but not yet run.

  Attributes:
    architecture: what to train.
    dataset: on what.
    config: how.
    place: in which skeleton or frame.
    group: the processes that run it; the first reads and writes the files.
  """

  def __init__(self, architecture, dataset, config, *, seed, devices=None):
    self.architecture = codec.check(architecture)
    self.dataset = dataset
    self.config = supervised.check(config)
    settings.finite(config)
    _check_seed(seed, config.seeds)
    self.seed = seed
    self.devices = tuple(devices_lib.choose(devices))
    self.group = distributed.Group(self.devices)
    self.place = supervised.place_of(
        config, self.architecture, num_classes=dataset.num_classes,
        image_size=dataset.train_images.shape[1])
    if not 0 <= config.cutout <= self.place.image_size:
      raise errors.InputError(
          f"cutout is {config.cutout} and must lie in [0,"
          f" {self.place.image_size}], the images' side; --cutout 0 turns it"
          " off")
    devices_lib.check_batch(config.batch_size, len(self.devices))
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
        "train": dataclasses.asdict(self.config),
        "seed": self.seed,
        "devices": len(self.devices),
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
        "seed": self.seed, "versions": versions(),
        "devices": [d.device_kind for d in self.devices],
        "seconds": round(sum(r["seconds"] for r in results), 1),
    }
    if self.group.first:
      drawing.save(out / "architecture.svg", self.architecture)
      runs.write_json(out / runs.RESULT, result)
    return result

  def summary(self, results) -> dict[str, Any]:
    """Costs, and mean and deviation of the accuracy over seeds."""
    accuracies = [r["accuracy"] for r in results]
    return {
        "params": self.cost.params, "madds": self.cost.madds,
        "accuracy": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies, ddof=1))
        if len(accuracies) > 1 else 0.0,
        "accuracies": accuracies,
    }

  def train_seeds(
      self, out: pathlib.Path, name: str, listener: Listener
  ) -> list[dict[str, Any]]:
    """Trains one network per seed under `out`; finished ones are kept."""
    method = supervised.Supervised(
        self.config, self.architecture, num_classes=self.dataset.num_classes,
        image_size=self.place.image_size, steps_per_epoch=self.steps)
    record = method.method()
    return [self._train_one(method, record, out, f"{name}-{self.seed + i}",
                            self.seed + i, listener)
            for i in range(self.config.seeds)]

  def _train_one(self, method, record, out, name, seed, listener):
    folder = out / runs.NETWORKS / name
    result = runs.find_result(self.group, folder)
    if result is not None:
      return result
    if self.group.first:
      folder.mkdir(parents=True, exist_ok=True)
    preparation = _preparation(self.dataset, self.config.dtype,
                               cutout=self.config.cutout)
    began = time.monotonic()
    state = fit_lib.fit(
        record, {"train": self.split}, batch_size=self.config.batch_size,
        preparation=preparation, options=_options(
            listener, seed, self.devices, folder / "checkpoint",
            out / runs.METRICS, name))
    return self.group.of_first(lambda: self._conclude(
        method, record, folder, jax.device_put(state, self.devices[0]),
        preparation, seed, began))

  def _conclude(self, method, record, folder, state, preparation, seed, began):
    """Tests a trained network and writes it; returns its result."""
    test = fit_lib.Split(self.dataset.test_images, self.dataset.test_labels)
    accuracy = fit_lib.evaluate(
        record.evaluate, state, test, preparation=preparation,
        batch_size=max(self.config.batch_size, 128))
    variables = {"params": state.params, "batch_stats": state.batch_stats}
    runs.save_weights(folder / runs.WEIGHTS, variables)
    result = {
        "accuracy": accuracy, "seed": seed,
        "architecture": codec.to_dict(self.architecture),
        "place": self.place._asdict(),
        "auxiliary": self.config.auxiliary, "dtype": self.config.dtype,
        "mean": list(map(float, self.dataset.mean)),
        "std": list(map(float, self.dataset.std)),
        "class_names": list(self.dataset.class_names),
        "seconds": round(time.monotonic() - began, 1),
    }
    runs.write_json(folder / runs.RESULT, result)
    return result


class TransformJob:
  """A transformation that is checked and described but not yet run."""

  def __init__(self, architecture, dataset, search, train, *, method="nat",
               space=None, share="cell", seed=0, devices=None):
    if method not in METHODS:
      raise errors.InputError(
          f"method '{method}' is unknown; choose one of {', '.join(METHODS)}")
    self.method = method
    self.space = _space(codec.check(architecture), method, space, share)
    # A network of blocks is padded with null edges; that changes nothing else.
    self.architecture = getattr(
        self.space, "network", codec.check(architecture))
    self.dataset = dataset
    self.search = nat.check(search)
    settings.finite(search)
    try:
      self.train = TrainJob(
          self.architecture, dataset, train, seed=seed, devices=devices)
    except errors.InputError as e:
      raise errors.InputError(_of_final_training(str(e), train)) from e
    self.seed, self.devices = seed, self.train.devices
    self.group = self.train.group
    devices_lib.check_batch(search.batch_size, len(self.devices))
    parts = data_lib.split(
        len(dataset.train_labels),
        (search.weights_fraction, 1 - search.weights_fraction), seed=seed)
    self.splits = {
        name: fit_lib.Split(dataset.train_images[rows],
                            dataset.train_labels[rows])
        for name, rows in zip(("weights", "policy"), parts, strict=True)
    }
    fit_lib.check_splits(self.splits, search.batch_size)
    self.nat = METHODS[method](
        search, self.space, num_classes=dataset.num_classes,
        image_size=dataset.train_images.shape[1],
        targets=(self.train.place,),
        steps_per_epoch=len(parts[0]) // search.batch_size,
        num_devices=len(self.devices))
    self.nat.domain.encode(self.architecture)
    inference.budget(self.nat, self.architecture)

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    return {
        "kind": "transform",
        "method": self.method,
        "architecture": codec.to_dict(self.architecture),
        **runs.describe_data(self.dataset),
        "space": self.space.describe(),
        "search": dataclasses.asdict(self.search),
        "train": dataclasses.asdict(self.train.config),
        "seed": self.seed,
        "devices": len(self.devices),
    }

  def estimate(self) -> dict[str, Any]:
    """Size of the job: of the search, and of the networks it trains."""
    supernet = self.nat.supernet
    shapes = jax.eval_shape(supernet.init, jax.random.key(0))
    params = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    batch = self.search.batch_size // len(self.devices)
    steps = sum(
        stage.epochs * sum(len(self.splits[p.split].labels)
                           // self.search.batch_size for p in stage.phases)
        for stage in self.nat.method().stages)
    return {
        "search": {
            "params": params, "steps": steps,
            "memory_bytes": memory.supernet_bytes(supernet, params, batch)},
        "train": self.train.estimate(),
    }

  def run(self, out, *, overwrite, listener) -> dict[str, Any]:
    """Runs or resumes the job in `out`."""
    out, result = runs.open_job(self, out, overwrite=overwrite)
    if result is not None:
      return result
    transformed, report = self._transform(out, listener)
    after = TrainJob(
        transformed, self.dataset, self.train.config, seed=self.seed,
        devices=len(self.devices))
    results = {"original": self.train.train_seeds(out, "original", listener)}
    # What came out unchanged is the same network: trained once.
    results["transformed"] = (
        results["original"] if transformed == self.architecture
        else after.train_seeds(out, "transformed", listener))
    result = {
        "original": self.train.summary(results["original"]),
        "transformed": after.summary(results["transformed"]),
        "changes": [change._asdict() for change in
                    drawing.changes(self.architecture, transformed)],
        **report,
        "architectures": {
            "original": codec.to_dict(self.architecture),
            "transformed": codec.to_dict(transformed)},
        "method": self.method,
        "dataset": self.dataset.name, "seed": self.seed,
        "versions": versions(),
        "devices": [d.device_kind for d in self.devices],
    }
    networks = {id(r): r for rs in results.values() for r in rs}
    result["seconds"] = round(report["search_seconds"] + sum(
        r["seconds"] for r in networks.values()), 1)
    if self.group.first:
      drawing.save(out / "architecture.svg", self.architecture, transformed)
      runs.write_json(out / runs.RESULT, result)
    return result

  def _transform(self, out, listener):
    """Searches and derives; returns the architecture and the report."""
    derived = out / _DERIVED
    found = self.group.of_first(lambda: derived.exists() and (
        codec.to_dict(codec.read(out / runs.ARCHITECTURE)),
        runs.read_json(derived)))
    if found:
      return codec.from_dict(found[0]), found[1]
    began = time.monotonic()
    preparation = _preparation(self.dataset, self.search.dtype)
    state = fit_lib.fit(
        self.nat.method(), self.splits, batch_size=self.search.batch_size,
        preparation=preparation, options=_options(
            listener, self.seed, self.devices, out / "checkpoint" / "search",
            out / runs.METRICS, "search"))
    transformed, report = self.group.of_first(
        lambda: self._derive(jax.device_put(state, self.devices[0]), out,
                             preparation, began),
        refusals=(errors.InputError, budget_lib.NotMet))
    return codec.from_dict(transformed), report

  def _derive(self, state, out, preparation, began):
    """Derives and writes; returns the architecture as JSON, and the report."""
    rng = jax.random.fold_in(jax.random.key(self.seed), 1)
    scoring_batch = self.search.batch_size
    predict = self._predict

    def score(cells):
      return fit_lib.evaluate(
          predict, (state, cells), self.splits["policy"],
          preparation=preparation, batch_size=scoring_batch, whole=True)

    transformed, report = self.nat.derive(state, self.architecture, score, rng)
    report |= {"scoring_batch_size": scoring_batch,
               "search_seconds": round(time.monotonic() - began, 1)}
    metrics_lib.write_text(out / runs.ARCHITECTURE,
                           codec.to_json(transformed) + "\n")
    runs.write_json(out / _DERIVED, report)
    return codec.to_dict(transformed), report

  def _predict(self, state_and_cells, batch):
    state, cells = state_and_cells
    return self.nat.evaluate(state, batch, cells)


def _check_seed(seed, count):
  """Refuses a seed of which, or of whose followers, jax keeps only a part."""
  if not 0 <= seed <= 2**32 - count:
    raise errors.InputError(
        f"seed is {seed} and must lie in [0, {2**32 - count}]; pass --seed 0")


def _of_final_training(message, config):
  """Names the options in an error as `natjax transform` does."""
  names = "|".join(f.name.replace("_", "-") for f in dataclasses.fields(config))
  return re.sub(rf"--(no-)?({names})\b", r"--\1train-\2", message)


def _options(listener, seed, devices, checkpoint_dir, metrics_path, name):
  return fit_lib.Options(
      seed=seed, devices=devices, checkpoint_dir=checkpoint_dir,
      metrics_path=metrics_path, run=name, on_progress=listener.on_progress,
      on_row=listener.on_row, should_stop=listener.should_stop,
      chunk_seconds=listener.chunk_seconds,
      checkpoint_seconds=listener.checkpoint_seconds)


def _preparation(dataset, dtype, *, cutout=0):
  return fit_lib.Preparation(
      tuple(map(float, dataset.mean)), tuple(map(float, dataset.std)),
      dataset.augmentation._replace(cutout=cutout), jnp.dtype(dtype))


def _space(architecture, method, name, share):
  """The search space of an architecture."""
  if isinstance(architecture, blocks_lib.BlockNetwork):
    if name is not None:
      raise errors.InputError(
          f"space is '{name}', and a network of blocks is its own space; leave"
          " --space out")
    return blocks_space.space_for(architecture, method=method, share=share)
  if share != "cell":
    raise errors.InputError(
        f"share is '{share}', and a genotype's two cells are shared by all"
        " layers; unshare them by blocks.from_genotype, or share by 'cell'")
  return spaces.space_for(architecture, name=name, method=method)


def to_json(value: Any) -> str:
  """JSON text of a result or a configuration."""
  return json.dumps(value, indent=2)
