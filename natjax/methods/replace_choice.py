"""Which operations are replaced: by their prices, under a budget."""

import functools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from natjax import errors
from natjax.costs import budget as budget_lib
from natjax.costs import exact
from natjax.graph import codec
from natjax.methods import bounds as bounds_lib
from natjax.methods import replace_config, supervised
from natjax.methods import replacements as replacements_lib
from natjax.training import distributed

_GOAL = "0.5x"  # Of the multiply-adds, where no budget is given.


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


class Choosing:
  """The choices in a network, and the budgets that they keep to.

  Attributes:
    config: the settings, resolved.
    train: those of the training.
    given: the given architecture.
    place: where it stands.
    bounds: the user's budget.
    latency: the times of operations, where latency is limited.
    space: the choices in the given network.
    cost: of that.
    limits: the budget of the first choice.
  """

  def __init__(self, config: replace_config.ReplaceConfig,
               train: supervised.TrainConfig, architecture: codec.Architecture,
               *, num_classes: int, image_size: int, share: str,
               embedding: int = 0):
    """Args and errors are those of `replace.Replace`."""
    self.train = train = supervised.resolve(train, architecture.kind)
    supervised.plain(train, "replace")
    self.config = config = replace_config.resolve(config, train)
    self.given, self._share = architecture, share
    self.place = supervised.place_of(
        train, architecture.kind, num_classes=num_classes,
        image_size=image_size, embedding=embedding)
    self.bounds = bounds_lib.Bounds(
        config, self.given, self.place, train.dtype)
    self.latency = self.bounds.latency
    self.space = self._replacements(architecture)
    self.cost = self.space.cost
    self._aim()

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
        latency=self.latency, allowed=self.config.operations)

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
        lambda choice: space.price(prices, choice))

  def _choose(self, space, prices, limits, report, paid=()):
    choice = space.choose(prices, limits) if limits.seconds is None else (
        self._fast(space, prices, limits))
    architecture = space.apply(choice)
    price = space.price(prices, choice)
    asked = self._asked or not self.config.held_out
    return Choice(
        architecture, exact.network(architecture, self.place), price, limits,
        prices, (), 0 if asked else self.config.tries - 1, report,
        (*paid, *space.paid(choice, prices)))
