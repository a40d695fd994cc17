"""The NAT supernet in plain PyTorch: the independent side of the benchmark.

Written from the published definition alone (Guo et al., 2021, sections 3 and
5.1, and the facts of the released code), and shares no code with natjax. All
candidate modules stand in `ModuleList`s; a forward pass runs the chosen ones
eagerly. Images are [B, C, H, W]. BN has no affine parameters (but for the
stem) and normalises by the batch.

A cell is a sequence of (operation, source, target) in order of `target`, the
operation an index into `OPERATIONS`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
import torch.nn.functional as F

OPERATIONS = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
    "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "conv_3x3", "null",
)
NODES = 4

Cell = Sequence[tuple[int, int, int]]


def batch_norm(channels: int) -> nn.Module:
  """BN by the batch, without affine parameters and running statistics."""
  return nn.BatchNorm2d(channels, affine=False, track_running_stats=False)


def conv(
    c_in: int, c_out: int, k: int, *, stride: int = 1, dilation: int = 1,
    groups: int = 1
) -> nn.Conv2d:
  """A bias-free convolution that keeps the size at stride 1."""
  return nn.Conv2d(c_in, c_out, k, stride, (k - 1) * dilation // 2, dilation,
                   groups, bias=False)


class ReluConvNorm(nn.Module):
  """ReLU, convolution k x k, BN."""

  def __init__(self, c_in: int, c_out: int, k: int, stride: int):
    super().__init__()
    self.conv = conv(c_in, c_out, k, stride=stride)
    self.norm = batch_norm(c_out)

  def forward(self, x):
    return self.norm(self.conv(F.relu(x)))


class SeparableConv(nn.Module):
  """`repeats` times ReLU, depthwise, pointwise, BN; the stride comes first."""

  def __init__(self, channels: int, k: int, stride: int, *, dilation: int = 1,
               repeats: int = 1):
    super().__init__()
    self.repeats = repeats
    for i in range(repeats):
      self.add_module(f"depthwise{i}", conv(
          channels, channels, k, stride=stride if i == 0 else 1,
          dilation=dilation, groups=channels))
      self.add_module(f"pointwise{i}", conv(channels, channels, 1))
      self.add_module(f"norm{i}", batch_norm(channels))

  def forward(self, x):
    for i in range(self.repeats):
      x = getattr(self, f"depthwise{i}")(F.relu(x))
      x = getattr(self, f"norm{i}")(getattr(self, f"pointwise{i}")(x))
    return x


class FactorizedReduce(nn.Module):
  """ReLU, two 1x1 convolutions of stride 2, one shifted by a pixel, BN."""

  def __init__(self, c_in: int, c_out: int):
    super().__init__()
    self.conv0 = conv(c_in, c_out // 2, 1, stride=2)
    self.conv1 = conv(c_in, c_out // 2, 1, stride=2)
    self.norm = batch_norm(c_out)

  def forward(self, x):
    x = F.relu(x)
    odd_h, odd_w = x.shape[2] % 2, x.shape[3] % 2
    if odd_h or odd_w:
      x = F.pad(x, (odd_w, 0, odd_h, 0))
    halves = [self.conv0(x), self.conv1(x[:, :, 1:, 1:])]
    return self.norm(torch.cat(halves, dim=1))


class Pool(nn.Module):
  """3x3 pooling, then BN (supernet only); padding is not averaged over."""

  def __init__(self, kind: str, channels: int, stride: int):
    super().__init__()
    self.pool = (
        nn.MaxPool2d(3, stride, 1) if kind == "max"
        else nn.AvgPool2d(3, stride, 1, count_include_pad=False))
    self.norm = batch_norm(channels)

  def forward(self, x):
    return self.norm(self.pool(x))


class Null(nn.Module):
  """Zeros."""

  def __init__(self, stride: int):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return torch.zeros_like(x[:, :, ::self.stride, ::self.stride])


def operation(name: str, channels: int, stride: int) -> nn.Module:
  """The module of one candidate operation."""
  if name == "null":
    return Null(stride)
  if name == "skip_connect":
    return nn.Identity() if stride == 1 else FactorizedReduce(
        channels, channels)
  kind, k = name.split("_")[0], int(name[-1])
  if kind in ("max", "avg"):
    return Pool(kind, channels, stride)
  if kind == "sep":
    return SeparableConv(channels, k, stride, repeats=2)
  if kind == "dil":
    return SeparableConv(channels, k, stride, dilation=2)
  return ReluConvNorm(channels, channels, k, stride)


class SupernetCell(nn.Module):
  """One cell with every candidate on every edge slot."""

  def __init__(self, c_prev_prev: int, c_prev: int, channels: int, *,
               reduction: bool, reduction_prev: bool):
    super().__init__()
    self.node0 = (
        FactorizedReduce(c_prev_prev, channels) if reduction_prev
        else ReluConvNorm(c_prev_prev, channels, 1, 1))
    self.node1 = ReluConvNorm(c_prev, channels, 1, 1)
    self.slots = [(f, t) for t in range(2, 2 + NODES) for f in range(t)]
    self.edges = nn.ModuleList(
        nn.ModuleList(operation(name, channels, 2 if reduction and f < 2 else 1)
                      for name in OPERATIONS)
        for f, _ in self.slots
    )

  def forward(self, prev_prev, prev, cell: Cell):
    nodes = [self.node0(prev_prev), self.node1(prev)]
    for target in range(2, 2 + NODES):
      nodes.append(sum(
          self.edges[self.slots.index((f, t))][op](nodes[f])
          for op, f, t in cell if t == target
      ))
    return torch.cat(nodes[2:], dim=1)


class Supernet(nn.Module):
  """The fully concatenated NAT supernet of 9 operations and 4 nodes."""

  def __init__(self, init_channels: int, cells: int, num_classes: int = 10):
    super().__init__()
    stem = 3 * init_channels
    self.stem_conv = conv(3, stem, 3)
    self.stem_norm = nn.BatchNorm2d(stem, track_running_stats=False)
    self.reductions = (cells // 3, 2 * cells // 3)
    self.cells = nn.ModuleList()
    c_prev_prev = c_prev = stem
    channels, reduction_prev = init_channels, False
    for i in range(cells):
      reduction = i in self.reductions
      channels *= 2 if reduction else 1
      self.cells.append(SupernetCell(
          c_prev_prev, c_prev, channels, reduction=reduction,
          reduction_prev=reduction_prev))
      c_prev_prev, c_prev = c_prev, NODES * channels
      reduction_prev = reduction
    self.linear = nn.Linear(c_prev, num_classes)

  def forward(self, images, normal: Cell, reduce: Cell):
    prev_prev = prev = self.stem_norm(self.stem_conv(images))
    for i, cell in enumerate(self.cells):
      edges = reduce if i in self.reductions else normal
      prev_prev, prev = prev, cell(prev_prev, prev, edges)
    return self.linear(prev.float().mean((2, 3)))


def load(model: Supernet, params: Mapping[str, Any]) -> None:
  """Copies natjax's supernet weights into `model`.

  Args:
    model: of the same size.
    params: `natjax.networks.supernet.Supernet.init`'s as NumPy arrays: per run
      of equal cells, `preprocess` a list over cells, and on the
      edges leading axes [cell of the run, slot]. Kernels are [h, w, in, out].

  Raises:
    ValueError: a parameter of `model` is left without a value.
  """
  values = {
      "stem_conv.weight": _kernel(params["stem"]["layer0"]["conv"]["kernel"]),
      "stem_norm.weight": params["stem"]["layer0"]["norm"]["scale"],
      "stem_norm.bias": params["stem"]["layer0"]["norm"]["bias"],
      "linear.weight": params["head"]["layer1"]["linear"]["kernel"].T,
      "linear.bias": params["head"]["layer1"]["linear"]["bias"],
  }
  places = ((p, j) for p in params["blocks"]
            for j in range(len(p["preprocess"])))
  for i, (p, j) in enumerate(places):
    for node, convs in p["preprocess"][j].items():
      for name, leaf in convs.items():
        values[f"cells.{i}.{node}.{name}.weight"] = _kernel(leaf["kernel"])
    for key, pairs in _slots(p).items():
      for op, convs in p[key].items():
        for name, leaf in convs.items():
          for row, slot in enumerate(pairs):
            path = f"edges.{slot}.{OPERATIONS.index(op)}.{name}.weight"
            values[f"cells.{i}.{path}"] = _kernel(leaf["kernel"][j, row])
  missing = sorted(set(dict(model.named_parameters())) ^ set(values))
  if missing:
    raise ValueError(f"parameters on one side only: {missing[:5]}")
  with torch.no_grad():
    for name, parameter in model.named_parameters():
      parameter.copy_(torch.tensor(values[name]))


def _kernel(kernel):
  """[h, w, in, out] -> [out, in, h, w]."""
  return kernel.transpose(3, 2, 0, 1)


def _slots(params):
  """The slots in which each stack of edges of a cell stands, in order."""
  sources = [f for t in range(2, 2 + NODES) for f in range(t)]
  inputs = [i for i, f in enumerate(sources) if f < 2]
  nodes = [i for i, f in enumerate(sources) if f >= 2]
  if "edges1" not in params:
    return {"edges0": range(len(sources))}
  return {"edges0": inputs, "edges1": nodes}
