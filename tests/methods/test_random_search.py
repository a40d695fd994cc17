"""Random search: what is drawn, and who wins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.graph import codec
from natjax.methods import random_search
from natjax.networks import inherit
from natjax.networks import network as network_lib
from tests.methods import searching

STEPS = {"weights": 2, "architecture": 1}


def config(**more):
  return random_search.resolve(random_search.RandomConfig(
      **{**searching.CONFIG, "candidates": 3, "epochs": 1} | more), "cells")


@functools.cache
def make(space=searching.SPACE, **more):
  return random_search.RandomSearch(
      config(**more), space, target=None, steps=STEPS, **searching.SIZES)


def test_every_draw_has_two_edges_per_node_and_all_are_equally_likely():
  rng, counts = np.random.default_rng(0), {}
  for _ in range(600):
    cell = make().draw(rng).reduce
    assert [e.target for e in cell.edges] == [2, 2, 3, 3]
    assert len({e[1:] for e in cell.edges}) == 4
    for edge in cell.edges[2:]:
      counts[edge] = counts.get(edge, 0) + 1
  assert len(counts) == 9  # Three sources, three operations, never null.
  assert min(counts.values()) > 90 and max(counts.values()) < 180


@pytest.mark.parametrize("name", ["nasbench201", "s3", "nat_loose_end"])
def test_it_draws_from_every_space(name):
  space = spaces.get(name)
  method = random_search.RandomSearch(
      random_search.resolve(random_search.RandomConfig(), space.graph.kind),
      space, target=None, steps=STEPS, num_classes=10, image_size=32)
  rng = np.random.default_rng(0)
  found = [method.draw(rng) for _ in range(30)]
  assert len({codec.to_json(a) for a in found}) > 25
  for architecture in found:
    codec.check(architecture)
    state = random_search.RandomState(*[None] * 8)._replace(
        drawn=jax.tree.map(lambda a: a[None], method._encode(architecture)))
    again = method.architecture(state, 0)
    # The order of edges may differ, and nothing else.
    sort = lambda a: [[*sorted(d.cell.edges), d.cell.concat]
                      for d in codec.decide(a, method.place, "cell")]
    assert sort(again) == sort(architecture)
  operations = {edge.operation for a in found for d in codec.decide(
      a, method.place, "cell") for edge in d.cell.edges}
  assert ("null" in operations) == (name == "nasbench201")
  if name == "nat_loose_end":
    assert len({len(a.normal.concat) for a in found}) > 1


def test_a_budget_is_kept_and_one_that_nothing_meets_is_refused():
  method = make(max_params="1800")
  rng = np.random.default_rng(0)
  for _ in range(20):
    cost = random_search.exact.network(method.draw(rng), method.place)
    assert cost.params <= 1800
  with pytest.raises(errors.InputError, match="none of 1000 architectures"):
    make(max_params="10")


@pytest.mark.long
def test_candidates_begin_alike_and_the_most_accurate_is_found():
  method = make()
  state = method.init(jax.random.key(0))
  train, judge = map(searching.compiled, (
      lambda state, batch, _: method.update(state, batch),
      lambda state, batch, _: method.judge(state, batch)))
  batch = searching.batches()[0]
  scores = []
  for c in range(3):
    for _ in range(2):
      assert int(method._now(state)) == max(c - 1, 0) or state.step % 2
      state, metrics = train(state, batch, batch)
    assert int(method._now(state)) == c and np.isfinite(metrics["loss"])
    trained = state
    state, metrics = judge(state, batch, batch)
    scores.append(float(metrics["accuracy"]))
    # As the network that it stands for computes it.
    found = method.architecture(state, c)
    variables = inherit.variables(
        method.supernet, {"params": trained.params,
                          "batch_stats": trained.batch_stats}, found)
    logits, _ = network_lib.module(found, method.place).apply(
        variables, batch["image"])
    right = np.mean(np.argmax(logits, -1) == batch["label"])
    np.testing.assert_allclose(scores[-1], right, atol=1e-6)
  np.testing.assert_allclose(state.accuracy, scores, atol=1e-6)
  derived = method.derive(state, None, None, None)
  assert derived.architecture == method.architecture(
      state, int(np.argmax(scores)))
  assert [row["accuracy"] for row in derived.report["tried"]] == pytest.approx(
      scores, abs=1e-6)


def test_every_candidate_starts_from_the_same_weights():
  method, batch = make(), searching.batches()[0]
  state = method.init(jax.random.key(0))
  step = searching.compiled(lambda state, batch, _: method.update(state, batch))
  one, _ = step(state, batch, batch)
  # The third step is the first of the second candidate.
  two, _ = step(one._replace(
      step=jnp.array(2, jnp.int32), rng=state.rng,
      drawn=jax.tree.map(lambda a: jnp.stack([a[0]] * 3), state.drawn)),
      batch, batch)
  jax.tree.map(np.testing.assert_array_equal, one.params, two.params)


def test_a_single_candidate_is_not_trained():
  stages = make(candidates=1).method().stages
  assert [stage.epochs for stage in stages] == [0]


@pytest.mark.parametrize("change,message", [
    ({"candidates": 0}, "candidates is 0 and must be at least 1"),
    ({"weights_fraction": 0.0}, "must lie between 0 and 1"),
    ({"supernet_width": 2.0}, "does not apply to a space of cells"),
    ({"learning_rate": -1.0}, "must not be negative")])
def test_settings_that_do_not_fit_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message):
    config(**change)


def test_presets_hold_for_both_kinds_of_spaces():
  for preset in ("demo", "small", "paper"):
    for kind in ("cells", "blocks"):
      random_search.resolve(random_search.ENTRY.presets(
          preset, "supervised", kind), kind)
