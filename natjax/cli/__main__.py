"""`python -m natjax.cli`."""

import sys

from natjax import cli

if __name__ == "__main__":
  sys.exit(cli.main())
