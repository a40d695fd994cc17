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

Many cells compute the same (`computations`).
"""

import ast
from collections.abc import Sequence
import functools
import re
from typing import Any, NamedTuple

import numpy as np

from natjax import errors, operations
from natjax.graph import modules

CANDIDATES = (operations.NULL, operations.SKIP, "conv_1x1", "conv_3x3",
              "avg_pool_3x3")
# As the benchmark names them, in its order.
NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
# (from, to), in the order of the string.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
COUNT = len(NAMES) ** len(EDGES)
COMPUTATIONS = 4930  # Of all cells, the different ones (`computations`).
CHANNELS = (16, 32, 64)  # Of the three stages.
# Of the benchmark's table, per data set.
COLUMNS = ("val_200ep", "test_200ep", "val_12ep", "test_12ep", "params",
           "flops_M")

_NULL, _SKIP = map(CANDIDATES.index, (operations.NULL, operations.SKIP))
_PLACE = len(NAMES) ** np.arange(len(EDGES))[::-1]
_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
_PATTERN = re.compile(re.escape(_FORM).replace("op", "([^|~+]*)"))
_STANDING = re.compile(
    r"(?:\b(?P<name>\w+)[ \t]?=[ \t]?[\"'])?(?P<cell>"
    # Some write blanks around +, and of a cell of more nodes no part is meant.
    + re.escape(_FORM).replace("op", r"[^|~+\n]*").replace(
        r"\+", r"[ \t]*\+[ \t]*") + r")(?![ \t]*\+[ \t]*\|)")


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
  match = _PATTERN.fullmatch(text)
  if not match:
    raise errors.InputError(
        f"{where}: '{short(text)}' is not a NAS-Bench-201 string; write"
        f" {_FORM} with operations of {', '.join(NAMES)}")
  names = match.groups()
  return from_names(names, where=where)


def find(text: str, *, where: str = "architecture",
         name: str | None = None) -> tuple[modules.Found, ...]:
  """The benchmark's strings in a module, which is not executed, or in a log.

  Args:
    text: with whatever stands around them; lines of comments are left out.
    where: what the error calls it.
    name: of one of several strings.

  Returns:
    Those that are meant, their values being the strings; the last one counts.

  Example:
    >>> find("arch: |none~0|+|none~0|none~1|+|none~0|none~1|none~2| (best)"
    ...      )[-1].value
    '|none~0|+|none~0|none~1|+|none~0|none~1|none~2|'

  Raises:
    InputError: see `modules.choose` and `modules.unnamed`.
  """
  parsed = modules.find(text, _is_string, name)
  found = [f._replace(value=_plain(_STANDING.findall(f.value.value)[-1][1]))
           for f in parsed or ()]
  if found:
    modules.unnamed(found, where=where, what="cells")
  else:
    found = modules.logged([
        modules.Found(match["name"], (), number, _plain(match["cell"]))
        for number, line in enumerate(text.splitlines(), 1)
        if not line.lstrip().startswith("#")
        for match in _STANDING.finditer(line)], name)
  return modules.choose(found, name, where=where, what="cells") if found else ()


def _plain(cell):
  """A cell's string without blanks around +."""
  return re.sub(r"[ \t]*\+[ \t]*", "+", cell)


def _is_string(node):
  """Whether an expression is a text that holds a cell."""
  return isinstance(node, ast.Constant) and isinstance(node.value, str) and (
      _STANDING.search(node.value) is not None)


def from_names(names: Sequence[str], *,
               where: str = "architecture") -> tuple[str, ...]:
  """Canonical names of six operations by `EDGES`, whatever they are called.

  Raises:
    InputError: one that the benchmark lacks.
  """
  found = [operations.canonical(name) for name in names]
  for name, known, edge in zip(names, found, EDGES, strict=True):
    if known not in CANDIDATES:
      raise errors.InputError(
          f"{where}: operation '{short(name)}' on edge {edge[0]} -> {edge[1]}"
          f" is unknown; choose one of {', '.join(NAMES)}")
  return tuple(found)


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
    known = operations.canonical(name)
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


@functools.cache
def computations() -> np.ndarray:
  """Numbers what cells compute: i32[15625] by code, in [0, 4930).

  Two cells compute the same if their output nodes are the same expression of
  the input. A node is the sum of its edges, in whatever order and with each
  term as often as it occurs; a skip is what it copies; a null, and any
  operation on nothing, is nothing and falls out of sums; a convolution or a
  pooling of an expression is the operation's name applied to it. Expressions
  are numbered by their first cell; none has more than 460 cells.

  What this takes for the same and is not quite: a convolution of zeros is zeros
  only before its BN's bias is learnt; and an expression does not say whether a
  term that occurs twice is one edge seen twice or two edges with weights of
  their own. What it keeps apart, though equal: the pooling of a sum, which is
  the sum of the poolings, and a convolution of x and of x + x, whose BN takes
  the factor out again; 4450 would be left. NAS-Bench-201's package writes 6466
  unique strings, as a sum with a zero remains a sum there, and so do sums
  within sums: 9956 cells have an expression that it writes in several ways.

  Every cell is computed on one 64-bit number, its operations being scramblings
  that keep zero; a test shows that no two expressions coincide by chance.

  Example, two ways to do one convolution:
    >>> direct = ["null", "null", "null", "conv_3x3", "null", "null"]
    >>> copied = ["skip_connect", "null", "conv_3x3", "null", "null",
    ...           "skip_connect"]
    >>> direct, copied = (computations()[encode(to_array(c))]
    ...                   for c in (direct, copied))
    >>> bool(direct == copied)
    True
  """
  node = np.zeros((EDGES[-1][1] + 1, COUNT), np.uint64)
  node[0] = 1
  for operation, (source, target) in zip(all_operations().T, EDGES,
                                         strict=True):
    node[target] += _scramble(operation, node[source])
  _, first, same = np.unique(node[-1], return_index=True, return_inverse=True)
  number = np.argsort(np.argsort(first)).astype(np.int32)[same]
  number.setflags(write=False)
  return number


def _scramble(operation, value):
  """What operations i32[N] make of numbers u64[N], for `computations`."""
  mixed = value + operation.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
  for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
    mixed = (mixed ^ mixed >> np.uint64(shift)) * np.uint64(factor)
  mixed = np.where(operation == _SKIP, value, mixed ^ mixed >> np.uint64(31))
  return np.where((operation == _NULL) | (value == 0), np.uint64(0), mixed)


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
