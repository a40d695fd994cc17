"""Jobs that begin with weights that another library trained."""

import dataclasses
import json

import jax
import numpy as np
import pytest

import natjax
from natjax import cli, errors, pipeline
from natjax.graph import codec, records
from natjax.objectives import simclr
from natjax.pipeline import networks as networks_lib
from natjax.pipeline import trainer as trainer_lib
from natjax.pipeline import weights
from tests.interchange import small, torch_writer
from tests.methods import test_replace
from tests.pipeline import test_weights

FRAME = records.Frame(10, 8)


def params(out, name):
  return small.flat(networks_lib.load_weights(
      out / "networks" / name / "weights.npz")["params"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  """Of files of one network's weights, and of its architecture."""
  path = tmp_path_factory.mktemp("weights")
  torch_writer.save(path / "m.pth", small.tensors(small.RESIDUAL, FRAME))
  variables = natjax.load_weights(path / "m.pth", small.RESIDUAL)
  natjax.save_weights(path / "m.safetensors", small.RESIDUAL, variables)
  natjax.save_weights(path / "m.npz", small.RESIDUAL, variables)
  for file in ("M.NPZ", "M.SAFETENSORS"):
    natjax.save_weights(path / file, small.RESIDUAL, variables)
    assert (path / file).read_bytes()[:2] == (
        path / file.lower()).read_bytes()[:2]
  torch_writer.save(path / "other.pth", small.tensors(
      small.RESIDUAL, FRAME._replace(num_classes=7)))
  natjax.save_weights(path / "other.npz", small.RESIDUAL, natjax.load_weights(
      path / "other.pth", small.RESIDUAL))
  torch_writer.save(path / "vgg.pth", small.tensors(small.VGG, FRAME))
  torch_writer.save(path / "code.pth", small.tensors(
      small.RESIDUAL, FRAME), lambda state: {
          "model": state, "args": torch_writer.Call(torch_writer.Global(
              "argparse", "Namespace"), ())})
  nan = small.tensors(small.RESIDUAL, FRAME)
  nan["fc.bias"][3] = np.nan
  torch_writer.save(path / "nan.pth", nan)
  (path / "text.pth").write_text("no weights")
  whole = (path / "m.pth").read_bytes()
  (path / "short.pth").write_bytes(whole[:len(whole) // 2])
  (path / "short.safetensors").write_bytes(
      (path / "m.safetensors").read_bytes()[:900])
  (path / "small.json").write_text(codec.to_json(small.RESIDUAL))
  return path


def test_all_forms_hold_the_same(folder):
  found = [small.flat(natjax.load_weights(folder / f"m.{ending}",
                                          small.RESIDUAL, 10))
           for ending in ("pth", "safetensors", "npz")]
  for other in found[1:]:
    assert other.keys() == found[0].keys()
    jax.tree.map(np.testing.assert_array_equal, found[0], other)


@pytest.mark.parametrize("weights, trainings", [(None, 1), ("m.pth", 0)])
def test_a_network_that_is_taken_over_is_not_trained(
    weights, trainings, folder):
  """Nor is its training counted."""
  job = pipeline.Job(
      small.RESIDUAL, test_replace.dataset(), "replace", test_replace.CONFIG,
      dataclasses.replace(test_weights.STILL, seeds=1),
      weights=weights and folder / weights)
  found = job.estimate()
  assert ("train" in found) == trainings
  assert found["all"]["steps"] == found["search"]["steps"] + (
      found["train"]["steps"] if trainings else 0)


def test_a_library_call_says_what_is_drawn(folder):
  found = []
  for file in ("m.pth", "m.npz"):
    with pytest.warns(UserWarning, match=(
        f"^{file} has a classifier of 10 classes, not 3: it is drawn$")):
      found.append(natjax.load_weights(folder / file, small.RESIDUAL, 3))
  assert found[0]["params"]["head1"]["linear"]["bias"].shape == (3,)
  jax.tree.map(np.testing.assert_array_equal, *map(small.flat, found))


def test_of_own_files_only_the_classifier_may_differ(folder, tmp_path):
  flat = small.flat(natjax.load_weights(folder / "m.npz", small.RESIDUAL))
  kernel, bias = (f"params/head1/linear/{part}" for part in ("kernel", "bias"))
  variance = "batch_stats/stem0/norm/bn/var"
  for change, words in (
      ({kernel: flat[kernel][:, :7], bias: flat[bias][:6]}, "another shape"),
      ({kernel: flat[kernel][:3, :7], bias: flat[bias][:7]}, "another shape"),
      ({kernel: flat[kernel][:, :7]}, "another shape"),
      ({kernel: flat[kernel][:, :7], bias: flat[bias][:7],
        "params/more/bias": flat[bias]}, "they hold besides params/more"),
      ({bias: None}, "they lack params/head1/linear/bias"),
      ({variance: -flat[variance]}, f"{variance} is a variance"),
      ({kernel: None, bias: None, "params/stem0/conv/kernel": None},
       "they lack params/")):
    np.savez(tmp_path / "m.npz", **{
        k: v for k, v in {**flat, **change}.items() if v is not None})
    with pytest.raises(errors.InputError, match=words):
      natjax.load_weights(tmp_path / "m.npz", small.RESIDUAL, 10)


@pytest.mark.parametrize("call, words", [
    (lambda path: natjax.load_weights(path / "m.pth", natjax.zoo.get("darts")),
     "cells"),
    (lambda path: natjax.load_weights(path / "m.npz", natjax.zoo.get("darts")),
     "cells"),
    (lambda path: natjax.load_weights(path / "gone", small.RESIDUAL),
     "No such file"),
    (lambda path: natjax.load_weights(3, small.RESIDUAL), "must be a path"),
    *((lambda path, form=form: natjax.load_weights(
        path / f"m.{form}", small.RESIDUAL, -1), "classes is -1 and must be")
      for form in ("pth", "npz")),
    (lambda path: natjax.save_weights(path / "m.pth", small.RESIDUAL, {}),
     r"must end in \.npz or \.safetensors")])
def test_what_a_library_call_refuses(call, words, folder):
  with pytest.raises(errors.InputError, match=words):
    call(folder)


@pytest.mark.long
def test_a_training_begins_with_them(folder, tmp_path, capsys):
  out = tmp_path / "run"
  arguments = ["train", str(folder / "small.json"), "--weights", str(
      folder / "m.pth"), "--dataset", "digits", "--image-size", "8", "--preset",
      "demo", "--epochs", "1", "--learning-rate", "0", "--weight-decay", "0",
      "--final-learning-rate", "0", "--seeds", "1", "--out", str(out)]
  assert cli.main(arguments) == 0
  wanted = small.flat(natjax.load_weights(
      folder / "m.npz", small.RESIDUAL)["params"])
  jax.tree.map(np.testing.assert_array_equal, params(out, "network-0"), wanted)
  said = "m.pth does not say how images are normalised for it; here by mean"
  assert said in json.loads((out / "result.json").read_text())["note"]
  assert said in " ".join(capsys.readouterr().err.split())
  found = json.loads((out / "config.json").read_text())["weights"]
  assert found["0"]["path"] == str(folder / "m.pth")
  assert cli.main(arguments) == 0  # Nothing is left to do.


@pytest.mark.parametrize("file", ["other.pth", "other.npz"])
def test_a_classifier_of_other_classes_is_said_and_drawn_by_the_seed(
    folder, file):
  kernels = []
  for seed in (3, 4):
    job = pipeline.TrainJob(
        small.RESIDUAL, test_replace.dataset(), test_weights.STILL, seed=seed,
        weights=folder / file)
    assert job.note.startswith(
        f"{file} has a classifier of 7 classes, not 10: it is drawn")
    own = job.trainer.read(folder / file, small.RESIDUAL)
    kernels.append(own["params"]["head1"]["linear"]["kernel"])
    # Whoever reads them, has the same.
    jax.tree.map(np.testing.assert_array_equal, own, weights.share(
        folder / file, small.RESIDUAL, job.trainer))
  assert kernels[0].shape == (8, 10) and (kernels[0] != kernels[1]).any()


@pytest.mark.parametrize("there, here, other", [
    ("abcdefghij", "jbcdefghia", "'a' there, 'j' here"),  # Another order.
    ("abcdefghij", "klmnopqrst", "'a' there, 'k' here"),
    ("abcdefghij", "abcdefghij", ""),
    ("abcdefghij", "0123456789", ""),  # Which may be their numbers.
    (None, "abcdefghij", "")])
def test_classes_of_other_names_are_others(
    folder, tmp_path, there, here, other):
  network = tmp_path / "network"
  network.mkdir()
  (network / "weights.npz").write_bytes((folder / "m.npz").read_bytes())
  (network / "result.json").write_text(json.dumps(
      {} if there is None else {"class_names": [*there]}))
  dataset = dataclasses.replace(
      test_replace.dataset(), class_names=tuple(here))
  job = pipeline.TrainJob(
      small.RESIDUAL, dataset, test_weights.STILL, weights=network)
  said = (f"weights.npz has a classifier of other classes ({other}): it is"
          " drawn")
  assert (said in job.note) == bool(other)
  held = natjax.load_weights(folder / "m.npz", small.RESIDUAL)["params"]
  path = network / "weights.npz"
  for own in (job.trainer.read(path, small.RESIDUAL), weights.share(
      path, small.RESIDUAL, job.trainer)):
    jax.tree.map(np.testing.assert_array_equal, own["params"]["stem0"],
                 held["stem0"])
    same = np.array_equal(own["params"]["head1"]["linear"]["kernel"],
                          held["head1"]["linear"]["kernel"])
    assert same != bool(other)


class Stopped(Exception):
  """The part of a job that matters is over."""


@pytest.mark.parametrize("method, search", [
    ("replace", test_replace.CONFIG),
    ("differentiable", test_weights.STILL_THETA)])
@pytest.mark.parametrize("file, first", [
    ("m.pth", "transformed"), ("other.pth", "original"),
    ("other.npz", "original")])
def test_what_has_another_classifier_is_trained_before_it_is_changed(
    method, search, file, first, folder, tmp_path, monkeypatch):
  asked = []

  def train(trainer, out, name, architecture, listener, *, files, **options):
    asked.append((name, files[3]))
    raise Stopped

  monkeypatch.setattr(trainer_lib.Trainer, "train", train)
  job = pipeline.Job(
      small.RESIDUAL, test_replace.dataset(), method, search,
      test_weights.STILL, seed=3, weights=folder / file)
  assert ("and the network trained before it is changed" in job.note) == (
      first == "original")
  with pytest.raises(Stopped):
    job.run(tmp_path / "run")
  own = tmp_path / "run" / "networks" / "original-3" / "weights.npz"
  if first == "original":  # It begins with the file, but for the classifier.
    assert asked == [("original", folder / file)] and not own.exists()
  else:  # It is the trained original.
    assert asked == [("transformed", own)]
    wanted = small.flat(natjax.load_weights(
        folder / "m.npz", small.RESIDUAL)["params"])
    jax.tree.map(np.testing.assert_array_equal,
                 params(tmp_path / "run", "original-3"), wanted)


@pytest.fixture(scope="module")
def without_labels(tmp_path_factory):
  """A run of a network that learnt without labels."""
  out = tmp_path_factory.mktemp("simclr") / "run"
  pipeline.train(small.RESIDUAL, test_replace.dataset(), out=out, seed=3,
                 config=dataclasses.replace(test_weights.STILL, seeds=1),
                 simclr=simclr.SimCLRConfig(watch_epochs=0))
  return out


@pytest.mark.long
@pytest.mark.parametrize("method, search", [
    ("replace", test_replace.CONFIG),
    ("differentiable", test_weights.STILL_THETA),
    ("nat", test_weights.STILL_NAT), ("natpp", test_weights.STILL_NAT),
    ("evolution", test_weights.STILL_EVOLVED)])
def test_what_learnt_without_labels_is_transformed(
    method, search, without_labels):
  train = dataclasses.replace(test_weights.STILL, seeds=1)
  job = pipeline.Job(small.RESIDUAL, test_replace.dataset(), method, search,
                     train, seed=3, weights=without_labels)
  assert job.note.startswith("weights.npz has no classifier: it is drawn")
  assert not job._adopts
  state = job._program().init(jax.random.key(0)) if not job.entry.trained else (
      job.plan.begin(job.trainer.read(
          job._weights[3], small.RESIDUAL), jax.random.key(0)))
  found = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(state)
           if "stem" in jax.tree_util.keystr(path) and leaf.shape == (
               3, 3, 3, 4)]
  wanted = params(without_labels, "network-3")["stem0/conv/kernel"]
  assert any((leaf == wanted).all() for leaf in found)


@pytest.mark.long
def test_what_learnt_without_labels_is_trained_with_them(
    without_labels, tmp_path):
  result = pipeline.train(
      small.RESIDUAL, test_replace.dataset(), out=tmp_path / "run", seed=3,
      config=dataclasses.replace(test_weights.STILL, seeds=1),
      weights=without_labels)
  assert result["note"] == "weights.npz has no classifier: it is drawn"
  before, after = (params(out, "network-3")
                   for out in (without_labels, tmp_path / "run"))
  assert after.keys() - before.keys() == {
      "head1/linear/kernel", "head1/linear/bias"}
  for name, leaf in before.items():
    np.testing.assert_array_equal(leaf, after[name])


@pytest.mark.parametrize("command", ["train", "transform"])
@pytest.mark.parametrize("file, words", [
    ("vgg.pth", "it lacks conv1.weight, bn1.weight, bn1.bias and"),
    ("text.pth", "is no file of weights"),
    ("short.pth", "is damaged"), ("short.safetensors", "is damaged"),
    ("code.pth", "holds argparse.Namespace"),
    ("nan.pth", "fc.bias of"), ("gone.pth", "there is no such file")])
def test_refusals_are_one_line(command, file, words, folder, tmp_path, capsys):
  method = ["--method", "replace"] if command == "transform" else []
  assert cli.main([
      command, str(folder / "small.json"), *method, "--weights", str(
          folder / file), "--dataset", "digits", "--image-size", "8",
      "--preset", "demo", "--seeds", "1", "--out", str(tmp_path / "run")]) == 2
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and words in said and "(--weights)" in said
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("arrays", [
    {"x": np.array(["text"])}, {"params": np.ones(2, "f")},
    {"params/block0": np.ones(2, "f")}, {"params/": np.ones(2, "f")},
    {"params/head1/linear": np.ones(2, "f")}, {"params/head1/linear/kernel": (
        np.float32(1))}])
def test_own_files_of_something_else_are_one_line(arrays, tmp_path):
  np.savez(tmp_path / "m.npz", **arrays)
  with pytest.raises(errors.InputError, match=r"damaged|they lack"):
    natjax.load_weights(tmp_path / "m.npz", small.RESIDUAL)


@pytest.mark.parametrize("change", [
    lambda tree: 3, lambda tree: {}, lambda tree: {"params": [1.0]},
    lambda tree: {"params": tree["params"]},
    lambda tree: jax.tree.map(np.transpose, tree)])
@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_only_a_network_s_own_variables_are_written(
    change, ending, folder, tmp_path):
  """Also of kernels that are as large, but transposed."""
  variables = natjax.load_weights(folder / "m.npz", small.RESIDUAL)
  with pytest.raises(errors.InputError, match=r"variables|the weights are not"):
    natjax.save_weights(
        tmp_path / f"m.{ending}", small.RESIDUAL, change(variables))
  with pytest.raises(errors.InputError, match="lies in none"):
    natjax.save_weights(
        tmp_path / "gone" / f"m.{ending}", small.RESIDUAL, variables)
  (tmp_path / f"folder.{ending}").mkdir()
  with pytest.raises(errors.InputError, match="a folder"):
    natjax.save_weights(
        tmp_path / f"folder.{ending}", small.RESIDUAL, variables)
  assert len([*tmp_path.iterdir()]) == 1
