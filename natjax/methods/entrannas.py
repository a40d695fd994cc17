"""EnTranNAS: search with Engine cells and Transit cells.

Yang et al., 2021, "Towards Improving the Consistency, Efficiency, and
Flexibility of Differentiable Neural Architecture Search". In Engine cells all
connections are weighed by a softmax with a temperature (equation 5), which
falls epoch by epoch; in Transit cells only the connections run that would be
derived now, unweighted (equations 3 and 4), so that alpha learns through the
Engine cells alone. A (source, operation) has one set of weights per cell, whose
feature is computed once for all nodes (equation 6, feature sharing). `null` is
no candidate where nodes choose their inputs.

What the paper leaves open, and how this differs from it:
- The two strongest connections of a node are taken as equation 4 has them,
  two operations on one edge included; `distinct_edges` takes two edges.
- What is kept follows alpha as it is at the iteration, in both half-steps.
- Alpha's gradient is of first order, from the first epoch on
  (`warmup_epochs` changes that); the halves of the images are equal.
- "half" takes the first half of the cells of a type, rounded down.
- The bottleneck (section 2.5): per source a 1x1 convolution to C / 4 channels
  and BN, per node a 1x1 convolution back from the sum and BN, in all cells.
"""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np

from natjax import drawing, errors, spaces
from natjax.methods import bilevel, darts, halves, listed
from natjax.methods import entry as entry_lib
from natjax.spaces import chains, connections
from natjax.training import settings

ENGINES = ("first", "last", "half", "all")


@dataclasses.dataclass(frozen=True)
class EnTranConfig(bilevel.SearchConfig):
  """Settings of EnTranNAS; those of `bilevel.SearchConfig`, and

  Attributes:
    temperature: of the softmax, in the first epoch.
    temperature_decay: what it is multiplied by after every epoch.
    engines: which cells of a type are Engine cells: the "first", the "last",
      the first "half", or "all".
    share_features: whether a (source, operation) has one set of weights per
      cell; else every connection has its own.
    distinct_edges: whether a node's two connections come by different edges.
    bottleneck: how many times fewer channels operations have in search than
      nodes (section 2.5 takes 4); 1 is without.
  """

  temperature: float = 5.0
  temperature_decay: float = 0.923
  engines: str = "first"
  share_features: bool = True
  distinct_edges: bool = False
  bottleneck: int = 1


_CIFAR: dict[str, Any] = {
    "batch_size": 512, "learning_rate": 0.2, "final_learning_rate": 0.0,
    "alpha_learning_rate": 6e-4}
PRESETS: dict[str, dict[str, Any]] = {
    "demo": {"init_channels": 8, "cells": 4, "epochs": 30,
             "alpha_learning_rate": 3e-3, "temperature_decay": 0.88},
    "small": {"epochs": 25, "temperature_decay": 0.85,
              "alpha_learning_rate": 6e-4},
    "paper": _CIFAR}


class EnTranNAS(bilevel.Search):
  """See the module."""

  null = False

  def __init__(self, config: EnTranConfig, space: spaces.Space, **sizes: Any):
    """As `bilevel.Search`."""
    settings.one_of(config, engines=ENGINES)
    settings.plain(config)
    chains.refuse(space, "EnTranNAS",
                  "of which some are Engines and the others copy them")
    epochs, rate = config.epochs, config.temperature_decay
    settings.above_zero(config, "temperature")
    if not 0 < rate <= 1:
      settings.refuse(config, "temperature_decay",
                      "must lie in (0, 1]; give 0.923")
    if config.temperature * rate ** (epochs - 1) < 1e-6:
      settings.refuse(config, "temperature_decay", f"brings the temperature to"
                      f" 0 within {epochs} epochs; give more")
    settings.at_least_one(config, "bottleneck")
    if config.bottleneck > 1 and space.inputs is None:
      settings.refuse(config, "bottleneck", "does not apply to a space of"
                      " blocks; leave it out")
    space = space._replace(bottleneck=config.bottleneck)
    if config.share_features and space.weights == "edge" and (
        space.inputs is not None):
      space = space._replace(weights="source")
    super().__init__(config, space, **sizes)
    self._engines = frozenset(
        i for group in self.connections.groups
        for i in _engines(config.engines, group))

  def engines(self) -> frozenset[int]:
    """The Engine cells."""
    return self._engines

  def temperature(self, step: jax.Array) -> jax.Array:
    """tau of equation 5, by the epoch of a step."""
    return self.config.temperature * self.config.temperature_decay ** (
        step // self.steps_per_epoch)

  def mix(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """Equation 5; see `darts.mixture`."""
    return darts.mixture(alpha["alpha"], self.connections,
                         self.temperature(step))

  def keep(self, alpha: Any, step: jax.Array) -> list[jax.Array]:
    """Equation 4."""
    return self.connections.strongest(
        self.mix(alpha, step), distinct_edges=self.config.distinct_edges)

  def within(self, kept: connections.Strengths,
             strengths: connections.Strengths) -> list[np.ndarray]:
    """As `bilevel.Search`, by the rule of `keep`."""
    return self.connections.within(
        kept, strengths, self.limits, distinct_edges=self.config.distinct_edges)

  def observed(self, alpha: Any, step: jax.Array) -> dict[str, Any]:
    """The temperature."""
    return {"temperature": float(self.temperature(step))}


def _engines(which, group):
  """The members of a group that are Engine cells."""
  members = group.members
  if which == "half":
    if len(members) == 1:
      raise errors.InputError(
          f"engines is half and there is one {group.name} cell, of which there"
          " is no half; give more cells, or first", "engines")
    return members[:len(members) // 2]
  return {"first": members[:1], "last": members[-1:], "all": members}[which]


def entry(method: type[EnTranNAS], config: type[EnTranConfig], text: str,
          changes: dict[str, dict[str, Any]]) -> entry_lib.Entry:
  """The entry of EnTranNAS, or of one that goes further."""
  return entry_lib.Entry(
      config, functools.partial(bilevel.build, method),
      lambda preset, objective, kind: halves.preset(
          config(**PRESETS[preset] | changes.get(preset, {})), kind),
      text, starts="space", reports=bilevel.REPORTS,
      pictures={"alpha.svg": drawing.save_alpha})


ENTRY = entry(EnTranNAS, EnTranConfig, listed.LINES["entrannas"], {})
