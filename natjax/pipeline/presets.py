"""Named settings of the commands.

`demo` runs in minutes on two CPU cores, `small` on one accelerator or, with
patience, on a CPU, and `paper` holds section 5.1 of Guo et al., 2021, or what
the paper of the method has. Those of `IMAGENET` train a network on it. The
settings of a method stand with the method (`methods.entry.Entry.presets`).
"""

import dataclasses
from typing import Any, NamedTuple

from natjax import errors, methods
from natjax.graph import codec
from natjax.methods import entry as entry_lib
from natjax.methods import listed, supervised
from natjax.objectives import arcface as arcface_lib
from natjax.objectives import simclr as simclr_lib
from natjax.spaces import base as spaces_lib

_PHOTOGRAPHS = supervised.TrainConfig(
    skeleton="imagenet", init_channels=48, cells=14, epochs=250,
    batch_size=128, learning_rate=0.1, weight_decay=3e-5, drop_path=0.0,
    label_smoothing=0.1, cutout=0)
# What cells are trained on ImageNet by: the code of Guo et al., 2021 (before it
# left their repository); that of Liu et al., 2019, whose factor of 0.97 per
# epoch is here taken step by step; that of Xu et al., 2020 (PC-DARTS), which
# EnTranNAS follows; and that of IT-NAS's chains (A.3), which does not say how
# the rate falls: by a cosine here.
IMAGENET = {
    "imagenet-nat": dataclasses.replace(_PHOTOGRAPHS, drop_path=0.2),
    "imagenet-darts": dataclasses.replace(
        _PHOTOGRAPHS, schedule="exponential",
        final_learning_rate=0.1 * 0.97**250),
    "imagenet-pcdarts": dataclasses.replace(
        _PHOTOGRAPHS, batch_size=1024, learning_rate=0.5, schedule="linear",
        final_learning_rate=0.0, warmup=5),
    "imagenet-itnas": dataclasses.replace(
        _PHOTOGRAPHS, epochs=240, batch_size=1024, learning_rate=0.5,
        final_learning_rate=0.0, weight_decay=4e-5)}
# A search on it as those of PC-DARTS, EnTranNAS and IT-NAS: an eighth of every
# class, of which four fifths are for the weights (10 % and 2.5 %). A method has
# of this what it has settings for; the rest is its own preset "paper".
SEARCH = "imagenet-search"
_SEARCH = {"skeleton": "imagenet", "epochs": 50, "batch_size": 1024,
           "learning_rate": 0.5, "final_learning_rate": 0.0,
           "alpha_learning_rate": 6e-3, "weights_fraction": 0.8}
# IT-NAS's chains have at most 600 M multiply-adds (section 4.2).
_SEARCH_CHAINS = {"weights_fraction": 0.8, "max_madds": "600M"}
# PC-DARTS's gradient is of first order. SPOS takes 150,000 steps, 120 walks
# over all images, which are 1200 over a tenth of them.
_SEARCH_OF: dict[str, dict[str, Any]] = {
    "darts": {"order": "first"}, "spos": {"epochs": 1200}}
_SEARCH_FRACTION = 0.125
PRESETS = (*listed.PRESETS, *listed.ON_IMAGENET)


class Preset(NamedTuple):
  """Settings of one command.

  Attributes:
    search: of the method; None of plain training.
    train: of the networks, for the kind of architecture.
    simclr: of the self-supervised objective.
    image_size: side to which images are brought, in pixels.
    resize: how; see `data.load`.
    train_fraction: of every class, likewise.
    arcface: of the objective for identities.
  """

  search: Any
  train: supervised.FullTrainConfig
  simclr: simclr_lib.SimCLRConfig
  image_size: int
  resize: str = "stretch"
  train_fraction: float | None = None
  arcface: arcface_lib.ArcFaceConfig = arcface_lib.ArcFaceConfig()


_TRAIN = {
    "demo": supervised.TrainConfig(
        init_channels=8, cells=4, epochs=15, batch_size=64, learning_rate=0.05,
        drop_path=0.0, auxiliary=False, cutout=0, seeds=3),
    "small": supervised.TrainConfig(
        init_channels=16, cells=8, epochs=30, drop_path=0.1, auxiliary=False,
        cutout=8, seeds=3),
    "paper": supervised.TrainConfig(seeds=3)}
# What changes for a network of blocks, which brings its own depth and width;
# "paper" trains it as He et al., 2016, section 4.2, train theirs.
_BLOCKS: dict[str, dict[str, Any]] = {
    "demo": {}, "small": {"learning_rate": 0.05, "cutout": 0},
    "paper": {"epochs": 200, "batch_size": 128, "learning_rate": 0.1,
              "final_learning_rate": 0.0, "weight_decay": 1e-4,
              "max_grad_norm": 0.0, "cutout": 0}}
# Without labels, whatever the preset: Adam at a constant rate, and nothing that
# needs labels or is not in SimCLR.
_SIMCLR = {
    "optimizer": "adam", "learning_rate": 1e-3, "final_learning_rate": 1e-3,
    "weight_decay": 1e-6, "max_grad_norm": 0.0, "auxiliary": False,
    "drop_path": 0.0, "cutout": 0}
