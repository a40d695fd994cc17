"""All operations that are known from the start."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import operations
from tests.networks import oracle
from tests.operations import modules

build, images, run = modules.build, modules.images, modules.run
SHAPE = modules.SHAPE

# Noise is drawn: see `test_plain`.
CASES = [(name, stride) for name in operations.names() if name != "noise"
         for stride in operations.get(name).strides]


def test_names_of_the_papers():
  """The lists of NAT and NAT++, and what published cells use besides."""
  assert set(operations.names()) >= {
      "max_pool_3x3", "max_pool_5x5", "avg_pool_3x3", "avg_pool_5x5",
      "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3",
      "dil_conv_5x5", "conv_1x1", "conv_3x3", "conv_5x5", "null",
      "sep_conv_7x7", "sep_conv_1x1", "dil_conv_1x1", "avg_pool_2x2",
      "max_pool_2x2", "conv_1x3_3x1", "conv_1x7_7x1", "conv_7x1_1x7",
      "conv_1x5_5x1",
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
  if name == "max_pool_2x2_padded":
    expected = oracle.pool(x, 2, np.max, stride=2, padding=1)
  else:
    expected = oracle.operation(name, x, oracle.scope(params), stride)
  sides = [side // 2 + 1 if name.endswith("padded") else -(-side // stride)
           for side in x.shape[1:3]]
  assert y.shape == expected.shape == (2, *sides, x.shape[-1])
  assert sides == [operations.get(name).output_size(side, stride)
                   for side in x.shape[1:3]]
  assert y.dtype == jnp.float32
  np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


def _squeeze(channels):
  """What squeeze-and-excitation has, for a quarter of the channels inside."""
  few = channels // 4
  return [(1, 1, channels, few), (few,), (1, 1, few, channels), (channels,)]


@pytest.mark.parametrize("name", operations.names())
def test_affine_parameters(name):
  """Weights and BNs, written down per operation for four channels."""
  kernels, norms = {
      "null": ([], 0), "skip_connect": ([(1, 1, 4, 2)] * 2, 1),
      "conv_1x3_3x1": ([(1, 3, 4, 4), (3, 1, 4, 4)], 1),
      "conv_1x5_5x1": ([(1, 5, 4, 4), (5, 1, 4, 4)], 1),
      "conv_1x7_7x1": ([(1, 7, 4, 4), (7, 1, 4, 4)], 1),
      "conv_7x1_1x7": ([(1, 7, 4, 4), (7, 1, 4, 4)], 1),
      **{f"conv_{k}x{k}": ([(k, k, 4, 4)], 1) for k in (1, 3, 5)},
      **{f"sep_conv_{k}x{k}": ([(k, k, 1, 4), (1, 1, 4, 4)] * 2, 2)
         for k in (1, 3, 5, 7)},
      **{f"dil_conv_{k}x{k}": ([(k, k, 1, 4), (1, 1, 4, 4)], 1)
         for k in (1, 3, 5)},
      **{f"{p}_pool_{k}x{k}": ([], 0) for p in ("max", "avg")
         for k in (2, 3, 5)},
      "max_pool_2x2_padded": ([], 0), "noise": ([], 0),
      **{f"depthwise_conv_{k}x{k}": ([(k, k, 1, 4)], 1) for k in (3, 5, 7)},
      **{f"plain_conv_{k}x{k}": ([(k, k, 4, 4)], 0) for k in (1, 3)},
      "group2_conv_1x1": ([(1, 1, 2, 4)], 1),
      "group4_conv_1x1": ([(1, 1, 1, 4)], 1),
      "group8_conv_1x1": ([(1, 1, 1, 8)], 1),
      # In, and what they have besides, of units.
      **{f"mbconv{e}_{k}x{k}{se}": (
          [(1, 1, 4, 4 * e), (k, k, 1, 4 * e), (1, 1, 4 * e, 4),
           *[(4 * e,)] * 4, *_squeeze(4 * e) * (se != "")], 1)
         for e in (3, 6) for k in (3, 5, 7) for se in ("", "_se")},
      "squeeze_excite": (_squeeze(4), 0),
      # Of a unit that halves the image: both branches give two channels.
      **{f"shuffle_{k}x{k}": (
          [(k, k, 1, 4), (1, 1, 4, 2), (1, 1, 4, 2), (k, k, 1, 2),
           (1, 1, 2, 2), *[(2,)] * 8], 1) for k in (3, 5, 7)},
      "shuffle_xception_3x3": (
          [*[(3, 3, 1, 4), (1, 1, 4, 2)] * 2, *[(3, 3, 1, 2), (1, 1, 2, 2)] * 2,
           *[(2,)] * 12, *[(4,)] * 2], 1),
  }[name]
  channels = 8 if name.startswith("group8") else 4
  module, leaves = build(name, 2, channels), []
  if isinstance(module, nn.Module):
    shapes = jax.eval_shape(module.init, jax.random.key(0),
                            images((2, 6, 6, channels)))
    leaves = [leaf.shape for leaf in jax.tree.leaves(shapes)]
  assert sorted(leaves) == sorted(kernels + [(channels,)] * 2 * norms)


def test_types_and_kernel_sizes_follow_the_names():
  for name in operations.names():
    operation = operations.get(name)
    if operation.type in ("mbconv", "shuffle"):
      kind, size = re.fullmatch(
          r"(mbconv|shuffle)[36]?_(?:xception_)?(\d)x\2(?:_se)?", name).groups()
      assert (operation.type, operation.kernel_size) == (kind, int(size))
    elif name in ("null", "skip_connect", "noise", "squeeze_excite"):
      assert (operation.type, operation.kernel_size) == (
          {"skip_connect": "skip"}.get(name, name), 0)
    else:
      kind = re.match(r"(?:plain_)?(group)?\d?_?(sep_conv|dil_conv|"
                      "depthwise_conv|conv|max_pool|avg_pool)_", name)
      assert operation.type == "_".join(filter(None, kind.groups()))
      assert operation.kernel_size == max(map(int, re.findall(
          r"\d", re.sub(r"group\d", "", name))))


@pytest.mark.parametrize("name", ["sep_conv_3x3", "max_pool_3x3",
                                  "avg_pool_3x3", "skip_connect"])
def test_dtype_is_that_of_the_image(branch, name):
  y, params = run(name, 2, jnp.asarray(images(), jnp.bfloat16))
  assert y.dtype == jnp.bfloat16
  exact = oracle.operation(name, images(), oracle.scope(params), 2)
  np.testing.assert_allclose(np.asarray(y, np.float32), exact, atol=0.1)
