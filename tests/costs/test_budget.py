"""Cost targets, as they are written and as they are kept."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from natjax import errors, operations, spaces
from natjax.costs import amounts, budget
from natjax.costs import exact as cost
from natjax.graph import blocks, skeleton
from natjax.graph import genotype as architecture
from natjax.methods import aims, candidates, inference, nat, natpp
from natjax.zoo import handcrafted
from tests import architectures, tiny


@pytest.mark.parametrize("text, limit", [
    ("", None), ("3e6", 3e6), ("2.5M", 2.5e6), ("800k", 8e5), ("1.5G", 1.5e9),
    ("0.8x", 0.8 * 1000), ("1X", 1000.0), ("12", 12.0)])
def test_limits_are_read(text, limit):
  assert budget.parse(text, 1000, option="max-params") == limit


@pytest.mark.parametrize("text", [
    "x", "0", "-1", "0x", "1e", "nan", "inf", "2 M", "3m2", "1.2.3", "1e999"])
def test_other_limits_are_refused_in_one_line(text):
  with pytest.raises(errors.InputError, match="max-madds") as e:
    budget.parse(text, 1000, option="max-madds")
  assert e.value.field == "max_madds" and "--" not in str(e.value)
  assert "\n" not in str(e.value)


def test_without_a_given_architecture_there_are_no_multiples():
  assert budget.parse("2.5M", None, option="max-params") == 2.5e6
  assert budget.parse("", None, option="max-params") is None
  assert budget.read("3e6", "", None) == budget.Budget(3e6, None)
  for text in ("0.8x", "1X", "many"):
    with pytest.raises(errors.InputError, match="nothing to take a mult") as e:
      budget.read("1k", text, None)
    assert e.value.field == "max_madds" and "\n" not in str(e.value)
    assert str(e.value).startswith(f"max-madds is '{text}'")
    assert "such as 0.8x" not in str(e.value)


def test_what_a_budget_allows():
  limits = budget.read("0.5x", "2M", operations.Cost(100, 4_000_000))
  assert limits and not budget.Budget()
  assert limits.allows(operations.Cost(50, 2_000_000))
  assert not limits.allows(operations.Cost(51, 1))
  assert not limits.allows(operations.Cost(1, 2_000_001))
  assert limits.excess(operations.Cost(100, 1)) == 2.0
  assert "50 parameters and at most 2000000" in limits.text()


@functools.cache
def untrained(method_class):
  space = spaces.space_for(tiny.GENOTYPE, method=method_class.scheme)
  return method_class(
      tiny.SEARCH, space, num_classes=10, image_size=tiny.IMAGE_SIZE,
      targets=(skeleton.Skeleton(),))


def searched(method_class=natpp.NATpp, **changes):
  """A method before any training, compiled once whatever its settings."""
  method = untrained(method_class)
  method.config = dataclasses.replace(tiny.SEARCH, **changes)
  return method


def derive(method, seed=0, rights=lambda i: 100 * i):
  policy = method.policy.init(jax.random.key(3))
  scored = []

  def answer(cells):
    if not scored:  # Later, what every change costs alone.
      scored.extend(cells)
    return tiny.nested([rights(i) for i in range(1, len(cells) + 1)])

  return *inference.derive(
      method, policy, tiny.GENOTYPE, answer, jax.random.key(seed)), scored


BEFORE = cost.network(tiny.GENOTYPE, skeleton.Skeleton())


@pytest.mark.long
@pytest.mark.parametrize("method_class", [nat.NAT, natpp.NATpp])
@pytest.mark.parametrize("limits", [
    {"max_params": "0.9x"}, {"max_params": "0.68x", "max_madds": "0.68x"}])
def test_no_candidate_is_over_the_budget(method_class, limits):
  method = searched(method_class, candidates=6, **limits)
  best, report, scored = derive(method)
  rows = report["candidates"]
  assert len(rows) == len(scored) <= 6
  assert len(rows) > 1
  for row in rows:
    found = cost.network(
        architecture.from_dict(row["architecture"]), skeleton.Skeleton())
    assert (row["params"], row["madds"]) == found[:2]
    for name, text in limits.items():
      value = getattr(found, name.removeprefix("max_"))
      limit = float(text[:-1]) * getattr(BEFORE, name.removeprefix("max_"))
      assert value <= limit
    assert not row["original"]
  assert best != tiny.GENOTYPE


@pytest.mark.long
def test_a_tight_budget_is_reached_by_tilting():
  """Plain samples of an untrained policy seldom save so much."""
  _, report, _ = derive(searched(candidates=4))
  least = min(row["params"] for row in report["candidates"])
  method = searched(max_params=str(least - 1), candidates=4)
  _, report, _ = derive(method)
  assert all(row["params"] < least for row in report["candidates"])


@pytest.mark.long
@pytest.mark.parametrize("limits", [
    {"max_params": "0.9x"}, {"max_madds": "0.75x"}, {"max_params": "0.97x"},
    {"max_params": "0.6x", "max_madds": "0.7x"}])
@pytest.mark.parametrize("seed", [0, 1])
def test_of_equal_scores_what_is_returned_uses_most_of_the_budget(
    limits, seed):
  method = searched(candidates=6, **limits)
  best, report, _ = derive(method, seed, rights=lambda i: 500)
  bound = aims.budget(method, tiny.GENOTYPE)
  excess = [bound.excess(operations.Cost(row["params"], row["madds"]))
            for row in report["candidates"]]
  assert max(excess) <= 1 and min(excess) >= max(excess) - 0.1
  assert bound.excess(method.ground.cost(best)) >= 0.85
  assert len(excess) == 6


def as_good(report, rights):
  """Candidates that cost less and get as many right, the cheapest first.

  One that is lost is more than its standard error where none is won.
  """
  first, *rows = report["candidates"]
  cost = lambda row: (row["madds"], row["params"])
  found = [i for i, row in enumerate(rows, 1) if rights(i + 1) >= rights(1)
           and cost(row) != cost(first) and all(
               x <= y for x, y in zip(cost(row), cost(first), strict=True))]
  return sorted(found, key=lambda i: cost(report["candidates"][i]))


@pytest.mark.parametrize("rights, seen", [
    # Of 1000 images: one more says nothing, and ten do, as none are lost.
    (lambda i: 500 + i // 2, 0), (lambda i: 500 + 10 * (i == 4), 1),
    (lambda i: 500 + 10 * (i in (2, 5)) + 5 * (i == 3), 3),
    (lambda i: 500 - i, 0)])
def test_what_scores_surely_better_is_tried_first(rights, seen):
  method = searched(candidates=4, finalists=3, prefer="sure")
  best, report, scored = derive(method, rights=rights)
  right = [rights(i) for i in range(1, len(scored) + 1)]
  surely = [i for i, r in enumerate(right) if r - right[0] >= 4]
  surely.sort(key=lambda i: -right[i])
  others = [i for i in as_good(report, rights) if i not in surely]
  assert report["finalists"] == [*surely, *others][:3] and len(surely) == seen
  row = report["candidates"][surely[0] if surely else 0]
  assert row["chosen"] and architecture.to_dict(best) == row["architecture"]
  assert report["preferred"] == {
      "sure": surely[0] if surely else 0,
      "accuracy": right.index(max(right)),
      "cost": derive(searched(candidates=4), rights=rights)[1][
          "preferred"]["cost"]}
  assert all("explained" in report["candidates"][i]
             for i in report["finalists"])


@pytest.mark.long
@pytest.mark.parametrize("limits", [{"max_params": "0.9x"},
                                    {"max_madds": "0.75x"}])
def test_over_a_budget_the_best_score_near_it_is_chosen(limits):
  """The given one cannot be returned, so that nothing need surpass it."""
  rights = lambda i: 500 - i % 3
  method = searched(candidates=6, prefer="sure", **limits)
  best, report, _ = derive(method, rights=rights)
  rows = report["candidates"]
  bound = aims.budget(method, tiny.GENOTYPE)
  excess = [bound.excess(operations.Cost(row["params"], row["madds"]))
            for row in rows]
  assert not any(row["original"] for row in rows) and len(rows) == 6
  assert max(excess) <= 1 and min(excess) >= max(excess) - 0.1
  assert rows[2]["chosen"] and rows[2]["score"] == 0.5
  assert best != tiny.GENOTYPE
  assert report["finalists"] == [2, 5, 0]
  same, _, _ = derive(searched(candidates=6, **limits), rights=rights)
  assert bound.allows(method.ground.cost(same))


def test_a_budget_that_is_kept_already_asks_for_what_is_surely_better():
  method = searched(max_params="1x", candidates=4, prefer="sure")
  rights = lambda i: 500 - (i == 1)
  best, report, _ = derive(method, rights=rights)
  assert best == tiny.GENOTYPE
  # Without trials that is returned; they may find as good what is cheaper.
  assert report["finalists"] == as_good(report, rights)[:3] != []
  assert report["preferred"]["accuracy"] != 0


def test_a_policy_that_draws_what_is_far_cheaper_is_held_back():
  method = searched(max_params="0.9x", candidates=6)
  cheap = -30.0 * np.array([  # As if it had learnt to null and skip.
      name not in ("null", "skip_connect") for name in method.table.actions])
  plain = method.compiled_sample
  method.compiled_sample = lambda key, policy, cells, count, tilt: plain(
      key, policy, cells, count, tilt + cheap)
  try:
    best, report, _ = derive(method, rights=lambda i: 500)
    far, _, _ = derive(searched(max_params="0.9x", candidates=6,
                                prefer="accuracy"))
  finally:
    method.compiled_sample = plain
  limit = 0.9 * BEFORE.params
  assert 0.85 * limit <= method.ground.cost(best).params <= limit
  assert method.ground.cost(far).params < 0.75 * limit
  assert len(report["candidates"]) > 1


def test_a_budget_that_asks_for_nothing_changes_nothing():
  _, report, _ = derive(searched(max_params="1x", candidates=6))
  _, plain, _ = derive(searched(candidates=6))
  assert report == plain


def test_an_input_within_the_budget_is_a_candidate():
  method = searched(max_params="1x")
  _, report, _ = derive(method)
  assert report["candidates"][0]["original"]


def test_what_nothing_can_reach_is_said_at_once():
  method = searched(max_params="0.1x")
  with pytest.raises(errors.NotMet, match="with the cheapest operation"):
    aims.budget(method, tiny.GENOTYPE)


def test_argmax_over_the_budget_says_how_near_it_came():
  _, report, _ = derive(searched(selection="argmax"))
  least = min(row["params"] for row in report["candidates"])
  method = searched(selection="argmax", max_params=str(least - 1))
  with pytest.raises(errors.NotMet, match="the nearest has") as e:
    derive(method)
  assert "allow more by max-params" in str(e.value)


def test_edge_costs_are_those_of_the_network():
  method = searched()
  costs = method.ground.edge_costs(tiny.GENOTYPE)
  candidates = method.ground.candidates
  for cell, index in (("normal", 3), ("reduce", 0), ("normal", 7)):
    for name in ("null", "skip_connect", "max_pool_3x3", "dil_conv_5x5"):
      old = getattr(tiny.GENOTYPE, cell)
      edges = list(old.edges)
      before = edges[index].operation
      edges[index] = edges[index]._replace(operation=name)
      other = tiny.GENOTYPE._replace(**{cell: old._replace(
          edges=tuple(edges))})
      change = cost.network(other, skeleton.Skeleton())
      at = costs[:, int(cell == "reduce"), index // 2, index % 2]
      gained = at[:, candidates.index(name)] - at[:, candidates.index(before)]
      assert gained[0] == change.params - BEFORE.params
      assert gained[1] == change.madds - BEFORE.madds


def test_what_no_longer_leads_to_an_output_is_pruned():
  """A node whose only way out became null costs nothing any more."""
  space = spaces.space_for(
      blocks.scale(handcrafted.build("resnet20"), 0.5), method="natpp")
  method = natpp.NATpp(
      nat.NATConfig(init_channels=0, cells=0, samples=2), space,
      num_classes=10, image_size=8)
  ground = method.ground
  base = ground.encode(space.graph)
  null = ground.candidates.index("null")
  operation = base.operation.copy()
  operation[0, 1, 0] = null  # The second convolution of the plain blocks.
  alpha = candidates.pruned(base.replace(operation=operation), method)
  assert (alpha.operation[0, 0] == null).all()
  np.testing.assert_array_equal(alpha.operation[1], operation[1])
  network = ground.decode(alpha)
  for block in network.blocks[:3]:
    assert [e.operation for e in block.edges] == [
        "null", "null", "null", "skip_connect"]
  unpruned = ground.decode(base.replace(operation=operation))
  assert ground.cost(network).params < ground.cost(unpruned).params
  untouched = candidates.pruned(base, method)
  np.testing.assert_array_equal(untouched.operation, base.operation)


def test_budgets_of_networks_with_windows_of_a_side_of_their_own():
  """Nothing can take a padded window's place; its edge still has a cost."""
  space = spaces.space_for(architectures.PADDED, method="natpp")
  method = natpp.NATpp(
      nat.NATConfig(init_channels=0, cells=0, samples=2, max_params="0.9x"),
      space, num_classes=10, image_size=16)
  limits = aims.budget(method, space.graph)
  assert limits.params == 0.9 * method.ground.cost(space.graph).params
  method.config = dataclasses.replace(method.config, max_params="0.01x")
  with pytest.raises(errors.NotMet, match="cheapest operation"):
    aims.budget(method, space.graph)


def test_what_is_small_is_not_written_as_zero():
  for value in (0.004, 0.3, 1, 40, 99_999, 1e5, 3.4e6, 9.99e8, 1e9, 5e12):
    for shown in (amounts.count(value), amounts.count(value, 0),
                  amounts.memory(value), amounts.memory(value, 0),
                  amounts.rounded(value), amounts.rounded(value / 1e6, 1),
                  amounts.seconds(value * 1e-9)):
      assert float(shown.split()[0]) > 0, (value, shown)
  assert budget.Budget(0.5, 1, 1, 1e-8).text() == (
      "at most 0.5 parameters and at most 1 multiply-adds and at most 1 bytes"
      " of memory and at most 0.010 us of latency")
