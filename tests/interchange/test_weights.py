"""Other libraries' weights as variables: what they compute, what is refused."""

import pathlib

import jax
import numpy as np
import pytest

from natjax import errors
from natjax.graph import codec, records
from natjax.interchange import files, weights
from natjax.networks import network as network_lib
from tests.interchange import pytorch, small, torch_writer

FRAME = records.Frame(10, 32)


def read(path, network, tensors, frame=FRAME, **options):
  torch_writer.save(path / "m.pth", tensors)
  return weights.read(path / "m.pth", network, frame, **options)


# What PyTorch's networks compute.


def bottlenecks(t, x):
  """torchvision's ResNet of 2 and 1 bottlenecks, 7x7 stem and pooling."""
  x = jax.nn.relu(pytorch.conv_norm(t, x, "conv1", "bn1", 2))
  x = pytorch.max_pool(x, 3, 2, 1)
  for at, stride in (("layer1.0", 1), ("layer1.1", 1), ("layer2.0", 2)):
    y = x
    for n, s in ((1, 1), (2, stride), (3, 1)):
      y = y if n == 1 else jax.nn.relu(y)
      y = pytorch.conv_norm(t, y, f"{at}.conv{n}", f"{at}.bn{n}", s)
    if f"{at}.downsample.0.weight" in t:
      x = pytorch.conv_norm(t, x, f"{at}.downsample.0", f"{at}.downsample.1",
                            stride)
    x = jax.nn.relu(y + x)
  return pytorch.linear(t, x.mean((2, 3)), "fc")


def vgg(t, x):
  """torchvision's VGG16 with BN."""
  number = 0
  for convs in (2, 2, 3, 3, 3):
    for _ in range(convs):
      x = jax.nn.relu(pytorch.conv_norm(
          t, x, f"features.{number}", f"features.{number + 1}"))
      number += 3
    x, number = pytorch.max_pool(x, 2, 2), number + 1
  x = x.reshape(len(x), -1)
  for name in ("classifier.0", "classifier.3"):
    x = jax.nn.relu(pytorch.linear(t, x, name))
  return pytorch.linear(t, x, "classifier.6")


@pytest.mark.parametrize("network, side, there", [
    (small.BOTTLENECKS, 30, bottlenecks), (small.VGG, 64, vgg)])
