"""What a search is over: cells shared by all layers, or networks of blocks.

A domain joins a search space to its supernet, its transition table and its
policy, so that a method (`methods.nat`) need not know what it transforms. An
architecture is `CellArrays` of shape [G, N, K]: G cells that are decided on (a
genotype's two; the kinds of blocks, or all blocks, of a network), N nodes, K
incoming edges per node. All domains have

  supernet: with `init(rng)` and `apply(params, arrays, images)`.
  table: the transition table.
  policy: the policy's linen module.
  shape: (G, N, K).
  candidates: operation names, O of them.
  sample(rng): draws an input architecture beta ~ p.
  init_policy(rng): draws the policy's parameters.
  logits(params, arrays): f32[G, N, K, A].
  rows(arrays): i32[G, N, K], rows of `table.valid`.
  encode(architecture), decode(arrays, architecture): to arrays and back.
  cost(architecture): in the network that is trained at the end.
  edge_costs(architecture): what every candidate costs there on every edge.
"""

from natjax.domains.blocks import BlockDomain
from natjax.domains.cells import CellDomain

__all__ = ["BlockDomain", "CellDomain"]
