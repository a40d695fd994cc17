"""Weights that are given to begin with: found, checked, described, trained."""

import dataclasses
import functools
import json
import os
import pathlib
import shutil

import jax
import numpy as np
import pytest

from natjax import cli, errors, pipeline, spaces
from natjax.cli import output
from natjax.graph import codec, records
from natjax.interchange import files
from natjax.methods import (
    climb,
    differentiable,
    evolved,
    nat,
    natpp,
    replace,
    supervised,
)
from natjax.networks import inherit
from natjax.networks import network as network_lib
from natjax.objectives import arcface
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import presets, run_files, runs, weights
from natjax.training import devices, metrics
from tests import tiny
from tests.methods import test_replace, test_replacements

try:
  import resource
except ImportError:  # Not on Windows.
  resource = None

NETWORK = test_replacements.RESIDUAL
STILL = supervised.TrainConfig(
    epochs=1, batch_size=16, learning_rate=0.0, final_learning_rate=0.0,
    weight_decay=0.0, cutout=0)


def train(out, **options):
  return pipeline.train(NETWORK, test_replace.dataset(), out=out, **options)


@pytest.fixture(scope="module")
def a_run(tmp_path_factory):
  out = tmp_path_factory.mktemp("trained") / "run"
  train(out, config=dataclasses.replace(
      STILL, learning_rate=0.05, seeds=2), seed=3)
  return out


def params(out, name):
  return networks_lib.load_weights(
      out / "networks" / name / "weights.npz")["params"]


@pytest.mark.long
def test_a_training_begins_with_them(a_run, tmp_path):
  train(tmp_path / "run", config=STILL, seed=4, weights=a_run)
  jax.tree.map(np.testing.assert_array_equal, params(a_run, "network-4"),
               params(tmp_path / "run", "network-4"))
  found = json.loads((tmp_path / "run" / "config.json").read_text())["weights"]
  assert found["4"]["path"].endswith("network-4/weights.npz")
  # Other weights are another run.
  with pytest.raises(errors.InputError, match="another configuration"):
    train(tmp_path / "run", config=STILL, seed=4)


@pytest.mark.long
def test_seeds_find_their_own_or_go_in_order(a_run):
  found = weights.find(a_run, NETWORK, range(3, 5))
  assert [found[s].parent.name for s in (3, 4)] == ["network-3", "network-4"]
  found = weights.find(a_run, NETWORK, range(2))
  assert [found[s].parent.name for s in (0, 1)] == ["network-3", "network-4"]
  with pytest.raises(errors.InputError, match="has 2 trained networks"):
    weights.find(a_run, NETWORK, range(3))


@pytest.mark.long
def test_what_does_not_fit_is_named(a_run, tmp_path):
  file = a_run / "networks" / "network-3" / "weights.npz"
  wider = NETWORK._replace(stem=(records.Layer("conv", 8, 3),))
  with pytest.raises(errors.InputError, match=r"stem0.*\(4,\), not \(8,\)"):
    pipeline.train(wider, test_replace.dataset(), out=tmp_path / "a",
                   config=STILL, weights=file)
  with pytest.raises(errors.InputError, match="trained network"):
    train(tmp_path / "b", config=STILL, weights=tmp_path)
  with pytest.raises(errors.InputError, match="there is no such file"):
    train(tmp_path / "b", config=STILL, weights=tmp_path / "gone.npz")
  assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def swap(out):
  """Of two seeds, each has the other's weights."""
  first, second = (out / "networks" / f"network-{seed}" / "weights.npz"
                   for seed in (3, 4))
  first.rename(out / "held.npz")
  second.rename(first)
  (out / "held.npz").rename(second)


def change_a_number(out):
  """The least that can be changed of a file that is still one of weights."""
  path = out / "networks" / "network-3" / "weights.npz"
  with np.load(path) as held:
    found = dict(held)
  found["params/head1/linear/kernel"][0, 0] = 0.0
  np.savez(path, **found)


