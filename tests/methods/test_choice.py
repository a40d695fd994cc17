"""Candidates are chosen by scores, their standard errors and costs."""

import numpy as np
import pytest

from natjax import operations
from natjax.methods import choice


def answers(*right):
  """Of what every candidate gets right, image by image."""
  right = np.array(right, int)
  return choice.Answers(right.shape[1], right @ right.T)


def costs(*madds):
  return [operations.Cost(100 - m, m) for m in madds]


def first(images, count):
  """Right on the first `count` images."""
  return [i < count for i in range(images)]


def test_standard_errors_are_those_of_paired_images():
  rng = np.random.default_rng(0)
  right = rng.random((5, 400)) < [[0.6], [0.55], [0.65], [0.5], [0.62]]
  found = choice.choose(answers(*right), costs(5, 4, 3, 2, 1), "cost")
  best = right[np.argmax(right.sum(1))]
  for row, error in zip(right, found.errors, strict=True):
    each = row.astype(float) - best
    np.testing.assert_allclose(error, each.std() / np.sqrt(400), atol=1e-12)
  assert answers(*right).scores == [row.mean() for row in right]


@pytest.mark.parametrize("prefer,order", [
    # One standard error of three images lost and none won is 1.7.
    ("cost", (2, 1, 3, 0)), ("accuracy", (2, 1, 3, 0)),
    ("sure", (2, 1, 3, 0))])
def test_what_is_clearly_worse_is_not_chosen_however_cheap(prefer, order):
  found = choice.choose(
      answers(*(first(100, n) for n in (90, 96, 99, 95))),
      costs(1, 2, 9, 3), prefer)
  assert found.order == order
  assert found.errors[2] == 0


def test_of_those_as_good_the_cheapest_is_first():
  """The order: multiply-adds, parameters, scores; then what was found first."""
  rng = np.random.default_rng(1)
  base = rng.random(200) < 0.7

  def flipped(*at):
    row = base.copy()
    row[list(at)] ^= True
    return row

  wins, loses = np.flatnonzero(~base)[:8], np.flatnonzero(base)[:8]
  rows = [base, flipped(*wins[:4], *loses[:3]), flipped(*wins[4:], *loses[3:7]),
          flipped(*wins[:2], *loses[:2]), flipped(*loses)]
  table = answers(*rows)
  assert np.argmax(table.scores) == 1
  Cost = operations.Cost
  each = [Cost(9, 9), Cost(8, 8), Cost(7, 7), Cost(6, 7), Cost(1, 1)]
  assert choice.choose(table, each, "cost").order == (3, 2, 1, 0, 4)
  assert choice.choose(table, each, "accuracy").order[0] == 1
  alike = [Cost(5, 5)] * 5  # By scores, then in order.
  assert choice.choose(table, alike, "cost").order == (1, 0, 2, 3, 4)
  assert choice.choose(table, alike, "accuracy").order == (1, 0, 2, 3, 4)


@pytest.mark.parametrize("given,order", [
    (0, (2, 3, 0, 1)), (1, (2, 3, 1, 0)), (3, (3, 2, 0, 1)),
    (2, (2, 3, 0, 1)), (None, (2, 3, 0, 1))])
def test_only_what_is_surely_better_comes_before_the_given_one(given, order):
  """By hand: of n images won and none lost, n is sure from 4 on."""
  right = [first(100, n) for n in (50, 47, 57, 56)]
  found = choice.choose(answers(*right), costs(9, 1, 8, 2), "sure", given)
  assert found.order == order


@pytest.mark.parametrize("given", range(6))
def test_sure_by_brute_force(given):
  rng = np.random.default_rng(3)
  right = rng.random((6, 300)) < np.linspace(0.5, 0.62, 6)[:, None]
  rng.shuffle(right)
  pairs = right.astype(float) - right[given]
  low = pairs.mean(1) - 1.96 * pairs.std(1) / np.sqrt(300)
  scores = right.mean(1)
  by_score = lambda some: sorted(some, key=lambda i: -scores[i])
  sure = [i for i in range(6) if low[i] > 0]
  others = [i for i in range(6) if i not in (*sure, given)]
  found = choice.choose(answers(*right), costs(*range(6)), "sure", given)
  assert [*found.order] == [*by_score(sure), given, *by_score(others)]


def test_equal_answers_have_no_error():
  same = answers(*[first(10, 5)] * 3)
  assert choice.choose(same, costs(3, 2, 2), "cost") == choice.Choice(
      (1, 2, 0), (0.0,) * 3, (True, True, True))
  assert choice.choose(same, costs(3, 2, 1), "accuracy").order == (0, 1, 2)
  assert choice.choose(same, costs(3, 2, 1), "sure", 1).order == (1, 0, 2)


def test_a_single_candidate_is_chosen():
  for prefer in choice.PREFERENCES:
    for given in (None, 0):
      assert choice.choose(answers(first(7, 3)), costs(1), prefer, given) == (
          choice.Choice((0,), (0.0,), (True,)))


def test_pareto_by_brute_force():
  rng = np.random.default_rng(2)
  for _ in range(20):
    points = rng.integers(0, 4, (12, 3))
    found = choice.pareto(
        [s / 4 for s, _, _ in points.tolist()],
        [operations.Cost(p, m) for _, p, m in points.tolist()])
    for (s, p, m), mark in zip(points, found, strict=True):
      beaten = ((points[:, 0] >= s) & (points[:, 1] <= p) & (points[:, 2] <= m)
                & (points != (s, p, m)).any(1))
      assert mark == (not beaten.any())
