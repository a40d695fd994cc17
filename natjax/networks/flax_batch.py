"""Whether the images of a batch matter for each other in a flax module.

A module is read from its program for one image, so one that takes a mean over
its batch, or counts its images, would come out as another function. Its program
for many images is looked through: where every step surely leaves them apart,
nothing is computed; else two images decide.
"""

from collections.abc import Callable
import functools
from typing import Any

import jax
from jax.extend import core
import numpy as np

from natjax import errors

# A prime that no other dimension and no number of a module is a multiple of.
_MANY = 100_003
_NESTED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat",
           "remat2", "custom_jvp_call", "custom_vjp_call", "cond")
_ORDERED = ("rev", "sort", "fft", "cum", "dynamic_", "scatter", "gather")
_MOVED = ("broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose")


def apart(call: Callable[[Any, jax.Array], jax.Array], variables: Any,
          example: Any) -> bool:
  """Whether a module surely treats every image by itself.

  Args:
    call: `(variables, images) -> logits`, which traces for one image.
    variables: of the module, or their shapes.
    example: images [B, S, S, 3], or their shape.
  """
  many = jax.ShapeDtypeStruct((_MANY, *example.shape[1:]), example.dtype)
  try:
    traced = jax.make_jaxpr(call)(variables, many)
  except Exception:  # Whatever a user's module raises of so many images.
    return False
  return _apart(traced.jaxpr)


def differ(call: Callable[[Any, jax.Array], jax.Array], variables: Any,
           example: Any) -> bool:
  """Whether two images of noise have other logits together than alone.

  Args:
    call: see `apart`.
    variables: of the module, arrays.
    example: see `apart`.

  Raises:
    InputError: it does not run on two images.
  """
  noise = np.random.default_rng(0).normal(
      np.array([0, 1]).reshape(2, 1, 1, 1),
      np.array([1, 3]).reshape(2, 1, 1, 1), (2, *example.shape[1:]))
  images = jax.numpy.asarray(noise, example.dtype)
  run = jax.jit(functools.partial(call, variables))
  try:
    together = np.asarray(run(images), np.float32)
  except Exception as e:  # Whatever a user's module raises of two.
    raise errors.InputError(
        f"the module does not run on two images ({errors.cause(e)[:200]}); let"
        " it take a batch of any number", "module") from e
  alone = np.concatenate([
      np.asarray(run(image[None]), np.float32) for image in images])
  few = any(leaf.dtype.itemsize < 4 for leaf in jax.tree.leaves(variables))
  largest = np.abs(alone[np.isfinite(alone)]).max(initial=0)
  return together.shape != alone.shape or not np.allclose(
      together, alone, 0, 1e-6 + (0.1 if few else 0.01) * largest,
      equal_nan=True)


def _axes(v):
  """The dimensions that number images, maybe with others."""
  return {i for i, n in enumerate(np.shape(v.val) if isinstance(
      v, core.Literal) else v.aval.shape) if n and n % _MANY == 0}


def _apart(jaxpr):
  return all(_step(e) for e in jaxpr.eqns)


def _step(e):
  """Whether an equation leaves images apart."""
  name, params = e.primitive.name, e.params
  if any(isinstance(v, core.Literal) and np.size(v.val) == 1 and v.val and (
      float(abs(v.val)) % _MANY == 0) for v in e.invars):
    return False  # A number of images.
  given = [_axes(v) for v in e.invars]
  if not any(given):
    return name == "broadcast_in_dim" or not any(map(_axes, e.outvars))
  inner = [getattr(p, "jaxpr", p) for p in jax.tree.leaves(
      [*params.values()], is_leaf=_is_jaxpr) if _is_jaxpr(p)]
  first = given[0]
  if inner:
    return name in _NESTED and all(map(_apart, inner))
  if name in _MOVED:
    return True
  if name in ("argmax", "argmin") or (
      name.startswith("reduce_") and "axes" in params):
    return not first & {*params["axes"]}
  if name.startswith("reduce_window"):
    return all(params["window_dimensions"][i] == 1 for i in first)
  if name == "conv_general_dilated":
    numbers = params["dimension_numbers"]
    return first <= {numbers.lhs_spec[0]} and not given[1]
  if name == "dot_general":
    contracted, batched = params["dimension_numbers"]
    return not any(axes & {*dims} for axes, dims in zip(
        given, contracted, strict=True)) and (not all(given) or all(
            axes <= {*dims} for axes, dims in zip(given, batched, strict=True)))
  if name == "slice":
    shape, strides = e.outvars[0].aval.shape, params["strides"]
    return all(shape[i] == e.invars[0].aval.shape[i] and (
        strides is None or strides[i] == 1) for i in first)
  if name == "pad":
    return all(not any(params["padding_config"][i]) for i in first)
  if name in ("concatenate", "split"):
    at = params["dimension" if name == "concatenate" else "axis"]
    return not any(at in axes for axes in given)
  shapes = [v.aval.shape for v in e.invars if (
      not isinstance(v, core.Literal) and v.aval.shape)]
  result = tuple(map(max, zip(*shapes, strict=False)))
  return not name.startswith(_ORDERED) and all(  # Element by element.
      len(shape) == len(result) and all(
          n in (1, most) for n, most in zip(shape, result, strict=True))
      for shape in shapes) and all(v.aval.shape == result for v in e.outvars)


def _is_jaxpr(p):
  return isinstance(p, core.Jaxpr | core.ClosedJaxpr)
