"""The command line. The only package that prints or exits.

Exit codes: 0 done, 1 a step was not finite, 2 the input was refused, 3 no
transformation keeps to the budget, 130 interrupted (the run is saved and
resumes by the same command).

`parser` reads the arguments, `inputs` what they name; `jobs` are the commands
that run long, `inspection` those that do not, `benchmark` judges a policy by a
table; `output` prints. jax is imported by the commands that need it, after its
compiler is set up.
"""

from collections.abc import Sequence
import os
import sys

from natjax import budget
from natjax import errors
from natjax.cli import parser


def main(argv: Sequence[str] | None = None) -> int:
  """Runs a command; returns the exit code."""
  try:
    args = parser.make_parser().parse_args(argv)
    return args.run(args)
  except errors.InputError as e:
    sys.stderr.write(f"natjax: {' '.join(str(e).splitlines())}\n")
    return 2
  except budget.NotMet as e:
    sys.stderr.write(f"natjax: {e}\n")
    return 3
  except KeyboardInterrupt:
    return 130
  except BrokenPipeError:  # The reader of our output left.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
