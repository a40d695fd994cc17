"""What `natjax.backbone` takes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import natjax
from natjax import blocks, data, errors, zoo
from natjax.data import dataset
from natjax.networks import network as network_lib
from natjax.pipeline import networks, results
from natjax.training import fit


@pytest.fixture(scope="module")
def trained():
  """A narrow ResNet20, as `load` gives it."""
  architecture = blocks.scale(zoo.get("resnet20"), 0.25)
  module = network_lib.module(architecture, blocks.Frame(3, 8))
  return networks.TrainedNetwork(
      architecture, module, network_lib.init(module, jax.random.key(0)),
      fit.Preparation((0.5,) * 3, (0.2,) * 3, dataset.NO_AUGMENTATION),
      ("a", "b", "c"), 1.0)


def test_a_trained_network_keeps_its_weights(trained):
  found = natjax.backbone(trained, output_stride=2)
  assert found.width == 16 and found.preparation is trained.preparation
  assert set(found.variables["params"]) == {
      name for name in trained.variables["params"] if "head" not in name}
  x = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("f")
  features = found.module.apply(found.variables, x)[:, ::2, ::2]
  linear = trained.variables["params"]["head1"]["linear"]
  np.testing.assert_allclose(
      jnp.mean(features, (1, 2)) @ linear["kernel"] + linear["bias"],
      trained.module.apply(trained.variables, x)[0], atol=1e-5)


def test_networks_are_shown_in_a_line(trained):
  assert repr(trained) == (
      "<TrainedNetwork: resnet20, 3 classes, 8 pixels, accuracy 1.0000>")
  assert repr(trained._replace(variables=None)) == repr(trained)
  found = natjax.backbone(trained, 4)
  assert repr(found) == "<Backbone: resnet20, 16 channels, weights>"
  assert repr(found._replace(variables=None)).endswith(", no weights>")
  assert repr(data.load("digits", image_size=8)) == (
      "<Dataset: digits, 1438 training and 359 test images of 10 classes,"
      " 8 pixels>")


def test_images_that_are_masked_are_refused(trained):
  images = np.ma.masked_array(np.zeros((2, 8, 8, 3), np.uint8))
  np.testing.assert_array_equal(
      trained.logits(images), trained.logits(images.data))
  images[0, 0, 0] = np.ma.masked
  for give in (trained.logits, trained.predict, trained.class_activation):
    with pytest.raises(errors.InputError, match="masked in part"):
      give(images)


def test_a_result_and_a_module_are_taken_too(trained):
  result = results.Result({}, 1)
  result.__dict__["network"] = trained
  assert natjax.backbone(result, 4).variables is not None
  found = natjax.backbone(trained.module, 1)
  assert found.variables is None and found.module.output_stride == 1


def test_what_is_none_is_refused(trained, tmp_path):
  with pytest.raises(errors.InputError, match="makes images 4 times smaller"):
    natjax.backbone(trained)
  with pytest.raises(errors.InputError, match="is of type int"):
    natjax.backbone(3)
  with pytest.raises(errors.InputError, match="holds no trained network"):
    natjax.backbone(tmp_path)
