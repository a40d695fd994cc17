"""Single paths: what is drawn, how often, and what it costs."""

import functools

import jax
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.costs import exact
from natjax.graph import codec
from natjax.spaces import chains, connections, paths

TINY = spaces.cells(
    "tiny", ("max_pool_3x3", "skip_connect", "conv_3x3", "null"), num_nodes=3)
SPACES = {
    "tiny": TINY, "loose": TINY._replace(name="loose", loose_end=True),
    "s1": spaces.get("s1"), "nasbench201": spaces.get("nasbench201"),
    "proxyless": chains.fit(spaces.get("proxyless"), 8, layers=2, width=0.25)}


@functools.cache
def make(name):
  space = SPACES[name]
  kind = space.graph.kind
  place = codec.place(kind, "cifar", 4, 4, num_classes=3, image_size=8)
  return paths.Paths(
      connections.Connections(space, place, null=False), place)


@functools.cache
def drawn(name, count=400):
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(make(name).draw))(
      jax.random.split(jax.random.key(1), count)))


def at(tree, i):
  return jax.tree.map(lambda leaf: leaf[i], tree)


@pytest.mark.parametrize("name", SPACES)
def test_a_path_is_an_architecture_of_the_space_and_costs_what_that_does(name):
  found, space = make(name), SPACES[name]
  for i in range(20):
    one = at(drawn(name), i)
    architecture = codec.check(found.decode(one))
    back = found.encode(architecture)
    if space.inputs is None:
      np.testing.assert_array_equal(one.operation, back.operation)
    assert found.decode(back) == architecture
    for g, d in enumerate(codec.decide(
        architecture, found._place, space.share)):
      names = {edge[1:]: space.names(g, e) for e, edge in enumerate(
          codec.decide(space.graph, found._place, space.share)[g].cell.edges)}
      for edge, fixed in zip(d.cell.edges, d.fixed, strict=True):
        assert fixed or edge.operation in names[edge[1:]]
        assert space.inputs is None or edge.operation != "null"
      if space.inputs is not None:
        for node in range(2, 2 + d.cell.num_nodes):
          sources = [edge.source for edge in d.cell.incoming(node)]
          assert len(sources) == len(set(sources)) == 2
        if space.loose_end:
          feeds = {edge.source for edge in d.cell.edges}
          assert set(d.cell.concat) == set(
              range(2, 2 + d.cell.num_nodes)) - feeds
    cost = exact.network(architecture, found.connections.target)
    written = exact.network(
        space.written(architecture), found.connections.target)
    assert found.cost(one) == written and written[:2] == cost[:2]
    assert float(found.madds(one)) == pytest.approx(
        0 if space.loose_end else cost.madds * 1e-6, rel=1e-6)


def test_all_operations_of_a_layer_and_of_an_edge_are_equally_likely():
  for name, lead in (("proxyless", 12), ("nasbench201", 1)):
    found = drawn(name)
    decisions = make(name).connections.decisions
    for group in make(name).connections.groups:
      for e in range(len(group.cell.edges)):
        may = np.flatnonzero(group.allowed[e])
        n = group.cell.edges[e].target - 2
        k = [i for i, edge in enumerate(group.cell.edges)
             if edge.target == n + 2].index(e)
        counts = np.bincount(found.operation[:, group.number, n, k])
        assert set(np.flatnonzero(counts)) == set(may)
        # Five standard deviations around the mean.
        mean = 400 / len(may)
        assert np.abs(counts[may] - mean).max() < 5 * np.sqrt(mean)
    assert len(decisions) >= lead


def test_all_pairs_of_edges_of_a_node_are_equally_likely():
  source = np.sort(drawn("tiny").source[:, 0, 2], axis=-1)
  pairs, counts = np.unique(source, axis=0, return_counts=True)
  assert len(pairs) == 6 and counts.min() > 40 and counts.max() < 105


def test_paths_within_a_window():
  found = make("proxyless")
  madds = np.array([found.madds(at(drawn("proxyless"), i))
                    for i in range(100)])
  low, high = np.quantile(madds, [0.4, 0.6]).astype("f")
  traced = []

  def within(*given):
    traced.append(given)
    return found.within(*given, tries=500)

  run = jax.jit(jax.vmap(within, (0, None, None)))
  some = run(jax.random.split(jax.random.key(2), 50), low, high)
  assert np.all((low <= some.madds) & (some.madds < high) & (some.met == 1))
  assert 2 < np.mean(some.tries) < 10  # One of five lies there.
  assert len({one.tobytes() for one in np.asarray(
      some.arrays.operation)}) == 50
  # Another window is no other program; one that is empty takes what came last.
  none = run(jax.random.split(jax.random.key(2), 2), np.float32(0),
             np.float32(0.1))
  assert np.all(none.met == 0) and np.all(none.tries == 500)
  assert len(traced) == 2  # Of 50 keys and of 2.


def test_costs_that_do_not_add_up_have_no_window():
  paths.refuse_window(make("s1"), "path_min_madds")
  with pytest.raises(errors.InputError, match="leave --path-min-madds out"):
    paths.refuse_window(make("loose"), "path_min_madds")


@pytest.mark.parametrize("name, count", [
    ("nasbench201", 5 ** 6), ("proxyless", None), ("tiny", None)])
def test_paths_have_numbers_where_edges_are_the_graphs(name, count):
  found = make(name)
  if name == "proxyless":  # A layer that keeps size and width may be left out.
    count = np.prod([len(found.space.names(g, e)) for g, d in enumerate(
        found.connections.decisions) for e, fixed in enumerate(d.fixed)
        if not fixed])
  assert found.count == count
  if count is None:
    return
  numbers = np.unique(np.random.default_rng(0).integers(0, count, 200))
  every = found.numbered(numbers)
  assert len({at(every, i).operation.tobytes() for i in range(len(numbers))}
             ) == len(numbers)
  for i in range(5):
    one = at(every, i)
    jax.tree.map(np.testing.assert_array_equal, one,
                 found.encode(found.decode(one)))
  ends = found.numbered(np.array([0, count - 1]))
  assert not np.array_equal(*ends.operation)
