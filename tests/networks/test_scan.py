"""The loop over edges against one that autodiff sees through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax.networks import rules, scan
from natjax.operations import primitives
from tests.networks import oracle

NAMES = ("sine", "cosine", "zero")
FUNCTIONS = (
    lambda v, x, _: v["params"]["sine"]["a"] * jnp.sin(
        x * v["params"]["sine"]["b"][0]),
    lambda v, x, _: v["params"]["cosine"]["c"] * jnp.cos(x),
    lambda v, x, _: 0 * x)
ROWS = {"sine": 4, "cosine": 3}


def example(seed, *, in_place, edges=7, nodes=5):
  """Random edges in topological order, and what they carry."""
  rng = np.random.default_rng(seed)
  first = 2 if in_place else 0
  target = np.sort(rng.integers(first, nodes, edges)).astype(np.int32)
  source = (rng.integers(0, target) if in_place
            else rng.integers(0, 2, edges)).astype(np.int32)
  inputs = None if in_place else rng.normal(size=(2, 3, 2, 2, 1))
  variables = {"params": {
      "sine": {"a": rng.normal(size=(4, 1)), "b": rng.normal(size=(4, 2, 1))},
      "cosine": {"c": rng.normal(size=(3, 1))}}}
  start = rng.normal(size=(nodes, 3, 2, 2, 1))
  # Some edges share a row, and of the operations not the same.
  rows = {name: rng.integers(0, most, edges).astype(np.int32)
          for name, most in ROWS.items()}
  live = rng.random(edges) < 0.7
  floats = jax.tree.map(lambda x: x.astype(np.float32),
                        (inputs, start, variables))
  return floats, rows, source, target, live, rng


def loop(inputs, nodes, variables, rows, weights, source, target, live):
  """A loop over edges that autodiff sees through; weights: [E, O]."""
  for e in range(len(source)):
    x = (nodes if inputs is None else inputs)[source[e]]
    own = {kind: {name: jax.tree.map(lambda a, r=rows[name][e]: a[r], part)
                  for name, part in tree.items()}
           for kind, tree in variables.items()}
    y = sum(w * f(own, x, None)
            for w, f in zip(weights[e], FUNCTIONS, strict=True))
    nodes = nodes.at[target[e]].add(live[e] * y)
  return nodes


@pytest.mark.long
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("rule", ["selected", "whole", "dense"])
def test_scan_equals_loop(rule, in_place):
  """All gradients of the hand-written backward pass against autodiff's."""
  made = getattr(rules, "dense" if rule == "dense" else "selected")(FUNCTIONS)
  if rule == "whole":  # As for rules that do not say what they choose from.
    made = made._replace(choices=None)

  @jax.jit
  def both(floats, weights, index, rows, source, target, live, g):
    def scanned(floats, weights):
      data = rules.Data(weights if rule == "dense" else index)
      return scan.scan_edges(made, *floats, rows, data, source, target,
                             names=NAMES, live=live)

    def plain(floats, weights):
      return loop(*floats, rows, weights, source, target, live)

    y, pull = jax.vjp(scanned, floats, weights)
    z, pull_plain = jax.vjp(plain, floats, weights)
    return (y, pull(g)), (z, pull_plain(g))

  for seed in range(3):
    floats, rows, source, target, live, rng = example(seed, in_place=in_place)
    index = rng.integers(0, 3, len(source)).astype(np.int32)
    weights = np.eye(3, dtype=np.float32)[index]
    if rule == "dense":
      weights = rng.normal(size=weights.shape).astype(np.float32)
    g = rng.normal(size=floats[1].shape).astype(np.float32)
    (y, (g_floats, g_weights)), (z, (plain_floats, plain_weights)) = both(
        floats, weights, index, rows, source, target, live, g)
    oracle.assert_close((y, g_floats), (z, plain_floats), rtol=1e-4)
    if rule == "dense":
      oracle.assert_close(g_weights, plain_weights, rtol=1e-4)


