"""Tests of the transition tables and the cost guard."""

import numpy as np
import pytest

from natjax import errors, operations, spaces
from natjax.operations import edges
from natjax.spaces import transitions

CANDIDATES = spaces.SPACES["nat"].candidates
# Where edges of DARTS's CIFAR skeleton stand, by their stride.
ENDS = {
    1: [edges.Ends(36, 36, 1, 32), edges.Ends(72, 72, 1, 16),
        edges.Ends(144, 144, 1, 8)],
    2: [edges.Ends(72, 72, 2, 32), edges.Ends(144, 144, 2, 16)]}


def valid_by_stride(scheme, candidates):
  """bool[2, O, A], guarded at stride 1 and at stride 2."""
  return np.stack([
      transitions.valid_actions(
          scheme, transitions.may_become(candidates, ENDS[stride]))
      for stride in (1, 2)])


NAT = transitions.nat_scheme(CANDIDATES)
VALID = valid_by_stride(NAT, CANDIDATES)


def valid_actions(name, stride):
  row = VALID[stride - 1, CANDIDATES.index(name)]
  return {NAT.actions[a] for a in np.flatnonzero(row)}


def test_stride_one_allows_what_the_paper_allows():
  assert valid_actions("sep_conv_3x3", 1) == {"null", "same", "skip_connect"}
  assert valid_actions("max_pool_3x3", 1) == {"null", "same", "skip_connect"}
  assert valid_actions("null", 1) == {"same", "skip_connect"}
  assert valid_actions("skip_connect", 1) == {"null", "same"}


def test_a_strided_skip_holds_weights_and_may_not_replace_what_holds_none():
  assert valid_actions("max_pool_3x3", 2) == {"null", "same"}
  assert valid_actions("null", 2) == {"same"}
  assert valid_actions("dil_conv_3x3", 2) == {"null", "same", "skip_connect"}


@pytest.mark.parametrize("candidates, lacks", [
    (("conv_3x3", "null"), "skip_connect"),
    (("conv_3x3", "skip_connect"), "null"),
    (("conv_3x3",), "null and skip_connect")])
def test_nat_needs_what_its_actions_lead_to(candidates, lacks):
  with pytest.raises(errors.InputError, match=f" lack {lacks}; add that, or"):
    transitions.nat_scheme(candidates)


@pytest.mark.parametrize("name", ["nat", "nat_loose_end", "natpp"])
@pytest.mark.parametrize("kind", transitions.SCHEMES)
def test_every_outcome_of_every_valid_transition_costs_no_more(name, kind):
  candidates = spaces.SPACES[name].candidates
  scheme = transitions.SCHEMES[kind](candidates)
  valid = valid_by_stride(scheme, candidates)
  checked = 0
  for stride in (1, 2):
    for o, before in enumerate(candidates):
      for a in np.flatnonzero(valid[stride - 1, o]):
        after = candidates[scheme.outcome[o, a]]
        for channels, size in ((36, 32), (72, 16), (144, 8)):
          old = operations.get(before).cost(channels, size, stride)
          new = operations.get(after).cost(channels, size, stride)
          assert new.params <= old.params and new.madds <= old.madds
          checked += 1
  assert checked > 100


@pytest.mark.parametrize("kind", transitions.SCHEMES)
def test_keeping_is_always_valid(kind):
  scheme = transitions.SCHEMES[kind](CANDIDATES)
  keeping = transitions.keeping(scheme)
  assert (keeping.sum(1) == 1).all()
  rows, actions = np.nonzero(keeping)
  np.testing.assert_array_equal(scheme.outcome[rows, actions], rows)
  assert valid_by_stride(scheme, CANDIDATES)[:, keeping].all()
  if kind == "nat":
    assert (actions == scheme.actions.index("same")).all()


def test_of_two_actions_with_one_outcome_only_the_one_that_keeps_is_valid():
  """So that a transformation has one probability."""
  for valid in VALID:
    for outcome, row in zip(NAT.outcome, valid, strict=True):
      outcomes = outcome[row].tolist()
      assert len(set(outcomes)) == len(outcomes)


def test_what_an_operation_may_become_in_words():
  becomes = transitions.becomes(NAT, CANDIDATES, VALID[1])
  assert becomes["max_pool_3x3"] == ["max_pool_3x3", "null"]
  assert becomes["conv_3x3"] == ["skip_connect", "conv_3x3", "null"]
  assert becomes["null"] == ["null"]


def may(candidates, *ends, preactivate=True):
  found = transitions.may_become(candidates, ends, preactivate=preactivate)
  return {before: {after for after, yes in zip(candidates, row, strict=True)
                   if yes}
          for before, row in zip(candidates, found, strict=True)}


