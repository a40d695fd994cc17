"""Cells of NAS-Bench-201, in three forms.

Dong & Yang: "NAS-Bench-201: Extending the Scope of Reproducible Neural
Architecture Search", ICLR 2020. A cell has an input node 0 and nodes 1 to 3,
one operation of five on each of the six edges (`EDGES`), a node is the sum of
its incoming edges, and node 3 is the output.

- The benchmark's string, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, has an
  operation and its source per edge (`from_string`, `to_string`).
- Operations i32[6] are indices into `CANDIDATES`, in the order of `EDGES`.
- The code, i32 in [0, 15625), has the operations as digits of base 5, the first
  edge the most significant (`encode`, `decode`).
"""

from collections.abc import Sequence
import functools
import re
from typing import Any, NamedTuple

import numpy as np

from natjax import errors, operations

CANDIDATES = (operations.NULL, operations.SKIP, "conv_1x1", "conv_3x3",
              "avg_pool_3x3")
# As the benchmark names them, in its order.
NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# (from, to), in the order of the string.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
COUNT = len(NAMES) ** len(EDGES)
CHANNELS = (16, 32, 64)  # Of the three stages.
# Of the benchmark's table, per data set.
COLUMNS = ("val_200ep", "test_200ep", "val_12ep", "test_12ep", "params",
           "flops_M")

_PLACE = len(NAMES) ** np.arange(len(EDGES))[::-1]
_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"


class Dataset(NamedTuple):
  """A data set of the benchmark.

  Attributes:
    column: how the table's columns begin.
    num_classes: of the classifier.
    image_size: side of the images.
  """

  column: str
  num_classes: int
  image_size: int


DATASETS = {"cifar10": Dataset("cifar10", 10, 32),
            "cifar100": Dataset("cifar100", 100, 32),
            "imagenet16-120": Dataset("imagenet16", 120, 16)}


def dataset(name: str) -> Dataset:
  """The data set of that name (InputError)."""
  errors.known("dataset", name, DATASETS)
  return DATASETS[name]


def from_string(text: str, *, where: str = "architecture") -> tuple[str, ...]:
  """Reads the benchmark's string: six canonical names, by `EDGES`.

  Example:
    >>> from_string("|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1"
    ...             "|skip_connect~2|")[:2]
    ('conv_3x3', 'null')

  Raises:
    InputError: another form, another source, or an unknown operation.
  """
  match = re.fullmatch(re.escape(_FORM).replace("op", "([^|~+]*)"), text)
  if not match:
    raise errors.InputError(
        f"{where}: '{short(text)}' is not a NAS-Bench-201 string; write"
        f" {_FORM} with operations of {', '.join(NAMES)}")
  names = match.groups()
  for name, edge in zip(names, EDGES, strict=True):
    if name not in NAMES:
      raise errors.InputError(
          f"{where}: operation '{short(name)}' on edge {edge[0]} -> {edge[1]}"
          f" is unknown; choose one of {', '.join(NAMES)}")
  return tuple(CANDIDATES[NAMES.index(name)] for name in names)


def to_string(names: Sequence[str]) -> str:
  """Writes the string of six operations, canonical or the benchmark's names.

  Example:
    >>> to_string(["conv_3x3"] + ["null"] * 5)
    '|nor_conv_3x3~0|+|none~0|none~1|+|none~0|none~1|none~2|'

  Raises:
    InputError: another number, or an operation that the benchmark lacks.
  """
  if len(names) != len(EDGES):
    raise errors.InputError(f"{len(names)} operations given; a NAS-Bench-201"
                            f" cell has {len(EDGES)} edges, give one for each")
  shown = []
  for name in names:
    known = operations.canonical(name) if name not in NAMES else (
        CANDIDATES[NAMES.index(name)])
    if known not in CANDIDATES:
      raise errors.InputError(
          f"operation '{short(name)}' is not of NAS-Bench-201; choose one of"
          f" {', '.join(CANDIDATES)}")
    shown.append(NAMES[CANDIDATES.index(known)])
  return _FORM.replace("op", "{}").format(*shown)


def to_array(names: Sequence[str]) -> np.ndarray:
  """Operations i32[6] from canonical names."""
  return np.array([CANDIDATES.index(name) for name in names], np.int32)


def to_names(operation: np.ndarray) -> tuple[str, ...]:
  """Canonical names from operations i32[6]."""
  return tuple(CANDIDATES[int(o)] for o in operation)


def encode(operation: Any) -> Any:
  """Codes i32[...] from operations i32[..., 6]; NumPy or traced."""
  return (operation * _PLACE.astype(np.int32)).sum(-1)


def decode(code: Any) -> Any:
  """Operations i32[..., 6] from codes i32[...]; NumPy or traced."""
  return code[..., None] // _PLACE.astype(np.int32) % len(NAMES)


@functools.cache
def all_operations() -> np.ndarray:
  """Operations i32[15625, 6] of every code."""
  every = decode(np.arange(COUNT, dtype=np.int32))
  every.setflags(write=False)
  return every


def places(name: str) -> set[tuple[int, int]]:
  """The (channels, image side) of the benchmark's edges, all of stride 1.

  Args:
    name: of the data set.
  """
  return {(c, dataset(name).image_size >> i) for i, c in enumerate(CHANNELS)}


def short(text):
  """A user's text that fits into one line."""
  text = " ".join(str(text).split())
  return text if len(text) <= 80 else f"{text[:77]}..."
