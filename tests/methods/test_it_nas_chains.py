"""IT-NAS over chains: SPOS's network, what transformers learn, what is chosen.
"""

import functools
import itertools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors, pipeline, spaces
from natjax.costs import budget, exact
from natjax.methods import it_nas, it_nas_chains, supervised
from natjax.networks import attention, rules
from natjax.training import fit
from tests.methods import searching
from tests.methods.test_spos import CHAIN, EVERY, filled, walks


@functools.cache
def make(**more):
  config = it_nas.resolve(it_nas.ITConfig(
      batch_size=4, epochs=2, learning_rate=0.1, weight_decay=0.05, **more),
      "blocks")
  return it_nas_chains.ITChain(config, CHAIN, target=None, steps_per_epoch=2,
                               **searching.SIZES)


@functools.cache
def step():
  return searching.compiled(
      lambda state, batch, _: make().update(state, batch))


def loss(method, params, path, batch):
  logits, _ = method.supernet.run(
      {"params": params["supernet"]}, method.how(params["attention"], path),
      batch["image"])
  return jnp.sum(jnp.sin(logits))


@pytest.mark.long
def test_the_network_and_its_gradients_are_those_of_the_path():
  method = make()
  params = method.init(jax.random.key(0)).params
  batch = searching.batches(1)[0]
  run = jax.jit(jax.value_and_grad(functools.partial(loss, method)))

  def alone(supernet, path):
    return jnp.sum(jnp.sin(method.supernet.apply(
        supernet, path, batch["image"])))

  plain = jax.jit(jax.value_and_grad(alone))
  for seed in range(3):
    path = method.paths.draw(jax.random.key(seed))
    value, grads = run(params, path, batch)
    wanted, slopes = plain(params["supernet"], path)
    assert float(value) == float(wanted)
    jax.tree.map(np.testing.assert_array_equal, grads["supernet"], slopes)
    assert all(np.any(leaf) for own in grads["attention"] if own
               for leaf in own.values())


@pytest.mark.long
@pytest.mark.parametrize("tokens", attention.TOKENS)
def test_transformers_learn_what_more_of_an_operation_would_gain(tokens):
  """The rule against o_s + m - sg(m), written out and left to JAX."""
  lite, rng = attention.Attention(tokens), np.random.default_rng(0)
  draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
  functions = [lambda p, x, key: p["a"] * x, lambda p, x, key: jnp.sin(x),
               lambda p, x, key: p["b"] * jnp.square(x)]
  columns = (2, 0, 3)  # Of five, of which others may not stand here.
  params, x = {"a": draw(3), "b": draw(3)}, draw(2, 4, 4, 3)
  value = {name: leaf[0] for name, leaf in lite.init(
      jax.random.key(0), 1, 5, mock.Mock(size=4, width=3)).items()}
  value = jax.tree.map(lambda leaf: 20 * leaf, value) | {
      "allowed": jnp.array([1.0, 0, 1, 1, 0]), "chosen": np.eye(5)[0]}
  weigh = draw(2, 4, 4, 3)

  def written(drawn, params, value, x):
    made = [f(params, x, None) for f in functions]
    held = jax.lax.stop_gradient(made)
    own = {**value, "position": value["position"][jnp.array([0, 3, 1, 4])]}
    own.pop("chosen"), own.pop("allowed")
    a = lite.weights(own, held, jnp.ones(3))[:, 1:, None, None, None]
    m = sum(a[:, k] * y for k, y in enumerate(held))
    return jnp.sum(weigh * (made[columns.index(drawn)] + m
                            - jax.lax.stop_gradient(m)))

  rule = lite.path(functions, columns)

  def ruled(params, value, x):
    return jnp.sum(weigh * rules.apply(
        rule, params, rules.Data(value), x))

  by_rule = jax.jit(jax.value_and_grad(ruled, (0, 1, 2)))
  by_hand = jax.jit(lambda *args: [
      jax.value_and_grad(written, (1, 2, 3))(drawn, *args)
      for drawn in columns])(params, value, x)
  for drawn, wanted in zip(columns, by_hand, strict=True):
    value["chosen"] = np.eye(5, dtype=np.float32)[drawn]
    got = by_rule(params, value, x)
    for a, b in zip(*map(jax.tree.leaves, (got, wanted)), strict=True):
      np.testing.assert_allclose(a, b, rtol=2e-4, atol=1e-5)
    assert np.any(got[1][1]["query"])


@pytest.mark.long
def test_what_is_off_the_path_takes_no_step():
  method, batches = make(), searching.batches(4)
  state, still = method.init(jax.random.key(1)), 0
  alike = lambda tree: jax.tree.structure(tree) == jax.tree.structure(
      state.params)
  momenta = lambda s: [*filter(alike, jax.tree.leaves(
      s.opt_state, is_leaf=alike))]
  assert momenta(state)
  for batch in batches:
    old = state
    state, metrics = step()(state, batch, batch)
    assert np.isfinite(metrics["loss"])
    on = method.on_path(old.params["supernet"], state.path)
    for before, after in zip(
        [old.params, *momenta(old)], [state.params, *momenta(state)],
        strict=True):
      for b, a, there in zip(*map(jax.tree.leaves, (
          before["supernet"], after["supernet"], on)), strict=True):
        off = ~np.broadcast_to(there, b.shape)
        np.testing.assert_array_equal(np.asarray(a)[off], np.asarray(b)[off])
        still += int(off.sum())
      changed = [np.any(np.asarray(a) != np.asarray(b)) for a, b in zip(
          *map(jax.tree.leaves, (before["attention"], after["attention"])),
          strict=True)]
      assert all(changed)
    cost = exact.network(method.paths.decode(jax.tree.map(
        np.asarray, state.path)), method.connections.target)
    assert float(metrics["madds"]) == pytest.approx(cost.madds / 1e6, rel=1e-4)
  assert still


