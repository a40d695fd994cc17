"""Faces from the command line: ArcFace on a record file, `natjax verify`."""

import json
import types

import numpy as np
import pytest

import natjax
from natjax import cli, errors
from natjax.data import face_pairs
from natjax.graph import blocks, codec
from natjax.objectives import verification
from natjax.pipeline import run_data
from tests import faces

MINE = blocks.check(blocks.BlockNetwork(
    "mine", (blocks.Layer("conv", 8, 3, 2, activation="relu"),),
    (blocks.Block((blocks.Node(8, activation="relu"),),
                  (blocks.Edge("conv_3x3", 1, 2),)),)))


def trained(folder, out, *more):
  return cli.main([
      "train", str(folder / "mine.json"), "--dataset", str(folder / "web"),
      "--test-fraction", "0.25", "--image-size", "8", "--out",
      str(folder / out), "--devices", "1", "--batch-size", "12", "--seeds", "1",
      *more])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run on twelve identities of a record file, and pairs of them."""
  folder = tmp_path_factory.mktemp("verify")
  images, labels = faces.people(12, 8, 8)
  faces.write_faces(folder / "web", images, labels)
  (folder / "mine.json").write_text(codec.to_json(MINE))
  assert trained(folder, "run", "--objective", "arcface", "--epochs", "12",
                 "--learning-rate", "0.1", "--arcface-embedding", "16") == 0
  pairs, same = faces.pairs(*faces.people(12, 3, 8), 40, seed=1)
  return types.SimpleNamespace(
      folder=folder, out=folder / "run", images=pairs, same=same,
      pairs=faces.write_pairs(folder / "lfw.bin", pairs, same))


def test_it_learns_what_tells_people_apart(run, capsys):
  # Of chance, 0.08 of the identities and a half of the pairs.
  result = json.loads((run.out / "result.json").read_text())
  assert result["accuracy"] > 0.5 and result["objective"] == "arcface"
  assert cli.main(["verify", str(run.out), str(run.pairs), "--json"]) == 0
  (row,) = json.loads(capsys.readouterr().out)
  assert row["network"] == "network-0" and row["count"] == 40
  assert row["accuracy"] > 0.8
  found = natjax.verify(run.out, run.pairs)["network-0"]
  assert found.accuracy == row["accuracy"] and found.tar == row["tar"]


def test_it_is_the_protocol_written_out(run):
  net = natjax.load(run.out)
  images = np.concatenate([*face_pairs.read(run.pairs).decoded(8)])
  plain = np.asarray(net.features(images))
  assert plain.shape == (80, 16)
  both = plain + np.asarray(net.features(images[:, :, ::-1]))
  both /= np.linalg.norm(both, axis=1, keepdims=True)
  distance = 2 - 2 * np.sum(both[::2] * both[1::2], axis=1)
  expected = verification.judge(distance, np.array(run.same))
  assert natjax.verify(run.out, run.pairs)["network-0"] == pytest.approx(
      expected)


def test_the_network_still_classifies_by_its_angles(run, capsys):
  net = natjax.load(run.out)
  data, _ = run_data.load(run.out)
  cosines = np.asarray(net.logits(data.test_images))
  assert np.abs(cosines).max() <= 1 + 1e-6
  assert np.mean(cosines.argmax(1) == data.test_labels) == net.test_accuracy
  capsys.readouterr()
  assert cli.main(["evaluate", str(run.out), "--json"]) == 0
  told = json.loads(capsys.readouterr().out)["networks"]
  assert told[0]["accuracy"] == pytest.approx(net.test_accuracy)
  assert cli.main(["cost", str(run.out), "--json"]) == 0
  counted = json.loads(capsys.readouterr().out)["params"]
  assert counted == json.loads((run.out / "result.json").read_text())["params"]


def test_devices_that_divide_the_identities_write_all_of_them(run, capsys):
  assert trained(run.folder, "divided", "--objective", "arcface", "--epochs",
                 "1", "--devices", "4") == 0
  net = natjax.load(run.folder / "divided")
  assert net.variables["params"]["head1"]["classes"].shape == (12, 512)
  assert cli.main(["verify", str(run.folder / "divided"), str(run.pairs)]) == 0


def test_files_are_rows_of_a_table(run, capsys):
  assert cli.main(["verify", str(run.out), str(run.pairs), str(run.pairs),
                   "--network", "network-0"]) == 0
  assert capsys.readouterr().out.count("network-0") == 2


def refused(capsys, *args):
  assert cli.main(["verify", *map(str, args)]) == 2
  said = capsys.readouterr().err.strip()
  assert len(said.splitlines()) == 1
  return said


def test_bad_pairs_are_one_line(run, capsys, tmp_path):
  path = tmp_path / "bad.bin"
  for images, same, message in [
      (run.images[:-1], run.same, "79 images"),
      (run.images[:16], run.same[:8], "8 pairs are given"),
      ([b"none", *run.images[1:]], run.same, "image 0 cannot be read"),
      (run.images[:20], [True] * 10, "one person")]:
    faces.write_pairs(path, images, same)
    assert message in refused(capsys, run.out, path)
  path.write_bytes(b"none")
  assert "no pickle" in refused(capsys, run.out, path)
  assert "No such file" in refused(capsys, run.out, tmp_path / "none.bin")


def test_a_run_without_an_embedding_is_one_line(run, capsys):
  assert trained(run.folder, "labels", "--epochs", "1") == 0
  capsys.readouterr()
  assert "no embedding" in refused(capsys, run.folder / "labels", run.pairs)
  with pytest.raises(errors.InputError, match="has a classifier"):
    natjax.load(run.folder / "labels").features(np.zeros((1, 8, 8, 3), "u1"))
  assert "no trained network" in refused(capsys, run.folder, run.pairs)
  assert "network-7" in refused(
      capsys, run.out, run.pairs, "--network", "network-7")


@pytest.mark.parametrize("flags,message", [
    (["--arcface-margin", "0.3"], "does not apply to the objective supervised"),
    (["--objective", "arcface", "--arcface-margin", "2"], "--arcface-margin"),
    (["--objective", "arcface", "--label-smoothing", "0.1"],
     "does not apply to the objective arcface"),
    (["--objective", "arcface", "--simclr-hidden", "8"],
     "does not apply to the objective arcface")])
def test_settings_that_do_not_fit_are_one_line(run, capsys, flags, message):
  capsys.readouterr()
  assert trained(run.folder, "refused", "--dry-run", *flags) == 2
  said = capsys.readouterr().err.strip()
  assert message in said and len(said.splitlines()) == 1


def test_a_network_with_an_embedding_is_given_none(capsys):
  command = ["train", "mobilefacenet", "--dataset", "digits", "--dry-run",
             "--objective", "arcface", "--arcface-embedding"]
  assert cli.main([*command, "64"]) == 2
  said = capsys.readouterr().err.strip()
  assert "an embedding of its own" in said and said.count("\n") == 0


def test_two_objectives_are_refused(run):
  data, _ = run_data.load(run.out)
  with pytest.raises(errors.InputError, match="two objectives"):
    natjax.train(MINE, data, out=run.folder / "two",
                 simclr=natjax.SimCLRConfig(), arcface=natjax.ArcFaceConfig())
