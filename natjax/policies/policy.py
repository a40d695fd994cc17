"""A policy over the decisions of a space, on the graph network of `gcn`.

It looks at one decision's cell at a time, or, where nothing is shared, at the
whole network as one graph.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.policies import gcn, sampling
from natjax.spaces import ground as ground_lib


class CellPolicy:
  """Maps architectures to the logits of their transitions.

  Attributes:
    module: the graph network.
  """

  def __init__(
      self, ground: ground_lib.Ground, *, layers: int, published: bool = False):
    """Args:
      ground: of whose transitions.
      layers: graph convolutions.
      published: the released form, see `gcn`.

    Raises:
      InputError: the published policy cannot look at such a network.
    """
    self._ground, network = ground, ground.network
    if published and ground.space.inputs is None and all(
        len(decision.members) == 1 for decision in ground.decisions):
      raise errors.InputError(
          f"the published policy looks at cells that a network repeats, and"
          f" {network.name} with share {ground.space.share} has none; use the"
          " default policy, or share cell where blocks are alike",
          field="policy")
    self._whole_source, links = self._graph()
    self.module = gcn.GCNPolicy(
        len(ground.candidates), len(ground.table.actions), layers, published,
        links=links,
        cell_types=ground.shape[0] if self._whole_source is None else 1)

  def _graph(self) -> tuple[np.ndarray | None, tuple[tuple[int, int], ...]]:
    """The whole network as one graph.

    Returns:
      Sources by the numbers of the whole graph, i32[G * N, K], and the further
      (sender, receiver) pairs of blocks whose output concatenates several; None
      and none of these where blocks share decisions.
    """
    if self._ground.space.share != "full":
      return None, ()
    first, (_, nodes, slots) = records.NUM_INPUTS, self._ground.shape
    number = lambda i, n: i * nodes + n
    outputs = [[0], [1]]  # Of the two blocks before every block.
    source, links = np.zeros(self._ground.shape, np.int32), []
    for i, decision in enumerate(self._ground.decisions):
      cell = decision.cell
      for target in range(first, first + cell.num_nodes):
        for k, edge in enumerate(cell.incoming(target)):
          senders = (outputs[i + edge.source] if edge.source < first
                     else [number(i, edge.source)])
          source[i, target - first, k] = senders[-1]
          links += [(s, number(i, target)) for s in senders[:-1]]
      outputs.append([number(i, n) for n in cell.concat])
    return source.reshape(-1, slots), tuple(links)

  def init(self, rng: jax.Array) -> Any:
    """Draws the policy's parameters."""
    zeros = jnp.zeros(self._ground.shape, jnp.int32)
    cells = arrays_lib.CellArrays(
        source=zeros, operation=zeros, concat=zeros[..., 0] == 0)
    cell = self._as_one(cells) if self._whole_source is not None else (
        jax.tree.map(lambda a: a[0], cells))
    return jax.jit(self.module.init)(rng, cell, 0)["params"]

  def _as_one(self, arrays):
    """All blocks as one cell, [G * N, K]."""
    return arrays_lib.CellArrays(
        source=jnp.asarray(self._whole_source),
        operation=arrays.operation.reshape(-1, arrays.operation.shape[-1]),
        concat=arrays.concat.reshape(-1))

  def logits(self, params: Any, arrays: arrays_lib.CellArrays) -> jax.Array:
    """f32[G, N, K, A] for `CellArrays` [G, N, K]."""
    apply: Any = functools.partial(self.module.apply, {"params": params})
    if self._whole_source is not None:
      return apply(self._as_one(arrays), 0).reshape(*arrays.operation.shape, -1)
    return jax.vmap(apply)(arrays, jnp.arange(arrays.source.shape[0]))

  def each_cell(self, function: Callable[..., jax.Array], params: Any,
                arrays: arrays_lib.CellArrays, tilt: jax.Array | float = 0.0,
                **others: Any) -> jax.Array:
    """A function of `sampling` for each of an architecture's G cells.

    Args:
      function: of `sampling`.
      params: of the policy.
      arrays: `CellArrays` [G, N, K].
      tilt: f32[G, N, K, A] or a number, added to the logits.
      **others: its other arguments, with a leading axis [G].
    """
    return jax.vmap(functools.partial(function, table=self._ground.table))(
        logits=self.logits(params, arrays) + tilt, cell=arrays,
        rows=self._ground.rows(arrays), **others)

  def sample(self, rng: jax.Array, params: Any, arrays: arrays_lib.CellArrays,
             tilt: jax.Array | float = 0.0) -> jax.Array:
    """Draws a transformation, actions i32[G, N, K]; see `each_cell`."""
    return self.each_cell(sampling.sample, params, arrays, tilt,
                          rng=jax.random.split(rng, arrays.source.shape[0]))

  def mode(self, params: Any, arrays: arrays_lib.CellArrays) -> jax.Array:
    """The likeliest action of each edge in turn, i32[G, N, K]."""
    return self.each_cell(sampling.mode, params, arrays)

  def log_prob(self, params: Any, arrays: arrays_lib.CellArrays,
               actions: jax.Array) -> jax.Array:
    """log pi(actions | architecture), f32[]; actions i32[G, N, K]."""
    return jnp.sum(self.each_cell(
        sampling.log_prob, params, arrays, actions=actions))

  def entropy(self, params: Any, arrays: arrays_lib.CellArrays) -> jax.Array:
    """H(pi(. | architecture)), f32[], the sum over all cells."""
    return jnp.sum(self.each_cell(sampling.entropy, params, arrays))

  def transformed(self, arrays: arrays_lib.CellArrays,
                  actions: jax.Array) -> arrays_lib.CellArrays:
    """The architecture after actions i32[G, N, K]."""
    return sampling.apply_actions(arrays, actions, self._ground.table)
