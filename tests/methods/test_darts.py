"""DARTS: what is derived, and the gradient of alpha in both orders."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.methods import bilevel, darts, entrannas
from natjax.operations import primitives
from natjax.training import optimizers
from tests.methods import searching


@functools.cache
def make(order="first", **more):
  config = darts.DartsConfig(**searching.CONFIG | more, order=order)
  return darts.Darts(config, searching.SPACE, **searching.SIZES)


@functools.cache
def start():
  return make().init(jax.random.key(0))


def alpha_gradient(method, state, batches):
  """The gradient that an update hands to alpha's optimizer."""

  def run(state, *batches):
    with mock.patch.object(method, "descend_alpha", lambda s, g: s._replace(
        alpha=g)):
      return method.update(state, *batches)[0].alpha

  return searching.compiled(run)(state, *batches)


def test_mix_is_the_softmax_of_equation_2():
  alpha = [np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
           for _ in range(2)]
  for got, a in zip(make().mix({"alpha": alpha}, jnp.zeros((), int)), alpha,
                    strict=True):
    e = np.exp(a)
    np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=1e-5)


def test_an_edge_weighs_what_may_stand_there_alone():
  s1 = spaces.get("s1")
  method = darts.Darts(darts.DartsConfig(**searching.CONFIG), s1,
                       **searching.SIZES)
  weights = method.mix({"alpha": [jnp.zeros((14, len(s1.candidates)))] * 2},
                       jnp.zeros((), int))
  for cell, got in zip(s1.choices, weights, strict=True):
    for edge, row in zip(cell, got, strict=True):
      assert {s1.candidates[o] for o in np.flatnonzero(row)} == {*edge}
      np.testing.assert_allclose(row[row > 0], 0.5)


def test_two_edges_are_kept_by_their_best_candidate_but_null():
  # Node 2 has both of its edges; node 3 the first and the third: null, which
  # weighs most on the second, does not count.
  alpha = np.zeros((5, 4), np.float32)
  alpha[0, 1] = alpha[1, 2] = 1
  alpha[2, 0], alpha[3, 3], alpha[4, 2] = 2, 9, 3
  kept = make().keep({"alpha": [alpha, alpha]}, jnp.zeros((), int))
  assert np.argwhere(np.asarray(kept[0])).tolist() == [
      [0, 1], [1, 2], [2, 0], [4, 2]]
  found = make().connections.architecture(kept)
  assert found.normal.edges == (
      ("skip_connect", 0, 2), ("dil_conv_3x3", 1, 2), ("max_pool_3x3", 0, 3),
      ("dil_conv_3x3", 2, 3))


@pytest.mark.long
def test_an_iteration_takes_alphas_step_before_that_of_the_weights():
  state, (train, valid) = start(), searching.batches()
  after, metrics = searching.compiled(make().update)(state, train, valid)
  by_hand = searching.compiled(
      lambda state, train, valid: _by_hand(make(), state, train, valid))
  wanted = by_hand(state, train, valid)
  close = functools.partial(np.testing.assert_allclose, rtol=2e-4, atol=1e-6)
  jax.tree.map(close, (after.params, after.alpha), wanted)
  assert after.step == 1 and metrics["alpha_loss"] != metrics["loss"]


def _by_hand(method, state, train, valid):
  keys = jax.random.split(jax.random.key(0))
  grad = lambda of, state, batch: jax.grad(method.loss, of, has_aux=True)(
      state.params, state.alpha, state.step, batch, keys[0])[0]
  state = method.descend_alpha(state, grad(1, state, valid))
  state = method.descend(state, grad(0, state, train))
  return state.params, state.alpha


def outer_loss(method, state, train, valid, alpha):
  """L_val(w'(alpha), alpha), written down as it stands in the paper."""
  loss = lambda params, batch: method.loss(
      params, alpha, state.step, batch, jax.random.key(0))[0]
  w = method._stepped(state, jax.grad(loss)(state.params, train))
  return loss(w, valid)


