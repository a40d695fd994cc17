"""The weight-sharing supernet of a network of blocks.

It holds weights for every candidate of every edge, block by block. Which
operation stands on an edge is data, as in `networks.supernet`: only the chosen
one runs, and the backward pass recomputes it. Equal neighbours (the blocks of a
stage) run in one `lax.scan` over their stacked weights.

BN has no affine parameters but in stem and head, and always normalises by the
batch, with the network's own epsilon; networks whose convolutions have biases
instead get it too, since random operations would not train without. Dropout is
off.
"""

import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import blocks as blocks_lib
from natjax.graph import genotype as architecture_lib
from natjax.networks import block_network
from natjax.networks import cell_scan
from natjax.networks import layers as layers_lib
from natjax.networks import supernet as supernet_lib
from natjax.operations import edges as edges_lib
from natjax.operations import primitives

Params = Any


class _Fixed(nn.Module):
  """The layers before or after the blocks."""

  layers: tuple[blocks_lib.Layer, ...]
  num_classes: int
  epsilon: float

  @nn.compact
  def __call__(self, x):
    return block_network.run_layers(
        self.layers, x, name="layer", num_classes=self.num_classes,
        norm=functools.partial(layers_lib.BatchAffineNorm, self.epsilon),
        train=False)


@dataclasses.dataclass(frozen=True)
class BlockSupernet:
  """A supernet as pure functions over a static description.

  Attributes:
    network: the graph, padded.
    groups: numbers of the blocks that share a decision, per decision.
    choices: per decision, node and slot, the operations that may stand there,
      as names; empty where there is no edge.
    candidates: names that the arrays index.
    frame: number of classes and size of the images.
    dtype: of the computation; parameters are float32.
  """

  network: blocks_lib.BlockNetwork
  groups: tuple[tuple[int, ...], ...]
  choices: tuple[tuple[tuple[tuple[str, ...], ...], ...], ...]
  candidates: tuple[str, ...]
  frame: blocks_lib.Frame
  dtype: Any = jnp.float32

  @functools.cached_property
  def places(self) -> tuple[blocks_lib.Place, ...]:
    """Where every block stands."""
    return blocks_lib.places(self.network, self.frame)

  @property
  def pixels(self) -> int:
    """Numbers in the images of all nodes, per image of a batch."""
    return sum(shape.size**2 * shape.width
               for place in self.places for shape in place.nodes)

  @functools.cached_property
  def decisions(self) -> tuple[int, ...]:
    """Per block, the number of its decision."""
    found = {i: g for g, group in enumerate(self.groups) for i in group}
    return tuple(found[i] for i in range(len(self.network.blocks)))

  @functools.cached_property
  def runs(self) -> tuple[tuple[int, ...], ...]:
    """Neighbours of equal graphs, shapes and choices, whose weights stack."""
    found: list[list[int]] = []
    for i in range(len(self.network.blocks)):
      if found and self._key(i) == self._key(found[-1][0]):
        found[-1].append(i)
      else:
        found.append([i])
    return tuple(map(tuple, found))

  def _key(self, i):
    nodes = self.places[i].nodes[0 if self._sees_both(i) else 1:]
    return (self.network.blocks[i], nodes, self.choices[self.decisions[i]])

  def _sees_both(self, i) -> bool:
    """Whether anything but null may come from a block's node 0."""
    return any(self.network.blocks[i].edges[e].source == 0
               and set(names) != {operations.NULL}
               for e, _, _, names in self._edges(i))

  def _edges(self, i) -> list[tuple[int, int, int, tuple[str, ...]]]:
    """(number, node, slot, choices) of the edges of a block."""
    block, found = self.network.blocks[i], []
    count: dict[int, int] = {}
    for e, edge in enumerate(block.edges):
      slot = count.get(edge.target, 0)
      count[edge.target] = slot + 1
      node = edge.target - blocks_lib.NUM_INPUTS
      found.append((e, node, slot,
                    self.choices[self.decisions[i]][node][slot]))
    return found

  def _normalise(self, x):
    """BN by the batch, without affine, without state."""
    return primitives.batch_normalize(x, epsilon=self.network.norm_epsilon)

  def _functions(self, i, e, names):
    """Per choice, `(params of all choices, x) -> y`, and its module."""
    place = self.places[i]
    ends = block_network.ends(place, self.network.blocks[i].edges[e])
    functions = []
    for name in names:
      operation = operations.get(name)
      if operation.pooled:
        # NAT's supernet normalises pooling; a projection follows it.
        operation = dataclasses.replace(
            operation, module=_normalised(operation.module, self._normalise))
      module = edges_lib.module(
          operation, ends, norm=lambda name=None: self._normalise,
          preactivate=self.network.preactivate)

      def function(params, x, module=module, name=name):
        if isinstance(module, nn.Module):
          return module.apply({"params": params[name]}, x)
        return module(x)

      functions.append((function, module))
    return functions

  def init(self, rng: jax.Array) -> Params:
    """Draws parameters: a pytree of float32 arrays."""
    return jax.jit(self._init)(rng)

  def _init(self, rng):
    rng_stem, rng_head, rng_blocks = jax.random.split(rng, 3)
    size = self.frame.image_size
    images = jnp.zeros((1, size, size, 3))
    last = self.places[-1].output
    features = jnp.zeros((1, last.size, last.size, last.width))
    runs = [jax.vmap(functools.partial(self._init_block, run[0]))(
        jax.random.split(key, len(run)))
            for run, key in zip(self.runs, jax.random.split(
                rng_blocks, len(self.runs)), strict=True)]
    return {
        "stem": self._stem.init(rng_stem, images).get("params", {}),
        "runs": supernet_lib.redraw_kernels(
            jax.random.fold_in(rng, 1), runs, _leading_axes),
        "head": self._head.init(rng_head, features).get("params", {}),
    }

  def _init_block(self, i, rng):
    block, params = self.network.blocks[i], {}
    for e, _, _, names in self._edges(i):
      source = self.places[i].nodes[block.edges[e].source]
      x = jnp.zeros((1, source.size, source.size, source.width))
      params[f"edge{e}"] = {
          name: module.init(jax.random.fold_in(rng, 100 * e + k), x).get(
              "params", {})
          for k, (name, (_, module)) in enumerate(zip(
              names, self._functions(i, e, names), strict=True))
          if isinstance(module, nn.Module)}
    for n, node in enumerate(block.nodes):
      if node.activation == "prelu":
        params[f"slope{n}"] = jnp.full((node.width,), 0.25)
    return params

  @property
  def _stem(self):
    return _Fixed(self.network.stem, self.frame.num_classes,
                  self.network.norm_epsilon)

  @property
  def _head(self):
    return _Fixed(block_network.head_layers(self.network, self.frame),
                  self.frame.num_classes, self.network.norm_epsilon)

  def apply(
      self,
      params: Params,
      arrays: architecture_lib.CellArrays,
      images: jax.Array,
  ) -> jax.Array:
    """Computes the logits of one architecture.

    Args:
      params: from `init`.
      arrays: `CellArrays` of shape [G, N, K]; only `operation` is used, since
        the graph is the network's.
      images: [B, H, W, 3].

    Returns:
      f32[B, num_classes].
    """
    x = self._stem.apply({"params": params["stem"]}, images.astype(self.dtype))
    outputs = (x, x)
    for p, run in zip(params["runs"], self.runs, strict=True):
      chosen = arrays.operation[np.array([self.decisions[i] for i in run])]
      body = functools.partial(self._block, run[0])
      if len(run) == 1:
        outputs = (outputs[1], body(
            jax.tree.map(lambda a: a[0], p), chosen[0], *outputs))
        continue

      def step(carry, xs, body=body):
        return (carry[1], body(*xs, *carry)), None

      if not self._sees_both(run[0]):
        # Of another shape, maybe; what the loop carries has one shape.
        outputs = (outputs[1], outputs[1])
      outputs, _ = lax.scan(step, outputs, (p, chosen))
    x = self._head.apply({"params": params["head"]}, outputs[1])
    return x.reshape(x.shape[0], -1).astype(jnp.float32)

  def _block(self, i, params, chosen, prev_prev, prev):
    """One block; chosen: i32[N, K]."""
    block, values = self.network.blocks[i], [prev_prev, prev]
    edges = self._edges(i)
    for n, node in enumerate(block.nodes):
      total = None
      for e, target, slot, names in edges:
        if target != n or names == (operations.NULL,):
          continue
        functions = [f for f, _ in self._functions(i, e, names)]
        local = np.zeros(len(self.candidates), np.int32)
        local[[self.candidates.index(name) for name in names]] = np.arange(
            len(names))
        y = select(
            functions, params[f"edge{e}"],
            jnp.asarray(local)[chosen[n, slot]],
            values[block.edges[e].source])
        total = y if total is None else total + y
      if total is None:
        total = block_network.zeros(block, n + blocks_lib.NUM_INPUTS, values)
      if node.norm:
        total = self._normalise(total)
      values.append(block_network.shuffle(
          _activate(node, total, params.get(f"slope{n}")), node.shuffle))
    return jnp.concatenate([values[n] for n in block.outputs], axis=-1)


