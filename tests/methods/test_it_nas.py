"""IT-NAS: the attention against a naive one, selection, margins."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.graph import shapes
from natjax.methods import it_nas
from natjax.networks import attention, rules
from natjax.training import evaluation, fit
from tests.methods import searching


@functools.cache
def make(space=searching.SPACE, steps_per_epoch=1, **more):
  return it_nas.ITNAS(it_nas.ITConfig(**searching.CONFIG | more), space,
                      steps_per_epoch=steps_per_epoch, **searching.SIZES)


def tokens(count=3, size=2, width=3, batch=2):
  rng = np.random.default_rng(0)
  return [jnp.asarray(rng.normal(size=(batch, size, size, width)), jnp.float32)
          for _ in range(count)]


def naive(query, key, position, indicator, outputs):
  """Row 0 of the dense self-attention over n + 1 tokens, W_q and W_k whole.

  Args:
    query, key: W_q and W_k, f32[d, d].
    position: f32[n + 1, c], the same at every pixel.
    indicator: f32[d].
    outputs: n images [B, s, s, c].
  """
  batch, size, _, width = outputs[0].shape
  flat = [jnp.broadcast_to(indicator, (batch, len(indicator)))] + [
      y.reshape(batch, -1) for y in outputs]
  spots = jnp.tile(position[:, None], (1, size * size, 1)).reshape(
      len(position), -1)
  x = jnp.stack(flat, 1) + spots  # [B, n + 1, d].
  logits = jnp.einsum("bid,bjd->bij", x @ query.T, x @ key.T)
  a = jax.nn.softmax(logits / np.sqrt(size * size * width), -1)
  return a[:, 0]


@pytest.mark.parametrize("form", attention.TOKENS)
def test_attention_is_that_of_whole_matrices(form):
  outputs, size, width = tokens(), 2, 3
  rng = np.random.default_rng(1)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  position, indicator = draw(4, width), draw(size * size * width)
  w_query, w_key = (draw(12, 12) for _ in range(2))
  if form != "full":
    # Of which W_q can be had that gives such a query.
    pixels = draw(size, size) if form == "separable" else np.ones(
        (size, size), np.float32)
    pixels = pixels / (1 if form == "separable" else size**2)
    channels = draw(width)
    wanted = (pixels[..., None] * channels).reshape(-1)
    if form == "gap":  # Its scale is that of c numbers.
      wanted = wanted * np.sqrt(size**2)
    now = indicator + np.tile(position[0], size * size)
    w_key, w_query = np.eye(12, dtype=np.float32), np.outer(
        wanted, now) / np.sum(now**2)
  u = w_key.T @ w_query @ (indicator + np.tile(position[0], size * size))
  lite = attention.Attention(form)

  # u is given; IT's own logit stands in its position, as the form has it.
  def learnt(position, outputs):
    params = {"query": u.reshape(size, size, width), "position": position}
    if form == "separable":
      params |= {"query": channels, "pixels": pixels}
    if form == "gap":
      params["query"] = channels
    query = params["query"] if form == "full" else (
        (pixels * (size**2 if form == "gap" else 1))[..., None] * channels)
    own = jnp.sum(u.reshape(size, size, width) * (
        indicator.reshape(size, size, width) + position[0]))
    total = jnp.sum(query, (0, 1)) if form != "gap" else channels
    scale = np.sqrt(size * size * width / (
        width if form == "gap" else size * size * width))
    first = own / scale * total / jnp.sum(total**2)
    params["position"] = jnp.concatenate([first[None], position[1:]])
    return lite.weights(params, outputs, jnp.ones(3))

  whole = lambda position, outputs: naive(
      w_query, w_key, position, indicator, outputs)
  fixed = lambda f: lambda later, outputs: f(
      jnp.concatenate([position[:1], later]), outputs)
  weigh = draw(2, 4)

  def sloped(f, later):
    def value(*args):
      found = fixed(f)(*args)
      return jnp.sum(weigh * found), found
    (_, found), slopes = jax.value_and_grad(value, (0, 1), has_aux=True)(
        later, outputs)
    return found, slopes

  values, grads = zip(*jax.jit(lambda later: [
      sloped(f, later) for f in (learnt, whole)])(position[1:]), strict=True)
  np.testing.assert_allclose(*values, rtol=2e-4, atol=1e-6)
  for got, wanted in zip(*map(jax.tree.leaves, grads), strict=True):
    np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=1e-6)


def test_what_may_not_stand_weighs_nothing():
  lite = attention.Attention()
  params = jax.tree.map(lambda x: x[0], lite.init(
      jax.random.key(0), 1, 3, shapes.Shape(3, 2, 1)))
  a = lite.weights(params, tokens(), jnp.array([1.0, 0.0, 1.0]))
  assert not a[:, 2].any()
  np.testing.assert_allclose(a.sum(1), 1, rtol=1e-6)


def test_an_encoder_is_flaxs():
  lite = attention.Attention(reentry="encoder", reduction=2)
  params = jax.tree.map(lambda x: x[0], lite.init(
      jax.random.key(0), 1, 3, shapes.Shape(4, 2, 1)))
  z = tokens(1, width=4)[0]

  def norm(x, k):
    # Over all of an image; scale and bias per channel.
    flat = nn.LayerNorm(epsilon=1e-6, use_scale=False, use_bias=False).apply(
        {}, x.reshape(len(x), -1)).reshape(x.shape)
    return flat * params["scale"][k] + params["bias"][k]

  h = norm(params["token"] + z, 0)
  wanted = norm(h + nn.gelu(h @ params["into"]) @ params["out"], 1)
  np.testing.assert_allclose(lite.encode(params, z), wanted, atol=1e-5)


def test_the_pullback_is_the_gradient():
  lite = attention.Attention()
  functions = [lambda params, x, key: x * params["a"],
               lambda params, x, key: jnp.tanh(x)]
  value = jax.tree.map(lambda x: x[0], lite.init(
      jax.random.key(0), 1, 3, shapes.Shape(3, 2, 1)))
  value = jax.tree.map(lambda x: 30 * x, value) | {"allowed": jnp.ones(3)}
  rule = lite.rule(functions, (0, 2))
  x, params = tokens(1)[0], {"a": jnp.float32(2.0)}
  g = tokens(2)[1]
  got = jax.jit(lambda p, v, x: rule.pullback(p, rules.Data(v), x, g))(
      params, value, x)
  wanted = jax.jit(jax.grad(lambda p, v, x: jnp.sum(g * rule.forward(
      p, rules.Data(v), x)), (0, 1, 2)))(params, value, x)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
  _, told = lite.telling(functions, (0, 2)).forward(
      params, rules.Data(value), x)
  assert told["told"].shape == (2, 3) and not told["told"][:, 1].any()


def few_cells():
  """NAS-Bench-201's space, of a cell in each of two stages."""
  space = spaces.get("nasbench201")
  blocks = tuple(space.graph.blocks[i] for i in (0, 5, 6))
  return space._replace(graph=space.graph._replace(blocks=blocks))


