"""The operation registry: the one place that knows all operations.

An operation is a named function on an edge of a cell that keeps the number of
channels and, at stride 2, halves height and width (rounding up). Facts:
Guo et al., 2021, "Towards Accurate and Compact Architectures via Neural
Architecture Transformer", Fig. 4, the cells of DARTS, NAONet, NASNet and
AmoebaNet, and the convolutions of MobileNets and ShuffleNet.

Modules receive `norm`, a function that returns the BN to use, so that one
definition serves supernets (BN without affine, by the batch) and trained
networks (affine, running statistics).

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
from typing import Any, NamedTuple

import jax

from natjax import errors
from natjax.operations import primitives

NULL = "null"
SKIP = "skip_connect"

# `(name=None)` returns the BN to use.
NormFactory = Callable[..., Callable[[jax.Array], jax.Array]]


class Cost(NamedTuple):
  """What an operation or a network costs.

  Attributes:
    params: trainable parameters, those of affine BN included.
    madds: multiply-adds of convolutions and linear layers, at output size.
    other: multiply-adds of pooling windows and copies, which `madds` leaves
      out (the paper's Fig. 4(b) counts them).
    norm_params: those of `params` that belong to affine BN.
  """

  params: int
  madds: int
  other: int = 0
  norm_params: int = 0

  def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
    return Cost(*(a + b for a, b in zip(self, other, strict=True)))


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
    random: whether it draws from the rng stream "noise", in evaluation too.
    output_size: `(size, stride)` gives the output's side, in pixels.
    scale: `(params, factor) -> params` makes it give `factor` times as much;
      None where it cannot.
  """

  name: str
  type: str
  kernel_size: int
  module: Callable[..., Callable[[jax.Array], jax.Array]]
  cost: Callable[..., Cost]
  strides: tuple[int, ...] = (1, 2)
  pooled: bool = False
  identity: bool = False
  activates: bool = False
  widens: bool = False
  random: bool = False
  output_size: Callable[[int, int], int] = primitives.output_size
  scale: Callable[[Any, jax.Array], Any] | None = None


_REGISTRY: dict[str, Operation] = {}
_ALIASES = {"none": NULL}


def canonical(name: str) -> str:
  """The canonical name: lower case, `none` as `null`."""
  return _ALIASES.get(name.lower(), name.lower())


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
  except (AttributeError, KeyError, TypeError):
    raise errors.InputError(
        f"{where}: unknown operation {errors.short(name)}; known are"
        f" {', '.join(names())} (register others with"
        " natjax.operations.register)") from None


def register(operation: Operation) -> Operation:
  """Makes an operation known by its name and returns it.

  Raises:
    InputError: the name is taken, or not in its canonical form; a field is of
      another type than its annotation's.
  """
  _check_types(operation)
  if operation.name in _REGISTRY or operation.name in _ALIASES:
    raise errors.InputError(f"operation '{operation.name}' is already"
                            " registered; choose another name")
  if operation.name != canonical(operation.name):
    raise errors.InputError(
        f"operation name '{operation.name}' must be lower case; rename it")
  _REGISTRY[operation.name] = operation
  return operation


def _check_types(operation):
  """Refuses fields that the library would stumble over later."""
  strides, scale = operation.strides, operation.scale
  for name, good, wanted in (
      ("name", isinstance(operation.name, str) and operation.name, "text"),
      ("type", isinstance(operation.type, str), "text"),
      ("kernel_size", type(operation.kernel_size) is int, "a whole number"),
      ("module", callable(operation.module), "a function"),
      ("cost", callable(operation.cost), "a function"),
      ("strides", isinstance(strides, tuple) and strides and all(
          type(s) is int and s > 0 for s in strides),
       "a tuple of whole numbers above 0"),
      ("output_size", callable(operation.output_size), "a function"),
      ("scale", scale is None or callable(scale), "a function or None")):
    if not good:
      raise errors.InputError(
          f"{name} of operation {errors.short(operation.name)} is"
          f" {errors.short(getattr(operation, name))} and must be {wanted};"
          " correct it")


@contextlib.contextmanager
def registered(operation: Operation) -> Iterator[Operation]:
  """Registers an operation for the length of a `with` block."""
  register(operation)
  try:
    yield operation
  finally:
    del _REGISTRY[operation.name]
