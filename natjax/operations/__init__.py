"""Operations: what may stand on an edge, by name, with module and cost.

`registry` says what an operation is; those of `plain`, `convolutions` and
`units` are known from the start.
"""

from natjax.operations import plain, units
from natjax.operations.convolutions import Conv, DepthwiseConv, kernel_init
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

#: The names of the library's own operations.
BUILTIN = frozenset(
    register(operation).name
    for operation in (*plain.operations(), *units.operations()))

__all__ = ("BUILTIN", "NULL", "SKIP", "Conv", "Cost", "DepthwiseConv",
           "NormFactory", "Operation", "canonical", "get", "kernel_init",
           "names", "register", "registered")
