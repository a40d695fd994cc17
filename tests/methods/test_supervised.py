"""Training a given network: devices, schedules, refusals."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from natjax import errors, zoo
from natjax.graph import genotype as architecture
from natjax.graph import records
from natjax.methods import supervised
from natjax.networks import network as network_lib
from natjax.training import devices, optimizers
from tests import tiny

# Every kind of place for a BN, in cells of two nodes.
CELL = architecture.Cell(tuple(architecture.Edge(*edge) for edge in (
    ("conv_1x1", 0, 2), ("skip_connect", 1, 2), ("conv_3x3", 1, 3),
    ("max_pool_3x3", 2, 3))), (2, 3))
GENOTYPE = architecture.Genotype(CELL, CELL)


def make(**changes):
  config = dataclasses.replace(
      tiny.TRAIN, drop_path=0.0, learning_rate=1.0, final_learning_rate=1.0,
      weight_decay=0.0, momentum=0.0, max_grad_norm=0.0, **changes)
  return supervised.Supervised(
      config, GENOTYPE, num_classes=10, image_size=tiny.IMAGE_SIZE)


@functools.cache
def step(sync_bn, num_devices):
  """State before and after an update of 16 images, and its metrics."""
  method, batch = make(sync_bn=sync_bn), tiny.batch(16)
  state = method.init(jax.random.key(0))
  run = lambda state, image, label: method.update(
      state, {"image": image, "label": label})
  shard = lambda a: a.reshape(num_devices, -1, *a.shape[1:])
  after, metrics = devices.spread(
      run, devices.choose(num_devices), sharded=(False, True, True))(
          state, shard(batch["image"]), shard(batch["label"]))
  return state, after, metrics


@pytest.mark.long
def test_sync_bn_on_four_devices_equals_the_joined_batch():
  _, one, metrics_one = step(True, 1)
  _, four, metrics_four = step(True, 4)
  for a, b in zip(jax.tree.leaves((one.params, one.batch_stats)),
                  jax.tree.leaves((four.params, four.batch_stats)),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(metrics_one["loss"], metrics_four["loss"],
                             rtol=1e-4)


def test_without_sync_bn_devices_normalise_by_their_own_images():
  _, synced, _ = step(True, 4)
  _, own, _ = step(False, 4)
  differ = [float(np.abs(np.asarray(a) - np.asarray(b)).max())
            for a, b in zip(jax.tree.leaves(synced.params),
                            jax.tree.leaves(own.params), strict=True)]
  assert max(differ) > 1e-3


@pytest.mark.parametrize("change,message", [
    ({"epochs": 0}, "epochs"),
    ({"seeds": 0}, "seeds"),
    ({"drop_path": 1.0}, "drop-path"),
    ({"dtype": "float16"}, "bfloat16"),
    ({"epochs": None}, "epochs is None and must be of type int"),
    ({"learning_rate": None}, "learning-rate is None and must be of type"),
    ({"auxiliary": False, "auxiliary_weight": 0.3}, "auxiliary-weight is 0.3"),
])
def test_settings_that_do_not_fit_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message):
    supervised.resolve(dataclasses.replace(tiny.TRAIN, **change), "cells")


def test_an_image_too_small_for_the_auxiliary_head_is_refused():
  config = supervised.resolve(
      dataclasses.replace(tiny.TRAIN, auxiliary=True), "cells")
  with pytest.raises(errors.InputError, match="auxiliary") as e:
    supervised.place_of(config, "cells", num_classes=10, image_size=16)
  assert e.value.field == "auxiliary"
  assert supervised.place_of(config, "cells", num_classes=10, image_size=32)


def test_what_is_none_is_the_architectures_usual():
  cells = supervised.resolve(supervised.TrainConfig(epochs=3), "cells")
  assert (cells.skeleton, cells.init_channels, cells.cells, cells.auxiliary,
          cells.drop_path, cells.epochs) == ("cifar", 36, 20, True, 0.2, 3)
  blocks = supervised.resolve(supervised.TrainConfig(epochs=3), "blocks")
  assert (blocks.skeleton, blocks.init_channels, blocks.cells, blocks.auxiliary,
          blocks.drop_path, blocks.epochs) == ("blocks", 0, 0, False, 0.0, 3)
  for kind, full in (("cells", cells), ("blocks", blocks)):
    assert supervised.resolve(full, kind) == full
  assert list(dataclasses.asdict(cells)) == list(
      dataclasses.asdict(supervised.TrainConfig()))


@pytest.mark.parametrize("name,value", [
    ("skeleton", "cifar"), ("init_channels", 36), ("cells", 20),
    ("auxiliary", True), ("drop_path", 0.2)])
def test_what_only_cells_have_is_refused_for_blocks_by_name(name, value):
  config = supervised.TrainConfig(**{name: value})
  with pytest.raises(errors.InputError, match="a network of blocks") as e:
    supervised.resolve(config, "blocks")
  assert e.value.field == name and name.replace("_", "-") in str(e.value)


def test_the_derived_network_is_the_given_one_as_it_is_trained():
  method = make()
  state = method.init(jax.random.key(0))
  found = method.method().derive(state, GENOTYPE, None, jax.random.key(1))
  assert (found.architecture, found.report) == (GENOTYPE, {})
  assert found.variables == {
      "params": state.params, "batch_stats": state.batch_stats}


@pytest.mark.long
def test_parts_of_a_batch_add_up_to_its_gradient():
  batch = tiny.batch(16)
  halves = [{k: v[part] for k, v in batch.items()}
            for part in (slice(8), slice(8, 16))]
  run = lambda method: devices.spread(
      lambda state, batch: method.update(state, batch), devices.choose(1),
      sharded=(False, False))
  state = make().init(jax.random.key(0))
  after, metrics = run(make(accumulate=2))(state, batch)
  step = run(make())
  alone = [step(state, half) for half in halves]
  for found, before, *others in zip(*(jax.tree.leaves(s.params) for s in (
      after, state, *(s for s, _ in alone))), strict=True):
    np.testing.assert_allclose(
        found - before, np.mean(others, 0) - before, rtol=1e-4, atol=1e-6)
  assert float(metrics["loss"]) == pytest.approx(
      np.mean([m["loss"] for _, m in alone]), rel=1e-5)
  # Statistics go from part to part.
  second, _ = step(state._replace(batch_stats=alone[0][0].batch_stats),
                   halves[1])
  for found, wanted in zip(jax.tree.leaves(after.batch_stats),
                           jax.tree.leaves(second.batch_stats), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def test_schedules_of_a_training():
  rates = lambda **changes: [float(optimizers.schedule(**{
      "name": "linear", "peak": 1.0, "steps": 10, **changes})(step))
      for step in (0, 1, 2, 4, 6, 10)]
  np.testing.assert_allclose(rates(), [1, 0.9, 0.8, 0.6, 0.4, 0], atol=1e-6)
  np.testing.assert_allclose(
      rates(warmup=2), [0.5, 1, 1, 0.75, 0.5, 0], atol=1e-6)
  np.testing.assert_allclose(
      rates(name="exponential", final=2.0**-10),
      [1, 2.0**-1, 2.0**-2, 2.0**-4, 2.0**-6, 2.0**-10], rtol=1e-5)
  np.testing.assert_allclose(
      rates(name="cosine", warmup=2, final=0.2), [0.5, 1, 1, *(
          0.6 + 0.4 * np.cos(np.pi * np.array([2, 4, 8]) / 8))], rtol=1e-5)


@pytest.mark.parametrize("decays", [True, False])
def test_what_decays(decays):
  config = dataclasses.replace(
      tiny.TRAIN, weight_decay=0.5, learning_rate=1.0, decay_vectors=decays,
      max_grad_norm=0.0)
  method = supervised.Supervised(
      config, GENOTYPE, num_classes=10, image_size=tiny.IMAGE_SIZE)
  params = jax.tree.map(
      jax.numpy.ones_like, method.init(jax.random.key(0)).params)
  moved, _ = method.optimizer.update(
      jax.tree.map(jax.numpy.zeros_like, params),
      method.optimizer.init(params), params)
  found = {leaf.ndim > 1: float(leaf.ravel()[0])
           for leaf in jax.tree.leaves(moved)}
  assert found == {True: -0.5, False: -0.5 if decays else 0.0}


def test_vectors_are_told_by_their_names():
  network = network_lib.module(
      zoo.get("mobilefacenet", "face"), records.Frame(3, 112))
  like = jax.eval_shape(
      lambda key: network_lib.init(network, key)["params"], jax.random.key(0))
  for decays, leaf in zip(jax.tree.leaves(optimizers.kernels(like)),
                          jax.tree.leaves(like), strict=True):
    assert decays == (leaf.ndim > 1)  # Slopes of PReLU, too.


@pytest.mark.parametrize(("settings", "message"), [
    ({"schedule": "step"}, "schedule is 'step'; choose one of"),
    ({"schedule": "exponential", "final_learning_rate": 0.0}, "needs a learn"),
    ({"warmup": 2}, "warmup is 2 and must be below the number of epochs"),
    ({"accumulate": 0}, "accumulate is 0"),
])
def test_refuses_schedules(settings, message):
  with pytest.raises(errors.InputError, match=message):
    supervised.resolve(dataclasses.replace(tiny.TRAIN, **settings), "cells")


def test_a_method_with_schedules_of_its_own_refuses_others():
  full = supervised.resolve(
      dataclasses.replace(tiny.TRAIN, warmup=1), "cells")
  with pytest.raises(errors.InputError, match="does not apply to method repl"):
    supervised.plain(full, "replace")
