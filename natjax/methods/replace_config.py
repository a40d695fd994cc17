"""Settings of the replacement, and which of them fit together."""

import dataclasses

from natjax.methods import acceptance, bounds, supervised
from natjax.training import settings


@dataclasses.dataclass(frozen=True)
class ReplaceConfig(bounds.BoundsConfig):
  """Settings of the replacement; `supervised.TrainConfig` has the others.

  Attributes:
    distil_epochs: in which the replacements learn, per round; 0 is a sixth of
      the epochs of the training, rounded up.
    distil_learning_rate: of Adam, where its cosine schedule starts.
    price_images: training images by which a replacement is priced.
    price_checks: choices at random by which the sum of prices is checked.
    rounds: in which the budget is reached, by equal factors.
    tune_epochs: of the tuning, per round; 0 is a third of the epochs of the
      training, rounded up.
    tune_learning_rate: where its cosine schedule starts, which ends at 0; 0 is
      where that of the training starts.
    distillation: share of the divergence from the original in the loss of the
      tuning.
    temperature: T, of both distributions there.
    max_params: the most parameters of what is returned, if it is not the
      original: a number, with K, M or G, or a multiple of the given
      architecture's such as "0.8x"; empty for no limit.
    max_madds: likewise, multiply-adds.
    keep: what is never changed, a list of places by the words of the table of
      changes: blocks:0-2,blocks:5 or blocks:3/edge:1-2 of a network of blocks,
      normal, reduce or normal/edge:0-2 of cells; stem and head, which nothing
      changes anyway. Where blocks are decided on together, those that are kept
      are left out.
    operations: names of the operations that may take another's place, separated
      by commas, such as conv_1x1,skip_connect,null; empty for all that the
      method knows.
    tolerance: by how many percentage points a cheaper network may be worse
      than the original on held-out images, and be returned.
    held_out: the part of the training images that is held out for that; 0
      returns what was chosen unseen.
    tries: how often a milder cut is tried, where no budget is given, or one
      that the given architecture keeps to.
  """

  distil_epochs: int = 0
  distil_learning_rate: float = 3e-3
  price_images: int = 512
  price_checks: int = 50
  rounds: int = 1
  tune_epochs: int = 0
  tune_learning_rate: float = 0.0
  distillation: float = 0.5
  temperature: float = 2.0
  max_params: str = ""
  max_madds: str = ""
  tolerance: float = 0.5
  held_out: float = 0.1
  tries: int = 3
  keep: str = settings.later("")
  operations: str = settings.later("")


def resolve(config: ReplaceConfig,
            train: supervised.FullTrainConfig) -> ReplaceConfig:
  """The settings beside those of a training, if they fit together.

  Raises:
    InputError: a number out of range.
  """
  settings.plain(config)
  settings.at_least_one(config, "price_images", "rounds", "tries")
  settings.not_negative(
      config, "distil_epochs", "distil_learning_rate", "price_checks",
      "tune_epochs", "tune_learning_rate")
  if not 0 < config.temperature <= 100:
    settings.refuse(config, "temperature", "must lie in (0, 100]; give 2")
  if config.rounds > 10:
    settings.refuse(config, "rounds", "must be at most 10; give 2")
  acceptance.check(config)
  bounds.check(config)
  if not 0 <= config.distillation <= 1:
    settings.refuse(config, "distillation", "must lie in [0, 1], a share of the"
                    " loss; give 0.5")
  if not 0 <= config.price_checks <= 10_000 or config.price_checks in (1, 2):
    settings.refuse(config, "price_checks", "must be 0 or at least 3, to have a"
                    " rank correlation; give 50")
  return dataclasses.replace(
      config, distil_epochs=config.distil_epochs or -(-train.epochs // 6),
      tune_epochs=config.tune_epochs or -(-train.epochs // 3),
      tune_learning_rate=config.tune_learning_rate or train.learning_rate)


def preset(name: str, objective: str, kind: str) -> ReplaceConfig:
  """The settings of a preset; they follow the training's, whatever it is."""
  del name, objective, kind
  return ReplaceConfig()
