"""TensorFlow's files of records, and messages of protocol buffers, without it.

A record is framed by its length in 8 bytes, the masked CRC-32C of these, and
behind it one of the data. Lengths are checked by their sums, data by `damaged`.
"""

from collections.abc import Iterator, Sequence
import functools
import os
import struct
from typing import Any, BinaryIO

import numpy as np

_HEAD, _TAIL = 12, 4  # Bytes before and behind a record's data.
_BLOCK, _BLOCKS = 256, 4096  # Bytes, and how many are looked up at once.
_AT_ONCE = 2**20  # Bytes of records that are padded to one length.
_MOST_DIGITS = 10  # Of a whole number of 64 bits, each of 7 bits in a byte.
_TOO_LONG = "a number of more than 64 bits"


def spans(file: BinaryIO, most: int = 2**31) -> Iterator[tuple[int, int]]:
  """Yields where the data of every record lie: offset and length, in bytes.

  Args:
    file: read from its beginning; between two records it may be read elsewhere.
    most: bytes that a record may have.

  Raises:
    ValueError: says what the file does instead.
  """
  size = os.fstat(file.fileno()).st_size
  at = 0
  while at < size:
    file.seek(at)
    head = file.read(_HEAD)
    if len(head) < _HEAD:
      raise ValueError("ends within a record")
    length, check = struct.unpack("<QI", head)
    if check != masked_crc(head[:8]) or length > most:
      raise ValueError("is no file of such records")
    if at + _HEAD + length + _TAIL > size:
      raise ValueError("ends within a record")
    yield at + _HEAD, length
    at += _HEAD + length + _TAIL


