"""Names of other libraries, against lists written by hand."""

import functools

import flax
import jax
import numpy as np
import pytest

from natjax import errors, zoo
from natjax.graph import blocks, codec, records
from natjax.interchange import names
from natjax.networks import network as network_lib

IMAGENET = records.Frame(1000, 224)
# Tensors in torchvision's state_dict of each, and in timm's where those differ.
COUNTS = {"resnet18": 122, "resnet34": 218, "resnet50": 320, "resnet101": 626,
          "vgg16": 32, "vgg16-bn": 97, "mobilenetv2": 314}
# Some of them: name, shape, and what has it here.
SOME = {
    "resnet18": [
        ("conv1.weight", (64, 3, 7, 7), "params/stem0/conv/kernel"),
        ("bn1.running_var", (64,), "batch_stats/stem0/norm/bn/var"),
        ("layer1.1.bn2.weight", (64,),
         "params/block1/edge1_conv_3x3/norm/bn/scale"),
        ("layer2.0.downsample.0.weight", (128, 64, 1, 1),
         "params/block2/edge2_skip_connect/conv/kernel"),
        ("layer4.0.downsample.1.running_mean", (512,),
         "batch_stats/block6/edge2_skip_connect/norm/bn/mean"),
        ("layer4.1.conv2.weight", (512, 512, 3, 3),
         "params/block7/edge1_conv_3x3/conv/kernel"),
        ("fc.weight", (1000, 512), "params/head1/linear/kernel")],
    "resnet50": [
        ("layer1.0.downsample.0.weight", (256, 64, 1, 1),
         "params/block0/edge3_skip_connect/conv/kernel"),
        ("layer3.5.conv2.weight", (256, 256, 3, 3),
         "params/block12/edge1_conv_3x3/conv/kernel"),
        ("layer4.2.bn3.bias", (2048,),
         "params/block15/edge2_conv_1x1/norm/bn/bias")],
    "vgg16": [
        ("features.0.bias", (64,), "params/block0/edge0_conv_3x3/norm/bias"),
        ("features.28.weight", (512, 512, 3, 3),
         "params/block4/edge2_conv_3x3/conv/kernel"),
        ("classifier.0.weight", (4096, 25088), "params/head1/linear/kernel"),
        ("classifier.6.bias", (1000,), "params/head5/linear/bias")],
    "vgg16-bn": [
        ("features.0.bias", (64,),
         "batch_stats/block0/edge0_conv_3x3/norm/bn/mean"),
        ("features.40.weight", (512, 512, 3, 3),
         "params/block4/edge2_conv_3x3/conv/kernel"),
        ("features.41.running_mean", (512,),
         "batch_stats/block4/edge2_conv_3x3/norm/bn/mean")],
    "mobilenetv2": [
        ("features.0.0.weight", (32, 3, 3, 3), "params/stem0/conv/kernel"),
        ("features.1.conv.0.0.weight", (32, 1, 3, 3),
         "params/block0/edge0_depthwise_conv_3x3/depthwise/kernel"),
        ("features.1.conv.2.bias", (16,),
         "params/block0/edge1_conv_1x1/norm/bn/bias"),
        ("features.17.conv.1.1.running_var", (960,),
         "batch_stats/block16/edge1_depthwise_conv_3x3/norm/bn/var"),
        ("features.18.1.weight", (1280,), "params/head0/norm/bn/scale"),
        ("classifier.1.weight", (1000, 1280), "params/head3/linear/kernel")],
}
TIMMS = {
    "mobilenetv2": [
        ("conv_stem.weight", (32, 3, 3, 3), "params/stem0/conv/kernel"),
        ("blocks.0.0.conv_pw.weight", (16, 32, 1, 1),
         "params/block0/edge1_conv_1x1/conv/kernel"),
        ("blocks.6.0.conv_pwl.weight", (320, 960, 1, 1),
         "params/block16/edge2_conv_1x1/conv/kernel"),
        ("bn2.bias", (1280,), "params/head0/norm/bn/bias"),
        ("classifier.bias", (1000,), "params/head3/linear/bias")],
    "vgg16": [
        ("pre_logits.fc1.weight", (4096, 25088), "params/head1/linear/kernel"),
        ("head.fc.weight", (1000, 4096), "params/head5/linear/kernel")],
}
CIFARS = {
    "resnet20": [
        ("layer2.0.shortcut.1.weight", (32,),
         "params/block3/edge2_skip_connect/norm/bn/scale"),
        ("layer3.2.bn2.running_mean", (64,),
         "batch_stats/block8/edge1_conv_3x3/norm/bn/mean"),
        ("linear.bias", (10,), "params/head1/linear/bias")],
    "vgg16-bn": [
        ("classifier.1.weight", (512, 512), "params/head1/linear/kernel"),
        ("classifier.6.weight", (10, 512), "params/head5/linear/kernel")],
}


