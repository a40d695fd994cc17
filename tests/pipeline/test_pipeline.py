"""The jobs, from Python; `test_transformation` runs a whole transformation."""

import dataclasses
import fractions
import functools
import json
import re
import types

import flax.linen as nn
import jax
import numpy as np
import pytest

import natjax
from natjax import (
  cli,
  data,
  errors,
  methods,
  operations,
  pipeline,
  spaces,
  zoo,
)
from natjax.costs import exact as cost
from natjax.graph import codec, skeleton
from natjax.graph import genotype as architecture
from natjax.methods import bilevel, darts, nat, supervised
from natjax.pipeline import estimates, presets, runs
from natjax.pipeline import networks as networks_lib
from natjax.training import fit, metrics, settings
from tests import tiny

CELL = architecture.Cell(tuple(architecture.Edge(*edge) for edge in (
    ("conv_3x3", 0, 2), ("skip_connect", 1, 2), ("sep_conv_3x3", 1, 3),
    ("max_pool_3x3", 2, 3))), (2, 3))
GENOTYPE = architecture.Genotype(CELL, CELL)
SEARCH = nat.NATConfig(
    init_channels=2, cells=1, epochs=2, warmup_epochs=1, batch_size=32,
    samples=2, candidates=4, weights_fraction=0.5, held_out=0.0)
TRAIN = supervised.TrainConfig(
    init_channels=2, cells=1, epochs=2, batch_size=32, auxiliary=False,
    cutout=2, seeds=2)
PLACE = skeleton.Skeleton("cifar", 2, 1, 3, 4)


def dataset(count=96, size=4):
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (count, size, size)).astype(np.uint8)
  labels = rng.integers(0, 3, count)
  labels[0] = 2
  return data.make_dataset("noise", (images, labels),
                           (images[:40], labels[:40]), image_size=size,
                           class_names=[*"abc"])


# Training.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
  """The one training that is really run, of two seeds."""
  out = tmp_path_factory.mktemp("train") / "run"
  rows, progress = [], []
  result = pipeline.train(
      GENOTYPE, dataset(), out=out, config=TRAIN, seed=3, devices=1,
      listener=pipeline.Listener(on_progress=progress.append,
                                 on_row=rows.append))
  return types.SimpleNamespace(out=out, result=result, rows=rows,
                               progress=progress)


def test_train_returns_what_it_writes(trained):
  result = trained.result
  assert result == json.loads((trained.out / "result.json").read_text())
  expected = cost.network(GENOTYPE, PLACE)
  assert (result["params"], result["madds"]) == (
      expected.params, expected.madds)
  first, second = result["accuracies"]
  assert result["accuracy"] == (first + second) / 2
  assert result["accuracy_std"] == pytest.approx(
      abs(first - second) / np.sqrt(2))
  assert result["architecture"] == architecture.to_dict(GENOTYPE)
  assert codec.read(trained.out / "architecture.json") == GENOTYPE
  assert result["seed"] == 3
  assert result["versions"]["jax"] == jax.__version__
  assert result["seconds"] > 0
  assert (trained.out / "architecture.svg").exists()


def test_listener_hears_of_every_row_and_chunk(trained):
  written = [json.loads(line) for line in
             (trained.out / "metrics.jsonl").read_text().splitlines()]
  assert trained.rows == written
  assert [(r["run"], r["epoch"]) for r in written] == [
      ("network-3", 0), ("network-3", 1), ("network-4", 0), ("network-4", 1)]
  assert {p.run for p in trained.progress} == {"network-3", "network-4"}
  done = [p.done for p in trained.progress if p.run == "network-4"]
  assert done == sorted(done) and done[-1] == 1


def test_a_key_is_no_seed(tmp_path):
  for seed in (jax.random.key(0), jax.random.PRNGKey(0), None, "0"):
    with pytest.raises(errors.InputError, match="must be an integer") as e:
      pipeline.train(GENOTYPE, dataset(), out=tmp_path, config=TRAIN, seed=seed)
    assert "\n" not in str(e.value) and e.value.field == "seed"


def test_a_text_overwrites_nothing(tmp_path):
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(errors.InputError, match="overwrite is 'no'"):
    pipeline.train(GENOTYPE, dataset(), out=tmp_path, config=TRAIN,
                   overwrite="no")
  assert (tmp_path / "config.json").read_text() == "{}"