@pytest.mark.long
@pytest.mark.parametrize("space", ["tiny", "nasbench201"])
def test_a_step_moves_everything_and_tells_the_attention(space):
  method = make() if space == "tiny" else make(
      few_cells(), init_channels=None, cells=None, supernet_width=0.25)
  state, batch = method.init(jax.random.key(0)), searching.batches()[0]
  after, metrics = searching.compiled(
      lambda state, batch, _: method.update(state, batch))(state, batch, None)
  assert np.isfinite(metrics["loss"])
  for before, now in zip(jax.tree.leaves(state.params["attention"]),
                         jax.tree.leaves(after.params["attention"]),
                         strict=True):
    assert (before != now).any()
  for group, a in zip(method.connections.groups, after.attention, strict=True):
    count = group.allowed.sum(1, keepdims=True)
    # Nearly uniform at first, IT's share left out.
    np.testing.assert_allclose(
        np.asarray(a), group.allowed / (count + 1), atol=0.02)

  @jax.jit
  def both(params):
    again, _ = method.supernet.run(
        {"params": params["supernet"]}, [
            h._replace(make=method.attention.rule, tells=False)
            if h.tells else h for h in method.how(params["attention"])],
        batch["image"])
    return *method.run(params, batch), again

  logits, attended, again = both(state.params)
  # Of one group the mean over its blocks, each with a transformer of its own.
  assert [a.shape[0] for a in attended] == [4] * len(attended)
  np.testing.assert_allclose(logits, again, atol=1e-5)


