"""Tests of natjax.data.augmentation."""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import data, errors
from natjax.data import augmentation

MEAN, STD = (0.5, 0.25, 0.125), (0.25, 0.5, 0.125)

# Compiled, since that is much quicker here; one test compares with plain calls.
_crop_and_flip = jax.jit(
  data.crop_and_flip, static_argnames=("padding", "flip")
)
_cutout = jax.jit(data.cutout, static_argnames="side")


@functools.cache
def _training(augmentation, dtype=jnp.float32):
  """Compiled `prepare`, in training."""
  options = {"augmentation": augmentation, "train": True, "dtype": dtype}
  return jax.jit(functools.partial(data.prepare, mean=MEAN, std=STD, **options))


def _images(*shape):
  """Pixels of which no two shifts look alike, and none is black."""
  return np.random.default_rng(0).integers(1, 256, shape, np.uint8)


def _repeat(image, count):
  return jnp.asarray(np.broadcast_to(image, (count, *image.shape)))


def _naive_crop(image, top, left, padding):
  """The crop whose corner stands at (top, left) of the padded image."""
  height, width, _ = image.shape
  result = np.zeros_like(image)
  for row in range(height):
    for column in range(width):
      from_row, from_column = row + top - padding, column + left - padding
      if 0 <= from_row < height and 0 <= from_column < width:
        result[row, column] = image[from_row, from_column]
  return result


