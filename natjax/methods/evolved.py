"""Evolution over what a given architecture may become: a baseline of NAT.

A supernet is trained on architectures around the given one, as NAT's is before
there is a policy (`methods.nat`). Then evolution (`methods.evolution`) searches
what NAT++'s valid transitions make of the given architecture, by the supernet's
accuracy on the images that its weights have not seen. What it finds is chosen
from, tried and accepted as what NAT's policy draws (`methods.inference`,
`pipeline.trials`): of the best candidates and the given architecture, the
cheapest within one standard error of the best score.

As in NAT no candidate raises the cost of an edge or cuts a node off that had a
signal, and edges that lead nowhere are null. The first generation is drawn
around the given architecture, which is in it, unless it is over a budget; the
budget is a constraint of the evolution, and candidates are then those of all
that were scored that are near it, as NAT's are, unless scores alone decide.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import drawing, errors
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, records
from natjax.methods import (
    acceptance,
    aims,
    bounds,
    candidates,
    evolution,
    inference,
    listed,
    nat,
    nat_config,
    natpp,
)
from natjax.methods import entry as entry_lib
from natjax.spaces import places
from natjax.training import method as base
from natjax.training import settings


@dataclasses.dataclass(frozen=True)
class EvolvedConfig(evolution.EvolutionConfig, acceptance.TrialsConfig,
                    bounds.BoundsConfig):
  """Settings of the transformation. None is what the architecture usually has.

  Attributes:
    init_channels: C of the supernet, of cells.
    cells: L of the supernet, of cells.
    supernet_width: factor of the supernet's widths, of a network of blocks.
    epochs: of the supernet.
    batch_size: over all devices; also of the images that score.
    learning_rate: of the supernet's SGD.
    final_learning_rate: where a cosine schedule ends.
    momentum: of SGD.
    weight_decay: of SGD.
    max_grad_norm: clips the supernet's gradient; 0 does not.
    focus: where the supernet's architectures are drawn (`spaces.inputs`):
      around the "given" one or ones, or from the whole space ("general").
    inputs: m, architectures sampled per step and device.
    candidates: k, the best of the evolution, compared image by image.
    prefer: the "cost" or the "accuracy": the cheapest of those whose score is
      within one standard error of the best, or the best score by any amount;
      or what is "sure": the best score if 0 lies below the interval of 95 % of
      its difference to the given architecture's, else that one is kept, unless
      trials take something cheaper, as of nat (of what keeps to a budget that
      it exceeds, the best score); "auto" is sure. Under a budget that the given
      one exceeds, of those near it, unless it is accuracy.
    max_params: the most parameters that a candidate may have: a number, with
      K, M or G, or a multiple of the given architecture's such as "0.8x"; empty
      for no limit but the guard's.
    max_madds: likewise, multiply-adds.
    keep: what is never changed, a list of places by the words of the table of
      changes, as of nat.
    weights_fraction: of the training images for the supernet's weights; the
      others score.
    dtype: "float32" or "bfloat16", of the supernet's computation.
  """

  init_channels: int | None = None
  cells: int | None = None
  supernet_width: float | None = None
  epochs: int = 100
  batch_size: int = 64
  learning_rate: float = 0.025
  final_learning_rate: float = 0.001
  momentum: float = 0.9
  weight_decay: float = 3e-4
  max_grad_norm: float = 5.0
  focus: str = "given"
  inputs: int = 1
  candidates: int = 10
  prefer: str = "cost"
  max_params: str = ""
  max_madds: str = ""
  weights_fraction: float = 0.8
  dtype: str = "float32"
  keep: str = ""


_NANO = 1e9  # Of a second: times are added in whole numbers.
_FEW: dict[str, Any] = {"population": 20, "generations": 5, "parents": 5,
                        "mutations": 10, "crossovers": 5}
# As NAT's of these names; as many images are scored as there.
PRESETS = {
    "demo": EvolvedConfig(
        **_FEW, init_channels=8, cells=4, epochs=50, learning_rate=0.05,
        final_learning_rate=0.005, max_grad_norm=1.0, weights_fraction=0.5),
    "small": EvolvedConfig(
        **_FEW | {"generations": 10}, init_channels=16, cells=8, epochs=30),
    "paper": EvolvedConfig(init_channels=20, cells=8, epochs=200,
                           focus="general", prefer="accuracy")}


def resolve(config: EvolvedConfig, kind: str) -> EvolvedConfig:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: the settings; None is filled in.
    kind: "cells" or "blocks", as an architecture has it.

  Raises:
    InputError: see `nat_config.resolve` and `evolution.check`.
  """
  settings.plain(config)
  evolution.check(config)
  full = nat_config.resolve(_of_nat(config), kind)
  return dataclasses.replace(config, **{
      name: getattr(full, name) for name in (
          "init_channels", "cells", "supernet_width")})


