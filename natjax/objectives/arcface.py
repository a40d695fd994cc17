"""ArcFace: learning to tell identities apart by angles.

Deng, Guo, Xue, Zafeiriou: "ArcFace: Additive Angular Margin Loss for Deep Face
Recognition", CVPR 2019, equation 3. An image's embedding and a vector per
identity are brought to length 1, so that their products are cosines; the angle
to the image's own identity is enlarged by a margin before the softmax. What is
learnt are embeddings whose distances tell whether two images show one person,
also of people that were never seen (`objectives.verification`).

The embedding is what the network's classifier would see, where that is one: the
last layer before it has weights, BN and no activation, as in `lresnet34e-ir`
(512) and `mobilefacenet` (128). Any other network is given a linear layer with
a BN behind its own head (`graph.shapes.head_layers`). The vectors W f32[K, F]
of the K identities are parameters of the network's last layer, "classes", which
gives cosines f32[B, K]: a network classifies by the largest.

Where the enlarged angle would exceed pi, whose cosine would rise again, the
form is that of the authors' code: cos(theta) - m sin(m), which goes on falling.

**Memory and devices.** For B images a device holds a few arrays of B * K
numbers, besides the vectors. Where D devices train, of one process or several,
each holds the vectors of K / D identities (rounded up), their gradients and
what the optimizer keeps of them, and nothing of the others (`Criterion.over`):
embeddings are gathered from all devices, and each computes the cosines of all
images with its own identities, which are again B * K. Several processes put the
vectors together for a checkpoint, and at the end. This is so of networks, of
the supernets of NAT and NAT++, where rewards are counted so, too, of the brief
trainings of their candidates, and of both stages of `differentiable`. Whole on
every device are the vectors where seeds are trained side by side on devices of
their own, where candidates are scored at the end of a search, and where
`--start replace` teaches operations by the given network, before a search.
"""

import dataclasses
import functools
import math
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp

from natjax import errors
from natjax.graph import shapes as shapes_lib
from natjax.networks import network as network_lib
from natjax.objectives import classification as objectives
from natjax.operations import primitives
from natjax.training import method as base
from natjax.training import settings

# Least squared sine: the gradient of a sine grows as one over it.
_TINY = 1e-6


@dataclasses.dataclass(frozen=True)
class ArcFaceConfig:
  """Settings of the objective.

  Attributes:
    scale: s, by which cosines are multiplied.
    margin: m, added to the angle to an image's own identity, in radians.
    embedding: features of the embedding of networks that have none of their
      own.
  """

  scale: float = 64.0
  margin: float = 0.5
  embedding: int = 512


def check(config: ArcFaceConfig) -> ArcFaceConfig:
  """Returns the settings if they fit together (InputError)."""
  settings.plain(config)
  settings.at_least_one(config, "embedding")
  settings.above_zero(config, "scale")
  if not 0 <= config.margin < math.pi / 2:
    settings.refuse(config, "margin", "must lie in [0, pi / 2), in radians;"
                    " give 0.5")
  return config


def enlarged(cosine: jax.Array, margin: float) -> jax.Array:
  """Computes cos(theta + m) of cos(theta), elementwise, in float32.

  Where theta + m > pi it is cos(theta) - m sin(m), as in the authors' code.
  Gradients are finite, at cosines of 1 and -1, too.

  Example:
    >>> c = jnp.cos(jnp.array([0.3, 1.0, 3.0]))
    >>> [round(float(x), 4) for x in enlarged(c, 0.5)]
    [0.6967, 0.0707, -1.2297]
  """
  cosine = primitives.at_least_float32(cosine)
  sine = jnp.sqrt(jnp.maximum(1 - cosine * cosine, _TINY))
  return jnp.where(
      cosine > math.cos(math.pi - margin),
      cosine * math.cos(margin) - sine * math.sin(margin),
      cosine - margin * math.sin(margin))


