"""What networks learn from a data set, and how they are judged.

By its labels ("supervised"), judged by test accuracy; by the angles between
images and identities ("arcface"), judged so too, as pairs of other people are
by `pipeline.verify`; or by telling the views of one image from those of others
("simclr"), judged by the nearest neighbours of its features and by a linear
classifier on them.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.data import crops
from natjax.graph import codec, records
from natjax.methods import supervised
from natjax.networks import network as network_lib
from natjax.objectives import arcface as arcface_lib
from natjax.objectives import classification as objectives
from natjax.objectives import simclr as simclr_lib
from natjax.training import fit as fit_lib
from natjax.training import method as base
from natjax.training import settings


class Judged(NamedTuple):
  """How a network did on the test images.

  Attributes:
    scores: its accuracies, in [0, 1].
    right: bool[N], of every image that is not damaged, in their order, whether
      "accuracy" counts it.
  """

  scores: dict[str, float]
  right: np.ndarray


class Labels:
  """Learning the labels.

  Attributes:
    dataset: the images.
    config: how networks are trained.
    num_classes: of the classifier.
    objective: "supervised".
    criterion: what a supernet of classifiers minimises.
    embedding: of the networks' place, see `records.Skeleton`.
    make_objective: `(config, architecture, place) -> objective`.
    train: the training images.
    test: the test images.
    views: of every image that a step looks at.
  """

  objective = "supervised"
  criterion = objectives.CROSS_ENTROPY
  embedding = 0
  views = 1
  make_objective: objectives.Maker = staticmethod(supervised.classification)

  def __init__(self, dataset: data_lib.Dataset,
               config: supervised.FullTrainConfig):
    self.dataset, self.config = dataset, config
    self.num_classes = dataset.num_classes
    images = dataset.train_images
    if isinstance(images, data_lib.Streamed):  # They are cropped as decoded.
      images = images.cropped(self.crop)
    self.train = fit_lib.Split(images, dataset.train_labels)
    self.test = fit_lib.Split(dataset.test_images, dataset.test_labels)

  @functools.cached_property
  def _some(self):
    return _some(self.train)

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the objective."""
    return {}

  def keep(self, variables: Any) -> Any:
    """The part of trained variables that is written to a file: all."""
    return variables

  def plain(self, dtype: str, *, cutout: int = 0) -> fit_lib.Preparation:
    """How images are augmented and normalised to learn labels."""
    augmentation = self.dataset.augmentation._replace(cutout=cutout)
    if self.dataset.streamed:
      augmentation = augmentation.on_device
    return fit_lib.Preparation(
        self.dataset.mean, self.dataset.std, augmentation, jnp.dtype(dtype))

  @property
  def crop(self) -> crops.Crop | None:
    """How images are cropped as they are decoded, of those on disk."""
    return self.dataset.augmentation.crop

  @property
  def preparation(self) -> fit_lib.Preparing:
    """How images are augmented and normalised."""
    return self.plain(self.config.dtype, cutout=self.config.cutout)

  def judge(self, objective: objectives.Objective,
            variables: Any) -> Judged:
    """The accuracy on the test images, looked at once.

    Of sets of 100 classes and more that of the five first answers, too.

    Args:
      objective: of the network.
      variables: of the trained network, on one device.
    """
    many = self.num_classes >= objectives.MANY
    found = fit_lib.walk(
        objective.ranks if many else objective.is_right, variables, self.test,
        preparation=self.preparation,
        batch_size=max(self.config.batch_size, 128), each=True)
    found = found if many else {"accuracy": found}
    return Judged({name: float(np.mean(each)) for name, each in found.items()},
                  found["accuracy"] > 0)

  def glance(self, method: base.Method, state: base.State) -> float:
    """The accuracy on up to 10,000 training images, not augmented."""
    return self._accuracy(method.evaluate, state, self._some)

  def watching(self, held_out: fit_lib.Split | None
               ) -> supervised.Watch | None:
    """What is called after every epoch of a network's training.

    It tells the accuracy on up to 10,000 held-out images.

    Args:
      held_out: training images that no network sees; of None nothing is told.
    """
    if held_out is None:
      return None
    some = _some(held_out)
    return lambda method, state, epoch: {
        "held_out_accuracy": self._accuracy(method.evaluate, state, some)}

  def _accuracy(self, predict, state, split):
    return fit_lib.evaluate(predict, state, split, preparation=self.preparation,
                            batch_size=max(self.config.batch_size, 128))


