"""The pruning tools' sides of `pruning.py`: a whole command of one of them.

ResNet20 as He et al., 2016, section 4.2, have it, with 1x1 convolutions where
the shape changes, in PyTorch: trained, cut by a tool as its documentation
shows, and tuned. Of the standard library, numpy, torch and the tool alone; the
settings and the images come in one file, the answer is a line of JSON.

nvidia-modelopt 0.47.0 does not bring all that FastNAS imports: `requests`,
`huggingface_hub` and `torchprofile`, of which 0.0.4 is the last that it works
with (of 0.1.0 it reads an attribute that is not there).
"""

import importlib.metadata
import json
import sys
import tempfile

import numpy as np
import torch
from torch import nn

WIDTHS = (16, 32, 64)


class Block(nn.Module):
  """Two 3x3 convolutions beside a shortcut."""

  def __init__(self, before: int, width: int, stride: int):
    super().__init__()
    self.conv1 = nn.Conv2d(before, width, 3, stride, 1, bias=False)
    self.bn1 = nn.BatchNorm2d(width)
    self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
    self.bn2 = nn.BatchNorm2d(width)
    self.shortcut = nn.Identity() if before == width else nn.Sequential(
        nn.Conv2d(before, width, 1, stride, bias=False), nn.BatchNorm2d(width))

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, C', H', W']."""
    y = torch.relu(self.bn1(self.conv1(x)))
    return torch.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


def resnet20() -> nn.Sequential:
  """The network, for ten classes."""
  blocks, before = [], WIDTHS[0]
  for width in WIDTHS:
    for i in range(3):
      blocks.append(Block(before, width, 2 if i == 0 and width > 16 else 1))
      before = width
  return nn.Sequential(
      nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
      *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


class Data:
  """Images f32[N, 3, H, W], normalised, and labels of one part."""

  def __init__(self, images: np.ndarray, labels: np.ndarray, settings: dict):
    mean, std = (np.asarray(settings[k], np.float32) for k in ("mean", "std"))
    black = torch.tensor(-mean / std).reshape(1, 3, 1, 1)
    x = (images.astype(np.float32) / 255 - mean) / std
    self.images = torch.tensor(x).permute(0, 3, 1, 2).contiguous()
    self.labels = torch.tensor(labels.astype(np.int64))
    self._black, self._shift = black, settings["shift"]

  def batches(self, size: int):
    """An epoch in random order, every image shifted by up to `shift`."""
    order, pad = torch.randperm(len(self.labels)), self._shift
    side = self.images.shape[-1]
    for i in range(0, len(order) - size + 1, size):
      x = self.images[order[i:i + size]]
      wide = self._black.expand(len(x), 3, side + 2 * pad,
                                side + 2 * pad).clone()
      wide[:, :, pad:pad + side, pad:pad + side] = x
      at = torch.randint(0, 2 * pad + 1, (len(x), 2)).tolist()
      x = torch.stack([w[:, r:r + side, c:c + side]
                       for w, (r, c) in zip(wide, at, strict=True)])
      yield x, self.labels[order[i:i + size]]

  def accuracy(self, model: nn.Module) -> float:
    """In [0, 1], by running statistics."""
    model.eval()
    with torch.no_grad():
      return float((model(self.images).argmax(1) == self.labels).float().mean())


def train(model: nn.Module, data: Data, settings: dict, epochs: int,
          final: float) -> None:
  """SGD on a cosine schedule, as natjax's side trains."""
  steps = epochs * (len(data.labels) // settings["batch_size"])
  optimizer = torch.optim.SGD(
      model.parameters(), settings["learning_rate"],
      momentum=settings["momentum"], weight_decay=settings["weight_decay"])
  schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
      optimizer, steps, eta_min=final)
  loss = nn.CrossEntropyLoss()
  for _ in range(epochs):
    model.train()
    for x, y in data.batches(settings["batch_size"]):
      optimizer.zero_grad()
      loss(model(x), y).backward()
      nn.utils.clip_grad_norm_(model.parameters(), settings["max_grad_norm"])
      optimizer.step()
      schedule.step()


def madds(model: nn.Module, example: torch.Tensor) -> int:
  """Multiply-adds of convolutions and linear layers, for one image."""
  found = []

  def count(layer, inputs, output):
    per = layer.weight.numel() // layer.weight.shape[0]
    found.append(output[0].numel() * per)

  hooks = [layer.register_forward_hook(count) for layer in model.modules()
           if isinstance(layer, nn.Conv2d | nn.Linear)]
  model.eval()
  with torch.no_grad():
    model(example)
  for hook in hooks:
    hook.remove()
  return sum(found)


def fastnas(model, data, held_out, settings):
  """`modelopt.torch.prune`, as its guide on pruning shows."""
  import modelopt.torch.prune as mtp

  # By 32, the default, and by 16 no half of this network exists.
  step = 8
  config = mtp.fastnas.FastNASConfig()
  config["nn.Conv2d"]["*"]["channel_divisor"] = step
  config["nn.BatchNorm2d"]["*"]["feature_divisor"] = step
  batches = [*data.batches(settings["batch_size"])]
  with tempfile.TemporaryDirectory() as folder:
    model, _ = mtp.prune(
        model=model, mode=[("fastnas", config)],
        constraints={"flops": f"{100 * settings['share']:g}%"},
        dummy_input=data.images[:1], config={
            "data_loader": batches, "score_func": held_out.accuracy,
            "collect_func": lambda batch: batch[0],
            "checkpoint": f"{folder}/search.pth"})
  return model


def magnitude(model, data, held_out, settings):
  """`torch_pruning`, as its README shows, in steps until it is cheap enough."""
  import torch_pruning as tp

  example, steps = data.images[:1], 100
  pruner = tp.pruner.MetaPruner(
      model, example, importance=tp.importance.GroupMagnitudeImportance(),
      iterative_steps=steps, pruning_ratio=0.9, ignored_layers=[
          layer for layer in model.modules() if isinstance(layer, nn.Linear)])
  whole = madds(model, example)
  for _ in range(steps):
    if madds(model, example) <= settings["share"] * whole:
      return model
    pruner.step()
  raise SystemExit("torch_pruning did not come down to the budget")


TOOLS = {"fastnas": (fastnas, "nvidia-modelopt"),
         "torch-pruning": (magnitude, "torch-pruning")}


def main(tool: str, path: str) -> None:
  """Trains, cuts, tunes, and says what came of it."""
  with np.load(path) as file:
    settings = json.loads(str(file["settings"]))
    parts = [Data(file[f"{part}_images"], file[f"{part}_labels"], settings)
             for part in ("train", "held_out", "test")]
  data, held_out, test = parts
  cut, package = TOOLS[tool]
  torch.manual_seed(settings["seed"])
  torch.set_num_threads(settings["threads"])
  model = resnet20()
  before = madds(model, data.images[:1])
  train(model, data, settings, settings["epochs"],
        settings["final_learning_rate"])
  first = test.accuracy(model)
  model = cut(model, data, held_out, settings)
  train(model, data, settings, settings["tune_epochs"], 0.0)
  print(json.dumps({
      "original": first, "accuracy": test.accuracy(model),
      "madds": madds(model, data.images[:1]) / before,
      "versions": {name: importlib.metadata.version(name)
                   for name in (package, "torch")}}))


if __name__ == "__main__":
  main(*sys.argv[1:])
