"""Replacement: a trained network's operations are replaced, its weights kept.

A method of this library's own. The given network is trained, or its weights
are given. Then:
1. Every operation that may take another's place (`replacements`) learns to
   give what that one gives, for the same input ("local distillation"): all of
   them at once, in one program that runs the network once per batch. No
   gradient flows from place to place.
2. The price of a replacement is what it costs by itself: the divergence
   KL(p || q) of the network's predictions p from those q of the network in
   which it alone is put, on training images, BN normalising by the batch.
3. Under a budget the choice of least price in sum is found exactly.
4. The network of that choice has all weights and is tuned: cross-entropy beside
   the divergence from the original's predictions (Hinton et al., 2015,
   "Distilling the Knowledge in a Neural Network", at a temperature T: T^2 times
   the cross-entropy of both softened distributions).
5. It is compared with the original on images that neither has seen
   (`acceptance`). Without a budget that the given network exceeds, half of the
   multiply-adds is tried first; where that is not accepted, what lies in the
   middle between it and the original, `tries` times at most. Else the original
   is returned.
6. Where it is asked for (`train_from` "scratch"), the architecture of that
   choice is also trained from drawn weights, as any network is, and compared in
   the same way with the tuned one, or with the original where that one was
   refused; the better is returned, of equal ones the tuned (`replace_fresh`).

Deep cuts take several `rounds`: choose a part, tune, learn the candidates anew
from the tuned network, and so on. That prices add up is an assumption; how well
they foretell what random choices of many replacements cost is measured
("rank_correlation"). Of several rounds the report has "rounds", what each began
from and measured; beside it stands what the last did.
"""

import functools
from typing import Any

import jax
import numpy as np

from natjax import drawing
from natjax.costs import alone
from natjax.graph import codec
from natjax.methods import (
  acceptance,
  listed,
  memory,
  replace_choice,
  replace_config,
  replace_fresh,
  replace_learn,
  replace_tune,
  supervised,
)
from natjax.methods import entry as entry_lib
from natjax.networks import trees
from natjax.objectives import classification as objectives
from natjax.training import method as base

ReplaceConfig = replace_config.ReplaceConfig


