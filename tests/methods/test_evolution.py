"""Evolution: what it visits, what it keeps to, and that it finds something."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.methods import evolution

SMALL = evolution.EvolutionConfig(
    population=20, generations=12, parents=5, mutations=10, crossovers=6)
COUNTS = (5,) * 6


def values(counts=COUNTS, seed=0):
  """What every choice is worth, f32[P, C]."""
  return np.random.default_rng(seed).normal(
      size=(len(counts), max(counts))).astype(np.float32)


def worth(table):
  """A score that is the sum of what choices are worth; traced or not."""
  return lambda genes: jnp.asarray(table)[
      np.arange(len(table)), jnp.asarray(genes)].sum(-1)


def test_it_finds_more_than_random_search_and_visits_nothing_twice():
  table, regrets = values(), []
  most = table.max(1).sum()
  for seed in range(5):
    found = evolution.Evolution(COUNTS, SMALL).search(
        jax.random.key(seed), worth(table))
    assert found.genes.shape == (240, 6)
    assert len({*map(tuple, found.genes.tolist())}) == 240
    assert found.genes.min() == 0 and (found.genes.max(0) == 4).all()
    rng = np.random.default_rng(seed)
    drawn = worth(table)(rng.integers(0, 5, (240, 6)))
    best = found.scores[found.best(1)[0]]
    assert best == found.scores.max()
    regrets.append((most - best, most - drawn.max()))
  evolved, random = np.mean(regrets, axis=0)
  assert evolved < 0.3 * random


def test_one_program_gives_what_the_host_asks_step_by_step():
  table = values()
  search = evolution.Evolution(COUNTS, SMALL)
  found = search.search(jax.random.key(3), worth(table))
  keys = jax.random.split(jax.random.key(0), 3).at[1].set(jax.random.key(3))
  run = jax.jit(jax.vmap(lambda key: search.run(key, worth(table))))
  generations, scores = run(keys)
  assert bool(generations.fresh.all())
  np.testing.assert_array_equal(
      np.asarray(generations.genes[1]).reshape(-1, 6), found.genes)
  np.testing.assert_allclose(
      np.asarray(scores[1]).reshape(-1), found.scores, rtol=1e-6)
  # All generations share a program.
  assert search._ask._cache_size() == 1


def test_a_small_space_is_visited_whole_and_then_it_ends():
  counts = (3, 2, 3)
  found = evolution.Evolution(counts, evolution.EvolutionConfig(
      population=7, generations=9, mutations=3, crossovers=3)).search(
          jax.random.key(0), worth(values(counts)))
  assert sorted(map(tuple, found.genes.tolist())) == [
      *itertools.product(*map(range, counts))]


def test_a_large_space_is_known_by_hashes():
  counts = (7,) * 21
  search = evolution.Evolution(counts, SMALL)
  assert search.init(jax.random.key(0)).seen.shape == (2**22,)
  found = search.search(jax.random.key(0), worth(values(counts)))
  assert len({*map(tuple, found.genes.tolist())}) == len(found.genes) == 240
  number = np.asarray(search.number(jnp.asarray(found.genes)))
  assert len({*number.tolist()}) == 240
  # Random ones spread over all of it.
  assert np.abs(number[:20].mean() / 2**22 - 0.5) < 0.2


def test_children_are_of_their_parents():
  config = evolution.EvolutionConfig(
      population=3000, generations=1, parents=2, mutations=1000,
      crossovers=1000, mutation_probability=0.2)
  counts = (9,) * 20
  search = evolution.Evolution(counts, config)
  parents = jnp.array([[0] * 20, [8] * 20], jnp.int32)
  children = np.asarray(search._children(
      jax.random.key(0), parents, jnp.int32(2), jnp.asarray(search._kinds)))
  mutations, crossovers, random = np.split(children, 3)
  own = np.where((mutations == 8).sum(1) > 10, 8, 0)
  changed = (mutations != own[:, None]).mean()
  assert abs(changed - 0.2 * 8 / 9) < 0.01  # One in nine is drawn again.
  assert 400 < (own == 8).sum() < 600
  assert {*crossovers.reshape(-1).tolist()} == {0, 8}
  mixed = (crossovers == 8).mean(1)
  assert (mixed == 0).mean() > 0.2 and (mixed == 1).mean() > 0.2
  assert abs(mixed[(mixed > 0) & (mixed < 1)].mean() - 0.5) < 0.02
  counted = np.bincount(random.reshape(-1), minlength=9) / random.size
  np.testing.assert_allclose(counted, 1 / 9, atol=0.01)


def test_random_ones_are_drawn_around_a_candidate():
  config = evolution.EvolutionConfig(
      population=2000, generations=1, mutations=0, crossovers=0)
  around = [3] * 20
  search = evolution.Evolution((9,) * 20, config, around=around)
  drawn = np.asarray(search._children(
      jax.random.key(0), search.init(jax.random.key(1)).parents, jnp.int32(0),
      jnp.asarray(search._kinds)))
  kept = (drawn == around).mean(1)
  # A gene that is drawn is the old one once in nine times.
  np.testing.assert_allclose(
      np.quantile(kept, (0.1, 0.5, 0.9)), 1 / 9 + 8 / 9 * np.array(
          [0.1, 0.5, 0.9]), atol=0.06)


def test_constraints_are_kept_but_for_the_first():
  legal = lambda genes: genes.sum(-1) <= 5
  found = evolution.Evolution(COUNTS, SMALL, legal=legal).search(
      jax.random.key(0), worth(values()), np.full((1, 6), 4))
  assert found.genes[0].tolist() == [4] * 6
  assert (found.genes[1:].sum(1) <= 5).all() and len(found.genes) > 200


def test_a_constraint_that_nothing_meets_is_refused():
  search = evolution.Evolution(
      COUNTS, SMALL, legal=lambda genes: jnp.zeros(len(genes), bool))
  with pytest.raises(errors.NotMet, match="none of 20000 candidates drawn"):
    search.search(jax.random.key(0), worth(values()))


def test_a_score_that_is_no_number_has_no_children():
  table = values()
  table[0, 1] = np.nan
  found = evolution.Evolution(COUNTS, SMALL).search(
      jax.random.key(0), worth(table))
  assert np.isnan(found.scores[:20]).any()
  assert np.isnan(found.scores).mean() < 0.2
  assert not np.isnan(found.scores[found.best(5)]).any()


@pytest.mark.parametrize("change,message", [
    ({"population": 0}, "population is 0 and must be at least 1"),
    ({"mutations": 30}, "with 30 mutations and 25 crossovers a generation of"
     " 50"),
    ({"crossovers": -1}, "must not be negative"),
    ({"population": 100_000}, "population is 100000 and must be at most 16384"),
    ({"mutation_probability": 0.0}, r"must lie in \(0, 1\]")])
def test_settings_that_do_not_fit_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message):
    evolution.Evolution(COUNTS, evolution.EvolutionConfig(**change))


def test_places_without_a_choice_are_refused():
  for counts in ((), (3, 0)):
    with pytest.raises(errors.InputError, match="each needs 1 to 4096"):
      evolution.Evolution(counts, SMALL)
