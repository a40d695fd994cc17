"""Climbing: one change at a time, by what untrained networks show.

A method of this library's own. Of the given architecture the changes of one
edge that NAT++ allows (`methods.natpp`) are scored by NASWOT (Mellor et al.,
2021, `methods.zero_cost`) of the network that they make, with weights that are
drawn: no supernet is trained. The best of some is made if it is surely better,
and so on from there, until none is. Surely better: of those that a first draw
of weights and images puts first, the score less that of what stands now is
taken over further draws, the same ones for both networks, and 0 must lie below
the interval of 99 % of its mean (Student's t), so that what the first draw
found by chance does not come through. It must be so of codes of one length,
too: NASWOT rises with the number of units, and a separable convolution has
twice as many as the dense one whose place it takes.

What stood on the way are the candidates. They are tried and accepted on
held-out images like those of NAT (`pipeline.trials`, `pipeline.confirmation`),
since networks that are all good are hardly told apart by such a score.

As in NAT no change raises the cost of an edge or cuts a node off that had a
signal, and edges that lead nowhere are null. An architecture over a budget is
first brought within it, by the changes that lose least of the score for what
they save of the budget.
"""

from collections.abc import Iterator, Sequence
import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import drawing, errors
from natjax.costs import budget as budget_lib
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks as blocks_lib
from natjax.graph import codec, records
from natjax.methods import (
    acceptance,
    aims,
    bounds,
    candidates,
    choice,
    evolved,
    inference,
    listed,
    memory,
    nat,
    nat_config,
    natpp,
    zero_cost,
)
from natjax.methods import entry as entry_lib
from natjax.networks import network as network_lib
from natjax.training import method as base
from natjax.training import settings

_LOOKED = 3  # Of the changes that a first draw scores, which further draws see.
_LEAST = 2  # Draws, without which there is no interval.


@dataclasses.dataclass(frozen=True)
class ClimbConfig(acceptance.TrialsConfig, bounds.BoundsConfig):
  """Settings of the transformation. None is what the architecture usually has.

  Attributes:
    init_channels: C of the networks that are scored, of cells.
    cells: L of the networks that are scored, of cells.
    supernet_width: factor of their widths, of a network of blocks.
    batch_size: training images by whose codes a network is scored.
    draws: of weights and images, over which a change must surely be better.
    neighbours: changes of one edge that are scored before one is made; more
      where none of them is better.
    evaluations: networks that are scored at most, by a first draw; what brings
      an architecture within a budget counts, but is not ended by it.
    max_params: the most parameters that a candidate may have: a number, with
      K, M or G, or a multiple of the given architecture's such as "0.8x"; empty
      for no limit but the guard's.
    max_madds: likewise, multiply-adds.
    keep: what is never changed, a list of places by the words of the table of
      changes, as of nat.
  """

  init_channels: int | None = None
  cells: int | None = None
  supernet_width: float | None = None
  batch_size: int = 64
  draws: int = 4
  neighbours: int = 24
  evaluations: int = 400
  max_params: str = ""
  max_madds: str = ""
  keep: str = ""

  @property
  def dtype(self) -> str:
    """Of what is computed."""
    return "float32"


PRESETS = {
    "demo": ClimbConfig(init_channels=8, cells=4, evaluations=100),
    "small": ClimbConfig(init_channels=8, cells=5),
    "paper": ClimbConfig(init_channels=16, cells=8, batch_size=128,
                         evaluations=2000)}


def resolve(config: ClimbConfig, kind: str) -> ClimbConfig:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: the settings; None is filled in.
    kind: "cells" or "blocks", as an architecture has it.

  Raises:
    InputError: see `nat_config.resolve`; or a count below what it needs.
  """
  settings.plain(config)
  settings.at_least_one(config, "neighbours", "evaluations")
  for name in ("draws", "batch_size"):
    if getattr(config, name) < _LEAST:
      settings.refuse(config, name, f"must be at least {_LEAST}: scores are"
                      " compared")
  full = nat_config.resolve(_of_nat(config), kind)
  return dataclasses.replace(config, **{
      name: getattr(full, name) for name in (
          "init_channels", "cells", "supernet_width")})


def _of_nat(config):
  """NAT's settings; what is surely better is preferred."""
  names = {f.name for f in dataclasses.fields(nat_config.NATConfig)}
  return nat_config.NATConfig(prefer="sure", **{
      name: value for name, value in vars(config).items() if name in names})