@pytest.fixture(scope="module")
def doubles():
  """A state and batches in float64, momentum and clipping at work.

  And the gradient of alpha there, of second order.
  """
  with jax.enable_x64(True):
    wide = lambda tree: jax.tree.map(
        lambda a: a.astype(jnp.float64) if a.dtype == jnp.float32 else a, tree)
    method = make("second", learning_rate=0.1, max_grad_norm=0.5)
    method.supernet.__dict__["dtype"] = jnp.float64
    state = method.init(jax.random.key(0))
    state = state._replace(
        params=wide(state.params), alpha=wide(state.alpha),
        opt_state=jax.tree.map(
            lambda a: a + 0.01 if a.dtype == jnp.float64 else a,
            wide(state.opt_state)))
    batches = searching.batches(dtype=jnp.float64)
    return method, state, batches, alpha_gradient(
        method, state, batches)["alpha"]


@pytest.mark.long
def test_second_order_equals_central_differences(doubles):
  method, state, (train, valid), got = doubles
  with jax.enable_x64(True), primitives.plain_derivatives():
    loss = jax.jit(lambda alpha: outer_loss(
        method, state, train, valid, {"alpha": alpha}))
    alpha, eps = state.alpha["alpha"], 1e-5
    for seed in range(3):
      rng = np.random.default_rng(seed)
      along = [rng.normal(size=a.shape) for a in alpha]
      up, down = (float(loss([a + s * d for a, d in zip(
          alpha, along, strict=True)])) for s in (eps, -eps))
      wanted = (up - down) / (2 * eps)
      slope = sum(np.sum(np.asarray(g) * d)
                  for g, d in zip(got, along, strict=True))
      first = 1e-3 * abs(wanted)
      assert abs(slope - wanted) < max(first, 1e-7), (slope, wanted)


@pytest.mark.long
def test_finite_differences_come_to_the_same(doubles):
  _, state, batches, wanted = doubles
  finite = make("finite", learning_rate=0.1, max_grad_norm=0.5)
  finite.supernet.__dict__["dtype"] = jnp.float64
  # 0.01 away, other pixels win at ReLUs and pools, and it is far off.
  with jax.enable_x64(True), mock.patch.object(
      darts, "_radius", lambda along: 1e-6 / jnp.sqrt(sum(
          jnp.sum(v**2) for v in jax.tree.leaves(along)))):
    got = alpha_gradient(finite, state, batches)["alpha"]
  for a, b in zip(got, wanted, strict=True):
    np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max())


class Quadratic(darts.Darts):
  """L_train = (w - a)^2 / 2, L_val = (w - 3)^2 / 2 + a, of numbers."""

  def __init__(self, order):
    self.config = darts.DartsConfig(
        order=order, learning_rate=0.1, final_learning_rate=0.1, momentum=0.0,
        weight_decay=0.0, max_grad_norm=0.0)
    self.optimizer = optimizers.scheduled(self.config, 10)
    self.alpha_optimizer = optimizers.coupled(
        "adam", 1e-3, momentum=0.5)

  def loss(self, params, alpha, step, batch, rng):
    w, a, train = params["w"], alpha["alpha"], batch["label"]
    value = jnp.where(train == 1, (w - a)**2 / 2, (w - 3)**2 / 2 + a)
    return value, jnp.zeros(())


@pytest.mark.parametrize("order", darts.ORDERS)
def test_the_closed_form_of_a_quadratic(order):
  # w' = w - 0.1 (w - a) = 1.9, dw'/da = 0.1, d/da L_val = 1 + 0.1 (w' - 3).
  method = Quadratic(order)
  w, a = jnp.array(2.0), jnp.array(1.0)
  state = bilevel.SearchState(
      jnp.zeros((), jnp.int32), {"w": w}, {"alpha": a},
      method.optimizer.init({"w": w}), method.alpha_optimizer.init(
          {"alpha": a}), jax.random.key(0))
  batch = lambda label: {"label": jnp.array(label)}
  got = alpha_gradient(method, state, (batch(1), batch(0)))["alpha"]
  wanted = 1.0 if order == "first" else 1 + 0.1 * (1.9 - 3)
  np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize("change,message", [
    ({"order": "third"}, "order is 'third'; choose one of first, second"),
    ({"epochs": 0}, "epochs is 0 and must be at least 1"),
    ({"warmup_epochs": 2}, "warmup-epochs is 2 and must lie in"),
    ({"weights_fraction": 1.0}, "weights-fraction is 1.0 and must lie between"),
    ({"alpha_momentum": 1.0}, "alpha-momentum is 1.0 and must be below 1"),
    ({"supernet_width": 0.5}, "does not apply to a space of cells"),
    ({"max_params": "0.5x"}, "nothing to take a multiple of"),
    ({"dtype": "float16"}, "choose one of float32, bfloat16"),
])
def test_settings_that_do_not_fit_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message):
    darts.Darts(darts.DartsConfig(**searching.CONFIG | change),
                searching.SPACE, **searching.SIZES)