def _of_nat(config):
  """NAT's settings, of which those of the policy are left alone."""
  names = {f.name for f in dataclasses.fields(nat_config.NATConfig)}
  return nat_config.NATConfig(**{
      name: value for name, value in vars(config).items() if name in names})


class Evolved(natpp.NATpp):
  """The method's parts; see `nat.NAT`, whose policy it leaves out.

  Attributes:
    evolution: settings of the evolution.
  """

  learns = False
  resolve = staticmethod(resolve)

  def __init__(self, config: EvolvedConfig, *args: Any, **options: Any):
    """Args:
      config: the settings.
      *args: of `nat.NAT`.
      **options: of `nat.NAT`.

    Raises:
      InputError: see there, and `resolve`.
    """
    super().__init__(_of_nat(config), *args, **options)
    evolution.check(config)
    self.evolution = config

  def check_budget(self, given: codec.Architecture) -> None:
    """As of NAT, and draws a first generation before anything is trained.

    Raises:
      InputError: see `aims.budget`.
      errors.NotMet: see there; or nothing that was drawn keeps to the budget,
        as far as it is counted, and is connected.
    """
    limits = aims.budget(self, given)._replace(seconds=None)
    if limits.allows(*aims.bounds_of(self, given).spent(given)):
      return  # It is itself in the first generation.
    around = Around(self, given, limits)
    if around.counts and not self._search(around).draws():
      raise _none_drawn(limits)

  def _search(self, around):
    return evolution.Evolution(
        around.counts, self.evolution, legal=around.legal, around=around.start)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    stage = base.Stage("supernet", self.config.epochs, (base.Phase(
        "weights", ("weights",), self.update_weights, ("loss", "accuracy"),
        passes=3 * self.config.inputs),))
    return base.Method(init=self.init, stages=(stage,), derive=self.derive,
                       explain=self.explain, divided=self._divided)

  def init_policy(self, rng: jax.Array) -> Any:
    """Nothing: there is no policy."""
    del rng
    return {}

  def derive(self, state: nat.NATState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """Transforms an architecture by its scores on the split "policy".

    The report is that of NAT (`inference.derive`), with "evaluated", the number
    of different candidates that were scored.
    """
    assert given is not None  # As the entry says.
    aims.budget(self, given)
    evaluated = []

    def find(aim, number):
      around = Around(self, given, aim.limits, aim.times)
      found = {given: around.beta} if aim.allows(given) else {}
      if around.counts:
        evaluated.append(self._evolve(
            found, around, aim, state, score, (
                jax.random.fold_in(rng, number) if number else rng)))
      return found

    best, report = inference.settle(
        self, given, find, self.answer(state, score))
    return base.Derived(best, None, {**report, "evaluated": sum(evaluated)})

  def _evolve(self, found, around, aim, state, score, rng):
    """Adds the best candidates to `found`; how many were scored."""
    most = self.evolution.population

    def fitness(genes):
      fits = np.ones(len(genes), bool)
      if aim.limits.memory is not None:  # Which does not add up over edges.
        fits = np.array([aim.allows(around.architecture(row)) for row in genes])
      rights = np.full(len(genes), -np.inf)
      if fits.any():
        some = genes[fits]
        cells = around.arrays(np.concatenate(
            [some, np.repeat(some[:1], most - len(some), 0)]))
        rights[fits] = score(self.right, (
            self.whole(state), cells, np.int32(len(some))), split="policy"
        )[:len(some)]
      return rights

    try:
      every = self._search(around).search(
          rng, fitness, np.array([around.start]) if found else None)
    except errors.NotMet as e:
      raise _none_drawn(aim.bounds.limits) from e
    scored: Any = np.isfinite(every.scores)
    if not scored.any():
      raise errors.NotMet(
          f"none of {len(scored)} candidates keeps to the budget"
          f" ({aim.bounds.limits.text()}); allow more, or a larger population")
    if aims.closely(self, aim):
      # As of NAT's: what was asked for is not the cheapest of all.
      excess = np.array([aim.excess(around.architecture(row)) if s else 0.0
                         for row, s in zip(every.genes, scored, strict=True)])
      near = scored & (excess >= excess.max() - candidates.NEAR)
    else:
      near = scored
    for row in every.best(len(near)):
      if near[row]:
        alpha = jax.tree.map(lambda x: x[0], around.arrays(every.genes[[row]]))
        found.setdefault(self.ground.decode(alpha, around.given), alpha)
      if len(found) == self.config.candidates + 1:
        break
    return int(scored.sum())


def _none_drawn(limits):
  return errors.NotMet(
      "no transformation that was drawn keeps to the budget"
      f" ({limits.text()}); allow more{aims.limited(limits)}")


class Around:
  """What an architecture may become, as choices at places.

  Attributes:
    given: the architecture.
    beta: its `CellArrays` [G, N, K].
    counts: of every edge that may become something else, how many operations
      may stand there.
    start: genes of the given architecture, but for edges that lead nowhere,
      which are null.
    legal: which genes keep to the budget, cut nothing off and leave no edge
      that leads nowhere.
  """

  def __init__(self, method: nat.NAT, given: codec.Architecture,
               limits: budget_lib.Budget, times: np.ndarray | None = None):
    """Args:
      method: in whose space it is changed.
      given: the architecture.
      limits: the budget, but for memory, which does not add up.
      times: f64[G, N, K, O], seconds of operations, where latency is limited.
    """
    ground, self.given = method.ground, given
    self._ground = ground
    self.beta = beta = ground.encode(given)
    table, rows = method.table, np.asarray(ground.rows(beta))
    start = candidates.pruned(beta, method)
    self._at: list[tuple[int, ...]] = []
    may, self.start = [], []
    for at in np.ndindex(*ground.shape):
      before = beta.operation[at]
      after = np.unique(np.append(
          table.outcome[before][table.valid[rows[at], before]], before))
      if len(after) > 1:
        self._at.append(at)
        may.append(after)
        self.start.append(int(np.flatnonzero(after == start.operation[at])[0]))
    self.counts = tuple(map(len, may))
    self._may = np.zeros((len(may), max(self.counts, default=1)), np.int32)
    for row, after in zip(self._may, may, strict=True):
      row[:len(after)] = after
    self._null = table.null
    self._before = start
    carried, _ = self._carry(jnp.asarray(beta.operation)[None])
    self._wanted = np.asarray(carried[0]) & np.asarray(beta.concat)
    # Of each choice, beyond what stands there now.
    kinds = [*ground.edge_costs(given)]
    bare = [*ground.cost(given)[:2]]
    most: list[float | None] = [limits.params, limits.madds]
    if times is not None and limits.seconds is not None:
      kinds.append(np.ceil(_NANO * times))
      bare.append(int(aims.stands(kinds[-1], self.beta).sum()))
      most.append(_NANO * limits.seconds)
    each = np.stack(kinds)
    edges: Any = tuple(np.array(self._at).T)
    own = np.stack([aims.stands(kind, beta) for kind in kinds])
    costs = np.take_along_axis(
        each[:, *edges], self._may[None], -1) if may else np.zeros(
            (len(kinds), 0, 1))
    for p, count in enumerate(self.counts):
      costs[:, p, count:] = 0
    left = np.array(bare) - (own[:, *edges].sum(-1) if may else 0)
    width = self._may.shape[1]
    self._keeps = places.within(
        lambda genes: jnp.arange(len(self.counts)) * width + genes,
        costs.reshape(len(kinds), -1), left, most)

  def _operations(self, genes):
    """i32[B, G, N, K] of genes i32[B, P]."""
    operation = jnp.broadcast_to(jnp.asarray(self._before.operation), (
        len(genes), *self._before.operation.shape))
    chosen = jnp.asarray(self._may)[np.arange(len(self.counts)), genes]
    return operation.at[(slice(None), *np.array(self._at).T)].set(chosen)

  def _carry(self, operation):
    """Which nodes have a signal, and which lead to an output.

    Args:
      operation: i32[B, G, N, K].

    Returns:
      bool[B, G, N], twice.
    """
    first, nodes = records.NUM_INPUTS, operation.shape[2]
    source = np.asarray(self.beta.source)
    # Of every slot, one-hot, the node that feeds it: bool[G, N, K, N].
    feeds = source[..., None] == np.arange(nodes) + first
    on = operation != self._null
    live = jnp.zeros(operation.shape[:3], bool)
    leads = jnp.broadcast_to(jnp.asarray(self.beta.concat), live.shape)
    for n in range(nodes):
      has = (source[:, n] < first) | jnp.any(
          feeds[:, n] & live[:, :, None], axis=-1)
      live = live.at[:, :, n].set(jnp.any(on[:, :, n] & has, axis=-1))
    for n in reversed(range(nodes)):
      through = on[:, :, n] & leads[:, :, n, None]
      leads |= jnp.any(feeds[:, n] & through[..., None], axis=2)
    return live, leads

  def legal(self, genes: jax.Array) -> jax.Array:
    """bool[B] of genes i32[B, P]; traced."""
    operation = self._operations(genes)
    live, leads = self._carry(operation)
    good = jnp.all(live >= self._wanted, axis=(1, 2)) & self._keeps(genes)
    at: Any = np.array(self._at).T
    dead = ~leads[:, at[0], at[1]] & (
        operation[:, at[0], at[1], at[2]] != self._null)
    return good & ~jnp.any(dead, axis=-1)

  def architecture(self, genes: np.ndarray) -> codec.Architecture:
    """The architecture of genes i32[P]."""
    return self._ground.decode(jax.tree.map(
        lambda x: x[0], self.arrays(genes[None])), self.given)

  def arrays(self, genes: np.ndarray) -> arrays_lib.CellArrays:
    """`CellArrays` [R, G, N, K] of genes i32[R, P], on the host."""
    stack: Any = lambda x: np.repeat(np.asarray(x)[None], len(genes), 0)
    operation: Any = np.asarray(self._operations(genes))
    return arrays_lib.CellArrays(
        source=stack(self.beta.source), operation=operation,
        concat=stack(self.beta.concat))


def preset(name: str, objective: str, kind: str) -> EvolvedConfig:
  """The settings of a preset for a kind of architecture."""
  del objective
  config = PRESETS[name]
  if kind == "blocks":
    config = dataclasses.replace(config, init_channels=None, cells=None)
  return resolve(config, kind)


ENTRY = entry_lib.Entry(
    EvolvedConfig, lambda request: nat.build(Evolved, request), preset,
    listed.LINES["evolution"], spaces=True, unions=True,
    kept="The original was kept: no transformation was found to be better, or"
    " as good and cheaper.",
    charts={"pareto.svg": drawing.save_pareto})
