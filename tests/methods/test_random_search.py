"""Random search: what is drawn, and who wins."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, spaces
from natjax.graph import codec, records
from natjax.methods import random_search, zero_cost
from natjax.networks import inherit
from natjax.networks import network as network_lib
from natjax.pipeline import feed
from natjax.training import fit
from tests.methods import searching, test_spos

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
  with pytest.raises(errors.InputError, match=(
      r"nothing drawn from search space '.*' keeps to the budget \(at most 10"
      r" parameters\); its cheapest architecture has \d+ parameters; allow")):
    make(max_params="10")


@pytest.mark.parametrize("search", ["random", "evolution"])
def test_a_budget_that_no_uniform_draw_keeps_to_is_kept(search):
  """Of a chain of 21 layers the least is 0.11 of the mean."""
  method = random_search.RandomSearch(
      random_search.resolve(random_search.RandomConfig(
          max_madds="2.5M", search=search, candidates=12), "blocks"),
      spaces.get("proxyless"), target=records.Frame(10, 32), steps=STEPS,
      num_classes=10, image_size=32)
  assert method._uniform(np.random.default_rng(1)) is None
  rng = np.random.default_rng(0)
  found = [method.draw(rng) for _ in range(20)]
  if search == "evolution":
    _, first = method.evolution.ask(
        method.evolution.init(jax.random.key(0)))
    assert first.fresh.all()
    found += map(method.places.architecture, first.genes)
  costs = [random_search.exact.network(a, method.place).madds for a in found]
  assert max(costs) <= 2.5e6 and len({*costs}) > 10
  assert max(costs) > 2.2e6  # Not the cheapest alone.
  assert method.draw(np.random.default_rng(0)) == found[0]


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


@pytest.mark.parametrize("given,wanted", [
    ({"candidates": 24}, (24, 6, 4, 2, 3, 1)),
    ({"candidates": 8}, (8, 2, 4, 2, 1, 0)),
    ({"candidates": 3}, (3, 1, 3, 2, 0, 0)),
    ({"candidates": 24, "population": 12}, (24, 12, 2, 3, 6, 3)),
    ({"candidates": 30, "generations": 3}, (30, 10, 3, 2, 5, 2)),
    ({"candidates": 8, "population": 20, "generations": 5, "parents": 1,
      "mutations": 4, "crossovers": 0}, (100, 20, 5, 1, 4, 0))])
def test_an_evolution_is_scaled_to_the_candidates(given, wanted):
  names = ("candidates", "population", "generations", "parents", "mutations",
           "crossovers")
  found = config(search="evolution", **given)
  assert tuple(getattr(found, name) for name in names) == wanted
  assert random_search.resolve(found, "cells") == found


@pytest.mark.long
@pytest.mark.parametrize("name", ["tiny", "chain"])
def test_the_children_of_what_trained_best_are_trained(name):
  """The generations that the host would have made of the same scores."""
  method = _bred(name)
  state = method.init(jax.random.key(0))
  update = searching.compiled(
      lambda state, batch, _: method.update(state, batch))
  judge = searching.compiled(lambda state, batch, _: method.judge(state, batch))
  batch, scores = searching.batches()[0], []
  for c in range(6):
    for _ in range(2):
      state, _ = update(state, batch, batch)
    assert int(method._now(state)) == c
    state, metrics = judge(state, batch, batch)
    scores.append(float(metrics["accuracy"]))
  bred, genes = method.evolution, []
  again = bred.init(jax.random.fold_in(
      jax.random.split(jax.random.key(0), 3)[0], 1))
  for g in range(3):
    again, asked = bred.ask(again)
    assert asked.fresh.all()
    genes += [*np.asarray(asked.genes)]
    again = bred.tell(again, asked, jnp.array(scores[2 * g:2 * g + 2]))
  sort = lambda a: [[*sorted(d.cell.edges)]
                    for d in codec.decide(a, method.place, method.space.share)]
  wanted = [method.places.architecture(row) for row in genes]
  assert [sort(method.architecture(state, c)) for c in range(6)] == [
      *map(sort, wanted)]
  assert state.bred.fresh.all()
  derived = method.derive(state, None, None, None)
  assert sort(derived.architecture) == sort(wanted[int(np.argmax(scores))])
  assert [row["accuracy"] for row in derived.report["tried"]] == pytest.approx(
      scores, abs=1e-6)


def _bred(name, **more):
  if name == "tiny":
    return make(search="evolution", candidates=6, population=2, **more)
  settings = random_search.resolve(random_search.RandomConfig(
      batch_size=4, epochs=1, search="evolution", candidates=6, population=2,
      **more), "blocks")
  return random_search.RandomSearch(settings, test_spos.CHAIN, target=None,
                                    steps=STEPS, **searching.SIZES)


@pytest.mark.long
@pytest.mark.parametrize("name", spaces.SPACES)
def test_an_evolution_breeds_in_every_space(name):
  space = spaces.get(name)
  method = random_search.RandomSearch(
      random_search.resolve(random_search.RandomConfig(
          search="evolution", score="synflow"), space.graph.kind),
      space, target=None, steps=STEPS, num_classes=10, image_size=32)
  _, asked = method.evolution.ask(method.evolution.init(jax.random.key(0)))
  assert asked.fresh.all()
  for genes in np.asarray(asked.genes):
    codec.check(method.places.architecture(genes))


def test_what_no_child_was_found_for_does_not_count():
  """A space of two architectures, and generations of three."""
  space = spaces.cells("two", ("max_pool_3x3", "conv_1x1", "null"), num_nodes=1)
  space = space._replace(choices=(
      (("max_pool_3x3", "conv_1x1"), ("conv_1x1",)), (("conv_1x1",),) * 2))
  method = make(space, search="evolution", candidates=6, population=3)
  state = method.init(jax.random.key(0))
  assert state.bred.fresh.sum() == 2
  rows = method.derive(state, None, None, None).report["tried"]
  assert len({str(row["architecture"]) for row in rows}) == len(rows) == 2
  state = state._replace(
      step=jnp.array(3 * method.per_candidate),
      accuracy=jnp.array([0.1, 0.2, 0.9, 0, 0, 0]))
  state = jax.jit(method._breed)(state)
  # All were visited: the best of those that counted stand there again.
  best = int(np.argmax(np.where(state.bred.fresh[:3], state.accuracy[:3], 0)))
  assert state.bred.fresh.sum() == 2
  for c in (3, 4, 5):
    assert method.architecture(state, c) == method.architecture(state, best)


@pytest.mark.long
@pytest.mark.parametrize("score", ["naswot", "synflow"])
@pytest.mark.parametrize("name", ["tiny", "chain"])
def test_an_evolution_finds_the_best_by_a_zero_cost_score(name, score):
  method = _bred(name, score=score)
  assert [s.epochs for s in method.method().stages] == [0]
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (9, 8, 8, 3)).astype(np.uint8)
  prepared = lambda rng, x, *, train: x.astype(np.float32) / 255 - 0.5
  splits = {"weights": fit.Split(images, np.zeros(9, np.int32))}
  walk = feed.Feed(splits, 4, prepared).score
  state = method.init(jax.random.key(0))
  assert not jax.tree.leaves(state.params)  # Nothing is trained.
  derived = method.derive(state, None, walk, jax.random.key(5))
  rows = derived.report["tried"]
  assert len(rows) == 6
  key = jax.random.split(jax.random.key(5))[0]
  batch = prepared(None, images[:4], train=False)
  for row in rows[:2]:
    network = network_lib.Network(codec.expand(
        codec.from_dict(row["architecture"]), method.place), records.Frame(
            3, 8))
    variables = network_lib.init(network, key)
    wanted = zero_cost.synflow(network, variables) if score == "synflow" else (
        zero_cost.naswot(network, variables, batch))
    assert row[score] == pytest.approx(wanted, rel=1e-4)
  best = max(rows, key=lambda row: row[score])
  assert codec.to_dict(derived.architecture) == best["architecture"]


def test_zero_cost_scores_of_what_is_drawn():
  method, heard = make(score="synflow", candidates=2), []
  walk = feed.Heard(None, fit.Listener(on_progress=heard.append), "search")
  rows = method.derive(method.init(jax.random.key(0)), None, walk,
                       jax.random.key(0)).report["tried"]
  assert [(p.epoch, p.epochs, p.done) for p in heard] == [
      (0, 2, 0.5), (1, 2, 1.0)]
  assert [round(p.metrics["synflow"], 6) for p in heard] == [
      row["synflow"] for row in rows]
  same = make(candidates=2)
  drawn = same.init(jax.random.key(0))
  assert [row["architecture"] for row in rows] == [
      codec.to_dict(same.architecture(drawn, c)) for c in range(2)]
  assert np.isfinite([row["synflow"] for row in rows]).all()


def test_a_budget_that_does_not_add_up_has_no_evolution():
  space = spaces.cells("loose", searching.SPACE.candidates, num_nodes=2,
                       loose_end=True)
  make(space, max_params="1M")
  with pytest.raises(errors.InputError, match="costs do not add up"):
    make(space, max_params="1M", search="evolution")


@pytest.mark.parametrize("change,message", [
    ({"score": "guess"}, "choose one of trained, naswot, synflow"),
    ({"search": "guess"}, "choose one of random, evolution"),
    ({"search": "evolution", "generations": 0}, "must be at least 1"),
    ({"search": "evolution", "candidates": 8, "mutations": 3},
     "has not enough places"),
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
