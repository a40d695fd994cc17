"""Operations between nodes of unlike shapes, against the modules themselves."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from natjax import errors, operations
from natjax.costs import exact
from natjax.networks import layers
from natjax.operations import edge_modules, edges
from tests import counting
from tests.networks import oracle
from tests.operations import modules

Ends = edges.Ends
SIZE = 9
# Alike, wider, narrower; at both strides. Groups of eight divide all of them.
ENDS = (Ends(8, 8, 1, SIZE), Ends(8, 8, 2, SIZE), Ends(8, 16, 1, SIZE),
        Ends(16, 8, 2, SIZE))
UNITS = ("mbconv", "shuffle", "squeeze_excite")
# Of units, which differ in the kernel alone, those of kernel 3.
CASES = [(name, ends) for name in operations.names() for ends in ENDS
         if edges.can_stand(operations.get(name), ends) and (
             operations.get(name).type not in UNITS
             or operations.get(name).kernel_size in (0, 3))]


def build(name, ends, norm=modules.affine_norm, *, preactivate=False):
  return edge_modules.module(operations.get(name), ends, norm=norm,
                             preactivate=preactivate)


def image(ends, seed=0):
  return modules.images((2, ends.size, ends.size, ends.in_channels), seed)


def projected(x, scope, stride):
  """A 1x1 convolution with the stride, then BN."""
  return oracle.norm(
      oracle.conv(x, scope.params["conv"]["kernel"], stride=stride),
      scope.at("norm"))


def expected(name, ends, x, params, *, preactivate):
  """What an operation makes of an edge, by the module's three rules."""
  scope = oracle.scope(params)
  if name == "null":
    y = x[:, ::ends.stride, ::ends.stride, :1]
    return np.zeros((*y.shape[:3], ends.channels))
  if name == "skip_connect":
    if ends[:3] == (8, 8, 1):
      return x
    if preactivate and ends.stride == 2:
      return oracle.factorized_reduce(x, scope)
    return projected(oracle.relu(x) if preactivate else x, scope, ends.stride)
  first = scope.at("first") if "projection" in params else scope
  if name == "max_pool_2x2_padded":
    y = oracle.pool(x, 2, np.max, stride=2, padding=1)
  elif name.endswith("pool_2x2"):  # The last windows have what is left.
    reduce = np.max if name.startswith("max") else np.mean
    y = np.stack([
        np.stack([reduce(x[:, i:i + 2, j:j + 2], (1, 2))
                  for j in range(0, SIZE, 2)], 1)
        for i in range(0, SIZE, 2)], 1)
  else:
    y = oracle.operation(name, x, first, ends.stride)
  return projected(y, scope.at("projection"), 1) if (
      "projection" in params) else y


@pytest.mark.parametrize("preactivate", [False, True])
@pytest.mark.parametrize("name, ends", [c for c in CASES if c[0] != "noise"])
def test_edges_equal_the_oracle(name, ends, preactivate):
  module = build(name, ends, preactivate=preactivate)
  x = image(ends)
  # Without the ReLU that the oracle's operations begin with, an image that the
  # ReLU would not change; where there is none, any.
  if not preactivate and operations.get(name).activates:
    x = np.abs(x)
  y, params = modules.apply(module, x)
  np.testing.assert_allclose(
      y, expected(name, ends, x, params, preactivate=preactivate),
      rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [
    name for name in operations.names() if operations.get(name).activates])
