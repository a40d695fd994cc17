"""Logits beside torchvision's and timm's, of the same random weights."""

import jax
import numpy as np
import pytest

from natjax import zoo
from natjax.graph import records
from natjax.interchange import weights
from natjax.networks import network as network_lib

torch = pytest.importorskip("torch")
models = pytest.importorskip("torchvision").models

# What torchvision calls each, and the side of the images.
NETWORKS = {"resnet18": ("resnet18", 64), "resnet34": ("resnet34", 64),
            "resnet50": ("resnet50", 224), "resnet101": ("resnet101", 64),
            "vgg16": ("vgg16", 224), "vgg16-bn": ("vgg16_bn", 224),
            "mobilenetv2": ("mobilenet_v2", 224)}


def disturbed(model, seed=0):
  """The model with statistics, scales and biases that are not 0 and 1."""
  generator = torch.Generator().manual_seed(seed)
  draw = lambda like, low, high: low + (high - low) * torch.rand(
      like.shape, generator=generator)
  for module in model.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.running_mean.copy_(draw(module.running_mean, -0.2, 0.2))
      module.running_var.copy_(draw(module.running_var, 0.5, 1.5))
      module.weight.data.copy_(draw(module.weight, 0.5, 1.5))
    bias = getattr(module, "bias", None)
    if isinstance(bias, torch.Tensor):
      bias.data.copy_(draw(bias, -0.2, 0.2))
  return model.eval()


def logits(model, images):
  with torch.no_grad():
    return model(torch.from_numpy(images.transpose(0, 3, 1, 2))).numpy()


def compare(model, name, side, path, classes=1000):
  """Asserts that natjax computes with a file what a model computes."""
  architecture, place = zoo.get(name, "imagenet"), records.Frame(classes, side)
  images = np.random.default_rng(0).normal(
      size=(2, side, side, 3)).astype(np.float32)
  variables = weights.read(path, architecture, place).variables
  found = jax.jit(network_lib.module(architecture, place).apply)(
      variables, images)[0]
  wanted = logits(model, images)
  error = np.linalg.norm(found - wanted) / np.linalg.norm(wanted)
  assert error < 1e-4, error
  return variables


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_torchvisions_also_after_a_round_trip(name, tmp_path):
  there, side = NETWORKS[name]
  make = lambda: getattr(models, there)(weights=None)
  torch.manual_seed(0)
  model = disturbed(make())
  torch.save(model.state_dict(), tmp_path / "model.pth")
  variables = compare(model, name, side, tmp_path / "model.pth")

  file = tmp_path / "back.safetensors"
  weights.write(file, zoo.get(name, "imagenet"), variables)
  again = make()
  # torchvision takes all names, no more and no less.
  again.load_state_dict({
      name: torch.from_numpy(np.array(tensor))
      for name, tensor in weights.files.read(file).items()}, strict=True)
  once_more = compare(again.eval(), name, side, file)
  jax.tree.map(np.testing.assert_array_equal, variables, once_more)


@pytest.mark.slow
@pytest.mark.parametrize("name, there", [
    ("mobilenetv2", "mobilenetv2_100"), ("vgg16-bn", "vgg16_bn"),
    ("resnet50", "resnet50")])
def test_logits_are_timms(name, there, tmp_path):
  timm = pytest.importorskip("timm")
  torch.manual_seed(0)
  model = disturbed(timm.create_model(there, pretrained=False, num_classes=10))
  torch.save({"epoch": 3, "state_dict": {
      f"module.{key}": tensor for key, tensor in model.state_dict().items()}},
             tmp_path / "checkpoint.pth")
  compare(model, name, 224, tmp_path / "checkpoint.pth", classes=10)
