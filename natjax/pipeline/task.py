"""What networks learn from a data set, and how they are judged.

By its labels ("supervised"), judged by test accuracy.
"""

from typing import Any

import jax

from natjax import codec
from natjax import data as data_lib
from natjax.methods import objectives
from natjax.methods import supervised
from natjax.networks import build as build_lib
from natjax.pipeline import common
from natjax.training import fit as fit_lib


class Supervised:
  """Learning the labels.

  Attributes:
    dataset: the images.
    config: how networks are trained.
    num_classes: of the classifier.
    settings: further settings of the objective, or None.
  """

  objective = "supervised"
  settings = None
  make_objective: objectives.Maker = staticmethod(supervised.classification)

  def __init__(
      self, dataset: data_lib.Dataset, config: supervised.TrainConfig
  ):
    self.dataset, self.config = dataset, config
    self.num_classes = dataset.num_classes

  @property
  def preparation(self) -> fit_lib.Preparation:
    """How images are augmented and normalised."""
    return common.preparation(self.dataset, self.config.dtype,
                              cutout=self.config.cutout)

  def place(self, architecture: codec.Architecture) -> build_lib.Place:
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


def on_one_device(state: Any, devices: tuple[jax.Device, ...]) -> Any:
  """A replicated state's copy on the first device."""
  return jax.device_put(state, devices[0])
