"""Which operation may become which: transition schemes and their cost guard.

A scheme says what a policy's actions make of every operation and which of
them its rule allows; a table is a scheme at the places of given skeletons,
with the guard.

NAT (Guo et al., 2021, section 3.1): an operation may be kept, replaced by a
skip, or replaced by a null connection. NAT++ (section 4.1): the two-level rule,
an operation may become any operation of no dearer type and no larger kernel.
Both demand c(alpha) <= c(beta), and the released code checks neither: null may
become a skip that holds weights at stride 2, and so may pooling. Here a
transition is valid where it raises neither the parameters nor the multiply-adds
of the edge at any place of the skeletons; keeping an operation is always valid.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from natjax import operations
from natjax.graph import skeleton as skeleton_lib

NAT_ACTIONS = ("null", "same", "skip_connect")

# Rule 1, conv -> sep_conv -> dil_conv -> pooling: a type may become one of no
# higher rank. Types that are not listed become themselves, skip and null only.
# Grouped and single depthwise convolutions, which the paper does not rank,
# stand by their cost; the guard has the last word.
TYPE_RANKS = {"conv": 5, "group_conv": 4, "sep_conv": 3, "dil_conv": 2,
              "depthwise_conv": 1, "max_pool": 0, "avg_pool": 0}


class Scheme(NamedTuple):
  """What A actions make of O operations.

  Attributes:
    actions: names of the actions.
    outcome: i32[O, A], the operation that an action makes of an operation.
    allowed: bool[O, A], by the scheme's rule alone.
  """

  actions: tuple[str, ...]
  outcome: np.ndarray
  allowed: np.ndarray


class TransitionTable(NamedTuple):
  """A scheme with its guards.

  Attributes:
    actions: names of the actions.
    outcome: i32[O, A], the operation that an action makes of an operation.
    valid: bool[R, O, A], whether it is valid at a place; R places. In cells,
      row 0 is stride 1 and row 1 stride 2.
    null: index of the null operation.
    connectivity: whether sampling forbids, too, what would leave a
      concatenated node without a signal (`policies.sampling`).
    smoothing: added to every probability, unnormalised, as in NAT's released
      code (1e-5); 0 for a proper distribution, with exact zeros (equation 6).
  """

  actions: tuple[str, ...]
  outcome: np.ndarray
  valid: np.ndarray
  null: int
  connectivity: bool = True
  smoothing: float = 0.0


def nat_scheme(candidates: Sequence[str]) -> Scheme:
  """NAT's three actions, of which the rule allows all.

  Args:
    candidates: operation names, in order; O of them.
  """
  count = len(candidates)
  outcome = np.stack([
      np.full(count, candidates.index(operations.NULL)),
      np.arange(count),
      np.full(count, candidates.index(operations.SKIP)),
  ], axis=1).astype(np.int32)
  return Scheme(NAT_ACTIONS, outcome, np.ones(outcome.shape, bool))


def natpp_scheme(candidates: Sequence[str]) -> Scheme:
  """NAT++'s actions, one per operation, by the two-level rule.

  Example:
    >>> scheme = natpp_scheme(("avg_pool_3x3", "conv_1x1", "conv_3x3",
    ...                        "skip_connect", "null"))
    >>> scheme.allowed.astype(int).tolist()[:2]
    [[1, 0, 0, 1, 1], [0, 1, 0, 1, 1]]
  """
  known = [operations.get(name) for name in candidates]
  allowed = np.array([[two_level_rule(old, new) for new in known]
                      for old in known])
  outcome = np.broadcast_to(
      np.arange(len(known), dtype=np.int32), allowed.shape)
  return Scheme(tuple(candidates), outcome, allowed)


def two_level_rule(
    before: operations.Operation, after: operations.Operation
) -> bool:
  """Whether NAT++ allows a transition, by types and kernels alone.

  The type's rank (`TYPE_RANKS`) must not rise and the kernel must not grow; of
  equal rank, as max and average pooling, types may change. Whatever it is, an
  operation may become skip or null; skip and null become each other only.
  """
  if before.name == after.name or after.name in (
      operations.SKIP, operations.NULL):
    return True
  if before.type not in TYPE_RANKS or after.type not in TYPE_RANKS:
    return False
  return (TYPE_RANKS[after.type] <= TYPE_RANKS[before.type]
          and after.kernel_size <= before.kernel_size)


SCHEMES: dict[str, Callable[[Sequence[str]], Scheme]] = {
    "nat": nat_scheme, "natpp": natpp_scheme}


def guarded_table(
    scheme: Scheme,
    candidates: Sequence[str],
    skeletons: Sequence[skeleton_lib.Skeleton],
) -> TransitionTable:
  """Adds the guards of cost and connectivity to a scheme.

  Where two actions would have the same outcome (null/same for a null, skip/
  same for a skip) only the one that keeps is valid, so that a transformation
  has one probability.

  Args:
    scheme: of the candidates.
    candidates: operation names, in order; O of them.
    skeletons: those in which no edge may come to cost more.
  """
  valid = guarded(scheme, candidates, edge_places(skeletons))
  return TransitionTable(scheme.actions, scheme.outcome, valid,
                         candidates.index(operations.NULL))


def guarded(
    scheme: Scheme,
    candidates: Sequence[str],
    places: Mapping[int, set[tuple[int, int]]],
) -> np.ndarray:
  """Which actions the rule and the guard of cost allow, bool[2, O, A].

  Args:
    scheme: of the candidates.
    candidates: operation names, in order; O of them.
    places: per stride, the (channels, input side) of edges, as `edge_places`
      gives them.
  """
  return np.stack([
      valid_actions(scheme, np.array([
          [not_dearer(before, after, stride, places[stride])
           for after in candidates] for before in candidates]))
      for stride in (1, 2)])


def keeping(scheme: Scheme) -> np.ndarray:
  """bool[O, A], of every operation the one action that keeps it."""
  # NAT has an action "same"; in NAT++ it is the operation itself.
  count = len(scheme.outcome)
  action = np.full(count, scheme.actions.index("same")) if (
      "same" in scheme.actions) else np.arange(count)
  return np.arange(len(scheme.actions)) == action[:, None]


def valid_actions(scheme: Scheme, may: np.ndarray) -> np.ndarray:
  """The actions that are valid at one place, bool[O, A].

  Args:
    scheme: the rule.
    may: bool[O, O], whether a guard lets a row's operation become a column's.
  """
  changes = scheme.outcome != np.arange(len(scheme.outcome))[:, None]
  return keeping(scheme) | (
      scheme.allowed & changes & np.take_along_axis(may, scheme.outcome, 1))


def becomes(
    scheme: Scheme, candidates: Sequence[str], valid: np.ndarray
) -> dict[str, list[str]]:
  """Per candidate, the candidates that it may become, itself among them.

  Args:
    scheme: of the candidates.
    candidates: operation names, in order; O of them.
    valid: bool[O, A], one row of `guarded`.
  """
  return {
      before: [candidates[o] for o in sorted(set(outcomes[row].tolist()))]
      for before, outcomes, row in zip(
          candidates, scheme.outcome, valid, strict=True)}


def published_table(
    scheme: Scheme, candidates: Sequence[str], *, smoothing: float
) -> TransitionTable:
  """As the released code: the scheme's rule alone, nothing is guarded."""
  return TransitionTable(
      scheme.actions, scheme.outcome, np.stack([scheme.allowed] * 2),
      candidates.index(operations.NULL), connectivity=False,
      smoothing=smoothing)


def edge_places(
    skeletons: Sequence[skeleton_lib.Skeleton],
) -> dict[int, set[tuple[int, int]]]:
  """Per stride, the (channels, input side) of every edge of the skeletons."""
  places: dict[int, set[tuple[int, int]]] = {1: set(), 2: set()}
  for skeleton in skeletons:
    for layer in skeleton_lib.layers(skeleton, (1, 1)):
      places[1].add((layer.channels, layer.out_size))
      if layer.reduction:
        places[2].add((layer.channels, layer.in_size))
  return places


def not_dearer(
    before: str, after: str, stride: int, places: set[tuple[int, int]]
) -> bool:
  """Whether `after` costs no more than `before` at every place.

  An operation that cannot stand at the stride is never a valid outcome.
  """
  old, new = operations.get(before), operations.get(after)
  if stride not in new.strides:
    return False
  if stride not in old.strides:
    return new.name == operations.NULL
  costs = [(old.cost(c, size, stride), new.cost(c, size, stride))
           for c, size in places]
  return all(n.params <= o.params and n.madds <= o.madds for o, n in costs)
