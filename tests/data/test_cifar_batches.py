"""Tests of natjax.data.cifar_batches."""

import collections
import os
import pickle
import struct
import warnings

import numpy as np
import pytest

from natjax import errors
from natjax.data import cifar_batches


def _text(value):
  """Pickles a str as Python 2 did."""
  raw = value if isinstance(value, bytes) else value.encode()
  return b"T" + struct.pack("<i", len(raw)) + raw


def _integer(value):
  return b"J" + struct.pack("<i", value)


def _list(items):
  return b"](" + b"".join(items) + b"e"


def _array(array):
  """Pickles an array as numpy under Python 2 did, opcode by opcode."""
  code = f"{array.dtype.kind}{array.dtype.itemsize}"
  order = "|" if array.dtype.itemsize == 1 else "<"
  return (
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n"
    + b"(K\x00t"
    + _text("b")
    + b"tR(K\x01("
    + b"".join(_integer(size) for size in array.shape)
    + b"t"
    + b"cnumpy\ndtype\n("
    + _text(code)
    + b"K\x00K\x01tR(K\x03"  # align=0, copy=1: not bool, as numpy now wants.
    + _text(order)
    + b"NNN"
    + _integer(-1) * 2
    + b"K\x00tb"
    + b"\x89"
    + _text(array.tobytes())
    + b"tb"
  )


def _pickle(**items):
  """A pickle of a dictionary of pickled values, in protocol 2."""
  pairs = b"".join(_text(key) + value for key, value in items.items())
  return b"\x80\x02}(" + pairs + b"u."


def _rows(count, seed):
  shape = (count, 3072)
  return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def cifar10(tmp_path):
  """A folder of CIFAR-10 batches of two images each."""
  folder = tmp_path / "cifar-10-batches-py"
  folder.mkdir()
  files = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
  for i, file in enumerate(files):
    labels = _list([_integer(i), _integer(9)])
    batch = _pickle(
      batch_label=_text("a batch"), labels=labels, data=_array(_rows(2, i))
    )
    (folder / file).write_bytes(batch)
  names = _list([_text(f"class {i}") for i in range(10)])
  meta = _pickle(num_cases_per_batch=_integer(2), label_names=names)
  (folder / "batches.meta").write_bytes(meta)
  return folder


def test_read_cifar10_as_python_2_pickled_it(cifar10):
  raw = cifar_batches.read("cifar10", cifar10)
  images, labels = raw.train
  assert images.shape == (10, 32, 32, 3)
  assert images.dtype == np.uint8
  assert labels.tolist() == [0, 9, 1, 9, 2, 9, 3, 9, 4, 9]
  assert raw.test[1].tolist() == [5, 9]
  assert raw.class_names == tuple(f"class {i}" for i in range(10))
  # Rows hold the red plane, then green, then blue, each row by row.
  row = _rows(2, 3)[1]
  for y, x, c in [(0, 0, 0), (0, 1, 0), (1, 0, 0), (31, 30, 2), (5, 7, 1)]:
    assert images[7, y, x, c] == row[1024 * c + 32 * y + x]


def test_read_cifar100_takes_the_fine_labels(tmp_path):
  for i, file in enumerate(["train", "test"]):
    batch = _pickle(
      fine_labels=_list([_integer(99), _integer(i)]),
      coarse_labels=_list([_integer(1), _integer(2)]),
      data=_array(_rows(2, i)),
    )
    (tmp_path / file).write_bytes(batch)
  meta = _pickle(
    fine_label_names=_list([_text(f"class {i}") for i in range(100)]),
    coarse_label_names=_list([_text("fruit")]),
  )
  (tmp_path / "meta").write_bytes(meta)
  assert cifar_batches.find("cifar100", tmp_path) == tmp_path
  raw = cifar_batches.read("cifar100", tmp_path)
  assert raw.train[1].tolist() == [99, 0]
  assert raw.test[1].tolist() == [99, 1]
  assert raw.class_names == tuple(f"class {i}" for i in range(100))


