"""Tests of the transition tables and the cost guard."""

import numpy as np

from natjax import operations
from natjax import spaces
from natjax.graph import skeleton
from natjax.spaces import transitions

CANDIDATES = spaces.SPACES["nat"].candidates
SKELETON = skeleton.Skeleton()


def valid_actions(table, name, stride):
  row = table.valid[stride - 1, CANDIDATES.index(name)]
  return {table.actions[a] for a in np.flatnonzero(row)}


def test_stride_one_allows_what_the_paper_allows():
  table = transitions.guarded_table(
      transitions.nat_scheme(CANDIDATES), CANDIDATES, [SKELETON])
  assert valid_actions(table, "sep_conv_3x3", 1) == {
      "null", "same", "skip_connect"}
  assert valid_actions(table, "max_pool_3x3", 1) == {
      "null", "same", "skip_connect"}
  assert valid_actions(table, "null", 1) == {"same", "skip_connect"}
  assert valid_actions(table, "skip_connect", 1) == {"null", "same"}


def test_a_strided_skip_holds_weights_and_may_not_replace_what_holds_none():
  table = transitions.guarded_table(
      transitions.nat_scheme(CANDIDATES), CANDIDATES, [SKELETON])
  assert valid_actions(table, "max_pool_3x3", 2) == {"null", "same"}
  assert valid_actions(table, "null", 2) == {"same"}
  assert valid_actions(table, "dil_conv_3x3", 2) == {
      "null", "same", "skip_connect"}


def test_every_outcome_of_every_valid_transition_costs_no_more():
  for name in ("nat", "nat_loose_end"):
    candidates = spaces.SPACES[name].candidates
    table = transitions.guarded_table(
      transitions.nat_scheme(candidates), candidates, [SKELETON])
    checked = 0
    for stride in (1, 2):
      for o, before in enumerate(candidates):
        for a in np.flatnonzero(table.valid[stride - 1, o]):
          after = candidates[table.outcome[o, a]]
          for channels, size in ((36, 32), (72, 16), (144, 8)):
            old = operations.get(before).cost(channels, size, stride)
            new = operations.get(after).cost(channels, size, stride)
            assert new.params <= old.params and new.madds <= old.madds
            checked += 1
    assert checked > 100


def test_keeping_is_always_valid():
  table = transitions.guarded_table(
      transitions.nat_scheme(CANDIDATES), CANDIDATES, [SKELETON])
  same = table.actions.index("same")
  assert table.valid[:, :, same].all()
  np.testing.assert_array_equal(
      table.outcome[:, same], np.arange(len(CANDIDATES)))


def test_published_table_guards_nothing():
  table = transitions.published_table(
      transitions.nat_scheme(CANDIDATES), CANDIDATES, smoothing=1e-5)
  assert table.valid.all() and not table.connectivity
  assert table.smoothing == 1e-5


def test_a_dear_operation_of_a_users_own_is_guarded_by_its_cost():
  cheap = operations.Operation(
      "cheap_test", "custom", 1, lambda features, stride, norm: lambda x: x,
      lambda channels, size, stride: operations.Cost(1, 1), strides=(1, 2))
  with operations.registered(cheap):
    candidates = ("cheap_test", *CANDIDATES)
    table = transitions.guarded_table(
      transitions.nat_scheme(candidates), candidates, [SKELETON])
    assert table.valid[0, 0].tolist() == [True, True, True]
    # At stride 2 the skip holds more than one parameter.
    assert table.valid[1, 0].tolist() == [True, True, False]


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
    table = transitions.guarded_table(
        transitions.natpp_scheme(candidates), candidates, [SKELETON])
    valid = lambda name: {
        candidates[a] for a in np.flatnonzero(
            table.valid[0, candidates.index(name)])}
    assert valid("mine_conv") == {
        "mine_conv", "conv_3x3", "conv_1x1", "sep_conv_3x3", "dil_conv_3x3",
        "max_pool_3x3", "avg_pool_3x3", "skip_connect", "null"}
    assert valid("mine_odd") == {"mine_odd", "skip_connect", "null"}
    assert "mine_conv" not in valid("conv_5x5")  # Allowed, but dearer.
