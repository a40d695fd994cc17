"""Writes what `torch.save` writes, without PyTorch."""

import io
import pickle
from typing import NamedTuple
import zipfile

import numpy as np


class Global(NamedTuple):
  """Something that a pickle calls by module and name."""

  module: str
  name: str

  def __call__(self):
    """Nothing: it is only written."""


class Call(NamedTuple):
  """A call of a global, which a pickle asks for."""

  function: Global
  args: tuple


class Tensor(NamedTuple):
  """A view of a storage.

  Attributes:
    kind: of the storage, as "Float".
    storage: its number in the file.
    size: numbers in the storage.
    offset: of the view.
    shape: of the view.
    strides: of the view, in numbers.
  """

  kind: str
  storage: int
  size: int
  offset: int
  shape: tuple[int, ...]
  strides: tuple[int, ...]


class _Storage(NamedTuple):
  kind: str
  key: str
  size: int


class _Pickler(pickle._Pickler):
  """Writes the above as PyTorch's pickler does."""

  def save(self, obj, save_persistent_id=True):
    if isinstance(obj, Global):
      return self.write(f"c{obj.module}\n{obj.name}\n".encode())
    if isinstance(obj, Call):
      return self.save_reduce(*obj, obj=obj)
    if isinstance(obj, Tensor):
      rebuild = Global("torch._utils", "_rebuild_tensor_v2")
      hooks = Call(Global("collections", "OrderedDict"), ())
      return self.save_reduce(rebuild, (
          _Storage(obj.kind, str(obj.storage), obj.size), obj.offset, obj.shape,
          obj.strides, False, hooks), obj=obj)
    return super().save(obj, save_persistent_id)

  def persistent_id(self, obj):
    if not isinstance(obj, _Storage):
      return None
    return ("storage", Global("torch", f"{obj.kind}Storage"), obj.key, "cpu",
            obj.size)


def write(path, content, storages, *, big=False, **options):
  """Writes a file.

  Args:
    path: of it.
    content: what is saved.
    storages: bytes of each.
    big: whether they are big-endian.
    **options: of the zip's members.
  """
  pickled = io.BytesIO()
  _Pickler(pickled, 2).dump(content)
  with zipfile.ZipFile(path, "w", **options) as file:
    file.writestr("model/data.pkl", pickled.getvalue())
    file.writestr("model/byteorder", "big" if big else "little")
    for i, data in enumerate(storages):
      file.writestr(f"model/data/{i}", data)
    file.writestr("model/version", "3\n")


def save(path, tensors, wrap=lambda state: state):
  """Writes float32 and integer arrays, each with a storage of its own."""
  state, storages = {}, []
  for name, array in tensors.items():
    array = np.asarray(array, order="C")
    kind = {"f": "Float", "i": "Long"}[array.dtype.kind]
    strides = tuple(stride // array.itemsize for stride in array.strides)
    state[name] = Tensor(kind, len(storages), array.size, 0, array.shape,
                         strides)
    storages.append(array.tobytes())
  write(path, wrap(state), storages)
