"""A cell whose edges are data: a loop over edges, cheap forward and backward.

`lax.scan` under `grad` would store every step's node states, and `lax.switch`
the residuals of every branch. Here the backward pass is a second loop, in
reverse, that recomputes only what the edge did and adds its cotangent into the
buffer of node states in place. All sources of an edge are complete before the
edge runs, so the final buffer holds every input that the backward pass needs.

Edges that do nothing need not run: how many do is data, so that one program
serves all. Weights are read out of their store by the operation that needs
them, and its gradient is one vector, added into a buffer in place: whatever
touches every array of the store at every edge is kernels to compile and to
launch.
"""

from collections.abc import Callable, Mapping, Sequence
import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax.networks import rules
from natjax.operations import primitives

# Per candidate that has weights, i32[E]: the rows of every edge.
Rows = Mapping[str, Any]


def _at(tree, i):
  """Row `i` of every array."""
  return jax.tree.map(
      lambda a: lax.dynamic_index_in_dim(a, i, 0, keepdims=False), tree)


def _set(tree, row, i):
  return jax.tree.map(
      lambda a, x: lax.dynamic_update_index_in_dim(a, x, i, 0), tree, row)


def _add(tree, row, i):
  return jax.tree.map(lambda a, x: _set(a, _at(a, i) + x, i), tree, row)


def _is_index(target):
  return jnp.issubdtype(target.dtype, jnp.integer)


def _give(nodes, y, target):
  """Adds y to a node, or to all of them by weights f32[N]."""
  if _is_index(target):
    return _add(nodes, y, target)
  return nodes + jnp.tensordot(target.astype(y.dtype), y, axes=0)


def _taken(g_nodes, target):
  """The cotangent of y in `_give`."""
  if _is_index(target):
    return _at(g_nodes, target)
  return jnp.tensordot(target.astype(g_nodes.dtype), g_nodes, axes=1)


class _Access(NamedTuple):
  """How a rule reads the store, and collects the gradient of its parameters.

  Attributes:
    forward: `(variables, rows, data, x)` -> what the rule's `forward` returns;
      the rows are those of one edge.
    start: `(params)` -> an empty buffer.
    pullback: `(buffer, variables, rows, data, x, g_nodes, target) -> (buffer,
      g_value, g_x, g_target)`.
    finish: `(buffer, params)` -> the gradient of `params`.
  """

  forward: Callable[..., Any]
  start: Callable[[Any], Any]
  pullback: Callable[..., tuple[Any, Any, jax.Array, Any]]
  finish: Callable[[Any, Any], Any]


def _of(variables, rows, names=None):
  """An edge's rows of the variables, of all candidates or of some."""
  return {kind: {name: _at(part, rows[name]) for name, part in tree.items()
                 if names is None or name in names}
          for kind, tree in variables.items()}


def _whole(rule):
  """Reads a row of every array, and adds a row to every gradient."""

  def forward(variables, rows, data, x):
    return rule.forward(_of(variables, rows), data, x)

  def pullback(buffer, variables, rows, data, x, g_nodes, target):
    own, g_value, g_x = rule.pullback(
        _of(variables, rows), data, x, _at(g_nodes, target))
    buffer = {name: _add(part, own["params"][name], rows[name])
              for name, part in buffer.items()}
    return buffer, g_value, g_x, None

  return _Access(forward, lambda params: jax.tree.map(jnp.zeros_like, params),
                 pullback, lambda buffer, params: buffer)


