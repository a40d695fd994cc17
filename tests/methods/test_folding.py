"""A factor folded into an operation's weights multiplies what it gives."""

import jax
import numpy as np
import pytest

from natjax import operations
from natjax.networks import layers
from natjax.operations import edge_modules, edges

NAMES = ("conv_1x1", "conv_3x3", "sep_conv_3x3", "dil_conv_3x3",
         "conv_1x3_3x1", "depthwise_conv_3x3", "group2_conv_1x1",
         "plain_conv_1x1", "skip_connect", "max_pool_3x3")


@pytest.mark.parametrize("norm", ["bn", "bias"])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_gives_twice_as_much(name, norm):
  make = (lambda name=None: layers.RunningBatchNorm(False, name=name)) if (
      norm == "bn") else (lambda name=None: layers.Bias(name=name))
  # Width and image change, so that pooling is followed by a projection.
  operation, ends = operations.get(name), edges.Ends(4, 8, 2, 4)
  module = edge_modules.module(operation, ends, norm=make, preactivate=True)
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("f")
  variables = module.init(jax.random.key(0), x)
  # Biases other than 0 and scales other than 1.
  params = jax.tree.map(lambda p: p + 0.3, variables["params"])
  new = edges.scaled(operation, ends, params, 2.0, preactivate=True)
  rest = {k: v for k, v in variables.items() if k != "params"}
  np.testing.assert_allclose(
      module.apply({"params": new, **rest}, x),
      2 * module.apply({"params": params, **rest}, x), rtol=1e-4, atol=1e-5)


def test_what_ends_otherwise_is_left_alone():
  ends = edges.Ends(4, 4, 1, 8)
  mine = operations.Operation(
      "mine", "mine", 1, lambda **_: None, lambda *_: operations.Cost(4, 0))
  assert edges.scaled(mine, ends, {"scale": np.ones(3)}, 2.0) is None
  for name in ("max_pool_3x3", "skip_connect"):
    assert edges.scaled(
        operations.get(name), ends, {}, 2.0, preactivate=True) is None
