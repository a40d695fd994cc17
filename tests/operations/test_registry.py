"""Tests of `natjax.operations` and of the array functions under them."""

import functools
import re

import flax.linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors
from natjax import operations
from natjax.networks import layers
from natjax.operations import primitives
from tests.networks import oracle

CASES = [(name, stride) for name in operations.names()
         for stride in operations.get(name).strides]
SHAPE = (2, 7, 6, 4)  # One odd and one even side.


def images(shape=SHAPE, seed=0):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(params=["cpu", "default"])
def branch(request, monkeypatch):
  """Runs a test with the CPU's form and with the accelerators' form."""
  def choose(*args, **branches):
    return branches[request.param](*args)

  monkeypatch.setattr(lax, "platform_dependent", choose)
  return request.param


def affine_norm(name):
  return layers.BatchAffineNorm(name=name)


def build(name, stride, channels=SHAPE[-1], norm=affine_norm):
  return operations.get(name).module(
      features=channels, stride=stride, norm=norm)


def run(name, stride, x, seed=1):
  """An operation's output and its random weights."""
  module = build(name, stride, x.shape[-1])
  if not isinstance(module, nn.Module):
    return jax.jit(module)(x), {}
  shapes = jax.eval_shape(module.init, jax.random.key(0), x)
  variables = oracle.random_weights(shapes, seed)
  return jax.jit(module.apply)(variables, x), variables["params"]


# Operations.


def test_names_of_the_papers():
  """The lists of NAT and NAT++, and what published cells use besides."""
  assert set(operations.names()) >= {
      "max_pool_3x3", "max_pool_5x5", "avg_pool_3x3", "avg_pool_5x5",
      "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
      "dil_conv_5x5", "conv_1x1", "conv_3x3", "conv_5x5", "null",
      "sep_conv_7x7", "sep_conv_1x1", "dil_conv_1x1", "avg_pool_2x2",
      "max_pool_2x2", "conv_1x3_3x1", "conv_1x7_7x1", "conv_7x1_1x7",
  }
  assert frozenset(operations.names()) == operations.BUILTIN


