"""A trained network as a file that runs without natjax: StableHLO or ONNX.

The file holds the network with its weights and its preparation, and takes a
batch of any size. StableHLO is what `jax.export` serialises, lowered for
several platforms; it needs jax alone, and `load_exported` or
`jax.export.deserialize` reads it. ONNX is what `jax2onnx` writes.
"""

from collections.abc import Sequence
import contextlib
import importlib
import logging
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
from natjax.operations import primitives
from natjax.pipeline import networks
from natjax.training import fit as fit_lib

#: The suffixes of what is written.
SUFFIX, ONNX = ".stablehlo", ".onnx"
#: What a file may be lowered for.
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
#: What it is lowered for where nothing is said.
USUAL = ("cpu", "cuda", "tpu")
# Of logits around 1; what is made of other sums differs by less.
_TOLERANCE = 1e-3
# What deserialising raises of bytes that are cut off, or are something else.
_UNREADABLE = (ValueError, TypeError, IndexError, KeyError, AttributeError,
               AssertionError, NotImplementedError, RuntimeError, struct.error)


class Exported(NamedTuple):
  """What was written.

  Attributes:
    path: the file.
    platforms: on which it runs; of ONNX none is named.
    difference: the largest between what the file, read back, and the network
      give for images of noise, one of them and three; in logits.
  """

  path: pathlib.Path
  platforms: tuple[str, ...]
  difference: float


def export(network: networks.TrainedNetwork | str | os.PathLike[str],
           out: str | os.PathLike[str], *, name: str | None = None,
           platforms: Sequence[str] | None = None) -> Exported:
  """Writes a trained network as StableHLO or ONNX, reads it back and compares.

  What is written maps images u8[b, S, S, 3], b any number, to logits f32[b, K],
  or features of a network without a classifier. ONNX names them "images" and
  "logits", and computes in float32 whatever the network was trained in.

  Args:
    network: as `load` gives it, or the folder of a run.
    out: a path that ends in ".stablehlo" or ".onnx".
    name: which of the run's networks, as for `load`.
    platforms: of `PLATFORMS`, for which StableHLO is lowered; the one that
      the process runs on is added. None is `USUAL`.

  Raises:
    InputError: no trained network, another suffix, a platform that is not
      known or not for ONNX, no folder to write in or no file there, a network
      that `jax2onnx` cannot write or of which it makes another, or a package
      that lacks.
  """
  path = errors.path(out, "out")
  kind = path.suffix.lower()
  if kind not in (SUFFIX, ONNX):
    raise errors.InputError(
        f"{path}: networks are exported as {SUFFIX} or {ONNX}, not as"
        f" {errors.short(path.suffix)}; choose such a suffix", "out")
  if path.is_dir() or not path.parent.is_dir():
    raise errors.InputError(
        f"out is {path}, which is a folder or lies in none; name a file", "out")
  errors.replaceable(path)
  _check_platforms(platforms, kind)
  _need(kind)
  if not isinstance(network, networks.TrainedNetwork):
    network = networks.load(network, name)
  size, preparation = network.module.frame.image_size, network.preparation
  every: tuple[str, ...] = ()
  if kind == ONNX:
    if isinstance(preparation, fit_lib.Preparation):
      network = network._replace(
          preparation=preparation._replace(dtype=jnp.dtype(jnp.float32)))
    return Exported(path, every, _write_onnx(network, path, size))
  here = {"gpu": "cuda"}.get(jax.default_backend(), jax.default_backend())
  every = tuple(dict.fromkeys(
      (*(USUAL if platforms is None else platforms), here)))
  return Exported(path, every, _write_stablehlo(network, path, size, every))


def _check_platforms(platforms, kind):
  if platforms is None:
    return
  if kind == ONNX:
    raise errors.InputError(
        f"platforms are of {SUFFIX}; {ONNX} runs where its reader does; leave"
        " them out", "platforms")
  if isinstance(platforms, str) or not platforms:
    raise errors.InputError(f"platforms are {errors.short(platforms)} and must"
                            " be a list of one or more", "platforms")
  for platform in platforms:
    errors.known("platform", platform, PLATFORMS, "platforms")


