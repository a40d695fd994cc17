"""The network of one architecture, as it is trained and applied.

Facts: Guo et al., 2021, section 5.1, after Liu et al., 2019 (DARTS), for cells;
the papers of `zoo.handcrafted` for networks of blocks. A node sums its edges,
then come BN (where it has one), activation, channel shuffle. A block's output
concatenates only the nodes that its `concat` lists.
"""

from collections.abc import Callable, Iterator
import functools
from typing import Any, NamedTuple

import flax.linen as nn
import jax
from jax.interpreters import partial_eval
import jax.numpy as jnp

from natjax import operations
from natjax.graph import codec, records
from natjax.graph import shapes as shapes_lib
from natjax.networks import layers as layers_lib
from natjax.operations import edge_modules, primitives
from natjax.operations import edges as edges_lib


class Site(NamedTuple):
  """An edge of a network, while that is being run.

  Attributes:
    block: number of the block.
    edge: number of the edge, as the architecture's spelling counts them.
    operation: name of what stands there.
    run: `(name) -> y`, what an operation makes of the edge's source; its
      parameters are the edge's own.
    apart: as `run`, outside of flax, so that JAX's control flow may hold it; no
      statistics are kept of it.
    source: [B, H, W, C], the edge's source.
    ends: the shapes that the edge joins.
    made: `(name)`, what an operation is there: an unbound linen module or a
      function.
  """

  block: int
  edge: int
  operation: str
  run: Callable[[str], jax.Array]
  apart: Callable[[str], jax.Array]
  source: jax.Array
  ends: edges_lib.Ends
  made: Callable[[str], Any]


# What an edge adds to its target, or None.
EdgeFunction = Callable[[Site], jax.Array | None]


def plain(site: Site) -> jax.Array | None:
  """What an edge adds in the network as it is."""
  if site.operation == operations.NULL:
    return None
  return site.run(site.operation)


_HIDDEN = "preprocess"  # An edge of a cell that its spelling does not show.


class Names(NamedTuple):
  """Names of a network's modules, on which its checkpoints depend.

  Attributes:
    stem: of the stem's layers.
    block: before a block's number.
    prefix: before the number of an edge that the spelling does not show.
    head: of the head's layers.
  """

  stem: tuple[str, ...]
  block: str
  prefix: str
  head: tuple[str, ...]


def names(network: records.BlockNetwork) -> Names:
  """The names of a network's modules: as cells or as blocks."""
  numbered = lambda part, layers: tuple(
      f"{part}{i}" for i in range(len(layers)))
  if not network.prefix:
    return Names(numbered("stem", network.stem), "block", "edge",
                 numbered("head", network.head))
  stem = numbered("stem", network.stem) if len(network.stem) > 1 else ("stem",)
  return Names(stem, "cell", _HIDDEN, ("pool", "head"))


def head_names(network: records.BlockNetwork,
               place: records.Place) -> tuple[str, ...]:
  """The names of the layers that a network's head has in a place."""
  layers, own = shapes_lib.head_layers(network, place), names(network).head
  if place.embedding and not shapes_lib.embeds(network):
    own = (*own[:-1], "embedding", own[-1])
  return own[:len(layers)]


def edge_name(edge: int, operation: str) -> str:
  """The name of an operation's module on an edge of a block."""
  return f"edge{edge}_{operation}"