@pytest.mark.long
def test_selection_and_margins():
  method = make()
  state, (one, two) = method.init(jax.random.key(0)), searching.batches()
  state = state._replace(params={**state.params, "attention": jax.tree.map(
      lambda x: 20 * x, state.params["attention"])})

  def score(function, argument, *, split, each=False):
    assert split == "architecture"
    rows = [function(argument, batch) for batch in (one, two)]
    every = jax.tree.map(lambda *x: np.concatenate(x).astype(np.float64), *rows)
    return every if each else jax.tree.map(lambda x: x.mean(0), every)

  derived = method.derive(state, None, score, jax.random.key(0))
  every = [np.concatenate(parts) for parts in zip(*(
      method.run(state.params, batch)[1] for batch in (one, two)), strict=True)]
  for group, a in zip(method.connections.groups, every, strict=True):
    mean = a.mean(0)
    for e, row in enumerate(derived.report["attention"][group.name]):
      first, second = np.argsort(-mean[e, :3])[:2]
      names = searching.SPACE.candidates
      assert (row["strongest"], row["next"]) == (names[first], names[second])
      apart = a[:, e, first] - a[:, e, second]
      np.testing.assert_allclose(row["margin"], apart.mean(), atol=1e-6)
      np.testing.assert_allclose(
          row["standard_error"], apart.std() / np.sqrt(8), atol=1e-5)
      assert row["tie"] == (row["margin"] < 2 * row["standard_error"])
    # Node 2 keeps both of its edges, node 3 two of three.
    row, = derived.report["nodes"][group.name]
    best = {e: mean[e, :3].argmax() for e in (2, 3, 4)}
    first, second, third = sorted(best, key=lambda e, m=mean, b=best: -m[
        e, b[e]])
    assert row["node"] == 3
    assert [(*edge["edge"], edge["operation"], edge["kept"])
            for edge in row["edges"]] == [
                (*group.cell.edges[e][1:], names[best[e]], e != third)
                for e in (first, second, third)]
    apart = a[:, second, best[second]] - a[:, third, best[third]]
    np.testing.assert_allclose(row["margin"], apart.mean(), atol=1e-6)
    np.testing.assert_allclose(
        row["standard_error"], apart.std() / np.sqrt(8), atol=1e-5)
    assert row["tie"] == (row["margin"] < 2 * row["standard_error"])
    cell = getattr(derived.architecture, group.name)
    assert {edge[1:] for edge in cell.edges if edge.target == 3} == {
        tuple(edge["edge"]) for edge in row["edges"] if edge["kept"]}
  for cell in (derived.architecture.normal, derived.architecture.reduce):
    pairs = [edge[1:] for edge in cell.edges]
    assert len(pairs) == len({*pairs}) == 4  # Two edges of their own per node.
    assert "null" not in {edge.operation for edge in cell.edges}


def test_standard_errors_of_small_spreads_are_right():
  """Of float32 attention near 0.2 that differs by 1e-5 from image to image."""
  method, rng = make(), np.random.default_rng(0)
  count, spread = 4096, 1e-5
  attended = [(0.2 + spread * rng.normal(size=(count, *group.allowed.shape))
               ).astype(np.float32) for group in method.connections.groups]

  def function(argument, batch):
    return jnp.take(argument, batch["number"] * 512 + jnp.arange(512), 0)

  split = fit.Split(np.zeros((count, 1, 1, 3), np.uint8),
                    np.zeros(count, np.int32))
  same = lambda rng, images, *, train: images
  every = [evaluation.walk(function, a, split, preparation=same,
                           batch_size=512, each=True) for a in attended]
  for found, a in zip(every, attended, strict=True):
    np.testing.assert_array_equal(found, a)
  means = [a.mean(0) for a in every]
  report = method.report(method.keep(means), means, every)
  rows = [row for group in report["attention"].values() for row in group]
  rows += [row for group in report["nodes"].values() for row in group]
  assert len(rows) == 2 * (5 + 1)
  for row in rows:  # Of the difference of two that are independent.
    assert row["standard_error"] == pytest.approx(
        spread * np.sqrt(2 / count), rel=0.05)


@pytest.mark.parametrize("more,field", [
    ({"tokens": "half"}, "tokens"), ({"reentry": "no"}, "reentry"),
    ({"temperature": 0.0}, "temperature")])
def test_refusals(more, field):
  with pytest.raises(errors.InputError) as error:
    make(**more)
  assert error.value.field == field


@pytest.mark.long
def test_vectors_need_not_decay():
  for decays in (True, False):
    method = make(decay_vectors=decays, weight_decay=1.0)
    state = method.init(jax.random.key(0))
    zeros = jax.tree.map(jnp.zeros_like, state.params)
    updates, _ = method.optimizer.update(zeros, state.opt_state, state.params)
    own = updates["attention"][0]
    assert own["query"].any() and own["position"].any() == decays
