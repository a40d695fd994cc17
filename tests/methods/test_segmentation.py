"""Training of segmentation by `fit`, and its judgement."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from natjax import errors
from natjax.data import voc
from natjax.graph import blocks
from natjax.methods import segmentation, supervised
from natjax.networks import backbone
from natjax.networks import network as network_lib
from natjax.objectives import segmentation as objectives
from natjax.training import devices, fit

CONFIG = segmentation.SegmentationConfig(
    epochs=6, batch_size=4, learning_rate=0.1, crop=12, least_scale=0.9,
    greatest_scale=1.1, width=4, dropout=0.0)
BLOCKS = [blocks.Block((blocks.Node(6, s, "relu"),),
                       (blocks.Edge("conv_3x3", 1, 2),)) for s in (2, 2)]


@functools.cache
def network():
  return network_lib.module(
      blocks.BlockNetwork("tiny", (), tuple(BLOCKS)), blocks.Frame(3, 16))


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
  folder = voc.make(tmp_path_factory.mktemp("voc"), {
      "train": [(12, 12), (14, 12)] * 4})
  return voc.load(folder, num_classes=3)


def make(pictures, **settings):
  config = dataclasses.replace(CONFIG, **settings.pop("config", {}))
  mean, std = voc.moments(pictures)
  return segmentation.Segmentation(
      config, backbone.module(network(), 2), num_classes=3, mean=mean, std=std,
      steps_per_epoch=2, **settings)


def run(segment, pictures, **options):
  return fit.fit(
      segment.method(), {"train": segment.split(pictures)},
      batch_size=4, preparation=segmentation.as_they_are,
      options=fit.Options(**{"devices": devices.choose(1), **options}))


@pytest.fixture(scope="module")
def trained(pictures):
  return run(make(pictures), pictures)


@pytest.mark.long
def test_stripes_are_learnt(pictures, trained):
  segment = make(pictures)
  before = segment.evaluate(
      supervised.variables(segment.init(jax.random.key(0))), pictures, 16)
  after = segment.evaluate(supervised.variables(trained), pictures, 16)
  assert after.miou > max(before.miou, 0.5)
  # The row of void is left out.
  assert after.pixels == 4 * 11 * 12 + 4 * 13 * 12


@pytest.mark.long
def test_a_run_that_was_stopped_goes_on_to_the_same_bits(
    pictures, trained, tmp_path):
  asked = []

  def stop():
    asked.append(1)
    return len(asked) == 3

  options = {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0.0}
  with pytest.raises(errors.Interrupted):
    run(make(pictures), pictures, should_stop=stop, **options)
  # And reads pictures chunk by chunk.
  found = run(make(pictures), pictures, resident_bytes=1, **options)
  for a, b in zip(jax.tree.leaves(supervised.variables(found)),
                  jax.tree.leaves(supervised.variables(trained)), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.long
def test_two_devices_are_one(pictures):
  """Where nothing is drawn, whichever has the more of pixels that count."""
  still = {"epochs": 1, "crop": 14, "least_scale": 1.0, "greatest_scale": 1.0,
           "flip": False, "sync_bn": True}
  one, two = (run(make(pictures, config=still), pictures,
                  devices=devices.choose(n)) for n in (1, 2))
  for a, b in zip(*(jax.tree.leaves(supervised.variables(state))
                    for state in (one, two)), strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("norm, dtype", [("batch", "bfloat16"),
                                         ("bias", "float32")])
def test_a_step_keeps_what_a_state_is_made_of(pictures, norm, dtype):
  net = network()
  bare = backbone.module(net.clone(graph=net.graph._replace(norm=norm)), 2)
  segment = segmentation.Segmentation(
      dataclasses.replace(CONFIG, dtype=dtype), bare, num_classes=3,
      mean=(0.5,) * 3, std=(0.2,) * 3)
  state = segment.init(jax.random.key(0))
  step = jax.vmap(segment.update, in_axes=(None, 0), axis_name="devices")
  found, metrics = jax.eval_shape(
      step, state, {"image": pictures[:4][None], "label": pictures.sizes[:4][
          None]})
  assert jax.tree.map(lambda x: (x.shape, x.dtype), state) == jax.tree.map(
      lambda x: (x.shape[1:], x.dtype), found)
  assert set(metrics) == {"loss", "accuracy"}


@pytest.mark.long
def test_it_begins_with_the_given_weights(pictures):
  weights = network_lib.init(network(), jax.random.key(5))  # With a head.
  state = make(pictures, weights=weights).init(jax.random.key(0))
  given = weights["params"]["block1"]
  for a, b in zip(*map(jax.tree.leaves, (
      state.params["backbone"]["block1"], given)), strict=True):
    np.testing.assert_array_equal(a, b)
  with pytest.raises(errors.InputError, match="not of this backbone"):
    make(pictures, weights={"params": {}})


@pytest.mark.long
def test_judgement_at_full_size_is_that_of_every_picture(pictures, trained):
  segment, variables = make(pictures), supervised.variables(trained)
  found = segment.evaluate(variables, pictures, None, batch_size=3)
  total, apply = 0, jax.jit(segment.module.apply)
  for i, (height, width) in enumerate(pictures.sizes):
    picture = pictures[i][None, :height, :width]
    images = voc.normalize(picture[..., :3], True, segment.mean, segment.std)
    logits = apply(variables, images)
    total += np.asarray(objectives.confusion(
        logits.argmax(-1), picture[..., 3].astype("i"), 3), np.int64)
  assert found == objectives.scores(total)


@pytest.mark.long
def test_larger_pictures_than_the_square_are_refused(pictures, trained):
  with pytest.raises(errors.InputError, match="has 12x14 pixels, more than"):
    make(pictures).evaluate(supervised.variables(trained), pictures, 13)


@pytest.mark.parametrize("field, value", [
    ("epochs", 0), ("crop", 0), ("dropout", 1.0), ("power", 0.0),
    ("greatest_scale", 0.1), ("dtype", "int8"), ("learning_rate", -1.0)])
def test_settings_out_of_range_are_refused(field, value):
  with pytest.raises(errors.InputError) as error:
    segmentation.check(dataclasses.replace(CONFIG, **{field: value}))
  assert error.value.field == field


@pytest.mark.long
def test_pictures_of_more_classes_than_the_network_has_are_refused(pictures):
  """Their pixels would be left out of the matrix of counts."""
  segment = segmentation.Segmentation(
      CONFIG, backbone.module(network(), 2), num_classes=2, mean=(0.5,) * 3,
      std=(0.5,) * 3)
  variables = supervised.variables(segment.init(jax.random.key(0)))
  for act in (segment.split,
              lambda found: segment.evaluate(variables, found, 16)):
    with pytest.raises(errors.InputError, match="of 3 classes and the network"):
      act(pictures)


@pytest.mark.parametrize(("given", "message"), [
    ({"num_classes": 1}, "num_classes is 1"),
    ({"mean": (0.5, 0.5)}, "mean"), ({"std": (0, 0, 0)}, "std")])
def test_settings_of_images_are_checked(given, message):
  usual = {"num_classes": 3, "mean": (0.5,) * 3, "std": (0.5,) * 3}
  with pytest.raises(errors.InputError, match=message):
    segmentation.Segmentation(
        CONFIG, backbone.module(network(), 2), **{**usual, **given})
