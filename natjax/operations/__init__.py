"""Operations: what may stand on an edge, by name, with module and cost.

`registry` says what an operation is; those of `builtin` are known from the
start. Facts need no jax: `Conv`, `DepthwiseConv`, `kernel_init` and the modules
of the others are imported when they are asked for.
"""

from typing import TYPE_CHECKING

from natjax import _lazy
from natjax.operations import builtin
from natjax.operations.registry import (
    canonical,
    Cost,
    get,
    names,
    NormFactory,
    NULL,
    Operation,
    register,
    registered,
    SKIP,
)

if TYPE_CHECKING:
  from natjax.operations.convolutions import Conv, DepthwiseConv, kernel_init

#: The names of the library's own operations.
BUILTIN = frozenset(register(op).name for op in builtin.operations())

__all__ = ("BUILTIN", "NULL", "SKIP", "Conv", "Cost", "DepthwiseConv",
           "NormFactory", "Operation", "canonical", "get", "kernel_init",
           "names", "register", "registered")

__getattr__, __dir__ = _lazy.attach(
    __name__, {"convolutions": ("Conv", "DepthwiseConv", "kernel_init")})