@pytest.mark.parametrize("name", ["compare", "train_found"])
def test_what_a_job_trains_is_no_text(name):
  with pytest.raises(errors.InputError, match=f"{name} is 'no' and must be Tr"):
    pipeline.Job(GENOTYPE, dataset(), "nat", SEARCH, TRAIN, **{name: "no"})


def test_numbers_of_numpy_are_numbers():
  plain = pipeline.Job(
      GENOTYPE, dataset(), "nat", SEARCH, TRAIN, seed=1, seeds=2, devices=1)
  job = pipeline.Job(
      GENOTYPE, dataset(), "nat",
      dataclasses.replace(SEARCH, epochs=np.int64(2)),
      dataclasses.replace(TRAIN, momentum=np.float64(TRAIN.momentum)),
      seed=np.int64(1), seeds=np.int32(2), devices=np.int8(1))
  assert job.describe() == plain.describe()


def test_numbers_of_few_bits_do_not_overflow():
  few = dataclasses.replace(
      TRAIN, epochs=np.uint8(200), batch_size=np.int8(16), seeds=np.uint8(2),
      cutout=0)
  many = dataclasses.replace(
      TRAIN, epochs=200, batch_size=16, seeds=2, cutout=0)
  jobs = [
      *(pipeline.TrainJob(
          GENOTYPE, dataset(), train, seed=seed, devices=1, simclr=simclr)
        for train, seed, simclr in (
            (few, np.uint8(254), natjax.SimCLRConfig(watch_epochs=np.int8(1))),
            (many, 254, natjax.SimCLRConfig(watch_epochs=1)))),
      *(pipeline.Job(
          GENOTYPE, dataset(), "nat",
          dataclasses.replace(SEARCH, epochs=epochs), train, seed=seed,
          devices=1)
        for epochs, train, seed in (
            (np.uint8(200), few, np.uint8(254)), (200, many, 254)))]
  for job, plain in zip(jobs[::2], jobs[1::2], strict=True):
    assert json.dumps(job.describe()) == json.dumps(plain.describe())
    assert job.estimate() == plain.estimate()
    assert type(job.trainer.seed) is int


def test_seeds_are_networks_of_their_own(trained):
  nets = [networks_lib.load(trained.out, f"network-{seed}") for seed in (3, 4)]
  assert [n.test_accuracy for n in nets] == trained.result["accuracies"]
  assert all(n.class_names == ("a", "b", "c") for n in nets)
  different = jax.tree.map(lambda a, b: np.any(a != b), nets[0].variables,
                           nets[1].variables)
  assert all(jax.tree.leaves(different["batch_stats"]))


@pytest.mark.long
def test_held_out_images_are_not_trained_on_and_told_of(tmp_path):
  d, heard = dataset(), []
  d.train_labels[:] = np.arange(len(d.train_labels)) % 3
  # What is held out is noise whose labels nothing foretells.
  held_out = data.split(len(d.train_labels), (2 / 3, 1 / 3), seed=3)[1]
  pipeline.train(
      GENOTYPE, d, out=tmp_path / "run", held_out=1 / 3, seed=3, devices=1,
      config=dataclasses.replace(TRAIN, seeds=1),
      listener=pipeline.Listener(on_progress=heard.append))
  network = networks_lib.load(tmp_path / "run")
  accuracy = float(np.mean(np.asarray(network.predict(
      d.train_images[held_out])) == d.train_labels[held_out]))
  rows = metrics.read(tmp_path / "run" / "metrics.jsonl")
  assert rows[-1]["held_out_accuracy"] == accuracy
  # Beside the accuracy of its batches a chunk has that of the epoch before.
  ends = [p.metrics["held_out_accuracy"] for p in heard if p.step == p.steps]
  assert ends == [row["held_out_accuracy"] for row in rows]
  assert all("held_out_accuracy" not in p.metrics for p in heard
             if p.epoch == 0 and p.step < p.steps)
  config = json.loads((tmp_path / "run" / "config.json").read_text())
  assert config["held_out"] == 1 / 3
  job = pipeline.TrainJob(GENOTYPE, d, TRAIN, seed=3, held_out=1 / 3)
  seen = np.delete(np.arange(len(d.train_labels)), held_out)
  assert np.array_equal(job.trainer.seen.images, d.train_images[seen])