class Replace(replace_choice.Choosing):
  """The method's parts; `method` makes the record of its first program.

  Attributes:
    learning: the first program.
    tuning: what follows.
    fresh: the last, where what was chosen is also trained from scratch; else
      None.
    fractions: of the training images that prices are measured on.
    price_batches: by which replacements are priced.
  """

  def __init__(self, config: ReplaceConfig, train: supervised.TrainConfig,
               architecture: codec.Architecture, *, num_classes: int,
               image_size: int, share: str = "full", steps_per_epoch: int = 1,
               num_images: int = 0,
               make_objective: objectives.Maker = supervised.classification,
               embedding: int = 0, fresh: bool = False,
               watch: supervised.Watch | None = None):
    """Args:
      config: the settings.
      train: those of the training.
      architecture: what to transform.
      num_classes: of the data.
      image_size: side of the images, in pixels.
      share: "cell" or "full", what is decided on together.
      steps_per_epoch: updates per epoch.
      num_images: that the splits divide; 0 is a batch for every step.
      make_objective: `(train, architecture, place)` gives the objective.
      embedding: of the place, see `records.Skeleton`.
      fresh: whether what is chosen is also trained from scratch; something is
        then held out.
      watch: of what is trained, see `supervised.Supervised`.

    Raises:
      InputError: settings that do not fit together, or nothing to replace.
      errors.NotMet: nothing keeps to the budget of the settings.
    """
    super().__init__(config, train, architecture, num_classes=num_classes,
                     image_size=image_size, share=share, embedding=embedding)
    self._make_objective = make_objective
    self.learning = replace_learn.Learning(
        self.config, steps_per_epoch, self.train.accumulate)
    self.tuning = replace_tune.Tuning(
        self.config, self.train, architecture, self.place, steps_per_epoch,
        watch)
    self.fresh = replace_fresh.Fresh(
        self.train, self.place, steps_per_epoch, watch) if fresh else None
    batch_size = self.train.batch_size
    count = num_images or steps_per_epoch * batch_size
    batches = -(-self.config.price_images // batch_size)
    images = min(batches * batch_size, count)
    self.price_batches = images // batch_size
    if count - images < batch_size:  # No part of their own.
      images = count
    rest = {"others": 1 - images / count} if images < count else {}
    self.fractions = {"prices": images / count, **rest}

  def method(self) -> base.Method:
    """The record of the first program; it begins with `begin`."""
    return self._learn(self.given, 1, [], ())

  def begin(self, variables: Any, rng: jax.Array) -> replace_learn.LearnState:
    """The first state, of a trained network's variables.

    Args:
      variables: of the given architecture, "params" and "batch_stats"; those of
        an auxiliary head are left out of what is transformed.
      rng: a key.
    """
    return self.learning.start(self.space, variables, variables, rng)

  def _init(self, rng):
    """A state of drawn weights, whose shapes alone are of use."""
    rng_network, rng_own = jax.random.split(rng)
    objective = self._make_objective(self.train, self.given, self.place)
    variables = objective.init(rng_network)
    return self.learning.start(self.space, variables, variables, rng_own)

  # The replacements learn, and are priced.

  def _learn(self, architecture, number, before, paid):
    """The program in which the replacements of a network are made ready.

    Args:
      architecture: of the network.
      number: of the round, from 1.
      before: JSON rows of the rounds before.
      paid: in the rounds before, as `Choice` has it.
    """
    space = self._replacements(architecture)
    return base.Method(
        init=self._init, stages=self.learning.stages(space, functools.partial(
            self._priced, space, number, before, paid=paid)),
        explain=lambda state: "the operations that are learnt")

  def _priced(self, space, number, before, state, paid=()):
    """Chooses, by the sums of prices, and hands over to the tuning."""
    prices, report = self.learning.priced(
        space, state, self.price_batches, self.given, self.bounds.row)
    if self.config.rounds > 1:
      # Points to choose from are those of the last round.
      report["rounds"] = [*before, {
          "params": space.cost.params, "madds": space.cost.madds, **report,
          "curve": [{k: v for k, v in row.items() if k != "architecture"}
                    for row in report["curve"]]}]
    last = number == self.config.rounds
    choice = self._choose(space, prices, self.limits if last else self._part(
        number / self.config.rounds), report, paid)
    if not last and not self._reaches(choice.architecture):
      # What went would not come back: the rest of the way is gone at once.
      last = True
      choice = self._choose(space, prices, self.limits, report, paid)
    held = {kind: trees.joined(state.network[kind], getattr(state, kind))
            for kind in ("params", "batch_stats")}
    next_ = None if last else number + 1
    return self._tune(space, choice, held, state.original, state.rng, next_)

  # What was chosen is tuned, and compared.

  def _tune(self, space, choice, held, original, rng, next_round):
    """Hands over to the training of a choice."""
    objective = self._objective(choice.architecture)
    like = jax.eval_shape(objective.init, jax.random.key(0))
    own = {kind: trees.restrict(
        trees.joined(original[kind], held[kind]), like[kind]) for kind in like}
    state = self.tuning.start(own, held, original, rng)
    end = None
    if next_round:
      end = functools.partial(self._next_round, choice, next_round)
    elif choice.left or self.fresh:
      end = functools.partial(self._judged, space, choice, objective)
    return base.Handover(
        self._tuning(choice, objective, end, next_round is None), state,
        choice.architecture, {})

  @functools.lru_cache(maxsize=16)  # noqa: B019
  def _objective(self, architecture):
    """The same one for all seeds, which share what is compiled."""
    return self._make_objective(self.train, architecture, self.place)

  def _tuning(self, choice, objective, end, last):
    """The program that tunes a choice, and compares it if it is the last."""
    stages = self.tuning.stages(objective, last)
    stages[-1] = stages[-1]._replace(end=end)
    return base.Method(
        init=replace_tune.no_init, stages=tuple(stages),
        derive=functools.partial(self._derive, choice),
        explain=lambda state: "the network that was chosen")

  def _next_round(self, choice, number, state):
    """Hands over to learning the replacements of the tuned network."""
    space = self._replacements(choice.architecture)
    _, rng_start = jax.random.split(state.rng)
    begun = self.learning.start(
        space, supervised.variables(state), state.original, rng_start)
    return base.Handover(
        self._learn(choice.architecture, number, choice.report["rounds"],
                    choice.paid), begun, choice.architecture, {})

  def _row(self, choice, state):
    """What came of a choice, and whether it is accepted.

    The original, tuned, is no cut: it is not returned in its own place.
    """
    row = {"params": choice.cost.params, "madds": choice.cost.madds,
           "price": choice.price, **self.bounds.row(choice.architecture)}
    if not self.config.held_out:
      return row, choice.architecture != self.given
    pairs = acceptance.Pairs(*map(int, np.asarray(state.pairs)))
    verdict = self._verdict(choice, pairs)
    return row | acceptance.report(pairs, verdict), verdict.accepted

  def _verdict(self, choice, pairs):
    """What comes of a comparison of a choice's network with the original."""
    verdict = acceptance.judge(
        pairs, self.cost, choice.cost, self.config.tolerance,
        *self.bounds.beside(choice.architecture))
    if choice.architecture == self.given:
      verdict = acceptance.Verdict(False, "nothing was replaced, since it keeps"
                                   " to the budget as it is")
    if self._asked and any(limit is not None and now > limit for limit, now in
                           zip(self.limits, self._now, strict=True)):
      verdict = acceptance.over_budget(verdict)
    return verdict

  def _judged(self, space, choice, objective, state):
    """Hands over to a milder choice if this one is refused, or to the end."""
    row, accepted = self._row(choice, state)
    limits, chosen = choice.limits, choice
    # Half the way may not be far enough for another choice.
    while choice.left and not accepted and (
        chosen.architecture == choice.architecture) and (
            limits.excess(self.cost) > 1.01):
      limits = self._milder(limits)
      # Where there may be another there is but one round.
      chosen = self._choose(space, choice.prices, limits, choice.report)
    if chosen.architecture == choice.architecture:
      if self.fresh and choice.architecture != self.given:
        return self._anew(choice, objective, row, state)
      # Nothing is left to train.
      program = self._tuning(choice, objective, None, False)
      stage = program.stages[0]._replace(name="end", epochs=0)
      return base.Handover(program._replace(stages=(stage,)), state,
                           choice.architecture, {})
    chosen = chosen._replace(tries=(*choice.tries, row), left=choice.left - 1)
    return self._tune(space, chosen, state.held, state.original, state.rng,
                      None)

  def _derive(self, choice, state, given, score, rng):
    """What is returned: what was chosen, or the original."""
    row, accepted = self._row(choice, state)
    return self._derived(choice, row, accepted, supervised.variables(
        state) if accepted else state.original)

  def _derived(self, choice, row, accepted, variables, **more):
    """A choice or the original, with its variables and the report."""
    report = {**choice.report, "tries": [*choice.tries, row], **more,
              **self.bounds.told(
                  choice.architecture if accepted else self.given)}
    if accepted:
      report["explained"] = self._explained(choice)
    return base.Derived(
        choice.architecture if accepted else self.given, variables, report)

  # The chosen architecture is trained from scratch, and compared.

  def _anew(self, choice, objective, row, state):
    """Hands over to a training that is compared with what is returned else."""
    rival, variables = self.given, state.original
    if row["accepted"]:
      rival, variables = choice.architecture, supervised.variables(state)
    assert self.fresh is not None  # Or nothing asks for it.
    _, rng = jax.random.split(state.rng)
    program = base.Method(
        init=replace_tune.no_init, stages=self.fresh.stages(
            choice.architecture, objective, rival),
        derive=functools.partial(self._better, choice, row),
        explain=lambda state: "the network that was chosen, from scratch")
    return base.Handover(program, self.fresh.start(
        choice.architecture, objective, variables, rng),
                         choice.architecture, {})

  def _better(self, choice, row, state, given, score, rng):
    """What is returned: the fresh network, or what it was compared with."""
    pairs = acceptance.Pairs(*map(int, np.asarray(state.pairs)))
    if row["accepted"]:
      against, verdict = "inherited", acceptance.Verdict(
          pairs.difference > 0, acceptance.told(pairs))
    else:
      against, verdict = "original", self._verdict(choice, pairs)
    better = verdict.accepted
    return self._derived(
        choice, row, better or row["accepted"],
        supervised.variables(state) if better else state.rival, fresh={
            **acceptance.report(pairs, verdict), "against": against,
            "returned": "scratch" if better else against})

  def _explained(self, choice):
    """Of every row of the changes its price, in nats; and seconds saved.

    What went because it led nowhere has no price of its own.
    """
    found = []
    for change in alone.changes(self.space.architecture, choice.architecture):
      own = [entry[2:] for entry in choice.paid
             if {*entry[0]} <= {*change.parts} and entry[1] == change.edge]
      row = {"price": sum(price for price, _ in own) if own else None}
      if self.latency is not None:
        row["saves"] = {"latency": sum(seconds for _, seconds in own)}
      found.append(row)
    return found


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run the replacement; see `entry`."""
  given = request.architecture
  assert given is not None  # As the entry says.
  train = request.train
  method = Replace(
      request.settings, train, given, share=request.share,
      num_classes=request.num_classes, image_size=request.image_size,
      steps_per_epoch=request.num_images // train.batch_size,
      num_images=request.num_images, make_objective=request.make_objective,
      fresh=request.fresh, watch=request.watch)

  own, share = method.config, request.settings.held_out

  def further():
    """What is handed over to, at most: of the original's cost, all tries."""
    steps = request.num_images // train.batch_size
    learning, madds = base.work(method.method(), {
        "train": steps, "prices": method.price_batches}, method.cost.madds)
    tuned = own.tune_epochs * steps * (own.rounds - 1 + (
        own.tries if method.bounds.met is not False and share else 1))
    anew = method.fresh.steps if method.fresh else 0
    return {"further_steps": (own.rounds - 1) * learning + tuned + anew,
            # The original tells what the tuned network is to predict.
            "further_madds": (own.rounds - 1) * madds + (
                ((1 + 3) * tuned + 3 * anew) * method.cost.madds)}

  def estimate(batch):
    like = jax.eval_shape(method.method().init, jax.random.key(0))
    return {"params": memory.size((like.network["params"], like.params)),
            "madds": method.cost.madds, **further(),
            "memory_bytes": 16 * memory.size(like.params) + 2 * (
                memory.network_bytes(given, method.place, batch, train.dtype))}

  return entry_lib.Plan(
      method.method(), method.config, method.space.architecture,
      method.space.describe(), method.fractions, train.batch_size, estimate,
      begin=method.begin, bounds=(method.bounds,),
      prepare=method.prepare if method.latency else None)


ENTRY = entry_lib.Entry(
    ReplaceConfig, build, replace_config.preset,
    listed.LINES["replace"],
    trained=True, inherits=True, label="replace", model="with replacements",
    share="full", reports=("rank_correlation", "curve", "rounds", "tries",
                           "fresh", "latency", "memory"),
    charts={"pareto.svg": drawing.save_prices},
    kept="The original was kept: no cut that was tried is as good, within the"
    " tolerance, on the held-out images. A larger tolerance, more"
    " epochs of tuning (tune-epochs) or a milder budget may find one.",
    fresh=True)
