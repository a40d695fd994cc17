"""Plain networks in PyTorch: the side of `plain.py`.

ResNet20 and the network of DARTS's cells are those of
`natjax/selftest/torch_sides.py`; VGG16 with BN (Simonyan & Zisserman, 2015,
table 1, D) and MobileNetV2 (Sandler et al., 2018, table 2), both for small
images, stand here, written from the published definitions alone.

A script, too, which `plain.py` starts, perhaps with another interpreter: it
answers lines by steps (`workers.serve`) and needs torch alone.
"""

import argparse
import functools
import json

import torch
from torch import nn
import torch_darts
import workers

sides = torch_darts.sides
# VGG16's widths, "M" a max pooling that halves the image.
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M",
         512, 512, 512, "M")
# MobileNetV2's expansions, widths, numbers and strides; the first two stages do
# not stride where images are small.
STAGES = ((1, 16, 1, 1), (6, 24, 2, 1), (6, 32, 3, 2), (6, 64, 4, 2),
          (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def unit(before: int, width: int, kernel: int = 1, stride: int = 1, *,
         depthwise: bool = False, active: bool = True) -> list[nn.Module]:
  """A convolution, BN and ReLU6."""
  convolution = nn.Conv2d(before, width, kernel, stride, kernel // 2,
                          groups=before if depthwise else 1, bias=False)
  return [convolution, nn.BatchNorm2d(width)] + [nn.ReLU6()] * active


class Inverted(nn.Module):
  """An inverted residual block; shortcuts at stride 1 change the width by a
  projection.
  """

  def __init__(self, before: int, width: int, stride: int, expansion: int):
    super().__init__()
    inside = before * expansion
    self.run = nn.Sequential(
        *(unit(before, inside) if expansion > 1 else ()),
        *unit(inside, inside, 3, stride, depthwise=True),
        *unit(inside, width, active=False))
    self.beside = None
    if stride == 1:
      self.beside = nn.Sequential(
          *(unit(before, width, active=False) if before != width else ()))

  def forward(self, x):
    """[B, C, H, W] -> [B, C', H', W']."""
    return self.run(x) if self.beside is None else self.run(x) + self.beside(x)


def mobilenetv2() -> nn.Sequential:
  """MobileNetV2 for ten classes."""
  layers: list[nn.Module] = unit(3, 32, 3)
  before = 32
  for expansion, width, count, stride in STAGES:
    for i in range(count):
      layers.append(Inverted(before, width, 1 if i else stride, expansion))
      before = width
  return nn.Sequential(*layers, *unit(before, 1280), nn.AdaptiveAvgPool2d(1),
                       nn.Flatten(), nn.Dropout(0.2), nn.Linear(1280, 10))


def vgg16_bn() -> nn.Sequential:
  """VGG16 with BN for ten classes, with two linear layers of 512."""
  layers: list[nn.Module] = []
  before = 3
  for width in VGG16:
    if width == "M":
      layers.append(nn.MaxPool2d(2, ceil_mode=True))
    else:
      layers += [nn.Conv2d(before, width, 3, 1, 1, bias=False),
                 nn.BatchNorm2d(width), nn.ReLU()]
      before = width
  hidden = [part for _ in range(2) for part in (
      nn.Linear(512, 512), nn.ReLU(), nn.Dropout(0.5))]
  return nn.Sequential(*layers, nn.Flatten(), *hidden, nn.Linear(512, 10))


NETWORKS = {"resnet20": sides.ResNet20, "mobilenetv2": mobilenetv2,
            "vgg16-bn": vgg16_bn}


def start(args: argparse.Namespace):
  """Builds the network of the flags and takes a step; see `workers`."""
  imported = workers.resident_mb()
  torch.set_num_threads(args.threads)
  torch.manual_seed(args.seed)
  if args.network in NETWORKS:
    model = NETWORKS[args.network]()
  else:
    cells = [[(sides.OPERATIONS.index(name), source, target)
              for name, source, target in edges]
             for edges in json.loads(args.edges)]
    model = sides.Network(args.init_channels, args.cells, *cells)
  training = sides.Training(
      model, args.batch_size, args.image_size, device="cpu")
  training.run(1)
  return {"parameters": sides.count(model), "torch": torch.__version__,
          "threads": torch.get_num_threads(), "imported_mb": imported}, (
              functools.partial(training.run, 1))


def main() -> None:
  """Answers as `plain.py` asks."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  for name in ("batch-size", "image-size", "init-channels", "cells", "threads",
               "seed"):
    parser.add_argument(f"--{name}", type=int)
  parser.add_argument("--network")
  parser.add_argument("--edges", help="of two cells, if the network has cells")
  workers.serve(functools.partial(start, parser.parse_args()))


if __name__ == "__main__":
  main()
