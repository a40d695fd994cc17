"""The graph convolutional policy of NAT, on jraph.

Guo et al., 2021, section 3.3, equation 3: Z = h(A s(A X W0) W1 W_FC). The
nodes of the graph are a cell's nodes; X holds the embedded operations of a
node's K incoming edges (two in the paper); the output gives the logits of
those edges.

Two forms:
  published: as the authors released it. A is directed, without self-loops, and
    not normalised, so that no edge's logits depend on its own operation
    (320330 parameters for 9 operations and 3 actions).
  default: what the paper describes. A has self-loops and both directions and
    is normalised symmetrically (Kipf & Welling, 2017), so that every edge's
    decision sees its own and its neighbours' operations; embeddings of each
    edge's source, of the node and of the cell's type say where the edge
    stands.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from natjax import operations
from natjax.graph import arrays as arrays_lib
from natjax.graph import records

LAYERS = (1, 2, 5, 10)

# Features of an operation's embedding, before and after the convolutions.
_EMBEDDING, _HIDDEN, _FEATURES = 100, 1024, 100


def _uniform(scale):
  return lambda rng, shape, dtype=jnp.float32: jax.random.uniform(
      rng, shape, dtype, -scale, scale)


class GCNPolicy(nn.Module):
  """Maps one cell to the logits of its edges' transitions.

  Attributes:
    num_operations: O, operations to embed.
    num_actions: A.
    layers: graph convolutions.
    published: the released form, see the module.
    cell_types: cell types that the default form's embedding knows.
    num_inputs: I, input nodes of a cell, numbered first.
    links: further (sender, receiver) pairs of the graph, beside the edges.
  """

  num_operations: int
  num_actions: int = 3
  layers: int = 2
  published: bool = False
  cell_types: int = 2
  num_inputs: int = records.NUM_INPUTS
  links: tuple[tuple[int, int], ...] = ()

  @nn.compact
  def __call__(self, cell: arrays_lib.CellArrays,
               cell_type: jax.Array) -> jax.Array:
    """Computes logits f32[N, K, A].

    Args:
      cell: `source` and `operation` of shape [N, K].
      cell_type: i32 or bool [], below `cell_types`; in NAT's spaces, whether
        it is a reduction cell.
    """
    n, slots = cell.source.shape
    # Where there is no edge, as a null one from the first input.
    own = jnp.arange(n)[:, None] + self.num_inputs
    cell = dataclasses.replace(
        cell, source=jnp.where(cell.source == own, 0, cell.source))
    graph = self._graph(cell)
    x = self._linear(_HIDDEN, "in", slots * _EMBEDDING)(
        self._embed(cell, cell_type))
    scale = _uniform(_FEATURES**-0.5)
    for i in range(self.layers):
      x = jraph.GraphConvolution(
          nn.Dense(_FEATURES, use_bias=False, kernel_init=scale,
                   name=f"convolution{i}"), add_self_edges=not self.published,
          symmetric_normalization=not self.published)(
              graph._replace(nodes=x)).nodes
      # The bias comes after the sum over neighbours: A X W + b.
      x += self.param(f"bias{i}", scale, (_FEATURES,))
      if i + 1 < self.layers:
        x = nn.relu(x)
    logits = self._linear(slots * self.num_actions, "out", _FEATURES)(
        x[self.num_inputs:])
    return logits.reshape(n, slots, self.num_actions)

  def _linear(self, features, name, fan_in):
    # Small last weights: the default starts near the uniform policy.
    small = name == "out" and not self.published
    kernel = nn.initializers.normal(0.01) if small else operations.kernel_init
    return nn.Dense(features, kernel_init=kernel,
                    bias_init=_uniform(fan_in**-0.5), name=name)

  def _embed(self, cell, cell_type):
    """X: f32[I + N, K * embedding]."""
    table = lambda count, width, name: nn.Embed(
        count, width, embedding_init=nn.initializers.normal(1.0), name=name)
    n, slots = cell.source.shape
    wide, total = slots * _EMBEDDING, self.num_inputs + n
    edges = table(self.num_operations, _EMBEDDING, "operation")(
        cell.operation)  # [N, K, embedding]
    inputs = table(self.num_inputs, wide, "input")(jnp.arange(self.num_inputs))
    if self.published:
      return jnp.concatenate([inputs, edges.reshape(n, wide)])
    edges += table(total, _EMBEDDING, "source")(cell.source)
    x = jnp.concatenate([inputs, edges.reshape(n, wide)])
    x += table(total, wide, "node")(jnp.arange(total))
    # Two at least: flax's Embed of one entry cannot look up a scalar.
    return x + table(max(self.cell_types, 2), wide, "cell_type")(
        jnp.asarray(cell_type, jnp.int32))

  def _graph(self, cell):
    n, slots = cell.source.shape
    pairs = jnp.stack([cell.source.reshape(-1), jnp.repeat(
        jnp.arange(n) + self.num_inputs, slots)])  # Senders and receivers.
    if self.links:
      pairs = jnp.concatenate([pairs, jnp.array(self.links).T], axis=1)
    if not self.published:
      pairs = jnp.concatenate([pairs, pairs[::-1]], axis=1)
    return jraph.GraphsTuple(
        nodes=None, edges=None, globals=None, senders=pairs[0],
        receivers=pairs[1], n_node=jnp.array([n + self.num_inputs]),
        n_edge=jnp.array([pairs.shape[1]]))
