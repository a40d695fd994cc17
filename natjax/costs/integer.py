"""Exact choices: linear programs over variables that are 0 or 1.

They are solved by HiGHS (Huangfu & Hall, 2018), by way of scipy.
"""

from collections.abc import Iterator, Sequence
import contextlib
import ctypes
import os
from typing import Any

import numpy as np


def solve(prices: np.ndarray, rules: Sequence[tuple[Any, ...]]
          ) -> np.ndarray | None:
  """The choice of the least price.

  Args:
    prices: f64[V], of the variables.
    rules: matrices [R, V] with the least of what their rows sum up to, and
      perhaps the most, as `scipy.optimize.LinearConstraint` takes them.

  Returns:
    f64[V], of numbers near 0 or 1, since the solver has tolerances, of rules
    too; None where nothing keeps to the rules.
  """
  from scipy import optimize  # Takes a while, and few commands need it.

  with _quiet():
    return optimize.milp(
        prices, integrality=np.ones(len(prices)), bounds=optimize.Bounds(0, 1),
        options={"mip_rel_gap": 0},
        constraints=[optimize.LinearConstraint(*rule) for rule in rules]).x


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Keeps C's stdout from the terminal.

  HiGHS prints a line there now and then, whatever it is told (scipy 1.17.1,
  findings/scipy_milp_prints.sh), also between the lines of a JSON output.
  """
  try:
    flush = ctypes.CDLL(None).fflush
    flush(None)
    kept = os.dup(1)
  except (AttributeError, OSError, TypeError):
    yield  # No such C library, or no stdout.
    return
  try:
    with open(os.devnull, "wb") as nowhere:
      os.dup2(nowhere.fileno(), 1)
      yield
  finally:
    flush(None)
    os.dup2(kept, 1)
    os.close(kept)