def _logits(network):
  return lambda images: network.forward(network.variables, images)[0]


def _difference(run, network, size):
  """The largest between what `run` and the network give, and what they give."""
  noise = np.random.default_rng(0).integers(
      0, 256, (3, size, size, 3), dtype=np.uint8)
  apply, pairs = jax.jit(_logits(network)), []
  for batch in (noise[:1], noise):
    pairs.append((np.asarray(run(batch)), np.asarray(apply(batch))))
  largest = float(np.max([np.max(np.abs(expected)) for _, expected in pairs]))
  if any(found.shape != expected.shape for found, expected in pairs):
    return np.inf, largest
  return float(np.max([np.max(np.abs(found - expected))
                       for found, expected in pairs])), largest


def _write_stablehlo(network, path, size, platforms):
  images = jax.ShapeDtypeStruct(
      jax_export.symbolic_shape(f"b, {size}, {size}, 3"), jnp.uint8)
  files.write(path, bytes(jax_export.export(
      jax.jit(_logits(network)), platforms=platforms)(images).serialize()))
  return _difference(load_exported(path).call, network, size)[0]


@contextlib.contextmanager
def _silent(name):
  """Leaves out a logger's warnings, here of values that have no type."""
  logger = logging.getLogger(name)
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)


def _write_onnx(network, path, size):
  import jax2onnx
  import onnxruntime

  images = jax.ShapeDtypeStruct(("b", size, size, 3), jnp.uint8)
  try:
    with primitives.portable(), _silent("onnx_ir"):
      model = jax2onnx.to_onnx(
          _logits(network), [images], input_names=["images"],
          output_names=["logits"], model_name="natjax")
    # Shapes between the layers; of some the axes are in another order than in
    # what they speak of (jax2onnx 0.17.1), and readers complain.
    del model.graph.value_info[:]
    held = model.SerializeToString()
    session = onnxruntime.InferenceSession(
        held, providers=["CPUExecutionProvider"])
    difference, largest = _difference(
        lambda batch: session.run(None, {"images": batch})[0], network, size)
  except Exception as e:  # Of others' code, which names no kinds.
    raise errors.InputError(
        "jax2onnx and ONNX Runtime cannot express this network"
        f" ({type(e).__name__}: {errors.short(str(e))}); export it as {SUFFIX}",
        "out") from e
  if not difference <= _TOLERANCE * (1 + largest):
    raise errors.InputError(
        "what jax2onnx made of this network gives other outputs than the"
        f" network (they differ by {difference:.1e}); export it as {SUFFIX}",
        "out")
  files.write(path, held)
  return difference


def load_exported(path: str | os.PathLike[str]) -> jax_export.Exported:
  """Reads what `export` wrote; its `call` takes images u8[b, S, S, 3].

  Raises:
    InputError: no such file, one that `jax.export` did not write or that is
      damaged, or no flatbuffers to read it with.
  """
  path = errors.regular(errors.path(path))
  _need(SUFFIX)
  try:
    return jax_export.deserialize(bytearray(path.read_bytes()))
  except FileNotFoundError as e:
    raise errors.InputError(f"{path}: no such file; check the path") from e
  except (OSError, *_UNREADABLE) as e:
    raise errors.InputError(
        f"{path} is damaged, or not what jax.export wrote; export the network"
        " again") from e


def _need(suffix):
  """Refuses what lacks to write or read files of a suffix."""
  wanted, extra = (("jax2onnx", "onnxruntime"), "onnx") if suffix == ONNX else (
      ("flatbuffers",), "export")
  for package in wanted:
    try:
      importlib.import_module(package)
    except ImportError as e:
      raise errors.InputError(
          f"{suffix[1:]} files take {package}, which is not installed; pip"
          f' install "natjax[{extra}]"') from e
