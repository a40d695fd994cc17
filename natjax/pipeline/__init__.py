"""The main jobs: transform an architecture, train architectures.

`transform`: trains a supernet and a policy (`methods.nat`, `methods.natpp`),
transforms the given architecture, trains the original and the transformed
network alike, and says what changed. `train` is its last part alone. Both are
resumed by calling them again with the same arguments.
"""

import os
from typing import Any

from natjax import codec
from natjax import data as data_lib
from natjax import presets
from natjax.methods import nat
from natjax.methods import supervised
from natjax.pipeline.common import Listener
from natjax.pipeline.common import to_json
from natjax.pipeline.common import versions
from natjax.pipeline.train_job import TrainJob
from natjax.pipeline.transform_job import METHODS
from natjax.pipeline.transform_job import TransformJob

__all__ = ["METHODS", "Listener", "TrainJob", "TransformJob", "to_json",
           "train", "transform", "versions"]

Architecture = codec.Architecture


def transform(
    architecture: Architecture,
    dataset: data_lib.Dataset,
    *,
    out: str | os.PathLike[str],
    method: str = "nat",
    search: nat.NATConfig | None = None,
    train: supervised.TrainConfig | None = None,
    space: str | None = None,
    share: str = "cell",
    seed: int = 0,
    devices: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
  """Transforms an architecture by NAT or NAT++ and trains both networks.

  Args:
    architecture: what to transform: a genotype, or a network of blocks.
    dataset: images; the test images are looked at once, by trained networks.
    out: the run directory; an interrupted run there is resumed.
    method: "nat" or "natpp".
    search: settings of the search; None is the preset "small".
    train: settings of the final training; None is the preset "small".
    space: of `spaces.SPACES`, for a genotype; None chooses by the genotype.
    share: "cell" transforms blocks of one topology alike, "full" each by
      itself; a genotype's cells are shared by all layers ("cell").
    seed: of everything random.
    devices: how many to spread over; None is all.
    overwrite: remove an earlier run in `out`.
    listener: who hears of the course.

  Returns:
    What `result.json` holds: "original" and "transformed" with "params",
    "madds", "accuracy" (mean over seeds, in [0, 1]), "accuracy_std" and
    "accuracies"; "changes"; "candidates" with their scores; "architectures",
    "seed", "versions", "seconds".

  Raises:
    InputError: anything that does not fit, before anything is compiled.
    budget.NotMet: no candidate keeps to the budget of the settings.
  """
  default = presets.get("small", architecture)
  job = TransformJob(
      architecture, dataset, search or default.search, train or default.train,
      method=method, space=space, share=share, seed=seed, devices=devices)
  return job.run(out, overwrite=overwrite, listener=listener or Listener())


def train(
    architecture: Architecture,
    dataset: data_lib.Dataset,
    *,
    out: str | os.PathLike[str],
    config: supervised.TrainConfig | None = None,
    seed: int = 0,
    devices: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
  """Trains the network of an architecture, once per seed; see `transform`.

  Returns:
    What `result.json` holds: "params", "madds", "accuracy", "accuracy_std",
    "accuracies", "architecture", "seed", "versions", "seconds".
  """
  default = presets.get("small", architecture)
  job = TrainJob(architecture, dataset, config or default.train, seed=seed,
                 devices=devices)
  return job.run(out, overwrite=overwrite, listener=listener or Listener())
