"""The networks that ProxylessNAS found, as networks of blocks.

Cai et al., 2019, "ProxylessNAS: Direct Neural Architecture Search on Target
Task and Hardware" (ICLR), searched one network each for a GPU, a CPU and a
mobile phone. Every inverted residual block (MBConv; Sandler et al., 2018) has
its own kernel (3, 5 or 7) and its own expansion (3 or 6): a chain of unlike
blocks. Widths, kernels and expansions are those that the authors published.

Around them stand a 3x3 convolution, a block without expansion (kernel 3), and
behind them a 1x1 convolution, the mean over the image and a linear layer with
bias. Activations are ReLU6; a block has a shortcut where it keeps its shape.
BN has the original's epsilon, 1e-3 (`blocks.BlockNetwork.norm_epsilon`).

What differs: weights start as all of this library's networks do, from PyTorch's
default, where the original draws them with the variance of He et al., 2015, by
fan-out. "imagenet" is the published network. "cifar" is a choice made here,
since the paper's own CIFAR-10 networks are of another space (trees of paths):
the same blocks, but the stem and the first stage do not stride, as in the
zoo's MobileNetV2 (`handcrafted.mobilenetv2`), so that a 32-pixel image ends at
4 pixels and not at 1.

Parameters and multiply-adds, as `natjax cost` computes them (the authors' own
network for CPUs has exactly these on ImageNet):

                    imagenet                  cifar
  proxyless-gpu     7,119,848  465,260,160    5,408,138  138,693,504
  proxyless-cpu     4,361,648  439,243,864    2,942,978  124,983,664
  proxyless-mobile  4,080,512  320,427,584    2,812,322   96,753,152
"""

from typing import NamedTuple

from natjax.graph.records import BlockNetwork, Layer
from natjax.zoo import inverted


class Spec(NamedTuple):
  """What tells one of the networks from another.

  Attributes:
    stem: channels of the first convolution.
    first: channels of the block without expansion.
    widths: channels of the six stages.
    stages: per stage, (kernel, expansion) of its blocks.
    last: channels of the 1x1 convolution behind the stages.
  """

  stem: int
  first: int
  widths: tuple[int, ...]
  stages: tuple[tuple[tuple[int, int], ...], ...]
  last: int


NETWORKS = {
    "proxyless-gpu": Spec(
        40, 24, (32, 56, 112, 128, 256, 432),
        (((5, 3),), ((7, 3), (3, 3)), ((7, 6), (5, 3)),
         ((5, 6), (3, 3), (5, 3)), ((7, 6), (7, 6), (7, 6), (5, 6)),
         ((7, 6),)), 1728),
    "proxyless-cpu": Spec(
        40, 24, (32, 48, 88, 104, 216, 360),
        (((3, 6), (3, 3), (3, 3), (3, 3)), ((3, 6), (3, 3), (3, 3), (5, 3)),
         ((3, 6), (3, 3)), ((5, 6), (3, 3), (3, 3), (3, 3)),
         ((5, 6), (5, 3), (5, 3), (3, 3)), ((5, 6),)), 1432),
    "proxyless-mobile": Spec(
        32, 16, (32, 40, 80, 96, 192, 320),
        (((5, 3), (3, 3)), ((7, 3), (3, 3), (5, 3), (5, 3)),
         ((7, 6), (5, 3), (5, 3), (5, 3)), ((5, 6), (5, 3), (5, 3), (5, 3)),
         ((7, 6), (7, 6), (7, 3), (7, 3)), ((7, 6),)), 1280),
}


def network(name: str, skeleton: str) -> BlockNetwork:
  """Builds a network of `NETWORKS`.

  Args:
    name: "proxyless-gpu", "proxyless-cpu" or "proxyless-mobile".
    skeleton: "cifar" or "imagenet"; see the module.
  """
  spec, first = NETWORKS[name], 1 if skeleton == "cifar" else 2
  strides = (first, 2, 2, 1, 2, 1)  # Of the first block of every stage.
  stages = zip(spec.widths, strides, spec.stages, strict=True)
  steps = [(width, 1 if j else stride, expansion, kernel)
           for width, stride, stage in stages
           for j, (kernel, expansion) in enumerate(stage)]
  return BlockNetwork(
      name, (Layer("conv", spec.stem, 3, first, activation="relu6"),),
      inverted.chain(inverted.block, spec.stem, [(spec.first, 1, 1), *steps]),
      head=(Layer("conv", spec.last, activation="relu6"),
            Layer("global_pool"), Layer("linear", norm=False)),
      norm_epsilon=1e-3)