def _chosen(functions, names, params):
  """Reads the rows of the chosen operation alone.

  The buffer is one vector: all rows of the first operation's gradients, then
  those of the next. A choice gives as many numbers as the largest one needs,
  zeros behind its own, and these are added where its row begins.
  """
  sizes = {name: sum(math.prod(leaf.shape[1:]) for leaf in leaves)
           for name, leaves in _leaves(params).items()}
  ends = np.cumsum([sizes[name] * len(leaves[0])
                    for name, leaves in _leaves(params).items()])
  starts = dict(zip(sizes, [0, *ends.tolist()], strict=False))
  most = max(sizes.values(), default=0)
  dtype = jnp.result_type(*jax.tree.leaves(params)) if sizes else jnp.float32
  total = int(ends[-1]) + most if sizes else 0

  def forward(variables, rows, data, x):
    return lax.switch(data.value, [
        lambda variables, rows, x, key, f=f, name=name: f(
            _of(variables, rows, (name,)), x, key)
        for f, name in zip(functions, names, strict=True)],
        variables, rows, x, rules.typed(data.key))

  def pull(function, name):
    def run(variables, rows, x, key, g_nodes, target):
      own = _of(variables, rows, (name,))
      y, pull = jax.vjp(lambda params, x: function(
          {**own, "params": params}, x, key), own["params"], x)
      g_own, g_x = pull(_taken(g_nodes, target))
      g_target = None if _is_index(target) else jnp.sum(
          g_nodes * y, range(1, g_nodes.ndim), dtype=target.dtype)
      flat = [leaf.reshape(-1).astype(dtype) for leaf in jax.tree.leaves(g_own)]
      flat.append(jnp.zeros(most - sizes.get(name, 0), dtype))
      begin = starts[name] + rows[name] * sizes[name] if name in sizes else 0
      return (jnp.concatenate(flat), jnp.asarray(begin, jnp.int32), g_x,
              g_target)

    return run

  def pullback(buffer, variables, rows, data, x, g_nodes, target):
    own, begin, g_x, g_target = lax.switch(data.value, [
        pull(f, name) for f, name in zip(functions, names, strict=True)],
        variables, rows, x, rules.typed(data.key), g_nodes, target)
    if most:
      before = lax.dynamic_slice(buffer, (begin,), (most,))
      buffer = lax.dynamic_update_slice(buffer, before + own, (begin,))
    return buffer, None, g_x, g_target

  def finish(buffer, params):
    result = jax.tree.map(jnp.zeros_like, params)
    for name, leaves in _leaves(params).items():
      rows = buffer[starts[name]:starts[name] + sizes[name] * len(leaves[0])]
      rows = rows.reshape(len(leaves[0]), -1)
      cuts = np.cumsum([math.prod(leaf.shape[1:]) for leaf in leaves])[:-1]
      result[name] = jax.tree.unflatten(jax.tree.structure(params[name]), [
          part.reshape(leaf.shape).astype(leaf.dtype) for part, leaf in zip(
              jnp.split(rows, cuts, axis=1), leaves, strict=True)])
    return result

  return _Access(forward, lambda params: jnp.zeros(total, dtype), pullback,
                 finish)


def _leaves(params):
  """Per candidate that has parameters, its arrays."""
  found = {name: jax.tree.leaves(part) for name, part in params.items()}
  return {name: leaves for name, leaves in found.items() if leaves}


def _live_first(live):
  """i32[E], the numbers of live edges, in order and first; how many."""
  numbers = jnp.arange(len(live))
  place = jnp.where(live, jnp.cumsum(live) - 1, len(live))
  order = jnp.sum(jnp.where(place == numbers[:, None], numbers, 0), axis=1)
  return order, jnp.sum(live, dtype=jnp.int32)


