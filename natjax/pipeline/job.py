"""The job of a method: it runs, derives, and what came out is trained.

A method whose networks are `trained` already runs once per seed, and beside it
the given network is trained (`trainer`), or taken with the weights that are
given. Every other runs once; then both networks are trained alike, once per
seed, and what was found is returned if it holds then (`confirmation`). Several
seeds of such a method are runs of their own in folders `seed-N`, one after
another: searches by sampled operations are not joined in one program, since
under `vmap` every operation would be computed.

Several given architectures share one search, of a method for unions: what is
searched lies in the run's folder, and what belongs to each architecture in
`architecture-N`, a run's folder of its own.
"""

import functools
import time

from natjax.graph import codec
from natjax.methods import bounds as bounds_lib
from natjax.networks import inherit
from natjax.pipeline import (
  choosing,
  confirmation,
  planned,
  run_files,
  runs,
  searching,
  summary,
  versus,
)
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import weights as weights_lib
from natjax.training import devices as devices_lib
from natjax.training import metrics as metrics_lib


class Job(planned.Planned):
  """A transformation or a search that can be run.

  What it is made of, and what is known of it before, stands in
  `planned.Planned`.
  """

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
          draw(out / file, metrics_lib.read(out / run_files.METRICS))
        for file, chart in self.entry.charts.items():
          chart(out / file, result)
        choosing.write(out, result)
    return result, [*map(
        codec.from_dict, result.get("architectures", {}).values())]

  def _each(self, out, listener):
    """Every seed derives and trains a network, and the original is trained."""
    parts = {}
    if self._compare and self.original is not None:
      parts["original"] = self._adopt(out) if self._adopts else (
          self.trainer.train(out, "original", self.original, listener,
                             files=self._weights))
    originals, accept = self.trainer.files(out, "original"), None
    if self.entry.compared and self.trainer.held_out is not None:
      assert self.original is not None  # As only a given one is compared.
      accept = versus.Accept(self.original, originals,
                             self.plan.settings.tolerance, self._bounds())
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
    return summary.with_aims(result, self.name, found)

  def _adopt(self, out):
    """The original's results, with the weights that are given as they are."""
    assert self.original is not None  # Whose they are.
    like = self.trainer.like(self.original)
    read = lambda path: inherit.renumbered(
        weights_lib.read(path, self._given, self.trainer), like)
    # One network begins a search, however many are trained at its end.
    first, *_ = self._weights.values()
    return self.trainer.adopt(out, "original", self.original, {
        seed: functools.partial(read, self._weights.get(seed, first))
        for seed in self.trainer.files(out, "original")})

  def _bounds(self):
    """The budget of the one given architecture."""
    assert self.original is not None  # Or nothing is compared.
    found, = self.plan.bounds or (bounds_lib.Bounds(
        self.plan.settings, self.original, self.trainer.place),)
    return found

  def _once(self, out, listener):
    """One search; what it finds and the original are trained, and compared."""
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
        "original": self._adopt(out) if self._adopts else (
            train("original", self.original))}
    confirmed = confirmation.read(out, self.trainer)
    if found != self.original and self._train_found and not (
        confirmed and not confirmed["accepted"]):
      parts[self.name] = train(self.name, found)
      if self.original is not None and self.trainer.held_out is not None:
        confirmed = confirmed or confirmation.compare(
            out, self.name, found, self.original, self.trainer,
            self.plan.settings.tolerance, self._bounds())
    if confirmed:
      report = {**report, "confirmation": {
          k: v for k, v in confirmed.items() if k != "name"}}
      if not confirmed["accepted"]:
        found, report = self._refused(out, parts, report)
    if self.name not in parts:
      # What came out unchanged is the same network: trained once.
      parts[self.name] = parts["original"] if self._train_found else []
    if self.architecture is None:
      report["peak_memory_bytes"] = devices_lib.peak_memory(
          self.trainer.devices)
    shown = codec.to_dict(found)
    explained = [row["explained"] for row in report.get("candidates", ())
                 if "explained" in row and row["architecture"] == shown]
    return summary.with_aims(self._result(
        parts, found, explained=explained[0] if explained else None,
        **report), self.name, [report])

  def _refused(self, out, parts, report):
    """The original in the place of what was trained, and its report."""
    original = self.original
    assert original is not None  # With which it was compared.
    parts.pop(self.name, None)
    self.trainer.processes.of_first(
        lambda: runs.write_architecture(out, original))
    shown = codec.to_dict(original)
    return original, {**report, **self._bounds().told(original), "candidates": [
        row | {"chosen": row["architecture"] == shown}
        for row in report.get("candidates", ())]}

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
      more["original"] = summary.means(
          parts["original"], self.trainer.cost(self.original))
      if len(parts["original"]) == len(parts.get(self.name, ())) == 1:
        found = versus.pairs(*parts[self.name], *parts["original"])
        more |= {"paired": found._asdict()} if found else {}
    if given is not None:
      shown = {"original": codec.to_dict(given), **shown}
      more["changes"] = summary.changes(
          given, architecture, self.trainer.place, explained)
    spent = {id(r): r["seconds"] for part in parts.values() for r in part}
    return {
        self.name: summary.means(
            parts[self.name], None if self.entry.trained else (
                self.trainer.cost(architecture))),
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
                metrics_lib.seconds(out / run_files.METRICS, self.entry.label))
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
    return searching.read(out, self.trainer.processes)

  def _derive(self, out, listener, folders):
    """Runs the method in a folder, and derives for jobs in their folders."""
    searching.run(
        out, self._program, {folder: job.architecture for folder, job in (
            folders.items())}, listener, trainer=self.trainer, feed=self.feed,
        label=self.entry.label, hand_on=functools.partial(
            self._hand_on, out) if (
                self._beginning.train_from == "inherited") else None)

  def _program(self):
    """The method, which begins with the weights that are given."""
    program = self.plan.method
    for weights in self._weights.values():
      assert self.plan.begin is not None  # Or it takes no weights.
      program = program._replace(init=functools.partial(
          self.plan.begin, weights_lib.share(
              weights, self._given, self.trainer)))
    return program

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

  def _several(self, out, listener):
    """A run for every seed, and what they came to."""
    found = []
    for seed in self.seeds:
      job = self.of_seed(seed)
      # What the device decides is measured once, in the folder of the whole.
      job.plan = job.plan._replace(prepare=None)
      found.append(job.run(
          out / f"seed-{seed}", listener=listener.named(f"seed {seed}")))
    over_seeds = functools.partial(
        summary.over_seeds, name=self.name, seed=self.trainer.seed,
        reports=self.entry.reports)
    if not self.union:
      return over_seeds(found)
    return {
        **{k: v for k, v in found[0].items() if k in (
            "method", "dataset", "versions", "devices", "skipped")},
        "union": [*map(over_seeds, zip(
            *(r["union"] for r in found), strict=True))],
        "seed": self.trainer.seed,
        "search_seconds": round(sum(r["search_seconds"] for r in found), 1),
        "seconds": round(sum(r["seconds"] for r in found), 1),
        "time": clock_lib.total([r.get("time", {}) for r in found])}