@pytest.mark.long
@pytest.mark.parametrize("change", [swap, change_a_number])
def test_weights_that_the_run_did_not_write_are_refused(
    a_run, tmp_path, change):
  out = shutil.copytree(a_run, tmp_path / "kept")
  networks_lib.load(out, "network-3")
  change(out)
  for call in (
      lambda: networks_lib.load(out, "network-3"),
      lambda: train(tmp_path / "a", config=STILL, seed=3, weights=out),
      lambda: train(tmp_path / "a", config=STILL, seed=3, weights=(
          out / "networks" / "network-3" / "weights.npz")),
      lambda: train(out, seed=3, config=dataclasses.replace(
          STILL, learning_rate=0.05, seeds=2))):
    with pytest.raises(errors.InputError, match=(
        r"network-[34].weights.npz is not what the run wrote .*\(its che")):
      call()
  assert not (tmp_path / "a").exists()
  for seed in (3, 4):
    path = out / "networks" / f"network-{seed}" / "checksums.json"
    kept = json.loads(path.read_text())
    del kept["weights.npz"]
    path.write_text(json.dumps(kept))
  with pytest.raises(errors.InputError, match=r"lacks weights\.npz"):
    networks_lib.load(out, "network-3")
  # Earlier versions kept none, and did not say that they did.
  config = json.loads((out / "config.json").read_text())
  del config["checksums"]
  run_files.write_kept(out / "config.json", config)
  networks_lib.load(out, "network-3")


