"""The main jobs: transform an architecture, train architectures.

`transform`: trains a supernet and a policy (`methods.nat`, `methods.natpp`),
transforms the given architecture, trains the original and the transformed
network alike, and says what changed. `train` is its last part alone. Both are
resumed by calling them again with the same arguments.
"""

import os
from typing import Any

from natjax import data as data_lib
from natjax import errors
from natjax.graph import blocks
from natjax.graph import codec
from natjax.methods import differentiable
from natjax.methods import nat
from natjax.methods import supervised
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import presets
from natjax.pipeline.common import Listener
from natjax.pipeline.common import to_json
from natjax.pipeline.common import versions
from natjax.pipeline.differentiable_job import DifferentiableJob
from natjax.pipeline.seeds_job import SeedsJob
from natjax.pipeline.train_job import TrainJob
from natjax.pipeline.transform_job import METHODS as SEARCHES
from natjax.pipeline.transform_job import TransformJob

__all__ = ["METHODS", "DifferentiableJob", "Listener", "SeedsJob", "TrainJob",
           "TransformJob", "to_json", "train", "transform", "versions"]

METHODS = (*SEARCHES, DifferentiableJob.method)

Architecture = codec.Architecture


def transform(
    architecture: Architecture,
    dataset: data_lib.Dataset,
    *,
    out: str | os.PathLike[str],
    method: str = "nat",
    search: nat.NATConfig | differentiable.DifferentiableConfig | None = None,
    train: supervised.TrainConfig | None = None,
    space: str | None = None,
    share: str = "cell",
    simclr: simclr_lib.SimCLRConfig | None = None,
    seed: int = 0,
    devices: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
  """Transforms an architecture and trains it and what became of it.

  Args:
    architecture: what to transform: a genotype, or a network of blocks.
    dataset: images; the test images are looked at once, by trained networks.
    out: the run directory; an interrupted run there is resumed.
    method: of `METHODS`.
    search: settings of the search, `NATConfig`, or of the differentiable
      transformation, `DifferentiableConfig`; None is the preset "small".
    train: settings of the final training; None is the preset "small".
    space: of `spaces.SPACES`, for a genotype that NAT or NAT++ transforms;
      None chooses by the genotype.
    share: "cell" transforms blocks of one topology alike, "full" each by
      itself; a genotype's cells are shared by all layers ("cell"), and
      `blocks.from_genotype` makes a network of them that are not.
    simclr: settings of the self-supervised objective, for the differentiable
      transformation; None learns labels.
    seed: of everything random.
    devices: how many to spread over; None is all.
    overwrite: remove an earlier run in `out`.
    listener: who hears of the course.

  Returns:
    What `result.json` holds: "original" and "transformed" with "params",
    "madds", "accuracy" (mean over seeds, in [0, 1]), "accuracy_std" and
    "accuracies"; "changes"; "architectures", "seed", "versions", "seconds"; of
    NAT and NAT++ "candidates" with their scores; of the differentiable
    transformation, where every seed derives an architecture of its own, "seeds"
    ("changes", "architectures" and the files are then the first seed's, and
    costs are means).

  Raises:
    InputError: anything that does not fit, before anything is compiled.
    errors.NotMet: nothing that was found keeps to the budget of the settings.
  """
  default = presets.get("small", architecture, method, _objective(simclr))
  train = _fitting(train, architecture) or default.train
  if method == DifferentiableJob.method:
    search = search or default.theta
    _check_kind(search, differentiable.DifferentiableConfig, method)
    if space is not None:
      raise errors.InputError(
          f"space is '{space}', and a differentiable transformation has none;"
          " leave it out")
    job = DifferentiableJob(architecture, dataset, search, train, share=share,
                            seed=seed, devices=devices, simclr=simclr)
  else:
    search = search or default.search
    _check_kind(search, nat.NATConfig, method)
    if simclr is not None:
      raise errors.InputError(
          f"simclr is given, and method '{method}' learns labels; leave it out"
          " or choose 'differentiable'")
    job = TransformJob(
        architecture, dataset, search, train, method=method, space=space,
        share=share, seed=seed, devices=devices)
  return job.run(out, overwrite=overwrite, listener=listener or Listener())


def _fitting(train, architecture):
  """The settings; for a network of blocks, defaults of cells are left out."""
  default = supervised.TrainConfig()
  if train is None or not isinstance(architecture, blocks.BlockNetwork) or any(
      getattr(train, name) != getattr(default, name) for name in (
          "skeleton", "init_channels", "cells", "auxiliary", "drop_path")):
    return train
  return supervised.for_blocks(train)


def _objective(simclr):
  return "supervised" if simclr is None else "simclr"


def _check_kind(search, wanted, method):
  if not isinstance(search, wanted):
    raise errors.InputError(
        f"search is a {type(search).__name__}, and method '{method}' needs a"
        f" {wanted.__name__}; pass one, or leave it out")


def train(
    architecture: Architecture,
    dataset: data_lib.Dataset,
    *,
    out: str | os.PathLike[str],
    config: supervised.TrainConfig | None = None,
    simclr: simclr_lib.SimCLRConfig | None = None,
    seed: int = 0,
    devices: int | None = None,
    overwrite: bool = False,
    listener: Listener | None = None,
) -> dict[str, Any]:
  """Trains the network of an architecture, once per seed; see `transform`.

  With `simclr` it learns without labels: "accuracy" is then that of the nearest
  neighbours, and "linear_accuracy" stands beside it.

  Returns:
    What `result.json` holds: "params", "madds", "accuracy", "accuracy_std",
    "accuracies", "architecture", "seed", "versions", "seconds".
  """
  default = presets.get("small", architecture, objective=_objective(simclr))
  job = TrainJob(
      architecture, dataset, _fitting(config, architecture) or default.train,
      seed=seed, devices=devices, simclr=simclr)
  return job.run(out, overwrite=overwrite, listener=listener or Listener())
