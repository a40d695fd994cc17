"""A cell whose edges are data: a scan over edges, cheap forward and backward.

`lax.scan` under `grad` would store every step's node states, and `lax.switch`
the residuals of every branch (gigabytes for a supernet). Here the backward
pass is a second scan, in reverse, that recomputes only what the edge did and
adds its cotangent into the buffer of node states in place. All sources of an
edge are complete before the edge runs, so the final buffer holds every input
that the backward pass needs.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np


class EdgeRule(NamedTuple):
  """What an edge computes.

  Attributes:
    forward: `(params, data, x) -> y` for one edge; `(y, aux)` where
      `scan_edges` is to collect `aux`, through which no gradient flows.
    pullback: `(params, data, x, g_y) -> (g_params, g_data, g_x)`; `g_data` is
      None where `data` holds integers.
  """

  forward: Callable[[Any, Any, jax.Array], jax.Array]
  pullback: Callable[[Any, Any, jax.Array, jax.Array], tuple[Any, Any, Any]]


def selected_rule(functions) -> EdgeRule:
  """The rule that runs only operation number `data` of `functions`.

  Args:
    functions: per operation, `(params, x) -> y`; `params` holds those of all.
  """

  return _selected(functions, functions)


def stateful_rule(functions) -> EdgeRule:
  """As `selected_rule`, of functions `(variables, x) -> (y, statistics)`.

  Args:
    functions: per operation; `variables` and `statistics` hold those of all.
  """
  return _selected(
      functions, [lambda v, x, f=f: f(v, x)[0] for f in functions])


def _selected(functions, differentiable):
  def pull(function):
    return lambda p, x, g: jax.vjp(function, p, x)[1](g)

  pullbacks = [pull(f) for f in differentiable]

  def forward(params, index, x):
    return lax.switch(index, functions, params, x)

  def pullback(params, index, x, g):
    g_params, g_x = lax.switch(index, pullbacks, params, x, g)
    return g_params, None, g_x

  return EdgeRule(forward, pullback)


def dense_rule(functions) -> EdgeRule:
  """The rule that weighs all operations: sum over o of data[o] * f_o(x)."""

  def forward(params, weights, x):
    outputs = [f(params, x) for f in functions]
    return sum(weights[o].astype(x.dtype) * y for o, y in enumerate(outputs))

  def pullback(params, weights, x, g):
    return jax.vjp(forward, params, weights, x)[1](g)

  return EdgeRule(forward, pullback)


def _at(array, i):
  return lax.dynamic_index_in_dim(array, i, 0, keepdims=False)


def _add(array, x, i):
  return lax.dynamic_update_index_in_dim(array, _at(array, i) + x, i, 0)


def scan_edges(
    rule: EdgeRule,
    inputs: jax.Array | None,
    nodes: jax.Array,
    params: Any,
    data: Any,
    source: jax.Array,
    target: jax.Array,
    *,
    aux: bool = False,
) -> Any:
  """Adds every edge's output to its target node, in order.

  Args:
    rule: what an edge computes.
    inputs: [I, B, H', W', C] that the sources index, or None if they index
      `nodes`; then every source must be complete before its edge runs.
    nodes: [N, B, H, W, C], what the nodes hold at the start.
    params: pytree with leading axis E.
    data: pytree with leading axis E, integers or floats.
    source: i32[E].
    target: i32[E].
    aux: whether the rule's forward returns `(y, aux)`.

  Returns:
    [N, B, H, W, C]; with `aux`, that and the edges' `aux`, leading axis E.
  """

  def forward(inputs, nodes, params, data, source, target):
    def edge(nodes, step):
      p, d, s, t = step
      x = _at(nodes if inputs is None else inputs, s)
      y = rule.forward(p, d, x)
      y, extra = y if aux else (y, None)
      return _add(nodes, y, t), extra

    nodes, extra = lax.scan(edge, nodes, (params, data, source, target))
    return (nodes, extra) if aux else nodes

  run = jax.custom_vjp(forward)

  def run_fwd(inputs, nodes, params, data, source, target):
    out = forward(inputs, nodes, params, data, source, target)
    nodes = out[0] if aux else out
    return out, (inputs, nodes, params, data, source, target)

  def run_bwd(residuals, g_out):
    g_nodes = g_out[0] if aux else g_out
    inputs, out, params, data, source, target = residuals
    integers = all(jnp.issubdtype(d.dtype, jnp.integer)
                   for d in jax.tree.leaves(data))

    def edge(carry, step):
      g_inputs, g_nodes = carry
      p, d, s, t = step
      x = _at(out if inputs is None else inputs, s)
      g_p, g_d, g_x = rule.pullback(p, d, x, _at(g_nodes, t))
      if inputs is None:
        g_nodes = _add(g_nodes, g_x, s)
      else:
        g_inputs = _add(g_inputs, g_x, s)
      return (g_inputs, g_nodes), (g_p, g_d)

    start = (None if inputs is None else jnp.zeros_like(inputs), g_nodes)
    (g_inputs, g_nodes), (g_params, g_data) = lax.scan(
        edge, start, (params, data, source, target), reverse=True)
    if integers:
      g_data = jax.tree.map(_no_tangent, data)
    return (g_inputs, g_nodes, g_params, g_data, _no_tangent(source),
            _no_tangent(target))

  run.defvjp(run_fwd, run_bwd)
  return run(inputs, nodes, params, data, source, target)


def _no_tangent(x):
  return np.zeros(x.shape, jax.dtypes.float0)
