"""ArcFace against a plain form, on one device and divided over four."""

import dataclasses
import functools
import math
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, shapes, skeleton
from natjax.methods import supervised
from natjax.networks import layers
from natjax.networks import network as network_lib
from natjax.objectives import arcface
from natjax.pipeline import presets
from natjax.training import devices, fit
from natjax.training import method as base
from tests import tiny

CONFIG = arcface.ArcFaceConfig(embedding=6)
GENTLE = dataclasses.replace(CONFIG, scale=8.0)  # Steps that do not amplify.
# Without augmentation, which is drawn by each device.
STILL = fit.Preparation((0.5,) * 3, (0.25,) * 3, data.Augmentation())
TINY = blocks.check(blocks.BlockNetwork(
    "tiny", (blocks.Layer("conv", 4, 3, 2, activation="relu"),),
    (blocks.Block((blocks.Node(4, activation="relu"),),
                  (blocks.Edge("conv_1x1", 1, 2),)),)))


def plain(embeddings, classes, labels, scale=64.0, margin=0.5):
  """Equation 3 image by image, with arccosines, in float64."""
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  found, right = [], []
  for e, label in zip(unit(embeddings), labels, strict=True):
    cosines = unit(classes) @ e
    right.append(float(np.argmax(cosines) == label))
    theta = math.acos(np.clip(cosines[label], -1, 1))
    cosines[label] = math.cos(theta + margin)
    if theta + margin > math.pi:
      cosines[label] = math.cos(theta) - margin * math.sin(margin)
    logits = scale * cosines
    most = logits.max()
    found.append(most + math.log(np.exp(logits - most).sum()) - logits[label])
  return np.array(found), np.array(right)


def drawn(images, features, identities, seed=0):
  rng = np.random.default_rng(seed)
  return (rng.normal(size=(images, features)),
          rng.normal(size=(identities, features)),
          rng.integers(0, identities, images))


def cosines(embeddings, classes):
  unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)
  return (unit(embeddings) @ unit(classes).T).astype("f")


@pytest.mark.parametrize("scale,margin", [(64.0, 0.5), (8.0, 1.2), (1.0, 0.0)])
def test_it_is_the_equation_written_out(scale, margin):
  embeddings, classes, labels = drawn(20, 3, 7)  # Some beyond pi - m.
  labels[:3] = np.argmin(embeddings[:3] @ classes.T, axis=1)
  found = arcface.losses(cosines(embeddings, classes), labels, scale=scale,
                         margin=margin)
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(
      found, plain(embeddings, classes, labels, scale, margin)[0], rtol=1e-4,
      atol=1e-4)


def test_the_enlarged_angle_goes_on_falling_beyond_pi():
  theta = np.linspace(0.01, math.pi - 0.01, 400)
  found = np.asarray(arcface.enlarged(np.cos(theta).astype("f"), 0.5))
  assert (np.diff(found) < 0).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_are_finite_where_the_sine_vanishes(dtype):
  direct = jax.grad(lambda c: arcface.losses(c, jnp.array([0, 0])).sum())
  assert np.isfinite(np.asarray(direct(
      jnp.array([[1.0, -1.0], [-1.0, 1.0]], dtype)), np.float32)).all()
  # And of an embedding that is its own identity's vector, or its opposite.
  frame = blocks.Frame(2, 8, 6)
  head = layers.FixedLayer(
      shapes.head_layers(TINY, frame)[-1], 2, layers.Bias, False)
  x = jnp.array([[1.0, 2.0], [-1.0, -2.0]], dtype)

  def loss(x, classes):
    return arcface.losses(head.apply({"params": {"classes": classes}}, x),
                          jnp.array([0, 0])).sum()

  for part in jax.grad(loss, (0, 1))(x, jnp.array([[1.0, 2.0], [0.0, 0.0]])):
    assert np.isfinite(np.asarray(part, np.float32)).all()