@pytest.mark.parametrize("in_place", [True, False])
def test_an_edge_gives_to_every_node_by_weights(in_place):
  """And what gives nothing does not run; all gradients as autodiff's."""
  made = rules.selected(FUNCTIONS)
  floats, rows, source, _, live, rng = example(2, in_place=in_place)
  source, index = np.sort(source), rng.integers(0, 3, len(source))
  weights = rng.normal(size=(len(source), len(floats[1]))) * live[:, None]
  may = np.ones(weights.shape, bool)
  if in_place:  # To nodes behind the source alone.
    may = np.arange(len(floats[1])) > source[:, None]
  weights *= may
  live = weights.any(1)
  assert 0 < live.sum() < len(live)

  def scanned(floats, weights):
    return scan.scan_edges(made, *floats, rows, rules.Data(index), source,
                           weights, names=NAMES, live=live)

  def plain(floats, weights):
    inputs, nodes, variables = floats
    for n in range(len(nodes) * len(source)):
      e, target = divmod(n, len(nodes))
      one = slice(e, e + 1)
      nodes = loop(inputs, nodes, variables, {
          name: row[one] for name, row in rows.items()},
          np.eye(3, dtype="f")[index[one]] * weights[e, target], source[one],
          [target], [1.0])
    return nodes

  weights, g = weights.astype("f"), rng.normal(
      size=floats[1].shape).astype("f")
  found = [jax.jit(lambda f=f: (lambda y, pull: (y, pull(g)))(
      *jax.vjp(f, floats, weights)))() for f in (scanned, plain)]
  may &= live[:, None]
  (y, (g_floats, g_weights)), (z, (plain_floats, plain_weights)) = found
  oracle.assert_close((y, g_floats), (z, plain_floats), rtol=1e-4)
  oracle.assert_close(g_weights * may, plain_weights * may, rtol=1e-4)
  assert not g_weights[~live].any()


def test_there_is_no_edge():
  floats, rows, *_ = example(0, in_place=True)
  nothing = np.zeros(0, np.int32)
  found = scan.scan_edges(
      rules.selected(FUNCTIONS), *floats, dict.fromkeys(rows, nothing),
      rules.Data(nothing), nothing, nothing, names=NAMES)
  np.testing.assert_array_equal(found, floats[1])


def test_no_edge_runs():
  floats, rows, source, target, live, _ = example(0, in_place=True)
  found, pull = jax.vjp(lambda *floats: scan.scan_edges(
      rules.selected(FUNCTIONS), *floats, rows, rules.Data(0 * source), source,
      target, names=NAMES, live=0 * live > 0), *floats)
  np.testing.assert_array_equal(found, floats[1])
  _, g_nodes, g_variables = pull(found)
  np.testing.assert_array_equal(g_nodes, found)
  assert not any(np.any(leaf) for leaf in jax.tree.leaves(g_variables))


@pytest.mark.long
@pytest.mark.parametrize("by", ["rule", "context"])
def test_plain_derivatives_of_every_order(by):
  """Forward over reverse, and reverse over reverse."""
  floats, rows, source, target, live, rng = example(1, in_place=True)
  index = rng.integers(0, 3, len(source)).astype(np.int32)
  weights = np.eye(3, dtype=np.float32)[index]
  make = rules.plain(rules.selected) if by == "rule" else rules.selected
  scanned = lambda floats: jnp.sum(scan.scan_edges(
      make(FUNCTIONS, range(3)), *floats, rows, rules.Data(index), source,
      target, names=NAMES, live=live) ** 2)
  plain = lambda floats: jnp.sum(loop(
      *floats, rows, weights, source, target, live) ** 2)

  def second(loss):
    gradient = jax.grad(loss)
    slope = lambda floats: sum(
        jnp.sum(leaf**2) for leaf in jax.tree.leaves(gradient(floats)))
    return jax.jit(lambda: (jax.jvp(gradient, (floats,), (floats,)),
                            jax.grad(slope)(floats)))()

  if by == "rule":
    found = second(scanned)
  else:
    with primitives.plain_derivatives():
      found = second(scanned)
  oracle.assert_close(found, second(plain), rtol=1e-3)


def test_statistics_are_carried_from_edge_to_edge():
  """Edges that share a row update it one after another, live ones alone."""

  def counting(name):
    def run(v, x, _):
      stats = v["batch_stats"]
      return x, {**stats, name: stats[name] * 2 + jnp.mean(x)}

    return run

  names = ("sine", "cosine")
  rows = {"sine": np.array([0, 0, 1, 0]), "cosine": np.array([0, 1, 1, 1])}
  index = np.array([0, 1, 0, 0])
  live = np.array([True, True, False, True])
  nodes = jnp.concatenate([jnp.ones((1, 1)), jnp.zeros((2, 1))])
  stats = {"sine": jnp.array([1.0, 5.0]), "cosine": jnp.array([2.0, 3.0])}
  nodes, found = scan.scan_edges(
      rules.stateful([counting(name) for name in names]), None, nodes,
      {"params": {}, "batch_stats": stats}, rows, rules.Data(index),
      np.array([0, 0, 0, 1]), np.array([1, 1, 2, 2]), names=names, live=live,
      aux=True)
  np.testing.assert_array_equal(nodes[:, 0], [1, 2, 2])
  # x is 1 for the first two edges, 2 for the last.
  np.testing.assert_array_equal(found["sine"], [(1 * 2 + 1) * 2 + 2, 5])
  np.testing.assert_array_equal(found["cosine"], [2, 3 * 2 + 1])
