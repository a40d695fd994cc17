"""The command line: what it prints, writes and refuses."""

import contextlib
import dataclasses
import io
import json
import math
import pathlib
import shutil
import sys
import types
from xml.etree import ElementTree

import jax
import numpy as np
from PIL import Image
import pytest

import natjax
from natjax import cli, data, errors, operations, pipeline, spaces, zoo
from natjax.costs import exact as cost
from natjax.graph import codec, skeleton
from natjax.graph import genotype as architecture
from natjax.methods import nat, supervised
from natjax.pipeline import choosing, presets, runs
from natjax.pipeline import networks as networks_lib
from natjax.training import fit, settings

# In a network of one cell, which is a reduction cell, the first is not seen.
GENOTYPE = {
    "normal": [["sep_conv_3x3", 0, 2], ["skip_connect", 1, 2],
               ["conv_3x3", 1, 3], ["max_pool_3x3", 2, 3]],
    "normal_concat": [2, 3],
    "reduce": [["conv_3x3", 0, 2], ["sep_conv_3x3", 1, 2],
               ["max_pool_3x3", 1, 3], ["dil_conv_3x3", 2, 3]],
    "reduce_concat": [2, 3],
}
SEARCH = {"init_channels": 2, "cells": 1, "epochs": 2, "warmup_epochs": 1,
          "batch_size": 64, "samples": 2, "candidates": 4}
TRAIN = {"init_channels": 2, "cells": 1, "epochs": 2, "batch_size": 64,
         "seeds": 1}
DATA = ["--dataset", "digits", "--image-size", "8", "--preset", "demo",
        "--devices", "1"]
FILES = {"config.json", "metrics.jsonl", "architecture.json", "result.json",
         "architecture.txt", "architecture.svg", "pareto.svg", "pareto",
         "checkpoint",
         "checksums.json", "networks"}

_compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **kw: _compiled.append(name)
    if "backend_compile" in name else None)


def flags(settings, prefix=""):
  return [text for name, value in settings.items() for text in
          (f"--{prefix}{name.replace('_', '-')}", str(value))]


def transform_argv(genotype, out):
  return ["transform", str(genotype), *DATA, *flags(SEARCH),
          *flags(TRAIN, "train-"), "--out", str(out)]


def train_argv(genotype, out):
  return ["train", str(genotype), *DATA, *flags(TRAIN), "--out", str(out)]


def run(*argv):
  """Runs a command; returns (code, stdout, stderr)."""
  out, err = io.StringIO(), io.StringIO()
  with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
    code = cli.main([str(a) for a in argv])
  return code, out.getvalue(), err.getvalue()


def run_json(*argv):
  code, out, err = run(*argv, *["--json"] * ("--dry-run" in argv))
  assert code == 0, err
  return json.loads(out)


def contents(folder):
  return {path: (path.stat().st_mtime_ns, path.is_file() and path.read_bytes())
          for path in pathlib.Path(folder).rglob("*")}


def write(path, value):
  path.write_text(value if isinstance(value, str) else json.dumps(value))
  return path


@pytest.fixture
def genotype_file(tmp_path):
  return write(tmp_path / "genotype.json", GENOTYPE)


@pytest.fixture
def no_training(monkeypatch):
  def fail(*args, **kwargs):
    raise AssertionError("training began")

  monkeypatch.setattr(fit, "fit", fail)


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


# Short commands.


def test_cost_of_the_papers_networks():
  darts = run_json("cost", "darts", "--json")
  assert (darts["params"], darts["madds"]) == (3349342, 528359040)
  assert type(darts["params"]) is type(darts["madds"]) is int
  imagenet = run_json("cost", "darts", "--skeleton", "imagenet", "--json")
  assert imagenet["params"] == 4718752
  assert imagenet["skeleton"]["image_size"] == 224


def test_cost_takes_the_skeletons_flags():
  found = run_json("cost", "darts", "--init-channels", 4, "--cells", 3,
                   "--classes", 5, "--image-size", 16, "--json")
  place = skeleton.Skeleton("cifar", 4, 3, 5, 16)
  assert found["skeleton"] == place._asdict()
  assert (found["params"], found["madds"]) == cost.network(
      zoo.get("darts"), place)[:2]


def test_cost_in_words():
  code, out, err = run("cost", "DARTS")
  assert (code, err) == (0, "")
  assert len(out.splitlines()) == 1
  assert "3349342 parameters" in out and "528.4 M" in out


@pytest.mark.parametrize("name", ["g.json", "g.txt", "g.py", "g"])
def test_cost_reads_files_of_both_forms(tmp_path, monkeypatch, name):
  monkeypatch.chdir(tmp_path)
  genotype = zoo.get("darts")
  text = {"g.json": codec.to_json(genotype),
          "g.py": f"DARTS_V2 = {architecture.to_darts(genotype)}\n"}
  write(tmp_path / name, text.get(name, architecture.to_darts(genotype)))
  assert run_json("cost", name, "--json")["params"] == 3349342


def test_paths_are_printed_as_they_are(tmp_path):
  folder = tmp_path / "a[bold]b[red]:smile:"
  folder.mkdir()
  path = write(folder / "g.json", GENOTYPE)
  assert run("cost", path)[1].startswith(f"{path}: ")
  assert run("draw", path, "--out", folder / "g.svg")[1] == (
      f"{folder / 'g.svg'}\n")


