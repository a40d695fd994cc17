"""Inferring the transformed architecture, within a budget of cost.

Guo et al., 2021, section 3.5: sampling once for each edge, k times over. The
candidates are scored on the supernet, and the given architecture is itself one.
Chosen is the best score, or the cheapest of those that are as good, or the best
of those that are surely better than the given one (`choice`).
With a budget (`costs.budget`) only candidates that keep to it are scored and
returned, which no other method of the field promises for a one-shot search. Of
latency, which is measured (`bounds`), candidates are drawn and scored by the
sum of their operations' times; then they are timed, those preferred first, and
what is too slow, or was not timed, is no candidate any more.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
import statistics
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations
from natjax.costs import alone
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, keeping, live, records
from natjax.methods import acceptance, choice
from natjax.methods import bounds as bounds_lib
from natjax.operations import edges as edges_lib
from natjax.policies import sampling
from natjax.spaces import ground as ground_lib

# How hard the logits are tilted towards cheaper operations, in turn.
_STRENGTHS = (0, 3, 10, 30, 100, 300, 1e3, 1e4, 1e6)
_NEAR = 0.1  # Of a budget: how much of it candidates near it leave unused.
_ROUNDS = 14  # In which samples are drawn nearer and nearer to it.
_SEARCHES = 3  # For candidates, until one that was timed is fast enough.
_TIMED = 10  # Candidates at most that are timed in each.

Found = dict[codec.Architecture, arrays_lib.CellArrays]
Answer = Callable[[Sequence[arrays_lib.CellArrays]], choice.Answers]


class Aim(NamedTuple):
  """What candidates keep to before any of them is timed.

  Attributes:
    bounds: the budget of the given architecture.
    limits: the same, its seconds those of the sum of operations' times.
    times: f64[G, N, K, O], seconds of every candidate operation; None where
      latency is not limited.
    ground: in whose arrays these are.
  """

  bounds: bounds_lib.Bounds
  limits: budget_lib.Budget
  times: np.ndarray | None
  ground: ground_lib.Ground

  def spent(self, architecture: codec.Architecture) -> budget_lib.Spent:
    """What an architecture costs, its seconds those of its operations."""
    return self.bounds.spent(architecture, 0.0 if self.times is None else (
        float(stands(self.times, self.ground.encode(architecture)).sum())))

  def allows(self, architecture: codec.Architecture) -> bool:
    """Whether an architecture keeps to it."""
    return self.limits.allows(*self.spent(architecture))

  def excess(self, architecture: codec.Architecture) -> float:
    """See `costs.budget.Budget.excess`."""
    return self.limits.excess(*self.spent(architecture))

  def asking(self, seconds: float) -> "Aim":
    """Of candidates that save so many seconds by operations' times."""
    assert self.times is not None
    now = self.spent(self.bounds.given).seconds
    return self._replace(limits=self.limits._replace(seconds=now - seconds))