def test_arrays_equal_those_that_pickle_itself_reads(cifar10):
  path = cifar10 / "data_batch_1"
  with warnings.catch_warnings():
    # What numpy deprecates in these pickles is why we do not let it read them.
    warnings.simplefilter("ignore")
    expected = pickle.loads(path.read_bytes(), encoding="bytes")
  found = cifar_batches.load_pickle(path)
  np.testing.assert_array_equal(found["data"], expected[b"data"])
  assert found["labels"] == expected[b"labels"]
  assert found["batch_label"] == expected[b"batch_label"]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("text", [str, str.encode])
def test_load_pickle_reads_what_python_3_writes(tmp_path, protocol, text):
  array = np.arange(6, dtype=np.uint8).reshape(2, 3)
  columns = np.asfortranarray(np.arange(6, dtype=">i4").reshape(2, 3))
  content = {text("data"): array, text("labels"): columns, text("n"): 1}
  (tmp_path / "batch").write_bytes(pickle.dumps(content, protocol=protocol))
  found = cifar_batches.load_pickle(tmp_path / "batch")
  np.testing.assert_array_equal(found["data"], array)
  np.testing.assert_array_equal(found["labels"], columns)
  assert found["n"] == 1


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_batches_that_were_written_again(cifar10, protocol):
  expected = cifar_batches.read("cifar10", cifar10)
  for path in cifar10.iterdir():
    batch = cifar_batches.load_pickle(path)
    if "labels" in batch:
      kind = np.int64 if path.name < "data_batch_3" else np.uint8
      batch["labels"] = [kind(label) for label in batch["labels"]]
      batch["data"] = np.asfortranarray(batch["data"])
    else:
      batch["label_names"] = np.array([*map(str, range(9)), "a name"])
    batch = collections.OrderedDict(batch)
    path.write_bytes(pickle.dumps(batch, protocol))
  found = cifar_batches.read("cifar10", cifar10)
  for part in ("train", "test"):
    part, other = getattr(found, part), getattr(expected, part)
    np.testing.assert_array_equal(part[0], other[0])
    np.testing.assert_array_equal(part[1], other[1])
  assert found.class_names[8:] == ("8", "a name")


def test_find_takes_the_folder_itself_or_one_inside(cifar10):
  assert cifar_batches.find("cifar10", cifar10) == cifar10
  assert cifar_batches.find("cifar10", cifar10.parent) == cifar10
  assert cifar_batches.find("cifar100", cifar10.parent) is None
  assert cifar_batches.find("cifar10", cifar10.parent.parent) is None
  assert cifar_batches.find("mnist", cifar10) is None


class _Call:
  """Pickles as the call of a function, which unpickling it makes."""

  def __init__(self, function, *args):
    self._call = (function, args)

  def __reduce__(self):
    return self._call


def _refusal(path):
  with pytest.raises(errors.InputError) as refusal:
    cifar_batches.load_pickle(path)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("function", [os.system, eval, np.load])
def test_malicious_pickles_are_refused_and_not_run(
  tmp_path, function, protocol
):
  marker = tmp_path / "ran"
  argument = {
    os.system: f"touch {marker}",
    eval: f"open({str(marker)!r}, 'w')",
    np.load: str(marker),
  }[function]
  content = pickle.dumps({"data": _Call(function, argument)}, protocol)
  (tmp_path / "batch").write_bytes(content)
  assert "refused: the pickle asks for" in _refusal(tmp_path / "batch")
  assert not marker.exists()
  if function is os.system:  # The pickle is a live one.
    pickle.loads(content)
    assert marker.exists()


def test_only_arrays_of_plain_numbers_are_read(tmp_path):
  content = {"data": np.array([None], object)}
  (tmp_path / "batch").write_bytes(pickle.dumps(content, 2))
  assert "a NumPy value of type 'O8'" in _refusal(tmp_path / "batch")


