"""The search spaces of networks of blocks: a network, and what it may become.

The graph is that of the given network, padded with null edges to two inputs per
node (Guo et al., 2021, section 5.2); the candidates of an edge are what its
operation may become, so that a supernet never holds what no transformation
reaches. `share` says which blocks are decided on together: "cell", those of one
topology, or "full", none.
"""

from typing import Any
from typing import NamedTuple

from natjax import errors
from natjax import operations
from natjax.graph import blocks as blocks_lib
from natjax.spaces import nat as nat_space

SHARES = ("cell", "full")


class BlockSpace(NamedTuple):
  """What a network of blocks may become.

  Attributes:
    network: padded.
    candidates: operation names, in order; those of an edge are among them.
    share: one of `SHARES`.
    scheme: which of `transitions.SCHEMES` the space is meant for.
  """

  network: blocks_lib.BlockNetwork
  candidates: tuple[str, ...]
  share: str = "cell"
  scheme: str = "nat"

  @property
  def groups(self) -> tuple[tuple[int, ...], ...]:
    """Numbers of the blocks that are transformed alike, in order."""
    found: dict[Any, list[int]] = {}
    for i, block in enumerate(self.network.blocks):
      key = i if self.share == "full" else block.topology
      found.setdefault(key, []).append(i)
    return tuple(map(tuple, found.values()))

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the space."""
    return {"candidates": list(self.candidates), "share": self.share,
            "scheme": self.scheme}


def space_for(
    network: blocks_lib.BlockNetwork, *, method: str = "nat",
    share: str = "cell",
) -> BlockSpace:
  """The space in which a network of blocks is transformed.

  Args:
    network: what is to be transformed.
    method: "nat" or "natpp".
    share: "cell" or "full".

  Raises:
    InputError: another `share`.
  """
  if share not in SHARES:
    raise errors.InputError(
        f"share is '{share}'; choose one of {', '.join(SHARES)}")
  network = blocks_lib.pad(blocks_lib.check(network))
  known = nat_space.get(method).candidates
  used = dict.fromkeys(
      e.operation for block in network.blocks for e in block.edges)
  extra = [op for op in used if op not in known]
  return BlockSpace(network, (*known[:-1], *extra, operations.NULL), share,
                    method)
