"""Costs of operations, and what the modules of several have in common."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from natjax import errors


class Cost(NamedTuple):
  """What an operation or a network costs.

  Attributes:
    params: trainable parameters, those of affine BN included.
    madds: multiply-adds of convolutions and linear layers, at output size.
    other: multiply-adds of pooling windows and copies, which `madds` leaves
      out (the paper's Fig. 4(b) counts them).
    norm_params: those of `params` that belong to affine BN.
  """

  params: int
  madds: int
  other: int = 0
  norm_params: int = 0

  def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
    return Cost(*(a + b for a, b in zip(self, other, strict=True)))


def check_groups(groups: int, *channels: int) -> None:
  """Refuses channels that `groups` does not divide (InputError)."""
  for count in channels:
    if count % groups:
      raise errors.InputError(f"{count} channels cannot be cut into {groups}"
                              f" groups; give a multiple of {groups}")


def check_halvable(channels: int) -> None:
  """Refuses channels that a factorised reduce cannot halve (InputError)."""
  if channels % 2:
    raise errors.InputError(
        f"{channels} channels cannot be halved by a factorised reduce; give an"
        " even number of initial channels")


def scaling(*convs: str,
            norm: str | None = "norm") -> Callable[[Any, jax.Array], Any]:
  """How an operation takes a factor up into its parameters, exactly.

  Where it ends in a BN, in scale and bias of that; where a bias alone follows
  its last convolution, in the bias and in the convolution.

  Args:
    *convs: names of the last convolutions, side by side, in the parameters.
    norm: name of what follows them; None where nothing does.

  Returns:
    `(params, factor) -> params` of the same operation, times `factor`.
  """

  def scale(params, factor):
    parts = [] if norm is None else [norm]
    if norm is None or set(params[norm]) == {"bias"}:
      parts += convs
    return {**params, **{name: jax.tree.map(lambda x: factor * x, params[name])
                         for name in parts}}

  return scale
