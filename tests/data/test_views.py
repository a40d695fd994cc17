"""Tests of natjax.data.views."""

import colorsys
import functools

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageEnhance
import pytest
from scipy import ndimage

from natjax import data, errors
from natjax.data import views as views_lib

MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)
NO_CHANGE = data.Views(
  (1.0, 1.0), (1.0, 1.0), False, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
)


@functools.cache
def _two(views):
  """Compiled `two_views`."""
  return jax.jit(functools.partial(data.two_views, views=views))


def _images(*shape, seed=0):
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _plain(count, side=4, seed=0):
  """Images of one colour each, all different."""
  colours = _images(count, 1, 1, 3, seed=seed)
  return np.broadcast_to(colours, (count, side, side, 3))


def _pillow_crop(image, box):
  """The crop and resize of Pillow, on real numbers."""
  top, left, height, width = box
  side = image.shape[0]
  channels = [
    np.asarray(
      Image.fromarray(image[..., c].astype(np.float32))
      .crop((left, top, left + width, top + height))
      .resize((side, side), Image.Resampling.BILINEAR)
    )
    for c in range(3)
  ]
  return np.stack(channels, axis=-1)


# Crops.


@pytest.mark.parametrize(
  "box", [(0, 0, 9, 9), (2, 1, 5, 7), (8, 0, 1, 9), (3, 4, 4, 3), (6, 6, 3, 3)]
)
def test_a_crop_is_that_of_pillow(box):
  image = _images(9, 9, 3)
  expected = _pillow_crop(image, box)
  for mirrored in (False, True):
    result = views_lib.crop_and_resize(
      image, jnp.array(box), jnp.array(mirrored)
    )
    wanted = expected[:, ::-1] if mirrored else expected
    np.testing.assert_allclose(result, wanted, atol=1e-3)


def test_a_crop_by_hand():
  """Two pixels become four: ends, and quarters between the centres."""
  row = jnp.array([7.0, 0.0, 100.0, 9.0])
  image = jnp.broadcast_to(row[None, :, None], (4, 4, 3))
  result = views_lib.crop_and_resize(
    image, jnp.array([0, 1, 4, 2]), jnp.array(False)
  )
  np.testing.assert_allclose(result[2, :, 1], [0, 25, 75, 100], atol=1e-5)


def test_boxes_have_the_areas_and_ratios_asked_for():
  side = 100
  views = data.Views(scale=(0.2, 0.6), ratio=(0.5, 2.0))
  boxes = np.asarray(views_lib.draw_boxes(jax.random.key(0), 4000, side, views))
  top, left, height, width = boxes.T
  assert boxes.min() >= 0
  assert (top + height).max() <= side
  assert (left + width).max() <= side
  area = height * width / side**2
  assert 0.19 < area.min() < 0.21
  assert 0.59 < area.max() < 0.61
  # Uniform, but for the boxes drawn anew; five standard deviations.
  assert abs(area.mean() - 0.4) < 0.03
  ratio = np.log2(width / height)
  assert -1.05 < ratio.min() < -0.9
  assert 0.9 < ratio.max() < 1.05
  assert abs(ratio.mean()) < 0.05
  # Places reach from border to border.
  assert top.min() == left.min() == 0
  assert (top + height == side).any()
  assert (left + width == side).any()


def test_a_box_that_never_fits_is_the_whole_image():
  views = data.Views(scale=(1.0, 1.0), ratio=(2.0, 3.0))
  boxes = views_lib.draw_boxes(jax.random.key(0), 20, 8, views)
  np.testing.assert_array_equal(boxes, [[0, 0, 8, 8]] * 20)


# Colours.


