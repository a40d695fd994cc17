"""The space of SPOS: chains of ShuffleNetV2 units.

Guo et al., 2020, "Single Path One-Shot Neural Architecture Search with Uniform
Sampling" (ECCV), section 3.4, and the code that its authors released: 20 layers
in four stages of 4, 4, 8 and 4, the first of each of stride 2, each of which
chooses among units of kernel 3, 5 or 7 and one of three separable convolutions
("Xception"). The classifier has a bias here, where theirs has none.

On ImageNet all kernels 3 have 3,154,880 parameters without that bias, and
295.84 M multiply-adds. What is found has a unit as a whole on every edge.
"""

from natjax import operations
from natjax.graph.records import Block, BlockNetwork, Edge, Layer, Node
from natjax.spaces import base

NAMES = ("shuffle_3x3", "shuffle_5x5", "shuffle_7x7", "shuffle_xception_3x3")
_STAGES = ((64, 4), (160, 4), (320, 8), (640, 4))

SPACE = base.Space(
    "shufflenet",
    BlockNetwork(
        "shufflenet", (Layer("conv", 16, 3, 2, activation="relu"),),
        tuple(Block((Node(width, 1 if i else 2),),
                    (Edge(operations.NULL, 1, 2),))
              for width, depth in _STAGES for i in range(depth)),
        (Layer("conv", 1024, activation="relu"), Layer("global_pool"),
         Layer("dropout", rate=0.1), Layer("linear", norm=False))),
    (*NAMES, operations.SKIP, operations.NULL),
    ((NAMES,),) * sum(depth for _, depth in _STAGES), share="full",
    several=False)
