"""A job of a method before it runs: checked, described, estimated."""

from collections.abc import Mapping
import copy
import dataclasses
import numbers
import os
import pathlib
from typing import Any, Self

from natjax import data as data_lib
from natjax import errors, spaces
from natjax.graph import codec, records
from natjax.methods import acceptance, supervised
from natjax.methods import entry as entry_lib
from natjax.objectives import arcface as arcface_lib
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import checks, estimates, runs, work
from natjax.pipeline import judge as judge_lib
from natjax.pipeline import trainer as trainer_lib
from natjax.pipeline import trials as trials_lib
from natjax.pipeline import weights as weights_lib
from natjax.training import settings


class Planned(work.Work):
  """A transformation or a search before it runs (`job.Job`).

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

  def __init__(self, architecture: checks.Given,
               dataset: data_lib.Dataset, method: str, search: Any,
               train: supervised.TrainConfig, *, space: str | None = None,
               share: str | None = None, seed: int = 0,
               seeds: int | None = None, devices: int | None = None,
               compare: bool = True,
               simclr: simclr_lib.SimCLRConfig | None = None,
               arcface: arcface_lib.ArcFaceConfig | None = None,
               train_found: bool = True,
               weights: weights_lib.Source | None = None,
               train_from: str | None = None, start: str = "drawn"):
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
        of them begin: from "scratch", as is usual, or "inherited", with what
        the method's supernet holds for them; with given weights the original is
        not trained. Of one that trains its networks itself "inherited" is what
        it does; of replacement, with "scratch" what was chosen is also trained
        from drawn weights, and the better of both on the held-out images is
        returned. None is what is usual of the method.
      start: where the other operations of a supernet begin that takes weights:
        "drawn", or "replace", as what has learnt to give what the trained
        network gives (`methods.learnt`).

    Raises:
      InputError: anything that does not fit.
      errors.NotMet: nothing keeps to the budget of the settings.
    """
    self.method, self.seeds = method, range(0)
    settings.switches(compare=compare, train_found=train_found)
    first, others = checks.given(architecture)
    self.entry = entry = checks.entry(method, search, first, others)
    checks.types(dataset, train)
    search, train = settings.pythonic(search), settings.pythonic(train)
    if share is None:
      share = entry.share if isinstance(first, records.BlockNetwork) else (
          "cell" if first or space is None else spaces.get(space).share)
    self.share = share
    if seeds is not None:
      if not isinstance(seeds, numbers.Integral) or isinstance(
          seeds, bool) or seeds < 1:
        raise errors.InputError(
            f"seeds is {errors.short(seeds)} and must be an integer of at least"
            " 1; leave it out for one", "seeds")
      seeds = int(seeds)
      seed = checks.seeds(seed, seeds)
      train = dataclasses.replace(train, seeds=seeds if entry.trained else 1)
      self.seeds = range(seed, seed + seeds * (not entry.trained))
    self._weights: dict[int, pathlib.Path] = {}
    self._of_seed = lambda seed: type(self)(
        architecture, dataset, method, search, train, space=space, share=share,
        seed=seed, devices=devices, simclr=simclr, arcface=arcface,
        train_found=train_found,
        weights=self._weights.get(seed), train_from=train_from, start=start)
    self._beginning = beginning = weights_lib.Beginning.of(
        entry, weights, train_from, start)
    unseen = "" if not entry.compared else (
        "--no-compare, which trains no original" if not compare else
        "the objective simclr, which learns no labels" if simclr else "")
    self.trainer = trainer = trainer_lib.Trainer(
        dataset, train, checks.kind(space) if first is None else first.kind,
        seed=seed, devices=devices,
        objective=judge_lib.one_of(simclr, arcface),
        held_out=checks.held_out(search, unseen))
    self._trials = trials_lib.trials(trainer, search)
    if trainer.held_out is not None:
      self.coarse = acceptance.coarse(
          len(trainer.held_out.labels), search.tolerance)
    judge = trainer.judge
    for name, value, fits in (
        ("compare", compare, compare or not entry.inherits),
        ("objective", judge.objective, judge.objective in entry.objectives),
        ("space", space, entry.spaces or None in (space, first))):
      if not fits:
        raise errors.InputError(
            f"{name} is {value} and does not apply to method '{method}'; leave"
            " it out, or choose another method", name)
    with errors.within("search"), errors.guarded(
        entry.build, f"build of method '{method}'"):
      request = entry_lib.Request(
          search, first, space, share, judge.num_classes, dataset.image_size,
          len(trainer.seen.labels), len(trainer.devices), trainer.config,
          trainer.place, judge.make_objective, trainer.watch, judge.criterion,
          others, beginning.inherits, trainer.together, beginning.fresh)
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
  def _adopts(self) -> bool:
    """Whether the original is trained already: with the weights given.

    With a classifier that is drawn they are no trained network.
    """
    return bool(self._weights) and not self._anew and self._compare

  def of_seed(self, seed: int) -> "Planned":
    """The search with one of its seeds, by the program of all of them.

    A folder `seed-N` of the whole's holds its run.
    """
    job = self._of_seed(seed)
    job.plan = self.plan  # Its program is traced and compiled once.
    return job

  @property
  def note(self) -> str:  # type: ignore[override]
    """As `work.Work` has it; a latency bounds nothing once it is measured."""
    found = [bounds.loose() for bounds in self.plan.bounds]
    return "; ".join(filter(None, (*self._noted, *(
        f"architecture {number}: {text}" if len(found) > 1 else text
        for number, text in enumerate(found, 1) if text))))

  @property
  def parts(self) -> Mapping[str, Self]:  # type: ignore[override]
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
    return self._of_each([bounds.resolved() for bounds in self.plan.bounds])

  def budget_met(self) -> dict[str, Any]:
    """Of each of these limits whether the original keeps to it already.

    None of a latency that was not measured.
    """
    return self._of_each([bounds.kept() for bounds in self.plan.bounds])

  def _of_each(self, found):
    """What is said of the one given architecture, or of each by its folder."""
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
    """As `Work.open`; what the device decides is measured now.

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
    trainer = self.trainer
    found = {"search": estimates.search(
        trainer, self.plan, self.feed,
        trainer.config.seeds if self.entry.trained else 1, teraflops)}
    nets = int(self._compare or not self.entry.trained) - self._adopts + (
        not self.entry.trained)
    if self.original is not None and nets:
      found["train"] = estimates.training(trainer, self.original, teraflops)
    if self._trials:
      found["trials"] = trials = self._trials.estimate()
      if self.original is not None:
        trials["hours"] = estimates.hours(
            trainer, self.original, trials["steps"], teraflops)
    found = {name: {**part, **{
        key: max(len(self.seeds), 1) * part[key] for key in ("steps", "hours")
        if key in part}} for name, part in found.items()}
    for name, part in self.parts.items():
      found[name] = {k: v for k, v in part.estimate(teraflops).items()
                     if k not in ("search", "all")}
    if self.parts:
      found = {k: v for k, v in found.items() if k not in ("train", "trials")}
    return found | {"all": estimates.total(
        (part, nets if name == "train" else 1) for name, part in (
            pair for name, of in found.items() for pair in (
                [(name, of)] if "steps" in of else of.items())))}

  def _timed_network(self):
    return self.union[0] if self.union else self.original
