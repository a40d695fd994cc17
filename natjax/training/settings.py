"""Checks that the settings of all methods share; each raises InputError."""

import dataclasses
import math
from typing import Any

from natjax import errors


def one_of(config: Any, **allowed: tuple[str, ...]) -> None:
  """Refuses values of fields that are not among those allowed."""
  for name, values in allowed.items():
    if getattr(config, name) not in values:
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} is '{getattr(config, name)}'; choose one of"
          f" {', '.join(values)}")


def at_least_one(config: Any, *names: str) -> None:
  """Refuses counts below one."""
  _at_least(1, config, names, "must be at least 1; pass a larger --{}")


def not_negative(config: Any, *names: str) -> None:
  """Refuses values below zero."""
  _at_least(0, config, names,
            "must not be negative; pass 0 or more with --{}")


def _at_least(least, config, names, advice):
  for name in names:
    if getattr(config, name) < least:
      option = name.replace("_", "-")
      raise errors.InputError(f"{option} is {getattr(config, name)} and"
                              f" {advice.format(option)}")


def other_samples(config: Any) -> None:
  """Refuses a leave-one-out baseline of a single sample."""
  if config.baseline == "leave_one_out" and config.samples == 1:
    raise errors.InputError(
        "baseline 'leave_one_out' needs other samples and samples is 1; pass"
        " --samples 2 or more, or another --baseline")


def finite(config: Any) -> None:
  """Refuses a float that is infinite or no number (InputError)."""
  for name, value in dataclasses.asdict(config).items():
    if isinstance(value, float) and not math.isfinite(value):
      option = name.replace("_", "-")
      raise errors.InputError(
          f"{option} is {value}; pass a finite number with --{option}")
