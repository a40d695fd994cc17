"""Reading pickles that a stranger may have written: plain data, and no code.

Some authors publish their data as pickles. Here nothing of one is ever run:
numbers, text and containers are built, NumPy's scalars and arrays by stand-ins
that take plain numbers alone, and whatever else a file asks for is refused.
"""

import collections
from collections.abc import Callable, Mapping
import io
import pickle
import re
from typing import Any

import numpy as np

_PLAIN = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8",
          "b1")
_TEXT = re.compile(r"[SU]\d{1,4}")  # NumPy's text, of so many letters.


class Refused(Exception):
  """The pickle asks for more than plain data; says for what."""


class _Dtype:
  """Stands for numpy.dtype: a plain number's code and byte order."""

  def __init__(self, code: str | bytes, *_: Any):
    if text(code) not in _PLAIN and not _TEXT.fullmatch(text(code)):
      raise Refused(f"a NumPy value of type {text(code)!r}")
    self.value = np.dtype(text(code)).newbyteorder("<")

  def __setstate__(self, state: tuple[Any, ...]):
    self.value = self.value.newbyteorder(">" if text(state[1]) == ">" else "<")


class Array:
  """Stands for a NumPy array, and for the function that recreates one.

  Attributes:
    value: the array.
  """

  def __init__(self, *_: Any):
    self.value = np.zeros(0)

  def __setstate__(self, state: tuple[Any, ...]):
    _, shape, dtype, fortran_order, data = state
    if isinstance(dtype, _Dtype) and isinstance(data, bytes | str):
      flat = np.frombuffer(_bytes(data), dtype.value)
      self.value = flat.reshape(shape, order="F" if fortran_order else "C")


def _scalar(dtype, raw):
  if not isinstance(dtype, _Dtype):
    raise Refused("a NumPy value without a type")
  return np.frombuffer(_bytes(raw), dtype.value)[0].item()


def _from_buffer(data, dtype, shape, order):
  """How protocol 5 writes an array."""
  found = Array()
  if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
    raise Refused("a NumPy array of another kind")
  found.value = np.frombuffer(bytes(data), dtype.value).reshape(
      shape, order="F" if order == "F" else "C")
  return found


def _encode(string, encoding):
  # How Python 3 writes bytes into a pickle that Python 2 can read.
  if encoding not in ("latin1", b"latin1"):
    raise Refused(f"text in {encoding!r}")
  return _bytes(string)


def _no_bytes(*given):
  # How Python 3 writes empty bytes into a pickle that Python 2 can read.
  if given:
    raise Refused("bytes of something else")
  return b""


def _bytes(data: str | bytes) -> bytes:
  """Bytes, which protocols below 3 carry as text."""
  return data.encode("latin1") if isinstance(data, str) else data


def one_line(error: Exception) -> str:
  """The message of an error on one line."""
  return " ".join(str(error).split()) or type(error).__name__


def text(value: str | bytes) -> str:
  """Text, which Python 2 pickled as bytes."""
  if not isinstance(value, bytes):
    return str(value)
  try:
    return value.decode()
  except UnicodeDecodeError:
    return value.decode("latin1")


Known = Mapping[tuple[str, str], Any]  # By module and name.


class _Unpickler(pickle.Unpickler):
  """Builds plain data only."""

  def __init__(self, data: bytes, encoding: str, known: Known,
               outside: Callable[[Any], Any] | None):
    super().__init__(io.BytesIO(data), encoding=encoding)
    # Functions of this reading alone, whatever a file may do to them.
    wrap = lambda function: lambda *args: function(*args)
    self._known = {("collections", "OrderedDict"): collections.OrderedDict,
                   ("numpy", "dtype"): wrap(_Dtype), ("numpy", "ndarray"): None,
                   ("_codecs", "encode"): wrap(_encode)}
    for module in ("__builtin__", "builtins"):
      self._known[module, "bytes"] = wrap(_no_bytes)
    for core in ("numpy.core.multiarray", "numpy._core.multiarray"):
      self._known[core, "scalar"] = wrap(_scalar)
      self._known[core, "_reconstruct"] = wrap(Array)
    for core in ("numpy.core.numeric", "numpy._core.numeric"):
      self._known[core, "_frombuffer"] = wrap(_from_buffer)
    self._known |= known
    self._outside = outside

  def find_class(self, module: str, name: str) -> Any:
    if (module, name) not in self._known:
      raise Refused(f"{module}.{name}")
    return self._known[module, name]

  def persistent_load(self, pid: Any) -> Any:
    if self._outside is None:
      raise Refused("an object outside the file")
    return self._outside(pid)


def load(data: bytes, *, encoding: str = "ASCII", known: Known | None = None,
         outside: Callable[[Any], Any] | None = None) -> Any:
  """Unpickles plain data.

  Args:
    data: the pickle.
    encoding: of text that Python 2 wrote; "bytes" leaves it as bytes.
    known: stand-ins for what else the pickle may name, made for this reading
      alone; they are given what it says, which may be anything.
    outside: gives what the pickle calls by a persistent id; None refuses it.

  Returns:
    Numbers, text and containers; arrays are `Array`s.

  Raises:
    Refused: it asks for anything else.
    ValueError: damaged.
  """
  try:
    return _Unpickler(data, encoding, known or {}, outside).load()
  except Refused:
    raise
  except Exception as e:  # A damaged pickle may raise anything.
    raise ValueError(one_line(e)) from e
