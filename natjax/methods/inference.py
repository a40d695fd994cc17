"""Inferring the transformed architecture, within a budget of cost.

Guo et al., 2021, section 3.5: sampling once for each edge, k times over. The
candidates are scored on the supernet, and the given architecture is itself one.
Chosen is the best score, or the cheapest of those that are as good, or the best
of those that are surely better than the given one (`choice`).
With a budget (`costs.budget`) only candidates that keep to it are scored and
returned, which no other method of the field promises for a one-shot search.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.costs import alone
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, keeping, live, records
from natjax.methods import acceptance, choice
from natjax.policies import sampling

# How hard the logits are tilted towards cheaper operations, in turn.
_STRENGTHS = (0, 3, 10, 30, 100, 300, 1e3, 1e4, 1e6)
_NEAR = 0.1  # Of a budget: how much of it candidates near it leave unused.
_ROUNDS = 14  # In which samples are drawn nearer and nearer to it.


def derive(method: Any, policy: Any, architecture: codec.Architecture,
           answer: Callable[[Sequence[arrays_lib.CellArrays]], choice.Answers],
           rng: jax.Array) -> tuple[codec.Architecture, dict[str, Any]]:
  """Transforms an architecture: chooses among k samples and itself.

  With a budget that the given architecture exceeds, the policy's logits are
  tilted by every candidate's share of the cost: as hard as makes about half of
  what is drawn keep to it, towards dearer operations where the policy itself
  would draw cheaper ones. Candidates are then those near the budget, which use
  of it what the dearest uses, but for a tenth: of candidates that are as good
  the cheapest is preferred, and what was asked for is not the cheapest of all.
  So it is where only what is surely better may take the given one's place,
  which cannot be asked of what is to keep to a budget that the given one
  exceeds: the best score of those near it is then chosen.
  Where scores alone decide (`prefer`), as in the paper, and with the published
  policy, the logits are tilted only where the policy seldom draws what keeps to
  the budget, more and more, until k are found or the cheapest transformation
  is drawn; all that keep to it are candidates.

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
    "preferred", the number of what every `prefer` would choose of them;
    "finalists", numbers of the candidates to be tried, the best first, none
    where the input is chosen, and of each of these, but for the published
    policy, what its changes cost alone ("explained"); of several samples how
    many there were ("sampled") and how many of these differ ("distinct").

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
  if _closely(method, limits, costs[architecture]):
    most = max((limits.excess(costs[a]) for a in kept), default=0.0)
    kept = [a for a in kept if limits.excess(costs[a]) >= most - _NEAR]
  if not kept:
    nearest = min(costs.values(), key=limits.excess)
    raise errors.NotMet(
        f"none of {len(found)} candidates keeps to the budget"
        f" ({limits.text()}); the nearest has {nearest.params} parameters and"
        f" {nearest.madds} multiply-adds; allow more by max-params or"
        " max-madds, or sample more candidates")
  # Those drawn first are the policy's likeliest; the input is not one of k.
  kept = kept[:method.config.candidates + (kept[0] == architecture)]
  best, report = choose(
      method, architecture, {a: found[a] for a in kept}, answer)
  if len(drawn) > 1:
    report |= {"sampled": len(drawn), "distinct": len({*drawn})}
  return best, report


def choose(method: Any, architecture: codec.Architecture,
           found: Mapping[codec.Architecture, arrays_lib.CellArrays],
           answer: Callable[[Sequence[arrays_lib.CellArrays]], choice.Answers]
           ) -> tuple[codec.Architecture, dict[str, Any]]:
  """Chooses among candidates by what they score and what they cost.

  Args:
    method: a `nat.NAT`.
    architecture: beta, which need not be a candidate.
    found: the candidates, with their arrays, in order of preference.
    answer: as `derive` takes it.

  Returns:
    As `derive`, without what is said of samples.
  """
  kept = [*found]
  costs = {a: method.ground.cost(a) for a in (*kept, architecture)}
  answers, prefer = answer([*found.values()]), _preference(method)
  # What is equal stays in the order found: a change must pay.
  given = kept.index(architecture) if architecture in found else None
  every = {name: choice.choose(answers, [costs[a] for a in kept], name, given)
           for name in choice.PREFERENCES}
  chosen = every[prefer]
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
      "preferred": {name: own.order[0] for name, own in every.items()},
      "finalists": _finalists(
          chosen.order, kept, answers.scores, architecture, costs,
          prefer)[:method.config.finalists]}
  if not method.published:
    _explain(method, architecture, report, answer)
  return kept[first], report


