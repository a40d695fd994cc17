"""What transformed architectures keep to: the budget of a method's settings.

Of a given architecture: limits of parameters, multiply-adds and memory, which
are counted, and of latency, which is measured (`bounds`) and of which the sum
of the operations' times foretells something before anything is timed. All take
a `nat.NAT`.
"""

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from natjax import errors, operations
from natjax.costs import budget as budget_lib
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, keeping
from natjax.methods import bounds as bounds_lib
from natjax.operations import edges as edges_lib
from natjax.spaces import ground as ground_lib


class Aim(NamedTuple):
  """What candidates keep to before any of them is timed.

  Attributes:
    bounds: the budget of the given architecture.
    limits: the same, its seconds those of the sum of operations' times.
    times: f64[G, N, K, O], seconds of every candidate operation; None where
      latency is not limited.
    ground: in whose arrays these are.
  """

  bounds: bounds_lib.Bounds
  limits: budget_lib.Budget
  times: np.ndarray | None
  ground: ground_lib.Ground

  def spent(self, architecture: codec.Architecture) -> budget_lib.Spent:
    """What an architecture costs, its seconds those of its operations."""
    return self.bounds.spent(architecture, 0.0 if self.times is None else (
        float(stands(self.times, self.ground.encode(architecture)).sum())))

  def allows(self, architecture: codec.Architecture) -> bool:
    """Whether an architecture keeps to it."""
    return self.limits.allows(*self.spent(architecture))

  def excess(self, architecture: codec.Architecture) -> float:
    """See `costs.budget.Budget.excess`."""
    return self.limits.excess(*self.spent(architecture))

  def asking(self, seconds: float) -> "Aim":
    """Of candidates that save so many seconds by operations' times."""
    assert self.times is not None
    now = self.spent(self.bounds.given).seconds
    return self._replace(limits=self.limits._replace(seconds=now - seconds))


def bounds_of(method: Any,
              architecture: codec.Architecture) -> bounds_lib.Bounds:
  """The budget of a method's settings, one object for an architecture."""
  key = method.config, architecture
  if key not in method.bounds:
    method.bounds[key] = bounds_lib.Bounds(
        method.config, architecture, method.ground.target, method.final_dtype)
  return method.bounds[key]


def budget(method: Any, architecture: codec.Architecture) -> budget_lib.Budget:
  """The limits of a method's settings, for a given architecture.

  Raises:
    InputError: a limit that cannot be read.
    errors.NotMet: not even the cheapest valid operation on every edge,
      connected or not, would keep to it.
  """
  bounds = bounds_of(method, architecture)
  before, limits = bounds.cost, bounds.limits
  if limits:
    costs, now = action_costs(method, architecture)
    saved = (now - costs.min(axis=-1)).sum((1, 2, 3))
    least = operations.Cost(*(
        int(total - s) for total, s in zip(before[:2], saved, strict=True)))
    memory, whole = (0, 0) if limits.memory is None else map(bounds.memory, (
        _barest(method, architecture, costs), architecture))
    if not limits.allows(least, memory):
      raise errors.NotMet(
          f"no transformation can keep to the budget ({limits.text()}): with"
          f" the cheapest operation on every edge {limits.of(least, memory)}"
          f" are left of {limits.of(before, whole)}; " + keeping.allow_more(
              method.config.keep, limited(limits).removeprefix(" by ")))
  return limits


def limited(limits: budget_lib.Budget) -> str:
  """By which settings of a budget more may be allowed: " by max-madds"."""
  names = [name for name, limit in zip(
      ("max-params", "max-madds", "max-memory", "max-latency"), limits,
      strict=True) if limit is not None]
  return f" by {' or '.join(names)}"


def _barest(method, architecture, costs):
  """The network of the cheapest operations, null before others, on all edges.
  """
  beta, table = method.ground.encode(architecture), method.table
  outcome = table.outcome[beta.operation]  # [G, N, K, A]
  action = np.argmin(np.where(
      outcome == table.null, costs.sum(0) - 1, costs.sum(0)), -1)[..., None]
  alpha = dataclasses.replace(beta, operation=np.take_along_axis(
      outcome, action, -1)[..., 0])
  return method.ground.decode(alpha, architecture)


def edge_seconds(method: Any, bounds: bounds_lib.Bounds) -> np.ndarray:
  """Seconds f64[G, N, K, O] of what may stand on edges, by themselves.

  Over all blocks that are decided on together; 0 of what may not stand there.
  """
  ground, latency = method.ground, bounds.latency
  assert latency is not None  # Or nothing is timed.
  beta = ground.encode(bounds.given)
  rows, found = np.asarray(ground.rows(beta)), np.zeros(
      (*ground.shape, len(ground.candidates)))
  network = codec.expand(bounds.given, ground.target)
  for slot, _, at in ground.sites(bounds.given, network, ground.target):
    now = int(beta.operation[slot])
    may = {now, *method.table.outcome[now][
        method.table.valid[rows[slot], now]].tolist()}
    names = {ground.candidates[o]: o for o in sorted(may)}
    for shapes, edge in at:
      ends = shapes.ends(edge)
      here = [name for name in names if name == edge.operation or (
          edges_lib.cost_if_possible(
              operations.get(name), ends,
              preactivate=network.preactivate) is not None)]
      for name, took in latency.operations(network, ends, here).items():
        found[(*slot, names[name])] += took
  return found


def stands(each: np.ndarray, arrays: arrays_lib.CellArrays) -> np.ndarray:
  """What is said f[G, N, K, O] of all operations, of those there f[G, N, K]."""
  return np.take_along_axis(
      each, np.asarray(arrays.operation)[..., None], -1)[..., 0]


def changeable(method: Any, architecture: codec.Architecture) -> bool:
  """Whether on any edge of an architecture another action is valid.

  Raises:
    InputError: the architecture is not in the space.
  """
  beta = method.ground.encode(architecture)
  valid = method.table.valid[np.asarray(method.ground.rows(beta)),
                             beta.operation]
  return bool((valid.sum(-1) > 1).any())


def action_costs(method: Any, architecture: codec.Architecture
                 ) -> tuple[np.ndarray, np.ndarray]:
  """Costs f64[2, G, N, K, A] of actions, and [2, G, N, K] of what stands now.

  Those that are not valid cost infinitely much.
  """
  beta = method.ground.encode(architecture)
  each = method.ground.edge_costs(architecture)
  of = lambda operation: np.take_along_axis(each, operation[None], -1)
  rows = np.asarray(method.ground.rows(beta))
  costs = np.where(method.table.valid[rows, beta.operation],
                   of(method.table.outcome[beta.operation]), np.inf)
  return costs, of(beta.operation[..., None])[..., 0]


def preference(method: Any) -> str:
  """Which of `choice.PREFERENCES` a method's settings have."""
  prefer = method.config.prefer
  return prefer if prefer != "auto" else (
      "accuracy" if method.published else "sure")


def closely(method: Any, aim: Aim) -> bool:
  """Whether candidates are to be near a budget: where it asks for something."""
  return bool(aim.limits) and not aim.allows(aim.bounds.given) and (
      preference(method) != "accuracy")
