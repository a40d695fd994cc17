"""The command `natjax`, outside of the package, whose import takes seconds.

Who presses Ctrl-C in these gets no traceback either.
"""

import os
import signal


def main() -> int:
  """Imports the library and runs the command; returns the exit code."""
  old = signal.signal(signal.SIGINT, lambda number, frame: os._exit(130))
  from natjax import cli

  signal.signal(signal.SIGINT, old)
  return cli.main()
