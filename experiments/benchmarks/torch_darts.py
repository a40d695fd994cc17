"""First-order DARTS in plain PyTorch: the independent side of `search.py`.

Written from the published definition alone (Liu et al., 2019, sections 2 and
3, and the facts of the released code), as it is usually written: all eight
operations of every edge run eagerly, are weighted by a softmax and summed. The
modules are those of `torch_supernet.py`, whose BN has no affine parameters and
normalises by the batch; running statistics, which a search never reads, are
not kept.

An iteration is a step of alpha on a validation batch (Adam) and then a step of
the weights on a training batch (SGD). Each calls `backward` of the whole loss,
which leaves gradients of both, and steps one of them.

A script, too, which `search.py` starts, perhaps with another interpreter: it
answers lines by iterations (`workers.serve`) and needs torch alone.
"""

import argparse
import math

import torch
from torch import nn
import torch.nn.functional as F
import torch_supernet as modules
import workers

OPERATIONS = ("none", "max_pool_3x3", "avg_pool_3x3", "skip_connect",
              "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
NODES = modules.NODES
EDGES = sum(range(2, 2 + NODES))
PUBLISHED_PARAMETERS = 1930618  # C=16, 8 cells, without alpha.


class Zero(nn.Module):
  """Nothing, at the operation's stride."""

  def __init__(self, stride: int):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return x[:, :, ::self.stride, ::self.stride] * 0.0


class MixedOperation(nn.Module):
  """All operations of an edge, weighted."""

  def __init__(self, channels: int, stride: int):
    super().__init__()
    self.operations = nn.ModuleList(
        Zero(stride) if name == "none"
        else modules.operation(name, channels, stride) for name in OPERATIONS)

  def forward(self, x, weights):
    return sum(w * operation(x) for w, operation in zip(
        weights, self.operations, strict=True))


class Cell(nn.Module):
  """A cell with an edge from every earlier node to every node."""

  def __init__(self, c_prev_prev: int, c_prev: int, channels: int, *,
               reduction: bool, reduction_prev: bool):
    super().__init__()
    self.node0 = (
        modules.FactorizedReduce(c_prev_prev, channels) if reduction_prev
        else modules.ReluConvNorm(c_prev_prev, channels, 1, 1))
    self.node1 = modules.ReluConvNorm(c_prev, channels, 1, 1)
    self.edges = nn.ModuleList(
        MixedOperation(channels, 2 if reduction and source < 2 else 1)
        for target in range(2, 2 + NODES) for source in range(target))

  def forward(self, prev_prev, prev, weights):
    nodes = [self.node0(prev_prev), self.node1(prev)]
    first = 0
    for _ in range(NODES):
      nodes.append(sum(self.edges[first + i](x, weights[first + i])
                       for i, x in enumerate(nodes)))
      first += len(nodes) - 1
    return torch.cat(nodes[2:], dim=1)


class Supernet(nn.Module):
  """The network of the search; alpha is an argument."""

  def __init__(self, init_channels: int, cells: int, num_classes: int = 10):
    super().__init__()
    stem = 3 * init_channels
    self.stem_conv = modules.conv(3, stem, 3)
    self.stem_norm = nn.BatchNorm2d(stem, track_running_stats=False)
    self.reductions = (cells // 3, 2 * cells // 3)
    self.cells = nn.ModuleList()
    c_prev_prev = c_prev = stem
    channels, reduction_prev = init_channels, False
    for i in range(cells):
      reduction = i in self.reductions
      channels *= 2 if reduction else 1
      self.cells.append(Cell(c_prev_prev, c_prev, channels, reduction=reduction,
                             reduction_prev=reduction_prev))
      c_prev_prev, c_prev = c_prev, NODES * channels
      reduction_prev = reduction
    self.linear = nn.Linear(c_prev, num_classes)

  def forward(self, images, normal, reduce):
    """Logits [B, classes] of images [B, 3, H, W]; of each kind, alpha [E, O].
    """
    prev_prev = prev = self.stem_norm(self.stem_conv(images))
    weights = [F.softmax(alpha, dim=-1) for alpha in (normal, reduce)]
    for i, cell in enumerate(self.cells):
      prev_prev, prev = prev, cell(prev_prev, prev,
                                   weights[i in self.reductions])
    return self.linear(prev.mean((2, 3)))


def count(model: nn.Module) -> int:
  """How many parameters there are."""
  return sum(p.numel() for p in model.parameters())


def check() -> int:
  """Checks and returns the number of parameters at the published size.

  Raises:
    AssertionError: it is another.
  """
  with torch.device("meta"):
    found = count(Supernet(16, 8))
  assert found == PUBLISHED_PARAMETERS, found
  return found


class Search:
  """The network, alpha, both optimizers and a batch of noise for each."""

  def __init__(self, init_channels: int, cells: int, batch_size: int,
               image_size: int):
    self.model = Supernet(init_channels, cells)
    self.alphas = [
        (1e-3 * torch.randn(EDGES, len(OPERATIONS))).requires_grad_()
        for _ in range(2)]
    self.optimizer = torch.optim.SGD(
        self.model.parameters(), 0.025, 0.9, weight_decay=3e-4)
    self.alpha_optimizer = torch.optim.Adam(
        self.alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)
    self.validation, self.train = (
        (torch.randn(batch_size, 3, image_size, image_size),
         torch.randint(10, (batch_size,))) for _ in range(2))

  def loss(self, images, labels):
    """The cross-entropy of a batch."""
    return F.cross_entropy(self.model(images, *self.alphas), labels)

  def iterate(self) -> float:
    """A step of alpha, then one of the weights; returns the latter's loss.

    Raises:
      AssertionError: it is not finite.
    """
    self.alpha_optimizer.zero_grad()
    self.loss(*self.validation).backward()
    self.alpha_optimizer.step()

    self.optimizer.zero_grad()
    loss = self.loss(*self.train)
    loss.backward()
    nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
    self.optimizer.step()
    value = loss.item()
    assert math.isfinite(value), value
    return value


def start():
  """Builds the search of the flags and runs an iteration; see `workers`."""
  parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
  for name in ("init-channels", "cells", "batch-size", "image-size", "threads",
               "seed"):
    parser.add_argument(f"--{name}", type=int, required=True)
  args = parser.parse_args()
  imported = workers.resident_mb()
  published = check()
  torch.set_num_threads(args.threads)
  torch.manual_seed(args.seed)
  search = Search(args.init_channels, args.cells, args.batch_size,
                  args.image_size)
  search.iterate()
  return {"parameters": count(search.model), "published": published,
          "torch": torch.__version__, "threads": torch.get_num_threads(),
          "imported_mb": imported}, search.iterate


if __name__ == "__main__":
  workers.serve(start)
