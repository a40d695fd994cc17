"""Two random views of every image, for contrastive learning.

"A Simple Framework for Contrastive Learning of Visual Representations" (Chen et
al., 2020, arXiv:2002.05709, section 3 and appendix A): a random crop brought
back to the image's size, a flip, a distortion of colours, a blur. Differences
from the authors' code and from torchvision's transformations:

* The distortions of colour come in one order: brightness, contrast, saturation,
  hue. The authors' pseudo-code has this one; torchvision draws an order.
* Pixels are real numbers from the crop on; torchvision on images rounds to u8
  after every step.
* The crop is bilinear (the authors' is bicubic, torchvision's bilinear).

All functions are pure and may be compiled. Draws are independent for every
image and view of a batch, from one key. Functions of one image are meant for
`jax.vmap`.
"""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.data import augmentation as augmentation_lib
from natjax.data import dataset

_TRIES = 10  # Of a box that fits into the image, as torchvision has them.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601-2.
_HIGHEST = jax.lax.Precision.HIGHEST  # Accelerators round products otherwise.
_SIGMAS = (0.1, 2.0)  # Of the blur.


class Views(NamedTuple):
  """How a view is drawn from an image. Hashable, static in compiled functions.

  The defaults are those of CIFAR: Chen et al., appendix B.9, halve the
  distortion of colours there. On ImageNet they are scale (0.08, 1.0),
  brightness, contrast and saturation 0.8, hue 0.2.

  Attributes:
    scale: least and greatest share of the image's area that a crop covers.
      The paper's is (0.08, 1.0); on CIFAR (0.2, 1.0) is common.
    ratio: least and greatest width of a crop over its height.
    flip: whether half of the views are mirrored, left to right.
    brightness: b; pixels are multiplied by a factor from [1 - b, 1 + b].
    contrast: the same for the distance from the image's mean grey.
    saturation: the same for the distance from the pixel's own grey.
    hue: h; hues are turned by a part from [-h, h] of the circle, in HSV.
    jitter_probability: of these four together.
    grey_probability: that a view becomes grey.
    blur_probability: that a view is blurred.
    blur_above: images of at most so many pixels on a side are never blurred:
      Chen et al. leave the blur out on CIFAR.
  """

  scale: tuple[float, float] = (0.2, 1.0)
  ratio: tuple[float, float] = (3 / 4, 4 / 3)
  flip: bool = True
  brightness: float = 0.4
  contrast: float = 0.4
  saturation: float = 0.4
  hue: float = 0.1
  jitter_probability: float = 0.8
  grey_probability: float = 0.2
  blur_probability: float = 0.5
  blur_above: int = 32


class TwoViews(NamedTuple):
  """Brings stored images to two views each; a preparation for `training.fit`.

  Attributes:
    mean: per channel, of pixels in [0, 1].
    std: likewise.
    views: how views are drawn.
    dtype: of the result.

  Example:
    >>> prepare = TwoViews(mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    >>> images = jnp.zeros((4, 32, 32, 3), jnp.uint8)
    >>> prepare(None, images, train=False).shape
    (4, 32, 32, 3)
    >>> draw = jax.jit(functools.partial(prepare, train=True))
    >>> draw(jax.random.key(0), images).shape
    (8, 32, 32, 3)
  """

  mean: tuple[float, float, float]
  std: tuple[float, float, float]
  views: Views = Views()
  dtype: Any = jnp.float32

  def __call__(self, rng: jax.Array | None, images: jax.Array, *,
               train: bool) -> jax.Array:
    """Draws two views, if training, and normalises.

    Args:
      rng: key, consumed; not looked at, and may be None, unless `train`.
      images: u8[B, H, W, 3], with H = W.
      train: static; whether to draw views.

    Returns:
      dtype[2B, H, W, 3], the first views of all images, then the second views;
      unless `train`, the images themselves, dtype[B, H, W, 3].

    Raises:
      InputError: images of another dtype or shape, views that cannot be drawn,
        or no key in training.
    """
    augmentation_lib.check_images(images)
    if train:
      images = 255 * two_views(rng, images, self.views)
    return augmentation_lib.normalize(images, self.mean, self.std, self.dtype)


