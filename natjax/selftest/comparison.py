"""One program, computed on a device and in a reference.

The reference is the same program on the CPU in float64 with JAX's own
derivatives (`primitives.plain_derivatives`): other compiled code, another
precision, and none of the gradients that natjax writes by hand. The error of an
array, or of several together, is ||found - wanted|| / ||wanted||, norms over
all their numbers; what is not finite has an infinite error.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from natjax.operations import primitives
from natjax.training import devices as devices_lib
from natjax.training import method as base

# Compiles in a fraction of the time, and is another program for XLA to get
# right.
_REFERENCE = {"xla_backend_optimization_level": 0}


class Precision(NamedTuple):
  """In what a program computes.

  Attributes:
    name: as rows have it.
    dtype: of images and, but for bfloat16, of parameters.
    matmul: jax's precision of products and convolutions.
  """

  name: str
  dtype: str
  matmul: str


FLOAT32 = Precision("float32", "float32", "highest")
DEFAULT = Precision("float32 default", "float32", "default")
BFLOAT16 = Precision("bfloat16", "bfloat16", "default")
FLOAT64 = Precision("float64", "float64", "highest")


class Program(NamedTuple):
  """A pure function and what it is called with.

  Attributes:
    function: returns {row: {part: pytree of arrays}}.
    args: pytrees of host arrays and typed keys; parameters are float32.
    mapped: whether the function is written against the axis of devices.
  """

  function: Callable[..., Any]
  args: tuple[Any, ...]
  mapped: bool = False


class Case(NamedTuple):
  """A program that is compared with its reference.

  Attributes:
    name: of the case; its rows have names of their own.
    make: `(dtype) -> Program`; it is called where arrays of that dtype can be
      made, and again for every precision.
    tolerances: per name of a precision, the largest error that passes; others
      are not compared.
    draws: whether random numbers are drawn, which differ in float64: the
      reference is in float32.
    alone: the same, cut into smaller ones, should one of them raise.
  """

  name: str
  make: Callable[[Any], Program]
  tolerances: Mapping[str, float]
  draws: bool = False
  alone: Sequence["Case"] = ()


class Row(NamedTuple):
  """What a check found.

  Attributes:
    name: what was checked.
    precision: of the device's program.
    error: the largest of its parts; None where there is none to be had.
    tolerance: the largest error that passes.
    seconds: that the program took, compilation included, shared by all rows of
      one program; None of what was not run.
    outcome: "passed", "FAILED" or "not run".
    note: which part the error belongs to, or what went wrong.
    traceback: of what was raised.
  """

  name: str
  precision: str
  error: float | None
  tolerance: float | None
  seconds: float | None
  outcome: str
  note: str = ""
  traceback: str = ""


class Lowered(NamedTuple):
  """A program that is traced, and not yet compiled.

  Attributes:
    compile: `() -> callable`; it may be called in any thread.
    args: what the callable takes.
    precision: in which it is called.
    device: on which.
  """

  compile: Callable[[], Callable[..., Any]]
  args: tuple[Any, ...]
  precision: Precision
  device: jax.Device


def reference(case: Case) -> Lowered:
  """What a case should give; see the module."""
  cpu = jax.devices("cpu")[0]
  if not case.draws:
    with primitives.plain_derivatives():
      return lower(case, FLOAT64, cpu, compiler_options=_REFERENCE)
  return lower(case, FLOAT32, cpu, compiler_options=_REFERENCE)


def lower(case: Case, precision: Precision, device: jax.Device,
          **options: Any) -> Lowered:
  """Traces a case for a device in a precision.

  Args:
    case: the case.
    precision: its dtype and that of its products.
    device: on which it is to run.
    **options: of `jax.jit`; where there are any, a program is mapped over an
      axis of size 1 by `vmap`, else over the device as training is.
  """
  with _within(precision, device):
    function, args, mapped = case.make(jnp.dtype(precision.dtype))
    if precision.dtype == "float64":
      args = cast(args, np.float64)
    run: Any
    if not mapped:
      args, run = jax.device_put(args, device), jax.jit(function, **options)
    else:
      args = (np.zeros(1, np.float32), *args)
      one = lambda _, *args: function(*args)
      axes = len(args) - 1
      if options:
        args = jax.device_put(args, device)
        run = jax.jit(jax.vmap(one, (0, *[None] * axes), None,
                               axis_name=base.AXIS), **options)
      else:
        run = devices_lib.spread(
            one, [device], sharded=(True, *[False] * axes))
        args = (args[0], *devices_lib.replicate(args[1:], [device]))
    return Lowered(run.lower(*args).compile, args, precision, device)


def call(lowered: Lowered, compiled: Callable[..., Any]) -> Any:
  """What a program gives, on the host."""
  with _within(lowered.precision, lowered.device):
    return jax.device_get(compiled(*lowered.args))


def compute(lowered: Lowered) -> Any:
  """Compiles a program and calls it; what it gives, on the host."""
  return call(lowered, lowered.compile())


@contextlib.contextmanager
def _within(precision, device):
  """A precision and a device for what is traced and called in a block."""
  with (jax.enable_x64(precision.dtype == "float64"),
        jax.default_matmul_precision(precision.matmul),
        jax.default_device(device)):
    yield


def cast(tree: Any, dtype: Any) -> Any:
  """Host arrays of numbers that are not whole, in another dtype."""

  def one(x):
    if devices_lib.is_key(x) or not jnp.issubdtype(x.dtype, jnp.floating):
      return x
    return np.asarray(x).astype(dtype)

  return jax.tree.map(one, tree)


def error(found: Any, wanted: Any) -> float:
  """||found - wanted|| / ||wanted||, of all arrays of two pytrees together.

  Where `wanted` is 0, ||found||. Whole numbers must be equal: of them, the
  share that is not. Infinite where anything is not finite or has another shape.
  """
  pairs = list(zip(*map(jax.tree.leaves, (found, wanted)), strict=True))
  apart = size = 0.0
  wrong = whole = 0
  for f, w in pairs:
    f, w = np.asarray(f), np.asarray(w)
    if f.shape != w.shape:
      return math.inf
    if not jnp.issubdtype(w.dtype, jnp.floating):
      wrong, whole = wrong + int(np.sum(f != w)), whole + w.size
      continue
    f, w = f.astype(np.float64), w.astype(np.float64)
    if not (np.isfinite(f).all() and np.isfinite(w).all()):
      return math.inf
    apart += float(np.sum((f - w)**2))
    size += float(np.sum(w**2))
  return math.sqrt(apart / size if size else apart) + wrong / max(whole, 1)


def rows(found: Any, wanted: Any, tolerance: float, precision: Precision,
         seconds: float) -> list[Row]:
  """The rows of a program, each with the worst of its parts."""
  result = []
  for name, parts in wanted.items():
    errors = {part: error(found[name][part], w) for part, w in parts.items()}
    part = max(errors, key=errors.__getitem__)
    result.append(judged(name, precision.name, errors[part], tolerance, seconds,
                         part))
  return result


def judged(name: str, precision: str, error: float, tolerance: float,
           seconds: float, note: str = "") -> Row:
  """A row that passes if its error is at most the tolerance."""
  passed = error <= tolerance  # Of NaN it is not.
  return Row(name, precision, error, tolerance, seconds,
             "passed" if passed else "FAILED", note)


def drawn(shapes: Any, seed: int) -> Any:
  """Host arrays of given shapes: weights as of a network that has trained.

  Kernels keep the size of signals, scales and variances lie around 1, biases
  and means around 0; what an optimizer holds begins at 0, and so do whole
  numbers.

  Args:
    shapes: a pytree of what `jax.eval_shape` gives.
    seed: of the numbers.
  """
  rng = np.random.default_rng(seed)

  def one(path, leaf):
    names = [getattr(k, "key", getattr(k, "name", "")) for k in path]
    if devices_lib.is_key(leaf):
      return jax.random.key(seed)
    if not jnp.issubdtype(leaf.dtype, jnp.floating) or any(
        "opt_state" in str(n) for n in names):
      return np.zeros(leaf.shape, leaf.dtype)
    if names[-1] == "kernel":
      x = rng.normal(size=leaf.shape) / np.sqrt(np.prod(
          leaf.shape[-4:-1] or (1,)))
    elif names[-1] in ("scale", "var"):
      x = rng.uniform(0.5, 1.5, leaf.shape)
    else:
      x = 0.3 * rng.normal(size=leaf.shape)
    return x.astype(leaf.dtype)

  return jax.tree_util.tree_map_with_path(one, shapes)


def state(init: Callable[[jax.Array], Any], seed: int = 0) -> Any:
  """As `drawn`, of what an `init` gives; nothing is compiled."""
  with jax.enable_x64(False), jax.default_device(jax.devices("cpu")[0]):
    return drawn(jax.eval_shape(init, jax.random.key(0)), seed)


def images(count: int, side: int, channels: int = 3) -> np.ndarray:
  """Images f32[B, H, W, C] that bfloat16 holds exactly, without 0 and ties.

  In every channel of an image the pixels are different odd multiples of 1/64
  around 0, up to 256 of them in an order of chance, so that no window has two
  maxima.
  """
  rng = np.random.default_rng(side)
  pixels = 2 * np.arange(side * side) - side * side + 1 - side * side % 2
  order = np.argsort(rng.random((count, channels, side * side)))
  return (pixels[order].reshape(count, channels, side, side).transpose(
      0, 2, 3, 1) / 64).astype(np.float32)


def labels(count: int, classes: int = 10) -> np.ndarray:
  """i32[B]."""
  return np.random.default_rng(count).integers(
      0, classes, count).astype(np.int32)