def test_train_again_returns_the_result(trained, monkeypatch):
  monkeypatch.setattr(fit, "fit", None)
  before = (trained.out / "result.json").read_bytes()
  again = pipeline.train(GENOTYPE, dataset(), out=str(trained.out),
                         config=TRAIN, seed=3, devices=1)
  assert again == trained.result
  assert (trained.out / "result.json").read_bytes() == before
  with pytest.raises(errors.InputError, match=r"seed 3 there and 4 here"):
    pipeline.train(GENOTYPE, dataset(), out=trained.out, config=TRAIN, seed=4,
                   devices=1)


def test_the_command_line_finds_the_same_run(
    trained, monkeypatch, tmp_path, capsys):
  monkeypatch.setattr(fit, "fit", None)
  d = dataset()
  np.savez(tmp_path / "noise.npz", x_train=d.train_images,
           y_train=d.train_labels, x_test=d.test_images, y_test=d.test_labels,
           class_names=np.array(d.class_names))
  (tmp_path / "c.json").write_text(json.dumps(
      {"train": dataclasses.asdict(TRAIN)}))
  before = (trained.out / "result.json").read_bytes()
  where = ["--dataset", str(tmp_path / "noise.npz")]
  code = cli.main([
      "train", str(trained.out / "architecture.json"), *where, "--image-size",
      "4", "--config", str(tmp_path / "c.json"), "--seed", "3", "--devices",
      "1", "--out", str(trained.out)])
  # Cropping pads by what the source knows: 4 // 8 pixels, as `noise` has it.
  assert (code, (trained.out / "result.json").read_bytes()) == (0, before)
  assert "±" in capsys.readouterr().out
  assert cli.main(["evaluate", str(trained.out), *where, "--json"]) == 0
  networks = json.loads(capsys.readouterr().out)["networks"]
  assert [n["accuracy"] for n in networks] == trained.result["accuracies"]


# Transforming, with nothing trained.


def state_of(method, splits, *, options, **kwargs):
  """Instead of `fit.fit`: the state that a search starts from."""
  options.checkpoint_dir.mkdir(parents=True)
  if "weights" in splits:
    return method.init(jax.random.key(0))
  return supervised.TrainState(0, {"w": np.ones(2)}, {}, (), 0)


def transform(tmp_path, monkeypatch, scores, **changes):
  """Transforms by a policy and networks that nobody trained."""
  calls = []

  def walk(function, argument, split, **kwargs):
    calls.append(kwargs)
    if kwargs.get("each"):
      return np.arange(40) % 2.0  # Of a trained network.
    rights = [scores(i) for i in range(1, changes.get("candidates", 4) + 2)]
    return {"images": 48.0, "both": tiny.nested(rights).both}

  monkeypatch.setattr(fit, "fit", state_of)
  monkeypatch.setattr(fit, "walk", walk)
  result = pipeline.transform(
      GENOTYPE, dataset(), out=tmp_path / "run", train=TRAIN, devices=1,
      search=dataclasses.replace(SEARCH, **changes))
  return result, calls


def test_the_best_candidate_is_chosen(tmp_path, monkeypatch):
  result, calls = transform(tmp_path, monkeypatch, lambda i: 8 * i)
  candidates = result["candidates"]
  assert len(candidates) > 1
  assert [c["score"] for c in candidates] == [
      8 * i / 48 for i in range(1, len(candidates) + 1)]
  assert [c["chosen"] for c in candidates] == (
      [False] * (len(candidates) - 1) + [True])
  chosen = architecture.from_dict(candidates[-1]["architecture"])
  assert codec.read(tmp_path / "run" / "architecture.json") == chosen
  for c in candidates:
    found = cost.network(architecture.from_dict(c["architecture"]), PLACE)
    assert (c["params"], c["madds"]) == (found.params, found.madds)
    assert found.params <= result["original"]["params"]
    assert found.madds <= result["original"]["madds"]
  assert result["changes"]
  assert {p.name for p in (tmp_path / "run" / "networks").iterdir()} == {
      "original-0", "original-1", "transformed-0", "transformed-1"}
  # Supernet scores on whole batches of the search, networks on all images.
  scored = [c for c in calls if c.get("whole")]
  assert all(c["total"] for c in scored)  # Then every change by itself.
  assert len(scored) > 1
  assert {c["batch_size"] for c in scored} == {SEARCH.batch_size}
  assert result["scoring_batch_size"] == SEARCH.batch_size
  assert len(calls) - len(scored) == 2 * TRAIN.seeds


