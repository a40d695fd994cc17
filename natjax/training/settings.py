"""Checks that settings share; each raises InputError, which names the field."""

from collections.abc import Collection, Mapping
import dataclasses
import math
import numbers
import typing
from typing import Any, TypeVar

import numpy as np

from natjax import errors

Settings = TypeVar("Settings")
# No machine takes as many steps, or has room for as many channels.
_MOST = 10**6
# Other real numbers, such as fractions, are none of JSON's.
_TAKEN: dict[type, Any] = {
    int: numbers.Integral, bool: bool, str: str,
    float: (float, int, np.floating, np.integer)}


def later(default: Any) -> Any:
  """A field that runs may not know that were made before there was one."""
  return dataclasses.field(default=default, metadata={"later": True})


def describe(config: Any) -> dict[str, Any]:
  """The fields of settings as `config.json` holds them.

  What came `later` stands there only where it is not the default, so that runs
  made before can be resumed.
  """
  return {f.name: getattr(config, f.name) for f in dataclasses.fields(config)
          if not f.metadata.get("later") or getattr(config, f.name) != f.default
          }


def word(name: str) -> str:
  """How messages write a field's name."""
  return name.replace("_", "-")


def refuse(config: Any, name: str, what: str) -> None:
  """Refuses the value of a field: "epochs is 0 and" `what`."""
  raise errors.InputError(f"{word(name)} is {getattr(config, name)} and {what}",
                          name)


def one_of(config: Any, **allowed: Collection[Any]) -> None:
  """Refuses values of fields that are not among those allowed."""
  for name, values in allowed.items():
    if (value := getattr(config, name)) not in values:
      raise errors.InputError(f"{word(name)} is {value!r}; choose one of"
                              f" {', '.join(map(str, values))}", name)


def switches(**values: Any) -> None:
  """Refuses what is neither True nor False, which a text is not."""
  for name, value in values.items():
    if not isinstance(value, bool | np.bool_):
      raise errors.InputError(
          f"{name} is {errors.short(value)} and must be True or False; give one"
          " of these", name)


def at_least_one(config: Any, *names: str) -> None:
  """Refuses counts below one."""
  for name in names:
    if getattr(config, name) < 1:
      refuse(config, name, "must be at least 1; give a larger number")


def above_zero(config: Any, *names: str) -> None:
  """Refuses factors that are not above zero."""
  for name in names:
    if not 0 < getattr(config, name) < math.inf:
      refuse(config, name, "must be above 0; give 1")


def not_negative(config: Any, *names: str) -> None:
  """Refuses values below zero."""
  for name in names:
    if getattr(config, name) < 0:
      refuse(config, name, "must not be negative; give 0 or more")


def below_one_for_adam(config: Any, optimizer: str, momentum: str) -> None:
  """Refuses a momentum that Adam cannot take for its b1."""
  if getattr(config, optimizer) == "adam" and getattr(config, momentum) >= 1:
    refuse(config, momentum, "must be below 1 for adam; give 0.9")


def other_samples(config: Any) -> None:
  """Refuses a leave-one-out baseline of a single sample."""
  if config.baseline == "leave_one_out" and config.samples == 1:
    raise errors.InputError(
        "baseline 'leave_one_out' needs other samples and samples is 1; give 2"
        " or more, or another baseline", "samples")


def instead(value: Any, kind: type) -> str:
  """Words for what to give in place of a value that is no `kind`."""
  if kind is str and isinstance(value, numbers.Real) and not isinstance(
      value, bool):
    return f"give it as a text, '{value}'"
  return "give another value"


def plain(config: Any) -> None:
  """Refuses what no settings can be.

  Raises:
    InputError: no dataclass, a value of another type than its field's, one that
      is not finite, or a whole number above a million.
  """
  if not dataclasses.is_dataclass(config) or isinstance(config, type):
    raise errors.InputError(f"settings are {errors.short(config)} and must be"
                            " an object of their class; make one")
  may_be_none = usual(type(config))
  for name, kind in types(type(config)).items():
    value = getattr(config, name)
    if value is None and name in may_be_none:
      continue
    if not isinstance(value, _TAKEN[kind]) or (
        isinstance(value, bool) and kind is not bool):
      raise errors.InputError(
          f"{word(name)} is {errors.short(value)} and must be of type"
          f" {kind.__name__}; {instead(value, kind)}", name)
    if isinstance(value, numbers.Integral) and abs(int(value)) > _MOST:
      raise errors.InputError(
          f"{word(name)} is {errors.short(value)}, and whole numbers are at"
          f" most {_MOST}; give a smaller one", name)
    if isinstance(value, numbers.Real) and not math.isfinite(value):
      raise errors.InputError(
          f"{word(name)} is {value}; give a finite number", name)


def pythonic(config: Settings) -> Settings:
  """The settings with Python's numbers in place of NumPy's.

  Those may have few bits, in which what is computed of them overflows.

  Example:
    >>> Some = dataclasses.make_dataclass("Some", [("epochs", int)])
    >>> pythonic(Some(np.uint8(200)))
    Some(epochs=200)
  """
  if not dataclasses.is_dataclass(config) or isinstance(config, type):
    return config  # It is refused by others.
  found = {f.name: value.item() for f in dataclasses.fields(config)
           if isinstance(value := getattr(config, f.name), np.number)}
  return dataclasses.replace(config, **found) if found else config


def resolve(config: Any, full: type[Settings], fixed: Mapping[str, Any],
            kind: str) -> Settings:
  """Fills in what is None, the architecture's usual.

  Args:
    config: the settings.
    full: a subclass of their class, without None; its defaults are usual.
    fixed: of fields that do not apply to the architecture, the value that says
      so.
    kind: the architecture's, for the error.

  Raises:
    InputError: another value of a field that does not apply.
  """
  for name, value in fixed.items():
    if getattr(config, name) not in (None, value):
      refuse(config, name, f"does not apply to {kind}; leave it out")
  may_be_none = usual(full)  # Of others None is refused as of a wrong type.
  return full(**{name: value for name, value in {
      **vars(config), **fixed}.items()
      if value is not None or name not in may_be_none})


def types(config: type) -> dict[str, Any]:
  """Per field of settings its type, without None.

  Example:
    >>> Some = dataclasses.make_dataclass("Some", [("cells", int | None, None)])
    >>> types(Some)
    {'cells': <class 'int'>}
  """
  hints = typing.get_type_hints(config)
  return {f.name: ([t for t in typing.get_args(hints[f.name])
                    if t is not type(None)] or [hints[f.name]])[0]
          for f in dataclasses.fields(config)}


def usual(config: type) -> set[str]:
  """The fields of settings that may be None, the architecture's usual."""
  return {f.name for kind in config.__mro__ if dataclasses.is_dataclass(kind)
          for f in dataclasses.fields(kind) if f.default is None}
