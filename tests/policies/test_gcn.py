"""The graph policy: what it sees, and its published form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.graph import arrays as arrays_lib
from natjax.methods import nat_config
from natjax.policies import gcn

CANDIDATES = spaces.SPACES["nat"].candidates


def cell_of(index=0):
  arrays = arrays_lib.encode(zoo.get("darts"), CANDIDATES)
  return jax.tree.map(lambda a: jnp.asarray(a[index]), arrays)


def make(published, layers=2, actions=3):
  policy = gcn.GCNPolicy(len(CANDIDATES), actions, layers, published)
  return policy, policy.init(jax.random.key(0), cell_of(), 0)


def count(params):
  return sum(leaf.size for leaf in jax.tree.leaves(params))


def test_published_parameter_counts():
  assert count(make(True)[1]) == 320_330
  # NAT++ has 13 operations and as many actions.
  policy = gcn.GCNPolicy(13, 13, 2, True)
  assert count(policy.init(jax.random.key(0), cell_of(), 0)) == 322_750


def test_published_logits_equal_the_matrix_form():
  policy, variables = make(True)
  p = variables["params"]
  cell = cell_of(1)
  n = cell.source.shape[0]
  adjacency = np.zeros((n + 2, n + 2))
  for node in range(n):
    for slot in range(2):
      adjacency[node + 2, int(cell.source[node, slot])] += 1
  edges = np.asarray(p["operation"]["embedding"])[np.asarray(cell.operation)]
  x = np.concatenate([p["input"]["embedding"], edges.reshape(n, -1)])
  dense = lambda name, x: x @ p[name]["kernel"] + p[name]["bias"]
  h = adjacency @ (dense("in", x) @ p["convolution0"]["kernel"]) + p["bias0"]
  z = adjacency @ (np.maximum(h, 0) @ p["convolution1"]["kernel"]) + p["bias1"]
  expected = dense("out", z[2:]).reshape(n, 2, 3)
  np.testing.assert_allclose(
      policy.apply(variables, cell, 1), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("index", [0, 1])
def test_default_sees_every_operation_and_published_does_not(index):
  cell = cell_of(index)
  default, published = make(False), make(True)
  for node in range(4):
    for slot in range(2):
      old = int(cell.operation[node, slot])
      changed = cell.replace(
          operation=cell.operation.at[node, slot].set((old + 1) % 8))
      for (policy, variables), sees in ((default, True), (published, False)):
        before = policy.apply(variables, cell, index)
        after = policy.apply(variables, changed, index)
        moved = np.abs(after - before).max(-1) > 1e-7
        # Its own logits, and those of the node's other edge.
        assert moved[node].all() == sees
        if sees:
          for later in range(4):
            if node + 2 in np.asarray(cell.source[later]):
              assert moved[later].all()
        else:
          # In both cells of DARTS no logit depends on any operation.
          assert not moved.any()


def test_default_knows_where_an_edge_stands():
  policy, variables = make(False)
  same = arrays_lib.CellArrays(
      source=jnp.zeros((4, 2), jnp.int32),
      operation=jnp.full((4, 2), 3, jnp.int32), concat=jnp.ones(4, bool))
  logits = policy.apply(variables, same, 0).reshape(8, 3)
  assert len(np.unique(np.round(logits, 7), axis=0)) == 8
  moved = policy.apply(variables, same.replace(
      source=same.source.at[1, 0].set(1)), 0)
  assert np.abs(moved - policy.apply(variables, same, 0))[1].max() > 1e-7
  assert np.abs(policy.apply(variables, same, 1)
                - policy.apply(variables, same, 0)).max() > 1e-7


@pytest.mark.parametrize("layers", gcn.LAYERS)
def test_layers_and_batches(layers):
  policy, variables = make(False, layers)
  cells = jax.tree.map(lambda *a: jnp.stack(a), cell_of(0), cell_of(1))
  reduction = jnp.arange(2)
  apply = lambda cell, r: policy.apply(variables, cell, r)
  batched = jax.jit(jax.vmap(apply))(cells, reduction)
  assert batched.shape == (2, 4, 2, 3)
  np.testing.assert_allclose(
      batched[1], apply(cell_of(1), 1), rtol=1e-4, atol=1e-5)
  names = [k for k in variables["params"] if k.startswith("convolution")]
  assert len(names) == layers


def test_other_numbers_of_layers_are_refused():
  with pytest.raises(errors.InputError, match="1, 2, 5, 10") as e:
    nat_config.resolve(nat_config.NATConfig(gcn_layers=3), "cells")
  assert e.value.field == "gcn_layers"


@pytest.mark.long
@pytest.mark.parametrize("published", [False, True])
def test_slots_input_nodes_and_cell_types(published):
  # Three slots per node, one input node, five cell types.
  policy = gcn.GCNPolicy(5, 4, 2, published, cell_types=5, num_inputs=1)
  cell = arrays_lib.CellArrays(
      source=jnp.array([[0, 0, 0], [0, 1, 0], [0, 1, 2]]),
      operation=jnp.array([[3, 0, 0], [2, 1, 0], [4, 3, 2]]),
      concat=jnp.array([False, False, True]))
  variables = policy.init(jax.random.key(0), cell, 4)
  params = variables["params"]
  assert params["input"]["embedding"].shape == (1, 300)
  logits = policy.apply(variables, cell, 4)
  assert logits.shape == (3, 3, 4)
  other = policy.apply(variables, cell, 3)
  if published:
    np.testing.assert_array_equal(logits, other)
    assert "cell_type" not in params
  else:
    assert params["cell_type"]["embedding"].shape == (5, 300)
    assert params["source"]["embedding"].shape == (4, 100)
    assert np.abs(logits - other).max() > 1e-7
    # What stands in the third slot of the last node is seen.
    changed = cell.replace(operation=cell.operation.at[2, 2].set(1))
    moved = policy.apply(variables, changed, 4)
    assert np.abs(moved - logits)[2].max() > 1e-7
