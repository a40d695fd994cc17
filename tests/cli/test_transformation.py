"""What a transformation leaves behind, prints, and is resumed from."""

import dataclasses
import json
import math
import shutil
import types
from xml.etree import ElementTree

import jax
import numpy as np
import pytest

from natjax import data, errors, pipeline
from natjax.costs import exact as cost
from natjax.drawing import candidates
from natjax.graph import codec, skeleton
from natjax.graph import genotype as architecture
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import presets, run_files
from natjax.training import fit
from tests.cli.commands import (
  assert_refused,
  contents,
  GENOTYPE,
  run,
  run_json,
  SEARCH,
  TRAIN,
  train_argv,
  transform_argv,
  write,
)

FILES = {"config.json", "metrics.jsonl", "architecture.json", "result.json",
         "architecture.txt", "architecture.svg", "pareto.svg", "pareto",
         "checkpoint",
         "checksums.json", "networks"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """The one transformation that is really run."""
  folder = tmp_path_factory.mktemp("transform")
  argv = transform_argv(write(folder / "genotype.json", GENOTYPE),
                        folder / "run")
  code, out, err = run(*argv)
  assert code == 0, err
  return types.SimpleNamespace(
      argv=argv, folder=folder / "run", out=out, err=err,
      result=json.loads((folder / "run" / "result.json").read_text()))


@pytest.mark.long
def test_result_holds_both_networks(finished):
  result = finished.result
  for name in ("original", "transformed"):
    part = result[name]
    genotype = architecture.from_dict(result["architectures"][name])
    assert (part["params"], part["madds"]) == cost.network(
        genotype, skeleton.Skeleton("cifar", 2, 1, 10, 8))[:2]
    assert 0 <= part["accuracy"] <= 1
    assert part["accuracies"] == [part["accuracy"]]
    assert part["accuracy_std"] == 0
  assert result["architectures"]["original"] == GENOTYPE
  assert result["seed"] == 0
  assert result["versions"] == pipeline.versions()
  assert result["dataset"] == "digits"
  assert result["seconds"] >= result["search_seconds"] > 0


@pytest.mark.long
def test_candidates_cost_no_more_and_one_is_chosen_by_trials(finished):
  result = finished.result
  candidates = result["candidates"]
  assert [c["original"] for c in candidates] == [True] + [False] * (
      len(candidates) - 1)
  assert candidates[0]["architecture"] == GENOTYPE
  assert 1 <= len(candidates) <= 1 + SEARCH["candidates"]
  for c in candidates:
    assert 0 <= c["score"] <= 1
    assert c["params"] <= result["original"]["params"]
    assert c["madds"] <= result["original"]["madds"]
  assert candidates[0]["params"] == result["original"]["params"]
  chosen, = [c for c in candidates if c["chosen"]]
  best = max(c["score"] for c in candidates)
  cheapest = min(
      (c for c in candidates if best - c["score"] <= c["standard_error"]),
      key=lambda c: (c["madds"], c["params"], -c["score"]))
  assert candidates[result["preferred"]["cost"]] == cheapest
  assert candidates[result["preferred"]["accuracy"]]["score"] == best
  preferred = candidates[result["preferred"]["sure"]]  # The default.
  if not preferred["original"]:
    assert preferred["score"] > candidates[0]["score"]
    assert candidates[result["finalists"][0]] == preferred
  assert ("acceptance" in result) == bool(result["finalists"])
  if result["finalists"]:
    tried, = (t for t in result["acceptance"]["trials"]
              if not (t["dropped"] or t["original"]))
    accepted = result["acceptance"]["accepted"]
    assert ("confirmation" in result) == accepted
    assert chosen["original"] != (
        accepted and result["confirmation"]["accepted"])
    assert chosen["original"] or (
        chosen["architecture"] == tried["architecture"])
  assert chosen["architecture"] == result["architectures"]["transformed"]
  assert chosen["params"] == result["transformed"]["params"]


@pytest.mark.long
def test_changes_lead_from_one_architecture_to_the_other(finished):
  before, after = (finished.result["architectures"][n]
                   for n in ("original", "transformed"))
  expected = [
      (cell, a[1], a[2], a[0], b[0]) for cell in ("normal", "reduce")
      for a, b in zip(before[cell], after[cell], strict=True) if a != b]
  keys = ("cell", "source", "target", "before", "after")
  changes = finished.result["changes"]
  assert [tuple(c[k] for k in keys) for c in changes] == expected
  saved = [sum(c["saves"][k] for c in changes) for k in ("params", "madds")]
  assert saved == [finished.result["original"][k] - finished.result[
      "transformed"][k] for k in ("params", "madds")]


@pytest.mark.long
def test_files_of_a_run(finished, no_training):
  folder = finished.folder
  assert {path.name for path in folder.iterdir()} == FILES
  assert json.loads((folder / "config.json").read_text()) == run_json(
      *finished.argv, "--dry-run")["configuration"]
  transformed = codec.read(folder / "architecture.json")
  assert architecture.to_dict(transformed) == (
      finished.result["architectures"]["transformed"])
  assert ElementTree.parse(folder / "architecture.svg").getroot() is not None
  rows = [json.loads(line)
          for line in (folder / "metrics.jsonl").read_text().splitlines()]
  found = [(r["run"], r["stage"], r["phase"], r["epoch"]) for r in rows
           if not r["run"].startswith("trial-")]
  assert found[:5] == [
      ("search", "warmup", "weights", 0), ("search", "search", "weights", 0),
      ("search", "search", "policy", 0), ("original-0", "train", "train", 0),
      ("original-0", "train", "train", 1)]
  assert all(math.isfinite(r["loss"]) and r["seconds"] >= 0 for r in rows)


@pytest.mark.long
def test_transformed_architecture_is_read_as_one(finished):
  found = run_json("cost", finished.folder / "architecture.json", "--cells", 1,
                   "--init-channels", 2, "--image-size", 8, "--json")
  assert found["params"] == finished.result["transformed"]["params"]
  assert found["madds"] == finished.result["transformed"]["madds"]
  # So is every point of the table of candidates, by its number.
  points = candidates.points(finished.result)
  assert {*points} == {
      int(path.stem) for path in (finished.folder / "pareto").iterdir()}
  for number, row in points.items():
    found = run_json("cost", finished.folder / "pareto" / f"{number}.json",
                     "--cells", 1, "--init-channels", 2, "--image-size", 8,
                     "--json")
    assert (found["params"], found["madds"]) == (row["params"], row["madds"])


@pytest.mark.long
@pytest.mark.parametrize("command", ["transform", "train"])
def test_a_runs_folder_is_taken_for_what_it_came_to(
    finished, no_training, tmp_path, command):
  make = transform_argv if command == "transform" else train_argv
  config = run_json(*make(finished.folder, tmp_path / "out"),
                    "--dry-run")["configuration"]
  assert config["architecture"] == finished.result["architectures"][
      "transformed"]
  file = finished.folder / "architecture.json"
  for folder in (finished.folder, f"{finished.folder}/"):
    assert run_json("cost", folder, "--json")["params"] == run_json(
        "cost", file, "--json")["params"]
  pictures = [tmp_path / "folder.svg", tmp_path / "file.svg"]
  for arch, picture in zip((finished.folder, file), pictures, strict=True):
    assert run("draw", arch, arch, "--out", picture)[0] == 0
  assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.long
def test_what_a_run_prints(finished):
  assert "original" in finished.out and "transformed" in finished.out
  assert "multiply-adds" in finished.out
  head = finished.err.splitlines()
  assert head[0].startswith("devices: 1 (") and "seed 0" in head[0]
  assert f"jax {jax.__version__}" in head[0]
  params = finished.result["original"]["params"]
  assert head[1].startswith("digits: 1438 training (144 of them held"
                            " out) and 359 test images of 10")
  assert "held-out images counts" in head[2]  # 144 are few.
  assert head[4].startswith(f"network: {params} parameters, ")


@pytest.mark.long
def test_evaluate_reproduces_the_accuracies(finished):
  found = run_json("evaluate", finished.folder, "--json")
  assert found["dataset"] == "digits"
  accuracies = {n["network"]: n["accuracy"] for n in found["networks"]}
  assert accuracies.pop("original-0") == finished.result["original"]["accuracy"]
  if finished.result["changes"]:
    assert accuracies.pop("transformed-0") == (
        finished.result["transformed"]["accuracy"])
  assert not accuracies
  code, out, _ = run("evaluate", finished.folder)
  assert code == 0 and "original-0" in out


@pytest.mark.long
def test_three_lines_load_a_network(finished):
  net = networks_lib.load(finished.folder)
  digits = data.load("digits", image_size=8)
  predicted = np.asarray(net.predict(digits.test_images))
  accuracy = np.mean(predicted == digits.test_labels)
  assert accuracy == net.test_accuracy
  assert accuracy == finished.result["transformed"]["accuracy"]
  assert net.class_names == digits.class_names
  assert architecture.to_dict(net.architecture) == (
      finished.result["architectures"]["transformed"])
  first = networks_lib.load(finished.folder, "original-0")
  assert first.test_accuracy == finished.result["original"]["accuracy"]


@pytest.mark.long
def test_the_same_command_returns_at_once(finished, no_training):
  before = contents(finished.folder)
  code, out, _ = run(*finished.argv)
  assert code == 0
  assert out == finished.out
  assert contents(finished.folder) == before


@pytest.mark.long
def test_the_python_api_finds_the_same_run(finished, no_training):
  before = contents(finished.folder)
  demo = presets.get("demo")
  result = pipeline.transform(
      architecture.from_dict(GENOTYPE), data.load("digits", image_size=8),
      out=finished.folder, search=dataclasses.replace(demo.search, **SEARCH),
      train=dataclasses.replace(demo.train, **TRAIN), devices=1)
  assert result == finished.result
  assert contents(finished.folder) == before


@pytest.mark.long
def test_finished_parts_are_not_run_again(finished, no_training, tmp_path):
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  (folder / "result.json").unlink()
  assert run(*finished.argv[:-1], folder)[0] == 0
  plain = lambda out: {k: v for k, v in json.loads(
      (out / "result.json").read_text()).items() if k != "time"}
  assert plain(folder) == plain(finished.folder)


@pytest.mark.long
def test_overwrite_starts_anew(finished, monkeypatch, tmp_path):
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  write(folder / "notes.txt", "mine")

  def interrupted(method, splits, **kwargs):
    raise errors.Interrupted

  monkeypatch.setattr(fit, "fit", interrupted)
  code, out, err = run(*finished.argv[:-1], folder, "--overwrite", "--seed", 3)
  assert (code, out) == (130, "")
  assert "resumes it" in err.splitlines()[-1]
  left = {path.name for path in folder.iterdir()}
  assert left == {"notes.txt", "config.json", "checksums.json"}
  assert json.loads((folder / "config.json").read_text())["seed"] == 3


def test_a_step_that_is_not_finite_ends_with_1(
    genotype_file, monkeypatch, tmp_path):
  def not_finite(*args, **kwargs):
    raise errors.NotFinite("network-0, train, epoch 0: a metric is not finite")

  monkeypatch.setattr(fit, "fit", not_finite)
  code, out, err = run(*train_argv(genotype_file, tmp_path / "run"))
  assert (code, out) == (1, "")
  assert err.splitlines()[-1].startswith("natjax: network-0, train, epoch 0")


@pytest.mark.long
def test_evaluate_refuses_other_data(place, finished, tmp_path):
  assert_refused(place, ["evaluate", finished.folder, "--dataset", "small.npz"],
                 "networks for 10 classes and small has 3")
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  config = json.loads((folder / "config.json").read_text())
  del config["source"]  # As earlier versions wrote it.
  run_files.write_kept(folder / "config.json", {**config, "dataset": "flowers"})
  assert_refused(place, ["evaluate", folder], "unknown data set 'flowers'",
                 "--dataset")


@pytest.mark.long
def test_evaluate_refuses_damaged_weights(place, finished, tmp_path):
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  path = folder / "networks" / "original-0" / "weights.npz"
  path.write_bytes(path.read_bytes()[:-100])
  assert_refused(place, ["evaluate", folder], "weights.npz is not what the run"
                 " wrote (its checksum differs)")
  path.with_name("checksums.json").unlink()
  assert_refused(place, ["evaluate", folder], "checksums.json is gone")
  config = json.loads((folder / "config.json").read_text())
  del config["checksums"]  # As of an earlier version.
  run_files.write_kept(folder / "config.json", config)
  assert_refused(place, ["evaluate", folder], "weights.npz is damaged, or"
                 " no file of weights; train the network again")
