"""What the indicator tokens of a supernet attend to; see `it_nas`."""

from collections.abc import Sequence
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax.methods import search as search_lib
from natjax.networks import attention
from natjax.spaces import connections

_SURE = 2.0  # Standard errors.


class Attending(search_lib.Search):
  """A search by the attention of a Lite-Transformer on every edge.

  Attributes:
    attention: what stands on every edge.
  """

  def __init__(self, config: Any, *args: Any, **sizes: Any):
    """Args:
      config: has "tokens", "reentry" and "temperature", of `attention`.
      *args: of `search.Search`.
      **sizes: likewise.
    """
    super().__init__(config, *args, **sizes)
    self.attention = attention.Attention(
        config.tokens, config.reentry, config.temperature)
    self._group_of = {i: g for g, group in enumerate(self.connections.groups)
                      for i in group.members}

  def draw(self, rng: jax.Array) -> list[Any]:
    """Draws the transformers of every block, {} where nothing is decided."""
    return self._compiled_draw(rng)

  @functools.cached_property
  def _compiled_draw(self):
    return jax.jit(self._draw)

  def _draw(self, rng):
    """The transformers of every block."""
    plan = self.supernet.plan
    return [self.attention.init(
        jax.random.fold_in(rng, i), len(plan.cell(i).edges),
        len(self.connections.space.candidates), plan.shapes[i].nodes[-1])
            if i in self._group_of else {} for i in range(len(plan.shapes))]

  def _allowed(self, i):
    return self.connections.groups[self._group_of[i]].allowed

  def means(self, told: Sequence[jax.Array]) -> list[jax.Array]:
    """What blocks told f32[E, B, O], as means per group f32[B, E, O]."""
    return [jnp.mean(jnp.stack([
        jnp.swapaxes(told[i], 0, 1) for i in group.members]), 0)
            for group in self.connections.groups]

  def report(self, kept: connections.Strengths, means: connections.Strengths,
             samples: connections.Strengths) -> dict[str, Any]:
    """How sure the choice of every edge is, and of the edges of every node.

    Standard errors are those of the mean over what was drawn independently, of
    a difference within it, in float64.

    Args:
      kept: bool[E, O] per group, what was chosen.
      means: f64[E, O] per group, of the attention.
      samples: f64[S, E, O] per group, of S that were drawn independently.

    Returns:
      "attention": of every group's edges the tokens' mean "weights", what is
      "strongest", by what "margin" over which "next", its "standard_error", and
      whether that is a "tie": less than two standard errors; None of edges that
      are not decided. "nodes": of every group's nodes that keep some of their
      edges, the "node", its "edges", the one with most attention first (their
      "edge", strongest "operation", its "weight", and whether it is "kept"),
      and margin, error and tie between the last that is kept and the first that
      is not. "ties": the number of edges that are kept whose operation is one.
    """
    groups = self.connections.groups
    both = [*zip(groups, means, samples, strict=True)]
    rows = {group.name: self._margins(group, mean, every)
            for group, mean, every in both}
    return {"attention": rows, "nodes": {
        group.name: self._nodes(group, mean, every)
        for group, mean, every in both}, "ties": {
            group.name: sum(row["tie"] for row, mask in zip(
                rows[group.name], kept[g], strict=True) if row and mask.any())
            for g, group in enumerate(groups)}}

  def _margins(self, group, mean, every):
    """Per edge of a group, the strongest token and the next, or None."""
    names = self.connections.space.candidates
    found: list[dict[str, Any] | None] = []
    for e, may in enumerate(self.connections.kept(group)):
      order = _strongest_first(mean[e], may)
      if not order:
        found.append(None)
        continue
      row = {"edge": list(group.cell.edges[e][1:]), "weights": {
          names[o]: float(mean[e, o]) for o in np.flatnonzero(
              group.allowed[e])}, "strongest": names[order[0]], "tie": False}
      if len(order) > 1:
        a, b = order[:2]
        row |= {"next": names[b], **_margin(mean, every, (e, a), (e, b))}
      found.append(row)
    return found

  def _nodes(self, group, mean, every):
    """Of the nodes of a group that keep some of their edges, which and why."""
    names, found = self.connections.space.candidates, []
    may = self.connections.kept(group)
    best = {e: _strongest_first(mean[e], may[e])[0]
            for e in range(len(may)) if may[e].any()}
    for into, parents in zip(group.nodes, group.parents, strict=True):
      edges = sorted((e for e in into if e in best),
                     key=lambda e: -mean[e, best[e]])
      if parents is None or len(edges) <= parents:
        continue
      rows = [{"edge": list(group.cell.edges[e][1:]),
               "operation": names[best[e]], "weight": float(mean[e, best[e]]),
               "kept": k < parents} for k, e in enumerate(edges)]
      last, first = edges[parents - 1], edges[parents]
      found.append({
          "node": group.cell.edges[last].target, "edges": rows, **_margin(
              mean, every, (last, best[last]), (first, best[first]))})
    return found


def _strongest_first(mean, may):
  """The numbers of what may be kept, of equal ones the first before."""
  return sorted(np.flatnonzero(may), key=lambda o: -mean[o])


def _margin(mean, every, one, other):
  """By how much one token of an edge has more attention than another."""
  margin = mean[one] - mean[other]
  apart = every[:, *one] - every[:, *other]
  error = float(apart.std() / np.sqrt(len(apart)))
  return {"margin": float(margin), "standard_error": error,
          "tie": bool(margin < _SURE * error)}


def matrices(params):
  """Which parameters decay where the vectors of transformers do not.

  Args:
    params: {"supernet", "attention"}.
  """
  return {"supernet": jax.tree.map(lambda _: True, params["supernet"]),
          "attention": [{name: name not in attention.VECTORS for name in own}
                        for own in params["attention"]]}
