"""What `--dry-run` shows of a command: its configuration and its size."""

import json

import numpy as np
import pytest

from natjax import cli
from natjax.costs import exact as cost
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from natjax.methods import nat, supervised
from natjax.pipeline import presets
from natjax.training import settings
from tests.cli.commands import (
  contents,
  DATA,
  GENOTYPE,
  run,
  run_json,
  SEARCH,
  TRAIN,
  train_argv,
  transform_argv,
  write,
)


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
  # 1438 images, of which 144 are held out from the networks, too; each epoch of
  # the search walks over both halves.
  search, train = found["estimate"]["search"], found["estimate"]["train"]
  assert search["steps"] == 3 * (647 // 64)
  assert train["steps"] == 2 * (1294 // 64)
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
    (["--dry-run", "--overwrite"], "no effect with --dry-run, which runs"),
    (["--dry-run", "--strict"], "leave one of them out (--strict"),
    (["--dry-run", "--tensorboard"], "leave one of them out (--tensorboard"),
    (["--dry-run", "--checkpoint-seconds", "60"], "(--checkpoint-seconds"),
    (["--dry-run", "--chunk-seconds", "0"], "(--chunk-seconds"),
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
  _, out, err = run(*argv, "--no-train")
  assert "is not known, and is not counted" not in out
  assert "trained in batches" in run(*argv)[2] and "trained in" not in err
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


def test_colours_that_vary_are_told(no_training, tmp_path):
  argv = ["train", "darts", "--dataset", "digits", "--preset", "demo",
          "--dry-run", "--json"]
  varied = lambda *more: json.loads(run(*argv, *more)[1])[
      "configuration"]["augmentation"]
  usual = varied()
  assert not {"jitter", "lighting"} & {*usual}
  assert varied("--jitter", "0.4,0.3,0.2,0.1", "--lighting", "0.1") == {
      **usual, "jitter": [0.4, 0.3, 0.2, 0.1], "lighting": 0.1}
  for more, message in (
      (["--jitter", "0.4"], "'0.4' is not four numbers"),
      (["--jitter", "a,b,c,d"], "is not four numbers"),
      (["--jitter", "0.4,0.4,0.4,0.9"], "the last one, of hues, up to 0.5"),
      (["--lighting", "2"], "give a number from 0 to 1"),
      (["--lighting", "nan"], "give a number from 0 to 1"),
      (["--lighting", "0.1", "--objective", "simclr"],
       "lighting is 0.1 and does not apply to the objective simclr")):
    code, _, err = run(*argv, *more)
    assert code == 2 and message in err.replace("\n", " "), err


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
