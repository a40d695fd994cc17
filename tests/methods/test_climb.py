"""Climbing from a given architecture; most scores are invented."""

import dataclasses
import functools
import itertools
import zlib

import jax
import numpy as np
import pytest

from natjax import errors, pipeline, spaces, zoo
from natjax.graph import codec
from natjax.methods import aims, bounds, choice, climb, zero_cost
from natjax.networks import network as network_lib
from natjax.pipeline import feed
from natjax.training import fit
from tests import architectures, tiny

CONFIG = climb.ClimbConfig(
    init_channels=2, cells=3, batch_size=4, neighbours=8, evaluations=1000)
CHAIN = dataclasses.replace(CONFIG, init_channels=None, cells=None)


@functools.cache
def make(given=tiny.GENOTYPE, **changes):
  config, space = CONFIG, tiny.SPACE
  if given.kind == "blocks":
    config, space = CHAIN, spaces.space_for(given, method="natpp")
  return climb.Climb(
      dataclasses.replace(config, **changes), space, num_classes=10,
      image_size=8, given=given)


def walk(function, argument, *, split, images, each):
  """Gives an image per number."""
  assert split == "weights" and each
  return np.ones((images, 8, 8, 3)) * np.arange(images)[:, None, None, None]


def operations_of(architecture, method):
  return [edge.operation for decision in method.ground.space.decide(
      architecture, method.ground.place) for edge in decision.cell.edges]


@pytest.fixture
def scored(monkeypatch):
  """Networks score what a function says of their operations, and by draw."""
  asked = []

  def use(value, alike=lambda found: found):
    def both(self, architecture, draw):
      key = architecture, draw
      if key not in self._kept:
        asked.append(key)
        found = value(operations_of(architecture, self._method), draw)
        self._kept[key] = climb.Both(found, alike(found))
      return self._kept[key]

    monkeypatch.setattr(climb.Scores, "both", both)
    return asked

  return use


def derive(method, given, seed=0):
  state = method.init(jax.random.key(seed))
  return method.derive(state, given, walk, jax.random.key(seed))


def skips(operations, draw):
  """Every skip counts 10, within a draw's noise."""
  return 10.0 * operations.count("skip_connect") + draw


def test_every_step_is_a_change_that_surely_scores_more(scored):
  scored(skips)
  method = make()
  derived = derive(method, tiny.GENOTYPE)
  rows = derived.report["candidates"]
  steps = [codec.from_dict(row["architecture"]) for row in rows]
  assert rows[0]["original"] and steps[0] == tiny.GENOTYPE and len(steps) > 2
  gained = np.diff([row["score"] for row in rows])
  assert (gained > 0).all() and derived.architecture == steps[-1]
  # The first may leave out what leads nowhere, too.
  for before, after in itertools.pairwise(steps[1:]):
    a, b = (operations_of(x, method) for x in (before, after))
    assert sum(x != y for x, y in zip(a, b, strict=True)) == 1
  cost = method.ground.cost(tiny.GENOTYPE)
  for row, found in zip(rows, steps, strict=True):
    assert row["params"] <= cost.params and row["madds"] <= cost.madds
    for old, new in zip(
        method.ground.space.decide(tiny.GENOTYPE, method.ground.place),
        method.ground.space.decide(found, method.ground.place), strict=True):
      alive = architectures.alive
      assert set(old.cell.concat) & alive(old.cell) <= alive(new.cell)
  # Nothing that one change could still make is better.
  assert derived.report["scored_by"] == "naswot"
  assert "preferred" not in derived.report
  explained = [change for row in rows for change in row.get("explained", ())]
  assert explained and all(
      change["naswot_drop"] <= 0 and "score_drop" not in change
      for change in explained)


