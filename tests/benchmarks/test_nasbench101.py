"""NAS-Bench-101's table: isomorphic cells, both forms, damaged files."""

import base64
import itertools
import json
import pathlib
import struct
import time

import jax
import numpy as np
import pytest

from natjax import errors
from natjax.benchmarks import nasbench101
from natjax.data import tfrecord
from natjax.graph import nasbench101 as cells

TABLE = (pathlib.Path(__file__).resolve().parents[3] / "shared" / "data"
         / "nasbench101.npz")
INCEPTION = cells.check(
    [[0, 1, 1, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1],
     [0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 1], [0, 0, 0, 0, 0, 0, 1],
     [0] * 7],
    ["input", "conv1x1-bn-relu", *["conv3x3-bn-relu"] * 3, "maxpool3x3",
     "output"])
SKIP = cells.from_text("0100:input,output")


@pytest.fixture(scope="module")
def table():
  if not TABLE.is_file():
    pytest.skip(f"{TABLE} is not here; see shared/data/README.md")
  return nasbench101.read(TABLE)


def renumbered(rng, edges, labels):
  """The same cells with other numbers of all their vertices."""
  order = rng.permuted(np.tile(np.arange(7), (len(labels), 1)), axis=1)
  rows = np.arange(len(labels))[:, None]
  return (edges[rows[..., None], order[:, :, None], order[:, None]],
          labels[rows, order])


# The real table.


def test_every_cell_of_a_sample_finds_itself_however_it_is_numbered(table):
  rng = np.random.default_rng(0)
  rows = np.sort(rng.choice(cells.COUNT, 20_000, replace=False))
  edges, labels = table.arrays(rows)
  np.testing.assert_array_equal(table.rows(edges, labels), rows)
  others = renumbered(rng, edges, labels)
  assert (others[1] != labels).any(1).mean() > 0.9
  np.testing.assert_array_equal(table.rows(*others), rows)
  found = jax.jit(table.finder())(*others)
  np.testing.assert_array_equal(found, rows)


@pytest.mark.slow
def test_every_cell_finds_itself_renumbered_within_a_millisecond(table):
  """All 423,624 of them, by one random renumbering each."""
  rng, step = np.random.default_rng(1), 20_000
  for begin in range(0, cells.COUNT, step):
    rows = np.arange(begin, min(begin + step, cells.COUNT))
    np.testing.assert_array_equal(
        table.rows(*renumbered(rng, *table.arrays(rows))), rows)
  took = []
  for row in range(0, cells.COUNT, 400):
    edges, labels = (part[0] for part in renumbered(
        rng, *table.arrays(np.array([row]))))
    began = time.perf_counter()
    found = int(table.rows(edges[None], labels[None])[0])
    took.append(time.perf_counter() - began)
    assert found == row
  assert len(took) > 1000 and np.median(took) < 1e-3


def test_all_cells_differ_and_it_is_small_and_fast(table):
  assert len(table.keys) == cells.COUNT
  assert (table.keys[1:] > table.keys[:-1]).all()
  arrays = [*table[:3], *table.columns.values(), table.keys, table.order]
  assert sum(a.nbytes for a in arrays) < 2e7  # Of 200 MB that it may take.
  some = [table.cell(row) for row in range(0, cells.COUNT, 4000)]
  began = time.perf_counter()
  assert [table.find(cell) for cell in some] == [*range(0, cells.COUNT, 4000)]
  # Under a millisecond where nothing else runs.
  assert (time.perf_counter() - began) / len(some) < 5e-3


def test_known_cells(table):
  row = table.find(INCEPTION)
  accuracy = table.columns["test_acc_108ep_mean"]
  assert 0.9 < accuracy[row] < 0.95
  assert table.columns["params"][row] == table.columns["params"][table.find(
      table.cell(row))]
  assert table.columns["params"][table.find(SKIP)] == 882_570
  # The best mean test accuracy that is known of the benchmark.
  assert accuracy.max() == pytest.approx(0.9432, abs=1e-4)


# Cells of one's own.


def rows_of(*texts):
  packed = [cells.pack(cells.from_text(text)) for text in texts]
  bits, vertices, operations = zip(*packed, strict=True)
  count = len(texts)
  return nasbench101.make(
      np.array(bits, np.uint32), np.array(vertices, np.uint8),
      np.array(operations, np.uint8), {
          "params": np.arange(1, count + 1, dtype=np.int32),
          "test_acc_108ep_mean": np.linspace(0.1, 0.9, count, dtype="f")})