def derive(method: Any, policy: Any, architecture: codec.Architecture,
           answer: Answer, rng: jax.Array
           ) -> tuple[codec.Architecture, dict[str, Any]]:
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
    many there were ("sampled") and how many of these differ ("distinct");
    and what `settle` tells of a budget of latency or memory.

  Raises:
    errors.NotMet: no transformation that was found keeps to the budget.
  """
  budget(method, architecture)
  beta = method.ground.encode(architecture)
  drawn: list[codec.Architecture] = []

  def find(aim, number):
    found = {architecture: beta}
    if method.config.selection == "argmax":
      drawn[:] = _add(found, method, architecture,
                      method.compiled_best(policy, beta)[None])
    else:
      drawn[:] = _draw(found, aim, method, policy, architecture, (
          jax.random.fold_in(rng, _ROUNDS + number) if number else rng))
    excess = {a: aim.excess(a) for a in found}
    kept = [a for a in found if excess[a] <= 1]
    if _closely(method, aim):
      most = max((excess[a] for a in kept), default=0.0)
      kept = [a for a in kept if excess[a] >= most - _NEAR]
    if not kept:
      nearest = method.ground.cost(min(found, key=lambda a: excess[a]))
      raise errors.NotMet(
          f"none of {len(found)} candidates keeps to the budget"
          f" ({aim.bounds.limits.text()}); the nearest has {nearest.params}"
          f" parameters and {nearest.madds} multiply-adds; allow more"
          f"{_limited(aim.bounds.limits)}, or sample more candidates")
    # Those drawn first are the policy's likeliest; the input is not one of k.
    kept = kept[:method.config.candidates + (kept[0] == architecture)]
    return {a: found[a] for a in kept}

  best, report = settle(method, architecture, find, answer)
  if len(drawn) > 1:
    report |= {"sampled": len(drawn), "distinct": len({*drawn})}
  return best, report


def settle(method: Any, architecture: codec.Architecture,
           find: Callable[[Aim, int], Found], answer: Answer
           ) -> tuple[codec.Architecture, dict[str, Any]]:
  """Chooses among what is found, until what is chosen keeps to a latency.

  Without a budget of latency once. With one, candidates are found by the times
  of their operations, chosen and timed; where all are too slow, more is asked
  of the next ones; and at last what is fastest by the times of its operations
  is the only candidate.

  Args:
    method: a `nat.NAT`.
    architecture: beta.
    find: `(aim, number)` finds candidates, of which those are scored that keep
      to the aim, for the first time (0) or again; raises NotMet.
    answer: as `derive` takes it.

  Returns:
    As `choose`, with "latency" and "memory" of what is chosen, where a budget
    asks for them.

  Raises:
    errors.NotMet: no candidate keeps to the budget.
  """
  bounds = bounds_of(method, architecture)
  aim = Aim(bounds, bounds.limits, None, method.ground)
  if bounds.latency is None:
    best, report = choose(method, architecture, find(aim, 0), answer)
    return best, {**report, **bounds.told(best)}
  aim = aim._replace(times=_edge_seconds(method, bounds))
  quickest = fastest(method, bounds, aim.times)
  now, before = (aim.spent(a).seconds for a in (quickest, architecture))
  ceiling, base = before - now, bounds.seconds(architecture)
  asked = bounds.asked
  # As that network's operations foretold what it saves, which is enough.
  wanted = asked if asked <= 0 else (
      ceiling * asked / max(base - bounds.seconds(quickest), asked))
  took: list[float] = []
  for number in range(_SEARCHES):
    try:
      found = find(aim.asking(wanted), number)
    except errors.NotMet:
      break
    took, chosen = _timed(method, bounds, found, answer)
    if chosen is not None:
      return chosen
    wanted = bounds.more(wanted, base - statistics.median(took), asked, ceiling)
  aim = aim.asking(ceiling)
  if not bounds.limits.allows(*bounds.spent(quickest)):
    return choose(method, architecture, find(aim, _SEARCHES), answer)
  more, chosen = _timed(method, bounds, {
      quickest: method.ground.encode(quickest)}, answer)
  if chosen is None:
    raise errors.NotMet(bounds.too_slow(min(took + more)))
  return chosen


def _timed(method, bounds, found, answer):
  """Chooses among what is scored, and then timed within the budget.

  Those that come first by what is preferred are timed, until as many as may be
  tried keep to it, or the given one comes, which does so if it was found.

  Returns:
    The seconds of what was timed, and what `settle` returns, None where all of
    it was too slow.
  """
  given = bounds.given
  kept = [a for a in found if a != given or bounds.fast(a)]
  if not kept:
    return [bounds.seconds(given)], None
  answers = answer([found[a] for a in kept])
  order = choice.choose(
      answers, [method.ground.cost(a) for a in kept], _preference(method),
      kept.index(given) if given in kept else None).order
  took: dict[codec.Architecture, float] = {}
  within = {given} & {*kept}
  for i in order:
    if kept[i] == given or len(took) == _TIMED or (
        len(within - {given}) == method.config.finalists):
      break
    took[kept[i]] = bounds.seconds(kept[i])
    if bounds.fast(kept[i]):
      within.add(kept[i])
  if not within:
    return [*took.values()], None
  at = [i for i, a in enumerate(kept) if a in within]
  best, report = choose(
      method, given, {kept[i]: found[kept[i]] for i in at}, answer,
      choice.Answers(answers.images, answers.both[np.ix_(at, at)]))
  for row, i in zip(report["candidates"], at, strict=True):
    row["seconds"] = bounds.seconds(kept[i])
  return [*took.values()], (best, {
      **report, "scored": len(kept), "timed": len(took), **bounds.told(best)})


def choose(method: Any, architecture: codec.Architecture,
           found: Mapping[codec.Architecture, arrays_lib.CellArrays],
           answer: Answer, answers: choice.Answers | None = None
           ) -> tuple[codec.Architecture, dict[str, Any]]:
  """Chooses among candidates by what they score and what they cost.

  Args:
    method: a `nat.NAT`.
    architecture: beta, which need not be a candidate.
    found: the candidates, with their arrays, in order of preference.
    answer: as `derive` takes it.
    answers: of the candidates, where they are known.

  Returns:
    As `derive`, without what is said of samples.
  """
  kept = [*found]
  costs = {a: method.ground.cost(a) for a in (*kept, architecture)}
  prefer = _preference(method)
  answers = answers or answer([*found.values()])
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
          chosen.order, kept, answers.scores, architecture, prefer, costs,
          bounds_of(method, architecture))[:method.config.finalists]}
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


def _finalists(order, kept, scores, architecture, prefer, costs, bounds):
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
      or acceptance.cheaper(costs[architecture], costs[kept[i]],
                            bounds.latencies(kept[i])))]


def bounds_of(method: Any,
              architecture: codec.Architecture) -> bounds_lib.Bounds:
  """The budget of a method's settings, one object for an architecture."""
  key = method.config, architecture
  if key not in method.bounds:
    method.bounds[key] = bounds_lib.Bounds(
        method.config, architecture, method.ground.target, method.final_dtype)
  return method.bounds[key]


