"""Replacement with the weights kept: its steps, and whole runs."""

import dataclasses
import functools
import json
import shutil
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations, pipeline
from natjax.costs import budget, exact
from natjax.drawing import candidates as candidates_lib
from natjax.graph import codec, records
from natjax.methods import replace, replace_choice, supervised
from natjax.networks import network as network_lib
from natjax.networks import trees
from natjax.operations import edges
from natjax.pipeline import choosing, run_files, runs
from natjax.pipeline import networks as networks_lib
from natjax.training import devices as devices_lib
from natjax.training import metrics
from tests import tiny
from tests.methods import test_replacements

NETWORK = test_replacements.RESIDUAL
TRAIN = supervised.TrainConfig(
    epochs=2, batch_size=16, learning_rate=0.05, cutout=0)
CONFIG = replace.ReplaceConfig(
    distil_epochs=1, price_images=32, price_checks=4, tune_epochs=1,
    tune_learning_rate=0.01, tries=2)
# Nothing is as bad as half of the images.
GENEROUS = dataclasses.replace(CONFIG, tolerance=100.0)


def dataset(count=160):
  whole = tiny.digits()
  return dataclasses.replace(
      whole, train_images=whole.train_images[:count],
      train_labels=whole.train_labels[:count],
      test_images=whole.test_images[:64], test_labels=whole.test_labels[:64])


@functools.cache
def method(accumulate=1, **changes):
  return replace.Replace(
      dataclasses.replace(CONFIG, **changes),
      dataclasses.replace(TRAIN, accumulate=accumulate), NETWORK,
      num_classes=10, image_size=8, steps_per_epoch=4, num_images=64)


@functools.cache
def begun():
  variables = network_lib.init(
      network_lib.module(NETWORK, test_replacements.FRAME), jax.random.key(5))
  return method().begin(variables, jax.random.key(0)), variables


@pytest.mark.parametrize("count,parts", [
    (160, {"prices": 32 / 160, "others": 128 / 160}),
    (48, {"prices": 32 / 48, "others": 1 - 32 / 48}), (47, {"prices": 1.0}),
    (32, {"prices": 1.0})])