C3, C1, POOL = cells.OPERATIONS
TEXTS = ("0100:input,output",
         f"010001000:input,{C3},output",
         f"0110000100010000:input,{C3},{POOL},output",
         f"0110001100010000:input,{C3},{POOL},output")


def test_what_does_not_count_is_left_out():
  small = rows_of(*TEXTS)
  # A vertex without an end and one without a beginning beside.
  matrix = np.zeros((5, 5), int)
  for i, j in ((0, 1), (1, 4), (0, 2), (3, 4)):
    matrix[i, j] = 1
  cell = cells.check(matrix, ["input", C3, POOL, C1, "output"])
  assert small.find(cell) == 1
  assert cells.to_text(small.cell(1)) == TEXTS[1]
  edges, labels = cells.pruned(matrix[None], np.array([[1, 3, 5, 4, 2]]))
  assert labels.tolist() == [[1, 3, 0, 0, 2]] and edges.sum() == 2
  with pytest.raises(errors.InputError, match="not in the table"):
    small.find(INCEPTION)


def test_identities_tell_all_small_cells_apart_by_brute_force():
  """All cells of up to four vertices, by trying every renumbering."""
  canonical, found = {}, {}
  for count in (2, 3, 4):
    pairs = [*itertools.combinations(range(count), 2)]
    for bits in itertools.product((0, 1), repeat=len(pairs)):
      for names in itertools.product((3, 4, 5), repeat=count - 2):
        edges, labels = np.zeros((7, 7), np.uint8), np.zeros(7, np.uint8)
        for (i, j), bit in zip(pairs, bits, strict=True):
          edges[i, j] = bit
        labels[:count] = (1, *names, 2)
        edges, labels = cells.pruned(edges, labels)
        if not labels.any():
          continue
        kept = np.flatnonzero(labels)
        forms = []
        for inner in itertools.permutations(kept[1:-1]):
          order = [kept[0], *inner, kept[-1]]
          forms.append((len(kept), tuple(labels[order]),
                        edges[np.ix_(order, order)].tobytes()))
        key = tuple(cells.identity(edges[None], labels[None])[0].tolist())
        canonical.setdefault(min(forms), set()).add(key)
        found.setdefault(key, set()).add(min(forms))
  assert len(canonical) == len(found) == 1 + 6 + 84  # As the real table has.
  assert all(len(same) == 1 for same in (*canonical.values(), *found.values()))


@pytest.mark.parametrize("text,message", [
    ("", "is no cell of NAS-Bench-101"),
    ("01001:input,output", "is no cell"),
    ("010001000:input,conv5x5,output", "and not 'conv5x5'"),
    ("010001100:input,maxpool3x3,output", "lead from a vertex to a later one"),
    ("010001000:output,maxpool3x3,input", "then output"),
    ("010000000:input,maxpool3x3,output", "has no path from its input")])
def test_cells_that_are_none_are_refused(text, message):
  with pytest.raises(errors.InputError, match=message) as info:
    rows_of(*TEXTS).find(cells.from_text(text, where="it"))
  assert "\n" not in str(info.value)


def test_more_than_seven_vertices_or_nine_edges_are_refused():
  chain = np.eye(8, k=1, dtype=int)
  names = ["input", *[C3] * 6, "output"]
  with pytest.raises(errors.InputError, match="8 vertices and 7 edges"):
    cells.to_arrays(cells.check(chain, names))
  dense = np.triu(np.ones((5, 5), int), 1)
  with pytest.raises(errors.InputError, match="5 vertices and 10 edges"):
    cells.to_arrays(cells.check(dense, ["input", C3, C3, C1, "output"]))
  # One of the eight does not count.
  chain[0, 1] = 0
  chain[0, 2] = 1
  assert (cells.to_arrays(cells.check(chain, names))[1] > 0).sum() == 7


def test_json_of_the_benchmarks_users():
  text = json.dumps({"module_adjacency": [[0, 1], [0, 0]],
                     "module_operations": ["input", "output"]})
  assert cells.from_json(text) == SKIP
  twice = f'{text[:-1]}, "module_operations": []}}'
  with pytest.raises(errors.InputError, match="operations' stands twice in an"):
    cells.from_json(twice)
  for wrong in ("{", "[]", '{"matrix": 3, "ops": []}', '{"matrix": [[0]]}'):
    with pytest.raises(errors.InputError, match="it: "):
      cells.from_json(wrong, where="it")


