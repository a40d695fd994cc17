"""The table of NAS-Bench-201: what all 15,625 cells really reach.

It is a CSV file, plain or gzipped, with a line for every cell and the columns
  index, the benchmark's index of the cell, 0 to 15624;
  arch, the string;
and for each data set D of cifar10, cifar100 and imagenet16 (`DATASETS`; a
data set may be left out, with all its columns)
  D_val_200ep, D_test_200ep, D_val_12ep, D_test_12ep, validation and test
    accuracy in per cent after 200 and 12 epochs, the mean over seeds;
  D_params, parameters;
  D_flops_M, millions of multiply-adds.
Other columns are left alone. The benchmark's own index is an arbitrary order of
the cells; a `Table` knows it beside their codes (`graph.nasbench201`). Or the
table is read from the benchmark's official files, by `nats_bench`.
"""

from collections.abc import Mapping
import csv
import gzip
import io
import math
import os
import re
from typing import NamedTuple
import zlib

import numpy as np

from natjax import errors
from natjax.benchmarks import nats_bench
from natjax.graph import nasbench201 as cells

_MAX_BYTES = 2**28  # The published table has 3 MB.


class Table(NamedTuple):
  """What every cell reaches.

  Attributes:
    codes: i32[15625], the code of the cell with the benchmark's index i.
    columns: per data set and column of `COLUMNS`, f64[15625] by code.
  """

  codes: np.ndarray
  columns: Mapping[str, Mapping[str, np.ndarray]]

  def of(self, name: str) -> Mapping[str, np.ndarray]:
    """The columns of a data set, f64[15625] by code (InputError)."""
    cells.dataset(name)
    if name not in self.columns:
      raise errors.InputError(
          f"the table has no columns for '{name}'; it has"
          f" {', '.join(self.columns)}, choose one of these")
    return self.columns[name]


def read(path: str | os.PathLike[str]) -> Table:
  """Reads the table: a CSV file, or the folder of the official files.

  Raises:
    InputError: no such file, damaged, or not a complete table.
  """
  path = errors.path(path, "table")
  if path.is_dir():
    return Table(*nats_bench.read(path))
  return from_csv(_text(path), where=str(path))


def from_csv(text: str, *, where: str = "table") -> Table:
  """Reads the table from the text of a CSV file; see the module.

  Raises:
    InputError: see `read`.
  """
  try:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = next(reader, [])
    rows = [(reader.line_num, row) for row in reader if row]
  except csv.Error as e:
    raise errors.InputError(
        f"{where}: not a CSV file ({e}); give NAS-Bench-201's table") from e
  wanted = _wanted(header, where)
  codes = np.full(cells.COUNT, -1, np.int32)
  columns = {name: {c: np.zeros(cells.COUNT) for c in cells.COLUMNS}
             for name in wanted}
  seen: dict[tuple[str, ...], int] = {}
  at_index, at_arch = header.index("index"), header.index("arch")
  indices: list[int] = []
  for line, row in rows:
    here = f"{where} line {line}"
    if len(row) != len(header):
      raise errors.InputError(f"{here}: {len(row)} fields where the header has"
                              f" {len(header)}; mend the line")
    names = cells.from_string(row[at_arch], where=here)
    if names in seen:
      raise errors.InputError(f"{here}: '{row[at_arch]}' stands in line"
                              f" {seen[names]} already; remove one")
    seen[names] = line
    indices.append(_index(row[at_index], codes, here))
    codes[indices[-1]] = 0  # It is taken.
  # What is left is done column by column, which takes a tenth of the time.
  position = {name: i for i, name in enumerate(cells.CANDIDATES)}
  order = codes[indices] = cells.encode(np.array(
      [[position[name] for name in names] for names in seen],
      np.int32).reshape(-1, len(cells.EDGES)))
  lines = [*seen.values()]
  for name, prefix in wanted.items():
    for column in cells.COLUMNS:
      field = f"{prefix}_{column}"
      at = header.index(field)
      columns[name][column][order] = _numbers(
          [row[at] for _, row in rows], field, lines, where)
  if len(seen) != cells.COUNT:
    raise errors.InputError(
        f"{where}: {len(seen)} of {cells.COUNT} cells; give the complete table")
  return Table(codes, columns)