@pytest.mark.parametrize(
  "content",
  [
    b"",
    b"not a pickle",
    b"\x80\x02}(",
    pickle.dumps([1, 2]),
    pickle.dumps({"data": np.zeros(10)}, 2)[:-20],
  ],
)
def test_damaged_files_are_refused(tmp_path, content):
  (tmp_path / "batch").write_bytes(content)
  assert "is no readable CIFAR batch" in _refusal(tmp_path / "batch")


def test_read_names_the_files_that_are_missing(cifar10):
  (cifar10 / "data_batch_3").unlink()
  (cifar10 / "batches.meta").unlink()
  with pytest.raises(
    errors.InputError, match=r"lacks data_batch_3, batches\.meta; unpack"
  ):
    cifar_batches.read("cifar10", cifar10)


def test_labels_that_are_lists_of_one_list_many_times(cifar10):
  deep = [1]
  for _ in range(40):  # 2^40 numbers, in 40 lists.
    deep = [deep, deep]
  batch = {"labels": deep, "data": _rows(2, 0)}
  (cifar10 / "data_batch_2").write_bytes(pickle.dumps(batch, 2))
  with pytest.raises(errors.InputError, match="list of whole numbers"):
    cifar_batches.read("cifar10", cifar10)
  batch = {"labels": [1, 2], "data": deep}
  (cifar10 / "data_batch_2").write_bytes(pickle.dumps(batch, 2))
  with pytest.raises(errors.InputError, match="must be an array"):
    cifar_batches.read("cifar10", cifar10)


@pytest.mark.parametrize(
  ("file", "content", "message"),
  [
    ("test_batch", _pickle(labels=_list([])), "lacks data;"),
    (
      "data_batch_2",
      _pickle(labels=_list([_integer(1)]), data=_array(_rows(2, 0))),
      r"uint8\[2, 3072\] with 1 labels",
    ),
    (
      "data_batch_2",
      _pickle(labels=_list([_integer(1)]), data=_array(np.zeros((1, 3072)))),
      r"float64\[1, 3072\] with 1 labels",
    ),
    ("batches.meta", _pickle(names=_list([])), "lacks the list label_names"),
    ("batches.meta", _pickle(label_names=_list([_list([])])),
     "label_names of texts"),
    ("batches.meta", _pickle(label_names=_list([_text("a")] * 11)),
     "names 11 classes and cifar10 has 10;"),
    *(("data_batch_2", _pickle(labels=labels, data=_array(_rows(2, 0))),
       "labels a list of whole numbers") for labels in (
           _list([_list([_integer(1)]), _list([_integer(2)])]),
           _list([_list([_integer(1)]), _integer(2)]),
           _list([_text("1"), _text("2")]), _integer(2),
           _array(np.zeros(2)))),
    ("data_batch_2", _pickle(labels=_list([_integer(1)]), data=_list([])),
     "data must be an array"),
  ],
)
def test_read_refuses_what_is_no_batch(cifar10, file, content, message):
  (cifar10 / file).write_bytes(content)
  with pytest.raises(errors.InputError, match=message):
    cifar_batches.read("cifar10", cifar10)


@pytest.mark.parametrize("protocol", range(6))
def test_empty_bytes_of_every_protocol(tmp_path, protocol):
  (tmp_path / "batch").write_bytes(
      pickle.dumps({b"batch_label": b"", b"n": 1}, protocol))
  assert cifar_batches.load_pickle(tmp_path / "batch") == {
      "batch_label": b"", "n": 1}


def test_other_bytes_are_not_made(tmp_path):
  for module in ("__builtin__", "builtins"):
    (tmp_path / "batch").write_bytes(
        f"c{module}\nbytes\n(I999999999999\ntR.".encode())
    with pytest.raises(errors.InputError, match="bytes of something else"):
      cifar_batches.load_pickle(tmp_path / "batch")


def test_a_name_that_stands_twice_in_a_batch(tmp_path):
  (tmp_path / "batch").write_bytes(
      pickle.dumps({b"labels": [1], "labels": [2]}))
  with pytest.raises(errors.InputError, match="a name stands in it twice"):
    cifar_batches.load_pickle(tmp_path / "batch")
