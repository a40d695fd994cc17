"""The exceptions of the library, all that a caller may want to catch."""

from collections.abc import Collection, Iterator
import contextlib
from typing import Any


class InputError(ValueError):
  """Refused input: one line says what was given, what is allowed, what to do.

  The command line prints the line, names the flag of the field, and exits with
  2. Every check that can fail because of what a user passed raises this, before
  anything is compiled.

  Attributes:
    field: the setting at fault, as "seed", or, of the settings of a job, with
      the name of their record, as "train.epochs"; None where there is none.
  """

  def __init__(self, message: str, field: str | None = None):
    super().__init__(message)
    self.field = field


@contextlib.contextmanager
def within(record: str) -> Iterator[None]:
  """Adds to the fields of refusals which settings record they belong to."""
  try:
    yield
  except InputError as e:
    if e.field is not None and "." not in e.field:
      e.field = f"{record}.{e.field}"
    raise


def known(what: str, value: Any, among: Collection[str]) -> None:
  """Refuses a value of the setting `what` that is not among those known."""
  if value not in among:
    raise InputError(f"{what} '{value}' is unknown; choose one of"
                     f" {', '.join(among)}", what)


class NotMet(Exception):
  """No transformation that was found keeps to the budget."""


class Interrupted(Exception):
  """The run was asked to stop; its checkpoint is written."""


class NotFinite(Exception):
  """A step's metrics, or what its update left, were not finite.

  The last good checkpoint is kept.
  """


class PeerLost(Exception):
  """Another process of this run is gone; says what was seen of it."""
