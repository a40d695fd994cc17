"""Named settings of the commands.

`demo` runs in minutes on two CPU cores, `small` on one accelerator or, with
patience, on a CPU, and `paper` holds section 5.1 of Guo et al., 2021, or for
differentiable transformation section 4.1 of its paper.
"""

import dataclasses
from typing import NamedTuple

from natjax import blocks as blocks_lib
from natjax import codec
from natjax import errors
from natjax.methods import differentiable
from natjax.methods import nat
from natjax.methods import supervised


class Preset(NamedTuple):
  """Settings of one command.

  Attributes:
    search: of the policy and its supernet.
    train: of the networks trained from scratch.
    theta: of a differentiable transformation.
    image_size: side to which images are brought, in pixels.
  """

  search: nat.NATConfig
  train: supervised.TrainConfig
  theta: differentiable.DifferentiableConfig
  image_size: int = 32


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
        theta=differentiable.DifferentiableConfig(
            architecture_epochs=8, theta_learning_rate=1e-2),
        image_size=8),
    "small": Preset(
        search=nat.NATConfig(
            init_channels=16, cells=8, epochs=30, learning_rate=0.025,
            final_learning_rate=0.001, max_grad_norm=5.0,
            policy_learning_rate=1e-3, samples=4),
        train=supervised.TrainConfig(
            init_channels=16, cells=8, epochs=30, drop_path=0.1,
            auxiliary=False, cutout=8, seeds=3),
        theta=differentiable.DifferentiableConfig(architecture_epochs=15)),
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


def get(
    name: str, architecture: codec.Architecture | None = None,
    method: str = "nat",
) -> Preset:
  """Looks a preset up by name.

  Args:
    name: of `PRESETS`.
    architecture: what it is for; None is a genotype.
    method: "nat", "natpp" or "differentiable"; it matters to "paper".

  Raises:
    InputError: no such preset.
  """
  if name not in PRESETS:
    raise errors.InputError(
        f"preset '{name}' is unknown; choose one of {', '.join(PRESETS)}")
  preset = PRESETS[name]
  if isinstance(architecture, blocks_lib.BlockNetwork):
    preset = preset._replace(
        search=dataclasses.replace(preset.search, init_channels=0, cells=0),
        train=supervised.for_blocks(preset.train, **_BLOCKS[name]))
  if name == "paper" and method == "differentiable":
    preset = preset._replace(
        train=dataclasses.replace(preset.train, **_DIFFERENTIABLE))
  return preset