class Identities(Labels):
  """Learning the labels by ArcFace; test images are of the same identities.

  Attributes:
    arcface: settings of the objective.
  """

  objective = "arcface"

  def __init__(self, dataset: data_lib.Dataset,
               config: supervised.FullTrainConfig,
               arcface: arcface_lib.ArcFaceConfig):
    """Args:
      dataset: the images.
      config: how networks are trained.
      arcface: settings of the objective.

    Raises:
      InputError: settings of training that a margin leaves no room for.
    """
    super().__init__(dataset, config)
    with errors.within("arcface"):
      self.arcface = arcface_lib.check(arcface)
    self.embedding = self.arcface.embedding
    self.criterion = arcface_lib.Criterion(self.arcface)
    _refuse(config, self.objective, "auxiliary", "label_smoothing")

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the objective."""
    return {"objective": self.objective,
            "arcface": dataclasses.asdict(self.arcface)}

  def make_objective(self, config: supervised.FullTrainConfig,
                     architecture: codec.Architecture,
                     place: records.Place) -> objectives.Objective:
    """The objective of an architecture in a place with an embedding."""
    return arcface_lib.ArcFace(self.arcface, network_lib.module(
        architecture, place, axis_name=base.AXIS if config.sync_bn else None))


class Views(Labels):
  """Learning without labels, by SimCLR; labels serve to judge alone.

  Attributes:
    simclr: settings of the objective.
  """

  objective = "simclr"
  views = 2

  def __init__(self, dataset: data_lib.Dataset,
               config: supervised.FullTrainConfig,
               simclr: simclr_lib.SimCLRConfig):
    """Args:
      dataset: the images.
      config: how networks are trained.
      simclr: settings of the objective.

    Raises:
      InputError: settings of training that apply to labels alone.
    """
    super().__init__(dataset, config)
    with errors.within("simclr"):
      self.simclr = simclr_lib.check(simclr)
    self.num_classes = 0
    _refuse(config, self.objective, "auxiliary", "label_smoothing", "cutout")
    if config.accumulate > 1:
      settings.refuse(config, "accumulate", "does not apply to the objective"
                      " simclr, which compares all views of a batch; leave it"
                      " out")
    if config.batch_size < 2:
      settings.refuse(config, "batch_size", "must be at least 2 for simclr,"
                      " which compares an image with others; give 256")

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the objective."""
    return {"objective": self.objective,
            "simclr": dataclasses.asdict(self.simclr)}

  def make_objective(self, config: supervised.FullTrainConfig,
                     architecture: codec.Architecture,
                     place: records.Place) -> objectives.Objective:
    """The contrastive objective of an architecture without a classifier."""
    return simclr_lib.SimCLR(
        self.simclr, architecture, place, sync_bn=config.sync_bn)

  @property
  def crop(self) -> None:
    """None, as views are drawn on the device."""
    return None

  @property
  def preparation(self) -> fit_lib.Preparing:
    """How views are drawn and images normalised."""
    plain = self.plain(self.config.dtype)
    return data_lib.TwoViews(
        plain.mean, plain.std, simclr_lib.views(self.simclr), plain.dtype)

  def keep(self, variables: Any) -> Any:
    """The network's variables; the projection head has done its work."""
    return {kind: part["network"] for kind, part in variables.items()}

  def watching(self, held_out: fit_lib.Split | None) -> supervised.Watch:
    """What tells the accuracy of the neighbours, every `watch_epochs` epochs.

    Of training images that are left out of those that vote, so that the test
    images stay unseen.

    Args:
      held_out: not looked at.
    """
    del held_out
    every = self.simclr.watch_epochs

    def watch(method, state, epoch):
      due = every and (epoch + 1) % every == 0
      return {"neighbours": self.glance(method, state)} if due else {}

    return watch

  def judge(self, objective: objectives.Objective,
            variables: Any) -> Judged:
    """Neighbours and a linear classifier on the test images' features."""
    bank, queries = (
        self._extract(objective.features, variables, part)
        for part in (self.train, self.test))
    right = simclr_lib.right(
        self.simclr, bank, queries, self.dataset.num_classes)
    return Judged({"accuracy": float(np.mean(right)), **simclr_lib.probe(
        self.simclr, bank, queries, self.dataset.num_classes)}, right)

  def glance(self, method: base.Method, state: base.State) -> float:
    """The accuracy of the neighbours among up to 10,000 training images."""
    parts = simclr_lib.divide(self._some, self.simclr.watch_images)
    bank, queries = (
        self._extract(method.features, state, part) for part in parts)
    return float(np.mean(simclr_lib.right(
        self.simclr, bank, queries, self.dataset.num_classes)))

  def _extract(self, features, state, part):
    return simclr_lib.extract(features, state, part, self.preparation)


Config = simclr_lib.SimCLRConfig | arcface_lib.ArcFaceConfig | None


def _some(split):
  """Up to 10,000 images of a split, evenly chosen."""
  size = len(split.labels)
  rows = np.linspace(0, size - 1, min(size, 10_000)).astype(int)
  return fit_lib.Split(*(x[rows] for x in split))


def choose(dataset: data_lib.Dataset, config: supervised.FullTrainConfig,
           objective: Config) -> Labels:
  """What learns and judges by the settings of an objective; None by labels.

  Raises:
    InputError: settings of training that do not apply to it, or settings that
      are those of no objective.
  """
  if objective is None:
    return Labels(dataset, config)
  if isinstance(objective, arcface_lib.ArcFaceConfig):
    return Identities(dataset, config, objective)
  return Views(dataset, config, objective)


def one_of(simclr: simclr_lib.SimCLRConfig | None,
           arcface: arcface_lib.ArcFaceConfig | None) -> Config:
  """The settings that are given, of at most one objective.

  Raises:
    InputError: those of both, or of another class.
  """
  if simclr is not None and arcface is not None:
    raise errors.InputError("arcface and simclr are given, two objectives of"
                            " one training; leave one of them out", "arcface")
  if arcface is not None and not isinstance(
      arcface, arcface_lib.ArcFaceConfig):
    raise errors.InputError(
        f"arcface is {errors.short(arcface)} and must be an ArcFaceConfig",
        "arcface")
  return arcface if simclr is None else simclr


def name(objective: Config) -> str:
  """The name of the objective whose settings are given."""
  if objective is None:
    return Labels.objective
  return (Identities if isinstance(objective, arcface_lib.ArcFaceConfig)
          else Views).objective


def _refuse(config, objective, *names):
  """Refuses settings of training that do not apply to an objective."""
  for name in names:
    if getattr(config, name):
      settings.refuse(config, name, f"does not apply to the objective"
                      f" {objective}; leave it out")