def budget(method: Any, architecture: codec.Architecture) -> budget_lib.Budget:
  """The limits of a method's settings, for a given architecture.

  Raises:
    InputError: a limit that cannot be read.
    errors.NotMet: not even the cheapest valid operation on every edge,
      connected or not, would keep to it.
  """
  bounds = bounds_of(method, architecture)
  before, limits = bounds.cost, bounds.limits
  if limits:
    costs, now = _action_costs(method, architecture)
    saved = (now - costs.min(axis=-1)).sum((1, 2, 3))
    least = operations.Cost(*(
        int(total - s) for total, s in zip(before[:2], saved, strict=True)))
    memory, more = 0, ""
    if limits.memory is not None:
      memory = bounds.memory(_barest(method, architecture, costs))
      more = (f", and {1e-6 * memory:.3f} MB of memory of"
              f" {1e-6 * bounds.memory(architecture):.3f}")
    if not limits.allows(least, memory):
      raise errors.NotMet(
          f"no transformation can keep to the budget ({limits.text()}): with"
          f" the cheapest operation on every edge {least.params} parameters and"
          f" {least.madds} multiply-adds are left of {before.params} and"
          f" {before.madds}{more}; " + keeping.allow_more(
              method.config.keep, _limited(limits).removeprefix(" by ")))
  return limits


def _limited(limits):
  """By which settings more may be allowed: " by max-params or max-madds"."""
  names = [name for name, limit in zip(
      ("max-memory", "max-latency"), limits[2:], strict=True)
           if limit is not None]
  if any(limit is not None for limit in limits[:2]) or not names:
    names = ["max-params or max-madds", *names]
  return f" by {' or '.join(names)}"


def _barest(method, architecture, costs):
  """The network of the cheapest operations, null before others, on all edges.
  """
  beta, table = method.ground.encode(architecture), method.table
  outcome = table.outcome[beta.operation]  # [G, N, K, A]
  action = np.argmin(np.where(
      outcome == table.null, costs.sum(0) - 1, costs.sum(0)), -1)[..., None]
  alpha = dataclasses.replace(beta, operation=np.take_along_axis(
      outcome, action, -1)[..., 0])
  return method.ground.decode(alpha, architecture)


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
  times = _edge_seconds(method, bounds) if times is None else times
  aim = Aim(bounds, bounds.limits, times, method.ground)
  each = np.take_along_axis(times, method.table.outcome[beta.operation], -1)
  found = {given: beta}
  _add(found, method, given, method.compiled_sample(
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
  bounds_lib.prepare(tuple(bounds_of(method, one) for one in every),
                     functools.partial(fastest, method), *args)


def _edge_seconds(method, bounds):
  """Seconds f64[G, N, K, O] of what may stand on edges, by themselves.

  Over all blocks that are decided on together; 0 of what may not stand there.
  """
  ground, latency = method.ground, bounds.latency
  beta = ground.encode(bounds.given)
  rows, found = np.asarray(ground.rows(beta)), np.zeros(
      (*ground.shape, len(ground.candidates)))
  network = codec.expand(bounds.given, ground.target)
  for slot, _, at in ground.sites(bounds.given, network, ground.target):
    now = int(beta.operation[slot])
    may = {now, *method.table.outcome[now][
        method.table.valid[rows[slot], now]].tolist()}
    names = {ground.candidates[o]: o for o in sorted(may)}
    for shapes, edge in at:
      ends = shapes.ends(edge)
      here = [name for name in names if name == edge.operation or (
          edges_lib.cost_if_possible(
              operations.get(name), ends,
              preactivate=network.preactivate) is not None)]
      for name, took in latency.operations(network, ends, here).items():
        found[(*slot, names[name])] += took
  return found


def stands(each: np.ndarray, arrays: arrays_lib.CellArrays) -> np.ndarray:
  """What is said f[G, N, K, O] of all operations, of those there f[G, N, K]."""
  return np.take_along_axis(
      each, np.asarray(arrays.operation)[..., None], -1)[..., 0]


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


def _closely(method, aim):
  """Whether candidates are to be near a budget: where it asks for something."""
  return bool(aim.limits) and not aim.allows(aim.bounds.given) and (
      _preference(method) != "accuracy")


def _draw(found, aim, method, policy, architecture, rng):
  """Adds k samples to `found`; with limits, goes on for k within them.

  Returns:
    The k samples.
  """
  def add(key, number, tilt):
    return _add(found, method, architecture, method.compiled_sample(
        key, policy, found[architecture], number, tilt))

  count = method.config.candidates
  drawn = add(rng, count, jnp.zeros(()))
  if not aim.limits:
    return drawn
  share = _share(method, architecture, aim)
  if _closely(method, aim):
    _draw_near(found, aim, method, rng, drawn, lambda key, strength: add(
        key, 4 * count, jnp.asarray(-strength * share, jnp.float32)))
    return drawn
  for i, strength in enumerate(_STRENGTHS):
    if sum(map(aim.allows, found)) >= count:
      break
    add(jax.random.fold_in(rng, i), 4 * count,
        jnp.asarray(-strength * share, jnp.float32))
  return drawn


def _share(method, architecture, aim):
  """The share of what is limited that every action costs, f64[G, N, K, A].

  Memory is mostly that of weights, so that it goes by these.
  """
  costs, _ = _action_costs(method, architecture)
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
