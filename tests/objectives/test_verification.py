"""Verification against a plain implementation, and known answers."""

import numpy as np
import pytest

from natjax import errors
from natjax.objectives import verification


def plain(distance, same):
  """Ten folds, fold by fold and threshold by threshold."""
  count, accuracies, start = len(same), [], 0
  for fold in range(10):
    size = count // 10 + (fold < count % 10)
    held = range(start, start + size)
    start += size
    best, most = 0.0, -1
    for step in range(400):
      threshold = 0.01 * step
      right = sum((distance[i] < threshold) == same[i]
                  for i in range(count) if i not in held)
      if right > most:
        best, most = threshold, right
    accuracies.append(
        sum((distance[i] < best) == same[i] for i in held) / size)
  return np.mean(accuracies), np.std(accuracies)


@pytest.mark.parametrize("count", [10, 37, 60])
def test_folds_are_those_written_out(count):
  rng = np.random.default_rng(count)
  same = np.arange(count) % 2 == 0
  distance = np.clip(1.2 + 0.5 * rng.normal(size=count) - 0.5 * same, 0, 4)
  found = verification.judge(distance, same)
  assert (found.accuracy, found.deviation) == pytest.approx(
      plain(distance, same))
  assert found.pairs == count and 0 < found.accuracy < 1


def test_the_threshold_is_of_the_other_folds():
  # In one fold alone the order is the reverse, and it must not see itself.
  same = np.tile([True, False], 10)
  distance = np.where(same, 0.5, 1.5)
  distance[:2] = distance[1::-1]
  found = verification.judge(distance, same)
  assert found.accuracy == pytest.approx(0.9)
  assert found.deviation == pytest.approx(0.3)  # Of 0, 1, ..., 1.
  assert found.threshold == pytest.approx(0.51)


def test_true_accepts_at_few_false_ones():
  same = np.repeat([True, False], 2000)
  distance = np.concatenate([np.linspace(0, 2, 2000), np.linspace(1, 4, 2000)])
  found = verification.judge(distance, same, far=0.1)
  threshold = np.sort(distance[2000:])[200]
  assert np.mean(distance[2000:] < threshold) == 0.1
  assert found.tar == pytest.approx(np.mean(distance[:2000] < threshold))
  # Not one of fewer than a thousand may be taken for one person.
  few = verification.judge(distance[::4], same[::4])
  assert few.tar == pytest.approx(np.mean(distance[:2000:4] < 1))


def test_distances_are_of_what_both_sides_give_together():
  rng = np.random.default_rng(0)
  one, two = rng.normal(size=(2, 6, 4))
  found = verification.distances(one, two)
  for i in range(3):
    a, b = ((one[j] + two[j]) / np.linalg.norm(one[j] + two[j])
            for j in (2 * i, 2 * i + 1))
    assert found[i] == pytest.approx(2 - 2 * a @ b)
  # Where an image and its mirror are opposite there is no direction.
  assert np.isfinite(verification.distances(one, -one)).all()


@pytest.mark.parametrize("same,message", [
    ([True, False] * 4, "8 pairs"), ([True] * 12, "one person"),
    ([False] * 12, "two people")])
def test_what_cannot_be_judged_is_refused(same, message):
  with pytest.raises(errors.InputError, match=message):
    verification.judge(np.zeros(len(same)), np.array(same))


def test_a_collapsed_network_is_judged_by_one_answer():
  same = np.tile([True, False], 20)
  found = verification.judge(np.where(same, 0.001, 0.009), same)
  assert (found.accuracy, found.threshold, found.tar) == (0.5, 0, 1)
  # A hundredth apart they are told apart.
  assert verification.judge(np.where(same, 0.001, 0.011), same).accuracy == 1