def _activate(node, x, slope):
  if node.activation == "prelu":
    return jnp.where(x > 0, x, slope.astype(x.dtype) * x)
  return block_network.Activation(node.activation).apply({}, x)


def select(functions, params, index: jax.Array, x: jax.Array) -> jax.Array:
  """Runs function number `index`; its backward pass recomputes it alone.

  Args:
    functions: per choice, `(params, x) -> y`.
    params: those of all choices.
    index: i32[].
    x: [B, H, W, C].
  """
  if len(functions) == 1:
    return functions[0](params, x)
  rule = cell_scan.selected_rule(functions)
  run = jax.custom_vjp(rule.forward)

  def forward(params, index, x):
    return rule.forward(params, index, x), (params, index, x)

  def backward(residuals, g):
    params, index, x = residuals
    g_params, _, g_x = rule.pullback(params, index, x, g)
    return g_params, np.zeros(index.shape, jax.dtypes.float0), g_x

  run.defvjp(forward, backward)
  return run(params, index, x)


def _normalised(module, norm):
  """A pooling followed by BN."""
  def build(**options):
    run = module(**options)
    return lambda x: norm(run(x))
  return build


def _leading_axes(keys):
  """Of a kernel: [J] on edges; None for a user's own operations."""
  return 1 if keys[2] in operations.BUILTIN else None
