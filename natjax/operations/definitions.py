"""Whether two operations are defined alike, as by a notebook's cell run twice.

What a cell makes anew is never the same object; here functions are compared by
their code, defaults and closures, and classes by what stands in them.
"""

import dataclasses
import functools
import types
from typing import Any

# Of a function's code, all but where it stands.
_CODE = ("co_code", "co_names", "co_varnames", "co_freevars", "co_cellvars",
         "co_flags", "co_argcount", "co_posonlyargcount", "co_kwonlyargcount",
         "co_consts")
_FIELD = ("name", "type", "default", "default_factory", "init", "repr", "hash",
          "compare", "kw_only", "metadata")
# Of classes, what Python keeps there and no one wrote.
_OWN = ("__dict__", "__weakref__", "__doc__", "__firstlineno__", "_abc_impl",
        # These show in the code.
        "__dataclass_params__", "__static_attributes__")


def alike(first: Any, second: Any) -> bool:
  """Whether two values are of one definition.

  Functions that use other functions by their names are alike where these names
  are of one module, whatever stands there.

  Example:
    >>> make = lambda n: lambda x: x + n
    >>> alike(make(1), make(1)), alike(make(1), make(2))
    (True, False)
  """
  return _alike(first, second, set())


def _alike(a, b, seen):
  if a is b or (id(a), id(b)) in seen:
    return True
  if type(a) is not type(b):
    return False
  seen.add((id(a), id(b)))
  if (parts := _parts(a)) is not None:
    others = _parts(b)
    return len(parts) == len(others) and all(
        _alike(part, other, seen)
        for part, other in zip(parts, others, strict=True))
  try:
    return bool(a == b)
  except Exception:  # Of arrays, or whatever a user's values do.
    return False


def _parts(value):
  """What a value is made of; None of what is compared as a whole."""
  if isinstance(value, types.FunctionType):
    return [id(value.__globals__), value.__qualname__, value.__code__,
            value.__defaults__, value.__kwdefaults__, value.__closure__,
            value.__dict__]
  if isinstance(value, types.CodeType):
    return [getattr(value, name) for name in _CODE]
  if isinstance(value, types.CellType):
    try:
      return [value.cell_contents]
    except ValueError:  # Not yet filled.
      return []
  if isinstance(value, type):
    return [value.__module__, value.__qualname__, value.__bases__, {
        name: part for name, part in vars(value).items() if name not in _OWN}]
  if isinstance(value, functools.partial):
    return [value.func, value.args, value.keywords]
  if isinstance(value, staticmethod | classmethod):
    return [value.__func__]
  if isinstance(value, property):
    return [value.fget, value.fset, value.fdel]
  if isinstance(value, dataclasses.Field):
    return [getattr(value, name) for name in _FIELD]
  if dataclasses.is_dataclass(value):
    return [getattr(value, field.name) for field in dataclasses.fields(value)]
  if isinstance(value, dict | types.MappingProxyType):
    return [*value.keys(), *value.values()]
  if isinstance(value, list | tuple):
    return [*value]
  plain = type(value).__eq__ is object.__eq__ and hasattr(value, "__dict__")
  return [vars(value)] if plain else None