def test_turning_hues_is_that_of_colorsys():
  image = np.concatenate(
    [_images(6, 6, 3) / 255, np.full((6, 1, 3), 0.3), np.eye(6, 3)[:, None]], 1
  ).astype(np.float32)
  for turns in (-0.5, -0.1, 0.0, 0.07, 0.4):
    expected = np.empty_like(image)
    for place in np.ndindex(image.shape[:2]):
      h, s, v = colorsys.rgb_to_hsv(*image[place].tolist())
      expected[place] = colorsys.hsv_to_rgb((h + turns) % 1, s, v)
    result = views_lib.adjust_hue(jnp.asarray(image), turns)
    np.testing.assert_allclose(result, expected, atol=2e-5)


@pytest.mark.parametrize(
  ("adjust", "enhance"),
  [
    (views_lib.adjust_brightness, ImageEnhance.Brightness),
    (views_lib.adjust_contrast, ImageEnhance.Contrast),
    (views_lib.adjust_saturation, ImageEnhance.Color),
  ],
)
@pytest.mark.parametrize("factor", [0.0, 0.6, 1.0, 1.4])
def test_colours_are_changed_as_pillow_does(adjust, enhance, factor):
  """But for its rounding to u8, up to two steps."""
  image = _images(12, 12, 3)
  expected = np.asarray(enhance(Image.fromarray(image)).enhance(factor))
  result = 255 * adjust(jnp.asarray(image / 255, jnp.float32), factor)
  np.testing.assert_allclose(result, expected, atol=2.0)


def test_grey_by_hand():
  image = jnp.array([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]])
  grey = views_lib.mix_with_luma(image, 0.0)
  np.testing.assert_allclose(
    grey[0], [[0.299] * 3, [0.587] * 3, [0.114] * 3], atol=1e-6
  )
  half = views_lib.mix_with_luma(image, 0.5)
  np.testing.assert_allclose(half, (grey + image) / 2, atol=1e-6)


# Blur.


def test_blur_is_that_of_scipy_inside_and_keeps_one_colour():
  side, sigma = 40, 1.3
  radius = 2  # 40 // 10 // 2.
  image = _images(side, side, 3) / 255
  result = jax.jit(views_lib.blur)(jnp.asarray(image, jnp.float32), sigma)
  expected = ndimage.gaussian_filter(
    image, sigma, axes=(0, 1), radius=radius, mode="nearest"
  )
  inside = slice(radius, -radius)
  np.testing.assert_allclose(
    result[inside, inside], expected[inside, inside], atol=1e-5
  )
  plain = jnp.full((side, side, 3), 0.7)
  np.testing.assert_allclose(views_lib.blur(plain, sigma), plain, atol=1e-5)


def test_small_images_are_not_blurred():
  """At the rule's limit of pixels no view is; above it, about half are."""
  images = jnp.asarray(_images(100, 22, 22, 3))
  sharp = _two(NO_CHANGE._replace(blur_probability=0.5, blur_above=22))
  np.testing.assert_allclose(
    255 * sharp(jax.random.key(0), images)[:100], images, atol=1e-4
  )
  result = _two(NO_CHANGE._replace(blur_probability=0.5, blur_above=21))(
    jax.random.key(0), images
  )
  same = np.abs(255 * result[:100] - images).max((1, 2, 3)) < 1e-2
  # Those of the smallest sigmas stay as they are; five standard deviations.
  assert 25 < same.sum() < 80


# Views.


def test_no_change_is_the_identity():
  images = jnp.asarray(_images(5, 8, 8, 3))
  twice = np.concatenate([images, images])
  result = _two(NO_CHANGE)(jax.random.key(0), images)
  np.testing.assert_array_equal(np.round(255 * result).astype(np.uint8), twice)
  prepared = jax.jit(
    functools.partial(data.TwoViews(MEAN, STD, NO_CHANGE), train=True)
  )(jax.random.key(0), images)
  np.testing.assert_allclose(
    prepared, data.normalize(twice, MEAN, STD), atol=1e-5
  )


