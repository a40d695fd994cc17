"""SimCLR as an objective: sizes, devices, judging."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec, shapes, skeleton
from natjax.methods import supervised
from natjax.objectives import contrastive, simclr
from natjax.pipeline import judge, presets
from natjax.training import devices, fit
from tests import tiny

NETWORK = blocks.scale(zoo.get("resnet20"), 0.25)
NETWORK = NETWORK._replace(blocks=(NETWORK.blocks[3],))
FRAME = blocks.Frame(0, 8)
CONFIG = simclr.SimCLRConfig(hidden=16, projection=8, neighbours=5)
TRAIN = dataclasses.replace(
    tiny.TRAIN, **supervised.OF_CELLS, cutout=0, optimizer="sgd",
    learning_rate=1.0, final_learning_rate=1.0, momentum=0.0, weight_decay=0.0,
    max_grad_norm=0.0, sync_bn=True)


@functools.cache
def make():
  objective = simclr.SimCLR(CONFIG, NETWORK, FRAME, sync_bn=True)
  return supervised.Supervised(TRAIN, NETWORK, num_classes=0, image_size=8,
                               objective=objective)


def head_count(features, hidden=512, size=128):
  """Parameters of the projection head on so many features."""
  return features * hidden + 2 * hidden + hidden * size + size


def test_resnet50_and_darts_have_the_papers_size():
  assert head_count(2048) == 1115264
  resnet, frame = zoo.get("resnet50"), blocks.Frame(0, 32)
  head = lambda a, p: head_count(shapes.num_features(codec.expand(a, p), p))
  count = cost.network(resnet, frame).params + head(resnet, frame)
  assert count == pytest.approx(24.6e6, abs=0.05e6)
  train = presets.get("paper", zoo.get("darts"), "differentiable",
                      "simclr").train
  place = skeleton.Skeleton(
      "cifar", train.init_channels, train.cells, 0, 32)
  darts = zoo.get("darts")
  count = cost.network(darts, place).params + head(darts, place)
  assert train.cells == 24 and count == pytest.approx(24.6e6, abs=0.16e6)
  assert (train.epochs, train.learning_rate, train.optimizer) == (
      500, 1e-3, "adam")


def test_the_objective_counts_as_the_cost_says():
  variables = make().objective.init(jax.random.key(0))
  count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
  params = variables["params"]
  assert count(params["network"]) == cost.network(NETWORK, FRAME).params
  assert count(params["projection"]) == head_count(
      make().objective.num_features, 16, 8)


def views(per_device, num_devices):
  """Images f[D, 2b, ...]: on every device first views, then second views."""
  rng = np.random.default_rng(0)
  return rng.normal(size=(num_devices, 2 * per_device, 8, 8, 3)).astype("f")


def update(images):
  """One step; each device gets one row of `images`."""
  method = make()
  state = method.init(jax.random.key(0))
  run = lambda state, image: method.update(state, {"image": image[0]})
  after, metrics = devices.spread(
      run, devices.choose(len(images)), sharded=(False, True))(
          state, images[:, None])
  return after, metrics


def test_four_devices_learn_as_one_from_the_joined_batch():
  images = views(2, 4)
  first, second = images[:, :2], images[:, 2:]
  joined = np.concatenate([first.reshape(8, 8, 8, 3),
                           second.reshape(8, 8, 8, 3)])[None]
  four, metrics_four = update(images)
  one, metrics_one = update(joined)
  np.testing.assert_allclose(metrics_four["loss"], metrics_one["loss"],
                             rtol=1e-4)
  np.testing.assert_allclose(metrics_four["accuracy"], metrics_one["accuracy"])
  for a, b in zip(jax.tree.leaves(four.params), jax.tree.leaves(one.params),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.long
def test_the_loss_is_nt_xent_of_the_projections():
  method = make()
  state = method.init(jax.random.key(0))
  images = views(3, 1)
  _, metrics = update(images)
  net, head = method.objective.network, method.objective.head
  variables = {"params": state.params, "batch_stats": state.batch_stats}
  part = lambda name: {k: v[name] for k, v in variables.items()}

  def projections(x):
    features = net.apply(part("network"), x, train=True,
                         mutable=["batch_stats"])[0][0]
    return head.apply(part("projection"), features,
                      mutable=["batch_stats"])[0]

  z = jax.vmap(projections, axis_name="devices")(images)[0]
  np.testing.assert_allclose(
      metrics["loss"], contrastive.nt_xent(z, temperature=0.5), rtol=1e-5)


def test_features_are_extracted_batch_by_batch():
  method, digits = make(), tiny.digits()
  state = method.init(jax.random.key(0))
  images = digits.train_images[:7]
  found, _ = simclr.extract(
      method.features, state, fit.Split(images, digits.train_labels[:7]),
      tiny.preparation(), batch_size=3)
  whole = method.features(state, tiny.preparation()(
      None, jnp.asarray(images), train=False))
  assert found.shape == (7, method.objective.num_features)
  np.testing.assert_allclose(found, whole, rtol=1e-4, atol=1e-5)


def test_features_that_tell_the_classes_apart_are_judged_so():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 40)
  features = np.eye(3, dtype="f")[labels] + 0.01 * rng.normal(
      size=(40, 3)).astype("f")
  parts = (features[:30], labels[:30]), (features[30:], labels[30:])
  assert simclr.right(CONFIG, *parts, 3).tolist() == [True] * 10
  assert simclr.probe(CONFIG, *parts, 3) == {"linear_accuracy": 1.0}
  none = dataclasses.replace(CONFIG, linear_steps=0)
  assert simclr.probe(none, *parts, 3) == {}
  wrong = parts[1][0], np.roll(parts[1][1], 1)
  np.testing.assert_array_equal(
      simclr.right(CONFIG, parts[0], wrong, 3), wrong[1] == parts[1][1])


def test_what_watches_is_left_out_of_what_votes():
  split = fit.Split(np.arange(10), np.arange(10))
  bank, held = simclr.divide(split, 3)
  assert bank.labels.tolist() == [1, 2, 3, 5, 6, 7, 8]
  assert held.labels.tolist() == [0, 4, 9]  # Of all classes, in their order.
  assert len(simclr.divide(split, 100)[1].labels) == 5


@pytest.mark.parametrize("changes,message", [
    ({"temperature": 0.0}, "temperature"), ({"crop": 0.0}, "crop"),
    ({"crop": 1.5}, "crop"), ({"neighbours": 0}, "neighbours"),
    ({"neighbour_temperature": -1.0}, "neighbour-temperature"),
    ({"colour": -0.1}, "colour"), ({"watch_epochs": -1}, "watch-epochs"),
    ({"colour": 5.0}, "brightness")])
def test_settings_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(errors.InputError, match=message):
    simclr.check(dataclasses.replace(CONFIG, **changes))


def test_of_many_images_some_of_all_classes_are_glanced_at(monkeypatch):
  labels = np.arange(20_002) // 10_001  # As a folder has them.
  images = np.zeros((20_002, 1, 1, 3), np.uint8)
  many = data.make_dataset("many", (images, labels), (images[:2], labels[:2]),
                           image_size=1)
  asked = []
  labelled = judge.Labels(many, TRAIN)
  monkeypatch.setattr(labelled, "_accuracy", lambda *args: asked.append(args))
  labelled.glance(make(), None)
  assert np.bincount(asked[0][2].labels).tolist() == [5000, 5000]
