"""SimCLR: learning features without labels.

Chen et al., 2020, "A Simple Framework for Contrastive Learning of Visual
Representations" (arXiv:2002.05709): two random views of every image
(`data.views`), a network without a classifier, a projection head, and NT-Xent
(`contrastive`), with negatives from all devices. Features, not
projections, are judged: by their weighted nearest neighbours
(`neighbours`) and by a linear classifier (`linear_probe`).

Differences from the paper, after "Proxyless Neural Architecture Adaptation":
Adam in place of LARS, temperature 0.5 and, for CIFAR, k = 200. The objective is
an `Objective`, so that any method that trains a network by
gradients takes it.
"""

from collections.abc import Callable
import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from natjax import data as data_lib
from natjax import errors
from natjax.graph import codec, records, shapes
from natjax.networks import layers as layers_lib
from natjax.networks import network as network_lib
from natjax.objectives import classification as objectives
from natjax.objectives import contrastive, linear_probe, neighbours
from natjax.training import evaluation, settings
from natjax.training import method as base
from natjax.training import options as options_lib


@dataclasses.dataclass(frozen=True)
class SimCLRConfig:
  """Settings of the objective and of how it is judged.

  Attributes:
    temperature: of NT-Xent.
    hidden: features inside the projection head.
    projection: features of the projections.
    crop: the least share of an image that a view covers.
    colour: factor of the strengths of colour jitter.
    neighbours: k of the nearest neighbours, at most the number of images.
    neighbour_temperature: of their weights.
    watch_epochs: epochs from one look at the nearest neighbours to the next; 0
      looks at the end alone.
    watch_images: of the training images, how many are set against the others
      while training goes on.
    linear_steps: of the linear classifier; 0 leaves it out.
  """

  temperature: float = 0.5
  hidden: int = 512
  projection: int = 128
  crop: float = 0.2
  colour: float = 1.0
  neighbours: int = 200
  neighbour_temperature: float = 0.5
  watch_epochs: int = 10
  watch_images: int = 1000
  linear_steps: int = 200


def check(config: SimCLRConfig) -> SimCLRConfig:
  """Returns the settings if they fit together (InputError)."""
  settings.plain(config)
  settings.at_least_one(config, "hidden", "projection", "neighbours",
                        "watch_images")
  settings.not_negative(config, "colour", "watch_epochs", "linear_steps")
  for name in ("temperature", "neighbour_temperature"):
    if not getattr(config, name) > 0:
      settings.refuse(config, name, "must be above 0; give 0.5")
  if not 0 < config.crop <= 1:
    settings.refuse(config, "crop", "must lie in (0, 1]; give 0.2")
  data_lib.check_views(views(config))
  return config


def views(config: SimCLRConfig) -> data_lib.Views:
  """How views are drawn."""
  given = data_lib.Views()
  strengths = {name: config.colour * getattr(given, name) for name in (
      "brightness", "contrast", "saturation", "hue")}
  return given._replace(scale=(config.crop, 1.0), **strengths)


class SimCLR(objectives.Objective):
  """The objective; see `classification.Objective`.

  Its parameters are {"network": those of the network without a classifier,
  "projection": the head's}, and so are the statistics.

  Attributes:
    config: the settings.
    network: the linen module, without a classifier.
    head: the projection head's module, in training.
  """

  metrics = ("loss", "accuracy")

  def __init__(self, config: SimCLRConfig, architecture: codec.Architecture,
               place: records.Place, *, sync_bn: bool = False):
    """Args:
      config: the settings.
      architecture: of the network.
      place: its skeleton or frame, of no classes.
      sync_bn: whether batch statistics are taken over all devices.
    """
    self.config = check(config)
    axis_name = base.AXIS if sync_bn else None
    self.network = network_lib.module(architecture, place, axis_name=axis_name)
    self.num_features = shapes.num_features(self.network.graph, place)
    self.head = layers_lib.ProjectionHead(
        functools.partial(layers_lib.RunningBatchNorm, True, axis_name),
        config.hidden, config.projection)

  def init(self, rng: jax.Array, **mix: Any) -> Any:
    """Draws the variables of network and head."""
    rng_network, rng_head = jax.random.split(rng)
    network = super().init(rng_network, **mix)
    still = self.head.clone(norm=functools.partial(
        layers_lib.RunningBatchNorm, False, None))
    head = jax.jit(still.init)(rng_head, jnp.zeros((2, self.num_features)))
    return {kind: {"network": network[kind], "projection": head[kind]}
            for kind in ("params", "batch_stats")}

  def loss(self, params: Any, batch_stats: Any, batch: base.Batch, *,
           drop_path: jax.Array | None, rng: jax.Array,
           **mix: Any) -> tuple[jax.Array, objectives.Aux]:
    """Computes NT-Xent of this device's views among those of all devices.

    The batch has "image" [2B, H, W, 3], first views, then second views.
    {"accuracy": f32[]} is the share of views to which the other view of their
    image is the most similar.
    """
    (features, _), network = self.forward(
        params["network"], batch_stats["network"], batch["image"], rng,
        drop_path=drop_path, **mix)
    projections, head = self.head.apply(
        {"params": params["projection"],
         "batch_stats": batch_stats["projection"]},
        features, mutable=["batch_stats"])
    loss = contrastive.nt_xent(
        projections, temperature=self.config.temperature, axis_name=base.AXIS)
    accuracy = contrastive.accuracy(projections, axis_name=base.AXIS)
    return loss, ({"network": network, "projection": head["batch_stats"]},
                  {"accuracy": accuracy})

  def features(self, variables: Any, images: jax.Array,
               **mix: Any) -> jax.Array:
    """f32[B, F] of normalised images, by running statistics."""
    own = {kind: part["network"] for kind, part in variables.items()}
    return self.network.apply(own, images, **mix)[0]