def test_memory_is_that_of_some_arrays_of_images_times_identities():
  def temporary(images, identities):
    like = lambda *shape: jax.ShapeDtypeStruct(shape, jnp.float32)
    loss = lambda e, w, labels: arcface.losses(e @ w.T, labels).sum()
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(
        like(images, 8), like(identities, 8),
        jax.ShapeDtypeStruct((images,), jnp.int32)).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  least = temporary(64, 4096)
  assert least <= 8 * 4 * 64 * 4096
  for images, identities in ((64, 16384), (256, 4096)):
    assert temporary(images, identities) == pytest.approx(4 * least, rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize("identities", [8, 10])
def test_identities_divided_over_devices_are_those_of_one(identities):
  embeddings, classes, labels = drawn(8, 5, identities)
  rows = -(-identities // 4)
  padded = np.concatenate([classes, np.ones((4 * rows - identities, 5))])

  def step(embeddings, classes, labels):
    def loss(embeddings, classes):
      found, right = arcface.divided(
          embeddings, classes, labels, axis_name=base.AXIS,
          num_classes=identities)
      return jnp.mean(found), (found, right)

    (_, told), grads = jax.value_and_grad(loss, (0, 1), has_aux=True)(
        embeddings, classes)
    # Of the sum of the devices' means.
    return jax.tree.map(lambda x: jax.lax.all_gather(x, base.AXIS, tiled=True),
                        (told, jax.tree.map(lambda x: x / 4, grads)))

  (found, right), grads = devices.spread(
      step, devices.choose(4), sharded=(True, True, True))(
          embeddings.reshape(4, 2, 5).astype("f"),
          padded.reshape(4, rows, 5).astype("f"), labels.reshape(4, 2))
  expected = plain(embeddings, classes, labels)
  np.testing.assert_allclose(found, expected[0], rtol=1e-4)
  np.testing.assert_array_equal(right, expected[1])

  def one(embeddings, classes):
    unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)
    return jnp.mean(arcface.losses(
        unit(embeddings) @ unit(classes).T, labels))

  of_one = jax.grad(one, (0, 1))(embeddings.astype("f"), classes.astype("f"))
  np.testing.assert_allclose(grads[0], of_one[0], rtol=1e-3, atol=1e-5)
  np.testing.assert_allclose(grads[1][:identities], of_one[1], rtol=1e-3,
                             atol=1e-5)
  assert not np.asarray(grads[1][identities:]).any()


@pytest.mark.long
@pytest.mark.parametrize("architecture,place,own", [
    (zoo.get("lresnet34e-ir"), blocks.Frame(10, 32, 6), 512),
    (zoo.get("mobilefacenet"), blocks.Frame(10, 32, 6), 128),
    (zoo.get("resnet20"), blocks.Frame(10, 32, 6), 0),
    (zoo.get("vgg16"), blocks.Frame(10, 32, 6), 0),
    (zoo.get("darts"), skeleton.Skeleton("cifar", 4, 3, 10, 32, 6), 0)])
def test_networks_embed_by_themselves_or_are_given_an_embedding(
    architecture, place, own):
  net = network_lib.module(architecture, place)
  features = own or 6
  assert shapes.num_features(net.graph, place) == features
  variables = jax.eval_shape(functools.partial(
      network_lib.init, net), jax.random.key(0))
  like = variables["params"]
  assert ("embedding" in like) == (not own)
  names = network_lib.head_names(net.graph, net.frame)
  assert like[names[-1]]["classes"].shape == (10, features)
  count = sum(x.size for x in jax.tree.leaves(like))
  assert count == cost.network(architecture, place).params
  without = network_lib.module(architecture, place._replace(num_classes=0))
  assert jax.eval_shape(without.apply, variables, jnp.zeros((
      2, 32, 32, 3)))[0].shape == (2, features)


@functools.cache
def trained(parts=1, max_grad_norm=0.0):
  train = dataclasses.replace(
      tiny.TRAIN, **supervised.OF_CELLS, cutout=0, learning_rate=1e-3,
      final_learning_rate=1e-3, max_grad_norm=max_grad_norm, sync_bn=True)
  objective = arcface.ArcFace(GENTLE, network_lib.module(
      TINY, blocks.Frame(10, 8, 6), axis_name=base.AXIS), parts)
  return supervised.Supervised(train, TINY, num_classes=10, image_size=8,
                               objective=objective)


def fitted(parts, folder=None, stop=None, **changes):
  """What `fit` makes of 16 digits on so many devices, and its rows."""
  method, rows = trained(parts, **changes), []
  state = fit.fit(
      method.method(), tiny.splits(16), batch_size=8,
      preparation=STILL, options=fit.Options(
          seed=0, devices=devices.choose(parts), checkpoint_dir=folder,
          on_row=rows.append, chunk_seconds=0.0, checkpoint_seconds=0.0,
          should_stop=stop or (lambda: False)))
  return method, state, rows


def test_the_objective_is_the_equation_of_what_the_network_gives():
  method, batch = trained(), tiny.batch(6)
  state = method.init(jax.random.key(0))
  _, metrics = devices.spread(method.update, devices.choose(1), sharded=(
      False, False))(state, batch)
  net = method.objective.network
  features = net.clone(frame=net.frame._replace(num_classes=0), axis_name=None)
  embeddings = features.apply(
      supervised.variables(state), batch["image"], train=True,
      mutable=["batch_stats"])[0][0]
  found, right = plain(
      np.asarray(embeddings, np.float64),
      np.asarray(state.params["head1"]["classes"], np.float64), batch["label"],
      GENTLE.scale)
  np.testing.assert_allclose(metrics["loss"], found.mean(), rtol=1e-3)
  np.testing.assert_allclose(metrics["accuracy"], right.mean(), rtol=1e-6)


@pytest.mark.long
@pytest.mark.parametrize("max_grad_norm", [0.0, 1.0])
def test_devices_that_divide_the_identities_train_as_one(max_grad_norm):
  # Of 10 identities, four devices hold 3, 3, 3 and 1.
  one, state_one, rows_one = fitted(1, max_grad_norm=max_grad_norm)
  four, state_four, rows_four = fitted(4, max_grad_norm=max_grad_norm)
  classes = state_four.params["head1"]["classes"]
  assert [shard.data.shape for shard in classes.addressable_shards] == (
      [(3, 6)] * 4)
  momentum = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(
      state_four.opt_state) if "classes" in jax.tree_util.keystr(path)]
  assert [m.sharding for m in momentum] == [classes.sharding]
  assert all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(
      state_four.batch_stats))
  derived = [m.derive(jax.device_put(s, jax.devices()[0]), None, None, None)
             for m, s in ((one, state_one), (four, state_four))]
  for a, b in zip(*(jax.tree.leaves(d.variables) for d in derived),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-4)
  for a, b in zip(rows_one, rows_four, strict=True):
    assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)
    assert a["accuracy"] == pytest.approx(b["accuracy"])
  assert rows_one[-1]["loss"] < rows_one[0]["loss"]


