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

Deep cuts take several `rounds`: choose a part, tune, learn the candidates anew
from the tuned network, and so on. That prices add up is an assumption; how well
they foretell what random choices of many replacements cost is measured
("rank_correlation"). Of several rounds the report has "rounds", what each began
from and measured; beside it stands what the last did.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import drawing, errors
from natjax.costs import alone, exact
from natjax.costs import budget as budget_lib
from natjax.graph import codec
from natjax.methods import acceptance, memory, replace_config, supervised
from natjax.methods import bounds as bounds_lib
from natjax.methods import entry as entry_lib
from natjax.methods import replacements as replacements_lib
from natjax.networks import network as network_lib
from natjax.networks import trees
from natjax.objectives import classification as objectives
from natjax.training import distributed, optimizers
from natjax.training import method as base

ReplaceConfig = replace_config.ReplaceConfig
_GOAL = "0.5x"  # Of the multiply-adds, where no budget is given.
_CURVE = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2)


class LearnState(NamedTuple):
  """While the replacements learn and are priced.

  Attributes:
    step: i32[], updates so far.
    network: variables of the network whose operations are replaced.
    params: of the replacements.
    batch_stats: theirs.
    opt_state: of `params`.
    prices: f32[M], sums over batches.
    original: variables of the given network, as it was given.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  network: Any
  params: Any
  batch_stats: Any
  opt_state: Any
  prices: jax.Array
  original: Any
  rng: jax.Array


class TuneState(NamedTuple):
  """While what was chosen is tuned, and compared.

  Attributes:
    step: i32[], updates so far.
    params: of the chosen network.
    batch_stats: its running statistics.
    opt_state: of `params`.
    held: variables of all operations, to choose others from.
    original: variables of the given network, as it was given.
    pairs: i32[3], held-out images, and those that the chosen network alone and
      the original alone got right.
    rng: a key, split anew at every update.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  held: Any
  original: Any
  pairs: jax.Array
  rng: jax.Array


class Choice(NamedTuple):
  """What was chosen, and what has come of others before.

  Attributes:
    architecture: that was chosen.
    cost: of it.
    price: its price, in nats.
    limits: the budget that it keeps to.
    prices: per place, those of all operations.
    tries: JSON rows of the choices before, none of which was accepted.
    left: how many may be tried after it.
    report: JSON values, of the pricing.
    paid: of every operation that was replaced, in this round or before, by
      blocks (or a cell's number) and edge: its price, and the seconds that it
      saves by itself, where operations are timed.
  """

  architecture: codec.Architecture
  cost: Any
  price: float
  limits: budget_lib.Budget
  prices: list[np.ndarray]
  tries: tuple[dict[str, Any], ...]
  left: int
  report: dict[str, Any]
  paid: tuple[tuple[tuple[int, ...], int, float, float | None], ...] = ()


