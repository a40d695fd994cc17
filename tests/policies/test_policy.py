"""A policy over the decisions of a space: what it sees, and of what."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces, zoo
from natjax.graph import blocks, genotype, records
from natjax.policies import gcn
from natjax.policies import policy as policy_lib
from natjax.spaces import ground as ground_lib
from natjax.zoo import handcrafted
from tests import architectures

FRAME = blocks.Frame(10, 8)
SKELETON = records.Skeleton("cifar", 4, 5, 10, 16)


@functools.cache
def make(name="resnet20", share="cell"):
  """A ground, its policy, parameters, and the logits as a function."""
  network = blocks.scale(handcrafted.build(name), 0.5)
  ground = ground_lib.Ground(
      spaces.space_for(network, method="natpp", share=share), FRAME,
      scheme="natpp")
  policy = policy_lib.CellPolicy(ground, layers=2)
  return ground, policy.init(jax.random.key(0)), jax.jit(policy.logits)


def start(ground):
  return jax.tree.map(jnp.asarray, ground.start)


def test_the_published_policy_refuses_a_network_without_a_cell_in_common():
  network = handcrafted.build("resnet20")
  one = network._replace(blocks=network.blocks[:1])
  for space in (spaces.space_for(network, method="natpp", share="full"),
                spaces.space_for(one)):
    ground = ground_lib.Ground(space, FRAME, scheme="nat", published=True)
    with pytest.raises(errors.InputError, match="repeats") as e:
      policy_lib.CellPolicy(ground, layers=2, published=True)
    assert e.value.field == "policy" and "\n" not in str(e.value)
    assert "default policy" in str(e.value)
  # Cells are repeated, and so are the blocks of a whole ResNet20.
  for space, place in ((spaces.get("nat"), SKELETON),
                       (spaces.space_for(network), FRAME)):
    ground = ground_lib.Ground(space, place, scheme="nat", published=True)
    policy_lib.CellPolicy(ground, layers=2, published=True)


@pytest.mark.parametrize("share", ["cell", "full"])
def test_every_decision_sees_its_own_operation(share):
  """Changing an edge's operation changes that edge's logits."""
  ground, params, logits = make(share=share)
  beta = start(ground)
  first = logits(params, beta)
  assert first.shape == (*ground.shape, len(ground.table.actions))
  skip = ground.candidates.index("skip_connect")
  for at in [(0, 0, 0), (1, 1, 0)]:
    other = logits(params, beta.replace(
        operation=beta.operation.at[at].set(skip)))
    assert np.abs(other[at] - first[at]).max() > 1e-5


def test_the_full_graph_reaches_beyond_a_block():
  ground, params, logits = make(share="full")
  beta = start(ground)
  skip = ground.candidates.index("skip_connect")
  other = beta.replace(operation=beta.operation.at[3, 1, 0].set(skip))
  change = np.abs(logits(params, other) - logits(params, beta)).max((1, 2, 3))
  assert change[3] > 0 and change[4] > 0 and change[8] == 0


def test_a_shared_graph_does_not():
  ground, params, logits = make()
  beta = start(ground)
  skip = ground.candidates.index("skip_connect")
  other = beta.replace(operation=beta.operation.at[0, 1, 0].set(skip))
  change = np.abs(logits(params, other) - logits(params, beta)).max((1, 2, 3))
  assert change[0] > 0 and change[1] == 0


def test_logits_of_cells_are_those_of_the_graph_network_per_cell():
  """In NAT's space the second cell is told that it reduces."""
  ground = ground_lib.Ground(spaces.get("nat"), SKELETON, scheme="nat")
  policy = policy_lib.CellPolicy(ground, layers=2)
  params = policy.init(jax.random.key(0))
  arrays = jax.tree.map(jnp.asarray, ground.encode(zoo.get("darts")))
  found = jax.jit(policy.logits)(params, arrays)
  assert found.shape == (2, 4, 2, 3)
  module = gcn.GCNPolicy(9, 3, 2)
  for g in range(2):
    np.testing.assert_allclose(found[g], module.apply(
        {"params": params}, jax.tree.map(lambda a, g=g: a[g], arrays), g),
        rtol=1e-4, atol=1e-5)


def test_unequal_cells_with_three_inputs_have_logits():
  ground = ground_lib.Ground(
      spaces.space_for(architectures.UNEQUAL), SKELETON, scheme="nat")
  policy = policy_lib.CellPolicy(ground, layers=2)
  params = policy.init(jax.random.key(0))
  arrays = jax.tree.map(jnp.asarray, ground.encode(architectures.UNEQUAL))
  found = jax.jit(policy.logits)(params, arrays)
  assert found.shape == (2, 3, 3, 3)
  # The third input of node 3 is seen.
  changed = (arrays.operation[0, 1, 2] + 1) % 8
  other = arrays.replace(
      operation=arrays.operation.at[0, 1, 2].set(changed))
  moved = jax.jit(policy.logits)(params, other)
  assert np.abs(moved - found)[0, 1, 2].max() > 1e-6


def test_the_full_graph_of_cells_that_are_not_shared_by_hand():
  """Two cells of two nodes; what a concatenation joins are links."""
  cell = architectures.cell(
      ("conv_3x3", 0, 2), ("conv_3x3", 1, 3), concat=(2, 3))
  network = genotype.unshared(
      genotype.Genotype(cell, cell), records.Skeleton("cifar", 4, 2, 10, 16))
  space = spaces.space_for(network, share="full")
  ground = ground_lib.Ground(space, records.Frame(10, 16), scheme="nat")
  policy = policy_lib.CellPolicy(ground, layers=2)
  # Nodes 2 to 5 are the first cell's, 6 to 9 the second's, whose node 1 is the
  # concatenation of 4 and 5, of which 5 stands as the edge's source.
  assert ground.shape == (2, 4, 2)
  assert (4, 7) in policy.module.links
  assert all(sender == 4 for sender, _ in policy.module.links)
  assert [d.cell.concat for d in ground.decisions] == [(4, 5), (4, 5)]


def test_what_is_drawn_has_its_probability_and_costs_no_more():
  ground, params, _ = make()
  policy, beta = policy_lib.CellPolicy(ground, layers=2), start(ground)
  # Old keys, too.
  actions = jax.jit(policy.sample)(jax.random.PRNGKey(3), params, beta)
  other = policy.transformed(beta, actions)
  given, found = (ground.decode(a, ground.space.graph) for a in (beta, other))
  assert given == ground.space.graph and found != given
  assert ground.cost(found).madds <= ground.cost(given).madds
  log_prob = jax.jit(lambda actions: policy.log_prob(params, beta, actions))
  # What the table forbids has probability 0.
  last = ground.decisions[-1].cell.edges[-1]
  at = (-1, last.target - records.NUM_INPUTS, 0)
  rows = jnp.stack([actions.at[at].set(a)
                    for a in range(len(ground.table.actions))])
  logs = jax.vmap(log_prob)(rows)
  assert logs[actions[at]] == log_prob(actions)
  assert jnp.isfinite(log_prob(actions)) and not jnp.isfinite(logs).all()
  assert float(jax.jit(policy.entropy)(params, beta)) > 0
  likeliest = jax.jit(policy.mode)(params, beta)
  assert log_prob(likeliest) > log_prob(actions)
