"""A space in one file: three nodes of two inputs, four operations and null.

One of them is `toy_operation`'s; by NAT's rule it may be kept, or become a skip
or null.
"""

from natjax import spaces

SPACE = spaces.cells(
    "toy_space", ("max_pool_3x3", "skip_connect", "toy_scale", "conv_3x3",
                  "null"), num_nodes=3, inputs=2)
