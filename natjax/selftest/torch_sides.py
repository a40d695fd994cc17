"""The networks that are timed, in plain PyTorch: sides to compare with.

Written from the published definitions alone, and of torch alone: it imports
nothing of natjax. Images are [B, C, H, W]. They are

  the supernet of NAT (Guo et al., 2021, sections 3 and 5.1, and the facts of
    the released code): all candidates stand in `ModuleList`s, and a forward
    pass runs the chosen ones;
  that of DARTS (Liu et al., 2019, sections 2 and 3, and the released code):
    all operations of every edge run, weighted by a softmax of alpha;
  the network of DARTS's cells, and ResNet20 on CIFAR (He et al., 2016, section
    4.2, with convolutions where shapes change).

BN of supernets has no affine parameters (but for the stem) and normalises by
the batch; that of networks has both, and running statistics.

A cell is a sequence of (operation, source, target) in order of `target`, the
operation an index into `OPERATIONS`.
"""

from collections.abc import Callable, Sequence
import itertools
from typing import Any
import warnings

import torch
from torch import nn
import torch.nn.functional as F

OPERATIONS = (
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
    "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5", "conv_3x3", "null",
)
DARTS_OPERATIONS = (
    "none", "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
    "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
NODES = 4
EDGES = sum(range(2, 2 + NODES))

Cell = Sequence[tuple[int, int, int]]
Norm = Callable[[int], nn.Module]


# Operations.


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

  def __init__(self, c_in: int, c_out: int, k: int, stride: int,
               norm: Norm = batch_norm):
    super().__init__()
    self.conv = conv(c_in, c_out, k, stride=stride)
    self.norm = norm(c_out)

  def forward(self, x):
    return self.norm(self.conv(F.relu(x)))


class SeparableConv(nn.Module):
  """`repeats` times ReLU, depthwise, pointwise, BN; the stride comes first."""

  def __init__(self, channels: int, k: int, stride: int, *, dilation: int = 1,
               repeats: int = 1, norm: Norm = batch_norm):
    super().__init__()
    self.repeats = repeats
    for i in range(repeats):
      self.add_module(f"depthwise{i}", conv(
          channels, channels, k, stride=stride if i == 0 else 1,
          dilation=dilation, groups=channels))
      self.add_module(f"pointwise{i}", conv(channels, channels, 1))
      self.add_module(f"norm{i}", norm(channels))

  def forward(self, x):
    for i in range(self.repeats):
      x = getattr(self, f"depthwise{i}")(F.relu(x))
      x = getattr(self, f"norm{i}")(getattr(self, f"pointwise{i}")(x))
    return x


class FactorizedReduce(nn.Module):
  """ReLU, two 1x1 convolutions of stride 2, one shifted by a pixel, BN."""

  def __init__(self, c_in: int, c_out: int, norm: Norm = batch_norm):
    super().__init__()
    self.conv0 = conv(c_in, c_out // 2, 1, stride=2)
    self.conv1 = conv(c_in, c_out // 2, 1, stride=2)
    self.norm = norm(c_out)

  def forward(self, x):
    x = F.relu(x)
    odd_h, odd_w = x.shape[2] % 2, x.shape[3] % 2
    if odd_h or odd_w:
      x = F.pad(x, (odd_w, 0, odd_h, 0))
    halves = [self.conv0(x), self.conv1(x[:, :, 1:, 1:])]
    return self.norm(torch.cat(halves, dim=1))


class Pool(nn.Module):
  """3x3 pooling, then what follows; padding is not averaged over."""

  def __init__(self, kind: str, stride: int, norm: nn.Module):
    super().__init__()
    self.pool = (
        nn.MaxPool2d(3, stride, 1) if kind == "max"
        else nn.AvgPool2d(3, stride, 1, count_include_pad=False))
    self.norm = norm

  def forward(self, x):
    return self.norm(self.pool(x))


class Null(nn.Module):
  """Zeros."""

  def __init__(self, stride: int):
    super().__init__()
    self.stride = stride

  def forward(self, x):
    return torch.zeros_like(x[:, :, ::self.stride, ::self.stride])


class Zero(Null):
  """Zeros, as DARTS has them: of the image."""

  def forward(self, x):
    return x[:, :, ::self.stride, ::self.stride] * 0.0


def operation(name: str, channels: int, stride: int,
              norm: Norm = batch_norm) -> nn.Module:
  """The module of one operation; pools have a BN in supernets alone."""
  if name == "null":
    return Null(stride)
  if name == "none":
    return Zero(stride)
  if name == "skip_connect":
    return nn.Identity() if stride == 1 else FactorizedReduce(
        channels, channels, norm)
  kind, k = name.split("_")[0], int(name[-1])
  if kind in ("max", "avg"):
    return Pool(kind, stride, norm(channels) if norm is batch_norm
                else nn.Identity())
  if kind == "sep":
    return SeparableConv(channels, k, stride, repeats=2, norm=norm)
  if kind == "dil":
    return SeparableConv(channels, k, stride, dilation=2, norm=norm)
  return ReluConvNorm(channels, channels, k, stride, norm)


# Cells.


class _Cell(nn.Module):
  """What all cells begin with: both inputs in `channels`."""

  def __init__(self, c_prev_prev: int, c_prev: int, channels: int, *,
               reduction: bool, reduction_prev: bool, norm: Norm = batch_norm):
    super().__init__()
    self.reduction = reduction
    self.node0 = (
        FactorizedReduce(c_prev_prev, channels, norm) if reduction_prev
        else ReluConvNorm(c_prev_prev, channels, 1, 1, norm))
    self.node1 = ReluConvNorm(c_prev, channels, 1, 1, norm)

  def stride(self, source: int) -> int:
    """Of an edge from a node."""
    return 2 if self.reduction and source < 2 else 1


class SupernetCell(_Cell):
  """One cell with every candidate on every edge slot."""

  def __init__(self, c_prev_prev: int, c_prev: int, channels: int, **kind: Any):
    super().__init__(c_prev_prev, c_prev, channels, **kind)
    self.slots = [(f, t) for t in range(2, 2 + NODES) for f in range(t)]
    self.edges = nn.ModuleList(
        nn.ModuleList(operation(name, channels, self.stride(f))
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


class MixedOperation(nn.Module):
  """All operations of DARTS on an edge, weighted."""

  def __init__(self, channels: int, stride: int):
    super().__init__()
    self.operations = nn.ModuleList(
        operation(name, channels, stride) for name in DARTS_OPERATIONS)

  def forward(self, x, weights):
    return sum(w * run(x)
               for w, run in zip(weights, self.operations, strict=True))


class SearchCell(_Cell):
  """A cell with an edge from every earlier node to every node."""

  def __init__(self, c_prev_prev: int, c_prev: int, channels: int, **kind: Any):
    super().__init__(c_prev_prev, c_prev, channels, **kind)
    self.edges = nn.ModuleList(
        MixedOperation(channels, self.stride(source))
        for target in range(2, 2 + NODES) for source in range(target))

  def forward(self, prev_prev, prev, weights):
    nodes = [self.node0(prev_prev), self.node1(prev)]
    first = 0
    for _ in range(NODES):
      nodes.append(sum(self.edges[first + i](x, weights[first + i])
                       for i, x in enumerate(nodes)))
      first += len(nodes) - 1
    return torch.cat(nodes[2:], dim=1)


class FixedCell(_Cell):
  """A cell of one architecture, with the BN of networks."""

  def __init__(self, c_prev_prev: int, c_prev: int, channels: int, *,
               cell: Cell, **kind: Any):
    super().__init__(c_prev_prev, c_prev, channels, norm=nn.BatchNorm2d, **kind)
    self.cell = cell
    self.edges = nn.ModuleList(
        operation(OPERATIONS[op], channels, self.stride(f), nn.BatchNorm2d)
        for op, f, _ in cell)

  def forward(self, prev_prev, prev, _):
    nodes = [self.node0(prev_prev), self.node1(prev)]
    for target in range(2, 2 + NODES):
      nodes.append(sum(
          edge(nodes[f]) for edge, (_, f, t) in zip(
              self.edges, self.cell, strict=True) if t == target))
    return torch.cat(nodes[2:], dim=1)


# Networks.


class Cells(nn.Module):
  """A network of cells; two are reduction cells.

  `make(reduction, ...)` makes a cell. Of what the forward pass is given beside
  images, normal cells get the first, reduction cells the second.
  """

  def __init__(self, make: Callable[..., nn.Module], init_channels: int,
               cells: int, num_classes: int = 10, *, affine: bool = False):
    super().__init__()
    stem = 3 * init_channels
    self.stem_conv = conv(3, stem, 3)
    self.stem_norm = nn.BatchNorm2d(stem, track_running_stats=affine)
    self.reductions = (cells // 3, 2 * cells // 3)
    self.cells = nn.ModuleList()
    c_prev_prev = c_prev = stem
    channels, reduction_prev = init_channels, False
    for i in range(cells):
      reduction = i in self.reductions
      channels *= 2 if reduction else 1
      self.cells.append(make(
          c_prev_prev, c_prev, channels, reduction=reduction,
          reduction_prev=reduction_prev))
      c_prev_prev, c_prev = c_prev, NODES * channels
      reduction_prev = reduction
    self.linear = nn.Linear(c_prev, num_classes)

  def forward(self, images, normal=None, reduce=None):
    prev_prev = prev = self.stem_norm(self.stem_conv(images))
    for i, cell in enumerate(self.cells):
      own = reduce if i in self.reductions else normal
      prev_prev, prev = prev, cell(prev_prev, prev, own)
    return self.linear(prev.float().mean((2, 3)))


class Supernet(Cells):
  """The fully concatenated NAT supernet of 9 operations and 4 nodes."""

  def __init__(self, init_channels: int, cells: int, num_classes: int = 10):
    super().__init__(SupernetCell, init_channels, cells, num_classes)


class SearchNetwork(Cells):
  """The network of DARTS's search; alpha is an argument, [E, O] of each."""

  def __init__(self, init_channels: int, cells: int, num_classes: int = 10):
    super().__init__(SearchCell, init_channels, cells, num_classes)

  def forward(self, images, normal=None, reduce=None):
    return super().forward(
        images, *(F.softmax(alpha, dim=-1) for alpha in (normal, reduce)))


class Network(Cells):
  """The network of two cells."""

  def __init__(self, init_channels: int, cells: int, normal: Cell,
               reduce: Cell, num_classes: int = 10):
    super().__init__(
        lambda *widths, reduction, **kind: FixedCell(
            *widths, reduction=reduction, cell=reduce if reduction else normal,
            **kind),
        init_channels, cells, num_classes, affine=True)


class ResidualBlock(nn.Module):
  """Two convolutions 3x3 with BN beside an identity."""

  def __init__(self, c_in: int, c_out: int, stride: int):
    super().__init__()
    self.conv0, self.norm0 = conv(
        c_in, c_out, 3, stride=stride), nn.BatchNorm2d(c_out)
    self.conv1, self.norm1 = conv(c_out, c_out, 3), nn.BatchNorm2d(c_out)
    self.beside = nn.Sequential() if c_in == c_out else nn.Sequential(
        conv(c_in, c_out, 1, stride=stride), nn.BatchNorm2d(c_out))

  def forward(self, x):
    y = F.relu(self.norm0(self.conv0(x)))
    return F.relu(self.norm1(self.conv1(y)) + self.beside(x))


class ResNet20(nn.Module):
  """Three times three residual blocks of 16, 32 and 64 channels."""

  def __init__(self, num_classes: int = 10):
    super().__init__()
    widths = [16] * 4 + [32] * 3 + [64] * 3
    self.layers = nn.Sequential(
        conv(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(),
        *(ResidualBlock(a, b, 1 if a == b else 2)
          for a, b in itertools.pairwise(widths)))
    self.linear = nn.Linear(64, num_classes)

  def forward(self, images):
    return self.linear(self.layers(images).float().mean((2, 3)))


def count(model: nn.Module) -> int:
  """How many parameters there are."""
  return sum(p.numel() for p in model.parameters())


# Training.


def configure() -> None:
  """Lets float32 products round as JAX's do, and cuDNN choose its algorithms.
  """
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Newer names, which older ones lack.
    torch.backends.cuda.matmul.allow_tf32 = True
    torch.backends.cudnn.allow_tf32 = True
  torch.backends.cudnn.benchmark = True


class Training:
  """Plain training on a batch of noise: SGD with momentum.

  Attributes:
    model: the network.
    arguments: what its forward pass takes beside images, one after another.
  """

  def __init__(self, model: nn.Module, batch_size: int, image_size: int, *,
               device: str, bfloat16: bool = False,
               arguments: Sequence[tuple[Any, ...]] = ((),),
               max_grad_norm: float = 5.0,
               run: Callable[..., torch.Tensor] | None = None):
    """Args:
      model: the network, wherever it is.
      batch_size: of images.
      image_size: their side.
      device: "cuda" or "cpu".
      bfloat16: whether to compute in that, with channels last.
      arguments: see above.
      max_grad_norm: clips the gradient; 0 does not.
      run: the forward pass; None is the model's.
    """
    self.device, self.arguments = torch.device(device), list(arguments)
    self._next = 0
    self._settings: dict[str, Any] = {
        "device": device, "bfloat16": bfloat16, "max_grad_norm": max_grad_norm}
    layout = torch.channels_last if bfloat16 else torch.contiguous_format
    self.model = model.to(self.device, memory_format=layout)
    self._run = self.model if run is None else run
    self.images = torch.randn(
        batch_size, 3, image_size, image_size, device=self.device).contiguous(
            memory_format=layout)
    self.labels = torch.randint(10, (batch_size,), device=self.device)
    self.optimizer = torch.optim.SGD(
        self.model.parameters(), 0.025, 0.9, weight_decay=3e-4)

  def loss(self) -> torch.Tensor:
    """The cross-entropy of the batch."""
    found = self.arguments[self._next % len(self.arguments)]
    self._next += 1
    with torch.autocast(self.device.type, torch.bfloat16,
                        enabled=self._settings["bfloat16"]):
      logits = self._run(self.images, *found)
    return F.cross_entropy(logits.float(), self.labels)

  def step(self) -> torch.Tensor:
    """A step of the weights."""
    self.optimizer.zero_grad()
    loss = self.loss()
    loss.backward()
    if norm := self._settings["max_grad_norm"]:
      nn.utils.clip_grad_norm_(self.model.parameters(), norm)
    self.optimizer.step()
    return loss

  def warm_up(self) -> None:
    """Takes steps until nothing is new."""
    self.run(max(2, len(self.arguments)))

  def run(self, steps: int) -> None:
    """Takes steps and waits for them.

    Raises:
      ArithmeticError: the last loss is not finite.
    """
    for _ in range(steps):
      loss = self.step()
    if self.device.type == "cuda":
      torch.cuda.synchronize(self.device)
    if not torch.isfinite(loss).item():
      raise ArithmeticError("PyTorch's loss is not finite")

  def compiled(self) -> "Training":
    """The same, of the same weights, under `torch.compile`.

    Its forward pass is compiled for the first of the arguments alone.
    """
    run = torch.compile(_Fixed(self.model, self.arguments[0]), dynamic=False)
    batch_size, _, image_size, _ = self.images.shape
    return Training(self.model, batch_size, image_size, run=run,
                    **self._settings)


class _Fixed(nn.Module):
  """A model with one of its arguments: constants to `torch.compile`."""

  def __init__(self, model, argument):
    super().__init__()
    self.model, self.argument = model, argument

  def forward(self, images):
    return self.model(images, *self.argument)


class Search(Training):
  """First-order DARTS: a step of alpha on a batch, one of w on another."""

  def __init__(self, model: SearchNetwork, batch_size: int, image_size: int, *,
               device: str):
    self.alphas = [
        (1e-3 * torch.randn(EDGES, len(DARTS_OPERATIONS), device=device)
         ).requires_grad_() for _ in range(2)]
    super().__init__(model, batch_size, image_size, device=device,
                     arguments=[tuple(self.alphas)])
    self.alpha_optimizer = torch.optim.Adam(
        self.alphas, 3e-4, betas=(0.5, 0.999), weight_decay=1e-3)

  def step(self) -> torch.Tensor:
    """A step of alpha and one of the weights.

    Each calls `backward` of the whole loss, which leaves gradients of both, as
    it is usually written.
    """
    self.alpha_optimizer.zero_grad()
    self.loss().backward()
    self.alpha_optimizer.step()
    return super().step()
