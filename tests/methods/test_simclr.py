"""SimCLR: the loss over devices, its parts, sizes, refusals."""

import dataclasses
import doctest
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from natjax import blocks
from natjax import cost
from natjax import data
from natjax import errors
from natjax import skeleton
from natjax import zoo
from natjax.data import views as views_lib
from natjax.methods import base
from natjax.methods import simclr
from natjax.networks import build
from natjax.training import contrastive
from natjax.training import devices
from natjax.training import fit
from natjax.training import representation
from tests import tiny

CONFIG = simclr.SimCLRConfig(hidden=6, projection=4, neighbours=10)
# One residual block, which compiles quickly.
SMALL = zoo.get("resnet20")._replace(blocks=zoo.get("resnet20").blocks[:1])
PLACE = blocks.Frame(10, tiny.IMAGE_SIZE)


def make(axis_name=None, config=CONFIG, architecture=SMALL, place=PLACE):
  return simclr.SimCLR.of(config, architecture, place, axis_name=axis_name)


@functools.cache
def drawn():
  return make().init(jax.random.key(0))


def draw_views(images=8, seed=0):
  """f32[2B, H, W, 3]; second views resemble first views."""
  first = tiny.batch(images, seed=seed)["image"]
  second = first + 0.3 * tiny.batch(images, seed=seed + 1)["image"]
  return np.concatenate([first, second])


def shard(images, num_devices):
  images = images.reshape(2, num_devices, -1, *images.shape[1:])
  return np.swapaxes(images, 0, 1).reshape(
      num_devices, -1, *images.shape[3:])


def step(objective, variables, images, num_devices=1, **mix):
  """Mean over devices of loss, metrics, statistics and gradients."""

  def run(params, stats, images):
    (loss, (stats, metrics)), grads = jax.value_and_grad(
        objective.loss, has_aux=True)(
            params, stats, {"image": images}, drop_path=0.0,
            rng=jax.random.key(0), **mix)
    return base.mean_over_devices((loss, metrics, stats, grads))

  return devices.spread(
      run, devices.choose(num_devices), sharded=(False, False, True))(
          variables["params"], variables["batch_stats"],
          shard(images, num_devices))


def assert_close(ours, theirs, rtol=2e-3, atol=2e-4):
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=rtol, atol=atol), ours, theirs)


@functools.cache
def one_device():
  return step(make(), drawn(), draw_views())


# The loss.


def test_the_loss_is_that_of_the_projected_features():
  """Of network and head by themselves, in training."""
  variables, images = drawn(), draw_views()
  loss, metrics, stats, _ = one_device()
  net = build.module(SMALL, PLACE._replace(num_classes=0))
  objective = make()

  @jax.jit
  def plain(images):
    part = lambda name: {k: variables[k][name] for k in variables}
    (features, _), network = net.apply(
        part("network"), images, train=True, mutable=["batch_stats"],
        rngs={"drop_path": jax.random.key(0)})
    z, head = objective.head.apply(part("projection"), features, train=True,
                                   mutable=["batch_stats"])
    return (contrastive.nt_xent(z), contrastive.accuracy(z),
            network["batch_stats"], head["batch_stats"])

  expected, accuracy, network, head = plain(images)
  np.testing.assert_allclose(loss, expected, rtol=1e-4)
  np.testing.assert_allclose(metrics["contrast_accuracy"], accuracy, atol=1e-6)
  assert_close(stats, {"network": network, "projection": head})
  assert set(metrics) == set(objective.metrics)
  assert metrics["loss"] == loss


def test_four_devices_equal_the_joined_batch():
  """Loss, statistics and gradients, where BN joins the devices too."""
  four = step(make(base.AXIS), drawn(), draw_views(), 4)
  assert_close(four, one_device())
  grads = jax.tree.leaves(four[3])
  assert all(np.any(np.abs(g) > 0) for g in grads[-4:])


def test_without_joined_bn_negatives_come_from_all_devices_all_the_same():
  """Chance is log(15) with the 15 other views of all devices, not log(3)."""
  variables = drawn()
  params = jax.tree.map(lambda x: x, variables["params"])
  last = params["projection"]["linear1"]
  params = {**params, "projection": {
      **params["projection"],
      "linear1": {"kernel": 0 * last["kernel"], "bias": last["bias"] + 1}}}
  loss, metrics, _, _ = step(
      make(), {**variables, "params": params}, draw_views(), 4)
  np.testing.assert_allclose(loss, np.log(15), rtol=1e-5)
  assert metrics["contrast_accuracy"] < 0.3


