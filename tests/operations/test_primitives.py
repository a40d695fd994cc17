"""Array functions, in the form for CPUs and in that for accelerators."""

import concurrent.futures
import functools

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax.operations import primitives
from tests.networks import oracle
from tests.operations import modules

images, SHAPE = modules.images, modules.SHAPE

DEPTHWISE = [(1, 1, 2), (3, 1, 1), (3, 2, 1), (3, 1, 2), (5, 2, 2), (7, 2, 1)]


def plain_depthwise(x, kernel, stride, dilation):
  """XLA's own grouped convolution."""
  pad = (kernel.shape[0] - 1) // 2 * dilation
  return lax.conv_general_dilated(
      x, kernel, (stride, stride), [(pad, pad)] * 2,
      rhs_dilation=(dilation, dilation), feature_group_count=x.shape[-1],
      dimension_numbers=("NHWC", "HWIO", "NHWC"))


def plain_pool(x, size, stride, padding, kind):
  """XLA's own window reductions."""
  window = ((1, size, size, 1), (1, stride, stride, 1),
            ((0, 0), (padding, padding), (padding, padding), (0, 0)))
  if kind == "max":
    return lax.reduce_window(x, -jnp.inf, lax.max, *window)
  total, count = (lax.reduce_window(v, 0.0, lax.add, *window)
                  for v in (x, jnp.ones_like(x)))
  return total / count


@functools.partial(jax.jit, static_argnums=(0, 1))
def both(function, plain, *args):
  """Values and gradients of two forms, along one random cotangent."""
  y, pull = jax.vjp(function, *args)
  z, pull_plain = jax.vjp(plain, *args)
  g = jnp.asarray(images(y.shape, seed=9))
  return (y, pull(g)), (z, pull_plain(g))


def check_gradients(function, plain, *args):
  """Returns the value, after comparing two forms in value and gradient."""
  ours, theirs = both(function, plain, *args)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4,
                                 atol=1e-5), ours, theirs)
  return ours[0]


