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
  """Prints JSON, by escapes where the encoding lacks letters."""
  out.print_json(json.dumps(value),
                 ensure_ascii=not out.encoding.startswith("utf"))


def print_table(title, columns, rows):
  """Prints a table; columns of numbers begin with ">".

  Architectures that would take more than half of a line's width are numbered in
  the table, and stand below it, a line each.
  """
  below = []
  if "architecture" in columns:
    at = columns.index("architecture")
    if max((len(row[at]) for row in rows), default=0) > out.width // 2:
      below = [f"{n}: {row[at]}" for n, row in enumerate(rows, 1)]
      rows = [[*row[:at], str(n), *row[at + 1:]]
              for n, row in enumerate(rows, 1)]
      columns = [*columns[:at], ">#", *columns[at + 1:]]
  table = rich_table.Table(title=title)
  for column in columns:
    table.add_column(column.lstrip(">"), overflow="fold",
                     justify="right" if column.startswith(">") else "left")
  for row in rows:
    table.add_row(*row)
  out.print(table)
  for line in below:
    out.print(line, soft_wrap=True, highlight=False, markup=False)