def test_version(capsys):
  with pytest.raises(SystemExit) as e:
    cli.main(["--version"])
  assert e.value.code == 0
  assert capsys.readouterr().out == f"natjax {natjax.__version__}\n"


def test_list_names_everything():
  code, out, _ = run("list")
  assert code == 0
  listing = run_json("list", "--json")
  assert list(listing["architectures"]) == list(zoo.names())
  for name in ("darts", "resnet20"):
    facts = listing["architectures"][name]
    assert {k: facts[k] for k in ("params", "madds")} == {
        k: v for k, v in run_json("cost", name, "--json").items()
        if k in ("params", "madds")}
  assert listing["architectures"]["darts"]["kind"] == "cells"
  assert ("darts: 3.35 M parameters, 528 M multiply-adds, cells; DARTS (Liu et"
          " al., 2019)") in out
  assert listing["architectures"]["resnet20"]["source"] == (
      "ResNet (He et al., 2016)")
  assert listing["operations"] == list(operations.names())
  assert listing["datasets"] == data.names()
  assert listing["spaces"] == list(spaces.SPACES)
  assert listing["presets"] == list(presets.PRESETS)
  assert list(listing["methods"]) == [
      "nat", "natpp", "differentiable", "darts", "entrannas", "entrannas-dst",
      "it-nas", "spos", "evolution", "random", "replace"]
  words = out.replace(",", " ").replace(":", " ").split()
  for names in listing.values():
    assert set(names) <= set(words)


def test_operations_are_figure_4b():
  rows = {r["operation"]: r for r in run_json(
      "operations", "--channels", 128, "--image-size", 32, "--json")}
  assert set(rows) == set(operations.names())
  costs = {n: (r["params"], r["madds"]) for n, r in rows.items()}
  assert costs["sep_conv_3x3"] == (35072, 35913728)
  assert costs["max_pool_5x5"] == (0, 3276800)
  assert costs["skip_connect"] == (0, 131072)
  assert costs["null"] == (0, 0)
  assert rows["sep_conv_3x3"]["kernel_size"] == 3


def test_operations_in_words():
  code, out, _ = run("operations")
  assert code == 0
  assert "35.1" in out and "35.9" in out and "dil_conv_5x5" in out


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_draw(tmp_path, suffix):
  if suffix == "png":
    pytest.importorskip("matplotlib")
  path = tmp_path / f"f.{suffix}"
  code, out, err = run("draw", "darts", "nat_darts", "--out", path)
  assert (code, out, err) == (0, f"{path}\n", "")
  if suffix == "svg":
    assert ElementTree.parse(path).getroot().tag.endswith("svg")
  else:
    with Image.open(path) as image:
      assert image.format == "PNG" and min(image.size) > 100


@pytest.mark.parametrize("command", [
    [], ["transform"], ["search"], ["train"], ["evaluate"], ["draw"], ["cost"],
    ["explain"], ["list"], ["operations"]])
def test_help(command):
  out = io.StringIO()
  with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as exit_info:
    cli.main([*command, "--help"])
  assert exit_info.value.code == 0
  assert out.getvalue().startswith("usage: natjax")


# What a transformation leaves behind.


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
  if preferred["original"]:
    assert chosen == preferred and "acceptance" not in result
  else:
    assert preferred["score"] > candidates[0]["score"]
    assert candidates[result["finalists"][0]] == preferred
    tried, = (t for t in result["acceptance"]["trials"]
              if not (t["dropped"] or t["original"]))
    assert chosen["original"] != result["acceptance"]["accepted"]
    assert chosen["original"] or (
        chosen["architecture"] == tried["architecture"])
  assert chosen["architecture"] == result["architectures"]["transformed"]
  assert chosen["params"] == result["transformed"]["params"]


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


def test_transformed_architecture_is_read_as_one(finished):
  found = run_json("cost", finished.folder / "architecture.json", "--cells", 1,
                   "--init-channels", 2, "--image-size", 8, "--json")
  assert found["params"] == finished.result["transformed"]["params"]
  assert found["madds"] == finished.result["transformed"]["madds"]
  # So is every point of the table of candidates, by its number.
  points = choosing.points(finished.result)
  assert {*points} == {
      int(path.stem) for path in (finished.folder / "pareto").iterdir()}
  for number, row in points.items():
    found = run_json("cost", finished.folder / "pareto" / f"{number}.json",
                     "--cells", 1, "--init-channels", 2, "--image-size", 8,
                     "--json")
    assert (found["params"], found["madds"]) == (row["params"], row["madds"])


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


def make_run(folder, architecture, kind="search"):
  folder.mkdir(parents=True)
  write(folder / "config.json", {
      "kind": kind, "dataset": "digits", "image_size": 32, "classes": 10,
      "crc32": 0})
  write(folder / "architecture.json", codec.to_json(architecture))
  return folder


