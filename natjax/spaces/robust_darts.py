"""The spaces S1 to S4, in which DARTS is known to fail.

Zela et al., 2020, "Understanding and Robustifying Differentiable Architecture
Search", section 3: DARTS's cells with few candidates. S1 has two per edge, the
two that DARTS weighed most in its own space; S2 has skips and separable
convolutions, S3 `null` too, and S4 noise in place of skips.
"""

from natjax.spaces import base

_NAMES = {"sk": "skip_connect", "s3": "sep_conv_3x3", "d3": "dil_conv_3x3",
          "d5": "dil_conv_5x5", "mp": "max_pool_3x3", "ap": "avg_pool_3x3",
          "no": "noise", "nu": "null"}
# Edges in order of target and source.
_NORMAL = ("sk d3, sk d5, sk d5, sk s3, sk d3, mp sk, sk s3, sk s3, sk d3,"
           " sk s3, mp sk, sk d3, d3 d5, d3 d5")
_REDUCE = ("mp ap, mp d3, mp ap, mp ap, sk d5, mp ap, mp s3, sk d3, sk d5,"
           " mp ap, mp ap, sk d5, sk d5, sk d5")


def _choices(text):
  return tuple(tuple(_NAMES[name] for name in edge.split())
               for edge in text.split(","))


def _space(name, normal, reduce):
  choices = (_choices(normal), _choices(reduce))
  used = {op for cell in choices for edge in cell for op in edge}
  candidates = (*(op for op in _NAMES.values() if op in used - {"null"}),
                "null")
  return base.cells(name, candidates, choices=choices)


SPACES = (_space("s1", _NORMAL, _REDUCE), *(
    _space(name, ",".join([edge] * 14), ",".join([edge] * 14))
    for name, edge in (("s2", "sk s3"), ("s3", "nu sk s3"), ("s4", "no s3"))))