@pytest.mark.parametrize("name, stride", CASES)
def test_operation_equals_oracle(name, stride):
  """Every operation, with affine BN by the batch, at every stride it has."""
  # Windows of 2x2 do not cover an odd side.
  x = images((2, 8, 6, 4) if name.endswith("2x2") else SHAPE)
  if name.startswith("group8"):
    x = np.concatenate([x, -x[..., ::-1]], axis=-1)
  y, params = run(name, stride, x)
  expected = oracle.operation(name, x, oracle.scope(params), stride)
  assert y.shape == expected.shape == (
      2, -(-x.shape[1] // stride), -(-x.shape[2] // stride), x.shape[-1])
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", operations.names())
def test_affine_parameters(name):
  """Weights and BNs, written down per operation for four channels."""
  kernels, norms = {
      "null": ([], 0), "skip_connect": ([(1, 1, 4, 2)] * 2, 1),
      "conv_1x3_3x1": ([(1, 3, 4, 4), (3, 1, 4, 4)], 1),
      "conv_1x7_7x1": ([(1, 7, 4, 4), (7, 1, 4, 4)], 1),
      "conv_7x1_1x7": ([(1, 7, 4, 4), (7, 1, 4, 4)], 1),
      **{f"conv_{k}x{k}": ([(k, k, 4, 4)], 1) for k in (1, 3, 5)},
      **{f"sep_conv_{k}x{k}": ([(k, k, 1, 4), (1, 1, 4, 4)] * 2, 2)
         for k in (1, 3, 5, 7)},
      **{f"dil_conv_{k}x{k}": ([(k, k, 1, 4), (1, 1, 4, 4)], 1)
         for k in (1, 3, 5)},
      **{f"{p}_pool_{k}x{k}": ([], 0) for p in ("max", "avg")
         for k in (2, 3, 5)},
      **{f"depthwise_conv_{k}x{k}": ([(k, k, 1, 4)], 1) for k in (3, 5, 7)},
      "plain_conv_1x1": ([(1, 1, 4, 4)], 0),
      "group2_conv_1x1": ([(1, 1, 2, 4)], 1),
      "group4_conv_1x1": ([(1, 1, 1, 4)], 1),
      "group8_conv_1x1": ([(1, 1, 1, 8)], 1),
  }[name]
  channels = 8 if name.startswith("group8") else 4
  module, leaves = build(name, 2, channels), []
  if isinstance(module, nn.Module):
    shapes = jax.eval_shape(module.init, jax.random.key(0),
                            images((2, 6, 6, channels)))
    leaves = [leaf.shape for leaf in jax.tree.leaves(shapes["params"])]
  assert sorted(leaves) == sorted(kernels + [(channels,)] * 2 * norms)


def test_groups_that_do_not_divide_the_channels_are_refused():
  with pytest.raises(errors.InputError, match=r"6 channels .* 4 groups"):
    run("group4_conv_1x1", 1, images((2, 5, 5, 6)))
  with pytest.raises(errors.InputError, match=r"6 channels .* 4 groups"):
    operations.get("group4_conv_1x1").cost(6, 8, 1)


def test_skip_is_the_identity():
  x = images()
  assert build("skip_connect", 1)(x) is x
  assert operations.get("skip_connect").identity
  assert [n for n in operations.names() if operations.get(n).identity] == [
      "skip_connect"]


def test_pooling_is_what_a_supernet_normalises():
  assert {n for n in operations.names() if operations.get(n).pooled} == {
      f"{kind}_pool_{k}x{k}" for kind in ("max", "avg") for k in (2, 3, 5)}


@pytest.mark.parametrize("name", ["avg_pool_2x2", "max_pool_2x2"])
def test_2x2_pooling_stands_at_stride_2_only(name):
  assert operations.get(name).strides == (2,)


def test_null_stops_nan_and_gradient():
  x = images()
  y, g = jax.value_and_grad(lambda x: jnp.sum(build("null", 2)(x)))(x)
  assert y == 0 and not np.any(g)
  assert not np.any(build("null", 1)(np.full(SHAPE, np.inf, np.float32)))


def test_factorized_reduce_refuses_odd_channels():
  with pytest.raises(errors.InputError, match="5 channels") as e:
    build("skip_connect", 2, channels=5).init(
        jax.random.key(0), images((1, 4, 4, 5)))
  assert "\n" not in str(e.value)


# The registry.


class Shift(nn.Module):
  """Adds a learned number; takes every stride-th pixel."""

  features: int
  stride: int
  norm: operations.NormFactory

  @nn.compact
  def __call__(self, x):
    shift = self.param("shift", nn.initializers.constant(3.0), (self.features,))
    return x[:, ::self.stride, ::self.stride] + shift


def shift(name="shift"):
  return operations.Operation(
      name, "shift", 1, Shift,
      lambda channels, size, stride: operations.Cost(channels, 0))


def test_registered_operation_is_known_for_the_block_only():
  before = operations.names()
  with operations.registered(shift()) as operation:
    assert operations.names() == (*before, "shift")
    assert operations.get("Shift") is operation
    y, _ = build("shift", 2).init_with_output(jax.random.key(0), images())
    np.testing.assert_array_equal(y, images()[:, ::2, ::2] + 3)
  assert operations.names() == before
  with pytest.raises(errors.InputError, match="unknown operation 'shift'"):
    operations.get("shift")


def test_registration_ends_with_an_error_in_the_block():
  with pytest.raises(KeyError), operations.registered(shift()):
    raise KeyError
  assert "shift" not in operations.names()


@pytest.mark.parametrize("name, message", [
    ("conv_3x3", "'conv_3x3' is already registered"), ("null", "already"),
    ("none", "'none' is already"), ("Shift", "lower case"),
])
def test_name_clashes(name, message):
  before = operations.names()
  with pytest.raises(errors.InputError, match=message) as e:
    operations.register(shift(name))
  assert "\n" not in str(e.value)
  assert operations.names() == before


def test_unknown_operation():
  with pytest.raises(errors.InputError, match="'conv_9x9'") as e:
    operations.get("conv_9x9", where="here")
  assert str(e.value).startswith("here: ")
  assert ", ".join(operations.names()) in str(e.value)
  assert "\n" not in str(e.value)


@pytest.mark.parametrize("given, name", [
    ("none", "null"), ("NONE", "null"), ("Sep_Conv_3x3", "sep_conv_3x3"),
])
def test_canonical_names(given, name):
  assert operations.canonical(given) == name == operations.get(given).name


def test_types_and_kernel_sizes_follow_the_names():
  for name in operations.names():
    operation = operations.get(name)
    if name in ("null", "skip_connect"):
      assert (operation.type, operation.kernel_size) == (
          {"null": "null", "skip_connect": "skip"}[name], 0)
    else:
      kind = re.match(r"(?:plain_)?(group)?\d?_?(sep_conv|dil_conv|"
                      "depthwise_conv|conv|max_pool|avg_pool)_", name)
      assert operation.type == "_".join(filter(None, kind.groups()))
      assert operation.kernel_size == max(map(int, re.findall(
          r"\d", re.sub(r"group\d", "", name))))


# Array functions, in the form for CPUs and in the form for accelerators.

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


def test_conv_gradient_is_of_the_images_dtype(branch):
  x, kernel = images((2, 4, 4, 3)).astype(jnp.bfloat16), images((3, 3, 3, 2))
  g_x, g_kernel = jax.jit(jax.grad(lambda x, kernel: jnp.sum(
      primitives.conv(x, kernel).astype(jnp.float32)), (0, 1)))(x, kernel)
  assert (g_x.dtype, g_kernel.dtype) == (jnp.bfloat16, kernel.dtype)


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


@pytest.mark.parametrize("name", ["sep_conv_3x3", "max_pool_3x3",
                                  "avg_pool_3x3", "skip_connect"])
def test_dtype_is_that_of_the_image(branch, name):
  y, params = run(name, 2, jnp.asarray(images(), jnp.bfloat16))
  assert y.dtype == jnp.bfloat16
  exact = oracle.operation(name, images(), oracle.scope(params), 2)
  np.testing.assert_allclose(np.asarray(y, np.float32), exact, atol=0.1)


@pytest.mark.parametrize("size, stride, out", [
    (8, 1, 8), (8, 2, 4), (7, 2, 4), (1, 2, 1), (9, 3, 3),
])
def test_output_size(size, stride, out):
  assert primitives.output_size(size, stride) == out
