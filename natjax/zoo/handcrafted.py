"""Hand-crafted networks, as networks of blocks.

Every builder returns the network as its paper describes it, for the images that
the paper's Tables 1 and 2 (Guo et al., 2021) speak of: `skeleton` is "cifar"
(32 pixels), "imagenet" (224) or "face" (112). Nodes are padded with null
edges, to two inputs, when a network is transformed (`blocks.pad`). Parameters
and multiply-adds are those of `natjax cost NAME --skeleton SKELETON`. The
networks that ProxylessNAS found (`zoo.proxyless`) are looked up here too.
"""

from collections.abc import Callable
import functools

from natjax import errors
from natjax.graph import blocks as blocks_lib
from natjax.graph.records import Block, BlockNetwork, Edge, Frame, Layer, Node
from natjax.zoo import inverted, proxyless

FRAMES = {"cifar": Frame(10, 32), "imagenet": Frame(1000, 224),
          "face": Frame(0, 112)}


def vgg_block(width: int, convs: int) -> Block:
  """3x3 convolutions, each with a ReLU, then pooling."""
  nodes = [Node(width, activation="relu")] * convs + [Node(width, 2)]
  edges = [Edge("conv_3x3", n, n + 1) for n in range(1, convs + 1)]
  edges.append(Edge("max_pool_2x2", convs + 1, convs + 2))
  return Block(tuple(nodes), tuple(edges))


def vgg16(skeleton: str) -> BlockNetwork:
  """VGG16 (Simonyan & Zisserman, 2015, configuration D).

  Convolutions have biases and no BN, as published; on CIFAR two linear layers
  of 512. Parameters: 15.2 M (CIFAR) and 138 M (ImageNet), as the table has
  them. Multiply-adds: 313.7 M on CIFAR, of which convolutions 313.2 M (313 in
  the table); 15470 M on ImageNet, where the table's 15620 M holds 1 % more than
  convolutions and linear layers, and the paper does not say what.
  """
  blocks = [vgg_block(width, convs) for width, convs in (
      (64, 2), (128, 2), (256, 3), (512, 3), (512, 3))]
  wide = 512 if skeleton == "cifar" else 4096
  hidden = (Layer("linear", wide, norm=False, activation="relu"),
            Layer("dropout", rate=0.5))
  head = (Layer("flatten"), *hidden, *hidden, Layer("linear", norm=False))
  return BlockNetwork("vgg16", (), tuple(blocks), head, norm="bias")


def vgg16_bn(skeleton: str) -> BlockNetwork:
  """VGG16 with BN in place of the biases, which trains from any start."""
  return vgg16(skeleton)._replace(name="vgg16-bn", norm="batch")


def basic(width: int, stride: int) -> Block:
  """A residual block of two 3x3 convolutions (He et al., 2016, figure 5)."""
  return Block(
      (Node(width, stride, "relu"),) * 2,
      (Edge("conv_3x3", 1, 2), Edge("conv_3x3", 2, 3),
       Edge("skip_connect", 1, 3)))


def bottleneck(width: int, stride: int, *, late: bool = False) -> Block:
  """A residual block of 1x1, 3x3, 1x1 (He et al., 2016, figure 5).

  Args:
    width: of the 3x3 convolution; four times that come out.
    stride: of the block.
    late: whether the 3x3 convolution strides, not the first one: as in the
      ResNets of torchvision and timm.
  """
  return Block(
      (Node(width, 1 if late else stride, "relu"), Node(width, stride, "relu"),
       Node(4 * width, stride, "relu")),
      (Edge("conv_1x1", 1, 2), Edge("conv_3x3", 2, 3), Edge("conv_1x1", 3, 4),
       Edge("skip_connect", 1, 4)))


def _resnet(name: str, skeleton: str, block: Callable[[int, int], Block],
            width: int, counts: tuple[int, ...]) -> BlockNetwork:
  """Stages of blocks; all but the first halve the image, double the width."""
  stem: tuple[Layer, ...] = (Layer("conv", width, 3, activation="relu"),)
  if skeleton == "imagenet":
    stem = (Layer("conv", width, 7, 2, activation="relu"),
            Layer("max_pool", kernel=3, stride=2))
  blocks = [block(width * 2**i, 2 if i and not j else 1)
            for i, count in enumerate(counts) for j in range(count)]
  return BlockNetwork(name, stem, tuple(blocks))


