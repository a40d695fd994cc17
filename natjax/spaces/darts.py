"""The spaces of DARTS, and EnTranNAS's larger one.

Liu et al., 2019, section 3.1: four nodes, each of which keeps two connections
from any earlier nodes, and seven operations beside `null`. Yang et al., 2021,
section 4.2, adds five convolutions.
"""

from natjax.spaces import base

OPERATIONS = ("max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3",
              "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5")
MORE = ("conv_1x1", "conv_3x3", "conv_1x3_3x1", "conv_1x5_5x1", "conv_1x7_7x1")

SPACES = (base.cells("darts", (*OPERATIONS, "null")),
          base.cells("darts12", (*OPERATIONS, *MORE, "null")))
