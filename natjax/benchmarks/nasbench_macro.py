"""The table of NAS-Bench-Macro: what all its 6,561 chains really reach.

Su, Huang, Li, You, Wang, Qian, Zhang, Xu: "Prioritized Architecture Sampling
with Monto-Carlo Tree Search", CVPR 2021, section 4. A chain has eight layers of
which each is one of three (`OPERATIONS`): an identity, which is a 1x1
convolution with BN where it halves the image, or an inverted residual block. It
is written as its eight digits, "22212220".

The table is the JSON file that its authors publish: an object from digits to
an object with `mean_acc` and `std` of the test accuracies in per cent on
CIFAR-10, of three trainings (`test_acc`), `params`, and `flops`, multiply-adds.
"""

from collections.abc import Mapping
import json
import os
import re
from typing import Any, NamedTuple

import numpy as np

from natjax import errors

OPERATIONS = ("identity", "mbconv3_3x3", "mbconv6_5x5")
LAYERS = 8
COUNT = len(OPERATIONS)**LAYERS
COLUMNS = ("mean_acc", "std", "params", "flops")
_MAX_BYTES = 2**26  # The published table has 1.2 MB.
_PLACE = len(OPERATIONS) ** np.arange(LAYERS)[::-1].astype(np.int32)
_ADVICE = "give NAS-Bench-Macro's table, nas-bench-macro_cifar10.json"


class Table(NamedTuple):
  """What every chain reaches.

  Attributes:
    columns: by name of `COLUMNS`, f64[6561] by code (`encode`).
  """

  columns: Mapping[str, np.ndarray]


def encode(genes):
  """Codes i32[...] of layers i32[..., 8]; NumPy or traced."""
  return (genes * _PLACE).sum(-1)


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


def read(path: str | os.PathLike[str]) -> Table:
  """Reads the table.

  Raises:
    InputError: no such file, damaged, of another benchmark, or not complete.
  """
  path = errors.regular(errors.path(path, "table"))
  try:
    with open(path, "rb") as file:
      data = file.read(_MAX_BYTES + 1)
    found = json.loads(data) if len(data) <= _MAX_BYTES else None
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; name NAS-Bench-Macro's"
                            " table", "table") from e
  except (ValueError, RecursionError) as e:
    raise errors.InputError(
        f"{path}: damaged, or no JSON ({errors.cause(e)}); {_ADVICE}",
        "table") from e
  names = {"".join(map(str, row)): code
           for code, row in enumerate(all_chains().tolist())}
  if not isinstance(found, dict) or not {*found} <= {*names}:
    raise errors.InputError(
        f"{path}: its keys are no chains of NAS-Bench-Macro; {_ADVICE}",
        "table")
  if len(found) != COUNT:
    raise errors.InputError(f"{path}: {len(found)} of {COUNT} chains; give the"
                            " complete table", "table")
  columns = {column: np.zeros(COUNT) for column in COLUMNS}
  for name, row in found.items():
    for column, values in columns.items():
      value: Any = row.get(column) if isinstance(row, dict) else None
      most = 100 if column in ("mean_acc", "std") else 2**53
      if type(value) not in (int, float) or not 0 <= value <= most:
        raise errors.InputError(
            f"{path}: {column} of {name} is {errors.short(value)} and must be a"
            f" number from 0 to {most}; {_ADVICE}", "table")
      values[names[name]] = value
  return Table(columns)
