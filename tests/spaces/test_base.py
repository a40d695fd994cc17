"""Tests of `natjax.spaces.base`."""

import hypothesis
from hypothesis import strategies as st
import pytest

from natjax import errors, spaces, zoo
from natjax.graph import blocks, genotype, records
from natjax.spaces import base, connections, ground
from tests import architectures

CANDIDATES = ("conv_3x3", "skip_connect", "null")


@pytest.mark.parametrize("num_nodes", [1, 2, 4, 7])
def test_the_complete_graph_has_an_edge_between_every_two_nodes(num_nodes):
  graph = base.complete(num_nodes)
  assert graph.normal == graph.reduce
  cell = graph.normal
  assert genotype.check(graph) == graph
  assert len(cell.edges) == sum(range(2, 2 + num_nodes))
  assert {edge[1:] for edge in cell.edges} == {
      (i, j) for j in range(2, 2 + num_nodes) for i in range(j)}
  assert {edge.operation for edge in cell.edges} == {"null"}
  assert cell.concat == tuple(range(2, 2 + num_nodes))


def test_the_complete_graph_by_hand():
  null = lambda *ends: records.Edge("null", *ends)
  assert base.complete(2).normal.edges == (
      null(0, 2), null(1, 2), null(0, 3), null(1, 3), null(2, 3))


def test_cells():
  space = spaces.cells("mine", CANDIDATES, num_nodes=3, inputs=4,
                       loose_end=True, several=False)
  assert space == spaces.Space(
      "mine", base.complete(3), CANDIDATES, inputs=4, loose_end=True,
      several=False)
  assert space.num_nodes == 3
  assert space.names(1, 8) == CANDIDATES


def test_choices_are_per_decision_and_edge():
  edges = (("conv_3x3", "null"), ("skip_connect", "null"))
  space = spaces.Space(
      "s2", genotype.Genotype(*(architectures.cell(
          ("null", 0, 2), ("null", 1, 2), concat=(2,)),) * 2), CANDIDATES,
      choices=(edges, edges[::-1]))
  assert [space.names(g, e) for g in (0, 1) for e in (0, 1)] == [
      *edges, *edges[::-1]]


def test_number_of_nodes_is_that_of_the_larger_cell_or_block():
  space = spaces.cells("s", CANDIDATES)._replace(graph=architectures.UNEQUAL)
  assert space.num_nodes == 3
  assert space._replace(graph=architectures.PADDED).num_nodes == 2


@pytest.mark.parametrize("inputs, several, message", [
    (2, True, "a node has 3 inputs and search space 'mine' allows 2"),
    (1, False, "allows 1"), (3, False, "two edges join the same two"),
    (3, True, None), (None, True, None),
    (None, False, "two edges join the same two")])
def test_cells_that_are_not_in_the_space_are_refused_in_one_line(
    inputs, several, message):
  space = spaces.Space("mine", base.complete(3), CANDIDATES, inputs=inputs,
                       several=several)
  if message is None:
    space.check(architectures.UNEQUAL.normal)
    return
  with pytest.raises(errors.InputError, match=message) as e:
    space.check(architectures.UNEQUAL.normal)
  assert "\n" not in str(e.value)


@hypothesis.settings(deadline=None)
@hypothesis.given(architectures.cells(3, CANDIDATES, (1, 3)), st.integers(1, 3))
def test_a_space_of_single_operations_knows_doubles(cell, inputs):
  space = spaces.cells("mine", CANDIDATES, num_nodes=3, inputs=inputs,
                       several=False)
  real = [(e.source, e.target) for e in cell.edges]
  doubled = any(real.count(pair) > 1 for pair in real)
  wide = any(len(cell.incoming(node)) > inputs for node in (2, 3, 4))
  try:
    space.check(cell)
    assert not doubled and not wide
  except errors.InputError:
    assert doubled or wide


def test_spaces_that_differ_in_anything_have_checksums_of_their_own():
  names = ("conv_3x3", "skip_connect", "null")
  space = spaces.cells("a", names, num_nodes=3)
  edges = len(space.graph.normal.edges)
  others = [
      spaces.cells("a", names, num_nodes=3, inputs=1),
      spaces.cells("a", names, num_nodes=2),
      spaces.cells("a", names, num_nodes=3, several=False),
      spaces.cells("a", names, num_nodes=3, weights="slot"),
      spaces.cells("a", names, num_nodes=3, choices=(
          (names[:1],) * edges,) * 2),
      *spaces.SPACES.values()]
  assert len({other.checksum() for other in (space, *others)}) == (
      1 + len(others))
  assert space._replace(name="b").checksum() == space.checksum()


