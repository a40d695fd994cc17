"""What searches by strengths of connections have in common.

A search trains a supernet of a space (`networks.supernet`) and comes to
strengths of the space's connections (`spaces.connections`): alpha that is
trained beside the weights (`bilevel`), or attention (`it_nas`). The strongest
are kept, within a budget. Where they let nothing through a cell, one way is
opened (`connections.Connections.connected`), which no paper does.

BN in search always normalises by the batch, also where accuracies are measured,
which the authors' programs do not.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors, operations, spaces
from natjax.costs import budget as budget_lib
from natjax.graph import codec
from natjax.methods import halves
from natjax.networks import rules
from natjax.networks import supernet as supernet_lib
from natjax.objectives import classification as objectives
from natjax.spaces import connections
from natjax.training import method as base
from natjax.training import optimizers, settings

# What stands in the result of every seed.
REPORTS = ("parent_accuracy", "child_accuracy", "skips", "connections")


@dataclasses.dataclass(frozen=True)
class SupernetConfig:
  """Settings of a search by a supernet. The defaults are DARTS's on CIFAR.

  None is what the space usually has.

  Attributes:
    init_channels: C of the supernet, of cells.
    cells: L of the supernet, of cells.
    supernet_width: factor of the supernet's widths, of a network of blocks.
    chain_layers: the most layers of a stage of equal size and width, of a
      chain; None is all.
    chain_width: factor of the widths of a chain, of what is found too.
    epochs: of the search, each a walk over the images for the weights.
    batch_size: over all devices, of both halves.
    learning_rate: of the weights' SGD.
    final_learning_rate: where its cosine schedule ends.
    momentum: of SGD.
    nesterov: whether it is Nesterov's.
    weight_decay: of SGD, of all weights.
    max_grad_norm: clips the gradient of the weights; 0 does not.
    weights_fraction: of the training images for the weights; the others say
      which architecture is better.
    max_params: the most parameters of the network that is trained in the end: a
      number, with K, M or G; empty for no limit.
    max_madds: likewise, multiply-adds.
    dtype: "float32" or "bfloat16", of the supernet's computation.
    skeleton: of a supernet of cells: "cifar", or "imagenet", whose images pass
      three convolutions of stride 2 before the first cell.
  """

  init_channels: int | None = None
  cells: int | None = None
  supernet_width: float | None = None
  epochs: int = 50
  batch_size: int = 64
  learning_rate: float = 0.025
  final_learning_rate: float = 0.001
  momentum: float = 0.9
  nesterov: bool = False
  weight_decay: float = 3e-4
  max_grad_norm: float = 5.0
  weights_fraction: float = 0.5
  max_params: str = ""
  max_madds: str = ""
  dtype: str = "float32"
  chain_layers: int | None = settings.later(None)
  chain_width: float | None = settings.later(None)
  skeleton: str = settings.later("cifar")


def resolve(config: Any, kind: str) -> Any:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: a `SupernetConfig`; None is filled in.
    kind: "cells" or "blocks", of the space's graph.

  Raises:
    InputError: a number out of range, or sizes that do not apply to the kind.
  """
  config = halves.sized(config, kind)
  settings.plain(config)
  settings.one_of(config, dtype=("float32", "bfloat16"),
                  skeleton=("cifar", "imagenet"))
  if kind == "blocks" and config.skeleton != "cifar":
    settings.refuse(config, "skeleton", "does not apply to a space of blocks;"
                    " leave it out")
  settings.at_least_one(config, "epochs", "batch_size")
  settings.above_zero(config, "supernet_width")
  settings.not_negative(
      config, "learning_rate", "final_learning_rate", "momentum",
      "weight_decay", "max_grad_norm")
  halves.check_fraction(config)
  return config