# The compact form.


def test_the_compact_form_round_trips(tmp_path):
  small = rows_of(*TEXTS)
  nasbench101.save(small, tmp_path / "small.npz")
  again = nasbench101.from_npz(tmp_path / "small.npz")
  for a, b in zip((*small[:3], *small.columns.values()),
                  (*again[:3], *again.columns.values()), strict=True):
    np.testing.assert_array_equal(a, b)
  (tmp_path / "SMALL.NPZ").write_bytes((tmp_path / "small.npz").read_bytes())
  for file in ("small.npz", "SMALL.NPZ"):
    with pytest.raises(errors.InputError, match="4 of 423624 cells"):
      nasbench101.read(tmp_path / file)


def test_damaged_and_foreign_tables_are_refused(tmp_path):
  path = tmp_path / "t.npz"
  nasbench101.save(rows_of(*TEXTS), path)
  whole = path.read_bytes()
  with np.load(path) as file:
    arrays = {name: file[name] for name in file.files}
  wrong = arrays["test_acc_108ep_mean"].copy()
  wrong[1] = 93.0
  twice = {name: np.concatenate([a, a[:1]]) for name, a in arrays.items()}
  many = arrays["n_vertices"].copy()
  many[2] = 9
  for change, message in (
      ({"other": np.zeros(3)}, "lacks the array"),
      ({**arrays, "test_acc_108ep_mean": wrong}, "holds what no cell has"),
      ({**arrays, "n_vertices": many}, "n_vertices holds"),
      ({**arrays, "ops": arrays["ops"][:2]}, "ops is uint8"),
      ({**arrays, "adj_bits": arrays["adj_bits"] * 0}, "cell 0 is none of"),
      (twice, "cells 0 and 4 are the same|cells 4 and 0")):
    np.savez(path, **change)
    with pytest.raises(errors.InputError, match=message) as info:
      nasbench101.from_npz(path)
    assert "\n" not in str(info.value)
  broken = whole[:300] + bytes(range(40)) + whole[340:]
  for data in (whole[:200], whole[:-300], broken, b"", b"PK\x03\x04",
               b"index,arch\n"):
    path.write_bytes(data)
    with pytest.raises(errors.InputError, match=r"not an \.npz file"):
      nasbench101.read(path)
  with pytest.raises(errors.InputError, match=r"gone\.npz"):
    nasbench101.read(tmp_path / "gone.npz")


# The benchmark's own file.


def varint(value):
  found = b""
  while value > 127:
    found += bytes([value & 127 | 128])
    value >>= 7
  return found + bytes([value])


def message(params, *evaluations):
  """`ModelMetrics`; an evaluation is what `EvaluationData` has, in order."""
  found = b""
  for values in evaluations:
    one = b"".join(bytes([k << 3 | 1]) + struct.pack("<d", v)
                   for k, v in enumerate(values, 1))
    one += b"\x32\x03abc"  # A path of a checkpoint.
    found += b"\x0a" + varint(len(one)) + one
  return found + b"\x10" + varint(params) + b"\x19" + struct.pack("<d", 9.0)


def trained(text, epochs, test, params=77, **change):
  matrix, names = text.split(":")
  start = (0.0, 0.0, 0.1, 0.1, 0.1)
  half = (epochs / 2, 10.0, 0.6, 0.5, 0.4)
  parts = ["hash of " + text, epochs, matrix, names, base64.b64encode(message(
      params, start, half, (epochs, 20.0, 1.0, 0.9, test))).decode()]
  for at, value in change.items():
    parts[int(at[1:])] = value
  return tfrecord.frame(json.dumps(parts).encode())


