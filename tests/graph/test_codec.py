"""Every spelling of networks: what holds for all of them."""

import json

import numpy as np
import pytest

from natjax import errors, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec, genotype, records
from natjax.zoo import handcrafted
from tests import architectures

SKELETON = records.Skeleton("cifar", 4, 5, 7, 32)
NETWORK = handcrafted.build("resnet20")
CASES = {
    "darts": zoo.get("darts"), "unequal": architectures.UNEQUAL,
    "resnet20": NETWORK, "padded": architectures.PADDED,
    "unshared": genotype.unshared(architectures.UNEQUAL, SKELETON),
}


def refusal(function, *args, **kwargs):
  with pytest.raises(errors.InputError) as e:
    function(*args, **kwargs)
  assert "\n" not in str(e.value)
  return str(e.value)


def place_of(architecture):
  return codec.place(
      architecture.kind, "cifar", 4, 5, num_classes=7, image_size=32)


@pytest.mark.parametrize("name", CASES)
def test_the_two_texts_of_every_spelling(name, tmp_path):
  architecture = CASES[name]
  path = tmp_path / "architecture.json"
  path.write_text(codec.to_json(architecture), "utf-8")
  assert codec.read(path) == architecture
  assert codec.from_dict(json.loads(path.read_text())) == architecture
  assert "\n" not in codec.to_line(architecture)


def test_places():
  """A genotype needs a skeleton; a network of blocks brings its own."""
  assert place_of(zoo.get("darts")) == SKELETON
  assert place_of(NETWORK) == records.Frame(7, 32)
  assert codec.place(
      "blocks", num_classes=7, image_size=32) == records.Frame(7, 32)
  assert "at least 8" in refusal(
      codec.place, "cells", "cifar", 4, 5, num_classes=7, image_size=7)


@pytest.mark.parametrize("name", CASES)
def test_decisions_respelt_are_the_architecture(name):
  """What is decided on covers every block once, and puts back the same."""
  architecture = CASES[name]
  place = place_of(architecture)
  network = codec.expand(architecture, place)
  shares = ("cell",) if architecture.kind == "cells" else ("cell", "full")
  for share in shares:
    decisions = codec.decide(architecture, place, share)
    members = [i for d in decisions for i in d.members]
    assert sorted(members) == list(range(len(network.blocks)))
    for decision in decisions:
      for i in decision.members:
        # Edge e of the cell is the block's edge e + prefix, and so are nodes.
        assert decision.cell.edges == tuple(
            edge._replace(source=edge.source - network.prefix,
                          target=edge.target - network.prefix)
            for edge in network.blocks[i].edges[network.prefix:])
        assert decision.fixed == tuple(
            network.blocks[i].node(edge.target).fixed
            for edge in network.blocks[i].edges[network.prefix:])
    assert codec.respell(architecture, decisions, tuple(
        d.cell for d in decisions)) == architecture


@pytest.mark.parametrize("name", CASES)
def test_checked_and_padded_architectures_stay_what_they_are(name):
  architecture = CASES[name]
  assert codec.check(architecture) == architecture
  padded = codec.pad(architecture)
  assert codec.pad(padded) == padded
  if architecture.kind == "cells":
    assert padded is architecture


def test_pairs_have_names_and_cells():
  darts, other = zoo.get("darts"), zoo.get("nat_darts")
  assert codec.paired(darts, other) == [
      ("normal", darts.normal, other.normal),
      ("reduce", darts.reduce, other.reduce)]
  # Blocks that are alike in both networks, but for their widths, are one.
  changed = NETWORK.blocks[8]._replace(edges=tuple(
      e._replace(operation="skip_connect") for e in NETWORK.blocks[8].edges))
  other = NETWORK._replace(blocks=(*NETWORK.blocks[:8], changed))
  plain = NETWORK.blocks[0].cell
  assert codec.paired(NETWORK, other) == [
      ("blocks 0-2, 4-5, 7", plain, plain),
      ("blocks 3, 6", NETWORK.blocks[3].cell, NETWORK.blocks[3].cell),
      ("block 8", plain, changed.cell)]


@pytest.mark.parametrize("first, second", [
    (zoo.get("darts"), NETWORK), (NETWORK, zoo.get("darts")),
    (NETWORK, handcrafted.build("resnet56"))])
def test_architectures_that_are_not_alike_are_no_pair(first, second):
  assert "same graph" in refusal(codec.paired, first, second)


@pytest.mark.parametrize("ill", [
    genotype.Genotype(architectures.UNEQUAL.normal, architectures.cell(
        ("conv_3x3", 3, 2), ("conv_3x3", 2, 3), concat=(3,))),
    NETWORK._replace(blocks=(NETWORK.blocks[0]._replace(edges=(
        blocks.Edge("conv_3x3", 3, 2), blocks.Edge("conv_3x3", 2, 3))),))])
def test_a_cycle_is_refused_in_every_spelling(ill):
  assert "lest there be a cycle" in refusal(codec.check, ill)
  assert "lest there be a cycle" in refusal(codec.paired, ill, ill)


def test_numbers_of_nodes_are_plain_ones():
  """Of numpy they go into files, which have no others; bools are none."""
  own = genotype.Genotype(*[records.Cell(
      (records.Edge("conv_3x3", np.int64(0), np.int8(2)),),
      (np.int64(2),))] * 2)
  plain = genotype.Genotype(*[records.Cell(
      (records.Edge("conv_3x3", 0, 2),), (2,))] * 2)
  assert codec.to_json(codec.check(own)) == codec.to_json(plain)
  for edge in (records.Edge("conv_3x3", False, 2),
               records.Edge("conv_3x3", 0.0, 2)):
    with pytest.raises(errors.InputError, match="join nodes by their numbers"):
      codec.check(genotype.Genotype(*[records.Cell((edge,), (2,))] * 2))
  with pytest.raises(errors.InputError, match=r"concat .*True"):
    codec.check(genotype.Genotype(*[records.Cell((
        records.Edge("conv_3x3", 0, 2),), (2, True))] * 2))


def test_what_is_made_of_lists_is_counted():
  cell = records.Cell([records.Edge("conv_3x3", 0, 2)], [2])
  made = genotype.Genotype(cell, cell)
  assert cost.network(made, records.Skeleton()) == cost.network(
      codec.check(made), records.Skeleton())
  network = NETWORK._replace(
      blocks=[blocks.Block([*block.nodes], [*block.edges], [3])
              for block in NETWORK.blocks],
      stem=[*NETWORK.stem], head=[*NETWORK.head])
  assert cost.network(network, records.Frame()) == cost.network(
      NETWORK, records.Frame())


@pytest.mark.parametrize("wrong, place, message", [
    (None, records.Skeleton(), "architecture is of type NoneType"),
    ("darts", records.Skeleton(), "architecture is of type str"),
    (tuple(zoo.get("darts")), records.Skeleton(), "is of type tuple"),
    (zoo.get("darts"), records.Frame(), "place is of type Frame, and cells"
     " stand in a Skeleton"),
    (zoo.get("darts"), None, "place is of type NoneType"),
    (NETWORK, (10, 32), "place is of type tuple, and blocks stand in a Frame")])
def test_costs_of_what_is_none(wrong, place, message):
  with pytest.raises(errors.InputError, match=message):
    cost.network(wrong, place)
