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

from collections.abc import Callable, Mapping, Sequence
import statistics
from typing import Any

import jax

from natjax import errors
from natjax.costs import alone
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec
from natjax.methods import acceptance, aims, candidates, choice

_SEARCHES = 3  # For candidates, until one that was timed is fast enough.
_TIMED = 10  # Candidates at most that are timed in each.

Answer = Callable[[Sequence[arrays_lib.CellArrays]],
                  choice.Answers | choice.Draws]


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
    of an input that is no candidate its score and cost ("given");
    and what `settle` tells of a budget of latency or memory.

  Raises:
    errors.NotMet: no transformation that was found keeps to the budget.
  """
  aims.budget(method, architecture)
  beta = method.ground.encode(architecture)
  drawn: list[codec.Architecture] = []

  def find(aim, number):
    found = {architecture: beta}
    if method.config.selection == "argmax":
      drawn[:] = candidates.add(found, method, architecture,
                                method.compiled_best(policy, beta)[None])
    else:
      key = rng if not number else jax.random.fold_in(
          rng, candidates.ROUNDS + number)
      drawn[:] = candidates.draw(
          found, aim, method, policy, architecture, key)
    excess = {a: aim.excess(a) for a in found}
    kept = [a for a in found if excess[a] <= 1]
    if aims.closely(method, aim):
      most = max((excess[a] for a in kept), default=0.0)
      kept = [a for a in kept if excess[a] >= most - candidates.NEAR]
    if not kept:
      nearest = aim.spent(min(found, key=lambda a: excess[a]))
      raise errors.NotMet(
          f"none of {len(found)} candidates keeps to the budget"
          f" ({aim.bounds.limits.text()}); the nearest has"
          f" {aim.bounds.limits.of(*nearest[:2])}; allow more"
          f"{aims.limited(aim.bounds.limits)}, or sample more candidates")
    # Those drawn first are the policy's likeliest; the input is not one of k.
    kept = kept[:method.config.candidates + (kept[0] == architecture)]
    return {a: found[a] for a in kept}

  best, report = settle(method, architecture, find, answer)
  if len(drawn) > 1:
    report |= {"sampled": len(drawn), "distinct": len({*drawn})}
  return best, report


def settle(method: Any, architecture: codec.Architecture,
           find: Callable[[aims.Aim, int], candidates.Found],
           answer: Answer) -> tuple[codec.Architecture, dict[str, Any]]:
  """Chooses among what is found, until what is chosen keeps to a latency.

  Without a budget of latency once. With one, candidates are found by the times
  of their operations, chosen and timed; where all are too slow, more is asked
  of the next ones, and less where what is chosen leaves much of the budget; of
  several searches that which leaves least is returned. Where all are too slow
  in all of them, what is fastest by its operations is the only candidate.

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
  bounds = aims.bounds_of(method, architecture)
  limit = bounds.limits.seconds
  aim = aims.Aim(bounds, bounds.limits, None, method.ground)
  if bounds.latency is None or limit is None:
    best, report = choose(method, architecture, find(aim, 0), answer)
    return best, {**report, **bounds.told(best)}
  aim = aim._replace(times=aims.edge_seconds(method, bounds))
  quickest = candidates.fastest(method, bounds, aim.times)
  now, before = (aim.spent(a).seconds for a in (quickest, architecture))
  ceiling, base = before - now, bounds.seconds(architecture)
  asked = bounds.asked
  # As that network's operations foretold what it saves, which is enough.
  wanted = asked if asked <= 0 else (
      ceiling * asked / max(base - bounds.seconds(quickest), asked))
  took: list[float] = []
  held, too_little, enough = None, 0.0, 0.0  # What was asked, and came of it.
  for number in range(_SEARCHES):
    try:
      found = find(aim.asking(wanted), number)
    except errors.NotMet:
      break
    took, chosen = _timed(method, bounds, found, answer)
    if chosen is None:
      too_little = max(too_little, wanted)
    elif held is None or bounds.seconds(chosen[0]) > bounds.seconds(held[0]):
      held, enough = chosen, wanted
    if held is None:
      wanted = bounds.more(
          wanted, base - statistics.median(took), asked, ceiling)
      continue
    if asked <= 0 or aims.preference(method) == "accuracy" or (
        bounds.seconds(held[0]) >= (1 - candidates.NEAR) * limit):
      break
    wanted = (too_little + enough) / 2
  if held is not None:
    return held
  more, chosen = _timed(method, bounds, {
      quickest: method.ground.encode(quickest)} if (
          bounds.limits.allows(*bounds.spent(quickest))) else (
              find(aim.asking(ceiling), _SEARCHES)), answer)
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
      answers, [method.ground.cost(a) for a in kept], aims.preference(method),
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
      answers.of(at))
  return [*took.values()], (best, {
      **report, "scored": len(kept), "timed": len(took), **bounds.told(best)})


def choose(method: Any, architecture: codec.Architecture,
           found: Mapping[codec.Architecture, arrays_lib.CellArrays],
           answer: Answer,
           answers: choice.Answers | choice.Draws | None = None
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
  prefer, bounds = aims.preference(method), aims.bounds_of(method, architecture)
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
           "madds": costs[a].madds, **bounds.row(a)}
          for i, (a, score, error, pareto) in enumerate(zip(
              kept, answers.scores, chosen.errors, chosen.pareto, strict=True))
      ],
      "preferred": {name: own.order[0] for name, own in every.items()},
      "finalists": _finalists(
          chosen.order, kept, answers, architecture, prefer, costs,
          bounds)[:method.config.finalists]}
  if not method.published:
    _explain(method, architecture, report, answer)
  return kept[first], report


def _explain(method, architecture, report, answer):
  """Tells of every finalist what each of its changes costs by itself.

  That is what the score of the given architecture loses where that change
  alone is made ("score_drop"), on the images of all scores. Where the given one
  is no candidate, "given" has its score and cost.
  """
  bounds = aims.bounds_of(method, architecture)
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
    if not any(row["original"] for row in report["candidates"]):
      report["given"] = {"score": before, "params": bounds.cost.params,
                         "madds": bounds.cost.madds, **bounds.row(architecture)}
  drop = dict(zip(every, scores, strict=True))
  for row, own in zip(rows, each, strict=True):
    row["explained"] = [{"score_drop": drop[change]} for change in own]


def _finalists(order, kept, answers, architecture, prefer, costs, bounds):
  """Those in order that cost less than the input or score better.

  Where only what is surely better is preferred, those before the input; then,
  the cheapest first, what costs less and scores within one standard error of
  it, which trials may show to be as good.
  """
  first = next((at for at, i in enumerate(order)
                if kept[i] == architecture), len(order))
  cheaper = lambda i: acceptance.cheaper(
      costs[architecture], costs[kept[i]], *bounds.beside(kept[i]))
  if prefer == "sure":
    given = order[first] if first < len(order) else None
    pairs = {i: answers.pairs(i, given) for i in order[first + 1:]}
    alike = [i for i, pair in pairs.items() if cheaper(i) and (
        -pair.difference <= pair.standard_error)]
    return [*order[:first], *sorted(alike, key=lambda i: (
        costs[kept[i]].madds, costs[kept[i]].params))]
  if not first:
    return []
  score = dict(zip(kept, answers.scores, strict=True))
  least = score.get(architecture, -1.0)  # Over a budget it is no candidate.
  return [i for i in order if kept[i] != architecture and (
      answers.scores[i] > least or cheaper(i))]
