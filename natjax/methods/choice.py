"""Choosing among candidates by what they score and what they cost.

All candidates are scored on the same images, so two of them are compared image
by image: what both get right or both get wrong tells nothing of their
difference, whose standard error is that of pairs (`acceptance.Pairs`). A score
within one standard error of the best is as good, and of those that are as good
the cheapest is preferred (the rule of one standard error: Breiman, Friedman,
Olshen and Stone, "Classification and Regression Trees", 1984, section 3.4.3).
Or only what is surely better than the given architecture comes before it: 0
lies below the interval of 95 % of its score less the given one's.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from natjax import operations
from natjax.methods import acceptance

PREFERENCES = ("cost", "accuracy", "sure")


class Answers(NamedTuple):
  """How k candidates did on the same images.

  Attributes:
    images: how many.
    both: i64[k, k], how many of them both of two candidates get right; on the
      diagonal, one.
  """

  images: int
  both: np.ndarray

  @property
  def scores(self) -> list[float]:
    """Accuracies, of every candidate in [0, 1]."""
    return [right / self.images for right in np.diagonal(self.both).tolist()]

  def pairs(self, one: int, other: int) -> acceptance.Pairs:
    """The comparison of a candidate with another."""
    both = int(self.both[one, other])
    return acceptance.Pairs(self.images, int(self.both[one, one]) - both,
                            int(self.both[other, other]) - both)

  def of(self, some: Sequence[int]) -> "Answers":
    """Those of some candidates."""
    return Answers(self.images, self.both[np.ix_(some, some)])


class Differences(NamedTuple):
  """A candidate's score less another's, by draw.

  Attributes:
    each: f64[D], D at least 2.
  """

  each: np.ndarray

  @property
  def difference(self) -> float:
    """Their mean."""
    return float(self.each.mean())

  @property
  def standard_error(self) -> float:
    """Of the mean."""
    return float(self.each.std(ddof=1) / np.sqrt(len(self.each)))

  @property
  def interval(self) -> tuple[float, float]:
    """Of the mean, 95 % (Student's t)."""
    reach = acceptance.student(len(self.each)) * self.standard_error
    return self.difference - reach, self.difference + reach

  @property
  def better(self) -> bool:
    """Whether it is more by more than chance: its interval is above 0."""
    return self.interval[0] > 0


class Draws(NamedTuple):
  """How k candidates score, by draws of what chance decides for all alike.

  Attributes:
    each: f64[D, k].
  """

  each: np.ndarray

  @property
  def scores(self) -> list[float]:
    """Means over draws, of every candidate."""
    return self.each.mean(0).tolist()

  def pairs(self, one: int, other: int) -> Differences:
    """The comparison of a candidate with another."""
    return Differences(self.each[:, one] - self.each[:, other])

  def of(self, some: Sequence[int]) -> "Draws":
    """Those of some candidates."""
    return Draws(self.each[:, [*some]])


class Choice(NamedTuple):
  """What comes of the candidates' scores and costs.

  Attributes:
    order: the candidates, those preferred first.
    errors: of each, the standard error of its score less the best one.
    pareto: of each, whether none scores as well and costs as little, and is
      better in one of both.
  """

  order: tuple[int, ...]
  errors: tuple[float, ...]
  pareto: tuple[bool, ...]


def choose(answers: Answers | Draws, costs: Sequence[operations.Cost],
           prefer: str, given: int | None = None) -> Choice:
  """Orders candidates.

  Args:
    answers: of k candidates, or their scores by draw.
    costs: of each.
    prefer: "cost" puts first those within one standard error of the best
      score, by multiply-adds, then parameters, then scores; the others follow
      by their scores. "accuracy" goes by scores alone. "sure" puts first
      those surely better than the given one, then that, then the others, all
      by their scores; without a given one by scores alone. What is equal stays
      in order.
    given: the number of the given architecture; None where it is no candidate,
      as over a budget.

  Example:
    >>> both = np.array([[90, 88, 60], [88, 89, 60], [60, 60, 70]])
    >>> costs = [operations.Cost(3, 3), operations.Cost(2, 2),
    ...          operations.Cost(1, 1)]
    >>> choose(Answers(100, both), costs, "cost").order
    (1, 0, 2)
    >>> choose(Answers(100, both), costs, "accuracy").order
    (0, 1, 2)
    >>> choose(Answers(100, both), costs, "sure", given=2).order
    (0, 1, 2)
    >>> choose(Answers(100, both), costs, "sure", given=1).order
    (1, 0, 2)
  """
  scores, every = answers.scores, range(len(costs))
  best = max(every, key=lambda i: scores[i])
  pairs = [answers.pairs(i, best) for i in every]

  def rank(i):
    cost = (costs[i].madds, costs[i].params)
    if prefer == "sure" and given is not None:
      better = answers.pairs(i, given).better
      return (0 if better else 1 if i == given else 2, -scores[i])
    if prefer != "cost":
      return (-scores[i],)
    behind = -pairs[i].difference > pairs[i].standard_error
    return (behind, -scores[i], *cost) if behind else (
        behind, *cost, -scores[i])

  return Choice(tuple(sorted(every, key=rank)),
                tuple(p.standard_error for p in pairs), pareto(scores, costs))


def pareto(scores: Sequence[float],
           costs: Sequence[operations.Cost]) -> tuple[bool, ...]:
  """Which candidates no other dominates, of score, parameters, multiply-adds.

  Example:
    >>> cheap, dear = operations.Cost(1, 1), operations.Cost(2, 1)
    >>> pareto([0.5, 0.6, 0.6], [cheap, cheap, dear])
    (False, True, False)
  """
  points = [(-score, *cost[:2]) for score, cost in zip(
      scores, costs, strict=True)]
  dominates = lambda a, b: a != b and all(
      x <= y for x, y in zip(a, b, strict=True))
  return tuple(not any(dominates(other, point) for other in points)
               for point in points)