@pytest.mark.parametrize("size, stride, dilation", DEPTHWISE)
def test_depthwise_conv(branch, size, stride, dilation):
  x, kernel = images(), images((size, size, 1, 4), seed=1)
  y = check_gradients(
      functools.partial(primitives.depthwise_conv, stride=stride,
                        dilation=dilation),
      lambda x, kernel: plain_depthwise(x, kernel, stride, dilation), x, kernel)
  np.testing.assert_allclose(y, oracle.conv(
      x, kernel, stride=stride, dilation=dilation, depthwise=True),
      rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dilation", [1, 2])
def test_no_window_is_a_whole_image(dilation):
  """On CUDA that was a kernel's gradient: one output per tap, no work to share.
  """
  x, kernel = images((2, 16, 16, 4)), images((3, 3, 1, 4))
  traced = jax.jit(jax.grad(lambda x, kernel: jnp.sum(primitives.depthwise_conv(
      x, kernel, dilation=dilation)**2), (0, 1))).trace(x, kernel)
  text = traced.lower(lowering_platforms=("cuda",)).as_text()
  strides = [line.split("window = {")[1].split("}")[0] for line in
             text.splitlines() if "stablehlo.convolution" in line]
  assert len(strides) == {1: 3, 2: 2}[dilation]
  # A dilated kernel's gradient would step through its window by the dilation.
  assert not any("stride = [2, 2]" in window for window in strides)


@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 2)])
def test_depthwise_gradient_equals_finite_differences(stride, dilation):
  """The hand-written gradient, without any other convolution of jax."""
  x, kernel = images((2, 5, 6, 3)), images((3, 3, 1, 3), seed=1)
  g = images((2, -(-5 // stride), -(-6 // stride), 3), seed=2)

  def loss(x, kernel):
    return np.sum(g * oracle.conv(x, kernel, stride=stride, dilation=dilation,
                                  depthwise=True))

  @jax.jit
  def gradients(x, kernel):
    return jax.grad(lambda x, kernel: jnp.sum(g * primitives.depthwise_conv(
        x, kernel, stride=stride, dilation=dilation)), (0, 1))(x, kernel)

  for seed in range(3):
    dx = images(x.shape, seed=10 + seed).astype(np.float64)
    dk = images(kernel.shape, seed=20 + seed).astype(np.float64)
    # The loss is quadratic in a step, so that central differences are exact.
    slope = (loss(x + dx, kernel + dk) - loss(x - dx, kernel - dk)) / 2
    along = sum(np.sum(a * b) for a, b in zip(
        gradients(x, kernel), (dx, dk), strict=True))
    np.testing.assert_allclose(along, slope, rtol=1e-4)


@pytest.mark.parametrize("size, stride, dilation, depthwise", [
    (1, 2, 1, False), (3, 2, 1, False), (4, 4, 1, False), (7, 2, 1, False),
    (3, 2, 1, True), (5, 2, 2, True), (7, 3, 1, True)])
def test_same_padding(branch, size, stride, dilation, depthwise):
  """On an odd and an even side, and not what symmetry gives on the latter."""
  x = images()
  kernel = images((size, size, 1 if depthwise else 4, 4), seed=1)
  ours = primitives.depthwise_conv if depthwise else primitives.conv
  options = {"stride": stride, "dilation": dilation}
  y = check_gradients(
      functools.partial(ours, **options, padding="same"),
      lambda x, kernel: lax.conv_general_dilated(
          x, kernel, (stride, stride), "SAME", rhs_dilation=(dilation,) * 2,
          feature_group_count=4 if depthwise else 1,
          dimension_numbers=("NHWC", "HWIO", "NHWC")), x, kernel)
  assert np.allclose(y, ours(x, kernel, **options)) == (size == 1)


POOLS = [(2, 2, 0), (3, 1, 1), (3, 2, 1), (5, 1, 2), (5, 2, 2), (5, 3, 0)]


def check_pool(kind, size, stride, padding):
  x = images((2, 8, 7, 3))
  pool = {"max": primitives.max_pool, "avg": primitives.avg_pool}[kind]
  y = check_gradients(
      functools.partial(pool, size=size, stride=stride, padding=padding),
      lambda x: plain_pool(x, size, stride, padding, kind), x)
  np.testing.assert_allclose(y, oracle.pool(
      x, size, {"max": np.max, "avg": np.mean}[kind], stride=stride,
      padding=padding), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size, stride, padding", POOLS)
def test_max_pool(branch, size, stride, padding):
  check_pool("max", size, stride, padding)


@pytest.mark.parametrize("size, stride, padding", POOLS)
def test_avg_pool(size, stride, padding):
  check_pool("avg", size, stride, padding)


def test_max_pool_of_negative_images(branch):
  """Padding never wins."""
  y = primitives.max_pool(jnp.full((1, 3, 3, 1), -2.0), 3, padding=1)
  np.testing.assert_array_equal(y, np.full((1, 3, 3, 1), -2.0))


def test_avg_pool_literal():
  """Rows 1 2 / 3 4 under 3x3 windows: padding is no part of the mean."""
  x = jnp.array([[1.0, 2.0], [3.0, 4.0]])[None, :, :, None]
  np.testing.assert_allclose(
      primitives.avg_pool(x, 3, padding=1), np.full((1, 2, 2, 1), 2.5))


CONVS = [
    ((1, 1), {}), ((1, 1), {"stride": 2}), ((1, 1), {"padding": 1}),
    ((3, 3), {}), ((3, 3), {"stride": 2}), ((3, 3), {"dilation": 2}),
    ((5, 5), {"stride": 2, "dilation": 2}), ((3, 3), {"padding": 0}),
    ((2, 2), {"padding": 0}), ((2, 2), {"padding": 0, "stride": 2}),
    ((1, 7), {"stride": (1, 2)}), ((5, 1), {"stride": (2, 1)}),
]


def plain_conv(x, kernel, *, stride=1, dilation=1, padding=None):
  """XLA's own convolution, and so the gradients that jax derives for it."""
  strides = (stride, stride) if isinstance(stride, int) else stride
  pads = [(k - 1) * dilation // 2 if padding is None else padding
          for k in kernel.shape[:2]]
  return lax.conv_general_dilated(
      x, kernel, strides, [(p, p) for p in pads],
      rhs_dilation=(dilation, dilation),
      dimension_numbers=("NHWC", "HWIO", "NHWC"))


@pytest.mark.parametrize("kernel, options", CONVS)
def test_conv(branch, kernel, options):
  # 9 x 8 pixels: at stride 2 the last row is left over, the last column not.
  x, kernel = images((2, 9, 8, 4)), images((*kernel, 4, 5), seed=1)
  y = check_gradients(
      functools.partial(primitives.conv, **options),
      functools.partial(plain_conv, **options), x, kernel)
  np.testing.assert_allclose(
      y, oracle.conv(x, kernel, **options), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kernel, size, options", [
    ((3, 3), (2, 2), {}), ((3, 3), (1, 1), {}), ((3, 3), (2, 2), {"stride": 2}),
    ((5, 5), (4, 4), {}), ((5, 5), (3, 4), {"stride": 2}),
    ((7, 7), (2, 3), {"stride": 2}), ((3, 3), (2, 2), {"dilation": 2}),
    ((1, 7), (2, 2), {}), ((3, 3), (2, 2), {"padding": 2})])
def test_conv_whose_window_is_larger_than_the_image(
    branch, kernel, size, options):
  x, kernel = images((3, *size, 4)), images((*kernel, 4, 5), seed=1)
  y = check_gradients(
      functools.partial(primitives.conv, **options),
      functools.partial(plain_conv, **options), x, kernel)
  np.testing.assert_allclose(
      y, oracle.conv(x, kernel, **options), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size, window, options, shape", [
    ((2, 2), 3, {"padding": 0}, (0, 0)), ((2, 4), 3, {"padding": 0}, (0, 2)),
    ((2, 2), 5, {"padding": 0, "stride": 2}, (0, 0)),
    ((4, 4), 3, {"padding": 0, "dilation": 2}, (0, 0)),
    ((0, 0), 3, {"stride": 2}, (0, 0)), ((0, 4), 3, {}, (0, 4)),
    ((0, 0), 1, {}, (0, 0)), ((0, 0), 3, {"padding": 2}, (2, 2))])
def test_an_image_of_no_pixels_has_gradients(
    branch, size, window, options, shape):
  x = jnp.asarray(images((3, *size, 4)))
  kernel = jnp.asarray(images((window, window, 4, 5), seed=1))
  conv = functools.partial(primitives.conv, **options)
  assert conv(x, kernel).shape == (3, *shape, 5)
  for grad, of in zip(jax.grad(lambda x, kernel: jnp.sum(jnp.sin(conv(
      x, kernel))), (0, 1))(x, kernel), (x, kernel), strict=True):
    np.testing.assert_array_equal(grad, np.zeros_like(of))


def test_no_convolution_has_a_window_larger_than_its_image():
  """XLA exchanges the two, which is many times slower on the CPU."""
  x, kernel = images((3, 2, 2, 4)), images((3, 3, 4, 5), seed=1)
  loss = lambda x, kernel: jnp.sum(jnp.sin(primitives.conv(x, kernel)))
  program = jax.jit(jax.grad(loss, (0, 1))).lower(
      x, kernel).compile().as_text()
  assert " convolution(" in program and "rhs_reversal" not in program


SECOND = [
    (functools.partial(primitives.depthwise_conv, stride=2, dilation=2),
     lambda x, kernel: plain_depthwise(x, kernel, 2, 2), (3, 3, 1, 4)),
    (primitives.depthwise_conv,
     lambda x, kernel: plain_depthwise(x, kernel, 1, 1), (3, 3, 1, 4)),
    (functools.partial(primitives.conv, stride=2),
     functools.partial(plain_conv, stride=2), (3, 3, 4, 5)),
    (primitives.conv, plain_conv, (1, 1, 4, 5)),
]


@pytest.mark.parametrize("function, plain, shape", SECOND)
def test_plain_derivatives_of_any_order(branch, function, plain, shape):
  args = images((2, 5, 6, 4)), images(shape, seed=1)
  along = images(args[0].shape, seed=2), images(shape, seed=3)

  def derivatives(function):
    loss = lambda args: jnp.sum(jnp.sin(function(*args)))
    gradient = jax.grad(loss)
    square = lambda args: sum(jnp.sum(g**2) for g in gradient(args))
    return jax.jit(lambda: (
        jax.jvp(loss, (args,), (along,)), jax.jvp(gradient, (args,), (along,)),
        jax.grad(square)(args), jax.jvp(jax.grad(square), (args,), (along,))))()

  with primitives.plain_derivatives():
    ours = derivatives(function)
  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3,
                                 atol=1e-3), ours, derivatives(plain))


