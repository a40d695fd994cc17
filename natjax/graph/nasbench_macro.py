"""Chains of NAS-Bench-Macro, in their forms.

Su, Huang, Li, You, Wang, Qian, Zhang, Xu: "Prioritized Architecture Sampling
with Monto-Carlo Tree Search", CVPR 2021, section 4. A chain has eight layers of
which each is one of three (`OPERATIONS`): an identity, which is a 1x1
convolution with BN where it halves the image, or an inverted residual block.

- The benchmark writes its eight digits, "22212220" (`from_text`, `to_text`).
- Layers i32[8] are indices into `OPERATIONS`.
- The code, i32 in [0, 6561), has them as digits of base 3, the first layer the
  most significant (`encode`).
"""

import re
from typing import Any

import numpy as np

from natjax import errors

OPERATIONS = ("identity", "mbconv3_3x3", "mbconv6_5x5")
STAGES = ((64, 2), (128, 3), (256, 3))  # Channels and layers; the first halves.
LAYERS = sum(layers for _, layers in STAGES)
COUNT = len(OPERATIONS)**LAYERS
_PLACE = (len(OPERATIONS) ** np.arange(LAYERS)[::-1]).astype(np.int32)


def encode(layers: Any) -> Any:
  """Codes i32[...] of layers i32[..., 8]; NumPy or traced."""
  return (layers * _PLACE).sum(-1)


def all_chains() -> np.ndarray:
  """Layers i32[6561, 8] of every code."""
  return np.arange(COUNT, dtype=np.int32)[:, None] // _PLACE % len(OPERATIONS)


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
