"""NT-Xent against its definition, optax, and the joined batch of devices."""


import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from natjax import errors
from natjax.objectives import contrastive
from natjax.training import devices as devices_lib
from natjax.training import method as base

NUM_DEVICES = 4


def draw(images=6, features=5, seed=0):
  """f32[2B, D]: second views resemble first views."""
  rng = np.random.default_rng(seed)
  first = rng.normal(size=(images, features))
  second = first + 0.7 * rng.normal(size=(images, features))
  return np.concatenate([first, second]).astype(np.float32)


def naive(projections, temperature):
  """Equation 1, anchor by anchor, and the share of right neighbours."""
  z = np.asarray(projections, np.float64)
  z /= np.linalg.norm(z, axis=1, keepdims=True)
  views = len(z)
  losses, right = [], []
  for i in range(views):
    j = (i + views // 2) % views
    others = [k for k in range(views) if k != i]
    similar = {k: np.exp(z[i] @ z[k] / temperature) for k in others}
    losses.append(-np.log(similar[j] / sum(similar.values())))
    right.append(max(similar, key=similar.get) == j)
  return np.mean(losses), np.mean(right)


loss_and_grad = jax.jit(jax.value_and_grad(contrastive.nt_xent),
                        static_argnames="temperature")


def labels(images):
  return jnp.tile(jnp.arange(images), 2)


@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_value_is_the_definition_and_that_of_optax(temperature):
  z = draw()
  loss = contrastive.nt_xent(z, temperature=temperature)
  np.testing.assert_allclose(loss, naive(z, temperature)[0], rtol=1e-5)
  np.testing.assert_allclose(
      loss, optax.losses.ntxent(z, labels(6), temperature), rtol=1e-5)


def test_gradient_is_that_of_optax():
  z = draw()
  ours = jax.jit(jax.grad(contrastive.nt_xent))(z)
  theirs = jax.jit(jax.grad(
      lambda z: optax.losses.ntxent(z, labels(6), 0.5)))(z)
  np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-6)


def test_accuracy_is_the_share_of_nearest_positives():
  z = draw(images=30)
  share = naive(z, 1.0)[1]
  assert 0.2 < share < 0.8
  np.testing.assert_allclose(contrastive.accuracy(z), share, rtol=1e-6)
  assert not np.any(jax.grad(contrastive.accuracy)(z))


def test_order_of_images_and_views_and_lengths_do_not_matter():
  z = draw()
  loss = contrastive.nt_xent(z)
  order = np.random.default_rng(1).permutation(6)
  for same in (z[np.r_[order, order + 6]], np.roll(z, 6, axis=0),
               z * np.arange(1, 13, dtype=np.float32)[:, None]):
    np.testing.assert_allclose(contrastive.nt_xent(same), loss, rtol=1e-5)
  assert abs(contrastive.nt_xent(z[np.r_[0:6, order + 6]]) - loss) > 0.1


@pytest.mark.parametrize("z, temperature", [
    (np.zeros((4, 3)), 0.5), (1e15 * draw(), 0.5), (1e-15 * draw(), 0.5),
    (draw(), 1e-3), (np.ones((6, 2)), 1e-3)])
def test_loss_and_gradient_are_finite(z, temperature):
  loss, grad = loss_and_grad(jnp.asarray(z, jnp.float32),
                             temperature=temperature)
  assert np.isfinite(loss) and np.all(np.isfinite(grad))


@pytest.mark.parametrize("length", [0, 1e-9, 1e-6, 1e-3])
def test_the_gradient_of_short_projections_is_bounded(length):
  z = draw()
  z[0] *= length / np.linalg.norm(z[0])
  grad = loss_and_grad(jnp.asarray(z))[1]
  assert np.linalg.norm(grad[0]) <= 1e3


def test_one_image_has_no_negatives():
  np.testing.assert_allclose(contrastive.nt_xent(draw(images=1)), 0, atol=1e-6)


def test_bfloat16_projections_are_computed_in_float32():
  z = jnp.asarray(draw(), jnp.bfloat16)
  loss, grad = loss_and_grad(z)
  assert (loss.dtype, grad.dtype) == (jnp.float32, jnp.bfloat16)
  np.testing.assert_allclose(
      loss, contrastive.nt_xent(z.astype(jnp.float32)), rtol=1e-6)


