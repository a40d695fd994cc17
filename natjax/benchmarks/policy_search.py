"""Trains NAT's policy on NAS-Bench-201, where every reward is known.

Likewise on NAS-Bench-Macro (`MACRO`), which the table that is given decides.

The policy of NAT and NAT++ (Guo et al., 2021; `methods.nat`, `methods.natpp`)
without a supernet: the reward of turning beta into alpha is R(alpha | beta) =
acc(alpha) - acc(beta), validation accuracies after 200 epochs from the table,
as fractions. Nothing is fitted to the table: the policy learns by REINFORCE
alone (equation 5, with the entropy term of equation 4), from inputs beta drawn
from a part of the cells, and is judged on all others (`policy_report`). The
parts are divided by what the cells compute (`graph.nasbench201.computations`):
a cell that is judged computes nothing that an input did. By the cell alone, 72
per cent of the other half would compute what one of the inputs does.

How this differs from the paper, by settings that can be changed:
- The default policy is a GCN over the cell's edges (`policies.line_graph`);
  "published" is the authors' GCN over its nodes, with three incoming edges per
  node, where a missing one is a null from the input. The transitions are
  guarded for both.
- n = 8 samples per input, whose advantages (leave one out) are divided by
  their standard deviation: what is left to gain lies between 80 points (a
  broken cell) and a tenth of a point (the last choice), and raw rewards only
  teach the former. `scale_advantages=False` takes them as they are.
- lambda, which weighs the entropy against advantages so scaled, falls
  geometrically to `entropy_decay` of its value, and the learning rate to zero
  by a cosine. `entropy_decay=1` keeps lambda.
There is no guard of connectivity: in this benchmark a cell without a path is a
cell as any other, with 10 % accuracy in the table.

NAS-Bench-Macro's chains have eight layers for edges, no null, and test
accuracies alone, which are reward and truth in one. A layer may become an
identity by NAT, by NAT++ whatever costs less and has no larger kernel: that of
a stage's first layer is a 1x1 convolution, so that this is more than NAT++'s
types say.

A run of S seeds is one compiled program, mapped over seeds, that scans over
steps.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import errors, operations
from natjax.benchmarks import nasbench201, nasbench_macro
from natjax.graph import arrays as arrays_lib
from natjax.graph import nasbench201 as cells201
from natjax.graph import nasbench_macro as chains
from natjax.methods import nat, nat_config, supervised
from natjax.operations import edges
from natjax.policies import gcn, line_graph, sampling
from natjax.spaces import transitions
from natjax.training import optimizers, settings

BASELINES = ("auto", "leave_one_out", "none", "moving_average")
FEATURES = 128
TRIALS = 10  # Transformations sampled per input when the policy is judged.

_FIRST_SQUARE = 0.01  # Ten points, squared, before any advantage is known.
_MOST = 10**6  # Samples of all inputs of a step.
_NODES = 3  # A node's edges fill its slots by source,
_SLOTS = np.tril_indices(_NODES)  # which is their order, too.


@dataclasses.dataclass(frozen=True)
class SearchConfig:
  """Settings of the search.

  Attributes:
    method: "nat" or "natpp", which transitions there are; of `natjax benchmark`
      "evolution" or "random", too, which search the table without a policy.
    policy: "default" or "published".
    dataset: "cifar10", "cifar100" or "imagenet16-120".
    train_fraction: F, of all different computations, those whose cells may be
      inputs while training; as some have hundreds of cells and most a few, the
      part of the cells varies by seed.
    steps: updates of the policy.
    inputs: m, input architectures per step.
    samples: n, transformations sampled per input.
    learning_rate: of Adam, at the first step.
    entropy_weight: lambda, at the first step.
    entropy_decay: what is left of lambda at the last step, relative.
    scale_advantages: divides an input's advantages by the deviation of its
      rewards; a single sample's by a moving root mean square of advantages.
    baseline: "leave_one_out", "moving_average", "none", or "auto", the first
      where n > 1, else the second.
    gcn_layers: graph convolutions, 1, 2, 5 or 10.
    features: of every layer of the default policy; the published one has its
      own, and other numbers than the default are refused with it.
  """

  method: str = "natpp"
  policy: str = "default"
  dataset: str = "cifar10"
  train_fraction: float = 0.5
  steps: int = 4000
  inputs: int = 64
  samples: int = 8
  learning_rate: float = 3e-3
  entropy_weight: float = 1.0
  entropy_decay: float = 0.02
  scale_advantages: bool = True
  baseline: str = "auto"
  gcn_layers: int = 2
  features: int = FEATURES


class Ground(NamedTuple):
  """A benchmark, all of whose architectures have a code, in which it learns.

  Attributes:
    name: of the benchmark.
    word: what its architectures are called.
    edges: (from, to), of the E operations of an architecture.
    operations: O, choices of each.
    size: C, of the architectures.
    computations: of what they compute, the different ones.
    chunk: inputs judged at a time, which divides their number.
    encode: codes i32[...] of operations i32[..., E]; NumPy or traced.
    decode: operations of codes.
    numbers: `() -> i32[C]`, what computation every code has.
    columns: `(table, dataset) -> {name: f64[C]}`, by code "val_200ep", the
      accuracy that rewards, "test_200ep", that which judges, "params" and
      "flops_M".
  """

  name: str
  word: str
  edges: tuple[tuple[int, int], ...]
  operations: int
  size: int
  computations: int
  chunk: int
  encode: Callable[[Any], Any]
  decode: Callable[[Any], Any]
  numbers: Callable[[], np.ndarray]
  columns: Callable[[Any, str], Any]


def _columns_of_macro(table, dataset):
  errors.known("dataset", dataset, ("cifar10",))
  accuracy = table.columns["mean_acc"]
  return {"val_200ep": accuracy, "test_200ep": accuracy,
          "params": table.columns["params"],
          "flops_M": table.columns["flops"] / 1e6}


CELLS = Ground(
    "nasbench201", "cells", cells201.EDGES, len(cells201.CANDIDATES),
    cells201.COUNT, cells201.COMPUTATIONS, 625, cells201.encode,
    cells201.decode, cells201.computations,
    lambda table, dataset: table.of(dataset))
MACRO = Ground(
    "nasbench-macro", "chains", tuple(
        (i, i + 1) for i in range(chains.LAYERS)), len(chains.OPERATIONS),
    chains.COUNT, chains.COMPUTATIONS, 729, chains.encode, chains.decode,
    chains.computations, _columns_of_macro)
Table = nasbench201.Table | nasbench_macro.Table


def ground_of(table: Table) -> Ground:
  """The benchmark of a table."""
  return MACRO if isinstance(table, nasbench_macro.Table) else CELLS


# What suits the published policy: it is larger, and learns at its own rate.
PUBLISHED = {"steps": 2000, "inputs": 32, "learning_rate": 3e-4}


def config(ground: Ground = CELLS, **settings: Any) -> SearchConfig:
  """The settings given, over the defaults of the policy among them."""
  own = PUBLISHED if settings.get("policy") == "published" else {}
  return check(SearchConfig(**{**own, **settings}), ground)


def check(config: SearchConfig, ground: Ground = CELLS) -> SearchConfig:
  """Returns the settings if they can be run.

  Raises:
    InputError: an unknown choice, a number out of its range, or a baseline
      that needs other samples.
  """
  settings.plain(config)
  settings.one_of(config, method=transitions.SCHEMES, baseline=BASELINES,
                  policy=nat_config.POLICIES, dataset=cells201.DATASETS,
                  gcn_layers=gcn.LAYERS)
  settings.at_least_one(config, "steps", "inputs", "samples", "features")
  if config.inputs * config.samples > _MOST:
    settings.refuse(config, "samples", f"with {config.inputs} inputs makes more"
                    f" than {_MOST} a step, which are held at once; give fewer")
  for name, allowed, good in (
      ("learning_rate", "a positive number", lambda x: 0 < x < math.inf),
      ("entropy_weight", "0 or more", lambda x: 0 <= x < math.inf),
      ("entropy_decay", "in (0, 1]", lambda x: 0 < x <= 1),
      ("train_fraction", "between 0 and 1", lambda x: 0 < x < 1)):
    if not good(getattr(config, name)):
      settings.refuse(config, name, f"must be {allowed}; give another")
  count, every = train_count(config, ground), ground.computations
  if not 1 <= count < every:
    raise errors.InputError(
        f"train-fraction {config.train_fraction} of {every} computations leaves"
        f" {count} to train and {every - count} to judge; give another",
        "train_fraction")
  if config.policy == "published" and ground != CELLS:
    settings.refuse(config, "policy", "takes the cells of nasbench201 alone;"
                    " leave it out")
  settings.other_samples(config)
  if config.policy == "published" and config.features != FEATURES:
    settings.refuse(config, "features", "the published policy has its own;"
                    " leave it out, or give policy default")
  return config


def train_count(config: SearchConfig, ground: Ground = CELLS) -> int:
  """How many computations' architectures may be inputs while training."""
  return round(config.train_fraction * ground.computations)


