"""Training a network that gives every pixel a class, from a given backbone.

Chen et al., 2017 (arXiv:1706.05587), section 4.1: SGD at 0.007 in batches of
16, the learning rate times (1 - step / steps)^0.9, crops of 513 pixels of
images that are resized by 0.5 to 2 and mirrored, logits brought to the size of
the crops. The paper does not say the weight decay; 1e-4 is that of its authors'
code for ResNets. Their second training at an output stride of 8, with BN
frozen, is left out: EnTranNAS (Table 5) has 16.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.data import dataset, voc
from natjax.methods import supervised
from natjax.networks import backbone as backbone_lib
from natjax.networks import deeplab, trees
from natjax.networks import network as network_lib
from natjax.objectives import segmentation as objectives
from natjax.training import method as base
from natjax.training import optimizers, settings
from natjax.training import options as options_lib

Channels = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class SegmentationConfig:
  """Settings.

  Attributes:
    epochs: walks over the training pictures.
    batch_size: over all devices.
    learning_rate: where the poly schedule starts.
    power: of the poly schedule.
    momentum: of SGD.
    weight_decay: times the parameter, added to the gradient.
    crop: side of the training crops, in pixels.
    least_scale: by which pictures are resized at least, before they are cut.
    greatest_scale: likewise, at most.
    flip: whether half of the crops are mirrored.
    width: channels of the head's branches.
    dropout: rate before the classifier.
    sync_bn: whether batch statistics are taken over all devices.
    dtype: "float32" or "bfloat16", of the computation.
  """

  epochs: int = 46
  batch_size: int = 16
  learning_rate: float = 0.007
  power: float = 0.9
  momentum: float = 0.9
  weight_decay: float = 1e-4
  crop: int = 513
  least_scale: float = 0.5
  greatest_scale: float = 2.0
  flip: bool = True
  width: int = 256
  dropout: float = 0.1
  sync_bn: bool = False
  dtype: str = "float32"


def check(config: SegmentationConfig) -> SegmentationConfig:
  """Returns the settings if they fit together (InputError)."""
  settings.plain(config)
  settings.at_least_one(config, "epochs", "batch_size", "crop", "width")
  settings.not_negative(config, "learning_rate", "momentum", "weight_decay")
  settings.above_zero(config, "power", "least_scale", "greatest_scale")
  settings.one_of(config, dtype=("float32", "bfloat16"))
  if config.greatest_scale < config.least_scale:
    settings.refuse(config, "greatest_scale", "must be at least least-scale;"
                    f" give {config.least_scale} or more")
  if not 0 <= config.dropout < 1:
    settings.refuse(config, "dropout", "must lie in [0, 1); 0 turns it off")
  return config


def as_they_are(rng: jax.Array | None, images: jax.Array, *,
                train: bool) -> jax.Array:
  """The preparation of `fit`: pictures are cut by the update instead."""
  del rng, train
  return images


class Segmentation:
  """Trains DeepLabV3; `method` makes the record.

  Its phase walks the split "train" (`split`), prepared by `as_they_are`.

  Attributes:
    config: the settings.
    module: the network.
    mean: per channel, of pixels in [0, 1], by which images are normalised.
    std: likewise.
  """

  def __init__(self, config: SegmentationConfig,
               backbone: backbone_lib.Backbone, *, num_classes: int,
               mean: Channels, std: Channels, weights: Any = None,
               steps_per_epoch: int = 1):
    """Args:
      config: the settings.
      backbone: of the network.
      num_classes: K.
      mean: as the backbone was trained with.
      std: likewise.
      weights: the backbone's variables, those of a head beside or not; None
        draws them.
      steps_per_epoch: updates per epoch.

    Raises:
      InputError: settings out of range, or variables of another network.
    """
    self.config = check(config)
    if not dataset.is_integer(num_classes) or not (
        2 <= num_classes <= objectives.VOID):
      raise errors.InputError(
          f"num_classes is {errors.short(num_classes)} and must lie in [2,"
          f" {objectives.VOID}]; give that of the masks", "num_classes")
    backbone = backbone.clone(
        axis_name=base.AXIS if config.sync_bn else None)
    self.module = deeplab.DeepLabV3(
        backbone, num_classes, config.width, config.dropout)
    self.mean = dataset.check_channels("mean", mean)
    self.std = dataset.check_channels("std", std)
    self._optimizer = optimizers.coupled(
        "sgd", optimizers.poly(config.learning_rate,
                               config.epochs * steps_per_epoch, config.power),
        momentum=config.momentum, weight_decay=config.weight_decay)
    self._crops = voc.Crops(
        config.crop, (config.least_scale, config.greatest_scale), config.flip)
    self._weights = None if weights is None else _own(backbone, weights)

  def split(self, pictures: voc.Pictures) -> options_lib.Split:
    """What `fit` walks: the pictures, read when needed, and their sizes.

    Raises:
      InputError: pictures of more classes than the network has.
    """
    _check_classes(self.module, pictures)
    return options_lib.Split(cast(np.ndarray, pictures), pictures.sizes)

  def method(self) -> base.Method:
    """The record that `training.fit` drives."""
    phase = base.Phase("segment", ("train",), self.update,
                       ("loss", "accuracy"))
    return base.Method(self.init, (base.Stage(
        "segment", self.config.epochs, (phase,)),))

  def init(self, rng: jax.Array) -> supervised.TrainState:
    """Draws the head, and the backbone where no weights were given."""
    rng_backbone, rng_head, rng_state = jax.random.split(rng, 3)
    backbone, size = self.module.backbone, self.module.backbone.frame.image_size
    head = network_lib.draws(lambda rng: {
        kind: tree["head"] for kind, tree in self.module.init(
            rng, jnp.zeros((2, size, size, 3))).items()}, rng_head)(rng_head)
    own = self._weights or network_lib.init(backbone, rng_backbone)
    variables = {kind: {**({"backbone": own[kind]} if own.get(kind) else {}),
                        "head": head[kind]} for kind in head}
    return supervised.TrainState(
        step=jnp.zeros((), jnp.int32), **variables, rng=rng_state,
        opt_state=jax.jit(self._optimizer.init)(variables["params"]))

  def update(self, state: supervised.TrainState, batch: base.Batch
             ) -> tuple[supervised.TrainState, dict[str, jax.Array]]:
    """One step of SGD; "image" are pictures and "label" their sizes."""
    rng, drawn = jax.random.split(state.rng)
    rng_crop, rng_drop = jax.random.split(base.device_key(drawn))
    images, labels, there = voc.random_crops(
        rng_crop, batch["image"], batch["label"], self._crops)
    images = voc.normalize(images, there, self.mean, self.std,
                           jnp.dtype(self.config.dtype))

    def loss(params):
      logits, changed = self.module.apply(
          {"params": params, "batch_stats": state.batch_stats}, images,
          train=True, rngs={"dropout": rng_drop}, mutable=["batch_stats"])
      value = objectives.cross_entropy(logits, labels, axis_name=base.AXIS)
      return value, (changed.get("batch_stats", {}), _accuracy(logits, labels))

    (value, (stats, accuracy)), grads = jax.value_and_grad(
        loss, has_aux=True)(state.params)
    grads, stats, metrics = base.mean_over_devices(
        (grads, stats, {"loss": value, "accuracy": accuracy}))
    return supervised.descend(self._optimizer, state, grads, batch_stats=stats,
                              step=state.step + 1, rng=rng), metrics

  def evaluate(self, variables: Any, pictures: voc.Pictures,
               size: int | None = 513,
               batch_size: int = 8) -> objectives.Scores:
    """Judges by mIoU, in one scale; see `evaluate`."""
    return evaluate(self.module, variables, pictures, self.mean, self.std,
                    size=size, batch_size=batch_size)


def _accuracy(logits, labels):
  there = labels != objectives.VOID
  right = (jnp.argmax(logits, -1) == labels) & there
  return jnp.sum(right) / jnp.maximum(jnp.sum(there), 1)


def _check_classes(module, pictures):
  """Refuses pictures of classes that a network has not (InputError)."""
  if pictures.num_classes > module.num_classes:
    raise errors.InputError(
        f"the pictures are of {pictures.num_classes} classes and the network"
        f" of {module.num_classes}; give as many to both", "num_classes")


def _own(backbone, weights):
  """The part of given variables that is the backbone's, checked."""
  size = backbone.frame.image_size
  like = jax.eval_shape(backbone.init, jax.random.key(0),
                        jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32))
  try:
    return {kind: trees.restrict(weights.get(kind, {}), tree)
            for kind, tree in like.items()}
  except ValueError as e:
    raise errors.InputError(
        f"the weights are not of this backbone: {e}; name those of its network",
        "weights") from e


