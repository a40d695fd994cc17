"""Which operation may become which: transition tables and their cost guard.

Guo et al., 2021, section 3.1: an operation may be kept, replaced by a skip or
replaced by a null connection, and the result may not cost more, c(alpha) <=
c(beta). The released code checks neither: null may become a skip that holds
weights at stride 2, and so may pooling. Here a transition is valid where it
raises neither the parameters nor the multiply-adds of the edge at any place of
the given skeletons; keeping an operation is always valid.

A table is data, so that other methods bring other tables to the same policy.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from natjax import operations
from natjax import skeleton as skeleton_lib

NAT_ACTIONS = ("null", "same", "skip_connect")


class TransitionTable(NamedTuple):
  """A transition scheme over O operations with A actions.

  Attributes:
    actions: names of the actions.
    outcome: i32[O, A], the operation that an action makes of an operation.
    valid: bool[2, O, A], whether it is valid at stride 1 (row 0) and 2.
    null: index of the null operation.
    connectivity: whether sampling forbids, too, what would leave a
      concatenated node without a signal (`policies.sampling`).
    smoothing: added to every probability, unnormalised, as in the released
      code (1e-5); 0 for a proper distribution.
  """

  actions: tuple[str, ...]
  outcome: np.ndarray
  valid: np.ndarray
  null: int
  connectivity: bool = True
  smoothing: float = 0.0


def nat_table(
    candidates: Sequence[str], skeletons: Sequence[skeleton_lib.Skeleton]
) -> TransitionTable:
  """Computes NAT's table {null, same, skip} with the cost guard.

  Where two actions would have the same outcome (null/same for a null, skip/
  same for a skip) only `same` is valid, so that a transformation has one
  probability.

  Args:
    candidates: operation names, in order; O of them.
    skeletons: those in which no edge may come to cost more.
  """
  outcome = nat_outcomes(candidates)
  places = edge_places(skeletons)
  same = NAT_ACTIONS.index("same")
  valid = np.zeros((2, *outcome.shape), bool)
  for row, stride in enumerate((1, 2)):
    for o, name in enumerate(candidates):
      for a in range(len(NAT_ACTIONS)):
        duplicate = a != same and outcome[o, a] == o
        valid[row, o, a] = a == same or (not duplicate and not_dearer(
            name, candidates[outcome[o, a]], stride, places[stride]))
  return TransitionTable(NAT_ACTIONS, outcome, valid,
                         candidates.index(operations.NULL))


def published_table(candidates: Sequence[str]) -> TransitionTable:
  """The released code's table: every action is valid, nothing is guarded."""
  outcome = nat_outcomes(candidates)
  return TransitionTable(
      NAT_ACTIONS, outcome, np.ones((2, *outcome.shape), bool),
      candidates.index(operations.NULL), connectivity=False, smoothing=1e-5)


def nat_outcomes(candidates: Sequence[str]) -> np.ndarray:
  """i32[O, 3]: what null, same and skip make of every operation."""
  count = len(candidates)
  return np.stack([
      np.full(count, candidates.index(operations.NULL)),
      np.arange(count),
      np.full(count, candidates.index(operations.SKIP)),
  ], axis=1).astype(np.int32)


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
