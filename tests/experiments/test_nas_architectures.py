"""Smoke of the transformed NAS architectures; says nothing of accuracy."""

import json

import pytest

from natjax import zoo
from natjax.costs import exact as cost
from natjax.graph import genotype as architecture
from natjax.graph import skeleton
from tests.experiments import scripts

SCRIPT = scripts.EXPERIMENTS / "nas_architectures.py"
KINDS = ["original", "nat", "natpp", "published_nat", "published_natpp"]
OTHERS = ["nat_another_graph", "natpp_another_graph"]


def check_record(folder, *more):
  """What holds of every record; `more` are networks transformed besides."""
  result = json.loads((folder / "report" / "result.json").read_text())
  rows = result["datasets"]["digits"]["darts"]
  assert list(rows) == [*KINDS, *more]
  train = result["config"]["train"]
  place = skeleton.Skeleton("cifar", train["init_channels"], train["cells"],
                            10, result["config"]["image_size"])
  for row in rows.values():
    genotype = architecture.from_dict(row["architecture"])
    assert cost.network(genotype, place)[:2] == (row["params"], row["madds"])
    assert cost.network(genotype, skeleton.Skeleton())[:2] == (
        row["params_c36"], row["madds_c36"])
    assert 0 <= row["accuracy"] <= 1
  for kind, name in (("original", "darts"), ("published_nat", "nat_darts"),
                     ("published_natpp", "natv2_darts")):
    assert rows[kind]["architecture"] == architecture.to_dict(zoo.get(name))
  assert rows["original"]["params_c36"] == 3349342
  for kind in ("nat", "natpp", *more):
    assert rows[kind]["params"] <= rows["original"]["params"]
    assert rows[kind]["madds"] <= rows["original"]["madds"]
  text = (folder / "report" / "README.md").read_text()
  for part in ("| darts | original |", "NAT++, published", "3.35", "528",
               "nas_architectures.py --preset smoke", "CPU cores", "jax 0."):
    assert part in text
  return rows


@pytest.mark.long
def test_compares_everything_and_trains_the_original_once(tmp_path):
  done = scripts.run("-c", scripts.UNTRAINED, "nas_architectures",
                     *scripts.flags(tmp_path))
  assert done.returncode == 0, done.stderr
  check_record(tmp_path)
  trained = done.stdout.split("trained: ")[1].split()
  assert trained.count("search") == 2
  assert trained.count("original-0") == 1
  assert trained.count("network-0") == 2
  assert trained.count("transformed-0") <= 2


@pytest.mark.slow
def test_smoke_trains_and_returns_at_once_when_it_is_done(tmp_path):
  flags = scripts.flags(tmp_path, "--representations")
  done = scripts.run(SCRIPT, *flags)
  assert done.returncode == 0, done.stderr
  assert "darts natpp: search search policy 0 loss" in done.stdout
  rows = check_record(tmp_path, *OTHERS)
  again = scripts.run(SCRIPT, *flags)
  assert again.returncode == 0, again.stderr
  assert "loss" not in again.stdout
  assert check_record(tmp_path, *OTHERS) == rows


@pytest.mark.long
def test_refuses_data_that_are_not_there(tmp_path):
  done = scripts.run(SCRIPT, *scripts.flags(
      tmp_path, "--datasets", "cifar10", "--data-dir", tmp_path))
  assert done.returncode == 2
  assert done.stderr.startswith("nas_architectures: cifar10 not found")
  assert len(done.stderr.splitlines()) == 1
