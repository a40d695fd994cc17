"""Makes sets of faces as the field has them: record files, files of pairs."""

import io
import pickle
import struct

import numpy as np
from PIL import Image

MAGIC = 0xCED7230A


def people(identities, images, size, seed=0):
  """Images of identities: each a colored pattern of its own, with noise.

  Args:
    identities: K.
    images: of each.
    size: side in pixels, S.
    seed: of everything random.

  Returns:
    u8[K * images, S, S, 3] and their labels.
  """
  rng = np.random.default_rng(seed)
  own = rng.integers(40, 216, (identities, 4, 4, 3))
  own = own.repeat(-(-size // 4), 1).repeat(-(-size // 4), 2)[:, :size, :size]
  labels = np.arange(identities).repeat(images)
  noise = rng.normal(0, 12, (len(labels), size, size, 3))
  return np.clip(own[labels] + noise, 0, 255).astype(np.uint8), labels


def encoded(image, form="JPEG"):
  """An image's file."""
  file = io.BytesIO()
  Image.fromarray(image).save(file, form)
  return file.getvalue()


def record(payload):
  """A record, cut wherever the magic number stands in a multiple of 4 bytes."""
  magic, parts, start = struct.pack("<I", MAGIC), [], 0
  for at in range(0, len(payload) - 3, 4):
    if payload[at:at + 4] == magic:
      parts.append(payload[start:at])
      start = at + 4
  parts.append(payload[start:])
  written = b""
  for i, part in enumerate(parts):
    kind = 0 if len(parts) == 1 else 1 if i == 0 else (
        3 if i == len(parts) - 1 else 2)
    written += magic + struct.pack("<I", kind << 29 | len(part)) + part
    written += bytes(-len(part) % 4)
  return written


def headed(labels, image, number=0):
  """What a record of an image holds: one label in the header, or several."""
  if np.ndim(labels) == 0:
    return struct.pack("<IfQQ", 0, labels, number, 0) + image
  return struct.pack("<IfQQ", len(labels), 0.0, number, 0) + np.asarray(
      labels, "<f4").tobytes() + image


def write_records(folder, payloads, properties=None, index=True):
  """Writes train.rec, train.idx and, where there is something, property."""
  folder.mkdir(parents=True, exist_ok=True)
  offsets, data = [], b""
  for payload in payloads:
    offsets.append(len(data))
    data += record(payload)
  (folder / "train.rec").write_bytes(data)
  if index:
    (folder / "train.idx").write_text("".join(
        f"{i}\t{offset}\n" for i, offset in enumerate(offsets)))
  if properties:
    (folder / "property").write_text(properties)
  return folder


def write_faces(folder, images, labels, form="JPEG", index=True):
  """Writes a set of faces, whose images stand in order of their identities."""
  count, identities = len(labels), int(labels.max()) + 1
  payloads = [headed([count + 1, count + 1 + identities], b"")]
  payloads += [headed([label, 0], encoded(image, form), i)
               for i, (image, label) in enumerate(
                   zip(images, labels, strict=True), 1)]
  for k in range(identities):
    members = np.flatnonzero(labels == k) + 1
    payloads.append(headed([members[0], members[-1] + 1], b""))
  size = images.shape[1]
  return write_records(folder, payloads, f"{identities},{size},{size}\n", index)


def pairs(images, labels, count, seed=0):
  """`count` pairs of images, of one person and of two in turn: (images, same).
  """
  rng, chosen = np.random.default_rng(seed), []
  same = np.arange(count) % 2 == 0
  for alike in same:
    i = rng.integers(len(labels))
    others = (labels == labels[i]) == alike
    others[i] = False
    chosen += [i, rng.choice(np.flatnonzero(others))]
  return [encoded(images[i], "PNG") for i in chosen], [bool(x) for x in same]


def write_pairs(path, images, same, protocol=pickle.HIGHEST_PROTOCOL):
  """Writes a file of pairs as Python 3 does."""
  path.write_bytes(pickle.dumps((images, same), protocol=protocol))
  return path


def write_pairs_of_python2(path, images, same):
  """Writes a file of pairs as Python 2 does by protocol 2, opcode by opcode."""
  text = b"".join(b"T" + struct.pack("<i", len(x)) + x for x in images)
  bools = b"".join(b"\x88" if x else b"\x89" for x in same)
  path.write_bytes(b"\x80\x02](" + text + b"e](" + bools + b"e\x86.")
  return path