@pytest.mark.parametrize("noise, steps", [(0.5, True), (1000.0, False)])
def test_what_chance_may_have_made_is_no_step(scored, noise, steps):
  def value(operations, draw):
    spread = np.random.default_rng([draw, zlib.crc32("".join(
        operations).encode())]).normal()
    return skips(operations, 0) + noise * spread

  scored(value)
  found = derive(make(), tiny.GENOTYPE).architecture
  assert (found != tiny.GENOTYPE) == steps


def test_the_given_one_stays_where_nothing_scores_more(scored):
  scored(lambda operations, draw: 5.0)
  derived = derive(make(), tiny.GENOTYPE)
  assert derived.architecture == tiny.GENOTYPE
  assert derived.report["finalists"] == []
  assert len(derived.report["candidates"]) == 1


def test_what_has_more_units_alone_is_no_step(scored):
  scored(skips, lambda found: 5.0)
  assert derive(make(), tiny.GENOTYPE).architecture == tiny.GENOTYPE


def test_no_more_networks_are_scored_than_is_said(scored):
  asked = scored(skips)
  derived = derive(make(evaluations=9), tiny.GENOTYPE)
  first = {architecture for architecture, draw in asked if draw == 0}
  assert derived.report["evaluated"] == len(first) == 9


@pytest.mark.parametrize("limit, share", [("max_params", 0.8),
                                          ("max_madds", 0.7)])
def test_a_budget_is_kept_and_used(scored, limit, share):
  # What is cheaper scores less, so that as much is kept as may be.
  scored(lambda operations, draw: 100.0 + draw - 10 * operations.count("none")
         - 5 * operations.count("skip_connect"))
  given = codec.pad(zoo.get("resnet20"))
  method = make(given, **{limit: f"{share}x"})
  rows = derive(method, given).report["candidates"]
  cost = method.ground.cost(given)
  key = limit.removeprefix("max_")
  for row in rows:
    assert 0.4 * share < row[key] / getattr(cost, key) <= share
    assert not row["original"]


def test_no_step_takes_more_memory_than_there_may_be(scored, monkeypatch):
  scored(skips)  # Of which every one more is held, as where null was.
  memory = lambda architecture: 100 + operations_of(
      architecture, make()).count("skip_connect")
  monkeypatch.setattr(
      bounds.Bounds, "memory", lambda self, architecture: memory(architecture))
  most = memory(tiny.GENOTYPE) + 1
  rows = derive(make(max_memory=f"{most}B"), tiny.GENOTYPE).report["candidates"]
  assert rows[0]["original"] and max(row["memory"] for row in rows) == most


def test_a_budget_that_nothing_meets_is_not_met():
  given = codec.pad(zoo.get("resnet20"))
  with pytest.raises(errors.NotMet, match="no transformation can keep to"):
    derive(make(given, max_params="0.001x"), given)


def test_a_connected_network_may_be_over_a_budget_that_nulls_would_meet():
  given = codec.pad(zoo.get("resnet20"))
  method = make(given, max_params="0.01x")
  aims.budget(method, given)  # Null everywhere would keep to it.
  with pytest.raises(errors.NotMet, match="no transformation that was found"):
    derive(method, given)


def test_scores_are_those_of_the_network_without_what_leads_nowhere():
  method = make()
  scores = climb.Scores(method, walk, jax.random.key(0))
  found = scores.one(tiny.GENOTYPE, 1)
  network = method.scored(tiny.GENOTYPE)
  images = np.stack([np.full((8, 8, 3), i, np.float32) for i in range(4, 8)])
  own = zero_cost.naswot(network, network_lib.init(
      network, jax.random.split(jax.random.key(0), 5)[1]), images)
  assert found == max(own, 0.0)
  units = zero_cost.naswot_and_units(network, network_lib.init(
      network, jax.random.key(0)), images)[1]
  assert scores.both(tiny.GENOTYPE, 1).alike == pytest.approx(
      found - 4 * np.log(units))
  assert scores.one(tiny.GENOTYPE, 1) == found and scores.evaluated == 0
  scores.one(tiny.GENOTYPE)
  assert scores.evaluated == 1