def divide(rng: jax.Array, count: int, ground: Ground = CELLS) -> jax.Array:
  """Draws the computations to train on: bool[C], whether a code has one.

  All architectures of a computation are on the same side.

  Args:
    rng: a key.
    count: of the computations to train on.
    ground: the benchmark.
  """
  rank = jax.random.permutation(rng, ground.computations)
  return (rank < count)[ground.numbers()]


def transition_table(config: SearchConfig, ground: Ground = CELLS
                     ) -> transitions.TransitionTable:
  """The guarded transitions; their one place is every edge of the benchmark."""
  if ground == MACRO:  # What comes later costs more, at every layer.
    count = ground.operations
    outcome = np.tile(np.arange(count, dtype=np.int32), (count, 1))
    cheaper = np.tril(np.ones((count, count), bool))
    if config.method == "nat":
      cheaper &= np.eye(count, dtype=bool) | (outcome == 0)
    return transitions.TransitionTable(
        chains.OPERATIONS, outcome, cheaper[None], -1, connectivity=False)
  candidates = cells201.CANDIDATES
  scheme = transitions.SCHEMES[config.method](candidates)
  valid = transitions.valid_actions(scheme, transitions.may_become(
      candidates, (edges.Ends(channels, channels, 1, size) for channels, size
                   in cells201.places(config.dataset))))
  return transitions.TransitionTable(
      scheme.actions, scheme.outcome, valid[None],
      candidates.index(operations.NULL), connectivity=False)


