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
import difflib
import re
from typing import Any, NamedTuple, TYPE_CHECKING

from natjax import errors
from natjax.operations import definitions, windows

if TYPE_CHECKING:
  import jax

#: The operation that gives zeros, as an edge that is not there.
NULL = "null"
#: The operation that gives what it gets.
SKIP = "skip_connect"

#: `(name=None)` returns the BN to use.
NormFactory = Callable[..., Callable[["jax.Array"], "jax.Array"]]


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
    random: whether it draws from the rng stream "noise", which is there in
      training alone: where `has_rng("noise")` is False, `module` needs a key of
      its own.
    output_size: `(size, stride)` gives the output's side, in pixels.
    pads: whether `module` takes `padding=`, by which windows stand at a stride
      (`primitives.sides`); else its padding is its own.
    scale: `(params, factor) -> params` makes it give `factor` times as much;
      None where it cannot.
    dilates: whether its stride can become a dilation (`natjax.backbone`): all
      its windows and strides are those of `primitives` (`conv`,
      `depthwise_conv`, `max_pool`, `avg_pool`, `subsample`, `global_mean`; the
      modules `Conv` and `DepthwiseConv` are made of them), used as
      `primitives.dilated` says, and `output_size` is made of `output_size` or
      `spacing` there.
    side: of the only images that it takes, in pixels; None takes any.
  """

  name: str
  type: str
  kernel_size: int
  module: Callable[..., Callable[["jax.Array"], "jax.Array"]]
  cost: Callable[..., Cost]
  strides: tuple[int, ...] = (1, 2)
  pooled: bool = False
  identity: bool = False
  activates: bool = False
  widens: bool = False
  random: bool = False
  pads: bool = False
  output_size: Callable[[int, int], int] = windows.output_size
  scale: Callable[[Any, "jax.Array"], Any] | None = None
  dilates: bool = False
  side: int | None = None


_REGISTRY: dict[str, Operation] = {}
# What others call the same. Of a factorised convolution both orders are one,
# but for the 7x1 of which DARTS and NASNet have one each.
_ALIASES = {
    "none": NULL, "zero": NULL, "zeroize": NULL, "identity": SKIP, "skip": SKIP,
    "skipconnect": SKIP, "maxpool": "max_pool_3x3", "avgpool": "avg_pool_3x3",
    "nor_conv_1x1": "conv_1x1", "nor_conv_3x3": "conv_3x3",
    "conv_3x1_1x3": "conv_1x3_3x1", "conv_5x1_1x5": "conv_1x5_5x1",
    "sepconv3x3": "sep_conv_3x3", "sepconv5x5": "sep_conv_5x5",
    "dilconv3x3": "dil_conv_3x3", "dilconv5x5": "dil_conv_5x5"}
_BLANKS = re.compile(r"[ -]+")


def canonical(name: str) -> str:
  """The canonical name: lower case, other names of the same as ours.

  A blank or a hyphen is read as an underscore; a name that is registered, as it
  is.

  Example:
    >>> canonical("none"), canonical("Sep Conv 3x3"), canonical("identity")
    ('null', 'sep_conv_3x3', 'skip_connect')
  """
  if (plain := name.lower()) in _REGISTRY:
    return plain
  plain = _BLANKS.sub("_", plain)
  return _ALIASES.get(plain, plain)


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
    near = difflib.get_close_matches(
        canonical(name[:100]), names(), n=3) if isinstance(name, str) else []
    hint = f" did you mean {' or '.join(near)}?" if near else ""
    if isinstance(name, str) and name.startswith("fixed_"):
      hint = (" it is a part of a flax module, which natjax.from_flax makes"
              " known, called before natjax.load, and the command line's"
              " --module package.module:function;")
    raise errors.InputError(
        f"{where}: unknown operation {errors.short(name)};{hint} known are"
        f" {', '.join(names())} (register others with"
        " natjax.operations.register)") from None


def register(operation: Operation) -> Operation:
  """Makes an operation known by its name and returns it.

  One that is known already and defined alike, as by a notebook's cell that is
  run again, stays as it is and is returned.

  Raises:
    InputError: the name is taken by another one, or not in its canonical form;
      a field is of another type than its annotation's.
  """
  _check_types(operation)
  if (known := _REGISTRY.get(canonical(operation.name))) is not None:
    if definitions.alike(known, operation):
      return known
    raise errors.InputError(
        f"operation '{operation.name}' is already registered, and is defined"
        " otherwise there; choose another name, or start Python (a notebook's"
        " kernel) again to replace it")
  if operation.name != operation.name.lower():
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
  """Registers an operation for the length of a `with` block.

  One that was known before stays so.
  """
  before = names()
  known = register(operation)
  try:
    yield known
  finally:
    if known.name not in before:
      del _REGISTRY[known.name]
