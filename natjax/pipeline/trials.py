"""Trials: whether what a search found is returned, by images it has not seen.

The best few candidates of a search and the original are trained briefly and
alike on the images that the search saw, by successive halving (Jamieson and
Talwalkar, 2016): at a half of the epochs, at three quarters and so on, the
worse half by accuracy on the held-out images goes, until one is left. That one
is compared with the original, trained as long (`methods.acceptance`), and is
returned if it passes; else the original is, also where a budget was given that
it exceeds, and that is said.

A round of a network is a run of its own, so that it can be resumed. The one
that is left was chosen by the images that it is compared on, of so few that it
gains little by it. When both are trained in full they are compared once more
(`confirmation`).
"""

from collections.abc import Callable
import dataclasses
import functools
import pathlib
import time
from typing import Any, NamedTuple

from natjax import errors
from natjax.costs import exact as cost_lib
from natjax.graph import codec
from natjax.methods import acceptance, supervised
from natjax.methods import bounds as bounds_lib
from natjax.pipeline import clock as clock_lib
from natjax.pipeline import run_files, runs, versus
from natjax.pipeline import trainer as trainer_lib
from natjax.training import devices as devices_lib
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import metrics as metrics_lib

LABEL = "trial"  # Of its rows and checkpoints.
_DONE = "checkpoint/trials.json"  # What they came to.


class Round(NamedTuple):
  """A part of the trials, at whose end candidates are compared.

  Attributes:
    left: how many candidates are trained.
    start: epochs before.
    stop: epochs after.
    stay: how many candidates go on.
  """

  left: int
  start: int
  stop: int
  stay: int