def two_views(rng: jax.Array | None, images: jax.Array,
              views: Views) -> jax.Array:
  """Draws two views of every image.

  Args:
    rng: key, consumed.
    images: u8[B, H, W, 3], with H = W.
    views: static; close over it, it is no argument to be traced.

  Returns:
    f32[2B, H, W, 3] in [0, 1]: the first views of all images, then the second
    views, so that views i and i + B are of one image.

  Raises:
    InputError: no key, images of another dtype or shape, or `check_views`.
  """
  augmentation_lib.check_images(images)
  check_views(views)
  if rng is None:
    raise errors.InputError("rng is None; views need a jax.random.key")
  images = jnp.concatenate([images, images])
  batch, side = images.shape[:2]
  keys = iter(jax.random.split(rng, 5))
  boxes = draw_boxes(next(keys), batch, side, views)
  mirrored = _coin(next(keys), batch, 0.5 if views.flip else 0.0)
  x = jax.vmap(crop_and_resize)(images, boxes, mirrored) / 255
  x = jitter(next(keys), x, views)
  grey_rng = next(keys)
  if views.grey_probability:
    grey = _coin(grey_rng, batch, views.grey_probability)
    x = jax.vmap(mix_with_luma)(x, jnp.where(grey, 0.0, 1.0))
  if side > views.blur_above and views.blur_probability:
    coin_rng, sigma_rng = jax.random.split(next(keys))
    sigmas = jax.random.uniform(
        sigma_rng, (batch,), minval=_SIGMAS[0], maxval=_SIGMAS[1])
    blurred = jax.vmap(blur)(x, sigmas)
    chosen = _coin(coin_rng, batch, views.blur_probability)
    x = jnp.where(chosen[:, None, None, None], blurred, x)
  return x


def draw_boxes(rng: jax.Array, batch: int, side: int,
               views: Views) -> jax.Array:
  """Draws the boxes of random resized crops, as torchvision does.

  The area is uniform in `scale`, the logarithm of width over height uniform in
  that of `ratio`, both sides are rounded to pixels, and the place is uniform.
  Of ten draws the first that fits into the image counts; should none fit, the
  box is the whole image.

  Args:
    rng: key, consumed.
    batch: B, number of boxes.
    side: of the square images, in pixels.
    views: `scale` and `ratio`.

  Returns:
    i32[B, 4]: top, left, height and width in pixels.
  """
  area_rng, ratio_rng, corner_rng = jax.random.split(rng, 3)
  low, high = views.scale
  area = side**2 * _uniform(area_rng, (batch, _TRIES), low, high)
  low, high = np.log(views.ratio)
  ratio = jnp.exp(_uniform(ratio_rng, (batch, _TRIES), low, high))
  sides = jnp.round(jnp.sqrt(jnp.stack([area / ratio, area * ratio], -1)))
  fits = jnp.all((sides >= 1) & (sides <= side), -1)  # [B, tries]
  first = jnp.argmax(fits, axis=1)
  sides = jnp.take_along_axis(sides, first[:, None, None], axis=1)[:, 0]
  sides = jnp.where(fits.any(1)[:, None], sides, side).astype(jnp.int32)
  corners = jax.random.randint(corner_rng, (batch, 2), 0, side - sides + 1)
  return jnp.concatenate([corners, sides], axis=1)


def crop_and_resize(image: jax.Array, box: jax.Array,
                    mirrored: jax.Array) -> jax.Array:
  """Brings a box of an image back to the image's size, bilinearly.

  Pixel centres lie at halves, and pixels outside the box are not looked at:
  the same as cropping and then resizing.

  Args:
    image: [H, W, C].
    box: i32[4], top, left, height and width in pixels, inside the image.
    mirrored: bool[], whether to mirror the result, left to right.

  Returns:
    f32[H, W, C], in the units of `image`.
  """

  def weights(start, length, size, backwards):  # [size, size]
    pixel = jnp.arange(size)
    place = jnp.where(backwards, size - 1 - pixel, pixel)
    place = (place + 0.5) * length / size - 0.5
    place = start + jnp.clip(place, 0, length - 1)
    return jnp.maximum(0, 1 - jnp.abs(place[:, None] - pixel))

  rows = weights(box[0], box[2], image.shape[0], False)
  columns = weights(box[1], box[3], image.shape[1], mirrored)
  return resample(image, rows, columns)


def resample(image: jax.Array, rows: jax.Array,
             columns: jax.Array) -> jax.Array:
  """Computes `rows image columns^T` of every channel, f32[H, W, C].

  Args:
    image: [H, W, C].
    rows: f32[H, H], weights of the image's rows in those of the result.
    columns: f32[W, W], likewise.
  """
  # Gathering pixels takes half the time of products at 32 pixels on a CPU. But
  # a compiler fuses gathers into what follows and repeats them for every use,
  # and all views then take fifteen times as long.
  product = functools.partial(jnp.einsum, precision=_HIGHEST)
  image = product("oi,iwc->owc", rows, image.astype(jnp.float32))
  return product("pw,owc->opc", columns, image)


def jitter(rng: jax.Array, images: jax.Array, views: Views) -> jax.Array:
  """Distorts the colours of every image by draws of its own.

  In this order: brightness, contrast, saturation, hue, each of which leaves
  pixels in [0, 1].

  Args:
    rng: key, consumed.
    images: f32[B, H, W, 3] in [0, 1].
    views: strengths and `jitter_probability`.
  """
  batch = len(images)
  coin_rng, *rngs = jax.random.split(rng, 5)
  chosen = _coin(coin_rng, batch, views.jitter_probability)
  changes = ((adjust_brightness, views.brightness, 1.0),
             (adjust_contrast, views.contrast, 1.0),
             (adjust_saturation, views.saturation, 1.0),
             (adjust_hue, views.hue, 0.0))
  for key, (adjust, strength, neutral) in zip(rngs, changes, strict=True):
    if strength and views.jitter_probability:
      change = _uniform(key, (batch,), -strength, strength)
      amount = neutral + jnp.where(chosen, change, 0.0)
      images = jax.vmap(adjust)(images, amount)
  return images


