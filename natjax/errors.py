"""The exceptions of the library, all that a caller may want to catch."""


class InputError(ValueError):
  """Refused input: one line says what was given, what is allowed, what to do.

  The command line prints the line and exits with 2. Every check that can fail
  because of what a user passed raises this, before anything is compiled.

  Attributes:
    field: name of the setting that is to be mended, as the records of settings
      have it, or None; the command line knows which flag that is.
  """

  def __init__(self, message: str, field: str | None = None):
    super().__init__(message)
    self.field = field


class NotMet(Exception):
  """No transformation that was found keeps to the budget."""


class Interrupted(Exception):
  """The run was asked to stop; its checkpoint is written."""


class NotFinite(Exception):
  """A step's metrics were not finite; the last good checkpoint is kept."""


class PeerLost(Exception):
  """Another process of this run is gone; says what was seen of it."""
