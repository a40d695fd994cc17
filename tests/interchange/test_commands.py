"""PyTorch's network made cheaper by the commands of docs/own_network.md."""

import json
import shlex

import numpy as np
import pytest

import natjax
from natjax import blocks, cli, data, zoo
from tests import pages
from tests.interchange import torch_writer

PAGE = pages.ROOT / "docs" / "own_network.md"
# What is smaller than on the page.
SMALLER = ["--image-size", "8", "--width", "0.25"]
TUNED = ["--distil-epochs", "2", "--tune-epochs", "2",
         "--price-checks", "0", "--price-images", "64"]


def written():
  """The commands of the page that begin with a file of weights."""
  code, = (c for c in pages.codes(PAGE) if "resnet18.pth" in c.text)
  return pages.commands(code.text)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["pth", "safetensors"])
def test_what_pytorch_trained_is_cut_exported_and_read_back(
    tmp_path, monkeypatch, capsys, form):
  monkeypatch.chdir(tmp_path)
  network = blocks.scale(zoo.get("resnet18"), 0.25)
  assert cli.main(["train", "resnet18", "--dataset", "digits", *SMALLER,
                   "--epochs", "4", "--seeds", "1", "--out", "first"]) == 0
  trained = natjax.load("first")
  natjax.save_weights("resnet18.safetensors", network, trained.variables)
  if form == "pth":
    from safetensors import numpy as safetensors
    torch_writer.save(tmp_path / "resnet18.pth", safetensors.load_file(
        "resnet18.safetensors"))
  transform, evaluate, export = (
      [word.replace(".pth", f".{form}") for word in words[1:]]
      for words in written())
  assert cli.main([*transform, *SMALLER, *TUNED]) == 0
  result = json.loads((tmp_path / "runs/half/result.json").read_text())
  assert result["transformed"]["madds"] <= result["original"]["madds"] / 2
  assert result["original"]["accuracies"][0] == pytest.approx(
      json.loads((tmp_path / "first/result.json").read_text())["accuracy"])
  capsys.readouterr()
  assert cli.main([*evaluate, "--json"]) == 0
  said = json.loads(capsys.readouterr().out)
  print(shlex.join(export), said)
  assert cli.main(export) == 0
  images = data.load("digits", image_size=8)
  logits = natjax.load_exported("half.stablehlo").call(images.test_images)
  right = np.mean(np.argmax(logits, -1) == images.test_labels)
  assert right == pytest.approx(result["transformed"]["accuracies"][0])
