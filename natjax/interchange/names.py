"""What other libraries call the parameters of networks that natjax builds.

ResNets, VGGs and MobileNetV2 are told by their graphs, whatever their widths
and depths are, and null edges do not matter: torchvision's names, timm's where
they differ, and those of the common ResNets and VGGs for CIFAR. BN's epsilon,
1e-5, and paddings are the same there.

A kernel is [O, I, h, w] there, and [h, w, I, O] here; that of a linear layer
[O, I] and [I, O], where images that it flattens are [C, H, W] there and
[H, W, C] here. torchvision's VGG with BN has a bias before the BN as well,
which its mean takes up here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import itertools
from typing import NamedTuple

import numpy as np

from natjax import errors, operations
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.networks import network as network_lib
from natjax.zoo import handcrafted, inverted

Path = tuple[str, ...]
EPSILON = 1e-5  # Of PyTorch's BN.


class Leaf(NamedTuple):
  """A tensor of another library.

  Attributes:
    path: where it stands here, "params" or "batch_stats" first.
    shape: there.
    kind: "conv" or "linear", a kernel; "vector", which is the same here; or
      "shift", a bias that is subtracted from the vector at `path`.
    flattened: channels of the image that a linear layer flattens; 0 is none.
    classifies: whether it is the classifier's.
    optional: whether a file may lack it.
  """

  path: Path
  shape: tuple[int, ...]
  kind: str = "vector"
  flattened: int = 0
  classifies: bool = False
  optional: bool = False

  def fits(self, shape: tuple[int, ...]) -> bool:
    """Whether a tensor is of that shape; a linear layer may be a convolution.
    """
    if self.kind == "linear" and len(shape) == 4:
      shape = (shape[0], shape[1] * shape[2] * shape[3])
    return shape == self.shape

  @property
  def here(self) -> tuple[int, ...]:
    """The shape of what `read` gives."""
    if self.kind == "conv":
      return *self.shape[2:], *self.shape[1::-1]
    return self.shape[::-1] if self.kind == "linear" else self.shape

  def read(self, tensor: np.ndarray) -> np.ndarray:
    """What stands here of a tensor that fits; a view where one can be."""
    if self.kind == "conv":
      tensor = tensor.transpose(2, 3, 1, 0)
    elif self.kind == "linear":
      tensor = tensor.reshape(self._image(tensor.shape[0])).transpose(
          2, 3, 1, 0).reshape(self.shape[::-1])
    return tensor.astype(np.float32, copy=False)

  def write(self, leaf: np.ndarray) -> np.ndarray:
    """The inverse of `read`."""
    if self.kind == "conv":
      leaf = leaf.transpose(3, 2, 0, 1)
    elif self.kind == "linear":
      out, channels, side, _ = self._image(self.shape[0])
      leaf = leaf.reshape(side, side, channels, out).transpose(
          3, 2, 0, 1).reshape(self.shape)
    return np.array(leaf, np.float32, order="C")

  def _image(self, out):
    """[O, C, h, w] of a linear layer."""
    channels = self.flattened or self.shape[1]
    side = round((self.shape[1] // channels)**0.5)
    return out, channels, side, side


Names = dict[str, Leaf]


def norm(there: str, path: Path,
         width: int) -> Iterator[tuple[str, Leaf]]:
  """The tensors of a BN by their names there.

  Args:
    there: its name there.
    path: of what it is called here, without "params" or "batch_stats".
    width: channels.
  """
  for name, kind, here in (
      ("weight", "params", "scale"), ("bias", "params", "bias"),
      ("running_mean", "batch_stats", "mean"),
      ("running_var", "batch_stats", "var")):
    yield f"{there}.{name}", Leaf((kind, *path, "bn", here), (width,))


class Unit(NamedTuple):
  """A convolution or a linear layer, and what follows it, here.

  Attributes:
    path: of the module.
    kernel: what its kernel's module is called.
    shape: of the kernel, there.
    norm: "batch", "bias", or "" of a linear layer, which has its own.
    bias: path of the bias in the module, where `norm` is not "batch".
    flattened: as `Leaf`.
  """

  path: Path
  kernel: str
  shape: tuple[int, ...]
  norm: str
  bias: Path = ()
  flattened: int = 0

  def leaves(self, own: str, called: str = "", *, shifted: bool = False,
             classifies: bool = False) -> Iterator[tuple[str, Leaf]]:
    """Its tensors by their names there.

    Args:
      own: name of the convolution or linear layer there.
      called: name of the BN there.
      shifted: whether the convolution has a bias although BN follows.
      classifies: as `Leaf`.
    """
    kind = "linear" if len(self.shape) == 2 else "conv"
    params, vector = ("params", *self.path), self.shape[:1]
    yield f"{own}.weight", Leaf((*params, self.kernel, "kernel"), self.shape,
                                kind, self.flattened, classifies)
    if self.norm != "batch":
      yield f"{own}.bias", Leaf((*params, *self.bias), vector,
                                classifies=classifies)
      return
    yield from norm(called, (*self.path, "norm"), *vector)
    if shifted:
      mean = ("batch_stats", *self.path, "norm", "bn", "mean")
      yield f"{own}.bias", Leaf(mean, vector, "shift", optional=True)


class _Parts(NamedTuple):
  """The units of a network whose blocks are chains with a shortcut or none."""

  stem: list[Unit]
  chains: list[list[Unit]]
  shortcuts: list[Unit | None]
  head: list[Unit]


def _parts(network, frame):
  called, norm = network_lib.names(network), network.norm
  chains, shortcuts = [], []
  for i, (block, shapes) in enumerate(zip(
      network.blocks, shapes_lib.of(network, frame), strict=True)):
    chain, shortcut = [], None
    for e, edge in enumerate(block.edges):
      operation, ends = operations.get(edge.operation), shapes.ends(edge)
      path = (f"{called.block}{i}", network_lib.edge_name(e, operation.name))
      size = max(operation.kernel_size, 1)
      depthwise = operation.type == "depthwise_conv"
      unit = Unit(path, "depthwise" if depthwise else "conv", (
          ends.channels, 1 if depthwise else ends.in_channels, size, size),
          norm, ("norm", "bias"))
      if operation.type in ("conv", "depthwise_conv"):
        chain.append(unit)
      elif operation.name == operations.SKIP and not ends.alike:
        shortcut = unit
    chains.append(chain)
    shortcuts.append(shortcut)
  output = shapes_lib.of(network, frame)[-1].output
  return _Parts(
      list(units(network.stem, called.stem, shapes_lib.stem_shapes(
          network, frame), frame)), chains, shortcuts,
      list(units(network.head, called.head, shapes_lib.layer_shapes(
          network.head, output, frame.num_classes), frame)))


def units(layers: Sequence[records.Layer], called: Sequence[str],
          shapes: Sequence[shapes_lib.Shape],
          frame: records.Place) -> Iterator[Unit]:
  """The units of a stem or a head.

  Args:
    layers: of it.
    called: their names.
    shapes: of their inputs.
    frame: for the number of classes.
  """
  flattened = 0
  for layer, name, before in zip(layers, called, shapes, strict=False):
    norm = "batch" if layer.norm else ""
    if layer.kind == "flatten":
      flattened = before.width
    elif layer.kind == "conv":
      yield Unit((name,), "conv", (layer.width, before.width, *(
          layer.kernel,) * 2), norm, ("bias", "bias"))
    elif layer.kind == "linear":
      yield Unit((name,), "linear", (
          layer.width or frame.num_classes, before.width), norm,
          ("linear", "bias"), flattened)
      flattened = 0


def _graphs(network):
  """The blocks without null edges and without widths."""
  return [block._replace(edges=tuple(
      edge for edge in block.edges if edge.operation != operations.NULL)
  ).topology for block in network.blocks]


def _kinds(layers):
  return tuple(layer.kind for layer in layers)


def _resnet(network: records.BlockNetwork,
            frame: records.Frame) -> list[Names]:
  """ResNets: of basic blocks, or of bottlenecks that stride in the middle.

  torchvision's and timm's names, and those of CIFAR's ResNets, which have
  `shortcut` for `downsample` and `linear` for `fc`.
  """
  graphs = _graphs(network)
  if _kinds(network.stem) not in (("conv",), ("conv", "max_pool")) or _kinds(
      network.head) != ("global_pool", "linear"):
    return []
  forms = [handcrafted.basic(8, s).topology for s in (1, 2)] + [
      handcrafted.bottleneck(8, s, late=True).topology for s in (1, 2)]
  early = handcrafted.bottleneck(8, 2).topology
  if not {*graphs} <= {*forms, early}:
    return []
  if early in graphs:
    raise errors.InputError(
        f"the bottlenecks of {network.name} stride in their first convolution,"
        " and those of torchvision, timm and their like in the 3x3, so that the"
        " same weights give other logits; give `--skeleton imagenet`, or a file"
        " of the architecture in which they do", "weights")
  parts, found = _parts(network, frame), []
  for shortcut, classifier in itertools.product(
      ("downsample", "shortcut"), ("fc", "linear")):
    names, stage, index, width = [], 0, 0, None
    names += parts.stem[0].leaves("conv1", "bn1")
    for block, chain, side in zip(
        network.blocks, parts.chains, parts.shortcuts, strict=True):
      index += 1
      if block.nodes[-1].width != width or block.nodes[-1].stride > 1:
        stage, index, width = stage + 1, 0, block.nodes[-1].width
      called = f"layer{stage}.{index}"
      for k, unit in enumerate(chain, 1):
        names += unit.leaves(f"{called}.conv{k}", f"{called}.bn{k}")
      if side:
        names += side.leaves(
            f"{called}.{shortcut}.0", f"{called}.{shortcut}.1")
    names += parts.head[0].leaves(classifier, classifies=True)
    found.append(dict(names))
  return found


def _vgg(network: records.BlockNetwork, frame: records.Frame) -> list[Names]:
  """VGGs: `features` are numbered with what holds nothing, ReLU and pooling.

  In torchvision's classifier dropout follows a linear layer, in those for CIFAR
  it comes before; timm has convolutions in its place.
  """
  if network.stem or _kinds(network.head) != (
      "flatten", *("linear", "dropout") * 2, "linear"):
    return []
  if _graphs(network) != [
      handcrafted.vgg_block(8, len(block.nodes) - 1).topology
      for block in network.blocks]:
    return []
  # Of a side of 1, elsewhere nothing is left.
  odd = [side for block, shapes in zip(
      network.blocks, shapes_lib.of(network, frame), strict=True)
         for edge in block.edges if edge.operation == "max_pool_2x2" and (
             side := shapes.nodes[edge.source].size) % 2 and side > 1]
  if odd:
    raise errors.InputError(
        f"images of {frame.image_size} pixels a side are {odd[0]} before a"
        " pooling, which rounds up here and down in torchvision, timm and their"
        " like, so that the same weights give other logits; give an image-size"
        f" that {2**len(network.blocks)} divides", "weights")
  parts, batch = _parts(network, frame), network.norm == "batch"
  features: list[tuple[str, Leaf]] = []
  number = 0
  for chain in parts.chains:
    for unit in chain:
      features += unit.leaves(f"features.{number}", f"features.{number + 1}",
                              shifted=batch)
      number += 3 if batch else 2
    number += 1
  found = []
  for called in (("classifier.0", "classifier.3", "classifier.6"),
                 ("classifier.1", "classifier.4", "classifier.6"),
                 ("pre_logits.fc1", "pre_logits.fc2", "head.fc")):
    names = [*features]
    for unit, name in zip(parts.head, called, strict=True):
      names += unit.leaves(name, classifies=unit is parts.head[-1])
    found.append(dict(names))
  return found


def _mobilenet(network: records.BlockNetwork,
               frame: records.Frame) -> list[Names]:
  """MobileNetV2, in torchvision's names and in timm's."""
  if _kinds(network.stem) != ("conv",) or _kinds(network.head) != (
      "conv", "global_pool", "dropout", "linear"):
    return []
  forms = {inverted.block(before, 16, stride, expansion).topology
           for before in (8, 16) for stride in (1, 2) for expansion in (1, 6)}
  if not {*_graphs(network)} <= forms:
    return []
  parts = _parts(network, frame)
  if any(parts.shortcuts):
    return []
  first, second = [], []
  first += parts.stem[0].leaves("features.0.0", "features.0.1")
  second += parts.stem[0].leaves("conv_stem", "bn1")
  stage, index, width = -1, 0, None
  for i, (block, chain) in enumerate(zip(
      network.blocks, parts.chains, strict=True), 1):
    index += 1
    if block.nodes[-1].width != width:
      stage, index, width = stage + 1, 0, block.nodes[-1].width
    theirs = ("conv_pw", "conv_dw", "conv_pwl") if len(chain) == 3 else (
        "conv_dw", "conv_pw")
    for k, (unit, name) in enumerate(zip(chain, theirs, strict=True)):
      last = k + 1 == len(chain)
      there = f"features.{i}.conv.{k}"
      first += unit.leaves(there, f"features.{i}.conv.{k + 1}") if last else (
          unit.leaves(f"{there}.0", f"{there}.1"))
      there = f"blocks.{stage}.{index}"
      second += unit.leaves(f"{there}.{name}", f"{there}.bn{k + 1}")
  number = f"features.{len(network.blocks) + 1}"
  first += parts.head[0].leaves(f"{number}.0", f"{number}.1")
  first += parts.head[1].leaves("classifier.1", classifies=True)
  second += parts.head[0].leaves("conv_head", "bn2")
  second += parts.head[1].leaves("classifier", classifies=True)
  return [dict(first), dict(second)]


_FAMILIES: tuple[Callable[[records.BlockNetwork, records.Frame],
                          list[Names]], ...] = (_resnet, _vgg, _mobilenet)


def spellings(network: records.BlockNetwork,
              frame: records.Frame) -> list[Names]:
  """How a network's tensors are called elsewhere, torchvision's way first.

  Args:
    network: as it is written out.
    frame: number of classes and size of the images.

  Returns:
    One mapping of names per spelling; none where no library is known to have
    this network.

  Raises:
    InputError: others give a network of these shapes other logits.

  Example:
    >>> from natjax import zoo
    >>> names = spellings(zoo.get("resnet18"), records.Frame())[0]
    >>> names["layer1.0.conv2.weight"].path
    ('params', 'block0', 'edge1_conv_3x3', 'conv', 'kernel')
  """
  if network.norm_epsilon != EPSILON:
    return []
  return next((found for make in _FAMILIES if (
      found := make(network, frame))), [])


def closest(found: list[Names], held: Mapping[str, np.ndarray]) -> Names:
  """Of several spellings, the one that shares most names with a file."""
  return max(found, key=lambda names: len(names.keys() & held.keys()))
