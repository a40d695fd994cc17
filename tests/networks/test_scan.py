"""The scan over edges against a loop that autodiff sees through."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax.networks import rules
from natjax.networks import scan
from tests.networks import oracle

FUNCTIONS = (lambda p, x, _: p["a"] * jnp.sin(x),
             lambda p, x, _: p["b"] * jnp.cos(x), lambda p, x, _: 0 * x)


def scan_example(seed, *, in_place, edges=7, nodes=5):
  """Random edges in topological order, and what they carry."""
  rng = np.random.default_rng(seed)
  first = 2 if in_place else 0
  target = np.sort(rng.integers(first, nodes, edges)).astype(np.int32)
  source = (rng.integers(0, target) if in_place
            else rng.integers(0, 2, edges)).astype(np.int32)
  inputs = None if in_place else rng.normal(size=(2, 3, 2, 2, 1))
  params = {k: rng.normal(size=(edges, 1)) for k in "ab"}
  start = rng.normal(size=(nodes, 3, 2, 2, 1))
  floats = jax.tree.map(lambda x: x.astype(np.float32),
                        (inputs, start, params))
  return (*floats, source, target, rng)


def plain_scan(inputs, nodes, params, weights, source, target):
  """A loop over edges that autodiff sees through; weights: [E, O]."""
  for e in range(len(source)):
    x = (nodes if inputs is None else inputs)[source[e]]
    p = {k: v[e] for k, v in params.items()}
    y = sum(w * f(p, x, None)
            for w, f in zip(weights[e], FUNCTIONS, strict=True))
    nodes = nodes.at[target[e]].add(y)
  return nodes


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("rule", ["selected", "dense"])
def test_scan_equals_loop(rule, in_place):
  """All gradients of the hand-written backward pass against autodiff's."""
  make_rule = getattr(rules, rule)

  @jax.jit
  def both(floats, weights, index, source, target, g):
    def scanned(floats, weights):
      data = rules.Data(index if rule == "selected" else weights)
      return scan.scan_edges(make_rule(FUNCTIONS), *floats, data, source,
                             target)

    def loop(floats, weights):
      return plain_scan(*floats, weights, source, target)

    y, pull = jax.vjp(scanned, floats, weights)
    z, pull_plain = jax.vjp(loop, floats, weights)
    return (y, pull(g)), (z, pull_plain(g))

  for seed in range(3):
    *floats, source, target, rng = scan_example(seed, in_place=in_place)
    index = rng.integers(0, 3, len(source)).astype(np.int32)
    weights = np.eye(3, dtype=np.float32)[index]
    if rule == "dense":
      weights = rng.normal(size=weights.shape).astype(np.float32)
    g = rng.normal(size=floats[1].shape).astype(np.float32)
    ours, plain = both(tuple(floats), weights, index, source, target, g)
    (y, (g_floats, g_weights)), (z, (plain_floats, plain_weights)) = ours, plain
    oracle.assert_close((y, g_floats), (z, plain_floats), rtol=1e-4)
    if rule == "dense":
      oracle.assert_close(g_weights, plain_weights, rtol=1e-4)