def to_csv(table: Table) -> str:
  """Writes the text of a CSV file, by the benchmark's index."""
  out = io.StringIO()
  writer = csv.writer(out, lineterminator="\n")
  writer.writerow(["index", "arch"] + [
      f"{cells.DATASETS[name].column}_{c}" for name in table.columns
      for c in cells.COLUMNS])
  for index, code in enumerate(table.codes):
    arch = cells.to_string(cells.to_names(cells.decode(np.int32(code))))
    writer.writerow([index, arch] + [
        repr(float(columns[c][code])) for columns in table.columns.values()
        for c in cells.COLUMNS])
  return out.getvalue()


def _wanted(header, where):
  """Prefix by data set of those whose columns the header has."""
  repeated = {c for c in header if header.count(c) > 1}
  if repeated:
    raise errors.InputError(f"{where}: column '{cells.short(min(repeated))}'"
                            " stands there twice; remove one")
  required = {"index", "arch"}
  wanted = {}
  for name, data in cells.DATASETS.items():
    own = {f"{data.column}_{c}" for c in cells.COLUMNS}
    if own & set(header):
      wanted[name] = data.column
      required |= own
  missing = sorted(required - set(header))
  if missing or not wanted:
    lacks = missing or [f"cifar10_{c}" for c in cells.COLUMNS]
    raise errors.InputError(
        f"{where}: without the column{'s' * (len(lacks) > 1)}"
        f" {', '.join(lacks)}; give NAS-Bench-201's table with a header")
  return wanted


def _index(text, codes, where):
  if not re.fullmatch(r"[0-9]{1,5}", text) or int(text) >= cells.COUNT:
    raise errors.InputError(
        f"{where}: index is '{cells.short(text)}' and must be a number from 0"
        f" to {cells.COUNT - 1}; mend it")
  if codes[int(text)] >= 0:
    raise errors.InputError(
        f"{where}: index {text} stands in an earlier line too; mend one")
  return int(text)


def _numbers(texts, column, lines, where):
  """The numbers f64[rows] of a column, by the lines where they stand."""
  values = np.array([*map(_number, texts)])
  kind = column.split("_", 1)[1]
  allowed, good = "an accuracy from 0 to 100", (values >= 0) & (values <= 100)
  if kind == "params":
    allowed, good = "a positive whole number", (
        (values > 0) & (values < 2**53) & (values == np.floor(values)))
  elif kind == "flops_M":
    allowed, good = "a positive number", (values > 0) & (values < math.inf)
  if not good.all():
    at = int(np.argmin(good))
    raise errors.InputError(
        f"{where} line {lines[at]}: {column} is '{cells.short(texts[at])}' and"
        f" must be {allowed}; mend it")
  return values


def _number(text):
  try:
    return float(text)
  except ValueError:
    return math.nan


def _text(path):
  """The text of a file that may be gzipped."""
  errors.regular(path)
  try:
    with open(path, "rb") as file:
      data = file.read(_MAX_BYTES + 1)
    packed = data[:2] == b"\x1f\x8b"
    if path.suffix == ".gz" and not packed:
      raise gzip.BadGzipFile("not a gzip file")
    if packed:
      data = gzip.GzipFile(fileobj=io.BytesIO(data)).read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
      raise errors.InputError(
          f"{path}: larger than {_MAX_BYTES} bytes; give NAS-Bench-201's table")
    return data.decode("utf-8-sig")
  except UnicodeDecodeError as e:
    raise errors.InputError(
        f"{path}: not a text file; give NAS-Bench-201's table as CSV") from e
  except (EOFError, zlib.error, gzip.BadGzipFile) as e:
    raise errors.InputError(
        f"{path}: damaged gzip file ({e}); fetch it anew") from e
  except OSError as e:
    raise errors.InputError(
        f"{path}: {e.strerror}; name NAS-Bench-201's table", "table") from e