def _darts_cutout(height, width, row, column, side):
  """The mask of the cutout of DARTS (quark0/darts, cnn/utils.py)."""
  mask = np.ones((height, width), np.float32)
  top = np.clip(row - side // 2, 0, height)
  bottom = np.clip(row + side // 2, 0, height)
  left = np.clip(column - side // 2, 0, width)
  right = np.clip(column + side // 2, 0, width)
  mask[top:bottom, left:right] = 0.0
  return mask


def _count(results, candidates):
  """How often every candidate occurs; fails on a result that is none."""
  index = {np.asarray(c).tobytes(): key for key, c in candidates.items()}
  assert len(index) == len(candidates), "candidates must differ"
  return collections.Counter(
    index[result.tobytes()] for result in np.asarray(results)
  )


def _assert_uniform(counts, candidates):
  """Every candidate occurs as often, within 5 standard deviations."""
  expected = sum(counts.values()) / len(candidates)
  for candidate in candidates:
    assert abs(counts[candidate] - expected) < 5 * expected**0.5


def test_normalize_by_hand():
  image = jnp.array([[[[0, 51, 255]]]], jnp.uint8)
  # (0 - 0.5) / 0.25; (0.2 - 0.25) / 0.5; (1 - 0.125) / 0.125.
  result = data.normalize(image, MEAN, STD)
  np.testing.assert_allclose(result[0, 0, 0], [-2.0, -0.1, 7.0], atol=1e-6)
  assert result.dtype == jnp.float32


def test_normalize_equals_the_plain_formula_for_every_pixel_value():
  images = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
  expected = (images / 255.0 - np.array(MEAN)) / np.array(STD)
  result = data.normalize(jnp.asarray(images), MEAN, STD)
  np.testing.assert_allclose(result, expected, atol=2e-6)


def test_crops_are_the_naive_crops_each_as_often():
  image, padding = _images(4, 5, 3), 1
  candidates = {
    (top, left): _naive_crop(image, top, left, padding)
    for top in range(3)
    for left in range(3)
  }
  results = _crop_and_flip(
    jax.random.key(0), _repeat(image, 4500), padding=padding, flip=False
  )
  assert results.dtype == jnp.uint8
  _assert_uniform(_count(results, candidates), candidates)


def test_crops_and_flips_are_drawn_independently():
  image, padding = _images(4, 4, 3), 1
  crops = {
    (top, left): _naive_crop(image, top, left, padding)
    for top in range(3)
    for left in range(3)
  }
  candidates = {(*k, False): crop for k, crop in crops.items()}
  candidates |= {(*k, True): crop[:, ::-1] for k, crop in crops.items()}
  results = _crop_and_flip(
    jax.random.key(1), _repeat(image, 9000), padding=padding, flip=True
  )
  _assert_uniform(_count(results, candidates), candidates)


def test_flips_alone_mirror_half_of_the_images():
  image = _images(3, 4, 3)
  candidates = {False: image, True: image[:, ::-1]}
  results = _crop_and_flip(
    jax.random.key(2), _repeat(image, 1000), padding=0, flip=True
  )
  _assert_uniform(_count(results, candidates), candidates)


def test_flipping_does_not_change_where_the_crops_lie():
  images = jnp.asarray(_images(50, 6, 6, 3))
  rng = jax.random.key(3)
  crops = _crop_and_flip(rng, images, padding=2, flip=False)
  flipped = _crop_and_flip(rng, images, padding=2, flip=True)
  same = (flipped == crops).all(axis=(1, 2, 3))
  mirrored = (flipped == crops[:, :, ::-1]).all(axis=(1, 2, 3))
  assert (same | mirrored).all()
  assert same.any()
  assert mirrored.any()


@pytest.mark.parametrize(("height", "width", "side"), [(6, 7, 4), (5, 5, 2)])
def test_cutout_erases_the_squares_of_darts_each_as_often(height, width, side):
  # Not square: rows and columns must not be exchanged.
  image = np.ones((height, width, 3), np.float32)
  candidates = collections.Counter(
    _darts_cutout(height, width, row, column, side).tobytes()
    for row in range(height)
    for column in range(width)
  )
  assert set(candidates.values()) == {1}
  draws = 100 * height * width
  results = _cutout(jax.random.key(4), _repeat(image, draws), side)
  assert (results[..., 0] == results[..., 2]).all()
  counts = collections.Counter(
    mask.tobytes() for mask in np.asarray(results)[..., 1]
  )
  assert set(counts) <= set(candidates)
  _assert_uniform(counts, candidates)


def test_cutout_of_an_odd_side_has_that_side():
  images = jnp.ones((200, 9, 9, 1))
  erased = (_cutout(jax.random.key(5), images, 3) == 0).sum((1, 2, 3))
  # 3 x 3 inside; 2 x 3 at a border; 2 x 2 in a corner.
  assert set(erased.tolist()) == {9, 6, 4}


def test_cutout_keeps_what_it_does_not_erase():
  images = jnp.asarray(_images(20, 8, 8, 3), jnp.bfloat16)
  results = _cutout(jax.random.key(6), images, 4)
  assert results.dtype == jnp.bfloat16
  kept = np.asarray(results != 0)
  assert 0 < (~kept).sum() < kept.size
  np.testing.assert_array_equal(
    np.asarray(results)[kept], np.asarray(images)[kept]
  )


def test_prepare_only_normalises_when_not_training():
  images = jnp.asarray(_images(4, 8, 8, 3))
  everything = data.Augmentation(4, True, 4)
  result = data.prepare(None, images, MEAN, STD, everything, train=False)
  np.testing.assert_array_equal(result, data.normalize(images, MEAN, STD))


def test_prepare_without_augmentation_only_normalises():
  images = jnp.asarray(_images(4, 8, 8, 3))
  result = _training(data.Augmentation())(jax.random.key(0), images)
  np.testing.assert_array_equal(result, data.normalize(images, MEAN, STD))


def test_prepare_pads_with_black_and_cuts_out_to_zero():
  # White images, so that black, erased and kept pixels are told apart.
  images = jnp.full((64, 8, 8, 3), 255, jnp.uint8)
  augmentation = data.Augmentation(crop_padding=2, cutout=3)
  result = _training(augmentation)(jax.random.key(1), images)
  black = [-2.0, -0.5, -1.0]  # -mean / std
  white = [2.0, 1.5, 7.0]  # (1 - mean) / std
  kinds = np.array([black, [0.0, 0.0, 0.0], white])
  pixels = np.asarray(result).reshape(-1, 1, 3)
  distance = np.abs(pixels - kinds).max(axis=-1)  # [B * H * W, 3]
  assert distance.min(axis=1).max() < 1e-6
  kind = distance.argmin(axis=1).reshape(64, 8, 8)
  assert (kind == 0).any()
  # Erased after the crop: the whole square, where it is inside, is 0.
  erased = (kind == 1).sum(axis=(1, 2))
  assert set(erased.tolist()) == {9, 6, 4}


def test_prepare_of_everything_is_the_naive_pipeline():
  image, augmentation = _images(5, 5, 3), data.Augmentation(1, True, 2)
  results = _training(augmentation)(jax.random.key(2), _repeat(image, 300))
  crops = [
    _naive_crop(image, top, left, 1) for top in range(3) for left in range(3)
  ]
  crops += [crop[:, ::-1] for crop in crops]
  inputs = (np.stack(crops) / 255.0 - np.array(MEAN)) / np.array(STD)
  masks = np.stack(
    [_darts_cutout(5, 5, row, col, 2) for row in range(5) for col in range(5)]
  )
  allowed = (inputs[:, None] * masks[None, ..., None]).reshape(-1, 75)
  for result in np.asarray(results).reshape(-1, 75):
    assert np.abs(allowed - result).max(axis=1).min() < 1e-5


def test_prepare_is_the_same_compiled_and_depends_on_nothing_but_its_key():
  images = jnp.asarray(_images(16, 8, 8, 3))
  augmentation = data.Augmentation(2, True, 4)
  compiled = _training(augmentation)
  first = compiled(jax.random.key(0), images)
  plain = data.prepare(
    jax.random.key(0), images, MEAN, STD, augmentation, train=True
  )
  np.testing.assert_array_equal(first, plain)
  np.testing.assert_array_equal(first, compiled(jax.random.key(0), images))
  assert (first != compiled(jax.random.key(1), images)).any()


def test_prepare_is_the_same_under_vmap_and_scan():
  images = jnp.asarray(_images(3, 16, 8, 8, 3))
  keys = jax.random.split(jax.random.key(0), 3)
  prepare = _training(data.Augmentation(2, True, 4))
  alone = jnp.stack([prepare(keys[i], images[i]) for i in range(3)])
  np.testing.assert_array_equal(alone, jax.vmap(prepare)(keys, images))
  scanned = jax.lax.scan(
    lambda carry, batch: (carry, prepare(*batch)), None, (keys, images)
  )[1]
  np.testing.assert_array_equal(alone, scanned)


def test_prepare_is_traced_once_for_all_keys_and_images():
  traces = []
  prepare = _training(data.Augmentation(2, True, 4))

  @jax.jit
  def counted(rng, images):
    traces.append(None)
    return prepare(rng, images)

  for seed in range(3):
    counted(jax.random.key(seed), jnp.asarray(_images(16, 8, 8, 3)))
  assert len(traces) == 1


def test_prepare_uses_no_key_twice():
  images = jnp.asarray(_images(2, 4, 4, 3))
  with jax.debug_key_reuse(True):
    rng = jax.random.key(0)
    augmentation = data.Augmentation(1, True, 2)
    jax.jit(
      lambda rng: data.prepare(rng, images, MEAN, STD, augmentation, train=True)
    )(rng)


def test_prepare_rounds_to_the_dtype_at_the_end():
  images = jnp.asarray(_images(16, 8, 8, 3))
  rng = jax.random.key(0)
  augmentation = data.Augmentation(2, True, 4)
  half = _training(augmentation, jnp.bfloat16)(rng, images)
  assert half.dtype == jnp.bfloat16
  exact = _training(augmentation)(rng, images).astype(jnp.bfloat16)
  np.testing.assert_array_equal(half, exact)


@pytest.mark.parametrize(
  ("images", "message"),
  [
    (np.zeros((2, 8, 8, 3), np.float32), "float32.*give uint8"),
    (np.zeros((2, 8, 8, 1), np.uint8), r"uint8\[2, 8, 8, 1\]"),
    (np.zeros((2, 8, 6, 3), np.uint8), r"uint8\[2, 8, 6, 3\]"),
    (np.zeros((8, 8, 3), np.uint8), r"uint8\[8, 8, 3\]"),
  ],
)
@pytest.mark.parametrize("train", [True, False])
def test_prepare_refuses_images(images, message, train):
  with pytest.raises(errors.InputError, match=message):
    data.prepare(
      jax.random.key(0), images, MEAN, STD, data.Augmentation(), train=train
    )


def test_prepare_refuses_augmentation_that_does_not_fit():
  images = np.zeros((2, 8, 8, 3), np.uint8)
  with pytest.raises(errors.InputError, match=r"cutout 16.*size \(8\)"):
    data.prepare(
      jax.random.key(0),
      images,
      MEAN,
      STD,
      data.Augmentation(cutout=16),
      train=True,
    )


def test_prepare_refuses_a_traced_augmentation():
  images = np.zeros((2, 8, 8, 3), np.uint8)
  traced = jax.jit(
    lambda a: data.prepare(jax.random.key(0), images, MEAN, STD, a, train=True)
  )
  with pytest.raises(errors.InputError, match="crop_padding"):
    traced(data.Augmentation(1, True, 0))


@pytest.mark.parametrize("augmentation", [
    data.Augmentation(1), data.Augmentation(flip=True),
    data.Augmentation(cutout=2)])
def test_prepare_refuses_to_draw_without_a_key(augmentation):
  images = np.zeros((2, 8, 8, 3), np.uint8)
  with pytest.raises(errors.InputError, match="rng is None"):
    data.prepare(None, images, MEAN, STD, augmentation, train=True)


def test_what_does_not_draw_needs_no_key():
  images = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), np.uint8)
  np.testing.assert_array_equal(*(
      data.prepare(rng, images, MEAN, STD, data.Augmentation(), train=True)
      for rng in (None, jax.random.key(0))))


def test_the_light_has_the_colours_of_imagenet():
  drawn = np.asarray(augmentation.light(jax.random.key(0), 40000, 0.1))
  assert drawn.shape == (40000, 1, 1, 3)
  found = np.cov(drawn.reshape(-1, 3), rowvar=False)
  components = augmentation._COMPONENTS
  expected = 0.01 * components @ np.diag(
    augmentation._EIGENVALUES**2) @ components.T
  np.testing.assert_allclose(found, expected, atol=1.5e-5)
  # The components are orthonormal, to the digits that are known.
  np.testing.assert_allclose(components.T @ components, np.eye(3), atol=2e-4)


def test_photographs_are_cropped_mirrored_and_changed_in_colour():
  images, key = jnp.asarray(_images(40, 6, 6, 3)), jax.random.key(3)
  whole = data.Augmentation(flip=True, scale=(1.0, 1.0), ratio=(1.0, 1.0))
  plain = data.normalize(images, MEAN, STD)
  result = np.asarray(_training(whole)(key, images))
  mirrored = np.asarray(plain[:, :, ::-1])
  flipped = np.abs(result - mirrored).max((1, 2, 3)) < 1e-4
  np.testing.assert_allclose(result[~flipped], plain[~flipped], atol=1e-4)
  assert 8 < flipped.sum() < 32
  # Of one image smaller crops differ, and inside its range of values.
  one = _repeat(_images(6, 6, 3), 40)
  crops = np.asarray(_training(data.Augmentation(scale=(0.1, 0.5)))(key, one))
  assert len({crop.tobytes() for crop in crops}) > 30
  assert crops.min() >= np.asarray(plain).min() and (
    crops.max() <= np.asarray(plain).max())
  # Brightness alone is a factor for each image.
  dark = jnp.minimum(one, 120)
  factor = np.asarray(_training(data.Augmentation(jitter=(0.5, 0.0, 0.0, 0.0)))(
    key, dark) * np.array(STD) + np.array(MEAN)) / (np.asarray(dark) / 255)
  np.testing.assert_allclose(
    factor, np.broadcast_to(factor[:, :1, :1, :1], factor.shape), rtol=1e-4)
  assert 0.5 <= factor.min() < 0.7 and 1.3 < factor.max() <= 1.5
  # Light adds one colour to all pixels of an image.
  light = np.asarray(_training(data.Augmentation(lighting=0.1))(
    key, images) - plain)
  np.testing.assert_allclose(
    light, np.broadcast_to(light[:, :1, :1], light.shape), atol=1e-4)
  assert len({row.tobytes() for row in light[:, 0, 0]}) == 40


@pytest.mark.parametrize(("settings", "message"), [
  ({"scale": (0.5, 1.5)}, "crop scale .* up to 1"),
  ({"scale": (0.5, 1.0), "ratio": (2.0, 1.0)}, "crop ratio"),
  ({"scale": (0.5, 1.0), "crop_padding": 1}, "give one kind of crop"),
  ({"ratio": (0.5, 1.0)}, "give their scale too"),
  ({"jitter": (0.4, 0.4, 0.4, 0.6)}, "the last one, of hues, up to 0.5"),
  ({"jitter": (0.4, 0.4)}, "give four numbers"),
  ({"lighting": -0.1}, "give a number from 0 to 1"),
  ({"lighting": "much"}, "give a number from 0 to 1"),
  ({"scale": 0.5}, "give two numbers above 0"),
])
def test_refuses_views_of_photographs(settings, message):
  with pytest.raises(errors.InputError, match=message):
    data.prepare(jax.random.key(0), jnp.zeros((2, 4, 4, 3), jnp.uint8), MEAN,
                 STD, data.Augmentation(**settings), train=True)
