"""What changes save by themselves, and what methods say of them."""

import jax
import numpy as np
import pytest

from natjax import drawing, zoo
from natjax.costs import alone, exact
from natjax.graph import records
from natjax.methods import (
  nat,
  replace,
  replace_choice,
  replacements,
  theta_space,
)
from natjax.pipeline import tables
from tests import tiny
from tests.methods import test_replace, test_replacements

FRAME = records.Frame(10, 16)


def changed(name="resnet20", share="cell", seed=0):
  space = replacements.Replacements(zoo.get(name), FRAME, share)
  return space, space.drawn(1, seed)[0]


@pytest.mark.parametrize("share, seed", [("cell", 0), ("full", 1)])
def test_the_rows_are_those_of_the_changes(share, seed):
  space, choice = changed(share=share, seed=seed)
  after = space.apply(choice)
  rows = drawing.changes(space.architecture, after)
  each = alone.changes(space.architecture, after)
  assert rows and [row.after for row in rows] == [c.operation for c in each]
  for row, change in zip(rows, each, strict=True):
    one = alone.made(space.architecture, change)
    assert drawing.changes(space.architecture, one) == [row]
    found = alone.saves(space.architecture, change, FRAME)
    assert found["madds"] == space.cost.madds - exact.network(one, FRAME).madds
    assert found["params"] >= 0


def test_all_changes_together_make_the_architecture():
  before, after = zoo.get("enas"), zoo.get("nat_enas")
  made = before
  for change in alone.changes(before, after):
    made = alone.made(made, change)
  assert made == after


@pytest.mark.parametrize("share", ["cell", "full"])
def test_prices_of_a_row_are_summed_over_its_blocks_and_over_rounds(share):
  own = replace.Replace(
      test_replace.CONFIG, test_replace.TRAIN, test_replacements.RESIDUAL,
      num_classes=10, image_size=8, share=share, steps_per_epoch=4)
  space = own.space
  prices = space.by_place(1.0 + np.arange(len(space.alone())))
  choice = np.zeros(len(space.places), int)
  choice[0], choice[1] = 1, 2
  paid = space.paid(choice, prices)
  assert [entry[2] for entry in paid] == [prices[0][1], prices[1][2]]
  found = replace_choice.Choice(
      space.apply(choice), own.cost, 0.0, own.limits, prices, (), 0, {},
      (*paid, *[(paid[0][0], paid[0][1], 5.0, None)]))
  rows = own._explained(found)
  assert [row["price"] for row in rows] == [prices[0][1] + 5, prices[1][2]]


def test_blocks_that_change_alike_share_a_row_of_prices():
  network = zoo.get("resnet20")
  space = replacements.Replacements(network, FRAME, "full")
  choice = np.zeros(len(space.places), int)
  at = [p for p, place in enumerate(space.places)
        if place.edge == 0 and place.decision in (0, 1, 2)]
  choice[at] = 1
  prices = space.by_place(np.ones(len(space.alone())))
  paid = space.paid(choice, prices)
  own = replace.Replace(
      test_replace.CONFIG, test_replace.TRAIN, network, num_classes=10,
      image_size=16, steps_per_epoch=4)
  rows = own._explained(replace_choice.Choice(
      space.apply(choice), own.cost, 3.0, own.limits, prices, (), 0, {},
      tuple(paid)))
  assert [row["price"] for row in rows] == [3.0]


def test_theta_of_a_row_is_that_of_its_groups():
  space = theta_space.ThetaSpace(zoo.get("resnet20"), FRAME, "full")
  theta = [np.array(t) for t in space.init()]
  for g in (0, 1):
    theta[g][0] = (0, 0.5 + g, 0.25)
  found = space.apply(space.choose(theta))
  assert space.explained(theta, found) == [
      {"theta": [[0.0, 0.5, 0.25], [0.0, 1.5, 0.25]]}]


def test_a_policys_changes_are_scored_one_by_one():
  method = tiny.make_nat(candidates=3, prefer="cost")
  state = method.init(jax.random.key(0))
  asked = []

  def score(function, argument, *, split, total):
    assert split == "policy" and total
    count = int(argument[2])
    asked.append(count)
    # The given one is right on 60 images, of the others each on fewer.
    right = 60 - 2 * np.arange(argument[1].source.shape[0])
    right[count:] = 0
    return {"images": 100, "both": np.minimum.outer(right, right)}

  derived = method.derive(
      state, nat.codec.pad(tiny.GENOTYPE), score, jax.random.key(0))
  report = derived.report
  assert max(asked) <= 4
  rows = [report["candidates"][i] for i in report["finalists"]]
  for row in rows:
    changes = alone.changes(
        tiny.GENOTYPE, nat.codec.from_dict(row["architecture"]))
    assert len(row["explained"]) == len(changes) > 0
    for told in row["explained"]:
      assert told["score_drop"] in pytest.approx([0.02, 0.04, 0.06])
  assert sum("explained" in c for c in report["candidates"]) == len(rows)


def test_the_table_shows_what_is_known_of_changes():
  row = {"cell": "block 3", "source": 1, "target": 2, "before": "conv_3x3",
         "after": "conv_1x1", "saves": {"params": 9, "madds": 20},
         "price": 0.25}
  columns, rows = tables.explained([row, {**row, "price": None}])
  assert columns[4:] == (">parameters", ">multiply-adds", ">price, nats")
  assert rows[0][4:] == ("9", "20", "0.2500") and rows[1][6] == ""
  old = {k: v for k, v in row.items() if k not in ("saves", "price")}
  assert tables.explained([old])[0] == ("cell", "edge", "before", "after")
  theta = {**old, "saves": row["saves"], "theta": [[0.0, 0.5, -1.0]]}
  assert tables.explained([theta])[1][0][-1] == "0.00, 0.50, -1.00"
  drop = {**old, "saves": row["saves"], "score_drop": -0.015}
  assert tables.explained([drop])[1][0][-1] == "-1.50"


@pytest.mark.parametrize("more, title", [
    ({}, "edges that changed"),
    ({"saves": {"params": 1}}, "edges that changed; what each saves by itself"),
    ({"saves": {"params": 1}, "price": 0.1},
     "edges that changed; what each saves and costs by itself"),
    ({"saves": {"params": 1}, "score_drop": 0.1},
     "edges that changed; what each saves and costs by itself"),
    ({"saves": {"params": 1}, "theta": [[0.0, 0.5, -1.0]]},
     "edges that changed; what each saves by itself, and its theta")])
def test_titles_say_no_more_than_is_known(more, title):
  row = {"cell": "normal", "source": 1, "target": 2, "before": "conv_3x3",
         "after": "conv_1x1", **more}
  found = tables.changes({"changes": [row] * 3, "seeds": [{}]})
  assert found.title == title and len(found.rows) == 3
  found = tables.changes({"changes": [row] * 3, "seeds": [{}, {}]}, 2)
  first, *rest = title.split(";")
  assert found.title == ";".join(
      [f"{first}, first seed, the first 2", *rest]) and len(found.rows) == 2
  assert tables.changes({}) is tables.changes({"changes": []}) is None
