"""`python -m natjax`, which is what `natjax` is on the command line."""

import sys

from natjax import cli

if __name__ == "__main__":
  sys.exit(cli.main())