def losses(cosines: jax.Array, labels: jax.Array, *, scale: float = 64.0,
           margin: float = 0.5) -> jax.Array:
  """Computes equation 3 of Deng et al., 2019, per image.

  With theta_j the angle between an image's embedding and the vector of identity
  j, and y its own identity, it is the cross-entropy of the logits
  s cos(theta_j), of which that of y is s cos(theta_y + m).

  Args:
    cosines: f[B, K].
    labels: i32[B], in [0, K).
    scale: s.
    margin: m, in radians.

  Returns:
    f32[B].

  Example, an image at right angles to both identities, without a margin:
    >>> loss = losses(jnp.zeros((1, 2)), jnp.array([0]), margin=0.0)
    >>> bool(jnp.isclose(loss[0], jnp.log(2)))
    True
  """
  cosines = primitives.at_least_float32(cosines)
  own = enlarged(jnp.take_along_axis(cosines, labels[:, None], 1), margin)
  mine = jnp.arange(cosines.shape[1]) == labels[:, None]
  logits = scale * jnp.where(mine, own, cosines)
  return jax.nn.logsumexp(logits, axis=1) - scale * own[:, 0]


def divided(embeddings: jax.Array, classes: jax.Array, labels: jax.Array, *,
            axis_name: str, num_classes: int, scale: float = 64.0,
            margin: float = 0.5) -> tuple[jax.Array, jax.Array]:
  """Computes `losses` where every device holds the vectors of some identities.

  Embeddings are gathered from all devices, each computes their cosines with
  its own vectors, and the softmax is joined by maxima and sums over devices. As
  of `contrastive.nt_xent`, gradients are those of the sum of all devices'
  losses: of its own embeddings, and of its own vectors.

  Args:
    embeddings: f[B, F] of this device's images.
    classes: f32[R, F], those of the identities R d to R d + R - 1 on device d.
    labels: i32[B], in [0, K), of this device's images.
    axis_name: axis of the D devices.
    num_classes: K, at most R D; what is beyond belongs to no identity.
    scale: s.
    margin: m, in radians.

  Returns:
    The losses f32[B] of this device's images, and where their own identity is
    the nearest one, f32[B].
  """
  gather = functools.partial(lax.all_gather, axis_name=axis_name, tiled=True)
  images, rows = len(labels), len(classes)
  first = rows * lax.axis_index(axis_name)
  cosines = jnp.matmul(
      gather(primitives.unit(embeddings)), primitives.unit(classes).T,
      precision=lax.Precision.HIGHEST)  # [B D, R]
  here = gather(labels) - first
  mine = jnp.arange(rows) == here[:, None]
  there = (first + jnp.arange(rows)) < num_classes
  plain = jnp.sum(jnp.where(mine, cosines, 0), axis=1)
  own = jnp.any(mine, axis=1)
  with_margin = jnp.where(own, enlarged(plain, margin), 0)
  logits = jnp.where(
      there, scale * jnp.where(mine, with_margin[:, None], cosines), -jnp.inf)
  most = lax.pmax(lax.stop_gradient(jnp.max(logits, axis=1)), axis_name)
  total = lax.psum(
      jnp.sum(jnp.exp(logits - most[:, None]), axis=1), axis_name)
  every = jnp.log(total) + most - scale * lax.psum(with_margin, axis_name)
  cosines, plain = map(lax.stop_gradient, (cosines, plain))
  best = lax.pmax(
      jnp.max(jnp.where(there, cosines, -jnp.inf), axis=1), axis_name)
  right = (lax.psum(plain, axis_name) >= best).astype(jnp.float32)
  take = lambda x: lax.dynamic_slice_in_dim(
      x, images * lax.axis_index(axis_name), images)
  return take(every), take(right)