def test_a_run_over_several_seeds_has_one_architecture_per_seed(tmp_path):
  found = {name: zoo.get(name) for name in ("darts", "enas")}
  whole = make_run(tmp_path / "run", found["darts"])
  seeds = [make_run(whole / f"seed-{3 + i}", found[name])
           for i, name in enumerate(found)]
  write(seeds[1] / "result.json", {})
  # A seed that is finished may be taken before all are.
  costs = {name: run_json("cost", name, "--json")["params"] for name in found}
  assert run_json("cost", seeds[1], "--json")["params"] == costs["enas"]
  for folder in (whole, seeds[0]):
    code, _, err = run("cost", folder)
    assert code == 2 and "not finished" in err and len(err.splitlines()) == 1
  write(whole / "result.json", {})
  assert run_json("cost", whole, "--json")["params"] == costs["darts"]


def test_a_run_of_blocks_brings_its_skeleton(tmp_path):
  folder = make_run(tmp_path / "run", zoo.get("resnet20"), "train")
  write(folder / "result.json", {})
  half = run_json("cost", folder, "--width", 0.5, "--json")
  assert half["params"] == run_json(
      "cost", "resnet20", "--width", 0.5, "--json")["params"]
  code, _, err = run("cost", folder, "--skeleton", "imagenet")
  assert code == 2 and "brings its own; leave the option out" in err
  # Cells stand in any.
  write(folder / "architecture.json", codec.to_json(zoo.get("darts")))
  assert run_json("cost", folder, "--skeleton", "imagenet", "--json") | {
      "architecture": "darts"} == run_json(
          "cost", "darts", "--skeleton", "imagenet", "--json")


def test_a_folder_does_not_hide_a_known_architecture(
    tmp_path, monkeypatch, capsys):
  """The same command resumes `natjax train darts --out darts`."""
  monkeypatch.chdir(tmp_path)
  folder = make_run(tmp_path / "DARTS", zoo.get("enas"))
  write(folder / "result.json", {})
  params = lambda arch: run_json("cost", arch, "--json")["params"]
  assert params("DARTS") == params("darts")
  assert params("./DARTS") == params("enas") != params("darts")
  assert cli.main(["cost", "DARTS"]) == 0
  assert capsys.readouterr().err == (
      "DARTS is that of `natjax list`, not the run in the folder DARTS; write"
      " ./DARTS for that\n")
  assert cli.main(["cost", "./DARTS"]) == 0
  assert cli.main(["cost", "pdarts"]) == 0
  assert capsys.readouterr().err == ""


def test_what_a_run_prints(finished):
  assert "original" in finished.out and "transformed" in finished.out
  assert "multiply-adds" in finished.out
  head = finished.err.splitlines()
  assert head[0].startswith("devices: 1 (") and "seed 0" in head[0]
  assert f"jax {jax.__version__}" in head[0]
  params = finished.result["original"]["params"]
  assert head[1].startswith("digits: 1438 training and 359 test images of 10")
  assert head[3].startswith(f"network: {params} parameters, ")


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


def test_the_same_command_returns_at_once(finished, no_training):
  before = contents(finished.folder)
  code, out, _ = run(*finished.argv)
  assert code == 0
  assert out == finished.out
  assert contents(finished.folder) == before


def test_the_python_api_finds_the_same_run(finished, no_training):
  before = contents(finished.folder)
  demo = presets.get("demo")
  result = pipeline.transform(
      architecture.from_dict(GENOTYPE), data.load("digits", image_size=8),
      out=finished.folder, search=dataclasses.replace(demo.search, **SEARCH),
      train=dataclasses.replace(demo.train, **TRAIN), devices=1)
  assert result == finished.result
  assert contents(finished.folder) == before


def test_finished_parts_are_not_run_again(finished, no_training, tmp_path):
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  (folder / "result.json").unlink()
  assert run(*finished.argv[:-1], folder)[0] == 0
  plain = lambda out: {k: v for k, v in json.loads(
      (out / "result.json").read_text()).items() if k != "time"}
  assert plain(folder) == plain(finished.folder)


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
  assert left == {"notes.txt", "config.json"}
  assert json.loads((folder / "config.json").read_text())["seed"] == 3


def test_a_step_that_is_not_finite_ends_with_1(
    genotype_file, monkeypatch, tmp_path):
  def not_finite(*args, **kwargs):
    raise errors.NotFinite("network-0, train, epoch 0: a metric is not finite")

  monkeypatch.setattr(fit, "fit", not_finite)
  code, out, err = run(*train_argv(genotype_file, tmp_path / "run"))
  assert (code, out) == (1, "")
  assert err.splitlines()[-1].startswith("natjax: network-0, train, epoch 0")


# Dry runs.


