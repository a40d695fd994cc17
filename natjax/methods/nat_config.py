"""Settings of NAT and NAT++, and which of them fit together."""

import dataclasses

from natjax.methods import acceptance, bounds, choice
from natjax.policies import gcn
from natjax.training import settings

BASELINES = ("auto", "leave_one_out", "none", "moving_average", "published")
POLICIES = ("default", "published")
FOCUSES = ("auto", "given", "general")


@dataclasses.dataclass(frozen=True)
class NATConfig(acceptance.TrialsConfig, bounds.BoundsConfig):
  """Settings of the search. The defaults are section 5.1's where it has any.

  None is what the architecture usually has (`FullNATConfig`).

  Attributes:
    init_channels: C of the supernet, of cells.
    cells: L of the supernet, of cells.
    supernet_width: factor of the supernet's widths, of a network of blocks.
    epochs: of the whole search.
    warmup_epochs: of these, the first, in which only the weights are trained;
      later each epoch has a weights phase, then a policy phase. 0 in the
      paper: the policy then first learns from the rewards of an untrained
      supernet.
    policy_epochs: of these, the last, in which only the policy is trained, by a
      supernet that stays as it is. 0 in the paper.
    batch_size: over all devices, of both phases.
    learning_rate: of the supernet's SGD.
    final_learning_rate: where a cosine schedule ends; as `learning_rate`, the
      rate is constant (the released code's effective schedule).
    momentum: of SGD.
    weight_decay: of SGD.
    max_grad_norm: clips the supernet's gradient; 0 does not.
    policy: "default" or "published" (the authors' controller and training).
    gcn_layers: graph convolutions, 1, 2, 5 or 10.
    policy_learning_rate: of Adam.
    focus: where input architectures are drawn (`spaces.inputs`): around the
      "given" one or ones, or from the whole space ("general", the paper's p,
      for a policy that is to serve many); "auto" is general with the published
      policy, else given.
    inputs: m, input architectures sampled per step and device.
    samples: n, transformations sampled per input.
    entropy_weight: lambda of equation 4.
    baseline: "leave_one_out", "moving_average" (of the reward), "none",
      "published" (their moving average, which is fed the advantage); "auto"
      is "published" with that policy, else leave-one-out if n > 1, else none.
    candidates: k, transformations sampled and scored at the end.
    selection: "sample" k candidates, or the "argmax" alone.
    prefer: the "cost" or the "accuracy": the cheapest of those whose score is
      within one standard error of the best, or the best score by any amount;
      or what is "sure": the best score if 0 lies below the interval of 95 % of
      its difference to the given architecture's, else that one is kept, unless
      trials on held-out images take something cheaper that scores within one
      standard error of it (of what keeps to a budget that it exceeds, the best
      score); "auto" is accuracy with the published policy, else sure.
    max_params: the most parameters that a candidate may have: a number, with
      K, M or G, or a multiple of the given architecture's such as "0.8x"; empty
      for no limit but the guard's.
    max_madds: likewise, multiply-adds. Of what is asked for most is used:
      unless `prefer` is accuracy, candidates are drawn near the budget.
    keep: what is never changed, a list of places by the words of the table of
      changes: blocks:0-2,blocks:5 or blocks:3/edge:1-2 of a network of blocks,
      normal, reduce or normal/edge:0-2 of cells; stem and head, which nothing
      changes anyway. Where blocks are decided on together, those that are kept
      are left out.
    weights_fraction: of the training images for the supernet's weights; the
      others are the policy's.
    dtype: "float32" or "bfloat16", of the supernet's computation.
  """

  init_channels: int | None = None
  cells: int | None = None
  supernet_width: float | None = None
  epochs: int = 200
  warmup_epochs: int = 0
  policy_epochs: int = settings.later(0)
  batch_size: int = 64
  learning_rate: float = 0.01
  final_learning_rate: float = 0.01
  momentum: float = 0.9
  weight_decay: float = 3e-4
  max_grad_norm: float = 0.0
  policy: str = "default"
  gcn_layers: int = 2
  policy_learning_rate: float = 3e-4
  focus: str = "auto"
  inputs: int = 1
  samples: int = 1
  entropy_weight: float = 0.003
  baseline: str = "auto"
  candidates: int = 10
  selection: str = "sample"
  prefer: str = "auto"
  max_params: str = ""
  max_madds: str = ""
  weights_fraction: float = 0.4
  dtype: str = "float32"
  keep: str = settings.later("")


