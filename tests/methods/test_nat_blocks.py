"""NAT's updates and inference on a network of blocks, several devices."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.graph import blocks
from natjax.methods import nat
from natjax.networks import network as network_lib
from natjax.objectives import arcface
from natjax.pipeline import networks as networks_lib
from natjax.training import devices
from tests import tiny

EDGE = blocks.Edge
BLOCK = blocks.Block(
    (blocks.Node(8, activation="relu6"), blocks.Node(8)),
    (EDGE("conv_3x3", 1, 2), EDGE("conv_1x1", 2, 3),
     EDGE("skip_connect", 1, 3)))
NETWORK = blocks.BlockNetwork(
    "tiny", (blocks.Layer("conv", 8, 3),), (BLOCK, BLOCK))
CONFIG = dataclasses.replace(
    tiny.SEARCH, init_channels=0, cells=0, learning_rate=1.0,
    final_learning_rate=1.0, weight_decay=0.0)


def make(share, num_devices=1, **changes):
  space = spaces.space_for(NETWORK, share=share)
  return nat.NAT(
      dataclasses.replace(CONFIG, **changes), space, num_classes=10,
      image_size=8, steps_per_epoch=3, num_devices=num_devices)


def spread(update, num_devices):
  run = lambda state, image, label: update(
      state, {"image": image, "label": label})
  return devices.spread(run, devices.choose(num_devices),
                        sharded=(False, True, True))


def shards(batch, num_devices):
  return [a.reshape(num_devices, -1, *a.shape[1:])
          for a in (batch["image"], batch["label"])]


@pytest.mark.long
@pytest.mark.parametrize("share, policy", [
    ("full", "default"), ("cell", "published")])
def test_two_devices_update_by_the_mean_of_both(share, policy):
  """Each device draws its own network; the step is the mean gradient."""
  method = make(share, 2, policy=policy)
  state, batch = method.init(jax.random.key(0)), tiny.batch(8)
  images, labels = shards(batch, 2)
  after, metrics = spread(method.update_weights, 2)(state, images, labels)
  gradient = jax.jit(jax.value_and_grad(method.loss, has_aux=True))
  grads = []
  for i in range(2):
    cells = jax.tree.map(lambda a, i=i: jnp.asarray(np.asarray(a)[i, 0]),
                         after.drawn)
    (_, _), g = gradient(state.params, cells,
                         {"image": images[i], "label": labels[i]})
    grads.append(g)
  jax.tree.map(
      lambda a, b, g, h: np.testing.assert_allclose(
          np.asarray(a) - np.asarray(b), (np.asarray(g) + np.asarray(h)) / 2,
          rtol=2e-3, atol=2e-5),
      state.params, after.params, *grads)
  later, metrics = spread(method.update_policy, 2)(after, images, labels)
  assert all(np.isfinite(v) for v in jax.tree.leaves(metrics))
  moved = jax.tree.map(lambda a, b: float(np.abs(np.asarray(a) - b).max()),
                       state.policy, later.policy)
  assert max(jax.tree.leaves(moved)) > 0
  assert method.explain(later).startswith('device 0: [{"nodes"')


def identities(inherits):
  config = arcface.ArcFaceConfig(scale=16.0, margin=0.3)
  return nat.NAT(
      CONFIG, spaces.space_for(blocks.pad(NETWORK)), num_classes=10,
      image_size=8, targets=(blocks.Frame(10, 8, 6),), inherits=inherits,
      criterion=arcface.criterion(config))


def test_identities_are_learnt_by_angles_and_rewarded_by_accuracy():
  method = identities(False)
  state, batch = method.init(jax.random.key(0)), tiny.batch(8)
  cells = jax.tree.map(lambda a: jnp.asarray(np.asarray(a)[0, 0]), state.drawn)

  @jax.jit
  def both(params):
    return method.loss(params, cells, batch), method.logits(
        params, cells, batch["image"])

  (loss, accuracy), cosines = both(state.params)
  assert cosines.shape == (8, 10) and np.abs(cosines).max() <= 1 + 1e-6
  np.testing.assert_allclose(loss, np.mean(arcface.losses(
      cosines, batch["label"], scale=16.0, margin=0.3)), rtol=1e-5)
  np.testing.assert_allclose(
      accuracy, np.mean(np.argmax(cosines, 1) == batch["label"]))


def test_a_network_inherits_the_embedding_and_the_identities():
  method = identities(True)
  given = blocks.pad(NETWORK)
  found = method.inherit(method.init(jax.random.key(0)), given)
  like = network_lib.module(given, blocks.Frame(10, 8, 6))
  assert networks_lib.misfits(found, jax.eval_shape(functools.partial(
      network_lib.init, like), jax.random.key(0))) == ""


def test_programs_share_the_statistics_that_the_first_one_asks_for():
  method = identities(True)  # No weights are given, which would ask before.
  state, batch = method.init(jax.random.key(0)), tiny.batch(4)
  cells = jax.tree.map(lambda a: a[0, 0], state.drawn)
  jax.eval_shape(method.loss, state.params, cells, batch)
  assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(
      method._statistics))


def test_sizes_of_cells_are_refused():
  with pytest.raises(errors.InputError, match="init-channels is 2 and does"):
    make("cell", init_channels=2)
  with pytest.raises(errors.InputError, match=r"supernet-width is 0\.5"):
    nat.NAT(dataclasses.replace(tiny.SEARCH, supernet_width=0.5), tiny.SPACE,
            num_classes=10, image_size=8)
