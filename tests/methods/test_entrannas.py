"""EnTranNAS and EnTranNAS-DST: coefficients, Engine and Transit cells."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.graph import codec
from natjax.methods import bilevel, entrannas, entrannas_dst
from tests.methods import searching

STEP = jnp.zeros((), jnp.int32)
METHODS = {"entrannas": (entrannas.EnTranNAS, entrannas.EnTranConfig),
           "dst": (entrannas_dst.EnTranNASDST, entrannas_dst.DSTConfig)}


@functools.cache
def make(name="entrannas", space=searching.SPACE, steps_per_epoch=1, **more):
  method, config = METHODS[name]
  return method(config(**searching.CONFIG | more), space,
                steps_per_epoch=steps_per_epoch, **searching.SIZES)


def alphas(seed=0, shape=(5, 4), **more):
  rng = np.random.default_rng(seed)
  return {"alpha": [jnp.asarray(rng.normal(size=shape), jnp.float32)
                    for _ in range(2)], **more}


def test_equation_5_and_its_temperature():
  method = make(temperature=2.0, temperature_decay=0.5, steps_per_epoch=3)
  assert [float(method.temperature(jnp.array(i))) for i in (0, 2, 3, 6)] == [
      2, 2, 1, 0.5]
  alpha = alphas()
  e = np.exp(np.asarray(alpha["alpha"][0])[:, :3] / 0.5)
  got = method.mix(alpha, jnp.array(7))[0]
  np.testing.assert_allclose(got[:, :3], e / e.sum(1, keepdims=True), rtol=1e-5)
  assert not np.any(got[:, 3])  # null is no candidate.


def test_equation_4_takes_elements_and_edges_of_their_own_on_demand():
  strong = np.zeros((5, 4), np.float32)
  strong[2, 1], strong[2, 2], strong[4, 0], strong[3, 3] = 5, 5, 1, 9
  alpha = {"alpha": [jnp.asarray(strong)] * 2}
  kept = lambda **more: np.argwhere(np.asarray(
      make(**more).keep(alpha, STEP)[0])[2:]).tolist()
  assert kept() == [[0, 1], [0, 2]]
  assert kept(distinct_edges=True) == [[0, 1], [2, 0]]


@pytest.mark.parametrize("which,cells,wanted", [
    ("first", 8, {0, 2}), ("last", 8, {7, 5}), ("all", 8, {*range(8)}),
    ("half", 8, {0, 1, 3, 2}), ("first", 3, {0, 1})])
def test_engines(which, cells, wanted):
  assert make(engines=which, cells=cells).engines() == wanted


@pytest.mark.long
def test_alpha_learns_through_engine_cells_alone():
  method = make(engines="first", cells=4)  # Normal 0 and 3, reduction 1 and 2.
  state, batch = method.init(jax.random.key(0)), searching.batches()[0]
  alpha = alphas()
  engine = method.how(alpha, STEP)
  kept = method.how_kept(method.keep(alpha, STEP))
  for i in (2, 3):  # Transit cells: unweighted.
    np.testing.assert_array_equal(engine[i].value, kept[i].value)
    assert {*np.unique(engine[i].value)} == {0, 1}
  grad = jax.jit(jax.grad(lambda alpha, how: _loss(
      method, state.params, how(alpha), batch)), static_argnums=1)
  got = grad(alpha, lambda a: method.how(a, STEP))["alpha"]
  wanted = grad(alpha, lambda a: [
      h if i in (0, 1) else k for i, (h, k) in enumerate(zip(
          method.how(a, STEP), kept, strict=True))])["alpha"]
  for a, b in zip(got, wanted, strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    assert np.abs(a[:, :3]).max() > 0 and not a[:, 3].any()


def _loss(method, params, how, batch):
  logits, _ = method.supernet.run({"params": params}, how, batch["image"])
  return -jnp.mean(jnp.take_along_axis(
      jax.nn.log_softmax(logits), batch["label"][:, None], 1))


@pytest.mark.long
@pytest.mark.parametrize("name,more", [
    ("entrannas", {}), ("entrannas", {"share_features": False}),
    ("dst", {"bottleneck": 2})])
def test_an_iteration_moves_weights_and_alpha(name, more):
  method = make(name, **more)
  state = method.init(jax.random.key(0))
  after, metrics = searching.compiled(method.update)(
      state, *searching.batches())
  moved = lambda part: [float(jnp.abs(a - b).max()) for a, b in zip(
      jax.tree.leaves(getattr(after, part)),
      jax.tree.leaves(getattr(state, part)), strict=True)]
  assert all(np.isfinite(v) for v in metrics.values())
  assert min(moved("alpha")) > 0 and max(moved("params")) > 0
  weights = "edge" if more.get("share_features") is False else "source"
  rows = {a.shape[1] for run in state.params["blocks"]
          for name, part in run.items() if name.startswith("edges")
          for a in jax.tree.leaves(part)}
  assert method.supernet.space.weights == weights
  # Five edges from three sources; of reductions two are inputs.
  assert max(rows) == (5 if weights == "edge" else 2 if more else 3)


def sparse_by_hand(alpha, beta, temperature):
  """Equations 5 and 7 to 9, connection by connection; edges of 2 nodes."""
  found = np.zeros((5, 4))
  p = np.exp(alpha[:, :3] / temperature)
  p /= p.sum(1, keepdims=True)
  for n, into in enumerate(((0, 1), (2, 3, 4))):
    top = max(p[e, k] for e in into for k in range(3))
    t = 1 / (1 + np.exp(-beta[n]))
    for e in into:
      q = [max(p[e, k] / top - t, 0) for k in range(3)]
      if sum(q):
        found[e, :3] = np.array(q) / sum(q)
  return found


def test_equations_7_to_10():
  method = make("dst", temperature=1.0)
  for seed in range(20):
    rng = np.random.default_rng(seed)
    alpha = alphas(seed, beta=[
        jnp.asarray(rng.normal(size=2) * 3, jnp.float32) for _ in range(2)])
    got, kept = method.mix(alpha, STEP), method.keep(alpha, STEP)
    for g in range(2):
      wanted = sparse_by_hand(
          np.asarray(alpha["alpha"][g], np.float64),
          np.asarray(alpha["beta"][g], np.float64), 1.0)
      np.testing.assert_allclose(got[g], wanted, atol=1e-5)
      np.testing.assert_array_equal(kept[g], np.asarray(got[g]) > 0)
      assert np.asarray(kept[g])[:2].any() and np.asarray(kept[g])[2:].any()


def test_gradients_of_alpha_and_of_thresholds_are_finite_differences():
  group = make("dst").connections.groups[0]
  rng = np.random.default_rng(3)
  p0 = rng.normal(size=(5, 4))
  weigh = rng.normal(size=(5, 4))

  @jax.jit
  def value(a, b):
    p = entrannas.darts.softmax(a, group.allowed)
    return jnp.sum(weigh * entrannas_dst.sparsify(
        p, jax.nn.sigmoid(b), group))

  with jax.enable_x64(True):
    args = p0, np.array([-0.5, 0.3])
    grads = jax.device_get(jax.jit(jax.grad(value, (0, 1)))(*args))
    for got, x in zip(grads, args, strict=True):
      for at in np.ndindex(x.shape):
        was, ends = x[at], []
        for step in (1e-6, -1e-6):
          x[at] = was + step
          ends.append(float(value(*args)))
        x[at] = was
        np.testing.assert_allclose(
            got[at], (ends[0] - ends[1]) / 2e-6, atol=1e-6)
  assert np.abs(grads[1]).max() > 1e-3


def test_nothing_over_nothing_is_0_and_has_no_nan_gradient():
  group = make("dst").connections.groups[0]
  p = np.tile(np.float32([0.98, 0.01, 0.01, 0]), (5, 1))
  p[2] = 0.05, 0.03, 0.02, 0  # Pruned altogether.
  function = lambda p, t: (entrannas_dst.sparsify(p, t, group),) * 2
  grads, q = jax.device_get(jax.jit(jax.jacobian(
      function, (0, 1), has_aux=True))(p, np.float32([0.5, 0.5])))
  assert not q[2].any() and q[3].tolist() == [1, 0, 0, 0]
  for g in grads:
    assert np.isfinite(g).all()
  # An edge with one live connection weighs 1 whatever alpha is.
  np.testing.assert_allclose(grads[0][3].sum(0), 0, atol=1e-6)


def test_a_pruned_connection_revives_by_decay_alone():
  # alpha shrinks towards 0 by its decay, though its gradient is 0.
  method = make("dst", temperature=1.0, alpha_learning_rate=0.05,
                alpha_weight_decay=1.0)
  alpha = jnp.zeros((5, 4)).at[:, 0].set(2.0)
  state = method.init(jax.random.key(0))._replace(
      alpha={"alpha": [alpha] * 2, "beta": [jnp.zeros(2)] * 2})
  assert np.asarray(method.keep(state.alpha, STEP)[0]).sum() == 5
  zeros = jax.tree.map(jnp.zeros_like, state.alpha)
  state = jax.jit(lambda state: jax.lax.fori_loop(
      0, 60, lambda _, s: method.descend_alpha(s, zeros), state))(state)
  assert np.asarray(method.keep(state.alpha, STEP)[0]).sum() > 5


def test_the_second_term_of_equation_11():
  method = make("dst", sparsity=0.2)
  beta = [jnp.array([0.0, 1.0]), jnp.array([-1.0, 2.0])]
  t = [1 / (1 + np.exp(-np.asarray(b))) for b in beta]
  wanted = 0.2 * sum(np.mean(-np.log(x)) for x in t)
  np.testing.assert_allclose(
      method.penalty({"beta": beta}), wanted, rtol=1e-6)
  grad = jax.grad(method.penalty)({"beta": beta})["beta"]
  np.testing.assert_allclose(grad[0], -0.2 * (1 - t[0]) / 2, rtol=1e-5)


def test_what_is_derived_computes_what_engines_of_weight_1_compute():
  # At a temperature so low, one connection is left on every edge, and q is 1.
  method = make("dst", temperature=1e-3, engines="all")
  alpha = alphas(beta=[jnp.array([-1.0, 0.5])] * 2)
  how, kept = method.how(alpha, STEP), method.keep(alpha, STEP)
  assert {*np.unique(np.concatenate([h.value for h in how]))} <= {0.0, 1.0}
  state = method.init(jax.random.key(0))
  image = searching.batches()[0]["image"]
  logits = [jax.jit(lambda params, h=h: method.supernet.run(
      {"params": params}, h, image)[0])(state.params)
            for h in (how, method.how_kept(kept))]
  np.testing.assert_allclose(*logits, rtol=1e-5, atol=1e-6)
  found = method.connections.architecture(kept)
  assert len(found.normal.edges) == int(np.asarray(kept[0]).sum())


@pytest.mark.long
def test_under_a_budget_dst_lets_connections_go_but_no_nodes_last():
  method = entrannas_dst.EnTranNASDST(
      entrannas_dst.DSTConfig(init_channels=8, cells=4, max_params="60K"),
      spaces.get("darts"), **searching.SIZES)
  alpha = method.init_alpha(jax.random.key(0))
  all_of_them = method.keep(alpha, STEP)
  assert [int(k.sum()) for k in all_of_them] == [98, 98]
  found = method.within(all_of_them, method.mix(alpha, STEP))
  assert method.connections.cost(found).params <= 60000
  for mask, was, group in zip(found, all_of_them, method.connections.groups,
                              strict=True):
    assert not (mask & ~np.asarray(was)).any() and mask.sum() > 40
    assert all(mask[list(into)].any() for into in group.nodes)


def test_dst_in_a_space_of_one_operation_per_edge():
  space = spaces.get("nasbench201")
  method = entrannas_dst.EnTranNASDST(
      entrannas_dst.DSTConfig(epochs=2, temperature=1.0, supernet_width=0.25),
      space, **searching.SIZES)
  rng = np.random.default_rng(0)
  alpha = {"alpha": [jnp.asarray(rng.normal(size=(6, 5)), jnp.float32)],
           "beta": [jnp.full(3, 1.0)]}
  kept = np.asarray(method.keep(alpha, STEP)[0])
  assert kept.sum(1).max() == 1
  found = method.connections.architecture(kept[None])
  names = [edge.operation for edge in found.blocks[0].edges]
  for mask, name in zip(kept, names, strict=True):
    assert name == (space.candidates[mask.argmax()] if mask.any() else "null")


@pytest.mark.parametrize("closed", [True, False])
def test_a_cell_that_lets_nothing_through_is_opened(closed):
  method = entrannas.EnTranNAS(
      entrannas.EnTranConfig(epochs=2, temperature=1.0, supernet_width=0.25),
      spaces.get("nasbench201"), **searching.SIZES)
  alpha = np.zeros((6, 5), np.float32)
  alpha[3:, 4] = 5.0 * closed  # Null into the last node.
  alpha[5, 1] = 4.9  # A convolution, 1x1, from the third node.
  state = bilevel.SearchState(jnp.int32(1), None, {
      "alpha": [jnp.asarray(alpha)]}, None, None, None)
  derived = method.derive(state, None, lambda *_, split: 0.5, None)
  assert derived.report["reconnected"] is closed
  assert not derived.report["cheapened"]
  assert derived.architecture.blocks[0].edges[5].operation == "conv_1x1"
  row = method.observe(state, 0)
  assert row["architecture"] == codec.to_dict(
      method.connections.architecture(method.found(state)))
  assert np.asarray(row["kept"]["blocks 0-4, 6-10, 12-16"])[5, 1] == 1


@pytest.mark.parametrize("name,change,message", [
    ("entrannas", {"engines": "some"}, "choose one of first, last, half, all"),
    ("entrannas", {"engines": "half"}, "there is one normal cell"),
    ("entrannas", {"temperature": 0.0}, "temperature is 0.0 and must be above"),
    ("entrannas", {"temperature_decay": 0.0}, "temperature-decay is 0.0"),
    ("entrannas", {"temperature_decay": 1.5}, "must lie in"),
    ("entrannas", {"temperature_decay": 1e-9}, "brings the temperature to 0"),
    ("entrannas", {"bottleneck": 3}, "does not divide 4 channels"),
    ("dst", {"sparsity": -0.1}, "sparsity is -0.1 and must not be negative"),
    ("dst", {"distinct_edges": True}, "number of connections is learnt"),
])
def test_settings_that_do_not_fit_are_refused(name, change, message):
  with pytest.raises(errors.InputError, match=message):
    make(name, **change)
