"""Trains and judges the networks of a job, one per seed.

What trains them is a `method.Method`: `methods.supervised` trains an
architecture as it is, and others transform it on the way; where one hands over
to another, that goes on, seed by seed on all devices.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import pathlib
import time
from typing import Any

import jax
import numpy as np

import natjax
from natjax import data as data_lib
from natjax import drawing, errors
from natjax.costs import alone
from natjax.costs import exact as cost_lib
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.methods import supervised
from natjax.pipeline import checks, run_data, run_files, runs, shapes, versus
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import feed as feed_lib
from natjax.pipeline import judge as judge_lib
from natjax.pipeline import networks as networks_lib
from natjax.training import devices as devices_lib
from natjax.training import distributed, settings
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import metrics as metrics_lib
from natjax.training import seeds as seeds_lib


class Trainer:
  """How networks are trained and judged: checked settings, data, devices.

  Attributes:
    dataset: on what.
    config: how, resolved for the kind of architecture.
    seed: the first of the seeds.
    devices: to spread over.
    processes: that run the job; the first reads and writes the files.
    way: how several seeds are trained (`seeds.seeds_together`).
    judge: what is learnt.
    place: in which skeleton or frame.
    steps: updates per epoch.
    objective: `(architecture) -> Objective`, one object for all seeds, which
      share what is compiled.
    together: devices over which a network's training is mapped.
    seen: the training images of methods and networks; the others are the split
      "held_out".
    held_out: those, or None.
    watch: called after every epoch of a network's training, where it is not
      None.
    clock: by which the running job tells where its time goes.
    skipped: by split the images that were left out as damaged so far, as far
      as they were met since the last start; None where that is not allowed.
  """

  def __init__(self, dataset: data_lib.Dataset, config: supervised.TrainConfig,
               kind: str, *, seed: int = 0, devices: int | None = None,
               objective: judge_lib.Config = None, held_out: float = 0.0):
    """Args:
      dataset: images.
      config: of the training; its `seeds` follow each other from `seed`.
      kind: of the architectures, "cells" or "blocks".
      seed: of everything random.
      devices: how many to spread over; None is all.
      objective: settings of another objective than learning labels.
      held_out: part of the training images that no method and no network
        sees, in [0, 1), drawn by the seed.

    Raises:
      InputError: anything that does not fit.
    """
    checks.types(dataset, config)
    config = settings.pythonic(config)
    self.dataset, self.clock = dataset, clock_lib.Clock()
    with errors.within("train"):
      self.config = full = supervised.resolve(config, kind)
    self.seed = seed = checks.seeds(seed, full.seeds)
    self.devices = tuple(devices_lib.choose(devices))
    self.processes = distributed.Processes(self.devices)
    self.way = seeds_lib.seeds_together(full.seeds, self.devices)
    with errors.within("train"):
      self.judge = judge_lib.choose(
          dataset, full, settings.pythonic(objective))
      self.place = supervised.place_of(
          full, kind, num_classes=self.judge.num_classes,
          image_size=dataset.image_size, embedding=self.judge.embedding)
      if not 0 <= full.cutout <= dataset.image_size:
        settings.refuse(
            full, "cutout", f"must lie in [0, {dataset.image_size}], the"
            " images' side; 0 turns it off")
    self.seen, self.held_out = self.judge.train, None
    if held_out:  # No setting of the training.
      self.seen, self.held_out = feed_lib.divide(
          self.seen, (1 - held_out, held_out), seed, "held_out")
    with errors.within("train"):
      together = len(self.devices) if self.way == "one by one" else 1
      own = full.batch_size // together
      if own % full.accumulate:
        settings.refuse(full, "accumulate", f"must divide the {own} images of a"
                        " batch that a device has; give another, or another"
                        " batch-size")
      self.watch = self.judge.watching(self.held_out)
      self._feed = feed_lib.checked(
          feed_lib.Feed({"train": self.seen}, full.batch_size,
                        self.judge.preparation), together)
    images = dataset.train_images
    self.skipped = {"train": 0, "test": 0} if isinstance(
        images, data_lib.Streamed) and images.reading.skip_damaged else None
    self.steps = len(self.seen.labels) // full.batch_size
    self.objective = functools.lru_cache(maxsize=4)(
        lambda architecture: self.judge.make_objective(
            full, architecture, self.place))
    # As `objective`, of so many devices, which may divide parameters.
    self.together = together
    self._divided = functools.lru_cache(maxsize=4)(
        lambda architecture: self.objective(architecture).over(together))

  def feed(self, plan: entry_lib.Plan) -> feed_lib.Feed:
    """The splits of a method; see `feed.of_plan`."""
    return feed_lib.of_plan(
        plan, self.seen, self.held_out, seed=self.seed,
        preparation=self.judge.preparation if plan.dtype is None else (
            self.judge.plain(plan.dtype)), num_devices=len(self.devices))

  def describe(self) -> dict[str, Any]:
    """What `config.json` holds of data and training."""
    return {
        "version": natjax.__version__, "versions": runs.versions(),
        "machine": runs.machine(self.devices), "compiler": runs.compiler(),
        **runs.randomness(), "checksums": True,
        **run_data.describe(self.dataset), **self.judge.describe(),
        "train": settings.describe(self.config), "seed": self.seed,
        "devices": len(self.devices),
        # Otherwise each seed has all devices, and the batch is divided.
        **({} if self.way == "one by one" else {"seeds_together": self.way}),
    }

  def facts(self) -> dict[str, Any]:
    """What every result says of where it comes from."""
    return {"dataset": self.dataset.name, "seed": self.seed,
            **({"skipped": self.skipped} if self.skipped else {}),
            "versions": runs.versions(),
            "devices": [d.device_kind for d in self.devices]}

  def cost(self, architecture: codec.Architecture) -> dict[str, int]:
    """Its "params" and "madds" (InputError of what cannot be built)."""
    cost = cost_lib.network(architecture, self.place)
    networks_lib.check_draws(architecture, self.place)
    return {"params": cost.params, "madds": cost.madds}

  def like(self, architecture: codec.Architecture) -> Any:
    """The shapes of a network's variables."""
    return jax.eval_shape(
        self.objective(architecture).init, jax.random.key(0))

  def compare(self, changed: versus.Trained,
              original: versus.Trained) -> dict[str, int]:
    """How two networks did on the held-out images; see `versus.count`."""
    assert self.held_out is not None  # Or nothing asks for it.
    return versus.count(changed, original, self.held_out,
                        preparation=self.judge.preparation,
                        batch_size=self.config.batch_size)

  def train(self, out: pathlib.Path, name: str,
            architecture: codec.Architecture | None, listener: fit_lib.Listener,
            *, plan: entry_lib.Plan | None = None, label: str = "",
            files: Mapping[int, pathlib.Path] | None = None,
            accept: versus.Accept | None = None) -> list[dict[str, Any]]:
    """Trains one network per seed under `out`; finished ones are kept.

    Args:
      out: the run's folder.
      name: of the networks' folders and rows; the seed is added to it.
      architecture: of the network.
      listener: who hears of the course.
      plan: of a method that transforms the architecture (or begins without
        one) and trains what becomes of it; None trains it as it is.
      label: name of the rows and checkpoints of what hands over to another.
      files: of every seed, the weights to begin with, which `weights.check` has
        checked; None draws them.
      accept: the original that a plan's network is compared with, on the
        held-out images; None returns it unseen.

    Returns:
      What the `result.json` of every seed's folder holds.
    """
    begin: Callable[[Any, jax.Array], base.State] | None
    if plan is not None:
      feed, first, begin = self.feed(plan), plan.method, plan.begin
    else:
      assert architecture is not None
      trained = supervised.Supervised(
          self.config, architecture, num_classes=self.judge.num_classes,
          image_size=self.dataset.image_size, steps_per_epoch=self.steps,
          objective=self._divided(architecture), watch=self.watch)
      feed, first, begin = self._feed, trained.method(), trained.begin
    folders = {s: out / run_files.NETWORKS / f"{name}-{s}" for s in range(
        self.seed, self.seed + self.config.seeds)}
    found: dict[int, Any] = {
        s: runs.find_result(self.processes, f) for s, f in folders.items()}
    if self.processes.first:
      for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)

    def options(seed, program, suffix=""):
      """Of a seed's program; the last has the network's name."""
      last = program.stages[-1].end is None
      run = name if last else label + suffix
      checkpoint = "checkpoint" if last else f"checkpoint_{run}"
      return fit_lib.Options(
          **vars(listener), seed=seed, devices=self.devices,
          checkpoint_dir=folders[seed] / checkpoint,
          metrics_path=out / run_files.METRICS, run=f"{run}-{seed}")

    start = functools.partial(self._begin, architecture, begin, files) if (
        begin and files) else None
    for seed, state, seconds in self._fit(
        out, feed, first, found, options, start):
      if found[seed] is None:
        began, earlier = time.monotonic() - seconds, list[float]()

        def fit(program, suffix, seed=seed, earlier=earlier):
          given, start = options(seed, program, suffix), time.monotonic()
          with self.clock.part(_part(program)):
            state = fit_lib.fit(program, **feed._asdict(), options=given)
          earlier.append(self._earlier(
              out, given.run, time.monotonic() - start))
          return state

        with self.clock.part(_part(first)):
          ended = base.follow(
              first, state, architecture, fit,
              functools.partial(self._handed_over, folders[seed]))
        self._note_skipped()
        found[seed] = self.processes.of_first(functools.partial(
            self._conclude, folders[seed], feed, *ended, seed, architecture,
            plan is not None, accept, began - sum(earlier)))
    for result in found.values():
      for name, count in result.get("skipped", {}).items():
        assert self.skipped is not None  # Of the same configuration.
        self.skipped[name] = max(count, self.skipped[name])
    return list(found.values())

  def _note_skipped(self):
    """Joins what all processes left out of their training images."""
    if self.skipped is not None:
      every = self.processes.gather(
          _damaged(self.judge.train.images))
      self.skipped["train"] = max(
          self.skipped["train"], len({n for found in every for n in found}))

  def _begin(self, architecture, begin, files, seed, program):
    """A seed's program, which begins with trained weights."""
    return program._replace(init=functools.partial(
        begin, self.read(files[seed], architecture)))

  def read(self, path: pathlib.Path, architecture: codec.Architecture) -> Any:
    """A network's variables in a file that the first process reads."""
    return self.share(architecture, lambda: networks_lib.read_weights(
        path, architecture, self.place, self.like, seed=self.seed,
        classes=self.dataset.class_names).variables)

  def share(self, architecture: codec.Architecture,
            read: Callable[[], Any]) -> Any:
    """A network's variables, which the first process reads for all."""
    return self.processes.broadcast(read() if self.processes.first else (
        jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype),
                     self.like(architecture))))

  def _fit(self, out, feed, program, found, options, start):
    """Yields every seed, its final state, and the seconds that it took.

    In one program where that is cheaper (`seeds.seeds_together`): then all are
    trained before the first is yielded, each on one device, and what trains at
    once is resumed at once.
    """
    began, data = time.monotonic(), feed._asdict()
    if self.way == "one by one" or start or all(found.values()):
      for seed in [s for s, result in found.items() if result is None]:
        began = time.monotonic()
        begun = start(seed, program) if start else program
        given = options(seed, program)
        with self.clock.part(_part(program)):
          state = fit_lib.fit(begun, **data, options=given)
        took = time.monotonic() - began
        yield seed, state, took + self._earlier(out, given.run, took)
      return
    each = {seed: options(seed, program) for seed in found}
    names = tuple(o.run for o in each.values())
    folder = out / "checkpoint" / names[0].rpartition("-")[0]
    with self.clock.part(_part(program)):
      states = seeds_lib.fit_seeds(
          program, **data, seeds=tuple(each), runs=names,
          options=dataclasses.replace(each[self.seed], seed=0, run="",
                                      checkpoint_dir=folder))
    took = time.monotonic() - began
    seconds = (took + self._earlier(out, names[0], took)) / len(each)
    for seed, state in zip(each, states, strict=True):
      yield seed, state, seconds

  def _earlier(self, out, run, took):
    """Seconds that a run trained in earlier starts than this one."""
    if not self.processes.first:  # Which alone writes rows and results.
      return 0.0
    rows = metrics_lib.seconds_by_run(out / run_files.METRICS)
    return max(rows.get(run, 0.0) - took, 0.0)

  def _handed_over(self, folder, method, state, over, suffix):
    """What a handover did, measured on training images and kept in a file."""
    path = folder / f"derived{suffix}.json"

    def measure():
      if not path.exists():
        glance = lambda method, state: self.judge.glance(
            method, jax.device_put(state, jax.local_devices()[0]))
        run_files.write_kept(path, {**over.report, **({
            "train_accuracy_before_derivation": glance(method, state),
            "train_accuracy_after_derivation": glance(over.method, over.state)
        } if method.evaluate and over.method.evaluate else {})})
      return run_files.read_json(path, shapes.HANDED_OVER)

    with self.clock.part(clock_lib.EVALUATION):
      return self.processes.of_first(measure)

  def adopt(self, out: pathlib.Path, name: str,
            architecture: codec.Architecture,
            given: Mapping[int, Callable[[], Any]]) -> list[dict[str, Any]]:
    """Takes given weights for trained ones; see `train`.

    Args:
      out: the run's folder.
      name: of the networks' folders.
      architecture: of the network.
      given: of every seed, what reads its variables (`weights.read`).
    """
    def take(seed, read):
      folder = out / run_files.NETWORKS / f"{name}-{seed}"
      if not (folder / run_files.RESULT).exists():
        folder.mkdir(parents=True, exist_ok=True)
        self._write(folder, architecture, read(), seed, {},
                    time.monotonic())
      return run_files.read_json(folder / run_files.RESULT)

    return [self.processes.of_first(functools.partial(take, seed, read))
            for seed, read in given.items()]

  def files(self, out: pathlib.Path, name: str) -> dict[int, pathlib.Path]:
    """Of every seed the file with the weights of a network of a run."""
    folder = out / run_files.NETWORKS
    return {seed: folder / f"{name}-{seed}" / run_files.WEIGHTS
            for seed in range(self.seed, self.seed + self.config.seeds)}

  def _conclude(self, folder, feed, method, state, given, report, seed, before,
                derives, accept, began):
    """Judges a trained network and writes it to its folder, in one process."""
    with self.clock.part(clock_lib.EVALUATION):
      derived = feed.derive(method, state, given, seed)
      if accept is not None:
        original = networks_lib.load_weights(accept.files[seed])
        counted = self.compare(*(
            versus.Trained(self.objective(a), variables) for a, variables in (
                derived[:2], (accept.original, original))))
        derived = versus.accepted(
            derived, accept, original, counted, self.place)
    architecture, variables, derived = derived
    more = {}
    if derives:
      if accept is not None and architecture == accept.original:
        before = architecture  # As it was given, not as a method writes it.
      shown = [a for a in (before, architecture) if a is not None]
      drawing.save(folder / "architecture.svg", *shown)
      more = {**self.cost(architecture), "num_changes": sum(
          len(change.parts) for change in alone.changes(
              shown[0], architecture)), **report, **derived}
    return self._write(folder, architecture, variables, seed, more, began)

  def _write(self, folder, architecture, variables, seed, more, began):
    """Judges a network on the test images and writes it to its folder."""
    with self.clock.part(clock_lib.EVALUATION):
      judged = self.judge.judge(self.objective(architecture), variables)
    if self.skipped is not None:  # This process has looked at all of them.
      self.skipped["test"] = len(_damaged(self.dataset.test_images))
      more = {"skipped": dict(self.skipped), **more}
    networks_lib.keep_weights(
      folder / run_files.WEIGHTS, self.judge.keep(variables))
    result = {
        **judged.scores, "right": versus.packed(judged.right), "seed": seed,
        "architecture": codec.to_dict(architecture),
        "place": {k: v for k, v in self.place._asdict().items()
                  if v or k != "embedding"},
        "auxiliary": self.config.auxiliary,
        "dtype": self.config.dtype, "mean": list(map(float, self.dataset.mean)),
        "std": list(map(float, self.dataset.std)),
        "class_names": list(self.dataset.class_names),
        **({} if self.dataset.resize == "stretch" else {
            "resize": self.dataset.resize}), **more,
        "seconds": round(time.monotonic() - began, 1)}
    run_files.write_kept(folder / run_files.RESULT, result)
    return result


def _damaged(images):
  """Numbers of the images that were left out so far."""
  return images.damaged if isinstance(images, data_lib.Streamed) else []


def _part(program):
  """What a program's steps are: one that hands over leads to the next."""
  return (clock_lib.TRAINING if program.stages[-1].end is None
          else clock_lib.SEARCH)
