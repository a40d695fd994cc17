"""Tests of `natjax.drawing.comparison`."""

import pytest

from natjax import drawing, errors, zoo
from natjax.graph import blocks, genotype, records
from tests import architectures
from tests.drawing import pictures

FIRST, SECOND = pictures.FIRST, pictures.SECOND


def test_changes_by_hand():
  assert drawing.changes(FIRST, FIRST) == []
  assert drawing.changes(FIRST, SECOND) == [
      ("normal", 0, 2, "sep_conv_3x3", "skip_connect"),
      ("normal", 1, 2, "sep_conv_5x5", "null"),
      # The second of two edges between the same nodes.
      ("normal", 0, 3, "conv_3x3", "max_pool_3x3"),
  ]


def test_changes_of_published_architectures():
  found = drawing.changes(zoo.get("vgg-cell"), zoo.get("nat_vgg"))
  assert found == [
      ("normal", 0, 2, "null", "skip_connect"),
      ("normal", 0, 5, "null", "skip_connect"),
      ("reduce", 0, 2, "null", "skip_connect"),
      ("reduce", 0, 5, "null", "skip_connect"),
      ("reduce", 4, 5, "max_pool_3x3", "skip_connect"),
  ]
  assert len(drawing.changes(zoo.get("darts"), zoo.get("nat_darts"))) == 5


def test_changes_of_blocks_that_changed_alike_are_one():
  network = zoo.get("resnet20")
  first = network.blocks[0]
  other = first._replace(edges=(
      first.edges[0]._replace(operation="sep_conv_3x3"), *first.edges[1:]))
  found = drawing.changes(network, network._replace(
      blocks=(other, other, *network.blocks[2:4], other, *network.blocks[5:])))
  assert found == [("blocks 0-1, 4", 1, 2, "conv_3x3", "sep_conv_3x3")]


def test_changes_of_what_is_newly_sayable():
  """Unequal cells, of which a node has three inputs; windows; ImageNet."""
  normal, reduce = architectures.UNEQUAL
  edges = list(normal.edges)
  # The third input of node 3, and the second operation on one edge.
  edges[3] = edges[3]._replace(operation="null")
  edges[5] = edges[5]._replace(operation="null")
  other = genotype.Genotype(normal._replace(edges=tuple(edges)), reduce)
  expected = [("normal", 2, 3, "max_pool_3x3", "null"),
              ("normal", 3, 4, "skip_connect", "null")]
  assert drawing.changes(architectures.UNEQUAL, other) == expected
  place = records.Skeleton("imagenet", 4, 3, 10, 64)
  found = drawing.changes(*(
      genotype.unshared(cells, place)
      for cells in (architectures.UNEQUAL, other)))
  # Behind the two nodes that bring its inputs to C channels.
  assert found == [("block 0", source + 2, target + 2, before, after)
                   for _, source, target, before, after in expected]
  padded = architectures.PADDED
  block = padded.blocks[2]._replace(edges=(
      padded.blocks[2].edges[0],
      padded.blocks[2].edges[1]._replace(operation="conv_1x1"),
      padded.blocks[2].edges[2]))
  assert drawing.changes(padded, blocks.check(padded._replace(
      blocks=(*padded.blocks[:2], block)))) == [
          ("block 2", 2, 3, "conv_3x3", "conv_1x1")]


@pytest.mark.parametrize("first, second", [
    (zoo.get("darts"), zoo.get("resnet20")),
    (zoo.get("resnet20"), zoo.get("resnet56"))])
def test_what_is_no_pair_is_refused_in_one_line(first, second):
  with pytest.raises(errors.InputError, match="same graph") as e:
    drawing.changes(first, second)
  assert "\n" not in str(e.value)
