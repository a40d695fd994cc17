"""Operations: what may stand on an edge, by name, with module and cost.

`registry` says what an operation is; those of `plain` and `convolutions` are
known from the start.
"""

from natjax.operations import plain
from natjax.operations.convolutions import Conv
from natjax.operations.convolutions import DepthwiseConv
from natjax.operations.convolutions import kernel_init
from natjax.operations.convolutions import ReluConvNorm
from natjax.operations.counts import Cost
from natjax.operations.registry import canonical
from natjax.operations.registry import get
from natjax.operations.registry import names
from natjax.operations.registry import NormFactory
from natjax.operations.registry import NULL
from natjax.operations.registry import Operation
from natjax.operations.registry import register
from natjax.operations.registry import registered
from natjax.operations.registry import SKIP

BUILTIN = frozenset(
    register(operation).name for operation in plain.operations())

__all__ = ("BUILTIN", "NULL", "SKIP", "Conv", "Cost", "DepthwiseConv",
           "NormFactory", "Operation", "ReluConvNorm",
           "canonical", "get", "kernel_init", "names", "register", "registered")
