"""NAS-Bench-201: all 15,625 cells and what they reach when really trained.

Dong & Yang: "NAS-Bench-201: Extending the Scope of Reproducible Neural
Architecture Search", ICLR 2020. A cell has an input node 0 and nodes 1 to 3,
one operation of five on each of the six edges (`EDGES`), a node is the sum of
its incoming edges, and node 3 is the output.

Three forms of a cell:
- the benchmark's string, `|op~0|+|op~0|op~1|+|op~0|op~1|op~2|`, an operation
  and its source per edge (`from_string`, `to_string`);
- operations i32[6], indices into `CANDIDATES`, in the order of `EDGES`;
- its code, i32 in [0, 15625), the operations as digits of base 5, the first
  edge the most significant (`encode`, `decode`). The benchmark's own index is
  an arbitrary order; a `Table` knows both.

The table is a CSV file, plain or gzipped, with a line for every cell and the
columns
  index, the benchmark's index of the cell, 0 to 15624;
  arch, the string;
and for each data set D of cifar10, cifar100 and imagenet16 (`DATASETS`; a
data set may be left out, with all its columns)
  D_val_200ep, D_test_200ep, D_val_12ep, D_test_12ep, validation and test
    accuracy in per cent after 200 and 12 epochs, the mean over seeds;
  D_params, parameters;
  D_flops_M, millions of multiply-adds.
Other columns are left alone. Or the table is read from the benchmark's
official files, by `benchmarks.nats_bench`.
"""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import functools
import gzip
import io
import math
import os
import pathlib
import re
from typing import Any
from typing import NamedTuple
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax import operations

CANDIDATES = (operations.NULL, operations.SKIP, "conv_1x1", "conv_3x3",
              "avg_pool_3x3")
# As the benchmark names them, in its order.
NAMES = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3",
         "avg_pool_3x3")
# (from, to), in the order of the string.
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
COUNT = len(NAMES) ** len(EDGES)
CHANNELS = (16, 32, 64)  # Of the three stages.
COLUMNS = ("val_200ep", "test_200ep", "val_12ep", "test_12ep", "params",
           "flops_M")

_CELLS = 5  # Per stage.
_PLACE = len(NAMES) ** np.arange(len(EDGES))[::-1]
_FORM = "|op~0|+|op~0|op~1|+|op~0|op~1|op~2|"
_MAX_BYTES = 2**28  # The published table has 3 MB.


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


DATASETS = {
    "cifar10": Dataset("cifar10", 10, 32),
    "cifar100": Dataset("cifar100", 100, 32),
    "imagenet16-120": Dataset("imagenet16", 120, 16),
}


