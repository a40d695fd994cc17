"""The search spaces of NAT and NAT++.

Guo et al., 2021, sections 4.1 and 5.1, and the operation lists that its authors
released; NAT++ has one list of thirteen for both kinds of cells. Every node has
two inputs from any earlier nodes. In the fully concatenated space a cell's
output is the concatenation of all its nodes; in the loose-end space, of the
nodes that feed no other node. The supernet's output is always N * C wide, nodes
that are not concatenated giving zeros.

A network of blocks is its own space: the graph is that of the given network,
padded with null edges to two inputs per node (section 5.2).
"""

from collections.abc import Sequence

from natjax import errors, operations
from natjax.graph import codec, keeping, records
from natjax.spaces import (
  base,
  darts,
  nasbench1shot1,
  nasbench201,
  nasbench_macro,
  proxyless,
  robust_darts,
  shufflenet,
)

_SHARED = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
           "sep_conv_5x5")

FULLY_CONCATENATED = (*_SHARED, "dil_conv_3x3", "dil_conv_5x5", "conv_3x3",
                      "null")
NATPP = ("max_pool_3x3", "max_pool_5x5", "avg_pool_3x3", "avg_pool_5x5",
         "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
         "dil_conv_5x5", "conv_1x1", "conv_3x3", "conv_5x5", "null")
LOOSE_END = (*_SHARED, "conv_1x1", "conv_3x3", "conv_5x5", "null")

_WORDS = {"cells": "a genotype", "blocks": "a network of blocks"}

#: By name; other packages add to it (`pipeline.plugins`).
SPACES = {space.name: space for space in (
    base.cells("nat", FULLY_CONCATENATED),
    base.cells("nat_loose_end", LOOSE_END, loose_end=True),
    base.cells("natpp", NATPP, scheme="natpp"),
    base.cells("natpp_loose_end", NATPP, loose_end=True, scheme="natpp"),
    *darts.SPACES, *robust_darts.SPACES, nasbench201.SPACE,
    *nasbench1shot1.SPACES, nasbench_macro.SPACE, *proxyless.SPACES,
    shufflenet.SPACE)}


def get(name: str) -> base.Space:
  """Looks a space up by name.

  Raises:
    InputError: no such space, or one whose parts do not fit together.
  """
  errors.known("search space", name, SPACES, "space")
  return SPACES[name].validate()


def space_for(architecture: records.Architecture, *, name: str | None = None,
              method: str = "nat", share: str = "cell",
              others: Sequence[records.Architecture] = ()) -> base.Space:
  """Chooses the space in which an architecture is transformed.

  Of a genotype it is loose end where a cell does not concatenate all of its
  nodes (the released rule for ENAS, VGG, ResBlock and MobileNetV2 cells), else
  fully concatenated. Operations of the architecture that the space's list lacks
  (NAONet's, or a user's own) are added to its candidates before `null`, so that
  every registered operation can be transformed; the released code cannot read
  such genotypes at all.

  Args:
    architecture: what is to be transformed.
    name: one of `SPACES`, to overrule the choice, for a genotype.
    method: "nat" or "natpp", whose spaces to choose among.
    share: see `base.Space`.
    others: that are to be in the same space.

  Raises:
    InputError: no space of that name, one of networks of blocks, a name for
      such a network, another `share`, or others that differ in more than a
      space holds.
  """
  graph, *more = (codec.pad(codec.check(a)) for a in (architecture, *others))
  for number, other in enumerate(more, 2):
    if differ := _apart(graph, other, share):
      raise errors.InputError(
          f"architectures 1 and {number} are in no common space: {differ};"
          " transform them in runs of their own")
  if isinstance(graph, records.BlockNetwork) and name is not None:
    raise errors.InputError(f"space is '{name}', and a network of blocks is its"
                            " own space; leave it out", field="space")
  cells = [cell for a in (graph, *more) for cell in _cells(a, share)]
  if isinstance(graph, records.BlockNetwork):
    return base.Space(
        graph.name, graph, _candidates(cells, get(method).candidates),
        share=share, scheme=method)
  if name is None:
    full = all(len(cell.concat) == cell.num_nodes for cell in cells)
    name = method if full else f"{method}_loose_end"
  space = get(name)
  if space.inputs is None:
    raise errors.InputError(
        f"space is '{name}', which is one of networks of blocks, and a genotype"
        " is given; choose another space, or search there", "space")
  most = max(cell.num_inputs_per_node for cell in cells)
  return space._replace(
      candidates=_candidates(cells, space.candidates),
      graph=base.complete(graph.num_nodes), inputs=max(space.inputs, most))


def own(architecture: records.Architecture, share: str = "cell",
        method: str = "nat", keep: str = "") -> base.Space:
  """The space of an architecture's own graph.

  Its candidates are the operations that stand there and what the method adds:
  skip and null, or all of NAT++'s.

  Args:
    architecture: well formed; it is padded (`codec.pad`).
    share: see `base.Space`.
    method: "nat" or "natpp", whose scheme it has.
    keep: what no transformation changes, see `graph.keeping`.

  Raises:
    InputError: `keep` names what is not there.
  """
  graph = codec.pad(architecture)
  keeping.read(keep, graph)
  listed = NATPP if method == "natpp" else (operations.SKIP, operations.NULL)
  return base.Space("own", graph, _candidates(_cells(graph, share), listed),
                    share=share, scheme=method, keep=keep)


def _apart(first, second, share):
  """In what two padded architectures differ besides operations, in words.

  Of cells those may differ in their edges, too.
  """
  if first.kind != second.kind:
    return f"one is {_WORDS[first.kind]}, the other {_WORDS[second.kind]}"
  if isinstance(first, records.Genotype):
    counts = [a.num_nodes for a in (first, second)]
    return "" if counts[0] == counts[1] else (
        f"their cells have {counts[0]} and {counts[1]} nodes")
  counts = [len(a.blocks) for a in (first, second)]
  if counts[0] != counts[1]:
    return f"they have {counts[0]} and {counts[1]} blocks"
  bare = [[block._replace(edges=tuple(
      edge._replace(operation=operations.NULL) for edge in block.edges))
           for block in a.blocks] for a in (first, second)]
  for i, (a, b) in enumerate(zip(*bare, strict=True)):
    if a != b:
      return f"block {i} has other nodes or edges"
  around = [a._replace(name="", blocks=()) for a in (first, second)]
  if around[0] != around[1]:
    return "their layers around the blocks differ"
  members = [[d.members for d in codec.decide(a, records.Skeleton(), share)]
             for a in (first, second)]
  return "" if members[0] == members[1] else (
      "other blocks are alike, and share 'cell' decides alike on those; with"
      " share 'full' they can be transformed together")


def _cells(graph, share):
  """The cells that are decided on, at whatever place."""
  return [d.cell for d in codec.decide(graph, records.Skeleton(), share)]


def _candidates(cells, listed):
  """The listed operations and those that the cells use, `null` at the end."""
  used = dict.fromkeys(e.operation for cell in cells for e in cell.edges)
  extra = [op for op in used if op not in listed]
  return (*listed[:-1], *extra, operations.NULL)
