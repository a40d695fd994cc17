"""The command line. The only package that prints or exits.

Exit codes: 0 done, 1 a step was not finite, a self-test found a fault, or a
file could not be written (the disk is full), 2 the input was refused, 3 no
transformation keeps to the budget, 4 another process of the run is gone (it
resumes when all are started again), 70 a fault of the library, 130 interrupted
by Ctrl-C, 143 by SIGTERM and 129 by SIGHUP (the run is saved and resumes by the
same command).

`parser` reads the arguments, `inputs` what they name; `jobs` are the commands
that run long, `processes` lets several processes run one of them. `cost` and
`inspection` are those that only count or show; `trained` looks at what runs
trained, `benchmark` into tables of benchmarks, `selftest` at the library on a
machine; `output` prints, on `console`. What other packages add
(`pipeline.plugins`) is read first. Commands that compute set the compiler up
before jax looks for devices.

A command imports what it needs when it is known, within `main`. Those that only
count or show an architecture import neither jax nor flax.
"""

from collections.abc import Sequence
import contextlib
import gc
import io
import os
import signal
import sys

# Objects more than before, at which Python looks for cycles; 700, 10, 10 are
# its own. Tracing makes millions of objects, and next to no cycles.
_COLLECT = (50_000, 20, 10)


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit code.

  Args:
    argv: the command; None is that of this process, which Ctrl-C ends at once
      until the command begins: there is nothing to save, and while extensions
      are loaded and classes made, a KeyboardInterrupt becomes another error or
      none.
  """
  hear = signal.getsignal(signal.SIGINT)
  alone = argv is None and hear is signal.default_int_handler
  if argv is None:
    _print_everything()
  if alone:
    gc.set_threshold(*_COLLECT)
    signal.signal(signal.SIGINT, _end)

  from natjax.cli import parser, processes

  def run():
    if _plugged():
      from natjax.pipeline import plugins

      plugins.load()
    args = parser.parse(argv)
    if alone:
      signal.signal(signal.SIGINT, hear)
    with args.naming_flags():
      if getattr(args, "module", None) is not None:
        from natjax.cli import inputs

        inputs.know(args.module)
      return args.run(args)

  code = processes.exit_code(run, _leave if argv is None else None)
  if alone:  # What libraries do at the end of a process need not end.
    signal.signal(signal.SIGINT, lambda number, frame: _leave(code))
  return code


def _print_everything():
  """Prints letters that the terminal's encoding has not as question marks.

  And nowhere what goes to a stream that was closed before the start. Where
  Python is told not to buffer, lines are: it loses without a word what a full
  disk did not take of a write.
  """
  for name in ("stdout", "stderr"):
    if getattr(sys, name) is None:
      setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
  if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
    sys.stdout = open(sys.stdout.fileno(), "w", 1,  # noqa: SIM115
                      sys.stdout.encoding, closefd=False)
  for stream in (sys.stdout, sys.stderr):
    if hasattr(stream, "reconfigure"):  # What stands in for one may not have.
      stream.reconfigure(errors="replace")


def _end(number, frame):
  os.write(2, b"natjax: interrupted\n")
  os._exit(130)


def _leave(code):
  for stream in (sys.stdout, sys.stderr):
    with contextlib.suppress(Exception):  # It may be at just that, or closed.
      stream.flush()
  os._exit(code)


def _plugged():
  """Whether an installed package adds anything, or one's file is damaged."""
  from importlib import metadata

  try:
    return any(group.startswith("natjax.")
               for group in metadata.entry_points().groups)
  except Exception:
    return True  # `plugins.load` says whose.