class BlockModule(nn.Module):
  """One block.

  It is given no more of the network, since flax looks through all that a module
  is given whenever one is made.

  Attributes:
    block: which.
    index: its number.
    prefix: as of the network.
    preactivate: as of the network.
    shapes: those in the block.
    norm: returns what follows a convolution: BN or a bias.
    batch_norm: returns a BN, for nodes that have one.
    output_stride: what becomes of strides; see `shapes.of`.
  """

  block: records.Block
  index: int
  prefix: int
  preactivate: bool
  shapes: shapes_lib.Shapes
  norm: layers_lib.NormFactory
  batch_norm: layers_lib.NormFactory
  output_stride: int | None = None

  @nn.compact
  def __call__(self, prev_prev: jax.Array, prev: jax.Array, edge: EdgeFunction,
               drop_path: jax.Array | float | None) -> jax.Array:
    block = self.block
    values = [prev_prev, prev]
    for n, node in enumerate(block.nodes, records.NUM_INPUTS):
      total = None
      for e, item in enumerate(block.edges):
        if item.target != n:
          continue
        site = Site(
            self.index, e - self.prefix, item.operation,
            functools.partial(self._run, e, values[item.source]),
            functools.partial(_apart, self, e, values[item.source]),
            values[item.source], self.shapes.ends(item),
            functools.partial(_unbound, self, e))
        y = plain(site) if node.fixed else edge(site)
        if y is None:
          continue
        if drop_path is not None and not node.fixed and not self._free(item):
          # Zeroes whole images, and scales the others up.
          keep = 1.0 - drop_path
          mask = jax.random.bernoulli(
              self.make_rng("drop_path"), keep, (y.shape[0], 1, 1, 1))
          y *= (mask / keep).astype(y.dtype)
        total = y if total is None else total + y
      if total is not None and not node.fixed and edge is plain:
        total = _kept(self.prefix, total)
      if total is None:
        with _dilated(self, 1, n):
          total = zeros(node.width, tuple(
              primitives.output_size(side, node.stride)
              for side in values[1].shape[1:3]), values[1])
      if node.norm:
        total = self.batch_norm(name=f"node{n}_norm")(total)
      total = layers_lib.Activation(
          node.activation, name=f"node{n}_activation")(total)
      values.append(layers_lib.shuffle(total, node.shuffle))
    return jnp.concatenate([values[n] for n in block.outputs], axis=-1)

  def _run(self, e, x, name):
    module = _made(self, e, name)
    if isinstance(module, nn.Module):
      module = module.clone(parent=self, name=_called(self, e, name))
    item, operation = self.block.edges[e], operations.get(name)
    with _dilated(self, *item[1:]):
      with edges_lib.guarded(operation):
        y = module(x)
      return edges_lib.checked(operation, self.shapes.ends(item), x, y)

  def _free(self, item):
    """Whether drop path leaves an edge alone: what it adds is a copy."""
    operation = operations.get(item.operation)
    return self.shapes.ends(item).alike and (
        operation.identity or operation.name == operations.NULL)


# Not methods, whose results flax would capture as intermediates.


def _kept(prefix, total):
  """What a node of a block has summed up, in memory if that is a cell.

  Several edges read a node of a cell, and each would sum it up again. Edges
  that are not plain (`mixture`) keep what they add by themselves.
  """
  return primitives.materialize(total) if prefix and total.size else total


def _dilated(block, source, target):
  """For what leads from one node to another."""
  nodes = block.shapes.nodes
  return primitives.dilated(*shapes_lib.rates(
      nodes[source].stride, nodes[target].stride, block.output_stride))


def _apart(block, e, x, name):
  """What an operation makes of an edge's source, outside of flax."""
  module, called = _unbound(block, e, name), _called(block, e, name)
  if not isinstance(module, nn.Module):
    return module(x)
  own = {kind: tree[called] for kind, tree in block.variables.items()
         if called in tree}
  return module.apply(own, x, mutable=["batch_stats"])[0]


def _unbound(block, e, name):
  """What an operation is on an edge, as no part of the block."""
  module = _made(block, e, name)
  return module.clone(parent=None) if isinstance(module, nn.Module) else module


def _made(block, e, name):
  """What an operation is on an edge: a linen module or a function."""
  return edge_modules.module(
      operations.get(name),
      block.shapes.ends(block.block.edges[e]), norm=block.norm,
      preactivate=block.preactivate)


def _called(block, e, name):
  """The name of an operation's module on an edge."""
  hidden = block.prefix
  return f"{_HIDDEN}{e}" if e < hidden else edge_name(e - hidden, name)


def zeros(width: int, sides: tuple[int, ...], like: jax.Array) -> jax.Array:
  """The images of a node of which all edges are null, of height and width."""
  return jnp.zeros((like.shape[0], *sides, width), like.dtype)


def run_blocks(
    graph: records.BlockNetwork, frame: records.Frame, images: jax.Array, *,
    train: bool, drop_path: jax.Array | float | None = None,
    edge: EdgeFunction = plain, axis_name: str | None = None,
    output_stride: int | None = None) -> Iterator[jax.Array]:
  """Runs stem and blocks in the module that calls; yields what blocks give.

  Arguments are those of `Network` and of `shapes.of`.
  """
  batch_norm = functools.partial(
      layers_lib.RunningBatchNorm, train, axis_name, graph.norm_epsilon)
  norm = layers_lib.Bias if graph.norm == "bias" else batch_norm
  called = names(graph)
  stem = layers_lib.run_layers(
      graph.stem, called.stem, frame.num_classes, batch_norm, train, images,
      output_stride)
  outputs = (stem[-1] if graph.early < 0 else stem[graph.early + 1], stem[-1])
  for i, shapes in enumerate(shapes_lib.of(graph, frame)):
    out = BlockModule(
        graph.blocks[i], i, graph.prefix, graph.preactivate, shapes, norm,
        batch_norm, output_stride, name=f"{called.block}{i}")(
            *outputs, edge, drop_path if train else None)
    outputs = (outputs[1], out)
    yield out