@pytest.mark.parametrize("architecture, place", [
    (SMALL, PLACE),
    (tiny.GENOTYPE, skeleton.Skeleton("cifar", 2, 3, 10, tiny.IMAGE_SIZE))],
    ids=["blocks", "cells"])
def test_variables_and_features(architecture, place):
  objective = make(architecture=architecture, place=place)
  variables = objective.init(jax.random.key(0))
  assert set(variables) == {"params", "batch_stats"}
  for tree in variables.values():
    assert set(tree) == {"network", "projection"}
  count = sum(x.size for x in jax.tree.leaves(variables["params"]))
  assert count == simclr.parameters(architecture, place, CONFIG)
  images = draw_views()
  features = jax.jit(objective.features)(variables, images)
  assert features.shape == (16, build.num_features(architecture, place))
  assert features.dtype == jnp.float32
  # By running statistics: no image sees another one.
  alone = jax.jit(objective.features)(
      variables, np.repeat(images[3:4], 16, axis=0))
  np.testing.assert_allclose(alone[0], features[3], rtol=1e-4, atol=1e-5)


def test_bfloat16_images():
  loss, _, _, grads = step(make(), drawn(),
                           jnp.asarray(draw_views(), jnp.bfloat16))
  assert loss.dtype == jnp.float32
  assert all(g.dtype == jnp.float32 for g in jax.tree.leaves(grads))
  np.testing.assert_allclose(loss, one_device()[0], rtol=0.1)


def test_a_network_of_blocks_without_batch_statistics():
  network = blocks.scale(zoo.get("vgg16"), 0.0625)
  objective = make(architecture=network, place=blocks.Frame(10, 32))
  shapes = jax.eval_shape(objective.init, jax.random.key(0))
  assert shapes["batch_stats"]["network"] == {}
  images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)

  def run(variables, images):
    loss = functools.partial(
        objective.loss, drop_path=0.0, rng=jax.random.key(0))
    return jax.vmap(
        lambda x: loss(variables["params"], variables["batch_stats"],
                       {"image": x}), axis_name=base.AXIS)(images[None])

  _, (stats, _) = jax.eval_shape(run, shapes, images)
  assert stats["network"] == {}
  assert jax.eval_shape(objective.features, shapes, images).shape == (
      4, build.num_features(network, blocks.Frame(10, 32)))


class Mixed(nn.Module):
  """A backbone whose two branches an argument mixes."""

  @nn.compact
  def __call__(self, images, *, train=False, drop_path=0.0, theta=None):
    del train, drop_path
    x = images.reshape(len(images), -1)
    branches = [nn.Dense(5, name=name)(x) for name in ("left", "right")]
    return theta[0] * branches[0] + theta[1] * branches[1], None


def test_what_mixes_the_backbone_is_handed_on():
  objective = simclr.SimCLR(
      CONFIG, Mixed(), 5, init=lambda net, rng: net.init(
          rng, jnp.zeros((1, 8, 8, 3)), theta=jnp.ones(2)))
  variables = objective.init(jax.random.key(0))
  images = draw_views()
  _, _, _, grads = step(objective, variables, images,
                        theta=jnp.array([1.0, 0.0]))
  kernel = lambda name: grads["network"][name]["kernel"]
  assert np.any(kernel("left")) and not np.any(kernel("right"))
  left, right, both = (objective.features(variables, images,
                                          theta=jnp.array(theta))
                       for theta in ([1.0, 0], [0, 1.0], [1.0, 1.0]))
  np.testing.assert_allclose(left + right, both, rtol=1e-3, atol=1e-4)


# Training.


def method(objective, optimizer, epochs):
  """The objective under the engine, as small as can be."""

  def init(rng):
    variables = objective.init(rng)
    return {**variables, "opt": optimizer.init(variables["params"]),
            "rng": rng}

  def update(state, batch):
    rng, key = jax.random.split(state["rng"])
    (_, (stats, metrics)), grads = jax.value_and_grad(
        objective.loss, has_aux=True)(
            state["params"], state["batch_stats"], batch, drop_path=0.0,
            rng=base.device_key(key))
    grads, stats, metrics = base.mean_over_devices((grads, stats, metrics))
    updates, opt = optimizer.update(grads, state["opt"])
    return {"params": optax.apply_updates(state["params"], updates),
            "batch_stats": stats, "opt": opt, "rng": rng}, metrics

  phase = base.Phase("train", "train", update, objective.metrics)
  return base.Method(init, (base.Stage("train", epochs, (phase,)),), None)