def test_the_guard_by_hand():
  """Where a skip is a projection, it costs what a 1x1 convolution costs."""
  names = ("conv_3x3", "conv_1x1", "max_pool_3x3", "skip_connect", "null")
  copies = {"max_pool_3x3", "skip_connect", "null"}  # They cost nothing.
  assert may(names, edges.Ends(8, 8, 1, 8)) == {
      "conv_3x3": set(names), "conv_1x1": {*names} - {"conv_3x3"},
      "max_pool_3x3": copies, "skip_connect": copies, "null": copies}
  wide = {"conv_1x1", "max_pool_3x3", "skip_connect", "null"}
  assert may(names, edges.Ends(8, 16, 1, 8)) == {
      "conv_3x3": set(names), "conv_1x1": wide, "max_pool_3x3": wide,
      "skip_connect": wide, "null": {"null"}}
  # What must hold on each of several edges holds on the worst.
  assert may(names, edges.Ends(8, 8, 1, 8), edges.Ends(8, 16, 1, 8)) == {
      "conv_3x3": set(names), "conv_1x1": wide,
      "max_pool_3x3": copies, "skip_connect": copies, "null": {"null"}}


def test_what_cannot_stand_is_no_outcome_and_may_become_null_alone():
  names = ("conv_3x3", "max_pool_2x2", "max_pool_2x2_padded",
           "group8_conv_1x1", "skip_connect", "null")
  # At stride 1, neither of the windows; 12 channels cannot be cut in eight.
  impossible = {"max_pool_2x2", "max_pool_2x2_padded", "group8_conv_1x1"}
  found = may(names, edges.Ends(12, 12, 1, 8))
  for name in impossible:
    assert found[name] == {"null"}
  assert not any(impossible & found[name] for name in set(names) - impossible)
  # At stride 2 a padded window leaves a pixel more than the others do.
  found = may(names, edges.Ends(16, 16, 2, 8))
  assert found["max_pool_2x2"] == {"max_pool_2x2", "null"}
  assert found["max_pool_2x2_padded"] == {"null"}
  assert found["conv_3x3"] == {*names} - {"max_pool_2x2_padded"}


def test_a_dear_operation_of_a_users_own_is_guarded_by_its_cost():
  cheap = operations.Operation(
      "cheap_test", "custom", 1, lambda features, stride, norm: lambda x: x,
      lambda channels, size, stride: operations.Cost(1, 1), strides=(1, 2))
  with operations.registered(cheap):
    candidates = ("cheap_test", *CANDIDATES)
    valid = valid_by_stride(transitions.nat_scheme(candidates), candidates)
    assert valid[0, 0].tolist() == [True, True, True]
    # At stride 2 the skip holds more than one parameter.
    assert valid[1, 0].tolist() == [True, True, False]


NATPP = spaces.SPACES["natpp"].candidates

# spec/nat.md, section 1; columns in the order of the rows' published list.
PUBLISHED = {
    "max_pool_3x3": "1010100000001", "max_pool_5x5": "1111100000001",
    "avg_pool_3x3": "1010100000001", "avg_pool_5x5": "1111100000001",
    "skip_connect": "0000100000001", "sep_conv_3x3": "1010110100001",
    "sep_conv_5x5": "1111111110001", "dil_conv_3x3": "1010100100001",
    "dil_conv_5x5": "1111100110001", "conv_1x1": "0000100001001",
    "conv_3x3": "1010110101101", "conv_5x5": "1111111111111",
    "null": "0000100000001"}


def test_the_two_level_rule_gives_the_published_table():
  assert tuple(PUBLISHED) == NATPP
  scheme = transitions.natpp_scheme(NATPP)
  assert scheme.actions == NATPP
  for name, row in zip(NATPP, scheme.allowed, strict=True):
    assert "".join(str(int(v)) for v in row) == PUBLISHED[name]
  assert scheme.allowed.sum() == 77
  np.testing.assert_array_equal(
      scheme.outcome, np.tile(np.arange(13), (13, 1)))


def test_a_users_operation_gets_its_transitions_from_the_rule():
  """By its type and kernel; an unknown type becomes skip or null alone."""
  def make(name, kind, kernel):
    return operations.Operation(
        name, kind, kernel, lambda features, stride, norm: lambda x: x,
        lambda channels, size, stride: operations.Cost(10**9, 10**12))

  with operations.registered(make("mine_conv", "conv", 4)), \
      operations.registered(make("mine_odd", "scale", 3)):
    candidates = (*NATPP[:-1], "mine_conv", "mine_odd", "null")
    table = valid_by_stride(transitions.natpp_scheme(candidates), candidates)
    valid = lambda name: {
        candidates[a] for a in np.flatnonzero(
            table[0, candidates.index(name)])}
    assert valid("mine_conv") == {
        "mine_conv", "conv_3x3", "conv_1x1", "sep_conv_3x3", "dil_conv_3x3",
        "max_pool_3x3", "avg_pool_3x3", "skip_connect", "null"}
    assert valid("mine_odd") == {"mine_odd", "skip_connect", "null"}
    assert "mine_conv" not in valid("conv_5x5")  # Allowed, but dearer.
