"""The modules of a supernet's candidates, and how they are run."""

from collections.abc import Iterator, Sequence
import dataclasses
import functools
from typing import Any

import flax.linen as nn
import jax

from natjax import operations
from natjax.graph import records
from natjax.graph import shapes as shapes_lib
from natjax.networks import layers as layers_lib
from natjax.networks import rules, store
from natjax.operations import edges as edges_lib
from natjax.operations import primitives


@dataclasses.dataclass(frozen=True)
class Candidates:
  """How the operations of a supernet are built and run.

  Attributes:
    plan: of the supernet.
    running: whether BN is affine and keeps running statistics; else it is
      neither, and pooling is normalised too.
    train: of running BN, whether it normalises by the batch.
    axis_name: device axis over which running BN joins the batch.
  """

  plan: store.Plan
  running: bool = False
  train: bool = False
  axis_name: str | None = None

  def norm(self, name: str | None = None, *, affine: bool = False) -> Any:
    """The BN of operations; with `affine`, that of stem and head."""
    epsilon = self.plan.network.norm_epsilon
    if self.running:
      return layers_lib.RunningBatchNorm(
          self.train, self.axis_name, epsilon, name=name)
    if affine:
      return layers_lib.BatchAffineNorm(epsilon, name=name)
    return functools.partial(primitives.batch_normalize, epsilon=epsilon)

  def layers(self, part: str) -> layers_lib.FixedLayers:
    """The "stem" or the "head", whose BN is affine, as in the released code."""
    network, place = self.plan.network, self.plan.place
    layers = network.stem if part == "stem" else shapes_lib.head_layers(
        network, place)
    return layers_lib.FixedLayers(
        layers, place.num_classes, functools.partial(self.norm, affine=True),
        self.running and self.train)

  def module(self, name: str, ends: edges_lib.Ends) -> Any:
    """What an operation is on an edge: a linen module or a function."""
    operation = operations.get(name)
    if not edges_lib.can_stand(operation, ends):
      # It is never chosen there but has a place in the list of candidates.
      operation = operations.get(operations.NULL)
    if operation.pooled and not self.running:
      build = operation.module
      operation = dataclasses.replace(
          operation, module=lambda **options: (
              lambda x: self.norm()(build(**options)(x))))
    return edges_lib.module(operation, ends, norm=self.norm,
                            preactivate=self.plan.network.preactivate)

  def prefix(self, i: int) -> Iterator[Any]:
    """Modules of a block's edges that the spelling does not show."""
    for edge in self.plan.network.blocks[i].edges[:self.plan.network.prefix]:
      yield self.module(edge.operation, self.plan.shapes[i].ends(edge))

  def apply(self, module: Any, variables: Any, x: jax.Array,
            key: jax.Array | None = None) -> tuple[jax.Array, Any]:
    """Applies a module; returns its output and its statistics."""
    stats = variables.get("batch_stats", {})  # Maybe of its other stride.
    if not isinstance(module, nn.Module):
      return module(x), stats
    rngs = {} if key is None else {"dropout": key, "noise": key}
    y, changed = module.apply(
        variables, x, rngs=rngs,
        mutable=["batch_stats"] if self.running and self.train else [])
    return y, changed.get("batch_stats", stats)

  def functions(self, names: Sequence[str],
                ends: edges_lib.Ends) -> list[rules.Function]:
    """Per candidate of an edge, `(variables of all, x, key) -> y`.

    With running BN they return `(y, statistics of all)`.
    """

    return [functools.partial(self._function, name, self.module(name, ends))
            for name in names]

  def _function(self, name, module, variables, x, key):
    own = {kind: part[name] for kind, part in variables.items() if name in part}
    y, stats = self.apply(module, own, x, key)
    if not self.running:
      return y
    known = variables["batch_stats"]
    return y, {**known, name: stats} if name in known else known

  def activate(self, node: records.Node, variables: Any, x: jax.Array,
               slope: jax.Array | None) -> tuple[jax.Array, Any]:
    """What a node does to its sum: BN, activation, shuffle.

    Args:
      node: the node.
      variables: of its BN.
      x: [B, H, W, C].
      slope: f32[C], of PReLU.

    Returns:
      [B, H, W, C], and the statistics of its BN.
    """
    stats: Any = {}
    if node.norm:
      x, stats = self.apply(self.norm(), variables, x)
    params = {} if slope is None else {"params": {"slope": slope}}
    x, _ = self.apply(layers_lib.Activation(node.activation), params, x)
    return layers_lib.shuffle(x, node.shuffle), stats
