"""Differentiable transformation: half-steps, derivation, the move."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from natjax import errors, zoo
from natjax.costs import exact
from natjax.graph import blocks
from natjax.methods import differentiable, supervised, theta_space
from natjax.networks import trees
from natjax.training import devices
from natjax.training import method as base
from tests import tiny

NETWORK = blocks.scale(zoo.get("resnet20"), 0.25)
NETWORK = NETWORK._replace(blocks=(NETWORK.blocks[0], NETWORK.blocks[3]))
TRAIN = dataclasses.replace(
    tiny.TRAIN, **supervised.OF_CELLS, epochs=4, learning_rate=0.1, cutout=0)
NONE, ID, SAME = theta_space.NONE, theta_space.ID, theta_space.SAME


@functools.cache
def make(train=(), **changes):
  config = differentiable.DifferentiableConfig(
      **{"architecture_epochs": 2, "theta_learning_rate": 0.01, **changes})
  return differentiable.Differentiable(
      config, dataclasses.replace(TRAIN, **dict(train)), NETWORK,
      num_classes=10, image_size=tiny.IMAGE_SIZE, share="full",
      steps_per_epoch=3)


@functools.cache
def start():
  return make().init(jax.random.key(0))


def step(method, state, batch, num_devices=1):
  """One update over devices; returns the state and the metrics."""
  run = lambda state, image, label: method.update(
      state, {"image": image, "label": label})
  shard = lambda a: a.reshape(num_devices, -1, *a.shape[1:])
  return devices.spread(
      run, devices.choose(num_devices), sharded=(False, True, True))(
          state, shard(batch["image"]), shard(batch["label"]))


def gradients(method, params, theta, state, batch):
  """Of w and theta, by plain differentiation on one device."""
  def loss(params, theta):
    return jax.vmap(
        lambda b: method.loss(params, theta, state, b, jax.random.key(0))[0],
        axis_name=base.AXIS)(jax.tree.map(lambda a: a[None], batch))[0]

  return jax.jit(jax.grad(loss, argnums=(0, 1)))(params, theta)


def close(a, b, **tolerance):
  for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
    np.testing.assert_allclose(x, y, **{"rtol": 1e-3, "atol": 1e-5,
                                        **tolerance})


def test_the_gradient_of_theta_takes_two_thirds_of_that_of_w():
  method, state, batch = make(), start(), tiny.batch(8)

  def flops(of):
    def loss(params, theta):
      return jax.vmap(
          lambda b: method.loss(params, theta, state, b, jax.random.key(0))[0],
          axis_name=base.AXIS)(jax.tree.map(lambda a: a[None], batch))[0]

    return jax.jit(jax.grad(loss, of)).lower(
        state.params, state.theta).cost_analysis()["flops"]

  # Before the compiler has left out anything; BN's are among them.
  assert 0.5 < flops(1) / flops(0) < 0.85
  assert flops((0, 1)) / flops(0) == pytest.approx(1, rel=0.1)


@pytest.mark.long
@pytest.mark.parametrize("one_backward", [False, True])
def test_w_takes_a_step_and_then_theta_on_the_same_batch(one_backward):
  method = make(one_backward=one_backward, theta_optimizer="sgd",
                theta_learning_rate=0.05)
  batch = tiny.batch(8)
  state = method.init(jax.random.key(0))
  after, metrics = step(method, state, batch)
  g_w, g_theta = gradients(method, state.params, state.theta, state, batch)
  updates, _ = method.optimizer.update(g_w, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  if not one_backward:
    _, g_theta = gradients(method, params, state.theta, state, batch)
  close(after.params, params)
  close(after.theta, jax.tree.map(
      lambda t, g: t - 0.05 * g, state.theta, g_theta))
  assert ("theta_loss" in metrics) != one_backward
  if not one_backward:
    assert metrics["theta_loss"] < metrics["loss"]  # w has learnt the batch.
  assert int(after.step) == 1
  for t in after.theta:
    np.testing.assert_array_equal(t[:, NONE], 0)


@pytest.mark.long
def test_four_devices_step_as_one_on_the_joined_batch():
  method = make(train=(("sync_bn", True), ("batch_size", 16)),
                theta_optimizer="sgd")
  state, batch = method.init(jax.random.key(0)), tiny.batch(16)
  one, metrics_one = step(method, state, batch)
  four, metrics_four = step(method, state, batch, 4)
  close((one.params, one.theta), (four.params, four.theta), rtol=1e-3,
        atol=1e-4)
  close(metrics_one, metrics_four)


@pytest.mark.long
@pytest.mark.parametrize("one_backward", [False, True])
def test_parts_of_a_batch_step_as_devices_that_have_a_part_each(one_backward):
  batch = tiny.batch(16)
  own = [make(train=(("accumulate", parts), ("batch_size", 16)),
              theta_optimizer="sgd", one_backward=one_backward)
         for parts in (1, 4)]
  found = [step(method, method.init(jax.random.key(0)), batch, count)
           for method, count in zip(own, (4, 1), strict=True)]
  (apart, metrics_apart), (parts, metrics_parts) = found
  close((apart.params, apart.theta), (parts.params, parts.theta), atol=1e-4)
  close(metrics_apart, metrics_parts)


def weighed_by(values):
  """The state at the start, with theta of edges set: {(group, edge): ...}."""
  theta = [np.array(t) for t in start().theta]
  for (g, e), value in values.items():
    theta[g][e] = value
  stats = jax.tree.map(lambda x: x + 0.1, start().batch_stats)
  slots = jax.tree.map(
      lambda x: x + 1.0 if x.dtype == jnp.float32 else x, start().opt_state)
  return start()._replace(theta=tuple(map(jnp.asarray, theta)),
                          batch_stats=stats, opt_state=slots,
                          step=jnp.array(6))


HARD = {(0, 0): (0, 1, 0), (0, 1): (0, 1, 0.9), (0, 3): (0, 0, 1),
        (1, 0): (0, 1, 0), (1, 3): (0, -1e-9, -1e-9)}


def trained(over):
  """The network that a handover trains."""
  return supervised.Supervised(
      TRAIN, over.architecture, num_classes=10, image_size=tiny.IMAGE_SIZE)


def logits(method, state, **mix):
  net = method.objective.network
  return net.apply({"params": state.params, "batch_stats": state.batch_stats},
                   tiny.batch(4)["image"], **mix)[0]


def test_what_survives_moves_and_computes_the_same():
  method, state = make(), weighed_by(HARD)
  derived = method.end(state)
  changed = [e.operation for b in derived.architecture.blocks for e in b.edges]
  assert changed == ["skip_connect", "skip_connect", "conv_3x3",
                     "skip_connect", "skip_connect", "null", "conv_3x3",
                     "null"]
  # Every theta that was chosen is 1 here, so that nothing is lost.
  np.testing.assert_allclose(
      logits(trained(derived), derived.state),
      logits(method, state, edge=method.space.weigh(state.theta)),
      rtol=1e-4, atol=1e-6)
  assert "edge0_skip_connect" in derived.state.params["block1"]
  assert "edge0_conv_3x3" not in derived.state.params["block1"]
  trace = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(
      derived.state.opt_state) if "edge0_skip_connect" in str(path)]
  assert trace and all((leaf == 1).all() for leaf in trace)
  assert int(derived.state.step) == 6


def test_the_second_stage_goes_on_with_the_schedule():
  method = make()
  derived = method.method().stages[-1].end(weighed_by(HARD))
  stage, = derived.method.stages
  assert (stage.name, stage.epochs, stage.end) == ("network", 2, None)
  update = stage.phases[0].update
  assert update.__self__.steps == 12  # Of both stages.
  after, _ = step(update.__self__, derived.state, tiny.batch(8))
  before = jax.tree.leaves(derived.state.params)
  assert all(np.isfinite(x).all() for x in jax.tree.leaves(after.params))
  assert any((a != b).any() for a, b in zip(
      before, jax.tree.leaves(after.params), strict=True))


def test_the_first_stage_takes_half_of_the_epochs_unless_told():
  for epochs, first in ((4, 2), (3, 2), (1, 1)):
    method = make(train=(("epochs", epochs),), architecture_epochs=0)
    assert method.method().stages[0].epochs == first
    assert method.epochs == first


def test_folding_keeps_what_the_network_computes():
  values = {(0, 0): (0, 0.2, 0.7), (0, 2): (0, 0, 1.6), (1, 0): (0, 1.3, 0.4),
            (1, 2): (0, -0.1, 0.5)}
  values = {k: (0, v[1] if v[1] > v[2] else 0, v[2] if v[2] > v[1] else 0)
            for k, v in values.items()}
  state = weighed_by(values)
  weighed = logits(make(), state, edge=make().space.weigh(state.theta))
  plain = make().end(state)
  folded = make(fold=True).end(state)
  assert np.abs(logits(trained(plain), plain.state) - weighed).max() > 1e-3
  np.testing.assert_allclose(logits(trained(folded), folded.state), weighed,
                             rtol=1e-4, atol=1e-6)
  # The skip of the first block holds nothing to fold into.
  assert folded.report["not_folded"] == [["block 0", "1 -> 3"]]
  assert ["block 1", "1 -> 2"] in folded.report["folded"]


def test_what_the_guard_overruled_is_reported():
  derived = make().end(weighed_by(
      {(0, 2): (0, -0.2, -0.5), (0, 3): (0, -0.4, -0.9)}))
  assert {"cell": "block 0", "source": 2, "target": 3, "theta": "null",
          "chosen": "skip_connect"} in derived.report["guarded"]


def test_budgets_are_kept():
  method = make(max_params="0.6x")
  derived = method.end(weighed_by({}))
  cost = exact.network(derived.architecture, method.space.place)
  assert cost.params <= 0.6 * method.space.cost.params
  with pytest.raises(errors.NotMet):
    make(max_params="0.01x")


@pytest.mark.parametrize("changes,message", [
    ({"architecture_epochs": 5}, "architecture-epochs"),
    ({"architecture_epochs": -1}, "architecture-epochs"),
    ({"theta_optimizer": "lamb"}, "sgd, adam"),
    ({"theta_learning_rate": -1.0}, "theta-learning-rate"),
    ({"theta_momentum": 1.0}, "theta-momentum"),
])
def test_settings_that_do_not_fit_are_refused(changes, message):
  with pytest.raises(errors.InputError, match=message):
    make(**changes)


def test_it_derives_the_network_with_the_surviving_variables():
  method, state = make(), weighed_by(HARD)
  over = method.end(state)
  found = method.method().derive(state, NETWORK, None, jax.random.key(0))
  assert found.architecture == over.architecture
  assert found.report == over.report
  close(found.variables["params"], over.state.params, rtol=0, atol=0)
  close(found.variables["batch_stats"], over.state.batch_stats, rtol=0, atol=0)


def test_only_what_is_there_can_move():
  with pytest.raises(ValueError, match="not there"):
    trees.restrict({"a": np.ones(2)}, {"a": np.ones(3)})