def test_a_part_of_less_than_a_batch_is_none(count, parts):
  found = replace.Replace(
      CONFIG, TRAIN, NETWORK, num_classes=10, image_size=8,
      steps_per_epoch=count // 16, num_images=count)
  assert found.fractions == parts and found.price_batches == 2


def test_seeds_share_phases_by_which_programs_are_compiled():
  one = method()
  first, again = (one.method().stages for _ in range(2))
  assert [s.phases for s in first] == [s.phases for s in again]
  first, again = (one.tuning.stages(one._objective(NETWORK), True)
                  for _ in range(2))
  assert len(first) == 2
  assert [s.phases for s in first] == [s.phases for s in again]


def run_step(update, state, batch, count=1):
  """One step over some devices, of a state that is not given away."""
  devices = tuple(jax.devices()[:count])

  def local(state, batch):
    return update(state, batch)

  step = devices_lib.spread(
      local, devices, donate=(), sharded=(False, True))
  parts = jax.tree.map(
      lambda x: x.reshape(count, len(x) // count, *x.shape[1:]), batch)
  return devices_lib.fetch(
      step(devices_lib.replicate(state, devices), parts))


def test_begins_with_the_given_weights():
  state, variables = begun()
  jax.tree.map(np.testing.assert_array_equal, state.original, variables)
  jax.tree.map(np.testing.assert_array_equal, state.network, variables)
  # What stands on an edge is the network's, all else is to be learnt.
  assert "edge0_conv_3x3" in state.network["params"]["block0"]
  assert set(state.params) == {"block0", "block1"}
  assert set(state.params["block0"]) == {
      f"edge{e}_{name}" for e in (0, 1)
      for name in ("sep_conv_3x3", "dil_conv_3x3", "conv_1x1")}


@pytest.mark.long
def test_the_network_stays_while_its_replacements_learn():
  state, _ = begun()
  batch = tiny.batch(16)
  after, metrics_ = run_step(functools.partial(
      method().learning.update_replacements, method().space), state, batch)
  for part in ("network", "original", "prices"):
    jax.tree.map(np.testing.assert_array_equal, getattr(after, part),
                 getattr(state, part))
  moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()),
                       after.params, state.params)
  assert min(jax.tree.leaves(moved)) > 0
  assert np.isfinite(metrics_["loss"])


@pytest.mark.long
def test_a_price_is_the_divergence_of_the_predictions():
  state, _ = begun()
  batch = tiny.batch(16)
  after, _ = run_step(functools.partial(
      method().learning.update_prices, method().space), state, batch)
  space = method().space
  variables = {
      "params": trees.joined(state.network["params"], state.params),
      "batch_stats": trees.joined(state.network["batch_stats"],
                                  state.batch_stats)}

  def predict(choice):
    (logits, _), _ = space.network.apply(
        variables, batch["image"], train=True, mutable=["batch_stats"],
        edge=space.chosen(jnp.asarray(choice)))
    return np.asarray(jax.nn.log_softmax(logits), np.float64)

  alone = space.alone()
  assert after.prices.shape == (len(alone) + CONFIG.price_checks,)
  first = predict(np.zeros_like(alone[0]))
  for row in (0, 3, len(alone) - 1):
    found = predict(alone[row])
    np.testing.assert_allclose(
        after.prices[row], np.mean(np.sum(
            np.exp(first) * (first - found), -1)), rtol=1e-3, atol=1e-6)
  assert np.all(np.asarray(after.prices) >= -1e-6)


def chosen(state):
  """A handover to the tuning of a choice at half of the multiply-adds."""
  rng = np.random.default_rng(0)
  return method()._priced(method().space, 1, [], state._replace(
      prices=jnp.asarray(rng.random(state.prices.shape), jnp.float32)))


def to_tune():
  """A state that has learnt, what it hands over, and the objective of that."""
  state, _ = begun()
  over = chosen(state)
  return state, over, supervised.classification(
      supervised.resolve(TRAIN, "blocks"), over.architecture,
      test_replacements.FRAME)


def test_what_is_chosen_inherits_everything():
  state, variables = begun()
  over = chosen(state)
  cost = exact.network(over.architecture, test_replacements.FRAME)
  assert cost.madds <= 0.5 * method().cost.madds
  held = trees.joined(state.network["params"], state.params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(over.state.params):
    expected = functools.reduce(lambda tree, key: tree[key.key], path, held)
    np.testing.assert_array_equal(leaf, expected)
  np.testing.assert_array_equal(
      over.state.params["stem0"]["conv"]["kernel"],
      variables["params"]["stem0"]["conv"]["kernel"])


def tuned_loss(share, state, objective, batch):
  (logits, _), _ = objective.network.apply(
      {"params": state.params, "batch_stats": state.batch_stats},
      batch["image"], train=True, mutable=["batch_stats"])
  teacher = network_lib.module(NETWORK, test_replacements.FRAME).apply(
      state.original, batch["image"])[0]
  log_q = jax.nn.log_softmax(logits / 2.0)
  soft = -np.mean(np.sum(np.asarray(jax.nn.softmax(teacher / 2.0) * log_q), -1))
  hard = -np.mean(np.asarray(jax.nn.log_softmax(logits))[
      np.arange(len(batch["label"])), batch["label"]])
  return (1 - share) * hard + share * 4.0 * soft


@pytest.mark.long
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_tuning_learns_labels_and_the_originals_predictions(share):
  _, over, objective = to_tune()
  own = method(distillation=share)
  batch = tiny.batch(16)
  after, found = run_step(functools.partial(
      own.tuning.update_network, objective), over.state, batch)
  np.testing.assert_allclose(
      found["loss"], tuned_loss(share, over.state, objective, batch), rtol=1e-4)
  jax.tree.map(np.testing.assert_array_equal, after.original,
               over.state.original)
  jax.tree.map(np.testing.assert_array_equal, after.held, over.state.held)


@pytest.mark.long
def test_parts_of_a_batch_step_as_devices_that_have_a_part_each():
  state, over, objective = to_tune()
  batch = tiny.batch(16)
  for update, first in (
      (lambda own: functools.partial(
          own.learning.update_replacements, own.space), state),
      (lambda own: functools.partial(
          own.tuning.update_network, objective), over.state)):
    apart, apart_metrics = run_step(update(method()), first, batch, 2)
    parts, parts_metrics = run_step(update(method(accumulate=2)), first, batch)
    moved = False
    for a, b, before in zip(*(jax.tree.leaves(s.params) for s in (
        apart, parts, first)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
      moved |= bool(np.abs(a - before).max() > 1e-4)
    assert moved
    for name, value in apart_metrics.items():
      np.testing.assert_allclose(parts_metrics[name], value, rtol=1e-4)


def test_devices_equal_one_where_batch_statistics_are_shared():
  if jax.device_count() < 2:
    pytest.skip("one device")
  _, over, objective = to_tune()
  batch = tiny.batch(16)
  update = functools.partial(method().tuning.update_pairs, objective)
  one, _ = run_step(update, over.state, batch)
  two, _ = run_step(update, over.state, batch, 2)
  np.testing.assert_array_equal(one.pairs, two.pairs)
  assert one.pairs[0] == 16


def test_what_fills_up_a_batch_does_not_count():
  _, over, objective = to_tune()
  batch = tiny.batch(16)
  update = functools.partial(method().tuning.update_pairs, objective)
  alone, _ = run_step(update, over.state, {
      name: x[:8] for name, x in batch.items()})
  filled, _ = run_step(update, over.state, batch | {"label": np.where(
      np.arange(16) < 8, batch["label"], -1).astype(np.int32)})
  np.testing.assert_array_equal(alone.pairs, filled.pairs)
  assert filled.pairs[0] == 8


def test_milder_budgets_lie_in_the_middle():
  found = method()._milder(budget.Budget(madds=100.0))
  assert found == budget.Budget(None, (100.0 + method().cost.madds) / 2)


def test_a_round_goes_a_share_of_the_way():
  own = method(rounds=2, max_madds="0.25x")
  np.testing.assert_allclose(
      own._part(0.5).madds, 0.5 * own.cost.madds, rtol=1e-9)
  assert own._part(1.0).madds == own.limits.madds


# Whole runs.


def run(out, config=CONFIG, **options):
  return pipeline.transform(
      NETWORK, dataset(), out=out, method="replace", search=config,
      train=TRAIN, **options)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
  out = tmp_path_factory.mktemp("replaced") / "run"
  return out, run(out, GENEROUS)


@pytest.mark.long
def test_a_run_returns_a_cheaper_network_with_its_weights(a_run):
  out, result = a_run
  row, = result["seeds"]
  assert result["transformed"]["madds"] <= 0.5 * result["original"]["madds"]
  assert [tried["accepted"] for tried in row["tries"]] == [True]
  assert row["tries"][0]["images"] == 16  # A tenth of 160.
  assert -1 <= row["rank_correlation"] <= 1
  assert f"rank correlation of {row['rank_correlation']:.2f}" in str(result)
  assert result["changes"] and all(
      change["saves"]["madds"] >= 0 for change in result["changes"])
  paid = [change["price"] for change in result["changes"]]
  assert sum(price or 0 for price in paid) == pytest.approx(
      row["tries"][0]["price"])
  curve = [point["price"] for point in row["curve"]]
  assert curve == sorted(curve)
  # Every point of the table can be costed and trained, from its file.
  points = candidates_lib.points(result)
  assert [*points] == [*range(1, len(points) + 1)]
  assert {*points} == {int(path.stem) for path in (out / "pareto").iterdir()}
  for number, point in points.items():
    network = codec.read(out / "pareto" / f"{number}.json")
    assert exact.network(network, test_replacements.FRAME)[:2] == (
        point["params"], point["madds"])
    assert ("original" in point) == (network == NETWORK)
  *_, last = points.values()  # The dearest.
  assert last["original"] and last["price"] == 0
  table = choosing.table(result)
  assert [row[0] for row in table.rows] == [*map(str, points)]
  assert "pareto.svg" in {path.name for path in out.iterdir()}
  found = runs.read_architecture(out)
  assert codec.to_dict(found) == result["architectures"]["transformed"]
  network = networks_lib.load(out)
  assert network.architecture == found
  assert network.logits(dataset().test_images[:2]).shape == (2, 10)
  rows = list(metrics.read(out / "metrics.jsonl"))
  assert {(r["run"], r["stage"]) for r in rows} == {
      ("original-0", "train"), ("replace-0", "distil"), ("replace-0", "prices"),
      ("replace2-0", "tune"), ("replace2-0", "compare")}


@pytest.mark.long
def test_a_run_whose_places_had_numbers_is_known(a_run, tmp_path):
  out, result = a_run
  older = shutil.copytree(out, tmp_path / "older")
  config = json.loads((older / "config.json").read_text())
  places = config["space"]["replacements"]
  assert "block 0, 1 -> 2" in places
  config["space"]["replacements"] = {
      f"block 0, edge {i}": names for i, names in enumerate(places.values())}
  run_files.write_kept(older / "config.json", config)
  assert run(older, GENEROUS) == result


@pytest.mark.long
def test_what_is_worse_is_not_returned(a_run, tmp_path, monkeypatch):
  judge = lambda *_: replace.acceptance.Verdict(False, "worse")
  monkeypatch.setattr(replace.acceptance, "judge", judge)
  result = run(tmp_path / "run", weights=a_run[0])
  original, returned = (
      networks_lib.load_weights(
          tmp_path / "run" / "networks" / name / "weights.npz")
      for name in ("original-0", "transformed-0"))
  jax.tree.map(np.testing.assert_array_equal, original, returned)
  for part in ("params", "madds", "accuracy"):
    assert result["transformed"][part] == result["original"][part]
  assert result["changes"] == []
  tried = result["seeds"][0]["tries"]
  assert [row["accepted"] for row in tried] == [False, False]
  assert tried[0]["madds"] < tried[1]["madds"]  # The second is milder.
  assert runs.read_architecture(tmp_path / "run") == codec.from_dict(
      result["architectures"]["original"])


@pytest.mark.long
def test_a_budget_is_tried_once(a_run, tmp_path):
  config = dataclasses.replace(CONFIG, tolerance=0.0, max_madds="0.4x",
                               held_out=0.15)
  result = run(tmp_path / "run", config, weights=a_run[0])
  row, = result["seeds"]
  assert len(row["tries"]) == 1
  # A batch and a half, all of which count.
  assert row["tries"][0]["images"] == 24 and "rounds" not in row
  assert row["tries"][0]["madds"] <= 0.4 * result["original"]["madds"]
  # Of one that is refused the original is returned, and nothing worse.
  better = row["tries"][0]["accepted"]
  assert (result["transformed"] == result["original"]) != better


@pytest.mark.long
def test_rounds_and_nothing_held_out(a_run, tmp_path):
  config = dataclasses.replace(CONFIG, held_out=0.0, rounds=2,
                               max_params="0.6x", price_checks=0)
  result = run(tmp_path / "run", config, weights=a_run[0])
  row, = result["seeds"]
  assert row["params"] <= 0.6 * result["original"]["params"]
  assert row["rank_correlation"] is None
  first, second = row["rounds"]
  assert first["madds"] == result["original"]["madds"] > second["madds"]
  assert second["params"] <= first["params"] * 0.6**0.5
  own = [{k: v for k, v in point.items() if k != "architecture"}
         for point in row["curve"]]
  assert first["curve"] != second["curve"] == own
  assert {"rank_correlation", "prices"} <= {*first}
  assert "difference" not in row["tries"][0]
  stages = [(r["run"], r["stage"])
            for r in metrics.read(tmp_path / "run" / "metrics.jsonl")]
  assert stages.index(("replace3-0", "distil")) > stages.index(
      ("replace2-0", "tune"))


@pytest.mark.long
def test_weights_of_another_run(a_run, tmp_path):
  out, before = a_run
  result = run(tmp_path / "run", GENEROUS, weights=out)
  assert result["original"]["accuracy"] == before["original"]["accuracy"]
  assert "original-0" not in {
      r["run"] for r in metrics.read(tmp_path / "run" / "metrics.jsonl")}
  # The same weights, images and seed: the same network.
  assert result["architectures"] == before["architectures"]
  assert result["transformed"] == before["transformed"]
  asked = json.loads((tmp_path / "run" / "config.json").read_text())["weights"]
  assert asked["0"]["path"].endswith("original-0/weights.npz")


@pytest.mark.long
def test_stops_anywhere_and_goes_on_in_the_same_bits(a_run, tmp_path):
  out, _ = a_run
  seen = []

  def stop():
    seen.append(None)
    return len(seen) % 11 == 0

  listener = pipeline.Listener(
      should_stop=stop, checkpoint_seconds=0.0, chunk_seconds=0.0)
  starts = 0
  while True:
    starts += 1
    try:
      run(tmp_path / "run", GENEROUS, listener=listener)
      break
    except errors.Interrupted:
      assert starts < 60
  assert starts > 3
  for name in ("original-0", "transformed-0"):
    jax.tree.map(np.testing.assert_array_equal, *(
        networks_lib.load_weights(folder / "networks" / name / "weights.npz")
        for folder in (out, tmp_path / "run")))


@pytest.mark.long
def test_the_original_is_not_returned_in_its_own_place():
  state = types.SimpleNamespace(pairs=np.array([10, 5, 0]))
  choice = replace_choice.Choice(
      NETWORK, method().cost, 0.0, method().limits, [], (), 0, {})
  row, accepted = method()._row(choice, state)
  assert not accepted and row["reason"].startswith("nothing was replaced")


@pytest.mark.parametrize("changes, met", [
    ({}, True), ({"max_madds": "1.0x"}, True), ({"max_params": "2x"}, True),
    ({"max_memory": "1x", "max_madds": "9G"}, True),
    ({"max_latency": "1.5x"}, True), ({"max_latency": "9s"}, None),
    ({"max_madds": "1.5x", "max_params": "0.9x"}, False),
    ({"max_latency": "0.9x"}, False)])
def test_a_budget_that_is_met_is_as_none(changes, met):
  own = method(**changes)
  half = method().cost.madds / 2
  assert own.bounds.met is met
  assert (own.limits.madds == half) == bool(met)
  choice = own._choose(own.space, own.space.by_place(
      np.ones(len(own.space.alone()))), own.limits._replace(seconds=None), {})
  assert choice.left == (CONFIG.tries - 1) * bool(met)
  # As many as may be, where a latency will say.
  job = pipeline.Job(NETWORK, dataset(), "replace", dataclasses.replace(
      CONFIG, **changes), TRAIN)
  tries = 1 if met is False else CONFIG.tries
  assert job.estimate()["search"]["steps"] == (1 + tries) * (144 // 16) + 2
  said = "the budget is met already, and what follows is done as without one"
  assert job.note.endswith(said) == bool(met and changes)
  for name, text in changes.items():
    option = f"{name.replace('_', '-')} is {text} and bounds nothing"
    assert (option in job.note) == (text not in ("9s", "0.9x"))


def test_a_round_that_would_block_the_way_is_the_last():
  own = method(rounds=2, max_madds="0.3x")
  state, _ = begun()
  # The residual edges are free to lose, and without them the rest must stay.
  prices = own.space.by_place(np.ones(len(own.space.alone())))
  for place, price in zip(own.space.places, prices, strict=True):
    if place.edge == 2:
      price[1:] = 0.0
  flat = np.concatenate([price[1:] for price in prices])
  state = state._replace(prices=jnp.asarray(
      np.concatenate([flat, np.ones(CONFIG.price_checks)]), jnp.float32))
  over = own._priced(own.space, 1, [], state)
  reached = own.limits.allows(exact.network(
      over.architecture, test_replacements.FRAME))
  assert reached or own._reaches(over.architecture)


def test_without_a_budget_the_little_that_can_be_saved_is_tried():
  block = records.Block((records.Node(64), records.Node(64)), (
      records.Edge("conv_1x1", 1, 2), records.Edge("skip_connect", 1, 2),
      records.Edge("skip_connect", 2, 3)))
  large = records.BlockNetwork(
      "large", (records.Layer("conv", 64, 3), records.Layer("conv", 64, 3),
                records.Layer("conv", 64, 3)), (block,))
  own = replace.Replace(CONFIG, TRAIN, large, num_classes=10, image_size=8,
                        steps_per_epoch=4)
  chosen_ = own.space.choose(
      own.space.by_place(np.zeros(len(own.space.alone()))), own.limits)
  assert chosen_.any()


def test_steps_count_all_that_may_follow():
  config = dataclasses.replace(CONFIG, rounds=2, max_madds="0.4x")
  job = pipeline.Job(NETWORK, dataset(), "replace", config, TRAIN)
  steps = 144 // 16  # Per epoch, of the images that are not held out.
  assert job.estimate()["search"]["steps"] == (
      (1 + 1 + 1 + 1) * steps + 2 * (32 // 16))


def test_work_is_that_of_all_candidates():
  own = method()
  space, madds = own.space, own.cost.madds
  # What learns: every operation where it stands, in every block.
  lessons = []
  state, variables = begun()
  jax.eval_shape(lambda images: space.network.apply(
      variables, images, train=True, mutable=["batch_stats"],
      edge=space.listen(state.params, lessons)), tiny.batch(2)["image"])
  candidates = [edges.cost(operations.get(name), lesson.ends).madds
                for lesson in lessons for name in lesson.path]
  assert len(candidates) > 3
  assert space.learning() == madds + 3 * sum(candidates)
  # What runs: the network of every choice, whatever leads nowhere.
  alone, ran = space.alone(), 0
  for choice in alone:
    left, pruned = space._apply(choice)
    if not pruned - {*np.flatnonzero(choice)}:
      ran += 1
      assert space.running(choice[None]) == exact.network(
          left, own.place).madds
  assert ran > 1
  assert space.running(np.zeros_like(alone)) == len(alone) * madds
  assert space.running(np.concatenate([alone, alone[:1]])) == (
      space.running(alone) + space.running(alone[:1]))


@pytest.mark.parametrize("changes, learnt, tuned", [
    ({}, 1, 2), ({"held_out": 0.0}, 1, 1),
    ({"max_madds": "0.4x", "rounds": 3, "tune_epochs": 2}, 3, 6)])
def test_hours_count_candidates_rounds_and_tries(changes, learnt, tuned):
  config = dataclasses.replace(CONFIG, **changes)
  images = 160 if config.held_out == 0 else 144
  job = pipeline.Job(NETWORK, dataset(), "replace", config, TRAIN)
  found, own = job.estimate(teraflops=1e-3)["search"], method()
  table = own.learning._run(own.space)
  assert len(table) == 1 + len(own.space.alone()) + config.price_checks
  count = learnt * (
      images // 16 * own.space.learning() + 2 * own.space.running(table)
  ) + tuned * (images // 16) * (1 + 3) * own.cost.madds
  each = found["hours"] / count
  assert each * 3600e12 * 1e-3 * len(job.trainer.devices) == pytest.approx(
      2 * 16)


@pytest.mark.parametrize("changes, words", [
    ({"held_out": 0.001}, "every part needs at least 1 example"),
    ({"held_out": 0.0, "tolerance": 1.0},
     "tolerance is 1.0 and is for a comparison on held-out images"),
    ({"temperature": 1e3}, "temperature"), ({"rounds": 11}, "rounds"),
    ({"tolerance": -1.0}, "tolerance"), ({"held_out": 1.0}, "held-out"),
    ({"distillation": 1.5}, "distillation"), ({"rounds": 0}, "rounds"),
    ({"temperature": 0.0}, "temperature"), ({"price_checks": 2}, "price"),
    ({"max_madds": "0.001x"}, "keeps to the budget"),
    ({"max_params": "much"}, "max-params"),
    ({"inference_batch": 4}, "inference-batch"),
    ({"operations": "none of these"}, "unknown operation")])
def test_refuses_settings(tmp_path, changes, words):
  with pytest.raises((errors.InputError, errors.NotMet), match=words):
    run(tmp_path / "run", dataclasses.replace(CONFIG, **changes))
  assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_refuses_other_weights(a_run, tmp_path):
  out, _ = a_run
  wider = NETWORK._replace(stem=(records.Layer("conv", 8, 3),))
  with pytest.raises(errors.InputError, match="no network of"):
    pipeline.transform(wider, dataset(), out=tmp_path / "a", method="replace",
                       search=CONFIG, train=TRAIN, weights=out)
  file = out / "networks" / "original-0" / "weights.npz"
  with pytest.raises(errors.InputError, match="of another shape: batch"):
    pipeline.transform(wider, dataset(), out=tmp_path / "b", method="replace",
                       search=CONFIG, train=TRAIN, weights=file)
  with pytest.raises(errors.InputError, match="one network, and 2 seeds"):
    pipeline.transform(
        NETWORK, dataset(), out=tmp_path / "c", method="replace",
        search=CONFIG, train=dataclasses.replace(TRAIN, seeds=2), weights=file)
