"""What a replacement chose, trained from scratch beside what it inherited."""

import dataclasses
import functools
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, methods, pipeline
from natjax.cli import output
from natjax.graph import codec, records
from natjax.methods import replace, replace_fresh, replace_tune, supervised
from natjax.networks import network as network_lib
from natjax.pipeline import networks as networks_lib
from natjax.training import method as base
from natjax.training import metrics
from tests import architectures
from tests.methods import test_replace

CONFIG = dataclasses.replace(test_replace.CONFIG, tries=1)
_CELL = architectures.cell(
    ("conv_1x1", 0, 2), ("skip_connect", 1, 2), concat=(2,))
FEW = records.Genotype(_CELL, _CELL)
CELLS = dataclasses.replace(
    test_replace.TRAIN, init_channels=4, cells=3, auxiliary=True)


@functools.cache
def method():
  return replace.Replace(
      CONFIG, test_replace.TRAIN, test_replace.NETWORK, num_classes=10,
      image_size=8, steps_per_epoch=4, num_images=64, fresh=True)


def chosen():
  """The tuning of a choice at half of the multiply-adds."""
  state, _ = test_replace.begun()
  rng = np.random.default_rng(0)
  return method()._priced(method().space, 1, [], state._replace(
      prices=jnp.asarray(rng.random(state.prices.shape), jnp.float32)))


def ended(over, pairs):
  """What follows a program whose comparison came out so."""
  return over.method.stages[-1].end(
      over.state._replace(pairs=jnp.array(pairs, jnp.int32)))


@pytest.mark.long
@pytest.mark.parametrize("tuned, pairs, returned", [
    ((100, 0, 0), (100, 3, 2), "scratch"),
    ((100, 0, 0), (100, 2, 2), "inherited"),
    ((100, 9, 0), (100, 2, 3), "inherited"),
    ((100, 0, 9), (100, 4, 4), "scratch"),
    ((100, 0, 9), (100, 4, 5), "original")])
def test_the_better_is_returned_of_equal_ones_the_inherited(
    tuned, pairs, returned):
  over = chosen()
  own, original = supervised.variables(over.state), over.state.original
  architecture, over = over.architecture, ended(over, tuned)
  accepted, cut = tuned[2] == 0, returned != "original"
  # It is compared with what is returned without it.
  jax.tree.map(np.testing.assert_array_equal, over.state.rival,
               own if accepted else original)
  state = over.state._replace(pairs=jnp.array(pairs, jnp.int32))
  found = over.method.derive(state, test_replace.NETWORK, None, None)
  fresh = found.report["fresh"]
  assert (fresh["images"], fresh["won"], fresh["lost"]) == pairs
  assert fresh["returned"] == returned
  assert fresh["against"] == ("inherited" if accepted else "original")
  assert fresh["accepted"] == (returned == "scratch")
  assert found.architecture == (architecture if cut else test_replace.NETWORK)
  assert ("explained" in found.report) == cut
  jax.tree.map(np.testing.assert_array_equal, found.variables, {
      "scratch": supervised.variables(state), "inherited": own,
      "original": original}[returned])
  tried, = found.report["tries"]
  assert (tried["lost"], tried["accepted"]) == (tuned[2], accepted)


@pytest.mark.long
def test_a_fresh_network_inherits_nothing():
  over = chosen()
  own, over = over.state.params, ended(over, (100, 0, 0))
  kernels = jax.tree.map(lambda a, b: a.ndim > 1 and np.array_equal(a, b),
                         own, over.state.params)
  assert not any(jax.tree.leaves(kernels))
  assert [(s.name, s.epochs) for s in over.method.stages] == [
      ("fresh", test_replace.TRAIN.epochs), ("compare", 1)]
  # Seeds share what is compiled.
  again = ended(chosen(), (100, 0, 0))
  assert [s.phases for s in again.method.stages] == [
      s.phases for s in over.method.stages]


@pytest.mark.long
def test_nothing_is_trained_anew_where_nothing_was_replaced():
  choice = method()._choose(
      method().space, method().space.by_place(
          np.ones(len(method().space.alone()))), method().limits, {})
  over = chosen()
  end = method()._judged(
      method().space, choice._replace(architecture=test_replace.NETWORK), None,
      over.state._replace(pairs=jnp.array((100, 5, 0), jnp.int32)))
  assert [(s.name, s.epochs) for s in end.method.stages] == [("end", 0)]


