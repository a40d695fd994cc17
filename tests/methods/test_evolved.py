"""Evolution from a given architecture; the supernet's scores are invented."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from natjax import errors, pipeline, spaces, zoo
from natjax.costs import budget
from natjax.graph import blocks, codec, live
from natjax.methods import aims, evolved, supervised
from tests import architectures, tiny

CONFIG = evolved.EvolvedConfig(
    init_channels=2, cells=3, epochs=2, batch_size=8, population=12,
    generations=3, parents=4, mutations=6, crossovers=3, candidates=5,
    weights_fraction=0.5)
CHAIN = dataclasses.replace(CONFIG, init_channels=None, cells=None)
EDGE = blocks.Edge
BLOCK = blocks.Block((blocks.Node(8, activation="relu"),), (
    EDGE("conv_3x3", 1, 2), EDGE("conv_1x1", 1, 2)))
SMALL = blocks.check(blocks.BlockNetwork(
    "mine", (blocks.Layer("conv", 8, 3, activation="relu"),), (BLOCK, BLOCK)))


@functools.cache
def make(given=tiny.GENOTYPE, **changes):
  config, space = CONFIG, tiny.SPACE
  if given.kind == "blocks":
    config, space = CHAIN, spaces.space_for(given, method="natpp")
  return evolved.Evolved(
      dataclasses.replace(config, **changes), space, num_classes=10,
      image_size=8, steps_per_epoch=3, given=given)


def cells_of(method, architecture):
  return [decision.cell for decision in method.ground.space.decide(
      architecture, method.ground.place)]


class Score:
  """A walk: the more edges keep their operation, the more are right."""

  def __init__(self, method, given, sign=1):
    self.before = method.ground.encode(given).operation
    self.sign, self.asked = sign, []

  def __call__(self, function, argument, *, split, total=False):
    assert split == "policy"
    _, cells, count = argument
    same = (np.asarray(cells.operation) == self.before).mean((1, 2, 3))
    value = np.round(600 + 300 * self.sign * same)
    if total:
      return {"images": 1000.0, "both": np.minimum.outer(value, value)}
    self.asked += [c.tobytes() for c in np.asarray(cells.operation)[:count]]
    assert len(cells.operation) == CONFIG.population
    return value / 1000


def derive(method, given, sign=1):
  state = jax.eval_shape(method.init, jax.random.key(0))
  score = Score(method, given, sign)
  return method.derive(state, given, score, jax.random.key(0)), score


@pytest.mark.long
@pytest.mark.parametrize("given", [tiny.GENOTYPE, SMALL, zoo.get(
    "resnet20")], ids=["cells", "one block", "resnet20"])
def test_candidates_cost_no_more_cut_nothing_and_are_scored_once(given):
  given = codec.pad(given)
  method = make(given)
  derived, score = derive(method, given, sign=-1)
  report, before = derived.report, method.ground.cost(given)
  assert report["evaluated"] == len(score.asked) == len({*score.asked}) > 12
  rows = report["candidates"]
  assert rows[0]["original"] and 2 <= len(rows) <= 6
  assert rows[0]["score"] < max(r["score"] for r in rows)
  for row in rows:
    assert row["params"] <= before.params and row["madds"] <= before.madds
    found = codec.from_dict(row["architecture"])
    for old, new in zip(cells_of(method, given), cells_of(method, found),
                        strict=True):
      assert set(old.concat) & architectures.alive(old) <= (
          architectures.alive(new))
  assert derived.architecture != given and report["finalists"]
  assert all("explained" in rows[i] for i in report["finalists"])


def test_the_given_one_stays_where_nothing_is_better():
  method = make(prefer="accuracy")
  derived, _ = derive(method, tiny.GENOTYPE)
  assert derived.architecture == tiny.GENOTYPE
  assert derived.report["finalists"] == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_budget_is_kept_closely(sign):
  given = codec.pad(zoo.get("resnet20"))
  derived, _ = derive(make(given, max_params="0.7x"), given, sign)
  rows, before = derived.report["candidates"], make(given).ground.cost(given)
  assert not any(row["original"] for row in rows)
  assert all(row["params"] <= 0.7 * before.params for row in rows)
  # Also where what changes most scores most.
  used = [row["params"] / before.params for row in rows]
  assert max(used) > 0.6 and min(used) >= max(used) - 0.1 * 0.7


def test_a_budget_that_nothing_meets_is_not_met():
  given = codec.pad(zoo.get("resnet20"))
  with pytest.raises(errors.NotMet, match="no transformation can keep to"):
    derive(make(given, max_params="0.001x"), given)


def test_a_budget_that_nothing_connected_meets_is_refused_before_training():
  given = codec.pad(zoo.get("resnet20"))
  method = make(given, max_params="0.01x")
  aims.budget(method, given)  # Null everywhere would keep to it.
  words = "no transformation that was drawn keeps .* allow more by max-params"
  with pytest.raises(errors.NotMet, match=words):
    method.check_budget(given)
  with pytest.raises(errors.NotMet, match=words):  # As the search itself.
    derive(method, given)
  with pytest.raises(errors.NotMet, match=words):
    pipeline.Job(
        given, tiny.digits(), "evolution", dataclasses.replace(
            CHAIN, max_params="0.01x"), dataclasses.replace(
                tiny.TRAIN, **supervised.OF_CELLS), devices=1)
  make(given, max_params="0.7x").check_budget(given)
  make(given, max_params="1.5x").check_budget(given)


def test_costs_of_choices_are_those_of_architectures():
  given = codec.pad(SMALL)
  method = make(given)
  cost = lambda around, genes: method.ground.cost(method.ground.decode(
      jax.tree.map(lambda x: x[0], around.arrays(genes[None])), given))
  free = evolved.Around(method, given, budget.Budget())
  rng = np.random.default_rng(0)
  genes = rng.integers(0, free.counts, (40, len(free.counts)))
  params = [cost(free, row).params for row in genes]
  limits = budget.Budget(params=sorted(params)[20])
  keeps = evolved.Around(method, given, limits)._keeps(genes)
  np.testing.assert_array_equal(
      np.asarray(keeps), np.array(params) <= limits.params)


@pytest.mark.long
def test_a_cell_of_more_nodes_than_bits_is_not_cut_off():
  given = architectures.wide(33)
  method = evolved.Evolved(
      CONFIG, spaces.space_for(given, method="natpp"), num_classes=10,
      image_size=8, steps_per_epoch=3, given=given)
  around = evolved.Around(method, given, budget.Budget())
  null = method.table.null
  at, may = around._at, around._may
  into = [p for p, (g, n, _) in enumerate(at) if g == 0 and n == 32]
  assert len(into) == 2
  genes = np.repeat(np.array([around.start]), 3, 0)
  for row, cut in enumerate(([], into[:1], into)):
    for p in cut:
      genes[row, p] = np.flatnonzero(may[p, :around.counts[p]] == null)[0]
  assert around.legal(genes).tolist() == [True, True, False]


def test_edges_that_lead_nowhere_are_null():
  given = codec.pad(blocks.check(blocks.BlockNetwork(
      "dead", SMALL.stem, (blocks.Block(
          (blocks.Node(8), blocks.Node(8)),
          (EDGE("conv_3x3", 1, 2), EDGE("conv_3x3", 1, 3))),))))
  method = make(given)
  around = evolved.Around(method, given, budget.Budget())
  first = jax.tree.map(lambda x: x[0], around.arrays(
      np.array([around.start])))
  [cell] = cells_of(method, method.ground.decode(first, given))
  assert next(e.operation for e in cell.edges if e.target == 2) == "null"
  derived, _ = derive(method, given)
  for row in derived.report["candidates"][1:]:
    [cell] = cells_of(method, codec.from_dict(row["architecture"]))
    _, source, target = zip(*cell.edges, strict=True)
    null = live.nulls(cell)
    np.testing.assert_array_equal(null, live.prune(
        source, target, null, cell.concat, np.ones(len(null), bool)))


def test_presets_hold_for_both_kinds():
  for preset in ("demo", "small", "paper"):
    for kind in ("cells", "blocks"):
      config = evolved.ENTRY.presets(preset, "supervised", kind)
      assert evolved.resolve(config, kind) == config
      assert config.focus == ("general" if preset == "paper" else "given")


def test_there_is_no_policy_in_its_state():
  method = make()
  state = jax.eval_shape(method.init, jax.random.key(0))
  assert state.policy == {}
  assert [stage.name for stage in method.method().stages] == ["supernet"]
