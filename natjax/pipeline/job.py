"""The job of a method: it runs, derives, and what came out is trained.

A method whose networks are `trained` already runs once per seed, and beside it
the given network is trained (`trainer`). Every other runs once, and then both
networks are trained alike, once per seed. Several seeds of such a method are
runs of their own in folders `seed-N`, one after another: searches by sampled
operations are not joined in one program, since under `vmap` every operation
would be computed.

Several given architectures share one search, of a method for unions: what is
searched lies in the run's folder, and what belongs to each architecture in
`architecture-N`, a run's folder of its own.
"""

from collections.abc import Mapping, Sequence
import copy
import dataclasses
import functools
import os
import pathlib
import statistics
import time
from typing import Any

from natjax import data as data_lib
from natjax import drawing, errors, methods, spaces
from natjax.costs import alone
from natjax.graph import codec, records
from natjax.methods import acceptance, supervised
from natjax.methods import bounds as bounds_lib
from natjax.methods import entry as entry_lib
from natjax.objectives import arcface as arcface_lib
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import choosing, runs, shapes, work
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import judge as judge_lib
from natjax.pipeline import trainer as trainer_lib
from natjax.pipeline import trials as trials_lib
from natjax.pipeline import weights as weights_lib
from natjax.training import devices as devices_lib
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import metrics as metrics_lib
from natjax.training import settings

Given = codec.Architecture | Sequence[codec.Architecture] | None
_DERIVED = "checkpoint/derived.json"  # The report of a search.