def test_strengths_of_nothing_leave_colours_alone():
  """Factors of 1 and turns of 0, where every change is computed."""
  images = jnp.asarray(_images(5, 8, 8, 3))
  tiny = NO_CHANGE._replace(
    brightness=1e-9,
    contrast=1e-9,
    saturation=1e-9,
    hue=1e-9,
    jitter_probability=1.0,
    grey_probability=1e-9,
  )
  result = _two(tiny)(jax.random.key(0), images)
  np.testing.assert_allclose(
    255 * result, np.concatenate([images, images]), atol=1e-3
  )


def test_view_i_and_view_i_plus_b_are_of_image_i():
  images = _plain(50)
  crops = data.Views(jitter_probability=0.0, grey_probability=0.0)
  result = _two(crops)(jax.random.key(0), jnp.asarray(images))
  expected = np.concatenate([images, images]) / 255
  np.testing.assert_allclose(result, expected, atol=1e-5)


def test_draws_differ_between_images_and_views():
  images = jnp.asarray(np.broadcast_to(_images(8, 8, 3), (40, 8, 8, 3)))
  rng = jax.random.key(0)
  draw = _two(data.Views(jitter_probability=1.0, grey_probability=0.0))
  result = np.asarray(draw(rng, images))
  assert len({view.tobytes() for view in result}) == 80
  np.testing.assert_array_equal(result, draw(rng, images))
  other = draw(jax.random.key(1), images)
  assert np.abs(result - other).max(axis=(1, 2, 3)).min() > 0


@pytest.mark.parametrize("change", ["brightness", "contrast", "saturation"])
def test_factors_are_uniform_around_one(change):
  """Measured on images for which the factor can be read off."""
  # Half of the pixels above and half below the mean, none near a border.
  image = np.full((4, 4, 3), 100, np.uint8)
  image[::2, :, 0] = 140
  images = jnp.asarray(np.broadcast_to(image, (2000, 4, 4, 3)))
  views = NO_CHANGE._replace(jitter_probability=0.8, **{change: 0.4})
  result = np.asarray(255 * _two(views)(jax.random.key(3), images))
  if change == "brightness":
    factors = result[:, 0, 0, 0] / 140
  elif change == "contrast":
    factors = (result[:, 0, 0, 0] - result[:, 1, 0, 0]) / 40
  else:
    factors = (result[:, 0, 0, 0] - result[:, 0, 0, 1]) / 40
  untouched = np.abs(factors - 1) < 1e-4
  assert abs(untouched.mean() - 0.2) < 0.04
  drawn = factors[~untouched]
  assert 0.599 < drawn.min() < 0.61
  assert 1.39 < drawn.max() < 1.401
  assert abs(drawn.mean() - 1) < 0.02
  assert abs(drawn.std() - 0.8 / 12**0.5) < 0.02


def test_a_fifth_of_the_views_is_grey_and_half_is_mirrored():
  image = _images(4, 4, 3)
  images = jnp.asarray(np.broadcast_to(image, (2000, 4, 4, 3)))
  views = NO_CHANGE._replace(grey_probability=0.2, flip=True)
  result = np.asarray(255 * _two(views)(jax.random.key(0), images))
  grey = np.ptp(result, axis=-1).max(axis=(1, 2)) < 1e-3
  assert abs(grey.mean() - 0.2) < 0.04
  # The first and the second view are drawn apart: 0.2 * 0.2 of both.
  both = grey[:2000] & grey[2000:]
  assert abs(both.mean() - 0.04) < 0.025
  coloured = result[~grey]
  same = np.abs(coloured - image).max(axis=(1, 2, 3)) < 1e-3
  mirrored = np.abs(coloured - image[:, ::-1]).max(axis=(1, 2, 3)) < 1e-3
  assert (same ^ mirrored).all()
  assert abs(mirrored.mean() - 0.5) < 0.05


