"""NAT++: its counts, its guards, what may become what."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import spaces
from natjax.costs import exact as cost
from natjax.graph import skeleton
from natjax.policies import policy as policy_lib
from natjax.policies import sampling
from natjax.spaces import ground as ground_lib
from natjax.spaces import inputs
from tests import architectures

PLACES = (skeleton.Skeleton(), skeleton.DEFAULTS["imagenet"])
SMALL = skeleton.Skeleton(init_channels=4, cells=3, image_size=8)


@functools.cache
def make(name="natpp", *, published=False):
  """The ground of a space, and what draws its inputs."""
  space = spaces.get(name)
  ground = ground_lib.Ground(
      space, SMALL, PLACES, scheme=space.scheme, published=published)
  return ground, inputs.sampler(ground, published=published)


def size(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def test_parameters_of_the_published_policy():
  policy = policy_lib.CellPolicy(
      make(published=True)[0], layers=2, published=True)
  params = jax.eval_shape(policy.init, jax.random.key(0))
  assert size(params) == 322750


@functools.cache
def _transform(name="natpp", published=False):
  d, sample = make(name, published=published)

  def run(key):
    k1, k2, k3 = jax.random.split(key, 3)
    beta = sample(k1)
    logits = 3 * jax.random.normal(k2, (*d.shape, len(d.table.actions)))
    # Now and then all but a few edges are kept, as a trained policy would.
    keep = beta.operation[..., None] == jnp.asarray(
        d.table.outcome)[beta.operation]
    logits += 8 * keep * jax.random.bernoulli(key)
    actions = jax.vmap(lambda cell, rows, k, row: sampling.sample(
        k, row, cell, rows, d.table))(
            beta, d.rows(beta), jax.random.split(k3, 2), logits)
    return beta, sampling.apply_actions(beta, actions, d.table)
  return jax.jit(run)


def transformed(seed, name="natpp", *, published=False):
  """A random architecture and a random transformation of it."""
  d, _ = make(name, published=published)
  beta, alpha = jax.device_get(
      _transform(name, published)(jax.random.key(seed)))
  before = d.decode(beta)
  return before, d.decode(alpha, before)


@pytest.mark.long
@pytest.mark.parametrize("name", ["natpp", "natpp_loose_end"])
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31 - 1))
def test_no_transformation_violates_a_guard(name, seed):
  before, after = transformed(seed, name)
  for place in PLACES:
    old, new = (cost.network(g, place) for g in (before, after))
    assert new.params <= old.params and new.madds <= old.madds
  for old, new in zip(before, after, strict=True):
    kept = architectures.alive(old) & set(old.concat)
    assert kept <= architectures.alive(new)


@pytest.mark.long
def test_published_transformations_do_violate():
  """Pooling may become a strided skip, which holds weights; nodes may die."""
  violations = dead = 0
  for seed in range(200):
    before, after = transformed(seed, published=True)
    violations += (cost.network(after, PLACES[0]).params
                   > cost.network(before, PLACES[0]).params)
    dead += any(set(c.concat) - architectures.alive(c) for c in after)
  assert violations and dead


def test_every_transition_is_taken():
  """Random transformations use every valid pair of operations, no other."""
  d, _ = make()
  betas, alphas = jax.vmap(_transform())(
      jax.random.split(jax.random.key(0), 3000))
  before = np.asarray(betas.operation).reshape(-1)
  after = np.asarray(alphas.operation).reshape(-1)
  count = len(d.candidates)
  seen = np.zeros((count, count), bool)
  seen[before, after] = True
  np.testing.assert_array_equal(seen, d.table.valid.any(0))