class Search:
  """A search by strengths of connections.

  Attributes:
    config: the settings, resolved.
    connections: what may be chosen.
    supernet: the supernet.
    limits: the budget.
    steps_per_epoch: iterations per epoch.
    optimizer: of the weights.
  """

  # Whether `null` competes where nodes choose their inputs.
  null = True

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """What is kept, made cheaper until it meets the budget (errors.NotMet)."""
    return self.connections.within(kept, strengths, self.limits)

  def __init__(self, config: Any, space: spaces.Space, *, num_classes: int,
               image_size: int, target: Any = None, steps_per_epoch: int = 1):
    """Args:
      config: the settings.
      space: the search space.
      num_classes: of the data.
      image_size: side of the images.
      target: place in which what is found is trained; None is where it is
        searched in.
      steps_per_epoch: iterations per epoch.

    Raises:
      InputError: settings that do not fit, a space that leaves no choice, or
        nothing in it that keeps to the budget.
    """
    kind = space.graph.kind
    if space.loose_end:
      raise errors.InputError(
          f"search space '{space.name}' concatenates the nodes that feed no"
          " other, which strengths of connections do not decide; choose a space"
          " that concatenates all nodes, or method random", "space")
    self.config = config
    place = codec.place(
        kind, config.skeleton, config.init_channels, config.cells,
        num_classes=num_classes, image_size=image_size)
    self.connections = connections.Connections(
        space, place, target, null=self.null)
    self.supernet = supernet_lib.Supernet(
        space, place, jnp.dtype(config.dtype), config.supernet_width)
    for i in range(len(self.supernet.plan.network.blocks)):
      self.supernet.plan.passes(i)  # Refuses what cannot be built.
    self.steps_per_epoch = steps_per_epoch
    self.optimizer = optimizers.scheduled(
        config, config.epochs * steps_per_epoch, nesterov=config.nesterov)
    self.limits = budget_lib.read(
        config.max_params, config.max_madds, None)
    if self.limits:
      zeros = [np.zeros(g.allowed.shape) for g in self.connections.groups]
      try:
        self.within(self.connections.strongest(
            zeros, distinct_edges=True), zeros)
      except errors.NotMet as e:
        raise errors.InputError(str(e)) from e

  def how_kept(self, kept: connections.Strengths) -> list[supernet_lib.How]:
    """What stands on edges in the sub-network of the kept connections."""
    return self.how_weighed([jnp.asarray(mask, jnp.float32) for mask in kept])

  def how_weighed(self, weights: connections.Strengths
                  ) -> list[supernet_lib.How]:
    """What stands there where connections have weights, f32[E, O] per group."""
    return self.supernet.weighed(
        self.connections.per_decision(weights), self.concat, rules.sparse)

  @property
  def concat(self) -> jax.Array:
    """f32[G, N], ones: all nodes are concatenated."""
    nodes = max(d.cell.num_nodes for d in self.connections.decisions)
    return jnp.ones((len(self.connections.decisions), nodes))

  def shown(self, weights: connections.Strengths,
            kept: connections.Strengths) -> dict[str, Any]:
    """What connections weigh and which are kept, for a row of metrics."""
    return {
        "candidates": list(self.connections.space.candidates),
        "edges": {g.name: [list(edge[1:]) for edge in g.cell.edges]
                  for g in self.connections.groups},
        "weights": self.connections.named(weights),
        "kept": self.connections.named(kept),
        "architecture": codec.to_dict(self.connections.architecture(kept)),
        "skips": self._skips(kept)}

  def _skips(self, kept):
    """Of what is kept, the number of skip connections, per group."""
    names = self.connections.space.candidates
    column = [name == operations.SKIP for name in names]
    return {group.name: int(np.asarray(mask)[:, column].sum())
            for group, mask in zip(self.connections.groups, kept, strict=True)}

  def derived(self, params: Any, wanted: connections.Strengths,
              strengths: connections.Strengths, parent: float,
              score: base.Walk) -> base.Derived:
    """What a search came to, and its report.

    Args:
      params: of the supernet.
      wanted: bool[E, O] per group, what is kept by strength alone.
      strengths: f32[E, O] per group.
      parent: accuracy of the supernet on the images that decided.
      score: walks over these, the split "architecture".

    Returns:
      The architecture, to be trained from scratch, and a report: "parent_
      accuracy", "child_accuracy" of the sub-network that is derived, with its
      weights, on the same images; "skips" and "connections" per cell type;
      "reconnected", whether a way through a cell had to be opened
      (`connections.Connections.connected`), and "cheapened", whether the budget
      changed what was found.
    """
    connected = self.connections.connected(wanted, strengths)
    kept = self.within(connected, strengths)
    child = float(score(self.is_right, (params, [
        h.value for h in self.how_kept(kept)]), split="architecture"))
    found = self.connections.space.written(self.connections.architecture(kept))
    return base.Derived(found, None, {
        "parent_accuracy": parent, "child_accuracy": child,
        "reconnected": _differ(wanted, connected),
        **self.counted(connected, kept)})

  def counted(self, wanted: connections.Strengths,
              kept: connections.Strengths) -> dict[str, Any]:
    """Of a report "skips", "connections" and "cheapened"; see `derived`."""
    return {
        "skips": self._skips(kept),
        "connections": {group.name: int(np.asarray(mask).sum())
                        for group, mask in zip(
                            self.connections.groups, kept, strict=True)},
        "cheapened": _differ(wanted, kept)}

  def is_right(self, params_and_weights: Any, batch: base.Batch) -> jax.Array:
    """f32[B], 1 where the supernet with weights per block is right."""
    params, weights = params_and_weights
    kept = [np.zeros(g.allowed.shape) for g in self.connections.groups]
    how = [h._replace(value=w)
           for h, w in zip(self.how_kept(kept), weights, strict=True)]
    logits, _ = self.supernet.run({"params": params}, how, batch["image"])
    return objectives.right(logits, batch["label"])


def _differ(kept, others):
  """Whether not the same connections are kept."""
  return any((np.asarray(a) != np.asarray(b)).any()
             for a, b in zip(kept, others, strict=True))