def evaluate(module: deeplab.DeepLabV3, variables: Any, pictures: voc.Pictures,
             mean: Channels, std: Channels, *, size: int | None = 513,
             batch_size: int = 8) -> objectives.Scores:
  """Judges a network by mIoU on all pixels of pictures, in one scale.

  Args:
    module: the network.
    variables: "params" and "batch_stats".
    pictures: to judge by.
    mean: per channel, of pixels in [0, 1].
    std: likewise.
    size: side of the square that pictures are put in, the mean around them;
      None takes each as it is, for which a program per size is compiled.
    batch_size: pictures at a time.

  Raises:
    InputError: pictures of more classes than the network has, one that is
      larger than the square, or no batch size.
  """
  _check_classes(module, pictures)
  if not dataset.is_integer(batch_size) or batch_size < 1:
    raise errors.InputError(
        f"batch_size is {errors.short(batch_size)} and must be at least 1; give"
        " 8", "batch_size")
  if size is not None and (pictures.sizes > size).any():
    row = int(np.argmax(pictures.sizes.max(1)))
    height, width = pictures.sizes[row]
    raise errors.InputError(
        f"{pictures.names[row]} has {width}x{height} pixels, more than size"
        f" {size}; give a larger size, or None to take pictures as they are",
        "size")
  total = np.zeros((module.num_classes,) * 2, np.int64)
  predict = _counts(module, tuple(mean), tuple(std))
  shapes = pictures.sizes if size is None else np.full_like(
      pictures.sizes, size)
  for shape in np.unique(shapes, axis=0):
    rows = np.flatnonzero((shapes == shape).all(1))
    for start in range(0, len(rows), batch_size):
      part = rows[start:start + batch_size]
      batch = np.zeros((batch_size, *shape, 4), np.uint8)
      batch[..., 3] = objectives.VOID
      found = pictures[part][:, :shape[0], :shape[1]]
      batch[:len(part), :found.shape[1], :found.shape[2]] = found
      sizes = np.zeros((batch_size, 2), np.int32)
      sizes[:len(part)] = pictures.sizes[part]
      total += np.asarray(predict(variables, batch, sizes), np.int64)
  return objectives.scores(total)


@functools.lru_cache(maxsize=8)
def _counts(module, mean, std) -> Callable[..., jax.Array]:
  """Compiles `(variables, pictures, sizes) -> confusion i32[K, K]`."""

  def run(variables, pictures, sizes):
    height, width = pictures.shape[1:3]
    there = (jnp.arange(height)[:, None] < sizes[:, :1, None]) & (
        jnp.arange(width) < sizes[:, 1:, None])
    images = voc.normalize(pictures[..., :3], there[..., None], mean, std)
    logits = module.apply(variables, images)
    return objectives.confusion(
        jnp.argmax(logits, -1), pictures[..., 3].astype(jnp.int32),
        module.num_classes)

  return jax.jit(run)
