"""Tests of `natjax.spaces.nat`."""

import pytest

from natjax import errors
from natjax import operations
from natjax import spaces
from natjax import zoo
from natjax.graph import genotype as architecture


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
  arrays = architecture.genotype_arrays(genotype, space.candidates)
  assert arrays.source.shape == (2, space.num_nodes, 2)


def test_space_by_name():
  space = spaces.space_for(zoo.get("darts"), name="nat_loose_end")
  assert space.loose_end
  assert space.candidates[-2:] == ("dil_conv_3x3", "null")
  with pytest.raises(errors.InputError, match="'wide'") as e:
    spaces.space_for(zoo.get("darts"), name="wide")
  assert "choose one of nat, nat_loose_end" in str(e.value)
  assert "\n" not in str(e.value)
