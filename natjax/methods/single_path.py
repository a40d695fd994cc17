"""What trains a supernet by single paths.

Guo et al., 2020, "Single Path One-Shot Neural Architecture Search with Uniform
Sampling": a step runs one architecture of the space and trains what is on its
path; candidates are judged by statistics of BN of their own.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from natjax import spaces
from natjax.graph import arrays as arrays_lib
from natjax.graph import codec, records
from natjax.methods import search as search_lib
from natjax.objectives import classification as objectives
from natjax.spaces import paths as paths_lib
from natjax.training import method as base


class SinglePath(search_lib.Search):
  """A search whose supernet is trained by single paths.

  Attributes:
    paths: of the space.
    judged: the supernet, by statistics that are measured.
  """

  null = False

  def __init__(self, config: Any, space: spaces.Space, **sizes: Any):
    """As `search.Search`."""
    super().__init__(config, space, **sizes)
    self.paths = paths_lib.Paths(self.connections, self.supernet.place)
    self.judged = dataclasses.replace(self.supernet, norm="calibrated")

  def descend(self, params: Any, opt_state: Any, grads: Any, on: Any
              ) -> tuple[Any, Any]:
    """A step of what is on the path; all else stays as it is.

    Args:
      params: what is trained.
      opt_state: of `optimizer`.
      grads: of the parameters.
      on: bool, broadcast to the parameters, what takes a step (`on_path`).

    Returns:
      The parameters and the state after it.
    """
    updates, moved = self.optimizer.update(grads, opt_state, params)
    form: Any = jax.tree.structure(params)
    chosen = lambda new, old: jax.tree.map(jnp.where, on, new, old)
    like = lambda tree: form == jax.tree.structure(tree)
    return chosen(optax.apply_updates(params, updates), params), jax.tree.map(
        lambda new, old: chosen(new, old) if like(new) else new,
        moved, opt_state, is_leaf=like)

  def on_path(self, params: Any, path: arrays_lib.CellArrays) -> Any:
    """Whether every parameter is on a path: bool, on edges [J, S, 1, ...].

    Args:
      params: of the supernet.
      path: [G, N, K]; may be traced.
    """
    plan, on = self.supernet.plan, jax.tree.map(
        lambda _: jnp.ones((), bool), params)
    for run, own, blocks in zip(
        plan.runs, params["blocks"], on["blocks"], strict=True):
      for edges in plan.passes(run[0]):
        for name in () if edges.fixed else own.get(edges.store, ()):
          rows = jnp.stack([self._rows(path, i, edges, name) for i in run])
          blocks[edges.store][name] = jax.tree.map(
              lambda leaf, rows=rows: rows.reshape(
                  *rows.shape, *(1,) * (leaf.ndim - 2)),
              own[edges.store][name])
    return on

  def _rows(self, path, i, edges, name):
    """bool[S], which rows of an operation's weights a block's path uses."""
    plan = self.supernet.plan
    cell, g = plan.cell(i), plan.decided[i]
    chosen = path.operation[g] == self.connections.space.candidates.index(name)
    n, k = (index[list(edges.edges)] for index in arrays_lib.slots(cell))
    if self.connections.inputs is None:
      stands = chosen[n, k]
    else:
      source = np.array([cell.edges[e].source for e in edges.edges])
      stands = jnp.any(
          (path.source[g][n] == source[:, None]) & chosen[n], axis=-1)
    rows = edges.rows[name]
    # Where an operation may not stand its row is -1.
    return jnp.zeros(int(rows.max()) + 1, bool).at[rows].max(
        stands & (rows >= 0))

  def layers(self, path: arrays_lib.CellArrays) -> dict[str, Any]:
    """Of a report "operations", of a chain what its layers are, in order."""
    return {"operations": self._short(
        path)} if self.connections.space.chain else {}

  def _short(self, path):
    """A path in few words: the operations of a chain, or its JSON."""
    found = self.paths.decode(jax.tree.map(np.asarray, path))
    if isinstance(found, records.BlockNetwork):
      fixed = {i for d in self.connections.decisions if all(d.fixed)
               for i in d.members}
      if self.connections.space.chain:
        return [block.edges[0].operation for i, block in enumerate(
            found.blocks) if i not in fixed]
    return codec.to_dict(found)

  def accuracy(self, params: Any, path: arrays_lib.CellArrays,
               score: base.Walk, images: int | None = None) -> float:
    """A candidate's accuracy on all images that judge.

    Args:
      params: of the supernet.
      path: the candidate, [G, N, K].
      score: walks over the images.
      images: of the weights' part, on which the candidate's statistics of BN
        are measured; None is all.
    """
    stats = score(self._measure, (params, path), split="weights",
                  images=images)
    stats = jax.tree.map(lambda leaf: leaf.astype(np.float32), stats)
    return float(score(self._is_right, (params, stats, path),
                       split="architecture", whole=False))

  def _measure(self, params_and_path, batch):
    """The statistics of a batch, for each of its images the same."""
    params, path = params_and_path
    _, stats = self.judged.run(
        {"params": params, "batch_stats": self._no_stats},
        self.judged.selected(path), batch["image"])
    count = len(batch["label"])
    return jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (count, *leaf.shape)), stats)

  def _is_right(self, params_stats_and_path, batch):
    params, stats, path = params_stats_and_path
    logits, _ = self.judged.run(
        {"params": params, "batch_stats": stats}, self.judged.selected(path),
        batch["image"], train=False)
    return objectives.right(logits, batch["label"])

  @functools.cached_property
  def _no_stats(self):
    """Statistics that were not measured."""
    shapes = jax.eval_shape(self.judged.init, jax.random.key(0))
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype),
                        shapes["batch_stats"])
