"""Random search: the baseline of every search.

Li & Talwalkar, 2019, "Random Search and Reproducibility for Neural Architecture
Search": architectures are drawn from the space, each is trained for a few
epochs on one part of the images, and the most accurate on the other part is
what was found. Every node keeps K edges from different earlier nodes, all
equally likely, with an operation that is equally likely too; where a space
takes its graph's edges as they are, an operation is drawn for each.

Over a budget that none of a thousand draws keeps to, architectures are drawn
around the cheapest one instead.

All candidates are trained by one compiled program, from the same initial
weights, as networks of their own (running BN, without drop path and auxiliary
head). A single candidate is not trained.

Instead of all being drawn, they may be bred by evolution (`evolution`), over
the space's places (`spaces.places`); and instead of being trained, scored as
they are drawn, by NASWOT or SynFlow (`zero_cost`). A generation is bred on the
device when its first candidate begins, so that a run that was stopped goes on
within it; a search by zero-cost scores, which trains nothing, is begun again.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import errors, operations, spaces
from natjax.costs import budget as budget_lib
from natjax.costs import exact
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks as blocks_lib
from natjax.graph import codec, records
from natjax.methods import entry as entry_lib
from natjax.methods import (
    evolution,
    halves,
    listed,
    memory,
    zero_cost,
)
from natjax.networks import network as network_lib
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.spaces import connections
from natjax.spaces import places as places_lib
from natjax.training import method as base
from natjax.training import optimizers, settings

SCORES = ("trained", "naswot", "synflow")
SEARCHES = ("random", "evolution")
_TRIES = 1000  # Draws per candidate until one keeps to the budget.
_GENERATIONS = 4  # Of an evolution, where it is not said.


@dataclasses.dataclass(frozen=True)
class RandomConfig:
  """Settings of a random search. None is what the space usually has.

  Attributes:
    candidates: how many architectures are scored; of an evolution the most,
      where its population or its generations are not given.
    init_channels: C of the candidates' networks, of cells.
    cells: L of the candidates' networks, of cells.
    supernet_width: factor of the candidates' widths, of a network of blocks.
    chain_layers: the most layers of a stage of equal size and width, of a
      chain; None is all.
    chain_width: factor of the widths of a chain, of what is found too.
    epochs: that every candidate is trained for.
    batch_size: over all devices.
    learning_rate: of SGD.
    final_learning_rate: where its cosine schedule ends.
    momentum: of SGD.
    weight_decay: of SGD.
    max_grad_norm: clips the gradient; 0 does not.
    weights_fraction: of the training images for the weights; the others judge.
    max_params: the most parameters of the network that is trained in the end: a
      number, with K, M or G; empty for no limit.
    max_madds: likewise, multiply-adds.
    dtype: "float32" or "bfloat16", of the computation.
    score: of a candidate: "trained" for its epochs, the accuracy; or "naswot"
      or "synflow", of its initial weights, NASWOT by a batch of training
      images.
    search: how candidates are found: "random", all are drawn, or by
      "evolution".
    population: candidates of a generation; None is a quarter of all.
    generations: how many, the first of which is drawn at random.
    parents: the best candidates so far, which have children; None is a quarter
      of the population.
    mutations: of a generation; None is a half of it.
    crossovers: of a generation; what neither fills is drawn at random; None is
      a quarter of it.
    mutation_probability: with which a gene of a mutation is drawn anew.
  """

  candidates: int = 8
  init_channels: int | None = None
  cells: int | None = None
  supernet_width: float | None = None
  epochs: int = 10
  batch_size: int = 64
  learning_rate: float = 0.025
  final_learning_rate: float = 0.001
  momentum: float = 0.9
  weight_decay: float = 3e-4
  max_grad_norm: float = 5.0
  weights_fraction: float = 0.5
  max_params: str = ""
  max_madds: str = ""
  dtype: str = "float32"
  chain_layers: int | None = settings.later(None)
  chain_width: float | None = settings.later(None)
  score: str = settings.later("trained")
  search: str = settings.later("random")
  population: int | None = settings.later(None)
  generations: int | None = settings.later(None)
  parents: int | None = settings.later(None)
  mutations: int | None = settings.later(None)
  crossovers: int | None = settings.later(None)
  mutation_probability: float = settings.later(0.1)


PRESETS = {
    "demo": RandomConfig(init_channels=8, cells=4, epochs=5,
                         learning_rate=0.05),
    "small": RandomConfig(),
    # Liu et al., 2019, DARTS: the best of 24 after 100 epochs.
    "paper": RandomConfig(candidates=24, epochs=100)}


class RandomState(NamedTuple):
  """Everything a resumed run needs.

  Attributes:
    step: i32[], updates so far, of all candidates.
    drawn: `CellArrays` [D, G, N, K].
    initial: the variables that every candidate starts from.
    params: of the present candidate.
    batch_stats: its running statistics.
    opt_state: of params.
    accuracy: f32[D], on the images that judge; 0 before.
    rng: a key, split anew at every update.
    bred: of an evolution, a `Bred`.
  """

  step: jax.Array
  drawn: arrays_lib.CellArrays
  initial: Any
  params: Any
  batch_stats: Any
  opt_state: Any
  accuracy: jax.Array
  rng: jax.Array
  bred: Any = ()


class Bred(NamedTuple):
  """What an evolution of trained candidates hands on.

  Attributes:
    state: of the evolution, in which the present generation is not scored;
      scores of parents that are not there are -1, lest a step that was not
      finite be seen in them.
    now: the present generation.
    fresh: bool[D], which of all candidates are some; others are the best so far
      again, where no new one was found.
  """

  state: evolution.State
  now: evolution.Generation
  fresh: jax.Array


class RandomSearch:
  """The method's parts; `method` makes the record.

  Attributes:
    connections: what may be chosen.
    supernet: the weights of a candidate, wherever they stand.
    places: of the space, by which candidates are bred.
    evolution: of candidates, or None.
  """

  def __init__(self, config: Any, space: spaces.Space, *,
               num_classes: int, image_size: int, target: Any,
               steps: dict[str, int]):
    """Args:
      config: the settings, resolved.
      space: the search space.
      num_classes: of the data.
      image_size: side of the images.
      target: the place where what is found is trained.
      steps: batches of both splits.

    Raises:
      InputError: no draw keeps to the budget, or, of an evolution, a budget in
        a space whose costs do not add up.
    """
    self.config, self.space, self.steps = config, space, steps
    place = codec.place(
        space.graph.kind, "cifar", config.init_channels, config.cells,
        num_classes=num_classes, image_size=image_size)
    self.place = place
    self.connections = connections.Connections(space, place, target, null=False)
    self.limits = budget_lib.read(config.max_params, config.max_madds, None)
    if space.inputs is not None:
      space = space._replace(weights="slot", choices=None)
    self.supernet = supernet_lib.Supernet(
        space, place, jnp.dtype(config.dtype), config.supernet_width,
        norm="running", axis_name=None)
    self.per_candidate = config.epochs * steps["weights"]
    self.optimizer = optimizers.scheduled(config, self.per_candidate)
    self.places = places_lib.Places(self.connections)
    self._rare = self._uniform(np.random.default_rng(0)) is None
    try:
      like = self.draw(np.random.default_rng(0))
    except errors.NotMet as e:
      raise errors.InputError(str(e)) from e
    self.trains = config.score == "trained"
    self.evolution: evolution.Evolution | None = None
    if config.search == "evolution":
      self._like = self._encode(like)
      self.evolution = evolution.among(self.places, config, self.limits)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    train = base.Phase("train", ("weights",), self.update, ("loss", "accuracy"))
    judge = base.Phase("judge", ("architecture",), self.judge, ("accuracy",),
                       augment=False, observe=self.observe, passes=1)
    stages = [base.Stage("candidate 0", 0, (train,))]
    if self.trains and self.config.candidates > 1:
      stages = [stage for c in range(self.config.candidates) for stage in (
          base.Stage(f"candidate {c}", self.config.epochs, (train,)),
          base.Stage(f"candidate {c}", 1, (judge,)))]
    return base.Method(self.init, tuple(stages), derive=self.derive,
                       explain=lambda state: codec.to_line(
                           self.architecture(state, int(self._now(state)))))

  def draw(self, rng: np.random.Generator) -> codec.Architecture:
    """Draws an architecture within the budget (errors.NotMet)."""
    kept = None if self._rare else self._uniform(rng)
    if kept is not None:
      return self.connections.architecture(kept)
    if not self.connections.adds_up:
      raise errors.NotMet(
          f"none of {_TRIES} architectures drawn from search space"
          f" '{self.space.name}' keeps to the budget ({self.limits.text()});"
          " allow more")
    return self._draw_near(rng)

  def _uniform(self, rng):
    """What is kept, all equally likely; None if no draw keeps to the budget."""
    for _ in range(_TRIES):
      kept = [self._draw(rng, group) for group in self.connections.groups]
      if not self.limits or self.limits.allows(self.connections.cost(kept)):
        return kept
    return None

  def _draw_near(self, rng):
    """One around the cheapest: each choice is another one with a probability.

    That probability is itself uniform in [0, 1], as of an evolution's.
    """
    size = (_TRIES, len(self.places.counts))
    genes = np.where(
        rng.random(size) < rng.random((_TRIES, 1)),
        rng.integers(0, self.places.counts, size),
        self.places.cheapest(self.limits)).astype(np.int32)
    good = np.asarray(self.places.legal(self.limits)(jnp.asarray(genes)))
    if not good.any():
      raise errors.NotMet(evolution.refusal(self.places, self.limits))
    return self.places.architecture(genes[good.argmax()])

  def _draw(self, rng, group):
    may = self.connections.kept(group)
    kept = np.zeros_like(may)
    for into, parents in zip(group.nodes, group.parents, strict=True):
      edges = [e for e in into if may[e].any()]
      if parents is not None:
        edges = rng.permutation(edges)[:parents].tolist()
      for e in edges:
        kept[e, rng.choice(np.flatnonzero(may[e]))] = True
    return kept

  def init(self, rng: jax.Array) -> RandomState:
    """Draws the candidates and the weights that they start from."""
    rng_drawn, rng_w, rng_state = jax.random.split(rng, 3)
    generator = np.random.default_rng(
        np.asarray(jax.random.key_data(rng_drawn)).tolist())
    drawn = [self._encode(self.draw(generator)) for _ in range(
        1 if self.evolution else self.config.candidates)]
    variables: dict[str, Any] = {"params": {}, "batch_stats": {}}
    if self.trains:
      variables = self.supernet.init(rng_w)
    copy = lambda tree: jax.tree.map(jnp.array, tree)  # All are donated.
    state = RandomState(
        step=jnp.zeros((), jnp.int32),
        drawn=jax.tree.map(lambda *x: jnp.stack(x), *drawn),
        initial=copy(variables), params=variables["params"],
        batch_stats=variables["batch_stats"],
        opt_state=self.optimizer.init(variables["params"]),
        accuracy=jnp.zeros(self.config.candidates), rng=rng_state)
    if self.evolution is None or not self.trains:
      return state
    bred, now = jax.jit(self.evolution.ask)(
        self.evolution.init(jax.random.fold_in(rng_drawn, 1)))
    drawn, bred = jax.jit(self._put)(jax.tree.map(
        lambda a: jnp.broadcast_to(a, (self.config.candidates, *a.shape[1:])),
        state.drawn), Bred(
            _stored(bred), now, jnp.zeros(self.config.candidates, bool)), 0)
    return state._replace(drawn=drawn, bred=bred)

  def _put(self, drawn, bred, number):
    """All candidates with a generation, whose first one has a number."""
    fresh, genes = bred.now.fresh, bred.now.genes
    # In place of what was not found is one that is there.
    genes = jnp.where(fresh[:, None], genes, jnp.where(
        fresh.any(), genes[jnp.argmax(fresh)], bred.state.parents[0]))
    put = lambda every, some: jax.lax.dynamic_update_slice_in_dim(
        every, some.astype(every.dtype), number, 0)
    return (jax.tree.map(put, drawn, self.places.arrays(genes, self._like)),
            bred._replace(fresh=put(bred.fresh, fresh)))

  def _breed(self, state):
    """The state with the next generation, as the first of it begins."""
    if self.evolution is None:
      return state
    count, search = self.config.population, self.evolution

    def breed(drawn, bred):
      number = state.step // self.per_candidate
      scores = bred.state.scores
      told = search.tell(
          bred.state._replace(scores=jnp.where(scores < 0, -jnp.inf, scores)),
          bred.now, jax.lax.dynamic_slice_in_dim(
              state.accuracy, number - count, count))
      told, now = search.ask(told)
      return self._put(drawn, bred._replace(state=_stored(told), now=now),
                       number)

    begins = (state.step > 0) & (
        state.step % (self.per_candidate * count) == 0)
    drawn, bred = jax.lax.cond(
        begins, breed, lambda *same: same, state.drawn, state.bred)
    return state._replace(drawn=drawn, bred=bred)

  def _encode(self, architecture):
    cells = []
    for d in codec.decide(architecture, self.place, self.space.share):
      if self.space.inputs is None:  # What is fixed is no candidate.
        d = d._replace(cell=d.cell._replace(edges=tuple(
            edge._replace(operation=operations.NULL) if fixed else edge
            for edge, fixed in zip(d.cell.edges, d.fixed, strict=True))))
      cells.append(d.cell)
    return arrays_lib.encode(
        cells, self.space.candidates, num_nodes=self.space.num_nodes,
        inputs=self.space.inputs or 1)

  def _now(self, state):
    """The number of the candidate that was trained last."""
    return jnp.maximum(state.step - 1, 0) // max(self.per_candidate, 1)

  def _run(self, state, number, images, **how):
    cells = jax.tree.map(lambda a: a[number], state.drawn)
    return self.supernet.run(
        {"params": state.params, "batch_stats": state.batch_stats},
        self.supernet.selected(cells), images, **how)

  def update(self, state: RandomState,
             batch: base.Batch) -> tuple[RandomState, dict[str, jax.Array]]:
    """A step of SGD; the first of a candidate starts anew."""
    state = self._breed(state)
    rng, rng_step = jax.random.split(state.rng)
    begins = state.step % self.per_candidate == 0
    anew = lambda fresh, old: jax.tree.map(
        lambda a, b: jnp.where(begins, a, b), fresh, old)
    state = state._replace(
        step=state.step + 1, rng=rng,
        params=anew(state.initial["params"], state.params),
        batch_stats=anew(state.initial["batch_stats"], state.batch_stats),
        opt_state=anew(self.optimizer.init(state.params), state.opt_state))

    def loss(params):
      logits, stats = self._run(
          state._replace(params=params), self._now(state), batch["image"],
          rng=base.device_key(rng_step))
      loss = optax.softmax_cross_entropy_with_integer_labels(
          logits, batch["label"])
      right = objectives.right(logits, batch["label"])
      return jnp.mean(loss), (stats, jnp.mean(right))

    (loss, (stats, accuracy)), grads = base.mean_over_devices(
        jax.value_and_grad(loss, has_aux=True)(state.params))
    updates, opt_state = self.optimizer.update(
        grads, state.opt_state, state.params)
    return state._replace(
        params=optax.apply_updates(state.params, updates), batch_stats=stats,
        opt_state=opt_state), {"loss": loss, "accuracy": accuracy}

  def judge(self, state: RandomState,
            batch: base.Batch) -> tuple[RandomState, dict[str, jax.Array]]:
    """Adds a batch's accuracy to the candidate's."""
    logits, _ = self._run(state, self._now(state), batch["image"], train=False)
    accuracy = base.mean_over_devices(
        jnp.mean(objectives.right(logits, batch["label"])))
    return state._replace(accuracy=state.accuracy.at[self._now(state)].add(
        accuracy / self.steps["architecture"])), {"accuracy": accuracy}

  def observe(self, state: RandomState, epoch: int) -> dict[str, Any]:
    """The candidate that was judged."""
    del epoch
    return {"architecture": codec.to_dict(
        self.architecture(state, int(self._now(state))))}

  def architecture(self, state: RandomState, number: int) -> codec.Architecture:
    """A candidate."""
    decisions = codec.decide(self.space.graph, self.place, self.space.share)
    free = self.space.inputs is not None
    cells = arrays_lib.decode(
        jax.tree.map(lambda a: np.asarray(a[number]), state.drawn),
        self.space.candidates, None if free else [d.cell for d in decisions])
    found = []
    for cell, decision in zip(cells, decisions, strict=True):
      edges = [edge for edge in cell.edges if edge.operation != operations.NULL
               ] if free else [
          own if fixed else edge for edge, own, fixed in zip(
              cell.edges, decision.cell.edges, decision.fixed, strict=True)]
      found.append(cell._replace(edges=tuple(edges)))
    return codec.respell(self.space.graph, decisions, tuple(found))

  def derive(self, state: RandomState, given: codec.Architecture | None,
             score: base.Walk, rng: jax.Array) -> base.Derived:
    """The best candidate; of equal ones the first.

    The report has "tried", a row per candidate in the order in which they were
    drawn or bred, with its "accuracy", or "naswot" or "synflow", None where
    that is not finite.
    """
    if self.trains:
      scores = np.asarray(state.accuracy, np.float64)
      found = [self.architecture(state, c) for c in range(len(scores))]
      if self.evolution is not None:
        fresh = np.asarray(state.bred.fresh)
        scores = scores[fresh]
        found = [a for a, new in zip(found, fresh, strict=True) if new]
    else:
      found, scores = self._scored(state, score, rng)
    word = "accuracy" if self.trains else self.config.score
    rows = []
    for architecture, value in zip(found, scores, strict=True):
      cost = exact.network(architecture, self.connections.target)
      rows.append({word: round(float(value), 6) if np.isfinite(value) else None,
                   "params": cost.params, "madds": cost.madds,
                   "architecture": codec.to_dict(architecture)})
    return base.Derived(self.space.written(found[int(np.argmax(scores))]), None,
                        {"tried": rows})

  def _scored(self, state, score, rng):
    """Candidates and their zero-cost scores, f64[D]."""
    count, images = self.config.batch_size, None
    if self.config.score == "naswot":
      images = jnp.asarray(score(
          _images, (), split="weights", images=count, each=True), jnp.float32)
    rng_w, rng_bred = jax.random.split(rng)
    told = getattr(score, "told", lambda *args, **metrics: None)
    done = itertools.count(1)

    def of(architecture):
      network = network_lib.Network(self._written(architecture), self._frame)
      variables = network_lib.init(network, rng_w)
      found = (zero_cost.synflow(network, variables) if images is None else
               zero_cost.naswot(network, variables, images))
      told("candidates", next(done), self.config.candidates,
           **{self.config.score: found})
      return found

    if self.evolution is None:
      found = [self.architecture(state, c)
               for c in range(self.config.candidates)]
      return found, np.array([*map(of, found)])
    bred = self.evolution.search(rng_bred, lambda genes: [
        of(self.places.architecture(row)) for row in genes])
    return [*map(self.places.architecture, bred.genes)], bred.scores

  def _written(self, architecture):
    """The network of a candidate, written out, where it is searched."""
    return blocks_lib.supernet(
        codec.expand(architecture, self.place), self.supernet.width)

  @property
  def _frame(self):
    return records.Frame(self.place.num_classes, self.place.image_size)

  def estimate(self, batch: int) -> dict[str, Any]:
    """Of a search by zero-cost scores: what one candidate takes, drawn."""
    network = self._written(self.draw(np.random.default_rng(0)))
    cost = exact.network(network, self._frame)
    return {"params": cost.params, "madds": cost.madds,
            "memory_bytes": memory.network_bytes(
                network, self._frame, batch, "float32")}


def _stored(state):
  """An evolution's state as `Bred` has it."""
  return state._replace(scores=jnp.where(
      jnp.isfinite(state.scores), state.scores, -1))


