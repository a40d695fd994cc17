"""The policy over a cell's edges: its graph, and what it sees."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax.graph import nasbench201 as cells201
from natjax.policies import line_graph

EDGES = cells201.EDGES


def make(layers=2, actions=5):
  policy = line_graph.LineGraphPolicy(EDGES, 5, actions, layers, 16)
  return policy, policy.init(jax.random.key(0), jnp.zeros(6, jnp.int32))


def test_edges_that_share_a_node_are_neighbours():
  senders, receivers = line_graph.neighbours(EDGES)
  pairs = set(zip(senders.tolist(), receivers.tolist(), strict=True))
  # Each of the six edges meets all others but one, its complement.
  complements = {0: 5, 1: 4, 2: 3, 3: 2, 4: 1, 5: 0}
  assert pairs == {(i, j) for i in range(6) for j in range(6)
                   if i != j and complements[i] != j}
  assert len(senders) == len(pairs)


def test_logits_equal_the_matrix_form():
  policy, variables = make()
  p = jax.tree.map(np.asarray, variables["params"])
  operation = np.array([0, 4, 2, 3, 3, 1])
  adjacency = np.eye(6)
  senders, receivers = line_graph.neighbours(EDGES)
  adjacency[receivers, senders] = 1
  degree = adjacency.sum(1)
  adjacency /= np.sqrt(np.outer(degree, degree))
  x = np.concatenate([np.eye(5)[operation], np.eye(6)], axis=1)
  relu = lambda a: np.maximum(a, 0)
  h = relu(x @ p["in"]["kernel"] + p["in"]["bias"])
  for i in range(2):
    h = h + relu(adjacency @ (h @ p[f"convolution{i}"]["kernel"])
                 + p[f"bias{i}"])
  expected = h @ p["out"]["kernel"] + p["out"]["bias"]
  np.testing.assert_allclose(
      policy.apply(variables, operation), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2, 5, 10])
def test_a_batch_equals_its_cells_one_by_one(layers):
  policy, variables = make(layers, actions=3)
  cells = jax.random.randint(jax.random.key(1), (2, 3, 6), 0, 5)
  together = jax.jit(policy.apply)(variables, cells)
  assert together.shape == (2, 3, 6, 3)
  for i in range(2):
    for j in range(3):
      np.testing.assert_allclose(
          together[i, j], policy.apply(variables, cells[i, j]), rtol=1e-4,
          atol=1e-5)


def test_it_knows_which_edge_is_which():
  policy, variables = make()
  logits = policy.apply(variables, jnp.full(6, 3))
  assert len(np.unique(np.round(logits, 7), axis=0)) == 6


@pytest.mark.parametrize("edge", range(6))
def test_every_edge_sees_every_operation(edge):
  # By two convolutions also its complement, two steps away.
  policy, variables = make()
  operation = jnp.full(6, 3)
  before = policy.apply(variables, operation)
  after = policy.apply(variables, operation.at[edge].set(1))
  assert (np.abs(after - before).max(-1) > 1e-7).all()
