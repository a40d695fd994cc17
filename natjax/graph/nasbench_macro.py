"""Chains of NAS-Bench-Macro, in their forms.

Su, Huang, Li, You, Wang, Qian, Zhang, Xu: "Prioritized Architecture Sampling
with Monto-Carlo Tree Search", CVPR 2021, section 4. A chain has eight layers of
which each is one of three (`OPERATIONS`): an identity, which is a 1x1
convolution with BN where it halves the image, or an inverted residual block.

- The benchmark writes its eight digits, "22212220" (`from_text`, `to_text`).
- Layers i32[8] are indices into `OPERATIONS`.
- The code, i32 in [0, 6561), has them as digits of base 3, the first layer the
  most significant (`encode`, `decode`).

Some chains compute the same (`computations`).
"""

import functools
import re
from typing import Any

import numpy as np

from natjax import errors

OPERATIONS = ("identity", "mbconv3_3x3", "mbconv6_5x5")
STAGES = ((64, 2), (128, 3), (256, 3))  # Channels and layers; the first halves.
LAYERS = sum(layers for _, layers in STAGES)
COUNT = len(OPERATIONS)**LAYERS
COMPUTATIONS = 3969  # Of all chains, the different ones (`computations`).
_PLACE = (len(OPERATIONS) ** np.arange(LAYERS)[::-1]).astype(np.int32)


def encode(layers: Any) -> Any:
  """Codes i32[...] of layers i32[..., 8]; NumPy or traced."""
  return (layers * _PLACE).sum(-1)


def decode(code: Any) -> Any:
  """Layers i32[..., 8] of codes i32[...]; NumPy or traced."""
  return code[..., None] // _PLACE % len(OPERATIONS)


def all_chains() -> np.ndarray:
  """Layers i32[6561, 8] of every code."""
  return decode(np.arange(COUNT, dtype=np.int32))


@functools.cache
def computations() -> np.ndarray:
  """Numbers what chains compute: i32[6561] by code, in [0, 3969).

  An identity copies, but for the first layer of a stage; so where in the rest
  of a stage it stands does not matter. Numbered by the first chain.
  """
  layers, first = all_chains(), 0
  for _, depth in STAGES:
    inner = layers[:, first + 1:first + depth]
    order = np.argsort(inner == 0, axis=1, kind="stable")  # These last.
    layers[:, first + 1:first + depth] = np.take_along_axis(inner, order, 1)
    first += depth
  _, first_code, same = np.unique(
      encode(layers), return_index=True, return_inverse=True)
  number = np.argsort(np.argsort(first_code)).astype(np.int32)[same]
  number.setflags(write=False)
  return number


def from_text(text: str, *, where: str = "architecture") -> np.ndarray:
  """Reads eight digits: layers i32[8].

  Example:
    >>> from_text("22212220").tolist()
    [2, 2, 2, 1, 2, 2, 2, 0]

  Raises:
    InputError: another form.
  """
  if not re.fullmatch(r"[0-2]{8}", text.strip()):
    raise errors.InputError(
        f"{where}: {errors.short(text)} is no chain of NAS-Bench-Macro; write"
        f" {LAYERS} digits, 0 for {OPERATIONS[0]}, 1 for {OPERATIONS[1]} and 2"
        f" for {OPERATIONS[2]}, as 22212220")
  return np.array([*map(int, text.strip())], np.int32)


def to_text(layers: np.ndarray) -> str:
  """Writes eight digits."""
  return "".join(map(str, np.asarray(layers).tolist()))
