"""Candidates: transformations of an architecture, drawn from a policy.

Guo et al., 2021, section 3.5: sampling once for each edge, k times over. With a
budget (`aims`) the policy's logits are tilted towards what keeps to it.
"""

from collections.abc import Iterable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, live, records
from natjax.methods import aims
from natjax.methods import bounds as bounds_lib
from natjax.policies import sampling

# How hard the logits are tilted towards cheaper operations, in turn.
_STRENGTHS = (0, 3, 10, 30, 100, 300, 1e3, 1e4, 1e6)
NEAR = 0.1  # Of a budget: how much of it candidates near it leave unused.
ROUNDS = 14  # In which samples are drawn nearer and nearer to it.

Found = dict[codec.Architecture, arrays_lib.CellArrays]


def draw(found: Found, aim: aims.Aim, method: Any, policy: Any,
         architecture: codec.Architecture, rng: jax.Array
         ) -> list[codec.Architecture]:
  """Adds k samples to `found`; with limits, goes on for k within them.

  Returns:
    The k samples.
  """
  def more(key, number, tilt):
    return add(found, method, architecture, method.compiled_sample(
        key, policy, found[architecture], number, tilt))

  count = method.config.candidates
  drawn = more(rng, count, jnp.zeros(()))
  if not aim.limits:
    return drawn
  share = _share(method, architecture, aim)
  if aims.closely(method, aim):
    _draw_near(found, aim, method, rng, drawn, lambda key, strength: more(
        key, 4 * count, jnp.asarray(-strength * share, jnp.float32)))
    return drawn
  for i, strength in enumerate(_STRENGTHS):
    if sum(map(aim.allows, found)) >= count:
      break
    more(jax.random.fold_in(rng, i), 4 * count,
         jnp.asarray(-strength * share, jnp.float32))
  return drawn


def _draw_near(found, aim, method, rng, drawn, add):
  """Goes on until k of `found` are near a budget, by bisection of the tilt.

  Args:
    found: architectures, to which is added.
    aim: the budget.
    method: a `nat.NAT`.
    rng: a key.
    drawn: the first samples, without a tilt.
    add: `(key, strength)` adds samples, and lists them.
  """
  excess = functools.cache(aim.excess)
  # Of log(1 + strength), with its sign: where most of what is drawn exceeds the
  # budget, and where most keeps to it.
  at, over, within = 0.0, -np.inf, np.inf
  for i in range(ROUNDS):
    if sum(1 - NEAR <= excess(a) <= 1 for a in found) >= (
        method.config.candidates):
      break
    if np.median([excess(a) for a in drawn]) > 1:
      over = at
    else:
      within = at
    if np.isfinite(over) and np.isfinite(within):
      at = (over + within) / 2
    else:
      at = over + 2 if np.isfinite(over) else within - 2
    drawn = add(jax.random.fold_in(rng, i),
                float(np.copysign(np.expm1(abs(at)), at)))


def _share(method, architecture, aim):
  """The share of what is limited that every action costs, f64[G, N, K, A].

  Memory is mostly that of weights, so that it goes by these.
  """
  costs, _ = aims.action_costs(method, architecture)
  before, limits = aim.bounds.cost, aim.limits
  parts = [np.where(np.isfinite(c), c, 0.0) / max(total, 1)
           for c, total, limited in zip(
               costs, before[:2], (
                   limits.params is not None or limits.memory is not None,
                   limits.madds is not None), strict=True) if limited]
  if aim.times is not None:
    beta = method.ground.encode(architecture)
    parts.append(np.take_along_axis(
        aim.times, method.table.outcome[beta.operation], -1) / max(
            aim.spent(architecture).seconds, 1e-12))
  return sum(parts)


def add(found: Found, method: Any, architecture: codec.Architecture,
        actions: jax.Array) -> list[codec.Architecture]:
  """Adds transformations to `found`, architecture -> arrays; lists them."""
  beta, added = found[architecture], []
  kept = method.ground.kept(beta)
  for action in jax.device_get(actions):
    # Host arrays, so that all candidates share one compiled scoring.
    alpha = jax.device_get(sampling.apply_actions(beta, action, method.table))
    if not method.published:
      alpha = pruned(alpha, method)
    elif kept.any():  # Its smoothing draws what is not valid, too.
      alpha = dataclasses.replace(alpha, operation=np.where(
          kept, beta.operation, alpha.operation))
    added.append(method.ground.decode(alpha, architecture))
    found.setdefault(added[-1], alpha)
  return added


def pruned(alpha: arrays_lib.CellArrays, method: Any) -> arrays_lib.CellArrays:
  """Nulls the edges into nodes that no longer lead to an output.

  They compute nothing that is used, and would cost all the same.

  Args:
    alpha: host arrays [G, N, K].
    method: whose table says what may become null.
  """
  null, rows = method.table.null, np.asarray(method.ground.rows(alpha))
  to_null = (method.table.outcome == null) & method.table.valid  # [R, O, A]
  operation: Any = np.array(alpha.operation)
  first, (groups, nodes, slots) = records.NUM_INPUTS, operation.shape
  target = np.repeat(np.arange(nodes) + first, slots)
  for g in range(groups):
    now = operation[g].reshape(-1)
    gone = live.prune(alpha.source[g].reshape(-1), target, now == null,
                      np.flatnonzero(alpha.concat[g]) + first,
                      to_null[rows[g].reshape(-1), now].any(-1))
    operation[g] = np.where(gone, null, now).reshape(nodes, slots)
  return dataclasses.replace(alpha, operation=operation)


def fastest(method: Any, bounds: bounds_lib.Bounds,
            times: np.ndarray | None = None) -> codec.Architecture:
  """What an architecture may become that is fastest by its operations' times.

  Of some samples that cut no node off, drawn by these times alone.

  Args:
    method: a `nat.NAT`.
    bounds: of the architecture, with what times operations.
    times: as of `Aim`; None takes them now.
  """
  given, key = bounds.given, jax.random.key(0)
  beta = method.ground.encode(given)
  times = aims.edge_seconds(method, bounds) if times is None else times
  aim = aims.Aim(bounds, bounds.limits, times, method.ground)
  each = np.take_along_axis(times, method.table.outcome[beta.operation], -1)
  found = {given: beta}
  add(found, method, given, method.compiled_sample(
      key, method.policy.init(key), beta, 4 * method.config.candidates,
      jnp.asarray(-_STRENGTHS[-1] * each / max(each.max(), 1e-12),
                  jnp.float32)))
  free = bounds.limits._replace(seconds=None)
  return min(found, key=lambda a: (
      not free.allows(*bounds.spent(a)), aim.spent(a).seconds))


def prepare(method: Any, every: Iterable[codec.Architecture], *args: Any
            ) -> None:
  """Measures what budgets of latency need; see `bounds.prepare`.

  Args:
    method: a `nat.NAT`.
    every: the given architectures.
    *args: the folder, and the processes.
  """
  bounds_lib.prepare(tuple(aims.bounds_of(method, one) for one in every),
                     functools.partial(fastest, method), *args)
