"""NAT++: more transitions, by types and kernels.

Guo, Zheng, Tan, Chen, Wang, Chen, Zhao, Huang: "Towards Accurate and Compact
Architectures via Neural Architecture Transformer", TPAMI 2021, section 4.

NAT (`methods.nat`) with another scheme of transitions: the actions are the
operations themselves, of which the two-level rule allows those of no dearer
type and no larger kernel (`transitions.natpp_scheme`); the policy has one
output per operation, and its softmax is taken over the valid ones alone
(equation 6, `policies.sampling.masked_log_softmax`). Equation 6 sums to K,
which the text uses for the number of edges; the sum over the C operations is
meant.

How this differs from the released code, besides what `methods.nat` says:
candidates are scored on the policy's split of the training images, where the
released code scores on CIFAR-10's test images. `policy="published"` keeps the
released policy, transitions and training, not that.
"""

from natjax.methods import listed, nat


class NATpp(nat.NAT):
  """NAT++; see `nat.NAT`."""

  scheme = "natpp"
  smoothing = 0.0


ENTRY = nat.entry(NATpp, listed.LINES["natpp"])
