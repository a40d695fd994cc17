"""What a search proposes is tried on images that it has not seen."""

import dataclasses
import functools
import itertools
import json
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import cli, errors, methods, operations, pipeline
from natjax.graph import blocks, codec, records
from natjax.methods import acceptance, entry, supervised
from natjax.objectives import arcface
from natjax.pipeline import choosing, runs, tables, trials
from natjax.pipeline import job as job_lib
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import trainer as trainer_lib
from natjax.training import fit
from natjax.training import method as base
from tests import tiny
from tests.toys import toy_method

Edge = records.Edge
BLOCK = records.Block(
    (records.Node(8, activation="relu"),),
    (Edge("conv_3x3", 1, 2), Edge("conv_1x1", 1, 2)))
ORIGINAL = blocks.check(records.BlockNetwork(
    "mine", (records.Layer("conv", 8, 3, activation="relu"),), (BLOCK, BLOCK)))
CHEAPER = toy_method.without(ORIGINAL, 0, 1)  # As good: a 3x3 stays.
# Nothing of the image is left, so that all classes are equally likely.
BROKEN = functools.reduce(
    lambda network, edge: toy_method.without(network, 1, edge), (0, 1),
    ORIGINAL)
TRAIN = supervised.TrainConfig(
    epochs=2, batch_size=64, learning_rate=0.1, drop_path=0.0,
    auxiliary=False, cutout=0)
PROPOSED: list[codec.Architecture] = []


@dataclasses.dataclass(frozen=True)
class ProposeConfig:
  """Settings of a search that proposes what the test says.

  Attributes:
    held_out: part of the images.
    tolerance: in points.
    finalists: how many.
    trial_epochs: their training's.
  """

  held_out: float = 0.2
  tolerance: float = 0.5
  finalists: int = 3
  trial_epochs: int = 4


def build(request):
  def update(state, batch):
    return state, {"loss": base.mean_over_devices(jnp.zeros(()))}

  def derive(state, given, score, rng):
    rows = [given, *PROPOSED]
    return base.Derived(PROPOSED[0] if PROPOSED else given, None, {
        "candidates": [
            {"architecture": codec.to_dict(a), "original": a == given,
             "chosen": i == 1, "score": 0.5, "standard_error": 0.0,
             "pareto": True, "params": 1, "madds": 1}
            for i, a in enumerate(rows)],
        "finalists": [*range(1, len(rows))][:request.settings.finalists]})

  return entry.Plan(
      base.Method(lambda rng: {"rng": rng}, (base.Stage("propose", 1, (
          base.Phase("propose", ("train",), update, ("loss",)),)),),
                  derive=derive),
      request.settings, request.architecture, {}, {"train": 1.0}, 64,
      lambda batch: {"params": 1, "memory_bytes": batch}, "float32")


@pytest.fixture(autouse=True, scope="module")
def propose():
  made = entry.check(entry.Entry(
      ProposeConfig, build, lambda *what: ProposeConfig(), "proposes"))
  with mock.patch.dict(methods.METHODS, {"propose": made}):
    yield


def transform(out, *proposed, listener=None, seed=0, **changes):
  """Runs a job that proposes architectures; returns it and its result."""
  PROPOSED[:] = proposed
  job = job_lib.Job(
      ORIGINAL, tiny.digits(), "propose", ProposeConfig(**changes), TRAIN,
      devices=1, seed=seed)
  return job, job.run(out, listener=listener)


def rows_of(out):
  return [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]


def test_rounds_halve_what_is_left():
  assert trials.rounds(4, 3) == [(3, 0, 2, 2), (2, 2, 3, 1), (1, 3, 4, 1)]
  assert trials.rounds(10, 2) == [(2, 0, 5, 1), (1, 5, 10, 1)]
  assert trials.rounds(3, 4) == [(4, 0, 2, 2), (2, 2, 3, 1)]
  assert trials.rounds(5, 1) == [(1, 0, 5, 1)]
  assert [trials.length(n) for n in (2, 15, 30, 600)] == [2, 5, 5, 60]


@pytest.fixture(scope="module")
def good(tmp_path_factory):
  """Trials of a cheaper network and a broken one, the broken one first."""
  out = tmp_path_factory.mktemp("trials") / "run"
  job, result = transform(out, BROKEN, CHEAPER, tolerance=50.0)
  return job, out, result


