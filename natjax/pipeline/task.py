"""What networks learn from a data set, and how they are judged.

By its labels ("supervised"), judged by test accuracy; or by telling the views
of one image from those of others ("simclr"), judged by the nearest neighbours
of its features and by a linear classifier on them.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

from natjax import data as data_lib
from natjax import errors
from natjax.graph import codec
from natjax.graph import records
from natjax.methods import supervised
from natjax.objectives import classification as objectives
from natjax.objectives import simclr as simclr_lib
from natjax.pipeline import common
from natjax.training import fit as fit_lib


class Supervised:
  """Learning the labels.

  Attributes:
    dataset: the images.
    config: how networks are trained.
    num_classes: of the classifier.
    objective: "supervised".
  """

  objective = "supervised"

  def __init__(
      self, dataset: data_lib.Dataset, config: supervised.TrainConfig
  ):
    self.dataset, self.config = dataset, config
    self.num_classes = dataset.num_classes

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the objective."""
    return {}

  def make_objective(
      self, config: supervised.TrainConfig, architecture: codec.Architecture,
      place: records.Place,
  ) -> objectives.Objective:
    """The objective of an architecture; see `objectives.Maker`."""
    return supervised.classification(config, architecture, place)

  # Called as `(method, state, epoch)` after every epoch, where it is not None.
  watch: Callable[[Any, Any, int], dict[str, Any]] | None = None

  def keep(self, variables: Any) -> Any:
    """The part of trained variables that is written to a file: all."""
    return variables

  @property
  def preparation(self) -> fit_lib.Preparation:
    """How images are augmented and normalised."""
    return common.preparation(self.dataset, self.config.dtype,
                              cutout=self.config.cutout)

  def place(self, architecture: codec.Architecture) -> records.Place:
    """Where an architecture is trained; see `supervised.place_of`."""
    return supervised.place_of(
        self.config, architecture, num_classes=self.num_classes,
        image_size=self.dataset.train_images.shape[1])

  def judge(self, method: Any, state: Any) -> dict[str, float]:
    """The accuracy on the test images, looked at once.

    Args:
      method: with `evaluate(state, batch)`.
      state: of the trained network, on one device.
    """
    test = fit_lib.Split(self.dataset.test_images, self.dataset.test_labels)
    return {"accuracy": self._accuracy(method, state, test)}

  def glance(self, method: Any, state: Any, most: int = 10000) -> float:
    """The accuracy on up to `most` training images, not augmented."""
    train = fit_lib.Split(self.dataset.train_images[:most],
                          self.dataset.train_labels[:most])
    return self._accuracy(method, state, train)

  def _accuracy(self, method, state, split):
    return fit_lib.evaluate(
        method.evaluate, state, split, preparation=self.preparation,
        batch_size=max(self.config.batch_size, 128))


class SelfSupervised(Supervised):
  """Learning without labels, by SimCLR.

  Attributes:
    simclr: settings of the objective.
  """

  objective = "simclr"

  def __init__(
      self, dataset: data_lib.Dataset, config: supervised.TrainConfig,
      simclr: simclr_lib.SimCLRConfig,
  ):
    """Args:
      dataset: the images; labels serve to judge alone.
      config: how networks are trained.
      simclr: settings of the objective.

    Raises:
      InputError: settings of training that apply to labels alone.
    """
    super().__init__(dataset, config)
    self.simclr = simclr_lib.check(simclr)
    self.num_classes = 0
    for name, wanted in (("auxiliary", False), ("label_smoothing", 0.0),
                         ("cutout", 0)):
      value = getattr(config, name)
      if value != wanted:
        option = name.replace("_", "-")
        raise errors.InputError(
            f"{option} is {value} and does not apply to the objective simclr;"
            f" leave --{option} out (in Python: {name}={wanted})")

  def describe(self) -> dict[str, Any]:
    """What a run's configuration says of the objective."""
    return {"objective": self.objective,
            "simclr": dataclasses.asdict(self.simclr)}

  def make_objective(
      self, config: supervised.TrainConfig, architecture: codec.Architecture,
      place: records.Place,
  ) -> simclr_lib.SimCLR:
    """The contrastive objective of an architecture without a classifier."""
    return simclr_lib.SimCLR(
        self.simclr, architecture, place, sync_bn=config.sync_bn)

  @property
  def preparation(self) -> data_lib.TwoViews:
    """How views are drawn and images normalised."""
    plain = common.preparation(self.dataset, self.config.dtype)
    return data_lib.TwoViews(
        plain.mean, plain.std, simclr_lib.views(self.simclr), plain.dtype)

  def keep(self, variables: Any) -> Any:
    """The network's variables; the projection head has done its work."""
    return {kind: part["network"] for kind, part in variables.items()}

  def watch(self, method: Any, state: Any, epoch: int) -> dict[str, Any]:
    """The accuracy of the neighbours, every `watch_epochs` epochs.

    Of training images that are left out of those that vote, so that the test
    images stay unseen.
    """
    every = self.simclr.watch_epochs
    if not every or (epoch + 1) % every:
      return {}
    return {"neighbours": self.glance(method, state)}

  def judge(self, method: Any, state: Any) -> dict[str, float]:
    """Neighbours and a linear classifier on the test images' features.

    Args:
      method: with `features(state, images)`.
      state: of the trained network, on one device.
    """
    return self._judge(
        method, state, self._train,
        fit_lib.Split(self.dataset.test_images, self.dataset.test_labels),
        linear=True)

  def glance(self, method: Any, state: Any, most: int = 10000) -> float:
    """The accuracy of the neighbours among up to `most` training images."""
    bank, queries = simclr_lib.divide(
        fit_lib.Split(self._train.images[:most], self._train.labels[:most]),
        self.simclr.watch_images)
    return self._judge(method, state, bank, queries, linear=False)["accuracy"]

  @property
  def _train(self):
    return fit_lib.Split(self.dataset.train_images, self.dataset.train_labels)

  def _judge(self, method, state, bank, queries, *, linear):
    extract = lambda split: simclr_lib.extract(
        method.features, state, split.images, self.preparation)
    return simclr_lib.judge(
        self.simclr, (extract(bank), bank.labels),
        (extract(queries), queries.labels), self.dataset.num_classes,
        linear=linear)


def make(
    dataset: data_lib.Dataset, config: supervised.TrainConfig,
    simclr: simclr_lib.SimCLRConfig | None,
) -> Supervised:
  """What is learnt: without settings of SimCLR, the labels."""
  if simclr is None:
    return Supervised(dataset, config)
  return SelfSupervised(dataset, config, simclr)
