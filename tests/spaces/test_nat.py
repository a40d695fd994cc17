"""Tests of `natjax.spaces.nat`."""

import pytest

from natjax import errors, operations, spaces, zoo
from natjax.graph import arrays as arrays_lib
from natjax.graph import blocks, codec, records
from natjax.graph import genotype as architecture
from natjax.zoo import handcrafted
from tests import architectures


def test_candidates_of_the_released_code():
  """The authors' lists; indices matter, since policies are tied to them."""
  assert spaces.SPACES["nat"].candidates == (
      "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
      "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "conv_3x3", "null")
  assert spaces.SPACES["nat_loose_end"].candidates == (
      "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
      "sep_conv_5x5", "conv_1x1", "conv_3x3", "conv_5x5", "null")
  assert not spaces.SPACES["nat"].loose_end
  assert spaces.SPACES["nat_loose_end"].loose_end


@pytest.mark.parametrize("genotype, name, num_nodes", [
    ("darts", "nat", 4), ("r3", "nat", 4), ("pc_darts_image", "nat", 4),
    ("enas", "nat_loose_end", 5), ("naonet", "nat_loose_end", 5),
    ("vgg-cell", "nat_loose_end", 4), ("resblock-cell", "nat_loose_end", 4),
    ("mobilenetv2-cell", "nat_loose_end", 4),
])
def test_space_of_published_genotypes(genotype, name, num_nodes):
  space = spaces.space_for(zoo.get(genotype))
  assert (space.name, space.num_nodes) == (name, num_nodes)
  assert space.loose_end == (name == "nat_loose_end")


def test_listed_operations_add_no_candidates():
  assert spaces.space_for(zoo.get("darts")) == spaces.SPACES["nat"]
  assert spaces.space_for(zoo.get("nat_resblock")) == (
      spaces.SPACES["nat_loose_end"])


def test_other_operations_join_before_null():
  space = spaces.space_for(zoo.get("naonet"))
  listed = spaces.SPACES["nat_loose_end"].candidates[:-1]
  assert space.candidates == (
      *listed, "avg_pool_5x5", "conv_1x3_3x1", "avg_pool_2x2", "max_pool_2x2",
      "conv_1x7_7x1", "null")
  # The module's constants stay as they are.
  assert spaces.SPACES["nat_loose_end"].candidates[:-1] == listed


@pytest.mark.parametrize("genotype", zoo.genotype_names())
def test_every_published_genotype_can_be_encoded(genotype):
  genotype = zoo.get(genotype)
  space = spaces.space_for(genotype)
  assert space.candidates[-1] == operations.NULL
  assert len(set(space.candidates)) == len(space.candidates)
  for cell in genotype:
    space.check(cell)
  arrays = arrays_lib.encode(genotype, space.candidates)
  assert arrays.source.shape == (2, space.num_nodes, 2)


def test_space_by_name():
  space = spaces.space_for(zoo.get("darts"), name="nat_loose_end")
  assert space.loose_end
  assert space.candidates[-2:] == ("dil_conv_3x3", "null")
  with pytest.raises(errors.InputError, match="'wide'") as e:
    spaces.space_for(zoo.get("darts"), name="wide")
  assert "choose one of nat, nat_loose_end" in str(e.value)
  assert "\n" not in str(e.value)


def test_unequal_cells_get_a_space_of_the_larger_with_inputs_for_all():
  space = spaces.space_for(architectures.UNEQUAL)
  assert space.name == "nat_loose_end"  # The normal cell leaves a node out.
  assert (space.num_nodes, space.inputs, space.several) == (3, 3, True)
  for cell in architectures.UNEQUAL:
    space.check(cell)
  # Nodes of one input do not make it narrower.
  one = architectures.cell(("conv_3x3", 0, 2), concat=(2,))
  assert spaces.space_for(architecture.Genotype(one, one)).inputs == 2


def test_a_genotypes_cells_are_shared():
  with pytest.raises(errors.InputError, match=r"by genotype\.unshared") as e:
    spaces.space_for(zoo.get("darts"), share="full")
  assert e.value.field == "share" and "\n" not in str(e.value)


# Networks of blocks.


def decisions(space):
  return codec.decide(space.graph, blocks.Frame(), space.share)


def test_groups_of_resnet20():
  space = spaces.space_for(handcrafted.build("resnet20"))
  assert [d.members for d in decisions(space)] == [
      (0, 1, 2, 4, 5, 7, 8), (3, 6)]
  space = spaces.space_for(handcrafted.build("resnet20"), share="full")
  assert [d.members for d in decisions(space)] == [(i,) for i in range(9)]
  with pytest.raises(errors.InputError, match="cell, full"):
    spaces.space_for(handcrafted.build("resnet20"), share="half")


def test_the_space_of_a_network_is_its_own_padded_graph():
  network = handcrafted.build("resnet20")
  space = spaces.space_for(network, method="natpp")
  assert space.graph == blocks.pad(network)
  assert (space.name, space.inputs, space.scheme) == (
      "resnet20", None, "natpp")
  assert space.candidates == spaces.SPACES["natpp"].candidates
  with pytest.raises(errors.InputError, match="is its own space") as e:
    spaces.space_for(network, name="natpp")
  assert e.value.field == "space" and "\n" not in str(e.value)


def test_operations_of_a_network_join_before_null():
  space = spaces.space_for(handcrafted.build("mobilenetv2"))
  assert space.candidates[8:] == ("depthwise_conv_3x3", "conv_1x1", "null")
  assert space.candidates[:8] == spaces.SPACES["nat"].candidates[:-1]


def test_cells_that_are_not_shared_have_a_space_too():
  """Also ImageNet's, with a stem that branches off early."""
  for kind in ("cifar", "imagenet"):
    network = architecture.unshared(
        architectures.UNEQUAL, records.Skeleton(kind, 4, 5, 10, 64))
    space = spaces.space_for(network, share="full")
    assert len(decisions(space)) == 5
    # Networks with a node of three inputs are left as they are.
    assert space.graph == network
    assert all(d.fixed[:2] == (True, True) for d in decisions(space))


def test_a_space_of_ones_own():
  """What stands there, skip and null."""
  space = spaces.own(architectures.UNEQUAL)
  assert space.graph == architectures.UNEQUAL and space.inputs is None
  assert space.candidates == (
      "skip_connect", "conv_3x3", "sep_conv_3x3", "max_pool_3x3", "conv_1x1",
      "avg_pool_3x3", "null")
  space = spaces.own(handcrafted.build("resnet20"), "full")
  assert space.candidates == ("skip_connect", "conv_3x3", "null")
  assert space.graph == blocks.pad(handcrafted.build("resnet20"))
  assert space.share == "full"
