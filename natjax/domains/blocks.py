"""The domain of networks of blocks: hand-crafted ones, and cells not shared.

The graph is the given network's, and so are the sources of edges. An input
architecture beta ~ p has random operations; one edge of every node at least is
not null. The paper's p is uniform ("published"). Here an edge keeps the given
operation with probability one half and is uniform among what may stand there
(`spaces.blocks`) otherwise: a chain of blocks whose edges are all random seldom
computes anything, and its supernet hardly learns.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax import operations
from natjax.costs import exact as cost_lib
from natjax.graph import blocks as blocks_lib
from natjax.graph import genotype as architecture_lib
from natjax.networks import block_network
from natjax.networks import block_supernet
from natjax.operations import edges as edges_lib
from natjax.policies import gcn
from natjax.spaces import blocks as blocks_space
from natjax.spaces import transitions


class BlockDomain:
  """See the package.

  Attributes:
    supernet, table, policy, shape, candidates: see the package.
    allowed: bool[G, N, K, O], what may stand on every edge.
  """

  def __init__(
      self,
      space: blocks_space.BlockSpace,
      frame: blocks_lib.Frame,
      targets: Sequence[blocks_lib.Frame],
      *,
      scheme: str,
      smoothing: float,
      published: bool,
      gcn_layers: int,
      dtype: jnp.dtype,
      width: float = 1.0,
  ):
    """Args:
      space: the network and its candidates.
      frame: of the supernet.
      targets: other frames in which no transformation may raise the cost; the
        first is that of the network trained at the end.
      scheme: of `transitions.SCHEMES`.
      smoothing: of the published policy's probabilities.
      published: whether policy, table and sampling are as released.
      gcn_layers: graph convolutions of the policy.
      dtype: of the supernet's computation.
      width: factor of the supernet's widths.

    Raises:
      InputError: the published policy cannot look at such a network.
    """
    network = space.network
    self._space, self._published = space, published
    self._groups = space.groups
    self._target = targets[0] if targets else frame
    self.candidates = space.candidates
    if published and (space.share == "full" or max(map(
        len, self._groups)) == 1):
      raise errors.InputError(
          f"the published policy looks at cells that a network repeats, and"
          f" {network.name} with --share {space.share} has none; use --policy"
          " default, or --share cell where blocks are alike")
    nodes = max(len(block.nodes) for block in network.blocks)
    self.shape = (len(self._groups), nodes, network.num_inputs_per_node)
    self._base = self._encode(network)
    narrow = blocks_lib.scale(network, width)
    places = [blocks_lib.places(network, f) for f in (frame, *targets)]
    places.append(blocks_lib.places(narrow, frame))
    rule = transitions.SCHEMES[scheme](self.candidates)
    self._rows, valid = self._valid(rule, places)
    self.table = transitions.TransitionTable(
        rule.actions, rule.outcome, valid,
        self.candidates.index(operations.NULL), connectivity=not published,
        smoothing=smoothing if published else 0.0)
    self.allowed = np.zeros((*self.shape, len(self.candidates)), bool)
    for at in np.ndindex(*self.shape):
      o = self._base.operation[at]
      self.allowed[(*at, rule.outcome[o][valid[self._rows[at], o]])] = True
    self.supernet = block_supernet.BlockSupernet(
        narrow, self._groups, self._choices(), self.candidates, frame, dtype)
    self.policy = self._make_policy(gcn_layers)

  def _edges(self, g):
    """((node, slot), edge) of a group's first block."""
    block = self._space.network.blocks[self._groups[g][0]]
    for n in range(len(block.nodes)):
      target = n + blocks_lib.NUM_INPUTS
      for k, edge in enumerate(block.cell.incoming(target)):
        yield (n, k), edge

  def _encode(self, network):
    null = self.candidates.index(operations.NULL)
    source = np.zeros(self.shape, np.int32)
    operation = np.full(self.shape, null, np.int32)
    concat = np.zeros(self.shape[:2], bool)
    for g, group in enumerate(self._groups):
      block = network.blocks[group[0]]
      for n in block.outputs:
        concat[g, n - blocks_lib.NUM_INPUTS] = True
      for n in range(len(block.nodes)):
        into = block.cell.incoming(n + blocks_lib.NUM_INPUTS)
        for k, edge in enumerate(into):
          source[g, n, k] = edge.source
          operation[g, n, k] = self.candidates.index(edge.operation)
    return architecture_lib.CellArrays(
        source=source, operation=operation, concat=concat)

  def _valid(self, rule, places):
    """Rows of the table, i32[G, N, K], and the table, bool[R, O, A]."""
    preactivate = self._space.network.preactivate
    rows = np.zeros(self.shape, np.int32)  # Row 0 keeps everything.
    found: dict[frozenset, int] = {}
    for g, group in enumerate(self._groups):
      nodes = self._space.network.blocks[group[0]].nodes
      for (n, k), edge in self._edges(g):
        if nodes[n].fixed:
          continue
        at = frozenset(
            (block_network.ends(p[i], edge), p[i].nodes[edge.source].size)
            for p in places for i in group)
        rows[g, n, k] = found.setdefault(at, len(found) + 1)
    valid = [self._row(rule, at, preactivate) for at in found]
    return rows, np.stack([transitions.keeping(rule), *valid])

  def _row(self, rule, at, preactivate):
    """bool[O, A], the actions that are valid at all of some places."""
    costs = [[_cost(operations.get(name), ends, size, preactivate)
              for ends, size in at] for name in self.candidates]
    if self._published:  # What can stand there at all.
      stands = np.array([None not in each for each in costs])
      return rule.allowed & stands[rule.outcome]
    return transitions.valid_actions(rule, np.array([
        [_not_dearer(old, new) for new in costs] for old in costs]))

  def _choices(self):
    """Names of what may stand on every edge, as the supernet wants them."""
    return tuple(
        tuple(tuple(tuple(name for o, name in enumerate(self.candidates)
                          if self.allowed[g, n, k, o])
                    for k in range(self.shape[2]))
              for n in range(self.shape[1]))
        for g in range(self.shape[0]))

  def _make_policy(self, layers):
    links: tuple[tuple[int, int], ...] = ()
    if self._space.share == "full":
      self._global_source, links = self._graph()
    return gcn.GCNPolicy(
        len(self.candidates), len(self.table.actions), layers,
        self._published, links=links,
        cell_types=1 if self._space.share == "full" else self.shape[0])

  def _graph(self):
    """The whole network as one graph.

    Returns:
      Sources by the numbers of the whole graph, i32[G * N, K], and the further
      (sender, receiver) pairs of blocks whose output concatenates several.
    """
    first = blocks_lib.NUM_INPUTS
    number = lambda i, n: first + i * self.shape[1] + n - first
    outputs = [[0], [1]]  # Of the two blocks before every block.
    source, links = np.zeros(self.shape, np.int32), []
    for i, block in enumerate(self._space.network.blocks):
      for (n, k), edge in self._edges(i):
        senders = (outputs[i + edge.source] if edge.source < first
                   else [number(i, edge.source)])
        source[i, n, k] = senders[-1]
        links += [(s, number(i, edge.target)) for s in senders[:-1]]
      outputs.append([number(i, n) for n in block.outputs])
    return source.reshape(-1, self.shape[2]), tuple(links)

  def sample(self, rng: jax.Array) -> architecture_lib.CellArrays:
    """Draws an input architecture, `CellArrays` [G, N, K]."""
    null = self.table.null
    others = self.allowed.copy()
    others[..., null] = False
    can = others.any(-1)  # [G, N, K], where something but null may stand.
    allowed = self.allowed.copy()
    if self._published:
      allowed[..., null] &= ~can
    rng_all, rng_other, rng_keep = jax.random.split(rng, 3)
    draw = lambda key, mask: jax.random.categorical(
        key, jnp.where(jnp.asarray(mask), 0.0, -jnp.inf)).astype(jnp.int32)
    operation = draw(rng_all, allowed)
    if not self._published:
      kept = jax.random.bernoulli(rng_keep, 0.5, self.shape)
      operation = jnp.where(kept, self._base.operation, operation)
    # A node of nulls alone gets another operation on its first edge that can.
    first = can & (np.cumsum(can, -1) == 1)
    other = draw(rng_other, np.where(can[..., None], others, self.allowed))
    dead = jnp.all(operation == null, axis=-1, keepdims=True)
    operation = jnp.where(dead & jnp.asarray(first), other, operation)
    return architecture_lib.CellArrays(
        source=jnp.asarray(self._base.source), operation=operation,
        concat=jnp.asarray(self._base.concat))

  def init_policy(self, rng: jax.Array):
    """Draws the policy's parameters."""
    cell = jax.tree.map(lambda a: jnp.asarray(a[0]), self._base)
    if self._space.share == "full":
      cell = self._whole(jax.tree.map(jnp.asarray, self._base))
    return jax.jit(self.policy.init)(rng, cell, 0)["params"]

  def _whole(self, arrays):
    """All blocks as one cell, [G * N, K]."""
    return architecture_lib.CellArrays(
        source=jnp.asarray(self._global_source),
        operation=arrays.operation.reshape(-1, self.shape[2]),
        concat=arrays.concat.reshape(-1))

  def logits(self, params, arrays: architecture_lib.CellArrays) -> jax.Array:
    """f32[G, N, K, A] for `CellArrays` [G, N, K]."""
    if self._space.share == "full":
      logits = self.policy.apply({"params": params}, self._whole(arrays), 0)
      return logits.reshape(*self.shape, -1)
    apply = lambda cell, kind: self.policy.apply({"params": params}, cell, kind)
    return jax.vmap(apply)(arrays, jnp.arange(self.shape[0]))

  def rows(self, arrays: architecture_lib.CellArrays) -> jax.Array:
    """i32[G, N, K], rows of `table.valid`."""
    del arrays  # The sources, and so the places, are the network's.
    return jnp.asarray(self._rows)

  def encode(
      self, network: blocks_lib.BlockNetwork
  ) -> architecture_lib.CellArrays:
    """To `CellArrays` [G, N, K] of a network of the space's graph."""
    return self._encode(network)

  def decode(
      self,
      arrays: architecture_lib.CellArrays,
      network: blocks_lib.BlockNetwork | None = None,
  ) -> blocks_lib.BlockNetwork:
    """Back from arrays, with the space's network around them."""
    network = network or self._space.network
    operation, blocks = np.asarray(arrays.operation), list(network.blocks)
    for g, group in enumerate(self._groups):
      for i in group:
        edges = []
        for n in range(len(blocks[i].nodes)):
          into = blocks[i].cell.incoming(n + blocks_lib.NUM_INPUTS)
          edges += [e._replace(operation=self.candidates[operation[g, n, k]])
                    for k, e in enumerate(into)]
        blocks[i] = blocks[i]._replace(edges=tuple(edges))
    return network._replace(blocks=tuple(blocks))

  def cost(self, network: blocks_lib.BlockNetwork) -> operations.Cost:
    """In the frame of the network that is trained at the end."""
    return cost_lib.block_network(network, self._target)

  def edge_costs(self, network: blocks_lib.BlockNetwork) -> np.ndarray:
    """f64[2, G, N, K, O]: parameters and multiply-adds; block; node; slot.

    Over all blocks that are transformed alike; infinite where an operation
    cannot stand at its stride.
    """
    costs = np.zeros((2, *self.shape, len(self.candidates)))
    places = blocks_lib.places(network, self._target)
    for g, group in enumerate(self._groups):
      for (n, k), edge in self._edges(g):
        for o, name in enumerate(self.candidates):
          for i in group:
            ends = block_network.ends(places[i], edge)
            if _cost(operations.get(name), ends, 1, False) is None:
              costs[:, g, n, k, o] = np.inf
              continue
            cost = cost_lib.block_edge(
                network, places[i], edge._replace(operation=name))
            costs[:, g, n, k, o] += (cost.params, cost.madds)
    return costs


def _not_dearer(old, new):
  """Whether costs at some places are nowhere above others; None is never."""
  return None not in old and None not in new and all(
      b.params <= a.params and b.madds <= a.madds
      for a, b in zip(old, new, strict=True))


def _cost(operation, ends, size, preactivate):
  """The cost of an operation on an edge; None where it cannot stand."""
  if not blocks_lib.can_stand(operation, ends.stride):
    return None
  try:
    return edges_lib.cost(operation, ends, size, preactivate=preactivate)
  except errors.InputError:  # Channels that its groups do not divide.
    return None
