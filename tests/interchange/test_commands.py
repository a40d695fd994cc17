"""PyTorch's network made cheaper by the commands of docs/own_network.md."""

import json
import pathlib
from typing import NamedTuple

import jax
import numpy as np
import pytest
from safetensors import numpy as safetensors

import natjax
from natjax import blocks, cli, data, zoo
from tests import pages
from tests.interchange import torch_writer

PAGE = pages.ROOT / "docs" / "own_network.md"
WIDTH = 0.125
# What is smaller than on the page.
SMALLER = ["--image-size", "8", "--width", str(WIDTH), "--devices", "1"]
TUNED = ["--distil-epochs", "1", "--tune-epochs", "1",
         "--price-checks", "0", "--price-images", "64"]


class Trained(NamedTuple):
  """A network that was trained, in both forms of files.

  Attributes:
    folder: of `resnet18.pth` and `resnet18.safetensors`.
    accuracy: on the test images, as who trained it says.
  """

  folder: pathlib.Path
  accuracy: float


@pytest.fixture(scope="module", params=["natjax", "PyTorch"])
def trained(request, tmp_path_factory):
  """ResNet18 after a few epochs on digits, by its trainer's own means."""
  folder = tmp_path_factory.mktemp(request.param)
  pth, tensors = (folder / f"resnet18.{form}" for form in (
      "pth", "safetensors"))
  if request.param == "PyTorch":
    torch = pytest.importorskip("torch", reason="of the extra `interchange`")
    from tests.interchange import torch_resnet
    model, accuracy = torch_resnet.trained(
        data.load("digits", image_size=8), int(64 * WIDTH), epochs=3)
    torch.save(model.state_dict(), pth)
    safetensors.save_file(
        {name: leaf.numpy() for name, leaf in model.state_dict().items()},
        tensors)
    return Trained(folder, accuracy)
  run = folder / "first"
  assert cli.main(["train", "resnet18", "--dataset", "digits", *SMALLER,
                   "--epochs", "2", "--seeds", "1", "--out", str(run)]) == 0
  natjax.save_weights(tensors, blocks.scale(zoo.get("resnet18"), WIDTH),
                      natjax.load(run).variables)
  torch_writer.save(pth, safetensors.load_file(tensors))
  return Trained(folder, json.loads(
      (run / "result.json").read_text())["accuracy"])


def written():
  """The commands of the page that begin with a file of weights."""
  code, = (c for c in pages.codes(PAGE) if "resnet18.pth" in c.text)
  return [words[1:] for words in pages.commands(code.text)]


@pytest.mark.slow
def test_both_files_hold_one_network(trained):
  network = blocks.scale(zoo.get("resnet18"), WIDTH)
  first, second = (natjax.load_weights(
      trained.folder / f"resnet18.{form}", network) for form in (
          "pth", "safetensors"))
  jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_what_was_trained_is_cut_exported_and_read_back(
    trained, form, monkeypatch, capsys):
  monkeypatch.chdir(trained.folder)
  transform, evaluate, export = (
      [word.replace(".pth", f".{form}").replace("half", f"half-{form}")
       for word in words] for words in written())
  assert cli.main([*transform, *SMALLER, *TUNED]) == 0
  result = json.loads(pathlib.Path(f"runs/half-{form}/result.json").read_text())
  assert result["transformed"]["madds"] <= result["original"]["madds"] / 2
  assert result["original"]["accuracies"][0] == pytest.approx(trained.accuracy)
  capsys.readouterr()
  assert cli.main([*evaluate, "--json"]) == 0
  said = json.loads(capsys.readouterr().out)
  print(evaluate, said)
  assert cli.main(export) == 0
  images = data.load("digits", image_size=8)
  logits = natjax.load_exported(f"half-{form}.stablehlo").call(
      images.test_images)
  right = np.mean(np.argmax(logits, -1) == images.test_labels)
  assert right == pytest.approx(result["transformed"]["accuracies"][0])