def _explain(method, architecture, report, answer):
  """Tells of every finalist what each of its changes costs by itself.

  That is what the score of the given architecture loses where that change
  alone is made ("score_drop"), on the images of all scores.
  """
  rows = [report["candidates"][i] for i in report["finalists"]]
  each = [alone.changes(architecture, codec.from_dict(row["architecture"]))
          for row in rows]
  every = [*dict.fromkeys(change for own in each for change in own)]
  scores, size = [], method.config.candidates
  beta = method.ground.encode(architecture)
  for begin in range(0, len(every), size):
    # The given one is among them, as it need not be among the candidates.
    before, *after = answer([beta, *(
        method.ground.encode(alone.made(architecture, change))
        for change in every[begin:begin + size])]).scores
    scores += [before - score for score in after]
  drop = dict(zip(every, scores, strict=True))
  for row, own in zip(rows, each, strict=True):
    row["explained"] = [{"score_drop": drop[change]} for change in own]


def _finalists(order, kept, scores, architecture, costs, prefer):
  """Those in order that cost less than the input or score better.

  Where only what is surely better is preferred, those before the input.
  """
  first = next((at for at, i in enumerate(order)
                if kept[i] == architecture), len(order))
  if not first:
    return []
  if prefer == "sure":
    return [*order[:first]]
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
          f" {before.madds}; " + keeping.allow_more(
              config.keep, "max-params or max-madds"))
  return limits


def changeable(method: Any, architecture: codec.Architecture) -> bool:
  """Whether on any edge of an architecture another action is valid.

  Raises:
    InputError: the architecture is not in the space.
  """
  beta = method.ground.encode(architecture)
  valid = method.table.valid[np.asarray(method.ground.rows(beta)),
                             beta.operation]
  return bool((valid.sum(-1) > 1).any())


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


def _preference(method):
  """Which of `choice.PREFERENCES` a method's settings have."""
  prefer = method.config.prefer
  return prefer if prefer != "auto" else (
      "accuracy" if method.published else "sure")


def _closely(method, limits, before):
  """Whether candidates are to be near a budget: where it asks for something."""
  return bool(limits) and not limits.allows(before) and (
      _preference(method) != "accuracy")


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
              for c, total, limit in zip(
                  costs, before[:2], limits[:2], strict=True)
              if limit is not None)
  if _closely(method, limits, before):
    _draw_near(found, limits, method, rng, drawn, lambda key, strength: add(
        key, 4 * count, jnp.asarray(-strength * share, jnp.float32)))
    return drawn
  for i, strength in enumerate(_STRENGTHS):
    if sum(limits.allows(method.ground.cost(a)) for a in found) >= count:
      break
    add(jax.random.fold_in(rng, i), 4 * count,
        jnp.asarray(-strength * share, jnp.float32))
  return drawn


def _draw_near(found, limits, method, rng, drawn, add):
  """Goes on until k of `found` are near a budget, by bisection of the tilt.

  Args:
    found: architectures, to which is added.
    limits: the budget.
    method: a `nat.NAT`.
    rng: a key.
    drawn: the first samples, without a tilt.
    add: `(key, strength)` adds samples, and lists them.
  """
  excess = functools.cache(
      lambda architecture: limits.excess(method.ground.cost(architecture)))
  # Of log(1 + strength), with its sign: where most of what is drawn exceeds the
  # budget, and where most keeps to it.
  at, over, within = 0.0, -np.inf, np.inf
  for i in range(_ROUNDS):
    if sum(1 - _NEAR <= excess(a) <= 1 for a in found) >= (
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
