"""A trainable network whose architecture is data.

`networks.network.Network` is one program per genotype; here one program trains
any genotype of a space, which is an argument. Every cell owns weights for
every candidate operation on each of its 2N edge slots (two per node, whatever
their source), of which only the operations that the genotype names run
(`cell_scan`). With a genotype and its part of the variables, `extract`, the
two networks compute the same, and train alike: what is not chosen has no
gradient, so that clipping by the global norm sees the same norm.

Batch statistics: BN is affine and keeps running statistics, as trained
networks do (momentum 0.9), those of the chosen operations alone; in evaluation
it normalises by them.

Unlike `Network` there is no drop path and no auxiliary head, and a cell's
output is always N * C wide, nodes that are not concatenated giving zeros: in
loose-end spaces the 1x1 convolutions that read it start a little smaller.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from natjax import operations
from natjax.graph import genotype as architecture_lib
from natjax.graph import skeleton as skeleton_lib
from natjax.networks import cell_scan
from natjax.networks import layers as layers_lib
from natjax.networks import supernet as supernet_lib
from natjax.spaces import nat as nat_space

Variables = dict[str, Any]

_FIRST = architecture_lib.NUM_INPUTS
_PREPROCESS = ("preprocess0", "preprocess1")


@dataclasses.dataclass(frozen=True)
class SlotNetwork:
  """Any network of a space, as pure functions over a static description.

  Attributes:
    space: candidate operations, the same on every edge, and nodes per cell.
    skeleton: the network around the cells.
    axis_name: device axis over which BN joins the batch; None keeps the
      statistics per device.

  Variables are {"params", "batch_stats"}, float32. Of both, "cells" is a list
  over layers; "edges" there holds per operation arrays with leading axis 2N,
  slot 2(t - 2) + k being the k-th edge into node t.
  """

  space: nat_space.SearchSpace
  skeleton: skeleton_lib.Skeleton
  axis_name: str | None = None

  @functools.cached_property
  def layers(self) -> tuple[skeleton_lib.Layer, ...]:
    """Where every cell stands; a cell's output is always N * C wide."""
    return skeleton_lib.layers(self.skeleton, (self.space.num_nodes,) * 2)

  def init(self, rng: jax.Array) -> Variables:
    """Draws the variables of all candidates."""
    return jax.jit(self._init)(rng)

  def _init(self, rng):
    rng_own, rng_kernels = jax.random.split(rng)
    rng_stem, rng_head, *rng_cells = jax.random.split(
        rng_own, 2 + len(self.layers))
    side = self.skeleton.image_size
    features = skeleton_lib.output_channels(
        self.skeleton, (self.space.num_nodes,) * 2)
    parts = {
        "stem": self._stem(False).init(rng_stem, jnp.zeros((1, side, side, 3))),
        "cells": [self._init_cell(key, layer) for key, layer in zip(
            rng_cells, self.layers, strict=True)],
        "head": self._head().init(rng_head, jnp.zeros((1, features))),
    }
    params = supernet_lib.redraw_kernels(
        rng_kernels, _collection(parts, "params"), _leading_axes)
    return {"params": params,
            "batch_stats": _collection(parts, "batch_stats")}

  def _init_cell(self, rng, layer):
    """Variables of a cell, still {"params", "batch_stats"} per module."""
    rng_edges, *rng_pre = jax.random.split(rng, 3)
    sides = (layer.in_size * (2 if layer.reduction_prev else 1), layer.in_size)
    cell = {
        name: module.init(key, jnp.zeros((1, side, side, channels)))
        for name, module, key, side, channels in zip(
            _PREPROCESS, self._preprocess(layer, False), rng_pre, sides,
            layer.in_channels, strict=True)
    }
    x = jnp.zeros((1, layer.in_size, layer.in_size, layer.channels))
    count = len(self.space.candidates), 2 * self.space.num_nodes
    keys = jax.random.split(rng_edges, count)
    edges = {}
    for name, slots in zip(self.space.candidates, keys, strict=True):
      module = self._parametric(name, layer)
      if module is not None:
        edges[name] = jax.vmap(lambda k, m=module: m.init(k, x))(slots)
    return cell | {"edges": edges}

  def _parametric(self, name, layer):
    """The module that holds an operation's weights on a slot, or None.

    A slot of a reduction cell may come to stand at either stride: of equal
    shapes where the operation has weights at both.
    """
    for stride in (2, 1) if layer.reduction else (1,):
      module = self._module(name, layer, stride, False)
      if isinstance(module, nn.Module):
        return module
    return None

  def apply(
      self,
      variables: Variables,
      arrays: architecture_lib.CellArrays,
      images: jax.Array,
      *,
      train: bool = False,
  ) -> tuple[jax.Array, Any]:
    """Computes the logits of one architecture.

    Args:
      variables: from `init`.
      arrays: `CellArrays` of shape [2, N, 2], normal cell first.
      images: [B, H, W, 3]; their dtype is that of the computation.
      train: normalise by the batch and update the running statistics, else
        normalise by these.

    Returns:
      f32[B, num_classes] and "batch_stats".
    """
    params, stats = variables["params"], dict(variables["batch_stats"])
    outputs, stats["stem"] = _run(
        self._stem(train), params["stem"], stats["stem"], images, train)
    cells = []
    for layer, p, s in zip(self.layers, params["cells"], stats["cells"],
                           strict=True):
      data = jax.tree.map(lambda a, i=int(layer.reduction): a[i], arrays)
      out, changed = self._cell(layer, p, s, data, outputs, train)
      outputs = (outputs[1], out)
      cells.append(changed)
    stats["cells"] = cells
    features = jnp.mean(outputs[1], axis=(1, 2), dtype=jnp.float32)
    logits = self._head().apply({"params": params.get("head", {})}, features)
    return logits, stats

  def _cell(self, layer, params, stats, data, outputs, train):
    """Runs a cell; returns its output and its statistics."""
    stats = dict(stats)
    inputs = []
    for name, module, x in zip(
        _PREPROCESS, self._preprocess(layer, train), outputs, strict=True):
      y, stats[name] = _run(module, params[name], stats[name], x, train)
      inputs.append(y)
    inputs = jnp.stack(inputs)
    n = self.space.num_nodes
    nodes = jnp.zeros((n, inputs.shape[1], layer.out_size, layer.out_size,
                       layer.channels), inputs.dtype)
    if not layer.reduction:
      nodes = jnp.concatenate([inputs, nodes])
    source = jnp.reshape(data.source, -1)
    operation = jnp.reshape(data.operation, -1)
    null = self.space.candidates.index(operations.NULL)
    # In a reduction cell the inputs are larger and stand apart: first the
    # edges from them, of stride 2, then those between nodes. Slots that belong
    # to the other pass run `null`.
    first = _FIRST if layer.reduction else 0
    target = np.repeat(np.arange(n, dtype=np.int32) + _FIRST, 2) - first
    for stride in (2, 1) if layer.reduction else (1,):
      mine, shift = jnp.ones(source.shape, bool), 0
      if layer.reduction:
        mine = source < _FIRST if stride == 2 else source >= _FIRST
        shift = 0 if stride == 2 else _FIRST
      rule = cell_scan.stateful_rule(self._functions(layer, stride, train))
      nodes, stats["edges"] = cell_scan.scan_edges(
          rule, inputs if stride == 2 else None, nodes,
          {"params": params["edges"], "batch_stats": stats["edges"]},
          jnp.where(mine, operation, null),
          jnp.where(mine, source - shift, 0), jnp.asarray(target), aux=True)
    nodes = nodes if layer.reduction else nodes[_FIRST:]
    nodes = nodes * data.concat.astype(nodes.dtype)[:, None, None, None, None]
    return jnp.concatenate(list(nodes), axis=-1), stats

  def _functions(self, layer, stride, train):
    """Per candidate, `(variables of all, x) -> (y, batch_stats of all)`."""

    def make(name):
      module = self._module(name, layer, stride, train)
      if not isinstance(module, nn.Module):
        return lambda v, x: (module(x), v["batch_stats"])

      def function(v, x):
        stats = v["batch_stats"]
        y, changed = _run(module, v["params"][name], stats.get(name, {}), x,
                          train)
        return y, (stats | {name: changed}) if name in stats else stats

      return function

    return [make(name) for name in self.space.candidates]

  def extract(
      self, variables: Variables, genotype: architecture_lib.Genotype
  ) -> Variables:
    """The variables of `networks.network.Network` for one genotype."""
    cells = [list(genotype[int(layer.reduction)].concat)
             for layer in self.layers]
    result = {}
    for key, tree in variables.items():
      parts = {name: tree[name] for name in ("stem", "head") if name in tree}
      for i, layer in enumerate(self.layers):
        part = {}
        for j, name in enumerate(_PREPROCESS):
          before = i - 2 + j
          part[name] = tree["cells"][i][name]
          if before >= 0:
            part[name] = _keep_inputs(part[name], cells[before], self.space)
        part |= self._extract_edges(
            tree["cells"][i]["edges"], genotype[int(layer.reduction)], layer)
        parts[f"cell{i}"] = part
      if "head" in parts:
        parts["head"] = _keep_inputs(parts["head"], cells[-1], self.space)
      result[key] = parts
    return result

  def _extract_edges(self, edges, cell, layer):
    part = {}
    for slot, edge in enumerate(cell.edges):
      module = self._module(edge.operation, layer,
                            cell.stride(edge, layer.reduction), False)
      if isinstance(module, nn.Module) and edge.operation in edges:
        part[f"edge{slot}_{edge.operation}"] = jax.tree.map(
            lambda a, slot=slot: a[slot], edges[edge.operation])
    return part

  def _norm(self, train: bool) -> Callable[..., nn.Module]:
    return lambda name=None: layers_lib.RunningBatchNorm(
        train, self.axis_name, name=name)

  def _stem(self, train):
    return layers_lib.Stem(self.skeleton, self._norm(train))

  def _head(self):
    return layers_lib.Classifier(self.skeleton.num_classes)

  def _preprocess(self, layer, train):
    return layers_lib.preprocess(layer, self._norm(train))

  def _module(self, name, layer, stride, train):
    operation = operations.get(name)
    if stride not in operation.strides:
      # It is never chosen there but has a place in the list of candidates.
      operation = operations.get(operations.NULL)
    return operation.module(
        features=layer.channels, stride=stride, norm=self._norm(train))


