"""The network of unlike blocks (`graph.blocks`), as it is trained and applied.

Operations come to the shapes of their edges by `operations.edges`; a node sums
its edges, then BN (where it has one), activation, channel shuffle (Zhang et
al., 2018, ShuffleNet, section 3.1).
"""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import operations
from natjax.graph import blocks as blocks_lib
from natjax.networks import layers as layers_lib
from natjax.networks import mixture
from natjax.operations import edges as edges_lib
from natjax.operations import primitives


class Bias(nn.Module):
  """Adds a bias per channel: what stands for BN in networks without it."""

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    bias = self.param("bias", nn.initializers.zeros, x.shape[-1:])
    return x + bias.astype(x.dtype)


class Activation(nn.Module):
  """ReLU, ReLU6, or PReLU with a learned slope per channel (from 0.25)."""

  kind: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.kind == "prelu":
      slope = self.param("slope", nn.initializers.constant(0.25),
                         x.shape[-1:]).astype(x.dtype)
      return jnp.where(x > 0, x, slope * x)
    if self.kind == "relu6":
      return jnp.clip(x, 0, 6)
    return nn.relu(x) if self.kind == "relu" else x


def shuffle(x: jax.Array, groups: int) -> jax.Array:
  """Interleaves the channels of `groups` groups; [B, H, W, C]."""
  if not groups:
    return x
  shape = x.shape
  x = x.reshape(*shape[:3], groups, shape[3] // groups)
  return jnp.swapaxes(x, 3, 4).reshape(shape)


class FixedLayer(nn.Module):
  """A layer of the stem or the head.

  Attributes:
    layer: which.
    num_classes: features of the classifier, where it is that.
    norm: returns the BN to use.
    train: whether dropout is on, drawn from the rng stream "dropout".
  """

  layer: blocks_lib.Layer
  num_classes: int
  norm: layers_lib.NormFactory
  train: bool

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    layer = self.layer
    k, s = layer.kernel, layer.stride
    has_norm = layer.norm
    if layer.kind == "conv":
      x = operations.Conv(layer.width, (k, k), s, name="conv")(x)
    elif layer.kind == "depthwise_conv":
      x = operations.DepthwiseConv(k, s, name="conv")(x)
    elif layer.kind == "global_depthwise":
      kernel = self.param("kernel", operations.kernel_init,
                          (*x.shape[1:3], 1, x.shape[3]))
      x = jnp.einsum("bhwc,hwc->bc", x, kernel[:, :, 0].astype(x.dtype))
      x = x[:, None, None]
    elif layer.kind == "linear":
      x = nn.Dense(layer.width or self.num_classes, use_bias=not has_norm,
                   kernel_init=operations.kernel_init, name="linear")(
                       x.reshape(x.shape[0], -1).astype(jnp.float32))
      x = self._norm(x[:, None, None])[:, 0, 0] if has_norm else x
      return Activation(layer.activation, name="activation")(x)
    elif layer.kind == "norm":
      x = self.norm(name="norm")(x)
    else:
      has_norm, x = None, self._plain(layer, x)
    if has_norm is not None and layer.kind != "norm":
      x = self._norm(x) if has_norm else Bias(name="bias")(x)
    return Activation(layer.activation, name="activation")(x)

  def _norm(self, x):
    return self.norm(name="norm")(x)

  def _plain(self, layer, x):
    """Layers that hold nothing."""
    pad = (layer.kernel - 1) // 2
    if layer.kind == "max_pool":
      return primitives.max_pool(x, layer.kernel, stride=layer.stride,
                                 padding=pad)
    if layer.kind == "avg_pool":
      return primitives.avg_pool(x, layer.kernel, stride=layer.stride,
                                 padding=pad)
    if layer.kind == "global_pool":
      return jnp.mean(x, (1, 2), keepdims=True, dtype=jnp.float32)
    if layer.kind == "flatten":
      return x.reshape(x.shape[0], 1, 1, -1)
    return nn.Dropout(layer.rate, deterministic=not self.train)(x)


def run_layers(
    layers: tuple[blocks_lib.Layer, ...],
    x: jax.Array,
    *,
    name: str,
    num_classes: int,
    norm: layers_lib.NormFactory,
    train: bool,
) -> jax.Array:
  """Runs the layers of a stem or a head, inside a compact module."""
  for i, layer in enumerate(layers):
    x = FixedLayer(layer, num_classes, norm, train, name=f"{name}{i}")(x)
  return x


class BlockModule(nn.Module):
  """One block.

  Attributes:
    block: the graph.
    place: where it stands.
    norm: returns what follows a convolution: BN or a bias.
    batch_norm: returns a BN, for nodes that have one.
    preactivate: whether operations begin with a ReLU.
    identities: numbers of the edges with an identity beside the operation,
      where theta is given.
  """

  block: blocks_lib.Block
  place: blocks_lib.Place
  norm: layers_lib.NormFactory
  batch_norm: layers_lib.NormFactory
  preactivate: bool
  identities: frozenset[int] = frozenset()

  @nn.compact
  def __call__(
      self,
      prev_prev: jax.Array,
      prev: jax.Array,
      theta: jax.Array | None = None,
  ) -> jax.Array:
    def run(i, name, x):
      module = edges_lib.module(
          operations.get(name), ends(self.place, self.block.edges[i]),
          norm=self.norm, preactivate=self.preactivate)
      if isinstance(module, nn.Module):
        module = module.clone(name=f"edge{i}_{name}", parent=self)
      return module(x)

    def edge(i, x):
      item = self.block.edges[i]
      same = None if item.operation == operations.NULL else run(
          i, item.operation, x)
      if theta is None or self.block.node(item.target).fixed:
        return same
      identity = run(i, operations.SKIP, x) if i in self.identities else None
      return mixture.mix(theta[i], same, identity,
                         alike=item.operation == operations.SKIP)

    return run_block(self.block, (prev_prev, prev), edge, self.batch_norm)


def ends(place: blocks_lib.Place, edge: blocks_lib.Edge) -> edges_lib.Ends:
  """The shapes that an edge joins."""
  source, target = place.nodes[edge.source], place.nodes[edge.target]
  return edges_lib.Ends(source.width, target.width, place.stride(edge))


def run_block(
    block: blocks_lib.Block,
    inputs: tuple[jax.Array, jax.Array],
    edge: Callable[[int, jax.Array], jax.Array | None],
    batch_norm: Callable[..., Callable[[jax.Array], jax.Array]],
) -> jax.Array:
  """Runs a block's nodes, inside a compact module.

  Args:
    block: the graph.
    inputs: outputs of the two blocks before.
    edge: `(number of the edge, x) -> y`, or None of an edge that adds nothing.
    batch_norm: returns a BN for nodes that have one.

  Returns:
    [B, h, w, C], the nodes of `concat`.
  """
  values = list(inputs)
  for n, node in enumerate(block.nodes, blocks_lib.NUM_INPUTS):
    total = None
    for i, item in enumerate(block.edges):
      y = edge(i, values[item.source]) if item.target == n else None
      if y is not None:
        total = y if total is None else total + y
    if total is None:
      total = zeros(block, n, values)
    if node.norm:
      total = batch_norm(name=f"node{n}_norm")(total)
    total = Activation(node.activation, name=f"node{n}_activation")(total)
    values.append(shuffle(total, node.shuffle))
  return jnp.concatenate([values[n] for n in block.outputs], axis=-1)


def zeros(
    block: blocks_lib.Block, n: int, values: list[jax.Array]
) -> jax.Array:
  """The value of node number `n`, of which all edges are null."""
  node, x = block.node(n), values[1]
  x = x[:, ::node.stride, ::node.stride]
  return jnp.zeros((*x.shape[:3], node.width), x.dtype)


class BlockNet(nn.Module):
  """The network.

  Attributes:
    network: the architecture.
    frame: number of classes and size of the images.
    axis_name: device axis over which BN joins the batch; None keeps the
      statistics per device.
    identities: per block, as `network.Network` has them.

  `__call__` maps images [B, H, W, 3] to (logits f32[B, K], None), as
  `network.Network` does; without a classifier (no classes), to the head's
  features. `drop_path` is taken for the sake of the same call and must be 0.
  `theta`, per block f32[E, 3], weighs the edges (`mixture`).
  """

  network: blocks_lib.BlockNetwork
  frame: blocks_lib.Frame
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
  ) -> tuple[jax.Array, None]:
    del drop_path  # `supervised.check` refuses any but 0.

    def batch_norm(name: str | None = None):
      return layers_lib.RunningBatchNorm(
          train, self.axis_name, self.network.norm_epsilon, name=name)

    def norm(name: str | None = None):
      return Bias(name=name) if self.network.norm == "bias" else batch_norm(
          name)

    fixed: Any = {"num_classes": self.frame.num_classes, "norm": batch_norm,
                  "train": train}
    x = run_layers(self.network.stem, images, name="stem", **fixed)
    outputs = (x, x)
    for i, (block, place) in enumerate(zip(
        self.network.blocks, blocks_lib.places(self.network, self.frame),
        strict=True)):
      identities = self.identities[i] if self.identities else frozenset()
      module = BlockModule(block, place, norm, batch_norm,
                           self.network.preactivate, identities,
                           name=f"block{i}")
      outputs = (outputs[1], module(
          *outputs, None if theta is None else theta[i]))
    x = run_layers(head_layers(self.network, self.frame), outputs[1],
                   name="head", **fixed)
    return x.reshape(x.shape[0], -1).astype(jnp.float32), None


def head_layers(
    network: blocks_lib.BlockNetwork, frame: blocks_lib.Frame
) -> tuple[blocks_lib.Layer, ...]:
  """The head's layers, without the classifier where there are no classes."""
  return network.head if frame.num_classes else network.head[:-1]


def init(net: BlockNet, rng: jax.Array) -> Any:
  """Draws the variables of a network.

  Without BN the kernels are drawn with the variance of He et al., 2015, six
  times that of the library's other networks, lest signals vanish.
  """
  size = net.frame.image_size
  theta = None
  if net.identities is not None:
    theta = [mixture.initial(len(block.edges)) for block in net.network.blocks]

  def draw(rng):
    variables = net.init(
        {"params": rng}, jnp.zeros((2, size, size, 3)), theta=theta)
    if net.network.norm == "bias":
      variables = jax.tree_util.tree_map_with_path(
          lambda path, x: x * 6**0.5 if path[-1].key == "kernel" else x,
          variables)
    return {"batch_stats": {}, **variables}

  return jax.jit(draw)(rng)