@pytest.mark.long
@pytest.mark.parametrize("name", COUNTS)
def test_every_tensor_has_a_name(name):
  network = blocks.scale(zoo.get(name, "imagenet"), 1 / 16)
  frame = records.Frame(1000, 64)
  here = flax.traverse_util.flatten_dict(jax.eval_shape(functools.partial(
      network_lib.init, network_lib.module(network, frame)), jax.random.key(0)))
  found = names.spellings(network, frame)
  counters = sum(name.endswith("running_var") for name in found[0])
  assert len(found[0]) + counters == COUNTS[name]
  for spelt in found:
    assert {leaf.path for leaf in spelt.values()} == {*here}
    for leaf in spelt.values():
      there = np.zeros(leaf.shape, np.float32)
      assert leaf.read(there).shape == here[leaf.path].shape
      assert leaf.write(leaf.read(there)).shape == leaf.shape


@pytest.mark.parametrize("table, skeleton, frame", [
    (SOME, "imagenet", IMAGENET), (TIMMS, "imagenet", IMAGENET),
    (CIFARS, "cifar", records.Frame(10, 32))])
def test_names_are_those_of_the_libraries(table, skeleton, frame):
  for name, wanted in table.items():
    spelt = names.closest(names.spellings(zoo.get(name, skeleton), frame),
                          dict.fromkeys(there for there, *_ in wanted))
    for there, shape, path in wanted:
      assert spelt[there].shape == shape
      assert "/".join(spelt[there].path) == path


def test_null_edges_and_widths_do_not_matter():
  network = blocks.scale(zoo.get("resnet20"), 0.5)
  plain, padded = (names.spellings(n, records.Frame())[0]
                   for n in (network, codec.pad(network)))
  assert plain.keys() == padded.keys()
  assert plain["layer1.0.conv2.weight"].shape == (8, 8, 3, 3)
  assert "edge2_conv_3x3" in padded["layer1.0.conv2.weight"].path


def changed(name, **fields):
  return zoo.get(name)._replace(**fields)


@pytest.mark.parametrize("network", [
    zoo.get("shufflenet"), zoo.get("proxyless-gpu"), zoo.get("mobilefacenet"),
    zoo.get("mobilenetv2"),  # Of CIFAR, with shortcuts of its own.
    changed("resnet20", norm_epsilon=1e-3),
    changed("resnet20", head=zoo.get("mobilenetv2").head),
    changed("vgg16", head=records.CLASSIFIER),
    codec.respell(zoo.get("resnet20"), (records.Decision(
        "", (0,), zoo.get("resnet20").blocks[0].cell, ()),), (
            records.Cell((records.Edge("sep_conv_3x3", 1, 2),
                          records.Edge("conv_3x3", 2, 3)), (3,)),))],
    ids=lambda network: network.name)
def test_other_networks_have_none(network):
  assert names.spellings(network, records.Frame()) == []


def test_bottlenecks_that_stride_early_are_refused():
  with pytest.raises(errors.InputError, match="stride in their first") as found:
    names.spellings(zoo.get("resnet50", "cifar"), records.Frame())
  assert found.value.field == "weights"
