"""Inferring the transformed architecture, within a budget of cost.

Guo et al., 2021, section 3.5: sampling once for each edge, k times over. The
candidates are scored on the supernet, and the given architecture is itself one.
Chosen is the best score, or the cheapest of those that are as good (`choice`).
With a budget (`costs.budget`) only candidates that keep to it are scored and
returned, which no other method of the field promises for a one-shot search.
"""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, live, records
from natjax.methods import acceptance, choice
from natjax.policies import sampling

# How hard the logits are tilted towards cheaper operations, in turn.
_STRENGTHS = (0, 3, 10, 30, 100, 300, 1e3, 1e4, 1e6)


def derive(method: Any, policy: Any, architecture: codec.Architecture,
           answer: Callable[[Sequence[arrays_lib.CellArrays]], choice.Answers],
           rng: jax.Array) -> tuple[codec.Architecture, dict[str, Any]]:
  """Transforms an architecture: chooses among k samples and itself.

  With a budget, and where the policy seldom draws what keeps to it, its logits
  are tilted: by every candidate's share of the cost, more and more, until k
  are found or the cheapest transformation is drawn.

  Args:
    method: a `nat.NAT`.
    policy: the policy's parameters.
    architecture: beta.
    answer: `(CellArrays [G, N, K] of each) -> Answers` of the supernet on whole
      batches of the policy's split, not augmented.
    rng: a key.

  Returns:
    The architecture that is chosen, and a report: "candidates", every distinct
    one with its score, the standard error of its difference to the best score,
    its cost, and whether no other dominates it ("pareto"), the input first;
    "finalists", numbers of the candidates to be tried, the best first, none
    where the input is chosen; of several samples how many there were
    ("sampled") and how many of these differ ("distinct").

  Raises:
    errors.NotMet: no transformation that was found keeps to the budget.
  """
  limits = budget(method, architecture)
  beta = method.ground.encode(architecture)
  found = {architecture: beta}
  if method.config.selection == "argmax":
    drawn = _add(found, method, architecture,
                 method.compiled_best(policy, beta)[None])
  else:
    drawn = _draw(found, limits, method, policy, architecture, rng)
  costs = {a: method.ground.cost(a) for a in found}
  kept = [a for a in found if limits.allows(costs[a])]
  if not kept:
    nearest = min(costs.values(), key=limits.excess)
    raise errors.NotMet(
        f"none of {len(found)} candidates keeps to the budget"
        f" ({limits.text()}); the nearest has {nearest.params} parameters and"
        f" {nearest.madds} multiply-adds; allow more by max-params or"
        " max-madds, or sample more candidates")
  # Those drawn first are the policy's likeliest; the input is not one of k.
  kept = kept[:method.config.candidates + (kept[0] == architecture)]
  answers = answer([found[a] for a in kept])
  prefer = method.config.prefer
  if prefer == "auto":
    prefer = "accuracy" if method.published else "cost"
  # What is equal stays in the order found: a change must pay.
  chosen = choice.choose(answers, [costs[a] for a in kept], prefer)
  first = chosen.order[0]
  report = {
      "candidates": [
          {"architecture": codec.to_dict(a), "score": score,
           "standard_error": error, "original": a == architecture,
           "chosen": i == first, "pareto": pareto, "params": costs[a].params,
           "madds": costs[a].madds}
          for i, (a, score, error, pareto) in enumerate(zip(
              kept, answers.scores, chosen.errors, chosen.pareto, strict=True))
      ],
      "finalists": _finalists(chosen.order, kept, answers.scores, architecture,
                              costs)[:method.config.finalists]}
  if len(drawn) > 1:
    report |= {"sampled": len(drawn), "distinct": len({*drawn})}
  return kept[first], report


def _finalists(order, kept, scores, architecture, costs):
  """Those in order that cost less than the input or score better."""
  if kept[order[0]] == architecture:
    return []
  score = dict(zip(kept, scores, strict=True))
  least = score.get(architecture, -1.0)  # Over a budget it is no candidate.
  return [i for i in order if kept[i] != architecture and (
      scores[i] > least
      or acceptance.cheaper(costs[architecture], costs[kept[i]]))]


def budget(method: Any, architecture: codec.Architecture) -> budget_lib.Budget:
  """The limits of a method's settings, for a given architecture.

  Raises:
    InputError: a limit that cannot be read.
    errors.NotMet: not even the cheapest valid operation on every edge,
      connected or not, would keep to it.
  """
  before = method.ground.cost(architecture)
  config = method.config
  limits = budget_lib.read(config.max_params, config.max_madds, before)
  if limits:
    costs, now = _action_costs(method, architecture)
    saved = (now - costs.min(axis=-1)).sum((1, 2, 3))
    least = operations.Cost(*(
        int(total - s) for total, s in zip(before[:2], saved, strict=True)))
    if not limits.allows(least):
      raise errors.NotMet(
          f"no transformation can keep to the budget ({limits.text()}): with"
          f" the cheapest operation on every edge {least.params} parameters and"
          f" {least.madds} multiply-adds are left of {before.params} and"
          f" {before.madds}; allow more by max-params or max-madds")
  return limits


def _action_costs(method, architecture):
  """Costs f64[2, G, N, K, A] of actions, and [2, G, N, K] of what stands now.

  Those that are not valid cost infinitely much.
  """
  beta = method.ground.encode(architecture)
  each = method.ground.edge_costs(architecture)
  of = lambda operation: np.take_along_axis(each, operation[None], -1)
  rows = np.asarray(method.ground.rows(beta))
  costs = np.where(method.table.valid[rows, beta.operation],
                   of(method.table.outcome[beta.operation]), np.inf)
  return costs, of(beta.operation[..., None])[..., 0]


def _add(found, method, architecture, actions):
  """Adds transformations to `found`, architecture -> arrays; lists them."""
  beta, added = found[architecture], []
  for action in jax.device_get(actions):
    # Host arrays, so that all candidates share one compiled scoring.
    alpha = jax.device_get(sampling.apply_actions(beta, action, method.table))
    if not method.published:
      alpha = pruned(alpha, method)
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


def _draw(found, limits, method, policy, architecture, rng):
  """Adds k samples to `found`; with limits, goes on for k within them.

  Returns:
    The k samples.
  """
  def add(key, number, tilt):
    return _add(found, method, architecture, method.compiled_sample(
        key, policy, found[architecture], number, tilt))

  count = method.config.candidates
  drawn = add(rng, count, jnp.zeros(()))
  if not limits:
    return drawn
  costs, _ = _action_costs(method, architecture)
  before = method.ground.cost(architecture)
  share = sum(np.where(np.isfinite(c), c, 0.0) / max(total, 1)
              for c, total, limit in zip(costs, before[:2], limits, strict=True)
              if limit is not None)
  for i, strength in enumerate(_STRENGTHS):
    if sum(limits.allows(method.ground.cost(a)) for a in found) >= count:
      break
    add(jax.random.fold_in(rng, i), 4 * count,
        jnp.asarray(-strength * share, jnp.float32))
  return drawn