@dataclasses.dataclass(frozen=True)
class FullNATConfig(NATConfig):
  """Settings for one kind of architecture; the defaults are those of cells."""

  init_channels: int = 20
  cells: int = 8
  supernet_width: float = 1.0


def resolve(config: NATConfig, kind: str) -> FullNATConfig:
  """The settings for a kind of architecture, if they fit together.

  Args:
    config: the settings; None is filled in.
    kind: "cells" or "blocks", as an architecture has it.

  Raises:
    InputError: an unknown choice, a baseline that needs other samples, a number
      out of range, or sizes that do not apply to the kind.
  """
  fixed, words = ({"init_channels": 0, "cells": 0}, "a network of blocks") if (
      kind == "blocks") else ({"supernet_width": 1.0}, "cells")
  full = settings.resolve(config, FullNATConfig, fixed, words)
  settings.plain(full)
  settings.one_of(full, policy=POLICIES, baseline=BASELINES, focus=FOCUSES,
                  selection=("sample", "argmax"), gcn_layers=gcn.LAYERS,
                  prefer=("auto", *choice.PREFERENCES),
                  dtype=("float32", "bfloat16"))
  settings.at_least_one(
      full, "epochs", "batch_size", "inputs", "samples", "candidates",
      "finalists")
  settings.above_zero(full, "supernet_width")
  settings.not_negative(
      full, "learning_rate", "final_learning_rate", "momentum", "weight_decay",
      "max_grad_norm", "policy_learning_rate", "entropy_weight", "trial_epochs")
  settings.other_samples(full)
  acceptance.check(full)
  bounds.check(full)
  if not 0 <= full.warmup_epochs < full.epochs:
    settings.refuse(
        full, "warmup_epochs", "must lie in [0, epochs) with epochs"
        f" {full.epochs}, since the policy needs epochs too; give fewer")
  left = full.epochs - max(full.warmup_epochs, 1)
  if not 0 <= full.policy_epochs <= left:
    settings.refuse(
        full, "policy_epochs", "must lie between 0 and the"
        f" {left} epochs that the weights leave;"
        " give fewer")
  if full.policy == "published" and full.focus == "given":
    settings.refuse(full, "focus", "does not apply to the published policy,"
                    " whose inputs are drawn as its authors' are; leave it out")
  if not 0 < full.weights_fraction < 1:
    settings.refuse(full, "weights_fraction", "must lie between 0 and 1; the"
                    " rest of the images trains the policy")
  return full


PRESETS = {
    "demo": NATConfig(init_channels=8, cells=4, epochs=100, warmup_epochs=50,
                      learning_rate=0.05, final_learning_rate=0.005,
                      max_grad_norm=1.0, policy_learning_rate=1e-4, samples=8,
                      candidates=30, weights_fraction=0.5),
    "small": NATConfig(init_channels=16, cells=8, epochs=30,
                       learning_rate=0.025, final_learning_rate=0.001,
                       max_grad_norm=5.0, policy_learning_rate=1e-3, samples=4),
    # Section 5.1 of Guo et al., 2021.
    "paper": NATConfig(baseline="none", focus="general", prefer="accuracy",
                       held_out=0.0),
}


def preset(name: str, objective: str, kind: str) -> FullNATConfig:
  """The settings of a preset for a kind of architecture."""
  config = PRESETS[name]
  if kind == "blocks":
    config = dataclasses.replace(config, init_channels=None, cells=None)
  return resolve(config, kind)
