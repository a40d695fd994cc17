"""SimCLR: the objective of self-supervised learning, without labels.

"A Simple Framework for Contrastive Learning of Visual Representations" (Chen et
al., 2020, arXiv:2002.05709). Two views are drawn of every image
(`data.TwoViews`); a network and a projection head bring the views of an image
close together and away from all others (`training.contrastive`). Afterwards the
head is dropped, and the features are judged by nearest neighbours or by a
linear classifier (`training.representation`).

The defaults are those of the common implementations on CIFAR. Differences from
the authors' code: see `data.views` and `networks.projection`; BN normalises by
the images of a device unless `axis_name` is given, as the authors do.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from natjax import architecture as architecture_lib
from natjax import codec
from natjax import cost
from natjax import errors
from natjax import settings
from natjax import skeleton as skeleton_lib
from natjax.data import views as views_lib
from natjax.methods import base
from natjax.networks import build as build_lib
from natjax.networks import projection as projection_lib
from natjax.training import contrastive

# DARTS as the paper on proxyless neural architecture adaptation has it for
# self-supervised learning on CIFAR: 24 cells, as large as ResNet50. It gives
# "24.6 +- 0.1" M parameters, and not the width. ResNet50 with its projection
# head has 24.62 M; of the widths of DARTS 90 comes nearest, with 24.45 M (92
# has 25.52 M).
DARTS_CELLS = 24
DARTS_CHANNELS = 90


@dataclasses.dataclass(frozen=True)
class SimCLRConfig:
  """Settings of the objective. The defaults are those of CIFAR.

  Attributes:
    temperature: of NT-Xent.
    hidden: features inside the projection head.
    projection: features that it returns.
    crop_scale: least share of an image's area that a view shows.
    jitter: strength of the distortion of colours: brightness, contrast and
      saturation by 0.8 of it, hue by 0.2; 0.5 on CIFAR, 1 on ImageNet.
    grey: probability that a view is grey.
    blur: probability that a view is blurred; images of at most 32 pixels on a
      side never are.
    neighbours: k of the nearest neighbours by which features are judged.
    knn_temperature: of their votes.
    knn_every: epochs between such judgements; 0 judges at the end alone.
    linear_steps: of the linear classifier by which features are judged.
    linear_penalty: of its squared weights.
  """

  temperature: float = 0.5
  hidden: int = 512
  projection: int = 128
  crop_scale: float = 0.2
  jitter: float = 0.5
  grey: float = 0.2
  blur: float = 0.5
  neighbours: int = 200
  knn_temperature: float = 0.5
  knn_every: int = 10
  linear_steps: int = 200
  linear_penalty: float = 1e-3


def check(config: SimCLRConfig) -> SimCLRConfig:
  """Returns the settings if they are possible (InputError)."""
  settings.at_least_one(config, "hidden", "projection", "neighbours",
                        "linear_steps")
  settings.not_negative(config, "knn_every", "linear_penalty")
  for name in ("temperature", "knn_temperature"):
    if not getattr(config, name) > 0:
      raise errors.InputError(
          f"{name.replace('_', '-')} is {getattr(config, name)} and must be"
          f" above 0; pass --{name.replace('_', '-')} 0.5")
  for name in ("crop_scale", "jitter", "grey", "blur"):
    value = getattr(config, name)
    if not 0 <= value <= 1 or (name == "crop_scale" and not value):
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} is {value} and must lie in"
          f" {'(0' if name == 'crop_scale' else '[0'}, 1]; pass --{option}"
          f" {getattr(SimCLRConfig(), name)}")
  return config


def views(config: SimCLRConfig) -> views_lib.Views:
  """How the two views of an image are drawn.

  Example:
    >>> views(SimCLRConfig()) == views_lib.Views()
    True
  """
  colours = 0.8 * config.jitter
  return views_lib.Views(
      scale=(config.crop_scale, 1.0), brightness=colours, contrast=colours,
      saturation=colours, hue=0.2 * config.jitter,
      grey_probability=config.grey, blur_probability=config.blur)


class SimCLR:
  """The objective.

  Attributes:
    metrics: names of what `loss` measures.
    config: the settings.
    backbone: the network that is kept, without a classifier.
    head: the projection head.
  """

  metrics = ("loss", "contrast_accuracy")

  def __init__(
      self,
      config: SimCLRConfig,
      backbone: Any,
      num_features: int,
      *,
      axis_name: str | None = None,
      init: Callable[[Any, jax.Array], Any] = build_lib.init,
  ):
    """Args:
      config: the settings.
      backbone: a module whose `apply(variables, images, *, train, drop_path)`
        returns (features f32[B, F], ...), as `of` makes one.
      num_features: F.
      axis_name: device axis over which the head's BN joins the batch.
      init: `(backbone, rng)`, draws its "params" and "batch_stats".
    """
    self.config = check(config)
    self.backbone = backbone
    self.head = projection_lib.ProjectionHead(
        config.hidden, config.projection, axis_name)
    self._num_features = num_features
    self._init = init

  @classmethod
  def of(
      cls,
      config: SimCLRConfig,
      architecture: codec.Architecture,
      place: build_lib.Place,
      *,
      axis_name: str | None = None,
  ) -> "SimCLR":
    """The objective for the network of an architecture.

    Args:
      config: the settings.
      architecture: a genotype or a network of blocks.
      place: a skeleton or a frame; its classifier is left out.
      axis_name: device axis over which BN joins the batch.
    """
    place = place._replace(num_classes=0)
    return cls(
        config, build_lib.module(architecture, place, axis_name=axis_name),
        build_lib.num_features(architecture, place), axis_name=axis_name)

  def init(self, rng: jax.Array) -> Any:
    """Draws "params" and "batch_stats", each of "network" and "projection"."""
    rng_network, rng_head = jax.random.split(rng)
    features = jnp.zeros((2, self._num_features))
    parts = {"network": self._init(self.backbone, rng_network),
             "projection": jax.jit(self.head.init)(rng_head, features)}
    return {kind: {name: part.get(kind, {}) for name, part in parts.items()}
            for kind in ("params", "batch_stats")}

  def loss(
      self,
      params: Any,
      batch_stats: Any,
      batch: base.Batch,
      *,
      drop_path: jax.Array | float,
      rng: jax.Array,
      **mix: Any,
  ) -> tuple[jax.Array, tuple[Any, dict[str, jax.Array]]]:
    """Computes the training loss of this device's views.

    Inside `base.AXIS` alone: the negatives are the views of all devices. The
    mean over devices of losses, and of gradients, is that of the joined batch.

    Args:
      params: "params" of the variables.
      batch_stats: "batch_stats" of the variables.
      batch: "image" f[2B, H, W, 3], the first views of B images, then their
        second views.
      drop_path: rate.
      rng: a key of this device's own.
      **mix: handed on to the backbone.

    Returns:
      The loss f32[], the new statistics, and the `metrics` f32[] by name.
    """
    rng_path, rng_dropout = jax.random.split(rng)
    (features, *_), network = self.backbone.apply(
        {"params": params["network"], "batch_stats": batch_stats["network"]},
        batch["image"], train=True, drop_path=drop_path, **mix,
        rngs={"drop_path": rng_path, "dropout": rng_dropout},
        mutable=["batch_stats"])
    projections, head = self.head.apply(
        {"params": params["projection"],
         "batch_stats": batch_stats["projection"]},
        features, train=True, mutable=["batch_stats"])
    loss = contrastive.nt_xent(
        projections, temperature=self.config.temperature, axis_name=base.AXIS)
    accuracy = contrastive.accuracy(projections, axis_name=base.AXIS)
    return loss, (
        {"network": network.get("batch_stats", {}),
         "projection": head["batch_stats"]},
        {"loss": loss, "contrast_accuracy": accuracy})

  def features(
      self, variables: Any, images: jax.Array, **mix: Any
  ) -> jax.Array:
    """The features f32[B, F] of images, by running statistics.

    Args:
      variables: "params" and "batch_stats".
      images: [B, H, W, 3], normalised.
      **mix: handed on to the backbone.
    """
    kept = {kind: variables[kind]["network"]
            for kind in ("params", "batch_stats")}
    features, *_ = self.backbone.apply(kept, images, **mix)
    return features


def parameters(
    architecture: codec.Architecture,
    place: build_lib.Place,
    config: SimCLRConfig = SimCLRConfig(),
) -> int:
  """Computes the parameters of a network with its projection head.

  Args:
    architecture: a genotype or a network of blocks.
    place: a skeleton or a frame; its classifier is left out.
    config: gives the head's widths.

  Example:
    >>> from natjax import blocks, zoo
    >>> parameters(zoo.get("resnet50", "cifar"), blocks.Frame())
    24615616
  """
  place = place._replace(num_classes=0)
  head = projection_lib.cost(build_lib.num_features(architecture, place),
                             config.hidden, config.projection)
  return (cost.network(architecture, place) + head).params


def channels_for(
    genotype: architecture_lib.Genotype,
    target: int,
    skeleton: skeleton_lib.Skeleton,
    config: SimCLRConfig = SimCLRConfig(),
) -> int:
  """Computes the width at which cells come nearest to a number of parameters.

  Args:
    genotype: the cells.
    target: parameters, the projection head's among them.
    skeleton: what stands around them; its `init_channels` do not matter.
    config: gives the head's widths.

  Returns:
    An even number of `init_channels`.

  Example, DARTS of the size of ResNet50:
    >>> from natjax import zoo
    >>> channels_for(zoo.get("darts"), 24615616,
    ...              skeleton_lib.Skeleton(cells=DARTS_CELLS))
    90
  """
  def size(channels):
    return parameters(genotype, skeleton._replace(init_channels=channels),
                      config)

  channels = 2
  while size(channels + 2) <= target:  # Sizes rise with the width.
    channels += 2
  return min(channels, channels + 2, key=lambda c: abs(size(c) - target))