def test_the_published_policy_and_an_original_that_is_kept(
    tmp_path, monkeypatch):
  result, calls = transform(tmp_path, monkeypatch, lambda i: 12,
                            policy="published")
  assert result["candidates"][0]["chosen"]
  assert result["architectures"]["transformed"] == (
      architecture.to_dict(GENOTYPE))
  assert result["changes"] == []
  assert result["transformed"] == result["original"]
  # The same network is trained once.
  assert {p.name for p in (tmp_path / "run" / "networks").iterdir()} == {
      "original-0", "original-1"}
  assert len([c for c in calls if not c.get("whole")]) == TRAIN.seeds
  job = pipeline.Job(
      GENOTYPE, dataset(), "nat",
      dataclasses.replace(SEARCH, policy="published"), TRAIN, devices=1)
  method = job.plan.method.init.__self__
  assert method.baseline == "published"
  described = json.loads(json.dumps(job.describe()))
  assert described == runs.read_config(tmp_path / "run")


def test_a_failed_search_leaves_no_result(tmp_path, monkeypatch):
  def not_finite(*args, **kwargs):
    raise errors.NotFinite("search")

  monkeypatch.setattr(fit, "fit", not_finite)
  with pytest.raises(errors.NotFinite):
    pipeline.transform(GENOTYPE, dataset(), out=tmp_path / "run",
                       search=SEARCH, train=TRAIN, devices=1)
  assert {p.name for p in (tmp_path / "run").iterdir()} == {
      "config.json", "checksums.json"}


# Jobs that are described but not run.


def test_estimate_of_a_search():
  job = pipeline.Job(GENOTYPE, dataset(), "nat", SEARCH, TRAIN, devices=1)
  estimate = job.estimate()
  # 48 images of 96 for the weights, 48 for the policy: one step each.
  assert estimate["search"]["steps"] == 3
  assert estimate["train"]["steps"] == 2 * 2 * 3
  twice = pipeline.Job(
      GENOTYPE, dataset(), "nat", dataclasses.replace(SEARCH, batch_size=16),
      TRAIN, devices=1)
  assert twice.estimate()["search"]["steps"] == 9
  assert (twice.estimate()["search"]["memory_bytes"]
          < estimate["search"]["memory_bytes"])
  assert len(job.feed.splits["weights"].labels) == 48


@pytest.mark.parametrize("kind", ["train", "search"])
def test_what_no_machine_holds_is_refused_before_it_begins(
    kind, tmp_path):
  wide = {"init_channels": 300_000}
  with pytest.raises(errors.InputError, match=(
      r"\d+ parameters and their gradients take \d+ GiB, and what they are")):
    if kind == "train":
      pipeline.train(GENOTYPE, dataset(), out=tmp_path / "run", devices=1,
                     config=dataclasses.replace(TRAIN, **wide))
    else:
      pipeline.transform(
          GENOTYPE, dataset(), out=tmp_path / "run", devices=1, train=TRAIN,
          search=dataclasses.replace(SEARCH, **wide))
  assert not [*tmp_path.iterdir()]


def test_a_step_that_no_machine_holds_is_refused(tmp_path, monkeypatch):
  config = dataclasses.replace(TRAIN, batch_size=32)
  job = pipeline.TrainJob(GENOTYPE, dataset(), config, devices=1)
  counted = job.estimate()
  has = counted["memory_bytes"] / 10
  assert 0.99 * has > 8 * counted["params"]
  monkeypatch.setattr(
      estimates.devices_lib, "memory", lambda devices: 0.99 * has)
  with pytest.raises(errors.InputError, match="a step takes about"):
    job.open(tmp_path / "run")
  assert not [*tmp_path.iterdir()]
  monkeypatch.setattr(
      estimates.devices_lib, "memory", lambda devices: 1.01 * has)
  job.open(tmp_path / "run")