def test_the_sum_is_that_of_rfc_3720():
  # CRC-32C of 32 zero bytes, masked as TensorFlow does.
  crc = 0x8A9136AA
  assert tfrecord.masked_crc(bytes(32)) == (
      ((crc >> 15 | crc << 17) & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF


def test_records_are_read_as_means_over_trainings(tmp_path):
  path = tmp_path / "nasbench.tfrecord"
  path.write_bytes(b"".join(
      trained(text, epochs, 0.5 + 0.1 * k + 0.01 * repeat + epochs / 1e4)
      for epochs in (108, 4) for repeat in (0, 1, 2)
      for k, text in enumerate(TEXTS)))
  found = nasbench101.from_records(path)
  for k, text in enumerate(TEXTS):
    row = found.find(cells.from_text(text))
    for epochs in (4, 108):
      assert found.columns[f"test_acc_{epochs}ep_mean"][row] == pytest.approx(
          0.51 + 0.1 * k + epochs / 1e4, abs=1e-6)
    assert found.columns["valid_acc_108ep_mean"][row] == np.float32(0.9)
    assert found.columns["seconds_4ep_mean"][row] == 20
    assert found.columns["params"][row] == 77
  nasbench101.save(found, tmp_path / "all.npz")
  again = nasbench101.from_npz(tmp_path / "all.npz")
  assert again.columns.keys() == found.columns.keys()
  with pytest.raises(errors.InputError, match="4 of 423624 cells"):
    nasbench101.read(path)


def test_a_file_of_records_is_read_once(tmp_path, monkeypatch):
  path = tmp_path / "nasbench.tfrecord"
  path.write_bytes(b"".join(
      trained(text, 108, 0.5 + 0.1 * k) for k, text in enumerate(TEXTS)))
  monkeypatch.setenv("NATJAX_CACHE", str(tmp_path / "cache"))
  monkeypatch.setattr(cells, "COUNT", len(TEXTS))
  reading, asked = nasbench101.from_records, []

  def counted(path):
    asked.append(path)
    return reading(path)

  monkeypatch.setattr(nasbench101, "from_records", counted)
  first = nasbench101.read(path)
  again = nasbench101.read(path)
  assert len(asked) == 1
  for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(again), strict=True):
    np.testing.assert_array_equal(a, b)
  kept, = (tmp_path / "cache" / "nasbench101").iterdir()
  kept.write_bytes(kept.read_bytes()[:-100])  # Damaged: made again.
  nasbench101.read(path)
  assert len(asked) == 2
  path.write_bytes(path.read_bytes() + trained(TEXTS[0], 108, 0.6))
  changed = nasbench101.read(path)
  assert len(asked) == 3
  row = changed.find(cells.from_text(TEXTS[0]))
  assert changed.columns["test_acc_108ep_mean"][row] == np.float32(0.55)
  # Without a place for it, it is read all the same.
  monkeypatch.setenv("NATJAX_CACHE", str(path))
  assert len(nasbench101.read(path).bits) == len(TEXTS)
  assert len(asked) == 4


@pytest.mark.parametrize("data,wanted", [
    (lambda: trained(TEXTS[0], 108, 0.9)[:-6], "ends within a record"),
    (lambda: trained(TEXTS[0], 108, 0.9) + b"\0" * 5, "ends within a record"),
    (lambda: b"index,arch,cifar10_val_200ep\n", "is no file of such records"),
    (lambda: tfrecord.frame(b"image"), "record 0: not of NAS-Bench-101"),
    (lambda: tfrecord.frame(b"[1, 2]"), "record 0: not of NAS-Bench-101"),
    (lambda: trained(TEXTS[0], 50, 0.9), "not of NAS-Bench-101"),
    (lambda: trained(TEXTS[0], 108, 1.5), "what no training has"),
    (lambda: trained(TEXTS[0], 108, 0.9, _4="AAAA"), "message is damaged"),
    (lambda: trained(TEXTS[0], 108, 0.9, _4="CgE="), "message is damaged"),
    (lambda: trained(TEXTS[0], 4, 0.9), "no training of 108 epochs"),
    (lambda: b"".join((trained(TEXTS[0], 108, 0.9), trained(
        TEXTS[0], 4, 0.9), trained(TEXTS[1], 108, 0.9))),
     "no training of 4 epochs"),
    (lambda: trained("0100:input,conv", 108, 0.9), "record 0: operations are"),
    (lambda: trained("".join(
        str(int(j == i + 1)) for i in range(9) for j in range(9)) + ":"
        + ",".join(("input", *["conv3x3-bn-relu"] * 7, "output")), 108, 0.9),
     "record 0: 9 vertices, of at most 7"),
    (lambda: b"", "no training of 108")])
def test_damaged_records_are_refused(tmp_path, data, wanted):
  path = tmp_path / "t.tfrecord"
  path.write_bytes(data())
  with pytest.raises(errors.InputError, match=wanted) as info:
    nasbench101.read(path)
  assert "\n" not in str(info.value)
