"""The space of NAS-Bench-201.

Dong & Yang, 2020, section 2.1: one cell of four nodes and six edges, five
operations, `null` among them, on every edge (`graph.nasbench201`). In search,
convolutions carry a bias and BN has no parameters, and pooling is not
normalised.
"""

from natjax import operations, zoo
from natjax.graph import nasbench201
from natjax.spaces import base

SPACE = base.Space(
    "nasbench201",
    zoo.nasbench201.network(
        [operations.NULL] * len(nasbench201.EDGES))._replace(
            name="nasbench201"),
    (*nasbench201.CANDIDATES[1:], operations.NULL), several=False,
    search_bias=True)
