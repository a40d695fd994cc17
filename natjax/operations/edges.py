"""Operations between nodes of unlike shapes.

In a cell all nodes have C channels, and an operation begins with a ReLU. In a
network of blocks an edge may change the width, and nodes may do the
activating. This is the one place that says how an operation is brought to its
target's shape (`edge_modules` does so):
- Convolutions change the width themselves.
- A skip across a change of shape is a projection: a 1x1 convolution with the
  stride, then BN; in preactivated networks ReLU comes first, and at stride 2
  it is a factorised reduce, as in cells.
- Whatever keeps its width (pooling, depthwise convolutions, operations of a
  user's own) is followed by a 1x1 convolution and BN where the width changes.
"""

import contextlib
import numbers
from typing import Any, NamedTuple, TYPE_CHECKING

from natjax import errors, operations
from natjax.operations import windows

if TYPE_CHECKING:
  import jax

Cost = operations.Cost


class Ends(NamedTuple):
  """The shapes that an edge joins.

  Attributes:
    in_channels: of the source.
    channels: of the target.
    stride: how many times smaller the target's image is.
    size: side of the source's image, in pixels.
    padding: how windows are padded at a stride; see `windows.sides`.
  """

  in_channels: int
  channels: int
  stride: int
  size: int
  padding: str = windows.SYMMETRIC

  @property
  def alike(self) -> bool:
    """Whether source and target have one shape, so that a skip is a copy."""
    return self.stride == 1 and self.in_channels == self.channels


def is_projection(operation: operations.Operation, ends: Ends,
                  preactivate: bool) -> bool:
  """Whether a skip is neither a copy nor a factorised reduce."""
  return operation.name == operations.SKIP and not ends.alike and not (
      preactivate and ends.stride == 2)


def can_stand(operation: operations.Operation, ends: Ends) -> bool:
  """Whether an operation can stand on an edge, by its stride alone."""
  return ends.stride in operation.strides or operation.name in (
      operations.NULL, operations.SKIP)


def keeps_side(operation: operations.Operation, ends: Ends) -> bool:
  """Whether an operation leaves images of the side that others leave there."""
  return operation.output_size(
      ends.size, ends.stride) == windows.output_size(ends.size, ends.stride)


def check_side(operation: operations.Operation, size: int) -> None:
  """Refuses images of a side that an operation does not take (InputError)."""
  if operation.side not in (None, size):
    raise errors.InputError(
        f"{operation.name} takes images of {operation.side} pixels a side and"
        f" is given {size}; keep to the image size of the module's example",
        "image_size")


def cost_if_possible(operation: operations.Operation, ends: Ends, *,
                     preactivate: bool = False) -> Cost | None:
  """The cost of an operation on an edge; None where it cannot stand there.

  Nor can it in another's place, where it leaves images of a side of its own.
  """
  if operation.side not in (None, ends.size) or not can_stand(
      operation, ends) or not keeps_side(operation, ends):
    return None
  try:
    return cost(operation, ends, preactivate=preactivate)
  except errors.InputError:  # Channels that its groups do not divide.
    return None


def scaled(operation: operations.Operation, ends: Ends, params: Any,
           factor: "jax.Array", *, preactivate: bool = False) -> Any | None:
  """The parameters with which an operation gives `factor` times as much.

  Args:
    operation: what stands on the edge.
    ends: the shapes that it joins.
    params: of the operation there.
    factor: f32[].
    preactivate: whether operations begin with a ReLU.

  Returns:
    None of an operation that holds nothing which could take the factor up.
  """
  projects = "projection" in params
  if projects or is_projection(operation, ends, preactivate):
    operation = operations.get("conv_1x1")
  if not params or operation.scale is None:
    return None
  if projects:
    own = operation.scale(params["projection"], factor)
    return {**params, "projection": own}
  return operation.scale(params, factor)


def cost(operation: operations.Operation, ends: Ends, *,
         preactivate: bool = False) -> Cost:
  """Cost of an operation on an edge, with affine BN.

  Args:
    operation: what stands on the edge.
    ends: the shapes that it joins.
    preactivate: whether operations begin with a ReLU; it decides what a
      strided skip is, whose two forms cost the same.

  Raises:
    InputError: channels that it cannot divide.
  """
  in_channels, channels, stride, size, _ = ends
  project = lambda size, step: operations.get("conv_1x1").cost(
      channels, size, step, in_channels=in_channels)
  if is_projection(operation, ends, preactivate):
    return project(size, stride)
  if operation.widens:
    return _own_cost(
        operation, channels, size, stride, in_channels=in_channels)
  total = _own_cost(operation, in_channels, size, stride)
  if in_channels != channels:
    total += project(operation.output_size(size, stride), 1)
  return total


def _own_cost(operation, *where, **width):
  with errors.guarded(operation.cost, f"cost of operation '{operation.name}'"):
    total = operation.cost(*where, **width)
  return counted(operation, total)


def guarded(operation: operations.Operation
            ) -> contextlib.AbstractContextManager[None]:
  """Refuses in a line what an operation of a user's own stumbles over."""
  if operation.name in operations.BUILTIN:
    return contextlib.nullcontext()
  return errors.guarded(operation.module, f"operation '{operation.name}'")


def checked(operation: operations.Operation, ends: Ends, x: "jax.Array",
            y: "jax.Array") -> "jax.Array":
  """What an operation gave, if it is images of the edge's width and side.

  Args:
    operation: what stands on the edge.
    ends: the shapes that it joins.
    x: what it was given, [B, H, W, C].
    y: what it gave of that.

  Raises:
    InputError: it is something else.
  """
  batch, *sides, _ = x.shape
  wanted = [batch, *(operation.output_size(side, ends.stride)
                     for side in sides), ends.channels]
  shape = getattr(y, "shape", None)
  if shape is None or [*shape] != wanted:
    given = f"a {type(y).__name__}" if shape is None else list(shape)
    raise errors.InputError(
        f"operation '{operation.name}' gives {given} of"
        f" {list(x.shape)} and must give {wanted}; mend its module")
  return y


def counted(operation: operations.Operation, total: Any) -> Cost:
  """What an operation's `cost` gave, if that can be added up.

  Raises:
    InputError: it cannot.
  """
  if not isinstance(total, operations.Cost) or not all(
      isinstance(part, numbers.Integral) and part >= 0 for part in total):
    raise errors.InputError(
        f"cost of operation '{operation.name}' gives {errors.short(total)} and"
        " must give a Cost of whole numbers of 0 or more; mend it")
  return total