def test_hours_are_those_of_the_multiply_adds():
  job = pipeline.Job(GENOTYPE, dataset(), "nat", SEARCH, TRAIN, devices=1)
  found = job.estimate(teraflops=0.5)
  search, train = found["search"], found["train"]
  hour = 0.5e12 * 3600
  assert train["hours"] == pytest.approx(
      6 * train["madds"] * TRAIN.batch_size * train["steps"] / hour)
  # A step of the weights, then one of them and of the policy, which goes
  # forward with what it drew and every sample.
  passes = 2 * 3 + 1 + SEARCH.samples
  assert search["hours"] == pytest.approx(
      2 * search["madds"] * SEARCH.batch_size * passes / hour)
  assert found["all"] == {
      "hours": pytest.approx(search["hours"] + 2 * train["hours"]),
      "steps": search["steps"] + 2 * train["steps"],
      "memory_bytes": max(search["memory_bytes"], train["memory_bytes"])}


@pytest.mark.parametrize("devices", [1, 2, 4])
def test_devices_are_part_of_the_configuration(devices):
  job = pipeline.TrainJob(GENOTYPE, dataset(), TRAIN, seed=0, devices=devices)
  assert job.describe()["devices"] == devices == len(
      job.trainer.devices)
  assert job.estimate()["steps"] == 2 * 2 * 3


def test_images_are_part_of_the_configuration():
  """Two files of one name, sizes and classes may hold other images."""
  one = dataset()
  other = dataclasses.replace(one, test_images=255 - one.test_images)

  described = [pipeline.TrainJob(GENOTYPE, d, TRAIN, seed=0).describe()
               for d in (one, dataset(), other)]

  assert described[0] == described[1]
  assert {k for k in described[0] if described[0][k] != described[2][k]} == {
      "crc32"}


@pytest.mark.parametrize("seed", [0, 2**32 - 2])
def test_seeds_in_range(seed):
  pipeline.TrainJob(GENOTYPE, dataset(), TRAIN, seed=seed, devices=1)


def test_the_recipes_of_imagenet():
  found = {name: presets.get(name, zoo.get("darts"), None)
           for name in presets.IMAGENET}
  itnas = found.pop("imagenet-itnas").train
  assert (itnas.epochs, itnas.batch_size, itnas.weight_decay) == (
      240, 1024, 4e-5)
  for preset in found.values():
    assert (preset.image_size, preset.resize) == (224, "imagenet")
    train = preset.train
    assert (train.skeleton, train.init_channels, train.cells, train.epochs,
            train.weight_decay, train.label_smoothing, train.auxiliary) == (
                "imagenet", 48, 14, 250, 3e-5, 0.1, True)
  pcdarts = found["imagenet-pcdarts"].train
  assert (pcdarts.batch_size, pcdarts.learning_rate, pcdarts.schedule,
          pcdarts.warmup) == (1024, 0.5, "linear", 5)
  assert found["imagenet-darts"].train.final_learning_rate == pytest.approx(
      0.1 * 0.97**250)
  assert found["imagenet-nat"].train.drop_path == 0.2
  blocks = presets.get("imagenet-darts", zoo.get("resnet20"), None)
  assert not blocks.train.auxiliary
  transformed = presets.get("imagenet-nat", zoo.get("resnet18"), "natpp")
  assert transformed.train == presets.get(
      "imagenet-nat", zoo.get("resnet18"), None).train
  assert transformed.search == presets.get(
      "paper", zoo.get("resnet18"), "natpp").search
  for method, objective in (("nat", "supervised"), (None, "simclr")):
    with pytest.raises(errors.InputError, match="is of training a network by"):
      presets.get("imagenet-nat", None, method, objective)


