"""The search spaces of NAT and NAT++, fully concatenated and loose end.

Guo et al., 2021, sections 4.1 and 5.1, and the operation lists that its authors
released; NAT++ has one list of thirteen for both. Every node has two inputs
from any earlier nodes. In the fully concatenated space a cell's output is the
concatenation of all its nodes; in the loose-end space, of the nodes that feed
no other node. The supernet's output is always N * C wide, nodes that are not
concatenated giving zeros.
"""

from typing import Any
from typing import NamedTuple

from natjax import errors
from natjax import operations
from natjax.graph import genotype as architecture

_SHARED = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
           "sep_conv_5x5")

FULLY_CONCATENATED = (*_SHARED, "dil_conv_3x3", "dil_conv_5x5", "conv_3x3",
                      "null")
NATPP = ("max_pool_3x3", "max_pool_5x5", "avg_pool_3x3", "avg_pool_5x5",
         "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
         "dil_conv_5x5", "conv_1x1", "conv_3x3", "conv_5x5", "null")
LOOSE_END = (*_SHARED, "conv_1x1", "conv_3x3", "conv_5x5", "null")


class SearchSpace(NamedTuple):
  """A cell search space with two inputs per node.

  Attributes:
    name: as the command line knows it.
    candidates: operation names, in order; the same on every edge.
    num_nodes: N, intermediate nodes of a cell.
    loose_end: whether a cell's output concatenates only the nodes that feed
      no other node.
    scheme: which of `transitions.SCHEMES` the space is meant for.
  """

  name: str
  candidates: tuple[str, ...]
  num_nodes: int = 4
  loose_end: bool = False
  scheme: str = "nat"

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the space."""
    return self._asdict()


SPACES = {
    "nat": SearchSpace("nat", FULLY_CONCATENATED),
    "nat_loose_end": SearchSpace("nat_loose_end", LOOSE_END, loose_end=True),
    "natpp": SearchSpace("natpp", NATPP, scheme="natpp"),
    "natpp_loose_end": SearchSpace("natpp_loose_end", NATPP, loose_end=True,
                                   scheme="natpp"),
}


def get(name: str) -> SearchSpace:
  """Looks a space up by name (InputError)."""
  if name not in SPACES:
    raise errors.InputError(
        f"search space '{name}' is unknown; choose one of {', '.join(SPACES)}"
    )
  return SPACES[name]


def space_for(
    genotype: architecture.Genotype,
    *,
    name: str | None = None,
    method: str = "nat",
) -> SearchSpace:
  """Chooses the space in which a genotype is transformed.

  The space is loose end where a cell does not concatenate all of its nodes
  (the released rule for ENAS, VGG, ResBlock and MobileNetV2 cells), else
  fully concatenated. Operations of the genotype that the space's list lacks
  (NAONet's, or a user's own) are added to its candidates before `null`, so
  that every registered operation can be transformed; the released code cannot
  read such genotypes at all.

  Args:
    genotype: what is to be transformed.
    name: one of `SPACES`, to overrule the choice.
    method: "nat" or "natpp", whose spaces to choose among.

  Raises:
    InputError: no space of that name.
  """
  if name is None:
    full = all(len(c.concat) == c.num_nodes for c in genotype)
    name = method if full else f"{method}_loose_end"
  space = get(name)
  used = dict.fromkeys(e.operation for cell in genotype for e in cell.edges)
  extra = [op for op in used if op not in space.candidates]
  candidates = (*space.candidates[:-1], *extra, operations.NULL)
  return space._replace(candidates=candidates, num_nodes=genotype.num_nodes)
