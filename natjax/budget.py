"""Cost targets: what a transformed architecture may cost at most.

A target is absolute ("3e6", "2.5M") or relative to the given architecture
("0.8x"). `edge_costs` gives the cost of every possible operation on every edge,
so that sampling can be led towards cheaper transformations (`methods.nat`).
"""

import math
import re
from typing import NamedTuple

import numpy as np

from natjax import architecture as architecture_lib
from natjax import cost as cost_lib
from natjax import errors
from natjax import operations
from natjax import skeleton as skeleton_lib

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


class Budget(NamedTuple):
  """The most that a network may cost; None is without limit.

  Attributes:
    params: parameters.
    madds: multiply-adds.
  """

  params: float | None = None
  madds: float | None = None

  def __bool__(self) -> bool:
    return self.params is not None or self.madds is not None

  def allows(self, cost: operations.Cost) -> bool:
    """Whether a cost keeps to the budget."""
    return ((self.params is None or cost.params <= self.params)
            and (self.madds is None or cost.madds <= self.madds))

  def excess(self, cost: operations.Cost) -> float:
    """The larger of the costs' ratios to their limits; at most 1 if kept."""
    ratios = [0.0]
    for value, limit in ((cost.params, self.params), (cost.madds, self.madds)):
      if limit is not None:
        ratios.append(value / limit)
    return max(ratios)


class NotMet(Exception):
  """No transformation that was found keeps to the budget."""


def parse(text: str, original: int, *, option: str) -> float | None:
  """Reads one limit.

  Args:
    text: "" for none, a number with an optional unit K, M or G, or a multiple
      of the original's cost such as "0.8x".
    original: cost of the given architecture.
    option: name of the setting, for the error.

  Example:
    >>> parse("0.5x", 3000, option="max-params"), parse("2K", 1, option="o")
    (1500.0, 2000.0)

  Raises:
    InputError: another form, or not above 0.
  """
  if not text:
    return None
  match = re.fullmatch(r"([0-9.]+(?:e[+-]?[0-9]+)?)([kmgx]?)", text.lower())
  try:
    value = float(match[1]) if match else math.nan
  except ValueError:
    value = math.nan
  if not 0 < value < math.inf:
    raise errors.InputError(
        f"{option} is '{text}'; pass --{option} with a number above 0 such as"
        " 3e6 or 2.5M, or a multiple of the given architecture's such as 0.8x")
  if match[2] == "x":
    return value * original
  return value * _UNITS[match[2]]


def read(
    max_params: str, max_madds: str, original: operations.Cost
) -> Budget:
  """Reads both limits; see `parse`."""
  return Budget(parse(max_params, original.params, option="max-params"),
                parse(max_madds, original.madds, option="max-madds"))


def edge_costs(
    genotype: architecture_lib.Genotype,
    candidates: tuple[str, ...],
    skeleton: skeleton_lib.Skeleton,
) -> np.ndarray:
  """The cost of every candidate on every edge, over all layers.

  Args:
    genotype: with two inputs per node.
    candidates: operation names, in order.
    skeleton: in which the network stands.

  Returns:
    f64[2, 2, N, 2, O]: parameters and multiply-adds; normal and reduction
    cell; node; slot; operation. Infinite where a stride is impossible.
  """
  shape = (2, 2, genotype.num_nodes, 2, len(candidates))
  costs = np.zeros(shape)
  widths = [len(cell.concat) for cell in genotype]
  for layer in skeleton_lib.layers(skeleton, widths):
    kind = int(layer.reduction)
    cell = genotype[kind]
    for i, edge in enumerate(cell.edges):
      stride = cell.stride(edge, layer.reduction)
      for o, name in enumerate(candidates):
        if stride not in operations.get(name).strides:
          costs[:, kind, i // 2, i % 2, o] = np.inf
          continue
        cost = cost_lib.edge(cell, edge._replace(operation=name), layer)
        costs[:, kind, i // 2, i % 2, o] += (cost.params, cost.madds)
  return costs
