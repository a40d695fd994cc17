"""SPOS on ProxylessNAS's space in plain PyTorch: the side of `spos.py`.

Written from the published definitions alone: the space of Cai et al., 2019
(section 3: 21 layers in six stages, kernels 3, 5, 7 and expansions 3, 6 of
inverted residual blocks, all but the first of a stage may be left out), and the
training of Guo et al., 2020 (SPOS; section 3.3 and the released code): every
step draws one path, runs it alone, and steps the weights that have a gradient.
BN of the choices has no affine parameters and, as that of stem and head,
normalises by the batch. Strides that small images have no room for are left
out, first of the stem, then of the stages, until 4 pixels a side are left.

A script, too, which `spos.py` starts, perhaps with another interpreter: it
answers lines by iterations (`workers.serve`) and needs torch alone.
"""

import argparse
import functools
import json
import math
import random

import torch
from torch import nn
import torch.nn.functional as F
import workers

WIDTHS = (24, 40, 80, 96, 192, 320)
STRIDES = (2, 2, 2, 1, 2, 1)
DEPTHS = (4, 4, 4, 4, 4, 1)
CHOICES = tuple((e, k) for e in (3, 6) for k in (3, 5, 7))
LEAST = 4  # Pixels a side at the end.


def norm(channels: int, *, affine: bool = False) -> nn.BatchNorm2d:
  """BN by the batch."""
  return nn.BatchNorm2d(channels, eps=1e-3, affine=affine,
                        track_running_stats=False)


class Block(nn.Module):
  """An inverted residual block; without expansion its first part is left out.
  """

  def __init__(self, before: int, width: int, stride: int, expansion: int,
               kernel: int):
    super().__init__()
    inside = before * expansion
    parts: list[nn.Module] = []
    if expansion > 1:
      parts += [nn.Conv2d(before, inside, 1, bias=False), norm(inside),
                nn.ReLU6(inplace=True)]
    parts += [
        nn.Conv2d(inside, inside, kernel, stride, kernel // 2, groups=inside,
                  bias=False), norm(inside), nn.ReLU6(inplace=True),
        nn.Conv2d(inside, width, 1, bias=False), norm(width)]
    self.run = nn.Sequential(*parts)
    self.adds = stride == 1 and before == width

  def forward(self, x):
    return x + self.run(x) if self.adds else self.run(x)


class Supernet(nn.Module):
  """All choices of all layers; a forward pass runs a path of them."""

  def __init__(self, image_size: int, layers: int = 4, num_classes: int = 10):
    """Args:
      image_size: side of the images.
      layers: the most of a stage.
      num_classes: of the data.
    """
    super().__init__()
    strides = [2, *STRIDES]
    for i, stride in enumerate(strides):
      if image_size < LEAST * math.prod(strides):
        strides[i] = 1 if stride > 1 else stride
    self.stem = nn.Sequential(
        nn.Conv2d(3, 32, 3, strides[0], 1, bias=False), norm(32, affine=True),
        nn.ReLU6(inplace=True))
    self.first = Block(32, 16, 1, 1, 3)
    self.layers, before = nn.ModuleList(), 16
    for width, stride, depth in zip(WIDTHS, strides[1:], DEPTHS, strict=True):
      for i in range(min(depth, layers)):
        self.layers.append(nn.ModuleList([
            Block(before, width, 1 if i else stride, e, k) for e, k in CHOICES
        ] + [nn.Identity()] * (i > 0)))
        before = width
    self.head = nn.Sequential(
        nn.Conv2d(before, 1280, 1, bias=False), norm(1280, affine=True),
        nn.ReLU6(inplace=True))
    self.linear = nn.Linear(1280, num_classes)

  def path(self, draw: random.Random) -> list[int]:
    """Draws a choice of every layer, all equally likely."""
    return [draw.randrange(len(layer)) for layer in self.layers]

  def forward(self, images, path):
    x = self.first(self.stem(images))
    for layer, choice in zip(self.layers, path, strict=True):
      x = layer[choice](x)
    return self.linear(self.head(x).mean((2, 3)))


class Training:
  """Steps of single paths on a batch of noise, by SGD with momentum.

  Attributes:
    model: the supernet.
  """

  def __init__(self, batch_size: int, image_size: int, layers: int, seed: int):
    self.model = Supernet(image_size, layers)
    self._draw = random.Random(seed)
    self._images = torch.randn(batch_size, 3, image_size, image_size)
    self._labels = torch.randint(10, (batch_size,))
    kernels = [p for p in self.model.parameters() if p.ndim > 1]
    vectors = [p for p in self.model.parameters() if p.ndim == 1]
    self._optimizer = torch.optim.SGD(
        [{"params": kernels, "weight_decay": 3e-4},
         {"params": vectors, "weight_decay": 0.0}], 0.025, 0.9)

  def step(self) -> None:
    """A step on a path that is drawn; what is not on it has no gradient."""
    self._optimizer.zero_grad()
    logits = self.model(self._images, self.model.path(self._draw))
    F.cross_entropy(logits, self._labels).backward()
    nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
    self._optimizer.step()


def check(file: str) -> list[list[float]]:
  """The logits of a file's weights, path and images."""
  import numpy as np  # Whoever writes such a file has it.
  with np.load(file) as stored:
    given = {name: torch.from_numpy(stored[name]) for name in stored.files}
  images, path = given.pop("images"), given.pop("path").tolist()
  model = Supernet(images.shape[-1], layers=2)
  model.load_state_dict(given)
  with torch.no_grad():
    return model(images, path).tolist()


def start(args: argparse.Namespace):
  """Builds the supernet of the flags and takes a step; see `workers`."""
  imported = workers.resident_mb()
  torch.set_num_threads(args.threads)
  torch.manual_seed(args.seed)
  training = Training(
      args.batch_size, args.image_size, args.chain_layers, args.seed)
  training.step()
  return {"parameters": sum(p.numel() for p in training.model.parameters()),
          "torch": torch.__version__, "threads": torch.get_num_threads(),
          "imported_mb": imported}, training.step


def main() -> None:
  """Answers as `spos.py` asks."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  for name in ("chain-layers", "batch-size", "image-size", "threads", "seed"):
    parser.add_argument(f"--{name}", type=int)
  parser.add_argument("--check", metavar="FILE",
                      help="prints the logits of its weights, and ends")
  args = parser.parse_args()
  if args.check is not None:
    print(json.dumps(check(args.check)))
  else:
    workers.serve(functools.partial(start, args))


if __name__ == "__main__":
  main()
