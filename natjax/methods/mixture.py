"""An edge of which theta weighs what may stand there.

Equation 1 of "Differentiable Neural Architecture Transformation" (the same as
that of "Proxyless Neural Architecture Adaptation for Supervised Learning and
Self-Supervised Learning"): theta_none * 0 + theta_id * x + theta_same * o(x),
without softmax. Theta begins at (0, 0, 1), where the network computes what the
given one does.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from natjax import operations
from natjax.networks import network as network_lib
from natjax.operations import primitives

NONE, ID, SAME = range(3)  # Columns of theta.
NAMES = ("none", "id", "same")

# Per block, the numbers of the edges with an identity of their own.
Identities = tuple[frozenset[int], ...]


def initial(num_edges: int) -> jax.Array:
  """Theta at the start, f32[E, 3].

  Example:
    >>> initial(1).tolist()
    [[0.0, 0.0, 1.0]]
  """
  return jnp.tile(jnp.array([0.0, 0.0, 1.0]), (num_edges, 1))


def weigh(
    theta: Sequence[jax.Array], identities: Identities
) -> network_lib.EdgeFunction:
  """What edges add in a network that theta weighs.

  Args:
    theta: per block, f32[E, 3].
    identities: per block, the edges beside whose operation an identity stands;
      what changes shapes is a projection.
  """

  def edge(site: network_lib.Site) -> jax.Array | None:
    same = network_lib.plain(site)
    identity = site.run(operations.SKIP) if (
        site.edge in identities[site.block]) else None
    return mix(theta[site.block][site.edge], same, identity,
               alike=site.operation == operations.SKIP)

  return edge


def mix(
    theta: jax.Array, same: jax.Array | None, identity: jax.Array | None, *,
    alike: bool = False,
) -> jax.Array | None:
  """Computes equation 1 of one edge.

  Args:
    theta: f32[3], of none, id and same. That of none multiplies zeros: it has
      no gradient and is not looked at.
    same: o(x), or None of a null edge.
    identity: x in the target's shape, or None where it may not stand.
    alike: whether o is the identity itself; `identity` is then None, and the
      two weights are added.

  Returns:
    An array of the shape of `same` or `identity`; None where there is neither.
  """
  weights = {SAME: theta[SAME] + theta[ID] if alike else theta[SAME],
             ID: theta[ID]}
  total = None
  for column, y in ((SAME, same), (ID, identity)):
    if y is not None:
      term = weights[column].astype(y.dtype) * y
      total = term if total is None else total + term
  return None if total is None else primitives.materialize(total)
