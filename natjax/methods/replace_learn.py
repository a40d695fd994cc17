"""The first program of a replacement: operations learn, and are priced."""

from collections.abc import Callable
import functools
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.costs import budget as budget_lib
from natjax.costs import exact
from natjax.graph import codec
from natjax.methods import lessons as lessons_lib
from natjax.methods import replace_config, supervised
from natjax.methods import replacements as replacements_lib
from natjax.networks import network as network_lib
from natjax.networks import trees
from natjax.training import method as base
from natjax.training import optimizers

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


class Learning:
  """How the operations that may replace others are made ready."""

  def __init__(self, config: replace_config.ReplaceConfig, steps: int,
               parts: int = 1):
    """Args:
      config: the settings, resolved.
      steps: updates per epoch.
      parts: of a batch, that learn one after another.
    """
    self.config, self._steps, self._parts = config, steps, parts

  @functools.cached_property
  def _optimizer(self):
    return optimizers.coupled("adam", optimizers.cosine(
        self.config.distil_learning_rate,
        self.config.distil_epochs * self._steps))

  def start(self, space: replacements_lib.Replacements, variables: Any,
            original: Any, rng: jax.Array) -> LearnState:
    """The first state.

    Args:
      space: the choices in a network.
      variables: of that network, trained.
      original: variables of the given network, as it was given.
      rng: a key.
    """
    rng_draw, rng_state = jax.random.split(rng)
    drawn = network_lib.init(space.network, rng_draw, edge=space.every)
    own = {kind: trees.without(tree, variables[kind])
           for kind, tree in drawn.items()}
    known = {kind: trees.restrict(variables[kind], trees.without(
        tree, own[kind])) for kind, tree in drawn.items()}
    return LearnState(
        step=jnp.zeros((), jnp.int32), network=known, params=own["params"],
        batch_stats=own["batch_stats"],
        opt_state=jax.jit(self._optimizer.init)(own["params"]),
        prices=jnp.zeros(len(self._table(space))),
        # Apart from the network's: both are donated.
        original=jax.device_put(original, may_alias=False),
        rng=rng_state)

  def _table(self, space):
    """i32[M, P], the choices that are priced: one by one, then at random."""
    return np.concatenate([space.alone(), space.drawn(
        self.config.price_checks, seed=0)])

  def _run(self, space):
    """i32[1 + M, P], the network as it is, and the choices of the table."""
    table = self._table(space)
    return np.concatenate([np.zeros_like(table[:1]), table])

  def stages(self, space: replacements_lib.Replacements,
             end: Callable[[LearnState], base.Handover]
             ) -> tuple[base.Stage, base.Stage]:
    """The operations of a network learn, and are priced.

    Args:
      space: the choices in the network.
      end: what follows.
    """
    distil, prices = self._phases(space)
    return (base.Stage("distil", self.config.distil_epochs, (distil,)),
            base.Stage("prices", 1, (prices,), end))

  @functools.cache  # noqa: B019
  def _phases(self, space):
    """The same ones for all seeds, which share what is compiled."""
    return (
        base.Phase("distil", ("train",), functools.partial(
            self.update_replacements, space), ("loss",), passes=0,
                   madds=space.learning()),
        base.Phase("prices", ("prices",), functools.partial(
            self.update_prices, space), ("price",), augment=False, passes=0,
                   madds=space.running(self._run(space))))

  def update_replacements(
      self, space: replacements_lib.Replacements, state: LearnState,
      batch: base.Batch) -> tuple[LearnState, dict[str, jax.Array]]:
    """One step of all replacements, towards what the operations give."""
    rng, rng_own = jax.random.split(state.rng)

    def gradient(batch, batch_stats, key):
      lessons: list[lessons_lib.Lesson] = []
      space.network.apply(
          {"params": state.network["params"],
           "batch_stats": state.network["batch_stats"]}, batch["image"],
          train=True, mutable=["batch_stats"], rngs=_streams(key),
          edge=space.listen(state.params, lessons))
      losses, grads, stats = lessons_lib.learn(
          lessons, state.params, batch_stats, key)
      return grads, stats, jnp.sum(losses) / max(len(losses), 1)

    grads, stats, mean = base.mean_over_devices(supervised.in_parts(
        gradient, self._parts, state.params, batch, state.batch_stats,
        base.device_key(rng_own)))
    return supervised.descend(
        self._optimizer, state, grads, batch_stats=stats,
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
    start = jnp.zeros((len(batch["label"]), space.place.num_classes))
    _, found = lax.scan(price, start, (table, np.arange(len(table))))
    found = base.mean_over_devices(found[1:])
    return state._replace(prices=state.prices + found), {
        "price": jnp.mean(found)}

  def priced(
      self, space: replacements_lib.Replacements, state: LearnState,
      batches: int, given: codec.Architecture,
      told: Callable[[codec.Architecture], dict[str, Any]]
  ) -> tuple[list[np.ndarray], dict[str, Any]]:
    """What was measured.

    Args:
      space: the choices in the network.
      state: at the end.
      batches: over which prices were added up.
      given: the given network.
      told: what a row says of a network that a budget asks for.

    Returns:
      The prices, per place those of all operations; and what a report says of
      them.
    """
    cut = len(space.alone())
    seen = np.asarray(state.prices, np.float64) / batches
    prices = space.by_place(seen[:cut])
    return prices, {
        "prices": _rows(space, prices),
        "curve": self._curve(space, prices, given, told),
        **self._checked(space, prices, seen[cut:])}

  def _curve(self, space, prices, given, told):
    """What budgets of multiply-adds would come to, by the prices.

    The given network is the first row, and budgets are shares of its
    multiply-adds. What keeps to several of them stands there once for each.
    """

    def row(architecture, price):
      cost = exact.network(architecture, space.place)
      return {"params": cost.params, "madds": cost.madds, "price": price,
              **told(architecture), "architecture": codec.to_dict(architecture)}

    rows = [{**row(given, 0.0), "original": True}]
    for share in _CURVE:
      try:
        choice = space.choose(prices, budget_lib.Budget(
            madds=share * rows[0]["madds"]))
      except errors.NotMet:
        break
      rows.append(row(space.apply(choice), space.price(prices, choice)))
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


def _rows(space, prices):
  """Prices as JSON rows."""
  return [{"place": where, "operation": name, "price": round(float(p), 6)}
          for (where, place), own in zip(space.named(), prices, strict=True)
          for name, p in zip(place.names[1:], own[1:], strict=True)]


def _streams(key):
  """The rng streams of a network."""
  return {"drop_path": key, "dropout": key, "noise": key}
