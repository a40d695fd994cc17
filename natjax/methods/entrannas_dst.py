"""EnTranNAS-DST: search with Engine and Transit cells for a topology.

Yang et al., 2021 (see `entrannas`), section 2.4. Every node has a threshold
that is learnt: a connection whose softmax, relative to the node's largest
(equation 7), does not exceed it weighs 0 (equation 8), and what is left on an
edge is normalised to 1 (equation 9). All connections that do not weigh 0 are
derived (equation 10), any number per node and per edge, so that Engine cells
run just what Transit cells run. The thresholds are pushed up by
lambda * mean_j(-log t_j) (equation 11).

What the paper leaves open:
- The thresholds begin at 1/2 (beta = 0); with alpha near 0 all connections run.
- The mean of equation 11 is over the nodes of a cell type, and the types add
  up.
- The gradient flows through the maximum of equation 7.
- A pruned connection has no gradient of its own, and comes back when its
  softmax, the node's maximum or its threshold move.
- Where a space has one operation per edge, an edge keeps its strongest
  connection alone, and in NAS-Bench-201's `null` where all are pruned.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.methods import entrannas, listed
from natjax.spaces import connections
from natjax.training import settings


@dataclasses.dataclass(frozen=True)
class DSTConfig(entrannas.EnTranConfig):
  """Settings of EnTranNAS-DST; those of `entrannas.EnTranConfig`, and

  Attributes:
    sparsity: lambda of equation 11, how hard thresholds are pushed up.
  """

  sparsity: float = 0.1


class EnTranNASDST(entrannas.EnTranNAS):
  """See the module."""

  def __init__(self, config: DSTConfig, space: Any, **sizes: Any):
    """As `bilevel.Search`."""
    settings.not_negative(config, "sparsity")
    if config.distinct_edges:
      settings.refuse(config, "distinct_edges", "does not apply where the"
                      " number of connections is learnt; leave it out")
    if space.parents is not None:
      raise errors.InputError(
          f"search space '{space.name}' gives every node a number of parents,"
          " and entrannas-dst learns how many there are; choose another space,"
          " or method entrannas", "space")
    super().__init__(config, space, **sizes)

  def init_alpha(self, rng: jax.Array) -> Any:
    """Draws alpha, and beta = 0 for every node."""
    return super().init_alpha(rng) | {"beta": [
        jnp.zeros(len(group.nodes)) for group in self.connections.groups]}

  def thresholds(self, alpha: Any) -> list[jax.Array]:
    """t = sigmoid(beta), f32[N] per group."""
    return [jax.nn.sigmoid(beta) for beta in alpha["beta"]]

  def mix(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """Equations 5 and 7 to 9."""
    return [sparsify(p, t, group) for p, t, group in zip(
        super().mix(alpha, step), self.thresholds(alpha),
        self.connections.groups, strict=True)]

  def keep(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """Equation 10."""
    mix = self.mix(alpha, step)
    return self.connections.one_per_edge([q > 0 for q in mix], mix)

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """As `bilevel.Search`; connections go until it does."""
    return self.connections.within(
        kept, strengths, self.limits, fewer=True)

  def penalty(self, alpha: Any) -> jax.Array:
    """The second term of equation 11."""
    return self.config.sparsity * sum(
        jnp.mean(jax.nn.softplus(-beta)) for beta in alpha["beta"])

  def observed(self, alpha: Any, step: jax.Array) -> dict[str, Any]:
    """The temperature, and the thresholds per edge."""
    levels = []
    for t, group in zip(self.thresholds(alpha), self.connections.groups,
                        strict=True):
      level = np.zeros(len(group.cell.edges))
      for n, into in enumerate(group.nodes):
        level[list(into)] = t[n]
      levels.append(level)
    return {**super().observed(alpha, step),
            "thresholds": self.connections.named(levels)}


def sparsify(p: jax.Array, threshold: jax.Array,
             group: connections.Group) -> jax.Array:
  """The coefficients of connections, f32[E, O].

  Args:
    p: f32[E, O], the softmax on every edge (equation 5).
    threshold: f32[N], t per node of the group.
    group: whose edges they are.
  """
  found = jnp.zeros_like(p)
  for n, into in enumerate(group.nodes):
    rows = np.array(into)
    relative = p[rows] / jnp.max(p[rows])  # Equation 7.
    q = jax.nn.relu(relative - threshold[n])  # Equation 8.
    total = jnp.sum(q, axis=-1, keepdims=True)
    some = total > 0
    # Of an edge without connections 0, and no NaN in its gradient.
    found = found.at[rows].set(jnp.where(
        some, q / jnp.where(some, total, 1.0), 0.0))  # Equation 9.
  return found


ENTRY = entrannas.entry(
    EnTranNASDST, DSTConfig, listed.LINES["entrannas-dst"], {})
