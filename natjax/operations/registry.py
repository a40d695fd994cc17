"""The operation registry: the one place that knows all operations.

An operation is a named function on an edge of a cell that keeps the number of
channels and, at stride 2, halves height and width (rounding up). Facts:
Guo et al., 2021, "Towards Accurate and Compact Architectures via Neural
Architecture Transformer", Fig. 4, the cells of DARTS, NAONet, NASNet and
AmoebaNet, and the convolutions of MobileNets and ShuffleNet.

Order inside every convolution: ReLU, convolution without bias, batch
normalisation (BN). `sep_conv` stacks ReLU, depthwise, pointwise, BN twice, the
first depthwise with the stride. Padding is symmetric. Modules receive `norm`,
a function that returns the BN to use, so that one definition serves supernets
(BN without affine, by the batch) and trained networks (affine, running
statistics).

Example, an operation of one's own (it then works everywhere by its name):
  >>> import flax.linen as nn
  >>> class Scale(nn.Module):
  ...   features: int
  ...   stride: int
  ...   norm: NormFactory
  ...   @nn.compact
  ...   def __call__(self, x):
  ...     scale = self.param("scale", nn.initializers.ones, (self.features,))
  ...     return scale * x[:, ::self.stride, ::self.stride]
  >>> op = Operation("scale", "scale", 1, Scale,
  ...                lambda channels, size, stride: Cost(channels, 0))
  >>> with registered(op):
  ...   get("scale").type
  'scale'
"""

from collections.abc import Callable, Iterator
import contextlib
import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from natjax import errors
from natjax.operations import counts as operation_cost
from natjax.operations import primitives

NULL = "null"
SKIP = "skip_connect"

NormFactory = Callable[[str], Callable[[jax.Array], jax.Array]]


Cost = operation_cost.Cost
check_groups = operation_cost.check_groups
check_halvable = operation_cost.check_halvable


@dataclasses.dataclass(frozen=True)
class Operation:
  """An operation.

  Attributes:
    name: unique, lower case.
    type: the family, for transitions by type: "conv", "sep_conv", "dil_conv",
      "max_pool", "avg_pool", "skip", "null", or one of the user's own.
    kernel_size: side of the receptive window; 0 for null and skip.
    module: `module(features=, stride=, norm=)` returns a linen module or a
      function `x -> y`, [B, H, W, C] -> [B, ceil(H / s), ceil(W / s), C].
    cost: `cost(channels, size, stride)` of square images whose input side is
      `size`, in a trained network (BN with affine).
    strides: the strides at which it may stand.
    pooled: whether a supernet appends a BN without affine (NAT, pooling).
    identity: whether drop path leaves it alone at stride 1.
    activates: whether it begins with a ReLU, which `module(..., activate=
      False)` leaves out, for networks whose nodes activate
      (`operations.edges`).
    widens: whether `features` may differ from the channels of the input;
      `cost` then takes `in_channels=` too.
  """

  name: str
  type: str
  kernel_size: int
  module: Callable[..., Callable[[jax.Array], jax.Array]]
  cost: Callable[[int, int, int], Cost]
  strides: tuple[int, ...] = (1, 2)
  pooled: bool = False
  identity: bool = False
  activates: bool = False
  widens: bool = False


# U(-1/sqrt(fan_in), 1/sqrt(fan_in)), what PyTorch's convolutions start from.
kernel_init = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")


class Conv(nn.Module):
  """A bias-free convolution; see `primitives.conv`."""

  features: int
  kernel_size: tuple[int, int]
  stride: int | tuple[int, int] = 1
  padding: int | None = None

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (*self.kernel_size, x.shape[-1], self.features)
    kernel = self.param("kernel", kernel_init, shape)
    return primitives.conv(x, kernel, stride=self.stride, padding=self.padding)


class DepthwiseConv(nn.Module):
  """A bias-free depthwise convolution."""

  kernel_size: int
  stride: int = 1
  dilation: int = 1

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    shape = (self.kernel_size, self.kernel_size, 1, x.shape[-1])
    kernel = self.param("kernel", kernel_init, shape)
    return primitives.depthwise_conv(
        x, kernel, stride=self.stride, dilation=self.dilation
    )


