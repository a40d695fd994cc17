"""Where the command line prints, and how."""

import json
from typing import Any

from rich import console as rich_console
from rich import table as rich_table

# Paths and names are printed as they are, brackets and colons too.
_PLAIN: dict[str, Any] = {"highlight": False, "soft_wrap": True,
                          "markup": False, "emoji": False}
out = rich_console.Console(**_PLAIN)
err = rich_console.Console(stderr=True, **_PLAIN)


def print_json(value):
  """Prints JSON."""
  out.print_json(json.dumps(value))


def print_table(title, columns, rows):
  """Prints a table; columns of numbers begin with ">"."""
  table = rich_table.Table(title=title)
  for column in columns:
    table.add_column(column.lstrip(">"), overflow="fold",
                     justify="right" if column.startswith(">") else "left")
  for row in rows:
    table.add_row(*row)
  out.print(table)
