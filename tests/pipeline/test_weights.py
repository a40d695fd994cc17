"""Weights that are given to begin with: found, checked, described, trained."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

from natjax import cli, errors, pipeline
from natjax.cli import output
from natjax.graph import records
from natjax.methods import supervised
from natjax.pipeline import runs, weights
from tests.methods import test_replace, test_replacements

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
  return runs.load_weights(out / "networks" / name / "weights.npz")["params"]


def test_a_training_begins_with_them(a_run, tmp_path):
  train(tmp_path / "run", config=STILL, seed=4, weights=a_run)
  jax.tree.map(np.testing.assert_array_equal, params(a_run, "network-4"),
               params(tmp_path / "run", "network-4"))
  found = json.loads((tmp_path / "run" / "config.json").read_text())["weights"]
  assert found["4"]["path"].endswith("network-4/weights.npz")
  # Other weights are another run.
  with pytest.raises(errors.InputError, match="another configuration"):
    train(tmp_path / "run", config=STILL, seed=4)


def test_seeds_find_their_own_or_go_in_order(a_run):
  found = weights.find(a_run, NETWORK, range(3, 5))
  assert [found[s].parent.name for s in (3, 4)] == ["network-3", "network-4"]
  found = weights.find(a_run, NETWORK, range(2))
  assert [found[s].parent.name for s in (0, 1)] == ["network-3", "network-4"]
  with pytest.raises(errors.InputError, match="has 2 trained networks"):
    weights.find(a_run, NETWORK, range(3))


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


def test_other_images_are_said(a_run, tmp_path, capsys):
  network = a_run / "networks" / "network-3"
  result = train(tmp_path / "same", config=STILL, weights=network)
  assert "note" not in result
  said = ("the weights were trained on digits (8 pixels), other images than"
          " those here, of digits (8 pixels)")
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


def test_what_was_kept_is_not_a_second_network(a_run, tmp_path):
  kept = shutil.copytree(a_run, tmp_path / "kept")
  for seed in (3, 4):
    folder = kept / "networks"
    (folder / f"network-{seed}").rename(folder / f"original-{seed}")
    shutil.copytree(folder / f"original-{seed}", folder / f"transformed-{seed}")
  found = weights.find(kept, NETWORK, range(2))
  assert [found[s].parent.name for s in (0, 1)] == ["original-3", "original-4"]
  with pytest.raises(errors.InputError, match="has 2 trained networks"):
    weights.find(kept, NETWORK, range(3))


def test_the_command_line_says_so(a_run, tmp_path, capsys):
  assert cli.main([
      "train", "resnet20", "--weights", str(a_run), "--dataset", "digits",
      "--preset", "demo", "--seeds", "1", "--out", str(tmp_path / "run")]) == 2
  said = capsys.readouterr().err
  assert said.count("\n") == 1 and "0 trained networks of this" in said
  assert "(--weights)" in said
