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

# Per block, the numbers of the edges with an identity of their own.
Identities = tuple[frozenset[int], ...]


def initial(num_edges: int) -> jax.Array:
  """Theta at the start, f32[E, 3].

  Example:
    >>> initial(1).tolist()
    [[0.0, 0.0, 1.0]]
  """
  return jnp.tile(jnp.array([0.0, 0.0, 1.0]), (num_edges, 1))


def weigh(theta: Sequence[jax.Array],
          identities: Identities) -> network_lib.EdgeFunction:
  """What edges add in a network that theta weighs, by equation 1.

  Theta of none multiplies zeros: it has no gradient and is not looked at. Where
  the operation is the identity itself, the two weights are added. An edge that
  is null, and beside which no identity stands, adds nothing (None).

  Args:
    theta: per block, f32[E, 3].
    identities: per block, the edges beside whose operation an identity stands;
      what changes shapes is a projection.
  """

  def edge(site: network_lib.Site) -> jax.Array | None:
    weight = theta[site.block][site.edge]
    alike = site.operation == operations.SKIP
    given = [(weight[SAME] + weight[ID] if alike else weight[SAME],
              network_lib.plain(site))]
    if site.edge in identities[site.block]:
      given.append((weight[ID], site.run(operations.SKIP)))
    terms = [w.astype(y.dtype) * y for w, y in given if y is not None]
    return primitives.materialize(sum(terms[1:], terms[0])) if terms else None

  return edge
