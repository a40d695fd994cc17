"""What the experiments share that search where the truth is known.

Cells of NAS-Bench-201 are transformed by a supernet that is trained on images,
and what comes of them is looked up in the benchmark's table. The supernet holds
all five operations on every edge, and the given cell is data of its state: one
program serves all given cells, of which the second starts at once.

Where this differs from `natjax transform` on the same network: an operation may
become what the benchmark knows alone (there, NAT++ would put separable and
dilated convolutions in place of a 3x3 one, too); inputs are drawn among what
NAT++ may make of the given cell for NAT, too, so that both have one supernet;
and the network may have fewer cells per stage.
"""

from collections.abc import Callable, Sequence
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from natjax import data as data_lib
from natjax import operations, spaces, zoo
from natjax.benchmarks import nasbench201, policy_report, policy_search
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, records
from natjax.graph import nasbench201 as cells
from natjax.methods import choice, evolution, nat, natpp, supervised
from natjax.networks import supernet as supernet_lib
from natjax.pipeline import judge as judge_lib
from natjax.spaces import inputs
from natjax.training import fit as fit_lib
from natjax.training import method as base

METHODS = {"nat": nat.NAT, "natpp": natpp.NATpp}
_FREE = (*cells.CANDIDATES[1:], operations.NULL)
_SLOTS = np.tril_indices(3)  # Of the six edges, in their order.
_AT_ONCE = 16  # Cells that are scored by one call of a program.


# Cells, and what is known of them.


def network(names: Sequence[str], repeats: int) -> records.BlockNetwork:
  """A cell's network with so many cells in each stage, of five."""
  whole = zoo.nasbench201.network(names)
  kept, run = [], 0
  for block in whole.blocks:
    run = run + 1 if len(block.edges) == len(cells.EDGES) else 0
    if run <= repeats:
      kept.append(block)
  return whole._replace(blocks=tuple(kept))


def code_of(found: records.BlockNetwork) -> int:
  """The code of the cell of a network."""
  kept = {(edge.source - 1, edge.target - 1): edge.operation
          for edge in found.blocks[0].edges}
  return int(cells.encode(cells.to_array([kept[edge] for edge in cells.EDGES])))


def names_of(code: int) -> tuple[str, ...]:
  """The six operations of a code."""
  return cells.to_names(cells.decode(np.int32(code)))


def space(repeats: int, search_bias: bool = False) -> spaces.Space:
  """The benchmark's space, with so many cells in each stage.

  Args:
    repeats: cells per stage.
    search_bias: see `spaces.Space`.
  """
  graph = network([operations.NULL] * len(cells.EDGES), repeats)
  own = [*dict.fromkeys(
      edge.operation for block in graph.blocks for edge in block.edges)]
  around = next(b for b in graph.blocks if len(b.edges) != len(cells.EDGES))
  return spaces.Space(
      "nasbench201", graph, (*_FREE[:-1], *(
          op for op in own if op not in _FREE), operations.NULL),
      choices=((_FREE,) * len(cells.EDGES), tuple(
          (edge.operation,) for edge in around.edges)),
      several=False, search_bias=search_bias)


class Truth:
  """What the table says, and what valid transitions reach.

  Attributes:
    accuracy: f64[15625] by code, test accuracy on CIFAR-10 after 200 epochs, %.
    params: f64[15625].
    madds: f64[15625], in millions.
    reach: by method, bool[5, 5] (`policy_report.reachable`).
    best: by method, i[15625], by code the best that it may become.
    random: by method, f64[15625], the mean over uniform valid transitions.
  """

  def __init__(self, table: nasbench201.Table):
    columns = table.of("cifar10")
    self.accuracy, self.params, self.madds = (
        np.asarray(columns[c]) for c in ("test_200ep", "params", "flops_M"))
    self.reach = {m: policy_report.reachable(policy_search.transition_table(
        policy_search.config(method=m))) for m in METHODS}
    self.best = {m: policy_report.oracle(self.accuracy, reach)
                 for m, reach in self.reach.items()}
    self.random = {m: policy_report.random_mean(self.accuracy, reach)
                   for m, reach in self.reach.items()}

  def gain(self, before: int, after: int) -> float:
    """Points of true accuracy gained."""
    return float(self.accuracy[after] - self.accuracy[before])

  def dearer(self, before: int, after: int) -> bool:
    """Whether a cell costs more than another, in either way."""
    return bool(self.params[after] > self.params[before]
                or self.madds[after] > self.madds[before])


