"""Named settings of the commands.

`demo` runs in minutes on two CPU cores, `small` on one accelerator or, with
patience, on a CPU, and `paper` holds section 5.1 of Guo et al., 2021.
"""

from typing import NamedTuple

from natjax import errors
from natjax.methods import nat
from natjax.methods import supervised


class Preset(NamedTuple):
  """Settings of one command.

  Attributes:
    search: of the policy and its supernet.
    train: of the networks trained from scratch.
    image_size: side to which images are brought, in pixels.
  """

  search: nat.NATConfig
  train: supervised.TrainConfig
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
        image_size=8),
    "small": Preset(
        search=nat.NATConfig(
            init_channels=16, cells=8, epochs=30, learning_rate=0.025,
            final_learning_rate=0.001, max_grad_norm=5.0,
            policy_learning_rate=1e-3, samples=4),
        train=supervised.TrainConfig(
            init_channels=16, cells=8, epochs=30, drop_path=0.1,
            auxiliary=False, cutout=8, seeds=3)),
    "paper": Preset(
        search=nat.NATConfig(baseline="none"),
        train=supervised.TrainConfig(seeds=3)),
}


def get(name: str) -> Preset:
  """Looks a preset up by name (InputError)."""
  if name not in PRESETS:
    raise errors.InputError(
        f"preset '{name}' is unknown; choose one of {', '.join(PRESETS)}")
  return PRESETS[name]