@pytest.mark.long
@pytest.mark.parametrize("cells", [True, False])
def test_pairs_are_those_of_both_networks(cells):
  architecture, train, size = (
      (architectures.UNEQUAL, CELLS, 32) if cells else (
          test_replace.NETWORK, test_replace.TRAIN, 8))
  train = supervised.resolve(train, architecture.kind)
  place = supervised.place_of(
      train, architecture.kind, num_classes=10, image_size=size)
  own = replace_fresh.Fresh(train, place, 1)
  objective = supervised.classification(train, architecture, place)
  plain = network_lib.module(architecture, place)
  rival = network_lib.init(plain, jax.random.key(1))  # Without another head.
  state = own.start(architecture, objective, rival, jax.random.key(2))
  rng = np.random.default_rng(0)
  images = rng.normal(size=(16, size, size, 3)).astype("f")
  first, second = (np.argmax(plain.apply({
      kind: {k: v for k, v in tree.items() if k != "auxiliary"}
      for kind, tree in variables.items()}, images)[0], -1)
                   for variables in (supervised.variables(state), rival))
  assert (first != second).sum() > 2
  # What fills up the batch does not count.
  labels = np.where(np.arange(16) % 3, first, second).astype(np.int32)
  labels[12:] = -1
  after, _ = test_replace.run_step(functools.partial(
      own.update_pairs, objective, architecture), state, {
          "image": images, "label": labels})
  right = [(one == labels)[:12] for one in (first, second)]
  assert after.pairs.tolist() == [
      12, (right[0] & ~right[1]).sum(), (right[1] & ~right[0]).sum()]
  jax.tree.map(np.testing.assert_array_equal, after.params, state.params)


@pytest.mark.parametrize("changes, tuned", [
    ({}, 2), ({"max_madds": "0.4x", "rounds": 2}, 2)])