def test_the_engine_trains_on_two_views():
  """Positives come nearer, and classes too, of which nothing is said."""
  d = tiny.digits()
  objective = make(base.AXIS, dataclasses.replace(
      CONFIG, hidden=64, projection=32))
  prepare = data.TwoViews(d.mean, d.std, simclr.views(CONFIG)._replace(
      flip=False))
  rows = []
  train = fit.Split(d.train_images[:512], d.train_labels[:512])
  test = fit.Split(d.test_images, d.test_labels)
  state = fit.fit(
      method(objective, optax.adam(1e-2), 5), {"train": train}, batch_size=64,
      preparation=prepare,
      options=fit.Options(devices=devices.choose(2), on_row=rows.append))
  assert rows[-1]["loss"] < rows[0]["loss"] - 0.15
  assert rows[-1]["contrast_accuracy"] > rows[0]["contrast_accuracy"]
  before, after = (
      representation.knn_accuracy(
          objective, variables, train, test, num_classes=10,
          preparation=prepare, k=CONFIG.neighbours)
      for variables in (objective.init(jax.random.key(0)), state))
  assert after > before + 0.05


# Sizes.


def test_resnet50_has_the_size_of_the_paper():
  """24.6 M parameters, counted in the network itself."""
  objective = simclr.SimCLR.of(simclr.SimCLRConfig(),
                               zoo.get("resnet50", "cifar"), blocks.Frame())
  shapes = jax.eval_shape(objective.init, jax.random.key(0))
  count = sum(x.size for x in jax.tree.leaves(shapes["params"]))
  assert abs(count - 24.6e6) < 0.05e6
  assert count == simclr.parameters(zoo.get("resnet50", "cifar"),
                                    blocks.Frame())


def test_darts_comes_nearest_to_that_size():
  darts = zoo.get("darts")
  place = skeleton.Skeleton(cells=simclr.DARTS_CELLS, num_classes=0)
  sizes = {c: simclr.parameters(darts, place._replace(init_channels=c))
           for c in range(2, 150, 2)}
  target = simclr.parameters(zoo.get("resnet50", "cifar"), blocks.Frame())
  nearest = min(sizes, key=lambda c: abs(sizes[c] - target))
  assert nearest == simclr.DARTS_CHANNELS
  assert abs(sizes[nearest] - 24.6e6) < 0.15e6
  for channels in (4, 38):  # The target is met exactly, or between two.
    assert simclr.channels_for(darts, sizes[channels], place) == channels
    assert simclr.channels_for(darts, sizes[channels] - 1, place) == channels
    assert simclr.channels_for(darts, sizes[channels] + 1, place) == channels


# Settings.


def test_views_of_the_paper():
  """Chen et al., appendix A: 0.8 s, 0.8 s, 0.8 s and 0.2 s."""
  found = simclr.views(simclr.SimCLRConfig(crop_scale=0.08, jitter=1.0))
  assert found == views_lib.Views(
      scale=(0.08, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)


@pytest.mark.parametrize("change, message", [
    ({"temperature": 0.0}, "temperature is 0.0.*above 0"),
    ({"knn_temperature": -1.0}, "knn-temperature is -1"),
    ({"hidden": 0}, "hidden is 0"),
    ({"projection": 0}, "projection is 0"),
    ({"neighbours": 0}, "neighbours is 0"),
    ({"knn_every": -1}, "knn-every is -1"),
    ({"linear_steps": 0}, "linear-steps is 0"),
    ({"linear_penalty": -1.0}, "linear-penalty is -1"),
    ({"crop_scale": 0.0}, r"crop-scale is 0.0 and must lie in \(0, 1\]"),
    ({"jitter": 1.5}, r"jitter is 1.5 and must lie in \[0, 1\]"),
    ({"grey": -0.1}, "grey is -0.1"), ({"blur": 2.0}, "blur is 2.0"),
])
def test_settings_are_checked(change, message):
  with pytest.raises(errors.InputError, match=message) as e:
    simclr.check(dataclasses.replace(simclr.SimCLRConfig(), **change))
  assert "\n" not in str(e.value)


def test_costs_of_features_alone():
  bare = cost.network(SMALL, PLACE._replace(num_classes=0)).params
  head = simclr.parameters(SMALL, PLACE, CONFIG) - bare
  features = build.num_features(SMALL, PLACE)
  assert head == features * 6 + 2 * 6 + 6 * 4 + 4


def test_examples():
  assert doctest.testmod(simclr) == (0, 5)
