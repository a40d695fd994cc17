"""Files of weights, told apart by what they begin with.

Those of natjax's own runs (`.npz`, under natjax's names) are read elsewhere
(`pipeline.networks`); here are `.safetensors`, read and written, and PyTorch's.
"""

from collections.abc import Mapping
import pathlib
import zipfile

import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy

from natjax import errors
from natjax.data import array_file, unpickle
from natjax.interchange import torch_file

_ZIP = b"PK"
_START = 512  # Bytes by which a file is told.
_FORMS = ("name a .safetensors file, a .pth or .pt file of torch.save, or an"
          " .npz file of natjax's own")
# What all of a file's names may begin with: what wrapped the model.
_WRAPPERS = ("module.", "_orig_mod.", "model.", "backbone.")
# Beside a model that torch.optim.swa_utils averages: of how many.
_AVERAGED = "n_averaged"


def is_own(path: pathlib.Path) -> bool:
  """Whether a file is a zip of arrays, as natjax writes its own.

  Raises:
    InputError: it cannot be read, or is a damaged zip.
  """
  if not _start(path).startswith(_ZIP):
    return False
  try:
    with zipfile.ZipFile(path) as archive:
      return not any(name.endswith(f"/{torch_file.PICKLE}")
                     for name in archive.namelist())
  except array_file.UNREADABLE as e:
    raise _damaged(path, e) from e


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
  """The tensors of a file by their names, without what wrapped the model.

  Args:
    path: of a `.safetensors` file, or of one of `torch.save`.

  Raises:
    InputError: it is neither, is damaged, or asks for code.
  """
  start = _start(path)
  if start.startswith(_ZIP):
    found = torch_file.tensors(torch_file.read(path), path)
  elif torch_file.is_legacy(start):
    raise errors.InputError(
        f"{path} is of PyTorch's form from before 1.6; read it there with"
        " torch.load, and write it with torch.save", "weights")
  elif start[8:9] == b"{":
    found = _read_safetensors(path)
  else:
    raise errors.InputError(f"{path} is no file of weights; {_FORMS}",
                            "weights")
  if all(name.startswith("module.") for name in found if name != _AVERAGED):
    found.pop(_AVERAGED, None)
  while wrapper := next((w for w in _WRAPPERS if found and all(
      name.startswith(w) for name in found)), None):
    found = {name.removeprefix(wrapper): leaf for name, leaf in found.items()}
  return found


def write(path: pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
  """Writes a `.safetensors` file, whole or not at all."""
  with errors.replacing(path) as temporary:
    temporary.write_bytes(safetensors.numpy.save(
        {name: np.asarray(leaf, order="C") for name, leaf in tensors.items()},
        metadata={"format": "pt"}))


def _start(path):
  try:
    with errors.regular(path).open("rb") as file:
      return file.read(_START)
  except OSError as e:
    raise errors.InputError(
        f"{path} cannot be read ({unpickle.one_line(e)}); {_FORMS}",
        "weights") from e


def _read_safetensors(path):
  try:
    with safetensors.safe_open(path, framework="np") as file:
      names = list(file.keys())
      kinds = {file.get_slice(name).get_dtype() for name in names}
      if few := {k for k in kinds if k.startswith(("F8_", "F6_", "F4"))}:
        raise errors.InputError(
            f"{path} holds numbers of {', '.join(sorted(few))}, of few bits;"
            " write the weights with 16 bits or more", "weights")
      if "BF16" not in kinds:
        return {name: file.get_tensor(name) for name in names}
    # Its NumPy side does not know bfloat16.
    return {name: _plain(**held) for name, held in (
        safetensors.deserialize(path.read_bytes()))}
  except (safetensors.SafetensorError, TypeError, *array_file.UNREADABLE) as e:
    if isinstance(e, errors.InputError):
      raise
    raise _damaged(path, e) from e


def _plain(dtype, shape, data):
  """A tensor of a file that holds some of bfloat16."""
  kind = ml_dtypes.bfloat16 if dtype == "BF16" else (
      "b1" if dtype == "BOOL" else f"{dtype[0].lower()}{int(dtype[1:]) // 8}")
  return np.frombuffer(data, kind).reshape(shape)


def _damaged(path, error):
  return errors.InputError(
      f"{path} is damaged ({unpickle.one_line(error)}); copy it again",
      "weights")