# With 24 cells of 90 channels DARTS has 24.45 M parameters, the projection head
# with them and no classifier; 92 would be 25.5 M, and ResNet50 has 24.6 M.
_SIMCLR_PAPER = {"epochs": 500, "batch_size": 512, "seeds": 1, "cells": 24,
                 "init_channels": 90}


# Deng et al., 2019 (ArcFace), section 3.1, on CASIA-WebFace: 32 thousand
# updates of 512 images, which are 34 epochs. They divide the rate by 10 at 20
# and 28 thousand, where natjax has a cosine.
_ARCFACE = {"auxiliary": False, "cutout": 0}
_ARCFACE_PAPER = {
    "epochs": 34, "batch_size": 512, "learning_rate": 0.1,
    "final_learning_rate": 0.0, "weight_decay": 5e-4, "max_grad_norm": 0.0,
    "drop_path": 0.0, "seeds": 1}
_FACE_SIZE = 112


def get(name: str, architecture: codec.Architecture | None = None,
        method: str | None = "nat", objective: str = "supervised") -> Preset:
  """Looks a preset up by name.

  Args:
    name: of `PRESETS`.
    architecture: what it is for; None is a genotype.
    method: of `methods.METHODS`; None trains alone.
    objective: "supervised"; "simclr", of which "paper" is that of "Proxyless
      Neural Architecture Adaptation"; or "arcface", of which it is that of
      Deng et al., 2019, on CASIA-WebFace.

  Raises:
    InputError: no such preset or objective, a preset of training alone for a
      method, or a method of another package whose presets are none of its
      settings.
  """
  errors.known("preset", name, PRESETS)
  errors.known("objective", objective, entry_lib.OBJECTIVES)
  if method is not None:
    errors.known("method", method, methods.METHODS)
  kind = "cells" if architecture is None else codec.check(architecture).kind
  if name in IMAGENET:
    return _imagenet(name, kind, method, objective, architecture)
  if name == SEARCH:
    return _search(architecture, kind, method, objective)
  labelled = kind == "blocks" and objective == "supervised"
  changes = dict(_BLOCKS[name] if labelled else {})
  search = None
  if method is not None:
    entry = methods.METHODS[method]
    with errors.guarded(entry.presets, f"presets of method '{method}'"):
      search = entry.presets(
          name, objective, "chain" if architecture is not None and (
              spaces_lib.is_chain(architecture)) else kind)
    if not isinstance(search, entry.settings):
      raise errors.InputError(
          f"the presets of method '{method}' gave {errors.short(search)} for"
          f" {name} and must give a {entry.settings.__name__}; mend its"
          " package")
    changes |= entry.training.get((name, objective), {})
  if objective == "simclr":
    changes |= _SIMCLR | (_SIMCLR_PAPER if name == "paper" else {})
  if objective == "arcface":
    changes |= _ARCFACE | (_ARCFACE_PAPER if name == "paper" else {})
  if kind == "blocks":
    changes |= supervised.OF_CELLS
  train = dataclasses.replace(_TRAIN[name], **changes)
  return Preset(
      search, supervised.resolve(train, kind), simclr_lib.SimCLRConfig(),
      8 if name == "demo" else _FACE_SIZE if objective == "arcface" else 32)


def _imagenet(name, kind, method, objective, architecture=None):
  """A preset of training on ImageNet.

  That of Guo et al., 2021, also transforms networks of blocks there (Table 1);
  cells they transform on CIFAR-10.
  """
  search = None
  if name == "imagenet-nat" and method in ("nat", "natpp") and (
      kind == "blocks" and objective == "supervised"):
    search = get("paper", architecture, method).search
  elif method is not None or objective != "supervised":
    raise errors.InputError(
        f"preset {name} is of training a network by its labels, as natjax train"
        " does, or imagenet-nat of transforming one of blocks by nat or natpp;"
        " give demo, small or paper here, and train with it what is found",
        "preset")
  changes: dict[str, Any] = supervised.OF_CELLS if kind == "blocks" else {}
  return Preset(search, supervised.resolve(
      dataclasses.replace(IMAGENET[name], **changes), kind),
      simclr_lib.SimCLRConfig(), 224, "imagenet")


def _search(architecture, kind, method, objective):
  """A preset of searching on ImageNet."""
  chain = architecture is not None and spaces_lib.is_chain(architecture)
  needed = "weights_fraction" if chain else "skeleton"
  entry = None if method is None else methods.METHODS[method]
  if entry is None or entry.starts == "given" or objective != "supervised" or (
      not chain and kind != "cells") or needed not in _fields(entry.settings):
    raise errors.InputError(
        f"preset {SEARCH} is of searches for cells or chains by a supernet;"
        " give another, or natjax search --space darts with --method darts,"
        " entrannas, entrannas-dst, it-nas or spos, or --space proxyless with"
        " it-nas or spos", "preset")
  changes = {name: value for name, value in (
      (_SEARCH_CHAINS if chain else _SEARCH) | _SEARCH_OF.get(method, {})
  ).items() if name in _fields(entry.settings)}
  recipe = "imagenet-itnas" if chain else "imagenet-pcdarts"
  return _imagenet(recipe, kind, None, objective)._replace(
      search=dataclasses.replace(
          get("paper", architecture, method).search, **changes),
      train_fraction=_SEARCH_FRACTION)


def _fields(settings):
  return {field.name for field in dataclasses.fields(settings)}
