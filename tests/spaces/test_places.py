"""Architectures as choices at places."""

import functools
import itertools

import jax
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.costs import budget, exact
from natjax.graph import codec, records
from natjax.methods import evolution
from natjax.spaces import connections, paths, places

SMALL = evolution.EvolutionConfig(
    population=12, generations=2, parents=3, mutations=6, crossovers=3)


@functools.cache
def make(name):
  space = spaces.get(name)
  place = codec.place(space.graph.kind, "cifar", 16, 8, num_classes=10,
                      image_size=32)
  return places.Places(connections.Connections(space, place, null=False)), place


def drawn(found, limits=budget.Budget()):  # noqa: B008
  search = evolution.Evolution(
      found.counts, SMALL, legal=found.legal(limits))
  return search.search(jax.random.key(0), lambda genes: genes.sum(-1))


@pytest.mark.parametrize("name,counts", [
    ("nasbench201", (5,) * 6),
    ("s3", (2, 2, 3, 2, 2, 6, 2, 2, 10, 2, 2) * 2),
    ("s1", (2, 2, 3, 2, 2, 6, 2, 2, 10, 2, 2) * 2),
    ("nat_loose_end", (8, 8, 3, 8, 8, 6, 8, 8, 10, 8, 8) * 2)])
def test_every_candidate_is_an_architecture_of_the_space(name, counts):
  found, place = make(name)
  assert found.counts == counts
  every = drawn(found)
  architectures = [found.architecture(genes) for genes in every.genes]
  assert len({codec.to_json(a) for a in architectures}) == len(architectures)
  for architecture in architectures:
    codec.check(architecture)
    for g, decision in enumerate(codec.decide(architecture, place, "cell")):
      if found.connections.inputs is not None:
        assert [e.target for e in decision.cell.edges] == [
            2, 2, 3, 3, 4, 4, 5, 5]
        assert len({e[1:] for e in decision.cell.edges}) == 8
      graph = [e[1:] for e in found.connections.decisions[g].cell.edges]
      for edge in decision.cell.edges:
        assert edge.operation in found.connections.space.names(
            g, graph.index(edge[1:])) or decision.fixed[
                decision.cell.edges.index(edge)]


@pytest.mark.parametrize("name", [
    "nasbench201", "s3", "nat_loose_end", "nasbench1shot1-3", "proxyless"])
def test_arrays_of_genes_are_those_of_their_architectures(name):
  found, place = make(name)
  own = paths.Paths(found.connections, place)
  genes = drawn(found).genes[:6]
  arrays = jax.jit(found.arrays)(genes, own.encode(
      found.architecture(genes[-1])))
  for i, row in enumerate(genes):
    one = jax.tree.map(lambda a, i=i: np.asarray(a[i]), arrays)
    # A node's edges may stand in another order, and nothing else.
    sort = lambda architecture: [
        ({*d.cell.edges}, d.cell.concat) for d in own.decisions(architecture)]
    assert sort(own.decode(one)) == sort(found.architecture(row))


@pytest.mark.long
@pytest.mark.parametrize("name", ["nasbench201", "s1", "darts"])
def test_a_budget_is_kept_to_the_parameter(name):
  found, place = make(name)
  cost = lambda genes: exact.network(found.architecture(genes), place)
  every = drawn(found).genes
  middle = sorted(map(cost, every))[len(every) // 2]
  for limits in (budget.Budget(params=middle.params),
                 budget.Budget(params=middle.params - 1),
                 budget.Budget(madds=middle.madds, params=1e9)):
    np.testing.assert_array_equal(
        np.asarray(found.legal(limits)(every)),
        [limits.allows(cost(genes)) for genes in every])


@pytest.mark.parametrize("name", [
    "nasbench201", "s3", "nasbench1shot1-1", "shufflenet"])
def test_the_cheapest_is_as_cheap_as_any(name):
  found, place = make(name)
  limits = budget.Budget(1e5, 1e7)
  best = found.cheapest(limits)
  least = exact.network(found.architecture(best), place)
  assert found.cost(best)[:2] == least[:2]
  # No choices at one place or two are cheaper, nor is anything drawn.
  others = [np.random.default_rng(0).integers(0, found.counts, (
      1000, len(found.counts)))]
  for at in itertools.combinations(range(len(found.counts)), 2):
    for choice in itertools.product(*(range(found.counts[p]) for p in at)):
      others.append(best[None].copy())
      others[-1][0, at] = choice
  every = np.concatenate(others)
  every = every[np.asarray(found.legal(budget.Budget())(every))]
  assert len(every) > 100
  costs, bare = found.connections.costs
  spent = bare[:, None] + costs[:, np.asarray(found.stands(every))].sum(-1)
  assert (spent.T / limits[:2]).sum(-1).min() == pytest.approx(
      sum(np.divide(least[:2], limits[:2])))
  one = found.cost(found.cheapest(budget.Budget(madds=1.0)))
  assert one.madds <= spent[1].min()


def test_costs_that_do_not_add_up_have_no_budget():
  found, _ = make("nat_loose_end")
  with pytest.raises(errors.InputError, match="costs do not add up"):
    found.legal(budget.Budget(params=1e6))


def test_choices_that_differ_by_edge_leave_no_wrong_one():
  names = ("max_pool_3x3", "skip_connect", "null")
  edges = [names[:2] if k % 2 else names[1:2] for k in range(5)]
  space = spaces.cells("uneven", names, num_nodes=2,
                       choices=(tuple(edges), tuple(edges)))
  place = records.Skeleton(init_channels=4, cells=3, image_size=8)
  found = places.Places(connections.Connections(space, place, null=False))
  # The first node keeps both of its edges, the other two of three.
  assert found.counts == (2, 2, 3, 2, 2) * 2
  for genes in drawn(found).genes:
    for cell in found.architecture(genes):
      for edge in cell.edges:
        at = [e[1:] for e in space.graph.normal.edges].index(edge[1:])
        assert edge.operation in edges[at]