def test_the_first_relu_is_left_out_where_nodes_activate(name):
  x = image(ENDS[0])
  plain, params = modules.apply(build(name, ENDS[0]), x)
  active = build(name, ENDS[0], preactivate=True).apply({"params": params}, x)
  assert np.abs(plain - active).max() > 0.01
  positive = build(name, ENDS[0]).apply({"params": params}, np.maximum(x, 0))
  np.testing.assert_allclose(positive, active, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("preactivate", [False, True])
@pytest.mark.parametrize("name, ends", CASES)
def test_shape_and_cost_of_edges(name, ends, preactivate):
  """Against the module: output, parameters, BNs' parameters, multiply-adds."""
  operation = operations.get(name)
  module = build(name, ends, preactivate=preactivate)
  x = jax.ShapeDtypeStruct((1, SIZE, SIZE, ends.in_channels), jnp.float32)
  params, apply = {}, module
  if isinstance(module, nn.Module):
    params, apply = jax.eval_shape(module.init, jax.random.key(0), x), (
        module.apply)
  args = (params, x) if params or isinstance(module, nn.Module) else (x,)
  side = operation.output_size(SIZE, ends.stride)
  assert jax.eval_shape(apply, *args).shape == (1, side, side, ends.channels)
  found = edges.cost(operation, ends, preactivate=preactivate)
  assert counting.size(params) == found.params
  norms = [leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)
           if path[-1].key in ("scale", "bias") and "norm" in path[-2].key]
  assert counting.size(norms) == found.norm_params
  assert counting.traced_madds(
      jax.make_jaxpr(apply)(*args).jaxpr) == found.madds


def test_costs_by_hand():
  """Of 8 channels on 9 pixels a side to 16 on 5."""
  ends = Ends(8, 16, 2, 9)
  cost = lambda name: edges.cost(operations.get(name), ends)
  projection = 8 * 16 + 2 * 16
  assert cost("null") == (0, 0, 0, 0)
  assert cost("skip_connect") == (projection, 8 * 16 * 25, 0, 32)
  assert cost("max_pool_3x3") == (projection, 8 * 16 * 25, 9 * 8 * 25, 32)
  assert cost("depthwise_conv_3x3") == (
      9 * 8 + 16 + projection, (9 * 8 + 8 * 16) * 25, 0, 48)
  assert cost("conv_3x3") == (9 * 8 * 16 + 32, 9 * 8 * 16 * 25, 0, 32)


@pytest.mark.parametrize("given", [
    None, (8, 0), 8, operations.Cost(-1, 0), operations.Cost(8.0, 0),
    operations.Cost(8, None)])
@pytest.mark.parametrize("widens", [False, True])
def test_a_cost_that_cannot_be_added_up_is_refused(given, widens):
  with operations.registered(operations.Operation(
      "mine", "mine", 1, print, lambda *_, **__: given, widens=widens)), (
          pytest.raises(errors.InputError, match="cost of operation 'mine' gi")
      ):
    edges.cost(operations.get("mine"), ENDS[2])


def test_a_cost_that_fails_is_named():
  with operations.registered(operations.Operation(
      "mine", "mine", 1, print, lambda channels: channels)) as mine:
    for call in (lambda: edges.cost(mine, ENDS[0]),
                 lambda: exact.operation_table(8, 8, ["mine"])):
      with pytest.raises(errors.InputError, match=r"cost of operation 'mine' f"
                         r"ailed \(TypeError: .* positional"):
        call()


def test_a_cost_of_numbers_of_numpy_is_one():
  with operations.registered(operations.Operation(
      "mine", "mine", 1, print, lambda c, *_: operations.Cost(
          np.int64(c), 0))) as mine:
    assert edges.cost(mine, ENDS[0]) == operations.Cost(8, 0)


def test_where_operations_can_stand():
  can = lambda name, stride: edges.can_stand(
      operations.get(name), Ends(8, 8, stride, 8))
  assert not can("avg_pool_2x2", 1) and can("avg_pool_2x2", 2)
  assert not can("max_pool_2x2_padded", 1) and can("max_pool_2x2_padded", 2)
  assert not can("conv_3x3", 3)
  assert can("skip_connect", 3) and can("null", 4)


@pytest.mark.parametrize("name, ends, preactivate", [
    ("avg_pool_2x2", Ends(8, 8, 1, 8), False),  # Its stride.
    ("conv_3x3", Ends(8, 8, 4, 8), False),
    ("group8_conv_1x1", Ends(8, 12, 1, 8), False),  # Its channels.
    ("skip_connect", Ends(8, 9, 2, 8), True),
    ("max_pool_2x2_padded", Ends(8, 8, 2, 8), False),  # 5 pixels, not 4.
])
def test_what_cannot_stand_costs_nothing_that_could_be_compared(
    name, ends, preactivate):
  assert edges.cost_if_possible(
      operations.get(name), ends, preactivate=preactivate) is None