class Job(work.Work):
  """A transformation or a search; see `work.Work`.

  Attributes:
    method: name of the method.
    name: of the networks that come out.
    entry: of the method.
    plan: what it runs.
    feed: what its programs walk over.
    original: the network that is trained beside, or None.
    seeds: that are runs of their own, where there are such.
    union: the given architectures as the method writes them, where there are
      several; of one of its `parts`, too.
  """

  def __init__(self, architecture: Given,
               dataset: data_lib.Dataset, method: str, search: Any,
               train: supervised.TrainConfig, *, space: str | None = None,
               share: str | None = None, seed: int = 0,
               seeds: int | None = None, devices: int | None = None,
               compare: bool = True,
               simclr: simclr_lib.SimCLRConfig | None = None,
               arcface: arcface_lib.ArcFaceConfig | None = None,
               train_found: bool = True,
               weights: weights_lib.Source | None = None,
               train_from: str = "scratch", start: str = "drawn"):
    """Args:
      architecture: what to transform, one or several; None searches in a space.
      dataset: images.
      method: of `methods.METHODS`.
      search: settings of the method.
      train: of the networks.
      space: of `spaces.SPACES`; for a given architecture, None chooses by it.
      share: "cell" transforms alike what is alike, "full" each by itself; None
        is the method's usual of a network of blocks, and "cell" of cells.
      seed: of everything random.
      seeds: how many, from `seed` on, each with an architecture of its own;
        None is `train.seeds` trainings, of a trained method as many runs.
      devices: how many to spread over; None is all.
      compare: of a trained method: whether to train the original, too.
      simclr: settings of the self-supervised objective; None learns labels.
      arcface: settings by which labels are learnt as identities of faces are.
      train_found: whether to train what a search in a space finds.
      weights: of the given network, which the method begins with: a run's
        folder, a file of weights or variables (`pipeline.weights`); None trains
        the network, or draws the weights.
      train_from: of a method whose networks are trained at the end, where both
        of them begin: from "scratch", or "inherited", what was transformed with
        what the method's supernet holds for it, and the original with the given
        weights, or without, with what the supernet holds for it.
      start: where the other operations of a supernet begin that takes weights:
        "drawn", or "replace", as what has learnt to give what the trained
        network gives (`methods.learnt`).

    Raises:
      InputError: anything that does not fit.
      errors.NotMet: nothing keeps to the budget of the settings.
    """
    self.method, self.seeds = method, range(0)
    first, others = given(architecture)
    self.entry = entry = _entry_of(method, search, first, others)
    trainer_lib.check_types(dataset, train)
    if share is None:
      share = entry.share if isinstance(first, records.BlockNetwork) else (
          "cell" if first or space is None else spaces.get(space).share)
    self.share = share
    if seeds is not None:
      if type(seeds) is not int or seeds < 1:
        raise errors.InputError(f"seeds is {seeds!r} and must be an integer of"
                                " at least 1; leave it out for one", "seeds")
      trainer_lib.check_seed(seed, seeds)
      train = dataclasses.replace(train, seeds=seeds if entry.trained else 1)
      self.seeds = range(seed, seed + seeds * (not entry.trained))
    self._weights: dict[int, pathlib.Path] = {}
    self._of_seed = lambda seed: Job(
        architecture, dataset, method, search, train, space=space, share=share,
        seed=seed, devices=devices, simclr=simclr, arcface=arcface,
        train_found=train_found,
        weights=self._weights.get(seed), train_from=train_from, start=start)
    self._beginning = beginning = weights_lib.Beginning(
        weights, train_from, start)
    unseen = "" if not entry.compared else (
        "--no-compare, which trains no original" if not compare else
        "the objective simclr, which learns no labels" if simclr else "")
    self.trainer = trainer = trainer_lib.Trainer(
        dataset, train, _kind_of(space) if first is None else first.kind,
        seed=seed, devices=devices,
        objective=judge_lib.one_of(simclr, arcface),
        held_out=_held_out(search, unseen), train_on_all=not entry.trained)
    self._trials = trials_lib.trials(trainer, search)
    judge = trainer.judge
    for name, value, fits in (
        ("compare", compare, compare or not entry.inherits),
        ("objective", judge.objective, judge.objective in entry.objectives),
        ("space", space, entry.spaces or None in (space, first))):
      if not fits:
        raise errors.InputError(
            f"{name} is {value} and does not apply to method '{method}'; leave"
            " it out, or choose another method", name)
    with errors.within("search"), entry_lib.guarded(
        entry.build, f"build of method '{method}'"):
      request = entry_lib.Request(
          search, first, space, share, judge.num_classes, dataset.image_size,
          len(trainer.seen.labels), len(trainer.devices), trainer.config,
          trainer.place, judge.make_objective, judge.watch, judge.criterion,
          others, beginning.inherits)
      self.plan = plan = entry.build(request)
      if not isinstance(plan, entry_lib.Plan):
        raise errors.InputError(
            f"build of method '{method}' gave {errors.short(plan)} and must"
            " give a Plan; mend its package")
    with errors.within("search"):
      self.plan = plan = beginning.lead(request, plan, entry, method, compare)
    with errors.within(
        "search" if hasattr(plan.settings, "batch_size") else "train"):
      self.feed = trainer.feed(plan)
    self.architecture = plan.architecture
    self.union = () if plan.architecture is None or not others else (
        plan.architecture, *plan.others)
    self._is_part = False
    self.name = "derived" if plan.architecture is None else "transformed"
    # A trained method starts from the weights of the network as it was given.
    self.original = first if entry.trained else plan.architecture
    self._compare = compare and self.original is not None
    self._train_found = train_found
    if not train_found and self.original is not None:
      raise errors.InputError("what a transformation gives is compared with the"
                              " original, trained alike; leave it to train")
    for network in self.union or (self.original,):
      if network is not None:
        trainer.cost(network)
    self._given: Any = first
    # A search begins with one network, however many are trained at its end.
    self._weights, self._anew = weights_lib.given(weights, first, trainer, (
        () if entry.trained else self.seeds or [seed]))
    self._noted = (
        self._anew and self._anew + (
            ", and the network trained before it is changed" * entry.trained),
        weights_lib.note(self._weights, dataset))

  @property
  def note(self) -> str:  # type: ignore[override]
    """As `work.Work` has it; a latency bounds nothing once it is measured."""
    found = [bounds.loose() for bounds in self.plan.bounds]
    return "; ".join(filter(None, (*self._noted, *(
        f"architecture {number}: {text}" if len(found) > 1 else text
        for number, text in enumerate(found, 1) if text))))

  @property
  def parts(self) -> Mapping[str, "Job"]:  # type: ignore[override]
    """Of several given architectures the jobs of each, by their folders.

    They share all but what is given, and their search is that of the whole.
    """
    found = {}
    for number, given in enumerate(() if self._is_part else self.union, 1):
      part = found[f"architecture-{number}"] = copy.copy(self)
      part.architecture = part.original = given
      # What the device decides was measured for the whole.
      part.plan = self.plan._replace(
          prepare=None, bounds=self.plan.bounds[number - 1:number])
      part._is_part = True
    return found

  def budget(self) -> dict[str, Any]:
    """The limits in numbers, of each given architecture where it has any.

    A multiple of the original's latency is resolved by timing that now.
    """
    found = [bounds.resolved() for bounds in self.plan.bounds]
    if len(found) > 1 and any(found):
      return dict(zip(self.parts, found, strict=True))
    return found[0] if found else {}

  def describe(self) -> dict[str, Any]:
    """The whole configuration, as `config.json` holds it."""
    found = super().describe()
    search = settings.describe(self.plan.settings)
    if not self.entry.trained:
      found.pop("seeds_together", None)
    if self.entry.compared and self.trainer.held_out is None:
      # Nothing is compared: as runs were before there was anything to say.
      del search["held_out"], search["tolerance"]
    kind = "search" if self.architecture is None else "transform"
    if self.union:
      found["union"] = [*map(codec.to_dict, self.union)]
      if not self._is_part:
        found.pop("architecture")
        kind = "union"
    return {
        **found, "kind": kind,
        "method": self.method, "space": self.plan.space,
        "search": search,
        **({"compare": self._compare} if self.entry.trained else {}),
        **weights_lib.describe(self._weights),
        **self._beginning.describe(),
        **({} if self._train_found else {"no_train": True}),
        **({"seeds": [*self.seeds]} if self.seeds else {})}

  def open(self, out: str | os.PathLike[str], *, overwrite: bool = False,
           strict: bool = False) -> dict[str, Any] | None:
    """As `_Work.open`; what the device decides is measured now.

    Raises:
      InputError: as there, and as the plan's `prepare`.
      errors.NotMet: as that.
    """
    found = super().open(out, overwrite=overwrite, strict=strict)
    if found is None and self.plan.prepare is not None:
      try:
        with errors.within("search"):
          self.plan.prepare(pathlib.Path(out), self.trainer.processes)
      except (errors.InputError, errors.NotMet):
        self.trainer.processes.of_first(lambda: runs.forget(out))
        raise
    return found

  def estimate(self, teraflops: float | None = None) -> dict[str, Any]:
    """Size of the method and of the networks; memory is that of one seed.

    See `work.TrainJob.estimate`. "search" is the method, "train" a network,
    "trials" what finalists are tried by, and "all" is all of them: what comes
    out and is trained from scratch is taken to cost what the original does; of
    a search in a space it is not known, and not counted.
    """
    trainer, plan = self.trainer, self.plan
    times = trainer.config.seeds if self.entry.trained else 1
    size = plan.estimate(
        plan.batch_size // len(trainer.devices) * trainer.judge.views)
    steps, madds = base.work(plan.method, {
        name: len(split.labels) // plan.batch_size
        for name, split in self.feed.splits.items()}, size.get("madds", 0))
    further = size.pop("further_steps", 0)  # Of what it hands over to.
    madds += size.pop("further_madds", 3 * further * size.get("madds", 0))
    found = {"search": {**size, "steps": times * (steps + further)}}
    if "madds" in size:
      found["search"]["hours"] = devices_lib.hours(
          madds * plan.batch_size * trainer.judge.views * times,
          trainer.devices, teraflops)
    if self.original is not None and (
        self._compare or not self.entry.trained):
      found["train"] = trainer.estimate(self.original, teraflops)
    if self._trials:
      found["trials"] = trials = self._trials.estimate()
      if self.original is not None:
        trials["hours"] = trainer.hours(
            self.original, trials["steps"], teraflops)
    found = {name: {**part, **{
        key: max(len(self.seeds), 1) * part[key] for key in ("steps", "hours")
        if key in part}} for name, part in found.items()}
    for name, part in self.parts.items():
      found[name] = {k: v for k, v in part.estimate(teraflops).items()
                     if k not in ("search", "all")}
    if self.parts:
      found = {k: v for k, v in found.items() if k not in ("train", "trials")}
    return found | {"all": self._total(found)}

  def _timed_network(self):
    return self.union[0] if self.union else self.original

  def _total(self, found):
    """The sum over all parts of an estimate."""
    nets = 2 if not self.entry.trained else int(self._compare)
    rows = [(part, nets if name == "train" else 1) for name, part in (
        pair for name, of in found.items() for pair in (
            [(name, of)] if "steps" in of else of.items()))]
    return {
        "steps": sum(times * part["steps"] for part, times in rows),
        "hours": sum(times * part.get("hours", 0) for part, times in rows),
        "memory_bytes": max(part.get("memory_bytes", 0) for part, _ in rows)}

  def _run(self, out, listener):
    if self.seeds:
      result = self._several(out, listener)
    elif self.parts:
      result = self._each_given(out, listener)
    else:
      run = self._each if self.entry.trained else self._once
      result = run(out, listener)
      if self.trainer.processes.first:
        for file, draw in self.entry.pictures.items():
          draw(out / file, metrics_lib.read(out / runs.METRICS))
        for file, chart in self.entry.charts.items():
          chart(out / file, result)
        choosing.write(out, result)
    return result, [*map(
        codec.from_dict, result.get("architectures", {}).values())]

  def _each(self, out, listener):
    """Every seed derives and trains a network, and the original is trained."""
    parts = {}
    if self._compare and self.original is not None:
      original = self.original
      # With a classifier that is drawn, given weights are no trained network.
      trained = self._weights and not self._anew
      parts["original"] = self.trainer.adopt(out, "original", original, {
          seed: functools.partial(
              weights_lib.read, path, original, self.trainer)
          for seed, path in self._weights.items()}) if trained else (
              self.trainer.train(out, "original", original, listener,
                                 files=self._weights))
    originals, accept = self.trainer.files(out, "original"), None
    if self.entry.compared and self.trainer.held_out is not None:
      assert self.original is not None  # As only a given one is compared.
      bounds, = self.plan.bounds or (bounds_lib.Bounds(
          self.plan.settings, self.original, self.trainer.place),)
      accept = trainer_lib.Accept(
          self.original, originals, self.plan.settings.tolerance, bounds)
    found = parts[self.name] = self.trainer.train(
        out, self.name, self.architecture, listener, plan=self.plan,
        label=self.entry.label, accept=accept,
        files=originals if self.entry.inherits or self._weights or (
            self._beginning.start == "replace") else None)
    keys = ("seed", "accuracy", "params", "madds", "num_changes",
            *self.entry.reports, *["tries"] * (accept is not None), "seconds")
    result = self._result(
        parts, codec.from_dict(found[0]["architecture"]),
        seeds=[{k: r[k] for k in keys if k in r} for r in found],
        share=self.share,
        objective=self.trainer.judge.objective,
        explained=found[0].get("explained") if found[0]["num_changes"] else (
            None))  # Of what was refused there is nothing to explain.
    return self._told(result, found)

  def _told(self, result, rows):
    """A result whose parts say latency and memory, where a budget asks.

    Args:
      result: of the run.
      rows: of every seed what was said of them, whose means these are.
    """
    for kind, value in (("latency", lambda times: times["median"]),
                        ("memory", lambda count: count)):
      if all(kind in r for r in rows):
        for part, key in (("original", "original"), (self.name, "changed")):
          if part in result:
            result[part][kind] = statistics.mean(
                value(r[kind][key]) for r in rows)
    return result

  def _once(self, out, listener):
    """One search, whose network and the original are trained alike."""
    inherited = self._beginning.train_from == "inherited"
    files = lambda architecture: weights_lib.handed_on(
        out, architecture) if inherited else None
    found, report = self._search(out, listener)
    for bounds in self.plan.bounds:
      if bounds.latency is not None:  # The first process has derived.
        bounds.latency.refresh()
    if self._trials and self.original and report.get("finalists"):
      found, report = self._trials.run(
          out, self.original, report, listener, files, *self.plan.bounds)
    for bounds in self.plan.bounds:
      report |= bounds.told(found)

    def train(name, architecture):
      file = files(architecture)
      return self.trainer.train(
          out, name, architecture, listener, files=dict.fromkeys(
              self.trainer.files(out, name), file) if file else None)

    parts = {} if self.original is None else {
        "original": train("original", self.original)}
    # What came out unchanged is the same network: trained once.
    parts[self.name] = [] if not self._train_found else (
        parts["original"] if found == self.original else (
            train(self.name, found)))
    if self.architecture is None:
      report["peak_memory_bytes"] = devices_lib.peak_memory(
          self.trainer.devices)
    shown = codec.to_dict(found)
    explained = [row["explained"] for row in report.get("candidates", ())
                 if "explained" in row and row["architecture"] == shown]
    return self._told(self._result(
        parts, found, explained=explained[0] if explained else None,
        **report), [report])

  def _changes(self, given, architecture, explained):
    """The rows of what was changed, with what each saves by itself.

    A row is of an edge of a cell, or of the "edges" of equal blocks.

    Args:
      given: before.
      architecture: after.
      explained: of every row what the method says of it; None says nothing.
    """
    rows = drawing.changes(given, architecture)
    each = alone.changes(given, architecture)
    found = []
    for row, change, told in zip(
        rows, each, explained or [{}] * len(rows), strict=True):
      saved = alone.saves(given, change, self.trainer.place)
      found.append({**row._asdict(), "edges": len(change.parts), **told,
                    "saves": {**saved, **told.get("saves", {})}})
    return found

  def _result(self, parts, architecture, explained=None, **more):
    """What every result says.

    Args:
      parts: of the original and of what came out, the results of all seeds.
      architecture: that came out; of several the first.
      explained: what the method says of every change, in their order.
      **more: of the kind of method.
    """
    shown, given = {self.name: codec.to_dict(architecture)}, self.architecture
    if architecture == self.original:
      given = architecture  # As it was given, not as a method writes it.
    if "original" in parts and self.original is not None:
      more["original"] = self.trainer.summary(parts["original"], self.original)
    if given is not None:
      shown = {"original": codec.to_dict(given), **shown}
      more["changes"] = self._changes(given, architecture, explained)
    spent = {id(r): r["seconds"] for part in parts.values() for r in part}
    return {
        self.name: self.trainer.summary(
            parts[self.name], None if self.entry.trained else architecture),
        **more, "architectures": shown,
        "method": self.method, **self.trainer.facts(), "seconds": round(
            more.get("search_seconds", 0) + more.get("trial_seconds", 0)
            + sum(spent.values()), 1)}

  def _each_given(self, out, listener):
    """One search, by which each given architecture is transformed.

    The seconds of the search are those of the whole; of each, "search_seconds"
    are those of its candidates.
    """
    began, parts, clock = time.monotonic(), self.parts, self.trainer.clock
    for name, part in parts.items():
      part.open(out / name)
    self._derive(out, listener, {out / n: part for n, part in parts.items()})
    took = time.monotonic() - began
    with clock.paused():
      found = [part.run(out / name, listener=listener.named(name))
               for name, part in parts.items()]
    spent = max(took - sum(r["search_seconds"] for r in found),
                metrics_lib.seconds(out / runs.METRICS, self.entry.label))
    return {
        "union": found, "method": self.method, **self.trainer.facts(),
        "search_seconds": round(spent, 1), "seconds": round(
            spent + sum(r["seconds"] for r in found), 1),
        "time": clock_lib.total([clock.rounded(), *(
            r.get("time", {}) for r in found)])}

  def _search(self, out, listener):
    """Runs the method and derives; returns the architecture and the report."""
    if not self._is_part:  # Of which the whole has searched.
      self._derive(out, listener, {out: self})
    # What was derived: `architecture.json` is at last what is returned.
    report = self.trainer.processes.of_first(
        lambda: runs.read_json(out / _DERIVED, shapes.SEARCHED))
    return codec.from_dict(report.pop("architecture")), report

  def _derive(self, out, listener, folders):
    """Runs the method in a folder, and derives for jobs in their folders."""
    began = time.monotonic()

    def fit(program, suffix=""):
      name = self.entry.label + suffix
      options = fit_lib.Options(
          **vars(listener), seed=self.trainer.seed, run=name,
          devices=self.trainer.devices, metrics_path=out / runs.METRICS,
          checkpoint_dir=out / "checkpoint" / name)
      with self.trainer.clock.part(clock_lib.SEARCH):
        return fit_lib.fit(program, **self.feed._asdict(), options=options)

    def derive(folder, method, state, given, report):
      ended, alone = time.monotonic(), folder == out
      if not alone:
        given = folders[folder].architecture
      with errors.naming("" if alone else folder.name), (
          self.trainer.clock.part(clock_lib.EVALUATION)):
        derived = self.feed.derive(method, state, given, self.trainer.seed)
      if self._beginning.train_from == "inherited":
        self._hand_on(out, state, derived)
      (folder / _DERIVED).parent.mkdir(exist_ok=True)
      runs.write_architecture(folder, derived.architecture)
      own = time.monotonic() - ended
      runs.write_kept(folder / _DERIVED, {
          **report, **derived.report,
          "architecture": codec.to_dict(derived.architecture),
          "scoring_batch_size": self.feed.batch_size,
          "search_seconds": round(own if not alone else max(
              time.monotonic() - began, own + metrics_lib.seconds(
                  out / runs.METRICS, self.entry.label)), 1)})

    left = [folder for folder in folders if not self.trainer.processes.of_first(
        (folder / _DERIVED).exists)]
    if left:
      first = self.plan.method
      for weights in self._weights.values():
        first = first._replace(init=functools.partial(
            self.plan.begin, weights_lib.share(
                weights, self._given, self.trainer)))
      ended = trainer_lib.follow(
          self.plan.method, fit(first), self.architecture, fit,
          lambda method, state, over, suffix: over.report)
      for folder in left:
        self.trainer.processes.of_first(
            functools.partial(derive, folder, *ended))

  def _hand_on(self, out, state, derived):
    """Writes what networks begin with that may be trained after a search."""
    assert self.plan.inherit is not None and self.original is not None
    rows = derived.report.get("candidates", ())
    for architecture in {derived.architecture, self.original, *(
        codec.from_dict(rows[i]["architecture"])
        for i in derived.report.get("finalists", ()))}:
      own = self.plan.inherit(state, architecture)
      if architecture == self.original:
        for weights in self._weights.values():
          own = weights_lib.read(weights, self._given, self.trainer)
      weights_lib.hand_on(out, architecture, own, self.trainer)

  def of_seed(self, seed: int) -> "Job":
    """The search with one of its seeds, by the program of all of them.

    A folder `seed-N` of the whole's holds its run.
    """
    job = self._of_seed(seed)
    job.plan = self.plan  # Its program is traced and compiled once.
    return job

  def _several(self, out, listener):
    """A run for every seed, and what they came to."""
    found = []
    for seed in self.seeds:
      job = self.of_seed(seed)
      # What the device decides is measured once, in the folder of the whole.
      job.plan = job.plan._replace(prepare=None)
      found.append(job.run(
          out / f"seed-{seed}", listener=listener.named(f"seed {seed}")))
    if not self.union:
      return self._over_seeds(found)
    return {
        **{k: v for k, v in found[0].items() if k in (
            "method", "dataset", "versions", "devices", "skipped")},
        "union": [*map(self._over_seeds, zip(
            *(r["union"] for r in found), strict=True))],
        "seed": self.trainer.seed,
        "search_seconds": round(sum(r["search_seconds"] for r in found), 1),
        "seconds": round(sum(r["seconds"] for r in found), 1),
        "time": clock_lib.total([r.get("time", {}) for r in found])}

  def _over_seeds(self, found):
    """One result of those of several seeds."""
    names = [n for n in ("original", self.name) if n in found[0]]
    return self._told({
        **{k: v for k, v in found[0].items() if k in (
            "changes", "architectures", "method", "dataset", "versions",
            "devices", "skipped")},
        **{n: self.trainer.summary([r[n] for r in found]) for n in names},
        "seeds": [{
            "seed": r["seed"], "num_changes": sum(
                change.get("edges", 1) for change in r.get("changes", [])),
            **({"original_accuracy": r["original"]["accuracy"]}
               if "original" in r else {}),
            **{k: r[k] for k in (
                *self.entry.reports, "latency", "memory") if k in r},
            **({k: r["acceptance"][k] for k in ("accepted", "reason")}
               if "acceptance" in r else {}),
            **{k: r[self.name][k] for k in ("accuracy", "params", "madds")
               if k in r[self.name]}} for r in found],
        "seed": self.trainer.seed,
        "seconds": round(sum(r["seconds"] for r in found), 1),
        # A run that was finished by an earlier version does not tell.
        "time": clock_lib.total([r.get("time", {}) for r in found])}, found)


def given(architecture: Given) -> tuple[
    codec.Architecture | None, tuple[codec.Architecture, ...]]:
  """The first given architecture, or None, and the others; all checked.

  Raises:
    InputError: none at all, one twice, or one that is not well formed.
  """
  if architecture is None:
    return None, ()
  every: Sequence[Any] = architecture if isinstance(
      architecture, list | tuple) and not isinstance(
          architecture, codec.Architecture) else (architecture,)
  found = [*map(codec.check, every)]
  if not found or len({*found}) < len(found):
    raise errors.InputError(
        f"{len(found)} architectures are given, {len({*found})} of them"
        " different; give each that is to be transformed once", "architecture")
  return found[0], tuple(found[1:])


def _held_out(search, unseen):
  """The part of the training images that a method does not see.

  Args:
    search: settings of the method.
    unseen: why nothing can be compared by them; "" where it can.

  Raises:
    InputError: an impossible part, or one where nothing can be compared.
  """
  if not (hasattr(search, "held_out") and hasattr(search, "tolerance")):
    return 0.0
  with errors.within("search"):
    acceptance.check(dataclasses.replace(search, held_out=0.0) if (
        unseen and search.held_out is None) else search)
    if unseen and search.held_out:
      settings.refuse(search, "held_out", "holds out images to compare the"
                      f" original by, against {unseen}; leave one of them out")
  return 0.0 if unseen else acceptance.part(search)


def _kind_of(space):
  """The kind of the architectures of a space."""
  if space is None:
    raise errors.InputError("a search starts from a space and none is given;"
                            f" name one of {', '.join(spaces.SPACES)}", "space")
  return spaces.get(space).graph.kind


def _entry_of(method, search, architecture, others):
  """The entry of a method, if it can start so with these settings."""
  errors.known("method", method, methods.METHODS)
  found = methods.METHODS[method]
  if others and not found.unions:
    able = " or ".join(n for n, e in methods.METHODS.items() if e.unions)
    raise errors.InputError(
        f"{1 + len(others)} architectures are given and method '{method}'"
        f" transforms one; give one, or choose method {able}", "method")
  wanted = "space" if architecture is None else "given"
  if found.starts not in (wanted, "both"):
    begins = ("a space; search instead of transforming" if wanted == "given"
              else "a given architecture; transform it instead of searching")
    raise errors.InputError(f"method '{method}' starts from {begins}", "method")
  if not isinstance(search, found.settings):
    raise errors.InputError(
        f"search is a {type(search).__name__}, and method '{method}' needs a"
        f" {found.settings.__name__}; pass one, or leave it out")
  return found