class Replace:
  """The method's parts; `method` makes the record of its first program.

  Attributes:
    config: the settings, resolved.
    train: those of the training.
    given: the given architecture.
    place: where it stands.
    limits: the budget of the first choice.
    price_batches: by which replacements are priced.
  """

  def __init__(self, config: ReplaceConfig, train: supervised.TrainConfig,
               architecture: codec.Architecture, *, num_classes: int,
               image_size: int, share: str = "full", steps_per_epoch: int = 1,
               num_images: int = 0,
               make_objective: objectives.Maker = supervised.classification):
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

    Raises:
      InputError: settings that do not fit together, or nothing to replace.
      errors.NotMet: nothing keeps to the budget of the settings.
    """
    self.train = train = supervised.resolve(train, architecture.kind)
    supervised.plain(train, "replace")
    self.config = config = replace_config.resolve(config, train)
    self.given, self._share = architecture, share
    self.place = supervised.place_of(
        train, architecture.kind, num_classes=num_classes,
        image_size=image_size)
    self.bounds = bounds_lib.Bounds(
        config, self.given, self.place, train.dtype)
    self.latency = self.bounds.latency
    self._steps, self._make_objective = steps_per_epoch, make_objective
    first = self._replacements(architecture)
    self.space, self.cost = first, first.cost
    self._aim()
    count = num_images or steps_per_epoch * train.batch_size
    batches = -(-config.price_images // train.batch_size)
    images = min(batches * train.batch_size, count)
    rest = {"others": 1 - images / count} if images < count else {}
    self.fractions = {"prices": images / count, **rest}
    self.price_batches = images // train.batch_size

  def _aim(self):
    """Sets what the first choice keeps to.

    Without a budget that the given network exceeds, that is half of its
    multiply-adds, or what of them can be saved.
    """
    self._asked, limits = not self.bounds.met, self.bounds.limits
    if not self._asked:
      goal = budget_lib.parse(_GOAL, self.cost.madds, option="max-madds")
      limits = limits._replace(madds=goal)
    self.limits = self._reachable(limits)

  def _reachable(self, limits):
    """A budget that some choice keeps to: of the user's own, that or none."""
    free = self.space.by_place(np.zeros(len(self.space.alone())))
    milder = 4
    while True:
      try:
        self.space.choose(free, limits)
        return limits
      except errors.NotMet:
        if self._asked:
          raise
      if not milder:
        return self.bounds.limits._replace(**{
            name: limit for name, limit in self.space.least()._asdict().items()
            if limit is not None})
      limits, milder = self._milder(limits), milder - 1

  def _reaches(self, architecture):
    """Whether some choice in an architecture keeps to the budget."""
    try:
      space = self._replacements(architecture)
      seconds = None if self.latency is None else (
          self._seconds(architecture) - self.limits.seconds)
      space.choose(space.by_place(np.zeros(len(space.alone()))), self.limits,
                   seconds)
    except (errors.InputError, errors.NotMet):
      return False
    return True

  @functools.cached_property
  def _now(self):
    """What the original costs, in the order of a budget."""
    return (*self.cost[:2], self.space.memory(self.space.architecture),
            0.0 if self.latency is None else self._seconds(self.given))

  def _milder(self, limits):
    """The budget in the middle between one and the original's cost."""
    return budget_lib.Budget(*(
        None if limit is None else (limit + now) / 2
        for limit, now in zip(limits, self._now, strict=True)))

  def prepare(self, folder: pathlib.Path,
              processes: distributed.Processes) -> None:
    """Measures what a budget of latency needs, where there is one.

    The original, beside the network that would be fastest by the times of its
    operations; what was measured before in the folder is read there.

    Raises:
      InputError: the device cannot tell the times apart that are asked for.
      errors.NotMet: not even that network keeps to the budget.
    """
    self.bounds.prepare(folder, processes, lambda: self.space.apply(
        self.space.fastest(self.limits)))
    self._aim()

  def _seconds(self, architecture):
    """Latency of a network, measured beside the original."""
    return self.bounds.seconds(architecture)

  @functools.cache  # noqa: B019
  def _replacements(self, architecture):
    return replacements_lib.Replacements(
        architecture, self.place, self._share, self.config.keep,
        batch=self.config.inference_batch, dtype=self.train.dtype,
        latency=self.latency)

  def method(self) -> base.Method:
    """The record of the first program; it begins with `begin`."""
    return self._learn(self.given, 1, [], ())

  def begin(self, variables: Any, rng: jax.Array) -> LearnState:
    """The first state, of a trained network's variables.

    Args:
      variables: of the given architecture, "params" and "batch_stats"; those of
        an auxiliary head are left out of what is transformed.
      rng: a key.
    """
    return self._start(self.space, variables, variables, rng)

  def _init(self, rng):
    """A state of drawn weights, whose shapes alone are of use."""
    rng_network, rng_own = jax.random.split(rng)
    objective = self._make_objective(self.train, self.given, self.place)
    variables = objective.init(rng_network)
    return self._start(self.space, variables, variables, rng_own)

  def _start(self, space, variables, original, rng):
    rng_draw, rng_state = jax.random.split(rng)
    drawn = network_lib.init(space.network, rng_draw, edge=space.every)
    own = {kind: trees.without(tree, variables[kind])
           for kind, tree in drawn.items()}
    known = {kind: trees.restrict(variables[kind], trees.without(
        tree, own[kind])) for kind, tree in drawn.items()}
    return LearnState(
        step=jnp.zeros((), jnp.int32), network=known, params=own["params"],
        batch_stats=own["batch_stats"],
        opt_state=jax.jit(self._distil_optimizer.init)(own["params"]),
        prices=jnp.zeros(len(self._table(space))),
        # Apart from the network's: both are donated.
        original=jax.tree.map(lambda x: jnp.array(x, copy=True), original),
        rng=rng_state)

  def _table(self, space):
    """i32[M, P], the choices that are priced: one by one, then at random."""
    return np.concatenate([space.alone(), space.drawn(
        self.config.price_checks, seed=0)])

  def _run(self, space):
    """i32[1 + M, P], the network as it is, and the choices of the table."""
    table = self._table(space)
    return np.concatenate([np.zeros_like(table[:1]), table])

  @functools.cached_property
  def _distil_optimizer(self):
    return optimizers.coupled("adam", optimizers.cosine(
        self.config.distil_learning_rate,
        self.config.distil_epochs * self._steps))

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
    distil = base.Phase("distil", ("train",), functools.partial(
        self.update_replacements, space), ("loss",), passes=0,
                        madds=space.learning())
    prices = base.Phase("prices", ("prices",), functools.partial(
        self.update_prices, space), ("price",), augment=False, passes=0,
                        madds=space.running(self._run(space)))
    return base.Method(
        init=self._init, stages=(
            base.Stage("distil", self.config.distil_epochs, (distil,)),
            base.Stage("prices", 1, (prices,), functools.partial(
                self._priced, space, number, before, paid=paid))),
        explain=lambda state: "the operations that are learnt")

  def update_replacements(
      self, space: replacements_lib.Replacements, state: LearnState,
      batch: base.Batch) -> tuple[LearnState, dict[str, jax.Array]]:
    """One step of all replacements, towards what the operations give."""
    rng, rng_own = jax.random.split(state.rng)
    key = base.device_key(rng_own)
    lessons: list[replacements_lib.Lesson] = []
    space.network.apply(
        {"params": state.network["params"],
         "batch_stats": state.network["batch_stats"]}, batch["image"],
        train=True, mutable=["batch_stats"], rngs=_streams(key),
        edge=space.listen(state.params, lessons))
    losses, grads, stats = replacements_lib.learn(
        lessons, state.params, state.batch_stats, key)
    mean = jnp.sum(losses) / max(len(losses), 1)
    grads, stats, mean = base.mean_over_devices((grads, stats, mean))
    return supervised.descend(
        self._distil_optimizer, state, grads, batch_stats=stats,
        step=state.step + 1, rng=rng), {"loss": mean}

  def update_prices(
      self, space: replacements_lib.Replacements, state: LearnState,
      batch: base.Batch) -> tuple[LearnState, dict[str, jax.Array]]:
    """Adds what every choice of the table costs on a batch, in nats."""
    variables = {
        "params": trees.joined(state.network["params"], state.params),
        "batch_stats": trees.joined(state.network["batch_stats"],
                                    state.batch_stats)}
    key = base.device_key(state.rng)  # Dropout is alike in all choices.

    def predict(choice):
      (logits, _), _ = space.network.apply(
          variables, batch["image"], train=True, mutable=["batch_stats"],
          rngs=_streams(key), edge=space.chosen(choice))
      return jax.nn.log_softmax(logits)

    def price(first, choice_and_number):
      choice, number = choice_and_number
      found = predict(choice)
      # The first choice is the network as it is: one program for it and all.
      first = jnp.where(number == 0, found, first)
      return first, jnp.mean(jnp.sum(jnp.exp(first) * (first - found), -1))

    table = self._run(space)
    start = jnp.zeros((len(batch["label"]), self.place.num_classes))
    _, found = lax.scan(price, start, (table, np.arange(len(table))))
    found = base.mean_over_devices(found[1:])
    return state._replace(prices=state.prices + found), {
        "price": jnp.mean(found)}

  def _priced(self, space, number, before, state, paid=()):
    """Chooses, by the sums of prices, and hands over to the tuning."""
    cut = len(space.alone())
    seen = np.asarray(state.prices, np.float64) / self.price_batches
    prices = space.by_place(seen[:cut])
    report: dict[str, Any] = {
        "prices": _rows(space, prices), "curve": self._curve(space, prices),
        **self._checked(space, prices, seen[cut:])}
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

  def _part(self, share):
    """The budget that goes a share of the way, by factors."""
    return budget_lib.Budget(*(
        None if limit is None else now * (limit / now) ** share
        for now, limit in zip(self._now, self.limits, strict=True)))

  def _fast(self, space, prices, limits):
    """The choice of least price that keeps to a latency, i32[P].

    Raises:
      errors.NotMet: none does.
    """
    now = self._seconds(space.architecture)
    if now <= limits.seconds:
      return space.choose(prices, limits)

    def choose(wanted):
      try:
        return space.choose(prices, limits, wanted)
      except errors.NotMet:
        return None

    most = space.fastest(limits)
    return self.bounds.closely(
        now, choose, most, space.foreseen(most), space.apply,
        lambda choice: _sum(prices, choice))

  def _choose(self, space, prices, limits, report, paid=()):
    choice = space.choose(prices, limits) if limits.seconds is None else (
        self._fast(space, prices, limits))
    architecture = space.apply(choice)
    price = _sum(prices, choice)
    asked = self._asked or not self.config.held_out
    return Choice(
        architecture, exact.network(architecture, self.place), price, limits,
        prices, (), 0 if asked else self.config.tries - 1, report,
        (*paid, *space.paid(choice, prices)))

  def _curve(self, space, prices):
    """What budgets of multiply-adds would come to, by the prices.

    The original is the first row. What keeps to several of them stands there
    once for each; latency and memory are told where a budget asks for them.
    """
    row = lambda architecture, cost, price: {
        "params": cost.params, "madds": cost.madds, "price": price,
        **self.bounds.row(architecture),
        "architecture": codec.to_dict(architecture)}
    rows = [{**row(self.given, self.cost, 0.0), "original": True}]
    for share in _CURVE:
      try:
        choice = space.choose(prices, budget_lib.Budget(
            madds=share * self.cost.madds))
      except errors.NotMet:
        break
      architecture = space.apply(choice)
      cost = exact.network(architecture, self.place)
      rows.append(row(architecture, cost, _sum(prices, choice)))
    return rows

  def _checked(self, space, prices, measured):
    """How well sums of prices foretell what choices at random cost."""
    if not len(measured):
      return {"rank_correlation": None}
    foretold = [sum(p[c] for p, c in zip(prices, row, strict=True))
                for row in space.drawn(len(measured), seed=0)]
    if not np.ptp(foretold) or not np.ptp(measured):
      return {"rank_correlation": 0.0}  # All alike: no order is foretold.
    from scipy import stats  # Takes half a second, and few commands need it.
    found = stats.spearmanr(foretold, measured).statistic
    return {"rank_correlation": float(found)}

  # What was chosen is tuned, and compared.

  def _tune(self, space, choice, held, original, rng, next_round):
    """Hands over to the training of a choice."""
    objective = self._make_objective(self.train, choice.architecture,
                                     self.place)
    like = jax.eval_shape(objective.init, jax.random.key(0))
    own = {kind: trees.restrict(
        trees.joined(original[kind], held[kind]), like[kind]) for kind in like}
    optimizer = self._tune_optimizer
    copy = functools.partial(jax.tree.map, lambda x: jnp.array(x, copy=True))
    own = copy(own)
    state = TuneState(
        step=jnp.zeros((), jnp.int32), **own,
        opt_state=jax.jit(optimizer.init)(own["params"]), held=held,
        original=original, pairs=jnp.zeros(3, jnp.int32), rng=rng)
    end = None
    if next_round:
      end = functools.partial(self._next_round, choice, next_round)
    elif choice.left:
      end = functools.partial(self._judged, space, choice, objective)
    return base.Handover(
        self._tuning(choice, objective, end, next_round is None), state,
        choice.architecture, {})

  @functools.cached_property
  def _tune_optimizer(self):
    train, config = self.train, self.config
    return optimizers.coupled(
        train.optimizer, optimizers.cosine(
            config.tune_learning_rate, config.tune_epochs * self._steps),
        momentum=train.momentum, weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm)

  def _tuning(self, choice, objective, end, last):
    """The program that tunes a choice, and compares it if it is the last."""
    stages = [base.Stage("tune", self.config.tune_epochs, (base.Phase(
        "tune", ("train",), functools.partial(self.update_network, objective),
        ("loss", "accuracy")),))]
    if last and self.config.held_out:
      stages.append(base.Stage("compare", 1, (base.Phase(
          "compare", ("held_out",), functools.partial(
              self.update_pairs, objective), ("difference",), augment=False),)))
    stages[-1] = stages[-1]._replace(end=end)
    return base.Method(
        init=_no_init, stages=tuple(stages), derive=functools.partial(
            self._derive, choice),
        explain=lambda state: "the network that was chosen")

  @functools.cached_property
  def _teacher(self):
    return network_lib.module(self.given, self.place)

  def _teach(self, original, images):
    """Logits of the network as it was given, by its running statistics."""
    known = {kind: {name: part for name, part in tree.items()
                    if name != "auxiliary"} for kind, tree in original.items()}
    return self._teacher.apply(known, images)[0]

  def update_network(
      self, objective: objectives.Classification, state: TuneState,
      batch: base.Batch) -> tuple[TuneState, dict[str, jax.Array]]:
    """One step of the tuning: labels, and the original's predictions."""
    share, degree = self.config.distillation, self.config.temperature
    rng, rng_drop = jax.random.split(state.rng)
    wanted = jax.nn.softmax(
        self._teach(state.original, batch["image"]) / degree)

    def loss(params):
      outputs, stats = objective.forward(
          params, state.batch_stats, batch["image"],
          base.device_key(rng_drop), drop_path=None)
      apart = degree**2 * jnp.mean(optax.softmax_cross_entropy(
          outputs[0] / degree, wanted))
      total = (1 - share) * objective.cross_entropy(
          outputs, batch["label"]) + share * apart
      right = jnp.mean(objectives.right(outputs[0], batch["label"]))
      return total, (stats, {"loss": total, "accuracy": right})

    grads, (stats, metrics) = jax.grad(loss, has_aux=True)(state.params)
    grads, stats, metrics = base.mean_over_devices((grads, stats, metrics))
    return supervised.descend(
        self._tune_optimizer, state, grads, batch_stats=stats,
        step=state.step + 1, rng=rng), metrics

  def update_pairs(
      self, objective: objectives.Classification, state: TuneState,
      batch: base.Batch) -> tuple[TuneState, dict[str, jax.Array]]:
    """Counts which of the two networks is right on a held-out batch."""
    ours = objective.is_right(supervised.variables(state), batch)
    theirs = objectives.right(
        self._teach(state.original, batch["image"]), batch["label"])
    there = batch["label"] >= 0  # Not what fills up the last batch.
    counts = jnp.array([
        jnp.sum(there), jnp.sum(there & (ours > theirs)),
        jnp.sum(there & (theirs > ours))], jnp.int32)
    counts = lax.psum(counts, base.AXIS)
    return state._replace(pairs=state.pairs + counts), {
        "difference": (counts[1] - counts[2]) / jnp.maximum(counts[0], 1)}

  def _next_round(self, choice, number, state):
    """Hands over to learning the replacements of the tuned network."""
    space = self._replacements(choice.architecture)
    _, rng_start = jax.random.split(state.rng)
    begun = self._start(
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
    cut = choice.architecture != self.given
    if not self.config.held_out:
      return row, cut
    pairs = acceptance.Pairs(*map(int, np.asarray(state.pairs)))
    verdict = acceptance.judge(
        pairs, self.cost, choice.cost, self.config.tolerance,
        *self.bounds.beside(choice.architecture))
    if not cut:
      verdict = acceptance.Verdict(False, "nothing was replaced, since it keeps"
                                   " to the budget as it is")
    if self._asked and any(limit is not None and now > limit for limit, now in
                           zip(self.limits, self._now, strict=True)):
      verdict = acceptance.over_budget(verdict)
    return row | acceptance.report(pairs, verdict), verdict.accepted

  def _judged(self, space, choice, objective, state):
    """Hands over to a milder choice if this one is refused, or to the end."""
    row, accepted = self._row(choice, state)
    limits, chosen = choice.limits, choice
    # Half the way may not be far enough for another choice.
    while not accepted and chosen.architecture == choice.architecture and (
        limits.excess(self.cost) > 1.01):
      limits = self._milder(limits)
      # Where there may be another there is but one round.
      chosen = self._choose(space, choice.prices, limits, choice.report)
    if chosen.architecture == choice.architecture:  # Nothing is left to train.
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
    report = {**choice.report, "tries": [*choice.tries, row],
              **self.bounds.told(
                  choice.architecture if accepted else self.given)}
    if accepted:
      report["explained"] = self._explained(choice)
      return base.Derived(
          choice.architecture, supervised.variables(state), report)
    return base.Derived(self.given, state.original, report)

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


def _sum(prices, choice):
  """The price of a choice."""
  return float(sum(p[c] for p, c in zip(prices, choice, strict=True)))


def _rows(space, prices):
  """Prices as JSON rows."""
  return [{"place": where, "operation": name, "price": round(float(p), 6)}
          for (where, place), own in zip(space.named(), prices, strict=True)
          for name, p in zip(place.names[1:], own[1:], strict=True)]


def _streams(key):
  """The rng streams of a network."""
  return {"drop_path": key, "dropout": key, "noise": key}


def _no_init(rng):
  raise AssertionError("it begins with what was handed over")


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run the replacement; see `entry`."""
  given = request.architecture
  assert given is not None  # As the entry says.
  train = request.train
  method = Replace(
      request.settings, train, given, share=request.share,
      num_classes=request.num_classes, image_size=request.image_size,
      steps_per_epoch=request.num_images // train.batch_size,
      num_images=request.num_images, make_objective=request.make_objective)

  own, share = method.config, request.settings.held_out

  def further():
    """What is handed over to, at most: of the original's cost, all tries."""
    steps = request.num_images // train.batch_size
    learning, madds = base.work(method.method(), {
        "train": steps, "prices": method.price_batches}, method.cost.madds)
    tuned = own.tune_epochs * steps * (own.rounds - 1 + (
        own.tries if method.bounds.met is not False and share else 1))
    return {"further_steps": (own.rounds - 1) * learning + tuned,
            # The original tells what the tuned network is to predict.
            "further_madds": (own.rounds - 1) * madds + (
                (1 + 3) * method.cost.madds * tuned)}

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
    "replaces operations of a trained network, whose weights are kept",
    trained=True, inherits=True, label="replace", model="with replacements",
    share="full", reports=("rank_correlation", "curve", "rounds", "tries",
                           "latency", "memory"),
    charts={"pareto.svg": drawing.save_prices},
    kept="The original was kept: no cut that was tried is as good, within the"
    " tolerance, on the held-out images. A larger tolerance, more"
    " epochs of tuning (tune-epochs) or a milder budget may find one.")
