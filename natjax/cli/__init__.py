"""The command line. The only package that prints or exits.

Exit codes: 0 done, 1 a step was not finite, a self-test found a fault, or a
file could not be written (the disk is full), 2 the input was refused, 3 no
transformation keeps to the budget, 4 another process of the run is gone (it
resumes when all are started again), 70 a fault of the library, 130 interrupted
by Ctrl-C and 143 by SIGTERM (the run is saved and resumes by the same command).

`parser` reads the arguments, `inputs` what they name; `jobs` are the commands
that run long, `processes` lets several processes run one of them, `cost` and
`inspection` are those that do not run long, `benchmark` looks into tables of
benchmarks, `selftest` the library on a machine; `output` prints, on `console`.
What other packages add (`pipeline.plugins`) is read first. Commands that
compute set the compiler up before jax looks for devices.

A command imports what it needs when it is known, within `main`, so that Ctrl-C
ends it in order before as well.
"""

from collections.abc import Sequence
from importlib import metadata
import sys


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit code."""
  try:
    from natjax.cli import parser, processes
  except KeyboardInterrupt:
    sys.stderr.write("natjax: interrupted\n")
    return 130

  def run():
    if _plugged():
      from natjax.pipeline import plugins

      plugins.load()
    args = parser.parse(argv)
    with args.naming_flags():
      return args.run(args)

  return processes.exit_code(run)


def _plugged():
  """Whether an installed package adds anything, or one's file is damaged."""
  try:
    return any(group.startswith("natjax.")
               for group in metadata.entry_points().groups)
  except Exception:
    return True  # `plugins.load` says whose.
