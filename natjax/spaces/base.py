"""What a search space is."""

from collections.abc import Callable
from typing import Any, NamedTuple
import zlib

from natjax import errors, operations
from natjax.graph import blocks, codec, keeping, records
from natjax.spaces import transitions

WEIGHTS = ("edge", "source", "slot")


def _is_count(value):
  return type(value) is int and value >= 1


class Space(NamedTuple):
  """A search space: a graph, and what may stand on its edges.

  It knows no widths and no sizes: its networks stand at a place, as the graph's
  spelling needs it (`codec.expand`).

  Attributes:
    name: as the command line knows it.
    graph: with every edge that may be.
    candidates: operation names that arrays index, in order; `null` is the last.
    choices: per decision (`decide`) and edge of its cell, the names of
      what may stand there; None is every candidate on every edge.
    share: "cell", what the graph's spelling says is alike is decided on
      together, or "full", nothing is.
    keep: what no transformation changes, by its names (`graph.keeping`).
    inputs: K, edges that a node of an architecture has, from any sources of the
      graph's; None takes the graph's edges as they are.
    several: whether two operations may stand between the same two nodes.
    weights: what has weights of its own in a supernet: every "edge", every
      "source" of a cell, or every "slot", the k-th input of a node.
    loose_end: whether an architecture that is drawn concatenates only the nodes
      that feed no other node.
    scheme: which of `transitions.SCHEMES` the space is meant for.
    search_bias: whether convolutions of a supernet whose BN has no parameters
      carry a bias instead, BN on fixed edges has its parameters, and pooling is
      not normalised (NAS-Bench-201); else there is no bias, BN has parameters
      nowhere on edges, and pooling is normalised (DARTS).
    bottleneck: of a supernet whose nodes choose their inputs: how many times
      fewer channels its operations have. A 1x1 convolution and BN bring every
      source there, and others every node back; 1 is without.
    unfold: writes an architecture of the space in plainer operations, which is
      what a search hands on; None leaves it as it is.
  """

  name: str
  graph: records.Architecture
  candidates: tuple[str, ...]
  choices: tuple[tuple[tuple[str, ...], ...], ...] | None = None
  share: str = "cell"
  keep: str = ""
  inputs: int | None = None
  several: bool = True
  weights: str = "edge"
  loose_end: bool = False
  scheme: str = "nat"
  search_bias: bool = False
  bottleneck: int = 1
  unfold: Callable[[records.BlockNetwork], records.BlockNetwork] | None = None
  parents: tuple[tuple[int, ...], ...] | None = None

  @property
  def chain(self) -> bool:
    """Whether every block decides on one operation, or on none (`chains`)."""
    return is_chain(self.graph)

  def written(self, architecture: records.Architecture) -> records.Architecture:
    """What a search hands on for an architecture of the space."""
    if self.unfold is None or not isinstance(
        architecture, records.BlockNetwork):
      return architecture
    return self.unfold(architecture)

  @property
  def num_nodes(self) -> int:
    """N, the most intermediate nodes of a cell or a block."""
    return self.graph.num_nodes

  def decide(self, architecture: records.Architecture,
             place: records.Place) -> tuple[records.Decision, ...]:
    """What is decided on together when an architecture is changed.

    It is what the space's graph says: blocks that a change has made alike are
    decided on apart all the same.

    Raises:
      InputError: `keep` names what is not there.
    """
    found = keeping.decide(architecture, place, self.share, self.keep)
    if architecture.kind != "blocks" or self.graph.kind != "blocks":
      return found
    own = keeping.decide(self.graph, place, self.share, self.keep)
    if [d.members for d in own] == [d.members for d in found]:
      return found
    cells = {i: d.cell for d in found for i in d.members}
    if {*cells} != {i for d in own for i in d.members} or any(
        cells[i] != cells[d.members[0]] for d in own for i in d.members):
      return found  # It is none of the space, which others say.
    return tuple(d._replace(cell=cells[d.members[0]]) for d in own)

  def names(self, decision: int, edge: int) -> tuple[str, ...]:
    """What may stand on an edge of a decision's cell."""
    return (self.candidates if self.choices is None
            else self.choices[decision][edge])

  def validate(self) -> "Space":
    """Returns the space if its parts fit together.

    Raises:
      InputError: a field of another type or value than `Space` says, a graph
        that is not well formed, an unknown operation, or `choices` that are not
        of the candidates or not one for every edge of every decision.
    """
    if not isinstance(self.name, str) or not self.name:
      raise errors.InputError(
          f"a space's name is {errors.short(self.name)} and must be text")
    where = f"search space '{self.name}'"
    texts = isinstance(self.candidates, tuple) and all(
        isinstance(op, str) for op in self.candidates)
    for part, good, advice in (
        ("candidates", texts, "be a tuple of operations' names"),
        ("candidates", texts and self.candidates[-1:] == (operations.NULL,),
         "end with null"),
        ("candidates", texts and len({*self.candidates}) == len(
            self.candidates), "hold every operation once"),
        ("share", self.share in blocks.SHARES, f"be in {blocks.SHARES}"),
        ("weights", self.weights in WEIGHTS, f"be in {WEIGHTS}"),
        ("scheme", self.scheme in (*transitions.SCHEMES,),
         f"be in {tuple(transitions.SCHEMES)}"),
        ("inputs", self.inputs is None or _is_count(self.inputs),
         "be a whole number of at least 1, or None"),
        ("bottleneck", _is_count(self.bottleneck),
         "be a whole number of at least 1"),
        *((name, type(getattr(self, name)) is bool, "be True or False")
          for name in ("several", "loose_end", "search_bias"))):
      if not good:
        raise errors.InputError(
            f"{where}: {part} is {errors.short(getattr(self, part))} and must"
            f" {advice}; correct it")
    for op in self.candidates:
      operations.get(op, where=where)
    try:
      decisions = self.decide(codec.check(self.graph), records.Skeleton())
    except errors.InputError as e:
      raise errors.InputError(f"{where}: {e}", e.field) from e
    self._check_choices(where, [len(d.cell.edges) for d in decisions])
    self._check_parents(where, [d.cell for d in decisions])
    return self

  def _check_parents(self, where, cells):
    """Refuses numbers of parents that do not fit the decisions' cells."""
    if self.parents is None:
      return
    if self.inputs is not None:
      raise errors.InputError(
          f"{where}: parents counts the edges of a graph that is taken as it"
          " is, and inputs lets nodes choose; give one of both")
    try:
      fits = len(self.parents) == len(cells) and all(
          len(counts) == cell.num_nodes and all(
              type(count) is int and 0 <= count <= len(cell.incoming(node))
              for node, count in enumerate(counts, records.NUM_INPUTS))
          for counts, cell in zip(self.parents, cells, strict=True))
    except TypeError:
      fits = False
    if not fits:
      raise errors.InputError(
          f"{where}: parents is {errors.short(self.parents)} and must have, per"
          " decision and node, how many of its edges are kept, 0 for any;"
          " correct it")

  def _check_choices(self, where, counts):
    """Refuses choices that do not fit the edges of the graph's decisions."""
    if self.choices is None:
      return
    try:
      found = [len(cell) for cell in self.choices]
      edges = [edge for cell in self.choices for edge in cell]
      known = all(isinstance(edge, tuple) and {*edge} <= {*self.candidates}
                  for edge in edges)
    except TypeError:
      found, known = [], False
    for good, wanted in (
        (known, "be of its candidates, a tuple of names for every edge"),
        (found == counts, f"be for as many edges as its graph has, {counts}")):
      if not good:
        raise errors.InputError(
            f"{where}: choices is {errors.short(self.choices)} and must"
            f" {wanted}; correct it")

  def check(self, cell: records.Cell) -> None:
    """Refuses a cell that is not in the space, but for its operations.

    Raises:
      InputError: a node with more inputs than the space allows, or two
        operations on one edge where it allows one.
    """
    most = cell.num_inputs_per_node
    if self.inputs is not None and most > self.inputs:
      raise errors.InputError(
          f"a node has {most} inputs and search space '{self.name}' allows"
          f" {self.inputs}; choose another space or remove edges")
    pairs = [edge[1:] for edge in cell.edges]  # Of null too: it may change.
    if not self.several and len(set(pairs)) < len(pairs):
      raise errors.InputError(
          "two edges join the same two nodes and search space"
          f" '{self.name}' allows one; choose another space or remove one")

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the space."""
    kind = {"share": self.share} if self.inputs is None else {
        "name": self.name, "num_nodes": self.num_nodes,
        "loose_end": self.loose_end}
    if self.chain or self.parents is not None:
      # What its layers and its nodes are, only its name tells.
      kind = {"name": self.name, **kind}
    return {**kind, "candidates": list(self.candidates), "scheme": self.scheme}

  def checksum(self) -> int:
    """Of all of it but its name and its functions; spaces alike have one."""
    return zlib.crc32(repr([
        value for name, value in self._asdict().items()
        if name != "name" and not callable(value)]).encode())


def is_chain(graph: records.Architecture) -> bool:
  """Whether a space's graph is a chain.

  A network of blocks, each with one null edge that is to be decided on, or
  with none; some of the former.
  """
  if not isinstance(graph, records.BlockNetwork):
    return False
  free = [[edge.operation for edge in block.edges
           if not block.node(edge.target).fixed] for block in graph.blocks]
  return any(free) and all(
      names in ([], [operations.NULL]) for names in free)


def complete(num_nodes: int) -> records.Genotype:
  """The genotype with an edge between every two nodes, all of them null.

  Args:
    num_nodes: N, intermediate nodes of both cells.

  Example:
    >>> len(complete(4).normal.edges)
    14
  """
  nodes = range(records.NUM_INPUTS, records.NUM_INPUTS + num_nodes)
  cell = records.Cell(
      tuple(records.Edge(operations.NULL, source, target) for target in nodes
            for source in range(target)), tuple(nodes))
  return records.Genotype(cell, cell)


def cells(name: str, candidates: tuple[str, ...], *, num_nodes: int = 4,
          inputs: int = 2, **options: Any) -> Space:
  """A space of genotypes whose nodes may have any earlier nodes as inputs.

  Args:
    name: of the space.
    candidates: operation names, in order, `null` the last.
    num_nodes: N, intermediate nodes of both cells.
    inputs: K, of every node.
    **options: further fields of `Space`.

  Example:
    >>> cells("tiny", ("conv_3x3", "null"), num_nodes=2).num_nodes
    2
  """
  return Space(name, complete(num_nodes), candidates, inputs=inputs, **options)