def spread_over_quality(accuracy: np.ndarray, count: int, seed: int,
                        without: Sequence[int] = ()) -> list[int]:
  """Codes of cells over the whole range: one of each of equal parts by rank.

  Args:
    accuracy: f64[15625].
    count: parts.
    seed: of the draws.
    without: codes that are not drawn.
  """
  rng = np.random.default_rng([seed, 201])
  order = np.argsort(accuracy, kind="stable")
  order = order[~np.isin(order, np.asarray(without, int))]
  return [int(rng.choice(part)) for part in np.array_split(order, count)]


def kendall(scores: Sequence[float], known: Sequence[float]) -> float:
  """Kendall's tau-b, 0 where one of both is constant."""
  if len({*scores}) < 2 or len({*known}) < 2:
    return 0.0
  return float(stats.kendalltau(scores, known).statistic)


# The searches.


FOCUSES = ("given", "general", "alone")


class State(NamedTuple):
  """`nat.NATState` and where inputs are drawn, as data.

  Attributes:
    given: `CellArrays` [G, N, K], around which inputs are drawn.
    focus: i32[], of `FOCUSES`: around the given cell, from the whole space, or
      that cell alone.
  """

  step: Any
  params: Any
  opt_state: Any
  policy: Any
  policy_opt_state: Any
  baseline: Any
  rng: Any
  drawn: Any
  given: arrays_lib.CellArrays
  focus: Any


class Known:
  """NAT or NAT++ for many given cells, mixed into one of both.

  Attributes:
    truth: f32[15625] by code, accuracies in [0, 1] to reward by; None rewards
      by the supernet.
  """

  def __init__(self, config: nat.NATConfig, space: spaces.Space, *,
               reach: np.ndarray, truth: np.ndarray | None = None,
               **sizes: Any):
    """Args:
      config: the settings.
      space: of `space`.
      reach: bool[5, 5], what inputs around a given cell may have.
      truth: see the class.
      **sizes: of `nat.NAT`.
    """
    super().__init__(config, space, **sizes)  # type: ignore
    self.truth = None if truth is None else jnp.asarray(truth, jnp.float32)
    self.supernet = supernet_lib.Supernet(
        space, self.ground.place, jnp.dtype(config.dtype),
        self.config.supernet_width)
    self._number = np.array(
        [self.ground.candidates.index(name) for name in cells.CANDIDATES])
    count = len(self.ground.candidates)
    self._code = np.zeros(count, np.int32)
    self._code[self._number] = np.arange(len(cells.CANDIDATES))
    start = self.ground.start
    # What stands in the slots of the residual blocks, and nowhere else.
    own = np.eye(count, dtype=bool)[start.operation]
    own[0] = False
    self._own = own
    # What a given cell's operation may become, by focus: [2, O, O].
    self._may = np.repeat(np.eye(count, dtype=bool)[None], len(FOCUSES), 0)
    for may, some in zip(self._may, (reach, np.ones_like(reach)), strict=False):
      may[np.ix_(self._number, self._number)] = some

  def arrays(self, codes: np.ndarray) -> arrays_lib.CellArrays:
    """Cells of codes i[R] as host arrays [R, G, N, K]."""
    start, codes = self.ground.start, np.asarray(codes)
    stack = lambda x: np.repeat(x[None], len(codes), 0)
    operation = stack(start.operation)
    operation[:, 0, *_SLOTS] = self._number[cells.decode(
        codes.astype(np.int32))]
    return arrays_lib.CellArrays(source=stack(start.source),
                                 operation=operation,
                                 concat=stack(start.concat))

  def codes(self, arrays: arrays_lib.CellArrays) -> jax.Array:
    """Codes i32[R] of cells [R, G, N, K]; traced."""
    return cells.encode(
        jnp.asarray(self._code)[arrays.operation[:, 0, *_SLOTS]])

  def init(self, rng: jax.Array) -> State:
    """The state that training starts from, with a cell of nulls."""
    given = jax.tree.map(jnp.asarray, jax.tree.map(
        lambda x: x[0], self.arrays(np.zeros(1, int))))
    return State(  # type: ignore
        *super().init(rng), given, jnp.zeros((), jnp.int32))

  def begun(self, rng: jax.Array, code: int, focus: str,
            weights: State | None = None) -> State:
    """A state for a given cell; with weights, the policy alone is drawn.

    Args:
      rng: a key.
      code: of the given cell.
      focus: of `FOCUSES`.
      weights: whose supernet it begins with, the optimizer's state included.
    """
    state = self.init(rng)._replace(
        focus=jnp.asarray(FOCUSES.index(focus), jnp.int32),
        given=jax.tree.map(lambda x: jnp.asarray(x[0]), self.arrays(
            np.array([code]))))
    if weights is None:
      return state
    copy = lambda tree: jax.tree.map(jnp.array, tree)  # All are donated.
    return state._replace(step=copy(weights.step), params=copy(weights.params),
                          opt_state=copy(weights.opt_state))

  def inputs_at(self, state: State, rng: jax.Array) -> arrays_lib.CellArrays:
    """Draws m inputs where the state says."""
    allowed = jnp.asarray(self._may)[state.focus][state.given.operation]
    slot = np.zeros((*self.ground.shape, 1), bool)
    slot[0, *_SLOTS] = True
    draw = inputs.fixed(self.ground, jnp.where(slot, allowed, self._own))
    near = inputs.around(self.ground, draw)
    ways = (lambda key: near(key, state.given, False), draw,
            lambda key: state.given)

    def one(key):
      return jax.tree.map(lambda *x: jnp.stack(x)[state.focus], *(
          way(key) for way in ways))

    return jax.vmap(one)(jax.random.split(rng, self.config.inputs))

  def accuracies(self, state: State, cells: arrays_lib.CellArrays,
                 batch: base.Batch) -> jax.Array:
    """By the supernet, or the truth."""
    if self.truth is None:
      return super().accuracies(state, cells, batch)  # type: ignore
    return self.truth[self.codes(cells)]


