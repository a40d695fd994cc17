"""Files of weights: told apart, read, and refused."""

import io
import json
import pickle
import zipfile

import ml_dtypes
import numpy as np
import pytest

from natjax import errors
from natjax.interchange import files
from tests.interchange import torch_writer
from tests.interchange.torch_writer import Call, Global, Tensor

TENSORS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
           "a.num_batches_tracked": np.array(7)}


def assert_same(found, wanted):
  assert found.keys() == wanted.keys()
  for name, array in wanted.items():
    np.testing.assert_array_equal(found[name], array, strict=True)


def test_views_of_shared_storages(tmp_path):
  storage = np.arange(12, dtype=np.float32)
  tied = Tensor("Float", 0, 12, 0, (3, 4), (4, 1))
  torch_writer.write(tmp_path / "m.pth", {
      "whole": tied, "turned": tied._replace(shape=(4, 3), strides=(1, 4)),
      "part": Tensor("Float", 0, 12, 5, (2, 2), (4, 1)),
      "spread": Tensor("Float", 0, 12, 2, (5,), (0,)),
      "one": Tensor("Float", 0, 12, 11, (), ()),
      "none": Tensor("Float", 0, 12, 0, (0, 2), (2, 1)),
  }, [storage.tobytes()])
  whole = storage.reshape(3, 4)
  assert_same(files.read(tmp_path / "m.pth"), {
      "whole": whole, "turned": whole.T, "part": np.array(
          [[5, 6], [9, 10]], np.float32), "spread": np.full(5, 2, np.float32),
      "one": np.array(11, np.float32), "none": np.zeros((0, 2), np.float32)})


@pytest.mark.parametrize("kind, dtype", [
    ("Float", "f4"), ("Double", "f8"), ("Half", "f2"), ("Long", "i8"),
    ("Int", "i4"), ("Short", "i2"), ("Char", "i1"), ("Byte", "u1"),
    ("Bool", "b1"), ("BFloat16", ml_dtypes.bfloat16)])
def test_numbers_of_all_types(kind, dtype, tmp_path):
  numbers = np.array([0, 1, 3], dtype)
  view = {"a": Tensor(kind, 0, 3, 0, (3,), (1,))}
  torch_writer.write(tmp_path / "m.pt", view, [numbers.tobytes()])
  assert_same(files.read(tmp_path / "m.pt"), {"a": numbers})


def test_numbers_of_another_byte_order(tmp_path):
  numbers = np.array([0.5, 3], ">f4")
  torch_writer.write(tmp_path / "m.pt", {"a": Tensor("Float", 0, 2, 0, (
      2,), (1,))}, [numbers.tobytes()], big=True)
  np.testing.assert_array_equal(files.read(tmp_path / "m.pt")["a"], [0.5, 3])