def _run(module, params, stats, x, train):
  """Applies a module; returns its output and its statistics."""
  variables = {"params": params, "batch_stats": stats}
  if not train:
    return module.apply(variables, x), stats
  y, changed = module.apply(variables, x, mutable=["batch_stats"])
  return y, changed.get("batch_stats", stats)


def _collection(parts, key):
  """One collection of a nest of modules' variables."""
  if isinstance(parts, list):
    return [_collection(part, key) for part in parts]
  if "params" in parts:
    return parts.get(key, {})
  inner = {name: _collection(part, key) for name, part in parts.items()}
  return {name: part for name, part in inner.items()
          if part or isinstance(part, list) or name == "edges"}


def _leading_axes(keys):
  """Of a kernel: [2N] on edges; None for a user's own operations."""
  if keys[0] != "cells" or keys[2] != "edges":
    return 0
  return 1 if keys[3] in operations.BUILTIN else None


def _keep_inputs(params, concat, space):
  """Kernels that read a cell's output, with the rows of `concat` alone."""

  def keep(path, leaf):
    if path[-1].key != "kernel":
      return leaf
    width = leaf.shape[-2] // space.num_nodes
    rows = np.concatenate([np.arange(width) + width * (node - _FIRST)
                           for node in concat])
    return leaf[..., rows, :]

  return jax.tree_util.tree_map_with_path(keep, params)
