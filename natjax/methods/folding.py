"""Multiplies theta into the weights of a derived network.

Dropping theta_same (or theta_id) changes what an edge gives by a factor. An
operation that ends in BN, or in a convolution and its bias, can take the factor
up itself, exactly: in scale and bias of the BN, in kernel and bias of the
convolution. Pooling and identities hold nothing and lose it.
"""

import re
from typing import Any

import jax
import numpy as np

from natjax import operations
from natjax.graph import blocks as blocks_lib
from natjax.methods import theta_space


def fold(
    params: Any,
    space: theta_space.ThetaSpace,
    chosen: tuple[np.ndarray, ...],
    theta: theta_space.Theta,
) -> tuple[Any, list[list[Any]], list[list[Any]]]:
  """Multiplies the chosen weights into a derived network's parameters.

  Args:
    params: of the derived network, or with it under "network".
    space: that was chosen from.
    chosen: `ThetaSpace.choose`.
    theta: per group, f32[E, 3].

  Returns:
    The parameters, and the [group, edge] that took the factor up and those
    that could not.
  """
  kind = "block" if isinstance(
      space.architecture, blocks_lib.BlockNetwork) else "cell"
  tree = dict(params.get("network", params))
  folded, left = [], []
  for group, choice, weights in zip(
      space.groups, chosen, theta, strict=True):
    for e, c in enumerate(choice):
      name = group.outcome(e, c)
      if name == operations.NULL or not group.allowed[e].sum() > 1:
        continue
      factor = weights[e, c]
      if name == operations.SKIP and group.allowed[e, theta_space.ID]:
        factor = weights[e, theta_space.ID] + (
            weights[e, theta_space.SAME]
            if group.cell.edges[e].operation == operations.SKIP else 0)
      done = False
      for i in group.members:
        member, key = dict(tree[f"{kind}{i}"]), f"edge{e}_{name}"
        new = scaled(member[key], factor, parallel=name == operations.SKIP
                     ) if key in member else None
        if new is not None:
          tree[f"{kind}{i}"], done = {**member, key: new}, True
      (folded if done else left).append([group.name, e])
  whole = {**params, "network": tree} if "network" in params else tree
  return whole, folded, left


def scaled(
    params: Any, factor: jax.Array, *, parallel: bool = False
) -> Any | None:
  """An operation's parameters, so that it gives `factor` times as much.

  Args:
    params: of one operation.
    factor: f32[].
    parallel: whether its convolutions stand side by side (a factorised
      reduce).

  Returns:
    None of an operation whose last layer is neither BN nor a convolution with
    its bias, nor a plain convolution, by the registry's names.
  """
  if "projection" in params:
    new = scaled(params["projection"], factor, parallel=parallel)
    return None if new is None else {**params, "projection": new}
  norms = [k for k in params if re.fullmatch(r"norm\d*", k)]
  if not norms:
    if set(params) == {"conv"}:  # `plain_conv_1x1`.
      return {"conv": jax.tree.map(lambda x: factor * x, params["conv"])}
    return None
  last = max(norms, key=lambda k: int(k[4:] or 0))
  new = {**params, last: jax.tree.map(lambda x: factor * x, params[last])}
  if "bn" in params[last] or "scale" in params[last]:
    return new
  # A bias alone: the convolution before it takes the factor, too.
  number = last[4:]
  convs = [k for k in (f"pointwise{number}", "conv1", "conv", "conv0",
                       "depthwise", "kernel") if k in params]
  for conv in convs if parallel else convs[:1]:
    new[conv] = jax.tree.map(lambda x: factor * x, params[conv])
  return new if convs else None