def test_what_is_divided_is_resumed_to_the_same_bits(tmp_path):
  _, whole, _ = fitted(4)
  asked = iter([False] * 2)  # Then it is asked to stop.
  with pytest.raises(errors.Interrupted):
    fitted(4, tmp_path, lambda: next(asked, True))
  _, resumed, _ = fitted(4, tmp_path)
  for a, b in zip(jax.tree.leaves(whole.params), jax.tree.leaves(
      resumed.params), strict=True):
    np.testing.assert_array_equal(a, b)


def test_the_papers_settings_are_those_of_casia():
  preset = presets.get("paper", zoo.get("mobilefacenet"), "natpp", "arcface")
  train = preset.train
  assert (train.batch_size, train.learning_rate, train.momentum,
          train.weight_decay, train.max_grad_norm) == (512, 0.1, 0.9, 5e-4, 0)
  assert train.epochs * (490623 // 512) == pytest.approx(32_000, rel=0.02)
  assert (preset.image_size, preset.arcface.scale, preset.arcface.margin) == (
      112, 64.0, 0.5)


@pytest.mark.parametrize("changes,message", [
    ({"scale": 0.0}, "scale"), ({"margin": -0.1}, "margin"),
    ({"margin": 1.6}, "margin"), ({"embedding": 0}, "embedding")])
def test_settings_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(errors.InputError, match=message):
    arcface.check(dataclasses.replace(CONFIG, **changes))


def test_a_linear_classifier_is_refused():
  with pytest.raises(errors.InputError, match="embedding"):
    arcface.ArcFace(CONFIG, network_lib.module(TINY, blocks.Frame(10, 8)))


_OF_A_PROCESS = """
import sys
import jax
import numpy as np
from natjax import errors
from natjax.training import distributed
from tests.objectives import test_arcface as own
address, number, out = sys.argv[1:]
distributed.join(address, 2, int(number), on_lost=lambda *_: None)
_, whole, _ = own.fitted(4, f"{out}/whole", max_grad_norm=0.1)
asked = []
try:
  own.fitted(4, f"{out}/cut", max_grad_norm=0.1,
             stop=lambda: asked.append(1) or len(asked) == 2)
except errors.Interrupted:
  _, found, _ = own.fitted(4, f"{out}/cut", max_grad_norm=0.1)
  for a, b in zip(*map(jax.tree.leaves, (whole.params, found.params)),
                  strict=True):
    np.testing.assert_array_equal(a, b)
  np.savez(f"{out}/{number}.npz", *jax.tree.leaves(whole.params))
distributed.leave()
"""


@pytest.mark.slow
def test_devices_of_two_processes_divide_the_identities(tmp_path):
  """Two of two devices train as one of four, and resume to the same bits."""
  with socket.socket() as s:
    s.bind(("", 0))
    address = f"localhost:{s.getsockname()[1]}"
  started = [subprocess.Popen(
      [sys.executable, "-c", _OF_A_PROCESS, address, str(i), str(tmp_path)],
      env={**os.environ, "PYTHONPATH": os.getcwd(), "XLA_FLAGS":
           "--xla_force_host_platform_device_count=2"},
      stderr=subprocess.PIPE, text=True) for i in range(2)]
  for process in started:
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0, said[-3000:]
  _, state, _ = fitted(4, max_grad_norm=0.1)
  for number in range(2):
    with np.load(tmp_path / f"{number}.npz") as found:
      for name, leaf in zip(found.files, jax.tree.leaves(state.params),
                            strict=True):
        np.testing.assert_allclose(found[name], leaf, rtol=1e-4, atol=1e-5)
