"""Training a given network: devices, schedules, refusals."""

import dataclasses

import jax
import numpy as np
import pytest

from natjax import errors
from natjax.methods import supervised
from natjax.training import devices
from tests import tiny


def make(**changes):
  config = dataclasses.replace(
      tiny.TRAIN, drop_path=0.0, learning_rate=1.0, final_learning_rate=1.0,
      weight_decay=0.0, momentum=0.0, max_grad_norm=0.0, **changes)
  return supervised.Supervised(
      config, tiny.GENOTYPE, num_classes=10, image_size=tiny.IMAGE_SIZE)


def step(method, num_devices, batch):
  state = method.init(jax.random.key(0))
  run = lambda state, image, label: method.update(
      state, {"image": image, "label": label})
  shard = lambda a: a.reshape(num_devices, -1, *a.shape[1:])
  after, metrics = devices.spread(
      run, devices.choose(num_devices), sharded=(False, True, True))(
          state, shard(batch["image"]), shard(batch["label"]))
  return state, after, metrics


def test_sync_bn_on_four_devices_equals_the_joined_batch():
  method = make(sync_bn=True)
  batch = tiny.batch(16)
  _, one, metrics_one = step(method, 1, batch)
  _, four, metrics_four = step(method, 4, batch)
  for a, b in zip(jax.tree.leaves((one.params, one.batch_stats)),
                  jax.tree.leaves((four.params, four.batch_stats)),
                  strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
  np.testing.assert_allclose(metrics_one["loss"], metrics_four["loss"],
                             rtol=1e-4)


def test_without_sync_bn_devices_normalise_by_their_own_images():
  batch = tiny.batch(16)
  _, synced, _ = step(make(sync_bn=True), 4, batch)
  _, own, _ = step(make(), 4, batch)
  differ = [float(np.abs(np.asarray(a) - np.asarray(b)).max())
            for a, b in zip(jax.tree.leaves(synced.params),
                            jax.tree.leaves(own.params), strict=True)]
  assert max(differ) > 1e-3


@pytest.mark.parametrize("change,message", [
    ({"epochs": 0}, "epochs"),
    ({"seeds": 0}, "seeds"),
    ({"drop_path": 1.0}, "drop-path"),
    ({"dtype": "float16"}, "bfloat16"),
])
def test_settings_that_do_not_fit_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message):
    supervised.check(dataclasses.replace(tiny.TRAIN, **change))


def test_an_image_too_small_for_the_auxiliary_head_is_refused():
  config = dataclasses.replace(tiny.TRAIN, auxiliary=True)
  with pytest.raises(errors.InputError, match="auxiliary"):
    supervised.place_of(config, tiny.GENOTYPE, num_classes=10, image_size=16)
  assert supervised.place_of(config, tiny.GENOTYPE, num_classes=10,
                             image_size=32)