def test_logits_are_pytorchs(network, side, there, tmp_path):
  frame = records.Frame(10, side)
  tensors = small.tensors(network, frame)
  found = read(tmp_path, network, tensors, frame)
  assert not found.anew
  images = np.random.default_rng(1).normal(size=(2, side, side, 3)).astype("f")
  logits, _ = jax.jit(network_lib.module(network, frame).apply)(
      found.variables, images)
  wanted = jax.jit(lambda x: there(tensors, x))(images.transpose(0, 3, 1, 2))
  np.testing.assert_allclose(logits, wanted, rtol=1e-3,
                             atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("network, side", [
    (small.RESIDUAL, 32), (small.BOTTLENECKS, 32), (small.VGG, 96),
    (small.MOBILE, 32), (codec.pad(small.RESIDUAL), 32)])
def test_a_round_trip_keeps_every_bit(network, side, tmp_path):
  frame = records.Frame(7, side)
  variables = read(tmp_path, network, small.tensors(network, frame), frame
                   ).variables
  weights.write(tmp_path / "m.safetensors", network, variables)
  # Where the network stands is read from the weights, too.
  again = weights.read(tmp_path / "m.safetensors", network, None).variables
  jax.tree.map(np.testing.assert_array_equal, variables, again)
  held = files.read(tmp_path / "m.safetensors")
  assert {name: tensor.shape for name, tensor in held.items()} == {
      name: tensor.shape
      for name, tensor in small.tensors(network, frame).items()}


@pytest.mark.parametrize("network, spelling", [
    (small.RESIDUAL, 1), (small.RESIDUAL, 3), (small.VGG, 1), (small.VGG, 2),
    (small.MOBILE, 1)])
def test_other_spellings_hold_the_same(network, spelling, tmp_path):
  first, other = (small.tensors(network, FRAME, spelling=s)
                  for s in (0, spelling))
  assert first.keys() != other.keys()
  if "pre_logits.fc1.weight" in other:  # timm's linear layers are convolutions.
    for name in ("pre_logits.fc1.weight", "pre_logits.fc2.weight"):
      other[name] = other[name][..., None, None]
  jax.tree.map(np.testing.assert_array_equal, *(
      read(tmp_path, network, tensors).variables for tensors in (first, other)))


@pytest.mark.parametrize("side, odd", [
    (208, 13), (30, 15), (200, 25), (224, 0), (32, 0), (8, 0)])
def test_a_pooling_that_rounds_otherwise_elsewhere_is_refused(side, odd):
  frame = records.Frame(10, side)
  if not odd:
    assert small.spelt(small.VGG, frame)
    return
  with pytest.raises(errors.InputError, match=(
      f"images of {side} pixels a side are {odd} before a pooling, .* other"
      " logits; give an image-size that 32 divides")):
    small.spelt(small.VGG, frame)


def test_vggs_bias_and_flattened_image(tmp_path):
  frame = records.Frame(10, 64)  # 2 by 2 pixels are flattened.
  tensors = small.tensors(small.VGG, frame)
  found = small.flat(read(tmp_path, small.VGG, tensors, frame).variables)
  np.testing.assert_array_equal(
      found["batch_stats/block0/edge0_conv_3x3/norm/bn/mean"],
      tensors["features.1.running_mean"] - tensors["features.0.bias"])
  kernel = np.asarray(found["params/head1/linear/kernel"])
  there = tensors["classifier.0.weight"]
  # Pixel (1, 0) of channel 5 is number 2 of its four there.
  np.testing.assert_array_equal(
      kernel[(1 * 2 + 0) * 8 + 5], there[:, 5 * 4 + 2])
  # And a network of such a library without these biases will do.
  bare = {name: tensor for name, tensor in tensors.items()
          if not (name.startswith("features") and tensor.ndim == 1 and
                  name.removesuffix("bias") + "running_mean" not in tensors and
                  name.endswith(".bias"))}
  assert len(bare) == len(tensors) - 13
  found = small.flat(read(tmp_path, small.VGG, bare, frame).variables)
  np.testing.assert_array_equal(
      found["batch_stats/block0/edge0_conv_3x3/norm/bn/mean"],
      tensors["features.1.running_mean"])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_become_float32(dtype, tmp_path):
  tensors = {name: tensor.astype(dtype) for name, tensor in small.tensors(
      small.RESIDUAL, FRAME).items()}
  files.write(tmp_path / "m.safetensors", tensors)
  found = weights.read(tmp_path / "m.safetensors", small.RESIDUAL, FRAME)
  kernel = found.variables["params"]["stem0"]["conv"]["kernel"]
  assert kernel.dtype == np.float32
  np.testing.assert_array_equal(
      kernel, tensors["conv1.weight"].transpose(2, 3, 1, 0).astype("f"))


# What does not fit.


def changed(**new):
  tensors = small.tensors(small.RESIDUAL, FRAME)
  return {name: tensor for name, tensor in (tensors | {
      name.replace("__", "."): tensor for name, tensor in new.items()}).items()
          if tensor is not None}


@pytest.mark.parametrize("new, words", [
    ({"bn1__weight": None}, r"it lacks bn1\.weight;"),
    ({"conv1__weight": np.ones((4, 3, 5, 5), "f")},
     r"of another shape: conv1\.weight \(\(4, 3, 5, 5\), not \(4, 3, 3, 3\)\)"),
    ({"extra": np.ones(2, "f")}, "it holds besides extra;"),
    ({"two\nlines": np.ones(2, "f")}, r"it holds besides 'two\\nlines';"),
    ({"x" * 999: np.ones(2, "f")}, r"it holds besides 'x{59}\.\.\.;"),
    ({f"layer9__{i}": np.ones(2, "f") for i in range(5)},
     r"besides layer9\.0, layer9\.1, layer9\.2 and 2 more"),
    ({"fc__weight": np.ones((10, 9), "f")},
     r"of another shape: fc\.weight \(\(10, 9\), not \(10, 8\)\)"),
    ({"bn1__bias": np.array([1, 2, np.nan, 4], "f")},
     r"bn1\.bias of .*m\.pth is float32, not all finite"),
    ({"bn1__bias": np.array([1, 2, 3, np.inf], "f")}, "not all finite"),
    ({"bn1__running_var": np.array([1, 0, -1e-9, 1], "f")},
     r"bn1\.running_var of .*m\.pth is a variance, .* below 0"),
    ({"bn1__bias": np.arange(4)}, r"bn1\.bias of .* is int64, not all"),
    # A classifier of which a part fits is not one of other classes, nor none.
    ({"fc__bias": None}, r"it lacks fc\.bias;"),
    ({"fc__bias": np.ones(7, "f")}, r"shape: fc\.bias \(\(7,\), not \(10,\)\)"),
    ({"fc__weight": np.ones((7, 8), "f"), "fc__bias": np.ones(9, "f")},
     r"of another shape: fc\.weight"),
    ({"fc__weight": np.ones((), "f")}, r"of another shape: fc\.weight")])
def test_what_does_not_fit_is_named(new, words, tmp_path):
  with pytest.raises(errors.InputError, match=words) as caught:
    read(tmp_path, small.RESIDUAL, changed(**new))
  assert "\n" not in str(caught.value) and caught.value.field == "weights"


def test_numbers_too_large_for_float32_are_refused_without_a_warning(tmp_path):
  files.write(tmp_path / "m.safetensors", changed(
      bn1__bias=np.array([1, 2, 3, 1e300])))
  with pytest.raises(errors.InputError, match="float64, not all finite"):
    weights.read(tmp_path / "m.safetensors", small.RESIDUAL, FRAME)


@pytest.mark.parametrize("kernel", [
    np.ones(80, "f"), np.ones((), "f"), np.ones((0, 8), "f")])
def test_a_classifier_without_countable_classes_is_not_left_out(
    kernel, tmp_path):
  torch_writer.save(tmp_path / "m.pth", changed(fc__weight=kernel))
  with pytest.raises(errors.InputError, match=r"counted \(fc\.weight"):
    weights.read(tmp_path / "m.pth", small.RESIDUAL, None)


def test_weights_of_another_network_are_refused(tmp_path):
  wrong = small.tensors(small.VGG, FRAME)
  with pytest.raises(errors.InputError, match=(
      r"it lacks conv1.weight, bn1.weight, bn1.bias and \d+ more; it holds"
      r" besides features.0.weight, .* and \d+ more; name weights of")):
    read(tmp_path, small.RESIDUAL, wrong)


@pytest.mark.parametrize("classes, words", [
    (10, ""), (7, "m.pth has a classifier of 10 classes, not 7: it is drawn"),
    (0, "")])
def test_another_number_of_classes(classes, words, tmp_path):
  tensors, frame = changed(), records.Frame(classes, 32)
  found = read(tmp_path, small.RESIDUAL, tensors, frame, seed=3)
  assert found.anew == words
  assert ("head1" in found.variables["params"]) == (classes > 0)
  if words:
    head = found.variables["params"]["head1"]["linear"]
    assert head["kernel"].shape == (8, 7) and not head["bias"].any()
    other = read(tmp_path, small.RESIDUAL, tensors, frame, seed=4).variables
    again = other["params"]["head1"]["linear"]
    assert (again["kernel"] != head["kernel"]).any()
    np.testing.assert_array_equal(
        other["params"]["stem0"]["conv"]["kernel"],
        found.variables["params"]["stem0"]["conv"]["kernel"])


def test_a_backbone_without_classifier(tmp_path):
  found = read(tmp_path, small.RESIDUAL, changed(
      fc__weight=None, fc__bias=None))
  assert found.anew == "m.pth has no classifier: it is drawn"
  assert found.variables["params"]["head1"]["linear"]["bias"].shape == (10,)


def test_networks_and_cells_without_names_are_refused(tmp_path):
  other = small.RESIDUAL._replace(norm_epsilon=1e-3)
  with pytest.raises(errors.InputError, match="no other library is known"):
    read(tmp_path, other, changed())
  with pytest.raises(errors.InputError, match="no other library is known"):
    weights.write(tmp_path / "m.safetensors", other, {})
  variables = read(tmp_path, small.RESIDUAL, changed()).variables
  with pytest.raises(errors.InputError, match="lack params/stem0/conv/kernel"):
    weights.write(tmp_path / "m.safetensors", small.BOTTLENECKS, variables)
  assert not pathlib.Path(tmp_path / "m.safetensors").exists()
