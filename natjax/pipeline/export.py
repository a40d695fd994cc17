"""A trained network as a file that runs without natjax: StableHLO.

The file is what `jax.export` serialises: the network with its weights and its
preparation, lowered for several platforms, and with a batch of any size. It
needs jax alone; `load_exported` or `jax.export.deserialize` reads it.
"""

from collections.abc import Sequence
import importlib
import os
import pathlib
import struct
from typing import NamedTuple

import jax
from jax import export as jax_export
import jax.numpy as jnp
import numpy as np

from natjax import errors
from natjax.drawing import files
from natjax.pipeline import networks

#: The suffix of what is written.
SUFFIX = ".stablehlo"
#: What a file may be lowered for.
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# What deserialising raises of bytes that are cut off, or are something else.
_UNREADABLE = (ValueError, TypeError, IndexError, KeyError, AttributeError,
               AssertionError, NotImplementedError, RuntimeError, struct.error)


class Exported(NamedTuple):
  """What was written.

  Attributes:
    path: the file.
    platforms: on which it runs.
    difference: the largest between what the file, read back, and the network
      give for images of noise, one of them and three; in logits.
  """

  path: pathlib.Path
  platforms: tuple[str, ...]
  difference: float


def export(network: networks.TrainedNetwork | str | os.PathLike[str],
           out: str | os.PathLike[str], *, name: str | None = None,
           platforms: Sequence[str] = ("cpu", "cuda", "tpu")) -> Exported:
  """Writes a trained network as StableHLO, reads it back and compares.

  What is written maps images u8[b, S, S, 3], b any number, to logits f32[b, K],
  or features of a network without a classifier.

  Args:
    network: as `load` gives it, or the folder of a run.
    out: a path that ends in ".stablehlo".
    name: which of the run's networks, as for `load`.
    platforms: of `PLATFORMS`, for which the network is lowered; the one that
      the process runs on is added.

  Raises:
    InputError: no trained network, another suffix, a platform that is not
      known, no folder to write in, or no flatbuffers to write with.
  """
  path = errors.path(out, "out")
  if path.suffix != SUFFIX:
    raise errors.InputError(
        f"{path}: networks are exported as {SUFFIX}, not as"
        f" {errors.short(path.suffix)}; choose this suffix", "out")
  if path.is_dir() or not path.parent.is_dir():
    raise errors.InputError(
        f"out is {path}, which is a folder or lies in none; name a file", "out")
  if isinstance(platforms, str) or not platforms:
    raise errors.InputError(f"platforms are {errors.short(platforms)} and must"
                            " be a list of one or more", "platforms")
  for platform in platforms:
    errors.known("platform", platform, PLATFORMS, "platforms")
  _need_flatbuffers()
  if not isinstance(network, networks.TrainedNetwork):
    network = networks.load(network, name)
  size = network.module.frame.image_size
  apply = jax.jit(lambda images: network.forward(network.variables, images)[0])
  here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
  every = tuple(dict.fromkeys((*platforms, here)))
  images = jax.ShapeDtypeStruct(
      jax_export.symbolic_shape(f"b, {size}, {size}, 3"), jnp.uint8)
  files.write(path, bytes(
      jax_export.export(apply, platforms=every)(images).serialize()))
  again, difference = load_exported(path), 0.0
  noise = np.random.default_rng(0).integers(
      0, 256, (3, size, size, 3), dtype=np.uint8)
  for batch in (noise[:1], noise):
    difference = max(difference, float(
        jnp.max(jnp.abs(again.call(batch) - apply(batch)))))
  return Exported(path, every, difference)


def load_exported(path: str | os.PathLike[str]) -> jax_export.Exported:
  """Reads what `export` wrote; its `call` takes images u8[b, S, S, 3].

  Raises:
    InputError: no such file, one that `jax.export` did not write or that is
      damaged, or no flatbuffers to read it with.
  """
  path = errors.regular(errors.path(path))
  _need_flatbuffers()
  try:
    return jax_export.deserialize(bytearray(path.read_bytes()))
  except FileNotFoundError as e:
    raise errors.InputError(f"{path}: no such file; check the path") from e
  except (OSError, *_UNREADABLE) as e:
    raise errors.InputError(
        f"{path} is damaged, or not what jax.export wrote; export the network"
        " again") from e


def _need_flatbuffers():
  try:
    importlib.import_module("flatbuffers")
  except ImportError as e:
    raise errors.InputError(
        'jax.export writes and reads by flatbuffers, which is not installed;'
        ' pip install "natjax[export]"') from e
