"""Tests of `natjax.zoo`."""

import json
import pathlib

import numpy as np
import pytest

from natjax import errors, zoo
from natjax.graph import genotype as architecture

SPEC = (pathlib.Path(__file__).resolve().parents[3]
        / "shared" / "spec" / "genotypes.json")


def test_genotypes_equal_the_gathered_ones():
  """Against the file in which the published genotypes were gathered."""
  if not SPEC.exists():
    pytest.skip(f"{SPEC} is not there; it travels apart from the repository")
  gathered = json.loads(SPEC.read_text("utf-8"))
  names = {name.lower(): name for name in gathered}
  for cell in ("resblock", "vgg", "mobilenetv2"):
    names[f"{cell}-cell"] = names.pop(cell)
  assert sorted(zoo.genotype_names()) == sorted(names)
  for name, gathered_name in names.items():
    assert architecture.to_dict(zoo.get(name)) == gathered[gathered_name], name


def test_darts_literal():
  """DARTS_V2 of Liu et al., 2019, written down by hand."""
  normal, reduce = zoo.get("darts")
  assert normal.edges == (
      ("sep_conv_3x3", 0, 2), ("sep_conv_3x3", 1, 2), ("sep_conv_3x3", 0, 3),
      ("sep_conv_3x3", 1, 3), ("sep_conv_3x3", 1, 4), ("skip_connect", 0, 4),
      ("skip_connect", 0, 5), ("dil_conv_3x3", 2, 5),
  )
  assert reduce.edges == (
      ("max_pool_3x3", 0, 2), ("max_pool_3x3", 1, 2), ("skip_connect", 2, 3),
      ("max_pool_3x3", 1, 3), ("max_pool_3x3", 0, 4), ("skip_connect", 2, 4),
      ("skip_connect", 2, 5), ("max_pool_3x3", 1, 5),
  )
  assert normal.concat == reduce.concat == (2, 3, 4, 5)


def test_names():
  assert len(zoo.genotype_names()) == 36
  assert set(zoo.names()) == {*zoo.genotype_names(), *zoo.handcrafted.BUILDERS}
  assert len(zoo.names()) == len(set(zoo.names()))
  assert {"darts", "nat_darts", "natv2_darts", "enas", "naonet",
          "resblock-cell", "vgg-cell", "mobilenetv2-cell", "nasnet",
          "pc_darts_cifar", "amoebanet"} <= set(zoo.genotype_names())
  assert all(zoo.get(name).num_nodes in (4, 5) for name in zoo.genotype_names())


@pytest.mark.parametrize("given, name", [
    ("DARTS", "darts"), ("NAT-DARTS", "nat_darts"),
    ("Pc_Darts-CIFAR", "pc_darts_cifar"), ("RESBLOCK_CELL", "resblock-cell"),
    ("ResBlock", "resblock-cell"), ("VGG", "vgg-cell"),
    ("NATv2_MobileNetV2", "natv2_mobilenetv2"),
])
def test_letter_case_and_dashes_do_not_matter(given, name):
  assert name in zoo.genotype_names()
  assert zoo.get(given) is zoo.get(name)


@pytest.mark.parametrize("given, name", [
    ("Proxyless_CPU", "proxyless-cpu"), ("PROXYLESS-cpu", "proxyless-cpu"),
    ("ResNet-18", "resnet18"), ("resnet_20", "resnet20"),
    ("MobileNet V2", "mobilenetv2"), ("mobilenet_v2", "mobilenetv2"),
    ("VGG-16", "vgg16"), ("DARTS_V2", "darts")])
def test_networks_of_blocks_too(given, name):
  assert zoo.get(given) == zoo.get(name)


def test_no_two_names_differ_by_how_they_are_written_alone():
  assert len({*map(zoo._plain, zoo.names())}) == len(zoo.names())
  assert not zoo.known("wrn-281-0")  # WRN-28-10 has its numbers elsewhere.


@pytest.mark.parametrize("given", [
    "wrn-28-10", "WRN-28-10", "wrn_28_10", "WRN28-10", "wideresnet28_10",
    "WideResNet-28-10", "wide_resnet28_10", "Wide-ResNet-28-10"])
def test_a_wide_resnet_by_any_of_its_names(given):
  assert zoo.known(given) and zoo.get(given).name == "wrn-28-10"
  assert zoo.source("wrn-28-10").startswith("WideResNet (Zagoruyko")


def test_a_wide_resnet_that_is_not_there_is_refused_by_its_near_names():
  assert not zoo.known("wrn-28-11")
  with pytest.raises(errors.InputError, match=r"did you mean.* wrn-28-10"):
    zoo.get("wrn-28-11")


@pytest.mark.parametrize("given, near", [
    ("dart", "darts"), ("natv2_dartz", "natv2_darts"), ("amebanet", "amoebanet")
])
def test_near_miss_is_named(given, near):
  with pytest.raises(errors.InputError, match=f"did you mean.* {near}") as e:
    zoo.get(given)
  assert f"'{given}'" in str(e.value) and "\n" not in str(e.value)


def test_far_miss_guesses_nothing():
  with pytest.raises(errors.InputError, match="'qqqq'") as e:
    zoo.get("qqqq")
  assert "did you mean" not in str(e.value)
  assert "natjax list" in str(e.value)


def test_every_architecture_says_who_published_it():
  assert [name for name in zoo.names() if not zoo.source(name)] == []
  assert zoo.source("natv2_r3") == "what NAT++ made of r3 (Guo et al., 2021)"
  assert zoo.source("mobilenetv2-cell") != zoo.source("mobilenetv2")
  assert zoo.source("mine") == ""


def test_a_chain_of_nas_bench_macro_is_none_with_other_operations():
  found = zoo.nasbench_macro.network(np.zeros(8, int))
  np.testing.assert_array_equal(
      zoo.nasbench_macro.layers_of(found), np.zeros(8))
  # A convolution where nothing stands.
  other = found._replace(blocks=tuple(
      block._replace(edges=(block.edges[0]._replace(operation="conv_1x1"),))
      for block in found.blocks))
  with pytest.raises(errors.InputError, match="none of NAS-Bench-Macro"):
    zoo.nasbench_macro.layers_of(other)
  with pytest.raises(errors.InputError, match="a pair of cells is none of NAS"):
    zoo.nasbench_macro.layers_of(zoo.get("darts"))