@pytest.mark.long
def test_the_better_half_goes_on_and_is_returned(good):
  job, out, result = good
  # 1150 digits are 17 batches; of three networks, then of two and of one.
  assert job.estimate()["trials"]["steps"] == 17 * (2 * 4 + 3 + 2)
  original, broken, cheaper = result["acceptance"]["trials"]
  assert [r["dropped"] for r in (original, broken, cheaper)] == [
      False, True, False]
  assert (original["epochs"], broken["epochs"], cheaper["epochs"]) == (4, 2, 4)
  assert broken["accuracy"] < 0.3 < cheaper["accuracy"]
  assert original["original"] and not cheaper["original"]
  assert result["acceptance"]["accepted"]
  shown = codec.to_dict(CHEAPER)
  assert result["architectures"]["transformed"] == shown == (
      cheaper["architecture"])
  assert codec.read(out / "architecture.json") == CHEAPER
  assert [c["chosen"] for c in result["candidates"]] == [False, False, True]
  assert result["transformed"]["madds"] < result["original"]["madds"]
  assert result["changes"] and result["seconds"] >= result["trial_seconds"] > 0
  assert [(r["run"], r["epoch"]) for r in rows_of(out) if "trial" in r["run"]
         ] == [*itertools.product(
             ("trial-original-round-1", "trial-1-round-1", "trial-2-round-1",
              "trial-original-round-2", "trial-2-round-2"), (0, 1))]
  said, ended = choosing.sentences(result)
  assert "Trials of 2 candidate(s), 4 epochs" in said and ": accepted." in said
  assert ended.startswith("Trained in full, it is cheaper, and ")
  assert result["confirmation"]["images"] == result["acceptance"]["images"]
  assert json.loads((out / "result.json").read_text()) == result


@pytest.mark.long
def test_pairs_are_counted_image_by_image(good):
  job, _, result = good
  held_out = job.trainer.held_out
  found = result["acceptance"]
  assert found["images"] == len(held_out.labels) == round(
      0.2 * len(tiny.digits().train_labels))
  original, _, cheaper = (round(r["accuracy"] * found["images"])
                          for r in found["trials"])
  assert cheaper - original == found["won"] - found["lost"]
  objective = job.trainer.objective(ORIGINAL)
  states = [job._trials._supervised(ORIGINAL).init(jax.random.key(s))
            for s in (0, 1)]
  counted = job._trials._count(objective, states[0], objective, states[1])
  images = job.trainer.judge.preparation(None, held_out.images, train=False)
  right = [np.asarray(objective.is_right(
      supervised.variables(state),
      {"image": images, "label": held_out.labels})) for state in states]
  assert counted == {
      "images": len(images), "right": right[0].sum(),
      "original_right": right[1].sum(), "won": (right[0] > right[1]).sum(),
      "lost": (right[0] < right[1]).sum()}


@pytest.mark.long
def test_a_verdict_of_one_seed_is_image_by_image(good):
  _, out, result = good
  images, labels = tiny.digits().test_images, tiny.digits().test_labels
  before, after = (
      np.asarray(networks_lib.load(out, name).predict(images)) == labels
      for name in ("original-0", "transformed-0"))
  assert result["paired"] == {
      "images": len(labels), "won": (after > before).sum(),
      "lost": (after < before).sum()}
  half, over = tables.noise(
      result["original"], result["transformed"], 0, result["paired"])
  assert over == f"{len(labels)} test images"
  apart = (after != before).sum()
  assert half == pytest.approx(1.96 * np.sqrt(
      apart + 2 - (sum(after) - sum(before))**2 / (len(labels) + 2)
      ) / (len(labels) + 2))
  *_, said = tables.difference(result, 0, "kept")
  assert f" ± {100 * half:.2f} points, 95 % over {over})" in said


@pytest.mark.long
def test_devices_divide_the_identities_of_a_trial(tmp_path):
  trainer = trainer_lib.Trainer(
      tiny.digits(), TRAIN, "blocks", devices=4, held_out=0.9,
      objective=arcface.ArcFaceConfig(embedding=6, scale=8.0))
  tried = trials.Trials(trainer, ProposeConfig(trial_epochs=1))
  trained = tried._supervised(ORIGINAL)
  state = tried._train(
      tmp_path, "trial", trained, 1, None, fit.Listener(), None)
  state = tried._train(  # Another round goes on with it.
      tmp_path, "trial-2", trained, 1, state, fit.Listener(), None)
  (_, classes), = ((path, leaf) for path, leaf in (
      jax.tree_util.tree_leaves_with_path(state.params))
                   if trained.objective.divides(path))
  assert [shard.data.shape for shard in classes.addressable_shards] == (
      [(3, 6)] * 4)
  counted = tried._count(trained.objective, state, trained.objective, state)
  assert counted["images"] == len(trainer.held_out.labels)
  assert counted["right"] == counted["original_right"]
  assert counted["won"] == counted["lost"] == 0


@pytest.mark.long
def test_nothing_that_was_held_out_is_trained_on_before(good):
  job = good[0]
  held_out = {image.tobytes() for image in job.trainer.held_out.images}
  both = [*job.trainer.seen.images, *job.trainer.held_out.images]
  assert len(both) == len(tiny.digits().train_labels)
  # Of the digits a few images occur twice.
  seen = [image.tobytes() in held_out for image in job.trainer.seen.images]
  assert sum(seen) < 5