class NAT(Known, nat.NAT):
  """NAT, see `Known`."""


class NATpp(Known, natpp.NATpp):
  """NAT++, see `Known`."""


KNOWN = {"nat": NAT, "natpp": NATpp}


class Searches:
  """The searches of one configuration, whose programs are compiled once.

  Attributes:
    truth: what is known.
    config: of NAT and NAT++.
    splits: "weights" and "policy", parts of the training images.
    preparation: from them to what the supernet sees.
  """

  def __init__(self, truth: Truth, dataset: data_lib.Dataset,
               config: nat.NATConfig, *, repeats: int, seed: int,
               search_bias: bool = False):
    """Args:
      truth: what is known.
      dataset: the images.
      config: of NAT and NAT++.
      repeats: cells per stage.
      seed: of the division of images.
      search_bias: see `spaces.Space`.
    """
    self.truth, self.config, self._seed = truth, config, seed
    self._repeats = repeats
    parts = data_lib.split(
        len(dataset.train_labels),
        (config.weights_fraction, 1 - config.weights_fraction), seed=seed)
    self.splits = {name: fit_lib.Split(
        dataset.train_images[rows], dataset.train_labels[rows])
                   for name, rows in zip(("weights", "policy"), parts,
                                         strict=True)}
    self.steps = len(self.splits["weights"].labels) // config.batch_size
    self.preparation = judge_lib.Labels(dataset, supervised.resolve(
        supervised.TrainConfig(), "blocks")).plain(config.dtype)
    target = codec.place("blocks", "cifar", 0, 0, num_classes=10, image_size=32)

    @functools.cache
    def make(method: str, by_truth: bool = False):
      return KNOWN[method](
          config, space(repeats, search_bias), reach=truth.reach["natpp"],
          truth=truth.accuracy / 100 if by_truth else None,
          num_classes=dataset.num_classes, image_size=dataset.image_size,
          targets=(target,), steps_per_epoch=self.steps)

    self.make: Callable[..., Any] = make

  def fit(self, method: Any, state: State, stages: tuple[base.Stage, ...],
          seed: int, **options: Any) -> State:
    """Runs stages of a method from a state on, on one device."""
    record = method.method()._replace(init=lambda rng: state, stages=stages)
    return fit_lib.fit(
        record, self.splits, batch_size=self.config.batch_size,
        preparation=self.preparation,
        options=fit_lib.Options(
            seed=seed, devices=jax.local_devices()[:1], **options))

  def start(self, code: int, seed: int, focus: str = "given",
            weights: State | None = None) -> State:
    """Where a search begins; see `Known.begun`."""
    return self.make("natpp").begun(jax.random.key(seed), code, focus, weights)

  def weights(self, state: State, seed: int, epochs: int | None = None,
              **options: Any) -> State:
    """The supernet at the end of the warm-up, in which NAT is NAT++.

    Args:
      state: to go on from.
      seed: of everything random.
      epochs: a part of the warm-up; None is all of it.
      **options: of `fit`.
    """
    method = self.make("natpp")
    warmup = method.method().stages[0]
    if epochs is not None:
      warmup = warmup._replace(epochs=epochs)
    return self.fit(method, state, (warmup,), seed, **options)

  def search(self, name: str, code: int, weights: State, seed: int, *,
             by_truth: bool = False, **options: Any) -> State:
    """What follows the warm-up, with a policy that is drawn anew.

    Args:
      name: "nat" or "natpp".
      code: of the given cell.
      weights: the supernet at the end of the warm-up.
      seed: of everything random.
      by_truth: reward by the table.
      **options: of `fit`.
    """
    method = self.make(name, by_truth)
    state = method.begun(jax.random.key(seed), code, FOCUSES[int(
        weights.focus)], weights)
    return self.fit(method, state, method.method().stages[1:], seed, **options)

  def choose(self, name: str, code: int, state: State,
             seed: int) -> dict[str, Any]:
    """What a trained policy finds for a cell, by the supernet's scores.

    Returns:
      The codes that the library's settings choose (`prefer`): "code", by the
      accuracy, "cheapest", by the cost, and "sure"; "candidates", codes of all
      that were scored, with their "scores", the given cell first, and what they
      "answers".
    """
    sums = []

    def walk(*argument, **options):
      sums.append(self._walk(*argument, whole=True, **options))
      return sums[-1]

    found = self.make(name).derive(
        state, network(names_of(code), self._repeats), walk,
        jax.random.key(seed))
    rows = found.report["candidates"]
    codes = [code_of(codec.from_dict(row["architecture"])) for row in rows]
    chosen = {name: codes[i] for name, i in found.report["preferred"].items()}
    return {"code": chosen["accuracy"], "cheapest": chosen["cost"],
            "sure": chosen["sure"], "candidates": codes,
            "scores": [row["score"] for row in rows],
            # Later, what changes cost by themselves.
            "answers": choice.Answers(int(sums[0]["images"]), sums[0]["both"][
                :len(rows), :len(rows)].astype(int))}

  def _walk(self, function, argument, *, split, **options):
    return fit_lib.walk(
        function, argument, self.splits[split], preparation=self.preparation,
        batch_size=self.config.batch_size, **options)

  def forwards(self) -> int:
    """Images that go through a supernet for one policy and its choice."""
    c, size = self.config, len(self.splits["policy"].labels)
    steps = size // c.batch_size * (c.epochs - c.warmup_epochs)
    return (steps * c.batch_size * c.inputs * (c.samples + 1)
            + (c.candidates + 1) * size)

  def evolve(self, code: int, params: Any, seed: int) -> dict[str, Any]:
    """Evolution over NAT++'s valid transitions, by the supernet.

    No more images go through the supernet than for one policy and its choice:
    so many generations are scored.

    Returns:
      "code", the best score, and "candidates" with "scores", as `choose`.
    """
    given = cells.decode(np.int32(code))
    may = [np.flatnonzero(row) for row in self.truth.reach["natpp"][given]]
    most = max(self.forwards() // len(self.splits["policy"].labels), 1)
    size = min(most, _AT_ONCE)
    start = [row.tolist().index(o) for row, o in zip(may, given, strict=True)]
    search = evolution.Evolution(
        [*map(len, may)], evolution.EvolutionConfig(
            population=size, generations=most // size, parents=4,
            mutations=size // 2, crossovers=size // 4), around=start)

    def codes(genes):
      return cells.encode(np.stack(
          [row[column] for row, column in zip(may, genes.T, strict=True)], -1))

    found = search.search(
        jax.random.key(seed), lambda genes: self.score(
            params, codes(genes).tolist()), np.array([start]))
    every = codes(found.genes).tolist()
    return {"code": every[found.best(1)[0]], "candidates": every,
            "scores": found.scores.tolist()}

  def score(self, params: Any, codes: Sequence[int]) -> np.ndarray:
    """The supernet's accuracies of cells on the policy's images, f64[R]."""
    method, found = self.make("natpp"), []
    for start in range(0, len(codes), _AT_ONCE):
      some = [*codes[start:start + _AT_ONCE]]
      every = method.arrays(np.array(some + some[:1] * (_AT_ONCE - len(some))))
      found.append(self._walk(
          method.right, (params, every, np.int32(len(some))), split="policy",
          whole=True)[:len(some)])
    return np.concatenate(found)
