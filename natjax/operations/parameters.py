"""Parameters of linen modules, taken without being drawn."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax


def parameter(module: nn.Module, name: str, init: Callable[..., jax.Array],
              shape: tuple[int, ...]) -> Any:
  """A module's parameter.

  One that is there, of that shape, is taken as it is: `Module.param` would
  trace its draw to learn the shape, which was a quarter of a trace of ResNet50.

  Args:
    module: whose, within its compact method.
    name: of the parameter.
    init: `(key, shape) -> array`, draws it.
    shape: of the parameter.

  Raises:
    flax.errors.ScopeParamShapeError: one is there, of another shape.
  """
  held: Any = module.get_variable("params", name)
  return held if getattr(held, "shape", None) == shape else module.param(
      name, init, shape)
