"""The job of NAT and NAT++: search, derive, train both networks alike."""

import dataclasses
import time
from typing import Any

import jax

from natjax import data as data_lib
from natjax import drawing
from natjax import errors
from natjax import spaces
from natjax.graph import codec
from natjax.methods import inference
from natjax.methods import nat
from natjax.methods import natpp
from natjax.pipeline import common
from natjax.pipeline import estimate as memory
from natjax.pipeline import runs
from natjax.pipeline import train_job
from natjax.training import devices as devices_lib
from natjax.training import fit as fit_lib
from natjax.training import metrics as metrics_lib
from natjax.training import settings

_DERIVED = "checkpoint/derived.json"  # The report of a search.
METHODS: dict[str, type[nat.NAT]] = {"nat": nat.NAT, "natpp": natpp.NATpp}


class TransformJob:
  """A transformation that is checked and described but not yet run."""

  def __init__(self, architecture, dataset, search, train, *, method="nat",
               space=None, share="cell", seed=0, devices=None):
    if method not in METHODS:
      raise errors.InputError(
          f"method '{method}' is unknown; choose one of {', '.join(METHODS)} or"
          " differentiable")
    self.method = method
    self.space = spaces.space_for(
        architecture, name=space, method=method, share=share)
    # A network of blocks is padded with null edges; that changes nothing else.
    self.architecture = codec.pad(codec.check(architecture))
    self.dataset = dataset
    self.search = nat.check(search)
    settings.finite(search)
    try:
      self.train = train_job.TrainJob(
          self.architecture, dataset, train, seed=seed, devices=devices)
    except errors.InputError as e:
      raise errors.InputError(common.of_final_training(str(e), train)) from e
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
    self.nat.ground.encode(self.architecture)
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
    after = train_job.TrainJob(
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
        "versions": common.versions(),
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
    preparation = common.preparation(self.dataset, self.search.dtype)
    state = fit_lib.fit(
        self.nat.method(), self.splits, batch_size=self.search.batch_size,
        preparation=preparation, options=common.options(
            listener, self.seed, self.devices, out / "checkpoint" / "search",
            out / runs.METRICS, "search"))
    transformed, report = self.group.of_first(
        lambda: self._derive(
            jax.device_put(state, jax.local_devices()[0]), out, preparation,
            began),
        refusals=(errors.InputError, errors.NotMet))
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
