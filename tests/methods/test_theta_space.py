"""What theta may choose, and what it chooses."""

from hypothesis import given, settings
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, zoo
from natjax.costs import budget
from natjax.costs import exact as cost
from natjax.graph import blocks, skeleton
from natjax.graph import genotype as architecture
from natjax.methods import theta_space
from natjax.networks import network as network_lib
from natjax.operations import edges
from tests import architectures

FRAME = blocks.Frame(10, 32)
NONE, ID, SAME = theta_space.NONE, theta_space.ID, theta_space.SAME


def resnet(share="full"):
  return theta_space.ThetaSpace(zoo.get("resnet20"), FRAME, share)


def darts():
  return theta_space.ThetaSpace(zoo.get("darts"), skeleton.Skeleton(cells=8))


def test_groups_by_cell_type_topology_or_each_by_itself():
  assert [g.name for g in darts().groups] == ["normal", "reduce"]
  assert darts().groups[1].members == (2, 5)
  assert [g.name for g in resnet("cell").groups] == [
      "blocks 0-2, 4-5, 7-8", "blocks 3, 6"]
  assert [g.name for g in resnet().groups] == [f"block {i}" for i in range(9)]


def test_what_may_stand_on_the_edges_of_a_residual_block():
  group = resnet().groups[0]
  assert [e.operation for e in group.cell.edges] == [
      "conv_3x3", "null", "conv_3x3", "skip_connect"]
  assert group.allowed.tolist() == [
      [True, True, True], [False, True, True], [True, True, True],
      [True, True, True]]
  strided = resnet().groups[3]
  # The null edge of the strided block would need a projection, which costs.
  assert not strided.allowed[1, ID]
  assert strided.allowed[0, ID]


def test_pooling_at_stride_2_cannot_become_a_skip():
  reduce = darts().groups[1]
  for edge, allowed in zip(reduce.cell.edges, reduce.allowed, strict=True):
    assert allowed[ID] == (edge.operation == "skip_connect"
                           or edge.source >= architecture.NUM_INPUTS)


def test_the_largest_theta_wins_and_zero_is_the_threshold():
  space = resnet()
  theta = [np.array(t) for t in space.init()]
  theta[0][0] = (0, 0.4, 0.3)  # An identity.
  theta[1][2] = (0, -0.2, -0.1)  # Both below 0: it goes.
  theta[2][1] = (0, 0.9, 1.0)  # A null's identity must come above 1.
  theta[4][1] = (0, 1.1, 1.0)
  chosen = space.choose(theta)
  assert [chosen[g][e] for g, e in ((0, 0), (1, 2), (2, 1), (4, 1))] == [
      ID, NONE, SAME, ID]
  found = space.apply(chosen)
  assert [e.operation for e in found.blocks[0].edges] == [
      "skip_connect", "null", "conv_3x3", "skip_connect"]
  # Without its second convolution, the first of block 1 leads nowhere.
  assert [e.operation for e in found.blocks[1].edges] == [
      "null", "null", "null", "skip_connect"]
  assert found.blocks[4].edges[1].operation == "skip_connect"


def test_a_node_keeps_its_strongest_edge():
  space = resnet("cell")
  theta = [np.array(t) for t in space.init()]
  theta[0][2], theta[0][3] = (0, -0.3, -0.5), (0, -0.4, -0.9)
  chosen = space.choose(theta)
  assert chosen[0].tolist()[2:] == [ID, NONE]
  assert space.favourites(theta)[0].tolist()[2:] == [NONE, NONE]


def test_of_two_operations_on_one_edge_each_has_its_theta():
  """Node 3 of the reduction cell: five edges, an operation twice among them."""
  space = theta_space.ThetaSpace(
      architectures.MANY, skeleton.Skeleton(cells=8))
  assert [t.shape for t in space.init()] == [(11, 3), (11, 3)]
  theta = [np.array(t) for t in space.init()]
  theta[1][4] = (0, -1, -1)  # The second 1x1 convolution from node 0.
  theta[1][7] = (0, 0.5, 0.4)  # Pooling of node 2, beside a skip.
  found = space.apply(space.choose(theta))
  assert found.normal == architectures.MANY.normal
  assert [e.operation for e in found.reduce.incoming(3)] == [
      "conv_1x1", "null", "sep_conv_3x3", "skip_connect", "skip_connect"]
  theta[1][3:8] = (0, -1, -2)  # All of them would go; the best stays.
  theta[1][5] = (0, -1, -0.5)
  found = space.apply(space.choose(theta))
  assert [e.operation for e in found.reduce.incoming(3)] == [
      "null", "null", "sep_conv_3x3", "null", "null"]


def test_fixed_nodes_are_left_alone():
  network = architecture.unshared(
      zoo.get("darts"), skeleton.Skeleton("cifar", 4, 3, 10, 8))
  space = theta_space.ThetaSpace(network, blocks.Frame(10, 8), "full")
  for group in space.groups:
    assert group.allowed[:2].tolist() == [[False, False, True]] * 2


def costs_edge_by_edge(space, chosen):
  return cost.network(space.apply(chosen), space.place)


def dead_nodes(cell):
  """Nodes that feed the output, and are themselves fed by nothing."""
  live = {0, 1}
  for n in range(2, 2 + cell.num_nodes):
    if any(e.operation != operations.NULL and e.source in live
           for e in cell.incoming(n)):
      live.add(n)
  used = set(cell.concat) | {e.source for e in cell.edges
                             if e.operation != operations.NULL}
  return {n for n in used if n not in live}