def test_the_search_on_imagenet():
  found = presets.get("imagenet-search", None, "entrannas-dst")
  assert (found.image_size, found.resize, found.train_fraction) == (
      224, "imagenet", 0.125)
  search = found.search
  assert (search.skeleton, search.batch_size, search.learning_rate) == (
      "imagenet", 1024, 0.5)
  assert found.train_fraction * search.weights_fraction == 0.1
  assert found.train == presets.get("imagenet-pcdarts", None, None).train
  method = darts.Darts(dataclasses.replace(
      presets.get("imagenet-search", None, "darts").search, init_channels=4,
      cells=3), spaces.get("darts"), num_classes=3, image_size=64)
  assert method.supernet.place.kind == "imagenet"
  params = jax.eval_shape(method.supernet.init, jax.random.key(0))["params"]
  stem = [leaf.shape for leaf in jax.tree.leaves(params["stem"])
          if len(leaf.shape) == 4]
  assert stem == [(3, 3, 3, 2), (3, 3, 2, 4), (3, 3, 4, 4)]
  chain = spaces.get("proxyless").graph
  assert presets.get("imagenet-search", chain, "it-nas").search == (
      dataclasses.replace(presets.get("paper", chain, "it-nas").search,
                          weights_fraction=0.8, max_madds="600M"))
  for method, given in (("nat", None), ("random", None), (None, None),
                        ("nat", chain), ("it-nas", zoo.get("resnet18"))):
    with pytest.raises(errors.InputError, match="of searches for cells or ch"):
      presets.get("imagenet-search", given, method)
  with pytest.raises(errors.InputError, match="skeleton is imagenet and does"):
    bilevel.resolve(dataclasses.replace(search, init_channels=None, cells=None),
                    "blocks")


@pytest.mark.parametrize("method,own", [
    ("darts", {"alpha_learning_rate": 6e-3, "order": "first"}),
    ("entrannas", {"alpha_learning_rate": 6e-3}),
    ("entrannas-dst", {"alpha_learning_rate": 6e-3}), ("it-nas", {}),
    ("spos", {"epochs": 1200})])
def test_a_search_for_cells_on_imagenet_takes_of_the_recipe_what_it_has(
    method, own):
  recipe = {"skeleton": "imagenet", "epochs": 50, "batch_size": 1024,
            "learning_rate": 0.5, "final_learning_rate": 0.0,
            "weights_fraction": 0.8, **own}
  assert presets.get("imagenet-search", None, method).search == (
      dataclasses.replace(presets.get("paper", None, method).search, **recipe))


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_presets_of_an_unknown_method_are_refused(preset):
  with pytest.raises(errors.InputError, match="method 'natt' is unknown; ch"):
    presets.get(preset, zoo.get("darts"), "natt")


@pytest.mark.parametrize("preset", ["demo", "small", "paper"])
def test_presets_describe_a_job(preset):
  p = presets.get(preset)
  job = pipeline.Job(
      zoo.get("darts"), dataset(240, p.image_size), "nat", p.search, p.train,
      devices=1)
  described = json.loads(json.dumps(job.describe()))
  assert described["search"] == settings.describe(p.search)
  assert described["train"] == settings.describe(p.train)
  # What older runs had not is not told, so that they go on.
  assert {*dataclasses.asdict(p.train)} - {*described["train"]} == {
      "schedule", "warmup", "decay_vectors", "accumulate"}


def test_the_papers_preset_is_the_paper():
  paper = presets.get("paper")
  assert (paper.search.init_channels, paper.search.cells,
          paper.search.epochs, paper.search.batch_size) == (20, 8, 200, 64)
  assert (paper.search.prefer, paper.search.held_out) == ("accuracy", 0)
  assert (paper.search.inputs, paper.search.samples) == (1, 1)
  assert paper.search.entropy_weight == 0.003
  assert paper.search.baseline == "none"
  assert (paper.train.init_channels, paper.train.cells,
          paper.train.epochs) == (36, 20, 600)


