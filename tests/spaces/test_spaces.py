"""The spaces that searches know, and the sizes of their supernets."""

import jax
import pytest

from natjax import errors, operations, spaces, zoo
from natjax.graph import codec, nasbench201
from natjax.networks import supernet
from tests import counting

# The two candidates of every edge of S1, by target and source, as Zela et al.
# published them.
S1 = {
    "normal": [
        ["skip_connect", "dil_conv_3x3"], ["skip_connect", "dil_conv_5x5"],
        ["skip_connect", "dil_conv_5x5"], ["skip_connect", "sep_conv_3x3"],
        ["skip_connect", "dil_conv_3x3"], ["max_pool_3x3", "skip_connect"],
        ["skip_connect", "sep_conv_3x3"], ["skip_connect", "sep_conv_3x3"],
        ["skip_connect", "dil_conv_3x3"], ["skip_connect", "sep_conv_3x3"],
        ["max_pool_3x3", "skip_connect"], ["skip_connect", "dil_conv_3x3"],
        ["dil_conv_3x3", "dil_conv_5x5"], ["dil_conv_3x3", "dil_conv_5x5"]],
    "reduce": [
        ["max_pool_3x3", "avg_pool_3x3"], ["max_pool_3x3", "dil_conv_3x3"],
        ["max_pool_3x3", "avg_pool_3x3"], ["max_pool_3x3", "avg_pool_3x3"],
        ["skip_connect", "dil_conv_5x5"], ["max_pool_3x3", "avg_pool_3x3"],
        ["max_pool_3x3", "sep_conv_3x3"], ["skip_connect", "dil_conv_3x3"],
        ["skip_connect", "dil_conv_5x5"], ["max_pool_3x3", "avg_pool_3x3"],
        ["max_pool_3x3", "avg_pool_3x3"], ["skip_connect", "dil_conv_5x5"],
        ["skip_connect", "dil_conv_5x5"], ["skip_connect", "dil_conv_5x5"]]}

DARTS = {"max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
         "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "null"}
CANDIDATES = {
    "darts": DARTS,
    "darts12": {*DARTS, "conv_1x1", "conv_3x3", "conv_1x3_3x1", "conv_1x5_5x1",
                "conv_1x7_7x1"},
    "s1": DARTS - {"sep_conv_5x5"},
    "s2": {"skip_connect", "sep_conv_3x3", "null"},
    "s3": {"skip_connect", "sep_conv_3x3", "null"},
    "s4": {"noise", "sep_conv_3x3", "null"},
    "nasbench201": {"skip_connect", "conv_1x1", "conv_3x3", "avg_pool_3x3",
                    "null"}}


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates(name):
  space = spaces.get(name).validate()
  assert space.name == name and space.candidates[-1] == "null"
  assert len(space.candidates) == len(CANDIDATES[name])
  assert {*space.candidates} == CANDIDATES[name]
  assert {*space.candidates} <= {*operations.names()}


@pytest.mark.parametrize("name", sorted({*CANDIDATES} - {"nasbench201"}))
def test_nodes_of_darts_choose_two_inputs(name):
  space = spaces.get(name)
  assert (space.num_nodes, space.inputs, space.several) == (4, 2, True)
  assert (space.weights, space.bottleneck) == ("edge", 1)
  assert not space.loose_end and not space.search_bias
  for cell in space.graph:
    assert [edge[1:] for edge in cell.edges] == [
        (s, t) for t in (2, 3, 4, 5) for s in range(t)]
    assert cell.concat == (2, 3, 4, 5)


def test_what_may_stand_on_every_edge():
  s1 = spaces.get("s1")
  assert [[list(s1.names(g, e)) for e in range(14)] for g in (0, 1)] == [
      *S1.values()]
  for name, choices in (("s2", {"skip_connect", "sep_conv_3x3"}),
                        ("s3", {"null", "skip_connect", "sep_conv_3x3"}),
                        ("s4", {"noise", "sep_conv_3x3"})):
    space = spaces.get(name)
    assert all({*space.names(g, e)} == choices for g in (0, 1)
               for e in range(14))
    assert [len(cell) for cell in space.choices] == [14, 14]
  for name in ("darts", "darts12", "nasbench201"):
    assert spaces.get(name).choices is None


def test_nasbench201_takes_its_edges_as_they_are():
  space = spaces.get("nasbench201")
  assert space.inputs is None and space.search_bias and not space.several
  assert space.graph == zoo.nasbench201.network(
      ["null"] * 6)._replace(name=space.name)
  cells, between = codec.decide(
      space.graph, codec.place("blocks", num_classes=10, image_size=32))
  assert [edge[1:] for edge in cells.cell.edges] == [
      (s + 1, t + 1) for s, t in nasbench201.EDGES]
  assert len(cells.members) == 15 and not any(cells.fixed)
  assert between.members == (5, 11) and all(between.fixed)


def test_an_unknown_space_is_refused_in_one_line():
  with pytest.raises(errors.InputError, match=r"'s5' is unknown.*darts12") as e:
    spaces.get("s5")
  assert e.value.field == "space" and "\n" not in str(e.value)


# Supernets as they are searched in: 8 cells of 16 channels, CIFAR-10.


def parameters(name, num_classes=10, **changes):
  space = spaces.get(name)._replace(**changes)
  kind = space.graph.kind
  arguments = ("cifar", 16, 8) if kind == "cells" else ()
  place = codec.place(kind, *arguments, num_classes=num_classes, image_size=32)
  return counting.parameters(jax.eval_shape(
      supernet.Supernet(space, place).init, jax.random.key(0)))


@pytest.mark.long
@pytest.mark.parametrize("name, classes, changes, count", [
    ("darts", 10, {}, 1930618),
    ("darts", 10, {"weights": "source"}, 749050),
    ("darts", 10, {"weights": "source", "bottleneck": 4}, 206362),
    ("darts12", 10, {"weights": "source"}, 3923450),
    ("darts12", 10, {"weights": "source", "bottleneck": 4}, 404762),
    ("s2", 10, {}, 665466), ("s3", 10, {}, 665466), ("s3", 100, {}, 688596),
    ("nasbench201", 10, {}, 1692826)])
def test_parameters_of_supernets(name, classes, changes, count):
  assert parameters(name, classes, **changes) == count


@pytest.mark.parametrize("ratio", [3, 32])
def test_a_bottleneck_that_does_not_divide_the_channels_is_refused(ratio):
  with pytest.raises(errors.InputError, match=f"bottleneck is {ratio}") as e:
    parameters("s2", bottleneck=ratio)
  assert e.value.field == "bottleneck" and "\n" not in str(e.value)