def test_memory_of_the_gradient():
  """1024 views of 128 numbers: two matrices of 4 MiB, where optax takes 1548.
  """
  z = jax.ShapeDtypeStruct((1024, 128), jnp.float32)

  def loss(z):
    return contrastive.nt_xent(z), contrastive.accuracy(z)

  compiled = jax.jit(jax.value_and_grad(loss, has_aux=True)).lower(z).compile()
  assert compiled.memory_analysis().temp_size_in_bytes <= 16 * 2**20


# Devices.


def shard(x):
  """[2B, ...] -> [devices, 2B / devices, ...], both views of an image."""
  x = x.reshape(2, NUM_DEVICES, -1, *x.shape[1:])
  return jnp.swapaxes(x, 0, 1).reshape(NUM_DEVICES, -1, *x.shape[3:])


def with_vmap(function, in_axes):
  return jax.jit(jax.vmap(function, in_axes, axis_name=base.AXIS))


def with_pmap(function, in_axes):
  return jax.pmap(function, base.AXIS, in_axes=in_axes,
                  devices=devices_lib.choose(NUM_DEVICES))


@pytest.fixture(params=[with_vmap, with_pmap], ids=["vmap", "pmap"])
def spread(request):
  return request.param


def test_devices_together_have_the_loss_of_the_joined_batch(spread):
  z = draw(images=8)

  def run(z):
    loss = contrastive.nt_xent(z, axis_name=base.AXIS)
    return loss, base.mean_over_devices(
        (loss, contrastive.accuracy(z, axis_name=base.AXIS)))

  each, (loss, accuracy) = spread(run, 0)(shard(z))
  assert np.ptp(each) > 0.01
  np.testing.assert_allclose(loss, [contrastive.nt_xent(z)] * 4, rtol=1e-5)
  np.testing.assert_allclose(accuracy, [contrastive.accuracy(z)] * 4,
                             rtol=1e-6)


def test_projections_get_the_gradient_of_all_losses(spread):
  """The sum over devices; so the mean of what follows is the joined one's."""
  z = draw(images=8)
  grads = spread(jax.grad(
      lambda z: contrastive.nt_xent(z, axis_name=base.AXIS)), 0)(shard(z))
  joined = jax.grad(contrastive.nt_xent)(z)
  np.testing.assert_allclose(grads, NUM_DEVICES * shard(joined), rtol=1e-3,
                             atol=1e-5)


def test_parameters_get_the_gradient_of_the_joined_batch(spread):
  """Through a network, then the mean over devices, as updates do."""
  rng = np.random.default_rng(2)
  images = rng.normal(size=(16, 7)).astype(np.float32)
  params = {"kernel": rng.normal(size=(7, 5)).astype(np.float32),
            "bias": rng.normal(size=5).astype(np.float32)}

  def loss(params, images, axis_name=None):
    z = jnp.tanh(images @ params["kernel"] + params["bias"])
    return contrastive.nt_xent(z, temperature=0.3, axis_name=axis_name)

  def run(params, images):
    found = jax.value_and_grad(loss)(params, images, base.AXIS)
    return base.mean_over_devices(found)

  values, grads = spread(run, (None, 0))(params, shard(images))
  value, grad = jax.value_and_grad(loss)(params, images)
  np.testing.assert_allclose(values, [value] * 4, rtol=1e-5)
  for name in params:
    for device in range(NUM_DEVICES):
      np.testing.assert_allclose(grads[name][device], grad[name], rtol=1e-3,
                                 atol=1e-5)


def test_one_device_under_the_axis_is_no_axis():
  z = draw()
  loss = jax.vmap(lambda z: contrastive.nt_xent(z, axis_name="one"),
                  axis_name="one")(z[None])
  np.testing.assert_allclose(loss[0], contrastive.nt_xent(z), rtol=1e-6)


# Refusals.


@pytest.mark.parametrize("shape, temperature, message", [
    ((3, 2), 0.5, r"shape \[3, 2\]"), ((0, 2), 0.5, "shape"),
    ((4,), 0.5, "shape"), ((4, 2), 0.0, "temperature is 0"),
    ((4, 2), float("nan"), "temperature is nan")])
def test_refusals(shape, temperature, message):
  with pytest.raises(errors.InputError, match=message):
    contrastive.nt_xent(jnp.ones(shape), temperature=temperature)