def damaged(data: Any, found: Sequence[tuple[int, int]]) -> np.ndarray:
  """The numbers of the records whose data are not what their sum says, i64[M].

  Some 0.25 ms of 100 KiB, a tenth of what it takes to decode such an image.

  Args:
    data: bytes of the file, or a view of them.
    found: its `spans`.
  """
  whole = np.frombuffer(data, np.uint8)
  offset, length = np.array(found, np.int64).reshape(-1, 2).T
  sums = whole[offset[:, None] + length[:, None] + np.arange(_TAIL)]
  crc = np.empty(len(found), np.uint32)
  order, at = np.argsort(length, kind="stable"), 0
  while at < len(order):
    most = int(length[order[at]]) + _BLOCK
    some = order[at:at + max(_AT_ONCE // most, 1)]
    some = some[length[some] < most]  # Of about one length.
    crc[some] = _crc([whole[offset[i]:offset[i] + length[i]] for i in some])
    at += len(some)
  masked = (crc >> 15 | crc << 17) + np.uint32(0xA282EAD8)
  return np.flatnonzero(masked != sums.copy().view("<u4")[:, 0])


def _crc(records):
  """CRC-32C of records, of blocks of which all are gone through at once.

  It is linear over bits: of a block it is the sum of what each byte gives at
  its place, and of two parts that of the first, with as many zero bytes behind
  it as the second has, and of the second. Zeros before a record add nothing,
  but that it begins with all bits set, as if its first four bytes were flipped.
  """
  width = max(1, *map(len, records))
  width += -width % _BLOCK
  padded = np.zeros((len(records), width), np.uint8)
  for row, record in zip(padded, records, strict=True):
    row[width - len(record):] = record
    row[width - len(record):][:4] ^= 255
  blocks, table = padded.reshape(-1, _BLOCK), _places().ravel()
  place = 256 * np.arange(_BLOCK)
  state = np.concatenate([
      np.bitwise_xor.reduce(table[blocks[i:i + _BLOCKS] + place], axis=1)
      for i in range(0, len(blocks), _BLOCKS)]).reshape(len(records), -1)
  doublings = 0
  while state.shape[1] > 1:
    state = np.pad(state, ((0, 0), (state.shape[1] % 2, 0)))
    state = state[:, 1::2] ^ _moved(state[:, ::2], _zeros(doublings))
    doublings += 1
  short = [(1 << 32) - 1 >> 8 * min(len(r), 4) for r in records]
  return state[:, 0] ^ np.array(short, np.uint32) ^ np.uint32(0xFFFFFFFF)


@functools.cache
def _places() -> np.ndarray:
  """What a byte gives at each place of a block, u32[_BLOCK, 256]."""
  table = np.array(_crc_table(), np.uint32)
  found = [table]
  while len(found) < _BLOCK:
    found.append(table[found[-1] & 255] ^ found[-1] >> 8)
  return np.stack(found[::-1])


@functools.cache
def _zeros(doublings: int) -> np.ndarray:
  """What a state becomes by 2^`doublings` blocks of zeros, u32[4, 256].

  Of each of its bytes, of which the sum is taken.
  """
  if not doublings:
    return _places()[:4]  # As the bytes of a block that has no others.
  half = _zeros(doublings - 1)
  return _moved(half, half)


def _moved(state, zeros):
  """States behind which zeros stand."""
  return (zeros[0][state & 255] ^ zeros[1][state >> 8 & 255]
          ^ zeros[2][state >> 16 & 255] ^ zeros[3][state >> 24])


def frame(data: bytes) -> bytes:
  """A record as it stands in a file."""
  length = struct.pack("<Q", len(data))
  return (length + struct.pack("<I", masked_crc(length)) + data
          + struct.pack("<I", masked_crc(data)))


def fields(message: Any) -> Iterator[tuple[int, Any]]:
  """Yields fields' numbers and values: whole numbers, or bytes.

  Args:
    message: bytes, or a view of them, of which values are then views too.

  Raises:
    IndexError: the message ends within a field.
    LookupError: a field of a kind that is none, or a whole number in place of
      the message.
    ValueError: a whole number of more than 64 bits.
  """
  if isinstance(message, int):
    raise LookupError
  at = 0

  def whole():
    nonlocal at
    value = 0
    for shift in range(0, 7 * _MOST_DIGITS, 7):
      byte = message[at]
      at += 1
      value |= (byte & 127) << shift
      if byte < 128:
        return value
    raise ValueError(_TOO_LONG)

  while at < len(message):
    key = whole()
    kind = key & 7
    if kind == 0:
      yield key >> 3, whole()
      continue
    length = {1: 8, 5: 4}.get(kind, -1) if kind != 2 else whole()
    if length < 0 or at + length > len(message):
      raise LookupError
    at += length
    yield key >> 3, message[at - length:at]


def example(message: Any) -> dict[str, list[Any]]:
  """The bytes and whole numbers of a `tf.train.Example`, by name.

  Args:
    message: bytes, or a view of them, of which values are then views too.

  Raises:
    LookupError: it is none.
    ValueError: a name is no text, or a number none.
  """
  found = {}
  for features in (value for key, value in fields(message) if key == 1):
    for entry in (value for key, value in fields(features) if key == 1):
      name, feature = (dict(fields(entry))[key] for key in (1, 2))
      for kind, values in fields(feature):
        items = [value for key, value in fields(values) if key == 1]
        if kind == 3:  # Whole numbers: packed or one by one.
          items = [n for item in items for n in (
              [_signed(item)] if isinstance(item, int) else _packed(item))]
        found[_text(name)] = items
  return found


def _text(value):
  """A name (LookupError, ValueError)."""
  if isinstance(value, int):
    raise LookupError
  return bytes(value).decode()


def _packed(data):
  """The whole numbers that follow each other in bytes, as of two's complement.
  """
  value = shift = 0
  for byte in bytes(data):
    value |= (byte & 127) << shift
    shift += 7
    if byte < 128:
      yield _signed(value)
      value = shift = 0
    elif shift == 7 * _MOST_DIGITS:
      raise ValueError(_TOO_LONG)
  if shift:
    raise ValueError("a number that does not end")


def _signed(value):
  """A whole number of 64 bits, as of two's complement (ValueError)."""
  if value >= 2**64:
    raise ValueError(_TOO_LONG)
  return value - 2**64 * (value >= 2**63)


@functools.cache
def _crc_table() -> tuple[int, ...]:
  found = []
  for byte in range(256):
    for _ in range(8):
      byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    found.append(byte)
  return tuple(found)


def masked_crc(data: bytes) -> int:
  """CRC-32C, masked as TensorFlow's records have it."""
  table, crc = _crc_table(), 0xFFFFFFFF
  for byte in data:
    crc = table[(crc ^ byte) & 255] ^ crc >> 8
  crc ^= 0xFFFFFFFF
  return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