def dataset(name: str) -> Dataset:
  """The data set of that name (InputError)."""
  if name not in DATASETS:
    raise errors.InputError(
        f"dataset is '{name}'; choose one of {', '.join(DATASETS)}")
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
  nodes = text.split("+")
  found = [re.findall(r"([^|~]*)~([0-9]+)\|", node) for node in nodes]
  plain = "+".join(
      "|" + "".join(f"{name}~{source}|" for name, source in node)
      for node in found)
  expected = [[str(source) for source in range(node)] for node in (1, 2, 3)]
  if plain != text or [[s for _, s in node] for node in found] != expected:
    raise errors.InputError(
        f"{where}: '{_short(text)}' is not a NAS-Bench-201 string; write"
        f" {_FORM} with operations of {', '.join(NAMES)}")
  names = [name for node in found for name, _ in node]
  for name, edge in zip(names, EDGES, strict=True):
    if name not in NAMES:
      raise errors.InputError(
          f"{where}: operation '{_short(name)}' on edge {edge[0]} -> {edge[1]}"
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
    raise errors.InputError(
        f"{len(names)} operations given; a NAS-Bench-201 cell has"
        f" {len(EDGES)} edges, give one for each")
  shown = []
  for name in names:
    known = operations.canonical(name) if name not in NAMES else (
        CANDIDATES[NAMES.index(name)])
    if known not in CANDIDATES:
      raise errors.InputError(
          f"operation '{_short(name)}' is not of NAS-Bench-201; choose one of"
          f" {', '.join(CANDIDATES)}")
    shown.append(NAMES[CANDIDATES.index(known)])
  nodes = {}
  for name, (source, target) in zip(shown, EDGES, strict=True):
    nodes.setdefault(target, []).append(f"{name}~{source}|")
  return "+".join("|" + "".join(node) for node in nodes.values())


def to_array(names: Sequence[str]) -> np.ndarray:
  """Operations i32[6] from canonical names."""
  return np.array([CANDIDATES.index(name) for name in names], np.int32)


def to_names(operation: np.ndarray) -> tuple[str, ...]:
  """Canonical names from operations i32[6]."""
  return tuple(CANDIDATES[int(o)] for o in operation)


def encode(operation: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
  """Codes i32[...] from operations i32[..., 6]; NumPy or traced."""
  return (operation * _PLACE.astype(np.int32)).sum(-1)


def decode(code: jax.Array | np.ndarray) -> jax.Array | np.ndarray:
  """Operations i32[..., 6] from codes i32[...]; NumPy or traced."""
  return code[..., None] // _PLACE.astype(np.int32) % len(NAMES)


@functools.cache
def all_operations() -> np.ndarray:
  """Operations i32[15625, 6] of every code."""
  every = decode(np.arange(COUNT, dtype=np.int32))
  every.setflags(write=False)
  return every


def costs(name: str) -> tuple[np.ndarray, np.ndarray]:
  """Computes parameters i64[15625] and multiply-adds f64[15625] by code.

  Closed form: what a network without cells costs, and per stage five times the
  cost of every edge's operation.

  Args:
    name: of the data set.
  """
  data = dataset(name)
  sizes = [data.image_size >> i for i in range(3)]
  edge = np.array([
      [sum(_CELLS * getattr(operations.get(op).cost(c, s, 1), field)
           for c, s in zip(CHANNELS, sizes, strict=True)) for op in CANDIDATES]
      for field in ("params", "madds")])
  # The stem, two residual blocks, the last normalisation and the classifier.
  params, madds = 3 * 9 * 16 + 2 * 16, 3 * 9 * 16 * sizes[0] ** 2
  for c, size in zip(CHANNELS[1:], sizes[1:], strict=True):
    weights = 9 * (c // 2) * c + 9 * c * c + (c // 2) * c
    params, madds = params + weights + 4 * c, madds + weights * size**2
  classifier = (CHANNELS[-1] + 1) * data.num_classes
  params, madds = params + 2 * CHANNELS[-1] + classifier, madds + classifier
  per_edge = edge[:, all_operations()].sum(-1)
  return params + per_edge[0], (madds + per_edge[1]).astype(np.float64)


def places(name: str) -> set[tuple[int, int]]:
  """The (channels, image side) of the benchmark's edges, all of stride 1.

  Args:
    name: of the data set.
  """
  return {(c, dataset(name).image_size >> i) for i, c in enumerate(CHANNELS)}


class Accuracies(NamedTuple):
  """Columns of one data set as arrays by code, for use inside jit.

  Attributes:
    valid: f32[15625], validation accuracy after 200 epochs, a fraction.
    test: f32[15625], test accuracy after 200 epochs, a fraction.
  """

  valid: jax.Array
  test: jax.Array


def lookup(values: jax.Array, operation: jax.Array) -> jax.Array:
  """Values [...] of cells given by their operations i32[..., 6]."""
  return values[encode(operation)]


@dataclasses.dataclass(frozen=True)
class Table:
  """What every cell reaches.

  Attributes:
    codes: i32[15625], the code of the cell with the benchmark's index i.
    columns: per data set and column of `COLUMNS`, f64[15625] by code.
  """

  codes: np.ndarray
  columns: Mapping[str, Mapping[str, np.ndarray]]

  @functools.cached_property
  def indices(self) -> np.ndarray:
    """i32[15625], the benchmark's index by code."""
    indices = np.empty(COUNT, np.int32)
    indices[self.codes] = np.arange(COUNT, dtype=np.int32)
    return indices

  def code(self, cell: str | int) -> int:
    """The code of a cell by its string or the benchmark's index.

    Raises:
      InputError: no such cell.
    """
    if isinstance(cell, str):
      return int(encode(to_array(from_string(cell))))
    if not 0 <= cell < COUNT:
      raise errors.InputError(
          f"index {cell} is not of NAS-Bench-201; give 0 to {COUNT - 1}")
    return int(self.codes[cell])

  def row(self, cell: str | int) -> dict[str, Any]:
    """All that is known of a cell, by its string or the benchmark's index."""
    code = self.code(cell)
    return {
        "index": int(self.indices[code]),
        "arch": to_string(to_names(decode(np.int32(code)))),
        **{name: {column: float(values[code])
                  for column, values in columns.items()}
           for name, columns in self.columns.items()}}

  def of(self, name: str) -> Mapping[str, np.ndarray]:
    """The columns of a data set, f64[15625] by code (InputError)."""
    dataset(name)
    if name not in self.columns:
      raise errors.InputError(
          f"the table has no columns for '{name}'; it has"
          f" {', '.join(self.columns)}, choose one of these")
    return self.columns[name]

  def accuracies(self, name: str) -> Accuracies:
    """The 200-epoch accuracies of a data set, on the device."""
    columns = self.of(name)
    return Accuracies(*(jnp.asarray(columns[c] / 100, jnp.float32)
                        for c in ("val_200ep", "test_200ep")))


def read(path: str | os.PathLike[str]) -> Table:
  """Reads the table: a CSV file, or the folder of the official files.

  Raises:
    InputError: no such file, damaged, or not a complete table.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    from natjax.benchmarks import nats_bench  # It stands on this module.

    return nats_bench.read(path)
  return from_csv(_text(path), where=str(path))


def from_csv(text: str, *, where: str = "table") -> Table:
  """Reads the table from the text of a CSV file; see the module.

  Raises:
    InputError: see `read`.
  """
  try:
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(lines, [])
    rows = [(lines.line_num, row) for row in lines if row]
  except csv.Error as e:
    raise errors.InputError(
        f"{where}: not a CSV file ({e}); give NAS-Bench-201's table") from e
  wanted = _wanted(header, where)
  codes = np.full(COUNT, -1, np.int32)
  columns = {name: {c: np.zeros(COUNT) for c in COLUMNS} for name in wanted}
  seen: dict[int, int] = {}
  for line, row in rows:
    here = f"{where} line {line}"
    if len(row) != len(header):
      raise errors.InputError(
          f"{here}: {len(row)} fields where the header has {len(header)};"
          " mend the line")
    field = dict(zip(header, row, strict=True))
    code = int(encode(to_array(from_string(field["arch"], where=here))))
    if code in seen:
      raise errors.InputError(
          f"{here}: '{field['arch']}' stands in line {seen[code]} already;"
          " remove one")
    seen[code] = line
    index = _index(field["index"], codes, here)
    codes[index] = code
    for name, prefix in wanted.items():
      for column in COLUMNS:
        columns[name][column][code] = _number(
            field[f"{prefix}_{column}"], f"{prefix}_{column}", here)
  if len(seen) != COUNT:
    raise errors.InputError(
        f"{where}: {len(seen)} of {COUNT} cells; give the complete table")
  return Table(codes, columns)


def to_csv(table: Table) -> str:
  """Writes the text of a CSV file, by the benchmark's index."""
  out = io.StringIO()
  writer = csv.writer(out, lineterminator="\n")
  writer.writerow(["index", "arch"] + [
      f"{DATASETS[name].column}_{c}" for name in table.columns
      for c in COLUMNS])
  for index, code in enumerate(table.codes):
    arch = to_string(to_names(decode(np.int32(code))))
    writer.writerow([index, arch] + [
        repr(float(columns[c][code])) for columns in table.columns.values()
        for c in COLUMNS])
  return out.getvalue()


def _wanted(header, where):
  """Prefix by data set of those whose columns the header has."""
  repeated = {c for c in header if header.count(c) > 1}
  if repeated:
    raise errors.InputError(
        f"{where}: column '{_short(min(repeated))}' stands there twice; remove"
        " one")
  required = {"index", "arch"}
  wanted = {}
  for name, data in DATASETS.items():
    own = {f"{data.column}_{c}" for c in COLUMNS}
    if own & set(header):
      wanted[name] = data.column
      required |= own
  missing = sorted(required - set(header))
  if missing or not wanted:
    lacks = missing or [f"cifar10_{c}" for c in COLUMNS]
    raise errors.InputError(
        f"{where}: without the column{'s' * (len(lacks) > 1)}"
        f" {', '.join(lacks)}; give NAS-Bench-201's table with a header")
  return wanted


def _index(text, codes, where):
  if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) >= COUNT:
    raise errors.InputError(
        f"{where}: index is '{_short(text)}' and must be a number from 0 to"
        f" {COUNT - 1}; mend it")
  if codes[int(text)] >= 0:
    raise errors.InputError(
        f"{where}: index {text} stands in an earlier line too; mend one")
  return int(text)


def _number(text, column, where):
  try:
    value = float(text)
  except ValueError:
    value = math.nan
  kind = column.split("_", 1)[1]
  if kind == "params":
    allowed, good = "a positive whole number", (
        value > 0 and value == math.floor(value) < 2**53)
  elif kind == "flops_M":
    allowed, good = "a positive number", 0 < value < math.inf
  else:
    allowed, good = "an accuracy from 0 to 100", 0 <= value <= 100
  if not good:
    raise errors.InputError(
        f"{where}: {column} is '{_short(text)}' and must be {allowed}; mend it")
  return value


def _text(path):
  """The text of a file that may be gzipped."""
  try:
    with open(path, "rb") as file:
      data = file.read(_MAX_BYTES + 1)
    packed = data[:2] == b"\x1f\x8b"
    if path.suffix == ".gz" and not packed:
      raise gzip.BadGzipFile("not a gzip file")
    if packed:
      with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
      raise errors.InputError(
          f"{path}: larger than {_MAX_BYTES} bytes; give NAS-Bench-201's"
          " table")
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as e:
    raise errors.InputError(
        f"{path}: not a text file; give NAS-Bench-201's table as CSV") from e
  except (EOFError, zlib.error, gzip.BadGzipFile) as e:
    raise errors.InputError(
        f"{path}: damaged gzip file ({e}); fetch it anew") from e
  except OSError as e:
    raise errors.InputError(
        f"{path}: {e.strerror}; name NAS-Bench-201's table with --table"
    ) from e
  except ValueError as e:  # A path that no file can have.
    raise errors.InputError(f"{str(path)!r}: {e}; name a file") from e


def _short(text):
  """A user's text that fits into one line."""
  text = " ".join(str(text).split())
  return text if len(text) <= 80 else f"{text[:77]}..."