@pytest.mark.long
def test_selects_by_the_attention_of_many_paths():
  method, rng = make(), np.random.default_rng(0)
  state = method.init(jax.random.key(0))
  params = dict(state.params, attention=jax.tree.map(
      lambda leaf: 40 * leaf, state.params["attention"]))
  state = state._replace(params=params)
  split = lambda count: fit.Split(
      rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8),
      rng.integers(0, 3, count).astype(np.int32))
  splits = {"weights": split(12), "architecture": split(12)}
  asked = []
  score = walks(splits)

  def counting(function, argument, *, split, **options):
    asked.append(split)
    return score(function, argument, split=split, **options)

  derived = method.derive(state, None, counting, jax.random.key(7))
  # Three batches a walk, so that six are 18 paths; then one is judged.
  assert asked == ["architecture"] * 6 + ["weights", "architecture"]
  rows = [row for rows in derived.report["attention"].values()
          for row in rows if row]
  assert [b.edges[0].operation for b in derived.architecture.blocks] == [
      row["strongest"] for row in rows]
  assert derived.report["operations"] == [row["strongest"] for row in rows]
  assert [len(row["weights"]) for row in rows] == [2, 3, 3]
  for row in rows:
    assert 0 < sum(row["weights"].values()) < 1
    assert row["standard_error"] > 0
    assert row["tie"] == (row["margin"] < 2 * row["standard_error"])
  # The first layer by hand: it sees one thing, whatever the path is.
  ready = (splits["architecture"].images / 255 - 0.5).astype(np.float32) / 0.25
  path = method.paths.encode(filled(["mbconv3_3x3"] * 3))
  told = jax.jit(lambda images: method.supernet.run(
      {"params": params["supernet"]},
      method.how(params["attention"], path, tells=True), images)[1])
  found = [np.asarray(told(ready[begin:begin + 4])[0])[0]
           for begin in (0, 4, 8)]
  mean = np.mean(np.concatenate(found), 0)
  assert list(rows[0]["weights"].values()) == pytest.approx(
      mean[:2].tolist(), rel=1e-4)


def test_the_choice_within_a_budget_is_the_likeliest():
  method, rng = make(), np.random.default_rng(0)
  cost = lambda one: exact.network(one, method.connections.target)
  names = CHAIN.candidates
  for trial in range(4):
    strengths = [np.where(g.allowed, rng.uniform(size=g.allowed.shape), 0)
                 for g in method.connections.groups]
    for limit in sorted({cost(one).madds for one in EVERY})[::3]:
      limits = budget.Budget(madds=limit, params=(
          cost(EVERY[trial]).params if trial else None))
      legal = [one for one in EVERY if limits.allows(cost(one))]
      total = lambda one, strengths=strengths: sum(np.log(s[0, names.index(
          block.edges[0].operation)]) for s, block in zip(
              strengths, one.blocks, strict=True))
      with np.errstate(divide="ignore"):
        logs = [np.log(s) for s in strengths]
      if not legal:
        with pytest.raises(errors.NotMet, match="the least is max-params"):
          method.connections.likeliest(logs, limits)
        continue
      found = method.connections.architecture(
          method.connections.likeliest(logs, limits))
      assert total(found) == pytest.approx(max(map(total, legal)))
      assert limits.allows(cost(found))


def test_what_a_chain_cannot_be_asked_is_refused():
  with pytest.raises(errors.InputError, match="reentry is 'encoder', and over"):
    make.__wrapped__(reentry="encoder")
  with pytest.raises(errors.InputError, match=r"at most 10 mul.*the least"):
    make.__wrapped__(max_madds="10")


@pytest.mark.long
def test_a_search_over_a_chain_resumes_bit_for_bit(tmp_path):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (96, 8, 8)).astype(np.uint8)
  labels = np.arange(96) % 3
  found = data.make_dataset("noise", (images, labels), (images[:40],
                            labels[:40]), image_size=8, class_names=[*"abc"])
  limit = sorted(exact.network(one, make().connections.target).madds
                 for one in EVERY)[9]
  search = functools.partial(
      pipeline.search, "chain", found, method="it-nas", devices=1, seed=1,
      search=it_nas.ITConfig(epochs=2, batch_size=16, tokens="gap",
                             max_madds=str(limit)),
      train=supervised.TrainConfig(epochs=1, batch_size=32, auxiliary=False,
                                   cutout=0, drop_path=0.0, seeds=1),
      train_found=False)
  with mock.patch.dict(spaces.SPACES, {"chain": CHAIN}):
    result = search(out=tmp_path / "whole")
    stops = itertools.chain([False, True], itertools.repeat(False))
    listener = pipeline.Listener(should_stop=lambda: next(stops),
                                 chunk_seconds=0, checkpoint_seconds=0)
    with pytest.raises(errors.Interrupted):
      search(out=tmp_path / "again", listener=listener)
    again = search(out=tmp_path / "again")
  plain = lambda r: {k: v for k, v in r.items()
                     if "seconds" not in k and "memory" not in k
                     and k != "time"}
  assert plain(again) == plain(result)
  assert 0 < result["derived"]["madds"] <= limit
  assert set(result["ties"]) == set(result["attention"])