class _Policy(NamedTuple):
  """init(rng) -> params; apply(params, i32[B, E]) -> logits f32[B, E, A]."""

  init: Any
  apply: Any


def make_policy(config: SearchConfig, num_actions: int,
                ground: Ground = CELLS) -> _Policy:
  """Builds the policy of the settings."""
  count = ground.operations
  cell = jnp.zeros(len(ground.edges), jnp.int32)
  if config.policy == "default":
    line = line_graph.LineGraphPolicy(
        ground.edges, count, num_actions, config.gcn_layers, config.features)
    return _Policy(lambda rng: line.init(rng, cell), line.apply)
  module = gcn.GCNPolicy(
      count, num_actions, config.gcn_layers, published=True, num_inputs=1)

  def apply(params, operation):
    logits: Any = module.apply(params, node_cell(operation), 0)  # [3, 3, A]
    return logits[_SLOTS]

  return _Policy(lambda rng: module.init(rng, node_cell(cell), 0),
                 jax.vmap(apply, (None, 0)))


def node_cell(operation: jax.Array) -> arrays_lib.CellArrays:
  """A cell by its nodes: `CellArrays` [3, 3], missing edges null from node 0.

  Args:
    operation: i32[6], by edge.
  """
  source = np.tril(np.tile(np.arange(_NODES, dtype=np.int32), (_NODES, 1)))
  null = jnp.full_like(source, cells201.CANDIDATES.index(operations.NULL))
  return arrays_lib.CellArrays(
      source=jnp.asarray(source), operation=null.at[_SLOTS].set(operation),
      concat=jnp.arange(_NODES) == _NODES - 1)


def draw(rng: jax.Array, log_p: jax.Array, count: int) -> jax.Array:
  """Draws actions i32[count, ...] of log-probabilities f32[..., A].

  By the inverse of the cumulative distribution: one random number per draw,
  where `jax.random.categorical` takes A. An action of probability zero is
  never drawn.
  """
  total = jnp.cumsum(jnp.exp(log_p), axis=-1)
  u = jax.random.uniform(rng, (count, *log_p.shape[:-1], 1)) * total[..., -1:]
  reached = total > u
  # Where rounding lets u reach the total, the likeliest action is taken.
  return jnp.where(reached[..., -1], jnp.argmax(reached, axis=-1),
                   jnp.argmax(log_p, axis=-1))