def adjust_brightness(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Multiplies f32[H, W, 3] in [0, 1] by a factor."""
  return jnp.clip(factor * image, 0, 1)


def adjust_contrast(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Multiplies the distance of f32[H, W, 3] from its mean luma."""
  mean = jnp.dot(jnp.mean(image, axis=(0, 1)), _LUMA, precision=_HIGHEST)
  return jnp.clip(mean + factor * (image - mean), 0, 1)


def adjust_saturation(image: jax.Array, factor: jax.Array) -> jax.Array:
  """Multiplies the distance of f32[H, W, 3] from its luma."""
  return jnp.clip(mix_with_luma(image, factor), 0, 1)


def mix_with_luma(image: jax.Array, share: jax.Array) -> jax.Array:
  """Computes `share * image + (1 - share) * luma`, f32[H, W, 3].

  A share of 0 makes an image grey.
  """
  # As a product, before which and behind which compilers for CPUs do not fuse:
  # else the changes before it are computed anew at each of the dozen places
  # where `adjust_hue` looks at a channel, and all views take two to four times
  # as long.
  to_luma = jnp.broadcast_to(_LUMA[:, None], (3, 3))
  matrix = share * jnp.eye(3) + (1 - share) * to_luma
  return jnp.einsum("hwc,cd->hwd", image, matrix, precision=_HIGHEST)


def adjust_hue(image: jax.Array, turns: jax.Array) -> jax.Array:
  """Turns the hues of f32[H, W, 3] in [0, 1], saturation and value kept.

  Args:
    image: f32[H, W, 3].
    turns: f32[], of which 1 is the whole circle of HSV.
  """
  red, green, blue = image[..., 0], image[..., 1], image[..., 2]
  value = jnp.maximum(jnp.maximum(red, green), blue)
  chroma = value - jnp.minimum(jnp.minimum(red, green), blue)
  hue = jnp.select(  # In sixths of the circle; of greys any number will do.
      [value == red, value == green],
      [green - blue, blue - red + 2 * chroma], red - green + 4 * chroma,
  ) / jnp.where(chroma > 0, chroma, 1.0)

  def channel(offset):
    place = hue + 6 * turns + offset
    place -= 6 * jnp.floor(place / 6)  # Eight times as quick as jnp.mod.
    return value - chroma * jnp.clip(jnp.minimum(place, 4 - place), 0, 1)

  return jnp.stack([channel(5.0), channel(3.0), channel(1.0)], axis=-1)


def blur(image: jax.Array, sigma: jax.Array) -> jax.Array:
  """Blurs f32[H, W, C] by a Gaussian about a tenth of the side wide.

  As the authors: H // 10 // 2 pixels to each side. At the borders the weights
  of the pixels that exist sum to 1; the authors add black ones.

  Args:
    image: f32[H, W, C].
    sigma: standard deviation in pixels, above 0.
  """
  radius = image.shape[0] // 10 // 2

  def weights(size):
    distance = jnp.arange(size)[:, None] - jnp.arange(size)
    exponent = -((distance / sigma) ** 2) / 2
    return jax.nn.softmax(
        jnp.where(jnp.abs(distance) <= radius, exponent, -jnp.inf), axis=1)

  return resample(image, weights(image.shape[0]), weights(image.shape[1]))


def check_views(views: Views) -> None:
  """Raises InputError unless views can be drawn so."""
  for field, most in (("scale", 1.0), ("ratio", math.inf)):
    low, high = getattr(views, field)
    if not 0 < low <= high <= most or math.isinf(high):
      raise errors.InputError(
          f"views {field} {(low, high)}: give two numbers above 0, the lower "
          "first" + (", up to 1" if field == "scale" else ""))
  for field in ("brightness", "contrast", "saturation", "hue",
                "jitter_probability", "grey_probability", "blur_probability"):
    value, most = getattr(views, field), 0.5 if field == "hue" else 1.0
    if not 0 <= value <= most:
      raise errors.InputError(
          f"views {field} {value!r}: give a number from 0 to {most:g}")
  if not isinstance(views.flip, bool):
    raise errors.InputError(f"views flip {views.flip!r}: give True or False")
  if not dataset.is_integer(views.blur_above) or views.blur_above < 0:
    raise errors.InputError(
        f"views blur_above {views.blur_above!r}: give a number of pixels, such "
        "as 32; a blur_probability of 0 turns the blur off")


def _uniform(rng, shape, low, high):
  """f32, uniform in [low, high); `low` itself where they are equal."""
  return low + (high - low) * jax.random.uniform(rng, shape)


def _coin(rng: jax.Array, batch: int, probability: float) -> jax.Array:
  """bool[B], True with a probability."""
  return jax.random.bernoulli(rng, probability, (batch,))
