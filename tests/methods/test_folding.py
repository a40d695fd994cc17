"""A factor folded into an operation's weights multiplies what it gives."""

import jax
import numpy as np
import pytest

from natjax import operations
from natjax.methods import folding
from natjax.networks import block_network
from natjax.networks import layers
from natjax.operations import edges

NAMES = ("conv_1x1", "conv_3x3", "sep_conv_3x3", "dil_conv_3x3",
         "conv_1x3_3x1", "depthwise_conv_3x3", "group2_conv_1x1",
         "plain_conv_1x1", "skip_connect", "max_pool_3x3")


@pytest.mark.parametrize("norm", ["bn", "bias"])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_gives_twice_as_much(name, norm):
  make = (lambda name=None: layers.RunningBatchNorm(False, name=name)) if (
      norm == "bn") else (lambda name=None: block_network.Bias(name=name))
  # Width and image change, so that pooling is followed by a projection.
  module = edges.module(operations.get(name), edges.Ends(4, 8, 2), norm=make,
                        preactivate=True)
  x = np.random.default_rng(0).normal(size=(2, 4, 4, 4)).astype("f")
  variables = module.init(jax.random.key(0), x)
  # Biases other than 0 and scales other than 1.
  params = jax.tree.map(lambda p: p + 0.3, variables["params"])
  new = folding.scaled(params, 2.0, parallel=name == "skip_connect")
  rest = {k: v for k, v in variables.items() if k != "params"}
  np.testing.assert_allclose(
      module.apply({"params": new, **rest}, x),
      2 * module.apply({"params": params, **rest}, x), rtol=1e-4, atol=1e-5)


def test_what_ends_otherwise_is_left_alone():
  assert folding.scaled({"scale": np.ones(3)}, 2.0) is None