@pytest.mark.parametrize("name, ends", [
    ("avg_pool_2x2", Ends(8, 8, 2, 8)), ("group8_conv_1x1", Ends(8, 16, 1, 8)),
    ("skip_connect", Ends(8, 9, 2, 8)),
    # An odd side, which a padded window leaves as others do.
    ("max_pool_2x2_padded", Ends(8, 8, 2, 9))])
def test_what_can_stand_costs_what_it_costs(name, ends):
  operation = operations.get(name)
  assert edges.cost_if_possible(operation, ends) == edges.cost(operation, ends)


def test_channels_that_cannot_be_halved_are_refused_in_one_line():
  with pytest.raises(errors.InputError, match="9 channels") as e:
    edges.cost(operations.get("skip_connect"), Ends(8, 9, 2, 8),
               preactivate=True)
  assert "\n" not in str(e.value)


# Factors that parameters take up.


def running_norm(name=None):
  return layers.RunningBatchNorm(False, name=name)


def bias_norm(name=None):
  return layers.Bias(name=name)


SCALED = [(name, ends) for name, ends in CASES
          if operations.get(name).scale is not None]


@pytest.mark.parametrize("norm, preactivate", [
    (modules.affine_norm, False), (running_norm, True), (bias_norm, False)],
    ids=["batch", "running", "bias"])
@pytest.mark.parametrize("name, ends", SCALED)
def test_scaled_parameters_give_so_much_more(name, ends, norm, preactivate):
  """The module itself is the oracle: factor times its output, to rounding."""
  operation, x = operations.get(name), image(ends)
  module = build(name, ends, norm, preactivate=preactivate)
  if not isinstance(module, nn.Module):
    assert (name, ends.alike) == ("skip_connect", True)
    return
  variables = oracle.random_weights(
      jax.eval_shape(module.init, jax.random.key(0), x), 1)
  params = variables["params"]
  apply = jax.jit(lambda params: module.apply(
      {**variables, "params": params}, x))
  before = apply(params)
  for factor in (-1.75, 0.375, 0.0):
    new = edges.scaled(
        operation, ends, params, factor, preactivate=preactivate)
    assert jax.tree.structure(new) == jax.tree.structure(params)
    np.testing.assert_allclose(
        apply(new), factor * before, rtol=1e-4, atol=1e-4)
  assert np.abs(before).max() > 0.5


def test_a_factorised_reduce_without_norm_takes_a_factor_up():
  test_scaled_parameters_give_so_much_more(
      "skip_connect", ENDS[1], bias_norm, True)


@pytest.mark.parametrize("name", [
    name for name in operations.names() if operations.get(name).scale is None
    and operations.get(name).type not in UNITS])
@pytest.mark.parametrize("channels", [8, 16])
def test_what_holds_nothing_is_scaled_by_its_projection_alone(name, channels):
  ends = Ends(8, channels, 2, SIZE)
  module, x = build(name, ends), image(ends)
  _, params = modules.apply(module, x)
  new = edges.scaled(operations.get(name), ends, params, -1.75)
  if channels == 8 or name == "null":
    assert not params and new is None
    return
  np.testing.assert_allclose(
      module.apply({"params": new}, x),
      -1.75 * module.apply({"params": params}, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mbconv3_3x3_se", "shuffle_3x3"])
def test_units_take_no_factor_up(name):
  """They end in a sum or an activation of what is not theirs to scale."""
  for ends in ENDS[:2]:
    _, params = modules.apply(build(name, ends), image(ends))
    assert params
    assert edges.scaled(operations.get(name), ends, params, 2.0) is None


def test_copies_take_no_factor_up():
  assert edges.scaled(
      operations.get("skip_connect"), ENDS[0], {}, 2.0) is None
