"""Named settings of the commands.

`demo` runs in minutes on two CPU cores, `small` on one accelerator or, with
patience, on a CPU, and `paper` holds section 5.1 of Guo et al., 2021, or for
differentiable transformation section 4.1 of its paper.
"""

import dataclasses
from typing import NamedTuple

from natjax import errors
from natjax.graph import codec
from natjax.methods import differentiable
from natjax.methods import nat
from natjax.methods import supervised
from natjax.objectives import simclr as simclr_lib


class Preset(NamedTuple):
  """Settings of one command.

  Attributes:
    search: of the policy and its supernet.
    train: of the networks trained from scratch.
    theta: of a differentiable transformation.
    simclr: of the self-supervised objective.
    image_size: side to which images are brought, in pixels.
  """

  search: nat.NATConfig
  train: supervised.TrainConfig
  theta: differentiable.DifferentiableConfig
  image_size: int = 32
  simclr: simclr_lib.SimCLRConfig = simclr_lib.SimCLRConfig()


OBJECTIVES = ("supervised", "simclr")
PRESETS = {
    "demo": Preset(
        search=nat.NATConfig(
            init_channels=8, cells=4, epochs=100, warmup_epochs=50,
            learning_rate=0.05, final_learning_rate=0.005, max_grad_norm=1.0,
            policy_learning_rate=1e-4, samples=8, candidates=30,
            weights_fraction=0.5),
        train=supervised.TrainConfig(
            init_channels=8, cells=4, epochs=15, batch_size=64,
            learning_rate=0.05, drop_path=0.0, auxiliary=False, cutout=0,
            seeds=3),
        theta=differentiable.DifferentiableConfig(theta_learning_rate=1e-2),
        image_size=8),
    "small": Preset(
        search=nat.NATConfig(
            init_channels=16, cells=8, epochs=30, learning_rate=0.025,
            final_learning_rate=0.001, max_grad_norm=5.0,
            policy_learning_rate=1e-3, samples=4),
        train=supervised.TrainConfig(
            init_channels=16, cells=8, epochs=30, drop_path=0.1,
            auxiliary=False, cutout=8, seeds=3),
        theta=differentiable.DifferentiableConfig()),
    "paper": Preset(
        search=nat.NATConfig(baseline="none"),
        train=supervised.TrainConfig(seeds=3),
        theta=differentiable.DifferentiableConfig(architecture_epochs=300)),
}


# What changes for a network of blocks, which brings its own depth and width;
# "paper" trains it as He et al., 2016, section 4.2, train theirs.
_BLOCKS = {
    "demo": {},
    "small": {"learning_rate": 0.05, "cutout": 0},
    "paper": {"epochs": 200, "batch_size": 128, "learning_rate": 0.1,
              "final_learning_rate": 0.0, "weight_decay": 1e-4,
              "max_grad_norm": 0.0, "cutout": 0},
}


# "paper" of differentiable transformation trains all networks for 600 epochs
# at a rate of 0.025, and cuts out for those found by a search alone.
_DIFFERENTIABLE = {"epochs": 600, "learning_rate": 0.025, "seeds": 5}

# Without labels, whatever the preset: Adam at a constant rate, and nothing that
# needs labels or is not in SimCLR.
_SIMCLR = {
    "optimizer": "adam", "learning_rate": 1e-3, "final_learning_rate": 1e-3,
    "weight_decay": 1e-6, "max_grad_norm": 0.0, "auxiliary": False,
    "drop_path": 0.0, "cutout": 0}
# With 24 cells of 90 channels DARTS has 24.45 M parameters, the projection head
# with them and no classifier; 92 would be 25.5 M, and ResNet50 has 24.6 M.
_SIMCLR_CELLS = {"cells": 24, "init_channels": 90}
_SIMCLR_PAPER = {"epochs": 500, "batch_size": 512, "seeds": 1}


def get(
    name: str,
    architecture: codec.Architecture | None = None,
    method: str = "nat",
    objective: str = "supervised",
) -> Preset:
  """Looks a preset up by name.

  Args:
    name: of `PRESETS`.
    architecture: what it is for; None is a genotype.
    method: "nat", "natpp" or "differentiable"; it matters to "paper".
    objective: "supervised" or "simclr"; "paper" is then that of "Proxyless
      Neural Architecture Adaptation".

  Raises:
    InputError: no such preset or objective.
  """
  if name not in PRESETS:
    raise errors.InputError(
        f"preset '{name}' is unknown; choose one of {', '.join(PRESETS)}")
  if objective not in OBJECTIVES:
    raise errors.InputError(
        f"objective '{objective}' is unknown; choose one of"
        f" {', '.join(OBJECTIVES)}")
  preset = PRESETS[name]
  blocks = architecture is not None and architecture.kind == "blocks"
  train = preset.train
  if name == "paper" and method == "differentiable":
    train = dataclasses.replace(train, **_DIFFERENTIABLE)
  if objective == "simclr":
    train = dataclasses.replace(train, **_SIMCLR)
    if name == "paper":
      train = dataclasses.replace(train, **_SIMCLR_PAPER, **_SIMCLR_CELLS)
      preset = preset._replace(theta=dataclasses.replace(
          preset.theta, architecture_epochs=250))
  if blocks:
    changes = {} if objective == "simclr" else _BLOCKS[name]
    train = supervised.for_blocks(train, **changes)
    if name == "paper" and method == "differentiable" and (
        objective != "simclr"):
      train = dataclasses.replace(train, **_DIFFERENTIABLE)
    preset = preset._replace(search=dataclasses.replace(
        preset.search, init_channels=0, cells=0))
  return preset._replace(train=train)
