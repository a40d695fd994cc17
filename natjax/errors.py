"""The one exception that tells a user what to mend."""


class InputError(ValueError):
  """Refused input: one line says what was given, what is allowed, what to do.

  The command line prints the line and exits with 2. Every check that can fail
  because of what a user passed raises this, before anything is compiled.
  """


class PeerLost(Exception):
  """Another process of this run is gone; says what was seen of it."""