def _images(argument, batch):
  """The images of a batch, as networks see them: f32[B, H, W, 3]."""
  del argument
  return batch["image"]


# By a zero-cost score nothing is trained.
_TRAINING = ("epochs", "learning_rate", "final_learning_rate", "momentum",
             "weight_decay", "max_grad_norm")


def resolve(config: RandomConfig, kind: str) -> Any:
  """The settings for a kind of architecture, if they fit (InputError)."""
  config = halves.sized(config, kind)
  settings.plain(config)
  settings.one_of(config, dtype=("float32", "bfloat16"), score=SCORES,
                  search=SEARCHES)
  settings.at_least_one(config, "candidates", "epochs", "batch_size")
  settings.above_zero(config, "supernet_width")
  settings.not_negative(config, "learning_rate", "final_learning_rate",
                        "momentum", "weight_decay", "max_grad_norm")
  halves.check_fraction(config)
  return _bred(config)


def _bred(config):
  """The settings with those of an evolution, or InputError."""
  if config.search == "random":
    return config
  for name in ("population", "generations"):
    if getattr(config, name) is not None:
      settings.at_least_one(config, name)
  generations = config.generations or (
      min(_GENERATIONS, config.candidates) if config.population is None else
      max(config.candidates // config.population, 1))
  population = config.population or max(config.candidates // generations, 1)
  usual = {"parents": max(population // 4, 2), "mutations": population // 2,
           "crossovers": population // 4}
  config = dataclasses.replace(
      config, population=population, generations=generations,
      candidates=population * generations, **{
          name: value for name, value in usual.items()
          if getattr(config, name) is None})
  evolution.check(config)
  return config


def build(request: entry_lib.Request) -> entry_lib.Plan:
  """What a job needs to run a random search; see `entry`."""
  space = halves.space_of(request)
  config = resolve(request.settings, space.graph.kind)
  method = RandomSearch(
      config, space, num_classes=request.num_classes,
      image_size=request.image_size, target=request.place,
      steps=halves.steps(request, config))
  plan = halves.plan(method.method(), method.supernet, space, config)
  return plan if method.trains else plan._replace(
      estimate=method.estimate, model="one candidate, drawn at random")


ENTRY = entry_lib.Entry(
    RandomConfig, build,
    lambda preset, objective, kind: halves.preset(
        PRESETS[preset], kind, preset),
    listed.LINES["random"],
    starts="space", model="weights of all candidates", reports=("tried",),
    idle={("search", "random"): (
        "population", "generations", *evolution.BREEDING),
          **{("score", score): _TRAINING for score in SCORES
             if score != "trained"}})