class _Carry(NamedTuple):
  """What a step hands on."""

  params: Any
  opt_state: Any
  average: jax.Array  # f32[], of the reward.
  square: jax.Array  # f32[], a moving average of squared advantages.
  read: jax.Array  # bool[C], architectures whose accuracy was looked up.
  rng: jax.Array


class Found(NamedTuple):
  """What training found, per seed; codes are the benchmark's.

  Attributes:
    trained: bool[S, C], by code, whether it could be an input; all others are
      judged.
    argmax: i32[S, C], by the input's code, the code of the likeliest
      transformation of every edge.
    samples: i32[S, 10, C], codes of sampled transformations.
    entries_read: i32[S], distinct codes whose accuracy was looked up.
    reward: f32[S, steps], the mean reward of every step.
    entropy: f32[S, steps], the mean entropy, in nats.
  """

  trained: jax.Array
  argmax: jax.Array
  samples: jax.Array
  entries_read: jax.Array
  reward: jax.Array
  entropy: jax.Array


class Search:
  """The parts of a search, built from its settings; `train` runs it."""

  def __init__(self, config: SearchConfig, ground: Ground = CELLS):
    self.config, self.ground, self.baseline = config, ground, config.baseline
    if self.baseline == "auto":
      self.baseline = (
          "leave_one_out" if config.samples > 1 else "moving_average")
    self.table = transition_table(config, ground)
    self.outcome = jnp.asarray(self.table.outcome)  # [O, A]
    self.valid = jnp.asarray(self.table.valid[0])  # [O, A]
    self.policy = make_policy(config, len(self.table.actions), ground)
    self.optimizer = optax.adam(
        optimizers.cosine(config.learning_rate, config.steps))

  def log_p(self, params: Any, operation: jax.Array) -> jax.Array:
    """Log-probabilities f32[B, E, A] of actions, operations i32[B, E]."""
    return sampling.masked_log_softmax(
        self.policy.apply(params, operation), self.valid[operation])

  def transform(self, operation: jax.Array, actions: jax.Array) -> jax.Array:
    """Codes i32[...] of operations i32[..., E] after actions i32[..., E]."""
    return self.ground.encode(self.outcome[operation, actions])

  def advantages(self, rewards: jax.Array,
                 carry: _Carry) -> tuple[jax.Array, jax.Array]:
    """Reward less baseline, scaled if so set, f32[m, n]; the next `square`."""
    result = nat.advantages(rewards, self.baseline, carry.average)
    square = 0.99 * carry.square + 0.01 * jnp.mean(result**2)
    if not self.config.scale_advantages:
      return result, square
    spread = jnp.sqrt(square)
    if self.config.samples > 1:
      spread = jnp.std(rewards, axis=1, keepdims=True)
    # A few hundredths of a point are noise: nearly equal rewards stay so.
    return result / (spread + 3e-4), square

  def update(self, carry: _Carry, beta: jax.Array, weight: jax.Array,
             accuracy: jax.Array) -> tuple[_Carry, tuple[jax.Array, ...]]:
    """Ascends equation 5 by one step.

    Args:
      carry: before.
      beta: i32[m], codes of the inputs.
      weight: f32[], lambda.
      accuracy: f32[C], validation accuracy by code.

    Returns:
      The carry, and mean reward and mean entropy.
    """
    rng, rng_alpha = jax.random.split(carry.rng)
    operation = self.ground.decode(beta)  # [m, E]

    def objective(params):
      log_p = self.log_p(params, operation)  # [m, E, A]
      actions = draw(rng_alpha, lax.stop_gradient(log_p), self.config.samples)
      alpha = self.transform(operation, actions)  # [n, m]
      rewards = (accuracy[alpha] - accuracy[beta]).T  # R(alpha | beta)
      advantage, square = self.advantages(rewards, carry)
      chosen = jnp.take_along_axis(log_p[None], actions[..., None], -1)[..., 0]
      open_ = self.valid[operation]
      surprise = jnp.where(open_, -jnp.exp(log_p) * jnp.where(
          open_, log_p, 0.0), 0.0)
      entropy = jnp.mean(jnp.sum(surprise, (-1, -2)))
      gain = jnp.mean(jnp.sum(chosen, -1).T * advantage)
      return -gain - weight * entropy, (rewards, entropy, alpha, square)

    grads, (rewards, entropy, alpha, square) = jax.grad(
        objective, has_aux=True)(carry.params)
    return supervised.descend(
        self.optimizer, carry, grads, square=square, rng=rng,
        average=nat.next_average(rewards, "moving_average", carry.average),
        read=carry.read.at[beta].set(True).at[alpha.reshape(-1)].set(True)), (
            jnp.mean(rewards), entropy)

  def transform_all(self, params: Any,
                    rng: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Transforms all: by argmax i32[C] and samples i32[10, C]."""
    cells = jnp.asarray(self.ground.decode(np.arange(
        self.ground.size, dtype=np.int32))).reshape(
            -1, self.ground.chunk, len(self.ground.edges))

    def some(item):
      operation, key = item
      log_p = self.log_p(params, operation)
      return (self.transform(operation, jnp.argmax(log_p, -1)),
              self.transform(operation, draw(key, log_p, TRIALS)))

    argmax, samples = lax.map(some, (cells, jax.random.split(rng, len(cells))))
    return argmax.reshape(-1), jnp.moveaxis(samples, 0, 1).reshape(TRIALS, -1)

  def run_seed(self, rng: jax.Array, accuracy: jax.Array):
    """Trains and applies one seed's policy; what `Found` has, per seed."""
    c = self.config
    rng_split, rng_init, rng_inputs, rng_step, rng_judge = jax.random.split(
        rng, 5)
    trained = divide(rng_split, train_count(c, self.ground), self.ground)
    cells, count = jnp.argsort(~trained), jnp.sum(trained)  # Those come first.
    params = self.policy.init(rng_init)

    def step(carry, item):
      key, number = item
      beta = cells[jax.random.randint(key, (c.inputs,), 0, count)]
      weight = c.entropy_weight * c.entropy_decay ** (number / c.steps)
      return self.update(carry, beta, weight, accuracy)

    carry = _Carry(params, self.optimizer.init(params), average=jnp.zeros(()),
                   square=jnp.float32(_FIRST_SQUARE),
                   read=jnp.zeros(self.ground.size, bool), rng=rng_step)
    carry, (reward, entropy) = lax.scan(
        step, carry, (jax.random.split(rng_inputs, c.steps),
                      jnp.arange(c.steps)))
    argmax, samples = self.transform_all(carry.params, rng_judge)
    return Found(trained, argmax, samples, jnp.sum(carry.read), reward, entropy)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _run(config: SearchConfig, keys: jax.Array, accuracy: jax.Array,
         ground: Ground = CELLS) -> Found:
  """All seeds' runs, compiled once per settings and number of seeds."""
  return jax.vmap(Search(config, ground).run_seed, (0, None))(keys, accuracy)


def check_seeds(seeds: Sequence[int]) -> None:
  """Refuses no seeds, and any that cannot be used (InputError)."""
  if not seeds:
    raise errors.InputError("no seeds given; give at least one")
  for seed in seeds:
    if not 0 <= seed < 2**32:
      raise errors.InputError(
          f"seed is {seed} and must be from 0 to {2**32 - 1}; give 0", "seed")


def train(config: SearchConfig, table: Table,
          seeds: Sequence[int]) -> Found:
  """Trains one policy per seed, all in one program.

  Args:
    config: the settings.
    table: the rewards.
    seeds: S of them; a seed's result does not depend on the others but for
      rounding.

  Raises:
    InputError: settings that cannot be run, no or a negative seed, or a data
      set that the table lacks.
  """
  ground = ground_of(table)
  check(config, ground)
  check_seeds(seeds)
  accuracy = jnp.asarray(
      ground.columns(table, config.dataset)["val_200ep"] / 100, jnp.float32)
  keys = jnp.stack([jax.random.key(np.uint32(seed)) for seed in seeds])
  return jax.device_get(_run(config, keys, accuracy, ground))
