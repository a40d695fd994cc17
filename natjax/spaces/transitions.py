"""Which operation may become which: transition schemes and their cost guard.

A scheme says what a policy's actions make of every operation and which of
them its rule allows; a table is a scheme on given edges, with the guard.

NAT (Guo et al., 2021, section 3.1): an operation may be kept, replaced by a
skip, or replaced by a null connection. NAT++ (section 4.1): the two-level rule,
an operation may become any operation of no dearer type and no larger kernel.
Both demand c(alpha) <= c(beta), and the released code checks neither: null may
become a skip that holds weights at stride 2, and so may pooling. Here a
transition is valid where it raises neither the parameters nor the multiply-adds
of the edge wherever that stands; keeping an operation is always valid.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from natjax import errors, operations
from natjax.operations import edges as edges_lib

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
    valid: bool[R, O, A], whether it is valid on each of R kinds of edges.
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

  Raises:
    InputError: without those that its actions lead to.
  """
  if lacks := [name for name in (operations.NULL, operations.SKIP)
               if name not in candidates]:
    raise errors.InputError(
        f"NAT replaces by {operations.NULL} and {operations.SKIP}, and the"
        f" candidates ({', '.join(candidates)}) lack {' and '.join(lacks)};"
        " add that, or choose natpp", "space")
  null, skip = map(candidates.index, (operations.NULL, operations.SKIP))
  outcome = np.array([(null, same, skip) for same in range(len(candidates))],
                     np.int32)
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
  outcome = np.broadcast_to(np.arange(len(known), dtype=np.int32),
                            allowed.shape)
  return Scheme(tuple(candidates), outcome, allowed)


def two_level_rule(before: operations.Operation,
                   after: operations.Operation) -> bool:
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


def keeping(scheme: Scheme) -> np.ndarray:
  """bool[O, A], of every operation the one action that keeps it."""
  # NAT has an action "same"; in NAT++ it is the operation itself.
  count = len(scheme.outcome)
  action = np.full(count, scheme.actions.index("same")) if (
      "same" in scheme.actions) else np.arange(count)
  return np.arange(len(scheme.actions)) == action[:, None]


def valid_actions(scheme: Scheme, may: np.ndarray) -> np.ndarray:
  """The actions that are valid on one kind of edge, bool[O, A].

  Where two actions would have the same outcome (null/same for a null, skip/
  same for a skip) only the one that keeps is valid, so that a transformation
  has one probability.

  Args:
    scheme: the rule.
    may: bool[O, O], whether a guard lets a row's operation become a column's.
  """
  changes = scheme.outcome != np.arange(len(scheme.outcome))[:, None]
  return keeping(scheme) | (
      scheme.allowed & changes & np.take_along_axis(may, scheme.outcome, 1))


def becomes(scheme: Scheme | TransitionTable, candidates: Sequence[str],
            valid: np.ndarray) -> dict[str, list[str]]:
  """Per candidate, the candidates that it may become, itself among them.

  Args:
    scheme: of the candidates.
    candidates: operation names, in order; O of them.
    valid: bool[O, A], a row of a table.
  """
  return {before: [candidates[o] for o in sorted(set(outcomes[row].tolist()))]
          for before, outcomes, row in zip(
              candidates, scheme.outcome, valid, strict=True)}


def may_become(candidates: Sequence[str], ends: Iterable[edges_lib.Ends], *,
               preactivate: bool = True) -> np.ndarray:
  """The guard of cost, bool[O, O]: whether a row may become a column.

  It may where it then costs no more, in parameters and in multiply-adds, on
  each of some edges. An operation that cannot stand there is never an outcome,
  and may itself become null alone.

  Args:
    candidates: operation names, in order; O of them.
    ends: the shapes that the edges join.
    preactivate: whether operations begin with a ReLU.
  """
  ends = tuple(ends)
  costs = [[edges_lib.cost_if_possible(operations.get(name), e,
                                       preactivate=preactivate) for e in ends]
           for name in candidates]

  def may(old, new, name):
    if None in new or None in old:
      return None not in new and name == operations.NULL
    return all(b.params <= a.params and b.madds <= a.madds
               for a, b in zip(old, new, strict=True))

  return np.array([[may(old, new, name) for new, name in zip(
      costs, candidates, strict=True)] for old in costs])
