"""What architectures cost, and what they may cost at most."""

from natjax.costs.exact import Cost, network, operation_table

__all__ = ("Cost", "network", "operation_table")
