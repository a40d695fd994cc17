"""Nearest neighbours against a plain implementation."""


import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax.objectives import neighbours


def draw(size, features=6, seed=0):
  return np.random.default_rng(seed).normal(size=(size, features)).astype("f")


BANK, QUERIES = draw(70), draw(33, seed=1)
LABELS = np.random.default_rng(2).integers(0, 4, 70).astype(np.int32)


def naive(bank, labels, queries, num_classes, k, temperature):
  unit = lambda x: x / np.linalg.norm(x.astype(np.float64))
  classes = []
  for query in queries:
    s = np.array([unit(b) @ unit(query) for b in bank])
    votes = np.zeros(num_classes)
    for i in np.argsort(-s)[:k]:
      votes[labels[i]] += np.exp(s[i] / temperature)
    classes.append(np.argmax(votes))
  return np.array(classes)


@pytest.mark.parametrize("k, temperature, block", [
    (1, 0.5, 256), (10, 0.5, 8), (10, 0.07, 33), (200, 0.5, 7)])
def test_votes_are_those_of_the_plain_form(k, temperature, block):
  """Also of queries that do not fill a block, and of k above N."""
  found = neighbours.predict(BANK, LABELS, QUERIES, 4, k=k,
                             temperature=temperature, block=block)
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(
      found, naive(BANK, LABELS, QUERIES, 4, k, temperature))


def test_weights_matter():
  """One near neighbour outvotes two far ones, unless all weigh alike."""
  bank = np.array([[1, 0], [-1, 1], [-1, 1.1]], np.float32)
  labels, query = np.array([1, 0, 0]), np.array([[1, 0.1]], np.float32)
  near, far = (neighbours.predict(bank, labels, query, 2, temperature=t)
               for t in (0.5, 100.0))
  assert (near[0], far[0]) == (1, 0)


def test_lengths_do_not_matter_and_small_temperatures_do_not_overflow():
  expected = neighbours.predict(BANK, LABELS, QUERIES, 4, k=5)
  scale = np.random.default_rng(3).uniform(0.1, 10, (70, 1)).astype("f")
  np.testing.assert_array_equal(
      neighbours.predict(BANK * scale, LABELS, 3 * QUERIES, 4, k=5), expected)
  nearest = neighbours.predict(BANK, LABELS, QUERIES, 4, k=1)
  np.testing.assert_array_equal(
      neighbours.predict(BANK, LABELS, QUERIES, 4, k=70, temperature=1e-3),
      nearest)
  zeros = neighbours.predict(BANK, LABELS, 0 * QUERIES, 4, k=5)
  assert np.all((zeros >= 0) & (zeros < 4))


def test_memory_is_that_of_a_block():
  """And not of all queries, nor of another bank."""
  shape = lambda *s: jax.ShapeDtypeStruct(s, jnp.float32)
  compiled = neighbours._predict.lower(
      shape(5000, 64), jax.ShapeDtypeStruct((5000,), jnp.int32),
      shape(3200, 64), 10, 200, 0.5, 16).compile()
  # Three vectors per query: more where all are sorted.
  assert compiled.memory_analysis().temp_size_in_bytes < 3 * 4 * 16 * 5000


@pytest.mark.parametrize("change, message", [
    ({"k": 0}, "k is 0"), ({"block": 0}, "block is 0"),
    ({"temperature": -1.0}, "temperature is -1")])
def test_settings_are_checked(change, message):
  with pytest.raises(errors.InputError, match=message):
    neighbours.predict(BANK, LABELS, QUERIES, 4, **change)


@pytest.mark.parametrize("bank, labels, queries", [
    (BANK[:0], LABELS[:0], QUERIES), (BANK, LABELS[1:], QUERIES),
    (BANK, LABELS, QUERIES[:, 1:]), (BANK, LABELS, QUERIES[0])])
def test_shapes_are_checked(bank, labels, queries):
  with pytest.raises(errors.InputError, match="do not fit together"):
    neighbours.predict(bank, labels, queries, 4)
