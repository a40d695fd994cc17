"""The table of NAS-Bench-101: what all its 423,624 cells really reach.

Two forms are read:
- the compact one, an .npz file with arrays over cells: `n_vertices` u8[M],
  `adj_bits` u32[M] and `ops` u8[M, 5] (`graph.nasbench101.unpack`), `params`
  i32[M], and accuracies as fractions, means over the repeated trainings:
  `test_acc_108ep_mean` and, where they are known, the other columns of
  `COLUMNS`, also after 4, 12 and 36 epochs in place of 108;
- the benchmark's own file, nasbench_full.tfrecord or
  nasbench_only108.tfrecord, without TensorFlow. A record is framed by its
  length in 8 bytes, the masked CRC-32C of these, and behind it one of the data
  (TensorFlow's `TFRecord`). The data are JSON: the benchmark's hash, the
  epochs, the matrix, the operations, and in base 64 a message of protocol
  buffers (`nasbench/lib/model_metrics.proto`) whose third evaluation is that at
  the end of the training. Lengths are checked by their sums, data by being what
  they must be. Reading takes minutes: `read` keeps the compact form in the
  cache folder (`data.cache`), for a file of the same path, size and time, and
  `save` wherever it is wanted.

A cell is found whatever its vertices' numbers are (`graph.nasbench101`), by
bisection; `Table.rows` serves one cell or many, `Table.finder` traced programs.
"""

import array
import base64
import binascii
from collections.abc import Callable, Iterator, Mapping
import contextlib
import json
import os
import pathlib
import struct
from typing import Any, NamedTuple
import zipfile
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.data import array_file, cache, tfrecord
from natjax.graph import nasbench101 as cells

EPOCHS = (4, 12, 36, 108)
_KINDS = {"test_acc": 5, "valid_acc": 4, "train_acc": 3, "seconds": 2}
COLUMNS = tuple(f"{kind}_108ep_mean" for kind in _KINDS)
_CHUNK = 2**15  # Cells whose identities are computed at a time.
_MOST_BYTES = 2**20  # Of one record, which has about 400.
_SAME = 4  # At most so many cells have one first half of an identity.
_ADVICE = "give NAS-Bench-101's table"


