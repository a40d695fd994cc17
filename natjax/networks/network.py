"""The network of one architecture, as it is trained and applied.

Facts: Guo et al., 2021, section 5.1, after Liu et al., 2019 (DARTS): 20 cells
of 36 channels on CIFAR, 14 of 48 on ImageNet, an auxiliary head after layer
2L // 3, scheduled drop path on every edge but identities. A cell's output
concatenates only the nodes that its `concat` lists.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import errors
from natjax import operations
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import layers as layers_lib
from natjax.networks import mixture


class CellModule(nn.Module):
  """One cell.

  Attributes:
    cell: the graph.
    layer: where it stands.
    norm: returns the BN to use.
    train: whether drop path is on.
    identities: numbers of the edges with an identity beside the operation,
      where theta is given.
  """

  cell: architecture_lib.Cell
  layer: skeleton_lib.Layer
  norm: layers_lib.NormFactory
  train: bool
  identities: frozenset[int] = frozenset()

  @nn.compact
  def __call__(
      self,
      prev_prev: jax.Array,
      prev: jax.Array,
      drop_path: jax.Array,
      theta: jax.Array | None = None,
  ) -> jax.Array:
    inputs = layers_lib.preprocess(
        self.layer, self.norm, names=("preprocess0", "preprocess1"))
    size = self.layer.out_size
    zeros = jnp.zeros((prev.shape[0], size, size, self.layer.channels),
                      prev.dtype)
    nodes = [inputs[0](prev_prev), inputs[1](prev)]
    nodes += [zeros] * self.cell.num_nodes
    for i, edge in enumerate(self.cell.edges):
      operation = operations.get(edge.operation)
      x, stride = nodes[edge.source], self.cell.stride(
          edge, self.layer.reduction)
      y = None
      if operation.name != operations.NULL:
        y = self._run(i, operation, stride, x)
      free = operation.identity and stride == 1
      if theta is not None:
        identity = None
        if i in self.identities:
          skip = operations.get(operations.SKIP)
          identity = self._run(i, skip, stride, x)
          free |= y is None and stride == 1
        y = mixture.mix(theta[i], y, identity,
                        alike=operation.name == operations.SKIP)
      if y is None:
        continue
      if self.train and not free:
        y = self._drop_path(y, drop_path)
      nodes[edge.target] += y
    return jnp.concatenate([nodes[i] for i in self.cell.concat], axis=-1)

  def _run(self, i, operation, stride, x):
    module = operation.module(
        features=self.layer.channels, stride=stride, norm=self.norm)
    if isinstance(module, nn.Module):
      module = module.clone(name=f"edge{i}_{operation.name}", parent=self)
    return module(x)

  def _drop_path(self, x, rate):
    """Zeroes whole images of an edge with probability `rate`, rescaled."""
    keep = 1.0 - rate
    mask = jax.random.bernoulli(
        self.make_rng("drop_path"), keep, (x.shape[0], 1, 1, 1))
    return x * (mask / keep).astype(x.dtype)


class Network(nn.Module):
  """The network of a genotype in a skeleton.

  Attributes:
    genotype: the cells.
    skeleton: what stands around them.
    auxiliary: whether to build the auxiliary head.
    axis_name: device axis over which BN joins the batch; None keeps the
      statistics per device.
    identities: per layer, the edges with an identity beside the operation, for
      a network that theta weighs (`mixture`).

  `__call__` maps images [B, H, W, 3] to (logits f32[B, K], auxiliary logits
  f32[B, K] or None); without a classifier (no classes), to (features f32[B, F],
  None), F being `networks.build.num_features`. Its dtype is that of the images;
  parameters and statistics are float32. `train` and `drop_path` (a rate in
  [0, 1), drawn from the rng stream "drop_path") matter in training only.
  `theta`, per layer f32[E, 3], weighs the edges; None is the network as it is.
  """

  genotype: architecture_lib.Genotype
  skeleton: skeleton_lib.Skeleton
  auxiliary: bool = False
  axis_name: str | None = None
  identities: mixture.Identities | None = None

  @nn.compact
  def __call__(
      self,
      images: jax.Array,
      *,
      train: bool = False,
      drop_path: jax.Array | float = 0.0,
      theta: Sequence[jax.Array] | None = None,
  ) -> tuple[jax.Array, jax.Array | None]:
    def norm(name: str | None = None):
      return layers_lib.RunningBatchNorm(train, self.axis_name, name=name)

    if self.auxiliary:
      check_auxiliary(self.skeleton)
    widths = [len(cell.concat) for cell in self.genotype]
    outputs = layers_lib.Stem(self.skeleton, norm, name="stem")(images)
    auxiliary = None
    for i, layer in enumerate(skeleton_lib.layers(self.skeleton, widths)):
      cell = self.genotype[int(layer.reduction)]
      identities = self.identities[i] if self.identities else frozenset()
      out = CellModule(cell, layer, norm, train, identities, name=f"cell{i}")(
          *outputs, drop_path, None if theta is None else theta[i])
      outputs = (outputs[1], out)
      if self.auxiliary and i == self.skeleton.auxiliary_layer and (
          train or self.is_initializing()):
        auxiliary = layers_lib.AuxiliaryHead(
            self.skeleton, norm, name="auxiliary")(out)
    features = jnp.mean(outputs[1], axis=(1, 2), dtype=jnp.float32)
    logits = layers_lib.Classifier(self.skeleton.num_classes, name="head")(
        features)
    return logits, auxiliary


def check_auxiliary(skeleton: skeleton_lib.Skeleton) -> None:
  """Refuses a skeleton that the auxiliary head does not suit (InputError).

  It classifies, so there must be classes. Its 5x5 pooling and 2x2 convolution
  need 8 pixels (CIFAR) or 7 (ImageNet) after the second reduction.
  """
  if not skeleton.num_classes:
    raise errors.InputError(
        "num-classes is 0 and the auxiliary head is a classifier; give the"
        " number of classes or --no-auxiliary")
  places = skeleton_lib.layers(skeleton, (1, 1))
  size = places[skeleton.auxiliary_layer].out_size
  stride = 3 if skeleton.kind == "cifar" else 2
  if (size - 5) // stride + 1 < 2:
    raise errors.InputError(
        f"image-size {skeleton.image_size} leaves {size} pixels at the"
        f" auxiliary head, which needs {5 + stride}; give larger images or"
        " --no-auxiliary"
    )


def init(network: Network, rng: jax.Array) -> Any:
  """Draws the variables ("params" and "batch_stats") of a network."""
  size = network.skeleton.image_size
  theta = None
  if network.identities is not None:
    theta = [mixture.initial(len(network.genotype[int(layer.reduction)].edges))
             for layer in skeleton_lib.layers(network.skeleton, (1, 1))]

  def draw(rng):
    images = jnp.zeros((2, size, size, 3))
    return network.init({"params": rng}, images, train=False, theta=theta)

  return jax.jit(draw)(rng)


def parameter_count(variables: Any) -> int:
  """Number of trainable parameters, the auxiliary head left out."""
  params = {k: v for k, v in variables["params"].items() if k != "auxiliary"}
  return sum(leaf.size for leaf in jax.tree.leaves(params))