@pytest.mark.parametrize("side", [8, 40])
def test_values_stay_in_range(side):
  """Also of black, white and strongly coloured images."""
  images = np.concatenate(
    [
      _images(20, side, side, 3),
      255 * (_images(20, side, side, 3) > 128),
      np.zeros((2, side, side, 3)),
      np.full((2, side, side, 3), 255),
    ]
  ).astype(np.uint8)
  strong = data.Views(
    scale=(0.01, 1.0), brightness=0.8, contrast=0.8, saturation=0.8, hue=0.5
  )
  result = np.asarray(_two(strong)(jax.random.key(0), jnp.asarray(images)))
  assert result.shape == (88, side, side, 3)
  assert result.dtype == np.float32
  assert np.isfinite(result).all()
  assert result.min() > -1e-5
  assert result.max() < 1 + 1e-5


# The preparation.


@pytest.mark.long
def test_compiled_and_plain_calls_agree():
  images = jnp.asarray(_images(4, 40, 40, 3))
  prepare = data.TwoViews(MEAN, STD)
  rng = jax.random.key(0)
  compiled = jax.jit(functools.partial(prepare, train=True))(rng, images)
  np.testing.assert_allclose(
    compiled, prepare(rng, images, train=True), atol=2e-4
  )


def test_images_are_only_normalised_when_not_training():
  images = jnp.asarray(_images(4, 8, 8, 3))
  prepare = data.TwoViews(MEAN, STD)
  np.testing.assert_array_equal(
    prepare(None, images, train=False), data.normalize(images, MEAN, STD)
  )


def test_the_dtype_is_rounded_to_at_the_end():
  images = jnp.asarray(_images(4, 8, 8, 3))
  rng = jax.random.key(0)
  exact, half = (
    jax.jit(
      functools.partial(data.TwoViews(MEAN, STD, dtype=dtype), train=True)
    )(rng, images)
    for dtype in (jnp.float32, jnp.bfloat16)
  )
  assert half.dtype == jnp.bfloat16
  np.testing.assert_allclose(
    half.astype(jnp.float32), exact, atol=1e-4, rtol=2**-7
  )


def test_a_preparation_is_hashable_and_equal_by_its_settings():
  assert hash(data.TwoViews(MEAN, STD)) == hash(data.TwoViews(MEAN, STD))
  assert data.TwoViews(MEAN, STD) == data.TwoViews(MEAN, STD)
  assert data.TwoViews(MEAN, STD) != data.TwoViews(MEAN, STD, NO_CHANGE)


def test_no_key_is_used_twice():
  images = jnp.asarray(_images(2, 40, 40, 3))
  with jax.debug_key_reuse(True):
    rng = jax.random.key(0)
    jax.jit(lambda rng: data.two_views(rng, images, data.Views()))(rng)


# Refusals.


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"scale": (0.0, 1.0)}, r"scale \(0.0, 1.0\).*up to 1"),
    ({"scale": (0.5, 0.2)}, "lower first"),
    ({"scale": (0.5, 1.5)}, "up to 1"),
    ({"ratio": (1.0, float("inf"))}, "ratio"),
    ({"brightness": -0.1}, "brightness -0.1.*from 0 to 1"),
    ({"hue": 0.6}, "hue 0.6.*from 0 to 0.5"),
    ({"grey_probability": 1.1}, "grey_probability 1.1"),
    ({"blur_probability": float("nan")}, "blur_probability nan"),
    ({"flip": 1}, "flip 1.*True or False"),
    ({"blur_above": 1.5}, "blur_above 1.5"),
  ],
)
def test_views_that_cannot_be_drawn_are_refused(change, message):
  with pytest.raises(errors.InputError, match=message) as e:
    views_lib.check_views(data.Views()._replace(**change))
  assert "\n" not in str(e.value)


def test_images_and_keys_are_checked():
  prepare = data.TwoViews(MEAN, STD)
  images = np.zeros((2, 8, 8, 3), np.uint8)
  with pytest.raises(errors.InputError, match="rng is None"):
    prepare(None, images, train=True)
  for train in (True, False):
    with pytest.raises(errors.InputError, match=r"float32.*give uint8"):
      prepare(jax.random.key(0), images.astype(np.float32), train=train)
