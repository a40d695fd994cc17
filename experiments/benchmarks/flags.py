"""The command line of these scripts."""

import argparse
from typing import NoReturn


class Parser(argparse.ArgumentParser):
  """A parser whose refusals are one line, with exit code 2."""

  def error(self, message: str) -> NoReturn:
    self.exit(2, f"{self.prog}: {message}; see `{self.prog} --help`\n")
