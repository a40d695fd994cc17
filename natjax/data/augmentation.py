"""Turns u8 images into network inputs, on the device.

The order is that of the papers on CIFAR: pad with black pixels and crop, flip,
normalise, then cut out. So what a crop takes from outside the image is a black
pixel, `-mean / std` after normalisation, while what is cut out is 0, the mean.
On ImageNet they crop, flip, and change colours (`vary`).

All functions are pure, may be compiled or not, and draw for every image of a
batch on its own from one key.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.data import dataset

# Krizhevsky et al., 2012, section 4.1: of pixels in [0, 1], the components of
# ImageNet's colours in columns, and their eigenvalues, as the networks in Torch
# by Facebook (fb.resnet.torch) have them.
_COMPONENTS = np.array([[-0.5675, 0.7192, 0.4009],
                        [-0.5808, -0.0045, -0.8140],
                        [-0.5836, -0.6948, 0.4203]], np.float32)
_EIGENVALUES = np.array([0.2175, 0.0188, 0.0045], np.float32)


def prepare(rng: jax.Array | None, images: jax.Array, mean: Sequence[float],
            std: Sequence[float], augmentation: dataset.Augmentation, *,
            train: bool, dtype: jnp.dtype = jnp.float32) -> jax.Array:
  """Augments, if training, and normalises a batch.

  Args:
    rng: key, consumed; may be None where nothing is drawn: unless `train`, and
      with an augmentation that does nothing.
    images: u8[B, H, W, 3], with H = W.
    mean: of each channel in units of [0, 1], on the host.
    std: standard deviation of each channel in units of [0, 1], on the host.
    augmentation: static; close over it, it is no argument to be traced.
    train: static; whether to augment.
    dtype: of the result.

  Returns:
    dtype[B, H, W, 3].

  Raises:
    InputError: images of another dtype or shape, an augmentation that does not
      suit their size, or no key for one that draws.
  """
  check_images(images)
  if not train:
    return normalize(images, mean, std, dtype)
  dataset.check_augmentation(augmentation, images.shape[1])
  if rng is None and augmentation == dataset.NO_AUGMENTATION:
    return normalize(images, mean, std, dtype)
  if rng is None:
    raise errors.InputError(
        f"rng is None, and {augmentation} draws; give a jax.random.key")
  crop_rng, cutout_rng = jax.random.split(rng)
  if augmentation.crop or augmentation.jitter or augmentation.lighting:
    images = vary(crop_rng, images, augmentation)
  else:
    images = crop_and_flip(crop_rng, images, padding=augmentation.crop_padding,
                           flip=augmentation.flip)
  inputs = normalize(images, mean, std, dtype)
  if augmentation.cutout:
    inputs = cutout(cutout_rng, inputs, augmentation.cutout)
  return inputs


def vary(rng: jax.Array, images: jax.Array,
         augmentation: dataset.Augmentation) -> jax.Array:
  """Crops, flips and changes colours as the papers on ImageNet do.

  In this order; of colours brightness, contrast, saturation, hue, then light.

  Args:
    rng: key, consumed.
    images: u8[B, H, W, 3], with H = W.
    augmentation: static.

  Returns:
    f32[B, H, W, 3] in the units of `images`, not rounded.
  """
  # These are made of what is here.
  from natjax.data import views as views_lib

  crop_rng, flip_rng, color_rng, light_rng = jax.random.split(rng, 4)
  if augmentation.crop is None:
    inputs = crop_and_flip(flip_rng, images, padding=augmentation.crop_padding,
                           flip=augmentation.flip).astype(jnp.float32)
  else:
    batch, side = images.shape[:2]
    scale, ratio = augmentation.crop
    boxes = views_lib.draw_boxes(
        crop_rng, batch, side, views_lib.Views(scale=scale, ratio=ratio))
    mirrored = jax.random.bernoulli(flip_rng, shape=(batch,)) & (
        augmentation.flip)
    inputs = jax.vmap(views_lib.crop_and_resize)(images, boxes, mirrored)
  if augmentation.jitter:
    brightness, contrast, saturation, hue = augmentation.jitter
    inputs = 255 * views_lib.jitter(color_rng, inputs / 255, views_lib.Views(
        brightness=brightness, contrast=contrast, saturation=saturation,
        hue=hue, jitter_probability=1.0))
  if augmentation.lighting:
    inputs += 255 * light(light_rng, len(images), augmentation.lighting)
  return inputs


def light(rng: jax.Array, batch: int, strength: float) -> jax.Array:
  """Draws what is added to all pixels of an image, f32[B, 1, 1, 3] of [0, 1].

  "ImageNet Classification with Deep Convolutional Neural Networks" (Krizhevsky
  et al., 2012, section 4.1): `[p_1, p_2, p_3] [a_1 l_1, a_2 l_2, a_3 l_3]^T`
  with components p, eigenvalues l, and a normal of deviation `strength`.
  """
  drawn = strength * jax.random.normal(rng, (batch, 3))
  return jnp.einsum("cp,bp->bc", _COMPONENTS, drawn * _EIGENVALUES,
                    precision=jax.lax.Precision.HIGHEST)[:, None, None]


def normalize(images: jax.Array, mean: Sequence[float], std: Sequence[float],
              dtype: jnp.dtype = jnp.float32) -> jax.Array:
  """Computes `(images / 255 - mean) / std` of u8[..., 3], in float32.

  Args:
    images: u8[..., 3].
    mean: of each channel in units of [0, 1], on the host.
    std: standard deviation of each channel in units of [0, 1], on the host.
    dtype: of the result, rounded to at the end.
  """
  shift = np.asarray(255 * np.asarray(mean, np.float64), np.float32)
  scale = np.asarray(1 / (255 * np.asarray(std, np.float64)), np.float32)
  # Subtracting before multiplying leaves the compiler nothing to fuse or to
  # reorder, so that compiled and plain calls agree to the bit.
  return ((images.astype(jnp.float32) - shift) * scale).astype(dtype)


def crop_and_flip(rng: jax.Array, images: jax.Array, *, padding: int,
                  flip: bool) -> jax.Array:
  """Shifts every image by up to `padding` pixels, and mirrors half of them.

  The same as padding with `padding` zeros on every side, cropping the original
  size at a place drawn uniformly, and mirroring left to right half of the time.
  Whether `flip` is on does not change where the crops lie.

  Args:
    rng: key, consumed.
    images: [B, H, W, C].
    padding: in pixels, at least 0.
    flip: whether to mirror.

  Returns:
    Images of the same shape and dtype.
  """
  batch, height, width, _ = images.shape
  corner_rng, flip_rng = jax.random.split(rng)
  # Row and column, in the padded image, of the first pixel.
  corners = jax.random.randint(corner_rng, (batch, 2), 0, 2 * padding + 1)
  mirrored = jax.random.bernoulli(flip_rng, shape=(batch,)) & flip

  def window(image, corner, mirrored):
    rows = corner[0] + jnp.arange(height)
    columns = jnp.arange(width)
    columns = corner[1] + jnp.where(mirrored, width - 1 - columns, columns)
    # One gather for both: in a loop on a CPU it takes a third of the time of
    # a dynamic_slice under vmap, and half of that of a crop and then a flip.
    return image.at[rows[:, None], columns].get(mode="promise_in_bounds")

  margins = ((0, 0), (padding, padding), (padding, padding), (0, 0))
  return jax.vmap(window)(jnp.pad(images, margins), corners, mirrored)


def cutout(rng: jax.Array, images: jax.Array, side: int) -> jax.Array:
  """Sets a square at a random place of every image to 0.

  "Improved Regularization of Convolutional Neural Networks with Cutout"
  (DeVries & Taylor, 2017, arXiv:1708.04552): the centre is drawn uniformly
  from the pixels of the image, and the square is clipped at its borders. It
  covers `side` pixels from `centre - side // 2` on, which is the authors' code
  for an even side; an odd side, there rounded down to even, is kept here.

  Args:
    rng: key, consumed.
    images: [B, H, W, C].
    side: in pixels, at least 0.
  """
  batch, height, width, _ = images.shape
  row_rng, column_rng = jax.random.split(rng)

  def covered(key, size):  # bool[B, size]
    first = jax.random.randint(key, (batch, 1), 0, size) - side // 2
    pixel = jnp.arange(size)
    return (pixel >= first) & (pixel < first + side)

  rows, columns = covered(row_rng, height), covered(column_rng, width)
  hole = rows[:, :, None, None] & columns[:, None, :, None]
  return jnp.where(hole, 0, images)


def check_images(images: jax.Array) -> None:
  """Raises InputError for what is not u8[B, H, H, 3]."""
  square = images.ndim == 4 and images.shape[1] == images.shape[2]
  if images.dtype != jnp.uint8 or not square or images.shape[3] != 3:
    raise errors.InputError(
        f"images are {images.dtype}{list(images.shape)}; give uint8 of shape "
        "[B, H, H, 3], as natjax.data.make_dataset returns them")