def test_dry_run_of_a_transformation(genotype_file, no_training, tmp_path):
  before = contents(tmp_path)
  found = run_json(*transform_argv(genotype_file, tmp_path / "run"),
                   "--dry-run")
  assert contents(tmp_path) == before
  configuration = found["configuration"]
  assert configuration["kind"] == "transform"
  assert configuration["architecture"] == GENOTYPE
  assert configuration["dataset"] == "digits"
  assert configuration["space"]["name"] == "nat"
  assert configuration["search"].keys() == settings.describe(
      nat.NATConfig()).keys()
  assert configuration["train"].keys() == settings.describe(
      supervised.TrainConfig()).keys()
  assert SEARCH.items() <= configuration["search"].items()
  assert TRAIN.items() <= configuration["train"].items()
  # 1438 images, of which 144 are held out, halved; each epoch of the search
  # walks over both halves.
  search, train = found["estimate"]["search"], found["estimate"]["train"]
  assert search["steps"] == 3 * (647 // 64)
  assert train["steps"] == 2 * (1438 // 64)
  place = skeleton.Skeleton("cifar", 2, 1, 10, 8)
  expected = cost.network(architecture.from_dict(GENOTYPE), place)
  assert (train["params"], train["madds"]) == (expected.params, expected.madds)
  assert search["params"] > train["params"]
  assert min(search["memory_bytes"], train["memory_bytes"]) > 0


def test_dry_run_of_a_training(genotype_file, no_training, tmp_path):
  before = contents(tmp_path)
  found = run_json(*train_argv(genotype_file, tmp_path / "run"), "--seeds", 3,
                   "--seed", 5, "--dry-run")
  assert contents(tmp_path) == before
  assert found["configuration"]["kind"] == "train"
  assert found["configuration"]["seed"] == 5
  assert found["estimate"]["steps"] == 3 * 2 * (1438 // 64)
  assert found["estimate"]["params"] > 0 and found["estimate"]["madds"] > 0


def test_dry_run_of_a_set_that_is_not_there(no_training, tmp_path, monkeypatch):
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
  argv = ["train", "nat_darts", "--dataset", "imagenet2012", "--preset",
          "imagenet-nat", "--devices", 1, "--dry-run"]
  code, out, err = run(*argv, "--json", "--teraflops", 10)
  assert code == 0 and "imagenet2012: not there, and taken for 1281167" in err
  found = json.loads(out)
  assert found["configuration"]["image_size"] == 224
  estimate = found["estimate"]
  assert estimate["steps"] == 250 * (1281167 // 128)
  assert estimate["hours"] == pytest.approx(
      6 * estimate["madds"] * 128 * estimate["steps"] / 3600e13)
  # A folder that is named is looked into, and others are not known.
  assert run(*argv, "--data-dir", tmp_path)[0] == 2
  assert run(*argv[:3], "caltech101", "--dry-run")[0] == 2


@pytest.mark.parametrize("flags, words", [
    (["--teraflops", "10"], "is of --dry-run alone; leave it out (--tera"),
    (["--json"], "is of --dry-run alone; leave it out (--json)"),
    (["--dry-run", "--teraflops", "0"], "'0' is no number above 0"),
    (["--dry-run", "--teraflops", "much"], "'much' is no number above 0")])
def test_what_belongs_to_dry_runs_is_refused_without(
    genotype_file, no_training, tmp_path, flags, words):
  code, _, err = run(*train_argv(genotype_file, tmp_path / "run"), *flags)
  assert code == 2 and words in err


def test_a_dry_run_fits_a_screen(genotype_file, no_training, tmp_path):
  code, out, err = run(*transform_argv(genotype_file, tmp_path / "run"),
                       "--max-madds", "0.8x", "--dry-run")
  assert code == 0 and len((out + err).splitlines()) < 40
  first = out.splitlines()[0]
  assert first == f"transform {genotype_file}, method nat, seed 0"
  assert "epochs 2" in out
  whole = run_json(*transform_argv(genotype_file, tmp_path / "run"),
                   "--max-madds", "0.8x", "--dry-run")
  # The budget is a number of its own network, and the table has the sums.
  original = whole["estimate"]["train"]["madds"]
  assert whole["budget"]["madds"] == pytest.approx(0.8 * original, abs=1)
  assert f"budget: madds {whole['budget']['madds']:,.0f}" in out
  for part in ("search", "train", "all"):
    row, = (line for line in out.splitlines()
            if line.startswith(f"│ {part} "))
    assert f" {whole['estimate'][part]['steps']:,} " in row


def test_a_dry_run_says_what_it_leaves_out(no_training):
  argv = ["search", "--space", "darts", "--method", "random", "--dataset",
          "digits", "--dry-run"]
  assert "is not known, and is not counted" in run(*argv)[1]
  assert "is not known, and is not counted" not in run(*argv, "--no-train")[1]
  alone = run_json("transform", "resnet20", "--method", "differentiable",
                   "--dataset", "digits", "--no-compare",
                   "--dry-run")["estimate"]
  assert {*alone} == {"search", "all"}
  assert alone["all"]["steps"] == alone["search"]["steps"]


def test_two_views_take_twice_the_memory(no_training):
  one, two = (run_json(
      "train", "resnet20", "--dataset", "digits", "--objective", objective,
      "--batch-size", 64, "--seeds", 1, "--dry-run")["estimate"]
              for objective in ("supervised", "simclr"))
  images = lambda found: found["memory_bytes"] - 12 * found["params"]
  assert images(two) == pytest.approx(2 * images(one), rel=0.01)


def test_a_dry_run_times_the_network(genotype_file, no_training, tmp_path):
  argv = [*train_argv(genotype_file, tmp_path / "run"), "--dry-run"]
  found = run_json(*argv, "--teraflops", "measured")
  estimate, each = found["estimate"], found["teraflops"]
  assert each not in (0.0, run_json(*argv)["teraflops"])
  steps = estimate["steps"]
  batch = found["configuration"]["train"]["batch_size"]
  assert estimate["hours"] == pytest.approx(
      6 * estimate["madds"] * batch * steps / (
          3.6e15 * each * found["configuration"]["devices"]))
  code, out, _ = run(*argv, "--teraflops", "measured")
  assert code == 0 and "teraflops a device (timed)" in out
  code, _, err = run("search", "--space", "darts", "--method", "random",
                     "--dataset", "digits", "--no-train", "--dry-run",
                     "--teraflops", "measured")
  assert code == 2 and "network that is given, and there is none" in err


def test_flags_of_the_data(no_training, tmp_path):
  path = tmp_path / "mine.npz"
  np.savez(path, x_train=np.zeros((80, 8, 12, 3), np.uint8),
           y_train=np.arange(80) % 2 * 5)
  argv = ["train", "darts", "--dataset", path, "--preset", "demo",
          "--batch-size", "8", "--dry-run", "--json"]
  code, _, err = run(*argv)
  assert code == 2 and "has no test set" in err and "(--test-fraction" in err
  code, _, err = run(*argv, "--test-fraction", "0.5")
  assert code == 2 and "renumber the labels (--renumber-labels" in err
  argv += ["--test-fraction", "0.5", "--renumber-labels", "--resize", "crop"]
  code, out, err = run(*argv)
  assert code == 0 and "mine: labels 0, 5 are renumbered 0 to 1" in err
  config = json.loads(out)["configuration"]
  assert config["images"] == {"train": 40, "test": 40}
  assert config["source"] == {
      "name": str(path), "data_dir": None, "resize": "crop",
      "renumber_labels": True, "test_fraction": 0.5}


def test_help_says_how_often_a_run_is_saved(capsys):
  with pytest.raises(SystemExit):
    cli.main(["train", "--help"])
  assert "least time between checkpoints (60)" in " ".join(
      capsys.readouterr().out.split())


def test_settings_come_from_preset_then_file_then_flags(
    no_training, tmp_path):
  config = write(tmp_path / "c.json", {
      "search": {"epochs": 5, "learning_rate": 1, "gcn_layers": 5},
      "train": {"seeds": 2, "sync_bn": True}})
  found = run_json(
      "transform", "darts", *DATA, "--config", config, "--epochs", 7,
      "--warmup-epochs", 0, "--train-seeds", 4, "--no-train-sync-bn",
      "--out", tmp_path / "run", "--dry-run")["configuration"]
  demo = presets.get("demo")
  assert found["search"] == {
      **settings.describe(demo.search), "epochs": 7, "warmup_epochs": 0,
      "learning_rate": 1.0, "gcn_layers": 5}
  assert found["train"] == {
      **settings.describe(demo.train), "seeds": 4, "sync_bn": False}


def test_dry_run_shows_the_published_policy(
    genotype_file, no_training, tmp_path):
  found = run_json(*transform_argv(genotype_file, tmp_path / "run"),
                   "--policy", "published", "--baseline", "published",
                   "--dry-run")["configuration"]["search"]
  assert (found["policy"], found["baseline"]) == ("published", "published")


@pytest.mark.parametrize("name,space,nodes", [
    ("darts", "nat", 4), ("enas", "nat_loose_end", 5)])
def test_space_follows_the_architecture(
    no_training, tmp_path, name, space, nodes):
  found = run_json(*transform_argv(name, tmp_path / "run"), "--dry-run")
  found = found["configuration"]["space"]
  assert (found["name"], found["num_nodes"]) == (space, nodes)


# Refusals.


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
  """A folder with all that the refused commands name."""
  folder = tmp_path_factory.mktemp("refusals")
  write_genotypes(folder)
  write_data_sets(folder)
  write_config_files(folder)
  write(folder / "file", "x")
  for name in ("foreign", "model", "damaged"):
    (folder / name).mkdir()
  write(folder / "foreign" / "x.txt", "x")
  write(folder / "model" / "config.json", {"kind": "of another program"})
  write(folder / "damaged" / "config.json", '{"kind": "tra')
  argv = transform_argv(folder / "g.json", "other")
  runs.open_run(folder / "other",
                run_json(*argv, "--dry-run")["configuration"])
  return folder


def write_genotypes(folder):
  edges = GENOTYPE["normal"]
  for name, value in {
      "g.json": GENOTYPE,
      "unknown_op.json": {**GENOTYPE,
                          "normal": [["conv_9x9", 0, 2], *edges[1:]]},
      "unknown_op.txt":
          "Genotype(normal=[('conv_9x9', 0), ('conv_3x3', 1)],"
          " normal_concat=[2], reduce=[('conv_3x3', 0), ('conv_3x3', 1)],"
          " reduce_concat=range(2, 3))",
      "unequal.json": {**GENOTYPE, "normal": edges[:2], "normal_concat": [2]},
      "three_inputs.json": {
          **GENOTYPE,
          "normal": [*edges[:2], ["conv_3x3", 0, 2], *edges[2:]]},
      "broken.json": "{",
      "list.json": [1],
  }.items():
    write(folder / name, value)


def write_data_sets(folder):
  images = np.zeros((200, 8, 8), np.uint8)
  labels = np.arange(200) % 3
  test = {"x_test": images[:6], "y_test": labels[:6] % 2}
  np.savez(folder / "small.npz", x_train=images[:60], y_train=labels[:60],
           **test)
  np.savez(folder / "negative.npz", x_train=images, y_train=labels - 1, **test)
  np.savez(folder / "named.npz", x_train=images, y_train=labels, **test,
           class_names=np.array(["a", "b"]))
  np.savez(folder / "keys.npz", x=images)


def write_config_files(folder):
  for name, value in {
      "key": {"other": {}},
      "flat": {"epochs": 3},
      "setting": {"search": {"epoch": 1}},
      "text": {"search": {"epochs": "3"}},
      "bool": {"search": {"epochs": True}},
      "real": {"search": {"epochs": 3.0}},
      "null": {"train": {"learning_rate": None}},
      "zero": {"train": {"epochs": 0}},
      "infinite": '{"search": {"learning_rate": Infinity}}',
  }.items():
    write(folder / f"config_{name}.json", value)


@pytest.fixture
def place(everything, monkeypatch, no_training):
  """The same as the working folder; no test changes it."""
  monkeypatch.chdir(everything)
  return everything


def assert_refused(place, argv, *fragments):
  before, compiled = contents(place), len(_compiled)
  code, out, err = run(*argv)
  assert (code, out) == (2, ""), (code, out, err)
  lines = err.splitlines()
  assert len(lines) == 1 and err.endswith("\n"), err
  assert lines[0].startswith("natjax: ")
  for fragment in fragments:
    assert fragment in lines[0]
  assert contents(place) == before
  assert len(_compiled) == compiled


def valid(command, *, arch="g.json", out="new", dataset="digits"):
  """A small command that is refused for nothing but what a test changes."""
  make = transform_argv if command == "transform" else train_argv
  argv = make(arch, out)
  argv[argv.index("digits")] = dataset
  return argv


COMMANDS = pytest.mark.parametrize("command", ["transform", "train"])


@COMMANDS
@pytest.mark.parametrize("arch,fragment", [
    ("dart", "'dart'; did you mean darts"),
    ("no/such.json", "no/such.json: No such file"),
    ("such.json", "such.json: No such file"),
    ("unknown_op.json", "unknown_op.json, normal cell: unknown operation"
     " 'conv_9x9'; did you mean conv_"),
    ("unknown_op.txt", "unknown_op.txt, normal cell: unknown operation"),
    ("broken.json", "broken.json: not JSON"),
    ("list.json", "list.json: given list"),
    ("file", "file: not JSON"),
    ("./foreign", "foreign is a folder and holds no run of natjax"),
    ("model", "model is a folder and holds no run of natjax"),
    ("other", "other holds a run that is not finished; resume it"),
    ("x" * 300, "no architecture is named 'xxx"),
])
def test_refuses_architectures(place, command, arch, fragment):
  assert_refused(place, valid(command, arch=arch), fragment)


@COMMANDS
@pytest.mark.parametrize("arch", ["unequal.json", "three_inputs.json"])
def test_cells_of_any_form(place, command, arch):
  code, out, err = run(*valid(command, arch=arch), "--dry-run", "--json")
  assert code == 0 and json.loads(out)["configuration"]["kind"] == command, err


@COMMANDS
@pytest.mark.parametrize("dataset,fragment", [
    ("digit", "unknown data set 'digit'"),
    ("./nowhere", "nowhere: no such file or folder"),
    ("cifar10", "cifar10 not found"),
    ("small.npz", "60 images, fewer than a batch of 64"),
    ("negative.npz", "training labels run from -1 to 1"),
    ("named.npz", "training labels run from 0 to 2; with 2 classes"),
    ("keys.npz", "has the keys x, and lacks x_train"),
    ("./foreign", "has 0 class folders"),
])
def test_refuses_data_sets(place, monkeypatch, command, dataset, fragment):
  monkeypatch.setenv("TFDS_DATA_DIR", str(place))
  assert_refused(place, valid(command, dataset=dataset), fragment)


@COMMANDS
@pytest.mark.parametrize("out,fragment", [
    ("file", "file is a file"),
    ("file/run", "file/run cannot be made: Not a directory"),
    ("foreign", "foreign is not empty and holds no run"),
    ("model", "model is not empty and holds no run"),
    ("damaged", "config.json is not JSON and may be damaged"),
])
def test_refuses_folders(place, command, out, fragment):
  assert_refused(place, valid(command, out=out), fragment)
  if out != "damaged":  # Which a run of natjax may have been.
    assert_refused(place, [*valid(command, out=out), "--overwrite"], fragment)


@pytest.mark.parametrize("extra,difference", [
    (["--seed", 1], "seed 0 there and 1 here"),
    (["--samples", 3], "search.samples 2 there and 3 here"),
    (["--train-epochs", 3], "train.epochs 2 there and 3 here"),
    (["--space", "nat_loose_end"], "space.name 'nat' there"),
    (["--image-size", 9], "image_size 8 there and 9 here"),
])
def test_refuses_a_run_of_another_configuration(place, extra, difference):
  assert_refused(place, [*valid("transform", out="other"), *extra],
                 "other holds a run of another configuration", difference,
                 "--overwrite")


def test_refuses_a_run_of_another_command(place):
  assert_refused(place, valid("train", out="other"),
                 "kind 'transform' there and 'train' here", "more); give the")


@pytest.mark.parametrize("name,value,fragment", [
    ("preset", "tiny", "preset 'tiny' is unknown; choose one of demo, small"),
    ("devices", 0, "devices is 0"),
    ("devices", 5, "devices is 5 and this machine has 4"),
    ("epochs", "many", "argument --epochs: invalid int value: 'many'"),
    ("epochs", "1.5", "argument --epochs: invalid int value: '1.5'"),
    ("epochs", 0, "epochs is 0 and must be at least 1"),
    ("epochs", -1, "epochs is -1 and must be at least 1"),
    ("cells", 0, "cells is 0 and must be at least 1"),
    ("cells", -3, "cells is -3"),
    ("init-channels", 0, "init-channels is 0 and must be at least 2"),
    ("init-channels", -2, "init-channels is -2"),
    ("init-channels", 3, "init-channels is 3; a factorised reduce halves"),
    ("batch-size", 0, "batch-size is 0 and must be at least 1"),
    ("batch-size", -8, "batch-size is -8"),
    ("learning-rate", "high", "argument --learning-rate: invalid float"),
    ("learning-rate", "nan",
     "learning-rate is nan; give a finite number (--learning-rate)"),
    ("dtype", "int8", "dtype is 'int8'; choose"),
    ("image-size", 0, "image_size 0"),
    ("image-size", -8, "image_size -8"),
    ("image-size", 2, "image-size 2 is too small for the cifar skeleton"),
    ("seed", -1, "seed is -1 and must lie in [0, "),
    ("seed", 2**32, f"seed is {2**32} and must lie in [0, "),
    ("seed", "one", "argument --seed: invalid int value"),
    ("chunk-seconds", "nan", "chunk-seconds is nan"),
    ("checkpoint-seconds", -1, "checkpoint-seconds is -1.0"),
    ("data-dir", "foreign", "data_dir foreign given with digits"),
    ("speed", 9, "unrecognized arguments: --speed 9"),
    ("epoch", 9, "unrecognized arguments: --epoch 9"),
])
@COMMANDS
def test_refuses_values(place, command, name, value, fragment):
  assert_refused(place, [*valid(command), f"--{name}", value], fragment)


@pytest.mark.parametrize("extra,fragment", [
    (["--method", "darts"], "--method: invalid choice: 'darts'"),
    (["--space", "big"], "'big' is unknown; choose one of nat, nat_loose_end"),
    (["--policy", "new"], "policy is 'new'; choose one of default, published"),
    (["--baseline", "new"], "baseline is 'new'; choose one of auto"),
    (["--selection", "new"], "selection is 'new'; choose one of sample"),
    (["--samples", 0], "samples is 0 and must be at least 1"),
    (["--inputs", 0], "inputs is 0 and must be at least 1"),
    (["--candidates", -1], "candidates is -1 and must be at least 1"),
    (["--warmup-epochs", 2], "warmup-epochs is 2 and must lie in [0, epochs)"),
    (["--warmup-epochs", -1], "warmup-epochs is -1"),
    (["--gcn-layers", 3], "gcn-layers is 3; choose one of 1, 2, 5, 10"),
    (["--weights-fraction", 1], "weights-fraction is 1.0"),
    (["--weights-fraction", 0.01], "weights split has 13 images, fewer than"),
    (["--samples", 1, "--baseline", "leave_one_out"],
     "samples is 1; give 2 or more, or another baseline (--samples)"),
    (["--train-epochs", 0], "epochs is 0 and must be at least 1; give a larger"
     " number (--train-epochs)"),
    (["--train-seeds", 0], "give a larger number (--train-seeds)"),
    (["--train-cells", 0], "cells is 0 and must be at least 1"),
    (["--train-init-channels", -2], "init-channels is -2"),
    (["--train-init-channels", 5], "init-channels is 5; a factorised"),
    (["--train-batch-size", 0], "larger number (--train-batch-size)"),
    (["--train-skeleton", "mnist"], "skeleton 'mnist' is unknown"),
    (["--train-auxiliary"], "(--train-auxiliary)"),
    (["--train-cutout", -1], "cutout is -1 and must lie in [0, 8], the images'"
     " side; 0 turns it off (--train-cutout)"),
    (["--devices", 4, "--batch-size", 6],
     "(6) must be divisible by the number of devices (4); give batch-size 4 or"
     " devices 1 (--batch-size)"),
    (["--devices", 4, "--train-batch-size", 6],
     "give batch-size 4 or devices 1 (--train-batch-size)"),
])
def test_transform_refuses(place, extra, fragment):
  assert_refused(place, [*valid("transform"), *extra], fragment)


@pytest.mark.parametrize("extra,fragment", [
    (["--seeds", 0], "seeds is '0'; pass a range such as --seeds 0:5"),
    (["--skeleton", "imagenet"], "image-size 8 is too small for the imagenet"),
    (["--auxiliary"], "larger images or no auxiliary head (--auxiliary)"),
    (["--drop-path", 1], "drop-path is 1.0 and must lie in [0, 1)"),
    (["--cutout", 9], "cutout is 9 and must lie in [0, 8]"),
    (["--samples", 2], "unrecognized arguments: --samples 2"),
    (["--devices", 4, "--batch-size", 6],
     "(6) must be divisible by the number of devices (4)"),
])
def test_train_refuses(place, extra, fragment):
  assert_refused(place, [*valid("train"), *extra], fragment)


@pytest.mark.parametrize("name,fragment", [
    ("missing", "config_missing.json: No such file or directory; name a file"),
    ("key", "must be an object with the keys search, train"),
    ("flat", "must be an object with the keys search, train"),
    ("setting", "config_setting.json: unknown setting 'epoch'; known are max"),
    ("text", "'epochs' is '3' and must be of type int"),
    ("bool", "'epochs' is True and must be of type int"),
    ("real", "'epochs' is 3.0 and must be of type int"),
    ("null", "'learning_rate' is None and must be of type float"),
    ("zero", "epochs is 0 and must be at least 1"),
    ("infinite", "learning-rate is inf"),
])
def test_refuses_config_files(place, name, fragment):
  argv = valid("transform")
  # Flags would take precedence over the file.
  for flag in ("--epochs", "--train-epochs"):
    del argv[argv.index(flag):argv.index(flag) + 2]
  assert_refused(
      place, [*argv, "--config", f"config_{name}.json"], fragment)


@pytest.mark.parametrize("name,fragment", [
    ("broken.json", "broken.json is not JSON and may be damaged; correct it"),
    ("list.json", "must be an object with the keys train"),
    ("foreign", "foreign: Is a directory; name a file"),
])
def test_train_refuses_config_files(place, name, fragment):
  assert_refused(place, [*valid("train"), "--config", name], fragment)


@COMMANDS
def test_refuses_missing_flags(place, command):
  argv = valid(command)
  where = argv.index("--dataset")
  assert_refused(place, argv[:where] + argv[where + 2:], "required: --dataset")


def test_refuses_tensorboard_where_it_is_not_installed(place, monkeypatch):
  monkeypatch.setitem(sys.modules, "tensorboardX", None)
  assert_refused(place, [*valid("train"), "--tensorboard"],
                 "--tensorboard needs tensorboardX; pip install")


@pytest.mark.parametrize("argv,fragment", [
    ([], "required: COMMAND"),
    (["search"], "required: --space, --dataset"),
    (["search", "--space", "nat", "--dataset", "digits", "--method", "m"],
     "invalid choice: 'm'"),
    (["find"], "invalid choice: 'find'"),
    (["cost"], "required: ARCH"),
    (["cost", "a\nb"], "no architecture is named 'a b'"),
    (["cost", "dart"], "did you mean darts"),
    (["cost", "unknown_op.txt"], "unknown operation 'conv_9x9'"),
    (["cost", "darts", "--cells", 0], "cells is 0 and must be at least 1"),
    (["cost", "darts", "--classes", -1], "classes is -1"),
    (["cost", "darts", "--init-channels", 7], "init-channels is 7"),
    (["cost", "darts", "--image-size", 7], "image-size 7 is too small"),
    (["cost", "darts", "--skeleton", "x"], "invalid choice: 'x'"),
    (["operations", "--channels", 0], "channels is 0"),
    (["operations", "--image-size", -4], "image-size is -4"),
    (["draw", "darts"], "required: --out"),
    (["draw", "dart", "--out", "f.svg"], "did you mean darts"),
    (["draw", "foreign", "--out", "f.svg"], "foreign is a folder and holds no"),
    (["draw", "darts", "other", "--out", "f.svg"], "run that is not finished"),
    (["cost", "other"], "run that is not finished"),
    (["cost", "model"], "model is a folder and holds no run"),
    (["draw", "darts", "nat_dart", "--out", "f.svg"], "did you mean nat_darts"),
    (["draw", "darts", "--out", "f.gif"], ".svg or .png, not as '.gif'"),
    (["draw", "darts", "--out", "no/f.svg"], "there is no directory 'no'"),
    (["evaluate", "nowhere"], "nowhere/config.json: No such file"),
    (["evaluate", "foreign"], "foreign/config.json: No such file"),
    (["evaluate", "model"], "model holds no run of natjax"),
    (["evaluate", "damaged"], "config.json is not JSON"),
    (["evaluate", "other"], "other holds no trained network"),
])
def test_short_commands_refuse(place, argv, fragment):
  assert_refused(place, argv, fragment)


def test_evaluate_refuses_other_data(place, finished, tmp_path):
  assert_refused(place, ["evaluate", finished.folder, "--dataset", "small.npz"],
                 "networks for 10 classes and small has 3")
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  config = json.loads((folder / "config.json").read_text())
  del config["source"]  # As earlier versions wrote it.
  write(folder / "config.json", {**config, "dataset": "flowers"})
  assert_refused(place, ["evaluate", folder], "unknown data set 'flowers'",
                 "--dataset")


def test_evaluate_refuses_damaged_weights(place, finished, tmp_path):
  folder = shutil.copytree(finished.folder, tmp_path / "run")
  path = folder / "networks" / "original-0" / "weights.npz"
  path.write_bytes(path.read_bytes()[:-100])
  assert_refused(place, ["evaluate", folder], "weights.npz is damaged, or"
                 " no file of weights; train the network again")