class Network(nn.Module):
  """The network.

  Attributes:
    graph: the architecture, written out.
    frame: number of classes and size of the images.
    auxiliary: the skeleton where the auxiliary head stands; None is without.
    axis_name: device axis over which BN joins the batch; None keeps the
      statistics per device.

  `__call__` maps images [B, H, W, 3] to (logits f32[B, K], auxiliary logits
  f32[B, K] or None); without a classifier (no classes), to (features f32[B, F],
  None), F being `graph.shapes.num_features`; with an embedding, logits are its
  cosines with the vectors of the classes. Its dtype is that of the images;
  parameters and statistics are float32. `train` normalises by the batch.
  `drop_path` is a rate in [0, 1), drawn from the rng stream "drop_path"; None
  is without. `edge` says what every edge adds that is not fixed.
  """

  graph: records.BlockNetwork
  frame: records.Frame
  auxiliary: records.Skeleton | None = None
  axis_name: str | None = None

  @nn.compact
  def __call__(
      self, images: jax.Array, *, train: bool = False,
      drop_path: jax.Array | float | None = None, edge: EdgeFunction = plain,
  ) -> tuple[jax.Array, jax.Array | None]:
    graph, frame, auxiliary = self.graph, self.frame, None
    batch_norm = functools.partial(
        layers_lib.RunningBatchNorm, train, self.axis_name, graph.norm_epsilon)
    head = shapes_lib.head_layers(graph, frame)
    for i, out in enumerate(run_blocks(
        graph, frame, images, train=train, drop_path=drop_path, edge=edge,
        axis_name=self.axis_name)):
      if self.auxiliary and i == self.auxiliary.reductions[-1] and (
          train or self.is_initializing()):
        auxiliary = layers_lib.AuxiliaryHead(
            self.auxiliary.kind == "cifar", frame.num_classes, batch_norm,
            name="auxiliary")(out)
    x = layers_lib.run_layers(head, head_names(graph, frame),
                              frame.num_classes, batch_norm, train, out)[-1]
    return primitives.at_least_float32(primitives.flat(x)), auxiliary


def module(architecture: records.Architecture, place: records.Place, *,
           auxiliary: bool = False, axis_name: str | None = None) -> Network:
  """The linen module of an architecture.

  Args:
    architecture: a genotype or a network of blocks.
    place: a skeleton or a frame, as the architecture needs it.
    auxiliary: whether to build the auxiliary head, of genotypes only.
    axis_name: device axis over which BN joins the batch.

  Raises:
    InputError: it cannot stand there, or there is no auxiliary head for it.
  """
  return Network(codec.expand(architecture, place),
                 records.Frame(place.num_classes, place.image_size,
                               place.embedding),
                 layers_lib.auxiliary(place) if auxiliary else None, axis_name)


def init(network: Any, rng: jax.Array, **options: Any) -> Any:
  """Draws the variables ("params" and "batch_stats") of a network.

  Without BN the kernels are drawn with the variance of He et al., 2015, six
  times that of the library's other networks, lest signals vanish.

  Args:
    network: the module; a `backbone.Backbone` will do.
    rng: a key.
    **options: handed on to its call (`edge=`).
  """
  used = {edge.operation for block in network.graph.blocks
          for edge in block.edges}
  return _draws(
      network, tuple(sorted(options.items())), jax.typeof(rng),
      tuple(map(operations.get, sorted(used))),
      jax.config.read("jax_enable_x64"))(rng)


@functools.lru_cache(maxsize=8)  # A job wants shapes, a start and more seeds.
def _draws(network, options, rng, *like):
  """The draws of `init`, traced.

  `like` is what the trace depends on besides: what the names of operations
  stand for, and whether numbers may have 64 bits.
  """
  size = network.frame.image_size

  def draw(rng):
    variables = network.init(
        {"params": rng}, jnp.zeros((2, size, size, 3)), **dict(options))
    if network.graph.norm == "bias":
      variables = jax.tree_util.tree_map_with_path(
          lambda path, x: x * 6**0.5 if path[-1].key == "kernel" else x,
          variables)
    return {"batch_stats": {}, **variables}

  return draws(draw, rng)


def draws(draw: Callable[[jax.Array], Any],
          rng: Any) -> Callable[[jax.Array], Any]:
  """A function of a key without all that it does not draw.

  Every draw is a program of its own, compiled once per shape: one of all of
  them took XLA's CPU backend twice as long to compile as a step of the
  training.

  Args:
    draw: `(key) -> pytree`, which is traced once.
    rng: a key, or what it looks like.
  """
  traced, like = jax.make_jaxpr(draw, return_shape=True)(rng)
  leaves, form = jax.tree.flatten(like)
  drawing, _ = partial_eval.dce_jaxpr(
      traced.jaxpr, [True] * len(leaves), instantiate=True)
  return lambda rng: jax.tree.unflatten(
      form, jax.core.eval_jaxpr(drawing, traced.consts, rng))
