"""Distributions over transformations of a cell that keep its guards.

A policy gives logits over A actions for each of a cell's E = KN edges. Actions
are masked one edge at a time in topological order: those that the transition
table forbids, and, where the table asks for connectivity, a null that would
leave a node of `concat` without a signal although it had one, given what was
chosen before and everything later kept. Since keeping what stands is always
possible, every partial choice can be completed, and what is sampled never
breaks a guard. Log-probability and entropy are those of this masked
distribution; the entropy is exact, by dynamic programming over which nodes
carry a signal, of which there are 2^N possibilities; N is at most `MOST_NODES`.

All functions take one cell; callers `vmap`. Shapes: `source`, `operation`,
`actions` are [N, K], `concat` is [N], logits [N, K, A]; K is 2 in NAT's spaces.
"""

import dataclasses
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from natjax import errors
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.spaces import transitions

# Of a cell whose guards ask for connectivity. Gradients of the entropy hold
# some 7 * 2^N f32[E, A] per cell, which are gigabytes beyond, and a signal is a
# bit of 32.
MOST_NODES = 18

# Of more edges a loop is compiled, which takes no longer the more they are.
_UNROLLED = 32


class _Edge(NamedTuple):
  """What is known of one edge before anything is chosen."""

  source: jax.Array  # i32, node in [0, 2 + N).
  bit: jax.Array  # u32, the target node's bit.
  kept: jax.Array  # bool, not null in the input.
  outcome: jax.Array  # i32[A].
  valid: jax.Array  # bool[A], by the table alone.
  required: jax.Array  # u32, nodes that must keep a signal.
  number: jax.Array  # i32, position in topological order.


def check_nodes(count: int, table: transitions.TransitionTable) -> None:
  """Refuses cells of which the guards cannot keep track.

  Args:
    count: N, nodes of the largest cell.
    table: the transition table.

  Raises:
    InputError: too many nodes for a table that asks for connectivity.
  """
  if table.connectivity and count > MOST_NODES:
    raise errors.InputError(
        f"a cell has {count} nodes, and a policy that cuts none of them off"
        f" can take at most {MOST_NODES}; transform it with --method evolution,"
        " or give smaller cells")


def masked_log_softmax(logits: jax.Array, mask: jax.Array) -> jax.Array:
  """Log-softmax over the last axis where `mask`; exactly -inf elsewhere.

  Computed in float32. At least one entry must be unmasked; gradients are
  finite everywhere, and zero for masked entries.
  """
  logits = jnp.where(mask, logits.astype(jnp.float32), 0.0)
  return jax.nn.log_softmax(logits, where=mask)


def _is_live(bits, source):
  node = jnp.maximum(source - records.NUM_INPUTS, 0)
  carried = (bits >> node.astype(jnp.uint32)) & 1
  return (source < records.NUM_INPUTS) | (carried == 1)


def _edges(table, cell, rows):
  """The cell's edges in topological order, an `_Edge` with leading axis E."""
  n, slots = cell.source.shape
  source, operation = cell.source.reshape(-1), cell.operation.reshape(-1)
  bit = jnp.repeat(jnp.uint32(1) << jnp.arange(n, dtype=jnp.uint32), slots)
  kept = operation != table.null
  live = _complete(source, bit, kept, jnp.uint32(0), -1)
  wanted = jnp.sum(jnp.where(cell.concat, bit[::slots], 0), dtype=jnp.uint32)
  return _Edge(source=source, bit=bit, kept=kept,
               outcome=jnp.asarray(table.outcome)[operation],
               valid=jnp.asarray(table.valid)[rows.reshape(-1), operation],
               required=jnp.broadcast_to(live & wanted, source.shape),
               number=jnp.arange(slots * n))


def _complete(source, bit, kept, bits, after):
  """Live nodes once all edges after number `after` are kept as they are."""
  def add(j, bits):
    carries = (j > after) & kept[j] & _is_live(bits, source[j])
    return bits | jnp.where(carries, bit[j], jnp.uint32(0))

  if source.shape[0] > _UNROLLED:
    return lax.fori_loop(0, source.shape[0], add, bits)
  for j in range(source.shape[0]):
    bits = add(j, bits)
  return bits