def test_a_climb_tells_how_far_it_is_and_stops_when_asked():
  heard = []
  listener = fit.Listener(on_progress=heard.append,
                          should_stop=lambda: len(heard) == 20)
  told = feed.Heard(walk, listener, "search")
  method = make(draws=2, evaluations=30)
  with pytest.raises(errors.Interrupted):
    method.derive(method.init(jax.random.key(0)), tiny.GENOTYPE, told,
                  jax.random.key(0))
  assert len(heard) == 20 and {p.epochs for p in heard} == {30}
  epochs = [p.epoch for p in heard]
  assert epochs == sorted(epochs) and epochs[-1] > 5
  assert all(p.run == "search" and p.metrics["naswot"] >= 0 for p in heard)


def test_a_step_of_a_climb_is_a_row_like_all_others():
  rows = []
  heard = feed.Heard(walk, fit.Listener(on_row=rows.append), "search")
  climb.Scores(make(), heard, jax.random.key(0)).tell(1.5, row=True)
  (row,) = rows
  assert row.pop("seconds") >= 0  # By which a command says how long it took.
  assert row == {"run": "search", "stage": "climb", "phase": "climb",
                 "epoch": 0, "naswot": 1.5}


def test_few_images_serve_for_all_draws():
  few = lambda *args, images, **kwargs: np.ones((5, 8, 8, 3))
  scores = climb.Scores(make(), few, jax.random.key(0))
  assert scores._images.shape == (5, 4, 8, 8, 3)


@pytest.mark.parametrize("changes, what", [
    ({"draws": 1}, "draws is 1 and must be at least 2"),
    ({"batch_size": 1}, "batch-size is 1 and must be at least 2"),
    ({"neighbours": 0}, "neighbours is 0"),
    ({"evaluations": 0}, "evaluations is 0"),
    ({"tolerance": -1.0}, "tolerance is -1"),
    ({"max_params": "much"}, "max-params")])
def test_settings_that_cannot_be_are_refused(changes, what):
  with pytest.raises(errors.InputError, match=what):
    make(**changes).check_budget(tiny.GENOTYPE)


def test_scores_by_draw_are_compared_in_pairs():
  draws = choice.Draws(np.array([[1.0, 3.0, 0.0], [2.0, 4.5, 0.0],
                                 [3.0, 5.5, 9.0]]))
  assert draws.scores == [2.0, 13 / 3, 3.0]
  pair = draws.pairs(1, 0)
  np.testing.assert_allclose(pair.difference, 7 / 3)
  np.testing.assert_allclose(pair.standard_error, 1 / 6)
  # 4.3027 is Student's t of two degrees of freedom.
  np.testing.assert_allclose(
      pair.interval, (7 / 3 - 4.3027 / 6, 7 / 3 + 4.3027 / 6))
  assert draws.of([2, 0]).scores == [3.0, 2.0]


@pytest.mark.long
def test_a_job_climbs_tries_and_trains(tmp_path):
  dataset = tiny.digits()
  train = dataclasses.replace(
      tiny.TRAIN, epochs=1, seeds=1, init_channels=2, cells=3)
  search = dataclasses.replace(
      CONFIG, draws=2, evaluations=12, held_out=0.2, tolerance=100.0,
      trial_epochs=1)
  found = pipeline.transform(
      tiny.GENOTYPE, dataset, out=tmp_path / "run", method="climb",
      search=search, train=train, listener=None)
  assert found["scored_by"] == "naswot" and 0 < found["evaluated"] <= 12
  again = pipeline.transform(
      tiny.GENOTYPE, dataset, out=tmp_path / "again", method="climb",
      search=search, train=train, listener=None)
  assert [row["score"] for row in again["candidates"]] == [
      row["score"] for row in found["candidates"]]
  assert found["transformed"]["madds"] <= found["original"]["madds"]
