"""The job of differentiable transformation: files, resume, refusals."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from natjax import errors, pipeline, zoo
from natjax.cli import output
from natjax.costs import exact as cost
from natjax.graph import blocks, codec
from natjax.methods import differentiable, nat, supervised
from natjax.objectives import simclr
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import presets, run_files, runs
from natjax.training import metrics
from tests import tiny

NETWORK = blocks.scale(zoo.get("resnet20"), 0.25)
NETWORK = NETWORK._replace(blocks=(NETWORK.blocks[0], NETWORK.blocks[3]))
TRAIN = dataclasses.replace(
    tiny.TRAIN, **supervised.OF_CELLS, epochs=3, batch_size=16,
    learning_rate=0.1, cutout=0, seeds=2)
SEARCH = differentiable.DifferentiableConfig(
    architecture_epochs=2, theta_learning_rate=0.3)


def dataset():
  whole = tiny.digits()
  return dataclasses.replace(
      whole, train_images=whole.train_images[:64],
      train_labels=whole.train_labels[:64],
      test_images=whole.test_images[:32], test_labels=whole.test_labels[:32])


def job(**changes):
  return pipeline.Job(
      NETWORK, dataset(), "differentiable", changes.pop("search", SEARCH),
      TRAIN, **{"share": "full", **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  out = tmp_path_factory.mktemp("run") / "whole"
  result = pipeline.transform(
      NETWORK, dataset(), out=out, method="differentiable", search=SEARCH,
      train=TRAIN, share="full")
  return out, result


@pytest.mark.long
def test_every_seed_derives_and_trains_a_network_of_its_own(finished):
  out, result = finished
  assert json.loads((out / "result.json").read_text()) == result
  assert [row["seed"] for row in result["seeds"]] == [0, 1]
  for row in result["seeds"]:
    net = networks_lib.load(out, f"transformed-{row['seed']}")
    found = cost.network(net.architecture, blocks.Frame(10, 8))
    assert found[:2] == (row["params"], row["madds"])
    assert found.params <= result["original"]["params"]
    assert net.test_accuracy == row["accuracy"]
    assert 0 <= row["train_accuracy_before_derivation"] <= 1
    assert 0 <= row["train_accuracy_after_derivation"] <= 1
    digits = dataset()
    right = np.mean(net.predict(digits.test_images) == digits.test_labels)
    assert right == pytest.approx(row["accuracy"])
  assert len(result["transformed"]["accuracies"]) == 2
  assert codec.read(out / "architecture.json") == codec.from_dict(
      result["architectures"]["transformed"])


@pytest.mark.long
def test_theta_is_written_epoch_by_epoch_and_drawn(finished):
  out, result = finished
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  theta = [row["theta"] for row in rows if row["run"] == "theta-0"]
  assert len(theta) == 2 and set(theta[0]) == {"block 0", "block 1"}
  stages = [row["stage"] for row in rows if row["run"] == "transformed-0"]
  assert stages == ["network"]
  assert (out / "theta.svg").read_text().startswith("<?xml")
  assert (out / "architecture.svg").exists()
  report = run_files.read_json(
      out / "networks" / "transformed-0" / "derived.json")
  assert report["theta"] == theta[-1]
  assert theta[-1]["block 0"][0] != [0.0, 0.0, 1.0]
  assert result["method"] == "differentiable"


@pytest.mark.long
def test_stopped_anywhere_and_resumed_it_ends_in_the_same_bits(
    finished, tmp_path):
  out, result = finished
  stops = iter([False] * 9 + [True] + [False] * 3 + [True] + [False] * 999)
  listener = pipeline.Listener(
      should_stop=lambda: next(stops), checkpoint_seconds=0, chunk_seconds=0)
  again = None
  for _ in range(4):
    try:
      again = job().run(tmp_path / "run", listener=listener)
      break
    except errors.Interrupted:
      continue
  spent = metrics.seconds_by_run(tmp_path / "run" / "metrics.jsonl")
  assert spent.pop("original-0") > 0 < spent.pop("original-1")
  assert sum(s["seconds"] for s in again["seeds"]) >= sum(spent.values()) / (
      1 if job().trainer.way == "one by one" else 2) - 0.11
  strip = lambda r: {k: [{**s, "seconds": 0} for s in v] if k == "seeds" else v
                     for k, v in r.items() if k not in ("seconds", "time")}
  assert strip(again) == strip(result)
  for path in out.glob("networks/*/weights.npz"):
    with np.load(path) as a, np.load(
        tmp_path / "run" / path.relative_to(out)) as b:
      for key in a.files:
        np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.long
def test_seeds_train_at_once_on_devices_of_their_own(tmp_path):
  at_once = job(devices=2)
  assert at_once.describe()["seeds_together"] == "spread"
  out = tmp_path / "run"
  result = at_once.run(out)
  assert [row["seed"] for row in result["seeds"]] == [0, 1]
  assert (out / "checkpoint" / "theta" / "0-1").is_dir()
  rows = [json.loads(line)
          for line in (out / "metrics.jsonl").read_text().splitlines()]
  theta = {run: [row["theta"] for row in rows if row["run"] == run]
           for run in ("theta-0", "theta-1")}
  assert all(len(t) == 2 for t in theta.values())
  assert theta["theta-0"] != theta["theta-1"]
  for seed in (0, 1):  # Each derives from a theta of its own.
    report = run_files.read_json(
        out / "networks" / f"transformed-{seed}" / "derived.json")
    assert report["theta"] == theta[f"theta-{seed}"][-1]
    tried, = result["seeds"][seed]["tries"]
    assert tried["images"] == 6


def test_estimate_and_description():
  found = job().estimate()
  extra = found["search"]["params"] - found["train"]["params"]
  assert extra == 8 * 8 + 2 * 8  # The projection of the strided convolution.
  assert found["search"]["theta"] == 24
  # Of a batch two gradients, theta's without that of w; then one.
  steps, madds = 58 // 16, found["train"]["madds"]
  weighed = found["search"]["madds"]
  assert weighed == madds + 8 * 8 * 4 * 4
  per = lambda found: found["hours"] / found["steps"]
  for given, passes in ((job(), 5), (job(search=dataclasses.replace(
      SEARCH, one_backward=True)), 3)):
    search = given.estimate()["search"]
    assert search["steps"] == 2 * 3 * steps
    assert per(search) / per(found["train"]) == pytest.approx(
        (2 * passes * weighed + 3 * madds) / (3 * 3 * madds))
  config = job(compare=False).describe()
  assert config["search"]["architecture_epochs"] == 2
  assert config["compare"] is False and config["space"]["share"] == "full"


@pytest.mark.parametrize("changes,message", [
    ({"search": nat.NATConfig()}, "DifferentiableConfig"),
    ({"space": "nat"}, "space"),
    ({"share": "half"}, "share"),
    ({"search": dataclasses.replace(SEARCH, theta_learning_rate=float("nan"))},
     "theta-learning-rate"),
    ({"search": dataclasses.replace(SEARCH, tolerance=-0.1)}, "tolerance is"),
    ({"search": dataclasses.replace(SEARCH, held_out=1.0)}, "held-out is 1.0"),
])
def test_refusals(changes, message, tmp_path):
  with pytest.raises(errors.InputError, match=message):
    pipeline.transform(NETWORK, dataset(), **{
        "out": tmp_path / "x", "method": "differentiable", "search": SEARCH,
        "train": TRAIN, **changes})
  assert not (tmp_path / "x").exists()


# What is worse than the original is not returned.

RUINED = dataclasses.replace(
    SEARCH, architecture_epochs=4, theta_optimizer="sgd",
    theta_learning_rate=20.0, held_out=0.25, max_madds="0.6x")


def compared(out, **changes):
  whole = tiny.digits()
  some = dataclasses.replace(
      whole, train_images=whole.train_images[:512],
      train_labels=whole.train_labels[:512])
  return pipeline.transform(
      NETWORK, some, out=out, method="differentiable",
      search=dataclasses.replace(RUINED, **changes), share="full",
      train=dataclasses.replace(TRAIN, epochs=4, seeds=1))


@pytest.fixture(scope="module")
def ruined(tmp_path_factory):
  """Of a theta that was thrown about up to the last step of all."""
  out = tmp_path_factory.mktemp("ruined") / "run"
  return out, compared(out)


@pytest.mark.long
def test_what_is_worse_is_not_returned(ruined, capsys):
  out, result = ruined
  row, = result["seeds"]
  tried, = row["tries"]
  assert not tried["accepted"] and tried["images"] == 128
  assert "worse by more than the tolerance of 0.5" in tried["reason"]
  assert "though it is over the budget" in tried["reason"]
  assert tried["difference"] < -0.05 and tried["interval"][1] < 0
  assert tried["madds"] < result["original"]["madds"]
  # The files, the table and the network are of one mind.
  assert result["transformed"] == result["original"]
  assert result["changes"] == [] and row["num_changes"] == 0
  assert codec.read(out / "architecture.json") == NETWORK
  assert {*map(json.dumps, result["architectures"].values())} == {
      json.dumps(codec.to_dict(NETWORK))}
  assert networks_lib.load(out, "transformed-0").architecture == NETWORK
  assert runs.read_architecture(out / "networks/transformed-0") == NETWORK
  original, returned = (
      networks_lib.load_weights(out / "networks" / name / "weights.npz")
      for name in ("original-0", "transformed-0"))
  jax.tree.map(np.testing.assert_array_equal, original, returned)
  output.print_transformed(result, out, differentiable.ENTRY)
  said = " ".join(capsys.readouterr().out.split())
  assert "The original was kept" in said and tried["reason"] in said


@pytest.mark.long
def test_within_a_tolerance_that_allows_it_it_is_returned(ruined, tmp_path):
  _, before = ruined
  result = compared(tmp_path / "run", tolerance=100.0)
  tried, = result["seeds"][0]["tries"]
  assert tried["accepted"] and tried["difference"] == (
      before["seeds"][0]["tries"][0]["difference"])
  assert result["transformed"]["madds"] == tried["madds"]
  assert result["changes"]
  assert codec.to_dict(codec.read(tmp_path / "run" / "architecture.json")) == (
      result["architectures"]["transformed"])


def test_both_are_trained_on_what_is_not_held_out():
  made = job()
  assert len(made.trainer.held_out.labels) == 6  # Of 64 images.
  # Two seeds, three epochs: with theta, and what was derived further.
  assert made.estimate()["search"]["steps"] == 2 * 3 * (58 // 16)
  assert made.estimate()["train"]["steps"] == 2 * 3 * (58 // 16)


def test_where_nothing_is_compared_nothing_is_held_out():
  for made in (job(compare=False), job(simclr=simclr.SimCLRConfig())):
    assert made.trainer.held_out is None
    assert not {"held_out", "tolerance"} & {*made.describe()["search"]}
  assert job().describe()["search"]["tolerance"] == 0.5
  assert presets.get("paper", NETWORK, "differentiable").search.held_out == 0


@pytest.mark.parametrize("changes,message", [
    ({"compare": False}, "held-out is 0.25 .* against --no-compare"),
    ({"simclr": simclr.SimCLRConfig()}, "against the objective simclr")])
def test_nothing_is_held_out_for_no_comparison(changes, message):
  with pytest.raises(errors.InputError, match=message):
    pipeline.Job(NETWORK, dataset(), "differentiable", RUINED, TRAIN,
                 share="full", **changes)