def _log_p(table, edges, edge, logits, bits):
  """Of the actions at `edge`, [..., A], when `bits` u32[...] live."""
  mask = jnp.broadcast_to(edge.valid, (*bits.shape, *edge.valid.shape))
  if table.connectivity:
    live = _complete(edges.source, edges.bit, edges.kept, bits, edge.number)
    may_null = (live & edge.required) == edge.required
    mask &= (edge.outcome != table.null) | may_null[..., None]
  log_p = masked_log_softmax(logits, mask)
  if not table.smoothing:
    return log_p
  return jnp.log(jnp.exp(log_p) + table.smoothing)


def _choose(table, logits, cell, rows, pick):
  """Goes through the edges; `pick(number, log_p)` names the action."""
  edges = _edges(table, cell, rows)

  def one(bits, step):
    edge, row = step
    log_p = _log_p(table, edges, edge, row, bits)
    action = pick(edge.number, log_p)
    carries = (edge.outcome[action] != table.null) & _is_live(bits, edge.source)
    bits |= jnp.where(carries, edge.bit, jnp.uint32(0))
    return bits, (action, log_p[action])

  _, (actions, log_p) = lax.scan(
      one, jnp.uint32(0), (edges, logits.reshape(-1, logits.shape[-1])))
  return actions.reshape(cell.source.shape), jnp.sum(log_p)


def sample(rng: jax.Array, logits: jax.Array, cell: arrays_lib.CellArrays,
           rows: jax.Array, table: transitions.TransitionTable) -> jax.Array:
  """Draws a transformation of one cell.

  Args:
    rng: a key.
    logits: f32[N, K, A].
    cell: the input cell, `source` and `operation` of shape [N, K].
    rows: i32[N, K], which row of `table.valid` holds for every edge.
    table: the transition table.

  Returns:
    i32[N, K], an action per edge.
  """
  keys = jax.random.split(rng, cell.source.size)
  pick = lambda i, log_p: jax.random.categorical(keys[i], log_p)
  return _choose(table, logits, cell, rows, pick)[0]


def mode(logits, cell, rows, table) -> jax.Array:
  """The likeliest open action of each edge in turn; see `sample`."""
  pick = lambda i, log_p: jnp.argmax(log_p)
  return _choose(table, logits, cell, rows, pick)[0]


def log_prob(logits, cell, rows, actions, table) -> jax.Array:
  """The log-probability, f32[], with which `sample` draws `actions`."""
  flat = actions.reshape(-1)
  return _choose(table, logits, cell, rows, lambda i, log_p: flat[i])[1]


def entropy(logits, cell, rows, table) -> jax.Array:
  """The entropy, f32[], of what `sample` draws, in nats (equation 4, H).

  The sum over edges, as in the released code. With connectivity guards later
  masks depend on earlier choices; the expectation over those is exact.
  """
  edges = _edges(table, cell, rows)
  count = 2**len(cell.source) if table.connectivity else 1
  states = jnp.arange(count, dtype=jnp.uint32)

  def one(weight, step):  # weight: f32[states], their probability.
    edge, row = step
    log_p = _log_p(table, edges, edge, row, states)
    open_ = jnp.isfinite(log_p)
    p = jnp.where(open_, jnp.exp(log_p), 0.0)
    surprise = -jnp.sum(p * jnp.where(open_, log_p, 0.0), -1)
    gain = jnp.sum(weight * surprise)
    if table.connectivity:
      carries = (edge.outcome != table.null) & _is_live(
          states, edge.source)[:, None]
      on = weight * jnp.sum(jnp.where(carries, p, 0.0), -1)
      off = weight * jnp.sum(jnp.where(carries, 0.0, p), -1)
      weight = jnp.zeros_like(weight).at[states | edge.bit].add(on).at[
          states].add(off)
    return weight, gain

  start = jnp.zeros(states.shape).at[0].set(1.0)
  steps = (edges, logits.reshape(-1, logits.shape[-1]))
  return jnp.sum(lax.scan(one, start, steps)[1])


def apply_actions(cell: arrays_lib.CellArrays, actions: jax.Array,
                  table: transitions.TransitionTable) -> arrays_lib.CellArrays:
  """The transformed cell; any leading axes. Sources and concat are kept."""
  return dataclasses.replace(
      cell, operation=jnp.asarray(table.outcome)[cell.operation, actions])