class ReluConvNorm(nn.Module):
  """ReLU, convolution k x k, BN."""

  features: int
  stride: int
  norm: NormFactory
  kernel_size: int = 1
  activate: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = Conv(self.features, (self.kernel_size,) * 2, self.stride,
             name="conv")(_relu(x, self.activate))
    return self.norm(name="norm")(x)


class GroupConv(nn.Module):
  """ReLU, convolution 1x1 in groups of channels, BN.

  Raises:
    InputError: `groups` does not divide the channels.
  """

  features: int
  stride: int
  norm: NormFactory
  groups: int
  activate: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    g = self.groups
    check_groups(g, x.shape[-1], self.features)
    x = _relu(x, self.activate)[:, ::self.stride, ::self.stride]
    width = x.shape[-1] // g
    kernel = self.param("kernel", kernel_init, (1, 1, width, self.features))
    x = x.reshape(*x.shape[:3], g, width)
    x = jnp.einsum("bhwgi,igo->bhwgo", x, kernel.astype(x.dtype).reshape(
        width, g, self.features // g))
    return self.norm(name="norm")(x.reshape(*x.shape[:3], self.features))


class DepthwiseNorm(nn.Module):
  """ReLU, depthwise convolution k x k, BN."""

  features: int
  stride: int
  norm: NormFactory
  kernel_size: int
  activate: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    x = DepthwiseConv(self.kernel_size, self.stride,
                      name="depthwise")(_relu(x, self.activate))
    return self.norm(name="norm")(x)


class FactorizedConv(nn.Module):
  """ReLU, convolution 1 x k, convolution k x 1, one BN.

  The first strides along the width, the second along the height. The names
  1x7_7x1 and 7x1_1x7 stand for this same definition.
  """

  features: int
  stride: int
  norm: NormFactory
  kernel_size: int
  activate: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    k, s = self.kernel_size, self.stride
    x = Conv(self.features, (1, k), (1, s), name="conv0")(
        _relu(x, self.activate))
    x = Conv(self.features, (k, 1), (s, 1), name="conv1")(x)
    return self.norm(name="norm")(x)


class SeparableConv(nn.Module):
  """`repeats` times ReLU, depthwise, pointwise, BN.

  The stride comes first; the number of channels changes last, as in DARTS.
  """

  features: int
  stride: int
  norm: NormFactory
  kernel_size: int
  dilation: int = 1
  repeats: int = 1
  activate: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    for i in range(self.repeats):
      last = i + 1 == self.repeats
      features = self.features if last else x.shape[-1]
      x = DepthwiseConv(
          self.kernel_size, self.stride if i == 0 else 1, self.dilation,
          name=f"depthwise{i}",
      )(_relu(x, self.activate or i > 0))
      x = Conv(features, (1, 1), name=f"pointwise{i}")(x)
      x = self.norm(name=f"norm{i}")(x)
    return x


class FactorizedReduce(nn.Module):
  """ReLU, two 1x1 convolutions of stride 2, one shifted by a pixel, BN.

  Raises:
    InputError: `features` is odd.
  """

  features: int
  norm: NormFactory

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    check_halvable(self.features)
    # Zeros above and to the left of odd sides, after the ReLU.
    x = jnp.pad(nn.relu(x), ((0, 0), (x.shape[1] % 2, 0),
                             (x.shape[2] % 2, 0), (0, 0)))
    halves = [
        Conv(self.features // 2, (1, 1), 2, name=f"conv{i}")(x[:, i:, i:])
        for i in range(2)
    ]
    return self.norm(name="norm")(jnp.concatenate(halves, axis=-1))


class PlainConv(nn.Module):
  """A 1x1 convolution alone, without ReLU and BN."""

  features: int
  stride: int
  norm: NormFactory  # Not used: there is none.

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    return Conv(self.features, (1, 1), self.stride, name="conv")(x)


def _relu(x, activate):
  return nn.relu(x) if activate else x


def _skip(features, stride, norm):
  if stride == 1:
    return lambda x: x
  return FactorizedReduce(features, norm)


def _null(features, stride, norm):
  del features, norm
  return lambda x: jnp.zeros_like(x[:, ::stride, ::stride])


def _pool(features, stride, norm, *, pool, kernel_size):
  del features, norm

  def run(x):
    # An even window gets no padding but where an odd side leaves a rest, so
    # that the output's side is ceil(side / stride) as for all operations.
    padding = (kernel_size - 1) // 2
    if kernel_size == 2:
      padding = tuple((0, side % 2) for side in x.shape[1:3])
    return pool(x, kernel_size, stride=stride, padding=padding)

  return run


def _builtin() -> Iterator[Operation]:
  partial = functools.partial
  own_width = partial(Operation, activates=True)
  any_width = partial(own_width, widens=True)
  yield Operation(NULL, "null", 0, _null, operation_cost.null_cost)
  yield Operation(SKIP, "skip", 0, _skip, operation_cost.skip_cost,
                  identity=True)
  for k in (1, 3, 5):
    yield any_width(
        f"conv_{k}x{k}", "conv", k, partial(ReluConvNorm, kernel_size=k),
        partial(operation_cost.dense_cost, kernel_size=k),
    )
  for k in (1, 3, 5, 7):
    yield any_width(
        f"sep_conv_{k}x{k}", "sep_conv", k,
        partial(SeparableConv, kernel_size=k, repeats=2),
        partial(operation_cost.separable_cost, kernel_size=k, repeats=2),
    )
  for k in (1, 3, 5):
    yield any_width(
        f"dil_conv_{k}x{k}", "dil_conv", k,
        partial(SeparableConv, kernel_size=k, dilation=2),
        partial(operation_cost.separable_cost, kernel_size=k, repeats=1),
    )
  for kind, pool in (("max", primitives.max_pool),
                     ("avg", primitives.avg_pool)):
    for k in (2, 3, 5):
      yield Operation(
          f"{kind}_pool_{k}x{k}", f"{kind}_pool", k,
          partial(_pool, pool=pool, kernel_size=k),
          partial(operation_cost.pool_cost, kernel_size=k), pooled=True,
          # Without padding, a 2x2 window shrinks the map at stride 1.
          strides=(2,) if k == 2 else (1, 2),
      )
  for name, k in (("conv_1x3_3x1", 3), ("conv_1x7_7x1", 7),
                  ("conv_7x1_1x7", 7)):
    yield any_width(
        name, "conv", k, partial(FactorizedConv, kernel_size=k),
        partial(operation_cost.factorized_cost, kernel_size=k),
    )
  for k in (3, 5, 7):
    yield own_width(
        f"depthwise_conv_{k}x{k}", "depthwise_conv", k,
        partial(DepthwiseNorm, kernel_size=k),
        partial(operation_cost.depthwise_cost, kernel_size=k),
    )
  for g in (2, 4, 8):
    yield any_width(
        f"group{g}_conv_1x1", "group_conv", 1, partial(GroupConv, groups=g),
        partial(operation_cost.group_cost, groups=g),
    )
  yield Operation("plain_conv_1x1", "conv", 1, PlainConv,
                  operation_cost.plain_cost, widens=True)


_REGISTRY: dict[str, Operation] = {op.name: op for op in _builtin()}
BUILTIN = frozenset(_REGISTRY)
_ALIASES = {"none": NULL}


def canonical(name: str) -> str:
  """The canonical name: lower case, `none` as `null`."""
  name = name.lower()
  return _ALIASES.get(name, name)


def names() -> tuple[str, ...]:
  """The names of all known operations."""
  return tuple(_REGISTRY)


def get(name: str, *, where: str = "operation") -> Operation:
  """Looks an operation up by name.

  Raises:
    InputError: no such operation; the message lists the known ones.
  """
  try:
    return _REGISTRY[canonical(name)]
  except KeyError:
    raise errors.InputError(
        f"{where}: unknown operation {name!r}; known are {', '.join(names())}"
        " (register others with natjax.operations.register)"
    ) from None


def register(operation: Operation) -> Operation:
  """Makes an operation known by its name and returns it.

  Raises:
    InputError: the name is taken, or not in its canonical form.
  """
  if operation.name in _REGISTRY or operation.name in _ALIASES:
    raise errors.InputError(
        f"operation '{operation.name}' is already registered; choose another"
        " name"
    )
  if operation.name != canonical(operation.name):
    raise errors.InputError(
        f"operation name '{operation.name}' must be lower case; rename it"
    )
  _REGISTRY[operation.name] = operation
  return operation


@contextlib.contextmanager
def registered(operation: Operation) -> Iterator[Operation]:
  """Registers an operation for the length of a `with` block."""
  register(operation)
  try:
    yield operation
  finally:
    del _REGISTRY[operation.name]