class Table(NamedTuple):
  """What every cell reaches.

  Attributes:
    bits: u32[M], vertices u8[M], operations u8[M, 5]: see
      `graph.nasbench101.unpack`.
    vertices: see there.
    operations: see there.
    columns: by name, f32[M]; "params" i32[M].
    keys: u64[M], sorted, the cells' identities.
    order: i32[M], whose these are.
  """

  bits: np.ndarray
  vertices: np.ndarray
  operations: np.ndarray
  columns: Mapping[str, np.ndarray]
  keys: np.ndarray
  order: np.ndarray

  def arrays(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Edges u8[R, 7, 7] and labels u8[R, 7] of rows i[R]."""
    return cells.unpack(self.bits[rows], self.vertices[rows],
                        self.operations[rows])

  def cell(self, row: int) -> cells.Cell:
    """A row's cell."""
    edges, labels = self.arrays(np.array([row]))
    return cells.from_arrays(edges[0], labels[0])

  def rows(self, edges: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Where pruned cells [R, 7, 7] and [R, 7] stand: i32[R], -1 nowhere."""
    keys = _joined(cells.identity(edges, labels))
    at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
    return np.where(self.keys[at] == keys, self.order[at], -1)

  def find(self, cell: cells.Cell, *, where: str = "architecture") -> int:
    """The row of a cell.

    Raises:
      InputError: see `cells.to_arrays`, or it is not in the table.
    """
    edges, labels = cells.to_arrays(cell, where=where)
    row = int(self.rows(edges[None], labels[None])[0])
    if row < 0:
      raise errors.InputError(f"{where}: its cell is not in the table, which"
                              f" has {len(self.keys)}; give the whole table")
    return row

  def finder(self) -> Callable[[Any, Any], jax.Array]:
    """`rows` for traced programs; cells need not be pruned.

    -1 where the table has no such cell, too many edges among them.
    """
    first, second = (jnp.asarray(part.astype(np.uint32)) for part in (
        self.keys >> np.uint64(32), self.keys & np.uint64(2**32 - 1)))
    order, last = jnp.asarray(self.order), len(self.keys) - 1

    def find(edges, labels):
      key = cells.identity(*cells.pruned(edges, labels))
      at = jnp.searchsorted(first, key[..., 0])
      row = jnp.full(at.shape, -1, jnp.int32)
      for k in range(_SAME):
        here = jnp.minimum(at + k, last)
        same = (first[here] == key[..., 0]) & (second[here] == key[..., 1])
        row = jnp.where(same, order[here], row)
      return row

    return find


def make(bits: Any, vertices: Any, operations: Any,
         columns: Mapping[str, Any], *, where: str = "table") -> Table:
  """A table of cells, whose identities are computed.

  Raises:
    InputError: a cell that is none or stands there twice.
  """
  count, keys = len(bits), np.zeros(len(bits), np.uint64)
  for begin in range(0, count, _CHUNK):
    at = slice(begin, begin + _CHUNK)
    edges, labels = cells.unpack(bits[at], vertices[at], operations[at])
    kept = cells.pruned(edges, labels)[1]
    wrong = (kept != labels).any(1) | (edges.sum((1, 2)) > cells.EDGES)
    if wrong.any():
      raise errors.InputError(
          f"{where}: cell {begin + int(wrong.argmax())} is none of"
          f" NAS-Bench-101; {_ADVICE}")
    keys[at] = _joined(cells.identity(edges, labels))
  order = np.argsort(keys).astype(np.int32)
  keys = keys[order]
  if (twice := np.flatnonzero(keys[1:] == keys[:-1])).size:
    raise errors.InputError(
        f"{where}: cells {order[twice[0]]} and {order[twice[0] + 1]} are the"
        f" same; {_ADVICE}")
  return Table(np.asarray(bits, np.uint32), np.asarray(vertices, np.uint8),
               np.asarray(operations, np.uint8), dict(columns), keys, order)


def read(path: str | os.PathLike[str]) -> Table:
  """Reads the table, in either form.

  Raises:
    InputError: no such file, damaged, of another benchmark, or not complete.
  """
  path = errors.regular(errors.path(path, "table"))
  table = (from_npz if path.suffix.lower() == ".npz" else _kept)(path)
  if len(table.bits) != cells.COUNT:
    raise errors.InputError(
        f"{path}: {len(table.bits)} of {cells.COUNT} cells; give the complete"
        " table", "table")
  return table


def _kept(path):
  """`from_records`, whose table is kept in the cache folder if it is complete.
  """
  try:
    stat = os.stat(path)
  except OSError:
    return from_records(path)  # Which says what is wrong.
  text = repr((os.path.abspath(path), stat.st_size, stat.st_mtime_ns)).encode()
  file = cache.folder() / "nasbench101" / (
      f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}.npz")
  with contextlib.suppress(errors.InputError):
    return from_npz(file)
  table = from_records(path)
  if len(table.bits) == cells.COUNT:
    # Where there is no room, it is read again the next time.
    part = file.with_name(f"{os.getpid()}.{file.name}")
    try:
      file.parent.mkdir(parents=True, exist_ok=True)
      save(table, part)
      part.replace(file)
    except OSError:
      with contextlib.suppress(OSError):
        part.unlink()
  return table


def from_npz(path: pathlib.Path) -> Table:
  """Reads the compact form, of any number of cells (InputError)."""
  wanted = {"adj_bits": (np.uint32, 1), "n_vertices": (np.uint8, 1),
            "ops": (np.uint8, 2), "params": (np.int32, 1),
            COLUMNS[0]: (np.float32, 1)}
  try:
    array_file.check_sizes(path)
    # A file that is no .npz would be left open.
    with open(path, "rb") as opened, np.load(
        opened, allow_pickle=False) as file:
      names = {*file.files}
      known = [f"{kind}_{e}ep_mean" for kind in _KINDS for e in EPOCHS]
      wanted |= {name: (np.float32, 1) for name in known if name in names}
      found = {name: file[name] for name in wanted if name in names}
  except (*array_file.UNREADABLE, TypeError, zipfile.LargeZipFile,
          struct.error) as e:
    raise errors.InputError(
        f"{path}: not an .npz file that can be read ({errors.cause(e)});"
        f" {_ADVICE}", "table") from e
  if lacks := [*{*wanted} - {*found}]:
    raise errors.InputError(
        f"{path}: lacks the array {min(lacks)}, as tables of other benchmarks"
        f" do; {_ADVICE}", "table")
  count = len(np.atleast_1d(found["adj_bits"]))
  for name, (kind, axes) in wanted.items():
    shape = (count, cells.VERTICES - 2)[:axes]
    if found[name].shape != shape or found[name].dtype != kind:
      raise errors.InputError(
          f"{path}: {name} is {found[name].dtype}{[*found[name].shape]} and"
          f" must be {np.dtype(kind)}{[*shape]}; {_ADVICE}", "table")
  shape, operations = found["n_vertices"], found["ops"]
  inner = np.arange(cells.VERTICES - 2) < shape[:, None].astype(int) - 2
  for name, good in (
      ("n_vertices", (shape >= 2) & (shape <= cells.VERTICES)),
      ("ops", np.where(inner, operations < len(cells.OPERATIONS), True)),
      *((name, np.isfinite(found[name]) & (found[name] >= 0) & (
          (found[name] <= 1) | name.startswith("seconds")))
        for name in found if name.endswith("_mean"))):
    if not good.all():
      raise errors.InputError(f"{path}: {name} holds what no cell has;"
                              f" {_ADVICE}", "table")
  columns = {name: value for name, value in found.items() if name not in (
      "adj_bits", "n_vertices", "ops")}
  return make(found["adj_bits"], shape, operations, columns, where=str(path))


def save(table: Table, path: str | os.PathLike[str]) -> None:
  """Writes the compact form."""
  arrays: dict[str, Any] = {
      "adj_bits": table.bits, "n_vertices": table.vertices,
      "ops": table.operations, **table.columns}
  np.savez_compressed(path, **arrays)


def from_records(path: pathlib.Path) -> Table:
  """Reads the benchmark's own file, of any number of cells (InputError)."""
  numbers: dict[str, int] = {}
  packed: list[tuple[int, int, list[int]]] = []
  params: list[int] = []
  sums: dict[int, array.array[float]] = {}
  for number, data in enumerate(_records(path)):
    where = f"{path} record {number}"
    name, epochs, matrix, operations, message = _record(data, where)
    if name not in numbers:
      numbers[name] = len(packed)
      cell = cells.from_text(f"{matrix}:{operations}", where=where)
      if len(cell.operations) > cells.VERTICES:
        raise errors.InputError(
            f"{where}: {len(cell.operations)} vertices, of at most"
            f" {cells.VERTICES}; {_ADVICE}", "table")
      packed.append(cells.pack(cell))
      params.append(0)
    row = numbers[name]
    values, params[row] = _metrics(message, where)
    sums.setdefault(epochs, array.array("d")).extend((row, *values))
  columns: dict[str, np.ndarray] = {"params": np.array(params, np.int32)}
  for epochs, rows in sorted(sums.items()):
    table = np.array(rows).reshape(-1, 1 + len(_KINDS))
    rows_of = table[:, 0].astype(int)
    count = np.bincount(rows_of, minlength=len(packed))
    if not count.all():
      raise errors.InputError(f"{path}: a cell has no training of {epochs}"
                              f" epochs; {_ADVICE}", "table")
    for kind, value in zip(_KINDS, table[:, 1:].T, strict=True):
      columns[f"{kind}_{epochs}ep_mean"] = (np.bincount(
          rows_of, value, len(packed)) / count).astype(np.float32)
  if COLUMNS[0] not in columns:
    raise errors.InputError(f"{path}: no training of 108 epochs; {_ADVICE}",
                            "table")
  bits, vertices, operations = zip(*packed, strict=True)
  return make(np.array(bits, np.uint32), np.array(vertices, np.uint8),
              np.array(operations, np.uint8), columns, where=str(path))


def _joined(identity):
  """u64[R] of identities u32[R, 2]."""
  return identity[..., 0].astype(np.uint64) << np.uint64(32) | (
      identity[..., 1].astype(np.uint64))


def _records(path: pathlib.Path) -> Iterator[bytes]:
  """Yields the data of a file's records."""
  try:
    with open(path, "rb") as file:
      for offset, length in tfrecord.spans(file, _MOST_BYTES):
        file.seek(offset)
        yield file.read(length)
  except OSError as e:
    raise errors.InputError(f"{path}: {e.strerror}; name NAS-Bench-101's table",
                            "table") from e
  except ValueError as e:
    raise errors.InputError(
        f"{path}: {e}; {_ADVICE}, as .npz or .tfrecord", "table") from e


def _record(data, where):
  """The five parts of a record."""
  try:
    found = json.loads(data)
    name, epochs, matrix, operations, message = found
    message = base64.b64decode(message, validate=True)
  except (ValueError, TypeError, binascii.Error, RecursionError) as e:
    raise errors.InputError(
        f"{where}: not of NAS-Bench-101 ({errors.cause(e)}); {_ADVICE}",
        "table") from e
  if not all(isinstance(part, str) for part in (
      name, matrix, operations)) or epochs not in EPOCHS:
    raise errors.InputError(f"{where}: not of NAS-Bench-101; {_ADVICE}",
                            "table")
  return name, epochs, matrix, operations, message


def _metrics(message, where):
  """Values at the end of a training, by `_KINDS`, and the parameters."""
  try:
    found = [*tfrecord.fields(message)]
    evaluations = [
        dict(tfrecord.fields(value)) for key, value in found if key == 1]
    params = [value for key, value in found if key == 2]
    last = evaluations[2]
    values = [struct.unpack("<d", last[k])[0] for k in _KINDS.values()]
    good = len(evaluations) == 3 and 0 < params[0] < 2**31 and all(
        0 <= v <= 1 for v in values[:3]) and 0 <= values[3] < 1e9
  except (LookupError, struct.error, TypeError) as e:
    raise errors.InputError(f"{where}: its message is damaged; {_ADVICE}",
                            "table") from e
  if not good:
    raise errors.InputError(f"{where}: it holds what no training has;"
                            f" {_ADVICE}", "table")
  return values, params[0]