@pytest.mark.parametrize("arguments,match", [
    ({"seed": -1}, r"seed is -1 and must lie in"),
    ({"seed": 2**32 - 1}, r"seed is 4294967295 and must lie in"),
    ({"devices": 0}, r"devices is 0"),
    ({"devices": 5}, r"devices is 5"),
    ({"devices": 3}, r"batch-size \(32\) must be divisible by .* \(3\)"),
    ({"config": dataclasses.replace(TRAIN, cutout=5)}, r"cutout is 5"),
    ({"config": dataclasses.replace(TRAIN, momentum=float("nan"))},
     r"momentum is nan"),
    ({"config": dataclasses.replace(TRAIN, batch_size=128)},
     r"96 images, fewer than a batch of 128"),
    ({"config": dataclasses.replace(TRAIN, accumulate=3)},
     r"accumulate is 3 and must divide the 32 images of a batch"),
    ({"config": dataclasses.replace(TRAIN, auxiliary=True)}, r"auxiliary head"),
    ({"architecture": GENOTYPE._replace(normal=CELL._replace(concat=()))},
     r"normal cell: concat is empty"),
    ({"architecture": "darts"}, r"is of type str and must be a Genotype or"),
    ({"architecture": GENOTYPE.normal}, r"is of type Cell and must be"),
    ({"architecture": GENOTYPE._replace(normal=CELL._replace(edges=(
        CELL.edges[0]._replace(source=None), *CELL.edges[1:])))},
     r"must join nodes by their numbers"),
    ({"dataset": "digits"}, r"the data set is .digits. and must be a Dataset"),
    *(({"dataset": dataclasses.replace(dataset(), **change)}, words)
      for change, words in (
          ({"train_images": dataset().train_images[:9]}, "9 images and 96 lab"),
          ({"test_images": dataset().test_images[:9]}, r"test .*9 images and "),
          ({"train_images": dataset().train_images[..., :1]},
           r"training images and labels are ndarray of \[96, 4, 4, 1\]"),
          ({"test_images": np.zeros((len(dataset().test_labels), 5, 5, 3),
                                    np.uint8)}, r"test images .* 5, 5, 3\]"),
          ({"train_images": dataset().train_images.tolist()},
           "train.* images are int64"),
          ({"train_labels": dataset().train_labels.tolist()},
           r"labels are .* and list of \[96\]"),
          ({"train_labels": np.eye(9)[dataset().train_labels]}, "float64.96,"),
          ({"train_labels": dataset().train_labels + 7}, "labels run from 7 "),
          ({"test_labels": dataset().test_labels - 1}, "labels run from -1"),
          ({"num_classes": 2}, "labels run from 0 to"),
          ({"class_names": ("a", "b")}, "and 2 classes are named; give as"),
          ({"mean": (300.0,) * 3}, r"mean \(300.0, .*: give three"),
          ({"std": (0.0,) * 3}, r"std .*: give three"),
          ({"augmentation": None}, "augmentation is None"))),
    ({"config": {}}, r"the training are of type dict"),
    *(({"config": dataclasses.replace(TRAIN, **{name: value})},
       f"{name} is {value!r} and must be of type {kind}")
      for name, value, kind in (
          ("epochs", 1.5, "int"), ("seeds", "1", "int"), ("cells", True, "int"),
          ("dtype", 5, "str"), ("auxiliary", 1, "bool"))),
    ({"config": dataclasses.replace(TRAIN, schedule=3e6)},
     r"of type str; give it as a text, '3000000.0'"),
    ({"seed": "0"}, r"seed is '0' and must be an integer"),
    ({"seed": True}, r"seed is True and must be an integer"),
    ({"devices": "1"}, r"devices is '1' and this machine has"),
    ({"devices": True}, r"devices is True and this machine has"),
    ({"config": dataclasses.replace(
        TRAIN, learning_rate=fractions.Fraction(1, 2))},
     r"learning-rate is Fraction\(1, 2\) and must be of type float"),
    *(({name: value}, f"{name} is {value!r} and must be True or False")
      for name in ("overwrite", "strict") for value in ("no", 0, None)),
    ({"out": None}, r"out is None and must be a path"),
    *(({"held_out": part}, r"held_out is .* and must lie in \[0, 1\)")
      for part in (1, -0.1, "0.1", None, True, float("nan"))),
    ({"held_out": 0.001}, r"every part needs at least 1 example"),
    ({"held_out": 0.9}, r"the train split has 10 images, fewer than a batch"),
    ({"held_out": 0.1, "simclr": natjax.SimCLRConfig(),
      "config": dataclasses.replace(TRAIN, cutout=0)},
     r"does not apply to the objective simclr"),
    ({"simclr": natjax.SimCLRConfig(), "config": dataclasses.replace(
        TRAIN, cutout=0, batch_size=1)}, r"batch-size is 1 and must be at"),
])
def test_train_refuses_before_it_writes(tmp_path, arguments, match):
  arguments = {"architecture": GENOTYPE, "dataset": dataset(), "config": TRAIN,
               "devices": 1, "out": tmp_path / "run", **arguments}
  with pytest.raises(errors.InputError, match=match):
    pipeline.train(**arguments)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("arguments,match", [
    ({"space": "big"}, r"search space 'big' is unknown"),
    ({"search": dataclasses.replace(SEARCH, batch_size=64)},
     r"the (weights|policy) split has 48 images"),
    ({"search": dataclasses.replace(SEARCH, cells=7)}, r"image-size 4 is too"),
    ({"search": dataclasses.replace(SEARCH, learning_rate=float("inf"))},
     r"learning-rate is inf"),
    ({"train": dataclasses.replace(TRAIN, seeds=0)}, r"train\.seeds"),
    ({"train": dataclasses.replace(TRAIN, cutout=5)}, r"train\.cutout"),
    ({"search": dataclasses.replace(SEARCH, samples=0)}, r"search\.samples"),
    ({"seed": -1}, r"seed is -1"),
    ({"search": dataclasses.replace(SEARCH, samples=1.5)},
     r"search\.samples: samples is 1\.5 and must be of type int"),
    ({"method": "dart"}, r"'dart' is unknown; choose one of nat, natpp"),
    ({"method": "darts"}, r"'darts' starts from a space; search instead"),
    ({"search": TRAIN}, r"TrainConfig, and method 'nat' needs a NATConfig"),
])
def test_transform_refuses_before_it_writes(tmp_path, arguments, match):
  arguments = {"architecture": GENOTYPE, "dataset": dataset(), "search": SEARCH,
               "train": TRAIN, "devices": 1, "out": tmp_path / "run",
               **arguments}
  with pytest.raises(errors.InputError) as e:
    pipeline.transform(**arguments)
  # Which settings, for whoever knows their flags, and what of them.
  assert re.search(match, f"{e.value.field}: {e.value}")
  assert "--" not in str(e.value)
  assert not list(tmp_path.iterdir())