def rounds(epochs: int, count: int) -> list[Round]:
  """The rounds of so many candidates, trained for so many epochs in all.

  Example:
    >>> [tuple(part) for part in rounds(60, 3)]
    [(3, 0, 30, 2), (2, 30, 45, 1), (1, 45, 60, 1)]
    >>> rounds(1, 8)
    [Round(left=8, start=0, stop=1, stay=1)]
  """
  found: list[Round] = []
  halvings = range(1, (count - 1).bit_length() + 1)
  for stop in sorted({
      -(-epochs * (2**h - 1) // 2**h) for h in halvings} | {epochs}):
    left, start = (found[-1].stay, found[-1].stop) if found else (count, 0)
    found.append(Round(left, start, stop, 1 if stop == epochs else (
        -(-left // 2))))
  return found


def length(epochs: int) -> int:
  """Epochs of a trial, of those of a training: a tenth, at least five.

  In fewer, running statistics would still be far from those of the images.
  """
  return min(epochs, max(5, epochs // 10))


def spent(epochs: int, count: int) -> int:
  """Epochs that trials of so many candidates take, the original's too.

  Args:
    epochs: of each in all.
    count: of candidates.
  """
  return sum((part.stop - part.start) * (1 + part.left)
             for part in rounds(epochs, count))


def most(finalists: int, epochs: int, within: int) -> int:
  """How many candidates are tried within so many epochs; one at least.

  Args:
    finalists: at most.
    epochs: of each in all.
    within: epochs of the trainings at the end, which trials are not to exceed.

  Example:
    >>> [most(3, 5, within) for within in (10, 16, 90)]
    [1, 2, 3]
  """
  return max((count for count in range(1, finalists + 1)
              if spent(epochs, count) <= within), default=1)


class Trials:
  """Trials of the candidates of one search."""

  def __init__(self, trainer: trainer_lib.Trainer, search: Any):
    """Args:
      trainer: of the networks, with images held out.
      search: settings of the method: `tolerance`, `finalists`,
        `trial_epochs`.

    Raises:
      InputError: fewer images than a batch of the training.
    """
    self._trainer, self._tolerance = trainer, search.tolerance
    epochs = search.trial_epochs or length(trainer.config.epochs)
    # As large a part of a trial is warm-up as of the training.
    self._config = config = dataclasses.replace(
        trainer.config, seeds=1, epochs=epochs,
        warmup=trainer.config.warmup * epochs // trainer.config.epochs)
    self._most = search.finalists if search.trial_epochs else most(
        search.finalists, config.epochs,
        2 * trainer.config.epochs * trainer.config.seeds)
    # Where seeds would train at once, a batch need not divide among devices.
    self._devices = trainer.devices if trainer.way == "one by one" else (
        trainer.devices[:1])
    with errors.within("train"):
      devices_lib.check_batch(config.batch_size, len(self._devices))
      fit_lib.check_splits({"train": trainer.seen}, config.batch_size)
    self._steps = len(trainer.seen.labels) // config.batch_size  # Per epoch.

  def estimate(self) -> dict[str, float]:
    """Size of the trials of as many finalists as there may be: "steps"."""
    return {"steps": self._steps * spent(self._config.epochs, self._most)}

  def run(self, out: pathlib.Path, original: codec.Architecture,
          report: dict[str, Any], listener: fit_lib.Listener,
          files: Callable[[codec.Architecture], pathlib.Path | None],
          budget: bounds_lib.Bounds | None = None
          ) -> tuple[codec.Architecture, dict[str, Any]]:
    """Tries the finalists of a search, or goes on with it.

    Args:
      out: the run's folder.
      original: what was transformed.
      report: of the search, with "candidates" and the numbers of "finalists".
      listener: who hears of the course.
      files: of an architecture, the weights that its trial begins with; None
        draws them.
      budget: of the original; where it limits latency, that is what counts,
        and memory beside the rest.

    Returns:
      What is returned, and the report with "acceptance" and "trial_seconds",
      in which the candidate that is returned is the chosen one.
    """
    path, of_first = out / _DONE, self._trainer.processes.of_first
    rows = report["candidates"]
    if not of_first(path.exists):
      networks = [original, *(codec.from_dict(rows[i]["architecture"])
                              for i in report["finalists"][:self._most])]
      bound = not any(row["original"] for row in rows)
      found = self._compete(out, networks, bound, listener, files, budget)
      of_first(lambda: run_files.write_kept(path, found))
    found = of_first(lambda: run_files.read_json(path))
    _, *tried = found["acceptance"]["trials"]
    returned = original if not found["acceptance"]["accepted"] else (
        codec.from_dict(next(
            row for row in tried if not row["dropped"])["architecture"]))
    of_first(lambda: runs.write_architecture(out, returned))
    shown = codec.to_dict(returned)
    return returned, {**report, **found, "candidates": [
        row | {"chosen": row["architecture"] == shown} for row in rows]}

  def _compete(self, out, networks, bound, listener, files, budget):
    """What comes of trials of several networks, the original first.

    Args:
      out: the run's folder.
      networks: architectures.
      bound: whether the original exceeds a budget.
      listener: who hears of the course.
      files: as `run`.
      budget: as `run`.
    """
    began = time.monotonic()
    trained = [self._supervised(network) for network in networks]
    rows = [{"architecture": codec.to_dict(network), "original": i == 0,
             **self._trainer.cost(network), "dropped": False}
            for i, network in enumerate(networks)]
    left = [*range(1, len(networks))]
    states: dict[int, base.State] = {}
    counts: dict[int, dict[str, int]] = {}
    for number, part in enumerate(rounds(self._config.epochs, len(left)), 1):
      for i in (0, *left):
        name = f"{LABEL}-{i or 'original'}-round-{number}"
        states[i] = self._train(
            out, name, trained[i], part.stop - part.start, states.get(i),
            listener, files(networks[i]))
      counts = {i: self._count(trained[i].objective, states[i],
                               trained[0].objective, states[0]) for i in left}
      for i, count in counts.items():
        for j, name in ((i, "right"), (0, "original_right")):
          rows[j] |= {"epochs": part.stop,
                      "accuracy": count[name] / count["images"]}
      # Of equal ones the first stays, which the search preferred.
      left.sort(key=lambda i: (-counts[i]["right"], i))
      for i in left[part.stay:]:
        rows[i]["dropped"] = True
      left = left[:part.stay]
    return {**self._judged(rows, networks, left[0], counts[left[0]], bound,
                           budget),
            "trial_seconds": round(max(
                time.monotonic() - began,
                metrics_lib.seconds(out / run_files.METRICS, f"{LABEL}-")), 1)}

  def _judged(self, rows, networks, winner, count, bound, budget):
    """The verdict on the network that was left."""
    pairs = acceptance.Pairs(count["images"], count["won"], count["lost"])
    before, after = (cost_lib.network(networks[i], self._trainer.place)
                     for i in (0, winner))
    verdict = acceptance.judge(
        pairs, before, after, self._tolerance,
        *(() if budget is None else budget.beside(networks[winner])))
    if bound:
      verdict = acceptance.over_budget(verdict)
    return {"acceptance": {
        **acceptance.report(pairs, verdict), "epochs": self._config.epochs,
        "trials": rows}}

  def _supervised(self, architecture):
    """The training of a network, as long as a trial."""
    trainer = self._trainer
    return supervised.Supervised(
        self._config, architecture, num_classes=trainer.judge.num_classes,
        image_size=trainer.dataset.image_size, steps_per_epoch=self._steps,
        objective=trainer.objective(architecture).over(len(self._devices)))

  def _train(self, out, name, trained, epochs, state, listener, file):
    """Trains a network further, for the epochs of one round."""
    method = trained.method(LABEL, epochs)
    if state is not None:
      method = method._replace(init=lambda rng: state)
    elif file is not None:
      method = method._replace(init=functools.partial(
          trained.begin, self._trainer.read(file, trained.architecture)))
    with self._trainer.clock.part(clock_lib.SEARCH):
      return fit_lib.fit(
          method, {"train": self._trainer.seen},
          batch_size=self._config.batch_size,
          preparation=self._trainer.judge.preparation, options=fit_lib.Options(
              **vars(listener), seed=self._trainer.seed, run=name,
              devices=self._devices, metrics_path=out / run_files.METRICS,
              checkpoint_dir=out / "checkpoint" / name))

  def _count(self, objective, state, original, before):
    """The counts of `versus.Versus` on the held-out images.

    Args:
      objective: of a network.
      state: of its training.
      original: objective of the original.
      before: state of its training.
    """
    trainer = self._trainer
    with trainer.clock.part(clock_lib.EVALUATION):
      return trainer.processes.of_first(lambda: trainer.compare(
          *(versus.Trained(one, one.whole(supervised.variables(state)))
            for one, state in ((objective, state), (original, before)))))


def trials(trainer: trainer_lib.Trainer, search: Any) -> Trials | None:
  """The trials that a method's settings ask for, by `finalists`.

  Raises:
    InputError: as `Trials`.
  """
  if trainer.held_out is None or not hasattr(search, "finalists"):
    return None
  return Trials(trainer, search)
