"""The domain of genotypes: a normal and a reduction cell that all layers share.

Facts: Guo et al., 2021, sections 3.2 and 5.1, and the released code.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax import spaces
from natjax.costs import exact as cost_lib
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import supernet as supernet_lib
from natjax.policies import gcn
from natjax.policies import sampling
from natjax.spaces import transitions


def sample_cell(
    rng: jax.Array,
    reduction: jax.Array | bool,
    num_nodes: int,
    stand_in: np.ndarray,
    *,
    nulls: bool,
    loose_end: bool,
) -> architecture_lib.CellArrays:
  """Draws an input cell beta ~ p.

  Sources are uniform over all earlier nodes, with replacement; operations are
  uniform. `null` is the last operation.

  Args:
    rng: a key.
    reduction: whether it is a reduction cell.
    num_nodes: N.
    stand_in: i32[2, O], what takes the place of a drawn operation at stride 1
      (row 0) and 2: itself, or a skip where it cannot stand (`stand_ins`).
    nulls: whether to draw null connections too, at most one per node, so that
      every node carries a signal.
    loose_end: whether only nodes that feed no other are concatenated.

  Returns:
    `CellArrays` of shape [N, 2].
  """
  rng_source, rng_operation, rng_other = jax.random.split(rng, 3)
  shape = (num_nodes, 2)
  earlier = jnp.arange(num_nodes)[:, None] + architecture_lib.NUM_INPUTS
  source = jax.random.randint(rng_source, shape, 0, earlier)
  null = stand_in.shape[1] - 1
  operation = jax.random.randint(rng_operation, shape, 0,
                                 null + 1 if nulls else null)
  other = jax.random.randint(rng_other, (num_nodes,), 0, null)
  both_null = jnp.all(operation == null, axis=1)
  operation = operation.at[:, 1].set(
      jnp.where(both_null, other, operation[:, 1]))
  strided = (source < architecture_lib.NUM_INPUTS) & reduction
  operation = jnp.asarray(stand_in)[strided.astype(jnp.int32), operation]
  nodes = jnp.arange(num_nodes) + architecture_lib.NUM_INPUTS
  used = jnp.any(source.reshape(-1)[:, None] == nodes, axis=0)
  return architecture_lib.CellArrays(
      source=source, operation=operation, concat=~used | (not loose_end))


def stand_ins(candidates: Sequence[str]) -> np.ndarray:
  """i32[2, O]: each operation, or a skip where its stride is impossible."""
  skip = candidates.index(operations.SKIP)
  return np.array([
      [o if stride in operations.get(name).strides else skip
       for o, name in enumerate(candidates)] for stride in (1, 2)], np.int32)


class CellDomain:
  """See the package.

  Attributes:
    supernet, table, policy, shape, candidates: see the package.
  """

  def __init__(
      self,
      space: spaces.SearchSpace,
      skeleton: skeleton_lib.Skeleton,
      targets: Sequence[skeleton_lib.Skeleton],
      *,
      scheme: str,
      smoothing: float,
      published: bool,
      gcn_layers: int,
      dtype: jnp.dtype,
  ):
    """Args:
      space: candidate operations and number of nodes.
      skeleton: of the supernet.
      targets: other skeletons in which no transformation may raise the cost;
        the first is that of the network trained at the end.
      scheme: of `transitions.SCHEMES`.
      smoothing: of the published policy's probabilities.
      published: whether policy, table and sampling are as released.
      gcn_layers: graph convolutions of the policy.
      dtype: of the supernet's computation.
    """
    self._space = space
    self._published = published
    self._target = targets[0] if targets else skeleton
    self.candidates = space.candidates
    self.shape = (2, space.num_nodes, 2)
    self.supernet = supernet_lib.Supernet(space, skeleton, dtype)
    rule = transitions.SCHEMES[scheme](space.candidates)
    if published:
      self.table = transitions.published_table(
          rule, space.candidates, smoothing=smoothing)
    else:
      self.table = transitions.guarded_table(
          rule, space.candidates, (skeleton, *targets))
    self.policy = gcn.GCNPolicy(
        len(space.candidates), len(self.table.actions), gcn_layers, published)

  def sample(self, rng: jax.Array) -> architecture_lib.CellArrays:
    """Draws an input architecture, `CellArrays` [2, N, 2]."""
    draw = lambda key, reduction: sample_cell(
        key, reduction, self._space.num_nodes, stand_ins(self.candidates),
        nulls=not self._published, loose_end=self._space.loose_end)
    return jax.vmap(draw)(jax.random.split(rng), jnp.arange(2) == 1)

  def init_policy(self, rng: jax.Array):
    """Draws the policy's parameters."""
    zeros = jnp.zeros(self.shape[1:], jnp.int32)
    cell = architecture_lib.CellArrays(
        source=zeros, operation=zeros, concat=jnp.ones(self.shape[1], bool))
    return jax.jit(self.policy.init)(rng, cell, 0)["params"]

  def logits(self, params, arrays: architecture_lib.CellArrays) -> jax.Array:
    """f32[2, N, 2, A] for `CellArrays` [2, N, 2]."""
    apply = lambda cell, reduction: self.policy.apply(
        {"params": params}, cell, reduction)
    return jax.vmap(apply)(arrays, jnp.arange(2))

  def rows(self, arrays: architecture_lib.CellArrays) -> jax.Array:
    """i32[2, N, 2], rows of `table.valid`."""
    return jax.vmap(sampling.stride_rows)(arrays, jnp.arange(2) == 1)

  def encode(
      self, genotype: architecture_lib.Genotype
  ) -> architecture_lib.CellArrays:
    """To `CellArrays` [2, N, 2]."""
    return architecture_lib.genotype_arrays(genotype, self.candidates)

  def decode(
      self,
      arrays: architecture_lib.CellArrays,
      genotype: architecture_lib.Genotype | None = None,
  ) -> architecture_lib.Genotype:
    """Back from arrays; the order of `genotype`'s concat is kept."""
    decoded = architecture_lib.genotype_from_arrays(arrays, self.candidates)
    if genotype is None:
      return decoded
    return architecture_lib.Genotype(*(
        new._replace(concat=old.concat)
        for new, old in zip(decoded, genotype, strict=True)))

  def cost(self, genotype: architecture_lib.Genotype) -> operations.Cost:
    """In the network that is trained at the end."""
    return cost_lib.network(genotype, self._target)

  def edge_costs(self, genotype: architecture_lib.Genotype) -> np.ndarray:
    """f64[2, 2, N, 2, O]: parameters and multiply-adds; cell; node; slot.

    Over all layers of the network trained at the end; infinite where an
    operation cannot stand at its stride.
    """
    costs = np.zeros((2, *self.shape, len(self.candidates)))
    widths = [len(cell.concat) for cell in genotype]
    for layer in skeleton_lib.layers(self._target, widths):
      kind = int(layer.reduction)
      cell = genotype[kind]
      for i, edge in enumerate(cell.edges):
        stride = cell.stride(edge, layer.reduction)
        for o, name in enumerate(self.candidates):
          if stride not in operations.get(name).strides:
            costs[:, kind, i // 2, i % 2, o] = np.inf
            continue
          cost = cost_lib.edge(cell, edge._replace(operation=name), layer)
          costs[:, kind, i // 2, i % 2, o] += (cost.params, cost.madds)
    return costs