def test_loose_ends_are_refused():
  with pytest.raises(errors.InputError, match="concatenates the nodes that"):
    darts.Darts(darts.DartsConfig(**searching.CONFIG),
                spaces.get("nat_loose_end"), **searching.SIZES)


def test_a_budget_that_nothing_meets_is_refused_at_once():
  with pytest.raises(errors.InputError, match="the cheapest that was"):
    darts.Darts(darts.DartsConfig(**searching.CONFIG, max_params="100"),
                searching.SPACE, **searching.SIZES)


def test_what_is_derived_keeps_to_the_budget():
  limit = 2200
  method = darts.Darts(
      darts.DartsConfig(**searching.CONFIG, max_params=str(limit)),
      searching.SPACE, **searching.SIZES)
  alpha = np.zeros((5, 4), np.float32)
  alpha[:, 2] = 3  # The dearest on every edge.
  state = start()._replace(alpha={"alpha": [jnp.asarray(alpha)] * 2})
  cost = method.connections.cost
  assert cost(method.keep(state.alpha, state.step)).params > limit
  assert cost(method.found(state)).params <= limit
  row = method.observe(state, 0)
  assert row["kept"]["normal"] == np.asarray(
      method.found(state)[0], float).tolist()


@pytest.mark.parametrize("seed", range(6))
def test_a_budget_leaves_a_nodes_edges_distinct(seed):
  method = darts.Darts(
      darts.DartsConfig(init_channels=8, cells=4, epochs=2, max_params="26K"),
      spaces.get("darts"), **searching.SIZES)
  rng = np.random.default_rng(seed)
  state = start()._replace(alpha={"alpha": [
      jnp.asarray(rng.normal(size=(14, 8)), jnp.float32) for _ in range(2)]})
  found = method.found(state)
  assert method.connections.cost(found).params <= 26000
  for mask, group in zip(found, method.connections.groups, strict=True):
    assert mask.sum(1).max() == 1
    assert all(mask[list(into)].sum() == 2 for into in group.nodes)


@pytest.mark.long
def test_one_trace_serves_a_whole_search():
  # Its temperature depends on the step, besides.
  method = entrannas.EnTranNAS(
      entrannas.EnTranConfig(**searching.CONFIG, alpha_learning_rate=1.0),
      searching.SPACE, **searching.SIZES)
  count = []
  original = method.how

  def counted(alpha, step):
    count.append(1)
    return original(alpha, step)

  with mock.patch.object(method, "how", counted):
    step = searching.compiled(method.update)
    state, found = method.init(jax.random.key(0)), set()
    for k in range(4):
      found.add(str(method.connections.architecture(method.found(state))))
      state, _ = step(state, *searching.batches()[::1 if k % 2 else -1])
  assert len(count) == 1, "an iteration was traced anew"
  assert len(found) > 1  # What is derived did change.


def test_presets_hold_for_both_kinds_of_spaces():
  for preset in ("demo", "small", "paper"):
    for kind in ("cells", "blocks"):
      config = darts.ENTRY.presets(preset, "supervised", kind)
      full = bilevel.resolve(config, kind)
      assert (full.cells > 0) == (kind == "cells")
  assert dataclasses.asdict(darts.ENTRY.presets(
      "paper", "supervised", "cells"))["order"] == "second"