def thin_resnet(depth: int, skeleton: str) -> BlockNetwork:
  """A ResNet for CIFAR (He et al., 2016, section 4.2), of 6n + 2 layers.

  Shortcuts that change shape are projections (the paper's option B; its CIFAR
  networks use option A, zero padding, which holds 2,752 parameters less).
  ResNet20 has 0.3 M parameters and 41 M multiply-adds, ResNet56 0.9 M
  parameters, as the table has them. ResNet56's multiply-adds are 125.7 M; with
  two more for every number that BN normalises they would be the table's 127 M.
  He et al. print 0.46 M parameters for ResNet32, 0.66 M for ResNet44 and 1.7 M
  for ResNet110.
  """
  return _resnet(f"resnet{depth}", skeleton, basic, 16, (depth // 6,) * 3)


_WIDE = 16  # Channels of the first convolution of a WideResNet.


def wide(before: int, width: int, stride: int) -> Block:
  """A residual block of BN, ReLU, 3x3 convolution, twice.

  Its shortcut is a copy of what comes in, or where shapes differ a 1x1
  convolution of what BN and ReLU make of it.
  """
  nodes = (Node(before, activation="relu", norm=True, fixed=True),
           Node(width, stride, "relu", norm=True), Node(width, stride))
  shortcut = Edge("skip_connect", 1, 4) if before == width else Edge(
      "plain_conv_1x1", 2, 4)
  return Block(nodes, (
      Edge("skip_connect", 1, 2), Edge("plain_conv_3x3", 2, 3),
      Edge("plain_conv_3x3", 3, 4), shortcut))


def _wide_first(width: int) -> Block:
  """The first block of a WideResNet.

  Its first BN and ReLU are the stem's where the width changes, so that nothing
  else reads what the first convolution gives; where it does not, the
  convolution stands in the block.
  """
  if width != _WIDE:
    return Block(
        (Node(width, activation="relu", norm=True), Node(width)),
        (Edge("plain_conv_3x3", 1, 2), Edge("plain_conv_3x3", 2, 3),
         Edge("plain_conv_1x1", 1, 3)))
  block, behind = wide(width, width, 1), lambda edge: Edge(
      edge.operation, edge.source + 1, edge.target + 1)
  return Block((Node(width, fixed=True), *block.nodes), (
      Edge("plain_conv_3x3", 1, 2), *map(behind, block.edges)))


def wide_resnet(depth: int, factor: int, skeleton: str) -> BlockNetwork:
  """WRN-d-k, without dropout (Zagoruyko & Komodakis, 2016, table 1).

  Pre-activated blocks, (d - 4) / 6 of them in each of three stages of 16k, 32k
  and 64k channels; convolutions have neither biases nor a BN of their own.
  WRN-28-10 has 36.5 M parameters and WRN-16-4 2.7 M, WRN-40-1 0.6 M and
  WRN-40-2 2.2 M, as they print them.
  """
  del skeleton
  steps = [(_WIDE * factor * 2**i, 2 if i and not j else 1)
           for i in range(3) for j in range((depth - 4) // 6)]
  first, *others = steps
  stem = () if factor == 1 else (Layer("conv", _WIDE, 3, activation="relu"),)
  blocks = _wide_first(first[0]), *inverted.chain(wide, first[0], others)
  head = (Layer("norm", activation="relu"), *blocks_lib.CLASSIFIER)
  return BlockNetwork(f"wrn-{depth}-{factor}", stem, blocks, head)


# By depth: which block, and how many there are in each stage.
_RESNETS: dict[int, tuple[Callable[..., Block], tuple[int, ...]]] = {
    18: (basic, (2, 2, 2, 2)), 34: (basic, (3, 4, 6, 3)),
    50: (bottleneck, (3, 4, 6, 3)), 101: (bottleneck, (3, 4, 23, 3)),
    152: (bottleneck, (3, 8, 36, 3))}


def resnet(depth: int, skeleton: str) -> BlockNetwork:
  """A ResNet for ImageNet (He et al., 2016, table 1).

  On CIFAR the stem is 3x3 and not pooled, and bottlenecks have their stride in
  the first 1x1 convolution, as published; on ImageNet in the 3x3, as in the
  networks whose weights people have (torchvision, timm). On ImageNet:
  - ResNet18 has 11.7 M parameters, as the table has them, and 1814 M
    multiply-adds (He et al.: 1.8 billion), where the table prints 1580 M for
    reasons unknown.
  - ResNet34 has 21.8 M parameters and 3664 M multiply-adds (He et al.: 3.6
    billion).
  - ResNet50 has 25.6 M parameters, as the table has them, and 4089 M
    multiply-adds; with the stride as published they are 3858 M (He et al.: 3.8
    billion), where the table prints 3530 M for reasons unknown.
  - ResNet101 has 44.5 M parameters and 7801 M multiply-adds.
  - ResNet152 has 60.2 M parameters and 11514 M multiply-adds.
  """
  block, counts = _RESNETS[depth]
  if block is bottleneck:
    block = functools.partial(bottleneck, late=skeleton == "imagenet")
  return _resnet(f"resnet{depth}", skeleton, block, 64, counts)


def _shuffle_unit(before: int, width: int, stride: int, joins: bool) -> Block:
  """A unit of 8 groups; `joins` is whether it adds its input to its output."""
  # Not grouped where the stem comes before.
  first = "conv_1x1" if before % 64 else "group8_conv_1x1"
  nodes = (Node(width // 4, activation="relu", shuffle=8),
           Node(width // 4, stride),
           Node(width if joins else width - before, stride, "relu"))
  edges = (Edge(first, 1, 2), Edge("depthwise_conv_3x3", 2, 3),
           Edge("group8_conv_1x1", 3, 4))
  if joins:
    return Block(nodes, (*edges, Edge("skip_connect", 1, 4)))
  return Block((*nodes, Node(before, stride, "relu")),
               (*edges, Edge("avg_pool_3x3", 1, 5)), (5, 4))


def shufflenet(skeleton: str) -> BlockNetwork:
  """ShuffleNet V1, 1.0x, 8 groups (Zhang et al., 2018, table 1).

  On CIFAR neither the stem nor the first stage strides: the table's
  multiply-adds there, 161 M, are four times what they would be otherwise.
  Parameters: 0.9 M (CIFAR), 2.4 M (ImageNet), multiply-adds: 161.7 M, 138 M, as
  the table has them (it cuts 161.7 off).
  """
  first = Layer("conv", 24, 3, activation="relu")
  stem: tuple[Layer, ...] = (first,)
  if skeleton == "imagenet":
    stem = (first._replace(stride=2), Layer("max_pool", kernel=3, stride=2))
  steps = []
  for width, count in ((384, 4), (768, 8), (1536, 4)):
    stride = 1 if skeleton == "cifar" and width == 384 else 2
    steps += [(width, stride, False)] + [(width, 1, True)] * (count - 1)
  return BlockNetwork(
      "shufflenet", stem, inverted.chain(_shuffle_unit, 24, steps))


def mobilenetv2(skeleton: str) -> BlockNetwork:
  """MobileNetV2 (Sandler et al., 2018, table 2).

  On CIFAR the stem and the stage of 24 channels do not stride, and blocks of
  stride 1 that change the width have a projection as shortcut, without which
  the parameters would be 2.2 M and not the table's 2.3 M. Multiply-adds there:
  90.1 M (the table prints 91 M). On ImageNet 300.8 M, and 3.50 M parameters,
  which the table, as Sandler et al., prints as 3.4 M.
  """
  slow = skeleton == "cifar"
  stages = ((1, 16, 1, 1), (6, 24, 2, 1 if slow else 2), (6, 32, 3, 2),
            (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
  head = (Layer("conv", 1280, activation="relu6"), Layer("global_pool"),
          Layer("dropout", rate=0.2), Layer("linear", norm=False))
  stem = (Layer("conv", 32, 3, 1 if slow else 2, activation="relu6"),)
  blocks = inverted.repeated(32, stages, project=slow)
  return BlockNetwork("mobilenetv2", stem, blocks, head)


def lresnet34e_ir(skeleton: str) -> BlockNetwork:
  """LResNet34E-IR (Deng et al., 2019, ArcFace): a face network of 112 pixels.

  Blocks are BN, convolution, BN, PReLU, strided convolution, BN; the embedding
  of 512 comes from BN, dropout, a linear layer and BN. 34.1 M parameters and
  4460 M multiply-adds; the table prints 31.8 M and 7104 M, and no published
  definition that was found gives those.
  """
  del skeleton

  def block(before, width, stride):
    return Block(
        (Node(before, norm=True, fixed=True), Node(width, activation="prelu"),
         Node(width, stride)),
        (Edge("skip_connect", 1, 2), Edge("conv_3x3", 2, 3),
         Edge("conv_3x3", 3, 4), Edge("skip_connect", 1, 4)))

  steps = [(width, 1 if j else 2)
           for width, count in ((64, 3), (128, 4), (256, 6), (512, 3))
           for j in range(count)]
  head = (Layer("norm"), Layer("dropout", rate=0.4), Layer("flatten"),
          Layer("linear", 512), Layer("linear", norm=False))
  stem = (Layer("conv", 64, 3, activation="prelu"),)
  return BlockNetwork(
      "lresnet34e-ir", stem, inverted.chain(block, 64, steps), head)


def mobilefacenet(skeleton: str) -> BlockNetwork:
  """MobileFaceNet (Chen et al., 2018, table 1): 112 pixels, embedding of 128.

  1.0 M parameters, as the table has them. 221.0 M multiply-adds; the table's
  441 M (Chen et al.: 439.8 M) are twice that, each multiply-add counted as two.
  """
  del skeleton
  stages = ((2, 64, 5, 2), (4, 128, 1, 2), (2, 128, 6, 1), (4, 128, 1, 2),
            (2, 128, 2, 1))
  stem = (Layer("conv", 64, 3, 2, activation="prelu"),
          Layer("depthwise_conv", 0, 3, activation="prelu"))
  head = (Layer("conv", 512, activation="prelu"), Layer("global_depthwise"),
          Layer("conv", 128), Layer("linear", norm=False))
  blocks = inverted.repeated(64, stages, activation="prelu")
  return BlockNetwork("mobilefacenet", stem, blocks, head)


_BOTH = ("cifar", "imagenet")
_WIDE_RESNETS = ((16, 1), (16, 2), (16, 4), (16, 8), (28, 2), (28, 10),
                 (34, 10), (40, 1), (40, 2), (40, 4))
BUILDERS: dict[str, tuple[Callable[[str], BlockNetwork], tuple[str, ...]]] = {
    "vgg16": (vgg16, _BOTH), "vgg16-bn": (vgg16_bn, _BOTH),
    **{f"resnet{depth}": (functools.partial(thin_resnet, depth), ("cifar",))
       for depth in (20, 32, 44, 56, 110)},
    **{f"resnet{depth}": (functools.partial(resnet, depth), _BOTH)
       for depth in _RESNETS},
    **{f"wrn-{depth}-{factor}": (
        functools.partial(wide_resnet, depth, factor), ("cifar",))
       for depth, factor in _WIDE_RESNETS},
    "shufflenet": (shufflenet, _BOTH), "mobilenetv2": (mobilenetv2, _BOTH),
    **{name: (functools.partial(proxyless.network, name), _BOTH)
       for name in proxyless.NETWORKS},
    "lresnet34e-ir": (lresnet34e_ir, ("face",)),
    "mobilefacenet": (mobilefacenet, ("face",)),
}


def skeletons(name: str) -> tuple[str, ...]:
  """The skeletons that a network has, its usual one first."""
  return BUILDERS[name][1]


def build(name: str, skeleton: str | None = None) -> BlockNetwork:
  """Builds a network.

  Args:
    name: of `BUILDERS`.
    skeleton: "cifar", "imagenet" or "face"; None is its usual one.

  Raises:
    InputError: the network has no such skeleton.
  """
  builder, allowed = BUILDERS[name]
  skeleton = allowed[0] if skeleton is None else skeleton
  if skeleton not in allowed:
    raise errors.InputError(
        f"{name} has no skeleton '{skeleton}'; choose {' or '.join(allowed)}")
  return blocks_lib.check(builder(skeleton))
