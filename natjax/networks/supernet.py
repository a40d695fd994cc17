"""The weight-sharing supernet: masked selection of operations.

A supernet holds weights for every candidate operation of every edge of a cell
search space, per layer. The architecture is an argument of `apply`, an array;
one compiled program serves all architectures. Facts: Guo et al., 2021, section
5.1 and the code that its authors released.

Two ways to evaluate, equal in value and gradient:
  selected: two (source, operation) pairs per node as data; only the chosen
    operations run, and the backward pass recomputes them (`cell_scan`).
  dense: every operation runs on every edge and is weighted.

BN has no affine parameters (but for the stem) and always normalises by the
batch, in training, reward and scoring alike, so there are no running
statistics. Under `vmap` with a batch of architectures `selected` turns into
dense work; map over architectures with `lax.map` instead.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import cell_scan
from natjax.networks import layers as layers_lib
from natjax.operations import primitives
from natjax.spaces import nat as nat_space

Params = Any


def batch_norm(name: str) -> Callable[[jax.Array], jax.Array]:
  """The supernet's BN: by the batch, without affine, without state."""
  del name
  return primitives.batch_normalize


class Pass(NamedTuple):
  """Edges of one cell that share shapes: one stacked store, one scan.

  A normal cell is one pass over all its edges. A reduction cell is two: the
  edges from its inputs, of stride 2, then those between its nodes.

  Attributes:
    name: key of the pass in the parameters.
    stride: of its operations.
    pairs: i32[S, 2], (source, target) of every slot, in topological order.
  """

  name: str
  stride: int
  pairs: np.ndarray


def passes(num_nodes: int, reduction: bool) -> tuple[Pass, ...]:
  """The passes of a cell of `num_nodes` nodes.

  Slots of a normal cell are numbered (t - 2)(t + 1) / 2 + f for source f and
  target t.
  """
  n = architecture_lib.NUM_INPUTS
  pairs = np.array([(f, t) for t in range(n, n + num_nodes) for f in range(t)])
  if not reduction:
    return (Pass("edges", 1, pairs),)
  inputs, nodes = pairs[pairs[:, 0] < n], pairs[pairs[:, 0] >= n]
  result = (Pass("input_edges", 2, inputs),)
  return result if not len(nodes) else (
      *result, Pass("node_edges", 1, nodes))