@pytest.mark.long
def test_weights_that_a_kill_left_without_a_result_are_written_again(
    a_run, tmp_path, monkeypatch):
  out, again = tmp_path / "run", lambda: train(
      tmp_path / "run", seed=3, config=dataclasses.replace(
          STILL, learning_rate=0.05, seeds=2))
  replaced = []

  def killed(path, target):
    if pathlib.Path(target).name == "weights.npz":
      replaced.append(target)
      if len(replaced) == 1:
        raise KeyboardInterrupt
    os.rename(path, target)

  with monkeypatch.context() as patch:
    patch.setattr(runs.os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
      again()
  folder = out / "networks" / "network-3"
  assert "weights.npz" in json.loads((folder / "checksums.json").read_text())
  assert not (folder / "weights.npz").exists()
  again()
  jax.tree.map(np.testing.assert_array_equal,
               params(out, "network-3"), params(a_run, "network-3"))


def test_a_file_elsewhere_has_no_checksum(tmp_path):
  networks_lib.save_weights(tmp_path / "w.npz", {"a": np.ones(3, np.float32)})
  (tmp_path / "checksums.json").write_text('["another program\'s"]')
  assert (networks_lib.load_weights(tmp_path / "w.npz")["a"] == 1).all()


@pytest.mark.skipif(resource is None, reason="not on Windows")
@pytest.mark.parametrize("write", [
    networks_lib.save_weights, files.write])
def test_a_full_disk_leaves_the_older_file(write, tmp_path):
  path = tmp_path / "weights"
  path.write_text("older")
  limits = resource.getrlimit(resource.RLIMIT_FSIZE)
  resource.setrlimit(resource.RLIMIT_FSIZE, (10**4, limits[1]))
  try:
    with pytest.raises(OSError, match="File too large") as caught:
      write(path, {"a": np.ones(10**4)})
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
  assert caught.value.filename == str(path)
  assert path.read_text() == "older" and len([*tmp_path.iterdir()]) == 1


@pytest.mark.long
def test_the_folder_of_a_network_will_do(a_run, tmp_path):
  folder = a_run / "networks" / "network-4"
  assert weights.find(folder, NETWORK, [0]) == {0: folder / "weights.npz"}
  with pytest.raises(errors.InputError, match="one network, and 2 seeds"):
    weights.find(folder, NETWORK, range(2))
  kept = shutil.copytree(a_run, tmp_path / "kept")
  folder = kept / "networks" / "network-4"
  (folder / "weights.npz").unlink()
  with pytest.raises(errors.InputError, match=r"weights.npz is gone; train"):
    weights.find(folder, NETWORK, [0])
  with pytest.raises(errors.InputError, match=r"weights.npz is not there"):
    train(tmp_path / "run", config=STILL, seed=4, weights=kept)


@pytest.mark.long
def test_images_that_are_normalised_otherwise_are_said(a_run):
  network, dataset = a_run / "networks" / "network-3", test_replace.dataset()
  job = lambda dataset: pipeline.TrainJob(
      NETWORK, dataset, STILL, weights=network)
  assert job(dataset).note == ""
  assert job(dataclasses.replace(dataset, mean=(0.5,) * 3)).note == (
      "images were normalised for the weights by mean"
      f" {' '.join(f'{x:.3f}' for x in dataset.mean)}, deviation"
      f" {' '.join(f'{x:.3f}' for x in dataset.std)}, and are here by mean"
      f" 0.500 0.500 0.500, deviation"
      f" {' '.join(f'{x:.3f}' for x in dataset.std)}")


@pytest.mark.long
def test_other_images_are_said(a_run, tmp_path, capsys):
  network = a_run / "networks" / "network-3"
  result = train(tmp_path / "same", config=STILL, weights=network)
  assert "note" not in result
  said = ("the weights were trained on other images of digits (8 pixels) than"
          " these, or on more or fewer of them")
  job = pipeline.TrainJob(NETWORK, test_replace.dataset(128), STILL,
                          weights=network / "weights.npz")
  assert job.note == said
  result = job.run(tmp_path / "run")
  assert result["note"] == said
  assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
  output.print_head(job)
  output.print_trained(result, tmp_path / "run", None)
  shown = capsys.readouterr()
  assert said in shown.err and said in shown.out
  # Of a file alone it is not known.
  shutil.copy(network / "weights.npz", tmp_path / "w.npz")
  assert weights.note({0: tmp_path / "w.npz"}, test_replace.dataset(128)) == ""


@pytest.mark.long
@pytest.mark.parametrize("change, words", [
    (lambda leaf: leaf.astype(np.float16), "are float16"),
    (lambda leaf: leaf.astype(np.int32), "are int32"),
    (lambda leaf: np.full_like(leaf, np.nan), "not all finite")])
def test_only_finite_numbers_of_float32(a_run, tmp_path, change, words):
  file = a_run / "networks" / "network-3" / "weights.npz"
  with np.load(file) as held:
    np.savez(tmp_path / "w.npz", **{k: change(v) for k, v in held.items()})
  with pytest.raises(errors.InputError, match=words):
    train(tmp_path / "run", config=STILL, weights=tmp_path / "w.npz")


@pytest.mark.long
def test_what_was_kept_is_not_a_second_network(a_run, tmp_path):
  kept = shutil.copytree(a_run, tmp_path / "kept")
  for seed in (3, 4):
    folder = kept / "networks"
    (folder / f"network-{seed}").rename(folder / f"original-{seed}")
    path = folder / f"original-{seed}" / "checksums.json"
    held = json.loads(path.read_text())
    del held[": of"]  # Which knows of the name.
    path.write_text(json.dumps(held))
    shutil.copytree(folder / f"original-{seed}", folder / f"transformed-{seed}")
  found = weights.find(kept, NETWORK, range(2))
  assert [found[s].parent.name for s in (0, 1)] == ["original-3", "original-4"]
  with pytest.raises(errors.InputError, match="has 2 trained networks"):
    weights.find(kept, NETWORK, range(3))


@pytest.mark.long
def test_the_command_line_says_so(a_run, tmp_path, capsys):
  assert cli.main([
      "train", "resnet20", "--weights", str(a_run), "--dataset", "digits",
      "--preset", "demo", "--seeds", "1", "--out", str(tmp_path / "run")]) == 2
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "no network of" in said
  assert "(--weights)" in said
  # What fits and what does not, by name, as of a file.
  for words in (": they lack ", " more; of another shape: ", "((4,), not ("):
    assert words in said


@pytest.mark.long
def test_what_does_not_fit_of_a_run_is_named(a_run, tmp_path):
  wider = NETWORK._replace(stem=(records.Layer("conv", 8, 3),))
  with pytest.raises(errors.InputError) as e:
    pipeline.train(wider, test_replace.dataset(), out=tmp_path / "a",
                   config=STILL, weights=a_run)
  # A stem that is wider, behind which a skip has weights.
  said = ("is of this architecture and its width: they lack"
          " batch_stats/block0/edge{}_skip_connect/norm/bn/mean,")
  shapes = " and 2 more; of another shape: batch_stats/stem0/norm/bn/mean ((4,)"
  assert said.format(2) in str(e.value) and shapes in str(e.value)
  # One padded, as methods write it, has other names.
  kept, padded = shutil.copytree(a_run, tmp_path / "kept"), codec.pad(NETWORK)
  config = json.loads((kept / "config.json").read_text())
  del config["checksums"]  # As of an earlier version.
  run_files.write_kept(kept / "config.json", config)
  like = jax.eval_shape(functools.partial(network_lib.init, network_lib.module(
      padded, records.Frame(10, 8))), jax.random.key(0))
  for seed in (3, 4):
    folder = kept / "networks" / f"network-{seed}"
    (folder / "checksums.json").unlink()
    networks_lib.save_weights(folder / "weights.npz", inherit.renumbered(
        networks_lib.load_weights(folder / "weights.npz"), like))
    path = folder / "result.json"
    held = json.loads(path.read_text())
    held["architecture"] = codec.to_dict(padded)
    path.write_text(json.dumps(held))
  with pytest.raises(errors.InputError) as e:
    pipeline.train(wider, test_replace.dataset(), out=tmp_path / "a",
                   config=STILL, weights=kept)
  number = [edge.operation for edge in padded.blocks[0].edges].index(
      "skip_connect")
  assert said.format(number) in str(e.value) and shapes in str(e.value)
  # Of several architectures none is the one that is meant.
  held["architecture"] = codec.to_dict(test_replacements.RESIDUAL._replace(
      blocks=NETWORK.blocks[:1]))
  path.write_text(json.dumps(held))
  with pytest.raises(errors.InputError, match="and its width; name the run"):
    pipeline.train(wider, test_replace.dataset(), out=tmp_path / "a",
                   config=STILL, weights=kept)


# Methods that begin with given weights.

# Nothing moves, and half of the network goes: what is left is what was given.
STILL_THETA = differentiable.DifferentiableConfig(
    theta_learning_rate=0.0, max_params="0.9x", tolerance=100.0)
STILL_NAT = nat.NATConfig(
    epochs=1, batch_size=16, learning_rate=0.0, final_learning_rate=0.0,
    weight_decay=0.0, samples=2, candidates=4, weights_fraction=0.5,
    finalists=1, max_params="0.9x", held_out=0.2, tolerance=100.0)
STILL_EVOLVED = evolved.EvolvedConfig(
    **{name: getattr(STILL_NAT, name) for name in (
        "epochs", "batch_size", "learning_rate", "final_learning_rate",
        "weight_decay", "candidates", "weights_fraction", "finalists",
        "max_params", "held_out", "tolerance")},
    population=6, generations=2, parents=3, mutations=3, crossovers=1)
SEARCHES = {"natpp": STILL_NAT, "evolution": STILL_EVOLVED}


def transform(out, method, search, source=None, **options):
  return pipeline.transform(
      NETWORK, test_replace.dataset(), out=out, method=method, search=search,
      **{"train": STILL, "seed": 3, "weights": source, **options})


def assert_kept(found, given):
  """That what a network has is what the given one has there."""
  given = jax.tree_util.tree_leaves_with_path(given)
  given = {jax.tree_util.keystr(path): leaf for path, leaf in given}
  shared = [(jax.tree_util.keystr(path), leaf) for path, leaf in
            jax.tree_util.tree_leaves_with_path(found)
            if jax.tree_util.keystr(path) in given]
  assert len(shared) > 5
  for path, leaf in shared:
    np.testing.assert_array_equal(leaf, given[path], err_msg=path)


def renumbered(out, name):
  """A network's parameters, spelled as methods spell them, padded."""
  like = network_lib.init(
      network_lib.module(codec.pad(NETWORK), records.Frame(10, 8)),
      jax.random.key(0))
  return inherit.renumbered({"params": params(out, name)}, like)["params"]


@pytest.mark.long
def test_theta_begins_with_them(a_run, tmp_path):
  out = tmp_path / "run"
  result = transform(out, "differentiable", STILL_THETA, a_run)
  rows = list(metrics.read(out / "metrics.jsonl"))
  assert {row["run"] for row in rows} == {"theta-3"}  # No original.
  given = json.loads((a_run / "networks/network-3/result.json").read_text())
  assert result["original"]["accuracy"] == given["accuracy"]
  tried, = result["seeds"][0]["tries"]
  assert tried["accepted"] and tried["params"] < given_params(a_run)
  assert_kept(params(out, "transformed-3"), renumbered(a_run, "network-3"))
  assert json.loads((out / "config.json").read_text())["weights"].keys() == {
      "3"}


def given_params(out):
  return json.loads((out / "result.json").read_text())["params"]


@pytest.fixture(scope="module", params=SEARCHES)
def fine_tuned(request, a_run, tmp_path_factory):
  out, method = tmp_path_factory.mktemp("tuned") / "run", request.param
  return out, method, transform(
      out, method, SEARCHES[method], a_run, train_from="inherited",
      train=dataclasses.replace(STILL, seeds=2))


@pytest.mark.long
def test_a_supernet_hands_them_on(a_run, fine_tuned):
  out, method, result = fine_tuned
  given = renumbered(a_run, "network-3")
  # One network begins the search, and all that are trained at its end.
  for seed in (3, 4):
    jax.tree.map(np.testing.assert_array_equal,
                 params(out, f"original-{seed}"), given)
    assert_kept(params(out, f"transformed-{seed}"), given)
  assert result["transformed"]["params"] <= 0.9 * result["original"]["params"]
  config = json.loads((out / "config.json").read_text())
  assert config["train_from"] == "inherited"
  assert config["weights"].keys() == {"3"}
  # The trials begin with them, too: the original is as it was given.
  net = networks_lib.load(a_run, "network-3")
  job = pipeline.Job(NETWORK, test_replace.dataset(), method, SEARCHES[method],
                     STILL, seed=3)
  held_out = job.trainer.held_out
  right = np.mean(net.predict(held_out.images) == held_out.labels)
  assert abs(result["acceptance"]["trials"][0]["accuracy"] - right) < 0.35


@pytest.mark.long
def test_what_was_handed_on_is_resumed(a_run, fine_tuned, tmp_path):
  out, method, before = fine_tuned
  seen = []
  listener = pipeline.Listener(
      should_stop=lambda: seen.append(None) or len(seen) % 9 == 0,
      checkpoint_seconds=0.0, chunk_seconds=0.0)
  for _ in range(40):
    try:
      again = transform(
          tmp_path / "run", method, SEARCHES[method], a_run,
          train_from="inherited", train=dataclasses.replace(STILL, seeds=2),
          listener=listener)
      break
    except errors.Interrupted:
      continue
  assert len(seen) > 16
  plain = lambda r: {
      k: v for k, v in r.items() if "seconds" not in k and k != "time"}
  assert plain(again) == plain(before)
  for name in ("original-3", "transformed-4"):
    jax.tree.map(np.testing.assert_array_equal, params(out, name),
                 params(tmp_path / "run", name))


@pytest.mark.long
@pytest.mark.parametrize("method, search", [
    ("nat", STILL_NAT), ("evolution", STILL_EVOLVED)])
def test_from_scratch_the_original_is_as_it_was_given(
    a_run, tmp_path, method, search):
  out = tmp_path / "run"
  result = transform(out, method, search, a_run, train=dataclasses.replace(
      STILL, seeds=2))
  for seed in (3, 4):  # It is not trained again, once for every seed.
    jax.tree.map(np.testing.assert_array_equal, params(
        out, f"original-{seed}"), renumbered(a_run, "network-3"))
  assert not any("original" in row["run"] and "trial" not in row["run"]
                 for row in metrics.read(out / "metrics.jsonl"))
  given = json.loads((a_run / "networks/network-3/result.json").read_text())
  assert result["original"]["accuracies"] == [given["accuracy"]] * 2
  kernel = lambda name: np.asarray(
      params(out, name)["stem0"]["conv"]["kernel"])
  assert np.abs(kernel("transformed-3") - kernel("original-3")).max() > 0.01
  assert "train_from" not in json.loads((out / "config.json").read_text())


@pytest.mark.parametrize("method,search,options,message", [
    ("nat", STILL_NAT, {"train_from": "there"}, "choose one of scratch, inh"),
    ("replace", replace.ReplaceConfig(held_out=0.0), {"train_from": "scratch"},
     "train-from is scratch, and nothing is held out"),
    ("replace", replace.ReplaceConfig(), {"train_from": 1},
     "train-from is 1; choose one of scratch, inherited"),
    ("differentiable", STILL_THETA, {"train_from": "scratch"},
     "'differentiable' trains its networks itself"),
    *((method, dataclasses.replace(search, supernet_width=0.5),
       {"train_from": "inherited"}, "supernet-width is 0.5 and must be 1")
      for method, search in SEARCHES.items())])
def test_nothing_is_inherited_that_is_not_there(
    tmp_path, method, search, options, message):
  with pytest.raises(errors.InputError, match=message):
    transform(tmp_path / "run", method, search, **options)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("method,search,usual", [
    ("replace", replace.ReplaceConfig(), "inherited"),
    ("differentiable", STILL_THETA, "inherited"),
    ("natpp", STILL_NAT, "scratch")])
def test_what_is_usual_may_be_said_and_is_not_written(method, search, usual):
  left, said = (pipeline.Job(
      NETWORK, test_replace.dataset(), method, search, STILL, **options)
                for options in ({}, {"train_from": usual}))
  assert left.describe() == said.describe()
  assert "train_from" not in left.describe()
  assert left.estimate() == said.estimate()


@pytest.mark.long
def test_given_weights_are_compared_with(a_run):
  with pytest.raises(errors.InputError, match="compare is False: they are"):
    pipeline.Job(
        NETWORK, test_replace.dataset(), "differentiable",
        dataclasses.replace(STILL_THETA, tolerance=0.5), STILL, weights=a_run,
        seed=3, compare=False)


@pytest.mark.parametrize("args,message", [
    (["--train-from", "inherited", "--preset", "small", "--init-channels", "8"],
     "init-channels is 8 and must be 16 to share the weights"),
    (["--train-from", "inherited", "--train-cells", "5"],
     "cells is 4 and must be 5 to share the weights"),
    (["--train-from", "inherited", "--train-skeleton", "imagenet",
      "--image-size", "64"],
     "skeleton is imagenet and must be cifar"),
    (["--train-from", "me"], "train-from is 'me'"),
    (["--train-from", "scratch", "--method", "differentiable"],
     "'differentiable' trains its networks itself"),
    (["--train-from", "scratch", "--method", "replace", "--held-out", "0"],
     "nothing is held out (held-out is 0) to compare it by"),
    (["--weights", "nowhere"], "there is no such file or folder")])
def test_refusals_of_weights_are_one_line(args, message, capsys):
  assert cli.main(["transform", "darts", "--dataset", "digits", "--dry-run",
                   *args]) == 2
  said = capsys.readouterr().err
  assert message in said and len(said.splitlines()) == 1


@pytest.mark.long
def test_a_search_in_a_space_begins_with_none(a_run):
  config = presets.get("demo", None, "random").search
  with pytest.raises(errors.InputError, match="'random' begins with none"):
    pipeline.Job(None, test_replace.dataset(), "random", config,
                 supervised.TrainConfig(init_channels=4, cells=3, cutout=0,
                                        auxiliary=False),
                 space="darts", weights=a_run)


# Replacements that learn before another method begins.


@pytest.mark.long
@pytest.mark.parametrize("method, stage", [
    ("natpp", "search"), ("evolution", "supernet")])
def test_the_supernet_begins_with_what_has_learnt(
    a_run, tmp_path, method, stage):
  """A supernet that stands still, of which what it comes to is inherited."""
  out, learns = tmp_path / "run", dataclasses.replace(STILL, epochs=6)
  transform(out, method, SEARCHES[method], a_run, start="replace",
            train_from="inherited", train=learns)
  rows = list(metrics.read(out / "metrics.jsonl"))
  assert [(r["run"], r["stage"]) for r in rows][:2] == [
      ("search", "distil"), ("search2", stage)]
  given, kept = renumbered(a_run, "network-3"), params(out, "transformed-3")
  assert_kept(kept, given)
  with pytest.raises(errors.InputError, match="holds a run of another conf"):
    transform(out, method, SEARCHES[method], a_run, train_from="inherited",
              train=learns)


def learning(source=None, method="natpp", **options):
  job = pipeline.Job(
      NETWORK, test_replace.dataset(), method, SEARCHES[method], STILL, seed=3,
      weights=source, start="replace", **options)
  return job.plan


@pytest.mark.long
def test_replacements_learn_from_a_network_of_identities(tmp_path):
  variables = network_lib.init(
      network_lib.module(NETWORK, records.Frame(10, 8, 6)), jax.random.key(0))
  networks_lib.save_weights(tmp_path / "weights.npz", variables)
  plan = learning(tmp_path / "weights.npz", arcface=arcface.ArcFaceConfig(
      embedding=6), devices=4)
  update = plan.method.stages[0].phases[0].update
  state = plan.begin(variables, jax.random.key(0))
  jax.eval_shape(devices.spread(
      update, devices.choose(1), sharded=(False, False)), state, tiny.batch(16))


@pytest.mark.long
@pytest.mark.parametrize("method", SEARCHES)
def test_what_learns_is_what_replace_learns(a_run, method):
  plan = learning(a_run, method)
  variables = networks_lib.load_weights(
      a_run / "networks" / "network-3" / "weights.npz")
  state = plan.begin(variables, jax.random.key(0))
  over = plan.method.stages[-1].end(state)
  # Its candidates are the supernet's, by their names and their edges.
  block = state.params["block0"]
  assert {"edge0_conv_1x1", "edge0_sep_conv_3x3"} <= {*block}
  net = over.method.stages[-1].phases[0].update.__self__.supernet
  first, *rest = codec.pad(NETWORK).blocks
  edges = (first.edges[0]._replace(operation="sep_conv_3x3"), *first.edges[1:])
  other = over.architecture._replace(
      blocks=(first._replace(edges=edges), *rest))
  stats = jax.device_get(net.init(jax.random.key(0)))["batch_stats"]
  found = inherit.variables(
      net, {"params": over.state.params, "batch_stats": stats}, other)
  jax.tree.map(np.testing.assert_array_equal,
               found["params"]["block0"]["edge0_sep_conv_3x3"],
               block["edge0_sep_conv_3x3"])


@pytest.mark.parametrize("method,search,options,message", [
    ("nat", STILL_NAT, {}, "there is no trained network to learn from"),
    ("evolution", STILL_EVOLVED, {}, "there is no trained network to learn"),
    ("replace", replace.ReplaceConfig(), {}, "'replace' has no other"),
    ("climb", climb.ClimbConfig(batch_size=16), {}, "'climb' has no other"),
    ("differentiable", STILL_THETA, {"compare": False}, "no trained network"),
    ("nat", STILL_NAT, {"start": "me"}, "choose one of drawn, replace")])
def test_replacements_need_a_network_to_learn_from(
    method, search, options, message):
  if options.get("compare") is False:
    search = dataclasses.replace(search, tolerance=0.5)
  with pytest.raises(errors.InputError, match=message):
    pipeline.Job(NETWORK, test_replace.dataset(), method, search, STILL,
                 **{"start": "replace", **options})


@pytest.mark.long
def test_theta_begins_after_replacements_that_learnt(tmp_path):
  out = tmp_path / "run"
  transform(out, "differentiable", STILL_THETA, start="replace",
            train=dataclasses.replace(STILL, learning_rate=0.01))
  rows = [(r["run"], r["stage"]) for r in metrics.read(out / "metrics.jsonl")]
  assert rows == [("original-3", "train"), ("theta-3", "distil"),
                  ("theta2-3", "architecture")]


@pytest.mark.long
@pytest.mark.parametrize("given,space,place", [
    (tiny.GENOTYPE, tiny.SPACE, records.Skeleton("cifar", 2, 3, 10, 8)),
    (codec.pad(NETWORK), spaces.own(NETWORK, "full", "natpp"),
     records.Frame(10, 8))], ids=["cells", "blocks"])
def test_a_supernet_begins_as_the_network_that_it_is_given(given, space, place):
  sizes = {"init_channels": 2, "cells": 3} if given.kind == "cells" else {
      "init_channels": None, "cells": None}
  method = natpp.NATpp(
      dataclasses.replace(tiny.SEARCH, **sizes), space, num_classes=10,
      image_size=8, targets=(place,), given=given, inherits=True)
  network = network_lib.module(given, place)
  rng = np.random.default_rng(0)
  own = jax.tree.map(
      lambda x: np.abs(rng.normal(size=x.shape)).astype("f"),
      jax.eval_shape(functools.partial(network_lib.init, network),
                     jax.random.key(0)))
  state = method.begin(own, jax.random.key(1))
  back = method.inherit(state, given)
  jax.tree.map(np.testing.assert_array_equal, back["params"], own["params"])
  images = tiny.batch(4)["image"]
  (expected, _), _ = jax.jit(lambda own: network.apply(
      own, images, train=True, mutable=["batch_stats"]))(own)
  found = jax.jit(method.logits)(
      state.params, method.ground.encode(given), images)
  np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)
