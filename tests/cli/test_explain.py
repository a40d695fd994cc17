"""`natjax explain`, and the maps of trained networks."""

import json
import types
from xml.etree import ElementTree

import numpy as np
from PIL import Image
import pytest

import natjax
from natjax import cli, errors
from natjax.cli import explain
from natjax.graph import blocks, codec
from natjax.pipeline import run_data

EDGE = blocks.Edge
MINE = blocks.BlockNetwork(
    "mine", stem=(blocks.Layer("conv", 4, 3, activation="relu"),),
    blocks=(blocks.Block((blocks.Node(4, activation="relu"),),
                         (EDGE("conv_3x3", 1, 2),)),))
NAMES = ("cat", "2", "dog")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """A run of three classes, and a test image as a file."""
  folder = tmp_path_factory.mktemp("explain")
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (40, 12, 8, 3), np.uint8)
  labels = np.arange(40) % 3
  np.savez(folder / "data.npz", x_train=images[:32], y_train=labels[:32],
           x_test=images[32:], y_test=labels[32:], class_names=np.array(NAMES))
  (folder / "mine.json").write_text(codec.to_json(blocks.check(MINE)))
  assert cli.main([
      "train", str(folder / "mine.json"), "--dataset",
      str(folder / "data.npz"), "--image-size", "8", "--resize", "crop",
      "--out", str(folder / "run"), "--devices", "1", "--epochs", "1",
      "--batch-size", "16", "--seeds", "1"]) == 0
  Image.fromarray(images[33]).save(folder / "33.png")
  return types.SimpleNamespace(out=folder / "run", image=folder / "33.png",
                               folder=folder)


def explained(capsys, *args):
  assert cli.main(["explain", *map(str, args), "--json"]) == 0
  return json.loads(capsys.readouterr().out)


def test_a_test_image_and_its_file(run, capsys):
  net, path = natjax.load(run.out), run.out / "explanation.svg"
  found = explained(capsys, run.out, "--image", 1)
  assert ElementTree.parse(path).getroot().tag.endswith("svg")
  path.unlink()
  assert found["picture"] == str(path)
  assert (found["network"], found["layer"]) == ("network-0", "block0")
  assert found["class"] == found["predicted"] and found["label"] == NAMES[0]
  data, _ = run_data.load(run.out)
  image = data.test_images[1:2]
  np.testing.assert_allclose(found["map"], net.class_activation(image)[0])
  logits = np.asarray(net.logits(image))[0]
  assert NAMES[logits.argmax()] == found["predicted"]
  assert found["probability"] == pytest.approx(
      np.exp(logits.max()) / np.exp(logits).sum())
  # Resized as in training, which crops.
  again = explained(capsys, run.out, "--image", run.image, "--resize")
  assert again == {k: v for k, v in found.items() if k != "label"}


def test_what_is_named_is_explained(run, capsys, tmp_path):
  out = tmp_path / "map.svg"
  flags = ("--image", "0", "--out", out, "--network", "network-0")
  stem = explained(capsys, run.out, *flags, "--layer", "stem0", "--class", "2")
  assert (stem["layer"], stem["class"]) == ("stem0", "2")
  assert stem == explained(
      capsys, run.out, *flags, "--layer", "stem0", "--class", "1")
  first = explained(capsys, run.out, *flags, "--layer", "0", "--class", "dog")
  assert (first["layer"], first["class"]) == ("block0", "dog")
  edge = explained(capsys, run.out, *flags, "--layer", "block0/edge0_conv_3x3")
  maps = [np.array(part["map"]) for part in (stem, first, edge)]
  assert {m.shape for m in maps} == {(8, 8)} and min(m.min() for m in maps) == 0
  assert cli.main(["explain", str(run.out), *map(str, flags)]) == 0
  line = capsys.readouterr().out
  assert line.startswith("network-0, block0 (8 x 8 positions): class '")
  assert line.endswith(f"labelled 'dog': {out}\n") and line.count("\n") == 1


def test_a_name_of_a_class_comes_before_a_number():
  assert [explain._class(text, NAMES) for text in ("2", "dog", "0", "1")] == [
      1, 2, 0, 1]
  same = ("crane", "cat", "crane")  # As ImageNet has.
  assert explain._class("cat", same) == 1 and explain._class("2", same) == 2
  with pytest.raises(errors.InputError, match=r"of 2 classes.* 0, 2; give"):
    explain._class("crane", same)


@pytest.mark.parametrize("flags, message", [
    (["--image", "@"], "33.png has 8 x 12 pixels and the network was trained on"
     " 8 x 8; pass --resize"),
    (["--image", "8"], "image is 8 and data has the test images 0 to 7"),
    (["--image", "9" * 400], "which no file can have for its name"),
    (["--image=-1"], "image is -1 and data has the test images 0 to 7; give"),
    (["--image", "1.5"], "image is 1.5 and data has the test images 0 to 7"),
    (["--image", "none.png"], "image is none.png, and no file is there; name an"
     " image, or give the number of a test image (--image"),
    (["--image", "."], "cannot be read as an image"),
    (["--image", "/dev/zero"], "is a pipe or a device"),
    (["--image", "@@/data.npz"], "cannot be read as an image"),
    (["--image", "1", "--resize"], "does not apply to a test image"),
    (["--image", "@", "--data-dir", "x"], "data-dir is x and does not apply"),
    (["--image", "@", "--dataset", "x"], "dataset is x and does not apply"),
    (["--image", "1", "--dataset", "digits"], "has networks for 3 classes"),
    (["--image", "1", "--class", "bird"], "class is 'bird', and the network's"
     " are cat, 2, dog; name one, or give its number, which is at most 2"),
    (["--image", "1", "--class", "3"], "class is '3'"),
    (["--image", "1", "--layer", "1"], "layer is 1, and the layers of more than"
     " one position are stem0 to block0, in them for example"
     " block0/edge0_conv_3x3; name"),
    (["--image", "1", "--layer", "head0"], "layer is 'head0'"),
    (["--image", "1", "--network", "network-1"], "it has network-0"),
    (["--image", "1", "--out", "x.gif"], "written as .svg or .png"),
    (["--image", "1", "--out", "no/x.svg"], "there is no directory"),
    ([], "required: --image")])
def test_refusals(run, flags, message, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  flags = [f.replace("@@", str(run.folder)).replace("@", str(run.image))
           for f in flags]
  assert cli.main(["explain", str(run.out), *flags]) == 2
  text = capsys.readouterr().err
  assert message in text and text.startswith("natjax: ")
  assert text.count("\n") == 1 and len(text) < 700
  assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("what", ["none", "file.txt", "."])
def test_what_is_no_run_is_refused(what, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "file.txt").touch()
  assert cli.main(["explain", what, "--image", "1"]) == 2
  text = capsys.readouterr().err
  assert text.count("\n") == 1 and "directory" not in text


def test_python_refuses_other_arguments(run):
  net, images = natjax.load(run.out), np.zeros((2, 8, 8, 3), np.uint8)
  given = [([0], None), ([0, 3], None), ([-1, 0], None), ([0.0, 1.0], None),
           ([0, 1], "head0"), ("dog", None)]
  for labels, layer in given:
    with pytest.raises(errors.InputError, match=r"labels are|layer is"):
      net.class_activation(images, labels, layer)
  with pytest.raises(errors.InputError, match="pass resize=True"):
    net.class_activation(np.zeros((1, 9, 8, 3), np.uint8))
  with pytest.raises(errors.InputError, match="has no classifier"):
    net._replace(classifies=False).class_activation(images)
  assert net.layers()["block0"] == (8, 8) and "head0" not in net.layers()