@dataclasses.dataclass(frozen=True)
class Supernet:
  """A supernet as pure functions over a static description.

  Attributes:
    space: candidate operations, the same on every edge, and nodes per cell.
    skeleton: the network around the cells.
    dtype: of the computation; parameters are float32.
  """

  space: nat_space.SearchSpace
  skeleton: skeleton_lib.Skeleton
  dtype: Any = jnp.float32

  @functools.cached_property
  def layers(self) -> tuple[skeleton_lib.Layer, ...]:
    """Where every cell stands; a cell's output is always N * C wide."""
    return skeleton_lib.layers(self.skeleton, (self.space.num_nodes,) * 2)

  @property
  def pixels(self) -> int:
    """Numbers in the images of all nodes, per image of a batch."""
    n = self.space.num_nodes
    return sum(layer.out_size**2 * layer.channels * (2 * n + 2)
               for layer in self.layers)

  @functools.cached_property
  def groups(self) -> tuple[tuple[int, ...], ...]:
    """Runs of layers of equal shapes, whose weights are stacked."""
    return skeleton_lib.groups(self.layers)

  def init(self, rng: jax.Array) -> Params:
    """Draws parameters: a pytree of float32 arrays."""
    return jax.jit(self._init)(rng)

  def _init(self, rng):
    rng_own, rng_kernels = jax.random.split(rng)
    return redraw_kernels(
        rng_kernels, self._init_each(rng_own), _leading_axes)

  def _init_each(self, rng):
    rng_stem, rng_head, rng_groups = jax.random.split(rng, 3)
    images = jnp.zeros((1,) + (self.skeleton.image_size,) * 2 + (3,))
    features = skeleton_lib.output_channels(
        self.skeleton, (self.space.num_nodes,) * 2)
    keys = jax.random.split(rng_groups, len(self.groups))
    return {
        "stem": _stem(self.skeleton).init(rng_stem, images)["params"],
        "groups": [self._init_group(key, group)
                   for key, group in zip(keys, self.groups, strict=True)],
        "head": _head(self.skeleton).init(
            rng_head, jnp.zeros((1, features))).get("params", {}),
    }

  def _init_group(self, rng, group):
    """Parameters of cells of equal shapes; edges lead with [J, S]."""
    layer = self.layers[group[0]]
    rng_pre, *rng_passes = jax.random.split(rng, 3)
    params = {"preprocess": [
        self._init_preprocess(key, self.layers[i])
        for key, i in zip(jax.random.split(rng_pre, len(group)), group,
                          strict=True)
    ]}
    x = jnp.zeros((1, layer.in_size, layer.in_size, layer.channels))
    for p, key in zip(passes(self.space.num_nodes, layer.reduction),
                      rng_passes, strict=False):
      lead = (len(group), len(p.pairs))
      keys = jax.random.split(key, (len(self.space.candidates), *lead))
      params[p.name] = {}
      for o, name in enumerate(self.space.candidates):
        module = _module(name, layer.channels, p.stride)
        if isinstance(module, nn.Module):
          flat = jax.vmap(lambda k, m=module: m.init(k, x)["params"])(
              keys[o].reshape(-1))
          params[p.name][name] = jax.tree.map(
              lambda leaf, lead=lead: leaf.reshape(*lead, *leaf.shape[1:]),
              flat)
    return params

  def _init_preprocess(self, rng, layer):
    sizes = (layer.in_size * (2 if layer.reduction_prev else 1), layer.in_size)
    inputs = [jnp.zeros((1, size, size, channels))
              for size, channels in zip(sizes, layer.in_channels, strict=True)]
    return {
        f"node{i}": module.init(key, x)["params"]
        for i, (module, key, x) in enumerate(zip(
            layers_lib.preprocess(layer, batch_norm), jax.random.split(rng),
            inputs, strict=True))
    }

  def apply(
      self,
      params: Params,
      arrays: architecture_lib.CellArrays,
      images: jax.Array,
  ) -> jax.Array:
    """Computes the logits of one architecture, in the `selected` form.

    Args:
      params: from `init`.
      arrays: `CellArrays` of shape [2, N, 2], normal cell first.
      images: [B, H, W, 3].

    Returns:
      f32[B, num_classes].
    """
    return self._forward(params, images, arrays, self._selected_cell)

  def apply_dense(
      self,
      params: Params,
      weights: jax.Array,
      concat: jax.Array,
      images: jax.Array,
  ) -> jax.Array:
    """Computes the logits with every operation weighted, the `dense` form.

    Args:
      params: from `init`.
      weights: f32[2, E, O], per cell type, edge slot (in the order of the
        normal cell's `passes`) and candidate operation.
      concat: [2, N], weights of the nodes in the output.
      images: [B, H, W, 3].

    Returns:
      f32[B, num_classes].
    """
    return self._forward(params, images, (weights, concat), self._dense_cell)

  def dense_weights(
      self, arrays: architecture_lib.CellArrays
  ) -> jax.Array:
    """The f32[2, E, O] for which `apply_dense` equals `apply`: 0, 1 or 2."""
    n = self.space.num_nodes
    source = jnp.reshape(arrays.source, (2, -1))
    operation = jnp.reshape(arrays.operation, (2, -1))
    target = _targets(n)
    slot = (target - 2) * (target + 1) // 2 + source
    shape = (2, n * (n + 3) // 2, len(self.space.candidates))
    cell = jnp.arange(2)[:, None]
    return jnp.zeros(shape).at[cell, slot, operation].add(1.0)

  def _forward(self, params, images, data, cell):
    """Runs the network.

    Args:
      params: from `init`.
      images: [B, H, W, 3].
      data: pytree with leading axis [2], per cell type, what `cell` needs to
        know of the architecture.
      cell: `(layer, params, data, inputs) -> [B, h, w, N * C]`.
    """
    x = images.astype(self.dtype)
    outputs = _stem(self.skeleton).apply({"params": params["stem"]}, x)
    for p, group in zip(params["groups"], self.groups, strict=True):
      # Cells of equal shapes are unrolled all the same: under one scan they
      # compiled no faster, and its residuals took a quarter more memory.
      for j, i in enumerate(group):
        layer = self.layers[i]
        inputs = self._preprocess(p["preprocess"][j], layer, outputs)
        edges = {k: jax.tree.map(lambda leaf, j=j: leaf[j], p[k])
                 for k in p if k != "preprocess"}
        outputs = (outputs[1], cell(
            layer, edges,
            jax.tree.map(lambda a, i=int(layer.reduction): a[i], data),
            inputs))
    features = jnp.mean(outputs[1], axis=(1, 2), dtype=jnp.float32)
    return _head(self.skeleton).apply({"params": params["head"]}, features)

  def _preprocess(self, params, layer, outputs):
    return [
        module.apply({"params": params[f"node{i}"]}, x)
        for i, (module, x) in enumerate(zip(
            layers_lib.preprocess(layer, batch_norm), outputs, strict=True))
    ]

  def _selected_cell(self, layer, params, data, inputs):
    source = jnp.reshape(data.source, -1)
    operation = jnp.reshape(data.operation, -1)
    null = self.space.candidates.index(operations.NULL)
    target = _targets(self.space.num_nodes)

    def edges(p):
      # Slots that belong to the other pass of a reduction cell run `null`.
      lookup = np.full((self.space.num_nodes + 2,) * 2, -1, np.int32)
      lookup[p.pairs[:, 0], p.pairs[:, 1]] = np.arange(len(p.pairs))
      slot = jnp.asarray(lookup)[source, target]
      mine = slot >= 0
      chosen = jax.tree.map(lambda leaf: leaf[jnp.maximum(slot, 0)],
                            params[p.name])
      return (chosen, jnp.where(mine, operation, null),
              jnp.where(mine, source, p.pairs[0, 0]), target)

    nodes = self._run_passes(cell_scan.selected_rule, edges, layer, inputs)
    return _concatenate(nodes, data.concat)

  def _dense_cell(self, layer, params, data, inputs):
    weights, concat = data
    slots = {tuple(pair): i for i, pair in enumerate(
        passes(self.space.num_nodes, False)[0].pairs.tolist())}

    def edges(p):
      rows = np.array([slots[tuple(pair)] for pair in p.pairs.tolist()])
      return (params[p.name], weights[rows], jnp.asarray(p.pairs[:, 0]),
              jnp.asarray(p.pairs[:, 1]))

    nodes = self._run_passes(cell_scan.dense_rule, edges, layer, inputs)
    return _concatenate(nodes, concat)

  def _run_passes(self, make_rule, edges, layer, inputs):
    """Runs a cell's passes; returns its intermediate nodes [N, B, h, w, C].

    In a normal cell all nodes share one buffer, inputs first. In a reduction
    cell the inputs are larger and stand apart, and the buffer starts at node 2.
    """
    first = architecture_lib.NUM_INPUTS
    stacked = jnp.stack(inputs)
    shape = (self.space.num_nodes, stacked.shape[1], layer.out_size,
             layer.out_size, layer.channels)
    nodes = jnp.zeros(shape, stacked.dtype)
    if not layer.reduction:
      nodes = jnp.concatenate([stacked, nodes])
    for p in passes(self.space.num_nodes, layer.reduction):
      params, data, source, target = edges(p)
      if layer.reduction:
        target = target - first
        source = source - (0 if p.stride == 2 else first)
      rule = make_rule(self._functions(layer, p.stride))
      nodes = cell_scan.scan_edges(
          rule, stacked if p.stride == 2 else None, nodes, params, data,
          source, target)
    return nodes if layer.reduction else nodes[first:]

  def _functions(self, layer, stride):
    """Per candidate, `(params of all candidates, x) -> y`."""
    functions = []
    for name in self.space.candidates:
      module = _module(name, layer.channels, stride)

      def function(params, x, module=module, name=name):
        if isinstance(module, nn.Module):
          y = module.apply({"params": params[name]}, x)
        else:
          y = module(x)
        operation = operations.get(name)
        if operation.pooled and stride in operation.strides:
          y = primitives.batch_normalize(y)
        return y

      functions.append(function)
    return functions


def _leading_axes(keys):
  """Of a kernel: [J, S] on edges; None for a user's own operations."""
  if keys[0] != "groups" or keys[2] == "preprocess":
    return 0
  return 2 if keys[3] in operations.BUILTIN else None


def redraw_kernels(
    rng: jax.Array,
    params: Params,
    leading_axes: Callable[[list[str | None]], int | None],
) -> Params:
  """Draws all kernels that start from `operations.kernel_init` at once.

  The distribution is the one they already have. A generator call per kernel
  would take some ten seconds to compile; those calls are unused now and the
  compiler drops them. Parameters of operations that a user registered keep
  what their own initialisers drew.

  Args:
    rng: a key.
    params: what each initialiser drew.
    leading_axes: `(keys of a kernel's path, None for a list's) -> axes` that
      stack equal kernels, or None if the kernel keeps what it is.
  """
  flat, treedef = jax.tree_util.tree_flatten_with_path(params)

  leads = [
      leading_axes([getattr(k, "key", None) for k in path])
      if path[-1].key == "kernel" else None for path, _ in flat]
  total = sum(leaf.size for (_, leaf), lead in zip(flat, leads, strict=True)
              if lead is not None)
  draws, start, leaves = jax.random.uniform(rng, (total,), minval=-1), 0, []
  for (_, leaf), lead in zip(flat, leads, strict=True):
    if lead is not None:
      fan_in = np.prod(leaf.shape[lead:-1])
      leaf = draws[start:start + leaf.size].reshape(leaf.shape) / np.sqrt(
          fan_in).astype(np.float32)
      start += leaf.size
    leaves.append(leaf)
  return jax.tree_util.tree_unflatten(treedef, leaves)


def _module(name, channels, stride):
  operation = operations.get(name)
  if stride not in operation.strides:
    # It is never chosen there (`methods.nat.sample_cell`) but has a place in
    # the list of candidates.
    operation = operations.get(operations.NULL)
  return operation.module(
      features=channels, stride=stride, norm=batch_norm)


def _targets(num_nodes):
  return np.repeat(np.arange(num_nodes, dtype=np.int32) + 2, 2)


def _stem(skeleton):
  # The stem's BN has affine parameters, in the released code too.
  return layers_lib.Stem(skeleton, norm=layers_lib.BatchAffineNorm)


def _head(skeleton):
  return layers_lib.Classifier(skeleton.num_classes)


def _concatenate(nodes, concat):
  """[N, B, H, W, C] and the weights [N] of the nodes -> [B, H, W, N * C]."""
  nodes = nodes * concat.astype(nodes.dtype)[:, None, None, None, None]
  return jnp.concatenate(list(nodes), axis=-1)
