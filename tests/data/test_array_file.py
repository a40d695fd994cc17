"""Tests of natjax.data.array_file."""

import io
import os
import zipfile

import numpy as np
import pytest

from natjax import data, errors
from natjax.data import array_file, streamed


def _arrays():
  x = np.arange(2 * 4 * 4, dtype=np.uint8).reshape(2, 4, 4)
  return {
    "x_train": x,
    "y_train": np.array([0, 1]),
    "x_test": x + 100,
    "y_test": np.array([1, 0]),
  }


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_read_returns_the_arrays_as_saved(tmp_path, save):
  save(tmp_path / "some.npz", **_arrays())
  raw = array_file.read(tmp_path / "some.npz")
  np.testing.assert_array_equal(raw.train[0], _arrays()["x_train"])
  np.testing.assert_array_equal(raw.test[0], _arrays()["x_test"])
  assert raw.train[1].tolist() == [0, 1]
  assert raw.test[1].tolist() == [1, 0]
  assert raw.class_names is None


@pytest.mark.parametrize("others, said", [
  ((), ()), (("x_val", "y_val"), ("x_val, y_val",)),
  ([f"a{i}" for i in range(7)], ("a0, a1, a2, a3, a4, ...",))])
def test_arrays_that_are_not_read_are_said(tmp_path, others, said):
  path = tmp_path / "some.npz"
  np.savez(path, **_arrays(), **dict.fromkeys(others, _arrays()["x_test"]))
  assert array_file.read(path).notes == tuple(
    f"of {path}, other arrays ({names}) are passed over" for names in said)


def test_read_returns_class_names_if_there_are_some(tmp_path):
  for names in (["cat", "dog"], [b"cat", b"dog"]):
    np.savez(tmp_path / "some.npz", **_arrays(), class_names=names)
    assert array_file.read(tmp_path / "some.npz").class_names == ("cat", "dog")
  np.savez(tmp_path / "some.npz", **_arrays(), class_names=[1, 2])
  assert array_file.read(tmp_path / "some.npz").class_names == ("1", "2")


@pytest.mark.parametrize(
  "names", ["cat", 3, [["cat"], ["dog"]]])
def test_read_refuses_other_class_names(tmp_path, names):
  np.savez(tmp_path / "some.npz", **_arrays(), class_names=names)
  assert "class_names is" in _refusal(tmp_path / "some.npz")


def _refusal(path):
  with pytest.raises(errors.InputError) as refusal:
    array_file.read(path)
  assert "\n" not in str(refusal.value)
  return str(refusal.value)


def test_read_refuses_a_missing_file(tmp_path):
  assert "no such file" in _refusal(tmp_path / "none.npz")


def test_read_refuses_a_file_without_a_test_set(tmp_path):
  np.savez(tmp_path / "some.npz", x=np.zeros(1), y=np.zeros(1))
  assert (
    "has the keys x, y, and lacks x_train, y_train, x_test, y_test"
  ) in _refusal(tmp_path / "some.npz")


def test_read_refuses_what_is_no_npz_file(tmp_path):
  np.save(tmp_path / "some.npy", np.zeros(1))
  (tmp_path / "some.npy").rename(tmp_path / "some.npz")
  assert "is not an .npz file" in _refusal(tmp_path / "some.npz")


def test_read_refuses_a_damaged_file(tmp_path):
  np.savez(tmp_path / "some.npz", **_arrays())
  content = bytearray((tmp_path / "some.npz").read_bytes())
  content[150] ^= 255  # In the pixels of the first array.
  (tmp_path / "some.npz").write_bytes(content)
  assert "cannot be read" in _refusal(tmp_path / "some.npz")