def test_what_a_run_says_of_its_space():
  assert spaces.SPACES["nat_loose_end"].describe() == {
      "name": "nat_loose_end", "num_nodes": 4, "loose_end": True,
      "candidates": list(spaces.SPACES["nat_loose_end"].candidates),
      "scheme": "nat"}
  space = spaces.space_for(zoo.get("resnet20"), method="natpp", share="full")
  assert space.describe() == {
      "share": "full", "candidates": list(spaces.SPACES["natpp"].candidates),
      "scheme": "natpp"}
  assert blocks.check(space.graph) == space.graph


@pytest.mark.parametrize("changes,message", [
    ({"name": None}, "name is None and must be text"),
    ({"candidates": ("null", "conv_1x1")}, "candidates is .* end with null"),
    ({"candidates": ("conv_9x9", "null")}, "unknown operation 'conv_9x9'"),
    ({"share": "some"}, "share is 'some'"),
    ({"weights": "node"}, "weights is 'node' and must be in .*'slot'"),
    ({"scheme": "own"}, "scheme is 'own' and must be in .*'natpp'"),
    ({"choices": ((("conv_5x5",),),)}, "choices is .* be of its cand"),
    ({"name": []}, r"name is \[\] and must be text"),
    ({"candidates": 3}, "candidates is 3 and must be a tuple of operations'"),
    ({"candidates": ["null"]}, "must be a tuple of operations'"),
    ({"candidates": ()}, "end with null"),
    ({"candidates": (3, "null")}, "must be a tuple of operations'"),
    ({"candidates": ("null", "null")}, "hold every operation once"),
    ({"share": []}, r"share is \[\]"), ({"scheme": {}}, "scheme is {}"),
    ({"share": "full"}, "cells are shared by all layers"),
    ({"weights": None}, "weights is None"),
    *(({"inputs": value}, "inputs is .* a whole number of at least 1, or None")
      for value in (0, -1, 1.5, "2", True)),
    *(({"bottleneck": value}, "bottleneck is .* a whole number of at least 1")
      for value in (0, -2, 0.5, None)),
    *(({name: 1}, f"{name} is 1 and must be True or False")
      for name in ("several", "loose_end", "search_bias")),
    ({"graph": None}, "search space 'mine': the architecture is of type None"),
    ({"graph": genotype.Genotype(3, 4)}, "normal cell: 3 must be a Cell"),
    ({"choices": ((("null",),) * 4,) * 2}, r"as many edges .*\[5, 5\]"),
    ({"choices": ((("null",),) * 5,)}, "choices is .* as many edges as its"),
    ({"choices": ()}, r"choices is \(\) and must be for as many edges"),
    ({"choices": 3}, "choices is 3 and must be of its candidates"),
    ({"choices": ((3,) * 5,) * 2}, "choices is .* and must be of its"),
    ({"choices": (("null",) * 5,) * 2}, "choices is .* a tuple of names"),
])
def test_a_space_whose_parts_do_not_fit(changes, message):
  space = spaces.cells("mine", CANDIDATES, num_nodes=2)
  assert space.validate() is space
  with pytest.raises(errors.InputError, match=message) as e:
    space._replace(**changes).validate()
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("changes", [
    {"inputs": 0}, {"bottleneck": 0}, {"choices": ((("null",),),)}])
def test_a_space_that_nobody_validated_is_refused_where_it_is_used(
    changes, monkeypatch):
  space = spaces.cells("mine", CANDIDATES, num_nodes=2)._replace(**changes)
  place = records.Skeleton("cifar", 4, 3, 10, 8)
  monkeypatch.setitem(spaces.SPACES, "mine", space)
  for use in (lambda: spaces.get("mine"),
              lambda: connections.Connections(space, place),
              lambda: ground.Ground(space, place, scheme="nat")):
    with pytest.raises(errors.InputError, match="search space 'mine': "):
      use()


def test_the_spaces_of_the_library_are_valid():
  for space in spaces.SPACES.values():
    assert space.validate() is space