class State(NamedTuple):
  """Nothing is trained."""

  step: jax.Array


class Climb(natpp.NATpp):
  """The method's parts; see `nat.NAT`, whose supernet and policy it leaves.

  Attributes:
    climbing: its settings.
  """

  learns = False
  resolve = staticmethod(resolve)
  fractions = staticmethod(lambda config: {"weights": 1.0})

  def __init__(self, config: ClimbConfig, *args: Any, **options: Any):
    """Args:
      config: the settings.
      *args: of `nat.NAT`.
      **options: of `nat.NAT`.

    Raises:
      InputError: see there, and `resolve`.
    """
    self.climbing = config = resolve(config, args[0].graph.kind)
    super().__init__(_of_nat(config), *args, **options)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phase = base.Phase("weights", ("weights",), lambda state, batch: (
        state, {"loss": jnp.zeros(())}), ("loss",))  # Whose images score.
    return base.Method(
        init=self.init, stages=(base.Stage("climb", 0, (phase,)),),
        derive=self.derive)

  def init(self, rng: jax.Array) -> Any:
    """Nothing is drawn before the climb."""
    del rng
    return State(jnp.zeros((), jnp.int32))

  def derive(self, state: Any, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """Transforms an architecture by scores on images of the split "weights".

    The report is that of NAT (`inference.derive`), whose scores are NASWOT's,
    in nats ("scored_by"), with "evaluated", the number of networks that a first
    draw scored. A change alone has a "naswot_drop".
    """
    del state
    assert given is not None  # As the entry says.
    aims.budget(self, given)
    rng_draws, rng_climb = jax.random.split(rng)
    scores = Scores(self, score, rng_draws)

    def find(aim, number):
      path = Path(self, given, aim, scores,
                  np.random.default_rng([number, *np.asarray(
                      jax.random.key_data(rng_climb)).tolist()]))
      beta = path.around.beta
      return {a: beta if a == given else alpha for a, alpha in path.found()}

    def answer(cells):
      return scores.draws([self.ground.decode(
          candidates.pruned(alpha, self), given) for alpha in cells])

    best, report = inference.settle(self, given, find, answer)
    del report["preferred"]  # There is one way to choose.
    for row in report["candidates"]:
      for change in row.get("explained", ()):
        change["naswot_drop"] = change.pop("score_drop")
    return base.Derived(best, None, {
        **report, "scored_by": "naswot", "evaluated": scores.evaluated})

  def scored(self, architecture: codec.Architecture) -> network_lib.Network:
    """The network of an architecture as it is scored."""
    place = self.ground.place
    return network_lib.Network(
        blocks_lib.supernet(
            codec.expand(architecture, place), self.ground.width),
        records.Frame(place.num_classes, place.image_size))

  def estimate(self, batch: int) -> dict[str, Any]:
    """Of the given network as it is scored."""
    assert self.given is not None
    network = self.scored(self.given)
    cost = exact.network(network.graph, network.frame)
    return {"params": cost.params, "madds": cost.madds,
            "memory_bytes": memory.network_bytes(
                network.graph, network.frame, batch, "float32")}


class Scores:
  """NASWOT's scores of architectures, by draw; each is computed once."""

  def __init__(self, method: Climb, walk: base.Walk, rng: jax.Array):
    """Args:
      method: whose networks these are.
      walk: of a split of images.
      rng: a key, of the weights.
    """
    self._method, config = method, method.climbing
    count = config.batch_size
    images = np.asarray(walk(_images, (), split="weights", each=True,
                             images=count * (config.draws + 1)), np.float32)
    # Of few images, the same again.
    rows = np.arange(count * (config.draws + 1)) % len(images)
    self._images = images[rows].reshape(
        config.draws + 1, count, *images.shape[1:])
    self._keys = jax.random.split(rng, config.draws + 1)
    self._told = getattr(walk, "told", lambda *args, **metrics: None)
    self._kept: dict[tuple[codec.Architecture, int], Both] = {}

  @property
  def evaluated(self) -> int:
    """How many architectures the first draw has scored."""
    return sum(draw == 0 for _, draw in self._kept)

  def tell(self, naswot: float, row: bool = False) -> None:
    """Tells how many networks were scored, the last so.

    Raises:
      Interrupted: the climb was asked to stop.
    """
    self._told("climb", max(self.evaluated, 1),
               self._method.climbing.evaluations, row, naswot=naswot)

  def one(self, architecture: codec.Architecture, draw: int = 0) -> float:
    """NASWOT by one draw."""
    return self.both(architecture, draw).naswot

  def both(self, architecture: codec.Architecture, draw: int) -> "Both":
    """Both scores by one draw."""
    key = architecture, draw
    if key not in self._kept:
      network = self._method.scored(architecture)
      found, units = zero_cost.naswot_and_units(
          network, network_lib.init(network, self._keys[draw]),
          jnp.asarray(self._images[draw]))
      found = max(found, 0.0)
      self.tell(found)
      self._kept[key] = Both(
          found, found - self._images.shape[1] * float(np.log(units)))
    return self._kept[key]

  def draws(self, architectures: Sequence[codec.Architecture]) -> choice.Draws:
    """NASWOT by all draws but the first, of several architectures."""
    return self.each(architectures).naswot

  def each(self, architectures: Sequence[codec.Architecture]) -> Any:
    """`Both` of such draws."""
    rows = [[self.both(a, draw) for a in architectures]
            for draw in range(1, len(self._images))]
    return Both(*(choice.Draws(np.array([[getattr(one, name) for one in row]
                                         for row in rows]))
                  for name in Both._fields))


class Both(NamedTuple):
  """What a draw says of a network.

  Attributes:
    naswot: log |K|, 0 where codes of images do not differ.
    alike: of codes of one length, log |K / N_A|.
  """

  naswot: Any
  alike: Any


def _images(argument, batch):
  """The images of a batch, as networks see them: f32[B, H, W, 3]."""
  del argument
  return batch["image"]


class Path:
  """A climb from an architecture, within a budget.

  Attributes:
    around: what the architecture may become within the budget.
  """

  def __init__(self, method: Climb, given: codec.Architecture, aim: aims.Aim,
               scores: Scores, rng: np.random.Generator):
    """Args:
      method: in whose space it is.
      given: where it begins.
      aim: the budget.
      scores: of all architectures.
      rng: in what order changes are looked at.
    """
    self._config, self._aim, self._scores = method.climbing, aim, scores
    self._rng = rng
    self._reach = _reach(method.climbing.draws)
    self.around = evolved.Around(method, given, aim.limits, aim.times)
    self._free = self.around if aim.allows(given) else evolved.Around(
        method, given, budget_lib.Budget())

  def found(self) -> Iterator[tuple[codec.Architecture, arrays_lib.CellArrays]]:
    """What stood on the way within the budget, in order, with its arrays.

    Raises:
      errors.NotMet: no change brings it within the budget.
    """
    around = self.around
    now = np.array(around.start, np.int32)
    if self._free is around:
      yield around.given, around.beta
    else:
      now = self._within(now)
      yield self._shown(now)
    legal = jax.jit(around.legal)
    while (better := self._better(now, legal)) is not None:
      now = better
      self._scores.tell(self._scores.one(around.architecture(now)), row=True)
      yield self._shown(now)

  def _shown(self, genes):
    around = self.around
    return around.architecture(genes), jax.tree.map(
        lambda x: x[0], around.arrays(genes[None]))

  def _better(self, now, legal):
    """What is surely better by one change, None where nothing is."""
    before = self.around.architecture(now)
    own = self._scores.one(before)
    rows = _legal(_changes(now, self.around.counts), legal)
    if self._aim.limits.memory is not None:  # Of which `legal` knows nothing.
      rows = rows[np.array([self._aim.allows(self.around.architecture(row))
                            for row in rows], bool)]
    for some in self._some(rows):
      every = {self.around.architecture(row): row for row in some}
      first = sorted(every, key=lambda a: -self._scores.one(a))[:_LOOKED]
      first = [a for a in first if self._scores.one(a) > own]
      draws = self._scores.each([before, *first])
      gained = {a: draws.naswot.pairs(i, 0).difference
                for i, a in enumerate(first, 1) if all(
                    pair.difference > self._reach * pair.standard_error
                    for pair in (scores.pairs(i, 0) for scores in draws))}
      if gained:
        return every[max(gained, key=lambda a: gained[a])]
    return None

  def _some(self, rows):
    """Rows in an order that is drawn, so many at a time as are scored."""
    rows, size = self._rng.permutation(rows), self._config.neighbours
    for start in range(0, len(rows), size):
      left = self._config.evaluations - self._scores.evaluated
      if left <= 0:
        return
      yield rows[start:start + min(size, left)]

  def _within(self, now):
    """Genes within the budget, by what loses least for what it saves."""
    free, aim = self._free, self._aim
    legal = jax.jit(free.legal)
    while (excess := aim.excess(free.architecture(now))) > 1:
      saved = {}
      for row in _legal(_changes(now, free.counts), legal):
        less = excess - aim.excess(free.architecture(row))
        if less > 0:
          saved[row.tobytes()] = min(less, excess - 1)
      if not saved:
        raise errors.NotMet(
            "no transformation that was found keeps to the budget"
            f" ({aim.bounds.limits.text()}); allow more"
            f"{aims.limited(aim.bounds.limits)}")
      rows = self._rng.permutation(np.stack(
          [np.frombuffer(key, np.int32) for key in saved]))
      before = self._scores.one(free.architecture(now))

      def price(row, before=before, saved=saved):
        lost = before - self._scores.one(free.architecture(row))
        by = saved[row.tobytes()]
        return lost / by if lost > 0 else lost * by

      now = min(rows[:self._config.neighbours], key=price)
    return now


def _reach(draws):
  """Standard errors in half an interval of 99 % of a mean of so many."""
  from scipy import stats  # Takes half a second, and few commands need it.

  return float(stats.t.ppf(0.995, draws - 1))


def _changes(genes, counts):
  """All genes that differ from i32[P] in one: i32[R, P]."""
  rows = [(place, other) for place, count in enumerate(counts)
          for other in range(count) if other != genes[place]]
  every = np.repeat(np.asarray(genes, np.int32)[None], len(rows), 0)
  for row, (place, other) in zip(every, rows, strict=True):
    row[place] = other
  return every


def _legal(rows, legal):
  return rows[np.asarray(legal(jnp.asarray(rows)))] if len(rows) else rows


def preset(name: str, objective: str, kind: str) -> ClimbConfig:
  """The settings of a preset for a kind of architecture."""
  del objective
  config = PRESETS[name]
  if kind == "blocks":
    config = dataclasses.replace(config, init_channels=None, cells=None)
  return resolve(config, kind)


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to climb; see `entry`."""
  plan = nat.build(Climb, request._replace(inherits=False))
  if request.inherits:  # Weights that are given are the original's alone.
    plan = plan._replace(begin=lambda variables, rng: plan.method.init(rng))
  return plan


ENTRY = entry_lib.Entry(
    ClimbConfig, build, preset, listed.LINES["climb"], spaces=True, unions=True,
    model="untrained networks",
    kept="The original was kept: no change was surely better for untrained"
    " networks, or, where images are held out, these did not bear it out.",
    charts={"pareto.svg": drawing.save_pareto})
