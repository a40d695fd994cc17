"""Evolution: the best of what is scored has children, which are scored.

Guo, Zhang, Mu, Heng, Liu, Wei, Sun: "Single Path One-Shot Neural Architecture
Search with Uniform Sampling" (SPOS), ECCV 2020, Algorithm 1. A candidate is a
choice at each of P places; what that is, and what it scores, the caller knows:
a supernet, a table, a training. A generation has mutations of the best
candidates so far and crossovers of two of them; what lacks is drawn at random.
Every gene of a mutation is drawn anew with a probability, every gene of a
crossover comes from one of the two, equally likely.

The population lives on the device, and the programs do not depend on what is
scored: `run` is one program for scores that can be traced, as of a table, and
maps over seeds; `search` asks a score on the host, generation by generation.
No candidate is scored twice, none that breaks a constraint is scored at all.

Over a budget that next to nothing drawn uniformly keeps to, random candidates
are drawn around the cheapest architecture instead (`among`).

Where this differs from the authors' code: their 20 generations are the first,
drawn at random, and 19 more, as here; a place in a generation for which ten
children were refused is filled at random, where they count the refused ones of
all places together. A gene is drawn by 16 random bits, which of 10 choices
prefers some by a part in 6000. Where a space has more than 4 million candidates
the visited ones are known by 22 bits of a hash: one that is new is taken for a
visited one as often as visited ones have that hash, of a thousand candidates
once in 4000 times.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.costs import budget as budget_lib
from natjax.spaces import places
from natjax.training import settings

_HASHED = 22  # Bits by which visited candidates are known.
_AT_ONCE = 5  # Children that are drawn for a place in a generation at a time,
_TRIES = 2  # how often that is done before one is drawn at random instead,
_ROUNDS = 200  # and then, until a generation is left incomplete.
_MOST = 4096  # Choices of a place.
_POPULATION = 2**14  # Candidates of a generation.
_HALF = 16  # Bits of a gene's random number that say one thing of two.
_RANDOM, _MUTATION, _CROSSOVER = range(3)
# Settings that a random search has no use for.
BREEDING = ("parents", "mutations", "crossovers", "mutation_probability")


@dataclasses.dataclass(frozen=True)
class EvolutionConfig:
  """Settings of an evolution. The defaults are the authors'.

  Attributes:
    population: candidates of a generation.
    generations: how many, the first of which is drawn at random.
    parents: the best candidates so far, which have children.
    mutations: of a generation.
    crossovers: of a generation; what neither fills is drawn at random.
    mutation_probability: with which a gene of a mutation is drawn anew.
  """

  population: int = 50
  generations: int = 20
  parents: int = 10
  mutations: int = 25
  crossovers: int = 25
  mutation_probability: float = 0.1


def check(config: Any) -> None:
  """Refuses settings that do not fit together.

  Args:
    config: has the fields of `EvolutionConfig`.

  Raises:
    InputError: a count out of range, more children than a generation has, or a
      probability that is none.
  """
  settings.at_least_one(config, "population", "generations", "parents")
  settings.not_negative(config, "mutations", "crossovers")
  if config.population > _POPULATION:
    settings.refuse(
        config, "population", f"must be at most {_POPULATION}, since all of a"
        " generation are compared with each other; give fewer, or more"
        " generations")
  for name in ("mutations", "crossovers"):
    if config.mutations + config.crossovers > config.population:
      settings.refuse(
          config, name, f"with {config.mutations} mutations and"
          f" {config.crossovers} crossovers a generation of"
          f" {config.population} has not enough places; give fewer of both, or"
          " a larger population")
  if not 0 < config.mutation_probability <= 1:
    settings.refuse(config, "mutation_probability", "must lie in (0, 1]; give"
                    " 0.1")


def drawn(config: Any) -> Any:
  """The settings of a random search: every candidate is drawn."""
  return dataclasses.replace(config, mutations=0, crossovers=0)


class State(NamedTuple):
  """What a generation hands on, all of it on the device.

  Attributes:
    rng: a key.
    parents: i32[K, P], the best so far, best first.
    scores: f32[K], theirs; -inf where there are fewer.
    seen: bool[V], by their numbers, which candidates were visited.
  """

  rng: jax.Array
  parents: jax.Array
  scores: jax.Array
  seen: jax.Array


class Generation(NamedTuple):
  """What is to be scored.

  Attributes:
    genes: i32[B, P], a choice per place.
    fresh: bool[B], whether the row is a candidate; else none was found for it.
  """

  genes: jax.Array
  fresh: jax.Array


class Same(NamedTuple):
  """Which genes are one candidate, though they differ.

  Attributes:
    number: `genes i32[B, P] -> i32[B]`, traced: equal for these, below the
      size; whatever it is where a constraint is broken.
    size: V.
  """

  number: Callable[[jax.Array], jax.Array]
  size: int


class Found(NamedTuple):
  """All candidates that were scored, in that order.

  Attributes:
    genes: i32[R, P].
    scores: f64[R].
  """

  genes: np.ndarray
  scores: np.ndarray

  def best(self, count: int) -> np.ndarray:
    """Rows of the best, best first; of equal ones the first."""
    return np.argsort(-self.scores, kind="stable")[:count]


class Evolution:
  """An evolution over P places.

  Attributes:
    counts: of every place, how many choices it has.
    config: an `EvolutionConfig`, or settings with its fields.
  """

  def __init__(self, counts: Sequence[int], config: Any, *,
               legal: places.Legal | None = None,
               around: Sequence[int] | np.ndarray | None = None,
               same: Same | None = None):
    """Args:
      counts: of every place, how many choices it has; genes are below them.
      config: has the fields of `EvolutionConfig`.
      legal: which candidates keep to the constraints; None is all.
      around: a candidate around which random ones are drawn: each of its genes
        is kept with a probability that is itself uniform in [0, 1] (Guo et
        al., 2021, equation 1, as `spaces.inputs` draws); None draws all genes.
      same: which genes are one candidate; None is those that are equal.

    Raises:
      InputError: settings that do not fit, or a place without a choice.
    """
    check(config)
    self.counts, self.config = tuple(map(int, counts)), config
    if not self.counts or not all(1 <= c <= _MOST for c in self.counts):
      raise errors.InputError(
          f"an evolution has {len(self.counts)} places, of which one has"
          f" {min(self.counts, default=0)} choices and one"
          f" {max(self.counts, default=0)}; each needs 1 to {_MOST}")
    self._legal, self._around, self._same = legal, around, same
    total = math.prod(self.counts)
    self._exact = total <= 2**_HASHED
    self._size = same.size if same is not None else (
        total if self._exact else 2**_HASHED)
    self._place = np.array([math.prod(self.counts[i + 1:]) % 2**32 for i in
                            range(len(self.counts))], np.uint32)
    if not self._exact:  # Odd, and as good as drawn.
      numbers = np.arange(1, len(self.counts) + 1, dtype=np.uint64)
      self._place = (numbers * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(31)
                     | np.uint64(1)).astype(np.uint32)
    c = config
    self._kinds = np.array(
        [_MUTATION] * c.mutations + [_CROSSOVER] * c.crossovers
        + [_RANDOM] * (c.population - c.mutations - c.crossovers), np.int32)
    self._ask = jax.jit(self.ask)
    self._tell = jax.jit(self.tell)

  def init(self, rng: jax.Array) -> State:
    """The state before the first generation."""
    most, count = self.config.parents, len(self.counts)
    return State(rng, jnp.zeros((most, count), jnp.int32),
                 jnp.full(most, -jnp.inf, jnp.float32),
                 jnp.zeros(self._size, bool))

  def draws(self) -> bool:
    """Whether a first generation that is drawn has any candidate."""
    _, first = self._ask(self.init(jax.random.key(0)))
    return bool(first.fresh.any())

  def number(self, genes: jax.Array) -> jax.Array:
    """By what a candidate is known, i32[...] of genes i32[..., P]."""
    if self._same is not None:
      return self._same.number(genes)
    code = (genes.astype(jnp.uint32) * self._place).sum(-1, dtype=jnp.uint32)
    if not self._exact:
      code = _scramble(code) >> 32 - _HASHED
    return code.astype(jnp.int32)

  def ask(self, state: State,
          first: jax.Array | None = None) -> tuple[State, Generation]:
    """Finds the next generation; pure.

    Args:
      state: before it.
      first: i32[F, P], F <= B candidates that it is to have, whatever they are.

    Returns:
      The state, in which they are visited, and the generation.
    """
    size, count = self.config.population, len(self.counts)
    kinds = jnp.where(jnp.isfinite(state.scores[0]), self._kinds, _RANDOM)
    known = jnp.sum(jnp.isfinite(state.scores))
    start = jnp.zeros((size, count), jnp.int32)
    fresh = jnp.zeros(size, bool)
    if first is not None:
      start = start.at[:len(first)].set(first)
      fresh = fresh.at[:len(first)].set(True)
    order = jnp.arange(size)

    def draw(carry):
      rng, genes, numbers, fresh, tried = carry
      rng, key = jax.random.split(rng)
      every = self._children(key, state.parents, known, jnp.tile(jnp.where(
          tried < _TRIES, kinds, _RANDOM), _AT_ONCE))
      found = self.number(every)
      good = ~state.seen[found]
      if self._legal is not None:
        good &= self._legal(every)
      at = jnp.argmax(good.reshape(-1, size), 0) * size + order
      new, good = every[at], good[at] & ~fresh
      number = jnp.where(fresh, numbers, found[at])
      same = number[:, None] == number
      before = fresh | (good & (order[:, None] > order))
      good &= ~jnp.any(same & before, axis=1)
      return (rng, jnp.where(good[:, None], new, genes), number, fresh | good,
              tried + 1)

    def lacks(carry):
      return ~jnp.all(carry[3]) & (carry[4] < _TRIES + _ROUNDS)

    rng, genes, numbers, fresh, _ = lax.while_loop(lacks, draw, (
        state.rng, start, self.number(start), fresh, jnp.zeros((), jnp.int32)))
    seen = state.seen.at[jnp.where(fresh, numbers, self._size)].set(
        True, mode="drop")
    return state._replace(rng=rng, seen=seen), Generation(genes, fresh)

  def tell(self, state: State, generation: Generation,
           scores: jax.Array) -> State:
    """Takes the scores f32[B] of a generation; pure."""
    scores = jnp.where(
        generation.fresh & ~jnp.isnan(scores), scores, -jnp.inf)
    every = jnp.concatenate([state.scores, scores.astype(jnp.float32)])
    best, at = lax.top_k(every, len(state.scores))  # Of equal ones the first.
    return state._replace(scores=best, parents=jnp.concatenate(
        [state.parents, generation.genes])[at])

  def _children(self, rng, parents, known, kinds):
    """Draws a candidate of each kind, i32[B, P]; nothing is looked at."""
    counts = np.array(self.counts, np.uint32)
    bits = _bits(rng, len(kinds), len(counts) + 1)
    genes, parent = bits[:, :-1], bits[:, -1]
    coin, value = genes % 2**_HALF, genes >> _HALF
    drawn = (value * counts >> _HALF).astype(jnp.int32)
    pick = lambda bits: parents[
        (bits * jnp.maximum(known, 1).astype(jnp.uint32) >> _HALF).astype(
            jnp.int32)]
    one, other = pick(parent >> _HALF), pick(parent % 2**_HALF)
    # Of a random candidate as many genes are new as it is far from `around`.
    far = parent % 2**_HALF
    near = one if self._around is None else jnp.where(
        (kinds == _RANDOM)[:, None], np.asarray(self._around, np.int32), one)
    anew = round(self.config.mutation_probability * 2**_HALF)
    limit = jnp.where(kinds == _MUTATION, jnp.uint32(anew), (
        jnp.uint32(2**_HALF) if self._around is None else far))
    fresh = jnp.where(coin < limit[:, None], drawn, near)
    mixed = jnp.where(coin < 2**(_HALF - 1), one, other)
    return jnp.where((kinds == _CROSSOVER)[:, None], mixed, fresh)

  def run(self, rng: jax.Array, score: Callable[[jax.Array], jax.Array],
          generations: int | None = None) -> tuple[Generation, jax.Array]:
    """Runs all generations as one program; traced.

    Args:
      rng: a key.
      score: `genes i32[B, P] -> f32[B]`, traced; the more the better.
      generations: how many; None is the settings'.

    Returns:
      `Generation` with leading axis [T], and scores f32[T, B], -inf where a row
      is none.
    """
    def one(state, _):
      state, generation = self.ask(state)
      scores = jnp.where(generation.fresh, score(generation.genes), -jnp.inf)
      return self.tell(state, generation, scores), (generation, scores)

    return lax.scan(one, self.init(rng), None,
                    length=generations or self.config.generations)[1]

  def search(self, rng: jax.Array, score: Callable[[np.ndarray], Any],
             first: np.ndarray | None = None) -> Found:
    """Runs all generations, whose scores come from the host.

    Args:
      rng: a key.
      score: `genes i32[R, P] -> f[R]`, R at most the population's size (who
        pads them to that has one program); the more the better.
      first: i32[F, P], candidates that the first generation is to have, also
        where they break a constraint.

    Raises:
      errors.NotMet: no candidate keeps to the constraints.
    """
    state, genes, scores = self.init(rng), [], []
    for generation in range(self.config.generations):
      state, asked = self._ask(
          state, None if generation or first is None else jnp.asarray(first))
      fresh = np.asarray(asked.fresh)
      if not fresh.any():
        break  # All were visited.
      some = np.asarray(asked.genes)[fresh]
      value = np.asarray(score(some), np.float64)
      every = np.full(len(fresh), -np.inf)
      every[fresh] = value
      state = self._tell(state, asked, jnp.asarray(every, jnp.float32))
      genes.append(some)
      scores.append(value)
    if not genes:
      raise errors.NotMet(
          f"none of {self.config.population * _AT_ONCE * _ROUNDS} candidates"
          " drawn at random keeps to the constraints; allow more")
    return Found(np.concatenate(genes), np.concatenate(scores))


def among(found: places.Places, config: Any,
          limits: budget_lib.Budget) -> Evolution:
  """An evolution of a space's architectures within a budget.

  Where none of some thousand that are drawn uniformly keeps to it, they are
  drawn around the cheapest architecture (`Evolution`).

  Args:
    found: the space's places.
    config: has the fields of `EvolutionConfig`.
    limits: of parameters and multiply-adds.

  Raises:
    InputError: nothing keeps to the budget, or costs do not add up.
  """
  legal = found.legal(limits)
  uniform = Evolution(found.counts, config, legal=legal)
  if not limits or uniform.draws():
    return uniform
  near = Evolution(found.counts, config, legal=legal,
                   around=found.cheapest(limits))
  if near.draws():
    return near
  raise errors.InputError(refusal(found, limits))


def refusal(found: places.Places, limits: budget_lib.Budget) -> str:
  """That nothing in a space keeps to a budget, and what the least is."""
  least = limits.of(found.cost(found.cheapest(limits)))
  return (f"nothing drawn from search space '{found.connections.space.name}'"
          f" keeps to the budget ({limits.text()}); its cheapest architecture"
          f" has {least}; allow more")


def _bits(rng, rows, columns):
  """Random numbers u32[rows, columns].

  A counter scrambled by a key's words: most of an evolution's time would
  otherwise go into drawing numbers of a quality that it does not need.
  """
  words = jax.random.bits(rng, (2,), jnp.uint32)
  counter = np.arange(1, rows * columns + 1, dtype=np.uint32)
  counter = (counter * np.uint32(0x9E3779B9)).reshape(rows, columns)
  return _scramble(_scramble(counter ^ words[0]) + words[1])


def _scramble(value):
  """Numbers u32 that look as if drawn; a bijection."""
  for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
    value = (value ^ value >> shift) * jnp.uint32(factor)
  return value ^ value >> 16
