"""Smoke of differentiable transformation beside NAT; nothing of accuracy."""

import importlib
import json
import pathlib

import numpy as np
import pytest

from natjax import data, errors, zoo
from natjax.costs import exact as cost
from natjax.graph import blocks, codec, skeleton
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "differentiable_reproducibility.py"
KINDS = ["original", "published", "nat", "cell", "full"]


@pytest.fixture
def script(monkeypatch):
  monkeypatch.syspath_prepend(str(SCRIPT.parent))
  return importlib.import_module(SCRIPT.stem)


def check_rows(kinds):
  """What holds of all rows of a network."""
  for kind, row in kinds.items():
    if "refused" in row:
      continue
    for seed in row["seeds"]:
      architecture = codec.from_dict(seed["architecture"])
      place = (blocks.Frame if isinstance(architecture, blocks.BlockNetwork)
               else skeleton.Skeleton)(**seed["place"])
      assert cost.network(architecture, place)[:2] == (
          seed["params"], seed["madds"])
      if kind != "published":  # Which may raise the cost.
        assert seed["params"] <= kinds["original"]["params"]
        assert seed["madds"] <= kinds["original"]["madds"]
    # A training that was compiled before may round to no tenth of a second.
    assert sum(seed["hours"] for seed in row["seeds"]) > 0
    for key in ("params", "madds", "changes", "hours", "accuracy"):
      assert row[key] == pytest.approx(np.mean([s[key] for s in row["seeds"]]))
    assert row["accuracies"] == [s["accuracy"] for s in row["seeds"]]
    assert [s["seed"] for s in row["seeds"]] == [0, 1]
  assert kinds["original"]["changes"] == 0


def check_record(folder):
  """What holds of every record."""
  result = json.loads((folder / "report" / "result.json").read_text())
  networks = result["datasets"]["digits"]
  assert list(networks) == ["resnet20", "darts"]
  for kinds in networks.values():
    assert list(kinds) == KINDS
    check_rows(kinds)
  # Of the smoke's two blocks none is like the other.
  assert "looks at cells that a network repeats" in (
      networks["resnet20"]["published"]["refused"])
  original = networks["darts"]["original"]["seeds"][0]
  assert codec.from_dict(original["architecture"]) == zoo.get("darts")
  full = codec.from_dict(networks["darts"]["full"]["seeds"][0]["architecture"])
  assert isinstance(full, blocks.BlockNetwork)
  text = (folder / "report" / "README.md").read_text()
  for part in ("| resnet20 | original |", "|  | NAT, published | - | 55.78 ±",
               "|  | NAT, default |", "| 10, 75.14, 91.05, 10, 92.68 |",
               "| 96.97 ± 0.15 |", "- resnet20, NAT, published: the published",
               "differentiable_reproducibility.py --preset smoke", "CPU cores",
               "jax 0."):
    assert part in text
  return networks


@pytest.mark.long
def test_compares_everything(tmp_path):
  done = scripts.run("-c", scripts.UNTRAINED, SCRIPT.stem,
                     *scripts.flags(tmp_path))
  assert done.returncode == 0, done.stderr
  networks = check_record(tmp_path)
  assert networks["resnet20"]["cell"]["changes"] > 0
  trained = done.stdout.split("trained: ")[1].split()
  assert trained.count("search") == 6
  for seed in (0, 1):
    # Two originals and what the published policy drew; NAT trains none again.
    assert trained.count(f"network-{seed}") in (2, 3)
    assert trained.count(f"original-{seed}") == 0
    assert trained.count(f"theta-{seed}") == 4
    drawn = networks["darts"]["published"]["seeds"][seed]["architecture"]
    found = json.loads((
        tmp_path / "run" / "digits" / "darts" / "published" / f"seed-{seed}"
        / "result.json").read_text())
    assert drawn in [c["architecture"] for c in found["candidates"]
                     if not c["original"]]


@pytest.mark.slow
def test_smoke_trains_and_returns_at_once_when_it_is_done(tmp_path):
  flags = scripts.flags(tmp_path, "--theta-learning-rate", "0.05")
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  assert "darts published seed 0 nat: search search policy 0" in done.stdout
  networks = check_record(tmp_path)
  again = scripts.run(SCRIPT, *flags)
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout
  assert check_record(tmp_path) == networks


def test_the_papers_means_are_those_of_its_seeds(script):
  for network in ("resnet20", "mobilenetv2"):
    for row in script.PAPER[network].values():
      assert np.mean(row.seeds) == pytest.approx(row.accuracy, abs=0.02)
      assert np.std(row.seeds, ddof=1) == pytest.approx(row.deviation, abs=0.02)


@pytest.mark.parametrize("preset", ["small", "paper"])
def test_presets_can_be_run(script, preset):
  tables, config = script.tables, script.PRESETS[preset]
  size, labels = config.image_size, np.arange(300) % 10
  images = np.random.default_rng(0).integers(
      0, 256, (300, size, size, 3), np.uint8)
  dataset = data.make_dataset(
      "noise", (images, labels), (images, labels), image_size=size)
  for name in tables.NETWORKS:
    if name not in zoo.names():
      continue
    network, train = tables.build(name, config)
    case = tables.Case(name, network, dataset, config, train, pathlib.Path())
    for kind in tables.NETWORKS[name].kinds:
      if (name, kind) == ("proxyless-cpu", "published"):
        with pytest.raises(errors.InputError, match="published policy"):
          tables.job_of(case, kind)
        continue
      job = tables.job_of(case, kind)
      if kind in ("cell", "full"):
        assert job.plan.space["share"] == kind
        settings = job.plan.settings
        assert settings.architecture_epochs == train.epochs / 2