@pytest.mark.long
def test_a_worse_candidate_is_not_returned(tmp_path):
  out = tmp_path / "run"
  _, result = transform(out, BROKEN, trial_epochs=3)
  found = result["acceptance"]
  assert not found["accepted"] and found["difference"] < -0.1
  assert "worse by more than the tolerance of 0.5" in found["reason"]
  assert codec.read(out / "architecture.json") == ORIGINAL
  assert result["transformed"] == result["original"]
  assert result["changes"] == []
  assert [c["chosen"] for c in result["candidates"]] == [True, False]
  assert {p.name for p in (out / "networks").iterdir()} == {"original-0"}
  assert runs.read_architecture(out) == ORIGINAL
  assert "not accepted" in choosing.sentences(result)[0]


@pytest.mark.long
def test_of_several_seeds_each_has_its_trials(tmp_path):
  PROPOSED[:] = [BROKEN]
  result = job_lib.Job(
      ORIGINAL, tiny.digits(), "propose", ProposeConfig(trial_epochs=1),
      TRAIN, devices=1, seeds=2).run(tmp_path / "run")
  each = [json.loads((tmp_path / "run" / f"seed-{seed}" / "result.json"
                      ).read_text()) for seed in (0, 1)]
  assert [row["accepted"] for row in result["seeds"]] == [
      r.get("confirmation", r["acceptance"])["accepted"] for r in each]


@pytest.mark.long
def test_what_is_worse_is_not_returned_for_a_budget_either(tmp_path):
  whole = build

  def bound(request):
    plan = whole(request)

    def derive(*args):
      derived = plan.method.derive(*args)
      _, *rows = derived.report["candidates"]
      return derived._replace(report={"candidates": rows, "finalists": [0]})

    return plan._replace(method=plan.method._replace(derive=derive))

  made = methods.METHODS["propose"]._replace(build=bound)
  with mock.patch.dict(methods.METHODS, propose=made):
    _, result = transform(tmp_path / "run", BROKEN, trial_epochs=1)
    _, taken = transform(tmp_path / "taken", BROKEN, trial_epochs=1,
                         tolerance=100.0)
  assert not result["acceptance"]["accepted"]
  assert "though it is over the budget" in result["acceptance"]["reason"]
  assert codec.read(tmp_path / "run" / "architecture.json") == ORIGINAL
  assert taken["acceptance"]["accepted"]
  assert "budget" not in taken["acceptance"]["reason"]
  assert codec.read(tmp_path / "taken" / "architecture.json") == BROKEN


@pytest.mark.long
@pytest.mark.parametrize("proposed,changes", [
    ((), {}), ((CHEAPER,), {"held_out": 0.0})])
def test_without_a_candidate_or_images_nothing_is_tried(
    proposed, changes, tmp_path):
  _, result = transform(tmp_path / "run", *proposed, **changes)
  assert "acceptance" not in result and "trial_seconds" not in result
  assert not any("trial" in row["run"] for row in rows_of(tmp_path / "run"))
  assert result["architectures"]["transformed"] == codec.to_dict(
      *proposed or [ORIGINAL])
  assert choosing.sentences(result) == []


@pytest.mark.long
def test_stopped_anywhere_in_the_trials_they_end_in_the_same_bits(
    good, tmp_path):
  _, whole, result = good
  out, chunks, stops = tmp_path / "run", [], 0
  listener = pipeline.Listener(
      on_progress=chunks.append, chunk_seconds=0, checkpoint_seconds=0,
      should_stop=lambda: chunks[-1].run.startswith("trial") and (
          len(chunks) % 53 == 0))
  while not (out / "result.json").exists():
    try:
      transform(out, BROKEN, CHEAPER, tolerance=50.0, listener=listener)
    except errors.Interrupted:
      stops += 1
      chunks.append(chunks[-1])  # Or it would stop for ever.
  assert stops > 2
  plain = lambda r: {k: v for k, v in r.items()
                     if "seconds" not in k and k != "time"}
  assert plain(json.loads((out / "result.json").read_text())) == plain(result)
  assert [*map(plain, rows_of(out))] == [*map(plain, rows_of(whole))]
  for path in whole.glob("networks/*/weights.npz"):
    with np.load(path) as a, np.load(out / path.relative_to(whole)) as b:
      assert a.files == b.files
      for key in a.files:
        np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.long