def extract(features: Callable[[Any, jax.Array], jax.Array], state: Any,
            split: options_lib.Split, preparation: options_lib.Preparing, *,
            batch_size: int = 256) -> tuple[np.ndarray, np.ndarray]:
  """Computes the features of stored images, batch by batch.

  Args:
    features: a jit-able `(state, normalised images) -> f32[B, F]`.
    state: its first argument.
    split: images u8[N, H, W, 3] and labels i[N]; those on disk that are
      damaged are left out.
    preparation: normalises them.
    batch_size: images at a time; the last batch is padded.

  Returns:
    f32[M, F] and i[M], of the M images that decode.

  Raises:
    InputError: none does.
  """
  run = _extractor(features, preparation)
  size = min(batch_size, len(split.labels))
  steps = -(-len(split.labels) // size)
  found, labels = [], []
  for _, images, named in evaluation.chunks(split, size, steps):
    for part, own in zip(images, named, strict=True):
      found.append(np.asarray(run(state, part))[own >= 0])
      labels.append(own[own >= 0])
  if not sum(map(len, labels)):
    raise errors.InputError(
        f"all {len(split.labels)} images to judge by are damaged; restore them")
  return np.concatenate(found), np.concatenate(labels)


@functools.lru_cache(maxsize=8)
def _extractor(features, preparation):
  return jax.jit(lambda state, images: features(
      state, preparation(None, images, train=False)))


Features = tuple[np.ndarray, np.ndarray]


def right(config: SimCLRConfig, bank: Features, queries: Features,
          num_classes: int) -> np.ndarray:
  """Whether the weighted nearest neighbours name the class, bool[M].

  Args:
    config: the settings.
    bank: features f32[N, F] and labels of the training images.
    queries: those of the M images to judge by.
    num_classes: K.
  """
  found = neighbours.predict(
      jnp.asarray(bank[0]), jnp.asarray(bank[1], jnp.int32),
      jnp.asarray(queries[0]), num_classes, k=config.neighbours,
      temperature=config.neighbour_temperature)
  return np.asarray(found) == queries[1]


def probe(config: SimCLRConfig, bank: Features, queries: Features,
          num_classes: int) -> dict[str, float]:
  """The "linear_accuracy", in [0, 1]; nothing without linear steps.

  Of a linear classifier that is trained on the features. Arguments as `right`.
  """
  if not config.linear_steps:
    return {}
  train, test = ((jnp.asarray(x), jnp.asarray(y, jnp.int32))
                 for x, y in (bank, queries))
  return {"linear_accuracy": linear_probe.accuracy(
      train, test, num_classes, steps=config.linear_steps)}


def divide(split: options_lib.Split,
           count: int) -> tuple[options_lib.Split, options_lib.Split]:
  """The images but `count`, at most half, and those.

  They are evenly chosen: a folder's images stand class by class.
  """
  size = len(split.labels)
  asked = np.zeros(size, bool)
  asked[np.linspace(0, size - 1, min(count, size // 2)).astype(int)] = True
  return (options_lib.Split(*(x[~asked] for x in split)),
          options_lib.Split(*(x[asked] for x in split)))
