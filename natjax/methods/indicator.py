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
             products: connections.Strengths, count: float) -> dict[str, Any]:
    """How sure the choice of every edge is.

    Args:
      kept: bool[E, O] per group, what was chosen.
      means: f64[E, O] per group, of the attention.
      products: f64[E, O, O] per group, means of a_i a_j over what was drawn
        independently.
      count: of these.

    Returns:
      "attention": of every group's edges the tokens' mean "weights", what is
      "strongest", by what "margin" over which "next", its "standard_error", and
      whether that is a "tie": less than two standard errors; None of edges that
      are not decided. "ties": their number among the edges that are kept.
    """
    groups = self.connections.groups
    rows = {group.name: self._margins(group, mean, product, count)
            for group, mean, product in zip(
                groups, means, products, strict=True)}
    return {"attention": rows, "ties": {
        group.name: sum(row["tie"] for row, mask in zip(
            rows[group.name], kept[g], strict=True) if row and mask.any())
        for g, group in enumerate(groups)}}

  def _margins(self, group, mean, square, count):
    """Per edge of a group, the strongest token and the next, or None."""
    names = self.connections.space.candidates
    found: list[dict[str, Any] | None] = []
    for e, may in enumerate(self.connections.kept(group)):
      order = sorted(np.flatnonzero(may), key=lambda o: -mean[e, o])
      if not order:
        found.append(None)
        continue
      row = {"edge": list(group.cell.edges[e][1:]), "weights": {
          names[o]: float(mean[e, o]) for o in np.flatnonzero(
              group.allowed[e])}, "strongest": names[order[0]], "tie": False}
      if len(order) > 1:
        a, b = order[:2]
        margin = mean[e, a] - mean[e, b]
        spread = (square[e, a, a] - 2 * square[e, a, b] + square[e, b, b]
                  - margin**2)
        error = float(np.sqrt(max(spread, 0.0) / count))
        row |= {"next": names[b], "margin": float(margin),
                "standard_error": error, "tie": bool(margin < _SURE * error)}
      found.append(row)
    return found


def matrices(params):
  """Which parameters decay where the vectors of transformers do not.

  Args:
    params: {"supernet", "attention"}.
  """
  return {"supernet": jax.tree.map(lambda _: True, params["supernet"]),
          "attention": [{name: name not in attention.VECTORS for name in own}
                        for own in params["attention"]]}