def _fail(*arguments):
  raise KeyError("mine")


@pytest.mark.parametrize("part", ["build", "presets"])
def test_a_method_of_another_package_that_raises(part, monkeypatch):
  entry = methods.METHODS["nat"]
  monkeypatch.setitem(methods.METHODS, "nat", entry._replace(**{part: _fail}))
  with pytest.raises(errors.InputError, match=f"{part} of method 'nat' failed"):
    pipeline.transform(GENOTYPE, dataset(), out="not made", search=(
        SEARCH if part == "build" else None), train=TRAIN)
  # A fault of the library's own is none of the user's input.
  monkeypatch.setattr(_fail, "__module__", "natjax.methods.nat")
  with pytest.raises(KeyError):
    pipeline.transform(GENOTYPE, dataset(), out="not made", search=(
        SEARCH if part == "build" else None), train=TRAIN)


class Drawn(nn.Module):
  """Adds noise, in evaluation too if it has a key of its own for that."""

  features: int
  stride: int
  norm: operations.NormFactory
  own: bool = False

  @nn.compact
  def __call__(self, x):
    key = jax.random.key(0) if self.own and not self.has_rng("noise") else (
        self.make_rng("noise"))
    return x + jax.random.normal(key, x.shape, x.dtype)


@pytest.mark.parametrize("own", [False, True])
def test_an_operation_that_draws_without_a_stream_is_refused_at_once(own):
  network = zoo.get("resnet20")
  block, *others = network.blocks
  edge, *rest = block.edges
  with operations.registered(operations.Operation(
      "drawn", "drawn", 1, functools.partial(Drawn, own=own),
      lambda channels, size, stride: operations.Cost(0, 0), random=True)):
    network = network._replace(blocks=(block._replace(
        edges=(edge._replace(operation="drawn"), *rest)), *others))
    job = lambda: pipeline.TrainJob(network, dataset(), natjax.TrainConfig(
        epochs=1, batch_size=32, cutout=0))
    if own:
      job()
    else:
      said = "operation 'drawn' failed .*needs PRNG for .noise"
      with pytest.raises(errors.InputError, match=said):
        job()