SPACES = {"darts": darts(), "resnet20": resnet(),
          "mobilenetv2": theta_space.ThetaSpace(
              zoo.get("mobilenetv2"), FRAME, "full"),
          "resnet50": theta_space.ThetaSpace(
              zoo.get("resnet50"), FRAME, "cell")}


@pytest.mark.long
@pytest.mark.parametrize("name", SPACES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_nothing_costs_more_and_no_node_dies(name, data):
  space = SPACES[name]
  rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
  theta = [rng.normal(data.draw(st.sampled_from((-1.0, 0.0, 1.0))), 1,
                      (len(g.cell.edges), 3)) * (0, 1, 1)
           for g in space.groups]
  factor = data.draw(st.sampled_from((None, 0.7, 0.95)))
  limits = None if factor is None else space.reachable(
      budget.read(f"{factor}x", "", space.cost))
  chosen = space.choose(theta, limits)
  found = costs_edge_by_edge(space, chosen)
  # What `choose` reckons edge by edge is what the architecture costs.
  assert found[:2] == space._spent(
      list(chosen), budget.Budget(), ()).cost[:2]
  assert found.params <= space.cost.params * (factor or 1)
  assert found.madds <= space.cost.madds
  derived = space.apply(chosen)
  cells = derived if space is SPACES["darts"] else [
      b.cell for b in derived.blocks]
  assert not any(dead_nodes(cell) for cell in cells)


@pytest.mark.parametrize("factor", [None, 0.9])
def test_guards_hold_for_nodes_of_many_inputs(factor):
  space = theta_space.ThetaSpace(
      architectures.MANY, skeleton.Skeleton(cells=8))
  limits = space.reachable(
      budget.read(f"{factor}x", "", space.cost)) if factor else None
  rng, seen = np.random.default_rng(0), set()
  for i in range(60):
    theta = [rng.normal(i % 3 - 1, 1, (11, 3)) * (0, 1, 1) for _ in range(2)]
    derived = space.apply(space.choose(theta, limits))
    found = cost.network(derived, space.place)
    assert found.params <= space.cost.params * (factor or 1)
    assert found.madds <= space.cost.madds
    assert not any(map(dead_nodes, derived))
    seen.add(derived)
  assert len(seen) > 40


def test_a_budget_gives_up_what_theta_weighs_least():
  space = resnet()
  theta = [np.array(t) for t in space.init()]
  # The last blocks hold most; of their equal edges one is weighed least.
  theta[8][2] = (0, 0, 0.1)
  limits = space.reachable(budget.read("0.9x", "", space.cost))
  chosen = space.choose(theta, limits)
  assert chosen[8][2] != SAME
  assert all((c == SAME).all() for c in chosen[:8])


def test_a_budget_gives_up_no_more_than_it_must():
  space = resnet()
  chosen = space.choose(space.init(), space.reachable(
      budget.read("0.95x", "", space.cost)))
  changed = [(g.name, e) for g, c in zip(space.groups, chosen, strict=True)
             for e in np.flatnonzero(c != SAME)]
  assert len(changed) == 1  # One convolution, and none that feeds it.
  cost = costs_edge_by_edge(space, chosen)
  assert 0.85 * space.cost.params < cost.params <= 0.95 * space.cost.params


def test_a_budget_that_nothing_keeps_to():
  with pytest.raises(errors.NotMet, match="keeps to the budget"):
    resnet().reachable(budget.Budget(params=100))


def test_refusals():
  with pytest.raises(errors.InputError, match="share"):
    resnet("half")
  with pytest.raises(errors.InputError, match=r"genotype\.unshared"):
    theta_space.ThetaSpace(zoo.get("darts"), skeleton.Skeleton(), "full")


def test_theta_begins_at_0_0_1():
  space = resnet("cell")
  assert [jnp.shape(t) for t in space.init()] == [(4, 3), (4, 3)]
  assert space.named(space.init())["blocks 3, 6"][0] == [0.0, 0.0, 1.0]
  # `weigh` hands every block the theta of its group.
  theta = [jnp.full((4, 3), 10.0), jnp.full((4, 3), 20.0)]
  image = jnp.ones((1, 1, 1, 1))
  one = lambda name: image
  ends = edges.Ends(1, 1, 1, 1)
  sites = [network_lib.Site(i, 3, "skip_connect", one, one, image, ends,
                            one) for i in range(9)]
  weighed = [space.weigh(tuple(theta))(site)[0].item() for site in sites]
  assert weighed == [40 if i in (3, 6) else 20 for i in range(9)]


@pytest.mark.long
@pytest.mark.parametrize("name", [
    n for n in zoo.names() if n not in zoo.genotype_names()])
def test_every_network_of_the_zoo_has_a_space_and_a_weighed_network(name):
  network = zoo.get(name)
  face = "face" in zoo.handcrafted.skeletons(name) if (
      name in zoo.handcrafted.BUILDERS) else False
  place = blocks.Frame(10, 112 if face else 32)
  cells = theta_space.ThetaSpace(network, place, "cell")
  space = theta_space.ThetaSpace(network, place, "full")
  assert len(space.groups) == len(network.blocks) >= len(cells.groups)
  for each in (space, cells):
    assert each.apply(each.choose(each.init())) == each.architecture
  net = network_lib.module(space.architecture, place)
  x = jax.ShapeDtypeStruct((2, place.image_size, place.image_size, 3), "f")
  variables = jax.eval_shape(lambda x: net.init(
      jax.random.key(0), x, edge=space.weigh(space.init())), x)
  count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
  # The projections of identities across shapes come on top.
  assert count >= space.cost.params