class _Marker:
  """Makes a file when it is unpickled."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return open, (self._path, "w")


def test_read_refuses_pickled_objects_and_does_not_run_them(tmp_path):
  marker = str(tmp_path / "ran")
  arrays = {**_arrays(), "y_test": np.array([_Marker(marker)], object)}
  np.savez(tmp_path / "some.npz", **arrays)
  assert "save plain arrays" in _refusal(tmp_path / "some.npz")
  assert not (tmp_path / "ran").exists()


def _saved(path):
  np.savez(path, **_arrays())
  return path.read_bytes()


def test_an_encrypted_file_is_refused(tmp_path):
  path = tmp_path / "some.npz"
  content = bytearray(_saved(path))
  for mark, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
    at = content.find(mark)
    while at >= 0:
      content[at + flags] |= 1
      at = content.find(mark, at + 1)
  path.write_bytes(content)
  with pytest.raises(errors.InputError, match=r"cannot be read .*encrypted"):
    array_file.read(path)


@pytest.mark.parametrize("shape", [
    (10**12,), (3, 4, 4), (10**30, 4, 4), (2**62, 4, 4)])
def test_a_header_that_promises_more_than_there_is(tmp_path, shape):
  path = tmp_path / "some.npz"
  parts = _parts(path)
  header = io.BytesIO()
  np.lib.format.write_array_header_1_0(
      header, {"descr": "|u1", "fortran_order": False, "shape": shape})
  parts["x_train.npy"] = header.getvalue() + bytes(32)
  _write(path, parts)
  with pytest.raises(errors.InputError, match=(
      r"read \(x_train.npy says that it has \d+ bytes, and has 32\)")):
    array_file.read(path)


def test_more_than_the_machine_holds(tmp_path, monkeypatch):
  path = tmp_path / "some.npz"
  _saved(path)
  monkeypatch.setattr(streamed, "machine_bytes", lambda: 9)
  monkeypatch.setattr(np, "load", None)  # Nothing is read before.
  with pytest.raises(errors.InputError, match="this machine has 0 GiB"):
    array_file.read(path)


def _parts(path):
  """The members of a file that is whole."""
  _saved(path)
  with zipfile.ZipFile(path) as archive:
    return {name: archive.read(name) for name in archive.namelist()}


def _write(path, parts):
  with zipfile.ZipFile(path, "w") as archive:
    for name, content in parts.items():
      archive.writestr(name, content)


def test_a_pipe_is_called_one(tmp_path):
  os.mkfifo(tmp_path / "some.npz")
  with pytest.raises(errors.InputError, match="a pipe or a device"):
    array_file.read(tmp_path / "some.npz")


def test_the_keys_of_medmnist(tmp_path):
  rng = np.random.default_rng(0)
  arrays = {f"{part}_{kind}": rng.integers(0, 2, shape, np.uint8)
            for part in ("train", "val", "test")
            for kind, shape in (("images", (6, 4, 4, 3)), ("labels", (6, 1)))}
  np.savez(tmp_path / "mnist3.npz", **arrays)
  raw = array_file.read(tmp_path / "mnist3.npz")
  np.testing.assert_array_equal(raw.train[0], arrays["train_images"])
  np.testing.assert_array_equal(raw.test[1], arrays["test_labels"])


def test_a_file_without_test_images(tmp_path):
  images, labels = np.zeros((10, 4, 4, 3), np.uint8), np.arange(10) % 2
  np.savez(tmp_path / "some.npz", x_train=images, y_train=labels)
  assert array_file.read(tmp_path / "some.npz").test is None
  with pytest.raises(errors.InputError, match="give a test_fraction"):
    data.load(tmp_path / "some.npz", image_size=4)
  found = data.load(tmp_path / "some.npz", image_size=4, test_fraction=0.4)
  assert (len(found.train_labels), len(found.test_labels)) == (6, 4)
  np.savez(tmp_path / "some.npz", x_train=images, y_train=labels, x_test=images)
  assert "and lacks y_test" in _refusal(tmp_path / "some.npz")


def test_suffixes_in_capitals(tmp_path):
  np.savez(tmp_path / "some.npz", **_arrays())
  (tmp_path / "some.npz").rename(tmp_path / "SOME.NPZ")
  found = data.load(tmp_path / "SOME.NPZ", image_size=4)
  assert found.name == "SOME" and len(found.train_labels) == 2


def test_class_names_in_utf_8(tmp_path):
  names = ["café".encode(), "café".encode("latin1")]
  np.savez(tmp_path / "some.npz", **_arrays(), class_names=names)
  assert array_file.read(tmp_path / "some.npz").class_names == ("café",) * 2


def test_members_that_are_no_arrays_are_refused(tmp_path):
  with zipfile.ZipFile(tmp_path / "some.npz", "w") as file:
    file.writestr("x_train.npy", b"no array")
    file.writestr("y_train", b"")
  assert "x_train is no array" in _refusal(tmp_path / "some.npz")


@pytest.mark.parametrize("labels", [
    np.eye(2, dtype=int)[[0, 1] * 5], np.arange(5) % 2, np.arange(15) % 2,
    np.array(1), np.zeros((1, 10), int), np.zeros(0, int), np.zeros(10),
    np.zeros(10, "m8[s]")])
@pytest.mark.parametrize("options", [
    {"test_fraction": 0.3}, {"train_fraction": 0.3}])
def test_wrong_labels_are_refused_before_they_are_divided(
    tmp_path, labels, options):
  images = np.zeros((10, 4, 4, 3), np.uint8)
  test = {} if "test_fraction" in options else {
      "x_test": images, "y_test": np.arange(10) % 2}
  np.savez(tmp_path / "some.npz", x_train=images, y_train=labels, **test)
  with pytest.raises(errors.InputError, match=r"training (labels are|set has)"):
    data.load(tmp_path / "some.npz", image_size=4, **options)


def test_labels_in_a_column_are_divided_by_class(tmp_path):
  images = np.arange(20, dtype=np.uint8)[:, None, None] * np.ones((4, 4), "u1")
  np.savez(tmp_path / "some.npz", x_train=images,
           y_train=np.arange(20)[:, None] % 2)
  found = data.load(tmp_path / "some.npz", image_size=4, test_fraction=0.3)
  assert np.bincount(found.test_labels).tolist() == [3, 3]
  assert np.bincount(found.train_labels).tolist() == [7, 7]
  np.testing.assert_array_equal(
      found.test_images[:, 0, 0, 0] % 2, found.test_labels)


@pytest.mark.parametrize("shape", [
    "(1180591620717411303424,)", "(True, 4, 4)", "(" * 90])
def test_headers_that_say_nothing_are_refused(tmp_path, shape):
  head = "{'descr': '|u1', 'fortran_order': False, 'shape': " + shape + "}"
  head = head.encode() + b" " * (53 - len(head) % 64) + b"\n"
  path = tmp_path / "some.npz"
  np.savez(path, **{k: v for k, v in _arrays().items() if k != "x_train"})
  with zipfile.ZipFile(path, "a") as file:
    file.writestr("x_train.npy", b"\x93NUMPY\x01\x00" + len(head).to_bytes(
        2, "little") + head + bytes(32))
  assert "some.npz cannot be read" in _refusal(path)


def test_an_array_that_stands_there_twice(tmp_path):
  path = tmp_path / "some.npz"
  np.savez(path, **_arrays())
  with zipfile.ZipFile(path) as file:
    labels = file.read("y_train.npy")
  with zipfile.ZipFile(path, "a") as file, pytest.warns(UserWarning):
    file.writestr("y_train.npy", labels)
  assert "twice" in _refusal(path)
