"""The supernet: masked selection of operations, over any space.

A supernet holds weights for every candidate operation of every edge of a
search space's graph. The architecture is an argument, arrays; one compiled
program serves all architectures. Facts: Guo et al., 2021, section 5.1 and the
code that its authors released; for other spaces, their papers.

What stands on the edges of a block is told block by block (`How`): two forms,
equal in value and gradient, and others may stand beside them in one network.
  selected: a (source, operation) pair per slot as data; only the chosen
    operations run, and the backward pass recomputes them (`rules`, `scan`).
  dense: every operation runs on every edge and is weighted.

Batch statistics are one of
  "batch": BN has no affine parameters (but in stem and head) and always
    normalises by the batch, in training, reward and scoring alike, with the
    network's own epsilon; there are no running statistics. Networks whose
    convolutions have biases instead get it too, since random operations would
    not train without. Pooling is normalised, dropout is off.
  "running": BN is affine and keeps running statistics, as trained networks do
    (momentum 0.9), those of the chosen operations alone. With weights per slot,
    one program then trains any genotype of a space, and computes what its
    `network.Network` does (`inherit.variables`), without drop path and
    auxiliary head.
  "calibrated": the parameters are those of "batch", and every BN keeps the
    statistics of the last batch that it was run on with `train`; without, it
    normalises by them. So one architecture of a trained supernet is measured
    on some batches, and judged by their mean statistics.

Under `vmap` with a batch of architectures `selected` turns into dense work; map
over architectures with `lax.map` instead.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax.graph import arrays as arrays_lib
from natjax.graph import records
from natjax.networks import bottleneck, rules, running, store
from natjax.operations import primitives
from natjax.spaces import base

Variables = dict[str, Any]
How = running.How

_FIRST = records.NUM_INPUTS


@dataclasses.dataclass(frozen=True)
class Supernet:
  """A supernet as pure functions over a static description.

  Attributes:
    space: graph and candidate operations.
    place: where its network stands.
    dtype: of the computation; parameters are float32.
    width: factor of the network's widths.
    norm: "batch", "running" or "calibrated", see the module.
    axis_name: device axis over which running BN joins the batch; None keeps
      the statistics per device.

  Variables are {"params", "batch_stats"}, float32.
  """

  space: base.Space
  place: records.Place
  dtype: Any = jnp.float32
  width: float = 1.0
  norm: str = "batch"
  axis_name: str | None = None

  @functools.cached_property
  def plan(self) -> store.Plan:
    """Where the weights lie."""
    return store.Plan(self.space, self.place, self.width)

  def runner(self, train: bool = True) -> running.Runner:
    """How its operations and its blocks are run."""
    return running.Runner(self.plan, self.norm == "running", train,
                          self.axis_name, self.norm == "calibrated")

  def init(self, rng: jax.Array) -> Variables:
    """Draws the variables of all candidates."""
    return self._compiled_init(rng)

  @functools.cached_property
  def _compiled_init(self):
    """Traced once, for the estimate, the start and every seed."""
    return jax.jit(self._init)

  def _init(self, rng):
    rng_own, rng_kernels = jax.random.split(rng)
    rng_stem, rng_head, rng_blocks = jax.random.split(rng_own, 3)
    image, make = self.place.image_size, self.runner(False)
    keys = jax.random.split(rng_blocks, len(self.plan.runs))
    blocks = [self._init_run(make, key, run)
              for key, run in zip(keys, self.plan.runs, strict=True)]
    stem = make.layers("stem").init(rng_stem, jnp.zeros((1, image, image, 3)))
    head = make.layers("head").init(
        rng_head, _zeros(self.plan.shapes[-1].output))
    parts = {"stem": stem, "blocks": blocks, "head": head}
    params = store.redraw_kernels(rng_kernels, _collection(parts, "params"))
    return {"params": params, "batch_stats": _collection(parts, "batch_stats")}

  def _init_run(self, make, rng, run):
    """Variables of blocks of equal shapes; edges lead with [J, S]."""
    rng_prefix, rng_edges = jax.random.split(rng)
    found: dict[str, Any] = {}
    if self.plan.network.prefix:
      found["preprocess"] = [
          {f"node{n}": module.init(
              jax.random.fold_in(key, n), _zeros(self.plan.shapes[i].nodes[n]))
           for n, module in enumerate(make.prefix(i))}
          for key, i in zip(jax.random.split(rng_prefix, len(run)), run,
                            strict=True)]
    for p, edges in enumerate(self.plan.passes(run[0])):
      x = jnp.zeros((1, edges.ends.size, edges.ends.size,
                     edges.ends.in_channels))
      held = found.setdefault(edges.store, {})
      for o, name in enumerate(edges.names):
        module = make.module(name, edges.ends, edges.fixed)
        if name not in held and isinstance(module, nn.Module):
          key = jax.random.fold_in(jax.random.fold_in(rng_edges, p), o)
          lead = (len(run), int(edges.rows[name].max()) + 1)
          # One `vmap` and no gradients of our own: both are slow to trace.
          with primitives.plain_derivatives():
            drawn = jax.vmap(module.init, (0, None))(
                jax.random.split(key, math.prod(lead)), x)
          held[name] = jax.tree.map(
              lambda leaf, lead=lead: leaf.reshape(*lead, *leaf.shape[1:]),
              drawn)
    if self.space.bottleneck > 1:
      shape = self.plan.shapes[run[0]].nodes[-1]
      found |= bottleneck.init(
          make, jax.random.fold_in(rng_edges, len(found)), len(run),
          self.space.num_nodes, shape.width // self.space.bottleneck, shape)
    for n, node in enumerate(self.plan.network.blocks[run[0]].nodes):
      if node.activation == "prelu":
        found[f"slope{n}"] = {"params": jnp.full((len(run), node.width), 0.25)}
      if node.norm and self.norm != "batch":
        held = make.norm().init(
            rng, _zeros(self.plan.shapes[run[0]].nodes[n + _FIRST]))
        found[f"norm{n}"] = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (len(run), *leaf.shape)), held)
    return found

  def selected(self, arrays: arrays_lib.CellArrays) -> list[How]:
    """The `selected` form of an architecture, block by block.

    Args:
      arrays: `CellArrays` [G, N, K]; where the graph's edges are taken as they
        are, `source` and `concat` do not matter.
    """
    make = rules.selected if self.norm == "batch" else rules.stateful
    return [How(arrays.operation[g], arrays.concat[g], arrays.source[g], make)
            for g in self.plan.decided]

  def weighed(self, weights: jax.Array | Sequence[jax.Array],
              concat: jax.Array,
              make: rules.MakeRule = rules.dense) -> list[How]:
    """The `dense` form, block by block.

    Args:
      weights: f32[G, E, O], per decision, edge of its cell (padded to those of
        the largest) and candidate; or f32[E, O] per decision.
      concat: [G, N], weights of the nodes in the output.
      make: the rule.
    """
    return [How(weights[g], concat[g], None, make) for g in self.plan.decided]

  def apply(self, params: Any, arrays: arrays_lib.CellArrays, images: jax.Array,
            *, rng: jax.Array | None = None) -> jax.Array:
    """Computes the logits of one architecture, in the `selected` form.

    Args:
      params: from `init`.
      arrays: `CellArrays` of shape [G, N, K].
      images: [B, H, W, 3].
      rng: a key, of operations that draw; None always draws the same.

    Returns:
      f32[B, num_classes].
    """
    return self.run({"params": params}, self.selected(arrays), images,
                    rng=rng)[0]

  def run(self, variables: Variables, how: Sequence[How], images: jax.Array, *,
          train: bool = True,
          rng: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """Computes the logits, whatever stands on the edges of each block.

    Args:
      variables: from `init`.
      how: one per block.
      images: [B, H, W, 3].
      train: of BN that keeps statistics, normalise by the batch and update
        them; else normalise by them.
      rng: a key, of operations that draw; None always draws the same.

    Returns:
      f32[B, num_classes] (features, without classes), and "batch_stats"; or,
      of hows that tell something, what every block told, f32[E, B, O] or None.
    """
    rng = jax.random.key(0) if rng is None else rng
    make, early = self.runner(train), self.plan.network.early
    fixed = lambda name, x: make.apply(
        make.layers(name), running.part_of(variables, name), x, rng)
    stem, stem_stats = fixed("stem", images.astype(self.dtype))
    values = (stem[-1] if early < 0 else stem[early + 1], stem[-1])
    block_stats = []
    for r, run in enumerate(self.plan.runs):
      own = {kind: tree["blocks"][r] for kind, tree in variables.items()
             if tree}
      values, found = make.run(run, own, how, values, rng)
      block_stats.append(found)
    head, head_stats = fixed("head", values[1])
    logits = primitives.at_least_float32(primitives.flat(head[-1]))
    stats = variables.get("batch_stats", {})
    if self.norm != "batch":
      changed = {"stem": stem_stats, "blocks": block_stats, "head": head_stats}
      stats = {part: changed[part] for part in stats}
    elif any(h.tells for h in how):
      stats = [told for run, found in zip(
          self.plan.runs, block_stats, strict=True)
               for told in found.get("told", [None] * len(run))]
    return logits, stats


def _zeros(shape):
  return jnp.zeros((1, shape.size, shape.size, shape.width))


def _collection(parts, kind):
  """One collection of a nest of modules' variables."""
  if isinstance(parts, list):
    return [_collection(part, kind) for part in parts]
  if not parts or "params" in parts or "batch_stats" in parts:
    return parts.get(kind, {})
  inner = {name: _collection(part, kind) for name, part in parts.items()}
  return {name: part for name, part in inner.items()
          if isinstance(part, list) or jax.tree.leaves(part)}