@pytest.mark.parametrize("wrap", [
    lambda state: {f"module.{name}": x for name, x in state.items()},
    # Of torch.optim.swa_utils.AveragedModel.
    lambda state: {"n_averaged": Tensor("Float", 0, 6, 0, (), ()), **{
        f"module.{name}": x for name, x in state.items()}},
    lambda state: {f"model.backbone.{name}": x for name, x in state.items()},
    lambda state: {"epoch": 3, "state_dict": {
        f"module.model.{name}": x for name, x in state.items()},
        "best": Tensor("Float", 0, 6, 0, (), ()),
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": []}},
    lambda state: {"anything": state, "note": "of a user's own"},
    lambda state: {"model": state, "ema": state},
    lambda state: Call(Global("collections", "OrderedDict"), (
        list(state.items()),)),
    lambda state: {name: Call(Global("torch._utils", "_rebuild_parameter"), (
        x, True, {})) for name, x in state.items()}])
def test_the_mapping_of_names_is_found(wrap, tmp_path):
  torch_writer.save(tmp_path / "m.pth", TENSORS, wrap)
  assert_same(files.read(tmp_path / "m.pth"), TENSORS)


@pytest.mark.parametrize("wrap, words", [
    (lambda state: {"net": state, "ema": state}, "several mappings .*net, ema"),
    # Another view of the numbers stands for the average.
    (lambda state: {"epoch": 3, "state_dict": state, "state_dict_ema": {
        "module.a.weight": state["a.weight"]._replace(strides=(0, 0)),
        "module.n_averaged": state["a.num_batches_tracked"]}},
     r"several models \(state_dict, state_dict_ema\)"),
    (lambda state: [*state.values()], "no mapping of names to tensors"),
    (lambda state: {"epoch": 3}, "no mapping of names to tensors"),
    (lambda state: 5, "no mapping of names to tensors"),
    (lambda state: {"a": state, "b": Call(Global("collections", "Counter"), (
        "abc",))}, "holds collections.Counter, which is no plain tensor"),
    (lambda state: Call(Global("mypackage.models", "Net"), ()),
     "holds mypackage.models.Net, .*state_dict"),
    (lambda state: Global("builtins", "print"), "holds builtins.print")])
def test_what_is_no_mapping_or_code_is_refused(wrap, words, tmp_path):
  torch_writer.save(tmp_path / "m.pth", TENSORS, wrap)
  with pytest.raises(errors.InputError, match=words) as caught:
    files.read(tmp_path / "m.pth")
  assert "\n" not in str(caught.value) and caught.value.field == "weights"


def test_nothing_that_a_file_names_is_called(tmp_path, monkeypatch):
  called = []
  monkeypatch.setattr("collections.Counter", lambda *args: called.append(args))
  torch_writer.save(tmp_path / "m.pth", TENSORS, lambda state: Call(
      Global("collections", "Counter"), (state,)))
  with pytest.raises(errors.InputError, match="nothing in a file is run"):
    files.read(tmp_path / "m.pth")
  assert not called


@pytest.mark.parametrize("view", [
    Tensor("Float", 0, 6, 4, (3,), (1,)), Tensor("Float", 0, 6, 0, (3, 3), (
        3, 1)), Tensor("Float", 0, 6, 0, (2,), (-1,)),
    Tensor("Float", 1, 6, 0, (2,), (1,)), Tensor("Float", 0, 6, -2, (1,), (
        1,)), Tensor("Float", 0, 6, 0, ("a",), (1,))])
def test_views_outside_of_their_storage_are_refused(view, tmp_path):
  torch_writer.write(tmp_path / "m.pth", {"a": view},
                     [np.arange(6, dtype=np.float32).tobytes()])
  with pytest.raises(errors.InputError, match="cannot be read"):
    files.read(tmp_path / "m.pth")


CODES = {"float16": "F16", "float32": "F32", "float64": "F64", "int64": "I64",
         "bool": "BOOL", "bfloat16": "BF16", "float8_e4m3fn": "F8_E4M3"}


def safe(tensors):
  """The bytes of a `.safetensors` file."""
  header, data = {}, b""
  for name, array in tensors.items():
    start, data = len(data), data + array.tobytes()
    header[name] = {"dtype": CODES[array.dtype.name], "shape": array.shape,
                    "data_offsets": [start, len(data)]}
  text = json.dumps(header).encode()
  return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize("more", [{}, {
    "half": np.array([0.5, 2], np.float16), "flag": np.array([True, False]),
    "brain": np.array([1, 2], ml_dtypes.bfloat16)}])
def test_safetensors(more, tmp_path):
  wanted = {**TENSORS, "b": np.array([0.5], np.float64), **more}
  (tmp_path / "m.safetensors").write_bytes(safe(wanted))
  assert_same(files.read(tmp_path / "m.safetensors"), wanted)


def test_what_is_written_is_read(tmp_path):
  path = tmp_path / "m.safetensors"
  files.write(path, {**TENSORS, "turned": TENSORS["a.weight"].T})
  assert_same(files.read(path), {**TENSORS, "turned": TENSORS["a.weight"].T})
  assert [file.name for file in tmp_path.iterdir()] == [path.name]


def zipped(**members):
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, data in members.items():
      archive.writestr(name, data)
  return file.getvalue()


@pytest.mark.parametrize("data, words", [
    (b"", "is no file of weights"),
    (b"weights = 3\n", "is no file of weights; name a .safetensors"),
    (pickle.dumps({"a": 1}), "is no file of weights"),
    (pickle.dumps(0x1950a86a20f9469cfc6c, 2) + pickle.dumps({}),
     "from before 1.6; read it there"),
    (b"\0" * 257 + b"ustar", "from before 1.6"),
    (safe(TENSORS)[:-1], "is damaged"), (safe(TENSORS)[:60], "is damaged"),
    (b"\xff" * 8 + b"{}", "is damaged"),
    (safe({"a": np.ones(4, ml_dtypes.float8_e4m3fn)}), "of few bits"),
    (zipped(**{"a/b/data.pkl": pickle.dumps({})}), "cannot be read .*folder"),
    (zipped(**{"model/data.pkl": b"\x80\x02}"}), "cannot be read"),
    (zipped(**{"model/data.pkl": pickle.dumps({})}), "no mapping of names")])
def test_other_and_damaged_files_are_one_line(data, words, tmp_path):
  (tmp_path / "file").write_bytes(data)
  with pytest.raises(errors.InputError, match=words) as caught:
    files.read(tmp_path / "file")
  assert "\n" not in str(caught.value)


def test_truncated_and_compressed_files_of_pytorch(tmp_path):
  path = tmp_path / "m.pth"
  torch_writer.save(path, TENSORS)
  whole = path.read_bytes()
  for length in (4, len(whole) // 2, len(whole) - 1):
    path.write_bytes(whole[:length])
    for reader in (files.read, files.is_own):
      with pytest.raises(errors.InputError, match=r"cannot be read|is damaged"):
        reader(path)
  at = whole.index(TENSORS["a.weight"].tobytes())
  path.write_bytes(whole[:at] + b"\x01" + whole[at + 1:])
  with pytest.raises(errors.InputError, match="CRC"):
    files.read(path)
  torch_writer.write(path, {"a": Tensor("Float", 0, 6, 0, (6,), (1,))}, [
      bytes(24)], compression=zipfile.ZIP_DEFLATED)
  with pytest.raises(errors.InputError, match="compressed"):
    files.read(path)
  with pytest.raises(errors.InputError, match="directory"):
    files.read(tmp_path)


def test_own_files_are_told(tmp_path):
  torch_writer.save(tmp_path / "m.pth", TENSORS)
  np.savez(tmp_path / "m.npz", a=np.ones(2))
  (tmp_path / "m.safetensors").write_bytes(safe(TENSORS))
  assert files.is_own(tmp_path / "m.npz")
  assert not files.is_own(tmp_path / "m.pth")
  assert not files.is_own(tmp_path / "m.safetensors")