def test_estimates_count_the_training_from_scratch(changes, tuned):
  config = dataclasses.replace(test_replace.CONFIG, **changes)
  plain, both = (pipeline.Job(
      test_replace.NETWORK, test_replace.dataset(), "replace", config,
      test_replace.TRAIN, train_from=train_from).estimate(
          teraflops=1e-3)["search"] for train_from in (None, "scratch"))
  steps = test_replace.TRAIN.epochs * (144 // 16)
  assert both["steps"] - plain["steps"] == steps
  # A step of it is three quarters of one of the tuning.
  alone = pipeline.Job(
      test_replace.NETWORK, test_replace.dataset(), "replace",
      dataclasses.replace(config, tune_epochs=4), test_replace.TRAIN).estimate(
          teraflops=1e-3)["search"]
  tuning = (alone["hours"] - plain["hours"]) / (3 * tuned * (144 // 16))
  assert both["hours"] - plain["hours"] == pytest.approx(
      0.75 * tuning * steps)


# Whole runs.


@pytest.fixture(scope="module")
def inherited(tmp_path_factory):
  out = tmp_path_factory.mktemp("inherited") / "run"
  return out, test_replace.run(out, test_replace.GENEROUS)


def run_both(out, given, **options):
  """A run with a training from scratch, and how that ended."""
  ends, better = [], replace.Replace._better
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(replace.Replace, "_better", lambda self, choice, row, state,
                  *more: ends.append(state) or better(
                      self, choice, row, state, *more))
    result = test_replace.run(
        out, test_replace.GENEROUS, weights=given, train_from="scratch",
        **options)
  end, = ends
  return result, jax.device_get(end._replace(rng=jax.random.key_data(end.rng)))


@pytest.fixture(scope="module")
def both(inherited, tmp_path_factory):
  out = tmp_path_factory.mktemp("both") / "run"
  return out, *run_both(out, inherited[0])


def weights(out, name="transformed-0"):
  return networks_lib.load_weights(out / "networks" / name / "weights.npz")


@pytest.mark.long
def test_a_run_returns_the_better_of_both(inherited, both):
  (before, plain), (out, result, end) = inherited, both
  row, fresh = result["seeds"][0], result["seeds"][0]["fresh"]
  assert row["tries"] == plain["seeds"][0]["tries"]
  assert result["architectures"] == plain["architectures"]
  assert (fresh["against"], fresh["images"]) == ("inherited", 16)
  assert fresh["accepted"] == (fresh["won"] > fresh["lost"])
  assert fresh["returned"] == (
      "scratch" if fresh["accepted"] else "inherited")
  assert end.pairs.tolist() == [fresh[k] for k in ("images", "won", "lost")]
  assert end.step == test_replace.TRAIN.epochs * (144 // 16)
  jax.tree.map(np.testing.assert_array_equal, end.rival, weights(before))
  jax.tree.map(np.testing.assert_array_equal, weights(out), (
      supervised.variables(end) if fresh["accepted"] else end.rival))
  config = json.loads((out / "config.json").read_text())
  assert config["train_from"] == "scratch"
  assert "train_from" not in json.loads((before / "config.json").read_text())
  rows = [(r["run"], r["stage"]) for r in metrics.read(out / "metrics.jsonl")]
  assert rows[-3:] == [("transformed-0", "fresh")] * 2 + [
      ("transformed-0", "compare")]
  words = "is better" if fresh["accepted"] else "is no better"
  assert f"trained from scratch {words} than with the weights" in str(result)


@pytest.mark.long
def test_stops_anywhere_and_goes_on_in_the_same_bits(
    inherited, both, tmp_path):
  _, result, end = both
  out, seen, starts, fresh = tmp_path / "run", [], 0, 0

  def stop():
    seen.append(None)
    return len(seen) % 7 == 0

  listener = pipeline.Listener(
      should_stop=stop, checkpoint_seconds=0.0, chunk_seconds=0.0)
  while True:
    starts += 1
    try:
      again, last = run_both(out, inherited[0], listener=listener)
      break
    except errors.Interrupted:
      assert starts < 60
      fresh += (out / "networks" / "transformed-0" / "checkpoint").exists()
  assert starts > 3 and fresh > 1
  jax.tree.map(np.testing.assert_array_equal, last, end)
  jax.tree.map(np.testing.assert_array_equal, weights(out), weights(both[0]))
  plain = lambda result: [{k: v for k, v in row.items() if k != "seconds"}
                          for row in result["seeds"]]
  assert plain(again) == plain(result)


@pytest.mark.long
def test_cells_that_were_refused_are_accepted_from_scratch(
    tmp_path, monkeypatch, capsys):
  plant = lambda pairs: lambda *args: (args[-2]._replace(
      pairs=jnp.array(pairs, jnp.int32)), {"difference": jnp.zeros(())})
  monkeypatch.setattr(
      replace_tune.Tuning, "update_pairs", plant((100, 0, 10)))
  monkeypatch.setattr(
      replace_fresh.Fresh, "update_pairs", plant((100, 4, 1)))
  out, entry = tmp_path / "run", methods.METHODS["replace"]
  result = pipeline.transform(
      FEW, test_replace.dataset(), out=out, method="replace",
      search=dataclasses.replace(CONFIG, price_checks=0, max_madds="0.95x"),
      train=dataclasses.replace(CELLS, epochs=1, auxiliary=False),
      train_from="scratch", listener=None)
  row, = result["seeds"]
  assert not row["tries"][0]["accepted"] and row["fresh"]["accepted"]
  assert (row["fresh"]["against"], row["fresh"]["returned"]) == (
      "original", "scratch")
  assert row["num_changes"] and not result.kept
  assert result["transformed"]["madds"] <= 0.95 * result["original"]["madds"]
  assert isinstance(result.network.architecture, records.Genotype)
  assert result.network.architecture == codec.from_dict(
      result["architectures"]["transformed"])
  output.print_transformed(result, out, entry)
  shown = " ".join(capsys.readouterr().out.split())
  assert "refused, but" in shown
  for said in (shown, " ".join(str(result).split())):
    assert ("seed 0: the architecture trained from scratch is returned in place"
            f" of the original: {row['fresh']['reason']}") in said


def test_what_is_said_of_a_training_from_scratch():
  tries = [{"accepted": False}, {"accepted": True}]
  row = {"seed": 1, "tries": tries}
  outcome = lambda **more: output.tables.outcome(row | more, 1)
  assert output.tables.outcome(row, 0) == "refused"
  assert outcome() == "returned"
  assert outcome(fresh={"accepted": False}) == "returned"
  assert outcome(fresh={"accepted": True}) == "accepted, better from scratch"
  fresh = {"accepted": False, "against": "original", "reason": "cheaper, and"}
  said, = output.tables.fresh({"seeds": [row, row | {"fresh": fresh}]})
  assert said == ("seed 1: the architecture trained from scratch is refused,"
                  " too: cheaper, and")


class _State(NamedTuple):
  pairs: jax.Array


@pytest.mark.parametrize("images, batch, devices", [
    (288, 64, 1), (288, 64, 2), (5, 4, 1), (3, 4, 2), (12, 4, 1)])
def test_the_difference_of_batches_is_that_of_all_images(
    images, batch, devices):
  rng = np.random.default_rng(images)
  ours, theirs = np.zeros((2, -(-images // batch) * batch), np.float32)
  ours[:images], theirs[:images] = rng.random((2, images)) < 0.5
  ours[images:] = 1  # What fills up the last batch counts nothing.
  labels = np.where(np.arange(len(ours)) < images, 1, -1)
  state, told = _State(jnp.zeros(3, jnp.int32)), []
  step = jax.vmap(replace_tune.counted, (None, 0, 0, 0), axis_name=base.AXIS)
  for first in range(0, len(ours), batch):
    states, metrics_ = step(state, *(
        x[first:first + batch].reshape(devices, -1)
        for x in (ours, theirs, labels)))
    state = jax.tree.map(lambda x: x[0], states)
    told.append(float(metrics_["difference"][0]))
  expected = (ours[:images].sum() - theirs[:images].sum()) / images
  assert np.mean(told) == pytest.approx(expected, abs=1e-6)
  assert state.pairs[0] == images
