"""Traces modules of flax's nnx, which hold their weights themselves.

nnx has no interceptors. What is traced is a copy of the module, whose parts are
given classes that tell of their calls.
"""

from collections.abc import Callable, Mapping
import contextlib
import contextvars
import functools
from typing import Any

from flax import nnx
import jax
import jax.numpy as jnp

from natjax.networks import flax_program
from natjax.networks.flax_program import Layer

LAYERS = {nnx.Conv: "conv", nnx.Linear: "dense", nnx.BatchNorm: "norm"}
# `(module, call, args, kwargs) -> result`, who hears of calls.
_listener: contextvars.ContextVar[Callable[..., Any]] = (
    contextvars.ContextVar("listener"))


def call(module: nnx.Module, options: Mapping[str, Any]
         ) -> tuple[Callable[[Any, jax.Array], Any], Any]:
  """A module as a function, in evaluation form, and its variables.

  Args:
    module: which.
    options: of its call; see `trace`.

  Returns:
    `(variables, images) -> logits`, and the variables, a state of nnx.
  """
  options = flax_program.calling(module, options)
  graph, state = nnx.split(module)

  def apply(state, images):
    copy = nnx.merge(graph, state)
    copy.eval()
    return copy(images, **options)

  return apply, state


def trace(module: nnx.Module, example: Any,
          options: Mapping[str, Any]) -> flax_program.Program:
  """Traces a module, in evaluation form; it is left as it is.

  Args:
    module: which.
    example: images f32[B, S, S, 3], or their shape.
    options: of its call; what turns a training off is added where the call
      takes it.

  Raises:
    InputError: as `flax_program.trace`.
  """
  options = flax_program.calling(module, options)
  graph, weights, *rest = nnx.split(module, _is_weight, ...)
  flat = [*nnx.to_flat_state(weights)]
  layers: flax_program.Layers = {}

  def apply(arrays, image):
    copy = nnx.merge(graph, nnx.from_flat_state(
        (path, variable.replace(array))
        for (path, variable), array in zip(flat, arrays, strict=True)), *rest)
    copy.eval()
    paths = {}
    for path, part in nnx.iter_modules(copy):
      paths[id(part)] = tuple(map(str, path)), type(part)
      if callable(part):
        object.__setattr__(part, "__class__", _telling(type(part)))

    def hear(part, call, args, kwargs):
      path, kind = paths[id(part)]
      layer = Layer.of(LAYERS[kind], part) if kind in LAYERS else None
      given = [*args[1:2], kwargs.get("use_running_average")]
      by_batch = kind is nnx.BatchNorm and not next(
          (way for way in given if way is not None), part.use_running_average)
      return flax_program.heard(
          layers, path, layer, call, args, kwargs, by_batch=by_batch)

    with _heard_by(hear):
      return copy(image, **options)

  return flax_program.read(type(module).__name__, apply, [
      (("params" if issubclass(variable.type, nnx.Param) else "batch_stats",
        *map(str, path)), variable[...]) for path, variable in flat], layers,
                           example)


def _is_weight(path: Any, variable: Any) -> bool:
  """Whether a variable is learnt or a statistic, and no state of draws."""
  kind = getattr(variable, "type", type(variable))
  dtype = getattr(variable, "dtype", None)  # A plain number has none.
  return dtype is not None and issubclass(kind, nnx.Variable) and (
      not issubclass(kind, nnx.RngState)) and jnp.issubdtype(dtype, jnp.inexact)


@functools.cache
def _telling(kind: type) -> type:
  """A subclass that tells the listener of its calls."""

  def call(self, *args, **kwargs):
    return _listener.get()(
        self, functools.partial(kind.__call__, self), args, kwargs)

  return type(kind.__name__, (kind,), {"__call__": call})


@contextlib.contextmanager
def _heard_by(listener):
  token = _listener.set(listener)
  try:
    yield
  finally:
    _listener.reset(token)