def scan_edges(rule: rules.EdgeRule, inputs: jax.Array | None, nodes: jax.Array,
               variables: Mapping[str, Any], rows: Rows, data: rules.Data,
               source: jax.Array, target: jax.Array, *,
               names: Sequence[str] = (), live: jax.Array | None = None,
               aux: bool = False) -> Any:
  """Adds every edge's output to its target node, in order.

  Args:
    rule: what an edge computes.
    inputs: [I, B, H', W', C] that the sources index, or None if they index
      `nodes`; then every source must be complete before its edge runs.
    nodes: [N, B, H, W, C], what the nodes hold at the start.
    variables: "params" and maybe "batch_stats", per candidate that has any a
      pytree with leading axis S.
    rows: of the edges; several may use the same row.
    data: with leading axis E.
    source: i32[E].
    target: i32[E], or f32[E, N], what of it every node takes; this needs a rule
      with `choices`.
    names: of the rule's `choices`, in order, as `variables` has them.
    live: bool[E], whether an edge runs; the others add nothing and get no
      gradient. None runs all. Under `vmap` over `live` the loop is as long as
      the longest.
    aux: whether the rule's forward returns `(y, batch_stats)`.

  Returns:
    [N, B, H, W, C]; with `aux`, that and the new "batch_stats".
  """
  if not len(source):  # Edges that hold nothing but null have no features.
    return (nodes, variables["batch_stats"]) if aux else nodes
  # Candidates that share their rows read them once.
  shared = {id(row): row for row in rows.values()}
  at = {name: list(shared).index(id(row)) for name, row in rows.items()}
  edges = jax.tree.map(jnp.asarray, (
      tuple(shared.values()), data, source, target))
  if rule.pullback is None or primitives.derivatives_are_plain():
    return _plain(rule, inputs, nodes, variables, at, edges, live, aux)
  access = _whole(rule) if rule.choices is None or aux else _chosen(
      rule.choices, names, variables["params"])
  order, number = (None, None) if live is None else _live_first(live)

  def edge_at(edges, order, k):
    e = k if order is None else order[k]
    rows, *others = _at(edges, e)
    return e, {name: rows[i] for name, i in at.items()}, *others

  def forward(inputs, nodes, variables, edges, order, number):
    def edge(k, carry):
      _, *step = edge_at(edges, order, k)
      return _run(access, inputs, carry, variables, step, aux)

    return lax.fori_loop(0, len(source) if number is None else number, edge,
                         (nodes, _stats(variables, aux)))

  run = jax.custom_vjp(forward)

  def run_fwd(inputs, nodes, *others):
    out = forward(inputs, nodes, *others)
    return out, (inputs, out[0], *others)

  def run_bwd(residuals, g_out):
    inputs, out, variables, edges, order, number = residuals
    (_, data, _, target), params = edges, variables["params"]
    number = len(source) if number is None else number

    def edge(k, carry):
      g_inputs, g_nodes, g_params, g_value, g_target = carry
      e, rows, d, s, t = edge_at(edges, order, number - 1 - k)
      x = _at(out if inputs is None else inputs, s)
      g_params, g, g_x, g_t = access.pullback(
          g_params, variables, rows, d, x, g_nodes, t)
      if inputs is None:
        g_nodes = _add(g_nodes, g_x, s)
      else:
        g_inputs = _add(g_inputs, g_x, s)
      if g is not None:
        g_value = _set(g_value, g, e)
      if g_t is not None:
        g_target = _set(g_target, g_t, e)
      return g_inputs, g_nodes, g_params, g_value, g_target

    start = (None if inputs is None else jnp.zeros_like(inputs), g_out[0],
             access.start(params), jax.tree.map(jnp.zeros_like, data.value),
             None if _is_index(target) else jnp.zeros_like(target))
    g_inputs, g_nodes, g_params, g_value, g_target = lax.fori_loop(
        0, number, edge, start)
    g_variables = {**jax.tree.map(jnp.zeros_like, dict(variables)),
                   "params": access.finish(g_params, params)}
    # None stands for no gradient.
    return (g_inputs, g_nodes, g_variables,
            (None, rules.cotangent(data, g_value), None, g_target), None, None)

  run.defvjp(run_fwd, run_bwd)
  nodes, stats = run(inputs, nodes, dict(variables), edges, order, number)
  return (nodes, stats["batch_stats"]) if aux else nodes


def _stats(variables, aux):
  return {"batch_stats": variables["batch_stats"]} if aux else {}


def _run(access, inputs, carry, variables, step, aux):
  """Adds what an edge gives, and writes its statistics back to its rows."""
  (nodes, stats), (rows, data, source, target) = carry, step
  x = _at(nodes if inputs is None else inputs, source)
  y = access.forward({**variables, **stats}, rows, data, x)
  if aux:
    y, found = y
    stats = {"batch_stats": {
        name: _set(part, lax.stop_gradient(found[name]), rows[name])
        for name, part in stats["batch_stats"].items()}}
  return _give(nodes, y, target), stats


def _plain(rule, inputs, nodes, variables, at, edges, live, aux):
  """As `scan_edges`, of nothing but what JAX differentiates by itself."""
  access = _whole(rule)

  @jax.checkpoint
  def edge(inputs, carry, variables, step):
    (own, *others), runs = step
    rows = {name: own[i] for name, i in at.items()}
    run = lambda: _run(access, inputs, carry, variables, (rows, *others), aux)
    return run() if runs is None else lax.cond(runs, run, lambda: carry)

  (nodes, stats), _ = lax.scan(
      lambda carry, step: (edge(inputs, carry, variables, step), None),
      (nodes, _stats(variables, aux)), (edges, live))
  return (nodes, stats["batch_stats"]) if aux else nodes
