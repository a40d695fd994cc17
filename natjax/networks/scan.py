"""A cell whose edges are data: a scan over edges, cheap forward and backward.

`lax.scan` under `grad` would store every step's node states. Here the backward
pass is a second scan, in reverse, that recomputes only what the edge did and
adds its cotangent into the buffer of node states in place. All sources of an
edge are complete before the edge runs, so the final buffer holds every input
that the backward pass needs.
"""

from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax.networks import rules


def _at(array, i):
  return lax.dynamic_index_in_dim(array, i, 0, keepdims=False)


def _add(array, x, i):
  return lax.dynamic_update_index_in_dim(array, _at(array, i) + x, i, 0)


def scan_edges(
    rule: rules.EdgeRule,
    inputs: jax.Array | None,
    nodes: jax.Array,
    params: Any,
    data: rules.Data,
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
    data: with leading axis E.
    source: i32[E].
    target: i32[E].
    aux: whether the rule's forward returns `(y, aux)`.

  Returns:
    [N, B, H, W, C]; with `aux`, that and the edges' `aux`, leading axis E.
  """

  def forward(inputs, nodes, params, data, source, target):
    def edge(nodes, step):
      p, d, s, t = step
      y = rule.forward(p, d, _at(nodes if inputs is None else inputs, s))
      y, extra = y if aux else (y, None)
      return _add(nodes, y, t), extra

    nodes, extra = lax.scan(edge, nodes, (params, data, source, target))
    return (nodes, extra) if aux else nodes

  pullback = rule.pullback
  if pullback is None:
    return forward(inputs, nodes, params, data, source, target)
  run = jax.custom_vjp(forward)

  def run_fwd(inputs, nodes, params, data, source, target):
    out = forward(inputs, nodes, params, data, source, target)
    nodes = out[0] if aux else out
    return out, (inputs, nodes, params, data, source, target)

  def run_bwd(residuals, g_out):
    g_nodes = g_out[0] if aux else g_out
    inputs, out, params, data, source, target = residuals

    def edge(carry, step):
      g_inputs, g_nodes = carry
      p, d, s, t = step
      x = _at(out if inputs is None else inputs, s)
      g_p, g_d, g_x = pullback(p, d, x, _at(g_nodes, t))
      if inputs is None:
        g_nodes = _add(g_nodes, g_x, s)
      else:
        g_inputs = _add(g_inputs, g_x, s)
      return (g_inputs, g_nodes), (g_p, g_d)

    start = (None if inputs is None else jnp.zeros_like(inputs), g_nodes)
    (g_inputs, g_nodes), (g_params, g_value) = lax.scan(
        edge, start, (params, data, source, target), reverse=True)
    return (g_inputs, g_nodes, g_params, rules.cotangent(data, g_value),
            _no_tangent(source), _no_tangent(target))

  run.defvjp(run_fwd, run_bwd)
  return run(inputs, nodes, params, data, source, target)


def _no_tangent(x):
  return np.zeros(x.shape, jax.dtypes.float0)