class Criterion(objectives.Criterion):
  """The mean of `losses`; see `classification.Criterion`.

  Attributes:
    config: the settings.
    parts: devices that divide the vectors of the identities.
  """

  def __init__(self, config: ArcFaceConfig, parts: int = 1):
    self.config, self.parts = config, parts
    if parts > 1:
      self.divides = _is_of_identities

  def over(self, parts: int) -> "Criterion":
    """That of as many devices, which divide the identities."""
    return Criterion(self.config, parts)

  def filled(self, params: Any) -> Any:
    """With vectors of no identity, which nothing moves."""
    return self._changed(params, lambda classes: jnp.pad(
        classes, ((0, -len(classes) % self.parts), (0, 0)), constant_values=1))

  def whole(self, params: Any, num_classes: int) -> Any:
    """Without vectors of no identity."""
    return self._changed(params, lambda classes: classes[:num_classes])

  def _changed(self, tree, change):
    if self.parts == 1:
      return tree
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: change(leaf) if _is_of_identities(path) else leaf,
        tree)

  def __call__(self, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean loss f32[] of cosines f[B, K] and labels i32[B]."""
    return jnp.mean(losses(logits, labels, scale=self.config.scale,
                           margin=self.config.margin))

  def divided(self, embeddings: jax.Array, params: Any, labels: jax.Array,
              num_classes: int) -> tuple[jax.Array, jax.Array]:
    """The mean loss and accuracy of `divided`; see the base class."""
    classes, = (leaf for path, leaf in jax.tree_util.tree_leaves_with_path(
        params) if _is_of_identities(path))
    found, right = divided(
        embeddings, classes, labels, axis_name=base.AXIS,
        num_classes=num_classes, scale=self.config.scale,
        margin=self.config.margin)
    return jnp.mean(found), jnp.mean(right)


class ArcFace(objectives.Classification):
  """The objective; see `classification.Objective`.

  Attributes:
    config: the settings.
    network: the linen module, which gives cosines.
    parts: devices that divide the vectors of the identities.
    criterion: what is minimised.
  """

  def __init__(self, config: ArcFaceConfig, network: network_lib.Network,
               parts: int = 1):
    """Args:
      config: the settings.
      network: the module of an architecture in a place with an embedding.
      parts: devices that divide the vectors of the identities.

    Raises:
      InputError: settings that do not fit together, or a network that gives no
        cosines.
    """
    super().__init__(network)
    self.config = check(config)
    if not network.frame.embedding or not network.frame.num_classes:
      raise errors.InputError(
          "ArcFace needs a place with an embedding and classes, and that given"
          f" has {network.frame.embedding} features and"
          f" {network.frame.num_classes} classes; give both")
    if shapes_lib.embeds(network.graph) and (
        config.embedding != ArcFaceConfig.embedding):
      with errors.within("arcface"):
        settings.refuse(config, "embedding", f"does not apply to"
                        f" {network.graph.name}, which has an embedding of its"
                        " own; leave it out")
    self.criterion = Criterion(config, parts)
    self.parts, self.divides = parts, self.criterion.divides
    self._embedder = network.clone(
        frame=network.frame._replace(num_classes=0))

  def over(self, parts: int) -> "ArcFace":
    """The objective of as many devices, which divide the identities."""
    return self if parts == self.parts else ArcFace(
        self.config, self.network, parts)

  def filled(self, variables: Any) -> Any:
    """With vectors of no identity, which nothing moves; see `Objective`."""
    return self.criterion.filled(variables)

  def whole(self, variables: Any) -> Any:
    """Without vectors of no identity; see `Objective`."""
    return self.criterion.whole(variables, self.network.frame.num_classes)

  def loss(self, params: Any, batch_stats: Any, batch: base.Batch, *,
           drop_path: jax.Array | None, rng: jax.Array,
           **mix: Any) -> tuple[jax.Array, objectives.Aux]:
    """Computes the loss; {"accuracy": f32[]} stands beside it.

    Where devices divide the identities, `params` has those of this device.
    """
    if self.parts == 1:
      return super().loss(params, batch_stats, batch, drop_path=drop_path,
                          rng=rng, **mix)
    (embeddings, _), batch_stats = self.forward(
        params, batch_stats, batch["image"], rng, network=self._embedder,
        drop_path=drop_path, **mix)
    loss, accuracy = self.criterion.divided(
        embeddings, params, batch["label"], self.network.frame.num_classes)
    return loss, (batch_stats, {"accuracy": accuracy})

  def cross_entropy(self, outputs: tuple[jax.Array, jax.Array | None],
                    labels: jax.Array) -> jax.Array:
    """The mean of `losses`, f32[]; see `Classification.cross_entropy`."""
    return self.criterion(outputs[0], labels)


def _is_of_identities(path):
  """Whether an array's path is that of the identities' vectors."""
  return any(getattr(key, "key", None) == "classes" for key in path)