@pytest.mark.parametrize("function, plain, shape", SECOND)
def test_gradient_of_the_written_gradient(function, plain, shape):
  """Reverse mode goes through the hand-written gradients a second time."""
  args = images((2, 5, 6, 4)), images(shape, seed=1)

  def second(function):
    gradient = jax.grad(lambda args: jnp.sum(jnp.sin(function(*args))))
    return jax.jit(jax.grad(
        lambda args: sum(jnp.sum(g**2) for g in gradient(args))))(args)

  jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-3,
                                 atol=1e-3), second(function), second(plain))


@pytest.mark.parametrize("function", [
    lambda x: primitives.conv(x, jnp.ones((1, 1, 4, 6)), stride=2),
    lambda x: primitives.conv(x, jnp.ones((3, 3, 4, 6))),
    lambda x: primitives.depthwise_conv(
        x, jnp.ones((3, 3, 1, 4)), stride=2, dilation=2),
    lambda x: primitives.max_pool(x, 3, stride=2, padding=1),
    lambda x: primitives.avg_pool(x, 3, stride=2, padding=1),
    primitives.materialize])
def test_portable_programs_ask_for_no_platform(function):
  x = jnp.asarray(images(SHAPE))
  traced = lambda: str(jax.make_jaxpr(lambda x: function(x))(x))
  # The same shapes before and after: it is not the first trace that counts.
  expected, before = function(x), traced()
  with primitives.portable():
    inside = traced()
    np.testing.assert_allclose(function(x), expected, rtol=1e-5, atol=1e-5)
  assert not {"platform_index", "custom_vjp"} & set(
      inside.replace("[", " ").split())
  assert traced() == before


