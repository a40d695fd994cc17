"""The table of NAS-Bench-Macro: what all its 6,561 chains really reach.

It is the JSON file that its authors publish: an object from digits to
an object with `mean_acc` and `std` of the test accuracies in per cent on
CIFAR-10, of three trainings (`test_acc`), `params`, and `flops`, multiply-adds.
"""

from collections.abc import Mapping
import os
from typing import Any, NamedTuple

import numpy as np

from natjax import errors
from natjax.graph import nasbench_macro as chains
from natjax.graph import parsing

COLUMNS = ("mean_acc", "std", "params", "flops")
_MAX_BYTES = 2**26  # The published table has 1.2 MB.
_ADVICE = "give NAS-Bench-Macro's table, nas-bench-macro_cifar10.json"


class Table(NamedTuple):
  """What every chain reaches.

  Attributes:
    columns: by name of `COLUMNS`, f64[6561] by code (`graph.nasbench_macro`).
  """

  columns: Mapping[str, np.ndarray]


def read(path: str | os.PathLike[str]) -> Table:
  """Reads the table.

  Raises:
    InputError: no such file, damaged, of another benchmark, or not complete.
  """
  path = errors.regular(errors.path(path, "table"))
  try:
    with open(path, "rb") as file:
      data = file.read(_MAX_BYTES + 1)
    found = None
    if len(data) <= _MAX_BYTES:
      found = parsing.load_json(data.decode("utf-8-sig"))
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; name NAS-Bench-Macro's"
                            " table", "table") from e
  except ValueError as e:
    raise errors.InputError(
        f"{path}: damaged, or no JSON ({errors.cause(e)}); {_ADVICE}",
        "table") from e
  names = {"".join(map(str, row)): code
           for code, row in enumerate(chains.all_chains().tolist())}
  if not isinstance(found, dict) or not {*found} <= {*names}:
    raise errors.InputError(
        f"{path}: its keys are no chains of NAS-Bench-Macro; {_ADVICE}",
        "table")
  if len(found) != chains.COUNT:
    raise errors.InputError(
        f"{path}: {len(found)} of {chains.COUNT} chains; give the complete"
        " table", "table")
  columns = {column: np.zeros(chains.COUNT) for column in COLUMNS}
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
