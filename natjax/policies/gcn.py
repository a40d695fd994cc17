"""The graph convolutional policy of NAT, on jraph.

Guo et al., 2021, section 3.3, equation 3: Z = h(A s(A X W0) W1 W_FC). The
nodes of the graph are a cell's nodes; X holds the embedded operations of a
node's two incoming edges; the output gives the logits of those two edges.

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

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph

from natjax import architecture as architecture_lib
from natjax import errors

LAYERS = (1, 2, 5, 10)

_linear_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


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
    embedding: features of an operation's embedding.
    hidden: features before the first graph convolution.
    features: features after every graph convolution.
  """

  num_operations: int
  num_actions: int = 3
  layers: int = 2
  published: bool = False
  embedding: int = 100
  hidden: int = 1024
  features: int = 100

  @nn.compact
  def __call__(
      self, cell: architecture_lib.CellArrays, reduction: jax.Array
  ) -> jax.Array:
    """Computes logits f32[N, 2, A].

    Args:
      cell: `source` and `operation` of shape [N, 2].
      reduction: i32 or bool [], whether it is a reduction cell.
    """
    n = cell.source.shape[0]
    graph = self._graph(cell)._replace(nodes=self._embed(cell, reduction))
    graph = graph._replace(nodes=self._linear(self.hidden, "in")(graph.nodes))
    for i in range(self.layers):
      graph = self._convolve(graph, i)
      if i + 1 < self.layers:
        graph = graph._replace(nodes=nn.relu(graph.nodes))
    nodes = graph.nodes[architecture_lib.NUM_INPUTS:]
    logits = self._linear(2 * self.num_actions, "out")(nodes)
    return logits.reshape(n, 2, self.num_actions)

  def _linear(self, features, name):
    def bias(rng, shape, dtype=jnp.float32):
      fan_in = self.features if name == "out" else 2 * self.embedding
      return _uniform(fan_in**-0.5)(rng, shape, dtype)

    # Small last weights: the default starts near the uniform policy.
    small = name == "out" and not self.published
    kernel = nn.initializers.normal(0.01) if small else _linear_init
    return nn.Dense(features, kernel_init=kernel, bias_init=bias, name=name)

  def _embed(self, cell, reduction):
    """X: f32[2 + N, 2 * embedding]."""
    table = lambda count, width, name: nn.Embed(
        count, width, embedding_init=nn.initializers.normal(1.0), name=name)
    n, wide = cell.source.shape[0], 2 * self.embedding
    edges = table(self.num_operations, self.embedding, "operation")(
        cell.operation)  # [N, 2, embedding]
    inputs = table(architecture_lib.NUM_INPUTS, wide, "input")(
        jnp.arange(architecture_lib.NUM_INPUTS))
    if self.published:
      return jnp.concatenate([inputs, edges.reshape(n, wide)])
    total = architecture_lib.NUM_INPUTS + n
    edges += table(total, self.embedding, "source")(cell.source)
    x = jnp.concatenate([inputs, edges.reshape(n, wide)])
    x += table(total, wide, "node")(jnp.arange(total))
    return x + table(2, wide, "cell_type")(jnp.asarray(reduction, jnp.int32))

  def _graph(self, cell):
    n = cell.source.shape[0]
    target = jnp.repeat(jnp.arange(n) + architecture_lib.NUM_INPUTS, 2)
    senders, receivers = cell.source.reshape(-1), target
    if not self.published:
      senders, receivers = (jnp.concatenate([senders, receivers]),
                            jnp.concatenate([receivers, senders]))
    return jraph.GraphsTuple(
        nodes=None, edges=None, globals=None, senders=senders,
        receivers=receivers, n_node=jnp.array([n + 2]),
        n_edge=jnp.array([senders.shape[0]]))

  def _convolve(self, graph, i):
    scale = _uniform(self.features**-0.5)
    linear = nn.Dense(self.features, use_bias=False, kernel_init=scale,
                      name=f"convolution{i}")
    graph = jraph.GraphConvolution(
        linear, add_self_edges=not self.published,
        symmetric_normalization=not self.published)(graph)
    # The bias comes after the sum over neighbours: A X W + b.
    bias = self.param(f"bias{i}", scale, (self.features,))
    return graph._replace(nodes=graph.nodes + bias)


def check_layers(layers: int) -> int:
  """Returns `layers` if the paper's range has it (InputError)."""
  if layers not in LAYERS:
    raise errors.InputError(
        f"gcn-layers is {layers}; choose one of {', '.join(map(str, LAYERS))}")
  return layers