def test_what_was_decided_is_not_tried_again(good, tmp_path, monkeypatch):
  """Killed after the verdict, before the result."""
  _, whole, result = good
  (whole / "result.json").rename(tmp_path / "result.json")
  monkeypatch.setattr(fit, "fit", None)
  monkeypatch.setattr(fit, "walk", None)
  _, again = transform(whole, BROKEN, CHEAPER, tolerance=50.0)
  # The second start takes some time of its own, more on a busy machine.
  assert again | {"time": 0} == result | {"time": 0}


def test_too_few_images_for_a_batch_are_refused_at_once():
  with pytest.raises(errors.InputError, match="the train split has") as e:
    job_lib.Job(ORIGINAL, tiny.digits(), "propose", ProposeConfig(held_out=0.9),
                dataclasses.replace(TRAIN, batch_size=1024), devices=1)
  assert e.value.field.endswith("batch_size")


@pytest.mark.parametrize("flag,value,message", [
    ("--tolerance", "-1", "tolerance is -1.0 and must not be negative"),
    ("--tolerance", "200", "tolerance is 200.0 and is in percentage points"),
    ("--held-out", "1", "held-out is 1.0 and must lie in [0, 1)"),
    ("--held-out", "-0.1", "held-out is -0.1 and must lie in [0, 1)"),
    ("--finalists", "0", "finalists is 0 and must be at least 1"),
    ("--trial-epochs", "-2", "trial-epochs is -2 and must not be negative"),
    ("--prefer", "params", "prefer is 'params'; choose one of auto, cost"),
    ("--prefer", "surely", "of auto, cost, accuracy, sure")])
def test_refusals_are_one_line(flag, value, message, capsys):
  assert cli.main(["transform", "darts", "--dataset", "digits", "--dry-run",
                   flag, value]) == 2
  text = capsys.readouterr().err
  assert message in text and len(text.splitlines()) == 1


@pytest.mark.parametrize("wrong", [
    {"tolerance": "1"}, {"held_out": "0.1"}, {"tolerance": None}])
def test_settings_of_another_type_are_refused(wrong):
  config = dataclasses.replace(tiny.SEARCH, **wrong)
  with pytest.raises(errors.InputError, match="must be of type"):
    acceptance.check(config)


def test_the_published_policy_and_the_papers_preset_see_all_images():
  for changes, part in (({}, 0.1), ({"policy": "published"}, 0),
                        ({"policy": "published", "held_out": 0.2}, 0.2),
                        ({"held_out": 0.0}, 0)):
    config = dataclasses.replace(tiny.SEARCH, **changes)
    assert acceptance.part(config) == part


def test_few_images_are_said():
  big, small = operations.Cost(2, 2), operations.Cost(1, 1)
  # By hand: 1.96 times the root of 0.2 / 60 is 0.113, of 0.2 / 80 is 0.098.
  for images, apart, few in ((60, 6, True), (80, 8, False), (30, 0, True),
                             (31, 0, False)):
    pairs = acceptance.Pairs(images, apart, apart)
    verdict = acceptance.judge(pairs, big, small, 0.5)
    assert pairs.few is few
    assert verdict.reason.endswith("held-out images" + (
        ", too few to tell by" * few))
    assert ("few" in acceptance.report(pairs, verdict)) is few
  # It reaches 12 points, and is all below 0, which tells.
  assert not acceptance.Pairs(60, 0, 15).few


@pytest.mark.parametrize("flags", [
    ("--tolerance", "1"), ("--finalists", "2"), ("--trial-epochs", "3")])
def test_nothing_to_compare_by_and_how_is_refused(flags, capsys):
  assert cli.main(["transform", "darts", "--dataset", "digits", "--dry-run",
                   "--held-out", "0", *flags]) == 2
  text = capsys.readouterr().err
  assert "is for a comparison on held-out images" in text
  assert f"({flags[0]})" in text and len(text.splitlines()) == 1


def test_cheaper_is_in_both_ways():
  cost = operations.Cost
  assert acceptance.cheaper(cost(2, 2), cost(2, 1))
  assert not acceptance.cheaper(cost(2, 2), cost(2, 2))
  assert not acceptance.cheaper(cost(2, 2), cost(1, 3))


@pytest.mark.parametrize("memory, accepted, word", [
    ((3.0, 2.0), True, "cheaper (0.67x the memory), and -0.40"),
    ((2.0, 3.0), False, "dearer"), ((2.0, 2.0), False, "not cheaper"),
    (None, False, "not cheaper")])
def test_memory_counts_where_a_budget_asks_for_it(memory, accepted, word):
  pairs, cost = acceptance.Pairs(1000, 10, 14), operations.Cost(2, 2)
  found = acceptance.judge(pairs, cost, cost, 0.5, memory=memory)
  assert found.accepted is accepted and found.reason.startswith(word)
  less = acceptance.judge(pairs, cost, operations.Cost(1, 1), 0.5, None, memory)
  assert less.accepted is (memory != (2.0, 3.0))
