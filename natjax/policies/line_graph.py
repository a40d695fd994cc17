"""A graph convolutional policy whose nodes are a cell's edges, on jraph.

For cells in which every pair of nodes has one edge, as NAS-Bench-201's, the
decisions are about edges, so the graph is the line graph: two edges are
neighbours where they share a node. As in NAT's policy (Guo et al., 2021,
section 3.3, `policies.gcn`) graph convolutions give the logits of every edge's
transitions; A has self-loops and is normalised symmetrically (Kipf & Welling,
2017).

What differs: X tells of each edge which operation stands there and, one-hot,
which edge it is. All cells have the same line graph, so without positions the
policy could not tell its edges apart. A perceptron before the first
convolution ties an operation to its position before neighbours are summed; and
every convolution is added to what it convolves, so that ten layers do not wash
the edges out.

Since all cells share one graph, those of a batch lie side by side in the
features of its nodes, and a convolution sums six long rows: twice as fast on
the CPU as a `vmap` over graphs.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np


def neighbours(
    edges: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
  """Returns senders and receivers i32[P] of a line graph, both directions.

  Args:
    edges: (from, to) of E edges.

  Example:
    >>> neighbours([(0, 1), (1, 2), (2, 3)])[0].tolist()
    [0, 1, 1, 2]
  """
  pairs = [(i, j) for i, a in enumerate(edges) for j, b in enumerate(edges)
           if i != j and set(a) & set(b)]
  senders, receivers = np.array(pairs, np.int32).reshape(-1, 2).T
  return senders, receivers


class LineGraphPolicy(nn.Module):
  """Maps the operations of a cell's edges to the logits of their transitions.

  Attributes:
    edges: (from, to) of E edges.
    num_operations: O, operations to embed.
    num_actions: A.
    layers: graph convolutions.
    features: of every layer.
  """

  edges: tuple[tuple[int, int], ...]
  num_operations: int
  num_actions: int
  layers: int = 2
  features: int = 128

  @nn.compact
  def __call__(self, operation: jax.Array) -> jax.Array:
    """Computes logits f32[..., E, A] from operations i32[..., E]."""
    count, lead = len(self.edges), operation.shape[:-1]
    senders, receivers = neighbours(self.edges)
    kind = jax.nn.one_hot(
        operation.reshape(-1, count).T, self.num_operations)  # [E, B, O]
    place = jnp.broadcast_to(jnp.eye(count)[:, None], (*kind.shape[:2], count))
    x = nn.relu(nn.Dense(self.features, name="in")(
        jnp.concatenate([kind, place], axis=-1)))  # [E, B, F]
    graph = jraph.GraphsTuple(
        nodes=None, edges=None, globals=None, senders=jnp.asarray(senders),
        receivers=jnp.asarray(receivers), n_node=jnp.array([count]),
        n_edge=jnp.array([len(senders)]))
    total = jraph.GraphConvolution(lambda nodes: nodes, add_self_edges=True)
    for i in range(self.layers):
      linear = nn.Dense(self.features, use_bias=False, name=f"convolution{i}")
      nodes = total(graph._replace(nodes=linear(x).reshape(count, -1))).nodes
      # The bias comes after the sum over neighbours: A X W + b.
      bias = self.param(f"bias{i}", nn.initializers.zeros, (self.features,))
      x += nn.relu(nodes.reshape(x.shape) + bias)
    # Small last weights: the policy starts near the uniform one.
    logits = nn.Dense(self.num_actions, name="out",
                      kernel_init=nn.initializers.normal(0.01))(x)
    return jnp.moveaxis(logits, 0, 1).reshape(*lead, count, self.num_actions)