def test_plain_derivatives_end_with_the_block():
  assert not primitives.derivatives_are_plain()
  with pytest.raises(ZeroDivisionError), primitives.plain_derivatives():
    assert primitives.derivatives_are_plain()
    with concurrent.futures.ThreadPoolExecutor() as pool:
      assert not pool.submit(primitives.derivatives_are_plain).result()
    1 / 0  # noqa: B018
  assert not primitives.derivatives_are_plain()
  args = images((1, 3, 3, 2)), images((3, 3, 1, 2))
  with pytest.raises(TypeError, match="custom_vjp"):
    jax.jvp(primitives.depthwise_conv, args, args)


def test_conv_gradient_is_of_the_images_dtype(branch):
  x, kernel = images((2, 4, 4, 3)).astype(jnp.bfloat16), images((3, 3, 3, 2))
  g_x, g_kernel = jax.jit(jax.grad(lambda x, kernel: jnp.sum(
      primitives.conv(x, kernel).astype(jnp.float32)), (0, 1)))(x, kernel)
  assert (g_x.dtype, g_kernel.dtype) == (jnp.bfloat16, kernel.dtype)


@pytest.mark.parametrize("function, channels", [
    (functools.partial(primitives.conv, stride=2), 4),
    (functools.partial(primitives.conv, dilation=2), 4),
    (functools.partial(primitives.depthwise_conv, stride=2), 1)])
def test_gradients_in_float64_are_exact(function, channels):
  """Those that are written by hand, against JAX's own."""
  rng = np.random.default_rng(0)
  with jax.enable_x64(True):
    args = rng.normal(size=(2, 7, 7, 4)), rng.normal(size=(3, 3, channels, 4))
    loss = lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel)))
    ours = jax.jit(jax.grad(lambda *args: loss(*args), (0, 1)))(*args)
    with primitives.plain_derivatives():
      plain = jax.jit(jax.grad(loss, (0, 1)))(*args)
    assert [leaf.dtype for leaf in ours] == [jnp.float64] * 2
    oracle.assert_close(jax.device_get(ours), jax.device_get(plain), rtol=1e-12)


def test_batch_normalize():
  x = 3 + 2 * images()
  y = primitives.batch_normalize(x)
  np.testing.assert_allclose(y, oracle.norm(x, oracle.scope({})), atol=1e-5)
  np.testing.assert_allclose(np.mean(y, (0, 1, 2)), 0, atol=1e-5)
  np.testing.assert_allclose(np.var(y, (0, 1, 2)), 1, atol=1e-4)
  # Constant channels give zeros, not NaN.
  assert not np.any(primitives.batch_normalize(jnp.full(SHAPE, 5.0)))


def test_statistics_of_bfloat16_are_float32():
  """Sums of thousands of pixels do not fit into bfloat16's eight bits."""
  x = jnp.asarray(8 + images((16, 16, 16, 2)), jnp.bfloat16)
  y = primitives.batch_normalize(x)
  assert y.dtype == jnp.bfloat16
  expected = oracle.norm(np.asarray(x, np.float64), oracle.scope({}))
  np.testing.assert_allclose(np.asarray(y, np.float64), expected, rtol=0.01,
                             atol=1e-3)


@pytest.mark.parametrize("size, stride, out", [
    (8, 1, 8), (8, 2, 4), (7, 2, 4), (1, 2, 1), (9, 3, 3),
])
def test_output_size(size, stride, out):
  assert primitives.output_size(size, stride) == out


def test_relus_are_heard_within_their_block_alone():
  x = jnp.array([-1.0, 3.0, 8.0])
  with primitives.relu_inputs() as outer:
    assert primitives.relu(x).tolist() == [0, 3, 8]
    with primitives.relu_inputs() as inner:
      assert primitives.relu(x - 1, most=6).tolist() == [0, 2, 6]
    jax.jit(primitives.relu)(x)  # As it is traced.
  primitives.relu(x)
  assert [h.tolist() for h in inner] == [[-2, 2, 7]]
  assert len(outer) == 2 and outer[0] is x and outer[1].shape == x.shape
